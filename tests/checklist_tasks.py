"""Tasks that a child process imports by name."""

from __future__ import annotations

import os


def process_id() -> int:
    return os.getpid()


def report() -> str:
    return "done"
