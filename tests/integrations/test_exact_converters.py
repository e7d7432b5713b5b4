"""What a converter brings back equals what was given, or the call is refused: story F30."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum, StrEnum
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar
from zoneinfo import ZoneInfo

import msgspec
import pydantic
import pytest
from adaptix import Retort
from pydantic import BaseModel, ConfigDict, Field, Json, PrivateAttr, SecretBytes, SecretStr
from typing_extensions import TypedDict

from jobify import Jobify, current_job
from jobify.canvas import chain
from jobify.exceptions import PayloadError
from jobify.serializers import JSONSerializer, MsgpackSerializer, OrjsonSerializer
from jobify.serializers.codec import Codec, ParameterTypes
from jobify.typeadapter import NativeConverter, PydanticConverter
from support import PATIENCE, durable, soon

pytestmark = pytest.mark.promise("f30")

ItemT = TypeVar("ItemT")


class Login(BaseModel):
    user: str
    password: SecretStr


class Event(BaseModel):
    name: str


class Order(Event):
    amount: int = 0


class Outer(BaseModel):
    event: Event
    events: list[Event] = []


class Call(BaseModel):
    url: str
    token: str = Field(default="", exclude=True)


class Aliased(BaseModel):
    model_config = ConfigDict(populate_by_name=True)

    number: int = Field(alias="n")
    other: int = Field(default=0, validation_alias="in", serialization_alias="out")


class Computed(BaseModel):
    x: int

    @pydantic.computed_field
    @property
    def double(self) -> int:
        return 2 * self.x


class Lower(BaseModel):
    text: Annotated[str, pydantic.AfterValidator(str.lower)]


class Counting(BaseModel):
    count: Annotated[int, pydantic.AfterValidator(lambda count: count + 1)]


class WithJson(BaseModel):
    data: Json[list[int]]


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    name: str = ""


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"
    name: str = ""


class Box(BaseModel, Generic[ItemT]):
    item: ItemT


class Strict(BaseModel):
    model_config = ConfigDict(strict=True)

    at: datetime
    price: Decimal


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)

    x: int


class Private(BaseModel):
    x: int
    _seen: int = PrivateAttr(default=0)


class Extra(BaseModel):
    model_config = ConfigDict(extra="allow")

    x: int


class Rounded(BaseModel):
    x: float

    @pydantic.field_serializer("x")
    def _round(self, x: float) -> float:
        return round(x, 1)


class Numbers(pydantic.RootModel[list[int]]):
    pass


class Anything(BaseModel):
    value: Any


@pydantic.dataclasses.dataclass
class Point:
    x: int
    y: int = 0


@pydantic.dataclasses.dataclass
class Secretive:
    token: SecretStr


@dataclasses.dataclass
class Plain:
    x: int


@dataclasses.dataclass
class PlainMore(Plain):
    y: int = 1


class Struct(msgspec.Struct):
    x: int


class StructMore(Struct):
    y: int = 1


class Row(TypedDict):
    id: int
    at: datetime


class Color(Enum):
    RED = "red"


class Word(StrEnum):
    A = "a"


def seen(value: int) -> Private:
    model = Private(x=1)
    model._seen = value
    return model


Pet = Annotated[Cat | Dog, Field(discriminator="kind")]
BERLIN = datetime(2030, 6, 1, 12, tzinfo=ZoneInfo("Europe/Berlin"))

RESTORED: list[tuple[Any, Any]] = [
    (Event, Event(name="a")),
    (Event | Order, Order(name="a", amount=2)),
    (Order, Order(name="a", amount=2)),
    (Aliased, Aliased(n=3)),
    (Computed, Computed(x=2)),
    (Lower, Lower(text="a")),
    (WithJson, WithJson.model_validate({"data": "[1, 2]"})),
    (Pet, Dog(name="rex")),
    (list[Pet], [Dog(), Cat()]),
    (Box[int], Box[int](item=1)),
    (Strict, Strict(at=datetime(2030, 1, 1, tzinfo=UTC), price=Decimal("1.10"))),
    (Frozen, Frozen(x=1)),
    (Private, seen(0)),
    (Extra, Extra.model_validate({"x": 1, "more": [2]})),
    (Rounded, Rounded(x=0.5)),
    (Numbers, Numbers([1, 2])),
    (Point, Point(1, 2)),
    (Row, {"id": 1, "at": datetime(2030, 1, 1, tzinfo=UTC)}),
    (Color, Color.RED),
    (Word, Word.A),
    (datetime, datetime(2030, 1, 1)),
    (datetime, datetime(2030, 1, 1, tzinfo=UTC)),
    (datetime, datetime(2030, 1, 1, tzinfo=timezone(timedelta(hours=2)))),
    (Decimal, Decimal("1.10")),
    (bytes, b"abc"),
    (int | None, None),
    (float, 1),
    (tuple[int, ...], (1, 2)),
    (dict[str, set[int]], {"a": {1, 2}}),
    (Annotated[int, []], 3),
]
REFUSED: list[tuple[Any, Any]] = [
    (Login, Login(user="ada", password=SecretStr("hunter2"))),
    (SecretBytes, SecretBytes(b"hunter2")),
    (Secretive, Secretive(token=SecretStr("hunter2"))),
    (list[Login], [Login(user="ada", password=SecretStr("hunter2"))]),
    (Event, Order(name="a", amount=2)),
    (Outer, Outer(event=Order(name="a", amount=2))),
    (Outer, Outer(event=Event(name="a"), events=[Order(name="b")])),
    (dict[str, Event], {"a": Order(name="a")}),
    (Call, Call(url="u", token="t0k")),
    (Lower, Lower.model_construct(text="A")),
    (Counting, Counting(count=1)),
    (Annotated[str, pydantic.AfterValidator(str.lower)], "A"),
    (Private, seen(1)),
    (Rounded, Rounded(x=0.123)),
    (Anything, Anything(value=datetime(2030, 1, 1))),
    (Anything, Anything(value=(1, 2))),
    (Anything, Anything(value=Event(name="a"))),
    (bytes, b"\xff\xfe"),
    (str, Word.A),
    (datetime, BERLIN),
    (int, None),
    (int, "one"),
    (Event, {"nombre": "a"}),
]


def codec(serializer: Any = None, converter: Any = None) -> Codec:
    converter = converter or PydanticConverter()
    return Codec(serializer, converter, converter)


@pytest.mark.parametrize("serializer", [JSONSerializer, OrjsonSerializer, MsgpackSerializer])
@pytest.mark.parametrize(("tp", "value"), RESTORED, ids=repr)
def test_what_pydantic_brings_back_equals_what_was_given(serializer: Any, tp: Any, value: Any) -> None:
    types = ParameterTypes(positional=(tp,), named={"x": tp})
    one = codec(serializer())
    (back,), named = one.decode_call(one.encode_call((value,), {"x": value}, types), types)
    assert back == named["x"] == value
    assert type(back) is (float if tp is float else type(value))
    assert one.decode_result(one.encode_result(value, tp), tp) == value


@pytest.mark.parametrize("by_alias", [False, True])
@pytest.mark.parametrize(("tp", "value"), REFUSED, ids=lambda it: repr(it)[:60])
def test_what_pydantic_would_change_is_refused(by_alias: bool, tp: Any, value: Any) -> None:
    types = ParameterTypes(positional=(tp,), named={"to": tp})
    one = codec(converter=PydanticConverter(by_alias=by_alias))
    with pytest.raises(PayloadError, match=r"^args\[0\](.|\n)*(Pass|correct the annotation)") as refused:
        one.encode_call((value,), {}, types)
    assert "hunter2" not in str(refused.value)
    assert "t0k" not in str(refused.value)
    with pytest.raises(PayloadError, match=r"^kwargs\['to'\]"):
        one.encode_call((), {"to": value}, types)
    with pytest.raises(PayloadError, match=r"^result"):
        one.encode_result(value, tp)


def test_the_refusal_says_where_and_why() -> None:
    with pytest.raises(PayloadError, match=r"^result\.token: the field has exclude=True") as excluded:
        codec().encode_result(Call(url="u", token="t0k"), Call)
    assert "t0k" not in str(excluded.value)
    with pytest.raises(PayloadError, match=r"^result\.events\[0\]: a Order would come back as a Event"):
        codec().encode_result(Outer(event=Event(name="a"), events=[Order(name="b")]), Outer)
    with pytest.raises(PayloadError, match=r"^result\._seen: 1 would come back as 0"):
        codec().encode_result(seen(1), Private)


def test_values_of_another_type_are_coerced_before_they_are_stored() -> None:
    one, types = codec(), ParameterTypes(positional=(Event,))
    assert one.decode_call(one.encode_call(({"name": "a"},), {}, types), types) == ((Event(name="a"),), {})
    with pytest.raises(PayloadError):  # what it was coerced to would not come back
        one.encode_call(({"user": "ada", "password": "hunter2"},), {}, ParameterTypes(positional=(Login,)))


def test_options_that_lose_fields_are_refused() -> None:
    class Note(BaseModel):
        text: str | None = "none"

    one = codec(converter=PydanticConverter(exclude_none=True))
    with pytest.raises(PayloadError, match=r"^result\.text"):
        one.encode_result(Note(text=None), Note)
    one = codec(converter=PydanticConverter(config=ConfigDict(str_to_lower=True)))
    with pytest.raises(PayloadError, match="'A' would come back as 'a'"):
        one.encode_result("A", str)
    assert one.decode_result(one.encode_result("a", str), str) == "a"


def test_objects_are_loaded_from_their_attributes_where_that_was_asked_for() -> None:
    class Source:
        def __init__(self) -> None:
            self.name = "a"

    one = codec(converter=PydanticConverter(from_attributes=True))
    assert one.decode_result(one.encode_result(Source(), Event), Event) == Event(name="a")


@pytest.mark.parametrize("converter", [NativeConverter, Retort, PydanticConverter])
@pytest.mark.parametrize(
    ("tp", "value"), [(Plain, PlainMore(1, 2)), (list[Plain], [PlainMore(1)]), (int, None), (Struct, StructMore(1))]
)
def test_every_converter_refuses_what_it_would_lose(converter: Callable[[], Any], tp: Any, value: Any) -> None:
    if tp is Struct and converter is not NativeConverter:
        tp, value = Plain, PlainMore(3)
    with pytest.raises(PayloadError, match=r"^args\[0\]"):
        codec(converter=converter()).encode_call((value,), {}, ParameterTypes(positional=(tp,)))
    one = codec(converter=converter())
    assert one.decode_result(one.encode_result(Plain(1), Plain), Plain) == Plain(1)


def test_a_converter_of_the_users_own_decides_what_comes_back() -> None:
    class Own(PydanticConverter):
        def load(self, data: Any, tp: Any) -> Any:
            return str(super().load(data, tp)).upper()

    one, types = codec(converter=Own()), ParameterTypes(positional=(str,))
    assert one.decode_call(one.encode_call(("a",), {}, types), types) == (("A",), {})


# Through an app: every way in judges alike.


def build(directory: Path) -> tuple[Jobify, dict[str, Any]]:
    converter = PydanticConverter()
    app = Jobify(storage=durable(directory), dumper=converter, loader=converter)

    @app.task(name="event")
    async def event(x: Event) -> Event:
        return x

    @app.task(name="login")
    async def login(x: Login) -> str:
        return x.password.get_secret_value()

    @app.task(name="number")
    async def number(x: int) -> int:
        return x

    @app.task(name="losing")
    async def losing() -> Event:
        return Order(name="a", amount=1)

    @app.task(name="publishing")
    async def publishing() -> str:
        try:
            current_job.publish(Event(name="a"))
        except PayloadError:
            return "refused"
        return "published"

    return app, {"event": event, "login": login, "number": number, "losing": losing, "publishing": publishing}


BAD: dict[str, Any] = {
    "event": Order(name="a", amount=1),
    "login": Login(user="ada", password=SecretStr("hunter2")),
    "number": None,
}


@pytest.mark.parametrize("name", BAD)
async def test_push_and_delay_judge_alike(tmp_path: Path, name: str) -> None:
    app, tasks = build(tmp_path)
    task, value = tasks[name], BAD[name]

    async with app:
        for call in (
            lambda: task.push(value),
            lambda: task.schedule(value).delay(0.01),
            lambda: task.schedule(value).at(datetime.now(UTC)),
            lambda: task.schedule(value).cron("* * * * *", job_id="c"),
            lambda: task.adelay(value),
            lambda: app.aenqueue(task, (value,)),
            lambda: app.aenqueue_many(task, [(value,)]),
            lambda: chain(task.s(value)).aapply(),
        ):
            with pytest.raises(PayloadError, match=r"args\[0\]"):
                await call()
        for refuse in (
            lambda: task.delay(value),
            lambda: task.map([(value,)]),
            lambda: app.enqueue(task, (value,)),
        ):
            with pytest.raises(PayloadError, match=r"args\[0\]"):
                refuse()
        assert sum((await app.astats()).values()) == 0


async def test_results_and_published_values_are_exact_too(tmp_path: Path) -> None:
    app, tasks = build(tmp_path)

    async with app:
        job = await tasks["losing"].adelay()
        with pytest.raises(Exception, match="a Order would come back as a Event"):
            await job.aresult(timeout=PATIENCE)
        assert await (await tasks["publishing"].adelay()).aresult(timeout=PATIENCE) == "refused"
        flow = await chain(tasks["event"].s(Event(name="a")), tasks["event"].s()).aapply()
        assert await flow.aresult(timeout=PATIENCE) == Event(name="a")
        assert await soon(await tasks["event"].push(Event(name="b"))) == Event(name="b")


def test_plain_values_are_neither_dumped_nor_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    converter = PydanticConverter()
    monkeypatch.setattr(converter, "_adapter", lambda tp: pytest.fail(f"{tp} was converted"))
    one, types = Codec(None, converter, converter), ParameterTypes(positional=(int, str, bool))
    assert one.encode_call((1, "a", True), {}, types) == b'[[1,"a",true],{}]'
