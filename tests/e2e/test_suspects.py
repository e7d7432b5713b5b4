"""Jobs that kill their worker, among jobs that do not: these complete, those are found after a few deaths."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing

import pytest

from jobify.model.records import JobQuery, SummaryIds
from jobify.model.status import ACTIVE
from support import until
from workers import Command, Make, Site

TASKS = """
    import signal

    @app.task(name="innocent")
    async def innocent(number):
        await asyncio.sleep(0.05)
        return number

    @app.task(name="patient")
    def patient(number):
        time.sleep(0.05)
        return number

    @app.task(name="killer")
    async def killer(number):
        await asyncio.sleep(0.02)
        os.kill(os.getpid(), signal.SIGKILL)

    @app.task(name="leaver")
    def leaver(number):
        os._exit(3)
"""


def _enqueue(here: Site, killers: int, innocents: int, *, killer: str = "killer") -> tuple[list[str], list[str]]:
    """The innocent jobs, and the killers, spread among them."""
    every = innocents // killers
    good: list[str] = []
    bad: list[str] = []
    for number in range(innocents):
        if number % every == every // 2 and len(bad) < killers:
            bad.append(here.enqueue(killer, number))
        good.append(here.enqueue("innocent" if number % 10 else "patient", number))
    return good, bad


def _statuses(here: Site, ids: list[str]) -> set[str]:
    return {record.status for record in here.storage.get(SummaryIds(ids, with_results=False))}


def _until_all_ended(here: Site) -> None:
    until(lambda: not here.storage.find(JobQuery(statuses=ACTIVE, limit=1)), "the end of all jobs")


def _deaths(here: Site) -> int:
    with closing(sqlite3.connect(here.folder / "jobs.db")) as connection:
        return int(connection.execute("SELECT count(*) FROM deaths WHERE begun > 0").fetchone()[0])


def _check(here: Site, good: list[str], bad: list[str]) -> None:
    assert _statuses(here, good) == {"success"}
    assert _statuses(here, bad) == {"failed"}
    assert {here.row(id).crashes for id in bad} == {3}
    assert {record.crashes for record in here.storage.get(good)} == {0}


@pytest.mark.promise("f1")
@pytest.mark.parametrize("killer", ["killer", "leaver"])
def test_one_killer_among_a_thousand_is_found(site: Make, killer: str) -> None:
    here = site(TASKS)
    good, bad = _enqueue(here, 1, 999, killer=killer)
    supervisor = here.worker("--processes", "2")
    _until_all_ended(here)
    assert supervisor.stop() == 0
    _check(here, good, bad)
    assert _deaths(here) <= 8


@pytest.mark.promise("f1")
def test_three_killers_among_a_thousand_are_found(site: Make) -> None:
    here = site(TASKS)
    good, bad = _enqueue(here, 3, 999)
    supervisor = here.worker("--processes", "4")
    _until_all_ended(here)
    assert supervisor.stop() == 0
    _check(here, good, bad)
    # While one killer has not been found, deaths close to each other prove nothing (see the design note), and how close
    # they come depends on how fast processes start.
    assert _deaths(here) <= 3 * 8 * 2


@pytest.mark.promise("f2")
def test_a_death_is_one_line_and_a_killer_is_one(site: Make) -> None:
    here = site(TASKS)
    good, bad = _enqueue(here, 1, 50)
    supervisor: Command = here.worker("--processes", "2")
    _until_all_ended(here)
    supervisor.until("processes down and failed")
    assert supervisor.stop() == 0
    _check(here, good, bad)
    assert len(re.findall("died and held", supervisor.log)) == _deaths(here)
    assert len(re.findall("processes down and failed", supervisor.log)) == 1
    assert not re.search("lost its process", supervisor.log)
    assert "ended with SIGKILL" in supervisor.log


@pytest.mark.promise("f1")
def test_a_death_during_a_trial_is_followed_by_no_pause(site: Make) -> None:
    """The supervisor knows: the worker that dies has just said that it tries suspects."""
    here = site(TASKS)
    _enqueue(here, 1, 50)
    supervisor = here.worker("--processes", "2")
    _until_all_ended(here)
    assert supervisor.stop() == 0
    pauses = [float(text) for text in re.findall(r"another one starts in ([\d.]+) seconds", supervisor.log)]
    assert sum(pauses) <= 1.0, "of the deaths in company only"
