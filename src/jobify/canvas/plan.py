"""A workflow as a batch of requests: who is fed by whom.

Steps are added in order, so that each is preceded by what it waits for. A step is told its *feed*: the places of the
jobs whose results it gets. It answers with what it feeds to the next one. An empty group has no job that could wait, so
it hands on the feed that it was told, to be waited for, and the list of its results, which is empty.
"""

from __future__ import annotations

from typing import NamedTuple

from jobify.exceptions import ConfigurationError
from jobify.jobs.job_request import JobRequest, Submitter

__all__ = ("START", "StepOutput", "WorkflowPlan")


class StepOutput(NamedTuple):
    """What a step hands to the next one: the results of these jobs of the batch."""

    indexes: tuple[int, ...]
    is_list: bool = False
    """As one list, also of one or of none; else there is only one, or (at the start) nothing."""
    after: tuple[int, ...] = ()
    """These jobs of the batch are only waited for: their results went into groups that are empty."""


START = StepOutput(())


class WorkflowPlan:
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
