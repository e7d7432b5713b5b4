"""Draw the workflow of a job as a tree, or describe it as a document.

A job that depends on a single job is drawn below it. A job that depends on several is drawn beside them, below their
nearest common ancestor. So each job is drawn once::

      load                  complete   01a0…
      ├─ pack × 999  1 running, 998 complete
      ├─ pack               failed     01a1…  ValueError: no box
      └─ send (after 1000)  cancelled  01a2…
    ▶    └─ bill            cancelled  01a3…
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from heapq import heapify, heappop, heappush
from typing import Any, Final, NamedTuple

from jobify.cli.output import STATUS_STYLES, plain
from jobify.model.public_status import PUBLIC_STATUSES, public_status
from jobify.storage.kinship import Kinship, Relative

__all__ = ("TreeLine", "draw", "summary", "workflow_document")

_FOLD_ABOVE: Final = 5
"""More equal jobs than this beside each other are drawn as one line."""
_MAX_INDENT: Final = 8
"""Levels that are indented; deeper jobs are not indented further."""
_MAX_LINES: Final = 60
_CONTEXT: Final = 10
"""Lines that are always drawn at the beginning, at the end, and around the marked job."""
_FAILURES: Final = frozenset({"failed", "dead"})


class TreeLine(NamedTuple):
    """A line of the drawing."""

    text: str
    style: str


class _Entry(NamedTuple):
    """A line without padding."""

    branch: str
    name: str
    """The label of a job, of several equal jobs, or of a gap."""
    job: Relative | None
    counts: Mapping[str, int]


class _Tree:
    """Each job with its nearest common ancestor (its dominator) as the parent."""

    def __init__(self, kinship: Kinship) -> None:
        self.jobs = {job.number: job for job in kinship.jobs}
        self.parent: dict[int, int] = {}
        """0 means a root of the workflow."""
        self.level: dict[int, int] = {0: 0}
        """The length of the longest path to it."""
        self.children = defaultdict[int, list[int]](list)
        before = defaultdict[int, list[int]](list)
        for parent, child in kinship.edges:
            before[child].append(parent)
        self.waits = {job: sum(len(before[parent]) if parent < 0 else 1 for parent in before[job]) for job in self.jobs}
        """The number of jobs that each job waits for."""
        for node in _in_order(self.jobs, before):
            parents = before[node] or [0]
            self.parent[node] = self._common(parents)
            self.level[node] = 1 + max(self.level[parent] for parent in parents)
        for number in sorted(self.jobs):
            self.children[self._above(number)].append(number)

    def _common(self, parents: Sequence[int]) -> int:
        """The nearest node on all paths to ``parents``. Parents come before their children, so the search ends."""
        reached = set(parents)
        deepest_first = [(-self.level[node], node) for node in reached]
        heapify(deepest_first)
        while len(reached) > 1:
            _, node = heappop(deepest_first)
            reached.remove(node)
            above = self.parent[node]
            if above not in reached:
                reached.add(above)
                heappush(deepest_first, (-self.level[above], above))
        return reached.pop()

    def _above(self, number: int) -> int:
        """The job below which this one is drawn; 0 means none."""
        node = self.parent[number]
        while node < 0:
            node = self.parent[node]
        return node

    def path_to(self, number: int) -> set[int]:
        """A job and all jobs above it."""
        path = set()
        while number:
            path.add(number)
            number = self._above(number)
        return path

    def below(self, numbers: Iterable[int]) -> Iterator[Relative]:
        """These jobs and all jobs below them."""
        waiting = list(numbers)
        while waiting:
            number = waiting.pop()
            yield self.jobs[number]
            waiting += self.children[number]

    def name(self, number: int, times: int = 1) -> str:
        """The label of a job, or of ``times`` equal jobs."""
        name = plain(self.jobs[number].task)
        name = f"{name} × {times}" if times > 1 else name
        return f"{name} (after {self.waits[number]})" if self.waits[number] > 1 else name

    def shapes(self) -> dict[int, int]:
        """A number for each job; jobs with equal subtrees have the same number."""
        known: dict[tuple[Any, ...], int] = {}
        shapes: dict[int, int] = {}
        for number in sorted(self.jobs, reverse=True):
            below = tuple(sorted(Counter(shapes[child] for child in self.children[number]).items()))
            key = (self.jobs[number].task, self.level[number], below)
            shapes[number] = known.setdefault(key, len(known))
        return shapes


def _in_order(jobs: Iterable[int], before: Mapping[int, Sequence[int]]) -> Iterator[int]:
    """Jobs and barriers in topological order."""
    done = {0}
    for job in sorted(jobs):
        for node in (*before.get(job, ()), job):
            if node not in done and (node < 0 or node == job):
                done.add(node)
                yield node


def draw(kinship: Kinship, marked_id: str, *, width: int | None) -> list[TreeLine]:
    """The lines of the tree, with the job ``marked_id`` marked. A width of None means any."""
    tree = _Tree(kinship)
    marked = next(job.number for job in kinship.jobs if job.id == marked_id)
    entries = _gathered(list(_entries(tree, tree.path_to(marked))), marked)
    columns = [max((len(cell) for cell in cells), default=0) for cells in zip(*map(_cells, entries), strict=True)]
    lines = [_line(entry, columns, is_marked=_is(entry, marked), width=width) for entry in entries]
    if not kinship.is_whole:
        lines.append(TreeLine(f"  … and more: these are the nearest {len(kinship.jobs)} jobs", "dim"))
    return lines


def _entries(tree: _Tree, path: set[int]) -> Iterator[_Entry]:
    """All lines. Equal jobs are folded into one line, except on the path to the marked job."""
    shapes = tree.shapes()
    waiting = list(reversed(_folded(tree, 0, "", shapes, path)))
    while waiting:
        entry, number, indent = waiting.pop()
        yield entry
        if number is not None:
            waiting += reversed(_folded(tree, number, indent, shapes, path))


def _folded(
    tree: _Tree, above: int, indent: str, shapes: Mapping[int, int], path: set[int]
) -> list[tuple[_Entry, int | None, str]]:
    """The lines below a job; for each, its job and the indentation of the lines below it."""
    alike = defaultdict[tuple[int, bool, bool], list[int]](list)
    for number in tree.children[above]:
        alike[shapes[number], number in path, _word(tree.jobs[number]) in _FAILURES].append(number)
    groups = [
        part
        for group in alike.values()
        for part in ([[one] for one in group] if len(group) <= _FOLD_ABOVE else [group])
    ]
    groups.sort(key=lambda group: (tree.level[group[0]], group[0]))
    lines: list[tuple[_Entry, int | None, str]] = []
    for group in groups:
        is_last = group is groups[-1]
        branch = "" if above == 0 else f"{indent}{'└─ ' if is_last else '├─ '}"
        deeper = "" if above == 0 else f"{indent}{'   ' if is_last else '│  '}"
        below = deeper if len(deeper) <= 3 * _MAX_INDENT else indent
        if len(group) == 1:
            job = tree.jobs[group[0]]
            lines.append((_Entry(branch, tree.name(job.number), job, {}), job.number, below))
        else:
            lines.append((_many(tree, branch, group), None, below))
    return lines


def _many(tree: _Tree, branch: str, group: Sequence[int]) -> _Entry:
    counts = Counter(_word(job) for job in tree.below(group))
    name = tree.name(group[0], len(group))
    return _Entry(branch, name if sum(counts.values()) == len(group) else f"{name} and what follows", None, counts)


def _gathered(entries: list[_Entry], marked: int) -> list[_Entry]:
    """The lines; if there are too many, those far from the marked job are summarized."""
    if len(entries) <= _MAX_LINES:
        return entries
    place = next(number for number, entry in enumerate(entries) if _is(entry, marked))
    shown = {
        *range(_CONTEXT),
        *range(place - _CONTEXT, place + _CONTEXT + 1),
        *range(len(entries) - _CONTEXT, len(entries)),
    }
    gathered: list[_Entry] = []
    gap: list[_Entry] = []
    for number, entry in enumerate(entries):
        if number not in shown:
            gap.append(entry)
            continue
        if gap:
            gathered.append(_gap(gap))
            gap = []
        gathered.append(entry)
    return gathered


def _gap(entries: Sequence[_Entry]) -> _Entry:
    counts: Counter[str] = Counter()
    for entry in entries:
        counts.update(entry.counts if entry.job is None else [_word(entry.job)])
    return _Entry("", f"… {sum(counts.values())} more", None, counts)


def _is(entry: _Entry, number: int) -> bool:
    return entry.job is not None and entry.job.number == number


def _cells(entry: _Entry) -> tuple[str, str]:
    """The cells that are padded to the width of their columns."""
    if entry.job is None:
        return "", ""
    return f"{entry.branch}{entry.name}", _word(entry.job)


def _line(entry: _Entry, columns: Sequence[int], *, is_marked: bool, width: int | None) -> TreeLine:
    mark = "▶ " if is_marked else "  "
    if entry.job is None:
        return TreeLine(_cut(f"{mark}{entry.branch}{entry.name}  {_counted(entry.counts)}", width), "dim")
    name, word = (f"{cell:<{wide}}" for cell, wide in zip(_cells(entry), columns, strict=True))
    error = entry.job.error if word.strip() in _FAILURES and entry.job.error else ""
    text = f"{mark}{name}  {word}  {plain(entry.job.id)}  {plain(error)}".rstrip()
    style = STATUS_STYLES.get(word.strip(), "")
    return TreeLine(_cut(text, width), f"bold {style}".strip() if is_marked else style)


def _cut(text: str, width: int | None) -> str:
    return text if width is None or len(text) <= width else f"{text[: width - 1]}…"


def _word(job: Relative) -> str:
    return public_status(job.status, job.is_dead)


def _counted(counts: Mapping[str, int]) -> str:
    known = [word for word in PUBLIC_STATUSES if word in counts]
    return ", ".join(f"{counts[word]} {word}" for word in [*known, *sorted(counts.keys() - set(known))])


def summary(kinship: Kinship) -> str:
    """The number of jobs, and the number by status."""
    return f"{len(kinship.jobs)} jobs: {_counted(Counter(map(_word, kinship.jobs)))}"


def workflow_document(kinship: Kinship) -> dict[str, Any] | None:
    """The document of the workflow; None for a single job. All ``children`` wait for all ``parents``."""
    if len(kinship.jobs) < 2:
        return None
    ids = {job.number: job.id for job in kinship.jobs}
    before, behind = defaultdict[int, list[int]](list), defaultdict[int, list[int]](list)
    for parent, child in kinship.edges:
        before[child].append(parent)
        behind[parent].append(child)
    links = [(before[barrier], behind[barrier]) for barrier in behind if barrier < 0]
    links += [(parents, [child]) for child in ids if (parents := [one for one in before[child] if one > 0])]
    return {
        "is_whole": kinship.is_whole,
        "counts": dict(Counter(map(_word, kinship.jobs))),
        "jobs": [
            {"id": job.id, "task_name": job.task, "status": _word(job), "error": job.error} for job in kinship.jobs
        ],
        "dependencies": [
            {"parents": [ids[one] for one in parents], "children": [ids[one] for one in children]}
            for parents, children in links
        ],
    }
