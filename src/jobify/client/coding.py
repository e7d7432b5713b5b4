"""Values in rows: encoded, or as they are in a storage that keeps objects."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from jobify.serializers.codec import Codec, ParameterTypes
from jobify.storage.base import Storage
from jobify.storage.memory import MemoryStorage

__all__ = ("Coding", "plain")


class Coding:
    """Writes and reads arguments, results and published values, as the engine of the same app does.

    What is kept in memory never leaves the process: it stays the objects it is.
    """

    def __init__(self, codec: Codec, current: Callable[[], Storage]) -> None:
        self._codec = codec
        self._current = current

    def call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], types: ParameterTypes) -> Any:
        """The payload of a call; PayloadError if it could not be restored."""
        if isinstance(self._current(), MemoryStorage):
            return args, dict(kwargs)
        return self._codec.encode_call(args, kwargs, types)

    def value(self, stored: Any, tp: Any = Any) -> Any:
        """A result or a published value; PayloadError if it cannot be restored."""
        if isinstance(self._current(), MemoryStorage):
            return stored
        return self._codec.decode_result(stored, tp)


def plain(value: Any) -> Any:
    """``value`` in JSON's words; what JSON cannot say, as text."""
    try:
        return msgspec.json.decode(msgspec.json.encode(value))
    except Exception:  # of an object of the user's: it is shown all the same
        return repr(value)
