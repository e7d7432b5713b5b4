"""The root of the tree of errors, which is drawn in :mod:`jobify.exceptions`. All are imported from there."""

from __future__ import annotations

from jobify.runtime.errortools import by_content

__all__ = ("BaseJobifyError",)


class BaseJobifyError(Exception):
    """The root of the tree: ``except BaseJobifyError`` catches whatever Jobify raises about a job or an app."""

    __reduce__ = by_content
