"""An address of the published interface: the names of :mod:`jobify.model.cron`."""

from jobify.model.cron import *  # noqa: F403 - the module says which names it exports
