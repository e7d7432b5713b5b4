"""Checklist items 98-108: serializers and converters."""

from __future__ import annotations

import asyncio
import dataclasses
import importlib
import inspect
import sys
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from jobify import Jobify, serializers, typeadapter
from support import durable, output

CBOR = {
    "datetime_as_timestamp": False, "timezone": None, "value_sharing": False, "encoders": None, "default": None,
    "canonical": False, "date_as_datetime": False, "string_referencing": False, "indefinite_containers": False,
    "tag_hook": None, "object_hook": None, "semantic_decoders": None, "str_errors": "strict", "max_depth": 400,
    "allow_indefinite": True, "immutable": False,
}  # fmt: skip
MSGPACK = {
    "default": None, "use_bin_type": True, "strict_types": False, "datetime": False, "unicode_errors": None,
    "raw": False, "timestamp": 0, "strict_map_key": True, "use_list": True, "object_hook": None,
    "object_pairs_hook": None, "list_hook": None, "ext_hook": None, "max_str_len": -1, "max_bin_len": -1,
    "max_array_len": -1, "max_map_len": -1, "max_ext_len": -1,
}  # fmt: skip
PYDANTIC = {
    "config": None, "strict": None, "from_attributes": None, "by_alias": False, "exclude_none": False, "context": None,
}  # fmt: skip


def assert_options(kind: Callable[..., Any], expected: dict[str, Any]) -> None:
    parameters = inspect.signature(kind).parameters
    assert {name: p.default for name, p in parameters.items()} == expected
    assert all(p.kind is p.KEYWORD_ONLY for p in parameters.values())


def assert_round_trip(serializer: Any) -> None:
    data = {"a": [1, 2.5, None, True, "text"], "b": {}}
    written = serializer.dumpb(data)
    assert isinstance(written, bytes)
    assert serializer.loadb(written) == data


@pytest.mark.promise("item-98")
def test_cbor() -> None:
    assert_options(serializers.CBORSerializer, CBOR)
    assert_round_trip(serializers.CBORSerializer())
    assert_round_trip(serializers.CBORSerializer(**CBOR))  # type: ignore[arg-type]


@pytest.mark.promise("item-99")
def test_msgpack() -> None:
    assert_options(serializers.MsgpackSerializer, MSGPACK)
    assert_round_trip(serializers.MsgpackSerializer())
    assert_round_trip(serializers.MsgpackSerializer(**MSGPACK))  # type: ignore[arg-type]


@pytest.mark.promise("item-100")
def test_orjson() -> None:
    assert_options(serializers.OrjsonSerializer, {"default": None, "option": None})
    assert_round_trip(serializers.OrjsonSerializer())


@pytest.mark.promise("item-101")
def test_those_that_need_nothing() -> None:
    assert_round_trip(serializers.JSONSerializer())
    assert_round_trip(serializers.ExtendedJSONSerializer())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert_round_trip(serializers.UnsafePickleSerializer())


LIBRARIES = [
    ("cbor2", serializers.CBORSerializer),
    ("msgpack", serializers.MsgpackSerializer),
    ("orjson", serializers.OrjsonSerializer),
    ("pydantic", typeadapter.PydanticConverter),
]


@pytest.mark.promise("item-102", "item-108")
@pytest.mark.parametrize(("library", "kind"), LIBRARIES)
def test_a_missing_library(library: str, kind: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ImportError, match=library):
        kind()


@pytest.mark.promise("item-102")
def test_import_needs_no_optional_library() -> None:
    program = f"""
import sys
for name in {[library for library, _ in LIBRARIES]}:
    sys.modules[name] = None
import jobify.serializers, jobify.typeadapter
print(sorted(jobify.serializers.__all__))
"""
    assert "CBORSerializer" in output("-c", program)


@pytest.mark.promise("item-103")
def test_options_are_documented() -> None:
    for kind, options in ((serializers.CBORSerializer, CBOR), (serializers.MsgpackSerializer, MSGPACK)):
        for name in options:
            assert f"``{name}``" in (kind.__doc__ or ""), f"{kind.__name__}: {name}"


@pytest.mark.promise("item-103")
def test_options_reach_the_library() -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    assert serializers.MsgpackSerializer(datetime=True, timestamp=3).loadb(
        serializers.MsgpackSerializer(datetime=True, timestamp=3).dumpb(moment)
    ) == moment  # fmt: skip
    orjson = importlib.import_module("orjson")
    assert serializers.OrjsonSerializer(option=orjson.OPT_INDENT_2).dumpb({"a": 1}) == b'{\n  "a": 1\n}'
    sharing = serializers.CBORSerializer(string_referencing=True)
    assert len(sharing.dumpb(["long text"] * 9)) < len(serializers.CBORSerializer().dumpb(["long text"] * 9))


class Reverse:
    """A user's own serializer: no base class, only the two methods."""

    def dumpb(self, data: Any) -> bytes:
        return repr(data).encode()[::-1]

    def loadb(self, data: bytes) -> Any:
        return eval(data[::-1])


class Same:
    """A user's own dumper and loader."""

    def dump(self, data: Any, tp: Any) -> Any:
        return data

    def load(self, data: Any, tp: Any) -> Any:
        return data


@pytest.mark.promise("item-104")
def test_protocols() -> None:
    for protocol in (serializers.Serializer, typeadapter.Dumper, typeadapter.Loader):
        assert getattr(protocol, "_is_protocol", False)


def run_restored(tmp_path: Path, annotation: Any, value: Any, **options: Any) -> Any:
    """``value`` as a task gets it after a restart."""
    seen: list[Any] = []

    async def life(schedule: bool) -> None:
        app = Jobify(storage=durable(tmp_path), **options)

        async def take(value: Any) -> None:
            seen.append(value)

        take.__annotations__["value"] = annotation
        task = app.task(take, name="take")
        async with app:
            if schedule:
                await task.schedule(value).delay(0.05)
            else:
                await app.wait_all(5)

    asyncio.run(life(schedule=True))
    asyncio.run(life(schedule=False))
    return seen[0]


@pytest.mark.promise("item-104")
def test_a_users_own_classes(tmp_path: Path) -> None:
    own = {"serializer": Reverse(), "dumper": Same(), "loader": Same()}
    assert run_restored(tmp_path, dict[str, int], {"a": 1}, **own) == {"a": 1}


class Colour(Enum):
    RED = "red"


@dataclasses.dataclass
class Point:
    x: int
    at: datetime
    colour: Colour = Colour.RED


class Model(BaseModel):
    point: Point
    name: str = "n"


MODEL = Model(point=Point(1, datetime(2026, 1, 1, tzinfo=UTC)))


@pytest.mark.promise("item-105")
def test_pydantic_converter() -> None:
    assert_options(typeadapter.PydanticConverter, PYDANTIC)
    converter = typeadapter.PydanticConverter()
    assert isinstance(converter, typeadapter.Dumper)
    assert isinstance(converter, typeadapter.Loader)


@pytest.mark.promise("item-106")
def test_dump() -> None:
    dumped = typeadapter.PydanticConverter().dump(MODEL, Model)
    assert dumped == {"point": {"x": 1, "at": "2026-01-01T00:00:00Z", "colour": "red"}, "name": "n"}


@pytest.mark.promise("item-107")
def test_load() -> None:
    converter = typeadapter.PydanticConverter()
    assert converter.load(converter.dump(MODEL, Model), Model) == MODEL
    assert converter.load("5", int) == 5
    with pytest.raises(ValueError):
        converter.load("five", int)


@pytest.mark.promise("item-105")
def test_in_an_app(tmp_path: Path) -> None:
    converter = typeadapter.PydanticConverter()
    for number, serializer in enumerate((None, serializers.OrjsonSerializer(), serializers.MsgpackSerializer())):
        folder = tmp_path / str(number)
        folder.mkdir()
        found = run_restored(folder, list[Model], [MODEL], dumper=converter, loader=converter, serializer=serializer)
        assert found == [MODEL]
