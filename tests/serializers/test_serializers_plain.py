"""The other formats: what comes back equals what was given, or the call is refused (B34, items 98 to 104)."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import msgpack
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobify.exceptions import PayloadError
from jobify.serializers import (
    CBORSerializer,
    JSONSerializer,
    MsgpackSerializer,
    OrjsonSerializer,
    Serializer,
    UnsafePickleSerializer,
    UnsafePickleWarning,
)
from jobify.serializers.base import RefusedValueError, restores_types
from jobify.serializers.json import is_plain
from jobify.serializers.roundtrip import require_same
from support import label, output

JSON, ORJSON, MSGPACK, CBOR = JSONSerializer(), OrjsonSerializer(), MsgpackSerializer(), CBORSerializer()
FORMATS: list[Any] = [JSON, ORJSON, MSGPACK, CBOR]


def name(value: Any) -> str:
    return type(value).__name__


@dataclass
class Point:
    x: int


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@pytest.mark.slow
@pytest.mark.parametrize("serializer", FORMATS, ids=name)
@given(PLAIN)
def test_plain_data_is_restored(serializer: Serializer, value: Any) -> None:
    assert is_plain(value)
    require_same([value], [serializer.loadb(serializer.dumpb(value))], "")


@pytest.mark.parametrize("serializer", FORMATS, ids=name)
@pytest.mark.parametrize(
    ("value", "place"),
    [
        ((1, 2), "value"),
        ([{"a": (1, 2)}], "value[0]['a']"),
        ([0, {"a": bytearray(b"x")}], "value[1]['a']"),
        ({"when": datetime(2026, 1, 1, tzinfo=ZoneInfo("Europe/Berlin"))}, "value"),
        ([frozenset({Point})], "value"),
        (Point(1), "value"),
        ([Point], "value"),
    ],
    ids=label,
)
def test_what_would_not_come_back_is_refused(serializer: Serializer, value: Any, place: str) -> None:
    with pytest.raises(PayloadError) as refused:
        serializer.dumpb(value)
    if isinstance(refused.value, RefusedValueError):
        assert str(refused.value).startswith(place)


@pytest.mark.parametrize("serializer", [JSON, ORJSON], ids=name)
@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1, {"a": (1,)}], "value[1]['a']: a tuple would not come back from JSON equal."),
        ({"a": {1: 2}}, "value['a']: the key 1 would come back from JSON as text"),
        ([0, float("nan")], "value[1]: nan would not come back from JSON equal."),
        ([[1], {"x": 1}, (1,)], "value[2]: a tuple would not come back from JSON equal."),
        ({"b": b""}, "value['b']: a bytes would not come back from JSON equal."),
    ],
    ids=label,
)
def test_json_names_the_place_and_the_remedy(serializer: Serializer, value: Any, message: str) -> None:
    with pytest.raises(RefusedValueError) as refused:
        serializer.dumpb(value)
    assert str(refused.value).startswith(message)
    assert "ExtendedJSONSerializer" in str(refused.value)


@pytest.mark.parametrize("serializer", FORMATS, ids=name)
@pytest.mark.parametrize("value", ["\ud800", 10**5000], ids=["surrogate", "huge"])
def test_what_an_encoder_cannot_write_is_refused_or_restored(serializer: Serializer, value: Any) -> None:
    with suppress(PayloadError):
        assert serializer.loadb(serializer.dumpb([value])) == [value]


@pytest.mark.parametrize("serializer", FORMATS, ids=name)
def test_what_is_nested_too_deeply_is_refused_when_it_is_written(serializer: Serializer) -> None:
    value: Any = 1
    for _ in range(450):
        value = [value]
    try:
        row = serializer.dumpb(value)
    except PayloadError:
        return
    assert serializer.loadb(row) == value


@pytest.mark.parametrize("serializer", FORMATS, ids=name)
@given(st.binary())
def test_garbage_is_a_payload_error_or_a_value(serializer: Serializer, row: bytes) -> None:
    with suppress(PayloadError):
        serializer.loadb(row)


@pytest.mark.parametrize("serializer", FORMATS, ids=name)
def test_errors_of_a_library_say_what_was_tried(serializer: Serializer) -> None:
    with pytest.raises(PayloadError, match="The value cannot be written as"):
        serializer.dumpb("\ud800")
    with pytest.raises(PayloadError, match="The stored bytes cannot be read as"):
        serializer.loadb(b"")


def test_json_is_readable() -> None:
    assert JSON.dumpb({"a": [1, None, "ü"]}) == '{"a":[1,null,"ü"]}'.encode()
    assert JSON.loadb(JSON.dumpb(2**70)) == 2**70


# orjson


def test_orjson_options_about_layout_leave_the_check_on() -> None:
    serializer = OrjsonSerializer(option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS)
    assert serializer.dumpb({"b": 1, "a": 2}) == b'{\n  "a": 2,\n  "b": 1\n}'
    with pytest.raises(RefusedValueError):
        serializer.dumpb((1,))


def test_orjson_default_and_other_options_are_the_callers_word() -> None:
    assert OrjsonSerializer(default=lambda value: {"x": value.real}).dumpb(1 + 2j) == b'{"x":1.0}'
    assert OrjsonSerializer(option=orjson.OPT_NON_STR_KEYS).dumpb({1: 2}) == b'{"1":2}'
    with pytest.raises(PayloadError, match="cannot be written as JSON"):
        OrjsonSerializer(default=lambda value: 1 / 0).dumpb(1j)


# MessagePack


@pytest.mark.parametrize("value", [b"x", [b"\xff", 1.5], float("inf"), {b"k": 1}, [float("nan")]], ids=label)
def test_msgpack_knows_more_than_json(value: Any) -> None:
    require_same(value, MSGPACK.loadb(MSGPACK.dumpb(value)), "")


def test_msgpack_datetimes() -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    serializer = MsgpackSerializer(datetime=True, timestamp=3)
    assert serializer.loadb(serializer.dumpb([moment])) == [moment]
    with pytest.raises(RefusedValueError, match=r"value\[0\]: a datetime would come back as a Timestamp"):
        MsgpackSerializer(datetime=True).dumpb([moment])
    with pytest.raises(RefusedValueError, match="would come back as"):
        serializer.dumpb(moment.astimezone(timezone(timedelta(hours=1))))


def test_msgpack_keys() -> None:
    with pytest.raises(PayloadError, match="MessagePack"):
        MSGPACK.dumpb({1: 2})
    loose = MsgpackSerializer(strict_map_key=False)
    assert loose.loadb(loose.dumpb({1: 2})) == {1: 2}


def test_msgpack_hooks_are_the_callers_word() -> None:
    serializer = MsgpackSerializer(
        default=lambda value: msgpack.ExtType(1, str(value).encode()), ext_hook=lambda _, data: Decimal(data.decode())
    )
    assert serializer.loadb(serializer.dumpb([Decimal("1.5"), (1,)])) == [Decimal("1.5"), [1]]
    tuples = MsgpackSerializer(use_list=False)
    assert tuples.loadb(tuples.dumpb([1])) == (1,)


def test_msgpack_limits_are_met_when_writing() -> None:
    serializer = MsgpackSerializer(max_array_len=2)
    assert serializer.loadb(serializer.dumpb([1, 2])) == [1, 2]
    with pytest.raises(PayloadError, match="cannot be read as MessagePack"):
        serializer.dumpb([1, 2, 3])


# CBOR


@pytest.mark.parametrize(
    "value",
    [
        b"x",
        2**100,
        {1, 2},
        [{(1, 2): None}],
        Decimal("1.10"),
        UUID(int=1),
        date(2026, 1, 1),
        1 + 2j,
        datetime(2026, 1, 1, tzinfo=UTC),
        datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=1))),
        {1: float("nan")},
    ],
    ids=label,
)
def test_cbor_knows_more_than_json(value: Any) -> None:
    require_same(value, CBOR.loadb(CBOR.dumpb(value)), "")


def test_cbor_options_that_change_values_are_the_callers_word() -> None:
    as_utc = CBORSerializer(timezone=UTC)
    assert as_utc.loadb(as_utc.dumpb(datetime(2026, 1, 1))) == datetime(2026, 1, 1, tzinfo=UTC)
    immutable = CBORSerializer(immutable=True)
    assert immutable.loadb(immutable.dumpb([1])) == (1,)
    own = CBORSerializer(default=lambda encoder, value: encoder.encode(value.x))
    assert own.loadb(own.dumpb(Point(3))) == 3
    with pytest.raises(PayloadError, match="cannot be written as CBOR"):
        CBOR.dumpb(datetime(2026, 1, 1))


def test_cbor_depth_is_met_when_writing() -> None:
    deep: Any = [1]
    for _ in range(20):
        deep = [deep]
    with pytest.raises(PayloadError, match="cannot be read as CBOR"):
        CBORSerializer(max_depth=10).dumpb(deep)


# The comparison behind both


@dataclass(eq=False)
class Odd:
    x: Any


DIFFERENT: list[tuple[Any, Any, str]] = [
    (1, True, "value: a int would come back as a bool."),
    ([1], [1, 2], "value: [1] would come back as [1, 2]."),
    ({"a": 1}, {"b": 1}, "value: {'a': 1} would come back as {'b': 1}."),
    ({1: 1}, {True: 1}, "value: {1: 1} would come back as {True: 1}."),
    ({1}, {1.0}, "value: {1} would come back as {1.0}."),
    ({"a": -0.0}, {"a": 0.0}, "value['a']: -0.0 would come back as 0.0."),
    (Decimal("1.10"), Decimal("1.1"), "value: Decimal('1.10') would come back as Decimal('1.1')."),
    ([Odd((1,))], [Odd([1])], "value[0].x: a tuple would come back as a list."),
    (None, 1, "value: None would come back as a int."),
    ("a", "b", "value: 'a' would come back as 'b'."),
    (datetime(2026, 1, 1, fold=1), datetime(2026, 1, 1), "value: datetime"),
]


@pytest.mark.parametrize(("given_value", "restored", "message"), DIFFERENT, ids=label)
def test_differences_are_found(given_value: Any, restored: Any, message: str) -> None:
    with pytest.raises(RefusedValueError) as refused:
        require_same(given_value, restored, "Do this.")
    assert str(refused.value).startswith(message)
    assert str(refused.value).endswith("Do this.")


def test_what_is_the_same_passes() -> None:
    require_same([Odd(float("nan")), 1, {"a": {2}}], [Odd(float("nan")), 1.0, {"a": {2}}], "")


def test_a_refusal_survives_pickling() -> None:
    refusal = RefusedValueError("no", ("[0]",), "args").within("[1]")
    assert str(pickle.loads(pickle.dumps(refusal))) == str(refusal) == "args[1][0]: no"


# Pickle


def test_pickle_warns_and_restores_nearly_everything() -> None:
    with pytest.warns(UnsafePickleWarning, match="Prefer the default serializer") as caught:
        serializer = UnsafePickleSerializer()
    assert caught[0].filename == __file__
    assert issubclass(UnsafePickleWarning, UserWarning)
    assert serializer.loadb(serializer.dumpb([Point(1), (1,)])) == [Point(1), (1,)]
    with pytest.raises(PayloadError, match="cannot be written as a pickle"):
        serializer.dumpb(lambda: None)
    with pytest.raises(PayloadError, match="cannot be read as a pickle"):
        serializer.loadb(b"junk")


# Optional libraries


def test_which_serializers_restore_types() -> None:
    assert not any(restores_types(serializer) for serializer in FORMATS)


@pytest.mark.parametrize(
    ("make", "library", "extra"),
    [
        (OrjsonSerializer, "orjson", "orjson"),
        (MsgpackSerializer, "msgpack", "msgpack"),
        (CBORSerializer, "cbor2", "cbor"),
    ],
)
def test_a_missing_library_is_named_at_construction(
    make: Callable[[], Any], library: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ImportError, match=rf"pip install 'jobify\[{extra}\]'") as missing:
        make()
    assert missing.value.name == library


def test_importing_the_packages_imports_no_optional_library() -> None:
    code = (
        "import sys, jobify.serializers, jobify.typeadapter\n"
        "print([name for name in ('orjson', 'msgpack', 'cbor2', 'pydantic', 'adaptix') if name in sys.modules])"
    )
    assert output("-c", code) == "[]\n"
