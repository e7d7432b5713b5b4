"""A schedule that is stopped by its failures says so, and comes back when it is revived or changed: story F7."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from jobify import Cron, Jobify, MisfirePolicy, RunMode, SmartRetry
from jobify.testing.clock import FakeClock
from probes import client_of, database_of
from support import a_while, durable, eventually, nudge, run

pytestmark = pytest.mark.promise("f7")

NOON = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
TWICE = Cron("* * * * *", max_failures=2)
ID = "report__jobify_cron_definition"
DATA = Path(__file__).parents[1] / "data"


async def broken() -> None:
    raise ValueError("the shop is closed")


async def mended() -> None:
    """It works now."""


class Shop:
    """An app with one cron, started again and again; ``runs`` counts its runs."""

    def __init__(self, directory: Path, *, is_durable: bool = True) -> None:
        self.directory = directory
        self.clock = FakeClock(NOON)
        self.is_durable = is_durable

    def live(
        self,
        main: Callable[[Jobify], Any],
        *,
        cron: Cron | None = TWICE,
        code: Callable[[], Any] = broken,
        **options: Any,
    ) -> Any:
        async def life() -> Any:
            app = Jobify(storage=durable(self.directory) if self.is_durable else False, clock=self.clock)
            self.task = app.task(name="report", cron=cron, **options)(code)
            async with app:
                return await main(app)

        return run(life())

    async def until_stopped(self, app: Jobify, id: str = ID) -> None:
        """Let it fail until it is stopped."""
        while not self.view(app, id).is_stopped:
            before = self.view(app, id).run_count
            await self.pass_time(app)
            await eventually(lambda before=before: self.has_run(app, id, since=before))  # type: ignore[misc]

    def has_run(self, app: Jobify, id: str, since: int) -> bool:
        """Whether a run has been counted and has ended, so that the next one, if any, has its time."""
        view = self.view(app, id)
        is_planned = view.next_at is not None and view.next_at > self.clock.moment
        return view.run_count > since and (view.is_stopped or is_planned)

    async def pass_time(self, app: Jobify, seconds: float = 60) -> None:
        self.clock.advance(seconds)
        nudge(app)

    async def runs_again(self, app: Jobify, id: str = ID) -> None:
        """Return when it has a further run; that is due within a minute."""
        before = self.view(app, id).run_count
        await self.pass_time(app)
        await eventually(lambda: self.view(app, id).run_count > before)

    @staticmethod
    def view(app: Jobify, id: str = ID) -> Any:
        return {schedule.id: schedule for schedule in app.schedules()}[id]


async def stays_stopped(app: Jobify) -> None:
    nudge(app)
    await a_while(0.02)
    assert Shop.view(app).is_stopped


@pytest.mark.parametrize("is_durable", [True, False])
def test_a_stopped_schedule_is_shown_and_resumed(tmp_path: Path, is_durable: bool) -> None:
    shop = Shop(tmp_path, is_durable=is_durable)

    async def main(app: Jobify) -> None:
        assert shop.view(app).stopped_at is None
        assert not app.resume_schedule(ID), "it is neither paused nor stopped"
        await shop.until_stopped(app)
        view = shop.view(app)
        assert (view.status, view.error, view.failure_count) == ("dead", "ValueError: the shop is closed", 2)
        assert (view.stopped_at, view.next_at) == (shop.clock.moment, None)
        assert app.resume_schedule(ID)
        view = shop.view(app)
        assert (view.is_stopped, view.failure_count) == (False, 0)
        await shop.until_stopped(app)
        assert shop.view(app).run_count == 4, "its failures count from 0 again"
        assert await app.aresume_schedule(app.get_job(ID))
        await shop.until_stopped(app)
        assert app.get_job(ID).retry()

    shop.live(main)


def test_what_was_missed_meanwhile_is_for_the_misfire_policy(tmp_path: Path) -> None:
    shop = Shop(tmp_path)

    async def main(app: Jobify) -> None:
        await shop.until_stopped(app)
        shop.clock.advance(3630)
        before = shop.view(app).run_count
        assert app.resume_schedule(ID)
        nudge(app)
        await eventually(lambda: shop.view(app).next_at is not None and shop.view(app).next_at > shop.clock.moment)
        assert shop.view(app).run_count == before, "nothing of what was missed runs"

    shop.live(main, cron=Cron("* * * * *", max_failures=2, misfire_policy=MisfirePolicy.SKIP))


def test_a_start_of_the_same_code_does_not_revive_it_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shop = Shop(tmp_path)
    shop.live(shop.until_stopped)
    for _ in range(2):
        caplog.clear()
        shop.clock.advance(3600)

        async def main(app: Jobify) -> None:
            await eventually(lambda: "is stopped since" in caplog.text)
            await stays_stopped(app)

        shop.live(main)
        (line,) = [record for record in caplog.records if "is stopped since" in record.message]
        assert line.levelno == logging.WARNING
        assert f"jobify schedules resume {ID}" in line.message
        assert "ValueError: the shop is closed" in line.message


@pytest.mark.parametrize(
    "change",
    [
        {"code": mended},
        {"cron": Cron("*/2 * * * *", max_failures=2)},
        {"cron": Cron("* * * * *", max_failures=3)},
        {"queue": "other"},
        {"timeout": 5},
        {"retry": SmartRetry(1, initial_delay=0)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_changed_rule_or_task_revives_it(
    tmp_path: Path, change: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    shop = Shop(tmp_path)
    shop.live(shop.until_stopped)
    caplog.set_level(logging.INFO)

    async def main(app: Jobify) -> None:
        view = shop.view(app)
        assert (view.is_stopped, view.failure_count) == (False, 0)
        shop.clock.advance(60)
        await shop.runs_again(app)

    shop.live(main, **change)
    assert "The cron of task report runs again" in caplog.text


def test_a_revived_schedule_that_fails_again_is_stopped_again(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.live(shop.until_stopped)
    shop.live(shop.until_stopped, cron=Cron("* * * * *", max_failures=3))
    shop.live(stays_stopped, cron=Cron("* * * * *", max_failures=3))


def test_a_stop_by_a_timeout_in_a_thread_notes_the_code_too(tmp_path: Path) -> None:
    import time

    def slow() -> None:
        time.sleep(0.05)

    shop = Shop(tmp_path)
    options: dict[str, Any] = {"timeout": 0.001, "run_mode": RunMode.THREAD}
    shop.live(shop.until_stopped, code=slow, **options)
    shop.live(stays_stopped, code=slow, **options)
    shop.live(shop.runs_again, code=mended)


@pytest.mark.parametrize("fails", [True, False])
@pytest.mark.parametrize("cron", [Cron("* * * * *", max_runs=1), Cron("1 12 1 1 * 2030")], ids=["max_runs", "date"])
def test_a_schedule_that_had_all_its_runs_is_not_revived(tmp_path: Path, cron: Cron, fails: bool) -> None:
    shop, first = Shop(tmp_path), broken if fails else mended

    async def one_run(app: Jobify) -> None:
        await shop.runs_again(app)
        view = shop.view(app)
        assert (view.status, view.is_stopped) == ("failed" if fails else "complete", False)
        assert not app.resume_schedule(ID)
        assert client_of(app).admin.retry([ID]) == [False], "no filter that matches it revives it"
        if cron.max_runs == 1:
            assert not app.get_job(ID).retry()

    async def later(app: Jobify) -> None:
        nudge(app)
        for _ in range(20):
            await asyncio.sleep(0.001)
        view = shop.view(app)
        assert (view.status, view.run_count) == ("failed" if fails else "complete", 1)

    shop.live(one_run, cron=cron, code=first, retry=SmartRetry(1, initial_delay=0))
    shop.clock.advance(3600)
    shop.live(later, cron=cron, code=mended if fails else broken)


def test_a_schedule_of_no_declaration_is_resumed_or_made_again(tmp_path: Path) -> None:
    shop = Shop(tmp_path)

    async def main(app: Jobify) -> None:
        for _ in range(2):
            await shop.task.schedule().cron(TWICE, job_id="dynamic", replace=True)
            await shop.until_stopped(app, "dynamic")
        assert app.resume_schedule("dynamic")
        await shop.until_stopped(app, "dynamic")

    shop.live(main, cron=None)


@pytest.mark.usefixtures("sqlite_file")
def test_a_rule_that_cannot_be_read_stops_the_schedule_and_is_shown(tmp_path: Path) -> None:
    shop = Shop(tmp_path)

    async def main(app: Jobify) -> None:
        await shop.task.schedule().cron("0 0 * * *", job_id="odd")
        with app.configs.storage.transaction():
            (row,) = app.configs.storage.get(["odd"])
            database_of(app.configs.storage).execute(
                "UPDATE jobs SET rule = ?, due_at = 1, ready = 1 WHERE id = 'odd'",
                (str(row.rule).replace("0 0 * * *", "61 * * * *"),),
            )
        nudge(app)
        await eventually(lambda: shop.view(app, "odd").is_stopped)
        assert "InvalidCronError" in shop.view(app, "odd").error

    shop.live(main, cron=None)


@pytest.mark.usefixtures("sqlite_file")
async def test_stopped_schedules_of_an_older_file_are_shown_and_resumed(tmp_path: Path) -> None:
    shutil.copy(DATA / "schema_5.db", tmp_path / "jobs.db")
    clock = FakeClock(datetime(2030, 1, 1, 13, tzinfo=UTC))

    app = Jobify(storage=durable(tmp_path), clock=clock)

    @app.task(name="stopped", cron=Cron("* * * * *", max_failures=2))
    async def stopped() -> None: ...

    @app.task(name="used_up", cron=Cron("* * * * *", max_runs=2))
    async def used_up() -> None: ...

    @app.task(name="used_up_failing", cron=Cron("* * * * *", max_runs=2))
    async def used_up_failing() -> None: ...

    async with app:
        views = {schedule.task_name: schedule for schedule in app.schedules()}
        assert {name for name, view in views.items() if view.is_stopped} == {"stopped"}
        assert not app.resume_schedule(views["used_up_failing"].id)
        assert app.resume_schedule(views["stopped"].id)
        await eventually(lambda: Shop.view(app, views["stopped"].id).run_count == 3)
        assert app.configs.storage.attempts(views["stopped"].id)[0].error == "ValueError: as ever"
