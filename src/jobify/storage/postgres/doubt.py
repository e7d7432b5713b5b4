"""Calls whose answers were lost with the connection: perhaps they were made.

Their callers got an error that says that nothing was changed, and nothing runs what they have claimed for an owner. So
before the next claim, that is taken back: jobs that were claimed wait again, without an attempt, and jobs that were
inserted already claimed are deleted. A claim that was made again meanwhile is left alone, because each one has a number
of its own.

A settlement is made again by its caller. It finds that its claim does not hold any more, and then looks whether that is
its own doing (:meth:`Doubt.take_settled`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, TypeAlias

from jobify.exceptions import StorageUnavailableError
from jobify.storage.postgres.database import Database

__all__ = ("ClaimKey", "Doubt")

ClaimKey: TypeAlias = tuple[str, int, int]
"""The id, the owner, the fence."""

_MOST: Final = 10_000
"""Calls in doubt that are remembered: more come only from hours without a connection."""


class Doubt:
    """What may have been done by calls that have failed. Used by the threads that write and that claim."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._open: list[tuple[int, int, int | Sequence[str] | frozenset[ClaimKey]]] = []
        """Of calls inside a block: the number of the block, the owner, what was done for it."""
        self._claims: dict[int, list[int]] = defaultdict(list)
        self._inserts: dict[int, list[str]] = defaultdict(list)
        self._settled: set[ClaimKey] = set()

    @contextmanager
    def of(self, owner: int, what: int | Sequence[str] | frozenset[ClaimKey]) -> Iterator[None]:
        """A call for an owner: a claim of this number, an insert of these ids, settlements of these claims."""
        database = self._database
        try:
            yield
        except StorageUnavailableError:
            if not database.is_in_block:
                self._add(owner, what)
            raise
        if database.is_in_block:
            self._open.append((database.block, owner, what))

    def _add(self, owner: int, what: int | Sequence[str] | frozenset[ClaimKey]) -> None:
        with self._database.alone():
            if len(self._claims) + len(self._inserts) + len(self._settled) > _MOST:
                return
            if isinstance(what, int):
                self._claims[owner].append(what)
            elif isinstance(what, frozenset):
                self._settled |= what
            else:
                self._inserts[owner] += what

    def _look_at_blocks(self) -> None:
        """What was done in a block is in doubt if it is not known whether that was committed. While no other thread has
        a block."""
        if not self._open:
            return
        database = self._database
        for block, owner, what in self._open:
            if block in database.lost_blocks:
                self._add(owner, what)
        self._open = [one for one in self._open if database.is_in_block and one[0] == database.block]
        database.lost_blocks.clear()

    def take_back(self) -> None:
        """Undo claims and inserts that are in doubt."""
        if not (self._claims or self._inserts or self._database.lost_blocks):
            return  # without waiting for a transaction of another thread
        with self._database.alone():
            self._look_at_blocks()
            for owner, numbers in list(self._claims.items()):
                self._database.run_for("release_claimed", numbers, owner)
                del self._claims[owner]
            for owner, ids in list(self._inserts.items()):
                self._database.run_for("delete_inserted", ids, owner)
                del self._inserts[owner]

    def add_settled(self, claims: Iterable[ClaimKey]) -> None:
        """These were settled by a call that has failed afterwards."""
        self._add(0, frozenset(claims))

    def take_settled(self, claims: Iterable[ClaimKey]) -> set[ClaimKey]:
        """Those of these claims whose settlements are in doubt; they are not any more."""
        with self._database.alone():
            self._look_at_blocks()
            if not self._settled:
                return set()
            found = self._settled & set(claims)
            self._settled -= found
            return found
