"""Lists as arrays in the binary format of PostgreSQL, and texts that PostgreSQL cannot hold.

A statement for a batch takes one array for each column. They are packed here, because packing a whole list at once
takes a tenth of the time of adapting its elements one by one.

PostgreSQL's texts hold every character but NUL. It is written as two others, of which the first is the last code point
of Unicode, which means no character; that one is doubled in the same way.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from psycopg.abc import Buffer
from psycopg.adapt import Dumper
from psycopg.pq import Format

__all__ = ("DUMPERS", "PACKERS", "Array", "ArrayDumper", "escaped", "needs_restoring", "restored", "restored_row")

_ESCAPE: Final = "\U0010ffff"
_NUL: Final = "\0"

_HEAD = struct.Struct("!iiIii").pack
_LENGTH = struct.Struct("!i").pack
_INT = struct.Struct("!iq").pack
_FLOAT = struct.Struct("!id").pack
_NULL: Final = b"\xff\xff\xff\xff"
_TRUE: Final = b"\0\0\0\1\1"
_FALSE: Final = b"\0\0\0\1\0"


class Array(bytes):
    """An array that is packed already."""


class Int8Array(Array):
    """An array of bigint."""


class TextArray(Array):
    """An array of text."""


class ByteaArray(Array):
    """An array of bytea."""


class BoolArray(Array):
    """An array of boolean."""


class Float8Array(Array):
    """An array of double precision."""


class ArrayDumper(Dumper):
    """Sends an :class:`Array` as it is."""

    format = Format.BINARY

    def dump(self, obj: Any) -> Buffer:
        return obj  # type: ignore[no-any-return]


def _dumper(array_oid: int) -> type[ArrayDumper]:
    return type("ArrayDumper", (ArrayDumper,), {"oid": array_oid})


DUMPERS: Final[dict[type[Array], type[ArrayDumper]]] = {
    Int8Array: _dumper(1016),
    TextArray: _dumper(1009),
    ByteaArray: _dumper(1001),
    BoolArray: _dumper(1000),
    Float8Array: _dumper(1022),
}


def _packed(elements: Iterable[bytes], count: int, oid: int) -> bytes:
    if count == 0:
        return _HEAD(0, 0, oid, 0, 0)[:12]
    return _HEAD(1, 1, oid, count, 1) + b"".join(elements)


def pack_ints(values: Sequence[int | None]) -> Array:
    """An array of bigint."""
    elements = [_NULL if value is None else _INT(8, value) for value in values]
    return Int8Array(_packed(elements, len(values), 20))


def pack_texts(values: Sequence[str | None]) -> Array:
    """An array of text."""
    elements = []
    for value in values:
        if value is None:
            elements.append(_NULL)
        else:
            data = (escaped(value) if _NUL in value or _ESCAPE in value else value).encode()
            elements += (_LENGTH(len(data)), data)
    return TextArray(_packed(elements, len(values), 25))


def pack_bytes(values: Sequence[bytes | str | None]) -> Array:
    """An array of bytea; of a text, its bytes in UTF-8."""
    elements = []
    for value in values:
        if value is None:
            elements.append(_NULL)
        else:
            if isinstance(value, str):
                value = value.encode()
            elements += (_LENGTH(len(value)), value)
    return ByteaArray(_packed(elements, len(values), 17))


def pack_bools(values: Sequence[bool | None]) -> Array:
    """An array of boolean."""
    elements = [_NULL if value is None else _TRUE if value else _FALSE for value in values]
    return BoolArray(_packed(elements, len(values), 16))


def pack_floats(values: Sequence[float | None]) -> Array:
    """An array of double precision."""
    elements = [_NULL if value is None else _FLOAT(8, value) for value in values]
    return Float8Array(_packed(elements, len(values), 701))


PACKERS: Final[dict[str, Callable[[Sequence[Any]], Array]]] = {
    "bigint": pack_ints,
    "text": pack_texts,
    "bytea": pack_bytes,
    "boolean": pack_bools,
    "float8": pack_floats,
}
"""How to pack an array, by the type of its elements."""


def escaped(text: str) -> str:
    """``text`` as PostgreSQL can hold it."""
    if _NUL not in text and _ESCAPE not in text:
        return text
    return text.replace(_ESCAPE, f"{_ESCAPE}1").replace(_NUL, f"{_ESCAPE}0")


def restored(text: str) -> str:
    """The text that :func:`escaped` was given."""
    return text.replace(f"{_ESCAPE}0", _NUL).replace(f"{_ESCAPE}1", _ESCAPE)


def restored_row(row: Sequence[Any]) -> Sequence[Any]:
    """A row with its texts as they were given."""
    for value in row:
        if type(value) is str and _ESCAPE in value:
            return tuple([restored(one) if type(one) is str else one for one in row])
    return row


def needs_restoring(texts: Iterable[str | None]) -> bool:
    """Whether one of these texts is not as it was given."""
    return any(text is not None and _ESCAPE in text for text in texts)
