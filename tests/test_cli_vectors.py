"""The verbs embed, similar and vectors: what they answer, and how they say what is wrong."""

import csv
import dataclasses
import json
import math

import numpy as np
import pandas
import pytest
import safetensors.numpy
import scipy.stats
from matplotlib.image import imread
from sklearn.feature_extraction.text import CountVectorizer
from tiny_models import perturbed, tiny_causal, tiny_config, tiny_model

from tfx_transformer import bundle, pictures
from tfx_transformer.models import states
from tfx_transformer.models.encoders import Classifier, Embedder
from tfx_transformer.models.predicting import predictor
from tfx_transformer.models.saving import save
from tfx_transformer.text.tokenizer import Tokenizer

TEXTS = ["the cat sees a cat", "a dog", "the dog sees", "cats and dogs", "猫が見る"]
PAIRS = [
    ("a cat sees", "the cat sees", "4.5"),
    ("a dog", "a bird", "2"),
    ("the cat", "rain falls", "0.25"),
    ("猫が見る", "犬が見る", "3"),
    ("one two three", "one two four", "3.5"),
]


def write_csv(path, header, rows):
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(TEXTS * 5, 280)


@pytest.fixture(scope="module")
def models(tokenizer):
    size = {"vocabulary_size": tokenizer.vocabulary_size}
    return {
        "embedder": perturbed(Embedder(tiny_config(**size))),
        "writer": tiny_causal(**size),
        "changed": perturbed(tiny_causal(**size), 0.01),
        "translator": tiny_model(**size),
        "images": Classifier(
            tiny_config(vocabulary_size=0, image_size=8, patch_size=4, num_classes=2)
        ),
    }


@pytest.fixture(scope="module")
def bundles(models, tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles")
    for name, model in models.items():
        reads_text = not model.config.image_size
        save(folder / name, model, tokenizer if reads_text else None)
    prompts = {"query": "the ", "document": "cats "}
    prompted = Embedder(dataclasses.replace(models["embedder"].config, prompts=prompts))
    prompted.set_weights(models["embedder"].get_weights())
    save(folder / "prompted", prompted, tokenizer)
    return folder


@pytest.fixture
def answer(command):
    """The JSON that a command answers."""

    def run(*arguments):
        status, output, errors = command(*arguments, "--json")
        assert status == 0, errors
        return json.loads(output)

    return run


def refused(command, *arguments):
    """The message of a command that refuses its input."""
    status, output, errors = command(*arguments)
    assert (status, output) == (2, "")
    return errors


# embed


def test_embed_by_an_embedder(answer, bundles, models, tokenizer):
    found = answer("embed", bundles / "embedder", *TEXTS, "--engine", "keras")
    expected = predictor(models["embedder"], tokenizer).embed(TEXTS)
    np.testing.assert_allclose(found["vectors"], expected, atol=1e-5)
    assert found["method"] == "by the embedder"


@pytest.mark.slow(but=["writer-decoder"])
@pytest.mark.parametrize(("name", "part"), [("writer", "decoder"), ("translator", "encoder")])
def test_embed_by_a_bundle_of_another_task_says_how(
    answer, command, bundles, models, tokenizer, name, part
):
    found = answer("embed", bundles / name, *TEXTS)
    model = models[name]
    ids = [states.text_ids(model, tokenizer, text) for text in TEXTS]
    np.testing.assert_allclose(found["vectors"], states.mean_states(model, ids), atol=1e-5)
    _, output, _ = command("embed", bundles / name, "a dog")
    words = f"mean of the {part}'s last states ({model.task}, not trained to embed)"
    assert output.startswith(f"vectors of 24 numbers: {words}\n")
    assert output.endswith("…  a dog\n")


def test_embed_a_column_into_a_file(answer, bundles, tmp_path):
    write_csv(tmp_path / "my.csv", ["id", "sentence"], enumerate(TEXTS))
    flags = ("--csv", "my.csv", "--column", "sentence")
    found = answer("embed", bundles / "writer", *flags, "--save", "v.npy")
    assert (found["texts"], found["dimensions"], found["file"]) == (5, 24, "v.npy")
    array = np.load(tmp_path / "v.npy")
    assert (array.shape, array.dtype) == ((5, 24), np.float32)
    answer("embed", bundles / "writer", *flags, "--save", "v.csv")
    table = pandas.read_csv(tmp_path / "v.csv")
    assert table["text"].tolist() == TEXTS
    np.testing.assert_allclose(table.drop(columns="text"), array, atol=1e-6)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["my.csv", "v.csv", "v.npy"]


def test_embed_refuses(command, bundles):
    assert "no text" in refused(command, "embed", bundles / "writer")
    errors = refused(command, "embed", bundles / "writer", "a", "--save", "v.txt")
    assert "ends neither in .npy nor in .csv" in errors
    errors = refused(command, "embed", bundles / "writer", "a", "--save", "no/v.npy")
    assert "cannot be written" in errors
    assert "reads images, not texts" in refused(command, "embed", bundles / "images", "a")
    errors = refused(command, "embed", bundles / "embedder", "a")
    assert "export" in errors, "without a TFLite file LiteRT cannot answer"


# similar


def test_two_texts_by_five_measures(answer, command, bundles, models, tokenizer):
    found = answer("similar", bundles / "writer", *TEXTS[:2])
    ids = [states.text_ids(models["writer"], tokenizer, text) for text in TEXTS[:2]]
    a, b = states.mean_states(models["writer"], ids).astype("float64")
    cosine = a @ b / np.sqrt((a @ a) * (b @ b))
    assert found.pop("method").startswith("mean of the decoder's")
    assert found == pytest.approx(
        {
            "cosine": cosine,
            "angle": math.degrees(math.acos(cosine)),
            "euclidean": np.sqrt(((a - b) ** 2).sum()),
            "dot": a @ b,
            "manhattan": np.abs(a - b).sum(),
        },
        rel=1e-4,
    )
    _, output, _ = command("similar", bundles / "writer", "a dog", "a dog")
    assert "cosine         1.0000\nangle          0.0000°\neuclidean      0.0000\n" in output


@pytest.fixture
def drawn(monkeypatch):
    """Matrix, names and title of each similarity matrix that is drawn."""
    asked, draw = [], pictures.similarity_matrix
    monkeypatch.setattr(
        pictures, "similarity_matrix", lambda *given: asked.append(given[1:]) or draw(*given)
    )
    return asked


def test_cosines_of_several_texts_and_their_picture(answer, command, bundles, tmp_path, drawn):
    found = answer("similar", bundles / "writer", *TEXTS[:3], "--picture", "a.png")
    pairs = [answer("similar", bundles / "writer", TEXTS[0], t)["cosine"] for t in TEXTS[1:3]]
    assert found["texts"] == TEXTS[:3]
    assert found["cosine"][0] == pytest.approx([1, *pairs], abs=1e-5)
    matrix, names, title = drawn.pop()
    np.testing.assert_allclose(matrix, found["cosine"], atol=1e-6)
    assert (list(names), title) == (TEXTS[:3], "Cosines by writer")
    assert imread(tmp_path / "a.png").min() < 0.5
    write_csv(tmp_path / "my.csv", ["text"], [[text] for text in TEXTS])
    search = ("--csv", "my.csv", "--count", 2, "--picture", "b.png")
    results = answer("similar", bundles / "writer", *TEXTS[1:3], *search)["results"]
    matrix, names, _ = drawn.pop()
    assert list(names[:2]) == TEXTS[1:3] and len(set(names[2:])) == len(names) - 2
    assert set(names[2:]) == {near["text"] for r in results for near in r["nearest"]}
    for row, result in zip(matrix, results, strict=False):
        for near in result["nearest"]:
            assert row[2 + names[2:].index(near["text"])] == pytest.approx(near["cosine"])
    assert imread(tmp_path / "b.png").min() < 0.5
    command("similar", bundles / "writer", *TEXTS[:2], "--picture", "c.png")
    assert imread(tmp_path / "c.png").min() < 0.5


def test_the_nearest_rows_of_a_column(answer, bundles, tmp_path):
    write_csv(tmp_path / "my.csv", ["text"], [[text] for text in TEXTS])
    queries = ("the dog sees", "猫が見る")
    found = answer("similar", bundles / "writer", *queries, "--csv", "my.csv", "--count", 2)
    for result, query, row in zip(found["results"], queries, (4, 6), strict=True):
        assert result["query"] == query
        first, second = result["nearest"]
        assert (first["row"], first["text"]) == (row, query)  # the header is row 1
        assert first["cosine"] == pytest.approx(1, abs=1e-5)
        assert second["cosine"] < first["cosine"]


def test_prompts_of_an_embedder(answer, command, bundles, tmp_path):
    """As `SentenceTransformer.encode(prompt_name=…)`: the prompt is put before the text."""
    plain, prompted = bundles / "embedder", bundles / "prompted"
    keras = ("--engine", "keras")
    query = ("--prompt", "query")
    by_hand = answer("similar", plain, "the a dog", "the the cat", *keras)
    found = answer("similar", prompted, "a dog", "the cat", *query, *keras)
    assert found["cosine"] == pytest.approx(by_hand["cosine"], abs=1e-6)
    by_default = answer("similar", prompted, "a dog", "the cat", *keras)
    assert by_default["cosine"] != pytest.approx(by_hand["cosine"], abs=1e-3)

    write_csv(tmp_path / "my.csv", ["text"], [[text] for text in TEXTS])
    search = ("--csv", "my.csv", "--count", 5, *keras)
    rows = ("--row-prompt", "document")
    write_csv(tmp_path / "other.csv", ["text"], [["cats " + text] for text in TEXTS])
    hand = answer("similar", plain, "the a dog", "--csv", "other.csv", "--count", 5, *keras)
    found = answer("similar", prompted, "a dog", *search, *query, *rows)
    assert answer("similar", prompted, "a dog", *search) == found, "the default of a search"
    for mine, theirs in zip(found["results"][0]["nearest"], hand["results"][0]["nearest"],
                            strict=True):  # fmt: skip
        assert mine["row"] == theirs["row"]
        assert mine["cosine"] == pytest.approx(theirs["cosine"], abs=1e-5)
        assert theirs["text"] == "cats " + mine["text"]

    write_csv(tmp_path / "pairs.csv", ["a", "b", "how"], PAIRS)
    with_the = [("the " + a, "the " + b, score) for a, b, score in PAIRS]
    write_csv(tmp_path / "the.csv", ["a", "b", "how"], with_the)
    columns = ("--first", "a", "--second", "b", "--score", "how", *keras)
    hand = answer("similar", plain, "--csv", "the.csv", *columns)["spearman"]["embedder"]
    scored = answer("similar", prompted, "--csv", "pairs.csv", *columns, *query)
    assert scored["spearman"]["prompted"] == pytest.approx(hand)
    both = [("the " + a, "cats " + b, score) for a, b, score in PAIRS]
    write_csv(tmp_path / "both.csv", ["a", "b", "how"], both)
    by_training = answer("similar", plain, "--csv", "both.csv", *columns)["spearman"]["embedder"]
    assert by_training != pytest.approx(hand)
    by_default = answer("similar", prompted, "--csv", "pairs.csv", *columns)
    assert by_default["spearman"]["prompted"] == pytest.approx(by_training)

    errors = refused(command, "similar", prompted, "a", "b", "--prompt", "quer", *keras)
    assert "there is no prompt 'quer'.\n  Prompts of this model: query, document" in errors
    errors = refused(command, "similar", bundles / "writer", "a", "b", *query)
    assert "is not an embedder, so it has no prompts.\n  Drop --prompt." in errors
    errors = refused(command, "similar", prompted, "a", "b", *rows, *keras)
    assert "--row-prompt is for rows to search" in errors
    errors = refused(command, "similar", "--csv", "pairs.csv", *columns, *query)
    assert "--prompt needs an embedder" in errors


def test_correlation_with_people_in_one_command(answer, command, bundles, tmp_path, models):
    write_csv(tmp_path / "my.csv", ["a", "b", "how"], PAIRS)
    flags = ("--csv", "my.csv", "--first", "a", "--second", "b", "--score", "how")
    found = answer("similar", *flags)
    assert list(found["spearman"]) == ["bag of words", "TF-IDF"]
    assert found["pairs"] == 5
    # Words and single characters alike: for these texts the Japanese grams by hand.
    first, second, scores = zip(*PAIRS, strict=True)
    grams = {
        "猫が見る": "猫 が 見 る 猫が が見 見る 猫が見 が見る",
        "犬が見る": "犬 が 見 る 犬が が見 見る 犬が見 が見る",
    }
    words = CountVectorizer(token_pattern=r"\S+")
    counts = words.fit_transform([grams.get(text, text) for text in first + second]).toarray()
    a, b = np.split(counts / np.linalg.norm(counts, axis=1, keepdims=True), 2)
    expected = scipy.stats.spearmanr((a * b).sum(axis=1), list(map(float, scores))).statistic
    assert found["spearman"]["bag of words"] == pytest.approx(expected)

    status, output, _ = command("similar", bundles / "embedder", *flags, "--engine", "keras")
    assert status == 0
    lines = output.splitlines()
    assert lines[0] == "5 pairs of my.csv; Spearman's correlation with 'how':"
    assert [line.split(maxsplit=1)[1] for line in lines[1:4]] == [
        "bag of words",
        "TF-IDF",
        "embedder",
    ]
    assert lines[4] == "embedder: by the embedder"


@pytest.mark.parametrize("score", ["high", "nan", "inf"])
def test_a_score_that_is_no_number(command, tmp_path, score):
    write_csv(tmp_path / "my.csv", ["a", "b", "how"], [*PAIRS[:2], ("x", "y", score)])
    flags = ("--csv", "my.csv", "--first", "a", "--second", "b", "--score", "how")
    errors = refused(command, "similar", *flags)
    assert errors.startswith(f"my.csv, row 4: column 'how' is '{score}', not a number.\n")


def test_scores_that_are_all_alike_have_no_correlation(answer, tmp_path):
    write_csv(tmp_path / "my.csv", ["a", "b", "how"], [("x", "y", "1"), ("x", "x", "1")])
    flags = ("--csv", "my.csv", "--first", "a", "--second", "b", "--score", "how")
    assert answer("similar", *flags)["spearman"] == {"bag of words": None, "TF-IDF": None}


def test_similar_refuses(command, bundles, tmp_path):
    assert "name a bundle" in refused(command, "similar")
    assert "1 text cannot be compared" in refused(command, "similar", bundles / "writer", "a")
    errors = refused(command, "similar", "--csv", "my.csv", "--first", "a")
    assert "scored pairs are read from a file" in errors
    errors = refused(command, "similar", bundles / "writer", "--csv", "my.csv")
    assert "there is no text to search for" in errors
    two = ("similar", bundles / "writer", "a", "b")
    assert "cannot be written" in refused(command, *two, "--picture", "no/map.png")
    scored = ("--csv", "my.csv", "--first", "a", "--second", "b", "--score", "c")
    errors = refused(command, "similar", *scored, "--picture", "map.png")
    assert "draws texts, not scored pairs" in errors


# vectors


def test_words(answer, command, bundles, tokenizer, tmp_path):
    words = ["cat", "dog", "猫"]
    found = answer("vectors", "words", bundles / "writer", *words, "--picture", "map.png")
    table = safetensors.numpy.load_file(bundles / "writer" / bundle.WEIGHTS)
    table = table["embedding/embeddings"]
    rows = [table[tokenizer.encode(t)].mean(axis=0) for t in (" cat", " dog", "猫")]
    np.testing.assert_allclose(
        found["cosine"], 1 - scipy.spatial.distance.cdist(rows, rows, "cosine"), atol=1e-5
    )
    assert sum(found["share_of_variance"]) == pytest.approx(1)  # three points lie on a plane
    assert imread(tmp_path / "map.png").min() < 0.5
    _, output, _ = command("vectors", "words", bundles / "writer", *words)
    cosine = found["cosine"][0][1]
    assert f"dog {cosine:.3f}" in output.splitlines()[0]
    errors = refused(command, "vectors", "words", bundles / "images", "cat")
    assert "holds no word vectors" in errors


def test_documents(answer, bundles, tmp_path):
    rows = [(text, "ja" if text == TEXTS[-1] else "en") for text in TEXTS]
    write_csv(tmp_path / "my.csv", ["text", "language"], rows)
    flags = ("my.csv", "--weighting", "count", "--save", "v.npy")
    found = answer("vectors", "documents", *flags, "--group", "language", "--picture", "map.png")
    counts = np.load(tmp_path / "v.npy")
    assert counts.shape == (5, found["dimensions"])
    assert counts[0].sum() == 5  # the cat sees a cat
    assert (counts[4] > 0).sum() == 9  # 4 characters, 3 pairs, 2 triples
    assert imread(tmp_path / "map.png").min() < 0.5
    found = answer("vectors", "documents", "my.csv", "--bundle", bundles / "writer")
    assert found["dimensions"] == 24
    assert answer("vectors", "documents", "my.csv", "--max-words", 3)["dimensions"] == 3


def test_images(answer, bundles, tmp_path):
    image = pytest.importorskip("PIL.Image")
    for label, color in (("red", (250, 0, 0)), ("blue", (0, 0, 250))):
        (tmp_path / "data" / label).mkdir(parents=True)
        for n in range(3):
            image.new("RGB", (8 + n, 8), color).save(tmp_path / "data" / label / f"{n}.png")
    found = answer("vectors", "images", "data", "--picture", "map.png")
    assert (found["images"], found["dimensions"]) == (6, 32 * 32 * 3)
    assert found["share_of_variance"][0] > 0.99  # there are two colours
    assert imread(tmp_path / "map.png").min() < 0.5
    assert answer("vectors", "images", "data", "--bundle", bundles / "images")["dimensions"] == 24


@pytest.mark.slow(but=["translator"])
@pytest.mark.parametrize("name", ["writer", "translator"])
def test_states(answer, bundles, models, tokenizer, tmp_path, name):
    flags = ("--picture", "states.png", "--cache", "cache.png", "--steps", 3)
    found = answer("vectors", "states", bundles / name, TEXTS[0], *flags)
    ids = states.text_ids(models[name], tokenizer, TEXTS[0])
    layers = states.hidden_states(models[name], ids)
    assert found["tokens"] == tokenizer.tokens(ids)
    expected = [[math.sqrt((x[i] ** 2).sum()) for x in layers] for i in range(len(ids))]
    np.testing.assert_allclose(found["lengths"], expected, rtol=1e-4)
    assert 1 <= found["cache"]["steps"] <= 3
    assert all(imread(tmp_path / file).min() < 0.5 for file in ("states.png", "cache.png"))


@pytest.mark.slow(but=["embedder"])
@pytest.mark.parametrize("name", ["embedder", "writer", "translator"])
def test_attention(answer, command, bundles, models, tokenizer, tmp_path, name):
    verb = ("vectors", "attention", bundles / name, TEXTS[0])
    ids = states.text_ids(models[name], tokenizer, TEXTS[0])
    scores = states.self_attention(models[name], ids)
    for flags, expected in (
        ([], scores.mean(axis=(0, 1))),
        (["--layer", 2], scores[1].mean(axis=0)),
        (["--head", 3], scores[:, 2].mean(axis=0)),
        (["--layer", 1, "--head", 6, "--picture", "map.png"], scores[0, 5]),
    ):
        found = answer(*verb, *flags)
        assert found["tokens"] == tokenizer.tokens(ids)
        np.testing.assert_allclose(found["attention"], expected, atol=1e-5)
    assert imread(tmp_path / "map.png").min() < 0.5
    title, *lines = command(*verb, "--layer", 1)[1].splitlines()
    assert title == "where each token looks most: layer 1, mean of 6 heads"
    row = scores[0].mean(axis=0)[-1]
    most = [f"{found['tokens'][i]!r} {row[i]:.3f}" for i in np.argsort(-row)[:3]]
    assert lines[-1] == f"  {found['tokens'][-1]!r}: {', '.join(most)}"
    if name == "writer":
        assert lines[0] == f"  {found['tokens'][0]!r}: {found['tokens'][0]!r} 1.000"
    errors = refused(command, *verb, "--head", 7)
    assert errors == "--head is 7.\n  The model has 6 heads.\n"
    assert "--layer is 0" in refused(command, *verb, "--layer", 0)


def test_weights(answer, command, bundles, models, tmp_path):
    found = answer("vectors", "weights", bundles / "writer", "--picture", "sizes.png")
    assert found["weights"] == states.weight_norms(models["writer"])
    pair = (bundles / "writer", bundles / "changed")
    found = answer("vectors", "weights", *pair, "--picture", "changes.png")
    changes = {row["path"]: row["relative_change"] for row in found["weights"]}
    assert 0 < changes["embedding/embeddings"] < 0.1
    assert all(imread(tmp_path / file).min() < 0.5 for file in ("sizes.png", "changes.png"))
    errors = refused(command, "vectors", "weights", pair[0], bundles / "translator")
    assert "not of one architecture" in errors


def test_json_may_stand_before_the_kind(command, bundles):
    status, output, _ = command("vectors", "--json", "words", bundles / "writer", "cat")
    assert status == 0
    assert json.loads(output)["words"] == ["cat"]


def test_vectors_refuses(command, bundles):
    weights = ("vectors", "weights", bundles / "writer")
    assert "cannot be written" in refused(command, *weights, "--picture", "no/map.png")
    errors = refused(command, "vectors", "states", bundles / "writer", "a", "--steps", 0)
    assert "--steps is 0" in errors
    for kind in ("states", "attention"):
        assert "reads images" in refused(command, "vectors", kind, bundles / "images", "a")
    assert "KIND" in refused(command, "vectors")
