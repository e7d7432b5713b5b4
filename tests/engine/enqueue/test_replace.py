"""Putting a job in the place of another: stories B11, B12, B13 and B42."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from jobify import Cron, Job, Jobify, JobStatus
from jobify.exceptions import DuplicateJobError, PayloadError
from jobify.testing.clock import FakeClock
from support import a_while, durable, eventually, nudge, run, soon

pytestmark = pytest.mark.both_storages

NOON = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
LATE = NOON + timedelta(hours=1)


class Bench:
    """An app with a task that says what it was called with, and ends on demand."""

    def __init__(self, storage: Any) -> None:
        self.clock = FakeClock(NOON)
        self.app = Jobify(storage=storage, clock=self.clock)
        self.begun: list[str] = []
        self.running = 0
        self.peak = 0
        self.gates: dict[str, asyncio.Event] = {}
        self.task = self.app.task(self.work, name="task")

    async def work(self, text: str, waits: bool = False) -> str:
        self.begun.append(text)
        self.running += 1
        self.peak = max(self.peak, self.running)
        try:
            if waits:
                await self.gates.setdefault(text, asyncio.Event()).wait()
        finally:
            self.running -= 1
        return text

    def let_go(self, text: str) -> None:
        self.gates.setdefault(text, asyncio.Event()).set()

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)
        nudge(self.app)

    async def start(self, text: str = "old") -> Job[str]:
        job = await self.task.schedule(text, waits=True).push(job_id="it")
        await eventually(lambda: text in self.begun)
        return job


@pytest.fixture(params=["sqlite", "memory"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Bench:
    return Bench(durable(tmp_path) if request.param == "sqlite" else False)


@pytest.mark.promise("b11")
async def test_a_replacement_survives_the_end_of_the_old_run(bench: Bench) -> None:
    async with bench.app as app:
        old = await bench.start()
        new = await bench.task.schedule("new").at(LATE, job_id="it", replace=True)
        assert new is old, "one id, one handle"
        bench.let_go("old")
        await eventually(lambda: new.status is JobStatus.SCHEDULED)
        assert app.find_job("it") is new
        assert [job.id for job in app.get_active_jobs()] == ["it"]
        assert new.exec_at == LATE
        assert not new.is_done()
        bench.advance(3600)
        assert await soon(new) == "new"
        assert bench.begun == ["old", "new"]
        assert app.find_job("it") is None


@pytest.mark.promise("b11")
@pytest.mark.parametrize("outcome", ["fails", "is cancelled from inside", "times out"])
async def test_however_the_old_run_ends(bench: Bench, outcome: str) -> None:
    app, go_on, begun = bench.app, asyncio.Event(), []

    @app.task(name="bad", retry=3, timeout=0.05 if outcome == "times out" else 60)
    async def bad() -> None:
        begun.append(True)
        await go_on.wait()
        if outcome == "fails":
            raise ValueError
        if outcome == "is cancelled from inside":
            raise asyncio.CancelledError

    async with app:
        job: Job[Any] = await bad.schedule().push(job_id="it")
        await eventually(lambda: begun)
        await bench.task.schedule("new").delay(5, job_id="it", replace=True)
        if outcome != "times out":
            go_on.set()
        await eventually(lambda: job.status is JobStatus.SCHEDULED)
        bench.advance(5)
        assert await soon(job) == "new"
        assert len(begun) == 1, "what was replaced is not tried again"


@pytest.mark.promise("b11")
def test_a_replacement_survives_a_restart(tmp_path: Path) -> None:
    async def first() -> None:
        bench = Bench(durable(tmp_path))
        async with bench.app:
            await bench.start()
            await bench.task.schedule("new").at(LATE, job_id="it", replace=True)

    async def second() -> list[str]:
        bench = Bench(durable(tmp_path))
        async with bench.app as app:
            job = app.find_job("it")
            assert job is not None
            assert job.exec_at == LATE
            bench.advance(3600)
            assert await soon(job) == "new"
            await soon(app.wait_all())
        return bench.begun

    run(first())
    assert run(second()) == ["new"]


@pytest.mark.promise("b11")
async def test_the_latest_replacement_counts(bench: Bench) -> None:
    async with bench.app:
        job = await bench.start()
        for text in ("one", "two", "three"):
            await bench.task.schedule(text).push(job_id="it", replace=True)
        bench.let_go("old")
        assert await soon(job) == "three"
        await soon(bench.app.wait_all())
    assert bench.begun == ["old", "three"]
    assert bench.peak == 1


@pytest.mark.promise("b11")
async def test_a_replacement_that_is_due_at_once_is_not_mistaken_for_the_old_one(bench: Bench) -> None:
    async with bench.app:
        for number in range(30):
            waiting = await bench.task.schedule("waiting").delay(300, job_id="it")
            job = await bench.task.schedule(f"{number}").push(job_id="it", replace=True)
            assert job is waiting
            assert await soon(job) == f"{number}"
        await soon(bench.app.wait_all())
    assert bench.begun == [f"{number}" for number in range(30)]


@pytest.mark.promise("b11")
async def test_a_thread_and_its_replacement_do_not_overlap(tmp_path: Path) -> None:
    app = Jobify(storage=durable(tmp_path))
    started, go_on = threading.Event(), threading.Event()
    running: list[str] = []
    overlaps: list[str] = []

    @app.task(name="work")
    def work(text: str) -> str:
        overlaps.extend(running)
        running.append(text)
        started.set()
        if text == "old":
            go_on.wait(60)
        running.remove(text)
        return text

    async with app:
        job = await work.schedule("old").push(job_id="it")
        await asyncio.to_thread(started.wait, 60)
        await work.schedule("new").push(job_id="it", replace=True)
        await a_while()
        go_on.set()
        assert await soon(job) == "new"
    assert overlaps == []


@pytest.mark.promise("b12")
async def test_a_replace_that_fails_changes_nothing(tmp_path: Path) -> None:
    bench = Bench(durable(tmp_path))

    async with bench.app:
        job = await bench.task.schedule("old").delay(10, job_id="it")
        for _ in range(2):
            with pytest.raises(PayloadError):
                await bench.task.schedule(object()).delay(20, job_id="it", replace=True)  # type: ignore[arg-type]
            with pytest.raises(PayloadError):
                await bench.task.schedule(object()).cron("* * * * *", job_id="it", replace=True)  # type: ignore[arg-type]
            with pytest.raises(ValueError, match="cron"):
                await bench.task.schedule("new").cron("61 * * * *", job_id="it", replace=True)
        assert job.status is JobStatus.SCHEDULED
        assert not job.is_cron()
        assert bench.app.find_job("it") is job
        bench.advance(10)
        assert await soon(job) == "old"
        await soon(bench.app.wait_all())


@pytest.mark.promise("b12")
async def test_without_replace_an_id_in_use_is_refused_and_nothing_is_changed(bench: Bench) -> None:
    async with bench.app:
        job = await bench.task.schedule("old").delay(10, job_id="it")
        for submit in (
            lambda: bench.task.schedule("new").push(job_id="it"),
            lambda: bench.task.schedule("new").delay(1, job_id="it"),
            lambda: bench.task.schedule("new").at(LATE, job_id="it"),
            lambda: bench.task.schedule("new").cron("* * * * *", job_id="it"),
        ):
            with pytest.raises(DuplicateJobError, match="replace=True") as caught:
                await submit()
            assert caught.value.job_id == "it"
        bench.advance(10)
        assert await soon(job) == "old"


@pytest.mark.promise("b13")
async def test_the_same_time_with_new_arguments(bench: Bench) -> None:
    async with bench.app:
        first = await bench.task.schedule("old").at(LATE, job_id="at")
        assert await bench.task.schedule("new").at(LATE, job_id="at", replace=True) is first
        cron = await bench.task.schedule("old cron").cron("0 * * * *", job_id="cron")
        assert await bench.task.schedule("new cron").cron("0 * * * *", job_id="cron", replace=True) is cron
        bench.advance(3600)
        await soon(asyncio.gather(first.wait(), cron.wait()))
        assert sorted(bench.begun) == ["new", "new cron"]


@pytest.mark.promise("b13")
async def test_the_same_again_is_no_change(bench: Bench) -> None:
    async with bench.app as app:
        first = await bench.task.schedule("text").at(LATE, job_id="at")
        cron = await bench.task.schedule("text").cron("0 * * * *", job_id="cron")
        rows = app.configs.storage.get(["at", "cron"])
        assert await bench.task.schedule("text").at(LATE, job_id="at", replace=True) is first
        assert await bench.task.schedule("text").cron("0 * * * *", job_id="cron", replace=True) is cron
        assert app.configs.storage.get(["at", "cron"]) == rows
        await bench.task.schedule("text").at(LATE, job_id="at", replace=True, force=True)
        assert app.configs.storage.get(["at"]) != rows[:1]


@pytest.mark.promise("b42")
async def test_from_a_time_to_a_cron_and_back(bench: Bench) -> None:
    async with bench.app:
        job = await bench.task.schedule("at").at(LATE, job_id="it")
        assert not job.is_cron()
        assert await bench.task.schedule("cron").cron("30 * * * *", job_id="it", replace=True) is job
        assert job.is_cron()
        assert job.cron_expression == "30 * * * *"
        assert job.exec_at == NOON + timedelta(minutes=30)
        bench.advance(1800)
        await soon(job.wait())
        assert job.result() == "cron"
        assert await bench.task.schedule("at").at(LATE, job_id="it", replace=True) is job
        assert not job.is_cron()
        assert job.cron_expression is None
        assert job.exec_at == LATE
        bench.advance(7200)
        assert await soon(job) == "at"
        assert job.is_done()
        await soon(bench.app.wait_all())
    assert bench.begun == ["cron", "at"]


@pytest.mark.promise("b42")
async def test_a_cron_that_is_replaced_while_it_runs_is_one_chain_and_ends_with_its_cancel(bench: Bench) -> None:
    async with bench.app as app:
        job = await bench.task.schedule("old", waits=True).cron("* * * * *", job_id="it")
        bench.advance(60)
        await eventually(lambda: bench.begun == ["old"])
        assert await bench.task.schedule("new").cron("*/2 * * * *", job_id="it", replace=True) is job
        bench.advance(240)
        bench.let_go("old")
        await eventually(lambda: bench.begun == ["old", "new"])
        await eventually(lambda: job.status is JobStatus.SCHEDULED)
        assert job.cron_expression == "*/2 * * * *"
        await job.cancel()
        bench.advance(3600)
        for _ in range(20):
            await asyncio.sleep(0.001)
        assert bench.begun == ["old", "new"]
        assert bench.peak == 1
        assert job.status is JobStatus.CANCELLED
        assert app.get_active_jobs() == []


@pytest.mark.promise("b42")
@pytest.mark.parametrize("interrupt", [True, False])
async def test_a_cancel_reaches_the_replacement_of_a_running_job(bench: Bench, interrupt: bool) -> None:
    async with bench.app as app:
        job = await bench.start()
        await bench.task.schedule("new").cron("* * * * *", job_id="it", replace=True)
        await soon(job.cancel(interrupt=interrupt))
        assert job.is_done() == interrupt
        bench.let_go("old")
        await soon(job.wait())
        assert job.status is (JobStatus.CANCELLED if interrupt else JobStatus.SUCCESS)
        bench.advance(3600)
        for _ in range(20):
            await asyncio.sleep(0.001)
        assert bench.begun == ["old"]
        assert app.find_job("it") is None


@pytest.mark.slow
@pytest.mark.promise("b42")
async def test_the_new_cron_is_not_late_because_the_old_one_was_seldom(bench: Bench) -> None:
    async with bench.app:
        job = await bench.task.schedule("old", waits=True).cron("0 13 * * *", job_id="it")
        bench.advance(3600)
        await eventually(lambda: bench.begun == ["old"])
        await bench.task.schedule("new").cron("* * * * *", job_id="it", replace=True)
        bench.let_go("old")
        await eventually(lambda: job.status is JobStatus.SCHEDULED)
        bench.clock.advance(60)  # no other process may wake it up
        await soon(job.wait())
        assert bench.begun == ["old", "new"]


@pytest.mark.promise("rule-11")
async def test_a_replacement_keeps_the_progress_unless_its_start_changes(bench: Bench) -> None:
    async with bench.app:

        async def replace(**options: Any) -> int:
            job = await bench.task.schedule("text").cron(Cron(**options), job_id="it", replace=True)
            assert job.cron_context is not None
            return job.cron_context.run_count

        job = await bench.task.schedule("text").cron(Cron("* * * * *", start_date=datetime(2029, 1, 1)), job_id="it")
        bench.advance(60)
        await soon(job.wait())
        assert await replace(expression="*/2 * * * *", start_date=datetime(2029, 1, 1)) == 1
        assert await replace(expression="*/2 * * * *", start_date=datetime(2029, 1, 2)) == 0
        assert await replace(expression="*/3 * * * *") == 0


async def test_a_replacement_while_it_runs_counts_that_run(bench: Bench) -> None:
    async with bench.app:
        job = await bench.task.schedule("old", waits=True).cron(Cron("* * * * *", max_runs=2), job_id="it")
        bench.advance(60)
        await eventually(lambda: bench.begun == ["old"])
        await bench.task.schedule("new").cron(Cron("* * * * *", max_runs=2), job_id="it", replace=True)
        bench.let_go("old")
        await eventually(lambda: job.status is JobStatus.SCHEDULED)
        for _ in range(3):
            bench.advance(60)
            await asyncio.sleep(0.01)
        await soon(bench.app.wait_all())
    assert bench.begun == ["old", "new"]
