"""The verbs classify and evaluate of classifiers: what they answer, and what they refuse."""

import csv
import json
import typing

import numpy as np
import pytest
from by_numpy import softmax
from encoder_bundles import NAMES
from processes import everything_in, process
from sklearn import metrics
from tiny_models import tiny_encoder

from tfx_transformer import bundle, runtime
from tfx_transformer.cli.engines import Variant
from tfx_transformer.models.encoders import MaskedLM
from tfx_transformer.models.saving import save


def write_csv(name, rows, header=("text", "label")):
    with open(name, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return name


def read_csv(name):
    with open(name, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def as_json(value):
    return json.loads(json.dumps(value))


@pytest.fixture
def answer(command):
    """The JSON that a command answers."""

    def run(*arguments):
        status, output, errors = command(*arguments, "--json")
        assert status == 0, errors
        return json.loads(output)

    return run


def line(found, count=1):
    best = sorted(found.probabilities.items(), key=lambda item: -item[1])[:count]
    return ", ".join(f"{name}  {100 * probability:.1f} %" for name, probability in best)


# classify


def test_texts_are_labelled(command, answer, text_classifier):
    texts = text_classifier.inputs
    found = runtime.load(text_classifier.path).classify(texts)
    status, output, errors = command("classify", text_classifier.path, *texts)
    assert (status, errors) == (0, "")
    expected = [f"{line(f)}   {text}" for f, text in zip(found, texts, strict=True)]
    assert output.splitlines() == expected
    assert len({f.label for f in found}) > 1
    expected = [{"input": t, **f._asdict()} for t, f in zip(texts, found, strict=True)]
    assert answer("classify", text_classifier.path, *texts) == as_json({"answers": expected})


def test_the_most_probable_labels_come_first(command, text_classifier):
    texts = text_classifier.inputs[:5]
    found = runtime.load(text_classifier.path).classify(texts)
    for top in (2, 3, 99):
        output = command("classify", text_classifier.path, *texts, "--top", top)[1]
        expected = [f"{line(f, top)}   {text}" for f, text in zip(found, texts, strict=True)]
        assert output.splitlines() == expected
    first = output.splitlines()[0]
    assert all(name in first for name in NAMES)
    shown = [float(part.split(" %")[0].split()[-1]) for part in first.split(", ")]
    assert shown == sorted(shown, reverse=True) and sum(shown) == pytest.approx(100, abs=0.2)


def test_every_engine_labels_alike(answer, text_classifier):
    texts = text_classifier.inputs
    expected = softmax(text_classifier.outputs)
    for flags, tolerance in (
        (["--engine=keras"], 1e-5),
        (["--engine=litert"], 1e-5),
        (["--variant=float32"], 1e-5),
        (["--variant=int8"], 0.1),
    ):
        answers = answer("classify", text_classifier.path, *texts, *flags)["answers"]
        shown = np.array([[one["probabilities"][name] for name in NAMES] for one in answers])
        difference = np.abs(shown - expected).max()
        assert difference < tolerance
        assert flags != ["--variant=int8"] or difference > 1e-5, "another file"


def test_images_are_labelled(command, answer, image_classifier):
    files = image_classifier.inputs
    expected = softmax(image_classifier.outputs)
    for engine in ("litert", "keras"):
        answers = answer("classify", image_classifier.path, *files, "--engine", engine)["answers"]
        assert [one["input"] for one in answers] == [str(file) for file in files]
        shown = [[one["probabilities"][name] for name in NAMES] for one in answers]
        np.testing.assert_allclose(shown, expected, atol=1e-4)
    status, output, _ = command("classify", image_classifier.path, files[0])
    best = expected[0].argmax()
    assert status == 0
    assert output == f"{NAMES[best]}  {100 * expected[0, best]:.1f} %   {files[0]}\n"


def test_all_labels_above_one_half_are_shown(command, topic_classifier):
    texts = topic_classifier.inputs
    lines = command("classify", topic_classifier.path, *texts)[1].splitlines()
    probabilities = 1 / (1 + np.exp(-topic_classifier.outputs.astype("float64")))
    counts = set()
    for text, shown, row in zip(texts, lines, probabilities, strict=True):
        chosen = [n for n, probability in zip(NAMES, row, strict=True) if probability > 0.5]
        counts.add(len(chosen))
        labels = shown.removesuffix(f"   {text}")
        assert [part.split("  ")[0] for part in labels.split(", ")] == (chosen or ["none"])
    assert len(counts) > 1


def test_only_answers_are_written(text_classifier, tmp_path):
    text = text_classifier.inputs[0]
    found = runtime.load(text_classifier.path).classify(text)
    done = process("classify", text_classifier.path, text, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{line(found)}   {text}\n", "")
    assert everything_in(tmp_path) == []


@pytest.fixture
def refused(command, tmp_path):
    """The message of a command that refuses its input and writes nothing."""

    def run(*arguments):
        before = everything_in(tmp_path)
        status, output, errors = command(*arguments)
        assert (status, output) == (2, "")
        assert "Traceback" not in errors and "fault of the program" not in errors
        assert everything_in(tmp_path) == before
        return errors

    return run


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--top=0"], "--top is 0.\n  Expected 1 or more.\n"),
        (["--top=-3"], "--top is -3.\n  Expected 1 or more.\n"),
        (["--top=many"], "--top is 'many'."),
        (["--engine=saved_model"], "invalid choice: 'saved_model'"),
        (["--engine=keras", "--variant=int8"], "--engine keras has none.\n  Drop it."),
        (["--variant=int2"], "invalid choice: 'int2'"),
        (["--variant=int4"], "holds no int4 file for LiteRT; it holds: float32, int8."),
    ],
)
def test_bad_arguments(refused, text_classifier, arguments, message):
    assert message in refused("classify", text_classifier.path, "the cat", *arguments)


def test_every_kind_of_file_can_be_chosen():
    assert tuple(bundle.LITERT) == typing.get_args(Variant)


def test_only_a_classifier_classifies(refused, text_classifier, text_embedder):
    errors = refused("classify", text_embedder.path, "the cat")
    expected = f"{text_embedder.path}: its task is 'embedding'.\n  Expected a classifier. "
    expected += "This bundle is for: tfx-transformer embed\n"
    assert errors == expected
    assert "nowhere is not a bundle" in refused("classify", "nowhere", "the cat")
    assert "there is nothing to label" in refused("classify", text_classifier.path)


def test_names_of_files_are_not_taken_for_texts(refused, answer, text_classifier, tmp_path):
    path = text_classifier.path
    write_csv("mails", [("the cat", "x")])
    for name in ("mails.csv", "mails", "data/mails.xlsx"):
        errors = refused("classify", path, "the cat", name)
        assert errors.startswith(f"{name!r} looks like a file, and would be taken for a text.")
        assert "--csv FILE.csv --column COLUMN" in errors and "evaluate BUNDLE FILE.csv" in errors
        assert len(answer("classify", path, name, "--as-text")["answers"]) == 1
    assert "reads texts, not images" in refused("classify", path, "photo.HEIC")


def test_the_rows_of_a_table_are_labelled(refused, answer, text_classifier, image_classifier):
    texts = text_classifier.inputs
    write_csv("my.csv", [(text, "x") for text in texts], header=("body", "label"))
    flags = ("--csv", "my.csv", "--column", "body")
    by_text = answer("classify", text_classifier.path, *texts)
    assert answer("classify", text_classifier.path, *flags) == by_text
    errors = refused("classify", text_classifier.path, "--csv", "my.csv")
    assert "there is no column 'text'" in errors
    both = refused("classify", text_classifier.path, "the cat", *flags)
    assert "there are texts or images, and --csv" in both
    write_csv("images.csv", [(file, "x") for file in image_classifier.inputs], ("path", "label"))
    by_name = answer("classify", image_classifier.path, *image_classifier.inputs)
    assert answer("classify", image_classifier.path, "--csv", "images.csv") == by_name


def test_an_image_classifier_is_given_texts_or_tables(refused, image_classifier, tmp_path):
    path = image_classifier.path
    write_csv("my.csv", [("a.png", "x")])
    (tmp_path / "photos").mkdir()
    assert "reads images, not texts" in refused("classify", path, "a black cat")
    assert "labelled with --csv FILE.csv" in refused("classify", path, "my.csv")
    errors = refused("classify", path, "photos")
    assert "photos is a folder.\n  Name its images (photos/*)" in errors


def test_images_that_cannot_be_read(refused, image_classifier, tmp_path):
    (tmp_path / "note.png").write_text("no image")
    path, good = image_classifier.path, image_classifier.inputs[0]
    for engine in ("litert", "keras"):
        errors = refused("classify", path, good, "note.png", "--engine", engine)
        assert errors == (
            "note.png: this is not an image; it begins with b'no image'.\n"
            "  Expected a JPEG, PNG, GIF, BMP or WebP image.\n"
        )
    errors = refused("classify", path, "no.png")
    assert errors.startswith("no.png: the file cannot be opened: No such file or directory.\n  ")


# evaluate, of texts


def figures(truth, predicted):
    """As scikit-learn computes them, of every label that the model knows."""
    known = {"labels": NAMES, "zero_division": 0, "average": None}
    table = zip(*metrics.precision_recall_fscore_support(truth, predicted, **known), strict=True)
    return {
        "accuracy": metrics.accuracy_score(truth, predicted),
        "macro_f1": metrics.f1_score(
            truth, predicted, labels=NAMES, average="macro", zero_division=0
        ),
        "per_class": {
            name: dict(zip(("precision", "recall", "f1", "count"), map(float, row), strict=True))
            for name, row in zip(NAMES, table, strict=True)
        },
    }


def assert_scores(scores, expected):
    for name, row in expected.pop("per_class").items():
        assert scores["per_class"][name] == pytest.approx(row, abs=1e-9)
    assert {name: scores[name] for name in expected} == pytest.approx(expected, abs=1e-9)
    assert 0 < scores["accuracy"] < 1


@pytest.fixture
def labelled(text_classifier, tmp_path):
    """Writes a CSV that the model labels rightly but for every third row; the labels of both."""
    predicted = [NAMES[best] for best in text_classifier.outputs.argmax(axis=1)]
    truth = [
        NAMES[NAMES.index(name) - 1] if row % 3 == 0 else name for row, name in enumerate(predicted)
    ]
    write_csv("my.csv", zip(text_classifier.inputs, truth, strict=True))
    return truth, predicted


def test_evaluate_scores_as_scikit_learn(command, answer, text_classifier, labelled):
    truth, predicted = labelled
    for engine in ("keras", "litert"):
        scores = answer("evaluate", text_classifier.path, "my.csv", "--engine", engine)
        assert scores["count"] == len(truth)
        assert_scores(scores, figures(truth, predicted))
    status, output, _ = command("evaluate", text_classifier.path, "my.csv")
    first, *rest = output.splitlines()
    assert status == 0
    assert first == (
        f"right {100 * scores['accuracy']:.2f} % of {len(truth)}  "
        f"macro-F1 {100 * scores['macro_f1']:.2f} %"
    )
    assert [row.split()[0] for row in rest] == NAMES
    assert [int(row.split(" of ")[1]) for row in rest] == [truth.count(name) for name in NAMES]


def test_json_is_all_of_standard_output(command, text_classifier, labelled, tmp_path):
    """In a process of its own, with everything that libraries write."""
    verb = ("evaluate", text_classifier.path, "my.csv", "--engine", "keras")
    shown = command(*verb)[1]
    done = process(*verb, "--json", cwd=tmp_path, tensorflow=True)
    assert (done.returncode, done.stderr) == (0, shown)
    assert json.loads(done.stdout)["count"] == len(labelled[0])
    assert done.stdout.count("\n") == 1 and "macro-F1" in shown


def test_mistakes_are_saved_the_surest_first(answer, text_classifier, labelled):
    truth, predicted = labelled
    answer("evaluate", text_classifier.path, "my.csv", "--save", "mistakes.csv")
    table = read_csv("mistakes.csv")
    wrong = {
        (text, label, best)
        for text, label, best in zip(text_classifier.inputs, truth, predicted, strict=True)
        if label != best
    }
    assert {(row["input"], row["label"], row["predicted"]) for row in table} == wrong
    assert len(table) == len(wrong) == 8
    shown = [float(row["probability"]) for row in table]
    confidence = softmax(text_classifier.outputs).max(axis=1)[::3]
    np.testing.assert_allclose(shown, sorted(confidence, reverse=True), atol=1e-5)


def test_other_columns_and_rows_without_a_label(command, answer, refused, text_classifier):
    rows = [("the cat", "bird"), ("a dog", ""), ("猫", "dog")]
    write_csv("my.csv", rows, header=("words", "animal"))
    verb = ("evaluate", text_classifier.path, "my.csv", "--text=words", "--label=animal")
    assert "my.csv, row 3: column 'animal' is empty." in refused(*verb)
    assert answer(*verb, "--skip-bad-rows")["count"] == 2
    assert "'text'" in refused("evaluate", text_classifier.path, "my.csv")


def test_an_unknown_label_is_named(refused, text_classifier):
    write_csv("my.csv", [("the cat", "bird"), ("a dog", "dgo"), ("the cat", "cow")])
    errors = refused("evaluate", text_classifier.path, "my.csv", "--save=mistakes.csv")
    assert errors.startswith("my.csv, row 3: the label 'dgo' is unknown.\n")
    assert "The model knows 'bird', '猫', 'dog'; the nearest is 'dog'." in errors


def test_two_columns_of_text(answer, text_classifier):
    rows = [("the cat", "a dog", "bird"), ("a dog", "", "dog"), ("猫", "the cat", "猫")]
    write_csv("my.csv", rows, header=("title", "body", "label"))
    flags = ("--text", "title,body", "--engine=litert")
    scores = answer("evaluate", text_classifier.path, "my.csv", *flags, "--save=mistakes.csv")
    pairs = [row[:2] for row in rows]
    probabilities = runtime.load(text_classifier.path).probabilities(pairs)
    predicted = [NAMES[best] for best in probabilities.argmax(axis=1)]
    right = [best == row[2] for best, row in zip(predicted, rows, strict=True)]
    assert scores["accuracy"] == pytest.approx(np.mean(right))
    mistakes = {" | ".join(pair) for pair, hit in zip(pairs, right, strict=True) if not hit}
    assert {row["input"] for row in read_csv("mistakes.csv")} == mistakes


def test_several_labels_a_row(command, answer, refused, topic_classifier):
    predicted = topic_classifier.outputs > 0
    truth = predicted.copy()
    truth[::4, 1] ^= True
    truth[1], truth[2] = False, True
    cells = [[name for name, holds in zip(NAMES, row, strict=True) if holds] for row in truth]
    expected = {
        f"{average}_f1": metrics.f1_score(truth, predicted, average=average, zero_division=0)
        for average in ("micro", "macro")
    } | {"exact_match": metrics.accuracy_score(truth, predicted), "count": len(truth)}
    assert 0.5 < expected["exact_match"] < 1
    for separator, flags in (("|", ()), (";", ("--separator=;",))):
        rows = zip(topic_classifier.inputs, map(separator.join, cells), strict=True)
        write_csv("my.csv", rows)
        for engine in ("keras", "litert"):
            verb = ("evaluate", topic_classifier.path, "my.csv", "--engine", engine, *flags)
            scores = answer(*verb)
            assert {name: scores[name] for name in expected} == pytest.approx(expected, abs=1e-9)
    output = command(*verb)[1]
    assert output.startswith(f"right {100 * expected['exact_match']:.2f} % of {len(truth)}  ")
    assert "--save lists the mistakes where a row has one label." in refused(*verb, "--save=m.csv")


# evaluate, of images


def test_images_of_a_folder_and_of_a_csv(answer, image_classifier, tmp_path):
    files = image_classifier.inputs
    folder = files[0].parent.parent
    truth = [file.parent.name for file in files]
    predicted = [NAMES[best] for best in image_classifier.outputs.argmax(axis=1)]
    expected = figures(truth, predicted)
    scores = answer("evaluate", image_classifier.path, folder, "--save", "mistakes.csv")
    assert scores["count"] == 6
    assert {name: scores[name] for name in ("accuracy", "macro_f1", "per_class")} == {
        "accuracy": pytest.approx(expected["accuracy"]),
        "macro_f1": pytest.approx(expected["macro_f1"]),
        "per_class": {name: pytest.approx(row) for name, row in expected["per_class"].items()},
    }
    wrong = {str(f) for f, t, p in zip(files, truth, predicted, strict=True) if t != p}
    assert wrong and {row["input"] for row in read_csv("mistakes.csv")} == wrong

    rows = [(file.relative_to(folder).as_posix(), file.parent.name) for file in files]
    write_csv(folder / "my.csv", rows, header=("file", "kind"))
    try:
        columns = ("--path=file", "--label=kind", "--engine=litert")
        again = answer("evaluate", image_classifier.path, folder / "my.csv", *columns)
    finally:
        (folder / "my.csv").unlink()
    assert again == {
        name: value if name == "count" else pytest.approx(value, abs=1e-4)
        for name, value in scores.items()
        if name != "per_class"
    } | {"per_class": scores["per_class"]}


def test_images_that_are_not_there(refused, image_classifier):
    write_csv("my.csv", [("no.png", "dog")], header=("path", "label"))
    errors = refused("evaluate", image_classifier.path, "my.csv")
    assert errors.startswith("my.csv, row 2: no.png: there is no such file.\n")


# What else is refused, and what to do instead


@pytest.fixture(scope="module")
def masked(encoder_words, tmp_path_factory):
    path = tmp_path_factory.mktemp("masked") / "base"
    model = tiny_encoder(MaskedLM, vocabulary_size=encoder_words.vocabulary_size)
    save(path, model, encoder_words)
    return path


@pytest.mark.parametrize("engine", ["saved_model", "litertlm"])
def test_engines_that_run_no_classifier(refused, text_classifier, engine):
    write_csv("my.csv", [("the cat", "bird")])
    errors = refused("evaluate", text_classifier.path, "my.csv", "--engine", engine)
    assert errors == f"--engine {engine} does not run a classifier.\n  Use litert or keras.\n"


def test_what_is_scored_otherwise(refused, text_embedder, masked):
    write_csv("my.csv", [("the cat", "bird")])
    errors = refused("evaluate", text_embedder.path, "my.csv")
    assert errors.startswith(f"{text_embedder.path}: a model of task 'embedding' is not scored ")
    assert "tfx-transformer similar BUNDLE --csv FILE --first" in errors
    errors = refused("evaluate", masked, "my.csv")
    assert "a model of task 'masked' is not scored here" in errors
    assert "A masked model: fine-tune it with --base" in errors


def test_a_masked_model_answers_nothing(refused, masked):
    assert "its task is 'masked'.\n  Expected a classifier." in refused("classify", masked, "x")
    for to in ("saved_model", "litert"):
        errors = refused("export", masked, "--to", to)
        assert "a masked model is a base and answers nothing.\n  Fine-tune it." in errors


# info


@pytest.mark.parametrize("kind", ["text_classifier", "text_embedder", "image_classifier"])
def test_info(command, answer, request, kind):
    path = request.getfixturevalue(kind).path
    status, output, _ = command("info", path)
    assert status == 0
    front_matter, card = (path / "README.md").read_text("utf-8").split("\n---\n\n", 1)
    assert front_matter.startswith("---\n") and output.startswith(card)
    compared = "with those of Keras" if kind == "text_embedder" else "identical to Keras"
    assert compared in output
    assert (", ".join(NAMES) in output) == (kind != "text_embedder")
    told = answer("info", path)
    config = bundle.read_config(path)
    assert {name: told[name] for name in config} == config
    assert told["files"]["model.tflite"] == (path / "model.tflite").stat().st_size


def test_info_of_a_masked_model(answer, masked):
    told = answer("info", masked)
    assert (told["task"], "run.pyz" in told["files"]) == ("masked", False)


# check


def test_check_counts_labels(command, answer, text_classifier):
    rows = [("the cat", "猫"), ("a dog", "dog"), ("the cat", "dog"), ("a bird", "NA")]
    write_csv("my.csv", rows)
    for flags in ([], ["--kind=labels"]):
        counts = answer("check", "my.csv", *flags)
        assert (counts["rows"], counts["duplicates"], counts["contradictions"]) == (4, 0, 1)
        assert counts["labels"] == {"dog": 2, "猫": 1, "NA": 1}
        assert counts["single"] == ["NA", "猫"]
    output = command("check", "my.csv")[1]
    assert output.startswith("my.csv\n  rows      4 ")
    counts = answer("check", "my.csv", "--bundle", text_classifier.path)
    tokenizer = text_classifier.tokenizer
    assert counts["tokens"] == sum(tokenizer.count(text) + 2 for text, _ in rows)


def test_check_of_several_labels_and_columns(answer, refused):
    rows = [("the cat", "", "a|b"), ("a dog", "x", "b"), ("", "", "a")]
    write_csv("my.csv", rows, header=("title", "body", "tags"))
    flags = ("--kind=labels", "--text=title,body", "--label=tags", "--separator=|")
    errors = refused("check", "my.csv", *flags)
    assert "my.csv, row 4: columns 'title' and 'body' are empty." in errors
    counts = answer("check", "my.csv", *flags, "--skip-bad-rows")
    assert (counts["rows"], counts["labels"]) == (2, {"a": 1, "b": 2})
    assert [row for row, _, _ in counts["bad_rows"]] == [4]


def test_check_needs_two_labels(refused):
    write_csv("my.csv", [("the cat", "猫"), ("a dog", "猫")])
    errors = refused("check", "my.csv", "--kind", "labels")
    assert errors.startswith("my.csv: '猫' is the only label.\n")


def test_a_classifier_and_an_embedder_do_not_write(command, text_classifier, text_embedder):
    for made in (text_classifier, text_embedder):
        for verb in ("generate", "chat"):
            status, _, errors = command(verb, made.path, *["Hi"] * (verb == "generate"))
            assert status == 2
            assert errors.startswith(f"{made.path}: this model does not write texts.\n  A classif")
