"""A storage without an engine: opened by the first use, closed on demand.

Any thread may use the storage, one at a time; so may an app that starts and stops on the same storage object meanwhile
(see :mod:`jobify.gateway.sharing`). It is closed when the app object is gone, at the end of the interpreter, or on
demand, and the next use opens it again; in a forked child, too, because a fork takes nothing along.

Each close begins a new *generation*. A use that lasts longer than one call holds a :class:`Subscription`, which belongs
to its generation: it does not open a storage again that was closed meanwhile.
"""

from __future__ import annotations

import socket
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType

from jobify.gateway.sharing import SharedStorage, share
from jobify.runtime import fork
from jobify.runtime.logs import get_logger
from jobify.storage.base import Storage
from jobify.storage.location import location_of

__all__ = ("CHANGED", "Closed", "LocalNotifier", "StorageConnection", "Subscription")

CHANGED, _WAKE = b".", b"+"

log = get_logger("jobify.client")


class Closed(Exception):
    """The storage was closed since, and maybe opened again."""


class LocalNotifier:
    """Receives the notifications of other users of the storage object. Does nothing until :meth:`open`."""

    def __init__(self) -> None:
        self._ends: tuple[socket.socket, socket.socket] | None = None

    def __call__(self) -> None:
        """Something has changed; from any thread."""
        if self._ends is not None:
            self._send(CHANGED)

    def wake(self) -> None:
        """Wake the listener although nothing has changed, because a waiter came or went."""
        self._send(_WAKE)

    def _send(self, byte: bytes) -> None:
        ends = self._ends
        if ends is not None:
            with suppress(OSError):  # full, so that the listener is going to wake; or just closed
                ends[1].send(byte)

    def take(self) -> bytes:
        """What was received since the last time."""
        ends = self._ends
        try:
            return b"" if ends is None else ends[0].recv(4096)
        except OSError:
            return b""

    def open(self) -> socket.socket:
        """Start to receive; the socket that is returned becomes readable with each notification."""
        here, there = socket.socketpair()
        here.setblocking(False)
        there.setblocking(False)
        self._ends = here, there
        return here

    def close(self) -> None:
        ends, self._ends = self._ends, None
        for end in ends or ():
            end.close()


class _State:
    """What a connection must close. Apart from :class:`StorageConnection`, so that its finalizer does not keep that
    alive."""

    def __init__(self, local: LocalNotifier) -> None:
        self.local = local
        self.shared: SharedStorage | None = None
        self.storage: Storage | None = None
        self.owner: int | None = None
        """This process, as an owner that waits for the ends of jobs."""
        self.generation = 0
        self.stale_before = 0
        """Waiters of an earlier generation give up."""

    def close(self) -> None:
        """Close the storage, on demand or for good; waiters give up."""
        self.stale_before = self.generation + 1
        self.release()

    def release(self) -> None:
        """Close the storage; waiters open it again."""
        self.generation += 1
        self.close_storage()
        self.local.wake()

    def close_storage(self) -> None:
        shared = self.shared
        if shared is None or shared.is_pre_fork:
            self.shared = self.storage = self.owner = None  # an owner is the parent's, too
            return
        with shared.lock:  # the current user finishes first
            storage, owner = self.storage, self.owner
            self.shared = self.storage = self.owner = None
            try:
                if owner is not None and storage is not None:
                    storage.deregister(owner)
            except Exception as error:  # another process will find the owner dead, and remove it
                log.debug("A client could not deregister: %s", error)
            finally:
                shared.close(self.local)


class StorageConnection:
    """The connection of one app to its storage; ``current()`` is the storage at any time. As a context manager: the
    storage, locked. ::

        with connection as storage:
            storage.insert(rows)
        connection.notify(workers=True)
    """

    def __init__(self, current: Callable[[], Storage]) -> None:
        self.local = LocalNotifier()
        self._current = current
        self._state = _State(self.local)
        self._opening = threading.Lock()
        self._is_located = False
        """Whether the log says where the database is."""
        weakref.finalize(self, self._state.close)
        fork.renew_in_child(self)

    def after_fork_in_child(self) -> None:
        """Replace what belongs to the parent: the lock may be held by one of its threads."""
        self._opening = threading.Lock()
        self.local.close()

    @property
    def generation(self) -> int:
        """How often the storage was closed."""
        return self._state.generation

    @property
    def stale_before(self) -> int:
        """Waiters of an earlier generation give up, because of a :meth:`close`."""
        return self._state.stale_before

    @property
    def is_open(self) -> bool:
        """Whether this process holds the storage open by it."""
        shared = self._state.shared
        return shared is not None and not shared.is_pre_fork

    def subscribe(self) -> Subscription:
        """The storage until it is closed."""
        return Subscription(self, self._state.generation)

    def __enter__(self) -> Storage:
        return self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release_lock()

    def acquire(self, generation: int | None = None) -> Storage:
        """Open and lock the storage; Closed if it is not of this ``generation`` any more."""
        state, storage = self._state, self._current()
        shared = state.shared
        if shared is None or state.storage is not storage or shared.is_pre_fork:
            shared = self._open(storage, generation)
        shared.lock.acquire()
        if state.shared is not shared or generation not in (None, state.generation):  # closed at this very moment
            shared.lock.release()
            self._check(generation)
            return self.acquire(generation)
        shared.flush_deferred()
        return storage

    def release_lock(self) -> None:
        """Unlock the storage."""
        shared = self._state.shared
        assert shared is not None
        shared.lock.release()

    def _check(self, generation: int | None) -> None:
        if generation not in (None, self._state.generation):
            raise Closed

    def reader(self, generation: int | None = None) -> Storage:
        """The storage, open and up to date, for its reading methods: these need no lock, and wait for no writer.
        Closed if it is not of this ``generation`` any more."""
        state, storage = self._state, self._current()
        shared = state.shared
        if shared is None or state.storage is not storage or shared.is_pre_fork:
            shared = self._open(storage, generation)
        if shared.may_defer_rows:
            storage = self.acquire(generation)
            self.release_lock()
        else:
            self._check(generation)
        return storage

    def _open(self, storage: Storage, generation: int | None) -> SharedStorage:
        with self._opening:
            self._check(generation)
            state = self._state
            if state.shared is not None and state.storage is storage and not state.shared.is_pre_fork:
                return state.shared  # another thread was faster
            state.close_storage()
            if not self._is_located:
                self._is_located = True
                log.info("Jobs are read and written in database %s.", location_of(storage))
            shared = share(storage)
            shared.open(self.local)
            state.shared, state.storage = shared, storage
            return shared

    def notify(self, *, workers: bool = False, clients: bool = False) -> None:
        """After a commit: notify the users of the storage in this process and in others. Never fails."""
        shared, storage = self._state.shared, self._state.storage
        if shared is None or storage is None:
            return
        try:
            shared.notify_others(self.local)
            notifier = storage.notifier
            if notifier is not None:
                notifier.notify(workers=workers, clients=clients)
        except Exception:  # of a user's own storage: what is stored is stored
            log.exception("Notifying other processes failed (%r).", storage)

    def notify_workers(self) -> None:
        """:meth:`notify` the workers."""
        self.notify(workers=True)

    def forward(self) -> None:
        """Pass a notification of another process on to the other users in this one."""
        if self._state.shared is not None:
            self._state.shared.notify_others(self.local)

    def set_owner(self, owner: int | None) -> None:
        """Remember an owner to deregister when the storage is closed."""
        self._state.owner = owner

    def close(self) -> None:
        """Close the storage; the next use opens it again. Waiters give up."""
        self._state.close()

    def release(self) -> None:
        """Close the storage; the next use opens it again, and waiters are such a use."""
        self._state.release()


class Subscription:
    """The storage of one generation of a connection. Raises Closed, instead of opening it, once it was closed."""

    __slots__ = ("_connection", "generation")

    def __init__(self, connection: StorageConnection, generation: int) -> None:
        self._connection = connection
        self.generation = generation

    @property
    def is_current(self) -> bool:
        """Whether the storage was not closed since."""
        return self._connection.generation == self.generation

    @contextmanager
    def locked(self) -> Iterator[Storage]:
        """The storage, locked."""
        storage = self._connection.acquire(self.generation)
        try:
            yield storage
        finally:
            self._connection.release_lock()

    def reader(self) -> Storage:
        """The storage, for its reading methods."""
        return self._connection.reader(self.generation)
