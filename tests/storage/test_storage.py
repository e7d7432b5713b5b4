"""The storage contract over every storage of the house."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import psycopg
import pytest

from jobify.storage import PostgresStorage, SQLiteStorage, Storage
from jobify.storage.memory import MemoryStorage
from jobify.testing.storage_contract import SharedStorageContract, StorageContract


@pytest.mark.slow
class TestMemoryStorage(StorageContract):
    def new_storage(self, directory: Path) -> Storage:
        return MemoryStorage()


class TestSQLiteStorage(StorageContract, SharedStorageContract):
    def new_storage(self, directory: Path) -> Storage:
        return SQLiteStorage(directory / "jobs.db", synchronous="normal")


@pytest.mark.slow
class TestSQLiteStorageBesideOtherTables(StorageContract, SharedStorageContract):
    def new_storage(self, directory: Path) -> Storage:
        return SQLiteStorage(directory / "shop.db", synchronous="normal", own_file=False)


class TestSQLiteStorageInFull(SharedStorageContract):
    def new_storage(self, directory: Path) -> Storage:
        return SQLiteStorage(directory / "jobs.db")


_SCHEMAS = count()


class TestPostgresStorage(StorageContract, SharedStorageContract):
    """Each test in a schema of its own, which is made in a fifth of the time that a database takes."""

    @pytest.fixture(autouse=True)
    def _at(self, postgres_template: str) -> Iterator[None]:
        self.url, self.schema = postgres_template, f"storage_{os.getpid()}_{next(_SCHEMAS)}"
        yield
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(f"DROP SCHEMA IF EXISTS {self.schema} CASCADE")

    def new_storage(self, directory: Path) -> Storage:
        return PostgresStorage(self.url, schema=self.schema)
