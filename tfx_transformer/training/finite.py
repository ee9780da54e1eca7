"""Numbers gone wrong: gradients that are not finite, and losses that jump."""

from __future__ import annotations

import collections
import math
import statistics
from collections.abc import Callable

import keras
import numpy as np

from tfx_transformer.errors import InputError

# So many steps in a row whose gradient is not finite are more than one bad example.
LIMIT = 3
# How often a training may go back to a checkpoint, each time at half the rate.
ROLLBACKS = 3

# Losses that a new one is compared with, and how many are few.
_WINDOW, _FEW = 100, 30
# A spike is as many deviations above the median, and half as much again as what this share of the
# losses is below: when training has learned all but some examples, losses are low or high.
_DEVIATIONS, _RATIO, _ORDINARY = 8.0, 1.5, 0.95
# How many single steps that were left out are told.
_TOLD = 20
# On a GPU each look at a number waits for all that is under way.
_STRIDE = 16


class NumbersGoneWrong(Exception):
    """Steps in a row had no finite gradient.

    Args:
        step: the last of them, counted from 0 over all epochs.
    """

    def __init__(self, step: int) -> None:
        super().__init__(step)
        self.step = step


class Guard(keras.callbacks.Callback):
    """Reports steps that were not applied and losses that jump, and ends `fit` after `LIMIT` of the
    former in a row. The optimizer (`AdamW`) is what does not apply them.

    Args:
        where: step, counted from 0 over all epochs -> in words, the batch and its rows of the file.
        made: steps made before this `fit`.

    Raises:
        NumbersGoneWrong: from `fit`.
    """

    def __init__(self, where: Callable[[int], str], made: int = 0) -> None:
        super().__init__()
        self.where, self.made = where, made
        self.told = 0
        self.losses: collections.deque[float] = collections.deque(maxlen=_WINDOW)
        # On a CPU a step is over when `fit` comes here.
        self.stride = _STRIDE if _on_a_gpu() else 1

    def on_epoch_begin(self, epoch, logs=None):
        self.first, self.count, self.total = epoch * self.params["steps"], 0, 0.0
        self.spikes: list[tuple[float, float, int]] = []

    def on_train_batch_end(self, batch, logs=None):
        step, last = self.first + batch, batch + 1 == self.params["steps"]
        if step < self.made or not (last or (batch + 1) % self.stride == 0):
            return
        bad = int(_adamw(self.model.optimizer).bad_steps)
        self.told += bad > 0
        if bad and self.told <= _TOLD:
            more = " (more of them are not told)" if self.told == _TOLD else ""
            print(f"The gradient is not finite; a step is left out: {self.where(step)}{more}")
        if bad >= LIMIT:
            raise NumbersGoneWrong(step)
        if not bad and self.stride == 1 and not last:  # the last batch may be a small one
            self._compare(step, float(logs["loss"]))

    def on_epoch_end(self, epoch, logs=None):
        if self.spikes:
            loss, usual, step = max(self.spikes)
            count = len(self.spikes)
            print(
                f"  {count} loss spike{'s' if count > 1 else ''}, the highest {loss:.3g} where "
                f"{usual:.3g} is usual: {self.where(step)}"
            )

    def _compare(self, step: int, mean: float) -> None:
        """mean: of the losses of the epoch so far, of which `fit` tells."""
        self.count += 1
        before, self.total = self.total, mean * self.count
        if self.count == 1 and step > self.first:  # the epoch began in another process
            self.count = step - self.first + 1
            self.total = mean * self.count
            return
        loss = self.total - before
        if len(self.losses) >= _FEW:
            usual = statistics.median(self.losses)
            spread = 1.4826 * statistics.median(abs(x - usual) for x in self.losses)
            far = loss > usual + _DEVIATIONS * spread
            if far and loss > _RATIO * np.quantile(self.losses, _ORDINARY):
                self.spikes.append((loss, usual, step))
        self.losses.append(loss)


def rate_of(optimizer: keras.optimizers.Optimizer) -> float:
    """The factor on the learning rate: 1, halved whenever the training went back."""
    return float(_adamw(optimizer).rate)


def lower_rate(optimizer: keras.optimizers.Optimizer, before: float) -> bool:
    """Halves the factor on the learning rate, or returns False if that was done `ROLLBACKS` times.

    Args:
        before: the factor when the numbers went wrong; the checkpoint may have an older one.
    """
    if before <= 0.5**ROLLBACKS:
        return False
    _adamw(optimizer).rate.assign(before / 2)
    _adamw(optimizer).bad_steps.assign(0)
    return True


def cause(model: keras.Model, batch, rows: list[str]) -> str:
    """What is not a finite number, in words: a weight, an input, or the loss of some rows.

    Args:
        batch: NumPy arrays, of which the gradient was not finite.
        rows: what each example of it is called.
    """
    for variable in model.trainable_variables:
        if not np.isfinite(keras.ops.convert_to_numpy(variable.value).astype("float32")).all():
            return f"the weight {variable.path} holds a number that is not finite"
    inputs, labels, weights = (*batch, None)[:3]
    arrays = {**inputs, "labels": labels} | ({} if weights is None else {"weights": weights})
    for name, array in arrays.items():
        finite = np.isfinite(np.asarray(array, "float64")).reshape(len(array), -1).all(axis=1)
        if not finite.all():
            bad = [row for row, good in zip(rows, finite, strict=False) if not good]
            return f"{name} hold a number that is not finite" + (f": {_some(bad)}" if bad else "")
    loss = model.compute_loss(None, labels, model(inputs, training=False), weights, training=False)
    if not math.isfinite(float(loss)):
        return "the loss is not a finite number, though weights and inputs are"
    return "the loss is a finite number and its gradient is none: the rate is too high"


def stopped(where: str, why: str) -> InputError:
    """The error that ends a training whose numbers went wrong again and again."""
    return InputError(
        f"training stopped: {LIMIT} steps in a row had no finite gradient, at lower and lower "
        f"rates too.\n  Last: {where}\n  Cause: {why}.\n"
        "  Correct these rows, or choose a lower --learning-rate, and begin anew with --overwrite."
    )


def place(path: str, source, rows: list[int] | None, step: int) -> str:
    """Such as "epoch 2, step 17 (data.csv, rows 3, 9, 12)".

    Args:
        path: of the file.
        source: `data.batches.Source` of the training batches.
        rows: of the file, for each example; None: unknown.
        step: counted from 0 over all epochs.
    """
    epoch, index = divmod(step, len(source))
    return f"epoch {epoch + 1}, step {index + 1} ({path}, {_some(names(source, rows, step))})"


def names(source, rows: list[int] | None, step: int) -> list[str]:
    """What each example of a batch is called: "row 12" of a file, or several where they are packed,
    else their number."""
    count = len(source.plan.lengths)
    examples = source.examples(step)
    if hasattr(source.plan, "offsets"):  # blocks of one long text
        return [f"token {i}" for i in examples]
    if rows is not None:
        members = (source.members(i % count) for i in examples)
        return [" + ".join(f"row {rows[m]}" for m in several) for several in members]
    return [f"example {i % count + 1}" for i in examples]


def _some(rows: list[str], most: int = 20) -> str:
    """Such as "row 3, row 9 and 12 more"."""
    more = f" and {len(rows) - most} more" if len(rows) > most else ""
    return ", ".join(rows[:most]) + more


def _adamw(optimizer):
    return getattr(optimizer, "inner_optimizer", optimizer)


def _on_a_gpu() -> bool:
    import tensorflow as tf

    return keras.backend.backend() == "tensorflow" and bool(tf.config.list_physical_devices("GPU"))
