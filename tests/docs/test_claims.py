"""What the page of claims names is there: tests, and rows of the bench."""

from __future__ import annotations

import re

import pytest
from documents import ROOT

PAGE = (ROOT / "docs" / "claims.md").read_text(encoding="utf-8")
_ROWS, _, _SPEED = PAGE.partition("## Speed")
TESTS = re.findall(r"`(\w{12,})`", _ROWS.partition("\n## ")[2])
DEFINED = [
    name for path in (ROOT / "tests").rglob("test_*.py") for name in re.findall(r"def (test_\w+)\(", path.read_text())
]


@pytest.mark.parametrize("words", TESTS)
def test_a_claim_has_its_test(words: str) -> None:
    assert [name for name in DEFINED if name.endswith(f"_{words}")] != []


def test_a_number_has_its_row() -> None:
    rows = [line.strip("| ").split(" | ")[1] for line in _SPEED.splitlines() if line.startswith("| ")][1:]
    measured = (ROOT / "bench" / "RESULTS.md").read_text(encoding="utf-8")
    assert [row for row in rows if f"\n| {row} |" not in measured] == []


def test_the_page_is_read() -> None:
    assert len(TESTS) > 20
