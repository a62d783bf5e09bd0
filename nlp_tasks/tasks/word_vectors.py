"""Word vectors: a word is known by the company it keeps.

Skip-gram guesses a word's neighbours, CBOW a word from its neighbours (Mikolov 2013); both are trained to tell true neighbours from words
drawn at random. What comes out is a table of vectors in which words that stand in the same places stand close together, and in which
differences mean something: king - man + woman is near queen. It answers by itself (nearest words, analogies), and it is what small
models of other tasks start from: `data.vectors`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from msgspec import Meta

from nlp_tasks import recipe
from nlp_tasks.data.batching import Batch
from nlp_tasks.data.questions import Question, read_questions, read_similarity
from nlp_tasks.data.rows import CHUNK, chunks
from nlp_tasks.errors import UserError
from nlp_tasks.lazy import lazy
from nlp_tasks.recipe import NonNegative, Positive, Section
from nlp_tasks.tasks import running_text
from nlp_tasks.tasks import word_vectors_scores as scoring
from nlp_tasks.tasks.running_text import Piece, RunningText
from nlp_tasks.tasks.task import Answering, Inputs, Loss, Signature
from nlp_tasks.tasks.word_vectors_verbs import VERBS

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from nlp_tasks import layers, scores
    from nlp_tasks.data.toy_world import word_vectors as toy_world
    from nlp_tasks.layers import Noise
    from nlp_tasks.scores import Scores
    from nlp_tasks.text import character_ngrams, units, word_vectors
else:
    keras, tf = lazy("keras"), lazy("tensorflow")
    layers, scores = lazy("nlp_tasks.layers"), lazy("nlp_tasks.scores")
    toy_world = lazy("nlp_tasks.data.toy_world.word_vectors")
    character_ngrams, units = lazy("nlp_tasks.text.character_ngrams"), lazy("nlp_tasks.text.units")
    word_vectors = lazy("nlp_tasks.text.word_vectors")

STILL = 1
"""Seed of what is drawn outside of training: the same negative samples each time, so that losses compare."""
MOST_COUNTED = 20_000_000
"""Tokens of training that the baseline counts."""
NEVER = -2.0
"""The cosine of what is no answer."""


class Data(running_text.Data, frozen=True, kw_only=True):
    """`[data]`: questions: a file of analogies such as word2vec's questions-words.txt.

    similarity: a file of pairs of words that people judged (two words and a number a line).
    neighbours_of: words whose neighbours stand in the report; some of the frequent ones where empty.
    """

    questions: str = ""
    similarity: str = ""
    neighbours_of: tuple[str, ...] = ()


class Text(running_text.Text, frozen=True, kw_only=True):
    """`[text]`: minimum_count: rarer words have no vector, and are read over."""

    minimum_count: Positive = 5


class Model(Section, frozen=True, kw_only=True):
    """`[model]`: kind: "skip_gram" or "cbow".

    embedding: features of a vector. window: neighbours to each side that can be context; how many are is drawn anew for each word.
    negatives: words at random for each true context; shared: samples that stand for them, drawn for each block of so many words.
    threshold: words with a larger share of the text are thinned out (0: none are).
    buckets: of hashed character n-grams (Bojanowski 2017), 3 to 6 characters long; words that training never had then have a vector
        too. 0: each word stands for itself.
    """

    kind: Literal["skip_gram", "cbow"] = "skip_gram"
    embedding: Positive = 100
    window: Positive = 5
    negatives: Positive = 5
    shared: Positive = 128
    block: Positive = 64
    threshold: Annotated[float, Meta(ge=0)] = 1e-3
    buckets: NonNegative = 0


class Training(recipe.Training, frozen=True, kw_only=True):
    """`[training]`: as word2vec trains: by sgd, each pair with a step of the learning rate, which falls to zero.

    band: tokens of the text that are read together; contexts end where they end. batch_rows: so many bands a step. Frequent words are
        in many pairs of a step, whose changes add up: batches of thousands of tokens do not converge at word2vec's learning rate.
    shuffle: bands are read in another order each epoch, rather than in that of the text.
    """

    epochs: Positive = 5
    batch_rows: Positive = 2
    band: Annotated[int, Meta(ge=2)] = 512
    shuffle: bool = False
    optimizer: Literal["sgd", "adam", "adamw", "adagrad"] = "sgd"
    learning_rate: Annotated[float, Meta(gt=0)] = 0.025
    decay: Literal["constant", "linear", "cosine", "inverse_sqrt"] = "linear"
    clip_norm: Annotated[float, Meta(ge=0)] = 0.0
    keep: Literal["best", "last"] = "last"
    patience: NonNegative = 0


class Recipe(recipe.Recipe, frozen=True, kw_only=True):
    data: Data
    text: Text = Text()
    model: Model = Model()
    training: Training = Training()


class WordVectors(RunningText):
    """Words to vectors."""

    recipe_type = Recipe
    scored = "score"
    summed = True
    verbs = VERBS

    @property
    def headline(self) -> str:
        data = self.recipe.data
        return "analogy_accuracy" if data.questions or data.is_toy_world_of("word_vectors") else "context_accuracy"

    # Data

    @classmethod
    def check_files(cls, data: recipe.Data) -> None:
        super().check_files(data)
        assert isinstance(data, Data)
        if data.questions:
            read_questions(data.path(data.questions))
        if data.similarity:
            read_similarity(data.path(data.similarity))

    def _questions(self) -> list[Question]:
        data = self.recipe.data
        if data.questions:
            return read_questions(data.path(data.questions))
        return toy_world.questions() if data.is_toy_world_of("word_vectors") else []

    def _shown(self) -> Sequence[str]:
        """Words whose neighbours people see."""
        data = self.recipe.data
        return data.neighbours_of or (toy_world.frequent() if data.is_toy_world_of("word_vectors") else ())

    # Resources: units.tsv

    def prepare(self, examples: Callable[[], Iterator[Piece]], folder: Path) -> None:
        self.write_units(folder / "units.tsv", examples)
        self.load(folder)
        if not self._counts.any():
            raise UserError("no word of the training text is frequent enough for a vector",
                            f"text.minimum_count is {self.recipe.text.minimum_count}: lower it, or give more text")  # fmt: skip

    def load(self, folder: Path) -> None:
        self.load_units(units.Words(folder / "units.tsv", self._split))
        self._counts = self.units.counts.copy()
        self._counts[[0, units.UNKNOWN, self.units.boundary]] = 0
        self._ranked = np.flatnonzero(self._counts).astype(np.int32)  # ids are sorted by count

    def view(self) -> Mapping[str, Any]:
        return {"kind": "neighbours"}

    def resources(self) -> list[Any]:
        return [*self.units.resources, *([self._tokenizer.table] if self.recipe.text.rules else [])]

    # Training

    def windows(self, tokens: int) -> np.ndarray:
        return np.append(np.arange(0, tokens, self.recipe.training.band, dtype=np.int64), tokens)

    def plan(self, lengths: np.ndarray, training: recipe.Training, epoch: int | None) -> list[Batch]:
        """Bands side by side in the order of the text, as word2vec reads it; or in one drawn from (seed, epoch)."""
        assert isinstance(training, Training)
        window = self.recipe.model.window
        if epoch is not None and lengths.sum() <= window:
            raise UserError(f"the training text has {lengths.sum():,} words, line ends counted, no more than a window of {window}",
                            "give more text, or lower model.window")  # fmt: skip
        order = np.arange(len(lengths))
        if training.shuffle and epoch is not None:
            order = np.random.Generator(np.random.Philox(key=[training.seed, epoch])).permutation(len(lengths))
        size = min(training.batch_rows, max(1, len(order)))
        return [Batch(order[start : start + size], size, training.band) for start in range(0, len(order), size)]

    def build(self) -> keras.Model:
        return self._built(self.recipe.model.buckets)

    def _built(self, buckets: int) -> keras.Model:
        options, ngrams = self.recipe.model, None
        if buckets:
            words = tf.where(self._counts > 0, self.units.names, "")  # "" has no n-grams
            found = character_ngrams.ngram_ids(words, buckets)
            ngrams = found.values.numpy(), found.row_lengths().numpy(), buckets
        shape = {"window": options.window, "size": options.block}
        stream = layers.Stream(self._counts, boundary=self.units.boundary, threshold=options.threshold, **shape)
        sampling = layers.NegativeSampling(
            self._counts, options.embedding, kind=options.kind, negatives=options.negatives, shared=options.shared,
            ngrams=ngrams, **shape,
        )  # fmt: skip
        return layers.Model(self._measured, stream=stream, sampling=sampling)

    def _measured(self, model: Any, batch: dict[str, tf.Tensor], noise: Noise | None) -> tuple[Any, tf.Tensor]:
        """What the layer measures of each block of `tokens <int32>[rows, time]`, and the block's row; outside of training compared."""
        drawn = noise or layers.Noise(tf.constant(STILL, tf.uint32), tf.cast(batch["row"], tf.uint32))
        blocks = model.stream(batch["tokens"], drawn)
        return model.sampling(blocks, drawn, compare=noise is None), blocks.rows

    def loss(self, model: Any, batch: dict[str, tf.Tensor], state: Any, noise: Noise | None) -> Loss:
        measured, _ = model(batch, noise)
        total, contexts, right = (tf.reduce_sum(values) for values in measured)
        return Loss(total, contexts, {} if noise is not None else {"context_accuracy": (right, contexts)}, state)

    # Answers

    def _word(self, words: tf.Tensor) -> tf.Tensor:
        return tf.strings.lower(words, encoding="utf-8") if self.recipe.text.lowercase else words

    def _ids(self, words: tf.Tensor) -> tf.Tensor:
        """`<string>[batch]` → `<int32>[batch]`; 0 for what is not in the vocabulary."""
        ids = self.units.lookup(self._word(words))
        return tf.where((ids == units.UNKNOWN) | (ids == self.units.boundary), 0, ids)

    def _vectors(self, model: Any, words: tf.Tensor) -> tf.Tensor:
        """`<string>[batch]` → `<float>[batch, features]`; zeros for a word that has none."""
        ids, buckets = self._ids(words), self.recipe.model.buckets
        if buckets:
            return model.sampling.composed(ids, character_ngrams.ngram_ids(self._word(words), buckets))
        vectors = tf.gather(model.sampling.inputs.value, ids)
        return tf.where((ids > 0)[:, None], vectors, tf.zeros([], vectors.dtype))

    def _nearest(self, model: Any, queries: tf.Tensor, left_out: tf.Tensor, counts: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The words of the vocabulary whose vectors have the largest cosines.

        Args:
            queries: `<float>[batch, features]`; one of zeros has no neighbours.
            left_out: `<int32>[batch, n]`, ids that are no answer.
            counts: `<int32>[batch]`, how many are wanted.

        Returns:
            words `<string>[batch, most]`, padded by ""; cosines `<float32>[batch, most]`, padded by 0.
        """
        table = tf.math.l2_normalize(model.sampling.vectors(tf.constant(self._ranked)), 1)
        cosines = tf.cast(tf.matmul(tf.math.l2_normalize(queries, 1), table, transpose_b=True), tf.float32)
        for place in range(left_out.shape[1]):
            cosines = tf.where(left_out[:, place, None] == self._ranked, NEVER, cosines)
        most = tf.minimum(tf.maximum(1, tf.reduce_max(tf.concat([[1], counts], 0))), len(self._ranked))
        best, places = tf.math.top_k(cosines, most)
        wanted = (tf.range(most) < counts[:, None]) & (best > NEVER) & tf.reduce_any(queries != 0, 1, keepdims=True)
        words = tf.gather(self.units.names, tf.gather(self._ranked, places))
        return tf.where(wanted, words, ""), tf.where(wanted, best, 0.0)

    def signatures(self, model: Any) -> dict[str, Signature]:
        def serving_default(words: tf.Tensor) -> dict[str, tf.Tensor]:
            """`<string>[batch]` → vectors `<float>[batch, features]`, zeros for a word that has none; known `<bool>[batch]`: whether the
            word is in the vocabulary."""
            return {"vectors": tf.cast(self._vectors(model, words), tf.float32), "known": self._ids(words) > 0}

        def neighbours(words: tf.Tensor, counts: tf.Tensor) -> dict[str, tf.Tensor]:
            """Words `<string>[batch]`, how many neighbours of each `<int32>[batch]` → neighbours `<string>[batch, most]`, nearest first,
            padded by ""; cosines `<float>[batch, most]`; known `<bool>[batch]`."""
            ids = self._ids(words)
            found, cosines = self._nearest(model, self._vectors(model, words), ids[:, None], counts)
            return {"neighbours": found, "cosines": cosines, "known": ids > 0}

        def analogy(a: tf.Tensor, b: tf.Tensor, c: tf.Tensor, counts: tf.Tensor) -> dict[str, tf.Tensor]:
            """a is to b as c is to …: `<string>[batch]` each, counts `<int32>[batch]` → words `<string>[batch, most]` nearest to b - a + c
            of unit vectors (3CosAdd, Mikolov 2013; Levy & Goldberg 2014, eq. 1), best first, padded by ""; cosines `<float>[batch, most]`;
            known `<bool>[batch, 3]`: which of the three have a vector."""
            vectors = [tf.math.l2_normalize(self._vectors(model, words), 1) for words in (a, b, c)]
            known = tf.stack([tf.reduce_any(each != 0, 1) for each in vectors], 1)
            query = tf.where(tf.reduce_all(known, 1, keepdims=True), vectors[1] - vectors[0] + vectors[2], 0)
            left_out = tf.stack([self._ids(words) for words in (a, b, c)], 1)
            found, cosines = self._nearest(model, query, left_out, counts)
            return {"words": found, "cosines": cosines, "known": known}

        def vocabulary(ranks: tf.Tensor) -> dict[str, tf.Tensor]:
            """Ranks `<int32>[batch]`, 0 for the most frequent word → words `<string>[batch]`, "" behind the last one; counts
            `<int64>[batch]` in the training text."""
            inside = (ranks >= 0) & (ranks < len(self._ranked))
            ids = tf.gather(self._ranked, tf.where(inside, ranks, 0))
            counts = tf.gather(tf.constant(self._counts, tf.int64), ids)
            return {"words": tf.where(inside, tf.gather(self.units.names, ids), ""), "counts": tf.where(inside, counts, 0)}

        def score(texts: tf.Tensor) -> dict[str, tf.Tensor]:
            """`<string>[batch]` → of each text, read as training reads it: loss `<float>[batch]`, contexts `<float>[batch]` that it is the
            sum over, right `<float>[batch]`: how often a context stands above a negative sample, as a share, summed over them."""
            tokens, rows = self.units.encode(texts).to_tensor(), tf.shape(texts)[0]
            measured, of = model({"tokens": tokens, "row": tf.zeros([rows], tf.int32)}, None)
            sums = (tf.cast(tf.math.unsorted_segment_sum(values, of, rows), tf.float32) for values in measured)
            return dict(zip(("loss", "contexts", "right"), sums, strict=True))

        def specs(**dtypes: tf.DType) -> tuple[tf.TensorSpec, ...]:
            return tuple(tf.TensorSpec([None], dtype, name) for name, dtype in dtypes.items())

        return {
            "serving_default": Signature(serving_default, specs(words=tf.string)),
            "neighbours": Signature(neighbours, specs(words=tf.string, counts=tf.int32)),
            "analogy": Signature(analogy, specs(a=tf.string, b=tf.string, c=tf.string, counts=tf.int32)),
            "vocabulary": Signature(vocabulary, specs(ranks=tf.int32)),
            "score": Signature(score, specs(texts=tf.string)),
        }

    def samples(self, signature: str, examples: Sequence[Inputs]) -> Sequence[Inputs]:
        if signature != "serving_default":
            return examples
        every = [word.decode() for word in self.units.names.numpy()[self._ranked]]
        known = {*every}
        words = dict.fromkeys((*(word for word in self._shown() if word in known), *every[: len(examples)]))
        return [*((word,) for word in words), ("neverseen",), ("",), ("é 👍🏽 你好",)]

    # Scores

    def evaluate(self, answer: Answering, examples: Sequence[Piece]) -> list[dict[str, Any]]:
        outputs = answer("score", [example.inputs for example in examples])
        columns = (outputs[name].tolist() for name in ("loss", "contexts", "right"))
        return [
            {"id": index, "where": str(example.where), "nats": nats, "contexts": contexts, "right": right,
             "loss": nats / max(1.0, contexts), "text": example.inputs[0]}
            for index, (example, nats, contexts, right) in enumerate(zip(examples, *columns, strict=True))
        ]  # fmt: skip

    def score(self, results: Sequence[dict[str, Any]]) -> Scores:
        model = self.recipe.model
        return scoring.contexts(results, f"negatives:{model.shared} a block of {model.block} words, shared|window:{model.window}")

    def aside(self, answer: Answering, examples: Sequence[Piece]) -> Scores:
        """What the vectors know of analogies and similarity, and some neighbours."""
        data, lowercase = self.recipe.data, self.recipe.text.lowercase
        found = []
        if questions := self._questions():
            found.append(scoring.analogies(answer, questions, lowercase))
        if data.similarity:
            found.append(scoring.similarity(answer, read_similarity(data.path(data.similarity))))
        found.append(scoring.neighbours(answer, self._shown()))
        return functools.reduce(scores.joined, found)

    def baseline(self, examples: Callable[[str], Iterator[Piece]], test: Sequence[Piece]) -> tuple[str, Scores]:
        """Counted vectors of as many features: positive pointwise mutual information and a singular value decomposition."""
        options, counted = self.recipe.model, 0

        def batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
            nonlocal counted
            for chunk in chunks(examples("train"), CHUNK):
                ids = self.encoded(chunk).values.numpy()[: MOST_COUNTED - counted]
                counted += len(ids)
                words = self._counts[ids] > 0
                yield ids[words], np.cumsum(ids == self.units.boundary)[words]
                if counted == MOST_COUNTED:
                    return

        model = self._built(0)
        factors = word_vectors.ppmi_factors(batches(), len(self.units), options.embedding, window=options.window)
        model.sampling.build()
        for table, factor in zip((model.sampling.inputs, model.sampling.outputs), factors, strict=True):
            table.assign(factor)
        plain = type(self)(_without_buckets(self.recipe))
        plain.units, plain._counts, plain._ranked = self.units, self._counts, self._ranked
        answer = scoring.Direct(plain.signatures(model))
        found = self.score(self.evaluate(answer, test))
        for part in (found.scores, found.samples, found.parts):
            part.pop("context_loss", None)  # its products are no log-odds
        name = f"PPMI and SVD, {options.embedding} features"
        name += f", of the first {MOST_COUNTED // 10**6} million tokens" if counted == MOST_COUNTED else ""
        return name, scores.joined(found, self.aside(answer, test))


def _without_buckets(content: Any) -> Any:
    from msgspec.structs import replace

    return replace(content, model=replace(content.model, buckets=0))
