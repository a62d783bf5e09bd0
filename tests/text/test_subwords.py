"""Subwords in the graph are the library's, and any text comes back as it was."""

from __future__ import annotations

from pathlib import Path

import pytest
import sentencepiece
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nlp_tasks.data.toy_world import translation as toy_world
from nlp_tasks.errors import UserError
from nlp_tasks.text.subwords import BEGIN, END, PADDING, Subwords, learn


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    texts = [text for pair in list(toy_world.generate("validation")) for text in pair]
    texts += ["Ein Mädchen läuft über saftig-grünes Gras.", "我们 喜欢 喝茶", "naïve café, l'été"] * 3
    path = tmp_path_factory.mktemp("subwords") / "subwords.model"
    path.write_bytes(learn(texts, 900))
    return path


@pytest.fixture(scope="module")
def subwords(path: Path) -> Subwords:
    return Subwords(path)


@pytest.fixture(scope="module")
def library(path: Path) -> sentencepiece.SentencePieceProcessor:
    return sentencepiece.SentencePieceProcessor(model_file=str(path))


def assert_same(subwords: Subwords, library: sentencepiece.SentencePieceProcessor, texts: list[str]) -> None:
    ids = subwords.encode(tf.constant(texts, tf.string))
    assert ids.dtype == tf.int32
    assert ids.to_list() == library.encode(texts)
    assert [text.decode() for text in subwords.decode(ids.to_tensor()).numpy()] == texts


TEXTS = [
    "", " ", "  ", "The old baker", " The", "The ", "The  old", "The\told\n", "the", "\u00a0x\u3000y", "stoneglass", "aaaaaaaaaaaaaaaaaaaaaaaa",
    "我们喜欢喝茶", "他没见过这个字：龘", "👍🏽 e\u0301 é", "\ufffd", "<unk> </s> <0x41>", "x" * 500, "…", "\x00a",
]  # fmt: skip


def test_pieces_are_the_librarys(subwords: Subwords, library: sentencepiece.SentencePieceProcessor) -> None:
    assert len(subwords) == len(library)
    names = [library.id_to_piece(number) for number in range(len(library))]
    assert [name.decode() for name in subwords.names.numpy()] == ["", *names[1:]]
    assert_same(subwords, library, TEXTS)
    assert_same(subwords, library, [text for pair in toy_world.generate("test") for text in pair])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="▁"), max_size=20), max_size=4))
def test_pieces_of_any_text(subwords: Subwords, library: sentencepiece.SentencePieceProcessor, texts: list[str]) -> None:
    assert_same(subwords, library, texts)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(" oeinatrslu", max_size=60))
def test_pieces_of_likely_letters(subwords: Subwords, library: sentencepiece.SentencePieceProcessor, text: str) -> None:
    """Many merges compete: their order counts."""
    assert_same(subwords, library, [text])


def test_the_librarys_sign_for_a_space_comes_back_as_it_was(subwords: Subwords) -> None:
    texts = ["▁", "a▁b", "▁ ▁"]
    ids = subwords.encode(tf.constant(texts))
    assert [text.decode() for text in subwords.decode(ids.to_tensor()).numpy()] == texts


def test_bytes_that_are_no_utf8_are_read_as_the_replacement_character(subwords: Subwords) -> None:
    ids = subwords.encode(tf.constant([b"a\xffb"]))
    assert subwords.decode(ids.to_tensor()).numpy()[0].decode() == "a\ufffdb"


def test_what_is_no_text_decodes_to_nothing(subwords: Subwords, library: sentencepiece.SentencePieceProcessor) -> None:
    the = library.encode("the")
    rows = tf.ragged.constant([[BEGIN, *the, END, PADDING], [END], the]).to_tensor()
    assert subwords.decode(rows).numpy().tolist() == [b"the", b"", b"the"]
    half = library.encode("龘")[1:-1]  # without its last byte
    assert "\ufffd" in subwords.decode(tf.constant([half])).numpy()[0].decode()


def test_a_row_does_not_know_of_its_neighbours(subwords: Subwords) -> None:
    together = subwords.encode(tf.constant(TEXTS)).to_list()
    assert together == [subwords.encode(tf.constant([text])).to_list()[0] for text in TEXTS]
    assert subwords.encode(tf.zeros([0], tf.string)).shape[0] == 0


def test_learning_is_the_same_every_time() -> None:
    texts = [source for source, _ in toy_world.generate("validation")]
    assert learn(texts, 400) == learn(texts, 400)


def test_fewer_pieces_where_there_are_no_more_to_learn(tmp_path: Path) -> None:
    (tmp_path / "few.model").write_bytes(learn(["ab ab"], 5000))
    assert len(Subwords(tmp_path / "few.model")) < 300


@pytest.mark.parametrize(("texts", "size"), [([], 500), (["", "  "], 500), (["many letters here"], 262)])
def test_what_cannot_be_learned_from(texts: list[str], size: int) -> None:
    with pytest.raises(UserError, match=f"text.subwords = {size}"):
        learn(texts, size)


@pytest.mark.slow
def test_a_model_in_a_saved_model_needs_no_file(path: Path, subwords: Subwords, tmp_path: Path) -> None:
    module = tf.Module()
    module.resources = subwords.resources
    encode = tf.function(lambda texts: subwords.encode(texts).to_tensor(), input_signature=[tf.TensorSpec([None], tf.string)])
    tf.saved_model.save(module, str(tmp_path / "saved"), signatures=encode)
    loaded = tf.saved_model.load(str(tmp_path / "saved"))
    found = loaded.signatures["serving_default"](tf.constant(["The old baker"]))["output_0"].numpy()
    assert found.tolist() == subwords.encode(tf.constant(["The old baker"])).to_list()
