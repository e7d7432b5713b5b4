"""Plain data: values that JSON represents without loss.

None, bool, int, str, finite floats, and lists and str-keyed dicts of them: of exactly these types, because a subclass
would be restored as its base. JSON encoders accept more, and change it: a tuple becomes a list, the key 1 becomes "1",
NaN becomes null. So every JSON encoder of this package is called after :func:`is_plain`.
"""

from __future__ import annotations

from math import isfinite
from typing import Any, Final

from jobify.serializers.base import RefusedValueError
from jobify.serializers.depth import MAX_DEPTH, too_deep

__all__ = ("is_plain", "require_plain")

_ATOMS: Final = frozenset({type(None), bool, int, str})

_ADVICE: Final = "Use ExtendedJSONSerializer, or annotate the parameter and give the app a dumper and a loader."


def is_plain(value: Any, room: int = MAX_DEPTH) -> bool:
    """Whether JSON can restore ``value`` equal, types included.

    Two things are left to the encoder, which raises for them by itself: a str with a lone surrogate, and an int of
    more digits than Python reads (4300). PayloadError for what is nested more than ``room`` deep, or contains itself.
    """
    kind = type(value)
    if kind is list:
        items = value
    elif kind is dict:
        for key in value:
            if type(key) is not str:
                return False
        items = value.values()
    else:
        return kind in _ATOMS or (kind is float and isfinite(value))
    if not room:
        raise too_deep()
    for item in items:  # a generator per container would double the price of storing a small job
        kind = type(item)
        if kind in _ATOMS or (kind is dict and not item and room > 1):  # as the keyword arguments of most calls
            continue
        if not is_plain(item, room - 1):
            return False
    return True


def require_plain(value: Any, form: str) -> None:
    """Raise :class:`RefusedValueError` with the place of the first thing in ``value`` that is not plain."""
    if type(value) is list:
        _require_each(enumerate(value), form)
    elif type(value) is dict:
        for key in value:
            if type(key) is not str:
                raise RefusedValueError(f"the key {key!r} would come back from {form} as text, not equal. {_ADVICE}")
        _require_each(value.items(), form)
    elif not is_plain(value):
        raise RefusedValueError(f"{_describe(value)} would not come back from {form} equal. {_ADVICE}")


def _require_each(items: Any, form: str) -> None:
    for step, item in items:
        try:
            require_plain(item, form)
        except RefusedValueError as refused:
            raise refused.within(f"[{step!r}]") from None


def _describe(value: Any) -> str:
    return repr(value) if type(value) is float else f"a {type(value).__qualname__}"
