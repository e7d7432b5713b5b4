"""``import jobify`` brings along what every app needs, and nothing else: it is paid for by every program and worker."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from support import run

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
    """What ``import jobify`` imports, and what the interpreter's own start (site, .pth files) does not."""

    async def main() -> set[str]:
        with_it, without = await asyncio.gather(imported_by("import jobify"), imported_by("pass"))
        return with_it - without

    return run(main())


def test_it_imports_jobify(imported: set[str]) -> None:
    assert {"jobify", "jobify.app"} <= imported


@pytest.mark.parametrize("name", [*OPTIONAL, *HEAVY, *OURS])
def test_what_it_does_not_import(name: str, imported: set[str]) -> None:
    assert not {module for module in imported if module == name or module.startswith(f"{name}.")}


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
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
