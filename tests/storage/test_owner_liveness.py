"""Who counts as dead when lock files are deleted, replaced, planted or locked by others."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import chdir
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from jobify.exceptions import StorageUnavailableError
from jobify.model.records import Recovered
from jobify.storage import SQLiteStorage, process
from jobify.storage.base import HEARTBEAT
from jobify.storage.sqlite import liveness, locks
from jobify.storage.sqlite.locks import LockState, OwnerLocks
from jobify.testing.rows import NOW, PROFILE, one, running
from probes import database_of, owner_rows, watch_locks_by, watched_locks
from support import opened

OWNER = """
import sys, time
from jobify.storage import SQLiteStorage
from jobify.testing.rows import NOW, PROFILE, running
storage = SQLiteStorage(sys.argv[1])
storage.open()
owner = storage.register(PROFILE, now=NOW)
storage.insert([running("job", owner)])
print(owner, flush=True)
while True:
    sys.stdin.readline()
    storage.recover(now=NOW, max_crashes=9, delete_at=None)
    print("looked", flush=True)
"""


class OtherProcess:
    """A process that is an owner and holds a job."""

    def __init__(self, database: Path) -> None:
        command = [sys.executable, "-c", OWNER, str(database)]
        self.program = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.program.stdout is not None
        self.owner = int(self.program.stdout.readline())

    def look(self) -> None:
        assert self.program.stdin is not None
        assert self.program.stdout is not None
        self.program.stdin.write("\n")
        self.program.stdin.flush()
        assert self.program.stdout.readline() == "looked\n"

    def kill(self, *, wait: bool = True) -> None:
        self.program.kill()
        if wait:
            self.program.communicate()


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db-owners"


@pytest.fixture
def storage(database: Path) -> Iterator[SQLiteStorage]:
    with opened(SQLiteStorage(database)) as storage:
        yield storage


@pytest.fixture
def other(storage: SQLiteStorage, database: Path) -> Iterator[OtherProcess]:
    other = OtherProcess(database)
    yield other
    other.kill()


def recover(storage: SQLiteStorage) -> list[Recovered]:
    return storage.recover(now=NOW, max_crashes=9, delete_at=None)


def lock_of(storage: SQLiteStorage, owner: int) -> Path:
    (row,) = [row for row in owner_rows(storage) if row.id == owner]
    return Path(f"{database_of(storage).path}-owners") / f"{row.lock}.lock"


def delete_file(path: Path) -> None:
    path.unlink()


def delete_folder(path: Path) -> None:
    shutil.rmtree(path.parent)


def replace_folder(path: Path) -> None:
    shutil.rmtree(path.parent)
    path.parent.write_text("a file")


def empty_file(path: Path) -> None:
    path.unlink()
    path.write_text("")


def copy_folder(path: Path) -> None:
    copy = path.parent.with_name("copy")
    shutil.copytree(path.parent, copy)
    shutil.rmtree(path.parent)
    copy.rename(path.parent)


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def link(path: Path) -> None:
    elsewhere = path.parent.parent / "elsewhere"
    elsewhere.write_text("not locked")
    path.unlink()
    path.symlink_to(elsewhere)


def a_socket(path: Path) -> None:
    path.unlink()
    path.with_suffix("").unlink(missing_ok=True)
    with chdir(path.parent), socket.socket(socket.AF_UNIX) as server:  # the address of a socket is short
        server.bind(path.name)


ATTACKS = [delete_file, delete_folder, replace_folder, empty_file, copy_folder, pipe, directory, link, a_socket]


@pytest.mark.slow
@pytest.mark.promise("f3", "f51")
@pytest.mark.parametrize("attack", ATTACKS)
def test_a_missing_or_false_lock_file_is_no_proof_of_death(
    storage: SQLiteStorage, other: OtherProcess, attack: object
) -> None:
    lock = lock_of(storage, other.owner)
    attack(lock)  # type: ignore[operator]
    for _ in range(3):
        assert recover(storage) == []
    assert [(found.id, found.is_alive) for found in storage.owners()] == [(other.owner, True)]
    other.kill()
    assert [job.id for job in recover(storage)] == ["job"]
    assert storage.owners() == []


@pytest.mark.slow
@pytest.mark.promise("f3")
@pytest.mark.parametrize("attack", [delete_file, delete_folder, empty_file, copy_folder, pipe, link])
def test_an_owner_makes_its_lock_again(
    storage: SQLiteStorage, other: OtherProcess, folder: Path, attack: object
) -> None:
    lock = lock_of(storage, other.owner)
    attack(lock)  # type: ignore[operator]
    other.look()
    renewed = lock_of(storage, other.owner)
    assert renewed != lock
    assert renewed.is_file()
    assert not os.path.lexists(lock)
    with renewed.open() as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    assert recover(storage) == []
    other.kill()
    assert [job.id for job in recover(storage)] == ["job"]


@pytest.mark.promise("f3")
def test_a_lock_that_cannot_be_made_again_is_tried_again_and_said_once(
    storage: SQLiteStorage, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    owner = storage.register(PROFILE, now=NOW)
    storage.insert([running("job", owner)])
    replace_folder(lock_of(storage, owner))
    for _ in range(3):
        assert recover(storage) == []
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "jobs.db-owners" in caplog.text
    folder.unlink()
    recover(storage)
    assert lock_of(storage, owner).is_file()
    assert one(storage, "job").status == "running"


@pytest.mark.promise("f3")
def test_the_lock_of_a_database_that_is_restored_under_a_living_owner_is_put_right(
    storage: SQLiteStorage, database: Path
) -> None:
    owner = storage.register(PROFILE, now=NOW)
    held = lock_of(storage, owner)
    database_of(storage).write("UPDATE owners SET lock = '1-0000000000000000' WHERE id = ?", (owner,))
    recover(storage)
    assert lock_of(storage, owner) != held
    assert lock_of(storage, owner).is_file()


@pytest.mark.slow
@pytest.mark.promise("f3")
def test_a_process_that_its_parent_has_not_waited_for_is_dead(storage: SQLiteStorage, other: OtherProcess) -> None:
    delete_file(lock_of(storage, other.owner))
    other.kill(wait=False)
    deadline = time.monotonic() + 30
    while not (found := recover(storage)):
        assert time.monotonic() < deadline
    assert [job.id for job in found] == ["job"]


@pytest.mark.slow
@pytest.mark.promise("f3")
def test_a_process_that_stands_still_lives(storage: SQLiteStorage, other: OtherProcess) -> None:
    delete_folder(lock_of(storage, other.owner))
    other.program.send_signal(signal.SIGSTOP)
    watch_locks_by(storage, iter(range(10_000)).__next__)
    for _ in range(100):
        assert recover(storage) == []
    other.program.send_signal(signal.SIGCONT)


@pytest.mark.slow
@pytest.mark.promise("f3")
def test_a_process_id_that_is_used_again_is_another_process(storage: SQLiteStorage, other: OtherProcess) -> None:
    delete_file(lock_of(storage, other.owner))
    other.kill()
    database_of(storage).write("UPDATE owners SET pid = ?", (os.getpid(),))
    assert [job.id for job in recover(storage)] == ["job"]


def _owner_of_another_container(storage: SQLiteStorage, monkeypatch: pytest.MonkeyPatch) -> tuple[SQLiteStorage, int]:
    """An owner whose process cannot be seen from here, and whose lock file is gone."""
    other = SQLiteStorage(storage.database)
    other.open()
    owner = other.register(PROFILE, now=NOW)
    other.insert([running("job", owner)])
    delete_file(lock_of(storage, owner))
    monkeypatch.setattr(process, "current", lambda: "boot/pid:[1]/time:[1]/123")
    return other, owner


@pytest.mark.promise("f3")
def test_what_cannot_be_seen_lives_while_its_heart_beats(
    storage: SQLiteStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, owner = _owner_of_another_container(storage, monkeypatch)
    seconds = [0.0]
    watch_locks_by(storage, lambda: seconds[0])
    for beat in range(30):
        other.heartbeat(owner, now=NOW + beat)
        for _ in range(20):
            assert recover(storage) == []
            seconds[0] += HEARTBEAT / 20
    last_beat, found = seconds[0] - HEARTBEAT, []
    while not found:
        seconds[0] += 0.5
        found = recover(storage)
    assert [job.id for job in found] == ["job"]
    assert 2 * HEARTBEAT < seconds[0] - last_beat <= 3 * HEARTBEAT + 1
    recover(storage)
    assert watched_locks(storage) == {}
    other.close()


@pytest.mark.promise("f3")
def test_silence_counts_while_it_is_listened_to(storage: SQLiteStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process that asks was stopped itself: the first beat after that may still be on its way."""
    other, _ = _owner_of_another_container(storage, monkeypatch)
    seconds = [0.0]
    watch_locks_by(storage, lambda: seconds[0])
    assert recover(storage) == []
    seconds[0] += 3600
    assert recover(storage) == []
    other.close()


@pytest.mark.promise("f3")
def test_a_copied_database_does_not_wait_for_the_processes_of_the_original(
    storage: SQLiteStorage, tmp_path: Path
) -> None:
    owner = storage.register(PROFILE, now=NOW)
    storage.insert([running("job", owner)])
    database_of(storage).execute(f"VACUUM INTO '{tmp_path / 'copy.db'}'")
    with opened(SQLiteStorage(tmp_path / "copy.db")) as copy:
        seconds = [0.0]
        watch_locks_by(copy, lambda: seconds[0])
        assert recover(copy) == []
        for _ in range(int(liveness.SILENCE)):
            seconds[0] += 1
            found = recover(copy)
        assert [job.id for job in found] == ["job"]
        assert recover(storage) == []


@pytest.mark.promise("f3")
def test_an_owner_that_lets_go_without_its_file_leaves_a_mark(storage: SQLiteStorage) -> None:
    """Its process lives on, so nothing else would ever say so."""
    with opened(SQLiteStorage(storage.database)) as left:
        owner = left.register(PROFILE, now=NOW)
        left.insert([running("job", owner)])
        delete_folder(lock_of(storage, owner))
    assert [job.id for job in recover(storage)] == ["job"]
    assert storage.owners() == []


@pytest.mark.promise("f3")
def test_an_owner_of_an_older_release_is_known_by_its_lock(storage: SQLiteStorage) -> None:
    with opened(SQLiteStorage(storage.database)) as other:
        owner = other.register(PROFILE, now=NOW)
        other.insert([running("job", owner)])
        database_of(storage).write("UPDATE owners SET process = NULL")
        assert recover(storage) == []
    assert [job.id for job in recover(storage)] == ["job"]


@pytest.mark.slow
@pytest.mark.promise("f51")
@pytest.mark.parametrize("written", ["", "a b", "a b c d e", "- - -", "x/y 1:1 1:1", "\0 \n \t", "//1 0:0 0:0"])
def test_evidence_that_was_written_by_hand_proves_nothing(
    storage: SQLiteStorage, other: OtherProcess, written: str
) -> None:
    database_of(storage).write("UPDATE owners SET process = ?, pid = -1, lock = 'x'", (written,))
    assert recover(storage) == []
    assert storage.owners()[0].is_alive


@pytest.mark.slow
@pytest.mark.promise("f51")
@pytest.mark.parametrize(
    "name", ["../jobs.db", "../../etc/passwd", "/etc/passwd", "a", "", "1-00", ".", "1-" + "0" * 15 + "\n"]
)
def test_a_name_in_a_row_leads_to_no_other_file(
    storage: SQLiteStorage, other: OtherProcess, tmp_path: Path, folder: Path, name: str
) -> None:
    for path in (tmp_path / "jobs.db.lock", tmp_path / "a.lock", folder / "a.lock"):
        path.write_text("precious")
    database_of(storage).write("UPDATE owners SET lock = ?", (name,))
    assert recover(storage) == []
    other.kill()
    assert [job.id for job in recover(storage)] == ["job"]
    assert (tmp_path / "jobs.db.lock").read_text() == "precious"
    assert (folder / "a.lock").read_text() == "precious"


# -- locks of others ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.promise("f51")
@pytest.mark.parametrize("kind", [fcntl.LOCK_SH, fcntl.LOCK_EX])
def test_a_lock_of_a_reader_does_not_delay_recovery(storage: SQLiteStorage, other: OtherProcess, kind: int) -> None:
    with lock_of(storage, other.owner).open() as reader:
        other.kill()
        fcntl.flock(reader, kind)
        assert [job.id for job in recover(storage)] == ["job"]


@pytest.mark.promise("f51")
def test_a_start_does_not_wait_for_a_lock_that_another_program_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that watches the folder may lock a new file before its owner does."""
    thieves: list[int] = []
    real_flock, limit = fcntl.flock, [3]

    def flock(descriptor: int, operation: int) -> None:
        if operation & fcntl.LOCK_EX and len(thieves) < limit[0]:
            thieves.append(os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY))
            real_flock(thieves[-1], fcntl.LOCK_SH)
        real_flock(descriptor, operation)

    monkeypatch.setattr(locks.fcntl, "flock", flock)
    held = OwnerLocks(str(tmp_path / "owners"))
    name = held.hold()
    assert len(thieves) == 3
    assert os.listdir(tmp_path / "owners") == [f"{name}.lock"]
    limit[0] = 100
    with pytest.raises(BlockingIOError):
        held.hold()
    for thief in thieves:
        os.close(thief)
    held.release(name)
    assert os.listdir(tmp_path / "owners") == []


@pytest.mark.promise("f51")
def test_a_file_that_was_removed_while_it_was_asked_about_proves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An owner that renews its lock removes the old file and then lets go of it."""
    ours, view = OwnerLocks(str(tmp_path)), OwnerLocks(str(tmp_path))
    name = ours.hold()
    file, real_flock = ours.file_of(name), fcntl.flock

    def flock(descriptor: int, operation: int) -> None:
        ours.release(name)
        real_flock(descriptor, operation)

    monkeypatch.setattr(locks.fcntl, "flock", flock)
    assert view.state(name, file) is LockState.UNKNOWN


# -- modes -------------------------------------------------------------------------------------------------------------


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.promise("f51")
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_folder_and_files_are_for_their_user_only(database: Path, folder: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        with opened(SQLiteStorage(database)) as storage:
            owner = storage.register(PROFILE, now=NOW)
            assert (_mode(folder), _mode(lock_of(storage, owner))) == (0o700, 0o600)
    finally:
        os.umask(before)


@pytest.mark.promise("f51")
def test_the_folder_of_an_older_release_is_tightened(storage: SQLiteStorage, folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o2775)
    storage.register(PROFILE, now=NOW)
    assert _mode(folder) & 0o777 == 0o700


@pytest.mark.promise("f51")
def test_users_who_may_write_the_database_take_part(storage: SQLiteStorage, database: Path, folder: Path) -> None:
    database.chmod(0o664)
    owner = storage.register(PROFILE, now=NOW)
    assert (_mode(folder), _mode(lock_of(storage, owner))) == (0o770, 0o660)


@pytest.mark.promise("f51")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_folder_of_another_user_is_refused(storage: SQLiteStorage, database: Path, folder: Path) -> None:
    folder.mkdir(mode=0o700)
    os.chown(folder, 65534, 65534)
    with pytest.raises(StorageUnavailableError, match=r"belongs to another user \(uid 65534\)"):
        storage.register(PROFILE, now=NOW)
    os.chown(database, 65534, 65534)  # it is the folder of the one to whom the database belongs
    storage.register(PROFILE, now=NOW)


@pytest.mark.promise("f51")
def test_a_folder_that_is_a_link_is_refused(storage: SQLiteStorage, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageUnavailableError, match="lock file"):
        storage.register(PROFILE, now=NOW)
    assert os.listdir(tmp_path / "elsewhere") == []


# -- leaving -----------------------------------------------------------------------------------------------------------


def _live(has_begun: Event, may_end: Event) -> None:
    has_begun.set()
    may_end.wait()


@pytest.mark.promise("f44")
def test_a_lock_that_outlives_its_storage_is_not_inherited_by_a_child(storage: SQLiteStorage) -> None:
    with opened(SQLiteStorage(storage.database)) as left:
        owner = left.register(PROFILE, now=NOW)
        left.insert([running("job", owner)])
        release = left.leave(owner)
    fork = multiprocessing.get_context("fork")
    has_begun, may_end = fork.Event(), fork.Event()
    child = fork.Process(target=_live, args=(has_begun, may_end))
    child.start()
    assert has_begun.wait(30)
    assert recover(storage) == []
    release()
    assert [(job.id, job.is_crash) for job in recover(storage)] == [("job", False)]
    may_end.set()
    child.join()


@pytest.mark.slow
@pytest.mark.promise("f44")
def test_the_death_of_a_process_that_was_leaving_is_no_crash(storage: SQLiteStorage, other: OtherProcess) -> None:
    database_of(storage).write("UPDATE owners SET is_leaving = 1")
    assert recover(storage) == []
    other.kill()
    assert [(job.id, job.is_crash) for job in recover(storage)] == [("job", False)]
    assert (one(storage, "job").attempt, one(storage, "job").crashes) == (0, 0)


@pytest.mark.promise("f3")
def test_a_process_is_known_by_its_id_and_its_start() -> None:
    identity = process.current() or ""
    assert process.is_running(os.getpid(), identity) is True
    assert process.is_running(os.getpid(), identity + "0") is False
    assert process.is_running(os.getpid(), "x" + identity) is None
    assert [process.is_running(pid, identity) for pid in (0, -1, 2**80)] == [None] * 3
