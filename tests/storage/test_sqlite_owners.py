"""Locks that say which owner lives, and notifiers: what a platform, a file system or a neighbour may do to them."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobify.exceptions import StorageUnavailableError
from jobify.model.records import OwnerProfile, OwnerRole
from jobify.storage import SQLiteStorage
from jobify.storage.sqlite import locks, notifier
from jobify.storage.sqlite.locks import LockState, OwnerLocks
from jobify.storage.sqlite.notifier import Address, DatagramNotifier
from jobify.testing.rows import NOW, PROFILE, job, one, running
from support import opened


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[SQLiteStorage, SQLiteStorage]]:
    storages = (SQLiteStorage(tmp_path / "jobs.db"), SQLiteStorage(tmp_path / "jobs.db"))
    for storage in storages:
        storage.open()
    yield storages
    for storage in storages:
        storage.close()


# -- locks -------------------------------------------------------------------------------------------------------------


def test_a_lock_is_held_until_it_is_given_back(tmp_path: Path) -> None:
    ours, view = OwnerLocks(str(tmp_path / "owners")), OwnerLocks(str(tmp_path / "owners"))
    first, second = ours.hold(), ours.hold()
    files = {name: ours.file_of(name) for name in (first, second)}
    assert first != second
    assert [locks.state(name, files[name]) for locks in (ours, view) for name in files] == [LockState.HELD] * 4
    ours.release(first)
    assert [view.state(name, files[name]) for name in files] == [LockState.UNKNOWN, LockState.HELD]
    assert sorted(os.listdir(tmp_path / "owners")) == [f"{second}.lock"]
    ours.release_all()
    assert view.state(second, files[second]) is LockState.FREE
    assert sorted(os.listdir(tmp_path / "owners")) == [f"{second}.lock"]
    view.release(second)
    view.release(second)
    assert os.listdir(tmp_path / "owners") == []


def test_asking_does_not_disturb_others_who_ask(tmp_path: Path) -> None:
    ours = OwnerLocks(str(tmp_path))
    name = ours.hold()
    file = ours.file_of(name)
    ours.release_all()
    assert locks.fcntl is not None
    with (tmp_path / f"{name}.lock").open() as asking:
        locks.fcntl.flock(asking, locks.fcntl.LOCK_SH | locks.fcntl.LOCK_NB)
        assert OwnerLocks(str(tmp_path)).state(name, file) is LockState.FREE


def test_a_lock_that_cannot_be_asked_about_proves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = OwnerLocks(str(tmp_path))
    name = ours.hold()

    def refuse(*args: Any) -> int:
        raise PermissionError

    monkeypatch.setattr(os, "open", refuse)
    assert OwnerLocks(str(tmp_path)).state(name, ours.file_of(name)) is LockState.UNKNOWN
    monkeypatch.undo()
    ours.release(name)


def test_without_fcntl_an_open_file_is_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows, where nobody can remove a file that is open."""
    monkeypatch.setattr(locks, "fcntl", None)
    ours, view = OwnerLocks(str(tmp_path)), OwnerLocks(str(tmp_path))
    name = ours.hold()
    remove = os.remove

    def refuse(path: str) -> None:
        if os.path.exists(path) and ours._held:
            raise PermissionError
        remove(path)

    monkeypatch.setattr(os, "remove", refuse)
    assert view.state(name, None) is LockState.HELD
    assert ours.is_intact(name)
    ours.release_all()
    assert view.state(name, None) is LockState.FREE
    assert view.state(name, None) is LockState.FREE


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    with opened(SQLiteStorage(tmp_path / "jobs.db")) as storage:
        (tmp_path / "jobs.db-owners").write_text("in the way")
        with pytest.raises(StorageUnavailableError, match="lock file"):
            storage.register(PROFILE, now=NOW)
        assert storage.owners() == []
        (tmp_path / "jobs.db-owners").unlink()
        storage.register(PROFILE, now=NOW)


def test_an_owner_that_cannot_be_written_leaves_no_lock(tmp_path: Path) -> None:
    with opened(SQLiteStorage(tmp_path / "jobs.db")) as storage:
        with pytest.raises(OverflowError):
            storage.register(PROFILE, now=2**70)
        assert os.listdir(tmp_path / "jobs.db-owners") == []


def test_recovery_clears_away_the_files_of_the_dead(pair: tuple[SQLiteStorage, SQLiteStorage], tmp_path: Path) -> None:
    storage, other = pair
    ours, _ = storage.register(PROFILE, now=NOW), other.register(PROFILE, now=NOW)
    other.close()
    storage.recover(now=NOW, max_crashes=3, delete_at=None)
    assert len(os.listdir(tmp_path / "jobs.db-owners")) == 1
    storage.deregister(ours)
    assert os.listdir(tmp_path / "jobs.db-owners") == []


def test_an_owner_that_was_taken_for_dead_goes_on(pair: tuple[SQLiteStorage, SQLiteStorage]) -> None:
    """Its row was deleted. What it claims afterwards must not belong to nobody."""
    taken, other = pair
    profile = OwnerProfile(OwnerRole.CLIENT, ("a", "ü"), ("b", '"'), 7)
    owner = taken.register(profile, now=NOW)
    taken.insert([running("before", owner)])
    other.deregister(owner)
    taken.insert([running("after", owner)])
    assert taken.recover(now=NOW + 9, max_crashes=3, delete_at=None) == []
    assert [(found.id, found.is_alive, found.seen_at) for found in other.owners()] == [(owner, True, NOW + 9)]
    assert [found.profile for found in other.owners()] == [profile]
    taken.close()
    assert [found.id for found in other.recover(now=NOW, max_crashes=3, delete_at=None)] == ["after"]
    assert other.owners() == []


# -- bells -------------------------------------------------------------------------------------------------------------


def _drain(*bells: DatagramNotifier) -> None:
    for one_of_them in bells:
        one_of_them.drain()


def _bells(count: int) -> list[DatagramNotifier]:
    """Bells that all know of each other, as storages do that have answered every arrival."""
    addresses: list[Address] = []
    found = []
    for _ in range(count):
        one_of_them = DatagramNotifier(lambda: addresses)
        one_of_them.bind()
        assert one_of_them.address is not None
        addresses.append(Address(len(addresses), "worker", one_of_them.address))
        found.append(one_of_them)
    for one_of_them in found:
        one_of_them.announce()
    _drain(*found)
    return found


def test_an_address_that_is_gone_is_forgotten_and_one_that_is_full_is_not() -> None:
    first, full, gone = _bells(3)
    gone.close()
    for _ in range(5000):
        first.notify(workers=True, clients=True)
    assert full.drain() is True
    first.notify(workers=True, clients=True)
    assert full.drain() is True
    assert gone.drain() is False
    assert gone.fileno() == -1
    _drain(first)
    for one_of_them in (first, full, gone):
        one_of_them.close()
        one_of_them.notify(workers=True, clients=True)


def test_a_lost_announcement_is_made_good_by_recovery(pair: tuple[SQLiteStorage, SQLiteStorage]) -> None:
    storage, other = pair
    storage.register(PROFILE, now=NOW)
    other.register(PROFILE, now=NOW)
    ours, theirs = storage.notifier, other.notifier
    assert ours is not None
    assert theirs is not None
    ours.notify(workers=True, clients=True)
    assert theirs.drain() is False  # the arrival waits to be answered
    storage.recover(now=NOW, max_crashes=3, delete_at=None)
    ours.notify(workers=True, clients=True)
    assert theirs.drain() is True


def test_notifying_never_fails(pair: tuple[SQLiteStorage, SQLiteStorage]) -> None:
    """A database that is unavailable when addresses are read costs that wake-up; the next one reads again."""
    storage, other = pair
    storage.register(PROFILE, now=NOW)
    ours = storage.notifier
    assert isinstance(ours, DatagramNotifier)
    other.register(PROFILE, now=NOW)
    theirs = other.notifier
    assert theirs is not None
    assert ours.drain() is True
    looked = []

    def away() -> list[Address]:
        looked.append(1)
        raise StorageUnavailableError("away")

    addresses, ours._addresses = ours._addresses, away
    ours.notify(workers=True, clients=True)
    ours.notify(workers=True, clients=True)
    assert len(looked) == 2
    assert theirs.drain() is False
    ours._addresses = addresses
    ours.notify(workers=True, clients=True)
    assert theirs.drain() is True


def test_where_there_are_no_abstract_addresses_the_socket_is_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifier.sys, "platform", "darwin")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    first, second = _bells(2)
    assert first.address is not None
    path = Path(first.address.partition("#")[0])
    assert path.parent.parent == tmp_path
    assert path.is_socket()
    assert path.parent.stat().st_mode & 0o777 == 0o700
    second.notify(workers=True, clients=True)
    assert first.drain() is True
    for _ in range(2):
        second.after_fork_in_child()
        assert len(os.listdir(tmp_path)) == 2
    first.close()
    assert len(os.listdir(tmp_path)) == 1


@pytest.mark.parametrize("trouble", ["no such sockets", "no address to be had"])
def test_without_sockets_everybody_polls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: str) -> None:
    if trouble == "no such sockets":
        monkeypatch.setattr(notifier, "_AF_UNIX", None)
    else:
        monkeypatch.setattr(notifier.sys, "platform", "darwin")
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with opened(SQLiteStorage(tmp_path / "jobs.db")) as storage:
        storage.register(PROFILE, now=NOW)
        ours = storage.notifier
        assert ours is not None
        assert ours.fileno() == -1
        ours.notify(workers=True, clients=True)
        assert ours.drain() is False
        storage.insert([job("a")])
        assert one(storage, "a").id == "a"


def test_a_notifier_belongs_to_its_storage(pair: tuple[SQLiteStorage, SQLiteStorage]) -> None:
    storage, _ = pair
    ours = storage.notifier
    assert ours is not None
    assert ours.fileno() == -1  # nobody can ring who has not registered
    storage.register(PROFILE, now=NOW)
    assert storage.notifier is ours
    assert ours.fileno() >= 0
    storage.register(PROFILE, now=NOW)
    assert storage.notifier is ours
    assert ours.drain() is False  # several owners of one storage do not ring each other
    storage.close()
    assert storage.notifier is None
    storage.open()
    storage.register(PROFILE, now=NOW)
    assert storage.notifier is not ours


def test_there_is_no_notifier_in_memory() -> None:
    with opened(SQLiteStorage(":memory:")) as storage:
        storage.register(PROFILE, now=NOW)
        assert storage.notifier is None


def _numbered_bells() -> tuple[DatagramNotifier, dict[str, DatagramNotifier]]:
    """One that can only notify, and one of each kind: owner 1 a worker, 2 a client, 3 and 4 both in one process."""
    addresses: list[Address] = []
    bells = {}
    for owner, role in ((1, "worker"), (2, "client"), (3, "both")):
        bells[role] = DatagramNotifier(lambda: addresses)
        bells[role].bind()
        assert bells[role].address is not None
        addresses += [
            Address(owner + number, kind, bells[role].address or "")
            for number, kind in enumerate(("worker", "client") if role == "both" else (role,))
        ]
    return DatagramNotifier(lambda: addresses), bells


@pytest.mark.parametrize(
    ("how", "heard"),
    [
        ({"workers": True, "clients": False}, ["worker", "both"]),
        ({"workers": False, "clients": True}, ["client", "both"]),
        ({"workers": True, "clients": True}, ["worker", "client", "both"]),
        ({"workers": False, "clients": False, "owners": [2]}, ["client"]),
        ({"workers": True, "clients": False, "owners": {2}}, ["worker", "client", "both"]),
        ({"workers": False, "clients": True, "owners": (1, 4, 99)}, ["worker", "client", "both"]),
        ({"workers": False, "clients": False}, []),
    ],
)
def test_a_wake_up_reaches_those_that_it_concerns(how: dict[str, Any], heard: list[str]) -> None:
    ringing, bells = _numbered_bells()
    ringing.notify(**how)
    assert [role for role, one_of_them in bells.items() if one_of_them.drain()] == heard
    for one_of_them in (ringing, *bells.values()):
        one_of_them.close()


def test_one_call_notifies_each_process_once() -> None:
    ringing, bells = _numbered_bells()
    both = bells["both"]
    ringing.notify(workers=True, clients=True, owners=[3, 4])
    listener = both._socket
    assert listener is not None
    assert listener.recv(32) == both._secret + b"."
    assert both.drain() is False
    for one_of_them in (ringing, *bells.values()):
        one_of_them.close()


def test_a_process_without_an_address_finds_new_peers_by_reading_again(
    pair: tuple[SQLiteStorage, SQLiteStorage],
) -> None:
    """A web handler that only enqueues. It reads the addresses ten times a second at most."""
    storage, other = pair
    ours = storage.notifier
    assert isinstance(ours, DatagramNotifier)
    elapsed, reads = [0.0], []
    ours._elapsed = lambda: elapsed[0]
    addresses = ours._addresses
    ours._addresses = lambda: reads.append(1) or addresses()  # type: ignore[func-returns-value]
    ours.notify(workers=True, clients=False)
    other.register(PROFILE, now=NOW)
    theirs = other.notifier
    assert theirs is not None
    for _ in range(100):
        elapsed[0] += 0.0005
        ours.notify(workers=True, clients=False)
    assert theirs.drain() is False
    assert len(reads) == 1
    elapsed[0] += 0.06
    ours.notify(workers=True, clients=False)
    assert theirs.drain() is True
    assert len(reads) == 2
    assert ours.drain() is False
    assert storage.owners()[0].id
    storage.close()
    ours.notify(workers=True, clients=True)


def test_those_that_are_known_are_woken_before_the_addresses_are_read_again() -> None:
    """Reading takes longer than waking, and an idle worker waits for the wake-up."""
    ringing, bells = _numbered_bells()
    elapsed, seen = [0.0], []
    ringing._elapsed = lambda: elapsed[0]
    ringing.notify(workers=True, clients=False)
    assert bells["worker"].drain() is True
    addresses = ringing._addresses
    ringing._addresses = lambda: seen.append(bells["worker"].drain()) or addresses()  # type: ignore[func-returns-value]
    elapsed[0] += 60
    ringing.notify(workers=True, clients=False)
    assert seen == [True]
    assert bells["worker"].drain() is False, "it was woken twice"
    for one_of_them in (ringing, *bells.values()):
        one_of_them.close()


def test_anything_may_come_out_of_the_socket() -> None:
    (ours,) = _bells(1)
    assert ours.address is not None
    name, _, secret = ours.address[1:].partition("#")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stranger:
        for message in (b"", b"x" * 1000, b"++", b"+"):
            stranger.sendto(secret.encode() + message, "\0" + name)
    assert ours.drain() is True
    assert ours.drain() is False
    ours.close()
