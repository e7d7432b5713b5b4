"""Tasks that log, importable in a child process. This module configures logging when it is imported, as many do."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

log = logging.getLogger("shop.tasks")
private = logging.getLogger("shop.private")

if os.environ.get("LOGGING_TASKS_FILE"):
    logging.basicConfig(filename=os.environ["LOGGING_TASKS_FILE"], level=logging.DEBUG, force=True)
    private.addHandler(logging.StreamHandler())
    private.propagate = False


class Custom:
    def __str__(self) -> str:
        return "a custom text"

    def __reduce__(self) -> Any:
        raise RuntimeError("I stay here")


class Wordless(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


def say(text: str, level: int = logging.INFO, logger: str = "shop.tasks") -> int:
    logging.getLogger(logger).log(level, "says %s", text)
    return os.getpid()


def say_much(count: int, size: int = 0) -> None:
    for number in range(count):
        log.info("line %d%s", number, "x" * size)


def say_and_die(count: int) -> None:
    say_much(count)
    os.kill(os.getpid(), signal.SIGKILL)


def say_and_crash() -> None:
    log.info("calls the library")
    ctypes.string_at(0)


def say_all_kinds() -> None:
    log.info("plain %s %d", "text", 7, extra={"order": {"id": 3, "lines": [1, 2]}, "task": "of the user"})
    log.info("object %s", Custom(), extra={"thing": Custom()})
    log.info("large %s", "x" * 500_000, extra={"huge": "y" * 500_000})
    try:
        os.environ["MISSING_FROM_HERE"]
    except KeyError:
        log.exception("cannot find it")
    try:
        raise Wordless
    except Wordless:
        log.exception("cannot say it")
    log.info("with a stack", stack_info=True)
    log.log(25, "a level with a name in the parent only")


def say_from_threads(pool: list[ThreadPoolExecutor] = []) -> None:  # noqa: B006 - it stays, like a global
    thread = threading.Thread(target=log.info, args=("from a thread",))
    thread.start()
    thread.join()
    if not pool:
        pool.append(ThreadPoolExecutor(1))
    pool[0].submit(log.info, "from a pool").result()


def say_from_fork() -> None:
    pid = os.fork()
    if not pid:
        log.info("from a fork")
        os._exit(0)
    os.waitpid(pid, 0)


def say_from_handler() -> None:
    """Log in a signal handler, again and again, in the middle of logging."""
    pause, is_over = 0.0002, False

    def say_and_ring_again(*_: object) -> None:
        log.info("from a signal handler")
        if not is_over:  # again when this has ended, so that handlers do not pile up on a busy machine
            signal.setitimer(signal.ITIMER_REAL, pause)

    signal.signal(signal.SIGALRM, say_and_ring_again)
    signal.setitimer(signal.ITIMER_REAL, pause)
    try:
        say_much(2_000)
    finally:
        is_over = True
        signal.setitimer(signal.ITIMER_REAL, 0)


def warn() -> None:
    warnings.warn("an old function", UserWarning, stacklevel=1)


def say_with_wrong_arguments() -> str:
    log.info("one %s two %s", "only")
    return "done"


def say_with_own_handler(path: str) -> None:
    handler = logging.FileHandler(path)
    log.addHandler(handler)
    try:
        log.info("to a file as well")
    finally:
        log.removeHandler(handler)
        handler.close()


def reconfigure(path: str) -> None:
    logging.basicConfig(filename=path, level=logging.DEBUG, force=True)


def handlers() -> list[str]:
    loggers = [logging.getLogger(), private]
    return [type(handler).__name__ for logger in loggers for handler in logger.handlers]


def say_until(path: str) -> int:
    """Log until the file is there; how many lines."""
    count = 0
    while not Path(path).exists():
        log.info("line %d", count)
        count += 1
    return count


def modules() -> bool:
    return "logging" in sys.modules
