"""The parent's end of a child's connection, on the event loop: the stream with what the child sends, and the packets
with its requests (see :mod:`jobify.runners.protocol`)."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final, cast

from jobify.runners import protocol
from jobify.runners.log_channel import open_channel

__all__ = ("ChildConnection", "RequestPackets")

_HIGH_WATER: Final = 256 * 1024
"""Bytes that may wait to be handled; reading pauses above."""

_CHUNK: Final = 256 * 1024
_HEADER: Final = protocol.HEADER.size

_NO_ROOM: Final = (errno.EAGAIN, errno.EWOULDBLOCK, errno.ENOBUFS)
_FLAGS: Final = getattr(socket, "MSG_DONTWAIT", 0) | getattr(socket, "MSG_NOSIGNAL", 0)


class ChildConnection(asyncio.Protocol):
    """The stream: whole payloads in both directions. A connection that breaks has ended like any other.

    What has arrived is in ``inbox``, each payload with the time in front of it, and ``on_arrival`` is called.
    """

    def __init__(self, connection: socket.socket, on_arrival: Callable[[], None]) -> None:
        self.inbox: deque[tuple[int, bytes]] = deque()
        self.replies = 0
        """How many replies to calls are in ``inbox``."""
        self.last_reply_at = 0
        """The time in front of the last reply."""
        self.is_over = False
        self._socket = connection
        self._on_arrival = on_arrival
        self._buffer = bytearray()
        self._waiting = 0
        """Bytes in ``inbox``."""
        self._is_paused = self._is_opening = False
        self._transport: asyncio.Transport | None = None

    async def open(self) -> None:
        """Take over the socket, which is closed with this connection."""
        if not self.is_over:
            self._is_opening = True
            await asyncio.get_running_loop().create_unix_connection(lambda: self, sock=self._socket)

    def send(self, payload: bytes) -> None:
        """Never blocks; does nothing after the end of the connection."""
        if not self.is_over:
            assert self._transport is not None
            self._transport.write(protocol.frame(payload))

    def take(self) -> tuple[int, bytes]:
        """The next payload of ``inbox``, which must not be empty."""
        item = self.inbox.popleft()
        if item[0]:
            self.replies -= 1
        self._waiting -= len(item[1])
        if self._is_paused and self._waiting <= _HIGH_WATER:
            self._is_paused = False
            assert self._transport is not None
            self._transport.resume_reading()
        return item

    def read_all(self) -> None:
        """Put into ``inbox`` what the child has sent up to now, without a turn of the event loop."""
        with suppress(OSError):
            while data := self._socket.recv(_CHUNK, _FLAGS):
                self._split(data)

    def finish(self) -> None:
        """The child is dead: what it has sent is all that comes, even if another process holds the stream."""
        self.read_all()
        self.is_over = True

    def close(self) -> None:
        self.is_over = True
        if self._transport is not None:
            self._transport.close()
        elif not self._is_opening:
            self._socket.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if self.is_over:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._split(data)
        self._on_arrival()
        if self._waiting > _HIGH_WATER and not self._is_paused and not self.is_over:
            self._is_paused = True  # the child blocks in its next send until more is handled
            assert self._transport is not None
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        """The child sends no more. True keeps the connection open until its owner closes it."""
        self.is_over = True
        self._on_arrival()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_over = True
        self._on_arrival()

    def _split(self, data: bytes | bytearray) -> None:
        """Put the payloads that are complete into ``inbox``."""
        if self._buffer:
            self._buffer += data
            data = self._buffer
        start, end, inbox, unpack = 0, len(data), self.inbox, protocol.HEADER.unpack_from
        while end - start >= _HEADER:
            length, ended_at = unpack(data, start)
            stop = start + _HEADER + length
            if stop > end:
                break
            inbox.append((ended_at, bytes(data[start + _HEADER : stop])))
            self._waiting += length
            if ended_at:
                self.replies += 1
                self.last_reply_at = ended_at
            start = stop
        if data is self._buffer:
            del self._buffer[:start]
        elif start < end:
            self._buffer += data[start:]


class RequestPackets:
    """The requests that a child has not begun.

    The child reads them from a socket of which this process holds both ends.
    """

    def __init__(self) -> None:
        """OSError if the system refuses."""
        self._unread, self._sender = open_channel()

    def fileno(self) -> int:
        """The end that the child reads."""
        return self._unread.fileno()

    def send(self, packet: bytes) -> bool:
        """Send a request; False if there is no room now. Never blocks. OSError if the child does not read any more."""
        try:
            self._sender.send(packet, _FLAGS)
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            return False
        return True

    def take_back(self) -> set[int]:
        """Remove the requests that the child has not read; their numbers. They need not be the last ones sent, because
        the child goes on reading meanwhile."""
        numbers = set()
        size, unpack = protocol.PACKET.size, protocol.PACKET.unpack
        with suppress(OSError):
            while head := self._unread.recv(size, _FLAGS):  # the rest of the packet is dropped
                numbers.add(unpack(head)[1])
        return numbers

    def close(self) -> None:
        self._unread.close()
        self._sender.close()
