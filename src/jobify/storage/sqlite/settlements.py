"""Settlements: what the ends of attempts make of jobs.

The usual batch is one statement. It fails as a whole where a claim does not hold, or where something is pending for a
job: its replacement, its cancel, jobs that depend on it. Then they are taken one by one:
:mod:`jobify.storage.sql.settlements`.
"""

from __future__ import annotations

from collections.abc import Sequence

from jobify.model.records import AttemptRecord, Settled, Settlement
from jobify.storage.sql.settlements import history_of, settle_held
from jobify.storage.sqlite.errors import ClaimLost
from jobify.storage.sqlite.parameters import SUCCESS_WIDTH, attempt_values, settlement_values, success_values
from jobify.storage.sqlite.session import Session
from jobify.storage.sqlite.statements import SQLiteStatements, Values, sql, write_batch, write_values
from jobify.storage.sqlite.values import LARGE, store_value

__all__ = ("IF_PLAIN", "Settlements")

IF_PLAIN = """AND held.has_successor = 0 AND held.has_cancel = 0 AND held.has_dependents = 0 AND held.has_kept = 0
        AND held.blockers = 0 AND held.result_ref IS NULL"""
"""A condition of ``settle``: nothing is pending for the job."""


class Settlements:
    """See :meth:`jobify.storage.base.Storage.settle`."""

    def __init__(self, database: Session) -> None:
        self._database = database
        self._statements = SQLiteStatements(database)

    def settle(self, settlements: Sequence[Settlement]) -> list[Settled]:
        successes = success_values(settlements)
        if successes is None and any(s.parking is not None or _has_large_result(s) for s in settlements):
            with self._database.atomic():
                return settle_held(self._statements, self, settlements)
        try:
            self._settle_all(settlements, successes)
        except ClaimLost:
            with self._database.atomic():
                return settle_held(self._statements, self, settlements)
        return [Settled.APPLIED] * len(settlements)

    def settle_joined(self, settlements: Sequence[Settlement]) -> list[Settled]:
        """:meth:`settle`, on the connection of a user, where no statement may fail."""
        with self._database.atomic():
            return settle_held(self._statements, self, settlements)

    def _settle_all(self, settlements: Sequence[Settlement], successes: Values | None) -> None:
        """Settle all of them, or raise ClaimLost and settle none."""
        if len({settlement.id for settlement in settlements}) < len(settlements):
            raise ClaimLost  # two for one job: at most one of them holds
        if successes is not None:
            write_values(
                self._database, "settle_success", successes, SUCCESS_WIDTH, is_acknowledged=False, if_plain=IF_PLAIN
            )
            return
        history = history_of(settlements)
        if not history:
            write_batch(
                self._database, "settle", settlement_values, settlements, is_acknowledged=False, if_plain=IF_PLAIN
            )
            return
        with self._database.atomic():
            write_batch(self._database, "settle", settlement_values, settlements, if_plain=IF_PLAIN)
            self.add_history(history)

    def add_history(self, lines: Sequence[AttemptRecord]) -> None:
        """Add lines to the history of jobs."""
        write_batch(self._database, "add_history", attempt_values, lines)

    def settle_each(self, settlements: Sequence[Settlement]) -> None:
        """Settle these, whose claims hold. Large results go beside their rows."""
        rows = [s._replace(result=b"") if _has_large_result(s) else s for s in settlements]
        write_batch(self._database, "settle", settlement_values, rows, if_plain="")
        for settlement in settlements:
            if settlement.result is not None and _has_large_result(settlement):
                reference = store_value(self._database, settlement.result)
                self._database.write(sql("refer_to_result"), (reference, settlement.id))


def _has_large_result(settlement: Settlement) -> bool:
    return settlement.result is not None and len(settlement.result) > LARGE
