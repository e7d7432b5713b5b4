"""Times as they are typed and shown."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobify.cli.errors import CommandError
from jobify.cli.time_format import duration, how_long, moment, stamp, until

HOUR = 3_600_000_000
BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("15m", 900), ("2h", 7200), ("7d", 604_800), ("2w", 1_209_600), ("0.5h", 1800)]
)
def test_a_duration(text: str, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "h", "-2h", "2 hours", "1e3s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(CommandError, match="not a duration"):
        duration(text)


def test_a_time_is_before_now_or_by_the_calendar() -> None:
    assert moment("1h", now=5 * HOUR, zone=UTC) == 4 * HOUR
    assert moment("1970-01-02", now=0, zone=UTC) == 24 * HOUR
    assert moment("1970-01-01T01:00", now=0, zone=BERLIN) == 0
    assert moment("1970-01-01T01:00+00:00", now=0, zone=BERLIN) == HOUR


@given(st.floats(min_value=-1, max_value=1e12))
def test_any_length_is_short_to_read(length: float) -> None:
    assert 3 <= len(how_long(length)) <= 12


def test_a_time_is_stamped_in_the_zone() -> None:
    assert stamp(0, zone=BERLIN) == "1970-01-01 01:00:00 CET"
    assert stamp(0, zone=BERLIN, is_short=True) == "01-01 01:00:00"
    assert stamp(None, zone=UTC) == ""


def test_until_says_which_side_of_now() -> None:
    assert (until(HOUR, now=0), until(0, now=HOUR)) == ("in 1 h", "1 h ago")


def test_iso_times_are_read_as_python_reads_them() -> None:
    assert moment(datetime(2026, 1, 31, 12, tzinfo=UTC).isoformat(), now=0, zone=BERLIN) == 1_769_860_800_000_000
