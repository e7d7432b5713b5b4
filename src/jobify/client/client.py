"""The parts of a client, put together."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import tzinfo
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, TypeVar

from jobify.client.enqueuer import Submitter, insert_rows
from jobify.client.job_operations import Desk
from jobify.client.rows import Rows
from jobify.client.targets import Targets
from jobify.client.threads import Crew
from jobify.client.values import Coding
from jobify.config import JobifyConfiguration
from jobify.gateway.connection import Access
from jobify.model.clock import Clock
from jobify.router.registry import Registry
from jobify.runtime.logs import get_logger
from jobify.serializers.codec import Codec
from jobify.storage.base import Storage

if TYPE_CHECKING:
    from jobify.client.admin import Orders
    from jobify.client.queries import Board

__all__ = ("Client",)

T = TypeVar("T")

log = get_logger("jobify.client")

_JOIN_TIMEOUT = 30.0
"""Seconds for which :meth:`Client.close` waits for a thread that is in the middle of a call."""


class Client:
    """One app, as seen by whoever enqueues and asks. Opens nothing before it is needed.

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
        self.targets = targets = Targets(build, lambda: config.storage.is_durable)
        coding = Coding(codec, current, targets.result_type)
        self._access = access = Access(current)
        self._crew = crew = Crew(access, clock, partial(insert_rows, access))
        config.is_awaited = crew.is_awaited
        self.desk = desk = Desk(
            access,
            coding,
            zone,
            crew=crew,
            runs_here=runs_here,
            clock=clock,
            delete_at=delete_at,
        )
        self.submitter = Submitter(
            access=access,
            crew=crew,
            targets=targets,
            rows=Rows(coding, config.uuid_generator, clock, zone),
            desk=desk,
            config=config,
            clock=clock,
        )
        self._clock = clock
        self._config = config
        self._delete_at = delete_at

    @cached_property
    def board(self) -> Board:
        """Lists and counts."""
        from jobify.client.queries import Board  # of no use to most processes

        return Board(self._access, self.desk, self._clock, self._config.tz, self.targets.names)

    @cached_property
    def orders(self) -> Orders:
        """Orders for queues, schedules and ended jobs."""
        from jobify.client.admin import Orders

        return Orders(self._access, self.board, self._clock, self._config.uuid_generator, self._delete_at)

    async def call(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """What ``function`` gives, called without blocking the event loop."""
        return await self._crew.helper.call(partial(function, *args, **kwargs))

    async def read(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """:meth:`call`, for what only reads: it waits for no write."""
        return await self._crew.reader.call(partial(function, *args, **kwargs))

    def close(self) -> None:
        """Close the storage and end the threads; the next use opens it again. Callers that wait get an error."""
        self._crew.end_calls(_JOIN_TIMEOUT)  # before the storage closes, because a queued call would open it again
        self._access.close()
        self._crew.end_listening(_JOIN_TIMEOUT)

    async def release(self) -> None:
        """Close the storage and end the threads; callers that wait go on to wait, and open it again.

        The work is done in a thread, because closing a database waits for its writers. A cancelled caller waits for it
        all the same, and is cancelled then.
        """
        if self._crew.is_idle and not self._access.is_open:
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
            self._crew.end_calls(_JOIN_TIMEOUT)
            self._access.release()
            self._crew.end_listening(_JOIN_TIMEOUT)
        except Exception:  # of a user's own storage
            log.exception("The client could not close the storage.")
        finally:
            with suppress(RuntimeError):  # the event loop was closed
                done.get_loop().call_soon_threadsafe(done.set_result, None)
