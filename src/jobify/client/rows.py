"""From a request to a row."""

from __future__ import annotations

from datetime import tzinfo
from typing import Any, Final

import msgspec

from jobify.client.targets import ResolvedTask
from jobify.client.values import ValueCodec
from jobify.exceptions import PayloadError
from jobify.jobs.job_request import JobRequest, JobSpec
from jobify.model.clock import Clock
from jobify.model.ids import text_ids
from jobify.model.job_options import ParentResults
from jobify.model.records import NewJob
from jobify.model.status import JobStatus
from jobify.serializers.codec import ParameterTypes
from jobify.types import Microseconds, UUIDGenerator

__all__ = ("PLACEHOLDER", "RowBuilder", "args_with_placeholder", "former_keys")

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
