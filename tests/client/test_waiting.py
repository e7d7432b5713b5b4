"""Waiting for jobs: pushed answers, from any thread, process and loop; and what is left behind: nothing."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from elsewhere import World
from remote_worker import NEVER, Place, Waits, declare, has_waited

from jobify import Jobify
from jobify.client import completion_listener
from jobify.exceptions import ApplicationStateError, StorageUnavailableError
from jobify.gateway import threads
from jobify.model.records import (
    JobRecord,
    OwnerProfile,
)
from probes import database_of, waiters_of
from support import durable, eventually, run, soon, until


def test_an_answer_is_pushed_not_polled_for(place: Place) -> None:
    job = place.app.enqueue("add", (1,))
    waiting = Waits(job, poll_interval=NEVER, max_poll_interval=NEVER)
    place.await_client()
    place.worker.succeed(place.worker.claim())
    assert waiting.end() == 1


def test_a_result_whose_notification_was_lost_is_found(place: Place) -> None:
    job = place.app.enqueue("add", (1,))
    waiting = Waits(job, poll_interval=0.001, max_poll_interval=0.01)
    place.await_client()
    place.worker.succeed(place.worker.claim(), is_notified=False)
    assert waiting.end() == 1


async def test_many_who_wait_are_one_client(place: Place) -> None:
    jobs = place.app.enqueue_many("add", [(n,) for n in range(20)])
    waiting = [Waits(job, poll_interval=NEVER, max_poll_interval=NEVER) for job in jobs]

    waits = [asyncio.ensure_future(job.aresult(None, NEVER, NEVER)) for job in jobs]
    await eventually(lambda: len(waiters_of(place.app)) == 40)
    assert place.clients() == 1
    place.await_client()
    for _ in jobs:
        place.worker.succeed(place.worker.claim())
    assert await soon(asyncio.gather(*waits)) == [1] * 20
    assert [wait.end() for wait in waiting] == [1] * 20


def threads_of_callers() -> set[threading.Thread]:
    """All threads but those of storages, which notify others as long as the storage is open."""
    return {thread for thread in threading.enumerate() if thread.name != "jobify-postgres"}


def test_enqueuing_leaves_no_owner_and_no_thread_behind(place: Place) -> None:
    before = threads_of_callers()
    job = place.app.enqueue("add", (1,))
    assert job.status == "pending"
    assert place.clients() == 0
    assert not threads_of_callers() - before


def test_no_thread_is_left_without_waiters(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(completion_listener, "IDLE_TIMEOUT", 0.001)
    monkeypatch.setattr(threads, "IDLE_TIMEOUT", 0.001)
    before = threads_of_callers()
    job = place.app.enqueue("add", (1,))
    for _ in range(3):  # it begins again, too
        with pytest.raises(TimeoutError):
            job.result(timeout=0.001)
        with pytest.raises(TimeoutError):
            run(job.aresult(timeout=0.001))
        until(lambda: place.clients() == 0)
        until(lambda: not threads_of_callers() - before)


async def test_a_wait_that_is_cancelled_is_forgotten(place: Place) -> None:
    job = place.app.enqueue("add", (1,))

    waiting = asyncio.ensure_future(job.aresult())
    waiters = waiters_of(place.app)
    await eventually(lambda: len(waiters) == 1)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert not waiters


def test_waiters_learn_that_the_storage_is_unavailable(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    job = place.app.enqueue("add", (1,))
    waiting = Waits(job, poll_interval=NEVER, max_poll_interval=NEVER)
    place.await_client()

    def away(self: object, ids: Sequence[str]) -> list[JobRecord]:
        raise StorageUnavailableError("gone")

    with monkeypatch.context() as patch:
        patch.setattr(type(place.app.configs.storage), "get", away)
        place.worker.notify_clients()
        assert isinstance(waiting.end(), StorageUnavailableError)
    place.worker.succeed(place.worker.claim())
    assert job.result() == 1


def test_it_polls_if_no_process_can_notify_it(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(self: object, profile: OwnerProfile, *, now: int) -> int:
        raise StorageUnavailableError("read-only")

    monkeypatch.setattr(type(place.app.configs.storage), "register", refuses)
    job = place.app.enqueue("add", (1,))
    waiting = Waits(job, poll_interval=0.001, max_poll_interval=0.01)
    place.worker.succeed(place.worker.claim())
    assert waiting.end() == 1


# -- the loop that runs the app ----------------------------------------------------------------------------------------


async def test_blocking_the_loop_that_runs_the_app_is_refused(tmp_path: Path) -> None:
    app = Jobify(storage=durable(tmp_path))

    @app.task(name="hold")
    async def hold() -> None:
        running.set()
        await ended.wait()

    running, ended = asyncio.Event(), asyncio.Event()
    async with app:
        job = app.enqueue("hold")
        await soon(running.wait())
        for call, instead in (
            (job.result, r"await job\.aresult\(\)"),
            (job.wait, r"await job\.await_end\(\)"),
            (job.cancel, r"await job\.acancel\(\)"),
            (lambda: list(job.stream()), r"job\.astream\(\)"),
        ):
            with pytest.raises(ApplicationStateError, match=instead):
                call()
        assert job.status == "running"
        assert await soon(asyncio.to_thread(lambda: job.status)) == "running"
        ended.set()
        await soon(job.await_end())
        job.result()  # has ended: there is nothing to wait for
    app.close()


async def test_an_app_that_runs_here_is_asked_from_its_loop_and_from_threads(world: World) -> None:
    declare(world.app)

    async with world.app as app:
        assert await soon((await app.aenqueue("add", (1,))).aresult()) == 2
        assert await soon(app.enqueue("add", (1,)).aresult()) == 2
        assert await soon(asyncio.to_thread(lambda: app.enqueue("add", (1,)).result())) == 2
    assert app.enqueue("add", (1,)).status == "pending"
    async with world.app as app:
        jobs = await app.ajobs(status="pending")
        await asyncio.gather(*[soon(job.aresult()) for job in jobs])
    assert app.stats()["complete"] == 4


async def test_jobs_enqueued_before_an_app_in_memory_starts_run_then() -> None:
    app = Jobify(storage=False)
    declare(app)
    early = app.enqueue("add", (1,))

    async with app:
        assert await soon(early.aresult()) == 2
    app.close()


# -- letting go --------------------------------------------------------------------------------------------------------


def test_it_is_opened_again_after_a_close(place: Place) -> None:
    first = place.app.enqueue("add", (1,))
    place.app.close()
    place.app.close()
    second = place.app.enqueue("add", (2,))
    assert first.status == second.status == "pending"


def test_closing_retires_who_has_waited(place: Place) -> None:
    job = place.app.enqueue("add", (1,))
    until(lambda: has_waited(job) and place.clients())
    place.app.close()
    assert place.clients() == 0


def test_an_app_that_is_gone_has_let_go_of_its_storage(tmp_path: Path) -> None:
    storage = durable(tmp_path)
    app = Jobify(storage=storage)
    declare(app)
    app.enqueue("add", (1,))
    assert database_of(storage).is_open
    del app
    gc.collect()
    assert not database_of(storage).is_open


def test_a_handle_outlives_the_name_of_its_app(tmp_path: Path) -> None:
    app = Jobify(storage=durable(tmp_path))
    declare(app)
    job = app.enqueue("add", (1,))
    del app
    gc.collect()
    assert job.status == "pending"


def test_two_apps_share_a_storage_object(tmp_path: Path) -> None:
    storage = durable(tmp_path)
    first, second = Jobify(storage=storage), Jobify(storage=storage)
    job = first.enqueue("add", (1,))
    assert second.get_job(job.id).status == "pending"
    first.close()
    assert second.get_job(job.id).status == "pending"
    second.close()
    assert not database_of(storage).is_open


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_enqueues_and_waits_for_itself(place: Place) -> None:
    parent = place.app.enqueue("add", (1,), job_id="parent")
    until(lambda: has_waited(parent) and place.clients())  # there is a listener, whose thread the child does not have
    run(place.app.aget_job("parent"))  # and a helper

    child = os.fork()
    if child == 0:
        code = 1
        try:
            job = place.app.enqueue("add", (1,), job_id="child")
            place.app.close()
            try:
                job.result(timeout=0.001)
            except TimeoutError:
                asyncio.run(place.app.aget_job("parent"))
                place.app.close()
                code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert place.app.get_job("child").status == "pending"
    assert place.clients() == 1, "the child has retired its parent"
    job = place.app.enqueue("add", (1,), priority=1)
    waiting = Waits(job, poll_interval=NEVER, max_poll_interval=NEVER)
    place.await_client()
    place.worker.succeed(place.worker.claim())
    assert waiting.end() == 1


# -- streams -----------------------------------------------------------------------------------------------------------


@pytest.mark.promise("t9")
def test_all_values_arrive_in_order(place: Place) -> None:
    job = place.app.enqueue("add", (1,))
    claim = place.worker.claim()
    got: list[int] = []
    follower = threading.Thread(target=lambda: got.extend(job.stream()))
    follower.start()
    for start in range(0, 1000, 50):
        place.worker.publish(claim, range(start, start + 50))
    place.worker.succeed(claim)
    follower.join(20)
    assert got == list(range(1000))
    assert list(job.stream()) == got, "a late reader gets them from the start"
    assert list(job.stream(after=2 * 990)) == got[990:]
    assert [line["message"] for line in job.logs()] == [f"said {value}" for value in got]


@pytest.mark.promise("t9")
async def test_values_are_followed_without_blocking(place: Place) -> None:
    job = place.app.enqueue("add", (1,))
    claim = place.worker.claim()
    got: list[int] = []

    async def follow() -> None:
        nonlocal got
        async for value in job.astream():
            got += [value]

    following = asyncio.ensure_future(follow())
    for start in range(0, 100, 20):
        place.worker.publish(claim, range(start, start + 20))
        await eventually(lambda: len(got) == start + 20)
    place.worker.succeed(claim)
    await soon(following)
    assert got == list(range(100))


async def test_a_stream_gives_up_when_nothing_comes(place: Place) -> None:
    job = place.app.enqueue("add", (1,))
    with pytest.raises(TimeoutError, match=r"nothing for 0\.01 seconds"):
        list(job.stream(timeout=0.01))

    with pytest.raises(TimeoutError, match=r"nothing for 0\.01 seconds"):
        async for _ in job.astream(timeout=0.01):
            pass


def test_progress_and_logs_are_read_each_time(place: Place) -> None:
    job = place.app.enqueue("add", (1,))
    claim = place.worker.claim()
    place.worker.progress(claim, 12.5)
    assert job.progress == 12.5
    place.worker.publish(claim, [1])
    assert job.logs() == [
        {"number": 2, "at": "1970-01-01T00:00:01+00:00", "attempt": 1, "level": "info", "message": "said 1"}
    ]
