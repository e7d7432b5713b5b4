"""The screen of ``jobify top``: lines for a terminal of any size, made from a snapshot without side effects.

The head is always shown. Queues, workers and running jobs share the remaining lines: a section that needs less than its
share leaves the rest to the others, and one that is cut says how many lines are missing.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Final, NamedTuple

from rich.cells import cell_len
from rich.text import Text

from jobify.cli.commands.limits import maximum_text
from jobify.cli.documents import queue_note
from jobify.cli.layout import lay_out, wrapped
from jobify.cli.output import STATUS_STYLES, Column
from jobify.cli.time_format import how_long
from jobify.client.arguments import Filters
from jobify.client.views import LimitView, QueueView, WorkerView
from jobify.client.wait_reasons import ClusterState, stopped_note
from jobify.model.clock import SECOND, to_datetime
from jobify.model.cron import is_stopped
from jobify.model.limit_gates import LimitKind
from jobify.model.public_status import ENDS, PUBLIC_STATUSES, PublicStatus
from jobify.model.records import JobRecord
from jobify.runtime.escaping import escaped

if TYPE_CHECKING:
    from jobify.cli.session import Session
    from jobify.types import Microseconds

__all__ = ("Snapshot", "Throughput", "draw", "take_snapshot")


# -- snapshot ----------------------------------------------------------------------------------------------------------
# What ``jobify top`` shows: all jobs at one moment, and the throughput between two of these snapshots.

_MAX_JOBS: Final = 200
"""More than any terminal has lines."""
_MAX_SAMPLES: Final = 120
"""Snapshots in the history of the throughput."""


class Snapshot(NamedTuple):
    """The jobs of an app at one moment."""

    cluster: ClusterState
    queues: Sequence[QueueView]
    running: Sequence[JobRecord]
    """Those that have run the longest come first."""
    runs: int
    """Runs of schedules so far. They are counted apart, because a schedule does not end with a run."""
    stopped: Sequence[JobRecord] = ()
    """Schedules that failures have stopped, the most recent first."""
    limits: Sequence[LimitView] = ()
    """Limits that hold jobs back, those first that hold back the most."""

    @property
    def now(self) -> Microseconds:
        return self.cluster.now

    @property
    def workers(self) -> Sequence[WorkerView]:
        return self.cluster.workers

    @property
    def totals(self) -> dict[str, int]:
        """The number of jobs by status."""
        return {word: sum(queue.counts[word] for queue in self.queues) for word in PUBLIC_STATUSES}


class Throughput:
    """Jobs and runs of schedules that end per second. A deletion lowers the count; the rate is then 0."""

    def __init__(self) -> None:
        self._samples: deque[tuple[Microseconds, int]] = deque(maxlen=_MAX_SAMPLES)

    def record(self, snapshot: Snapshot) -> None:
        """Add a snapshot to the history."""
        self._samples.append((snapshot.now, snapshot.runs + sum(snapshot.totals[word] for word in ENDS)))

    def rates(self) -> list[float]:
        """Jobs per second between each snapshot and the previous one, the oldest first."""
        return [
            max(0, later - earlier) * SECOND / max(at - before, 1)
            for (before, earlier), (at, later) in pairwise(self._samples)
        ]


def take_snapshot(session: Session) -> Snapshot:
    """Read queues, workers, running jobs, schedules and limits."""
    cluster = session.cluster_state()
    running = session.queries.find(Filters(statuses=("running",)), limit=_MAX_JOBS, is_newest_first=False)
    schedules = list(session.queries.schedule_records())
    stopped = sorted(filter(is_stopped, schedules), key=lambda job: -(job.finished_at or 0))
    return Snapshot(
        cluster=cluster,
        queues=session.app.queues(),
        running=sorted(running, key=lambda job: job.started_at or cluster.now),
        runs=sum(row.run_count for row in schedules),
        stopped=stopped,
        limits=sorted(filter(_holds_back, session.app.limits()), key=lambda limit: (-limit.waiting, limit.name)),
    )


def _holds_back(limit: LimitView) -> bool:
    """A fair share only says whose turn it is."""
    return limit.waiting > 0 and limit.kind != LimitKind.FAIR


# -- screen ------------------------------------------------------------------------------------------------------------

_SPARKS: Final = "▁▂▃▄▅▆▇█"
_BAR: Final = 20
"""Characters of a progress bar at most."""


_WORDS: Final[tuple[PublicStatus, ...]] = ("pending", "running", "failed", "dead")
"""The statuses that are counted for a queue."""
_NARROW: Final = 60
"""A terminal with fewer columns has no table of queues."""
_MAX_STOPPED: Final = 3
"""Stopped schedules that are shown."""
_MAX_LIMITS: Final = 3
"""Limits that are shown."""
_MAX_KEYS: Final = 3
"""Keys that are named of each."""
_KEY: Final = 30
"""Characters of a key."""
_MIN_HEIGHT: Final = 4
"""Lines of a section that is cut: an empty one, the heading, a line, and how many are missing."""


class _Section(NamedTuple):
    """A part of the screen: its heading, and its lines."""

    head: Text
    lines: Sequence[Text]

    @property
    def height(self) -> int:
        """Its lines, with an empty one above it."""
        return 2 + max(1, len(self.lines))


def draw(snapshot: Snapshot, rates: Sequence[float], *, name: str, width: int, height: int) -> list[Text]:
    """At most ``height`` lines, each at most ``width`` wide."""
    lines = _head(snapshot, rates, name=escaped(name), width=width)
    sections = [_queues(snapshot, width), _workers(snapshot, width), _running(snapshot, width)]
    sections = _most_important(sections, (height - len(lines)) // _MIN_HEIGHT)
    room = _divide([section.height for section in sections], height - len(lines))
    for section, given in zip(sections, room, strict=True):
        lines += _cut(section, given)
    shown = lines[:height]
    for line in shown:
        line.truncate(width, overflow="ellipsis")
    return shown


def _most_important(sections: list[_Section], count: int) -> list[_Section]:
    """The sections for which there is room: queues first, then running jobs."""
    return sections[:1] if count <= 1 else [sections[0], sections[2]] if count == 2 else sections


def _divide(wanted: Sequence[int], room: int) -> list[int]:
    """Divide ``room`` lines. A section that wants less than its share leaves the rest to later ones."""
    given = []
    for number, want in enumerate(wanted):
        later = sum(min(other, max(_MIN_HEIGHT, room // len(wanted))) for other in wanted[number + 1 :])
        share = max(0, min(want, room - later))
        given.append(share)
        room -= share
    return given


def _cut(section: _Section, room: int) -> list[Text]:
    if room < _MIN_HEIGHT - 1:  # the heading alone says nothing
        return []
    lines = [Text(), section.head, *(section.lines or [Text("none", style="dim")])]
    if len(lines) <= room:
        return lines
    missing = len(lines) - room + 1
    return [*lines[: room - 1], Text(f"… and {missing} more", style="dim")]


# -- the parts ---------------------------------------------------------------------------------------------------------


def _head(snapshot: Snapshot, rates: Sequence[float], *, name: str, width: int) -> list[Text]:
    clock = to_datetime(snapshot.now).astimezone().strftime("%H:%M:%S")
    left, right = f"jobify top  {name}", f"{clock}  q: quit"
    title = Text(left if len(left) + len(right) + 2 > width else f"{left}{right:>{width - len(left)}}", style="bold")
    return [
        title,
        *_totals(snapshot, width),
        _throughput(rates, width),
        *_stopped(snapshot, width),
        *_limits(snapshot, width),
    ]


def _totals(snapshot: Snapshot, width: int) -> list[Text]:
    lines = [Text()]
    for word, count in snapshot.totals.items():
        total = Text.assemble((f"{word} ", "dim"), (f"{count}", STATUS_STYLES[word] if count else "dim"))
        if lines[-1] and lines[-1].cell_len + total.cell_len > width:
            lines.append(Text())
        lines[-1].append(total).append("   ")
    return lines


def _stopped(snapshot: Snapshot, width: int) -> list[Text]:
    """The schedules that were stopped last, with their errors."""
    shown = snapshot.stopped[:_MAX_STOPPED]
    notes = [escaped(f"schedule {job.id} is {stopped_note(job, snapshot.now)}").replace("\n", " ") for job in shown]
    lines = [Text(line, style="red") for note in notes for line in wrapped(note, width)]
    more = len(snapshot.stopped) - len(shown)
    return [*lines, Text(f"… and {more} more stopped schedules", style="red")] if more else lines


def _limits(snapshot: Snapshot, width: int) -> list[Text]:
    """The limits that most jobs wait for, with the keys that most of them have."""
    notes = [escaped(_limit_note(limit)) for limit in snapshot.limits[:_MAX_LIMITS]]
    lines = [Text(line, style="yellow") for note in notes for line in wrapped(note, width)]
    more = len(snapshot.limits) - _MAX_LIMITS
    return [*lines, Text(f"… and {more} more limits that jobs wait for", style="yellow")] if more > 0 else lines


def _limit_note(limit: LimitView) -> str:
    """``limit openai 10/10, 214 waiting``; of one with a key, ``limit exports 1 each, 5 waiting: 3 "a", 2 "b"``."""
    waited = [key for key in limit.keys if key.waiting]
    if limit.kind == LimitKind.CONCURRENCY and not waited:
        state = f"{limit.active}/{limit.limit}"
    else:
        state = f"{maximum_text(limit)}{' each' if waited else ''}"
    keys = [(key.waiting, json.dumps(key.key, ensure_ascii=False)) for key in waited[:_MAX_KEYS]]
    named = ", ".join(f"{count} {_fit(key, min(len(key), _KEY))}" for count, key in keys)
    more = ", …" if len(waited) > _MAX_KEYS else ""
    return f"limit {limit.name} {state}, {limit.waiting} waiting{f': {named}{more}' if named else ''}"


def _throughput(rates: Sequence[float], width: int) -> Text:
    rate = sum(rates[-5:]) / len(rates[-5:]) if rates else 0.0
    text = f"{rate:.1f} jobs/s  "
    recent = list(rates)[-max(0, min(60, width - len(text) - 1)) :]
    highest = max(recent, default=0.0) or 1.0
    graph = "".join(_SPARKS[round(rate / highest * (len(_SPARKS) - 1))] for rate in recent)
    return Text.assemble((text, "bold"), (graph, "green"))


def _queues(snapshot: Snapshot, width: int) -> _Section:
    return _narrow_queues(snapshot, width) if width < _NARROW else _wide_queues(snapshot, width)


def _narrow_queues(snapshot: Snapshot, width: int) -> _Section:
    """The counts that are not zero, line by line."""
    columns = (
        Column("QUEUE"),
        *(Column(word.upper(), is_number=True) for word in _WORDS),
        Column("WORKERS", is_number=True),
        Column("NOTE", style="yellow", is_rest=True),
    )
    rows = [
        [
            escaped(queue.name),
            *(str(queue.counts[word]) for word in _WORDS),
            str(queue.workers),
            escaped(queue_note(queue)),
        ]
        for queue in snapshot.queues
    ]
    return _Section(Text("QUEUE", style="dim"), lay_out(columns, rows, width) if rows else [])


def _wide_queues(snapshot: Snapshot, width: int) -> _Section:
    wide = _width_of([escaped(queue.name) for queue in snapshot.queues], "QUEUE", most=max(8, width // 3))
    head = f"{'QUEUE':<{wide}} " + "".join(f"{word.upper():>9}" for word in _WORDS) + f"{'WORKERS':>9}  NOTE"
    lines = []
    for queue in snapshot.queues:
        line = Text(f"{_fit(escaped(queue.name), wide)} ")
        for word in _WORDS:
            count = queue.counts[word]
            line.append(f"{count:>9}", style=STATUS_STYLES[word] if count else "dim")
        line.append(f"{queue.workers:>9}")
        lines += [line, *_beside(line, escaped(queue_note(queue)), "yellow", width)]
    return _Section(Text(head, style="dim"), lines)


def _workers(snapshot: Snapshot, width: int) -> _Section:
    head = f"{'WORKER':>8}  {'RUNNING':>9}{'UP':>12}  QUEUES"
    lines = []
    for worker in snapshot.workers:
        queues = "all" if worker.queues is None else escaped(", ".join(worker.queues))
        up = how_long(to_datetime(snapshot.now).timestamp() - worker.started_at.timestamp())
        lines.append(Text(f"{worker.pid:>8}  {len(worker.jobs):>9}{up:>12}  {queues}"))
    return _Section(Text(head, style="dim"), lines)


def _running(snapshot: Snapshot, width: int) -> _Section:
    wide = _width_of([escaped(job.task) for job in snapshot.running], "RUNNING TASK", most=max(12, width // 3))
    bar = max(0, min(_BAR, width - wide - 32))
    has_id = width >= wide + 12 + bar + 8 + 37
    head = f"{'RUNNING TASK':<{wide}} {'FOR':>9}  " + f"{'PROGRESS':<{bar + 7}}" + ("ID" if has_id else "")
    lines = [
        line for job in snapshot.running for line in _running_lines(job, snapshot, wide, bar, width, has_id=has_id)
    ]
    return _Section(Text(head, style="dim"), lines)


def _running_lines(job: JobRecord, snapshot: Snapshot, wide: int, bar: int, width: int, *, has_id: bool) -> list[Text]:
    length = how_long((snapshot.now - (job.started_at or snapshot.now)) / SECOND)
    line = Text(f"{_fit(escaped(job.task), wide)} {length:>9}  ")
    if job.progress is None:
        line.append(" " * (bar + 7))
    else:
        done = round(bar * min(max(job.progress, 0), 100) / 100)
        line.append("━" * done, style="green").append("━" * (bar - done), style="dim")
        line.append(f"{job.progress:>5.0f}% ")
    trouble = escaped(snapshot.cluster.trouble(job))
    style = "red" if trouble else "yellow"
    trouble = trouble or ("cancellation requested" if job.is_cancel_requested else "")
    below = _beside(line, trouble, style, width)
    return [line.append(f"  {escaped(job.id)}", style="dim") if has_id else line, *below]


def _beside(line: Text, note: str, style: str, width: int) -> list[Text]:
    """Append a note to ``line``; if it does not fit, return the lines for it below."""
    if note and line.cell_len + cell_len(note) + 2 > width:
        return [Text(f"  {part}", style=style) for part in wrapped(note, width - 2)]
    line.append(f"  {note}" if note else "", style=style)
    return []


def _width_of(names: Sequence[str], head: str, *, most: int) -> int:
    return max(len(head), min(most, max(map(len, names), default=0)))


def _fit(text: str, width: int) -> str:
    return f"{text:<{width}}" if len(text) <= width else f"{text[: width - 1]}…"
