"""Time zones and their stored names.

A cron rule is stored with the name of its zone, so that every process reads it in the same zone. A name is a key of the
IANA database (``Europe/Berlin``) or a fixed offset (``UTC+02:00``). A zone without such a name is refused where it is
written.
"""

from __future__ import annotations

import re
from datetime import UTC, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

from jobify.exceptions import ConfigurationError, PayloadError

__all__ = ("CronUnavailableError", "zone_name", "zone_named")

_FIXED = re.compile(r"UTC([+-])(\d\d):(\d\d)(?::(\d\d)(?:\.(\d{6}))?)?")


class CronUnavailableError(PayloadError):
    """A stored cron rule needs a time zone or a cron parser that is missing here.

    Another process may have it.
    """


def zone_name(zone: tzinfo) -> str:
    """The stored name of ``zone``; ConfigurationError if it has none.

    >>> zone_name(ZoneInfo("Europe/Berlin")), zone_name(timezone(timedelta(hours=-3, minutes=-30)))
    ('Europe/Berlin', 'UTC-03:30')
    """
    if isinstance(zone, timezone):
        return str(timezone(zone.utcoffset(None)))  # without a name of its own
    name = zone.key if isinstance(zone, ZoneInfo) else None
    if name is None or not _is_known(name):
        raise ConfigurationError(
            f"tz is {zone!r}; it must be a ZoneInfo that other processes find by its name, for example "
            "ZoneInfo('Europe/Berlin'), or a fixed offset such as datetime.timezone(timedelta(hours=2))."
        )
    return name


def zone_named(name: object) -> tzinfo:
    """The zone of a name from :func:`zone_name`.

    CronUnavailableError if this system does not know it.
    """
    fixed = _FIXED.fullmatch(name) if isinstance(name, str) else None
    try:
        if fixed is not None:
            return _fixed(*fixed.groups(default="0"))
        if isinstance(name, str):
            return ZoneInfo(name)
    except (LookupError, ValueError, OSError):  # not there, no such name, a directory
        pass
    raise CronUnavailableError(
        f"This system does not know the time zone {name!r} of the schedule. Install it (pip install -U tzdata), or run "
        "the schedule where it is known."
    )


def _is_known(name: str) -> bool:
    try:
        return isinstance(zone_named(name), ZoneInfo)
    except CronUnavailableError:
        return False


def _fixed(sign: str, hours: str, minutes: str, seconds: str, microseconds: str) -> tzinfo:
    offset = timedelta(hours=int(hours), minutes=int(minutes), seconds=int(seconds), microseconds=int(microseconds))
    return timezone(-offset if sign == "-" else offset) if offset else UTC
