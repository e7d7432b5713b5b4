"""``connections[alias]`` of Django.

Statements run on the driver's connection inside Django's wrapper, by the adapter of that driver: Django reads ``%`` in
a statement, and logs parameters of any length.
"""

from __future__ import annotations

from typing import Any, TypeVar

from jobify.transactions.port import BlockingConnection, Stored, Work

__all__ = ("DjangoConnection",)

T = TypeVar("T")


class DjangoConnection(BlockingConnection):
    """See :class:`~jobify.transactions.port.UserConnection`. Django says when it has committed."""

    tells_commits = True

    def __init__(self, connection: Any) -> None:
        from django.db import connections  # type: ignore[import-untyped,unused-ignore]

        self._wrapper: Any = connections[connection.alias]

    def run(self, work: Work[T]) -> T:
        from jobify.transactions import connect

        self._wrapper.validate_thread_sharing()
        self._wrapper.validate_no_broken_transaction()
        self._wrapper.ensure_connection()
        return connect(self._wrapper.connection).run(work)

    def after_commit(self, stored: Stored) -> None:
        self._wrapper.on_commit(stored.notify, robust=True)
