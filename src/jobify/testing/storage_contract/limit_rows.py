"""What the tests of limits begin with: definitions, keys, ends of claims that hold limits."""

from __future__ import annotations

import json
from typing import Any

from jobify.model.limit_gates import LimitDefinition, SettledLimits
from jobify.model.records import Claim, Settlement
from jobify.storage.base import Storage
from jobify.testing.storage_contract.given import NOW, SECOND, end, job

__all__ = ("at_once", "ended", "found_ids", "keyed", "place", "rate")


def at_once(maximum: int, *, name: str = "limit", key: str | None = None) -> LimitDefinition:
    return LimitDefinition(name, "concurrency", maximum, key=key)


def rate(maximum: int, per: int, *, burst: int = 0, name: str = "rate", key: str | None = None) -> LimitDefinition:
    return LimitDefinition(name, "rate", maximum, per * SECOND, burst, key)


def keyed(**keys: Any) -> str:
    """Options with keys, and a cost if one is among them."""
    cost = keys.pop("cost", 1)
    return json.dumps({"limit_keys": {key: json.dumps(value) for key, value in keys.items()}, "cost": cost})


def found_ids(claims: list[Claim]) -> list[str]:
    return [found.id for found in claims]


def ended(owner: int, found: Claim, **fields: Any) -> Settlement:
    return end(owner, found, limits=SettledLimits(), **fields)


def place(storage: Storage, *ids: str, **fields: Any) -> list[str | None]:
    """Insert jobs and have them take places; the limits that refuse them."""
    with storage.transaction():
        jobs = [job(id, **fields) for id in ids]
        assert storage.insert(jobs) == [True] * len(jobs)
        refusals = storage.take_places(jobs, now=NOW)
    return [None if refusal is None else refusal.name for refusal in refusals]
