"""The rule itself: its checks, its stored form, its first run; and parsers that a user brings."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobify.crontab import CronParser, create_crontab
from jobify.exceptions import ConfigurationError, InvalidCronError, PayloadError
from jobify.model.clock import from_datetime
from jobify.model.cron import (
    INFINITY,
    Cron,
    CronContext,
    as_cron,
    due_times,
    first_due,
    parse_cron,
    rule_from_json,
    rule_to_json,
)
from jobify.model.misfire import GracePolicy, MisfirePolicy

BERLIN = ZoneInfo("Europe/Berlin")
NOW = from_datetime(datetime(2026, 6, 1, 12, tzinfo=UTC), zone=UTC)


def test_the_defaults() -> None:
    cron = Cron("* * * * *")
    assert (cron.max_runs, cron.max_failures, cron.misfire_policy, cron.start_date, cron.args, cron.kwargs) == (
        INFINITY,
        10,
        MisfirePolicy.ONCE,
        None,
        (),
        {},
    )


def test_only_the_expression_is_positional() -> None:
    with pytest.raises(TypeError):
        Cron("* * * * *", 5)  # type: ignore[call-arg]


def test_the_published_example() -> None:
    cron = Cron(
        "0 18 * * 1-5",
        max_runs=100,
        max_failures=5,
        misfire_policy=MisfirePolicy.ALL,
        start_date=datetime(2027, 1, 1),
    )
    assert cron.start_date == datetime(2027, 1, 1)


def test_equal_rules_are_equal_and_rules_can_be_sorted() -> None:
    assert Cron("* * * * *", args=(1,), kwargs={"a": 2}) == Cron("* * * * *", args=(1,), kwargs={"a": 2})
    assert Cron("* * * * *") != Cron("* * * * *", max_runs=3)
    assert sorted([Cron("2 * * * *"), Cron("1 * * * *"), Cron("1 * * * *", max_runs=2)]) == [
        Cron("1 * * * *"),
        Cron("1 * * * *", max_runs=2),
        Cron("2 * * * *"),
    ]


def test_what_is_handed_in_is_brought_into_form() -> None:
    names = {"a": 1}
    cron = Cron("* * * * *", misfire_policy="skip", args=[1, 2], kwargs=names)  # type: ignore[arg-type]
    names["b"] = 2
    assert cron.misfire_policy is MisfirePolicy.SKIP
    assert cron.args == (1, 2)
    assert cron.kwargs == {"a": 1}
    with pytest.raises(AttributeError):
        cron.max_runs = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ({"max_failures": 0}, "1 stops at the first failure"),
        ({"max_failures": -1}, "max_failures=-1"),
        ({"max_failures": True}, "max_failures=True"),
        ({"max_failures": 1.5}, "whole number"),
        ({"max_runs": 0}, "-1 for no limit"),
        ({"max_runs": -2}, "-1 for no limit"),
        ({"max_runs": float("inf")}, "-1 for no limit"),
        ({"max_runs": True}, "whole number"),
        ({"max_runs": None}, "whole number"),
        ({"misfire_policy": "never"}, r"\.SKIP"),
        ({"misfire_policy": timedelta(1)}, r"\.GRACE"),
        ({"misfire_policy": None}, r"\.ONCE"),
        ({"start_date": "2027-01-01"}, "write a datetime"),
        ({"start_date": date(2027, 1, 1)}, "write a datetime"),
        ({"args": "abc"}, "a comma"),
        ({"args": 5}, "a comma"),
        ({"kwargs": [("a", 1)]}, "a dict"),
        ({"kwargs": {1: 2}}, "a dict"),
    ],
)
def test_what_cannot_be_is_refused_where_it_is_written(options: dict[str, Any], hint: str) -> None:
    with pytest.raises(ConfigurationError, match=hint) as caught:
        Cron("* * * * *", **options)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("expression", ["", "  ", None, 5])
def test_a_rule_needs_an_expression(expression: Any) -> None:
    with pytest.raises(InvalidCronError):
        Cron(expression)


def test_the_option_is_an_expression_or_a_rule() -> None:
    cron = Cron("* * * * *", max_runs=1)
    assert as_cron(cron) is cron
    assert as_cron("* * * * *") == Cron("* * * * *")


# --- parsers ----------------------------------------------------------------------------------------------------------


class Answer:
    """A user's parser that always answers the same, or raises it."""

    def __init__(self, answer: datetime | BaseException | None) -> None:
        self.answer = answer

    def next_run(self, *, now: datetime) -> datetime | None:
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


def test_the_apps_factory_reads_the_expression() -> None:
    parser = Answer(None)
    assert parse_cron("every full moon", lambda expression: parser) is parser
    assert isinstance(parse_cron(Cron("* * * * *"), create_crontab), CronParser)


@pytest.mark.promise("b43")
def test_a_bad_expression_fails_where_it_is_written() -> None:
    with pytest.raises(InvalidCronError) as caught:
        parse_cron("0 0 30 2 *", create_crontab)
    assert caught.value.field == "day of month"


@pytest.mark.parametrize("error", [ValueError("no such day"), KeyError("MOON"), TypeError("NoneType")])
def test_whatever_a_factory_raises_is_an_invalid_cron_error(error: Exception) -> None:
    def refuse(expression: str) -> CronParser:
        raise error

    with pytest.raises(InvalidCronError, match="cron_factory refused") as caught:
        parse_cron("whenever", refuse)
    assert caught.value.__cause__ is error


def test_a_factory_must_make_parsers() -> None:
    with pytest.raises(InvalidCronError, match="next_run"):
        parse_cron("* * * * *", lambda expression: object())  # type: ignore[arg-type,return-value]


def test_due_times_are_asked_in_the_apps_zone() -> None:
    nine = due_times(create_crontab("0 9 * * *"), BERLIN)
    assert nine(NOW) == from_datetime(datetime(2026, 6, 2, 7, tzinfo=UTC), zone=UTC)


def test_a_naive_answer_is_read_in_the_apps_zone() -> None:
    later = due_times(Answer(datetime(2026, 6, 2, 9)), BERLIN)
    assert later(NOW) == from_datetime(datetime(2026, 6, 2, 7, tzinfo=UTC), zone=UTC)


@pytest.mark.parametrize("answer", [None, StopIteration(), ValueError("none"), OverflowError("year 10000")])
def test_a_parser_may_say_in_many_ways_that_nothing_follows(
    answer: BaseException | None, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert due_times(Answer(answer), UTC)(NOW) is None
    assert len(caplog.records) == isinstance(answer, ValueError | OverflowError)


def test_a_broken_parser_is_not_taken_for_the_end() -> None:
    with pytest.raises(ZeroDivisionError):
        due_times(Answer(ZeroDivisionError()), UTC)(NOW)


@pytest.mark.parametrize("seconds", [0, -1])
def test_an_answer_that_is_not_later_is_refused(seconds: int) -> None:
    answer = datetime(2026, 6, 1, 12, tzinfo=UTC) + timedelta(seconds=seconds)
    with pytest.raises(ConfigurationError, match="not after"):
        due_times(Answer(answer), UTC)(NOW)


# --- the first run ----------------------------------------------------------------------------------------------------


@pytest.mark.promise("b14")
@pytest.mark.parametrize(
    ("start", "expected"),
    [
        (None, datetime(2026, 6, 2, 7, tzinfo=UTC)),
        (datetime(2027, 1, 1), datetime(2026, 12, 31, 23, tzinfo=UTC)),  # naive: midnight in Berlin
        (datetime(2027, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)),
        (datetime(2026, 6, 1, 12, 0, 0, 1, tzinfo=UTC), datetime(2026, 6, 1, 12, 0, 0, 1, tzinfo=UTC)),
        (datetime(2026, 6, 1, 12, tzinfo=UTC), datetime(2026, 6, 1, 12, tzinfo=UTC)),
        (datetime(2026, 6, 1, 11, 59, tzinfo=UTC), datetime(2026, 6, 2, 7, tzinfo=UTC)),  # past: the next match
    ],
)
def test_the_first_run_is_at_the_start_date_or_else_by_the_expression(
    start: datetime | None, expected: datetime
) -> None:
    cron = Cron("0 9 * * *", start_date=start)
    due = first_due(cron, now=NOW, zone=BERLIN, next_due=due_times(create_crontab(cron.expression), BERLIN))
    assert due == from_datetime(expected, zone=UTC)


def test_there_may_be_no_first_run() -> None:
    cron = Cron("0 0 1 1 * 2020")
    assert first_due(cron, now=NOW, zone=UTC, next_due=due_times(create_crontab(cron.expression), UTC)) is None


# --- the stored rule --------------------------------------------------------------------------------------------------

_dates = st.datetimes(datetime(1990, 1, 1), datetime(2100, 1, 1))
rules = st.builds(
    Cron,
    st.sampled_from(["* * * * *", "0 9 * * MON-FRI", "@daily"]),
    max_runs=st.one_of(st.just(INFINITY), st.integers(1, 10**6)),
    max_failures=st.integers(1, 1000),
    misfire_policy=st.one_of(
        st.sampled_from(MisfirePolicy), st.timedeltas(min_value=timedelta(), max_value=timedelta(999)).map(GracePolicy)
    ),
    start_date=st.none() | _dates | _dates.map(lambda naive: naive.replace(tzinfo=BERLIN)),
)


@given(rules)
def test_a_stored_rule_is_the_same_rule(cron: Cron) -> None:
    text = rule_to_json(cron, "Europe/Berlin")
    found = rule_from_json(text)
    assert rule_to_json(found, "Europe/Berlin") == text
    assert (found.expression, found.max_runs, found.max_failures) == (cron.expression, cron.max_runs, cron.max_failures)
    assert found.misfire_policy == cron.misfire_policy
    assert type(found.misfire_policy) is type(cron.misfire_policy)


def test_a_stored_start_date_is_a_point_in_time_in_the_zone() -> None:
    text = rule_to_json(Cron("* * * * *", start_date=datetime(2027, 1, 1)), "Europe/Berlin")
    assert json.loads(text)["start_date"] == from_datetime(datetime(2026, 12, 31, 23, tzinfo=UTC), zone=UTC)
    start = rule_from_json(text).start_date
    assert start is not None
    assert start.isoformat() == "2027-01-01T00:00:00+01:00"
    assert start.tzinfo is BERLIN


def test_the_text_tells_whether_a_rule_was_changed() -> None:
    texts = {
        rule_to_json(cron, zone)
        for zone in ("UTC", "Europe/Berlin")
        for cron in (
            Cron("* * * * *"),
            Cron("*/2 * * * *"),
            Cron("* * * * *", max_runs=1),
            Cron("* * * * *", max_failures=1),
            Cron("* * * * *", misfire_policy=MisfirePolicy.ALL),
            Cron("* * * * *", misfire_policy=MisfirePolicy.GRACE(timedelta(seconds=1))),
            Cron("* * * * *", misfire_policy=MisfirePolicy.GRACE(timedelta(seconds=2))),
            Cron("* * * * *", start_date=datetime(2027, 1, 1)),
        )
    }
    assert len(texts) == 16
    assert rule_to_json(Cron("* * * * *", args=(1,), kwargs={"a": 1}), "UTC") in texts


@pytest.mark.promise("b33")
@pytest.mark.parametrize(
    "damage",
    [
        lambda rule: "{",
        lambda rule: "[1]",
        lambda rule: "{}",
        lambda rule: json.dumps({**rule, "max_runs": "x"}),
        lambda rule: json.dumps({**rule, "misfire_policy": "sometimes"}),
        lambda rule: json.dumps({**rule, "misfire_policy": "grace"}),
        lambda rule: json.dumps({**rule, "start_date": 10**30}),
        lambda rule: json.dumps({**rule, "start_date": 0, "zone": "Mars/Olympus"}),
    ],
)
def test_a_stored_rule_that_is_damaged_is_a_payload_error(damage: Callable[[dict[str, Any]], str]) -> None:
    text = damage(json.loads(rule_to_json(Cron("* * * * *"), "UTC")))
    with pytest.raises(PayloadError):
        rule_from_json(text)


# --- the context ------------------------------------------------------------------------------------------------------


def context(cron: Cron, **counts: int) -> CronContext[int]:
    parser, offset = create_crontab(cron.expression), datetime(2026, 1, 1, tzinfo=UTC)
    return CronContext(
        cron=cron, cron_parser=parser, job=SimpleNamespace(), offset=offset, **{"run_count": 0, **counts}
    )


def test_a_context_shows_what_it_was_given() -> None:
    cron, job, offset = Cron("* * * * *"), SimpleNamespace(), datetime(2026, 1, 1, tzinfo=UTC)
    parser = create_crontab(cron.expression)
    made = CronContext[int](cron=cron, cron_parser=parser, job=job, offset=offset, run_count=3)
    assert (made.cron, made.cron_parser, made.job, made.offset) == (cron, parser, job, offset)
    assert (made.run_count, made.failure_count) == (3, 0)
    made.run_count += 1
    assert made.run_count == 4


@pytest.mark.parametrize(("failures", "allowed"), [(0, True), (2, True), (3, False), (4, False)])
def test_failures_are_allowed_up_to_the_limit(failures: int, allowed: bool) -> None:
    assert context(Cron("* * * * *", max_failures=3), failure_count=failures).is_failure_allowed_by_limit() is allowed


@pytest.mark.parametrize(
    ("max_runs", "runs", "exceeded"), [(INFINITY, 10**9, False), (2, 1, False), (2, 2, True), (2, 3, True)]
)
def test_runs_are_used_up_at_the_limit(max_runs: int, runs: int, exceeded: bool) -> None:
    assert context(Cron("* * * * *", max_runs=max_runs), run_count=runs).is_run_exceeded_by_limit() is exceeded
