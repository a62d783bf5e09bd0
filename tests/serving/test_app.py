"""A server that runs: every request form and error form over HTTP, limits, deadlines, clients that go away, versions that change."""

from __future__ import annotations

import base64
import concurrent.futures
import contextlib
import gzip
import http.client
import json
import shutil
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nlp_tasks.serving import saved_model
from nlp_tasks.serving.batcher import Limits

if TYPE_CHECKING:
    from tests.serving.conftest import Running, Serve

ENDLESS = {"length": 2_000_000_000, "temperature": 1.0, "top_k": 0, "top_p": 1.0, "seed": 1}


def endless(prompt: str = "a") -> dict[str, Any]:
    """A request that is never answered."""
    return {"signature_name": "generate", "instances": [{"prompts": prompt, **ENDLESS}]}


# Every signature of every task, in both formats

CASES: list[tuple[str, str, dict[str, list[Any]], dict[str, list[Any]]]] = [
    ("sentiment", "serving_default", {"texts": ["", "bad food"]},
     {"label": ["positive", "negative"], "probabilities": [[0.0, 1.0], [0.8888889, 0.11111111]], "labels": [["negative", "positive"]] * 2}),
    ("tagging", "serving_default", {"texts": ["fish é swim", "a"]},
     {"tokens": [["fish", "é", "swim"], ["a", "", ""]], "tags": [["NOUN", "VERB", "NOUN"], ["VERB", "", ""]], "lengths": [3, 1],
      "scores": [[1.0, 1.0, 1.0], [1.0, 0.0, 0.0]], "starts": [[0, 5, 7], [0, 2, 2]], "ends": [[4, 6, 11], [1, 1, 1]]}),
    ("tagging", "tokens", {"tokens": [["fish", "a"], ["lamp", ""]]},
     {"tags": [["NOUN", "VERB"], ["NOUN", ""]], "lengths": [2, 1], "scores": [[1.0, 1.0], [1.0, 0.0]]}),
    ("language_modeling", "serving_default", {"texts": ["once"]},
     {"tokens": [["the", "a", {"b64": "IP8="}]], "probabilities": [[0.5, 0.25, 0.1]]}),
    ("language_modeling", "score", {"texts": ["1.5", "-2"]}, {"log_probability": [1.5, -2.0]}),
    ("language_modeling", "generate",
     {"prompts": ["a"], "length": [2], "temperature": [1], "top_k": [0], "top_p": [0.5], "seed": [3]},
     {"text": [" <b>word</b> <b>word</b>"], "log_probability": [2.0], "unknown": [""], "strict": [False]}),
    ("language_modeling", "advance",
     {"tokens": [[1, 2], [3, 0]], "lengths": [2, 1], "state_0": [0, 0], "state_1": [[0, 0.5, 1]] * 2},
     {"log_probabilities": [[-1.0, -2.0], [-3.0, 0.0]], "state_0": [2, 1], "state_1": [[1.0, 1.5, 2.0]] * 2}),
    ("translation", "serving_default", {"texts": ["old house"]},
     {"translations": ["OLD HOUSE-0"], "scores": [0.0], "log_probabilities": [0.0]}),
    ("translation", "n_best", {"texts": ["a", "b"], "beams": [4, 4], "counts": [2, 1]},
     {"translations": [["A-0", "A-1"], ["B-0", ""]], "scores": [[0.0, -1.0], [0.0, 0.0]], "log_probabilities": [[0.0, -2.0], [0.0, 0.0]],
      "lengths": [2, 1]}),
    ("translation", "score", {"sources": ["ab"], "targets": ["abc"]}, {"log_probability": [-3.0], "length": [2]}),
    ("translation", "align", {"sources": ["a b"], "targets": [""]},
     {"alignments": [[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]], "sources": [["▁a", "▁b", "</s>"]], "targets": [["▁A", "▁B", "</s>"]],
      "texts": ["A B"]}),
    ("question_answering", "serving_default", {"questions": ["who?"], "passages": ["é lives"]},
     {"answers": ["é"], "scores": [0.75], "starts": [0], "ends": [1], "byte_starts": [0], "byte_ends": [2]}),
    ("question_answering", "n_best", {"questions": ["who?"], "passages": ["Lena lives"], "counts": [2]},
     {"answers": [["Lena", "Lena"]], "scores": [[0.75, 0.75]], "starts": [[0, 0]], "ends": [[4, 4]], "byte_starts": [[0, 0]],
      "byte_ends": [[4, 4]], "lengths": [1]}),
    ("question_answering_stories", "serving_default", {"stories": ["Mary left.\nJohn ate."], "questions": ["Where?"]},
     {"answers": ["home"], "scores": [0.5], "facts": [["Mary left.", "John ate."]], "gates": [[[1.0, 0.0], [1.0, 0.0]]], "lengths": [2]}),
    ("word_vectors", "serving_default", {"words": ["ab", ""]}, {"vectors": [[2.0, -2.0], [0.0, 0.0]], "known": [True, False]}),
    ("word_vectors", "neighbours", {"words": ["ab"], "counts": [2]}, {"neighbours": [["ab0", "ab1"]], "cosines": [[0.5, 0.33333334]], "known": [True]}),
    ("word_vectors", "analogy", {"a": ["x"], "b": ["y"], "c": ["unheard"], "counts": [1]},
     {"words": [["x-y-unheard0"]], "cosines": [[0.5]], "known": [[True, True, False]]}),
    ("word_vectors", "vocabulary", {"ranks": [3, 0]}, {"words": ["3", "0"], "counts": [3, 0]}),
    ("word_vectors", "score", {"texts": ["abc"]}, {"loss": [3.0], "contexts": [3.0], "right": [3.0]}),
]  # fmt: skip


@pytest.mark.parametrize(("model", "signature", "inputs", "outputs"), CASES, ids=[f"{case[0]}-{case[1]}" for case in CASES])
def test_rows_and_columns(server: Running, model: str, signature: str, inputs: dict[str, Any], outputs: dict[str, Any]) -> None:
    rows = [dict(zip(inputs, row, strict=True)) for row in zip(*inputs.values(), strict=True)]
    one = len(outputs) == 1
    expected = [
        row[0] if one else dict(zip(sorted(outputs), row, strict=True))
        for row in zip(*(outputs[name] for name in sorted(outputs)), strict=True)
    ]
    answer = server.predict(model, signature_name=signature, instances=rows)
    assert answer.status == 200, answer.body
    assert answer.headers["Content-Type"] == "application/json" and answer.headers["X-Model-Version"] == "1"
    assert answer.json == {"predictions": expected}
    columns = next(iter(outputs.values())) if one else outputs
    assert server.predict(model, signature_name=signature, inputs=inputs).json == {"outputs": columns}
    if len(inputs) == 1:
        (values,) = inputs.values()
        assert server.predict(model, signature_name=signature, instances=values).json == {"predictions": expected}
        assert server.predict(model, signature_name=signature, inputs=values).json == {"outputs": columns}
    if signature == "serving_default":
        assert server.predict(model, instances=rows).json == {"predictions": expected}
    encoded = [
        {
            name: {"b64": base64.b64encode(value.encode()).decode()} if isinstance(value, str) else value
            for name, value in row.items()
        }
        for row in rows
    ]
    assert server.predict(model, signature_name=signature, instances=encoded).json == {"predictions": expected}


def test_flat_answers_have_rows_of_their_own(server: Running) -> None:
    answer = server.predict("tagging", signature_name="flat", inputs={"tokens": ["fish", "a", "lamp"], "lengths": [1, 2]})
    assert answer.json == {"outputs": ["NOUN", "VERB", "NOUN"]}


def test_a_model_of_other_making(server: Running) -> None:
    assert server.predict("other", inputs={"x": [[1, 2]], "scale": 2}).json == {"outputs": [[2.0, 4.0]]}
    refused = server.predict("other", inputs={"x": [[1, 2, 3]], "scale": 2})
    assert (refused.status, refused.json) == (400, {"error": "Tensor name: x Expecting shape [-1,2] but got: [1,3]"})


def test_versions_in_paths(server: Running) -> None:
    body = json.dumps({"instances": ["a"]})
    assert server.ask("/v1/models/sentiment/versions/1:predict", body).status == 200
    assert server.ask("/v1/models/sentiment%2Fx:predict", body).json == {
        "error": "Servable not found for request: Latest(sentiment/x)"
    }
    assert server.ask("/v1/models/senti%6Dent:predict", body).status == 200


# What TensorFlow Serving says about models


def test_status(server: Running) -> None:
    expected = {
        "model_version_status": [{"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}]
    }
    for path in ("", "/versions/1", "/labels/stable"):
        assert server.ask(f"/v1/models/sentiment{path}").json == expected
    assert server.ask("/v1/models/sentiment/versions/2").status == 404
    assert server.ask("/v1/models/none").json == {"error": "Could not find any versions of model none"}


@pytest.mark.parametrize(
    "model", ["sentiment", "tagging", "language_modeling", "translation", "question_answering", "word_vectors", "other"]
)
def test_metadata(server: Running, model: str) -> None:
    for path in ("", "/versions/1"):
        content = server.ask(f"/v1/models/{model}{path}/metadata").json
        assert content["model_spec"] == {"name": model, "signature_name": "", "version": "1"}
        definitions = content["metadata"]["signature_def"]["signature_def"]
        served = {name for name in definitions if not name.startswith("__")}
        assert served == {signature for name, signature, *_ in CASES if name == model} | (
            {"flat"} if model == "tagging" else set()
        ) | ({"serving_default"} if model == "other" else set())
        for name in served:
            assert definitions[name]["method_name"] == "tensorflow/serving/predict"
            for tensor in (*definitions[name]["inputs"].values(), *definitions[name]["outputs"].values()):
                assert tensor.keys() == {"name", "dtype", "tensor_shape"} and tensor["dtype"].startswith("DT_")
    assert server.ask(f"/v1/models/{model}/labels/stable/metadata").json == {
        "error": "Unrecognized servable version label: stable"
    }
    assert server.ask(f"/v1/models/{model}/versions/7/metadata").json == {
        "error": f"Servable not found for request: Specific({model}, 7)"
    }


# Bad input


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("/v1/models/none:predict", b'{"instances": ["a"]}', 404, "Servable not found for request: Latest(none)"),
        ("/v1/models/sentiment/versions/9:predict", b'{"instances": ["a"]}', 404, "Servable not found for request: Specific(sentiment, 9)"),
        ("/v1/models/sentiment/labels/stable:predict", b'{"instances": ["a"]}', 400, "Unrecognized servable version label: stable"),
        ("/v1/models/sentiment:predict", b"", 400, "JSON Parse error: The document is empty"),
        ("/v1/models/sentiment:predict", b"instances = [1, 2]", 400, "JSON Parse error: Invalid value."),
        ("/v1/models/none:predict", b"{", 400, "JSON Parse error: "),
        ("/v1/models/sentiment:predict", b'{"instances": [5]}', 400, "JSON Value: 5 Type: Number is not of expected type: string"),
        ("/v1/models/sentiment:predict", b'{"text": ["a"]}', 400, "Missing 'inputs' or 'instances' key"),
        ("/v1/models/sentiment:predict", b'{"instances": [{"text": "a"}]}', 400, "does not have named input: text"),
        ("/v1/models/sentiment:predict", b'{"instances": []}', 400, "No values in 'instances' array"),
        ("/v1/models/sentiment:predict", b'{"instances": [{"b64": "&"}]}', 400, "Unable to base64 decode"),
        ("/v1/models/sentiment:predict", b'{"signature_name": "x", "instances": ["a"]}', 400, 'Serving signature name: "x" not found in signature def'),
        ("/v1/models/sentiment:predict", b'{"signature_name": 100}', 400, "'signature_name' key must be a string value."),
        ("/v1/models/language_modeling:predict", b'{"signature_name": "score", "instances": ["x"]}', 400,
         "StringToNumberOp could not correctly convert string: x"),
        ("/v1/models/tagging:predict", b'{"signature_name": "flat", "inputs": {"tokens": ["a"], "lengths": [5]}}', 400, "do not form a valid RaggedTensor"),
        ("/v1/models/translation:predict", b'{"signature_name": "score", "inputs": {"sources": ["a", "b"], "targets": ["a"]}}', 400,
         "Batching Run() input tensors must have equal 0th-dimension size"),
        ("/v1/models/sentiment:classify", b'{"examples": [{"texts": "a"}]}', 400,
         "Expected classification signature method_name to be tensorflow/serving/classify. Was: tensorflow/serving/predict"),
        ("/v1/models/sentiment:regress", b"{}", 400, "Expected regression signature method_name"),
        ("/v1/models/sentiment", b"{}", 400, "Malformed request: POST /v1/models/sentiment"),
        ("/v1/foo", b"{}", 400, "Malformed request: POST /v1/foo"),
    ],
)  # fmt: skip
def test_bad_requests(server: Running, path: str, body: bytes, status: int, message: str) -> None:
    answer = server.ask(path, body)
    assert (answer.status, [*answer.json]) == (status, ["error"]) and message in answer.json["error"]
    assert answer.headers["Content-Type"] == "application/json"


def test_bytes_that_are_no_utf8_reach_the_model(server: Running) -> None:
    answer = server.ask("/v1/models/tagging:predict", b'{"instances": ["caf\xe9 ok"]}')
    assert answer.status == 200 and answer.json["predictions"][0]["tokens"] == [
        {"b64": base64.b64encode(b"caf\xe9").decode()},
        "ok",
    ]


def test_ten_thousand_instances(server: Running) -> None:
    texts = [f"row {i}" for i in range(10_000)]
    answer = server.predict("tagging", instances=texts)
    assert [row["tokens"] for row in answer.json["predictions"]] == [["row", str(i)] for i in range(10_000)]


def test_a_long_text(server: Running) -> None:
    answer = server.predict("sentiment", instances=["x" * 3_000_000])
    assert answer.status == 200 and answer.json["predictions"][0]["label"] == "negative"
    refused = server.predict("sentiment", instances=["x" * 10_000_000])
    assert (refused.status, refused.json) == (413, {"error": "Request body is too large: more than 4,194,304 bytes"})
    assert refused.headers["Connection"] == "close" or server.predict("sentiment", instances=["a"]).status == 200


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/v1/../etc/passwd", "/saved_model.pb", "/static"]
)
def test_no_file_can_be_reached(server: Running, path: str) -> None:
    answer = server.ask(path)
    assert answer.status in (400, 404) and list(answer.json) == ["error"]


@pytest.mark.parametrize("model", ["..", "%2e%2e", "..%2f..%2fetc", "sentiment%2f1", "."])
def test_names_of_models_are_no_paths(server: Running, model: str) -> None:
    assert server.ask(f"/v1/models/{model}").status in (400, 404)
    assert server.ask(f"/v1/models/{model}:predict", b'{"instances": ["a"]}').status in (400, 404)


def test_packed_bodies(server: Running) -> None:
    body = json.dumps({"instances": ["good food"]}).encode()
    path = "/v1/models/sentiment:predict"
    assert server.ask(path, gzip.compress(body), headers={"Content-Encoding": "gzip"}).status == 200
    assert server.ask(path, body, headers={"Content-Encoding": "identity"}).status == 200
    for content, encoding, status in [
        (gzip.compress(body)[:-10], "gzip", 400), (body, "gzip", 400), (gzip.compress(b" " * 10**7), "gzip", 413), (body, "br", 415),
    ]:  # fmt: skip
        answer = server.ask(path, content, headers={"Content-Encoding": encoding})
        assert (answer.status, [*answer.json]) == (status, ["error"])


def test_only_its_own_names(server: Running) -> None:
    for headers, status in [
        ({"Host": "localhost:8501"}, 200), ({"Host": "127.0.0.1"}, 200), ({"Host": "[::1]:80"}, 200), ({"Host": "evil.example"}, 403),
        ({"Host": "localhost.evil.example"}, 403), ({"Host": ""}, 403), ({"Origin": "http://localhost:3000"}, 200),
        ({"Origin": "https://evil.example"}, 403), ({"Origin": "null"}, 403), ({"Host": "[::1"}, 403),
    ]:  # fmt: skip
        for path in ("/", "/healthz", "/v1/models/sentiment"):
            assert server.ask(path, headers=headers).status == status, headers


def test_a_name_that_was_allowed(exports: Path, serve: Serve) -> None:
    with serve(exports, allow_hosts=("Models.example",), load=unloaded) as server:
        for host, status in [("models.example", 200), ("localhost", 200), ("other.example", 403)]:
            assert server.ask("/healthz", headers={"Host": host, "Origin": f"https://{host}"}).status == status


class Unloaded:
    """A version of no signatures, which takes no time."""

    def __init__(self, folder: Path, name: str, number: int) -> None:
        self.name, self.number, self.signatures, self.signature_def, self.extra = name, number, {}, {}, {}

    def close(self) -> None: ...


unloaded: Callable[..., Any] = Unloaded


def test_health(exports: Path, tmp_path: Path, serve: Serve) -> None:
    with serve(exports, load=unloaded) as server:
        answer = server.ask("/healthz")
        assert answer.status == 200 and answer.json["models"]["sentiment"] == 1

    def broken(folder: Path, name: str, number: int) -> Any:
        raise ValueError("it does not load")

    with serve(exports, load=broken) as server:
        assert (server.ask("/healthz").status, server.ask("/healthz").json) == (503, {"models": {}})
        status = server.ask("/v1/models/sentiment").json["model_version_status"]
        assert status == [
            {"version": "1", "state": "END", "status": {"error_code": "INVALID_ARGUMENT", "error_message": "it does not load"}}
        ]


def test_metrics(own_exports: Path, serve: Serve) -> None:
    with serve(own_exports) as server:
        for texts in (["a"], ["b", "c"]):
            server.predict("sentiment", instances=texts)
        server.predict("sentiment", instances=[1])
        server.predict("made-up", instances=["a"])
        text = server.ask("/metrics").body.decode()
        for line in (
            'nlp_tasks_requests_total{model="sentiment",status="200"} 2.0', 'nlp_tasks_requests_total{model="sentiment",status="400"} 1.0',
            'nlp_tasks_requests_total{model="",status="404"} 1.0', 'nlp_tasks_request_seconds_count{model="sentiment"} 3.0',
            'nlp_tasks_batch_rows_sum{model="sentiment",signature="serving_default"} 3.0',
            'nlp_tasks_model_version{model="sentiment"} 1.0', "nlp_tasks_requests_under_way 0.0", "nlp_tasks_bytes_under_way 0.0",
        ):  # fmt: skip
            assert line in text
        assert "made-up" not in text


# Limits, by raw sockets


def read_all(server: Running, *parts: bytes, pause: float = 0.0) -> bytes:
    """What comes back until the server closes the connection."""
    with server.socket() as connection:
        for part in parts:
            connection.sendall(part)
            time.sleep(pause)
        answer = b""
        while part := connection.recv(1 << 16):
            answer += part
        return answer


HEAD = b"POST /v1/models/sentiment:predict HTTP/1.1\r\nHost: localhost\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def test_a_body_that_is_too_long_is_refused_before_it_has_come(server: Running) -> None:
    begun = time.monotonic()
    answer = read_all(server, HEAD + b"Content-Length: 99999999\r\n\r\n", b'{"instances": ["')
    assert (
        answer.startswith(b"HTTP/1.1 413 ")
        and b"connection: close" in answer
        and b'{"error": "Request body is too large' in answer
    )
    assert time.monotonic() - begun < 10


def test_a_client_that_asks_first_sends_nothing(server: Running) -> None:
    answer = read_all(server, HEAD + b"Content-Length: 99999999\r\nExpect: 100-continue\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413 ")


def test_a_body_in_chunks(server: Running) -> None:
    parts = [
        HEAD,
        b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n",
        chunk(b'{"instances": '),
        chunk(b'["a"]}'),
        b"0\r\n\r\n",
    ]
    answer = read_all(server, *parts, pause=0.01)
    assert answer.startswith(b"HTTP/1.1 200 ") and b'"predictions"' in answer


def test_a_body_in_chunks_that_is_too_long(server: Running) -> None:
    parts = [HEAD + b"Transfer-Encoding: chunked\r\n\r\n", *[chunk(b" " * 65_536)] * 100]
    answer = read_all(server, *parts)
    assert answer.startswith(b"HTTP/1.1 413 ") and b"connection: close" in answer


def test_a_connection_goes_on_after_an_error(server: Running) -> None:
    body = b'{"instances": [1]}'
    request = HEAD + b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
    good = b'{"instances": ["a"]}'
    last = HEAD + b"Connection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(good), good)
    answer = read_all(server, request, last, pause=0.05)
    assert answer.count(b"HTTP/1.1 400 ") == 1 and answer.count(b"HTTP/1.1 200 ") == 1


def test_a_body_that_does_not_come_runs_into_the_deadline(exports: Path, serve: Serve) -> None:
    with serve(exports, Limits(deadline=0.3), load=unloaded) as server:
        answer = read_all(server, HEAD + b"Content-Length: 100\r\n\r\n", b'{"instances"')
        assert answer.startswith(b"HTTP/1.1 504 ") and b"no answer within 0.3 s" in answer


@pytest.fixture
def narrow(own_exports: Path, serve: Serve) -> Iterator[Running]:
    with serve(own_exports, Limits(queue=2, deadline=2.0)) as found:
        yield found


def gauge(server: Running, name: str) -> float:
    lines = [line for line in server.ask("/metrics").body.decode().splitlines() if line.startswith(f"{name} ")]
    return float(lines[0].split()[1])


def until(holds: Callable[[], bool], seconds: float = 15.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_deadline_and_a_full_queue(narrow: Running) -> None:
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        begun = time.monotonic()
        slow = [pool.submit(narrow.predict, "language_modeling", **endless()) for _ in range(2)]
        until(lambda: gauge(narrow, "nlp_tasks_requests_under_way") == 2)
        full = narrow.predict("sentiment", instances=["a"])
        assert (full.status, full.headers["Retry-After"]) == (503, "1") and full.json == {
            "error": "Too many requests: 2 are under way"
        }
        for answer in (future.result() for future in slow):
            assert (answer.status, answer.json) == (504, {"error": "Deadline exceeded: no answer within 2 s"})
        assert 1.9 < time.monotonic() - begun < 10
    assert narrow.predict("sentiment", instances=["a"]).status == 200  # the workers are free again


def test_bodies_are_bounded_together(own_exports: Path, serve: Serve) -> None:
    with serve(own_exports, Limits(queue_bytes=1000)) as server:
        refused = server.predict("sentiment", instances=["x" * 2000])
        assert refused.status == 503 and "their bodies have" in refused.json["error"]
        assert server.predict("sentiment", instances=["x" * 500]).status == 200


def test_clients_that_go_away(narrow: Running) -> None:
    body = json.dumps(endless()).encode()
    request = b"POST /v1/models/language_modeling:predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
    for sent in (request + body, request + body[:10], request, request[:30]):
        with narrow.socket() as connection:
            connection.sendall(sent)
            time.sleep(0.1)
        until(lambda: gauge(narrow, "nlp_tasks_requests_under_way") == 0)
    begun = time.monotonic()
    assert narrow.predict("sentiment", instances=["a"]).status == 200
    assert time.monotonic() - begun < 1.5  # what nobody waits for does not keep a worker
    assert 'nlp_tasks_requests_total{model="language_modeling",status="499"} 3.0' in narrow.ask("/metrics").body.decode()


def test_a_bad_request_fails_alone(server: Running) -> None:
    """However requests fall together."""
    texts = [str(i) if i % 7 else f"x{i}" for i in range(140)]
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        answers = list(
            pool.map(lambda text: server.predict("language_modeling", signature_name="score", instances=[text]), texts)
        )
    for text, answer in zip(texts, answers, strict=True):
        if text.startswith("x"):
            assert answer.status == 400 and answer.json["error"].endswith(f"convert string: {text}")
        else:
            assert answer.json == {"predictions": [float(text)]}


def test_the_end_answers_what_is_under_way(own_exports: Path, serve: Serve) -> None:
    goes_on = threading.Event()

    class Slow(saved_model.Signature):
        def __call__(self, *given: Any) -> Any:
            goes_on.wait(10)
            return super().__call__(*given)

    def load(folder: Path, name: str, number: int) -> Any:
        version = saved_model.load(folder, name, number)
        for signature in version.signatures.values():
            signature.__class__ = Slow
        return version

    with serve(own_exports, load=load) as server, concurrent.futures.ThreadPoolExecutor(1) as pool:
        under_way = pool.submit(server.predict, "sentiment", instances=["a"])
        until(lambda: gauge(server, "nlp_tasks_requests_under_way") == 1)
        threading.Timer(0.5, goes_on.set).start()
        server.stop()
        assert under_way.result().status == 200
        with pytest.raises(OSError):
            server.socket()


def test_the_end_is_bounded(own_exports: Path, serve: Serve) -> None:
    with serve(own_exports, grace=1) as server, concurrent.futures.ThreadPoolExecutor(1) as pool:
        under_way = pool.submit(server.predict, "language_modeling", **endless())
        until(lambda: gauge(server, "nlp_tasks_requests_under_way") == 1)
        begun = time.monotonic()
        server.stop()
        assert time.monotonic() - begun < 10
        with contextlib.suppress(OSError, http.client.HTTPException):  # the connection may be closed instead
            assert under_way.result().status >= 500


# Versions that change under load


def test_versions_change_and_no_request_fails(own_exports: Path, serve: Serve) -> None:
    kept: list[weakref.ref[Any]] = []

    def load(folder: Path, name: str, number: int) -> Any:
        version = saved_model.load(folder, name, number)
        kept.append(weakref.ref(version._session))
        return version

    shutil.rmtree(own_exports / "tagging")
    shutil.rmtree(own_exports / "language_modeling")
    model = own_exports / "sentiment"
    with serve(own_exports, load=load) as server:
        stop, failed, versions = threading.Event(), list[Any](), set[str]()

        def client() -> None:
            while not stop.is_set():
                answer = server.predict("sentiment", instances=["good"])
                versions.add(answer.headers["X-Model-Version"])
                if answer.status != 200:
                    failed.append(answer.json)

        clients = [threading.Thread(target=client) for _ in range(4)]
        for thread in clients:
            thread.start()
        (model / "2" / "variables").mkdir(parents=True)
        (model / "2" / "saved_model.pb").write_bytes(b"half of it")
        until(lambda: "refused" not in versions and _state(server, 2) == "END")
        shutil.copytree(model / "1", model / ".3.partial")
        (model / ".3.partial").rename(model / "3")
        until(lambda: "3" in versions)
        stop.set()
        for thread in clients:
            thread.join()
        assert not failed and versions == {"1", "3"}
        assert server.ask("/v1/models/sentiment/versions/1:predict", b'{"instances": ["a"]}').status == 404
        assert [status["state"] for status in server.ask("/v1/models/sentiment").json["model_version_status"]] == [
            "AVAILABLE",
            "END",
            "END",
        ]
        text = server.ask("/metrics").body.decode()
        assert (
            'nlp_tasks_versions_refused_total{model="sentiment"} 1.0' in text
            and 'nlp_tasks_model_version{model="sentiment"} 3.0' in text
        )
        until(lambda: kept[0]() is None)  # nothing is left of the old one
        assert kept[1]() is not None


def _state(server: Running, number: int) -> str:
    answer = server.ask(f"/v1/models/sentiment/versions/{number}")
    return answer.json["model_version_status"][0]["state"] if answer.status == 200 else ""


def test_a_head_that_does_not_end(server: Running) -> None:
    with server.socket() as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nX-Long: ")
        with contextlib.suppress(OSError):  # it may be closed before all was sent
            for _ in range(64):
                client.sendall(b"a" * (1 << 14))
        told = b""
        with contextlib.suppress(OSError):
            while part := client.recv(1 << 12):
                told += part
    assert told.startswith(b"HTTP/1.1 431 ") or not told  # a reset takes what was written away
    assert server.ask("/healthz").status == 200


def test_a_large_body_is_no_long_head(server: Running) -> None:
    many = json.dumps({"instances": ["good service here"] * 10_000})
    with server.socket() as client:
        request = (
            f"POST /v1/models/sentiment:predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(many)}\r\n\r\n{many}".encode()
        )
        client.sendall(request + b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        told = b""
        while part := client.recv(1 << 16):
            told += part
    assert told.count(b"HTTP/1.1 200 OK") == 2


def test_a_name_that_is_no_text(server: Running) -> None:
    answer = server.ask("/v1/models/sentiment:predict", b'{"instances": [{"caf\xe9": "a"}]}')
    assert answer.status == 400 and "does not have named input: caf" in json.loads(answer.body)["error"]
