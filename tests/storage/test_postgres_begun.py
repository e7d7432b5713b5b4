"""Which jobs had begun in a process that died, for a database on a server: a table in a folder of the machine."""

from __future__ import annotations

import logging
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobify.storage import PostgresStorage
from jobify.storage.postgres.begun import BegunTables
from jobify.storage.suspicion import Death
from jobify.testing.rows import NOW, PROFILE, job, one, running
from support import opened

KEY = 0x1234


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path / f"jobify-{os.getuid()}"


@pytest.fixture
def storage(folder: Path, postgres_url: str) -> Iterator[PostgresStorage]:
    with opened(PostgresStorage(postgres_url)) as storage:
        yield storage


def _die(storage: PostgresStorage) -> Death:
    """A process that has "a", which had begun, and "b", which had not, dies; what another one makes of it."""
    owner = storage.register(PROFILE, now=NOW)
    begun = storage.begun(owner)
    assert begun is not None
    storage.insert([running("a", owner), running("b", owner)])
    begun.enter("a")
    storage.close()
    storage.open()
    return _recover(storage)


def _recover(storage: PostgresStorage) -> Death:
    deaths: list[Death] = []
    storage.register(PROFILE, now=NOW)
    storage.recover(now=NOW, max_crashes=3, delete_at=None, on_death=deaths.append)
    (death,) = deaths
    return death


def test_what_had_not_begun_goes_back_without_an_attempt(storage: PostgresStorage, folder: Path) -> None:
    death = _die(storage)
    assert (death.begun, [one(storage, id).attempt for id in "ab"]) == (1, [1, 0])
    assert os.listdir(folder) == []  # it was read, and is not needed any more


def test_where_the_process_was_on_another_machine_all_counts(
    storage: PostgresStorage, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(socket, "gethostname", lambda: "elsewhere")
        owner = storage.register(PROFILE, now=NOW)
    begun = storage.begun(owner)
    assert begun is not None
    assert begun.is_local
    storage.insert([running("a", owner), running("b", owner)])
    storage.close()
    storage.open()
    assert _recover(storage).begun == 2
    assert len(os.listdir(folder)) == 1


@pytest.mark.parametrize("spoil", ["open", "a file", "a link"])
def test_a_folder_that_others_can_change_is_not_used(
    storage: PostgresStorage, folder: Path, spoil: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "jobify.storage")
    if spoil == "a file":
        folder.touch(0o700)
    elif spoil == "a link":
        (folder.parent / "own").mkdir(0o700)
        folder.symlink_to(folder.parent / "own")
    else:
        folder.mkdir()
        folder.chmod(0o750)
    assert storage.begun(storage.register(PROFILE, now=NOW)) is None
    assert f"Begun jobs are not noted ({str(folder)!r} is not a folder of this user alone)" in caplog.text


def test_the_table_goes_with_its_owner(storage: PostgresStorage, folder: Path) -> None:
    owner = storage.register(PROFILE, now=NOW)
    begun = storage.begun(owner)
    assert begun is storage.begun(owner)
    assert begun is not None
    (table,) = folder.iterdir()
    assert [stat.S_IMODE(path.stat().st_mode) for path in (folder, table)] == [0o700, 0o400]
    slot = begun.enter("a")
    storage.deregister(owner)
    begun.leave(slot)
    assert os.listdir(folder) == []
    leaving = storage.register(PROFILE, now=NOW)
    storage.begun(leaving)
    storage.leave(leaving)()
    assert os.listdir(folder) == []


def test_what_nobody_has_read_in_a_day_is_removed(folder: Path) -> None:
    """An owner of another machine has taken the jobs of a process that died here."""
    tables = BegunTables()
    tables.open(KEY)
    dead, young, ours = (
        folder / f"{number:016x}-{pid}.begun" for number, pid in ((1, 4_194_303), (2, 4_194_303), (3, os.getpid()))
    )
    other = folder / "notes.txt"
    for path in (dead, young, ours, other):
        path.touch()
    for path in (dead, ours, other):
        os.utime(path, (0, 0))
    tables.open(KEY + 1)
    assert {young, ours, other} < set(folder.iterdir())
    assert not dead.exists()
    tables.close(KEY)
    tables.close(KEY + 1)
    assert {*folder.iterdir()} == {young, ours, other}


def test_a_fork_leaves_the_tables_alone(storage: PostgresStorage, folder: Path) -> None:
    owner = storage.register(PROFILE, now=NOW)
    begun = storage.begun(owner)
    assert begun is not None
    child = os.fork()
    if child == 0:
        os._exit(len(os.listdir(folder)) if storage.owners() else 0)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 1
    storage.insert([job("a")])
    begun.enter("a")
    assert len(os.listdir(folder)) == 1
