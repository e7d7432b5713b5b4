"""Settlements whose batch is not plain: a claim does not hold, or something waits for the end of a running job.

Each settlement is classified (:class:`_Outcome`), and each class is one write. Called inside a transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto
from typing import NamedTuple, Protocol

from jobify.model.records import AttemptRecord, Settled, Settlement
from jobify.model.status import JobStatus
from jobify.storage.parking import merged, parking_of, text_of
from jobify.storage.sql.dependencies import forget_parents, propagate_end
from jobify.storage.sql.statements import Statements
from jobify.storage.suspicion import is_unfinished

__all__ = ("SettlementWriter", "end_cancelled", "history_of", "replace_with_successors", "settle_held")

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


class SettlementWriter(Protocol):
    """How a database writes what it writes for every job."""

    def settle_each(self, settlements: Sequence[Settlement]) -> None:
        """Settle these, whose claims hold."""
        ...

    def add_history(self, lines: Sequence[AttemptRecord]) -> None:
        """Add lines to the history of jobs."""
        ...


def settle_held(statements: Statements, writer: SettlementWriter, settlements: Sequence[Settlement]) -> list[Settled]:
    """Settle those whose claim holds, each as what is pending for its job wants it."""
    outcomes, held = _classified(statements, settlements)
    ids = {outcome: [one.settlement.id for one in held if one.outcome is outcome] for outcome in _Outcome}
    applied = [one for one in held if one.outcome is _Outcome.APPLIED]
    writer.add_history(history_of([one.settlement for one in held]))
    if any(one.pending.has_large_result for one in held):
        statements.run_for("drop_results", [one.settlement.id for one in held if one.pending.has_large_result])
    replace_with_successors(statements, ids[_Outcome.REPLACED])
    end_cancelled(statements, ids[_Outcome.CANCELLED])
    _drop_cancels(statements, [one.settlement.id for one in applied if one.pending.has_cancel])
    writer.settle_each([one.settlement for one in applied])
    _clear_blockers(statements, held)
    _park(statements, [one.settlement for one in applied])
    ended = propagate_end(statements, [one.settlement.id for one in held if one.pending.is_linked])
    changed = {*ids[_Outcome.REPLACED], *ended}
    return [_met(one, outcome, changed) for one, outcome in zip(settlements, outcomes, strict=True)]


def _classified(statements: Statements, settlements: Sequence[Settlement]) -> tuple[list[_Outcome], list[_Classified]]:
    """The outcome of each, and those whose claim holds. Of two for one claim the first one counts."""
    pending = _pending(statements, list(dict.fromkeys(map(_claim_of, settlements))))
    outcomes: list[_Outcome] = []
    held: list[_Classified] = []
    for settlement in settlements:
        its = pending.pop(_claim_of(settlement), None)
        outcomes.append(_outcome_of(settlement, its))
        if its is not None:
            held.append(_Classified(settlement, its, outcomes[-1]))
    return outcomes, held


def _clear_blockers(statements: Statements, held: Sequence[_Classified]) -> None:
    """What has ended waits for nothing. What ran apart does so no more, unless it was released unfinished."""
    ended = [one.settlement.id for one in held if one.pending.blockers and one.settlement.status != JobStatus.SCHEDULED]
    statements.run_for("clear_blockers", ended)
    acquitted = [one.settlement.id for one in held if _is_acquitted(one.settlement, one.pending)]
    statements.run_for("acquit", acquitted)
    statements.run_for("forget_suspects", acquitted)


def _pending(statements: Statements, claims: Sequence[_Claim]) -> dict[_Claim, _Pending]:
    """Of these claims those that hold, and what is pending for their jobs."""
    found = statements.rows_of("valid_claims", claims)
    return {(id, owner, fence): _Pending._make(pending) for id, owner, fence, *pending in found}


def _claim_of(settlement: Settlement) -> _Claim:
    return settlement.id, settlement.owner, settlement.fence


def _is_acquitted(settlement: Settlement, pending: _Pending) -> bool:
    return pending.runs_apart and not is_unfinished(settlement, pending.attempt, pending.run_count)


def _met(settlement: Settlement, outcome: _Outcome, changed: set[str]) -> Settled:
    if outcome is _Outcome.REFUSED:
        return Settled.REFUSED
    return Settled.CASCADED if settlement.id in changed else Settled.APPLIED


def history_of(settlements: Sequence[Settlement]) -> list[AttemptRecord]:
    return [line for settlement in settlements for line in settlement.history]


# -- what waits for the end of a running job; called inside a transaction ----------------------------------------------


def replace_with_successors(statements: Statements, ids: Sequence[str]) -> None:
    """Put the pending replacements of these jobs in their places."""
    forget_parents(statements, ids)
    statements.run_for("become_successor", ids)
    if ids:
        statements.run("delete_orphaned_successors")
        statements.run("delete_orphaned_cancels")  # the cancel was of the job that was replaced


def end_cancelled(statements: Statements, ids: Sequence[str]) -> None:
    """End these jobs as the pending cancels say."""
    statements.run_for("become_cancelled", ids)
    if ids:
        statements.run("delete_orphaned_cancels")


def _drop_cancels(statements: Statements, ids: Sequence[str]) -> None:
    """Forget the pending cancels of these jobs: they end before they could be cancelled."""
    statements.run_for("drop_cancel", ids)
    if ids:
        statements.run("delete_orphaned_cancels")


def _park(statements: Statements, settlements: Sequence[Settlement]) -> None:
    """Park the jobs that these settlements, which were applied in this transaction, want parked."""
    parkings = {settled.id: settled.parking for settled in settlements if settled.parking is not None}
    before = {id: parking_of(text).codes for id, text in statements.rows_for("parked_before", list(parkings))}
    for id, parking in parkings.items():
        statements.run("park", text_of(merged(parking, before.get(id, ()))), id)
