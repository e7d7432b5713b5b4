"""Where the database is: a relative path is resolved once, when the storage is made."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from jobify import Jobify
from jobify.exceptions import ConfigurationError
from jobify.model.records import JobQuery
from jobify.storage import SQLiteStorage
from support import opened

pytestmark = [pytest.mark.promise("f46"), pytest.mark.usefixtures("sqlite_file")]


def _run(folder: Path, code: str) -> str:
    script = folder / "script.py"
    script.write_text(textwrap.dedent(code))
    done = subprocess.run([sys.executable, script], cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_relative_path_is_resolved_where_the_storage_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    monkeypatch.chdir(here)
    storages = [
        SQLiteStorage(),
        SQLiteStorage("jobify.db"),
        SQLiteStorage("./jobify.db"),
        SQLiteStorage("../here/jobify.db"),
    ]
    app = Jobify()
    monkeypatch.chdir(there)
    for storage in storages:
        assert os.path.realpath(storage.database) == str(here / "jobify.db")
        assert str(here) in repr(storage)
        storage.open()
        storage.close()
    assert str(here / "jobify.db") in repr(app.configs.storage)
    assert list(there.iterdir()) == []


async def test_a_task_that_changes_the_folder_moves_no_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other").mkdir()
    app = Jobify()

    @app.task(name="wander")
    def wander() -> None:
        os.chdir("other")

    @app.task(name="later")
    def later() -> None: ...

    async with app:
        await (await wander.push())
        await later.schedule().delay(3600)
    app.close()
    later.delay()  # the storage is opened again
    app.close()
    assert list((tmp_path / "other").iterdir()) == []
    with opened(SQLiteStorage(tmp_path / "jobify.db")) as storage:
        assert len([1 for record in storage.find(_all()) if record.task == "later"]) == 2


def _all() -> JobQuery:

    return JobQuery()


def test_forks_and_children_of_the_pool_agree(tmp_path: Path) -> None:
    """Both are started when the current folder is another one already."""
    (tmp_path / "other").mkdir()
    (tmp_path / "shop.py").write_text(
        textwrap.dedent("""
        from jobify import Jobify, RunMode
        app = Jobify()

        @app.task(name="where", run_mode=RunMode.PROCESS)
        def where():
            return app.configs.storage.database
        """)
    )
    said = _run(
        tmp_path,
        """
        import asyncio, os
        from shop import app, where

        async def main():
            os.chdir("other")
            async with app:
                print(await (await where.push()))

        if __name__ == "__main__":
            asyncio.run(main())
            child = os.fork()
            if child == 0:
                print(app.configs.storage.database, flush=True)
                app.enqueue("where")
                app.close()
                os._exit(0)
            os.waitpid(child, 0)
        """,
    )
    assert said.split() == [str(tmp_path / "jobify.db")] * 2
    assert list((tmp_path / "other").iterdir()) == []


def test_the_commands_show_where_the_database_is(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text("from jobify import Jobify\napp = Jobify()\n")
    for command in (["db", "migrate"], ["db", "check"]):
        done = subprocess.run(
            [sys.executable, "-m", "jobify", *command, "--app", "shop:app"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert str(tmp_path / "jobify.db") in done.stdout


def test_a_current_folder_that_was_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    with pytest.raises(ConfigurationError, match="current folder"):
        SQLiteStorage("jobs.db")
    assert SQLiteStorage("/nowhere/jobs.db").database == "/nowhere/jobs.db"
    assert SQLiteStorage(":memory:").database == ":memory:"
