"""What middleware, exception handlers and INJECT parameters see of an attempt."""

from __future__ import annotations

from jobify.config import JobifyConfiguration
from jobify.engine.execution.attempt import Attempt
from jobify.engine.execution.handles import HandleRegistry
from jobify.jobs.context import JobContext, Runnable, RunStrategy
from jobify.jobs.schedule_builder import ScheduleBuilder, Scheduler
from jobify.model.state import RequestState
from jobify.model.status import JobStatus

__all__ = ("Contexts",)


class Contexts:
    """Makes contexts, for those attempts that need one."""

    def __init__(self, handles: HandleRegistry, scheduler: Scheduler, config: JobifyConfiguration) -> None:
        self._handles = handles
        self._scheduler = scheduler
        self._config = config

    def of(self, attempt: Attempt, strategy: RunStrategy) -> JobContext:
        """The context of an attempt that begins; ``strategy`` runs its function with other arguments."""
        endpoint = attempt.endpoint
        job = self._handles.of_attempt(attempt)
        job.status = JobStatus.RUNNING
        return JobContext(
            job=job,
            state=endpoint.state,
            runnable=Runnable(
                name=endpoint.name,
                bound=endpoint.spec.bind(attempt.args, attempt.kwargs),
                strategy=strategy,
                func_spec=endpoint.spec,
                positional=len(attempt.args),
            ),
            request_state=RequestState(),
            route_options=endpoint.options,
            jobify_config=self._config,
            schedule_builder=ScheduleBuilder(
                name=endpoint.name,
                func_spec=endpoint.spec,
                options=endpoint.options,
                scheduler=self._scheduler,
                args=attempt.args,
                kwargs=attempt.kwargs,
            ),
            app=self._config.app,
        )
