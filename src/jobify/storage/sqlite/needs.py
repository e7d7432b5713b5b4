"""Jobs that others may still need, when something is to delete them or to take their place.

The statement ``needing`` finds them; :mod:`jobify.storage.needs` says what it means. Called inside a transaction.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from jobify.model.records import NewJob
from jobify.storage.needs import ASIDE, aside_id, parents_before, spared
from jobify.storage.sqlite.session import Session
from jobify.storage.sqlite.statements import decode_rows, rows_for, sql, write_for
from jobify.types import Microseconds

__all__ = ("make_room", "set_aside_needed", "without_needed")

_AFTER_ASIDE = chr(ord(ASIDE) + 1)


def make_room(database: Session, jobs: Sequence[NewJob]) -> None:
    """Let ended jobs give their ids to these. Those stay, under other ids, that are needed, or that another one of
    ``jobs`` depends on that comes first."""
    set_aside_needed(database, jobs)
    write_for(database, "delete_ended", [job.id for job in jobs])


def set_aside_needed(database: Session, jobs: Sequence[NewJob]) -> None:
    """The first half of :func:`make_room`."""
    times = {job.id: job.created_at for job in jobs}
    for seq, id in _needed(database, list(times), parents_before(jobs)).items():
        _set_aside(database, seq, id, times[id])


def _needed(database: Session, ids: Sequence[str], wanted: Collection[str]) -> Mapping[int, str]:
    """Of the ended jobs with these ids, those that are needed by others, or ``wanted``."""
    needs = _needs(database, ids)
    if not needs and not wanted:
        return {}
    ended = dict(rows_for(database, "ended", ids))
    kept = {seq for seq, id in ended.items() if id in wanted}
    kept |= spared(needs, ended.keys() - kept)
    return {seq: ended[seq] for seq in sorted(kept)}


def without_needed(database: Session, ids: Sequence[str]) -> Sequence[str]:
    """These ids, without those of ended jobs that others need which are not among them."""
    needs = _needs(database, ids)
    if not needs:
        return ids
    victims = dict(rows_for(database, "deletable", ids))
    kept = {victims[seq] for seq in spared(needs, victims.keys())}
    return [id for id in ids if id not in kept]


def _needs(database: Session, ids: Sequence[str]) -> list[tuple[int, int]]:
    """Pairs: a job among these that has ended, and one that wants it. See :func:`~jobify.storage.needs.spared`."""
    needs = [(needed, wanting) for needed, wanting in rows_for(database, "needs", ids)]
    barriers = {wanting for _, wanting in needs if wanting < 0}
    return needs + [(before, behind) for before, behind in rows_for(database, "needs_of_barriers", sorted(barriers))]


def _set_aside(database: Session, seq: int, id: str, now: Microseconds) -> None:
    """Give a job another id, and leave it to the janitor."""
    taken = decode_rows(database.row(sql("names_like"), (id, ASIDE, id, _AFTER_ASIDE))[0])
    name = aside_id(id, set(taken).__contains__)
    database.write(sql("set_aside"), (name, now, now, seq))
    database.write(sql("move_attempts"), (name, id))
    database.write(sql("move_messages"), (name, id))
