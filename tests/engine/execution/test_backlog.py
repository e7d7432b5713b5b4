"""A backlog of short jobs: the next claim is made while the jobs of the last one run, and is for more of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from jobify import Jobify
from jobify.engine.execution import backlog
from jobify.engine.execution.backlog import MAX_CLAIM, Backlog
from jobify.model.records import Claimed, ClaimRequest
from jobify.storage import SQLiteStorage
from jobify.types import Microseconds
from probes import record_of, slots_of
from support import eventually, soon

MOST = 2 * MAX_CLAIM


def limits(found: Backlog, answers: Sequence[tuple[bool, bool, float]]) -> list[tuple[bool, int]]:
    """After each answer (more, have ended, time): whether the next claim is made at once, and of how many jobs."""
    return [
        (found.is_draining(has_more=has_more, have_ended=have_ended, now=now), found.limit)
        for has_more, have_ended, now in answers
    ]


def test_two_claims_prove_that_jobs_are_short() -> None:
    answers = [(True, True, 9.0), (True, True, 9.05), (True, True, 9.1), (True, True, 9.15)]
    assert limits(Backlog(is_slow=True), answers) == [
        (False, MAX_CLAIM), (False, MAX_CLAIM), (True, MOST), (True, MOST)
    ]  # fmt: skip
    assert limits(Backlog(is_slow=False), answers) == [(False, MAX_CLAIM)] * 4


@pytest.mark.parametrize("last", [(False, True, 9.2), (True, False, 9.2), (True, True, 9.4)])
def test_what_ends_that(last: tuple[bool, bool, float]) -> None:
    """No more jobs; some that still run; an answer that came late."""
    found = Backlog(is_slow=True)
    assert limits(found, [(True, True, 9.0), (True, True, 9.05), (True, True, 9.1)])[-1] == (True, MOST)
    assert limits(found, [last]) == [(False, MAX_CLAIM)]


class Watched(SQLiteStorage):
    """Is asked for claims by a thread of their own, and notes for how many jobs."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory / "jobs.db")
        self.claims_first = True
        self.limits: list[int] = []

    def claim(self, request: ClaimRequest, *, now: Microseconds) -> Claimed:
        self.limits.append(request.slots[0].limit)
        return super().claim(request, now=now)


async def test_a_worker_drains_a_backlog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "_SHORT", 60)
    storage = Watched(tmp_path)
    app = Jobify(storage=storage)
    ran: list[int] = []

    @app.task(name="short")
    async def short(number: int) -> None:
        ran.append(number)

    jobs = short.map([(number,) for number in range(4000)])
    async with app:
        await eventually(lambda: len(ran) == len(jobs))
        await eventually(lambda: all(slots.is_idle for slots in slots_of(app)._pools.values()))
    assert ran == list(range(4000))
    assert storage.limits[:2] == [MAX_CLAIM, MAX_CLAIM]
    assert MOST in storage.limits


async def test_a_shutdown_in_the_middle_keeps_no_claim(tmp_path: Path) -> None:
    app = Jobify(storage=Watched(tmp_path))
    ran: list[int] = []

    @app.task(name="short")
    async def short(number: int) -> None:
        ran.append(number)

    jobs = short.map([(number,) for number in range(6000)])
    await app.startup()
    await eventually(lambda: len(ran) > 1500)
    await soon(app.shutdown())
    async with app:
        await eventually(lambda: len(set(ran)) == len(jobs))
    assert len(ran) == len(jobs), "none ran twice"
    assert record_of(app, jobs[0].id).attempt == 1
