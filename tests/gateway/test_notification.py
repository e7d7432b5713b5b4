"""Which processes are notified of what: those that it concerns, and no others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any

import pytest

from jobify import Jobify, JobStatus
from jobify.gateway.notification import JOB_ENDED, NEW_WORK, STATE_CHANGED, Audience, merge
from jobify.model.records import NewJob, OwnerProfile, OwnerRole
from jobify.storage.base import Notifier
from jobify.storage.postgres.notifier import PostgresNotifier
from jobify.storage.postgres.session import Session
from jobify.storage.sqlite.notifier import DatagramNotifier
from jobify.testing.rows import job as row
from support import durable, eventually, opened, soon

pytestmark = pytest.mark.both_storages

Notification = tuple[bool, bool, tuple[int, ...]]


def test_an_end_is_for_the_process_that_enqueued_the_job() -> None:
    assert Audience.of_end(None, here=1) is JOB_ENDED
    assert Audience.of_end(1, here=1) is JOB_ENDED
    assert Audience.of_end(2, here=1) == Audience(clients=True, owners=(2,))


def test_audiences_add_up() -> None:
    assert merge([JOB_ENDED, JOB_ENDED]) == Audience(clients=True)
    assert merge([NEW_WORK, Audience(owners=(2,)), Audience(owners=(3, 2))]) == Audience(workers=True, owners=(2, 3))
    assert merge([STATE_CHANGED, JOB_ENDED]) == Audience(workers=True, clients=True)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The addresses of each group of datagrams, or the channels of each group of notifications; arrivals left out."""
    found: list[list[str]] = []
    say: Callable[[Session, dict[str, str]], None] = Session.say

    def spy_on_words(session: Session, words: dict[str, str]) -> None:
        if channels := [channel for channel, word in words.items() if not word]:
            found.append(channels)
        say(session, words)

    monkeypatch.setattr(Session, "say", spy_on_words)
    send: Callable[[DatagramNotifier, bytes, Iterable[str]], None] = DatagramNotifier._send

    def spy(notifier: DatagramNotifier, message: bytes, addresses_given: Iterable[str]) -> None:
        addresses = list(addresses_given)
        if message == b"." and addresses:
            found.append(addresses)
        send(notifier, message, addresses)

    monkeypatch.setattr(DatagramNotifier, "_send", spy)
    return found


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Notification]:
    found: list[Notification] = []
    for kind in (DatagramNotifier, PostgresNotifier):
        _spy_on(kind, monkeypatch, found)
    return found


def _spy_on(kind: type[Notifier], monkeypatch: pytest.MonkeyPatch, found: list[Notification]) -> None:
    notify = kind.notify

    def spy(notifier: Any, *, workers: bool, clients: bool, owners: Collection[int] = ()) -> None:
        found.append((workers, clients, tuple(owners)))
        notify(notifier, workers=workers, clients=clients, owners=owners)

    monkeypatch.setattr(kind, "notify", spy)


def app_in(directory: Path) -> Jobify:
    app = Jobify(storage=durable(directory))

    @app.task(name="task")
    async def task(number: int = 0) -> int:
        return number

    @app.task(name="hangs")
    async def hangs() -> None:
        await asyncio.Event().wait()

    return app


def jobs_of(app: Jobify, count: int, *, task: str = "task", origin: int | None = None) -> list[NewJob]:
    return [
        row(f"{task}-{number}", task=task, payload=b"[[],{}]", due_at=app.now(), created_at=app.now(), origin=origin)
        for number in range(count)
    ]


async def test_a_worker_whose_jobs_have_no_waiters_notifies_no_process(tmp_path: Path, sent: list[list[str]]) -> None:
    app = app_in(tmp_path)
    with opened(durable(tmp_path)) as client:
        client.insert(jobs_of(app, 500))

        async with app, Jobify(storage=durable(tmp_path)):  # a worker beside it, which knows no task
            await soon(app.wait_all())
            assert app.configs.storage.get(("task-499",))[0].status == "success"
    assert sent == []


async def test_a_client_is_notified_of_ends(tmp_path: Path, sent: list[list[str]]) -> None:
    app = app_in(tmp_path)
    with opened(durable(tmp_path)) as client:
        owner = client.register(OwnerProfile(OwnerRole.CLIENT, None, (), 0), now=app.now())
        client.insert(jobs_of(app, 1))

        async with app:
            await soon(app.wait_all())
            assert client.notifier is not None
            await eventually(lambda: client.notifier is not None and client.notifier.drain())
        client.deregister(owner)
    assert len(sent) >= 1


async def test_the_end_of_a_job_notifies_the_process_that_enqueued_it(
    tmp_path: Path, calls: list[Notification]
) -> None:
    app = app_in(tmp_path)
    with opened(durable(tmp_path)) as client:
        client.insert(jobs_of(app, 1, origin=77))

        async with app:
            await soon(app.wait_all())
    assert (False, True, (77,)) in calls


async def test_the_end_of_an_own_job_is_for_clients_only(tmp_path: Path, calls: list[Notification]) -> None:
    app = app_in(tmp_path)

    async with app:
        (task, _) = app.routes
        await soon(await task.push())
    assert set(calls) == {(False, True, ())}


async def test_work_and_changes_notify_workers(tmp_path: Path, calls: list[Notification]) -> None:
    app = app_in(tmp_path)

    async with app:
        (task, _) = app.routes
        job = await task.schedule().delay(300)
        await eventually(lambda: (True, False, ()) in calls)
        calls.clear()
        await task.schedule(1).delay(600, job_id=job.id, replace=True)
        await eventually(lambda: (True, True, ()) in calls)
        calls.clear()
        await job.cancel()
        await eventually(lambda: (True, True, ()) in calls)


async def test_what_an_end_does_to_other_jobs_notifies_workers(tmp_path: Path, calls: list[Notification]) -> None:
    app = app_in(tmp_path)
    with opened(durable(tmp_path)) as client:
        first, second = jobs_of(app, 2)
        client.insert([first, second._replace(parents=(first.id,))])

        async with app:
            await soon(app.wait_all())
    assert (True, True, ()) in calls


async def test_a_shutdown_notifies_workers_of_what_it_releases(tmp_path: Path, calls: list[Notification]) -> None:
    app = app_in(tmp_path)

    async with app:
        (_, hangs) = app.routes
        job = await hangs.push()
        await eventually(lambda: job.status is JobStatus.RUNNING)
        calls.clear()
    assert calls == [(True, False, ())]


async def test_jobs_that_expire_concern_clients_and_the_processes_that_enqueued_them(
    tmp_path: Path, calls: list[Notification]
) -> None:
    app = app_in(tmp_path)
    with opened(durable(tmp_path)) as client:
        (late,) = jobs_of(app, 1, origin=77)
        client.insert([late._replace(due_at=app.now() + 10**9, ready=False, expires_at=app.now())])

        async with app:
            await eventually(lambda: client.get((late.id,))[0].status == "cancelled")
            await eventually(lambda: (False, True, (77,)) in calls)
