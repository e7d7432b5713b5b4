"""The storage contract over every storage of the house."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from jobify.storage import PostgresStorage, SQLiteStorage, Storage
from jobify.storage.memory import MemoryStorage
from jobify.testing.storage_contract import SharedStorageContract, StorageContract
from jobify.testing.storage_contract.depending import DependencyContract
from jobify.testing.storage_contract.grouping import CascadeContract, GroupContract
from jobify.testing.storage_contract.needing import NeedContract
from jobify.testing.storage_contract.reading import ListContract, ReadContract, RelationContract
from jobify.testing.storage_contract.reviving import ReviveContract
from postgres_server import EMPTY, TestDatabases
from support import durable, prepare


@pytest.mark.slow
class TestMemoryStorage(StorageContract):
    def new_storage(self, directory: Path) -> Storage:
        return MemoryStorage()


class TestSQLiteStorage(StorageContract, SharedStorageContract):
    def new_storage(self, directory: Path) -> Storage:
        return durable(directory)


@pytest.mark.slow
class TestSQLiteStorageBesideOtherTables(StorageContract, SharedStorageContract):
    def new_storage(self, directory: Path) -> Storage:
        prepare(directory / "shop.db", own_file=False)
        return SQLiteStorage(directory / "shop.db", synchronous="normal", own_file=False)


class TestSQLiteStorageInFull(SharedStorageContract):
    def new_storage(self, directory: Path) -> Storage:
        return SQLiteStorage(directory / "jobs.db")


@pytest.fixture(scope="session")
def shared_url(postgres_databases: TestDatabases, postgres_template: str) -> Iterator[str]:
    """The URL of a database for all tests of the contract in this process."""
    url = postgres_databases.create(postgres_template)
    yield url
    postgres_databases.drop(url)


@pytest.fixture(scope="session")
def empty_shared_database(shared_url: str) -> Iterator[Callable[[], None]]:
    """Makes that database as it was: to make one, or a schema, takes ten times as long as to delete a few rows."""
    with psycopg.connect(shared_url, autocommit=True) as connection:

        def empty() -> None:
            connection.execute(EMPTY)

        yield empty


@pytest.mark.slow
class TestPostgresStorage(StorageContract, SharedStorageContract):
    @pytest.fixture(autouse=True)
    def _at(self, shared_url: str, empty_shared_database: Callable[[], None]) -> Iterator[None]:
        self.url = shared_url
        yield
        empty_shared_database()

    def new_storage(self, directory: Path) -> Storage:
        return PostgresStorage(self.url)


@pytest.mark.slow
class TestPostgresStorageBehindAPooler(
    CascadeContract, DependencyContract, GroupContract, NeedContract, ReviveContract
):
    """No setting of ours holds there, so joins are planned as the server likes: what depends on the order of rows."""

    @pytest.fixture(autouse=True)
    def _at(self, shared_url: str, empty_shared_database: Callable[[], None]) -> Iterator[None]:
        self.url = shared_url
        yield
        empty_shared_database()

    def new_storage(self, directory: Path) -> Storage:
        return PostgresStorage(self.url, notify="poll")


@pytest.fixture(scope="module")
def parallel_url(postgres_databases: TestDatabases, postgres_template: str) -> Iterator[str]:
    """The URL of a database in which the server reads every table by several workers, if it may."""
    url = postgres_databases.create(postgres_template)
    settings = "min_parallel_table_scan_size min_parallel_index_scan_size parallel_setup_cost parallel_tuple_cost"
    with psycopg.connect(url, autocommit=True) as connection:
        for setting in settings.split():
            connection.execute(f'ALTER DATABASE "{connection.info.dbname}" SET {setting} = 0'.encode())
    yield url
    postgres_databases.drop(url)


@pytest.mark.slow
class TestPostgresStorageWithParallelPlans(ListContract, ReadContract, RelationContract):
    """As with large tables: a worker of the server cannot call every function."""

    @pytest.fixture(autouse=True)
    def _at(self, parallel_url: str) -> Iterator[None]:
        self.url = parallel_url
        yield
        with psycopg.connect(parallel_url, autocommit=True) as connection:
            connection.execute(EMPTY)

    def new_storage(self, directory: Path) -> Storage:
        return PostgresStorage(self.url)
