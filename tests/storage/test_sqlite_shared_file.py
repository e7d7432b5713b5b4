"""Jobs in a file with the tables of another program."""

from __future__ import annotations

import os
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from jobify.exceptions import StorageError, StorageVersionError
from jobify.storage import SQLiteStorage
from jobify.storage.sqlite import maintenance
from jobify.storage.sqlite.health import read_vitals
from jobify.storage.sqlite.schema import migrations
from jobify.storage.sqlite.table_names import object_names, prefixed
from jobify.testing.rows import job as new_job

SHOP = """
CREATE TABLE orders (id INTEGER PRIMARY KEY, item TEXT);
CREATE TABLE jobs (id INTEGER PRIMARY KEY, title TEXT);
CREATE INDEX jobs_ready ON jobs (title);
INSERT INTO orders (item) VALUES ('cat');
INSERT INTO jobs (title) VALUES ('painter');
"""


def _shop(path: Path, *, mode: str = "wal") -> Path:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA page_size = 8192")
        connection.execute(f"PRAGMA journal_mode = {mode}")
        connection.executescript(SHOP)
        connection.execute("PRAGMA user_version = 7")
        connection.execute("PRAGMA application_id = 99")
    return path


def _open(path: Path, **options: Any) -> SQLiteStorage:
    storage = SQLiteStorage(path, **options)
    storage.open()
    return storage


def _ask(path: Path, question: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(question).fetchall()


def _foreign(path: Path) -> list[Any]:
    """What the file has of the shop."""
    found = [_ask(path, f"PRAGMA {name}") for name in ("user_version", "application_id", "page_size", "journal_mode")]
    objects = _ask(path, "SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE 'jobify_%' ORDER BY name")
    ours = ("sqlite_autoindex_jobify_", "sqlite_sequence")
    others = [row for row in objects if not row[1].startswith(ours)]
    return [*found, others, _ask(path, "SELECT * FROM orders"), _ask(path, "SELECT * FROM jobs")]


def test_tables_of_jobs_live_beside_others_and_change_nothing_of_them(tmp_path: Path) -> None:
    path = _shop(tmp_path / "shop.db")
    before = _foreign(path)
    with closing(_open(path)) as storage:
        assert storage.insert([new_job("a")]) == [True]
        assert [record.id for record in storage.get(["a"])] == ["a"]
    assert _foreign(path) == before
    assert _ask(path, "SELECT id FROM jobify_jobs") == [("a",)]
    assert _ask(path, "SELECT version FROM jobify_schema") == [(len(migrations()),)]
    with closing(_open(path)) as storage:
        assert [record.id for record in storage.get(["a"])] == ["a"]


def test_every_object_of_ours_has_the_prefix(tmp_path: Path) -> None:
    path = _shop(tmp_path / "shop.db")
    _open(path).close()
    with closing(_open(tmp_path / "own.db")):
        own = _ask(tmp_path / "own.db", "SELECT type, name, tbl_name, sql FROM sqlite_master WHERE sql IS NOT NULL")
    shared = _ask(
        path,
        "SELECT type, name, tbl_name, sql FROM sqlite_master WHERE name LIKE 'jobify_%' AND name <> 'jobify_schema'",
    )
    strip = re.compile(r"--.*|\s+|\"")
    wanted = {
        (kind, f"jobify_{name}", f"jobify_{table}", strip.sub("", prefixed(sql)))
        for kind, name, table, sql in own
        if name in object_names()
    }
    assert {(kind, name, table, strip.sub("", sql)) for kind, name, table, sql in shared} == wanted


def test_a_file_without_a_log_is_refused_with_the_command(tmp_path: Path) -> None:
    path = _shop(tmp_path / "shop.db", mode="delete")
    before = path.read_bytes()
    with pytest.raises(StorageError, match=r"journal mode 'delete'.*PRAGMA journal_mode = WAL"):
        _open(path)
    assert path.read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["shop.db"]


def test_a_new_file_may_be_meant_for_other_tables(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    with closing(_open(path, own_file=False)) as storage:
        storage.insert([new_job("a")])
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(SHOP)
    assert _ask(path, "PRAGMA user_version") == [(0,)]
    assert _ask(path, "PRAGMA application_id") == [(0,)]
    with closing(_open(path)) as storage:
        assert [record.id for record in storage.get(["a"])] == ["a"]


def test_a_file_of_our_own_gets_no_prefix(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    _open(path).close()
    with pytest.raises(StorageError, match="Jobify alone"):
        _open(path, own_file=False)


def test_a_table_that_has_one_of_our_names_is_not_touched(tmp_path: Path) -> None:
    path = _shop(tmp_path / "shop.db")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE jobify_jobs (x)")
    before = _ask(path, "SELECT name, sql FROM sqlite_master ORDER BY 1")
    with pytest.raises(StorageError, match="jobify_jobs"):
        _open(path)
    assert _ask(path, "SELECT name, sql FROM sqlite_master ORDER BY 1") == before


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    path = _shop(tmp_path / "shop.db")
    _open(path).close()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE jobify_schema SET version = 999")
    with pytest.raises(StorageVersionError, match="999"):
        _open(path)


def test_a_vacuum_and_a_migration_of_the_other_program_harm_nothing(tmp_path: Path) -> None:
    path = _shop(tmp_path / "shop.db")
    with closing(_open(path)) as storage:
        storage.insert([new_job("a")])
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.executescript("""
                BEGIN; CREATE TABLE new_orders (id INTEGER PRIMARY KEY, item TEXT, price REAL);
                INSERT INTO new_orders (id, item) SELECT id, item FROM orders;
                DROP TABLE orders; ALTER TABLE new_orders RENAME TO orders; COMMIT;
            """)
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        storage.insert([new_job("b")])
        assert sorted(record.id for record in storage.get(["a", "b"])) == ["a", "b"]
    assert _ask(path, "PRAGMA integrity_check") == [("ok",)]


def test_the_file_is_checked_and_copied(tmp_path: Path) -> None:
    path = _shop(tmp_path / "shop.db")
    assert not maintenance.is_ours(path)
    with closing(_open(path)) as storage:
        storage.insert([new_job("a")])
        assert read_vitals(str(path), now=10**16, timeout=5.0).oldest is not None
        assert storage.backup(tmp_path / "copy.db").jobs == 1
    health = maintenance.check(path)
    assert (health.is_well, health.jobs, health.version) == (True, 1, len(migrations()))
    assert maintenance.is_ours(path)
    assert maintenance.schema_version(path) == len(migrations())
