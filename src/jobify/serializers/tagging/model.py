"""Models of pydantic, as they are: fields, extra and private attributes, with no validation on the way back.

pydantic is never imported here: where there is a model, it is loaded already.
"""

from __future__ import annotations

import sys
from typing import Any, Final

from jobify.runtime.importable import mro
from jobify.serializers.tagging.dataclass import attributes
from jobify.serializers.tagging.fields import Kind, State, Walk, decode_state, encode_state, missing_field

__all__ = ("MODEL",)


def _is_model(cls: type) -> bool:
    pydantic = sys.modules.get("pydantic.main")
    return pydantic is not None and pydantic.BaseModel in mro(cls)


def _dump(value: Any, encode: Walk) -> Any:
    private = {name: item for name, item in (value.__pydantic_private__ or {}).items() if not _is_unset(item)}
    return {
        "fields": encode_state(attributes(value), encode),
        "set": sorted(value.__pydantic_fields_set__),
        "extra": encode_state(value.__pydantic_extra__ or {}, encode),
        "private": encode_state(private, encode),
    }


def _load(cls: Any, payload: Any, decode: Walk) -> Any:
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


MODEL: Final = Kind("model", _is_model, _dump, _load)
