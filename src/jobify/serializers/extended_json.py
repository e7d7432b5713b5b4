"""The default serializer: readable JSON for plain data, and every value restored with its type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any, Final

import msgspec

from jobify.exceptions import ConfigurationError, PayloadError
from jobify.serializers.base import Serializer, on_any_stack, require_depth, undecodable
from jobify.serializers.json import is_plain
from jobify.serializers.offload import PIECE_BYTES, codec_threads, decode_in_pieces, encode_in_pieces
from jobify.serializers.tagging import RESERVED, Tagging

__all__ = ("ExtendedJSONSerializer",)

_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder().decode
_MARK: Final = f'"{RESERVED}"'.encode()


class ExtendedJSONSerializer(Serializer):
    """JSON (UTF-8) that restores what it was given, with its type, or refuses it with the place and the remedy.

    Restored are:

    - None, bool, int and float (of any value), complex, str, bytes, bytearray;
    - list, tuple, set, frozenset, range, deque, and dict, OrderedDict and Counter with keys of any of these types;
    - Decimal, Fraction, UUID, paths; datetime and time (their zone by its name, their fold), date, timedelta,
      timezone, ZoneInfo;
    - members of enums and flags, dataclasses, named tuples, :class:`msgspec.Struct` and pydantic models, whose class
      is found by its ``module:qualname``. ``types`` adds classes that are not, such as those that a function defines;
      every process that reads the value must register them alike.

    Not restored, and so refused: a subclass of a builtin (it would come back as the builtin), code, and any other
    object. That a container occurs twice in a value is not recorded: it comes back as two equal ones.

    Plain data is written as plain JSON; the rest takes the form that :mod:`jobify.serializers.tagging` describes.

    **Safety.** Reading a value imports nothing: its class must be in a module that the process has imported already, or
    in one of ``modules`` (names of modules and packages; what is below a package counts), and must be an enum, a
    dataclass, a named tuple, a Struct or a model. Of its code nothing is called but the factories of defaults for
    fields that the stored value lacks, and the ``__post_init__`` of a Struct. So anyone who can write to the database
    can choose among the data classes of the app, and no more.

    >>> serializer = ExtendedJSONSerializer()
    >>> serializer.dumpb([1, {"a": None}])
    b'[1,{"a":null}]'
    >>> serializer.loadb(serializer.dumpb({(1, 2): {"x"}}))
    {(1, 2): {'x'}}
    """

    restores_types = True

    def __init__(self, types: Sequence[type] = (), *, modules: Sequence[str] = ()) -> None:
        if isinstance(modules, str):
            raise ConfigurationError(f"modules is {modules!r}; it must be a sequence of names: [{modules!r}].")
        self._tagging = Tagging(types, modules)

    def renaming(self, types: Mapping[str, type]) -> ExtendedJSONSerializer:
        """A copy that reads values stored under these earlier names of classes, too; see
        :mod:`jobify.serializers.renamed`."""
        renamed = copy(self)
        renamed._tagging = self._tagging.renaming(types)
        return renamed

    def known_types(self) -> list[tuple[str, type | None]]:
        """What it finds beside that which is imported: classes by name, and names of modules."""
        return self._tagging.known_types()

    def dumpb(self, data: Any) -> bytes:
        try:
            if is_plain(data):
                encoded = encode_in_pieces(data, _encode) if codec_threads else _encode(data)
                if _MARK not in encoded:
                    return encoded
        except PayloadError:
            raise
        except (ValueError, RecursionError):
            pass  # a lone surrogate, a huge int, little stack: tagging handles it or explains the error
        return self._dump_tagged(data)

    def loadb(self, data: bytes) -> Any:
        try:
            if _MARK not in data:
                return _decoded(data)
        except Exception:
            pass  # no bytes, no JSON, little stack: the slow path handles it or explains the error
        return self._load_tagged(data)

    @on_any_stack
    def _load_tagged(self, data: bytes) -> Any:
        try:
            plain = _decoded(data)
            return plain if _MARK not in data else self._tagging.decode(plain)
        except PayloadError:
            raise
        except Exception as error:
            raise undecodable("tagged JSON", error) from error

    @on_any_stack
    def _dump_tagged(self, data: Any) -> bytes:
        require_depth(data)
        return encode_in_pieces(self._tagging.encode(data), _encode)


def _decoded(data: bytes) -> Any:
    return _decode(data) if len(data) <= PIECE_BYTES else decode_in_pieces(data, _decode)
