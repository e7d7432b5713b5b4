"""The parts of a client, wired together."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import tzinfo
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, TypeVar

from jobify.client.enqueuer import ClientEnqueuer, insert_rows
from jobify.client.job_operations import JobOperations
from jobify.client.job_reader import JobReader
from jobify.client.job_view import ValueCodec
from jobify.client.task_resolver import TaskResolver
from jobify.client.threads import ClientThreads
from jobify.config import JobifyConfiguration
from jobify.gateway.connection import StorageConnection
from jobify.jobs.row_builder import RowBuilder
from jobify.model.clock import Clock
from jobify.model.cron_rules import CronRuleCache
from jobify.router.registry import Registry
from jobify.runtime.logs import get_logger
from jobify.serializers.codec import Codec
from jobify.storage.base import Storage

if TYPE_CHECKING:
    from jobify.client.admin import Admin
    from jobify.client.limits import LimitAdmin
    from jobify.client.queries import Queries

__all__ = ("Client",)

T = TypeVar("T")

log = get_logger("jobify.client")

_JOIN_TIMEOUT = 30.0
"""Seconds for which :meth:`Client.close` waits for a thread that is in the middle of a call."""


class Client:
    """What an app needs to enqueue and query. Opens nothing before the first use.

    ``build`` resolves the tasks of the app; ``runs_here()``: whether this is the thread of the event loop that runs it.
    """

    def __init__(
        self,
        config: JobifyConfiguration,
        codec: Codec,
        clock: Clock,
        *,
        build: Callable[[], Registry],
        runs_here: Callable[[], bool],
    ) -> None:
        def current() -> Storage:
            return config.storage

        zone: tzinfo = config.tz
        delete_at = config.limits.retention.cancelled_until
        self.tasks = tasks = TaskResolver(build, lambda: config.storage.is_durable)
        values = ValueCodec(codec, current, tasks.result_type)
        self._connection = connection = StorageConnection(current)
        self._threads = threads = ClientThreads(connection, clock, partial(insert_rows, connection))
        config.is_awaited = threads.is_awaited
        self.operations = operations = JobOperations(
            connection,
            JobReader(connection, values, zone, clock),
            threads=threads,
            runs_here=runs_here,
            clock=clock,
            delete_at=delete_at,
        )
        self.enqueuer = ClientEnqueuer(
            connection=connection,
            threads=threads,
            tasks=tasks,
            rows=RowBuilder(values.call, config.uuid_generator, clock, zone, self._cron_rules),
            operations=operations,
            config=config,
            clock=clock,
        )
        self._clock = clock
        self._config = config
        self._delete_at = delete_at

    @cached_property
    def queries(self) -> Queries:
        """Lists and counts."""
        from jobify.client.queries import Queries  # of no use to most processes

        return Queries(self._connection, self.operations, self._clock, self._config.tz, self.tasks.names)

    @cached_property
    def admin(self) -> Admin:
        """Changes to queues, schedules and ended jobs."""
        from jobify.client.admin import Admin

        return Admin(self._connection, self.queries, self._clock, self._config.uuid_generator, self._delete_at)

    @cached_property
    def limits(self) -> LimitAdmin:
        """Limits as operators see and set them."""
        from jobify.client.limits import LimitAdmin

        return LimitAdmin(self._connection, self.tasks.all, self._clock)

    def _cron_rules(self) -> CronRuleCache:
        """The rules of the app, as it is configured now."""
        config = self._config
        return CronRuleCache(config.tz, config.cron_factory)

    async def call(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Call ``function`` without blocking the event loop."""
        return await self._threads.writer.call(partial(function, *args, **kwargs))

    async def read(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """:meth:`call`, for what only reads: it waits for no write."""
        return await self._threads.reader.call(partial(function, *args, **kwargs))

    def close(self) -> None:
        """Close the storage and end the threads; the next use opens it again. Waiting callers get an error."""
        self._threads.end_calls(_JOIN_TIMEOUT)  # before the storage closes, because a queued call would open it again
        self._connection.close()
        self._threads.end_listening(_JOIN_TIMEOUT)

    async def release(self) -> None:
        """Close the storage and end the threads; callers that wait keep waiting, which opens it again.

        A thread does it, because closing a database waits for its writers. A cancelled caller waits for it all the
        same, and is cancelled then.
        """
        if self._threads.is_idle and not self._connection.is_open:
            return
        done = asyncio.get_running_loop().create_future()
        thread = threading.Thread(target=self._release, args=(done,), name="jobify-release", daemon=True)
        try:
            thread.start()
        except (RuntimeError, MemoryError):  # the system refuses a thread
            self._release(done)
            return
        cancelled: asyncio.CancelledError | None = None
        while not done.done():
            try:
                await asyncio.shield(done)
            except asyncio.CancelledError as error:
                cancelled = error
        thread.join(_JOIN_TIMEOUT)
        if cancelled is not None:
            raise cancelled

    def _release(self, done: asyncio.Future[None]) -> None:
        try:
            self._threads.end_calls(_JOIN_TIMEOUT)
            self._connection.release()
            self._threads.end_listening(_JOIN_TIMEOUT)
        except Exception:  # of a user's own storage
            log.exception("The client could not close the storage.")
        finally:
            with suppress(RuntimeError):  # the event loop was closed
                done.get_loop().call_soon_threadsafe(done.set_result, None)
