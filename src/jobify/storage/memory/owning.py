"""Owners: who they are, and what becomes of the jobs of those that left or died."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable

from jobify.records import OwnerProfile, OwnerRecord, Recovered
from jobify.storage.memory import rows
from jobify.storage.memory.dependencies import Dependencies
from jobify.storage.memory.rows import Row
from jobify.storage.memory.table import Table
from jobify.types import Microseconds

__all__ = ("beat", "close", "depart", "enter", "leave", "release", "take_from_the_dead")


def enter(table: Table, id: int, profile: OwnerProfile, now: Microseconds) -> None:
    """One owner more."""
    owner = OwnerRecord(id, socket.gethostname(), os.getpid(), now, now, profile, True)
    _keep(table, (*_all(table), owner))


def beat(table: Table, id: int, now: Microseconds) -> None:
    """It was seen."""
    _keep(table, (owner._replace(seen_at=now) if owner.id == id else owner for owner in _all(table)))


def close(table: Table) -> None:
    """Nobody who is here lives on, except owners whose threads do."""
    leaving = table.beside.leaving
    _keep(table, (owner._replace(is_alive=owner.is_alive and owner.id in leaving) for owner in _all(table)))


def depart(table: Table, id: int) -> None:
    """An owner leaves, and keeps what it holds."""
    if id in table.beside.owners:
        table.beside = table.beside._replace(leaving=table.beside.leaving | {id})


def release(table: Table, id: int) -> None:
    """An owner that has left holds its jobs no more."""
    _keep(table, (owner._replace(is_alive=owner.is_alive and owner.id != id) for owner in _all(table)))


def leave(table: Table, jobs: Dependencies, id: int) -> None:
    """One owner less; what it holds is given back."""
    for row in table.held_by(id):
        jobs.keep(rows.given_back(row))
    _keep(table, (owner for owner in _all(table) if owner.id != id))


def take_from_the_dead(
    table: Table, jobs: Dependencies, *, now: Microseconds, max_crashes: int, delete_at: Microseconds | None
) -> list[Recovered]:
    """Only the living stay, and what the others held is given back, or was given back too often."""
    recovered = []
    for owner in [owner for owner in _all(table) if not owner.is_alive]:
        for row in table.held_by(owner.id):
            is_crash = owner.id not in table.beside.leaving
            if is_crash:
                after = _recovered(row, now=now, max_crashes=max_crashes, delete_at=delete_at)
            else:
                after = rows.given_back(rows.released(row, now))
            jobs.keep(after)
            job = row.record
            recovered.append(Recovered(job.id, job.task, after.record.status, job.origin, is_crash))
    _keep(table, (owner for owner in _all(table) if owner.is_alive))
    return recovered


def _recovered(row: Row, *, now: Microseconds, max_crashes: int, delete_at: Microseconds | None) -> Row:
    row = rows.lost(row, now)
    if row.record.crashes >= max_crashes and row.successor is None and row.cancel is None:
        return rows.quarantined(row, now=now, delete_at=delete_at)
    return rows.given_back(row)


def _all(table: Table) -> Iterable[OwnerRecord]:
    return table.beside.owners.values()


def _keep(table: Table, owners: Iterable[OwnerRecord]) -> None:
    kept = {owner.id: owner for owner in owners}
    table.beside = table.beside._replace(owners=kept, leaving=table.beside.leaving & kept.keys())
