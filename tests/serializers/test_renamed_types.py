"""``renamed_types``: stored values and options that name classes by earlier names."""

from __future__ import annotations

import dataclasses
import enum
import json
import pickle
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pydantic
import pytest

from jobify import Jobify, SmartRetry
from jobify.exceptions import ConfigurationError, PayloadError
from jobify.model.job_options import ParentResults, read_options
from jobify.serializers import ExtendedJSONSerializer, JSONSerializer, Serializer, UnsafePickleSerializer
from jobify.serializers.renamed import checked_renamed_types, with_renamed_types


@dataclasses.dataclass
class Order:
    number: int


class Color(enum.Enum):
    RED = "red"


class Pair(NamedTuple):
    left: int


class Parcel(msgspec.Struct):
    weight: int


class Model(pydantic.BaseModel):
    name: str


class CarrierError(Exception):
    pass


class Outer:
    @dataclasses.dataclass
    class Inner:
        x: int


def renaming(types: dict[Any, Any], serializer: Serializer | None = None) -> Serializer:
    return with_renamed_types(serializer or ExtendedJSONSerializer(), checked_renamed_types(types))


def pickling() -> UnsafePickleSerializer:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return UnsafePickleSerializer()


VALUES = [Order(1), Color.RED, Pair(2), Parcel(3), Model(name="ann"), Outer.Inner(4)]


@pytest.mark.promise("f34")
@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_every_kind_of_class_is_found_by_its_earlier_name(value: Any) -> None:
    now = ExtendedJSONSerializer().dumpb([value])
    row = json.loads(now)
    row[0]["t"] = "old_shop.models:Thing"
    old = json.dumps(row).encode()
    with pytest.raises(PayloadError, match="old_shop"):
        ExtendedJSONSerializer().loadb(old)
    serializer = renaming({"old_shop.models:Thing": type(value)})
    assert serializer.loadb(old) == [value]
    assert serializer.loadb(now) == [value]
    assert serializer.dumpb([value]) == now, "what is written has the new name"


@pytest.mark.promise("f34")
def test_a_name_may_be_written_with_a_dot() -> None:
    assert checked_renamed_types({"a.b.Order": Order}) == {"a.b:Order": Order}
    assert checked_renamed_types({"a.b:Outer.Inner": Outer.Inner}) == {"a.b:Outer.Inner": Outer.Inner}
    assert checked_renamed_types(None) == {}


@pytest.mark.promise("f34")
def test_pickles_are_found_by_their_earlier_name() -> None:
    old = (
        pickle.dumps(Order(1), protocol=0)
        .replace(b"test_renamed_types", b"old_shop.models")
        .replace(b"Order", b"Thing")
    )
    with pytest.raises(PayloadError):
        pickling().loadb(old)
    serializer = renaming({"old_shop.models:Thing": Order}, pickling())
    assert serializer.loadb(old) == Order(1)
    assert serializer.loadb(serializer.dumpb({"a": Color.RED})) == {"a": Color.RED}


@pytest.mark.promise("f34")
def test_a_serializer_that_names_no_classes_is_left_alone() -> None:
    serializer = JSONSerializer()
    assert renaming({"a:Order": Order}, serializer) is serializer


@pytest.mark.promise("f34")
def test_registered_types_and_modules_stay() -> None:
    serializer = renaming({"a:Thing": Order}, ExtendedJSONSerializer([Color], modules=["decimal"]))
    assert isinstance(serializer, ExtendedJSONSerializer)
    assert [name for name, _ in serializer.known_types()] == ["test_renamed_types:Color", "a:Thing", "decimal"]


@pytest.mark.promise("f34")
def test_the_retry_of_a_job_finds_its_exceptions() -> None:
    options = read_options('{"retry":{"retries":1,"include":["old_shop:CarrierError"]}}')
    with pytest.raises(PayloadError, match="old_shop"):
        options.policy()
    policy = options.policy({"old_shop:CarrierError": CarrierError})
    assert isinstance(policy, SmartRetry)
    assert policy.include_exceptions == (CarrierError,)


def test_the_options_of_a_row_keep_their_stored_names() -> None:
    text = '{"inputs":{"is_list":true,"count":2},"asked":"0a1b"}'
    options = read_options(text)
    assert (options.request_digest, options.inputs) == ("0a1b", ParentResults(is_list=True, count=2))
    assert options.text() == text


@pytest.mark.promise("f34")
@pytest.mark.parametrize(
    ("given", "what"),
    [
        ([("a:B", Order)], "must be a dict"),
        ("a:B", "must be a dict"),
        ({Order: Order}, "where its earlier name belongs"),
        ({"Order": Order}, "no name of a class"),
        ({"a:": Order}, "no name of a class"),
        ({":B": Order}, "no name of a class"),
        ({"a b:C": Order}, "no name of a class"),
        ({1: Order}, "no name of a class"),
        ({"a:B": Order(1)}, "must be the class that there is now"),
        ({"a:B": "b:B"}, "must be the class that there is now"),
        ({"test_renamed_types:Order": Order}, "the name that this class has now"),
        ({"test_renamed_types:Color": Order}, "still is a"),
        ({"a:B": Order, "a.B": Color}, "twice"),
        ({"a:B": Path}, "no value of that class is ever stored"),
        ({"a:B": object}, "no value of that class is ever stored"),
    ],
)
def test_what_cannot_work_is_refused_where_it_is_written(given: Any, what: str) -> None:
    with pytest.raises(ConfigurationError, match=what):
        Jobify(storage=False, renamed_types=given)


@pytest.mark.promise("f34")
def test_an_exception_and_an_alias_that_still_is_there_are_taken() -> None:
    app = Jobify(storage=False, renamed_types={"a:Error": CarrierError, "a:Order": Order})
    assert app.configs.renamed_types == {"a:Error": CarrierError, "a:Order": Order}
    globals()["Commission"] = Order
    try:
        assert checked_renamed_types({"test_renamed_types:Commission": Order})
    finally:
        del globals()["Commission"]
