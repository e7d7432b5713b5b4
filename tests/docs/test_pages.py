"""What the pages say about the code is so: links, options, modules, layers, measurements."""

from __future__ import annotations

import importlib
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from documents import PAGES, ROOT, between, fenced, prose

BENCH = ROOT / "bench"
PACKAGE = ROOT / "src" / "jobify"
README, ARCHITECTURE = ROOT / "README.md", ROOT / "ARCHITECTURE.md"
_LINK = re.compile(r"\]\((?!https?:)(?P<path>[^)#\s]*)(?:#(?P<heading>[^)\s]+))?\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_CODE = re.compile(r"`([^`]+)`")


def anchors(page: Path) -> set[str]:
    """The headings of a page, as GitHub makes links of them."""
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in _HEADING.findall(prose(page))}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = [
        (page.parent / found["path"] if found["path"] else page, found["heading"])
        for found in _LINK.finditer(prose(page))
    ]
    assert [path for path, _ in links if not path.exists()] == []
    assert [(path, heading) for path, heading in links if heading and heading not in anchors(path)] == []


def test_the_layers_are_those_that_are_checked() -> None:
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    (layers,) = [contract["layers"] for contract in tools["importlinter"]["contracts"]]
    (shown,) = [block.text for block in fenced(ARCHITECTURE) if block.info == "layers"]
    assert [line.split("  ")[0] for line in shown.splitlines()] == [layer.replace("jobify.", "") for layer in layers]


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The modules of `bench/` that make tables; they are programs, not a package."""
    monkeypatch.syspath_prepend(BENCH)
    yield importlib.import_module("table")
    for name in ("table", "plan"):
        monkeypatch.delitem(sys.modules, name)


def test_the_measurements_are_those_that_were_made(tables: Any) -> None:
    results = BENCH / "RESULTS.md"
    summary = tables.to_summary(results.read_text(encoding="utf-8")) if results.is_file() else tables.NOT_MEASURED
    readme = README.read_text(encoding="utf-8")
    assert between(readme, "bench") == summary
    assert tables.with_summary(readme, summary) == readme


def test_the_summary_has_medians_and_every_row_where_the_rival_is_ahead(tables: Any) -> None:
    plan = importlib.import_module("plan")
    shown = [
        tables.Row(plan.Metric("a", title, unit), rival, None, [2000.0, 1.0, 9000.0], theirs)
        for title, rival, unit, theirs in (
            ("one worker draining no-op jobs, NORMAL", "huey", "/s", [1000.0]),
            ("other work where we are ahead", "huey", "/s", [1000.0]),
            ("an idle worker: memory", "huey", "MB", [1000.0]),
            ("other memory", "others", "MB", [1000.0]),
            ("work of a rival that was not run", "others", "MB", []),
            ("work without a rival", "", "MB", []),
        )
    ]
    page = tables.to_markdown(shown, ["a machine"])
    rows = [line for line in tables.to_summary(page).splitlines() if line[:2] == "| "]
    assert rows[1:] == [
        "| one worker draining no-op jobs, NORMAL | huey | 1,000 /s | 2,000 /s | ours |",
        "| an idle worker: memory | huey | 1,000 MB | 2,000 MB | huey |",
        "| other memory | others | 1,000 MB | 2,000 MB | others |",
    ]
    assert "| work of a rival that was not run | others | not run | 2,000 MB (1–9,000) |" in page
    assert "| work without a rival | – | – | 2,000 MB (1–9,000) |" in page


def test_the_readme_has_some_numbers_and_those_where_others_win() -> None:
    rows = [line for line in between(README.read_text(encoding="utf-8"), "bench").splitlines() if line[:2] == "| "][1:]
    assert len(rows) >= 5
    assert any(not row.endswith("| ours |") for row in rows)


def test_the_readme_is_short() -> None:
    """Its table of numbers aside, which is as long as there are rows where others win."""
    readme = README.read_text(encoding="utf-8")
    assert readme.count("\n") - between(readme, "bench").count("\n") <= 170


def test_the_folders_of_tests_are_listed() -> None:
    rows = re.findall(r"^\| (`tests/.*?) \|", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.MULTILINE)
    listed = {name for row in rows for name in re.findall(r"(\w+)/`", row)}
    assert {path.parent.name for path in (ROOT / "tests").glob("*/test_*.py")} == listed
