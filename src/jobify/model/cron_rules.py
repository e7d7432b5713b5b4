"""Cron rules in three forms: the user's ``Cron``, the text in a row, and a function that finds due times.

A stored rule names its zone and its parser, which apply in every process. The zone and the ``cron_factory`` of the app
apply to the rules that it writes, and to old rows that name none.
"""

from __future__ import annotations

from datetime import tzinfo
from typing import NamedTuple

from jobify.crontab import CronFactory, CronParser, create_crontab
from jobify.exceptions import InvalidCronError, PayloadError
from jobify.model.cron import (
    Cron,
    due_times,
    first_due,
    parse_cron,
    parser_name,
    rule_as_written,
    rule_from_json,
    rule_to_json,
    zone_of_rule,
)
from jobify.model.misfire import NextDue
from jobify.model.zones import CronUnavailableError, zone_name
from jobify.types import Microseconds

__all__ = ("CronRule", "CronRuleCache")

_CACHED = 1024


class CronRule(NamedTuple):
    """A rule that finds due times."""

    cron: Cron
    parser: CronParser
    next_due: NextDue
    text: str
    zone: tzinfo


class CronRuleCache:
    """Parses rules, with their own zones and parsers. Rules are few and used often, so they are cached."""

    def __init__(self, zone: tzinfo, factory: CronFactory) -> None:
        self._zone = zone
        self._zone_name = zone_name(zone)
        self._factory = factory
        self._parser_name = parser_name(factory)
        self._factories = {parser_name(create_crontab): create_crontab, self._parser_name: factory}
        self._read: dict[str, CronRule] = {}

    def of_cron(self, cron: Cron) -> CronRule:
        """The rule that a user wrote; InvalidCronError if it cannot be read."""
        return self.of_text(rule_to_json(cron, self._zone_name, self._parser_name), cron)

    def of_text(self, text: str, cron: Cron | None = None) -> CronRule:
        """The rule in a row; PayloadError or InvalidCronError if it cannot be read, CronUnavailableError if it needs a
        zone or a parser that this process does not have."""
        rule = self._read.get(text)
        if rule is None:
            zone = zone_of_rule(text) or self._zone
            cron = cron if cron is not None else rule_from_json(text, zone=zone)
            parser = parse_cron(cron, self._factory_of(text))
            rule = CronRule(cron, parser, due_times(parser, zone), text, zone)
            if len(self._read) >= _CACHED:
                self._read.clear()
            self._read[text] = rule
        return rule

    def _factory_of(self, text: str) -> CronFactory:
        """The ``cron_factory`` that a stored rule names. A name in a row never causes an import."""
        name = rule_as_written(text).get("parser", self._parser_name)
        factory = self._factories.get(name) if isinstance(name, str) else None
        if factory is None:
            raise CronUnavailableError(
                f"The schedule was made with the cron_factory {name!r}, which this app does not have: its own is "
                f"{self._parser_name!r}. Run it with an app that has it, or schedule it again with replace=True."
            )
        return factory

    def read(self, text: str) -> Cron | None:
        """The ``Cron`` in a row; None if it cannot be read."""
        try:
            return self.of_text(text).cron
        except (PayloadError, InvalidCronError):
            return None

    def first_due(self, rule: CronRule, *, now: Microseconds) -> Microseconds:
        """When a schedule without progress runs first; InvalidCronError if it never does."""
        due_at = first_due(rule.cron, now=now, zone=rule.zone, next_due=rule.next_due)
        if due_at is None:
            raise InvalidCronError(rule.cron.expression, "there is no time to come that it matches.")
        return due_at
