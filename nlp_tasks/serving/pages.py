"""The page for people: which models there are, how good they are, and a place to try each."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from typing import Any

from nlp_tasks import page as renderer
from nlp_tasks.report import with_interval
from nlp_tasks.serving import rest
from nlp_tasks.serving.models import Models

_INLINE = re.compile(r"<(script|style)>(.*?)</\1>", re.DOTALL)


def page(models: Models) -> tuple[str, str]:
    """The page as HTML, and its Content-Security-Policy: nothing runs but what stands in the page, nothing is loaded from elsewhere."""
    shown = [_shown(models, name) for name in models.names() if models.served(name)]
    text = renderer.render("serve.html", models=shown, about={model["name"]: model["about"] for model in shown})
    allowed: dict[str, list[str]] = {"script": [], "style": []}
    for kind, content in _INLINE.findall(text):
        allowed[kind].append(f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'")
    policy = (
        f"default-src 'none'; script-src {' '.join(allowed['script'])}; style-src {' '.join(allowed['style'])}; "
        "style-src-attr 'unsafe-inline'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return text, policy


def _shown(models: Models, name: str) -> dict[str, Any]:
    version: Any = models.find(name)
    extra: Mapping[str, Any] = version.extra
    scores = extra.get("scores")
    scores = scores if isinstance(scores, dict) else None
    signature = version.signatures.get(rest.DEFAULT)
    inputs = {} if signature is None else {key: [spec.dtype, len(spec.shape or ())] for key, spec in signature.inputs.items()}
    about = {
        "version": version.number,
        "view": extra.get("view", {}),
        "inputs": inputs,
        "examples": extra.get("example_inputs", []),
    }
    return {
        "name": name,
        "task": (scores or {}).get("task", ""),
        "standing": _standing(scores) if scores else None,
        "about": about,
    }


def _standing(scores: Mapping[str, Any]) -> dict[str, Any] | None:
    """The score with its interval, and what it stands beside; None where the file is not one of ours."""
    try:
        metric, baseline = scores["headline"], scores["baseline"]
        known = baseline and metric in baseline["scores"]
        return {
            "headline": renderer.headline(scores), "beside": renderer.beside(metric, scores),
            "baseline": f"baseline, {baseline['name']}: {with_interval(metric, baseline)}" if known else "",
        }  # fmt: skip
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
