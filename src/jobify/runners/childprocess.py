"""One child process as the parent sees it: started, used for calls, killed, and known to be dead at once.

Requests and replies go over sockets of this child alone, on the event loop; a thread that sleeps in the kernel waits
for the end of the process. Calls may be sent ahead of their turn. The child begins one when it has sent the reply to
the one before, so the first call without a reply is the one at work, and those behind it can be taken back
(:mod:`jobify.runners.protocol`): a kill or a death costs one call. The process leads a session of its own, so that one
signal reaches it and the subprocesses of its task, and nothing else. What a job has started outside of that session is
known by the mark of the child (:mod:`jobify.runners.descendants`), and is killed when the child has died over the job.
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
from multiprocessing import spawn as mp_spawn
from typing import Any, Final, NamedTuple, TypeAlias

from jobify.exceptions import ProcessDiedError, ProcessStartError
from jobify.model.tracebacks import RemoteTraceback
from jobify.model.transient import TransientStartError, refusal_of
from jobify.runners import descendants, protocol
from jobify.runners.connection import ChildConnection, RequestPackets
from jobify.runners.function_address import main_script
from jobify.runners.log_channel import RecordReceiver, open_channel
from jobify.runners.queued_call import QueuedCall, SentCalls
from jobify.runtime.folder import first_folder
from jobify.runtime.logs import get_logger
from jobify.runtime.signals import describe_exit
from jobify.runtime.spawn import spawn

__all__ = ("ChildProcess", "Renewal", "StartDeathError")

log = get_logger("jobify.runners")

_BOOT: Final = "import sys; sys.path[:] = {path!r}; from jobify.runners.child import main; main{args}"

_CATCH_UP_TIMEOUT: Final = 1.0
"""Seconds that the search for what a dead child has started waits for the event loop, to know when its call began."""

OnMessage: TypeAlias = Callable[[Any], Awaitable[None] | None]
"""See :class:`~jobify.runners.base.FunctionCall`."""


class StartDeathError(ProcessStartError):
    """The process died while it started. Its death does not show whether it was killed or can never start."""


class Renewal(NamedTuple):
    """When a child is replaced; None means never."""

    max_calls: int | None = None
    max_memory: int | None = None
    """Bytes of its resident memory after a call."""


class ChildProcess:
    """One child. It makes one call at a time; ``dead`` is done, with the exit code, when the process is gone.

    The three callbacks are its pool's: some calls have ended, or it can take more; calls are returned that it has not
    begun, because it is dead; how long a call took.
    """

    def __init__(
        self,
        name: str,
        renewal: Renewal | None = None,
        *,
        on_progress: Callable[[ChildProcess], None] = lambda _: None,
        on_returned: Callable[[list[QueuedCall]], None] = lambda _: None,
        on_duration: Callable[[QueuedCall, int], None] = lambda *_: None,
    ) -> None:
        """Start the process, without waiting until it is ready. OSError or RuntimeError if the system refuses."""
        self.name = name
        self.calls = 0
        self._renewal = renewal or Renewal()
        self._on_progress = on_progress
        self._on_returned = on_returned
        self._on_duration = on_duration
        self._is_too_large = False
        self._loop = asyncio.get_running_loop()
        self.dead: asyncio.Future[int] = self._loop.create_future()
        self._is_leaving = False
        self.is_killed = False
        self._prepared: asyncio.Future[bytes] = self._loop.create_future()
        self._waiting: asyncio.Future[None] | None = None
        """What has to be done before more of what the child has sent is handled."""
        self._mark = descendants.new_mark()
        self._starts_processes = False
        with ExitStack() as undo, ExitStack() as theirs:
            ours, connection = socket.socketpair()
            undo.callback(ours.close)
            theirs.callback(connection.close)
            self._packets = RequestPackets()
            undo.callback(self._packets.close)
            records, sender = open_channel()
            undo.callback(records.close)
            theirs.callback(sender.close)
            parent_pipe, self._parent_pipe = os.pipe()
            undo.callback(os.close, self._parent_pipe)
            theirs.callback(os.close, parent_pipe)
            self._connection = ChildConnection(ours, self._handle)
            self.sent = SentCalls(self._connection, self._packets, self._on_begin)
            self._receiver = RecordReceiver(records, name)
            descriptors = (connection.fileno(), self._packets.fileno(), parent_pipe, sender.fileno())
            self._process = _launch(descriptors, self._mark)
            undo.pop_all()  # from here on they belong to the process
        self._start_watching()

    async def prepare(self, module: str) -> None:
        """Return when the child can run calls, with ``module`` imported. ProcessStartError if it cannot."""
        await self._connection.open()
        data = {
            "spawn": _preparation(self.name),
            "module": module,
            "folder": first_folder(),
            "max_memory": self._renewal.max_memory,
            "levels": self.sent.levels,
        }
        try:
            self._connection.send(pickle.dumps(data))
            reply = await self._prepared
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

    # -- calls ---------------------------------------------------------------------------------------------------------

    def send(self, queued: QueuedCall) -> bool:
        """Send a call, which begins when the child has made those that it was sent before. False if that is not
        possible now; a child that takes nothing although it has nothing to do is killed."""
        try:
            is_sent = self.sent.send(queued, self)
        except OSError:  # the child has closed its end
            is_sent = False
            self.kill()
        if not is_sent and not self.sent.calls:
            self.kill()
        return is_sent

    def can_take(self, queued: QueuedCall, now: int) -> bool:
        """Whether a call may be sent ahead of its turn."""
        if self.is_killed or self.is_spent:
            return False
        limit, sent = self._renewal.max_calls, self.sent
        return (limit is None or self.calls + len(sent.calls) < limit) and sent.can_take(queued, now)

    def take_back(self) -> list[QueuedCall]:
        """Take back the calls that it has not begun, in their order."""
        taken = self.sent.take_back()
        if taken and not self.sent.calls:
            self._loop.call_soon(self._on_progress, self)  # it is idle
        return taken

    def interrupt(self, queued: QueuedCall) -> None:
        """End a call that was sent and cannot be taken back: kill the child, unless the call is over.

        To be called after :meth:`take_back`, so that the child can be at no other call.
        """
        queued.begin()
        queued.forget()
        if not self.sent.has_reply(queued):
            self.kill()
        if queued is self.sent.calls[0] and self._waiting is not None:
            self._waiting.cancel()
        self._handle()

    # -- what it sends -------------------------------------------------------------------------------------------------

    def _handle(self) -> None:
        """Handle what has arrived, in order, until something has to be waited for."""
        connection = self._connection
        self.sent.update_began_at()
        while connection.inbox and self._waiting is None:
            ended_at, payload = connection.take()
            if ended_at:
                self._end_call(ended_at, payload)
            else:
                self._handle_other(payload)
        if connection.is_over and not connection.inbox and self._waiting is None:
            self._handle_end()
        else:
            self._on_progress(self)

    def _end_call(self, ended_at: int, reply: bytes) -> None:
        queued, duration = self.sent.end_first(ended_at)
        self.calls += queued.is_counted
        self._on_duration(queued, duration)
        queued.end(reply, duration)
        self.sent.begin_first()

    def _handle_other(self, payload: bytes) -> None:
        kind = payload[:1]
        if kind == protocol.MESSAGE:
            self._wait_for(_handle_message(self.sent.calls[0].on_message, payload[1:]) if self.sent.calls else None)
        elif kind == protocol.LOGGED:
            self._wait_for(None if self._receiver.expect_barrier() else self._receiver.wait_for_barrier())
        elif kind == protocol.STARTS:
            self._starts_processes = True
            self._on_begin(self.sent.began_at)
        elif kind == protocol.TOO_LARGE:
            self._is_too_large = True
        elif not self._prepared.done():
            self._prepared.set_result(payload)

    def _wait_for(self, step: Awaitable[None] | None) -> None:
        """Handle nothing more until ``step`` is done: the child waits when the socket is full."""
        if step is not None:
            self._waiting = spawn(_completed(step))
            self._waiting.add_done_callback(self._go_on)

    def _go_on(self, _: object) -> None:
        self._waiting = None
        self._handle()

    def _handle_end(self) -> None:
        """There is nothing more to come."""
        if not self.dead.done():  # it has closed the connection, and is of no use
            if not self._is_leaving:
                self._end_group()
            return
        self._connection.close()
        code = self.dead.result()
        reason = "its runner was stopped" if self.is_killed else _describe(code)
        error = ProcessDiedError(code, f"The child process that ran the task died: {reason}.")
        if not self._prepared.done():
            self._prepared.set_exception(error)
            self._prepared.exception()  # it is known, whether or not it is still waited for
        self.sent.fail(error)

    # -- its end -------------------------------------------------------------------------------------------------------

    @property
    def is_spent(self) -> bool:
        """Whether it is to be replaced."""
        limit = self._renewal.max_calls
        return self._is_too_large or (limit is not None and self.calls >= limit)

    def leave(self) -> None:
        """Close the connection, so that an idle child ends by itself."""
        self._is_leaving = True
        self._packets.close()
        self._connection.close()

    def kill(self) -> None:
        """SIGKILL to the child and to what its task started. Returns at once; ``dead`` follows when all are gone."""
        self.is_killed = True
        self._end_group()

    def _end_group(self) -> None:
        if not self.dead.done():
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def _start_watching(self) -> None:
        try:
            self._receiver.start()
            threading.Thread(target=self._watch, name=f"{self.name}-watch", daemon=True).start()
        except (RuntimeError, MemoryError):  # the system has no thread left
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
        caught_up = threading.Event()
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._catch_up, caught_up)
            caught_up.wait(_CATCH_UP_TIMEOUT)
        if began_at := self.sent.began_at:
            with suppress(OSError):
                descendants.end_descendants(self._mark, began_at)
        self._receiver.finish()
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._on_death)

    def _catch_up(self, done: threading.Event) -> None:
        """Read which call was the last one to begin."""
        self._connection.read_all()
        self.sent.update_began_at()
        done.set()

    def _on_begin(self, began_at: int) -> None:
        if self._starts_processes:
            _update_sweeper(self._mark, began_at)

    def _on_death(self) -> None:
        if not self._is_leaving:
            self._end_group()  # the subprocesses that it leaves behind
        if self._starts_processes:
            _update_sweeper(self._mark, 0)
        self.dead.set_result(self._process.wait())
        os.close(self._parent_pipe)
        self._connection.finish()
        returned = self.sent.take_back(is_dead=True)
        self._packets.close()
        self._handle()
        self._on_returned(returned)


def _update_sweeper(mark: int, began: int) -> None:
    """Update the sweeper with the start of the job of a child (0 means it is over); start a sweeper if needed."""
    global _sweeper
    with _sweeper_lock:
        if (_sweeper is not None and _sweeper.update(mark, began)) or not began:
            return
        try:
            _sweeper = descendants.Sweeper(mp_spawn.get_executable())
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
        [mp_spawn.get_executable(), *flags, "-c", boot],
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


async def _completed(step: Awaitable[None]) -> None:
    """Await ``step``; a failure does not fail the task that sent the message."""
    try:
        await step
    except Exception:
        log.exception("A message from a child process was lost")


def _describe(code: int | None) -> str:
    return describe_exit(code, kill_cause="probably out of memory")
