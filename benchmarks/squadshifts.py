"""Cuts SQuADShifts (Miller 2020) into the train.json, dev.json and test.json that the recipes squadshifts_* name.

    python benchmarks/squadshifts.py amazon_reviews_v1.0.json reddit_v1.0.json new_wiki_v1.0.json --output squadshifts
    python benchmarks/squadshifts.py jaquad/train/*.json --join jaquad/train.json

The files are those of github.com/modestyachts/squadshifts-website, `datasets/`. SQuADShifts was made as test data alone: the split is this
project's. Whole documents (Amazon groups, Reddit comments, Wikipedia articles), drawn at random, a tenth of each domain for dev and for
test; which passages these are stands in squadshifts_split.json, by the first 12 hexadecimal digits of the SHA-256 of their text. Every
other passage is training data. `--join` writes the articles of many files into one, as JaQuAD's pieces want it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

SPLIT = Path(__file__).resolve().parent / "squadshifts_split.json"


def key(passage: str) -> str:
    """What the split knows a passage by."""
    return hashlib.sha256(passage.encode()).hexdigest()[:12]


def articles(files: Iterable[Path]) -> list[dict[str, Any]]:
    """Of files in the form of SQuAD 1.1, in their order."""
    return [article for file in files for article in json.loads(file.read_text(encoding="utf-8"))["data"]]


def cut(data: list[dict[str, Any]], split: dict[str, list[str]]) -> dict[str, list[dict[str, Any]]]:
    """Articles of train, dev and test, each with those of its passages that are there.

    Raises:
        SystemExit: passages that the split names are missing.
    """
    side = {name: part for part in ("dev", "test") for name in split[part]}
    missing = set(side) - {key(paragraph["context"]) for article in data for paragraph in article["paragraphs"]}
    if missing:
        raise SystemExit(
            f"{len(missing)} of the {len(side)} passages of dev and test are in none of these files: give all three of version 1.0"
        )
    parts: dict[str, list[dict[str, Any]]] = {"train": [], "dev": [], "test": []}
    for article in data:
        for part, kept in parts.items():
            paragraphs = [it for it in article["paragraphs"] if side.get(key(it["context"]), "train") == part]
            if paragraphs:
                kept.append({**article, "paragraphs": paragraphs})
    return parts


def write(path: Path, data: list[dict[str, Any]]) -> None:
    questions = sum(len(paragraph["qas"]) for article in data for paragraph in article["paragraphs"])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"version": "1.1", "data": data}, ensure_ascii=False), encoding="utf-8")
    print(f"{path}: {questions:,} questions")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--output", type=Path, default=Path("squadshifts"))
    parser.add_argument("--join", type=Path, metavar="FILE")
    options = parser.parse_args()
    data = articles(options.files)
    if options.join:
        write(options.join, data)
        return
    for part, kept in cut(data, json.loads(SPLIT.read_text())).items():
        write(options.output / f"{part}.json", kept)


if __name__ == "__main__":
    main()
