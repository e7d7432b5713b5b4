"""Proof by trial: is what came back the same as what was given?

``==`` alone is too kind for that: it takes 1 for True and 1.0, an aware datetime for another one in a different zone,
and a list of dataclasses without ``__eq__`` for different when it is not.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import fields, is_dataclass
from datetime import datetime, time
from decimal import Decimal
from reprlib import repr as shortened
from typing import Any, Final

from jobify.serializers.base import RefusedValueError

__all__ = ("OTHER_WAYS", "require_same")

_ABSENT: Final = object()
_NUMBERS: Final = (float, complex, Decimal)  # repr tells -0.0, nan and 1.10 from their look-alikes

OTHER_WAYS: Final = "Use ExtendedJSONSerializer, or annotate the parameter and give the app a dumper and a loader."
"""What to do about a value that a serializer does not bring back as it was."""


def require_same(given: Any, restored: Any, advice: str) -> None:
    """Raise :class:`RefusedValueError` where ``restored`` first differs from ``given``; it ends with ``advice``."""
    if type(given) is int and type(restored) is float and given == restored:
        return  # 1 given for a parameter that is annotated float
    if type(given) is not type(restored):
        raise RefusedValueError(f"{_describe(given)} would come back as {_describe(restored)}. {advice}")
    if not _comparison(given)(given, restored, advice):
        raise RefusedValueError(f"{shortened(given)} would come back as {shortened(restored)}. {advice}")


def _comparison(given: Any) -> Callable[[Any, Any, str], bool]:
    if isinstance(given, list | tuple | deque):
        return _same_sequence
    if isinstance(given, dict):
        return _same_dict
    if isinstance(given, set | frozenset):
        return _same_set
    if isinstance(given, datetime | time):
        return _same_moment
    if isinstance(given, _NUMBERS):
        return _same_number
    return _same_dataclass if is_dataclass(given) else _equal


def _same_sequence(given: Any, restored: Any, advice: str) -> bool:
    if len(given) != len(restored):
        return False
    _require_each(((f"[{index}]", item, restored[index]) for index, item in enumerate(given)), advice)
    return True


def _same_dict(given: Any, restored: Any, advice: str) -> bool:
    if _kinds(given) != _kinds(restored):
        return False
    _require_each(((f"[{key!r}]", item, restored[key]) for key, item in given.items()), advice)
    return True


def _same_set(given: Any, restored: Any, advice: str) -> bool:
    return _kinds(given) == _kinds(restored)


def _same_moment(given: Any, restored: Any, advice: str) -> bool:
    return (given, given.tzinfo, given.fold) == (restored, restored.tzinfo, restored.fold)


def _same_number(given: Any, restored: Any, advice: str) -> bool:
    return repr(given) == repr(restored)


def _same_dataclass(given: Any, restored: Any, advice: str) -> bool:
    names = (field.name for field in fields(given))
    pairs = ((f".{name}", getattr(given, name, _ABSENT), getattr(restored, name, _ABSENT)) for name in names)
    _require_each(pairs, advice)
    return True


def _equal(given: Any, restored: Any, advice: str) -> bool:
    return bool(given == restored)


def _require_each(triples: Iterable[tuple[str, Any, Any]], advice: str) -> None:
    for step, given, restored in triples:
        try:
            require_same(given, restored, advice)
        except RefusedValueError as refused:
            raise refused.within(step) from None


def _kinds(members: Iterable[Any]) -> Counter[tuple[type, Any]]:
    return Counter((type(member), member) for member in members)


def _describe(value: Any) -> str:
    kind = type(value)
    return "None" if value is None else f"a {kind.__qualname__}"
