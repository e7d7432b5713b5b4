"""Options of `jobify worker` that change its app, and `--reload`."""

from __future__ import annotations

import os
import sys
import textwrap
from pathlib import Path

import pytest

from cli_shop import Shop
from jobify import Jobify
from jobify.cli.worker import WorkerArgs, _parsed
from jobify.exceptions import ConfigurationError
from jobify.worker.reloader import SourceFiles
from jobify.worker.worker import prepare
from support import until
from workers import Make, Site

SHOW_LIMITS = """
    @app.task(name="limits")
    async def limits():
        kept = app.configs.limits
        return [kept.concurrency, kept.threads, kept.processes, kept.max_tasks_per_child, kept.max_memory_per_child]
"""
HEAPS = """
    @app.task(name="heaps")
    async def heaps():
        begun_with = Path("/proc/self/environ").read_bytes().split(b"\\0")
        return [b"MALLOC_ARENA_MAX=1" in begun_with, sorted(name for name in os.environ if "MALLOC" in name)]
"""
WHICH_CHILD = """
    @app.task(name="which_child", run_mode=RunMode.PROCESS)
    def which_child():
        return os.getpid()
"""


def result(here: Site, task: str, *arguments: object) -> object:
    """What a job of the task returns."""
    return here.app.enqueue(task, arguments).result(timeout=40)


# -- options -----------------------------------------------------------------------------------------------------------


def test_numbers_of_the_command_go_before_those_of_the_app(site: Make) -> None:
    here = site(SHOW_LIMITS)
    options = ["--concurrency", "7", "--threads", "3", "--children", "2", "--max-tasks-per-child", "5"]
    worker = here.worker(*options, "--max-memory-per-child", "512M")
    assert result(here, "limits") == [7, 3, 2, 5, 512 * 1024 * 1024]
    worker.end()


def test_without_options_the_app_says(site: Make) -> None:
    here = site(
        SHOW_LIMITS, "\napp.configs.limits = __import__('dataclasses').replace(app.configs.limits, threads=9)\n"
    )
    here.worker()
    assert result(here, "limits") == [1000, 9, None, None, None]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("processes", ["1", "2"])
def test_the_threads_of_a_worker_share_a_heap_and_what_its_jobs_start_does_not(site: Make, processes: str) -> None:
    here = site(HEAPS)
    here.worker("--processes", processes)
    assert result(here, "heaps") == [True, []]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_number_of_heaps_is_the_users_if_it_is_set(site: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_ARENA_MAX", "4")
    here = site(HEAPS)
    here.worker()
    assert result(here, "heaps") == [False, ["MALLOC_ARENA_MAX"]]


def test_a_child_is_replaced_after_so_many_tasks(site: Make) -> None:
    here = site(WHICH_CHILD)
    here.worker("--children", "1", "--max-tasks-per-child", "1")
    assert len({result(here, "which_child") for _ in range(3)}) == 3


def test_so_many_threads_run_at_once(site: Make) -> None:
    here = site()
    here.worker("--threads", "2")
    jobs = [here.enqueue("hold_in_thread") for _ in range(4)]
    here.until_noted("hold_in_thread", 2)
    until(lambda: sum(here.row(job).status == "running" for job in jobs) == 2)
    assert [text for text, _ in here.notes()].count("hold_in_thread") == 2
    here.go()
    for job in jobs:
        here.until(job, "success")


@pytest.mark.parametrize(
    "wrong",
    [
        ["--threads", "0"],
        ["--children", "-1"],
        ["--max-tasks-per-child", "0"],
        ["--max-memory-per-child", "much"],
        ["--max-memory-per-child", "1.5G"],
    ],
)
def test_numbers_that_cannot_be_are_wrong_usage(shop: Shop, wrong: list[str]) -> None:
    answer = shop("worker", *wrong)
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert wrong[0] in answer.err


def test_too_little_memory_for_a_child_is_one_line(site: Make) -> None:
    here = site()
    worker = here.worker("--max-memory-per-child", "10", is_awaited=False)
    assert worker.exit_code() == 2
    assert "max_memory_per_child is 10; it must be a whole number of bytes, at least 1048576" in worker.log


def test_pools_of_the_users_own_are_not_sized_by_the_command() -> None:
    from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

    with ThreadPoolExecutor(1) as threads, ProcessPoolExecutor(1) as processes:
        app = Jobify(storage="jobs.db", threadpool_executor=threads, processpool_executor=processes)
        with pytest.raises(ConfigurationError, match="--threads limits a pool of Jobify"):
            prepare(app, threads=2)
        with pytest.raises(ConfigurationError, match="--children limits a pool of Jobify"):
            prepare(app, children=2)
        with pytest.raises(ConfigurationError, match="max_tasks_per_child"):
            prepare(app, max_tasks_per_child=2)
        prepare(app, concurrency=5)


def test_orders_reach_the_program_as_they_were_given() -> None:
    args = WorkerArgs("a:b", ("x", "y"), 5, 1.5, "INFO", threads=2, children=3, max_tasks_per_child=4)
    assert _parsed(args.command()[args.command().index("jobify.cli.worker") + 1 :]) == args
    plain = WorkerArgs("a:b", None, None, None, "INFO", max_memory_per_child=1024)
    assert _parsed(plain.command()[plain.command().index("jobify.cli.worker") + 1 :]) == plain
    of_a_supervisor = _parsed(["a:b", "--log-level=INFO", "--existing", "--brief", "--control-fd=7"])
    assert of_a_supervisor == plain._replace(max_memory_per_child=None, existing=True, brief=True, control_fd=7)


def test_an_app_in_another_folder_is_found_with_app_dir(site: Make) -> None:
    here = site(WHICH_CHILD)
    inner = here.folder / "inner"
    inner.mkdir()
    (here.folder / "plant.py").rename(inner / "plant.py")
    here.worker("--app-dir", "inner", "--processes", "2")
    assert isinstance(result(here, "which_child"), int)


def test_an_app_may_be_made_by_a_factory(site: Make) -> None:
    here = site(WHICH_CHILD, "\ndef create_app():\n    return app\n")
    here.worker("--processes", "2", app="plant:create_app")
    assert isinstance(result(here, "which_child"), int)


SIGNALS = """
    from jobify import Retry, Snooze, current_job

    def ask():
        note(f"attempt-{current_job.attempt}")
        count = len(Path("notes").read_text().splitlines())
        if count == 1:
            raise Snooze(0.01, "not yet")
        if count == 2:
            raise Retry(0.01, "too many")
        if count == 3:
            raise Snooze(0.01)
        return current_job.attempt

    @app.task(name="asks_in_child", run_mode=RunMode.PROCESS, retry=1)
    def asks_in_child():
        return ask()

    @app.task(name="asks_in_thread", retry=1)
    def asks_in_thread():
        return ask()

    @app.task(name="asks_on_loop", retry=1)
    async def asks_on_loop():
        return ask()
"""


@pytest.mark.parametrize("task", ["asks_in_child", "asks_in_thread", "asks_on_loop"])
def test_a_task_asks_a_worker_for_later_attempts(site: Make, task: str) -> None:
    here = site(SIGNALS)
    here.worker()
    job = here.app.enqueue(task)
    assert job.result(timeout=40) == 2
    assert [line.split()[0] for line in (here.folder / "notes").read_text().splitlines()] == [
        *("attempt-1", "attempt-1", "attempt-2", "attempt-2"),
    ]
    assert [line["message"] for line in job.errors] == ["Retry: too many"]


# -- reload ------------------------------------------------------------------------------------------------------------

GREETING = """
    @app.task(name="greet")
    async def greet():
        from words import WORD
        return WORD
"""


def greeting(site: Make, word: str = "hello") -> Site:
    """A site with a task that returns a word of another module."""
    here = site(GREETING)
    write(here, f"WORD = {word!r}\n")
    return here


def write(here: Site, code: str) -> None:
    """Write the module at once, as editors do."""
    new = here.folder / "words.new"
    new.write_text(textwrap.dedent(code))
    new.replace(here.folder / "words.py")


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_change_of_the_source_starts_workers_with_the_new_code(site: Make, processes: str) -> None:
    here = greeting(site)
    worker = here.worker("--reload", "--processes", processes)
    worker.until("At work", int(processes))
    assert "for development only" in worker.log
    assert result(here, "greet") == "hello"
    write(here, "WORD = 'world'\n")
    worker.until("words.py changed; the workers restart.")
    worker.until("At work", 2 * int(processes))
    assert result(here, "greet") == "world"
    worker.tell()
    assert worker.exit_code() == 0


def test_a_job_that_runs_finishes_before_the_reload(site: Make) -> None:
    here = greeting(site)
    worker = here.worker("--reload", "--grace", "600")
    job = here.enqueue("hold_on_loop")
    here.until_noted("hold_on_loop")
    write(here, "WORD = 'another'\n")
    worker.until("Stop requested: no more jobs are started")
    assert here.row(job).status == "running"
    here.go()
    worker.until("At work", 2)
    assert (here.row(job).status, here.row(job).attempt) == ("success", 1)


def test_a_job_that_does_not_finish_is_given_back(site: Make) -> None:
    here = greeting(site)
    worker = here.worker("--reload", "--grace", "0")
    job = here.enqueue("hold_on_loop")
    here.until_noted("hold_on_loop")
    write(here, "WORD = 'another'\n")
    worker.until("At work", 2)
    here.until_noted("hold_on_loop", 2)
    here.go()
    assert here.until(job, "success").attempt == 1


def test_code_that_cannot_be_imported_is_tried_again_after_the_next_change(site: Make) -> None:
    here = greeting(site)
    plant = here.folder / "plant.py"
    good = plant.read_text()
    worker = here.worker("--reload")
    plant.write_text("def (:\n")
    worker.until("it restarts after the next change")
    assert "Importing 'plant' failed: SyntaxError" in worker.log
    plant.write_text(good)
    worker.until("At work", 2)
    assert result(here, "greet") == "hello"
    worker.tell()
    assert worker.exit_code() == 0


def test_a_first_start_that_fails_waits_for_a_change(site: Make) -> None:
    here = greeting(site)
    plant = here.folder / "plant.py"
    good = plant.read_text()
    plant.write_text("import surely_missing\n")
    worker = here.worker("--reload", "--processes", "2", is_awaited=False)
    worker.until("it restarts after the next change")
    plant.write_text(good)
    worker.until("At work", 2)
    worker.tell()
    assert worker.exit_code() == 0


def test_workers_do_not_outlive_a_reloader_that_is_killed(site: Make) -> None:
    here = greeting(site)
    worker = here.worker("--reload")
    worker.kill()
    until(lambda: "Stopped." in worker.log, "the end of the worker")


def test_source_files_are_watched_and_nothing_else(tmp_path: Path) -> None:
    for name in ("app.py", "package/module.py", "package/deep/er.py", "data.json", ".hidden/secret.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("1\n")
    for name in ("venv/pyvenv.cfg", "venv/lib/x.py", "node_modules/y.py", "package/__pycache__/z.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("1\n")
    (tmp_path / "circle").symlink_to(tmp_path)
    (tmp_path / "dangling.py").symlink_to(tmp_path / "nowhere.py")
    files = SourceFiles((str(tmp_path), str(tmp_path / "no such folder")))
    assert files.changed() == []
    for name in ("data.json", ".hidden/secret.py", "venv/lib/x.py", "node_modules/y.py", "package/__pycache__/z.py"):
        (tmp_path / name).write_text("22\n")
    assert files.changed() == []
    (tmp_path / "package" / "module.py").write_text("22\n")
    (tmp_path / "app.py").unlink()
    (tmp_path / "package" / "deep" / "new.py").write_text("22\n")
    expected = ["app.py", "package/deep/new.py", "package/module.py"]
    assert sorted({os.path.relpath(path, tmp_path) for path in files.changed()}) == expected
    assert files.changed() == []
