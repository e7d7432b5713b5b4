"""Run jobs apart from all others that a process may have died of.

A trial: close the lanes, claim a group, let finish what still runs here, run the group, open the lanes. The group is
claimed first, so that other processes do not drain for the same jobs. What cannot drain in time gives the group back
and tries again later, with more patience; after some minutes the group begins all the same.

No other job begins meanwhile, of whichever storage. That is bounded: a group that has lived for a minute is left to
itself. ``docs/design/01-suspects.md`` has the reasons.
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
"""Seconds that running jobs have to finish before a trial: at first, and after several times in vain."""
_REST: Final = 2.0
"""After a time in vain ordinary work goes on for so many times its length."""
_DEADLINE: Final = 300.0
"""Seconds after the first time in vain from which a group begins beside what still runs."""
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
        self._in_vain_since: float | None = None
        self._not_before = 0.0

    @property
    def is_resting(self) -> bool:
        """Whether running jobs were in the way a moment ago."""
        return asyncio.get_running_loop().time() < self._not_before

    async def run(
        self,
        claim: Callable[[], asyncio.Future[Claimed]],
        begin: Callable[[Claim], None],
        release: Callable[[Claim], None],
        wake: Callable[[], None],
    ) -> bool:
        """Run one group; whether there was one.

        ``claim`` asks for it, ``begin`` starts an attempt, ``release`` gives a claim back; ``wake`` is called when it
        makes sense to try again, if this was in vain.
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
            self._in_vain_since, self._patience = None, _FIRST_PATIENCE
            await self._try(claims, begin)
            return True
        finally:
            self._pools.open()

    async def _claim(
        self, claim: Callable[[], asyncio.Future[Claimed]], release: Callable[[Claim], None]
    ) -> Sequence[Claim]:
        asked = claim()
        try:
            await asyncio.wait([asked])
        except BaseException:
            asked.add_done_callback(lambda asked: _each(release, _claims_of(asked)))
            raise
        return asked.result().claims

    async def _try(self, claims: Sequence[Claim], begin: Callable[[Claim], None]) -> None:
        left = self._pools.taken  # nothing, unless it was waited for in vain
        self._tell(True)
        try:
            _each(begin, claims)
            await self._drain(_LONGEST, left)
        finally:
            self._tell(False)

    async def _drain(self, patience: float, left: int = 0) -> bool:
        """Wait until no more than ``left`` jobs run here, and all ends are stored; whether that was so in time."""
        try:
            async with asyncio.timeout(patience):
                await self._pools.drained(left)
                await self._all_settled()
        except TimeoutError:
            return False
        return True

    def _is_overdue(self) -> bool:
        now = asyncio.get_running_loop().time()
        if self._in_vain_since is None:
            self._in_vain_since = now
        return now - self._in_vain_since >= _DEADLINE

    def _rest(self, wake: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        pause = self._patience * _REST
        self._patience = min(self._patience * 3, _MOST_PATIENCE)
        self._not_before = loop.time() + pause
        loop.call_later(pause, wake)

    def _tell(self, is_on: bool) -> None:
        if self._on_trial is not None:
            self._on_trial(is_on)


def _claims_of(asked: asyncio.Future[Claimed]) -> Sequence[Claim]:
    return () if asked.cancelled() or asked.exception() is not None else asked.result().claims


def _each(act: Callable[[Claim], object], claims: Sequence[Claim]) -> None:
    for claim in claims:
        act(claim)
