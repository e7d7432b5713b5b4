"""Unique tasks: of the jobs with one key one waits or runs, whatever enqueues them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from jobify import (
    ConfigurationError,
    DuplicateJobError,
    Job,
    Jobify,
    JobResult,
    PayloadError,
    SmartRetry,
    Unique,
    chain,
    group,
)
from jobify.storage.memory import MemoryStorage
from jobify.testing.clock import FakeClock
from support import durable, eventually, soon

Make = Callable[..., Jobify]


@pytest.fixture(params=["push", "adelay", "amap"])
def call(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Ways to enqueue one job."""

    async def called(task: Any, *args: Any) -> Any:
        if request.param == "amap":
            return (await task.amap([args]))[0]
        return await getattr(task, request.param)(*args)

    return called


class Runs:
    """What has run, and a gate that holds what runs."""

    def __init__(self) -> None:
        self.begun: list[Any] = []
        self.ended: list[Any] = []
        self.go = asyncio.Event()

    async def run(self, what: Any) -> Any:
        self.begun.append(what)
        await self.go.wait()
        self.ended.append(what)
        return what


# -- keys --------------------------------------------------------------------------------------------------------------


async def test_a_call_with_a_key_that_is_taken_stores_nothing(make: Make, call: Callable[..., Any]) -> None:
    app, runs = make(), Runs()

    @app.task(unique=Unique("user"))
    async def task(user: int | str | None, note: str = "") -> Any:
        return await runs.run((user, note))

    async with app:
        first, again = await call(task, 7), await call(task, 7, "later")
        other, text, none = await call(task, 8), await call(task, "7"), await call(task, None)
        assert first.id == again.id
        assert len({job.id for job in (first, other, text, none)}) == 4
        if isinstance(first, JobResult):
            assert [first.created, again.created, other.created] == [True, False, True]
        runs.go.set()
        await eventually(lambda: len(runs.ended) == 4)
        assert sorted(map(str, runs.ended)) == sorted(map(str, [(7, ""), (8, ""), ("7", ""), (None, "")]))
        await eventually(lambda: app.get_job(first.id).status == "complete")
        assert (await call(task, 7)).id != first.id


async def test_without_a_key_all_arguments_are_it(make: Make) -> None:
    app = make()

    @app.task(unique=Unique())
    def task(user: int, verbose: bool = False, *rest: int, **more: int) -> None: ...

    first = task.delay(1)
    same = [task.delay(1, False), task.delay(user=1), task.delay(verbose=False, user=1)]
    others = [task.delay(2), task.delay(1, True), task.delay(1, False, 3), task.delay(1, x=1), task.delay(1, x=2)]
    assert {job.id for job in same} == {first.id}
    assert len({job.id for job in (first, *others)}) == 6


@dataclass
class Order:
    id: int
    lines: list[str]


async def test_several_paths_are_one_key(make: Make) -> None:
    app = make()

    @app.task(unique=Unique(("order.id", "day")))
    def task(order: Order, day: str = "mon", note: str = "") -> None: ...

    first = task.delay(Order(1, ["a"]))
    assert task.delay(Order(1, ["b"]), note="x").id == first.id
    assert len({first.id, task.delay(Order(2, [])).id, task.delay(Order(1, []), "tue").id}) == 3


async def test_a_long_key_is_one_like_any_other(make: Make) -> None:
    app = make()

    @app.task(unique=Unique())
    def task(text: str) -> None: ...

    long = "ü" * 100_000
    assert task.delay(long).id == task.delay(long).id != task.delay(long + "x").id


def test_what_has_no_text_of_its_own_is_no_key() -> None:
    app = Jobify(storage=MemoryStorage())  # others do not take such an argument at all

    @app.task(unique=Unique("thing"))
    def task(thing: object) -> None: ...

    with pytest.raises(PayloadError, match="is no key"):
        task.delay(object())


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        (1, 1.0, False),
        (datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, 1, tzinfo=timezone(timedelta(hours=1))), False),
        (date(2026, 1, 1), "2026-01-01", True),
        (UUID(int=7), str(UUID(int=7)), True),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ({3, 1, 2}, {2, 3, 1}, True),
    ],
)
async def test_a_value_counts_as_it_is_stored(make: Make, one: Any, other: Any, is_same: bool) -> None:
    app = make()

    @app.task(unique=Unique("value"))
    def task(value: Any) -> None: ...

    assert task.delay(one).created
    assert task.delay(other).created is not is_same


async def test_a_job_has_the_key_that_it_was_stored_with(make: Make) -> None:
    def release(unique: Unique | None) -> Any:
        app = make()

        @app.task(name="task", unique=unique)
        def task(user: int, day: int = 0) -> None: ...

        return task

    assert release(None).delay(1).created
    assert [job.created for job in release(Unique("user")).map([(1,), (1,)])] == [True, False]
    assert [job.created for job in release(Unique("user", until="start")).map([(1,), (1,)])] == [True, False]
    assert release(Unique(("user", "day"))).delay(1).created
    with pytest.raises(DuplicateJobError):
        release(Unique("user", on_conflict="fail")).delay(1)


async def test_a_key_is_of_one_task(make: Make) -> None:
    app = make()

    @app.task(unique=Unique("user"))
    def one(user: int) -> None: ...

    @app.task(unique=Unique("user"))
    def two(user: int) -> None: ...

    assert one.delay(1).id != two.delay(1).id


async def test_a_unique_key_of_a_job_goes_before_that_of_the_task(make: Make) -> None:
    app = make()

    @app.task(unique=Unique("user", on_conflict="fail"))
    def task(user: int) -> None: ...

    first = task.configure(unique_key="mine").delay(1)
    task.delay(1)
    with pytest.raises(DuplicateJobError) as refused:
        task.configure(unique_key="mine").delay(2)
    assert refused.value.job_id == first.id
    with pytest.raises(DuplicateJobError, match="unique key"):
        task.delay(1)


async def test_jobs_of_an_earlier_name_count(make: Make) -> None:
    old, new = make(), make()

    @old.task(name="old", unique=Unique("user"))
    def before(user: int) -> None: ...

    @new.task(name="new", aliases=("old",), unique=Unique("user"))
    def after(user: int) -> None: ...

    first = before.delay(1)
    assert (after.delay(1).id, after.delay(1).created) == (first.id, False)
    assert after.delay(2).created


async def test_of_any_number_of_calls_at_once_one_stores_a_job(make: Make) -> None:
    app = make()

    @app.task(unique=Unique("user"))
    async def task(user: int) -> None: ...

    jobs = await asyncio.gather(*(task.adelay(number % 3) for number in range(60)))
    assert sum(job.created for job in jobs) == 3
    assert len({job.id for job in jobs}) == 3


async def test_threads_and_apps_at_once(make: Make) -> None:
    apps = [make() for _ in range(4)]
    created: list[bool] = []
    start = threading.Barrier(4)

    def enqueue(app: Jobify) -> None:
        start.wait()
        created.extend(app.enqueue("task", (number,)).created for number in range(25))

    for app in apps:

        @app.task(name="task", unique=Unique("user"))
        def task(user: int) -> None: ...

    threads = [threading.Thread(target=enqueue, args=(app,)) for app in apps]
    for thread in threads:
        thread.start()
    await asyncio.to_thread(lambda: [thread.join() for thread in threads])
    assert (len(created), sum(created)) == (100, 25)


async def test_bulk_and_workflow_calls_obey(make: Make) -> None:
    app = make()

    @app.task(unique=Unique("user"))
    async def task(user: int) -> int:
        return user

    @app.task
    async def add(numbers: list[int]) -> int:
        return sum(numbers)

    jobs = task.map([(1,), (2,), (1,)])
    assert [job.created for job in jobs] == [True, True, False]
    assert jobs[0].id == jobs[2].id
    async with app:
        assert [await soon(job.aresult()) for job in jobs] == [1, 2, 1]
        workflow = (group(task.s(3), task.s(3), task.s(4)) | add.s()).delay()
        assert await soon(workflow.aresult()) == 10
        assert await soon(chain(task.s(5), task.si(5)).delay().aresult()) == 5


# -- until -------------------------------------------------------------------------------------------------------------


async def test_until_the_start_the_key_is_free_for_what_comes_after(make: Make, call: Callable[..., Any]) -> None:
    app, runs = make(), Runs()

    @app.task(unique=Unique("user", until="start"))
    async def task(user: int, version: int) -> int:
        return await runs.run(version)

    async with app:
        first = await call(task, 1, 1)
        await eventually(lambda: runs.begun == [1])
        second, third = await call(task, 1, 3), await call(task, 1, 4)
        await eventually(lambda: 3 in runs.begun)
        assert second.id != first.id
        fourth = await call(task, 1, 5)
        runs.go.set()
        await eventually(lambda: len(runs.ended) == len({first.id, second.id, third.id, fourth.id}))


async def test_a_retry_waits_for_the_job_that_has_its_key(make: Make) -> None:
    app = make(concurrency=4)
    order: list[str] = []

    @app.task(unique=Unique("user", until="start"), retry=SmartRetry(2, initial_delay=0.01, jitter=False))
    async def task(user: int, what: str) -> None:
        order.append(what)
        if what == "fails" and order.count("fails") == 1:
            later.append(await task.configure(delay=0.6).adelay(1, "later"))
            raise ValueError

    later: list[JobResult[None]] = []
    first = task.delay(1, "fails")
    async with app:
        await soon(first.aresult())
        assert order == ["fails", "later", "fails"]
        assert (later[0].id != first.id, later[0].created, len(first.errors)) == (True, True, 1)


async def test_until_the_end_retries_keep_the_key(make: Make) -> None:
    app = make()
    failed = asyncio.Event()

    @app.task(unique=Unique("user"), retry=SmartRetry(1, initial_delay=600, jitter=False))
    async def task(user: int) -> None:
        failed.set()
        raise ValueError

    async with app:
        job = await task.adelay(1)
        await soon(failed.wait())
        await eventually(lambda: job.status in ("retrying", "pending"))
        again = await task.adelay(1)
        assert (again.id, again.created) == (job.id, False)


@pytest.mark.parametrize("end", ["cancel", "delete", "expire"])
async def test_whatever_ends_a_job_frees_its_key(make: Make, end: str) -> None:
    app = make()

    @app.task(unique=Unique("user"))
    def task(user: int) -> None: ...

    if end == "expire":
        async with app:
            job = await task.configure(delay=600, expires=timedelta(milliseconds=10)).adelay(1)
            await eventually(lambda: job.status == "cancelled")
    else:
        job = task.configure(delay=600).delay(1)
        job.cancel() if end == "cancel" else app.delete_jobs([job])
    assert task.delay(1).created


@pytest.mark.parametrize("on_conflict", ["keep", "fail"])
@pytest.mark.parametrize("way", ["delay", "map", "chain"])
async def test_no_call_gives_way_to_a_job_that_has_expired(make: Make, on_conflict: Any, way: str) -> None:
    clock = FakeClock(datetime(2026, 11, 30, tzinfo=UTC))
    app = make(clock=clock)

    @app.task(unique=Unique("user", on_conflict=on_conflict))
    def task(user: int) -> None: ...

    @app.task
    def other() -> None: ...

    expired = task.configure(delay=600, expires=10).delay(1)
    clock.advance(10)
    if way == "delay":
        assert task.delay(1).created
    elif way == "map":
        assert task.map([(1,)])[0].created
    else:
        end = chain(other.si(), task.si(1), other.si()).apply()
        assert expired.id not in end.dependencies
    assert (expired.status, expired.reason) == ("cancelled", "expired")


async def test_an_id_that_is_in_use_is_refused_with_what_helps(make: Make) -> None:
    app = make()

    @app.task(unique=Unique("user", on_conflict="replace"))
    def task(user: int) -> None: ...

    task.configure(delay=600, job_id="mine").delay(1)
    with pytest.raises(DuplicateJobError, match=r"already scheduled\. Choose another job_id") as refused:
        task.configure(job_id="mine").delay(2)
    assert refused.value.job_id == "mine"


async def test_until_it_expires_a_job_keeps_its_key(make: Make) -> None:
    clock = FakeClock(datetime(2026, 11, 30, tzinfo=UTC))
    app = make(clock=clock)

    @app.task(unique=Unique("user"))
    def task(user: int) -> None: ...

    first = task.configure(delay=600, expires=10).delay(1)
    clock.advance(9)
    assert task.delay(1).id == first.id


# -- conflicts ---------------------------------------------------------------------------------------------------------


async def test_fail_raises_and_stores_nothing_of_the_call(make: Make, call: Callable[..., Any]) -> None:
    app = make()

    @app.task(unique=Unique("user", on_conflict="fail"))
    async def task(user: int) -> None:
        await asyncio.sleep(0)

    @app.task
    async def other() -> None: ...

    first = task.configure(delay=600).delay(1)
    async with app:
        with pytest.raises(DuplicateJobError) as refused:
            await call(task, 1)
        assert refused.value.job_id == first.id
        with pytest.raises(DuplicateJobError):
            await task.amap([(2,), (1,), (3,)])
        assert [job.id for job in app.jobs(task=task.name)] == [first.id]


async def test_replace_changes_a_job_that_waits(make: Make, call: Callable[..., Any]) -> None:
    app = make()
    ran: list[tuple[int, str]] = []

    @app.task(unique=Unique("user", on_conflict="replace"))
    async def task(user: int, what: str = "") -> str:
        ran.append((user, what))
        return what

    first = task.configure(delay=600, priority=3).delay(1, "old")
    async with app:
        second = await call(task, 1, "new")
        assert second.id == first.id
        if isinstance(second, JobResult):
            assert second.created is False
        assert await soon(first.aresult()) == "new"
        assert ran == [(1, "new")]
        assert (await call(task, 1)).id != first.id, "the key was kept, and is free now"


async def test_replace_of_a_running_job_is_one_successor(make: Make, call: Callable[..., Any]) -> None:
    app, runs = make(), Runs()

    @app.task(unique=Unique("user", on_conflict="replace"))
    async def task(user: int, what: str) -> Any:
        return await runs.run(what)

    async with app:
        first = await call(task, 1, "a")
        await eventually(lambda: runs.begun == ["a"])
        ids = {(await call(task, 1, what)).id for what in "bcd"}
        assert ids == {first.id}
        runs.go.set()
        await eventually(lambda: runs.ended == ["a", "d"])
        result = await soon(first.aresult()) if isinstance(first, JobResult) else await soon(first)
        assert result == "d"
        await eventually(lambda: app.get_job(first.id).status == "complete")
        assert (await call(task, 1, "e")).id != first.id


async def test_cancel_running_cancels_and_waits_for_the_end(make: Make, call: Callable[..., Any]) -> None:
    app = make()
    begun: list[str] = []
    running, most = 0, 0

    @app.task(unique=Unique("user", on_conflict="cancel_running"))
    async def task(user: int, what: str) -> str:
        nonlocal running, most
        begun.append(what)
        running += 1
        most = max(most, running)
        try:
            if what != "last":
                await asyncio.sleep(600)
        finally:
            await asyncio.sleep(0.05)
            running -= 1
        return what

    async with app:
        first = await call(task, 1, "first")
        await eventually(lambda: begun == ["first"])
        second, third = await call(task, 1, "second"), await call(task, 1, "last")
        other = await call(task, 2, "last")
        assert len({first.id, second.id, third.id}) == 3
        for job in (third, other):
            assert await soon(job.aresult() if isinstance(job, JobResult) else job) == "last"
        await eventually(lambda: app.get_job(first.id).status == "cancelled")
        assert app.get_job(second.id).status == "cancelled"
        assert begun.count("last") == 2
        assert app.get_job(second.id).reason == "superseded by a later call"


async def test_cancel_running_waits_for_a_thread(make: Make) -> None:
    app = make()
    go, begun = threading.Event(), []
    running, most = 0, 0

    @app.task(unique=Unique("user", on_conflict="cancel_running"))
    def task(user: int, what: str) -> str:
        nonlocal running, most
        begun.append(what)
        running += 1
        most = max(most, running)
        go.wait(30)
        running -= 1
        return what

    async with app:
        first = await task.adelay(1, "first")
        await eventually(lambda: begun == ["first"])
        second = await task.adelay(1, "second")
        await eventually(lambda: first.status == "cancelled")
        await eventually(lambda: second.waits_for is not None)
        go.set()
        assert await soon(second.aresult()) == "second"
        assert (begun, most) == (["first", "second"], 1)


# -- what makes no sense -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make_it", "message"),
    [
        (lambda: Unique(until="run"), "must be 'end' or 'start'"),  # type: ignore[arg-type]
        (lambda: Unique(on_conflict="drop"), "'keep', 'fail', 'replace' or 'cancel_running'"),  # type: ignore[arg-type]
        (lambda: Unique(()), "empty tuple"),
        (lambda: Unique(("a", 7)), "must be a path"),  # type: ignore[arg-type]
        (lambda: Unique("a..b"), "no path into the arguments"),
        (lambda: Unique(until="start", on_conflict="cancel_running"), "never meets a job that runs"),
    ],
)
def test_what_makes_no_sense_is_refused(make_it: Callable[[], object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make_it()


def test_a_task_says_what_is_wrong(tmp_path: Path) -> None:
    app = Jobify(storage=durable(tmp_path))
    with pytest.raises(ConfigurationError, match="Write unique=Unique"):

        @app.task(unique=True)  # type: ignore[arg-type]
        def one() -> None: ...

    with pytest.raises(ConfigurationError, match=r"the Unique of task .* Did you mean 'user'"):

        @app.task(unique=Unique("usr"))
        def two(user: int) -> None: ...


async def test_a_schedule_has_no_key(make: Make) -> None:
    app = make()
    ran: list[int] = []

    @app.task(unique=Unique())
    async def task() -> None:
        ran.append(1)

    async with app:
        job: Job[None] = await task.schedule().cron("* * * * * * *", job_id="each second")
        first = await task.adelay()
        assert (first.id != job.id, first.created) == (True, True)
        await soon(first.aresult())
        await eventually(lambda: len(ran) >= 2)
