"""JSON and nothing else: rows that any program in any language can read and write."""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite
from typing import Any, Final

import msgspec

from jobify.exceptions import PayloadError
from jobify.serializers.base import (
    MAX_DEPTH,
    RefusedValueError,
    Serializer,
    on_any_stack,
    optional_library,
    require_depth,
    too_deep,
    undecodable,
    unencodable,
)
from jobify.serializers.offload import PIECE_BYTES, codec_threads, decode_in_pieces, encode_in_pieces

__all__ = ("JSONSerializer", "OrjsonSerializer", "is_plain")


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


# -- json types --------------------------------------------------------------------------------------------------------
# Plain data: values that JSON represents without loss.
#
# None, bool, int, str, finite floats, and lists and str-keyed dicts of them: of exactly these types, because a subclass
# would be restored as its base. JSON encoders accept more, and change it: a tuple becomes a list, the key 1 becomes
# "1", NaN becomes null. So every JSON encoder of this package is called after :func:`is_plain`.

_ATOMS: Final = frozenset({type(None), bool, int, str})

_ADVICE: Final = "Use ExtendedJSONSerializer, or annotate the parameter and give the app a dumper and a loader."


def is_plain(value: Any, room: int = MAX_DEPTH) -> bool:
    """Whether JSON can restore ``value`` equal, types included.

    Two things are left to the encoder, which raises for them by itself: a str with a lone surrogate, and an int of
    more digits than Python reads (4300). PayloadError for what is nested more than ``room`` deep, or contains itself.
    """
    kind = type(value)
    if kind is list:
        items = value
    elif kind is dict:
        for key in value:
            if type(key) is not str:
                return False
        items = value.values()
    else:
        return kind in _ATOMS or (kind is float and isfinite(value))
    if not room:
        raise too_deep()
    for item in items:  # a generator per container would double the price of storing a small job
        kind = type(item)
        if kind in _ATOMS or (kind is dict and not item and room > 1):  # as the keyword arguments of most calls
            continue
        if not is_plain(item, room - 1):
            return False
    return True


def require_plain(value: Any, form: str) -> None:
    """Raise :class:`RefusedValueError` with the place of the first thing in ``value`` that is not plain."""
    if type(value) is list:
        _require_each(enumerate(value), form)
    elif type(value) is dict:
        for key in value:
            if type(key) is not str:
                raise RefusedValueError(f"the key {key!r} would come back from {form} as text, not equal. {_ADVICE}")
        _require_each(value.items(), form)
    elif not is_plain(value):
        raise RefusedValueError(f"{_describe(value)} would not come back from {form} equal. {_ADVICE}")


def _require_each(items: Any, form: str) -> None:
    for step, item in items:
        try:
            require_plain(item, form)
        except RefusedValueError as refused:
            raise refused.within(f"[{step!r}]") from None


def _describe(value: Any) -> str:
    return repr(value) if type(value) is float else f"a {type(value).__qualname__}"


# -- orjson ------------------------------------------------------------------------------------------------------------
# JSON through orjson, for its options.


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
