"""The calls of a task whose function takes a list, and the elements that are made of them."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Sequence
from dataclasses import InitVar, dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Generic, NamedTuple, NotRequired, TypedDict, TypeVar

import msgspec
import pydantic
import pytest

from jobify import INJECT, ConfigurationError, JobContext
from jobify.model.element_signature import Call, element_of

if TYPE_CHECKING:
    from somewhere import Unknown  # type: ignore[import-not-found]

T = TypeVar("T")


@dataclass
class Row:
    table: str
    values: list[int] = field(default_factory=list)
    scale: InitVar[int] = 1
    label: str = field(kw_only=True, default="x")
    made: bool = field(init=False, default=True)

    def __post_init__(self, scale: int) -> None:
        self.values = [value * scale for value in self.values]


class Packed(msgspec.Struct):
    table: str
    count: int = 0


class Model(pydantic.BaseModel):
    count: Annotated[int, pydantic.Field(ge=0)] = 0
    table: str = pydantic.Field(alias="t")


class Open(pydantic.BaseModel, extra="allow"):
    table: str


class Pair(NamedTuple):
    table: str
    number: int = 1


class Keys(TypedDict):
    table: str
    count: NotRequired[int]


@dataclass
class Box(Generic[T]):
    value: T


@dataclass
class Partly:
    known: int
    unknown: Unknown


def rows(rows: list[Row]) -> None: ...
def packed(rows: list[Packed]) -> None: ...
def models(rows: list[Model]) -> None: ...
def opens(rows: list[Open]) -> None: ...
def pairs(rows: Sequence[Pair]) -> None: ...
def keys(rows: Annotated[list[Keys], "of a page"]) -> None: ...
def boxes(rows: list[Box[int]]) -> None: ...
def calls(rows: list[Call]) -> None: ...
def partly(rows: list[Partly]) -> None: ...


@pytest.mark.parametrize(
    ("func", "signature"),
    [
        (rows, "(table: 'str', values: 'list[int]' = None, scale: 'InitVar[int]' = 1, *, label: 'str' = 'x') -> None"),
        (packed, "(table: str, count: int = 0)"),
        (keys, "(table, count=None)"),
        (calls, "(*args, **kwargs)"),
    ],
)
def test_a_call_takes_the_fields_of_the_element(func: Callable[..., Any], signature: str) -> None:
    assert str(element_of(func, task="load").signature) == signature


@pytest.mark.parametrize(
    ("func", "args", "kwargs", "element"),
    [
        (rows, ("a",), {"values": [2], "scale": 3, "label": "y"}, Row("a", [6], label="y")),
        (rows, ("a",), {}, Row("a")),
        (packed, (), {"table": "a"}, Packed("a")),
        (models, (2,), {"t": "a"}, Model(count=2, t="a")),
        (opens, ("a",), {"more": 1}, Open.model_validate({"table": "a", "more": 1})),
        (pairs, ("a", 2), {}, Pair("a", 2)),
        (keys, ("a",), {}, {"table": "a"}),
        (keys, (), {"table": "a", "count": 3}, {"table": "a", "count": 3}),
        (boxes, (1,), {}, Box(1)),
        (calls, (1,), {"b": 2}, Call(args=(1,), kwargs={"b": 2}, id="id", attempt=2)),
    ],
)
def test_an_element_is_made_of_a_call(
    func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], element: Any
) -> None:
    assert element_of(func, task="load").build(args, kwargs, id="id", attempt=2) == element


def test_defaults_are_those_of_the_time_when_it_is_made() -> None:
    made = element_of(rows, task="load")
    first, second = made.build(("a",), {}, id="1"), made.build(("a",), {}, id="2")
    assert first.values is not second.values


def test_the_types_are_those_of_the_fields() -> None:
    types = element_of(rows, task="load").type_params
    assert types == {"table": str, "values": list[int], "scale": int, "label": str}
    assert element_of(keys, task="load").type_params == {"table": str, "count": int}
    assert element_of(pairs, task="load").type_params == {"table": str, "number": int}


def test_a_field_that_only_type_checkers_know_has_no_type() -> None:
    assert element_of(partly, task="load").type_params == {"known": int}


def test_a_model_checks_its_values_when_it_is_made() -> None:
    with pytest.raises(pydantic.ValidationError):
        element_of(models, task="load").build((-1,), {"t": "a"}, id="id")


def test_fields_that_must_be_given_after_others_are_given_by_name() -> None:
    kinds = {key: each.kind for key, each in element_of(models, task="load").signature.parameters.items()}
    assert kinds == {"count": inspect.Parameter.POSITIONAL_OR_KEYWORD, "t": inspect.Parameter.KEYWORD_ONLY}


def test_the_spec_refuses_a_call_that_does_not_fit() -> None:
    spec = element_of(rows, task="load").spec("load", int)
    assert spec.result_type is int
    assert spec.bind(("a",), {}).arguments == {"table": "a"}
    with pytest.raises(TypeError, match=r"load\(\) got an unexpected keyword argument 'tabel'"):
        spec.check("a", tabel="b")


def test_parameters_that_need_no_value_may_follow() -> None:
    def load(rows: list[Row], limit: int = 3, *, ctx: JobContext = INJECT) -> None: ...

    assert element_of(load, task="load").parameter == "rows"


def no_parameter() -> None: ...
def two_required(rows: list[Row], target: str) -> None: ...
def not_first(limit: int = 3, *, rows: list[Row]) -> None: ...
def no_list(row: Row) -> None: ...
def bare_list(rows: list) -> None: ...  # type: ignore[type-arg]
def no_annotation(rows) -> None: ...  # type: ignore[no-untyped-def]
def no_fields(rows: list[int]) -> None: ...
def no_names(rows: list[TypedDict("Odd", {"in": int})]) -> None: ...  # type: ignore[valid-type]


@pytest.mark.parametrize(
    ("func", "message"),
    [
        (no_parameter, "it takes none"),
        (two_required, "rows, target have to be given"),
        (not_first, "it takes none"),
        (no_list, r"Write `row: list\[Row\]`"),
        (bare_list, r"Write `rows: list\[Row\]`"),
        (no_annotation, r"`rows: list\[Call\]`"),
        (no_fields, "it has no fields"),
        (no_names, "not a valid parameter name"),
    ],
)
def test_a_function_that_takes_no_list_of_them_is_refused(func: Callable[..., Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        element_of(func, task="load")


def test_a_call_can_be_copied() -> None:
    call = Call(args=(1,), id="a")
    assert dataclasses.replace(call, attempt=2) == Call(args=(1,), id="a", attempt=2)
