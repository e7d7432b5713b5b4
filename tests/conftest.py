"""Puts this directory on the path: what several tests share is in ``support``. And no test is about how long it took:
hypothesis allows an example 200 ms, which a busy machine may need for anything.

A shell starts what runs in the background with SIGINT ignored, nohup with SIGHUP, and every process that a test starts
would ignore them, too."""

from __future__ import annotations

import gc
import inspect
import os
import signal
from collections.abc import Generator, Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
from hypothesis import settings

from postgres_server import PostgresServer, SpareDatabases, TestDatabases, shared_server
from support import MEASURED, jobs_in, run

settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


TESTS = Path(__file__).parent
FAST_FOLDERS = {
    "app", "checklist", "crontab", "engine", "gateway", "jobs", "middleware", "model", "router", "runtime",
    "serializers", "storage", "typeadapter",
}  # fmt: skip
"""Where a test is fast unless it is marked as slow. Elsewhere all are slow: they start programs, or wait for much."""
UNMEASURED = {
    "client", "crash", "docs", "e2e", "lifecycle", "races", "transactions",
    "worker/test_supervisor.py", "worker/test_worker_forks.py",
}  # fmt: skip
"""Where coverage leaves out the programs that tests start: they run what is measured elsewhere, and twice as fast. A
mark does that for a test: ``unmeasured``."""


def folder_of(path: Path) -> str:
    """The folder of tests that a path is in; empty for what lies beside the folders."""
    parts = path.relative_to(TESTS).parts if path.is_relative_to(TESTS) else ()
    return parts[0] if parts and (TESTS / parts[0]).is_dir() else ""


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not even read slow tests when the fast ones are asked for."""
    folder = folder_of(collection_path)
    is_slow = folder and (folder not in FAST_FOLDERS or collection_path.name.startswith("test_postgres_"))
    return True if is_slow and config.option.markexpr == "fast" else None


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(collector: pytest.Collector, obj: object) -> list[pytest.Item] | None:
    """Do not make six thousand tests of the storage contract, either, over what is not asked for."""
    marks = getattr(obj, "pytestmark", ()) if inspect.isclass(obj) else ()
    is_slow = any(mark.name == "slow" for mark in marks)
    return [] if is_slow and collector.config.option.markexpr == "fast" else None


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--storage",
        choices=["sqlite", "postgres"],
        help="where the jobs of all tests are that do not choose it themselves (default: sqlite; both for the tests "
        "that are marked with it)",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what is marked over both storages."""
    if metafunc.definition.get_closest_marker("both_storages") and metafunc.config.option.storage is None:
        metafunc.parametrize("jobs_on", ["sqlite", "postgres"], indirect=True)


def parameters_of(item: pytest.Item) -> dict[str, object]:
    """The values with which a parametrized test is called."""
    return dict(item.callspec.params) if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}


def is_pointless(item: pytest.Item, storage: str | None) -> bool:
    """Whether the jobs of a test are elsewhere than they are to be: in a file, because that is what it is about, or in
    memory."""
    given = parameters_of(item)
    is_fixed = "memory" in given.values() or "sqlite_file" in getattr(item, "fixturenames", ())
    return is_fixed and given.get("jobs_on", storage) == "postgres"


def is_fast(item: pytest.Item) -> bool:
    """Whether a test belongs to the inner loop, which starts no server."""
    if not isinstance(item, pytest.Function):  # a doctest
        return folder_of(item.path) in FAST_FOLDERS
    has_server = item.path.name.startswith("test_postgres_") or "postgres_databases" in item.fixturenames
    is_moved = parameters_of(item).get("jobs_on") == "postgres"
    return folder_of(item.path) in FAST_FOLDERS and not (has_server or is_moved)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what would be done twice, and mark each test as fast or slow."""
    pointless = [item for item in items if is_pointless(item, config.option.storage)]
    config.hook.pytest_deselected(items=pointless)
    items[:] = [item for item in items if item not in set(pointless)]
    for item in items:
        if item.get_closest_marker("slow") is None:
            item.add_marker("fast" if is_fast(item) else "slow")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Take ten thousand tests out of each later garbage collection: they stay until the end."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


@pytest.fixture(autouse=True)
def unmeasured_programs(request: pytest.FixtureRequest) -> Iterator[None]:
    """Do not measure the programs that a test starts, where that finds nothing new."""
    path, folder = request.path, folder_of(request.path)
    is_marked = request.node.get_closest_marker("unmeasured") is not None
    is_unmeasured = is_marked or not UNMEASURED.isdisjoint((folder, f"{folder}/{path.name}"))
    kept = {name: os.environ.pop(name) for name in MEASURED & os.environ.keys() if is_unmeasured}
    yield
    os.environ.update(kept)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Run each ``async def`` test in an event loop of its own, which ends before the fixtures do."""
    test = pyfuncitem.obj
    if inspect.iscoroutinefunction(test):
        pyfuncitem.obj = lambda **arguments: run(test(**arguments))
    return (yield)


# -- PostgreSQL --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def postgres_databases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestDatabases]:
    """The server of this session, or the one that ``JOBIFY_TEST_POSTGRES`` names: its role must be a superuser."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    named = os.environ.get("JOBIFY_TEST_POSTGRES")
    with nullcontext(named) if named else shared_server(shared) as url:
        databases = TestDatabases(url)
        try:
            yield databases
        finally:
            databases.close()


@pytest.fixture(scope="session")
def postgres_template(postgres_databases: TestDatabases) -> str:
    """A database that Jobify has prepared, to be copied."""
    from jobify.storage import PostgresStorage  # imports psycopg, which few tests need

    url = postgres_databases.create()
    storage = PostgresStorage(url)
    storage.open()
    storage.close()
    return url


@pytest.fixture(scope="session")
def spare_databases(postgres_databases: TestDatabases, postgres_template: str) -> SpareDatabases:
    """Databases with the tables of Jobify, to be used one after the other."""
    return SpareDatabases(postgres_databases, postgres_template)


@pytest.fixture(autouse=True)
def jobs_on(request: pytest.FixtureRequest) -> Iterator[str]:
    """The storage that ``support.durable`` gives: that of ``--storage``, or SQLite."""
    kind: str = getattr(request, "param", request.config.option.storage) or "sqlite"
    if kind == "sqlite":
        yield kind
        return
    spare: SpareDatabases = request.getfixturevalue("spare_databases")
    with jobs_in(spare.take) as urls:
        yield kind
        for url in urls:
            spare.give_back(url)


@pytest.fixture
def sqlite_file(tmp_path: Path) -> Path:
    """The file that ``support.durable(tmp_path)`` uses. A test with this fixture is about SQLite, or about files: it is
    left out where the jobs are in PostgreSQL."""
    return tmp_path / "jobs.db"


@pytest.fixture
def empty_postgres(postgres_databases: TestDatabases) -> Iterator[str]:
    """The URL of a database of this test, in which there is nothing."""
    url = postgres_databases.create()
    yield url
    postgres_databases.drop(url)


@pytest.fixture
def postgres_url(postgres_databases: TestDatabases, postgres_template: str) -> Iterator[str]:
    """The URL of a database of this test, with the tables of Jobify and no row."""
    url = postgres_databases.create(postgres_template)
    yield url
    postgres_databases.drop(url)


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """A server of this test alone, which it may stop, kill and start again."""
    server = PostgresServer()
    server.start()
    yield server
    server.remove()
