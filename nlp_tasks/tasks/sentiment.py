"""Sentiment classification, and any other task that gives a text one label of a fixed set.

The model has one or several parts, each a classifier of its own: a bag of n-grams (what is said), a convolution (short phrases), a
recurrent network (order and scope). Each part is trained by its own loss, so that a part which learns fast leaves the others
something to learn; the answer averages their log probabilities.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from msgspec import Meta

from nlp_tasks import recipe
from nlp_tasks.data.rows import Row
from nlp_tasks.errors import UserError
from nlp_tasks.lazy import lazy
from nlp_tasks.recipe import Positive, Section, Share
from nlp_tasks.tasks.task import Example, Loss, Signature, Task, Verb

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from nlp_tasks import layers, scores
    from nlp_tasks.layers import Noise
    from nlp_tasks.scores import Scores
    from nlp_tasks.text import ngrams, tokenizer, vocabulary
else:
    keras, tf = lazy("keras"), lazy("tensorflow")
    layers, scores = lazy("nlp_tasks.layers"), lazy("nlp_tasks.scores")
    ngrams, tokenizer, vocabulary = (lazy(f"nlp_tasks.text.{name}") for name in ("ngrams", "tokenizer", "vocabulary"))

Part = Literal["bag_of_ngrams", "convolution", "recurrent"]


class Data(recipe.Data, frozen=True, kw_only=True):
    """`[data]`: text_column and label_column name the columns where a header or a data set calls them otherwise.

    columns: the order of the columns of a file without header line.
    """

    text_column: str = ""
    label_column: str = ""
    columns: tuple[str, ...] = ("text", "label")


class Text(recipe.Text, frozen=True, kw_only=True):
    """`[text]`: maximum_tokens: what the convolution and the recurrent part see of a longer text, half of it from each end."""

    maximum_tokens: Positive = 400


class BagOfNgrams(Section, frozen=True, kw_only=True):
    """order: longest n-gram. minimum_count: texts it must occur in. naive_bayes: weights start as those of a naive-Bayes classifier.

    penalty: squared weights, summed over the n-grams of a text, that the loss holds against the part.
    """

    order: Annotated[int, Meta(ge=1, le=3)] = 3
    minimum_count: Positive = 2
    size: Positive = 2_000_000
    naive_bayes: bool = True
    prior: Annotated[float, Meta(ge=0)] = 0.4
    scale: Annotated[float, Meta(gt=0)] = 0.1
    penalty: Annotated[float, Meta(ge=0)] = 0.0


class Convolution(Section, frozen=True, kw_only=True):
    """embedding: features of a word vector. widths: tokens that a filter sees. filters: of each width."""

    embedding: Positive = 128
    widths: Annotated[tuple[Positive, ...], Meta(min_length=1)] = (1, 2, 3)
    filters: Positive = 128
    token_dropout: Share = 0.1
    embedding_dropout: Share = 0.2
    dropout: Share = 0.5


class Recurrent(Section, frozen=True, kw_only=True):
    """cell: LSTM or GRU. units: of each direction. pooling: how the token vectors become one."""

    embedding: Positive = 128
    cell: Literal["lstm", "gru"] = "lstm"
    units: Positive = 128
    bidirectional: bool = True
    pooling: Literal["max", "mean", "max_mean", "attention", "last"] = "max"
    token_dropout: Share = 0.1
    embedding_dropout: Share = 0.3
    dropout: Share = 0.5


class Model(Section, frozen=True, kw_only=True):
    """`[model]`: parts, and a section of its own for each."""

    parts: Annotated[tuple[Part, ...], Meta(min_length=1)] = ("bag_of_ngrams", "recurrent")
    label_smoothing: Share = 0.0
    bag_of_ngrams: BagOfNgrams = BagOfNgrams()
    convolution: Convolution = Convolution()
    recurrent: Recurrent = Recurrent()


class Recipe(recipe.Recipe, frozen=True, kw_only=True):
    data: Data
    text: Text = Text()
    model: Model = Model()


def _answers(outputs: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """One dict a text: the label, its probability, and that of each label."""
    rows = []
    for label, probabilities, labels in zip(outputs["label"], outputs["probabilities"], outputs["labels"], strict=True):
        each = {name.decode(): round(float(p), 6) for name, p in zip(labels, probabilities, strict=True)}
        rows.append({"label": label.decode(), "probability": max(each.values()), "probabilities": each})
    return rows


class Sentiment(Task):
    """Texts to labels."""

    recipe_type = Recipe
    headline: ClassVar[str] = "accuracy"
    order: ClassVar[tuple[str, ...]] = ("text", "label")
    verbs: ClassVar[tuple[Verb, ...]] = (
        Verb(
            name="predict",
            help="Label and probability of each line of text.",
            signature="serving_default",
            answers=_answers,
            text=lambda answer: f"{answer['label']}\t{answer['probability']:.4f}",
        ),
    )

    # Data

    @classmethod
    def columns(cls, data: recipe.Data) -> Mapping[str, Sequence[str]]:
        assert isinstance(data, Data)
        return {
            "text": (data.text_column,) if data.text_column else ("text", "sentence"),
            "label": (data.label_column,) if data.label_column else ("label",),
        }

    def read(self, rows: Iterable[Row]) -> Iterator[Example]:
        for row in rows:
            label = row.fields["label"].strip()
            if not label:
                raise UserError(
                    f"{row.where}: a row without a label", "give every row of this split a label, or leave the row out"
                )
            yield Example((row.fields["text"],), label, row.where)

    # Resources: vocabulary.tsv, labels.json, ngrams.npz

    @property
    def _deep(self) -> bool:
        return self.recipe.model.parts != ("bag_of_ngrams",)

    @property
    def _wide(self) -> bool:
        return "bag_of_ngrams" in self.recipe.model.parts

    def prepare(self, examples: Callable[[], Iterator[Example]], folder: Path) -> None:
        labels: dict[str, Any] = {}
        text = self.recipe.text
        split = self._tokenizer()

        def flat_tokens() -> Iterator[tf.Tensor]:
            for batch in _batches(examples()):
                for example in batch:
                    labels.setdefault(example.target, example.where)
                yield split(tf.constant([example.inputs[0] for example in batch])).text.flat_values

        counts = vocabulary.count_tokens(flat_tokens())
        if len(labels) < 2:
            found = f"only one class, {next(iter(labels))!r}" if labels else "no rows"
            raise UserError(f"the training data has {found}", "give training data with at least two different labels")
        if len(labels) > 1000:
            raise UserError(f"the training data has {len(labels):,} different labels; are the columns swapped?",
                            'for a file without header line, set data.columns = ["label", "text"]')  # fmt: skip
        (folder / "labels.json").write_text(json.dumps(sorted(labels), ensure_ascii=False, indent=1))
        vocabulary.write_vocabulary(
            folder / "vocabulary.tsv", counts, minimum_count=text.minimum_count, size=text.vocabulary_size
        )
        if self._wide:
            self._count_ngrams(examples, split, folder)

    def _count_ngrams(self, examples: Callable[[], Iterator[Example]], split: Callable[..., Any], folder: Path) -> None:
        """N-grams with the number of texts of each class they occur in, as log-count ratios (Wang & Manning 2012, eq. 1-2)."""
        options = self.recipe.model.bag_of_ngrams
        words = vocabulary.Vocabulary(folder / "vocabulary.tsv")
        place = {label: index for index, label in enumerate(json.loads((folder / "labels.json").read_text()))}
        counter = _NgramCounter(len(place))
        keys_of = tf.function(lambda texts: ngrams.ngram_keys(words.lookup(split(texts).text), options.order), autograph=False)
        for batch in _batches(examples()):
            found = keys_of(tf.constant([example.inputs[0] for example in batch]))
            classes = np.array([place[example.target] for example in batch])
            counter.add(found.values.numpy(), classes[found.value_rowids().numpy()])
        keys, counts = counter.result()
        frequency = counts.sum(1)
        kept = frequency >= options.minimum_count
        if kept.sum() > options.size:
            kept &= frequency > np.partition(frequency, -options.size)[-options.size]
        keys, counts = keys[kept], counts[kept]
        if not len(keys):
            raise UserError("no n-gram of the training data is frequent enough",
                            f"model.bag_of_ngrams.minimum_count is {options.minimum_count}")  # fmt: skip
        here = counts + 1.0
        elsewhere = counts.sum(1, keepdims=True) - counts + 1.0
        ratios = np.log(here / here.sum(0)) - np.log(elsewhere / elsewhere.sum(0))
        ratios = np.concatenate([np.zeros((1, len(place))), ratios]).astype(np.float32)
        np.savez(folder / "ngrams.npz", keys=keys, order=options.order, ratios=ratios)

    def _tokenizer(self) -> Any:
        text = self.recipe.text
        split = tokenizer.Tokenizer(text.lowercase, text.blank)
        function = tf.function(split.__call__, autograph=False, input_signature=[tf.TensorSpec([None], tf.string)])
        function.tokenizer = split  # keeps the character table alive with the function
        return function

    def load(self, folder: Path) -> None:
        self.labels: list[str] = json.loads((folder / "labels.json").read_text())
        self.vocabulary = vocabulary.Vocabulary(folder / "vocabulary.tsv")
        text = self.recipe.text
        self.tokenizer = tokenizer.Tokenizer(text.lowercase, text.blank)
        self.label_names = tf.constant(self.labels)
        if self._wide:
            self.ngrams = ngrams.NgramVocabulary.load(folder / "ngrams.npz")
            with np.load(folder / "ngrams.npz") as content:
                self.ratios = content["ratios"]

    # Encoding

    def encode(self, *strings: tf.Tensor) -> dict[str, tf.Tensor | tf.RaggedTensor]:
        (texts,) = strings
        ids = self.vocabulary.lookup(self.tokenizer(texts).text)
        fields = {}
        if self._wide:
            fields["ngrams"] = self.ngrams.lookup(ids)
        if self._deep:
            fields["tokens"] = _both_ends(ids, self.recipe.text.maximum_tokens)
        return fields

    def targets(self, examples: Sequence[Example]) -> Mapping[str, np.ndarray]:
        place = {label: index for index, label in enumerate(self.labels)}
        for example in examples:
            if example.target not in place:
                raise UserError(f"{example.where}: label {example.target!r} was never seen in training",
                                f"the training data has: {', '.join(self.labels[:20])}")  # fmt: skip
        return {"label": np.array([place[example.target] for example in examples], np.int32)}

    @property
    def length_field(self) -> str:
        return "tokens" if self._deep else "ngrams"

    # Model

    def build(self) -> keras.Model:
        parts: dict[str, Any] = {}
        for part in self.recipe.model.parts:
            parts |= getattr(self, f"_{part}_layers")()
        return layers.Model(self._logits, **parts)

    def _logits(self, model: Any, batch: dict[str, tf.Tensor], noise: Noise | None) -> dict[str, tf.Tensor]:
        """`<float32>[rows, labels]` of each part."""
        logits = {part: getattr(self, f"_{part}_logits")(model, batch, noise) for part in self.recipe.model.parts}
        return {part: value if value.dtype == tf.float64 else tf.cast(value, tf.float32) for part, value in logits.items()}

    def _bag_of_ngrams_layers(self) -> dict[str, Any]:
        options = self.recipe.model.bag_of_ngrams
        ratios = self.ratios if options.naive_bayes else None
        return {
            "bag_of_ngrams": layers.BagOfNgrams(
                len(self.ngrams), len(self.labels), ratios, prior=options.prior, scale=options.scale
            )
        }

    def _bag_of_ngrams_logits(self, model: Any, batch: dict[str, tf.Tensor], noise: Noise | None) -> tf.Tensor:
        return model.bag_of_ngrams(batch["ngrams"])

    def _convolution_layers(self) -> dict[str, Any]:
        options = self.recipe.model.convolution
        filters = {f"convolution_{width}": layers.Convolution(options.filters, width) for width in options.widths}
        return filters | {
            "convolution_token_dropout": layers.TokenDropout(options.token_dropout, vocabulary.UNKNOWN),
            "convolution_embedding": layers.Embedding(len(self.vocabulary), options.embedding),
            "convolution_embedding_dropout": layers.Dropout(options.embedding_dropout),
            "convolution_dropout": layers.Dropout(options.dropout),
            "convolution_output": keras.layers.Dense(len(self.labels)),
        }

    def _convolution_logits(self, model: Any, batch: dict[str, tf.Tensor], noise: Noise | None) -> tf.Tensor:
        lengths = batch["tokens_lengths"]
        ids = model.convolution_token_dropout(batch["tokens"], noise)
        vectors = model.convolution_embedding_dropout(model.convolution_embedding(ids), noise)
        pooled = [
            layers.max_pooling(getattr(model, f"convolution_{width}")(vectors, lengths), lengths)
            for width in self.recipe.model.convolution.widths
        ]
        return model.convolution_output(model.convolution_dropout(tf.concat(pooled, -1), noise))

    def _recurrent_layers(self) -> dict[str, Any]:
        options = self.recipe.model.recurrent
        cell = {"lstm": layers.LSTM, "gru": layers.GRU}[options.cell]
        network = layers.Bidirectional(cell(options.units), cell(options.units)) if options.bidirectional else cell(options.units)
        attention = {"attention_pooling": layers.AttentionPooling(options.units)} if options.pooling == "attention" else {}
        return attention | {
            "recurrent_token_dropout": layers.TokenDropout(options.token_dropout, vocabulary.UNKNOWN),
            "recurrent_embedding": layers.Embedding(len(self.vocabulary), options.embedding),
            "recurrent_embedding_dropout": layers.Dropout(options.embedding_dropout),
            "recurrent_network": network,
            "recurrent_dropout": layers.Dropout(options.dropout),
            "recurrent_output": keras.layers.Dense(len(self.labels)),
        }

    def _recurrent_logits(self, model: Any, batch: dict[str, tf.Tensor], noise: Noise | None) -> tf.Tensor:
        lengths = batch["tokens_lengths"]
        ids = model.recurrent_token_dropout(batch["tokens"], noise)
        vectors = model.recurrent_embedding_dropout(model.recurrent_embedding(ids), noise)
        outputs, _ = model.recurrent_network(vectors, lengths)
        pooling = self.recipe.model.recurrent.pooling
        if pooling == "attention":
            pooled = model.attention_pooling(outputs, lengths)
        else:
            pooled = tf.concat([getattr(layers, f"{name}_pooling")(outputs, lengths) for name in pooling.split("_")], -1)
        return model.recurrent_output(model.recurrent_dropout(pooled, noise))

    # Loss and answers

    def loss(self, model: Any, batch: dict[str, tf.Tensor], state: Any, noise: Noise | None) -> Loss:
        logits = model(batch, noise)
        any_logits = next(iter(logits.values()))
        weight = tf.cast(batch["weight"], any_logits.dtype)
        gold = tf.one_hot(batch["label"], len(self.labels), dtype=any_logits.dtype)
        mixed = _mixture(logits)
        right = tf.cast(tf.argmax(mixed, -1, tf.int32) == batch["label"], weight.dtype)
        parts = {"accuracy": (tf.reduce_sum(weight * right), tf.reduce_sum(weight))}
        if noise is None:
            losses = tf.nn.softmax_cross_entropy_with_logits(gold, mixed)
        else:
            smoothing = self.recipe.model.label_smoothing
            gold = gold * (1 - smoothing) + smoothing / len(self.labels)
            losses = tf.add_n([tf.nn.softmax_cross_entropy_with_logits(gold, value) for value in logits.values()])
            if self._wide and self.recipe.model.bag_of_ngrams.penalty:
                weights = tf.gather(model.bag_of_ngrams.weights_table.value, batch["ngrams"])
                losses += self.recipe.model.bag_of_ngrams.penalty * tf.cast(tf.reduce_sum(weights**2, [1, 2]), losses.dtype)
        return Loss(tf.reduce_sum(weight * losses), tf.reduce_sum(weight), parts, state)

    def signatures(self, model: Any) -> dict[str, Signature]:
        def serving_default(texts: tf.Tensor) -> dict[str, tf.Tensor]:
            """`<string>[batch]` → label `<string>[batch]`, probabilities `<float>[batch, labels]`, labels `<string>[batch, labels]`."""
            batch = {}
            for name, values in self.encode(texts).items():
                batch[name] = _padded(values)
                batch[f"{name}_lengths"] = tf.cast(values.row_lengths(), tf.int32)
            probabilities = tf.nn.softmax(_mixture(model(batch, None)))
            rows = tf.shape(texts)[0]
            return {
                "label": tf.gather(self.label_names, tf.argmax(probabilities, -1)),
                "probabilities": probabilities,
                "labels": tf.tile(self.label_names[None], [rows, 1]),
            }

        return {"serving_default": Signature(serving_default, ("texts",))}

    def resources(self) -> list[Any]:
        ngram_keys = [self.ngrams.variable] if self._wide else []
        return [self.vocabulary.table, self.tokenizer.table, *ngram_keys]

    # Scores

    def evaluate(
        self, answer: Callable[[str, list[tuple[str, ...]]], dict[str, np.ndarray]], examples: Sequence[Example]
    ) -> list[dict[str, Any]]:
        outputs = answer("serving_default", [example.inputs for example in examples])
        place = {label: index for index, label in enumerate(self.labels)}
        results = []
        for index, (example, probabilities) in enumerate(zip(examples, outputs["probabilities"], strict=True)):
            chosen = float(probabilities[place[example.target]])
            results.append(
                {
                    "id": index,
                    "where": str(example.where),
                    "gold": example.target,
                    "answer": self.labels[int(probabilities.argmax())],
                    "loss": -float(np.log(max(chosen, 1e-12))),
                    "probabilities": [float(p) for p in probabilities],
                    "length": len(example.inputs[0].split()),
                }
            )
        return results

    def score(self, results: Sequence[dict[str, Any]]) -> Scores:
        gold = [self.labels.index(result["gold"]) for result in results]
        return scores.classification(gold, np.array([result["probabilities"] for result in results]), self.labels)

    def baseline(self, train: Callable[[], Iterator[Example]], test: Sequence[Example]) -> tuple[str, Scores]:
        """TF-IDF of 1-2-grams and logistic regression, scikit-learn's defaults."""
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline

        texts, labels = zip(*((example.inputs[0], example.target) for example in train()), strict=True)
        pipeline = make_pipeline(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(C=10, max_iter=200))
        pipeline.fit(texts, labels)
        probabilities = pipeline.predict_proba([example.inputs[0] for example in test])
        gold = [self.labels.index(example.target) for example in test]
        return "TF-IDF 1-2-grams + logistic regression", scores.classification(gold, probabilities, list(pipeline.classes_))


class _NgramCounter:
    """Counts (key, class) pairs, merging what it holds whenever much has come in."""

    def __init__(self, classes: int, merge_at: int = 20_000_000) -> None:
        self._classes, self._merge_at = classes, merge_at
        self._keys, self._counts = np.zeros(0, np.int64), np.zeros((0, classes), np.int64)
        self._pending: list[tuple[np.ndarray, np.ndarray]] = []
        self._waiting = 0

    def add(self, keys: np.ndarray, classes: np.ndarray) -> None:
        self._pending.append((keys, classes))
        self._waiting += len(keys)
        if self._waiting > self._merge_at:
            self._merge()

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """`<int64>[ngrams]`, ascending, and `<int64>[ngrams, classes]`."""
        self._merge()
        return self._keys, self._counts

    def _merge(self) -> None:
        new = np.concatenate([keys for keys, _ in self._pending]) if self._pending else np.zeros(0, np.int64)
        classes = np.concatenate([classes for _, classes in self._pending]) if self._pending else np.zeros(0, np.int64)
        keys, place = np.unique(np.concatenate([self._keys, new]), return_inverse=True)
        counts = np.zeros((len(keys), self._classes), np.int64)
        counts[place[: len(self._keys)]] = self._counts
        flat = place[len(self._keys) :] * self._classes + classes
        counts += np.bincount(flat, minlength=counts.size).reshape(counts.shape)
        self._keys, self._counts, self._pending, self._waiting = keys, counts, [], 0


def _batches(examples: Iterable[Example], size: int = 256) -> Iterator[list[Example]]:
    batch: list[Example] = []
    for example in examples:
        batch.append(example)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _both_ends(ids: tf.RaggedTensor, limit: int) -> tf.RaggedTensor:
    """The first and the last tokens of rows longer than `limit`, half of it each.

    Example: limit 4, row [1, 2, 3, 4, 5, 6] → [1, 2, 5, 6].
    """
    rows = ids.value_rowids()
    position = tf.range(tf.size(ids.values, tf.int64)) - tf.gather(ids.row_starts(), rows)
    from_end = tf.gather(ids.row_lengths(), rows) - position
    kept = (position < limit - limit // 2) | (from_end <= limit // 2)
    return tf.RaggedTensor.from_value_rowids(
        tf.boolean_mask(ids.values, kept), tf.boolean_mask(rows, kept), nrows=ids.nrows(), validate=False
    )


def _padded(values: tf.RaggedTensor) -> tf.Tensor:
    """`<int32>[batch, longest]`, padded by 0; at least one column."""
    dense = values.to_tensor()
    return tf.pad(dense, [[0, 0], [0, tf.maximum(0, 1 - tf.shape(dense)[1])]])


def _mixture(logits: dict[str, tf.Tensor]) -> tf.Tensor:
    """The mean of the parts' log probabilities: a product of experts, `<float>[rows, labels]`."""
    return tf.add_n([tf.nn.log_softmax(value) for value in logits.values()]) / len(logits)
