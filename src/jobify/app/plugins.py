"""Plugins: extensions that start and stop with an app."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, MutableSet
from typing import Any, Protocol, runtime_checkable

from jobify.exceptions import ConfigurationError

__all__ = ("Plugin", "Plugins")


@runtime_checkable
class Plugin(Protocol):
    """An extension that is started and stopped with the app.

    It is started before the lifespans, in order of registration, and stopped after them, in reverse.

    A middleware that has these two methods is a plugin, and need not be registered as one. ::

        class Metrics:
            async def startup(self, app: Jobify) -> None:
                self.server = await serve(port=9000)

            async def shutdown(self) -> None:
                await self.server.close()

        app = Jobify(plugins=[Metrics()])
    """

    async def startup(self, app: Any) -> None:
        """Called when the app starts, before any job runs. An error aborts the start."""
        ...

    async def shutdown(self) -> None:
        """Called when the app stops, after the last job."""
        ...


class Plugins(MutableSet[Plugin]):
    """An ordered set of plugins by identity: they need not be hashable, and equal ones are different members."""

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
        """Register a plugin; a second time does nothing. ConfigurationError if it is none."""
        if isinstance(value, type):
            raise ConfigurationError(f"A plugin is an object, not a class. Did you mean {value.__name__}()?")
        if not isinstance(value, Plugin):
            raise ConfigurationError(f"{value!r} is no plugin: it needs async startup(app) and async shutdown().")
        self._by_identity[id(value)] = value

    def discard(self, value: Plugin) -> None:
        """Remove a plugin, if it is registered."""
        self._by_identity.pop(id(value), None)
