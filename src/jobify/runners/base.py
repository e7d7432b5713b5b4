"""The port of the runners: how a call of a task's function is run, interrupted and known to have ended.

A runner takes a :class:`Call` and either returns what the function returns or raises what it raises. Four rules hold
for every runner:

*Cancelling* the task that awaits :meth:`Runner.run` interrupts the call, and ``run`` ends with ``CancelledError`` at
once. What an interruption can do differs: a coroutine gets the ``CancelledError``; a child process is killed; a thread
cannot be stopped from outside, so ``call.stop`` is set and it goes on until its function returns.

*The end of ``run`` is not the end of the call.* As long as any code of the function may still run, ``call.is_running``
is true, and ``await call.ended()`` waits for the end. The engine waits for it before it gives the slot to another call
or starts another attempt of the job, so that a job never overlaps itself, however often it times out.

*What the system refuses* (a process, a thread) is no error of the function: the runner sets ``call.refusal`` before it
raises, and the call has not begun.

*An error stays an error of the attempt.* Out of a thread or a process only subclasses of ``Exception`` are raised:
``sys.exit()`` in a task is a :class:`~jobify.exceptions.TaskExitError`, not the end of the loop.

::

    call = Call(func, args, kwargs)
    try:
        async with asyncio.timeout(2):
            value = await runner.run(call)
    finally:
        await call.ended()
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from typing import Any, Protocol

from jobify.exceptions import TaskExitError
from jobify.runners.function_address import Address
from jobify.runners.job_info import JobInfo
from jobify.runtime.untrusted_exceptions import call_guarded, is_plain, type_name

__all__ = ("Call", "Runner", "contained")


class Call:
    """One call of a task's function, and whether any of it still runs. Used once, in one event loop.

    ``address`` is needed by the process runners only, and ``job_info`` is for them: the job that the call carries out.
    ``on_message`` is called on the event loop with each value that the function, in a child process, gives to
    :func:`jobify.runners.child.send`; if it returns something to await, the next one is taken after that.
    """

    __slots__ = (
        "_over",
        "address",
        "args",
        "func",
        "job_info",
        "kwargs",
        "misfit",
        "on_begin",
        "on_message",
        "refusal",
        "stop",
    )

    def __init__(
        self,
        func: Callable[..., Any],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        address: Address | None = None,
        job_info: JobInfo | None = None,
        on_message: Callable[[Any], Awaitable[None] | None] | None = None,
    ) -> None:
        self.func = func
        self.args = args
        self.kwargs = kwargs or {}
        self.address = address
        self.job_info = job_info
        self.on_message = on_message
        self.stop = threading.Event()
        """Set when the call is interrupted or its runner stops; a function in a thread may check it or wait on it."""
        self.on_begin: Callable[[], object] | None = None
        """Called when the function may begin."""
        self.refusal: str | None = None
        """The resource that the system has refused, set by runners: the call has not begun and is made again later."""
        self.misfit: str | None = None
        """Why the call does not fit the code in a child process, for runners to set: nothing of the function has
        run."""
        self._over: asyncio.Future[None] | None = None

    def __repr__(self) -> str:
        return f"<Call {getattr(self.func, '__qualname__', self.func)}>"

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop in which it has begun."""
        return None if self._over is None else self._over.get_loop()

    @property
    def is_running(self) -> bool:
        return self._over is not None and not self._over.done()

    async def ended(self) -> None:
        """Return when no code of the function runs any more; at once if it never began."""
        if self._over is not None:
            await asyncio.shield(self._over)

    def begin(self) -> None:
        """For runners: from here on, the function may be running."""
        self._over = asyncio.get_running_loop().create_future()
        if self.on_begin is not None:
            self.on_begin()

    def end(self) -> None:
        """For runners: nothing of the function runs any more. Saying it twice is harmless."""
        if self._over is not None and not self._over.done():
            self._over.set_result(None)


class Runner(Protocol):
    """Runs calls in one run mode. The module describes the rules."""

    @property
    def slots(self) -> int:
        """How many calls it carries at once. More are accepted, and wait for a slot in order."""
        ...

    async def start(self) -> None:
        """Get ready in the running event loop. A second start is harmless; after ``stop`` it may be another loop."""
        ...

    async def stop(self) -> None:
        """Interrupt running calls and release its resources, without ever blocking the event loop."""
        ...

    def unfinished(self) -> Mapping[Call, Future[Any]]:
        """The calls that it could not stop, each with what is done when nothing of its function runs any more, whatever
        becomes of the event loop. Call it after ``stop``."""
        ...

    def extend(self, count: int) -> None:
        """Carry ``count`` more calls at once (or fewer, if it is negative): so many of those at work wait for others to
        be made."""
        ...

    async def run(self, call: Call) -> Any:
        """Run ``call``: returns its value or raises its exception."""
        ...


def contained(error: BaseException) -> Exception:
    """``error`` as an exception that fails an attempt and nothing else.

    An ``Exception`` is returned as it is. What would end a loop or a process is wrapped, and so is StopIteration, which
    no coroutine can raise.
    """
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    name = call_guarded(lambda: repr(error), type_name(error)) if not is_plain(error) else repr(error)
    wrapper = TaskExitError(f"The task raised {name}. Raise an ordinary exception to fail, or return to succeed.")
    wrapper.__cause__ = error
    return wrapper
