"""Groups, functions that make groups, and chords that collect their results."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol, TypeVar, overload

from jobify.canvas.signature import Signature
from jobify.canvas.step import Step, StepOutput, WorkflowPlan, chain, steps_of
from jobify.exceptions import ConfigurationError
from jobify.jobs.job_result import JobResult

__all__ = ("chord", "chunks", "group", "starmap")


Return_co = TypeVar("Return_co", covariant=True)
ReturnT = TypeVar("ReturnT")
Applied_co = TypeVar("Applied_co", covariant=True)


class _Task(Protocol[Return_co]):
    """The part of a task that is needed here."""

    def s(self, *args: Any, **kwargs: Any) -> Signature[Return_co]: ...


class group(Step[list[JobResult[ReturnT]]]):
    """Run steps in parallel. ``apply()`` returns the list of their handles, in order.

    An empty group has the result ``[]``. What comes after it still waits for what comes before it.
    """

    @overload
    def __init__(self, *steps: Step[JobResult[ReturnT]]) -> None: ...
    @overload
    def __init__(self, steps: Iterable[Step[JobResult[ReturnT]]], /) -> None: ...
    @overload
    def __init__(self, *steps: Step[list[JobResult[ReturnT]]]) -> None: ...
    @overload
    def __init__(self, steps: Iterable[Step[list[JobResult[ReturnT]]]], /) -> None: ...
    @overload
    def __init__(self: group[Any], *steps: Step[Any] | Iterable[Step[Any]]) -> None: ...
    def __init__(self, *steps: Any) -> None:
        self.steps = steps_of(steps, "group")

    def __repr__(self) -> str:
        return f"group({', '.join(map(repr, self.steps))})"

    def __len__(self) -> int:
        return len(self.steps)

    def add_to(self, plan: WorkflowPlan, previous: StepOutput) -> StepOutput:
        """See :class:`~jobify.canvas.step.Step`."""
        if not self.steps:
            return StepOutput((), is_list=True, after=(*previous.indexes, *previous.after))
        outputs = [step.add_to(plan, previous) for step in self.steps]
        after = dict.fromkeys(index for output in outputs for index in output.after)
        return StepOutput(
            tuple(index for output in outputs for index in output.indexes), is_list=True, after=tuple(after)
        )


class chord(chain[Applied_co]):
    """Run a group, then a step that gets the list of its results.

    The list is in the order of the group. ``apply()`` returns the handle of that last step.
    """

    def __init__(self, header: group[Any] | Iterable[Step[Any]], callback: Step[Applied_co]) -> None:
        if not isinstance(callback, Step):
            raise ConfigurationError(
                f"The callback of a chord is a signature or a workflow, not {callback!r}. Did you mean task.s(...)?"
            )
        super().__init__(header if isinstance(header, group) else group(header), callback)


def chunks(task: _Task[ReturnT], items: Iterable[Any], chunk_size: int) -> group[ReturnT]:
    """A group of jobs that each get a list of ``chunk_size`` items.

    The last one gets the rest.

    >>> len(list(range(0, 10, 4)))  # chunks(task, range(10), 4) makes 3 jobs
    3
    """
    _require_task(task, "chunks")
    if isinstance(chunk_size, bool) or not isinstance(chunk_size, int) or chunk_size < 1:
        raise ConfigurationError(f"chunk_size is {chunk_size!r}; it must be a whole number of at least 1.")
    all_items = list(items)
    return group(task.s(all_items[start : start + chunk_size]) for start in range(0, len(all_items), chunk_size))


def starmap(task: _Task[ReturnT], args_list: Iterable[Iterable[Any]]) -> group[ReturnT]:
    """A group of jobs, one for each of ``args_list``, which are tuples of arguments."""
    _require_task(task, "starmap")
    calls = list(args_list)
    for arguments in calls:
        if isinstance(arguments, str | bytes) or not isinstance(arguments, Iterable):
            raise ConfigurationError(
                f"starmap takes tuples of arguments, one for each job, not {arguments!r}. Write ({arguments!r},) for a "
                "task of one argument."
            )
    return group(task.s(*arguments) for arguments in calls)


def _require_task(task: object, what: str) -> None:
    if not hasattr(task, "s"):
        raise ConfigurationError(f"{what} takes a task, not {task!r}. It makes the signatures itself.")
