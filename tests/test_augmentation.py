"""Augmentation, told by images whose pixels say where they came from."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfx_transformer.training import augment_images

SIZE = 16
CLASSES = 5


def batches_of(images, labels=None, weights=None, batch_size=11):
    """A data set like that of `data.labelled_images`: shapes unknown, autotune off."""
    count = len(images)
    labels = np.eye(CLASSES)[np.arange(count) % CLASSES] if labels is None else labels
    weights = np.ones(count) if weights is None else weights
    arrays = ({"images": images}, labels, weights)
    dataset = tf.data.Dataset.from_tensor_slices(
        tf.nest.map_structure(lambda array: np.asarray(array, "float32"), arrays)
    ).batch(batch_size)
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


def epoch(dataset) -> list[np.ndarray]:
    """All images, labels and weights of one iteration."""
    parts = [(x["images"].numpy(), y.numpy(), w.numpy()) for x, y, w in dataset]
    return [np.concatenate(part) for part in zip(*parts, strict=True)]


def flat(count):
    """Images of one grey each, which no change but mixing and lighting can alter much."""
    return np.ones((count, SIZE, SIZE, 3)) * np.linspace(40, 215, count)[:, None, None, None]


@pytest.fixture
def no_light(monkeypatch):
    for name in ("_BRIGHTNESS", "_CONTRAST"):
        monkeypatch.setattr(f"tfx_transformer.training.augmentation.{name}", 0.0)


@pytest.fixture
def no_erasing(monkeypatch):
    monkeypatch.setattr("tfx_transformer.training.augmentation._ERASED", 0.0)


def test_the_data_set_is_of_the_same_kind():
    batches = batches_of(flat(23))
    changed = augment_images(batches, SIZE)
    assert len(changed) == len(batches) == 3
    assert not changed.options().autotune.enabled
    inputs, labels, weights = changed.element_spec
    assert inputs["images"].shape.as_list() == [None, SIZE, SIZE, 3]
    assert {spec.dtype for spec in (inputs["images"], labels, weights)} == {tf.float32}
    assert [len(x["images"]) for x, _, _ in changed] == [11, 11, 1]


@pytest.mark.slow(but=["0.5"])
@pytest.mark.parametrize("mix", [0.0, 0.5, 1.0])
def test_another_epoch_is_other_images_and_another_run_the_same(mix):
    images = np.random.default_rng(0).uniform(0, 255, (23, SIZE, SIZE, 3))

    def two_epochs(seed):
        dataset = augment_images(batches_of(images), SIZE, seed, mix)
        return [epoch(dataset) for _ in range(2)]

    one, same, other = two_epochs(3), two_epochs(3), two_epochs(4)
    for first, second in zip(one, same, strict=True):
        assert all(map(np.array_equal, first, second))
    assert not np.array_equal(one[0][0], one[1][0]), "every epoch is new"
    assert not np.array_equal(one[0][0], other[0][0]), "every seed is another one"
    for pixels, labels, weights in one + other:
        assert pixels.min() > -1e-3 and pixels.max() < 255 + 1e-3
        np.testing.assert_allclose(labels.sum(axis=1), 1, rtol=1e-5)
        np.testing.assert_allclose(weights, 1, rtol=1e-5)


def test_a_precision_of_the_model_is_not_that_of_its_images():
    import keras

    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        pixels, labels, _ = epoch(augment_images(batches_of(flat(5)), SIZE, mix=1.0))
    finally:
        keras.config.set_dtype_policy("float32")
    assert (pixels.dtype, labels.dtype) == ("float32", "float32")


# Flipping and shifting


def test_images_are_flipped_and_shifted_by_whole_pixels(no_light, no_erasing):
    """Against NumPy: each result is one of the 2 x 5 x 5 that padding and cropping can make."""
    images = np.random.default_rng(0).integers(0, 256, (101, SIZE, SIZE, 3))
    changed, labels, _ = epoch(augment_images(batches_of(images), SIZE, mix=0.0))
    margin = SIZE // 8
    seen = set()
    for image, result in zip(images, changed, strict=True):
        found = []
        for flipped, source in enumerate((image, image[:, ::-1])):
            padded = np.pad(source, ((margin, margin), (margin, margin), (0, 0)), "symmetric")
            for down in range(2 * margin + 1):
                for right in range(2 * margin + 1):
                    crop = padded[down : down + SIZE, right : right + SIZE]
                    if np.array_equal(crop, result.round()):
                        found.append((flipped, down, right))
        assert len(found) == 1
        seen.update(found)
    assert {place[0] for place in seen} == {0, 1}
    assert {place[1] for place in seen} == {place[2] for place in seen} == {0, 1, 2, 3, 4}
    assert np.array_equal(labels, np.eye(CLASSES)[np.arange(101) % CLASSES])


def test_flips_do_not_decide_about_light(no_erasing):
    """Layers with one seed would draw the same numbers."""
    gradient = np.tile(np.linspace(80, 170, SIZE)[None, None, :, None], (400, SIZE, 1, 3))
    changed, _, _ = epoch(augment_images(batches_of(gradient), SIZE, mix=0.0))
    flipped = changed[:, :, 0].mean(axis=(1, 2)) > changed[:, :, -1].mean(axis=(1, 2))
    lighter = changed.mean(axis=(1, 2, 3)) > 125
    assert 0.4 < flipped.mean() < 0.6
    assert 0.4 < lighter.mean() < 0.6
    assert abs(np.corrcoef(flipped, lighter)[0, 1]) < 0.2


def test_light_is_changed_a_little(no_erasing):
    images = np.full((200, SIZE, SIZE, 3), 100.0)
    images[:, SIZE // 2 :] = 140
    changed, _, _ = epoch(augment_images(batches_of(images), SIZE, mix=0.0))
    top, bottom = changed[:, 0, 0, 0], changed[:, -1, 0, 0]
    brightness = (top + bottom) / 2 - 120
    contrast = (bottom - top) / 40
    # A tenth of 255; and the mean around which the contrast is changed shifts with the rows, by 5.
    assert -26.5 < brightness.min() < -20 and 20 < brightness.max() < 26.5
    assert 0.8 - 1e-4 < contrast.min() < 0.85 and 1.15 < contrast.max() < 1.2 + 1e-4


# Erasing


def test_a_rectangle_of_one_colour_is_erased(no_light):
    images = np.zeros((600, SIZE, SIZE, 3))
    changed, _, _ = epoch(augment_images(batches_of(images, batch_size=50), SIZE, mix=0.0))
    erased = changed.max(axis=-1) > 0
    touched = erased.any(axis=(1, 2))
    # 150 are expected of 600, with a standard deviation of 10.6.
    assert 100 < touched.sum() < 200
    for image, mask in zip(changed[touched], erased[touched], strict=True):
        down, across = mask.any(axis=1), mask.any(axis=0)
        assert np.array_equal(mask, down[:, None] & across), "a rectangle"
        for side in (down, across):
            (places,) = np.nonzero(side)
            assert np.array_equal(places, np.arange(places[0], places[-1] + 1))
            assert 0.15 * SIZE - 1 <= len(places) <= 0.6 * SIZE + 1
        assert len(np.unique(image[mask], axis=0)) == 1, "one colour"
    colours = changed[touched].max(axis=(1, 2))
    assert colours.min() < 30 and colours.max() > 225 and 110 < colours.mean() < 145
    assert erased[:, 0].any() and erased[:, -1].any() and erased[:, :, 0].any()


# Mixing


@pytest.fixture
def only_mixing(no_light, no_erasing):
    """Images of one grey cannot show flips and shifts."""


def grey_of_class(labels):
    """The grey that the parts of mixed images have by their labels; class c has 10 + 50 c."""
    return labels @ (10 + 50 * np.arange(CLASSES))


def test_labels_are_mixed_as_the_pixels(only_mixing):
    count = 660
    labels = np.eye(CLASSES)[np.arange(count) % CLASSES]
    images = np.ones((count, SIZE, SIZE, 3)) * grey_of_class(labels)[:, None, None, None]
    changed, mixed, _ = epoch(augment_images(batches_of(images, labels), SIZE, mix=1.0))
    # A batch of mixup has no edges; one of CutMix has no greys but those of the classes.
    batches = changed.reshape(-1, 11, SIZE * SIZE, 3)
    blended = np.ptp(batches, axis=2).max(axis=(1, 2)) < 1e-3
    assert 15 < blended.sum() < 45, "about half of 60 batches"
    blended = np.repeat(blended, 11)
    mean = changed.mean(axis=(1, 2, 3))
    np.testing.assert_allclose(mean[blended], grey_of_class(mixed[blended]), atol=1e-2)
    assert set(np.unique(changed[~blended].round(3))) == {10, 60, 110, 160, 210}
    # Of a rectangle whose sides are no whole pixels Keras counts the area, not the pixels.
    difference = np.abs(mean[~blended] - grey_of_class(mixed[~blended])) / 200
    assert difference.max() < 2.1 / SIZE and difference.mean() < 0.5 / SIZE
    assert ((mixed > 0).sum(axis=1) <= 2).all()
    assert (mixed[~blended].max(axis=1) < 0.9).mean() > 0.3, "many are mixed well"


def test_the_share_of_mixed_batches(only_mixing):
    # Every image its own class, so that a mixed batch shows.
    images, labels = flat(1100), np.tile(np.eye(11), (100, 1))
    _, mixed, _ = epoch(augment_images(batches_of(images, labels), SIZE, mix=0.3))
    soft = (np.abs(mixed.max(axis=1) - 1) > 1e-3).reshape(100, 11).any(axis=1)
    assert 15 < soft.sum() < 45
    _, mixed, _ = epoch(augment_images(batches_of(images, labels), SIZE, mix=0.0))
    assert np.array_equal(mixed, labels)


def test_the_loss_of_a_mixed_image_is_that_of_its_parts():
    """w L(y) = sum of p_i w_i L(y_i), with the shares p_i seen when all weights are equal."""
    count = 110
    labels = np.eye(CLASSES)[np.arange(count) % CLASSES]
    class_weights = np.array([0.25, 3.0, 1.0, 0.5, 7.0])
    plain = augment_images(batches_of(flat(count), labels), SIZE, mix=1.0)
    weighted = augment_images(
        batches_of(flat(count), labels, labels @ class_weights), SIZE, mix=1.0
    )
    images, shares, _ = epoch(plain)
    same_images, mixed, weights = epoch(weighted)
    assert np.array_equal(images, same_images)
    log_probabilities = np.log(np.random.default_rng(0).dirichlet(np.ones(CLASSES), count))
    expected = -(shares * class_weights * log_probabilities).sum(axis=1)
    got = -weights * (mixed * log_probabilities).sum(axis=1)
    np.testing.assert_allclose(got, expected, rtol=1e-4)
    np.testing.assert_allclose(mixed.sum(axis=1), 1, rtol=1e-5)


def test_a_weight_of_nothing_stays_nothing():
    _, labels, weights = epoch(
        augment_images(batches_of(flat(22), weights=np.zeros(22)), SIZE, mix=1.0)
    )
    assert not weights.any() and np.isfinite(labels).all()
