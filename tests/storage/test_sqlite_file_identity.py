"""The file that was opened: deleted, moved, replaced, truncated and overwritten under a storage that is open."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from jobify.exceptions import StorageReplacedError, StorageUnavailableError
from jobify.model.records import JobQuery
from jobify.storage import SQLiteStorage
from jobify.storage.sqlite import file_identity
from jobify.testing.rows import NOW, PROFILE, claim, end, job, line, one
from probes import database_of
from support import opened

Attack = Callable[[Path], None]
ALL = ("", "-wal", "-shm")


def _file(path: Path, end: str = "") -> Path:
    return path.with_name(path.name + end)


def _delete(*ends: str) -> Attack:
    return lambda path: [_file(path, end).unlink() for end in ends] and None


def _truncate(end: str, size: int = 0) -> Attack:
    return lambda path: os.truncate(_file(path, end), size)


def _move_away(path: Path) -> None:
    path.rename(path.with_name("elsewhere.db"))


def _move_backup_here(path: Path) -> None:
    path.with_name("backup.db").rename(path)


def _copy_backup_here(path: Path) -> None:
    shutil.copyfile(path.with_name("backup.db"), path)


def _restore_all(path: Path) -> None:
    _delete(*ALL)(path)
    _copy_backup_here(path)


def _copy_backup_here_and_delete_the_rest(path: Path) -> None:
    _copy_backup_here(path)
    _delete("-wal", "-shm")(path)


def _overwrite_at_equal_length(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[3000:3100] = bytes(each ^ 0xFF for each in data[3000:3100])
    descriptor = os.open(path, os.O_WRONLY)
    os.write(descriptor, data)
    os.close(descriptor)


def _move_folder(path: Path) -> None:
    path.parent.rename(path.parent.with_name("moved"))


def _delete_folder(path: Path) -> None:
    shutil.rmtree(path.parent)


def _replace_folder(path: Path) -> None:
    _move_folder(path)
    path.parent.mkdir()
    shutil.copyfile(path.parent.with_name("moved") / path.name, path)


ATTACKS: dict[str, Attack] = {
    "rm file": _delete(""),
    "rm log": _delete("-wal"),
    "rm memory": _delete("-shm"),
    "rm log and memory": _delete("-wal", "-shm"),
    "rm all": _delete(*ALL),
    "> file": _truncate(""),
    "> log": _truncate("-wal"),
    "> memory": _truncate("-shm"),
    "truncate file": _truncate("", 4096),
    "mv away": _move_away,
    "mv backup here": _move_backup_here,
    "cp backup here": _copy_backup_here,
    "cp backup here, rm the rest": _copy_backup_here_and_delete_the_rest,
    "overwrite": _overwrite_at_equal_length,
    "restore": _restore_all,
    "mv folder": _move_folder,
    "rm folder": _delete_folder,
    "replace folder": _replace_folder,
}


class Given:
    """An open storage with an owner, a claimed job and others; and an older copy of the file beside it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.path = folder / "jobs.db"
        self.storage = SQLiteStorage(self.path, synchronous="normal")
        self.storage.open()
        self.storage.insert([job(f"old-{number}", payload=bytes(500)) for number in range(20)])
        with closing(sqlite3.connect(self.path)) as source, closing(sqlite3.connect(folder / "backup.db")) as copy:
            source.execute("PRAGMA wal_checkpoint(FULL)")
            source.backup(copy)
        self.owner = self.storage.register(PROFILE, now=NOW)
        self.storage.insert([job(f"new-{number}", payload=bytes(500)) for number in range(20)])
        (self.claimed,) = claim(self.storage, self.owner, limit=1)
        with suppress(StorageUnavailableError):
            self.insert_nonblocking("nonblocking")  # the first one is refused: others may have written

    def insert_nonblocking(self, id: str) -> None:
        assert self.storage.nonblocking is not None
        with self.storage.nonblocking:
            self.storage.insert([job(id)])

    def in_a_block(self, id: str) -> None:
        with self.storage.transaction():
            self.storage.insert([job(id)])

    def writes(self) -> dict[str, Callable[[], object]]:
        """All that writes."""
        storage, now = self.storage, NOW
        return {
            "insert": lambda: storage.insert([job("x")]),
            "insert non-blocking": lambda: self.insert_nonblocking("x"),
            "insert in a block": lambda: self.in_a_block("x"),
            "replace": lambda: storage.replace(job("x")),
            "claim": lambda: claim(storage, self.owner),
            "settle": lambda: storage.settle([end(self.owner, self.claimed)]),
            "cancel": lambda: storage.cancel(["new-3"], reason="x", now=now, delete_at=None),
            "retry": lambda: storage.retry(["new-3"], now=now),
            "reschedule": lambda: storage.reschedule("new-3", due_at=now + 5, now=now),
            "pause": lambda: storage.pause(["new-3"]),
            "pause_queue": lambda: storage.pause_queue("q"),
            "delete": lambda: storage.delete(["new-3"], now=now, delete_at=None),
            "add_history": lambda: storage.add_history([line(self.claimed.id)]),
            "heartbeat": lambda: storage.heartbeat(self.owner, now=now),
            "register": lambda: storage.register(PROFILE, now=now),
            "deregister": lambda: storage.deregister(self.owner),
            "recover": lambda: storage.recover(now=now, max_crashes=3, delete_at=None),
            "purge": lambda: storage.purge(now=now, limit=5),
            "expire": lambda: storage.expire(now=now, limit=5, delete_at=None),
            "get": lambda: storage.get(["new-3"]),
            "find": lambda: storage.find(JobQuery()),
            "has_external_changes": storage.has_external_changes,
        }


def _wait(storage: SQLiteStorage) -> None:
    """Until the last look is a hundredth of a second old."""
    identity = database_of(storage)._identity
    identity._looked_at = identity._fresh_until = 0


@pytest.fixture
def given(tmp_path: Path) -> Iterator[Given]:
    found = Given(tmp_path / "data")
    yield found
    found.storage.close()


def _contents(folder: Path) -> dict[str, bytes]:
    """What is in the files, the shared memory aside."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.endswith((".lock", "-shm"))
    }


@pytest.mark.promise("f42", "f43")
@pytest.mark.parametrize("attack", ATTACKS)
def test_nothing_is_acknowledged_and_nothing_is_harmed(given: Given, tmp_path: Path, attack: str) -> None:
    ATTACKS[attack](given.path)
    _wait(given.storage)
    with pytest.raises(StorageReplacedError, match="was deleted or replaced") as first:
        given.storage.insert([job("x")])
    assert first.value.path == str(given.path)
    after = _contents(tmp_path)
    for name, write in given.writes().items():
        with pytest.raises(StorageUnavailableError) as caught:
            write()
        assert isinstance(caught.value, StorageReplacedError) or name == "insert non-blocking", name
    given.storage.close()
    assert _contents(tmp_path) == after


_NOT_REFUSED = {"get", "find", "has_external_changes", "retry", "purge", "expire", "recover", "insert non-blocking"}
"""Reads, and writes that find nothing to do."""


@pytest.mark.slow
@pytest.mark.promise("f42")
@pytest.mark.parametrize("attack", ["rm all", "rm file", "rm log", "mv backup here", "restore", "> log"])
def test_each_write_looks_for_itself(tmp_path: Path, attack: str) -> None:
    """Whatever comes first after the files are gone: it is refused, also where a look was taken just before."""
    names = Given(tmp_path / "names")
    names.storage.close()
    for number, name in enumerate(names.writes()):
        given = Given(tmp_path / f"{number}")
        given.storage.heartbeat(given.owner, now=NOW)
        ATTACKS[attack](given.path)
        if name not in (
            "get",
            "find",
            "has_external_changes",
            "retry",
            "purge",
            "expire",
            "recover",
            "insert non-blocking",
        ):
            with pytest.raises(StorageReplacedError):
                given.writes()[name]()
        given.storage.close()


@pytest.mark.promise("f42")
@pytest.mark.parametrize("attack", ["restore", "mv backup here", "cp backup here, rm the rest"])
def test_a_storage_that_is_opened_again_uses_what_is_there(given: Given, attack: str) -> None:
    if attack == "mv backup here":
        _file(given.path, "-wal").unlink()
        _file(given.path, "-shm").unlink()
    ATTACKS[attack](given.path)
    with pytest.raises(StorageReplacedError):
        given.storage.insert([job("x")])
    given.storage.close()
    given.storage.open()
    assert {record.id[:3] for record in given.storage.find(JobQuery())} == {"old"}
    assert given.storage.insert([job("x")]) == [True]
    with closing(sqlite3.connect(given.path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("SELECT count(*) FROM jobs").fetchone() == (21,)


@pytest.mark.promise("f42")
def test_a_log_that_is_deleted_takes_nothing_along(given: Given) -> None:
    """All that was acknowledged before is saved into the database."""
    _delete("-wal")(given.path)
    with pytest.raises(StorageReplacedError, match="-wal"):
        given.storage.insert([job("x")])
    given.storage.close()
    with opened(SQLiteStorage(given.path)) as again:
        assert len([record for record in again.find(JobQuery()) if record.id[:3] in ("old", "new")]) == 40


@pytest.mark.promise("f42")
def test_a_file_that_comes_back_has_lost_nothing(given: Given) -> None:
    _move_away(given.path)
    with pytest.raises(StorageReplacedError):
        given.storage.insert([job("x")])
    given.storage.close()
    given.path.with_name("elsewhere.db").rename(given.path)
    given.storage.open()
    assert len([record for record in given.storage.find(JobQuery()) if record.id[:3] in ("old", "new")]) == 40


@pytest.mark.promise("f42")
@pytest.mark.parametrize(
    "touch", ["touch", "chmod", "link", "read", "neighbours", "checkpoint", "vacuum", "truncated log"]
)
def test_what_harms_nobody_is_no_replacement(given: Given, touch: str) -> None:
    path = given.path
    other = sqlite3.connect(path, isolation_level=None)
    for number in range(20):
        match touch:
            case "touch":
                os.utime(path)
                os.utime(_file(path, "-wal"))
            case "chmod":
                path.chmod(0o600 + number % 2)
            case "link":
                os.link(path, path.with_name(f"link-{number}"))
            case "read":
                subprocess.run(["cat", path, _file(path, "-wal")], check=True, stdout=subprocess.DEVNULL)
            case "neighbours":
                path.with_name(f"neighbour-{number}").touch()
            case "checkpoint":
                other.execute("PRAGMA wal_checkpoint(PASSIVE)")
            case "vacuum":
                other.execute("VACUUM")
            case _:
                other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        _wait(given.storage)
        assert given.storage.insert([job(f"{touch}-{number}", payload=bytes(3000))]) == [True]
        given.storage.heartbeat(given.owner, now=NOW)
        given.storage.heartbeat(-1, now=NOW)  # writes nothing
    other.close()
    assert one(given.storage, f"{touch}-19").status == "scheduled"


@pytest.mark.slow
@pytest.mark.promise("f42")
def test_the_look_knows_a_checkpoint_from_an_overwrite(given: Given) -> None:
    """Hundreds of checkpoints by another process are no replacement."""
    code = f"""
    import sqlite3
    connection = sqlite3.connect({str(given.path)!r}, isolation_level=None, timeout=20)
    for number in range(300):
        connection.execute("UPDATE jobs SET priority = priority WHERE id LIKE 'old%'")
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
    """
    other = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)])
    count = 0
    while other.poll() is None:
        _wait(given.storage)
        assert given.storage.insert([job(f"more-{count}")]) == [True]
        count += 1
    assert other.returncode == 0
    assert count


def _begin_a_log(given: Given) -> None:
    """After a checkpoint the next write begins a new log: the shared memory changes, and the database does not."""
    with closing(sqlite3.connect(given.path)) as other:
        other.execute("PRAGMA wal_checkpoint(RESTART)")
    os.utime(given.path, (1_600_000_000, 1_600_000_000))
    for number in range(2):
        _wait(given.storage)
        given.storage.insert([job(f"in-the-log-{number}")])
    _wait(given.storage)


@pytest.mark.promise("f42")
@pytest.mark.parametrize("kept", [0.2, 0.5, 0.9])
def test_a_new_log_explains_no_truncation(given: Given, kept: float) -> None:
    _begin_a_log(given)
    os.truncate(given.path, int(os.path.getsize(given.path) * kept) // 4096 * 4096)
    with pytest.raises(StorageReplacedError, match="it was truncated"):
        given.storage.insert([job("x")])


@pytest.mark.promise("f42")
def test_a_new_log_explains_no_overwrite(given: Given) -> None:
    _begin_a_log(given)
    _overwrite_at_equal_length(given.path)
    with pytest.raises(StorageReplacedError, match="it was overwritten"):
        given.storage.insert([job("x")])


@pytest.mark.promise("f42")
def test_a_vacuum_by_another_process_is_no_truncation(given: Given) -> None:
    for turn in range(3):
        given.storage.insert([job(f"large-{turn}-{number}", payload=bytes(50_000)) for number in range(20)])
        with closing(sqlite3.connect(given.path, isolation_level=None)) as other:
            other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            _wait(given.storage)
            given.storage.insert([job(f"small-{turn}")])
            size = os.path.getsize(given.path)
            other.execute("DELETE FROM jobs WHERE id LIKE 'large%'")
            other.execute("VACUUM")
            other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        assert os.path.getsize(given.path) < size
        _wait(given.storage)


@pytest.mark.promise("f42", "f3")
@pytest.mark.parametrize("attack", ["mv folder", "rm folder"])
def test_a_folder_that_is_gone_is_not_made_again(given: Given, attack: str) -> None:
    ATTACKS[attack](given.path)
    _wait(given.storage)
    for write in ("heartbeat", "register", "deregister", "insert"):
        with pytest.raises(StorageUnavailableError):
            given.writes()[write]()
    given.storage.close()
    assert not given.path.parent.exists()


@pytest.mark.promise("f42")
def test_a_symlink_that_is_switched(tmp_path: Path) -> None:
    for name in ("one.db", "two.db"):
        storage = SQLiteStorage(tmp_path / name)
        storage.open()
        storage.close()
    link = tmp_path / "jobs.db"
    link.symlink_to("one.db")
    with opened(SQLiteStorage(link)) as storage:
        assert storage.insert([job("a")]) == [True]
        link.unlink()
        link.symlink_to("two.db")
        _wait(storage)
        with pytest.raises(StorageReplacedError):
            storage.insert([job("b")])


@pytest.mark.slow
@pytest.mark.promise("f43")
@pytest.mark.parametrize("ends", [("",), ("-shm",), ALL])
def test_a_task_copies_the_database(given: Given, ends: tuple[str, ...]) -> None:
    """The copy closes a descriptor, and with it go the locks of SQLite. Ours keep the log where it is."""
    for name in ends:
        shutil.copyfile(_file(given.path, name), given.path.with_name(f"copy.db{name}"))
    code = f"""
    from jobify.storage import SQLiteStorage
    from jobify.testing.rows import job
    storage = SQLiteStorage({str(given.path)!r})
    storage.open()
    assert storage.insert([job("theirs")]) == [True]
    storage.close()
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)
    assert given.storage.insert([job("ours")]) == [True]
    with closing(sqlite3.connect(given.path)) as connection:
        assert connection.execute("SELECT count(*) FROM jobs WHERE id IN ('ours', 'theirs')").fetchone() == (2,)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.promise("f43")
def test_a_storage_that_is_closed_copies_its_log(given: Given) -> None:
    """Our locks beside those of SQLite are no obstacle to the last one who leaves."""
    second = SQLiteStorage(given.path)
    second.open()
    second.close()
    given.storage.close()
    assert sorted(path.name for path in given.path.parent.glob("jobs.db*")) == ["jobs.db", "jobs.db-owners"]


@pytest.mark.promise("f42")
def test_a_fork_does_not_open_another_file(given: Given) -> None:
    """A fork closes the connections, and the next call opens them again: not whatever is at the path by then."""
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    given.path.unlink()
    with pytest.raises(StorageReplacedError):
        given.storage.insert([job("x")])
    assert not given.path.exists()


def test_a_log_that_grows_while_it_is_compared_is_not_truncated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread commits after the size of the log was read, and before it is compared."""
    storage = SQLiteStorage(tmp_path / "jobs.db", synchronous="normal")
    storage.open()
    storage.insert([job("a")])
    identity, stat = database_of(storage).connections.identity, file_identity._stat
    grown: list[int] = []

    def slow_stat(path: str) -> os.stat_result | None:
        found = stat(path)
        if path.endswith("-wal") and not grown:
            with closing(sqlite3.connect(tmp_path / "jobs.db")) as other:
                other.execute("CREATE TABLE notes AS SELECT hex(randomblob(20000))")
            grown.append(os.stat(path).st_size)
            identity.log_size = grown[0]
        return found

    monkeypatch.setattr(file_identity, "_stat", slow_stat)
    identity.look()
    assert grown[0] > 20_000
    storage.insert([job("b")])
    storage.close()
