"""What claims need of limits, and which of them are admitted: the same decisions in every storage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias

from jobify.model.limit_gates import (
    JobLimits,
    LimitDefinition,
    LimitGate,
    LimitKind,
    LimitRefusal,
    LimitState,
    limits_of_options,
)
from jobify.model.records import Claim, NewJob, Settlement
from jobify.model.status import JobStatus
from jobify.types import Microseconds

__all__ = (
    "GateDecisions",
    "GateKey",
    "Need",
    "Place",
    "Turn",
    "Waiting",
    "admit",
    "give_places",
    "held_batches",
    "is_next_in_line",
    "left_room",
    "needs_of",
    "openings",
    "places_of",
    "with_states",
)

_SCHEDULED: Final = JobStatus.SCHEDULED.value

GateKey: TypeAlias = tuple[str, str]
"""The name of a limit, and a key of it."""


class Turn(NamedTuple):
    """The fair share of a job."""

    name: str
    key: str
    weight: float

    @property
    def gates(self) -> tuple[GateKey, GateKey]:
        """The gate at which all jobs stand in line, whose ``tat`` is the virtual time; and that of the key, whose
        ``tat`` is the place behind its last job."""
        return (self.name, ""), (self.name, self.key)


class Need(NamedTuple):
    """What a claimed job needs to run."""

    claim: Claim
    gates: tuple[GateKey, ...]
    """Those with a key first, because they admit the fewest jobs: a job waits at one of them rather than at a gate that
    others come to."""
    cost: int
    turn: Turn | None = None
    unit: str | None = None
    """The batch that holds the gates once for all of its jobs. None: the job holds them by itself."""

    @property
    def all_gates(self) -> tuple[GateKey, ...]:
        """With those of its turn."""
        return self.gates if self.turn is None else (*self.gates, *self.turn.gates)

    @property
    def holds(self) -> tuple[GateKey, ...]:
        """The gates that it holds while it runs: also that of its line, to which it goes back if it is released."""
        return self.gates if self.turn is None else (*self.gates, self.turn.gates[0])


class Waiting(NamedTuple):
    """A job that is to wait at a gate."""

    job: Claim | NewJob
    gate: LimitGate
    place: int | None = None
    """Its place in the line of a fair share; None: by its due time."""


class GateDecisions(NamedTuple):
    """What becomes of claims."""

    held: list[Need]
    """Their gates have admitted them."""
    refused: list[Waiting]
    """They wait, each at a gate that does not admit it, or for its turn."""


def needs_of(
    claims: Iterable[Claim], definitions: Mapping[str, Sequence[LimitDefinition]]
) -> tuple[list[Need], list[str]]:
    """What those of the claims need whose tasks have limits; the ids of those of which a key is not known."""
    needs: list[Need] = []
    unkeyed: list[str] = []
    shared: dict[str, tuple[GateKey, ...]] = {}
    """The gates of tasks none of whose limits has a key."""
    for claim in claims:
        limits = definitions.get(claim.task, ())
        if not limits:
            continue
        if claim.limits is LimitState.UNKEYED:
            unkeyed.append(claim.id)
            continue
        known = shared.get(claim.task)
        if known is None and all(one.key is None for one in limits):
            known = shared[claim.task] = tuple((one.name, "") for one in limits)
        if known is not None:
            cost = 1 if claim.options is None else limits_of_options(claim.options).cost
            needs.append(Need(claim, known, cost))
        elif (need := _keyed_need(claim, limits)) is not None:
            needs.append(need)
        else:
            unkeyed.append(claim.id)
    return needs, unkeyed


def _keyed_need(claim: Claim, limits: Sequence[LimitDefinition]) -> Need | None:
    its = limits_of_options(claim.options)
    turn = _turn_of(limits, its)
    counted = [one for one in limits if one.kind != LimitKind.FAIR]
    keys = [(one.name, "" if one.key is None else its.limit_keys.get(one.key)) for one in counted]
    known = tuple((name, key) for name, key in sorted(keys, key=_has_no_key) if key is not None)
    is_whole = len(known) == len(keys) and (turn is not None or len(counted) == len(limits))
    return Need(claim, known, its.cost, turn) if is_whole else None


def _turn_of(limits: Iterable[LimitDefinition], its: JobLimits) -> Turn | None:
    """The turn of a job; None: its task has none, or its key is not known."""
    for one in limits:
        if one.kind == LimitKind.FAIR and (key := its.limit_keys.get(one.key or "")) is not None:
            return Turn(one.name, key, one.weight_of(key))
    return None


def _has_no_key(gate: tuple[str, str | None]) -> bool:
    return gate[1] == ""


def admit(
    needs: Iterable[Need],
    gates: Mapping[GateKey, LimitGate],
    called: Mapping[str, int],
    now: Microseconds,
    batches: Iterable[Sequence[str]] = (),
) -> GateDecisions:
    """Let those be held that all their gates admit, in their order; the gates change accordingly. ``called``: the jobs
    that were let go on in this call, with their places in line; whatever has turns waits for its own first.

    Of a batch (ids) all jobs are held or none: it takes one place, and the costs of all of its jobs. Those leave it
    that wait for their turn, or need a gate that does not admit it, or are more than a rate ever admits.
    """
    decisions = GateDecisions([], [])
    numbers = {id: number for number, batch in enumerate(batches) for id in batch}
    unit: list[Need] = []
    last: int | None = None
    for need in needs:
        if need.turn is not None and need.claim.id not in called:
            decisions.refused.append(_in_line(need.claim, need.turn, need.cost, gates))
            continue
        number = numbers.get(need.claim.id)
        if number is None or number != last:
            _admit_all(unit, gates, called, now, decisions)
            unit, last = [], number
        unit.append(need)
    _admit_all(unit, gates, called, now, decisions)
    return decisions


def _admit_all(
    unit: list[Need],
    gates: Mapping[GateKey, LimitGate],
    called: Mapping[str, int],
    now: Microseconds,
    decisions: GateDecisions,
) -> None:
    while unit:
        unit = _admit_unit(unit, gates, called, now, decisions)


def _admit_unit(
    unit: list[Need],
    gates: Mapping[GateKey, LimitGate],
    called: Mapping[str, int],
    now: Microseconds,
    decisions: GateDecisions,
) -> list[Need]:
    """Let jobs be held together, or refuse those that a closed gate keeps; the others are left."""
    fitting, overfull = (unit, None) if len(unit) == 1 else _fitting(unit, gates)
    at = max(now, max(need.claim.due_at for need in fitting))
    costs = _costs(fitting)
    for key, cost in costs.items():
        gate = gates[key]
        if gate.first_at > at or gate.opens_at(cost) > at:
            _refuse([need for need in unit if key in need.gates], gate, cost, decisions)
            return [need for need in unit if key not in need.gates]
    for key, cost in costs.items():
        gates[key].take(at, cost)
    places: dict[GateKey, int] = {}
    for need in fitting:
        if need.turn is not None:
            line, place = need.turn.gates[0], called[need.claim.id]
            places[line] = max(places.get(line, place), place)
    for key, place in places.items():
        gates[key].active += 1
        gates[key].tat = max(gates[key].tat, place)
    first = fitting[0].claim
    name = None if len(fitting) == 1 else f"{first.id} {first.fence}"
    decisions.held.extend(fitting if name is None else [need._replace(unit=name) for need in fitting])
    more = unit[len(fitting) :]
    if overfull is None:
        return more
    _refuse([need for need in more if overfull in need.gates], gates[overfull], _costs(more)[overfull], decisions)
    return [need for need in more if overfull not in need.gates]


def _fitting(unit: list[Need], gates: Mapping[GateKey, LimitGate]) -> tuple[list[Need], GateKey | None]:
    """The first jobs of a batch, so many that no rate has to admit more than it ever does; the gate that is too small
    for all of them. The others go there: they need not wait for anything else."""
    costs: Counter[GateKey] = Counter()
    for number, need in enumerate(unit):
        for key in need.gates:
            costs[key] += need.cost
            gate = gates[key]
            if number and gate.kind == LimitKind.RATE and costs[key] > gate.maximum + gate.burst:
                return unit[:number], key
    return unit, None


def _costs(unit: Iterable[Need]) -> dict[GateKey, int]:
    costs: dict[GateKey, int] = {}
    for need in unit:
        for key in need.gates:
            costs[key] = costs.get(key, 0) + need.cost
    return costs


def _refuse(needs: Iterable[Need], gate: LimitGate, cost: int, decisions: GateDecisions) -> None:
    gate.is_waited = True
    gate.first_at = gate.first_at or gate.opens_at(cost)
    decisions.refused.extend(Waiting(need.claim, gate) for need in needs)


def held_batches(
    batches: Iterable[Sequence[str]], decisions: GateDecisions, unkeyed: Iterable[str]
) -> tuple[tuple[str, ...], ...]:
    """What is left of batches whose jobs wait in part, or lack a key."""
    gone = {one.job.id for one in decisions.refused}.union(unkeyed)
    left = (tuple(id for id in batch if id not in gone) for batch in batches)
    return tuple(batch for batch in left if batch)


def openings(decisions: GateDecisions) -> list[Microseconds]:
    """When time opens the gates at which jobs have to wait."""
    return [one.gate.first_at for one in decisions.refused if one.gate.is_timed]


def left_room(called: Mapping[str, int | GateKey | None], decisions: GateDecisions, unkeyed: Iterable[str]) -> bool:
    """Whether another claim may take more at once: a job was let go on that does not hold the gate which had room for
    it, so that the next one in its line may go; or one has a place in a line only now. ``called``: those gates, by the
    ids of the jobs."""
    for one in decisions.refused:
        if one.place is not None:  # it has a place in its line from now on, which may be the first one
            return True
        if called.get(one.job.id) not in {None, one.gate.id, (one.gate.name, one.gate.key)}:
            return True
    return not called.keys().isdisjoint(unkeyed)


def _in_line(job: Claim | NewJob, turn: Turn, cost: int, gates: Mapping[GateKey, LimitGate]) -> Waiting:
    line, share = (gates[key] for key in turn.gates)
    line.is_waited = True
    return Waiting(job, line, share.next_place(line.tat, cost, turn.weight))


class Place(NamedTuple):
    """What a job that was just inserted wants a place at."""

    job: NewJob
    gates: tuple[tuple[GateKey, str], ...]
    """With ``on_excess``; those with a key first."""
    cost: int
    turn: Turn | None = None

    @property
    def all_gates(self) -> tuple[GateKey, ...]:
        """With those of its turn."""
        return tuple(key for key, _ in self.gates) if self.turn is None else self.turn.gates


def places_of(jobs: Iterable[NewJob], definitions: Mapping[str, Sequence[LimitDefinition]]) -> list[Place]:
    """The places that those of the jobs want which may have to be refused, or have turns."""
    places: list[Place] = []
    for job in jobs:
        limits = definitions.get(job.task, ())
        if not limits or not job.ready or job.parents or job.rule is not None or job.owner is not None:
            continue
        its = limits_of_options(job.options)
        turn = _turn_of(limits, its)
        strict = [one for one in limits if one.on_excess != "wait"]
        keys = [((one.name, "" if one.key is None else its.limit_keys.get(one.key)), one.on_excess) for one in strict]
        known = [((name, key), on_excess) for (name, key), on_excess in keys if key is not None]
        if known or turn is not None:
            places.append(Place(job, tuple(sorted(known, key=lambda one: _has_no_key(one[0]))), its.cost, turn))
    return places


def give_places(
    places: Iterable[Place], gates: Mapping[GateKey, LimitGate], waiting: Mapping[GateKey, int], now: Microseconds
) -> tuple[list[Waiting], dict[str, LimitRefusal]]:
    """Those that get a place, each with the gate at which it waits; the refusals of the others, by id. ``waiting``:
    how many wait at a gate."""
    room = {key: gate.room(now) - waiting.get(key, 0) for key, gate in gates.items()}
    given: list[Waiting] = []
    refused: dict[str, LimitRefusal] = {}
    for place in places:
        if place.turn is not None:
            given.append(_in_line(place.job, place.turn, place.cost, gates))
            continue
        costs = {key: place.cost if gates[key].kind == LimitKind.RATE else 1 for key, _ in place.gates}
        full = next((one for one in place.gates if room[one[0]] < costs[one[0]]), None)
        if full is not None:
            refused[place.job.id] = LimitRefusal(*full[0], full[1])
            continue
        for key, cost in costs.items():
            room[key] -= cost
        gate = gates[place.gates[0][0]]
        gate.is_waited = True
        given.append(Waiting(place.job, gate))
    return given, refused


def with_states(claims: Iterable[Claim], decisions: GateDecisions, unkeyed: Iterable[str]) -> list[Claim]:
    """The claims that stay, each with what it has to do with limits."""
    states = {need.claim.id: LimitState.HELD for need in decisions.held}
    states.update(dict.fromkeys(unkeyed, LimitState.UNKEYED))
    refused = {one.job.id for one in decisions.refused}
    return [
        Claim._make((*claim[:-1], states[claim.id])) if claim.id in states else claim  # the last field is ``limits``
        for claim in claims
        if claim.id not in refused
    ]


def is_next_in_line(settlement: Settlement) -> bool:
    """Whether a job that had its turn was released without having run. One that is tried again at once, or has put
    itself off, says why (``error``): it goes to the end of its line, or it would take every turn."""
    return settlement.ready and settlement.status == _SCHEDULED and settlement.error is None
