"""Numbers gone wrong: gradients that are not finite, and losses that jump."""

from __future__ import annotations

import collections
import math
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import keras
import numpy as np

from tfx_transformer.console import COLUMNS, shorten, width
from tfx_transformer.data.batches import Batches
from tfx_transformer.errors import InputError
from tfx_transformer.reprs import quantity
from tfx_transformer.training.optimizers import AdamW, sync_variables

# So many steps in a row whose gradient is not finite are more than one bad example.
LIMIT = 3
# How often a training may go back to a checkpoint, each time at half the rate.
ROLLBACKS = 3

# A loss is compared with so many before it, and not with fewer than these.
_WINDOW, _FEW = 100, 30
# A spike is so many deviations above the median, and 1.5 times as high as this quantile of the
# losses: when training has learned all but some examples, losses are either low or high.
_DEVIATIONS, _RATIO, _ORDINARY = 8.0, 1.5, 0.95
# At most so many skipped steps are reported one by one.
_REPORTED = 20
# Rows of a batch that are listed, in full and in a short line; columns of the file's name in the
# short line.
_ROWS, _FEW_ROWS, _FILE = 20, 5, 24
# Steps on a GPU between two numbers that are read: see `steps_between_reads`.
_STRIDE = 16


class NumbersGoneWrong(Exception):
    """Raised from `fit` when steps in a row had no finite gradient.

    Args:
        step: the last of them, counted from 0 over all epochs.
    """

    def __init__(self, step: int) -> None:
        super().__init__(step)
        self.step = step


class Guard(keras.callbacks.Callback):
    """Reports skipped steps and jumps of the loss; ends `fit` after `LIMIT` skipped steps in a row.
    The optimizer (`AdamW`) skips the steps whose gradient is not finite.

    Args:
        where: step, counted from 0 over all epochs -> the batch and its rows of the file, in words.
        made: steps made before this `fit`.
        short: (step, columns) -> the same in at most so many columns; None: `where`, shortened.

    Raises:
        NumbersGoneWrong: from `fit`.
    """

    def __init__(
        self,
        where: Callable[[int], str],
        made: int = 0,
        short: Callable[[int, int], str] | None = None,
    ) -> None:
        super().__init__()
        self.where, self.made = where, made
        self.short = short or (lambda step, columns: shorten(where(step), columns))
        self.reported = 0
        self.losses: collections.deque[float] = collections.deque(maxlen=_WINDOW)
        self.stride = steps_between_reads()

    def on_epoch_begin(self, epoch, logs=None):
        self.first, self.count, self.total = epoch * self.params["steps"], 0, 0.0
        self.spikes: list[tuple[float, float, int]] = []

    def on_train_batch_end(self, batch, logs=None):
        step, last = self.first + batch, batch + 1 == self.params["steps"]
        if step < self.made or not (last or (batch + 1) % self.stride == 0):
            return
        sync_variables(self.model)
        bad = int(_adamw(self.model.optimizer).bad_steps)
        self.reported += bad > 0
        if bad and self.reported <= _REPORTED:
            more = " (later ones are not reported)" if self.reported == _REPORTED else ""
            print(f"The gradient is not finite; skipped {self.where(step)}{more}")
        if bad >= LIMIT:
            raise NumbersGoneWrong(step)
        is_comparable = getattr(self.model, "has_steady_loss", True)
        if not bad and is_comparable and self.stride == 1 and not last:  # it may be small
            self._compare(step, float(logs["loss"]))

    def on_epoch_end(self, epoch, logs=None):
        if self.spikes:
            loss, usual, step = max(self.spikes)
            line = (
                f"  {quantity(len(self.spikes), 'loss spike')}, the highest {loss:.3g} where "
                f"{usual:.3g} is usual: "
            )
            print(line + self.short(step, COLUMNS - width(line)))

    def _compare(self, step: int, mean: float) -> None:
        """Record a spike if the loss of a step is far above those before.

        Args:
            mean: mean loss of the epoch so far, as `fit` reports it.
        """
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


def check_optimizer(optimizer: keras.optimizers.Optimizer | None) -> None:
    """Raise if an optimizer does not skip steps whose gradient is not finite.

    Raises:
        InputError: it is not an `AdamW`, or the model was not compiled.
    """
    if not isinstance(_adamw(optimizer), AdamW):
        found = "none" if optimizer is None else type(optimizer).__name__
        raise InputError(
            f"the optimizer of the model is {found}.\n"
            "  Expected AdamW: compile the model with tfx_transformer.training.adamw(...)."
        )


def rate_of(optimizer: keras.optimizers.Optimizer) -> float:
    """Return the factor on the learning rate: 1, halved each time the training went back."""
    return float(_adamw(optimizer).rate)


def lower_rate(optimizer: keras.optimizers.Optimizer, before: float) -> bool:
    """Halve the factor on the learning rate; return False if it was halved `ROLLBACKS` times.

    Args:
        before: the factor when the numbers went wrong; the checkpoint may have an older one.
    """
    if before <= 0.5**ROLLBACKS:
        return False
    _adamw(optimizer).rate.assign(before / 2)
    _adamw(optimizer).bad_steps.assign(0)
    return True


def cause(model: keras.Model, batch, rows: list[str]) -> str:
    """Return, in words, what is not a finite number: a weight, an input, or the loss of some rows.

    Args:
        batch: the NumPy arrays whose gradient was not finite.
        rows: for each row of the arrays, the name of its example.
    """
    for variable in model.trainable_variables:
        value = np.asarray(keras.ops.convert_to_numpy(variable.value))
        if not np.isfinite(value.astype("float32")).all():
            return f"the weight {variable.path} holds a number that is not finite"
    inputs, labels, weights = cast("tuple[Any, Any, Any]", (*batch, None)[:3])
    name = "targets" if "labels" in inputs else "labels"
    arrays = {**inputs, name: labels} | ({} if weights is None else {"weights": weights})
    for name, array in arrays.items():
        finite = np.isfinite(np.asarray(array, "float64")).reshape(len(array), -1).all(axis=1)
        if not finite.all():
            bad = list(
                dict.fromkeys(row for row, good in zip(rows, finite, strict=False) if not good)
            )
            where = f": {_some(bad, _ROWS)}" if bad else ""
            return f"{name} hold a number that is not finite{where}"
    inputs, labels, weights = model.with_targets((inputs, labels, weights))
    loss = model.compute_loss(None, labels, model(inputs, training=False), weights, training=False)
    if not math.isfinite(float(loss)):
        return "the loss is not a finite number, though weights and inputs are"
    return "the loss is a finite number but its gradient is not: the rate is too high"


def stop_error(where: str, why: str) -> InputError:
    """Return the error that ends a training whose numbers went wrong again and again."""
    return InputError(
        f"training stopped: {LIMIT} steps in a row had no finite gradient, even at lower rates.\n"
        f"  Last: {where}\n  Cause: {why}.\n"
        "  Correct these rows, or choose a lower --learning-rate, and start over with --overwrite."
    )


class Places:
    """The places of batches in words: their step, and the rows of the data.

    Args:
        path: path of the data file.
        batches: training batches.
        rows: row of each example in the file; None: they have none.
    """

    def __init__(self, path: str, batches: Batches, rows: Sequence[Any] | None) -> None:
        self.path, self.batches, self.rows = path, batches, rows

    def names(self, step: int) -> list[str]:
        """Return the names of a batch's examples; see `data.batches.Batches.names`."""
        return self.batches.names(step, self.rows)

    def row_names(self, step: int) -> list[str]:
        """Return the names of a batch's array rows; see `data.batches.Batches.row_names`."""
        return self.batches.row_names(step, self.rows)

    def of(self, step: int) -> str:
        """Return a batch and its rows: "epoch 2, step 17 (data.csv, row 3, row 9, row 12)".

        Args:
            step: counted from 0 over all epochs.
        """
        return f"{self._step(step)} ({self.path}, {_some(self.names(step), _ROWS)})"

    def short(self, step: int, columns: int) -> str:
        """Return a batch and as many of its rows, at most five, as fit into a line's columns."""
        names = self.names(step)
        file = shorten(Path(self.path).name, _FILE)
        texts = [
            f"{self._step(step)} ({file}, {_some(names, most)})" for most in range(_FEW_ROWS, 0, -1)
        ]
        alone = shorten(self._step(step), columns)
        return next((text for text in texts if width(text) <= columns), alone)

    def _step(self, step: int) -> str:
        epoch, index = divmod(step, len(self.batches.plan))
        return f"epoch {epoch + 1}, step {index + 1}"


def _some(rows: list[str], most: int) -> str:
    """Return the first names of a list, such as "row 3, row 9 and 12 more"."""
    more = f" and {len(rows) - most} more" if len(rows) > most else ""
    return ", ".join(rows[:most]) + more


def _adamw(optimizer: Any) -> Any:
    """Return the optimizer that applies the gradients: the inner one of a loss-scale optimizer."""
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        return optimizer.inner_optimizer
    return optimizer


def steps_between_reads() -> int:
    """Return the number of steps after which callbacks may read a number, which waits for all
    pending operations of a GPU; on a CPU a step has ended when callbacks are called."""
    return _STRIDE if _on_a_gpu() else 1


def _on_a_gpu() -> bool:
    if keras.backend.backend() == "jax":
        import jax  # pyright: ignore[reportMissingImports]

        return jax.default_backend() != "cpu"
    import tensorflow as tf

    return keras.backend.backend() == "tensorflow" and bool(tf.config.list_physical_devices("GPU"))
