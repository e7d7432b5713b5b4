"""Several connections at one file, at moments that are chosen."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from crowd import opened

from jobify.exceptions import StorageUnavailableError
from jobify.model.records import JobQuery
from jobify.testing.rows import NOW, PROFILE, claim_once, claimed, end, job, one
from probes import database_of

# -- a claim that somebody else was faster with ------------------------------------------------------------------------


def test_between_pick_and_take_others_may_be_faster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each kind of change, made at the worst moment: after the jobs were picked and before they are taken."""
    path = tmp_path / "jobs.db"
    with opened(path) as storage, opened(path) as other:
        owner, theirs = storage.register(PROFILE, now=NOW), other.register(PROFILE, now=NOW)
        storage.insert([job(id) for id in ("claimed", "again", "moved", "put", "deleted", "cancelled", "kept")])
        pick = type(storage._claims)._pick
        tries = []

        def interfere(claims: Any, request: Any, now: int, **how: bool) -> Any:
            picked = pick(claims, request, now, **how)
            if claims is storage._claims and not tries:
                tries.append(1)
                taken = {claim.id: claim for claim in claim_once(other, theirs, limit=2).claims}
                again = end(theirs, taken["again"], status="scheduled", ready=True, finished_at=None, delete_at=None)
                other.settle([again])
                other.reschedule("moved", due_at=NOW - 5, now=NOW)
                other.replace(job("put", payload=b"new"))
                other.delete(["deleted"], now=NOW, delete_at=None)
                other.insert([job("new")])
                other.cancel(["cancelled"], reason="x", now=NOW, delete_at=None)
            return picked

        monkeypatch.setattr(type(storage._claims), "_pick", interfere)
        found = claim_once(storage, owner)
        assert [claim.id for claim in found.claims] == ["kept"]
        assert found.has_more is True
        found = claim_once(storage, owner)
        assert [(claim.id, claim.attempt) for claim in found.claims] == [
            ("moved", 1),
            ("again", 2),
            ("put", 1),
            ("new", 1),
        ]
        assert one(storage, "claimed").owner == theirs
        assert {claim.id: claim.payload for claim in found.claims}["put"] == b"new"


@pytest.mark.parametrize("losses", [1, 2, 3])
def test_who_loses_every_time_picks_under_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, losses: int
) -> None:
    path = tmp_path / "jobs.db"
    with opened(path) as storage, opened(path) as other:
        owner, theirs = storage.register(PROFILE, now=NOW), other.register(PROFILE, now=NOW)
        storage.insert([job(str(number)) for number in range(4)])
        pick = type(storage._claims)._pick
        lost: list[str] = []

        def interfere(claims: Any, request: Any, now: int, **how: bool) -> Any:
            picked = pick(claims, request, now, **how)
            if claims is storage._claims and len(lost) < losses:
                lost.extend(claim.id for claim in claim_once(other, theirs, limit=1).claims)
            return picked

        monkeypatch.setattr(type(storage._claims), "_pick", interfere)
        assert [claim.id for claim in claim_once(storage, owner, limit=1).claims] == [str(losses)]


def test_a_job_may_end_while_its_replacement_is_put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After it was seen running and before the replacement is kept beside it."""
    path = tmp_path / "jobs.db"
    with opened(path) as storage, opened(path) as other:
        owner = other.register(PROFILE, now=NOW)
        held = claimed(other, owner, "a")
        transaction = type(database_of(storage)).transaction

        def interfere(database: Any, kind: str = "IMMEDIATE") -> Any:
            if database is database_of(storage):
                other.settle([end(owner, held)])
            return transaction(database, kind)

        monkeypatch.setattr(type(database_of(storage)), "transaction", interfere)
        assert storage.replace(job("a", payload=b"2")) is True
        assert (one(storage, "a").status, one(storage, "a").payload) == ("scheduled", b"2")


# -- a locked database -------------------------------------------------------------------------------------------------


@pytest.fixture
def lock(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """Something else that can take the file's write lock."""
    with opened(tmp_path / "jobs.db"):
        connection = sqlite3.connect(tmp_path / "jobs.db", isolation_level=None, check_same_thread=False)
        yield connection
        connection.close()


def test_a_locked_database_is_waited_for(tmp_path: Path, lock: sqlite3.Connection, monkeypatch: Any) -> None:
    """B25, B26: no error, only a later answer."""
    pauses: list[float] = []
    sleep = time.sleep

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 20:
            lock.execute("COMMIT")
        sleep(seconds)

    monkeypatch.setattr("jobify.storage.sqlite.errors.time.sleep", pause)
    with opened(tmp_path / "jobs.db") as storage:
        lock.execute("BEGIN IMMEDIATE")
        assert storage.insert([job("a")]) == [True]
        assert len(pauses) == 20
        assert max(pauses) <= 0.02
        pauses[:] = [0.0] * 10
        lock.execute("BEGIN IMMEDIATE")
        with storage.transaction():
            assert one(storage, "a").status == "scheduled"


def test_a_database_that_stays_locked_is_not_available(tmp_path: Path, lock: sqlite3.Connection) -> None:
    with opened(tmp_path / "jobs.db", timeout=0.05) as storage:
        owner = storage.register(PROFILE, now=NOW)
        held = claimed(storage, owner, "held")
        storage.insert([job("waits"), job("later", due_at=NOW + 9)])
        before = storage.find(JobQuery())
        lock.execute("BEGIN IMMEDIATE")
        for write in (
            lambda: storage.insert([job("new")]),
            lambda: storage.insert([job("waits")]),
            lambda: storage.settle([end(owner, held)]),
            lambda: claim_once(storage, owner),
            lambda: storage.replace(job("waits")),
            lambda: storage.cancel(["waits"], reason="x", now=NOW, delete_at=None),
            lambda: storage.transaction().__enter__(),
            lambda: storage.register(PROFILE, now=NOW),
        ):
            with pytest.raises(StorageUnavailableError, match="locked"):
                write()
        # What only reads is not disturbed, and a claim that finds nothing only reads.
        assert storage.find(JobQuery()) == before
        assert claim_once(storage, owner, tasks=("nobody",)).claims == []
        assert storage.recover(now=NOW, max_crashes=3, delete_at=None) == []
        assert storage.has_external_changes() is False
        lock.execute("COMMIT")
        assert storage.find(JobQuery()) == before
        assert storage.settle([end(owner, held)]) == [True]
        assert [claim.id for claim in claim_once(storage, owner).claims] == ["waits"]


def test_a_block_holds_the_lock_from_its_beginning(tmp_path: Path) -> None:
    """So that what it reads is still true when it writes."""
    with opened(tmp_path / "jobs.db") as storage, opened(tmp_path / "jobs.db", timeout=0) as other:
        with storage.transaction():
            assert storage.get(["a"]) == []
            with pytest.raises(StorageUnavailableError, match="locked"):
                other.insert([job("a")])
            assert storage.insert([job("a")]) == [True]
        assert other.insert([job("a")]) == [False]


def test_readers_do_not_wait_for_a_transaction(tmp_path: Path) -> None:
    with opened(tmp_path / "jobs.db") as storage, opened(tmp_path / "jobs.db", timeout=0) as other:
        storage.insert([job("a")])
        with storage.transaction():
            storage.insert([job("b")])
            found: list[int] = []
            reader = threading.Thread(target=lambda: found.append(len(storage.find(JobQuery()))))
            reader.start()
            reader.join()
            assert found == [1]
            assert len(other.find(JobQuery())) == 1


@pytest.mark.parametrize("pause", ["schedule", "queue"])
def test_a_pause_between_pick_and_take_is_heeded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pause: str) -> None:
    with opened(tmp_path / "jobs.db") as storage, opened(tmp_path / "jobs.db") as other:
        owner = storage.register(PROFILE, now=NOW)
        storage.insert([job("a", rule="{}"), job("b", queue="other")])
        pick = type(storage._claims)._pick

        def interfere(claims: Any, request: Any, now: int, **how: bool) -> Any:
            picked = pick(claims, request, now, **how)
            if pause == "schedule":
                other.pause(["a"])
            else:
                other.pause_queue("default")
            return picked

        monkeypatch.setattr(type(storage._claims), "_pick", interfere)
        assert [found.id for found in claim_once(storage, owner).claims] == ["b"]
        assert one(storage, "a").status == "scheduled"
