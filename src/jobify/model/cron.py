"""Cron rules: the user's ``Cron``, its stored form, and its first due time.

What the expression means is :mod:`jobify.crontab`'s, what becomes of missed due times :mod:`jobify.model.misfire`'s.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, tzinfo
from functools import partial
from typing import Any, Final, Generic, TypeVar

from jobify.crontab import CronFactory, CronParser, create_crontab
from jobify.exceptions import ConfigurationError, InvalidCronError, PayloadError
from jobify.model.clock import from_datetime, to_datetime
from jobify.model.misfire import GracePolicy, MisfirePolicy, NextDue
from jobify.model.public_status import public_status
from jobify.model.records import JobRecord
from jobify.model.zones import zone_named
from jobify.runtime.logs import get_logger
from jobify.types import Microseconds

__all__ = (
    "INFINITY",
    "Cron",
    "CronContext",
    "as_cron",
    "due_times",
    "first_due",
    "have_same_rule",
    "have_same_start",
    "have_same_times",
    "is_paused",
    "is_stopped",
    "is_used_up",
    "parse_cron",
    "parser_name",
    "rule_as_written",
    "rule_from_json",
    "rule_to_json",
    "zone_of_rule",
)

ReturnT = TypeVar("ReturnT")

INFINITY: Final = -1
"""``max_runs`` of a job without a limit."""

_logger = get_logger("jobify.cron")
_MICROSECOND: Final = timedelta(microseconds=1)
_OUR_PARSER: Final = "jobify:create_crontab"
"""The name of the default parser. No function has this name, because of the colon."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Cron:
    """A rule for a job that runs repeatedly.

    ``expression``
        See :mod:`jobify.crontab`. The app's ``cron_factory`` parses it where the rule is used, not here. A stored rule
        names its zone and its parser, which every process that runs it uses.
    ``max_runs``
        The schedule ends after this number of runs; -1 is no limit.
    ``max_failures``
        The schedule is stopped as PERMANENTLY_FAILED after this number of failed runs in a row; 1 stops at the first.
        ``app.resume_schedule()`` revives it, and so does a start with another rule or with other code of its task.
    ``misfire_policy``
        Which missed due times still run; see :mod:`jobify.model.misfire`.
    ``start_date``
        The time of the first run, if it is in the future; later runs follow the expression. A naive one is read in the
        app's zone.
    ``args``, ``kwargs``
        The arguments of a task that is declared with this rule.

    Two equal rules mean an unchanged schedule.

    >>> Cron("0 18 * * 1-5", max_runs=100, misfire_policy=MisfirePolicy.ALL).max_failures
    10

    Raises:
        ConfigurationError: (a ValueError) a limit, the policy or the date is invalid.
    """

    expression: str = field(kw_only=False)
    max_runs: int = INFINITY
    max_failures: int = 10
    misfire_policy: MisfirePolicy | GracePolicy = MisfirePolicy.ONCE
    start_date: datetime | None = None
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_expression(self.expression)
        if not _is_int(self.max_runs) or (self.max_runs < 1 and self.max_runs != INFINITY):
            raise ConfigurationError(
                f"Cron(max_runs={self.max_runs!r}): write a whole number from 1, or -1 for no limit."
            )
        if not _is_int(self.max_failures) or self.max_failures < 1:
            raise ConfigurationError(
                f"Cron(max_failures={self.max_failures!r}): write a whole number from 1; 1 stops at the first failure."
            )
        _check_start(self.start_date)
        object.__setattr__(self, "misfire_policy", _policy(self.misfire_policy))
        object.__setattr__(self, "args", _arguments(self.args))
        object.__setattr__(self, "kwargs", _keyword_arguments(self.kwargs))


class CronContext(Generic[ReturnT]):
    """The schedule of a cron job's handle.

    ``cron`` is the rule and ``cron_parser`` its parsed expression; ``run_count`` counts the runs so far and
    ``failure_count`` the failures since the last success; ``offset`` is the time after which the next run is due.
    ``job`` is the handle; its type is Any because its class belongs to a higher layer.
    """

    __slots__ = ("cron", "cron_parser", "failure_count", "job", "offset", "run_count")

    def __init__(
        self,
        *,
        cron: Cron,
        cron_parser: CronParser,
        failure_count: int = 0,
        job: Any,
        offset: datetime,
        run_count: int,
    ) -> None:
        self.cron = cron
        self.cron_parser = cron_parser
        self.failure_count = failure_count
        self.job = job
        self.offset = offset
        self.run_count = run_count

    def is_failure_allowed_by_limit(self) -> bool:
        """Whether the failures in a row so far allow another run."""
        return self.failure_count < self.cron.max_failures

    def is_run_exceeded_by_limit(self) -> bool:
        """Whether ``max_runs`` is used up."""
        return self.cron.max_runs != INFINITY and self.run_count >= self.cron.max_runs


def as_cron(value: str | Cron) -> Cron:
    """The rule of the option ``cron=``: a Cron as it is, an expression as a Cron with the defaults."""
    return value if isinstance(value, Cron) else Cron(value)


def parse_cron(cron: str | Cron, factory: CronFactory) -> CronParser:
    """Parse the expression with the app's ``cron_factory``. Called where a rule is written, so that it fails there.

    Raises:
        InvalidCronError: the factory raised any exception, or returned no parser.
    """
    expression = as_cron(cron).expression
    try:
        parser = factory(expression)
    except InvalidCronError:
        raise
    except Exception as error:
        raise InvalidCronError(expression, f"the cron_factory refused it: {error}") from error
    if not isinstance(parser, CronParser):
        raise InvalidCronError(expression, f"the cron_factory made {parser!r}, which has no next_run(*, now).")
    return parser


def parser_name(factory: CronFactory) -> str:
    """The stored name of a ``cron_factory``: that of the function or class, without its module.

    The module may have another name in another process (``__main__``), and may be renamed by a deploy.
    """
    if factory is create_crontab:
        return _OUR_PARSER
    while isinstance(factory, partial):
        factory = factory.func
    name = getattr(factory, "__qualname__", None)
    return name if isinstance(name, str) else type(factory).__qualname__


def due_times(parser: CronParser, zone: tzinfo) -> NextDue:
    """``parser`` as a function from a point in time to the next due time, in ``zone``.

    A user's parser may signal the end with None, StopIteration or a ValueError; the last is logged. ConfigurationError
    if its result is not after the given time, because the job would run endlessly.
    """

    def next_due(at: Microseconds) -> Microseconds | None:
        try:
            found = parser.next_run(now=to_datetime(at, zone=zone))
        except StopIteration:
            return None
        except (ValueError, OverflowError):
            _logger.warning("%r found no next run; its schedule is done", parser, exc_info=True)
            return None
        if found is None:
            return None
        due = from_datetime(found, zone=zone)
        if due <= at:
            raise ConfigurationError(f"{parser!r} returned {found}, which is not after the given time.")
        return due

    return next_due


def first_due(cron: Cron, *, now: Microseconds, zone: tzinfo, next_due: NextDue) -> Microseconds | None:
    """The first due time of a schedule without progress: its start date if in the future, else by the expression.

    None if there is no such time.
    """
    if cron.start_date is not None:
        start = from_datetime(cron.start_date, zone=zone)
        if start >= now:
            return start
    return next_due(now)


def rule_to_json(cron: Cron, zone_name: str, parser: str = _OUR_PARSER) -> str:
    """The rule as text for the database, with the names of its zone and its parser, without the arguments.

    Equal rules give equal texts. A naive start date is stored as the point in time that it names in the zone.
    """
    zone = zone_named(zone_name)
    grace = cron.misfire_policy.value // _MICROSECOND if isinstance(cron.misfire_policy, GracePolicy) else None
    rule = {
        "expression": cron.expression,
        "grace": grace,
        "max_failures": cron.max_failures,
        "max_runs": cron.max_runs,
        "misfire_policy": "grace" if isinstance(cron.misfire_policy, GracePolicy) else cron.misfire_policy.value,
        "parser": parser,
        "start_date": None if cron.start_date is None else from_datetime(cron.start_date, zone=zone),
        "zone": zone_name,
    }
    return json.dumps(rule, sort_keys=True, separators=(",", ":"))


def rule_from_json(text: str, *, zone: tzinfo | None = None) -> Cron:
    """The rule that :func:`rule_to_json` wrote, its start date aware in the stored zone.

    A rule that names no zone is read in ``zone``.

    Raises:
        PayloadError: the text is no such rule.
        CronUnavailableError: this system does not know its zone.
    """
    zone = zone_of_rule(text) or zone
    try:
        rule = json.loads(text)
        start = rule["start_date"]
        return Cron(
            rule["expression"],
            max_runs=rule["max_runs"],
            max_failures=rule["max_failures"],
            misfire_policy=_stored_policy(rule),
            start_date=None if start is None else _stored_start(start, zone),
        )
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise PayloadError(f"A stored cron rule cannot be read: {text!r}") from error


def zone_of_rule(text: str) -> tzinfo | None:
    """The zone of a stored rule; None if it names none. CronUnavailableError if this system does not know it."""
    name = rule_as_written(text).get("zone")
    return None if name is None else zone_named(name)


def rule_as_written(text: str | None) -> dict[str, Any]:
    """A stored rule as a dict for display, also of a newer release. Empty if there is none, or it is damaged."""
    try:
        rule = json.loads(text or "{}")
    except ValueError:
        return {}
    return rule if isinstance(rule, dict) else {}


def is_stopped(record: JobRecord) -> bool:
    """Whether a job is a schedule that was stopped, by ``max_failures`` or because it could not be run.

    False for one that has ended by its own rule, after all its runs.
    """
    if record.rule is None or public_status(record.status, record.is_dead) != "dead":
        return False
    return not is_used_up(record)


def is_used_up(record: JobRecord) -> bool:
    """Whether a job is a schedule that has had all the runs that its rule allows (``max_runs``)."""
    max_runs = rule_as_written(record.rule).get("max_runs")
    return isinstance(max_runs, int) and 0 <= max_runs <= record.run_count


def is_paused(record: JobRecord) -> bool:
    """Whether a job is a schedule that waits for ``resume``.

    (One that waits to run apart, is parked, or waits for a limit, has blockers, too.)
    """
    others = record.is_apart + (record.parking is not None) + record.waits_for_limit
    return record.rule is not None and record.blockers > others


def have_same_rule(one: str | None, other: str | None) -> bool:
    """Whether two stored rules are the same. A zone or parser that one of them does not name is no difference."""
    a, b = rule_as_written(one), rule_as_written(other)
    if not a or not b:
        return one == other
    return _with_origin(a, b) == _with_origin(b, a)


def have_same_times(one: str | None, other: str | None) -> bool:
    """Whether two stored rules have the same due times. False if one is missing or cannot be read."""
    a, b = rule_as_written(one), rule_as_written(other)
    return _agree(_with_origin(a, b), _with_origin(b, a), "expression", "zone", "parser", "start_date")


def have_same_start(one: str | None, other: str | None) -> bool:
    """Whether two stored rules have the same start date, or both have none."""
    return _agree(rule_as_written(one), rule_as_written(other), "start_date")


def _with_origin(rule: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """``rule`` with the zone and the parser of ``other`` if it names none, as in old files."""
    return {**{name: other.get(name) for name in ("zone", "parser")}, **rule}


def _agree(one: dict[str, Any], other: dict[str, Any], *names: str) -> bool:
    return all(name in one and name in other and one[name] == other[name] for name in names)


def _stored_start(at: Microseconds, zone: tzinfo | None) -> datetime:
    if zone is None:
        raise ValueError("the rule names no zone")
    start = to_datetime(at, zone=zone)
    if from_datetime(start, zone=zone) != at:
        raise OverflowError(f"no calendar reaches {at}")
    return start


def _stored_policy(rule: Mapping[str, Any]) -> MisfirePolicy | GracePolicy:
    if rule["misfire_policy"] == "grace":
        return GracePolicy(rule["grace"] * _MICROSECOND)
    return MisfirePolicy(rule["misfire_policy"])


def _check_expression(value: object) -> None:
    if not isinstance(value, str) or not value.strip():
        raise InvalidCronError(str(value), "it is not an expression. Write text like '*/5 * * * *'.")


def _check_start(value: object) -> None:
    if value is not None and not isinstance(value, datetime):
        raise ConfigurationError(f"Cron(start_date={value!r}): write a datetime.")


def _policy(value: object) -> MisfirePolicy | GracePolicy:
    if isinstance(value, GracePolicy):
        return value
    if isinstance(value, str) and value in set(MisfirePolicy):
        return MisfirePolicy(value)
    raise ConfigurationError(
        f"Cron(misfire_policy={value!r}): write MisfirePolicy.ALL, .SKIP, .ONCE or .GRACE(timedelta(...))."
    )


def _arguments(value: object) -> tuple[Any, ...]:
    if not isinstance(value, tuple | list):
        raise ConfigurationError(f"Cron(args={value!r}): write a tuple; a single argument needs a comma, as in (1,).")
    return tuple(value)


def _keyword_arguments(value: object) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise ConfigurationError(f"Cron(kwargs={value!r}): write a dict of argument names and values.")
    return dict(value)


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
