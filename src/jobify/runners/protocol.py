"""The protocol between parent and child: requests, messages and replies as bytes.

Parent to child: how to prepare, then one request per call. Child to parent: that it is ready (or broken), then for each
request any number of messages and one reply. Every payload is a kind (one byte) and a pickle, behind its length.

Pickles fail in many ways, on either side. Here each of them ends as an exception that says what could not be sent, and
never as a child or a connection that is lost: arguments and values as :class:`~jobify.exceptions.PayloadError`. How
exceptions travel is in :mod:`jobify.runners.remote_errors`.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from typing import Any, BinaryIO, Final, NamedTuple

from jobify.exceptions import PayloadError
from jobify.runners.base import contained
from jobify.runners.function_address import Address
from jobify.runners.job_info import JobInfo
from jobify.runners.remote_errors import Failure, describe, rebuild

__all__ = (
    "BROKEN",
    "HEADER",
    "LOGGED",
    "MESSAGE",
    "MISFIT",
    "RAISED",
    "READY",
    "STARTS",
    "TOO_LARGE",
    "VALUE",
    "Request",
    "decode",
    "encode_error",
    "encode_message",
    "encode_request",
    "encode_value",
    "frame",
    "outcome",
    "read",
)

READY, BROKEN, MESSAGE, STARTS, TOO_LARGE, LOGGED, VALUE = b"+", b"!", b"m", b"s", b"l", b"r", b"v"
RAISED, MISFIT = b"e", b"x"
"""The kinds of what a child sends: able to run, not able to, a message on the way, it starts processes, its
memory is above the limit, it has sent log records and a barrier behind them, a returned value, an exception, an
exception because the call does not fit the code there."""

HEADER: Final = 8
"""Bytes of the length in front of each payload, big-endian."""


class Request(NamedTuple):
    """One call, for a child to make."""

    address: Address
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    job_info: JobInfo | None = None
    """The job that it is for, if it is for one."""


def frame(payload: bytes) -> bytes:
    """``payload`` behind its length."""
    return len(payload).to_bytes(HEADER, "big") + payload


def read(stream: BinaryIO) -> bytes | None:
    """The next payload of ``stream``; None at its end, also in the middle of a payload."""
    header = stream.read(HEADER)
    length = int.from_bytes(header, "big")
    payload = stream.read(length)
    return payload if len(header) == HEADER and len(payload) == length else None


def encode_request(request: Request) -> bytes:
    try:
        return pickle.dumps(request, pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        raise PayloadError(
            f"The arguments of {request.address} cannot be sent to another process ({error}). Pass values that pickle "
            "knows, or choose run_mode='thread'."
        ) from error


def encode_value(value: Any) -> bytes:
    """The reply for a returned value, or the reply with an error if the value cannot be sent."""
    try:
        return VALUE + pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        return encode_error(
            PayloadError(
                f"The task returned a {type(value).__qualname__} that cannot be sent to another process ({error}). "
                "Return a value that pickle knows, or choose run_mode='thread'."
            )
        )


def encode_message(message: Any) -> bytes:
    try:
        return MESSAGE + pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        raise PayloadError(
            f"What the task reports cannot be sent to another process ({error}). Report values that pickle knows, or "
            "choose run_mode='thread'."
        ) from error


def encode_error(error: BaseException, kind: bytes = RAISED) -> bytes:
    """The reply for a raised exception. Never fails."""
    return kind + pickle.dumps(tuple(describe(error)), pickle.HIGHEST_PROTOCOL)


def decode(body: bytes) -> Any:
    """A message, or a returned value; PayloadError if this process cannot read it."""
    try:
        return pickle.loads(body)
    except Exception as error:
        raise PayloadError(
            f"A child process sent a value that cannot be read here ({type(error).__name__}: {error}). Return values "
            "that survive pickle, or choose run_mode='thread'."
        ) from error


def outcome(reply: bytes) -> Any:
    """The value that ``reply`` carries; or raises its exception, with the text in a :class:`RemoteTraceback`."""
    kind, body = reply[:1], reply[1:]
    if kind == VALUE:
        return decode(body)
    raise contained(rebuild(Failure(*pickle.loads(body))))
