"""Question answering over passages: the answer is a span of the passage.

The lecture's three steps are three parts of the model: question and passage become vectors, they are combined, and two pointers choose
where the answer starts and ends. What differs is the middle (`[model] kind`):

    attentive   a BiLSTM for each; the question's last state is compared with each token of the passage (Hermann 2015; Chen 2016)
    drqa        tokens of the passage know which words of the question they are like, before deep BiLSTMs read them (Chen 2017)
    bidaf       attention in both directions between the two, then BiLSTMs over what was found (Seo 2017)
"""

from __future__ import annotations

import functools
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple

import numpy as np
from msgspec import Meta

from nlp_tasks import recipe
from nlp_tasks.data import passages
from nlp_tasks.data.findings import PLACES, Finding, Level, Tally
from nlp_tasks.data.rows import CHUNK, Counts, Row, Where, chunks
from nlp_tasks.data.sources import open_source
from nlp_tasks.data.splits import SPLITS, Splits
from nlp_tasks.errors import UserError
from nlp_tasks.lazy import lazy
from nlp_tasks.recipe import NonNegative, Positive, Section, Share, check_unused
from nlp_tasks.tasks import question_answering_baselines, question_answering_scores
from nlp_tasks.tasks.known_words import KnownWords
from nlp_tasks.tasks.question_answering_verbs import verbs
from nlp_tasks.tasks.task import Answering, Examiner, Loss, Signature, Verb

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from nlp_tasks import layers
    from nlp_tasks.data.store import Ragged
    from nlp_tasks.layers import Noise
    from nlp_tasks.scores import Scores
    from nlp_tasks.text import characters, matches, ragged, tokenizer, vocabulary
else:
    keras, tf, layers = lazy("keras"), lazy("tensorflow"), lazy("nlp_tasks.layers")
    characters, matches = lazy("nlp_tasks.text.characters"), lazy("nlp_tasks.text.matches")
    ragged, tokenizer = lazy("nlp_tasks.text.ragged"), lazy("nlp_tasks.text.tokenizer")
    vocabulary = lazy("nlp_tasks.text.vocabulary")

SIDES = ("question", "passage")
MOST, FURTHER, AND_MORE = 100, 8, 64
"""Answers of a question, at most. Spans looked at for each answer asked for, and beside, where more than one is: some are the same text."""
LONG = 0.02
"""With a larger share of answers that are too long to be given, `check` warns."""


class Data(recipe.Data, frozen=True, kw_only=True):
    """`[data]`: train, validation and test name files in the form of SQuAD 1.1, plain or gzipped.

    vectors: a file of word vectors as text (GloVe, word2vec; .gz too), below directory.
    """

    vectors: str = ""


class Text(recipe.Text, frozen=True, kw_only=True):
    """`[text]`: f1: what F1 counts: words, or characters where words have no spaces between."""

    minimum_count: Positive = 2
    f1: Literal["words", "characters"] = "words"


class Model(Section, frozen=True, kw_only=True):
    """`[model]`: kind: as above.

    embedding: features of a word's vector. vectors: whether those of data.vectors stay as they are
        ("frozen"), or are "tuned", after so many steps (tuned_after).
    characters: filters of a convolution over each token's characters (0: none); longest: so many characters of a token are read.
    pairs: buckets of hashed pairs of neighbouring tokens, which help where a token is a character (0: none).
    overlap: whether a token knows that the other side has it, too: as it is, in lower case, by its first letters, with a neighbour.
    units: of each direction of the LSTMs; depth: so many of them, one upon the other (of bidaf: behind the attention).
    token_dropout: share of words without their vectors in training: read as unknown, but for characters, pairs and overlap.
    embedding_dropout, dropout: shares left out before, and between and after, the LSTMs.
    """

    kind: Literal["attentive", "drqa", "bidaf"] = "drqa"
    embedding: Positive = 128
    vectors: Literal["frozen", "tuned"] = "frozen"
    tuned_after: NonNegative = 0
    characters: NonNegative = 64
    longest: Positive = 20
    pairs: NonNegative = 0
    overlap: bool = True
    units: Positive = 128
    depth: Positive = 3
    token_dropout: Share = 0.0
    embedding_dropout: Share = 0.3
    dropout: Share = 0.3


class Decoding(Section, frozen=True, kw_only=True):
    """`[decoding]`: max_answer_tokens: no answer has more tokens."""

    max_answer_tokens: Annotated[int, Meta(ge=1, le=200)] = 20


class Recipe(recipe.Recipe, frozen=True, kw_only=True):
    data: Data
    text: Text = Text()
    model: Model = Model()
    decoding: Decoding = Decoding()


class Question(NamedTuple):
    """A question, its passage, and where people found the answer."""

    inputs: tuple[str, str]
    target: tuple[str, ...]
    """Right answers, one an annotator."""
    where: Where
    starts: tuple[int, ...]
    """First character of each in the passage; -1 where it is not known."""
    id: str = ""
    title: str = ""


class QuestionAnswering(KnownWords):
    """A question and a passage to a span of the passage."""

    recipe_type = Recipe
    headline = "f1"
    independent = False  # many questions have one passage
    joint_vocabulary = True
    order: ClassVar[tuple[str, ...]] = SIDES
    read_file = staticmethod(passages.read_file)

    def __init__(self, recipe: recipe.Recipe) -> None:
        super().__init__(recipe)
        options = self.recipe.model
        unused = ("depth",) if options.kind == "attentive" else ()
        check_unused("model", options, unused, f'model.kind = "{options.kind}"')
        if not options.characters:
            check_unused("model", options, ("longest",), "model.characters = 0")

    @property
    def verbs(self) -> tuple[Verb, ...]:
        return verbs()

    # Data

    @classmethod
    def columns(cls, data: recipe.Data) -> Mapping[str, Sequence[str]]:
        return passages.COLUMNS

    @classmethod
    def splits(cls, recipe: recipe.Recipe, data_dir: str | None) -> Splits:
        source = open_source(recipe.data, recipe.task.name, cls.columns(recipe.data), cls.order, data_dir, cls.read_file)
        return Splits(source, recipe.data, "passage")

    def text(self, example: Question) -> str:
        return example.inputs[1]

    def read(self, rows: Iterable[Row], counts: Counts) -> Iterator[Question]:
        rows = iter(rows)
        for number, row in enumerate(rows):
            fields = row.fields
            if not fields["answers"]:
                others = [not further.fields["answers"] for further in rows]
                raise UserError(f"{row.where}: {1 + sum(others):,} of {1 + number + len(others):,} questions have no answer, first "
                                f"{fields['id']!r}", "unanswerable questions, as SQuAD 2.0 has them, are not supported yet: leave them "
                                "out")  # fmt: skip
            starts, problems = passages.mended_starts(fields["passage"], fields["answers"], tuple(map(int, fields["starts"])))
            for kind, problem in problems:
                counts.mended.setdefault(kind, []).append(f"{row.where}: {fields['id']}: {problem}")
            inputs = fields["question"], fields["passage"]
            yield Question(inputs, tuple(fields["answers"]), row.where, tuple(starts), fields["id"], fields["title"])

    def unfit(self, example: Question) -> str:
        if not all(text.strip() for text in example.inputs):
            return "an empty question or passage"
        return "" if max(example.starts, default=-1) >= 0 else "no answer that stands in its passage"

    def tokenize(self, *strings: tf.Tensor) -> Mapping[str, tf.RaggedTensor]:
        tokens = {side: self.tokenizer(texts).text for side, texts in zip(SIDES, strings, strict=True)}
        return {side: part.with_values(self.words_of(part.values)) for side, part in tokens.items()}

    @functools.cached_property
    def tokenizer(self) -> tokenizer.Tokenizer:
        return tokenizer.Tokenizer(False, self.recipe.text.blank)

    def examiner(self) -> Examiner:
        return _Answers(self.tokenizer, self.recipe.decoding.max_answer_tokens)

    # Resources: vocabulary.tsv, characters.json, vectors.npy

    def prepare(self, examples: Callable[[], Iterator[Question]], folder: Path) -> None:
        counts: Counter[bytes] = Counter()
        letters: set[str] = set()
        once = dict.fromkeys(part for question in examples() for part in question.inputs)  # a passage has many questions
        for texts in chunks(once):
            tokens = self.tokenizer(tf.constant(texts)).text.values
            letters.update(b"".join(tokens.numpy()).decode())
            counts.update(vocabulary.count_tokens([self.words_of(tokens)]))
        characters.write_characters(folder / "characters.json", letters)
        self.prepare_words(counts, folder)

    def load(self, folder: Path) -> None:
        self.load_words(folder)
        self.characters = characters.Characters(folder / "characters.json", self.recipe.model.longest)

    # Encoding

    def encode(self, *strings: tf.Tensor) -> dict[str, tf.Tensor | tf.RaggedTensor]:
        return self._fields(*(self.tokenizer(texts).text for texts in strings))

    def _fields(self, question: tf.RaggedTensor, passage: tf.RaggedTensor) -> dict[str, tf.RaggedTensor]:
        options = self.recipe.model
        fields = {}
        both = {"question": question, "passage": passage}
        for side, tokens in both.items():
            fields[side] = tokens.with_values(self.vocabulary.lookup(self.words_of(tokens.values)))
            if options.characters:
                fields[f"{side}_characters"] = tokens.with_values(self.characters.lookup(tokens.values))
            if options.pairs:
                fields[f"{side}_pairs"] = matches.pairs(tokens, options.pairs)
        if options.overlap:
            fields["question_overlap"], fields["passage_overlap"] = matches.overlap(question, passage)
        return fields

    def targets(self, examples: Sequence[Question]) -> Mapping[str, Ragged]:
        """First and last token of each answer that stands in its passage; the fewest tokens that cover it."""
        tokens = self.tokenizer(tf.constant([example.inputs[1] for example in examples], tf.string, [len(examples)]))
        first, last = tokens.character_starts.to_list(), tokens.character_ends.to_list()
        found = [
            [_covered(first[row], last[row], start, start + len(text)) for text, start in zip(example.target, example.starts, strict=True)
             if start >= 0 and first[row]]
            for row, example in enumerate(examples)
        ]  # fmt: skip
        lengths = np.array([len(answers) for answers in found])
        flat = np.array([answer for answers in found for answer in answers], np.int32).reshape(-1, 2)
        return {"starts": (flat[:, 0], lengths), "ends": (flat[:, 1], lengths)}

    @property
    def length_field(self) -> str:
        return "passage"

    # Model: represent, combine, predict

    def build(self) -> Any:
        options = self.recipe.model
        made: dict[str, Any] = {
            "embedding": layers.Embedding(
                self.trained_words, options.embedding, scale=0.5
            ),  # a word that is rare hardly moves from there
            "token_dropout": layers.TokenDropout(options.token_dropout, vocabulary.UNKNOWN),
            "embedding_dropout": layers.Dropout(options.embedding_dropout),
            "dropout": layers.Dropout(options.dropout),
        }
        made |= self.vectors_of_the_file()
        if options.characters:
            network = layers.Convolution(options.characters, 3)
            made["characters"] = layers.CharacterEncoder(
                len(self.characters), 32, network, distinct=not self.recipe.training.compile
            )
        if options.pairs:
            made["pairs"] = layers.Embedding(options.pairs + 1, options.embedding, scale=0.3)

        def both() -> Any:
            return layers.Bidirectional(layers.LSTM(options.units), layers.LSTM(options.units))

        if options.kind == "bidaf":
            # A softmax over places does not see a bias: its gradient would be rounding, which Adam takes for steps.
            pointers = {name: keras.layers.Dense(1, use_bias=False) for name in ("starts", "ends")}
            made |= {"reader": both(), "attention": layers.ContextQueryAttention(), **pointers, "end_reader": both(),
                     "model": layers.Stack(*(both() for _ in range(options.depth)), dropout=options.dropout)}  # fmt: skip
        else:
            depth = options.depth if options.kind == "drqa" else 1
            made |= {f"{side}_{number}": both() for side in SIDES for number in range(1, depth + 1)}
            made |= {"starts": layers.BilinearPointer(), "ends": layers.BilinearPointer()}
        if options.kind == "drqa":
            made |= {"alignment": layers.QuestionAlignment(options.embedding), "summary": layers.AttentionPooling(options.units)}
        return layers.Model(self._points, **made)

    def _points(self, model: Any, batch: dict[str, tf.Tensor], noise: Noise | None) -> tuple[tf.Tensor, tf.Tensor]:
        """Logits of where the answer starts and ends: `<float>[rows, time]` each."""
        inputs = {side: self._represented(model, batch, side, noise) for side in SIDES}
        lengths = {side: batch[f"{side}_lengths"] for side in SIDES}
        combine = {"attentive": self._attentive, "drqa": self._drqa, "bidaf": self._bidaf}[self.recipe.model.kind]
        starts, ends = combine(model, inputs, lengths, noise)
        return starts, ends

    def _represented(self, model: Any, batch: dict[str, tf.Tensor], side: str, noise: Noise | None) -> tf.Tensor:
        """`<float>[rows, time, features]`, zeros beyond a row's length."""
        words = model.token_dropout(batch[side], noise and noise.within(side))
        parts = [model.embedding(self.known(words))]
        if self.vectors is not None:
            parts.append(model.vectors(words))
        if self.recipe.model.characters:
            parts.append(model.characters(batch[f"{side}_characters"]))
        if self.recipe.model.pairs:
            parts.append(tf.reduce_sum(model.pairs(batch[f"{side}_pairs"]), -2))
        vectors = model.embedding_dropout(tf.concat(parts, -1), noise and noise.within(side))
        if self.recipe.model.overlap:
            vectors = tf.concat([vectors, tf.cast(batch[f"{side}_overlap"], vectors.dtype)], -1)
        inside = tf.sequence_mask(batch[f"{side}_lengths"], tf.shape(words)[1])[:, :, None]
        return tf.where(inside, vectors, tf.zeros([], vectors.dtype))

    def _attentive(self, model: Any, inputs: Any, lengths: Any, noise: Noise | None) -> tuple[tf.Tensor, tf.Tensor]:
        passage, _ = model.passage_1(inputs["passage"], lengths["passage"], noise=noise)
        _, (forward, backward) = model.question_1(inputs["question"], lengths["question"], noise=noise)
        question = model.dropout(tf.concat([forward[0], backward[0]], -1), noise and noise.within("question"))
        passage = model.dropout(passage, noise)
        return model.starts(passage, question), model.ends(passage, question)

    def _drqa(self, model: Any, inputs: Any, lengths: Any, noise: Noise | None) -> tuple[tf.Tensor, tf.Tensor]:
        read = self._deep(model, inputs, lengths, noise)
        question = model.summary(read["question"], lengths["question"])
        starts = model.starts(read["passage"], question)
        # The end knows where the start is expected.
        weights = tf.cast(tf.exp(layers.pointed(starts, lengths["passage"])), starts.dtype)
        expected = tf.linalg.matvec(read["passage"], weights, transpose_a=True)
        return starts, model.ends(read["passage"], tf.concat([question, expected], -1))

    def _deep(self, model: Any, inputs: Any, lengths: Any, noise: Noise | None) -> dict[str, tf.Tensor]:
        """Of both sides the outputs of all layers side by side."""
        outputs: dict[str, list[tf.Tensor]] = {side: [] for side in SIDES}
        aligned = model.alignment(inputs["passage"], inputs["question"], lengths["question"])
        inputs = {**inputs, "passage": tf.concat([inputs["passage"], aligned], -1)}
        for number in range(1, self.recipe.model.depth + 1):
            read = {side: getattr(model, f"{side}_{number}")(inputs[side], lengths[side], noise=noise)[0] for side in SIDES}
            inputs = {side: model.dropout(read[side], noise and noise.within(f"{side}_{number}")) for side in SIDES}
            for side in SIDES:
                outputs[side].append(inputs[side])
        return {side: tf.concat(outputs[side], -1) for side in SIDES}

    def _bidaf(self, model: Any, inputs: Any, lengths: Any, noise: Noise | None) -> tuple[tf.Tensor, tf.Tensor]:
        read = {side: model.reader(inputs[side], lengths[side], noise=noise and noise.within(side))[0] for side in SIDES}
        found = model.attention(read["passage"], read["question"], lengths["passage"], lengths["question"])
        modeled, _ = model.model(model.dropout(found, noise and noise.within("found")), lengths["passage"], None, noise)
        ends, _ = model.end_reader(modeled, lengths["passage"], noise=noise)
        starts = model.dropout(tf.concat([found, modeled], -1), noise and noise.within("starts"))
        ends = model.dropout(tf.concat([found, ends], -1), noise and noise.within("ends"))
        return model.starts(starts)[:, :, 0], model.ends(ends)[:, :, 0]

    # Loss and answers

    def loss(self, model: Any, batch: dict[str, tf.Tensor], state: Any, noise: Noise | None) -> Loss:
        """Mean over the annotators' answers of -log p(start) - log p(end)."""
        lengths = batch["passage_lengths"]
        starts, ends = (layers.pointed(logits, lengths) for logits in model(batch, noise))
        answers = batch["starts_lengths"]
        inside = tf.sequence_mask(answers, tf.shape(batch["starts"])[1])
        losses = -sum(tf.gather(points, batch[name], batch_dims=1) for name, points in (("starts", starts), ("ends", ends)))
        counted = tf.cast((answers > 0) & (batch["weight"] > 0), losses.dtype)
        each = tf.reduce_sum(tf.where(inside, losses, tf.zeros([], losses.dtype)), 1) / tf.cast(
            tf.maximum(answers, 1), losses.dtype
        )
        parts = {}
        if noise is None:
            found = layers.best_spans(starts, ends, self.recipe.decoding.max_answer_tokens, tf.constant(1))
            right = inside & (batch["starts"] == found.starts) & (batch["ends"] == found.ends)
            parts["span_accuracy"] = (
                tf.reduce_sum(tf.cast(tf.reduce_any(right, 1), losses.dtype) * counted),
                tf.reduce_sum(counted),
            )
        return Loss(tf.reduce_sum(each * counted), tf.reduce_sum(counted), parts, state)

    def _answered(self, model: Any, questions: tf.Tensor, passages: tf.Tensor, counts: tf.Tensor) -> dict[str, tf.Tensor]:
        """Of each row the `counts` `<int32>[batch]` best answers of different texts, best first, `[batch, most]`, padded by "" and 0."""
        looked_at = tf.where(counts > 1, counts * FURTHER + AND_MORE, 1)
        tokens, asked = self.tokenizer(passages), self.tokenizer(questions).text
        batch = ragged.batch(self._fields(asked, tokens.text))
        lengths = batch["passage_lengths"]
        starts, ends = (layers.pointed(logits, lengths) for logits in model(batch, None))
        count, most = (tf.reduce_max(tf.concat([each, [1]], 0)) for each in (looked_at, counts))
        found = layers.best_spans(starts, ends, self.recipe.decoding.max_answer_tokens, count)
        places = {}
        for name, (field, at) in {
            "byte_starts": (tokens.byte_starts, found.starts), "byte_ends": (tokens.byte_ends, found.ends),
            "starts": (tokens.character_starts, found.starts), "ends": (tokens.character_ends, found.ends),
        }.items():  # fmt: skip
            places[name] = tf.cast(tf.gather(ragged.padded(field), at, batch_dims=1), tf.int32)
        repeated = tf.repeat(passages[:, None], tf.shape(found.scores)[1], 1)
        sizes = places["byte_ends"] - places["byte_starts"]
        there = (found.scores > layers.softmax.NEVER / 2) & ((lengths > 0) & (batch["question_lengths"] > 0))[:, None]
        there &= tf.range(count) < looked_at[:, None]
        begins = tf.where(there, places["byte_starts"], 0)
        texts = tf.strings.substr(repeated, begins, tf.where(there, sizes, 0))
        there &= ~_seen_before(texts)
        order = tf.argsort(tf.where(there, tf.range(tf.shape(there)[1]), tf.shape(there)[1]), 1, stable=True)[:, :most]
        there = tf.gather(there, order, batch_dims=1)
        chosen = {"answers": texts, "scores": tf.exp(found.scores), **places}
        chosen = {name: tf.gather(value, order, batch_dims=1) for name, value in chosen.items()}
        return _only(there & (tf.range(tf.shape(order)[1]) < counts[:, None]), chosen)

    def signatures(self, model: Any) -> dict[str, Signature]:
        def serving_default(questions: tf.Tensor, passages: tf.Tensor) -> dict[str, tf.Tensor]:
            """`<string>[batch]` each → answers `<string>[batch]`, cut out of the passages; scores `<float>[batch]`: p(start) · p(end);
            starts, ends (in characters), byte_starts, byte_ends `<int32>[batch]`. No answer: "" and a score of 0."""
            found = self._answered(model, questions, passages, tf.ones_like(questions, tf.int32))
            return {name: value[:, 0] for name, value in found.items()}

        def n_best(questions: tf.Tensor, passages: tf.Tensor, counts: tf.Tensor) -> dict[str, tf.Tensor]:
            """Of each row the `counts` `<int32>[batch]` best answers (at most 100), different texts, best first: the same, `[batch, most]`,
            padded; and lengths `<int32>[batch]`: how many there are. (Fewer, too, where most of the best spans are the same text.)"""
            found = self._answered(model, questions, passages, tf.clip_by_value(counts, 0, MOST))
            return {**found, "lengths": tf.math.count_nonzero(found["answers"] != "", 1, dtype=tf.int32)}

        pair = tuple(tf.TensorSpec([None], tf.string, name) for name in ("questions", "passages"))
        return {
            "serving_default": Signature(serving_default, pair),
            "n_best": Signature(n_best, (*pair, tf.TensorSpec([None], tf.int32, "counts")), alike=("counts",)),
        }

    def view(self) -> Mapping[str, Any]:
        return {"kind": "passage"}

    def resources(self) -> list[Any]:
        return [self.tokenizer.table, self.vocabulary.table, self.characters.codes]

    # Scores

    def evaluate(self, answer: Answering, examples: Sequence[Question]) -> list[dict[str, Any]]:
        found = answer("serving_default", [example.inputs for example in examples])
        results = []
        for index, example in enumerate(examples):
            given, score = found["answers"][index].decode(), float(found["scores"][index])
            right = question_answering_scores.exact_match(given, example.target) > 0
            results.append({
                "id": example.id or index, "where": str(example.where), "text": f"{example.inputs[0]}\n{example.inputs[1]}",
                "question": example.inputs[0], "golds": list(example.target), "gold": given if right else example.target[0],
                "answer": given, "score": round(score, 6), "title": example.title,
                "loss": round(-float(np.log(max(1e-6, score if right else 1 - score))), 4),
                "start": int(found["starts"][index]), "length": len(example.inputs[1].split()),
                "marks": {} if right else _marks(example, given, int(found["starts"][index])),
            })  # fmt: skip
        return results

    def score(self, results: Sequence[dict[str, Any]]) -> Scores:
        return question_answering_scores.reading(results, characters=self.recipe.text.f1 == "characters")

    def baseline(self, examples: Callable[[str], Iterator[Question]], test: Sequence[Question]) -> tuple[str, Scores]:
        answers = [question_answering_baselines.sliding_window(*example.inputs) for example in test]
        return "sliding window", self.score([
            {"question": example.inputs[0], "golds": list(example.target), "answer": answer, "title": example.title}
            for example, answer in zip(test, answers, strict=True)
        ])  # fmt: skip


def _marks(example: Question, given: str, start: int) -> dict[str, tuple[int, int]]:
    """Where the gold answer and the given one stand in question and passage, a line each."""
    before = len(example.inputs[0]) + 1
    both = {"gold": (example.target[0], example.starts[0]), "answer": (given, start)}
    return {name: (before + place, before + place + len(text)) for name, (text, place) in both.items() if text and place >= 0}


class _Answers(Examiner):
    """Finds answers that do not begin and end where tokens do or are too long to be given, and passages of other splits that train has."""

    def __init__(self, split: Any, longest: int) -> None:
        self._tokenize = split
        self._longest = longest
        self._waiting: list[tuple[str, Question]] = []
        self._found = {name: Tally() for name in SPLITS}
        self._answers = dict.fromkeys(SPLITS, 0)
        self._passages: dict[str, dict[bytes, Where]] = {name: {} for name in SPLITS}

    def see(self, split: str, example: Question) -> None:
        passage = hashlib.blake2b(example.inputs[1].encode(), digest_size=16).digest()
        self._passages[split].setdefault(passage, example.where)
        self._waiting.append((split, example))
        if len(self._waiting) == CHUNK:
            self._look()

    def _look(self) -> None:
        texts = [example.inputs[1] for _, example in self._waiting]
        tokens = self._tokenize(tf.constant(texts, tf.string, [len(texts)]))
        for (split, example), first, last in zip(
            self._waiting, tokens.character_starts.to_list(), tokens.character_ends.to_list(), strict=True
        ):
            known = [(start, start + len(text)) for text, start in zip(example.target, example.starts, strict=True) if start >= 0]
            self._answers[split] += len(known)
            for start, end in known if first else ():
                if start not in first or end not in last:
                    self._found[split].add("cut", example.where)
                begin, stop = _covered(first, last, start, end)
                if stop - begin >= self._longest:
                    self._found[split].add("long", example.where)
        self._waiting = []

    def findings(self) -> Iterator[Finding]:
        self._look()
        for split in SPLITS:
            counts, places, answers = self._found[split].counts, self._found[split].places, f"{self._answers[split]:,}"
            if counts["cut"]:
                yield Finding("cut_answers", "note", split, f"answers that do not begin and end where tokens do: {counts['cut']:,} of "
                              f"{answers}", counts["cut"], places["cut"], "training takes the fewest tokens that cover them")  # fmt: skip
            if counts["long"]:
                level: Level = "warning" if counts["long"] > LONG * self._answers[split] else "note"
                yield Finding("long_answers", level, split, f"answers of more than {self._longest} tokens, which are never given: "
                              f"{counts['long']:,} of {answers}", counts["long"], places["long"],
                              "a larger decoding.max_answer_tokens lets the model give them")  # fmt: skip
        for split in ("validation", "test"):
            copies = [where for passage, where in self._passages[split].items() if passage in self._passages["train"]]
            if copies:
                yield Finding("copied_passages", "warning", split, f"passages that train has, too: {len(copies):,} of "
                              f"{len(self._passages[split]):,}", len(copies), [str(where) for where in copies[:PLACES]],
                              "scores on them say little about new ones: leave them out of train")  # fmt: skip


def _covered(first: Sequence[int], last: Sequence[int], start: int, end: int) -> tuple[int, int]:
    """The first and last of the fewest tokens that cover characters `start` to `end`; the nearest one where none does."""
    begin = int(np.searchsorted(last, start, "right"))
    stop = int(np.searchsorted(first, end, "left")) - 1
    begin = min(begin, len(first) - 1)
    return begin, max(begin, stop)


def _only(there: tf.Tensor, values: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Values `[batch, count]` where they count, and "" or 0 elsewhere."""
    return {name: tf.where(there, value, tf.zeros([], value.dtype)) for name, value in values.items()}


def _seen_before(texts: tf.Tensor) -> tf.Tensor:
    """`<string>[batch, count]` → whether an earlier one of the row is the same."""
    rows, count = tf.unstack(tf.shape(texts))
    numbers = tf.tile(tf.strings.as_string(tf.range(rows))[:, None], [1, count])
    different, which = tf.unique(tf.reshape(tf.strings.join([numbers, texts], " "), [-1]))
    places = tf.range(rows * count)
    first = tf.math.unsorted_segment_min(places, which, tf.size(different))
    return tf.reshape(places > tf.gather(first, which), [rows, count])
