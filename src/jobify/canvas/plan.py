"""A workflow as a batch of requests: who is fed by whom.

Steps are added in order, so that each is preceded by what it waits for. A step is told its *feed*: the places of the
jobs whose results it gets. It answers with what it feeds to the next one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

from jobify.exceptions import ConfigurationError
from jobify.jobrequest import JobRequest, Submitter
from jobify.result import JobResult

__all__ = ("START", "Output", "Plan", "Step")


class Output(NamedTuple):
    """What a step hands to the next one: the results of these jobs of the batch."""

    places: tuple[int, ...]
    is_list: bool = False
    """As one list, be it of one or of none; else there is only one, or (at the start) nothing."""


START = Output(())


class Plan:
    """A batch of requests that grows."""

    def __init__(self) -> None:
        self.requests: list[JobRequest] = []
        self.submitter: Submitter | None = None

    def add(self, request: JobRequest, submitter: Submitter) -> int:
        """One more job; its place in the batch. ConfigurationError if it belongs to another app than the others."""
        if self.submitter is not None and submitter is not self.submitter:
            raise ConfigurationError(
                f"The task {request.task!r} belongs to another app than the steps before it. A workflow is stored in "
                "one transaction: enqueue what is for another app by itself."
            )
        self.submitter = submitter
        self.requests.append(request)
        return len(self.requests) - 1


class Step(ABC):
    """A part of a workflow, or a whole one. Immutable."""

    @abstractmethod
    def add_to(self, plan: Plan, feed: Output) -> Output:
        """Add the jobs of this step, which gets ``feed``; what it hands on."""

    def apply(self) -> Any:
        """Store all jobs in one transaction, and return the handle of the last one (of a group: a list of handles).

        Waits for no job. What is wrong with any step is raised here, and nothing is stored then: TypeError,
        ConfigurationError, PayloadError, StorageUnavailableError.
        """
        plan, output = self._plan()
        if plan.submitter is None:
            return []
        return _handles(plan.submitter.submit(plan.requests), output)

    async def aapply(self) -> Any:
        """:meth:`apply`, without blocking the event loop."""
        plan, output = self._plan()
        if plan.submitter is None:
            return []
        return _handles(await plan.submitter.asubmit(plan.requests), output)

    def _plan(self) -> tuple[Plan, Output]:
        plan = Plan()
        return plan, self.add_to(plan, START)


def _handles(results: list[JobResult[Any]], output: Output) -> Any:
    handles = [results[place] for place in output.places]
    return handles if output.is_list else handles[0]
