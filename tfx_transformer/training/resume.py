"""A training that goes on where it was interrupted: at the very step, to the very same weights."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np

from tfx_transformer.errors import InputError
from tfx_transformer.training.callbacks import BestWeights, Progress
from tfx_transformer.training.checkpoints import Checkpoint, Checkpoints

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Resume(keras.callbacks.Callback):
    """Writes checkpoints while `fit` runs, and begins from the newest one.

    A checkpoint holds what training depends on: trained weights, optimizer with its moving
    averages, the state of every random generator, metrics of the epoch so far, the best weights,
    history and state of the other callbacks. Frozen weights are the base's, which is loaded again.

    One is written at the beginning, after the last step of each epoch, before validation, after
    some minutes within an epoch, and when a signal ends the training. Steps of the epoch that were
    made before are passed over: `fit` counts them, and nothing is computed. Validation of an epoch
    is repeated if need be.

    Args:
        store: of the run.
        callbacks: the other ones of `fit`, which stand before this one. State is kept of those
            that have `state() -> JSON value` and `restore(value)`.
        source: of the training batches.
        steps: of an epoch.
        about: JSON values that are kept in each checkpoint.
        minutes: after which one is written within an epoch; 0: none.
    """

    def __init__(
        self,
        store: Checkpoints,
        callbacks: Sequence[keras.callbacks.Callback],
        source,
        steps: int,
        about: dict[str, Any],
        minutes: float = 5,
    ) -> None:
        super().__init__()
        self.store, self.callbacks, self.source = store, list(callbacks), source
        self.steps, self.about, self.minutes = steps, about, minutes
        self.first = self.step = 0  # steps made when fit began, and by now
        self.saved: int | None = None
        self.signal: int | None = None
        self.writing = self.ended = False
        self.state: dict[str, Any] = {}

    @property
    def epoch(self) -> int:
        """Where `fit` begins, counted from 0: an epoch whose last step is made is validated yet."""
        return max(self.first - 1, 0) // self.steps

    def begin(self, model: keras.Model) -> bool:
        """Sets the model to the newest checkpoint; returns whether there was one.

        Raises:
            InputError: it belongs to another model.
        """
        self.set_model(model)
        model.optimizer.build(model.trainable_variables)
        _build_metrics(model, self.source.batch(self.source.examples(0)))
        found = self.store.newest()
        self.first = self.step = found.state["step"] if found else 0
        self.state = found.state if found else {}
        self.saved = self.first if found else None
        self.best: list[np.ndarray] = []
        if found:
            self._assign(found)
        return found is not None

    def place(self) -> str:
        """Where it goes on, in words."""
        made = self.first - self.epoch * self.steps
        path = self.store.path(self.first)
        return f"epoch {self.epoch + 1}, step {made} of {self.steps} ({path})"

    @contextlib.contextmanager
    def fitting(self) -> Iterator[None]:
        """While `fit` runs: passes over steps made before, and minds signals."""
        model = self.model
        model.make_train_function()
        train = model.train_function

        def train_or_pass(iterator):
            # The step that follows is `step + 1`, and `first` of them are made.
            return self.logs if self.passing else train(iterator)

        model.train_function = train_or_pass
        before = {}
        if threading.current_thread() is threading.main_thread():
            before = {number: signal.signal(number, self._on_signal) for number in _SIGNALS}
        try:
            yield
            self._stay_ended()
        except Exception:
            self._stay_ended()
            raise
        finally:
            model.train_function = train
            for number, handler in before.items():
                signal.signal(number, handler)

    def on_train_begin(self, logs=None):
        self.model.history.history.update(self.state.get("history", {}))
        self.model.history.epoch = list(range(self.epoch))
        for index, callback in enumerate(self.callbacks):
            if str(index) in self.state.get("callbacks", {}):
                callback.restore(self.state["callbacks"][str(index)])
            if isinstance(callback, BestWeights):
                callback.best_weights = self.best or None
            if isinstance(callback, Progress):
                callback.made = self.first
        self.written = time.monotonic()
        if self.saved is None:
            self._save()

    def on_epoch_begin(self, epoch, logs=None):
        self.counted = epoch * self.steps
        self.passing = self.counted < self.first
        if self.passing:
            for variable, value in zip(self.model.metrics_variables, self.metrics, strict=True):
                variable.assign(value)
            self.logs = self.model.get_metrics_result()

    def on_train_batch_end(self, batch, logs=None):
        done = self.counted + batch + 1
        self.passing = done < self.first
        if done <= self.first:
            return
        self.step = done
        late = self.minutes and time.monotonic() - self.written > 60 * self.minutes
        leaving = self.signal
        if leaving or late or batch + 1 == self.steps:
            self._save()
        if leaving:
            self._leave()

    def _on_signal(self, number, frame):
        """The step is finished first, and what is being written; else there is nothing to save."""
        self.signal = number
        if self.saved == self.step and not self.writing:
            self._leave()

    def _leave(self):
        self._stay_ended()
        name = signal.Signals(self.signal).name
        kept = f"saved in {self.store.path(self.step)}. The same command goes on from there."
        if self.saved != self.step:
            kept = "not saved: see above. The same command goes on from the checkpoint before."
        print(f"\nEnded by {name}; {kept}", file=sys.stderr)
        self.ended = True
        raise SystemExit(128 + self.signal)

    def _stay_ended(self):
        """Where a signal interrupts TensorFlow as it traces a function, `SystemExit` may be caught
        there, and what comes of it is another error or none."""
        if self.ended:
            raise SystemExit(128 + self.signal)

    def _save(self):
        if self.saved == self.step:
            return
        self.writing = True
        try:
            self.store.save(self.step, self._arrays(), self._state())
            self.saved = self.step
        except InputError as error:
            if self.saved is None:  # a run that cannot be saved at all
                raise
            print(f"{error}\n  Training goes on; free some room.", file=sys.stderr)
        finally:
            self.writing = False
            self.written = time.monotonic()
        if self.signal and self.saved == self.step:
            self._leave()

    def _variables(self) -> dict[str, keras.Variable]:
        model = self.model
        random = [v for v in model.variables if "seed_generator" in v.path]
        groups = {"model": model.trainable_variables, "optimizer": model.optimizer.variables}
        groups |= {"random": random}
        return {f"{name}/{i}": v for name, group in groups.items() for i, v in enumerate(group)}

    def _arrays(self) -> dict[str, np.ndarray]:
        arrays = {name: _as_array(v) for name, v in self._variables().items()}
        metrics = enumerate(self.model.metrics_variables)
        arrays |= {f"metrics/{i}": _as_array(v) for i, v in metrics}
        for callback in self.callbacks:
            if isinstance(callback, BestWeights) and callback.best_weights:
                arrays |= {f"best/{i}": w for i, w in enumerate(callback.best_weights)}
        return arrays

    def _state(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "history": self.model.history.history,
            "callbacks": {
                str(index): callback.state()
                for index, callback in enumerate(self.callbacks)
                if hasattr(callback, "state")
            },
            **self.about,
        }

    def _assign(self, found: Checkpoint) -> None:
        variables, arrays = self._variables(), found.arrays
        shapes = {name: tuple(variable.shape) for name, variable in variables.items()}
        held = {
            name: array.shape
            for name, array in arrays.items()
            if name.split("/")[0] in ("model", "optimizer", "random")
        }
        if shapes != held:
            raise InputError(
                f"{found.path} holds the state of another model.\n"
                "  To begin anew pass --overwrite, or choose another --name."
            )
        for name, variable in variables.items():
            variable.assign(arrays[name])
        self.metrics, self.best = (
            [arrays[f"{group}/{i}"] for i in range(sum(n.startswith(group + "/") for n in arrays))]
            for group in ("metrics", "best")
        )


def _as_array(variable: keras.Variable) -> np.ndarray:
    array = keras.ops.convert_to_numpy(variable.value)
    # safetensors' NumPy has no bfloat16; float32 holds every number of it.
    return array.astype("float32") if array.dtype.name == "bfloat16" else array


def _build_metrics(model: keras.Model, batch) -> None:
    """Makes the variables of all metrics, which else the first step does."""
    x, y, weights = (*batch, None)[:3]
    model.compute_metrics(x, y, model(x, training=False), weights)
    model.reset_metrics()
