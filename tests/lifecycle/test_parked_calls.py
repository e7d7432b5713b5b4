"""Stored calls that do not fit the code wait for code that they fit: story F34."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import importlib
import logging
import shutil
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from jobify import Cron, Jobify, JobStatus, RunMode, chain
from jobify.clock import SystemClock
from jobify.exceptions import JobFailedError
from jobify.model.records import JobRecord
from jobify.serializers import ExtendedJSONSerializer
from jobify.testing.clock import FakeClock
from support import durable, eventually, execute, nudge, run, soon

pytestmark = pytest.mark.promise("f34")

DATA = Path(__file__).parents[1] / "data"


def release(directory: Path, ship: Callable[..., str], *, is_async: bool = False, **options: Any) -> Jobify:
    """An app with this task."""
    app = Jobify(storage=durable(directory))
    app.task(name="ship", **options)(as_async(ship) if is_async else ship)
    return app


def as_async(function: Callable[..., str]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def call(*args: Any, **kwargs: Any) -> str:
        return function(*args, **kwargs)

    return call


def old_release(directory: Path, **options: Any) -> Jobify:
    """It knows the first shape of the task."""

    def ship(order: int) -> str:
        return f"old {order}"

    return release(directory, ship, **options)


def new_release(directory: Path, **options: Any) -> Jobify:
    """It has given the task a required argument, and another name to its first."""

    def ship(number: int, *, express: bool) -> str:
        return f"new {number} {express}"

    return release(directory, ship, **options)


def mended_release(directory: Path, **options: Any) -> Jobify:
    """It takes both calls."""

    def ship(order: int | None = None, *, number: int | None = None, express: bool = False) -> str:
        return f"mended {order or number} {express}"

    return release(directory, ship, **options)


def broken_release(directory: Path) -> Jobify:
    """It takes none."""

    def ship() -> str:
        return "nothing"

    return release(directory, ship)


def task_of(app: Jobify) -> Any:
    (task,) = app.routes
    return task


def store(app: Jobify, *args: Any, job_id: str = "job", **kwargs: Any) -> str:
    """Enqueue a call from outside of the app."""
    task_of(app).configure(job_id=job_id).delay(*args, **kwargs)
    return job_id


async def parked(app: Jobify, job_id: str = "job") -> JobRecord:
    await eventually(lambda: app.configs.storage.get([job_id])[0].parking)
    return app.configs.storage.get([job_id])[0]


@pytest.mark.parametrize("is_async", [True, False])
def test_a_required_argument_was_added(tmp_path: Path, is_async: bool, caplog: pytest.LogCaptureFixture) -> None:
    store(old_release(tmp_path, is_async=is_async), 7)
    asked = []

    async def deploy() -> None:
        app = new_release(tmp_path, is_async=is_async, retry=3)
        async with app:
            found = await parked(app)
            assert (found.status, found.attempt, found.due_at) == ("scheduled", 0, found.due_at)
            assert found.parking is not None
            assert (
                "missing a required keyword-only argument" in found.parking.reason or "express" in found.parking.reason
            )
            claim = app.configs.storage.claim
            app.configs.storage.claim = lambda *a, **k: asked.append(a) or claim(*a, **k)  # type: ignore[method-assign,func-returns-value]
            for _ in range(5):
                nudge(app)
                await asyncio.sleep(0.01)
            assert len(asked) < 50, "it is not claimed again and again"
            assert [line.outcome for line in app.configs.storage.attempts("job")] == ["parked"]

    async def roll_back() -> None:
        app = old_release(tmp_path, is_async=is_async)
        async with app:
            await soon(app.wait_all())
            assert task_of(app) is not None
            assert app.get_job("job").result() == "old 7"

    with caplog.at_level(logging.WARNING, "jobify.jobs"):
        run(deploy())
    (line,) = [line for line in caplog.records if line.name == "jobify.jobs"]
    assert line.levelno == logging.WARNING
    assert line.getMessage().startswith("Job job (ship) is parked, because its stored call does not fit this code: ")
    assert "jobify jobs retry job" in line.getMessage()
    assert (line.job_id, line.task, line.queue) == ("job", "ship", "default")  # type: ignore[attr-defined]
    run(roll_back())


async def test_old_and_new_workers_side_by_side(tmp_path: Path) -> None:
    """Each call is run by the code that it was made for, whichever process comes first."""
    old, new = old_release(tmp_path), new_release(tmp_path)

    async with old, new:
        calls = [store(old, n, job_id=f"old-{n}") for n in range(20)]
        calls += [store(new, n, express=True, job_id=f"new-{n}") for n in range(20)]
        await soon(old.wait_all(timeout=20))
        for n in range(20):
            assert old.get_job(f"old-{n}").result() == f"old {n}"
            assert new.get_job(f"new-{n}").result() == f"new {n} True"


def test_the_next_release_takes_all(tmp_path: Path) -> None:
    store(old_release(tmp_path), 7, job_id="a")
    store(new_release(tmp_path), number=8, express=True, job_id="b")

    async def deploy(make: Callable[[Path], Jobify], *waiting: str) -> None:
        app = make(tmp_path)
        async with app:
            for job_id in waiting:
                await parked(app, job_id)
            if not waiting:
                await soon(app.wait_all())
                assert app.get_job("a").result() == "mended 7 False"
                assert app.get_job("b").result() == "mended 8 True"

    run(deploy(broken_release, "a", "b"))
    run(deploy(mended_release))


async def test_retry_tries_it_at_once(tmp_path: Path) -> None:
    store(old_release(tmp_path), 7)

    app = new_release(tmp_path)
    async with app:
        await parked(app)
        assert app.get_job("job").retry()
        await eventually(lambda: len(app.configs.storage.attempts("job")) == 2)
        await parked(app)
        assert app.get_job("job").cancel()
        assert app.get_job("job").status == "cancelled"
        assert not app.get_job("job").retry()


async def test_it_expires(tmp_path: Path) -> None:
    task_of(old_release(tmp_path)).configure(job_id="job", expires=3600).delay(7)

    app = new_release(tmp_path)
    async with app:
        await parked(app)
        execute(durable(tmp_path), "UPDATE jobs SET expires_at = ? WHERE id = 'job'", SystemClock().now())
        await eventually(lambda: app.get_job("job").reason == "expired")
        assert [line.outcome for line in app.configs.storage.attempts("job")] == ["parked"]


def test_what_depends_on_it_waits(tmp_path: Path) -> None:
    app = old_release(tmp_path)
    (task,) = app.routes
    parent = task.configure(job_id="parent").delay(1)
    task.configure(job_id="child", depends_on=[parent]).delay(2)

    async def deploy() -> None:
        new = new_release(tmp_path)
        async with new:
            await parked(new, "parent")
            child = new.get_job("child")
            assert child.status == "pending"
            assert "parent" in child.note

    async def roll_back() -> None:
        old = old_release(tmp_path)
        async with old:
            await soon(old.wait_all())
            assert old.get_job("child").result() == "old 2"

    run(deploy())
    run(roll_back())


async def test_all_that_is_said_of_a_job_says_it(tmp_path: Path) -> None:
    store(old_release(tmp_path), 7)

    app = new_release(tmp_path)
    async with app:
        found = await parked(app)
        assert found.parking is not None
        job = app.get_job("job")
        document = job.to_dict()
        assert document["parked"]["reason"] == found.parking.reason
        assert document["parked"]["codes"] == list(found.parking.codes)
        assert datetime.fromisoformat(document["parked"]["at"]) < datetime.now(UTC) + timedelta(seconds=1)
        assert (document["status"], document["job_status"]) == ("pending", "scheduled")
        assert job.note.startswith("parked ")
        assert found.parking.reason in job.note
        handle = app.find_job("job")
        assert handle is not None
        assert handle.status is JobStatus.SCHEDULED


def test_a_schedule_is_parked_and_goes_on(tmp_path: Path) -> None:
    async def before() -> None:
        app = old_release(tmp_path)
        async with app:
            await task_of(app).schedule(7).cron(Cron("* * * * * * *", max_failures=1), job_id="tick")

    async def deploy() -> None:
        app = new_release(tmp_path)
        async with app:
            await parked(app, "tick")
            (view,) = app.schedules()
            assert (view.status, view.failure_count) == ("pending", 0)
            assert app.pause_schedule("tick")
            assert app.resume_schedule("tick")
            assert app.resume_schedule("tick"), "it is tried"
            await parked(app, "tick")

    async def after() -> None:
        app = old_release(tmp_path)
        async with app:
            await eventually(lambda: app.schedules()[0].run_count >= 1)

    run(before())
    run(deploy())
    run(after())


def test_arguments_that_no_longer_convert(tmp_path: Path) -> None:
    def of_fields(*fields: Any) -> tuple[type[Any], Jobify]:
        order = dataclasses.make_dataclass("Order", fields, namespace={"__module__": __name__})
        app = Jobify(storage=durable(tmp_path), serializer=ExtendedJSONSerializer([order]))

        @app.task(name="ship")
        async def ship(order: Any) -> int:
            return int(order.number)

        return order, app

    order, before = of_fields(("number", int))
    store(before, order(7))

    async def deploy() -> None:
        _, app = of_fields(("number", int), ("weight", int))
        async with app:
            found = await parked(app)
            assert found.parking is not None
            assert "weight" in found.parking.reason

    async def mended() -> None:
        _, app = of_fields(("number", int), ("weight", int, dataclasses.field(default=0)))
        async with app:
            await soon(app.wait_all())
            assert app.get_job("job").result() == 7

    run(deploy())
    run(mended())


def test_a_result_that_is_an_argument_and_cannot_be_read(tmp_path: Path) -> None:
    """The value of a job that another one takes is of a class that this release does not have."""

    @dataclasses.dataclass
    class Parcel:
        weight: int

    def of_types(*types: type, tasks: int = 2) -> Jobify:
        app = Jobify(storage=durable(tmp_path), serializer=ExtendedJSONSerializer(types))

        @app.task(name="pack")
        async def pack() -> Any:
            return Parcel(3)

        if tasks == 2:

            @app.task(name="weigh")
            async def weigh(parcel: Any) -> int:
                return int(parcel.weight)

        return app

    pack, weigh = of_types(Parcel).routes
    job_id = chain(pack.s(), weigh.s()).apply().id

    async def first_step() -> None:
        app = of_types(Parcel, tasks=1)
        async with app:
            await soon(app.wait_all())

    async def deploy() -> None:
        app = of_types()
        async with app:
            found = await parked(app, job_id)
            assert found.parking is not None
            assert "Parcel" in found.parking.reason

    async def mended() -> None:
        app = of_types(Parcel)
        async with app:
            await soon(app.wait_all())
            assert app.get_job(job_id).result() == 3

    for life in (first_step, deploy, mended):
        run(life())


async def test_a_fresh_call_is_refused_where_it_is_made(tmp_path: Path) -> None:
    app = new_release(tmp_path)
    async with app:
        with pytest.raises(TypeError, match="express"):
            await task_of(app).push(7)
        with pytest.raises(TypeError, match="express"):
            task_of(app).delay(7)


async def test_a_job_of_this_process_fails_and_whoever_waits_hears_why(tmp_path: Path) -> None:
    """There is no other code that it was made for."""

    app = new_release(tmp_path)
    async with app:
        job = await task_of(app).schedule(7, express=True).delay(3600, job_id="job")
        execute(durable(tmp_path), "UPDATE jobs SET payload = ?, due_at = 1 WHERE id = 'job'", b"[[7],{}]")
        nudge(app)
        with pytest.raises(JobFailedError):
            await soon(job)
        assert app.get_job("job").status == "failed"


SHIP = "def ship(order):\n    return f'old {order}'\n"


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A module with the task, for child processes to import."""
    path = tmp_path / "parked_shop.py"
    path.write_text(SHIP)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield path
    sys.modules.pop("parked_shop", None)


def of_module(directory: Path, **options: Any) -> Jobify:
    app = Jobify(storage=durable(directory))
    app.task(name="ship", run_mode=RunMode.PROCESS, **options)(importlib.import_module("parked_shop").ship)
    return app


NEWER = {
    "a required argument": "def ship(order, weight):\n    return 'new'\n",
    "no task of this name": "def send(order):\n    return 'new'\n",
    "no module": None,
}


@pytest.mark.parametrize("what", NEWER)
def test_child_processes_may_be_newer_than_their_parent(tmp_path: Path, shop: Path, what: str) -> None:
    """The files are exchanged under a worker that runs."""
    app = of_module(tmp_path, retry=2)
    store(app, 7)
    text = NEWER[what]

    async def deploy() -> None:
        if text is None:
            shop.unlink()
        else:
            shop.write_text(text)
        async with app:
            found = await parked(app)
            assert found.attempt == 0
            assert found.parking is not None
            assert found.parking.reason
            assert app.get_job("job").errors == []

    async def roll_back() -> None:
        shop.write_text(SHIP)
        async with app:
            assert app.get_job("job").retry()
            await soon(app.wait_all())
            assert app.get_job("job").result() == "old 7"

    run(deploy())
    run(roll_back())


async def test_a_task_in_a_process_whose_parent_is_new(tmp_path: Path, shop: Path) -> None:
    store(of_module(tmp_path), 7)
    shop.write_text(str(NEWER["a required argument"]))
    sys.modules.pop("parked_shop")

    app = of_module(tmp_path)
    async with app:
        found = await parked(app)
        assert found.parking is not None
        assert "weight" in found.parking.reason


async def test_a_type_error_of_the_task_itself_fails_it(tmp_path: Path, shop: Path) -> None:
    shop.write_text("def ship(order):\n    return ship()\n")
    app = of_module(tmp_path)
    store(app, 7)

    async with app:
        await soon(app.wait_all())
        assert app.get_job("job").status == "failed"


@pytest.mark.usefixtures("sqlite_file")
def test_calls_of_an_older_file_are_parked_and_run(tmp_path: Path) -> None:
    """The file is of the release before there were parked calls."""
    shutil.copy(DATA / "schema_6_calls.db", tmp_path / "jobs.db")
    clock = FakeClock(datetime(2030, 6, 1, tzinfo=UTC))

    def app_with(function: Callable[..., str]) -> Jobify:
        app = Jobify(storage=durable(tmp_path), clock=clock)
        app.task(name="ship")(function)
        return app

    def newer(order: int, weight: int) -> str:
        return f"{order} {weight}"

    def older(order: int) -> str:
        return f"old {order}"

    async def deploy() -> None:
        app = app_with(newer)
        async with app:
            await parked(app, "old-signature")
            await parked(app, "yearly")
            assert app.jobs(task="fail")[0].status == "failed"

    async def roll_back() -> None:
        app = app_with(older)
        async with app:
            await eventually(lambda: app.get_job("old-signature").is_done())
            assert app.get_job("old-signature").result() == "old 7"
            await eventually(lambda: app.get_job("yearly").to_dict()["run_count"] == 1)

    run(deploy())
    run(roll_back())
