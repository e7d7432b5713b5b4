"""The protocol between parent and child: requests, messages and replies as bytes.

Two sockets connect them. On the *stream*, every payload comes behind its length. The parent sends on it how to prepare,
and the child replies that it is ready (or broken); then the child sends, for each request, any number of messages and
one reply. A payload of the child is a kind (one byte) and a pickle. A reply says when the call has ended: that is when
the next one began that waits for the child.

A request is a *packet* on a second socket: a byte, a number and a pickle. Packets are what makes sending ahead safe.
The child takes one when it has sent the reply to the one before, and the parent holds the reading end as well: to take
back what the child has not begun, it reads the packets itself. The kernel gives each packet once, so that a call is
begun or taken back, and never both. When no packet is left, every call that was not taken back has its reply in the
stream, except the last one that the child has read: a kill can hit no other. A request that is too large for a packet
is sent on the stream, behind a packet that announces it. It cannot be taken back, so it goes to a child that is idle,
and none is sent behind it.

Pickles fail in many ways, on either side. Here each of them ends as an exception that says what could not be sent, and
never as a child or a connection that is lost: arguments and values as :class:`~jobify.exceptions.PayloadError`. How
exceptions travel is in :mod:`jobify.runners.remote_errors`.
"""

from __future__ import annotations

import pickle
import struct
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
    "LARGEST_PACKET",
    "LOGGED",
    "MESSAGE",
    "MISFIT",
    "PACKET",
    "RAISED",
    "READY",
    "REQUEST",
    "STARTS",
    "STREAMED",
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
    "packet",
    "read",
)

READY, BROKEN, MESSAGE, STARTS, TOO_LARGE, LOGGED, VALUE = b"+", b"!", b"m", b"s", b"l", b"r", b"v"
RAISED, MISFIT = b"e", b"x"
"""The kinds of what a child sends: able to run, not able to, a message on the way, it starts processes, its
memory is above the limit, it has sent log records and a barrier behind them, a returned value, an exception, an
exception because the call does not fit the code there."""

HEADER: Final = struct.Struct(">QQ")
"""In front of each payload of the stream: its length, and for a reply to a call when the call has ended, in nanoseconds
since the system's start (else 0)."""

LARGEST_PACKET: Final = 32 * 1024
"""Bytes of the largest packet."""

REQUEST, STREAMED = b"r", b"s"
"""The kinds of packets: the request follows, or it is sent on the stream."""

PACKET: Final = struct.Struct(">cQ")
"""In front of each packet: its kind, and the number of the call in the parent."""


class Request(NamedTuple):
    """One call, for a child to make."""

    address: Address
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    job_info: JobInfo | None = None
    """The job that it is for, if it is for one."""


def frame(payload: bytes, ended_at: int = 0) -> bytes:
    """``payload`` for the stream."""
    return HEADER.pack(len(payload), ended_at) + payload


def read(stream: BinaryIO) -> bytes | None:
    """The next payload of ``stream``; None at its end, also in the middle of a payload."""
    header = stream.read(HEADER.size)
    if len(header) < HEADER.size:
        return None
    length, _ = HEADER.unpack(header)
    payload = stream.read(length)
    return payload if len(payload) == length else None


def packet(number: int, request: bytes) -> bytes:
    """``request`` as a packet, or one that announces it on the stream, if it is too large for a packet."""
    if len(request) > LARGEST_PACKET - PACKET.size:
        return PACKET.pack(STREAMED, number)
    return PACKET.pack(REQUEST, number) + request


def encode_request(request: Request) -> bytes:
    try:
        (module, name), args, kwargs, job_info = request
        # Plain tuples, because a named one is a class that the other side would have to look up.
        plain = ((module, name), args, kwargs, None if job_info is None else tuple(job_info))
        return pickle.dumps(plain, pickle.HIGHEST_PROTOCOL)
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
