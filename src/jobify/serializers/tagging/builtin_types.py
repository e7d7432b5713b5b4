"""Types of Python itself that JSON lacks: how each is written, and read; and what all kinds of types share."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from pathlib import PosixPath, PurePosixPath, PureWindowsPath, WindowsPath
from typing import Any, Final, TypeAlias
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec

from jobify.exceptions import PayloadError
from jobify.runtime.importable import name_of
from jobify.serializers.base import RefusedValueError

__all__ = ("BY_TAG", "BY_TYPE", "Kind", "State", "Tag", "Walk", "decode_state", "each", "encode_state", "missing_field")


# -- fields ------------------------------------------------------------------------------------------------------------
# What all kinds of types share: encoding values by name, and errors about a class that has changed since.

Walk: TypeAlias = Callable[[Any], Any]
"""Encodes or decodes one value, whatever it is."""

State: TypeAlias = dict[str, Any]
"""What an object holds, by name."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One way to make types: which classes are made so, and what becomes of their values.

    ``dump(value, encode)`` gives plain data; ``load(cls, payload, decode)`` gives the value of that class.
    """

    tag: str
    matches: Callable[[type], bool]
    dump: Callable[[Any, Walk], Any]
    load: Callable[[Any, Any, Walk], Any]


def each(items: Iterable[tuple[Any, Any]], encode: Walk, step: str = "[{!r}]") -> list[Any]:
    """The second of each pair, encoded; a refusal learns the first, as the ``step`` that leads to it."""
    encoded = []
    for key, item in items:
        try:
            encoded.append(encode(item))
        except RefusedValueError as refused:
            raise refused.within(step.format(key)) from None
    return encoded


def encode_state(state: Mapping[str, Any], encode: Walk) -> State:
    """Each value encoded; a refusal learns the name it was under."""
    return dict(zip(state, each(state.items(), encode, ".{}"), strict=True))


def decode_state(state: Mapping[str, Any], known: Iterable[str], cls: type, decode: Walk) -> State:
    """Each value decoded; PayloadError if the class no longer has such a field."""
    gone = sorted(state.keys() - set(known))
    if gone:
        raise PayloadError(f"{name_of(cls)} no longer has the field {gone[0]!r}. Give it back, with a default.")
    return {name: decode(value) for name, value in state.items()}


def missing_field(cls: type, name: str) -> PayloadError:
    """What to raise when stored state lacks a value for a field."""
    return PayloadError(f"{name_of(cls)} has a field {name!r} that the stored value lacks. Give it a default.")


# -- builtin types -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tag:
    """How values of exactly one type become plain data, and come back."""

    name: str
    type: type
    dump: Callable[[Any, Walk], Any]
    load: Callable[[Any, Walk], Any]


def _as_text(cls: Callable[[str], Any]) -> tuple[Callable[[Any, Walk], Any], Callable[[Any, Walk], Any]]:
    """For a type that can be restored from its ``str``."""
    return (lambda value, encode: encode(str(value))), (lambda data, decode: cls(decode(data)))


# Containers


def _dump_items(value: Iterable[Any], encode: Walk) -> list[Any]:
    return each(enumerate(value), encode)


def _load_items(data: Any, decode: Walk) -> list[Any]:
    if type(data) is not list:
        raise TypeError(f"expected a list, not {data!r}")
    return [decode(item) for item in data]


def _dump_set(value: Iterable[Any], encode: Walk) -> list[Any]:
    """Sorted by what is written, so that equal sets are equal bytes in every process."""
    return sorted((encode(item) for item in value), key=msgspec.json.encode)


def _load_pairs(data: Any, decode: Walk) -> dict[Any, Any]:
    return {decode(key): decode(item) for key, item in data}


def _dump_pairs(value: Mapping[Any, Any], encode: Walk) -> list[Any]:
    keys = [encode(key) for key in value]
    return [list(pair) for pair in zip(keys, each(value.items(), encode), strict=True)]


def _dump_deque(value: deque[Any], encode: Walk) -> Any:
    return {"items": _dump_items(value, encode), "maxlen": value.maxlen}


def _load_deque(data: Any, decode: Walk) -> deque[Any]:
    return deque(_load_items(data["items"], decode), data["maxlen"])


# Numbers and bytes


def _dump_bytes(value: bytes | bytearray, encode: Walk) -> str:
    return b64encode(value).decode()


def _load_bytes(data: Any, decode: Walk) -> bytes:
    return b64decode(data, validate=True)


def _load_text(data: Any, decode: Walk) -> str:
    return bytes.fromhex(data).decode("utf-8", "surrogatepass")


# Time. A zone is written beside the clock reading, never as an offset: 09:00 in Berlin is not 09:00 at +01:00.


def _dump_zone(value: timezone, encode: Walk) -> Any:
    if value is UTC:
        return "UTC"
    offset, name = value.utcoffset(None), value.tzname(None)
    default_name = timezone(offset).tzname(None)
    return {"offset": _dump_delta(offset, encode), "name": None if name == default_name else encode(name)}


def _load_zone(data: Any, decode: Walk) -> timezone:
    if data == "UTC":
        return UTC
    offset = _load_delta(data["offset"], decode)
    return timezone(offset) if data["name"] is None else timezone(offset, decode(data["name"]))


def _dump_key(value: ZoneInfo, encode: Walk) -> str:
    if not value.key:
        raise RefusedValueError("a ZoneInfo without a key names no zone. Make it by its name: ZoneInfo('Europe/Oslo').")
    return value.key


def _dump_delta(value: timedelta, encode: Walk) -> list[int]:
    return [value.days, value.seconds, value.microseconds]


def _load_delta(data: Any, decode: Walk) -> timedelta:
    days, seconds, microseconds = data
    return timedelta(days, seconds, microseconds)


def _dump_moment(value: datetime | time, encode: Walk) -> Any:
    written: dict[str, Any] = {"at": value.replace(tzinfo=None).isoformat()}
    if value.tzinfo is not None:
        try:
            written["zone"] = encode(value.tzinfo)
        except RefusedValueError as refused:
            raise refused.within(".tzinfo") from None
    if value.fold:
        written["fold"] = value.fold
    return written


def _load_moment(moment: Any, data: Any, decode: Walk) -> Any:
    zone = decode(data["zone"]) if "zone" in data else None
    return moment.replace(tzinfo=zone, fold=data.get("fold", 0))


_TAGS: Final = (
    Tag("tuple", tuple, _dump_items, lambda data, decode: tuple(_load_items(data, decode))),
    Tag("set", set, _dump_set, lambda data, decode: set(_load_items(data, decode))),
    Tag("frozenset", frozenset, _dump_set, lambda data, decode: frozenset(_load_items(data, decode))),
    Tag("dict", dict, _dump_pairs, _load_pairs),
    Tag("OrderedDict", OrderedDict, _dump_pairs, lambda data, decode: OrderedDict(_load_pairs(data, decode))),
    Tag("Counter", Counter, _dump_pairs, lambda data, decode: Counter(_load_pairs(data, decode))),
    Tag("deque", deque, _dump_deque, _load_deque),
    Tag("str", str, lambda value, encode: value.encode("utf-8", "surrogatepass").hex(), _load_text),
    Tag("bytes", bytes, _dump_bytes, _load_bytes),
    Tag("bytearray", bytearray, _dump_bytes, lambda data, decode: bytearray(_load_bytes(data, decode))),
    Tag("int", int, lambda value, encode: hex(value), lambda data, decode: int(data, 16)),
    Tag("float", float, lambda value, encode: repr(value), lambda data, decode: float(data)),
    Tag(
        "complex",
        complex,
        lambda value, encode: [encode(value.real), encode(value.imag)],
        lambda data, decode: complex(*map(decode, data)),
    ),
    Tag(
        "range",
        range,
        lambda value, encode: [encode(value.start), encode(value.stop), encode(value.step)],
        lambda data, decode: range(*map(decode, data)),
    ),
    Tag(
        "Fraction",
        Fraction,
        lambda value, encode: [encode(value.numerator), encode(value.denominator)],
        lambda data, decode: Fraction(*map(decode, data)),
    ),
    Tag("Decimal", Decimal, *_as_text(Decimal)),
    Tag("UUID", UUID, *_as_text(UUID)),
    Tag("PurePosixPath", PurePosixPath, *_as_text(PurePosixPath)),
    Tag("PureWindowsPath", PureWindowsPath, *_as_text(PureWindowsPath)),
    Tag("PosixPath", PosixPath, *_as_text(PosixPath)),
    Tag("WindowsPath", WindowsPath, *_as_text(WindowsPath)),
    Tag("date", date, lambda value, encode: value.isoformat(), lambda data, decode: date.fromisoformat(data)),
    Tag(
        "datetime",
        datetime,
        _dump_moment,
        lambda data, decode: _load_moment(datetime.fromisoformat(data["at"]), data, decode),
    ),
    Tag("time", time, _dump_moment, lambda data, decode: _load_moment(time.fromisoformat(data["at"]), data, decode)),
    Tag("timedelta", timedelta, _dump_delta, _load_delta),
    Tag("timezone", timezone, _dump_zone, _load_zone),
    Tag("ZoneInfo", ZoneInfo, _dump_key, lambda data, decode: ZoneInfo(data)),
)

BY_TAG: Final = {tag.name: tag for tag in _TAGS}
BY_TYPE: Final = {tag.type: tag for tag in _TAGS}
