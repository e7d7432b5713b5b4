"""The storage port: who may change a job, and what is atomic.

A storage is not a bag of rows to save and list. It *claims*, *settles*, *cancels*, *recovers* and *counts*, each as one
atomic step; everything the engine promises rests on the sentences below. ``jobify.testing.storage_contract`` proves
every one of them, for any storage, a user's own included.

**Plain and synchronous.** A storage is ordinary blocking code; one transaction per call. It never sees an event loop.
:class:`jobify.gateway.threaded.ThreadedGateway` gives it a thread, makes it awaitable, and lets all calls that
arrive while one transaction runs share the next one (*group commit*). So a storage must accept batches and need not be
asynchronous.

**Threads.** The writing methods are called by one thread at a time, one that may wait (or see ``nonblocking``). The
reading methods (those below "reading", and ``owners``) may be called by any thread at any time, also while a
transaction is open in another one; they see what is committed.

**Values.** What was given as a payload, a result or a published value comes back equal. A storage keeps bytes and need
not know what they mean; arguments and results are encoded before they get here. One that ``is_in_memory`` keeps any
object, uncopied: nothing is encoded for it. It is called on an event loop's thread, too, so none of
its calls may wait for anything; and an engine may hold its jobs back until another user reads them
(:class:`jobify.gateway.inline.InlineGateway`). So it is neither durable nor shared.

**Time.** Every call that depends on the time takes ``now``. A storage reads no clock; see ``clock`` for a server's.

**Ownership.** A claim belongs to an *owner*, a process that called ``register``. The proof of a claim is ``(id, owner,
fence)``; the fence is raised by every claim and by every change of a waiting job (``replace``, ``reschedule``), so an
outcome that comes too late (its job was recovered, cancelled or replaced meanwhile) is recognised and refused. Whether
an owner lives is known from something that dies with it (a file lock that the kernel drops), never from a clock per
job.

**Suspects.** When an owner dies, the jobs that had begun there are suspects (see ``begun``; without that, all that it
held). One that was the only suspect has crashed; in company it is only suspected. One that was suspected often enough
waits to run *apart*, which is one more blocker: ordinary claims pass it over. A claim of scope ``APART`` takes a group
of those that died together, and its process runs nothing else meanwhile. A job runs apart until its attempt has
ended: then it is no suspect any more; one that is released unfinished waits to run apart again. One whose last crash
is doubted is *held*: no claim takes it until a ``recover``, five seconds later, ends it or has it tried again. The
decisions are those of :mod:`jobify.storage.suspicion`, the same in every storage.

**Waiting.** A waiting job is *eligible* when it is due, nothing blocks it (``blockers`` is 0), its queue is not paused
and it has not expired. It is blocked by each parent that has not ended, by a pause, by being parked. What ends a parent
ends the wait in the same transaction, whatever the cause: success takes one blocker off each child; any other end
(failed, timed out, cancelled, expired, deleted) cancels the children, their children, and so on, with the parent's
``finished_at`` and ``delete_at``. Their reason names the job that they depend on, and what all of it comes from: the
task of the job that ended, and its error. What has ended waits for nothing: ``blockers`` is 0. Only ``retry`` brings
such jobs back, those that were cancelled for the job that is tried again. Any number of jobs may wait for all of any
number of parents: that costs their sum, and not their product.

**Need.** A job is bound to its parents, not to their ids: its inputs are their results, whatever has those ids later.
So whatever removes a row asks one question. A job that has succeeded, or was cancelled, is *needed* while one that
depends on it has not ended, or may be tried again: by itself, because it failed or timed out, or with the job that it
was cancelled for. ``delete`` and ``purge`` leave it (but for what they delete together). ``insert`` and ``replace`` of
its id set it aside: they give it another id, with its history and messages, and the time of the new job as its
``delete_at``.

**Parked calls.** A settlement with a ``parking`` makes a job wait for other code: one more blocker, until a claim of
scope ``PARKED`` takes the job by code that is not among the ``codes`` of the parking, or until ``retry``. The codes are
remembered while the job keeps its call, also while it runs, so that processes of old and of new code never take it in
turns. A parked job expires, and is cancelled, rescheduled, paused, replaced and deleted like any other that waits. It
is no suspect of anything any more.

**Limits.** A job that no limit may hold back is *eligible* as above; one that a limit does not admit has one blocker
more. See :mod:`jobify.storage.limiting`. What unique keys and merged calls need besides is in
:mod:`jobify.storage.merging`.

**Errors.** ``StorageUnavailableError`` when the database cannot be reached, is locked for too long, or is full: nothing
was changed. Any other exception means that the call itself is at fault. A transaction that fails changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, runtime_checkable

from jobify.model.records import (
    AttemptRecord,
    CancelResult,
    Claimed,
    ClaimRequest,
    CountKey,
    Expired,
    JobQuery,
    JobRecord,
    MessageKind,
    MessageRecord,
    NewJob,
    Progress,
    Relations,
    Report,
    Settled,
    Settlement,
)
from jobify.storage.kinship import Kinship
from jobify.storage.limiting import LimitPort
from jobify.storage.merging import MergePort
from jobify.storage.ownership import HEARTBEAT, BegunJobs, Notifier, OwnerPort
from jobify.storage.timekeeping import Timekeeping
from jobify.storage.traits import StorageTraits
from jobify.types import Microseconds

__all__ = ("HEARTBEAT", "BegunJobs", "Notifier", "Storage", "UnflushedWrites")


class UnflushedWrites(AbstractContextManager[None], Protocol):
    """Blocks like those of ``Storage.nonblocking``: a power cut may undo what they write, until ``flush`` returns.

    So it is acknowledged to no caller before. Other connections see it at once.
    """

    def flush(self) -> None:
        """Wait until the disk holds what was written in these blocks. Any error says that it may not."""
        ...


@runtime_checkable
class Storage(StorageTraits, OwnerPort, LimitPort, MergePort, Protocol):
    """Where jobs live. See the module's text for threads, time, ownership and errors; what a storage says of itself is
    in :class:`~jobify.storage.traits.StorageTraits`, the calls about owners in
    :class:`~jobify.storage.ownership.OwnerPort`, those about limits in :class:`~jobify.storage.limiting.LimitPort`,
    those about calls that are merged in :class:`~jobify.storage.merging.MergePort`."""

    # -- life ----------------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Connect, and bring the schema up to date under a lock. May be called again after ``close``; opening twice is
        allowed and does nothing. ``StorageVersionError`` if a newer release wrote the database; nothing is touched
        then.
        """
        ...

    def close(self) -> None:
        """Release everything; owners registered here and not deregistered count as dead. Closing twice is allowed."""
        ...

    def transaction(self) -> AbstractContextManager[None]:
        """Make the writing calls inside one atomic step: all of them, or none if the block raises.

        Calls outside such a block are atomic by themselves, and so is one that raises inside it: it has changed
        nothing. Blocks do not nest. Inside a block its own thread reads what it has written, and no other writes
        between what it reads and what it writes.
        """
        ...

    @property
    def nonblocking(self) -> AbstractContextManager[None] | None:
        """Blocks in which one writing call never waits, neither for a lock nor for a flush; None: there are none.

        Such a block may be entered on any thread, the event loop's included. Entering it, or the call inside, raises
        ``StorageUnavailableError`` where anything would have to be waited for, and nothing was changed then: make the
        call again where it may take its time. Only for a storage whose commits are no more than a copy in memory.
        """
        ...

    @property
    def nonblocking_claims(self) -> AbstractContextManager[None] | None:
        """Blocks like those of ``nonblocking`` in which one call of ``claim`` is made; None: there are none.

        A claim need not be flushed, because losing it gives the job back. So a storage may have these where it has no
        others. It may refuse any claim, and one that finds nothing.
        """
        ...

    @property
    def unflushed_writes(self) -> UnflushedWrites | None:
        """Blocks for a storage whose commits wait for a disk; None: there are none."""
        ...

    @property
    def times(self) -> Timekeeping:
        """What a change of the clock means to rows; see :mod:`jobify.storage.timekeeping`."""
        ...

    # -- writing -------------------------------------------------------------------------------------------------------

    def insert(self, jobs: Sequence[NewJob]) -> list[bool]:
        """Add jobs; for each, whether it was added. False: a job with this id, or with this unique key, is waiting or
        running (see ``find_unique``).

        An ended job with the same id makes room: its row, result and history are gone, or set aside if it is needed. (A
        row whose status this release does not know has not ended.) Within one call the first of two equal ids or keys
        wins. Order is kept: with equal priority and due time, earlier in the sequence runs first.

        A job with ``parents`` waits for them; each must exist, or stand earlier in the sequence (then that is the one
        that is meant): else ``UnknownDependencyError``, and nothing of the call was added. A schedule is no parent,
        because it has no end: the same error. A parent that has succeeded counts as done. With
        one that has ended otherwise the job is added as cancelled, with the reason.
        """
        ...

    def replace(self, job: NewJob, progress: Progress | None = None) -> bool:
        """Put a waiting job in the place of whatever has its id; True if it stands there now.

        If the old one is running, the new one is kept beside it and takes its place when that attempt ends, however it
        ends (False is returned): two runs of one id never overlap. The new one starts with ``progress`` (a schedule's),
        else from zero. A second ``replace`` supersedes a kept one. History stays, and so do the place in the order of
        insertion, the pause of a schedule that becomes another one, and those that wait for the job. What the old one
        waited for is gone. The new one has no parents (``ValueError``), and a unique key only if no other job has it;
        one that is kept beside a running one only the key of that one: else it could be refused after it was kept.
        """
        ...

    def claim(self, request: ClaimRequest, *, now: Microseconds) -> Claimed:
        """Take jobs for ``request.owner``: per lane up to its limit.

        A job is taken when it is eligible (see *Waiting* above; what is to expire is not looked at here, but by
        ``expire``), of one of the lane's tasks, and in one of the request's queues; or when it waits for nothing but a
        time within the request's ``ahead``. A blocked job, or one of a paused queue, never holds up those behind it.
        Within a lane jobs come in order of priority (high first), then due time, then order of insertion; lanes come in
        the order of the request. A task is in one lane only. Two concurrent claims never return the same job. A claim
        makes the job running, raises its fence and counts an attempt. It starts ``now``; one that was taken ahead of
        its due time, then. It says of a schedule whether its task has put this run off, by the ``error`` of the row
        (:func:`~jobify.storage.end_reasons.is_snoozed`). Of jobs that wait to run apart it takes one group, if
        ``request.scope`` says so.

        A lane with a ``batch`` gets up to ``limit`` whole batches; see :mod:`jobify.storage.batch_decisions`.
        The cost does not depend on how many jobs have ended, wait for the future, or wait for another task. To bound
        the cost of one call, jobs that have become due since the last one may be considered in steps, the earliest due
        first: ``has_more`` is True until all of them are, also where this call returned nothing; then ask again at
        once. A job that was ready once stays ready, even if the clock is set back.
        """
        ...

    def settle(self, settlements: Sequence[Settlement]) -> list[Settled]:
        """Apply the ends of attempts, each atomically; for each, what it met. One whose claim does not hold changes
        nothing; of two for a claim the first one holds. What a call that raises has applied is not refused later.

        A job with a pending replacement becomes the replacement, whatever the settlement says. One whose cancel was
        requested never waits again: a settlement to waiting ends it cancelled, as its ``cancel`` said. The history line
        is written in each case. A settled job has no owner and no cancel request. One whose attempts count from 0
        again (the next run of a schedule) has no crashes, either.
        """
        ...

    def reschedule(self, id: str, *, due_at: Microseconds, now: Microseconds) -> bool:
        """Change when a waiting job is due; False if it is not waiting."""
        ...

    def cancel(
        self, ids: Sequence[str], *, reason: str, now: Microseconds, delete_at: Microseconds | None
    ) -> list[CancelResult]:
        """Cancel jobs; see :class:`CancelResult`. A waiting one ends cancelled (``error`` is the reason,
        ``finished_at`` now); for a running one the request is stored, any pending replacement of it is dropped, and its
        owner finds it with ``cancel_requests``. One that is named together with its parent is cancelled for this
        reason, not because of the parent. A row whose status this release does not know is left alone and counts as
        ended."""
        ...

    def expire(self, *, now: Microseconds, limit: int, delete_at: Microseconds | None) -> list[Expired]:
        """Cancel waiting jobs whose ``expires_at`` has come, with the reason ``"expired"``; at most ``limit``, the
        longest overdue first. Costs next to nothing when there are none."""
        ...

    def retry(self, ids: Sequence[str], *, now: Microseconds, with_dependents: bool = True) -> list[bool]:
        """Put ended jobs back to waiting, due at once (``due_at`` is now), with a fresh budget: attempts and crashes
        count from 0, error, result, start, end, expiry and progress are forgotten, the fence is raised; a schedule's
        failures in a row count from 0, and its rule goes on from the due time that it had. History stays. For each,
        whether it was done: only what has failed, timed out or been stopped for good can be retried, and not while
        another job has its unique key. Besides that, a job that is parked: it is due at once for any code, and keeps
        the rest (attempts, expiry, a pause).

        ``with_dependents``: what was cancelled for one of these, directly or through others, waits again, too, at its
        own due time and without an expiry, if all that it depends on has succeeded, may still run, or comes back. What
        does not, because another job has failed, too, is cancelled for that one from now on. One whose unique key
        another job has stays cancelled, with what depends on it.
        """
        ...

    def pause(self, ids: Sequence[str]) -> list[bool]:
        """Block schedules until ``resume``, or until they end; a run that is under way goes on. For each, whether it is
        a schedule that has not ended. Pausing twice is pausing once."""
        ...

    def resume(self, ids: Sequence[str], *, now: Microseconds) -> list[bool]:
        """Undo ``pause``; for each, whether it was paused before the call. Due times that passed meanwhile are
        missed runs."""
        ...

    def pause_queue(self, queue: str) -> None:
        """Let no claim take jobs of this queue, until ``resume_queue``. What runs goes on."""
        ...

    def resume_queue(self, queue: str) -> None:
        """Undo ``pause_queue``; no error if it is not paused."""
        ...

    def report(self, reports: Sequence[Report]) -> list[bool]:
        """Store what running jobs report, in order; for each, whether its claim held."""
        ...

    def cancel_requests(self, owner: int) -> list[str]:
        """The ids of the jobs that ``owner`` runs and whose cancel was requested."""
        ...

    def delete(self, ids: Sequence[str], *, now: Microseconds, delete_at: Microseconds | None) -> int:
        """Remove jobs that are not running, with their history, messages and relations; how many. Those stay that are
        needed by jobs which are not removed here. Dependents that this cancels have ended ``now``, with this
        ``delete_at``."""
        ...

    def add_history(self, attempts: Sequence[AttemptRecord]) -> None:
        """Add lines to the history of jobs; a line of a job that does not exist is dropped."""
        ...

    def purge(self, *, now: Microseconds, limit: int) -> int:
        """Delete up to ``limit`` jobs whose ``delete_at`` has come, with all that belongs to them; how many. It may
        stop early where what it deletes is large: ask again until it is 0.

        One that is needed is kept until it is not needed any more.
        """
        ...

    def trim(self, *, keep: int, limit: int) -> int:
        """Shorten the history of schedules to the newest ``keep`` lines of each, and what they have published to as
        many messages, but at least one, so that numbers go on; how many of both were deleted.

        The oldest of a schedule go first, history before messages, at most ``limit`` of all schedules together: then
        ask again. What belongs to other jobs is bounded by their attempts, and stays until they are deleted.
        """
        ...

    # -- reading -------------------------------------------------------------------------------------------------------

    def get(self, ids: Sequence[str]) -> list[JobRecord]:
        """The jobs with these ids, in any order; unknown ids are left out.

        Given ``SummaryIds``, a storage need not read the large values that they leave out."""
        ...

    def find(self, query: JobQuery) -> list[JobRecord]:
        """Jobs that match, in order of id, at most ``query.limit``. For the next page ask after the last id.
        Times of creation need not be in that order."""
        ...

    def count(self, query: JobQuery) -> Mapping[CountKey, int]:
        """How many jobs match, by task, queue, status and whether they are dead; paging fields are ignored. Rows with a
        word for a status that this release does not know are counted under it."""
        ...

    def count_purgeable(self, *, now: Microseconds) -> Mapping[CountKey, int]:
        """How many jobs ``purge`` would delete at this time, counted as ``count`` does; without those that are needed
        by these only."""
        ...

    def find_unique(self, key: str) -> str | None:
        """The id of the unfinished job that has this unique key."""
        ...

    def relations(self, id: str) -> Relations:
        """What a job depends on and what depends on it, by the ids that they have now. A parent stays in the list of
        its child when it is deleted."""
        ...

    def parents(self, id: str) -> list[tuple[str, JobRecord | None]]:
        """The parents of a job, in the order of the request: the id of each at that time, and its row with the result.

        Large arguments may be left out. The row is None if it is gone, also if another job has the id by now.
        """
        ...

    def kinship(self, id: str, *, limit: int) -> Kinship:
        """The workflow that a job belongs to: all that is connected with it by dependencies, in both directions, at
        most about ``limit`` jobs, the nearest first. Empty if there is no such job."""
        ...

    def messages(self, id: str, *, after: int, limit: int, kind: MessageKind | None = None) -> list[MessageRecord]:
        """What a job has published, in order: the messages with numbers greater than ``after``, at most ``limit``, of
        one kind if that is given. Fewer where they are large, but one at least: there are no more when none comes."""
        ...

    def paused_queues(self) -> list[str]:
        """The queues that are paused, in order of name."""
        ...

    def attempts(self, id: str) -> list[AttemptRecord]:
        """The history of a job, oldest first."""
        ...

    def has_external_changes(self) -> bool:
        """Whether another process has committed since the last call (or since ``open``). Cheap: no table is read.

        True by mistake now and then, where a server has other users; never False by mistake. What is committed here is
        no change.
        """
        ...

    @property
    def notifier(self) -> Notifier | None:
        """The notifier of this process, once the storage is open; None where no other process can notify."""
        ...
