"""Checkpoints' tokenizers give the ids of `transformers` and, for many texts, of `tokenizers`.

What `transformers` answered stands in tokenizers/, made by make_tokenizers.py.
"""

from __future__ import annotations

import contextlib
import functools
import json
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from nasty_texts import nasty_texts
from slow import ALL_TESTS

from tfx_transformer import bundle
from tfx_transformer.data.masking import Masker
from tfx_transformer.errors import InputError
from tfx_transformer.generation.preprocessors import ContinuationPreprocessor
from tfx_transformer.generation.text import Writer
from tfx_transformer.text.byte_level import ByteLevelTokenizer
from tfx_transformer.text.framing import frame, segments
from tfx_transformer.text.prompts import ChatTemplate
from tfx_transformer.text.sentencepiece import normalizer, read_model
from tfx_transformer.text.splitters import tokenizer_splitter, tokens_of
from tfx_transformer.text.tokenizer import Tokenizer

FOLDER = Path(__file__).parent / "tokenizers"
SHARED = json.loads((FOLDER / "texts.json").read_text(encoding="utf-8"))
FAMILIES = sorted(path.name for path in FOLDER.iterdir() if path.is_dir())
BYTE_LEVEL = {"gpt2", "roberta", "llama3", "qwen", "smollm"}
CHATTING = {"llama3", "qwen", "smollm", "llama2", "mistral", "gemma"}
# Padding, start and end, by name.
SPECIAL = {
    "bert": ("[PAD]", "[CLS]", "[SEP]"),
    "bert_cased": ("[PAD]", "[CLS]", "[SEP]"),
    "gpt2": ("<|endoftext|>", "<|endoftext|>", "<|endoftext|>"),
    "roberta": ("<pad>", "<s>", "</s>"),
    "llama3": ("<|eot_id|>", "<|begin_of_text|>", "<|eot_id|>"),
    "qwen": ("<|endoftext|>", "<|im_end|>", "<|im_end|>"),
    "smollm": ("<|im_end|>", "<|im_start|>", "<|im_end|>"),
    "llama2": ("</s>", "<s>", "</s>"),
    "mistral": ("</s>", "<s>", "</s>"),
    "gemma": ("<pad>", "<bos>", "<eos>"),
    "t5": ("<pad>", "<pad>", "</s>"),
    "marian": ("<pad>", "<pad>", "</s>"),
    "xlm_roberta": ("<pad>", "<s>", "</s>"),
    "modernbert": ("[PAD]", "[CLS]", "[SEP]"),
}


@functools.cache
def read(name):
    return Tokenizer.from_pretrained(FOLDER / name)


@functools.cache
def answers(name):
    return json.loads((FOLDER / name / "answers.json").read_text(encoding="utf-8"))


def texts_without_special(name):
    """Numbers of the texts in which no special token is written: Unigram models of `tokenizers`
    take these for ids whatever they are told."""
    names = read(name).special_tokens if name in ("t5", "xlm_roberta") else ()
    texts = enumerate(SHARED["texts"])
    return [number for number, text in texts if not any(special in text for special in names)]


# Against transformers


def test_every_family_is_here():
    assert SPECIAL.keys() == set(FAMILIES)
    assert {name for name in FAMILIES if isinstance(read(name), ByteLevelTokenizer)} == BYTE_LEVEL


@pytest.mark.parametrize("name", FAMILIES)
def test_ids_and_texts_are_those_of_transformers(name):
    tokenizer, expected = read(name), answers(name)
    kept = texts_without_special(name)
    assert len(kept) > 170
    for number in kept:
        text, ids = SHARED["texts"][number], expected["ids"][number]
        assert tokenizer.encode(text) == ids, repr(text)
        assert tokenizer.count(text) == len(ids)
        assert tokenizer.decode(ids) == expected["decoded"][number], repr(text)


def test_the_target_side_of_marian():
    tokenizer, expected = read("marian").target, answers("marian")["target"]
    for text, ids in zip(SHARED["texts"], expected, strict=True):
        assert [*tokenizer.encode(text), tokenizer.end_id] == ids, repr(text)
    assert tokenizer.target is tokenizer
    source = answers("marian")["ids"]
    assert sum(ids[:-1] != other for ids, other in zip(expected, source, strict=True)) > 20


@pytest.mark.parametrize("name", FAMILIES)
def test_texts_are_framed_as_by_transformers(name):
    tokenizer, expected = read(name), answers(name)
    assert frame(tokenizer, SHARED["pair"][0], 512) == expected["one"]
    assert frame(tokenizer, SHARED["pair"], 512) == expected["two"]
    numbers = segments(tokenizer, SHARED["pair"], 512)
    assert len(numbers) == len(expected["two"])
    told = expected["segments"] if name.startswith("bert") else [0] * len(numbers)
    assert numbers == told
    cut = frame(tokenizer, SHARED["pair"], 9)
    assert len(cut) == len(segments(tokenizer, SHARED["pair"], 9)) == 9


@pytest.mark.parametrize("name", FAMILIES)
def test_padding_start_and_end(name):
    tokenizer = read(name)
    names = {index: text for text, index in tokenizer.special_tokens.items()}
    ids = (tokenizer.padding_id, tokenizer.start_id, tokenizer.end_id)
    assert tuple(names[index] for index in ids) == SPECIAL[name]
    assert tokenizer.vocabulary_size > max(map(max, filter(None, answers(name)["ids"])))


def test_a_sentencepiece_model_that_does_not_say_all_ids_is_refused(tmp_path):
    pieces = (FOLDER / "t5" / "spiece.model").read_bytes()
    (tmp_path / "sentencepiece.bpe.model").write_bytes(pieces)
    settings = json.dumps({"tokenizer_class": "NllbTokenizer"})
    (tmp_path / "tokenizer_config.json").write_text(settings, encoding="utf-8")
    with pytest.raises(InputError, match="ids of a NllbTokenizer(?s:.*)Expected tokenizer.json"):
        Tokenizer.from_pretrained(tmp_path)


def test_a_token_for_padding_that_closes_each_text_is_read(tmp_path):
    """As in Qwen3-Embedding, which pools the last token."""
    tree = json.loads((FOLDER / "qwen" / "tokenizer.json").read_text(encoding="utf-8"))
    closing = {"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}
    one, two = ({"Sequence": {"id": letter, "type_id": 0}} for letter in "AB")
    template = {
        "type": "TemplateProcessing",
        "single": [one, closing],
        "pair": [one, closing, two, closing],
        "special_tokens": {
            "<|endoftext|>": {"id": "<|endoftext|>", "ids": [700], "tokens": ["<|endoftext|>"]}
        },
    }
    tree["post_processor"] = {
        "type": "Sequence",
        "processors": [tree["post_processor"], template],
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps(tree), encoding="utf-8")
    settings = (FOLDER / "qwen" / "tokenizer_config.json").read_text(encoding="utf-8")
    settings = json.loads(settings) | {"chat_template": None}
    assert settings["add_bos_token"] is False  # `transformers` 5 does not read it here
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    tokenizer = Tokenizer.from_pretrained(tmp_path)
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert frame(tokenizer, "猫 cats", 512) == theirs.encode("猫 cats").ids
    assert frame(tokenizer, "猫 cats", 512)[-1] == 700
    assert tokenizer.padding_id == 701 and tokenizer.end_id == 702
    tokenizer.save(tmp_path / "saved")
    assert Tokenizer.load(tmp_path / "saved").padding_id == 701


@pytest.mark.parametrize("name", sorted(CHATTING))
def test_chats_are_those_of_transformers(name):
    tokenizer, expected = read(name), answers(name)
    harmless = [m | {"content": m["content"].replace("<", "(")} for m in SHARED["chat"]]
    assert ChatTemplate.of(tokenizer).prompt(harmless) == expected["chat_ids"]


@pytest.mark.parametrize("name", sorted(CHATTING))
def test_no_message_writes_a_special_token(name):
    tokenizer = read(name)
    special = set(tokenizer.special_tokens.values())
    template = ChatTemplate.of(tokenizer)
    ids = template.prompt(SHARED["chat"])
    harmless = [m | {"content": "a"} for m in SHARED["chat"]]
    assert [i for i in ids if i in special] == [
        i for i in template.prompt(harmless) if i in special
    ]


def test_an_answer_ends_with_what_the_template_writes_behind_it():
    gemma, llama = (ChatTemplate.of(read(name)) for name in ("gemma", "llama3"))
    assert (gemma.end_token, llama.end_token) == ("<end_of_turn>", "<|eot_id|>")


# Against tokenizers

TEXTS = 10_000 if ALL_TESTS else 3_000


@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "marian"])
def test_thousands_of_texts(name):
    tokenizer = read(name)
    reference = tokenizers.Tokenizer.from_str(tokenizer.to_json())
    reference.encode_special_tokens = True
    texts = nasty_texts(TEXTS, seed=1)
    if name in ("t5", "xlm_roberta"):
        texts = [t for t in texts if not any(s in t for s in tokenizer.special_tokens)]
    expected = reference.encode_batch(texts, add_special_tokens=False)
    for text, encoding in zip(texts, expected, strict=True):
        assert tokenizer.encode(text) == encoding.ids, repr(text)


def test_thousands_of_texts_of_marian():
    tokenizer, folder = read("marian"), FOLDER / "marian"
    model = sentencepiece.SentencePieceProcessor(model_file=str(folder / "source.spm"))
    ids = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
    texts = [text for text in nasty_texts(TEXTS, seed=1) if not text.startswith(">>")]
    for text in texts:
        expected = [ids.get(piece, ids["<unk>"]) for piece in model.encode(text, out_type=str)]
        assert tokenizer.encode(text) == expected, repr(text)


# What the classes promise


@pytest.mark.parametrize("name", FAMILIES)
@given(text=st.text())
@settings(deadline=None, max_examples=25)
def test_no_text_yields_a_special_id(name, text):
    tokenizer = read(name)
    unknown = tokenizer.special_tokens.get(tokenizer.names.get("unk_token"))
    for special in ("", *tokenizer.special_tokens):
        ids = set(tokenizer.encode(text + special + text))
        assert not ids & set(tokenizer.special_tokens.values()) - {unknown}


@pytest.mark.parametrize("name", sorted(BYTE_LEVEL - {"qwen", "roberta"}))
@given(text=st.text())
@settings(deadline=None, max_examples=50)
def test_bytes_lose_nothing(name, text):
    tokenizer = read(name)
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert sum(tokenizer.byte_lengths()[i] for i in ids) == len(text.encode())


@pytest.mark.parametrize("name", FAMILIES)
def test_bytes_come_one_by_one(name):
    tokenizer = read(name)
    ids = tokenizer.encode("The cats of 東京")
    joined = b"".join(tokenizer.decode_bytes([i]) for i in ids)
    assert joined == tokenizer.decode_bytes(ids)
    shown = joined.removeprefix(b" ") if tokenizer.leading_space else joined
    assert shown.decode() == tokenizer.decode(ids)
    writer = Writer(tokenizer)
    for index in [tokenizer.end_id, *ids]:
        writer(np.array([index]))
    assert writer.finish() == tokenizer.decode(ids)
    assert len(tokenizer.tokens([tokenizer.end_id, *ids])) == 1 + len(ids)


@pytest.mark.parametrize("name", FAMILIES)
def test_ids_beyond_the_vocabulary_and_lone_surrogates(name):
    tokenizer = read(name)
    assert tokenizer.decode([tokenizer.vocabulary_size + 7, tokenizer.end_id]) == ""
    assert tokenizer.encode("a\ud800b") == tokenizer.encode("a\ufffdb")
    assert tokenizer.encode("") == [] or name == "marian"


@pytest.mark.parametrize("name", FAMILIES)
def test_a_bundle_gives_the_same_tokenizer_back(name, tmp_path):
    tokenizer = read(name)
    bundle.write_tokenizer(tmp_path, tokenizer)
    again = bundle.read_tokenizer(tmp_path, tokenizer.vocabulary_size + 100)
    assert type(again) is type(tokenizer)
    for side, other in ((tokenizer, again), (tokenizer.target, again.target)):
        assert [side.encode(t) for t in SHARED["texts"]] == list(map(other.encode, SHARED["texts"]))
    kept = ("padding_id", "start_id", "end_id", "mask_id", "frame", "prefix", "names", "settings")
    kept += ("special_tokens", "chat_template", "vocabulary_size")
    for attribute in kept:
        assert getattr(again, attribute) == getattr(tokenizer, attribute), attribute
    with pytest.raises(InputError, match="tokens, the architecture"):
        bundle.read_tokenizer(tmp_path, tokenizer.vocabulary_size - 1)


def test_a_continuation_begins_with_the_prefix():
    llama, qwen = ContinuationPreprocessor(read("llama3")), ContinuationPreprocessor(read("qwen"))
    assert llama.encode("a cat", keep=1) == [
        llama.tokenizer.start_id,
        *llama.tokenizer.encode("a cat")[-1:],
    ]
    assert qwen.encode("") == [qwen.end_id]


def test_words_are_masked_whole():
    """The tokens of a word are chosen together, whatever marks its beginning."""
    for name, text in (("bert", "umbrellas yesterday"), ("roberta", "umbrellas yesterday")):
        tokenizer = read(name)
        ids = np.array(tokenizer.encode(text))
        masker = Masker(tokenizer)
        assert masker.mask_id == tokenizer.mask_id
        second = len(tokenizer.encode("umbrellas"))
        assert 1 < second < len(ids)
        assert masker.words(ids).tolist() == [0] * second + [1] * (len(ids) - second)


def test_graphs_refuse_what_they_cannot_do():
    from tfx_transformer.export.graph_tokenizer import GraphTokenizer

    for name in ("bert", "qwen", "roberta", "t5"):
        with pytest.raises(InputError, match="does not work inside a SavedModel"):
            GraphTokenizer(read(name))
    with pytest.raises(InputError, match="split pattern does not work"):
        GraphTokenizer(read("gpt2"))


@pytest.mark.parametrize("name", ["bert", "qwen", "llama3", "gemma"])
def test_tokens_are_counted_with_the_bytes_they_stand_for(name):
    splitter = tokenizer_splitter(name, read(name))
    for text in ("The cats' 東京 12", "e\u0301t\u00e9 \n"):
        split = splitter.split(text)
        assert list(split.ids) == read(name).encode(text)
        assert b"".join(token.data for token in tokens_of(text, split)) == text.encode()


# Files


@pytest.mark.parametrize("name", FAMILIES)
def test_files_that_are_cut_off_are_refused(name, tmp_path):
    for file in (FOLDER / name).iterdir():
        if file.name in ("answers.json", "config.json", "chat_template.jinja", "merges.txt"):
            continue
        folder = tmp_path / file.name
        folder.mkdir()
        for other in (FOLDER / name).iterdir():
            data = other.read_bytes()
            (folder / other.name).write_bytes(data[: len(data) // 2] if other == file else data)
        if file.name == "vocab.txt":  # every line is a token
            assert Tokenizer.from_pretrained(folder).vocabulary_size < read(name).vocabulary_size
            continue
        with pytest.raises(InputError, match=str(folder)):
            Tokenizer.from_pretrained(folder)


@given(st.binary(max_size=200), st.integers(0, 10_000))
@settings(deadline=None, max_examples=200)
def test_any_bytes_are_no_sentencepiece_model(data, place):
    good = (FOLDER / "t5" / "spiece.model").read_bytes()
    cut = place % len(good)
    for hostile in (data, good[:cut] + data, good[:cut] + data + good[cut + len(data) :]):
        for read in (read_model, lambda hostile: normalizer(hostile)("Ab ﬁ e\u0301\u3000")):
            with contextlib.suppress(ValueError):
                read(hostile)


@pytest.mark.parametrize("file", ["source.spm", "target.spm"])
def test_a_map_of_characters_that_leads_astray_is_refused(file):
    """Its first unit says where the trie goes on; the replacements begin behind its size."""
    data = (FOLDER / "marian" / file).read_bytes()
    charsmap = read_model(data).charsmap
    for wrong in (b"\xff" * len(charsmap), charsmap[:4] + b"\xff" * (len(charsmap) - 4)):
        with pytest.raises(ValueError, match="SentencePiece refuses it"):
            normalizer(data.replace(charsmap, wrong))


def test_no_tokenizer_in_a_folder(tmp_path):
    with pytest.raises(InputError, match="has no tokenizer.\n  Looked for tokenizer.json"):
        Tokenizer.from_pretrained(tmp_path)
    with pytest.raises(InputError, match="is not a folder"):
        Tokenizer.from_pretrained(tmp_path / "none")
