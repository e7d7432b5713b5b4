"""An app that is closed while a caller waits, or shortly after: the listener opens nothing again."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from remote_worker import NEVER, Place, Waits, has_waited

from jobify import Jobify
from jobify.client.completion_listener import CompletionListener
from jobify.exceptions import ApplicationStateError, StorageUnavailableError
from jobify.gateway.connection import Closed, StorageConnection
from jobify.storage import SQLiteStorage
from probes import connection_of, waiters_of
from support import eventually, until


def listeners() -> list[threading.Thread]:
    """The threads that listen."""
    return [thread for thread in threading.enumerate() if thread.name == "jobify-listener"]


def test_what_listened_opens_no_database_after_the_app_was_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    here.mkdir()
    elsewhere.mkdir()
    monkeypatch.chdir(here)
    app = Jobify(storage=SQLiteStorage("jobs.db"))
    job = app.enqueue("add", (1,))
    owners = app.configs.storage.owners
    until(lambda: has_waited(job) and owners())
    app.close()
    monkeypatch.chdir(elsewhere)
    until(lambda: not listeners())
    assert not list(elsewhere.iterdir())


def test_a_waiter_learns_that_the_app_was_closed(place: Place) -> None:
    job = place.app.enqueue("add", (1,))
    waiting = Waits(job, poll_interval=NEVER, max_poll_interval=NEVER)
    place.await_client()
    place.app.close()
    error = waiting.end()
    assert isinstance(error, ApplicationStateError)
    assert f"wait for job {job.id!r}" in str(error)
    assert place.clients() == 0


def test_a_read_that_a_close_interrupts_is_no_failure_of_the_storage(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = place.app.enqueue("add", (1,))
    check = CompletionListener._check

    def close_meanwhile(self: CompletionListener, *arguments: Any) -> None:
        if threading.current_thread().name == "jobify-listener" and not closed:
            closed.append(True)
            place.app.close()
            raise StorageUnavailableError("it was closed while it was read")
        check(self, *arguments)

    closed: list[bool] = []
    monkeypatch.setattr(CompletionListener, "_check", close_meanwhile)
    waiting = Waits(job, poll_interval=NEVER, max_poll_interval=NEVER)
    assert isinstance(waiting.end(), ApplicationStateError)
    assert closed


async def test_an_async_waiter_learns_that_the_app_was_closed(place: Place) -> None:
    job = place.app.enqueue("add", (1,))

    waiting = asyncio.ensure_future(job.aresult(timeout=None, poll_interval=NEVER, max_poll_interval=NEVER))
    await eventually(lambda: waiters_of(place.app))
    place.app.close()
    with pytest.raises(ApplicationStateError, match="wait for job"):
        await waiting


def test_a_wait_after_the_app_was_closed_is_notified_again(place: Place) -> None:
    job = place.app.enqueue("add", (1,))
    for _ in range(3):
        until(lambda: has_waited(job) and place.clients())
        place.app.close()
    waiting = Waits(job, poll_interval=NEVER, max_poll_interval=NEVER)
    place.await_client()
    place.worker.succeed(place.worker.claim())
    assert waiting.end() == 1


def test_a_storage_that_was_closed_is_not_opened_for_what_began_before(place: Place) -> None:
    connection: StorageConnection = connection_of(place.app)
    subscription = connection.subscribe()
    place.app.stats()
    with subscription.locked() as storage:
        assert storage is subscription.reader()
    place.app.close()
    with pytest.raises(Closed):
        subscription.reader()
    place.app.stats()
    with pytest.raises(Closed), subscription.locked():
        pass
