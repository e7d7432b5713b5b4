"""The arguments of a stored call, and a stored result, for people and scripts."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from jobify.client.values import json_safe
from jobify.serializers.tagging.untagged import untagged
from jobify.storage.weight import NO_ARGUMENTS

__all__ = ("PlainCall", "plain_call", "plain_value")


class PlainCall(NamedTuple):
    """Arguments in the words of JSON. None: they are not here, or were not written as JSON."""

    args: list[Any] | None = None
    kwargs: dict[str, Any] | None = None


def plain_call(payload: Any) -> PlainCall:
    """The arguments in a row. Nothing of the app is looked up or run: bytes that are not JSON are not read.

    >>> plain_call(b'[[1,{"$":"tuple","v":[2]}],{"to":"ann"}]')
    PlainCall(args=[1, [2]], kwargs={'to': 'ann'})
    >>> plain_call(b"pickled")
    PlainCall(args=None, kwargs=None)
    """
    if payload is NO_ARGUMENTS:  # they went when the job ended
        return PlainCall()
    if isinstance(payload, tuple):  # in memory
        return PlainCall(json_safe(list(payload[0])), json_safe(dict(payload[1])))
    match plain_value(payload):
        case [list(args), dict(kwargs)]:
            return PlainCall(args, kwargs)
        case _:
            return PlainCall()


def plain_value(data: bytes) -> Any:
    """A stored value in the words of JSON; None for bytes that are not JSON."""
    try:
        return untagged(json.loads(data))
    except (ValueError, TypeError, RecursionError):
        return None
