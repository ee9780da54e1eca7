"""Numbers that are not finite, in weights, inputs, losses and gradients: nothing is spoilt."""

from __future__ import annotations

import contextlib
import unicodedata

import keras
import numpy as np
import pytest
import tensorflow as tf
from tiny_models import CONVOLUTIONS, tiny_causal, tiny_config

from tfx_transformer import training
from tfx_transformer.data.batches import Batches, BatchPlan, tf_dataset
from tfx_transformer.errors import InputError
from tfx_transformer.models.encoders import Classifier
from tfx_transformer.training import Run, finite

NAN, INFINITE, HUGE = float("nan"), float("inf"), 3e38


class GradientOnly(keras.losses.Loss):
    """A loss that is finite where its gradient is not: the root of 0, as often as a row weighs."""

    def call(self, y_true, y_pred):
        loss = keras.losses.categorical_crossentropy(y_true, y_pred, from_logits=True)
        return loss + keras.ops.sqrt(0 * loss)


def batch(place: str = "", value: float = 1.0):
    """Images, labels and weights; those of one example replaced."""
    random = np.random.default_rng(0)
    arrays = {
        "images": random.uniform(0, 255, (5, 11, 11, 3)).astype("float32"),
        "labels": np.eye(3, dtype="float32")[[0, 1, 2, 0, 1]],
        "weights": np.ones(5, "float32"),
    }
    if place:
        arrays[place][3] = value
    return {"images": arrays["images"]}, arrays["labels"], arrays["weights"]


def state(model) -> list[bytes]:
    """Weights, moments, averages and the schedule's step, but not the count of bad steps."""
    variables = [*model.trainable_variables, *model.optimizer.variables]
    return [v.value.numpy().tobytes() for v in variables if v is not model.optimizer.bad_steps]


@pytest.mark.slow(but=["XLA-mixed_bfloat16"])
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("jit_compile", [False, True], ids=["graph", "XLA"])
def test_a_step_without_a_finite_gradient_changes_nothing(dtype, jit_compile):
    keras.utils.set_random_seed(1)
    model = Classifier(tiny_config(**CONVOLUTIONS, num_classes=3, num_layers=1), dtype=dtype)
    adamw = training.adamw(1e-2, average=0.9)
    model.compile(adamw, weighted_metrics=[], jit_compile=jit_compile)
    model.train_on_batch(*batch())
    before, faults = state(model), 0
    for place in ("images", "labels", "weights"):
        for value in (NAN, INFINITE, *((-INFINITE, HUGE) if place == "weights" else ())):
            model.train_on_batch(*batch(place, value))
            faults += 1
            assert int(adamw.bad_steps) == faults, (place, value)
            assert state(model) == before, (place, value)
    weight = model.trainable_variables[0]
    kept = weight.value.numpy()
    for value in (NAN, INFINITE):
        weight.assign(np.full(kept.shape, value))
        spoilt = state(model)
        model.train_on_batch(*batch())
        faults += 1
        assert int(adamw.bad_steps) == faults and state(model) == spoilt
    weight.assign(kept)
    model.train_on_batch(*batch())
    assert int(adamw.bad_steps) == 0 and state(model) != before, "and the next good one is made"


def test_a_strategy_of_tensorflow_trains_the_same_and_leaves_bad_steps_out():
    answers, losses = [], []
    for strategy in (None, tf.distribute.MirroredStrategy(["CPU:0"])):
        keras.utils.set_random_seed(1)
        with strategy.scope() if strategy else contextlib.nullcontext():
            model = Classifier(tiny_config(**CONVOLUTIONS, num_classes=3, num_layers=1))
            adamw = training.adamw(1e-2, average=0.9)
            model.compile(adamw, weighted_metrics=[], jit_compile=False)
        for one in (batch(), batch("weights", NAN), batch()):
            losses.append(model.train_on_batch(*one))
        assert int(keras.ops.convert_to_numpy(adamw.iterations.value)) == 2
        answers.append(model.predict_on_batch(batch()[0]))
    assert losses[0] == losses[3] and losses[2] == pytest.approx(losses[5], rel=1e-6)
    # Not the weights: a gradient that is 0 but for rounding, as of the biases of keys, becomes as
    # large as others by Adam.
    np.testing.assert_allclose(answers[1], answers[0], atol=1e-5)


def test_a_finite_loss_with_a_gradient_that_is_none():
    model = Classifier(tiny_config(**CONVOLUTIONS, num_classes=3, num_layers=1))
    model.compile(training.adamw(1e-2), GradientOnly(), weighted_metrics=[])
    before = [np.array(w.value.numpy()) for w in model.trainable_variables]
    assert np.isfinite(model.train_on_batch(*batch()))
    assert int(model.optimizer.bad_steps) == 1
    after = [w.value.numpy() for w in model.trainable_variables]
    assert all(map(np.array_equal, before, after))


# Whole trainings: 24 examples, six batches of four an epoch.

EXAMPLES, STEPS, EPOCHS = 24, 6, 3


def train(folder, bad=(), extra=(), **settings):
    """A language model on examples whose rows of the file are 101, 102, …; of the `bad` ones the
    weights are not numbers."""
    model = tiny_causal(num_layers=1)
    ids = np.random.default_rng(0).integers(3, 23, (EXAMPLES, 8)).astype("int32")

    def make(indices):
        weights = np.where(np.isin(indices, bad), NAN, 1)[:, None] * np.ones((1, 7))
        return {"token_ids": ids[indices, :-1]}, ids[indices, 1:], weights.astype("float32")

    batches = tf_dataset(BatchPlan(np.full(EXAMPLES, 8), 4, seed=1), make)
    checks = tf_dataset(BatchPlan(np.full(4, 8), 4, shuffle=False), lambda i: make(i + 20))
    run = Run("r", settings, root=folder)
    run.file, run.rows = "my.csv", list(range(101, 101 + EXAMPLES))
    model.compile(training.adamw(1e-2))
    run.fit(model, batches, checks, EPOCHS, [*run.ends("val_loss", 5, 0), *extra])
    run.close({})
    return model


def test_one_bad_row_costs_one_step_and_is_named(tmp_path, capsys):
    model = train(tmp_path, bad=[7])
    assert int(model.optimizer.iterations) == (STEPS - 1) * EPOCHS
    assert all(np.isfinite(values).all() for values in model.history.history.values())
    told = [line for line in capsys.readouterr().out.splitlines() if "not finite" in line]
    assert len(told) == EPOCHS and all("my.csv" in line and "row 108" in line for line in told)


def test_rows_that_are_all_bad_end_the_training_with_the_cause(tmp_path):
    with pytest.raises(InputError) as error:
        train(tmp_path, bad=range(20))
    text = str(error.value)
    assert "3 steps in a row" in text and "my.csv, row 1" in text
    assert "Cause: weights hold a number that is not finite: row 1" in text


class Spoil(keras.callbacks.Callback):
    """Once, after a step, a weight is not a number."""

    def __init__(self, step):
        super().__init__()
        self.left = step

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if self.left == 0:
            weight = self.model.trainable_variables[0]
            weight.assign(np.full(weight.shape, NAN))


def test_spoilt_weights_come_back_from_the_checkpoint_at_half_the_rate(tmp_path, capsys):
    model = train(tmp_path, extra=[Spoil(STEPS + 2)])
    output = capsys.readouterr().out
    assert f"Back to epoch 1, step {STEPS} of {STEPS}" in output and "at half the rate" in output
    assert float(model.optimizer.rate) == 0.5
    assert int(model.optimizer.iterations) == STEPS * EPOCHS
    assert all(np.isfinite(w.value.numpy()).all() for w in model.trainable_variables)
    assert np.isfinite(model.history.history["val_loss"]).all()


def told_of_losses(losses, capsys) -> str:
    """What a guard says of an epoch with these losses."""
    guard = finite.Guard(lambda step: f"step {step}")
    guard.set_params({"steps": len(losses)})
    guard.set_model(model := keras.Sequential())
    model.optimizer = type("Optimizer", (), {"bad_steps": 0})()
    guard.on_epoch_begin(0)
    for step, mean in enumerate(np.cumsum(losses) / np.arange(1, len(losses) + 1)):
        guard.on_train_batch_end(step, {"loss": mean})
    guard.on_epoch_end(0)
    return capsys.readouterr().out


def test_loss_spikes_are_told_once_an_epoch(capsys):
    losses = np.random.default_rng(0).normal(2.0, 0.05, 60)
    losses[[40, 50]] = 5.0, 9.0
    told = told_of_losses(losses, capsys)
    assert told == "  2 loss spikes, the highest 9 where 2.01 is usual: step 50\n"


def test_losses_that_are_often_high_are_no_spikes(capsys):
    random = np.random.default_rng(0)
    losses = np.where(random.random(200) < 0.1, random.uniform(0.5, 1.0, 200), 0.25)
    assert told_of_losses(losses, capsys) == ""
    losses[150] = 3.0
    assert told_of_losses(losses, capsys).startswith("  1 loss spike, the highest 3 where 0.25 ")


def places(path, rows, size=32) -> finite.Places:
    """The places of batches of neighbouring rows."""
    plan = BatchPlan(np.ones(len(rows)), size, shuffle=False)
    return finite.Places(path, Batches(plan, None, None, lambda index: [index], []), rows)


def test_a_loss_spike_is_one_line_with_few_rows():
    line = "  2 loss spikes, the highest 9 where 2.01 is usual: "
    room = 100 - len(line)
    few = places("data/en_ja.csv", list(range(2, 66)), size=3)
    assert few.short(1, room) == "epoch 1, step 2 (en_ja.csv, row 5, row 6, row 7)"
    many = places("data/en_ja.csv", list(range(2, 66)))
    assert many.short(1, room) == "epoch 1, step 2 (en_ja.csv, row 34 and 31 more)"
    assert many.short(1, 80) == (
        "epoch 1, step 2 (en_ja.csv, row 34, row 35, row 36, row 37, row 38 and 27 more)"
    )
    assert many.of(1).count("row ") == 20, "the line of a skipped step has room"


@pytest.mark.parametrize(
    "path", ["a.csv", "x/" * 40 + "y" * 200 + ".csv", "会話" * 30 + ".jsonl", ""]
)
@pytest.mark.parametrize(
    "rows", [range(64), [10**12] * 64, [("page 7 of the report", i) for i in range(64)]]
)
def test_a_loss_spike_fits_its_line(path, rows):
    for step in (0, 1, 987_654):
        for columns in (20, 41, 60, 100):
            text = places(path, list(rows)).short(step, columns)
            wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
            assert len(text) + wide <= columns and text.count("row ") <= 5
            assert text.startswith("epoch ") and "\n" not in text


@pytest.mark.parametrize("score", [NAN, INFINITE, -INFINITE])
def test_the_best_is_never_one_of_no_number(score):
    best = training.callbacks.BestWeights("val_loss", "min", 5)
    best.set_model(keras.Sequential([keras.layers.Dense(1)]))
    best.model.build((None, 1))
    best.on_train_begin()
    best.on_epoch_end(0, {"val_loss": score})
    assert best.best is None and best.best_weights is None
    best.on_epoch_end(1, {"val_loss": 3.0})
    best.on_epoch_end(2, {"val_loss": score})
    assert best.best == 3.0 and best.best_epoch == 1


def test_of_scores_as_good_as_equal_the_lower_loss_is_the_best():
    best = training.callbacks.BestWeights("val_macro_f1", "max", 2, grain=0.1)
    best.set_model(keras.Sequential([keras.layers.Dense(1)]))
    best.model.build((None, 1))
    best.on_train_begin()
    epochs = [(0.92, 0.4), (0.9, 0.3), (0.9, NAN), (0.8, 0.1), (0.94, 0.3)]
    for epoch, (score, loss) in enumerate(epochs):
        best.on_epoch_end(epoch, {"val_macro_f1": score, "val_loss": loss})
    assert best.best_epoch == 1 and best.stopped_epoch == 4
    again = training.callbacks.BestWeights("val_macro_f1", "max", 2)
    again.restore(best.state())
    assert again.state() == best.state() == {
        "wait": 3, "best": 0.9, "best_loss": 0.3, "best_epoch": 1
    }  # fmt: skip
