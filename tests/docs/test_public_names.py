"""Every class that the pages name can be imported from ``jobify``: for people, type checkers and ``dir()``."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
from pathlib import Path

from documents import PAGES, examples, prose

import jobify
from jobify import exceptions

OTHERS = ("ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "imports.md", "handles.md")
"""Pages for authors of the library, and those that list names by their address."""
GUIDES = [page for page in PAGES if page.name not in OTHERS]
QUALIFIED = ("jobify.testing", "jobify.router", "jobify.crontab", "jobify.cli")
"""What has an address of its own, which the pages write with its names."""


DECLARING = ("app", "jobs", "model")
"""Packages whose modules define what users see."""


def public() -> dict[str, str]:
    """The public classes of the package, with the module that exports them."""
    found = {}
    paths = {"jobify.": jobify.__path__, **{f"jobify.{part}.": [f"{jobify.__path__[0]}/{part}"] for part in DECLARING}}
    for info in (info for prefix, path in paths.items() for info in pkgutil.iter_modules(path, prefix)):
        module = importlib.import_module(info.name)
        if info.name.startswith(QUALIFIED) or info.name.endswith("__main__"):
            continue
        for name in getattr(module, "__all__", ()):
            if inspect.isclass(getattr(module, name)):
                found.setdefault(name, info.name)
    return found


def named_on_pages() -> set[str]:
    """What the pages import from Jobify, and all words in backticks that look like a class."""
    names = set()
    for example in examples():
        if example.code.page in GUIDES:
            for node in ast.walk(ast.parse(example.code.text)):
                module = (node.module or "") if isinstance(node, ast.ImportFrom) else ""
                if isinstance(node, ast.ImportFrom) and module.split(".")[0] == "jobify":
                    names |= set() if module.startswith(QUALIFIED) else {alias.name for alias in node.names}
    for page in GUIDES:
        if "design" not in page.parts:
            names |= set(re.findall(r"`([A-Z][a-z]\w+)(?:\(|`|\.)", prose(page)))
    return names


def test_every_class_of_the_pages_is_importable_from_jobify() -> None:
    wanted = {name for name in named_on_pages() if name in public()}
    assert {"Jobify", "SQLiteStorage", "PydanticConverter", "BaseMiddleware", "PayloadError"} <= wanted
    assert sorted(name for name in wanted if name not in jobify.__all__) == []


def test_every_error_is_importable_from_jobify() -> None:
    errors = {name for name in exceptions.__all__ if inspect.isclass(getattr(exceptions, name))}
    assert errors <= {*jobify.__all__}
    assert all(getattr(jobify, name) is getattr(exceptions, name) for name in errors)


def test_people_type_checkers_and_dir_see_the_same_names() -> None:
    tree = ast.parse(Path(jobify.__file__).read_text(encoding="utf-8"))
    typed = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("jobify.")
        for alias in node.names
    }
    everything: dict[str, object] = {}
    exec("from jobify import *", everything)
    names = {*jobify.__all__} - {"__version__"}
    assert typed | {"Jobber"} == names
    assert names <= {*everything}
    assert {*dir(jobify)} == {*jobify.__all__}


def test_each_name_is_the_one_of_its_home() -> None:
    for name, home in jobify._HOMES.items():
        assert getattr(jobify, name) is getattr(importlib.import_module(home), "Jobify" if name == "Jobber" else name)
