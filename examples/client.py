"""Asks a model that `nlp-tasks serve` or TensorFlow Serving serves; the standard library is enough.

python examples/client.py http://127.0.0.1:8501 sentiment-sample 'Slow, but I would not call the staff rude.'
"""

from __future__ import annotations

import json
import sys
import time
import urllib.error
import urllib.request


def predict(server: str, model: str, texts: list[str], *, patience: float = 10.0) -> list[object]:
    """One answer a text. Comes back while the server has too much to do (503)."""
    body = json.dumps({"instances": texts}).encode()
    end = time.monotonic() + patience
    while True:
        try:
            with urllib.request.urlopen(f"{server}/v1/models/{model}:predict", body, timeout=60) as answer:
                return json.load(answer)["predictions"]
        except urllib.error.HTTPError as error:
            if error.code != 503 or time.monotonic() > end:
                raise SystemExit(f"error {error.code}: {json.load(error)['error']}") from None
            time.sleep(float(error.headers.get("Retry-After", 1)))


if __name__ == "__main__":
    server, model, *texts = sys.argv[1:]
    for text, answer in zip(texts, predict(server, model, texts), strict=True):
        print(json.dumps({"text": text, "answer": answer}, ensure_ascii=False))
