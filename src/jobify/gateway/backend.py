"""One storage, as the engine uses it: its gateway, the owner id of this process, open queues and the codec."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
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
from jobify.model.records import OwnerProfile
from jobify.router.registry import Endpoint
from jobify.runtime.failure_log import FailureLog
from jobify.runtime.logs import get_logger
from jobify.serializers.base import Serializer
from jobify.serializers.codec import Codec
from jobify.serializers.offload import SMALL
from jobify.serializers.passthrough import ObjectCodec
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


class ReadThread:
    """Calls functions that read from a storage, one after the other."""

    def __init__(self) -> None:
        self._executor: ThreadPoolExecutor | None = None

    async def call(self, function: Callable[[], T], otherwise: Callable[[Callable[[], T]], Awaitable[T]]) -> T:
        """What ``function`` gives; called by ``otherwise`` where the system has no thread left."""
        if self._executor is None:
            self._executor = ThreadPoolExecutor(1, thread_name_prefix="jobify-reads")
        try:
            reading = asyncio.get_running_loop().run_in_executor(self._executor, function)
        except RuntimeError:
            return await otherwise(function)
        return await reading

    def close(self) -> None:
        """End the thread. A call that is under way ends first; the closed storage interrupts it."""
        executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown(cancel_futures=True)


class OpenQueues:
    """The queues that are served, less those that are known to be paused."""

    __slots__ = ("_is_sure", "_paused", "all_open", "served", "version")

    def __init__(self, served: tuple[str, ...] | None) -> None:
        self.served = served
        """None: every queue."""
        self._paused: frozenset[str] = frozenset()
        self._is_sure = False
        self.all_open = False
        """All queues are open for sure, as is nearly always the case."""
        self.version = 0
        """How often there was a doubt; whoever asks the storage what is paused remembers it."""

    def is_open(self, queue: str) -> bool:
        """Whether a job of ``queue`` may start without a claim; False if that is not known for sure."""
        return self._is_sure and queue not in self._paused and (self.served is None or queue in self.served)

    def invalidate(self) -> None:
        """Somebody in this process has written something, a pause perhaps."""
        self.version += 1
        self._is_sure = self.all_open = False

    def update(self, paused: Iterable[str], *, doubts: int) -> None:
        """What the storage says, when it was asked after so many doubts."""
        self._paused = frozenset(paused)
        self._is_sure = doubts == self.version
        self.all_open = self._is_sure and not self._paused and self.served is None


log = get_logger("jobify.engine")

_LOCK_TIMEOUT: Final = 2.0
"""Seconds to wait for a thread that uses the storage, at the end of the process."""


class Backend:
    """A storage with what is needed to use it.

    What is kept ``in_memory`` never leaves the process: arguments and results stay the objects they are. A storage that
    is ``temporary`` ends with this life of the app.
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
        self.gate: StorageGateway = (
            InlineGateway(storage, is_temporary=is_temporary) if in_memory else ThreadedGateway(storage)
        )
        self.owner = 0
        self.begun: BegunJobs | None = None
        """Where this process notes which jobs have begun, if the storage has such a place."""
        self.app_code: Callable[[], str] = str
        """The fingerprint of the code that runs the jobs (:class:`~jobify.engine.execution.outcome.AppCode`)."""
        self.failures = FailureLog(log, "The storage works again")
        """Where all write that the storage is unavailable."""
        self.reporter = Reporter(self.gate, clock, self.failures)
        self._reads, self._long_reads = ReadThread(), ReadThread()
        self.queues = OpenQueues(None if in_memory else queues)
        self.is_in_memory = in_memory
        self.codec: Codec | ObjectCodec = ObjectCodec() if in_memory else codec
        self._clock = clock
        self.frozen = codec.frozen
        """The types of arguments that can neither change nor be restored as something else."""
        self.atoms = SMALL & codec.frozen
        """Those among them whose values are small, whatever they are."""

    async def start(self, profile: OwnerProfile) -> None:
        """Open the storage and become an owner in it."""
        self.reporter.start()
        await self.gate.start()
        try:
            doubts = self.queues.version
            self.queues.update(await self.gate.call(partial(self._enter, profile)), doubts=doubts)
        except BaseException:
            await self.gate.stop()
            raise

    def _enter(self, profile: OwnerProfile) -> Sequence[str]:
        """Become an owner; the queues that are paused."""
        self.owner = self.storage.register(profile, now=self._clock.now())
        self.begun = self.storage.begun(self.owner)
        return self.storage.paused_queues()

    async def stop(self, unfinished: Collection[Future[Any]] = ()) -> None:
        """Stop being an owner (jobs still held are given back), and close the storage.

        While any of ``unfinished`` is not done, the owner keeps what it holds, also after this; see
        :meth:`jobify.storage.base.Storage.leave`.
        """
        try:
            await self.gate.call(partial(self._leave, unfinished), flush=False)
        except StorageLostError:
            pass  # it was said why; its jobs are those of a process that is gone
        finally:
            try:
                await self.gate.stop()
            finally:
                self._close_reads()

    def _close_reads(self) -> None:
        self._reads.close()
        self._long_reads.close()

    async def read(self, function: Callable[[], T]) -> T:
        """Run what only reads from the storage. It waits for no write; rows that are held back stay so."""
        if self.is_in_memory:
            return await self.gate.call(function, flush=False)
        return await self._reads.call(function, partial(self.gate.call, flush=False))

    async def read_long(self, function: Callable[[], T]) -> T:
        """:meth:`read`, for what takes so long that no other read should wait for it. The end of this backend
        interrupts it."""
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
        """What a task returned, from the row; None: a task of another app. PayloadError if it cannot be read."""
        return self.codec.decode_result(data, Any if endpoint is None else endpoint.spec.result_type)

    def encode_value(self, value: Any) -> Any:
        """What a task publishes, for a report; PayloadError if it cannot be written."""
        return self.codec.encode_value(value)

    @property
    def serializer(self) -> Serializer | None:
        """What a child process encodes published values with; None: they stay what they are."""
        return self.codec.serializer if isinstance(self.codec, Codec) else None


class Backends(NamedTuple):
    """The storages of an engine: one that is durable, unless the app is in memory only, and one in memory."""

    durable: Backend | None
    memory: Backend

    def of(self, endpoint: Endpoint) -> Backend:
        """Where the jobs of a task live."""
        return self.durable if self.durable is not None and endpoint.is_durable else self.memory

    def all(self) -> list[Backend]:
        return [self.memory] if self.durable is None else [self.durable, self.memory]


def payload_error(endpoint: Endpoint, error: PayloadError) -> PayloadError:
    """``error``, in the words of whoever asked for the job."""
    return PayloadError(
        f"Cannot store a job of task {endpoint.name!r}: {error} "
        "Nothing was stored. A task with durable=False takes any object."
    )


_lingering: list[tuple[Storage, int]] = []
"""Owners that have left, and whose functions still run in this process."""


def release_lingering_owners() -> None:
    """Give back what owners that have left still hold: the last act of a process that ends under its threads.

    To be called when nothing but the end of the process follows: those functions run until then. What cannot be given
    back now is recovered by other processes, with the same outcome.
    """
    for storage, owner in _lingering:
        lock = share(storage).lock
        if storage.is_shared and lock.acquire(timeout=_LOCK_TIMEOUT):
            try:
                storage.open()
                storage.deregister(owner)
            except Exception as error:
                log.warning("What still runs here is given back when this process has ended: %s", error)
            finally:
                lock.release()


def _release_after(unfinished: Collection[Future[Any]], release: Callable[[], None]) -> None:
    """Call ``release`` when all of these are done, in whichever thread that happens; at once if there are none."""
    left, lock = set(unfinished), threading.Lock()

    def on_done(future: Future[Any]) -> None:
        with lock:
            left.discard(future)
            no_peers = not left
        if no_peers:
            release()

    if not left:
        release()
    for future in list(left):
        future.add_done_callback(on_done)
