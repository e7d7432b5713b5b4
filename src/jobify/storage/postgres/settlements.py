"""Settlements: what the ends of attempts make of jobs.

The usual batch is one statement, that writes what is plain: its claim holds, and nothing is pending for its job (a
replacement, a cancel, jobs that depend on it). By itself that is a transaction, and one answer to wait for. What it
leaves out is taken by :mod:`jobify.storage.sql.settlements` in a second transaction, because settlements of different
jobs have nothing in common; if that one fails, what the first one has written is known when the call is made again
(:mod:`~jobify.storage.postgres.doubt`). With lines of history both are in one transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from operator import attrgetter
from typing import Any, Final

from jobify.model.records import AttemptRecord, Settled, Settlement
from jobify.storage.postgres.database import Database
from jobify.storage.postgres.doubt import ClaimKey, Doubt
from jobify.storage.postgres.statements import texts
from jobify.storage.postgres.writing import WritingStatements
from jobify.storage.sql.settlements import history_of, settle_held

__all__ = ("SettlementRows", "Settlements")

_COLUMNS: Final = 16
_ALIKE: Final = tuple(map(Settlement._fields.index, (
    "status", "ready", "offset_at", "run_count", "failure_count", "error", "is_dead", "is_lost", "owner",
)))  # fmt: skip
"""Columns that ordinary jobs that have succeeded have in common."""
_id_of: Final = attrgetter("id")
_FEW: Final = 4
"""So many are settled in one statement that locks them first: two more steps for each, and no transaction around it."""


class _RelationsHeldError(Exception):
    """Another transaction changes relations between jobs."""


class Settlements:
    """See :meth:`jobify.storage.base.Storage.settle`."""

    def __init__(self, database: Database, doubt: Doubt) -> None:
        self._database = database
        self._doubt = doubt
        self._rows = SettlementRows(database)

    def settle(self, settlements: Sequence[Settlement]) -> list[Settled]:
        if not settlements:
            return []
        claims = list(map(_claim_of, settlements))
        doubtful = self._doubt.take_settled(claims)
        try:
            with self._doubt.of(settlements[0].owner, frozenset(claims)):
                met = self._settle_each_way(settlements)
        except BaseException:
            self._doubt.add_settled(doubtful)
            raise
        if not doubtful:
            return met
        done = self._done([one for one in settlements if _claim_of(one) in doubtful])
        return [
            Settled.APPLIED if answer is Settled.REFUSED and claim in done else answer
            for claim, answer in zip(claims, met, strict=True)
        ]

    def _done(self, settlements: Sequence[Settlement]) -> set[tuple[str, int, int]]:
        """Those of these that were applied before, by a call whose answer was lost: nothing else leaves a row so."""
        found = self._database.rows_of(
            "settled_before", [(one.id, one.fence, one.status, one.due_at, one.run_count) for one in settlements]
        )
        return {_claim_of(one) for one in settlements if one.id in set(found)}

    def _settle_each_way(self, settlements: Sequence[Settlement]) -> list[Settled]:
        if _is_simple(settlements):
            is_apart = not (self._database.is_in_block or history_of(settlements))
            if is_apart and len(settlements) > _FEW:
                return self._settle_plain_apart(settlements)
            if is_apart and self._settle_all(settlements):
                return [Settled.APPLIED] * len(settlements)
            with suppress(_RelationsHeldError):
                return self._settle_plain_first(settlements)
        return self._settle_held(settlements)

    def _settle_plain_apart(self, settlements: Sequence[Settlement]) -> list[Settled]:
        """Settle what is plain in a statement by itself, then the rest."""
        applied = self._rows.settle_plain(settlements)
        rest = [one for one in settlements if one.id not in applied]
        if not rest:
            return [Settled.APPLIED] * len(settlements)
        try:
            met = iter(self._database.retried(partial(self._settle_held, rest)))
        except BaseException:
            self._doubt.add_settled([_claim_of(one) for one in settlements if one.id in applied])
            raise
        return [Settled.APPLIED if one.id in applied else next(met) for one in settlements]

    def _settle_held(self, settlements: Sequence[Settlement]) -> list[Settled]:
        with self._database.atomic():
            return settle_held(self._database, self._rows, settlements)

    def _settle_plain_first(self, settlements: Sequence[Settlement]) -> list[Settled]:
        """Settle what is plain in one statement, then the rest. Nothing is settled if another transaction has the lock
        that the rest needs: it may wait for rows that are plain, and the two would wait for each other."""
        with self._database.together():
            applied = self._rows.settle_plain(settlements)
            rest = [one for one in settlements if one.id not in applied]
            if not rest:
                return [Settled.APPLIED] * len(settlements)
            if not self._database.try_relations():
                raise _RelationsHeldError
            met = iter(settle_held(self._database, self._rows, rest))
            return [Settled.APPLIED if one.id in applied else next(met) for one in settlements]

    def _settle_all(self, settlements: Sequence[Settlement]) -> bool:
        """Settle all of them in one statement, or none."""
        statement = self._database.sql("settle_all", if_plain=self._rows.if_plain)
        parameters = (*_columns(settlements), len(settlements))
        return self._database.execute(statement, parameters).rowcount == len(settlements)


class SettlementRows:
    """How settlements are written, on any connection."""

    def __init__(self, database: WritingStatements) -> None:
        self._database = database
        self.if_plain = texts()["if_plain"]

    def settle_plain(self, settlements: Sequence[Settlement]) -> set[str]:
        """Settle those whose claims hold and for whose jobs nothing is pending, with their history; their ids.

        Those with a history are settled inside a transaction.
        """
        applied = self._settle(settlements, self.if_plain)
        lines = history_of([one for one in settlements if one.id in applied])
        if lines:
            self.add_history(lines)
        return applied

    def _settle(self, settlements: Sequence[Settlement], if_plain: str) -> set[str]:
        """Settle those whose claims hold; their ids."""
        columns, name = _columns(settlements), "settled_each"
        if all(columns[index].count(columns[index][0]) == len(settlements) for index in _ALIKE):
            name = "settled_alike"
            for index in _ALIKE:
                columns[index] = columns[index][0]
        statement = self._database.sql("settle", settled=texts()[name], if_plain=if_plain)
        return set(self._database.values(statement, columns))

    def settle_each(self, settlements: Sequence[Settlement]) -> None:
        """Settle these, whose claims hold."""
        if settlements:
            self._settle(settlements, "")

    def add_history(self, lines: Sequence[AttemptRecord]) -> None:
        """Add lines to the history of jobs."""
        self._database.run_rows("add_history", lines)


def _claim_of(settlement: Settlement) -> ClaimKey:
    return settlement.id, settlement.owner, settlement.fence


def _columns(settlements: Sequence[Settlement]) -> list[Any]:
    """The parameters of statements. In the order of ids: mostly that of insertion, in which others lock rows."""
    return list(zip(*sorted(settlements, key=_id_of), strict=True))[:_COLUMNS]


def _is_simple(settlements: Sequence[Settlement]) -> bool:
    """Whether no call is parked, and no two are for one job."""
    for settlement in settlements:  # not any(): a generator costs this hot path more than the comparison
        if settlement.parking is not None:
            return False
    return len({settlement.id for settlement in settlements}) == len(settlements)
