"""``python -m jobify …``, and the command ``jobify``."""

from __future__ import annotations

import sys

__all__ = ("main",)


def main() -> int:
    """The command; its exit code."""
    try:
        import typer  # noqa: F401  the extra [cli]
    except ModuleNotFoundError:
        print("The command line needs two more packages: pip install 'jobify[cli]'", file=sys.stderr)
        return 1
    from jobify.cli.main import run

    return run()


if __name__ == "__main__":
    sys.exit(main())
