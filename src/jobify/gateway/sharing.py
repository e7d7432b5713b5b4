"""One storage object in several hands of one process: apps that were given the same one, and whoever enqueues.

Two objects for one file are as good as two processes. One object has one connection and one transaction: it is opened
by the first that uses it and closed by the last, and they take turns. A storage tells only other *processes* of news,
so those that share it tell each other. The engine of a storage in memory holds rows back that nobody can see; it gives
them away before somebody else looks (``flush_hook``).

What users have in common lives as long as one of them holds it, and is never taken out of the list before that. So
whoever comes while the last user closes the storage waits for the end of that, and opens it again: with something of
its own it would take the storage for open that is just being closed.

A fork takes none of this along: the child begins with nobody in the list, and whoever uses a storage there opens it
anew.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from weakref import WeakValueDictionary

from jobify.storage.base import Storage

__all__ = ("SharedStorage", "share")

Notify = Callable[[], None]


class SharedStorage:
    """Who uses a storage object. ``lock`` is held while it is written.

    What only reads takes the lock just where rows may be held back (``may_hold_rows``), which is in memory. Otherwise a
    reader would wait for a writer that waits for another process.
    """

    def __init__(self, storage: Storage) -> None:
        self.lock = threading.RLock()
        # Guards the list of users. Apart from ``lock``, so that a new user waits for no write.
        self._membership = threading.RLock()
        self.is_pre_fork = False
        """This is a child process, and what is known here is its parent's: share the storage anew."""
        self.has_other_users = False
        """There are several users."""
        self._storage = storage
        self._users: list[Notify] = []
        self._flush_hooks: dict[Notify, Callable[[], None]] = {}

    def open(self, user: Notify, *, flush_hook: Callable[[], None] | None = None) -> None:
        """Open the storage for one more user, who is known by how to tell it of news (from any thread).

        ``flush_hook`` is called, with the lock held, when another user is about to look: what this one has held back
        becomes rows then.
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
        """Close the storage if nobody else uses it."""
        with self.lock, self._membership:
            self._users = [other for other in self._users if other != user]
            self.has_other_users = len(self._users) > 1
            self._flush_hooks.pop(user, None)
            if not self._users:
                self._storage.close()

    @property
    def may_defer_rows(self) -> bool:
        """Whether a user may have rows that are not in the storage yet: ``bring_up_to_date`` comes before a look."""
        return bool(self._flush_hooks)

    def flush_deferred(self) -> None:
        """Have everybody give the rows that they have held back. To be called with the lock held, before a look."""
        for flush_hook in self._flush_hooks.values():
            flush_hook()

    def notify_others(self, user: Notify) -> None:
        """Tell everybody but ``user`` that there are news."""
        for other in self._users:
            if other != user:
                other()


# The garbage collector may run at any moment, and call what is guarded: hence the RLock. It is the innermost lock.
_guard = threading.RLock()
_shared: WeakValueDictionary[int, SharedStorage] = WeakValueDictionary()
"""By the id of the storage, which is held, so that no other object has it."""


def share(storage: Storage) -> SharedStorage:
    """What all users of this object have in common, as long as one of them holds it."""
    with _guard:
        shared = _shared.get(id(storage))
        if shared is None:
            shared = _shared[id(storage)] = SharedStorage(storage)
        return shared


def _forget() -> None:
    global _guard, _shared
    for shared in list(_shared.values()):
        shared.is_pre_fork = True
    _guard, _shared = threading.RLock(), WeakValueDictionary()


if hasattr(os, "register_at_fork"):  # pragma: no branch - not on Windows, which has no fork
    os.register_at_fork(after_in_child=_forget)
