"""One storage, as the engine uses it: its gateway, the owner id of this process, open queues and the codec."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Collection, Container, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar

from jobify.exceptions import PayloadError, StorageLostError
from jobify.gateway.gateway import StorageGateway
from jobify.gateway.inline import InlineGateway
from jobify.gateway.reports import Reporter
from jobify.gateway.sharing import share
from jobify.gateway.threaded import ThreadedGateway
from jobify.model.clock import Clock
from jobify.model.records import OwnerProfile, Settlement
from jobify.router.registry import Endpoint
from jobify.runtime.failure_log import FailureLog
from jobify.runtime.logs import get_logger
from jobify.serializers.base import Serializer
from jobify.serializers.codec import Codec, ObjectCodec
from jobify.serializers.offload import SMALL
from jobify.storage.base import BegunJobs, Storage

__all__ = (
    "Backend",
    "Backends",
    "OpenQueues",
    "ReadThread",
    "payload_error",
    "release_lingering_owners",
)

T = TypeVar("T")

log = get_logger("jobify.engine")

_LOCK_TIMEOUT: Final = 2.0
"""Seconds to wait for a thread that uses the storage, at the end of the process."""


class Backend:
    """A storage with what the engine needs to use it.

    In memory, values never leave the process: arguments and results stay the objects they are. A temporary storage ends
    when the app stops.
    """

    def __init__(
        self,
        storage: Storage,
        codec: Codec,
        clock: Clock,
        *,
        in_memory: bool,
        is_temporary: bool = False,
        queues: tuple[str, ...] | None = None,
    ) -> None:
        self.storage = storage
        self.is_durable = storage.is_durable
        self.inline = InlineGateway(storage, is_temporary=is_temporary) if in_memory else None
        """The gateway of a storage in memory."""
        self.gate: StorageGateway = self.inline or ThreadedGateway(storage)
        self.owner = 0
        self.begun: BegunJobs | None = None
        """Where this process records which jobs have begun, if the storage supports it."""
        self.app_code: Callable[[], str] = str
        """The fingerprint of the code that runs the jobs (:class:`~jobify.engine.execution.outcome.AppCode`)."""
        self.success_of: Callable[[Any, Any], Settlement]
        """Makes the settlement of an attempt that ends with a value. The completer's."""
        self.failures = FailureLog(log, "The storage works again")
        """The log of failures of this storage."""
        self.reporter = Reporter(self.gate, clock, self.failures)
        self._reads, self._long_reads = ReadThread(), ReadThread()
        self.queues = OpenQueues(None if in_memory else queues)
        self.has_limits = False
        """Whether any task in this storage has limits, as the last claim has said."""
        self.limited_tasks: Container[str] = ()
        """Tasks that have limits there and not in the code of this process, which is that of another release."""
        self.is_in_memory = in_memory
        self.codec: Codec | ObjectCodec = ObjectCodec() if in_memory else codec
        self._clock = clock
        self.frozen = codec.frozen
        """The types of arguments that can neither change nor be restored as something else."""
        self.atoms = SMALL & codec.frozen
        """Those among them whose values are always small."""

    async def start(self, profile: OwnerProfile) -> None:
        """Open the storage and register as an owner in it."""
        self.reporter.start()
        await self.gate.start()
        try:
            version = self.queues.version
            self.queues.update(await self.gate.call(partial(self._enter, profile)), version=version)
        except BaseException:
            await self.gate.stop()
            raise

    def _enter(self, profile: OwnerProfile) -> Sequence[str]:
        """Register as an owner; the queues that are paused."""
        self.owner = self.storage.register(profile, now=self._clock.now())
        self.begun = self.storage.begun(self.owner)
        return self.storage.paused_queues()

    async def stop(self, unfinished: Collection[Future[Any]] = ()) -> None:
        """Deregister the owner, which releases the jobs that it holds, and close the storage.

        While any of ``unfinished`` is not done, the owner keeps what it holds, also after this; see
        :meth:`jobify.storage.base.Storage.leave`.
        """
        try:
            await self.gate.call(partial(self._leave, unfinished), flush=False)
        except StorageLostError:
            pass  # the reason was logged; its jobs are recovered like those of a dead process
        finally:
            try:
                await self.gate.stop()
            finally:
                self._close_reads()

    def _close_reads(self) -> None:
        self._reads.close()
        self._long_reads.close()

    async def read(self, function: Callable[[], T]) -> T:
        """Call what only reads from the storage. It waits for no write, and deferred rows stay deferred."""
        if self.is_in_memory:
            return await self.gate.call(function, flush=False)
        return await self._reads.call(function, partial(self.gate.call, flush=False))

    async def read_long(self, function: Callable[[], T]) -> T:
        """:meth:`read`, for what takes so long that other reads must not wait for it. :meth:`stop` interrupts it."""
        return await self._long_reads.call(function, partial(self.gate.call, flush=False))

    def abandon(self, unfinished: Collection[Future[Any]]) -> None:
        """:meth:`stop`, after the event loop was closed without it."""
        self.gate.abandon(partial(self._leave, unfinished) if unfinished else None)
        self._close_reads()

    def _leave(self, unfinished: Collection[Future[Any]]) -> None:
        if unfinished:
            left = (self.storage, self.owner)
            _lingering.append(left)
            release = self.storage.leave(self.owner)

            def on_end() -> None:
                _lingering.remove(left)
                release()

            _release_after(unfinished, on_end)
        else:
            self.storage.deregister(self.owner)

    def decode_result(self, endpoint: Endpoint | None, data: Any) -> Any:
        """The result in a row; ``endpoint`` None: of a task of another app. PayloadError if it cannot be read."""
        return self.codec.decode_result(data, Any if endpoint is None else endpoint.spec.result_type)

    def encode_value(self, value: Any) -> Any:
        """A published value, encoded for a report; PayloadError if it cannot be encoded."""
        return self.codec.encode_value(value)

    @property
    def serializer(self) -> Serializer | None:
        """Encodes published values in a child process; None: they stay the objects they are."""
        return self.codec.serializer if isinstance(self.codec, Codec) else None


class Backends(NamedTuple):
    """The storages of an engine: a durable one, unless the app is in memory only, and one in memory."""

    durable: Backend | None
    memory: Backend

    def of(self, endpoint: Endpoint) -> Backend:
        """The backend that holds the jobs of a task."""
        return self.durable if self.durable is not None and endpoint.is_durable else self.memory

    def all(self) -> list[Backend]:
        return [self.memory] if self.durable is None else [self.durable, self.memory]


class ReadThread:
    """Calls functions that read from a storage, one after the other, in a thread that starts with the first call.

    The storage's own thread writes, and a write may wait: for the disk, for a file that another process has locked, for
    the hundreds of jobs before it. A read waits for none of these.
    """

    def __init__(self) -> None:
        self._executor: ThreadPoolExecutor | None = None

    async def call(self, function: Callable[[], T], otherwise: Callable[[Callable[[], T]], Awaitable[T]]) -> T:
        """Call ``function``; by way of ``otherwise`` if the system has no thread left."""
        if self._executor is None:
            self._executor = ThreadPoolExecutor(1, thread_name_prefix="jobify-reads")
        try:
            reading = asyncio.get_running_loop().run_in_executor(self._executor, function)
        except RuntimeError:
            return await otherwise(function)
        return await reading

    def close(self) -> None:
        """End the thread, after the call under way; the closed storage interrupts it."""
        executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown(cancel_futures=True)


class OpenQueues:
    """From which queues this process may start a job right now: those that it serves and that are not paused.

    It serves the fast path of a push, which makes no claim. A claim does not need it, because the storage filters by
    queue itself.
    """

    __slots__ = ("_is_sure", "_paused", "all_open", "served", "version")

    def __init__(self, served: tuple[str, ...] | None) -> None:
        self.served = served
        """None: every queue."""
        self._paused: frozenset[str] = frozenset()
        self._is_sure = False
        self.all_open = False
        """Whether every queue is open, as is nearly always the case; False if that is not certain."""
        self.version = 0
        """Counts invalidations; a reader of the paused queues remembers it."""

    def is_open(self, queue: str) -> bool:
        """Whether a job of ``queue`` may start without a claim; False if that is not certain."""
        return self._is_sure and queue not in self._paused and (self.served is None or queue in self.served)

    def invalidate(self) -> None:
        """Another user of the storage in this process has written something, maybe a pause."""
        self.version += 1
        self._is_sure = self.all_open = False

    def update(self, paused: Iterable[str], *, version: int) -> None:
        """Take the paused queues as the storage had them at this ``version``."""
        self._paused = frozenset(paused)
        self._is_sure = version == self.version
        self.all_open = self._is_sure and not self._paused and self.served is None


def payload_error(endpoint: Endpoint, error: PayloadError) -> PayloadError:
    """``error``, with the task whose job cannot be stored."""
    return PayloadError(
        f"Cannot store a job of task {endpoint.name!r}: {error} "
        "Nothing was stored. A task with durable=False takes any object."
    )


_lingering: list[tuple[Storage, int]] = []
"""Owners that have left while their functions still run in this process."""


def release_lingering_owners() -> None:
    """Release the jobs of owners that have left while their functions still run: a forced end of the process.

    Call it last, because those functions run until the process ends. Jobs that cannot be released now are recovered by
    other processes, with the same outcome.
    """
    for storage, owner in _lingering:
        lock = share(storage).lock
        if storage.is_shared and lock.acquire(timeout=_LOCK_TIMEOUT):
            try:
                storage.open()
                storage.deregister(owner)
            except Exception as error:
                log.warning("Jobs in threads are released only after this process has ended: %s", error)
            finally:
                lock.release()


def _release_after(unfinished: Collection[Future[Any]], release: Callable[[], None]) -> None:
    """Call ``release`` once all of these are done, in the thread where that happens; at once if there are none."""
    left, lock = set(unfinished), threading.Lock()

    def on_done(future: Future[Any]) -> None:
        with lock:
            left.discard(future)
            is_last = not left
        if is_last:
            release()

    if not left:
        release()
    for future in list(left):
        future.add_done_callback(on_done)
