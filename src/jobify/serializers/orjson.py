"""JSON through orjson, for its options."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jobify.exceptions import PayloadError
from jobify.serializers.base import Serializer, optional_library, undecodable, unencodable
from jobify.serializers.depth import on_any_stack, require_depth
from jobify.serializers.json_types import is_plain, require_plain
from jobify.serializers.pieces import decode_in_pieces, encode_in_pieces

__all__ = ("OrjsonSerializer",)


class OrjsonSerializer(Serializer):
    """JSON by `orjson <https://github.com/ijl/orjson>`_: the rules of :class:`~jobify.serializers.JSONSerializer`.

    ``default`` is called for a value that orjson does not know and returns one that it knows. ``option`` is a sum of
    ``orjson.OPT_*`` flags. Both can make orjson write what it cannot read back (numpy arrays, keys that are not text):
    with a ``default``, or an option that is about more than layout, the restored value is not checked. Ints are limited
    to 64 bits.

    Raises ImportError where orjson is missing: ``pip install 'jobify[orjson]'``.
    """

    restores_types = False

    def __init__(self, *, default: Callable[[Any], Any] | None = None, option: int | None = None) -> None:
        orjson = optional_library("orjson", extra="orjson")
        layout = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE | orjson.OPT_STRICT_INTEGER
        self._dumps = orjson.dumps
        self._loads = orjson.loads
        self._default = default
        self._option = option
        self._checked = default is None and not (option or 0) & ~layout

    @on_any_stack
    def dumpb(self, data: Any) -> bytes:
        try:
            if not self._checked:
                require_depth(data)
            elif not is_plain(data):
                require_depth(data)
                require_plain(data, "JSON")
            encoded = self._encode(data)
        except PayloadError:
            raise
        except Exception as error:
            raise unencodable("JSON", error) from error
        return encoded

    def _encode(self, data: Any) -> bytes:
        if self._default is None and not self._option:
            return encode_in_pieces(data, self._dumps)
        encoded: bytes = self._dumps(data, self._default, self._option)
        return encoded

    @on_any_stack
    def loadb(self, data: bytes) -> Any:
        try:
            return decode_in_pieces(data, self._loads)
        except Exception as error:
            raise undecodable("JSON", error) from error
