"""What a treebank splits otherwise than the rules of `tokenizer`, learned from its training part and applied in graph.

An exception says how a stretch of rule tokens without white space inside is cut ("e-mail" is one word, "cannot" two); it is
known in (ASCII) lower case, with 0 for each digit. Endings ("n't") and beginnings ("l'") are cut off any rule token that has one.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, islice, pairwise, product
from pathlib import Path
from typing import Any

import tensorflow as tf

from nlp_tasks.text.tokenizer import Decoded, Tokenizer, Tokens

LONGEST = 8  # rule tokens of a stretch
CHARACTERS = 62  # of a stretch: where its words start are the bits of one int64
DIFFERENT = 3  # so many words at least have an ending (or beginning) that is learned
BEGINNING, ENDING = "beginning", "ending"

Lengths = tuple[int, ...]  # of the words of a stretch, in characters


def learn(sentences: Iterable[tuple[str, Sequence[str]]], path: Path, *, blank: tuple[str, ...] = ()) -> None:
    """Writes what the rules split otherwise: lines `stretch<TAB>lengths of its words`, `n't<TAB>ending`, `l'<TAB>beginning`.

    Args:
        sentences: (raw text, words). Words that the text does not have, such as those of a contraction, are left out.
        path: of the file; empty where the rules are always right.
        blank: as in `Tokenizer`.
    """
    counts, single, otherwise = defaultdict[str, Counter[Lengths]](Counter), set[str](), set[tuple[str, Lengths]]()
    spaces = re.compile("|".join(map(re.escape, blank)) or "(?!)")
    spaced = ((spaces.sub(lambda found: " " * len(found[0]), text), words) for text, words in sentences)
    for key, tokens, words in _compared(spaced):
        counts[key][words] += 1
        single |= {key} if len(tokens) == 1 and sum(words) == len(key) else set()
        cuts, cuts_words = {*accumulate(tokens[:-1])}, {*accumulate(words[:-1])}
        otherwise |= {(key, words)} if cuts != cuts_words and not cuts & cuts_words else set()
    best = {key: max(found.items(), key=lambda item: (item[1], item[0]))[0] for key, found in counts.items()}
    exceptions = {key: words for key, words in best.items() if (key, words) in otherwise}
    affixes = _affixes({key: best[key] for key in single})
    # A rule token that stays whole although it looks as if it had an ending is an exception too.
    begin, end = tuple(affixes[BEGINNING]), tuple(affixes[ENDING])
    exceptions |= {key: best[key] for key in single if key.startswith(begin) or key.endswith(end)}
    lines = [f"{key}\t{kind}\n" for kind, found in affixes.items() for key in sorted(found)]
    lines += [f"{key}\t{' '.join(map(str, words))}\n" for key, words in sorted(exceptions.items())]
    path.write_bytes("".join(lines).encode())


def _compared(sentences: Iterable[tuple[str, Sequence[str]]]) -> Iterator[tuple[str, Lengths, Lengths]]:
    """Of each stretch that is whole words: its key, the lengths of the rule tokens in it, the lengths of the words."""
    rules = Tokenizer(False)

    @tf.function(autograph=False, input_signature=[tf.TensorSpec([None], tf.string)])
    def stretches(texts: tf.Tensor) -> tuple[tf.Tensor, ...]:
        decoded = rules.decode(texts)
        return decoded.codes.row_starts(), *_stretches(decoded, LONGEST)

    rest = iter(sentences)
    while batch := list(islice(rest, 256)):
        found = stretches(tf.constant([text for text, _ in batch], tf.string))
        offsets, first, end, starts, sizes, keys = (column.numpy().tolist() for column in found)
        ends = dict[int, int]()
        for offset, (text, words) in zip(offsets, batch, strict=True):
            ends |= {offset + at: offset + behind for at, behind in align(text, words).items()}
        for start, size, key in zip(starts, sizes, keys, strict=True):
            places = [first[start]]
            while places[-1] in ends and places[-1] < end[start + size - 1]:
                places.append(ends[places[-1]])
            if places[-1] == end[start + size - 1] <= places[0] + CHARACTERS:
                tokens = (end[token] - first[token] for token in range(start, start + size))
                yield key.decode(), tuple(tokens), tuple(b - a for a, b in pairwise(places))


def align(text: str, words: Sequence[str]) -> dict[int, int]:
    """The end of each word by its start in the text, without those that the text does not have."""
    ends, at, index = dict[int, int](), 0, 0
    words = [word for word in words if word]
    while index < len(words):
        at = len(text) - len(text[at:].lstrip())
        if text.startswith(words[index], at):
            ends[at] = at = at + len(words[index])
            index += 1
        else:  # what begins well may be none of these words ("zum" of "zu", "dem"), from the last white space on
            begin = max((space.end() for space in re.finditer(r"\s", text[:at])), default=0)
            ends = {start: end for start, end in ends.items() if end <= begin}
            index, at = _resume(text, at, words, index)
    return ends


def _resume(text: str, at: int, words: Sequence[str], index: int) -> tuple[int, int]:
    """The next word that stands in the text soon, with the one after it behind it, and where; the end where there is none."""
    for place, later in product(range(at, min(at + 64, len(text))), range(index + 1, min(index + 8, len(words)))):
        if text.startswith(words[later], place):
            behind = len(text) - len(text[place + len(words[later]) :].lstrip())
            if text.startswith(words[later + 1], behind) if later + 1 < len(words) else behind == len(text):
                return later, place
    return len(words), len(text)


def _affixes(words: Mapping[str, Lengths]) -> dict[str, set[str]]:
    """Beginnings and endings that many rule tokens lose, and most that could; `words` says how each is cut."""
    pairs = [(key[: cut[0]], key[cut[0] :]) for key, cut in words.items() if len(cut) == 2]
    firsts, lasts = Counter(first for first, _ in pairs), Counter(last for _, last in pairs)
    # "don't" speaks for the ending "n't", which many words have, and not for a beginning "do".
    count = Counter((ENDING, last) if lasts[last] >= firsts[first] else (BEGINNING, first) for first, last in pairs)
    kept = dict[str, set[str]]()
    for kind in (BEGINNING, ENDING):
        frequent = {affix for of_kind, affix in count if of_kind == kind and count[of_kind, affix] >= DIFFERENT}
        sizes, balance = sorted({*map(len, frequent)}), Counter[str]()
        for key, cut in words.items():
            for size in (size for size in sizes if size < len(key)):
                affix, piece = (key[:size], cut[0]) if kind == BEGINNING else (key[-size:], cut[-1])
                balance[affix] += 1 if piece == size else -1
        kept[kind] = {affix for affix in frequent if balance[affix] > 0}
    return kept


def _stretches(decoded: Decoded, longest: int) -> tuple[tf.Tensor, ...]:
    """First characters of the tokens and ends `<int64>[tokens]`; of all stretches of 1 to `longest` tokens side by side the
    first token and the number of tokens `<int64>[n]`, and the key `<string>[n]`, in lower case with 0 for each digit 0 to 9."""
    first, end = decoded.spans()
    tokens, one = tf.range(tf.size(first, tf.int64)), tf.ones([tf.minimum(tf.size(first), 1)], tf.bool)
    rows = tf.gather(decoded.rows, first)
    apart = tf.concat([(end[:-1] != first[1:]) | (rows[:-1] != rows[1:]), one], 0)
    last = tf.gather(tf.where(apart)[:, 0], tf.cumsum(tf.cast(apart, tf.int32), exclusive=True))
    sizes = tf.ragged.range(tf.ones_like(tokens), tf.minimum(last - tokens + 1, longest) + 1)
    start, size = tf.cast(sizes.value_rowids(), tf.int64), sizes.values
    positions = tf.ragged.range(tf.gather(first, start), tf.gather(end, start + size - 1))
    codes = tf.gather(decoded.codes.values, positions.values)
    codes = tf.where((codes >= ord("0")) & (codes <= ord("9")), ord("0"), codes)
    key = tf.strings.lower(tf.strings.unicode_encode(positions.with_values(codes), "UTF-8"))  # of ASCII, which is quick
    return first, end, start, size, key


def _chosen(start: tf.Tensor, size: tf.Tensor, tokens: tf.Tensor, longest: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Which of the known stretches are taken: the longest first, no token twice.

    Of equally long ones that overlap like links of a chain, the first is taken and those that lie a whole multiple of their
    length behind it: no loop over tokens, and of ". . . . ." the pairs that a reader from left to right takes. Returns
    indices of those taken `<int64>`, and 1 where a token is in one of them `<int32>[tokens]`."""
    taken, chosen = tf.zeros([tokens], tf.int32), []
    for n in range(longest, 0, -1):
        index = tf.where(size == n)[:, 0]
        before = tf.concat([[0], tf.cumsum(taken)], 0)
        at = tf.gather(start, index)
        free = tf.where(tf.gather(before, at + n) == tf.gather(before, at))[:, 0]
        index, at = tf.gather(index, free), tf.gather(at, free)
        begins = tf.concat([tf.ones([tf.minimum(tf.size(at), 1)], tf.bool), at[1:] - at[:-1] >= n], 0)
        head = tf.gather(tf.gather(at, tf.where(begins)[:, 0]), tf.cumsum(tf.cast(begins, tf.int32)) - 1)
        kept = tf.where((at - head) % n == 0)[:, 0]
        inside = tf.reshape(tf.gather(at, kept)[:, None] + tf.range(n, dtype=tf.int64), [-1, 1])
        taken = tf.tensor_scatter_nd_update(taken, inside, tf.ones([tf.size(inside)], tf.int32))
        chosen.append(tf.gather(index, kept))
    return tf.concat(chosen, 0), taken


class LearnedTokenizer:
    """Splits texts as a treebank does; `path` is what `learn` wrote, `lowercase` and `blank` are as in `Tokenizer`."""

    def __init__(self, path: Path, lowercase: bool = True, blank: tuple[str, ...] = ()) -> None:
        self._rules = Tokenizer(lowercase, blank)
        exceptions, affixes = dict[str, int](), {BEGINNING: dict[str, int](), ENDING: dict[str, int]()}
        for key, value in (line.split("\t") for line in path.read_bytes().decode().split("\n")[:-1]):
            starts = () if value in affixes else accumulate(map(int, value.split()), initial=0)
            affixes.get(value, exceptions)[key] = sum(1 << place for place in starts) or len(key)
        self._longest = min(max(map(len, exceptions), default=1), LONGEST)
        self._sizes = {kind: sorted({*found.values()}) for kind, found in affixes.items()}
        self._exceptions = _table(exceptions)
        self._affixes = {kind: _table(found) for kind, found in affixes.items()}

    @property
    def resources(self) -> list[Any]:  # what an export has to hold
        return [self._rules.table, self._exceptions, *self._affixes.values()]

    def __call__(self, texts: tf.Tensor) -> Tokens:
        """Args: texts `<string>[batch]`, any bytes: what is no UTF-8 becomes U+FFFD."""
        decoded = self._rules.decode(texts)
        first, end, start, size, key = _stretches(decoded, self._longest)
        length = tf.gather(end, start + size - 1) - tf.gather(first, start)
        words = self._exceptions.lookup(key)
        # The last bit is the end of the stretch: it is elsewhere where lower case has another length.
        known = tf.where((words > 0) & (tf.bitwise.right_shift(words, tf.minimum(length, CHARACTERS)) == 1))[:, 0]
        chosen, taken = _chosen(tf.gather(start, known), tf.gather(size, known), tf.size(first), self._longest)
        chosen = tf.gather(known, chosen)
        begin = tf.gather(first, tf.gather(start, chosen))
        inside = tf.ragged.range(tf.gather(length, chosen))
        rows = inside.value_rowids()
        bits = tf.bitwise.right_shift(tf.gather(tf.gather(words, chosen), rows), inside.values)
        free = tf.where(taken == 0)[:, 0]
        cuts = self._cuts(tf.gather(first, free), tf.gather(end, free), tf.gather(tf.boolean_mask(key, size == 1), free))
        places = tf.concat([tf.gather(begin, rows) + inside.values, cuts], 0)[:, None]
        flags = tf.concat([bits % 2 == 1, tf.ones(tf.shape(cuts), tf.bool)], 0)
        return self._rules.tokens(decoded._replace(starts=tf.tensor_scatter_nd_update(decoded.starts, places, flags)))

    def _cuts(self, first: tf.Tensor, end: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
        """Characters where the longest beginning of these rule tokens ends, and where the longest ending starts."""
        length = tf.cast(tf.strings.length(key, unit="UTF8_CHAR"), tf.int64)
        longest = {}
        for kind, sizes in self._sizes.items():
            longest[kind] = tf.zeros_like(first)
            for size in sizes:
                place = tf.zeros_like(length) if kind == BEGINNING else tf.maximum(length - size, 0)
                affix = tf.strings.substr(key, place, tf.fill(tf.shape(place), tf.constant(size, tf.int64)), unit="UTF8_CHAR")
                found = (self._affixes[kind].lookup(affix) == size) & (length > size) & (length == end - first)
                longest[kind] = tf.where(found, tf.constant(size, tf.int64), longest[kind])
        begin, ending = first + longest[BEGINNING], end - longest[ENDING]
        return tf.concat([tf.boolean_mask(begin, begin > first), tf.boolean_mask(ending, (begin <= ending) & (ending < end))], 0)


def _table(entries: Mapping[str, int]) -> tf.lookup.StaticHashTable:
    entries = {"": 0, **entries}  # a table may not be empty
    keys, values = tf.constant([*entries], tf.string), tf.constant([*entries.values()], tf.int64)
    return tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, values), default_value=0)
