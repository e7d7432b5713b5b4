"""The connections of a process: at most three. One writes, one reads and claims, one listens.

Each is opened at its first use, and again after it was lost. A lost connection costs the call that meets it an error at
most; one that the server has closed while it was idle is noticed before anything is sent, and costs nothing.

Settings of a session, and why: plans are made once for a statement and not for its parameters, so that they never
depend on the parameters that happened to come first (``plan_cache_mode``); sequential scans are for tables without a
useful index, and the planner must not choose one because a table was empty when it looked (``enable_seqscan``). Both
sides send probes on an idle connection and give up what is not acknowledged, so that a network that was cut is noticed.
What the server sends into a cut network, a notification, ends its probes and begins its wait for an acknowledgement: so
it is the sum of both times, 5 and 5 seconds, after which a process that was cut off has surely lost its lock. With the
time that others wait for it to come back, that is less than 15 seconds. Two probes may be lost on the way.
"""

from __future__ import annotations

import select
from typing import Any, Final

import psycopg
from psycopg import RawCursor
from psycopg.conninfo import conninfo_to_dict
from psycopg.types.bool import BoolBinaryDumper
from psycopg.types.numeric import FloatBinaryDumper, Int8BinaryDumper
from psycopg.types.string import BytesBinaryDumper, StrBinaryDumper

from jobify.storage.postgres.arrays import DUMPERS

__all__ = ("Connection", "connect", "is_gone")

Connection = psycopg.Connection[tuple[Any, ...]]

KEEPALIVES: Final = {
    "keepalives": 1,
    "keepalives_idle": 3,
    "keepalives_interval": 1,
    "keepalives_count": 3,
    "tcp_user_timeout": 5_000,
    "connect_timeout": 10,
}
"""Of the client's side, as libpq names them. The URL may say otherwise."""

_SETTINGS: Final = {
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "jit": "off",
    "client_encoding": "UTF8",
    "bytea_output": "hex",
    "tcp_keepalives_idle": "3",
    "tcp_keepalives_interval": "1",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "5000",
}

_PREPARED: Final = 500
"""Statements that a connection keeps prepared."""


def connect(url: str, *, application_name: str, is_pooled: bool = False) -> Connection:
    """A connection on which each statement is a transaction by itself.

    ``is_pooled``: a pooler gives each transaction another one, so that nothing of a session stays: no setting, and no
    statement that is prepared.
    """
    given = conninfo_to_dict(url)
    defaults = {name: value for name, value in KEEPALIVES.items() if name not in given}
    connection = psycopg.connect(
        url,
        autocommit=True,
        cursor_factory=RawCursor,
        prepare_threshold=None if is_pooled else 0,
        fallback_application_name=application_name,
        **defaults,  # type: ignore[arg-type]
    )
    try:
        connection.prepared_max = _PREPARED
        adapters = connection.adapters
        adapters.register_dumper(int, Int8BinaryDumper)
        adapters.register_dumper(str, StrBinaryDumper)
        adapters.register_dumper(bytes, BytesBinaryDumper)
        adapters.register_dumper(bool, BoolBinaryDumper)
        adapters.register_dumper(float, FloatBinaryDumper)
        for kind, dumper in DUMPERS.items():
            adapters.register_dumper(kind, dumper)
        if not is_pooled:
            names = ", ".join(f"set_config('{name}', '{value}', false)" for name, value in _SETTINGS.items())
            connection.execute(f"SELECT {names}".encode(), prepare=False)
    except BaseException:
        connection.close()
        raise
    return connection


def is_gone(connection: Connection) -> bool:
    """Whether an idle connection was closed, by either side. Asks the kernel, not the server."""
    if connection.closed:
        return True
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    if not poll.poll(0):
        return False
    try:
        connection.pgconn.consume_input()  # a notice; or the last words of the server
        while poll.poll(0):
            connection.pgconn.consume_input()
    except psycopg.Error:
        return True
    return connection.pgconn.status != psycopg.pq.ConnStatus.OK
