"""How processes on one database wake each other: a datagram to the socket of each.

**A bell** is a Unix datagram socket. Its address stands in the row of its owner. Where the kernel has them (Linux) it
is an abstract address, written with ``@`` for its leading zero byte: it needs no file, and is gone with its process.

**Ringing** sends one byte to every other address and waits for nothing. A socket whose queue is full has been rung
already and will be looked at; one that refuses belongs to a process that is gone, and is forgotten. With nobody else on
the database there is no address and ringing is an empty loop.

**Who is there.** Addresses are remembered, not read for each ring. An owner that arrives rings with :data:`_ARRIVAL`;
whoever hears that reads the addresses again before its next ring. Recovery, which reads all owners anyway, hands them
over too, so that an arrival that got lost is noticed there.

A lost ring costs latency: everybody also asks the database now and then whether somebody has committed. The content of
a datagram is a hint, never data, because any process of the machine can send one.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Iterable

from jobify.exceptions import StorageError

__all__ = ("DatagramBell",)

_RING = b"."
_ARRIVAL = b"+"
_AF_UNIX = getattr(socket, "AF_UNIX", None)


class DatagramBell:
    """The bell of one storage. ``addresses()`` reads those of all owners, this one's included."""

    def __init__(self, addresses: Callable[[], Iterable[str]]) -> None:
        self._addresses = addresses
        self._others: tuple[str, ...] = ()
        self._is_stale = True
        self._socket: socket.socket | None = None
        self.address: str | None = None
        """Where to ring this bell; None where there are no such sockets."""
        if _AF_UNIX is not None:
            self._listen(_AF_UNIX)

    def _listen(self, family: int) -> None:
        address = _new_address()
        listener = socket.socket(family, socket.SOCK_DGRAM)
        listener.setblocking(False)
        try:
            listener.bind(_native(address))
        except OSError:  # no room for it, or not allowed: everybody polls instead
            listener.close()
            return
        self._socket, self.address = listener, address

    def fileno(self) -> int:
        return -1 if self._socket is None else self._socket.fileno()

    @property
    def is_heard(self) -> bool:
        return self._is_stale or bool(self._others)

    def ring(self) -> None:
        if self._is_stale:
            self._look_around()
        self._send(_RING)

    def arrive(self) -> None:
        """Ring, and tell everybody that there is one more to ring."""
        self._look_around()
        self._send(_ARRIVAL)

    def answer(self) -> bool:
        heard = False
        while self._socket is not None:
            try:
                message = self._socket.recv(16)
            except OSError:  # nothing left, or closed meanwhile
                break
            heard = True
            if message == _ARRIVAL:
                self._is_stale = True
        return heard

    def know(self, addresses: Iterable[str]) -> None:
        """Remember the addresses of all owners."""
        self._others = tuple({address for address in addresses if address != self.address})

    def close(self) -> None:
        """Be silent from now on."""
        listener, self._socket = self._socket, None
        if listener is None:
            return
        listener.close()
        if self.address is not None and not self.address.startswith("@"):
            os.remove(self.address)

    def leave_behind(self) -> None:
        """In a child process: close the copy of the parent's socket, and leave its address alone."""
        listener, self._socket = self._socket, None
        if listener is not None:
            listener.close()

    def _look_around(self) -> None:
        self._is_stale = False
        try:
            self.know(self._addresses())
        except StorageError:  # ringing never fails; the next one looks again
            self._is_stale = True

    def _send(self, message: bytes) -> None:
        for address in self._others:
            if self._socket is None:
                return
            try:
                self._socket.sendto(message, _native(address))
            except BlockingIOError:
                pass
            except OSError:
                self._others = tuple(other for other in self._others if other != address)


def _new_address() -> str:
    name = f"jobify-{os.getpid()}-{os.urandom(8).hex()}"
    if sys.platform == "linux":
        return f"@{name}"
    import tempfile  # takes its time, and is not needed on Linux

    return os.path.join(tempfile.gettempdir(), f"{name}.bell")


def _native(address: str) -> str:
    return "\0" + address[1:] if address.startswith("@") else address
