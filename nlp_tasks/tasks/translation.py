"""Machine translation: a text in one language to the same in another.

The lecture's path is a choice of the recipe: an encoder whose last state is all that a decoder gets (Sutskever 2014), a decoder that
looks back at each word of the source (Bahdanau 2015; Luong 2015), and one that does nothing else (Vaswani 2017). All of them read and
write subwords, are trained on the tokens before each token as people wrote them (teacher forcing), and translate by beam search.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple

import numpy as np
from msgspec import Meta

from nlp_tasks import recipe
from nlp_tasks.data import pairs
from nlp_tasks.data.batching import Batch, plan_sorted
from nlp_tasks.data.findings import Finding, Tally
from nlp_tasks.data.rows import Counts, Row, Where
from nlp_tasks.data.sources import open_source
from nlp_tasks.data.splits import SPLITS, Splits
from nlp_tasks.errors import UserError
from nlp_tasks.lazy import lazy
from nlp_tasks.recipe import NonNegative, Positive, Section, Share, check_heads, check_unused
from nlp_tasks.tasks import translation_baselines
from nlp_tasks.tasks.task import Answering, Examiner, Loss, Signature, Task
from nlp_tasks.tasks.translation_verbs import verbs

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from nlp_tasks import decoding, layers, scores
    from nlp_tasks.data.store import Store
    from nlp_tasks.layers import Noise
    from nlp_tasks.scores import Scores
    from nlp_tasks.text import ragged, subwords
else:
    keras, tf = lazy("keras"), lazy("tensorflow")
    decoding, layers, scores = lazy("nlp_tasks.decoding"), lazy("nlp_tasks.layers"), lazy("nlp_tasks.scores")
    ragged, subwords = lazy("nlp_tasks.text.ragged"), lazy("nlp_tasks.text.subwords")

OTHERS = ("embedding", "cell", "embedding_dropout", "output_dropout")
TRANSFORMERS = ("heads", "hidden")
"""Settings of a model that only recurrent networks, and only a Transformer have."""
MOST = 100
"""Hypotheses of a search, where a client says how many."""
SHORT = 20
"""Texts of fewer characters may be of any length beside each other."""


class Data(recipe.Data, frozen=True, kw_only=True):
    """`[data]`: train, validation and test name tables of pairs (.tsv, .csv, .jsonl), or what aligned files have in common: with
    source_language = "en" and target_language = "de", "train" is line by line train.en and train.de. TensorFlow Datasets have
    a column for each language.

    longest: pairs with more characters on a side are no training data.
    ratio: nor are those with a side that is so many times as long as the other, in characters as in bytes of UTF-8: a Chinese text has
        few characters, a Hindi one many bytes.
    """

    source_language: str = ""
    target_language: str = ""
    longest: Positive = 1000
    ratio: Annotated[float, Meta(gt=1)] = 4.0


class Text(recipe.Text, frozen=True, kw_only=True):
    """`[text]`: subwords: how many, at most. joint: both languages share them."""

    lowercase: Literal[False] = False
    subwords: Positive = 8000
    joint: bool = True


class Model(Section, frozen=True, kw_only=True):
    """`[model]`: kind: "vanilla" (no attention), "additive" or "multiplicative" attention, or "transformer".

    embedding: features of a subword's vector; a Transformer has `units` instead. tied: the softmax has the same vectors, and with joint
    subwords the encoder, too (Press & Wolf 2017).
    cell, units: of the recurrent networks; the encoder has as many in each direction.
    encoder_depth, decoder_depth: layers. feeding: what multiplicative attention found is an input of the next step (Luong 2015, 3.3).
    heads, hidden: of the Transformer: heads of each attention, size of the feed-forward layers.
    embedding_dropout, dropout, output_dropout: shares left out of the embeddings, inside the networks, and before the softmax.
    label_smoothing: share of a target's probability that is spread over all subwords, in training (Szegedy 2016).
    """

    kind: Literal["vanilla", "additive", "multiplicative", "transformer"] = "transformer"
    embedding: Positive = 256
    tied: bool = True
    cell: Literal["gru", "lstm"] = "lstm"
    units: Positive = 256
    encoder_depth: Positive = 1
    decoder_depth: Positive = 1
    feeding: bool = False
    heads: Positive = 4
    hidden: Positive = 1024
    embedding_dropout: Share = 0.2
    dropout: Share = 0.2
    output_dropout: Share = 0.2
    label_smoothing: Share = 0.1


class Decoding(Section, frozen=True, kw_only=True):
    """`[decoding]`: beam: hypotheses that are kept side by side. length_penalty: α of ((5 + length) / 6)^α (Wu 2016).

    A translation has at most `ratio` times as many subwords as the source, and `more`.
    """

    beam: Annotated[int, Meta(ge=1, le=100)] = 5
    length_penalty: Annotated[float, Meta(ge=0)] = 1.0
    ratio: Annotated[float, Meta(gt=0)] = 2.0
    more: NonNegative = 10


class Training(recipe.Training, frozen=True, kw_only=True):
    """`[training]`: glances: so many validation sentences are translated greedily at each evaluation, for a BLEU on the way (0: none)."""

    glances: NonNegative = 200


class Recipe(recipe.Recipe, frozen=True, kw_only=True):
    data: Data
    text: Text = Text()
    model: Model = Model()
    decoding: Decoding = Decoding()
    training: Training = Training()


class Pair(NamedTuple):
    """A text, and its translation by people."""

    inputs: tuple[str, str]
    target: str
    where: Where


class Translation(Task):
    """Text in one language to text in another."""

    recipe_type = Recipe
    scored = "score"
    headline = "bleu"
    open_vocabulary = True
    order: ClassVar[tuple[str, ...]] = ("source", "target")

    def __init__(self, recipe: recipe.Recipe) -> None:
        super().__init__(recipe)
        options = self.recipe.model
        if options.kind == "transformer":
            check_heads(options)
        if options.feeding and options.kind != "multiplicative":
            raise UserError(
                f'model.feeding = true with model.kind = "{options.kind}"', 'only "multiplicative" attention feeds what it found'
            )
        check_unused(
            "model", options, OTHERS if options.kind == "transformer" else TRANSFORMERS, f'model.kind = "{options.kind}"'
        )
        check_unused("text", self.recipe.text, ("blank", "minimum_count", "vocabulary_size"), "subwords")
        check_unused("training", self.recipe.training, ("buckets",), "pairs, whose batches are planned by both lengths")
        if self.recipe.training.compile:
            raise UserError(
                "training.compile = true: batches of pairs have many shapes, and XLA would compile each of them", "leave it out"
            )

    @property
    def verbs(self) -> tuple[Any, ...]:
        return verbs(self.recipe.decoding.beam, attends=self.recipe.model.kind != "vanilla")

    # Data

    @classmethod
    def columns(cls, data: recipe.Data) -> Mapping[str, Sequence[str]]:
        assert isinstance(data, Data)
        named = {"source": data.source_language, "target": data.target_language}
        if data.source.startswith("tfds:"):
            return {side: (language or side,) for side, language in named.items()}
        return {side: (side, *filter(None, (language,))) for side, language in named.items()}

    @classmethod
    def splits(cls, recipe: recipe.Recipe, data_dir: str | None) -> Splits:
        data: Any = recipe.data
        if data.source == "files" and pairs.is_aligned(data.train):
            return Splits(pairs.AlignedFiles(data, data.source_language, data.target_language), data, "source")
        pairs.check_languages(data)
        return Splits(open_source(data, recipe.task.name, cls.columns(data), cls.order, data_dir), data, "source")

    @classmethod
    def check_files(cls, data: recipe.Data) -> None:
        assert isinstance(data, Data)
        if data.source == "files" and pairs.is_aligned(data.train):
            source = pairs.AlignedFiles(data, data.source_language, data.target_language)
            for split in filter(None, (data.train, data.validation, data.test)):
                source.paths(split)
            return
        super().check_files(data)

    def read(self, rows: Iterable[Row], counts: Counts) -> Iterator[Pair]:
        for row in rows:
            source, target = row.fields["source"], row.fields["target"]
            yield Pair((source, target), target, row.where)

    def unfit(self, example: Pair) -> str:
        data = self.recipe.data
        texts = [text.strip() for text in example.inputs]
        short, long = sorted(map(len, texts))
        if not short:
            return "an empty side"
        if long > data.longest:
            return f"a side of more than {data.longest:,} characters"
        sizes = sorted(len(text.encode()) for text in texts)
        if long > SHORT and long >= data.ratio * short and sizes[1] >= data.ratio * sizes[0]:
            return f"a side {data.ratio:g} times as long as the other"
        return ""

    def tokenize(self, *strings: tf.Tensor) -> Mapping[str, tf.RaggedTensor]:
        return {name: tf.strings.split(column) for name, column in zip(self.order, strings, strict=True)}

    def examiner(self) -> Examiner:
        return _Untranslated(self.unfit)

    # Subwords

    def prepare(self, examples: Callable[[], Iterator[Pair]], folder: Path) -> None:
        size = self.recipe.text.subwords
        if self.recipe.text.joint:
            (folder / "subwords.model").write_bytes(subwords.learn((text for pair in examples() for text in pair.inputs), size))
            return
        for side, name in enumerate(self.order):
            (folder / f"{name}.model").write_bytes(subwords.learn((pair.inputs[side] for pair in examples()), size))

    def load(self, folder: Path) -> None:
        if self.recipe.text.joint:
            self.source = self.target = subwords.Subwords(folder / "subwords.model")
        else:
            self.source, self.target = (subwords.Subwords(folder / f"{name}.model") for name in self.order)

    def encode(self, *strings: tf.Tensor) -> dict[str, tf.RaggedTensor]:
        """Sources, or sources and targets, each with its end."""
        both = zip(self.order, (self.source, self.target), strings, strict=False)
        return {name: _with_end(known.encode(texts)) for name, known, texts in both}

    def targets(self, examples: Sequence[Pair]) -> Mapping[str, np.ndarray]:
        return {}

    length_field = "target"

    def lengths(self, store: Store) -> np.ndarray:
        return np.stack([store.lengths("target"), store.lengths("source")], 1)

    def plan(self, lengths: np.ndarray, training: recipe.Training, epoch: int | None) -> list[Batch]:
        return plan_sorted(
            lengths.reshape(len(lengths), -1),
            batch_tokens=training.batch_tokens,
            batch_rows=training.batch_rows,
            shuffle=None if epoch is None else (training.seed, epoch),
        )

    # Model

    @property
    def _features(self) -> int:
        options = self.recipe.model
        return options.units if options.kind == "transformer" else options.embedding

    def build(self) -> Any:
        options = self.recipe.model
        joint, transformer = self.recipe.text.joint and options.tied, options.kind == "transformer"
        # The vectors of a Transformer are scaled up by √units (Vaswani 2017, section 3.4).
        scale = np.sqrt(3 / self._features) if transformer or options.tied else 0.1
        target = layers.Embedding(len(self.target), self._features, scale=scale)
        made: dict[str, Any] = {"target_embedding": target}
        if not joint:
            made["source_embedding"] = layers.Embedding(len(self.source), self._features, scale=scale)
        if transformer:
            arguments: Any = {"hidden": options.hidden, "dropout": options.dropout}
            made["encoder"] = layers.TransformerEncoder(options.units, options.encoder_depth, options.heads, **arguments)
            made["decoder"] = layers.TransformerDecoder(options.units, options.decoder_depth, options.heads, **arguments)
        else:
            cell = layers.LSTM if options.cell == "lstm" else layers.GRU
            made["embedding_dropout"] = layers.Dropout(options.embedding_dropout)
            both = [layers.Bidirectional(cell(options.units), cell(options.units)) for _ in range(options.encoder_depth)]
            made["encoder"] = layers.Stack(*both, dropout=options.dropout)
            made["decoder"] = layers.RecurrentDecoder(
                *(cell(options.units) for _ in range(options.decoder_depth)),
                attention="none" if options.kind == "vanilla" else options.kind, feeding=options.feeding, dropout=options.dropout,
            )  # fmt: skip
            made["output_dropout"] = layers.Dropout(options.output_dropout)
            if options.tied and options.units != options.embedding:
                made["projection"] = keras.layers.Dense(options.embedding, use_bias=False)
        even = np.ones(len(self.target))
        made["softmax"] = layers.FullSoftmax(even, target if options.tied else None, smoothing=options.label_smoothing)
        return layers.Model(self._outputs, **made)

    def _outputs(self, model: Any, batch: dict[str, Any], noise: Noise | None) -> tf.Tensor:
        """`source` and `inputs <int32>[rows, time]` with their lengths → what the softmax sees of each target token
        `<float>[rows, time, features]`."""
        vectors = self._embedded(model, batch["inputs"], noise, "target")
        memory = self._encoded(model, batch["source"], batch["source_lengths"], noise)
        if not model.decoder.built:
            model.decoder.build(vectors.shape, *([] if self._is_transformer else [memory[0].shape[-1]]))
        if self._is_transformer:
            hidden = model.decoder(vectors, memory, batch["source_lengths"], noise)
        else:
            values, summary = memory
            remembered = model.decoder.remember(values, batch["source_lengths"])
            hidden = model.decoder(vectors, batch["target_lengths"], model.decoder.first_state(summary), remembered, noise)
        return self._projected(model, hidden, noise)

    @property
    def _is_transformer(self) -> bool:
        return self.recipe.model.kind == "transformer"

    def _embedded(self, model: Any, ids: tf.Tensor, noise: Noise | None, side: str) -> tf.Tensor:
        embedding = getattr(model, f"{side}_embedding", model.target_embedding)
        vectors = embedding(ids)
        if self._is_transformer:
            return vectors * tf.constant(np.sqrt(self._features), vectors.dtype)
        return model.embedding_dropout(vectors, None if noise is None else noise.within(side))

    def _encoded(self, model: Any, ids: tf.Tensor, lengths: tf.Tensor, noise: Noise | None) -> Any:
        """What the decoder looks at `<float>[rows, time, features]`; of a recurrent encoder with its last states `[rows, 2 · units]`."""
        vectors = self._embedded(model, ids, noise, "source")
        if self._is_transformer:
            return model.encoder(vectors, lengths, noise)
        outputs, states = model.encoder(vectors, lengths, None, noise)
        forward, backward = states[-1]
        return outputs, tf.concat([forward[0], backward[0]], -1)

    def _projected(self, model: Any, hidden: tf.Tensor, noise: Noise | None) -> tf.Tensor:
        if not self._is_transformer:
            hidden = model.output_dropout(hidden, noise)
        if hasattr(model, "projection"):
            hidden = model.projection(hidden)
        if not model.softmax.built:
            model.softmax.build(hidden.shape)
        return hidden

    def loss(self, model: Any, batch: dict[str, tf.Tensor], state: Any, noise: Noise | None) -> Loss:
        losses, inside = self._losses(model, batch, noise)
        return Loss(tf.reduce_sum(losses), tf.cast(tf.reduce_sum(tf.cast(inside, tf.int32)), losses.dtype), {}, state)

    def _losses(self, model: Any, batch: dict[str, tf.Tensor], noise: Noise | None) -> tuple[tf.Tensor, tf.Tensor]:
        """-log p of each target token, row after row `<float>[tokens]`, and where they are `<bool>[rows, time]`."""
        target = batch["target"]
        begin = tf.fill([tf.shape(target)[0], 1], subwords.BEGIN)
        hidden = model({**batch, "inputs": tf.concat([begin, target[:, :-1]], 1)}, noise)
        inside = tf.sequence_mask(batch["target_lengths"], tf.shape(target)[1])
        return model.softmax.losses(tf.boolean_mask(hidden, inside), tf.boolean_mask(target, inside), noise), inside

    # Translations

    def _searched(self, model: Any, texts: tf.Tensor, widths: tf.Tensor) -> decoding.Hypotheses:
        options = self.recipe.decoding
        source, lengths = self._sources(texts)
        lanes = tf.reduce_max(tf.concat([widths, [1]], 0))
        step, state = self._begun(model, source, lengths, lanes)
        return decoding.beam(
            step, subwords.BEGIN, subwords.END, state, self._limits(lengths), widths, alpha=options.length_penalty,
            never=subwords.NEVER_WRITTEN,
        )  # fmt: skip

    def _sources(self, texts: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Padded ids and lengths; a text of spaces is as empty as one of nothing."""
        batch = ragged.batch(self.encode(tf.where(tf.strings.strip(texts) == "", "", texts)))
        return batch["source"], batch["source_lengths"]

    def _limits(self, lengths: tf.Tensor) -> tf.Tensor:
        """How many tokens a translation has at most, its end included: that of nothing has none but its end."""
        options = self.recipe.decoding
        own = tf.cast(lengths - 1, tf.float32)  # without the source's end
        return tf.where(lengths > 1, 1 + options.more + tf.cast(own * options.ratio, tf.int32), 1)

    def _begun(self, model: Any, source: tf.Tensor, lengths: tf.Tensor, lanes: tf.Tensor) -> tuple[decoding.Step, decoding.State]:
        """What writes, and its state at the beginning."""
        memory = self._encoded(model, source, lengths, None)
        if self._is_transformer:
            return self._transformer_begun(model, memory, lengths, lanes)
        values, summary = memory
        remembered = model.decoder.remember(values, lengths)

        def step(tokens: tf.Tensor, state: decoding.State) -> tuple[tf.Tensor, decoding.State]:
            hidden, _, following = model.decoder.step(self._embedded(model, tokens, None, "target"), state.own, remembered)
            return model.softmax(self._projected(model, hidden, None)), decoding.State(following, ())

        first = model.decoder.first_state(summary)
        return step, decoding.State(tf.nest.map_structure(lambda part: tf.repeat(part, lanes, 0), first), ())

    def _transformer_begun(
        self, model: Any, memory: tf.Tensor, lengths: tf.Tensor, lanes: tf.Tensor
    ) -> tuple[decoding.Step, decoding.State]:
        """Keys and values of all hypotheses of a row lie in one cache, which never moves; each hypothesis knows which of them are its
        own."""
        rows, remembered = tf.shape(lengths)[0], model.decoder.remember(memory, lengths)

        def step(tokens: tf.Tensor, state: decoding.State) -> tuple[tf.Tensor, decoding.State]:
            mine, caches = state
            place = tf.shape(mine)[1] // lanes
            vectors = tf.reshape(self._embedded(model, tokens, None, "target"), [rows, lanes, self._features])
            visible = tf.concat(
                [tf.reshape(mine, [rows, lanes, -1]), tf.tile(tf.eye(lanes, dtype=tf.bool)[None], [rows, 1, 1])], 2
            )
            hidden, caches = model.decoder.step(vectors, place, caches, visible, remembered)
            flat = tf.reshape(hidden, [-1, self._features])
            return model.softmax(flat), decoding.State(tf.reshape(visible, [rows * lanes, -1]), caches)

        return step, decoding.State(tf.zeros([rows * lanes, 0], tf.bool), model.decoder.first_caches(rows))

    def signatures(self, model: Any) -> dict[str, Signature]:
        def serving_default(texts: tf.Tensor) -> dict[str, tf.Tensor]:
            """`<string>[batch]` → translations `<string>[batch]`, their scores (log probability / length penalty) and
            log_probabilities `<float>[batch]`."""
            found = self._searched(model, texts, tf.fill(tf.shape(texts), self.recipe.decoding.beam))
            return {"translations": self.target.decode(found.ids[:, 0]), "scores": found.scores[:, 0],
                    "log_probabilities": found.log_probabilities[:, 0]}  # fmt: skip

        def n_best(texts: tf.Tensor, beams: tf.Tensor, counts: tf.Tensor) -> dict[str, tf.Tensor]:
            """Each `[batch]` → of the `counts` best of `beams` hypotheses (at most 100), best first, translations `<string>[batch, most]`
            ("" beyond those there are), scores and log_probabilities `<float>[batch, most]`; lengths `<int32>[batch]`: how many."""
            beams, counts = tf.minimum(beams, MOST), tf.minimum(counts, MOST)
            found = self._searched(model, texts, tf.maximum(beams, counts))
            most = tf.reduce_max(tf.concat([counts, [1]], 0))
            scores, log_probabilities = found.scores[:, :most], found.log_probabilities[:, :most]
            there = (scores > layers.softmax.NEVER / 2) & (tf.range(most) < counts[:, None])
            ids = found.ids[:, :most]
            texts = tf.reshape(self.target.decode(tf.reshape(ids, [-1, tf.shape(ids)[2]])), tf.shape(scores))
            return {"translations": tf.where(there, texts, ""), "scores": tf.where(there, scores, 0.0),
                    "log_probabilities": tf.where(there, log_probabilities, 0.0),
                    "lengths": tf.reduce_sum(tf.cast(there, tf.int32), 1)}  # fmt: skip

        def score(sources: tf.Tensor, targets: tf.Tensor) -> dict[str, tf.Tensor]:
            """`<string>[batch]` each → log_probability `<float>[batch]` of each target, its end included, and length `<int32>[batch]`."""
            losses, inside = self._losses(model, ragged.batch(self.encode(sources, targets)), None)
            rows = tf.cast(tf.where(inside)[:, 0], tf.int32)
            total = tf.math.unsorted_segment_sum(tf.cast(losses, tf.float32), rows, tf.size(sources))
            return {"log_probability": -total, "length": tf.reduce_sum(tf.cast(inside, tf.int32), 1)}

        def specs(**dtypes: tf.DType) -> tuple[tf.TensorSpec, ...]:
            return tuple(tf.TensorSpec([None], dtype, name) for name, dtype in dtypes.items())

        pair = specs(sources=tf.string, targets=tf.string)
        made = {
            "serving_default": Signature(serving_default, specs(texts=tf.string)),
            "n_best": Signature(n_best, specs(texts=tf.string, beams=tf.int32, counts=tf.int32), alike=("beams", "counts")),
            "score": Signature(score, pair),
        }
        if self.recipe.model.kind != "vanilla":
            made["align"] = Signature(lambda *texts: self._aligned(model, *texts), pair)
        return made

    def view(self) -> Mapping[str, Any]:
        return {"kind": "translation", "beam": self.recipe.decoding.beam, "aligns": self.recipe.model.kind != "vanilla"}

    def _aligned(self, model: Any, sources: tf.Tensor, targets: tf.Tensor) -> dict[str, tf.Tensor]:
        """`<string>[batch]` each, an empty target meaning the model's own translation → alignments `<float>[batch, target, source]`:
        how much each piece of the target looked at each of the source; sources, targets `<string>[batch, …]`: the pieces, "" beyond;
        texts `<string>[batch]`: the targets."""
        asked = tf.where(targets == "", sources, "")  # the search for nothing ends at once
        own = self.target.decode(self._searched(model, asked, tf.fill(tf.shape(targets), self.recipe.decoding.beam)).ids[:, 0])
        targets = tf.where(targets == "", own, targets)
        batch = ragged.batch(self.encode(sources, targets))
        inputs = tf.concat([tf.fill([tf.shape(targets)[0], 1], subwords.BEGIN), batch["target"][:, :-1]], 1)
        vectors, lengths = self._embedded(model, inputs, None, "target"), batch["source_lengths"]
        memory = self._encoded(model, batch["source"], lengths, None)
        if self._is_transformer:
            alignment = model.decoder.alignment(vectors, memory, lengths)
        else:
            remembered = model.decoder.remember(memory[0], lengths)
            alignment = model.decoder.alignment(vectors, model.decoder.first_state(memory[1]), remembered)
        there = tf.sequence_mask(batch["target_lengths"], tf.shape(inputs)[1])[:, :, None]
        alignment = tf.where(there, tf.cast(alignment, tf.float32), 0.0)
        return {"alignments": alignment, "sources": tf.gather(self.source.names, batch["source"]),
                "targets": tf.gather(self.target.names, batch["target"]), "texts": targets}  # fmt: skip

    def resources(self) -> list[Any]:
        return self.source.resources + ([] if self.source is self.target else self.target.resources)

    # Scores

    def glance(self, model: Any, examples: Iterable[Pair]) -> Callable[[], dict[str, float]]:
        """BLEU of greedy translations of some examples, such as training would take."""
        fit = (example for example in examples if not self.unfit(example))
        chosen = list(islice(fit, self.recipe.training.glances))
        if not chosen:
            return dict

        @tf.function(autograph=False, input_signature=[tf.TensorSpec([None], tf.string)])
        def translated(texts: tf.Tensor) -> tf.Tensor:
            with layers.recurrent_path("auto", gradient=False):
                source, lengths = self._sources(texts)
                step, state = self._begun(model, source, lengths, tf.constant(1))
                limits, never = self._limits(lengths), subwords.NEVER_WRITTEN
                ids, _ = decoding.greedy(step, subwords.BEGIN, subwords.END, state, limits, never)
                return self.target.decode(ids)

        ordered = sorted(chosen, key=lambda pair: len(pair.inputs[0]))
        parts = [ordered[start : start + 64] for start in range(0, len(ordered), 64)]

        def measured() -> dict[str, float]:
            answers = [text.decode() for part in parts for text in translated([pair.inputs[0] for pair in part]).numpy()]
            return {"greedy_bleu": scores.bleu([pair.target for pair in ordered], answers, self.recipe.data.target_language)}

        return measured

    def evaluate(self, answer: Answering, examples: Sequence[Pair]) -> list[dict[str, Any]]:
        found = answer("serving_default", [(pair.inputs[0],) for pair in examples])
        given = answer("score", [pair.inputs for pair in examples])
        rows = zip(examples, found["translations"], found["scores"], given["log_probability"], given["length"], strict=True)
        return [
            {"id": index, "where": str(pair.where), "text": pair.inputs[0], "gold": pair.target, "answer": text.decode(),
             "score": round(float(score), 6), "loss": round(-float(total), 4), "tokens": int(tokens),
             "length": len(pair.inputs[0].split())}
            for index, (pair, text, score, total, tokens) in enumerate(rows)
        ]  # fmt: skip

    def score(self, results: Sequence[dict[str, Any]]) -> Scores:
        return scores.translation(results, self.recipe.data.target_language)

    def baseline(self, examples: Callable[[str], Iterator[Pair]], test: Sequence[Pair]) -> tuple[str, Scores]:
        """Each word by its most probable translation, learned by IBM model 1; or the source itself, where that is the better score."""
        train = islice((pair.inputs for pair in examples("train")), translation_baselines.MOST)
        dictionary = translation_baselines.dictionary(list(train))
        named = {"each word by IBM model 1": dictionary, "the source itself": lambda text: text}
        held_out = list(examples("validation"))

        def of(translate: Callable[[str], str], pairs: Sequence[Pair]) -> Scores:
            return self.score([{"text": p.inputs[0], "gold": p.target, "answer": translate(p.inputs[0]),
                                "length": len(p.inputs[0].split())} for p in pairs])  # fmt: skip

        best = max(named, key=lambda name: of(named[name], held_out).scores[self.headline])
        return best, of(named[best], test)


class _Untranslated(Examiner):
    """Finds pairs of which one side is the other, and pairs of validation and test that training would leave out."""

    WORDS = 4
    """Shorter texts, such as names, may well be the same in both languages."""

    def __init__(self, unfit: Callable[[Pair], str]) -> None:
        self._unfit = unfit
        self._same = {split: Tally() for split in SPLITS}
        self._odd = {split: Tally() for split in SPLITS}

    def see(self, split: str, example: Pair) -> None:
        source, target = example.inputs
        if source.strip() == target.strip() and len(source.split()) >= self.WORDS:
            self._same[split].add("same", example.where)
        elif reason := self._unfit(example):
            self._odd[split].add(reason, example.where)

    def findings(self) -> Iterator[Finding]:
        for split in SPLITS:
            if count := self._same[split].counts["same"]:
                yield Finding("untranslated", "warning", split, f"pairs of which one side is the other: {count:,}", count,
                              self._same[split].places["same"], "leave them out, unless they are meant to stay as they are")  # fmt: skip
            for reason, count in self._odd[split].counts.items():
                yield Finding("odd_pairs", "note", split, f"pairs with {reason}: {count:,}", count, self._odd[split].places[reason],
                              "they are scored all the same; are the lines aligned?")  # fmt: skip


def _with_end(ids: tf.RaggedTensor) -> tf.RaggedTensor:
    """Each row with the end behind it."""
    lengths = ids.row_lengths() + 1
    ends = tf.cumsum(lengths) - 1
    size = tf.reduce_sum(lengths)
    inside = tf.tensor_scatter_nd_update(tf.ones([size], tf.bool), ends[:, None], tf.zeros([tf.size(ends)], tf.bool))
    values = tf.tensor_scatter_nd_update(tf.fill([size], subwords.END), tf.where(inside), ids.values)
    return tf.RaggedTensor.from_row_lengths(values, lengths, validate=False)
