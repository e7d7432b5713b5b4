"""Schedules over restarts and redeploys: stories B7, B8, B9, B10, B18 and B46."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from jobify import Cron, GracePolicy, Job, Jobify, JobStatus, MisfirePolicy
from jobify.model.cron import INFINITY
from jobify.model.records import JobRecord
from jobify.testing.clock import FakeClock
from support import a_while, durable, eventually, nudge, run, soon

BERLIN = ZoneInfo("Europe/Berlin")
NOON = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
DECLARED = "task__jobify_cron_definition"


class Deployment:
    """An app with one task, started again and again on one file; its clock goes on from life to life."""

    def __init__(self, directory: Path, start: datetime = NOON) -> None:
        self.directory = directory
        self.clock = FakeClock(start)
        self.runs: list[datetime] = []
        self.fails = False

    def app(self, cron: str | Cron | None, **options: Any) -> Jobify:
        app = Jobify(storage=durable(self.directory), clock=self.clock, **options)

        @app.task(name="task", cron=cron)
        async def task(*args: Any) -> None:
            self.runs.append(self.clock.moment)
            if self.fails:
                raise ValueError("as it was told")

        self.task = task
        return app

    def live(self, cron: str | Cron | None, main: Callable[[Jobify], Any], **options: Any) -> Any:
        async def life() -> Any:
            app = self.app(cron, **options)
            async with app:
                return await main(app)

        return run(life())

    async def step(self, app: Jobify, seconds: float, job_id: str = DECLARED) -> None:
        """Let time pass in which one run is due; return when it is over."""
        before = self.row(app, job_id).run_count
        self.clock.advance(seconds)
        nudge(app)
        await eventually(lambda: self.row(app, job_id).run_count > before)

    @staticmethod
    def row(app: Jobify, job_id: str = DECLARED) -> JobRecord:
        (record,) = app.configs.storage.get([job_id])
        return record


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    return Deployment(tmp_path)


async def nothing(app: Jobify) -> None:
    nudge(app)
    await a_while(0.02)


@pytest.mark.promise("b7", "rule-13")
@pytest.mark.parametrize("is_declared", [True, False])
def test_failures_in_a_row_are_counted_over_restarts_and_a_stopped_cron_stays_stopped(
    deployment: Deployment, is_declared: bool
) -> None:
    deployment.fails = True
    cron = Cron("* * * * *", max_failures=3)
    declared, job_id = (cron, DECLARED) if is_declared else (None, "dynamic")

    async def one_run(app: Jobify) -> None:
        if not is_declared and not deployment.runs:
            await deployment.task.schedule().cron(cron, job_id=job_id)
        job = app.find_job(job_id)
        assert job is not None
        await deployment.step(app, 60, job_id)
        await eventually(lambda: job.cron_context.failure_count == len(deployment.runs))

    async def later(app: Jobify) -> None:
        assert app.find_job(job_id) is None
        assert app.get_active_jobs() == []
        deployment.clock.advance(3600)
        await nothing(app)

    for _ in range(3):
        deployment.live(declared, one_run)
    for _ in range(2):
        deployment.live(declared, later)
    assert len(deployment.runs) == 3


@pytest.mark.promise("b7")
def test_a_success_begins_the_count_anew(deployment: Deployment) -> None:
    async def main(app: Jobify) -> None:
        for fails in (True, False, True, True):
            deployment.fails = fails
            await deployment.step(app, 60)
        assert deployment.row(app).status == "permanently_failed"

    deployment.live(Cron("* * * * *", max_failures=2), main)


@pytest.mark.promise("b7")
def test_the_handle_says_what_happened(deployment: Deployment) -> None:
    deployment.fails = True

    async def main(app: Jobify) -> None:
        job = app.find_job(DECLARED)
        assert job is not None
        waiting = asyncio.ensure_future(job.wait())
        await deployment.step(app, 60)
        await soon(waiting)
        assert job.status is JobStatus.PERMANENTLY_FAILED
        assert job.is_done()
        assert not job.is_reschedulable()
        assert isinstance(job.exception, ValueError)
        await soon(app.wait_all())

    deployment.live(Cron("* * * * *", max_failures=1), main)


@pytest.mark.promise("b8", "rule-13")
def test_max_runs_is_reached_once_ever(deployment: Deployment) -> None:
    cron = Cron("* * * * *", max_runs=1)

    async def first(app: Jobify) -> None:
        await deployment.step(app, 60)
        await soon(app.wait_all())

    async def later(app: Jobify) -> None:
        deployment.clock.advance(3600)
        await nothing(app)
        await soon(app.wait_all())

    deployment.live(cron, first)
    for _ in range(3):
        deployment.live(cron, later)
    deployment.live(Cron("* * * * *", max_runs=1, max_failures=4), later)
    deployment.clock.advance(40 * 86_400)

    async def long_after(app: Jobify) -> None:
        await nothing(app)
        assert deployment.row(app).status == "success", "no janitor may take it, or it would run again"

    deployment.live(cron, long_after, result_ttl=0)
    assert len(deployment.runs) == 1


@pytest.mark.promise("b9")
@pytest.mark.parametrize(
    "change",
    [
        {"expression": "*/2 * * * *"},
        {"max_failures": 7},
        {"misfire_policy": MisfirePolicy.SKIP},
        {"misfire_policy": GracePolicy(timedelta(days=1))},
        {"args": ("new",)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_changed_definition_keeps_the_count(deployment: Deployment, change: dict[str, Any]) -> None:
    before: dict[str, Any] = {"expression": "* * * * *", "max_runs": 2}

    async def one_run(app: Jobify) -> None:
        await deployment.step(app, 120)

    async def later(app: Jobify) -> None:
        deployment.clock.advance(3600)
        await nothing(app)

    deployment.live(Cron(**before), one_run)
    deployment.live(Cron(**before | change), one_run)
    deployment.live(Cron(**before | change), later)
    deployment.live(Cron(**before), later)
    assert len(deployment.runs) == 2


@pytest.mark.promise("b9")
def test_fewer_runs_than_there_were_already_is_the_end(deployment: Deployment) -> None:
    async def two_runs(app: Jobify) -> None:
        await deployment.step(app, 60)
        await deployment.step(app, 60)

    async def later(app: Jobify) -> None:
        deployment.clock.advance(60)
        nudge(app)
        await soon(app.wait_all())

    deployment.live(Cron("* * * * *", max_runs=10), two_runs)
    deployment.live(Cron("* * * * *", max_runs=2), later)
    assert len(deployment.runs) == 2


@pytest.mark.promise("b9")
def test_a_run_that_was_missed_is_made_up_for_although_an_option_changed(deployment: Deployment) -> None:
    async def made_up(app: Jobify) -> None:
        await deployment.step(app, 0)

    deployment.live("0 * * * *", nothing)
    deployment.clock.advance(5400)
    deployment.live(Cron("0 * * * *", max_failures=3), made_up)
    assert deployment.runs == [NOON + timedelta(minutes=90)]


@pytest.mark.promise("b9")
def test_another_expression_makes_up_for_nothing(deployment: Deployment) -> None:
    deployment.live("0 * * * *", nothing)
    deployment.clock.advance(5400)
    deployment.live("15 * * * *", nothing)
    assert deployment.runs == []


@pytest.mark.promise("b9", "rule-12")
def test_a_definition_that_is_gone_is_removed_and_one_that_is_back_is_new(deployment: Deployment) -> None:
    cron = Cron("* * * * *", max_runs=1)

    async def gone(app: Jobify) -> None:
        assert app.configs.storage.get([DECLARED]) == []
        deployment.clock.advance(3600)
        await nothing(app)

    async def one_run(app: Jobify) -> None:
        await deployment.step(app, 60)

    deployment.live(cron, one_run)
    deployment.live(None, gone)
    deployment.live(cron, one_run)
    assert len(deployment.runs) == 2


@pytest.mark.promise("b10")
@pytest.mark.parametrize("is_declared", [True, False])
def test_a_cron_with_a_last_date_ends(tmp_path: Path, is_declared: bool) -> None:
    deployment = Deployment(tmp_path, datetime(2030, 12, 31, 23, 58, 30, tzinfo=UTC))
    rule = "59 23 31 12 * 2030"
    declared, job_id = (rule, DECLARED) if is_declared else (None, "dynamic")

    async def last_run(app: Jobify) -> None:
        if not is_declared:
            await deployment.task.schedule().cron(rule, job_id=job_id)
        job = app.find_job(job_id)
        assert job is not None
        waiting = asyncio.ensure_future(job.wait())
        await deployment.step(app, 30, job_id)
        await soon(waiting)
        assert job.status is JobStatus.SUCCESS
        assert job.is_done()
        await soon(app.wait_all())
        assert app.find_job(job_id) is None
        assert app.get_active_jobs() == []

    async def later(app: Jobify) -> None:
        deployment.clock.advance(86_400)
        await nothing(app)
        await soon(app.wait_all())

    deployment.live(declared, last_run)
    for _ in range(3):
        deployment.live(declared, later)
    assert len(deployment.runs) == 1


@pytest.mark.promise("b10")
def test_a_dynamic_cron_that_ended_leaves_the_database_like_any_job(deployment: Deployment) -> None:
    async def main(app: Jobify) -> None:
        await deployment.task.schedule().cron(Cron("* * * * *", max_runs=1), job_id="dynamic")
        await deployment.step(app, 60, "dynamic")
        assert deployment.row(app, "dynamic").delete_at is not None
        await deployment.task.schedule().cron(Cron("* * * * *", max_runs=1), job_id="dynamic")

    deployment.live(None, main)


@pytest.mark.promise("b18")
def test_a_changed_cron_stays_on_the_clock_of_its_zone(tmp_path: Path) -> None:
    """Nine o'clock in Berlin: 8:00 UTC in January, 7:00 UTC in July, with a redeploy in between."""
    deployment = Deployment(tmp_path, datetime(2030, 1, 1, 0, 0, tzinfo=UTC))

    async def winter(app: Jobify) -> None:
        job = app.find_job(DECLARED)
        assert job is not None
        assert job.exec_at == datetime(2030, 1, 1, 8, 0, tzinfo=UTC)

    async def summer(app: Jobify) -> None:
        job = app.find_job(DECLARED)
        assert job is not None
        await deployment.step(app, 0)
        await eventually(lambda: job.exec_at > deployment.clock.moment)
        assert job.exec_at == datetime(2030, 7, 1, 7, 0, tzinfo=UTC)
        assert (job.exec_at.hour, job.exec_at.utcoffset()) == (9, timedelta(hours=2))
        assert job.exec_at.tzinfo == BERLIN

    deployment.live("0 8 * * *", nothing, tz=BERLIN)
    deployment.live(Cron("0 9 * * *", max_failures=3), winter, tz=BERLIN)
    deployment.clock.set(datetime(2030, 6, 30, 22, 30, tzinfo=UTC))
    deployment.live(Cron("0 9 * * *", max_failures=3), summer, tz=BERLIN)


@pytest.mark.promise("b46", "x5")
def test_restored_jobs_are_scheduled(deployment: Deployment) -> None:
    ids = ["one", "two"]

    async def schedule(app: Jobify) -> None:
        await deployment.task.schedule("it").delay(60, job_id="one")
        await deployment.task.schedule("it").cron("* * * * *", job_id="two")

    async def look(app: Jobify) -> list[Job[Any]]:
        found = [app.find_job(job_id) for job_id in ids]
        assert sorted(job.id for job in app.get_active_jobs()) == sorted([*ids, DECLARED])
        for job in app.get_active_jobs():
            assert job.status is JobStatus.SCHEDULED
            assert not job.is_done()
            assert job in (*found, app.find_job(DECLARED)), "one job, one handle"
            assert job.exec_at == NOON + timedelta(minutes=1)
            assert job.is_cron() == (job.id != "one")
        return [job for job in found if job is not None]

    deployment.live("* * * * *", schedule)
    deployment.live("* * * * *", look)


@pytest.mark.promise("rule-14")
def test_a_run_that_was_missed_runs_at_the_start_once(deployment: Deployment) -> None:
    async def made_up(app: Jobify) -> None:
        await deployment.step(app, 0)
        await nothing(app)

    deployment.live("0 * * * *", nothing)
    deployment.clock.advance(10 * 3600 + 1800)
    deployment.live("0 * * * *", made_up)
    assert len(deployment.runs) == 1


@pytest.mark.promise("rule-12")
def test_the_same_rule_changes_nothing(deployment: Deployment) -> None:
    rows = []

    async def look(app: Jobify) -> None:
        rows.append(deployment.row(app))

    for _ in range(3):
        deployment.live("0 * * * *", look)
        deployment.clock.advance(60)
    assert rows[0] == rows[1] == rows[2]


def test_an_expired_declaration_does_not_keep_the_app_from_starting(
    deployment: Deployment, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="jobify"):
        deployment.live("0 0 1 1 * 2029", nothing)
    assert "runs no more" in caplog.text
    assert INFINITY == -1
