"""Counts of tokens: equal to those of tiktoken and tokenizers, every byte in one token."""

import base64
import hashlib
import json

import pytest
import tiktoken
import tiktoken.load
import tokenizers
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tfx_transformer.errors import InputError
from tfx_transformer.text import splitters
from tfx_transformer.text.counting import (
    Count,
    Tally,
    compare,
    language,
    ratio,
    sample,
    stretches,
    table,
)
from tfx_transformer.text.splitters import Splitter, Token, clean, tokens_of, visible
from tfx_transformer.text.tokenizer import SLICE, Tokenizer

TEXTS = ["I love cats.", "She loves dogs, too.", "私は猫が好きです。", "彼女は犬も大好きです。"] * 3


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(TEXTS, 290)


@pytest.fixture(scope="module")
def word_pieces(tmp_path_factory):
    """As BERT has it: lower case, blanks dropped, "##" before what goes on, a limit on length."""
    words = ["[UNK]", "[CLS]", "i", "love", "cat", "##s", "猫", "##!", "!"]
    made = tokenizers.Tokenizer(
        tokenizers.models.WordPiece({w: n for n, w in enumerate(words)}, unk_token="[UNK]")
    )
    made.normalizer = tokenizers.normalizers.BertNormalizer()
    made.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A", special_tokens=[("[CLS]", 1)]
    )
    made.enable_truncation(3)
    made.enable_padding()
    path = tmp_path_factory.mktemp("bert") / "tokenizer.json"
    made.save(str(path))
    return path


def all_splitters(tokenizer, word_pieces, folder):
    tokenizer.save(folder / "ours.json")
    return [
        splitters.byte_splitter(),
        splitters.tiktoken_splitter("tiktoken", tokenizer.tiktoken),
        splitters.hugging_face_splitter("tokenizers", folder / "ours.json"),
        splitters.hugging_face_splitter("word pieces", word_pieces),
    ]


# Language


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I love cats.", "English"),
        ("Crème brûlée ｆｏｒ me", "English"),
        ("私は猫が好きです。", "Japanese"),
        ("ｶﾀｶﾅ", "Japanese"),
        ("𠮟る", "Japanese"),
        ("時々", "Japanese"),
        ("GitHubを使う", "Japanese"),  # 3 of 9 letters
        ("GitHubsを使う", "English"),  # 3 of 10
        ("She loves cats. 猫", "English"),
        ("Я люблю кошек", "other"),
        ("한국어", "other"),
        ("да no", "other"),  # half is not more than half
        ("2026-11-24 ・ 100 %", "other"),
        ("", "other"),
    ],
)
def test_language_is_told_by_letters(text, expected):
    assert language(text) == expected


def test_a_text_is_split_where_its_language_changes():
    text = "\nOne\n\n2\nTwo\r\n三つ\n4\nПять"
    assert stretches(text) == [
        ("other", 1, 1),
        ("English", len("One\n\n2\nTwo\r\n"), 12),
        ("Japanese", len("三つ\n4\n"), 9),
        ("other", 4, 8),
    ]


# Tokens


@given(text=st.text(max_size=60))
@example("I love cats. 猫!")
@example("  i  love ")
@example("\U0001f469\u200d\U0001f4bb e\u0301 ㍿ \ud800 İ")
@example("𠮟" * 7)
@settings(max_examples=60)
def test_tokens_join_to_the_text(tokenizer, word_pieces, tmp_path_factory, text):
    text = clean(text)
    folder = tmp_path_factory.mktemp("tokenizers")
    for splitter in all_splitters(tokenizer, word_pieces, folder):
        split = splitter.split(text)
        assert len(split.ids) == len(split.ends)
        assert list(split.ends) == sorted(split.ends)
        joined = b"".join(token.data for token in tokens_of(text, split))
        assert joined == text.encode() or not split.ids
        tally = Tally([splitter])
        tally.add(text)
        counts = tally.languages[0].values()
        assert sum(count.tokens for count in counts) == len(split.ids)
        assert sum(count.bytes for count in counts) == len(text.encode())
        assert sum(count.characters for count in counts) == len(text)


@given(text=st.text(max_size=60))
@settings(max_examples=60)
def test_ids_are_those_of_tiktoken_and_of_tokenizers(
    tokenizer, word_pieces, tmp_path_factory, text
):
    text = clean(text)
    byte, ours, theirs, pieces = all_splitters(
        tokenizer, word_pieces, tmp_path_factory.mktemp("tokenizers")
    )
    expected = tokenizer.tiktoken.encode_ordinary(text)
    assert byte.split(text).ids == text.encode()
    assert ours.split(text).ids == theirs.split(text).ids == expected
    data = [tokenizer.tiktoken.decode_single_token_bytes(index) for index in expected]
    for splitter in (ours, theirs):
        assert [token.data for token in tokens_of(text, splitter.split(text))] == data
    bert = tokenizers.Tokenizer.from_file(str(word_pieces))
    bert.no_truncation()
    bert.no_padding()
    assert pieces.split(text).ids == bert.encode(text, add_special_tokens=False).ids


def test_special_tokens_in_a_text_are_text(tokenizer):
    lower = Tokenizer.train(TEXTS, 290, lowercase=True)
    for splitter in (
        splitters.tiktoken_splitter("ours", tokenizer.tiktoken),
        splitters.tokenizer_splitter("lower", lower),
    ):
        assert not {0, 1, 2} & set(splitter.split("<s>a</s><pad>").ids)


def test_tokens_in_lower_case_join_to_the_text():
    """İ has 2 bytes, and 3 in lower case; Ⱥ 2 and 3; the sign of kelvin 3 and 1."""
    lower = Tokenizer.train([], 259, lowercase=True)
    splitter = splitters.tokenizer_splitter("lower", lower)
    text = "AİȺ\N{KELVIN SIGN}é"
    split = splitter.split(text)
    assert split.ids == lower.encode(text)
    assert split.ends == [1, 1, 2, 3, 3, 4, 5, 8, 9, 10]
    assert b"".join(token.data for token in tokens_of(text, split)) == text.encode()
    assert splitter.vocabulary_size == lower.vocabulary_size


def test_a_long_run_of_one_character_does_not_crash_tiktoken(tokenizer):
    text = " " * (3 * SLICE + 7)
    split = splitters.tiktoken_splitter("ours", tokenizer.tiktoken).split(text)
    assert split.ids == tokenizer.encode(text)
    assert split.ends[-1] == len(text)


def test_word_pieces_stand_where_they_are_in_the_text(word_pieces):
    splitter = splitters.hugging_face_splitter("bert", word_pieces)
    text = "I love  Cats 猫 "
    tokens = tokens_of(text, splitter.split(text))
    shown = [token.data.decode() for token in tokens]
    assert shown == ["I", " love", "  Cat", "s", " 猫 "]
    assert [token.id for token in tokens] == [2, 3, 4, 5, 6]
    assert splitter.vocabulary_size == 9


def test_tokens_that_share_a_character_share_its_bytes(tmp_path):
    """As SentencePiece's fallback has it: a token for each byte of an unknown character."""
    vocabulary = {f"<0x{byte:02X}>": byte for byte in range(256)} | {"a": 256}
    model = tokenizers.models.BPE(vocabulary, [], byte_fallback=True)
    tokenizers.Tokenizer(model).save(str(tmp_path / "fallback.json"))
    splitter = splitters.hugging_face_splitter("fallback", tmp_path / "fallback.json")
    tokens = tokens_of("a猫a", splitter.split("a猫a"))
    assert tokens == [(256, b"a"), (0xE7, b"\xe7"), (0x8C, b"\x8c"), (0xAB, b"\xab"), (256, b"a")]
    assert [token.is_part() for token in tokens] == [False, True, True, True, False]


def test_only_the_first_tokens_are_made_if_asked():
    split = splitters.byte_splitter().split("abc")
    assert tokens_of("abc", split, 2) == [(97, b"a"), (98, b"b")]
    assert tokens_of("abc", split, 7) == tokens_of("abc", split)


def test_what_is_shown_cannot_steer_a_terminal():
    assert Token(1, "猫 a".encode()).shown() == "猫 a"
    assert Token(1, b"\xe7\x8c").shown() == r"\xe7\x8c"
    assert Token(1, b"\xafa").shown() == r"\xafa"
    assert visible("\x1b[31m\r\n\t\u200b\u202e\u3000") == r"\x1b[31m\r\n\t\u200b\u202e" + "\u3000"


def test_lone_surrogates_become_one_replacement_character_each():
    assert clean("a\ud800b\udcffc") == "a\ufffdb\ufffdc"
    assert clean("猫\U0001f408") == "猫\U0001f408"


# Counts


def by_length(length):
    """A tokenizer of tokens that have `length` bytes, the last one the rest."""

    def split(text):
        size = len(text.encode())
        ends = [*range(length, size, length), size] if size else []
        return splitters.Split([7] * len(ends), ends)

    return Splitter(f"{length} bytes", 11, split)


def test_a_token_counts_to_the_line_it_begins_in():
    tally = Tally([by_length(5), splitters.byte_splitter()])
    tally.add("abc\n猫犬")  # 4 + 6 bytes; tokens at 0 and 5
    tally.add("defg")
    assert tally.languages == [
        {"English": Count(2, 8, 8), "Japanese": Count(1, 2, 6)},
        {"English": Count(8, 8, 8), "Japanese": Count(6, 2, 6)},
    ]
    assert tally.totals() == [Count(3, 10, 14), Count(14, 10, 14)]
    assert tally.language() == "English"
    assert table(tally)[1:4] == [
        ["5 bytes", "Japanese", "1", "2", "6", "0.500", "0.167"],
        ["5 bytes", "English", "2", "8", "8", "0.250", "0.250"],
        ["5 bytes", "all", "3", "10", "14", "0.300", "0.214"],
    ]


def test_nothing_costs_nothing():
    shown, tally = sample("empty", [], [by_length(3)])
    assert (shown.tokens, shown.counts, shown.language) == ([[]], [0], "other")
    assert tally.totals() == [Count()]
    assert Count().tokens_per_character == 0
    assert ratio(Count(3, 3, 3), Count()) == (0, 0, 0)


def test_a_sample_keeps_the_beginning_and_counts_all():
    shown, tally = sample("file", ["abcdef", "ghi"], [by_length(2)], limit=2)
    assert shown.tokens == [[(7, b"ab"), (7, b"cd")]]
    assert shown.counts == [5] and (shown.characters, shown.bytes) == (9, 9)
    assert tally.totals() == [Count(5, 9, 9)]


def tallied(*texts):
    tally = Tally([by_length(3), splitters.byte_splitter()])
    for text in texts:
        tally.add(text)
    return tally


def test_japanese_is_set_against_english_whichever_column_holds_it():
    english, japanese = tallied("I love cats.", "No."), tallied("私は猫が好きです。", "否。")
    for first, second, names in (
        (english, japanese, ("en", "ja")),
        (japanese, english, ("ja", "en")),
    ):
        told = compare(first, second, names, 2)
        assert (told.one, told.other, told.rows) == ("Japanese", "English", 2)
        # By hand: 33 bytes, 11 characters over 15 bytes, 15 characters; 11 tokens over 5.
        three, byte = told.ratios
        assert three == pytest.approx((11 / 5, 1 / (5 / 15), (11 / 33) / (5 / 15)))
        assert byte == pytest.approx((33 / 15, 3, 1))
    assert told.sentences()[0] == (
        "3 bytes: Japanese costs 2.20 times English "
        "(per character 3.00, per byte 1.00 times; 2 rows)"
    )
    assert compare(english, japanese, ("en", "ja"), 1).sentences()[0].endswith("; 1 row)")


def test_other_languages_are_called_by_their_columns():
    told = compare(tallied("I love cats."), tallied("Ich liebe Katzen."), ("en", "de"), 1)
    assert (told.one, told.other) == ("'de'", "'en'")
    assert told.ratios[1].tokens == pytest.approx(17 / 12)


# Vocabularies that are not ours


VOCABULARY = b"".join(base64.b64encode(bytes([n])) + b" %d\n" % n for n in range(256))


@pytest.fixture
def encodings(monkeypatch):
    """tiktoken with one more encoding, whose file is on the network, and none loaded yet."""
    url = "https://vocabulary.invalid/bytes.tiktoken"

    def constructor():
        digest = hashlib.sha256(VOCABULARY).hexdigest()
        ranks = tiktoken.load.load_tiktoken_bpe(url, digest)
        return {"name": "mine", "pat_str": r".+", "mergeable_ranks": ranks, "special_tokens": {}}

    tiktoken.list_encoding_names()
    monkeypatch.setitem(tiktoken.registry.ENCODING_CONSTRUCTORS, "mine", constructor)
    monkeypatch.setattr(tiktoken.registry, "ENCODINGS", {})
    monkeypatch.setattr("requests.get", lambda *_, **__: pytest.fail("the network was asked"))
    return hashlib.sha1(url.encode()).hexdigest()


def test_an_encoding_in_the_cache_is_used(encodings, monkeypatch, tmp_path):
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    (tmp_path / encodings).write_bytes(VOCABULARY)
    read_file = tiktoken.load.read_file
    assert splitters.offline_encoding("mine").encode_ordinary("猫") == [0xE7, 0x8C, 0xAB]
    assert tiktoken.load.read_file is read_file


@pytest.mark.parametrize("content", [None, b"damaged"])
@pytest.mark.parametrize("variable", ["TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR", None])
def test_an_encoding_that_is_not_here_is_refused(
    encodings, monkeypatch, tmp_path, variable, content
):
    for name in ("TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = tmp_path if variable else tmp_path / "data-gym-cache"
    folder.mkdir(exist_ok=True)
    if variable:
        monkeypatch.setenv(variable, str(tmp_path))
    if content:
        (folder / encodings).write_bytes(content)
    read_file = tiktoken.load.read_file
    with pytest.raises(InputError) as caught:
        splitters.offline_encoding("mine")
    first, *rest = str(caught.value).splitlines()
    assert first == "--encoding mine: its vocabulary is not on this machine, and is not downloaded."
    assert f"in {folder}." in rest[0]
    assert "tiktoken.get_encoding('mine')" in str(caught.value)
    assert all(line.startswith("  ") for line in rest)
    assert tiktoken.load.read_file is read_file


def test_an_encoding_that_nobody_has_is_named():
    with pytest.raises(InputError, match="no encoding of that name.\n  It has gpt2, "):
        splitters.offline_encoding("gpt7")


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"\xff", b"[1]", json.dumps({"model": 3}).encode()]
)
def test_a_file_that_is_no_tokenizer_is_named(tmp_path, content):
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        splitters.hugging_face_splitter("x", path)
    assert str(caught.value).startswith(f"{path}: ")


def test_no_tokenizer_file(tmp_path):
    with pytest.raises(InputError, match="cannot be read as a tokenizer"):
        splitters.hugging_face_splitter("x", tmp_path / "no.json")
