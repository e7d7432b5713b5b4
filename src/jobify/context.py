"""An address of the published interface: the names of :mod:`jobify.jobs.context`."""

from jobify.jobs.context import *  # noqa: F403 - the module says which names it exports
