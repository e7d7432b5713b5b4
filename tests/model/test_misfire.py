"""Which missed due times run, by policy; against a plain list of all due times."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobify.crontab import create_crontab
from jobify.exceptions import ConfigurationError
from jobify.model.clock import from_datetime
from jobify.model.cron import due_times
from jobify.model.misfire import COUNTED, TOLERANCE, GracePolicy, MisfirePolicy, Missed, NextDue, Plan, plan, plan_after
from jobify.types import Microseconds

SECOND = 1_000_000
ALL, SKIP, ONCE = MisfirePolicy.ALL, MisfirePolicy.SKIP, MisfirePolicy.ONCE
Policy = MisfirePolicy | GracePolicy


def every(period: Microseconds, *, last: Microseconds | None = None) -> NextDue:
    """Due at the multiples of ``period``, up to ``last``."""

    def next_due(at: Microseconds) -> Microseconds | None:
        due = at // period * period + period
        return None if last is not None and due > last else due

    return next_due


def grace(seconds: float) -> GracePolicy:
    return MisfirePolicy.GRACE(timedelta(seconds=seconds))


# Every 10 s; the schedule's due time is 10 s, and now it is 45.5 s: 10, 20, 30 and 40 were missed.
MISSED = [
    (ALL, Plan(10 * SECOND)),
    (SKIP, Plan(50 * SECOND, Missed(4, 10 * SECOND, 40 * SECOND))),
    (ONCE, Plan(40 * SECOND, Missed(3, 10 * SECOND, 30 * SECOND))),
    (grace(16), Plan(30 * SECOND, Missed(2, 10 * SECOND, 20 * SECOND))),
    (grace(15.5), Plan(30 * SECOND, Missed(2, 10 * SECOND, 20 * SECOND))),
    (grace(15), Plan(40 * SECOND, Missed(3, 10 * SECOND, 30 * SECOND))),
    (grace(5), Plan(50 * SECOND, Missed(4, 10 * SECOND, 40 * SECOND))),
    (grace(0), Plan(50 * SECOND, Missed(4, 10 * SECOND, 40 * SECOND))),
    (grace(3600), Plan(10 * SECOND)),
    (GracePolicy(timedelta.max), Plan(10 * SECOND)),
]


@pytest.mark.parametrize(("policy", "expected"), MISSED)
def test_a_schedule_that_is_found_late(policy: Policy, expected: Plan) -> None:
    assert plan(policy, 10 * SECOND, now=45_500_000, next_due=every(10 * SECOND)) == expected


@pytest.mark.promise("b32")
@pytest.mark.parametrize(("policy", "expected"), MISSED)
def test_a_run_that_outlasted_its_period(policy: Policy, expected: Plan) -> None:
    assert plan_after(policy, 0, now=45_500_000, next_due=every(10 * SECOND)) == expected


@pytest.mark.parametrize("policy", [ALL, SKIP, ONCE, grace(0), grace(3600)])
@pytest.mark.parametrize("late", [-5 * SECOND, 0, 1, TOLERANCE])
def test_on_time_is_no_misfire(policy: Policy, late: int) -> None:
    assert plan(policy, 10 * SECOND, now=10 * SECOND + late, next_due=every(SECOND)) == Plan(10 * SECOND)


@pytest.mark.parametrize("policy", [ALL, SKIP, ONCE, grace(60)])
def test_a_run_that_kept_its_period_is_followed_by_the_next(policy: Policy) -> None:
    assert plan_after(policy, 10 * SECOND, now=19 * SECOND, next_due=every(10 * SECOND)) == Plan(20 * SECOND)


def test_after_a_run_skip_waits_even_if_the_next_due_time_has_just_passed() -> None:
    expected = Plan(12 * SECOND, Missed(1, 11 * SECOND, 11 * SECOND))
    assert plan_after(SKIP, 10 * SECOND, now=11 * SECOND + 1, next_due=every(SECOND)) == expected


def test_found_late_skip_still_takes_the_due_time_that_is_within_tolerance() -> None:
    now = 30 * SECOND + 300_000
    assert plan(SKIP, 10 * SECOND, now=now, next_due=every(10 * SECOND)) == Plan(
        30 * SECOND, Missed(2, 10 * SECOND, 20 * SECOND)
    )


@pytest.mark.promise("b32")
def test_skip_is_never_behind_and_once_runs_once_for_all_that_was_missed() -> None:
    """A body of 3.2 s every second."""
    starts: dict[Policy, list[float]] = {}
    for policy in (SKIP, ONCE):
        due, now = 0, 0
        for _ in range(4):
            now = max(now, due)
            starts.setdefault(policy, []).append((now - due) / SECOND)
            now += 3_200_000
            following = plan_after(policy, due, now=now, next_due=every(SECOND)).run_at
            assert following is not None
            due = following
    assert starts[SKIP] == [0.0, 0.0, 0.0, 0.0]
    assert starts[ONCE] == pytest.approx([0.0, 0.2, 0.4, 0.6])


def test_the_end_of_an_expression_is_no_further_run() -> None:
    ends = every(10 * SECOND, last=30 * SECOND)
    assert plan_after(ALL, 30 * SECOND, now=31 * SECOND, next_due=ends) == Plan(None)
    assert plan(SKIP, 10 * SECOND, now=60 * SECOND, next_due=ends) == Plan(None, Missed(3, 10 * SECOND, 30 * SECOND))
    assert plan(ONCE, 10 * SECOND, now=60 * SECOND, next_due=ends) == Plan(
        30 * SECOND, Missed(2, 10 * SECOND, 20 * SECOND)
    )
    assert plan(grace(20), 10 * SECOND, now=60 * SECOND, next_due=ends).run_at is None


@pytest.mark.parametrize("policy", [SKIP, ONCE, grace(90)])
def test_a_year_of_missed_seconds_takes_few_questions(policy: Policy) -> None:
    year, asked = 365 * 86_400 * SECOND, 0
    seconds = every(SECOND)

    def counting(at: Microseconds) -> Microseconds | None:
        nonlocal asked
        asked += 1
        return seconds(at)

    found = plan(policy, 0, now=year + 500_000, next_due=counting)
    assert asked < 250
    assert found.skipped is not None
    assert (found.skipped.count, found.skipped.first, found.skipped.is_exact) == (COUNTED, 0, False)
    assert found.run_at == found.skipped.last + SECOND
    assert found.run_at == (year - 89 * SECOND if isinstance(policy, GracePolicy) else year)


def test_counting_is_exact_up_to_its_limit() -> None:
    exact = plan(SKIP, SECOND, now=COUNTED * SECOND, next_due=every(SECOND), tolerance=-1).skipped
    assert exact == Missed(COUNTED, SECOND, COUNTED * SECOND)
    beyond = plan(SKIP, SECOND, now=(COUNTED + 1) * SECOND, next_due=every(SECOND), tolerance=-1).skipped
    assert beyond == Missed(COUNTED, SECOND, (COUNTED + 1) * SECOND, is_exact=False)


policies = st.one_of(st.sampled_from([ALL, SKIP, ONCE]), st.integers(0, 4000).map(grace))


@pytest.mark.slow
@settings(deadline=None)
@given(
    policy=policies,
    dues=st.sets(st.integers(0, 5_000), min_size=1, max_size=300).map(sorted),
    now=st.integers(0, 6_000),
    tolerance=st.integers(0, 30),
)
def test_any_plan_is_what_a_plain_list_says(policy: Policy, dues: list[int], now: int, tolerance: int) -> None:
    dues, now, tolerance = [due * SECOND for due in dues], now * SECOND, tolerance * SECOND

    def may_run(due: Microseconds) -> bool:
        if due >= now - tolerance:
            return True
        if isinstance(policy, GracePolicy):
            return timedelta(microseconds=now - due) <= policy.value
        return policy is ALL or (policy is ONCE and not any(due < other <= now for other in dues))

    if policy is ONCE and dues[0] < now - tolerance:  # then one run stands for all that is past
        runs = [max(due for due in dues if due <= now)]
    else:
        runs = [due for due in dues if may_run(due)]
    found = plan(
        policy,
        dues[0],
        now=now,
        next_due=lambda at: next((due for due in dues if due > at), None),
        tolerance=tolerance,
    )
    skipped = [due for due in dues if not runs or due < runs[0]]
    assert found.run_at == (runs[0] if runs else None)
    if skipped:
        is_exact = len(skipped) <= COUNTED
        assert found.skipped == Missed(min(len(skipped), COUNTED), skipped[0], skipped[-1], is_exact)
    else:
        assert found.skipped is None


def test_a_plan_in_a_zone() -> None:
    zone = ZoneInfo("Europe/Berlin")
    nine = due_times(create_crontab("0 9 * * *"), zone)
    due, now = (from_datetime(datetime(2026, 3, day, 9, 30), zone=zone) for day in (27, 30))
    found = plan(ONCE, due, now=now, next_due=nine)
    assert found.run_at == from_datetime(datetime(2026, 3, 30, 7, tzinfo=UTC), zone=zone)


def test_policies_are_their_words() -> None:
    assert [str(policy) for policy in MisfirePolicy] == ["all", "skip", "once"]
    assert MisfirePolicy("once") is ONCE


def test_a_grace_policy_is_a_named_tuple() -> None:
    policy = MisfirePolicy.GRACE(timedelta(minutes=5))
    assert policy == GracePolicy(timedelta(minutes=5)) == (timedelta(minutes=5),)
    assert policy.value == timedelta(minutes=5)
    assert isinstance(policy, GracePolicy)
    assert repr(policy) == "GracePolicy(value=datetime.timedelta(seconds=300))"


@pytest.mark.parametrize("value", [timedelta(seconds=-1), 5, None, "5m"])
def test_a_grace_period_that_cannot_be_is_refused(value: object) -> None:
    with pytest.raises(ConfigurationError, match="grace period"):
        GracePolicy(value)  # type: ignore[arg-type]
