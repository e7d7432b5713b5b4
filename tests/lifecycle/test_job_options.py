"""Jobs that were enqueued from outside the app: what each of them was told holds for it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from outside import Outside

from jobify import INJECT, JobContext, Jobify, RunMode, SmartRetry
from jobify.middleware import QueueMiddleware
from jobify.model.clock import SECOND
from jobify.model.job_options import JobOptions, ParentResults, StoredRetry
from jobify.model.records import NewJob
from support import durable, eventually, soon


async def test_what_is_enqueued_before_the_start_runs_after_it(app: Jobify, outside: Outside) -> None:
    @app.task(name="double")
    async def double(number: int) -> int:
        return 2 * number

    job_id = outside.enqueue("double", 4)

    async with app:
        record = await outside.until(job_id, "success")
        assert outside.value(record) == 8
        assert not record.is_dead


# -- timeout -----------------------------------------------------------------------------------------------------------


def sleeps(seconds: float) -> str:
    time.sleep(seconds)
    return "slept"


@pytest.mark.parametrize("own", [None, 60.0], ids=["task without one", "task with a longer one"])
async def test_the_timeout_of_a_job_goes_before_that_of_its_task(
    app: Jobify, outside: Outside, own: float | None
) -> None:
    @app.task(name="slow", timeout=own)
    async def slow() -> None:
        await asyncio.sleep(60)

    async with app:
        job_id = outside.enqueue("slow", options=JobOptions(timeout=0.01))
        record = await outside.until(job_id, "timeout")
        assert record.error is not None
        assert record.error.startswith("JobTimeoutError: ")
        assert not record.is_dead
        (line,) = outside.use_silently(lambda: outside.storage.attempts(job_id))
        assert line.traceback is not None
        assert "in slow\n" in line.traceback
        for noise in ("jobify/engine", "jobify/middleware", "/asyncio/", "CancelledError", "direct cause"):
            assert noise not in line.traceback


async def test_a_longer_timeout_than_the_tasks_is_granted(app: Jobify, outside: Outside) -> None:
    @app.task(name="slow", timeout=0.001)
    async def slow() -> str:
        await asyncio.sleep(0.05)
        return "done"

    async with app:
        record = await outside.until(outside.enqueue("slow", options=JobOptions(timeout=60.0)), "success")
        assert outside.value(record) == "done"


async def test_the_timeout_of_a_job_kills_a_process(app: Jobify, outside: Outside) -> None:
    app.task(sleeps, name="sleeps", run_mode=RunMode.PROCESS)

    async with app:
        job_id = outside.enqueue("sleeps", 60.0, options=JobOptions(timeout=0.05))
        assert (await outside.until(job_id, "timeout")).attempt == 1


# -- retry -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("own", [None, 5], ids=["task without", "task with more"])
async def test_the_retries_of_a_job_go_before_those_of_its_task(app: Jobify, outside: Outside, own: int | None) -> None:
    runs = []

    @app.task(name="fails", retry=None if own is None else SmartRetry(own, initial_delay=0))
    async def fails() -> None:
        runs.append(True)
        raise ValueError("no")

    async with app:
        retry = StoredRetry(2, initial_delay=0.0)
        record = await outside.until(outside.enqueue("fails", options=JobOptions(retry=retry)), "failed")
        assert (len(runs), record.attempt, record.is_dead) == (3, 3, True)
        history = outside.use_silently(lambda: outside.storage.attempts(record.id))
        assert [line.error for line in history] == ["ValueError: no"] * 3


async def test_no_retries_for_a_job_are_none(app: Jobify, outside: Outside) -> None:
    @app.task(name="fails", retry=5)
    async def fails() -> None:
        raise ValueError("no")

    async with app:
        options = JobOptions(retry=StoredRetry(0))
        record = await outside.until(outside.enqueue("fails", options=options), "failed")
        assert (record.attempt, record.is_dead) == (1, False)


# -- metadata, result_ttl ----------------------------------------------------------------------------------------------


async def test_the_metadata_of_a_job_is_seen_over_that_of_its_task(app: Jobify, outside: Outside) -> None:
    seen: list[Any] = []

    @app.task(name="looks", metadata={"kind": "task", "kept": True})
    async def looks(context: JobContext = INJECT) -> None:
        seen.append(context.route_options.get("metadata"))

    async with app:
        await outside.until(outside.enqueue("looks", options=JobOptions(metadata={"kind": "job"})), "success")
        await outside.until(outside.enqueue("looks"), "success")
    assert seen == [{"kind": "job", "kept": True}, {"kind": "task", "kept": True}]


async def test_a_queue_in_front_of_the_tasks_sees_the_priority_of_each_job(tmp_path: Path) -> None:
    app = Jobify(storage=durable(tmp_path), middleware=[QueueMiddleware(workers=1)])
    go_on, order = asyncio.Event(), []

    @app.task(name="holds")
    async def holds() -> None:
        await go_on.wait()

    @app.task(name="notes")
    async def notes(word: str) -> None:
        order.append(word)

    go_on = asyncio.Event()
    with Outside(app, tmp_path).here() as outside:
        async with app:
            await holds.push()
            for priority in (1, 3, 2):
                outside.enqueue("notes", str(priority), options=JobOptions(metadata={"priority": priority}))
            queue: Any = app.middleware[0].queue  # type: ignore[attr-defined]
            await eventually(lambda: queue.qsize() == 3)
            go_on.set()
            await eventually(lambda: len(order) == 3)
    assert order == ["3", "2", "1"]


async def test_a_success_is_kept_as_long_as_the_job_was_told(app: Jobify, outside: Outside) -> None:
    @app.task(name="task")
    async def task() -> None: ...

    async with app:
        record = await outside.until(outside.enqueue("task", options=JobOptions(result_ttl=7.0)), "success")
        assert record.finished_at is not None
        assert record.delete_at == record.finished_at + 7 * SECOND


@pytest.mark.promise("f34")
@pytest.mark.parametrize(
    "options",
    [
        "{",
        '{"timeout": "soon"}',
        "[]",
        '{"retry": {"retries": 1, "include": ["nowhere:Error"]}}',
        '{"metadata": {"deep": ' + "[" * 100_000 + "]" * 100_000 + "}}",
    ],
    ids=["no JSON", "a wrong type", "no object", "an unknown exception", "too deep"],
)
async def test_a_job_whose_options_cannot_be_read_is_parked(app: Jobify, outside: Outside, options: str) -> None:
    @app.task(name="task", retry=3)
    async def task() -> None: ...

    async with app:
        job_id = outside.enqueue("task", options=options)
        await eventually(lambda: outside.look(job_id).parking)
        record = outside.look(job_id)
        assert record.parking is not None
        assert record.parking.reason
        assert (record.status, record.attempt) == ("scheduled", 0)


# -- inputs ------------------------------------------------------------------------------------------------------------


def child(outside: Outside, task: str, *args: Any, parents: tuple[str, ...], is_list: bool = False) -> NewJob:
    options = JobOptions(inputs=ParentResults(parents, is_list))
    return outside.row(task, *args, options=options, parents=parents)


async def test_the_result_of_a_parent_is_the_first_argument(app: Jobify, outside: Outside) -> None:
    @app.task(name="make")
    async def make() -> dict[str, int]:
        return {"answer": 42}

    @app.task(name="take")
    def take(found: dict[str, int], other: str) -> tuple[dict[str, int], str]:
        return found, other

    async with app:
        parent = outside.row("make")
        following = child(outside, "take", "more", parents=(parent.id,))
        outside.use(lambda: outside.storage.insert((parent, following)))
        record = await outside.until(following.id, "success")
        assert outside.value(record) == ({"answer": 42}, "more")


@pytest.mark.parametrize("count", [1, 3])
async def test_the_results_of_several_parents_are_a_list_in_their_order(
    app: Jobify, outside: Outside, count: int
) -> None:
    @app.task(name="make")
    async def make(number: int) -> int | None:
        await asyncio.sleep(0.01 * (3 - number))
        return number or None

    @app.task(name="take")
    async def take(found: list[int | None]) -> list[int | None]:
        return found

    async with app:
        parents = [outside.row("make", number) for number in range(count)]
        following = child(outside, "take", parents=tuple(row.id for row in parents), is_list=True)
        outside.use(lambda: outside.storage.insert((*parents, following)))
        record = await outside.until(following.id, "success")
        assert outside.value(record) == [None, 1, 2][:count]


async def test_a_retry_gets_the_same_inputs(app: Jobify, outside: Outside) -> None:
    seen = []

    @app.task(name="make")
    async def make() -> int:
        return 5

    @app.task(name="take", retry=SmartRetry(1, initial_delay=0))
    async def take(found: int) -> int:
        seen.append(found)
        if len(seen) == 1:
            raise ValueError
        return found

    async with app:
        parent = outside.row("make")
        following = child(outside, "take", parents=(parent.id,))
        outside.use(lambda: outside.storage.insert((parent, following)))
        await outside.until(following.id, "success")
    assert seen == [5, 5]


@pytest.mark.promise("f34")
async def test_inputs_that_do_not_fit_the_function_park_the_job(app: Jobify, outside: Outside) -> None:
    @app.task(name="make")
    async def make() -> int:
        return 5

    @app.task(name="take", retry=3)
    async def take() -> None: ...

    async with app:
        parent = outside.row("make")
        following = child(outside, "take", parents=(parent.id,))
        outside.use(lambda: outside.storage.insert((parent, following)))
        await eventually(lambda: outside.look(following.id).parking)
        record = outside.look(following.id)
        assert record.parking is not None
        assert "do not fit task 'take'" in record.parking.reason
        assert record.attempt == 0


async def test_a_result_that_was_not_stored_fails_who_needs_it(tmp_path: Path) -> None:
    app = Jobify(storage=durable(tmp_path))

    @app.task(name="make")
    async def make() -> Any:
        return object()

    @app.task(name="take", retry=3)
    async def take(found: Any) -> None: ...

    with Outside(app, tmp_path).here() as outside:
        async with app:
            parent = outside.row("make")
            following = child(outside, "take", parents=(parent.id,))
            outside.use(lambda: outside.storage.insert((parent, following)))
            record = await outside.until(following.id, "failed")
            assert record.error is not None
            assert record.error.startswith("ResultNotStoredError: ")
            assert parent.id in record.error
            assert (record.attempt, record.is_dead) == (1, False)
            assert record.delete_at is not None


async def test_a_parent_that_was_deleted_fails_who_needs_it(app: Jobify, outside: Outside) -> None:
    @app.task(name="take", retry=3)
    async def take(found: Any) -> None: ...

    async with app:
        job_id = outside.enqueue("take", options=JobOptions(inputs=ParentResults(("gone",))))
        record = await outside.until(job_id, "failed")
        assert record.error is not None
        assert record.error.startswith("ResultNotStoredError: ")
        assert "deleted" in record.error
        assert record.attempt == 1


# -- expiry ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_due", [False, True], ids=["waited too long", "expired before its claim"])
async def test_a_job_that_has_expired_is_cancelled(app: Jobify, outside: Outside, is_due: bool) -> None:
    runs = []

    @app.task(name="task")
    async def task() -> None:
        runs.append(True)

    async with app:
        now = app.now()
        late = {"ready": False, "due_at": now + 60 * SECOND, "expires_at": now + SECOND // 100}
        job_id = outside.enqueue("task", **({"expires_at": now - 1} if is_due else late))
        record = await outside.until(job_id, "cancelled")
        assert record.error == "expired"
        assert record.delete_at is not None
    assert runs == []


# -- cascades ----------------------------------------------------------------------------------------------------------


async def test_who_waits_for_a_pushed_job_starts_when_it_is_over(app: Jobify, outside: Outside) -> None:
    go_on = asyncio.Event()

    @app.task(name="parent")
    async def parent() -> None:
        await go_on.wait()

    @app.task(name="child")
    async def following() -> str:
        return "after it"

    go_on = asyncio.Event()
    async with app:
        job = await parent.push()
        child_id = outside.enqueue("child", parents=(job.id,))
        assert outside.look(child_id).blockers == 1
        go_on.set()
        await soon(job)
        record = await outside.until(child_id, "success")
        assert outside.value(record) == "after it"


async def test_who_waits_for_a_job_that_fails_is_cancelled(app: Jobify, outside: Outside) -> None:
    @app.task(name="parent")
    async def parent() -> None:
        raise ValueError("no")

    @app.task(name="child")
    async def following() -> None: ...

    async with app:
        first = outside.row("parent")
        second = outside.row("child", parents=(first.id,))
        outside.use(lambda: outside.storage.insert((first, second)))
        record = await outside.until(second.id, "cancelled")
        assert record.error is not None
        assert first.id in record.error
