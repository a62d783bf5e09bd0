"""Language modelling: the probability of the next word, character or byte, given all before.

The lecture's path is a choice of the recipe: counted n-grams, a feed-forward network over the last words, recurrent networks that carry
what they have read, a Transformer that looks back at it. All of them read one text from its beginning to its end: `advance(tokens,
state)` gives the probability of each token and the state after them. Training cuts back-propagation at windows and carries the state
over (truncated back-propagation, Williams & Peng 1990); scoring reads the test text in one pass; writing goes on from a prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from msgspec import Meta

from nlp_tasks import recipe
from nlp_tasks.data.batching import Batch
from nlp_tasks.data.rows import chunks
from nlp_tasks.errors import UserError
from nlp_tasks.lazy import lazy
from nlp_tasks.recipe import NonNegative, Positive, Section, Share, check_heads
from nlp_tasks.tasks import language_modeling_scores as scoring
from nlp_tasks.tasks import running_text
from nlp_tasks.tasks.language_modeling_verbs import VERBS
from nlp_tasks.tasks.running_text import Piece, RunningText
from nlp_tasks.tasks.task import Answering, Loss, Signature

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from nlp_tasks import decoding, layers, scores
    from nlp_tasks.data.toy_world import language_modeling as toy_world
    from nlp_tasks.layers import Noise
    from nlp_tasks.scores import Scores
    from nlp_tasks.text import kneser_ney, ragged, tokenizer, units
else:
    keras, tf = lazy("keras"), lazy("tensorflow")
    decoding, layers, scores = lazy("nlp_tasks.decoding"), lazy("nlp_tasks.layers"), lazy("nlp_tasks.scores")
    toy_world = lazy("nlp_tasks.data.toy_world.language_modeling")
    kneser_ney, ragged = lazy("nlp_tasks.text.kneser_ney"), lazy("nlp_tasks.text.ragged")
    tokenizer, units = lazy("nlp_tasks.text.tokenizer"), lazy("nlp_tasks.text.units")

CANDIDATES = 10
"""So many next units are answered."""
BASELINE = {"words": 5, "characters": 8, "bytes": 8}
"""Order of the n-gram that stands beside a network, by unit."""
LONGEST = 1_000_000
"""Tokens that are written at once."""
MOST_COUNTED = 20_000_000
"""Tokens of training that it counts."""

Kind = Literal["ngram", "feed_forward", "rnn", "gru", "lstm", "min_gru", "transformer"]


class Data(running_text.Data, frozen=True, kw_only=True):
    """`[data]`: random_windows: the score over windows of so many tokens, each read for itself, is told too (0: it is not)."""

    random_windows: NonNegative = 0


class Text(running_text.Text, frozen=True, kw_only=True):
    """`[text]`: unit: what is predicted."""

    unit: Literal["words", "characters", "bytes"] = "words"


class Model(Section, frozen=True, kw_only=True):
    """`[model]`: kind: what reads the text.

    order: of the n-gram, and of the feed-forward network: tokens in a window, the predicted one included.
    embedding: features of a token's vector. tied: the softmax has the same vectors (Press & Wolf 2017; Inan 2017).
    units, depth: of the network; heads and context (tokens that a token sees in each layer) of the Transformer.
    residual: recurrent layers add their input to their output.
    embedding_dropout, dropout, output_dropout: shares left out before, between and after the layers; never between two time steps.
    variational: one mask for all time steps of a window (Gal & Ghahramani 2016).
    recurrent_dropout: share of the recurrent weights left out in a step of training (weight-dropped LSTM, Merity 2018).
    softmax: "full", "adaptive" (Grave 2017; `cutoffs` begin its clusters) or "sampled" (in training alone: the `head` most frequent tokens
        and `samples` others). Probabilities are always exact.
    """

    kind: Kind = "lstm"
    order: Annotated[int, Meta(ge=1, le=12)] = 5
    embedding: Positive = 256
    tied: bool = True
    units: Positive = 512
    depth: Positive = 1
    heads: Positive = 4
    context: Annotated[int, Meta(ge=2)] = 128
    residual: bool = False
    embedding_dropout: Share = 0.0
    dropout: Share = 0.3
    output_dropout: Share = 0.3
    variational: bool = False
    recurrent_dropout: Share = 0.0
    softmax: Literal["full", "adaptive", "sampled"] = "full"
    cutoffs: Annotated[tuple[Annotated[int, Meta(ge=2)], ...], Meta(min_length=1)] = (2000, 10000)
    head: Annotated[int, Meta(ge=2)] = 2000
    samples: Positive = 1000


class Training(recipe.Training, frozen=True, kw_only=True):
    """`[training]`: window: tokens that back-propagation goes back through. batch_rows: places of the text that are read side by side."""

    window: Positive = 64


class Recipe(recipe.Recipe, frozen=True, kw_only=True):
    data: Data
    text: Text = Text()
    model: Model = Model()
    training: Training = Training()


class LanguageModeling(RunningText):
    """Text to the probability of what comes next."""

    recipe_type = Recipe
    scored = "score"
    verbs = VERBS

    def __init__(self, recipe: recipe.Recipe) -> None:
        super().__init__(recipe)
        options = self.recipe.model
        if options.kind == "transformer":
            check_heads(options)
        if options.softmax == "adaptive" and list(options.cutoffs) != sorted({*options.cutoffs}):
            raise UserError(f"model.cutoffs = {list(options.cutoffs)}: each must be larger than the one before",
                            "write the numbers of frequent words at which clusters begin, such as [2000, 10000]")  # fmt: skip

    @property
    def headline(self) -> str:
        return "perplexity" if self.recipe.text.unit == "words" else "nats_per_token"

    # Data

    def tokenize(self, *strings: tf.Tensor) -> dict[str, tf.RaggedTensor]:
        unit = self.recipe.text.unit
        if unit == "words":
            return super().tokenize(*strings)
        return {"tokens": tf.strings.unicode_decode(strings[0], "UTF-8") if unit == "characters" else units.as_bytes(strings[0])}

    # Resources: units.tsv, ngrams.npz

    @property
    def counted(self) -> bool:
        return self.recipe.model.kind == "ngram"

    def parameters(self, model: Any) -> int:
        return len(self.ngrams) if self.counted else super().parameters(model)

    def prepare(self, examples: Callable[[], Iterator[Piece]], folder: Path) -> None:
        self.write_units(folder / "units.tsv", examples, self.recipe.text.unit)
        if self.counted:
            self._load_units(folder)
            with self.ids(examples(), first=1) as tokens:
                kneser_ney.save(kneser_ney.count(tokens, len(self.units) - 1, self.recipe.model.order), folder / "ngrams.npz")

    def load(self, folder: Path) -> None:
        self._load_units(folder)
        if self.counted:
            self.ngrams = kneser_ney.KneserNey.load(folder / "ngrams.npz")

    def _load_units(self, folder: Path) -> None:
        path = folder / "units.tsv"
        kinds: dict[str, Callable[[], units.Units]] = {
            "words": lambda: units.Words(path, self._split),
            "characters": lambda: units.Characters(path),
            "bytes": lambda: units.Bytes(path),
        }
        self.load_units(kinds[self.recipe.text.unit]())

    def windows(self, tokens: int) -> np.ndarray:
        return np.append(np.arange(0, tokens, self.recipe.training.window, dtype=np.int64), tokens)

    def plan(self, lengths: np.ndarray, training: recipe.Training, epoch: int | None) -> list[Batch]:
        """Row r of each batch goes on where row r of the batch before ended: the text is cut into as many parts as a batch has rows."""
        assert isinstance(training, Training)
        if epoch is not None and lengths.sum() < training.window:
            raise UserError(f"the training text has {lengths.sum():,} {self.recipe.text.unit}, less than one window of {training.window}",
                            "give more text, or lower training.window")  # fmt: skip
        steps = -(-len(lengths) // training.batch_rows)
        size = -(-len(lengths) // max(1, steps))
        return [Batch(np.arange(step, len(lengths), steps), size, training.window) for step in range(steps)]

    # Model

    def build(self) -> keras.Model:
        if self.counted:
            return layers.Model(lambda model, batch, noise: None)
        options = self.recipe.model
        embedding = layers.Embedding(len(self.units), options.embedding, scale=0.1)
        made = {
            "embedding": embedding,
            "embedding_dropout": layers.Dropout(options.embedding_dropout, shared_time=options.variational),
            "network": self._network(),
            "output_dropout": layers.Dropout(options.output_dropout, shared_time=options.variational),
            "softmax": self._softmax(embedding if options.tied else None),
        }
        if options.tied and made["network"].units != options.embedding:
            made["projection"] = keras.layers.Dense(options.embedding, use_bias=False)
        if options.kind == "transformer" and options.units != options.embedding:
            made["widening"] = keras.layers.Dense(options.units, use_bias=False)
        return layers.Model(self._outputs, **made)

    def _network(self) -> Any:
        options = self.recipe.model
        if options.kind == "feed_forward":
            return layers.FeedForward(options.units, max(1, options.order - 1), depth=options.depth, dropout=options.dropout)
        if options.kind == "transformer":
            return layers.CausalTransformer(
                options.units, options.depth, options.heads, context=options.context, dropout=options.dropout
            )
        cells: dict[str, Any] = {"rnn": layers.SimpleRNN, "gru": layers.GRU, "lstm": layers.LSTM, "min_gru": layers.MinGRU}
        stack = [cells[options.kind](options.units, recurrent_dropout=options.recurrent_dropout) for _ in range(options.depth)]
        return layers.Stack(*stack, residual=options.residual, dropout=options.dropout, variational=options.variational)

    def _softmax(self, embedding: Any) -> Any:
        options, counts = self.recipe.model, self.units.counts
        if options.softmax == "adaptive":
            return layers.AdaptiveSoftmax(counts, embedding, cutoffs=options.cutoffs)
        if options.softmax == "sampled":
            return layers.SampledSoftmax(counts, embedding, head=options.head, samples=options.samples)
        return layers.FullSoftmax(counts, embedding)

    def _outputs(self, model: Any, batch: dict[str, Any], noise: Noise | None) -> tuple[tf.Tensor, Any]:
        """`inputs <int32>[rows, time]`, their `lengths` and the network's `state` → `<float>[rows, time, features]` and its next state."""
        vectors = model.embedding_dropout(model.embedding(batch["inputs"]), noise)
        if hasattr(model, "widening"):
            vectors = model.widening(vectors)
        hidden, state = model.network(vectors, batch["lengths"], batch["state"], noise)
        hidden = model.output_dropout(hidden, noise)
        if hasattr(model, "projection"):
            hidden = model.projection(hidden)
        if not model.softmax.built:
            model.softmax.build(hidden.shape)
        return hidden, state

    # A state is (the last token read, that of the network). The network has not read the last token yet.

    def initial_state(self, rows: Any) -> Any:
        """Before the first token: a line has just ended."""
        return tf.fill([rows], np.int32(self.units.boundary)), self._zero_state(rows)

    def _zero_state(self, rows: Any) -> Any:
        """Of the network; for the n-gram, ids of the tokens before the last one."""
        options = self.recipe.model
        dtype = {"mixed_bfloat16": "bfloat16"}.get(self.recipe.training.precision, self.recipe.training.precision)
        if self.counted:
            return tf.zeros([rows, max(0, options.order - 2)], tf.int32)
        if options.kind == "feed_forward":
            return tf.zeros([rows, max(1, options.order - 1) - 1, options.embedding], dtype)
        if options.kind == "transformer":
            return self._network().zero_state(rows, dtype)
        states = 2 if options.kind == "lstm" else 1
        return tuple(tuple(tf.zeros([rows, options.units], dtype) for _ in range(states)) for _ in range(options.depth))

    def _hidden(
        self, model: Any, inputs: tf.Tensor, lengths: tf.Tensor, state: Any, noise: Noise | None = None
    ) -> tuple[tf.Tensor, Any]:
        """What the softmax sees at each token read, and the network's next state; for the n-gram `<int32>[rows, time, order - 1]`."""
        if not self.counted:
            return model({"inputs": inputs, "lengths": lengths, "state": state}, noise)
        before = self.recipe.model.order - 1
        read, time = tf.concat([state, inputs], 1), tf.shape(inputs)[1]
        contexts = (
            tf.stack([read[:, place : place + time] for place in range(before)], -1)
            if before
            else tf.zeros([*tf.unstack(tf.shape(inputs)), 0], tf.int32)
        )
        return contexts, tf.gather(read, lengths[:, None] + tf.range(max(0, before - 1)), batch_dims=1)

    def _losses(self, model: Any, hidden: tf.Tensor, targets: tf.Tensor, noise: Noise | None) -> tf.Tensor:
        """-log p of the targets: `[n, features]`, `<int32>[n]` → `<float>[n]`."""
        if self.counted:
            return -self.ngrams.log_probability(hidden - 1, tf.maximum(targets, 1) - 1)
        return model.softmax.losses(hidden, targets, noise)

    def _log_probabilities(self, model: Any, hidden: tf.Tensor) -> tf.Tensor:
        """Of all ids: `[n, features]` → `<float>[n, size]`."""
        if self.counted:
            return tf.pad(self.ngrams.log_probabilities(hidden - 1), [[0, 0], [1, 0]], constant_values=layers.softmax.NEVER)
        return model.softmax(hidden)

    def advance(
        self, model: Any, tokens: tf.Tensor, lengths: tf.Tensor, state: Any, noise: Noise | None = None
    ) -> tuple[tf.Tensor, Any]:
        """Reads on: `<int32>[rows, time]`, padded by 0 → -log p of each token `<float>[rows, time]`, and the state after them."""
        last, network = state
        inputs = tf.concat([last[:, None], tokens[:, :-1]], 1)
        hidden, network = self._hidden(model, inputs, lengths, network, noise)
        losses = self._losses(model, tf.reshape(hidden, [-1, hidden.shape[-1]]), tf.reshape(tokens, [-1]), noise)
        losses = tf.where(
            tf.sequence_mask(lengths, tf.shape(tokens)[1]), tf.reshape(losses, tf.shape(tokens)), tf.zeros([], losses.dtype)
        )
        read = tf.concat([last[:, None], tokens], 1)
        return losses, (tf.gather(read, lengths, batch_dims=1), network)

    def loss(self, model: Any, batch: dict[str, tf.Tensor], state: Any, noise: Noise | None) -> Loss:
        lengths = batch["tokens_lengths"]
        losses, state = self.advance(model, batch["tokens"], lengths, state, noise)
        return Loss(tf.reduce_sum(losses), tf.cast(tf.reduce_sum(lengths), losses.dtype), {}, state)

    # Answers

    def _step(self, model: Any) -> decoding.Step:
        def step(tokens: tf.Tensor, state: Any) -> tuple[tf.Tensor, Any]:
            hidden, state = self._hidden(model, tokens[:, None], tf.ones_like(tokens), state)
            return self._log_probabilities(model, hidden[:, 0]), state

        return step

    def _prompted(self, model: Any, prompts: tf.Tensor) -> tuple[tf.Tensor, Any, tf.Tensor]:
        """The last token of each prompt, the network's state before it, and the number of tokens."""
        ids = self.units.encode(prompts)
        lengths = tf.cast(ids.row_lengths(), tf.int32)
        tokens = ragged.padded(ids)
        last, network = self.initial_state(tf.shape(prompts)[0])
        read = tf.concat([last[:, None], tokens], 1)
        _, network = self._hidden(model, read[:, :-1], lengths, network)
        return tf.gather(read, lengths, batch_dims=1), network, lengths

    def signatures(self, model: Any) -> dict[str, Signature]:
        def serving_default(texts: tf.Tensor) -> dict[str, tf.Tensor]:
            """`<string>[batch]` → the most probable next tokens `<string>[batch, 10]` and their probabilities `<float>[batch, 10]`."""
            last, network, _ = self._prompted(model, texts)
            log_probabilities, _ = self._step(model)(last, network)
            best, ids = tf.math.top_k(log_probabilities, min(CANDIDATES, len(self.units) - 1))
            return {"tokens": tf.gather(self.units.names, ids), "probabilities": tf.cast(tf.exp(best), tf.float32)}

        def score(texts: tf.Tensor) -> dict[str, tf.Tensor]:
            """`<string>[batch]` → log_probability `<float>[batch]` of the text, whose first token follows a line end; length
            `<int32>[batch]`; tokens `<string>[batch, longest]` and token_log_probabilities `<float>[batch, longest]`."""
            ids = self.units.encode(texts)
            tokens, lengths = ragged.padded(ids), tf.cast(ids.row_lengths(), tf.int32)
            losses, _ = self.advance(model, tokens, lengths, self.initial_state(tf.shape(texts)[0]))
            each = -tf.cast(losses, tf.float32)
            return {"log_probability": tf.reduce_sum(each, 1), "length": lengths, "tokens": tf.gather(self.units.names, tokens),
                    "token_log_probabilities": each}  # fmt: skip

        def generate(
            prompts: tf.Tensor, length: tf.Tensor, temperature: tf.Tensor, top_k: tf.Tensor, top_p: tf.Tensor, seed: tf.Tensor
        ) -> dict[str, tf.Tensor]:
            """Each `[batch]`, length at most a million → text `<string>[batch]`, what follows each prompt; its log_probability
            `<float>[batch]`; unknown `<string>[batch]`, units of the prompt that training never had; strict `<bool>[batch]`, whether they
            must not be there."""
            last, network, count = self._prompted(model, prompts)
            step, never = self._step(model), np.zeros(len(self.units))
            if self.recipe.text.unit != "bytes":  # no byte is unknown
                never[units.UNKNOWN] = layers.softmax.NEVER

            def without_unknown(tokens: tf.Tensor, state: Any) -> tuple[tf.Tensor, Any]:
                log_probabilities, state = step(tokens, state)
                return log_probabilities + tf.cast(never, log_probabilities.dtype), state

            sampling = decoding.Sampling(temperature, top_k, top_p, seed)
            ids, total = decoding.sample(without_unknown, last, network, tf.minimum(length, LONGEST), sampling, count)
            strict = self.recipe.text.unit == "characters"
            return {"text": self.units.decode(ids, last), "log_probability": total, "unknown": self.units.unknown(prompts),
                    "strict": tf.fill(tf.shape(prompts), strict)}  # fmt: skip

        def advance(tokens: tf.Tensor, lengths: tf.Tensor, *flat: tf.Tensor) -> dict[str, tf.Tensor]:
            """Ids `<int32>[batch, time]` padded by 0, lengths `<int32>[batch]`, state → log_probabilities `<float>[batch, time]` and
            the state after them."""
            state = tf.nest.pack_sequence_as(self._state_nest(), flat)
            losses, state = self.advance(model, tokens, lengths, state)
            return {"log_probabilities": -tf.cast(losses, tf.float32), **self._named(state)}

        def specs(**dtypes: tf.DType) -> tuple[tf.TensorSpec, ...]:
            return tuple(tf.TensorSpec([None], dtype, name) for name, dtype in dtypes.items())

        sampled = specs(
            prompts=tf.string, length=tf.int32, temperature=tf.float32, top_k=tf.int32, top_p=tf.float32, seed=tf.int32
        )
        state = [tf.TensorSpec([None, *v.shape[1:]], v.dtype, name) for name, v in self._named(self._state_nest()).items()]
        return {
            "serving_default": Signature(serving_default, specs(texts=tf.string)),
            "score": Signature(score, specs(texts=tf.string)),
            "generate": Signature(generate, sampled, alike=("length",)),
            "advance": Signature(advance, (tf.TensorSpec([None, None], tf.int32, "tokens"), *specs(lengths=tf.int32), *state)),
        }

    def view(self) -> Mapping[str, Any]:
        return {"kind": "continuation", "unit": self.recipe.text.unit}

    def _state_nest(self) -> Any:
        return np.zeros(1, np.int32), self._zero_state(1)

    def _named(self, state: Any) -> dict[str, tf.Tensor]:
        return {f"state_{number}": value for number, value in enumerate(tf.nest.flatten(state))}

    def resources(self) -> list[Any]:
        tables = [self._tokenizer.table] if self.recipe.text.rules else []
        return [*self.units.resources, *tables, *(self.ngrams.variables if self.counted else [])]

    # Scores

    def evaluate(self, answer: Answering, examples: Sequence[Piece]) -> list[dict[str, Any]]:
        """One contiguous pass: each token is scored once, with all before it in the state."""
        with self.ids(examples) as tokens:
            nats = scoring.contiguous(answer.functions["advance"], tokens, self._named(self.initial_state(1)))
            return self._results(examples, tokens, nats)

    def _results(self, examples: Sequence[Piece], tokens: np.ndarray, nats: np.ndarray) -> list[dict[str, Any]]:
        lengths = [self.encoded(chunk).row_lengths().numpy() for chunk in chunks(examples)]
        places, given = [str(piece.where) for piece in examples], [piece.inputs[0] for piece in examples]
        return scoring.pieces(places, given, np.concatenate([np.zeros(0, np.int64), *lengths]), nats, self.units.counts[tokens])

    def aside(self, answer: Answering, examples: Sequence[Piece]) -> Scores | None:
        """The score over random windows, and that of minimal pairs, where there are such."""
        found, size = [], self.recipe.data.random_windows
        if size:
            with self.ids(examples) as tokens:
                if len(tokens) > size:
                    nats = scoring.in_windows(answer.functions["advance"], tokens, size, self._after)
                    found.append(scores.windows(nats, size))
        if self.recipe.data.is_toy_world_of("language_modeling") and self.recipe.text.unit == "words":
            probes = list(toy_world.probes("test"))
            both = [(f"{probe.prefix} {word}",) for probe in probes for word in (probe.right, probe.wrong)]
            outputs = answer("score", both)
            last = np.maximum(outputs["length"] - 1, 0)[:, None]  # what the word alone is given: the prefix is the same
            right, wrong = np.take_along_axis(outputs["token_log_probabilities"], last, 1).reshape(-1, 2).T
            preferred = np.where(right == wrong, 0.5, right > wrong)
            kinds, distances = [probe.kind for probe in probes], np.array([probe.distance for probe in probes])
            found.append(scores.minimal_pairs(preferred, kinds, distances))
        return scores.joined(*found) if len(found) > 1 else found[0] if found else None

    def _after(self, tokens: np.ndarray) -> dict[str, tf.Tensor]:
        """The state in which each row has read one token `<int>[rows]` and nothing before it."""
        return self._named((tf.constant(tokens, tf.int32), self._zero_state(len(tokens))))

    def score(self, results: Sequence[dict[str, Any]]) -> Scores:
        return scores.language_model(results, self.recipe.text.unit, [name for name, _ in scoring.COUNTS])

    def baseline(self, examples: Callable[[str], Iterator[Piece]], test: Sequence[Piece]) -> tuple[str, Scores]:
        """A Kneser-Ney n-gram counted on the same text; for the n-gram itself, unigrams."""
        order = 1 if self.counted else BASELINE[self.recipe.text.unit]
        with self.ids(examples("train"), most=MOST_COUNTED, first=1) as train, self.ids(test) as tokens:
            nats = scoring.of_ngrams(train, tokens - 1, len(self.units) - 1, order, self.units.boundary - 1)
            name = "unigrams" if order == 1 else f"Kneser-Ney {order}-gram"
            name += f" of the first {MOST_COUNTED // 10**6} million tokens" if len(train) == MOST_COUNTED else ""
            return name, self.score(self._results(test, tokens, nats))
