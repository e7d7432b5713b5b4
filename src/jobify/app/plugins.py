"""What an extension implements to start and stop with an app."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, MutableSet
from typing import Any, Protocol, runtime_checkable

from jobify.exceptions import ConfigurationError

__all__ = ("Plugin", "Plugins")


@runtime_checkable
class Plugin(Protocol):
    """Started before the lifespans, in order of registration; stopped after them, in reverse.

    A middleware that has these two methods is a plugin by itself, and need not be registered as one.
    """

    async def startup(self, app: Any) -> None:
        """The app is starting; no job runs yet."""
        ...

    async def shutdown(self) -> None:
        """The app is stopping; no job runs any more."""
        ...


class Plugins(MutableSet[Plugin]):
    """A set that keeps the order of registration, and tells its members apart by identity: a plugin need not be
    hashable, and two that compare equal are still two."""

    def __init__(self, plugins: Iterable[Plugin] = ()) -> None:
        self._by_identity: dict[int, Plugin] = {}
        if not isinstance(plugins, Iterable) or isinstance(plugins, str):
            raise ConfigurationError(f"plugins is {plugins!r}; it must be a list of plugins, such as [Metrics()].")
        for plugin in plugins:
            self.add(plugin)

    def __contains__(self, value: object) -> bool:
        return id(value) in self._by_identity

    def __iter__(self) -> Iterator[Plugin]:
        return iter(self._by_identity.values())

    def __len__(self) -> int:
        return len(self._by_identity)

    def __repr__(self) -> str:
        return f"{{{', '.join(map(repr, self))}}}"

    def add(self, value: Plugin) -> None:
        """Register a plugin; once is enough. ConfigurationError if it is none."""
        if isinstance(value, type):
            raise ConfigurationError(f"A plugin is an object, not a class. Did you mean {value.__name__}()?")
        if not isinstance(value, Plugin):
            raise ConfigurationError(f"{value!r} is no plugin: it needs async startup(app) and async shutdown().")
        self._by_identity[id(value)] = value

    def discard(self, value: Plugin) -> None:
        """Forget a plugin, if it is here."""
        self._by_identity.pop(id(value), None)
