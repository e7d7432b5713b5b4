"""The fingerprint of an app's code."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jobify.runtime import code_fingerprint
from jobify.runtime.code_fingerprint import app_code
from support import output

pytestmark = pytest.mark.promise("f34")

MODULE = """
import dataclasses, enum
from collections import OrderedDict as Mapping

class Color(enum.Enum):
    RED = 1

@dataclasses.dataclass
class Order:
    number: int
    @property
    def total(self): return self.number
    @staticmethod
    def make(): return Order(1)
    class Part:
        def weigh(self): return 1

LIMIT = 3
NAMES = {"a", "b", "c"}

def helper(): return 1
def ship(order: int): return helper() in {"x", "y", "z"}
"""


@pytest.fixture
def fingerprint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """Of the app with the task ``ship`` in a module with this text, and without the modules of all tests."""

    def make(old: str = "", new: str = "", **settings: Any) -> str:
        assert old in MODULE
        module = types.ModuleType("app_code_example")
        module.__file__ = "/srv/shop/app_code_example.py"
        sys.modules[module.__name__] = module
        modules = {name: module for name, module in sys.modules.items() if not name.startswith("test_")}
        monkeypatch.setattr(code_fingerprint, "sys", types.SimpleNamespace(**{**vars(sys), "modules": modules}))
        exec(MODULE.replace(old, new), vars(module))
        return app_code([("ship", vars(module)["ship"])], **settings)

    yield make
    sys.modules.pop("app_code_example", None)


def test_the_same_code_has_the_same_fingerprint(fingerprint: Callable[..., str]) -> None:
    assert fingerprint() == fingerprint()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("def ship(order: int)", "def ship(number: int)"),
        ("def ship(order: int)", "def ship(order: int, weight: int)"),
        ("def ship(order: int)", "def ship(order: int = 1)"),
        ("def ship(order: int)", "def ship(*order: int)"),
        ("helper() in", "not helper() in"),
        ("def helper(): return 1", "def helper(): return 2"),
        ("RED = 1", "RED = 1; BLUE = 2"),
        ("    number: int\n", "    number: int\n    weight: int = 0\n"),
        ("return self.number", "return self.number + 1"),
        ("return Order(1)", "return Order(2)"),
        ("def weigh(self): return 1", "def weigh(self): return 2"),
        ("class Part", "class Piece"),
        ("OrderedDict as Mapping", "Counter as Mapping"),
        ("LIMIT = 3\n", "LIMIT = 3\nfrom decimal import Decimal as Order2\n"),
    ],
)
def test_other_code_has_another_one(fingerprint: Callable[..., str], old: str, new: str) -> None:
    assert fingerprint() != fingerprint(old, new)


@pytest.mark.parametrize(
    ("old", "new"), [("LIMIT = 3", "LIMIT = 4"), ("\ndef ship", "\n# a comment\ndef ship"), ("", "")]
)
def test_what_differs_from_process_to_process_is_left_out(fingerprint: Callable[..., str], old: str, new: str) -> None:
    assert fingerprint() == fingerprint(old, new)


def test_settings_and_types_count(fingerprint: Callable[..., str]) -> None:
    class Order:
        pass

    plain = fingerprint()
    assert (
        len({plain, fingerprint(settings=["x"]), fingerprint(types=[("a", Order)]), fingerprint(types=[("b", None)])})
        == 4
    )


def test_it_is_the_same_in_each_process(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(MODULE)
    code = "import shop; from jobify.runtime.code_fingerprint import app_code; print(app_code([('ship', shop.ship)]))"
    runs = [output("-c", code, cwd=tmp_path, PYTHONHASHSEED=seed) for seed in ("1", "2")]
    assert runs[0] == runs[1]
    assert len(runs[0].strip()) == 32


class Lazy:
    """A value that says what it is only once it is configured, as a framework's settings do."""

    @property
    def __class__(self) -> type:  # type: ignore[override]
        raise RuntimeError("not configured")


def test_a_value_that_refuses_its_class_is_passed_over(fingerprint: Callable[..., str]) -> None:
    module = types.ModuleType("app_code_settings")
    module.__file__ = "/srv/shop/app_code_settings.py"
    vars(module)["settings"] = Lazy()
    sys.modules[module.__name__] = module
    try:
        assert fingerprint() == fingerprint()
    finally:
        del sys.modules[module.__name__]
