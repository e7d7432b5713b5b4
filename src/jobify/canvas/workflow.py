"""Steps beside each other: groups, what makes them, and what collects their results."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from jobify.canvas.plan import Output, Plan
from jobify.canvas.signature import Signature
from jobify.canvas.step import Step, chain, steps_of
from jobify.exceptions import ConfigurationError
from jobify.result import JobResult

__all__ = ("chord", "chunks", "group", "starmap")


class _Task(Protocol):
    """A task, as far as it is needed here."""

    def s(self, *args: Any, **kwargs: Any) -> Signature[Any]: ...


class group(Step):
    """Steps beside each other. ``apply()`` returns the list of their handles, in order."""

    def __init__(self, *steps: Step | Iterable[Step]) -> None:
        self.steps = steps_of(steps, "group")

    def __repr__(self) -> str:
        return f"group({', '.join(map(repr, self.steps))})"

    def __len__(self) -> int:
        return len(self.steps)

    def add_to(self, plan: Plan, feed: Output) -> Output:
        """See :class:`~jobify.canvas.step.Step`."""
        outputs = [step.add_to(plan, feed) for step in self.steps]
        return Output(tuple(place for output in outputs for place in output.places), is_list=True)

    def apply(self) -> list[JobResult[Any]]:
        """Enqueue all of them."""
        handles: list[JobResult[Any]] = super().apply()
        return handles

    async def aapply(self) -> list[JobResult[Any]]:
        """Enqueue all of them, without blocking the event loop."""
        handles: list[JobResult[Any]] = await super().aapply()
        return handles


class chord(chain):
    """A group, and then a step that gets the list of its results, in the order of the group.

    ``apply()`` returns the handle of that last step.
    """

    def __init__(self, header: group | Iterable[Step], callback: Step) -> None:
        super().__init__(header if isinstance(header, group) else group(header), callback)


def chunks(task: _Task, items: Iterable[Any], size: int) -> group:
    """A group of jobs that each get a list of ``size`` items (the last one gets what is left).

    >>> len(list(range(0, 10, 4)))  # chunks(task, range(10), 4) makes 3 jobs
    3
    """
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise ConfigurationError(f"The size of the chunks is {size!r}; it must be a whole number of at least 1.")
    all_items = list(items)
    return group(task.s(all_items[start : start + size]) for start in range(0, len(all_items), size))


def starmap(task: _Task, calls: Iterable[Iterable[Any]]) -> group:
    """A group of jobs, one for each of ``calls``, which are tuples of arguments."""
    return group(task.s(*arguments) for arguments in calls)
