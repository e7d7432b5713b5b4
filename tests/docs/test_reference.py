"""The reference pages say what the code says: options, commands, exit codes, members, import paths."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
from documents import PAGES as EVERYWHERE
from documents import ROOT

PAGES = sorted((ROOT / "docs" / "reference").glob("*.md"))


@pytest.fixture(scope="module")
def reference() -> Any:
    """The program that writes the generated parts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "tools")
        return importlib.import_module("reference")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_is_what_the_code_gives(page: Path, reference: Any) -> None:
    text = page.read_text(encoding="utf-8")
    assert text == reference.filled(text), "Run: python tools/reference.py"
    assert reference.UNWRITTEN not in text


def test_every_part_is_on_one_page(reference: Any) -> None:
    whole = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert {name: whole.count(f"<!-- {name}:start -->") for name in reference.PARTS} == dict.fromkeys(
        reference.PARTS, 1
    )


@pytest.mark.parametrize("heading", ["| option |", "| exit code |", "| error |", "| `JobStatus` |"])
def test_options_errors_and_exit_codes_stand_in_one_place(heading: str) -> None:
    places = {page for page in EVERYWHERE if f"\n{heading}" in page.read_text(encoding="utf-8")}
    assert places
    assert places <= set(PAGES)
