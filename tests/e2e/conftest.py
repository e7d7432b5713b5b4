from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_shop import Shop, open_shop


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Shop]:
    """A database with an app, and the command line that looks at it."""
    with open_shop(tmp_path, monkeypatch, capsys) as opened:
        yield opened
