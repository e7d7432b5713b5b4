"""Check that child processes can run their tasks, before anything is claimed."""

from __future__ import annotations

from jobify.exceptions import ProcessDiedError, ProcessStartError, shown
from jobify.model.task_options import RunMode
from jobify.router.registry import Registry, endpoints_of
from jobify.runners.base import Call, Runner

__all__ = ("check_children",)


async def check_children(runner: Runner | None, registry: Registry, queues: tuple[str, ...] | None) -> None:
    """Start a child and have it find all functions that are to run in one. ProcessStartError says what keeps it from
    that. No child is started if none of the served queues is the queue of such a task."""
    served = [each for each in endpoints_of(registry) if queues is None or each.queue in queues]
    addresses = tuple(endpoint.address for endpoint in served if endpoint.address is not None)
    if runner is not None and any(endpoint.run_mode is RunMode.PROCESS for endpoint in served):
        from jobify.runners import child  # brings multiprocessing along

        try:
            await runner.run(Call(child.check, (addresses,)))
        except Exception as error:
            code = error.exit_code if isinstance(error, ProcessDiedError) else None
            raise ProcessStartError(
                code,
                "A child process cannot run the tasks with RunMode.PROCESS, so nothing was claimed: "
                f"{type(error).__name__}: {shown(error).rstrip('.')}. Child processes import these tasks' modules "
                "again; see that this works in a process where the app does not run.",
            ) from error
