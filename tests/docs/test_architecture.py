"""ARCHITECTURE.md names files that exist, and its journeys can be walked."""

from __future__ import annotations

import re

import pytest
from documents import ROOT, between

PAGE = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
PACKAGE = ROOT / "src" / "jobify"
JOURNEYS = {"push": (22, 4), "recovery": (14, 2), "result": (15, 2)}
"""The most files and the most returns of each."""
_STEP = re.compile(r"^\d+\. (↩ )?`([\w/]+)\.py`", re.MULTILINE)


def names(module: str, other: str) -> bool:
    """Whether a module imports the other one, or mentions a class of it."""
    text = (PACKAGE / f"{module}.py").read_text(encoding="utf-8")
    classes = re.findall(r"^class ([A-Z]\w+)", (PACKAGE / f"{other}.py").read_text(encoding="utf-8"), re.MULTILINE)
    return f"jobify.{other.replace('/', '.')}" in text or any(re.search(rf"\b{each}\b", text) for each in classes)


def test_the_page_is_short() -> None:
    assert PAGE.count("\n") <= 200


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`([\w/]+(?:\.py|\.sql|/))`", PAGE))))
def test_a_file_that_the_page_names_exists(path: str) -> None:
    assert any((folder / path).exists() for folder in (PACKAGE, PACKAGE / "storage" / "sqlite", ROOT)), path


@pytest.mark.parametrize("name", JOURNEYS)
def test_a_journey_can_be_walked(name: str) -> None:
    steps = _STEP.findall(between(PAGE, name))
    modules = [module for _, module in steps]
    most_files, most_returns = JOURNEYS[name]
    assert len(modules) == len(set(modules)) <= most_files
    assert sum(bool(mark) for mark, _ in steps) <= most_returns
    for number, (is_return, module) in enumerate(steps[1:], start=1):
        before = modules[:number] if is_return else modules[number - 1 : number]
        assert any(names(each, module) or names(module, each) for each in before), f"{before[-1]} → {module}"


def test_the_glossary_has_one_line_for_each_term() -> None:
    table = PAGE.partition("## Words")[2].partition("\n## ")[0]
    terms = [
        term for line in table.splitlines() if line[:2] == "| " for term in line.split(" | ")[0].strip("| ").split(", ")
    ]
    assert len(terms) == len(set(terms)) > 20
