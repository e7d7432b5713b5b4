"""What all kinds of types share: encoding values by name, and errors about a class that has changed since."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from jobify.exceptions import PayloadError
from jobify.runtime.importable import name_of
from jobify.serializers.base import RefusedValueError

__all__ = ("Kind", "State", "Walk", "decode_state", "each", "encode_state", "missing_field")

Walk: TypeAlias = Callable[[Any], Any]
"""Encodes or decodes one value, whatever it is."""

State: TypeAlias = dict[str, Any]
"""What an object holds, by name."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One way to make types: which classes are made so, and what becomes of their values.

    ``dump(value, encode)`` gives plain data; ``load(cls, payload, decode)`` gives the value of that class.
    """

    tag: str
    matches: Callable[[type], bool]
    dump: Callable[[Any, Walk], Any]
    load: Callable[[Any, Any, Walk], Any]


def each(items: Iterable[tuple[Any, Any]], encode: Walk, step: str = "[{!r}]") -> list[Any]:
    """The second of each pair, encoded; a refusal learns the first, as the ``step`` that leads to it."""
    encoded = []
    for key, item in items:
        try:
            encoded.append(encode(item))
        except RefusedValueError as refused:
            raise refused.within(step.format(key)) from None
    return encoded


def encode_state(state: Mapping[str, Any], encode: Walk) -> State:
    """Each value encoded; a refusal learns the name it was under."""
    return dict(zip(state, each(state.items(), encode, ".{}"), strict=True))


def decode_state(state: Mapping[str, Any], known: Iterable[str], cls: type, decode: Walk) -> State:
    """Each value decoded; PayloadError if the class no longer has such a field."""
    gone = sorted(state.keys() - set(known))
    if gone:
        raise PayloadError(f"{name_of(cls)} no longer has the field {gone[0]!r}. Give it back, with a default.")
    return {name: decode(value) for name, value in state.items()}


def missing_field(cls: type, name: str) -> PayloadError:
    """What to raise when stored state lacks a value for a field."""
    return PayloadError(f"{name_of(cls)} has a field {name!r} that the stored value lacks. Give it a default.")
