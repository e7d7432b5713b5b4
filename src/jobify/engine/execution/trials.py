"""Run jobs that a process may have died of apart from all others.

A trial: close the pools, claim a group, let the running jobs finish, run the group, open the pools. The group is
claimed first, so that other processes do not drain for the same jobs. If the running jobs do not finish in time, the
group is released and tried again later, with more patience; after some minutes the group begins all the same.

No other job begins meanwhile, of any storage. That is bounded: after a minute a group no longer keeps others waiting.
``docs/design/01-suspects.md`` has the reasons.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from jobify.engine.execution.slots import SlotPools
from jobify.model.records import Claim, Claimed

__all__ = ("Trials",)

_FIRST_PATIENCE: Final = 1.0
_MOST_PATIENCE: Final = 27.0
"""Seconds that running jobs have to finish before a trial: at first, and after several failures."""
_REST: Final = 2.0
"""After a failure ordinary work goes on for this many times the patience."""
_DEADLINE: Final = 300.0
"""Seconds after the first failure from which a group begins beside the jobs that still run."""
_LONGEST: Final = 60.0
"""Seconds that a trial keeps other jobs from running at most."""


class Trials:
    """Runs groups of jobs apart, one after the other."""

    def __init__(
        self, pools: SlotPools, all_settled: Callable[[], Awaitable[None]], on_trial: Callable[[bool], None] | None
    ) -> None:
        self._pools = pools
        self._all_settled = all_settled
        self._on_trial = on_trial
        self._patience = _FIRST_PATIENCE
        self._failing_since: float | None = None
        self._not_before = 0.0

    @property
    def is_resting(self) -> bool:
        """Whether the last trial failed a moment ago, because running jobs did not finish."""
        return asyncio.get_running_loop().time() < self._not_before

    async def run(
        self,
        claim: Callable[[], asyncio.Future[Claimed]],
        begin: Callable[[Claim], None],
        release: Callable[[Claim], None],
        wake: Callable[[], None],
    ) -> bool:
        """Run one group; return whether there was one.

        ``claim`` claims it, ``begin`` starts an attempt, ``release`` releases a claim; ``wake`` is called when it is
        time to try again, if running jobs did not finish.
        """
        self._pools.close()
        try:
            claims = await self._claim(claim, release)
            if not claims:
                return False
            try:
                is_time = await self._drain(self._patience) or self._is_overdue()
            except BaseException:
                _each(release, claims)
                raise
            if not is_time:
                _each(release, claims)
                self._rest(wake)
                return False
            self._failing_since, self._patience = None, _FIRST_PATIENCE
            await self._try(claims, begin)
            return True
        finally:
            self._pools.open()

    async def _claim(
        self, claim: Callable[[], asyncio.Future[Claimed]], release: Callable[[Claim], None]
    ) -> Sequence[Claim]:
        answer = claim()
        try:
            await asyncio.wait([answer])
        except BaseException:
            answer.add_done_callback(lambda answer: _each(release, _claims_of(answer)))
            raise
        return answer.result().claims

    async def _try(self, claims: Sequence[Claim], begin: Callable[[Claim], None]) -> None:
        left = self._pools.taken  # zero, unless running jobs did not finish
        self._notify(True)
        try:
            _each(begin, claims)
            await self._drain(_LONGEST, left)
        finally:
            self._notify(False)

    async def _drain(self, patience: float, left: int = 0) -> bool:
        """Wait until at most ``left`` jobs run here and all outcomes are stored; return False at a timeout."""
        try:
            async with asyncio.timeout(patience):
                await self._pools.drained(left)
                await self._all_settled()
        except TimeoutError:
            return False
        return True

    def _is_overdue(self) -> bool:
        now = asyncio.get_running_loop().time()
        if self._failing_since is None:
            self._failing_since = now
        return now - self._failing_since >= _DEADLINE

    def _rest(self, wake: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        pause = self._patience * _REST
        self._patience = min(self._patience * 3, _MOST_PATIENCE)
        self._not_before = loop.time() + pause
        loop.call_later(pause, wake)

    def _notify(self, is_on: bool) -> None:
        if self._on_trial is not None:
            self._on_trial(is_on)


def _claims_of(answer: asyncio.Future[Claimed]) -> Sequence[Claim]:
    return () if answer.cancelled() or answer.exception() is not None else answer.result().claims


def _each(act: Callable[[Claim], object], claims: Sequence[Claim]) -> None:
    for claim in claims:
        act(claim)
