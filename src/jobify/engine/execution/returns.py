"""Return claims of which no attempt was made: uncounted, due a little later.

Between a claim and its attempt the code is short and should not fail. If it does all the same (no memory, a defect),
the row must not stay claimed by a process that does not run it. The row alone says what to write: how far the job was
before the claim. The write is tried again while the storage does not take it; at a shutdown the storage takes back
whatever this process still holds.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any, Final

from jobify.engine.events import EngineEvents
from jobify.exceptions import shown
from jobify.gateway.backend import Backend
from jobify.model.clock import Clock, seconds
from jobify.model.records import Claim, Settled, Settlement
from jobify.model.status import Event, JobStatus, next_status
from jobify.runtime.failure_log import FailureLog
from jobify.runtime.logs import get_logger
from jobify.types import Microseconds

__all__ = ("ReleasedClaims",)

log = get_logger("jobify.engine")

_DUE_IN: Final = 1.0
"""Seconds until a returned job is due again: long enough that a defect does not keep the process busy."""
_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 5.0
_RELEASED: Final = next_status(JobStatus.RUNNING, Event.RELEASED).value


class ReleasedClaims:
    """Returns claims that could not begin."""

    def __init__(self, events: EngineEvents, clock: Clock) -> None:
        self._events = events
        self._clock = clock
        self._failures = FailureLog(log, "")

    def release_failed(self, backend: Backend, claim: Claim, error: BaseException) -> None:
        """Return ``claim``, whose attempt could not be made because of ``error``. Never raises; frees no slot."""
        message = "Job %s (%s) cannot begin and is returned to the storage: %r"
        self._failures.warn(self, message, claim.id, claim.task, error)
        settlement = _returned(backend, claim, due_at=self._clock.now() + seconds(_DUE_IN))
        self._write(
            backend,
            settlement._replace(ready=False, error=f"could not begin: {type(error).__name__}: {shown(error)}"),
            _FIRST_PAUSE,
        )

    def release(self, backend: Backend, claim: Claim) -> None:
        """Return ``claim``, whose attempt is better made later, as it was. Never raises; frees no slot."""
        self._write(backend, _returned(backend, claim, due_at=claim.due_at), _FIRST_PAUSE)

    def _write(self, backend: Backend, settlement: Settlement, pause: float) -> None:
        try:
            backend.gate.settle(settlement, partial(self._on_answer, backend, settlement, pause), audience=None)
        except Exception as error:
            self._on_answer(backend, settlement, pause, error)

    def _on_answer(self, backend: Backend, settlement: Settlement, pause: float, answer: Any) -> None:
        if isinstance(answer, Exception):
            longer = min(pause * 2, _LONGEST_PAUSE)
            asyncio.get_running_loop().call_later(pause, self._write, backend, settlement, longer)
        elif answer is not Settled.REFUSED:
            self._events.job_due(backend, settlement.due_at)


def _returned(backend: Backend, claim: Claim, *, due_at: Microseconds) -> Settlement:
    return Settlement(
        status=_RELEASED,
        ready=True,
        due_at=due_at,
        offset_at=claim.due_at if claim.rule is not None and claim.offset_at is None else claim.offset_at,
        attempt=max(0, claim.attempt - 1),
        run_count=claim.run_count,
        failure_count=claim.failure_count,
        result=None,
        error=None,
        finished_at=None,
        delete_at=None,
        is_dead=False,
        is_lost=False,
        id=claim.id,
        owner=backend.owner,
        fence=claim.fence,
    )
