"""How a connection is opened, and how one is closed whose file was replaced."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Final
from urllib.parse import quote

from jobify.exceptions import StorageUnavailableError
from jobify.storage.sqlite.errors import raise_claim_lost
from jobify.storage.sqlite.file_identity import FileIdentity

__all__ = ("FIRST_READ", "LONG_LOG", "checkpoint", "close", "connect", "version_without_waiting")

LONG_LOG: Final = 4_120_000
"""Bytes of a log that is worth a checkpoint: as many as a thousand pages of SQLite's usual size, with their heads."""

FIRST_READ: Final = "PRAGMA user_version"
"""Reads a page, for which SQLite opens the log and the shared memory."""

_CACHED_STATEMENTS = 256
_SETTINGS = (
    "PRAGMA cache_size = -8000",  # kB
    "PRAGMA temp_store = MEMORY",
    f"PRAGMA journal_size_limit = {LONG_LOG}",  # a log that starts over is cut to this: one that is longer is in use
    "PRAGMA wal_autocheckpoint = 0",
    "PRAGMA trusted_schema = OFF",
)


def connect(path: str, identity: FileIdentity, *settings: str) -> sqlite3.Connection:
    """A connection to the database at ``path``: to the file that was opened before, or to a new one if none was."""
    if not identity.is_known:
        return _connected(path, (*_SETTINGS, *settings), is_address=False)
    identity.before_connecting()
    address = f"file:{quote(os.fsencode(path))}?mode=rw"  # makes no file
    connection = _connected(address, (*_SETTINGS, *settings, FIRST_READ), is_address=True)
    try:
        identity.connected()
    except BaseException:
        connection.close()
        raise
    return connection


def checkpoint(writer: sqlite3.Connection | None) -> None:
    """Copy the log into the database as far as possible without blocking. What fails is tried again later."""
    with suppress(sqlite3.Error):
        if writer is not None:
            writer.execute("PRAGMA wal_checkpoint(PASSIVE)")


def version_without_waiting(writer: sqlite3.Connection) -> int:
    """The version of the data, which changes with each commit of another connection."""
    try:
        version: int = writer.execute("PRAGMA data_version").fetchone()[0]
    except sqlite3.Error as error:
        raise StorageUnavailableError("The database cannot be read without waiting just now.") from error
    return version


def close(connections: Iterable[sqlite3.Connection | None], identity: FileIdentity) -> None:
    """Close them; a log whose database was replaced is not copied into the new one."""
    identity.disconnecting()
    for connection in connections:
        if connection is not None:
            if identity.is_lost:
                _keep_from_copying_the_log(connection)
            connection.close()
    identity.disconnected()


def _connected(file: str, settings: Sequence[str], *, is_address: bool) -> sqlite3.Connection:
    connection = sqlite3.connect(
        file,
        timeout=0,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=_CACHED_STATEMENTS,
        uri=is_address,
    )
    try:
        for setting in settings:
            connection.execute(setting)
    except BaseException:
        connection.close()
        raise
    connection.create_function("claim_lost", 0, raise_claim_lost)
    return connection


def _keep_from_copying_the_log(connection: sqlite3.Connection) -> None:
    option = getattr(sqlite3, "SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE", None)
    if option is not None:  # else, before Python 3.12, the locks of the identity keep it from that
        connection.setconfig(option, True)  # type: ignore[attr-defined,unused-ignore]
