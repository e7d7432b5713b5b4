"""Parsing a whole cron expression: splits and parses its fields, and refuses one that never matches."""

from __future__ import annotations

from typing import Final

from jobify.crontab.fields import (
    HOUR,
    MINUTE,
    MONTH,
    SECOND,
    YEAR,
    FieldError,
    days_of_month,
    days_of_week,
    is_open,
    numbers,
)
from jobify.crontab.pattern import Pattern
from jobify.exceptions import InvalidCronError

__all__ = ("ALIASES", "parse", "split")

ALIASES: Final = {
    "@YEARLY": "0 0 1 1 *",
    "@ANNUALLY": "0 0 1 1 *",
    "@MONTHLY": "0 0 1 * *",
    "@WEEKLY": "0 0 * * 0",
    "@DAILY": "0 0 * * *",
    "@MIDNIGHT": "0 0 * * *",
    "@HOURLY": "0 * * * *",
}


def split(expression: str) -> tuple[str, ...]:
    """The seven fields of ``expression``, in capitals: second, minute, hour, day, month, weekday, year.

    >>> split("*/5 9 * * mon-fri")
    ('0', '*/5', '9', '*', '*', 'MON-FRI', '*')
    """
    text = expression.strip().upper()
    fields = ALIASES.get(text, text).split()
    if text.startswith("@") and text not in ALIASES:
        raise InvalidCronError(expression, _unknown_alias(text))
    if not 5 <= len(fields) <= 7:
        raise InvalidCronError(
            expression,
            f"it has {len(fields)} field{'' if len(fields) == 1 else 's'}. Write 5 (minute hour day-of-month month "
            "day-of-week), 6 (and a year at the end) or 7 (seconds in front, a year at the end).",
        )
    if len(fields) == 5:
        fields.append("*")
    if len(fields) == 6:
        fields.insert(0, "0")
    return tuple(fields)


def parse(expression: str) -> Pattern:
    """Parse ``expression``.

    Raises:
        InvalidCronError: it is malformed, or no day of the calendar can ever match it.
    """
    try:
        pattern = _read(*split(expression))
    except FieldError as error:
        raise InvalidCronError(expression, f"{error.reason}.", field=error.field) from None
    if not pattern.is_possible():
        raise InvalidCronError(
            expression,
            "the calendar has no such day, so it would never run. Check day and month.",
            field="day of month",
        )
    return pattern


def _read(second: str, minute: str, hour: str, day: str, month: str, weekday: str, year: str) -> Pattern:
    return Pattern(
        seconds=numbers(SECOND, second),
        minutes=numbers(MINUTE, minute),
        hours=numbers(HOUR, hour),
        days_of_month=days_of_month(day),
        months=numbers(MONTH, month),
        days_of_week=days_of_week(weekday),
        years=None if year == "*" else numbers(YEAR, year),
        either_day=not is_open(day) and not is_open(weekday),
        wildcard_time=is_open(minute) or is_open(hour),
    )


def _unknown_alias(text: str) -> str:
    if text == "@REBOOT":
        return "a start of the app is not a time. Use the app's lifespan for what runs once at each start."
    from difflib import get_close_matches  # of no use where nothing is misspelt

    near = get_close_matches(text, ALIASES, n=1) or ["@DAILY"]
    return f"there is no such alias. Did you mean {near[0].lower()!r}?"
