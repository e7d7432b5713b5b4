"""QueueMiddleware: documented behaviour 21, stories B28 and B29."""

from __future__ import annotations

import asyncio
import functools
import threading
from pathlib import Path
from typing import Any

import pytest

from jobify import Job, Jobify, JobRouter, JobStatus, SmartRetry
from jobify.exceptions import ApplicationStateError, ConfigurationError
from jobify.middleware import Item, QueueMiddleware
from support import durable, eventually, run


class Yard:
    """An app with a queue, tasks of several priorities, and a task that keeps one worker busy until it is told."""

    def __init__(self, queue: Any = None, *, workers: int = 1, storage: Any = False, is_sync: bool = False) -> None:
        self.middleware = QueueMiddleware(queue, workers=workers)
        self.app = Jobify(storage=storage, middleware=[self.middleware])
        self.ran: list[Any] = []
        self.release = asyncio.Event()
        self.tasks: dict[int, Any] = {}
        for priority in (0, 1, 2):
            metadata = {"priority": priority}
            work = self.plain_work if is_sync else self.work
            self.tasks[priority] = self.app.task(work, name=f"work {priority}", metadata=metadata, durable=False)
        self.held = self.app.task(self.hold, name="hold", durable=False)

    async def work(self, label: Any) -> Any:
        self.ran.append(label)
        return label

    def plain_work(self, label: Any) -> Any:
        self.ran.append(label)
        return label

    async def hold(self) -> None:
        await self.release.wait()

    async def occupy(self) -> list[Job[Any]]:
        """Keep all workers busy."""
        jobs = [await self.held.push() for _ in range(self.middleware.workers)]
        await eventually(lambda: all(job.status is JobStatus.RUNNING for job in jobs))
        return jobs

    async def push_all(self, labels: list[tuple[int, int]]) -> list[Job[Any]]:
        """Push (priority, number)s, one after the other into the queue."""
        jobs: list[Job[Any]] = []
        queue: Any = self.middleware.queue
        for priority, number in labels:
            jobs.append(await self.tasks[priority].push((priority, number)))
            await eventually(lambda: queue.qsize() >= len(jobs))
        return jobs


async def running(job: Job[Any]) -> None:
    await eventually(lambda: job.status is JobStatus.RUNNING)


MIXED = [(priority, number) for number in range(8) for priority in (0, 1, 2)]


@pytest.mark.promise("b29", "rule-21")
@pytest.mark.parametrize("is_sync", [False, True], ids=["async", "thread"])
async def test_higher_priorities_first_and_equal_ones_in_order(is_sync: bool) -> None:
    yard = Yard(is_sync=is_sync)
    async with yard.app:
        await yard.occupy()
        jobs = await yard.push_all(MIXED)
        yard.release.set()
        await asyncio.gather(*jobs)
        assert yard.ran == sorted(MIXED, key=lambda label: (-label[0], label[1]))


@pytest.mark.promise("rule-21")
def test_other_queues() -> None:
    async def main(queue: Any, expected: list[Any]) -> None:
        yard = Yard(queue)
        async with yard.app:
            await yard.occupy()
            jobs = await yard.push_all(MIXED)
            yard.release.set()
            await asyncio.gather(*jobs)
            assert yard.ran == expected

    run(main(asyncio.Queue(), MIXED))
    run(main(asyncio.LifoQueue(), MIXED[::-1]))


@pytest.mark.promise("rule-21")
async def test_workers_bound_what_runs_at_once() -> None:
    app = Jobify(storage=False, middleware=[QueueMiddleware(workers=3)])
    at_work, most = 0, 0

    @app.task
    async def work() -> None:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        await asyncio.sleep(0)
        at_work -= 1

    async with app:
        await asyncio.gather(*[await work.push() for _ in range(50)])
    assert most == 3


@pytest.mark.promise("rule-21")
async def test_a_full_queue_holds_jobs_back() -> None:
    queue: asyncio.Queue[Item] = asyncio.PriorityQueue(2)
    yard = Yard(queue)
    async with yard.app:
        await yard.occupy()
        jobs = [await yard.tasks[0].push(n) for n in range(5)]
        await eventually(queue.full)
        for _ in range(20):
            await asyncio.sleep(0)
        assert queue.qsize() == 2
        assert {job.status for job in jobs} == {JobStatus.SCHEDULED}
        yard.release.set()
        assert await asyncio.gather(*jobs) == list(range(5))
        assert yard.ran == list(range(5))


@pytest.mark.promise("b29")
async def test_queued_jobs_are_scheduled() -> None:
    yard = Yard()
    async with yard.app:
        (held,) = await yard.occupy()
        jobs = await yard.push_all([(0, 0), (0, 1)])
        assert {job.status for job in jobs} == {JobStatus.SCHEDULED}
        assert yard.app.find_job(jobs[0].id) is jobs[0]
        assert len(yard.app.get_active_jobs()) == 3
        assert held.status is JobStatus.RUNNING
        yard.release.set()
        await asyncio.gather(*jobs)
        assert {job.status for job in jobs} == {JobStatus.SUCCESS}


@pytest.mark.promise("b29")
@pytest.mark.parametrize("interrupt", [True, False])
async def test_a_queued_job_that_is_cancelled_never_runs(interrupt: bool) -> None:
    yard = Yard()
    async with yard.app:
        await yard.occupy()
        jobs = await yard.push_all([(0, n) for n in range(4)])
        await jobs[1].cancel(interrupt=interrupt)
        assert jobs[1].status is JobStatus.CANCELLED
        assert yard.app.find_job(jobs[1].id) is None
        yard.release.set()
        await yard.app.wait_all(20)
        assert yard.ran == [(0, 0), (0, 2), (0, 3)]


async def test_a_job_that_waits_for_room_can_be_cancelled() -> None:
    queue: asyncio.Queue[Item] = asyncio.Queue(1)
    yard = Yard(queue)
    async with yard.app:
        await yard.occupy()
        jobs = [await yard.tasks[0].push(n) for n in range(3)]
        await eventually(queue.full)
        await jobs[2].cancel()
        assert jobs[2].status is JobStatus.CANCELLED
        yard.release.set()
        await yard.app.wait_all(20)
        assert yard.ran == [0, 1]


@pytest.mark.promise("b28")
async def test_workers_survive_everything() -> None:
    """Story B28: cancels, errors of every kind, timeouts; more of each than there are workers."""

    app = Jobify(storage=False, middleware=[QueueMiddleware(workers=2)])

    @app.task
    async def hang() -> None:
        await asyncio.Event().wait()

    @app.task
    async def stubborn() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)

    @app.task
    async def fail(kind: type[BaseException]) -> None:
        raise kind

    @app.task(timeout=0.01)
    async def slow() -> None:
        await asyncio.Event().wait()

    @app.task
    async def cancel_myself() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(1)

    async with app:
        for task in (hang, stubborn):
            for _ in range(6):
                job = await task.push()
                await running(job)
                await job.cancel()
                assert job.status is JobStatus.CANCELLED
        for kind in (ValueError, SystemExit, KeyboardInterrupt, asyncio.CancelledError, GeneratorExit):
            for _ in range(3):
                await (await fail.push(kind)).wait()
        for task in (slow, cancel_myself):
            for _ in range(3):
                await (await task.push()).wait()

        for _ in range(10):
            job = await fail.push(KeyError)
            await job.wait()
            assert job.status is JobStatus.FAILED


@pytest.mark.promise("b29")
async def test_metadata_none_and_other_priorities() -> None:
    app = Jobify(storage=False, middleware=[QueueMiddleware(workers=1)])
    without = app.task(lambda: "without", metadata=None)
    empty = app.task(lambda: "empty", metadata={"other": 1})
    fraction = app.task(lambda: "fraction", metadata={"priority": 0.5})
    wrong = app.task(lambda: "wrong", metadata={"priority": "high"})
    async with app:
        for task, word in ((without, "without"), (empty, "empty"), (fraction, "fraction")):
            assert await (await task.push()) == word
        job = await wrong.push()
        await job.wait()
        assert job.status is JobStatus.FAILED
        assert "'high'" in str(job.exception)


@pytest.mark.promise("b29")
async def test_the_timeout_does_not_count_the_queue() -> None:
    app = Jobify(storage=False, middleware=[QueueMiddleware(workers=1)])
    long = app.task(functools.partial(asyncio.sleep, 0.6), name="long")
    quick = app.task(lambda: "in time", timeout=0.5)
    async with app:
        await long.push()
        assert await (await quick.push()) == "in time"


async def test_retries_line_up_again() -> None:
    yard = Yard()
    attempts = 0

    async def fail_once() -> str:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            raise OSError
        return "second"

    task = yard.app.task(fail_once, name="fail once", retry=SmartRetry(retries=1, initial_delay=0))
    async with yard.app:
        assert await (await task.push()) == "second"


@pytest.mark.promise("b29")
def test_a_shutdown_does_not_run_the_queue_empty(tmp_path: Path) -> None:
    """What has not got its turn is given back; it runs at the next start."""
    ran: list[int] = []

    async def life(first: bool) -> None:
        app = Jobify(storage=durable(tmp_path), middleware=[QueueMiddleware(workers=1)])
        begun = asyncio.Event()

        @app.task(name="work")
        async def work(n: int) -> None:
            if first:
                begun.set()
                await asyncio.Event().wait()
            ran.append(n)

        async with app:
            if first:
                jobs = [await work.push(n) for n in range(20)]
                await begun.wait()
            else:
                await app.wait_all(20)
        if first:
            assert {job.status for job in jobs} == {JobStatus.CANCELLED}

    run(life(first=True))
    assert ran == []
    run(life(first=False))
    assert sorted(ran) == list(range(20))


@pytest.mark.parametrize("queue_class", [asyncio.PriorityQueue, asyncio.Queue, asyncio.LifoQueue])
def test_again_in_another_event_loop(queue_class: Any) -> None:
    yard = Yard(queue_class(3), workers=2)

    async def main() -> None:
        yard.release = asyncio.Event()
        async with yard.app:
            await yard.occupy()
            jobs = [await yard.tasks[0].push(n) for n in range(10)]
            await eventually(lambda: yard.middleware.queue.full())  # type: ignore[attr-defined]
            yard.release.set()
            assert sorted(await asyncio.gather(*jobs)) == list(range(10))
            assert yard.middleware.queue.maxsize == 3  # type: ignore[attr-defined]

    for _ in range(3):
        run(main())


class Own:
    """A queue of the user's own, which fails now and then."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.event = asyncio.Event()
        self.is_broken = True
        self.done = 0

    async def get(self) -> Item:
        if self.is_broken:
            self.is_broken = False
            raise OSError("not now")
        while not self.items:
            self.event.clear()
            await self.event.wait()
        return self.items.pop()

    async def put(self, item: Item) -> None:
        self.items.append(item)
        self.event.set()

    def task_done(self) -> None:
        self.done += 1


@pytest.mark.slow
async def test_a_queue_of_ones_own(caplog: pytest.LogCaptureFixture) -> None:
    queue = Own()
    app = Jobify(storage=False, middleware=[QueueMiddleware(queue, workers=1)])
    task = app.task(lambda: threading.get_ident())
    async with app:
        await (await task.push())
        await eventually(lambda: queue.done == 1)
    assert "not now" in caplog.text


async def test_in_a_router() -> None:
    middleware = QueueMiddleware(workers=1)
    app, router, other = (
        Jobify(storage=False),
        JobRouter(middleware=[middleware]),
        JobRouter(middleware=[middleware]),
    )
    app.include_routers(router, other)
    tasks = [node.task(lambda: "done", name=name) for node, name in ((router, "a"), (other, "b"), (app, "c"))]
    async with app:
        for task in tasks:
            assert await (await task.push()) == "done"


async def test_without_an_app_it_says_so() -> None:
    middleware = QueueMiddleware()
    app = Jobify(storage=False, middleware=[lambda call_next, context: middleware(call_next, context)])  # type: ignore[list-item]
    task = app.task(lambda: None)
    async with app:
        job = await task.push()
        await job.wait()
        assert isinstance(job.exception, ApplicationStateError)
        assert "QueueMiddleware" in str(job.exception)


def test_bad_arguments() -> None:
    for wrong in (0, -1, 1.5, True):
        with pytest.raises(ConfigurationError, match="workers"):
            QueueMiddleware(workers=wrong)  # type: ignore[arg-type]


async def test_items_compare_by_priority_and_arrival() -> None:
    def item(priority: float, number: int) -> Item:
        loop = asyncio.get_running_loop()
        nothing: Any = None
        return Item(nothing, nothing, loop.create_future(), loop.create_future(), -priority, number)

    assert [found.number for found in sorted([item(0, 1), item(5, 2), item(5, 0)])] == [0, 2, 1]
    assert item(5, 9) < item(0, 1)
    assert not item(0, 1) < item(0, 1)
