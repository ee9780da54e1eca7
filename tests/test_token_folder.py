"""A corpus tokenized once: against `write_tokens`, sets of shingles, and a killed writing."""

from __future__ import annotations

import concurrent.futures
import itertools
import json
import pickle
import pickletools
import tempfile
import zipfile
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import ClassVar
from unittest import mock

import fsspec
import numpy as np
import pandas
import pyarrow
import pytest
from pyarrow import ipc

from tfx_transformer.data import remote, token_encoding, token_writer
from tfx_transformer.data.corpus import Piece, read_documents, write_tokens
from tfx_transformer.data.near_duplicates import band_keys, signature
from tfx_transformer.data.token_folder import read_token_folder
from tfx_transformer.data.token_writer import Source, TokenWriter
from tfx_transformer.errors import InputError
from tfx_transformer.text.tokenizer import Tokenizer

END = 2


@pytest.fixture(scope="module")
def letters(tmp_path_factory):
    """The file of a tokenizer without merges: ids 3 to 258 are the bytes."""
    path = tmp_path_factory.mktemp("letters") / "tokenizer.json"
    Tokenizer.train([], 259).save(path)
    return path


def rows(path, texts):
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), "utf-8")
    return str(path)


def written(folder, tokenizer, *sources, **options):
    writer = TokenWriter(folder, tokenizer, [Source(*s) for s in sources], column="text", **options)
    return writer.write()


def texts_of(folder, name="training.bin"):
    ids = np.fromfile(folder / name, "uint16")
    tokenizer = Tokenizer.load(folder / "tokenizer.json")
    parts = np.split(ids, np.flatnonzero(ids == END) + 1)[:-1]
    return [tokenizer.decode(part[:-1].tolist()) for part in parts]


def test_ids_are_those_of_write_tokens(letters, tmp_path):
    source = rows(tmp_path / "a.jsonl", ["warm 猫", "cold", "a" * 45_001])
    index = written(tmp_path / "out", letters, (source,))
    tokenizer = Tokenizer.load(letters)
    expected = write_tokens(read_documents(source, "text"), tokenizer, tmp_path / "ids")
    assert (tmp_path / "out/training.bin").read_bytes() == (tmp_path / "ids").read_bytes()
    counts = index["training"]
    assert counts["tokens"] == expected.tokens == 8 + 4 + 45_001 + 3
    assert (counts["bytes"], counts["documents"]) == (expected.bytes, 3) == (45_013, 3)
    train, held = read_token_folder(tmp_path / "out", tokenizer, 0.1)
    assert train.tokens + held.tokens == expected.tokens
    assert held.tokens == round(0.1 * expected.tokens)


def test_tables_of_other_formats_give_the_same_ids(letters, tmp_path):
    texts = ["warm 猫", "cold\nand wet", "one"]
    sources = [rows(tmp_path / "a.jsonl", texts), str(tmp_path / "b.parquet"), str(tmp_path / "c")]
    pandas.DataFrame({"text": texts}).to_parquet(sources[1])
    # As `Dataset.save_to_disk` of Hugging Face's datasets writes it.
    folder = tmp_path / "c"
    folder.mkdir()
    table = pyarrow.table({"text": texts})
    with ipc.new_stream(folder / "data-00000-of-00001.arrow", table.schema) as stream:
        stream.write_table(table)
    files = [{"filename": "data-00000-of-00001.arrow"}]
    (folder / "state.json").write_text(json.dumps({"_data_files": files}), "utf-8")
    (folder / "dataset_info.json").write_text("{}", "utf-8")
    ids = []
    for number, source in enumerate(sources):
        written(tmp_path / f"out{number}", letters, (source,))
        assert texts_of(tmp_path / f"out{number}") == texts
        ids.append((tmp_path / f"out{number}/training.bin").read_bytes())
    assert ids[1:] == ids[:1] * 2
    counts = written(tmp_path / "all", letters, *((source,) for source in sources))["training"]
    assert (counts["documents"], counts["duplicates"]) == (3, 6)


def test_duplicates_and_validation_texts_are_left_out_and_counted(letters, tmp_path):
    source = rows(tmp_path / "a.jsonl", ["one", "two", "one", "three", "two", "one"])
    held = rows(tmp_path / "v.jsonl", ["three", "four"])
    index = written(tmp_path / "out", letters, (source,), validation=held)
    assert texts_of(tmp_path / "out") == ["one", "two"]
    assert texts_of(tmp_path / "out", "validation.bin") == ["three", "four"]
    counts = index["training"]
    assert (counts["duplicates"], counts["in_validation"], counts["documents"]) == (3, 1, 2)
    train, validation = read_token_folder(tmp_path / "out", Tokenizer.load(letters))
    assert (train.documents, validation.documents, validation.tokens) == (2, 2, 11)


def test_a_weight_is_how_often_a_document_is_written(letters, tmp_path):
    first = [f"first {n}" for n in range(400)]
    second = ["second", "third"]
    sources = [(rows(tmp_path / "a.jsonl", first), 0.25), (rows(tmp_path / "b.jsonl", second), 3)]
    written(tmp_path / "out", letters, *sources)
    texts = texts_of(tmp_path / "out")
    assert texts[-6:] == second * 3
    kept = texts[:-6]
    assert len(set(kept)) == len(kept) and set(kept) < set(first)
    assert abs(len(kept) - 100) < 35  # four standard deviations of a binomial


def test_an_interrupted_writing_ends_with_the_same_bytes(letters, tmp_path, monkeypatch):
    monkeypatch.setattr(token_encoding, "_COMPARED_CHARACTERS", 20_000)  # "z…" has three parts
    texts = [f"document {n % 23} of {n % 7}" for n in range(60)] + ["z" * 45_000, "end"]
    sources = [(rows(tmp_path / "a.jsonl", texts), 2), (rows(tmp_path / "b.jsonl", texts[:20]), 1)]
    written(tmp_path / "whole", letters, *sources)
    expected = (tmp_path / "whole/training.bin").read_bytes()

    class Killed(BaseException):
        pass

    # Every part is recorded, until the process is killed with one part more than recorded.
    with (
        mock.patch.object(token_writer, "_RECORD_SECONDS", 0),
        mock.patch.object(token_encoding, "_TASK_CHARACTERS", 50),
        mock.patch.object(token_writer.os, "fsync"),  # a power cut is not tried here
    ):
        for lives in (1, 9, 30, 61):
            writer = TokenWriter(
                tmp_path / "out", letters, [Source(*s) for s in sources], column="text"
            )
            record, left = writer._record, iter(range(lives))

            def dying(ids, keys, settings, record=record, left=left):
                if next(left, None) is None:
                    ids.flush()
                    keys.flush()
                    raise Killed
                record(ids, keys, settings)

            with mock.patch.object(writer, "_record", dying), pytest.raises(Killed):
                writer.write()
        with pytest.raises(InputError, match="interrupted"):
            read_token_folder(tmp_path / "out", Tokenizer.load(letters))
        with pytest.raises(InputError, match="other settings"):
            written(tmp_path / "out", letters, *sources, near=True)
    index = written(tmp_path / "out", letters, *sources)
    assert (tmp_path / "out/training.bin").read_bytes() == expected
    whole = json.loads((tmp_path / "whole/tokens.json").read_text())
    assert index["training"] == whole["training"]
    with pytest.raises(InputError, match="tokens already"):
        written(tmp_path / "out", letters, *sources)


def test_a_document_that_weight_leaves_out_has_no_duplicates(letters, tmp_path):
    texts = [f"text {n}" for n in range(50)]
    first, second = rows(tmp_path / "a.jsonl", texts), rows(tmp_path / "b.jsonl", texts)
    index = written(tmp_path / "out", letters, (first, 0.5), (second, 1))
    assert sorted(texts_of(tmp_path / "out")) == sorted(texts)
    counts = index["training"]
    assert 0 < counts["thinned"] == 50 - counts["duplicates"] < 50


def test_a_folder_may_be_within_its_source(letters, tmp_path):
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (corpus / "a.txt").write_text("one", "utf-8")
    killed = mock.patch.object(TokenWriter, "_write_training", side_effect=KeyboardInterrupt)
    with killed, pytest.raises(KeyboardInterrupt):
        written(corpus / "out", letters, (str(corpus),))
    assert written(corpus / "out", letters, (str(corpus),))["training"]["tokens"] == 4


def test_the_tokenizer_may_be_that_of_a_checkpoint(letters, tmp_path):
    text = letters.read_text("utf-8")
    for name, other in (("<pad>", "<|a|>"), ("<s>", "<|b|>"), ("</s>", "<|endoftext|>")):
        text = text.replace(f'"{name}"', f'"{other}"')
    checkpoint = tmp_path / "gpt"
    checkpoint.mkdir()
    (checkpoint / "tokenizer.json").write_text(text, "utf-8")
    written(tmp_path / "out", checkpoint, (rows(tmp_path / "a.jsonl", ["one", "two"]),))
    assert np.fromfile(tmp_path / "out/training.bin", "uint16")[3::4].tolist() == [END, END]
    of_base = Tokenizer.from_pretrained(checkpoint)
    of_new_model = Tokenizer.load(tmp_path / "out/tokenizer.json")
    for tokenizer in (of_base, of_new_model):
        train, held_out = read_token_folder(tmp_path / "out", tokenizer)
        assert train.tokens + held_out.tokens == 8


def test_files_of_something_else_are_not_overwritten(letters, tmp_path):
    source = rows(tmp_path / "a.jsonl", ["one"])
    for name in ("training.bin", "tokenizer.json"):
        folder = tmp_path / name.partition(".")[0]
        folder.mkdir()
        (folder / name).write_bytes(b"of a run")
        with pytest.raises(InputError, match="not of an interrupted writing"):
            written(folder, letters, (source,))
        assert [path.name for path in folder.iterdir()] == [name]
        assert (folder / name).read_bytes() == b"of a run"


def test_a_damaged_interruption_is_refused(letters, tmp_path):
    source = rows(tmp_path / "a.jsonl", ["one", "two"])
    finish = mock.patch.object(Tokenizer, "save", side_effect=KeyboardInterrupt)
    with finish, pytest.raises(KeyboardInterrupt):
        written(tmp_path / "out", letters, (source,))
    ids = (tmp_path / "out/training.bin").read_bytes()
    (tmp_path / "out/training.bin").unlink()
    with pytest.raises(InputError, match="cut short"):
        written(tmp_path / "out", letters, (source,))
    (tmp_path / "out/training.bin").write_bytes(ids)
    record = (tmp_path / "out/.progress.json").read_text()
    (tmp_path / "out/.progress.json").write_text('{"settings": 1}')
    with pytest.raises(InputError, match="not the record"):
        written(tmp_path / "out", letters, (source,))
    (tmp_path / "out/.progress.json").write_text(record)
    written(tmp_path / "out", letters, (source,))
    assert texts_of(tmp_path / "out") == ["one", "two"]


def test_after_an_error_at_the_beginning_other_settings_may_begin(letters, tmp_path):
    source = rows(tmp_path / "a.jsonl", ["one"])
    with pytest.raises(InputError, match="no such file"):
        written(tmp_path / "out", letters, (str(tmp_path / "b.jsonl"),))
    written(tmp_path / "out", letters, (source,))
    assert texts_of(tmp_path / "out") == ["one"]


def test_a_killed_process_is_reported_with_a_remedy(letters):
    message = "fewer --processes"
    with pytest.raises(InputError, match=message), token_encoding.encoder(letters, "u2", False, 2):
        raise BrokenProcessPool


@pytest.mark.slow
def test_two_processes_write_the_same_bytes(letters, tmp_path):
    source = (rows(tmp_path / "a.jsonl", [f"{n} " * 30_000 for n in range(30, 40)]),)
    for number in (1, 2):
        written(tmp_path / str(number), letters, source, processes=number)
    first, second = ((tmp_path / n / "training.bin").read_bytes() for n in ("1", "2"))
    assert first == second


class _Pool:
    """A pool of processes that is this process; `sent` is what it would exchange with them."""

    sent: ClassVar[list[bytes]] = []

    def __init__(self, *arguments):
        pass

    def submit(self, function, task):
        there = pickle.dumps(task)
        back = pickle.dumps(function(pickle.loads(there)))
        self.sent.extend([there, back])
        future = concurrent.futures.Future()
        future.set_result(pickle.loads(back))
        return future

    def shutdown(self, **options):
        pass


def test_what_processes_exchange_is_one_large_value(letters, monkeypatch):
    """Hundreds of values at once leave gaps in the memory of the process that reads."""
    pieces = [Piece("half a character \ud83d", True, ""), Piece("", True, "")]
    pieces += [Piece(f"{n} {'warm 猫' * 90}", n % 3 > 0, "") for n in range(42)]
    monkeypatch.setattr(concurrent.futures, "ProcessPoolExecutor", _Pool)
    monkeypatch.setattr(token_encoding, "_TASK_CHARACTERS", 7_000)
    coder = token_encoding._Coder(str(letters), "uint16", False)
    monkeypatch.setattr(token_encoding, "_coder", coder)
    encoded = []
    for processes in (1, 2):
        with token_encoding.encoder(letters, "uint16", False, processes) as encode:
            parts = token_encoding.encode_pieces(iter(pieces), encode)
            encoded.append([(part.ids.tolist(), *part[1:]) for part in parts])
    assert encoded[0] == encoded[1]
    assert len(_Pool.sent) == 2 * 4
    for content in _Pool.sent:
        values = (value for _, value, _ in pickletools.genops(content))
        large = [v for v in values if isinstance(v, str | bytes) and len(v) > 512]
        assert len(large) == 1  # CPython keeps smaller ones in pools


def test_minhash_estimates_the_jaccard_similarity():
    random = np.random.default_rng(3)
    for changed in (3, 20, 60):
        first = random.integers(5_000, size=1_100)
        second = first.copy()
        second[random.choice(1_100, changed, replace=False)] += 5_000
        a, b = ({tuple(ids[n : n + 5]) for n in range(1_096)} for ids in (first, second))
        jaccard = len(a & b) / len(a | b)
        estimate = float((signature(first) == signature(second)).mean())
        deviation = (jaccard * (1 - jaccard) / 112) ** 0.5
        assert abs(estimate - jaccard) < 4 * deviation + 0.01


@pytest.fixture
def storage():
    """Files at addresses memory://…: two tables and a folder of texts, beside others."""
    memory = fsspec.filesystem("memory")
    for name, text in {
        "a.jsonl": '{"text": "one"}\n{"text": "two"}\n',
        "b.jsonl": '{"text": "three"}\n',
        "texts/d.md": "five",
        "texts/c/a.txt": "four",
        "texts/no.bin": "six",
    }.items():
        memory.pipe(f"/store/{name}", text.encode())
    yield memory
    memory.rm("/store", recursive=True)


def test_addresses_are_read_as_files_are(letters, tmp_path, storage):
    local = tmp_path / "z.txt"
    local.write_text("zero", "utf-8")
    source = f"memory://store/*.jsonl, {local}, memory://store/texts"
    before = set(Path(tempfile.gettempdir()).glob("tfx-transformer-*"))
    index = written(tmp_path / "out", letters, (source,), validation=f"file://{local}")
    assert texts_of(tmp_path / "out") == ["one", "two", "three", "four", "five"]
    assert index["training"]["in_validation"] == 1
    assert set(Path(tempfile.gettempdir()).glob("tfx-transformer-*")) == before


def test_an_interrupted_writing_notices_files_that_changed_at_an_address(
    letters, tmp_path, storage, monkeypatch
):
    monkeypatch.setattr(token_writer, "_RECORD_SECONDS", 0.0)
    monkeypatch.setattr(token_encoding, "_TASK_CHARACTERS", 1)
    source = ("memory://store/*.jsonl",)
    lines = "".join(f'{{"text": "{number}"}}\n' for number in range(9))
    storage.pipe("/store/a.jsonl", lines.encode())
    storage.pipe("/store/b.jsonl", b'{"text": "three"}\n{"text": ""}\n')
    with pytest.raises(InputError, match="memory://.*b.jsonl, row 2"):
        written(tmp_path / "out", letters, source)
    assert (tmp_path / "out" / "training.bin").stat().st_size
    storage.pipe("/store/b.jsonl", b'{"text": "three"}\n')
    with pytest.raises(InputError, match="its files have changed"):
        written(tmp_path / "out", letters, source)


def test_a_pattern_matches_files_and_reaches_into_archives(letters, tmp_path, storage):
    with storage.open("/store/texts.zip", "wb") as file, zipfile.ZipFile(file, "w") as archive:
        archive.writestr("c/e.jsonl", '{"text": "seven"}\n')
    source = ("memory://store/[at]*[!p], zip://c/*.jsonl::memory://store/texts.zip",)
    written(tmp_path / "out", letters, source)
    assert texts_of(tmp_path / "out") == ["one", "two", "seven"], "not the folder texts"


class Web(fsspec.AbstractFileSystem):
    """A web server as fsspec's: paths are URLs, which redirect to another one each time."""

    protocol = "web"
    content = b'{"text": "one"}\n'
    sent_on = itertools.count()

    @classmethod
    def _strip_protocol(cls, path):
        return path

    def info(self, path, **options):
        url = f"web://other/{next(self.sent_on)}"
        return {"name": path, "type": "file", "size": len(self.content), "url": url}

    def get_file(self, path, local, **options):
        Path(local).write_bytes(self.content)


def test_the_query_of_a_url_is_not_part_of_the_name(letters, tmp_path, monkeypatch):
    fsspec.register_implementation("web", Web, clobber=True)
    address = "web://host/a.jsonl?download=true"
    written(tmp_path / "out", letters, (address,))
    assert texts_of(tmp_path / "out") == ["one"]
    before = remote.state(address)
    assert remote.state(address) == before
    monkeypatch.setattr(Web, "content", b'{"text": "two!"}\n')
    assert remote.state(address) != before


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("memory://nowhere/a.txt", "memory://nowhere/a.txt: there is no such file"),
        ("memory://store/*.csv", "no such file"),
        ("nosuch://a/b", "nosuch://a/b cannot be read"),
        ("s3://bucket/key.txt", "[Ii]nstall s3fs"),
        ("https://127.0.0.1:9/a.txt", "(cannot be read|install that package)"),
    ],
)
def test_addresses_that_cannot_be_read_are_refused(letters, tmp_path, storage, address, message):
    with pytest.raises(InputError, match=message):
        written(tmp_path / "out", letters, (address,))


def test_near_duplicates_are_left_out_on_demand(letters, tmp_path):
    text = " ".join(f"word{n * 7_919 % 1_000}" for n in range(200))
    texts = [text, text.replace("word919 ", "other "), text[::-1], "short", "shore"]
    source = rows(tmp_path / "a.jsonl", texts)
    index = written(tmp_path / "out", letters, (source,), near=True)
    assert texts_of(tmp_path / "out") == [text, text[::-1], "short", "shore"]
    assert index["training"]["near_duplicates"] == 1
    assert set(band_keys(np.arange(3))).isdisjoint(band_keys(np.arange(4)))


def test_bad_folders_are_refused(letters, tmp_path):
    tokenizer = Tokenizer.load(letters)
    with pytest.raises(InputError, match="tokenize"):
        read_token_folder(tmp_path, tokenizer)
    written(tmp_path / "out", letters, (rows(tmp_path / "a.jsonl", ["one", "two"]),))
    with pytest.raises(InputError, match="another tokenizer"):
        read_token_folder(tmp_path / "out", Tokenizer.train(["abab"] * 9, 270))
    index = tmp_path / "out/tokens.json"
    content = index.read_text()
    index.write_text(content.replace("uint16", "float16"))
    with pytest.raises(InputError, match="not an index"):
        read_token_folder(tmp_path / "out", tokenizer)
    for damage in (('"tokens": 8', '"tokens": -8'), ('"bytes": 6', '"bytes": "6"')):
        assert damage[0] in content
        index.write_text(content.replace(*damage))
        with pytest.raises(InputError, match="not an index"):
            read_token_folder(tmp_path / "out", tokenizer)
    index.write_text(content.replace('"tokens": 8', f'"tokens": {10**30}'))
    with pytest.raises(InputError, match="cut short"):
        read_token_folder(tmp_path / "out", tokenizer)
    index.write_text(content)
    with (tmp_path / "out/training.bin").open("ab") as file:
        file.truncate(6)
    with pytest.raises(InputError, match="cut short"):
        read_token_folder(tmp_path / "out", tokenizer)
    with pytest.raises(InputError, match="weight"):
        TokenWriter(tmp_path / "new", letters, [Source("a", 0)])


@pytest.mark.parametrize("part", ["training", "validation"])
@pytest.mark.parametrize(("id", "place"), [(259, 0), (65_535, 12), (300, 15)])
def test_an_id_beyond_the_vocabulary_is_named_with_its_place(
    letters, tmp_path, monkeypatch, part, id, place
):
    monkeypatch.setattr("tfx_transformer.data.token_folder._CHUNK_IDS", 7)
    held_out = tmp_path / "held_out.jsonl"
    text = "some more words"
    source = rows(tmp_path / "a.jsonl", [text])
    written(tmp_path / "out", letters, (source,), validation=rows(held_out, [text[::-1]]))
    file = tmp_path / "out" / f"{part}.bin"
    ids = np.fromfile(file, "uint16")
    assert len(ids) == 16
    read_token_folder(tmp_path / "out", Tokenizer.load(letters))
    ids[place:] = id
    ids.tofile(file)
    expected = f"{part}.bin: the id at place {place}, from 0, is {id:,}, but .* from 0 to 258"
    with pytest.raises(InputError, match=expected):
        read_token_folder(tmp_path / "out", Tokenizer.load(letters))


def test_the_verb(command, letters, tmp_path):
    source = rows(tmp_path / "a.jsonl", ["one", "two", "one"])
    line = ["tokenize", source, "--column", "text", "--tokenizer", str(letters), "--out", "out"]
    status, output, _ = command(*line, "--json")
    assert status == 0
    counts = json.loads(output)["training"]
    assert (counts["tokens"], counts["documents"], counts["duplicates"]) == (8, 2, 1)
    status, _, errors = command(*line[:-1], "new", "--weights", "1,2")
    assert status == 2 and "2 numbers for 1 source." in errors


def test_rows_that_cannot_be_used_are_counted_once(letters, tmp_path):
    table = tmp_path / "a.csv"
    table.write_text('text\none\n""\ntwo\n', "utf-8")
    (tmp_path / "b.txt").write_text("three", "utf-8")
    sources = [(str(table), 2), (str(tmp_path / "b.txt"), 1)]
    with pytest.raises(InputError, match="row 3"):
        written(tmp_path / "out", letters, *sources)
    index = written(tmp_path / "new", letters, *sources, skip_bad_rows=True)
    assert texts_of(tmp_path / "new") == ["one", "two", "three", "one", "two"]
    assert index["training"]["bad_rows"] == 1
