"""What a command imports: reading modules is most of the time that it takes to answer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

APP = """
from jobify import Jobify

app = Jobify()

@app.task(name="add")
async def add(a: int, b: int) -> int:
    return a + b
"""
LISTING = """
import atexit, sys
before = {*sys.modules}  # the interpreter's own, and those of .pth files
atexit.register(lambda: print(*{*sys.modules} - before, sep="\\n", file=open("modules", "w")))
from jobify.__main__ import main
sys.argv = ["jobify", *sys.argv[1:]]
sys.exit(main())
"""
NEVER = ("pydantic", "rich", "multiprocessing", "unittest", "importlib.metadata")
"""What no command needs whose output is no terminal."""
FOR_STARTS = ("jobify.engine", "jobify.gateway.backend", "jobify.storage.memory", "jobify.runners.base")
"""What only a started app needs, and so no client."""
FOR_APPS = ("asyncio", "sqlite3", "msgspec", "jobify.app", "jobify.client", "jobify.storage")
HELP, COMMAND = (32, 165), (226, 434)
"""The most modules: of this package, and in all."""
ON_AN_APP = (
    "jobs list",
    "jobs list --limit 5 --status pending",
    "stats",
    "schedules",
    "queues",
    "workers",
    "tasks",
    "enqueue add --args [1,2]",
    "jobs purge --yes",
    "db check",
)


def modules(folder: Path, *words: str) -> set[str]:
    """The modules that ``jobify WORDS`` imports."""
    command = [sys.executable, "-c", LISTING, *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return {*(folder / "modules").read_text().split()}


def among(found: set[str], names: tuple[str, ...]) -> set[str]:
    return {name for name in found if any(name == each or name.startswith(f"{each}.") for each in names)}


def assert_no_more_than(found: set[str], limits: tuple[int, int]) -> None:
    counts = len(among(found, ("jobify",))), len(found)
    assert max(0, counts[0] - limits[0], counts[1] - limits[1]) == 0, (counts, sorted(found))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The current folder of the commands: an app and its database."""
    found = tmp_path_factory.mktemp("app")
    (found / "shop.py").write_text(APP)
    modules(found, "db", "migrate", "--app", "shop:app")
    return found


@pytest.mark.parametrize("words", ["--help", "worker --help", "jobs --help", "jobs list --help", "--version"])
def test_help_imports_little(tmp_path: Path, words: str) -> None:
    found = modules(tmp_path, *words.split())
    assert among(found, (*NEVER, *FOR_STARTS, *FOR_APPS)) == set()
    assert_no_more_than(found, HELP)


def test_a_command_imports_no_other_command(tmp_path: Path) -> None:
    found = among(modules(tmp_path, "--app", "shop:app", "queues", "--help"), ("jobify.cli.commands",))
    assert found == {"jobify.cli.commands", "jobify.cli.commands.queues"}


@pytest.mark.parametrize("words", ON_AN_APP)
def test_a_command_on_an_app_imports_what_a_client_needs(folder: Path, words: str) -> None:
    found = modules(folder, *words.split(), "--app", "shop:app")
    assert among(found, (*NEVER, *FOR_STARTS)) == set()
    assert_no_more_than(found, COMMAND)


def test_a_command_on_a_database_imports_what_a_client_needs(folder: Path) -> None:
    found = modules(folder, "jobs", "list", "--database", "jobify.db")
    assert among(found, (*NEVER, *FOR_STARTS)) == set()
    assert_no_more_than(found, COMMAND)
