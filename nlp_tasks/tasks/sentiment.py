"""Sentiment classification, and any other task that gives a text one label of a fixed set.

The model has one or several parts, each a classifier of its own: a bag of n-grams (what is said), a convolution (short phrases), a
recurrent network (order and scope). Each part is trained by its own loss, so that a part which learns fast leaves the others
something to learn; the answer averages their log probabilities.
"""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from msgspec import Meta

from nlp_tasks import recipe
from nlp_tasks.data.rows import CHUNK, Counts, Row, chunks
from nlp_tasks.errors import UserError
from nlp_tasks.lazy import lazy
from nlp_tasks.progress import tell
from nlp_tasks.recipe import NonNegative, Positive, Section, Share, check_unused
from nlp_tasks.tasks.known_words import words_of_the_file
from nlp_tasks.tasks.task import Example, Inputs, Loss, Signature, Task, Verb

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from nlp_tasks import layers, scores
    from nlp_tasks.layers import Noise
    from nlp_tasks.scores import Scores
    from nlp_tasks.text import affixes, ngrams, ragged, tokenizer, vocabulary, word_vectors
else:
    keras, tf = lazy("keras"), lazy("tensorflow")
    layers, scores = lazy("nlp_tasks.layers"), lazy("nlp_tasks.scores")
    affixes, ngrams, ragged = (lazy(f"nlp_tasks.text.{name}") for name in ("affixes", "ngrams", "ragged"))
    tokenizer, vocabulary = lazy("nlp_tasks.text.tokenizer"), lazy("nlp_tasks.text.vocabulary")
    word_vectors = lazy("nlp_tasks.text.word_vectors")

RARE = 5
"""A token that training has fewer times is rare."""

Part = Literal["bag_of_ngrams", "convolution", "recurrent"]


class Data(recipe.Data, frozen=True, kw_only=True):
    """`[data]`: text_column and label_column name the columns where a header or a data set calls them otherwise.

    columns: the order of the columns of a file without header line.
    vectors: a file of word vectors as text (GloVe, word2vec; .gz too), below directory, for parts with initial = "vectors".
    """

    text_column: str = ""
    label_column: str = ""
    columns: tuple[str, ...] = ("text", "label")
    vectors: str = ""


class Text(recipe.Text, frozen=True, kw_only=True):
    """`[text]`: maximum_tokens: what the convolution and the recurrent part see of a longer text, from its two ends.

    share_from_start: of these tokens; the others are the last ones.
    """

    maximum_tokens: Positive = 400
    share_from_start: Annotated[float, Meta(ge=0, le=1)] = 0.25


class BagOfNgrams(Section, frozen=True, kw_only=True):
    """order: longest n-gram. minimum_count: texts it must occur in. naive_bayes: weights start as those of a naive-Bayes classifier.

    weight: of the part's log probabilities in the answer. learning_rate_factor: the part's learning rate, in units of the recipe's.
    """

    order: Annotated[int, Meta(ge=1, le=3)] = 3
    minimum_count: Positive = 2
    size: Positive = 2_000_000
    naive_bayes: bool = True
    prior: Annotated[float, Meta(ge=0)] = 0.4
    scale: Annotated[float, Meta(gt=0)] = 0.75
    weight: Annotated[float, Meta(gt=0)] = 1.0
    learning_rate_factor: Annotated[float, Meta(gt=0)] = 20.0


class Network(Section, frozen=True, kw_only=True):
    """What the parts over word vectors share.

    embedding: features of a word vector. vocabulary: so many of the most frequent tokens have one (with vectors of a file, all).
    initial: "random"; "ppmi": counted on the training texts, which helps where texts are many and labels few; "vectors": those of
        data.vectors, which decides their features too. Words that the file lacks start at random, as large as the others (Kim 2014).
    vectors: whether those of the file are "tuned", after so many steps (tuned_after), or stay as they are ("frozen").
    affixes: number of hashed beginnings and endings of words that have a vector too (0: none); they speak for unknown words.
    copies: so many networks, alike but for their initial weights, each with a loss of its own.
    token_dropout, affix_dropout, embedding_dropout, dropout: shares left out in training.
    """

    embedding: Positive = 128
    vocabulary: Positive = 200_000
    initial: Literal["random", "ppmi", "vectors"] = "random"
    vectors: Literal["frozen", "tuned"] = "tuned"
    tuned_after: NonNegative = 0
    affixes: NonNegative = 0
    copies: Positive = 1
    token_dropout: Share = 0.1
    affix_dropout: Share = 0.2
    embedding_dropout: Share = 0.3
    dropout: Share = 0.5
    weight: Annotated[float, Meta(gt=0)] = 1.0


class Convolution(Network, frozen=True, kw_only=True):
    """widths: tokens that a filter sees. filters: of each width."""

    widths: Annotated[tuple[Positive, ...], Meta(min_length=1)] = (1, 2, 3)
    filters: Positive = 128


class Recurrent(Network, frozen=True, kw_only=True):
    """cell: LSTM, GRU, or the light MinGRU. units: of each direction. pooling: how the token vectors become one.

    window: the network starts afresh after so many tokens, which makes long texts fast; 0 reads a text from end to end.
    """

    cell: Literal["lstm", "gru", "min_gru"] = "lstm"
    units: Positive = 128
    bidirectional: bool = True
    window: NonNegative = 0
    pooling: Literal["max", "mean", "max_mean", "attention", "max_attention", "last"] = "max"


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


def _label(text: str, answer: Mapping[str, Any], options: Mapping[str, Any]) -> str:
    return f"{answer['label']}\t{answer['probability']:.4f}"


class Sentiment(Task):
    """Texts to labels."""

    recipe_type = Recipe
    headline = "accuracy"
    order: ClassVar[tuple[str, ...]] = ("text", "label")
    verbs = (Verb(name="predict", answers=_answers, text=_label, tsv=lambda text, answer: f"{text}\t{_label(text, answer, {})}"),)

    def __init__(self, recipe: recipe.Recipe) -> None:
        super().__init__(recipe)
        read = [part for part, options in self._networks.items() if options.initial == "vectors"]
        if bool(read) != bool(self.recipe.data.vectors):
            missing = (
                f'model.{read[0]}.initial = "vectors" without data.vectors'
                if read
                else "data.vectors without a part that reads it"
            )
            raise UserError(
                missing, 'set both, such as data.vectors = "glove.6B.100d.txt" and model.recurrent.initial = "vectors"'
            )
        for part, options in self._networks.items():
            if options.initial != "vectors":
                check_unused(f"model.{part}", options, ("tuned_after",), f'initial = "{options.initial}"')
                continue
            check_unused(f"model.{part}", options, ("vocabulary",), 'initial = "vectors"')
            if options.vectors == "frozen":
                check_unused(f"model.{part}", options, ("tuned_after",), 'vectors = "frozen"')

    # Data

    @classmethod
    def columns(cls, data: recipe.Data) -> Mapping[str, Sequence[str]]:
        assert isinstance(data, Data)
        return {
            "text": (data.text_column,) if data.text_column else ("text", "sentence"),
            "label": (data.label_column,) if data.label_column else ("label",),
        }

    def read(self, rows: Iterable[Row], counts: Counts) -> Iterator[Example]:
        for row in rows:
            label = row.fields["label"].strip()
            if not label:
                raise UserError(
                    f"{row.where}: a row without a label", "give every row of this split a label, or leave the row out"
                )
            yield Example((row.fields["text"],), label, row.where)

    refuses_unseen = True

    def labels_of(self, example: Example) -> Sequence[str]:
        return (example.target,)

    def check_labels(self, labels: Mapping[str, int]) -> None:
        if len(labels) < 2:
            found = f"only one class, {next(iter(labels))!r}" if labels else "no rows"
            raise UserError(f"the training data has {found}", "give training data with at least two different labels")
        if len(labels) > 1000:
            raise UserError(f"the training data has {len(labels):,} different labels; are the columns swapped?",
                            'for a file without header line, set data.columns = ["label", "text"]')  # fmt: skip

    @functools.cached_property
    def tokenizer(self) -> Any:
        text = self.recipe.text
        return tokenizer.Tokenizer(text.lowercase, text.blank)

    def tokenize(self, *strings: tf.Tensor) -> dict[str, tf.RaggedTensor]:
        return {"tokens": self.tokenizer(strings[0]).text}

    @property
    def limits(self) -> dict[str, int]:
        return {"tokens": self.recipe.text.maximum_tokens} if self._networks else {}

    def further_tokens(self) -> list[bytes]:
        return words_of_the_file(self.recipe.data)

    # Resources: vocabulary.tsv, labels.json, ngrams.npz, vectors.npz, vectors.npy

    @property
    def _networks(self) -> dict[str, Network]:
        """The parts over word vectors, by name."""
        model = self.recipe.model
        return {part: getattr(model, part) for part in model.parts if part != "bag_of_ngrams"}

    @property
    def _affixes(self) -> int:
        return max((options.affixes for options in self._networks.values()), default=0)

    @property
    def _wide(self) -> bool:
        return "bag_of_ngrams" in self.recipe.model.parts

    def prepare(self, examples: Callable[[], Iterator[Example]], folder: Path) -> None:
        labels: Counter[str] = Counter()
        text = self.recipe.text
        split = tf.function(
            lambda texts: self.tokenize(texts)["tokens"], autograph=False, input_signature=[tf.TensorSpec([None], tf.string)]
        )

        def flat_tokens() -> Iterator[tf.Tensor]:
            for batch in chunks(examples(), CHUNK):
                labels.update(example.target for example in batch)
                yield split(tf.constant([example.inputs[0] for example in batch])).flat_values

        counts = vocabulary.count_tokens(flat_tokens())
        self.check_labels(labels)
        (folder / "labels.json").write_text(json.dumps(sorted(labels), ensure_ascii=False, indent=1))
        vocabulary.write_vocabulary(
            folder / "vocabulary.tsv", counts, minimum_count=text.minimum_count, size=text.vocabulary_size
        )
        if vectors := self.recipe.data.vectors:
            path = self.recipe.data.path(vectors)
            tell(word_vectors.add_vectors(folder / "vocabulary.tsv", path, counts, folder / "vectors.npy"))
        if self._wide:
            self._count_ngrams(examples, split, folder)
        self._count_vectors(examples, split, folder)

    def _count_ngrams(self, examples: Callable[[], Iterator[Example]], split: Callable[..., Any], folder: Path) -> None:
        """N-grams with the number of texts of each class they occur in, as the naive-Bayes prior needs them."""
        options = self.recipe.model.bag_of_ngrams
        words = vocabulary.Vocabulary(folder / "vocabulary.tsv")
        place = {label: index for index, label in enumerate(json.loads((folder / "labels.json").read_text()))}
        counter = ngrams.NgramCounter(len(place))
        keys_of = tf.function(lambda texts: ngrams.ngram_keys(words.lookup(split(texts)), options.order), autograph=False)
        for batch in chunks(examples(), CHUNK):
            found = keys_of(tf.constant([example.inputs[0] for example in batch]))
            classes = np.array([place[example.target] for example in batch])
            counter.add(found.values.numpy(), classes[found.value_rowids().numpy()])
        keys, counts = counter.result()
        frequency = counts.sum(1)
        kept = frequency >= options.minimum_count
        if kept.sum() > options.size:
            kept &= frequency > np.partition(frequency, -options.size)[-options.size]  # of those that are as frequent: none
        keys, counts = keys[kept], counts[kept]
        if not len(keys):
            raise UserError("no n-gram of the training data is frequent enough",
                            f"model.bag_of_ngrams.minimum_count is {options.minimum_count}, its size {options.size:,}")  # fmt: skip
        counts = np.concatenate([np.zeros((1, len(place)), np.int64), counts])
        np.savez(folder / "ngrams.npz", keys=keys, order=options.order, counts=counts)

    def _count_vectors(self, examples: Callable[[], Iterator[Example]], split: Callable[..., Any], folder: Path) -> None:
        """Initial word vectors of the parts that ask for them."""
        words = vocabulary.Vocabulary(folder / "vocabulary.tsv")
        ids_of = tf.function(lambda texts: words.lookup(split(texts)), autograph=False)

        def batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
            for batch in chunks(examples(), 4096):
                ids = ids_of(tf.constant([example.inputs[0] for example in batch]))
                yield ids.values.numpy(), ids.value_rowids().numpy()

        counted: dict[str, Any] = {}
        for part, options in self._networks.items():
            if options.initial == "ppmi":
                size = min(len(words), options.vocabulary + vocabulary.FIRST)
                counted[part] = word_vectors.ppmi_vectors(batches(), size, options.embedding)
        np.savez(folder / "vectors.npz", **counted)

    def load(self, folder: Path) -> None:
        self.labels: list[str] = json.loads((folder / "labels.json").read_text())
        self.vocabulary = vocabulary.Vocabulary(folder / "vocabulary.tsv")
        self.label_names = tf.constant(self.labels)
        with np.load(folder / "vectors.npz") as content:
            self.vectors = dict(content)
        if self.recipe.data.vectors:
            table = word_vectors.completed(np.load(folder / "vectors.npy"), self.recipe.training.seed)
            self.vectors |= {part: table for part, options in self._networks.items() if options.initial == "vectors"}
        if self._wide:
            self.ngrams = ngrams.NgramVocabulary.load(folder / "ngrams.npz")
            with np.load(folder / "ngrams.npz") as content:
                self.ngram_counts = content["counts"]

    # Encoding

    def encode(self, *strings: tf.Tensor) -> dict[str, tf.Tensor | tf.RaggedTensor]:
        (texts,) = strings
        words = self.tokenizer(texts).text
        ids = self.vocabulary.lookup(words)
        fields = {}
        if self._wide:
            fields["ngrams"] = self.ngrams.lookup(ids)
        if self._networks:
            text = self.recipe.text
            ends = ragged.both_ends(ids, text.maximum_tokens, text.share_from_start)
            fields["tokens"] = ragged.keep(ids, ends)
            if self._affixes:
                fields["affixes"] = ragged.keep(words.with_values(affixes.affix_ids(words.values, self._affixes)), ends)
        return fields

    def padded(self, texts: tf.Tensor) -> dict[str, tf.Tensor]:
        """`<string>[batch]` → what the model takes: fields padded by 0, with their lengths."""
        return ragged.batch(self.encode(texts))

    def knows_target(self, example: Example) -> bool:
        return example.target in self.labels

    def targets(self, examples: Sequence[Example]) -> Mapping[str, np.ndarray]:
        place = {label: index for index, label in enumerate(self.labels)}
        for example in examples:
            if example.target not in place:
                raise UserError(f"{example.where}: label {example.target!r} was never seen in training",
                                f"the training data has: {', '.join(self.labels[:20])}")  # fmt: skip
        return {"label": np.array([place[example.target] for example in examples], np.int32)}

    @property
    def length_field(self) -> str:
        return "tokens" if self._networks else "ngrams"

    # Model

    def build(self) -> keras.Model:
        made: dict[str, Any] = {}
        for name, part in self._named_parts():
            made |= {f"{name}_{layer}": value for layer, value in getattr(self, f"_{part}_layers")().items()}
        return layers.Model(self._logits, **made)

    def _named_parts(self) -> list[tuple[str, str]]:
        """(name, part) of each classifier: a part with two copies gives "recurrent_1" and "recurrent_2"."""
        named = []
        for part in self.recipe.model.parts:
            copies = getattr(self.recipe.model, part).copies if part in self._networks else 1
            named += [(part if copies == 1 else f"{part}_{number}", part) for number in range(1, copies + 1)]
        return named

    def _weights(self) -> dict[str, float]:
        """The weight of each classifier in the answer; they sum to 1."""
        named = self._named_parts()
        shares = {name: getattr(self.recipe.model, part).weight / sum(p == part for _, p in named) for name, part in named}
        return {name: share / sum(shares.values()) for name, share in shares.items()}

    def _logits(self, model: Any, batch: dict[str, tf.Tensor], noise: Noise | None) -> dict[str, tf.Tensor]:
        """`<float32>[rows, labels]` of each classifier."""
        logits = {}
        for name, part in self._named_parts():
            value = getattr(self, f"_{part}_logits")(lambda layer, name=name: getattr(model, f"{name}_{layer}"), batch, noise)
            logits[name] = value if value.dtype == tf.float64 else tf.cast(value, tf.float32)
        return logits

    def _bag_of_ngrams_layers(self) -> dict[str, Any]:
        options = self.recipe.model.bag_of_ngrams
        counts = self.ngram_counts if options.naive_bayes else None
        bag = layers.BagOfNgrams(len(self.ngrams), len(self.labels), counts, prior=options.prior, scale=options.scale)
        return {"linear": bag}

    def _bag_of_ngrams_logits(self, layer: Callable[[str], Any], batch: dict[str, tf.Tensor], noise: Noise | None) -> tf.Tensor:
        return layer("linear")(batch["ngrams"], None if noise is None else batch["label"])

    def _known(self, part: str) -> int:
        """How many ids have a vector in this part: with a file of vectors all of them."""
        options, every = self._networks[part], len(self.vocabulary)
        return every if options.initial == "vectors" else min(every, options.vocabulary + vocabulary.FIRST)

    def _word_layers(self, part: str) -> dict[str, Any]:
        options, initial = self._networks[part], self.vectors.get(part)
        size = self._known(part)
        features = options.embedding if initial is None else initial.shape[1]
        made = {
            "token_dropout": layers.TokenDropout(options.token_dropout, vocabulary.UNKNOWN),
            "embedding": layers.Embedding(
                size, features, initial=None if initial is None else initial[:size], tuned=options.vectors == "tuned"
            ),
            "embedding_dropout": layers.Dropout(options.embedding_dropout),
            "dropout": layers.Dropout(options.dropout),
            "output": keras.layers.Dense(len(self.labels)),
        }
        if options.affixes:
            made["affix_dropout"] = layers.TokenDropout(options.affix_dropout, vocabulary.PADDING)
            made["affix_embedding"] = layers.Embedding(options.affixes + 1, features)
        return made

    def _word_vectors(
        self, part: str, layer: Callable[[str], Any], batch: dict[str, tf.Tensor], noise: Noise | None
    ) -> tf.Tensor:
        """`<float>[rows, tokens, features]`: the word's vector plus, where affixes are on, those of its beginnings and endings."""
        options = self._networks[part]
        ids = tf.where(batch["tokens"] < self._known(part), batch["tokens"], vocabulary.UNKNOWN)
        vectors = layer("embedding")(layer("token_dropout")(ids, noise))
        if options.affixes:
            shape = tf.shape(batch["affixes"])
            flat = tf.reshape(batch["affixes"], [shape[0], shape[1] * affixes.PER_TOKEN])
            kept = tf.reshape(layer("affix_dropout")(flat, noise), shape) % (options.affixes + 1)
            present = tf.cast(kept > 0, vectors.dtype)[..., None]
            total = tf.reduce_sum(layer("affix_embedding")(kept) * present, 2)
            vectors += total * tf.math.rsqrt(1 + tf.reduce_sum(present, 2))
        return layer("embedding_dropout")(vectors, noise)

    def _convolution_layers(self) -> dict[str, Any]:
        options = self.recipe.model.convolution
        filters = {f"width_{width}": layers.Convolution(options.filters, width) for width in options.widths}
        return self._word_layers("convolution") | filters

    def _convolution_logits(self, layer: Callable[[str], Any], batch: dict[str, tf.Tensor], noise: Noise | None) -> tf.Tensor:
        lengths = batch["tokens_lengths"]
        vectors = self._word_vectors("convolution", layer, batch, noise)
        widths = self.recipe.model.convolution.widths
        pooled = [layers.max_pooling(layer(f"width_{width}")(vectors, lengths), lengths) for width in widths]
        return layer("output")(layer("dropout")(tf.concat(pooled, -1), noise))

    def _recurrent_layers(self) -> dict[str, Any]:
        options = self.recipe.model.recurrent
        cells: dict[str, Any] = {"lstm": layers.LSTM, "gru": layers.GRU, "min_gru": layers.MinGRU}
        cell = cells[options.cell]
        network = layers.Bidirectional(cell(options.units), cell(options.units)) if options.bidirectional else cell(options.units)
        if options.window:
            network = layers.Windows(network, options.window)
        attention = {"attention": layers.AttentionPooling(options.units)} if "attention" in options.pooling else {}
        return self._word_layers("recurrent") | attention | {"network": network}

    def _recurrent_logits(self, layer: Callable[[str], Any], batch: dict[str, tf.Tensor], noise: Noise | None) -> tf.Tensor:
        lengths = batch["tokens_lengths"]
        outputs, _ = layer("network")(self._word_vectors("recurrent", layer, batch, noise), lengths)
        pooled = []
        for name in self.recipe.model.recurrent.pooling.split("_"):
            pool = layer("attention") if name == "attention" else getattr(layers, f"{name}_pooling")
            pooled.append(pool(outputs, lengths))
        return layer("output")(layer("dropout")(tf.concat(pooled, -1), noise))

    def learning_rate_factor(self, variable: str) -> float:
        return self.recipe.model.bag_of_ngrams.learning_rate_factor if "bag_of_ngrams_linear/weights" in variable else 1.0

    def delay(self, variable: str) -> int:
        delays = {
            f"{name}_embedding/": self._networks[part].tuned_after for name, part in self._named_parts() if part in self._networks
        }
        return next((steps for name, steps in delays.items() if name in variable), 0)

    # Loss and answers

    def loss(self, model: Any, batch: dict[str, tf.Tensor], state: Any, noise: Noise | None) -> Loss:
        logits = model(batch, noise)
        any_logits = next(iter(logits.values()))
        weight = tf.cast(batch["weight"], any_logits.dtype)
        gold = tf.one_hot(batch["label"], len(self.labels), dtype=any_logits.dtype)
        mixed = self._mixture(logits)
        answer_losses = tf.nn.softmax_cross_entropy_with_logits(gold, mixed)
        total_weight = tf.reduce_sum(weight)
        parts = {
            "accuracy": _accuracy(mixed, batch["label"], weight),
            "log_loss": (tf.reduce_sum(weight * answer_losses), total_weight),
        }
        if len(logits) > 1:
            parts |= {f"accuracy_{name}": _accuracy(value, batch["label"], weight) for name, value in logits.items()}
        if noise is None:
            losses = answer_losses
        else:
            smoothing = self.recipe.model.label_smoothing
            gold = gold * (1 - smoothing) + smoothing / len(self.labels)
            losses = tf.add_n([tf.nn.softmax_cross_entropy_with_logits(gold, value) for value in logits.values()])
        return Loss(tf.reduce_sum(weight * losses), total_weight, parts, state)

    def _mixture(self, logits: dict[str, tf.Tensor]) -> tf.Tensor:
        """The weighted mean of the classifiers' log probabilities: a product of experts, `<float>[rows, labels]`."""
        return tf.add_n([weight * tf.nn.log_softmax(logits[name]) for name, weight in self._weights().items()])

    def signatures(self, model: Any) -> dict[str, Signature]:
        def serving_default(texts: tf.Tensor) -> dict[str, tf.Tensor]:
            """`<string>[batch]` → label `<string>[batch]`, probabilities `<float>[batch, labels]`, labels `<string>[batch, labels]`."""
            probabilities = tf.nn.softmax(self._mixture(model(self.padded(texts), None)))
            rows = tf.shape(texts)[0]
            return {
                "label": tf.gather(self.label_names, tf.argmax(probabilities, -1)),
                "probabilities": probabilities,
                "labels": tf.tile(self.label_names[None], [rows, 1]),
            }

        return {"serving_default": Signature(serving_default, (tf.TensorSpec([None], tf.string, "texts"),))}

    def view(self) -> Mapping[str, Any]:
        return {"kind": "label"}

    def resources(self) -> list[Any]:
        ngram_keys = [self.ngrams.variable] if self._wide else []
        return [self.vocabulary.table, self.tokenizer.table, *ngram_keys]

    # Scores

    def evaluate(
        self, answer: Callable[[str, list[Inputs]], dict[str, np.ndarray]], examples: Sequence[Example]
    ) -> list[dict[str, Any]]:
        outputs = answer("serving_default", [example.inputs for example in examples])
        place = {label: index for index, label in enumerate(self.labels)}
        results = []
        lengths, rare = self._lengths_and_rare_tokens(examples)
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
                    "length": int(lengths[index]),
                    "rare_tokens": int(rare[index]),
                    "text": example.inputs[0],
                }
            )
        return results

    def score(self, results: Sequence[dict[str, Any]]) -> Scores:
        gold = [self.labels.index(result["gold"]) for result in results]
        found = scores.classification(gold, np.array([result["probabilities"] for result in results]), self.labels)
        lengths, rare = (np.array([result[name] for result in results]) for name in ("length", "rare_tokens"))
        right, shares = found.parts["accuracy"], 100 * rare / np.maximum(lengths, 1)
        groups = {"none": shares == 0, "up to 1 %": (shares > 0) & (shares <= 1), "1–3 %": (shares > 1) & (shares <= 3),
                  "3–10 %": (shares > 3) & (shares <= 10), "more": shares > 10}  # fmt: skip
        found.figures["by_length"] = scores.by_size("accuracy", "tokens of the text", lengths, right)
        found.figures["by_frequency"] = scores.grouped(
            "accuracy",
            f"share of tokens that training has fewer than {RARE} times",
            {name: right * mask for name, mask in groups.items()},
        )
        return found

    def _lengths_and_rare_tokens(self, examples: Sequence[Example]) -> tuple[np.ndarray, np.ndarray]:
        """Of each text: the number of tokens, and of those that training has fewer than `RARE` times."""
        counts = np.array([0] * vocabulary.FIRST + self.vocabulary.counts)

        @tf.function(autograph=False, input_signature=[tf.TensorSpec([None], tf.string)])
        def lookup(texts: tf.Tensor) -> tf.RaggedTensor:
            return self.vocabulary.lookup(self.tokenizer(texts).text)

        lengths, rare = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for chunk in chunks(examples):
            ids = lookup(tf.constant([example.inputs[0] for example in chunk]))
            lengths.append(ids.row_lengths().numpy())
            rare.append(np.bincount(ids.value_rowids().numpy(), counts[ids.values.numpy()] < RARE, len(chunk)).astype(np.int64))
        return np.concatenate(lengths), np.concatenate(rare)

    def baseline(self, examples: Callable[[str], Iterator[Example]], test: Sequence[Example]) -> tuple[str, Scores]:
        """TF-IDF of 1-2-grams and logistic regression, scikit-learn's defaults."""
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline

        texts, labels = zip(*((example.inputs[0], example.target) for example in examples("train")), strict=True)
        vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
        if not any(map(vectorizer.build_tokenizer(), texts)):
            vectorizer.set_params(token_pattern=r"\S+")  # scikit-learn's own leaves out words of one letter, and emoji
        pipeline = make_pipeline(vectorizer, LogisticRegression(C=10, max_iter=200))
        pipeline.fit(texts, labels)
        probabilities = pipeline.predict_proba([example.inputs[0] for example in test])
        gold = [self.labels.index(example.target) for example in test]
        return "TF-IDF 1-2-grams + logistic regression", scores.classification(gold, probabilities, list(pipeline.classes_))


def _accuracy(logits: tf.Tensor, gold: tf.Tensor, weight: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """(weighted number of right answers, sum of weights)."""
    right = tf.cast(tf.argmax(logits, -1, tf.int32) == gold, weight.dtype)
    return tf.reduce_sum(weight * right), tf.reduce_sum(weight)
