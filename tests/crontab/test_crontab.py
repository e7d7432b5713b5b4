"""What expressions mean by the calendar, and which are refused."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from crontab_oracle import DAY, field, is_day, runs
from hypothesis import given
from hypothesis import strategies as st

from jobify.crontab import CronParser, create_crontab
from jobify.crontab.fields import ALIASES, parse
from jobify.exceptions import ConfigurationError, InvalidCronError

START = datetime(2025, 12, 31, 23, 59, 59, tzinfo=UTC)


def first(expression: str, count: int = 4, after: datetime = START) -> list[str]:
    return [f"{run:%y-%m-%d %H:%M:%S}" for run in islice(runs(create_crontab(expression), after, UTC), count)]


def days_of(expression: str, year: int) -> list[date]:
    """The days of ``year`` on which an expression for midnight runs."""
    found = runs(create_crontab(expression), datetime(year, 1, 1, tzinfo=UTC) - timedelta(seconds=1), UTC)
    return [run.date() for run in islice(found, 366) if run.year == year]


# --- fields -----------------------------------------------------------------------------------------------------------


@pytest.mark.promise("rule-15", "x16")
def test_five_fields_are_minute_hour_day_month_weekday() -> None:
    assert first("30 9 15 6 *", 2) == ["26-06-15 09:30:00", "27-06-15 09:30:00"]


@pytest.mark.promise("rule-15", "x16")
def test_six_fields_end_with_the_year() -> None:
    assert first("0 12 1 1 * 2027,2029-2030") == ["27-01-01 12:00:00", "29-01-01 12:00:00", "30-01-01 12:00:00"]


@pytest.mark.promise("rule-15", "x16")
def test_seven_fields_begin_with_the_seconds() -> None:
    assert first("*/20 0 0 1 1 * *") == [
        "26-01-01 00:00:00",
        "26-01-01 00:00:20",
        "26-01-01 00:00:40",
        "27-01-01 00:00:00",
    ]


def test_every_second() -> None:
    assert first("* * * * * * *", 3) == ["26-01-01 00:00:00", "26-01-01 00:00:01", "26-01-01 00:00:02"]


@pytest.mark.promise("rule-15")
@pytest.mark.parametrize(
    ("alias", "same"),
    [
        ("@yearly", "0 0 1 1 *"),
        ("@annually", "0 0 1 1 *"),
        ("@monthly", "0 0 1 * *"),
        ("@weekly", "0 0 * * 0"),
        ("@daily", "0 0 * * *"),
        ("@midnight", "0 0 * * *"),
        ("@Hourly", "0 * * * *"),
    ],
)
def test_an_alias_is_an_expression(alias: str, same: str) -> None:
    assert first(alias, 20) == first(same, 20)


def test_every_alias_is_tested() -> None:
    assert len(ALIASES) == 7


@pytest.mark.parametrize(
    ("expression", "minutes"),
    [
        ("*/20 0 1 1 *", [0, 20, 40]),
        ("5/20 0 1 1 *", [5, 25, 45]),
        ("10-30/10 0 1 1 *", [10, 20, 30]),
        ("50-5/5 0 1 1 *", [0, 5, 50, 55]),
        ("1,3,5-7 0 1 1 *", [1, 3, 5, 6, 7]),
        ("7-7 0 1 1 *", [7]),
        ("07 0 1 1 *", [7]),
        ("*/60 0 1 1 *", [0]),
        ("59/5 0 1 1 *", [59]),
    ],
)
def test_lists_ranges_and_steps(expression: str, minutes: list[int]) -> None:
    assert list(parse(expression).minutes) == minutes


@pytest.mark.promise("rule-15")
def test_ranges_wrap_around() -> None:
    assert list(parse("0 22-4 * * *").hours) == [0, 1, 2, 3, 4, 22, 23]
    assert list(parse("0 22-4/2 * * *").hours) == [0, 2, 4, 22]
    assert list(parse("0 0 1 NOV-FEB *").months) == [1, 2, 11, 12]
    assert [day.day for day in days_of("0 0 30-2 4 *", 2026)] == [1, 2, 30]


def test_capitals_and_blanks_do_not_matter() -> None:
    assert first(" 0\t12  * jan-Mar,sep fri#2 ") == first("0 12 * JAN-MAR,SEP 5#2")


def weekdays(field_text: str) -> str:
    """The weekdays of the first full week of 2026 on which the field matches."""
    return " ".join(f"{day:%a}" for day in days_of(f"0 0 * 1 {field_text}", 2026) if 4 <= day.day <= 10)


@pytest.mark.promise("rule-15")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", "Sun"),
        ("7", "Sun"),
        ("SUN", "Sun"),
        ("5-7", "Sun Fri Sat"),
        ("0-7", "Sun Mon Tue Wed Thu Fri Sat"),
        ("1-7", "Sun Mon Tue Wed Thu Fri Sat"),
        ("7-2", "Sun Mon Tue"),
        ("7-0", "Sun"),
        ("FRI-MON", "Sun Mon Fri Sat"),
        ("SAT-SUN", "Sun Sat"),
        ("FRI-MON/2", "Sun Fri"),
        ("MON,WED,5", "Mon Wed Fri"),
        ("*/2", "Sun Tue Thu Sat"),
        ("1/2", "Mon Wed Fri"),
        ("7/3", "Sun Wed Sat"),
        ("?", "Sun Mon Tue Wed Thu Fri Sat"),
    ],
)
def test_the_week_is_from_sunday_to_saturday_and_seven_is_sunday(text: str, expected: str) -> None:
    assert weekdays(text) == expected


@pytest.mark.promise("rule-15")
@pytest.mark.parametrize(
    ("expression", "days"),
    [
        ("0 0 L * *", ["01-31", "02-28", "03-31", "04-30"]),
        ("0 0 LW * *", ["01-30", "02-27", "03-31", "04-30"]),
        ("0 0 15W * *", ["01-15", "02-16", "03-16", "04-15"]),
        ("0 0 1W * *", ["01-01", "02-02", "03-02", "04-01"]),
        ("0 0 1W 8,11 *", ["08-03", "11-02"]),
        ("0 0 31W * *", ["01-30", "03-31", "05-29", "07-31"]),
        ("0 0 1,L 2,3 *", ["02-01", "02-28", "03-01", "03-31"]),
        ("0 0 * * 5L", ["01-30", "02-27", "03-27", "04-24"]),
        ("0 0 * * L5", ["01-30", "02-27", "03-27", "04-24"]),
        ("0 0 * * FRIL", ["01-30", "02-27", "03-27", "04-24"]),
        ("0 0 * * 7L", ["01-25", "02-22", "03-29", "04-26"]),
        ("0 0 * * FRI#2", ["01-09", "02-13", "03-13", "04-10"]),
        ("0 0 * * 5#5", ["01-30", "05-29", "07-31", "10-30"]),
        ("0 0 * * MON#1,7#1", ["01-04", "01-05", "02-01", "02-02"]),
    ],
)
def test_days_that_the_month_decides(expression: str, days: list[str]) -> None:
    assert [f"{day:%m-%d}" for day in days_of(expression, 2026)][: len(days)] == days


@pytest.mark.promise("rule-15", "x16")
@pytest.mark.parametrize(
    ("expression", "days"),
    [
        ("0 0 13 * FRI", ["01-02", "01-09", "01-13", "01-16"]),  # both restricted: either
        ("0 0 13 * *", ["01-13", "02-13", "03-13", "04-13"]),
        ("0 0 ? * FRI", ["01-02", "01-09", "01-16", "01-23"]),
        ("0 0 13 * ?", ["01-13", "02-13", "03-13", "04-13"]),
        ("0 0 */10 * FRI", ["05-01", "07-31", "08-21", "09-11"]),  # one starts with a star: both
        ("0 0 13 * */5", ["02-13", "03-13", "09-13", "11-13"]),
        ("0 0 L * MON", ["01-05", "01-12", "01-19", "01-26", "01-31"]),
    ],
)
def test_days_of_month_and_week_follow_crontab_5(expression: str, days: list[str]) -> None:
    assert [f"{day:%m-%d}" for day in days_of(expression, 2026)][: len(days)] == days


def test_leap_days_and_centuries() -> None:
    assert first("0 0 29 2 *", 2, datetime(2096, 3, 1, tzinfo=UTC)) == ["04-02-29 00:00:00", "08-02-29 00:00:00"]
    sundays = first("0 0 29 2 */7", 5, datetime(2000, 1, 1, tzinfo=UTC))
    assert [sunday[:2] for sunday in sundays] == ["04", "32", "60", "88", "28"]


# --- against other readings -------------------------------------------------------------------------------------------


def numbers(low: int, high: int) -> st.SearchStrategy[str]:
    one = st.integers(low, high).map(str)
    span = st.one_of(st.just("*"), one, st.tuples(one, one).map("-".join))
    step = st.integers(1, high - low + 1).map(str)
    return st.lists(st.one_of(span, st.tuples(span, step).map("/".join)), min_size=1, max_size=4).map(",".join)


@pytest.mark.slow
@given(second=numbers(0, 59), minute=numbers(0, 59), hour=numbers(0, 23), month=numbers(1, 12))
def test_any_field_is_read_as_a_plain_walk_would(second: str, minute: str, hour: str, month: str) -> None:
    pattern = parse(f"{second} {minute} {hour} 1 {month} * *")
    assert set(pattern.seconds) == field(second, 0, 59)
    assert set(pattern.minutes) == field(minute, 0, 59)
    assert set(pattern.hours) == field(hour, 0, 23)
    assert set(pattern.months) == field(month, 1, 12)


_weekday = st.one_of(st.integers(0, 7).map(str), st.sampled_from(["SUN", "TUE", "FRI", "SAT"]))
_in_month = st.one_of(numbers(1, 31), st.sampled_from(["L", "LW", "?"]), st.integers(1, 31).map("{}W".format))
_in_week = st.one_of(
    _weekday,
    st.tuples(_weekday, _weekday).map("-".join),
    st.tuples(_weekday, _weekday, st.integers(1, 7)).map(lambda parts: "{}-{}/{}".format(*parts)),
    st.tuples(_weekday, st.integers(1, 5)).map(lambda pair: f"{pair[0]}#{pair[1]}"),
    _weekday.map("{}L".format),
    _weekday.map("L{}".format),
    st.integers(1, 7).map("*/{}".format),
    st.sampled_from(["*", "?"]),
)


@pytest.mark.slow
@given(
    in_month=st.lists(_in_month, min_size=1, max_size=3).map(",".join),
    in_week=st.lists(_in_week, min_size=1, max_size=3).map(",".join),
    month=st.one_of(st.just("*"), numbers(1, 12)),
    year=st.integers(1970, 2120),
)
def test_any_days_are_those_of_a_plain_calendar(in_month: str, in_week: str, month: str, year: int) -> None:
    expression = f"0 0 {in_month} {month} {in_week}"
    every_day = (date(year, 1, 1) + number * DAY for number in range(366))
    expected = [day for day in every_day if day.year == year and is_day(expression, day)]
    if expected:
        assert days_of(expression, year) == expected
    else:
        with suppress(InvalidCronError):  # never, in any year
            assert days_of(expression, year) == []


_shared_days = st.sampled_from(
    ["* * *", "*/3 * *", "1,15 * *", "L 2 *", "LW * *", "* 2-11/3 MON", "* * FRI#3", "13 * 5"]
)


@given(
    minute=numbers(0, 59),
    hour=numbers(0, 23),
    days=_shared_days,
    now=st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1)),
)
def test_another_library_agrees_where_both_know_the_syntax(minute: str, hour: str, days: str, now: datetime) -> None:
    minute, hour = (",".join(map(str, sorted(field(text, 0, high)))) for text, high in ((minute, 59), (hour, 23)))
    expression = f"{minute} {hour} {days}"
    now = now.replace(tzinfo=UTC)
    assert list(islice(runs(create_crontab(expression), now, UTC), 5)) == list(islice(CronSim(expression, now), 5))


# --- the parser -------------------------------------------------------------------------------------------------------


def test_the_parser_is_what_the_app_asks_for() -> None:
    assert isinstance(create_crontab("* * * * *"), CronParser)
    assert not isinstance(object(), CronParser)


def test_the_answer_is_strictly_later_and_in_the_same_zone() -> None:
    zone = ZoneInfo("Asia/Tokyo")
    on_time = datetime(2026, 1, 1, 9, 30, tzinfo=zone)
    parser = create_crontab("30 9 * * *")
    assert parser.next_run(now=on_time) == on_time + timedelta(days=1)
    just_before = parser.next_run(now=on_time - timedelta(microseconds=1))
    assert just_before == on_time
    assert just_before.tzinfo is zone


def test_a_naive_time_gets_a_naive_answer() -> None:
    assert create_crontab("0 12 * * *").next_run(now=datetime(2026, 3, 29, 1)) == datetime(2026, 3, 29, 12)


@pytest.mark.promise("b10")
def test_an_expression_whose_years_are_over_has_no_next_run() -> None:
    parser = create_crontab("0 12 1 1 * 2026")
    last = parser.next_run(now=START)
    assert last == datetime(2026, 1, 1, 12, tzinfo=UTC)
    assert parser.next_run(now=last) is None
    assert create_crontab("0 0 1 1 * 2020").next_run(now=START) is None


def test_the_calendar_ends_with_the_year_9999() -> None:
    assert create_crontab("0 0 1 1 *").next_run(now=datetime(9999, 6, 1, tzinfo=UTC)) is None


def test_equal_text_is_an_equal_parser_that_can_be_shared() -> None:
    parser = create_crontab("*/5 * * * *")
    assert parser == create_crontab("*/5 * * * *")
    assert hash(parser) == hash(create_crontab("*/5 * * * *"))
    assert repr(parser) == "Crontab(expression='*/5 * * * *')"
    with pytest.raises(AttributeError):
        parser.expression = "* * * * *"  # type: ignore[misc]


# --- errors -----------------------------------------------------------------------------------------------------------

REFUSED = [
    # expression, field, a word of the hint
    ("60 * * * *", "minute", "0-59"),
    ("* 24 * * *", "hour", "midnight is hour 0"),
    ("* * 0 * *", "day of month", "1-31"),
    ("* * 32 * *", "day of month", "the last day of every month is L"),
    ("* * * 13 *", "month", "1-12"),
    ("* * * 0 *", "month", "January is 1"),
    ("* * * * 8", "day of week", "Sunday is 0 or 7"),
    ("* * * * * 1969", "year", "1970"),
    ("* * * * * 10000", "year", "9999"),
    ("60 * * * * * *", "second", "0-59"),
    ("*/5 9 * * * MON", "year", "seconds come first of seven"),
    ("* * * * * 2030-2026", "year", "backwards"),
    ("a * * * *", "minute", "'A' is not a value"),
    ("-5 * * * *", "minute", "'-5'"),
    ("5- * * * *", "minute", "'5-'"),
    ("1-2-3 * * * *", "minute", "'2-3'"),
    ("1.5 * * * *", "minute", "'1.5'"),
    ("*5 * * * *", "minute", "'*5'"),
    ("*-5 * * * *", "minute", "'*'"),
    ("١ * * * *", "minute", "not a value"),
    ("9999999999999999999999 * * * *", "minute", "not a value"),
    ("1,,2 * * * *", "minute", "missing"),
    (",1 * * * *", "minute", "missing"),
    ("/5 * * * *", "minute", "missing"),
    ("*/0 * * * *", "minute", "'*/0'"),
    ("*/ * * * *", "minute", "*/5"),
    ("*/x * * * *", "minute", "*/5"),
    ("*/5/2 * * * *", "minute", "'*/5/2'"),
    ("*/90 * * * *", "minute", "use the next field"),
    ("? * * * *", "minute", "write '*'"),
    ("* JAN * * *", "hour", "'JAN'"),
    ("* * W * *", "day of month", "'W'"),
    ("* * 32W * *", "day of month", "1-31"),
    ("* * L-3 * *", "day of month", "'L'"),
    ("* * L/2 * *", "day of month", "'L'"),
    ("* * FRI * *", "day of month", "'FRI'"),
    ("* * * JANUARY *", "month", "write JAN"),
    ("* * * * MONDAY", "day of week", "write MON"),
    ("* * * * L", "day of week", "5L"),
    ("* * * * L8", "day of week", "0-7"),
    ("* * * * LL", "day of week", "not a value"),
    ("* * * * 5#6", "day of week", "FRI#2"),
    ("* * * * 5#0", "day of week", "FRI#2"),
    ("* * * * 5#", "day of week", "FRI#2"),
    ("* * * * #2", "day of week", "missing"),
    ("* * * * MON-FRI#2", "day of week", "MON-FRI"),
    ("* * * * 5#2/2", "day of week", "FRI#2"),
    ("* * * * XYZ", "day of week", "SUN, MON"),
    ("* * * *", None, "4 fields"),
    ("* * * * * * * *", None, "8 fields"),
    ("", None, "0 fields"),
    ("hello", None, "it has 1 field. "),
    ("@dayly", None, "'@daily'"),
    ("@never", None, "Did you mean"),
    ("@reboot", None, "lifespan"),
    ("@daily @hourly", None, "Did you mean"),
]


@pytest.mark.promise("rule-15")
@pytest.mark.parametrize(("expression", "field_name", "hint"), REFUSED)
def test_what_is_malformed_is_refused_with_the_field_and_a_hint(
    expression: str, field_name: str | None, hint: str
) -> None:
    with pytest.raises(InvalidCronError) as caught:
        create_crontab(expression)
    assert caught.value.field == field_name
    assert caught.value.expression == expression
    assert hint in str(caught.value)
    assert field_name is None or field_name in str(caught.value)
    assert str(caught.value).endswith((".", "?"))


@pytest.mark.promise("b43")
@pytest.mark.parametrize(
    "expression",
    ["0 0 30 2 *", "0 0 31 4,6,9,11 *", "0 0 31W 2 *", "0 0 30,31 2 ?", "0 0 29 2 * 2026,2027", "0 0 29 2 * 2100"],
)
def test_what_can_never_come_is_refused_as_a_value_error_that_names_the_field(expression: str) -> None:
    with pytest.raises(ValueError, match="day of month") as caught:
        create_crontab(expression)
    assert isinstance(caught.value, ConfigurationError)
    assert "never" in str(caught.value)


@pytest.mark.parametrize("expression", ["0 0 30 2 MON", "0 0 29 2 *", "0 0 31 */2 *", "0 0 29 2 */6", "0 0 L 2 *"])
def test_what_comes_seldom_is_not_refused(expression: str) -> None:
    assert create_crontab(expression).next_run(now=START) is not None


@pytest.mark.parametrize("expression", [None, 5, b"* * * * *", ["* * * * *"]])
def test_what_is_not_text_is_refused(expression: object) -> None:
    with pytest.raises(InvalidCronError, match="not text"):
        create_crontab(expression)  # type: ignore[arg-type]


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(InvalidCronError):
        assert create_crontab(text).expression == text


@given(st.lists(st.text("0123456789*,-/?LW#@MONJAN", min_size=1, max_size=6), min_size=5, max_size=7).map(" ".join))
def test_any_text_that_looks_like_cron_is_read_or_refused(text: str) -> None:
    with suppress(InvalidCronError):
        found = create_crontab(text).next_run(now=START)
        assert found is None or found > START
