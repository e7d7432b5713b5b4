"""Tasks that child processes and threads can find by name."""

from __future__ import annotations

import threading
import time
from pathlib import Path


def thread_name() -> str:
    return threading.current_thread().name


def square(number: int) -> int:
    return number * number


def sleep(seconds: float) -> None:
    time.sleep(seconds)


def announce_and_sleep(path: str) -> None:
    Path(path).touch()
    time.sleep(3600)
