"""Sequence tagging: one tag a word, such as its part of speech, or tags that write spans, such as names.

A word is known by its vector, by its characters and, where a file of vectors is given, by what others counted of it; a bidirectional
recurrent network reads the sentence; a softmax or a conditional random field chooses the tags.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple

import numpy as np
from msgspec import Meta

from nlp_tasks import recipe
from nlp_tasks.data import sentences, spans
from nlp_tasks.data.findings import PLACES, Finding
from nlp_tasks.data.rows import CHUNK, Counts, Row, Where, chunks
from nlp_tasks.errors import UserError
from nlp_tasks.lazy import lazy
from nlp_tasks.progress import tell
from nlp_tasks.recipe import NonNegative, Positive, Section, Share
from nlp_tasks.tasks import tagging_baselines, tagging_meanings
from nlp_tasks.tasks.known_words import KnownWords
from nlp_tasks.tasks.task import Asked, Document, Examiner, Inputs, Loss, Signature, Verb

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from nlp_tasks import layers, scores
    from nlp_tasks.data.store import Ragged
    from nlp_tasks.layers import Noise
    from nlp_tasks.scores import Scores
    from nlp_tasks.text import characters, learned_tokenizer, ragged, vocabulary
else:
    keras, tf = lazy("keras"), lazy("tensorflow")
    layers, scores = lazy("nlp_tasks.layers"), lazy("nlp_tasks.scores")
    characters, ragged = lazy("nlp_tasks.text.characters"), lazy("nlp_tasks.text.ragged")
    learned_tokenizer, vocabulary = lazy("nlp_tasks.text.learned_tokenizer"), lazy("nlp_tasks.text.vocabulary")


class Data(recipe.Data, frozen=True, kw_only=True):
    """`[data]`: tags: the column that holds the tags: of CoNLL-U "upos" or "xpos"; a TFDS set may call it otherwise ("ner_tags").

    columns: the columns of a column file, from left to right; "words" and "tags" are read.
    also: further columns of tags, such as "xpos" and "feats", that are learned beside, because they say something about the words.
    scheme: "tags" gives each word a tag of its own; "bio" and "bioes" write spans.
    vectors: a file of word vectors as text (GloVe, word2vec; .gz too), below directory.
    """

    tags: str = "upos"
    columns: tuple[str, ...] = ("words", "tags")
    also: tuple[str, ...] = ()
    scheme: Literal["tags", "bio", "bioes"] = "tags"
    vectors: str = ""


class Characters(Section, frozen=True, kw_only=True):
    """network: how the characters of a word are read. longest: so many of them; of a longer word its two ends.

    embedding: features of a character. widths, filters: of the convolution. units: of each direction of the LSTM.
    """

    network: Literal["convolution", "lstm", "none"] = "convolution"
    longest: Positive = 24
    embedding: Positive = 32
    widths: Annotated[tuple[Positive, ...], Meta(min_length=1)] = (3,)
    filters: Positive = 64
    units: Positive = 50


class Model(Section, frozen=True, kw_only=True):
    """`[model]`: embedding: features of a word's vector. vectors: whether those of data.vectors stay as they are
        ("frozen"), or are "tuned", after so many steps (tuned_after).

    cell, units (of each direction), depth, bidirectional: the recurrent network.
    output: "softmax" chooses each tag by itself (spans are kept well-formed), "crf" the best sequence.
    spans: the tags that the model writes spans with inside; answers are always BIO.
    singleton_dropout: how often a word that training has once is read as unknown, which trains the vector of unknown words.
    token_dropout: the same for all words. embedding_dropout, dropout: shares left out before, and between and after, the layers.
    """

    embedding: Positive = 100
    vectors: Literal["frozen", "tuned"] = "frozen"
    tuned_after: NonNegative = 0
    characters: Characters = Characters()
    cell: Literal["lstm", "gru", "min_gru"] = "lstm"
    units: Positive = 200
    depth: Positive = 1
    bidirectional: bool = True
    output: Literal["softmax", "crf"] = "softmax"
    spans: Literal["bio", "bioes"] = "bioes"
    singleton_dropout: Share = 0.5
    token_dropout: Share = 0.0
    embedding_dropout: Share = 0.3
    dropout: Share = 0.5


class Recipe(recipe.Recipe, frozen=True, kw_only=True):
    data: Data
    model: Model = Model()


class Sentence(NamedTuple):
    """A sentence in words, and the tag of each."""

    inputs: tuple[tuple[str, ...]]
    target: tuple[str, ...]
    where: Where
    also: tuple[tuple[str, ...], ...] = ()
    """The tags of each column of data.also."""
    text: str = ""
    """What the words were split from, where that is known."""


class Tagging(KnownWords):
    """Words to tags."""

    recipe_type = Recipe
    read_file = staticmethod(sentences.read_file)
    scored = "tokens"
    order: ClassVar[tuple[str, ...]] = ("words", "tags")

    @property
    def _writes_spans(self) -> bool:
        return self.recipe.data.scheme != "tags"

    @property
    def headline(self) -> str:
        return "span_f1" if self._writes_spans else "accuracy"

    # Data

    @classmethod
    def columns(cls, data: recipe.Data) -> Mapping[str, Sequence[str]]:
        assert isinstance(data, Data)
        return {"words": ("words", "tokens", "form"), "tags": (data.tags, "tags")} | {name: (name,) for name in data.also}

    def read(self, rows: Iterable[Row], counts: Counts) -> Iterator[Sentence]:
        for row in rows:
            words, tags = row.fields["words"], row.fields["tags"]
            if not words:
                counts.dropped["sentence without words"] += 1
                continue
            if self._writes_spans:
                tags = self._spans(row, counts)
            also = tuple(tuple(row.fields[name]) for name in self.recipe.data.also)
            yield Sentence((tuple(words),), tuple(tags), row.where, also, row.text)

    def _spans(self, row: Row, counts: Counts) -> list[str]:
        """Tags in the scheme of the model; malformed sequences are read as conlleval reads them, and counted with their place."""
        tags, scheme = row.fields["tags"], self.recipe.data.scheme
        try:
            found, problems = spans.read_tags(tags, scheme)
        except ValueError as error:
            wrong = next(i for i in range(len(tags)) if not _is_tag(tags[i], scheme))
            raise UserError(f"{row.place(wrong)}: {error}", 'set data.scheme = "tags" if the tags write no spans, '
                            "or data.columns if they stand in another column") from None  # fmt: skip
        for index, problem in problems:
            counts.mended.setdefault("malformed tag sequences, read as conlleval reads them", []).append(
                f"{row.place(index)}: {problem}"
            )
        return spans.write_tags(found, len(tags), self.recipe.model.spans)

    def labels_of(self, example: Sentence) -> Sequence[str]:
        return [self._answered(tag) for tag in example.target]

    def check_labels(self, labels: Mapping[str, int]) -> None:
        if len(labels) < 2:
            found = f"only one tag, {next(iter(labels))!r}" if labels else "no sentences"
            raise UserError(
                f"the training data has {found}", f"do the tags stand in the column data.tags = {self.recipe.data.tags!r}?"
            )
        if len(labels) > 1000:
            raise UserError(f"the training data has {len(labels):,} different tags; is data.columns right?",
                            'it names the columns of a file from left to right, for example ["words", "pos", "tags"]')  # fmt: skip

    def tokenize(self, *strings: tf.Tensor) -> dict[str, tf.RaggedTensor]:
        tokens = tf.RaggedTensor.from_tensor(strings[0], padding="")
        return {"words": tokens.with_values(self.words_of(tokens.values))}

    def examiner(self) -> Examiner:
        return _Contradictions(self.labels_of)

    # Resources: tags.json, vocabulary.tsv, forms.tsv, characters.json, tokenizer.tsv, vectors.npy

    def prepare(self, examples: Callable[[], Iterator[Sentence]], folder: Path) -> None:
        tags: Counter[str] = Counter()
        also: dict[str, set[str]] = {name: set() for name in self.recipe.data.also}
        forms: Counter[bytes] = Counter()
        for sentence in examples():
            tags.update(sentence.target)
            for column, further in zip(also.values(), sentence.also, strict=True):
                column.update(further)
            forms.update(word.encode() for word in sentence.inputs[0])
        self.check_labels(tags)
        names = {*tags}
        if self._writes_spans:  # every tag that a span of a known kind may need
            kinds = {tag[2:] for tag in names - {"O"}}
            names = {"O"} | {f"{prefix}-{kind}" for prefix in self.recipe.model.spans.upper().replace("O", "") for kind in kinds}
        every = {"": sorted(names), **{name: sorted(column) for name, column in also.items()}}
        (folder / "tags.json").write_text(json.dumps(every, ensure_ascii=False, indent=1))
        vocabulary.write_vocabulary(folder / "forms.tsv", forms, minimum_count=1, size=len(forms))
        characters.write_characters(folder / "characters.json", (form.decode() for form in forms))
        counts: Counter[bytes] = Counter()
        for chunk in chunks(forms, CHUNK):
            for word, form in zip(self.words_of(tf.constant(chunk)).numpy(), chunk, strict=True):
                counts[word] += forms[form]
        self.prepare_words(counts, folder)
        texts = ((sentence.text, sentence.inputs[0]) for sentence in examples() if sentence.text)
        learned_tokenizer.learn(texts, folder / "tokenizer.tsv", blank=self.recipe.text.blank)

    def load(self, folder: Path) -> None:
        every: dict[str, list[str]] = json.loads((folder / "tags.json").read_text())
        self.tags = every.pop("")
        self.also = every
        self.load_words(folder)
        self.forms = {form.decode(): count for form, count in vocabulary.read_vocabulary(folder / "forms.tsv")}
        self.characters = characters.Characters(folder / "characters.json", self.recipe.model.characters.longest)
        self.tokenizer = learned_tokenizer.LearnedTokenizer(folder / "tokenizer.tsv", False, self.recipe.text.blank)
        self.tag_names = tf.constant([self._answered(tag) for tag in self.tags])

    def _answered(self, tag: str) -> str:
        """A tag of the model as answers have it: spans are answered in BIO."""
        if not self._writes_spans:
            return tag
        return {"S": "B", "E": "I"}.get(tag[0], tag[0]) + tag[1:]

    # Encoding

    def encode(self, *strings: tf.Tensor) -> dict[str, tf.Tensor | tf.RaggedTensor]:
        (tokens,) = strings
        return self._fields(tf.RaggedTensor.from_tensor(tokens, padding=""))

    def _fields(self, tokens: tf.RaggedTensor) -> dict[str, tf.RaggedTensor]:
        fields = {"words": tokens.with_values(self.vocabulary.lookup(self.words_of(tokens.values)))}
        if self.recipe.model.characters.network != "none":
            fields["characters"] = tokens.with_values(self.characters.lookup(tokens.values))
        return fields

    def targets(self, examples: Sequence[Sentence]) -> Mapping[str, Ragged]:
        """A tag that training lacks is -1: it counts as wrong, and is not learned from."""
        lengths = np.array([len(example.target) for example in examples])

        def ids(tags: Sequence[str], given: Iterable[Sequence[str]]) -> Ragged:
            place = {tag: index for index, tag in enumerate(tags)}
            return np.array([place.get(tag, -1) for sentence in given for tag in sentence], np.int32), lengths

        fields = {"tags": ids(self.tags, (example.target for example in examples))}
        for index, (name, tags) in enumerate(self.also.items()):
            fields[f"also_{name}"] = ids(tags, [example.also[index] for example in examples])
        return fields

    @property
    def length_field(self) -> str:
        return "words"

    # Model

    def build(self) -> keras.Model:
        options = self.recipe.model
        singletons = vocabulary.FIRST + sum(count > 1 for count in self.vocabulary.counts)
        made: dict[str, Any] = {
            "token_dropout": layers.TokenDropout(options.token_dropout, vocabulary.UNKNOWN),
            "singleton_dropout": layers.TokenDropout(options.singleton_dropout, vocabulary.UNKNOWN, first=singletons),
            "embedding": layers.Embedding(self.trained_words, options.embedding),
            "embedding_dropout": layers.Dropout(options.embedding_dropout),
            "network": self._network(),
            "dropout": layers.Dropout(options.dropout),
            "logits": keras.layers.Dense(len(self.tags)),
        }
        made |= {f"also_{name}": keras.layers.Dense(len(tags)) for name, tags in self.also.items()}
        made |= self.vectors_of_the_file()
        if options.characters.network != "none":
            made["characters"] = self._character_encoder()
        if options.output == "crf" or self._writes_spans:
            allowed = map(np.array, spans.allowed(self.tags, options.spans)) if self._writes_spans else ()
            made["transitions"] = layers.CRF(len(self.tags), *allowed, trained=options.output == "crf")
        return layers.Model(self._scores, **made)

    def _character_encoder(self) -> Any:
        options = self.recipe.model.characters
        if options.network == "lstm":
            networks = [layers.Bidirectional(layers.LSTM(options.units), layers.LSTM(options.units))]
        else:
            networks = [layers.Convolution(options.filters, width) for width in options.widths]
        distinct = not self.recipe.training.compile  # how many words are distinct is not known before they are there
        return layers.CharacterEncoder(len(self.characters), options.embedding, *networks, distinct=distinct)

    def _network(self) -> Any:
        options = self.recipe.model
        cells: dict[str, Any] = {"lstm": layers.LSTM, "gru": layers.GRU, "min_gru": layers.MinGRU}
        cell = cells[options.cell]

        def layer() -> Any:
            return (
                layers.Bidirectional(cell(options.units), cell(options.units)) if options.bidirectional else cell(options.units)
            )

        return layers.Stack(*(layer() for _ in range(options.depth)), dropout=options.dropout)

    def _scores(self, model: Any, batch: dict[str, tf.Tensor], noise: Noise | None) -> dict[str, Any]:
        """logits `<float>[batch, time, tags]`, of fields without padding `[tokens, tags]`; those of each column of data.also; and the
        `Chain` of transitions where there is one."""
        words = batch["words"]
        inputs = [model.embedding(model.singleton_dropout(model.token_dropout(self.known(words), noise), noise))]
        if self.vectors is not None:
            inputs.append(model.vectors(words))
        if self.recipe.model.characters.network != "none":
            inputs.append(model.characters(batch["characters"]))
        vectors = model.embedding_dropout(tf.concat(inputs, -1), noise)
        outputs, _ = model.network(vectors, batch["words_lengths"], noise=noise)
        outputs = model.dropout(outputs, noise)
        scored = {name: getattr(model, name)(outputs) for name in ("logits", *(f"also_{name}" for name in self.also))}
        scored = {name: value if value.dtype == tf.float64 else tf.cast(value, tf.float32) for name, value in scored.items()}
        if hasattr(model, "transitions"):
            scored["chain"] = model.transitions(scored["logits"])
        return scored

    # Loss and answers

    def loss(self, model: Any, batch: dict[str, tf.Tensor], state: Any, noise: Noise | None) -> Loss:
        scored = model(batch, noise)
        logits, chain = scored["logits"], scored.get("chain")
        lengths, gold = batch["words_lengths"], batch["tags"]
        inside = tf.sequence_mask(lengths, tf.shape(gold)[1]) & (batch["weight"] > 0)[:, None]
        learned = inside & (gold >= 0)
        if self.recipe.model.output == "crf":  # scores whole sentences: one with a tag that training lacks says nothing
            learned &= tf.reduce_all(learned | ~inside, 1, keepdims=True)
            likelihood = layers.log_likelihood(chain, logits, tf.maximum(gold, 0), lengths)
            total = -tf.reduce_sum(tf.where(tf.reduce_any(learned, 1), likelihood, tf.zeros_like(likelihood)))
        else:
            total = _cross_entropy(gold, logits, learned)
        parts = {}
        if self.also:  # the answer's own loss; what training descends counts the further columns, too
            parts["log_loss"] = (total, _count(learned, logits))
        if noise is not None:
            for name in self.also:
                further = batch[f"also_{name}"]
                total += _cross_entropy(further, scored[f"also_{name}"], inside & (further >= 0))
        if noise is None or chain is None:
            answers = self._choose(logits, chain, lengths)
            parts["accuracy"] = (_count(inside & (answers == gold), logits), _count(inside, logits))
            if self._writes_spans:
                parts["span_f1"] = self._span_f1(gold, answers, inside)
        return Loss(total, _count(learned, logits), parts, state)

    def _choose(self, logits: tf.Tensor, chain: Any, lengths: tf.Tensor) -> tf.Tensor:
        """`<int32>[batch, time]`."""
        return tf.argmax(logits, -1, tf.int32) if chain is None else layers.viterbi(chain, logits, lengths)

    def _span_f1(self, gold: tf.Tensor, answers: tf.Tensor, inside: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """2 · (right spans), (gold spans) + (given spans); both sequences are well-formed. A gold span of a kind that training lacks is
        left out."""
        outside = len(self.tags)
        gold, answers = tf.where(inside & (gold >= 0), gold, outside), tf.where(inside, answers, outside)
        begins = tf.constant([tag[0] in "BS" for tag in self.tags] + [False])
        goes_on = tf.constant([tag[0] in "IE" for tag in self.tags] + [False])
        begun, going = tf.gather(begins, gold), tf.gather(goes_on, gold)
        # A span is right where each of its tags is, and where no answered span goes on behind its end.
        ends = ~tf.pad(going[:, 1:], [[0, 0], [0, 1]])
        stays = tf.pad(tf.gather(goes_on, answers)[:, 1:], [[0, 0], [0, 1]])
        wrong = (begun | going) & ((gold != answers) | (ends & stays))
        number = tf.cumsum(tf.cast(tf.reshape(begun, [-1]), tf.int32))
        mistakes = tf.math.unsorted_segment_sum(tf.cast(tf.reshape(wrong, [-1]), tf.int32), number, tf.size(number) + 1)
        total = tf.reduce_sum(tf.cast(begun, tf.int32))
        right = tf.reduce_sum(tf.cast(mistakes[1 : total + 1] == 0, tf.float32))
        return 2 * right, tf.cast(total, tf.float32) + tf.reduce_sum(tf.cast(tf.gather(begins, answers), tf.float32))

    def _tagged(self, model: Any, tokens: tf.RaggedTensor) -> tuple[tf.RaggedTensor, tf.RaggedTensor]:
        """Tags `<string>[batch, (tokens)]` and their probabilities `<float>[batch, (tokens)]`. Nothing is padded but for the sequences of
        tags that a chain scores."""
        lengths = tf.cast(tokens.row_lengths(), tf.int32)
        batch = {name: field.values for name, field in self._fields(tokens).items()} | {"words_lengths": lengths}
        scored = model(batch, None)
        logits, chain = scored["logits"], scored.get("chain")
        probabilities = tf.nn.softmax(logits)
        if chain is None:
            answers = tf.argmax(logits, -1, tf.int32)
        else:
            padded = ragged.padded(tokens.with_values(logits))
            inside = tf.sequence_mask(lengths, tf.shape(padded)[1])
            answers = tf.boolean_mask(self._choose(padded, chain, lengths), inside)
            if self.recipe.model.output == "crf":
                probabilities = tf.boolean_mask(layers.marginals(chain, padded, lengths), inside)
        return (
            tokens.with_values(tf.gather(self.tag_names, answers)),
            tokens.with_values(tf.gather(probabilities, answers, batch_dims=1)),
        )

    def signatures(self, model: Any) -> dict[str, Signature]:
        def padded(tokens: tf.RaggedTensor) -> dict[str, tf.Tensor]:
            tags, probabilities = self._tagged(model, tokens)
            lengths = tf.cast(tokens.row_lengths(), tf.int32)
            return {"tags": ragged.padded(tags), "scores": ragged.padded(probabilities), "lengths": lengths}

        def serving_default(texts: tf.Tensor) -> dict[str, tf.Tensor]:
            """`<string>[batch]` → of each token (padded to the longest row): itself, its tag, the tag's probability, where it starts and
            ends (in characters); and the number of tokens `<int32>[batch]`."""
            tokens = self.tokenizer(texts)
            return {
                "tokens": ragged.padded(tokens.text), **padded(tokens.text),
                "starts": ragged.padded(tokens.character_starts), "ends": ragged.padded(tokens.character_ends),
            }  # fmt: skip

        def tokens(tokens: tf.Tensor) -> dict[str, tf.Tensor]:
            """`<string>[batch, longest]`, padded by "" → the same without tokens and places."""
            return padded(tf.RaggedTensor.from_tensor(tokens, padding=""))

        def flat(tokens: tf.Tensor, lengths: tf.Tensor) -> dict[str, tf.Tensor]:
            """tokens `<string>[all]`, lengths `<int32>[batch]` → tags `<string>[all]`, scores `<float>[all]`."""
            tags, probabilities = self._tagged(model, tf.RaggedTensor.from_row_lengths(tokens, tf.cast(lengths, tf.int64)))
            return {"tags": tags.values, "scores": probabilities.values}

        string = tf.string
        return {
            "serving_default": Signature(serving_default, (tf.TensorSpec([None], string, "texts"),)),
            "tokens": Signature(tokens, (tf.TensorSpec([None, None], string, "tokens"),)),
            "flat": Signature(
                flat, (tf.TensorSpec([None], string, "tokens"), tf.TensorSpec([None], tf.int32, "lengths")), row_wise=False
            ),
        }

    def view(self) -> Mapping[str, Any]:
        return {"kind": "tags", "spans": self._writes_spans, "meanings": tagging_meanings.of(map(self._answered, self.tags))}

    def resources(self) -> list[Any]:
        return [self.vocabulary.table, self.characters.codes, *self.tokenizer.resources]

    @property
    def verbs(self) -> tuple[Verb, ...]:
        column = self.recipe.data.tags.lower()
        documents = {}
        if not self._writes_spans and column in sentences.COLUMNS:
            documents["conllu"] = Document(
                "tokens", _read_conllu, lambda block, answer: sentences.fill(block, column, answer["tags"])
            )
        answers = self._answers
        return (Verb("predict", answers, _text, _tsv, tokens="tokens", documents=documents),)

    def _answers(self, outputs: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
        """One dict a sentence: tokens with their places where the model made them, tags, scores, and spans where the tags write some."""
        rows = []
        for index, length in enumerate(outputs["lengths"]):
            row: dict[str, Any] = {}
            if "tokens" in outputs:
                row["tokens"] = [token.decode() for token in outputs["tokens"][index, :length]]
                row["offsets"] = np.stack([outputs["starts"][index, :length], outputs["ends"][index, :length]], -1).tolist()
            row["tags"] = [tag.decode() for tag in outputs["tags"][index, :length]]
            row["scores"] = [round(float(score), 6) for score in outputs["scores"][index, :length]]
            if self._writes_spans:
                row["spans"] = [span._asdict() for span in spans.read_tags(row["tags"], "bio")[0]]
            rows.append(row)
        return rows

    # Scores

    def evaluate(
        self, answer: Callable[[str, list[Inputs]], dict[str, np.ndarray]], examples: Sequence[Sentence]
    ) -> list[dict[str, Any]]:
        answers = self._answers(answer("tokens", [example.inputs for example in examples]))
        return [
            {"id": index, "where": str(example.where), "words": list(example.inputs[0]),
             "gold": gold, "answer": given["tags"], "scores": given["scores"], "loss": _least_loss(gold, given["tags"], given["scores"]),
             "length": len(gold)}
            for index, (example, given, gold) in enumerate(
                (example, given, [self._answered(tag) for tag in example.target]) for example, given in zip(examples, answers, strict=True)
            )
        ]  # fmt: skip

    def score(self, results: Sequence[dict[str, Any]]) -> Scores:
        gold, answers = [result["gold"] for result in results], [result["answer"] for result in results]
        known = [[word in self.forms for word in result["words"]] for result in results]
        confidence = [result["scores"] for result in results] if all("scores" in result for result in results) else None
        words = scores.tagging(gold, answers, known, confidence)
        trained = {self._answered(tag) for tag in self.tags}
        unseen = Counter(tag for sentence in gold for tag in sentence if tag not in trained)
        if unseen:
            words.counts["words_with_a_tag_never_seen_in_training"] = unseen.total()
            words.text += (
                "\ntags never seen in training, counted as wrong: " + ", ".join(f"{t} ({n})" for t, n in unseen.items()) + "\n"
            )
        words.figures["by_frequency"] = scores.grouped("accuracy", "how often training has the word", self._by_frequency(results))
        found = scores.joined(scores.spans(gold, answers), words) if self._writes_spans else words
        lengths = np.array([len(sentence) for sentence in gold])
        found.figures["by_length"] = scores.by_size(self.headline, "words of the sentence", lengths, found.parts[self.headline])
        return found

    def _by_frequency(self, results: Sequence[dict[str, Any]]) -> dict[str, np.ndarray]:
        """Of each group of words by their count in training: right ones and all of each sentence."""
        groups = {"never": 0, "once": 1, "2–4": 4, "5–19": 19, "20–99": 99, "100 or more": None}
        ends = [end for end in groups.values() if end is not None]
        parts = np.zeros((len(groups), 2, len(results)))
        for row, result in enumerate(results):
            place = np.searchsorted(ends, [self.forms.get(word, 0) for word in result["words"]])
            right = [gold == answer for gold, answer in zip(result["gold"], result["answer"], strict=True)]
            parts[:, 0, row] = np.bincount(place, right, len(groups))
            parts[:, 1, row] = np.bincount(place, minlength=len(groups))
        return dict(zip(groups, parts, strict=True))

    def baseline(self, examples: Callable[[str], Iterator[Sentence]], test: Sequence[Sentence]) -> tuple[str, Scores]:
        """The most frequent tag of each word; for spans a CRF on word shapes, where the package for it is installed."""
        name, tagger = "most frequent tag of each word", None
        train = [(sentence.inputs[0], sentence.target) for sentence in examples("train")]
        if self._writes_spans:
            held_out = list(examples("validation"))

            def span_f1(answers: Iterable[Sequence[str]]) -> float:
                return self.score(self._results(held_out, answers)).scores["span_f1"]

            validation = [(sentence.inputs[0], sentence.target) for sentence in held_out]
            tagger = tagging_baselines.conditional_random_field(train, validation, span_f1)
            if tagger:
                name = "CRF on word shapes"
            else:
                tell('for a CRF on word shapes as baseline: pip install "nlp-tasks[crf]"')
        answers = (tagger or tagging_baselines.most_frequent(train))([sentence.inputs[0] for sentence in test])
        return name, self.score(self._results(test, answers))

    def _results(self, examples: Sequence[Sentence], answers: Iterable[Sequence[str]]) -> list[dict[str, Any]]:
        """As `evaluate` gives them; answers in the tags of the model, malformed ones mended."""
        results = []
        for example, tags in zip(examples, answers, strict=True):
            if self._writes_spans:
                scheme = self.recipe.model.spans
                tags = spans.write_tags(spans.read_tags(tags, scheme)[0], len(tags), scheme)
            gold, given = ([self._answered(tag) for tag in sequence] for sequence in (example.target, tags))
            results.append({"words": example.inputs[0], "gold": gold, "answer": given})
        return results


def _least_loss(gold: Sequence[str], answers: Sequence[str], probabilities: Sequence[float]) -> float:
    """Sum of -log of each right tag's probability; that of a tag that was not answered is at most what the answer leaves."""
    left = [p if g == a else 1 - p for g, a, p in zip(gold, answers, probabilities, strict=True)]
    return round(-float(np.log(np.maximum(left, 1e-6)).sum()), 4)


class _Contradictions(Examiner):
    """Words of the training data that have one tag everywhere but in one place: mistakes of annotation hide there."""

    FEWEST = 10
    """So often a word must have its usual tag."""

    def __init__(self, labels_of: Callable[[Sentence], Sequence[str]]) -> None:
        self._labels_of = labels_of
        self._tags: dict[str, Counter[str]] = {}
        self._places: dict[tuple[str, str], Where] = {}

    def see(self, split: str, example: Sentence) -> None:
        if split != "train":
            return
        for word, tag in zip(example.inputs[0], self._labels_of(example), strict=True):
            counts = self._tags.setdefault(word, Counter())
            counts[tag] += 1
            if counts[tag] == 1:
                self._places[word, tag] = example.where

    def findings(self) -> Iterator[Finding]:
        odd = []
        for word, counts in self._tags.items():
            if len(counts) == 2 and min(counts.values()) == 1 and max(counts.values()) >= self.FEWEST:
                (usual, count), (tag, _) = counts.most_common(2)
                odd.append((count, f"{self._places[word, tag]} {word!r} {tag}, else {usual} ({count} times)"))
        if odd:
            places = [place for _, place in sorted(odd, key=lambda item: -item[0])[:PLACES]]
            yield Finding("contradicted_words", "note", "train", f"words with one tag everywhere but in one place: {len(odd):,}", len(odd),
                          places, "look whether they are mistakes of annotation")  # fmt: skip


def _cross_entropy(gold: tf.Tensor, logits: tf.Tensor, learned: tf.Tensor) -> tf.Tensor:
    """Summed over the tokens that are learned from `<bool>[batch, time]`."""
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.maximum(gold, 0), logits)
    return tf.reduce_sum(tf.where(learned, losses, tf.zeros_like(losses)))


def _count(these: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(tf.cast(these, like.dtype))


def _is_tag(tag: str, scheme: str) -> bool:
    try:
        spans.read_tags([tag], scheme)
    except ValueError:
        return False
    return True


def _read_conllu(lines: Iterable[bytes], name: str) -> Iterator[Asked]:
    return (Asked((block.words,), block) for block in sentences.blocks(lines, name))


def _text(text: str, answer: Mapping[str, Any], options: Mapping[str, Any]) -> str:
    """`word/TAG word/TAG`."""
    return " ".join(f"{token}/{tag}" for token, tag in zip(answer["tokens"], answer["tags"], strict=True))


def _tsv(text: str, answer: Mapping[str, Any]) -> str:
    """A token and its tag a line, and an empty line."""
    return "".join(f"{token}\t{tag}\n" for token, tag in zip(answer["tokens"], answer["tags"], strict=True))
