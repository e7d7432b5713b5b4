"""One storage object in the hands of several apps of one process: ``Jobify(storage=s)``, twice.

Two objects for one file are as good as two processes. One object has one connection and one transaction: it is opened
by the first that uses it and closed by the last, and they take turns. A storage tells only other *processes* of news,
so those that share it tell each other.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from jobify.storage.base import Storage

__all__ = ("Shared", "share")

Tell = Callable[[], None]


class Shared:
    """Who uses a storage object. ``lock`` is held while it is used."""

    def __init__(self, storage: Storage) -> None:
        self.lock = threading.RLock()
        self._storage = storage
        self._users: list[Tell] = []

    def open(self, user: Tell) -> None:
        """Open the storage for one more user, who is known by how to tell it of news."""
        with self.lock:
            self._storage.open()
            self._users.append(user)

    def close(self, user: Tell) -> None:
        """Close the storage if nobody else uses it."""
        with self.lock:
            self._users = [other for other in self._users if other != user]
            if not self._users:
                with _guard:
                    _shared.pop(id(self._storage), None)
                self._storage.close()

    @property
    def is_divided(self) -> bool:
        """Whether there are several users."""
        return len(self._users) > 1

    def tell_others(self, user: Tell) -> None:
        """Tell everybody but ``user`` that there are news."""
        for other in self._users:
            if other != user:
                other()


_guard = threading.Lock()
_shared: dict[int, Shared] = {}


def share(storage: Storage) -> Shared:
    """What all users of this object have in common, as long as there are any."""
    with _guard:
        return _shared.setdefault(id(storage), Shared(storage))
