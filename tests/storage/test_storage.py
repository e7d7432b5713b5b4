"""The storage contract over every storage of the house."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobify.storage import SQLiteStorage, Storage
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
