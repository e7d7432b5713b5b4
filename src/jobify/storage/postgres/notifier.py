"""The notifier of a storage on PostgreSQL: LISTEN and NOTIFY, on the connection of :mod:`~.session`.

**Receiving.** The thread of the session takes notifications off the connection and makes a descriptor readable, which
the event loop or the listener of a client watches. It does so once, however many come before that is drained.

**Sending.** A notification is sent after the commit, and not in its transaction: the server lets transactions that
notify commit one at a time, which costs all who enqueue most of their throughput. What is lost when a process dies
between the two is found by the others' next look.

A process that listens knows from its looks at the owners, and from their arrivals, whether there are others. While
there are none it says nothing; and of the ends of jobs, while no client is there that waits for any.
"""

from __future__ import annotations

import socket
from collections.abc import Collection
from contextlib import suppress

from jobify.storage.postgres.channels import ARRIVAL, CLIENT_ARRIVAL, Channels
from jobify.storage.postgres.session import Session

__all__ = ("PostgresNotifier",)


class PostgresNotifier:
    """The notifier of one storage."""

    is_flooded = False

    def __init__(self, channels: Channels) -> None:
        self._channels = channels
        self._session: Session | None = None
        self._ends: tuple[socket.socket, socket.socket] | None = None
        self._is_readable = False
        self._has_peers = self._has_clients = True

    def use(self, session: Session) -> None:
        """Send by this session."""
        self._session = session

    @property
    def has_listeners(self) -> bool:
        session = self._session
        return session is not None and (self._has_peers or not session.is_listening)

    @property
    def is_alone(self) -> bool:
        """Whether this process listens, and there is no other one."""
        return not self.has_listeners

    def set_peers(self, *, are_there: bool, are_waiting: bool) -> None:
        """Whether other processes were there at the last look, and whether any of them waits for the ends of jobs."""
        self._has_peers, self._has_clients = are_there, are_waiting

    # -- sending -------------------------------------------------------------------------------------------------------

    def notify(self, *, workers: bool, clients: bool, owners: Collection[int] = ()) -> None:
        if self._session is None or not self.has_listeners:
            return
        words = {self._channels.owner(owner): "" for owner in owners}
        if workers:
            words[self._channels.workers] = ""
        if clients and (self._has_clients or not self._session.is_listening):
            words[self._channels.clients] = ""
        if words:
            self._session.say(words)

    def announce(self, *, is_client: bool) -> None:
        """Tell the others that there is one more."""
        if self._session is not None:
            word = CLIENT_ARRIVAL if is_client else ARRIVAL
            self._session.say({self._channels.workers: word, self._channels.clients: word})

    # -- receiving -----------------------------------------------------------------------------------------------------

    def bind(self) -> None:
        """Get a descriptor, if there is none yet."""
        if self._ends is None:
            here, there = self._ends = socket.socketpair()
            here.setblocking(False)
            there.setblocking(False)

    def fileno(self) -> int:
        ends = self._ends
        return -1 if ends is None else ends[0].fileno()

    def receive(self, channel: str = "", word: str = "") -> None:
        """Another process has notified this one, or may have tried to. In the thread of the session."""
        if word in (ARRIVAL, CLIENT_ARRIVAL):
            self._has_peers = True
        if word == CLIENT_ARRIVAL or not channel:  # or it may have been missed
            self._has_clients = True
        ends = self._ends
        if ends is not None and not self._is_readable:
            self._is_readable = True
            with suppress(OSError):  # closed at this moment
                ends[1].send(b".")

    def drain(self) -> bool:
        ends = self._ends
        if ends is None:
            return False
        self._is_readable = False  # before it is read: what comes meanwhile is said again
        try:
            return bool(ends[0].recv(64))
        except OSError:  # nothing there, or closed meanwhile
            return False

    def close(self) -> None:
        """Neither send nor receive any more."""
        ends, self._ends, self._session = self._ends, None, None
        for end in ends or ():
            end.close()
