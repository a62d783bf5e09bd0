"""Question answering over stories, by a dynamic memory network (Kumar 2016): a word answers, which need not stand in the text.

input       each fact is read by a recurrent network, for itself
question    is read as a fact is
memory      looks at the facts several times, each time with what it found before in mind; gates say which facts matter
answer      one of those that training has, from the last memory and the question
"""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple

import numpy as np
from msgspec import Meta

from nlp_tasks import recipe
from nlp_tasks.data import stories
from nlp_tasks.data.findings import Finding, Tally
from nlp_tasks.data.rows import CHUNK, Counts, Row, Where, chunks
from nlp_tasks.data.sources import open_source
from nlp_tasks.data.splits import SPLITS, Splits
from nlp_tasks.lazy import lazy
from nlp_tasks.recipe import Positive, Section, Share
from nlp_tasks.tasks.question_answering_stories_verbs import verbs
from nlp_tasks.tasks.task import Answering, Examiner, Loss, Signature, Task, Verb

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from nlp_tasks import layers, scores
    from nlp_tasks.data.store import Ragged
    from nlp_tasks.layers import Noise
    from nlp_tasks.scores import Scores
    from nlp_tasks.text import ragged, tokenizer, vocabulary
else:
    keras, tf, layers, scores = lazy("keras"), lazy("tensorflow"), lazy("nlp_tasks.layers"), lazy("nlp_tasks.scores")
    ragged, tokenizer = lazy("nlp_tasks.text.ragged"), lazy("nlp_tasks.text.tokenizer")
    vocabulary = lazy("nlp_tasks.text.vocabulary")


class Data(recipe.Data, frozen=True, kw_only=True):
    """`[data]`: tasks: numbers of bAbI's tasks; train and test are then what their files end in. Without tasks they are files."""

    tasks: tuple[Positive, ...] = ()


class Model(Section, frozen=True, kw_only=True):
    """`[model]`: embedding, units: features of a word, and of a fact. longest: so many words of a fact are read.

    episodes: how often the facts are looked at.
    supervision: weight of the loss that tells the gates which facts support an answer; 0: they find out themselves.
    embedding_dropout, dropout: shares left out of words, and of facts and memories.
    """

    embedding: Positive = 64
    units: Positive = 80
    longest: Positive = 16
    episodes: Annotated[int, Meta(ge=1, le=10)] = 3
    supervision: Annotated[float, Meta(ge=0)] = 1.0
    embedding_dropout: Share = 0.1
    dropout: Share = 0.2


class Recipe(recipe.Recipe, frozen=True, kw_only=True):
    data: Data
    model: Model = Model()


class Asked(NamedTuple):
    """A question about a story, and what supports its answer."""

    inputs: tuple[str, str]
    """The facts, a line each, and the question."""
    target: str
    where: Where
    facts: tuple[int, ...]
    """Places of the supporting facts, from 0."""
    story: str
    task: str


class QuestionAnsweringStories(Task):
    """A story and a question to one of the answers that training has."""

    recipe_type = Recipe
    headline = "accuracy"
    independent = False  # a story has several questions
    joint_vocabulary = True
    order: ClassVar[tuple[str, ...]] = ("story", "question", "answer")

    @property
    def verbs(self) -> tuple[Verb, ...]:
        return verbs()

    # Data

    @classmethod
    def columns(cls, data: recipe.Data) -> Mapping[str, Sequence[str]]:
        return {name: (name,) for name in stories.COLUMNS}

    @classmethod
    def splits(cls, recipe: recipe.Recipe, data_dir: str | None) -> Splits:
        if recipe.data.source == "files":
            return Splits(stories.Stories(recipe.data), recipe.data, "begun")
        return Splits(
            open_source(recipe.data, recipe.task.name, cls.columns(recipe.data), cls.order, data_dir), recipe.data, "begun"
        )

    @classmethod
    def check_files(cls, data: recipe.Data) -> None:
        if data.source == "files":
            for split in filter(None, (data.train, data.validation, data.test)):
                stories.Stories(data).paths(split)

    def text(self, example: Asked) -> str:
        return example.story

    def read(self, rows: Iterable[Row], counts: Counts) -> Iterator[Asked]:
        for row in rows:
            fields = row.fields
            yield Asked((fields["story"], fields["question"]), fields["answer"], row.where, tuple(map(int, fields["facts"])),
                        fields["begun"], fields["task"])  # fmt: skip

    def unfit(self, example: Asked) -> str:
        return "" if all(text.strip() for text in example.inputs) else "an empty story or question"

    def labels_of(self, example: Asked) -> Sequence[str]:
        return (example.target,)

    def tokenize(self, *strings: tf.Tensor) -> Mapping[str, tf.RaggedTensor]:
        story, question = (self.tokenizer(texts).text for texts in strings)
        return {"story": story, "question": question}

    @functools.cached_property
    def tokenizer(self) -> tokenizer.Tokenizer:
        return tokenizer.Tokenizer(self.recipe.text.lowercase, self.recipe.text.blank)

    def examiner(self) -> Examiner:
        return _LongFacts(self.tokenizer, self.recipe.model.longest)

    # Resources: vocabulary.tsv, answers.json

    def prepare(self, examples: Callable[[], Iterator[Asked]], folder: Path) -> None:
        text = self.recipe.text
        counts: Counter[bytes] = Counter()
        once = dict.fromkeys(fact for asked in examples() for part in asked.inputs for fact in part.split(stories.END))
        for texts in chunks(once):
            counts.update(vocabulary.count_tokens([self.tokenizer(tf.constant(texts)).text.values]))
        path = folder / "vocabulary.tsv"
        vocabulary.write_vocabulary(path, counts, minimum_count=text.minimum_count, size=text.vocabulary_size)
        answers = sorted({asked.target for asked in examples()})
        (folder / "answers.json").write_text(json.dumps(answers, ensure_ascii=False, indent=0))

    def load(self, folder: Path) -> None:
        self.vocabulary = vocabulary.Vocabulary(folder / "vocabulary.tsv")
        self.answers: list[str] = json.loads((folder / "answers.json").read_text())
        self.names = tf.constant(self.answers)

    # Encoding

    def encode(self, *strings: tf.Tensor) -> dict[str, tf.Tensor | tf.RaggedTensor]:
        """facts `<int32>[batch, (facts), longest]`, padded by 0, and question `<int32>[batch, (words)]`."""
        story, question = strings
        facts = _facts(story)
        words = self.tokenizer(facts.values).text[:, : self.recipe.model.longest]
        ids = self.vocabulary.lookup(words).to_tensor(shape=[None, self.recipe.model.longest])
        return {"facts": facts.with_values(ids), "question": self.vocabulary.lookup(self.tokenizer(question).text)}

    def targets(self, examples: Sequence[Asked]) -> Mapping[str, np.ndarray | Ragged]:
        """An answer that training lacks is -1: it counts as wrong, and is not learned from."""
        place = {answer: index for index, answer in enumerate(self.answers)}
        facts = [example.facts[-self.recipe.model.episodes :] for example in examples]  # of many the last ones decide
        flat = np.array([fact for row in facts for fact in row], np.int32)
        return {"answer": np.array([place.get(example.target, -1) for example in examples], np.int32),
                "supporting": (flat, np.array([len(row) for row in facts]))}  # fmt: skip

    @property
    def length_field(self) -> str:
        return "facts"

    # Model

    def build(self) -> Any:
        options = self.recipe.model
        return layers.Model(
            self._answered,
            embedding=layers.Embedding(len(self.vocabulary), options.embedding, scale=0.5),
            embedding_dropout=layers.Dropout(options.embedding_dropout),
            reader=layers.GRU(options.units),
            dropout=layers.Dropout(options.dropout),
            memory=layers.EpisodicMemory(options.units, options.episodes, dropout=options.dropout),
            answer=keras.layers.Dense(len(self.answers)),
        )

    def _answered(self, model: Any, batch: dict[str, tf.Tensor], noise: Noise | None) -> tuple[tf.Tensor, tf.Tensor]:
        """Logits of the answers `<float>[rows, answers]`, and those of the gates `<float>[rows, episodes, facts]`."""
        words, lengths = batch["facts"], batch["facts_lengths"]
        rows, facts, longest = tf.shape(words)[0], tf.shape(words)[1], self.recipe.model.longest
        flat = tf.reshape(words, [-1, longest])
        features = self.recipe.model.embedding
        vectors = model.embedding_dropout(tf.reshape(model.embedding(flat), [rows, facts * longest, features]), noise)
        vectors = tf.reshape(vectors, [rows * facts, longest, features])
        _, (read,) = model.reader(vectors, tf.math.count_nonzero(flat, 1, dtype=tf.int32), noise=noise)
        asked = model.embedding_dropout(model.embedding(batch["question"]), noise and noise.within("question"))
        _, (question,) = model.reader(asked, batch["question_lengths"], noise=noise)
        found = model.dropout(tf.reshape(read, [rows, facts, self.recipe.model.units]), noise)
        memory, gates = model.memory(found, lengths, question, noise)
        return model.answer(tf.concat([memory, question], -1)), gates

    def loss(self, model: Any, batch: dict[str, tf.Tensor], state: Any, noise: Noise | None) -> Loss:
        """-log p(answer), and with supervision the mean over the episodes of -log of the gate of the fact that comes next."""
        logits, gates = model(batch, noise)
        logits, gates = (part if part.dtype == tf.float64 else tf.cast(part, tf.float32) for part in (logits, gates))
        gold, counted = batch["answer"], tf.cast((batch["answer"] >= 0) & (batch["weight"] > 0), logits.dtype)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.maximum(gold, 0), logits)
        weight = tf.reduce_sum(counted)
        answered = tf.reduce_sum(losses * counted)
        right = tf.cast(tf.argmax(logits, 1, tf.int32) == gold, logits.dtype)
        parts = {"accuracy": (tf.reduce_sum(right * counted), tf.reduce_sum(tf.cast(batch["weight"] > 0, logits.dtype)))}
        total = answered
        if self.recipe.model.supervision:
            wanted, known = self._wanted(batch)
            of_gates = tf.nn.sparse_softmax_cross_entropy_with_logits(wanted, gates)
            supported = counted * tf.cast(known, logits.dtype)
            told = tf.reduce_sum(tf.reduce_mean(of_gates, 1) * supported)
            total += self.recipe.model.supervision * told
            parts |= {"answer_loss": (answered, weight), "gate_loss": (told, tf.reduce_sum(supported))}
        return Loss(total, weight, parts, state)

    def _wanted(self, batch: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        """The supporting fact of each episode `<int32>[rows, episodes]`, the last one again where there are fewer; and whether a row
        has any."""
        count = batch["supporting_lengths"]
        places = tf.minimum(tf.range(self.recipe.model.episodes), tf.maximum(count - 1, 0)[:, None])
        return tf.gather(batch["supporting"], places, batch_dims=1), count > 0

    def signatures(self, model: Any) -> dict[str, Signature]:
        def serving_default(stories: tf.Tensor, questions: tf.Tensor) -> dict[str, tf.Tensor]:
            """`<string>[batch]` each, facts being lines or sentences → answers `<string>[batch]`, scores (their probabilities)
            `<float>[batch]`; facts `<string>[batch, facts]`, padded by "", gates `<float>[batch, episodes, facts]` and lengths
            `<int32>[batch]`: a story's facts, how much each episode looked at each, and how many there are."""
            batch = ragged.batch(self.encode(stories, questions))
            logits, gates = model(batch, None)
            probabilities = tf.nn.softmax(tf.cast(logits, tf.float32))
            best, lengths = tf.argmax(probabilities, 1, tf.int32), batch["facts_lengths"]
            there = (lengths > 0) & (batch["question_lengths"] > 0)
            weights = tf.nn.softmax(tf.cast(gates, tf.float32)) * tf.cast(there, tf.float32)[:, None, None]
            inside = tf.sequence_mask(lengths, tf.shape(gates)[2])
            return {
                "answers": tf.where(there, tf.gather(self.names, best), ""),
                "scores": tf.where(there, tf.gather(probabilities, best, batch_dims=1), 0.0),
                "facts": ragged.padded(_facts(stories)), "gates": tf.where(inside[:, None], weights, 0.0), "lengths": lengths,
            }  # fmt: skip

        pair = tuple(tf.TensorSpec([None], tf.string, name) for name in ("stories", "questions"))
        return {"serving_default": Signature(serving_default, pair)}

    def view(self) -> Mapping[str, Any]:
        return {"kind": "story"}

    def resources(self) -> list[Any]:
        return [self.tokenizer.table, self.vocabulary.table]

    # Scores

    def evaluate(self, answer: Answering, examples: Sequence[Asked]) -> list[dict[str, Any]]:
        found = answer("serving_default", [example.inputs for example in examples])
        results = []
        for index, example in enumerate(examples):
            given, score = found["answers"][index].decode(), float(found["scores"][index])
            looked = found["gates"][index].argmax(1).tolist()
            loss = -float(np.log(max(1e-6, score if given == example.target else 1 - score)))
            results.append({
                "id": index, "where": str(example.where), "text": f"{example.inputs[1]}\n{example.inputs[0]}", "gold": example.target,
                "answer": given, "score": round(score, 6), "loss": round(loss, 4), "task": example.task,
                "supporting": list(example.facts), "episodes": looked, "length": int(found["lengths"][index]),
            })  # fmt: skip
        return results

    def score(self, results: Sequence[dict[str, Any]]) -> Scores:
        parts = {"accuracy": _shares([result["gold"] == result["answer"] for result in results])}
        if all("episodes" in result for result in results) and any(result["supporting"] for result in results):
            parts["supporting_recall"] = np.array(
                [[len({*result["supporting"]} & {*result["episodes"]}) for result in results],
                 [len({*result["supporting"]}) for result in results]], float)  # fmt: skip
        values = {name: float(part[0].sum() / max(1.0, part[1].sum())) for name, part in parts.items()}
        names = sorted({result["task"] for result in results}, key=lambda name: (len(name), name))
        of = np.array([result["task"] for result in results], object)
        figures = {"by_task": scores.grouped("accuracy", "task", {name: parts["accuracy"] * (of == name) for name in names})}
        if all("length" in result for result in results):
            lengths = np.array([result["length"] for result in results])
            figures["by_length"] = scores.by_size("accuracy", "facts of the story", lengths, parts["accuracy"])
        signatures = dict.fromkeys(parts, "interval:bootstrap1000")
        return scores.Scores(values, scores.ratios(parts), parts, {"examples": len(results)}, signatures, "", figures)

    def baseline(self, examples: Callable[[str], Iterator[Asked]], test: Sequence[Asked]) -> tuple[str, Scores]:
        """Logistic regression on the words of the question, and of the two last facts that have one of them."""
        from sklearn.feature_extraction.text import CountVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline

        train = list(examples("train"))
        name = "logistic regression on words"
        if len({example.target for example in train}) < 2:
            answers = [train[0].target] * len(test)
        else:
            model = make_pipeline(CountVectorizer(binary=True, token_pattern=r"\S+"), LogisticRegression(max_iter=1000))
            model.fit([_features(example) for example in train], [example.target for example in train])
            answers = list(model.predict([_features(example) for example in test])) if test else []
        return name, self.score([
            {"gold": example.target, "answer": str(answer), "task": example.task} for example, answer in zip(test, answers, strict=True)
        ])  # fmt: skip


class _LongFacts(Examiner):
    """Finds facts of which the model does not read all words."""

    def __init__(self, split: Any, longest: int) -> None:
        self._tokenize, self._longest = split, longest
        self._waiting: list[tuple[str, str, Where]] = []
        self._known: set[str] = set()
        self._long = {name: Tally() for name in SPLITS}

    def see(self, split: str, example: Asked) -> None:
        for fact in example.inputs[0].split(stories.END):
            if fact not in self._known:
                self._known.add(fact)
                self._waiting.append((split, fact, example.where))
        if len(self._waiting) >= CHUNK:
            self._look()

    def _look(self) -> None:
        texts = [fact for _, fact, _ in self._waiting]
        lengths = self._tokenize(tf.constant(texts, tf.string, [len(texts)])).text.row_lengths().numpy()
        for (split, _, where), length in zip(self._waiting, lengths, strict=True):
            if length > self._longest:
                self._long[split].add("long", where)
        self._waiting = []

    def findings(self) -> Iterator[Finding]:
        self._look()
        for split in SPLITS:
            if count := self._long[split].counts["long"]:
                yield Finding("long_facts", "warning", split, f"different facts of more than {self._longest} words: {count:,}", count,
                              self._long[split].places["long"], "the words behind are not read: set a larger model.longest")  # fmt: skip


def _facts(texts: tf.Tensor) -> tf.RaggedTensor:
    """`<string>[batch]` → `<string>[batch, (facts)]`: lines that are not empty; of a text without an end of line, sentences."""
    in_lines = tf.strings.regex_full_match(texts, r"(?s).*\n.*")
    texts = tf.where(in_lines, texts, tf.strings.regex_replace(texts, r"([.!?])\s+", r"\1" + stories.END))
    lines = tf.strings.split(texts, stories.END)
    return ragged.keep(lines, tf.strings.strip(lines.values) != "")


def _shares(right: Sequence[bool]) -> np.ndarray:
    return np.array([right, np.ones(len(right))], float)


def _features(example: Asked) -> str:
    story, question = example.inputs
    asked = {*question.lower().rstrip("?").split()}
    near = [fact for fact in story.lower().split(stories.END) if asked & {*fact.rstrip(".").split()}]
    words = [f"{place}:{word}" for place, fact in enumerate(reversed(near[-2:])) for word in fact.rstrip(".").split()]
    return " ".join([*asked, *words])
