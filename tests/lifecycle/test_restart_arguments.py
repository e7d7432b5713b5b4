"""What a job is called with after a restart: stories B5, B6 and B24."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Optional

import pytest

from jobify import Jobify, OuterContext
from jobify.exceptions import PayloadError
from jobify.middleware import BaseOuterMiddleware, CallNextOuter
from jobify.testing.clock import FakeClock
from support import durable, run, soon


class Color(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


@dataclasses.dataclass
class Point:
    x: int
    y: int


@dataclasses.dataclass
class Message:
    """Named like a part of other libraries' insides."""

    text: str


@dataclasses.dataclass
class Cron:
    """Named like a class of ours."""

    expression: str


Seen = list[Any]


def stars(seen: Seen) -> Callable[..., Any]:
    async def task(*args: Any) -> None:
        seen.append(args)

    return task


def double_stars(seen: Seen) -> Callable[..., Any]:
    async def task(**kwargs: Any) -> None:
        seen.append(kwargs)

    return task


def positional_only(seen: Seen) -> Callable[..., Any]:
    async def task(a: int, b: int = 2, /) -> None:
        seen.append((a, b))

    return task


def untyped(seen: Seen) -> Callable[..., Any]:
    async def task(value) -> None:  # type: ignore[no-untyped-def]
        seen.append(value)

    return task


def typed(annotation: Any) -> Callable[[Seen], Callable[..., Any]]:
    def define(seen: Seen) -> Callable[..., Any]:
        async def task(value: Any) -> None:
            seen.append(value)

        task.__annotations__["value"] = annotation
        return task

    return define


NOW = datetime(2030, 1, 2, 3, 4, 5, 6, tzinfo=UTC)

NAMED = {"a": 1, "args": 2, "self": 3, "kwargs": 4}

CASES: list[tuple[str, Callable[[Seen], Callable[..., Any]], tuple[Any, ...], dict[str, Any], Any]] = [
    ("*args", stars, (1, "two", 3.0), {}, (1, "two", 3.0)),
    ("no *args", stars, (), {}, ()),
    ("positional-only", positional_only, (1,), {}, (1, 2)),
    ("**kwargs", double_stars, (), NAMED, NAMED),
    ("enum", typed(Color), (Color.RED,), {}, Color.RED),
    ("int enum", typed(Level), (Level.HIGH,), {}, Level.HIGH),
    ("untyped enum", untyped, (Color.RED,), {}, Color.RED),
    ("enum in a dict", typed(dict[str, Any]), ({"c": Color.RED},), {}, {"c": Color.RED}),
    ("untyped enum in a dict", untyped, ({"c": Color.RED},), {}, {"c": Color.RED}),
    ("dataclass", typed(Point), (Point(1, 2),), {}, Point(1, 2)),
    ("untyped dataclass", untyped, (Point(1, 2),), {}, Point(1, 2)),
    ("list of dataclasses", typed(list[Point]), ([Point(1, 2)],), {}, [Point(1, 2)]),
    ("optional dataclass", typed(Optional[Point]), (Point(1, 2),), {}, Point(1, 2)),  # noqa: UP045  as users write it
    ("None for an optional", typed(Point | None), (None,), {}, None),
    ("a dataclass called Message", untyped, (Message("hi"),), {}, Message("hi")),
    ("a dataclass called Cron", untyped, (Cron("hi"),), {}, Cron("hi")),
    ("integers as keys", untyped, ({1: "a"},), {}, {1: "a"}),
    ("what looks like a tag", untyped, ({"__tuple__": "ab"},), {}, {"__tuple__": "ab"}),
    ("a tuple", untyped, ((1, (2, 3)),), {}, (1, (2, 3))),
    ("a set", untyped, ({1, 2},), {}, {1, 2}),
    ("bytes", untyped, (b"\x00\xff",), {}, b"\x00\xff"),
    ("a time", untyped, (NOW,), {}, NOW),
    ("a duration", untyped, (timedelta(microseconds=1),), {}, timedelta(microseconds=1)),
]  # fmt: skip


@pytest.mark.promise("b5", "b6")
@pytest.mark.parametrize(("define", "args", "kwargs", "expected"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_arguments_are_the_same_after_a_restart(
    tmp_path: Path,
    define: Callable[[Seen], Callable[..., Any]],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    expected: Any,
) -> None:
    seen: Seen = []
    clock = FakeClock(NOW)

    async def life(first: bool) -> None:
        app = Jobify(storage=durable(tmp_path), clock=clock)
        task = app.task(define(seen), name="task")
        async with app:
            if first:
                await task.schedule(*args, **kwargs).delay(1)
            else:
                await soon(app.wait_all())

    run(life(True))
    assert seen == []
    clock.advance(1)
    run(life(False))
    assert seen == [expected]
    assert type(seen[0]) is type(expected)


class Unknowable:
    """Nothing that a file could hold."""


@pytest.mark.promise("b5")
@pytest.mark.parametrize("value", [Unknowable(), object(), lambda: None, [Unknowable()]])
async def test_what_cannot_be_restored_is_refused_and_nothing_is_stored(tmp_path: Path, value: Any) -> None:
    app = Jobify(storage=durable(tmp_path))
    task = app.task(untyped([]), name="task")
    async with app:
        for submit in (
            lambda: task.push(value),
            lambda: task.schedule(value).delay(10),
            lambda: task.schedule(value).cron("* * * * *", job_id="it"),
            lambda: task.schedule(value).delay(10, job_id="it", replace=True),
        ):
            with pytest.raises(PayloadError):
                await submit()
        assert app.get_active_jobs() == []


class Stamp(BaseOuterMiddleware):
    """Gives each job another argument."""

    async def __call__(self, call_next: CallNextOuter, context: OuterContext) -> Any:
        context.arguments["text"] = context.arguments["text"] + " stamped"
        return await call_next(context)


@pytest.mark.promise("b24")
def test_what_an_outer_middleware_changes_is_what_is_saved(tmp_path: Path) -> None:
    seen: Seen = []
    clock = FakeClock(NOW)

    async def life(first: bool) -> None:
        app = Jobify(storage=durable(tmp_path), outer_middleware=[Stamp()], clock=clock)

        @app.task(name="task")
        async def task(text: str) -> None:
            seen.append(text)

        async with app:
            if first:
                await task.schedule("late").delay(1)
                await task.schedule("again and again").cron("* * * * * * *", job_id="cron")
                assert await (await task.push("now")) is None
            else:
                cron = app.find_job("cron")
                assert cron is not None
                await soon(cron.wait())
                await cron.cancel()
                await soon(app.wait_all())

    run(life(True))
    assert seen == ["now stamped"]
    clock.advance(1)
    run(life(False))
    assert set(seen) == {"now stamped", "late stamped", "again and again stamped"}
