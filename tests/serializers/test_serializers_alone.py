"""Each serializer by itself, with neither dumper nor loader: story B34."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from pathlib import Path
from typing import Any

import pytest

from jobify import Cron, Jobify
from jobify.exceptions import PayloadError
from jobify.serializers import (
    CBORSerializer,
    ExtendedJSONSerializer,
    JSONSerializer,
    MsgpackSerializer,
    OrjsonSerializer,
    Serializer,
    UnsafePickleSerializer,
)
from jobify.testing.clock import FakeClock
from support import durable, eventually, nudge, run, soon

pytestmark = pytest.mark.promise("b34")

NOON = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)


def pickling() -> UnsafePickleSerializer:
    with pytest.warns(match="Prefer the default"):
        return UnsafePickleSerializer()


SERIALIZERS: dict[str, Callable[[], Serializer]] = {
    "json": JSONSerializer,
    "extended json": ExtendedJSONSerializer,
    "orjson": OrjsonSerializer,
    "msgpack": MsgpackSerializer,
    "cbor": CBORSerializer,
    "pickle": pickling,
}
EACH = pytest.mark.parametrize("serializer", SERIALIZERS)


class Color(Enum):
    RED = "red"


@dataclass
class Point:
    x: int
    y: int


class Deployment:
    """An app that is started again and again on one database, with an own clock."""

    def __init__(self, directory: Path, serializer: str) -> None:
        self.directory = directory
        self.serializer = serializer
        self.clock = FakeClock(NOON)
        self.seen: list[tuple[Any, ...]] = []
        self.task: Any = None

    def make(self) -> Jobify:
        app = Jobify(storage=durable(self.directory), serializer=SERIALIZERS[self.serializer](), clock=self.clock)

        @app.task(name="work")
        async def work(
            number: int, /, text: str, *rest: int, at: datetime | None = None, point: Point | None = None, **more: Color
        ) -> list[Point]:
            self.seen.append((number, text, rest, at, point, more))
            return [Point(number, number)]

        @app.task(name="tick", cron=Cron("0 13 * * *", args=([1, 2],)))
        async def tick(numbers: list[int]) -> None:
            self.seen.append((numbers,))

        self.task = work
        return app


WANTED = (1, "two", (3, 4), NOON, Point(5, 6), {"color": Color.RED})


def call(task: Any) -> Any:
    return task.schedule(1, "two", 3, 4, at=NOON, point=Point(5, 6), color=Color.RED)


@EACH
def test_every_way_of_scheduling_works_and_survives_a_restart(tmp_path: Path, serializer: str) -> None:
    deployment = Deployment(tmp_path, serializer)

    async def first() -> None:
        async with deployment.make() as app:
            assert await soon(await call(deployment.task).push()) == [Point(1, 1)]
            await call(deployment.task).delay(3600, job_id="delay")
            await call(deployment.task).at(NOON + timedelta(hours=1), job_id="at")
            await call(deployment.task).cron("0 13 * * *", job_id="cron")
            assert len(app.get_active_jobs()) == 4

    async def second() -> None:
        app = deployment.make()
        async with app:
            ids = ["at", "cron", "delay", "tick__jobify_cron_definition"]
            assert sorted(job.id for job in app.get_active_jobs()) == ids
            delay = app.find_job("delay")
            assert delay is not None
            deployment.clock.advance(3600)
            nudge(app)
            assert await soon(delay) == [Point(1, 1)]
            await eventually(lambda: len(deployment.seen) == 4)

    run(first())
    assert deployment.seen == [WANTED]
    deployment.seen.clear()
    run(second())
    assert sorted(deployment.seen, key=len) == [([1, 2],), WANTED, WANTED, WANTED]


@EACH
async def test_the_result_of_another_process_has_its_type(tmp_path: Path, serializer: str) -> None:
    here, there = Deployment(tmp_path, serializer), Deployment(tmp_path, serializer)

    there.clock.set(NOON - timedelta(days=1))  # nothing is due there
    async with there.make(), here.make() as app:
        job = await call(there.task).at(NOON)
        nudge(app)
        assert await soon(job) == [Point(1, 1)]
    assert WANTED in here.seen
    assert there.seen == []


@pytest.mark.parametrize("serializer", ["json", "orjson", "msgpack", "cbor"])
async def test_what_would_not_come_back_is_refused_where_it_is_scheduled(tmp_path: Path, serializer: str) -> None:
    app = Jobify(storage=durable(tmp_path), serializer=SERIALIZERS[serializer]())

    @app.task(name="untyped")
    async def untyped(value) -> None: ...  # type: ignore[no-untyped-def]

    async with app:
        for value in (Point(1, 2), {Color.RED: 1}, object()):
            for schedule in (lambda builder: builder.push(), lambda builder: builder.delay(60)):
                with pytest.raises(PayloadError):
                    await schedule(untyped.schedule(value))
        assert app.get_active_jobs() == []
