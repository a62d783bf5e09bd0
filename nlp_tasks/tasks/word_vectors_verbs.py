"""What people ask of word vectors: nearest words, analogies, a picture, the vectors themselves as a file."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nlp_tasks.errors import LineError, UserError
from nlp_tasks.lazy import lazy
from nlp_tasks.tasks import word_vectors_scores as scoring
from nlp_tasks.tasks.task import Answering, Verb

if TYPE_CHECKING:
    from nlp_tasks.text import word_vectors
else:
    word_vectors = lazy("nlp_tasks.text.word_vectors")

SPELLINGS = 3
"""Words of like spelling that are offered for one without a vector."""


# A word's vector


def _vectors(outputs: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    return [
        {"known": bool(known), "vector": [round(float(number), 6) for number in vector]}
        for known, vector in zip(outputs["known"], outputs["vectors"], strict=True)
    ]


def _vector_line(text: str, answer: Mapping[str, Any], options: Mapping[str, Any]) -> str:
    return f"{text} {' '.join(f'{number:.6g}' for number in answer['vector'])}"


# Nearest words


def _refuse_unknown(answer: Answering, words: Sequence[str]) -> None:
    """Says which words have no vector, and which ones are spelled alike."""
    if not words:
        return
    every = list(scoring.vocabulary(answer))
    offered = []
    for word in words:
        alike = [
            *dict.fromkeys(near for form in (word, word.lower()) for near in difflib.get_close_matches(form, every, SPELLINGS))
        ]
        offered.append(f"{word}: did you mean {' or '.join(alike)}?" if alike else f"{word}: nothing is spelled alike")
    named = ", ".join(map(repr, words))
    raise LineError(f"{named}: not in the vocabulary of {len(every):,} words", "; ".join(offered))


def _found(words: np.ndarray, cosines: np.ndarray) -> dict[str, float]:
    return {word.decode(): round(float(cosine), 6) for word, cosine in zip(words, cosines, strict=True) if word}


def _neighbours(answer: Answering, word: str, options: Mapping[str, Any]) -> dict[str, Any]:
    outputs = answer("neighbours", [(word, options["count"])])
    found = _found(outputs["neighbours"][0], outputs["cosines"][0])
    known = bool(outputs["known"][0])
    _refuse_unknown(answer, [] if found or known else [word])
    return {"known": known, "neighbours": found}


def _analogy(answer: Answering, text: str, options: Mapping[str, Any]) -> dict[str, Any]:
    words = text.split()
    if len(words) != 3:
        raise LineError(f"{text!r}: {len(words)} words, not three", "man king woman asks: man is to king as woman is to …?")
    outputs = answer("analogy", [(*words, options["count"])])
    _refuse_unknown(answer, [word for word, known in zip(words, outputs["known"][0], strict=True) if not known])
    return {"words": _found(outputs["words"][0], outputs["cosines"][0])}


def _listed(key: str) -> Any:
    """`word: neighbour 0.71, …`."""

    def text(asked: str, answer: Mapping[str, Any], options: Mapping[str, Any]) -> str:
        return f"{asked}: " + ", ".join(f"{word} {cosine:.3f}" for word, cosine in answer[key].items())

    return text


def _rows(key: str) -> Any:
    """A neighbour and its cosine a line."""
    return lambda asked, answer: "\n".join(f"{asked}\t{word}\t{cosine:.6f}" for word, cosine in answer[key].items())


# A picture


def _points(answer: Answering, text: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The words in the plane in which their unit vectors differ most (principal components)."""
    from sklearn.decomposition import PCA

    words = list(dict.fromkeys(text.replace(",", " ").split()))
    if len(words) < 3:
        raise LineError(f"{text!r}: {len(words)} words, which are no picture", "name at least three different words")
    vectors = answer("serving_default", [(word,) for word in words])["vectors"].astype(np.float64)
    _refuse_unknown(answer, [word for word, vector in zip(words, vectors, strict=True) if not vector.any()])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    if len(np.unique(vectors.round(6), axis=0)) < 3:
        raise LineError(f"{text!r}: fewer than three different vectors, which are no picture", "name other words, too")
    analysis = PCA(2, svd_solver="full")
    points = analysis.fit_transform(vectors)
    return {"words": words, "points": points.round(6).tolist(), "explained": analysis.explained_variance_ratio_.round(4).tolist()}


def _picture(answer: Mapping[str, Any]) -> Any:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 6.4), layout="constrained")
    points = np.array(answer["points"])
    axes.scatter(points[:, 0], points[:, 1], s=14, color="C0")
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(0.12)
    axes.set(xlabel=f"{answer['explained'][0]:.0%} of the differences", ylabel=f"{answer['explained'][1]:.0%}")
    figure.canvas.draw()  # from here on the layout stands
    figure.set_layout_engine("none")
    for word, point, place in zip(answer["words"], points, label_places(axes, answer["words"], points), strict=True):
        axes.annotate(
            word.replace("$", r"\$"), point, place, textcoords="offset points", fontsize=9, ha="center", va="center",
            arrowprops={"arrowstyle": "-", "color": "0.7", "linewidth": 0.6, "shrinkA": 2, "shrinkB": 3}
            if np.hypot(*place) > 30 else None,
        )  # fmt: skip
    return figure


def label_places(axes: Any, words: Sequence[str], points: np.ndarray) -> list[tuple[float, float]]:
    """Where the centre of each label goes, in printer's points from its dot, so that labels cover neither each other nor a dot and stay
    in the figure.

    Each takes the nearest free place on a growing spiral around its dot.
    """
    dots = axes.transData.transform(points) * 72 / axes.figure.dpi
    edge = axes.figure.bbox.size * 72 / axes.figure.dpi
    turns = np.arange(6000)
    spiral = np.stack([np.cos(2.4 * turns), np.sin(2.4 * turns)], 1)
    taken = np.concatenate([dots - 3, dots + 3], 1)  # left, bottom, right, top
    places = []
    for dot, size in zip(dots, (_label_size(word) for word in words), strict=True):
        for direction, radius in zip(spiral, 4 + 2.5 * np.sqrt(turns), strict=True):
            place = direction * (size / 2 + radius)
            box = np.concatenate([dot + place - size / 2, dot + place + size / 2])
            covers = ((box[:2] < taken[:, 2:]) & (taken[:, :2] < box[2:])).all(1).any()
            if not covers and (box[:2] >= 0).all() and (box[2:] <= edge).all():
                break
        taken = np.concatenate([taken, box[None]])
        places.append((float(place[0]), float(place[1])))
    return places


def _label_size(word: str) -> np.ndarray:
    """Width and height in printer's points, with a little room."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    extent = TextPath((0, 0), word.replace("$", r"\$"), prop=FontProperties(size=9)).get_extents()
    return np.array([1.05 * extent.width + 3, 12.0])


# A file


def _write(answer: Answering, path: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """All vectors as a text file, most frequent word first."""
    file = Path(path)
    if not file.parent.is_dir() or file.is_dir():
        reason = "it is a folder" if file.is_dir() else f"no folder {file.parent}"
        raise UserError(f"cannot write {file}: {reason}", "name another file")
    words = [word for word in scoring.vocabulary(answer) if not {*word} & {*" \n\r"}]
    vectors = answer("serving_default", [(word,) for word in words])["vectors"]
    try:
        word_vectors.write_vectors(file, words, vectors, header=not options["glove"])
    except OSError as error:
        raise UserError(f"cannot write {file}: {error.strerror}", "name another file") from None
    return {"words": len(words), "features": vectors.shape[1]}


def _written(path: str, answer: Mapping[str, Any], options: Mapping[str, Any]) -> str:
    return f"{path}: {answer['words']:,} words, {answer['features']} features"


VERBS = (
    Verb(
        name="predict",
        answers=_vectors,
        text=_vector_line,
        tsv=lambda text, answer: _vector_line(text, answer, {}).replace(" ", "\t"),
        asked=lambda text, options: {"word": text},
    ),
    Verb(
        name="neighbours",
        answers=None,
        text=_listed("neighbours"),
        tsv=_rows("neighbours"),
        asked=lambda text, options: {"word": text},
        options=("count",),
        ask=_neighbours,
    ),
    Verb(
        name="analogy",
        answers=None,
        text=_listed("words"),
        tsv=_rows("words"),
        asked=lambda text, options: {"question": text.split()},
        options=("count",),
        ask=_analogy,
    ),
    Verb(
        name="plot-vectors",
        answers=None,
        text=lambda text, answer, options: "",
        tsv=lambda text, answer: "\n".join(
            f"{word}\t{x}\t{y}" for word, (x, y) in zip(answer["words"], answer["points"], strict=True)
        ),
        asked=lambda text, options: {},
        options=("words", "output"),
        ask=_points,
        picture=_picture,
    ),
    Verb(
        name="write-vectors",
        answers=None,
        text=_written,
        tsv=lambda path, answer: f"{path}\t{answer['words']}\t{answer['features']}",
        asked=lambda path, options: {"file": path},
        options=("glove",),
        ask=_write,
    ),
)
