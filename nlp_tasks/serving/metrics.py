"""What Prometheus is told."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from nlp_tasks.serving.batcher import Batcher

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class Metrics:
    """Counters of one server."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        self._requests = Counter(
            "nlp_tasks_requests", "Predictions that were asked for, by model and status.", ("model", "status"), registry=registry
        )
        self._seconds = Histogram(
            "nlp_tasks_request_seconds",
            "From the head of a request to its answer.",
            ("model",),
            buckets=_SECONDS,
            registry=registry,
        )
        self._batches = Histogram(
            "nlp_tasks_batch_rows", "Rows that were answered together.", ("model", "signature"), buckets=_ROWS, registry=registry
        )
        self._version = Gauge("nlp_tasks_model_version", "The newest version that is served.", ("model",), registry=registry)
        self._refused = Counter("nlp_tasks_versions_refused", "Versions that were refused.", ("model",), registry=registry)
        self._waiting = Gauge("nlp_tasks_requests_under_way", "Requests that are not answered yet.", registry=registry)
        self._bytes = Gauge("nlp_tasks_bytes_under_way", "Bytes of their bodies.", registry=registry)

    def watch(self, batcher: Batcher) -> None:
        self._waiting.set_function(lambda: batcher.requests)
        self._bytes.set_function(lambda: batcher.bytes)

    def request(self, model: str, status: int, seconds: float) -> None:
        """`model`: one that there is, or "": clients must not make up names of series."""
        self._requests.labels(model, str(status)).inc()
        self._seconds.labels(model).observe(seconds)

    def batch(self, model: str, signature: str, rows: int) -> None:
        self._batches.labels(model, signature).observe(rows)

    def version(self, model: str, number: int, is_served: bool) -> None:
        if is_served:
            self._version.labels(model).set(number)
        else:
            self._refused.labels(model).inc()

    def text(self) -> bytes:
        return generate_latest(self._registry)
