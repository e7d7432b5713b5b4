"""Calls and results as bytes: every shape of a call, with and without converters (B5, B6, B34)."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import Enum, StrEnum
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, get_type_hints
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from adaptix import Retort

from jobify.exceptions import ConfigurationError, PayloadError
from jobify.serializers import (
    CBORSerializer,
    ExtendedJSONSerializer,
    JSONSerializer,
    MsgpackSerializer,
    OrjsonSerializer,
    UnsafePickleSerializer,
    UnsafePickleWarning,
)
from jobify.serializers.codec import UNTYPED, Codec, ParameterTypes, parameter_types
from jobify.typeadapter import NativeConverter, PassThrough, PydanticConverter
from support import label


class Color(StrEnum):
    RED = "red"


class Mixed(Enum):
    A = 1
    B = "b"


@dataclass
class Point:
    x: int
    at: tuple[int, ...] = ()


@dataclass
class Message:
    """Named like something internal (B5)."""

    points: list[Point]
    color: Color | None = None


class Pair(NamedTuple):
    left: int
    right: str


def types_of(function: Callable[..., Any]) -> ParameterTypes:
    return parameter_types(inspect.signature(function), get_type_hints(function))


def pickling() -> UnsafePickleSerializer:
    with pytest.warns(UnsafePickleWarning):
        return UnsafePickleSerializer()


def every_shape(a: int, /, b: Point, *rest: Point, c: Color = Color.RED, **others: Message) -> list[Point]:
    raise NotImplementedError


ARGS = (1, Point(1, (2, 3)), Point(2), Point(3))
KWARGS: dict[str, Any] = {"c": Color.RED, "a": Message([Point(4)]), "kwargs": Message([], Color.RED)}

CODECS: dict[str, Callable[[], Codec]] = {
    "default": Codec,
    "extended": lambda: Codec(ExtendedJSONSerializer()),
    "json": lambda: Codec(JSONSerializer()),
    "orjson": lambda: Codec(OrjsonSerializer()),
    "msgpack": lambda: Codec(MsgpackSerializer()),
    "cbor": lambda: Codec(CBORSerializer()),
    "pickle": lambda: Codec(pickling()),
    "default + pydantic": lambda: Codec(None, PydanticConverter(), PydanticConverter()),
    "default + adaptix": lambda: Codec(dumper=Retort(), loader=Retort()),
    "adaptix given once": lambda: Codec(OrjsonSerializer(), loader=Retort()),
    "json + pydantic": lambda: Codec(JSONSerializer(), PydanticConverter(), PydanticConverter()),
    "orjson + pydantic": lambda: Codec(OrjsonSerializer(), PydanticConverter(), PydanticConverter()),
    "msgpack + pydantic": lambda: Codec(MsgpackSerializer(), PydanticConverter(), PydanticConverter()),
    "cbor + pydantic": lambda: Codec(CBORSerializer(), PydanticConverter(), PydanticConverter()),
    "msgpack + adaptix": lambda: Codec(MsgpackSerializer(), Retort(), Retort()),
    "extended + pydantic": lambda: Codec(ExtendedJSONSerializer(), PydanticConverter(), PydanticConverter()),
    "pickle + adaptix": lambda: Codec(pickling(), Retort(), Retort()),
    "msgpack of raw bytes": lambda: Codec(MsgpackSerializer(raw=True, use_list=False)),
    "immutable cbor": lambda: Codec(CBORSerializer(immutable=True)),
}


@pytest.fixture(params=[name for name in CODECS if name not in ("msgpack of raw bytes", "immutable cbor")])
def codec(request: pytest.FixtureRequest) -> Codec:
    return CODECS[request.param]()


def test_every_shape_of_a_call_is_restored(codec: Codec) -> None:
    types = types_of(every_shape)
    args, kwargs = codec.decode_call(codec.encode_call(ARGS, KWARGS, types), types)
    assert (args, kwargs) == (ARGS, KWARGS)
    assert list(map(type, args)) == list(map(type, ARGS))
    assert type(kwargs["c"]) is Color


def test_a_result_is_restored(codec: Codec) -> None:
    assert codec.decode_result(codec.encode_result([Point(1)], list[Point]), list[Point]) == [Point(1)]
    assert codec.decode_result(codec.encode_result(None, type(None)), type(None)) is None
    assert codec.decode_result(codec.encode_result({"a": [1]})) == {"a": [1]}


@pytest.mark.parametrize("make", CODECS.values(), ids=CODECS)
def test_the_envelope_is_never_the_reason_of_a_refusal(make: Callable[[], Codec]) -> None:
    codec = make()
    assert codec.decode_call(codec.encode_call((), {})) == ((), {})
    assert codec.decode_call(codec.encode_call((1, None), {"a": True})) == ((1, None), {"a": True})


def test_the_default_restores_without_annotations() -> None:
    codec = Codec()
    args: tuple[Any, ...] = ((1, 2), {1: "a"}, {"__tuple__": "ab"}, [Point(1)], {"k": Color.RED}, Mixed.B)
    assert codec.decode_call(codec.encode_call(args, {"args": (), "self": {1}})) == (args, {"args": (), "self": {1}})


def test_a_stored_call_is_readable() -> None:
    assert Codec().encode_call((1, "a"), {"to": [None]}) == b'[[1,"a"],{"to":[null]}]'
    row = json.loads(Codec(JSONSerializer()).encode_call((Point(1, (2,)),), {}, types_of(lambda_with(Point))))
    assert row == [[{"x": 1, "at": [2]}], {}]


def lambda_with(annotation: Any) -> Callable[..., Any]:
    def task(value):
        raise NotImplementedError

    task.__annotations__ = {"value": annotation}
    return task


# A plain serializer alone: restored or refused, never changed

RESTORED: list[tuple[Any, Any]] = [
    ((1, "a"), tuple[int, str]),
    ({1: "a"}, dict[int, str]),
    ({Color.RED: {1}}, dict[Color, set[int]]),
    (b"\xff", bytes),
    (datetime(2026, 1, 1, tzinfo=UTC), datetime),
    (date(2026, 1, 1), date | None),
    (UUID(int=1), UUID),
    (Path("a"), Path),
    (1 + 2j, complex),
    ([Point(1)], list[Point]),
    (None, Point | None),
    (Pair(1, "x"), Pair),
    (1.0, float),
    ([1, "a"], list),
    ({"a": 1}, dict[str, Any]),
    ([1], TypeVar("T")),
    (3, object),
    (3, "Unknown"),
]

TYPES_REFUSED: list[tuple[Any, Any, str]] = [
    ((1, 2), Any, r"args\[0\]: a tuple would not come back from JSON"),
    ({"a": [{1: 2}]}, Any, r"args\[0\]\['a'\]\[0\]: the key 1"),
    ((1, 2), list, r"args\[0\]: a tuple would come back as a list\. Pass a value of the annotated type"),
    ([Point(1, [1])], list[Point], r"args\[0\]\[0\]\.at: a list would come back as a tuple"),
    ([1], tuple[int, ...], r"args\[0\]: a list would come back as a tuple"),
    ("2026-01-01", date, r"args\[0\]: a str would come back as a date"),
    ("1", int, r"args\[0\]: cannot be stored as <class 'int'>"),
    (object(), int, "cannot be taken apart"),
    (Point(1), int, "Expected `int`"),
    (Mixed.A, Mixed, r"args\[0\]: a Mixed would not come back from JSON"),
    (datetime(2026, 1, 1, tzinfo=ZoneInfo("Europe/Berlin")), datetime, r"args\[0\]: datetime"),
    (float("nan"), float, r"args\[0\]: nan"),
    (Path("a"), complex, "cannot be stored as"),
]


@pytest.mark.parametrize(("value", "annotation"), RESTORED, ids=label)
def test_an_annotation_brings_a_value_back(value: Any, annotation: Any) -> None:
    codec, types = Codec(JSONSerializer()), ParameterTypes(positional=(annotation,))
    (back,), _ = codec.decode_call(codec.encode_call((value,), {}, types), types)
    assert back == value
    assert type(back) is type(value)


@pytest.mark.parametrize(("value", "annotation", "message"), TYPES_REFUSED, ids=label)
def test_what_an_annotation_would_change_is_refused(value: Any, annotation: Any, message: str) -> None:
    with pytest.raises(PayloadError, match=message):
        Codec(JSONSerializer()).encode_call((value,), {}, ParameterTypes(positional=(annotation,)))


def test_an_int_is_good_enough_for_a_float() -> None:
    codec = Codec(JSONSerializer())
    assert codec.decode_result(codec.encode_result(1, float), float) == 1


# Which argument


def test_a_refusal_names_the_argument() -> None:
    bad = object()
    for call, place in [(((0, [bad]), {}), "args[1][0]"), (((), {"to": [bad]}), "kwargs['to'][0]")]:
        with pytest.raises(PayloadError) as refused:
            Codec().encode_call(*call)
        assert str(refused.value).startswith(f"{place}: a builtins:object cannot be restored")
    with pytest.raises(PayloadError, match=r"^result\['a'\]: "):
        Codec().encode_result({"a": bad})
    with pytest.raises(PayloadError, match=r"^kwargs\['n'\]: cannot be stored as"):
        Codec(JSONSerializer()).encode_call((), {"n": "x"}, ParameterTypes(named={"n": int}))


def test_what_does_not_fit_its_annotation_any_more_is_named() -> None:
    codec = Codec(JSONSerializer())
    with pytest.raises(PayloadError, match=r"^args\[0\]: cannot be restored as <class 'int'>"):
        codec.decode_call(b'[["x"],{}]', ParameterTypes(positional=(int,)))
    with pytest.raises(PayloadError, match=r"^result: cannot be restored"):
        Codec(dumper=PydanticConverter()).decode_result(b'"x"', int)


@pytest.mark.parametrize(
    "row", [b"", b"{}", b"[1]", b"[1,2]", b"[[],[]]", b"[{},{}]", b'["ab",{}]', b"null", b"[[],{},[]]", b"\xff"]
)
def test_a_row_that_is_no_call_is_a_payload_error(row: bytes) -> None:
    for codec in (Codec(), Codec(JSONSerializer()), Codec(MsgpackSerializer(strict_map_key=False))):
        with pytest.raises(PayloadError):
            codec.decode_call(row)


def test_names_that_are_not_text_are_a_payload_error() -> None:
    codec = Codec(pickling())
    with pytest.raises(PayloadError, match="holds no call"):
        codec.decode_call(codec.serializer.dumpb([[], {1: 2}]))


# A serializer and converters of one's own


class Own:
    def __init__(self, error: Exception | None = None) -> None:
        self.error = error

    def dumpb(self, data: Any) -> bytes:
        if self.error:
            raise self.error
        return json.dumps(data).encode()

    def loadb(self, data: bytes) -> Any:
        if self.error:
            raise self.error
        return json.loads(data)


def test_an_own_serializer_is_taken_for_plain_and_works_alone() -> None:
    codec, types = Codec(Own()), types_of(every_shape)
    assert isinstance(codec.dumper, NativeConverter)
    assert codec.decode_call(codec.encode_call(ARGS, KWARGS, types), types) == (ARGS, KWARGS)


def test_an_own_serializer_may_declare_that_it_restores_types() -> None:
    class Declared(Own):
        restores_types = True

    codec = Codec(Declared())
    assert isinstance(codec.dumper, PassThrough)
    assert codec.dumper.load(codec.dumper.dump(1, str), str) == 1
    assert codec.encode_call(((1,),), {}, ParameterTypes(positional=(tuple[int],))) == b"[[[1]], {}]"


def test_whatever_a_serializer_raises_is_a_payload_error() -> None:
    codec = Codec(Own(KeyError("boom")))
    with pytest.raises(PayloadError, match="Own cannot write the value: 'boom'") as writing:
        codec.encode_call((), {})
    with pytest.raises(PayloadError, match="Own cannot read the stored bytes: 'boom'") as reading:
        codec.decode_call(b"")
    assert isinstance(writing.value.__cause__, KeyError)
    assert isinstance(reading.value.__cause__, KeyError)
    with pytest.raises(PayloadError, match=r"^as it is$"):
        Codec(Own(PayloadError("as it is"))).encode_result(1)


def test_converters_see_annotated_values_only() -> None:
    seen: list[Any] = []

    class Spy:
        def dump(self, data: Any, tp: Any) -> Any:
            seen.append(("dump", data, tp))
            return {"a": ("x",)}

    class Undo:
        def load(self, data: Any, tp: Any) -> Any:
            seen.append(("load", data, tp))
            return 1

    codec, types = Codec(dumper=Spy(), loader=Undo()), ParameterTypes(positional=(int, Any))
    assert codec.decode_call(codec.encode_call((1, 2), {"b": 3}, types), types) == ((1, 2), {"b": 3})
    assert seen == [("dump", 1, int), ("load", {"a": ["x"]}, int)]


def test_half_a_converter_is_completed() -> None:
    class OnlyDumps:
        def dump(self, data: Any, tp: Any) -> Any:
            return data

    retort = Retort()
    assert Codec(dumper=retort).loader is retort
    assert Codec(loader=retort).dumper is retort
    assert isinstance(Codec(dumper=OnlyDumps()).loader, NativeConverter)
    assert isinstance(Codec(ExtendedJSONSerializer(), dumper=OnlyDumps()).loader, NativeConverter)


@pytest.mark.promise("rule-17")
def test_the_default_serializer_follows_from_the_converters() -> None:
    assert isinstance(Codec().serializer, ExtendedJSONSerializer)
    assert isinstance(Codec(dumper=Retort(), loader=Retort()).serializer, JSONSerializer)


@pytest.mark.parametrize(
    ("parts", "lacks"),
    [
        ({"serializer": object()}, r"the serializer: it lacks dumpb\(data\) and loadb\(data\)"),
        ({"dumper": object()}, r"the dumper: it lacks dump\(data, tp\)"),
        ({"loader": object()}, r"the loader: it lacks load\(data, tp\)"),
    ],
)
def test_a_part_that_lacks_a_method_is_refused(parts: dict[str, Any], lacks: str) -> None:
    with pytest.raises(ConfigurationError, match=lacks):
        Codec(**parts)


# The plan of types


def test_types_follow_the_kinds_of_parameters() -> None:
    types = types_of(every_shape)
    assert [types.at(index) for index in range(4)] == [int, Point, Point, Point]
    assert [types.of(name) for name in ("b", "c", "a", "anything")] == [Point, Color, Message, Message]


def test_what_is_not_annotated_has_no_type() -> None:
    types = parameter_types(inspect.signature(every_shape), {"b": Point})
    assert [types.at(index) for index in range(3)] == [Any, Point, Any]
    assert [types.of(name) for name in ("b", "c", "other")] == [Point, Any, Any]
    assert (UNTYPED.at(0), UNTYPED.of("x")) == (Any, Any)
