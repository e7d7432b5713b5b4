"""The calls of :class:`jobify.storage.merging.MergePort`, for every SQL database."""

from __future__ import annotations

from collections.abc import Sequence

from jobify.storage.merging import Window
from jobify.storage.sql.statements import Statements
from jobify.types import Microseconds

__all__ = ("MergeCalls", "Merging")


class Merging:
    """Unique keys and windows in a SQL database."""

    def __init__(self, statements: Statements) -> None:
        self._statements = statements

    def hold_keys(self, keys: Sequence[str]) -> None:
        if self._statements.locks_rows and keys:
            self._statements.rows("lock_keys", keys)

    def hold_unique(self, key: str) -> str | None:
        if not self._statements.locks_rows:
            return next(iter(self._statements.rows("hold_unique", key)), None)
        if self._statements.rows("find_unique", key) == [None]:
            return None
        with self._statements.atomic():  # its lock before that of the row: what changes the job next takes it as well
            return next(iter(self._statements.rows("hold_unique", key)), None)

    def give_up_key(self, id: str) -> None:
        self._statements.run("give_up_key", id)

    def window(self, key: str) -> Window | None:
        found = next(iter(self._statements.rows("window", key)), None)
        return None if found is None else Window(found[0], found[1], found[2], bool(found[3]))

    def set_window(self, key: str, window: Window) -> None:
        self._statements.run("set_window", key, *window)

    def forget_windows(self, *, now: Microseconds, limit: int) -> int:
        if not self._statements.rows("is_window_closed", now)[0]:  # without a lock
            return 0
        return self._statements.run("forget_windows", now, limit)


class MergeCalls:
    """The part of a storage that is about calls which are merged."""

    _merging: Merging

    def hold_keys(self, keys: Sequence[str]) -> None:
        self._merging.hold_keys(keys)

    def hold_unique(self, key: str) -> str | None:
        return self._merging.hold_unique(key)

    def give_up_key(self, id: str) -> None:
        self._merging.give_up_key(id)

    def window(self, key: str) -> Window | None:
        return self._merging.window(key)

    def set_window(self, key: str, window: Window) -> None:
        self._merging.set_window(key, window)

    def forget_windows(self, *, now: Microseconds, limit: int) -> int:
        return self._merging.forget_windows(now=now, limit=limit)
