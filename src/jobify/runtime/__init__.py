"""The Python process and the machine: logs, forks, signals, CPUs, source code, error texts."""
