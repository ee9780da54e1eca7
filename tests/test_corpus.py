"""Unlabelled text to blocks: against tiktoken on whole texts, plain slices, and numbers by hand."""

from __future__ import annotations

import csv
import json
import os
import tracemalloc
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfx_transformer.data import corpus
from tfx_transformer.data.corpus import (
    BlockPlan,
    Piece,
    TokenFile,
    blocks,
    hold_out,
    read_corpus,
    read_documents,
    sample_prefixes,
    sample_texts,
    write_tokens,
)
from tfx_transformer.data.corpus_summary import describe_corpora, describe_corpus
from tfx_transformer.errors import InputError
from tfx_transformer.text.tokenizer import Tokenizer

SENTENCES = [
    "Yesterday it's been raining, so we'd stayed at home.\n",
    "昨日は雨でした。\r\n\r\n",
    "\tdef f(x):\n\t\treturn  x ** 2  # 2024\n\n\n",
]
END = 2


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(SENTENCES * 5, 340)


@pytest.fixture(scope="module")
def letters():
    """A tokenizer without merges: ids 3 to 258 are the bytes."""
    return Tokenizer.train([], 259)


@pytest.fixture
def write(tmp_path):
    """Writes bytes, or text as UTF-8, to a new file and returns its path."""

    def write_file(name: str, content: bytes | str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write_file


def documents_of(paths, *arguments, **options) -> list[tuple[str, str]]:
    """Name of the file and text of every document, its pieces joined."""
    documents, text = [], ""
    for piece in read_documents(paths, *arguments, **options):
        text += piece.text
        if piece.last:
            documents.append((Path(piece.path).name, text))
            text = ""
    assert not text, "the last document ends"
    return documents


def message_of(paths, *arguments, **options) -> str:
    with pytest.raises(InputError) as caught:
        list(read_documents(paths, *arguments, **options))
    message = str(caught.value)
    assert all(line.startswith("  ") for line in message.split("\n")[1:])
    assert "\n" in message, "a remedy follows"
    return message


# Reading


def test_a_text_file_is_one_document_with_its_line_ends(write):
    text = "one\r\ntwo\rthree\n\n \u3000\u2028\ufeff\x0cfour"
    assert documents_of(write("a.log", text)) == [("a.log", text)]
    assert documents_of(str(write("bom.txt", b"\xef\xbb\xbf" + text.encode()))) == [
        ("bom.txt", text)
    ]


def test_a_folder_is_its_texts_sorted_by_path(write, tmp_path):
    for name in ("b.txt", "a/z.md", "a/k.TXT", "c.py", "a/data.csv", "d.txt/x.md"):
        write(name, name)
    names = ["a/k.TXT", "a/z.md", "b.txt", "d.txt/x.md"]
    assert [text for _, text in documents_of(tmp_path)] == names
    assert [text for _, text in documents_of([tmp_path / "c.py", tmp_path / "a"])] == [
        "c.py",
        "a/k.TXT",
        "a/z.md",
    ]


def test_paths_may_be_separated_by_commas(write):
    first, second, third = (write(name, name) for name in ("1.txt", "2.txt", "3,4.txt"))
    assert documents_of(f"{first}, {second},") == [("1.txt", "1.txt"), ("2.txt", "2.txt")]
    assert documents_of(str(third)) == [("3,4.txt", "3,4.txt")]
    assert len(documents_of([first, str(third)])) == 2


def test_a_row_of_a_csv_is_a_document(write, tmp_path):
    path = tmp_path / "posts.csv"
    texts = ["line\r\n\r\nline, and", "NA", "猫" * 50_003]
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["id", "body"], *enumerate(texts)])
    assert documents_of(path, "body") == [("posts.csv", text) for text in texts]
    with path.open("a") as file:
        file.write("4,\n5,last\n")
    assert "row 5: column 'body' is empty" in message_of(path, "body")
    assert [text for _, text in documents_of(path, "body", skip_bad_rows=True)] == [*texts, "last"]


def test_cuts_by_hand(write):
    def pieces(text):
        with mock.patch.object(corpus, "SLICE", 7):
            return [piece[:2] for piece in read_documents(write("cut.txt", text))]

    # Before the last gap, all of it: a run of blanks and line ends is not torn.
    assert pieces("ab cd ef gh") == [("ab cd", False), (" ef gh", True)]
    assert pieces("abcde \n\n f") == [("abcde", False), (" \n\n f", True)]
    # No gap, or one at the beginning only: anywhere.
    assert pieces("abcdefghi") == [("abcdefg", False), ("hi", True)]
    assert pieces("\nabcdefghi") == [("\nabcdef", False), ("ghi", True)]
    # A document that ends with a piece ends once.
    assert pieces("abcdefg") == [("abcdefg", False), ("", True)]
    assert pieces("abcdef") == [("abcdef", True)]


@given(st.text(st.sampled_from("ab 猫🙂\t\r\n\x0b'1!")), st.integers(1, 30))
def test_pieces_are_short_and_join_to_the_text(tmp_path_factory, text, size):
    path = tmp_path_factory.getbasetemp() / "pieces.txt"
    path.write_bytes(b"x" + text.encode())
    with mock.patch.object(corpus, "SLICE", size):
        pieces = list(read_documents(path))
    assert "".join(piece.text for piece in pieces) == "x" + text
    assert all(len(piece.text) <= size for piece in pieces)
    assert [piece.last for piece in pieces] == [False] * (len(pieces) - 1) + [True]


gaps = st.text(" \t\r\n", min_size=1, max_size=4)
words = st.text("ab猫ー。'sな1!\x0b🙂", min_size=1, max_size=9)


@given(st.lists(st.tuples(gaps, words), min_size=1), st.integers(4 + 9, 40))
def test_ids_do_not_depend_on_the_cuts(tmp_path_factory, tokenizer, stretches, size):
    text = "".join(gap + word for gap, word in stretches)
    path = tmp_path_factory.getbasetemp() / "ids.txt"
    path.write_bytes(text.encode())
    with mock.patch.object(corpus, "SLICE", size):
        tokens = write_tokens(read_documents(path), tokenizer, path.with_suffix(".bin"))
    whole = [*tokenizer.tiktoken.encode_ordinary(text), END]
    assert tokens.array().tolist() == whole
    assert (tokens.tokens, tokens.bytes, tokens.documents) == (len(whole), len(text.encode()), 1)


# Files that are no text


def test_what_is_no_text_is_named(write, tmp_path):
    assert message_of(write("empty.txt", "")).startswith(f"{tmp_path}/empty.txt: the file is empty")
    assert "the file is empty" in message_of(write("mark.txt", b"\xef\xbb\xbf"))
    assert f"{tmp_path}/none.txt: there is no such file" in message_of(tmp_path / "none.txt")
    assert "there is no such file" in message_of("a\0b")
    (tmp_path / "folder").mkdir()
    assert f"{tmp_path}/folder: there is no .txt or .md file" in message_of(tmp_path / "folder")
    for nothing in ("", " , ", []):
        assert "no text is named" in message_of(nothing)


def test_a_csv_needs_a_column(write):
    path = write("a.csv", "id,body,更新\n1,,3\n")
    columns = "The columns there are: 'id', 'body', '更新'."
    assert message_of(path).startswith(f"{path}: which column holds the text?\n  {columns}")
    assert f"there is no column 'text'.\n  {columns}" in message_of(path, "text")


def test_all_paths_are_looked_for_before_any_is_read(write):
    with pytest.raises(InputError, match="none"):
        next(read_documents(f"{write('a.txt', 'a')},none.txt"))


@pytest.mark.parametrize(
    ("content", "where"),
    [
        ("一行\n二行と".encode() + b"\x8a\n", "line 2: not UTF-8 text, from byte 16 "),
        ("一行\n二行".encode("cp932"), "line 1: not UTF-8 text, from byte 0 "),
        ("text\n".encode("utf-16"), "line 1: not UTF-8 text, from byte 0 "),
        ("text\n".encode("utf-16-le"), "line 1: a NUL character, byte 1 "),
        ("猫".encode()[:2], "line 1: not UTF-8 text, from byte 0 "),
        (b"\x89PNG\r\n\x1a\n" + bytes(99), "line 1: not UTF-8 text, from byte 0 "),
        (b"a\n" * 50_000 + b"\0", "line 50001: a NUL character, byte 100000 "),
        (b"\xef\xbb\xbfa\n\xff", "line 2: not UTF-8 text, from byte 5 "),
    ],
)
def test_what_is_not_utf8_is_named_by_line_and_byte(write, content, where):
    path = write("it's.txt", content)
    message = message_of(path)
    assert message.startswith(f"{path}, {where}of the file")
    assert "\n  If the file is not text, leave it out." in message


@pytest.mark.parametrize("codec", ["cp932", "euc_jp", "utf-16", "utf-16-le", "utf-32"])
def test_a_text_in_another_encoding_is_converted_as_the_message_says(write, converted, codec):
    text = "一行\nひらがなとカタカナ\n"
    path = converted(message_of(write("it's.txt", f"abc{text}".encode(codec))))
    assert path.read_text(encoding="utf-8") == f"abc{text}"


@given(st.lists(st.sampled_from([b"a", b"\n", "猫".encode(), b"\xe7\x8c", b"\xff", b"\0"])))
def test_broken_bytes_are_found_where_python_finds_them(tmp_path_factory, parts):
    content = b"x" + b"".join(parts)
    path = tmp_path_factory.getbasetemp() / "broken.txt"
    path.write_bytes(content)
    bad = [content.index(0)] if 0 in content else []
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        bad.append(error.start)
    with mock.patch.object(corpus, "SLICE", 3):
        if not bad:
            assert documents_of(path) == [("broken.txt", text)]
            return
        message = message_of(path)
    assert f"byte {min(bad)} of the file" in message
    line = 1 + content[: min(bad)].count(10)
    assert f", line {line}: " in message
    byte = content[min(bad)]
    assert ("a NUL character, byte" if byte == 0 else f"(0x{byte:02x})") in message


# Samples for a tokenizer


def test_a_small_corpus_is_sampled_whole(write, tmp_path):
    texts = {f"{name}.txt": "word \n" * 7 * (name + 1) for name in range(5)}
    for name, text in texts.items():
        write(name, text)
    total = sum(map(len, texts.values()))
    assert "".join(sample_texts(tmp_path, limit_bytes=total)) == "".join(texts.values())
    assert Tokenizer.train(sample_texts(tmp_path), 270).vocabulary_size > 259


def test_every_file_has_its_share_of_a_sample(write, tmp_path):
    with mock.patch.object(corpus, "SLICE", 50):
        for name, character in (("a", "x"), ("b", "y"), ("c", "猫")):
            write(f"{name}.txt", f"{character * 4} " * 500)
        total = 2 * 2500 + 6500
        for limit in (500, 1777, total - 1):
            sample = "".join(sample_texts(tmp_path, limit_bytes=limit))
            assert limit - 150 < len(sample.encode()) <= limit + 150, "a piece more, or less"
            for character, size in (("x", 2500), ("y", 2500), ("猫", 6500)):
                share = sample.count(character) / 2000
                assert abs(share * size - limit * size / total) < 200


def test_a_fault_in_the_corpus_reaches_the_user_through_training(write):
    with pytest.raises(InputError, match="NUL"):
        Tokenizer.train(sample_texts(write("a.txt", "a\0")), 300)


# Token files


def test_a_token_file_by_hand(letters, tmp_path):
    a, b, e1, e2 = (letters.ranks[bytes([byte])] for byte in b"ab\xc3\xa9")
    pieces = [
        Piece("a", False, "1"),
        Piece("b", True, "1"),
        Piece("é", False, "2"),
        Piece("", True, "2"),
    ]
    tokens = write_tokens(iter(pieces), letters, tmp_path / "ids")
    assert tokens == TokenFile(tmp_path / "ids", "uint16", 6, 4, 2, ("1", "2"))
    assert tokens.array().tolist() == [a, b, END, e1, e2, END]
    assert tokens.bytes_per_token == 4 / 6
    assert (tmp_path / "ids").stat().st_size == 12
    assert not tokens.array().flags.writeable


@pytest.mark.parametrize(("size", "dtype"), [(65_536, "uint16"), (65_537, "uint32")])
def test_ids_have_the_smallest_type_that_holds_them(tmp_path, size, dtype):
    ranks = {bytes([byte]): 3 + byte for byte in range(256)}
    ranks[b"ab"] = size - 1
    tokenizer = Tokenizer(ranks, {"<pad>": 0, "<s>": 1, "</s>": 2})
    tokens = write_tokens([Piece("ab", True, "")], tokenizer, tmp_path / "ids")
    assert (tokens.dtype, tokens.array().tolist()) == (dtype, [size - 1, END])


def test_a_failure_leaves_what_was_there(letters, tmp_path):
    path = tmp_path / "ids"
    path.write_bytes(b"old")

    def broken():
        yield Piece("a", True, "1")
        raise InputError("here")

    with pytest.raises(InputError, match="here"):
        write_tokens(broken(), letters, path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_long_text_takes_little_memory(tokenizer, tmp_path):
    path = tmp_path / "long.txt"
    with path.open("w", encoding="utf-8", newline="") as file:
        for _ in range(250):
            file.write("猫 and some dogs \r\n" * 1_000)
    write_tokens([Piece("warm", True, "")], tokenizer, tmp_path / "ids")
    tracemalloc.start()
    try:
        tokens = write_tokens(read_documents(path), tokenizer, tmp_path / "ids")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert tokens.bytes == path.stat().st_size == 5_000_000
    assert peak < 1_500_000


def test_real_text_comes_back(shared_data, tmp_path):
    files = [shared_data / "lm" / f"{name}_val.txt" for name in ("neko_ja", "tinyshakespeare")]
    texts = [path.read_bytes() for path in files]
    tokenizer = Tokenizer.train(sample_texts(files), 1000)
    tokens = write_tokens(read_documents(files), tokenizer, tmp_path / "ids")
    ids = tokens.array()
    assert tokenizer.decode_bytes(ids) == b"".join(texts)
    assert (tokens.bytes, tokens.documents) == (sum(map(len, texts)), 2)
    assert tokens.files == tuple(map(str, files))
    whole = [tokenizer.tiktoken.encode_ordinary(text.decode()) for text in texts]
    assert ids.tolist() == [*whole[0], END, *whole[1], END]


@pytest.mark.parametrize("cut", [lambda path: os.truncate(path, 5), os.unlink])
def test_a_token_file_that_was_cut_short_is_named(letters, tmp_path, cut):
    tokens = write_tokens([Piece("abc", True, "")], letters, tmp_path / "ids")
    assert tokens.array().tolist()[-1] == letters.end_id
    cut(tokens.path)
    with pytest.raises(InputError, match="ids: the file of token ids is gone or was cut short"):
        tokens.array()


# Holding out


@given(st.lists(st.text(max_size=9), min_size=1, max_size=9), st.floats(0.001, 0.999))
def test_held_out_is_the_end_and_its_figures_are_exact(tmp_path_factory, tokenizer, texts, share):
    path = tmp_path_factory.getbasetemp() / "held"
    texts = [f"it's {text}" for text in texts]
    tokens = write_tokens([Piece(text, True, "") for text in texts], tokenizer, path)
    with mock.patch.object(corpus, "_CHUNK_IDS", 7):
        training, validation = hold_out(tokens, share, tokenizer)
    ids = tokens.array().tolist()
    assert validation.tokens == max(round(share * len(ids)), 2)
    for part, expected in (
        (training, ids[: -validation.tokens]),
        (validation, ids[-validation.tokens :]),
    ):
        assert part.tokens == len(expected)
        assert part.bytes == len(tokenizer.decode_bytes(expected))
        assert part.documents == expected.count(END)
        assert not expected or part.array().tolist() == expected
    # What is held out can be divided again.
    halves = hold_out(validation, 0.5, tokenizer)
    assert halves[1].array().tolist() == ids[-halves[1].tokens :]


@pytest.mark.parametrize("share", [0, 1, -0.1, float("nan")])
def test_a_share_is_between_none_and_all(share, letters, tmp_path):
    tokens = write_tokens([Piece("abc", True, "")], letters, tmp_path / "ids")
    with pytest.raises(InputError, match="the share to hold out is"):
        hold_out(tokens, share, letters)


# Blocks


def counting(path, tokens, start=0):
    """A token file in which each id is its own place, after `start` ids that are not in it."""
    path.unlink(missing_ok=True)  # not written over: an earlier data set may still map it
    np.arange(tokens + start, dtype="uint16").tofile(path)
    return TokenFile(path, "uint16", tokens, tokens, 0, ("a.txt",), start)


def epoch_of(dataset):
    """Every batch of an epoch without the rows that fill up the last one."""
    batches, shapes = [], set()
    for inputs, labels, weights in dataset:
        arrays = [inputs["token_ids"].numpy(), labels.numpy(), weights.numpy()]
        filled = arrays[2].any(axis=1)
        count = filled.sum()
        assert filled[:count].all() and not any(array[count:].any() for array in arrays)
        shapes.add(arrays[0].shape)
        batches.append(tuple(array[:count] for array in arrays))
    assert len(shapes) <= 1, "a step is compiled once"
    return batches


def test_validation_by_hand(tmp_path):
    tokens = counting(tmp_path / "ids", 9, start=100)
    dataset = blocks(tokens, length=3, batch_size=2, shuffle=False)
    assert len(dataset) == 2
    first, second = epoch_of(dataset)
    assert [t.tolist() for t in first] == [
        [[100, 101, 102], [103, 104, 105]],
        [[101, 102, 103], [104, 105, 106]],
        [[1, 1, 1], [1, 1, 1]],
    ]
    assert [t.tolist() for t in second] == [[[106, 107, 108]], [[107, 108, 0]], [[1, 1, 0]]]
    assert [t.dtype for t in first] == ["int32", "int32", "float32"]


@given(st.integers(2, 60), st.integers(1, 13), st.integers(1, 5))
@settings(max_examples=20)
def test_validation_predicts_every_token_but_the_first_once(
    tmp_path_factory, count, length, batch_size
):
    tokens = counting(tmp_path_factory.getbasetemp() / "validation", count)
    dataset = blocks(tokens, length=length, batch_size=batch_size, shuffle=False)
    batches = epoch_of(dataset)
    inputs, labels, weights = (np.concatenate(arrays) for arrays in zip(*batches, strict=True))
    assert labels[weights == 1].tolist() == list(range(1, count))
    assert inputs[weights == 1].tolist() == list(range(count - 1))
    assert not labels[weights == 0].any() and weights.sum() == count - 1
    assert weights.any(axis=1).all(), "no block of padding only"
    assert len(batches) == len(dataset)


@pytest.mark.parametrize("count", [103, 98, 14, 13, 8])
def test_training_blocks_are_slices_of_the_text(tmp_path, count):
    text = list(range(count))
    dataset = blocks(counting(tmp_path / "ids", count), length=7, batch_size=3, seed=5)
    for _ in range(3):
        batches = epoch_of(dataset)
        assert [len(inputs) for inputs, _, _ in batches if len(inputs) != 3] in ([], [1], [2])
        inputs, labels, weights = (np.concatenate(arrays) for arrays in zip(*batches, strict=True))
        offset = inputs.min()
        expected = [text[i : i + 8] for i in range(offset, count, 7)][: len(inputs)]
        assert 0 <= offset < 7
        assert sorted(inputs.tolist()) == [window[:-1] for window in expected]
        assert sorted(labels.tolist()) == [window[1:] for window in expected]
        assert weights.tolist() == [[1] * 7] * len(inputs)
        # At most what the offset takes at the beginning is left over at the end.
        assert len(inputs) == max((count - 7) // 7, 1)


@given(
    st.integers(1, 40).flatmap(lambda n: st.tuples(st.just(n), st.integers(n + 1, 400))),
    st.integers(1, 9),
    st.integers(0, 99),
    st.integers(0, 99),
)
def test_a_plan_is_a_pure_function_of_seed_and_epoch(size, batch_size, seed, epoch):
    length, tokens = size
    plan = BlockPlan(tokens, length, batch_size, seed=seed)
    batches = plan.order(epoch)
    starts = np.sort(np.concatenate(batches))
    assert len(batches) == len(plan)
    assert len(starts) == len(plan.lengths), "as many in every epoch"
    assert set(np.diff(starts)) <= {length}
    assert 0 <= starts[0] < length and starts[-1] + length < tokens
    again = BlockPlan(tokens, length, batch_size, seed=seed)
    again.order(epoch + 1)
    for ours, theirs in zip(batches, again.order(epoch), strict=True):
        assert ours.tolist() == theirs.tolist()


def test_borders_move_from_epoch_to_epoch():
    plan = BlockPlan(1009, 11, 4)
    offsets = [np.concatenate(plan.order(epoch)).min() for epoch in range(200)]
    assert set(offsets) == set(range(11)), "every offset occurs"
    other = BlockPlan(1009, 11, 4, seed=1)
    assert offsets != [np.concatenate(other.order(epoch)).min() for epoch in range(200)]


def test_each_iteration_is_the_next_epoch(tmp_path):
    tokens = counting(tmp_path / "ids", 211)
    dataset = blocks(tokens, length=5, batch_size=4, seed=3)
    plan = BlockPlan(211, 5, 4, seed=3)
    for epoch in range(3):
        starts = [inputs[:, 0].tolist() for inputs, _, _ in epoch_of(dataset)]
        assert starts == [batch.tolist() for batch in plan.order(epoch)]


def test_a_batch_reads_only_its_windows(tmp_path):
    path = tmp_path / "sparse"
    count = 100_000_007
    with path.open("wb") as file:
        file.truncate(4 * count)
        file.seek(4 * (count - 1))
        file.write(np.uint32(70_001).tobytes())
    tokens = TokenFile(path, "uint32", count, 0, 0, ("a.txt",))
    length = 10_007
    with mock.patch.object(BlockPlan, "order", lambda plan, epoch: [np.array([count - 9])]):
        dataset = blocks(tokens, length=length, batch_size=1, shuffle=False).take(1)
        tracemalloc.start()
        try:
            ((_, labels, weights),) = epoch_of(dataset)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert labels[0, 6:9].tolist() == [0, 70_001, 0]
    assert weights.sum() == 8
    assert peak < 4_000_000


@pytest.mark.parametrize("shuffle", [True, False])
def test_hosts_read_their_rows_of_each_batch(tmp_path, shuffle):
    tokens = counting(tmp_path / "ids", 7 * 35 + 3)
    dataset = blocks(tokens, length=7, batch_size=5, shuffle=shuffle, seed=4)
    whole = list(dataset.from_step(0).take(len(dataset)))
    for host in range(3):
        parts = iter(dataset.from_step(0, host, 3))
        for (inputs, *others), (own_inputs, *own_others) in zip(whole, parts, strict=False):
            arrays = [inputs["token_ids"], *others]
            for array, own in zip(arrays, [own_inputs["token_ids"], *own_others], strict=True):
                np.testing.assert_array_equal(own, array[host::3])


def test_a_text_shorter_than_a_block(tmp_path):
    tokens = counting(tmp_path / "ids", 7)
    with pytest.raises(InputError, match="has 7 tokens: too few for blocks of length 7.\n.* 8 are"):
        blocks(tokens, length=7, batch_size=2)
    assert len(blocks(tokens, length=6, batch_size=2)) == 1
    # Validation pads what is short, but needs something to predict.
    assert len(blocks(tokens, length=7, batch_size=2, shuffle=False)) == 1
    with pytest.raises(InputError, match="has 1 tokens"):
        blocks(counting(tmp_path / "one", 1), length=7, batch_size=2, shuffle=False)
    with pytest.raises(InputError, match="length of a block is 0"):
        blocks(tokens, length=0, batch_size=2)
    with pytest.raises(InputError, match="batch_size is 0"):
        blocks(tokens, length=3, batch_size=0)


# Figures


def test_figures(letters, write, tmp_path):
    files = [write("a.txt", "abcé\n" * 20), write("b.txt", "x" * 78)]
    tokens = write_tokens(read_documents(files), letters, tmp_path / "ids")
    training, validation = hold_out(tokens, 0.25, letters)
    summary = describe_corpus("training", training, length=7, batch_size=5)
    # 120 + 1 and 78 + 1 tokens; 50 held out; one block less than fits, to have room to move.
    assert summary.to_dict() == {
        "name": "training",
        "path": str(files[0]),
        "files": 2,
        "documents": 1,
        "bytes": 149,
        "tokens": 150,
        "start": 0,
        "bytes_per_token": 0.9933,
        "length": 7,
        "blocks": 20,
        "steps": 4,
        "bad_rows": 0,
    }
    json.dumps(summary.to_dict())
    assert summary.lines() == [
        f"training    {files[0]} and 1 more file",
        "  text      149 bytes, 1 document",
        "  tokens    150, 0.99 bytes each",
        "  blocks    20 of length 7; 4 steps an epoch",
    ]
    lines = describe_corpus("validation", validation, length=7, batch_size=7).lines()
    assert lines[0] == f"validation  the end of {files[0]} and 1 more file"
    assert lines[3] == "  blocks    7 of length 7; 1 step an epoch"


def test_rows_left_out_are_listed(letters, write, tmp_path):
    """In both parts, whether they are of one file or of two."""
    text = "text\n" + "abc abc abc\n" * 40 + '""\n' + "abc\n" * 9
    file = write("a.csv", text)
    train, held_out = read_corpus(
        file, letters, tmp_path, column="text", share=0.2, skip_bad_rows=True
    )
    assert [bad.row for bad in train.bad_rows] == [42]
    assert held_out.bad_rows is train.bad_rows
    assert describe_corpora(train, held_out, 5, 3)[0].bad_rows == 1
    train, held_out = read_corpus(
        write("b.csv", "text\nabc\nabcabcab\n"),
        letters,
        tmp_path,
        column="text",
        validation=file,
        skip_bad_rows=True,
    )
    assert not train.bad_rows and [bad.row for bad in held_out.bad_rows] == [42]
    assert train.path != held_out.path
    with pytest.raises(InputError, match="row 42"):
        read_corpus(file, letters, tmp_path, column="text")


def test_beginnings_are_of_the_text(letters, write, tmp_path):
    lines = [f"{word} stands here and goes on to the end of its line" for word in "abcdefgh"]
    text = "\n".join(lines)
    tokens = write_tokens(read_documents(write("a.txt", text)), letters, tmp_path / "ids")
    found = sample_prefixes(tokens, letters, count=5, length=9)
    assert 1 < len(found) <= 5 and len(set(found)) == len(found)
    for beginning in found:
        assert beginning in text and 0 < len(letters.encode(beginning)) <= 9
