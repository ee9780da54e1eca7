"""Training steps whose batch is computed in parts: the same steps as those of the whole batch."""

from __future__ import annotations

from unittest import mock

import keras
import numpy as np
import pytest
from on_jax import needs_jax, run_on_jax
from tiny_models import tiny_causal

from benchmarks.recipe_steps import first_losses, write_tables
from tfx_transformer import Classifier, InputError, TransformerConfig, training
from tfx_transformer.models import losses
from tfx_transformer.models.losses import LabelContrast
from tfx_transformer.models.preference_losses import DPOLoss, ORPOLoss, PreferredShare
from tfx_transformer.training import accumulation
from tfx_transformer.training.optimizers import adamw

RANDOM = np.random.default_rng(3)
ROWS = 7
TEXTS = RANDOM.integers(3, 23, (ROWS, 6)).astype("int32")
WEIGHTS = RANDOM.integers(0, 2, (ROWS, 5)).astype("float32") * [[0.5], *[[1.0]] * (ROWS - 1)]
LANGUAGE = ({"token_ids": TEXTS[:, :-1]}, TEXTS[:, 1:], WEIGHTS.astype("float32"))
IMAGES = (
    {"images": RANDOM.random((ROWS, 8, 8, 3)).astype("float32")},
    np.eye(3, dtype="float32")[RANDOM.integers(0, 3, ROWS)],
    RANDOM.random(ROWS).astype("float32"),
)


def classifier(**options) -> Classifier:
    """A classifier of images, whose loss is the mean over all rows."""
    config = TransformerConfig.of_size(
        "nano", 0, num_layers=1, hidden_dim=8, num_heads=2, image_size=8, conv_layers=1,
        num_classes=3, dropout=0.0, pooling="attention", **options,
    )  # fmt: skip
    return Classifier(config)


def check_consistency(model, *counts, **options):
    """`check_parts` of two readings that differ, though nothing is dropped: dropout would drop
    other activations in parts."""

    def apart(logits, other, multi_label):
        return keras.ops.mean(keras.ops.square(logits - 2 * other), axis=-1)

    with mock.patch.object(losses, "disagreement", apart):
        check_parts(model, IMAGES, *counts, consistency=0.7, **options)


def after_two_steps(model, accumulate, batch, optimizer=None, **options):
    """Return the logs of two steps, and the weights after them."""
    keras.utils.set_random_seed(4)
    first = model.get_weights()
    training.accumulate(model, accumulate)
    model.compile(optimizer or keras.optimizers.SGD(0.1), **options)
    x, y, weights = batch
    logs = [model.train_on_batch(x, y, sample_weight=weights, return_dict=True) for _ in range(2)]
    found = model.get_weights()
    model.set_weights(first)
    return logs, found


def check_parts(model, batch, *counts, **options):
    """Assert that steps in parts are those of the whole batch, in metrics and weights."""
    logs, weights = after_two_steps(model, 1, batch, **options)
    for count in counts:
        found, theirs = after_two_steps(model, count, batch, **options)
        for step, expected in zip(found, logs, strict=True):
            assert step.keys() == expected.keys() and len(step) > 1
            for name, value in expected.items():
                np.testing.assert_allclose(step[name], value, rtol=2e-6, err_msg=name)
        for one, other in zip(theirs, weights, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-6)


def check_all():
    """The checks on any backend: 7 rows in 3 parts, and in 2."""
    check_parts(tiny_causal(0.3, seed=8, num_layers=1), LANGUAGE, 3)
    check_consistency(classifier(), 2)
    wrong = (*LANGUAGE[:2], LANGUAGE[2].copy())
    wrong[2][5, 0] = np.nan
    model = tiny_causal(0.3, seed=8, num_layers=1)
    before = model.get_weights()
    _, weights = after_two_steps(model, 3, wrong, adamw(1e-2))
    assert int(model.optimizer.bad_steps) == 2 and int(model.optimizer.iterations) == 0
    for one, other in zip(weights, before, strict=True):
        np.testing.assert_array_equal(one, other)


def test_steps_in_parts_are_those_of_the_whole_batch():
    check_all()


@needs_jax
@pytest.mark.slow
def test_steps_in_parts_are_those_of_the_whole_batch_on_jax():
    run_on_jax("from test_accumulation import check_all\ncheck_all()")


def test_the_loss_may_be_a_sum():
    loss = keras.losses.CategoricalCrossentropy(True, reduction="sum")
    check_parts(classifier(), IMAGES, 2, loss=loss, jit_compile=False)


@pytest.mark.slow
@pytest.mark.parametrize("reduction", ["sum", "mean_with_sample_weight", "several labels"])
def test_two_readings_are_compared_by_the_reduction_of_the_loss(reduction):
    if reduction == "several labels":
        check_consistency(classifier(multi_label=True), 3, jit_compile=False)
        return
    loss = keras.losses.CategoricalCrossentropy(True, reduction=reduction)
    check_consistency(classifier(), 3, loss=loss, jit_compile=False)


@pytest.mark.parametrize(
    ("reduction", "expected"),
    [("sum", 8.5), ("mean_with_sample_weight", 8.5 / 1.5), ("sum_over_batch_size", 8.5 / 3)],
)
def test_a_reduction_by_hand(reduction, expected):
    values, weights = np.array([3.0, 7.0, 5.0], "float32"), np.array([0.5, 1.0, 0.0])
    assert float(losses.reduced(values, weights, reduction)) == pytest.approx(expected)
    loss = keras.losses.MeanAbsoluteError(reduction)
    given = values[:, None], np.zeros((3, 1), "float32"), weights
    assert float(loss(*given)) == pytest.approx(expected)
    assert losses.reduction_of(loss) == reduction
    if reduction == losses.reduction_of("mean_absolute_error"):
        model = keras.Sequential([keras.layers.Identity()])
        model.compile("sgd", "mean_absolute_error")
        assert float(model.compute_loss(None, *given)) == pytest.approx(expected)


@pytest.mark.slow(but=["dpo"])
@pytest.mark.parametrize("loss", [DPOLoss(0.3), ORPOLoss(0.3)], ids=["dpo", "orpo"])
def test_both_answers_of_a_pair_are_in_one_part(loss):
    pairs = 5
    ids = RANDOM.integers(3, 23, (2 * pairs, 6)).astype("int32")
    labels = np.where(np.arange(6) < RANDOM.integers(1, 5, (2 * pairs, 1)), -1, ids)
    targets = np.stack([RANDOM.normal(-9, 3, 2 * pairs), (labels >= 0).sum(1)], 1)
    batch = ({"token_ids": ids, "labels": labels}, targets.astype("float32"), None)
    model = tiny_causal(0.3, seed=8, num_layers=1)
    options = {"loss": loss, "weighted_metrics": [PreferredShare()], "jit_compile": False}
    check_parts(model, batch, 3, optimizer=keras.optimizers.SGD(1e-3), **options)


def test_a_step_is_traced_again_in_other_parts(monkeypatch):
    traced, step = set(), accumulation.train_on_tensorflow

    def traced_step(model, batch):
        traced.add(model.accumulate)
        step(model, batch)

    monkeypatch.setattr(accumulation, "train_on_tensorflow", traced_step)
    model = classifier()
    model.compile(keras.optimizers.SGD(0.1), jit_compile=False)
    for count in (1, 3):
        training.accumulate(model, count)
        model.train_on_batch(*IMAGES[:2], sample_weight=IMAGES[2])
    assert traced == {3}


def test_a_loss_that_compares_rows_is_refused():
    model = classifier()
    with pytest.raises(InputError, match="LabelContrast compares all rows"):
        after_two_steps(model, 2, (IMAGES[0], np.arange(7), None), loss=LabelContrast())


@pytest.mark.slow
def test_a_recipe_in_parts_has_the_losses_of_whole_batches(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_tables(tmp_path)
    weights = tmp_path / "weights.npz"
    expected = first_losses("masked", weights, name="whole")
    found = first_losses("masked", weights, name="parts", accumulate=3)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
