"""Values in rows: encoded, or as they are in a storage that keeps objects."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from jobify.serializers.codec import Codec, ParameterTypes
from jobify.serializers.passthrough import ObjectCodec
from jobify.storage.base import Storage

__all__ = ("ValueCodec", "json_safe")

_OBJECTS = ObjectCodec()


class ValueCodec:
    """Writes and reads arguments, results and published values, as the engine of the same app does.

    What is kept in memory never leaves the process: it stays the objects it is.
    """

    def __init__(self, codec: Codec, current: Callable[[], Storage], result_type: Callable[[str], Any]) -> None:
        self._codec = codec
        self._current = current
        self._result_type = result_type

    @property
    def is_in_memory(self) -> bool:
        """Whether nothing is encoded."""
        return self._current().is_in_memory

    def call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], types: ParameterTypes) -> Any:
        """The payload of a call; PayloadError if it could not be restored."""
        return (_OBJECTS if self.is_in_memory else self._codec).encode_call(args, kwargs, types)

    def plain_call(self, stored: Any) -> tuple[list[Any], dict[str, Any]]:
        """The arguments of a call in JSON's words; PayloadError if they cannot be read here."""
        args, kwargs = (_OBJECTS if self.is_in_memory else self._codec).decode_call(stored)
        return json_safe(list(args)), json_safe(kwargs)

    def result(self, task: str, stored: Any) -> Any:
        """What ``task`` has returned; PayloadError if it cannot be restored."""
        return (_OBJECTS if self.is_in_memory else self._codec).decode_result(stored, self._result_type(task))

    def published(self, stored: Any) -> Any:
        """A value that a task has published; PayloadError if it cannot be restored."""
        return stored if self.is_in_memory else self._codec.decode_result(stored)


def json_safe(value: Any) -> Any:
    """``value`` in JSON's words; what JSON cannot say, as text."""
    try:
        return msgspec.json.decode(msgspec.json.encode(value))
    except Exception:  # of an object of the user's: it is shown all the same
        return repr(value)
