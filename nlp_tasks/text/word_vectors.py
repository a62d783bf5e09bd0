"""Word vectors counted, not descended: positive pointwise mutual information and a truncated singular value decomposition."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np


def ppmi_vectors(batches: Iterable[tuple[np.ndarray, np.ndarray]], size: int, features: int, *, window: int = 5) -> np.ndarray:
    """Vectors of words from the company they keep (Levy, Goldberg & Dagan 2015, sections 2.2 and 3).

    Co-occurrences within `window` tokens count 1 / distance; context counts are smoothed by the power 0.75; the vectors are
    `U √S` of the PPMI matrix, scaled to a root mean square of 0.1.

    Args:
        batches: (ids `<int>[tokens]`, number of the text of each token `<int>[tokens]`); ids from `size` on are left out.
        size: number of ids.
        features: length of a vector.

    Returns:
        `<float32>[size, features]`; zeros for ids that never occur.
    """
    from scipy import sparse
    from sklearn.utils.extmath import randomized_svd

    counts = sparse.csr_matrix((size, size), dtype=np.float32)
    for ids, texts in batches:
        lefts, rights, weights = [], [], []
        for distance in range(1, window + 1):
            left, right = ids[:-distance], ids[distance:]
            together = (texts[:-distance] == texts[distance:]) & (left < size) & (right < size)
            lefts.append(left[together])
            rights.append(right[together])
            weights.append(np.full(len(lefts[-1]), 1 / distance, np.float32))
        places = (np.concatenate(lefts), np.concatenate(rights))
        counts = counts + sparse.coo_matrix((np.concatenate(weights), places), shape=(size, size)).tocsr()
    pairs = (counts + counts.T).tocoo()
    words = np.asarray(pairs.sum(axis=1)).ravel() + 1e-9
    contexts = words**0.75
    information = np.log(pairs.data / (words[pairs.row] * (contexts / contexts.sum())[pairs.col]))
    kept = information > 0
    ppmi = sparse.csr_matrix((information[kept].astype(np.float32), (pairs.row[kept], pairs.col[kept])), shape=(size, size))
    rank = min(features, size - 1)
    left, values, _ = randomized_svd(ppmi, rank, n_iter=3, random_state=0)
    vectors = np.zeros((size, features), np.float32)
    vectors[:, :rank] = left * np.sqrt(values)
    seen = np.asarray(pairs.sum(axis=1)).ravel() > 0
    vectors[~seen] = 0  # the decomposition leaves 1e-14 there
    spread = np.sqrt(np.square(vectors[seen]).mean()) if seen.any() else 0.0
    return vectors * np.float32(0.1 / spread) if spread > 0 else vectors
