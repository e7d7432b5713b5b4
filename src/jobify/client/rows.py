"""From a request to a row."""

from __future__ import annotations

from datetime import tzinfo
from typing import Any, Final

import msgspec

from jobify.client.targets import Target
from jobify.client.values import Coding
from jobify.exceptions import PayloadError
from jobify.jobs.job_request import JobRequest, JobSpec
from jobify.model.clock import Clock
from jobify.model.ids import text_ids
from jobify.model.job_options import ParentResults
from jobify.model.records import NewJob
from jobify.model.status import JobStatus
from jobify.serializers.codec import ParameterTypes
from jobify.types import Microseconds, UUIDGenerator

__all__ = ("TO_COME", "Rows", "fed_args", "former_keys")

_WAITING: Final = JobStatus.SCHEDULED.value


class _ToCome:
    """Stands for the result of another job among the arguments, until there is one."""

    def __repr__(self) -> str:
        return "<the result of the job before>"


TO_COME: Final[Any] = _ToCome()


class Rows:
    """Makes rows: nothing is stored, and what cannot be stored is refused."""

    def __init__(self, coding: Coding, new_id: UUIDGenerator, clock: Clock, zone: tzinfo) -> None:
        self._coding = coding
        self._new_id = text_ids(new_id)
        self._clock = clock
        self._zone = zone

    def plain(self, target: Target, args: tuple[Any, ...], kwargs: Any) -> NewJob:
        """A job without options: due now, with its task's queue and priority."""
        if target.check is not None:
            target.check(*args, **kwargs)
        now = self._clock.now()
        payload = self._payload(target, args, kwargs, target.types)
        return NewJob(
            self._new_id(), target.name, target.queue, target.priority, _WAITING, True, now, now, payload,
            None, None, None, None, None, 0, 0, None, None, None,
        )  # fmt: skip

    def new_id(self, spec: JobSpec) -> str:
        """The id of a job: chosen, or made."""
        return self._new_id() if spec.job_id is None else spec.job_id

    def due_at(self, spec: JobSpec, now: Microseconds) -> Microseconds:
        """When a job is to run."""
        return spec.due_at(now, self._zone)

    def row(self, target: Target, request: JobRequest, job_id: str, parents: tuple[str, ...] = ()) -> NewJob:
        """The row of a request; ``parents`` are the ids of the jobs it waits for, each once."""
        spec, result_input, now = request.spec, request.result_input, self._clock.now()
        due_at = self.due_at(spec, now)
        options, types = spec.options(), target.types
        if result_input is not None and result_input.is_taken:
            options = msgspec.structs.replace(
                options, inputs=ParentResults(count=len(result_input.indexes), is_list=result_input.is_list)
            )
            types = types.after(1)
        return NewJob(
            id=job_id,
            task=target.name,
            queue=spec.queue or target.queue,
            priority=target.priority if spec.priority is None else spec.priority,
            status=_WAITING,
            ready=due_at <= now,
            due_at=due_at,
            created_at=now,
            payload=self._payload(target, request.args, request.kwargs, types),
            rule=None,
            offset_at=now if spec.eta is None and due_at > now else None,
            options=options.text(),
            origin=None,
            owner=None,
            fence=0,
            attempt=0,
            started_at=None,
            unique_key=spec.scoped_key(target.name),
            expires_at=spec.expires_at(now, self._zone),
            parents=tuple(dict.fromkeys((*parents, *spec.parents))) if spec.parents else parents,
        )

    def _payload(self, target: Target, args: tuple[Any, ...], kwargs: Any, types: ParameterTypes) -> Any:
        try:
            return self._coding.call(args, kwargs, types)
        except PayloadError as error:
            raise PayloadError(f"Cannot store a job of task {target.name!r}: {error} Nothing was stored.") from error


def fed_args(request: JobRequest) -> tuple[Any, ...]:
    """The positional arguments, what is to come in front of them included."""
    is_fed = request.result_input is not None and request.result_input.is_taken
    return (TO_COME, *request.args) if is_fed else request.args


def former_keys(target: Target, spec: JobSpec) -> list[str]:
    """The unique keys that jobs have which were stored for the same request under earlier names of the task."""
    return spec.former_keys(target.aliases)
