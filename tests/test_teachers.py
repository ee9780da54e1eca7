"""A student of a teacher: the losses by SciPy, the file of answers, and the recipes."""

import csv
import gc
import json
import math
import re
import shutil
import weakref
from collections import Counter
from pathlib import Path

import numpy as np
import pandas
import pytest
from encoder_bundles import NAMES
from PIL import Image
from safetensors.numpy import load_file
from scipy.special import expit, log_softmax, softmax
from tiny_models import tiny_causal, tiny_encoder, tiny_model

import tfx_transformer as tfx
from tfx_transformer import cli, json_files, runtime
from tfx_transformer.data import (
    LabelledTexts,
    Pairs,
    SentencePairs,
    UnlabelledTexts,
    add_unlabelled_pairs,
    pairs,
    read_unlabelled_texts,
    split_labelled_texts,
    table_files,
    taught_pairs,
    taught_texts,
)
from tfx_transformer.errors import InputError
from tfx_transformer.models.distillation import (
    TaughtAccuracy,
    TaughtCosines,
    TaughtCrossentropy,
    TaughtError,
    TaughtTokens,
    soft_divergence,
)
from tfx_transformer.text.framing import frame
from tfx_transformer.text.tools import Tools
from tfx_transformer.text.words import words
from tfx_transformer.training.answers import AnswerFile
from tfx_transformer.training.callbacks import Progress
from tfx_transformer.training.classification import ClassifierRun
from tfx_transformer.training.defaults import embedder_defaults, student_defaults
from tfx_transformer.training.facts import name_of_source
from tfx_transformer.training.past import Past
from tfx_transformer.training.teachers import Teacher
from tfx_transformer.training.token_teachers import TokenTeacher

# The losses


def logits(count, classes=3, seed=0):
    return np.random.default_rng(seed).normal(0, 3, (count, classes)).astype("float32")


def targets(labels, teacher):
    """Labels, -1 for none, and the teacher's logits, as batches hold them."""
    table = np.eye(teacher.shape[1])[labels]
    table[np.array(labels) < 0] = -1
    return np.stack([table, teacher], axis=1).astype("float32")


def by_hand(labels, teacher, student, temperature, share):
    found = []
    for label, t, z in zip(labels, teacher.astype(float), student.astype(float), strict=True):
        p = softmax(t / temperature)
        q = log_softmax(z / temperature)
        loss = share * temperature**2 * sum(p * (np.log(p) - q))
        found.append(loss - (1 - share) * log_softmax(z)[label] if label >= 0 else loss)
    return np.array(found)


@pytest.mark.parametrize(("temperature", "share"), [(1.0, 1.0), (2.0, 0.3), (5.0, 0.0)])
def test_the_loss_by_hand(temperature, share):
    labels, teacher, student = [2, -1, 0, 1, -1], logits(5), logits(5, seed=1)
    loss = TaughtCrossentropy(temperature, share, reduction=None)
    found = loss(targets(labels, teacher), student)
    expected = by_hand(labels, teacher, student, temperature, share)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    weights = np.array([1, 2, 0, 3, 5], "float32")
    mean = TaughtCrossentropy(temperature, share)(targets(labels, teacher), student, weights)
    assert float(mean) == pytest.approx((weights * expected).sum() / weights.sum(), rel=1e-5)


def test_the_loss_of_several_labels_by_hand():
    teacher, student = logits(3, 2), logits(3, 2, seed=1)
    labels = np.array([[1, 0], [-1, -1], [0, 0]], "float32")
    loss = TaughtCrossentropy(3.0, 0.25, multi_label=True, reduction=None)
    found = loss(np.stack([labels, teacher], axis=1), student)
    p, q = expit(teacher / 3.0), expit(student / 3.0)
    taught = 9 * (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q)))
    r = expit(student)
    labelled = -labels * np.log(r) - (1 - labels) * np.log(1 - r)
    labelled[1] = 0
    expected = (0.25 * taught + 0.75 * labelled).mean(axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_the_same_answers_have_no_divergence_and_far_ones_are_finite():
    far = np.array([[1000.0, -1000.0, 0.0]], "float32")
    for several in (False, True):
        assert float(soft_divergence(far, far, 2.0, several)[0]) == pytest.approx(0)
        assert np.isfinite(soft_divergence(far, -far, 1.0, several)).all()


def test_the_gradient_hardly_depends_on_the_temperature():
    # For a high T it is that of matching logits (Hinton et al. 2015, equation 4): (z - t) / classes
    # of centred logits.
    import tensorflow as tf

    teacher, student = logits(1), tf.Variable(logits(1, seed=1))
    with tf.GradientTape() as tape:
        loss = soft_divergence(teacher, student, 1000.0)
    apart = (student - teacher).numpy()
    expected = (apart - apart.mean()) / 3
    np.testing.assert_allclose(tape.gradient(loss, student), expected, atol=0.02)


def test_accuracy_counts_labelled_texts_alone():
    metric = TaughtAccuracy()
    student = np.array([[5, 1, 1], [5, 1, 1], [0, 1, 3]], "float32")
    metric.update_state(targets([0, -1, 1], student), student, np.array([1.0, 1.0, 3.0]))
    assert float(metric.result()) == pytest.approx(1 / 4)
    several = TaughtAccuracy(multi_label=True)
    labels = np.array([[1, 0, 1], [-1, -1, -1]], "float32")
    several.update_state(np.stack([labels, student[:2]], 1), student[:2])
    assert float(several.result()) == pytest.approx(2 / 3)


@pytest.mark.parametrize("wrong", [{"temperature": 0}, {"share": 1.5}, {"share": -0.1}])
def test_settings_of_the_loss_out_of_range(wrong):
    with pytest.raises(InputError, match=f"{[*wrong][0]} is"):
        TaughtCrossentropy(**wrong)


def test_the_loss_of_cosines_by_hand():
    # Two texts: the teacher's vectors are at right angles, or the same but for their length.
    vectors = np.array([[[1, 0, 0], [0, 2, 0]], [[0, 3, 0], [0, 0, 1]]], "float32")
    # Its cosines: [[0, 0], [1, 0]].
    student = np.array([[0.5, 0.25], [0.0, -1.0]], "float32")
    loss = TaughtCosines(reduction=None)(vectors, student)
    others = (0.25**2 + 1) / 2
    assert np.asarray(loss).tolist() == pytest.approx([(0.25 + others) / 2, (1 + others) / 2])


def test_the_loss_of_cosines_by_numpy():
    random = np.random.default_rng(3)
    vectors, own = random.normal(size=(7, 2, 5)), random.uniform(-1, 1, (7, 7))
    unit = vectors / np.linalg.norm(vectors, axis=2, keepdims=True)
    apart = (own - unit[:, 0] @ unit[:, 1].T) ** 2
    expected = []
    for i in range(7):
        others = [(apart[i, j] + apart[j, i]) / 2 for j in range(7) if j != i]
        expected.append((apart[i, i] + np.mean(others)) / 2)
    found = TaughtCosines(reduction=None)(vectors.astype("float32"), own.astype("float32"))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


# Texts without labels


def test_lines_of_a_text_file(tmp_path):
    file = tmp_path / "more.txt"
    file.write_bytes("\ufeffThe cat.\r\n\n  A dog. \n猫\n".encode())
    found = read_unlabelled_texts(file)
    assert found.texts == [("The cat.",), ("A dog.",), ("猫",)] and found.rows == [1, 3, 4]
    file.write_bytes("これは猫です。\nこれは犬です。\n".encode("cp932"))
    assert read_unlabelled_texts(file).texts[1] == ("これは犬です。",)


def test_columns_of_tables(tmp_path):
    rows = [("title", "body", "other"), ("a", "b", "c"), ("", "d", "e")]
    for name in ("one.csv", "two.csv"):
        with (tmp_path / name).open("w", newline="") as file:
            csv.writer(file).writerows(rows)
    both = ",".join(str(tmp_path / name) for name in ("one.csv", "two.csv"))
    (files,) = table_files(both)
    found = read_unlabelled_texts(files, "title,body")
    assert found.texts == [("a", "b"), ("", "d")] * 2 and "row 3" not in found.path
    assert found.rows[3] == f"3 of {tmp_path / 'two.csv'}"
    # Equal rows once; neither those that are known, also with other blanks.
    assert found.without([("a  ", "b")]).texts == [("", "d")]
    with pytest.raises(InputError, match=r"no column 'x'(.|\n)* --source NAME \(source=...\)"):
        read_unlabelled_texts(files, "x", role="source")


@pytest.mark.parametrize(
    ("name", "content", "text", "said"),
    [
        ("a.txt", b"", "text", "it has no text"),
        ("a.txt", b"one\n", "title,body", "a table with these columns"),
        ("a.txt", b"one\nt\0wo\n", "text", "line 2: it has a NUL"),
        ("a.csv", b"label\nx\n", "text", r"no column 'text'(.|\n)* --text NAME \(text=...\)"),
    ],
)
def test_files_without_texts(tmp_path, name, content, text, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=said):
        read_unlabelled_texts(tmp_path / name, text)


def test_batches_have_labels_and_answers(encoder_words):
    examples = LabelledTexts([("a cat",), ("dog",)], [("dog",), ("bird",)], [2, 3])
    others = UnlabelledTexts([("the dog sees a cat",)], [1])
    answers = logits(3)
    options = {"batch_size": 5, "shuffle": False, "weights": np.array([2.0, 1.0, 4.0])}
    batches = taught_texts(examples, encoder_words, NAMES, answers, others, **options)
    ((inputs, found, weights),) = list(batches.as_numpy_iterator())
    assert (inputs["token_ids"][2] != encoder_words.padding_id).sum() > 4
    assert found.dtype == np.float32 and weights.tolist() == [4, 2, 1]
    np.testing.assert_array_equal(found[:, 0], [[0, 0, 1], [1, 0, 0], [-1, -1, -1]])
    np.testing.assert_array_equal(found[:, 1], answers)


def test_single_texts_are_pairs_with_each_other():
    pairs = SentencePairs(["a", "b"], ["c", "d"], [0.5, 1.0], [2, 3], "my.csv")
    others = UnlabelledTexts([(text,) for text in "efgh"], [1, 2, 3, 4], "more.txt")
    found = add_unlabelled_pairs(pairs, others)
    assert found.first == [*"abefgh"] and found.second[:2] == ["c", "d"]
    assert sorted(found.second[2:]) == [*"efgh"] and found.scores is None
    for seed in range(9):
        found = add_unlabelled_pairs(pairs, others, seed)
        assert all(a != b for a, b in zip(found.first[2:], found.second[2:], strict=True))
    assert found.rows == [2, 3, *(f"{n} of more.txt" for n in (1, 2, 3, 4))]


PAIRS = Pairs(["a", "b", "c"], ["A", "B", "C"], [2, 3, 4], "my.csv")


def test_translations_of_a_teacher_replace_or_join_those_of_the_table():
    others = UnlabelledTexts([("d",), ("e",)], [1, 5], "more.txt")
    answers = ["x", "B", " ", "y", ""]
    found = taught_pairs(PAIRS, answers, others)
    assert (found.source, found.target) == ([*"abcd"], ["x", "B", "C", "y"])
    assert found.rows == [2, 3, 4, "1 of more.txt"]
    joined = taught_pairs(PAIRS, answers, others, joined=True)
    assert (joined.source, joined.target) == ([*"abcad"], ["A", "B", "C", "x", "y"])
    assert joined.rows == [2, 3, 4, 2, "1 of more.txt"]
    assert taught_pairs(PAIRS, answers[:3]).target == ["x", "B", "C"]


# The file of answers


def ask(values):
    return [json.dumps([len(str(value)), value]).encode() for value in values]


INPUTS = [["one"], ["two", "three"], ["猫"], ["one"], ["and a longer one"]]


def test_each_input_is_answered_once(tmp_path):
    asked = []

    def count(values):
        asked.extend(values)
        return ask(values)

    path = tmp_path / "answers"
    found = AnswerFile(path, "key").answer(INPUTS, count)
    assert found == ask(INPUTS) and len(asked) == 4
    more = [*reversed(INPUTS), ["new"]]
    assert AnswerFile(path, "key").answer(more, count) == ask(more)
    assert asked[4:] == [["new"]]
    assert AnswerFile(path, "other key").answer(INPUTS, count) == ask(INPUTS)
    assert len(asked) == 9


def test_a_cut_or_damaged_file_is_made_anew_from_there(tmp_path):
    path = tmp_path / "answers"
    AnswerFile(path, "key").answer(INPUTS, ask)
    whole = path.read_bytes()
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        assert AnswerFile(path, "key").answer(INPUTS, ask) == ask(INPUTS)
        assert path.read_bytes() == whole
    for place in range(0, len(whole), 3):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        assert AnswerFile(path, "key").answer(INPUTS, ask) == ask(INPUTS)
        assert path.read_bytes() == whole


def test_an_interruption_keeps_what_was_answered(tmp_path):
    path = tmp_path / "answers"

    def interrupted(values):
        if ["two", "three"] in values:
            raise KeyboardInterrupt
        return ask(values)

    with pytest.raises(KeyboardInterrupt):
        AnswerFile(path, "key").answer(INPUTS, interrupted, block=2)
    again = AnswerFile(path, "key")
    assert len(again) == 2 and again.answer(INPUTS, ask) == ask(INPUTS)


# The teacher


def test_a_bundle_answers_by_its_file(text_classifier, encoder_texts, tmp_path):
    teacher = Teacher(text_classifier.path, "classification")
    assert (teacher.labels, teacher.multi_label, teacher.columns) == (NAMES, False, 1)
    texts = [(text,) for text in encoder_texts]
    found = teacher.logits(texts, tmp_path / "answers", sorted(NAMES))
    order = [NAMES.index(name) for name in sorted(NAMES)]
    np.testing.assert_allclose(found, text_classifier.outputs[:, order], atol=1e-4)
    assert type(teacher.open().engine).__module__.startswith("tfx_transformer.runtime")


def test_a_teacher_is_not_in_memory_when_it_has_answered(text_classifier, tmp_path):
    examples = LabelledTexts([("a",), ("b",)], [("dog",), ("猫",)], [2, 3], "my.csv")
    teacher = Teacher(text_classifier.path, "classification")
    model = weakref.ref(teacher.open())
    ClassifierRun("r", {}, root=tmp_path).ask(teacher, NAMES, examples, examples)
    gc.collect()
    assert model() is None
    assert teacher.open().labels.names == NAMES


def test_an_image_classifier_answers_each_image_once(image_classifier, tmp_path, monkeypatch):
    files = image_classifier.inputs
    copy = shutil.copy(files[2], tmp_path / "copy.png")
    teacher = Teacher(image_classifier.path, "classification", images=True)
    found = teacher.logits([*files, Path(copy)], tmp_path / "answers", sorted(NAMES))
    order = [NAMES.index(name) for name in sorted(NAMES)]
    np.testing.assert_allclose(found[:-1], image_classifier.outputs[:, order], atol=1e-3)
    np.testing.assert_array_equal(found[-1], found[2])
    monkeypatch.setattr(Teacher, "open", None)
    again = teacher.logits([Path(copy)], tmp_path / "answers", sorted(NAMES))
    np.testing.assert_array_equal(again, found[-1:])


def test_a_bundle_without_a_file_answers_by_keras(encoder_words, encoder_texts, tmp_path):
    size = encoder_words.vocabulary_size
    model = tiny_encoder(tfx.Classifier, vocabulary_size=size, num_classes=3)
    tfx.save(tmp_path / "large", model, encoder_words, labels=NAMES)
    teacher = Teacher(tmp_path / "large", "classification")
    texts = [(text,) for text in encoder_texts[:3]]
    before = teacher.logits(texts, tmp_path / "answers", NAMES)
    # Another model in that folder answers anew.
    for weight in model.logits.trainable_weights:
        weight.assign(2 * weight)
    tfx.save(tmp_path / "large", model, encoder_words, overwrite=True, labels=NAMES)
    teacher = Teacher(tmp_path / "large", "classification")
    after = teacher.logits(texts, tmp_path / "answers", NAMES)
    np.testing.assert_allclose(after, 2 * before, rtol=1e-4, atol=1e-5)
    (tmp_path / "large" / tfx.bundle.SUMS).unlink()
    teacher = Teacher(tmp_path / "large", "classification")
    with pytest.raises(InputError, match="SHA256SUMS is missing"):
        teacher.logits(texts, tmp_path / "answers", NAMES)


def test_the_student_gets_the_notes_of_its_teacher(text_classifier):
    examples = LabelledTexts([(text,) for text in "abcdef"], [("dog",), ("猫",)] * 3, [*range(6)])
    teacher, student = Past(text_classifier.path), Past()
    parts = student.divide(examples, None, split_labelled_texts, 0.3, 1, teacher=teacher)
    assert sum(map(len, parts)) == 6 and "does not say which rows" in student.notes[0]


def test_teachers_that_cannot_teach(text_classifier, text_embedder, image_classifier, tmp_path):
    with pytest.raises(InputError, match="task 'embedding'.*\n.*'classification'"):
        Teacher(text_embedder.path, "classification")
    with pytest.raises(InputError, match="reads images"):
        Teacher(image_classifier.path, "classification")
    with pytest.raises(InputError, match="reads texts, not images"):
        Teacher(text_classifier.path, "classification", images=True)
    with pytest.raises(InputError, match="no head"):
        Teacher("keras://bert", "classification")
    with pytest.raises(InputError, match="nowhere"):
        Teacher(tmp_path / "nowhere", "classification")
    for name, head, task, said in (
        ("vit", "ViTForImageClassification", "classification", "reads images"),
        ("m2m_100", "M2M100ForConditionalGeneration", "seq2seq", "names the language to write"),
        ("bert", "BertModel", "embedding", "no head"),
    ):
        (tmp_path / name).mkdir()
        config = {"model_type": name, "architectures": [head], "image_size": 15 * (name == "vit")}
        (tmp_path / name / "config.json").write_text(json.dumps(config), "utf-8")
        with pytest.raises(InputError, match=said):
            Teacher(tmp_path / name, task)
    teacher = Teacher(text_classifier.path, "classification")
    several = LabelledTexts([("a",), ("b",)], [("cow",), ("dog", "猫")], [1, 2], "my.csv")
    with pytest.raises(InputError, match="my.csv: .* know the labels 'cow'; it knows 'bird', whi"):
        teacher.check(several, False)
    known = LabelledTexts([("a",), ("b",)], [("猫",), ("dog",)], [1, 2], "my.csv")
    with pytest.raises(InputError, match="gives one label a row, but the data have several"):
        teacher.check(known, True)
    with pytest.raises(InputError, match="know the labels 'cow'"):
        teacher.check(known, False, ["cow"])
    with pytest.raises(InputError, match="reads 1 text in a row, but --text names 2"):
        teacher.check(LabelledTexts([("a", "b")], [("dog",)], [1]), False)
    teacher.check(known, False)


# The recipes


@pytest.mark.parametrize(("classes", "vocabulary"), [(2, 2000), (77, 1000)])
def test_a_student_of_the_default_size_fits_a_phone(classes, vocabulary):
    buckets = student_defaults(classes)["linear_buckets"]
    config = tfx.TransformerConfig.of_size(
        "tiny", vocabulary, ngram_buckets=5000, num_classes=classes, linear_buckets=buckets
    )
    assert 1_300_000 < tfx.Classifier(config).count_params() < 2_000_000


def test_an_embedder_of_the_default_size_fits_a_phone():
    found = embedder_defaults(has_teacher=True)
    size, width = found["vocabulary_size"], found["bag_width"]
    config = tfx.TransformerConfig.of_size("tiny", size, bag_dim=width)
    assert 1_800_000 < tfx.Embedder(config).count_params() < 2_000_000


@pytest.mark.parametrize(
    "source, name",
    [
        ("/home/me/saved_models/large/", "large"),
        ("hf://owner/name@main", "owner/name"),
        ("minilm", "sentence-transformers/all-MiniLM-L6-v2"),
    ],
)
def test_a_card_names_the_teacher_but_no_path(source, name):
    assert name_of_source(source) == name


SETTINGS = {
    "csv": "my.csv",
    "unlabelled": "more.txt",
    "size": "nano",
    "vocabulary_size": 270,
    "max_length": 19,
    "linear_buckets": 0,
    "epochs": 2,
    "share": 0.3,
}


@pytest.fixture
def tables(tmp_path, monkeypatch, encoder_texts):
    """A folder with a table of two labels of three, and texts, some of them known, in a file of
    lines and in a table with a bad row."""
    monkeypatch.chdir(tmp_path)
    with open("my.csv", "w", encoding="utf-8", newline="") as file:
        rows = [(text, ["dog", "猫"][n % 2]) for n, text in enumerate(encoder_texts[:16])]
        csv.writer(file).writerows([("text", "label"), *rows])
    (tmp_path / "more.txt").write_text("\n".join(encoder_texts), "utf-8")
    with open("more.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("source", "n"), ("", 1), *((t, 2) for t in encoder_texts)])


def test_the_recipe_trains_on_labels_and_answers(tables, text_classifier, fitted, monkeypatch):
    recipe = cli.recipe_main("text_classification")
    settings = SETTINGS | {"teacher": str(text_classifier.path)}
    model, given = fitted(recipe, **settings)
    assert model.config.num_classes == 3 and isinstance(model.loss, TaughtCrossentropy)
    found = np.concatenate([batch[1] for batch in given["x"].as_numpy_iterator()])
    rows = np.unique(found, axis=0)
    plain = runtime.load(text_classifier.path)
    texts = [*text_classifier.inputs]
    answers = plain.run_rows(plain.rows(texts))[:, [NAMES.index(name) for name in sorted(NAMES)]]
    for row in rows[:, 1]:
        assert np.abs(answers - row).max(axis=1).min() < 1e-5
    *_, others = json.loads(Path("runs/topics/data.json").read_text("utf-8"))
    count = len({*texts} - {*texts[:16]})
    assert others == {"name": "unlabelled", "path": "more.txt", "bad_rows": 0, "rows": count}
    assert (rows[:, 0, 0] == -1).sum() == count
    # A repeated run asks nobody.
    monkeypatch.setattr(Teacher, "open", None)
    again = fitted(recipe, **settings)[1]
    same = np.concatenate([batch[1] for batch in again["x"].as_numpy_iterator()])
    np.testing.assert_array_equal(same, found)


@pytest.mark.slow
def test_a_whole_run(tables, text_classifier, bare, command):
    status, shown, errors = command(
        *("run", "text_classification", "--teacher", text_classifier.path, "--name", "small"),
        *(part for n, v in SETTINGS.items() for part in (f"--{n.replace('_', '-')}", v)),
    )
    assert status == 0, errors
    assert "% of the held-out rows right, " in shown and "texts without a label" in shown
    assert "the teacher:" in shown
    result = json_files.read_object(Path("runs/small/result.json"))
    assert 0 <= result["baselines"]["the teacher"]["accuracy"] <= 1
    config = tfx.bundle.read_config("saved_models/small")
    assert config["labels"] == sorted(NAMES)
    assert config["data"]["teacher"] == Path(text_classifier.path).name
    card = Path("saved_models/small/README.md").read_text("utf-8")
    assert "\n- answered by the teacher: more.txt, " in card


@pytest.mark.slow
def test_an_interrupted_run_goes_on(tables, text_classifier, bare, monkeypatch, capsys):
    recipe = cli.recipe_main("text_classification")
    settings = SETTINGS | {"teacher": str(text_classifier.path), "consistency": 1.0}
    recipe(**settings, name="whole")
    begin = Progress.on_epoch_begin

    def interrupt(self, epoch, logs=None):
        if epoch == 1:
            raise KeyboardInterrupt
        begin(self, epoch, logs)

    with monkeypatch.context() as patch:
        patch.setattr(Progress, "on_epoch_begin", interrupt)
        with pytest.raises(KeyboardInterrupt):
            recipe(**settings, name="parts")
    capsys.readouterr()
    recipe(**settings, name="parts")
    assert "Goes on from epoch" in capsys.readouterr().out
    weights = [load_file(f"saved_models/{name}/model.safetensors") for name in ("whole", "parts")]
    for name, values in weights[0].items():
        np.testing.assert_array_equal(values, weights[1][name])


def test_settings_that_contradict_the_teacher(tables, text_embedder, command):
    status, _, errors = command("run", "text_classification", "--unlabelled", "more.txt")
    assert status == 2 and "no --teacher" in errors and "keras" not in errors
    teacher = ("--teacher", text_embedder.path)
    status, _, errors = command("run", "embedding", *teacher, "--hard-negatives")
    assert status == 2 and "--hard-negatives is of no use with --teacher" in errors
    status, _, errors = command("run", "embedding", *teacher, "--temperature", "inf")
    assert status == 2 and "temperature is inf" in errors
    for recipe, flag, said in (
        ("image_classification", "--label-smoothing=0.2", "labels are not smoothed with --teacher"),
        ("instruction_finetuning", "--vocabulary-size=9", "model gets the tokenizer of --teacher"),
    ):
        status, _, errors = command("run", recipe, *teacher, flag)
        assert status == 2 and said in errors, errors
    for recipe in ("instruction_finetuning", "tagging"):
        status, _, errors = command("run", recipe, *teacher, "--teacher-share=0")
        assert status == 2 and "nothing is learned from --teacher" in errors
    unused = ("--teacher-share=0", "--teacher-answers=join", "--temperature=3")
    status, _, errors = command("run", "instruction_finetuning", *teacher, *unused)
    assert status == 2 and "--temperature is 3.0, but no probabilities are learned" in errors


@pytest.mark.parametrize(
    "recipe, setting",
    [
        ("text_classification", "--teacher-share=0.3"),
        ("text_classification", "--temperature=3"),
        ("translation", "--teacher-beams=2"),
        ("translation", "--teacher-answers=join"),
        ("image_classification", "--teacher-share=0.3"),
        ("tagging", "--temperature=3"),
        ("text_regression", "--teacher-share=0.3"),
        ("instruction_finetuning", "--teacher-answers=join"),
    ],
)
def test_settings_of_a_missing_teacher(tables, command, recipe, setting):
    flag, _, value = setting.partition("=")
    status, _, errors = command("run", recipe, setting)
    expected = f"{flag} is {value}"
    assert status == 2 and expected in errors and "there is no --teacher" in errors, errors
    assert f"Add --teacher, or leave out {flag}." in errors


@pytest.mark.slow
def test_an_embedder_learns_the_cosines(tables, text_embedder, encoder_texts, bare, command):
    with open("pairs.csv", "w", encoding="utf-8", newline="") as file:
        rows = zip(encoder_texts[:8], encoder_texts[8:16], strict=True)
        csv.writer(file).writerows([("source", "target"), *rows])
    status, shown, errors = command(
        *("run", "embedding", "--csv", "pairs.csv", "--name", "near", "--size", "nano"),
        *("--teacher", text_embedder.path, "--unlabelled", "more.csv", "--epochs", "1"),
        *("--skip-bad-rows", "--share", "0.3", "--max-length", "19", "--bag-width", "0"),
        *("--batch-size", "5"),
    )
    assert status == 0, errors
    result = json_files.read_object(Path("runs/near/result.json"))
    assert "the teacher: " in shown
    assert len(pandas.read_csv("runs/near/bad_rows_unlabelled.csv")) == 1
    held_out = pandas.read_csv("runs/near/pairs.csv")
    vectors = [
        runtime.load(text_embedder.path).embed(held_out[n].tolist()) for n in ("first", "second")
    ]
    cosines = vectors[0] @ vectors[1].T
    found = np.mean(cosines.argmax(axis=1) == np.arange(len(cosines)))
    assert result["baselines"]["the teacher"]["found"] == pytest.approx(found, abs=1e-4)


class Backwards:
    """A translator that writes texts from the end; `asked` counts them by beams."""

    def __init__(self):
        self.asked = {}

    def generate(self, texts, truncate, beams):
        assert truncate
        self.asked[beams] = self.asked.get(beams, 0) + len(texts)
        return [text[::-1] for text in texts]


@pytest.mark.slow(but=["replace"])
@pytest.mark.parametrize("answers", ["replace", "join"])
def test_a_translator_learns_translations(tables, encoder_texts, fitted, monkeypatch, answers):
    tokenizer = tfx.Tokenizer.train(encoder_texts, 270)
    tfx.save("large", tiny_model(vocabulary_size=tokenizer.vocabulary_size), tokenizer)
    with open("pairs.csv", "w", encoding="utf-8", newline="") as file:
        rows = [(text, text.upper()) for text in dict.fromkeys(encoder_texts[:12])]
        csv.writer(file).writerows([("source", "target"), *rows])
    teacher = Backwards()
    monkeypatch.setattr(Teacher, "open", lambda self, beams: teacher)
    recipe = cli.recipe_main("translation")
    settings = {"csv": "pairs.csv", "teacher": "large", "unlabelled": "more.csv", "share": 0.3}
    settings |= {"skip_bad_rows": True, "size": "nano", "vocabulary_size": 270, "teacher_beams": 3}
    seen = []

    def record(texts, *arguments, **options):
        seen.append(texts)
        return pairs(texts, *arguments, **options)

    monkeypatch.setattr("tfx_transformer.data.pairs", record)
    fitted(recipe, **settings, teacher_answers=answers, name=answers)
    train, held_out = seen
    count = len({*encoder_texts}) - len(held_out)  # those held out are not learned
    assert teacher.asked == {3: count}
    assert len(pandas.read_csv(f"runs/{answers}/bad_rows_unlabelled.csv")) == 1
    assert [*held_out.target] == [text.upper() for text in held_out.source]
    learned = dict(zip(train.source[::-1], train.target[::-1], strict=True))
    own = len(train) - count if answers == "join" else 0
    expected = [text.upper() for text in train.source[:own]]
    expected += [text[::-1] for text in train.source[own:]]
    assert train.target == expected and len(learned) == count
    fitted(recipe, **settings, teacher_answers=answers, name=answers)
    assert teacher.asked == {3: count}


def test_a_translator_has_a_teacher_that_writes(tables, text_classifier, command):
    status, _, errors = command("run", "translation", "--teacher", text_classifier.path)
    assert status == 2 and "'classification'" in errors and "'seq2seq' or 'causal'" in errors


def saved(path, kind, tokenizer, **details):
    """A small model for texts, in a bundle without exports."""
    sizes = {"num_classes": len(details.get("labels", ()))}
    model = tiny_encoder(kind, vocabulary_size=tokenizer.vocabulary_size, **sizes)
    tfx.save(path, model, tokenizer, **details)
    return model


def epoch_of(given):
    """The targets and the weights of an epoch, one row for each example, or each token."""
    batches = list(given["x"].as_numpy_iterator())
    shape = batches[0][2].ndim
    targets = [y.reshape(-1, *y.shape[shape:]) for _, y, _ in batches]
    return np.concatenate(targets), np.concatenate([w.ravel() for _, _, w in batches])


@pytest.mark.slow
def test_a_student_of_images(tmp_path, image_classifier, fitted, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = image_classifier.inputs
    shutil.copytree(files[0].parent.parent, "pictures")
    shutil.copytree("pictures", "more/deeper")  # those are known
    pixels = np.random.default_rng(3).integers(0, 256, (9, 9, 3), "uint8")
    Image.fromarray(pixels).save("more/new.png")
    recipe = cli.recipe_main("image_classification")
    settings = {"images": "pictures", "unlabelled": "more", "teacher": str(image_classifier.path)}
    settings |= {"size": "nano", "layers": 1, "image_size": 16, "epochs": 1, "share": 0.5}
    settings |= {"mix": 0.0, "linear_cells": 0, "batch_size": 3}
    model, given = fitted(recipe, **settings)
    assert isinstance(model.loss, TaughtCrossentropy) and model.loss.temperature == 2.0
    targets, _ = epoch_of(given)
    order = [NAMES.index(name) for name in sorted(NAMES)]
    answers = np.asarray(runtime.load(image_classifier.path).logits([*files, pixels]))[:, order]
    places = [np.abs(answers - row).max(axis=1).argmin() for row in targets[:, 1]]
    np.testing.assert_allclose(targets[:, 1], answers[places], atol=1e-4)
    # One of two images of each label is held out; files are sorted by label.
    labels = [place // 2 if place < len(files) else -1 for place in places]
    assert sorted(labels) == [-1, 0, 1, 2]
    expected = np.eye(3)[labels]
    expected[np.array(labels) < 0] = -1
    np.testing.assert_array_equal(targets[:, 0], expected)
    *_, others = json.loads(Path("runs/animals/data.json").read_text("utf-8"))
    assert others == {"name": "unlabelled", "path": "more", "bad_rows": 0, "rows": 1}


def test_a_student_of_tags(tables, encoder_words, encoder_texts, fitted, monkeypatch):
    model = saved("large", tfx.Tagger, encoder_words, labels=tfx.data.tag_names(["A", "PLACE"]))
    known = [text for text in dict.fromkeys(encoder_texts) if "cat" in text]
    for name, texts in (("held.jsonl", known[:2]), ("my.jsonl", known[2:])):
        with open(name, "w", encoding="utf-8") as file:
            for text in texts:
                start = text.index("cat")
                row = {"text": text, "spans": [[start, start + 3, "A"]]}
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
    recipe = cli.recipe_main("tagging")
    settings = {"data": "my.jsonl", "validation": "held.jsonl", "unlabelled": "more.txt"}
    settings |= {"teacher": "large", "size": "nano", "vocabulary_size": 270, "max_length": 60}
    settings |= {"epochs": 1, "ngram_buckets": 0, "new_names": 0.0}
    student, given = fitted(recipe, **settings)
    assert student.config.num_classes == 5 and isinstance(student.loss, TaughtCrossentropy)
    targets, weights = epoch_of(given)
    counted = targets[weights > 0]
    found = 0
    for text in set(encoder_texts) - {*known[:2]}:
        ids = frame(encoder_words, text, 19)
        if len(ids) == 19:
            continue  # the teacher may read it in windows
        logits = np.asarray(model({"token_ids": np.array([ids], "int32")}, training=False))[0, 1:]
        starts = {start for start, _ in words(text)}
        for place, (start, end) in enumerate(encoder_words.encode_with_offsets(text)[1]):
            if start in starts and start < end:
                starts.remove(start)  # the first token of a word answers for it
                assert np.abs(counted[:, 1] - logits[place]).max(axis=1).min() < 1e-3
                found += 1
    assert found > 9 and 0 < (counted[:, 0, 0] == -1).sum() < len(counted)
    monkeypatch.setattr(Teacher, "open", None)  # a repeated run asks nobody
    np.testing.assert_array_equal(epoch_of(fitted(recipe, **settings)[1])[0], targets)


@pytest.mark.slow
def test_a_student_of_numbers(tables, encoder_words, encoder_texts, fitted):
    model = saved("large", tfx.Regressor, encoder_words, text_columns=1)
    texts = list(dict.fromkeys(encoder_texts))
    numbers = np.arange(len(texts)) ** 2.0
    for name, places in (("held.csv", range(3)), ("my.csv", range(3, 12))):
        with open(name, "w", encoding="utf-8", newline="") as file:
            rows = [(texts[place], numbers[place]) for place in places]
            csv.writer(file).writerows([("text", "target"), *rows])
    recipe = cli.recipe_main("text_regression")
    settings = {"csv": "my.csv", "validation": "held.csv", "unlabelled": "more.txt"}
    settings |= {"teacher": "large", "size": "nano", "vocabulary_size": 270, "max_length": 19}
    settings |= {"epochs": 1, "loss": "absolute", "teacher_share": 0.25}
    student, given = fitted(recipe, **settings)
    assert isinstance(student.loss, TaughtError)
    assert (student.loss.absolute, student.loss.share) == (True, 0.25)
    rows = [np.array([frame(encoder_words, text, 19)], "int32") for text in texts[3:]]
    answers = np.array([np.asarray(model({"token_ids": row}, training=False)) for row in rows])
    has_number = np.arange(len(rows)) < 9
    own = np.where(has_number, numbers[3:], numbers[3:12].mean())
    mean, deviation = numbers[3:12].mean(), numbers[3:12].std()
    expected = np.stack([own, answers.ravel()], axis=1)
    expected = np.column_stack([(expected - mean) / deviation, has_number])
    targets, _ = epoch_of(given)
    order = [np.lexsort((t[:, 1], np.round(t[:, 0], 3), t[:, 2])) for t in (targets, expected)]
    np.testing.assert_allclose(targets[order[0]], expected[order[1]], atol=1e-4)


def chats_of(path, texts):
    """A table of instructions and answers."""
    with open(path, "w", encoding="utf-8", newline="") as file:
        rows = [(text, text[::-1]) for text in texts]
        csv.writer(file).writerows([("instruction", "output"), *rows])


def test_an_assistant_learns_answers_and_tokens(tables, encoder_texts, fitted, monkeypatch):
    texts = list(dict.fromkeys(encoder_texts))
    chats_of("my.csv", texts[:8])
    tokenizer = tfx.Tokenizer.train(texts, 280, tfx.ROLE_TOKENS)
    tfx.ChatTemplate.of(tokenizer)  # gives it one
    sizes = {"vocabulary_size": tokenizer.vocabulary_size, "max_sequence_length": 300}
    tfx.save("large", tiny_causal(**sizes), tokenizer)
    asked = []

    class Loud:
        def generate(self, prompts, truncate, beams, max_new_tokens):
            assert truncate and beams == 1 and max_new_tokens == 300
            asked.extend(prompts)
            return [prompt[-1]["content"].upper() for prompt in prompts]

    monkeypatch.setattr(Teacher, "open", lambda self, beams: Loud())
    recipe = cli.recipe_main("instruction_finetuning")
    settings = {"csv": "my.csv", "unlabelled": "more.txt", "teacher": "large", "size": "nano"}
    settings |= {"max_length": 300, "turns": 2, "share": 0.3, "teacher_answers": "replace"}
    settings |= {"temperature": 3.0, "pack": False, "batch_size": 99, "skip_bad_rows": True}
    student, given = fitted(recipe, **settings)
    assert isinstance(student.loss, TaughtTokens) and student.loss.temperature == 3.0
    assert student.config.vocabulary_size == tokenizer.vocabulary_size
    (inputs, targets, weights), *_ = given["x"].as_numpy_iterator()
    teacher, _ = tfx.load("large")
    logits = np.asarray(teacher({"token_ids": inputs["token_ids"]}, training=False), "float64")
    logs = log_softmax(logits / 3.0, axis=-1)
    ids = targets[..., 1:33].astype(int)
    kept = np.take_along_axis(logs, ids, axis=-1)
    np.testing.assert_allclose(targets[..., 33:][weights > 0], kept[weights > 0], atol=1e-4)
    assert (np.sort(logs, axis=-1)[..., -32] <= kept.min(axis=-1) + 1e-4)[weights > 0].all()
    # Each row is an instruction with the teacher's answer, or a chat of two; those held out are not
    # learned.
    pairs_of_rows = zip(targets[..., 0].astype(int), weights > 0, strict=True)
    learned = [tokenizer.decode(row[counted]) for row, counted in pairs_of_rows]
    assert all(len(prompt) == 1 for prompt in asked), "chats of two are not asked"
    single = [prompt[-1]["content"].upper() for prompt in asked]
    chats = list((Counter(learned) - Counter(single)).elements())
    assert not Counter(single) - Counter(learned)
    assert len(chats) == math.ceil(len(single) / 2)
    assert all(any(chat == a + b for a in single for b in ("", *single)) for chat in chats)
    data = json.loads(Path("runs/assistant/data.json").read_text("utf-8"))
    assert len(single) == len(texts) - data[1]["rows"]
    again = fitted(recipe, **settings)[1]
    assert len(asked) == len(single), "a repeated run asks nobody"
    (_, same, _), *_ = again["x"].as_numpy_iterator()
    np.testing.assert_array_equal(same, targets)


def test_an_assistant_and_its_teacher_have_one_tokenizer(tables, encoder_texts, command):
    chats_of("my.csv", list(dict.fromkeys(encoder_texts))[:8])
    for name, texts in (("large", encoder_texts), ("other", ["a b", "c d"] * 20)):
        tokenizer = tfx.Tokenizer.train(texts, 280, tfx.ROLE_TOKENS)
        tfx.ChatTemplate.of(tokenizer)  # gives it one
        sizes = {"vocabulary_size": tokenizer.vocabulary_size, "max_sequence_length": 50}
        tfx.save(name, tiny_causal(**sizes), tokenizer)
    run = ("run", "instruction_finetuning", "--csv", "my.csv", "--teacher", "large")
    status, _, errors = command(*run, "--base", "other", "--max-length", "40")
    assert status == 2 and "the base other and the teacher large have different" in errors
    assert re.search(r"tokenizers \(token 26\d is '.+' and '.+'\), so", errors)
    assert "--teacher-share 0 --teacher-answers replace" in errors
    status, _, errors = command(*run)
    assert status == 2 and "the teacher large reads 50 tokens, but --max-length is 128" in errors
    teacher = TokenTeacher("large")
    _, tokenizer = teacher.writer
    # What a model has room for does not matter.
    sizes["vocabulary_size"] += 9
    teacher.check_tokens(40, (tiny_causal(**sizes), tokenizer))
    tokenizer.tools = Tools([{"name": "wake", "parameters": {"type": "object"}}])
    tfx.save("caller", tiny_causal(**sizes), tokenizer)
    with pytest.raises(InputError, match="the teacher caller calls tools"):
        TokenTeacher("caller")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["images", "tags", "numbers", "assistant"])
def test_whole_runs_of_other_students(
    kind, tables, encoder_words, encoder_texts, image_classifier, bare, capsys
):
    texts = list(dict.fromkeys(encoder_texts))
    settings = {"teacher": "large", "unlabelled": "more.txt", "size": "nano", "epochs": 1}
    settings |= {"vocabulary_size": 270, "max_length": 60, "share": 0.3, "name": "small"}
    if kind == "images":
        recipe = "image_classification"
        settings = {"images": str(image_classifier.inputs[0].parent.parent), "share": 0.5}
        settings |= {"teacher": str(image_classifier.path), "size": "nano", "image_size": 16}
        settings |= {"epochs": 1, "mix": 1.0, "name": "small"}
    elif kind == "tags":
        recipe = "tagging"
        tags = tfx.data.tag_names(["A"])
        saved("large", tfx.Tagger, encoder_words, labels=tags)
        rows = [(t, [[t.index("cat"), t.index("cat") + 3, "A"]]) for t in texts if "cat" in t]
        lines = [json.dumps({"text": text, "spans": spans}) for text, spans in rows]
        Path("my.jsonl").write_text("\n".join(lines), "utf-8")
        settings |= {"data": "my.jsonl"}
    elif kind == "numbers":
        recipe = "text_regression"
        saved("large", tfx.Regressor, encoder_words, text_columns=1)
        with open("my.csv", "w", encoding="utf-8", newline="") as file:
            rows = [(text, n**2) for n, text in enumerate(texts[:12])]
            csv.writer(file).writerows([("text", "target"), *rows])
        settings |= {"csv": "my.csv"}
    else:
        recipe = "instruction_finetuning"
        tokenizer = tfx.Tokenizer.train(texts, 280, tfx.ROLE_TOKENS)
        tfx.ChatTemplate.of(tokenizer)  # gives it one
        sizes = {"vocabulary_size": tokenizer.vocabulary_size, "max_sequence_length": 128}
        tfx.save("large", tiny_causal(**sizes), tokenizer)
        chats_of("my.csv", texts[:8])
        settings |= {"csv": "my.csv", "max_length": 128, "teacher_answers": "join"}
        del settings["vocabulary_size"]
    cli.recipe_main(recipe)(**settings)
    assert "teacher     " in capsys.readouterr().out
    result = json_files.read_object(Path("runs/small/result.json"))
    config = tfx.bundle.read_config("saved_models/small")
    assert config["data"]["teacher"] == Path(str(settings["teacher"])).name
    if kind != "assistant":
        assert result["baselines"]["the teacher"]
    else:
        assert result["perplexity"] > 1
        assert Path("runs/small/teacher_tokens.bin").stat().st_size > 256
