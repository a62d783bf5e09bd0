"""Texts that occur twice: exactly, by a 64-bit hash, or nearly, by MinHash (Broder 1997) over three tokens in a row.

Everything is arrays, so that ten million rows are some hundred megabytes.
"""

from __future__ import annotations

import hashlib

import numpy as np
from rensa import RMinHash

SHINGLE = 3
"""Tokens in a row that count as one feature of a text."""
FEWEST = 8
"""Of these a text must have, to be compared: the overlap of fewer says little."""
PERMUTATIONS, BANDS = 64, 16
NEIGHBOURS = 8
SIMILAR = 0.8
"""Share of their features (Jaccard) from which on two texts are near duplicates."""

_MULTIPLIERS = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], np.uint64)


def text_hash(text: str) -> int:
    """64 bits that equal texts share."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def digests(tokens: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What near duplicates are found by.

    Args:
        tokens: `<uint64>[all tokens]`: a hash of each.
        lengths: `<int64>[rows]`: tokens of each row.

    Returns:
        rows `<int64>[n]` that are long enough, and their digests `<uint16>[n, PERMUTATIONS]`: of each value the lower half, which is
        enough to tell equal from other ones (Li & König 2010).
    """
    starts = np.cumsum(lengths) - lengths
    counts = np.maximum(lengths - (SHINGLE - 1), 0)
    rows = np.flatnonzero(counts >= FEWEST)
    if not len(rows):
        return rows, np.zeros((0, PERMUTATIONS), np.uint16)
    counts = counts[rows]
    offsets = np.concatenate([[0], np.cumsum(counts)])
    first = np.repeat(starts[rows] - offsets[:-1], counts) + np.arange(offsets[-1])
    with np.errstate(over="ignore"):
        shingles = sum((tokens[first + k] * _MULTIPLIERS[k] for k in range(SHINGLE)), np.zeros(len(first), np.uint64))
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(shingles, offsets.astype(np.uint64), PERMUTATIONS, 1)
    return rows, np.array(matrix.to_rows(), np.uint32).astype(np.uint16)


def near_pairs(matrix: np.ndarray) -> np.ndarray:
    """Pairs of rows whose digests say that they are near duplicates; `<int64>[pairs, 2]`, the smaller row first.

    Of many that resemble each other, each is compared with the first and with its neighbours, not with all.

    Args:
        matrix: `<uint16>[rows, PERMUTATIONS]`.
    """
    found = np.zeros(0, np.int64)
    for band in np.split(np.arange(PERMUTATIONS), BANDS):
        with np.errstate(over="ignore"):
            key = np.zeros(len(matrix), np.uint64)
            for column in band:
                key = (key ^ matrix[:, column]) * _MULTIPLIERS[0]
                key ^= key >> np.uint64(29)
        order = np.argsort(key, kind="stable")
        ordered = key[order]
        same = np.flatnonzero(ordered[1:] == ordered[:-1]) + 1
        if not len(same):
            continue
        begins = np.maximum.accumulate(np.where(np.concatenate([[True], ordered[1:] != ordered[:-1]]), np.arange(len(key)), 0))
        earlier = [begins[same], *(np.maximum(begins[same], same - back) for back in range(1, NEIGHBOURS + 1))]
        found = np.unique(np.concatenate([found, *(order[places] * len(matrix) + order[same] for places in earlier)]))
    pairs = np.stack(np.divmod(found, max(1, len(matrix))), 1)
    alike = [
        (matrix[part[:, 0]] == matrix[part[:, 1]]).mean(1) >= SIMILAR
        for part in np.array_split(pairs, max(1, len(pairs) // 100_000))
    ]
    return pairs[np.concatenate(alike)]
