"""Several apps on one file: stories B1, B2 and B3, cancels and replacements from elsewhere, each raced many times."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from jobify import INJECT, Cron, Job, Jobify, JobStatus, SmartRetry
from jobify.exceptions import DuplicateJobError, JobFailedError, RemoteError
from jobify.model.records import JobQuery
from jobify.testing.clock import FakeClock
from probes import events_of
from support import a_while, durable, eventually, nudge, soon

NOON = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)


class Fleet:
    """Apps that know the same tasks and share a file; each has a storage of its own, as processes have."""

    def __init__(self, directory: Path, count: int = 3, *, cron: Cron | None = None, clock: Any = None) -> None:
        self.runs: Counter[Any] = Counter()
        self.due: Counter[datetime] = Counter()
        self.by: Counter[int] = Counter()
        self.gate = asyncio.Event()
        self.gate.set()
        self.apps = [Jobify(storage=durable(directory), clock=clock) for _ in range(count)]
        self.tasks = [self.define(app, number, cron) for number, app in enumerate(self.apps)]

    def define(self, app: Jobify, number: int, cron: Cron | None) -> Any:
        @app.task(name="beat", cron=cron)
        async def beat(job: Job[None] = INJECT) -> None:
            self.due[job.exec_at] += 1
            self.by[number] += 1

        @app.task(name="work", retry=SmartRetry(2, initial_delay=0))
        async def work(key: Any, fails: bool = False) -> Any:
            self.runs[str(key)] += 1
            self.by[number] += 1
            await self.gate.wait()
            if fails:
                raise ValueError("as it was told")
            return key

        return work

    async def __aenter__(self) -> Fleet:
        self.stack = AsyncExitStack()
        await asyncio.gather(*(self.stack.enter_async_context(app) for app in self.apps))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stack.aclose()

    async def done(self) -> None:
        await soon(asyncio.gather(*(app.wait_all() for app in self.apps)))


@pytest.mark.promise("b1")
@pytest.mark.parametrize("attempt", range(5))
async def test_each_job_runs_once(tmp_path: Path, attempt: int) -> None:
    fleet = Fleet(tmp_path)
    async with fleet:
        jobs = await asyncio.gather(
            *(task.push(f"push {n}") for n in range(60) for task in fleet.tasks[n % 3 : n % 3 + 1]),
            *(fleet.tasks[n % 3].schedule(f"delay {n}").delay(0.01 + n / 2000) for n in range(60)),
        )
        assert await soon(asyncio.gather(*jobs)) == [
            *(f"push {n}" for n in range(60)),
            *(f"delay {n}" for n in range(60)),
        ]
        await fleet.done()
    assert len(fleet.runs) == 120
    assert set(fleet.runs.values()) == {1}


@pytest.mark.promise("b1")
@pytest.mark.parametrize("attempt", range(3))
async def test_a_cron_runs_once_per_due_time(tmp_path: Path, attempt: int) -> None:
    clock = FakeClock(NOON)
    fleet = Fleet(tmp_path, cron=Cron("* * * * *"), clock=clock)
    async with fleet:
        for minute in range(1, 16):
            clock.set(NOON + timedelta(minutes=minute))
            for app in fleet.apps:
                nudge(app)
            await eventually(lambda minute=minute: fleet.due[NOON + timedelta(minutes=minute)])
        await a_while()
        assert fleet.due == Counter(NOON + timedelta(minutes=minute) for minute in range(1, 16))
        (record,) = fleet.apps[0].configs.storage.find(JobQuery(is_schedule=True))
        await eventually(lambda: fleet.apps[0].configs.storage.get([record.id])[0].run_count == 15)


@pytest.mark.promise("b1")
async def test_two_apps_in_real_time(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, 2, cron=Cron("* * * * * * *"))
    async with fleet:
        await eventually(lambda: len(fleet.due) >= 3)
    assert set(fleet.due.values()) == {1}


@pytest.mark.promise("b2")
@pytest.mark.parametrize("attempt", range(10))
async def test_an_id_is_unique_in_the_database(tmp_path: Path, attempt: int) -> None:
    fleet = Fleet(tmp_path)
    async with fleet:
        fleet.gate.clear()
        results = await asyncio.gather(
            *(task.schedule(number).push(job_id="order-1") for number, task in enumerate(fleet.tasks)),
            *(task.schedule(number).delay(300, job_id="order-2") for number, task in enumerate(fleet.tasks)),
            *(task.schedule(n).cron("* * * * *", job_id="order-3") for n, task in enumerate(fleet.tasks)),
            return_exceptions=True,
        )
        for same in (results[:3], results[3:6], results[6:]):
            jobs = [result for result in same if isinstance(result, Job)]
            errors = [result for result in same if isinstance(result, DuplicateJobError)]
            assert (len(jobs), len(errors)) == (1, 2)
            assert {error.job_id for error in errors} == {jobs[0].id if jobs else None}
        await eventually(lambda: len(fleet.runs) == 1)
        fleet.gate.set()
        assert set(fleet.runs.values()) == {1}


@pytest.mark.promise("b2")
async def test_an_id_is_unique_whether_its_task_is_durable_or_not(tmp_path: Path) -> None:
    app = Jobify(storage=durable(tmp_path))

    @app.task
    async def kept() -> None: ...

    @app.task(durable=False)
    async def not_kept() -> None: ...

    async with app:
        for first, second in ((kept, not_kept), (not_kept, kept)):
            job = await first.schedule().delay(300, job_id="it")
            with pytest.raises(DuplicateJobError):
                await second.schedule().push(job_id="it")
            with pytest.raises(DuplicateJobError):
                await second.schedule().delay(5, job_id="it")
            assert app.find_job("it") is job
            await job.cancel()
        await soon(app.wait_all())


async def test_a_handle_learns_how_its_job_ended_elsewhere(tmp_path: Path) -> None:
    """A process that only pushes: its tasks run in the others."""

    fleet = Fleet(tmp_path, 2)
    pusher = Jobify(storage=durable(tmp_path), concurrency=1)

    @pusher.task(name="work")
    async def work(key: Any, fails: bool = False) -> Any:
        await asyncio.Event().wait()

    async with fleet, pusher:
        blocking = await work.push("blocks the only slot")
        await eventually(lambda: blocking.status is JobStatus.RUNNING)
        events_of(pusher).on_job_due.clear()  # from here on it takes nothing
        good = await work.schedule([1, "two"]).delay(0.03)
        bad = await work.schedule("bad", fails=True).delay(0.03)
        assert await soon(good) == [1, "two"]
        await soon(bad.wait())
        assert bad.status is JobStatus.FAILED
        assert isinstance(bad.exception, RemoteError)
        with pytest.raises(JobFailedError, match="ValueError: as it was told"):
            bad.result()


@pytest.mark.parametrize("attempt", range(5))
async def test_a_cancel_reaches_whoever_runs_the_job(tmp_path: Path, attempt: int) -> None:
    fleet = Fleet(tmp_path)
    async with fleet:
        fleet.gate.clear()
        await asyncio.gather(*(fleet.tasks[0].schedule(n).push(job_id=f"{n}") for n in range(10)))
        await eventually(lambda: len(fleet.runs) == 10)
        seen = [fleet.apps[1 + n % 2].find_job(f"{n}") for n in range(10)]
        await soon(asyncio.gather(*(job.cancel() for job in seen if job is not None)))
        assert [job and job.status for job in seen] == [JobStatus.CANCELLED] * 10
        await fleet.done()


@pytest.mark.parametrize("attempt", range(5))
async def test_cancels_race_claims(tmp_path: Path, attempt: int) -> None:
    fleet = Fleet(tmp_path)
    async with fleet:
        jobs = await asyncio.gather(*(fleet.tasks[0].schedule(n).delay(0.005) for n in range(100)))
        await asyncio.sleep(0.004)
        await soon(asyncio.gather(*(job.cancel() for job in jobs)))
        await soon(asyncio.gather(*(job.wait() for job in jobs)))
        await fleet.done()
        for number, job in enumerate(jobs):
            (record,) = fleet.apps[0].configs.storage.get([job.id])
            assert record.status == job.status, "row and handle agree"
            assert job.status in (JobStatus.CANCELLED, JobStatus.SUCCESS)
            assert fleet.runs[f"{number}"] <= 1


@pytest.mark.parametrize("attempt", range(5))
async def test_replacements_race(tmp_path: Path, attempt: int) -> None:
    fleet = Fleet(tmp_path)
    async with fleet:
        await asyncio.gather(
            *(task.schedule(f"{n}-{i}").push(job_id=f"{n}", replace=True) for n in range(10)
              for i, task in enumerate(fleet.tasks))
        )  # fmt: skip
        await fleet.done()
        assert set(fleet.runs.values()) == {1}, "each of them ran once or was replaced"
        for n in range(10):
            assert sum(fleet.runs[f"{n}-{i}"] for i in range(3)) >= 1
        records = fleet.apps[0].configs.storage.get([f"{n}" for n in range(10)])
        assert {record.status for record in records} == {"success"}


async def test_a_job_that_is_replaced_from_elsewhere_while_it_runs(tmp_path: Path) -> None:
    """The process that replaced it is gone when it ends: whoever ran it sees to the new one."""

    fleet = Fleet(tmp_path, 1)
    visitor = Fleet(tmp_path, 1)
    async with fleet:
        fleet.gate.clear()
        await fleet.tasks[0].schedule("old").push(job_id="it")
        await eventually(lambda: fleet.runs["old"])
        async with visitor:
            await visitor.tasks[0].schedule("new").push(job_id="it", replace=True)
        fleet.gate.set()
        await eventually(lambda: fleet.runs["new"])
        await fleet.done()
    assert fleet.runs == Counter(["old", "new"])
    assert visitor.runs == Counter()


async def test_crons_are_declared_by_many_at_once(tmp_path: Path) -> None:
    for _ in range(5):
        fleet = Fleet(tmp_path, 4, cron=Cron("0 0 1 1 *"))
        async with fleet:
            records = fleet.apps[0].configs.storage.find(JobQuery(is_schedule=True))
            assert len(records) == 1


async def test_an_app_that_leaves_gives_its_jobs_to_the_others(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, 2)
    async with fleet:
        fleet.gate.clear()
        jobs = [await fleet.tasks[0].push(n) for n in range(20)]
        await eventually(lambda: len(fleet.runs) == 20)
        await fleet.apps[0].shutdown()
        assert {job.status for job in jobs} == {JobStatus.CANCELLED}
        fleet.gate.set()
        await soon(fleet.apps[1].wait_all())
        assert set(fleet.runs.values()) == {2}
        records = fleet.apps[1].configs.storage.get([job.id for job in jobs])
        assert {(record.status, record.attempt) for record in records} == {("success", 1)}


async def test_two_apps_may_share_a_storage_object(tmp_path: Path) -> None:
    storage = durable(tmp_path)
    runs: Counter[int] = Counter()
    apps = [Jobify(storage=storage) for _ in range(2)]

    def define(app: Jobify) -> Any:
        @app.task(name="work")
        async def work(n: int) -> int:
            runs[n] += 1
            return n

        return work

    tasks = [define(app) for app in apps]
    async with apps[0]:
        async with apps[1]:
            jobs = await asyncio.gather(*(tasks[n % 2].schedule(n).delay(n / 5000) for n in range(100)))
            pushed = await asyncio.gather(*(tasks[n % 2].push(n) for n in range(100, 200)))
            assert await soon(asyncio.gather(*jobs, *pushed)) == list(range(200))
        assert await soon(await tasks[0].push(200)) == 200, "the other one has closed only its own side"
    assert set(runs.values()) == {1}
