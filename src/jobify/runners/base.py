"""The port of the runners: how a call of a task's function is run, interrupted and known to have ended.

A call is made in one of two ways. :meth:`Runner.run` is awaited by a task, and returns what the function returns or
raises what it raises. :meth:`DirectRunner.submit` needs no task: it reports the end to a callback, and calls that are
short share the hops to a thread or a child and back. Four rules hold for every runner:

*An interruption* is a cancel of the task that awaits :meth:`Runner.run`, which ends with ``CancelledError`` at once, or
:meth:`DirectRunner.interrupt`. What it can do differs: a coroutine gets the ``CancelledError``; a child process is
killed; a thread cannot be stopped from outside, so the call is only requested to stop, and goes on until its function
returns.

*The outcome is not the end of the call.* As long as any code of the function may still run, ``call.is_running``
is true, and ``await call.ended()`` waits for the end. The engine waits for it before it gives the slot to another call
or starts another attempt of the job, so that a job never overlaps itself, however often it times out.

*What the system refuses* (a process, a thread) is no error of the function: the runner sets ``call.refusal`` before it
raises, and the call has not begun.

*An error stays an error of the attempt.* Out of a thread or a process only subclasses of ``Exception`` are raised:
``sys.exit()`` in a task is a :class:`~jobify.exceptions.TaskExitError`, not the end of the loop.

::

    call = FunctionCall(func, args, kwargs)
    try:
        async with asyncio.timeout(2):
            value = await runner.run(call)
    finally:
        await call.ended()
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from contextvars import Context
from typing import Any, Protocol, TypeAlias, runtime_checkable

from jobify.exceptions import TaskExitError
from jobify.runners.function_address import Address
from jobify.runners.job_info import JobInfo
from jobify.runtime.errortools import call_guarded, is_plain, type_name

__all__ = ("CallMaker", "DirectRunner", "FunctionCall", "LoopRunner", "OnEnd", "Runner", "contained")


class FunctionCall:
    """One call of a task's function, and whether any of it still runs. Used once, in one event loop.

    ``address`` is needed by the process runners only, and ``job_info`` is for them: the job that the call carries out.
    ``on_message`` is called on the event loop with each value that the function, in a child process, gives to
    :func:`jobify.runners.child.send`; if it returns something to await, the next one is taken after that.
    """

    __slots__ = (
        "_ended",
        "_turn",
        "address",
        "args",
        "context",
        "func",
        "has_returned",
        "is_running",
        "is_stop_requested",
        "job_info",
        "kwargs",
        "loop",
        "misfit",
        "on_begin",
        "on_message",
        "on_return",
        "queued",
        "refusal",
        "seconds",
        "tag",
        "whole",
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
        self.context: Context | None = None
        """The context variables that the function sees in a thread. None means those of the code that makes the
        call."""
        self.tag: Any = None
        """Whatever the caller wants to find again in ``on_begin`` and ``on_end``."""
        self.on_begin: Callable[[FunctionCall], object] | None = None
        """Called once, when the function begins: in a thread, on that thread and in ``context``; for a child process,
        on the event loop, before an idle child is sent the call, or when a child that was sent it ahead has replied to
        the call before."""
        self.is_stop_requested = False
        """Whether the call was interrupted, or its runner has stopped; a function in a thread may read it."""
        self.refusal: str | None = None
        """The resource that the system has refused, set by runners: the call has not begun and is made again later."""
        self.misfit: str | None = None
        """Why the call does not fit the code in a child process, for runners to set: nothing of the function has
        run."""
        self.seconds: float | None = None
        """How long the function took, set by runners that know."""
        self.whole: FunctionCall | None = None
        """The call that it is a part of, with the calls of other jobs. None: it is made by itself."""
        self.queued: Any = None
        """What its runner keeps of it while it is submitted."""
        self.loop: asyncio.AbstractEventLoop | None = None
        """The event loop in which it is made; None before."""
        self.is_running = False
        """Whether any code of the function may be running, set by runners. A call that waits for a thread counts, until
        it is withdrawn."""
        self.has_returned = False
        """Whether the function has returned; set in its thread, before the event loop learns of it."""
        self.on_return: Callable[[], object] | None = None
        """Called in the thread when the function has returned."""
        self._turn = threading.Lock()
        self._ended: asyncio.Future[None] | None = None

    def __repr__(self) -> str:
        return f"<FunctionCall {getattr(self.func, '__qualname__', self.func)}>"

    async def ended(self) -> None:
        """Return when no code of the function runs any more; at once if it never began."""
        if not self.is_running:
            return
        if self._ended is None:
            self._ended = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._ended)

    def take_turn(self) -> bool:
        """True for the first who asks, on any thread: the one who is going to begin the call, or who withdraws it."""
        return self._turn.acquire(blocking=False)

    def begin(self) -> None:
        """For runners: from here on, the function may be running."""
        if self.loop is None:
            self.loop = asyncio.get_running_loop()
        self.is_running = True
        if self.on_begin is not None:
            on_begin, self.on_begin = self.on_begin, None
            on_begin(self)

    def end(self) -> None:
        """For runners, on the event loop: nothing of the function runs any more, or it was taken back before it began,
        and may begin later. Saying it twice is harmless."""
        self.is_running = False
        if self._ended is not None:
            ended, self._ended = self._ended, None
            if not ended.done():
                ended.set_result(None)

    def release(self) -> None:
        """Release what it holds of its caller, once nothing of it runs."""
        self.tag = self.on_begin = self.on_message = self.context = None


class CallMaker(Protocol):
    """What makes calls."""

    def unfinished(self) -> Mapping[FunctionCall, Future[Any]]:
        """The calls that it could not stop, each with what is done when nothing of its function runs any more, whatever
        becomes of the event loop. Call it after ``stop``."""
        ...


class Runner(CallMaker, Protocol):
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

    def extend(self, count: int) -> None:
        """Carry ``count`` more calls at once (or fewer, if it is negative): so many of those at work wait for others to
        be made."""
        ...

    async def run(self, call: FunctionCall) -> Any:
        """Run ``call``: returns its value or raises its exception."""
        ...


OnEnd: TypeAlias = Callable[[FunctionCall, Any, BaseException | None], None]
"""Gets a call, and its value or its contained error."""


@runtime_checkable
class DirectRunner(Runner, Protocol):
    """A runner that makes calls without a task for each, in the order in which they were submitted."""

    def submit(self, call: FunctionCall, on_end: OnEnd) -> None:
        """Make ``call`` as soon as there is room. Never raises.

        ``on_end`` is called once, on the event loop, after ``call.end()``. What the system refuses arrives as an error
        with ``call.refusal``.
        """
        ...

    def withdraw(self, call: FunctionCall) -> bool:
        """Take back a submitted call that has not begun: it never begins, and ``on_end`` is not called.

        False if it has begun, or has ended.
        """
        ...

    def interrupt(self, call: FunctionCall) -> None:
        """Interrupt a submitted call that has begun; ``on_end`` is not called any more. ``call.ended()`` returns when
        nothing of it runs."""
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


# -- loop --------------------------------------------------------------------------------------------------------------
# Runs coroutines in the task that awaits them, without a step in between.


class LoopRunner:
    """Awaits the function on the running event loop. An interruption is the ``CancelledError`` inside it.

    ``slots`` bounds nothing here; it is what the engine may have in flight. Owning nothing, it has nothing to start.
    """

    def __init__(self, slots: int) -> None:
        self.slots = slots

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def unfinished(self) -> Mapping[FunctionCall, Future[Any]]:
        return {}

    def extend(self, count: int) -> None:
        """Coroutines need no slots."""

    async def run(self, call: FunctionCall) -> Any:
        value = call.func(*call.args, **call.kwargs)
        return await value if inspect.isawaitable(value) else value
