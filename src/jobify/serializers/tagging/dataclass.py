"""Dataclasses: their fields, the slots of their bases, and whatever else was set on the instance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from functools import cached_property, lru_cache
from types import MemberDescriptorType
from typing import Any, Final

from jobify.exceptions import PayloadError
from jobify.runtime.importable import held, mro, name_of
from jobify.serializers.base import RefusedValueError
from jobify.serializers.tagging.fields import Kind, State, Walk, decode_state, encode_state, missing_field

__all__ = ("DATACLASS", "attributes")

_ABSENT: Final = object()


def attributes(value: Any) -> State:
    """What was set on the instance, without what a cached_property can compute again."""
    cls = type(value)
    held: Mapping[str, Any] = getattr(value, "__dict__", {})
    return {name: item for name, item in held.items() if not isinstance(getattr(cls, name, None), cached_property)}


def _is_dataclass(cls: type) -> bool:
    return type(held(cls, "__dataclass_fields__")) is dict


@lru_cache(maxsize=1024)
def _layout(cls: type) -> dict[str, Field[Any] | None]:
    """What an instance can hold by name: fields, and slots that are no fields."""
    _require_plain_base(cls)
    slots = (name for base in mro(cls) for name in _slots(base))
    layout: dict[str, Field[Any] | None] = dict.fromkeys(slots)
    return layout | {field.name: field for field in fields(cls)}


def _require_plain_base(cls: type) -> None:
    try:
        object.__new__(cls)
    except TypeError:
        raise RefusedValueError(
            f"the dataclass {name_of(cls)} is built on a builtin type, whose content would be lost. Pass that content."
        ) from None


def _slots(cls: type) -> tuple[str, ...]:
    slots = cls.__dict__.get("__slots__", ())
    names = (slots,) if isinstance(slots, str) else tuple(slots)
    return tuple(name for name in names if not name.startswith("__"))


def _dump(value: Any, encode: Walk) -> Any:
    cls: type = type(value)
    layout = _layout(cls)
    held = {name: item for name in layout if (item := getattr(value, name, _ABSENT)) is not _ABSENT}
    more = {name: item for name, item in attributes(value).items() if name not in layout}
    payload = {"fields": encode_state(held, encode)}
    return payload | {"more": encode_state(more, encode)} if more else payload


def _load(cls: Any, payload: Any, decode: Walk) -> Any:
    layout = _layout(cls)
    state = decode_state(payload["fields"], layout, cls, decode)
    for name, field in layout.items():
        if field is not None and name not in state:
            _add_default(state, cls, field)
    value = object.__new__(cls)
    own: State | None = _instance_attributes(value)
    for name, item in state.items():
        attribute = held(cls, name)
        if type(attribute) is MemberDescriptorType:
            object.__setattr__(value, name, item)  # a slot, past the guard of a frozen class
        elif own is not None and not hasattr(type(attribute), "__set__"):
            own[name] = item
        # else a property: what it is computed from is restored by itself, and its code is not run
    more = {name: decode(item) for name, item in payload.get("more", {}).items()}
    if more:
        if own is None:
            raise PayloadError(f"{name_of(cls)} has no room for the attribute {next(iter(more))!r} any more.")
        own.update(more)
    return value


def _instance_attributes(value: Any) -> State | None:
    """Its ``__dict__`` itself; None if it has none."""
    try:
        found = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return None
    return found if type(found) is dict else None


def _add_default(state: State, cls: type, field: Field[Any]) -> None:
    if field.default is not MISSING:
        state[field.name] = field.default
    elif field.default_factory is not MISSING:
        state[field.name] = field.default_factory()
    elif field.init:  # a field with init=False may have been unset when it was stored
        raise missing_field(cls, field.name)


DATACLASS: Final = Kind("dataclass", _is_dataclass, _dump, _load)
