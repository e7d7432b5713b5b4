"""The kinds of classes that users write: enums, named tuples, Structs, dataclasses and models of pydantic.

A value is recorded with the importable name of its class and its state, field by field. Restoring it runs no
constructor and no ``__post_init__``, except that of a :class:`msgspec.Struct`, which cannot be made otherwise. A field
that the class has gained since gets its default. A field that it has lost, or gained without a default, makes the value
unreadable, and the error names it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from enum import Enum, EnumType, Flag
from functools import cached_property, lru_cache
from types import MemberDescriptorType
from typing import Any, Final

import msgspec

from jobify.exceptions import PayloadError
from jobify.runtime.importable import held, mro, name_of
from jobify.serializers.base import RefusedValueError
from jobify.serializers.tagging.builtin_types import Kind, State, Walk, decode_state, encode_state, missing_field

__all__ = ("KINDS", "kind_of")


def kind_of(cls: type) -> Kind | None:
    """The kind of ``cls``; None if its values could not be restored. Runs no code of the class."""
    if type(cls).__hash__ is not type.__hash__ or type(cls).__eq__ is not type.__eq__:
        return None  # the cache would call code of its metaclass
    return _kind_of(cls)


@lru_cache(maxsize=1024)
def _kind_of(cls: type) -> Kind | None:
    return next((kind for kind in KINDS.values() if kind.matches(cls)), None)


# A member of an enum is recorded by its name, which survives a change of its value. A combination of flags has no name.


def _is_enum(cls: type) -> bool:
    return Enum in mro(cls)


def _dump_enum(member: Enum, encode: Walk) -> Any:
    if isinstance(member, Flag):
        return encode(member._value_)
    if type(member).__members__.get(member._name_) is not member:
        raise RefusedValueError(f"{member!r} is not a member that its class lists by name. Pass a listed member.")
    return member._name_


def _load_enum(cls: Any, payload: Any, decode: Walk) -> Any:
    if Flag in mro(cls):
        return _load_flag(cls, decode(payload))
    member = held(cls, "_member_map_").get(payload)
    if member is None:
        raise PayloadError(f"{name_of(cls)} has no member {payload!r}. Give it back, as an alias if need be.")
    return member


def _load_flag(cls: Any, value: Any) -> Any:
    member = held(cls, "_value2member_map_").get(value)
    if member is not None:
        return member
    if held(cls, "_missing_") is not held(Flag, "_missing_"):  # code of the class for values that are not listed
        raise PayloadError(f"{name_of(cls)} lists no member with the value {value!r}.")
    return EnumType.__call__(cls, value)


# A named tuple is recorded by the names of its fields, so that a field with a default can be added.


def _is_namedtuple(cls: type) -> bool:
    return tuple in mro(cls) and type(held(cls, "_fields")) is tuple and type(held(cls, "_field_defaults")) is dict


def _dump_namedtuple(value: Any, encode: Walk) -> State:
    _refuse_attributes(value)
    return encode_state(dict(zip(value._fields, value, strict=True)), encode)


def _load_namedtuple(cls: Any, payload: Any, decode: Walk) -> Any:
    names = held(cls, "_fields")
    state = held(cls, "_field_defaults") | decode_state(payload, names, cls, decode)
    try:
        return tuple.__new__(cls, [state[name] for name in names])
    except KeyError as error:
        raise missing_field(cls, error.args[0]) from None


def _is_struct(cls: type) -> bool:
    return msgspec.Struct in mro(cls)


def _dump_struct(value: msgspec.Struct, encode: Walk) -> State:
    _refuse_attributes(value)
    return encode_state({name: getattr(value, name) for name in value.__struct_fields__}, encode)


def _load_struct(cls: Any, payload: Any, decode: Walk) -> Any:
    return cls(**decode_state(payload, cls.__struct_fields__, cls, decode))


def _refuse_attributes(value: Any) -> None:
    if getattr(value, "__dict__", None):
        raise RefusedValueError(f"{value!r} has attributes besides its fields, and would lose them. Use a dataclass.")


# A dataclass is recorded with its fields, the slots of its bases, and other attributes of the instance.


_ABSENT: Final = object()


def attributes(value: Any) -> State:
    """The attributes of the instance, without those that a cached_property can compute again."""
    cls = type(value)
    held: Mapping[str, Any] = getattr(value, "__dict__", {})
    return {name: item for name, item in held.items() if not isinstance(getattr(cls, name, None), cached_property)}


def _is_dataclass(cls: type) -> bool:
    return type(held(cls, "__dataclass_fields__")) is dict


@lru_cache(maxsize=1024)
def _layout(cls: type) -> dict[str, Field[Any] | None]:
    """What an instance can hold, by name: fields, and slots that are not fields (None)."""
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


def _dump_dataclass(value: Any, encode: Walk) -> Any:
    cls: type = type(value)
    layout = _layout(cls)
    held = {name: item for name in layout if (item := getattr(value, name, _ABSENT)) is not _ABSENT}
    more = {name: item for name, item in attributes(value).items() if name not in layout}
    payload = {"fields": encode_state(held, encode)}
    return payload | {"more": encode_state(more, encode)} if more else payload


def _load_dataclass(cls: Any, payload: Any, decode: Walk) -> Any:
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
            object.__setattr__(value, name, item)  # a slot; a frozen class forbids setattr
        elif own is not None and not hasattr(type(attribute), "__set__"):
            own[name] = item
        # otherwise a property: its code is not run, because the data behind it is restored on its own
    more = {name: decode(item) for name, item in payload.get("more", {}).items()}
    if more:
        if own is None:
            raise PayloadError(f"{name_of(cls)} has no room for the attribute {next(iter(more))!r} any more.")
        own.update(more)
    return value


def _instance_attributes(value: Any) -> State | None:
    """The ``__dict__`` of the instance; None if it has none."""
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


# A pydantic model is recorded with its fields, extra and private attributes, and restored without validation. pydantic
# is never imported here: where there is a model, it is imported already.


def _is_model(cls: type) -> bool:
    pydantic = sys.modules.get("pydantic.main")
    return pydantic is not None and pydantic.BaseModel in mro(cls)


def _dump_model(value: Any, encode: Walk) -> Any:
    private = {name: item for name, item in (value.__pydantic_private__ or {}).items() if not _is_unset(item)}
    return {
        "fields": encode_state(attributes(value), encode),
        "set": sorted(value.__pydantic_fields_set__),
        "extra": encode_state(value.__pydantic_extra__ or {}, encode),
        "private": encode_state(private, encode),
    }


def _load_model(cls: Any, payload: Any, decode: Walk) -> Any:
    state = {
        "__dict__": _fields(cls, decode_state(payload["fields"], cls.model_fields, cls, decode)),
        "__pydantic_fields_set__": set(payload["set"]),
        "__pydantic_extra__": _extra(cls, payload["extra"], decode),
        "__pydantic_private__": _private(cls, payload["private"], decode),
    }
    base = sys.modules["pydantic.main"].BaseModel
    model = base.__new__(cls)
    base.__setstate__(model, state)
    return model


def _fields(cls: Any, stored: State) -> State:
    for name, field in cls.model_fields.items():
        if name not in stored:
            stored[name] = _default(cls, name, field)
    return stored


def _default(cls: type, name: str, field: Any) -> Any:
    if field.is_required():
        raise missing_field(cls, name)
    return field.get_default(call_default_factory=True)


def _extra(cls: Any, stored: State, decode: Walk) -> State | None:
    if cls.model_config.get("extra") != "allow":
        return None
    return {name: decode(item) for name, item in stored.items()}


def _private(cls: Any, stored: State, decode: Walk) -> State | None:
    declared = cls.__private_attributes__
    if not declared:
        return None
    defaults = {name: attribute.get_default() for name, attribute in declared.items() if name not in stored}
    held = {name: item for name, item in defaults.items() if not _is_unset(item)}
    return held | {name: decode(item) for name, item in stored.items()}


def _is_unset(value: Any) -> bool:
    return type(value).__name__ == "PydanticUndefinedType"


_KINDS: Final = (
    Kind("enum", _is_enum, _dump_enum, _load_enum),
    Kind("namedtuple", _is_namedtuple, _dump_namedtuple, _load_namedtuple),
    Kind("struct", _is_struct, _dump_struct, _load_struct),
    Kind("model", _is_model, _dump_model, _load_model),
    Kind("dataclass", _is_dataclass, _dump_dataclass, _load_dataclass),
)

KINDS: Final = {kind.tag: kind for kind in _KINDS}
"""Every kind by its tag. The first that matches a class is its kind, because an enum may be built on a dataclass."""
