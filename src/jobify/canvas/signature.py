"""One call of a task as a value, to be changed, put into a workflow, and applied; groups and chords of such calls."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy
from pickle import PicklingError
from typing import Any, NoReturn, Protocol, TypeVar, Unpack, overload

import msgspec

from jobify.canvas.step import Step, StepOutput, WorkflowPlan, chain, steps_of
from jobify.exceptions import ConfigurationError
from jobify.jobs.job_request import (
    DEFAULT_SPEC,
    EnqueueOptions,
    JobRequest,
    JobSpec,
    ResultInput,
    Submitter,
    validate_options,
)
from jobify.jobs.job_result import JobResult

__all__ = ("Signature", "chord", "chunks", "group", "starmap")


Return_co = TypeVar("Return_co", covariant=True)


class Signature(Step[JobResult[Return_co]]):
    """``task.s(...)``: this task, with these arguments.

    In a chain, the result of the previous step is passed as the first argument, before the others; ``task.si(...)``
    takes no result, and only waits. A signature does not change: its methods return new ones. ::

        step = add.s(1).set(priority=5, queue="math")
        step.delay(2)        # add(1, 2)
    """

    __slots__ = ("_options", "_submitter", "args", "is_immutable", "kwargs", "spec", "task")

    def __init__(
        self,
        task: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        submitter: Submitter,
        *,
        is_immutable: bool = False,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.task = task
        self.args = args
        self.kwargs = dict(kwargs)
        self.is_immutable = is_immutable
        self.spec: JobSpec = DEFAULT_SPEC if options is None else validate_options(options)
        self._options: Mapping[str, Any] = options or {}
        self._submitter = submitter

    def __repr__(self) -> str:
        arguments = [*map(repr, self.args), *(f"{name}={value!r}" for name, value in self.kwargs.items())]
        return f"<{self.task}({', '.join(arguments)})>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Signature) and self._key() == other._key()

    __hash__ = None  # type: ignore[assignment]  # its arguments may be lists

    def _key(self) -> tuple[Any, ...]:
        return self.task, self.args, self.kwargs, self.is_immutable, self.spec, self._submitter

    def set(self, **options: Unpack[EnqueueOptions]) -> Signature[Return_co]:
        """A signature with these options, which override earlier ones.

        For the options see ``EnqueueOptions``. ConfigurationError for an unknown option or an invalid value.
        """
        return self._with(self.args, self.kwargs, {**self._options, **options})

    def clone(self, *args: Any, **kwargs: Any) -> Signature[Return_co]:
        """A signature with more arguments, which come after the present ones."""
        return self._with((*self.args, *args), {**self.kwargs, **kwargs}, self._options)

    def _with(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], options: Mapping[str, Any]
    ) -> Signature[Return_co]:
        return Signature(
            self.task, args, kwargs, self._submitter, is_immutable=self.is_immutable, options=options or None
        )

    def __copy__(self) -> Signature[Return_co]:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Signature[Return_co]:
        return self._with(deepcopy(self.args, memo), deepcopy(self.kwargs, memo), self._options)

    def __reduce__(self) -> NoReturn:
        raise PicklingError(
            f"{self!r} cannot be pickled, because it belongs to the app of its process. Pass the task, or its name, "
            "and the arguments on."
        )

    # -- applying ------------------------------------------------------------------------------------------------------

    def add_to(self, plan: WorkflowPlan, previous: StepOutput) -> StepOutput:
        """See :class:`~jobify.canvas.step.Step`."""
        request = JobRequest(self.task, self.args, self.kwargs, self.spec)
        if previous.indexes or previous.is_list or previous.after:
            fed = ResultInput(previous.indexes, previous.is_list, is_taken=not self.is_immutable, after=previous.after)
            request = msgspec.structs.replace(request, result_input=fed)
        return StepOutput((plan.add(request, self._submitter),))

    def delay(self, *args: Any, **kwargs: Any) -> JobResult[Return_co]:
        """Enqueue it with more arguments."""
        return self.clone(*args, **kwargs).apply()

    async def adelay(self, *args: Any, **kwargs: Any) -> JobResult[Return_co]:
        """:meth:`delay`, without blocking the event loop."""
        return await self.clone(*args, **kwargs).aapply()

    def apply_async(self, **options: Unpack[EnqueueOptions]) -> JobResult[Return_co]:
        """Enqueue it with these options."""
        return self.set(**options).apply()

    async def aapply_async(self, **options: Unpack[EnqueueOptions]) -> JobResult[Return_co]:
        """:meth:`apply_async`, without blocking the event loop."""
        return await self.set(**options).aapply()


# -- workflow ----------------------------------------------------------------------------------------------------------
# Groups, functions that make groups, and chords that collect their results.

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
