"""Windows: in which job the calls of a debounced task are merged."""

from __future__ import annotations

from jobify.storage.base import Storage
from jobify.storage.merging import Window
from jobify.testing.rows import NASTY_TEXTS, NOW, claimed, end, job
from jobify.testing.storage_contract.given import StorageCase, undone

__all__ = ("WindowContract",)

_OPEN = Window("a", NOW, NOW + 10, is_trailing=True)


class WindowContract(StorageCase):
    def test_a_window_is_known_by_its_key(self, storage: Storage) -> None:
        for number, key in enumerate(NASTY_TEXTS):
            storage.set_window(key, _OPEN._replace(job_id=str(number), is_trailing=number % 2 == 0))
        for number, key in enumerate(NASTY_TEXTS):
            assert storage.window(key) == Window(str(number), NOW, NOW + 10, is_trailing=number % 2 == 0)
        assert storage.window("another") is None

    def test_the_last_window_of_a_key_counts(self, storage: Storage) -> None:
        storage.set_window("k", _OPEN)
        storage.set_window("k", Window("b", NOW + 1, NOW + 2, is_trailing=False))
        assert storage.window("k") == Window("b", NOW + 1, NOW + 2, is_trailing=False)

    def test_a_transaction_reads_its_own_windows_and_may_undo_them(self, storage: Storage) -> None:
        def write() -> None:
            storage.hold_keys(["k"])
            storage.set_window("k", _OPEN)
            assert storage.window("k") == _OPEN

        undone(storage, write)
        assert storage.window("k") is None

    def test_a_closed_window_is_forgotten_unless_its_job_waits(self, storage: Storage, owner: int) -> None:
        storage.insert([job("waits", due_at=NOW + 99, ready=False)])
        ended = claimed(storage, owner, "ended")
        for id in ("waits", "ended", "missing"):
            storage.set_window(id, _OPEN._replace(job_id=id))
        storage.settle([end(owner, ended)])
        assert storage.forget_windows(now=NOW + 9, limit=9) == 0
        assert storage.forget_windows(now=NOW + 10, limit=1) == 1
        assert storage.forget_windows(now=NOW + 10, limit=9) == 1
        assert storage.window("waits") is not None
        storage.cancel(["waits"], reason="x", now=NOW, delete_at=None)
        assert storage.forget_windows(now=NOW + 10, limit=9) == 1
        assert storage.window("waits") is None
