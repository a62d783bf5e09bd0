"""What tags stand for, for people who do not know them by heart."""

from __future__ import annotations

from collections.abc import Iterable

UNIVERSAL = {
    "ADJ": "adjective", "ADP": "preposition or postposition", "ADV": "adverb", "AUX": "auxiliary verb", "CCONJ": "coordinating conjunction",
    "DET": "determiner", "INTJ": "interjection", "NOUN": "noun", "NUM": "number", "PART": "particle", "PRON": "pronoun",
    "PROPN": "proper noun", "PUNCT": "punctuation", "SCONJ": "subordinating conjunction", "SYM": "symbol", "VERB": "verb", "X": "other",
}  # fmt: skip
"""Universal Dependencies, https://universaldependencies.org/u/pos/."""

PENN = {
    "CC": "coordinating conjunction", "CD": "cardinal number", "DT": "determiner", "EX": "existential “there”", "FW": "foreign word",
    "IN": "preposition or subordinating conjunction", "JJ": "adjective", "JJR": "adjective, comparative", "JJS": "adjective, superlative",
    "LS": "list item marker", "MD": "modal verb", "NN": "noun, singular or mass", "NNS": "noun, plural", "NNP": "proper noun, singular",
    "NNPS": "proper noun, plural", "PDT": "predeterminer", "POS": "possessive ending", "PRP": "personal pronoun",
    "PRP$": "possessive pronoun", "RB": "adverb", "RBR": "adverb, comparative", "RBS": "adverb, superlative", "RP": "particle",
    "TO": "“to”", "UH": "interjection", "VB": "verb, base form", "VBD": "verb, past tense", "VBG": "verb, gerund or present participle",
    "VBN": "verb, past participle", "VBP": "verb, present, not third person singular", "VBZ": "verb, present, third person singular",
    "WDT": "wh-determiner", "WP": "wh-pronoun", "WP$": "possessive wh-pronoun", "WRB": "wh-adverb",
}  # fmt: skip
"""The Penn Treebank, after Marcus, Santorini and Marcinkiewicz 1993, table 2."""

SPANS = {
    "PER": "person", "PERSON": "person", "LOC": "place", "LOCATION": "place", "ORG": "organisation", "GPE": "country, city or state",
    "MISC": "other name", "SHOP": "shop", "CORPORATION": "company", "PRODUCT": "product", "CREATIVE-WORK": "work of art",
    "GROUP": "group", "DATE": "date", "TIME": "time", "MONEY": "amount of money",
}  # fmt: skip
"""Kinds of names, as data sets call them."""


def of(tags: Iterable[str]) -> dict[str, str]:
    """Of the tags, or of the kinds of spans that they write, those whose meaning is known."""
    meanings = {}
    for tag in tags:
        kind = tag[2:] if tag[:2] in ("B-", "I-") else tag
        meaning = SPANS.get(kind.upper()) if kind != tag else UNIVERSAL.get(tag) or PENN.get(tag)
        if meaning:
            meanings[kind] = meaning
    return meanings
