"""Values of this package's own classes that earlier releases stored, by the modules that defined them then."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

from jobify import Cron, Jobify, JobStatus, MisfirePolicy, SmartRetry
from jobify.exceptions import JobNotFoundError
from jobify.model.records import MessageKind
from jobify.serializers import ExtendedJSONSerializer, UnsafePickleSerializer
from support import output

CRON = (
    b'{"$":"dataclass","t":"jobify.cron:Cron","v":{"fields":{"expression":"* * * * *","max_runs":-1,"max_failures":10,'
    b'"misfire_policy":{"$":"enum","t":"jobify.misfire:MisfirePolicy","v":"ONCE"},"start_date":null,'
    b'"args":{"$":"tuple","v":[]},"kwargs":{}}}}'
)
PICKLE = (
    b"\x80\x05\x95\xd2\x00\x00\x00\x00\x00\x00\x00]\x94(\x8c\x0bjobify.cron\x94\x8c\x04Cron\x94\x93\x94)\x81\x94]\x94("
    b"\x8c\t* * * * *\x94J\xff\xff\xff\xffK\n\x8c\x0ejobify.misfire\x94\x8c\rMisfirePolicy\x94\x93\x94\x8c\x04once"
    b"\x94\x85\x94R\x94N)}\x94eb\x8c\x0cjobify.retry\x94\x8c\nSmartRetry\x94\x93\x94(K\x03G?\xe0\x00\x00\x00\x00\x00\x00"
    b"G@N\x00\x00\x00\x00\x00\x00G@\x00\x00\x00\x00\x00\x00\x00\x88\x8c\x08builtins\x94\x8c\tException\x94\x93\x94\x85"
    b"\x94)t\x94\x81\x94h\t\x8c\x03all\x94\x85\x94R\x94e."
)
"""What release 0.15.0 made of ``[Cron("* * * * *"), SmartRetry(3), MisfirePolicy.ALL]``."""


@pytest.mark.parametrize(
    ("stored", "value"),
    [
        (CRON, Cron("* * * * *")),
        (b'{"$":"enum","t":"jobify.misfire:MisfirePolicy","v":"ALL"}', MisfirePolicy.ALL),
        (b'{"$":"enum","t":"jobify.status:JobStatus","v":"FAILED"}', JobStatus.FAILED),
        (b'{"$":"enum","t":"jobify.records:MessageKind","v":"VALUE"}', MessageKind.VALUE),
    ],
)
def test_a_value_of_an_earlier_release_loads(stored: bytes, value: Any) -> None:
    assert ExtendedJSONSerializer().loadb(stored) == value


def test_a_pickle_of_an_earlier_release_loads() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        serializer = UnsafePickleSerializer()
    assert serializer.loadb(PICKLE) == [Cron("* * * * *"), SmartRetry(3), MisfirePolicy.ALL]


def test_a_pickled_error_of_an_earlier_release_loads() -> None:
    stored = (
        b"\x80\x05\x95\x60\x00\x00\x00\x00\x00\x00\x00\x8c\x11jobify.errortools\x94\x8c\x08restored\x94\x93\x94\x8c\x11"
        b"jobify.exceptions\x94\x8c\x10JobNotFoundError\x94\x93\x94\x8c\x04gone\x94\x85\x94}\x94\x8c\x06job_id\x94\x8c"
        b"\x01a\x94s\x87\x94R\x94."
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        error = UnsafePickleSerializer().loadb(stored)
    assert (type(error), str(error), error.job_id) == (JobNotFoundError, "gone", "a")


def test_a_method_of_a_builtin_type_has_a_name() -> None:
    """Its ``__module__`` is None."""
    app = Jobify(storage=False)
    assert app.task([].append).name == "None:list.append"


def test_it_loads_where_the_class_was_not_imported_before() -> None:
    program = f"""
from jobify.serializers import ExtendedJSONSerializer
print(ExtendedJSONSerializer().loadb({CRON!r}).expression)
"""
    assert output("-c", program) == "* * * * *\n"


@pytest.mark.parametrize("value", [Cron("* * * * *"), MisfirePolicy.ALL])
def test_a_stored_value_does_not_name_the_module(value: Any) -> None:
    """So that the module may change: what users import from ``jobify`` is stored as that."""
    stored = ExtendedJSONSerializer().dumpb(value)
    assert f'"t":"jobify:{type(value).__name__}"'.encode() in stored
    assert ExtendedJSONSerializer().loadb(stored) == value
