"""An address of the published interface: the names of :mod:`jobify.model.misfire`."""

from jobify.model.misfire import *  # noqa: F403 - the module says which names it exports
