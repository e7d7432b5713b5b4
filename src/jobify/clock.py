"""An address of the published interface: the names of :mod:`jobify.model.clock`."""

from jobify.model.clock import *  # noqa: F403 - the module says which names it exports
