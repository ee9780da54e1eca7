"""Tokenizer against Hugging Face `tokenizers`, and files that are not tokenizers."""

from __future__ import annotations

import json
import random

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from tfx_transformer.errors import InputError
from tfx_transformer.text import tokenizer as module
from tfx_transformer.text.tokenizer import PATTERN, Tokenizer

# The same sentences in both languages.
ENGLISH = [
    "Yesterday I bought a red umbrella at the station because it had started to rain.",
    "My grandmother doesn't like coffee, but she'll drink three cups of green tea a day.",
    "The train to Kyoto leaves at 9:45 on 2024-11-30; please don't be late again.",
    "If you had told me that you were coming, I would have cooked something better.",
]
JAPANESE = [
    "昨日、雨が降り始めたので駅で赤い傘を買いました。",
    "祖母はコーヒーが好きではありませんが、緑茶は一日に三杯飲みます。",
    "京都行きの電車は2024年11月30日の9時45分に出ます。もう遅れないでください。",
    "来ると言ってくれていたら、もっとおいしい料理を作ったのに。",
]
OTHER = ["Größe naïve Ёж 한국어 🙂🙂 👨‍👩‍👧", "def f(x):\n\t\treturn x ** 2\r\n", "a\0a\0\0a"]
CORPUS = (ENGLISH + JAPANESE + OTHER) * 3
SPECIAL_LOOKALIKES = ["<s>", "</s>", "<pad>", "<|endoftext|>", "<|user|>", "<0x41>"]


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(CORPUS, 700, extra_special_tokens=["<|user|>"])


@pytest.fixture(scope="module")
def oracle(tokenizer, tmp_path_factory):
    return hugging_face(tokenizer, tmp_path_factory.mktemp("tokenizer") / "tokenizer.json")


def hugging_face(tokenizer, path):
    """What `tokenizers` makes of the saved file, special tokens in texts taken as text."""
    tokenizer.save(path)
    oracle = tokenizers.Tokenizer.from_file(str(path))
    oracle.encode_special_tokens = True
    return oracle


def random_texts(count):
    """Pieces of sentences, symbols, any characters, and bytes cut inside a character."""
    chance = random.Random(0)
    corpus = "".join(CORPUS)
    broken = corpus.encode()

    def piece():
        start, length = chance.randrange(len(corpus)), chance.randrange(1, 30)
        return chance.choice(
            [
                lambda: corpus[start : start + length],
                lambda: broken[start : start + length].decode(errors="replace"),
                lambda: chance.choice("🙂👨‍👩‍👧🇯🇵é々ー、。ｶﾞ１½ \t\n\r\0'\"<>|"),
                lambda: chance.choice(SPECIAL_LOOKALIKES),
                lambda: "".join(map(chr, chance.choices(range(0xD800), k=3))),
                lambda: bytes(chance.choices(range(256), k=9)).decode(errors="replace"),
                lambda: chance.choice(" a\n1あ") * length,
            ]
        )()

    return ["".join(piece() for _ in range(chance.randrange(8))) for _ in range(count)]


# Against Hugging Face


def test_ids_are_hugging_faces(tokenizer, oracle):
    texts = random_texts(10_000)
    expected = [encoding.ids for encoding in oracle.encode_batch(texts, add_special_tokens=False)]
    assert [tokenizer.encode(text) for text in texts] == expected


@given(st.text())
@settings(deadline=None, max_examples=300)
def test_any_text_is_encoded_as_hugging_face_does_and_comes_back(tokenizer, oracle, text):
    ids = tokenizer.encode(text)
    assert ids == oracle.encode(text, add_special_tokens=False).ids
    assert tokenizer.decode(ids) == text == oracle.decode(ids)
    assert tokenizer.count(text) == len(ids)


@given(st.lists(st.text("ab", max_size=30), min_size=1, max_size=20), st.text("ab", max_size=40))
@settings(deadline=None, max_examples=100)
def test_few_letters_merge_as_hugging_face_does(tmp_path_factory, texts, text):
    # Two letters make the most overlapping merges.
    trained = Tokenizer.train(texts, 320)
    oracle = hugging_face(trained, tmp_path_factory.getbasetemp() / "few.json")
    assert trained.encode(text) == oracle.encode(text, add_special_tokens=False).ids


def test_training_is_hugging_faces(tokenizer):
    learner = tokenizers.Tokenizer(tokenizers.models.BPE())
    learner.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(
        [
            tokenizers.pre_tokenizers.Split(tokenizers.Regex(PATTERN), "isolated"),
            tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    learner.train_from_iterator(
        CORPUS,
        tokenizers.trainers.BpeTrainer(
            vocab_size=700,
            special_tokens=["<pad>", "<s>", "</s>", "<|user|>"],
            initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    ours, theirs = json.loads(tokenizer.to_json()), json.loads(learner.to_str())
    assert ours["model"]["vocab"] == theirs["model"]["vocab"]
    assert ours["model"]["merges"] == theirs["model"]["merges"]


def test_lower_case_is_hugging_faces(tmp_path):
    """Characters whose lower case only one of Python and `tokenizers` knows are left out."""
    trained = Tokenizer.train(CORPUS, 500, lowercase=True)
    path = tmp_path / "tokenizer.json"
    oracle = hugging_face(trained, path)
    learner = tokenizers.Tokenizer.from_str(Tokenizer.train([], 260).to_json())
    lower = learner.normalizer = tokenizers.normalizers.Lowercase()
    texts = random_texts(500) + ["DON'T Count", "İ ΑΣ ΣΑ K Ⱥ ẞ ǅ"]
    texts = [t for t in texts if "".join(map(str.lower, t)) == lower.normalize_str(t)]
    assert len(texts) > 400
    expected = [encoding.ids for encoding in oracle.encode_batch(texts, add_special_tokens=False)]
    loaded = Tokenizer.load(path)
    assert loaded.lowercase and loaded.is_plain
    for tokenizer in (trained, loaded):
        assert [tokenizer.encode(text) for text in texts] == expected
    assert trained.encode("The Count") == trained.encode("the count")
    assert trained.decode(trained.encode("The Count")) == "the count"


def test_offsets_in_lower_case_are_of_the_text():
    """İ becomes two characters of 1 and 2 bytes, Ⱥ one of 3 instead of 2, the sign of kelvin k."""
    bytes_only = Tokenizer.train([], 259, lowercase=True)
    ids, offsets = bytes_only.encode_with_offsets("İȺK")
    assert bytes_only.decode(ids) == "i̇ⱥk"
    assert offsets == [(0, 1)] * 3 + [(1, 2)] * 3 + [(2, 3)]


# What the ids promise


def test_ids_are_specials_then_bytes_then_merges(tokenizer):
    assert tokenizer.special_tokens == {"<pad>": 0, "<s>": 1, "</s>": 2, "<|user|>": 3}
    assert (tokenizer.padding_id, tokenizer.start_id, tokenizer.end_id) == (0, 1, 2)
    assert sorted(tokenizer.ranks.values()) == list(range(4, tokenizer.vocabulary_size))
    assert {token for token, index in tokenizer.ranks.items() if index < 260} == {
        bytes([byte]) for byte in range(256)
    }


@given(st.lists(st.sampled_from([*SPECIAL_LOOKALIKES, " ", "a", "猫"])).map("".join))
@settings(deadline=None)
def test_no_text_yields_a_special_id(tokenizer, text):
    ids = tokenizer.encode(text)
    assert not set(ids) & set(tokenizer.special_tokens.values())
    assert tokenizer.decode(ids) == text


def test_decoding_leaves_special_ids_out(tokenizer):
    ids = tokenizer.encode("a cat")
    assert tokenizer.decode([1, *ids[:1], 3, *ids[1:], 2, 0, 0]) == "a cat"


def test_half_a_character_is_replaced(tokenizer):
    first, *rest = (tokenizer.ranks[bytes([byte])] for byte in "語".encode())
    assert tokenizer.decode([first, *tokenizer.encode("a")]) == "\ufffda"
    assert tokenizer.decode_bytes(rest) == "語".encode()[1:]
    assert tokenizer.tokens([1, first, *tokenizer.encode("a")]) == ["<s>", "\\xe8", "a"]


def test_a_lone_surrogate_becomes_the_replacement_character(tokenizer):
    assert tokenizer.decode(tokenizer.encode("a\ud800b")) == "a\ufffdb"


@pytest.mark.parametrize("character", [" ", "あ", "a", "!", "\n", "\t", "7"])
def test_a_million_of_one_character(tokenizer, character):
    text = character * 1_000_000
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_japanese_costs_more_tokens_per_character(tokenizer):
    """Also where both languages are trained on as much text: a character holds more meaning, so
    fewer of them repeat."""

    def cost(texts):
        return sum(map(tokenizer.count, texts)) / sum(map(len, texts))

    assert cost(JAPANESE) > cost(ENGLISH)


# Training


def test_training_is_deterministic(tokenizer):
    again = Tokenizer.train(iter(CORPUS), 700, extra_special_tokens=["<|user|>"])
    assert again.to_json() == tokenizer.to_json()


def test_few_texts_make_a_smaller_vocabulary():
    assert Tokenizer.train(["ab"], 1000).vocabulary_size == 260
    assert Tokenizer.train([], 1000).vocabulary_size == 259


def test_vocabulary_too_small():
    assert Tokenizer.train(["ab"], 259).vocabulary_size == 259
    with pytest.raises(InputError, match="258 is too small.\n.* 3 special .* at least 259"):
        Tokenizer.train(["ab"], 258)


# Files


def test_saved_is_loaded(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "tokenizer.json")
    loaded = Tokenizer.load(str(tmp_path / "tokenizer.json"))
    assert loaded.ranks == tokenizer.ranks
    assert loaded.special_tokens == tokenizer.special_tokens
    assert loaded.pattern == tokenizer.pattern
    assert loaded.to_json() == tokenizer.to_json()
    assert [path.name for path in tmp_path.iterdir()] == ["tokenizer.json"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not JSON",
        b"[]",
        b"null",
        b"{}",
        b"[" * 100_000,
        b'{"model": ' * 100_000,
        b"\x00\xff\xfe" * 1000,
        b"\x89PNG\r\n\x1a\n",
        b"PK\x03\x04" + bytes(100),
    ],
    ids=lambda content: repr(content[:12]),
)
def test_what_is_no_tokenizer_is_refused(content, tmp_path):
    refused(tmp_path, content)


def refused(folder, content):
    path = folder / "tokenizer.json"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        Tokenizer.load(path)
    assert str(caught.value).startswith(f"{path}: ")
    return str(caught.value)


def word_piece(tree):
    tree["model"] = {"type": "WordPiece", "unk_token": "[UNK]", "vocab": {"[UNK]": 0, "a": 1}}


def unigram(tree):
    tree["model"] = {"type": "Unigram", "unk_id": 0, "vocab": [["a", -1.0], ["b", -2.0]]}


def word_level(tree):
    tree["model"] = {"type": "WordLevel", "vocab": tree["model"]["vocab"]}


def gap(tree):
    vocabulary = tree["model"]["vocab"]
    vocabulary[max(vocabulary, key=vocabulary.get)] += 1


def repeated_id(tree):
    vocabulary = tree["model"]["vocab"]
    vocabulary[max(vocabulary, key=vocabulary.get)] -= 1


def text_id(tree):
    tree["model"]["vocab"]["a"] = "100"


def true_id(tree):
    tree["model"]["vocab"]["<s>"] = tree["added_tokens"][1]["id"] = True


def missing_byte(tree):
    # "Ġ" stands for the space; in its place a long token that nothing needs.
    vocabulary = tree["model"]["vocab"]
    vocabulary["Ġ" * 50] = vocabulary.pop("Ġ")


def no_byte_character(tree):
    vocabulary = tree["model"]["vocab"]
    vocabulary["猫"] = vocabulary.pop("a")


def missing_special(tree):
    tree["added_tokens"][2]["content"] = "</end>"


def missing_merge(tree):
    tree["model"]["merges"].pop()


def swapped_merges(tree):
    tree["model"]["merges"][:2] = tree["model"]["merges"][1::-1]


def unknown_merge(tree):
    tree["model"]["merges"].append(["猫", "猫"])


def byte_level_splitting(tree):
    # As in GPT-2: the pattern is not in the file.
    tree["pre_tokenizer"] = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}


def no_splitting(tree):
    tree["pre_tokenizer"] = None


def broken_pattern(tree):
    tree["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = "("


def back_reference(tree):
    tree["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = r"(a+)+\1"


@pytest.mark.parametrize(
    "damage",
    [
        word_piece,
        unigram,
        word_level,
        gap,
        repeated_id,
        text_id,
        true_id,
        missing_byte,
        no_byte_character,
        missing_special,
        missing_merge,
        swapped_merges,
        unknown_merge,
        byte_level_splitting,
        no_splitting,
        broken_pattern,
        back_reference,
    ],
    ids=lambda damage: damage.__name__,
)
def test_a_damaged_tokenizer_is_refused(damage, tokenizer, tmp_path):
    tree = json.loads(tokenizer.to_json())
    damage(tree)
    assert "not a byte-level BPE" in refused(tmp_path, json.dumps(tree).encode())


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children),
    max_leaves=5,
)


@given(
    st.sampled_from(["added_tokens", "pre_tokenizer", "vocab", "merges", "model"]),
    json_values,
)
@settings(deadline=None)
def test_any_value_in_a_tokenizers_place_is_refused(tmp_path_factory, tokenizer, name, value):
    tree = json.loads(tokenizer.to_json())
    (tree["model"] if name in tree["model"] else tree)[name] = value
    refused(tmp_path_factory.getbasetemp(), json.dumps(tree).encode())


def test_a_huge_file_is_refused_unread(tmp_path):
    path = tmp_path / "tokenizer.json"
    with path.open("wb") as file:
        file.truncate(module.MAX_FILE_BYTES + 1)
    with pytest.raises(InputError, match=r"tokenizer\.json: the file is larger"):
        Tokenizer.load(path)


def test_no_file(tmp_path):
    for path in (tmp_path, tmp_path / "none.json"):
        with pytest.raises(InputError, match=str(path)):
            Tokenizer.load(path)


def test_more_tokens_than_any_tokenizer_has_are_refused(tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MAX_ENTRIES", 300)
    tokenizer.save(path := tmp_path / "tokenizer.json")
    with pytest.raises(InputError, match="vocab has more entries .*\n  Expected 300") as refused:
        Tokenizer.load(path)
    assert str(refused.value).count(str(path)) == 1
