"""For what never leaves the process: arguments and results stay the objects that they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jobify.serializers.codec import UNTYPED, ParameterTypes

__all__ = ("ObjectCodec",)


class ObjectCodec:
    """A :class:`~jobify.serializers.codec.Codec` that encodes nothing, for storages in memory.

    A result is kept as a tuple of one: a row without a result has None.
    """

    def encode_call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], types: ParameterTypes = UNTYPED) -> Any:
        return args, kwargs

    def decode_call(self, data: Any, types: ParameterTypes = UNTYPED) -> tuple[tuple[Any, ...], dict[str, Any]]:
        args, kwargs = data
        return args, dict(kwargs)

    def encode_result(self, value: Any, tp: Any = Any) -> Any:
        return (value,)

    def decode_result(self, data: Any, tp: Any = Any) -> Any:
        (value,) = data
        return value

    def encode_value(self, value: Any) -> Any:
        return value
