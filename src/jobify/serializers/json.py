"""JSON and nothing else: rows that any program in any language can read and write."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from jobify.exceptions import PayloadError
from jobify.serializers.base import Serializer, undecodable, unencodable
from jobify.serializers.depth import on_any_stack, require_depth
from jobify.serializers.json_types import is_plain, require_plain
from jobify.serializers.offload import codec_threads
from jobify.serializers.pieces import PIECE_BYTES, decode_in_pieces, encode_in_pieces

__all__ = ("JSONSerializer",)

_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder().decode


class JSONSerializer(Serializer):
    """Plain JSON (RFC 8259), UTF-8.

    What plain JSON would change is refused, with its place: a tuple, a set, bytes, a key that is not a str, NaN, any
    object. In an app, arguments with an annotation are converted before they come here, by the app's dumper and loader
    or, without these, by :class:`~jobify.typeadapter.NativeConverter`.

    >>> JSONSerializer().dumpb({"to": "ann@example.org", "copies": [1, 2]})
    b'{"to":"ann@example.org","copies":[1,2]}'
    """

    restores_types = False

    @on_any_stack
    def dumpb(self, data: Any) -> bytes:
        try:
            if not is_plain(data):
                require_depth(data)
                require_plain(data, "JSON")
            return encode_in_pieces(data, _encode) if codec_threads else _encode(data)
        except PayloadError:
            raise
        except Exception as error:
            raise unencodable("JSON", error) from error

    @on_any_stack
    def loadb(self, data: bytes) -> Any:
        try:
            return _decode(data) if len(data) <= PIECE_BYTES else decode_in_pieces(data, _decode)
        except Exception as error:
            raise undecodable("JSON", error) from error
