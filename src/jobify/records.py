"""An address of the published interface: the names of :mod:`jobify.model.records`."""

from jobify.model.records import *  # noqa: F403 - the module says which names it exports
