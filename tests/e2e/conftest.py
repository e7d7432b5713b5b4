from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_shop import Shop, open_shop
from workers import Make, Site


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Shop]:
    """A database with an app, and the command line that looks at it."""
    with open_shop(tmp_path, monkeypatch, capsys) as opened:
        yield opened


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Make]:
    """Makes a folder with an app and a database; ends what was started there."""
    made: list[Site] = []

    def make(*code: str) -> Site:
        made.append(Site(tmp_path, *code))
        return made[-1]

    yield make
    for each in made:
        each.close()
