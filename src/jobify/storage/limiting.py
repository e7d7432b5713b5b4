"""The part of the storage port that is about limits.

A *limit* allows a number of jobs at once, or a number of starts in a time; a *gate* is its state for one key
(:mod:`jobify.model.limit_gates`). Each task has a list of limits, which is stored, so that every process obeys it.

**Claims.** All limits of a job admit it, or it is not claimed: then it holds none of them, and waits at one that does
not admit it. That is one blocker more, so no later claim looks at it. A limit is held from the claim to its end (the
settlement, a recovery), in the same transaction; it belongs to what runs, and no time takes it away. A retry, or
another run of a schedule, is another start.

**Order.** A claim first lets those go on that wait at gates which are open by now: of the tasks and queues of the
request, as many as the gate has room for, by priority, due time and order of insertion. They are taken in their order
among those that have never waited. So nothing that cannot run here takes a place from what can.

**Turns.** A fair share counts nothing: it has one line for all its keys, in which each job has a place by the jobs of
its own key (start-time fair queueing). All jobs of its tasks go through that line, from their insert on
(``take_places``) or from the first claim that meets them. A job that is let go on and not taken keeps its place.

**Batches.** A batch is one unit: all of its jobs are admitted or none. It takes one place of each limit on jobs at
once, however many of its jobs need that, until the last of these has ended; and of a rate the costs of all of them.
Jobs leave it that need a gate which does not admit it, lack a key, or are more than a rate ever admits at once: they
wait, and what is left is a smaller batch. Those that wait at open gates go on as whole batches, with others that are
ready, and no earlier than any other batch. Of a task with turns, jobs go on in their turns.

**Keys.** A limit with a key has a gate for each of its values. The keys of a job are in its options (``limit_keys``,
JSON by the text of the key). A job without the key of one of its limits is claimed without any
(:attr:`~jobify.model.limit_gates.LimitState.UNKEYED`), to be settled with its options completed.

**Gates** are locked once in a call, in the order of their ids, after the rows of jobs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from jobify.model.limit_gates import NEVER, LimitDefinition, LimitRecord, LimitRefusal, LimitWait
from jobify.model.records import NewJob
from jobify.types import Microseconds

__all__ = ("LimitPort",)


class LimitPort(Protocol):
    """What a storage does for limits. Part of :class:`jobify.storage.base.Storage`."""

    def define_limits(self, tasks: Mapping[str, Sequence[LimitDefinition]], *, now: Microseconds = NEVER) -> None:
        """These tasks have these limits from now on, and no others; what waits goes by them at once, also where a
        limit has another key than before.

        A limit has one definition: the last one counts for all tasks that list it. What ``set_limit`` has set stays.
        What a rate has admitted before ``now`` counts as so many starts of the new one.
        """
        ...

    def task_limits(self, tasks: Sequence[str]) -> Mapping[str, list[LimitDefinition]]:
        """The limits of these tasks, in their order; a task without any is left out."""
        ...

    def set_limit(self, name: str, *, key: str | None, maximum: int | None, now: Microseconds = NEVER) -> None:
        """Let a limit, or one key of it, have another maximum than its definition, until that is None again.

        ``now``: as in :meth:`define_limits`. What runs goes on. A key's maximum goes before that of the limit. It may
        be set before there is a definition.
        """
        ...

    def take_places(self, jobs: Sequence[NewJob], *, now: Microseconds) -> list[LimitRefusal | None]:
        """Give jobs that were inserted in this transaction a place in the line of each of their limits whose
        ``on_excess`` is not ``wait``, and in that of their turns. For each, the first limit that is full; None: it
        has a place, or needs none.

        A limit has as many places as it would admit now, less those that are taken. A job that is not due, waits for
        others, or lacks a key needs none.
        """
        ...

    def limits(self) -> list[LimitRecord]:
        """The limits of all tasks, in order of name, with the sums of their gates."""
        ...

    def limit_keys(self, name: str, *, limit: int) -> list[LimitRecord]:
        """The gates of a limit that are held, waited for, or set: at most ``limit``, those first that most wait for."""
        ...

    def limit_waits(self, ids: Sequence[str]) -> Mapping[str, LimitWait]:
        """What those of these jobs wait for that wait at a gate."""
        ...

    def let_go(self, id: str, owner: int, fence: int) -> bool:
        """Release what a settlement has kept (``SettledLimits.is_kept``); whether a job waits for it."""
        ...
