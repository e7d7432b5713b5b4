"""The calls of :class:`jobify.storage.merging.MergePort`, in memory."""

from __future__ import annotations

from collections.abc import Sequence

from jobify.storage.memory.rows import SCHEDULED
from jobify.storage.memory.table import Table
from jobify.storage.merging import Window
from jobify.types import Microseconds

__all__ = ("MergeCalls",)


class MergeCalls:
    """The part of a storage that is about calls which are merged."""

    _table: Table

    def hold_keys(self, keys: Sequence[str]) -> None:
        pass  # a transaction is alone

    def hold_unique(self, key: str) -> str | None:
        return self._table.holder(key)

    def give_up_key(self, id: str) -> None:
        with self._table as table:
            row = table.find(id)
            if row is not None:
                table.upsert(row._replace(record=row.record._replace(unique_key=None)))

    def window(self, key: str) -> Window | None:
        return self._table.committed_side().merge_windows.get(key)

    def set_window(self, key: str, window: Window) -> None:
        with self._table as table:
            table.side = table.side._replace(merge_windows={**table.side.merge_windows, key: window})

    def forget_windows(self, *, now: Microseconds, limit: int) -> int:
        with self._table as table:
            kept = table.side.merge_windows
            closed = [key for key, window in kept.items() if window.closes_at <= now and not _waits(table, window)]
            forgotten = set(closed[:limit])
            windows = {key: window for key, window in kept.items() if key not in forgotten}
            table.side = table.side._replace(merge_windows=windows)
        return len(forgotten)


def _waits(table: Table, window: Window) -> bool:
    row = table.find(window.job_id)
    return row is not None and row.record.status == SCHEDULED
