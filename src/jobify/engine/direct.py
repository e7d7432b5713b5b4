"""The way to a storage in memory: none at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from jobify.engine.gate import Insertion
from jobify.engine.lines import Answer
from jobify.records import Claimed, ClaimRequest, Settlement
from jobify.storage.base import Storage
from jobify.types import Microseconds

__all__ = ("DirectGate",)

T = TypeVar("T")

_THE_END_OF_TIME: Final[Microseconds] = 2**63 - 1
_TIDIED_AT_ONCE: Final = 1000


class DirectGate:
    """The gate of a storage in memory: calls are made at once.

    A job that is born claimed, runs and ends has no use for a row: nobody else can see it. It gets one only when it
    has to wait (for a retry) or when somebody makes a call that might concern it. A row that may be deleted some time
    after its job has ended is deleted at once.
    """

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.on_news: Callable[[], None] = _nothing
        self._unborn: dict[str, Insertion] = {}

    def tell_others(self) -> None:
        pass

    async def start(self) -> None:
        self.storage.open()

    async def stop(self) -> None:
        self.abandon()

    def abandon(self) -> None:
        self._unborn.clear()
        self.storage.close()

    def insert(self, insertion: Insertion, *, is_unseen: bool) -> None:
        if is_unseen:
            self._unborn[insertion.job.id] = insertion
            insertion(True)
        else:
            self._give_rows()
            insertion(self.storage.insert((insertion.row(),))[0])

    def settle(self, settlement: Settlement, answer: Answer, *, is_news: bool, is_last: bool = False) -> None:
        unborn = self._unborn.pop(settlement.id, None)
        if unborn is not None:
            if settlement.finished_at is not None:
                answer(True)
                return
            self.storage.insert((unborn.row(),))
        answer(self.storage.settle((settlement,))[0])
        self._tidy()

    async def claim(self, request: ClaimRequest, *, now: Microseconds) -> Claimed:
        return self.storage.claim(request, now=now)

    async def call(self, function: Callable[[], T], *, is_news: bool = False) -> T:
        self._give_rows()
        try:
            return function()
        finally:
            self._tidy()

    def _tidy(self) -> None:
        self.storage.purge(now=_THE_END_OF_TIME, limit=_TIDIED_AT_ONCE)

    def _give_rows(self) -> None:
        if self._unborn:
            self.storage.insert([unborn.row() for unborn in self._unborn.values()])
            self._unborn.clear()


def _nothing() -> None:
    """Nobody else could have news."""
