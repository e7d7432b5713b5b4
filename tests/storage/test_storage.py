"""The storage contract over every storage of the house."""

from __future__ import annotations

from pathlib import Path

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


class TestSQLiteStorageInFull(SharedStorageContract):
    def new_storage(self, directory: Path) -> Storage:
        return SQLiteStorage(directory / "jobs.db")


class TestPostgresStorage(StorageContract, SharedStorageContract):
    @pytest.fixture(autouse=True)
    def _at(self, postgres_url: str) -> None:
        self.url = postgres_url

    def new_storage(self, directory: Path) -> Storage:
        return PostgresStorage(self.url)
