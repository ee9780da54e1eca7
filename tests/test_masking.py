"""Batches for masked-language-model pre-training: rows, words, shares, purity, padding."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex, pre_tokenizers

from tfx_transformer.data.batches import FreshPlan
from tfx_transformer.data.corpus import Piece, TokenFile, write_tokens
from tfx_transformer.data.masking import Masker, mask_tokens, rows
from tfx_transformer.errors import InputError
from tfx_transformer.text.tokenizer import MASK_TOKEN, SPECIAL_TOKENS, Tokenizer

ENGLISH = "The cat's 12345 mats, unbelievably, aren't on http://x.org/a_b!\n\nA dog sat."
JAPANESE = "猫が好きです。吾輩は猫である、名前はまだ無い。カタカナー語も、2024年も読む。"


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train([ENGLISH, JAPANESE, "the cat sat on the mat"], 300, [MASK_TOKEN])


@pytest.fixture
def corpus(tokenizer, tmp_path):
    """Writes documents as a token file."""

    def write(*documents):
        pieces = [Piece(text, True, "corpus.txt") for text in documents]
        return write_tokens(pieces, tokenizer, tmp_path / "tokens.bin")

    return write


def numbered(count, seed=0):
    """Documents of very different length, no two alike."""
    words = np.random.default_rng(seed).integers(0, 30, count)
    return [f"{number} " + "cat " * n + "猫が" * (n % 3) for number, n in enumerate(words)]


def read_epoch(dataset, tokenizer, length):
    """(original ids, ids, positions) of each row; checks what must hold in every batch."""
    specials = set(tokenizer.special_tokens.values())
    read = []
    for inputs, labels, weights in dataset:
        tables = (inputs["token_ids"], inputs["masked_positions"], labels, weights)
        assert [t.dtype for t in tables] == ["int32"] * 3 + ["float32"]
        token_ids, positions, labels, weights = (t.numpy() for t in tables)
        assert positions.shape == labels.shape == weights.shape
        most = int(weights.sum(axis=1).max())
        assert positions.shape[1] == 4 * math.ceil(most / 4)
        for row in zip(token_ids, positions, labels, weights, strict=True):
            ids, places, original, weight = (array.tolist() for array in row)
            count = int(sum(weight))
            assert weight == [1] * count + [0] * (len(weight) - count)
            assert not any(places[count:]) and not any(original[count:])
            places, original = places[:count], original[:count]
            assert places == sorted(set(places)) and count >= 1
            end = ids.index(tokenizer.end_id)
            assert ids[0] == tokenizer.start_id and end < length and not any(ids[end + 1 :])
            assert min(places) > 0 and max(places) < end, "start, end and padding stay"
            assert not specials & set(original)
            restored = ids[1:end]
            for place, token in zip(places, original, strict=True):
                restored[place - 1] = token
            read.append((restored, ids[1:end], [place - 1 for place in places]))
    return read


# Rows


def test_rows_by_hand(tmp_path):
    path = tmp_path / "tokens.bin"
    ids = np.array([9, 5, 6, 2, 2, 7, 2, 5, 5, 5, 5, 5, 5, 5, 2, 8, 8], "uint16")
    ids.tofile(path)
    whole = TokenFile(path, "uint16", 17, 0, 4, ("a.txt",))
    begins, lengths = rows(whole, end_id=2, room=3)
    assert begins.tolist() == [0, 5, 7, 9, 11, 15]
    assert lengths.tolist() == [3, 1, 2, 2, 3, 2]
    # A stretch that begins and ends inside a document.
    begins, lengths = rows(TokenFile(path, "uint16", 8, 0, 3, ("a.txt",), start=2), 2, 3)
    assert (begins.tolist(), lengths.tolist()) == ([0, 3, 5], [1, 1, 3])


@given(st.lists(st.integers(0, 40), min_size=1, max_size=20), st.integers(1, 11))
def test_rows_hold_every_id_once(tmp_path_factory, lengths, room):
    path = tmp_path_factory.mktemp("rows") / "tokens.bin"
    ids = np.concatenate([[*[5] * n, 2] for n in lengths]).astype("uint16")
    ids.tofile(path)
    begins, counts = rows(TokenFile(path, "uint16", len(ids), 0, len(lengths), ("a",)), 2, room)
    held = np.concatenate(
        [np.arange(b, b + n) for b, n in zip(begins, counts, strict=True)] or [[]]
    )
    assert held.tolist() == np.flatnonzero(ids != 2).tolist()
    assert len(counts) == sum(math.ceil(n / room) for n in lengths)
    assert all(1 <= n <= room for n in counts)


def test_rows_are_documents_between_start_and_end(corpus, tokenizer):
    texts = numbered(41)
    length = 13
    read = read_epoch(
        mask_tokens(corpus(*texts), tokenizer, length=length, shuffle=False), tokenizer, 13
    )
    expected = []
    for ids in map(tokenizer.encode, texts):
        parts = math.ceil(len(ids) / (length - 2))
        borders = [len(ids) * n // parts for n in range(parts + 1)]
        expected += [ids[a:b] for a, b in zip(borders, borders[1:], strict=False)]
    assert [original for original, _, _ in read] == expected


@pytest.mark.parametrize("shuffle", [False, True])
def test_every_row_is_seen_once_an_epoch(corpus, tokenizer, shuffle):
    dataset = mask_tokens(
        corpus(*numbered(41)), tokenizer, length=31, batch_size=7, shuffle=shuffle
    )
    first, second = ([row for row, _, _ in read_epoch(dataset, tokenizer, 31)] for _ in range(2))
    assert sorted(first) == sorted(second)
    assert (first == second) == (not shuffle)


def test_a_document_of_one_token(corpus, tokenizer):
    a, b = (tokenizer.encode(text)[0] for text in "ab")
    [(inputs, labels, weights)] = mask_tokens(corpus("a", "", "b"), tokenizer, shuffle=False)
    assert inputs["token_ids"].shape == (2, 4)
    assert inputs["masked_positions"].numpy().tolist() == [[1, 0, 0, 0]] * 2
    assert labels.numpy().tolist() == [[a, 0, 0, 0], [b, 0, 0, 0]]
    assert weights.numpy().tolist() == [[1, 0, 0, 0]] * 2


# Masks


@pytest.mark.parametrize("whole_words", [False, True])
def test_masks_are_a_function_of_seed_epoch_and_row(corpus, tokenizer, whole_words):
    tokens = corpus(*numbered(43))

    def epochs(seed, batch_size):
        dataset = mask_tokens(
            tokens, tokenizer, seed=seed, batch_size=batch_size, whole_words=whole_words
        )
        return [sorted(read_epoch(dataset, tokenizer, 128)) for _ in range(2)]

    assert epochs(3, 5) == epochs(3, 5)
    assert epochs(3, 5) == epochs(3, 16), "whatever batch a row stands in"
    first, second = epochs(3, 5)
    assert first != second, "fresh masks in every epoch"
    assert first != epochs(4, 5)[0]


def test_validation_has_the_same_masks_every_time(corpus, tokenizer):
    dataset = mask_tokens(corpus(*numbered(11)), tokenizer, batch_size=3, shuffle=False)
    assert read_epoch(dataset, tokenizer, 128) == read_epoch(dataset, tokenizer, 128)


def test_numbers_name_epoch_and_row():
    plan = FreshPlan(np.full(7, 5), 3)
    for epoch in (0, 4):
        numbers = np.concatenate(plan.order(epoch))
        assert sorted(numbers) == list(range(7 * epoch, 7 * epoch + 7))
    assert [b.tolist() for b in FreshPlan(np.full(3, 5), 2, shuffle=False).order(4)] == [
        [0, 1],
        [2],
    ]


def binomial_bounds(count, share):
    """Five standard deviations around the mean: missed once in two million draws."""
    spread = 5 * math.sqrt(count * share * (1 - share))
    return count * share - spread, count * share + spread


@pytest.mark.parametrize("share", [0.15, 0.4])
@pytest.mark.parametrize("whole_words", [False, True])
def test_as_many_are_chosen_as_asked(tokenizer, whole_words, share):
    masker = Masker(tokenizer, share, whole_words=whole_words)
    ids = np.array(tokenizer.encode(ENGLISH + JAPANESE))
    random = np.random.default_rng(0)
    times = np.zeros(len(ids))
    for _ in range(2000):
        _, places = masker(ids, random)
        times[places] += 1
        if not whole_words:
            assert len(places) in (math.floor(share * len(ids)), math.ceil(share * len(ids)))
    low, high = binomial_bounds(2000, share)
    assert low < times.min() and times.max() < high, "whatever the length of a word"


def test_what_becomes_of_the_chosen(tokenizer):
    masker = Masker(tokenizer, 0.5)
    ordinary = sorted(tokenizer.ranks.values())
    ids = np.array(ordinary * 5)
    random = np.random.default_rng(0)
    before, after = [], []
    for _ in range(40):
        hidden, places = masker(ids, random)
        untouched = np.setdiff1d(np.arange(len(ids)), places)
        assert (hidden[untouched] == ids[untouched]).all()
        before.append(ids[places])
        after.append(hidden[places])
    before, after = np.concatenate(before), np.concatenate(after)
    assert not set(after) & {tokenizer.special_tokens[token] for token in SPECIAL_TOKENS}

    count = len(before)
    became_mask = (after == tokenizer.special_tokens[MASK_TOKEN]).sum()
    stayed = (after == before).sum()
    by_chance = 0.1 / len(ordinary)  # a random token may be the one it replaces
    other = count - became_mask - stayed
    for seen, share in ((became_mask, 0.8), (stayed, 0.1 + by_chance), (other, 0.1 - by_chance)):
        low, high = binomial_bounds(count, share)
        assert low < seen < high
    replaced = after[(after != before) & (after != tokenizer.special_tokens[MASK_TOKEN])]
    low, high = binomial_bounds(len(replaced), 1 / len(ordinary))
    times = np.bincount(replaced)[ordinary]
    assert low < times.min() and times.max() < high, "every ordinary token alike"


def test_special_ids_are_never_chosen(tokenizer):
    masker = Masker(tokenizer, 0.9)
    specials = np.array(sorted(tokenizer.special_tokens.values()))
    a, b = (tokenizer.encode(text)[0] for text in "ab")
    random = np.random.default_rng(0)
    for _ in range(50):
        hidden, places = masker(np.array([1, a, 3, b, 2]), random)
        assert len(places) and set(places) <= {1, 3}
        assert hidden[[0, 2, 4]].tolist() == [1, 3, 2]
    hidden, places = masker(specials, random)
    assert hidden.tolist() == specials.tolist() and not len(places)
    hidden, places = masker(np.array([], int), random)
    assert not len(hidden) and not len(places)


# Words


def spelled(tokenizer, ids, words):
    """Text of each word."""
    count = words[-1] + 1 if len(words) else 0
    return [tokenizer.decode(ids[words == number]) for number in range(count)]


def test_words_by_hand(tokenizer):
    masker = Masker(tokenizer)
    for text, expected in (
        (
            "The cat's unbelievably 12345!",
            ["The", " cat", "'s", " unbelievably", " ", "123", "45", "!"],
        ),
        ("a\n\n  b", ["a", "\n\n", "  ", "b"]),
        ("吾輩は猫である。", ["吾輩", "は", "猫", "である", "。"]),
        ("カタカナー語も2024年", ["カタカナー", "語", "も", "202", "4", "年"]),
    ):
        ids = np.array(tokenizer.encode(text))
        assert spelled(tokenizer, ids, masker.words(ids)) == expected


@given(st.text(alphabet="ab'st 1234,\n猫がカー。é𝒳\u0301", min_size=1, max_size=60))
def test_words_are_the_pieces_that_are_encoded_by_themselves(tokenizer, text):
    ids = np.array(tokenizer.encode(text))
    sizes = np.bincount(Masker(tokenizer).words(ids))
    # The oracle: the same pattern in the engine that learns vocabularies.
    split = pre_tokenizers.Split(Regex(tokenizer.pattern), behavior="isolated")
    expected = []
    for piece, _ in split.pre_tokenize_str(text):
        whole, rest = divmod(tokenizer.count(piece), 16)
        expected += [16] * whole + [rest] * (rest > 0)
    assert sizes.tolist() == expected


@pytest.mark.parametrize("text", [ENGLISH, JAPANESE])
def test_a_word_is_chosen_whole_or_not_at_all(tokenizer, text):
    masker = Masker(tokenizer)
    ids = np.array(tokenizer.encode(text))
    words = masker.words(ids)
    assert max(np.bincount(words)) > 1, "words of several tokens are what this is about"
    random = np.random.default_rng(0)
    for _ in range(200):
        _, places = masker(ids, random)
        left = np.delete(words, places)
        assert not set(words[places]) & set(left)


def test_a_row_cut_inside_a_character_has_words(tokenizer):
    ids = np.array([tokenizer.ranks[bytes([byte])] for byte in "猫dog猫".encode()[1:-1]])
    words = Masker(tokenizer).words(ids)
    assert words.tolist() == [0, 0, 1, 1, 1, 2, 2]


def test_what_has_very_many_tokens_is_chosen_in_parts(tokenizer):
    ids = np.array([tokenizer.ranks[b"q"]] * 37)
    assert np.bincount(Masker(tokenizer).words(ids)).tolist() == [16, 16, 5]


# Errors


def test_a_tokenizer_without_mask_is_refused(corpus):
    plain = Tokenizer.train(["the cat"], 260)
    with pytest.raises(InputError, match=re.escape(f'extra_special_tokens=["{MASK_TOKEN}"]')):
        mask_tokens(corpus("the cat"), plain)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"share": 0}, "share to mask is 0"),
        ({"share": 1.0}, "share to mask is 1.0"),
        ({"share": float("nan")}, "share to mask is nan"),
        ({"length": 2}, "length of a row is 2.\n  Expected 3"),
        ({"batch_size": 0}, "batch_size is 0"),
    ],
)
def test_settings_out_of_range(corpus, tokenizer, settings, message):
    with pytest.raises(InputError, match=message):
        mask_tokens(corpus("the cat"), tokenizer, **settings)


def test_a_file_without_text(corpus, tokenizer):
    with pytest.raises(InputError, match="corpus.txt: there is no text to mask"):
        mask_tokens(corpus("", ""), tokenizer)
