"""What gates of limits do to a row, as :mod:`~jobify.storage.memory.transitions`."""

from __future__ import annotations

from jobify.storage.limit_decisions import GateKey
from jobify.storage.memory.rows import SCHEDULED, Row, changed

__all__ = ("held_back", "not_started", "past_gate", "refused")


def refused(row: Row, gate: GateKey, place: int | None = None) -> Row:
    """A job that was claimed just now, and that a limit does not admit: neither an attempt nor a start."""
    attempt = row.record.attempt - 1
    return held_back(
        changed(not_started(row), status=SCHEDULED, ready=True, owner=None, started_at=None, attempt=attempt),
        gate,
        place,
    )


def not_started(row: Row) -> Row:
    """A job that was claimed just now, and does not start: it keeps a unique key that it has until then."""
    return changed(row, unique_key=row.claimed_key)


def held_back(row: Row, gate: GateKey, place: int | None = None) -> Row:
    """A waiting job that waits for a limit, too."""
    return changed(row, blockers=row.record.blockers + 1, waits_for_limit=True)._replace(waits_at=gate, place=place)


def past_gate(row: Row) -> Row:
    """A job with another fence: with that goes its place at a gate."""
    if row.waits_at is None:
        return row
    return changed(row, blockers=row.record.blockers - 1, waits_for_limit=False)._replace(waits_at=None)
