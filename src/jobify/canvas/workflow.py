"""Signatures put together."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from jobify.canvas.plan import Output, Plan, Step
from jobify.canvas.signature import Signature
from jobify.exceptions import ConfigurationError
from jobify.result import JobResult

__all__ = ("chain", "chord", "chunks", "group", "starmap")


class _Task(Protocol):
    """A task, as far as it is needed here."""

    def s(self, *args: Any, **kwargs: Any) -> Signature[Any]: ...


class chain(Step):
    """Steps one after the other; each gets the result of the one before it as its first argument.

    After a group comes a chord: the next step gets the list of the group's results. A group after a step: each of its
    members gets that step's result. ``a.s() | b.s()`` is the same as ``chain(a.s(), b.s())``.

    ``apply()`` returns the handle of the last job; where a group comes last, the list of its handles.
    """

    def __init__(self, *steps: Step | Iterable[Step]) -> None:
        self.steps = _flat(_steps(steps, "chain"))
        if not self.steps:
            raise ConfigurationError("A chain without steps does nothing. Give it signatures: chain(task.s(...), ...).")

    def __repr__(self) -> str:
        return " | ".join(map(repr, self.steps))

    def __or__(self, other: Step) -> chain:
        return chain(self, other)

    def add_to(self, plan: Plan, feed: Output) -> Output:
        """See :class:`~jobify.canvas.plan.Step`."""
        for step in self.steps:
            feed = step.add_to(plan, feed)
        return feed

    def delay(self) -> Any:
        """Short for :meth:`apply`."""
        return self.apply()


class group(Step):
    """Steps beside each other. ``apply()`` returns the list of their handles, in order."""

    def __init__(self, *steps: Step | Iterable[Step]) -> None:
        self.steps = _steps(steps, "group")

    def __repr__(self) -> str:
        return f"group({', '.join(map(repr, self.steps))})"

    def __len__(self) -> int:
        return len(self.steps)

    def __or__(self, other: Step) -> chain:
        return chain(self, other)

    def add_to(self, plan: Plan, feed: Output) -> Output:
        """See :class:`~jobify.canvas.plan.Step`."""
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


def _steps(given: tuple[Step | Iterable[Step], ...], what: str) -> tuple[Step, ...]:
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


def _flat(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """A chain of chains is one chain, however long it has grown by ``|``."""
    return tuple(part for step in steps for part in (step.steps if isinstance(step, chain) else (step,)))
