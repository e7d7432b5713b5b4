"""What the pages say about the code is so: links, options, modules, layers, measurements."""

from __future__ import annotations

import importlib
import inspect
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from documents import PAGES, ROOT, between, fenced, prose

from jobify import Jobify, RouteOptions
from jobify.storage import SQLiteStorage

BENCH = ROOT / "bench"
PACKAGE = ROOT / "src" / "jobify"
README, ARCHITECTURE = ROOT / "README.md", ROOT / "ARCHITECTURE.md"
_LINK = re.compile(r"\]\((?!https?:)(?P<path>[^)#\s]*)(?:#(?P<heading>[^)\s]+))?\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_ROW = re.compile(r"^\| (`[^|]+) \|", re.MULTILINE)
_CODE = re.compile(r"`([^`]+)`")


def anchors(page: Path) -> set[str]:
    """The headings of a page, as GitHub makes links of them."""
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in _HEADING.findall(prose(page))}


def table(heading: str) -> set[str]:
    """The names in the first column of the README's table under a heading."""
    section = README.read_text(encoding="utf-8").split(f"### `{heading}`\n")[1].split("\n#")[0]
    return {name for cell in _ROW.findall(section) for name in _CODE.findall(cell)}


def parameters(function: object) -> set[str]:
    return set(inspect.signature(function).parameters)  # type: ignore[arg-type]  # a class is called, too


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = [
        (page.parent / found["path"] if found["path"] else page, found["heading"])
        for found in _LINK.finditer(prose(page))
    ]
    assert [path for path, _ in links if not path.exists()] == []
    assert [(path, heading) for path, heading in links if heading and heading not in anchors(path)] == []


@pytest.mark.parametrize(
    ("heading", "names"),
    [
        ("Jobify(...)", parameters(Jobify)),
        ("SQLiteStorage(...)", parameters(SQLiteStorage)),
        ("@app.task(...)", set(RouteOptions.__annotations__)),
    ],
)
def test_every_option_is_in_its_table(heading: str, names: set[str]) -> None:
    assert table(heading) == names


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


def test_the_summary_has_the_medians_of_what_was_promised(tables: Any) -> None:
    plan = importlib.import_module("plan")
    promised = plan.Metric("rate", "pushes (our default)", "/s")
    other = plan.Metric("other", "something", "ms")
    budget = plan.at_least_times(2)
    runs = [1000.0, 4000.0, 2000.0], [100.0, 400.0, 200.0]
    page = tables.to_markdown(
        [tables.Row(promised, "them", budget, *runs), tables.Row(other, "them", None, *runs)], ["a machine"]
    )
    rows = [line for line in tables.to_summary(page).splitlines() if line.startswith("| ")]
    assert rows[2:] == ["| pushes (our default) | them | 200 /s | 2,000 /s | 10.00 |"]


def test_the_folders_of_tests_are_listed() -> None:
    listed = set(re.findall(r"`tests/(\w+)/`", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")))
    assert {path.parent.name for path in (ROOT / "tests").glob("*/test_*.py")} == listed
