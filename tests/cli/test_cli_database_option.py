"""`--database`: the command on a day on which the app cannot be imported."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from cli_shop import Shop
from support import finished

BROKEN = "import os\n\n\ndef key():\n    return os.environ['SURELY_NOT_SET']\n\n\nkey()\n"


@pytest.fixture
def broken(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Shop:
    """A shop whose app cannot be imported."""
    shop.folder.joinpath("broken.py").write_text(BROKEN)
    monkeypatch.setenv("JOBIFY_APP", "broken:app")
    return shop


def jobify(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """``python -m jobify …`` in a folder, as a process of its own."""
    return finished("-m", "jobify", *arguments, cwd=folder, **environment)


def test_an_import_error_is_one_line_with_the_users_frame_and_the_way_around(broken: Shop) -> None:
    answer = broken("jobs", "list")
    assert (answer.code, answer.out) == (1, "")
    assert answer.err == (
        "jobify: Importing 'broken' failed: KeyError: 'SURELY_NOT_SET' (broken.py:5: return "
        "os.environ['SURELY_NOT_SET']). The jobs can be seen without the app's code: --database PATH.\n"
    )


def test_the_frame_is_the_users_where_a_library_raises(broken: Shop) -> None:
    broken.folder.joinpath("broken.py").write_text("import json\nsettings = json.loads('{')\n")
    assert "(broken.py:2: settings = json.loads('{'))" in broken("stats").err


@pytest.mark.parametrize(
    "words",
    [
        ["jobs", "list"],
        ["jobs", "show", "JOB"],
        ["jobs", "cancel", "JOB"],
        ["jobs", "retry", "FAILED"],
        ["jobs", "delete", "JOB", "--yes"],
        ["jobs", "purge", "--dry-run"],
        ["schedules", "list"],
        ["schedules", "pause", "nightly"],
        ["schedules", "run-now", "nightly"],
        ["queues", "list"],
        ["queues", "pause", "default"],
        ["queues", "resume", "default"],
        ["workers"],
        ["stats"],
        ["db", "check"],
        ["db", "backup", "copy.db"],
        ["db", "migrate"],
        ["db", "vacuum", "--force"],
    ],
    ids=lambda words: "-".join(words[:2]),
)
def test_every_command_that_needs_no_code_works_without_the_app(broken: Shop, words: list[str]) -> None:
    ids = {"JOB": broken.add(), "FAILED": broken.ended(broken.worker(), "failed")}
    broken.schedule("nightly")
    words = [ids.get(word, word) for word in words]
    answer = broken(*words, "--database", "shop.db", "--json")
    assert isinstance(answer.json, dict)
    assert answer.err == ""


def test_a_process_takes_a_path_or_a_url_from_the_option_or_the_environment(broken: Shop) -> None:
    job = broken.add()
    for arguments in (
        ["jobs", "list", "--database", broken.database],
        ["jobs", "list", "--database", "sqlite:///shop.db"],
        ["jobs", "list", "--database", f"sqlite:///{broken.database}"],
        ["--database", "shop.db", "jobs", "list"],
    ):
        done = jobify(broken.folder, *arguments)
        assert done.returncode == 0, done.stderr
        assert job in done.stdout
    assert job in jobify(broken.folder, "jobs", JOBIFY_DATABASE="shop.db").stdout


def test_an_option_holds_before_the_environment(broken: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    job = broken.add()
    monkeypatch.setenv("JOBIFY_DATABASE", "elsewhere.db")
    assert [row["id"] for row in broken("jobs", "--app", "shop:app").table] == [job]
    assert [row["id"] for row in broken("--app", "shop:app", "jobs").table] == [job]
    assert [row["id"] for row in broken("jobs", "--database", "shop.db").table] == [job]
    assert "elsewhere.db" in broken("jobs").err
    assert os.environ["JOBIFY_DATABASE"] == "elsewhere.db"


@pytest.mark.parametrize("words", [["jobs"], ["stats"], ["workers"], ["queues"], ["db", "check"], ["db", "migrate"]])
def test_a_file_that_is_missing_is_an_error_and_is_not_made(broken: Shop, words: list[str]) -> None:
    before = sorted(os.listdir(broken.folder))
    answer = broken(*words, "--database", "shpo.db")
    assert (answer.code, answer.out) == (1, "")
    assert answer.err.startswith(f"jobify: There is no database file {str(broken.folder / 'shpo.db')!r}")
    assert sorted(os.listdir(broken.folder)) == before


@pytest.mark.parametrize("content", [b"", b"no database at all, but a text of some length" * 20])
def test_a_file_of_something_else_is_refused_and_stays_as_it_is(broken: Shop, content: bytes) -> None:
    other = broken.folder / "other.db"
    other.write_bytes(content)
    answer = broken("jobs", "--database", "other.db")
    assert answer.code in (1, 2)
    assert "database" in answer.err
    assert answer.err.count("\n") == 1
    assert other.read_bytes() == content


def test_a_database_of_another_program_is_refused_and_stays_as_it_is(broken: Shop) -> None:
    other = broken.folder / "other.db"
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE invoices (id INTEGER)")
    content = other.read_bytes()
    answer = broken("queues", "pause", "default", "--database", "other.db")
    assert (answer.code, "is not a database of Jobify" in answer.err) == (2, True)
    assert other.read_bytes() == content


@pytest.mark.parametrize(
    ("database", "complaint"),
    [
        ("mysql://localhost/jobs", "scheme 'mysql'"),
        ("sqlite://jobs.db", "sqlite:///jobs.db"),
        (":memory:", "names no file"),
        (".", "There is no database file"),
    ],
)
def test_what_is_no_path_is_one_line(broken: Shop, database: str, complaint: str) -> None:
    answer = broken("jobs", "--database", database)
    assert answer.code in (1, 2)
    assert complaint in answer.err
    assert answer.err.count("\n") == 1


def test_no_app_at_all_names_both_ways(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JOBIFY_APP")
    answer = shop("jobs")
    assert answer.code == 2
    assert "--app package.module:app" in answer.err
    assert "--database PATH" in answer.err


def test_a_worker_has_no_such_way_and_names_none(broken: Shop) -> None:
    assert "--database" not in broken("worker", "--help").out
    assert "--database" not in jobify(broken.folder, "worker", "broken:app").stderr


def test_an_app_is_imported_from_the_folder_of_app_dir(shop: Shop, tmp_path: Path) -> None:
    inner = shop.folder / "inner"
    inner.mkdir()
    inner.joinpath("hidden.py").write_text("from jobify import Jobify\napp = Jobify(storage='shop.db')\n")
    job = shop.add()
    assert "There is no module 'hidden'" in jobify(shop.folder, "jobs", "--app", "hidden:app").stderr
    assert job in jobify(shop.folder, "jobs", "--app", "hidden:app", "--app-dir", "inner").stdout
    assert job in jobify(shop.folder, "--app-dir", "inner", "jobs", "--app", "hidden:app").stdout
    assert job in jobify(shop.folder, "jobs", JOBIFY_APP="hidden", JOBIFY_APP_DIR="inner").stdout
    wrong = jobify(shop.folder, "jobs", "--app", "hidden:app", "--app-dir", "outer")
    assert (wrong.returncode, "There is no folder 'outer'" in wrong.stderr) == (2, True)
