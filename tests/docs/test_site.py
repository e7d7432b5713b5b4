"""The site: it builds strictly, every page is in its navigation, and it loads nothing from elsewhere.

Links and anchors are checked by the strict build. Orphans are not, and neither is what the built pages load.
"""

from __future__ import annotations

import importlib
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from documents import ROOT

DOCS = ROOT / "docs"
LOADING = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src", "object": "data"}
"""What makes a browser load something, and by which attribute. A link that is clicked does not."""
LINK_KINDS = {"stylesheet", "icon", "preload", "preconnect", "dns-prefetch", "modulepreload", "manifest"}
ON_DEMAND = {"mermaid", "glightbox", "pyodide"}
"""Classes of elements for which the script of the theme would fetch a library from elsewhere."""


def config() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    return loaded


def pages(nav: Any) -> list[str]:
    """The pages that a navigation names, in order."""
    if isinstance(nav, str):
        return [nav]
    parts = nav.values() if isinstance(nav, dict) else nav
    return [page for part in parts for page in pages(part)]


class Loads(HTMLParser):
    """Collects what a page loads, and the classes of its elements."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.classes: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.classes |= set(found.get("class", "").split())
        if tag in LOADING and (tag != "link" or LINK_KINDS & set(found.get("rel", "").split())):
            self.addresses.append(found.get(LOADING[tag], ""))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site, in a folder of its own."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(DOCS, folder / "docs")
    for name in ("mkdocs.yml", "CHANGELOG.md"):
        shutil.copy(ROOT / name, folder)
    program = Path(sys.executable).parent / "zensical"
    assert program.is_file(), "This environment is older than pyproject.toml: pip install --editable '.[dev]'"
    done = subprocess.run([program, "build", "--strict"], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / config()["site_dir"]


def test_every_page_is_in_the_navigation_once() -> None:
    named = pages(config()["nav"])
    assert len(named) == len(set(named))
    assert set(named) == {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}


def test_every_page_is_built(site: Path) -> None:
    for page in pages(config()["nav"]):
        assert (site / page).with_suffix(".html").is_file(), page


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    for path in site.rglob("*.html"):
        loads = Loads(path.read_text(encoding="utf-8"))
        assert loads.addresses, path
        assert [each for each in loads.addresses if re.match(r"(?:\w+:)?//", each)] == [], path
        assert loads.classes & ON_DEMAND == set(), path
    for path in (*site.rglob("*.css"), *site.rglob("*.svg")):
        text = path.read_text(encoding="utf-8")
        assert re.findall(r"(?:url\(|@import\s*|href=)[\"']?(?:\w+:)?//[^)\"']*", text) == [], path


def test_what_loads_from_elsewhere_is_found() -> None:
    loads = Loads('<link rel="stylesheet" href="https://a.b/c.css"><a href="https://a.b">b</a><p class="mermaid"></p>')
    assert loads.addresses == ["https://a.b/c.css"]
    assert loads.classes == {"mermaid"}


def test_no_block_of_code_is_left_as_text(site: Path) -> None:
    for path in site.rglob("*.html"):
        assert "```" not in re.sub(
            r"<pre.*?</pre>|<code.*?</code>", "", path.read_text(encoding="utf-8"), flags=re.DOTALL
        )


def test_the_site_can_be_read_from_the_disk() -> None:
    settings = config()
    assert settings["use_directory_urls"] is False
    assert settings["theme"]["font"] is False


def test_the_list_for_language_models_names_every_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "tools")
    written = (ROOT / "llms.txt").read_text(encoding="utf-8")
    assert written == importlib.import_module("llms").text(), "Run: python tools/llms.py"
