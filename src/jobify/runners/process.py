"""Runs plain functions in child processes: for work that keeps a processor busy, or must be possible to kill.

Two runners. :class:`ProcessRunner` has a pool of its own (:mod:`jobify.runners.pool`): an interrupted call is killed,
at once and alone; a child that dies costs the call that it ran and nothing else. :class:`ExecutorProcessRunner` uses a
:class:`concurrent.futures.ProcessPoolExecutor` that the user gave: that one cannot kill a single process, so that an
interrupted call goes on and keeps its slot, as in a thread, and the death of one process breaks it for good.

In both, functions travel as their address, arguments and results as pickles; an exception arrives as what it was, with
the child's traceback as its cause.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from functools import partial
from typing import Any, TypeAlias

from jobify.exceptions import ApplicationStateError, ConfigurationError, ProcessDiedError, shown
from jobify.model.transient import TransientStartError, refusal_of
from jobify.runners import child, protocol
from jobify.runners.base import FunctionCall, OnEnd
from jobify.runners.childprocess import Renewal
from jobify.runners.executor_thread import await_future
from jobify.runners.function_address import Address, process_address
from jobify.runners.pool import ChildPool
from jobify.runners.queued_call import QueuedCall
from jobify.runtime.machine import available_cpus

__all__ = ("ExecutorProcessRunner", "ProcessRunner")

_End: TypeAlias = tuple[Any, BaseException | None]


class ProcessRunner:
    """Calls functions in ``slots`` children (default: as many as there are processors for this process)."""

    def __init__(self, *, slots: int | None = None, renewal: Renewal | None = None) -> None:
        self.slots = slots or available_cpus()
        self._renewal = renewal or Renewal()
        self._pool: ChildPool | None = None

    async def start(self) -> None:
        """Make ready; children are started when calls need them. ApplicationStateError inside a child."""
        child.ensure_not_importing()
        if getattr(sys, "frozen", False):
            raise ConfigurationError(
                "A frozen program cannot start child processes for tasks. Use run_mode='thread', or give the app a "
                "processpool_executor."
            )
        if self._pool is None or self._pool.loop is not asyncio.get_running_loop():
            self._pool = ChildPool(self.slots, self._renewal)

    async def stop(self) -> None:
        """Kill what runs, let idle children end, and return when they are gone."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.close()

    def unfinished(self) -> Mapping[FunctionCall, Future[Any]]:
        return {}

    def extend(self, count: int) -> None:
        if self._pool is not None:
            self._pool.extend(count)

    def submit(self, call: FunctionCall, on_end: OnEnd) -> None:
        """Have a child make ``call``. Short calls are sent to a child ahead of their turn."""
        try:
            queued = QueuedCall(call, on_end)
            if self._pool is None:
                raise _not_ready("it is not started.", "Start the app first.")
        except Exception as error:
            asyncio.get_running_loop().call_soon(on_end, call, None, error)
            return
        call.queued = queued
        self._pool.submit(queued)

    def withdraw(self, call: FunctionCall) -> bool:
        """Take back ``call``, if no child has begun it."""
        if call.queued is None or self._pool is None or not self._pool.withdraw(call.queued):
            return False
        call.queued = None
        return True

    def interrupt(self, call: FunctionCall) -> None:
        """Take back ``call``, or kill the child that makes it, and no other."""
        if call.queued is not None and self._pool is not None:
            self._pool.interrupt(call.queued)

    async def run(self, call: FunctionCall) -> Any:
        ended: asyncio.Future[_End] = asyncio.get_running_loop().create_future()
        self.submit(call, partial(_set_end, ended))
        try:
            value, error = await ended
        except BaseException:
            self.interrupt(call)
            raise
        if error is None:
            return value
        try:
            raise error
        finally:
            del error, ended  # they would keep this frame alive, which its traceback holds


def _set_end(ended: asyncio.Future[_End], _call: FunctionCall, value: Any, error: BaseException | None) -> None:
    if not ended.done():
        ended.set_result((value, error))


class ExecutorProcessRunner:
    """Calls functions in the user's own ``executor``, which is never shut down."""

    def __init__(self, executor: ProcessPoolExecutor) -> None:
        self.slots: int = getattr(executor, "_max_workers", None) or available_cpus()
        self._executor = executor
        self._calls: dict[FunctionCall, Future[Any]] = {}

    async def start(self) -> None:
        child.ensure_not_importing()

    async def stop(self) -> None:
        """Nothing: the executor belongs to the user."""

    def unfinished(self) -> Mapping[FunctionCall, Future[Any]]:
        return dict(self._calls)

    def extend(self, count: int) -> None:
        """Nothing: the executor belongs to the user, and its processes do not report that they wait."""

    async def run(self, call: FunctionCall) -> Any:
        _, request = _request(call)
        try:
            future = self._calls[call] = self._submit(request, call)
            future.add_done_callback(lambda _: self._calls.pop(call, None))
            reply = await await_future(future, call)
        except BrokenExecutor as error:
            raise ProcessDiedError(
                None,
                f"A process of the app's processpool_executor died, and with it the whole executor ({error}). Make a "
                "new one; or give none, and Jobify's own pool replaces just the process that died.",
            ) from error
        except RuntimeError as error:
            raise _not_ready(f"{error}.", "Give the app an executor that works, or none.") from error
        return _outcome(reply, call)

    def _submit(self, request: bytes, call: FunctionCall) -> Future[bytes]:
        try:
            return self._executor.submit(child.perform, request)
        except (RuntimeError, OSError, MemoryError) as error:
            call.refusal = refusal_of(error)
            _cancel_queued(self._executor, request)
            if call.refusal is None:
                raise
            raise TransientStartError(None, f"The executor starts no process: {call.refusal}.") from error


def _cancel_queued(executor: ProcessPoolExecutor, request: bytes) -> None:
    """Cancel a call that an executor has refused with an error, because it is in its queue nevertheless."""
    for item in list(getattr(executor, "_pending_work_items", {}).values()):
        if item.args and item.args[0] is request:
            item.future.cancel()


def _request(call: FunctionCall) -> tuple[Address, bytes]:
    address = call.address or process_address(call.func)
    return address, protocol.encode_request(protocol.Request(address, call.args, call.kwargs, call.job_info))


def _outcome(reply: bytes, call: FunctionCall) -> Any:
    try:
        return protocol.outcome(reply)
    except BaseException as error:
        if reply[:1] == protocol.MISFIT:
            call.misfit = shown(error)
        raise


def _not_ready(reason: str, solution: str) -> ApplicationStateError:
    return ApplicationStateError(operation="run a task in a process", reason=reason, solution=solution)
