"""The parent's end of a child's connection: whole payloads in both directions, on the event loop."""

from __future__ import annotations

import asyncio
import socket
from typing import cast

from jobify.runners import protocol

__all__ = ("ChildConnection",)

_HIGH_WATER = 256 * 1024
"""Bytes that may wait to be received; reading pauses above."""


class ChildConnection(asyncio.Protocol):
    """Sends and receives ``protocol`` payloads. A connection that breaks has ended like any other."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._is_over = False
        self._is_paused = False
        self._waiter: asyncio.Future[None] | None = None
        self._transport: asyncio.Transport | None = None

    @classmethod
    async def open(cls, connection: socket.socket) -> ChildConnection:
        """Take over ``connection``, which is closed with this one."""
        _, connected = await asyncio.get_running_loop().create_unix_connection(cls, sock=connection)
        return connected

    def send(self, payload: bytes) -> None:
        """Never blocks; does nothing after the end of the connection."""
        assert self._transport is not None
        self._transport.write(protocol.frame(payload))

    async def receive(self) -> bytes | None:
        """The next payload; None after the end of the connection. For one task at a time."""
        while (payload := self._take()) is None and not self._is_over:
            self._resume_reading()
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return payload

    def close(self) -> None:
        assert self._transport is not None
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) > _HIGH_WATER and self._has_payload():
            self._pause_reading()
        self._wake()

    def eof_received(self) -> bool:
        """The child sends no more. True keeps the connection open until its owner closes it."""
        self._is_over = True
        self._wake()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_over = True
        self._wake()

    def _take(self) -> bytes | None:
        if not self._has_payload():
            return None
        end = self._end_of_payload()
        payload = bytes(self._buffer[protocol.HEADER : end])
        del self._buffer[:end]
        return payload

    def _has_payload(self) -> bool:
        return len(self._buffer) >= self._end_of_payload()

    def _end_of_payload(self) -> int:
        """With half a header, at least the end of a whole one."""
        return protocol.HEADER + int.from_bytes(self._buffer[: protocol.HEADER], "big")

    def _pause_reading(self) -> None:
        """Enough payloads wait. The child blocks in its next send until more are received."""
        if not self._is_paused and self._transport is not None:
            self._is_paused = True
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        if self._is_paused and self._transport is not None:
            self._is_paused = False
            self._transport.resume_reading()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
