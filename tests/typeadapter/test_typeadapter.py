"""Converters: the native one, pydantic's, adaptix's (items 105 to 108)."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict
from uuid import UUID
from zoneinfo import ZoneInfo

import pydantic
import pytest
from adaptix import Retort

import jobify.typeadapter.base as pydantic_module
from jobify.exceptions import PayloadError
from jobify.typeadapter import Dumper, Loader, NativeConverter, PassThrough, PydanticConverter


class Color(Enum):
    RED = "red"


class Row(TypedDict):
    id: int
    when: datetime


@dataclass
class Point:
    x: int
    y: tuple[int, ...] = ()
    names: set[str] = field(default_factory=set)


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    number: int = pydantic.Field(alias="n")
    note: str | None = None

    @pydantic.computed_field
    @property
    def double(self) -> int:
        return self.number * 2


class StrictModel(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True)

    when: datetime
    color: Color


VALUES: list[tuple[Any, Any]] = [
    (1, int),
    ("x", str | None),
    (Color.RED, Color),
    (Point(1, (2, 3), {"a"}), Point),
    ([Point(1)], list[Point]),
    ({date(2026, 1, 1): Decimal("1.10")}, dict[date, Decimal]),
    (UUID(int=1), UUID),
    ("a", Literal["a", "b"]),
    (3, Annotated[int, "unit"]),
    (Path("a"), Path),
]


@pytest.mark.parametrize(
    "converter", [NativeConverter(), PydanticConverter(), Retort()], ids=lambda it: type(it).__name__
)
@pytest.mark.parametrize(("value", "tp"), VALUES, ids=repr)
def test_values_are_converted_and_back(converter: Any, value: Any, tp: Any) -> None:
    assert isinstance(converter, Dumper)
    assert isinstance(converter, Loader)
    back = converter.load(converter.dump(value, tp), tp)
    assert back == value
    assert type(back) is type(value)


def test_pass_through_hands_on_what_it_is_given() -> None:
    value = object()
    assert PassThrough().dump(value, int) is PassThrough().load(value, int) is value


# Native


@pytest.mark.parametrize(
    ("value", "tp"), [(Fraction(1, 3), Fraction), (ZoneInfo("Asia/Tokyo"), ZoneInfo), (1j, complex)]
)
def test_native_knows_some_types_that_msgspec_does_not(value: Any, tp: Any) -> None:
    dumped = NativeConverter().dump([value], list[tp])
    assert dumped == [str(value)]
    assert NativeConverter().load(dumped, list[tp]) == [value]


@pytest.mark.parametrize("tp", [object, Point | Row | Model, "Forward", Model, Annotated[object, []]], ids=repr)
def test_native_hands_on_what_it_does_not_understand(tp: Any) -> None:
    value = object()
    assert NativeConverter().dump(value, tp) is NativeConverter().load(value, tp) is value


def test_native_knows_typed_dicts() -> None:
    row = {"id": 1, "when": datetime(2026, 1, 1)}
    dumped = NativeConverter().dump(row, Row)
    assert dumped == {"id": 1, "when": "2026-01-01T00:00:00"}
    assert NativeConverter().load(dumped, Row) == row


def test_native_coerces_nothing() -> None:
    with pytest.raises(PayloadError, match="does not fit its annotation <class 'int'>"):
        NativeConverter().load("1", int)
    with pytest.raises(PayloadError, match="expected the text of a complex"):
        NativeConverter().load(1, complex)
    with pytest.raises(PayloadError, match="object is not plain data"):
        NativeConverter().dump([object()], list[int])


def test_native_takes_unhashable_metadata() -> None:
    assert NativeConverter().load("a", Annotated[Path, []]) == Path("a")


# pydantic


def test_pydantic_coerces_unless_told_not_to() -> None:
    assert PydanticConverter().load("1", int) == 1
    with pytest.raises(pydantic.ValidationError):
        PydanticConverter(strict=True).load("1", int)


def test_what_is_not_of_the_type_is_coerced_or_refused_when_it_is_dumped() -> None:
    assert PydanticConverter().dump("1", int) == 1
    assert PydanticConverter().dump({"x": "2"}, Point) == {"x": 2, "y": [], "names": []}
    with pytest.raises(pydantic.ValidationError):
        PydanticConverter().dump("one", int)
    with pytest.raises(pydantic.ValidationError):
        PydanticConverter(strict=True).dump("1", int)


def test_strict_still_reads_what_it_dumped() -> None:
    converter = PydanticConverter(strict=True)
    for value, tp in [*VALUES[:8], (StrictModel(when=datetime(2026, 1, 1), color=Color.RED), StrictModel)]:
        assert converter.load(converter.dump(value, tp), tp) == value
    assert PydanticConverter().load({"when": "2026-01-01T00:00:00", "color": "red"}, StrictModel).color is Color.RED


def test_names_aliases_and_computed_fields() -> None:
    model = Model(n=2)
    assert PydanticConverter().dump(model, Model) == {"number": 2, "note": None}
    assert PydanticConverter(by_alias=True, exclude_none=True).dump(model, Model) == {"n": 2}
    for converter in (PydanticConverter(), PydanticConverter(by_alias=True)):
        assert converter.load(converter.dump(model, Model), Model) == model


def test_older_pydantic_knows_aliases_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pydantic, "VERSION", "2.10.6")
    with pytest.raises(pydantic.ValidationError):
        PydanticConverter().load({"number": 2}, Model)
    assert PydanticConverter().load({"n": 2}, Model) == Model(n=2)


def test_from_attributes_and_instances() -> None:
    class Source:
        n = 3

    assert PydanticConverter(from_attributes=True).load(Source(), Model) == Model(n=3)
    model = Model(n=1)
    assert PydanticConverter().load(model, Model) == model
    assert PydanticConverter().load(float("inf"), float) == float("inf")


def test_config_is_for_types_that_have_none() -> None:
    converter = PydanticConverter(config=pydantic.ConfigDict(str_to_lower=True))
    assert converter.load(["A"], list[str]) == ["a"]
    assert converter.load({"n": 1, "note": "A"}, Model).note == "A"
    with pytest.raises(pydantic.PydanticUserError):
        converter.dump(converter, PydanticConverter)


def test_context_reaches_validators_and_serializers() -> None:
    seen: list[Any] = []

    def validate(value: int, info: pydantic.ValidationInfo) -> int:
        seen.append(info.context)
        return value

    def serialize(value: int, info: pydantic.SerializationInfo) -> int:
        seen.append(info.context)
        return value

    tp = Annotated[int, pydantic.AfterValidator(validate), pydantic.PlainSerializer(serialize)]
    converter = PydanticConverter(context={"who": "me"})
    converter.load(converter.dump(1, tp), tp)
    assert seen == [{"who": "me"}] * 2


def test_adapters_are_made_once_per_type(monkeypatch: pytest.MonkeyPatch) -> None:
    converter, made = PydanticConverter(), []
    make = converter._make
    monkeypatch.setattr(converter, "_make", lambda tp, **options: made.append(tp) or make(tp, **options))
    for tp in (int, int, Annotated[int, []], Annotated[int, []]):
        converter.dump(1, tp)
    assert made == [int, Annotated[int, []], Annotated[int, []]]


def test_missing_pydantic_is_named_at_construction(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydantic", None)
    assert pydantic_module.PydanticConverter
    with pytest.raises(ImportError, match=r"pip install 'jobify\[pydantic\]'") as missing:
        PydanticConverter()
    assert missing.value.name == "pydantic"
