"""Values of every type that the default serializer restores, and the classes they are of."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, Flag, IntEnum, IntFlag, StrEnum, auto
from fractions import Fraction
from functools import cached_property
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Generic, NamedTuple, TypeVar
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import msgspec
import pydantic

T = TypeVar("T")

BERLIN = ZoneInfo("Europe/Berlin")


class Color(Enum):
    RED = 1
    GREEN = ("g", 2)
    CRIMSON = RED


class Level(IntEnum):
    LOW = 1


class Word(StrEnum):
    YES = "yes"


class Door(Flag):
    FRONT = auto()
    BACK = auto()


class Bits(IntFlag):
    A = 1
    B = 2


class Shape:
    class Side(Enum):
        LEFT = 1


class Open(Enum):
    KNOWN = 1

    @classmethod
    def _missing_(cls, value: object) -> Any:
        member = object.__new__(cls)
        member._name_, member._value_ = "MADE_UP", value
        return member


class Pair(NamedTuple):
    left: int
    right: str = "r"


class Labelled(Pair):
    pass


@dataclass
class Point:
    x: int
    y: float = 0.5
    tags: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Frozen:
    at: Point
    seen: frozenset[int] = frozenset()


@dataclass
class Counted:
    start: int
    total: int = field(init=False, default=0)
    later: int = field(init=False)


@dataclass
class Cached:
    size: int

    def __post_init__(self) -> None:
        self.extra = self.size * 2

    @cached_property
    def half(self) -> float:
        return self.size / 2


class Slotted:
    __slots__ = "below"

    below: int


@dataclass(slots=True)
class OnSlots(Slotted):
    above: int


@dataclass
class Box(Generic[T]):
    content: T


@dataclass
class Message:
    """Named like something internal (B5)."""

    text: str


@dataclass
class Failure(Exception):
    code: int


class Job(msgspec.Struct, frozen=True):
    name: str
    after: tuple[int, ...] = ()


class Loose(msgspec.Struct, dict=True):
    name: str


class Account(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")

    id: UUID
    opened: datetime = datetime(2026, 1, 1)
    _visits: int = pydantic.PrivateAttr(default=0)
    _token: str = pydantic.PrivateAttr()

    @cached_property
    def short(self) -> str:
        return str(self.id)[:8]


class Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, strict=True)

    level: Level = Level.LOW


def with_visits() -> Account:
    account = Account(id=uuid4(), note=(1, 2))
    account._visits = 7
    assert account.short
    return account


VALUES = [
    None,
    True,
    0,
    -(2**63) - 1,
    2**64,
    10**4200,
    -(10**6000),
    0.1,
    -0.0,
    5e-324,
    float("nan"),
    float("inf"),
    float("-inf"),
    "",
    "grüß\x00\U0001f600",
    "\ud83d\ude00 lone",
    b"",
    b"\xff\x00",
    bytearray(b"abc"),
    1 + 2j,
    complex("nan-0j"),
    [],
    (),
    (1,),
    ((), [(None,)]),
    {1, "a", (2, 3)},
    frozenset({frozenset({1})}),
    {},
    {"a": {"b": [1]}},
    {1: "a", "1": "b"},
    {True: 1, None: 2, (1, 2): 3, 1.5: 4},
    {"__tuple__": "ab"},
    {"$": "tuple", "v": [1]},
    {"a": {"$": {"$": 1}}},
    {"\ud800": 1},
    {"v": 1, "t": 2},
    OrderedDict([("b", 1), ("a", 2)]),
    Counter("hello"),
    deque([1, (2,)], maxlen=5),
    range(1, 10, 3),
    Decimal("1.10"),
    Decimal("-0"),
    Decimal("NaN"),
    Decimal("sNaN"),
    Decimal("1E+400"),
    Fraction(-1, 3),
    UUID(int=5),
    Path("a/b"),
    Path("caf\udce9"),
    PurePosixPath("/x"),
    PureWindowsPath("C:\\x"),
    date(2026, 2, 28),
    datetime(2026, 3, 1, 12, 30, 15, 7),
    datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN),
    datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=BERLIN),
    datetime(2026, 1, 1, tzinfo=UTC),
    datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=5, minutes=30))),
    datetime(2026, 1, 1, tzinfo=timezone(timedelta(seconds=1), "odd")),
    time(1, 2, 3),
    time(1, 2, tzinfo=BERLIN, fold=1),
    timedelta(days=-1, microseconds=1),
    UTC,
    timezone(timedelta(0), "GMT"),
    BERLIN,
    Color.RED,
    Color.GREEN,
    Color.CRIMSON,
    Level.LOW,
    Word.YES,
    Door.FRONT | Door.BACK,
    Door(0),
    Bits.A | Bits.B,
    Bits(8),
    Shape.Side.LEFT,
    {Color.RED: Level.LOW},
    Pair(1),
    Labelled(2, "x"),
    Point(1),
    Point(1, tags=["a"]),
    [Point(1), None],
    Frozen(Point(2), frozenset({1})),
    Box((1, 2)),
    Message("hi"),
    Job("j", (1, 2)),
    Account(id=UUID(int=1)),
    with_visits(),
    Strict(level=Level.LOW),
]
