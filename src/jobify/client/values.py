"""Values in rows: encoded, or in memory the objects themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from jobify.serializers.codec import Codec, ObjectCodec, ParameterTypes
from jobify.storage.base import Storage

__all__ = ("ValueCodec", "json_safe")

_OBJECTS = ObjectCodec()


class ValueCodec:
    """Encodes and decodes arguments, results and published values, as the engine of the same app does.

    In memory, values never leave the process, and stay the objects they are.
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
        """The payload of a call; PayloadError if it could not be decoded again."""
        return (_OBJECTS if self.is_in_memory else self._codec).encode_call(args, kwargs, types)

    def plain_call(self, stored: Any) -> tuple[list[Any], dict[str, Any]]:
        """The arguments of a call as JSON values; PayloadError if they cannot be read here."""
        args, kwargs = (_OBJECTS if self.is_in_memory else self._codec).decode_call(stored)
        return json_safe(list(args)), json_safe(kwargs)

    def result(self, task: str, stored: Any) -> Any:
        """The result of ``task``; PayloadError if it cannot be decoded."""
        return (_OBJECTS if self.is_in_memory else self._codec).decode_result(stored, self._result_type(task))

    def published(self, stored: Any) -> Any:
        """A value that a task has published; PayloadError if it cannot be decoded."""
        return stored if self.is_in_memory else self._codec.decode_result(stored)


def json_safe(value: Any) -> Any:
    """``value`` as JSON can write it; anything else as its repr."""
    try:
        return msgspec.json.decode(msgspec.json.encode(value))
    except Exception:  # of a user's object, which is shown all the same
        return repr(value)
