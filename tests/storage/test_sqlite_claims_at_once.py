"""Claims on the event loop's thread: made in the plain case, without a flush; the rest is left to a thread."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobify.exceptions import StorageUnavailableError
from jobify.model.records import Claimed, ClaimRequest, TaskSlots
from jobify.model.status import ClaimScope
from jobify.storage import SQLiteStorage
from jobify.testing.rows import NOW, PROFILE, job, one

LARGE = bytes(200_000)


class Here:
    """A storage with an owner in it, and another process that stores jobs."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.storage, self.other = SQLiteStorage(path), SQLiteStorage(path)
        self.storage.open()
        self.other.open()
        self.owner = self.storage.register(PROFILE, now=NOW)

    def add(self, *ids: str, **fields: Any) -> None:
        """Jobs of the other process."""
        assert self.other.insert([job(id, **fields) for id in ids]) == [True] * len(ids)

    def request(self, scope: ClaimScope = ClaimScope.ORDINARY, limit: int = 10) -> ClaimRequest:
        return ClaimRequest(self.owner, (TaskSlots(("task",), limit),), None, 0, scope)

    def at_once(self, *, now: int = NOW, **how: Any) -> Claimed | None:
        """The answer to a claim that must not wait; None: it was refused, and nothing was taken."""
        try:
            with self.storage.nonblocking_claims:
                return self.storage.claim(self.request(**how), now=now)
        except StorageUnavailableError:
            return None

    def in_time(self, *, now: int = NOW, **how: Any) -> list[str]:
        """The jobs of a claim that may wait."""
        return [claim.id for claim in self.storage.claim(self.request(**how), now=now).claims]


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Here]:
    found = Here(tmp_path / "jobs.db")
    yield found
    found.storage.close()
    found.other.close()


def ids(claimed: Claimed | None) -> list[str] | None:
    return None if claimed is None else [claim.id for claim in claimed.claims]


def test_what_another_process_has_stored_is_claimed_at_once(here: Here) -> None:
    here.add("a", payload=b"arguments")
    claimed = here.at_once()
    assert claimed is not None
    assert [(claim.id, claim.payload, claim.attempt) for claim in claimed.claims] == [("a", b"arguments", 1)]
    assert (claimed.has_more, claimed.next_due_at) == (False, None)
    assert (one(here.storage, "a").status, one(here.storage, "a").owner) == ("running", here.owner)
    assert here.in_time() == []


def test_commits_are_flushed_again_afterwards(here: Here) -> None:
    for number in range(3):
        here.add(f"{number}")
        assert ids(here.at_once()) == [f"{number}"]
        assert here.storage._database.row("PRAGMA synchronous")[0] == 2


def test_a_few_are_claimed_and_the_answer_says_that_there_are_more(here: Here) -> None:
    here.add(*(f"{number:02}" for number in range(40)))
    claimed = here.at_once(limit=30)
    assert claimed is not None
    assert claimed.has_more is True
    assert ids(claimed) == [f"{number:02}" for number in range(16)]
    assert here.in_time(limit=30) == [f"{number:02}" for number in range(16, 40)]


def test_nothing_to_claim_is_looked_at_in_time(here: Here) -> None:
    """What is damaged may hide the rest, and looking for it takes long."""
    here.add("other", task="unknown")
    assert here.at_once() is None
    assert here.in_time() == []


@pytest.mark.parametrize("scope", [ClaimScope.APART, ClaimScope.PARKED, ClaimScope.ANY])
def test_only_ordinary_jobs(here: Here, scope: ClaimScope) -> None:
    here.add("a")
    assert here.at_once(scope=scope) is None
    assert here.in_time() == ["a"]


def test_what_has_become_due_is_staged_in_time(here: Here) -> None:
    here.add("later", due_at=NOW + 10, ready=False)
    here.add("a")
    assert here.at_once(now=NOW + 20) is None  # the claim finds that out
    assert sorted(here.in_time(now=NOW + 20)) == ["a", "later"]
    here.add("later still", due_at=NOW + 40, ready=False)
    here.add("b")
    assert here.in_time(now=NOW + 30) == ["b"]
    here.add("c")
    assert here.at_once(now=NOW + 50) is None  # it is known since the last one
    assert sorted(here.in_time(now=NOW + 50)) == ["c", "later still"]


def test_large_arguments_are_read_in_time(here: Here) -> None:
    here.add("a", payload=LARGE)
    assert here.at_once() is None
    assert here.in_time() == ["a"]


def test_where_some_wait_to_run_apart_the_claim_takes_its_time(here: Here) -> None:
    here.add("a")
    database = here.other._database
    seq = database.row("SELECT seq FROM jobs WHERE id = 'a'")[0]
    database.write("INSERT INTO suspects VALUES (?, 1, 1, '[1]', 1, 1, 1, 0)", (seq,))
    assert here.at_once() is None
    assert here.in_time() == ["a"]


def test_a_log_that_is_to_begin_anew_is_left_to_others(here: Here) -> None:
    """That write is flushed."""
    here.add("a")
    with sqlite3.connect(here.path) as another:
        assert another.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()[0] == 0
    another.close()
    assert here.at_once() is None
    assert here.in_time() == ["a"]
    here.add("b")
    assert ids(here.at_once()) == ["b"]


def test_a_locked_file_is_not_waited_for(here: Here) -> None:
    here.add("a")
    with here.other.transaction():
        assert here.at_once() is None
    assert ids(here.at_once()) == ["a"]


def test_a_storage_at_work_is_not_waited_for(here: Here) -> None:
    here.add("a")
    found: list[Claimed | None] = []
    with here.storage.transaction():
        thread = threading.Thread(target=lambda: found.append(here.at_once()))
        thread.start()
        thread.join()
    assert found == [None]
    with here.storage.transaction():
        assert here.at_once() is None


def test_what_another_process_has_claimed_meanwhile_is_its_own(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    here.add("a")
    claims = here.storage._claims
    take = claims._take_piece

    def after_another(*how: Any) -> Any:
        owner = here.other.register(PROFILE, now=NOW)
        assert here.other.claim(here.request()._replace(owner=owner), now=NOW).claims
        return take(*how)

    monkeypatch.setattr(claims, "_take_piece", after_another)
    claimed = here.at_once()
    assert claimed is not None
    assert (claimed.claims, claimed.has_more) == ([], True)
