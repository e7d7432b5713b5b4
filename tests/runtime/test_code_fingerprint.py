"""A fingerprint changes with the code of a task, and with nothing else."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from jobify.runtime.code_fingerprint import code_fingerprint
from support import output

pytestmark = pytest.mark.promise("f7")

CODE = """
import functools
from pack import helpers

RATE = 3

def first(x):
    return second(x) + {{1, 2, 3}}.pop()

def second(x):
    def inside(y): return y * 2
    return inside(x)

class Shop:
    def open(self): return first(1)
    @staticmethod
    def close(): return 4
    @property
    def name(self): return "shop"

shop = Shop()

def decorated(function):
    @functools.wraps(function)
    def wrapper(*args): return function(*args)
    return wrapper

@decorated
def task(x):
    return shop.open() + helpers.far(x) + RATE if x in {{"a", "b"}} else print(x)
"""
HELPERS = "def far(x):\n    return x - 1\n"


def fingerprint(folder: Path, *, code: str = CODE, helpers: str = HELPERS, seed: str = "1") -> str:
    """The one of ``pack.code.task``, in a process of its own."""
    package = folder / "pack"
    package.mkdir(exist_ok=True)
    (package / "__init__.py").touch()
    (package / "code.py").write_text(code.replace("{{", "{").replace("}}", "}"))
    (package / "helpers.py").write_text(helpers)
    program = textwrap.dedent(
        """
        from jobify.runtime.code_fingerprint import code_fingerprint
        import pack.code
        print(code_fingerprint(pack.code.task))
        """
    )
    return output("-B", "-c", program, cwd=folder, PYTHONHASHSEED=seed)


def test_it_is_the_same_in_every_process_and_wherever_the_lines_are(tmp_path: Path) -> None:
    before = fingerprint(tmp_path)
    assert fingerprint(tmp_path, seed="2") == before
    assert fingerprint(tmp_path, code="# moved\n\n" + CODE.replace("RATE = 3", "RATE = 4  # a value")) == before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("return shop.open()", "return 1 + shop.open()"),
        ("return second(x)", "return second(x) + 0"),
        ("return y * 2", "return y * 3"),
        ("return 4", "return 5"),
        ('return "shop"', 'return "shops"'),
        ('{{"a", "b"}}', '{{"a", "c"}}'),
    ],
)
def test_it_sees_what_the_task_calls(tmp_path: Path, old: str, new: str) -> None:
    assert CODE.count(old) == 1
    assert fingerprint(tmp_path, code=CODE.replace(old, new)) != fingerprint(tmp_path)


def test_it_sees_other_modules_of_the_package(tmp_path: Path) -> None:
    assert fingerprint(tmp_path, helpers=HELPERS.replace("1", "2")) != fingerprint(tmp_path)


def test_it_takes_anything_that_can_be_a_task() -> None:
    import functools

    class Callable:
        def __call__(self) -> int:
            return 1

        def method(self) -> int:
            return 2

    found = {code_fingerprint(each) for each in (Callable(), Callable().method, functools.partial(pow, 2), len)}
    assert all(len(each) == 32 for each in found)
    assert code_fingerprint(len, "timeout 5") != code_fingerprint(len, "timeout 6")
