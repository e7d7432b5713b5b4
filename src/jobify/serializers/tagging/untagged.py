"""Show a stored value as plain JSON, for people and scripts, which need no types.

Nothing of the app is looked up, so a value can also be shown where its classes do not exist (any more).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

import msgspec

from jobify.serializers.tagging.builtin_types import BY_TAG
from jobify.serializers.tagging.encoder import RESERVED

__all__ = ("untagged",)

_LISTS: Final = frozenset({"tuple", "set", "frozenset"})
_PAIRS: Final = frozenset({"dict", "OrderedDict", "Counter"})
_FIELDS: Final = frozenset({"dataclass", "model"})


def untagged(data: Any) -> Any:
    """Plain JSON without the reserved form: a tuple is a list, a dataclass an object of its fields, a datetime a text.

    >>> untagged({"at": {"$": "tuple", "v": [1, {"$": "date", "v": "2026-01-31"}]}})
    {'at': [1, '2026-01-31']}
    >>> untagged({"$": "dataclass", "t": "shop:Point", "v": {"fields": {"x": 1}}})
    {'x': 1}
    """
    if type(data) is list:
        return [untagged(item) for item in data]
    if type(data) is not dict:
        return data
    if RESERVED not in data:
        return {key: untagged(item) for key, item in data.items()}
    try:
        return _restored(data[RESERVED], data["v"])
    except Exception:  # of a newer release, or of something else
        return {key: untagged(item) for key, item in data.items()}


def _restored(name: str, payload: Any) -> Any:
    if name in _LISTS:
        return untagged(payload)
    if name in _PAIRS:
        return {_key(key): untagged(item) for key, item in payload}
    if name == "deque":
        return untagged(payload["items"])
    if name in _FIELDS:
        return untagged(payload["fields"] | payload.get("extra", {}))
    tag = BY_TAG.get(name)
    return untagged(payload) if tag is None else _scalar(tag.load, payload)


def _key(key: Any) -> str:
    plain = untagged(key)
    return plain if isinstance(plain, str) else msgspec.json.encode(plain).decode()


def _scalar(load: Callable[[Any, Callable[[Any], Any]], Any], payload: Any) -> Any:
    """A value of a type of Python itself, as JSON writes it; what JSON has no word for is shown as ``str`` does."""

    def decode(data: Any) -> Any:
        return load_tagged(data) if type(data) is dict and RESERVED in data else data

    def load_tagged(data: dict[str, Any]) -> Any:
        return BY_TAG[data[RESERVED]].load(data["v"], decode)

    value = load(payload, decode)
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, float):  # not finite
        return str(value)
    try:
        return msgspec.json.decode(msgspec.json.encode(value))
    except (TypeError, ValueError):
        return str(value)
