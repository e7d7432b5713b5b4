"""An address of the published interface: the names of :mod:`jobify.model.triggers`."""

from jobify.model.triggers import *  # noqa: F403 - the module says which names it exports
