"""An address of the published interface: the names of :mod:`jobify.model.retry`."""

from jobify.model.retry import *  # noqa: F403 - the module says which names it exports
