"""The app, as code sees it that enqueues jobs: of its tasks, or of any task by name.

Each method has a twin for async code, with an ``a`` in front of its name, which does the same without blocking the
event loop.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec, TypeAlias, TypeVar, Unpack, overload

from jobify.canvas.signature import Signature
from jobify.client.arguments import Calls, parse_batch, parse_request
from jobify.exceptions import ConfigurationError
from jobify.jobs.job_request import EnqueueOptions, Submitter
from jobify.jobs.job_result import JobResult
from jobify.router import ConfiguredTask, Route, Router

if TYPE_CHECKING:
    from jobify.client.client import Client

__all__ = ("Enqueuing", "TransactionApp")

ParamsT = ParamSpec("ParamsT")
ReturnT = TypeVar("ReturnT")
Task: TypeAlias = Route[ParamsT, ReturnT] | ConfiguredTask[ParamsT, ReturnT]


class EnqueuingNames:
    """``enqueue``, ``enqueue_many`` and their twins, for an app and for an app on a connection."""

    @property
    def client(self) -> Submitter:
        """What tasks submit to."""
        raise NotImplementedError

    @property
    def _app(self) -> object:
        """The app whose tasks are meant."""
        raise NotImplementedError

    @overload
    def enqueue(
        self,
        task: Task[..., ReturnT],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[EnqueueOptions],
    ) -> JobResult[ReturnT]: ...
    @overload
    def enqueue(
        self,
        task: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[EnqueueOptions],
    ) -> JobResult[Any]: ...
    def enqueue(
        self, task: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> JobResult[Any]:
        """Store a job of a task, which may be given by its name.

        The task need not exist in this process: any worker that knows it will run the job. For ``options`` see
        :class:`~jobify.jobs.job_request.EnqueueOptions`. When this returns the job is on disk. ConfigurationError,
        TypeError or PayloadError if it cannot be, and DuplicateJobError if its ``job_id`` is in use;
        StorageUnavailableError if nothing could be stored.
        """
        return self.client.submit((parse_request(self._app, task, args, kwargs, options),))[0]

    @overload
    async def aenqueue(
        self,
        task: Task[..., ReturnT],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[EnqueueOptions],
    ) -> JobResult[ReturnT]: ...
    @overload
    async def aenqueue(
        self,
        task: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[EnqueueOptions],
    ) -> JobResult[Any]: ...
    async def aenqueue(
        self, task: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> JobResult[Any]:
        """:meth:`enqueue`, without blocking the event loop."""
        return (await self.client.asubmit((parse_request(self._app, task, args, kwargs, options),)))[0]

    @overload
    def enqueue_many(
        self,
        task: Task[..., ReturnT],
        args_list: Iterable[Sequence[Any]] = (),
        kwargs_list: Iterable[Mapping[str, Any]] | None = None,
        **options: Unpack[EnqueueOptions],
    ) -> list[JobResult[ReturnT]]: ...
    @overload
    def enqueue_many(
        self,
        task: str,
        args_list: Iterable[Sequence[Any]] = (),
        kwargs_list: Iterable[Mapping[str, Any]] | None = None,
        **options: Unpack[EnqueueOptions],
    ) -> list[JobResult[Any]]: ...
    @overload
    def enqueue_many(self, task: Iterable[Signature[ReturnT]]) -> list[JobResult[ReturnT]]: ...
    def enqueue_many(
        self,
        task: Any,
        args_list: Iterable[Sequence[Any]] = (),
        kwargs_list: Iterable[Mapping[str, Any]] | None = None,
        **options: Any,
    ) -> list[JobResult[Any]]:
        """Store many jobs in one transaction: all of them, or none.

        ``args_list`` has the arguments of one job each, ``kwargs_list`` (as long) those by name; ``options`` hold for
        all of them. Or give a list of signatures, of any tasks. ::

            app.enqueue_many(resize, [(name,) for name in names], priority=5)
        """
        batch = parse_batch(self._app, task, args_list, kwargs_list, options)
        if isinstance(batch, Calls):
            return self.client.delay_all(batch.task, batch.calls)
        return self.client.submit(batch)

    @overload
    async def aenqueue_many(
        self,
        task: Task[..., ReturnT],
        args_list: Iterable[Sequence[Any]] = (),
        kwargs_list: Iterable[Mapping[str, Any]] | None = None,
        **options: Unpack[EnqueueOptions],
    ) -> list[JobResult[ReturnT]]: ...
    @overload
    async def aenqueue_many(
        self,
        task: str,
        args_list: Iterable[Sequence[Any]] = (),
        kwargs_list: Iterable[Mapping[str, Any]] | None = None,
        **options: Unpack[EnqueueOptions],
    ) -> list[JobResult[Any]]: ...
    @overload
    async def aenqueue_many(self, task: Iterable[Signature[ReturnT]]) -> list[JobResult[ReturnT]]: ...
    async def aenqueue_many(
        self,
        task: Any,
        args_list: Iterable[Sequence[Any]] = (),
        kwargs_list: Iterable[Mapping[str, Any]] | None = None,
        **options: Any,
    ) -> list[JobResult[Any]]:
        """:meth:`enqueue_many`, without blocking the event loop."""
        batch = parse_batch(self._app, task, args_list, kwargs_list, options)
        if isinstance(batch, Calls):
            return await self.client.adelay_all(batch.task, batch.calls)
        return await self.client.asubmit(batch)


class TransactionApp(EnqueuingNames):
    """An app on a connection: what it enqueues is stored if the transaction of the connection is committed. See
    :class:`~jobify.router.configured.TransactionTask`."""

    def __init__(self, app: object, submitter: Submitter) -> None:
        self._of = app
        self._submitter = submitter

    @property
    def client(self) -> Submitter:
        """What stores the jobs."""
        return self._submitter

    @property
    def _app(self) -> object:
        return self._of


class Enqueuing(EnqueuingNames, Router):
    """Stores jobs, in any process, thread or event loop, whether or not the app runs there."""

    _client: Client

    @property
    def client(self) -> Submitter:
        """What tasks submit to."""
        return self._client.enqueuer

    @property
    def _app(self) -> object:
        return self

    def using(self, connection: object) -> TransactionApp:
        """The app on a connection of yours: ``enqueue``, ``enqueue_many`` and their twins store jobs in the transaction
        of that connection. See :meth:`jobify.router.route.Route.using`. ::

            async with connection.transaction():
                await app.using(connection).aenqueue("send_receipt", (42,), delay=60)
        """
        return TransactionApp(self, self.client.using(connection))

    def task_for(self, task: Route[ParamsT, ReturnT]) -> Route[ParamsT, ReturnT]:
        """The task as it is in this app.

        For a task of a router that is included in several apps. ::

            app.task_for(send).delay("ada@example.org")

        ConfigurationError if this app does not have it.
        """
        found = task.bound_to(self) if isinstance(task, Route) else None
        if found is None:
            raise ConfigurationError(f"{task!r} is no task of this app. Include its router: app.include_router(...).")
        return found
