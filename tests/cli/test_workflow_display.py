"""The tree of a workflow: pure, from relatives to lines."""

from __future__ import annotations

import time
from typing import Any

import pytest

from jobify.cli.jobs.workflow import draw, summary, workflow_document
from jobify.storage.kinship import Kinship, Relative

STATES: dict[str, tuple[str, bool]] = {
    "complete": ("success", False),
    "pending": ("scheduled", False),
    "running": ("running", False),
    "failed": ("failed", False),
    "dead": ("failed", True),
    "cancelled": ("cancelled", False),
}


def relative(number: int, task: str = "step", word: str = "complete", error: str | None = None) -> Relative:
    return Relative(number, f"id-{number}", task, *STATES[word], error)


def kin(*jobs: Relative, edges: Any = (), is_whole: bool = True) -> Kinship:
    return Kinship(jobs, tuple(edges), is_whole)


def drawn(kinship: Kinship, asked: int, width: int | None = 80) -> list[str]:
    return [line.text for line in draw(kinship, f"id-{asked}", width=width)]


@pytest.mark.promise("f13")
def test_a_chain_hangs_below_its_first_step() -> None:
    jobs = [relative(1, "charge", "failed", "ConnectionError: payment is\ndown"), relative(2, "mail", "cancelled")]
    assert drawn(kin(*jobs, edges=[(1, 2)]), 2) == [
        "  charge   failed     id-1  ConnectionError: payment is down",
        "▶ └─ mail  cancelled  id-2",
    ]


def test_a_step_after_a_group_hangs_beside_it_and_is_drawn_once() -> None:
    jobs = [relative(1, "load"), relative(2, "pack"), relative(3, "wrap"), relative(4, "send"), relative(5, "bill")]
    edges = [(1, 2), (1, 3), (2, 4), (3, 4), (4, 5)]
    assert drawn(kin(*jobs, edges=edges), 4) == [
        "  load               complete  id-1",
        "  ├─ pack            complete  id-2",
        "  ├─ wrap            complete  id-3",
        "▶ └─ send (after 2)  complete  id-4",
        "     └─ bill         complete  id-5",
    ]


def test_many_that_are_alike_are_folded_but_for_failures_and_the_one_asked_for() -> None:
    words = {17: "failed", 30: "running"}
    jobs = [relative(number, "pack", words.get(number, "complete")) for number in range(1, 1001)]
    behind = [relative(number, "send", "pending") for number in range(1001, 2001)]
    edges = [*((job.number, -1) for job in jobs), *((-1, job.number) for job in behind)]
    lines = drawn(kin(*jobs, *behind, edges=edges), 1500)
    assert lines == [
        "  pack × 999  1 running, 998 complete",
        "  pack               failed   id-17",
        "  send × 999 (after 1000)  999 pending",
        "▶ send (after 1000)  pending  id-1500",
    ]
    assert summary(kin(*jobs, *behind)) == "2000 jobs: 1000 pending, 1 running, 998 complete, 1 failed"


def test_many_small_chains_are_folded_with_what_follows_them() -> None:
    jobs = [relative(1, "list")]
    edges = []
    for number in range(2, 200, 2):
        jobs += [relative(number, "load"), relative(number + 1, "store", "pending")]
        edges += [(1, number), (number, number + 1)]
    assert drawn(kin(*jobs, edges=edges), 101) == [
        "  list         complete  id-1",
        "  ├─ load × 98 and what follows  98 pending, 98 complete",
        "  └─ load      complete  id-100",
        "▶    └─ store  pending   id-101",
    ]


@pytest.mark.parametrize("asked", [1, 1000, 2000])
def test_a_long_chain_is_shown_where_it_begins_ends_and_was_asked_for(asked: int) -> None:
    jobs = [relative(number, word="complete" if number <= 1000 else "pending") for number in range(1, 2001)]
    lines = drawn(kin(*jobs, edges=[(number, number + 1) for number in range(1, 2000)]), asked)
    assert len(lines) < 50
    assert all(len(line) <= 80 for line in lines)
    assert next(line for line in lines if line.startswith("▶")).endswith(f"id-{asked}")
    assert any(line.startswith("  … ") and "more" in line for line in lines)


def test_a_wide_workflow_is_drawn_quickly() -> None:
    jobs = [relative(number, f"t{number % 7}") for number in range(1, 10_001)]
    edges = [*((number, -1) for number in range(1, 5001)), *((-1, number) for number in range(5001, 10_001))]
    edges += [(number, 10_000) for number in range(5001, 10_000)]
    begun = time.process_time()
    assert len(drawn(kin(*jobs, edges=edges), 10_000)) < 50
    assert time.process_time() - begun < 5


def test_hostile_names_and_narrow_terminals() -> None:
    jobs = [relative(1, "a\x1b[31m\nb", "failed", "x" * 500), relative(2)]
    lines = drawn(kin(*jobs, edges=[(1, 2)], is_whole=False), 1, width=40)
    assert all(len(line) <= 40 and "\x1b" not in line and "\n" not in line for line in lines[:-1])
    assert lines[-1] == "  … and more: these are the nearest 2 jobs"
    assert drawn(kin(*jobs, edges=[(1, 2)]), 1, width=None)[0].endswith("x" * 500)


def test_a_script_gets_jobs_and_links() -> None:
    jobs = [relative(number) for number in range(1, 6)]
    edges = [(1, -1), (2, -1), (-1, 3), (-1, 4), (3, 5), (4, 5)]
    document = workflow_document(kin(*jobs, edges=edges))
    assert document is not None
    assert document["counts"] == {"complete": 5}
    assert document["dependencies"] == [
        {"parents": ["id-1", "id-2"], "children": ["id-3", "id-4"]},
        {"parents": ["id-3", "id-4"], "children": ["id-5"]},
    ]
    assert workflow_document(kin(jobs[0])) is None
