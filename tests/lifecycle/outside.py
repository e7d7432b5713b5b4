"""Somebody outside an app who enqueues jobs on its storage, looks at them, and gives orders."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from jobify import Jobify
from jobify.gateway.sharing import share
from jobify.model.ids import new_id
from jobify.model.job_options import JobOptions
from jobify.model.records import JobRecord, NewJob
from jobify.storage import Storage
from jobify.storage.memory import MemoryStorage
from probes import codec_of
from support import durable, eventually

T = TypeVar("T")


class Outside:
    """In memory it is another user of the storage object; on a file it is as good as another process, unless it is
    given the app's own ``storage``."""

    def __init__(self, app: Jobify, directory: Path = Path(), *, storage: Storage | None = None) -> None:
        self._app = app
        self._is_memory = isinstance(app.configs.storage, MemoryStorage)
        own: Storage = app.configs.storage if self._is_memory else durable(directory)
        self.storage: Storage = own if storage is None else storage
        self._shared = share(self.storage)

    @contextmanager
    def here(self) -> Iterator[Outside]:
        self._shared.open(self._hear)
        try:
            yield self
        finally:
            self._shared.close(self._hear)

    def _hear(self) -> None:
        pass

    def use(self, function: Callable[[], T]) -> T:
        """Make a call, and tell everybody."""
        with self._shared.lock:
            self._shared.flush_deferred()
            value = function()
        self._shared.notify_others(self._hear)
        if self.storage.notifier is not None:
            self.storage.notifier.notify(workers=True, clients=True)
        return value

    def enqueue(self, task: str, *args: Any, **fields: Any) -> str:
        """Insert a job that is due now; its id."""
        row = self.row(task, *args, **fields)
        assert self.use(lambda: self.storage.insert((row,))) == [True]
        return row.id

    def row(self, task: str, *args: Any, options: JobOptions | str | None = None, **fields: Any) -> NewJob:
        now = self._app.now()
        row = NewJob(
            id=str(new_id()),
            task=task,
            queue="default",
            priority=0,
            status="scheduled",
            ready=True,
            due_at=now,
            created_at=now,
            payload=(args, {}) if self._is_memory else codec_of(self._app).encode_call(args, {}),
            rule=None,
            offset_at=None,
            options=options.text() if isinstance(options, JobOptions) else options,
            origin=None,
            owner=None,
            fence=0,
            attempt=0,
            started_at=None,
            unique_key=None,
            expires_at=None,
        )
        return row._replace(**fields)

    def look(self, job_id: str) -> JobRecord:
        (record,) = self.use_silently(lambda: self.storage.get((job_id,)))
        return record

    def use_silently(self, function: Callable[[], T]) -> T:
        with self._shared.lock:
            self._shared.flush_deferred()
            return function()

    async def until(self, job_id: str, status: str) -> JobRecord:
        """The row of the job, once it has this status."""
        await eventually(lambda: self.look(job_id).status == status)
        return self.look(job_id)

    def value(self, record: JobRecord) -> Any:
        """The result in a row."""
        if self._is_memory:
            (value,) = record.result  # type: ignore[misc]  # in memory it is a tuple of one
            return value
        assert record.result is not None
        return codec_of(self._app).decode_result(record.result)
