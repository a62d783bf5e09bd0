"""Word vectors that need no descent: counted on the training texts, or read from a file."""

from __future__ import annotations

import codecs
import gzip
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nlp_tasks.errors import UserError
from nlp_tasks.files import whole
from nlp_tasks.text.vocabulary import FIRST, read_vocabulary, write_vocabulary


class Vectors(NamedTuple):
    """The content of a file of word vectors."""

    words: list[str]
    values: np.ndarray
    """`<float32>[words, features]`."""
    repeated: int
    """Lines left out, as their word has come before."""


def ppmi_vectors(batches: Iterable[tuple[np.ndarray, np.ndarray]], size: int, features: int, *, window: int = 5) -> np.ndarray:
    """Vectors of words from the company they keep, scaled to a root mean square of 0.1: the first of `ppmi_factors`.

    Returns:
        `<float32>[size, features]`; zeros for ids that never occur.
    """
    vectors, _ = ppmi_factors(batches, size, features, window=window)
    seen = vectors.any(1)
    spread = np.sqrt(np.square(vectors[seen]).mean()) if seen.any() else 0.0
    return vectors * np.float32(0.1 / spread) if spread > 0 else vectors


def ppmi_factors(
    batches: Iterable[tuple[np.ndarray, np.ndarray]], size: int, features: int, *, window: int = 5
) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of words and of contexts whose products are positive pointwise mutual information, by a truncated singular value
    decomposition (Levy & Goldberg 2014; Levy, Goldberg & Dagan 2015, sections 2.2 and 3).

    Co-occurrences within `window` tokens count 1 / distance; context counts are smoothed by the power 0.75; of the PPMI matrix U S Vᵀ
    the vectors are `U √S` and `V √S`.

    Args:
        batches: (ids `<int>[tokens]`, number of the text of each token `<int>[tokens]`); ids from `size` on are left out.
        size: number of ids.
        features: length of a vector.

    Returns:
        `<float32>[size, features]` each; zeros for ids that never occur.
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
    left, values, right = randomized_svd(ppmi, rank, n_iter=3, random_state=0)
    seen = np.asarray(pairs.sum(axis=1)).ravel() > 0

    def factor(side: np.ndarray) -> np.ndarray:
        vectors = np.zeros((size, features), np.float32)
        vectors[:, :rank] = side * np.sqrt(values)
        vectors[~seen] = 0  # the decomposition leaves 1e-14 there
        return vectors

    return factor(left), factor(right.T)


def read_vectors(path: Path) -> Vectors:
    """Word vectors in the text format of GloVe (word and numbers, separated by spaces) or word2vec (the same after a line that holds the
    number of words and of features). A file that ends in .gz is unpacked.

    Returns:
        The words in their order; of a word that comes twice the first.

    Raises:
        UserError: missing or empty file, a line with another number of features: with file:line.
    """
    if not path.is_file():
        raise UserError(f"no file {path}", "data.vectors names a file of word vectors as text (GloVe, word2vec; .gz too)")
    vectors: dict[str, np.ndarray] = {}
    features = repeated = count = 0
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            for number, raw in enumerate(file, 1):
                raw = raw.removeprefix(codecs.BOM_UTF8) if number == 1 else raw
                cells = raw.decode("utf-8", "replace").rstrip(" \r\n").split(" ")
                if number == 1 and len(cells) == 2 and all(cell.isdecimal() and len(cell) < 10 for cell in cells):
                    count, features = map(int, cells)
                    continue
                features = features or len(cells) - 1
                vector = _vector(cells, features)
                if vector is None:
                    received = f"{cells[0][:40]!r} is followed by {len(cells) - 1} columns"
                    raise UserError(f"{path}:{number}: expected a word and {features} numbers; {received}",
                                    "is the file cut off, or no file of word vectors?")  # fmt: skip
                word = " ".join(cells[:-features])
                repeated += word in vectors
                vectors.setdefault(word, vector)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: cannot be read: {error}", "is it a whole .gz file?") from None
    if count and len(vectors) + repeated != count:
        raise UserError(
            f"{path}: its first line says {count:,} words, and {len(vectors) + repeated:,} follow", "is the file whole?"
        )
    if not vectors:
        raise UserError(f"{path}: no word vectors in it", "data.vectors names a file of word vectors as text (GloVe, word2vec)")
    return Vectors(list(vectors), np.stack(list(vectors.values())), repeated)


def write_vectors(path: Path, words: Sequence[str], values: np.ndarray, *, header: bool = True) -> None:
    """Word vectors as text, read by `read_vectors` and by gensim. A file that ends in .gz is packed, one that exists is whole.

    Args:
        words: without spaces.
        values: `<float>[words, features]`.
        header: whether a line with both numbers stands first, as in word2vec's files; GloVe's have none.
    """
    with whole(path) as bare, gzip.open(bare, "wb", 6) if path.suffix == ".gz" else nullcontext(bare) as file:
        if header:
            file.write(b"%d %d\n" % values.shape)
        for word, vector in zip(words, values, strict=True):
            file.write(f"{word} {' '.join(f'{number:.6g}' for number in vector.tolist())}\n".encode())


def add_vectors(vocabulary: Path, vectors: Path, counts: Counter[bytes], table: Path) -> str:
    """Adds the words that only a file of vectors has to a vocabulary, counted 0, and saves the vectors by id.

    Args:
        vocabulary: the file that `write_vocabulary` wrote of the training data; it is written anew.
        vectors: as in `read_vectors`.
        counts: of all words of the training data.
        table: `<float32>[ids, features]` is saved there; zeros for words without a vector.

    Returns:
        How much of the training data the vectors know, in words.
    """
    names, values, repeated = read_vectors(vectors)
    place = {name.encode(): index for index, name in enumerate(names)}
    every = Counter(dict.fromkeys(place, 0) | dict(read_vocabulary(vocabulary)))
    write_vocabulary(vocabulary, every, minimum_count=0, size=len(every))
    rows = np.zeros((FIRST + len(every), values.shape[1]), np.float32)
    for index, (word, _) in enumerate(read_vocabulary(vocabulary), FIRST):
        if word in place:
            rows[index] = values[place[word]]
    np.save(table, rows)
    covered = [word for word in counts if word in place]
    twice = f", {repeated:,} lines left out as their word has come before" if repeated else ""
    return (f"vectors  {len(names):,} of {values.shape[1]} features{twice}; of the training data they know "
            f"{len(covered) / len(counts):.1%} of the words, "
            f"{sum(counts[word] for word in covered) / counts.total():.1%} of the text")  # fmt: skip


def completed(table: np.ndarray, seed: int) -> np.ndarray:
    """Vectors by id, with those that are missing drawn at random, uniformly and of the same spread as the others (Kim 2014, section 3.3).

    Args:
        table: `<float32>[ids, features]`, as `add_vectors` saves it: zeros where there is none. Id 0, the padding, stays so.
    """
    known = np.asarray(table.any(1))
    width = (
        np.sqrt(3 * np.square(table[known]).mean()) if known.any() else 0.05
    )  # a uniform distribution with the others' mean square
    missing = ~known & (np.arange(len(table)) > 0)
    drawn = np.random.default_rng(seed).uniform(-width, width, (int(missing.sum()), table.shape[1]))
    table = table.copy()
    table[missing] = drawn
    return table


def _vector(cells: list[str], features: int) -> np.ndarray | None:
    """The last `features` cells as numbers; None where they are none, or where there is a number too many."""
    if features < 1 or len(cells) <= features or (len(cells) > features + 1 and _number(cells[-features - 1])):
        return None
    try:
        with np.errstate(over="ignore"):  # what is too large is infinite
            vector = np.array(cells[-features:], np.float32)
    except ValueError:
        return None
    return vector if np.isfinite(vector).all() else None


def _number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
