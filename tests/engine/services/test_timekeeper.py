"""Changes of the clock: what counts as one, what is late, and which clock is trusted. Stories F29 and F58."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobify.crontab import create_crontab
from jobify.engine.services.timekeeper import Timekeeper, brought_back, judge_clock
from jobify.model.clock import SECOND, SystemClock, from_datetime
from jobify.model.cron import Cron
from jobify.model.cron_rules import CronRuleCache
from jobify.model.misfire import SET_BACK, search_from
from jobify.storage.timekeeping import ClockState, Moved, WaitingSchedule

NOW = from_datetime(datetime(2030, 1, 1, 12, 0, 30, tzinfo=UTC), zone=UTC)
MINUTE, HOUR, DAY = 60 * SECOND, 3600 * SECOND, 86_400 * SECOND
RULES = CronRuleCache(UTC, create_crontab)
EVERY_MINUTE = RULES.of_cron(Cron("* * * * *"))
NEXT = NOW + 30 * SECOND


def waiting(due_at: int, **fields: Any) -> WaitingSchedule:
    usual: dict[str, Any] = {"offset_at": due_at, "started_at": None, "attempt": 0, **fields}
    return WaitingSchedule("it", 7, EVERY_MINUTE.text, due_at, **usual)


# -- what is late ------------------------------------------------------------------------------------------------------


@pytest.mark.promise("f29")
@pytest.mark.parametrize(
    ("schedule", "moved_to"),
    [
        (waiting(NEXT), None),
        (waiting(NEXT + 1), NEXT),
        (waiting(NEXT + 1, offset_at=None), NEXT),
        (waiting(NEXT + 1000 * DAY, started_at=NOW + 1000 * DAY), NEXT),
        (waiting(NEXT + MINUTE, started_at=NEXT - MINUTE), NEXT),
        (waiting(NEXT + 5 * SECOND, offset_at=NEXT), None),  # released, and offered again a little later
        (waiting(NEXT + 5 * SECOND, offset_at=NOW - MINUTE), None),
    ],
)
def test_a_schedule_that_is_due_later_than_its_rule_says_is_late(
    schedule: WaitingSchedule, moved_to: int | None
) -> None:
    moved = brought_back(schedule, EVERY_MINUTE, now=NOW)
    assert moved == (None if moved_to is None else Moved("it", 7, moved_to, moved_to))


@pytest.mark.promise("f29")
def test_a_run_that_was_just_made_is_not_made_again() -> None:
    """12:01:00 came, a time server set the clock back to 12:00:55, and 12:01:00 comes once more."""
    ran = NEXT
    for back in (SECOND // 10, 5 * SECOND, SET_BACK):
        assert brought_back(waiting(ran + MINUTE, started_at=ran), EVERY_MINUTE, now=ran - back) is None
    moved = brought_back(waiting(ran + MINUTE, started_at=ran), EVERY_MINUTE, now=ran - SET_BACK - 1)
    assert moved is not None
    assert moved.due_at == ran


@pytest.mark.promise("f29")
@pytest.mark.parametrize(
    ("due_at", "started_at", "moved_to"),
    [
        (NOW + MINUTE, NOW - MINUTE, None),
        (NOW + DAY, NOW - MINUTE, None),  # a long wait is what the policy says
        (NOW + 1000 * DAY + MINUTE, NOW + 1000 * DAY, NOW + MINUTE),
        (NOW + MINUTE, NOW + 1000 * DAY, None),  # it was moved along already
    ],
)
def test_a_retry_of_a_run_that_began_in_the_future(due_at: int, started_at: int, moved_to: int | None) -> None:
    schedule = waiting(due_at, offset_at=NOW + 2000 * DAY, started_at=started_at, attempt=1)
    moved = brought_back(schedule, EVERY_MINUTE, now=NOW)
    assert moved == (None if moved_to is None else Moved("it", 7, moved_to, NOW))


@pytest.mark.promise("f29")
def test_a_run_that_its_task_has_put_off_under_a_clock_that_was_ahead() -> None:
    began = NOW + 1000 * DAY
    schedule = waiting(began + MINUTE, offset_at=NOW - MINUTE, started_at=began)
    assert brought_back(schedule, EVERY_MINUTE, now=NOW) == Moved("it", 7, NOW + MINUTE, NOW - MINUTE)
    assert brought_back(schedule._replace(started_at=NOW, due_at=NOW + DAY), EVERY_MINUTE, now=NOW) is None


@pytest.mark.promise("f29")
def test_a_start_date_that_is_to_come_is_not_late() -> None:
    start = datetime(2031, 1, 1, 0, 0, 7, tzinfo=UTC)
    rule = RULES.of_cron(Cron("* * * * *", start_date=start))
    first = from_datetime(start, zone=UTC)
    assert brought_back(waiting(first), rule, now=NOW) is None
    assert brought_back(waiting(first + DAY), rule, now=NOW) == Moved("it", 7, first, first)


@pytest.mark.promise("f29")
def test_a_rule_without_a_time_to_come_moves_nothing() -> None:
    rule = RULES.of_cron(Cron("0 0 1 1 * 2020"))
    assert brought_back(waiting(NOW + DAY), rule, now=NOW) is None


@pytest.mark.promise("f29")
@given(st.integers(-10 * DAY, 10 * DAY), st.one_of(st.none(), st.integers(-10 * DAY, 10 * DAY)))
def test_what_is_brought_back_comes_earlier_and_stays(due_in: int, started_in: int | None) -> None:
    schedule = waiting(NOW + due_in, started_at=None if started_in is None else NOW + started_in)
    moved = brought_back(schedule, EVERY_MINUTE, now=NOW)
    if moved is not None:
        assert NOW < moved.due_at < schedule.due_at
        again = schedule._replace(due_at=moved.due_at, offset_at=moved.offset_at)
        assert brought_back(again, EVERY_MINUTE, now=NOW) is None
    else:
        assert schedule.due_at <= NOW + MINUTE + SET_BACK + MINUTE


@pytest.mark.promise("f29")
def test_what_follows_a_run_of_the_future_is_reckoned_from_now() -> None:
    assert search_from(NOW - DAY, now=NOW) == NOW - DAY
    assert search_from(NOW + SET_BACK, now=NOW) == NOW + SET_BACK
    assert search_from(NOW + SET_BACK + 1, now=NOW) == NOW


# -- which clock is trusted --------------------------------------------------------------------------------------------


@pytest.mark.promise("f58")
@pytest.mark.parametrize(
    ("state", "since", "expected"),
    [
        (ClockState(), 0, ClockState(0, NOW, None)),
        (ClockState(3, NOW - 60 * SECOND), 0, ClockState(3, NOW - 60 * SECOND, None)),
        (ClockState(3, NOW - HOUR, NOW + DAY), 0, ClockState(3, NOW, None)),
        (ClockState(3, NOW - DAY), 0, ClockState(3, NOW, None)),
        (ClockState(3, NOW - DAY - 1), 0, ClockState(3, NOW - DAY - 1, NOW)),
        (ClockState(3, NOW - 9 * DAY), 8 * DAY, ClockState(3, NOW, None)),  # this process has seen the time pass
        (ClockState(3, NOW - 9 * DAY, NOW - HOUR + 1), 0, ClockState(3, NOW - 9 * DAY, NOW - HOUR + 1)),
        (ClockState(3, NOW - 9 * DAY, NOW - HOUR), 0, ClockState(3, NOW, None)),
        (ClockState(3, NOW - 900 * DAY, NOW - 100 * DAY), 0, ClockState(3, NOW - 900 * DAY, NOW)),
        (ClockState(3, NOW - 9 * DAY, NOW + 1), 0, ClockState(3, NOW - 9 * DAY, NOW)),
        (ClockState(3, NOW + HOUR), 0, ClockState(3, NOW + HOUR, None)),  # set back a little
        (ClockState(3, NOW + 900 * DAY), 0, ClockState(3, NOW, None)),  # what was trusted was wrong
    ],
)
def test_a_clock_is_trusted_if_it_is_near_what_is_known(state: ClockState, since: int, expected: ClockState) -> None:
    assert judge_clock(state, NOW, since=since) == expected


# -- what is a change --------------------------------------------------------------------------------------------------


class Hands:
    """Clocks that a test sets; each reading takes so long."""

    def __init__(self) -> None:
        self.wall, self.elapsed, self.takes = NOW, 0.0, 0.0

    def now(self) -> int:
        return self.wall

    def monotonic(self) -> float:
        self.elapsed += self.takes
        self.wall += round(self.takes * SECOND)
        return self.elapsed


def keeper(clock: Any) -> Timekeeper:
    unused: Any = SimpleNamespace()
    return Timekeeper(unused, unused, clock, lambda: None)


@pytest.mark.promise("f29")
@pytest.mark.parametrize(
    ("change", "is_one"), [(0.4, False), (-0.4, False), (0.6, True), (-0.6, True), (10**9, True), (-(10**9), True)]
)
def test_half_a_second_is_a_change(change: float, is_one: bool) -> None:
    clock = Hands()
    timekeeper = keeper(clock)
    clock.wall += round(change * SECOND)
    assert timekeeper.has_changed() is is_one


@pytest.mark.promise("f29")
def test_a_clock_that_is_slewed_is_followed() -> None:
    clock = Hands()
    timekeeper = keeper(clock)
    for _ in range(1000):
        clock.elapsed += 1
        clock.wall += SECOND + SECOND // 10
        assert not timekeeper.has_changed()


@pytest.mark.promise("f29")
def test_a_process_that_was_stopped_between_two_readings_sees_no_change() -> None:
    clock = Hands()
    timekeeper = keeper(clock)
    clock.takes = 3600.0
    assert not timekeeper.has_changed()
    clock.takes = 0.0
    assert not timekeeper.has_changed()


@pytest.mark.promise("f29")
def test_a_change_that_is_not_made_good_for_yet_is_seen_again() -> None:
    clock = Hands()
    timekeeper = keeper(clock)
    clock.wall += DAY
    assert timekeeper.has_changed()
    assert timekeeper.has_changed()


def test_the_machines_clock_goes_on() -> None:
    clock = SystemClock()
    first = clock.monotonic()
    assert clock.monotonic() >= first
