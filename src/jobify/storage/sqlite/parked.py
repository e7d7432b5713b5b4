"""Calls that wait for code that they fit: parked with a settlement, claimed by other code."""

from __future__ import annotations

from collections.abc import Sequence

from jobify.model.records import Claimed, ClaimRequest, Settlement, TaskSlots
from jobify.storage.parking import merged, parking_of, text_of
from jobify.storage.sqlite.aside import pick_aside, with_arguments
from jobify.storage.sqlite.database import Database
from jobify.storage.sqlite.ids import rows_for, write_for
from jobify.storage.sqlite.rows import Picked
from jobify.storage.sqlite.statements import sql
from jobify.storage.sqlite.values import bounded
from jobify.types import Microseconds

__all__ = ("claim_parked", "park", "unpark")


def park(database: Database, settlements: Sequence[Settlement]) -> None:
    """Park the jobs that these settlements, which were applied in this transaction, want parked."""
    parkings = {settled.id: settled.parking for settled in settlements if settled.parking is not None}
    before = {id: parking_of(text).codes for id, text in rows_for(database, "parked_before", list(parkings))}
    for id, parking in parkings.items():
        database.write(sql("park"), (text_of(merged(parking, before.get(id, ()))), id))


def unpark(database: Database, ids: Sequence[str], others: Sequence[bool], *, now: Microseconds) -> list[bool]:
    """Make parked jobs due at once for any code. For each, whether that, or what ``others`` says, was done."""
    return [is_done or database.write(sql("unpark"), (now, id)) == 1 for id, is_done in zip(ids, others, strict=True)]


def claim_parked(database: Database, request: ClaimRequest, *, now: Microseconds) -> Claimed:
    """Take parked calls that did not fit other code than that of the request."""
    if not any(_pick(database, request, lane, now)[0].rows for lane in request.slots):  # without a lock
        return Claimed([], False, None)
    with database.atomic():
        found = [_pick(database, request, lane, now) for lane in request.slots]
        picked = Picked([row for page, _ in found for row in page.rows], {})
        for page, _ in found:
            picked.references.update(page.references)
        write_for(database, "take_parked", [seq for seq, _ in picked.rows], before=[request.owner, now])
        claims = with_arguments(database, picked)
    return Claimed(claims, any(has_more for _, has_more in found), None)


def _pick(database: Database, request: ClaimRequest, lane: TaskSlots, now: Microseconds) -> tuple[Picked, bool]:
    """The first ones of a lane, and whether there are more."""
    found = pick_aside(database, "pick_parked", request.queues, lane, (request.code, now), lane.limit)
    rows = bounded(*found)
    return Picked(rows, found.references), len(rows) >= lane.limit > 0 or len(rows) < len(found.rows)
