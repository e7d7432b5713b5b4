"""The keys of limits, from the arguments of a call."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from jobify.exceptions import PayloadError
from jobify.model.job_options import JobOptions

__all__ = ("KeyReader", "as_key", "key_at")

_MISSING: Final = object()


def as_key(value: Any) -> str:
    """A key as JSON. What JSON does not have is its text.

    >>> as_key("shop-7"), as_key(7), as_key(None)
    ('"shop-7"', '7', 'null')
    """
    return msgspec.json.encode(value, enc_hook=str, order="sorted").decode()


def key_at(arguments: Mapping[str, Any], path: str) -> Any:
    """What a path leads to; None if something on the way is missing.

    >>> key_at({"order": {"shops": [{"id": 7}]}}, "order.shops.0.id")
    7
    """
    found: Any = arguments
    for part in path.split("."):
        found = _member(found, part)
        if found is _MISSING:
            return None
    return found


def _member(value: Any, part: str) -> Any:
    if isinstance(value, Mapping):
        return value.get(part, _MISSING)
    if part.isdecimal():
        is_place = isinstance(value, Sequence) and not isinstance(value, str | bytes) and int(part) < len(value)
        return value[int(part)] if is_place else _MISSING
    return getattr(value, part, _MISSING)


class KeyReader:
    """Reads the keys of one task's limits; ``keys`` are paths, or functions, by their text."""

    def __init__(self, task: str, signature: inspect.Signature, keys: Mapping[str, str | Callable[..., Any]]) -> None:
        self._task = task
        self._signature = signature
        self._keys = keys

    def options(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], own: JobOptions | None = None) -> str | None:
        """The options of a job with its keys, those that it has already unchanged. TypeError if the arguments do not
        fit, PayloadError if a function of them fails."""
        own = own or JobOptions()
        return msgspec.structs.replace(own, limit_keys={**self._read(args, kwargs), **own.limit_keys}).text()

    def _read(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, str]:
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return {text: self._read_one(text, key, bound) for text, key in self._keys.items()}

    def _read_one(self, text: str, key: str | Callable[..., Any], bound: inspect.BoundArguments) -> str:
        if isinstance(key, str):
            return as_key(key_at(bound.arguments, key))
        try:
            return as_key(key(*bound.args, **bound.kwargs))
        except Exception as error:
            raise PayloadError(
                f"The key of a limit of task {self._task!r} cannot be read: {text} raised {type(error).__name__}: "
                f"{error}"
            ) from error
