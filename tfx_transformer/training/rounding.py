"""The last epochs of a training, in which weights are rounded as in a quantized file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from tfx_transformer.console import COLUMNS, wrapped
from tfx_transformer.data.batches import Batches
from tfx_transformer.models.rounding import folded_norms, rounding
from tfx_transformer.reprs import quantity
from tfx_transformer.training.callbacks import BestWeights
from tfx_transformer.training.checkpoints import Checkpoints
from tfx_transformer.training.fit import fit
from tfx_transformer.training.optimizers import adamw

# Epochs, if their number is not given; and their highest rate, as a share of that of the training.
EPOCHS = 3
RATE = 0.1


def train_rounded(
    model: keras.Model,
    batches: Batches,
    checks: Batches,
    epochs: int,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    *,
    form: str,
    rate: float,
    steps: int,
    checkpoints: Checkpoints,
    **options: Any,
) -> dict[str, Any] | None:
    """Train a trained model further, so that rounding its weights harms it less.

    Each step computes with the rounded weights of a file, and its gradient moves the weights
    themselves: quantization-aware training (Jacob et al. 2018, section 3). The weights of the epoch
    with the lowest validation loss, rounded, are kept if it is lower than before the first epoch;
    else all weights are as before, also those that are not trained.

    Args:
        model: compiled with `adamw`, without adapters; its optimizer and history stay.
        batches, checks: training and validation batches, as for `fit`.
        epochs: most epochs; a `TimeLimit` may end them earlier, after one.
        callbacks: as for `fit`.
        form: "int4" or "int8", the format of the file.
        rate: highest learning rate. It rises in the first tenth of the steps.
        steps: steps of an epoch.
        checkpoints: where those of these epochs are written and read; no others are there.
        options: more arguments of `fit`.

    Returns: "format", "epochs", and "val_loss_before" and "val_loss", the validation loss of the
        rounded model before and after; None: it did not fall.

    Raises:
        InputError: see `fit`.
    """
    variables = list(model.weights)
    before = [keras.ops.convert_to_numpy(variable.value) for variable in variables]
    optimizer, history = model.optimizer, model.history
    model.optimizer = _same_kind(optimizer, rate, epochs * steps)
    best = BestWeights("val_loss", "min", epochs)
    most = quantity(epochs, "more epoch")
    print(f"Now weights are rounded as in the {form} file, for at most {most}.")
    with folded_norms(model), rounding(model, form):
        loss = float(model.evaluate(checks, verbose=0, return_dict=True)["loss"])
        places = {"steps": steps, "checkpoints": checkpoints}
        # Checkpoints know callbacks by their places.
        fit(model, batches, checks, epochs, [best, *callbacks], **places, **options)
    made = len(model.history.epoch)
    model.optimizer, model.history = optimizer, history
    after = best.best
    falls = after is not None and after < loss
    print("\n".join(wrapped(_outcome(form, loss, after, falls), COLUMNS, "  ")))
    if not falls:
        for variable, value in zip(variables, before, strict=True):
            variable.assign(value)
        return None
    facts = {"val_loss_before": round(loss, 5), "val_loss": round(after, 5)}
    return {"format": form, "epochs": made, **facts}


def _same_kind(optimizer: Any, rate: float, steps: int) -> keras.optimizers.Optimizer:
    """Return a new optimizer with the settings of another one, but for the rate, and without a
    moving average."""
    is_scaled = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    old = optimizer.inner_optimizer if is_scaled else optimizer
    new = adamw(
        rate,
        warmup_steps=steps // 10,
        decay="cosine",
        total_steps=steps,
        weight_decay=old.weight_decay,
        clip_norm=old.global_clipnorm,
        beta_2=old.beta_2,
        layer_decay=old.layer_decay,
    )
    return keras.optimizers.LossScaleOptimizer(new) if is_scaled else new


def _outcome(form: str, before: float, after: float | None, falls: bool) -> str:
    start = f"Validation loss with the weights of the {form} file: {before:.4f} before"
    if falls:
        return f"{start}, {after:.4f} now."
    reached = "" if after is None else f", {after:.4f} at best"
    return f"{start}{reached}. It did not fall, so all weights are as before."
