"""Queues, priorities and pauses; owners, and what is read of them."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from outside import Outside

from jobify import Cron, Jobify, JobStatus
from jobify.engine.services.recovery import Heartbeat
from jobify.exceptions import ConfigurationError, JobCancelledError
from jobify.model.records import OwnerRole
from jobify.testing.clock import FakeClock
from probes import backends_of, events_of
from support import durable, eventually, run, soon

pytestmark = pytest.mark.both_storages

NOON = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)


# -- options -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("queue", ["", "  ", "a\0b", "\ud800", 5, b"mail"])
def test_the_name_of_a_queue_is_a_text(queue: Any) -> None:
    with pytest.raises(ConfigurationError, match="queue of task"):
        Jobify(storage=False).task(print, name="task", queue=queue)


@pytest.mark.parametrize("priority", ["high", 1.5, True, 2**31, -(2**31)])
def test_a_priority_is_a_whole_number_within_bounds(priority: Any) -> None:
    with pytest.raises(ConfigurationError, match="priority of task"):
        Jobify(storage=False).task(print, name="task", priority=priority)


async def test_rows_say_queue_and_priority_however_a_job_is_made(app: Jobify, outside: Outside) -> None:
    @app.task(name="task", queue="mail", priority=5, cron=Cron("0 0 1 1 *"))
    async def task() -> None: ...

    async with app:
        pushed = await task.push()
        await soon(pushed)
        later = await task.schedule().delay(300)
        replaced = await task.schedule().delay(600, job_id=later.id, replace=True)
        for job_id in (pushed.id, replaced.id, "task__jobify_cron_definition"):
            record = outside.look(job_id)
            assert (record.queue, record.priority) == ("mail", 5)


async def test_a_changed_queue_replaces_what_is_the_same_otherwise(tmp_path: Path) -> None:
    clock = FakeClock(NOON)

    def app(queue: str) -> Jobify:
        app = Jobify(storage=durable(tmp_path), clock=clock)
        app.task(print, name="task", queue=queue, cron="0 0 1 1 *")
        return app

    for queue in ("old", "new"):
        async with app(queue) as running:
            (record,) = running.configs.storage.get(("task__jobify_cron_definition",))
            assert record.queue == queue


async def test_a_higher_priority_goes_first(app: Jobify, outside: Outside) -> None:
    order: list[str] = []
    app.configs.limits = replace(app.configs.limits, concurrency=1)

    @app.task(name="notes")
    async def notes(word: str) -> None:
        order.append(word)

    for priority in (1, 3, 2):
        outside.enqueue("notes", str(priority), priority=priority)

    async with app:
        await eventually(lambda: len(order) == 3)
    assert order == ["3", "2", "1"]


# -- what a process serves ---------------------------------------------------------------------------------------------


async def test_a_process_runs_jobs_of_its_queues_only(tmp_path: Path) -> None:
    app = Jobify(storage=durable(tmp_path))
    app.configs.limits = replace(app.configs.limits, queues=("mail",))

    @app.task(name="mail", queue="mail")
    async def mail() -> str:
        return "sent"

    @app.task(name="other")
    async def other() -> str:
        return "done"

    @app.task(name="own", durable=False)
    async def own() -> str:
        return "in memory"

    async with app:
        waiting = await other.push()
        with Outside(app, tmp_path).here() as outside:
            sent = outside.enqueue("mail", queue="mail")
            await outside.until(sent, "success")
            assert await soon(await mail.push()) == "sent"
            assert await soon(await own.push()) == "in memory"
            assert outside.look(waiting.id).status == "scheduled"
        await waiting.cancel()


# -- pauses ------------------------------------------------------------------------------------------------------------


async def test_a_push_does_not_start_a_job_of_a_paused_queue(app: Jobify, outside: Outside) -> None:
    @app.task(name="mail", queue="mail")
    async def mail() -> str:
        return "sent"

    @app.task(name="other")
    async def other() -> str:
        return "done"

    async with app:
        outside.use(lambda: outside.storage.pause_queue("mail"))
        backend = backends_of(app)[0]
        await eventually(lambda: not backend.queues.is_open("mail"))
        job = await mail.push()
        assert await soon(await other.push()) == "done"
        assert outside.look(job.id).status == "scheduled"
        outside.use(lambda: outside.storage.resume_queue("mail"))
        assert await soon(job) == "sent"


async def test_a_pause_by_this_process_holds_at_once(app: Jobify) -> None:
    """Whoever has paused a queue, and pushes in the next breath, is not overtaken by the news of it."""

    @app.task(name="mail", queue="mail")
    async def mail() -> str:
        return "sent"

    async with app:
        storage = app.configs.storage
        with Outside(app, storage=storage).here() as inside:
            await asyncio.to_thread(inside.use, lambda: storage.pause_queue("mail"))
            job = await mail.push()
            assert inside.look(job.id).status == "scheduled"
            await asyncio.to_thread(inside.use, lambda: storage.resume_queue("mail"))
            assert await soon(job) == "sent"


async def test_a_pause_outlives_a_restart(app: Jobify, outside: Outside) -> None:
    @app.task(name="mail", queue="mail")
    async def mail() -> None: ...

    outside.use(lambda: outside.storage.pause_queue("mail"))

    async with app:
        job = await mail.push()
        assert outside.look(job.id).status == "scheduled"


# -- orders from outside -----------------------------------------------------------------------------------------------


async def test_a_cancel_from_outside_reaches_a_running_job(app: Jobify, outside: Outside) -> None:
    @app.task(name="hangs")
    async def hangs() -> None:
        await asyncio.Event().wait()

    async with app:
        pushed, enqueued = await hangs.push(), outside.enqueue("hangs")
        await outside.until(enqueued, "running")
        ids = [pushed.id, enqueued]
        outside.use(lambda: outside.storage.cancel(ids, reason="stop", now=app.now(), delete_at=None))
        await soon(pushed.wait())
        assert pushed.status is JobStatus.CANCELLED
        for job_id in ids:
            await outside.until(job_id, "cancelled")


async def test_a_handle_hears_that_its_waiting_job_was_cancelled_outside(app: Jobify, outside: Outside) -> None:
    @app.task(name="task")
    async def task() -> None: ...

    async with app:
        job = await task.schedule().delay(300)
        waiting = asyncio.ensure_future(job.wait())
        await asyncio.sleep(0)
        outside.use(lambda: outside.storage.cancel([job.id], reason="stop", now=app.now(), delete_at=None))
        await soon(waiting)
        assert job.status is JobStatus.CANCELLED
        with pytest.raises(JobCancelledError):
            job.result()


async def test_a_job_in_memory_beside_a_database_keeps_its_handle(tmp_path: Path) -> None:
    """Whoever watches one storage leaves the handles of the other alone."""
    app = Jobify(storage=durable(tmp_path))

    @app.task(name="own", durable=False)
    async def own() -> str:
        return "in memory"

    @app.task(name="task")
    async def task() -> str:
        return "on disk"

    async with app:
        jobs = [await own.schedule().delay(0.05), await task.schedule().delay(0.05)]
        for _ in range(20):
            events_of(app).storage_changed()
            await asyncio.sleep(0)
        assert [await soon(job) for job in jobs] == ["in memory", "on disk"]


# -- what ended in memory ----------------------------------------------------------------------------------------------


async def test_what_ended_in_memory_can_be_read(tmp_path: Path) -> None:
    app = Jobify(storage=False)

    @app.task(name="task")
    async def task(value: Any) -> Any:
        if value is None:
            raise ValueError("no")
        return value

    async with app:
        with Outside(app, tmp_path).here() as outside:
            values = [object(), "text", None]
            jobs = [await task.push(value) for value in values]
            for job in jobs:
                await soon(job.wait())
            records = [outside.look(job.id) for job in jobs]
            assert [record.status for record in records] == ["success", "success", "failed"]
            assert [outside.value(record) for record in records[:2]] == values[:2]
            assert records[2].error == "ValueError: no"
            (line,) = outside.storage.attempts(jobs[2].id)
            assert line.error == "ValueError: no"


def test_memory_ends_with_the_life_of_its_app(tmp_path: Path) -> None:
    app = Jobify(storage=False)

    @app.task(name="task")
    async def task() -> None: ...

    async def main() -> str:
        async with app:
            await soon(await task.schedule().push(job_id="it"))
            return (await task.schedule().delay(300)).id

    first = run(main())
    assert app.configs.storage.get(("it", first)) == []
    with Outside(app, tmp_path).here() as outside:
        outside.enqueue("task", id="between")

        async def again() -> None:
            async with app:
                await outside.until("between", "success")

        run(again())


# -- owners ------------------------------------------------------------------------------------------------------------


async def test_an_app_says_what_it_serves(tmp_path: Path) -> None:
    app = Jobify(storage=durable(tmp_path), concurrency=7)
    app.configs.limits = replace(app.configs.limits, queues=("mail",))
    app.task(print, name="first")
    app.task(print, name="second", durable=False)

    async with app:
        (owner,) = app.configs.storage.owners()
        assert owner.profile == (OwnerRole.WORKER, ("mail",), ("first",), 7)


async def test_a_process_says_now_and_then_that_it_is_there(tmp_path: Path) -> None:
    clock = FakeClock(NOON)
    app = Jobify(storage=durable(tmp_path), clock=clock)

    async with app:
        (before,) = app.configs.storage.owners()
        clock.advance(10)
        await Heartbeat(backends_of(app)[0], clock).step()
        (after,) = app.configs.storage.owners()
        assert after.seen_at == before.seen_at + 10_000_000
