"""One storage object with several users: opened by the first, closed by the last, whatever the threads do meanwhile."""

from __future__ import annotations

import gc
import threading
import weakref
from pathlib import Path

import pytest

from jobify.gateway.sharing import SharedStorage, share
from jobify.model.records import JobQuery
from jobify.storage import SQLiteStorage
from jobify.storage.memory import MemoryStorage
from support import PATIENCE, durable


class SlowToClose(SQLiteStorage):
    """Stands still in the middle of ``close``."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.is_closing = threading.Event()
        self.may_close = threading.Event()

    def close(self) -> None:
        self.is_closing.set()
        assert self.may_close.wait(PATIENCE)
        super().close()


def first() -> None:
    """A user."""


def second() -> None:
    """Another one."""


@pytest.mark.promise("f47")
def test_who_comes_while_the_last_user_closes_the_storage_finds_it_open(tmp_path: Path) -> None:
    storage = SlowToClose(tmp_path / "jobs.db")
    shared = share(storage)
    shared.open(first)
    found: list[SharedStorage] = []

    def come() -> None:
        found.append(share(storage))
        found[0].open(second)

    closing = threading.Thread(target=shared.close, args=(first,))
    closing.start()
    assert storage.is_closing.wait(PATIENCE)
    coming = threading.Thread(target=come)
    coming.start()
    while not found:
        assert coming.is_alive()
    assert found == [shared]  # and with it, the lock that it waits for
    storage.may_close.set()
    for thread in (closing, coming):
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert storage.find(JobQuery()) == []
    assert not shared.has_other_users
    shared.close(second)


@pytest.mark.promise("f47")
def test_a_holder_from_before_a_close_has_the_same_lock_as_users_after_it(tmp_path: Path) -> None:
    storage = durable(tmp_path)
    early = share(storage)
    early.open(first)
    early.close(first)
    late = share(storage)
    late.open(second)
    early.open(first)
    assert early is late
    assert late.has_other_users
    early.close(first)
    assert storage.find(JobQuery()) == []  # it is open for the other one
    late.close(second)


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_a_storage_that_is_out_of_use_is_not_kept(tmp_path: Path, kind: str) -> None:
    storage = MemoryStorage() if kind == "memory" else durable(tmp_path)
    shared = share(storage)
    shared.open(first)
    shared.close(first)
    gone = weakref.ref(storage)
    del storage, shared
    gc.collect()
    assert gone() is None
