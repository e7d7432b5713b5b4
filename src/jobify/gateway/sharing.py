"""One storage object with several users in a process: apps that were given the same one, and clients.

Two objects for one file behave like two processes. One object has one connection and one transaction: the first user
opens it, the last one closes it, and they take turns. A storage notifies only other *processes*, so its users notify
each other. The engine of a storage in memory defers inserts that no one else can see; it makes up for them before
another user reads (``flush_hook``).

What users have in common lives as long as one of them holds it, and is never removed from the registry before that. So
a user that comes while the last one closes the storage waits for the end of that, and opens it again: with a
SharedStorage of its own it would take the storage for open while it is being closed.

A fork takes none of this along: the child begins with an empty registry, and its first use opens the storage again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from weakref import WeakValueDictionary

from jobify.runtime import fork
from jobify.storage.base import Storage

__all__ = ("SharedStorage", "share")

Notify = Callable[[], None]


class SharedStorage:
    """The users of a storage object. ``lock`` is held while the storage is written.

    A reader takes the lock only where rows may be deferred (``may_defer_rows``), which is in memory. Otherwise it would
    wait for a writer that waits for another process.
    """

    def __init__(self, storage: Storage) -> None:
        self.lock = threading.RLock()
        # Guards the list of users. Apart from ``lock``, so that a new user waits for no write.
        self._membership = threading.RLock()
        self.is_pre_fork = False
        """Whether this is a child process that has inherited the object: share the storage again."""
        self.has_other_users = False
        """Whether there are several users."""
        self._storage = storage
        self._users: list[Notify] = []
        self._flush_hooks: dict[Notify, Callable[[], None]] = {}

    def open(self, user: Notify, *, flush_hook: Callable[[], None] | None = None) -> None:
        """Open the storage for one more user, identified by what notifies it (from any thread).

        ``flush_hook`` is called, with the lock held, before another user reads: it inserts the rows that this one has
        deferred.
        """
        with self._membership:
            self._users.append(user)  # before the storage opens, so that no other user's close shuts it meanwhile
            try:
                self._storage.open()
            except BaseException:
                self._users.remove(user)
                raise
            self.has_other_users = len(self._users) > 1
            if flush_hook is not None:
                self._flush_hooks[user] = flush_hook

    def close(self, user: Notify) -> None:
        """Remove a user; the last one closes the storage."""
        with self.lock, self._membership:
            self._users = [other for other in self._users if other != user]
            self.has_other_users = len(self._users) > 1
            self._flush_hooks.pop(user, None)
            if not self._users:
                self._storage.close()

    @property
    def may_defer_rows(self) -> bool:
        """Whether a user may have rows that are not in the storage yet: call ``flush_deferred`` before reading."""
        return bool(self._flush_hooks)

    def flush_deferred(self) -> None:
        """Insert the rows that users have deferred. Call with the lock held, before reading."""
        for flush_hook in self._flush_hooks.values():
            flush_hook()

    def notify_others(self, user: Notify) -> None:
        """Notify all users but this one of a change."""
        for other in self._users:
            if other != user:
                other()


class _Registry:
    """The storages that are in use, by the id of the object, which is held, so that no other object has that id."""

    def __init__(self) -> None:
        self._clear()
        fork.renew_in_child(self)

    def _clear(self) -> None:
        # The garbage collector may run at any moment, and call what is guarded: hence the RLock. It is the innermost
        # lock.
        self._guard = threading.RLock()
        self._shared: WeakValueDictionary[int, SharedStorage] = WeakValueDictionary()

    def share(self, storage: Storage) -> SharedStorage:
        with self._guard:
            shared = self._shared.get(id(storage))
            if shared is None:
                shared = self._shared[id(storage)] = SharedStorage(storage)
            return shared

    def after_fork_in_child(self) -> None:
        for shared in list(self._shared.values()):
            shared.is_pre_fork = True
        self._clear()


_registry = _Registry()


def share(storage: Storage) -> SharedStorage:
    """What all users of this object have in common, as long as one of them holds it."""
    return _registry.share(storage)
