"""A stored rule carries its zone and its parser, and every process goes by them: story F28."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from jobify import Cron, Jobify, JobStatus
from jobify.crontab import CronParser, create_crontab
from jobify.exceptions import ConfigurationError
from jobify.model.clock import to_datetime
from jobify.model.cron import rule_as_written
from jobify.model.zones import CronUnavailableError, zone_name, zone_named
from jobify.storage import SQLiteStorage
from jobify.testing.clock import FakeClock
from probes import rules_of
from support import a_while, durable, eventually, nudge, run

pytestmark = pytest.mark.promise("f28")

BERLIN = ZoneInfo("Europe/Berlin")
DAWN = datetime(2030, 6, 1, 0, 0, tzinfo=UTC)
OLD_FILE = Path(__file__).parents[1] / "data" / "schema_1.db"


def app_of(directory: Path, clock: FakeClock, runs: list[datetime], **options: Any) -> tuple[Jobify, Any]:
    app = Jobify(storage=durable(directory), clock=clock, **options)

    @app.task(name="report")
    async def report() -> None:
        runs.append(clock.moment)

    return app, report


def at_eight(expression: str) -> CronParser:
    """A parser with words of its own: everything is at eight."""
    return create_crontab("0 8 * * *")


async def until_run(app: Jobify, clock: FakeClock, runs: list[datetime]) -> None:
    before = len(runs)
    (schedule,) = app.schedules()
    assert schedule.next_at is not None
    clock.advance((schedule.next_at - clock.moment).total_seconds())
    nudge(app)
    await eventually(lambda: len(runs) > before and app.schedules()[0].next_at != schedule.next_at)


@pytest.mark.parametrize("other", [None, ZoneInfo("Asia/Tokyo"), timezone(timedelta(hours=-5))], ids=str)
def test_a_schedule_goes_on_by_the_zone_it_was_made_in(tmp_path: Path, other: tzinfo | None) -> None:
    clock, runs = FakeClock(DAWN), list[datetime]()

    async def make() -> None:
        app, report = app_of(tmp_path, clock, runs, tz=BERLIN)
        async with app:
            await report.schedule().cron("0 9 * * *", job_id="daily")

    async def go_on() -> None:
        app, _ = app_of(tmp_path, clock, runs, tz=other)
        async with app:
            for _ in range(3):
                await until_run(app, clock, runs)
            (schedule,) = app.schedules()
            assert schedule.zone == "Europe/Berlin"
            job = app.find_job("daily")
            assert job is not None
            assert job.exec_at == datetime(2030, 6, 4, 9, tzinfo=BERLIN)

    run(make())
    run(go_on())
    assert runs == [datetime(2030, 6, day, 9, tzinfo=BERLIN) for day in (1, 2, 3)]


def test_missed_runs_and_the_start_date_are_by_the_stored_zone_too(tmp_path: Path) -> None:
    clock, runs = FakeClock(DAWN), list[datetime]()

    async def make() -> None:
        app, report = app_of(tmp_path, clock, runs, tz=BERLIN)
        async with app:
            cron = Cron("0 9 * * *", start_date=datetime(2030, 6, 2, 10, 0))
            await report.schedule().cron(cron, job_id="daily")

    async def go_on() -> None:
        app, _ = app_of(tmp_path, clock, runs, tz=ZoneInfo("Asia/Tokyo"))
        async with app:
            await until_run(app, clock, runs)
            clock.advance(10 * 86_400)
            nudge(app)
            await eventually(lambda: len(runs) == 2)
            await eventually(lambda: app.schedules()[0].next_at == datetime(2030, 6, 13, 9, tzinfo=BERLIN))

    run(make())
    run(go_on())
    assert runs[0] == datetime(2030, 6, 2, 10, tzinfo=BERLIN)


async def test_a_rule_is_read_by_its_parser_whichever_the_app_has(tmp_path: Path) -> None:
    """Made with the default one, and run by an app that has another."""
    clock, runs = FakeClock(DAWN), list[datetime]()

    app, report = app_of(tmp_path, clock, runs)
    async with app:
        await report.schedule().cron("0 9 * * *", job_id="daily")
    app, _ = app_of(tmp_path, clock, runs, cron_factory=at_eight)
    async with app:
        await until_run(app, clock, runs)
        await until_run(app, clock, runs)
    assert runs == [DAWN + timedelta(hours=9), DAWN + timedelta(hours=33)]


async def test_a_schedule_whose_parser_is_not_here_waits_for_an_app_that_has_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock, runs = FakeClock(DAWN), list[datetime]()

    def parked(app: Jobify) -> Any:
        (row,) = app.configs.storage.get(["daily"])
        return row if row.status == JobStatus.SCHEDULED and row.error else None

    made, report = app_of(tmp_path, clock, runs, cron_factory=at_eight)
    async with made:
        await report.schedule().cron("mornings", job_id="daily")
    other, _ = app_of(tmp_path, clock, runs)
    async with other:
        clock.advance(8 * 3600)
        for _ in range(2):  # it is offered again, and parked again
            nudge(other)
            await eventually(lambda: parked(other))
            clock.advance(5)
        row = parked(other)
        assert "at_eight" in row.error
        assert (row.attempt, row.run_count) == (0, 0)
        assert row.offset_at == row.created_at + 8 * 3600 * 1_000_000, "it still stands for its due time"
    clock.advance(5)
    made, _ = app_of(tmp_path, clock, runs, cron_factory=at_eight)
    async with made:
        await eventually(lambda: len(runs) == 1)
        await eventually(lambda: made.schedules()[0].next_at == DAWN + timedelta(hours=32))
    assert [record.message for record in caplog.records].count(
        "Schedule daily (report) is parked: The schedule was made with the cron_factory 'at_eight', which this app "
        "does not have: its own is 'jobify:create_crontab'. Run it with an app that has it, or schedule it again with "
        "replace=True."
    ) == 1


def change_rule(path: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    with sqlite3.connect(path) as connection:
        for seq, text in connection.execute("SELECT seq, rule FROM jobs WHERE rule IS NOT NULL").fetchall():
            rule = json.dumps(change(json.loads(text)), sort_keys=True, separators=(",", ":"))
            connection.execute("UPDATE jobs SET rule = ? WHERE seq = ?", (rule, seq))
    connection.close()


@pytest.mark.parametrize("zone", ["Mars/Olympus", "../../etc/passwd", "", 5, "UTC+99:00", "Europe"])
@pytest.mark.usefixtures("sqlite_file")
async def test_a_zone_that_is_not_known_here_parks_the_schedule(tmp_path: Path, zone: Any) -> None:
    clock, runs = FakeClock(DAWN), list[datetime]()
    path = tmp_path / "jobs.db"

    app, report = app_of(tmp_path, clock, runs, tz=BERLIN)
    async with app:
        await report.schedule().cron("0 9 * * *", job_id="daily")
    change_rule(path, lambda rule: {**rule, "zone": zone})
    clock.advance(86_400)
    app, _ = app_of(tmp_path, clock, runs, tz=BERLIN)
    async with app:
        storage = app.configs.storage
        await eventually(lambda: storage.get(["daily"])[0].error)
        (row,) = storage.get(["daily"])
        assert "does not know the time zone" in row.error
        assert row.status == JobStatus.SCHEDULED
    assert runs == []
    change_rule(path, lambda rule: {**rule, "zone": "Europe/Berlin"})
    clock.advance(10)
    app, _ = app_of(tmp_path, clock, runs)
    async with app:
        await eventually(lambda: len(runs) == 1)
        await eventually(lambda: app.configs.storage.get(["daily"])[0].error is None)


@pytest.mark.usefixtures("sqlite_file")
async def test_a_rule_of_an_old_file_is_read_in_the_apps_zone(tmp_path: Path) -> None:
    """And by the app's parser. It gets both when it is written next."""
    path = tmp_path / "jobs.db"
    shutil.copy(OLD_FILE, path)
    change_rule(path, lambda rule: {name: value for name, value in rule.items() if name not in ("zone", "parser")})

    with sqlite3.connect(path) as connection:
        ((task, job_id, due_at),) = connection.execute("SELECT task, id, due_at FROM jobs WHERE id = 'rule'").fetchall()
    connection.close()
    clock = FakeClock(to_datetime(due_at) - timedelta(hours=1))  # it is not due meanwhile
    app = Jobify(storage=SQLiteStorage(path, synchronous="normal"), clock=clock, tz=BERLIN)

    @app.task(name=task)
    async def found(*args: Any, **kwargs: Any) -> None: ...

    async with app:
        rule = rules_of(app).of_text(app.configs.storage.get([job_id])[0].rule)
        assert rule.zone == BERLIN
        following = rule.next_due(clock.now())
        assert following is not None
        assert to_datetime(following, zone=BERLIN).hour == 4
        await found.schedule().cron("30 4 * * *", job_id=job_id, replace=True)
        written = rule_as_written(app.configs.storage.get([job_id])[0].rule)
        assert (written["zone"], written["parser"]) == ("Europe/Berlin", "jobify:create_crontab")


@pytest.mark.usefixtures("sqlite_file")
def test_a_declared_cron_of_an_old_file_is_the_same_one(tmp_path: Path) -> None:
    clock, runs = FakeClock(DAWN), list[datetime]()
    declared = "report__jobify_cron_definition"
    rows = []

    async def life() -> None:
        app = Jobify(storage=durable(tmp_path), clock=clock, tz=BERLIN)

        @app.task(name="report", cron="0 9 * * *")
        async def report() -> None:
            runs.append(clock.moment)

        async with app:
            rows.extend(app.configs.storage.get([declared]))

    run(life())
    change_rule(tmp_path / "jobs.db", lambda rule: {key: rule[key] for key in rule if key not in ("zone", "parser")})
    run(life())
    assert rows[0].fence == rows[1].fence


def test_the_app_that_started_last_says_the_zone_of_a_declared_cron(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = FakeClock(DAWN)

    async def life(tz: tzinfo | None) -> datetime | None:
        app = Jobify(storage=durable(tmp_path), clock=clock, tz=tz)  # type: ignore[arg-type]

        @app.task(name="report", cron="0 9 * * *")
        async def report() -> None: ...

        async with app:
            return app.schedules()[0].next_at

    assert run(life(BERLIN)) == DAWN + timedelta(hours=7)
    assert "goes by the zone" not in caplog.text
    assert run(life(None)) == DAWN + timedelta(hours=9)
    assert "The cron of task report goes by the zone UTC from now on, as this app declares it" in caplog.text
    assert "it went by Europe/Berlin" in caplog.text


@pytest.mark.parametrize(
    ("zone", "name"),
    [
        (UTC, "UTC"),
        (ZoneInfo("UTC"), "UTC"),
        (timezone(timedelta(hours=2)), "UTC+02:00"),
        (timezone(timedelta(hours=-9, minutes=-30), "Marquesas"), "UTC-09:30"),
        (timezone(timedelta(hours=5, seconds=7, microseconds=9)), "UTC+05:00:07.000009"),
        (BERLIN, "Europe/Berlin"),
    ],
)
def test_zones_have_names(zone: tzinfo, name: str) -> None:
    assert zone_name(zone) == name
    moment = datetime(2030, 6, 1, 12, 0)
    assert zone_named(name).utcoffset(moment) == zone.utcoffset(moment)


async def test_a_fixed_offset_is_a_zone_of_an_app(tmp_path: Path) -> None:
    clock, runs = FakeClock(DAWN), list[datetime]()

    app, report = app_of(tmp_path, clock, runs, tz=timezone(timedelta(hours=-3)))
    async with app:
        await report.schedule().cron("0 9 * * *", job_id="daily")
        at = await report.schedule().at(datetime(2030, 6, 1, 9, 0))
        assert at.exec_at == DAWN + timedelta(hours=12)
    app, _ = app_of(tmp_path, clock, runs, tz=BERLIN)
    async with app:
        (schedule,) = app.schedules()
        assert (schedule.zone, schedule.next_at) == ("UTC-03:00", DAWN + timedelta(hours=12))


class Foreign(tzinfo):
    """A zone of another library."""

    def utcoffset(self, dt: datetime | None) -> timedelta:
        return timedelta(hours=1)

    def dst(self, dt: datetime | None) -> timedelta:
        return timedelta()


def nameless() -> tzinfo:
    import importlib.resources

    with importlib.resources.files("tzdata").joinpath("zoneinfo/Europe/Berlin").open("rb") as file:
        return ZoneInfo.from_file(file)


@pytest.mark.parametrize("zone", [Foreign(), nameless(), "Europe/Berlin", 2], ids=lambda zone: type(zone).__name__)
def test_a_zone_that_has_no_name_is_refused_where_it_is_written(zone: Any) -> None:
    with pytest.raises(ConfigurationError, match="it must be a ZoneInfo"):
        Jobify(storage=False, tz=zone)


def test_a_zone_that_is_not_there_is_a_clear_error() -> None:
    with pytest.raises(CronUnavailableError, match="pip install -U tzdata"):
        zone_named("Mars/Olympus")


async def test_several_apps_of_one_file_agree_on_each_run(tmp_path: Path) -> None:
    """Whoever takes it: it runs once a day, at nine in Berlin."""
    clock, runs = FakeClock(DAWN), list[datetime]()

    apps = [app_of(tmp_path, clock, runs, tz=zone) for zone in (BERLIN, None, ZoneInfo("Asia/Tokyo"))]
    async with apps[0][0], apps[1][0], apps[2][0]:
        await apps[0][1].schedule().cron("0 9 * * *", job_id="daily")
        for hour in range(48):
            clock.advance(3600)
            for app, _ in apps:
                nudge(app)
            expected = sum(hour + 1 >= due for due in (7, 31))
            await eventually(lambda: len(runs) >= expected)
            await a_while()
    assert runs == [datetime(2030, 6, day, 9, tzinfo=BERLIN) for day in (1, 2)]
