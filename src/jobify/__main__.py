"""``python -m jobify …``, and the command ``jobify``."""

from __future__ import annotations

import gc
import sys
from typing import Final

__all__ = ("main",)


_OBJECTS: Final = 20_000
"""New objects between two collections. Modules are many objects that stay, so collecting while they are imported is
in vain."""


def main() -> int:
    """The command; its exit code."""
    try:
        import typer  # noqa: F401  the extra [cli]
    except ModuleNotFoundError:
        print("The command line needs two more packages: pip install 'jobify[cli]'", file=sys.stderr)
        return 1
    from jobify.cli.main import run

    gc.set_threshold(_OBJECTS, *gc.get_threshold()[1:])
    try:
        return run()
    finally:
        gc.freeze()  # the process ends: it need not look for garbage once more, among all modules


if __name__ == "__main__":
    sys.exit(main())
