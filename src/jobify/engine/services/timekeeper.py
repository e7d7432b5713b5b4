"""Detect changes of the wall clock, and correct stored times for them.

A change is a difference between the wall clock and elapsed time (``Clock``). Each process checks for one once a second,
and before every claim, so that nothing is claimed by a clock that was just set.

**Elapsed times are shifted.** Delays, waits for a retry and expiries in seconds move by the change, in one transaction.
The database keeps the sum of all changes: of several processes that detect one change, the first applies it, and the
others find that the sum has grown by it.

**Schedules are brought back.** If a due time is later than its rule gives from now on, it was written by a clock that
was ahead, and the schedule gets the next time of its rule. If the clock then jumps forward, it had been wrong, and the
schedules that were brought back here get their old due times again, so that no run is made that was never missed.

**Times of a wrong clock** whose process has died since are searched for at a start and once a minute, a bounded number
of rows at a time.

**Ended jobs** whose end was written by a clock that was behind would be deleted too early by the right one, so they are
kept longer by the change.

**A clock may delete jobs** only if it is not far beyond the times that are known of the database: :func:`judge_clock`
decides that over what the storage keeps (:class:`jobify.storage.timekeeping.ClockState`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

from jobify.engine.service import Periodic
from jobify.exceptions import ConfigurationError, PayloadError
from jobify.gateway.backend import Backend
from jobify.model.clock import SECOND, Clock, seconds, to_datetime
from jobify.model.cron import first_due
from jobify.model.cron_rules import CronRule, CronRuleCache
from jobify.model.misfire import SET_BACK, search_from
from jobify.runtime.logs import get_logger
from jobify.storage.timekeeping import ClockState, Moved, WaitingSchedule, WrongEnds
from jobify.types import Microseconds

__all__ = ("Timekeeper", "brought_back", "judge_clock")

log = get_logger("jobify.engine")

_INTERVAL: Final = 1.0
_CHANGE: Final[Microseconds] = SECOND // 2
"""A smaller difference between the two clocks is no change: they are not read at once, and time servers slew."""
_UNCERTAIN: Final = 0.01
"""Seconds that may pass between two readings of elapsed time, around one of the wall clock, for an exact result."""
_ROUNDS_PER_SEARCH: Final = 60
_PAGE: Final = 500
"""Schedules that are checked in one call; a search, once a minute, checks no more than these."""
_FARTHEST: Final = 10_000
"""Rows of each kind that a search for times of a wrong clock considers."""
_FARTHEST_AT_START: Final = 500
_MOST_REMEMBERED: Final = 10_000
_STEADY: Final = 600.0
"""Seconds without a change after which the clock is trusted again."""
_EARLIEST: Final[Microseconds] = 1_577_836_800 * SECOND
"""The year 2020. A clock that shows an earlier time was never set, so that the stored times are right."""


class Timekeeper(Periodic):
    """Watches the clock for one storage. ``on_changed`` is called when due times may have moved."""

    def __init__(self, backend: Backend, rules: CronRuleCache, clock: Clock, on_changed: Callable[[], None]) -> None:
        super().__init__(_INTERVAL)
        self._backend = backend
        self._rules = rules
        self._clock = clock
        self._on_changed = on_changed
        self._lock = asyncio.Lock()
        self._checked_at = clock.monotonic()
        self._ahead = clock.now() - seconds(self._checked_at)
        """By how much the wall clock is ahead of elapsed time."""
        self._known_changes: Microseconds = 0
        self._recent: list[tuple[float, Microseconds]] = []
        self._wrong_ends: list[WrongEnds] = []
        self._brought_back: dict[str, Microseconds] = {}
        """The due times that schedules had before they were brought back."""
        self._moved_count = 0
        """How many due times of schedules were changed here."""
        self._rounds = 0
        self._next_page = ""

    # -- the time ------------------------------------------------------------------------------------------------------

    def has_changed(self) -> bool:
        """Whether the clock was set since the last check. Costs two readings of a clock."""
        elapsed = self._clock.monotonic()
        ahead = self._clock.now() - round(elapsed * SECOND)
        if -_CHANGE < ahead - self._ahead < _CHANGE:
            self._ahead, self._checked_at = ahead, elapsed  # a slewed clock is followed
            return False
        return self._change() != 0

    def steady_now(self) -> Microseconds:
        """The wall clock, without what it was set forward in the last ten minutes, which may have been a mistake."""
        elapsed = self._clock.monotonic()
        self._recent = [(at, change) for at, change in self._recent if elapsed - at < _STEADY]
        return self.now() - max(sum(change for _, change in self._recent), 0)

    def now(self) -> Microseconds:
        """The wall clock; until a change is corrected for, what it would show without the change."""
        now, unchanged = self._clock.now(), self._ahead + round(self._clock.monotonic() * SECOND)
        return now if -_CHANGE < now - unchanged < _CHANGE else unchanged

    def due_until(self) -> Microseconds:
        """The time until which jobs are due. Thread-safe.

        Another process may have corrected due times for a change that this one has not corrected for. By the earlier of
        both times nothing begins too early, and waiting jobs are found after the correction.
        """
        return min(self._clock.now(), self.now())

    def elapsed(self) -> float:
        """Seconds of elapsed time, from an arbitrary start."""
        return self._clock.monotonic()

    # -- the loop ------------------------------------------------------------------------------------------------------

    async def begin(self) -> None:
        """Correct times of a wrong clock before anything is claimed. Checks fewer rows than the later rounds, so that a
        start takes no longer the more jobs wait."""
        self._known_changes = await self._backend.gate.call(self._changes, flush=False)
        await self._search(_FARTHEST_AT_START)

    async def step(self) -> None:
        await self.catch_up()
        await self._keep_wrong_ends()
        self._rounds += 1
        if self._rounds % _ROUNDS_PER_SEARCH == 0:
            # A change that others have applied and that is not seen here after a minute is no change of this clock.
            self._known_changes = await self._backend.gate.call(self._changes, flush=False)
            await self._search(_FARTHEST)

    async def catch_up(self) -> None:
        """Correct stored times for a change of the clock, if there was one. After this call, due times are right."""
        if not self.has_changed():
            return
        async with self._lock:
            change = self._change()
            if change == 0:
                return  # another part of this process was faster
            log.warning(
                "The clock was set %s by %.3f s, to %s. Delays go on as elapsed time, schedules by the new time.",
                "forward" if change > 0 else "back", abs(change) / SECOND, to_datetime(self._clock.now()).isoformat(),
            )  # fmt: skip
            # Both are kept, because another part of this process reads the clock meanwhile.
            ahead, checked_at = self._ahead + change, self._checked_at
            shifted_at = await self._backend.gate.call(partial(self._shift, change, ahead, checked_at), flush=False)
            self._ahead, self._checked_at = ahead, shifted_at  # the next change has to know what was written since
            self._note_wrong_ends(change, shifted_at)
            self._recent.append((shifted_at, change))
            if change > 0:
                await self._restore()
            await self._bring_back_all()
        self._on_changed()

    # -- elapsed times -------------------------------------------------------------------------------------------------

    def _change(self) -> Microseconds:
        """How far the clock was set since the last check; 0 if it was not, or if that is unknown at this moment."""
        for _ in range(5):
            before = self._clock.monotonic()
            now = self._clock.now()
            after = self._clock.monotonic()
            if after - before <= _UNCERTAIN:
                change = now - round(after * SECOND) - self._ahead
                return change if abs(change) >= _CHANGE else 0
        return 0  # this process is stopped again and again: the next check decides

    def _changes(self) -> Microseconds:
        return self._backend.storage.times.clock_state().changes

    def _shift(self, change: Microseconds, ahead: Microseconds, checked_at: float) -> float:
        """Shift elapsed times, unless another process has done so; return when that was, in elapsed time.

        The wall clock is not read here, because it may have been set again since the change was measured. Since that
        change it is ``ahead`` of elapsed time, which says what was written after it.
        """
        storage = self._backend.storage
        with storage.transaction():
            state = storage.times.clock_state()
            left = change - (state.changes - self._known_changes)
            elapsed = self._clock.monotonic()
            if abs(left) >= _CHANGE:
                since, now = ahead + seconds(checked_at), ahead + seconds(elapsed)
                storage.times.shift(left, since=since, now=now)
                state = state._replace(changes=state.changes + left)
                storage.times.keep_clock_state(judge_clock(state, now) if left < 0 else state)
            self._known_changes = state.changes
            return elapsed

    # -- ended jobs ----------------------------------------------------------------------------------------------------

    def _note_wrong_ends(self, change: Microseconds, elapsed: float) -> None:
        """Note the ends between a step back and a step forward of the clock: they would be deleted too early."""
        if change > 0 and self._recent and self._recent[-1][1] < 0:
            until = self._ahead + seconds(elapsed) - change
            self._wrong_ends.append(WrongEnds(until - seconds(elapsed - self._recent[-1][0]), until, change))

    async def _keep_wrong_ends(self) -> None:
        """Keep them as long as if the clock had been right. There may be many, so nothing waits for this."""
        while self._wrong_ends:
            ends = self._wrong_ends[-1]
            keep = partial(self._backend.storage.times.keep_ended, ends, limit=_PAGE)
            if await self._backend.gate.call(keep, flush=False) < _PAGE:
                self._wrong_ends.remove(ends)
            await asyncio.sleep(0)  # a storage in memory answers without letting go of the loop

    # -- schedules -----------------------------------------------------------------------------------------------------

    async def _bring_back_all(self) -> None:
        after: str | None = ""
        while after is not None:
            after = await self._bring_back_page(after)
            await asyncio.sleep(0)  # a storage in memory answers without letting go of the loop

    async def _bring_back_page(self, after: str) -> str | None:
        """Bring back the schedules of a page that are due too late; return the last id, None at the end."""
        times, now = self._backend.storage.times, self._clock.now()
        page = await self._backend.gate.call(
            partial(times.waiting_schedules, due_after=now, after=after, limit=_PAGE), flush=False
        )
        now = self._clock.now()  # an earlier time would make late what a clock that was set forward has just written
        await self._move(self._late_ones(page, now), now)
        return page[-1].id if len(page) == _PAGE else None

    def _late_ones(self, page: Iterable[WaitingSchedule], now: Microseconds) -> list[Moved]:
        found = []
        for schedule in page:
            moved = self._moved(schedule, now)
            if moved is not None:
                found.append(moved)
                if len(self._brought_back) < _MOST_REMEMBERED and schedule.offset_at is not None:
                    self._brought_back.setdefault(schedule.id, schedule.offset_at)
        return found

    def _moved(self, schedule: WaitingSchedule, now: Microseconds) -> Moved | None:
        rule = self._rule(schedule)
        try:
            return None if rule is None else brought_back(schedule, rule, now=now)
        except Exception as error:  # of a user's cron parser: its schedule waits as before
            log.warning(
                "The cron parser of schedule %s raised an error; its due time is not checked: %r", schedule.id, error
            )
            return None

    def _rule(self, schedule: WaitingSchedule) -> CronRule | None:
        try:
            return self._rules.of_text(schedule.rule)
        except (PayloadError, ConfigurationError):
            return None  # it is left to a process that can read it

    async def _restore(self) -> None:
        """Give schedules that were brought back here their old due times, unless these are too late now."""
        before, self._brought_back = self._brought_back, {}
        ids = list(before)
        for start in range(0, len(ids), _PAGE):
            some = ids[start : start + _PAGE]
            now = self._clock.now()
            page = await self._backend.gate.call(partial(self._backend.storage.times.schedules, some), flush=False)
            moves = [
                Moved(schedule.id, schedule.fence, before[schedule.id], before[schedule.id])
                for schedule in page
                if schedule.offset_at is not None and schedule.offset_at < before[schedule.id]
            ]
            await self._move(moves, now)

    async def _move(self, moves: list[Moved], now: Microseconds) -> None:
        if moves:
            times = self._backend.storage.times
            move = partial(times.move_schedules, moves, now=now)
            self._moved_count += await self._backend.gate.call(move, flush=False)

    # -- times of a wrong clock ----------------------------------------------------------------------------------------

    async def _search(self, farthest: int) -> None:
        now = self._clock.now()
        if now < _EARLIEST or self.has_changed():  # by a clock that was just set back, all that waits is ahead
            return
        mended = await self._mend(now, farthest)
        if mended >= farthest:  # there may be more
            mended += await self._mend(now, _FARTHEST)
        if mended:
            log.warning("%d times were written by a clock that was ahead, and are brought back.", mended)
        moved = self._moved_count
        self._next_page = await self._bring_back_page(self._next_page) or ""
        if mended or moved != self._moved_count:
            self._on_changed()

    async def _mend(self, now: Microseconds, farthest: int) -> int:
        mend = self._backend.storage.times.mend
        return await self._backend.gate.call(partial(mend, now=now, until=now + SET_BACK, limit=farthest), flush=False)


def brought_back(schedule: WaitingSchedule, rule: CronRule, *, now: Microseconds) -> Moved | None:
    """The times of a schedule by its rule, if its own are later. None means that they are not.

    Later times are right if a run was just made by a clock that was then set back a little, and if the start date is in
    the future.
    """
    if schedule.attempt > 0:
        return _wait_brought_back(schedule, now)
    if schedule.offset_at is not None and schedule.due_at > schedule.offset_at:  # it is put off
        moved = _wait_brought_back(schedule, now)
        if moved is not None:
            return moved
    start = now
    if schedule.started_at is not None:
        start = max(now, search_from(schedule.started_at, now=now))
    expected = first_due(rule.cron, now=start, zone=rule.zone, next_due=rule.next_due)
    if expected == start and schedule.started_at is not None:  # its start date, at which it has just run
        expected = rule.next_due(start)
    offset_at = schedule.due_at if schedule.offset_at is None else schedule.offset_at
    if expected is None or offset_at <= expected:
        return None
    return Moved(schedule.id, schedule.fence, expected, expected)


def _wait_brought_back(schedule: WaitingSchedule, now: Microseconds) -> Moved | None:
    """The times of a run that began in the future, whose wait (for a retry, or a snooze) was not shifted when the clock
    was set back."""
    begun_at, offset_at = schedule.started_at, schedule.offset_at
    if begun_at is None or begun_at <= now + SET_BACK or schedule.due_at < begun_at:
        return None
    wait = schedule.due_at - begun_at
    return Moved(schedule.id, schedule.fence, now + wait, now if offset_at is None else min(offset_at, now))


_TRUSTED_FOR: Final[Microseconds] = 86_400 * SECOND
"""How far a clock may be beyond the last known time and still be trusted at once."""
_DOUBTED_FOR: Final[Microseconds] = 3_600 * SECOND
"""How long one that is farther has to go on, in any number of processes, to be trusted: there was a long stop."""
_REMEMBERED_FOR: Final[Microseconds] = 40 * 86_400 * SECOND
"""A clock that is even farther beyond the doubted time is doubted from then on."""
_NOTED_EVERY: Final[Microseconds] = 600 * SECOND


def judge_clock(state: ClockState, now: Microseconds, *, since: Microseconds = 0) -> ClockState:
    """The state of the clock after reading it. It is trusted if ``doubted_at`` is None.

    ``since``: the elapsed time since this process last trusted it. Pure: the time is an argument.
    """
    known = state.trusted_at
    if known is None or now < known - _TRUSTED_FOR:  # a new file; or what was trusted was wrong
        return state._replace(trusted_at=now, doubted_at=None)
    if now <= known + _TRUSTED_FOR + since:
        return state._replace(trusted_at=now if now - known > _NOTED_EVERY else known, doubted_at=None)
    doubted = state.doubted_at
    if doubted is None or not 0 <= now - doubted <= _REMEMBERED_FOR:
        return state._replace(doubted_at=now)
    return state if now - doubted < _DOUBTED_FOR else state._replace(trusted_at=now, doubted_at=None)
