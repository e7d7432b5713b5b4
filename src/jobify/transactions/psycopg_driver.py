"""``Connection`` and ``AsyncConnection`` of psycopg 3.

Statements run on cursors of our own. What the user has chosen for the connection does not reach them: their rows are
tuples, their adapters are those below, and nothing is prepared, because that would stay on the connection.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Generic, TypeVar

import psycopg
from psycopg import AsyncRawCursor, RawCursor
from psycopg.abc import Buffer
from psycopg.adapt import AdaptersMap, Dumper, Loader
from psycopg.pq import Format, TransactionStatus
from psycopg.rows import TupleRow, tuple_row
from psycopg.types.array import ListDumper
from psycopg.types.bool import BoolBinaryDumper, BoolBinaryLoader, BoolDumper
from psycopg.types.none import NoneDumper
from psycopg.types.numeric import (
    Float8BinaryLoader,
    FloatBinaryDumper,
    FloatDumper,
    Int2BinaryLoader,
    Int4BinaryLoader,
    Int8BinaryDumper,
    Int8BinaryLoader,
    Int8Dumper,
    OidBinaryLoader,
)
from psycopg.types.string import ByteaBinaryLoader, BytesBinaryDumper, StrBinaryDumper, StrDumper

from jobify.storage.transactions import Answer
from jobify.transactions.commits import notify_after_commit
from jobify.transactions.port import AwaitedConnection, BlockingConnection, Stored, Work

__all__ = ("AsyncPsycopgConnection", "PsycopgConnection")

T = TypeVar("T")
ConnectionT = TypeVar("ConnectionT", psycopg.Connection[Any], psycopg.AsyncConnection[Any])


class _TextLoader(Loader):
    """A text in the encoding of the connection; psycopg's own gives bytes where there is none (``SQL_ASCII``)."""

    format = Format.BINARY

    def load(self, data: Buffer) -> str:
        encoding = "utf-8" if self.connection is None else self.connection.info.encoding
        return bytes(data).decode("utf-8" if encoding == "ascii" else encoding)


class _BytesDumper(Dumper):
    """Bytes in a list. psycopg's own doubles their backslash if ``standard_conforming_strings`` is off."""

    oid = 17

    def dump(self, obj: bytes) -> Buffer:
        return b"\\x" + obj.hex().encode()


def _plain_adapters() -> AdaptersMap:
    """For the types that a storage gives and gets, and whatever is registered elsewhere."""
    adapters = AdaptersMap(types=psycopg.adapters.types)
    for kind, text, binary in (
        (int, Int8Dumper, Int8BinaryDumper),
        (float, FloatDumper, FloatBinaryDumper),
        (str, StrDumper, StrBinaryDumper),
        (bytes, _BytesDumper, BytesBinaryDumper),
        (bool, BoolDumper, BoolBinaryDumper),
        (type(None), NoneDumper, NoneDumper),
    ):
        adapters.register_dumper(kind, text)
        adapters.register_dumper(kind, binary)
    adapters.register_dumper(list, ListDumper)
    for name, loader in (
        (0, _TextLoader),  # any other type
        ("int2", Int2BinaryLoader),
        ("int4", Int4BinaryLoader),
        ("int8", Int8BinaryLoader),
        ("oid", OidBinaryLoader),
        ("float8", Float8BinaryLoader),
        ("bool", BoolBinaryLoader),
        ("bytea", ByteaBinaryLoader),
    ):
        adapters.register_loader(name, loader)
    return adapters


_ADAPTERS: Final = _plain_adapters()


class _Cursor(RawCursor[TupleRow]):
    @property
    def adapters(self) -> AdaptersMap:
        return _ADAPTERS


class _AsyncCursor(AsyncRawCursor[TupleRow]):
    @property
    def adapters(self) -> AdaptersMap:
        return _ADAPTERS


class _OnServer(Generic[ConnectionT]):
    dialect = "postgresql"

    def __init__(self, connection: ConnectionT) -> None:
        self.connection: ConnectionT = connection

    @property
    def is_in_transaction(self) -> bool:
        """On a connection that is not set to commit each statement psycopg begins a transaction by itself."""
        return not self.connection.autocommit or self.connection.info.transaction_status != TransactionStatus.IDLE


class _Statements(_OnServer[psycopg.Connection[Any]]):
    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> Answer:
        with _Cursor(self.connection, row_factory=tuple_row) as cursor:
            cursor.execute(statement.encode(), parameters, prepare=False, binary=True)
            return Answer([] if cursor.description is None else cursor.fetchall(), cursor.rowcount)


class PsycopgConnection(BlockingConnection):
    """See :class:`~jobify.transactions.port.UserConnection`. The driver says nothing of a commit."""

    tells_commits = False

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection

    def run(self, work: Work[T]) -> T:
        return work(_Statements(self._connection))

    def after_commit(self, stored: Stored) -> None:
        notify_after_commit(stored, is_in_transaction=_Statements(self._connection).is_in_transaction)


class _AwaitedStatements(_OnServer[psycopg.AsyncConnection[Any]]):
    async def execute(self, statement: str, parameters: Sequence[Any] = ()) -> Answer:
        async with _AsyncCursor(self.connection, row_factory=tuple_row) as cursor:
            await cursor.execute(statement.encode(), parameters, prepare=False, binary=True)
            return Answer([] if cursor.description is None else await cursor.fetchall(), cursor.rowcount)


class AsyncPsycopgConnection(AwaitedConnection):
    """See :class:`~jobify.transactions.port.UserConnection`."""

    def __init__(self, connection: psycopg.AsyncConnection[Any]) -> None:
        super().__init__(connection, _AwaitedStatements(connection))

    def after_commit(self, stored: Stored) -> None:
        notify_after_commit(stored, is_in_transaction=self._statements.is_in_transaction)
