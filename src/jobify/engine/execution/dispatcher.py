"""Free slots → claim → executor.

One dispatcher per storage. It asks for jobs when there may be some (a ring, a job that was stored without a slot, the
due time that the last claim named, a slot that became free while more was waiting) and only for as many as there are
free slots: back-pressure is that nobody asks. Future jobs cost nothing here: the storage knows when the next one is
due, so the dispatcher holds a single time, however many jobs wait.

A claim also learns whether jobs wait to run apart; then comes their turn (``trials``), and after each such group that
of ordinary jobs. So it learns of parked calls, which it asks for now and then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

from jobify.engine.execution.claim_handler import ClaimHandler
from jobify.engine.execution.slots import SlotPool, SlotPools
from jobify.engine.execution.trials import Trials
from jobify.engine.service import Service
from jobify.engine.services.timekeeper import Timekeeper
from jobify.gateway.backend import Backend
from jobify.model.clock import SECOND, seconds
from jobify.model.records import Claim, Claimed, ClaimRequest, TaskSlots
from jobify.model.status import ClaimScope
from jobify.model.task_options import RunMode
from jobify.router.registry import Endpoint
from jobify.runtime.logs import get_logger
from jobify.runtime.spawn import spawn
from jobify.types import Microseconds

__all__ = ("Dispatcher",)

log = get_logger("jobify.engine")

_MAX_CLAIM = 256
"""Jobs per lane in one claim at most, so that one process does not take the work of all."""

_LOOKAHEAD = 0.02
"""Seconds that a job is claimed ahead of its due time, to be started on the dot: a claim takes a moment, and with many
timers one claim serves all that are due within the next half of this."""

_RECHECK = 1.0
"""Seconds after which a sleeping dispatcher looks at the wall clock again: it may have jumped, or the machine slept."""

_LOOK_AGAIN = 5.0
"""Seconds after which it asks the storage although nothing is expected: a ring that was lost costs no more than
that."""

_PATIENCE = 300
"""Claims in a row that may find nothing and still be made at once: each stages a thousand jobs, if it stages any."""

_SHORTEST_REST = 0.01

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
        self._pools = pools
        self._claim_handler = claim_handler
        self._trials = trials
        self._timekeeper = timekeeper
        self._tasks = {
            mode: tuple(name for endpoint in endpoints if endpoint.slot_mode is mode for name in endpoint.names)
            for mode in RunMode
        }
        self._modes = [mode for mode, tasks in self._tasks.items() if tasks]
        self._mode_of = {name: endpoint.slot_mode for endpoint in endpoints for name in endpoint.names}
        self._wakeup = asyncio.Event()
        self._claim_wanted = True
        self._next_due_at: Microseconds | None = None
        self._empty_claims = 0
        """Claims in a row that have found nothing although there is said to be more."""
        self._open_claim: asyncio.Future[Claimed] | None = None
        """A claim that is not answered yet."""
        self._has_suspects = False
        self._parked = ParkedPolling(self.wake)

    # -- what others tell it -------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """There may be work: look now."""
        if self._parked.is_any:
            self._parked.storage_changed()
        self._claim_wanted = True
        self._wakeup.set()

    def job_due(self, due_at: Microseconds) -> None:
        """A job that is due at this time was stored."""
        if self._next_due_at is None or due_at < self._next_due_at:
            self._next_due_at = due_at
            self._wakeup.set()  # for another sleep, not for a claim: unless it is due
            if due_at <= self._timekeeper.now() + seconds(_LOOKAHEAD):
                self._claim_wanted = True

    # -- the duty ------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        self._wakeup = asyncio.Event()
        self._claim_wanted = True
        while True:
            await self._sleep()
            while await self.step():
                await self._rest()
            self.succeed()

    async def _rest(self) -> None:
        """Between two claims: nothing but courtesy, because a storage in memory answers without letting go of the loop;
        unless the storage has promised more again and again, and given nothing."""
        if self._empty_claims < _PATIENCE:
            await asyncio.sleep(0)
            return
        if self._empty_claims == _PATIENCE:
            log.warning(
                "%d claims in a row have found nothing although jobs are due. Claims slow down.", self._empty_claims
            )
        await asyncio.sleep(min(_SHORTEST_REST * (self._empty_claims - _PATIENCE + 1), self._LONGEST_PAUSE))

    async def step(self) -> bool:
        """One claim, and one group of jobs that run apart, if any do; whether another claim makes sense at once."""
        parked = self._parked
        has_more = parked.is_any and parked.is_due and await self._claim(ClaimScope.PARKED)  # while there are slots
        has_more = await self._claim(ClaimScope.ORDINARY) or has_more
        if parked.is_any and parked.is_due:  # which the last claim may have told
            has_more = await self._claim(ClaimScope.PARKED) or has_more
        if not self._has_suspects or self._trials.is_resting:
            return has_more
        self._has_suspects = False
        return await self._trials.run(self._request_apart, self._begin_apart, self._release, self.wake) or has_more

    def _request_apart(self) -> asyncio.Future[Claimed]:
        slots = tuple(TaskSlots(self._tasks[mode], _MAX_CLAIM) for mode in self._modes)
        return self._request(slots, ClaimScope.APART)

    def _begin_apart(self, claim: Claim) -> None:
        slots = self._pools[self._mode_of[claim.task]]
        slots.take_closed()
        self._claim_handler.handle(self._backend, claim, slots)

    def _release(self, claim: Claim) -> None:
        self._claim_handler.released.release(self._backend, claim)

    async def _claim(self, scope: ClaimScope) -> bool:
        if self._timekeeper.has_changed():
            await self._timekeeper.catch_up()  # what is due by a clock that was just set, need not be due
        if scope is ClaimScope.ORDINARY:
            self._claim_wanted = False
            # Forgotten before the claim, not after it: a job stored meanwhile is not in the answer. Forgotten also if
            # there is no claim: with all slots taken it is a free slot that wakes us up, not a due time, which may be
            # past.
            self._next_due_at = None
        reserved = self._reserve()
        if not reserved:
            return False
        try:
            self._open_claim = asking = self._request_reserved(reserved, scope)
        except BaseException:
            _release(reserved)
            raise
        # The answer is acted upon by a callback: whatever becomes of this task, no claim and no slot is lost.
        answered: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        asking.add_done_callback(partial(self._on_claimed, reserved, answered, scope))
        return await answered

    async def stop(self) -> None:
        """End, and return when the last claim is answered, too."""
        await super().stop()
        self._parked.close()
        if self._open_claim is not None:
            await asyncio.wait([self._open_claim])

    def _on_claimed(
        self,
        reserved: list[tuple[SlotPool, int]],
        answered: asyncio.Future[bool],
        scope: ClaimScope,
        asked: asyncio.Future[Claimed],
    ) -> None:
        self._open_claim = None
        try:
            has_more = self._on_answer(asked, reserved, scope)
        except Exception as error:
            if not answered.done():
                answered.set_exception(error)
        else:
            if not answered.done():
                answered.set_result(has_more)

    def _on_answer(
        self, asked: asyncio.Future[Claimed], reserved: list[tuple[SlotPool, int]], scope: ClaimScope
    ) -> bool:
        """Act on the answer to a claim: whether to claim again at once. Raises its error, when the slots are free."""
        if asked.cancelled() or asked.exception() is not None:
            _release(reserved)
            return asked.cancelled() or asked.result().has_more  # result() raises what went wrong
        claimed = asked.result()
        if scope is ClaimScope.PARKED:
            self._parked.answered(was_in_vain=not claimed.claims)
            self._start(claimed.claims, reserved)
            return claimed.has_more
        if claimed.next_due_at is not None:
            self._next_due_at = min(claimed.next_due_at, self._next_due_at or claimed.next_due_at)
        self._has_suspects = claimed.has_suspects
        if claimed.has_parked or self._parked.is_any:
            self._parked.update(claimed.has_parked)
        self._start(claimed.claims, reserved)
        self._empty_claims = self._empty_claims + 1 if claimed.has_more and not claimed.claims else 0
        return claimed.has_more

    def _request_reserved(self, reserved: list[tuple[SlotPool, int]], scope: ClaimScope) -> asyncio.Future[Claimed]:
        slots = tuple(TaskSlots(self._tasks[pool.mode], limit) for pool, limit in reserved)
        return self._request(slots, scope)

    def _request(self, slots: tuple[TaskSlots, ...], scope: ClaimScope) -> asyncio.Future[Claimed]:
        ahead, code = seconds(_LOOKAHEAD), self._backend.app_code() if scope is ClaimScope.PARKED else ""
        request = ClaimRequest(self._backend.owner, slots, self._backend.queues.served, ahead, scope, code)
        asked = self._backend.gate.claim(request, now=self._timekeeper.due_until)
        return asked if isinstance(asked, asyncio.Future) else spawn(asked)

    def _reserve(self) -> list[tuple[SlotPool, int]]:
        """Take the free slots of all lanes that have tasks, before the claim: a push must not take them meanwhile. A
        lane without one rings when it has."""
        reserved = []
        for mode in self._modes:
            slots = self._pools[mode]
            limit = slots.take_up_to(_MAX_CLAIM)
            if limit:
                reserved.append((slots, limit))
            else:
                slots.when_free(self.wake)
        return reserved

    def _start(self, claims: Sequence[Claim], reserved: list[tuple[SlotPool, int]]) -> None:
        left = {slots.mode: limit for slots, limit in reserved}
        for claim in claims:
            mode = self._mode_of.get(claim.task)
            if mode is None:
                self._claim_handler.released.release_failed(
                    self._backend, claim, LookupError(f"this app has no task {claim.task!r}")
                )
                continue
            left[mode] -= 1
            self._claim_handler.handle(self._backend, claim, self._pools[mode])
        for slots, _ in reserved:
            if left[slots.mode]:
                slots.release(left[slots.mode])

    async def _sleep(self) -> None:
        """Until somebody rings or the next job is due, by the wall clock."""
        clock = asyncio.get_running_loop().time
        last_claim = clock()
        while not self._claim_wanted:
            left = last_claim + _LOOK_AGAIN - clock()
            if self._next_due_at is not None:
                due_in = (self._next_due_at - self._timekeeper.now()) / SECOND
                left = min(left, max(due_in - _LOOKAHEAD, last_claim + _LOOKAHEAD / 2 - clock()))
            if left <= 0:
                return
            self._wakeup.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(left if self._next_due_at is None else min(left, _RECHECK)):
                    await self._wakeup.wait()


def _release(reserved: list[tuple[SlotPool, int]]) -> None:
    for slots, limit in reserved:
        slots.release(limit)


class ParkedPolling:
    """When a dispatcher asks for parked calls: not with each claim, because those that are left do not fit its code."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self.is_any = False
        """Whether there are parked calls at all. (A plain attribute, because every claim asks for it.)"""
        self._asked_at = self._not_before = -_LONG_PARKED_PAUSE
        self._timer: asyncio.TimerHandle | None = None

    def storage_changed(self) -> None:
        """The storage has changed: the next look may come earlier."""
        self._not_before = min(self._not_before, self._asked_at + _PARKED_PAUSE)

    def update(self, is_any: bool) -> None:
        """What a claim of ordinary jobs has answered."""
        self.is_any = is_any
        self.close()
        if is_any and (wait := self._not_before - self._now()) > 0:
            self._timer = asyncio.get_running_loop().call_later(wait, self._wake)

    @property
    def is_due(self) -> bool:
        """Whether it is time to ask, if there are any."""
        return self._now() >= self._not_before

    def answered(self, *, was_in_vain: bool) -> None:
        """Parked calls were asked for."""
        self._asked_at = self._now()
        self._not_before = self._asked_at + (_LONG_PARKED_PAUSE if was_in_vain else 0)

    def close(self) -> None:
        """Cancel the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
