"""What goes wrong elsewhere, and must not here: stories T4 to T10, T14 and T15, with the worker in another process or
thread."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from elsewhere import World

from jobify import INJECT, Job, Jobify, RunMode, SmartRetry, current_job
from jobify.engine.execution import dispatcher
from jobify.engine.services import change_listener
from jobify.exceptions import TaskCancelledError
from support import Program, address, durable, eventually, soon, until

pytestmark = pytest.mark.both_storages


def declare(app: Jobify) -> None:
    """The tasks of all tests here."""

    @app.task(name="sleep")
    async def sleep() -> None:
        await asyncio.Event().wait()

    @app.task(name="sleep in a thread")
    def sleep_in_a_thread() -> None:
        while True:
            current_job.check_cancelled()
            time.sleep(0.002)

    app.task(sleep_in_a_process, name="sleep in a process", run_mode=RunMode.PROCESS)

    @app.task(name="add")
    async def add(x: int) -> int:
        return x + 1

    @app.task(name="fail")
    async def fail() -> None:
        raise ValueError("because")

    @app.task(name="tell")
    def tell(count: int) -> None:
        for number in range(count):
            current_job.publish(number)
        current_job.update_progress(50)
        current_job.log("told", level="warning")


def sleep_in_a_process() -> None:
    """Does not end by itself."""
    time.sleep(1000)


@pytest.mark.promise("t4")
@pytest.mark.parametrize("task", ["sleep", "sleep in a thread", "sleep in a process"])
def test_a_running_job_that_is_cancelled_stops_and_reads_so(world: World, app: Jobify, task: str) -> None:
    with world.running(declare):
        job = app.enqueue(task)
        until(lambda: job.status == "running")
        assert job.cancel()
        assert job.status == "cancelled"
        with pytest.raises(TaskCancelledError):
            job.result()


@pytest.mark.promise("t4")
def test_a_cancel_that_came_too_late_says_so(world: World, app: Jobify) -> None:
    with world.running(declare):
        job = app.enqueue("add", (1,))
        job.wait(20)
        assert job.cancel() is False
        assert job.status == "complete"


@pytest.mark.promise("t4")
def test_a_job_that_does_not_stop_is_not_said_to_be_cancelled(world: World, app: Jobify) -> None:
    stubborn, may_end = [], []

    def declare_stubborn(app: Jobify) -> None:
        @app.task(name="stubborn")
        async def task() -> None:
            stubborn.append(1)
            while not may_end:
                try:
                    await asyncio.sleep(0.001)
                except asyncio.CancelledError:
                    stubborn.append(2)

    with world.running(declare_stubborn):
        job = app.enqueue("stubborn")
        until(lambda: stubborn)
        assert job.cancel(timeout=0.01) is False
        assert job.status == "running"
        may_end.append(1)
        job.wait(20)


@pytest.mark.promise("t4")
async def test_it_can_be_awaited(world: World, app: Jobify) -> None:
    with world.running(declare):
        job = await app.aenqueue("sleep")
        await eventually(lambda: job.status == "running")
        assert await soon(job.acancel())


@pytest.mark.promise("t5")
def test_a_job_is_picked_up_because_of_a_notification(
    world: World, app: Jobify, monkeypatch: pytest.MonkeyPatch
) -> None:
    never = 1000.0
    for module, name in (
        (change_listener, "_POLL_WITH_NOTIFIER"),
        (change_listener, "_POLL_WITHOUT_NOTIFIER"),
        (dispatcher, "_RECHECK"),
        (dispatcher, "_LONGEST_SLEEP"),
    ):
        monkeypatch.setattr(module, name, never)
    with world.running(declare):
        for _ in range(3):
            assert app.enqueue("add", (1,)).result(20, never, never) == 2


@pytest.mark.promise("t7")
def test_what_waits_for_others_blocks_no_worker(world: World, app: Jobify) -> None:
    parent = app.enqueue("add", (0,), delay=3600)
    waiting = app.enqueue_many("add", [(n,) for n in range(200)], depends_on=parent)
    with world.running(declare):
        assert app.enqueue("add", (1,)).result() == 2
        assert {job.status for job in waiting} == {"pending"}


@pytest.mark.promise("t8")
@pytest.mark.parametrize("end", ["cancel", "fail", "expire", "delete"])
def test_what_depends_on_one_that_does_not_succeed_is_cancelled(world: World, app: Jobify, end: str) -> None:
    options: dict[str, Any] = {"expires": 0.001, "delay": 3600} if end == "expire" else {"delay": 3600}
    parent = app.enqueue("fail") if end == "fail" else app.enqueue("add", (1,), **options)
    child = app.enqueue("add", (1,), depends_on=parent)
    grandchild = app.enqueue("add", (1,), depends_on=child)
    with world.running(declare):
        if end == "cancel":
            assert parent.cancel()
        if end == "delete":
            assert app.delete_jobs(parent) == 1
        for job in (child, grandchild):
            job.wait(20)
            assert job.status == "cancelled"
        assert parent.id in (child.reason or "")
        assert child.id in (grandchild.reason or "")
        if end == "fail":
            assert parent.retry()
            until(lambda: len(parent.errors) == 2)
    if end != "delete":
        app.purge_jobs(status="failed" if end == "fail" else "cancelled", task="fail" if end == "fail" else None)
    with world.running(declare):
        assert app.enqueue("add", (1,)).result() == 2
        if end == "fail":
            assert {child.status, grandchild.status} == {"cancelled"}, "it was resurrected"


@pytest.mark.promise("t9")
def test_what_a_task_publishes_arrives_in_order(world: World, app: Jobify) -> None:
    with world.running(declare):
        job = app.enqueue("tell", (200,))
        assert list(job.stream()) == list(range(200))
        job.wait(20)
        assert list(job.stream()) == list(range(200))
        assert job.progress == 50
        assert [(line["level"], line["message"]) for line in job.logs()] == [("warning", "told")]


@pytest.mark.promise("t10")
def test_a_worker_without_queues_serves_all(world: World, app: Jobify) -> None:
    with world.running(declare):
        assert app.enqueue("add", (1,), queue="any").result() == 2


@pytest.mark.promise("t14")
def test_an_acknowledged_call_is_on_disk(tmp_path: Path) -> None:
    program = Program(
        tmp_path,
        """
        import asyncio, os, sys
        from jobify import Jobify, chain

        app = Jobify(storage=sys.argv[1])
        task = app.task(lambda *_: None, name="task")
        task.delay()
        task.apply_async(priority=2)
        task.map([(), ()])
        chain(task.s(), task.s()).apply()
        asyncio.run(task.adelay())
        os._exit(0)
        """,
        address(tmp_path),
    )
    program.finish()
    app = Jobify(storage=durable(tmp_path))
    assert app.stats()["pending"] == 7
    app.close()


@pytest.mark.promise("t15")
def test_an_error_shows_the_users_frames_only(world: World, app: Jobify) -> None:
    with world.running(declare):
        job = app.enqueue("fail")
        job.wait(20)
    (error,) = job.errors
    lines = error["error"].splitlines()
    assert [line for line in lines if line.startswith("  File")] == [lines[1]]
    assert "test_stories.py" in lines[1]
    assert "During handling" not in error["error"]


def test_a_task_enqueues_and_waits_for_others(world: World) -> None:
    def declare_tree(app: Jobify) -> None:
        @app.task(name="leaf")
        def leaf(x: int) -> int:
            return x

        @app.task(name="sum of leaves")
        def tree(count: int) -> int:
            return sum(job.result() for job in leaf.map([(n,) for n in range(count)]))

        @app.task(name="sum of leaves, async")
        async def async_tree(count: int) -> int:
            jobs = await leaf.amap([(n,) for n in range(count)])
            return sum(await asyncio.gather(*[job.aresult() for job in jobs]))

    with world.running(declare_tree) as other:
        assert world.app.enqueue("sum of leaves", (5,)).result() == 10
        assert world.app.enqueue("sum of leaves, async", (5,)).result() == 10
    other.close()


async def test_handles_of_both_kinds_agree(tmp_path: Path) -> None:
    app = Jobify(storage=durable(tmp_path))

    @app.task(name="add")
    async def add(x: int, job: Job[int] = INJECT) -> int:
        seen.append(job.id)
        return x + 1

    seen: list[str] = []
    async with app:
        pushed = await add.push(1)
        enqueued = await add.adelay(1)
        assert await soon(app.get_job(pushed.id).aresult()) == await pushed == 2
        assert await soon(enqueued.aresult()) == 2
        assert seen == [pushed.id, enqueued.id]
    app.close()


def test_retries_are_the_jobs_own(world: World, app: Jobify) -> None:
    job = app.enqueue("fail", retry=SmartRetry(2, initial_delay=0))
    with world.running(declare):
        job.wait(20)
    assert (job.status, job.attempt, len(job.errors)) == ("dead", 3, 3)
