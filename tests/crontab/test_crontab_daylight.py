"""Both changes of the clock, in zones that do it in every way, against a clock that ticks through them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pytest
from crontab_oracle import MINUTE, Tick, clock, daemon, matcher, runs, runs_between
from hypothesis import given
from hypothesis import strategies as st

from jobify.crontab import create_crontab

SPRING = datetime(2026, 3, 28, 12, tzinfo=UTC)
AUTUMN = datetime(2026, 10, 24, 12, tzinfo=UTC)

CHANGES = {
    # zone, the instant of the change (UTC)
    "Berlin, forward": ("Europe/Berlin", datetime(2026, 3, 29, 1, tzinfo=UTC)),
    "Berlin, back": ("Europe/Berlin", datetime(2026, 10, 25, 1, tzinfo=UTC)),
    "New York, forward": ("America/New_York", datetime(2026, 3, 8, 7, tzinfo=UTC)),
    "New York, back": ("America/New_York", datetime(2026, 11, 1, 6, tzinfo=UTC)),
    "Lord Howe, forward by 30 minutes": ("Australia/Lord_Howe", datetime(2025, 10, 4, 15, 30, tzinfo=UTC)),
    "Lord Howe, back by 30 minutes": ("Australia/Lord_Howe", datetime(2026, 4, 4, 15, tzinfo=UTC)),
    "Havana, forward at midnight": ("America/Havana", datetime(2026, 3, 8, 5, tzinfo=UTC)),
    "Havana, back to midnight": ("America/Havana", datetime(2026, 11, 1, 5, tzinfo=UTC)),
    "Cairo, forward at midnight": ("Africa/Cairo", datetime(2026, 4, 23, 22, tzinfo=UTC)),
    "Cairo, back over midnight": ("Africa/Cairo", datetime(2026, 10, 29, 21, tzinfo=UTC)),
    "Troll, forward by two hours": ("Antarctica/Troll", datetime(2026, 3, 29, 1, tzinfo=UTC)),
    "Troll, back by two hours": ("Antarctica/Troll", datetime(2026, 10, 25, 1, tzinfo=UTC)),
    "Apia, a day left out": ("Pacific/Apia", datetime(2011, 12, 30, 10, tzinfo=UTC)),
    "Casey, forward by three hours": ("Antarctica/Casey", datetime(2009, 10, 17, 18, tzinfo=UTC)),
    "Casey, back by three hours": ("Antarctica/Casey", datetime(2010, 3, 4, 15, tzinfo=UTC)),
    "Kathmandu, by fifteen minutes": ("Asia/Kathmandu", datetime(1985, 12, 31, 18, 30, tzinfo=UTC)),
}

EXPRESSIONS = [
    # wildcard jobs
    "* * * * *",
    "*/10 * * * *",
    "*/7 * * * *",
    "*/30 2 * * *",
    "* 2 * * *",
    "* 0-3 * * *",
    "0 * * * *",
    "15 * * * *",
    "59 * * * *",
    "0,30 * * * *",
    "10-20/5 * * * *",
    "0 */2 * * *",
    "45 */3 * * *",
    "30 */1 * * SUN",
    "*/20 22-4 * * *",
    "* * 30 * *",
    "*/15 * L * *",
    # fixed-time jobs
    "0 0 * * *",
    "30 0 * * *",
    "59 23 * * *",
    "30 23 * * *",
    "0 1 * * *",
    "30 1 * * *",
    "59 1 * * *",
    "0 2 * * *",
    "15 2 * * *",
    "30 2 * * *",
    "59 2 * * *",
    "0 3 * * *",
    "1 3 * * *",
    "0 9 * * *",
    "0,15,30,45 2 * * *",
    "0-59 2 * * *",
    "0-59 0-23 * * *",
    "0,30 0-23 * * *",
    "0 0-23/2 * * *",
    "5/10 1-3 * * *",
    "0 2,3 * * *",
    "30 1,2,3,4 * * *",
    "15 22-4 * * *",
    "50-10 23,0,1,2 * * *",
    "30 2 * * SUN",
    "30 2 29 3 *",
    "30 2 25 * SUN",
    "0 0 1,8,25,29 * *",
    "30 0 8 3 *",
    "0 2 * 3,10,11 SUN#2,SUN#1,SUNL",
    "30 2 L * *",
    "30 23 * * THUL",
    "30 2 */7 * SUN",
    "0 2 ? * 7",
    "0 0 30 12 *",
    "0 12 30 12 *",
    "30 2 15W,LW,29W * *",
]


@cache
def ticks_around(change: str) -> tuple[ZoneInfo, list[Tick]]:
    zone, at = CHANGES[change]
    return ZoneInfo(zone), clock(ZoneInfo(zone), at - timedelta(hours=30), at + timedelta(hours=40))


@pytest.mark.parametrize("change", CHANGES)
def test_the_zone_changes_where_the_table_says(change: str) -> None:
    zone, at = CHANGES[change]
    before, after = ((at - timedelta(seconds=back)).astimezone(ZoneInfo(zone)).utcoffset() for back in (1, 0))
    assert before != after


@pytest.mark.slow
@pytest.mark.parametrize("expression", EXPRESSIONS)
@pytest.mark.parametrize("change", CHANGES)
def test_runs_are_those_of_a_ticking_clock_wherever_one_asks(change: str, expression: str) -> None:
    zone, ticks = ticks_around(change)
    parser, expected = create_crontab(expression), daemon(expression, ticks)
    assert runs_between(parser, ticks[0].at, ticks[-1].at + MINUTE, zone) == expected
    middle = CHANGES[change][1]
    for offset in (*range(-190, 190, 10), -1, 1, 29, 31, 59, 61):
        for shift in (timedelta(), timedelta(microseconds=1), timedelta(seconds=-1)):
            now = middle + offset * MINUTE + shift
            following = next((run for run in expected if run > now), None)
            if following is not None:
                found = parser.next_run(now=now.astimezone(zone))
                assert found is not None
                assert found.astimezone(UTC) == following


_small = st.integers(0, 3).flatmap(lambda low: st.integers(low, 4).map(lambda high: f"{low}-{high}"))
_minutes = st.one_of(
    st.just("*"),
    st.integers(1, 40).map("*/{}".format),
    st.integers(0, 59).map(str),
    st.lists(st.integers(0, 59), min_size=2, max_size=4).map(lambda many: ",".join(map(str, many))),
    st.tuples(st.integers(0, 59), st.integers(0, 59)).map(lambda ends: f"{ends[0]}-{ends[1]}"),
    st.tuples(st.integers(0, 59), st.integers(1, 30)).map(lambda pair: f"{pair[0]}/{pair[1]}"),
)
_hours = st.one_of(
    st.just("*"),
    st.integers(1, 6).map("*/{}".format),
    st.integers(0, 4).map(str),
    st.integers(22, 23).map(str),
    _small,
    st.tuples(st.integers(20, 23), st.integers(0, 5)).map(lambda ends: f"{ends[0]}-{ends[1]}"),
)
_days = st.sampled_from(["* * *", "* * SUN", "*/2 * *", "29 * *", "L * *", "25 * SUN", "8 * 7", "* * FRI-MON"])


@pytest.mark.slow
@given(minute=_minutes, hour=_hours, days=_days, change=st.sampled_from(list(CHANGES)))
def test_any_expression_runs_as_a_ticking_clock_says(minute: str, hour: str, days: str, change: str) -> None:
    expression = f"{minute} {hour} {days}"
    zone, ticks = ticks_around(change)
    expected = daemon(expression, ticks)
    assert runs_between(create_crontab(expression), ticks[0].at, ticks[-1].at + MINUTE, zone) == expected


@pytest.mark.promise("b16")
@pytest.mark.parametrize("change", ["Berlin, forward", "Berlin, back", "New York, forward", "New York, back"])
def test_every_ten_minutes_is_36_runs_in_six_hours_on_both_days(change: str) -> None:
    zone, at = CHANGES[change]
    start = at - timedelta(hours=3)
    found = runs_between(create_crontab("*/10 * * * *"), start, start + timedelta(hours=6), ZoneInfo(zone))
    assert len(found) == 36
    assert {later - earlier for earlier, later in pairwise(found)} == {timedelta(minutes=10)}


@pytest.mark.promise("b16")
@pytest.mark.parametrize("change", CHANGES)
def test_every_minute_and_every_second_are_steady(change: str) -> None:
    zone, at = CHANGES[change]
    minutes = runs_between(
        create_crontab("* * * * *"), at - timedelta(hours=3), at + timedelta(hours=3), ZoneInfo(zone)
    )
    assert minutes == [at + number * MINUTE for number in range(-180, 180)]
    seconds = runs_between(create_crontab("* * * * * * *"), at - 2 * MINUTE, at + 2 * MINUTE, ZoneInfo(zone))
    assert seconds == [at + timedelta(seconds=number) for number in range(-120, 120)]


def first(count: int, expression: str, after: datetime, zone: str) -> list[str]:
    return [run.isoformat() for run in islice(runs(create_crontab(expression), after, ZoneInfo(zone)), count)]


def test_a_skipped_time_runs_right_after_the_gap_once() -> None:
    found = first(3, "0,30 2 * * *", SPRING, "Europe/Berlin")
    assert found == ["2026-03-29T03:00:00+02:00", "2026-03-30T02:00:00+02:00", "2026-03-30T02:30:00+02:00"]


def test_a_repeated_time_runs_once_at_its_first_showing() -> None:
    found = first(2, "30 2 * * *", AUTUMN, "Europe/Berlin")
    assert found == ["2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"]


def test_a_day_that_a_zone_left_out_is_not_made_up_for() -> None:
    found = first(2, "0 12 * * *", datetime(2011, 12, 29, 20, tzinfo=UTC), "Pacific/Apia")
    assert found == ["2011-12-29T12:00:00-10:00", "2011-12-31T12:00:00+14:00"]


def test_a_fixed_time_is_not_repeated_to_the_second() -> None:
    inside_the_second_pass = datetime(2026, 10, 25, 1, 10, tzinfo=UTC)
    found = first(1, "* 0-59 2 * * * *", inside_the_second_pass, "Europe/Berlin")
    assert found == ["2026-10-26T02:00:00+01:00"]


def test_the_last_day_of_an_expression_may_end_within_a_repeated_hour() -> None:
    parser = create_crontab("*/30 2 25 10 * 2020,2026")
    found = [run.isoformat() for run in runs(parser, datetime(2020, 10, 24, tzinfo=UTC), ZoneInfo("Europe/Berlin"))]
    assert found == [
        f"{day}T{time}{offset}"
        for day in ("2020-10-25", "2026-10-25")
        for offset in ("+02:00", "+01:00")
        for time in ("02:00:00", "02:30:00")
    ]


def test_an_imaginary_now_is_the_instant_that_its_offset_names() -> None:
    now = datetime(2026, 3, 29, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"))  # PEP 495: read with the offset before the gap
    assert first(1, "* * * * *", now, "Europe/Berlin") == ["2026-03-29T03:31:00+02:00"]


@pytest.mark.promise("b18")
def test_nine_oclock_stays_nine_oclock_all_year() -> None:
    zone = ZoneInfo("Europe/Berlin")
    days = list(islice(runs(create_crontab("0 9 * * *"), AUTUMN, zone), 400))
    assert {(run.hour, run.minute, run.tzinfo) for run in days} == {(9, 0, zone)}
    assert {later.date() - earlier.date() for earlier, later in pairwise(days)} == {timedelta(days=1)}


@pytest.mark.parametrize(
    "zone", ["Europe/Amsterdam", "Africa/Monrovia", "America/Juneau", "Asia/Manila", "Europe/Dublin"]
)
@pytest.mark.parametrize("expression", ["* * * * *", "*/10 * * * *", "30 2 * * *", "0 0 1 * *"])
@pytest.mark.parametrize("year", [1700, 1844, 1867, 1892, 1916, 1937, 1940, 1972])
def test_zones_of_the_past_work_to_the_second(zone: str, expression: str, year: int) -> None:
    """Local mean times with odd seconds, and days that were left out or lived twice."""
    found = list(islice(runs(create_crontab(expression), datetime(year, 1, 1, tzinfo=UTC), ZoneInfo(zone)), 40))
    assert all(later.astimezone(UTC) > earlier.astimezone(UTC) for earlier, later in pairwise(found))
    if matcher(expression).is_wildcard:
        assert all(matcher(expression).matches(run.replace(tzinfo=None)) for run in found)
