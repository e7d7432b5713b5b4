"""The measured numbers as a Markdown page that says what was met and what was not."""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import inf

from plan import Budget, Metric

_PAGE = """# What was measured

Written by `make bench` on {date}. Budgets are ratios to the rival named in the row, or absolute where they name a unit.
Durations, shares and memory: less is better. Rates (`/s`): more is better.

{facts}

| work | against | theirs | ours | ours ÷ theirs | budget | met |
|---|---|---:|---:|---:|---:|---|
{rows}

The SQLite storage of jobify 0.14.0 always uses WAL with `synchronous=NORMAL`: after a power cut its last commits may be
missing. Ours is measured with the same setting, and with `FULL`, its default, where the table says so. That release
deletes a job's row when the job ends; ours keeps the row with the outcome and the result. FlexiQ does not flush its
commits either. huey flushes each one as it comes (FULL); it has no option for NORMAL, so there the pragma is set on its
connection. Celery and RQ were given a Redis that keeps all in memory and writes nothing, and workers that run the jobs
in their own process: solo pool, simple worker. On PostgreSQL all have one server, which flushes each commit, and a
database of their own for each run. PgQueuer keeps a line of log of a job that has ended; Procrastinate and ours keep
the job. "Not run" means that the machine has no `redis-server`, or that the rival failed.

To repeat it: `make bench` (40 minutes, on an otherwise idle machine).
"""


@dataclass(frozen=True, slots=True)
class Row:
    """The runs of one metric on both sides; none of theirs where the rival was not run, or there is none."""

    metric: Metric
    rival: str
    budget: Budget | None
    ours: Sequence[float]
    theirs: Sequence[float]

    def cells(self) -> list[str]:
        """The row as text: what, against whom, theirs, ours, ratio, budget, verdict."""
        ours = statistics.median(self.ours)
        theirs = statistics.median(self.theirs) if self.theirs else None
        ratio = f"{ours / theirs:.2f}" if theirs else "–"
        promise = "" if self.budget is None else self.budget.text
        verdict = "" if self.budget is None else "yes" if self.budget.is_met(ours, theirs or 0) else "**no**"
        shown = self._spread(self.theirs) if self.theirs else "not run" if self.rival else "–"
        return [self.metric.title, self.rival or "–", shown, self._spread(self.ours), ratio, promise, verdict]

    def _spread(self, values: Sequence[float]) -> str:
        low, middle, high = (_number(value) for value in (min(values), statistics.median(values), max(values)))
        return f"{middle} {self.metric.unit} ({low}–{high})"


def to_markdown(rows: Sequence[Row], facts: Sequence[str]) -> str:
    """The whole page."""
    return _PAGE.format(
        date=datetime.now(UTC).date().isoformat(),
        facts="\n".join(f"- {fact}" for fact in facts),
        rows="\n".join(f"| {' | '.join(row.cells())} |" for row in rows),
    )


NOT_MEASURED = "Nothing was measured yet.\n"

_START, _END = "<!-- bench:start -->\n", "<!-- bench:end -->"
_SPREAD = re.compile(r" \([^()]*–[^()]*\)$")
_SHOWN = {
    ("durable push → run → stored result, 10,000 at once", "jobify 0.14.0"),
    ("one worker draining no-op jobs, NORMAL", "huey"),
    ("one worker draining no-op `def` jobs, NORMAL", "huey"),
    ("enqueuing one job a call, NORMAL", "huey"),
    ("enqueuing one job a call, FULL", "huey"),
    ("from the call to the start in an idle worker, p50", "huey, looking all the time"),
    ("an idle worker: memory", "huey"),
}
"""The rows that the summary has in any case, by title and rival."""


def to_summary(page: str) -> str:
    """A short table from the whole page, medians only: a few rows, and each in which rivals are ahead, for the best."""
    rows = [[cell.strip() for cell in line.strip("|\n").split("|")] for line in page.splitlines() if line[:2] == "| "]
    shown: dict[str, tuple[float, str]] = {}
    for title, rival, theirs, ours, ratio, *_ in rows[1:]:
        if ratio == "–":
            continue
        lead = float(ratio) if ours.partition(" (")[0].endswith("/s") else 1 / max(float(ratio), 0.001)
        is_ahead = lead >= 1
        if ((title, rival) in _SHOWN or not is_ahead) and lead < shown.get(title, (inf, ""))[0]:
            cells = (title, rival, *(_SPREAD.sub("", cell) for cell in (theirs, ours)), "ours" if is_ahead else rival)
            shown[title] = (lead, f"| {' | '.join(cells)} |")
    head = ("| work | against | theirs | ours | ahead |", "|---|---|---:|---:|---|")
    table = "\n".join([*head, *(line for _, line in shown.values())])
    return f"{table}\n\nMedians of one machine. `make bench` repeats them; [all rows](bench/RESULTS.md).\n"


def with_summary(document: str, summary: str) -> str:
    """``document`` with ``summary`` between its two comments for it."""
    before, _, rest = document.partition(_START)
    _, _, after = rest.partition(_END)
    return f"{before}{_START}{summary}{_END}{after}"


def _number(value: float) -> str:
    """Three significant digits are all that such a measurement can tell; thousands are grouped."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
