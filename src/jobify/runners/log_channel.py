"""How log records and levels travel between a child process and its parent.

Each child has a socket of its own for records, apart from the one for calls and replies: a record is read at once, also
while the child is idle or imports modules, and a flood of records delays no reply.

The socket keeps the boundaries of messages, so that a record arrives whole or not at all. The sender needs no lock: a
signal handler that logs in the middle of a send cannot deadlock, a fork of the child can use the same socket, and a
child that is killed leaves no half record. What was sent before the child died can still be read.

A record is formatted by the parent, so it keeps its template and its arguments if these are plain values. Any other
value is replaced by its text in the child: reading a record runs no code of the user's classes, except to rebuild the
exception that the record is about (:mod:`jobify.runners.remote_errors`).
"""

from __future__ import annotations

import errno
import logging
import pickle
import socket
from contextlib import suppress
from typing import Any, Final, NamedTuple

from jobify.runners.remote_errors import Failure, describe, rebuild
from jobify.runtime.errortools import shown

__all__ = ("BARRIER", "LARGEST", "Levels", "decode_record", "encode_record", "make_record", "open_channel")

BARRIER: Final = b"="
"""A message that is no record: all records that were sent before it have been handled when it is read."""

LARGEST: Final = 64 * 1024
"""Bytes of the largest record. One that is larger is sent with its texts cut off."""

_BUFFER: Final = 1024 * 1024
"""Bytes of records that may wait in the socket, if the system allows as many."""

_PLAIN: Final = (str, int, float, bool, bytes, type(None))
_DEEPEST: Final = 8
_SHORT: Final = 4_000
"""Characters of each text of a record that is too large."""

_formatter: Final = logging.Formatter()


class Levels(NamedTuple):
    """The part of a logging configuration that decides which records are made at all."""

    root: int
    loggers: dict[str, int]
    """The loggers that have a level of their own."""
    disabled: int
    """Records up to this level are dropped (:func:`logging.disable`)."""
    has_captured_warnings: bool
    """Whether :func:`logging.captureWarnings` is on."""


def open_channel() -> tuple[socket.socket, socket.socket]:
    """The end that reads messages, and the end that sends them; each message arrives whole or not at all. OSError if
    the system refuses."""
    try:
        reader, sender = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    except OSError as error:
        if not _is_unsupported(error):
            raise
        reader, sender = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with suppress(OSError):  # more than the system allows
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
    return reader, sender


def _is_unsupported(error: OSError) -> bool:
    """Whether the system has no such sockets: macOS."""
    return error.errno in (errno.EPROTONOSUPPORT, errno.EPROTOTYPE, errno.ESOCKTNOSUPPORT)


def encode_record(record: logging.LogRecord, fields: dict[str, Any], limit: int = LARGEST) -> bytes:
    """``record`` as at most ``limit`` bytes. It gets those of ``fields`` that it does not have.

    Raises whatever formatting the message raises.
    """
    values = {**fields, **vars(record)}
    error = values.pop("exc_info")
    if not (_is_plain(record.msg) and _is_plain(record.args)):
        values["msg"], values["args"] = record.getMessage(), None
    if error and error[1] is not None:
        values["exc_text"] = record.exc_text or _text_of(error)
        values["failure"] = tuple(describe(error[1]))
    values = {name: value if _is_plain(value) else shown(value) for name, value in values.items()}
    payload = _packed(values)
    return payload if payload is not None and len(payload) <= limit else _cut(record, values, limit)


def _cut(record: logging.LogRecord, values: dict[str, Any], limit: int) -> bytes:
    """A record that is too large, without what cannot be cut off: its exception and large attributes."""
    values.pop("failure", None)
    short = {name: value for name, value in values.items() if len(repr(value)) <= _SHORT // 10}
    short.update(msg=shown(record.getMessage(), _SHORT), args=None)
    for name in ("exc_text", "stack_info"):
        if values.get(name):
            short[name] = shown(values[name], _SHORT)
    payload = _packed(short)
    if payload is None or len(payload) > limit:
        needed = {name: short[name] for name in ("name", "levelno", "created") if name in short}
        payload = pickle.dumps({**needed, "msg": shown(record.getMessage(), limit // 8), "args": None})
    return payload


def decode_record(payload: bytes) -> dict[str, Any]:
    """The values of a record, among them ``name`` and ``levelno``, for :func:`make_record`."""
    values: dict[str, Any] = pickle.loads(payload)
    return values


def make_record(values: dict[str, Any]) -> logging.LogRecord:
    """The record of these values, with its exception rebuilt."""
    if failure := values.pop("failure", None):
        error = rebuild(Failure(*failure))
        values["exc_info"] = (type(error), error, error.__traceback__)
    name = logging.getLevelName(values["levelno"])
    if not name.startswith("Level "):  # a level that has a name here
        values["levelname"] = name
    return logging.makeLogRecord(values)


def _packed(values: dict[str, Any]) -> bytes | None:
    try:
        return pickle.dumps(values, pickle.HIGHEST_PROTOCOL)
    except Exception:
        return None


def _text_of(error: Any) -> str:
    try:
        return _formatter.formatException(error)
    except Exception:  # of the user's exception
        return "<the traceback cannot be shown>"


def _is_plain(value: object, depth: int = 0) -> bool:
    """Whether pickle reads ``value`` without running code of any class."""
    kind = type(value)
    if kind in _PLAIN:
        return True
    if depth >= _DEEPEST:
        return False
    if kind in (tuple, list):
        return all(_is_plain(each, depth + 1) for each in value)  # type: ignore[attr-defined]
    if kind is dict:
        return all(_is_plain(part, depth + 1) for item in value.items() for part in item)  # type: ignore[attr-defined]
    return False
