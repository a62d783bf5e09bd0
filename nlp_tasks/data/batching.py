"""Batches planned as lists of rows from (seed, epoch): length buckets under a token budget, few distinct shapes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Batch(NamedTuple):
    """What a step is made of; the data itself is read when its turn comes."""

    rows: np.ndarray
    """`<int64>[n]`, n ≤ size."""
    size: int
    """rows of the padded batch."""
    width: int
    """tokens a row of the padded batch."""


def bucket_widths(lengths: np.ndarray, buckets: int, multiple: int = 4) -> np.ndarray:
    """At most `buckets` widths that cover all lengths with little padding.

    Widths are multiples of `multiple`. They are chosen by dynamic programming over the distinct rounded lengths, so that the number
    of padded tokens is the smallest that so many widths allow.
    """
    rounded = np.maximum(multiple, -(-lengths // multiple) * multiple)
    if not len(rounded):
        return np.array([multiple])
    candidates, counts = np.unique(rounded, return_counts=True)
    if len(candidates) > 256:  # long texts: a coarser grid loses less than one part in a hundred
        grid = np.unique(np.quantile(candidates, np.linspace(0, 1, 256), method="higher"))
        place = np.searchsorted(grid, candidates)
        counts = np.bincount(place, weights=counts, minlength=len(grid)).astype(np.int64)
        candidates = grid
    n, total = len(candidates), np.concatenate([[0], np.cumsum(counts)])
    best = candidates * total[1:]
    choices = []
    for _ in range(min(buckets, n) - 1):
        # cost[i, j]: rows of candidates i+1 … j go into width j, the rest as well as it can.
        cost = best[:, None] + candidates[None, :] * (total[None, 1:] - total[1:, None])
        cost[np.tril_indices(n)] = np.iinfo(np.int64).max // 2
        cost = np.vstack([candidates * total[1:], cost])
        choices.append(cost.argmin(0))
        best = cost.min(0)
    widths, at = [], n - 1
    for choice in reversed(choices):
        widths.append(candidates[at])
        if choice[at] == 0:
            break
        at = choice[at] - 1
    else:
        widths.append(candidates[at])
    return np.array(sorted(set(widths)))


def plan(
    lengths: np.ndarray, *, batch_tokens: int, batch_rows: int, buckets: int, shuffle: tuple[int, int] | None
) -> list[Batch]:
    """The batches of an epoch.

    Args:
        lengths: `<int64>[rows]`, tokens of each row.
        batch_tokens: padded tokens of a batch, at most (a longer row makes a batch of its own).
        batch_rows: rows of a batch, at most.
        buckets: number of distinct widths.
        shuffle: (seed, epoch), on which alone the order depends; None keeps rows in order within their bucket.
    """
    widths = bucket_widths(lengths, buckets)
    bucket = np.searchsorted(widths, lengths)
    random = None if shuffle is None else np.random.Generator(np.random.Philox(key=list(shuffle)))
    order = np.arange(len(lengths)) if random is None else random.permutation(len(lengths))
    batches = []
    for index, width in enumerate(widths):
        rows = order[bucket[order] == index]
        size = int(min(batch_rows, max(1, batch_tokens // width), max(1, len(rows))))
        batches += [Batch(rows[start : start + size], size, int(width)) for start in range(0, len(rows), size)]
    if random is not None:
        batches = [batches[i] for i in random.permutation(len(batches))]
    return batches


POOL = 128
"""So many batches' rows are sorted together."""


def plan_sorted(lengths: np.ndarray, *, batch_tokens: int, batch_rows: int, shuffle: tuple[int, int] | None) -> list[Batch]:
    """The batches of an epoch whose rows have several lengths, such as those of a text and its translation: rows of like lengths
    stand together, and each batch is as large as its longest row allows.

    Args:
        lengths: `<int64>[rows, fields]`; rows are sorted by the first, equal ones by the next. A batch's width is that of the first.
        batch_tokens: padded tokens of any field of a batch, at most (a longer row makes a batch of its own).
        batch_rows: rows of a batch, at most.
        shuffle: (seed, epoch), on which alone the order depends; None sorts all rows.
    """
    random = None if shuffle is None else np.random.Generator(np.random.Philox(key=list(shuffle)))
    order = np.arange(len(lengths)) if random is None else random.permutation(len(lengths))
    size = len(order) if random is None else POOL * batch_rows
    batches = []
    for start in range(0, len(order), max(1, size)):
        pool = order[start : start + size]
        pool = pool[np.lexsort(lengths[pool].T[::-1])]
        longest = lengths[pool].max(1)
        first = 0
        while first < len(pool):
            widths = np.maximum.accumulate(longest[first : first + batch_rows])
            fits = int((widths * np.arange(1, len(widths) + 1) <= batch_tokens).sum())  # widths never fall, nor do the products
            rows = pool[first : first + max(1, fits)]
            batches.append(Batch(rows, len(rows), max(1, int(lengths[rows, 0].max()))))
            first += len(rows)
    if random is not None:
        batches = [batches[i] for i in random.permutation(len(batches))]
    return batches


def padding_share(lengths: np.ndarray, batches: list[Batch]) -> float:
    """Share of the padded tokens of a plan that are no tokens; of several lengths a row, those of all fields."""
    if lengths.ndim == 2:
        padded = sum(batch.size * int(lengths[batch.rows].max(0).sum()) for batch in batches)
    else:
        padded = sum(batch.size * batch.width for batch in batches)
    return 1.0 - float(lengths.sum()) / padded if padded else 0.0
