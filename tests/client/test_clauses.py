"""The clauses of the handle that its sentences say in passing, and what was decided beyond them."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from elsewhere import World
from remote_worker import Place

import jobify
from jobify import Cron, Jobify, JobResult, RunMode, SmartRetry, chain, chord, chunks, exceptions, group, starmap
from jobify.exceptions import (
    ConfigurationError,
    JobNotFoundError,
    MaxRetriesExceededError,
    NoResultError,
    ResultNotStoredError,
    TaskFailedError,
)
from jobify.model.records import JobRecord
from jobify.storage import SQLiteStorage, Storage
from probes import reader_of
from support import durable, eventually, execute, soon, until

TWICE = SmartRetry(1, initial_delay=0, jitter=False)


def die() -> None:
    """Take the process along."""
    os._exit(3)


def fail_in_a_process() -> None:
    raise ValueError("because")


def declare(app: Jobify) -> None:
    """The tasks of all tests here."""

    @app.task(name="add")
    def add(x: int, y: int = 1) -> int:
        return x + y

    @app.task(name="total")
    def total(xs: list[int]) -> int:
        return sum(xs)

    @app.task(name="wait")
    async def wait() -> None:
        await asyncio.Event().wait()

    @app.task(name="fail")
    async def fail() -> None:
        raise ValueError("because")

    @app.task(name="fail in a thread")
    def fail_in_a_thread() -> None:
        raise ValueError("because")

    @app.task(name="no result", retry=TWICE)
    async def no_result() -> None:
        raise NoResultError

    app.task(die, name="die", run_mode=RunMode.PROCESS)
    app.task(fail_in_a_process, name="fail in a process", run_mode=RunMode.PROCESS)


def route(app: Jobify, name: str) -> Any:
    """The task of this name."""
    (found,) = (each for each in app.routes if each.name == name)
    return found


# -- the sentences -----------------------------------------------------------------------------------------------------


@pytest.mark.promise("j1")
def test_its_kin_are_exported() -> None:
    names = ("JobResult", "current_job", "chain", "group", "chord", "chunks", "starmap")
    assert set(names) <= set(jobify.__all__)
    assert all(getattr(jobify, name) is not None for name in names)
    for error in ("TaskFailedError", "MaxRetriesExceededError", "TaskCancelledError", "JobNotFoundError"):
        assert error in exceptions.__all__


@pytest.mark.promise("j5")
def test_every_workflow_returns_handles(app: Jobify) -> None:
    add, total = route(app, "add"), route(app, "total")
    for one in (add.s(1).apply(), chain(add.s(1), add.s()).apply(), chord([add.s(1)], total.s()).apply()):
        assert type(one) is JobResult
    for many in (group(add.s(1)).apply(), chunks(total, [1, 2, 3], 2).apply(), starmap(add, [(1, 2)]).apply()):
        assert isinstance(many, list)
        assert {type(one) for one in many} == {JobResult}


@pytest.mark.promise("j7", "j10")
@pytest.mark.parametrize("name", ["status", "progress"])
@pytest.mark.usefixtures("sqlite_file")
def test_a_read_is_one_select_by_the_primary_key(place: Place, name: str) -> None:
    job = place.app.enqueue("add", (1,))
    getattr(job, name)
    storage = place.app.configs.storage
    assert isinstance(storage, SQLiteStorage)
    reader = reader_of(storage)
    assert reader is not None
    said: list[str] = []
    reader.set_trace_callback(said.append)
    getattr(job, name)
    reader.set_trace_callback(None)
    (statement,) = said
    plan = [step for *_, step in reader.execute(f"EXPLAIN QUERY PLAN {statement}")]
    assert "SEARCH jobs USING INDEX sqlite_autoindex_jobs_1 (id=?)" in plan


@pytest.mark.promise("j10")
def test_its_progress_is_what_was_reported_last(place: Place) -> None:
    job = place.app.enqueue("add", (1,))
    other, claim = place.app.get_job(job.id), place.worker.claim()
    for percent in (0, 62.5, 100):
        place.worker.progress(claim, percent)
        assert (job.progress, other.progress) == (percent, percent)


@pytest.mark.promise("j17")
def test_all_that_a_handle_says_is_in_it(world: World, app: Jobify) -> None:
    said = {name for name, member in inspect.getmembers(JobResult) if isinstance(member, property)} - {"_source"}
    jobs = [
        app.enqueue("add", (1,), delay=3600, expires=7200, unique_key="one"),
        app.enqueue("add", (1,), job_id="gone"),
        app.enqueue("fail", retry=TWICE),
        app.enqueue("add", (1,)),
    ]
    assert jobs[1].cancel()
    with world.running(declare):
        for job in jobs[2:]:
            job.wait(20)
    for job in jobs:
        document = job.to_dict()
        assert said <= set(document)
        assert document["status"] == job.status
        assert json.loads(json.dumps(document)) == document


@pytest.mark.promise("j18", "j19", "j20", "j24")
@pytest.mark.parametrize("method", [JobResult.result, JobResult.aresult])
def test_defaults_are_as_published(method: Any) -> None:
    parameters = list(inspect.signature(method).parameters.values())[1:]
    assert [(each.name, each.default) for each in parameters] == [
        ("timeout", 30.0),
        ("poll_interval", 0.05),
        ("max_poll_interval", 0.5),
    ]


@pytest.mark.promise("j24")
async def test_the_event_loop_goes_on_while_the_storage_takes_its_time(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = place.app.enqueue("add", (1,))
    place.worker.succeed(place.worker.claim())
    asked, may_answer = threading.Event(), threading.Event()
    kind = type(place.app.configs.storage)
    get = kind.get

    def slow(self: Storage, ids: Sequence[str]) -> list[JobRecord]:
        asked.set()
        assert may_answer.wait(20), "the event loop has waited, too"
        return get(self, ids)

    monkeypatch.setattr(kind, "get", slow)
    waiting = asyncio.ensure_future(job.aresult())
    await eventually(asked.is_set)
    may_answer.set()
    assert await soon(waiting) == 1


# -- decided beyond them -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "options", "word"),
    [
        ("wait", {"timeout": 0.01}, "failed"),
        ("wait", {"timeout": 0.01, "retry": TWICE}, "dead"),
        ("fail", {"retry": 0}, "failed"),
        ("fail", {"retry": TWICE._replace(exclude_exceptions=(ValueError,))}, "failed"),
        ("no result", {}, "failed"),
        ("die", {}, "dead"),
    ],
    ids=["timeout", "timeouts", "no retries", "excluded", "no result", "death"],
)
def test_dead_is_who_has_used_up_a_budget(tmp_path: Path, task: str, options: dict[str, Any], word: str) -> None:
    world = World("sqlite", tmp_path)
    declare(world.app)
    job = world.app.enqueue(task, **options)
    kind = MaxRetriesExceededError if word == "dead" else TaskFailedError
    with world.running(declare, max_crashes=1):
        with pytest.raises(TaskFailedError) as caught:
            job.result()
        assert (job.status, type(caught.value)) == (word, kind)
        lines = len(job.errors)
        assert world.app.dead_letters() == [job]
        assert job.retry()
        until(lambda: len(job.errors) == 2 * lines)
    world.app.close()


def test_a_cron_that_was_stopped_for_good_is_dead(world: World) -> None:
    def declare_cron(app: Jobify) -> None:
        @app.task(name="tick", cron=Cron("* * * * * * *", max_failures=1))
        async def tick() -> None:
            raise ValueError("because")

    with world.running(declare_cron):
        until(lambda: world.app.stats()["dead"] == 1)
    (job,) = world.app.dead_letters()
    assert job.error == "ValueError: because"
    assert job.retry()
    assert (job.status, len(job.errors)) == ("pending", 1)


async def test_what_cannot_be_read_waits_for_code_that_can(place: Place, tmp_path: Path) -> None:
    job = place.app.enqueue("add", (1,), retry=TWICE)
    execute(durable(tmp_path), "UPDATE jobs SET payload = ?", b"{")

    app = Jobify(storage=durable(tmp_path))
    declare(app)
    async with app:
        await eventually(lambda: job.to_dict()["parked"])
    assert (job.status, place.app.dead_letters()) == ("pending", [])
    assert job.retry()
    assert job.to_dict()["parked"] is None


def test_a_lost_worker_too_many_is_dead(place: Place) -> None:
    job = place.app.enqueue("add", (1,))
    place.worker.claim()
    place.worker.storage.close()
    place.worker.storage.open()
    place.worker.storage.recover(now=2**60, max_crashes=1, delete_at=None)
    assert (job.status, place.app.dead_letters()) == ("dead", [job])
    with pytest.raises(MaxRetriesExceededError):
        job.result()


def test_what_waits_for_a_slot_is_pending(world: World, app: Jobify) -> None:
    with world.running(declare, concurrency=1):
        first = app.enqueue("wait")
        until(lambda: first.status == "running")
        second = app.enqueue("wait")
        third = app.enqueue("add", (1,))
        assert third.result() == 2  # a thread: the worker has looked for jobs since
        assert second.status == "pending"
        assert first.cancel()
        until(lambda: second.status == "running")


def test_one_that_was_purged_is_not_found(world: World, app: Jobify) -> None:
    job = app.enqueue("add", (1,))
    with world.running(declare):
        job.wait(20)
    assert app.purge_jobs(status="complete") == 1
    for look in (lambda: job.status, job.result, lambda: app.get_job(job.id)):
        with pytest.raises(JobNotFoundError):
            look()


async def test_a_live_handle_has_the_object_that_no_row_could_keep(tmp_path: Path) -> None:
    app, thing = Jobify(storage=durable(tmp_path)), object()

    @app.task(name="odd")
    async def odd() -> object:
        return thing

    async with app:
        job = await odd.push()
        assert await soon(job) is thing
        with pytest.raises(ResultNotStoredError, match="object"):
            await app.get_job(job.id).aresult()
        assert await app.aget_job(job.id) not in await app.ajobs(status="failed")
    app.close()


OPTIONS = ("priority", "delay", "eta", "queue", "retry", "timeout", "unique_key", "metadata", "depends_on", "expires",
           "result_ttl", "job_id")  # fmt: skip


@pytest.mark.parametrize("option", OPTIONS)
def test_every_published_option_is_known_and_a_slip_is_answered_with_it(place: Place, option: str) -> None:
    with pytest.raises(ConfigurationError, match=f"Did you mean '{option}'"):
        route(place.app, "add").apply_async((1,), **{option + "s": 1})
    assert place.app.jobs() == []


@pytest.mark.promise("f12")
def test_a_parent_that_was_complete_is_satisfied_and_stays_for_its_child(world: World, app: Jobify) -> None:
    parent = app.enqueue("add", (1,))
    with world.running(declare):
        parent.wait(20)
    child = app.enqueue("add", (2,), depends_on=parent)
    assert (app.delete_jobs(parent), app.purge_jobs()) == (0, 0)
    assert child.status == "pending"
    assert child.dependencies == [parent.id]
    with world.running(declare):
        assert child.result() == 3
    assert app.delete_jobs(parent) == 1
    assert child.dependencies == [parent.id]


# -- stories -----------------------------------------------------------------------------------------------------------


@pytest.mark.promise("t15")
@pytest.mark.parametrize("task", ["fail", "fail in a thread", "fail in a process"])
def test_wherever_it_ran_an_error_shows_the_users_frames_only(world: World, app: Jobify, task: str) -> None:
    with world.running(declare):
        job = app.enqueue(task, timeout=60)
        job.wait(20)
    (error,) = job.errors
    frames = [line for line in error["error"].splitlines() if line.startswith("  File")]
    assert len(frames) == 1
    assert Path(__file__).name in frames[0]
    assert not [word for word in ("During handling", "direct cause", "RemoteTraceback") if word in error["error"]]
