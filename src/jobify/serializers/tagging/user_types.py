"""Types that users write, kind by kind, and the small kinds: enums, named tuples, Structs.

A value is recorded with the importable name of its class and its state, field by field. Building it again runs no
constructor and no ``__post_init__``, except that of a :class:`msgspec.Struct`, which cannot be made otherwise: the
state is put back as it was. A field that the class has gained since, with a default, gets that default; a field that
it has lost, or gained without one, makes the value unreadable, and the error says which.
"""

from __future__ import annotations

from enum import Enum, EnumType, Flag
from functools import lru_cache
from typing import Any, Final

import msgspec

from jobify.exceptions import PayloadError
from jobify.runtime.importable import held, mro, name_of
from jobify.serializers.base import RefusedValueError
from jobify.serializers.tagging.dataclass import DATACLASS
from jobify.serializers.tagging.fields import Kind, State, Walk, decode_state, encode_state, missing_field
from jobify.serializers.tagging.model import MODEL

__all__ = ("KINDS", "kind_of")


def kind_of(cls: type) -> Kind | None:
    """The kind that ``cls`` is of; None if it is of no kind whose values could be restored. Runs none of its code."""
    if type(cls).__hash__ is not type.__hash__ or type(cls).__eq__ is not type.__eq__:
        return None  # its metaclass has code of its own for what a cache asks
    return _kind_of(cls)


@lru_cache(maxsize=1024)
def _kind_of(cls: type) -> Kind | None:
    return next((kind for kind in KINDS.values() if kind.matches(cls)), None)


# An enum's member goes by its name, which survives a change of its value; a combination of flags has no name.


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
    if held(cls, "_missing_") is not held(Flag, "_missing_"):  # code of the class, for values that it does not list
        raise PayloadError(f"{name_of(cls)} lists no member with the value {value!r}.")
    return EnumType.__call__(cls, value)


# A named tuple goes by the names of its fields, so that one with a default can be added.


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


_KINDS: Final = (
    Kind("enum", _is_enum, _dump_enum, _load_enum),
    Kind("namedtuple", _is_namedtuple, _dump_namedtuple, _load_namedtuple),
    Kind("struct", _is_struct, _dump_struct, _load_struct),
    MODEL,
    DATACLASS,
)

KINDS: Final = {kind.tag: kind for kind in _KINDS}
"""Every kind, by its tag. The first that matches a class is its kind: an enum may be built on a dataclass."""
