"""Reaching a storage without an engine: it is opened when it is first needed, and let go of in the end.

Any thread may use it, one at a time; so may an app that starts and stops on the same storage object meanwhile (see
``storage.sharing``). It is closed when the app object is gone, at the end of the interpreter, or on demand, and opened
again by the next use; in a forked child, too, for a fork takes nothing along. What began before it was closed is no
next use: whoever goes on for longer than a call remembers ``generation``, and names it.
"""

from __future__ import annotations

import os
import socket
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType

from jobify.gateway.sharing import SharedStorage, share
from jobify.runtime.logs import get_logger
from jobify.storage.base import Storage
from jobify.storage.location import location_of

__all__ = ("CHANGED", "Closed", "LocalNotifier", "StorageConnection")

CHANGED, _WAKE = b".", b"+"

log = get_logger("jobify.client")


class Closed(Exception):
    """The storage was closed since then, and maybe opened again."""


class LocalNotifier:
    """Hears that other users of the storage object have news. Deaf, and then free of charge, until it is opened."""

    def __init__(self) -> None:
        self._ends: tuple[socket.socket, socket.socket] | None = None

    def __call__(self) -> None:
        """There are news; from any thread."""
        if self._ends is not None:
            self._send(CHANGED)

    def wake(self) -> None:
        """There are none, but somebody is new."""
        self._send(_WAKE)

    def _send(self, byte: bytes) -> None:
        ends = self._ends
        if ends is not None:
            with suppress(OSError):  # full: it is going to be looked at; or just closed
                ends[1].send(byte)

    def take(self) -> bytes:
        """What was heard since the last time."""
        ends = self._ends
        try:
            return b"" if ends is None else ends[0].recv(4096)
        except OSError:
            return b""

    def open(self) -> socket.socket:
        """Begin to hear; what is returned becomes readable when there are news."""
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
    """What must be let go of. Apart from :class:`Access`, so that letting go does not keep that alive."""

    def __init__(self, local: LocalNotifier) -> None:
        self.local = local
        self.shared: SharedStorage | None = None
        self.storage: Storage | None = None
        self.owner: int | None = None
        """This process, as one that waits for the ends of jobs."""
        self.generation = 0
        self.stale_before = 0
        """How often it had been closed when those who waited were last told to give up."""

    def close(self) -> None:
        """Let go on demand, or for good."""
        self.stale_before = self.generation + 1
        self.release()

    def release(self) -> None:
        """Close the storage; those who wait open it again."""
        self.generation += 1
        self.let_go()
        self.local.wake()

    def let_go(self) -> None:
        shared = self.shared
        if shared is None or shared.is_pre_fork:
            self.shared = self.storage = self.owner = None  # an owner is the parent's, too
            return
        with shared.lock:  # whoever uses it now ends first
            storage, owner = self.storage, self.owner
            self.shared = self.storage = self.owner = None
            try:
                if owner is not None and storage is not None:
                    storage.deregister(owner)
            except Exception as error:  # whoever looks next finds it dead, and removes it
                log.debug("A client could not leave in order: %s", error)
            finally:
                shared.close(self.local)


class StorageConnection:
    """One app's way to its storage; ``current()`` is the storage at any time. A context manager: the storage, locked.

    ::

        with access as storage:
            storage.insert(rows)
        access.ring(workers=True)
    """

    def __init__(self, current: Callable[[], Storage]) -> None:
        self.local = LocalNotifier()
        self._current = current
        self._state = _State(self.local)
        self._opening = threading.Lock()
        self._is_located = False
        """The log says already where the database is."""
        self._pid = os.getpid()
        weakref.finalize(self, self._state.close)

    @property
    def generation(self) -> int:
        """How often it was closed."""
        return self._state.generation

    @property
    def stale_before(self) -> int:
        """How often it had been closed at the last :meth:`close`."""
        return self._state.stale_before

    @property
    def is_open(self) -> bool:
        """Whether this process holds the storage open by it."""
        shared = self._state.shared
        return shared is not None and not shared.is_pre_fork

    def __enter__(self) -> Storage:
        return self._enter(None)

    @contextmanager
    def if_generation(self, generation: int) -> Iterator[Storage]:
        """The storage, locked, if it was not closed since it had been so many times; else Closed: it is not opened."""
        storage = self._enter(generation)
        try:
            yield storage
        finally:
            self._leave()

    def _enter(self, generation: int | None) -> Storage:
        state, storage = self._state, self._current()
        shared = state.shared
        if shared is None or state.storage is not storage or shared.is_pre_fork:
            shared = self._open(storage, generation)
        shared.lock.acquire()
        if state.shared is not shared or generation not in (None, state.generation):  # closed at this very moment
            shared.lock.release()
            self._check(generation)
            return self._enter(generation)
        shared.flush_deferred()
        return storage

    def _check(self, generation: int | None) -> None:
        if generation not in (None, self._state.generation):
            raise Closed

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()

    def _leave(self) -> None:
        shared = self._state.shared
        assert shared is not None
        shared.lock.release()

    def reader(self, generation: int | None = None) -> Storage:
        """The storage, open and up to date, for its reading methods: those need no lock, and wait for no writer.
        ``generation``: see :meth:`since`."""
        state, storage = self._state, self._current()
        shared = state.shared
        if shared is None or state.storage is not storage or shared.is_pre_fork:
            shared = self._open(storage, generation)
        if shared.may_defer_rows:
            storage = self._enter(generation)
            self._leave()
        else:
            self._check(generation)
        return storage

    def _open(self, storage: Storage, generation: int | None) -> SharedStorage:
        if self._pid != os.getpid():  # the thread that holds the lock may be one of the parent's, and so is the ear
            self._opening, self._pid = threading.Lock(), os.getpid()
            self.local.close()
        with self._opening:
            self._check(generation)
            state = self._state
            if state.shared is not None and state.storage is storage and not state.shared.is_pre_fork:
                return state.shared  # another thread was faster
            state.let_go()
            if not self._is_located:
                self._is_located = True
                log.info("Jobs are read and written in database %s.", location_of(storage))
            shared = share(storage)
            shared.open(self.local)
            state.shared, state.storage = shared, storage
            return shared

    def notify(self, *, workers: bool = False, clients: bool = False) -> None:
        """After a commit: tell everybody whom it concerns, in this process and in others. Never fails."""
        shared, storage = self._state.shared, self._state.storage
        if shared is None or storage is None:
            return
        try:
            shared.notify_others(self.local)
            notifier = storage.notifier
            if notifier is not None:
                notifier.notify(workers=workers, clients=clients)
        except Exception:  # of a user's own storage: what is stored is stored
            log.exception("The bell of %r failed.", storage)

    def forward(self) -> None:
        """Somebody outside this process has rung: tell the others in it."""
        if self._state.shared is not None:
            self._state.shared.notify_others(self.local)

    def set_owner(self, owner: int | None) -> None:
        """Remember an owner that is to be retired when the storage is let go of."""
        self._state.owner = owner

    def close(self) -> None:
        """Let go of the storage; the next use opens it again. Callers that wait are told to give up."""
        self._state.close()

    def release(self) -> None:
        """Close the storage; the next use opens it again, and callers that wait are such a use."""
        self._state.release()
