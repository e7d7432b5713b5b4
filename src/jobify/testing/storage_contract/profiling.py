"""What owners say of themselves, and when they were seen."""

from __future__ import annotations

import pytest

from jobify.model.records import OwnerProfile, OwnerRole
from jobify.storage.base import Storage
from jobify.testing.rows import NASTY_TEXTS, NOW, PROFILE, SECOND
from jobify.testing.storage_contract.given import StorageCase

__all__ = ("ProfileContract",)


class ProfileContract(StorageCase):
    @pytest.mark.parametrize(
        "profile",
        [
            OwnerProfile(OwnerRole.WORKER, None, (), 10),
            OwnerProfile(OwnerRole.CLIENT, (), (), 0),
            OwnerProfile(OwnerRole.WORKER, NASTY_TEXTS, NASTY_TEXTS, 1),
        ],
        ids=range(3),
    )
    def test_a_profile_comes_back_as_it_was(self, storage: Storage, profile: OwnerProfile) -> None:
        id = storage.register(profile, now=NOW)
        (owner,) = storage.owners()
        assert (owner.id, owner.profile, owner.started_at, owner.seen_at) == (id, profile, NOW, NOW)
        assert isinstance(owner.profile.role, OwnerRole)

    def test_a_beat_is_noted(self, storage: Storage, owner: int) -> None:
        other = storage.register(PROFILE, now=NOW)
        storage.heartbeat(owner, now=NOW + SECOND)
        seen = {found.id: (found.started_at, found.seen_at) for found in storage.owners()}
        assert seen == {owner: (NOW, NOW + SECOND), other: (NOW, NOW)}

    def test_a_heartbeat_keeps_no_other_owner_alive(self, storage: Storage, owner: int) -> None:
        storage.close()
        storage.open()
        storage.heartbeat(owner, now=NOW + SECOND)
        assert [found.is_alive for found in storage.owners()] == [False]

    def test_a_heartbeat_without_an_owner(self, storage: Storage, owner: int) -> None:
        storage.deregister(owner)
        storage.heartbeat(owner, now=NOW)
        assert storage.owners() == []
