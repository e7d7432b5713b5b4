"""Jobs that wait at gates: which of them a claim lets go on. The same decisions in every storage."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from heapq import heapify, heappop, heappush
from typing import Any, NamedTuple

from jobify.model.limit_gates import LimitGate
from jobify.storage.batch_decisions import Candidate
from jobify.storage.limit_decisions import GateKey
from jobify.types import Microseconds

__all__ = ("BatchesCalledUp", "CalledUp", "InLine", "WaitingLine", "call_up", "call_up_batches")


class InLine(NamedTuple):
    """A job that waits at a gate."""

    id: str
    seq: int
    rank: int
    """Its negative priority."""
    due_at: Microseconds
    place: int
    """Its place in its line: its due time, or what a fair share gave it."""
    is_free: bool | None
    """Whether it waits for nothing else; None: it does not wait there any more."""


class WaitingLine(NamedTuple):
    """The jobs of a task and a queue that wait at a gate, in their order."""

    key: Any
    """What the storage calls it."""
    gate: Any
    lane: int
    """The lane of the request that may take its jobs."""
    jobs: Sequence[InLine]
    """The first ones."""
    is_whole: bool
    """Whether these are all."""


class CalledUp(NamedTuple):
    """What becomes of lines at gates that are open."""

    called: list[tuple[WaitingLine, InLine]]
    """They may go on: no more than their gates have room for, and than may be taken."""
    passed: list[InLine]
    """They do not wait there any more, or for something else as well: they leave the line."""
    ended: list[Any]
    """The keys of lines in which no job waits any more."""
    has_more: bool
    """Whether a gate has room for more, which this request could not take."""


def call_up(lines: Sequence[WaitingLine], room: dict[Any, int], left: list[int]) -> CalledUp:
    """Let jobs go on, from all lines in the order in which claims take them. ``room``: how many each gate admits;
    ``left``: how many each lane may take. Both change."""
    result = CalledUp([], [], [], False)
    heads = [
        (line.jobs[0].rank, line.jobs[0].due_at, line.jobs[0].seq, number, 0)
        for number, line in enumerate(lines)
        if line.jobs
    ]
    heapify(heads)
    has_more = False
    result.ended.extend(line.key for line in lines if not line.jobs and line.is_whole)
    while heads:
        *_, number, place = heappop(heads)
        line = lines[number]
        job = line.jobs[place]
        if job.is_free:
            if room[line.gate] <= 0 or left[line.lane] <= 0:
                has_more = has_more or room[line.gate] > 0
                continue
            room[line.gate] -= 1
            left[line.lane] -= 1
            result.called.append((line, job))
        else:
            result.passed.append(job)
        if place + 1 < len(line.jobs):
            following = line.jobs[place + 1]
            heappush(heads, (following.rank, following.due_at, following.seq, number, place + 1))
        elif line.is_whole:
            result.ended.append(line.key)
        else:
            has_more = has_more or room[line.gate] > 0
    return result._replace(has_more=has_more)


class BatchesCalledUp(NamedTuple):
    """What becomes of jobs that wait at open gates and are taken in batches."""

    called: list[Any]
    """The numbers of those that may go on."""
    opens_at: Microseconds | None
    """When time opens the gates of a batch that could go otherwise."""
    has_more: bool
    """Whether the gates admit more batches than may be taken."""


def call_up_batches(
    batches: Iterable[Sequence[Candidate]],
    waiting: Mapping[Any, Any],
    gates: Mapping[Any, LimitGate],
    shared: Sequence[LimitGate],
    limit: int,
    now: Microseconds,
) -> BatchesCalledUp:
    """Let the jobs of batches go on that their gates admit, as far as is known: in their order, at most ``limit``.

    ``batches``: of jobs that are ready, and of others that wait at open gates. ``waiting``: where, by number; a key of
    ``gates``. ``shared``: gates that all jobs of the task need. Gates stay as they are.
    """
    scratch = {(gate.name, gate.key): replace(gate) for gate in (*gates.values(), *shared)}
    called: list[Any] = []
    opens_at: Microseconds | None = None
    count, has_more = 0, False
    for batch in batches:
        costs: dict[GateKey, int] = {}
        for job in batch:
            if job.number in waiting:
                gate = gates[waiting[job.number]]
                costs[gate.name, gate.key] = costs.get((gate.name, gate.key), 0) + job.cost
        costs.update({(gate.name, gate.key): sum(job.cost for job in batch) for gate in shared})
        needed = [(scratch[key], cost) for key, cost in costs.items()]
        opening = max((gate.opens_at(cost) for gate, cost in needed), default=0)
        if opening > now:
            if all(gate.is_timed or gate.opens_at(cost) <= now for gate, cost in needed):
                opens_at = opening if opens_at is None else min(opens_at, opening)
            continue
        if count == limit:
            has_more = True
            break
        count += 1
        for gate, cost in needed:
            gate.take(now, cost)
        called += [job.number for job in batch if job.number in waiting]
    return BatchesCalledUp(called, opens_at, has_more)
