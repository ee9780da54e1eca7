"""Images are prepared as the checkpoint's preprocessor_config.json says, by every engine."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tfx_transformer as tfx
from tfx_transformer import runtime
from tfx_transformer.errors import InputError
from tfx_transformer.export.serving import _pixels
from tfx_transformer.export.verify_encoder import _run_saved_model
from tfx_transformer.images import resize
from tfx_transformer.models.pretrained import from_pretrained
from tfx_transformer.models.pretrained.preprocessor import Preprocessing, preprocessor_config

sys.path.insert(0, str(Path(__file__).parent / "conformance"))
from fixtures import fixture_of  # noqa: E402
from weights import write_checkpoint  # noqa: E402

SIZE = 35  # of the case
LABELS = ["red", "green", "blue", "black", "white"]


def photo(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    waves = [127 + 127 * np.sin(x / 5), (3 * x + 5 * y) % 256, 255 * (y > height / 2)]
    return np.stack(waves, axis=-1).astype("uint8")


def prepared(values: dict, image: np.ndarray, size: int = SIZE) -> np.ndarray:
    """What an image processor of transformers does, step by step with Pillow and NumPy."""
    height, width = image.shape[:2]
    wanted = values["size"]
    if "shortest_edge" in wanted:
        short, edge = min(height, width), wanted["shortest_edge"]
        new = (int(edge * width / short), int(edge * height / short))
    else:
        new = (wanted["width"], wanted["height"])
    kind = Image.Resampling(values["resample"])
    rows = Image.fromarray(image).resize((new[0], height), kind)
    x = np.asarray(rows.resize(new, kind)).astype("float64")
    top, left = (new[1] - size) // 2, (new[0] - size) // 2
    x = x[top : top + size, left : left + size]
    if values.get("do_rescale", True):
        x = x * values.get("rescale_factor", 1 / 255)
    if values.get("do_normalize", True):
        x = (x - values["image_mean"]) / values["image_std"]
    return x


IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
SQUARE = {"size": {"height": 35, "width": 35}, "do_center_crop": False}
CROPPED = {"do_center_crop": True, "crop_size": {"height": 35, "width": 35}}
FORMS = {
    "vit": {**SQUARE, **IMAGENET, "resample": 2},
    "lanczos": {**SQUARE, **IMAGENET, "resample": 1},
    "nearest": {**SQUARE, **IMAGENET, "resample": 0},
    "deit": {"size": {"height": 41, "width": 41}, **CROPPED, **IMAGENET, "resample": 3},
    "clip": {"size": {"shortest_edge": 37}, **CROPPED, **IMAGENET, "resample": 3},
    "bytes": {
        **SQUARE,
        "resample": 2,
        "do_rescale": False,
        "image_mean": [127.5] * 3,
        "image_std": [60.0, 70.0, 80.0],
    },
    "factor": {**SQUARE, "resample": 3, "rescale_factor": 1 / 127.5, "do_normalize": False},
    "raw": {**SQUARE, "resample": 2, "do_rescale": False, "do_normalize": False},
}


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("shape", [(96, 128), (61, 43), (29, 97)])
def test_every_step_is_done(name, shape):
    values, image = FORMS[name], photo(*shape)
    given = {"preprocessor": values, "image_size": SIZE, "model_type": "vit"}
    steps = Preprocessing.of(given)
    x = resize(image, SIZE, steps.resizing) / 127.5 - 1
    ours = x * steps.factor[:, 0] + steps.term[:, 0]
    expected = prepared(values, image)
    np.testing.assert_allclose(ours, expected, atol=2e-6 * max(1, np.abs(expected).max()))
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    in_graph = np.asarray(_pixels(file.getvalue(), SIZE, steps.resizing))
    exact = resize(image, SIZE, steps.resizing)
    assert np.abs(in_graph - exact).max() <= 1  # Pillow's weights are whole numbers
    assert np.abs(in_graph - exact).mean() < 0.02


# Where Pillow 13 resizes the width first, as its earlier releases and torchvision always do.
WIDTH_FIRST = [
    (3, 7),
    (7, 3),
    (5, 11),
    (31, 37),
    (41, 35),
    (35, 90),
    (36, 36),
    (96, 128),
    (113, 101),
]


@pytest.mark.parametrize("name", ["vit", "lanczos", "nearest", "deit", "clip"])
def test_noise_is_resized_as_by_pillow_and_in_the_graph(name):
    values, random = FORMS[name], np.random.default_rng(3)
    given = {"preprocessor": values, "image_size": SIZE, "model_type": "vit"}
    resizing = Preprocessing.of(given).resizing
    for height, width in WIDTH_FIRST:
        image = random.integers(0, 256, (height, width, 3)).astype("uint8")
        size = values["size"]
        if edge := size.get("shortest_edge"):
            short = min(height, width)
            size = {"height": edge * height // short, "width": edge * width // short}
        new_height, new_width = size["height"], size["width"]
        kind = Image.Resampling(values["resample"])
        whole = np.asarray(Image.fromarray(image).resize((new_width, new_height), kind))
        top, left = (new_height - SIZE) // 2, (new_width - SIZE) // 2
        expected = whole[top : top + SIZE, left : left + SIZE].astype("float32")
        ours = resize(image, SIZE, resizing)
        np.testing.assert_array_equal(ours, expected, err_msg=f"{height} x {width}")
        file = io.BytesIO()
        Image.fromarray(image).save(file, "PNG")
        in_graph = np.asarray(_pixels(file.getvalue(), SIZE, resizing))
        assert np.abs(in_graph - ours).max() <= 1, (height, width)


@pytest.mark.slow(but=["deit"])
@pytest.mark.parametrize("name", ["vit", "deit"])
def test_all_engines_prepare_alike(name, tmp_path, command):
    described, _ = fixture_of(name)
    described = described | {"files": {"preprocessor_config.json": FORMS[name]}}
    path = write_checkpoint(tmp_path / name, described)
    file = tmp_path / "photo.png"
    Image.fromarray(photo(61, 43)).save(file)
    expected = tfx.predictor(from_pretrained(path)[0], None, LABELS).probabilities([file])
    plain = write_checkpoint(tmp_path / "plain", described)
    (plain / "preprocessor_config.json").unlink()
    other = tfx.predictor(from_pretrained(plain)[0], None, LABELS).probabilities([file])
    assert np.abs(expected - other).max() > 1e-3  # it matters
    formats = "litert,saved_model,transformers"
    assert command("export", path, "--name", "mine", "--to", formats)[0] == 0
    found = runtime.load("saved_models/mine").probabilities([file])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    found = _run_saved_model("probabilities", Path("saved_models/mine"), [file])
    np.testing.assert_allclose(found, expected, atol=2e-3)
    again = from_pretrained("saved_models/mine/transformers")[0]
    np.testing.assert_allclose(
        tfx.predictor(again, None, LABELS).probabilities([file]), expected, atol=1e-5
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resample": 4}, "resample is 'box'"),
        ({"do_resize": False}, "do_resize is False"),
        ({"size": {"longest_edge": 35}}, "size is {'longest_edge': 35}"),
        ({"size": {"height": 37, "width": 35}}, "35 x 35, the image_size"),
        ({**CROPPED, "crop_size": 33}, "crop_size is 33"),
        ({**CROPPED, "size": 33}, "size is 33"),
        ({"do_pad": True}, "do_pad is True"),
        ({"do_flip_channel_order": True}, "do_flip_channel_order is True"),
        ({"rescale_factor": 0}, "rescale_factor is 0"),
        ({"image_std": [0, 1, 1]}, "image_std is"),
        ({"image_mean": [1, 1]}, "image_mean is"),
        ({"image_processor_type": "SamImageProcessor"}, "prepared by 'SamImageProcessor'"),
    ],
)
def test_steps_that_are_not_known_are_refused(changes, message, tmp_path):
    described, _ = fixture_of("vit")
    files = {"preprocessor_config.json": FORMS["vit"] | changes}
    path = write_checkpoint(tmp_path / "vit", described | {"files": files})
    with pytest.raises(InputError, match=message):
        from_pretrained(path)


def test_what_is_written_reads_the_same():
    for steps in ({"filter": "bicubic", "height": 41, "width": 43}, None):
        written = json.loads(json.dumps(preprocessor_config(35, steps)))
        read = Preprocessing.of({"preprocessor": written, "image_size": 35, "model_type": "vit"})
        assert read.resizing == (steps or {"filter": "bilinear", "height": 35, "width": 35})
        np.testing.assert_allclose(read.factor, 1, rtol=1e-6)
        np.testing.assert_allclose(read.term, 0, atol=1e-6)
