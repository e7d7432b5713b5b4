"""Stored calls that do not fit the code of this process: which they are, and which code that is.

A release that renames, moves or removes what stored calls name must not make them fail: nothing of them has run, and
other code can run them: that of the release before, or of the next one. So such a job is parked with the
reason and waits; see *Parked calls* in :mod:`jobify.storage.base`.

It is an exception if this process itself has asked for the job: there is no other code than its own that the call was
made for, so the job fails, and its caller gets the reason.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import cached_property
from secrets import token_hex
from typing import Final

from jobify.config import JobifyConfiguration
from jobify.engine.execution.attempt import Attempt
from jobify.exceptions import PayloadError, ResultNotStoredError
from jobify.model.status import Unfit
from jobify.router.registry import Registry, endpoints_of
from jobify.runtime.app_code import app_code
from jobify.runtime.logs import get_logger
from jobify.serializers.extended_json import ExtendedJSONSerializer

__all__ = ("AppCode", "ParkedPolling", "unfit_of")

log = get_logger("jobify.engine")

_PAUSE: Final = 1.0
"""Seconds between two looks for parked calls, if the first was in vain and something was heard meanwhile."""
_LONG_PAUSE: Final = 5.0
"""... and if nothing was."""


class AppCode:
    """The fingerprint of the app's code, made when it is first asked for: most processes never need it.

    Where it cannot be made (an object of the user's raises an error when it is looked at) it is another one in each
    process, so that each tries what is parked once.
    """

    def __init__(self, registry: Registry, config: JobifyConfiguration) -> None:
        self._registry = registry
        self._config = config

    def __call__(self) -> str:
        return self._code

    @cached_property
    def _code(self) -> str:
        config = self._config
        kinds = (type(config.serializer), type(config.dumper), type(config.loader))
        settings = [f"{kind.__module__}:{kind.__qualname__}" for kind in kinds]
        serializer = config.serializer
        types = serializer.known_types() if isinstance(serializer, ExtendedJSONSerializer) else []
        types += config.renamed_types.items()
        try:
            return app_code([(each.name, each.func) for each in endpoints_of(self._registry)], types, settings)
        except Exception as error:
            log.warning("The code of the app has no fingerprint, because it cannot be looked at: %r", error)
            return token_hex(16)


def unfit_of(attempt: Attempt, error: BaseException) -> Unfit | None:
    """What the attempt has come to if its call does not fit this code; None if it does, or fails for it."""
    if attempt.interruption is not None or attempt.origin == attempt.backend.owner:
        return None
    reason = None if attempt.call is None else attempt.call.misfit
    if reason is None and not attempt.is_readable and _is_about_a_value(error):
        reason = str(error)
    return None if reason is None else Unfit(reason, attempt.backend.app_code())


def _is_about_a_value(error: BaseException) -> bool:
    """Whether a stored value is there, and cannot be read here: the arguments, or a result that is one of them."""
    return isinstance(error, PayloadError) or (
        isinstance(error, ResultNotStoredError) and isinstance(error.__cause__, PayloadError)
    )


class ParkedPolling:
    """When a dispatcher asks for parked calls: not with each claim, because those that are left do not fit its code."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self.is_any = False
        """Whether there are parked calls at all. (A plain attribute, because every claim asks for it.)"""
        self._asked_at = self._not_before = -_LONG_PAUSE
        self._timer: asyncio.TimerHandle | None = None

    def storage_changed(self) -> None:
        """The storage has changed: the next look may come earlier."""
        self._not_before = min(self._not_before, self._asked_at + _PAUSE)

    def update(self, is_any: bool) -> None:
        """What a claim of ordinary jobs has answered."""
        self.is_any = is_any
        self.close()
        if is_any and (wait := self._not_before - self._now()) > 0:
            self._timer = asyncio.get_running_loop().call_later(wait, self._wake)

    @property
    def is_due(self) -> bool:
        """Whether it is time to ask, if there are any."""
        return self._now() >= self._not_before

    def answered(self, *, was_in_vain: bool) -> None:
        """Parked calls were asked for."""
        self._asked_at = self._now()
        self._not_before = self._asked_at + (_LONG_PAUSE if was_in_vain else 0)

    def close(self) -> None:
        """Cancel the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
