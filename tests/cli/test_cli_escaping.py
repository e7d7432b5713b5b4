"""What comes from outside reaches a terminal as text: no command, field or form of output lets a control character, a
mark that changes the order of a line, or a forged line through (story F48)."""

from __future__ import annotations

import json
import logging
from typing import Any

import click
import pytest
import typer

from cli_shop import Shop
from jobify.cli import output
from jobify.cli.errors import CommandError, print_error
from jobify.cli.main import cli
from jobify.cli.worker import SafeFormatter
from jobify.runtime.escaping import escaped, escaped_json

pytestmark = pytest.mark.promise("f48")

UNSAFE = [*map(chr, (*range(1, 32), *range(127, 160))), *"\u200b\u200e\u200f\u2028\u2029\u202a\u202e\u2066\u2069\ufeff"]
NASTY = "a[red]" + "".join(UNSAFE) + "\x1b]0;title\x07\x1b[2J\r\nFORGED\tz"
SERVED_ELSEWHERE = {("worker",), ("top",)}
"""Commands that serve, or draw a screen; what they show is tested below."""


def commands() -> dict[tuple[str, ...], click.Command]:
    """Every command, from the command line itself: a new one is here without being named."""
    found: dict[tuple[str, ...], click.Command] = {}

    def visit(command: Any, path: tuple[str, ...]) -> None:
        below = getattr(command, "commands", None)
        if below is None:
            found[path] = command
        for name, each in (below or {}).items():
            visit(each, (*path, name))

    visit(typer.main.get_command(cli), ())
    return found


COMMANDS = {path: command for path, command in commands().items() if path not in SERVED_ELSEWHERE}


def test_the_commands_are_found() -> None:
    assert {("jobs", "list"), ("jobs", "show"), ("workers",), ("stats",), ("queues", "list")} <= COMMANDS.keys()


def fill(shop: Shop) -> None:
    """Rows with such a text in every field."""
    metadata = json.dumps({"metadata": {NASTY: NASTY}})
    owner = shop.worker(NASTY, queues=(NASTY,))
    shop.ended(owner, "failed", id="failed" + NASTY, task=NASTY, queue=NASTY, options=metadata, unique_key="k" + NASTY)
    shop.running(owner, id="running" + NASTY, task=NASTY, queue=NASTY)
    shop.add(id=NASTY, task=NASTY, queue=NASTY, payload=json.dumps([[NASTY], {}]).encode(), options=metadata)
    shop.add(id="unserved", task="unserved" + NASTY, queue="unserved" + NASTY)
    shop.schedule("schedule" + NASTY, task=NASTY, queue=NASTY)
    shop.storage.pause_queue(NASTY)


def calls(path: tuple[str, ...], command: click.Command) -> list[list[str]]:
    """Ways to call a command: without a name, with each one that is there, with one that is not."""
    names = [NASTY, "failed" + NASTY, "schedule" + NASTY, "unknown" + NASTY]
    takes = [each for each in command.params if isinstance(each, click.Argument)]
    required = sum(each.required for each in takes)
    ways = [[*path]] + [[*path, *[name] * max(1, required)] for name in names if takes]
    options = {option for each in command.params for option in each.opts}
    if "--json" in options:
        ways += [[*way, "--json"] for way in ways]
    if "--yes" in options:
        ways = [[*way, "--yes"] for way in ways]
    return ways


def is_safe(text: str) -> bool:
    return all(each.isprintable() or each in "\n\t" for each in text)


@pytest.mark.parametrize("is_terminal", [False, True], ids=["pipe", "terminal"])
@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_no_command_lets_them_through(
    shop: Shop, path: tuple[str, ...], is_terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(shop)
    monkeypatch.setattr(output, "is_terminal", lambda: is_terminal)
    for arguments in calls(path, COMMANDS[path]):
        answer = shop(*arguments)
        for text in (answer.out, answer.err):
            assert is_safe(text), (arguments, text)
            assert "\nFORGED" not in text
        if "--json" in arguments and answer.out:
            json.loads(answer.out)


def test_json_still_says_the_same(shop: Shop) -> None:
    fill(shop)
    listed = json.loads(shop("jobs", "list", "--json").out)["jobs"]
    assert NASTY in {job["id"] for job in listed}


def test_the_screen_of_top(shop: Shop) -> None:
    from jobify.cli.options import Source
    from jobify.cli.session import open_session
    from jobify.cli.top.screen import draw, take_snapshot

    fill(shop)
    with open_session(Source("shop:app")) as desk:
        lines = draw(take_snapshot(desk), [1.0], name="shop" + NASTY, width=400, height=60)
    assert any("title" in line.plain for line in lines)
    assert all(line.plain.isprintable() for line in lines)


def test_errors_of_commands(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    print_error(CommandError(NASTY))
    print_error(ValueError(NASTY))
    monkeypatch.setenv("JOBIFY_DEBUG", "1")
    print_error(ValueError(NASTY))
    assert is_safe(capsys.readouterr().err)


def test_the_log_of_a_worker() -> None:
    record = logging.LogRecord("jobify.engine", logging.WARNING, __file__, 1, "Job %s: %s", (NASTY, NASTY), None)
    first, *others = SafeFormatter("%(levelname)s %(message)s").format(record).split("\n")
    assert first.startswith("WARNING ")
    assert is_safe(first)
    assert all(line.startswith("    ") and is_safe(line) for line in others)


def test_what_is_escaped_and_what_is_not() -> None:
    assert [each for each in UNSAFE if escaped(each) == each] == []
    assert escaped("grüße, 漢字 ✓ שלום") == "grüße, 漢字 ✓ שלום"
    assert escaped("a\nb", keep="\n") == "a\nb"
    for each in UNSAFE:
        document = json.dumps({each: [each]}, ensure_ascii=False, indent=2)
        assert json.loads(escaped_json(document)) == {each: [each]}
        assert is_safe(escaped_json(document))
