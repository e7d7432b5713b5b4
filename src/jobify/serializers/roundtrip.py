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
    if given is restored:
        return
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
    return _same_parts if _part_names(given) is not None else _equal


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
    if (given.replace(tzinfo=None), given.fold) != (restored.replace(tzinfo=None), restored.fold):
        return False
    zones = given.tzinfo, restored.tzinfo
    if None in zones:
        return zones == (None, None)
    offset = given.tzinfo.utcoffset(None)
    return zones[0] == zones[1] or (offset is not None and offset == restored.tzinfo.utcoffset(None))


def _same_number(given: Any, restored: Any, advice: str) -> bool:
    return repr(given) == repr(restored)


def _same_parts(given: Any, restored: Any, advice: str) -> bool:
    names = dict.fromkeys((*(_part_names(given) or ()), *(_part_names(restored) or ())))
    fields_of_model = getattr(type(given), "__pydantic_fields__", {})
    for name in names:
        one, other = getattr(given, name, _ABSENT), getattr(restored, name, _ABSENT)
        try:
            require_same(one, other, advice)
        except RefusedValueError as refused:
            if getattr(fields_of_model.get(name), "exclude", None):  # without the value, which may be a secret
                reason = f"the field has exclude=True, so that its value is not stored. {advice}"
                raise RefusedValueError(reason, (f".{name}",)) from None
            raise refused.within(f".{name}") from None
    return True


def _part_names(value: Any) -> list[str] | None:
    """The attributes that are the data of a value: of a dataclass, a model of pydantic, a Struct, a class of attrs, an
    object that compares by identity. None: the value is compared by ``==``."""
    kind = type(value)
    if "__pydantic_private__" in dir(kind) and hasattr(kind, "__pydantic_fields__"):  # a model, and no dataclass
        beside = (getattr(value, name, None) or {} for name in ("__pydantic_extra__", "__pydantic_private__"))
        return [*kind.__pydantic_fields__, *(name for names in beside for name in names)]
    if is_dataclass(value):
        config = getattr(kind, "__pydantic_config__", None) or {}
        more = vars(value) if config.get("extra") == "allow" else ()
        return [*(field.name for field in fields(value)), *more]
    if hasattr(kind, "__struct_fields__"):
        return list(kind.__struct_fields__)
    if hasattr(kind, "__attrs_attrs__"):
        return [attribute.name for attribute in kind.__attrs_attrs__]
    return list(vars(value)) if "__eq__" not in _inherited(kind) and hasattr(value, "__dict__") else None


def _equal(given: Any, restored: Any, advice: str) -> bool:
    return bool(given == restored)


def _inherited(kind: type) -> set[str]:
    """What a class and its bases define, but for ``object``."""
    return {name for parent in kind.__mro__[:-1] for name in vars(parent)}


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
