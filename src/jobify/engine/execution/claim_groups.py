"""Which tasks a claim is for, and how many slots it takes for them.

A *group* has the tasks whose jobs are claimed together: those of a run mode, or one task with ``batch=``, whose group
takes a slot for each batch. The groups of a pool take turns: each has a slot if there are enough, and the first one has
the rest. Nothing is claimed ahead in such a pool while another group waits for a slot.

Where a pool has several groups, one whose last claim found less than it had slots for *rests* until the storage
changes, or a job is due, so that it takes no slot from the others. A group of batches takes one slot at first, and more
as long as it fills them; after a claim that found no batch it rests a moment in any case, if its jobs wait for others,
because each job that is stored would be a reason to look at all that wait.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from jobify.engine.execution.backlog import MAX_CLAIM
from jobify.engine.execution.slots import SharedSlot, SlotPool, SlotPools
from jobify.model.clock import SECOND
from jobify.model.records import BatchRule, Claim, Claimed, TaskSlots
from jobify.model.task_options import RunMode
from jobify.router.registry import Endpoint
from jobify.types import Microseconds

__all__ = ("ClaimGroup", "ClaimGroups", "Reserved", "batches_of")

_LONGEST_REST: Final = 5 * SECOND
"""The cost of a lost wake-up."""
_PAUSE: Final = SECOND // 25
"""The shortest rest of a group of batches; a tenth of the time that its jobs wait, if that is less."""
_MOST_IN_BATCHES: Final = 2 * MAX_CLAIM
"""Jobs of a group of batches in one claim at most, unless one batch has more."""


class ClaimGroup:
    """Tasks of one pool whose jobs are claimed together. ``rule``: in batches; they are the names of one task."""

    __slots__ = ("_not_before", "_pause", "pool", "rests_until", "rule", "tasks", "wanted")

    def __init__(self, pool: SlotPool, tasks: tuple[str, ...], rule: BatchRule | None = None) -> None:
        self.pool = pool
        self.tasks = tasks
        self.rule = rule
        self.wanted = 1
        """How many batches the next claim is for."""
        self.rests_until: Microseconds | None = None
        self._pause = 0 if rule is None else min(_PAUSE, rule.wait // 10)
        self._not_before: Microseconds = 0

    def on_claimed(self, found: int, limit: int, claimed: Claimed, now: Microseconds, *, may_rest: bool) -> None:
        """A claim has found so many of ``limit`` jobs or batches."""
        if found >= limit and self.rule is not None:
            self.wanted = min(2 * limit, max(1, _MOST_IN_BATCHES // self.rule.size))
            return
        self.wanted = 1
        if found < limit and not claimed.has_more and (may_rest or self._pause):
            self._not_before = now + self._pause
            longest = now + _LONGEST_REST if may_rest else self._not_before
            self.rests_until = longest if claimed.next_due_at is None else min(claimed.next_due_at, longest)

    def wake(self, due_at: Microseconds | None) -> None:
        """There may be jobs for it: now, or at ``due_at``."""
        if self.rests_until is None:
            return
        at = 0 if due_at is None else min(self.rests_until, due_at)
        if self._pause:
            at = min(self.rests_until, max(at, self._not_before))
        self.rests_until = at or None


class Reserved(NamedTuple):
    """Slots that were taken before a claim."""

    group: ClaimGroup
    limit: int
    free: int
    """How many of them are free; the others are for jobs that are claimed ahead."""

    @property
    def pool(self) -> SlotPool:
        return self.group.pool

    @property
    def slots(self) -> TaskSlots:
        """What the claim is for."""
        return TaskSlots(self.group.tasks, self.limit, self.group.rule)


class ClaimGroups:
    """The groups of the tasks of one storage."""

    def __init__(self, endpoints: Sequence[Endpoint], pools: SlotPools) -> None:
        self._groups: list[list[ClaimGroup]] = []
        """The groups of each pool, the one whose turn is next first."""
        self.single: list[ClaimGroup] = []
        """One group for each pool, in which each job is claimed by itself: jobs that run apart, and parked calls."""
        self._of_task: dict[str, ClaimGroup] = {}
        self.find: Callable[[str], ClaimGroup | None] = self._of_task.get
        """The group of a task, by any of its names. (No method of ours: it is called for every claim.)"""
        self.batched: frozenset[str] = frozenset(_names(each for each in endpoints if each.batch is not None))
        """The names of the tasks with ``batch=``."""
        self._is_unchanged = False
        """Whether no wake-up has come since the last claim was made."""
        for mode in RunMode:
            tasks = [endpoint for endpoint in endpoints if endpoint.slot_mode is mode]
            if tasks:
                self._add(pools[mode], tasks)

    def _add(self, pool: SlotPool, endpoints: Sequence[Endpoint]) -> None:
        self.single.append(ClaimGroup(pool, _names(endpoints)))
        plain = _names(each for each in endpoints if each.batch is None)
        groups = [ClaimGroup(pool, plain)] if plain else []
        groups += [ClaimGroup(pool, each.names, each.batch.rule) for each in endpoints if each.batch is not None]
        self._groups.append(groups)
        self._of_task.update({name: group for group in groups for name in group.tasks})

    def find_single(self, task: str) -> ClaimGroup | None:
        """The group in which its jobs are claimed by themselves."""
        return next((group for group in self.single if task in group.tasks), None)

    def pool_of(self, claim: Claim) -> SlotPool:
        """The pool of a job that was claimed by itself; it has a slot of it."""
        pool = self._of_task[claim.task].pool
        return SharedSlot(pool, 1) if claim.task in self.batched else pool

    # -- slots ---------------------------------------------------------------------------------------------------------

    def reserve(self, most: int, on_free: Callable[[], None], due_by: Microseconds) -> list[Reserved]:
        """Take slots for a claim of ordinary jobs, ``most`` of each pool; a pool that has none for a group calls
        ``on_free`` when it has."""
        found: list[Reserved] = []
        self._is_unchanged = True
        for groups in self._groups:
            if len(groups) == 1 and groups[0].rule is None:
                found += _reserve(groups[0], most, on_free)
            else:
                found += _reserve_in_turn(groups, most, on_free, due_by)
        return found

    def reserve_single(self, most: int, on_free: Callable[[], None]) -> list[Reserved]:
        """:meth:`reserve`, for jobs that are claimed by themselves."""
        return [reserved for group in self.single for reserved in _reserve(group, most, on_free)]

    # -- rest ----------------------------------------------------------------------------------------------------------

    def wake(self, due_at: Microseconds | None = None) -> None:
        """There may be jobs for any group: now, or at ``due_at``."""
        self._is_unchanged = False
        for groups in self._groups:
            for group in groups:
                group.wake(due_at)

    def next_due_at(self) -> Microseconds | None:
        """When the first group is to be claimed from again that rests."""
        times = [group.rests_until for groups in self._groups for group in groups if group.rests_until is not None]
        return min(times, default=None)

    def on_claimed(self, reserved: Sequence[Reserved], claimed: Claimed, now: Microseconds) -> None:
        """Take the answer to a claim of ordinary jobs."""
        if all(len(groups) == 1 and groups[0].rule is None for groups in self._groups):
            return
        found = dict.fromkeys(self._of_task.values(), 0)
        heads = {batch[0] for batch in claimed.batches}
        for claim in claimed.claims:
            group = self._of_task.get(claim.task)
            if group is not None and (group.rule is None or claim.id in heads):
                found[group] += 1
        for group, limit, _ in reserved:
            group.on_claimed(found[group], limit, claimed, now, may_rest=self._is_unchanged)


def _names(endpoints: Iterable[Endpoint]) -> tuple[str, ...]:
    return tuple(name for endpoint in endpoints for name in endpoint.names)


def _reserve(group: ClaimGroup, most: int, on_free: Callable[[], None]) -> list[Reserved]:
    """Take the free slots of a pool, and those of jobs to claim ahead."""
    pool = group.pool
    free = pool.free
    limit = pool.take_up_to(most)
    if limit:
        return [Reserved(group, limit, max(0, min(free, limit)))]
    pool.when_free(on_free)
    return []


def _reserve_in_turn(
    groups: list[ClaimGroup], most: int, on_free: Callable[[], None], due_by: Microseconds
) -> list[Reserved]:
    """Take free slots for each group that does not rest."""
    awake = [group for group in groups if group.rests_until is None or group.rests_until <= due_by]
    if [group.rule for group in awake] == [None]:
        return _reserve(awake[0], most, on_free)
    found: list[Reserved] = []
    for number, group in enumerate(awake):
        group.rests_until = None
        room = max(1, group.pool.free - (len(awake) - number - 1))
        limit = group.pool.take_free(min(most, room) if group.rule is None else min(group.wanted, room))
        if limit:
            found.append(Reserved(group, limit, limit))
        else:
            group.pool.when_free(on_free)
    groups.append(groups.pop(0))
    return found


def batches_of(claims: Sequence[Claim], batches: Sequence[Sequence[str]]) -> list[list[Claim]]:
    """The batches among these claims of one group. Claims in no batch come last, together, to be put back with their
    keys."""
    by_id = {claim.id: claim for claim in claims}
    found = [[by_id.pop(id) for id in batch] for batch in batches if batch[0] in by_id]
    return [*found, list(by_id.values())] if by_id else found
