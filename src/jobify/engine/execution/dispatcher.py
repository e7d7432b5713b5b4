"""Free slots → claim → claim handler → executor.

There is one dispatcher per storage. It claims when there may be jobs (a wake-up, a job that was stored without a slot,
the due time that the last claim named, a slot that became free while more jobs were waiting), and only as many as there
are free slots: without a free slot there is no claim. While a backlog of short jobs is drained, the next claim is made
before the jobs of the last one run (``backlog``). Future jobs cost nothing here: the storage knows when the next
one is due, so the dispatcher holds a single time, however many jobs wait.

A claim also says whether jobs wait to run apart; they run next (``trials``), and ordinary jobs after each such group.
It says likewise whether there are parked calls, which are claimed now and then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

from jobify.engine.execution.backlog import MAX_CLAIM, Backlog
from jobify.engine.execution.claim_groups import ClaimGroup, ClaimGroups, Reserved, batches_of
from jobify.engine.execution.claim_handler import ClaimHandler
from jobify.engine.execution.slots import SharedSlot, SlotPools
from jobify.engine.execution.trials import Trials
from jobify.engine.service import Service
from jobify.engine.services.timekeeper import Timekeeper
from jobify.gateway.backend import Backend
from jobify.model.clock import SECOND, seconds
from jobify.model.records import Claim, Claimed, ClaimRequest, TaskSlots
from jobify.model.status import ClaimScope
from jobify.router.registry import Endpoint
from jobify.runtime.logs import get_logger
from jobify.runtime.spawn import spawn
from jobify.types import Microseconds

__all__ = ("Dispatcher",)

log = get_logger("jobify.engine")

_LOOKAHEAD = 0.02
"""Seconds that a job is claimed ahead of its due time, to be started at the due time: a claim takes a moment, and with
many timers one claim serves all jobs that are due within the next half of this."""

_RECHECK = 1.0
"""Seconds after which a sleeping dispatcher reads the wall clock again: it may have jumped, or the machine slept."""

_LONGEST_SLEEP = 5.0
"""Seconds after which it claims although nothing is expected: the cost of a lost wake-up."""

_MOST_EMPTY_CLAIMS = 300
"""Claims in a row that may find nothing without a pause, because each may stage a thousand jobs first."""

_SHORTEST_PAUSE = 0.01

_PARKED_PAUSE = 1.0
"""Seconds between two claims of parked calls, if the first found none and the storage has changed meanwhile."""
_LONG_PARKED_PAUSE = 5.0
"""The same, if the storage has not changed."""


class Dispatcher(Service):
    """Claims due jobs of one storage as slots become free."""

    _LONGEST_PAUSE = 1.0

    def __init__(
        self,
        backend: Backend,
        pools: SlotPools,
        endpoints: Sequence[Endpoint],
        claim_handler: ClaimHandler,
        *,
        trials: Trials,
        timekeeper: Timekeeper,
    ) -> None:
        super().__init__()
        self._backend = backend
        self._claim_groups = ClaimGroups(endpoints, pools)
        self._claim_handler = claim_handler
        self._trials = trials
        self._timekeeper = timekeeper
        self._wakeup = asyncio.Event()
        self._claim_wanted = True
        self._next_due_at: Microseconds | None = None
        self._empty_claims = 0
        """Claims in a row that have found nothing although the storage says that there is more."""
        self._open_claims: set[asyncio.Future[Claimed]] = set()
        """The claims that are under way."""
        self._backlog = Backlog(is_slow=backend.storage.claims_first)
        self._next_claim: asyncio.Future[bool] | None = None
        """Whether to claim again after the claim that was made ahead."""
        self._has_suspects = False
        self._parked = ParkedPolling(self.wake)

    # -- events --------------------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Claim now, because there may be work."""
        if self._parked.is_any:
            self._parked.storage_changed()
        self._claim_groups.wake()
        self._on_free()

    def _on_free(self) -> None:
        """Claim now, because a slot is free."""
        self._claim_wanted = True
        self._wakeup.set()

    def job_due(self, due_at: Microseconds) -> None:
        """A job was stored that is due at this time."""
        self._claim_groups.wake(due_at)
        if self._next_due_at is None or due_at < self._next_due_at:
            self._next_due_at = due_at
            self._wakeup.set()  # to sleep until then, not to claim, unless it is due
            if due_at <= self._timekeeper.now() + seconds(_LOOKAHEAD):
                self._claim_wanted = True

    # -- the loop ------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        self._wakeup = asyncio.Event()
        self._claim_wanted = True
        while True:
            await self._sleep()
            while await self.step():
                await self._pause()
            self.succeed()

    async def _pause(self) -> None:
        """Give way between two claims, because a storage in memory answers without a turn of the event loop.

        Pause if the storage has said again and again that there is more, and given nothing.
        """
        if self._empty_claims < _MOST_EMPTY_CLAIMS:
            await asyncio.sleep(0)
            return
        if self._empty_claims == _MOST_EMPTY_CLAIMS:
            log.warning(
                "%d claims in a row have found nothing although jobs are due. Claims slow down.", self._empty_claims
            )
        await asyncio.sleep(min(_SHORTEST_PAUSE * (self._empty_claims - _MOST_EMPTY_CLAIMS + 1), self._LONGEST_PAUSE))

    async def step(self) -> bool:
        """Claim once, and run one group of jobs apart, if any have to; return whether to claim again at once."""
        parked = self._parked
        has_more = parked.is_any and parked.is_due and await self._claim(ClaimScope.PARKED)  # while there are slots
        has_more = await self._claim(ClaimScope.ORDINARY) or has_more
        if parked.is_any and parked.is_due:  # as the last claim may have said
            has_more = await self._claim(ClaimScope.PARKED) or has_more
        if not self._has_suspects or self._trials.is_resting:
            return has_more
        self._has_suspects = False
        return await self._trials.run(self._request_apart, self._begin_apart, self._release, self.wake) or has_more

    def _request_apart(self) -> asyncio.Future[Claimed]:
        slots = tuple(TaskSlots(group.tasks, MAX_CLAIM) for group in self._claim_groups.single)
        return self._request(slots, ClaimScope.APART)

    def _begin_apart(self, claim: Claim) -> None:
        pool = self._claim_groups.pool_of(claim)
        pool.take_closed()
        self._claim_handler.handle(self._backend, claim, pool)

    def _release(self, claim: Claim) -> None:
        self._claim_handler.released.release(self._backend, claim)

    async def _claim(self, scope: ClaimScope) -> bool:
        if self._timekeeper.has_changed():
            await self._timekeeper.catch_up()  # what is due by a clock that was just set, need not be due
        answered: asyncio.Future[bool] | None = None
        if scope is ClaimScope.ORDINARY:
            answered, self._next_claim = self._next_claim, None
        if answered is None:
            answered = self._begin_claim(scope)
        return answered is not None and await answered

    def _begin_claim(self, scope: ClaimScope) -> asyncio.Future[bool] | None:
        """Claim. The future says whether to claim again at once; None means that no slot is free."""
        if scope is ClaimScope.ORDINARY:
            self._claim_wanted = False
            # Reset before the claim, not after it, because a job that is stored meanwhile is not in the answer. Reset
            # also if there is no claim: with all slots taken the next wake-up is a free slot, not a due time, which may
            # be past.
            self._next_due_at = self._claim_groups.next_due_at()
        reserved = self._reserve(scope)
        if not reserved:
            return None
        try:
            claim = self._request_reserved(reserved, scope)
        except BaseException:
            _release(reserved)
            raise
        self._open_claims.add(claim)
        # A callback takes the answer, so that no claim and no slot is lost if this task is cancelled.
        answered: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        claim.add_done_callback(partial(self._on_claimed, reserved, answered, scope))
        return answered

    async def stop(self) -> None:
        """Stop, and return when the last claim is answered, too."""
        await super().stop()
        self._parked.close()
        while self._open_claims:
            await asyncio.wait(self._open_claims)
        if self._next_claim is not None:
            self._next_claim.exception()  # nothing else retrieves it
            self._next_claim = None

    def _on_claimed(
        self,
        reserved: list[Reserved],
        answered: asyncio.Future[bool],
        scope: ClaimScope,
        claim: asyncio.Future[Claimed],
    ) -> None:
        self._open_claims.discard(claim)
        try:
            has_more = self._on_answer(claim, reserved, scope)
        except Exception as error:
            if not answered.done():
                answered.set_exception(error)
        else:
            if not answered.done():
                answered.set_result(has_more)

    def _on_answer(self, claim: asyncio.Future[Claimed], reserved: list[Reserved], scope: ClaimScope) -> bool:
        """Take the answer to a claim; return whether to claim again at once. An error frees the slots and is raised."""
        if claim.cancelled() or claim.exception() is not None:
            _release(reserved)
            return claim.cancelled() or claim.result().has_more  # result() raises the error
        claimed = claim.result()
        if scope is ClaimScope.PARKED:
            self._parked.on_claimed(found_none=not claimed.claims)
            self._start(claimed, reserved, scope)
            return claimed.has_more
        if claimed.next_due_at is not None:
            self._next_due_at = min(claimed.next_due_at, self._next_due_at or claimed.next_due_at)
        self._has_suspects, self._backend.has_limits = claimed.has_suspects, claimed.has_limits
        if claimed.has_parked or self._parked.is_any:
            self._parked.update(claimed.has_parked)
        self._claim_groups.on_claimed(reserved, claimed, self._timekeeper.now())
        try:
            if self._is_draining(claimed, reserved):
                self._next_claim = self._begin_claim(scope)
        finally:
            self._start(claimed, reserved, scope)
        self._empty_claims = self._empty_claims + 1 if claimed.has_more and not (claimed.claims or claimed.moved) else 0
        return claimed.has_more

    def _is_draining(self, claimed: Claimed, reserved: list[Reserved]) -> bool:
        """Whether to make the next claim before the jobs of this one run."""
        return (
            self._backlog.is_draining(
                has_more=claimed.has_more and bool(claimed.claims),
                have_ended=all(
                    group.pool.taken == limit and 2 * group.pool.free >= limit for group, limit, _ in reserved
                ),
                now=asyncio.get_running_loop().time(),
            )
            and self._next_claim is None
            and self._task is not None
            and not (self._has_suspects or self._parked.is_any or self._timekeeper.has_changed())
        )

    def _request_reserved(self, reserved: list[Reserved], scope: ClaimScope) -> asyncio.Future[Claimed]:
        return self._request(tuple(each.slots for each in reserved), scope)

    def _request(self, slots: tuple[TaskSlots, ...], scope: ClaimScope) -> asyncio.Future[Claimed]:
        ahead, code = seconds(_LOOKAHEAD), self._backend.app_code() if scope is ClaimScope.PARKED else ""
        request = ClaimRequest(self._backend.owner, slots, self._backend.queues.served, ahead, scope, code)
        claim = self._backend.gate.claim(request, now=self._timekeeper.due_until)
        return claim if isinstance(claim, asyncio.Future) else spawn(claim)

    def _reserve(self, scope: ClaimScope) -> list[Reserved]:
        """Take the free slots of all pools that have tasks before the claim, so that no push takes them meanwhile. A
        pool without one wakes the dispatcher when it has."""
        most = self._backlog.limit
        if scope is ClaimScope.PARKED:
            return self._claim_groups.reserve_single(most, self._on_free)
        return self._claim_groups.reserve(most, self._on_free, self._timekeeper.now() + seconds(_LOOKAHEAD))

    def _start(self, claimed: Claimed, reserved: list[Reserved], scope: ClaimScope) -> None:
        by_group: dict[ClaimGroup, list[Claim]] = {each.group: [] for each in reserved}
        find = self._claim_groups.find_single if scope is ClaimScope.PARKED else self._claim_groups.find
        for claim in claimed.claims:
            group = find(claim.task)
            if group is None:
                self._claim_handler.released.release_failed(
                    self._backend, claim, LookupError(f"this app has no task {claim.task!r}")
                )
            else:
                by_group[group].append(claim)
        for each in reserved:
            claims = by_group[each.group]
            used = (
                self._start_each(each, claims)
                if each.group.rule is None
                else self._start_batches(claimed, each, claims)
            )
            if each.limit != used:
                each.pool.release(each.limit - used)

    def _start_each(self, reserved: Reserved, claims: list[Claim]) -> int:
        """Start jobs that take a slot each; return how many do."""
        pool, batched = reserved.pool, self._claim_groups.batched
        kept = self._claim_handler.count_fitting(pool.mode, claims, reserved.free)
        for claim in claims[:kept]:
            self._claim_handler.handle(
                self._backend, claim, SharedSlot(pool, 1) if batched and claim.task in batched else pool
            )
        for claim in claims[kept:]:
            self._release(claim)
        return kept

    def _start_batches(self, claimed: Claimed, reserved: Reserved, claims: list[Claim]) -> int:
        """Start the batches of a group; return how many there are."""
        groups = batches_of(claims, claimed.batches)
        for group in groups:
            slot = SharedSlot(reserved.pool, len(group))
            for claim in group:
                self._claim_handler.handle(self._backend, claim, slot)
        return len(groups)

    async def _sleep(self) -> None:
        """Sleep until a wake-up, or until the next job is due by the wall clock."""
        clock = asyncio.get_running_loop().time
        last_claim = clock()
        while not self._claim_wanted:
            left = last_claim + _LONGEST_SLEEP - clock()
            if self._next_due_at is not None:
                due_in = (self._next_due_at - self._timekeeper.now()) / SECOND
                left = min(left, max(due_in - _LOOKAHEAD, last_claim + _LOOKAHEAD / 2 - clock()))
            if left <= 0:
                return
            self._wakeup.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(left if self._next_due_at is None else min(left, _RECHECK)):
                    await self._wakeup.wait()


def _release(reserved: list[Reserved]) -> None:
    for group, limit, _ in reserved:
        group.pool.release(limit)


class ParkedPolling:
    """When a dispatcher claims parked calls: not each time, because those that remain do not fit its code."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self.is_any = False
        """Whether there are parked calls at all. (A plain attribute, because every claim reads it.)"""
        self._claimed_at = self._not_before = -_LONG_PARKED_PAUSE
        self._timer: asyncio.TimerHandle | None = None

    def storage_changed(self) -> None:
        """The storage has changed: the next claim may come earlier."""
        self._not_before = min(self._not_before, self._claimed_at + _PARKED_PAUSE)

    def update(self, is_any: bool) -> None:
        """Take what a claim of ordinary jobs has said of them."""
        self.is_any = is_any
        self.close()
        if is_any and (wait := self._not_before - self._now()) > 0:
            self._timer = asyncio.get_running_loop().call_later(wait, self._wake)

    @property
    def is_due(self) -> bool:
        """Whether it is time to claim them, if there are any."""
        return self._now() >= self._not_before

    def on_claimed(self, *, found_none: bool) -> None:
        """Parked calls were claimed."""
        self._claimed_at = self._now()
        self._not_before = self._claimed_at + (_LONG_PARKED_PAUSE if found_none else 0)

    def close(self) -> None:
        """Cancel the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
