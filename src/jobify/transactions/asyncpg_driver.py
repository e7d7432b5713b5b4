"""``Connection`` of asyncpg, also one that its pool has lent.

asyncpg prepares each statement with parameters, keeps it, and converts values by codecs that the user may have chosen
for the connection. Neither must matter or change, so nothing is prepared here: values are written into the text of a
statement as literals (:func:`with_literals`), and answers are read from ``COPY ... TO STDOUT``, each row
as JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

from jobify.storage.transactions import Answer
from jobify.transactions.commits import notify_after_commit
from jobify.transactions.port import AwaitedConnection, Stored

__all__ = ("AsyncpgConnection", "literal")


_WRITES: Final = re.compile(r"\b(INSERT INTO|DELETE FROM|(?<!FOR NO KEY )UPDATE)\s")
_READS: Final = re.compile(r"\s*(SELECT|WITH)\b")


class _Statements:
    dialect = "postgresql"

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    @property
    def connection(self) -> object:
        """Of what a pool has lent, the connection itself."""
        return getattr(self._connection, "_con", self._connection)

    @property
    def is_in_transaction(self) -> bool:
        return bool(self._connection.is_in_transaction())

    async def execute(self, statement: str, parameters: Sequence[Any] = ()) -> Answer:
        query = _answering(statement)
        if query is None:
            status = await self._connection.execute(with_literals(statement, parameters))
            count = status.rpartition(" ")[2]
            return Answer(rowcount=int(count) if count.isdigit() else -1)
        parts: list[bytes] = []

        async def take(data: bytes) -> None:
            parts.append(bytes(data))

        await self._connection.copy_from_query(with_literals(query, parameters), output=take, encoding="utf-8")
        rows = [_row(line) for line in b"".join(parts).decode().splitlines()]
        return Answer(rows, len(rows))


@lru_cache(1000)
def _answering(statement: str) -> str | None:
    """A query whose rows are the answers of a statement, each as JSON. None: it has no answer."""
    if "RETURNING" in statement:
        return f"WITH answer AS ({statement}) SELECT row_to_json(answer) FROM answer"
    if _READS.match(statement) and not _WRITES.search(statement):
        return f"SELECT row_to_json(answer) FROM ({statement}) AS answer"
    return None


def _row(line: str) -> tuple[Any, ...]:
    """A line of ``COPY``, which doubles backslashes. Two columns may have one name, so a row is no dict."""
    row: tuple[Any, ...] = json.loads(line.replace("\\\\", "\\"), object_pairs_hook=_values)
    return row


def _values(pairs: list[tuple[str, Any]]) -> tuple[Any, ...]:
    return tuple([value for _, value in pairs])


class AsyncpgConnection(AwaitedConnection):
    """See :class:`~jobify.transactions.port.UserConnection`."""

    def __init__(self, connection: Any) -> None:
        super().__init__(connection, _Statements(connection))

    def after_commit(self, stored: Stored) -> None:
        notify_after_commit(stored, is_in_transaction=self._statements.is_in_transaction)


# -- literals ----------------------------------------------------------------------------------------------------------
# Values as literals of PostgreSQL, for a driver whose parameters depend on settings of the connection.
#
# A literal is pure ASCII and means the same under any setting of the session (``standard_conforming_strings``,
# ``client_encoding``, ``backslash_quote``): a text is in ``E''`` quotes, with a backslash doubled, a quote doubled, and
# any other character beyond ASCII as its code point.

_PLACEHOLDER: Final = re.compile(r"\$(\d+)")


def with_literals(statement: str, parameters: Sequence[Any]) -> str:
    """The statement with each ``$1`` replaced."""
    if not parameters:
        return statement
    literals = [literal(value) for value in parameters]
    return _PLACEHOLDER.sub(lambda match: literals[int(match[1]) - 1], statement)


def literal(value: Any) -> str:
    """A value as it stands in a statement: None, a boolean, a number, a text, bytes, or a list of one of these."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return f"({value})"
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, list):
        return _quoted("{" + ",".join([_element(one) for one in value]) + "}")
    if isinstance(value, float):
        return f"{_quoted(repr(value))}::float8"
    if isinstance(value, bytes):
        return rf"E'\\x{value.hex()}'::bytea"
    raise TypeError(f"{type(value).__name__} has no literal")


def _element(value: Any) -> str:
    """A value as it stands in the text of an array."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "t" if value else "f"
    if isinstance(value, str):
        return '"{}"'.format(value.replace("\\", "\\\\").replace('"', '\\"'))
    if isinstance(value, bytes):
        return rf'"\\x{value.hex()}"'
    return repr(value)


def _quoted(text: str) -> str:
    text = text.replace("\\", "\\\\").replace("'", "''")
    if not text.isascii():
        text = "".join([one if one.isascii() else f"\\U{ord(one):08x}" for one in text])
    return f"E'{text}'"
