"""Large values are encoded and decoded off the event loop.

A value of 200,000 rows takes a second or more to be encoded. In a thread of its own it shares the interpreter with the
loop, which goes on a few milliseconds at a time; :mod:`jobify.serializers.pieces` sees to it that no single call into C
takes longer. Small values, nearly all, are encoded where they are: a thread would cost more.

While a large argument is encoded its caller must not change it: the call that was awaited returns when that is over.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final, TypeVar

__all__ = ("LARGE_BYTES", "SMALL", "codec_threads", "in_thread", "is_in_codec_thread", "is_large", "off_loop")

T = TypeVar("T")

LARGE_BYTES: Final = 65_536
"""What is written and is longer is decoded in a thread."""

_MAX_ELEMENTS: Final = 2_000
"""Elements of containers, or 32 bytes of texts each, that are encoded at once."""
SMALL: Final = frozenset({int, float, bool, type(None)})
"""Types of values that are small, whatever they are."""
_TEXTS: Final = (str, bytes, bytearray)
_SEQUENCES: Final = (list, tuple, set, frozenset, deque)

codec_threads: Final[set[int]] = set()
"""The threads that encode or decode a large value; empty nearly always, which costs a small value least to see."""


def is_in_codec_thread() -> bool:
    """Whether the caller encodes or decodes off the event loop, a value that is large."""
    return threading.get_ident() in codec_threads


def is_large(args: tuple[Any, ...], kwargs: Mapping[str, Any] | None = None) -> bool:
    """Whether encoding these values takes long. Stops counting when it does."""
    if not kwargs and SMALL.issuperset(map(type, args)):  # a quarter of the price of the loop
        return False
    left = _MAX_ELEMENTS
    rest: list[Any] = [*args, *kwargs.values()] if kwargs else list(args)
    while rest:
        value = rest.pop()
        if type(value) in SMALL:
            continue
        if isinstance(value, _TEXTS):
            left -= len(value) >> 5
        elif isinstance(value, dict):
            left -= len(value)
            if left > 0:
                rest += value.values()
        elif isinstance(value, _SEQUENCES):
            left -= len(value)
            if left > 0:
                rest += value
        else:
            left -= 1
            held = getattr(value, "__dict__", None)
            if type(held) is dict:
                rest += held.values()
        if left <= 0:
            return True
    return False


async def off_loop(function: Callable[[], T]) -> T:
    """What ``function`` gives, called in a thread."""
    answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()

    def resolve(value: T | None, error: BaseException | None) -> None:
        if answer.done():
            return
        if error is None:
            answer.set_result(value)  # type: ignore[arg-type]
        else:
            answer.set_exception(error)

    in_thread(function, resolve)
    return await answer


def in_thread(function: Callable[[], T], on_done: Callable[[T | None, BaseException | None], None]) -> None:
    """Call ``function`` in a thread, then ``on_done`` with its value or error on the running event loop.

    If the system refuses a thread, it is called here.
    """
    loop = asyncio.get_running_loop()

    def run() -> None:
        this = threading.get_ident()
        codec_threads.add(this)
        value, error = _attempt(function)
        codec_threads.discard(this)
        with suppress(RuntimeError):  # the event loop was closed
            loop.call_soon_threadsafe(on_done, value, error)

    try:
        threading.Thread(target=run, name="jobify-codec", daemon=True).start()
    except RuntimeError:
        loop.call_soon(on_done, *_attempt(function))


def _attempt(function: Callable[[], T]) -> tuple[T | None, BaseException | None]:
    try:
        return function(), None
    except BaseException as error:
        return None, error
