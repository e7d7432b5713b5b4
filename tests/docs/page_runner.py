"""Run the programs and commands of one page: a program that the tests start once for each page.

It reads a list of steps from its standard input and writes a list of results, as JSON. Each step runs in a fork, so the
interpreter and the library are loaded only once for a page.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import os
import pkgutil
import pty
import re
import runpy
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

COLUMNS = 100
PATIENCE = 60
"""Seconds that a command in the background may take to print what the page shows."""
_KILL = re.compile(r"kill(?: -(\w+))? %(\d+)$")
_ANSI = re.compile(r"\x1b\[[?0-9;]*[a-zA-Z]")

background: list[tuple[subprocess.Popen[bytes], Path]] = []
"""The commands that were started with ``&``, and the files with what they print."""


def main() -> None:
    steps = json.load(sys.stdin)
    load(any(step["kind"] == "command" for step in steps))
    try:
        results = [run(step) for step in steps]
    finally:
        for process, _ in background:
            if process.poll() is None:
                process.terminate()
        for process, _ in background:
            process.wait()
    json.dump(results, sys.stdout)


def load(has_commands: bool) -> None:
    """Import what nearly every fork needs: an app that has run a job has imported most of it."""
    from jobify import Jobify, SQLiteStorage

    async def greet() -> None: ...

    async def once() -> None:
        app = Jobify(storage=SQLiteStorage(":memory:"))
        task = app.task(greet)
        async with app:
            await (await task.push())
            await (await task.adelay()).aresult()
            await app.astats()

    asyncio.run(once())
    if has_commands:
        from pydantic import BaseModel, TypeAdapter  # noqa: F401 - the commands import them

        import jobify.cli

        for module in pkgutil.walk_packages(jobify.cli.__path__, "jobify.cli."):
            importlib.import_module(module.name)


def run(step: dict[str, Any]) -> dict[str, Any]:
    """Take a step: write a file, run a program or run a command."""
    folder = Path(step["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    if step["kind"] == "file":
        (folder / step["name"]).parent.mkdir(parents=True, exist_ok=True)
        (folder / step["name"]).write_text(step["text"], encoding="utf-8")
        return {}
    if step["kind"] == "program":
        return run_program(folder, step["name"])
    code, output = run_command(folder, step["text"], step["pattern"])
    return {"code": code, "output": output}


def run_program(folder: Path, name: str) -> dict[str, Any]:
    """Run a file of Python as a program. Its outputs are kept apart."""
    with (folder / ".stdout").open("w+") as stdout, (folder / ".stderr").open("w+") as stderr:
        pid = os.fork()
        if pid == 0:
            for number, file in ((1, stdout), (2, stderr)):
                os.dup2(file.fileno(), number)
            be_program(folder, [name])
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        return {"code": code, "output": (folder / ".stdout").read_text(), "error": (folder / ".stderr").read_text()}


def run_command(folder: Path, text: str, pattern: str) -> tuple[int, str]:
    """Run a command on a terminal of its own. Its exit code and what it prints, without colours."""
    if text.endswith("&"):
        return 0, start(folder, text.rstrip("& "), pattern)
    if found := _KILL.match(text):
        process = background[int(found[2]) - 1][0]
        process.send_signal(getattr(signal, f"SIG{found[1]}", None) or int(found[1] or signal.SIGTERM))
        process.wait()
        return 0, ""
    words = shlex.split(text, comments=True)
    if words[0] == "export":
        os.environ.update([words[1].split("=", 1)])
        return 0, ""
    pid, terminal = pty.fork()
    if pid == 0:
        if words[0] == "jobify" and not set(text) & set("|;><&"):
            be_command(folder, words)
        if words[:2] == ["python", "-c"]:
            be_text(folder, words[2])
        if words[0] == "python" and words[1].endswith(".py"):
            be_program(folder, words[1:])
        os.chdir(folder)
        os.execve("/bin/bash", ["bash", "-c", text], environment(folder))
    output = b""
    with contextlib.suppress(OSError):  # the other end is closed
        while part := os.read(terminal, 65536):
            output += part
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.close(terminal)
    return code, _ANSI.sub("", output.decode().replace("\r", ""))


def start(folder: Path, text: str, pattern: str) -> str:
    """Start a command in the background, and wait until it has printed what is shown."""
    log = folder / f".background-{len(background)}"
    with log.open("wb") as file:
        process = subprocess.Popen(
            ["/bin/bash", "-c", f"exec {text}"], cwd=folder, env=environment(folder), stdout=file, stderr=file
        )
    background.append((process, log))
    end = time.monotonic() + PATIENCE
    while pattern and not re.match(pattern, log.read_text()) and time.monotonic() < end and process.poll() is None:
        time.sleep(0.02)
    return log.read_text() if pattern else ""


def environment(folder: Path) -> dict[str, str]:
    """The environment of commands: the programs of this interpreter first, and no colours."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "HOME": str(folder), "COLUMNS": str(COLUMNS), "NO_COLOR": "1", "TERM": "xterm"}


def be_program(folder: Path, words: list[str]) -> NoReturn:
    """Go on as ``python words``."""
    enter(folder, words)
    runpy.run_path(words[0], run_name="__main__")
    sys.exit(0)


def be_text(folder: Path, text: str) -> NoReturn:
    """Go on as ``python -c text``."""
    enter(folder, ["-c"])
    sys.path[0] = ""
    exec(compile(text, "<string>", "exec"), {"__name__": "__main__"})
    sys.exit(0)


def be_command(folder: Path, words: list[str]) -> NoReturn:
    """Go on as the command ``jobify``."""
    from jobify.__main__ import main as jobify

    os.environ.update(environment(folder))
    enter(folder, words)
    sys.exit(jobify())


def enter(folder: Path, words: list[str]) -> None:
    """Take what a new process would have: its folder, arguments, path and standard streams."""
    os.chdir(folder)
    sys.argv[:] = words
    sys.path[0] = str(folder) if words[0].endswith(".py") else sys.path[0]
    sys.stdin, sys.stdout, sys.stderr = (
        os.fdopen(number, mode, encoding="utf-8", closefd=False) for number, mode in ((0, "r"), (1, "w"), (2, "w"))
    )


if __name__ == "__main__":
    main()
