"""What claims need of limits, and which of them are admitted: the same decisions in every storage."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from jobify.model.limit_gates import LimitDefinition, LimitGate, LimitState, limits_of_options
from jobify.model.records import Claim
from jobify.types import Microseconds

__all__ = ("GateDecisions", "GateKey", "Need", "admit", "needs_of", "with_states")

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
        closed = next((gate for gate in theirs if gate.opens_at(need.cost) > at), None)
        if closed is not None:
            closed.is_waited = True
            decisions.refused.append((need.claim, closed))
            continue
        for gate in theirs:
            gate.take(at, need.cost)
        decisions.held.append(need)
    return decisions


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
