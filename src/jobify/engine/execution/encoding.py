"""What a task returned, as bytes: at once, or in a thread where that takes long."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

from jobify.engine.execution.attempt import Attempt
from jobify.exceptions import PayloadError, shown
from jobify.model.status import Outcome, Succeeded
from jobify.runtime.logs import get_logger
from jobify.serializers.offload import SMALL, in_thread, is_large

__all__ = ("Encoded", "encode", "encode_apart", "takes_long")

log = get_logger("jobify.engine")

Encoded: TypeAlias = tuple[bytes | None, str | None]
"""What to store of a result, and what kept it from being encoded."""


def takes_long(attempt: Attempt, value: Any) -> bool:
    """Whether encoding this result would hold up the event loop."""
    return not (type(value) in SMALL or attempt.backend.is_in_memory) and is_large((value,))


def encode_apart(attempt: Attempt, outcome: Outcome, go_on: Callable[[Encoded], None]) -> None:
    """:func:`encode` in a thread, which calls ``go_on`` on the event loop."""

    def tell(encoded: Encoded | None, error: BaseException | None) -> None:
        go_on(encoded or (None, f"{type(error).__name__}: {shown(error)}"))

    in_thread(partial(encode, attempt, outcome), tell)


def encode(attempt: Attempt, outcome: Outcome) -> Encoded:
    """Encode the result, if there is one."""
    if type(outcome) is not Succeeded:
        return None, None
    try:
        return attempt.backend.codec.encode_result(outcome.value, attempt.endpoint.spec.result_type), None
    except Exception as error:  # PayloadError; and whatever a user's serializer or its values make of it
        log.warning("The result of job %s is not stored: %s", attempt.id, shown(error))
        return None, str(error) if isinstance(error, PayloadError) else f"{type(error).__name__}: {shown(error)}"
