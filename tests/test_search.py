"""An index on disk: what it finds, how it is renewed, and how it survives interruptions."""

import io
import json
import os
import shutil
import sqlite3

import numpy as np
import pytest

from tfx_transformer import runtime, search
from tfx_transformer.arguments import use_flags
from tfx_transformer.cli.search import found_lines
from tfx_transformer.data.formats import TableFile, writing
from tfx_transformer.errors import InputError
from tfx_transformer.prediction.text import TextEmbedder
from tfx_transformer.search import building, nearest, store


@pytest.fixture(scope="module")
def bundle(text_embedder):
    return text_embedder.path


@pytest.fixture(scope="module")
def vectors(text_embedder, bundle):
    """Directions of the fixture's texts by the TFLite file, float64."""
    found = runtime.load(bundle).embed(text_embedder.inputs).astype("float64")
    return found / np.linalg.norm(found, axis=1, keepdims=True)


@pytest.fixture
def embedded(monkeypatch):
    """The number of rows of each call of the model."""
    counts, run = [], TextEmbedder.run_rows

    def run_rows(self, rows):
        counts.append(len(rows))
        return run(self, rows)

    monkeypatch.setattr(TextEmbedder, "run_rows", run_rows)
    return counts


def write_rows(path, texts, header=("id", "text")):
    with writing(path, header, [{str}] * len(header)) as writer:
        for number, text in enumerate(texts):
            writer.write([f"n{number}", text, *["more"] * (len(header) - 2)])
    return path


def places(found):
    """The rows of a table that were found, counted from 0; the header is row 1."""
    return [one.row - 2 for one in found]


# The nearest


@pytest.mark.parametrize("dtype, error", [("float32", 1e-6), ("float16", 1e-3), ("int8", 2e-2)])
def test_exact_finds_what_comparing_all_finds(dtype, error, monkeypatch):
    monkeypatch.setattr(nearest, "_BLOCK", 7)
    random = np.random.default_rng(1)
    vectors, queries = random.normal(size=(31, 11)), random.normal(size=(3, 11))
    vectors[[4, 29]] = 2 * vectors[17]
    queries[0] = vectors[17]
    packed = nearest.pack(vectors, dtype)
    assert packed.dtype == dtype
    numbers, cosines = nearest.exact(queries, packed, 5)
    expected = queries @ vectors.T
    expected /= np.outer(np.linalg.norm(queries, axis=1), np.linalg.norm(vectors, axis=1))
    assert numbers[0, :3].tolist() == [4, 17, 29], "equal ones stay in order"
    np.testing.assert_allclose(cosines, -np.sort(-expected)[:, :5], atol=error)
    np.testing.assert_allclose(np.take_along_axis(expected, numbers, 1), cosines, atol=error)
    assert nearest.exact(queries, packed, 100)[0].shape == (3, 31)


def test_a_vector_of_zeros_is_far_from_all():
    for dtype in ("float32", "int8"):
        packed = nearest.pack(np.array([[0, 0], [3, 4]]), dtype)
        numbers, cosines = nearest.exact(np.array([[1, 0]]), packed, 2)
        assert numbers.tolist() == [[1, 0]]
        assert cosines[0] == pytest.approx([0.6, 0], abs=0.01)


def test_a_graph_finds_most_and_is_extended(tmp_path):
    pytest.importorskip("usearch")
    random = np.random.default_rng(2)
    vectors = random.normal(size=(601, 13)).astype("float32")
    queries = random.normal(size=(20, 13))
    packed = nearest.pack(vectors, "float16")
    first = nearest.write_graph(tmp_path / "a", packed[:500])
    whole = nearest.write_graph(tmp_path / "b", packed, known=(tmp_path / "a", first))
    expected, cosines = nearest.exact(queries, packed, 10)
    found, values = nearest.Graph(tmp_path / "b", packed, whole).nearest(queries, 10)
    same = [len({*a} & {*b}) for a, b in zip(found.tolist(), expected.tolist(), strict=True)]
    assert np.mean(same) > 8  # threads that build it together leave out a link now and then
    assert np.any(found >= 500), "the added ones are found"
    where = found[:, 0] == expected[:, 0]
    np.testing.assert_allclose(values[where, 0], cosines[where, 0], atol=1e-5)
    with pytest.raises(InputError, match="--exact"):
        nearest.Graph(tmp_path / "a", packed, first)
    (tmp_path / "b").write_bytes(b"not a graph" * 50)  # usearch may crash, so it must not see this
    with pytest.raises(InputError, match="damaged"):
        nearest.Graph(tmp_path / "b", packed, whole)


# The index


@pytest.mark.slow(but=[".csv"])
@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".xlsx", ".parquet"])
def test_it_finds_the_rows_that_comparing_all_finds(
    ending, bundle, vectors, text_embedder, tmp_path
):
    table = write_rows(tmp_path / f"my{ending}", text_embedder.inputs)
    made = search.make_index(tmp_path / "i", bundle, [table], dtype="float32", shown=["id"])
    assert (made.rows, made.bad_rows, made.has_graph) == (23, 0, False)
    index = search.Index(tmp_path / "i")
    questions = text_embedder.inputs[:3]
    found = index.search(questions, count=4)
    expected = vectors[:3] @ vectors.T
    for number, rows in enumerate(found):
        ids = [int(one.cells["id"][1:]) for one in rows]
        assert [text_embedder.inputs[i] for i in ids] == [one.text for one in rows]
        cosines = -np.sort(-expected[number])[:4]
        assert [one.cosine for one in rows] == pytest.approx(cosines, abs=1e-5)
        assert rows[0].table == f"../my{ending}"
        first = {".csv": 2, ".xlsx": 2, ".jsonl": 1, ".parquet": 0}[ending]  # as people count them
        assert rows[0].row == ids[0] + first
    assert index.search(questions[0], count=4) == found[0]
    assert len(index.search("a", count=1000)) == 23
    assert "23 rows" in repr(index)


def test_renewing_embeds_only_new_texts(bundle, tmp_path, embedded):
    words = ["the cat", "a dog", "猫 が", "the cat", "and"]
    table, folder = tmp_path / "my.csv", tmp_path / "i"
    made = search.make_index(folder, bundle, [write_rows(table, words)])
    assert (made.rows, made.new, embedded) == (5, 4, [4])
    changed = ["sees", *words[1:], "the dog sees"]  # one is changed, one added; others move
    made = search.make_index(folder, bundle, [write_rows(table, changed)])
    assert (made.rows, made.new, embedded) == (6, 2, [4, 2])
    fresh = tmp_path / "fresh"
    search.make_index(fresh, bundle, [table])
    old, new = store.Store(folder), store.Store(fresh)
    np.testing.assert_allclose(old.vectors, new.vectors, atol=1e-3)
    assert [*old.entries()] == [*new.entries()]
    assert sorted(file.name.partition(".")[0] for file in folder.iterdir()) == ["2"] * 4 + ["index"]
    made = search.make_index(folder, bundle, [table], dtype="int8")
    assert made.new == 6, "vectors of another kind are not kept"


def test_rows_of_other_tables_are_kept_by_append(bundle, tmp_path, embedded):
    first, second = (
        write_rows(tmp_path / name, ["the cat", name[0]]) for name in ("a.csv", "b.csv")
    )
    folder = tmp_path / "i"
    search.make_index(folder, bundle, [first])
    made = search.make_index(folder, bundle, [second], append=True)
    assert (made.rows, made.new) == (4, 1)
    write_rows(first, ["a dog"])
    made = search.make_index(folder, bundle, [first], append=True)
    assert (made.rows, made.new) == (3, 1), "its old rows are replaced"
    entries = [*store.Store(folder).entries()]
    assert [(e.table, e.row, e.text) for e in entries] == [
        (0, 2, "the cat"),
        (0, 3, "b"),
        (1, 2, "a dog"),
    ]
    assert search.Index(folder).search("a dog", 1)[0].table == "../a.csv"
    with pytest.raises(InputError, match="another --column"):
        search.make_index(folder, bundle, [second], "id", append=True)


def test_tables_of_a_database_are_tables_of_their_own(bundle, tmp_path):
    with sqlite3.connect(tmp_path / "my.db") as database:
        for name, text in (("cats", "the cat"), ("dogs", "a dog")):
            database.execute(f"create table {name} (text)")
            database.execute(f"insert into {name} values (?)", [text])
    database.close()
    cats, dogs = (TableFile(tmp_path / "my.db", table=name) for name in ("cats", "dogs"))
    folder = tmp_path / "i"
    search.make_index(folder, bundle, [cats])
    for table in (dogs, cats):
        assert search.make_index(folder, bundle, [table], append=True).rows == 2
    found = store.Store(folder)
    assert [(one.table, one.text) for one in found.entries()] == [(0, "a dog"), (1, "the cat")]
    assert [one["part"] for one in found.tables] == ["dogs", "cats"]


def test_a_table_in_the_folder_of_an_index_stays(bundle, tmp_path):
    """Its name begins with a number, as those of the files of an index do."""
    folder = tmp_path / "i"
    folder.mkdir()
    table = write_rows(folder / "2026.csv", ["the cat"])
    with pytest.raises(InputError, match=r"has other files, such as 2026\.csv"):
        search.make_index(folder, bundle, [table])
    table = table.rename(tmp_path / "2026.csv")
    search.make_index(folder, bundle, [table])
    table = table.rename(folder / "2026.csv")
    search.make_index(folder, bundle, [table])
    assert table.is_file() and store.numbers(folder) == {2}


def test_an_index_behind_a_link_finds_its_bundle(bundle, tmp_path):
    table = write_rows(tmp_path / "my.csv", ["the cat", "a dog"])
    (tmp_path / "far" / "away").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "far" / "away")
    search.make_index(tmp_path / "link", bundle, [table])
    for folder in (tmp_path / "link", tmp_path / "far" / "away"):
        index = search.Index(folder)
        assert (index.search("a dog", 1)[0].row, index.changed_tables()) == (3, [])
    table.write_text("text\nchanged\n")
    for folder in (tmp_path / "link", tmp_path / "far" / "away"):
        assert search.Index(folder).changed_tables() == [os.path.realpath(table)]
    assert store.signature(tmp_path) is store.signature(tmp_path / "none") is None
    (tmp_path / "far" / "a.parquet").write_bytes(b"abc")
    assert store.signature(tmp_path / "far")[0] > 3, "the file, and those in the folder of the link"


class Killed(BaseException):
    pass


@pytest.mark.parametrize("cut", [0, 13])
def test_an_interrupted_command_goes_on(cut, bundle, tmp_path, embedded, monkeypatch):
    monkeypatch.setattr(building, "_CHUNK", 3)
    table = write_rows(tmp_path / "my.csv", [f"{a} {b}" for a in ("cat", "dog") for b in "abcde"])
    folder = tmp_path / "i"

    def kill(done):
        if done.rows == 6:
            raise Killed

    with pytest.raises(Killed):
        search.make_index(folder, bundle, [table], progress=kill)
    with pytest.raises(InputError, match="not an index"):
        search.Index(folder)
    if cut:  # the end of the file was not written
        os.truncate(folder / "unfinished.hashes", 6 * 16 - cut)
    embedded.clear()
    made = search.make_index(folder, bundle, [table])
    assert (made.rows, made.new, sum(embedded)) == (10, 4 + (cut > 0), 4 + (cut > 0))
    assert not [*folder.glob("unfinished*"), *folder.glob(".*")]
    whole = search.make_index(tmp_path / "whole", bundle, [table])
    assert whole.new == 10
    expected = store.Store(tmp_path / "whole").vectors
    np.testing.assert_allclose(store.Store(folder).vectors, expected, atol=1e-3)


def test_a_failure_leaves_the_old_index(bundle, tmp_path):
    table, folder = write_rows(tmp_path / "my.csv", ["the cat", "a dog"]), tmp_path / "i"
    search.make_index(folder, bundle, [table])
    before = search.Index(folder).search("a dog")
    table.write_text('id,text\n1,the sees\n2,""\n')
    with pytest.raises(InputError, match="row 3: column 'text' is empty"):
        search.make_index(folder, bundle, [table])
    assert search.Index(folder).search("a dog") == before
    assert store.numbers(folder) == {1} and not [*folder.glob("unfinished*")]
    made = search.make_index(folder, bundle, [table], skip_bad_rows=True)
    assert (made.rows, made.bad_rows) == (1, 1)
    assert (folder / "bad_rows.csv").read_text().count("\n") == 2


def test_many_rows_have_a_graph(bundle, tmp_path, monkeypatch, text_embedder):
    pytest.importorskip("usearch")
    monkeypatch.setattr(building, "EXACT_ROWS", 20)
    folder, table = tmp_path / "i", tmp_path / "my.csv"
    texts = text_embedder.inputs
    made = search.make_index(folder, bundle, [write_rows(table, texts)])
    assert made.has_graph
    index = search.Index(folder)
    for question in texts[:3]:
        assert index.search(question) == index.search(question, exact=True)
    opened = search.Index(folder)
    calls, write = [], nearest.write_graph
    monkeypatch.setattr(nearest, "write_graph", lambda *a: calls.append(a[2]) or write(*a))
    search.make_index(folder, bundle, [write_rows(table, [*texts, "a new one"])])
    search.make_index(folder, bundle, [write_rows(table, ["first", *texts])])
    assert [known and known[0].name for known in calls] == ["1.graph.usearch", None]
    assert not opened.has_graph, "it was replaced before it was read"
    assert opened.search(texts[1], 1)[0].text == texts[1]
    assert search.Index(folder).search("first", 1)[0].text == "first"
    (folder / "3.graph.usearch").write_bytes(b"damaged")
    search.make_index(folder, bundle, [table])
    assert calls[-1][0].name == "3.graph.usearch", "it is built anew"
    assert search.Index(folder).search("first", 1)[0].text == "first"
    monkeypatch.setattr(nearest, "has_usearch", lambda: False)
    assert not search.Index(folder).has_graph
    assert search.Index(folder).search("first", 1)[0].text == "first"


def test_what_is_not_an_index_or_not_its_bundle_is_refused(bundle, text_classifier, tmp_path):
    table, folder = write_rows(tmp_path / "my.csv", ["the cat", "a dog"]), tmp_path / "i"
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "my.csv").touch()
    with pytest.raises(InputError, match="not an embedder"):
        search.make_index(folder, text_classifier.path, [table])
    with pytest.raises(InputError, match=r"(?s)no column 'question'.* --column NAME"):
        search.make_index(folder, bundle, [table], "question")
    with pytest.raises(InputError, match=r"(?s)no column 'answer'.* --show NAME"):
        search.make_index(folder, bundle, [table], shown=["id", "answer"])
    (tmp_path / "bad.csv").write_text('id,text\n1,the sees\n2,""\n')
    with pytest.raises(InputError, match="row 3"):
        search.make_index(folder, bundle, [tmp_path / "bad.csv"])
    assert not folder.exists(), "nothing is left of it"
    with pytest.raises(InputError, match="has other files, such as my.csv"):
        search.make_index(tmp_path / "other", bundle, [table])
    with pytest.raises(InputError, match="my.csv is named twice"):
        search.make_index(folder, bundle, [table, tmp_path / "other" / ".." / "my.csv"])
    with pytest.raises(InputError, match="none.csv"):
        search.make_index(folder, bundle, [tmp_path / "none.csv"])
    with pytest.raises(InputError, match="dtype is 'float64'"):
        search.make_index(folder, bundle, [table], dtype="float64")
    copy = shutil.copytree(bundle, tmp_path / "copy")
    search.make_index(folder, copy, [table])
    with pytest.raises(InputError, match="count is 0"):
        search.Index(folder).search("a", 0)
    shutil.rmtree(copy)
    with pytest.raises(InputError, match="--bundle BUNDLE"):
        search.Index(folder)
    assert search.Index(folder, bundle).search("a dog", 1)[0].row == 3
    with pytest.raises(InputError, match="is not the bundle"):
        search.Index(folder, text_classifier.path, model=runtime.load(bundle))


@pytest.fixture(scope="module")
def small(bundle, tmp_path_factory):
    """A folder with a table and its index, which tests copy."""
    folder = tmp_path_factory.mktemp("small")
    search.make_index(folder / "i", bundle, [write_rows(folder / "my.csv", ["the cat", "a dog"])])
    return folder


@pytest.mark.parametrize(
    "damage",
    [
        {"format": 2},
        {"rows": 3},
        {"rows": "2"},
        {"dtype": "object"},
        {"dtype": "float32"},
        {"dimensions": 10**12},
        {"number": 7},
        {"tables": [{}]},
        {"tables": [{"path": "a", "part": 1}]},
        {"shown": [[]]},
        {"model": {}},
        {"model": {"variant": ["float32"]}},
        {"model": {"variant": "float32", "files": {}, "prompt": "of another model: "}},
        {"graph": None},
        "{",
    ],
)
def test_a_damaged_index_is_named(damage, bundle, small, tmp_path):
    facts = shutil.copytree(small / "i", tmp_path / "i") / "index.json"
    if isinstance(damage, dict):
        damage = json.dumps(json.loads(facts.read_text()) | damage)
    facts.write_text(damage)
    with pytest.raises(InputError):
        search.Index(tmp_path / "i", bundle)


@pytest.mark.parametrize("damage", ['{"format": 2}', "{", '{"format": 1}'])
def test_a_damaged_index_is_made_again_unless_it_is_newer(damage, bundle, small, tmp_path):
    folder = shutil.copytree(small / "i", tmp_path / "i")
    (folder / "index.json").write_text(damage)
    if "2" in damage:
        with pytest.raises(InputError, match="newer version"):
            search.make_index(folder, bundle, [small / "my.csv"])
        return
    with pytest.raises(InputError, match="index.json"):
        search.make_index(folder, bundle, [small / "my.csv"], append=True)
    search.make_index(folder, bundle, [small / "my.csv"])
    assert search.Index(folder).search("a dog", 1)[0].text == "a dog"


def zipped():
    file = io.BytesIO()
    np.savez(file, a=np.ones(3))
    return file.getvalue()


def with_header(text):
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize("name", ["vectors", "hashes", "places"])
def test_damaged_arrays_are_named(name, bundle, small, tmp_path):
    folder = shutil.copytree(small / "i", tmp_path / "i")
    file = folder / f"1.{name}.npy"
    whole = file.read_bytes()
    shape = b"{'descr': '<f2', 'fortran_order': False, 'shape': (%s,)}"
    headers = [b"(" * 5000, b"{'a':", b"\xff\0", b"'", shape % b"-2", shape % (b"9" * 30)]
    for content in [b"", zipped(), whole[:-1], whole[:50], *map(with_header, headers)]:
        file.write_bytes(content)
        with pytest.raises(InputError, match=f"1.{name}.npy"):
            search.Index(folder, bundle)


@pytest.mark.parametrize("place", [-1, 10**6, 10**13, 2**63 - 1])
def test_places_outside_of_the_rows_are_refused(place, bundle, small, tmp_path):
    folder = shutil.copytree(small / "i", tmp_path / "i")
    np.save(folder / "1.places.npy", np.array([0, place, 0]))
    with pytest.raises(InputError, match="places.npy is damaged"):
        search.Index(folder, bundle).search("a dog")


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("[0, 2]", []),
        ("\xff", []),
        ("[1e999]", []),
        ('[5, 2, "a", []]', []),
        ("[0, 2, 1, []]", []),
        ('[0.5, 2, "a", []]', []),
        ('[0, 2, "a", [1]]', ["note"]),
    ],
)
def test_damaged_rows_are_named(line, shown, bundle, small, tmp_path):
    folder = shutil.copytree(small / "i", tmp_path / "i")
    if shown:
        facts = json.loads((folder / store.FACTS).read_text())
        (folder / store.FACTS).write_text(json.dumps(facts | {"shown": shown}))
    file = folder / "1.rows.jsonl"
    file.write_bytes(line.encode("latin-1").ljust(file.stat().st_size // 2, b" ") * 2)
    with pytest.raises(InputError, match="rows.jsonl is damaged"):
        search.Index(folder, bundle).search("a dog")


# The verbs


def test_a_row_that_is_found_fits_the_terminal():
    text = "When the parcel has been opened already, may I\nstill send it back to the shop?"
    assert found_lines(0.64661, "row     12", text).splitlines() == [
        "   0.6466  row     12  When the parcel has been opened already, may I still",
        "           send it back to the shop?",
    ]


def test_the_verbs(command, bundle, tmp_path):
    write_rows(tmp_path / "faq.csv", ["the cat", "a dog"], ("id", "question", "answer"))
    flags = ("--column", "question", "--show", "answer", "--out", "faq")
    status, output, errors = command("index", bundle, "faq.csv", *flags)
    assert status == 0, errors
    assert output.startswith("faq: 2 rows, 2 texts embedded\n")
    assert 'tfx-transformer search faq "TEXT"' in output
    status, output, errors = command("search", "faq", "a dog", "--count", 1)
    assert (status, errors) == (0, "")
    assert output == "2 rows, exact\na dog\n   1.0000  row      3  a dog\n           answer: more\n"
    status, output, _ = command("search", "faq", "a dog", "--json")
    found = json.loads(output)
    assert found["method"] == "exact"
    assert [one["row"] for one in found["results"][0]["nearest"]] == [3, 2]
    assert found["results"][0]["nearest"][0]["cells"] == {"answer": "more"}
    write_rows(tmp_path / "faq.csv", ["the cat"], ("id", "question", "answer"))
    assert "faq.csv has changed since" in command("search", "faq", "a dog")[2]
    refusals = {
        ("index", bundle, "--out", "x"): "there is no table to index",
        ("index", bundle, "faq.csv", "--column", "question", "--out", "faq.csv"): "is a file",
        ("index", bundle, "faq.csv", *flags, "--show", "a,,b"): "--show a,,b",
        ("search", "faq"): "there is no text to search for",
        ("search", "faq", " "): "a text to search for is empty",
        ("search", "faq", "a", "--count", "0"): "--count is 0",
        ("search", "nowhere", "a"): "is not an index",
    }
    for arguments, message in refusals.items():
        status, output, errors = command(*arguments)
        assert (status, output) == (2, "")
        assert message in errors


def test_a_damaged_graph_names_only_flags_of_the_command(tmp_path):
    pytest.importorskip("usearch")
    (tmp_path / "a").write_bytes(b"damaged")
    packed = nearest.pack(np.ones((3, 2)), "float32")
    try:
        for flags, remedy in (({"--exact"}, "or search with --exact"), ({"--port"}, "again.")):
            use_flags(flags)
            with pytest.raises(InputError, match="Make the index again.*") as caught:
                nearest.Graph(tmp_path / "a", packed, "0" * 64)
            assert remedy in str(caught.value)
    finally:
        use_flags(None)
    assert "--exact" not in str(caught.value)
