"""An address of the published interface: the names of :mod:`jobify.model.status`."""

from jobify.model.status import *  # noqa: F403 - the module says which names it exports
