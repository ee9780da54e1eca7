"""Duplicates among documents, found by hashes of their token ids.

Near-duplicates are found by MinHash with banding (Broder 1997; Leskovec et al., "Mining of Massive
Datasets", section 3.4), with the bands of FineWeb. If s is the Jaccard similarity of the 5-grams of
two documents, they share a band with the probability 1 - (1 - s^8)^14: 0.92 for s = 0.8, 0.05 for
s = 0.5.
"""

from __future__ import annotations

import hashlib

import numpy as np

# Ids of a shingle, hashes of a band, bands.
GRAM, ROWS, BANDS = 5, 8, 14
# Shingles that are hashed at a time.
_CHUNK = 4_096
_random = np.random.default_rng(20_170_612)
_FACTORS = _random.integers(1, 1 << 63, ROWS * BANDS, dtype="uint64") | np.uint64(1)
_TERMS = _random.integers(0, 1 << 63, ROWS * BANDS, dtype="uint64")
_PLACES = _random.integers(1, 1 << 63, GRAM, dtype="uint64") | np.uint64(1)


def exact_key(ids: np.ndarray) -> int:
    """Return a hash of a document, from its ids (length,): 64 bits, the same on every machine."""
    content = np.ascontiguousarray(ids, "<u4").tobytes()
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


def signature(ids: np.ndarray) -> np.ndarray:
    """Return the MinHash of a document: for each hash function the least hash of its shingles.

    A shingle is 5 ids in a row; a shorter document is one shingle.

    Args:
        ids: (length,).

    Returns: uint32 (ROWS * BANDS,).
    """
    ids = np.asarray(ids, "uint64")
    if len(ids) < GRAM:
        ids = np.concatenate([ids, np.full(GRAM - len(ids), 1 << 40, "uint64")])
    windows = np.lib.stride_tricks.sliding_window_view(ids, GRAM)
    hashes = np.unique(_mix((windows * _PLACES).sum(axis=1, dtype="uint64")))
    least = np.full(len(_FACTORS), 0xFFFFFFFF, "uint32")
    for start in range(0, len(hashes), _CHUNK):
        part = hashes[start : start + _CHUNK, None] * _FACTORS + _TERMS
        least = np.minimum(least, (part >> np.uint64(32)).astype("uint32").min(axis=0))
    return least


def band_keys(ids: np.ndarray) -> list[int]:
    """Return a hash of each band of a document's signature. Two documents with an equal one are
    near-duplicates."""
    bands = signature(ids).reshape(BANDS, ROWS).astype("<u4")
    keys = []
    for number, band in enumerate(bands):
        digest = hashlib.blake2b(band.tobytes(), digest_size=8, salt=bytes([number]))
        keys.append(int.from_bytes(digest.digest(), "little"))
    return keys


def _mix(values: np.ndarray) -> np.ndarray:
    """Return each value by the finalizer of SplitMix64: each bit depends on all bits."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
