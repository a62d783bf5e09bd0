"""A folder of exports with the signatures of every task, made of plain TensorFlow in place of training; and a server that serves it."""

from __future__ import annotations

import asyncio
import http.client
import json
import shutil
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from nlp_tasks.serving.batcher import Limits

SCORES = {
    "recipe": "fake", "task": "fake", "headline": "accuracy", "scores": {"accuracy": 0.91}, "intervals": {"accuracy": [0.89, 0.93]},
    "counts": {"examples": 500}, "signatures": {"accuracy": "unit:example"}, "anchor": [],
    "baseline": {"name": "most frequent", "scores": {"accuracy": 0.5}, "intervals": {"accuracy": [0.45, 0.55]}},
}  # fmt: skip

ALIKE = {
    ("language_modeling", "generate"): ["length"],
    ("translation", "n_best"): ["beams", "counts"],
    ("question_answering", "n_best"): ["counts"],
}
VIEWS: dict[str, dict[str, Any]] = {
    "sentiment": {"kind": "label"},
    "tagging": {"kind": "tags", "spans": False, "meanings": {"NOUN": "noun", "VERB": "verb"}},
    "language_modeling": {"kind": "continuation"},
    "translation": {"kind": "translation", "beam": 4, "aligns": True},
    "question_answering": {"kind": "passage"},
    "question_answering_stories": {"kind": "story"},
    "word_vectors": {"kind": "neighbours"},
    "other": {},
}
EXAMPLES: dict[str, list[list[Any]]] = {
    "sentiment": [["good food"], ["bad service here"]],
    "tagging": [[["fish", "swim"]], [["a", "light", "lamp"]]],
    "language_modeling": [["once upon\n"]],
    "translation": [["the old house"]],
    "question_answering": [["who lives here?", "Lena lives here. Hugo does not."]],
    "question_answering_stories": [["Mary went home.\nJohn ate.", "Where is Mary?"]],
    "word_vectors": [["fish"], ["lamp"]],
    "other": [],
}


def write_exports(folder: Path) -> None:
    """One export a task, below `folder`, each as version 1."""
    import numpy as np
    import tensorflow as tf

    string, number, decimal = tf.string, tf.int32, tf.float32

    def spec(**dtypes: Any) -> list[tf.TensorSpec]:
        shapes = {name: dtype if isinstance(dtype, tuple) else (dtype, [None]) for name, dtype in dtypes.items()}
        return [tf.TensorSpec(shape, dtype, name) for name, (dtype, shape) in shapes.items()]

    def padded(ragged: tf.RaggedTensor) -> tf.Tensor:
        dense = ragged.to_tensor()
        return tf.pad(dense, [[0, 0], [0, tf.maximum(0, 1 - tf.shape(dense)[1])]])

    def label(texts: tf.Tensor) -> dict[str, tf.Tensor]:
        positive = 1 / (1 + tf.cast(tf.strings.length(texts), decimal))
        names = tf.constant(["negative", "positive"])
        return {"label": tf.gather(names, tf.cast(positive > 0.5, number)), "probabilities": tf.stack([1 - positive, positive], 1),
                "labels": tf.tile(names[None], [tf.size(texts), 1])}  # fmt: skip

    def of_tokens(tokens: tf.RaggedTensor) -> dict[str, tf.Tensor]:
        lengths = tf.cast(tokens.row_lengths(), number)
        tags = tf.where(tf.strings.length(tokens.values) > 3, "NOUN", "VERB")
        return {"tags": padded(tokens.with_values(tags)), "lengths": lengths, "scores": tf.cast(tf.sequence_mask(lengths, tf.maximum(1, tf.reduce_max(tf.concat([lengths, [0]], 0)))), decimal)}  # fmt: skip

    def tags(texts: tf.Tensor) -> dict[str, tf.Tensor]:
        tokens = tf.strings.split(texts)
        sizes = tokens.with_values(tf.strings.length(tokens.values, "UTF8_CHAR") + 1)
        ends = tf.cumsum(padded(sizes), 1) - 1
        return {**of_tokens(tokens), "tokens": padded(tokens), "ends": ends, "starts": ends + 1 - padded(sizes)}

    def flat(tokens: tf.Tensor, lengths: tf.Tensor) -> dict[str, tf.Tensor]:
        rows = tf.RaggedTensor.from_row_lengths(tokens, tf.cast(lengths, tf.int64))
        return {"tags": tf.where(tf.strings.length(rows.values) > 3, "NOUN", "VERB")}

    def following(texts: tf.Tensor) -> dict[str, tf.Tensor]:
        rows = tf.size(texts)
        return {
            "tokens": tf.tile(tf.constant([[b"the", b"a", b" \xff"]]), [rows, 1]),
            "probabilities": tf.tile([[0.5, 0.25, 0.1]], [rows, 1]),
        }

    def number_of(texts: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"log_probability": tf.strings.to_number(texts)}

    def generate(
        prompts: tf.Tensor, length: tf.Tensor, temperature: tf.Tensor, top_k: tf.Tensor, top_p: tf.Tensor, seed: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        steps = tf.while_loop(lambda i: i < tf.reduce_max(length), lambda i: [i + 1], [tf.constant(0)])[0]
        text = tf.strings.join([" <b>word</b>"] * 2)
        return {"text": tf.where(length > 0, text, ""), "log_probability": tf.cast(steps, decimal) * tf.ones_like(temperature),
                "unknown": tf.fill(tf.shape(prompts), ""), "strict": tf.fill(tf.shape(prompts), False)}  # fmt: skip

    def advance(tokens: tf.Tensor, lengths: tf.Tensor, state_0: tf.Tensor, state_1: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"log_probabilities": -tf.cast(tokens, decimal), "state_0": state_0 + lengths, "state_1": state_1 + 1.0}

    def n_best(texts: tf.Tensor, beams: tf.Tensor, counts: tf.Tensor) -> dict[str, tf.Tensor]:
        most = tf.reduce_max(tf.concat([counts, [1]], 0))
        ranks = tf.range(most)
        there = ranks < counts[:, None]
        upper, rank = tf.strings.upper(texts)[:, None], tf.strings.as_string(ranks)[None]
        found = tf.strings.join([tf.tile(upper, [1, most]), tf.tile(rank, [tf.size(texts), 1])], "-")
        return {"translations": tf.where(there, found, ""), "scores": tf.where(there, -tf.cast(ranks, decimal)[None], 0.0),
                "log_probabilities": tf.where(there, -2 * tf.cast(ranks, decimal)[None], 0.0), "lengths": tf.minimum(counts, beams)}  # fmt: skip

    def translated(texts: tf.Tensor) -> dict[str, tf.Tensor]:
        found = n_best(texts, tf.ones_like(texts, number), tf.ones_like(texts, number))
        return {name: found[name][:, 0] for name in ("translations", "scores", "log_probabilities")}

    def align(sources: tf.Tensor, targets: tf.Tensor) -> dict[str, tf.Tensor]:
        targets = tf.where(targets == "", tf.strings.upper(sources), targets)
        pieces = [
            padded(tf.strings.split(tf.strings.join(["▁", tf.strings.regex_replace(side, " ", " ▁"), " </s>"])))
            for side in (sources, targets)
        ]
        shape = tf.shape(pieces[1])[1], tf.shape(pieces[0])[1]
        eye = tf.tile(tf.eye(shape[0], shape[1])[None], [tf.size(sources), 1, 1])
        return {"alignments": eye, "sources": pieces[0], "targets": pieces[1], "texts": targets}

    def pair_score(sources: tf.Tensor, targets: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"log_probability": -tf.cast(tf.strings.length(targets), decimal), "length": tf.strings.length(sources)}

    def first_word(questions: tf.Tensor, passages: tf.Tensor) -> dict[str, tf.Tensor]:
        del questions
        answers = tf.strings.regex_replace(passages, r"^(\S*).*$", r"\1")
        size = tf.strings.length(answers, "UTF8_CHAR")
        return {"answers": answers, "scores": tf.ones_like(answers, decimal) * 0.75, "starts": tf.zeros_like(size), "ends": size,
                "byte_starts": tf.zeros_like(size), "byte_ends": tf.strings.length(answers)}  # fmt: skip

    def first_words(questions: tf.Tensor, passages: tf.Tensor, counts: tf.Tensor) -> dict[str, tf.Tensor]:
        most = tf.reduce_max(tf.concat([counts, [1]], 0))
        found = {name: tf.tile(value[:, None], [1, most]) for name, value in first_word(questions, passages).items()}
        return {**found, "lengths": tf.minimum(counts, 1)}

    def story(stories: tf.Tensor, questions: tf.Tensor) -> dict[str, tf.Tensor]:
        facts = tf.strings.split(stories, "\n")
        dense = padded(facts)
        gates = tf.one_hot(tf.zeros([tf.size(stories), 2], number), tf.shape(dense)[1])
        return {"answers": tf.fill(tf.shape(questions), "home"), "scores": tf.ones_like(questions, decimal) * 0.5, "facts": dense,
                "gates": gates, "lengths": tf.cast(facts.row_lengths(), number)}  # fmt: skip

    def vectors(words: tf.Tensor) -> dict[str, tf.Tensor]:
        sizes = tf.cast(tf.strings.length(words), decimal)
        return {"vectors": tf.stack([sizes, -sizes], 1), "known": words != ""}

    def nearest(words: tf.Tensor, counts: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """A word with numbers behind it."""
        most = tf.reduce_max(tf.concat([counts, [1]], 0))
        ranks = tf.strings.as_string(tf.range(most))
        there = tf.range(most) < counts[:, None]
        found = tf.strings.join([tf.tile(words[:, None], [1, most]), tf.tile(ranks[None], [tf.size(words), 1])])
        cosines = tf.tile(1.0 / (2.0 + tf.cast(tf.range(most), decimal))[None], [tf.size(words), 1])
        return tf.where(there, found, ""), tf.where(there, cosines, 0.0)

    def neighbours(words: tf.Tensor, counts: tf.Tensor) -> dict[str, tf.Tensor]:
        found, cosines = nearest(words, counts)
        return {"neighbours": found, "cosines": cosines, "known": words != "unheard"}

    def analogy(a: tf.Tensor, b: tf.Tensor, c: tf.Tensor, counts: tf.Tensor) -> dict[str, tf.Tensor]:
        found, cosines = nearest(tf.strings.join([a, b, c], "-"), counts)
        return {"words": found, "cosines": cosines, "known": tf.stack([a, b, c], 1) != "unheard"}

    def vocabulary(ranks: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"words": tf.strings.as_string(ranks), "counts": tf.cast(ranks, tf.int64)}

    def losses(texts: tf.Tensor) -> dict[str, tf.Tensor]:
        size = tf.cast(tf.strings.length(texts), decimal)
        return {"loss": size, "contexts": size, "right": size}

    tokens = spec(tokens=(string, [None, None]))
    pair = {"sources": string, "targets": string}
    asked = {"questions": string, "passages": string}
    sampling = {"prompts": string, "length": number, "temperature": decimal, "top_k": number, "top_p": decimal, "seed": number}
    signatures: dict[str, dict[str, tuple[Callable[..., Any], list[tf.TensorSpec]]]] = {
        "sentiment": {"serving_default": (label, spec(texts=string))},
        "tagging": {
            "serving_default": (tags, spec(texts=string)),
            "tokens": (lambda tokens: of_tokens(tf.RaggedTensor.from_tensor(tokens, padding="")), tokens),
            "flat": (flat, spec(tokens=string, lengths=number)),
        },
        "language_modeling": {
            "serving_default": (following, spec(texts=string)),
            "score": (number_of, spec(texts=string)),
            "generate": (generate, spec(**sampling)),
            "advance": (advance, spec(tokens=(number, [None, None]), lengths=number, state_0=number, state_1=(decimal, [None, 3]))),
        },
        "translation": {
            "serving_default": (translated, spec(texts=string)),
            "n_best": (n_best, spec(texts=string, beams=number, counts=number)),
            "score": (pair_score, spec(**pair)),
            "align": (align, spec(**pair)),
        },
        "question_answering": {
            "serving_default": (first_word, spec(**asked)),
            "n_best": (first_words, spec(**asked, counts=number)),
        },
        "question_answering_stories": {"serving_default": (story, spec(stories=string, questions=string))},
        "word_vectors": {
            "serving_default": (vectors, spec(words=string)),
            "neighbours": (neighbours, spec(words=string, counts=number)),
            "analogy": (analogy, spec(a=string, b=string, c=string, counts=number)),
            "vocabulary": (vocabulary, spec(ranks=number)),
            "score": (losses, spec(texts=string)),
        },
        "other": {"serving_default": (lambda x, scale: {"y": x * scale}, spec(x=(decimal, [None, 2]), scale=(decimal, [])))},
    }  # fmt: skip
    for task, functions in signatures.items():
        graphs = {
            name: tf.function(function, autograph=False, input_signature=inputs) for name, (function, inputs) in functions.items()
        }
        place = folder / task / "1"
        tf.saved_model.save(
            tf.Module(), str(place), signatures={name: graph.get_concrete_function() for name, graph in graphs.items()}
        )
        extra = {
            "view": VIEWS[task],
            "example_inputs": EXAMPLES[task],
            "scores": SCORES,
            "row_wise": {n: ALIKE.get((task, n), []) for n in graphs if task != "other" and n != "flat"},
        }
        if examples := EXAMPLES[task]:
            columns = [
                [" ".join(value) if isinstance(value, list) else value for value in column]
                for column in zip(*examples, strict=True)
            ]
            names = [spec.name for spec in functions["serving_default"][1]]
            inputs = dict(zip(names, columns, strict=True))
            outputs = graphs["serving_default"](**{name: tf.constant(column) for name, column in inputs.items()})
            plain = {name: value.numpy() for name, value in outputs.items()}
            text = np.vectorize(lambda value: value.decode("utf-8", "surrogateescape"), otypes=[object])
            extra["example_outputs"] = {"serving_default": {"inputs": inputs, "outputs": {
                name: (text(value) if value.dtype == object else value).tolist() for name, value in plain.items()}}}  # fmt: skip
        (place / "assets.extra").mkdir()
        for name, content in extra.items():
            (place / "assets.extra" / f"{name}.json").write_text(json.dumps(content))


@pytest.fixture(scope="session")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of all fake exports; not to be changed."""
    folder = tmp_path_factory.mktemp("exports") / "saved_models"
    write_exports(folder)
    return folder


@pytest.fixture
def own_exports(exports: Path, tmp_path: Path) -> Path:
    """A copy of some of them that a test may change."""
    folder = tmp_path / "saved_models"
    for task in ("sentiment", "tagging", "language_modeling"):
        shutil.copytree(exports / task, folder / task)
    return folder


class Answer:
    """Of a server."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status, self.headers, self.body = response.status, response.headers, response.read()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Running:
    """A server that runs in this process."""

    port: int
    stop: Callable[[], None]

    def ask(
        self, path: str, body: bytes | str | None = None, method: str = "", headers: Mapping[str, str] | None = None
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        content = body.encode() if isinstance(body, str) else body
        connection.request(method or ("GET" if content is None else "POST"), path, content, dict(headers or {}))
        try:
            return Answer(connection.getresponse())
        finally:
            connection.close()

    def predict(self, model: str, **content: Any) -> Answer:
        return self.ask(f"/v1/models/{model}:predict", json.dumps(content))

    def socket(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)


@contextmanager
def running(folder: Path, limits: Limits = Limits(), **options: Any) -> Iterator[Running]:  # noqa: B008
    """Serves in a thread; a port of its own, no signals."""
    import uvicorn

    from nlp_tasks.serving import saved_model, server
    from nlp_tasks.serving.app import build
    from nlp_tasks.serving.batcher import Batcher
    from nlp_tasks.serving.metrics import Metrics
    from nlp_tasks.serving.models import Models

    load = options.pop("load", saved_model.load)
    given = replace(server.Options(folder, limits=limits, poll_seconds=0.05), **options)
    metrics = Metrics()
    batcher = Batcher(given.limits, 2, lambda signature, requests, rows: metrics.batch(signature.model, signature.name, rows))
    metrics.watch(batcher)
    models = Models(folder, load, keep=given.versions, told=metrics.version)
    app = build(
        models,
        batcher,
        metrics,
        most_bytes=given.most_bytes,
        poll_seconds=given.poll_seconds,
        hosts=server.hosts(given, "127.0.0.1"),
    )
    bound = server.bind("127.0.0.1", 0)
    runner = uvicorn.Server(server.config(app, given.grace))
    thread = threading.Thread(target=lambda: asyncio.run(runner.serve([bound])))
    thread.start()

    def stop() -> None:
        runner.should_exit = True
        thread.join(30)

    try:
        while not runner.started and thread.is_alive():
            threading.Event().wait(0.01)
        yield Running(bound.getsockname()[1], stop)
    finally:
        stop()
        assert not thread.is_alive()


Serve = Callable[..., AbstractContextManager[Running]]


@pytest.fixture(scope="session")
def serve() -> Serve:
    """`running`."""
    return running


@pytest.fixture(scope="module")
def server(exports: Path) -> Iterator[Running]:
    """Serves all fake exports."""
    with running(exports) as found:
        yield found
