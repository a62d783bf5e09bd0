"""Words that a model knows: those of its training data by a vector of their own, and those of a file of vectors by that as well."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nlp_tasks import recipe
from nlp_tasks.lazy import lazy
from nlp_tasks.progress import tell
from nlp_tasks.recipe import check_unused
from nlp_tasks.tasks.task import Task

if TYPE_CHECKING:
    import tensorflow as tf

    from nlp_tasks import layers
    from nlp_tasks.text import vocabulary, word_vectors
else:
    tf, layers = lazy("tensorflow"), lazy("nlp_tasks.layers")
    vocabulary, word_vectors = lazy("nlp_tasks.text.vocabulary"), lazy("nlp_tasks.text.word_vectors")


def words_of_the_file(data: Any) -> list[bytes]:
    """The words that data.vectors has, where it names a file. Raises UserError where that cannot be read."""
    return [name.encode() for name in word_vectors.read_vectors(data.path(data.vectors)).words] if data.vectors else []


class KnownWords(Task):
    """A task whose `[model]` has vectors and tuned_after, and whose `[data]` has vectors: a file of word vectors as text, or none.

    `vocabulary.tsv` has the words of the training data, then those that only the file has, counted 0; `vectors.npy` the file's vectors by
    id, zeros for words that it lacks.
    """

    def __init__(self, recipe: recipe.Recipe) -> None:
        super().__init__(recipe)
        options = self.recipe.model
        if not self.recipe.data.vectors:
            check_unused("model", options, ("vectors", "tuned_after"), 'data.vectors = ""')
        elif options.vectors == "frozen":
            check_unused("model", options, ("tuned_after",), 'model.vectors = "frozen"')

    def further_tokens(self) -> list[bytes]:
        return words_of_the_file(self.recipe.data)

    def words_of(self, tokens: tf.Tensor) -> tf.Tensor:
        """`<string>[tokens]` as the vocabulary has them."""
        return tf.strings.lower(tokens, encoding="utf-8") if self.recipe.text.lowercase else tokens

    def prepare_words(self, counts: Counter[bytes], folder: Path) -> None:
        """Writes both files from the words of the training data."""
        text, data, path = self.recipe.text, self.recipe.data, folder / "vocabulary.tsv"
        vocabulary.write_vocabulary(path, counts, minimum_count=text.minimum_count, size=text.vocabulary_size)
        if data.vectors:
            tell(word_vectors.add_vectors(path, data.path(data.vectors), counts, folder / "vectors.npy"))

    def load_words(self, folder: Path) -> None:
        """Reads both."""
        self.vocabulary = vocabulary.Vocabulary(folder / "vocabulary.tsv")
        self.trained_words = vocabulary.FIRST + sum(count > 0 for count in self.vocabulary.counts)
        vectors = folder / "vectors.npy"
        self.vectors = np.load(vectors) if vectors.exists() else None

    def vectors_of_the_file(self) -> dict[str, Any]:
        """The layer "vectors", where there is a file."""
        if self.vectors is None:
            return {}
        tuned = self.recipe.model.vectors == "tuned"
        return {"vectors": layers.Embedding(*self.vectors.shape, initial=self.vectors, tuned=tuned)}

    def known(self, words: tf.Tensor) -> tf.Tensor:
        """`<int32>[…]` ids, those of words without a vector of their own as `UNKNOWN`."""
        return tf.where(words < self.trained_words, words, vocabulary.UNKNOWN)

    def delay(self, variable: str) -> int:
        return self.recipe.model.tuned_after if "/vectors/" in f"/{variable}" else 0
