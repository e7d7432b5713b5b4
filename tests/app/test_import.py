"""``from jobify import Jobify`` brings along what every app needs, and nothing else: every program pays for it."""

from __future__ import annotations

import ast
import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

import jobify
from support import output, run

OPTIONAL = (
    "adaptix",
    "cbor2",
    "msgpack",
    "orjson",
    "pydantic",
    "psycopg",
    "rich",
    "starlette",
    "typer",
    "attrs",
    "attr",
)
"""Libraries that an installation need not have."""

HEAVY = (
    "concurrent.futures.process",
    "email",
    "http",
    "importlib.metadata",
    "importlib.resources",
    "multiprocessing",
    "tempfile",
    "unittest",
    "xml",
    "zipfile",
)
"""Parts of the standard library that only some apps need; processes and temporary files among them."""

OURS = ("jobify.runners.process", "jobify.runners.pool", "jobify.testing")
"""Our own, that are imported when there is a use for them."""


async def imported_by(program: str) -> set[str]:
    """The modules that ``program`` imports, as the interpreter lists them."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-X", "importtime", "-c", program, stderr=subprocess.PIPE, stdout=subprocess.PIPE
    )
    _, listing = await child.communicate()
    assert child.returncode == 0, listing.decode()
    return {
        line.rpartition("|")[2].strip() for line in listing.decode().splitlines() if line.startswith("import time:")
    }


@pytest.fixture(scope="module")
def imported() -> set[str]:
    """What that imports, and what the interpreter's own start (site, .pth files) does not."""

    async def main() -> set[str]:
        with_it, without = await asyncio.gather(imported_by("from jobify import Jobify"), imported_by("pass"))
        return with_it - without

    return run(main())


@pytest.mark.slow
def test_it_imports_jobify(imported: set[str]) -> None:
    assert {"jobify", "jobify.router"} <= imported


@pytest.mark.parametrize("name", [*OPTIONAL, *HEAVY, *OURS])
def test_what_it_does_not_import(name: str, imported: set[str]) -> None:
    assert not {module for module in imported if module == name or module.startswith(f"{name}.")}


def test_names_are_where_the_type_checkers_see_them() -> None:
    """They are imported when asked for, by a table; type checkers read import statements."""
    tree = ast.parse(Path(jobify.__file__).read_text())
    statements = (node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module != "typing")
    written = {alias.name: node.module for node in statements for alias in node.names if node.module != "importlib"}
    assert {**written, "Jobber": "jobify.app.application"} == jobify._HOMES
    assert {*written, "Jobber", "__version__"} == set(jobify.__all__)
    assert [name for name in jobify.__all__ if getattr(jobify, name, None) is None] == []


@pytest.mark.slow
def test_modules_are_attributes_and_anything_else_is_not() -> None:
    program = "import jobify; jobify.storage.SQLiteStorage; assert jobify.Jobber is jobify.Jobify; print(dir(jobify))"
    assert "'Jobify'" in output("-c", program)
    for name in ("no_such_thing", "_no_such_thing"):
        with pytest.raises(AttributeError, match=name):
            getattr(jobify, name)


@pytest.mark.slow
def test_a_process_task_finds_its_runner(imported: set[str]) -> None:
    """What is left out is imported when an app with such a task starts."""
    program = """
import asyncio, sys
from jobify import Jobify, RunMode
import os
async def main():
    app = Jobify(storage=False)
    app.task(os.getpid, run_mode=RunMode.PROCESS)
    assert "jobify.runners.process" not in sys.modules
    async with app:
        assert "jobify.runners.process" in sys.modules
asyncio.run(main())
"""
    output("-c", program)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["argparse", "difflib", "hashlib", "shutil"])
def test_the_program_of_a_worker_does_not_import(name: str, imported_by_a_worker: set[str]) -> None:
    """Each worker process would keep its memory."""
    assert name not in imported_by_a_worker


@pytest.fixture(scope="module")
def imported_by_a_worker() -> set[str]:
    """What the program of a worker imports before it runs an app."""
    parse = "from jobify import Jobify; from jobify.cli import worker; worker._parsed(['a:b', '--log-level=INFO'])"

    async def main() -> set[str]:
        with_it, without = await asyncio.gather(
            imported_by(f"{parse}; import jobify.worker.worker; Jobify()"), imported_by("pass")
        )
        return with_it - without

    return run(main())
