"""`fit` that goes on where it was interrupted, and back where numbers went wrong."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from tfx_transformer.data.batches import Batches
from tfx_transformer.errors import InputError
from tfx_transformer.reprs import quantity
from tfx_transformer.training import finite, hosts
from tfx_transformer.training.checkpoints import Checkpoints
from tfx_transformer.training.distribution import Division
from tfx_transformer.training.resume import Resume


def fit(
    model: keras.Model,
    batches: Batches,
    checks: Batches,
    epochs: int,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    *,
    steps: int,
    checkpoints: Checkpoints,
    kept: Mapping[str, Any] | None = None,
    save_minutes: float = 5,
    path: str = "",
    rows: Sequence[Any] | None = None,
) -> float | None:
    """Train a model, from the newest checkpoint if there is one.

    The final weights and the history are those of a training that was never interrupted. After
    steps in a row without a finite gradient, training goes back to the newest checkpoint and on at
    half the learning rate; after `finite.ROLLBACKS` times it ends with an error that gives the
    cause.

    Args:
        model: compiled with `adamw`, and always made in the same way.
        batches: training batches.
        checks: validation batches.
        epochs: number of epochs.
        callbacks: as in `keras.Model.fit`; checkpoints keep the state of `ResumableCallback`s.
        steps: steps of an epoch.
        checkpoints: where they are written and read. They are removed if the training fails with
            an `InputError`.
        kept: JSON values to write into each checkpoint.
        save_minutes: minutes between checkpoints within an epoch; 0: none within an epoch.
        path: path of the training data, for messages.
        rows: row of each example in that file, for messages; None: they have none.

    Returns: the share of the steps' time in which they waited for batches, from 0 to 1: see
        `Waiting`; None: it is not known.

    Raises:
        InputError: the backend of Keras is neither TensorFlow nor JAX; the devices do not divide
            the batch size; the model has another optimizer; no checkpoint can be read, or the
            newest one is of another model; the first one cannot be written; or gradients are
            still not finite at the lowest rate.
        HostLost: another host has ended; the checkpoints stay.
        SystemExit: SIGTERM (143) or SIGINT (130) ended it, after a checkpoint.
    """
    check_backend()
    finite.check_optimizer(model.optimizer)
    if not isinstance(batches, Batches):
        raise InputError(
            "the batches do not know their data, so an interrupted training could not go on.\n"
            "  Pass batches made by tfx.data; take and prefetch are allowed, map is not."
        )
    division = Division(batches.plan.batch_size)
    _check_alike(model, kept or {}, division.count)
    kept = {
        **(kept or {}),
        "devices": division.count,
        "hosts": hosts.count(),
        "weight_parts": division.weight_parts,
    }
    checkpoints = hosts.SharedCheckpoints(checkpoints)
    resume = Resume(checkpoints, callbacks, batches, steps, kept, save_minutes)
    if resume.begin(model):
        print(f"Goes on from {resume.place()}.")
        _report_devices(resume.state, kept)
    places = finite.Places(path, batches, rows)
    while True:
        guard = finite.Guard(places.of, resume.first, places.short)
        try:
            with hosts.not_alone(), division.joined(model), resume.fitting():
                model.fit(
                    division.training(batches, resume.first),
                    validation_data=division.validation(checks),
                    shuffle=False,  # batches come in their own order
                    initial_epoch=resume.epoch,
                    epochs=epochs,
                    steps_per_epoch=steps,
                    callbacks=[guard, *callbacks, resume],
                    verbose=0,
                )
            return resume.waiting.share
        except hosts.HostLost:
            raise
        except InputError:  # there is nothing to go on with
            checkpoints.clear()
            raise
        except finite.NumbersGoneWrong as wrong:
            _go_back(model, resume, places, wrong)


def check_backend() -> None:
    """Raise if the Keras backend cannot go on with an interrupted training.

    Raises:
        InputError: the backend is neither TensorFlow nor JAX.
    """
    backend = keras.backend.backend()
    if backend not in ("tensorflow", "jax"):
        raise InputError(
            f"Keras is on {backend}, where a run could not go on after an interruption.\n"
            "  Set KERAS_BACKEND=tensorflow or KERAS_BACKEND=jax; or compile the model and call "
            "its own `fit`."
        )


def _check_alike(model: keras.Model, kept: Mapping[str, Any], count: int) -> None:
    """Raise unless all hosts train the same model on the same data.

    Raises:
        InputError: they do not.
    """
    if hosts.count() == 1:
        return
    weights = hashlib.sha256()
    for variable in model.variables:  # one after the other, for memory
        weights.update(np.asarray(variable.value).tobytes())
    hosts.check_alike(
        {
            "settings": kept.get("settings"),
            "data": sorted(kept.get("files", {}).values()),
            "models": kept.get("model"),
            "weights": weights.digest(),
            "numbers of devices": count,
        }
    )


def _report_devices(before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Print what differs if a run goes on with another number of devices, hosts or parts."""
    names = ("devices", "hosts", "weight_parts")
    was, is_now = (_devices(*(kept.get(name, 1) for name in names)) for kept in (before, now))
    if was != is_now:
        print(
            f"It was on {was} and is now on {is_now}: each batch has the same examples, but sums "
            "are rounded in another order."
        )


def _devices(count: int, several: int, parts: int) -> str:
    """Return numbers of devices and hosts, and of parts of the weights, in words."""
    of_hosts = f" of {several} hosts" if several > 1 else ""
    in_parts = f" (weights in {parts} parts)" if parts > 1 else ""
    return f"{quantity(count, 'device')}{of_hosts}{in_parts}"


def _go_back(
    model: keras.Model, resume: Resume, places: finite.Places, wrong: finite.NumbersGoneWrong
) -> None:
    """Set the model to the newest checkpoint, with half the learning rate.

    Raises:
        InputError: the rate was halved often enough.
    """
    batches = resume.batches
    batch = batches.batch(batches.examples(wrong.step))
    why = finite.cause(model, batch, places.row_names(wrong.step))
    rate = finite.rate_of(model.optimizer)
    resume.begin(model)
    if not finite.lower_rate(model.optimizer, rate):
        raise finite.stop_error(places.of(wrong.step), why) from wrong
    print(f"Back to {resume.place()}, at half the rate: {why}.")
