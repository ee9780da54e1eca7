"""Exported encoder-only models answer as the trained ones: SavedModel, TFLite and run.pyz."""

import functools
import io
import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from by_numpy import softmax
from encoder_bundles import NAMES, ids_of, one_by_one, resized
from PIL import Image
from processes import RUN_PYZ, TRAINING, python
from tflite_tables import tables
from tiny_models import CONVOLUTIONS, PATCHES, tiny_encoder

from tfx_transformer import bundle, export, runtime
from tfx_transformer.errors import InputError
from tfx_transformer.export import standalone
from tfx_transformer.export.signatures import encoder_signatures
from tfx_transformer.export.to_litert import convert, operation_names
from tfx_transformer.export.verify_encoder import CLASSIFIER, verify_encoder
from tfx_transformer.models.encoders import Classifier, Embedder, MaskedLM
from tfx_transformer.models.predicting import predictor
from tfx_transformer.models.saving import save
from tfx_transformer.runtime.encoder import EncoderEngine

OF_TEXTS = ["text_classifier", "topic_classifier", "text_embedder"]
ALL = [*OF_TEXTS, "image_classifier"]
# One by one, a few, all that run together, some of which most are unused, and more.
ROWS = [1, 3, 5, 8, 11, 20]


@pytest.fixture
def made(request):
    """The bundle of the fixture that a test is parametrized with."""
    return request.getfixturevalue(request.param)


def of(*fixtures):
    return pytest.mark.parametrize("made", fixtures, indirect=True)


@functools.cache
def by_litert(path, variant="float32"):
    return runtime.load(path, variant)


@functools.cache
def served(path):
    return tf.saved_model.load(str(path / bundle.SAVED_MODEL))


def sigmoid(logits):
    return 1 / (1 + np.exp(-logits.astype("float64")))


# Signatures


@pytest.mark.parametrize("task", [Classifier, Embedder])
def test_signatures_of_texts(task):
    model = tiny_encoder(task, num_classes=5, max_sequence_length=200)
    table = encoder_signatures(model)
    alone = [f"run_1x{length}" for length in (16, 32, 64, 128, 200)]
    assert [*table] == [*alone, "run_8x16", "run_8x32", "run_8x64"], "long texts run alone"
    for name, (_, specs) in table.items():
        shape = tuple(map(int, name.removeprefix("run_").split("x")))
        assert specs.keys() == {"token_ids"}
        assert (specs["token_ids"].shape, specs["token_ids"].dtype) == (shape, tf.int32)
    run, _ = table["run_8x16"]
    output = run({"token_ids": tf.ones((8, 16), tf.int32)})["output"]
    assert (output.shape, output.dtype) == ((8, 5 if task is Classifier else 24), tf.float32)


def test_a_short_model_has_its_own_length():
    table = encoder_signatures(tiny_encoder(Embedder, max_sequence_length=16))
    assert [*table] == ["run_1x16", "run_8x16"]
    table = encoder_signatures(tiny_encoder(Embedder, max_sequence_length=13))
    assert [*table] == ["run_1x13", "run_8x13"]


@pytest.mark.parametrize("settings", [PATCHES, CONVOLUTIONS], ids=["patches", "convolutions"])
def test_signatures_of_images(settings):
    table = encoder_signatures(tiny_encoder(Classifier, num_classes=5, **settings))
    assert [*table] == ["run_1", "run_8", "features_1"]
    size = settings["image_size"]
    for rows, (_, specs) in zip((1, 8, 1), table.values(), strict=True):
        assert specs.keys() == {"images"}
        assert (specs["images"].shape, specs["images"].dtype) == ((rows, size, size, 3), tf.float32)


@of(*ALL)
def test_files_offer_the_signatures(made):
    source = "images" if made.tokenizer is None else "token_ids"
    names = ["run_1", "run_8", "features_1"]
    if made.tokenizer is not None:
        names = [f"{name}x{length}" for name in names[:2] for length in (16, 19)]
    table = Interpreter(str(made.path / "model.tflite")).get_signature_list()
    assert table == dict.fromkeys(names, {"inputs": [source], "outputs": ["output"]})


# TFLite


@pytest.mark.parametrize("rows", ROWS)
@of(*OF_TEXTS)
def test_texts_run_together_as_by_keras(made, rows):
    ids = ids_of(made.tokenizer, made.inputs)
    by_length = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    chosen = [by_length[i * len(ids) // rows] for i in range(rows)]
    ids = [ids[i] for i in chosen]
    assert rows == 1 or len(set(map(len, ids))) > 1, "padding shows only beside longer texts"
    output = by_litert(made.path).engine.run_ids(ids)
    assert output.dtype == np.float32
    np.testing.assert_allclose(output, made.outputs[chosen], rtol=1e-5, atol=1e-5)
    if rows > 1:
        assert np.ptp(made.outputs[-rows:], axis=0).max() > 0.01, "texts differ"


@pytest.mark.parametrize("rows", ROWS)
def test_images_run_together_as_by_keras(image_classifier, rows):
    model, engine = image_classifier.model, by_litert(image_classifier.path).engine
    images = random_images(model, rows)
    expected = np.asarray(model({"images": images}, training=False))
    np.testing.assert_allclose(engine.run_images(images), expected, rtol=1e-5, atol=1e-5)
    assert rows == 1 or np.ptp(expected, axis=0).max() > 0.01, "images differ"


def test_features_of_images_are_what_the_logits_are_computed_from(image_classifier):
    """Those of the Transformer; the linear part has its own."""
    made = image_classifier
    features = by_litert(made.path).features(made.inputs)
    assert features.shape == (len(made.inputs), made.model.config.hidden_dim)
    kernel, bias = (np.asarray(weight) for weight in made.model.logits.weights)
    shown = np.stack([resized(file, CONVOLUTIONS["image_size"]) for file in made.inputs])
    logits = features @ kernel + bias + np.asarray(made.model.linear(shown))
    np.testing.assert_allclose(logits, made.outputs, rtol=1e-4, atol=1e-4)
    by_keras = predictor(made.model, labels=NAMES).features(made.inputs)
    np.testing.assert_allclose(features, by_keras, rtol=1e-5, atol=1e-5)
    older = runtime.load(made.path)
    del older.engine.model.signatures["features_1"]
    with pytest.raises(InputError, match="gives no vectors.*\n.*--to litert"):
        older.features(made.inputs)


def random_images(model, rows):
    """float32 images, some dark and some light."""
    size = model.config.image_size
    light = np.linspace(1, 0.1, rows)[:, None, None, None]
    return (light * np.random.default_rng(3).uniform(0, 255, (rows, size, size, 3))).astype("f")


def test_patches_in_float32(tmp_path):
    model = tiny_encoder(Classifier, num_classes=3, **PATCHES)
    convert(model, tmp_path / "model.tflite")
    engine = EncoderEngine(tmp_path / "model.tflite", model.config)
    for rows in (1, 11):
        images = random_images(model, rows)
        expected = np.asarray(model({"images": images}, training=False))
        np.testing.assert_allclose(engine.run_images(images), expected, rtol=1e-5, atol=1e-5)


def test_the_interpreter_runs_a_text_as_keras_does(text_classifier):
    # An oracle of its own: without our runtime, and padded by hand.
    made = text_classifier
    runner = Interpreter(str(made.path / "model.tflite")).get_signature_runner("run_8x19")
    ids = ids_of(made.tokenizer, made.inputs)[:8]
    padded = np.array([row + [0] * (19 - len(row)) for row in ids], "int32")
    output = runner(token_ids=padded)["output"]
    np.testing.assert_allclose(output, made.outputs[:8], rtol=1e-5, atol=1e-5)


@of("text_classifier", "image_classifier")
def test_int8_labels_nearly_as_keras(made):
    expected = softmax(made.outputs)
    probabilities = by_litert(made.path, "int8").probabilities(made.inputs)
    equal = probabilities.argmax(axis=1) == expected.argmax(axis=1)
    assert equal.mean() >= 0.8
    assert 0 < np.abs(probabilities - expected).max() < 0.1


def test_int8_vectors_point_nearly_where_keras_points(text_embedder):
    vectors = by_litert(text_embedder.path, "int8").embed(text_embedder.inputs)
    cosines = (vectors * text_embedder.outputs).sum(axis=1)
    assert 0.99 < cosines.min() < 0.9999999
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


@of(*ALL)
def test_files_need_only_builtin_operations(made):
    files = [made.path / file for file in bundle.LITERT.values() if (made.path / file).is_file()]
    needed = {"FULLY_CONNECTED", "CONV_2D" if made.tokenizer is None else "EMBEDDING_LOOKUP"}
    assert len(files) == 1 + (made.path / "model.int8.tflite").is_file()
    for file in files:
        names = operation_names(file)
        assert needed <= names
        assert all(name.isupper() for name in names), "a custom operation"
        assert not [name for name in names if "VAR" in name]


@of("text_classifier", "text_embedder")
def test_signatures_share_one_table(made):
    size = made.tokenizer.vocabulary_size
    float32, int8 = schema.TensorType.FLOAT32, schema.TensorType.INT8
    # The scales of an int8 table's rows are a table beside it.
    for variant, kinds in (("float32", [float32]), ("int8", [float32, int8])):
        found = tables(made.path / bundle.LITERT[variant], size)
        assert sorted(kind for kind, _ in found) == kinds


def test_a_masked_model_has_no_signatures(tmp_path):
    with pytest.raises(InputError, match="a masked model is a base and answers nothing"):
        convert(tiny_encoder(MaskedLM), tmp_path / "model.tflite")
    assert list(tmp_path.iterdir()) == []


# SavedModel


@of("text_classifier", "topic_classifier")
def test_the_savedmodel_labels_texts(made):
    to_probabilities = sigmoid if made.model.config.multi_label else softmax
    for answer in (
        served(made.path).serve(tf.constant(made.inputs)),
        served(made.path).signatures["serve"](texts=tf.constant(made.inputs)),
    ):
        assert answer.keys() == {"probabilities", "labels"}
        expected = to_probabilities(made.outputs)
        np.testing.assert_allclose(answer["probabilities"], expected, atol=1e-5)
        labels = [label.decode("utf-8") for label in answer["labels"].numpy()]
        assert labels == [NAMES[best] for best in expected.argmax(axis=1)]
        assert len(set(labels)) > 1


def test_the_savedmodel_embeds_texts(text_embedder):
    answer = served(text_embedder.path).serve(tf.constant(text_embedder.inputs))
    assert answer.keys() == {"embeddings"}
    np.testing.assert_allclose(answer["embeddings"], text_embedder.outputs, atol=1e-5)


@of("text_classifier", "text_embedder")
def test_the_savedmodel_reads_any_text(made):
    texts = ["", " ", "</s>", "cat</s> dog", "\N{GRINNING FACE}\t\n", "猫" * 99]
    answer = served(made.path).serve(tf.constant(texts))
    expected = one_by_one(made.model, made.tokenizer, texts)
    if made.model.task == "classification":
        np.testing.assert_allclose(answer["probabilities"], softmax(expected), atol=1e-5)
    else:
        np.testing.assert_allclose(answer["embeddings"], expected, atol=1e-5)


def test_the_savedmodel_labels_images(image_classifier):
    contents = [file.read_bytes() for file in image_classifier.inputs]
    answer = served(image_classifier.path).serve(tf.constant(contents))
    expected = softmax(image_classifier.outputs)
    np.testing.assert_allclose(answer["probabilities"], expected, atol=1e-5)
    labels = [label.decode("utf-8") for label in answer["labels"].numpy()]
    assert labels == [NAMES[best] for best in expected.argmax(axis=1)]


@pytest.mark.slow(but=["PNG-P-0.0001", "BMP-RGB-0.0001", "GIF-P-0.0001", "JPEG-L-0.002"])
@pytest.mark.parametrize(
    ("kind", "mode", "tolerance"),
    [
        ("PNG", "L", 1e-4),
        ("PNG", "P", 1e-4),
        ("BMP", "RGB", 1e-4),
        ("GIF", "P", 1e-4),
        ("JPEG", "RGB", 2e-3),
        ("JPEG", "L", 2e-3),
    ],
)
def test_the_savedmodel_decodes_as_pillow(image_classifier, kind, mode, tolerance):
    pixels = np.add.outer(7 * np.arange(29), 4 * np.arange(31))[..., None] * [1, 0.5, 0.1]
    content = io.BytesIO()
    Image.fromarray((pixels % 256).astype("uint8")).convert(mode).save(content, kind)
    expected = predictor(image_classifier.model, labels=NAMES).probabilities([content.getvalue()])
    answer = served(image_classifier.path).serve(tf.constant([content.getvalue()]))
    np.testing.assert_allclose(answer["probabilities"], expected, atol=tolerance)


@pytest.fixture(scope="module")
def masked(encoder_words, tmp_path_factory):
    path = tmp_path_factory.mktemp("masked") / "base"
    save(path, tiny_encoder(MaskedLM, vocabulary_size=encoder_words.vocabulary_size), encoder_words)
    return path


def test_a_masked_model_is_refused(masked):
    for to in (export.saved_model, export.litert):
        with pytest.raises(InputError, match="a masked model is a base and answers nothing"):
            to(masked)
    bundle.verify(masked)
    assert not list(masked.glob("*.tflite"))


# Verifying


EXPORTS = {"SavedModel", "TFLite float32", "TFLite int8"}


@of(*ALL)
def test_the_bundle_says_how_it_was_verified(made):
    expected = EXPORTS - ({"TFLite int8"} if made.path.name == "topics" else set())
    assert made.verified.keys() == expected
    config = bundle.read_config(made.path)
    assert config["verified"] == json.loads(json.dumps(made.verified))
    count = len(made.inputs)
    for name in ("SavedModel", "TFLite float32"):
        assert made.verified[name]["identical"] == made.verified[name]["of"] == count
    compared = f"{count} of {count} labels identical to Keras; "
    if made.path.name == "vectors":
        compared = f"vectors of {count} texts have cosines of at least 1.0 with those of Keras"
    card = (made.path / "README.md").read_text("utf-8")
    for name in ("SavedModel", "TFLite float32"):
        assert f"- {name}: {compared}" in card
    bundle.verify(made.path)


def test_verified_figures_are_those_of_the_answers(text_classifier, text_embedder):
    probabilities = by_litert(text_classifier.path, "int8").probabilities(text_classifier.inputs)
    expected = softmax(text_classifier.outputs)
    told = text_classifier.verified["TFLite int8"]
    largest = np.abs(probabilities - expected).max()
    assert told["largest_probability_difference"] == pytest.approx(largest, rel=0.05)
    assert told["identical"] == (probabilities.argmax(1) == expected.argmax(1)).sum()
    vectors = by_litert(text_embedder.path, "int8").embed(text_embedder.inputs)
    told = text_embedder.verified["TFLite int8"]
    cosines = (vectors * text_embedder.outputs).sum(axis=1)
    assert told["smallest_cosine"] == pytest.approx(cosines.min(), abs=1e-5)
    assert told["identical"] == 0, "8 bits round every vector"


def test_a_compiled_predictor_gives_the_expected_answers(text_classifier):
    used, made = [], text_classifier
    reading = CLASSIFIER._replace(output=lambda answering, inputs: used.append(answering))
    verify_encoder(reading, made.path, ["a"], made.model, made.tokenizer, (), "compiled")
    assert used == ["compiled"]


def test_what_was_in_the_bundle_stays(text_classifier):
    config = bundle.read_config(text_classifier.path)
    assert (config["labels"], config["scores"]) == (NAMES, {"accuracy": 0.5})
    files = {path.name for path in text_classifier.path.iterdir()}
    assert files >= {"saved_model", "model.tflite", "model.int8.tflite", "run.pyz"}
    assert not list(text_classifier.path.glob("*.litertlm"))


def test_verifying_finds_an_export_of_another_model(text_classifier, topic_classifier, tmp_path):
    path = text_classifier.copy(tmp_path)
    with bundle.updating(path) as folder:
        (folder / "model.tflite").unlink()
        shutil.copy(topic_classifier.path / "model.tflite", folder)
    results = export.verify(path, text_classifier.inputs)
    assert results["SavedModel"]["identical"] == len(text_classifier.inputs)
    assert results["TFLite float32"]["identical"] < len(text_classifier.inputs)
    assert results["TFLite float32"]["largest_probability_difference"] > 0.1
    removed = {name for name, result in results.items() if result.get("removed")}
    assert removed == {"TFLite float32"} and not (path / "model.tflite").exists()
    assert "TFLite float32: REMOVED: " in (path / "README.md").read_text("utf-8")
    bundle.verify(path)
    assert bundle.read_config(path)["verified"] == json.loads(json.dumps(results))


def test_a_masked_model_is_not_exported(masked, capsys):
    before = (masked / bundle.SUMS).read_bytes()
    assert export.everything(masked, ["the cat"]) == {}
    told = "A masked model is a base: fine-tune it with --base. It is not exported.\n"
    assert capsys.readouterr().out == told
    assert (masked / bundle.SUMS).read_bytes() == before


# Labels


def relabelled(made, folder, labels):
    """A copy of a bundle with other labels; None: with none."""
    path = made.copy(folder)
    with bundle.updating(path) as inside:
        config = bundle.read_config(inside) | {"labels": labels}
        if labels is None:
            del config["labels"]
        bundle.write_config(inside, config)
    return path


@pytest.mark.parametrize("labels", ["abc", [1, 2, 3]])
def test_labels_of_another_kind(text_classifier, command, tmp_path, labels):
    path = relabelled(text_classifier, tmp_path, labels)
    message = f"{path}/config.json: 'labels' is {labels!r}.\n  Expected a list of names."
    with pytest.raises(InputError, match=re.escape(message)):
        runtime.load(path)
    assert command("classify", path, "the cat") == (2, "", message + "\n")


@pytest.mark.parametrize("labels", [None, NAMES[:2], [*NAMES, "cow"], ["bird", "bird", "dog"]])
def test_labels_that_name_no_classes(text_classifier, command, tmp_path, labels):
    path = relabelled(text_classifier, tmp_path, labels)
    message = f"{path}: 'labels' in its configuration are not the names of 3 classes."
    with pytest.raises(InputError, match=re.escape(message)):
        runtime.load(path)
    for engine in ("litert", "keras"):
        status, output, errors = command("classify", path, "the cat", "--engine", engine)
        assert (status, output, errors) == (2, "", message + "\n")
    with pytest.raises(InputError, match="are not the names of 3 classes"):
        export.saved_model(path)


# run.pyz

OTHERS = (*TRAINING, "sklearn", "scipy")


def run_pyz(made, *arguments, cwd, blocked=OTHERS):
    return python(RUN_PYZ, made.path / "run.pyz", *arguments, cwd=cwd, blocked=blocked)


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("ai_edge_litert", "pip install ai-edge-litert numpy tiktoken"),
        ("tokenizers", "pip install ai-edge-litert numpy tiktoken tokenizers"),
    ],
)
def test_run_pyz_names_what_to_install_when_it_is_missed(monkeypatch, capsys, module, line):
    def main():
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)

    monkeypatch.setattr(runtime, "main", main)
    with pytest.raises(SystemExit, match="2"):
        exec(standalone._MAIN, {})
    assert capsys.readouterr().err == f"run.pyz needs the package {module}.\n  {line}\n"


def test_run_pyz_labels_texts(text_classifier, tmp_path):
    texts = text_classifier.inputs[:3]
    found = by_litert(text_classifier.path).classify(texts)
    output = run_pyz(text_classifier, *texts, "--json", cwd=tmp_path, blocked=(*OTHERS, "PIL"))
    answers = [{"text": t, "answer": f._asdict()} for t, f in zip(texts, found, strict=True)]
    assert json.loads(output) == json.loads(json.dumps({"answers": answers}))
    found = by_litert(text_classifier.path, "int8").classify(texts)
    output = run_pyz(text_classifier, *texts, "--variant=int8", cwd=tmp_path)
    assert output == "".join(f"{f.label}  {100 * f.probability:.1f} %\n" for f in found)


def test_run_pyz_embeds_texts(text_embedder, tmp_path):
    texts = text_embedder.inputs[:2]
    output = run_pyz(text_embedder, *texts, "--json", cwd=tmp_path, blocked=(*OTHERS, "PIL"))
    answers = json.loads(output)["answers"]
    assert [answer["text"] for answer in answers] == texts
    vectors = [answer["answer"] for answer in answers]
    np.testing.assert_allclose(vectors, text_embedder.outputs[:2], atol=1e-5)
    output = run_pyz(text_embedder, *texts, cwd=tmp_path)
    shown = [[float(number) for number in line.split(" ")] for line in output.splitlines()]
    np.testing.assert_allclose(shown, vectors, atol=1e-6)


def test_run_pyz_labels_images(image_classifier, tmp_path):
    files = [str(file) for file in image_classifier.inputs[:3]]
    found = by_litert(image_classifier.path).classify(files)
    output = run_pyz(image_classifier, *files, "--json", cwd=tmp_path)
    answers = [{"text": t, "answer": f._asdict()} for t, f in zip(files, found, strict=True)]
    assert json.loads(output) == json.loads(json.dumps({"answers": answers}))


def test_run_pyz_without_pillow_names_it(image_classifier, tmp_path):
    code = "import runpy, sys; sys.modules['PIL'] = None; sys.argv = sys.argv[1:]; "
    code += "runpy.run_path(sys.argv[0], run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", code, image_classifier.path / "run.pyz", image_classifier.inputs[0]],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "reading images needs Pillow.\n  pip install pillow\n"
