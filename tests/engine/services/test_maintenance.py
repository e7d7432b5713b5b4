"""What the janitor of a running app deletes, and when."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from jobify import Jobify
from jobify.engine.services.maintenance import Janitor
from jobify.storage import Storage
from jobify.testing.clock import FakeClock
from jobify.testing.rows import PROFILE, end, job, line, running
from probes import backends_of, services_of, timekeepers_of
from support import durable

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


@pytest.fixture(params=["memory", "sqlite"])
def new_app(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[FakeClock], Jobify]:
    is_durable = request.param == "sqlite"
    return lambda clock: Jobify(storage=durable(tmp_path) if is_durable else False, clock=clock)


def _parts(app: Jobify) -> tuple[Storage, Janitor]:
    """The storage of an app that runs, and a janitor of it that has done nothing yet."""
    backend = backends_of(app)[0]
    return backend.storage, Janitor(backend, timekeepers_of(app)[backend])


async def test_every_storage_has_a_janitor(new_app: Callable[[FakeClock], Jobify]) -> None:
    app = new_app(FakeClock(NOON))

    async with app:
        janitors = [service for service in services_of(app) if isinstance(service, Janitor)]
        assert [one._backend for one in janitors] == backends_of(app)


async def test_jobs_are_deleted_when_their_time_has_come(tmp_path: Path) -> None:
    clock = FakeClock(NOON)
    app = Jobify(storage=durable(tmp_path), clock=clock)

    async with app:
        storage, janitor = _parts(app)
        owner = storage.register(PROFILE, now=clock.now())
        jobs = [running(f"{number:04}", owner, created_at=clock.now()) for number in range(1200)]
        storage.insert(jobs)
        storage.settle([end(owner, one, delete_at=clock.now() + 1) for one in jobs])
        await janitor.step()
        assert len(storage.get([one.id for one in jobs])) == 1200
        clock.advance(1)
        await janitor.step()
        assert storage.get([one.id for one in jobs]) == []


async def test_of_a_schedule_s_history_the_newest_thousand_lines_are_kept(
    new_app: Callable[[FakeClock], Jobify],
) -> None:
    clock = FakeClock(NOON)
    app = new_app(clock)

    def tell(storage: Storage, *numbers: int) -> None:
        storage.add_history([line(id, attempt=number) for number in numbers for id in ("schedule", "job")])

    async with app:
        storage, janitor = _parts(app)
        later = clock.now() + 10**12
        storage.insert([job("schedule", rule="{}", due_at=later), job("job", due_at=later)])
        tell(storage, *range(2100))
        await janitor.step()
        assert len(storage.attempts("schedule")) == 2100, "a start has better things to do"
        await janitor.step()
        assert [found.attempt for found in storage.attempts("schedule")] == list(range(1100, 2100))
        assert len(storage.attempts("job")) == 2100
        tell(storage, 2100)
        for _ in range(19):
            await janitor.step()
        assert len(storage.attempts("schedule")) == 1001
        await janitor.step()
        assert [found.attempt for found in storage.attempts("schedule")] == list(range(1101, 2101))
