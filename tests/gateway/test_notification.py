"""Who is told of what: those whom it concerns, and nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

import pytest

from jobify import Jobify, JobStatus
from jobify.gateway.notification import JOB_ENDED, NEW_WORK, STATE_CHANGED, Audience, merge
from jobify.model.records import NewJob, OwnerProfile, OwnerRole
from jobify.storage.sqlite.notifier import DatagramNotifier
from jobify.testing.storage_contract.given import job as row
from support import durable, eventually, soon

Ring = tuple[bool, bool, tuple[int, ...]]


def test_an_end_is_for_whoever_enqueued_the_job() -> None:
    assert Audience.of_end(None, here=1) is JOB_ENDED
    assert Audience.of_end(1, here=1) is JOB_ENDED
    assert Audience.of_end(2, here=1) == Audience(clients=True, owners=(2,))


def test_news_add_up() -> None:
    assert merge([JOB_ENDED, JOB_ENDED]) == Audience(clients=True)
    assert merge([NEW_WORK, Audience(owners=(2,)), Audience(owners=(3, 2))]) == Audience(workers=True, owners=(2, 3))
    assert merge([STATE_CHANGED, JOB_ENDED]) == Audience(workers=True, clients=True)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The addresses of each group of datagrams, arrivals left out."""
    found: list[list[str]] = []
    send: Callable[[DatagramNotifier, bytes, Iterable[str]], None] = DatagramNotifier._send

    def spy(bell: DatagramNotifier, message: bytes, bells: Iterable[str]) -> None:
        addresses = list(bells)
        if message == b"." and addresses:
            found.append(addresses)
        send(bell, message, addresses)

    monkeypatch.setattr(DatagramNotifier, "_send", spy)
    return found


@pytest.fixture
def rings(monkeypatch: pytest.MonkeyPatch) -> list[Ring]:
    found: list[Ring] = []
    ring = DatagramNotifier.notify

    def spy(bell: DatagramNotifier, *, workers: bool, clients: bool, owners: Collection[int] = ()) -> None:
        found.append((workers, clients, tuple(owners)))
        ring(bell, workers=workers, clients=clients, owners=owners)

    monkeypatch.setattr(DatagramNotifier, "notify", spy)
    return found


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


async def test_a_worker_that_drains_jobs_nobody_waits_for_rings_nobody(tmp_path: Path, sent: list[list[str]]) -> None:
    app = app_in(tmp_path)
    client = durable(tmp_path)
    client.open()
    client.insert(jobs_of(app, 500))

    async with app, Jobify(storage=durable(tmp_path)):  # a worker beside it, which knows no task
        await soon(app.wait_all())
        assert app.configs.storage.get(("task-499",))[0].status == "success"
    client.close()
    assert sent == []


async def test_a_client_hears_of_ends(tmp_path: Path, sent: list[list[str]]) -> None:
    app = app_in(tmp_path)
    client = durable(tmp_path)
    client.open()
    owner = client.register(OwnerProfile(OwnerRole.CLIENT, None, (), 0), now=app.now())
    client.insert(jobs_of(app, 1))

    async with app:
        await soon(app.wait_all())
        assert client.notifier is not None
        await eventually(lambda: client.notifier is not None and client.notifier.drain())
    client.deregister(owner)
    client.close()
    assert len(sent) >= 1


async def test_the_end_of_a_job_rings_the_process_that_enqueued_it(tmp_path: Path, rings: list[Ring]) -> None:
    app = app_in(tmp_path)
    client = durable(tmp_path)
    client.open()
    client.insert(jobs_of(app, 1, origin=77))

    async with app:
        await soon(app.wait_all())
    client.close()
    assert (False, True, (77,)) in rings


async def test_the_end_of_an_own_job_is_for_clients_only(tmp_path: Path, rings: list[Ring]) -> None:
    app = app_in(tmp_path)

    async with app:
        (task, _) = app.routes
        await soon(await task.push())
    assert set(rings) == {(False, True, ())}


async def test_work_and_orders_ring_workers(tmp_path: Path, rings: list[Ring]) -> None:
    app = app_in(tmp_path)

    async with app:
        (task, _) = app.routes
        job = await task.schedule().delay(300)
        await eventually(lambda: (True, False, ()) in rings)
        rings.clear()
        await task.schedule(1).delay(600, job_id=job.id, replace=True)
        await eventually(lambda: (True, True, ()) in rings)
        rings.clear()
        await job.cancel()
        await eventually(lambda: (True, True, ()) in rings)


async def test_what_an_end_does_to_other_jobs_rings_workers(tmp_path: Path, rings: list[Ring]) -> None:
    app = app_in(tmp_path)
    client = durable(tmp_path)
    client.open()
    first, second = jobs_of(app, 2)
    client.insert([first, second._replace(parents=(first.id,))])

    async with app:
        await soon(app.wait_all())
    client.close()
    assert (True, True, ()) in rings


async def test_a_shutdown_tells_workers_of_what_it_gives_back(tmp_path: Path, rings: list[Ring]) -> None:
    app = app_in(tmp_path)

    async with app:
        (_, hangs) = app.routes
        job = await hangs.push()
        await eventually(lambda: job.status is JobStatus.RUNNING)
        rings.clear()
    assert rings == [(True, False, ())]


async def test_jobs_that_expire_are_told_to_clients_and_to_those_who_enqueued_them(
    tmp_path: Path, rings: list[Ring]
) -> None:
    app = app_in(tmp_path)
    client = durable(tmp_path)
    client.open()
    (late,) = jobs_of(app, 1, origin=77)
    client.insert([late._replace(due_at=app.now() + 10**9, ready=False, expires_at=app.now())])

    async with app:
        await eventually(lambda: client.get((late.id,))[0].status == "cancelled")
        await eventually(lambda: (False, True, (77,)) in rings)
    client.close()
