"""Functions that end in unusual ways, importable in a child process."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable

from jobify.exceptions import NoResultError


def leave() -> None:
    sys.exit(1)


def leave_well() -> None:
    sys.exit(0)


def interrupt() -> None:
    raise KeyboardInterrupt


def close() -> None:
    raise GeneratorExit


def stray_cancel() -> None:
    raise asyncio.CancelledError


def group() -> None:
    raise ExceptionGroup("two went wrong", [ConnectionError("away"), TimeoutError("late")])


def nested_group() -> None:
    raise ExceptionGroup("outer", [ExceptionGroup("inner", [ConnectionError("away")]), ConnectionError("again")])


def group_with_exit() -> None:
    raise BaseExceptionGroup("one leaves", [ConnectionError("away"), SystemExit(3)])


def left_over() -> None:
    try:
        raise ExceptionGroup("two went wrong", [ConnectionError("away"), ValueError("wrong")])
    except* ConnectionError:
        pass


def nothing_to_give() -> None:
    raise ExceptionGroup("outer", [ConnectionError("away"), ExceptionGroup("inner", [NoResultError("none")])])


ENDINGS: list[Callable[[], None]] = [
    leave,
    leave_well,
    interrupt,
    close,
    stray_cancel,
    group,
    nested_group,
    group_with_exit,
    left_over,
    nothing_to_give,
]
