"""What a task returned, as bytes: at once, or in a thread where that takes long."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

from jobify.engine.attempt import Attempt
from jobify.exceptions import PayloadError, shown
from jobify.logs import get_logger
from jobify.serializers.offload import in_thread, is_large
from jobify.status import Outcome, Succeeded

__all__ = ("encode_then",)

log = get_logger("jobify.engine")

_Encoded: TypeAlias = tuple[bytes | None, str | None]


def encode_then(attempt: Attempt, outcome: Outcome, go_on: Callable[[bytes | None, str | None], None]) -> None:
    """Call ``go_on`` with what to store of the result, and what kept it from being encoded."""
    if type(outcome) is not Succeeded or attempt.backend.is_in_memory or not is_large((outcome.value,)):
        go_on(*_encoded(attempt, outcome))
        return

    def tell(encoded: _Encoded | None, error: BaseException | None) -> None:
        go_on(*(encoded or (None, f"{type(error).__name__}: {shown(error)}")))

    in_thread(partial(_encoded, attempt, outcome), tell)


def _encoded(attempt: Attempt, outcome: Outcome) -> _Encoded:
    """What to store of a result, and what kept it from being encoded."""
    if type(outcome) is not Succeeded:
        return None, None
    try:
        return attempt.backend.codec.encode_result(outcome.value, attempt.endpoint.spec.result_type), None
    except Exception as error:  # PayloadError; and whatever a user's serializer or its values make of it
        log.warning("The result of job %s is not stored: %s", attempt.id, shown(error))
        return None, str(error) if isinstance(error, PayloadError) else f"{type(error).__name__}: {shown(error)}"
