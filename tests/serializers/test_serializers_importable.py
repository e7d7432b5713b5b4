"""Names that lead back to the same object, however the program was started (B4, B5, X18)."""

from __future__ import annotations

import decimal
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from jobify.runtime.importable import find, name_of, real_module_name

PROGRAM = """
import sys
from dataclasses import dataclass
from enum import Enum

from jobify.serializers import ExtendedJSONSerializer


class Color(Enum):
    RED = 1


@dataclass
class Point:
    x: int
    color: Color


if __name__ == "__main__":
    serializer = ExtendedJSONSerializer()
    if sys.argv[1:]:
        sys.stdout.buffer.write(serializer.dumpb([Point(1, Color.RED)]))
    else:
        (point,) = serializer.loadb(sys.stdin.buffer.read())
        assert type(point) is Point and point == Point(1, Color.RED), point
        assert "shop.tasks" not in sys.modules and "tasks" not in sys.modules
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "__init__.py").touch()
    for path in (tmp_path / "shop" / "tasks.py", tmp_path / "tasks.py"):
        path.write_text(PROGRAM)
    return tmp_path


def run(cwd: Path, *command: str, data: bytes = b"") -> bytes:
    done = subprocess.run([sys.executable, *command], cwd=cwd, input=data, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "module"), [(("-m", "shop.tasks"), "shop.tasks"), (("tasks.py",), "tasks"), (("-m", "tasks"), "tasks")]
)
def test_types_of_the_main_module_have_its_real_name(shop: Path, command: tuple[str, ...], module: str) -> None:
    row = run(shop, *command, "dump")
    assert f'"t":"{module}:Point"'.encode() in row
    run(shop, *command, data=row)
    importer = (
        f"import {module}, jobify.serializers as s; print(s.ExtendedJSONSerializer().loadb({row!r})[0].color.name)"
    )
    assert run(shop, "-c", importer).strip() == b"RED"


def main_module(monkeypatch: pytest.MonkeyPatch, **attributes: Any) -> ModuleType:
    main = ModuleType("__main__")
    for name, value in attributes.items():
        setattr(main, name, value)
    monkeypatch.setitem(sys.modules, "__main__", main)
    return main


@pytest.mark.parametrize(
    ("attributes", "name"),
    [
        ({"__spec__": SimpleNamespace(name="shop.app"), "__file__": "/x/shop/app.py"}, "shop.app"),
        ({"__spec__": SimpleNamespace(name="__main__"), "__file__": "/x/bundle/__main__.py"}, "__main__"),
        ({"__file__": "/x/my.app.py"}, "my.app"),
        ({}, "__main__"),
    ],
)
def test_the_real_name_of_main(monkeypatch: pytest.MonkeyPatch, attributes: dict[str, Any], name: str) -> None:
    main_module(monkeypatch, **attributes)
    assert real_module_name("__main__") == real_module_name("__mp_main__") == name
    assert real_module_name("decimal") == "decimal"


def test_a_launcher_may_have_the_name_of_the_package_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    main_module(monkeypatch, __file__="/usr/bin/decimal", Decimal=decimal.Decimal)
    assert find("decimal:Decimal") is decimal.Decimal
    assert find("decimal:Context") is decimal.Context


def test_what_main_defines_is_found_there_and_not_imported_again(monkeypatch: pytest.MonkeyPatch) -> None:
    own = type("Own", (), {"__module__": "__main__"})
    main_module(monkeypatch, __file__="/x/no_such_script.py", Own=own)
    assert name_of(own) == "no_such_script:Own"
    assert find("no_such_script:Own") is own


@pytest.mark.parametrize(
    "name",
    [
        "decimal:Nothing",
        "decimal:Decimal.nothing",
        "decimal:getcontext.<locals>.x",
        "no_such_module:X",
        "os:environ.data",
        ":X",
        "decimal:",
        "decimal",
    ],
)
def test_a_name_that_leads_nowhere_is_an_import_error(name: str) -> None:
    with pytest.raises(ImportError, match="cannot be"):
        find(name)


def test_a_module_that_fails_to_import_is_an_import_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_module.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match="'broken_module:X' cannot be imported: division by zero"):
        find("broken_module:X", ["broken_module"])
    with pytest.raises(ImportError, match="has not imported 'broken_module'"):
        find("broken_module:X", ["broken", "broken_module.x"])


def test_methods_and_nested_classes_are_found() -> None:
    assert find("decimal:Decimal.quantize") is decimal.Decimal.quantize
