"""The command itself: how it finds the app, how it fails, and what it prints."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import jobify.cli.output
from cli_shop import Shop
from jobify.cli.main import cli
from jobify.model.limit_gates import LimitDefinition
from jobify.worker.exit_codes import ExitCode
from support import finished

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "commands.md"
COMMANDS = [
    ["worker"],
    ["workers"],
    ["stats"],
    ["top"],
    ["health"],
    ["enqueue"],
    ["tasks"],
    *(["jobs", name] for name in ("list", "show", "logs", "wait", "cancel", "retry", "delete", "purge")),
    *(["schedules", name] for name in ("list", "pause", "resume", "run-now")),
    *(["queues", name] for name in ("list", "pause", "resume")),
    *(["limits", name] for name in ("list", "set", "reset")),
    *(["db", name] for name in ("migrate", "check", "vacuum", "backup", "copy", "sql")),
]


def command(*arguments: str, cwd: Path, code: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """``python -m jobify …`` as a process of its own."""
    start = ["-c", code] if code else ["-m", "jobify"]
    return finished(*start, *arguments, cwd=cwd, **environment)


@pytest.mark.parametrize("name", COMMANDS, ids=" ".join)
def test_every_command_has_help(shop: Shop, name: list[str]) -> None:
    answer = shop(*name, "--help")
    assert answer.code == 0
    assert f"Usage: jobify {' '.join(name)}" in answer.out
    assert "<" not in answer.out.split("Options:")[1].replace("<=", ""), "a metavar of the library's own"


@pytest.mark.parametrize(
    "name",
    # without JSON, or (db copy) between two databases: see test_copying.py
    [name for name in COMMANDS if name not in (["worker"], ["top"], ["jobs", "logs"], ["db", "sql"], ["db", "copy"])],
    ids=" ".join,
)
def test_every_command_answers_scripts_in_json(shop: Shop, name: list[str]) -> None:
    job, failed, schedule = shop.add(), shop.ended(shop.worker(), "failed"), shop.schedule("nightly")
    things = {"jobs show": [job], "jobs cancel": [job], "jobs retry": [failed], "jobs delete": [job, "--yes"]}
    things |= {
        "health": ["--max-wait", "1h"],
        "enqueue": ["pack"],
        "jobs logs": [failed, "-n", "1"],
        "jobs wait": [shop.ended(1, "success")],
    }
    things |= {"jobs purge": ["--yes", "--status", "failed"], "db vacuum": ["--force"], "db backup": ["copy.db"]}
    things |= {f"schedules {verb}": [schedule] for verb in ("pause", "run-now")}
    things |= {f"queues {verb}": ["default"] for verb in ("pause", "resume")}
    shop.storage.define_limits({"pack": [LimitDefinition("packing", "concurrency", 3)]})
    things |= {"limits set": ["packing", "5"], "limits reset": ["packing"]}
    if name == ["schedules", "resume"]:
        shop("schedules", "pause", schedule)
        things["schedules resume"] = [schedule]
    answer = shop(*name, *things.get(" ".join(name), []), "--json")
    assert isinstance(answer.json, dict)
    assert answer.err == ""


@pytest.mark.parametrize("name", [[], ["db"]], ids=" ".join)
def test_a_group_without_a_command_shows_its_help(shop: Shop, name: list[str]) -> None:
    answer = shop(*name)
    assert (answer.code, answer.out) == (2, "")
    assert "Commands:" in answer.err


@pytest.mark.parametrize("name", ["jobs", "schedules", "queues"])
def test_a_group_that_has_a_list_shows_it_without_a_command(shop: Shop, name: str) -> None:
    shop.schedule("nightly")
    assert shop(name).out.splitlines()[0] == shop(name, "list").out.splitlines()[0]
    assert len(shop(name, "--json", "--app", "shop:app").json[name]) == 1
    assert "Commands:" in shop(name, "--help").out


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["jobs", "list", "--limit", "0"], "greater than or equal to 1. See jobify jobs list --help."),
        (["jobs", "show"], "Missing argument 'ID'. See jobify jobs show --help."),
        (["jobs", "lits"], "No such command 'lits'. Did you mean 'list'? See jobify jobs --help."),
        (["stats", "--wach"], "No such option: --wach"),
        (["worker", "--processes", "x"], "See jobify worker --help."),
        (["worker", "--queues", ","], "Name a queue, or omit --queues to serve every queue. See"),
        (["workers", "list"], "jobify workers is itself the list: leave out 'list'."),
    ],
)
def test_wrong_usage_is_one_line(shop: Shop, words: list[str], complaint: str) -> None:
    answer = shop(*words)
    assert (answer.code, answer.out, answer.err.count("\n")) == (2, "", 1)
    assert answer.err.startswith("jobify: ")
    assert complaint in answer.err


def test_the_version_is_shown(shop: Shop) -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", shop("--version").out)


def test_help_imports_neither_rich_nor_an_app(tmp_path: Path) -> None:
    code = (
        "import sys; before = {*sys.modules}; sys.argv = ['jobify', '--help']\n"  # the measuring code has imported some
        "from jobify.__main__ import main\nassert main() == 0\n"
        "print(*({'rich', 'asyncio', 'sqlite3', 'msgspec', 'jobify.app.application'} & {*sys.modules} - before))"
    )
    done = command(cwd=tmp_path, code=code)
    assert done.stdout.splitlines()[-1] == "", done.stderr


def test_without_the_extra_one_line_says_what_to_install(tmp_path: Path) -> None:
    code = "import sys; sys.modules['typer'] = None\nfrom jobify.__main__ import main\nsys.exit(main())"
    done = command(cwd=tmp_path, code=code)
    assert (done.returncode, done.stdout) == (1, "")
    assert "pip install 'jobify[cli]'" in done.stderr
    assert done.stderr.count("\n") == 1


# -- the app -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "code", "complaint"),
    [
        ("nowhere:app", 2, "There is no module 'nowhere'"),
        ("shop.nowhere:app", 2, "There is no module 'shop.nowhere'"),
        ("shop:apple", 2, "Did you mean shop:app?"),
        ("shop:number", 2, "no Jobify, but of type int. Did you mean shop:app?"),
        ("shop.py:app", 2, "Name the module, as in an import: shop:app"),
        ("json:app", 2, "It holds no Jobify at all"),
        ("broken:app", 1, "ZeroDivisionError: division by zero"),
        ("lacking:app", 1, "No module named 'surely_missing'"),
        ("garbled:app", 1, "garbled.py:2)."),
        ("leaving:app", 1, "ends the program: SystemExit(5)"),
        (":app", 2, "names no module. Write package.module:name."),
    ],
)
def test_an_app_that_is_not_there_is_one_line(shop: Shop, name: str, code: int, complaint: str) -> None:
    shop.folder.joinpath("broken.py").write_text("1 / 0\n")
    shop.folder.joinpath("lacking.py").write_text("import surely_missing\n")
    shop.folder.joinpath("garbled.py").write_text("\ndef (:\n")
    shop.folder.joinpath("leaving.py").write_text("raise SystemExit(5)\n")
    answer = shop("jobs", "list", "--app", name)
    assert (answer.code, answer.out) == (code, "")
    assert complaint in answer.err
    assert answer.err.count("\n") == 1


FACTORIES = """
import functools
from jobify import Jobify
from shop import app, pack

class Shop(Jobify): ...

def create_app(debug=False):
    print("making")
    return app

made_with_debug = functools.partial(create_app, debug=True)

async def async_app():
    return app

def needs(path):
    return app

def makes_a_number():
    return 3

def fails():
    raise LookupError("no settings")

def leaves():
    raise SystemExit(5)
"""


@pytest.fixture
def factories(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Shop:
    shop.folder.joinpath("factories.py").write_text(FACTORIES)
    monkeypatch.delitem(sys.modules, "factories", raising=False)
    return shop


@pytest.mark.parametrize("name", ["create_app", "made_with_debug"])
def test_an_app_may_be_made_by_a_factory(factories: Shop, name: str) -> None:
    job = factories.add()
    answer = factories("jobs", "--app", f"factories:{name}", "--json")
    assert [row["id"] for row in answer.json["jobs"]] == [job]
    assert "making\n" in answer.err
    assert [row["task"] for row in factories("tasks", "--app", f"factories:{name}").table] == ["pack"]


def test_a_class_of_apps_is_a_factory(factories: Shop) -> None:
    answer = factories("db", "check", "--app", "factories:Shop")
    assert "jobify.db" in answer.out + answer.err


@pytest.mark.parametrize(
    ("name", "code", "complaint"),
    [
        ("async_app", 2, "is an async function, and a factory is called before there is an event loop. Write `def`"),
        ("needs", 2, "cannot be called without arguments (missing a required argument: 'path')"),
        ("makes_a_number", 2, "no Jobify, but of type int"),
        ("fails", 1, "Calling 'factories:fails' failed: LookupError: no settings (factories.py:"),
        ("leaves", 1, "ends the program: SystemExit(5)"),
        ("pack", 2, "no Jobify, but of type RootRoute"),
        ("app2", 2, "Did you mean factories:app?"),
    ],
)
def test_what_is_no_factory_is_one_line(factories: Shop, name: str, code: int, complaint: str) -> None:
    answer = factories("jobs", "list", "--app", f"factories:{name}")
    assert (answer.code, answer.out) == (code, "")
    assert complaint in answer.err
    assert answer.err.count("\n") == 1


def test_a_factory_is_found_where_there_is_no_app(shop: Shop) -> None:
    shop.folder.joinpath("only.py").write_text("def create_app():\n    from shop import app\n    return app\n")
    assert "Did you mean only:create_app?" in shop("jobs", "list", "--app", "only").err


def test_no_app_at_all_is_wrong_usage(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JOBIFY_APP")
    for name in (["jobs", "list"], ["worker"]):
        answer = shop(*name)
        assert answer.code == 2
        assert "JOBIFY_APP" in answer.err


def test_the_app_may_be_named_before_the_command_and_without_its_variable(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOBIFY_APP", "nowhere:app")
    job = shop.add()
    assert [row["id"] for row in shop("--app", "shop", "jobs", "list").table] == [job]


def test_what_an_app_prints_when_it_is_imported_is_no_part_of_the_answer(shop: Shop) -> None:
    shop.folder.joinpath("loud.py").write_text("print('loading')\nfrom shop import app\n")
    job = shop.add()
    answer = shop("jobs", "--app", "loud:app", "--json")
    assert ([row["id"] for row in answer.json["jobs"]], answer.err) == ([job], "loading\n")


@pytest.mark.parametrize("place", [0, 2, 4])
def test_debug_shows_the_traceback_wherever_it_stands(shop: Shop, place: int) -> None:
    shop.folder.joinpath("broken.py").write_text("1 / 0\n")
    words = ["jobs", "list", "--app", "broken:app"]
    assert 'broken.py", line 1' in shop(*words[:place], "--debug", *words[place:]).err


def test_an_unforeseen_error_is_one_line_as_well(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError("two\nlines")

    monkeypatch.setattr("jobify.cli.session.open_session", fail)
    assert shop("jobs", "list")[:] == (1, "", "jobify: ValueError: two lines\n")


def test_a_script_gets_exit_codes_and_json_from_a_process(shop: Shop) -> None:
    job = shop.add()
    found = command("jobs", "list", "--json", cwd=shop.folder)
    missing = command("jobs", "show", "nope", cwd=shop.folder)
    wrong = command("jobs", "lsit", cwd=shop.folder)
    assert (found.returncode, missing.returncode, wrong.returncode) == (0, 3, 2)
    assert job in found.stdout
    assert missing.stderr.startswith("jobify: There is no job 'nope' in the database. ")
    assert missing.stderr.count("\n") == 1
    assert "Traceback" not in wrong.stderr


# -- terminals and pipes -----------------------------------------------------------------------------------------------


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A terminal of 80 columns."""
    monkeypatch.setattr(jobify.cli.output, "is_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    return monkeypatch


def test_a_terminal_shows_as_much_as_it_is_wide(shop: Shop, terminal: pytest.MonkeyPatch) -> None:
    job = shop.add(queue="a queue with a long name", task="a.module.with.a.long.name:and_a_function")
    narrow = shop("jobs", "list").out
    assert job in narrow
    assert max(map(len, narrow.splitlines())) <= 80
    assert "QUEUE" not in narrow
    terminal.setenv("COLUMNS", "160")
    assert "a queue with a long name" in shop("jobs", "list").out


def test_a_terminal_is_told_when_there_is_nothing(shop: Shop, terminal: pytest.MonkeyPatch) -> None:
    assert shop("jobs", "list").out == "No jobs.\n"
    assert "jobify worker" in shop("workers").out


def test_details_and_counts_on_a_terminal(shop: Shop, terminal: pytest.MonkeyPatch) -> None:
    job = shop.ended(shop.worker(), "failed")
    shown = shop("jobs", "show", job).out
    assert "Traceback of attempt 1" in shown
    assert "ValueError: no box" in shown
    assert "(all)" in shop("stats").out


def test_a_cell_never_breaks_a_line(shop: Shop) -> None:
    shop.ended(shop.worker(), "failed", task="two\nlines\tand a tab")
    assert len(shop("jobs", "list").out.splitlines()) == 2


def test_a_task_cannot_send_escape_sequences_to_a_terminal(shop: Shop, terminal: pytest.MonkeyPatch) -> None:
    job = shop.ended(shop.worker(), "success", task="a\x1b[31m\x9b")
    for words in (["jobs"], ["jobs", "show", job]):
        assert "\x1b[31m" not in shop(*words).out
        assert r"a\x1b[31m\x9b" in shop(*words).out


# -- what the reference says -------------------------------------------------------------------------------------------


def test_the_reference_names_every_command_and_exit_code() -> None:
    text = REFERENCE.read_text(encoding="utf-8")
    assert [name for name in map(" ".join, COMMANDS) if f"jobify {name}" not in text] == []
    assert [code.value for code in ExitCode if not re.search(rf"^\| `?{code.value}`? ?", text, re.MULTILINE)] == []


def test_the_list_of_commands_here_is_complete() -> None:
    groups = {group.name: group.typer_instance for group in cli.registered_groups}
    named = {(command.name,) for command in cli.registered_commands}
    for name, group in groups.items():
        assert group is not None
        named |= {(name, command.name) for command in group.registered_commands}
    assert named == {tuple(each) for each in COMMANDS}
