"""One call of a task as a value, to be changed, put into a workflow, and applied."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from pickle import PicklingError
from typing import Any, NoReturn, TypeVar, Unpack

import msgspec

from jobify.canvas.step import Step, StepOutput, WorkflowPlan
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

__all__ = ("Signature",)

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
