"""The default serializer: what it refuses to write, and what it refuses to read."""

from __future__ import annotations

import json
from collections import defaultdict, deque
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from functools import partial
from io import BytesIO
from struct import pack
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from serializer_samples import Account, Color, Failure, Job, Labelled, Loose, Open, Pair, Point

from jobify.exceptions import ConfigurationError, PayloadError
from jobify.serializers import ExtendedJSONSerializer
from jobify.serializers.base import RefusedValueError

SERIALIZER = ExtendedJSONSerializer()


# A class that changed since


def stored(value: Any, **changes: Any) -> bytes:
    """The bytes of ``value`` with its payload (or the payload's fields) changed, as an older release wrote it."""
    row = json.loads(SERIALIZER.dumpb(value))
    fields = row["v"].get("fields", row["v"])
    for name, content in changes.items():
        fields.pop(name, None)
        if content is not None:
            fields[name] = content
    return json.dumps(row).encode()


def test_a_new_field_gets_its_default() -> None:
    assert SERIALIZER.loadb(stored(Point(1, 2.0, ["a"]), y=None, tags=None)) == Point(1)
    assert SERIALIZER.loadb(stored(Pair(1, "x"), right=None)) == Pair(1)
    assert SERIALIZER.loadb(stored(Job("j", (1,)), after=None)) == Job("j")
    account = Account(id=UUID(int=1))
    assert SERIALIZER.loadb(stored(account, opened=None)) == account


@pytest.mark.parametrize("value", [Point(1), Pair(1), Account(id=UUID(int=1))])
def test_a_new_field_without_a_default_is_named(value: Any) -> None:
    first = {Point: "x", Pair: "left", Account: "id"}[type(value)]
    with pytest.raises(PayloadError, match=f"has a field '{first}' that the stored value lacks"):
        SERIALIZER.loadb(stored(value, **{first: None}))


@pytest.mark.parametrize("value", [Point(1), Pair(1), Job("j"), Account(id=UUID(int=1))])
def test_a_lost_field_is_named(value: Any) -> None:
    with pytest.raises(PayloadError, match="no longer has the field 'gone'"):
        SERIALIZER.loadb(stored(value, gone=1))


def test_a_lost_member_is_named() -> None:
    row = SERIALIZER.dumpb(Color.RED).replace(b"RED", b"BLUE")
    with pytest.raises(PayloadError, match="has no member 'BLUE'"):
        SERIALIZER.loadb(row)


# Refusals: what, where, and what to do


class Sentence(str):
    __slots__ = ()


class Odd(tzinfo):
    def utcoffset(self, dt: datetime | None) -> timedelta:
        return timedelta(hours=1)


class Plain:
    pass


def local_class() -> Any:
    @dataclass
    class Local:
        x: int

    return Local


LOCAL = local_class()


def nameless_zone() -> ZoneInfo:
    """UTC from a file in the format of tzfile(5), version 1: one type of time and no transitions."""
    return ZoneInfo.from_file(BytesIO(b"TZif" + bytes(16) + pack(">6l", 0, 0, 0, 0, 1, 4) + bytes(6) + b"UTC\0"))


REFUSED = [
    (Plain(), "", "cannot be restored from JSON. Pass what it is made of"),
    (object, "", "is code, not data"),
    (print, "", "is code, not data"),
    (lambda: None, "", "is code, not data"),
    (partial(print), "", "is code, not data"),
    (json, "", "is code, not data"),
    (Sentence("x"), "", "would come back as a plain str. Pass str(...) of it."),
    (defaultdict(list), "", "would come back as a plain dict"),
    ({"a": [1, (Plain(),)]}, "['a'][1][0]", "cannot be restored"),
    ({1: Plain()}, "[1]", "cannot be restored"),
    ([Point(1, tags=[Plain()])], "[0].tags[0]", "cannot be restored"),
    (Pair(1, Plain()), ".right", "cannot be restored"),
    (Job(Plain()), ".name", "cannot be restored"),
    (deque([Plain()]), "[0]", "cannot be restored"),
    ([datetime(2026, 1, 1, tzinfo=Odd())], "[0].tzinfo", "Odd cannot be restored"),
    (LOCAL(1), "", "Define it at the top level of a module, or register it"),
    (Open(5), "", "is not a member that its class lists by name"),
    (nameless_zone(), "", "names no zone"),
    (memoryview(b""), "", "memoryview cannot be restored"),
]


@pytest.mark.parametrize(
    ("value", "place", "reason"), REFUSED, ids=lambda value: value if isinstance(value, str) else type(value).__name__
)
def test_what_cannot_be_restored_is_refused_with_its_place(value: Any, place: str, reason: str) -> None:
    with pytest.raises(RefusedValueError) as refused:
        SERIALIZER.dumpb(value)
    assert str(refused.value).startswith(f"value{place}: ")
    assert reason in str(refused.value)


def test_attributes_that_would_be_lost_are_refused() -> None:
    labelled, loose = Labelled(1), Loose("x")
    labelled.note = loose.note = 1
    for value in (labelled, loose):
        with pytest.raises(RefusedValueError, match="has attributes besides its fields"):
            SERIALIZER.dumpb(value)


@pytest.mark.parametrize("tagged", [False, True])
def test_a_value_that_contains_itself_is_refused(tagged: bool) -> None:
    loop: list[Any] = [(1, 2)] if tagged else []
    loop.append(loop)
    with pytest.raises(PayloadError, match="contains itself"):
        SERIALIZER.dumpb(loop)


def test_a_dataclass_built_on_a_builtin_is_refused() -> None:
    with pytest.raises(RefusedValueError, match="Failure is built on a builtin type"):
        SERIALIZER.dumpb(Failure(1))


# Registered types


def test_registered_types_need_not_be_importable() -> None:
    serializer = ExtendedJSONSerializer(types=[LOCAL])
    back = serializer.loadb(serializer.dumpb(LOCAL(1)))
    assert back == LOCAL(1)
    assert type(back) is LOCAL
    with pytest.raises(PayloadError, match="Local"):
        SERIALIZER.loadb(serializer.dumpb(LOCAL(1)))


def test_two_registered_types_with_one_name_are_refused() -> None:
    assert ExtendedJSONSerializer([LOCAL, LOCAL])
    with pytest.raises(ConfigurationError, match="Rename one of them"):
        ExtendedJSONSerializer([LOCAL, local_class()])


# Malice and rot

MALICE = [
    b'{"$":"dataclass","t":"os:system","v":{"fields":{}}}',
    b'{"$":"dataclass","t":"subprocess:Popen","v":{"fields":{}}}',
    b'{"$":"enum","t":"builtins:eval","v":"1"}',
    b'{"$":"namedtuple","t":"builtins:tuple","v":{}}',
    b'{"$":"struct","t":"collections:UserDict","v":{}}',
    b'{"$":"model","t":"decimal:Decimal","v":{}}',
    b'{"$":"dataclass","t":"no_such_module:X","v":{"fields":{}}}',
    b'{"$":"dataclass","t":"","v":{"fields":{}}}',
    b'{"$":"dataclass","t":".x:y","v":{"fields":{}}}',
    b'{"$":"dataclass","t":["os"],"v":{}}',
    b'{"$":"dataclass","t":"os:environ.data","v":{}}',
    b'{"$":"nonsense","v":1}',
    b'{"$":["tuple"],"v":1}',
    b'{"$":"tuple"}',
    b'{"$":"tuple","v":"ab"}',
    b'{"$":"int","v":"zz"}',
    b'{"$":"datetime","v":{"at":"yesterday"}}',
    b'{"$":"ZoneInfo","v":"../../etc/passwd"}',
    b'{"$":"ZoneInfo","v":"Europe/Atlantis"}',
    b'{"$":"WindowsPath","v":"x"}',
    b'{"$":"set","v":[[]]}',
    b'{"$":"bytes","v":"!"}',
    b'{"$":',
    b"",
    b"\xff",
    b"[" * 100_000,
    b'{"$":"tuple","v":[' * 900 + b"]}" * 900,
]


@pytest.mark.parametrize("row", MALICE, ids=lambda row: repr(row[:50]))
def test_a_malicious_or_broken_row_is_a_payload_error(row: bytes) -> None:
    with pytest.raises(PayloadError):
        SERIALIZER.loadb(row)


@given(st.binary() | st.text().map(str.encode))
def test_garbage_is_a_payload_error_or_a_value(row: bytes) -> None:
    with suppress(PayloadError):
        SERIALIZER.loadb(row)


TAGGED = st.recursive(
    st.none() | st.integers() | st.text(max_size=5) | st.just("serializer_samples:Point"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.fixed_dictionaries(
            {"$": st.sampled_from(["tuple", "dict", "datetime", "dataclass", "enum", "model", "range", "deque", "x"])},
            optional={"v": inner, "t": inner},
        )
    ),
    max_leaves=6,
)


@given(TAGGED)
def test_any_malformed_tag_is_a_payload_error_or_a_value(data: Any) -> None:
    with suppress(PayloadError):
        SERIALIZER.loadb(json.dumps(data).encode())
