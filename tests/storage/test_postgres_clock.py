"""The server's clock, as a process reads it."""

from __future__ import annotations

import time

from jobify import Jobify
from jobify.model.clock import SECOND, SystemClock
from jobify.storage import PostgresStorage
from jobify.storage.postgres.clock import ServerClock


class LocalClock:
    """A machine's clock that is wrong by five minutes."""

    def __init__(self) -> None:
        self.elapsed = 100.0

    def now(self) -> int:
        return time.time_ns() // 1000 + 300 * SECOND

    def monotonic(self) -> float:
        return self.elapsed


def test_the_first_answer_sets_it() -> None:
    local = LocalClock()
    clock = ServerClock(local)
    assert not clock.is_synchronised
    clock.adjust(1_000 * SECOND, sent_at=99.0, answered_at=100.0)
    assert clock.is_synchronised
    assert clock.now() == 1_000 * SECOND + SECOND // 2
    local.elapsed += 7
    assert clock.now() == 1_007 * SECOND + SECOND // 2


def test_it_stays_as_it_is_within_the_range_of_an_answer() -> None:
    clock = ServerClock(LocalClock())
    clock.adjust(1_000 * SECOND, sent_at=100.0, answered_at=100.0)
    clock.adjust(1_000 * SECOND, sent_at=99.9, answered_at=100.05)
    assert clock.now() == 1_000 * SECOND
    clock.adjust(1_001 * SECOND, sent_at=99.5, answered_at=100.5)
    assert clock.now() == 1_000 * SECOND + SECOND // 2


def test_a_slow_answer_says_nothing_new() -> None:
    clock = ServerClock(LocalClock())
    clock.adjust(1_000 * SECOND, sent_at=100.0, answered_at=100.0)
    clock.adjust(2_000 * SECOND, sent_at=98.0, answered_at=100.0)
    assert clock.now() == 1_000 * SECOND


def test_a_storage_that_is_open_knows_the_time_of_its_server(postgres_url: str) -> None:
    storage = PostgresStorage(postgres_url)
    storage.clock = ServerClock(LocalClock())
    assert abs(storage.clock.now() - SystemClock().now()) > 200 * SECOND
    storage.open()
    assert abs(storage.clock.now() - SystemClock().now()) < 100 * SECOND
    storage.close()


async def test_a_worker_whose_clock_is_five_minutes_off_changes_nothing(postgres_url: str) -> None:
    storage = PostgresStorage(postgres_url)
    wrong = LocalClock()
    wrong.monotonic = time.monotonic  # type: ignore[method-assign]
    storage.clock = ServerClock(wrong)
    app = Jobify(storage=storage)

    @app.task
    async def work() -> str:
        return "done"

    async with app:
        assert abs(app.now() - SystemClock().now()) < 100 * SECOND
        job = await work.push()
        assert await job == "done"
        (later,) = [await work.schedule().delay(60)]
        assert abs(later.exec_at.timestamp() - time.time() - 60) < 50


async def test_a_producer_knows_the_time_before_its_first_job(postgres_url: str) -> None:
    for enqueue in ("now", "later"):
        storage = PostgresStorage(postgres_url)
        storage.clock = ServerClock(LocalClock())
        app = Jobify(storage=storage)
        result = await app.aenqueue("work", (1,), delay=60 if enqueue == "later" else None)
        (row,) = storage.get([result.id])
        assert abs(row.created_at - SystemClock().now()) < 100 * SECOND
        app.close()
