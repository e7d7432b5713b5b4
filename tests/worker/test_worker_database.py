"""Workers whose database is deleted, replaced, or does not take what they have done."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from jobify.storage import SQLiteStorage
from jobify.worker.exit_codes import ExitCode
from support import is_alive, until
from workers import CRON_TASK, Make, Site

ENDS = ("", "-wal", "-shm")
IMPATIENT_APP = """
    app = Jobify(storage=SQLiteStorage("jobs.db", timeout=0.1))

    @app.task(name="hold")
    async def hold():
        note("hold")
        while not GO.exists():
            await asyncio.sleep(0.01)

"""

DELETING_APP = """
    from contextlib import asynccontextmanager

    @asynccontextmanager
    async def lifespan(app):
        for end in ("", "-wal", "-shm"):
            os.remove(f"jobs.db{end}")
        await quick.adelay(1)
        yield

    app = Jobify(storage=SQLiteStorage("jobs.db"), lifespan=lifespan)

    @app.task(name="quick")
    async def quick(n):
        return n

"""


def _delete(here: Site, *ends: str) -> None:
    for end in ends:
        (here.folder / f"jobs.db{end}").unlink()


def _restore(here: Site) -> None:
    _delete(here, *ENDS)
    shutil.copyfile(here.folder / "backup.db", here.folder / "jobs.db")


def _backup(here: Site) -> None:
    with (
        closing(sqlite3.connect(here.folder / "jobs.db")) as source,
        closing(sqlite3.connect(here.folder / "backup.db")) as copy,
    ):
        source.backup(copy)


def _fresh(here: Site) -> SQLiteStorage:
    """A view on what is at the path now."""
    here.storage.close()
    here.storage = SQLiteStorage(here.folder / "jobs.db", synchronous="normal")
    here.storage.open()
    here.app.close()
    return here.storage


ATTACKS: dict[str, Callable[[Site], object]] = {
    "rm": lambda here: _delete(here, *ENDS),
    "rm log": lambda here: _delete(here, "-wal"),
    "rm memory": lambda here: _delete(here, "-shm"),
    "mv": lambda here: (here.folder / "jobs.db").rename(here.folder / "elsewhere.db"),
    "truncate": lambda here: os.truncate(here.folder / "jobs.db", 0),
    "cp": lambda here: shutil.copyfile(here.folder / "backup.db", here.folder / "jobs.db"),
    "restore": _restore,
}


@pytest.mark.promise("f43")
@pytest.mark.parametrize("attack", ATTACKS)
def test_an_idle_worker_says_so_and_ends(site: Make, attack: str) -> None:
    here = site(CRON_TASK)
    worker = here.worker()
    here.until_noted("tick")
    _backup(here)
    here.enqueue("hold_in_thread")
    job = here.enqueue("hold_on_loop")
    here.until_noted("hold_on_loop")
    ATTACKS[attack](here)
    worker.until("was deleted or replaced")
    here.go()
    assert worker.exit_code() == ExitCode.REPLACED == 5
    assert worker.log.count("No more jobs are claimed") == 1
    assert "Traceback" not in worker.log, worker.log
    assert job
    assert "At work" in worker.log


@pytest.mark.promise("f43")
def test_a_supervisor_starts_again_with_the_file_that_is_there(site: Make) -> None:
    here = site()
    supervisor = here.worker("--processes", "2")
    supervisor.until("At work", 2)
    _backup(here)
    before = supervisor.children()
    _restore(here)
    until(lambda: not any(map(is_alive, before)), "the end of the old workers")
    supervisor.until("At work", 4)
    storage = _fresh(here)
    assert supervisor.log.count("ended with exit code 5") >= 2
    here.until(here.enqueue("quick", 1), "success")
    until(lambda: sum(owner.is_alive for owner in storage.owners()) >= 2, "both workers")
    assert supervisor.stop() == 0


@pytest.mark.promise("f43")
def test_a_supervisor_makes_no_new_file_in_place_of_one_that_was_deleted(site: Make) -> None:
    here = site()
    supervisor = here.worker("--processes", "2")
    supervisor.until("At work", 2)
    _backup(here)
    _delete(here, *ENDS)
    supervisor.until("does not exist any more", 2)
    assert not (here.folder / "jobs.db").exists()
    assert not (here.folder / "jobs.db-wal").exists()
    shutil.copyfile(here.folder / "backup.db", here.folder / "jobs.db")
    supervisor.until("At work", 4)
    _fresh(here)
    here.until(here.enqueue("quick", 1), "success")
    assert supervisor.stop() == 0


@pytest.mark.promise("f43")
def test_a_database_that_is_deleted_during_the_start(site: Make) -> None:
    here = site(DELETING_APP)
    worker = here.worker(is_awaited=False)
    assert worker.exit_code() == ExitCode.REPLACED
    assert "was deleted or replaced" in worker.log
    assert not (here.folder / "jobs.db").exists()


@pytest.mark.promise("f56")
def test_a_worker_that_could_not_store_outcomes_says_so(site: Make) -> None:
    here = site(IMPATIENT_APP)
    worker = here.worker("--grace", "0.5")
    jobs = [here.enqueue("hold") for _ in range(20)]
    here.until_noted("hold", 20)
    with closing(sqlite3.connect(here.folder / "jobs.db", isolation_level=None, timeout=30)) as other:
        other.execute("BEGIN IMMEDIATE")
        here.go()
        worker.until("is not stored yet")
        assert worker.stop() == ExitCode.NOT_STORED == 4
        other.execute("ROLLBACK")
    assert "The database has not taken the outcomes of 20 jobs; they run again." in worker.log
    assert "while threads still run" not in worker.log
    assert worker.log.splitlines()[-1].count("ERROR") == 1
    worker = here.worker()
    for job in jobs:
        here.until(job, "success")
    assert worker.stop() == 0
    assert len([text for text, _ in here.notes() if text == "hold"]) == 40


@pytest.mark.promise("f56")
def test_a_second_signal_hides_nothing(site: Make) -> None:
    here = site(IMPATIENT_APP)
    worker = here.worker("--grace", "30")
    here.enqueue("hold")
    here.until_noted("hold")
    with closing(sqlite3.connect(here.folder / "jobs.db", isolation_level=None, timeout=30)) as other:
        other.execute("BEGIN IMMEDIATE")
        here.go()
        worker.until("is not stored yet")
        assert worker.insist(signal.SIGINT) == ExitCode.NOT_STORED
        other.execute("ROLLBACK")
    assert "The database has not taken the outcomes of 1 jobs" in worker.log


@pytest.mark.promise("f42")
def test_the_exit_codes_are_explained(site: Make, tmp_path: Path) -> None:
    from workers import Command

    help_ = Command(tmp_path, ["--help"])
    assert help_.exit_code() == 0
    said = " ".join(help_.log.replace("│", " ").split())
    assert "5 the database was deleted or replaced" in said
