"""What an extension implements to start and stop with an app."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

__all__ = ("Plugin",)


@runtime_checkable
class Plugin(Protocol):
    """Started after the app's lifespan, in order of registration; stopped before it, in reverse."""

    async def startup(self, app: Any) -> None:
        """The app is starting; no job runs yet."""
        ...

    async def shutdown(self) -> None:
        """The app is stopping; no job runs any more."""
        ...
