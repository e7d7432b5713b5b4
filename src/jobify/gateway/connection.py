"""Reaching a storage without an engine: it is opened when it is first needed, and let go of in the end.

Any thread may use it, one at a time; so may an app that starts and stops on the same storage object meanwhile (see
``storage.sharing``). It is closed when the app object is gone, at the end of the interpreter, or on demand, and opened
again by the next use; in a forked child, too, for a fork takes nothing along. What began before it was closed is no
next use: whoever goes on for longer than a call remembers ``closings``, and names it.
"""

from __future__ import annotations

import os
import socket
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType

from jobify.gateway.sharing import Shared, share
from jobify.runtime.logs import get_logger
from jobify.storage.base import Storage
from jobify.storage.location import location_of

__all__ = ("NEWS", "Access", "Closed", "Ear")

NEWS, _NUDGE = b".", b"+"

log = get_logger("jobify.client")


class Closed(Exception):
    """The storage was closed since then, and maybe opened again."""


class Ear:
    """Hears that other users of the storage object have news. Deaf, and then free of charge, until it is opened."""

    def __init__(self) -> None:
        self._ends: tuple[socket.socket, socket.socket] | None = None

    def __call__(self) -> None:
        """There are news; from any thread."""
        if self._ends is not None:
            self._send(NEWS)

    def nudge(self) -> None:
        """There are none, but somebody is new."""
        self._send(_NUDGE)

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


class _Grip:
    """What must be let go of. Apart from :class:`Access`, so that letting go does not keep that alive."""

    def __init__(self, ear: Ear) -> None:
        self.ear = ear
        self.shared: Shared | None = None
        self.storage: Storage | None = None
        self.owner: int | None = None
        """This process, as one that waits for the ends of jobs."""
        self.closings = 0
        self.dismissals = 0
        """How often it had been closed when those who waited were last told to give up."""

    def close(self) -> None:
        """Let go on demand, or for good."""
        self.dismissals = self.closings + 1
        self.release()

    def release(self) -> None:
        """Close the storage; those who wait open it again."""
        self.closings += 1
        self.let_go()
        self.ear.nudge()

    def let_go(self) -> None:
        shared = self.shared
        if shared is None or shared.is_left_behind:
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
                shared.close(self.ear)


class Access:
    """One app's way to its storage; ``current()`` is the storage at any time. A context manager: the storage, locked.

    ::

        with access as storage:
            storage.insert(rows)
        access.ring(workers=True)
    """

    def __init__(self, current: Callable[[], Storage]) -> None:
        self.ear = Ear()
        self._current = current
        self._grip = _Grip(self.ear)
        self._opening = threading.Lock()
        self._is_located = False
        """The log says already where the database is."""
        self._pid = os.getpid()
        weakref.finalize(self, self._grip.close)

    @property
    def closings(self) -> int:
        """How often it was closed."""
        return self._grip.closings

    @property
    def dismissals(self) -> int:
        """How often it had been closed at the last :meth:`close`."""
        return self._grip.dismissals

    @property
    def is_open(self) -> bool:
        """Whether this process holds the storage open by it."""
        shared = self._grip.shared
        return shared is not None and not shared.is_left_behind

    def __enter__(self) -> Storage:
        return self._enter(None)

    @contextmanager
    def since(self, closings: int) -> Iterator[Storage]:
        """The storage, locked, if it was not closed since it had been so many times; else Closed: it is not opened."""
        storage = self._enter(closings)
        try:
            yield storage
        finally:
            self._leave()

    def _enter(self, closings: int | None) -> Storage:
        grip, storage = self._grip, self._current()
        shared = grip.shared
        if shared is None or grip.storage is not storage or shared.is_left_behind:
            shared = self._open(storage, closings)
        shared.lock.acquire()
        if grip.shared is not shared or closings not in (None, grip.closings):  # closed at this very moment
            shared.lock.release()
            self._check(closings)
            return self._enter(closings)
        shared.bring_up_to_date()
        return storage

    def _check(self, closings: int | None) -> None:
        if closings not in (None, self._grip.closings):
            raise Closed

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()

    def _leave(self) -> None:
        shared = self._grip.shared
        assert shared is not None
        shared.lock.release()

    def look(self, closings: int | None = None) -> Storage:
        """The storage, open and up to date, for its reading methods: those need no lock, and wait for no writer.
        ``closings``: see :meth:`since`."""
        grip, storage = self._grip, self._current()
        shared = grip.shared
        if shared is None or grip.storage is not storage or shared.is_left_behind:
            shared = self._open(storage, closings)
        if shared.may_hold_rows:
            storage = self._enter(closings)
            self._leave()
        else:
            self._check(closings)
        return storage

    def _open(self, storage: Storage, closings: int | None) -> Shared:
        if self._pid != os.getpid():  # the thread that holds the lock may be one of the parent's, and so is the ear
            self._opening, self._pid = threading.Lock(), os.getpid()
            self.ear.close()
        with self._opening:
            self._check(closings)
            grip = self._grip
            if grip.shared is not None and grip.storage is storage and not grip.shared.is_left_behind:
                return grip.shared  # another thread was faster
            grip.let_go()
            if not self._is_located:
                self._is_located = True
                log.info("Jobs are read and written in database %s.", location_of(storage))
            shared = share(storage)
            shared.open(self.ear)
            grip.shared, grip.storage = shared, storage
            return shared

    def ring(self, *, workers: bool = False, clients: bool = False) -> None:
        """After a commit: tell everybody whom it concerns, in this process and in others. Never fails."""
        shared, storage = self._grip.shared, self._grip.storage
        if shared is None or storage is None:
            return
        try:
            shared.tell_others(self.ear)
            notifier = storage.notifier
            if notifier is not None:
                notifier.notify(workers=workers, clients=clients)
        except Exception:  # of a user's own storage: what is stored is stored
            log.exception("The bell of %r failed.", storage)

    def pass_on(self) -> None:
        """Somebody outside this process has rung: tell the others in it."""
        if self._grip.shared is not None:
            self._grip.shared.tell_others(self.ear)

    def note_owner(self, owner: int | None) -> None:
        """Remember an owner that is to be retired when the storage is let go of."""
        self._grip.owner = owner

    def close(self) -> None:
        """Let go of the storage; the next use opens it again. Callers that wait are told to give up."""
        self._grip.close()

    def release(self) -> None:
        """Close the storage; the next use opens it again, and callers that wait are such a use."""
        self._grip.release()
