"""The worker process and its supervisor: signals, exit codes, restarts."""
