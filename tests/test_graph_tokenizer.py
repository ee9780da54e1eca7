"""GraphTokenizer against tiktoken, string by string, and in a process with TensorFlow alone."""

import csv
import itertools
import json
import random
import textwrap

import hypothesis
import hypothesis.strategies as st
import keras
import pytest
import tensorflow as tf
import tiktoken
import warm

from tfx_transformer.errors import InputError
from tfx_transformer.export.graph_tokenizer import GraphTokenizer, _re2_pattern
from tfx_transformer.text.tokenizer import FINE_PATTERN, PATTERN, Tokenizer

CORPUS = [
    "Don't count the cats: they've counted you, and they'll count again at 12:30 or 2024-10-05.",
    "the theatre there, this thesis, these theses; counting, counted, counter, encounter",
    "東京都に住んでいる人は、猫が大好きです。カレーライスを食べました。東京タワーは高いです。",
    "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。",
    "Über größere Straßen läuft ein Mädchen. Её зовут Маша, ей 10 лет. 한국어도 조금 🙂🙂👍",
    "def f(x):\n    return x == 0\n\n\n        \t\tpass\r\n\r\n",
    "a\0a\0\0a\0a\0\0",
] * 3

# What texts are cut at or held together by: blanks, apostrophes, scripts, marks, joiners, bytes
# that look like other bytes; and letters that only the newer of two Unicode versions knows.
FRAGMENTS = [
    *["the", "count", "ing", "a", "Z", "'s", "'", "'ll", "’", " ", "  ", "        ", "\t", "\n"],
    *["\r\n", "\0", "\x7f", "\x80", "\xa0", "\u3000", "\u2028", "ÿ", "é", "e\u0301", "ß", "я"],
    *["東京", "猫", "々", "カレー", "ー", "ｶﾞ", "です", "ん", "、", "한국", "ไทย", "अ", "ع", "🙂"],
    *["👨‍👩‍👧", "🇯🇵", "1", "23", "４", "Ⅷ", "½", "\ufeff", "\ufffd", "\uffff", "\U0010ffff"],
    *["\u1c89", "\ua7cb", "\U0002ebf0", "\U00010d40", "\U000105c0"],
]


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(CORPUS, 500)


def test_pieces_of_one_character():
    tokenizer = Tokenizer.train(CORPUS, 400, pattern=FINE_PATTERN)
    draw = random.Random(8)
    texts = ["".join(draw.choices(FRAGMENTS, k=20)) for _ in range(50)]
    assert encoded(GraphTokenizer(tokenizer), texts) == expected(tokenizer, texts)


def test_texts_in_lower_case():
    tokenizer = Tokenizer.train(CORPUS, 400, lowercase=True)
    draw = random.Random(9)
    capitals = ["Ü", "İ", "Σ", "ΑΣ", "ΣΑ", "Я", "K", "Ⱥ", "Ⅷ", "ＡB", "ǅ", "ẞ"]
    texts = ["".join(draw.choices(FRAGMENTS + capitals * 2, k=20)) for _ in range(50)]
    ids = [tokenizer.encode(text) for text in texts]
    assert ids == expected(tokenizer, ["".join(map(str.lower, text)) for text in texts])
    graph = GraphTokenizer(tokenizer)
    assert encoded(graph, texts) == ids
    sizes = [[len(character.lower().encode()) for character in text] for text in texts]
    begins = [[0, *itertools.accumulate(row[:-1])] for row in sizes]
    assert graph.begins(tf.constant([text.encode() for text in texts])).to_list() == begins


@pytest.fixture(scope="module")
def graph(tokenizer):
    return GraphTokenizer(tokenizer)


def encoded(graph, texts):
    return graph.encode(tf.constant([text.encode() for text in texts], tf.string)).to_list()


def expected(tokenizer, texts):
    return [tokenizer.tiktoken.encode_ordinary(text) for text in texts]


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "\0",
        "a\0a\0\0",
        "\n\n \n",
        "The cats' counting: they'll count.",
        "東京タワーのカレーはＡ級です。",
        "🙂👍👨‍👩‍👧",
        "<pad><s></s>",
        " " * 10_000,
        "a" * 9_999,
        "count" * 2_000,
        "東京" * 5_000,
        "🙂" * 10_000,
        "\r\n" * 5_000,
    ],
    ids=lambda text: f"{len(text)}:{text[:8]!r}",
)
def test_single_texts(tokenizer, graph, text):
    assert encoded(graph, [text]) == expected(tokenizer, [text])


def test_a_batch_keeps_its_rows(tokenizer, graph):
    texts = ["", "cats", "", "", "東京", ""]
    assert encoded(graph, texts) == expected(tokenizer, texts)
    assert encoded(graph, []) == []
    assert graph.encode(tf.constant(["cats"])).dtype == tf.int32


def test_thousands_of_mixed_texts(tokenizer, graph):
    rng = random.Random(7)
    texts = ["".join(rng.choices(FRAGMENTS, k=rng.randrange(30))) for _ in range(5_000)]
    assert encoded(graph, texts) == expected(tokenizer, texts)


@hypothesis.given(st.lists(st.text(), max_size=5))
def test_any_texts(tokenizer, graph, texts):
    assert encoded(graph, texts) == expected(tokenizer, texts)


def test_sentences(shared_data):
    texts = []
    for name in ("enja_natural/test.csv", "multi30k_ende/val.csv"):
        with open(shared_data / "translation" / name, encoding="utf-8", newline="") as file:
            texts += [text for row in csv.DictReader(file) for text in row.values()]
    tokenizer = Tokenizer.train(texts, 2_000)
    assert encoded(GraphTokenizer(tokenizer), texts) == expected(tokenizer, texts)


def test_texts_longer_than_a_slice(tokenizer, graph):
    """The tokenizer cuts such texts before encoding, wherever the cut falls."""
    texts = ["é" * 19_999 + "counting" * 5_000, "東京タワー" * 4_000, "x" * 20_001, " " * 60_000]
    assert encoded(graph, texts) == [tokenizer.encode(text) for text in texts]


def test_input_that_is_no_utf8_counts_as_replacement_characters(tokenizer, graph):
    broken = [b"caf\xe9 \xff\xfe", b"\xe6\x9d", b"\xed\xa0\x80", b"\xc0\x80|\xf4\x90\x80\x80\xff"]
    texts = [text.decode(errors="replace") for text in broken]
    assert graph.encode(tf.constant(broken)).to_list() == expected(tokenizer, texts)


@pytest.mark.parametrize(
    "pattern",
    [
        r"\p{Han}",
        r"[\p{Katakana}ー]",
        r"\p{Hiragana}",
        r"\p{L}",
        r"\p{N}",
        r"[^ \t\r\n\p{L}\p{N}]",
    ],
)
def test_every_character_is_in_the_classes_that_tiktoken_finds_it_in(pattern):
    assert pattern in PATTERN
    every = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x110000)]))
    encoding = tiktoken.Encoding(
        "one_class",
        pat_str=pattern,
        mergeable_ranks={bytes([byte]): byte for byte in range(256)},
        special_tokens={},
    )
    matched = set(encoding.decode(encoding.encode_ordinary(every)))  # the rest is dropped
    rest = tf.strings.regex_replace(every, _re2_pattern(pattern) + "+", "").numpy().decode()
    assert rest == "".join(character for character in every if character not in matched)
    assert 0 < len(rest) < len(every)


def test_a_letter_of_a_newer_unicode_version_does_not_split_a_word():
    """U+1C89, a Cyrillic letter since Unicode 16, joins the letter before it."""
    tokens = [
        *(bytes([byte]) for byte in range(256)),
        b"\xe1\xb2",
        b"\xe1\xb2\x89",
        b"a\xe1\xb2\x89",
    ]
    ranks = {token: 3 + rank for rank, token in enumerate(tokens)}
    tokenizer = Tokenizer(ranks, {"<pad>": 0, "<s>": 1, "</s>": 2})
    assert tokenizer.encode("a\u1c89") == [261]
    assert encoded(GraphTokenizer(tokenizer), ["a\u1c89", "!\u1c89"]) == [[261], [36, 260]]


def test_a_tokenizer_without_merges():
    tokenizer = Tokenizer.train([], 259)
    ids = [tokenizer.ranks[byte] for byte in (b"a", b"\xc3", b"\xa9")]
    assert encoded(GraphTokenizer(tokenizer), ["aé"]) == [ids]


def test_decode_gives_texts_back(tokenizer, graph):
    texts = ["", "東京 cats\n", "🙂\0", " " * 100]
    ids = graph.encode(texts).to_tensor(tokenizer.padding_id)
    assert [text.decode() for text in graph.decode(ids).numpy()] == texts
    assert graph.decode(tf.zeros((0, 5), tf.int32)).shape == (0,)
    assert graph.decode(tf.zeros((2, 0), tf.int64)).numpy().tolist() == [b"", b""]


def test_decode_skips_special_ids_and_replaces_broken_characters(tokenizer, graph):
    rng = random.Random(11)
    # Bytes, most of them no whole character, and special ids in between.
    rows = [rng.choices(range(tokenizer.vocabulary_size), k=6) for _ in range(2_000)]
    rows += [rng.choices([0, 1, 2, *range(0x83, 0x103)], k=6) for _ in range(8_000)]
    texts = [text.decode() for text in graph.decode(tf.constant(rows)).numpy()]
    assert texts == [tokenizer.decode(row) for row in rows]
    assert sum("\ufffd" in text for text in texts) > 5_000


def test_decode_refuses_an_id_outside_the_vocabulary(tokenizer, graph):
    for index in (-1, tokenizer.vocabulary_size):
        with pytest.raises(tf.errors.InvalidArgumentError):
            graph.decode(tf.constant([[index]]))


def test_saved_models_run_where_only_tensorflow_is(tokenizer, graph, tmp_path):
    class Echo(tf.Module):
        def __init__(self):
            super().__init__()
            self.tokenizer = graph

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
        def serve(self, texts):
            ids = self.tokenizer.encode(texts).to_tensor(tokenizer.padding_id)
            return {"ids": ids, "texts": self.tokenizer.decode(ids)}

    module = Echo()
    signatures = {"serving_default": module.serve}
    tf.saved_model.save(module, str(tmp_path / "module"), signatures=signatures)
    archive = keras.export.ExportArchive()
    archive.track(graph)
    archive.add_endpoint("serve", module.serve)
    archive.write_out(str(tmp_path / "archive"), verbose=False)

    rng = random.Random(3)
    texts = ["", *("".join(rng.choices(FRAGMENTS, k=20)) for _ in range(50))]
    (tmp_path / "texts.json").write_text(json.dumps(texts))
    program = """
        import json, sys
        import tensorflow as tf

        texts = json.load(open("texts.json"))
        answers = []
        for name in ("module", "archive"):
            serve = tf.saved_model.load(name).signatures["serving_default"]
            answer = serve(texts=tf.constant([text.encode() for text in texts]))
            decoded = [text.decode() for text in answer["texts"].numpy()]
            answers.append([answer["ids"].numpy().tolist(), decoded])
        assert not {"tfx_transformer", "tiktoken", "tensorflow_text"} & set(sys.modules)
        print(json.dumps(answers))
    """
    result = warm.run(["-c", textwrap.dedent(program)], cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    ids = expected(tokenizer, texts)
    longest = max(map(len, ids))
    padded = [row + [tokenizer.padding_id] * (longest - len(row)) for row in ids]
    assert json.loads(result.stdout) == [[padded, texts]] * 2


@pytest.mark.parametrize(
    "pattern", [r"\w+|\W+", r" ?[^\s]+|\s+", r"\p{L}+(?!\p{N})|.", r"\p{L}+|("]
)
def test_a_pattern_that_tensorflow_reads_otherwise_is_refused(pattern):
    with pytest.raises(InputError, match="split pattern"):
        _re2_pattern(pattern)


def test_ids_that_do_not_follow_the_merges_are_refused():
    tokens = [*(bytes([byte]) for byte in range(256)), b"abc"]  # no ab and no bc
    ranks = {token: 3 + rank for rank, token in enumerate(tokens)}
    with pytest.raises(InputError, match="follow its merges"):
        GraphTokenizer(Tokenizer(ranks, {"<pad>": 0, "<s>": 1, "</s>": 2}))
