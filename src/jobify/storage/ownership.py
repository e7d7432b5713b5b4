"""The part of the storage port that is about owners.

Their life, what they record for recovery, and the jobs of dead ones.

See *Ownership* and *Suspects* in :mod:`jobify.storage.base`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Final, Protocol

from jobify.model.records import OwnerProfile, OwnerRecord, Recovered
from jobify.storage.suspicion import Death
from jobify.types import Microseconds

__all__ = ("HEARTBEAT", "BegunJobs", "Notifier", "OwnerPort")

HEARTBEAT: Final = 10.0
"""Seconds between two calls of ``heartbeat`` by an owner that lives."""


class Notifier(Protocol):
    """How processes on one database wake each other.

    Losing a wake-up costs latency, never a job.
    """

    @property
    def has_listeners(self) -> bool:
        """Whether another process may be listening; if not, a wake-up is not needed.

        Reads no file and no row.
        """
        ...

    def notify(self, *, workers: bool, clients: bool, owners: Collection[int] = ()) -> None:
        """Wake other processes, which then read the database again. Never blocks.

        All workers (there is work, or a cancel or a pause was requested), all clients (jobs have ended), and these
        owners. Called after a commit, by the user of the storage; arrives a moment later. Works as soon as the storage
        is open, also for a process that has no owner and cannot be notified itself.
        """
        ...

    def fileno(self) -> int:
        """A descriptor that becomes readable when another process has notified this one.

        -1 means that there is none: poll ``has_external_changes``.
        """
        ...

    def drain(self) -> bool:
        """Take wake-ups that have arrived off the descriptor; whether there were any.

        Takes a bounded number and never blocks. A new process announces itself with a wake-up, too; once that is
        drained, :meth:`notify` reaches the process.
        """
        ...

    @property
    def is_flooded(self) -> bool:
        """Whether the last ``drain`` took as many as it takes, so that there may be no end: pause, and then watch the
        descriptor again."""
        ...


class BegunJobs(Protocol):
    """Where an owner records which of its jobs have begun, to be read after its death.

    Called for every attempt: it must cost next to nothing, and never waits. Jobs are entered by any thread, and left by
    that of the event loop.
    """

    is_local: bool
    """Only processes of this machine can read it: where another machine finds the owner dead, all that it held counts
    as begun."""

    def enter(self, id: str) -> int:
        """An attempt of this job begins. The answer is what ``leave`` is given."""
        ...

    def leave(self, slot: int) -> None:
        """The outcome of the attempt is stored, or no longer needed."""
        ...


class OwnerPort(Protocol):
    """What a storage does for owners. Part of :class:`jobify.storage.base.Storage`."""

    def register(self, profile: OwnerProfile, *, now: Microseconds) -> int:
        """Enter this process as an owner; returns its id, which is never used twice.

        The owner is alive until it is deregistered, closed or dead. One storage may register several owners.
        """
        ...

    def heartbeat(self, owner: int, *, now: Microseconds) -> None:
        """Record that an owner was seen; called every :data:`HEARTBEAT` seconds.

        For the list of workers, and the last proof of life of an owner of which nothing else is known. A power cut may
        undo it.
        """
        ...

    def deregister(self, owner: int) -> None:
        """Remove an owner; an unknown one is no error.

        Jobs it still holds are released as ``recover`` releases them, but no crash is counted and no line written; of
        one that has left, no attempt either.
        """
        ...

    def leave(self, owner: int) -> Callable[[], None]:
        """Let an owner leave while its jobs still run in threads of this process.

        It keeps what it holds, and counts as alive, until the function that is returned has been called or the process
        is dead; both may come after ``close``. The function may be called on any thread, and more than once. From then
        on ``recover`` releases those jobs, with neither an attempt nor a crash counted, and a ``released`` line. For
        an unknown owner nothing happens. Where the storage is unavailable the owner leaves all the same, and its jobs
        count a crash."""
        ...

    def owners(self) -> list[OwnerRecord]:
        """All owners, and whether they live."""
        ...

    def recent_deaths(self, *, now: Microseconds) -> Sequence[Microseconds]:
        """When processes have died, within a minute of ``now``, for a reason that no trial explains.

        For the blame of a job whose child process died (:func:`~jobify.storage.suspicion.is_blamed_for_child`).
        """
        ...

    def begun(self, owner: int) -> BegunJobs | None:
        """Where this owner records every attempt that begins, also of other storages.

        None means that it cannot be recorded: all that a dead owner held counts as begun.
        """
        ...

    def recover(
        self,
        *,
        now: Microseconds,
        max_crashes: int,
        delete_at: Microseconds | None,
        on_death: Callable[[Death], object] | None = None,
    ) -> list[Recovered]:
        """Take the jobs of dead owners from them, and remove those owners.

        Each such job that had begun goes back to waiting, due at once (``due_at`` stays: it names the run), with its
        attempt counted and a ``lost`` line in its history. One that was the only suspect (owners of one process died
        together; see *Suspects* above) has one crash more, unless processes die for another reason just now; with
        ``max_crashes`` it ends failed with that reason (and ``delete_at``; a schedule is kept), or is held while that
        is doubted, and judged by a later call. One that had not begun goes back without an attempt and a line. A
        pending replacement takes the job's place; one whose cancel was requested ends cancelled, as its ``cancel``
        said. When several processes recover at once, each job is taken exactly once. Costs next to nothing when no
        owner is dead and none is held. ``on_death`` is called at the end, for each process. What owners held that have
        left is released as ``leave`` says; that is no death.

        An owner is dead when that is proved, never because a trace of it is missing. Each call also repairs the traces
        of the owners that are registered here.
        """
        ...
