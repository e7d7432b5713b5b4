"""The parts of a workflow, and parts one after the other."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, Generic, TypeVar, overload

from jobify.canvas.plan import START, StepOutput, WorkflowPlan
from jobify.exceptions import ConfigurationError
from jobify.jobs.job_result import JobResult

__all__ = ("Step", "chain", "steps_of")


Applied_co = TypeVar("Applied_co", covariant=True)
"""What ``apply()`` returns: a JobResult, or a list of them where a group comes last."""
OtherT = TypeVar("OtherT")


class Step(ABC, Generic[Applied_co]):
    """A part of a workflow, or a whole one. Immutable."""

    def __or__(self, other: Step[OtherT]) -> chain[OtherT]:
        return chain(self, other)

    @abstractmethod
    def add_to(self, plan: WorkflowPlan, previous: StepOutput) -> StepOutput:
        """Add the jobs of this step, which gets ``previous``; what it hands on."""

    def apply(self) -> Applied_co:
        """Store all jobs in one transaction, and return the handle of the last one (of a group: a list of handles).

        Waits for no job. What is wrong with any step is raised here, and nothing is stored then: TypeError,
        ConfigurationError, PayloadError, StorageUnavailableError.
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

    def _plan(self) -> tuple[WorkflowPlan, StepOutput]:
        plan = WorkflowPlan()
        return plan, self.add_to(plan, START)


class chain(Step[Applied_co]):
    """Steps one after the other; each gets the result of the one before it as its first argument.

    After a group comes a chord: the next step gets the list of the group's results. A group after a step: each of its
    members gets that step's result. ``a.s() | b.s()`` is the same as ``chain(a.s(), b.s())``.

    ``apply()`` returns the handle of the last job; where a group comes last, the list of its handles. Type checkers
    know its type: that of the last step.
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
    """``(a, b)``, or the parts of the one iterable that was given."""
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
    """A chain of chains is one chain, however long it has grown by ``|``."""
    return tuple(part for step in steps for part in (step.steps if isinstance(step, chain) else (step,)))
