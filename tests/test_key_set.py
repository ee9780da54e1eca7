"""Sets of hashes on disk, against Python's sets."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest

from tfx_transformer.data import key_set
from tfx_transformer.data.key_set import KeySet
from tfx_transformer.errors import InputError


@pytest.fixture
def keys(tmp_path, monkeypatch):
    """An empty set, of whose file 8 KiB are in memory."""
    monkeypatch.setattr(key_set, "_CACHE", 8)
    with contextlib.closing(KeySet(tmp_path / "keys")) as found:
        yield found


def test_it_holds_what_a_set_of_python_holds(keys, tmp_path):
    random, expected = np.random.default_rng(7), set()
    few = [0, 1, 2**63 - 1, 2**63, 2**64 - 1]
    for _ in range(30):
        added = random.integers(2**64, size=97, dtype="uint64").tolist() + few[:2]
        assert keys.isdisjoint(added) == expected.isdisjoint(added)
        keys.update(added)
        expected.update(added)
        few = few[1:] + few[:1]
    for key in [*expected, *random.integers(2**64, size=997, dtype="uint64").tolist()]:
        assert (key in keys) == (key in expected)
    assert (tmp_path / "keys").stat().st_size > 8 * len(expected)  # more than is in memory
    keys.clear()
    assert keys.isdisjoint(expected)


def test_the_file_of_a_process_that_was_killed_is_replaced_and_removed(tmp_path):
    (tmp_path / "keys").write_bytes(b"half a file")
    with contextlib.closing(KeySet(tmp_path / "keys")) as keys:
        keys.update([5])
        assert 5 in keys
    assert not list(tmp_path.iterdir())


def test_a_file_that_cannot_be_written_is_an_error_with_a_remedy(keys, tmp_path):
    keys._database.execute("PRAGMA max_page_count = 1")
    with pytest.raises(InputError, match=r"keys cannot be written: .* full.\n  Make room"):
        keys.update(range(10_000))
