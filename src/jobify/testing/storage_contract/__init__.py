"""The storage port as tests: whatever passes them can stand behind Jobify.

Each test proves a sentence of :mod:`jobify.storage.base`. For a storage of your own, write a module of tests::

    from jobify.testing.storage_contract import SharedStorageContract, StorageContract

    class TestMyStorage(StorageContract, SharedStorageContract):
        def new_storage(self, directory):
            return MyStorage(directory / "jobs")

and run pytest. ``new_storage`` is called with the same directory for storages that are to see the same jobs. A storage
whose ``is_shared`` is false leaves :class:`SharedStorageContract` out.
"""

import pytest

_PARTS = (
    "batch_limits", "batching", "claiming", "depending", "doubting", "ending", "grouping", "limit_rates", "limit_turns",
    "limiting", "merging", "needing", "owning", "parking", "pausing", "reading", "reviving", "settling", "sharing",
    "suspecting",
    "timekeeping", "transacting", "uniqueness", "writing",
)  # fmt: skip
pytest.register_assert_rewrite(*(f"{__name__}.{part}" for part in _PARTS))

from jobify.testing.storage_contract.batch_limits import BatchLimitContract  # noqa: E402 - after the lines above
from jobify.testing.storage_contract.batching import BatchContract  # noqa: E402
from jobify.testing.storage_contract.claiming import ClaimContract  # noqa: E402
from jobify.testing.storage_contract.depending import DependencyContract  # noqa: E402
from jobify.testing.storage_contract.doubting import DoubtContract  # noqa: E402
from jobify.testing.storage_contract.ending import EndContract, ExpiryContract  # noqa: E402
from jobify.testing.storage_contract.grouping import CascadeContract, GroupContract  # noqa: E402
from jobify.testing.storage_contract.limit_rates import RateContract  # noqa: E402
from jobify.testing.storage_contract.limit_turns import TurnContract  # noqa: E402
from jobify.testing.storage_contract.limiting import LimitContract  # noqa: E402
from jobify.testing.storage_contract.merging import WindowContract  # noqa: E402
from jobify.testing.storage_contract.needing import NeedContract  # noqa: E402
from jobify.testing.storage_contract.owning import OwnerContract, ProfileContract  # noqa: E402
from jobify.testing.storage_contract.parking import ParkContract  # noqa: E402
from jobify.testing.storage_contract.pausing import PauseContract  # noqa: E402
from jobify.testing.storage_contract.reading import ListContract, ReadContract, RelationContract  # noqa: E402
from jobify.testing.storage_contract.reviving import RetryContract, ReviveContract  # noqa: E402
from jobify.testing.storage_contract.settling import SettleContract  # noqa: E402
from jobify.testing.storage_contract.sharing import SharedStorageContract  # noqa: E402
from jobify.testing.storage_contract.suspecting import SuspectContract  # noqa: E402
from jobify.testing.storage_contract.timekeeping import TimekeepingContract  # noqa: E402
from jobify.testing.storage_contract.transacting import TransactionContract  # noqa: E402
from jobify.testing.storage_contract.uniqueness import UniqueContract  # noqa: E402
from jobify.testing.storage_contract.writing import ReportContract, WriteContract  # noqa: E402

__all__ = ("SharedStorageContract", "StorageContract")


class StorageContract(
    OwnerContract,
    ProfileContract,
    WriteContract,
    DependencyContract,
    CascadeContract,
    RelationContract,
    NeedContract,
    GroupContract,
    UniqueContract,
    WindowContract,
    ClaimContract,
    BatchContract,
    SettleContract,
    PauseContract,
    LimitContract,
    RateContract,
    TurnContract,
    BatchLimitContract,
    ParkContract,
    ReportContract,
    EndContract,
    ExpiryContract,
    RetryContract,
    ReviveContract,
    ReadContract,
    ListContract,
    SuspectContract,
    DoubtContract,
    TransactionContract,
    TimekeepingContract,
):
    """Every sentence of the port that one storage can be held to."""
