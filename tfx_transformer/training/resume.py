"""Checkpoints while a model trains; a training that goes on from one makes the same steps and ends
with the same weights."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from tfx_transformer.data.batches import Batches
from tfx_transformer.errors import InputError
from tfx_transformer.training import hosts, shards
from tfx_transformer.training.callbacks import ResumableCallback
from tfx_transformer.training.checkpoints import Checkpoint, Checkpoints
from tfx_transformer.training.finite import steps_between_reads
from tfx_transformer.training.optimizers import sync_variables
from tfx_transformer.training.waiting import Waiting

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Resume(keras.callbacks.Callback):
    """Writes checkpoints while `fit` runs, and begins from the newest one.

    A checkpoint has all that training depends on: trained weights, optimizer with its moving
    averages, the state of every random generator, metrics of the epoch so far, the best weights,
    history and state of the other callbacks. Frozen weights are loaded from the base again.

    A checkpoint is written at the beginning, after the last step of each epoch (before validation),
    after some minutes within an epoch, and when a signal ends the training. Steps that were made
    before are skipped: `fit` counts them, but nothing is computed. The validation of an epoch is
    repeated if it was interrupted.

    Args:
        store: checkpoints of the run.
        callbacks: the other callbacks of `fit`, which are called before this one. The state of
            each `ResumableCallback` among them is kept.
        batches: training batches.
        steps: steps of an epoch.
        kept: JSON values to write into each checkpoint.
        minutes: minutes between checkpoints within an epoch; 0: none within an epoch.
    """

    def __init__(
        self,
        store: Checkpoints,
        callbacks: Sequence[keras.callbacks.Callback],
        batches: Batches,
        steps: int,
        kept: Mapping[str, Any],
        minutes: float = 5,
    ) -> None:
        super().__init__()
        self.store, self.callbacks, self.batches = store, list(callbacks), batches
        self.steps, self.kept, self.minutes = steps, kept, minutes
        self.waiting = Waiting(batches, keras.backend.backend() == "jax")
        self.first = self.step = 0  # steps made when fit began, and by now
        self.saved: int | None = None
        self.signal: int | None = None
        self.writing = self.ended = False
        self.stride = steps_between_reads()  # steps after which hosts agree
        self.state: dict[str, Any] = {}

    @property
    def epoch(self) -> int:
        """The epoch that `fit` begins with, counted from 0; after the last step of an epoch it is
        still that epoch, which has to be validated."""
        return max(self.first - 1, 0) // self.steps

    def begin(self, model: keras.Model) -> bool:
        """Set the model to the newest checkpoint; return True if there was one.

        Raises:
            InputError: it belongs to another model.
        """
        self.set_model(model)
        model.optimizer.build(model.trainable_variables)
        _build_metrics(model, self.batches)
        found = self.store.load_newest()
        self.first = self.step = found.state["step"] if found else 0
        self.state = found.state if found else {}
        self.saved = self.first if found else None
        self.best: list[np.ndarray] = []
        if found:
            self._assign(found)
        return found is not None

    def place(self) -> str:
        """Return the place where training goes on, in words."""
        made = self.first - self.epoch * self.steps
        path = self.store.path(self.first)
        return f"epoch {self.epoch + 1}, step {made} of {self.steps} ({path})"

    @contextlib.contextmanager
    def fitting(self) -> Iterator[None]:
        """Skip steps made before, and handle signals, while `fit` runs in the block."""
        model = self.model
        self.waiting.begin()
        model.make_train_function()
        train = model.train_function

        def train_or_pass(*arguments):
            # `passing` is True if the next step was made before. On JAX a step takes the state of
            # the training before its iterator, and returns it after its logs.
            if not self.passing:
                return self.waiting.step(train, *arguments)
            return (self.logs, arguments[0]) if len(arguments) > 1 else self.logs

        model.train_function = train_or_pass
        before = {}
        if threading.current_thread() is threading.main_thread():
            before = {number: signal.signal(number, self._on_signal) for number in _SIGNALS}
        try:
            yield
            self._exit_again()
        except Exception:
            self._exit_again()
            raise
        finally:
            model.train_function = train
            for number, handler in before.items():
                signal.signal(number, handler)

    def on_train_begin(self, logs=None):
        self.model.history.history.update(self.state.get("history", {}))
        self.model.history.epoch = list(range(self.epoch))
        states = self.state.get("callbacks", {})
        for index, callback in self._resumable():
            callback.resume(self.first, self.best)
            if index in states:
                callback.restore(states[index])
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
        self.waiting.end()
        late = self.minutes and time.monotonic() - self.written > 60 * self.minutes
        leaving = self._agree_on_signal(batch + 1)
        if leaving or late or batch + 1 == self.steps:
            self._save()
        if leaving:
            self._leave()

    def on_epoch_end(self, epoch, logs=None):
        if hosts.count() > 1:
            # Clocks and the last digits of scores may differ: host 0 decides.
            self.model.stop_training = bool(hosts.first(self.model.stop_training))
            if self._agree_on_signal(self.steps):
                self._leave()

    def _agree_on_signal(self, made: int) -> int | None:
        """Return the number of the signal on which the training ends now; None: it goes on.

        Args:
            made: steps of the epoch that are made.
        """
        if hosts.count() == 1:
            return self.signal
        if made % self.stride and made != self.steps:
            return None
        self.signal = hosts.largest(self.signal or 0) or None
        return self.signal

    def _on_signal(self, number, frame):
        """Leave at once if the last step is saved, else after the step or the write under way."""
        self.signal = number
        if hosts.count() == 1 and self.saved == self.step and not self.writing:
            self._leave()

    def _leave(self):
        self._exit_again()
        name = signal.Signals(self.signal).name
        saved = f"saved in {self.store.path(self.step)}. The same command goes on from there."
        if self.saved != self.step:
            saved = "not saved: see above. The same command goes on from the checkpoint before."
        if hosts.index() == 0:
            print(f"\nEnded by {name}; {saved}", file=sys.stderr)
        hosts.leave()  # when host 0 has written
        self.ended = True
        raise SystemExit(128 + self.signal)

    def _exit_again(self):
        """Raise `SystemExit` again: if a signal interrupts TensorFlow while it traces a function,
        TensorFlow may catch the exit, or replace it by another error."""
        if self.ended:
            raise SystemExit(128 + self.signal)

    def _save(self):
        if self.saved == self.step:
            return
        if hosts.index() > 0:
            self.saved = self.step
            return
        self.writing = True
        try:
            sync_variables(self.model)
            divided = self._divided()
            self.store.save(self.step, self._arrays(divided), self._state(), divided)
            self.saved = self.step
        except InputError as error:
            if self.saved is None:  # a run that cannot be saved at all
                raise
            print(f"{error}\n  Training goes on; free some room.", file=sys.stderr)
        finally:
            self.writing = False
            self.written = time.monotonic()
        if self.signal and self.saved == self.step and hosts.count() == 1:
            self._leave()

    def _variables(self) -> dict[str, keras.Variable]:
        model = self.model
        random = [v for v in model.variables if "seed_generator" in v.path]
        groups = {"model": model.trainable_variables, "optimizer": model.optimizer.variables}
        groups |= {"random": random}
        return {f"{name}/{i}": v for name, group in groups.items() for i, v in enumerate(group)}

    def _divided(self) -> dict[str, Any]:
        """Return the arrays of JAX that Orbax writes: those of which no device has the whole. With
        several hosts, host 0 gathers them."""
        if hosts.count() > 1 or not shards.is_installed():
            return {}
        values = {name: variable.value for name, variable in self._variables().items()}
        return {name: value for name, value in values.items() if shards.is_divided(value)}

    def _arrays(self, divided: Mapping[str, Any]) -> dict[str, np.ndarray]:
        variables = self._variables().items()
        arrays = {name: _as_array(v) for name, v in variables if name not in divided}
        metrics = enumerate(self.model.metrics_variables)
        arrays |= {f"metrics/{i}": _as_array(v) for i, v in metrics}
        for _, callback in self._resumable():
            arrays |= {f"best/{i}": array for i, array in enumerate(callback.arrays())}
        return arrays

    def _resumable(self) -> Iterator[tuple[str, ResumableCallback]]:
        """Yield the place of each resumable callback among all callbacks, and the callback."""
        for index, callback in enumerate(self.callbacks):
            if isinstance(callback, ResumableCallback):
                yield str(index), callback

    def _state(self) -> dict[str, Any]:
        states = {index: callback.state() for index, callback in self._resumable()}
        return {
            "step": self.step,
            "history": self.model.history.history,
            "callbacks": {index: state for index, state in states.items() if state is not None},
            **self.kept,
        }

    def _assign(self, found: Checkpoint) -> None:
        variables, arrays = self._variables(), found.arrays
        shapes = {name: tuple(variable.shape) for name, variable in variables.items()}
        held = {
            name: array.shape
            for name, array in arrays.items()
            if name.split("/")[0] in ("model", "optimizer", "random")
        }
        held |= shards.shapes(found.divided) if found.divided else {}
        if shapes != held:
            raise InputError(
                f"{found.path} holds the state of another model.\n"
                "  To start over, pass --overwrite or choose another --name."
            )
        rest = {name: variable for name, variable in variables.items() if name not in arrays}
        for name in variables.keys() - rest.keys():
            variables[name].assign(arrays[name])
        if found.divided:
            for variable, value in shards.read(found.divided, rest):
                variable.assign(value)
        self.metrics, self.best = (
            [arrays[f"{group}/{i}"] for i in range(sum(n.startswith(group + "/") for n in arrays))]
            for group in ("metrics", "best")
        )


def _as_array(variable: keras.Variable) -> np.ndarray:
    array = np.asarray(keras.ops.convert_to_numpy(variable.value))
    # NumPy in safetensors has no bfloat16; float32 represents all its numbers.
    return array.astype("float32") if array.dtype.name == "bfloat16" else array


def _build_metrics(model: keras.Model, batches: Batches) -> None:
    """Make the variables of all metrics; without this, the first step makes them.

    One example is enough: a whole batch may not fit into the memory of one device.
    """
    batch = batches.batch(batches.examples(0))
    example = keras.tree.map_structure(lambda array: array[: batches.per_example], batch)
    x, y, weights = (*example, None)[:3]
    model.compute_metrics(x, y, model(x, training=False), weights)
    model.reset_metrics()
