"""Files in the form of SQuAD 1.1: many joined into one, and SQuADShifts cut into the parts that the recipes squadshifts_* name.

    python benchmarks/squad_files.py cut squadshifts amazon_reviews_v1.0.json reddit_v1.0.json new_wiki_v1.0.json
    python benchmarks/squad_files.py join jaquad/train.json data/train/*.json

cut: SQuADShifts (Miller 2020; github.com/modestyachts/squadshifts-website, `datasets/`) was made as test data alone: the split is this
project's. Whole documents (Amazon groups, Reddit comments, Wikipedia articles), drawn at random, a tenth of each domain for dev.json and
for test.json; which passages these are stands in squadshifts_split.json, by the first 12 hexadecimal digits of the SHA-256 of their
text. Every other passage is training data.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from nlp_tasks.data import passages
from nlp_tasks.errors import UserError
from nlp_tasks.report import write_text

SPLIT = Path(__file__).resolve().parent / "squadshifts_split.json"
TRAIN = 22_071
"""Questions of SQuADShifts to train on."""


def key(passage: str) -> str:
    """What the split knows a passage by."""
    return hashlib.sha256(passage.encode()).hexdigest()[:12]


def articles(file: Path) -> list[dict[str, Any]]:
    """Raises UserError where the file is not there, or of another form."""
    if not file.is_file():
        raise UserError(f"no file {file}", "name files that are there")
    content = passages.read(file.read_bytes(), str(file))
    list(passages.questions(content, str(file)))
    return content["data"]


def cut(data: list[dict[str, Any]], split: dict[str, list[str]]) -> dict[str, list[dict[str, Any]]]:
    """Articles of train, dev and test, each with those of its passages that are there. Raises UserError where passages are missing."""
    side = {name: part for part in ("dev", "test") for name in split[part]}
    missing = side.keys() - {key(paragraph["context"]) for article in data for paragraph in article["paragraphs"]}
    if missing:
        raise UserError(f"{len(missing):,} of the {len(side):,} passages of dev and test are in none of these files",
                        "give Amazon, Reddit and Wikipedia, of version 1.0")  # fmt: skip
    parts: dict[str, list[dict[str, Any]]] = {"train": [], "dev": [], "test": []}
    for article in data:
        for part, kept in parts.items():
            paragraphs = [it for it in article["paragraphs"] if side.get(key(it["context"]), "train") == part]
            if paragraphs:
                kept.append({**article, "paragraphs": paragraphs})
    return parts


def count(data: list[dict[str, Any]]) -> int:
    """Questions of articles."""
    return sum(len(paragraph["qas"]) for article in data for paragraph in article["paragraphs"])


def write(path: Path, data: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps({"version": "1.1", "data": data}, ensure_ascii=False))
    print(f"{path}: {count(data):,} questions")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=["cut", "join"])
    parser.add_argument("output", type=Path, help="a folder for cut, a file for join")
    parser.add_argument("files", type=Path, nargs="+")
    options = parser.parse_args()
    data = [article for file in options.files for article in articles(file)]
    parts = cut(data, json.loads(SPLIT.read_text())) if options.verb == "cut" else {"": data}
    for part, kept in parts.items():
        write(options.output / f"{part}.json" if part else options.output, kept)
        if part == "train" and count(kept) != TRAIN:
            print(
                f"the published scores come of {TRAIN:,} questions: Amazon, Reddit and Wikipedia, nothing else", file=sys.stderr
            )


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
