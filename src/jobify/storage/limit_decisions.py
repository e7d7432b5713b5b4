"""What claims need of limits, and which of them are admitted: the same decisions in every storage."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from jobify.model.limit_gates import (
    LimitDefinition,
    LimitGate,
    LimitKind,
    LimitRefusal,
    LimitState,
    limits_of_options,
)
from jobify.model.records import Claim, NewJob
from jobify.types import Microseconds

__all__ = (
    "GateDecisions",
    "GateKey",
    "Need",
    "Place",
    "admit",
    "give_places",
    "needs_of",
    "openings",
    "places_of",
    "with_states",
)

GateKey: TypeAlias = tuple[str, str]
"""The name of a limit, and a key of it."""


class Need(NamedTuple):
    """What a claimed job needs to run."""

    claim: Claim
    gates: tuple[GateKey, ...]
    """Those with a key first, because they admit the fewest jobs: a job waits at one of them rather than at a gate that
    others come to."""
    cost: int


class GateDecisions(NamedTuple):
    """What becomes of claims."""

    held: list[Need]
    """Their gates have admitted them."""
    refused: list[tuple[Claim, LimitGate]]
    """They wait, each at a gate that does not admit it."""


def needs_of(
    claims: Iterable[Claim], definitions: Mapping[str, Sequence[LimitDefinition]]
) -> tuple[list[Need], list[str]]:
    """What those of the claims need whose tasks have limits; the ids of those of which a key is not known."""
    needs: list[Need] = []
    unkeyed: list[str] = []
    for claim in claims:
        limits = definitions.get(claim.task, ())
        if not limits:
            continue
        its = limits_of_options(claim.options)
        keys = [(one.name, "" if one.key is None else its.limit_keys.get(one.key)) for one in limits]
        known = tuple((name, key) for name, key in sorted(keys, key=_has_no_key) if key is not None)
        if len(known) < len(keys):
            unkeyed.append(claim.id)
        else:
            needs.append(Need(claim, known, its.cost))
    return needs, unkeyed


def _has_no_key(gate: tuple[str, str | None]) -> bool:
    return gate[1] == ""


def admit(needs: Iterable[Need], gates: Mapping[GateKey, LimitGate], now: Microseconds) -> GateDecisions:
    """Let those be held that all their gates admit, in their order; the gates change accordingly."""
    decisions = GateDecisions([], [])
    for need in needs:
        at = max(now, need.claim.due_at)
        theirs = [gates[key] for key in need.gates]
        closed = next((gate for gate in theirs if max(gate.first_at, gate.opens_at(need.cost)) > at), None)
        if closed is not None:
            closed.is_waited = True
            closed.first_at = closed.first_at or closed.opens_at(need.cost)
            decisions.refused.append((need.claim, closed))
            continue
        for gate in theirs:
            gate.take(at, need.cost)
        decisions.held.append(need)
    return decisions


def openings(decisions: GateDecisions) -> list[Microseconds]:
    """When time opens the gates at which jobs have to wait: a gate that is open for others may not be for their cost,
    and does not say that itself."""
    return [gate.first_at for _, gate in decisions.refused if gate.is_timed]


class Place(NamedTuple):
    """What a job that was just inserted wants a place at."""

    job: NewJob
    gates: tuple[tuple[GateKey, str], ...]
    """With ``on_excess``; those with a key first."""
    cost: int


def places_of(jobs: Iterable[NewJob], definitions: Mapping[str, Sequence[LimitDefinition]]) -> list[Place]:
    """The places that those of the jobs want which may have to be refused."""
    places: list[Place] = []
    for job in jobs:
        limits = [one for one in definitions.get(job.task, ()) if one.on_excess != "wait"]
        if not limits or not job.ready or job.parents or job.rule is not None or job.owner is not None:
            continue
        its = limits_of_options(job.options)
        keys = [((one.name, "" if one.key is None else its.limit_keys.get(one.key)), one.on_excess) for one in limits]
        known = [((name, key), on_excess) for (name, key), on_excess in keys if key is not None]
        if known:
            places.append(Place(job, tuple(sorted(known, key=lambda one: _has_no_key(one[0]))), its.cost))
    return places


def give_places(
    places: Iterable[Place], gates: Mapping[GateKey, LimitGate], waiting: Mapping[GateKey, int], now: Microseconds
) -> tuple[list[tuple[Place, LimitGate]], dict[str, LimitRefusal]]:
    """Those that get a place, each with the gate at which it waits; the refusals of the others, by id. ``waiting``:
    how many wait at a gate."""
    room = {key: gate.room(now) - waiting.get(key, 0) for key, gate in gates.items()}
    given: list[tuple[Place, LimitGate]] = []
    refused: dict[str, LimitRefusal] = {}
    for place in places:
        full = next(
            (
                (key, on_excess)
                for key, on_excess in place.gates
                if room[key] < (place.cost if gates[key].kind == LimitKind.RATE else 1)
            ),
            None,
        )
        if full is not None:
            refused[place.job.id] = LimitRefusal(*full[0], full[1])
            continue
        for key, _ in place.gates:
            room[key] -= place.cost if gates[key].kind == LimitKind.RATE else 1
        gate = gates[place.gates[0][0]]
        gate.is_waited = True
        given.append((place, gate))
    return given, refused


def with_states(claims: Iterable[Claim], decisions: GateDecisions, unkeyed: Iterable[str]) -> list[Claim]:
    """The claims that stay, each with what it has to do with limits."""
    states = {need.claim.id: LimitState.HELD for need in decisions.held}
    states.update(dict.fromkeys(unkeyed, LimitState.UNKEYED))
    refused = {claim.id for claim, _ in decisions.refused}
    return [
        claim._replace(limits=states[claim.id]) if claim.id in states else claim
        for claim in claims
        if claim.id not in refused
    ]
