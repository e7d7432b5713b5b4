"""Zones, changes of the clock, missed runs, backlogs: stories B14 to B17, B32, B47 and B49."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from jobify import INJECT, Cron, Job, Jobify, JobStatus, MisfirePolicy
from jobify.model.clock import SystemClock, seconds
from jobify.testing.clock import FakeClock
from support import a_while, durable, eventually, nudge, run, soon

BERLIN, NEW_YORK = ZoneInfo("Europe/Berlin"), ZoneInfo("America/New_York")
NOON = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)


# -- B14, B15 ----------------------------------------------------------------------------------------------------------


@pytest.mark.promise("b14", "x7")
@pytest.mark.parametrize("is_declared", [True, False])
def test_a_naive_start_date_is_in_the_zone_of_the_app(tmp_path: Path, is_declared: bool) -> None:
    """The first run exactly then, the later ones by the expression; also after a restart."""
    clock = FakeClock(NOON)
    cron = Cron("0 18 * * *", max_runs=100, misfire_policy=MisfirePolicy.ALL, start_date=datetime(2030, 1, 2, 9, 30))
    runs: list[datetime] = []

    async def life(advance: timedelta, expected: datetime) -> None:
        app = Jobify(storage=durable(tmp_path), tz=BERLIN, clock=clock)

        @app.task(name="task", cron=cron if is_declared else None)
        async def task() -> None:
            runs.append(clock.moment)

        async with app:
            if not is_declared and not runs:
                await task.schedule().cron(cron, job_id="it", replace=True)
            (job,) = app.get_active_jobs()
            assert job.exec_at == expected
            assert job.exec_at.tzinfo == BERLIN
            waiting = asyncio.ensure_future(job.wait())
            clock.advance(advance.total_seconds())
            nudge(app)
            if advance:
                await soon(waiting)

    first, second = datetime(2030, 1, 2, 9, 30, tzinfo=BERLIN), datetime(2030, 1, 2, 18, 0, tzinfo=BERLIN)
    run(life(timedelta(0), first))
    run(life(first - NOON, first))
    run(life(second - first, second))
    assert runs == [first, second]


@pytest.mark.promise("b14", "x7")
async def test_a_start_date_that_is_past_waits_for_the_next_match() -> None:
    app = Jobify(storage=False, clock=FakeClock(NOON))

    @app.task(cron=Cron("0 18 * * *", start_date=datetime(2029, 1, 1, 9, 30)))
    async def task() -> None: ...

    async with app:
        (job,) = app.get_active_jobs()
        assert job.exec_at == NOON + timedelta(hours=6)


@pytest.mark.promise("b15", "x13")
async def test_a_naive_time_is_in_the_zone_of_the_app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    clock = FakeClock(NOON)
    app = Jobify(storage=durable(tmp_path), tz=NEW_YORK, clock=clock)

    @app.task
    async def task() -> str:
        return "done"

    async with app:
        job = await task.schedule().at(datetime(2030, 1, 1, 8, 0))
        assert job.exec_at == NOON + timedelta(hours=1)
        assert job.exec_at.utcoffset() == timedelta(hours=-5)
        again = await task.schedule().delay(60, now=datetime(2030, 1, 1, 7, 30))
        assert again.exec_at == NOON + timedelta(minutes=31)
        clock.advance(3600)
        nudge(app)
        assert await soon(job) == "done"


@pytest.mark.promise("b15")
async def test_times_of_the_hour_that_is_twice_are_told_apart() -> None:
    app = Jobify(storage=False, tz=BERLIN, clock=FakeClock(datetime(2030, 10, 1, tzinfo=UTC)))

    @app.task
    async def task() -> None: ...

    async with app:
        first = await task.schedule().at(datetime(2030, 10, 27, 2, 30, fold=0))
        second = await task.schedule().at(datetime(2030, 10, 27, 2, 30, fold=1))
        assert first.exec_at.astimezone(UTC) == datetime(2030, 10, 27, 0, 30, tzinfo=UTC)
        assert second.exec_at.astimezone(UTC) == datetime(2030, 10, 27, 1, 30, tzinfo=UTC)


# -- B16, B17 ----------------------------------------------------------------------------------------------------------


async def runs_of(zone: ZoneInfo, start: datetime, hours: int, expression: str) -> list[datetime]:
    """When a cron ran in so many hours of real time, with a clock that goes from due time to due time."""
    clock = FakeClock(start)
    app = Jobify(storage=False, tz=zone, clock=clock)
    runs: list[datetime] = []

    @app.task
    async def task() -> None:
        runs.append(clock.moment)

    async with app:
        job = await task.schedule().cron(Cron(expression, misfire_policy=MisfirePolicy.SKIP), job_id="it")
        while job.exec_at <= start + timedelta(hours=hours):
            assert job.exec_at > clock.moment, "a due time in the past would run in a burst"
            waiting = asyncio.ensure_future(job.wait())
            clock.set(job.exec_at)
            nudge(app)
            await soon(waiting)
            await eventually(lambda: job.status is JobStatus.SCHEDULED)
    return runs


CHANGES = [
    pytest.param(BERLIN, datetime(2030, 3, 30, 22, 0, tzinfo=UTC), id="Berlin, spring"),
    pytest.param(BERLIN, datetime(2030, 10, 26, 22, 0, tzinfo=UTC), id="Berlin, autumn"),
    pytest.param(NEW_YORK, datetime(2030, 3, 10, 4, 0, tzinfo=UTC), id="New York, spring"),
    pytest.param(NEW_YORK, datetime(2030, 11, 3, 3, 0, tzinfo=UTC), id="New York, autumn"),
]


@pytest.mark.promise("b16")
@pytest.mark.parametrize(("zone", "start"), CHANGES)
@pytest.mark.parametrize(("expression", "minutes"), [("*/10 * * * *", 10), ("* * * * *", 1)])
def test_short_periods_know_no_daylight_saving(zone: ZoneInfo, start: datetime, expression: str, minutes: int) -> None:
    runs = run(runs_of(zone, start, 6, expression))
    assert runs == [start + timedelta(minutes=minutes * number) for number in range(1, 360 // minutes + 1)]


@pytest.mark.promise("b16")
@pytest.mark.parametrize(("zone", "start"), CHANGES)
def test_a_daily_time_comes_once_a_day(zone: ZoneInfo, start: datetime) -> None:
    runs = run(runs_of(zone, start - timedelta(days=1), 72, "30 2 * * *"))
    assert len(runs) == 3
    assert len({moment.astimezone(zone).date() for moment in runs}) == 3
    assert [(m.astimezone(zone).hour, m.astimezone(zone).minute) for m in (runs[0], runs[2])] == [(2, 30)] * 2


@pytest.mark.promise("b17")
@pytest.mark.parametrize(("zone", "start"), CHANGES)
async def test_a_delay_is_elapsed_time(zone: ZoneInfo, start: datetime) -> None:
    clock = FakeClock(start)
    app = Jobify(storage=False, tz=zone, clock=clock)

    @app.task
    async def task() -> str:
        return "done"

    async with app:
        for hours in range(1, 7):
            job = await task.schedule().delay(3600 * hours)
            assert job.exec_at.astimezone(UTC) == start + timedelta(hours=hours)
        job = await task.schedule().delay(7200, now=start.astimezone(zone))
        assert job.exec_at.astimezone(UTC) == start + timedelta(hours=2)
        late = await task.schedule().delay(7200)
        clock.advance(7199)
        nudge(app)
        await a_while()
        assert late.status is JobStatus.SCHEDULED
        clock.advance(1)
        nudge(app)
        assert await soon(late) == "done"


# -- B32 ---------------------------------------------------------------------------------------------------------------


@pytest.mark.promise("b32", "rule-14")
@pytest.mark.parametrize(
    ("policy", "expected", "times"),
    [
        # a run takes 3.2 s; due times are whole seconds
        (MisfirePolicy.SKIP, [1.0, 5.0, 9.0, 13.0], [1.0, 5.0, 9.0, 13.0]),
        (MisfirePolicy.ONCE, [1.0, 4.2, 7.4, 10.6], [1.0, 4.0, 7.0, 10.0]),
        (MisfirePolicy.ALL, [1.0, 4.2, 7.4, 10.6], [1.0, 2.0, 3.0, 4.0]),
        (MisfirePolicy.GRACE(timedelta(seconds=2)), [1.0, 4.2, 7.4, 10.6], [1.0, 3.0, 6.0, 9.0]),
    ],
    ids=["skip", "once", "all", "grace"],
)
async def test_the_policy_holds_while_runs_are_slower_than_the_period(
    policy: Any, expected: list[float], times: list[float]
) -> None:
    clock = FakeClock(NOON)
    app = Jobify(storage=False, clock=clock)
    begun: list[float] = []
    stood_for: list[float] = []

    @app.task
    async def task(job: Job[None] = INJECT) -> None:
        begun.append((clock.moment - NOON).total_seconds())
        stood_for.append((job.exec_at - NOON).total_seconds())
        clock.advance(3.2)

    async with app:
        cron = Cron("* * * * * * *", max_runs=4, misfire_policy=policy)
        job = await task.schedule().cron(cron, job_id="it")

        def forward() -> bool:
            if job.status is JobStatus.SCHEDULED and job.exec_at > clock.moment:
                clock.set(job.exec_at)
                nudge(app)
            return job.is_done()

        await eventually(forward)
    assert begun == expected
    assert stood_for == times


@pytest.mark.promise("b32")
async def test_runs_of_a_schedule_never_overlap() -> None:
    app = Jobify(storage=False)
    running, peak, runs = 0, 0, 0

    @app.task
    async def task() -> None:
        nonlocal running, peak, runs
        running += 1
        peak, runs = max(peak, running), runs + 1
        await asyncio.sleep(0.6)
        running -= 1

    async with app:
        await task.schedule().cron(Cron("* * * * * * *", misfire_policy=MisfirePolicy.ALL), job_id="it")
        await eventually(lambda: runs >= 3)
    assert peak == 1


# -- B47 ---------------------------------------------------------------------------------------------------------------


class JumpingClock(SystemClock):
    """The machine's clock, which somebody sets; or the machine sleeps, so that time passes, too."""

    def __init__(self, has_slept: bool = False) -> None:
        self.jump = 0
        self.has_slept = has_slept

    def now(self) -> int:
        return super().now() + self.jump

    def monotonic(self) -> float:
        return super().monotonic() + (self.jump / 1_000_000 if self.has_slept else 0)


@pytest.mark.promise("b47", "rule-22")
@pytest.mark.parametrize("has_slept", [True, False], ids=["sleep", "set"])
@pytest.mark.parametrize("storage", ["sqlite", "memory"])
async def test_a_jump_forward_is_noticed_within_a_second(tmp_path: Path, storage: str, has_slept: bool) -> None:
    """Or a machine that slept: nobody tells the app, it has to look by itself."""
    clock = JumpingClock(has_slept)
    app = Jobify(storage=durable(tmp_path) if storage == "sqlite" else False, clock=clock)

    @app.task
    async def task() -> str:
        return "done"

    async with app:
        if has_slept:
            jobs = [await task.schedule().delay(3600), await task.schedule().delay(3599)]
        else:
            hour = task.schedule().now() + timedelta(hours=1)
            jobs = [await task.schedule().at(hour), await task.schedule().at(hour - timedelta(seconds=1))]
        cron = await task.schedule().cron("0 0 1 1 *", job_id="yearly")
        await a_while(0.05)
        clock.jump = seconds(3601)
        assert await soon(asyncio.gather(*jobs)) == ["done", "done"]
        clock.jump = seconds(400 * 86_400)
        await soon(cron.wait())


@pytest.mark.promise("b47", "f29")
async def test_a_jump_back_neither_runs_nor_loses_anything() -> None:
    clock = FakeClock(NOON)
    app = Jobify(storage=False, clock=clock)
    runs: list[datetime] = []

    @app.task
    async def task() -> None:
        runs.append(clock.moment)

    async with app:
        job: Job[None] = await task.schedule().at(NOON + timedelta(minutes=1))
        cron = await task.schedule().cron("* * * * *", job_id="it")
        clock.set(NOON - timedelta(hours=1))
        nudge(app)
        await a_while()
        assert runs == []
        clock.set(NOON + timedelta(minutes=1))
        nudge(app)
        await soon(asyncio.gather(job.wait(), cron.wait()))
        clock.set(NOON + timedelta(seconds=55))  # a time server corrects a few seconds: no run is repeated
        nudge(app)
        await eventually(lambda: cron.status is JobStatus.SCHEDULED)
        await a_while()
        assert len(runs) == 2
        assert cron.exec_at == NOON + timedelta(minutes=2)
        clock.set(NOON)
        await eventually(lambda: cron.exec_at == NOON + timedelta(minutes=1))
        assert len(runs) == 2


@pytest.mark.parametrize("storage", ["sqlite", "memory"])
async def test_no_job_is_said_to_have_started_later_than_it_did(tmp_path: Path, storage: str) -> None:
    """Jobs are claimed a moment ahead of their time. That must not show."""
    app = Jobify(storage=durable(tmp_path) if storage == "sqlite" else False)
    began: dict[str, datetime] = {}

    @app.task
    async def task(job: Job[None] = INJECT) -> None:
        began[job.id] = datetime.now(UTC)

    async with app:
        jobs = [await task.schedule().delay(0.03 + number / 1000) for number in range(50)]
        await soon(asyncio.gather(*jobs))
        for job in jobs:
            seen = app.get_job(job.id)
            assert seen.started_at is not None
            assert seen.eta <= seen.started_at <= began[job.id]


# -- B49 ---------------------------------------------------------------------------------------------------------------


@pytest.mark.promise("b49", "rule-14")
@pytest.mark.parametrize("storage", ["sqlite", "memory"])
@pytest.mark.parametrize("concurrency", [1, 7, 100])
async def test_a_backlog_starts_a_few_at_a_time(tmp_path: Path, concurrency: int, storage: str) -> None:
    count = 100 if concurrency == 1 else 1000
    clock = FakeClock(NOON)
    app = Jobify(storage=durable(tmp_path) if storage == "sqlite" else False, concurrency=concurrency, clock=clock)
    running, peak = 0, 0
    runs: Counter[int] = Counter()

    @app.task
    async def task(number: int) -> None:
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        running -= 1
        runs[number] += 1

    async with app:
        await asyncio.gather(*(task.schedule(number).delay(60) for number in range(count)))
        if storage == "memory":
            clock.advance(3600)
            nudge(app)
            await soon(app.wait_all())
    clock.advance(3600)
    async with app:
        await soon(app.wait_all())
    assert runs == Counter(range(count))
    assert peak <= concurrency


@pytest.mark.promise("b49")
async def test_other_jobs_are_not_kept_waiting_by_a_backlog_of_slow_ones(tmp_path: Path) -> None:
    app = Jobify(storage=durable(tmp_path), concurrency=3)
    go_on = asyncio.Event()

    @app.task
    async def slow() -> None:
        await go_on.wait()

    @app.task
    def thread() -> str:
        return "done"

    async with app:
        backlog = [await slow.schedule().delay(0.001) for _ in range(50)]
        await eventually(lambda: sum(job.status is JobStatus.RUNNING for job in backlog) == 3)
        assert await soon(await thread.schedule().delay(0.001)) == "done"
        assert await soon(await thread.push()) == "done"
        go_on.set()
        await soon(app.wait_all())
