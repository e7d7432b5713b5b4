"""The connection of a process that stays: it listens, it notifies, and it proves that the process lives.

**One thread** has this connection, and nothing else uses it. It waits for what the server says, and takes it at once.
So a notification is never kept back by a busy event loop; and the server never waits for a reader, which would hold up
vacuum in the whole database.

**Locks.** Each owner holds a session-level advisory lock on this connection. The server drops the lock when the
connection ends, a few milliseconds after the process is killed; a process that is stopped or busy keeps it, because it
is the kernel that answers probes. A server notices the end of a client only while it runs no statement for it. So
nothing long runs here, and no transaction is ever open.

**Notifications** are sent here, too, although they are statements. They take a fraction of a millisecond: the session
does not wait for its commits to be flushed (``synchronous_commit``), and gives up where others hold up all commits that
notify (``lock_timeout``), so a dead process is noticed a second later at worst. A connection of their own would be the
fourth of each process. Whatever is to be said while one is under way becomes the next one: a process sends one at a
time, however many threads notify.

**A lost connection** is opened again, by this thread: at once, and then twice a second. The locks are taken and the
channels listened to before anything else. What was said meanwhile is lost, so the process then looks by itself.

**Behind a transaction pooler** a connection has no session: no lock stays, and nothing can be listened
to. There the thread renews leases instead, by the clock of the server.
"""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final

import psycopg

from jobify.exceptions import StorageUnavailableError
from jobify.runtime.backoff import Backoff
from jobify.runtime.logs import get_logger
from jobify.storage.postgres.connection import Connection
from jobify.storage.postgres.database import Database
from jobify.storage.postgres.session_calls import Command, Outbox, Wake

__all__ = ("LEASE", "Session")

log = get_logger("jobify.storage")

LEASE: Final = 10.0
"""Seconds that an owner lives without a sign, behind a pooler."""
_RENEWAL: Final = 2.5
_PAUSES: Final = (0.02, 0.5)
"""Seconds between two attempts to connect, first and at most."""
_PATIENCE: Final = 15.0
"""Seconds that a call waits for this thread."""
_LAST_WORDS: Final = 2.0
"""Seconds that ``close`` waits."""

_SETTINGS: Final = "SELECT set_config('synchronous_commit', 'off', false), set_config('lock_timeout', '1s', false)"
_LOCK: Final = "SELECT pg_advisory_lock(key) FROM unnest($1::bigint[]) AS key"
_UNLOCK: Final = "SELECT pg_advisory_unlock(key) FROM unnest($1::bigint[]) AS key"


class Session:
    """The listening connection to a database.

    ``on_notification(channel, word)`` is called for what other processes say, ``on_return()`` when a lost connection is
    there again; both in the thread. Other methods may be called in any thread. Connects at the first need.
    """

    def __init__(
        self,
        database: Database,
        on_notification: Callable[[str, str], object],
        on_return: Callable[[], object],
    ) -> None:
        self._database = database
        self._on_notification = on_notification
        self._on_return = on_return
        self._is_pooled = database.is_pooled
        self._guard = threading.Lock()
        self._connecting = threading.Lock()
        """Held while a connection is made: a fork would copy a descriptor that is not known yet."""
        self._commands: deque[Command] = deque()
        self._outbox = Outbox(database.where)
        self._keys: set[int] = set()
        self._locked: set[int] = set()
        """Those that this connection holds. It takes each once, because the server counts how often one was taken."""
        self._channels: frozenset[str] = frozenset()
        self._subscribed: frozenset[str] = frozenset()
        self._thread: threading.Thread | None = None
        self._wake = Wake()
        self._is_ending = False
        self._is_over = False
        self._descriptor = -1
        self._socket: tuple[int, int] | None = None
        """What the descriptor is of, because a connection that is lost closes it by itself."""
        self._pid = 0
        self._renewed_at = 0.0
        self._lost_at: float | None = None
        self._renewals = 0

    @property
    def own_commits(self) -> int:
        """Transactions of this connection that have changed something; see ``changes``."""
        return self._outbox.sent + self._renewals

    @property
    def is_listening(self) -> bool:
        """Whether notifications arrive here."""
        return self._descriptor >= 0 and bool(self._subscribed)

    # -- from any thread -----------------------------------------------------------------------------------------------

    def hold(self, key: int) -> None:
        """Take a lock, and take it again whenever the connection was lost. StorageUnavailableError if that fails."""
        with self._guard:
            self._keys.add(key)
        try:
            self.call(self._lock)
        except BaseException:
            with self._guard:
                self._keys.discard(key)
            raise

    def release(self, keys: Iterable[int], farewell: Callable[[Connection], object] | None = None) -> None:
        """Let go of locks. ``farewell`` is called first; where nothing can be said any more, nothing is."""
        mine = [key for key in keys if key in self._keys]
        if not mine:
            return

        def let_go(connection: Connection) -> None:
            if farewell is not None:
                farewell(connection)
            if not self._is_pooled:
                connection.execute(_UNLOCK, (mine,))
                self._locked.difference_update(mine)

        with suppress(StorageUnavailableError):
            self.call(let_go, patience=_LAST_WORDS)
        with self._guard:
            self._keys.difference_update(mine)
        self._nudge()

    def listen(self, channels: Iterable[str]) -> None:
        """Listen to these channels, and to no others. Returns when that is so."""
        self._channels = frozenset(channels)
        if not self._is_pooled:
            self.call(self._subscribe)

    def say(self, words: dict[str, str]) -> None:
        """Send each word on its channel. Returns at once; when the connection is lost, so is what was said."""
        self._outbox.put(words)
        if self._lost_at is None:
            self._nudge()

    def call(self, run: Callable[[Connection], object], *, patience: float = _PATIENCE) -> None:
        """Call ``run`` with the connection, in the thread, and wait for it, at most for ``patience`` seconds."""
        command = Command(run)
        with self._guard:
            if self._is_over:
                raise StorageUnavailableError(f"The storage of {self._database.where} is closed.")
            self._commands.append(command)
        self._nudge()
        command.result(self._database.where, patience)

    def close(self) -> None:
        """End when no lock is held any more. What was said before is sent first. Its own thread may call it, too."""
        thread, self._channels, self._is_ending = self._thread, frozenset(), True
        if thread is not None:
            self._nudge()
            if not self._keys and thread is not threading.current_thread():  # which collects garbage, too
                thread.join(_LAST_WORDS)

    def _nudge(self) -> None:
        """Have the thread look at what there is to do; start it, if there is none."""
        with self._guard:
            if self._thread is None:
                self._wake.open()
                self._thread = threading.Thread(target=self._run, name="jobify-postgres", daemon=True)
                self._thread.start()
            else:
                self._wake.send()

    # -- forks ---------------------------------------------------------------------------------------------------------

    def before_fork(self) -> None:
        """Before a fork: let no connection be half made."""
        self._connecting.acquire()

    def after_fork_in_parent(self) -> None:
        """After a fork, in the parent."""
        self._connecting.release()

    def after_fork_in_child(self) -> None:
        """After a fork, in the child: close the copy of the connection, which would keep the locks of a parent that
        has died, and say nothing on it."""
        with suppress(OSError):
            if (
                self._socket is not None and _identity(self._descriptor) == self._socket
            ):  # else it is another file by now
                os.close(self._descriptor)
        self._wake.close()
        self._thread = None
        self._descriptor, self._keys = -1, set()
        self._connecting = threading.Lock()

    # -- in the thread -------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        backoff = Backoff(*_PAUSES)
        while not self._has_ended():
            if not self._is_needed():
                self._wake.wait(None)
                continue
            connection: Connection | None = None
            try:
                connection = self._connect()
                backoff.reset()
                self._serve(connection)
            except (psycopg.Error, OSError, StorageUnavailableError) as error:
                self._lose(error)
            finally:
                self._descriptor, self._socket, self._subscribed, self._locked = -1, None, frozenset(), set()
                if connection is not None:
                    with suppress(psycopg.Error):
                        connection.close()
            if self._lost_at is not None:
                self._wake.wait(backoff.next())

    def _is_needed(self) -> bool:
        return bool(self._keys or self._channels or self._commands or self._outbox)

    def _has_ended(self) -> bool:
        """Whether there is nothing left to do, and will not be."""
        with self._guard:
            if not self._is_ending or self._keys:
                return False
            self._is_over = self._lost_at is not None or not (self._commands or self._outbox)
            if self._is_over:
                self._wake.close()
            return self._is_over

    def _connect(self) -> Connection:
        with self._connecting:
            connection = self._database.new_connection()
            self._descriptor = connection.fileno()
            self._socket = _identity(self._descriptor)
        self._pid = connection.pgconn.backend_pid
        connection.add_notify_handler(lambda said: self._take(said.channel, said.payload, said.pid))
        if not self._is_pooled:
            connection.execute(_SETTINGS, prepare=False)
            self._lock(connection)
            self._subscribe(connection)
        self._renewed_at = 0.0
        if self._lost_at is not None:
            seconds, self._lost_at = time.monotonic() - self._lost_at, None
            level = logging.WARNING if self._keys else logging.DEBUG
            log.log(level, "This process is connected to %s again, after %.1f s.", self._database.where, seconds)
            self._on_return()
        return connection

    def _serve(self, connection: Connection) -> None:
        """Do what there is to do, and wait for the server, until there is an end."""
        poll = select.poll()
        poll.register(connection.fileno(), select.POLLIN)
        poll.register(self._wake.fileno(), select.POLLIN)
        while True:
            timeout = self._work(connection)
            if self._has_ended():
                return
            for descriptor, _ in poll.poll(timeout):
                if descriptor == self._descriptor:
                    connection.pgconn.consume_input()
                else:
                    self._wake.take()
            while (said := connection.pgconn.notifies()) is not None:
                self._take(said.relname.decode(), said.extra.decode(), said.be_pid)

    def _work(self, connection: Connection) -> float | None:
        """Do what others ask for; in how many milliseconds there is something to do."""
        while True:
            with self._guard:
                command = self._commands.popleft() if self._commands else None
            if command is None:
                break
            command.run(connection)
            if connection.closed:
                raise psycopg.OperationalError("the connection was lost")
        timeout = self._outbox.send(connection, is_last=self._is_ending)
        if self._is_pooled:
            renewal = self._renew(connection)
            timeout = renewal if timeout is None else min(timeout, renewal)
        return timeout

    def _renew(self, connection: Connection) -> float:
        """Renew the leases, if it is time; in how many milliseconds it is."""
        left = self._renewed_at + _RENEWAL - time.monotonic()
        if left > 0:
            return left * 1000
        with self._guard:
            keys = list(self._keys)
        if keys:
            connection.execute(self._database.sql("renew_leases").query, (int(LEASE * 1e6), keys))
            self._renewals += 1
        self._renewed_at = time.monotonic()
        return _RENEWAL * 1000

    def _lock(self, connection: Connection) -> None:
        """Take the locks that are wanted."""
        keys = self._keys - self._locked
        if keys and not self._is_pooled:
            connection.execute(_LOCK, (list(keys),))
            self._locked |= keys

    def _subscribe(self, connection: Connection) -> None:
        """Listen to what is wanted, and to no more."""
        wanted, present = self._channels, self._subscribed
        for word, channels in (("LISTEN", wanted - present), ("UNLISTEN", present - wanted)):
            for channel in sorted(channels):
                connection.execute(f'{word} "{channel}"'.encode(), prepare=False)
        self._subscribed = wanted

    def _take(self, channel: str, word: str, pid: int) -> None:
        if pid != self._pid:
            self._on_notification(channel, word)

    def _lose(self, error: Exception) -> None:
        """The connection is lost, or could not be made."""
        if self._lost_at is None:
            self._lost_at = time.monotonic()
            level = logging.WARNING if self._keys else logging.DEBUG
            log.log(
                level,
                "This process has lost its connection to %s, and connects again by itself. Until then it is not "
                "notified of new work, and others may take its jobs after a second (%s).",
                self._database.where, str(error).strip().partition("\n")[0],
            )  # fmt: skip
        with self._guard:
            commands, self._commands = self._commands, deque()
        self._outbox.clear()
        for command in commands:
            command.fail(error)


def _identity(descriptor: int) -> tuple[int, int]:
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino
