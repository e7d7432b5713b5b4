"""Limits as operators see them: lists, and settings that go before the code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from jobify.client.views import LimitView
from jobify.exceptions import ConfigurationError, did_you_mean
from jobify.gateway.connection import StorageConnection
from jobify.model.clock import SECOND, Clock
from jobify.model.limit_gates import LimitKind, LimitRecord
from jobify.model.limit_keys import as_key
from jobify.router.registry import Registry
from jobify.storage.base import Storage

__all__ = ("LimitAdmin",)

_KEYS: Final = 100
_HIGHEST: Final = 2**31


class LimitAdmin:
    """Reads and writes in the caller's thread. ``registry()`` are the tasks of the app."""

    def __init__(self, connection: StorageConnection, registry: Callable[[], Registry], clock: Clock) -> None:
        self._connection = connection
        self._registry = registry
        self._clock = clock

    def all(self) -> list[LimitView]:
        """Every limit that a task of the database has, in order of name."""
        storage = self._connection.reader()
        return [_view(record, self._keys(storage, record)) for record in storage.limits()]

    def _keys(self, storage: Storage, limit: LimitRecord) -> tuple[LimitView, ...]:
        found = storage.limit_keys(limit.name, limit=_KEYS)
        return tuple(
            _view(key)
            for key in found
            if key.key and (key.waiting or key.is_set or (key.active >= key.maximum and not key.per))
        )

    def set(self, name: str, limit: int | None, key: Any, *, is_keyed: bool) -> None:
        """Set a limit, or one key of it; None: as its declaration says."""
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or not 0 <= limit < _HIGHEST):
            raise ConfigurationError(f"The limit is {limit!r}; it must be a whole number, 0 or more.")
        name, kind, path = self._find(name)
        if kind == LimitKind.FAIR:
            raise ConfigurationError(f"{name!r} is a Fair, which has no number. Pause the queue, or set another limit.")
        if is_keyed and path is None:
            raise ConfigurationError(f"The limit {name!r} has no key. Leave key= out.")
        with self._connection as storage:
            its = as_key(key) if is_keyed else None
            storage.set_limit(name, key=its, maximum=limit, now=self._clock.now())
        self._connection.notify(workers=True)

    def _find(self, name: str) -> tuple[str, str, str | None]:
        """The name, kind and key of the limit that is meant: of this name, or the only unnamed one of a task."""
        declared = {one.name: (one.kind, one.key) for endpoint in self._registry().values() for one in endpoint.limits}
        stored = {record.name: (record.kind, record.path) for record in self._connection.reader().limits()}
        known = {**declared, **stored}
        if name in known:
            return name, *known[name]
        unnamed = [one for one in known if one.startswith((f"{name}:concurrency", f"{name}:rate", f"{name}:fair"))]
        if len(unnamed) == 1:
            return unnamed[0], *known[unnamed[0]]
        if unnamed:
            choice = ", ".join(map(repr, sorted(unnamed)))
            raise ConfigurationError(f"Task {name!r} has several limits without a name. Name one of them: {choice}.")
        raise ConfigurationError(f"There is no limit {name!r}. {did_you_mean(name, sorted(known))}")


def _view(record: LimitRecord, keys: tuple[LimitView, ...] = ()) -> LimitView:
    return LimitView(
        name=record.name,
        key=msgspec.json.decode(record.key) if record.key else None,
        kind=record.kind,
        limit=record.maximum,
        per=record.per / SECOND,
        burst=record.burst,
        is_set=record.is_set,
        active=record.active,
        waiting=record.waiting,
        keys=keys,
    )
