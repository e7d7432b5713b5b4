"""What seldom happens: damaged rows, storages and middleware that fail, moments that are hard to hit."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from remote_worker import Place, declare, has_waited

from jobify import Jobify, JobResult, JobRouter
from jobify.client import admin
from jobify.exceptions import (
    ApplicationStateError,
    DuplicateJobError,
    ResultNotStoredError,
    StorageUnavailableError,
    UnknownDependencyError,
)
from jobify.middleware import BaseOuterMiddleware, CallNextOuter
from jobify.model.public_status import public_status
from jobify.model.records import NewJob, OwnerProfile, OwnerRole
from jobify.storage import SQLiteStorage
from probes import client_of, connection_of, record_of
from support import durable, eventually, execute, run, until


def test_words_of_other_releases_have_not_ended() -> None:
    assert public_status("suspended", False) == "running"
    assert public_status("permanently_failed", True) == "dead"


def test_damaged_rows_are_shown_as_far_as_they_can_be(place: Place, tmp_path: Path) -> None:
    job = place.app.enqueue("add", (1,), metadata={"a": 1})
    execute(durable(tmp_path), "UPDATE jobs SET options = '[', rule = '['")
    assert job.metadata == {}
    document = job.to_dict()
    assert (document["metadata"], document["cron"]) == ({}, None)
    (schedule,) = place.app.schedules()
    assert schedule.cron is None


@pytest.mark.parametrize(("stored", "words"), [(b"{", "cannot be read here"), (None, "there is none")])
def test_a_result_that_cannot_be_read_says_so(place: Place, stored: bytes | None, words: str) -> None:
    job = place.app.enqueue("add", (1,))
    place.worker.succeed(place.worker.claim(), stored)  # type: ignore[arg-type]
    with pytest.raises(ResultNotStoredError, match=words):
        job.result()
    assert words in job.to_dict()["result"]


def test_a_job_that_ended_at_the_last_moment_is_not_late(place: Place) -> None:
    job = place.app.enqueue("add", (1,))
    place.worker.succeed(place.worker.claim())
    assert client_of(place.app).operations._waiter._check_once_more(job.id, 1.0).status == "success"


def test_a_live_worker_of_other_queues_does_not_serve_this_one(place: Place) -> None:
    owner = place.worker.storage.register(OwnerProfile(OwnerRole.WORKER, ("other",), ("add",), 1), now=1)
    place.worker.storage.deregister(place.worker.owner)
    place.app.enqueue("add", (1,))
    place.app.enqueue("add", (1,), queue="other")
    (unserved,) = place.app.unserved()
    assert unserved.reason == "No worker serves the queue 'default'."
    assert [(queue.name, queue.workers) for queue in place.app.queues()] == [("default", 0), ("other", 1)]
    place.worker.storage.deregister(owner)


def test_a_purge_takes_many_in_parts(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin, "_BATCH", 2)
    for job in place.app.enqueue_many("add", [(n,) for n in range(5)]):
        assert job.cancel()
    assert place.app.purge_jobs() == 5


def test_retry_can_be_awaited(place: Place) -> None:
    assert run(place.app.enqueue("add", (1,)).aretry()) is False


def test_ids_that_are_not_unique_are_refused(tmp_path: Path) -> None:
    app = Jobify(storage=durable(tmp_path), uuid_generator=lambda: "same")
    declare(app)
    (task,) = app.routes
    with pytest.raises(DuplicateJobError):
        task.map([(1,), (2,)])
    assert app.stats()["pending"] == 0
    task.delay(1)
    with pytest.raises(DuplicateJobError):
        task.delay(2)
    app.close()


# -- storages of a user's own ------------------------------------------------------------------------------------------


def test_a_notifier_that_fails_does_not_fail_the_call(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class BrokenNotifier:
        def notify(self, **whom: Any) -> None:
            raise OSError("it is broken")

    class Broken(SQLiteStorage):
        notifier = BrokenNotifier()  # type: ignore[assignment]

    app = Jobify(storage=Broken(tmp_path / "jobs.db"))
    declare(app)
    assert app.enqueue("add", (1,)).status == "pending"
    assert "it is broken" in caplog.text
    app.close()


def test_a_client_that_cannot_leave_in_order_lets_go(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    job = place.app.enqueue("add", (1,))
    until(lambda: has_waited(job) and place.clients())

    def refuses(owner: int) -> None:
        raise StorageUnavailableError("locked")

    storage = place.app.configs.storage
    storage.deregister = refuses  # type: ignore[method-assign]
    with caplog.at_level(logging.DEBUG):
        place.app.close()
    assert "could not deregister" in caplog.text
    del storage.deregister
    assert job.status == "pending"


async def test_an_error_of_one_insert_is_not_the_others(tmp_path: Path) -> None:
    class Picky(SQLiteStorage):
        def insert(self, jobs: Sequence[NewJob]) -> list[bool]:
            if any(job.payload == b"[[13],{}]" for job in jobs):
                raise UnknownDependencyError("a", "b")
            return super().insert(jobs)

    app = Jobify(storage=Picky(tmp_path / "jobs.db", synchronous="normal"))
    declare(app)
    (task,) = app.routes

    answers = await asyncio.gather(*[task.adelay(n) for n in range(20)], return_exceptions=True)
    assert [number for number, answer in enumerate(answers) if isinstance(answer, Exception)] == [13]
    assert app.stats()["pending"] == 19
    app.close()


async def test_a_result_without_a_waiter_is_dropped(place: Place) -> None:
    asking = asyncio.ensure_future(place.app.aenqueue("add", (1,), job_id="mine"))
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.wait([asking])
    await eventually(lambda: place.app.stats()["pending"])
    assert place.app.get_job("mine").status == "pending", "what was asked for is stored all the same"


def test_a_storage_that_is_closed_just_before_a_use_is_opened_again(place: Place) -> None:
    connection = connection_of(place.app)
    place.app.enqueue("add", (1,))
    shared = connection._state.shared
    assert shared is not None
    lock = shared.lock

    class Closing:
        """Is closed by another thread just before it is given."""

        def acquire(self) -> bool:
            shared.lock = lock
            other = threading.Thread(target=connection.close)
            other.start()
            other.join(20)
            return lock.acquire()

        def release(self) -> None:
            lock.release()

    shared.lock = Closing()  # type: ignore[assignment]
    place.app.enqueue("add", (2,))
    assert (connection.generation, connection.is_open) == (1, True)
    assert place.app.stats()["pending"] == 2


def test_a_closed_client_notifies_no_process(place: Place) -> None:
    connection_of(place.app).notify(workers=True)
    connection_of(place.app).forward()
    assert connection_of(place.app).local.take() == b""


# -- outer middleware --------------------------------------------------------------------------------------------------


class Changes(BaseOuterMiddleware):
    """Does what a test says to the context."""

    def __init__(self, **changes: Any) -> None:
        self.changes = changes

    async def __call__(self, call_next: CallNextOuter, context: Any) -> Any:
        for name, value in self.changes.items():
            setattr(context, name, value)
        return await call_next(context)


def test_only_an_app_that_runs_can_keep_a_job_in_memory(place: Place) -> None:
    place.app.add_outer_middleware(Changes(is_persist=False))
    with pytest.raises(ApplicationStateError, match="use push"):
        place.app.enqueue("add", (1,))
    assert place.app.stats()["pending"] == 0


def test_what_is_to_come_cannot_be_replaced(place: Place) -> None:
    place.app.add_outer_middleware(Changes(arguments={"x": 5}))
    (task,) = place.app.routes
    assert task.delay(1).status == "pending"
    with pytest.raises(TypeError, match="the result of the job before"):
        (task.s(1) | task.s()).apply()
    assert place.app.stats()["pending"] == 1


def test_of_many_only_those_with_middleware_go_through_it(place: Place) -> None:
    router = JobRouter(outer_middleware=[Changes(arguments={"x": 5})])
    router.task(lambda x: x, name="through")
    place.app.include_router(router)
    past, through = place.app.routes
    jobs: list[JobResult[Any]] = place.app.enqueue_many([past.s(1), through.s(1)])
    payloads = [record_of(place.app, job.id).payload for job in jobs]
    assert payloads == [b"[[1],{}]", b"[[5],{}]"]


def test_outer_middleware_knows_the_due_time(place: Place) -> None:
    seen: list[str] = []

    class Looks(BaseOuterMiddleware):
        async def __call__(self, call_next: CallNextOuter, context: Any) -> Any:
            seen.append(type(context.trigger).__name__)
            return await call_next(context)

    place.app.add_outer_middleware(Looks())
    place.app.enqueue("add", (1,))
    place.app.enqueue("add", (1,), delay=60)
    assert seen == ["Push", "At"]
