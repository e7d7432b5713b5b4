"""Wake-ups between processes on one database: a datagram to the socket of each that is concerned.

**Addresses.** Each process that owns something has a Unix datagram socket, whose address stands in the row of its
owner. Where the kernel has them (Linux) it is an abstract address, written with ``@`` for its leading zero byte: it
needs no file, and is gone with its process. A process that owns nothing has no address; it can notify others and is not
notified itself.

**Notifying** sends one byte to each address that is meant and waits for nothing. A socket whose queue is full has a
wake-up already; one that refuses belongs to a process that is gone, and is forgotten. Without other processes on the
database there is no address, and notifying is an empty loop.

**Peers.** Addresses are remembered, and not read for each wake-up. An owner that registers announces itself with
:data:`_ARRIVAL`; a process that receives that reads the addresses again before its next wake-up. Recovery, which reads
all owners anyway, passes them on, too, so that a lost announcement is made good there. A process without an address
receives no announcement, and reads again what is older than :data:`_PEER_TTL`.

A lost wake-up costs latency: each process also asks the database now and then whether others have committed. The
content of a datagram is a hint, never data.

**Strangers.** Any process of the machine can see an abstract address and send to it. So each address has a secret,
which stands behind it in the row of its owner: a process that can read the database can notify, the others cannot. On
Linux the kernel compares it (a socket filter, :func:`_filter`) and drops what does not begin with it before it reaches
the queue; such a datagram costs its sender time, and this process nothing. Elsewhere the socket lies in a directory of
the user's own. A process that knows the secret can still send without end. So one call of ``drain`` takes
:data:`_MOST_DATAGRAMS` at most, and ``is_flooded`` says that there were as many: the watcher of the descriptor pauses
then.

A socket in the owners' directory was considered. It would need no secret, but also a short path (108 bytes), a file
system with sockets, cleaning up after kills, and a new socket whenever that directory is deleted. Credentials
(``SO_PASSCRED``) cost each wake-up a control message, and do not keep strangers from filling the queue.
"""

from __future__ import annotations

import os
import re
import socket
import struct
import sys
import time
from array import array
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from functools import lru_cache
from typing import Final, NamedTuple

from jobify.exceptions import StorageError
from jobify.model.records import OwnerRole

__all__ = ("Address", "DatagramNotifier")

_WAKE_UP: Final = b"."
_ARRIVAL: Final = b"+"
_PEER_TTL: Final = 0.1
"""Seconds for which a process without an address trusts the addresses that it has read."""
_MOST_DATAGRAMS: Final = 64
"""Datagrams that one call of ``drain`` takes."""
_ADDRESS: Final = re.compile(
    r"(?P<name>@jobify-[0-9]{1,20}-[0-9a-f]{16}|/[^\0]*/jobify-[a-z0-9_]{8}/bell)(#(?P<secret>[0-9a-f]{16}))?"
)
"""What stands in a row. One of an older release has no secret."""
_SO_ATTACH_FILTER: Final = 26
_AF_UNIX = getattr(socket, "AF_UNIX", None)


class Address(NamedTuple):
    """Where an owner is notified."""

    owner: int
    role: str
    address: str


class DatagramNotifier:
    """The notifier of one storage. ``addresses()`` reads those of all owners, this one's included."""

    def __init__(
        self, addresses: Callable[[], Iterable[Address]], elapsed: Callable[[], float] = time.monotonic
    ) -> None:
        self._addresses = addresses
        self._elapsed = elapsed
        self._workers: tuple[str, ...] = ()
        self._clients: tuple[str, ...] = ()
        self._by_owner: dict[int, str] = {}
        self._read_at: float | None = None
        """When the addresses were read; None: they must be read again."""
        self._socket: socket.socket | None = None
        self.address: str | None = None
        """Where this process is notified, and the secret; None while it is not."""
        self._secret = b""
        self.is_flooded = False
        if _AF_UNIX is not None:
            self._socket = socket.socket(_AF_UNIX, socket.SOCK_DGRAM)
            self._socket.setblocking(False)

    def bind(self) -> None:
        """Get an address, if there is none yet."""
        if self._socket is None or self.address is not None:
            return
        secret = os.urandom(8).hex()
        try:
            address = f"{_new_address()}#{secret}"
        except OSError:  # no directory for it: processes poll instead
            return
        self._secret = secret.encode()
        with suppress(OSError):  # another kernel: the secret is compared here
            _filter(self._socket, self._secret)
        try:
            self._socket.bind(_native(address)[0])
        except OSError:  # no room for it, or not allowed: processes poll instead
            _remove(address)
            return
        self.address = address

    def fileno(self) -> int:
        return -1 if self._socket is None or self.address is None else self._socket.fileno()

    @property
    def has_listeners(self) -> bool:
        return self._read_at is None or bool(self._by_owner)

    # -- wake-ups ------------------------------------------------------------------------------------------------------

    def notify(self, *, workers: bool, clients: bool, owners: Collection[int] = ()) -> None:
        known = self._meant(workers, clients, owners)
        self._send(_WAKE_UP, known)
        if not self._has_fresh_peers():  # read after those that are known have been woken: they need not wait for it
            self._read_peers()
            self._send(_WAKE_UP, [one for one in self._meant(workers, clients, owners) if one not in known])

    def _meant(self, workers: bool, clients: bool, owners: Collection[int]) -> Collection[str]:
        """The addresses of these, as far as they are known."""
        if not (clients or owners):
            return self._workers if workers else ()
        meant = dict.fromkeys((*(self._workers if workers else ()), *(self._clients if clients else ())))
        meant.update((self._by_owner[owner], None) for owner in owners if owner in self._by_owner)
        return meant

    def announce(self) -> None:
        """Notify all peers that there is one more."""
        self._read_peers()
        self._send(_ARRIVAL, dict.fromkeys(self._by_owner.values()))

    def drain(self) -> bool:
        is_notified, taken = False, 0
        while self._socket is not None and self.address is not None and taken < _MOST_DATAGRAMS:
            try:
                message = self._socket.recv(32)
            except OSError:  # nothing left, or closed meanwhile
                break
            taken += 1
            if message.startswith(self._secret):
                is_notified = True
                if message[len(self._secret) :] == _ARRIVAL:
                    self._read_at = None
        self.is_flooded = taken == _MOST_DATAGRAMS
        return is_notified

    def _send(self, message: bytes, addresses: Iterable[str]) -> None:
        for address in addresses:
            if self._socket is None:
                return
            try:
                target, secret = _native(address)
                self._socket.sendto(secret + message, target)
            except BlockingIOError:
                pass
            except OSError:
                self._forget(address)

    # -- peers ---------------------------------------------------------------------------------------------------------

    def set_peers(self, addresses: Iterable[Address]) -> None:
        """Remember the addresses of all owners."""
        others = [one for one in addresses if one.address != self.address]
        self._by_owner = {one.owner: one.address for one in others}
        self._workers = tuple(dict.fromkeys(one.address for one in others if one.role == OwnerRole.WORKER))
        self._clients = tuple(dict.fromkeys(one.address for one in others if one.role == OwnerRole.CLIENT))

    def _forget(self, address: str) -> None:
        self._by_owner = {owner: other for owner, other in self._by_owner.items() if other != address}
        self._workers = tuple(other for other in self._workers if other != address)
        self._clients = tuple(other for other in self._clients if other != address)

    def _has_fresh_peers(self) -> bool:
        if self._read_at is None:
            return False
        return self.address is not None or self._elapsed() - self._read_at < _PEER_TTL

    def _read_peers(self) -> None:
        now = self._elapsed()
        self._read_at = now  # before they are read, so that an announcement that comes meanwhile is not forgotten
        try:
            self.set_peers(self._addresses())
        except StorageError:  # notifying never fails; the next wake-up reads again
            self._read_at = None

    # -- end -----------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Notify no more, and release the address."""
        address = self.address
        self.after_fork_in_child()
        if address is not None:
            _remove(address)

    def after_fork_in_child(self) -> None:
        """In a child process: close the copy of the parent's socket, and leave its address alone."""
        listener, self._socket, self.address = self._socket, None, None
        if listener is not None:
            listener.close()


def _new_address() -> str:
    if sys.platform == "linux":
        return f"@jobify-{os.getpid()}-{os.urandom(8).hex()}"
    import tempfile  # takes its time, and is not needed on Linux

    return os.path.join(tempfile.mkdtemp(prefix="jobify-"), "bell")


@lru_cache(maxsize=512)
def _native(address: str) -> tuple[str, bytes]:
    """Where to send, and what a datagram begins with; OSError for what is no address of a notifier."""
    found = _ADDRESS.fullmatch(address)
    if found is None:
        raise OSError("this is no address of a notifier")
    name, secret = found["name"], found["secret"] or ""
    return "\0" + name[1:] if name.startswith("@") else name, secret.encode()


def _remove(address: str) -> None:
    """Remove the socket, and the directory that was made for it."""
    target, _ = _native(address)
    if not target.startswith("\0"):
        with suppress(OSError):
            os.remove(target)
        with suppress(OSError):
            os.rmdir(os.path.dirname(target))


def _filter(listener: socket.socket, secret: bytes) -> None:
    """Have the kernel drop datagrams that do not begin with ``secret``, in the language of BPF: load each four bytes,
    compare them, and go to the last instruction if they differ."""
    if sys.platform != "linux":
        return
    words = struct.unpack(f">{len(secret) // 4}I", secret)
    program = []
    for number, word in enumerate(words):
        program += [(0x20, 0, 0, number * 4), (0x15, 0, 2 * (len(words) - number) - 1, word)]
    program += [(0x06, 0, 0, 0xFFFFFFFF), (0x06, 0, 0, 0)]
    code = array("B", b"".join(struct.pack("HBBI", *instruction) for instruction in program))
    head = struct.pack("HP", len(program), code.buffer_info()[0])
    listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, head)
