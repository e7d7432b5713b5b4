"""The base of all parts of a workflow, the batch of requests that they become, and chains.

Steps are added to a batch in order, so that each comes after those it waits for. A step gets the output of the previous
one: the indexes in the batch of the jobs whose results it takes. It returns its own output for the next one. An empty
group has no job that could wait, so it returns the jobs before it as those to wait for, and an empty list of results.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, Generic, NamedTuple, TypeVar, overload

from jobify.exceptions import ConfigurationError
from jobify.jobs.job_request import JobRequest, Submitter
from jobify.jobs.job_result import JobResult

__all__ = ("Step", "StepOutput", "TransactionStep", "WorkflowPlan", "chain", "steps_of")


Applied_co = TypeVar("Applied_co", covariant=True)
"""What ``apply()`` returns: a JobResult, or a list of them if a group comes last."""
OtherT = TypeVar("OtherT")


class StepOutput(NamedTuple):
    """The jobs of the batch whose results a step passes to the next one."""

    indexes: tuple[int, ...]
    is_list: bool = False
    """Whether the results are passed as one list. If not, there is one result, or (at the start) none."""
    after: tuple[int, ...] = ()
    """Jobs that the next step only waits for, because an empty group follows them."""


START = StepOutput(())


class WorkflowPlan:
    """The batch of requests that a workflow becomes."""

    def __init__(self) -> None:
        self.requests: list[JobRequest] = []
        self.submitter: Submitter | None = None

    def add(self, request: JobRequest, submitter: Submitter) -> int:
        """Add a job and return its index. ConfigurationError if it belongs to another app than the others."""
        if self.submitter is not None and submitter is not self.submitter:
            raise ConfigurationError(
                f"The task {request.task!r} belongs to another app than the steps before it. A workflow is stored in "
                "one transaction: enqueue the jobs of another app separately."
            )
        self.submitter = submitter
        self.requests.append(request)
        return len(self.requests) - 1


class Step(ABC, Generic[Applied_co]):
    """A part of a workflow, or a whole one. Immutable."""

    def __or__(self, other: Step[OtherT]) -> chain[OtherT]:
        return chain(self, other)

    @abstractmethod
    def add_to(self, plan: WorkflowPlan, previous: StepOutput) -> StepOutput:
        """Add the jobs of this step to ``plan``; the output. ``previous`` is the output of the step before."""

    def apply(self) -> Applied_co:
        """Store all jobs in one transaction, and return the handle of the last one.

        Of a group: a list of handles. Waits for no job. If any step is wrong, the error is raised here and nothing is
        stored: TypeError, ConfigurationError, PayloadError, StorageUnavailableError.
        """
        plan, output = self._plan()
        results = [] if plan.submitter is None else plan.submitter.submit(plan.requests)
        applied: Applied_co = _handles(results, output)
        return applied

    async def aapply(self) -> Applied_co:
        """:meth:`apply`, without blocking the event loop."""
        plan, output = self._plan()
        results = [] if plan.submitter is None else await plan.submitter.asubmit(plan.requests)
        applied: Applied_co = _handles(results, output)
        return applied

    def using(self, connection: object) -> TransactionStep[Applied_co]:
        """The workflow on a connection of yours: all its jobs are stored in the transaction of that connection.

        See :meth:`jobify.router.route.Route.using`. ::

            chain(fetch.s(url), store.s()).using(session).apply()
        """
        return TransactionStep(self, connection)

    def _plan(self) -> tuple[WorkflowPlan, StepOutput]:
        plan = WorkflowPlan()
        return plan, self.add_to(plan, START)


class TransactionStep(Generic[Applied_co]):
    """A workflow to be stored in a user's transaction."""

    __slots__ = ("_connection", "_step")

    def __init__(self, step: Step[Applied_co], connection: object) -> None:
        self._step = step
        self._connection = connection

    def apply(self) -> Applied_co:
        """:meth:`Step.apply`, in the transaction."""
        plan, output = self._step._plan()
        submitter = None if plan.submitter is None else plan.submitter.using(self._connection)
        applied: Applied_co = _handles([] if submitter is None else submitter.submit(plan.requests), output)
        return applied

    async def aapply(self) -> Applied_co:
        """:meth:`Step.aapply`, in the transaction."""
        plan, output = self._step._plan()
        submitter = None if plan.submitter is None else plan.submitter.using(self._connection)
        results = [] if submitter is None else await submitter.asubmit(plan.requests)
        applied: Applied_co = _handles(results, output)
        return applied


class chain(Step[Applied_co]):
    """Run steps in sequence; each gets the result of the one before it.

    The result is the first argument. A step after a group gets the list of the group's results. Each member of a group
    after a step gets that step's result. ``a.s() | b.s()`` is the same as ``chain(a.s(), b.s())``.

    ``apply()`` returns the handle of the last job, or the list of handles if a group comes last. Type checkers know
    which.
    """

    @overload
    def __init__(self, steps: Iterable[Step[Applied_co]], /) -> None: ...
    @overload
    def __init__(self, *steps: *tuple[*tuple[Step[Any], ...], Step[Applied_co]]) -> None: ...
    def __init__(self, *steps: Any) -> None:  # type: ignore[misc]  # mypy does not see that it takes any last step
        self.steps = _flat(steps_of(steps, "chain"))
        if not self.steps:
            raise ConfigurationError("A chain without steps does nothing. Give it signatures: chain(task.s(...), ...).")

    def __repr__(self) -> str:
        return " | ".join(map(repr, self.steps))

    def add_to(self, plan: WorkflowPlan, previous: StepOutput) -> StepOutput:
        """See :class:`~jobify.canvas.step.Step`."""
        for step in self.steps:
            previous = step.add_to(plan, previous)
        return previous

    def delay(self) -> Applied_co:
        """Short for :meth:`apply`."""
        return self.apply()


def _handles(results: list[JobResult[Any]], output: StepOutput) -> Any:
    handles = [results[index] for index in output.indexes]
    return handles if output.is_list else handles[0]


def steps_of(given: tuple[Any, ...], what: str) -> tuple[Step[Any], ...]:
    """The steps in ``(a, b)``, or in the only iterable that was given."""
    parts: Iterable[Any] = given
    if len(given) == 1 and not isinstance(given[0], Step):
        parts = given[0]
    steps = tuple(parts) if isinstance(parts, Iterable) else (parts,)
    for step in steps:
        if not isinstance(step, Step):
            raise ConfigurationError(
                f"A {what} is made of signatures and of other workflows, not of {step!r}. Did you mean task.s(...)?"
            )
    return steps


def _flat(steps: tuple[Step[Any], ...]) -> tuple[Step[Any], ...]:
    """Flatten nested chains, which ``|`` makes."""
    return tuple(part for step in steps for part in (step.steps if isinstance(step, chain) else (step,)))
