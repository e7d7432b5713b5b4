"""Modes of the database file, from its first moment, and of what SQLite puts beside it."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobify.exceptions import ConfigurationError
from jobify.storage import SQLiteStorage
from jobify.storage.sqlite import permissions
from jobify.testing.rows import NOW, PROFILE, job, one
from support import opened

pytestmark = pytest.mark.promise("f33")


@pytest.fixture(params=[0o000, 0o022, 0o077, 0o177])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def _modes(directory: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir() if path.is_file()}


def _use(path: Path, **options: Any) -> SQLiteStorage:
    storage = SQLiteStorage(path, **options)
    storage.open()
    storage.insert([job("a")])
    assert one(storage, "a").id == "a"
    return storage


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o660, 0o666])
def test_a_new_database_has_the_mode_that_was_asked_for(tmp_path: Path, umask: int, mode: int) -> None:
    storage = _use(tmp_path / "jobs.db", mode=mode)
    assert _modes(tmp_path) == dict.fromkeys(("jobs.db", "jobs.db-wal", "jobs.db-shm"), mode)
    storage.close()
    assert _modes(tmp_path)["jobs.db"] == mode


def test_a_new_database_is_for_its_user_only(tmp_path: Path, umask: int) -> None:
    storage = _use(tmp_path / "jobs.db")
    assert set(_modes(tmp_path).values()) == {0o600}
    storage.close()


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o664])
@pytest.mark.parametrize("content", ["empty", "a database"])
def test_a_file_that_exists_keeps_its_mode(tmp_path: Path, mode: int, content: str) -> None:
    path = tmp_path / "jobs.db"
    if content == "empty":
        path.touch()
    else:
        _use(path).close()
        path.chmod(mode)
    path.chmod(mode)
    with opened(SQLiteStorage(path)) as storage:
        storage.insert([job("b")])
        assert set(_modes(tmp_path).values()) == {mode}


@pytest.mark.parametrize("mode", [0o400, 0o200, 0o000, 0o777, 0o1600, -1, True, "0600", None, 384.0])
def test_a_mode_that_makes_no_sense_is_refused(mode: Any) -> None:
    with pytest.raises(ConfigurationError, match="mode is"):
        SQLiteStorage("jobs.db", mode=mode)


def test_there_is_no_moment_at_which_others_can_open_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever has the name of the database has its mode already."""
    seen = []
    real = os.link

    def link(draft: str, path: str) -> None:
        seen.append((stat.S_IMODE(os.stat(draft).st_mode), os.path.exists(path)))
        real(draft, path)

    monkeypatch.setattr(os, "link", link)
    before = os.umask(0)
    try:
        _use(tmp_path / "jobs.db").close()
    finally:
        os.umask(before)
    assert seen == [(0o600, False)]
    assert sorted(_modes(tmp_path)) == ["jobs.db"]


def test_a_file_system_without_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(draft: str, path: str) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", link)
    _use(tmp_path / "jobs.db").close()
    assert _modes(tmp_path) == {"jobs.db": 0o600}


def test_what_cannot_be_made_is_explained_by_the_open(tmp_path: Path) -> None:
    permissions.create_database(str(tmp_path / "missing" / "jobs.db"), 0o600)
    (tmp_path / "link.db").symlink_to(tmp_path / "jobs.db")
    _use(tmp_path / "link.db").close()
    assert _modes(tmp_path)["jobs.db"] == 0o600


@pytest.mark.slow
def test_many_threads_and_processes_make_it_at_once(tmp_path: Path) -> None:
    program = (
        "import sys; from jobify.storage import SQLiteStorage; s = SQLiteStorage(sys.argv[1]); s.open(); s.close()"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "jobs.db")]
    others = [subprocess.Popen(command) for _ in range(4)]
    errors = []

    def open_it() -> None:
        try:
            with opened(SQLiteStorage(tmp_path / "jobs.db")) as storage:
                storage.deregister(storage.register(PROFILE, now=NOW))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [other.wait(60) for other in others] == [0] * 4
    assert errors == []
    modes = _modes(tmp_path)
    # Of two that close at the same moment, each may take the other for one that goes on, and leave the log to it.
    assert {"jobs.db"} <= modes.keys() <= {"jobs.db", "jobs.db-wal", "jobs.db-shm"}
    assert set(modes.values()) == {0o600}
