"""Tasks with ``batch=``, through the app: what shares a call, and what each job keeps of its own."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any, TypedDict

import pytest

from jobify import (
    INJECT,
    BaseMiddleware,
    Batch,
    BatchResultError,
    Call,
    CallNext,
    Concurrency,
    ConfigurationError,
    Cron,
    Job,
    JobContext,
    Jobify,
    JobStatus,
    RateLimited,
    Retry,
    RunMode,
    Snooze,
    State,
    TaskCancelledError,
    TaskExitError,
    chord,
    current_job,
)
from probes import attempts_of, slots_of
from support import a_while, eventually, soon

Make = Callable[..., Jobify]


@dataclass
class Row:
    table: str
    number: int = 0


class Pair(TypedDict):
    left: int
    right: int


def ended(*jobs: Job[Any]) -> list[Any]:
    """What jobs have ended with: the result, the type of the error, or the status."""
    return [
        job.result() if job.status is JobStatus.SUCCESS else type(job.exception) if job.exception else job.status
        for job in jobs
    ]


async def all_of(*jobs: Job[Any]) -> list[Any]:
    """Wait for jobs; see :func:`ended`."""
    for job in jobs:
        await soon(job.wait())
    return ended(*jobs)


def process_ids(rows: list[Row]) -> list[tuple[int, int, str, int] | Exception]:
    """Runs in a child process."""
    jobs = current_job.batch
    current_job.log(f"{len(rows)} rows")
    found = (os.getpid(), len(rows), jobs[0].id, jobs[0].attempt)
    return [ValueError(row.table) if row.number < 0 else found for row in rows]


def sleep_in_child(rows: list[Row]) -> None:
    time.sleep(60)


def die(rows: list[Row]) -> list[int]:
    os._exit(3)


# -- one call ----------------------------------------------------------------------------------------------------------


async def test_a_call_runs_many_jobs_and_each_has_its_own_result(make: Make) -> None:
    app, calls = make(), list[list[Row]]()

    @app.task(batch=Batch(3, wait=30))
    async def load(rows: list[Row]) -> list[int | Exception]:
        calls.append(rows)
        return [ValueError(row.table) if row.number == 1 else row.number for row in rows]

    async with app:
        pushed = [await load.push("a"), await load.push(table="b", number=1)]
        stored = load.delay("c", number=2)
        assert await all_of(*pushed) == [0, ValueError]
        assert await soon(stored.aresult()) == 2
    assert calls == [[Row("a"), Row("b", 1), Row("c", 2)]]


async def test_a_thread_runs_them(make: Make) -> None:
    app, threads = make(), list[Any]()

    @app.task(batch=Batch(2, wait=30))
    def load(rows: list[Row]) -> list[int | Exception]:
        threads.append((threading.current_thread() is threading.main_thread(), len(rows), len(current_job.batch)))
        return [row.number for row in rows]

    async with app:
        assert await all_of(*[await load.push("a", number) for number in range(4)]) == [0, 1, 2, 3]
    assert threads == [(False, 2, 2)] * 2


async def test_a_child_process_runs_them(make: Make) -> None:
    app = make()
    load = app.task(process_ids, batch=Batch(3, wait=30), run_mode=RunMode.PROCESS)
    async with app:
        jobs = [await load.push("a"), await load.push("b", -1), await load.push("c")]
        first, error, third = await all_of(*jobs)
        assert list(first) == list(third) == [first[0], 3, jobs[0].id, 1]
        assert (error, first[0] != os.getpid()) == (ValueError, True)
        lines = [entry["message"] for job in jobs for entry in app.get_job(job.id).logs()]
        assert lines == ["3 rows"] * 3


async def test_a_part_goes_when_its_oldest_job_has_waited(make: Make) -> None:
    app, sizes = make(), list[int]()

    @app.task(batch=Batch(100, wait=0.2))
    async def load(rows: list[Row]) -> None:
        sizes.append(len(rows))

    async with app:
        begun = time.monotonic()
        for job in await load.amap([("a",)] * 3):
            assert await soon(job.aresult()) is None
        assert time.monotonic() - begun > 0.15
    assert sizes == [3]


async def test_without_a_wait_a_backlog_shares_calls(make: Make) -> None:
    app, sizes = make(), list[int]()

    @app.task(batch=Batch(4))
    async def load(rows: list[Row]) -> None:
        sizes.append(len(rows))

    await load.amap([("a",)] * 10)
    async with app:
        await soon(app.wait_all())
    assert sorted(sizes) == [2, 4, 4]


async def test_a_call_has_jobs_of_one_key(make: Make) -> None:
    app, calls = make(), list[list[str]]()

    @app.task(batch=Batch(2, wait=30, key="table"))
    async def load(rows: list[Row]) -> None:
        calls.append([row.table for row in rows])

    async with app:
        jobs = [await load.push(table, number) for number, table in enumerate("abab")]
        await all_of(*jobs)
    assert sorted(calls) == [["a", "a"], ["b", "b"]]


def initial(row_table: str, number: int = 0) -> str:
    return row_table[:1]


async def test_a_key_may_be_a_function_and_is_read_where_it_is_missing(make: Make) -> None:
    app, producer, calls = make(), make(), list[list[str]]()

    @app.task(name="load", batch=Batch(2, wait=30, key=initial))
    async def load(rows: list[Row]) -> None:
        calls.append([row.table for row in rows])

    async with app:
        jobs = producer.enqueue_many("load", [("a1",), ("b1",), ("a2",), ("b2",)])  # it knows nothing of the key
        for job in jobs:
            assert await soon(job.aresult()) is None
    assert sorted(calls) == [["a1", "a2"], ["b1", "b2"]]


async def test_jobs_of_the_time_before_are_taken_over(make: Make) -> None:
    before, app = make(), make()

    @before.task(name="load")
    async def one(table: str, number: int = 5) -> int:
        return number

    old = [one.delay("a"), one.delay("b", number=7)]

    @app.task(name="load", batch=Batch(3, wait=30, key="table.0"))
    async def load(rows: list[Row]) -> list[int]:
        return [len(rows) * 10 + row.number for row in rows]

    async with app:
        new = load.delay("a", 1)
        more = [load.delay("b", 2), load.delay("a", 3), load.delay("b", 4)]
        assert [await soon(job.aresult()) for job in (*old, new, *more)] == [30, 37, 31, 32, 33, 34]


async def test_elements_may_be_calls_or_dicts(make: Make) -> None:
    app, seen = make(), list[Any]()

    @app.task(batch=Batch(2, wait=30))
    async def anything(calls: list[Call]) -> list[str]:
        seen.extend(calls)
        return [call.id for call in calls]

    @app.task(batch=Batch(2, wait=30))
    async def pairs(of: list[Pair]) -> list[int]:
        return [pair["left"] - pair["right"] for pair in of]

    async with app:
        jobs = [await anything.push(1, b=2), await anything.push()]
        assert await all_of(*jobs) == [job.id for job in jobs]
        assert await all_of(await pairs.push(3, 1), await pairs.push(right=1, left=9)) == [2, 8]
    assert [(call.args, call.kwargs, call.attempt) for call in seen] == [((1,), {"b": 2}, 1), ((), {}, 1)]


async def test_whatever_makes_jobs_makes_those_of_batches(make: Make) -> None:
    app, total = make(), list[Any]()

    @app.task(batch=Batch(3, wait=0.2))
    async def load(rows: list[Row]) -> list[int]:
        return [row.number for row in rows]

    @app.task
    async def add(numbers: list[int]) -> None:
        total.append(sum(numbers))

    async with app:
        soon_due = await load.schedule("a", 1).delay(0.01)
        summed = chord([load.s("a", number) for number in range(4)], add.s()).apply()
        assert await all_of(soon_due) == [1]
        await soon(summed.aresult())
    assert total == [6]


async def test_a_task_stays_a_function(make_durable: Make) -> None:
    app = make_durable()

    @app.task(batch=Batch(2))
    def load(rows: list[Row]) -> list[int]:
        return [row.number for row in rows]

    assert load([Row("a", 3)]) == [3]
    with pytest.raises(TypeError, match="unexpected keyword argument 'tabel'"):
        load.delay(tabel="a")
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'table'"):
        load.delay()


# -- each job by itself ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_async", [True, False])
async def test_a_function_that_raises_fails_all(make: Make, is_async: bool) -> None:
    app = make()

    def fail(rows: list[Row]) -> list[int]:
        raise LookupError("all")

    async def afail(rows: list[Row]) -> list[int]:
        raise LookupError("all")

    load = app.task(afail if is_async else fail, name="load", batch=Batch(3, wait=30))
    async with app:
        jobs = [await load.push("a") for _ in range(3)]
        assert await all_of(*jobs) == [LookupError] * 3
        assert "all" in str(app.get_job(jobs[2].id).error)


@pytest.mark.parametrize("value", [[1, 2], [1, 2, 3, 4], None, "abc", {1, 2, 3}])
async def test_a_list_of_the_wrong_length_fails_all(make: Make, value: Any) -> None:
    app = make()

    @app.task(batch=Batch(3, wait=30))
    async def load(rows: list[Row]) -> Any:
        return value

    async with app:
        jobs = [await load.push("a") for _ in range(3)]
        assert await all_of(*jobs) == [BatchResultError] * 3
        assert "called with 3 jobs and returned" in str(jobs[0].exception)


async def test_what_ends_no_app_ends_no_app(make: Make) -> None:
    app = make()

    @app.task(batch=Batch(3, wait=30))
    async def load(rows: list[Row]) -> list[Any]:
        if rows[0].table == "exit":
            raise SystemExit(3)
        return [asyncio.CancelledError(), StopIteration(), SystemExit()]

    async with app:
        assert await all_of(*[await load.push("a") for _ in range(3)]) == [TaskExitError] * 3
        assert await all_of(*[await load.push("exit") for _ in range(3)]) == [TaskExitError] * 3


async def test_each_job_is_retried_by_itself(make: Make) -> None:
    app, calls = make(), list[list[tuple[int, int]]]()

    @app.task(batch=Batch(3, wait=0.05), retry=2)
    async def load(rows: list[Row]) -> list[int | Exception]:
        jobs = current_job.batch
        calls.append([(row.number, job.attempt) for row, job in zip(rows, jobs, strict=True)])
        return [ValueError() if job.attempt <= row.number else row.number for row, job in zip(rows, jobs, strict=True)]

    async with app:
        jobs = await load.amap([("a", number) for number in range(3)])
        assert [await soon(job.aresult()) for job in jobs] == [0, 1, 2]
    assert calls[0] == [(0, 1), (1, 1), (2, 1)]
    assert sorted(pair for call in calls[1:] for pair in call) == [(1, 2), (2, 2), (2, 3)]


async def test_control_flow_is_of_each_job_or_of_all(make: Make) -> None:
    app, calls, seen = make(), list[int](), Counter[int]()

    @app.task(batch=Batch(3, wait=0.05), retry=1)
    async def load(rows: list[Row]) -> list[Any]:
        calls.append(len(rows))
        if len(calls) == 1:
            raise RateLimited(0.01)
        seen.update(numbers := [row.number for row in rows])
        first = {0: Snooze(0.01), 1: Retry(delay=0.01), 2: 5}
        return [first[number] if seen[number] == 1 else 0 for number in numbers]

    async with app:
        jobs = await load.amap([("a", number) for number in range(3)])
        assert [await soon(job.aresult()) for job in jobs] == [0, 0, 5]
        assert [job.attempt for job in jobs] == [1, 2, 1]
    assert calls[0] == 3


async def test_middleware_and_handlers_are_of_each_job(make: Make) -> None:
    seen: list[Any] = []

    class Doubling(BaseMiddleware):
        async def __call__(self, call_next: CallNext, context: JobContext) -> Any:
            seen.append(dict(context.runnable.bound.arguments))
            context.runnable.bound.arguments["number"] *= 2
            return await call_next(context)

    async def handle(error: Exception, context: JobContext) -> str:
        return f"{context.job.id}: {error}"

    app = make(middleware=[Doubling()])

    @app.task(batch=Batch(2, wait=30), exception_handlers={ValueError: handle})
    async def load(rows: list[Row]) -> list[Any]:
        return [ValueError("odd") if row.number == 6 else row.number for row in rows]

    async with app:
        jobs = [await load.push("a", number=2), await load.push("b", number=3)]
        assert await all_of(*jobs) == [4, f"{jobs[1].id}: odd"]
    assert sorted(row["number"] for row in seen) == [2, 3]


async def test_a_job_that_middleware_ends_is_not_in_the_call(make: Make) -> None:
    class Answering(BaseMiddleware):
        async def __call__(self, call_next: CallNext, context: JobContext) -> Any:
            number = context.runnable.bound.arguments["number"]
            if number == 1:
                await a_while()
                return "known"
            return await call_next(context)

    app, calls = make(middleware=[Answering()]), list[list[int]]()

    @app.task(batch=Batch(3, wait=30))
    async def load(rows: list[Row]) -> list[int]:
        calls.append([row.number for row in rows])
        return [row.number for row in rows]

    async with app:
        assert await all_of(*[await load.push("a", number=number) for number in range(3)]) == [0, "known", 2]
    assert calls == [[0, 2]]


async def test_a_middleware_may_call_twice(make: Make) -> None:
    class Again(BaseMiddleware):
        async def __call__(self, call_next: CallNext, context: JobContext) -> Any:
            try:
                return await call_next(context)
            except ValueError:
                return await call_next(context)

    app, calls = make(middleware=[Again()]), list[int]()

    @app.task(batch=Batch(3, wait=30))
    async def load(rows: list[Row]) -> list[Any]:
        calls.append(len(rows))
        return [ValueError() if len(calls) == 1 and row.number else len(calls) for row in rows]

    async with app:
        assert await all_of(*[await load.push("a", number) for number in range(3)]) == [1, 2, 2]
    assert calls == [3, 2]


async def test_an_element_that_cannot_be_made_fails_its_job_only(make: Make) -> None:
    app = make()

    @dataclass
    class Even:
        number: int

        def __post_init__(self) -> None:
            if self.number % 2:
                raise ValueError(f"{self.number} is odd")

    async def load(rows: Any) -> list[Any]:
        return [row.number for row in rows]

    load.__annotations__["rows"] = list[Even]
    task = app.task(load, name="load", batch=Batch(3, wait=30))
    async with app:
        assert await all_of(*[await task.push(number) for number in range(3)]) == [0, ValueError, 2]


async def test_reports_are_of_all_jobs(make: Make) -> None:
    app = make()

    @app.task(batch=Batch(2, wait=30), metadata={"of": "task"})
    async def load(rows: list[Row]) -> None:
        current_job.update_progress(50)
        current_job.log("half")
        assert (current_job.task_name, current_job.metadata) == (load.name, {"of": "task"})
        for name in ("id", "attempt", "retry_count"):
            with pytest.raises(RuntimeError, match=r"This call runs 2 jobs .*current_job\.batch"):
                getattr(current_job, name)
        with (
            closing(sqlite3.connect(":memory:")) as connection,
            pytest.raises(ConfigurationError, match="which no transaction can complete"),
        ):
            current_job.transaction(connection)

    async with app:
        jobs = [await load.push("a") for _ in range(2)]
        await all_of(*jobs)
        for job in jobs:
            handle = app.get_job(job.id)
            assert (handle.progress, [line["message"] for line in handle.logs()]) == (50, ["half"])


# -- stops -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [RunMode.MAIN, RunMode.THREAD])
async def test_a_cancelled_job_ends_at_once_and_the_others_go_on(make: Make, mode: RunMode) -> None:
    app, seen = make(), list[Any]()
    begun, go = threading.Event(), threading.Event()

    def look() -> list[int]:
        seen.append([job.is_cancelled for job in current_job.batch])
        current_job.check_cancelled()  # the others go on
        return [0, 1, 2]

    async def aload(rows: list[Row]) -> list[int]:
        begun.set()
        await eventually(go.is_set)
        return look()

    def load(rows: list[Row]) -> list[int]:
        begun.set()
        assert go.wait(30)
        return look()

    task = app.task(aload if mode is RunMode.MAIN else load, name="load", batch=Batch(3, wait=30))
    async with app:
        jobs = [await task.push("a") for _ in range(3)]
        await eventually(begun.is_set)
        await soon(jobs[1].cancel())
        assert ended(jobs[1]) != [1]
        assert (jobs[1].status, jobs[0].is_done()) == (JobStatus.CANCELLED, False)
        go.set()
        assert await all_of(jobs[0], jobs[2]) == [0, 2]
        await eventually(lambda: slots_of(app).taken == 0)
    assert seen == [[False, True, False]]


@pytest.mark.parametrize("mode", [RunMode.MAIN, RunMode.PROCESS])
async def test_the_call_is_stopped_when_none_is_left(make: Make, mode: RunMode) -> None:
    app, stopped = make(), list[bool]()

    async def load(rows: list[Row]) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            stopped.append(all(job.is_cancelled for job in current_job.batch))

    is_main = mode is RunMode.MAIN
    task = app.task(load if is_main else sleep_in_child, name="load", batch=Batch(2, wait=30), run_mode=mode)
    async with app:
        jobs = [await task.push("a") for _ in range(2)]
        await eventually(lambda: all(job.status is JobStatus.RUNNING for job in jobs))
        await eventually(lambda: all(attempt.call is not None for attempt in attempts_of(app)))
        for job in jobs:
            await soon(job.cancel())
        assert [job.status for job in jobs] == [JobStatus.CANCELLED] * 2
        await eventually(lambda: slots_of(app).taken == 0)
    assert stopped == [True] * is_main


async def test_a_thread_is_told_when_none_is_left(make: Make) -> None:
    app, stopped = make(), list[BaseException]()
    begun = threading.Event()

    @app.task(batch=Batch(2, wait=30))
    def load(rows: list[Row]) -> None:
        begun.set()
        try:
            while True:
                current_job.check_cancelled()
                time.sleep(0.001)
        except TaskCancelledError as error:
            stopped.append(error)
            raise

    async with app:
        jobs = [await load.push("a") for _ in range(2)]
        await eventually(begun.is_set)
        await soon(jobs[0].cancel())
        await a_while()
        assert not stopped
        await soon(jobs[1].cancel())
        await eventually(lambda: slots_of(app).taken == 0)
        assert [job.status for job in jobs] == [JobStatus.CANCELLED] * 2
    assert len(stopped) == 1


async def test_the_timeout_of_one_job_ends_one_job(make: Make) -> None:
    app, go = make(), asyncio.Event()

    @app.task(batch=Batch(2, wait=30))
    async def load(rows: list[Row]) -> list[int]:
        await go.wait()
        return [row.number for row in rows]

    async with app:
        slow = await load.push("a", 1)
        quick = load.apply_async(("a", 2), timeout=0.05)
        await eventually(lambda: quick.job_status is JobStatus.TIMEOUT)
        assert not slow.is_done()
        go.set()
        assert await all_of(slow) == [1]


@pytest.mark.parametrize("mode", [RunMode.MAIN, RunMode.THREAD])
async def test_a_job_that_is_tried_again_does_not_overlap_itself(make: Make, mode: RunMode) -> None:
    app, calls = make(), list[list[int]]()
    go, running = threading.Event(), list[int]()

    def note(rows: list[Row]) -> bool:
        calls.append([row.number for row in rows])
        assert not running
        running.append(1)
        return len(calls) == 1

    async def aload(rows: list[Row]) -> list[int]:
        if note(rows):
            await eventually(go.is_set)
        running.clear()
        return [row.number for row in rows]

    def load(rows: list[Row]) -> list[int]:
        if note(rows):
            assert go.wait(30)
        running.clear()
        return [row.number for row in rows]

    task = app.task(aload if mode is RunMode.MAIN else load, name="load", batch=Batch(2, wait=30))
    async with app:
        slow = await task.push("a", 1)
        quick = task.apply_async(("a", 2), timeout=1, retry=1)
        await eventually(lambda: attempts_of(app).lingering)
        await a_while()
        go.set()
        assert await all_of(slow) == [1]
        assert await all_of(await task.push("a", 3)) == [3]
        assert await soon(quick.aresult()) == 2
    assert [sorted(call) for call in calls] == [[1, 2], [2, 3]]


@pytest.mark.parametrize("mode", [RunMode.MAIN, RunMode.THREAD])
async def test_a_shutdown_is_that_of_any_attempt(make_durable: Make, mode: RunMode) -> None:
    app, begun, go = make_durable(), threading.Event(), threading.Event()

    async def aload(rows: list[Row]) -> list[int]:
        begun.set()
        await asyncio.sleep(60)
        return [1, 2]

    def load(rows: list[Row]) -> list[int]:
        begun.set()
        assert go.wait(30)
        return [1, 2]

    task = app.task(aload if mode is RunMode.MAIN else load, name="load", batch=Batch(2, wait=30))
    async with app:
        stored = [task.delay("a"), task.delay("b")]
        await eventually(begun.is_set)
        threading.Timer(0.05, go.set).start()
    statuses = [(job.status, job.attempt) for job in stored]
    assert statuses == [("pending", 0)] * 2 if mode is RunMode.MAIN else [("success", 1)] * 2


async def test_a_coroutine_ends_before_its_jobs_are_released(make_durable: Make) -> None:
    app, begun, order = make_durable(), asyncio.Event(), list[str]()

    @app.task(name="load", batch=Batch(2, wait=30))
    async def load(rows: list[Row]) -> None:
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            await a_while(0.05)
            order.append(jobs[0].status)

    async with app:
        jobs = [load.delay("a"), load.delay("b")]
        await soon(begun.wait())
    assert (order, [job.status for job in jobs]) == (["running"], ["pending"] * 2)


async def test_a_child_that_dies_takes_the_attempts_down(make: Make) -> None:
    app = make()
    task = app.task(die, name="die", batch=Batch(2, wait=30), run_mode=RunMode.PROCESS)
    async with app:
        jobs = [await task.push("a") for _ in range(2)]
        await all_of(*jobs)
        assert [job.status for job in jobs] == [JobStatus.FAILED] * 2
        await eventually(lambda: slots_of(app).taken == 0)


# -- slots and limits --------------------------------------------------------------------------------------------------


async def test_a_batch_takes_one_slot_and_one_place(make: Make) -> None:
    app, go, running = make(), asyncio.Event(), list[int]()

    @app.task(batch=Batch(3, wait=30), limits=[Concurrency(2, name="two")])
    async def load(rows: list[Row]) -> None:
        running.append(len(rows))
        await go.wait()

    async with app:
        jobs = [await load.push("a") for _ in range(9)]
        await eventually(lambda: len(running) == 2)
        await eventually(lambda: slots_of(app).taken == 2)
        assert running == [3, 3]
        go.set()
        assert await all_of(*jobs) == [None] * 9
        assert running == [3, 3, 3]
        await eventually(lambda: slots_of(app).taken == 0)
        await eventually(lambda: [limit.active for limit in app.limits()] == [0])


async def test_tasks_share_the_slots_in_turns(make: Make) -> None:
    app, order = make(concurrency=1), list[str]()

    @app.task(batch=Batch(2, wait=0))
    def load(rows: list[Row]) -> None:
        order.append("batch")

    @app.task
    def plain() -> None:
        order.append("plain")

    await plain.amap([()] * 40)
    await load.amap([("a",)] * 8)
    async with app:
        await soon(app.wait_all())
    assert (order.count("plain"), order.count("batch")) == (40, 4)
    assert order.index("batch") < 20


async def test_a_function_lends_its_slot_while_it_waits(make: Make) -> None:
    app = make(concurrency=1)

    @app.task
    def one(number: int) -> int:
        return number + 1

    @app.task(batch=Batch(2, wait=30))
    def load(rows: list[Row]) -> list[int]:
        return [one.delay(row.number).result(timeout=30) for row in rows]

    async with app:
        jobs = [load.delay("a", number) for number in range(2)]
        assert [await soon(job.aresult()) for job in jobs] == [1, 2]
        await eventually(lambda: slots_of(app).taken == 0)


async def test_two_apps_share_the_work(make: Make) -> None:
    calls: list[tuple[int, list[int]]] = []

    def app_of(number: int) -> tuple[Jobify, Any]:
        app = make()

        @app.task(name="load", batch=Batch(5, wait=0.3))
        async def load(rows: list[Row]) -> list[int]:
            calls.append((number, [row.number for row in rows]))
            await a_while()
            return [row.number for row in rows]

        return app, load

    (first, load), (second, _) = app_of(1), app_of(2)
    async with first, second:
        jobs = await load.amap([("a", number) for number in range(53)])
        assert [await soon(job.aresult()) for job in jobs] == list(range(53))
    assert sorted(number for _, numbers in calls for number in numbers) == list(range(53))
    assert sorted(len(numbers) for _, numbers in calls) == [3, *[5] * 10]


# -- what is injected, scheduled, or in memory -------------------------------------------------------------------------


async def test_what_belongs_to_no_job_is_injected(make: Make) -> None:
    app, found = make(state=State({"name": "x"})), list[Any]()

    @app.task(batch=Batch(2, wait=30))
    async def load(rows: list[Row], state: State = INJECT, here: Jobify = INJECT) -> None:
        found.append((state["name"], here is app, len(rows)))

    async with app:
        await all_of(*[await load.push("a") for _ in range(2)])
    assert found == [("x", True, 2)]


async def test_a_declared_cron_is_a_job_of_a_batch(make: Make) -> None:
    app, calls = make(), list[list[str]]()

    @app.task(batch=Batch(5, wait=0.05, key="table"), cron=Cron("* * * * * * *", max_runs=1, kwargs={"table": "a"}))
    async def load(rows: list[Row]) -> None:
        calls.append([row.table for row in rows])

    async with app:
        await eventually(lambda: calls)
    assert calls[0] == ["a"]


async def test_jobs_in_memory_are_batched_too(make_durable: Make) -> None:
    app, sizes = make_durable(), list[int]()

    @app.task(batch=Batch(2, wait=30), durable=False)
    async def load(rows: list[Row]) -> None:
        sizes.append(len(rows))

    async with app:
        await all_of(*[await load.push("a") for _ in range(4)])
    assert sizes == [2, 2]


# -- refusals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"size": 0}, "size of a Batch is 0; it must be a whole number, 1 to 10,000"),
        ({"size": 10_001}, "size of a Batch is 10001"),
        ({"size": True}, "size of a Batch is True"),
        ({"size": 2, "wait": -1}, "wait of a Batch is -1; it must be 0 or more"),
        ({"size": 2, "wait": "1"}, "wait of a Batch is '1'"),
        ({"size": 2, "key": "a b"}, "no path into the arguments"),
        ({"size": 2, "key": lambda row: row}, "a function at the top level of a module"),
    ],
)
def test_a_batch_that_makes_no_sense_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Batch(**values)


def test_a_task_whose_batch_makes_no_sense_is_refused() -> None:
    app = Jobify(storage=False)

    def no_list(row: Row) -> None: ...
    def two(rows: list[Row], other: int) -> None: ...
    def rows(rows: list[Row]) -> None: ...
    def of_one(rows: list[Row], job: Job[Any] = INJECT) -> None: ...
    def generate(rows: list[Row]) -> Any:
        yield 1

    for func, options, message in (
        (no_list, {}, "needs a function that takes a list"),
        (two, {}, "rows, other have to be given"),
        (rows, {"batch": 5}, r"is 5; it must be a Batch. Did you mean Batch\(5\)"),
        (rows, {"batch": Batch(2, key="tabel")}, "The key 'tabel' of the batch .* Did you mean 'table'"),
        (of_one, {}, "to be a Job, which is of one job"),
        (generate, {}, "is a generator"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            app.task(func, **{"batch": Batch(2), **options})  # type: ignore[arg-type]
