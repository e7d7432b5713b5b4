"""Settlements: what the ends of attempts make of jobs, and what waits for the end of a running job.

The usual batch is one statement. It fails as a whole where a claim does not hold, or where something is pending for a
job: its replacement, its cancel, jobs that depend on it. Then each settlement is classified (:class:`_Outcome`), and
each class is one write.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto
from typing import NamedTuple

from jobify.model.records import AttemptRecord, Settled, Settlement
from jobify.model.status import JobStatus
from jobify.storage.parking import merged, parking_of, text_of
from jobify.storage.sqlite.dependencies import forget_parents, propagate_end
from jobify.storage.sqlite.errors import ClaimLost
from jobify.storage.sqlite.session import Session
from jobify.storage.sqlite.statements import (
    attempt_values,
    chunks,
    decode_rows,
    row_values,
    rows_for,
    settlement_values,
    sql,
    write_batch,
    write_for,
)
from jobify.storage.sqlite.values import LARGE, store_value
from jobify.storage.suspicion import is_unfinished

__all__ = ("IF_PLAIN", "Settlements", "end_cancelled", "replace_with_successors")

IF_PLAIN = """AND held.has_successor = 0 AND held.has_cancel = 0 AND held.has_dependents = 0 AND held.has_kept = 0
        AND held.blockers = 0 AND held.result_ref IS NULL"""
"""A condition of ``settle``: nothing is pending for the job."""

_Claim = tuple[str, int, int]


class _Pending(NamedTuple):
    """What waits for the end of a running job."""

    has_successor: int
    has_cancel: int
    is_linked: int
    """Whether others depend on it, or are kept for its sake."""
    blockers: int
    is_paused: int
    has_large_result: int
    """Whether the result of an earlier run of the schedule stands beside the row."""

    attempt: int
    run_count: int

    @property
    def runs_apart(self) -> bool:
        """Whether it is on trial: what runs has no other blocker beside a pause."""
        return self.blockers > self.is_paused


class _Outcome(Enum):
    """What a settlement does."""

    REFUSED = auto()
    """Nothing: its claim does not hold, or an earlier settlement of the call had it."""
    REPLACED = auto()
    """The job becomes its pending replacement."""
    CANCELLED = auto()
    """The job would wait again, but its cancel was requested: it ends as that says."""
    APPLIED = auto()
    """The job becomes what the settlement says."""


class _Classified(NamedTuple):
    """A settlement whose claim holds, with what was pending for its job."""

    settlement: Settlement
    pending: _Pending
    outcome: _Outcome


def _outcome_of(settlement: Settlement, pending: _Pending | None) -> _Outcome:
    if pending is None:
        return _Outcome.REFUSED
    if pending.has_successor:
        return _Outcome.REPLACED
    if pending.has_cancel and settlement.status == JobStatus.SCHEDULED:
        return _Outcome.CANCELLED
    return _Outcome.APPLIED


class Settlements:
    """See :meth:`jobify.storage.base.Storage.settle`."""

    def __init__(self, database: Session) -> None:
        self._database = database

    def settle(self, settlements: Sequence[Settlement]) -> list[Settled]:
        for settlement in settlements:  # not any(): a generator costs this hot path more than the comparison
            if settlement.parking is not None or (settlement.result is not None and len(settlement.result) > LARGE):
                with self._database.atomic():
                    return self._settle_held(settlements)
        try:
            self._settle_all(settlements)
        except ClaimLost:
            with self._database.atomic():
                return self._settle_held(settlements)
        return [Settled.APPLIED] * len(settlements)

    def settle_joined(self, settlements: Sequence[Settlement]) -> list[Settled]:
        """:meth:`settle`, on the connection of a user, where no statement may fail."""
        with self._database.atomic():
            return self._settle_held(settlements)

    def _settle_all(self, settlements: Sequence[Settlement]) -> None:
        """Settle all of them, or raise ClaimLost and settle none."""
        if len({settlement.id for settlement in settlements}) < len(settlements):
            raise ClaimLost  # two for one job: at most one of them holds
        history = _history(settlements)
        if not history:
            write_batch(
                self._database, "settle", settlement_values, settlements, is_acknowledged=False, if_plain=IF_PLAIN
            )
            return
        with self._database.atomic():
            write_batch(self._database, "settle", settlement_values, settlements, if_plain=IF_PLAIN)
            self._add_history(history)

    def _settle_held(self, settlements: Sequence[Settlement]) -> list[Settled]:
        """Settle those whose claim holds, each as what is pending for its job wants it."""
        database = self._database
        outcomes, held = self._classified(settlements)
        ids = {outcome: [one.settlement.id for one in held if one.outcome is outcome] for outcome in _Outcome}
        applied = [one for one in held if one.outcome is _Outcome.APPLIED]
        self._add_history(_history([one.settlement for one in held]))
        write_for(database, "drop_results", [one.settlement.id for one in held if one.pending.has_large_result])
        replace_with_successors(database, ids[_Outcome.REPLACED])
        end_cancelled(database, ids[_Outcome.CANCELLED])
        _drop_cancels(database, [one.settlement.id for one in applied if one.pending.has_cancel])
        self._settle_each([one.settlement for one in applied])
        self._clear_blockers(held)
        _park(database, [one.settlement for one in applied])
        ended = propagate_end(database, [one.settlement.id for one in held if one.pending.is_linked])
        changed = {*ids[_Outcome.REPLACED], *ended}
        return [_met(one, outcome, changed) for one, outcome in zip(settlements, outcomes, strict=True)]

    def _classified(self, settlements: Sequence[Settlement]) -> tuple[list[_Outcome], list[_Classified]]:
        """The outcome of each, and those whose claim holds. Of two for one claim the first one counts."""
        pending = self._pending(list(dict.fromkeys(map(_claim_of, settlements))))
        outcomes: list[_Outcome] = []
        held: list[_Classified] = []
        for settlement in settlements:
            its = pending.pop(_claim_of(settlement), None)
            outcomes.append(_outcome_of(settlement, its))
            if its is not None:
                held.append(_Classified(settlement, its, outcomes[-1]))
        return outcomes, held

    def _add_history(self, lines: Sequence[AttemptRecord]) -> None:
        write_batch(self._database, "add_history", attempt_values, lines)

    def _settle_each(self, settlements: Sequence[Settlement]) -> None:
        """Settle these, whose claims hold. Large results go beside their rows."""
        rows = [s._replace(result=b"") if _has_large_result(s) else s for s in settlements]
        write_batch(self._database, "settle", settlement_values, rows, if_plain="")
        for settlement in settlements:
            if settlement.result is not None and _has_large_result(settlement):
                reference = store_value(self._database, settlement.result)
                self._database.write(sql("refer_to_result"), (reference, settlement.id))

    def _clear_blockers(self, held: Sequence[_Classified]) -> None:
        """What has ended waits for nothing. What ran apart does so no more, unless it was released unfinished."""
        ended = [
            one.settlement.id for one in held if one.pending.blockers and one.settlement.status != JobStatus.SCHEDULED
        ]
        write_for(self._database, "clear_blockers", ended)
        acquitted = [one.settlement.id for one in held if _is_acquitted(one.settlement, one.pending)]
        write_for(self._database, "acquit", acquitted)
        write_for(self._database, "forget_suspects", acquitted)

    def _pending(self, claims: Sequence[_Claim]) -> dict[_Claim, _Pending]:
        """Of these claims those that hold, and what is pending for their jobs."""
        found: dict[_Claim, _Pending] = {}
        for piece in chunks(claims):
            rows, values = row_values(piece)
            for id, owner, fence, *pending in decode_rows(
                self._database.row(sql("valid_claims", rows=rows), values)[0]
            ):
                found[id, owner, fence] = _Pending._make(pending)
        return found


def _claim_of(settlement: Settlement) -> _Claim:
    return settlement.id, settlement.owner, settlement.fence


def _is_acquitted(settlement: Settlement, pending: _Pending) -> bool:
    return pending.runs_apart and not is_unfinished(settlement, pending.attempt, pending.run_count)


def _met(settlement: Settlement, outcome: _Outcome, changed: set[str]) -> Settled:
    if outcome is _Outcome.REFUSED:
        return Settled.REFUSED
    return Settled.CASCADED if settlement.id in changed else Settled.APPLIED


def _history(settlements: Sequence[Settlement]) -> list[AttemptRecord]:
    return [line for settlement in settlements for line in settlement.history]


def _has_large_result(settlement: Settlement) -> bool:
    return settlement.result is not None and len(settlement.result) > LARGE


# -- what waits for the end of a running job; called inside a transaction ----------------------------------------------


def replace_with_successors(database: Session, ids: Sequence[str]) -> None:
    """Put the pending replacements of these jobs in their places."""
    forget_parents(database, ids)
    write_for(database, "become_successor", ids)
    if ids:
        database.write(sql("delete_orphaned_successors"))
        database.write(sql("delete_orphaned_cancels"))  # the cancel was of the job that was replaced


def end_cancelled(database: Session, ids: Sequence[str]) -> None:
    """End these jobs as the pending cancels say."""
    write_for(database, "become_cancelled", ids)
    if ids:
        database.write(sql("delete_orphaned_cancels"))


def _drop_cancels(database: Session, ids: Sequence[str]) -> None:
    """Forget the pending cancels of these jobs: they end before they could be cancelled."""
    write_for(database, "drop_cancel", ids)
    if ids:
        database.write(sql("delete_orphaned_cancels"))


def _park(database: Session, settlements: Sequence[Settlement]) -> None:
    """Park the jobs that these settlements, which were applied in this transaction, want parked."""
    parkings = {settled.id: settled.parking for settled in settlements if settled.parking is not None}
    before = {id: parking_of(text).codes for id, text in rows_for(database, "parked_before", list(parkings))}
    for id, parking in parkings.items():
        database.write(sql("park"), (text_of(merged(parking, before.get(id, ()))), id))
