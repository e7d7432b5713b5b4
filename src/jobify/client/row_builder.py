"""Tasks by name, and the rows of jobs that are enqueued for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import tzinfo
from typing import Any, Final

import msgspec

from jobify.client.values import ValueCodec
from jobify.exceptions import ConfigurationError, PayloadError
from jobify.jobs.job_request import JobRequest, JobSpec
from jobify.model.clock import Clock
from jobify.model.ids import text_ids
from jobify.model.job_options import ParentResults
from jobify.model.records import NewJob
from jobify.model.status import JobStatus
from jobify.model.task_options import DEFAULT_QUEUE
from jobify.router.registry import Endpoint, Registry
from jobify.serializers.codec import UNTYPED, ParameterTypes
from jobify.types import Microseconds, UUIDGenerator

__all__ = (
    "PLACEHOLDER",
    "ResolvedTask",
    "RowBuilder",
    "TaskResolver",
    "args_with_placeholder",
    "former_keys",
)


@dataclass(frozen=True, slots=True)
class ResolvedTask:
    """A task that jobs are enqueued for; its ``endpoint`` is None where its code is not in this process."""

    name: str
    queue: str = DEFAULT_QUEUE
    priority: int = 0
    check: Callable[..., object] | None = None
    """Takes the arguments of a call and raises TypeError if they do not fit; None: they are checked where it runs."""
    types: ParameterTypes = UNTYPED
    result_type: Any = Any
    endpoint: Endpoint | None = None
    aliases: tuple[str, ...] = ()
    """Earlier names that jobs of the task may be stored under."""
    has_outer: bool = False


class TaskResolver:
    """Finds tasks. ``build()`` resolves those of the app, ``is_durable()`` says whether its storage outlives it."""

    def __init__(self, build: Callable[[], Registry], is_durable: Callable[[], bool]) -> None:
        self._build = build
        self._is_durable = is_durable
        self._targets: dict[str, ResolvedTask] = {}
        self._registry: Registry | None = None

    def forget(self) -> None:
        """The app's configuration is about to change."""
        self._registry = None
        self._targets = {}

    def of(self, name: str) -> ResolvedTask:
        """The task of this name. ConfigurationError if its jobs cannot be enqueued."""
        task = self._targets.get(name)
        if task is None:
            task = self._targets[name] = self._resolve(name)
        return task

    def result_type(self, name: str) -> Any:
        """The annotation of what the task returns; Any where it is not known."""
        return self.known(name).result_type

    def known(self, name: str) -> ResolvedTask:
        """:meth:`of`, for looking only."""
        endpoint = self._all().get(name)
        return ResolvedTask(name) if endpoint is None else _target(endpoint)

    def names(self, name: str) -> tuple[str, ...]:
        """The names that jobs of the task may be stored under."""
        task = self.known(name)
        return (task.name, *task.aliases)

    def _all(self) -> Registry:
        if self._registry is None:
            self._registry = self._build()
        return self._registry

    def _resolve(self, name: str) -> ResolvedTask:
        task = self.known(name)
        if task.endpoint is not None and not task.endpoint.is_durable and self._is_durable():
            raise ConfigurationError(
                f"Task {name!r} is durable=False: its jobs live in the memory of the app that pushes them, and nobody "
                "else would find them. Use push() or schedule(), or remove durable=False."
            )
        return task


def _target(endpoint: Endpoint) -> ResolvedTask:
    return ResolvedTask(
        name=endpoint.name,
        queue=endpoint.options.get("queue", DEFAULT_QUEUE),
        priority=endpoint.options.get("priority", 0),
        check=endpoint.spec.check,
        types=endpoint.types,
        result_type=endpoint.spec.result_type,
        endpoint=endpoint,
        aliases=endpoint.aliases,
        has_outer=bool(endpoint.outer),
    )


_WAITING: Final = JobStatus.SCHEDULED.value


class _Placeholder:
    """Stands for the result of another job among the arguments, until there is one."""

    def __repr__(self) -> str:
        return "<the result of the job before>"


PLACEHOLDER: Final[Any] = _Placeholder()


class RowBuilder:
    """Makes rows: nothing is stored, and what cannot be stored is refused."""

    def __init__(self, values: ValueCodec, new_id: UUIDGenerator, clock: Clock, zone: tzinfo) -> None:
        self._values = values
        self._new_id = text_ids(new_id)
        self._clock = clock
        self._zone = zone

    def plain(self, task: ResolvedTask, args: tuple[Any, ...], kwargs: Any) -> NewJob:
        """A job without options: due now, with its task's queue and priority."""
        if task.check is not None:
            task.check(*args, **kwargs)
        now = self._clock.now()
        payload = self._payload(task, args, kwargs, task.types)
        return NewJob(
            self._new_id(), task.name, task.queue, task.priority, _WAITING, True, now, now, payload,
            None, None, None, None, None, 0, 0, None, None, None,
        )  # fmt: skip

    def new_id(self, spec: JobSpec) -> str:
        """The id of a job: chosen, or made."""
        return self._new_id() if spec.job_id is None else spec.job_id

    def due_at(self, spec: JobSpec, now: Microseconds) -> Microseconds:
        """When a job is to run."""
        return spec.due_at(now, self._zone)

    def row(self, task: ResolvedTask, request: JobRequest, job_id: str, parents: tuple[str, ...] = ()) -> NewJob:
        """The row of a request; ``parents`` are the ids of the jobs it waits for, each once."""
        spec, result_input, now = request.spec, request.result_input, self._clock.now()
        due_at = self.due_at(spec, now)
        options, types = spec.options(), task.types
        if result_input is not None and result_input.is_taken:
            options = msgspec.structs.replace(
                options, inputs=ParentResults(count=len(result_input.indexes), is_list=result_input.is_list)
            )
            types = types.after(1)
        return NewJob(
            id=job_id,
            task=task.name,
            queue=spec.queue or task.queue,
            priority=task.priority if spec.priority is None else spec.priority,
            status=_WAITING,
            ready=due_at <= now,
            due_at=due_at,
            created_at=now,
            payload=self._payload(task, request.args, request.kwargs, types),
            rule=None,
            offset_at=now if spec.eta is None and due_at > now else None,
            options=options.text(),
            origin=None,
            owner=None,
            fence=0,
            attempt=0,
            started_at=None,
            unique_key=spec.scoped_key(task.name),
            expires_at=spec.expires_at(now, self._zone),
            parents=tuple(dict.fromkeys((*parents, *spec.parents))) if spec.parents else parents,
        )

    def _payload(self, task: ResolvedTask, args: tuple[Any, ...], kwargs: Any, types: ParameterTypes) -> Any:
        try:
            return self._values.call(args, kwargs, types)
        except PayloadError as error:
            raise PayloadError(f"Cannot store a job of task {task.name!r}: {error} Nothing was stored.") from error


def args_with_placeholder(request: JobRequest) -> tuple[Any, ...]:
    """The positional arguments, what is to come in front of them included."""
    is_fed = request.result_input is not None and request.result_input.is_taken
    return (PLACEHOLDER, *request.args) if is_fed else request.args


def former_keys(task: ResolvedTask, spec: JobSpec) -> list[str]:
    """The unique keys that jobs have which were stored for the same request under earlier names of the task."""
    return spec.former_keys(task.aliases)
