"""Debounced tasks: calls in quick succession are merged into one job."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, Field

from jobify import (
    Call,
    ConfigurationError,
    Debounce,
    DuplicateJobError,
    Jobify,
    JobResult,
    RunMode,
    SmartRetry,
    Unique,
    chain,
    group,
)
from jobify.model.clock import SECOND
from jobify.testing.clock import FakeClock
from support import durable, eventually, soon

Make = Callable[..., Jobify]
MONDAY = datetime(2026, 11, 30, 12, tzinfo=UTC)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(MONDAY)


@pytest.fixture
def make(make: Make, clock: FakeClock) -> Make:
    """The same, by the clock of the test."""
    return lambda **options: make(**{"clock": clock, **options})


def due_in(app: Jobify, job: JobResult[Any]) -> float:
    """Seconds from the first moment of the test until the job is due."""
    return (job.eta - MONDAY).total_seconds()


def rows(app: Jobify) -> int:
    return len(app.jobs())


# -- trailing ----------------------------------------------------------------------------------------------------------


async def test_calls_are_merged_into_one_job_that_runs_after_the_last(make: Make, clock: FakeClock) -> None:
    app = make()
    ran: list[tuple[int, str]] = []

    @app.task(debounce=Debounce(5, key="user"))
    async def task(user: int, what: str) -> str:
        ran.append((user, what))
        return what

    first = task.delay(1, "a")
    assert (first.created, due_in(app, first)) == (True, 5)
    clock.advance(4)
    second, other = task.delay(1, "b"), task.delay(2, "z")
    assert (second.id, second.created, due_in(app, second)) == (first.id, False, 9)
    assert (other.created, due_in(app, other)) == (True, 9)
    clock.advance(4)
    (third,) = task.map([(1, "c")])
    assert (third.id, third.created, due_in(app, third), third.args) == (first.id, False, 13, [1, "c"])
    clock.advance(5)
    async with app:
        assert await soon(first.aresult()) == "c"
        assert await soon(other.aresult()) == "z"
    assert sorted(ran) == [(1, "c"), (2, "z")]


async def test_a_series_ends_at_max_wait(make: Make, clock: FakeClock) -> None:
    app = make()

    @app.task(debounce=Debounce(timedelta(seconds=5), max_wait=timedelta(seconds=12)))
    async def task(number: int) -> int:
        return number

    first = task.delay(0)
    dues = []
    for number in range(1, 5):
        clock.advance(3)
        job = task.delay(number)
        assert (job.id, job.created) == (first.id, False)
        dues.append(due_in(app, job))
    assert dues == [8, 11, 12, 12]
    clock.advance(60)  # no worker was there; the next call is the last of the series all the same
    assert (task.delay(5).id, due_in(app, first)) == (first.id, 72)
    async with app:
        assert await soon(first.aresult()) == 5


async def test_the_next_call_after_the_start_begins_a_new_series(make: Make, clock: FakeClock) -> None:
    app = make()
    go, begun = asyncio.Event(), []

    @app.task(debounce=Debounce(5, max_wait=5))
    async def task(number: int) -> int:
        begun.append(number)
        await go.wait()
        return number

    first = task.delay(1)
    clock.advance(5)
    async with app:
        await eventually(lambda: begun == [1])
        second = await task.adelay(2)
        third = await task.push(3)
        assert (second.created, second.id != first.id, third.id, due_in(app, second)) == (True, True, second.id, 10)
        go.set()
        assert await soon(first.aresult()) == 1
        clock.advance(5)
        assert await soon(second.aresult()) == 3
        assert await soon(third) == 3
        fourth = await task.adelay(4)
        assert (fourth.created, due_in(app, fourth)) == (True, 15)


async def test_a_retry_belongs_to_its_own_series(make: Make, clock: FakeClock) -> None:
    app = make()
    ran: list[str] = []

    @app.task(debounce=Debounce(1), retry=SmartRetry(1, initial_delay=600, jitter=False))
    async def task(what: str) -> None:
        ran.append(what)
        if ran == ["a"]:
            raise ValueError

    first = task.delay("a")
    clock.advance(1)
    async with app:
        await eventually(lambda: len(first.errors) == 1)
        second = await task.adelay("b")
        assert (second.created, second.id != first.id) == (True, True)
        clock.advance(601)
        await soon(first.aresult())
        await soon(second.aresult())
    assert sorted(ran) == ["a", "a", "b"]


@pytest.mark.parametrize("end", ["cancel", "delete"])
async def test_after_the_end_of_the_job_a_new_series_begins(make: Make, end: str) -> None:
    app = make()

    @app.task(debounce=Debounce(5))
    def task() -> None: ...

    first = task.delay()
    first.cancel() if end == "cancel" else app.delete_jobs([first])
    second = task.delay()
    assert (second.created, second.id != first.id) == (True, True)


async def test_bulk_and_workflow_calls_obey(make: Make, clock: FakeClock) -> None:
    app = make()

    @app.task(debounce=Debounce(5, key="user"))
    async def task(user: int, what: str) -> str:
        return what

    @app.task
    async def join(texts: list[str]) -> str:
        return "".join(texts)

    jobs = task.map([(1, "a"), (2, "b"), (1, "c")])
    assert [job.created for job in jobs] == [True, True, False]
    assert (jobs[0].id, jobs[0].args) == (jobs[2].id, [1, "c"])
    workflow = (group(task.s(1, "d"), task.s(3, "e"), task.s(1, "f")) | join.s()).delay()
    assert rows(app) == 4
    clock.advance(5)
    async with app:
        assert await soon(workflow.aresult()) == "fef"
        assert await soon(jobs[0].aresult()) == "f"
        late = chain(join.s(["x"]), task.si(9, "y")).delay()
        assert await soon(late.aresult()) == "y", "what waits for others is not debounced"


async def test_options_of_the_last_call_count(make: Make) -> None:
    app = make()

    @app.task(debounce=Debounce(5))
    def task() -> None: ...

    task.configure(priority=1, queue="slow", metadata={"who": "ann"}).delay()
    job = task.configure(priority=7, queue="fast").delay()
    document = job.to_dict()
    assert (document["priority"], document["queue"], document["metadata"]) == (7, "fast", {})
    assert rows(app) == 1


async def test_any_number_of_processes_at_once_make_one_job(make: Make) -> None:
    apps = [make() for _ in range(4)]
    jobs = []
    for app in apps:

        @app.task(name="task", debounce=Debounce(60, key="user", max_wait=600))
        def task(user: int) -> None: ...

    def enqueue(app: Jobify) -> None:
        jobs.extend(app.enqueue("task", (number % 5,)) for number in range(50))

    await asyncio.gather(*(asyncio.to_thread(enqueue, app) for app in apps))
    assert sum(job.created for job in jobs) == 5
    assert len({job.id for job in jobs}) == 5
    assert rows(apps[0]) == 5


# -- leading, both -----------------------------------------------------------------------------------------------------


async def test_leading_runs_the_first_call_and_drops_those_that_follow(make: Make, clock: FakeClock) -> None:
    app = make()
    ran: list[str] = []

    @app.task(debounce=Debounce(5, mode="leading"))
    async def task(what: str) -> str:
        ran.append(what)
        return what

    async with app:
        first = await task.adelay("a")
        assert await soon(first.aresult()) == "a"
        clock.advance(4)
        for merged in (await task.adelay("b"), await task.push("c")):
            assert merged.id == first.id
        assert (await task.adelay("b")).created is False
        clock.advance(1)
        again = await task.adelay("d")
        assert again.created
        assert await soon(again.aresult()) == "d"
    assert ran == ["a", "d"]


@pytest.mark.parametrize("mode", ["leading", "both"])
async def test_a_first_call_counts_when_its_result_is_not_kept(make: Make, clock: FakeClock, mode: Any) -> None:
    app = make()

    @app.task(debounce=Debounce(60, mode=mode))
    def task() -> None: ...

    async with app:
        first = await task.adelay()
        await soon(first.await_end())
    app.delete_jobs([first])
    second = task.delay()
    if mode == "leading":
        assert (second.created, second.id, rows(app)) == (False, first.id, 0)
        async with app:
            assert (await task.push()).id == first.id
    else:
        assert (second.created, due_in(app, second)) == (True, 60)


@pytest.mark.parametrize("end", ["cancel", "expire"])
async def test_a_first_call_that_never_runs_drops_none(make: Make, clock: FakeClock, end: str) -> None:
    app = make()

    @app.task(debounce=Debounce(60, mode="leading"))
    def task() -> None: ...

    first = task.configure(expires=10).delay()
    assert not task.delay().created
    clock.advance(10 if end == "expire" else 1)
    if end == "cancel":
        first.cancel()
    second, third = task.delay(), task.delay()
    assert (second.created, third.created, third.id) == (True, False, second.id)


async def test_both_runs_the_first_and_the_last(make: Make, clock: FakeClock) -> None:
    app = make()
    ran: list[str] = []

    @app.task(debounce=Debounce(5, mode="both", max_wait=8))
    async def task(what: str) -> str:
        ran.append(what)
        return what

    async with app:
        first = await task.adelay("a")
        assert await soon(first.aresult()) == "a"
        clock.advance(4)
        second = await task.adelay("b")
        assert (second.created, second.id != first.id, due_in(app, second)) == (True, True, 8)
        clock.advance(1)
        third = await task.adelay("c")
        assert (third.created, third.id, due_in(app, third)) == (False, second.id, 8)
        clock.advance(3)
        assert await soon(second.aresult()) == "c"
        alone = await task.adelay("d")
        assert (alone.created, await soon(alone.aresult())) == (True, "d")
        clock.advance(5)
        assert await soon((await task.adelay("e")).aresult()) == "e"
    assert ran == ["a", "c", "d", "e"]


# -- collect -----------------------------------------------------------------------------------------------------------


class Positive(BaseModel):
    number: int = Field(gt=0)


@dataclass
class Event:
    user: int
    what: str
    at: datetime | None = None


async def test_collect_hands_over_all_calls_in_order(make: Make, clock: FakeClock) -> None:
    app = make()
    got: list[list[Event]] = []

    @app.task(debounce=Debounce(5, key="user", collect=True))
    async def task(events: list[Event]) -> int:
        got.append(events)
        return len(events)

    first = task.delay(1, "a")
    second = task.delay(user=1, what="b", at=MONDAY)
    alone = task.delay(2, "z")
    assert (second.id, second.created, alone.created) == (first.id, False, True)
    assert first.args == [[[1, "a"], {"user": 1, "what": "b", "at": "2026-11-30T12:00:00Z"}]]
    with pytest.raises(TypeError, match="what"):
        task.delay(1)
    async with app:
        pushed = await task.push(1, "c")
        assert pushed.id == first.id
        clock.advance(5)
        assert await soon(first.aresult()) == 3
        assert await soon(alone.aresult()) == 1
    assert sorted(got, key=len) == [[Event(2, "z")], [Event(1, "a"), Event(1, "b", MONDAY), Event(1, "c")]]


async def test_collected_calls_may_be_any_calls(make: Make, clock: FakeClock) -> None:
    app = make()

    @app.task(debounce=Debounce(5, collect=True))
    def task(calls: list[Call]) -> list[object]:
        return [[*call.args, *call.kwargs.values()] for call in calls]

    jobs = task.map([(number,) for number in range(300)])
    task.delay(300, more=1)
    clock.advance(5)
    async with app:
        assert await soon(jobs[0].aresult()) == [*([number] for number in range(300)), [300, 1]]
    assert len({job.id for job in jobs}) == 1


async def test_both_collects_what_follows_the_first(make: Make, clock: FakeClock) -> None:
    app = make()

    @app.task(debounce=Debounce(5, mode="both", collect=True))
    async def task(events: list[Event]) -> str:
        return "".join(event.what for event in events)

    async with app:
        first = await task.adelay(1, "a")
        assert await soon(first.aresult()) == "a"
        rest = [await task.adelay(1, what) for what in "bcd"]
        clock.advance(5)
        assert await soon(rest[0].aresult()) == "bcd"
    assert {job.id for job in rest} == {rest[0].id}


async def test_a_task_may_begin_and_cease_to_collect(make: Make, clock: FakeClock) -> None:
    plain, collecting = make(), make()

    @plain.task(name="task", debounce=Debounce(5, key="user"))
    async def before(user: int, what: str) -> str:
        return what

    @collecting.task(name="task", debounce=Debounce(5, key="user", collect=True))
    async def after(events: list[Event]) -> str:
        return "".join(event.what for event in events)

    first, second = before.delay(1, "a"), before.delay(2, "x")
    assert (after.delay(1, "b").id, before.delay(2, "y").id) == (first.id, second.id)
    clock.advance(5)
    async with collecting:
        assert await soon(first.aresult()) == "ab"
        assert await soon(second.aresult()) == "y"
    third = after.delay(3, "c")
    after.delay(3, "d")
    clock.advance(5)
    async with plain:
        assert await soon(third.aresult()) == "d"


@pytest.mark.parametrize("mode", [RunMode.THREAD, RunMode.PROCESS])
async def test_collected_calls_run_in_every_mode(tmp_path: Path, clock: FakeClock, mode: RunMode) -> None:
    app = Jobify(storage=durable(tmp_path), clock=clock)
    task = app.task(debounce=Debounce(5, collect=True), run_mode=mode, retry=1)(joined)
    first = task.delay(1, "a")
    task.delay(1, "b")
    clock.advance(5)
    async with app:
        assert await soon(first.aresult()) == "ab"


def joined(events: list[Event]) -> str:
    return "".join(event.what for event in events)


async def test_a_call_that_its_type_refuses_fails_the_job(make: Make, clock: FakeClock) -> None:
    app = make()

    @app.task(debounce=Debounce(5, collect=True))
    async def task(rows: list[Positive]) -> int:
        return len(rows)

    job = task.delay(number=-1)
    clock.advance(5)
    async with app:
        await eventually(lambda: job.status == "failed")
        assert "greater than 0" in (job.error or "")


def test_collect_needs_a_function_of_a_list(tmp_path: Path) -> None:
    app = Jobify(storage=durable(tmp_path))
    with pytest.raises(ConfigurationError, match="debounce= of task"):

        @app.task(debounce=Debounce(5, collect=True))
        def task(number: int) -> None: ...


# -- beside unique -----------------------------------------------------------------------------------------------------


async def test_a_debounced_task_may_be_unique(make: Make, clock: FakeClock) -> None:
    app = make()
    go, begun = asyncio.Event(), []

    @app.task(unique=Unique("user"), debounce=Debounce(5, key="user"))
    async def task(user: int, what: str) -> str:
        begun.append(what)
        await go.wait()
        return what

    first = task.delay(1, "a")
    assert task.delay(1, "b").id == first.id
    clock.advance(5)
    async with app:
        await eventually(lambda: begun == ["b"])
        kept = await task.adelay(1, "c")
        assert (kept.id, kept.created) == (first.id, False), "its key is taken until it has ended"
        go.set()
        await soon(first.aresult())
        assert (await task.adelay(1, "d")).created
    assert begun == ["b"]


async def test_the_keys_may_differ(make: Make) -> None:
    app = make()

    @app.task(unique=Unique(("user", "doc"), on_conflict="fail"), debounce=Debounce(5, key="user"))
    def task(user: int, doc: int) -> None: ...

    first = task.delay(1, 1)
    assert (task.delay(1, 2).id, task.delay(2, 1).created) == (first.id, True)
    task.configure(unique_key="mine").delay(3, 3)
    with pytest.raises(DuplicateJobError):
        task.configure(unique_key="mine").delay(4, 4)


# -- what makes no sense -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make_it", "message"),
    [
        (lambda: Debounce(0), "delay of a Debounce"),
        (lambda: Debounce(-1), "delay of a Debounce"),
        (lambda: Debounce(1e18), "no calendar reaches as far"),
        (lambda: Debounce(5, max_wait=1e18), "no calendar reaches as far"),
        (lambda: Debounce("soon"), "delay of a Debounce"),  # type: ignore[arg-type]
        (lambda: Debounce(5, max_wait=4), "must not be less"),
        (lambda: Debounce(5, mode="last"), "must be 'trailing', 'leading' or 'both'"),  # type: ignore[arg-type]
        (lambda: Debounce(5, collect=1), "must be True or False"),  # type: ignore[arg-type]
        (lambda: Debounce(5, mode="leading", collect=True), "collect= means nothing"),
        (lambda: Debounce(5, mode="leading", max_wait=9), "max_wait= means nothing"),
        (lambda: Debounce(5, key=()), "empty tuple"),
    ],
)
def test_what_makes_no_sense_is_refused(make_it: Callable[[], object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make_it()


async def test_a_call_with_a_time_of_its_own_is_refused(make: Make, clock: FakeClock) -> None:
    app = make()

    @app.task(debounce=Debounce(5))
    def task() -> None: ...

    async with app:
        for call in (
            lambda: task.configure(delay=3).adelay(),
            lambda: task.configure(eta=clock.moment + timedelta(hours=1)).adelay(),
            lambda: task.schedule().delay(3),
            lambda: task.schedule().at(clock.moment + timedelta(hours=1)),
        ):
            with pytest.raises(ConfigurationError, match="is debounced"):
                await call()
    assert rows(app) == 0


async def test_a_schedule_is_not_debounced(make: Make, clock: FakeClock) -> None:
    app = make()
    ran: list[int] = []

    @app.task(debounce=Debounce(600))
    async def task() -> None:
        ran.append(1)

    async with app:
        await task.schedule().cron("* * * * *", job_id="each minute")
        clock.advance(60)
        await eventually(lambda: len(ran) == 1)


async def test_old_windows_are_forgotten(make: Make, clock: FakeClock) -> None:
    app = make()

    @app.task(debounce=Debounce(5, key="user"))
    async def task(user: int) -> None: ...

    jobs = [task.delay(number) for number in range(3)]
    clock.advance(5)
    async with app:
        for job in jobs:
            await soon(job.aresult())
        storage = app.configs.storage
        assert storage.forget_windows(now=clock.now() - SECOND, limit=9) == 0
        assert storage.forget_windows(now=clock.now(), limit=9) == 3
