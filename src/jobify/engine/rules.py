"""Cron rules between their three shapes: the user's ``Cron``, the text in a row, and a function that finds due
times."""

from __future__ import annotations

from typing import NamedTuple
from zoneinfo import ZoneInfo

from jobify.cron import Cron, due_times, first_due, parse_cron, rule_from_json, rule_to_json
from jobify.crontab import CronFactory, CronParser
from jobify.exceptions import InvalidCronError, PayloadError
from jobify.misfire import NextDue
from jobify.types import Microseconds

__all__ = ("Rule", "Rules")

_CACHED = 1024


class Rule(NamedTuple):
    """A rule that can be asked for due times."""

    cron: Cron
    parser: CronParser
    next_due: NextDue
    text: str


class Rules:
    """Reads rules in the app's zone with the app's parser. Rules are few and asked often, so they are remembered."""

    def __init__(self, zone: ZoneInfo, factory: CronFactory) -> None:
        self._zone = zone
        self._factory = factory
        self._read: dict[str, Rule] = {}

    def of_cron(self, cron: Cron) -> Rule:
        """The rule that a user wrote; InvalidCronError if it cannot be read."""
        return self.of_text(rule_to_json(cron, self._zone.key), cron)

    def of_text(self, text: str, cron: Cron | None = None) -> Rule:
        """The rule in a row; PayloadError or InvalidCronError if it cannot be read."""
        rule = self._read.get(text)
        if rule is None:
            cron = cron if cron is not None else rule_from_json(text)
            parser = parse_cron(cron, self._factory)
            rule = Rule(cron, parser, due_times(parser, self._zone), text)
            if len(self._read) >= _CACHED:
                self._read.clear()
            self._read[text] = rule
        return rule

    def read(self, text: str) -> Cron | None:
        """The ``Cron`` in a row, None if it cannot be read."""
        try:
            return self.of_text(text).cron
        except (PayloadError, InvalidCronError):
            return None

    def first_due(self, rule: Rule, *, now: Microseconds) -> Microseconds:
        """When a schedule without progress runs first; InvalidCronError if it never does."""
        due_at = first_due(rule.cron, now=now, zone=self._zone, next_due=rule.next_due)
        if due_at is None:
            raise InvalidCronError(rule.cron.expression, "there is no time to come that it matches.")
        return due_at
