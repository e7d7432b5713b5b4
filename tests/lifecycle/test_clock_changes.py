"""The wall clock is set while the app runs, or was wrong at a start: stories F29 and F58."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from jobify import Cron, Jobify, JobStatus, MisfirePolicy, SmartRetry
from jobify.engine.execution.attempt import Attempt
from jobify.engine.execution.executor import Executor
from jobify.engine.services.maintenance import Janitor
from jobify.engine.services.timekeeper import Timekeeper
from jobify.model.records import JobRecord
from jobify.testing.clock import FakeClock
from probes import backends_of, services_of
from support import a_while, durable, eventually, nudge, run, soon

NOON = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
HOUR, YEAR = 3600.0, 365 * 86_400.0
CHANGES = [pytest.param(change, id=f"{change:+g}") for change in (HOUR, -HOUR, 5 * YEAR, -5 * YEAR)]
DECLARED = "note__jobify_cron_definition"

NewApp = Callable[..., Jobify]


class SetClock:
    """The machine's clocks; a test sets the one on the wall."""

    def __init__(self, ahead: float = 0.0) -> None:
        self.ahead = ahead

    def now(self) -> int:
        return time.time_ns() // 1000 + round(self.ahead * 1_000_000)

    def monotonic(self) -> float:
        return time.monotonic()


@pytest.fixture(params=["sqlite", "memory"])
def new_app(request: pytest.FixtureRequest, tmp_path: Path) -> NewApp:
    is_durable = request.param == "sqlite"
    return lambda clock, **options: Jobify(storage=durable(tmp_path) if is_durable else False, clock=clock, **options)


def set_by(clock: FakeClock, change: float) -> None:
    clock.set(clock.moment + timedelta(seconds=change))


def row(app: Jobify, job_id: str) -> JobRecord:
    (record,) = app.configs.storage.get([job_id])
    return record


async def settled(app: Jobify, task: Any, runs: list[Any]) -> None:
    """Return when the app has claimed what is due by its clock: it runs a job that was enqueued after that."""
    number = len(runs)
    task.apply_async((f"probe {number}",), priority=-1)
    nudge(app)
    await eventually(lambda: f"probe {number}" in runs)
    runs.remove(f"probe {number}")


def note_of(app: Jobify, runs: list[str], **options: Any) -> Any:
    @app.task(name="note", **options)
    async def note(what: str = "cron") -> None:
        runs.append(what)

    return note


# -- delays ------------------------------------------------------------------------------------------------------------


@pytest.mark.promise("f29")
@pytest.mark.parametrize("change", CHANGES)
async def test_a_delay_is_elapsed_time(new_app: NewApp, change: float) -> None:
    clock, runs = FakeClock(NOON), list[str]()
    app = new_app(clock)
    note = note_of(app, runs)

    async with app:
        job = await note.schedule("schedule").delay(600)
        note.apply_async(("client",), delay=600)
        clock.advance(100)
        set_by(clock, change)
        await settled(app, note, runs)
        assert runs == []
        await eventually(lambda: job.exec_at == clock.moment + timedelta(seconds=500))
        clock.advance(499)
        await settled(app, note, runs)
        assert runs == []
        clock.advance(1)
        await settled(app, note, runs)
        await eventually(lambda: sorted(runs) == ["client", "schedule"])


@pytest.mark.promise("f29")
@pytest.mark.parametrize("change", CHANGES)
async def test_a_change_that_is_taken_back_leaves_delays_as_they_were(new_app: NewApp, change: float) -> None:
    clock, runs = FakeClock(NOON), list[str]()
    app = new_app(clock)
    note = note_of(app, runs)

    async with app:
        before = await note.schedule("before").delay(600)
        set_by(clock, change)
        await settled(app, note, runs)
        clock.advance(10)
        meanwhile = await note.schedule("meanwhile").delay(600)
        await settled(app, note, runs)
        clock.set(NOON + timedelta(seconds=10))
        await settled(app, note, runs)
        await eventually(lambda: before.exec_at == NOON + timedelta(seconds=600))
        await eventually(lambda: meanwhile.exec_at == NOON + timedelta(seconds=610))
        assert runs == []


@pytest.mark.promise("f29")
@pytest.mark.parametrize("change", CHANGES)
async def test_a_change_that_is_taken_back_while_it_is_made_good_for(
    new_app: NewApp, monkeypatch: pytest.MonkeyPatch, change: float
) -> None:
    clock, runs, shifts = FakeClock(NOON), list[str](), list[object]()
    app = new_app(clock)
    note = note_of(app, runs)
    shift = Timekeeper._shift

    def take_back_and_shift(timekeeper: Timekeeper, *args: Any) -> float:
        if timekeeper._backend.storage.get(["later"]):  # an app with a database has a second timekeeper
            if not shifts:
                set_by(clock, -change)
                clock.advance(0.2)
            shifts.append(args)
        return shift(timekeeper, *args)

    async with app:
        await note.schedule("later").delay(600, job_id="later")
        monkeypatch.setattr(Timekeeper, "_shift", take_back_and_shift)
        set_by(clock, change)
        nudge(app)
        await eventually(lambda: len(shifts) == 2)
        await settled(app, note, runs)
        assert runs == []
        clock.advance(600)
        nudge(app)
        await eventually(lambda: runs == ["later"])


@pytest.mark.promise("f29")
async def test_a_clock_that_is_set_again_and_again_runs_no_delay_early(
    new_app: NewApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, runs, changes = FakeClock(NOON), list[str](), [HOUR, -HOUR] * 4
    app = new_app(clock)
    note = note_of(app, runs)
    catch_up = Timekeeper.catch_up

    async def catch_up_and_set(timekeeper: Timekeeper) -> None:
        await catch_up(timekeeper)
        if changes:  # what follows, such as a claim, must not go by this
            set_by(clock, changes.pop())

    async with app:
        await note.schedule("later").delay(600)
        note.apply_async(("in time",), delay=600, expires=900)
        monkeypatch.setattr(Timekeeper, "catch_up", catch_up_and_set)
        set_by(clock, HOUR)
        while changes:
            nudge(app)
            await asyncio.sleep(0.01)
        await settled(app, note, runs)
        assert runs == []
        clock.advance(600)
        nudge(app)
        await eventually(lambda: sorted(runs) == ["in time", "later"])


@pytest.mark.promise("f29")
@pytest.mark.parametrize("change", CHANGES)
async def test_a_time_on_the_clock_is_not_elapsed_time(new_app: NewApp, change: float) -> None:
    """``at`` speaks of the clock on the wall; so does an ``eta``."""
    clock, runs = FakeClock(NOON), list[str]()
    app = new_app(clock)
    note = note_of(app, runs)

    async with app:
        due = NOON + timedelta(minutes=30)
        job = await note.schedule("at").at(due)
        note.apply_async(("eta",), eta=due)
        set_by(clock, change)
        await settled(app, note, runs)
        if change < 0:
            assert (runs, job.exec_at) == ([], due)
            clock.set(due)
            nudge(app)
        await eventually(lambda: sorted(runs) == ["at", "eta"])


@pytest.mark.promise("f29")
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("is_schedule", [True, False], ids=["schedule", "job"])
async def test_a_retry_waits_for_elapsed_time(new_app: NewApp, change: float, is_schedule: bool) -> None:
    clock, runs = FakeClock(NOON), list[str]()
    app = new_app(clock)
    retry = SmartRetry(5, initial_delay=600, max_delay=600, jitter=False)

    @app.task(name="note", retry=retry)
    async def note(what: str) -> None:
        runs.append(what)
        if what == "fails" and runs.count("fails") == 1:
            raise ConnectionError

    async with app:
        if is_schedule:
            await note.schedule("fails").cron("0 13 * * *", job_id="it")
            clock.advance(HOUR)
            nudge(app)
        else:
            await note.schedule("fails").push(job_id="it")
        await eventually(lambda: row(app, "it").attempt == 1 and row(app, "it").status == JobStatus.SCHEDULED)
        clock.advance(100)
        set_by(clock, change)
        await settled(app, note, runs)
        clock.advance(499)
        await settled(app, note, runs)
        assert runs == ["fails"]
        clock.advance(1)
        nudge(app)
        await eventually(lambda: runs.count("fails") >= 2)  # and once more for the years that were missed


@pytest.mark.promise("f29")
@pytest.mark.parametrize("change", CHANGES)
async def test_running_jobs_do_not_feel_it(new_app: NewApp, change: float) -> None:
    """Neither their timeout nor the grace period is measured by the clock on the wall."""
    clock, runs = FakeClock(NOON), list[str]()
    app = new_app(clock)
    note = note_of(app, runs)
    go_on = asyncio.Event()

    @app.task(timeout=600)
    async def slow() -> str:
        await go_on.wait()
        return "done"

    async with app:
        job = await slow.push()
        await eventually(lambda: job.status is JobStatus.RUNNING)
        set_by(clock, change)
        await settled(app, note, runs)
        assert job.status is JobStatus.RUNNING
        stopping = asyncio.ensure_future(app.shutdown(grace=600))
        await asyncio.sleep(0)
        set_by(clock, change)
        await a_while()
        assert not stopping.done()
        go_on.set()
        await soon(stopping)
        assert await job == "done"


@pytest.mark.promise("f29")
@pytest.mark.parametrize("change", CHANGES)
async def test_an_expiry_in_seconds_is_elapsed_time(new_app: NewApp, change: float) -> None:
    clock, runs = FakeClock(NOON), list[str]()
    app = new_app(clock)
    note = note_of(app, runs)

    async with app:
        app.pause_queue("rest")
        jobs = [
            note.apply_async(queue="rest", expires=600),
            note.apply_async(queue="rest", expires=timedelta(seconds=600), metadata={"a": 1}),
            note.apply_async(queue="rest", expires=NOON + timedelta(seconds=600)),
        ]
        clock.advance(100)
        set_by(clock, change)
        await settled(app, note, runs)
        if change > 0:
            await eventually(lambda: jobs[2].status == "cancelled")
        clock.advance(499)
        await settled(app, note, runs)
        assert [job.status for job in jobs[:2]] == ["pending"] * 2
        clock.advance(1)
        await eventually(lambda: [job.status for job in jobs[:2]] == ["cancelled"] * 2)
        assert jobs[2].status == ("cancelled" if change > 0 else "pending")


@pytest.mark.promise("f29")
async def test_several_processes_apply_one_change_once(tmp_path: Path) -> None:
    clock, runs = FakeClock(NOON), list[str]()
    apps = [Jobify(storage=durable(tmp_path), clock=clock) for _ in range(3)]
    notes = [note_of(app, runs) for app in apps]

    async with apps[0], apps[1], apps[2]:
        await notes[0].schedule("it").delay(600, job_id="it")
        for change in (HOUR, -2 * HOUR, HOUR):
            set_by(clock, change)
            for app in apps:
                nudge(app)
            for app, note in zip(apps, notes, strict=True):
                await settled(app, note, runs)
            await eventually(lambda: row(apps[0], "it").due_at == clock.now() + 600_000_000)
        clock.advance(600)
        nudge(apps[2])
        await eventually(lambda: runs == ["it"])


@pytest.mark.promise("f29")
async def test_what_is_stored_after_the_change_is_not_moved(tmp_path: Path) -> None:
    """By a process that was told of the new time a moment before another one notices."""
    clock, runs = FakeClock(NOON), list[str]()
    app = Jobify(storage=durable(tmp_path), clock=clock)
    note = note_of(app, runs)

    async with app:
        for change in (HOUR, -HOUR):
            set_by(clock, change)
            job = note.apply_async(("it",), delay=600)
            await settled(app, note, runs)
            assert row(app, job.id).due_at == clock.now() + 600_000_000
            clock.advance(5)


@pytest.mark.promise("f29")
async def test_an_old_row_that_does_not_say_so_is_no_delay(tmp_path: Path) -> None:
    clock, runs = FakeClock(NOON), list[str]()
    app = Jobify(storage=durable(tmp_path), clock=clock)
    note = note_of(app, runs)

    async with app:
        await note.schedule("old").at(NOON + timedelta(seconds=600))
        set_by(clock, HOUR)
        nudge(app)
        await eventually(lambda: runs == ["old"])


# -- schedules ---------------------------------------------------------------------------------------------------------


@pytest.mark.promise("f29", "f58")
@pytest.mark.parametrize("is_declared", [True, False], ids=["declared", "dynamic"])
async def test_a_clock_that_is_years_ahead_for_a_moment_stops_no_schedule(new_app: NewApp, is_declared: bool) -> None:
    clock, runs = SetClock(), list[str]()
    job_id = DECLARED if is_declared else "dynamic"
    app = new_app(clock)
    note = note_of(app, runs, cron="* * * * * * *" if is_declared else None)

    async with app:
        if not is_declared:
            await note.schedule().cron("* * * * * * *", job_id=job_id)
        await eventually(lambda: len(runs) >= 1)
        clock.ahead = 2 * YEAR
        seen = len(runs)
        await eventually(lambda: len(runs) >= seen + 2)
        assert row(app, job_id).due_at > time.time_ns() // 1000 + YEAR
        clock.ahead = 0
        seen = len(runs)
        await eventually(lambda: len(runs) >= seen + 2)
        assert row(app, job_id).due_at < time.time_ns() // 1000 + 60_000_000


@pytest.mark.promise("f29")
@pytest.mark.parametrize("kind", ["at", "delay", "cron"])
@pytest.mark.parametrize("change", [-HOUR, -5 * YEAR])
async def test_a_clock_that_is_set_back_after_a_claim_keeps_no_job_waiting(
    new_app: NewApp, monkeypatch: pytest.MonkeyPatch, change: float, kind: str
) -> None:
    clock, runs = FakeClock(NOON), list[str]()
    app = new_app(clock)
    note = note_of(app, runs)
    launch_when_due = Executor.launch_when_due

    def set_back_and_launch(executor: Executor, attempt: Attempt) -> None:
        if clock.moment > NOON - timedelta(minutes=1):  # once: the answer to the claim is on its way
            set_by(clock, change)
        launch_when_due(executor, attempt)

    async with app:
        schedule = note.schedule("it")
        if kind == "cron":
            await schedule.cron("* * * * * * *", job_id="it")
        else:
            await (schedule.delay(1) if kind == "delay" else schedule.at(NOON + timedelta(seconds=1)))
        monkeypatch.setattr(Executor, "launch_when_due", set_back_and_launch)
        clock.advance(0.99)  # it is claimed a little ahead of its time
        nudge(app)
        await eventually(lambda: clock.moment < NOON - timedelta(minutes=1))
        await eventually(lambda: runs[:1] == ["it"])
    assert runs == ["it"] or kind == "cron"  # whose next run, by the new time, is due as soon


@pytest.mark.promise("f29")
@pytest.mark.parametrize("back", [HOUR, YEAR, 5 * YEAR])
async def test_a_clock_that_is_set_back_holds_no_schedule_up(new_app: NewApp, back: float) -> None:
    clock, runs = FakeClock(NOON), list[str]()
    app = new_app(clock)
    note = note_of(app, runs)

    async with app:
        second = await note.schedule("second").cron("* * * * * * *", job_id="second")
        hourly = await note.schedule("hour").cron("0 * * * *", job_id="hour")
        await note.schedule("paused").cron("0 * * * *", job_id="paused")
        app.pause_schedule("paused")
        clock.advance(1)
        nudge(app)
        await eventually(lambda: runs == ["second"])
        set_by(clock, -back)
        now = clock.moment
        await settled(app, note, runs)
        await eventually(lambda: second.exec_at == now + timedelta(seconds=1))
        await eventually(lambda: hourly.exec_at.replace(minute=0) == hourly.exec_at)
        assert hourly.exec_at - now < timedelta(hours=1)
        assert row(app, "paused").due_at == row(app, "hour").due_at
        clock.advance(1)
        nudge(app)
        await eventually(lambda: runs == ["second", "second"])


@pytest.mark.promise("f29")
async def test_a_mistake_that_is_mended_repeats_no_run(new_app: NewApp) -> None:
    """Set back an hour at half past twelve, and forward again: what ran at twelve does not run once more."""
    clock, runs = FakeClock(NOON - timedelta(seconds=1)), list[str]()
    app = new_app(clock)
    note = note_of(app, runs)

    async with app:
        job = await note.schedule("hour").cron(Cron("0 * * * *", misfire_policy=MisfirePolicy.ALL), job_id="it")
        clock.advance(1801)
        nudge(app)
        await eventually(lambda: runs == ["hour"])
        await eventually(lambda: job.exec_at == NOON + timedelta(hours=1))
        set_by(clock, -HOUR)
        await settled(app, note, runs)
        await eventually(lambda: job.exec_at == NOON)
        set_by(clock, HOUR)
        await settled(app, note, runs)
        await eventually(lambda: job.exec_at == NOON + timedelta(hours=1))
        assert runs == ["hour"]


@pytest.mark.promise("f29")
async def test_a_start_date_that_is_to_come_is_waited_for(new_app: NewApp) -> None:
    clock, runs = FakeClock(NOON), list[str]()
    app = new_app(clock)
    note = note_of(app, runs)

    async with app:
        start = NOON + timedelta(days=900, minutes=7)
        cron = Cron("0 * * * *", start_date=start, max_runs=1)
        job = await note.schedule("it").cron(cron, job_id="it")
        for change in (-HOUR, -YEAR, YEAR):
            set_by(clock, change)
            await settled(app, note, runs)
            assert row(app, "it").due_at == round(start.timestamp()) * 1_000_000
        clock.set(start)
        nudge(app)
        await eventually(lambda: runs == ["it"])
        await eventually(job.is_done)
        set_by(clock, -HOUR)
        await settled(app, note, runs)
        assert runs == ["it"]
        assert job.status is JobStatus.SUCCESS


@pytest.mark.promise("f29")
@pytest.mark.parametrize("ahead", [HOUR, 5 * YEAR])
@pytest.mark.parametrize("is_declared", [True, False], ids=["declared", "dynamic"])
def test_a_start_under_a_clock_that_is_ahead_leaves_no_schedule_stuck(
    tmp_path: Path, ahead: float, is_declared: bool
) -> None:
    runs: list[str] = []
    job_id = DECLARED if is_declared else "dynamic"

    def life(clock: FakeClock, main: Callable[[Jobify, Any], Any]) -> None:
        async def live() -> None:
            app = Jobify(storage=durable(tmp_path), clock=clock)
            note = note_of(app, runs, cron="*/5 * * * *" if is_declared else None)
            async with app:
                await main(app, note)

        run(live())

    async def made(app: Jobify, note: Any) -> None:
        if not is_declared:
            await note.schedule().cron("*/5 * * * *", job_id=job_id)

    async def ran(app: Jobify, note: Any) -> None:
        wrong.advance(600)
        nudge(app)
        await eventually(lambda: len(runs) > 0)
        await eventually(lambda: row(app, job_id).due_at > wrong.now())
        runs.clear()

    async def mended(app: Jobify, note: Any) -> None:
        (schedule,) = app.schedules()
        assert schedule.next_at == NOON + timedelta(minutes=5)
        right.advance(300)
        nudge(app)
        await eventually(lambda: runs == ["cron"])

    right, wrong = FakeClock(NOON), FakeClock(NOON + timedelta(seconds=ahead))
    life(right, made)
    life(wrong, ran)
    life(right, mended)


@pytest.mark.promise("f29")
def test_what_was_stored_under_a_clock_that_was_ahead_is_brought_back_at_a_start(tmp_path: Path) -> None:
    """Delays, retries of schedules, and how long ended jobs are kept."""

    def app_of(clock: FakeClock) -> tuple[Jobify, Any]:
        app = Jobify(storage=durable(tmp_path), clock=clock)

        @app.task(name="note", retry=SmartRetry(3, initial_delay=60, jitter=False))
        async def note(what: str) -> None:
            if what == "fails":
                raise ConnectionError

        return app, note

    async def wrong() -> None:
        clock = FakeClock(NOON + timedelta(seconds=5 * YEAR))
        app, note = app_of(clock)
        async with app:
            await note.schedule("it").delay(2 * HOUR, job_id="delay")
            await note.schedule("it").at(NOON + timedelta(seconds=9 * YEAR), job_id="at")
            await note.schedule("fails").cron("0 * * * *", job_id="retry")
            await (await note.schedule("it").push(job_id="done"))
            clock.advance(HOUR)
            nudge(app)
            await eventually(lambda: row(app, "retry").attempt == 1 and row(app, "retry").status == "scheduled")

    async def right() -> None:
        clock = FakeClock(NOON)
        app, _ = app_of(clock)
        now = clock.now()
        async with app:
            await eventually(lambda: row(app, "delay").due_at == now + 7_200_000_000)
            assert row(app, "at").due_at == now + round(9 * YEAR) * 1_000_000
            assert row(app, "retry").due_at <= now + 61_000_000
            assert row(app, "done").delete_at == now + 86_400_000_000

    run(wrong())
    run(right())


@pytest.mark.promise("f29")
async def test_a_schedule_that_was_claimed_under_the_wrong_clock_goes_on_by_the_right_one(new_app: NewApp) -> None:
    clock, runs = FakeClock(NOON), list[str]()
    app = new_app(clock)
    go_on = asyncio.Event()
    note = note_of(app, runs)

    @app.task
    async def slow() -> None:
        runs.append("slow")
        await go_on.wait()

    async with app:
        job = await slow.schedule().cron("0 * * * *", job_id="it")
        set_by(clock, 5 * YEAR)
        nudge(app)
        await eventually(lambda: runs == ["slow"])
        clock.set(NOON + timedelta(seconds=30))
        await settled(app, note, runs)
        go_on.set()
        await eventually(lambda: job.status is JobStatus.SCHEDULED)
        assert job.exec_at == NOON + timedelta(hours=1)


# -- what is deleted ---------------------------------------------------------------------------------------------------


def ended_job(directory: Path, clock: FakeClock) -> str:
    async def main() -> str:
        app = Jobify(storage=durable(directory), clock=clock)
        note = note_of(app, [])
        async with app:
            job = await note.push("it")
            await job
            await eventually(lambda: app.configs.storage.times.clock_state().trusted_at is not None)
            return job.id

    return run(main())


def janitor_of(app: Jobify) -> Janitor:
    """That of the app's own storage."""
    backend = backends_of(app)[0]
    (found,) = (one for one in services_of(app) if isinstance(one, Janitor) and one._backend is backend)
    return found


def is_kept(directory: Path, clock: FakeClock, job_id: str) -> bool:
    """Whether a job is still there after the janitor has come by, in a life of its own."""

    async def main() -> bool:
        app = Jobify(storage=durable(directory), clock=clock)
        note_of(app, [])
        async with app:
            for _ in range(3):
                await janitor_of(app).step()
            return bool(app.configs.storage.get([job_id]))

    return run(main())


@pytest.mark.promise("f58")
def test_a_start_under_a_wrong_clock_deletes_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clock = FakeClock(NOON)
    job_id = ended_job(tmp_path, clock)
    for ahead in (2 * YEAR, 2 * YEAR, 5 * YEAR):
        assert is_kept(tmp_path, FakeClock(NOON + timedelta(seconds=ahead)), job_id)
    assert "Nothing is deleted until that has held for an hour" in caplog.text
    assert is_kept(tmp_path, clock, job_id)
    clock.advance(86_399)
    assert is_kept(tmp_path, clock, job_id)
    clock.advance(1)
    assert not is_kept(tmp_path, clock, job_id)


@pytest.mark.promise("f58")
def test_after_a_long_stop_it_is_an_hour_until_something_is_deleted(tmp_path: Path) -> None:
    clock = FakeClock(NOON)
    job_id = ended_job(tmp_path, clock)
    clock.advance(30 * 86_400)
    assert is_kept(tmp_path, clock, job_id)
    clock.advance(1800)
    assert is_kept(tmp_path, clock, job_id)
    clock.advance(1800)
    assert not is_kept(tmp_path, clock, job_id)


@pytest.mark.promise("f58")
def test_what_ended_by_a_clock_that_was_behind_is_not_deleted_by_the_right_one(tmp_path: Path) -> None:
    """In the process that saw both changes, and in one that starts afterwards."""
    clock, runs = FakeClock(NOON), list[str]()

    async def main() -> str:
        app = Jobify(storage=durable(tmp_path), clock=clock)
        note = note_of(app, runs)
        async with app:
            await settled(app, note, runs)
            set_by(clock, -5 * YEAR)
            await settled(app, note, runs)
            job = await note.push("it")
            await job
            assert app.configs.storage.times.clock_state().trusted_at < NOON.timestamp() * 1_000_000
            set_by(clock, 5 * YEAR)
            await settled(app, note, runs)
            await eventually(lambda: row(app, job.id).delete_at > (NOON.timestamp() + 86_000) * 1_000_000)
            return job.id

    job_id = run(main())
    assert is_kept(tmp_path, clock, job_id)
    clock.advance(86_300)
    assert is_kept(tmp_path, clock, job_id)
    clock.advance(101)
    assert not is_kept(tmp_path, clock, job_id)


@pytest.mark.promise("f58")
def test_a_clock_that_was_behind_when_all_died_deletes_nothing_for_an_hour(tmp_path: Path) -> None:
    right, behind = FakeClock(NOON), FakeClock(NOON - timedelta(seconds=5 * YEAR))
    ended_job(tmp_path, right)
    job_id = ended_job(tmp_path, behind)
    assert is_kept(tmp_path, right, job_id)
    right.advance(3600)
    assert not is_kept(tmp_path, right, job_id)


@pytest.mark.promise("f58")
async def test_a_clock_that_jumps_while_the_app_runs_deletes_nothing(new_app: NewApp) -> None:
    clock, runs = FakeClock(NOON), list[str]()
    app = new_app(clock, result_ttl=1800)
    note = note_of(app, runs)

    async with app:
        janitor = janitor_of(app)
        job = note.apply_async(("it",))
        await job.aresult()
        for change in (HOUR, -HOUR, 5 * YEAR, -5 * YEAR):
            set_by(clock, change)
            await janitor.step()
            assert app.configs.storage.get([job.id])
        clock.advance(1801)
        await janitor.step()
        assert not app.configs.storage.get([job.id]), "elapsed time counts"
