"""The part of the storage port that is about calls which give way to an earlier job, or change it.

**Unique keys.** The insert itself decides which job has a key (``unique_key`` of a row). Besides, inside a transaction:
``hold_keys`` has others wait with theirs, ``hold_unique`` finds that job and keeps it as it is; ``give_up_key`` lets
another job have the key while this one runs on. A key that begins with :data:`UNTIL_START` is given up by the claim
itself, once the limits of the job admit it, for good: a retry has no key.

**Windows.** A window is the time in which the calls of a debounced task with one key are merged, and the job that they
are merged into. It is known by its key; nothing else of a storage looks at it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol

from jobify.model.records import NewJob
from jobify.types import Microseconds

__all__ = ("UNTIL_START", "MergePort", "Window", "require_free_key", "require_own_key")

UNTIL_START: Final = "start:"
"""Begins the unique keys that a job has until it is claimed. (The statements of databases contain it.)"""


class Window(NamedTuple):
    """What is known of the last calls with one key."""

    job_id: str
    """What they were merged into."""
    first_at: Microseconds
    """The time of the first call."""
    closes_at: Microseconds
    """The next call from then on opens another window, unless its job still waits."""
    is_trailing: bool
    """Whether the job runs after the last call. If not, it runs for the first one."""


class MergePort(Protocol):
    """What a storage does for calls that may be merged. Part of :class:`jobify.storage.base.Storage`."""

    def hold_unique(self, key: str) -> str | None:
        """``find_unique``, inside a transaction: until its end no other process changes that job."""
        ...

    def give_up_key(self, id: str) -> None:
        """Let another job have the unique key of this one."""
        ...

    def hold_keys(self, keys: Sequence[str]) -> None:
        """Let no other process get beyond this call with one of these keys, until the end of this transaction. First in
        it: all keys that it is about, in one call."""
        ...

    def window(self, key: str) -> Window | None:
        """The window of this key."""
        ...

    def set_window(self, key: str, window: Window) -> None:
        """Let this be the window of the key."""
        ...

    def forget_windows(self, *, now: Microseconds, limit: int) -> int:
        """Delete windows that have closed and whose job does not wait, at most ``limit``; how many."""
        ...


def require_free_key(find: Callable[[str], str | None], job: NewJob) -> None:
    """ValueError if a replacement wants parents, or a unique key that another job has."""
    if job.parents:
        raise ValueError(f"Job {job.id!r} cannot be put with parents: it would have to wait. Insert it.")
    if job.unique_key is not None and find(job.unique_key) not in (None, job.id):
        raise ValueError(f"Job {job.id!r} cannot be put with a unique key that another job has. Insert it.")


def require_own_key(find: Callable[[str], str | None], job: NewJob) -> None:
    """ValueError if what is to follow a running job wants a unique key that this one does not have."""
    if job.unique_key is not None and find(job.unique_key) != job.id:
        raise ValueError(f"Job {job.id!r} runs without this unique key, which another job may take. Insert it.")
