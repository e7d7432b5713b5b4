"""Dictionaries with attribute access."""

from __future__ import annotations

from collections import UserDict
from typing import Any

__all__ = ("RequestState", "State")


class State(UserDict[str, Any]):
    """Values that an app, a router or a job shares: ``state["db"]`` and ``state.db`` are the same.

    >>> state = State({"db": "pool"})
    >>> state.cache = {}
    >>> sorted(state)
    ['cache', 'db']
    """

    def __init__(self, state: dict[str, Any] | None = None) -> None:
        super().__init__(state or {})

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "data":
            raise AttributeError(name)
        try:
            return self.data[name]
        except KeyError:
            raise AttributeError(f"{type(self).__name__} has no {name!r}; it has: {list(self.data)}") from None

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "data":
            super().__setattr__(name, value)
        else:
            self.data[name] = value

    def __delattr__(self, name: str) -> None:
        try:
            del self.data[name]
        except KeyError:
            raise AttributeError(name) from None


class RequestState(State):
    """The :class:`State` of one attempt, shared by its middleware and its task."""
