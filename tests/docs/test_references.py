"""What a docstring points to is there: modules, classes, functions and attributes that were renamed take it along."""

from __future__ import annotations

import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import jobify

ROOT = Path(jobify.__file__).parent
REFERENCE = re.compile(r":(?:mod|class|func|meth|data|attr):`~?(jobify(?:\.\w+)*)`")


def references() -> Iterator[tuple[str, str]]:
    for path in sorted(ROOT.rglob("*.py")):
        for name in REFERENCE.findall(path.read_text(encoding="utf-8")):
            yield path.relative_to(ROOT).as_posix(), name


def resolved(name: str) -> Any:
    """What ``name`` stands for. A field of a class that has no default is only annotated."""
    try:
        return pkgutil.resolve_name(name)
    except AttributeError:
        owner, _, field = name.rpartition(".")
        return resolved(owner).__annotations__[field]


@pytest.mark.parametrize("name", sorted({name for _, name in references()}))
def test_a_reference_leads_somewhere(name: str) -> None:
    where = sorted({path for path, other in references() if other == name})
    try:
        resolved(name)
    except (ImportError, AttributeError, KeyError):
        pytest.fail(f"there is no {name}; it is mentioned in {', '.join(where)}")
