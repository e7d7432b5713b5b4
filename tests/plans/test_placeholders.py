"""Placeholders carry no numbers: some releases of Python 3.12 warn that these are names, and want a mapping."""

from __future__ import annotations

import re
from importlib.resources import files


def test_no_placeholder_has_a_number() -> None:
    statements = files("jobify.storage.sqlite").joinpath("queries.sql").read_text(encoding="utf-8")
    assert re.findall(r"\?\d", statements) == []
