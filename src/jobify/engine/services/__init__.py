"""Background services: recovery, maintenance, commands and changes of other processes."""
