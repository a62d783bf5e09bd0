"""What a tagger has to beat, fitted on the same sentences: the most frequent tag of each word, and a CRF on word shapes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import product
from typing import Any

from nlp_tasks.progress import Progress

Words = Sequence[str]
Tags = Sequence[str]
Tagger = Callable[[Iterable[Words]], list[Tags]]


def most_frequent(train: Iterable[tuple[Words, Tags]]) -> Tagger:
    """The most frequent tag of each word; of an unknown word, that of all words."""
    tags: dict[str, Counter[str]] = {}
    for words, gold in train:
        for word, tag in zip(words, gold, strict=True):
            tags.setdefault(word, Counter())[tag] += 1
    usual = {word: counts.most_common(1)[0][0] for word, counts in tags.items()}
    most = sum(tags.values(), Counter()).most_common(1)[0][0]
    return lambda sentences: [[usual.get(word, most) for word in words] for words in sentences]


def conditional_random_field(
    train: Sequence[tuple[Words, Tags]], validation: Sequence[tuple[Words, Tags]], score: Callable[[list[Tags]], float]
) -> Tagger | None:
    """A linear-chain CRF on the usual word-shape features, by CRFsuite (Okazaki 2007); None where it is not installed.

    Args:
        train: words and tags of each sentence.
        validation: to choose the two penalties on.
        score: of answers for the validation sentences; larger is better.
    """
    try:
        from sklearn_crfsuite import CRF
    except ImportError:
        return None
    inputs, gold = [_features(words) for words, _ in train], [list(tags) for _, tags in train]
    held_out = [_features(words) for words, _ in validation]
    choices = list(product((0.02, 0.1, 0.5), (0.001, 0.01, 0.1)))
    best: tuple[float, Any] = (-1.0, None)
    with Progress("fitting CRFs", len(choices)) as progress:
        for l1, l2 in choices:
            field = CRF(algorithm="lbfgs", c1=l1, c2=l2, max_iterations=100, all_possible_transitions=True)
            field.fit(inputs, gold)
            best = max(best, (score(field.predict(held_out)), field), key=lambda found: found[0])
            progress.advance()
    return lambda sentences: list(best[1].predict([_features(words) for words in sentences]))


def _features(words: Words) -> list[dict[str, Any]]:
    """Of each word: itself, its endings and shape, and what stands beside it (as in sklearn-crfsuite's tutorial)."""
    shapes = [dict(_shape(word)) for word in words]
    features = []
    for index, word in enumerate(words):
        found: dict[str, Any] = {
            "bias": 1.0,
            "ending 3": word[-3:],
            "ending 2": word[-2:],
            "digits": word.isdigit(),
            **shapes[index],
        }
        for offset in (-1, 1):
            if 0 <= index + offset < len(words):
                found |= {f"{offset} {name}": value for name, value in shapes[index + offset].items()}
            else:
                found[f"{offset} none"] = True
        features.append(found)
    return features


def _shape(word: str) -> Iterator[tuple[str, Any]]:
    yield "word", word.lower()
    yield "title", word.istitle()
    yield "upper", word.isupper()
