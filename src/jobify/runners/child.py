"""The program of a child process: prepare, report ready, make one call after the other, end with the parent.

The main thread takes the requests and makes the calls, one at a time: it takes the next one when it has sent the reply,
so that the parent can take back those that it has not begun (:mod:`jobify.runners.protocol`). A second thread reads
from the stream, so that the end of the connection is noticed while a task runs: the parent has died, and its jobs run
again elsewhere. The child leads a process group of its own; when it is ended in the middle of a task, the subprocesses
of that task go with it, also those that have left the group (:mod:`jobify.runners.descendants`).
"""

from __future__ import annotations

import importlib
import inspect
import os
import pickle
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from multiprocessing import process as mp_process
from multiprocessing import spawn
from queue import SimpleQueue
from typing import Any, Final

from jobify.exceptions import ApplicationStateError, ConfigurationError
from jobify.runners import descendants, protocol
from jobify.runners.function_address import Address, find
from jobify.runners.job_info import JobInfo
from jobify.runners.log_sending import Forwarder
from jobify.runners.parent_death import bind_to_parent, end_group
from jobify.runners.remote_job import current_job_scope
from jobify.runtime.folder import resolving_in
from jobify.runtime.fork import arm, call

__all__ = ("Child", "check", "ensure_not_importing", "main", "perform", "send")

EXIT_GRACE: Final = 1.0
"""Seconds that an idle child has for its exit handlers and its other threads after the parent has closed."""


def main(connection: int, requests: int, parent_pipe: int, records: int, parent: int, mark: int) -> None:
    """Run the child, with four descriptors that it inherited from the process ``parent``."""
    global _forwarder
    for descriptor in (connection, requests, parent_pipe, records):
        os.set_inheritable(descriptor, False)
    descendants.apply_mark(mark)
    bind_to_parent(parent_pipe, parent)
    child = Child(socket.socket(fileno=connection), socket.socket(fileno=requests), on_orphaned=end_group)
    os.register_at_fork(after_in_child=partial(_leave_to_parent, connection, requests, parent_pipe))
    _forwarder = Forwarder(socket.socket(fileno=records))
    _forwarder.install()
    arm()
    if sys.platform == "linux":
        _watch_starts(child)
    child.serve()


def _watch_starts(child: Child) -> None:
    """Report to the parent before the first process is started; audit events of Python announce it."""
    starts, starter = (
        descendants.START_EVENTS,
        descendants.MULTIPROCESSING_MODULE,
    )  # the module is gone when the interpreter ends

    def on_event(event: str, args: tuple[Any, ...]) -> None:
        if event in starts or (event == "import" and args[0] == starter):
            child.announce_processes()

    sys.addaudithook(on_event)


def _leave_to_parent(*descriptors: int) -> None:
    """In a fork: release what connects only the child itself with its parent."""
    global _current
    if _current is not None:
        _current.detach()
        _current = None
        for descriptor in descriptors:
            with suppress(OSError):
                os.close(descriptor)


def send(message: Any) -> bool:
    """From a task in a child process: give ``message`` to the parent's ``on_message``, while the task goes on.

    False without a connection: in the parent, or in an executor of the user.
    """
    if _current is None:
        return False
    _current.send(protocol.encode_message(message))
    return True


def perform(request: bytes) -> bytes:
    """Make one call; its reply, whatever happens."""
    try:
        return protocol.encode_value(call(_perform, request))
    except _Misfit as misfit:
        return protocol.encode_error(misfit.error, protocol.MISFIT)
    except BaseException as error:
        return protocol.encode_error(error)


def _perform(request: bytes) -> Any:
    with importing():
        try:
            (module, name), args, kwargs, job_fields = pickle.loads(request)
        except Exception as error:
            raise _Misfit(error) from error
        job_info = None if job_fields is None else JobInfo(*job_fields)
        if _forwarder is not None:
            _forwarder.begin_call(job_info)
        try:
            func = find(Address(module, name))
        except (ConfigurationError, ModuleNotFoundError) as error:
            raise _Misfit(error) from error
    if _forwarder is not None:
        _forwarder.check_handlers()
    with current_job_scope(job_info, send if _current is not None else None):
        try:
            return func(*args, **kwargs)
        except TypeError as error:
            if error.__traceback__ is not None and error.__traceback__.tb_next is None:  # of the call itself, perhaps
                with suppress(ValueError):  # some functions have no signature
                    _check_arguments(func, args, kwargs)
            raise


def _check_arguments(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    signature = inspect.signature(func)
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        raise _Misfit(error) from error


class _Misfit(Exception):
    """A call does not fit the code of this process, which may be newer than that of its parent."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


def check(addresses: Iterable[Address]) -> None:
    """A call for the child itself: raise what keeps any of the functions from being found here."""
    for address in addresses:
        find(address)


class Child:
    """The child's end of the connection: the stream, and the packets with the requests."""

    def __init__(self, connection: socket.socket, requests: socket.socket, *, on_orphaned: Callable[[], None]) -> None:
        self._connection = connection
        self._requests = requests
        self._on_orphaned = on_orphaned
        self._inbox: SimpleQueue[bytes | None] = SimpleQueue()
        """What has come on the stream; None at its end."""
        self._sending = threading.Lock()
        self._is_busy = False
        self._is_over = False
        """The parent has closed the stream."""
        self._starts_processes = False

    def serve(self) -> None:
        """Reply to the parent until it closes the connection."""
        global _current
        threading.Thread(target=self._receive, name="jobify-parent", daemon=True).start()
        _current = self
        with suppress(OSError):  # the parent has died
            if self._prepare():
                while self._answer():
                    pass
        _current = None

    def detach(self) -> None:
        """Give up the connection without closing it: in this process it is a copy."""
        self._connection.detach()
        self._requests.detach()

    def send(self, payload: bytes) -> None:
        with self._sending:
            self._connection.sendall(protocol.frame(payload))

    def announce_processes(self) -> None:
        """Say that this child starts processes, once."""
        if self._starts_processes or _current is not self:  # in a fork there is none
            return
        if not self._sending.acquire(timeout=1):  # by a signal handler, in the middle of sending
            return
        try:
            self._starts_processes = True
            with suppress(OSError):
                self._connection.sendall(protocol.frame(protocol.STARTS))
        finally:
            self._sending.release()

    def _prepare(self) -> bool:
        """Prepare as the parent says; whether that has succeeded."""
        data = self._next_streamed()
        if data is None:
            return False
        reply = call(prepare, data)
        self._finish()
        self._is_busy = False
        self.send(reply)
        return reply[:1] == protocol.READY

    def _answer(self) -> bool:
        """Reply to the next request; False when the parent has closed the connection."""
        request = self._next_request()
        if request is None:
            return False
        reply = call(perform, request)
        self._finish()
        if _max_memory is not None and resident_memory() > _max_memory:
            self.send(protocol.TOO_LARGE)
            self._reply(reply)
            return self._next_streamed() is not None  # the end, because this child takes no further request
        self._reply(reply)
        return True

    def _finish(self) -> None:
        """A call is over: have its output and its records arrive before its reply."""
        _flush()
        if _forwarder is not None and _forwarder.end_call():
            self.send(protocol.LOGGED)

    def _reply(self, reply: bytes) -> None:
        self._is_busy = False  # before the reply: the parent may close the connection then
        with self._sending:
            self._connection.sendall(protocol.frame(reply, descendants.boot_time_ns()))

    def _next_request(self) -> bytes | None:
        """Wait for a request; None when the parent has closed the connection."""
        packet = self._requests.recv(protocol.LARGEST_PACKET)
        if not packet:
            return self._inbox.get()  # the stream ends as well
        self._is_busy = True
        if self._is_over:  # checked after the flag was set, because the thread reads it
            return None
        return self._next_streamed() if packet[:1] == protocol.STREAMED else packet[protocol.PACKET.size :]

    def _next_streamed(self) -> bytes | None:
        payload = self._inbox.get()
        self._is_busy = True
        return payload

    def _receive(self) -> None:
        """In its own thread: queue what the parent sends on the stream, and notice the end of the connection."""
        with suppress(OSError), self._connection.makefile("rb") as stream:
            while (payload := protocol.read(stream)) is not None:
                self._inbox.put(payload)
        self._is_over = True
        is_idle = not self._is_busy
        self._inbox.put(None)
        if is_idle:
            with suppress(OSError):
                self._requests.shutdown(socket.SHUT_RD)  # the main thread may wait for a request
            time.sleep(EXIT_GRACE)
        self._on_orphaned()


_current: Child | None = None
_forwarder: Forwarder | None = None
"""What sends the log records of this process, if it is a child."""
_max_memory: int | None = None
"""Bytes above which this child reports to its parent that it must be replaced."""
_folder: str | None = None
"""Where the parent has resolved its relative paths."""


def prepare(payload: bytes) -> bytes:
    """Become like a process that :mod:`multiprocessing` spawned: the same arguments and main module as the parent.

    The module of the first call is imported as well, so that this time does not count against a timeout. If that fails,
    the call itself raises the same error.
    """
    global _max_memory, _folder
    data: Mapping[str, Any] = pickle.loads(payload)
    _max_memory, _folder = data.get("max_memory"), data.get("folder")
    if _forwarder is not None:
        _forwarder.apply(data["levels"])
    try:
        with importing():
            spawn.prepare(dict(data["spawn"]))
    except BaseException as error:
        return protocol.encode_error(error, protocol.BROKEN)
    with suppress(BaseException), importing():
        importlib.import_module(data["module"])
    if _forwarder is not None:
        _forwarder.check_handlers()
    return protocol.READY


class importing(resolving_in):
    """Mark the time in which user modules are imported into a child.

    The mark is the one that :mod:`multiprocessing` itself looks for when a script without an
    ``if __name__ == "__main__"`` starts processes while it is imported.
    """

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(_folder)

    def __enter__(self) -> None:
        current: Any = mp_process.current_process()
        current._inheriting = True
        super().__enter__()

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        current: Any = mp_process.current_process()
        del current._inheriting


def ensure_not_importing() -> None:
    """ApplicationStateError where a script would start its app over again inside the child that only imports it."""
    if getattr(mp_process.current_process(), "_inheriting", False):
        raise ApplicationStateError(
            operation="start the app",
            reason="this is a child process, which imports the script to find a function in it.",
            solution='Put what starts the app under `if __name__ == "__main__":`.',
        )


def resident_memory() -> int:
    """Resident memory of this process in bytes; where the system does not report it, the peak."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        import resource  # not on Windows

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def _flush() -> None:
    """Show what a task printed when it ends, not when a buffer is full."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
