"""One child process as the parent sees it: started, used for calls, killed, and known to be dead at once.

Requests and replies go over a socket pair of this child alone, on the event loop; a thread that sleeps in the kernel
waits for the end of the process. The process leads a session of its own, so that one signal reaches
it and the subprocesses of its task, and nothing else. What a job has started outside of that session is known by the
mark of the child (:mod:`jobify.runners.descendants`), and is killed when the child has died over the job.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, suppress
from multiprocessing import spawn
from typing import Any, Final, NamedTuple, TypeAlias

from jobify.exceptions import ProcessDiedError, ProcessStartError
from jobify.model.tracebacks import RemoteTraceback
from jobify.model.transient import TransientStartError, refusal_of
from jobify.runners import descendants, protocol
from jobify.runners.connection import ChildConnection
from jobify.runners.function_address import main_script
from jobify.runners.log_channel import open_channel
from jobify.runners.log_receiving import RecordReceiver, current_levels, levels_request
from jobify.runtime.folder import first_folder
from jobify.runtime.logs import get_logger
from jobify.runtime.signals import describe_exit

__all__ = ("ChildProcess", "Renewal", "StartDeathError")

log = get_logger("jobify.runners")

_BOOT: Final = "import sys; sys.path[:] = {path!r}; from jobify.runners.child import main; main{args}"

OnMessage: TypeAlias = Callable[[Any], Awaitable[None] | None]
"""See :class:`~jobify.runners.base.Call`."""


class StartDeathError(ProcessStartError):
    """The process died while it started. Its death does not show whether it was killed or can never start."""


class Renewal(NamedTuple):
    """When a child is replaced; None means never."""

    max_calls: int | None = None
    max_memory: int | None = None
    """Bytes of its resident memory after a call."""


class ChildProcess:
    """One child. It makes one call at a time; ``dead`` is done, with the exit code, when the process is gone."""

    def __init__(self, name: str, renewal: Renewal | None = None) -> None:
        """Start the process, without waiting until it is ready. OSError or RuntimeError if the system refuses."""
        self.name = name
        self.calls = 0
        self._renewal = renewal or Renewal()
        self._is_too_large = False
        self._loop = asyncio.get_running_loop()
        self.dead: asyncio.Future[int] = self._loop.create_future()
        self._is_leaving = False
        self._is_killed = False
        self._is_answering = True  # until it is prepared, or given up
        self._connection: ChildConnection | None = None
        self._mark = descendants.new_mark()
        self._job_began = 0
        """When the call began that it makes or has died over, in nanoseconds since the system's start."""
        self._starts_processes = False
        with ExitStack() as undo, ExitStack() as theirs:
            self._socket, connection = socket.socketpair()
            undo.callback(self._socket.close)
            theirs.callback(connection.close)
            records, sender = open_channel()
            undo.callback(records.close)
            theirs.callback(sender.close)
            parent_pipe, self._parent_pipe = os.pipe()
            undo.callback(os.close, self._parent_pipe)
            theirs.callback(os.close, parent_pipe)
            self._levels = current_levels()
            self._receiver = RecordReceiver(records, name)
            self._process = _launch((connection.fileno(), parent_pipe, sender.fileno()), self._mark)
            undo.pop_all()  # from here on they belong to the process
        self._start_watching()

    async def prepare(self, module: str) -> None:
        """Return when the child can run calls, with ``module`` imported. ProcessStartError if it cannot."""
        self._connection = await ChildConnection.open(self._socket)
        try:
            data = {
                "spawn": _preparation(self.name),
                "module": module,
                "folder": first_folder(),
                "max_memory": self._renewal.max_memory,
                "levels": self._levels,
            }
            reply = await self._request(pickle.dumps(data), None)
            if reply[:1] == protocol.BROKEN:
                protocol.outcome(reply)
        except ProcessDiedError as error:
            reason = f"A child process ended before it was ready to run tasks: {_describe(error.exit_code)}."
            raise StartDeathError(error.exit_code, f"{reason} Its standard error may say why.") from None
        except Exception as error:
            refusal = refusal_of(error)
            if refusal is not None:
                raise TransientStartError(None, f"A child process cannot get ready: {refusal}.") from error
            reason = f"A child process could not import the main script: {type(error).__name__}: {error}"
            raise ProcessStartError(None, reason) from RemoteTraceback.of(error)

    async def perform(self, request: bytes, on_message: OnMessage | None = None) -> bytes:
        """The reply to a call. ProcessDiedError if the child dies over it, with all that the call has started."""
        levels = current_levels()
        if levels is not self._levels:
            self._levels = levels
            await self._request(levels_request(levels), None)
        self._job_began = descendants.boot_time_ns()
        if self._starts_processes:
            _update_sweeper(self._mark, self._job_began)
        reply = await self._request(request, on_message)
        self._job_began = 0
        if self._starts_processes:
            _update_sweeper(self._mark, 0)
        return reply

    async def _request(self, request: bytes, on_message: OnMessage | None) -> bytes:
        assert self._connection is not None
        self._is_answering = True
        try:
            self._connection.send(request)
            while reply := await self._connection.receive():
                if reply[:1] == protocol.TOO_LARGE:
                    self._is_too_large = True
                    continue
                if reply[:1] == protocol.STARTS:
                    self._starts_processes = True
                    _update_sweeper(self._mark, self._job_began)
                    continue
                if reply[:1] == protocol.LOGGED:
                    await self._receiver.wait_for_barrier()
                    continue
                if reply[:1] != protocol.MESSAGE:
                    return reply
                handled = _handle_message(on_message, reply[1:])
                if handled is not None:  # backpressure: nothing more is read, so that the child waits
                    await handled
            raise await self._death_error()
        finally:
            self._is_answering = False
            if self.dead.done():
                self._close_connection()

    @property
    def is_spent(self) -> bool:
        """Whether it is to be replaced."""
        limit = self._renewal.max_calls
        return self._is_too_large or (limit is not None and self.calls >= limit)

    def leave(self) -> None:
        """Close the connection, so that an idle child ends by itself."""
        self._is_leaving = True
        self._close_connection()

    def kill(self) -> None:
        """SIGKILL to the child and to what its task started. Returns at once; ``dead`` follows when all are gone."""
        self._is_killed = True
        self._end_group()

    async def _death_error(self) -> ProcessDiedError:
        """The error for a missing reply. A child that still lives is useless and is killed."""
        is_killed = self._is_killed
        self._end_group()
        code = await asyncio.shield(self.dead)
        reason = "its runner was stopped" if is_killed else _describe(code)
        return ProcessDiedError(code, f"The child process that ran the task died: {reason}.")

    def _end_group(self) -> None:
        if not self.dead.done():
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def _start_watching(self) -> None:
        try:
            self._receiver.start()
            threading.Thread(target=self._watch, name=f"{self.name}-watch", daemon=True).start()
        except (RuntimeError, MemoryError):  # the system has no thread left
            self._is_answering = False
            self._receiver.stop()
            self._on_death()
            raise

    def _watch(self) -> None:
        """In its own thread: wait for the end of the process.

        It is not reaped until the event loop knows of its end, so that no signal can reach another process with the
        same number. What its job has started outside of its group is killed here, because the search takes a while.
        """
        if hasattr(os, "waitid"):
            with suppress(ChildProcessError):  # the program reaps all children, in a handler of its own
                os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        else:
            self._process.wait()
        if began := self._job_began:
            with suppress(OSError):
                descendants.end_descendants(self._mark, began)
        self._receiver.finish()
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._on_death)

    def _on_death(self) -> None:
        if not self._is_leaving:
            self._end_group()  # the subprocesses that it leaves behind
        if self._starts_processes:
            _update_sweeper(self._mark, 0)
        self.dead.set_result(self._process.wait())
        os.close(self._parent_pipe)
        if self._is_answering:
            # Its last messages are still read; then comes the end, even if another process holds its socket.
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RD)
        else:
            self._close_connection()

    def _close_connection(self) -> None:
        if self._connection is not None:
            self._connection.close()
        else:
            self._socket.close()


def _update_sweeper(mark: int, began: int) -> None:
    """Update the sweeper with the start of the job of a child (0 means it is over); start a sweeper if needed."""
    global _sweeper
    with _sweeper_lock:
        if (_sweeper is not None and _sweeper.update(mark, began)) or not began:
            return
        try:
            _sweeper = descendants.Sweeper(spawn.get_executable())
            _sweeper.update(mark, began)
        except (OSError, MemoryError) as error:
            log.warning("If this process is killed, processes that its jobs have started go on: %s", error)


_sweeper: descendants.Sweeper | None = None
_sweeper_lock = threading.Lock()


def _launch(descriptors: tuple[int, ...], mark: int) -> subprocess.Popen[bytes]:
    """Start this interpreter with the same flags and import path, in a session of its own, with ``descriptors``."""
    path = [entry or os.getcwd() for entry in sys.path]
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # as multiprocessing does
    boot = _BOOT.format(path=path, args=(*descriptors, os.getpid(), mark))
    return subprocess.Popen(
        [spawn.get_executable(), *flags, "-c", boot],
        stdin=subprocess.DEVNULL,
        pass_fds=descriptors,
        start_new_session=True,
    )


def _preparation(name: str) -> dict[str, Any]:
    """What :func:`multiprocessing.spawn.prepare` wants to know, as far as it concerns a child of ours."""
    data: dict[str, Any] = {"name": name, "sys_argv": sys.argv}
    spec, path = getattr(sys.modules["__main__"], "__spec__", None), main_script()
    if spec is not None:
        data["init_main_from_name"] = spec.name
    elif path is not None:
        data["init_main_from_path"] = os.path.abspath(path)
    return data


def _handle_message(on_message: OnMessage | None, body: bytes) -> Awaitable[None] | None:
    """Handle a message; returns what to await before the next one. A failure does not fail the task that sent it."""
    try:
        return None if on_message is None else on_message(protocol.decode(body))
    except Exception:
        log.exception("A message from a child process was lost")
        return None


def _describe(code: int | None) -> str:
    return describe_exit(code, kill_cause="probably out of memory")
