"""Parsing one field of a cron expression, from its text to its numbers, and a whole expression.

The grammar, in every field::

    field := item { "," item }
    item  := span [ "/" step ]
    span  := "*" | number | number "-" number        a range may wrap around: 22-4, FRI-MON

Day of month also knows ``L``, ``LW`` and ``15W``; day of week ``5#2``, ``5L`` and ``L5``; both take ``?`` for ``*``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from jobify.crontab.pattern import DaysOfMonth, DaysOfWeek, Pattern, bits
from jobify.exceptions import InvalidCronError

__all__ = (
    "ALIASES",
    "DAY_OF_MONTH",
    "DAY_OF_WEEK",
    "HOUR",
    "MINUTE",
    "MONTH",
    "SECOND",
    "YEAR",
    "Field",
    "FieldError",
    "days_of_month",
    "days_of_week",
    "is_open",
    "numbers",
    "parse",
)


class FieldError(Exception):
    """A field that cannot be parsed; the text says what is wrong and what to write instead."""

    def __init__(self, where: Field, reason: str) -> None:
        self.field = where.name
        self.reason = reason
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class Field:
    """The values of a field: numbers from ``first`` to ``last``, and ``names`` for them.

    ``highest`` is the greatest number that may be written: 7 for the day of the week, where it means 0.
    """

    name: str
    first: int
    last: int
    names: Mapping[str, int] = field(default_factory=dict)
    highest: int = -1
    hint: str = ""
    wraps: bool = True

    @property
    def size(self) -> int:
        return self.last - self.first + 1


def _named(names: str, *, first: int) -> dict[str, int]:
    return {name: number for number, name in enumerate(names.split(), first)}


SECOND: Final = Field("second", 0, 59, hint="60 seconds later is second 0 of the next minute")
MINUTE: Final = Field("minute", 0, 59, hint="the full hour is minute 0")
HOUR: Final = Field("hour", 0, 23, hint="midnight is hour 0")
DAY_OF_MONTH: Final = Field("day of month", 1, 31, hint="the last day of every month is L")
MONTH: Final = Field(
    "month", 1, 12, _named("JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC", first=1), hint="January is 1"
)
DAY_OF_WEEK: Final = Field(
    "day of week", 0, 6, _named("SUN MON TUE WED THU FRI SAT", first=0), highest=7, hint="Sunday is 0 or 7"
)
YEAR: Final = Field(
    "year", 1970, 9999, hint="with six fields the last one is the year; seconds come first of seven", wraps=False
)


def is_open(text: str) -> bool:
    """Whether the field counts as unrestricted: by crontab(5), any that starts with a star, also ``*/2``."""
    return text.startswith(("*", "?"))


def numbers(where: Field, text: str) -> tuple[int, ...]:
    """The sorted numbers of a field without special days."""
    return tuple(sorted({number for item in text.split(",") for number in _item(where, item)}))


def days_of_month(text: str) -> DaysOfMonth:
    """Parse the day-of-month field."""
    plain: list[int] = []
    nearest: list[int] = []
    items = text.split(",")
    for item in items:
        if item.endswith("W") and item not in ("LW", "W"):
            nearest.append(_number(DAY_OF_MONTH, item[:-1]))
        elif item not in ("L", "LW"):
            plain.extend(_day_item(DAY_OF_MONTH, item))
    return DaysOfMonth(bits(plain), last="L" in items, last_working_day="LW" in items, nearest=tuple(nearest))


def days_of_week(text: str) -> DaysOfWeek:
    """Parse the day-of-week field."""
    plain: list[int] = []
    nth: list[tuple[int, int]] = []
    last: list[int] = []
    for item in text.split(","):
        if "#" in item:
            nth.append(_nth(item))
        elif item != "L" and (item.startswith("L") or item.endswith("L")):
            last.append(_weekday(item.removeprefix("L") if item.startswith("L") else item[:-1]))
        else:
            plain.extend(_day_item(DAY_OF_WEEK, item))
    return DaysOfWeek.of(plain, nth, last)


def _nth(item: str) -> tuple[int, int]:
    weekday, _, number = item.partition("#")
    if number not in ("1", "2", "3", "4", "5"):
        raise FieldError(DAY_OF_WEEK, f"{item!r} asks for week {number!r} of the month: write 1 to 5, as in FRI#2")
    return _weekday(weekday), int(number)


def _weekday(text: str) -> int:
    return _number(DAY_OF_WEEK, text) % 7


def _day_item(where: Field, item: str) -> Sequence[int]:
    if item == "?":
        return range(where.first, where.last + 1)
    if item == "L":
        raise FieldError(where, "'L' needs a day here, as in 5L or FRIL: the last Friday of the month")
    return _item(where, item)


def _item(where: Field, item: str) -> Sequence[int]:
    span, slash, step = item.partition("/")
    found = _span(where, span, is_stepped=bool(slash))
    if slash:
        found = found[:: _step(where, item, step)]
    return [where.first if number > where.last else number for number in found]


def _span(where: Field, span: str, *, is_stepped: bool) -> Sequence[int]:
    if span == "*":
        return range(where.first, where.last + 1)
    start, dash, end = span.partition("-")
    if dash and start and end:
        return _between(where, _number(where, start), _number(where, end))
    number = _number(where, span)
    if not is_stepped:
        return (number,)
    return range(where.first if number > where.last else number, where.last + 1)


def _between(where: Field, start: int, end: int) -> Sequence[int]:
    if start <= end:
        return range(start, end + 1)
    if not where.wraps:
        raise FieldError(where, f"the range {start}-{end} runs backwards; write the smaller number first")
    return [*range(start, where.last + 1), *range(where.first, end + 1)]


def _step(where: Field, item: str, step: str) -> int:
    if not _is_number(step) or int(step) == 0:
        raise FieldError(where, f"the step in {item!r} is not a number from 1; write it like */5")
    if int(step) > where.size:
        raise FieldError(
            where,
            f"the step in {item!r} is longer than the field, which counts {where.size} and starts again; "
            "for a longer interval use the next field, as in '0 */2' for two hours",
        )
    return int(step)


def _number(where: Field, text: str) -> int:
    if text in where.names:
        return where.names[text]
    if not _is_number(text):
        raise FieldError(where, _unreadable(where, text))
    highest = max(where.last, where.highest)
    if not where.first <= int(text) <= highest:
        raise FieldError(where, f"{text} is outside {where.first}-{highest}; {where.hint}")
    return int(text)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 9


def _unreadable(where: Field, text: str) -> str:
    if not text:
        return "something is missing between the commas, or around '-' or '/'"
    if text[:3] in where.names:
        return f"{text!r} is not known; write {text[:3]}"
    if text == "?":
        return "'?' is for the two day fields; write '*'"
    allowed = f"numbers from {where.first} to {where.last}" + (f" or {', '.join(where.names)}" if where.names else "")
    return f"{text!r} is not a value of this field, which takes {allowed}; {where.hint}"


# -- expression --------------------------------------------------------------------------------------------------------
# Parsing a whole cron expression: splits and parses its fields, and refuses one that never matches.

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
