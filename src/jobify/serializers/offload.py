"""Large values are encoded and decoded off the event loop.

A value of 200,000 rows takes a second or more to be encoded. In a thread of its own it shares the interpreter with the
loop, which goes on a few milliseconds at a time; :func:`encode_in_pieces` sees to it that no single call into C
takes longer. Small values, nearly all, are encoded where they are: a thread would cost more.

While a large argument is encoded its caller must not change it: the call that was awaited returns when that is over.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, Final, TypeAlias, TypeVar

import msgspec
from msgspec import Raw

__all__ = (
    "LARGE_BYTES",
    "PIECE_BYTES",
    "SMALL",
    "codec_threads",
    "decode_in_pieces",
    "encode_in_pieces",
    "in_thread",
    "is_in_codec_thread",
    "is_large",
    "off_loop",
)


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


# -- pieces ------------------------------------------------------------------------------------------------------------
# Large JSON is written and read in pieces, so that no call into C holds the interpreter up for long.
#
# A library in C encodes or decodes a value in one call, and no other thread runs Python until it returns: 200,000 rows
# stop the event loop although the call is made in a thread. So the outer containers are opened one by one, and what
# they hold is given to the library in pieces of about 64 KiB; between two pieces other threads get their turn.
#
# The result is the same as that of one call. Reading needs no proof of that: the outer containers are split where the
# grammar splits them, and data that fails anywhere is read again in one call, which gives its value or its error.
# Writing splits plain lists and dicts only, and an encoder without options writes their elements alike wherever they
# stand.

Encode: TypeAlias = Callable[[Any], bytes]
Decode: TypeAlias = Callable[[bytes], Any]

PIECE_BYTES: Final = 65_536
_MAX_LEVELS: Final = 8
"""Containers within one another that are split. What is large only further in is one piece."""
_ELEMENTS_AT_ONCE: Final = 512
"""Elements of a container that are written at once."""

_split_list: Final = msgspec.json.Decoder(list[Raw]).decode
_split_dict: Final = msgspec.json.Decoder(dict[str, Raw]).decode


def decode_in_pieces(data: bytes, decode: Decode) -> Any:
    """What ``decode(data)`` gives or raises."""
    if len(data) <= PIECE_BYTES or data[:1] not in (b"[", b"{"):
        return decode(data)
    try:
        return _read(data, decode, _MAX_LEVELS)
    except Exception:  # one call for all of the data gives the value or the exact error
        return decode(data)


def _read(data: bytes, decode: Decode, levels: int) -> Any:
    if not levels:
        return decode(data)
    if data[:1] == b"[":
        return _read_each(_split_list(data), decode, levels - 1)
    if data[:1] == b"{":
        fields = _split_dict(data)
        return dict(zip(fields, _read_each(fields.values(), decode, levels - 1), strict=True))
    return decode(data)


def _read_each(elements: Iterable[Raw], decode: Decode, levels: int) -> list[Any]:
    values: list[Any] = []
    piece: list[Raw] = []
    size = 0
    for element in elements:
        length = memoryview(element).nbytes
        if length <= PIECE_BYTES:
            piece.append(element)
            size += length
        if size > PIECE_BYTES or (piece and length > PIECE_BYTES):
            values += decode(b"[%b]" % b",".join(piece))
            piece.clear()
            size = 0
        if length > PIECE_BYTES:
            values.append(_read(bytes(element), decode, levels))
    if piece:
        values += decode(b"[%b]" % b",".join(piece))
    return values


def encode_in_pieces(value: Any, encode: Encode) -> bytes:
    """What ``encode(value)`` gives or raises, for a value that an encoder without options writes as JSON. In one call,
    unless the value was found to be large before, and is being encoded in a thread for that reason."""
    if not is_in_codec_thread():
        return encode(value)
    pieces: list[bytes] = []
    _write(value, encode, pieces.append, _MAX_LEVELS)
    return b"".join(pieces)


def _write(value: Any, encode: Encode, write: Callable[[bytes], None], levels: int) -> None:
    kind = type(value)
    if not levels or kind not in (list, dict) or not is_large((value,)):
        write(encode(value))
    elif kind is list:
        write(b"[")
        _write_each(value, value, encode, write, levels - 1)
        write(b"]")
    elif all(type(key) is str for key in value):
        write(b"{")
        _write_each(value, list(value.items()), encode, write, levels - 1)
        write(b"}")
    else:
        write(encode(value))


def _write_each(
    container: Any, elements: list[Any], encode: Encode, write: Callable[[bytes], None], levels: int
) -> None:
    """Write the elements, several at once. ``size``: as many as were not too large the last time, and a few more."""
    kind = type(container)
    start, size = 0, _ELEMENTS_AT_ONCE
    while start < len(elements):
        piece = kind(elements[start : start + size])
        count = min(size, len(elements) - start)
        is_one = count == 1
        if not is_one and is_large((piece,)):
            size = count // 2
            continue
        if start:
            write(b",")
        if not is_one:
            write(encode(piece)[1:-1])
        elif kind is list:
            _write(elements[start], encode, write, levels)
        else:
            name, value = elements[start]
            write(encode(name) + b":")
            _write(value, encode, write, levels)
        start += count
        size = min(size + (size >> 3) + 1, _ELEMENTS_AT_ONCE)
