"""What a push hands out: a future that can also stand in for a coroutine."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, TypeAlias

from jobify.jobs.job import Job

__all__ = ("PlainPushFuture", "PushFuture")

if TYPE_CHECKING:
    _JobFuture: TypeAlias = asyncio.Future[Job[Any]]
else:
    _JobFuture = asyncio.Future


_blocking: Any = vars(asyncio.Future)["_asyncio_future_blocking"]


class PlainPushFuture(_JobFuture):
    """A :class:`PushFuture` that is used as a future."""

    __slots__ = ("_steps",)

    _steps: Generator[Any, None, Job[Any]]

    def close(self) -> None:
        """End the awaiting, if it has begun; the job is stored all the same."""


class PushFuture(PlainPushFuture):
    """A job that is being stored; await it for the handle.

    The insert is under way when the caller gets this, so ``gather`` needs no task of its own to carry it: with ten
    thousand pushes at once that is a third of the whole price. Where a coroutine is asked for (``create_task``, a task
    group) this one answers to the methods of a coroutine, and so ``push`` can be used like any ``async def``.

    asyncio refuses some objects for being a coroutine (``wait``) and others for not being one (``create_task``). So
    this is both until the first question whether it is a future, which ``ensure_future`` and ``gather`` ask: from then
    on it is a future only, as the task would be that they make of a coroutine.

    Cancelling it, or the task that awaits it, does not take back what was asked for: the job is stored and runs.
    """

    __slots__ = ()

    def _is_blocking(self) -> Any:
        if not hasattr(self, "_steps"):
            self.__class__ = PlainPushFuture  # type: ignore[assignment]  # it has the same layout, and fewer methods
        return _blocking.__get__(self)

    _asyncio_future_blocking: Any = property(_is_blocking, _blocking.__set__)
    """Read by :func:`asyncio.isfuture`, and by a task that waits for this."""

    def send(self, value: None, /) -> Any:
        """Await, one step at a time."""
        return self._begun().send(value)

    def throw(self, *error: Any) -> Any:
        """Let ``error`` out where this is awaited."""
        return self._begun().throw(*error)

    def _begun(self) -> Generator[Any, None, Job[Any]]:
        try:
            return self._steps
        except AttributeError:
            self._steps = self.__await__()
            return self._steps
