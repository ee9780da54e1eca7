"""Keras callbacks: one calm line of progress, previews after each epoch, a limit on time."""

from __future__ import annotations

import math
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import Any

import keras
import numpy as np

from tfx_transformer import devices
from tfx_transformer.console import (
    COLUMNS,
    begin,
    doing,
    harmless,
    shorten,
    width,
    write_as_is,
)
from tfx_transformer.errors import InputError
from tfx_transformer.generation.text import Prompt
from tfx_transformer.reprs import duration
from tfx_transformer.training.terminal import one_line, visible_text

# What the line of an epoch shows of its logs, and the factor on each.
_SHOWN = {
    "val_loss": ("val {:.3f}", 1),
    "val_perplexity": ("perplexity {:.2f}", 1),
    "val_bits_per_byte": ("{:.3f} bits per byte", 1),
    "val_accuracy": ("accuracy {:.1f} %", 100),
    "val_macro_f1": ("macro-F1 {:.1f} %", 100),
    "val_entity_f1": ("entity F1 {:.1f} %", 100),
    "val_found": ("found {:.1f} %", 100),
    "val_spearman": ("Spearman {:.3f}", 1),
    "val_r2": ("R² {:.3f}", 1),
    "val_token_accuracy": ("token accuracy {:.1f} %", 100),
}


class ResumableCallback(keras.callbacks.Callback):
    """A callback whose state is kept in checkpoints, so that an interrupted training can go on."""

    def state(self) -> Any:
        """Return the state as JSON values, or None."""
        return None

    def arrays(self) -> list[np.ndarray]:
        """Return the arrays of the state. At most one callback of a training may have some."""
        return []

    def restore(self, state: Any) -> None:
        """Restore what `state` returned."""

    def resume(self, made: int, arrays: list[np.ndarray]) -> None:
        """Prepare to go on after some steps; called when training begins, before `restore`.

        Args:
            made: steps made before this `fit`; 0: it begins at the first one.
            arrays: those of the checkpoint; empty if it has none, or without a checkpoint.
        """


class Progress(ResumableCallback):
    """Shows one line of step, loss, tokens per second and time left; one line an epoch stays.

    Args:
        tokens_per_epoch: tokens that one epoch trains on, padding not counted.
        unit: what is counted, if not tokens.
    """

    def __init__(self, tokens_per_epoch: int, unit: str = "tokens") -> None:
        super().__init__()
        self.tokens_per_epoch = tokens_per_epoch
        self.unit = unit
        self.lively = sys.stderr.isatty() and not devices.in_use().place.index
        self.made = 0  # steps made before this `fit`, which goes on after them

    def resume(self, made: int, arrays: list[np.ndarray]) -> None:
        """Count speed and time left from these steps on."""
        self.made = made

    def on_train_begin(self, logs=None):
        self.first: float | None = None  # when the first step, which compiles, ended
        self.begin = self.shown = time.monotonic()
        begin("compiling the training step")

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch, self.epoch_begin = epoch, time.monotonic()
        self.passed = max(self.made - epoch * self.params["steps"], 0)
        if self.first is not None:
            doing("training")

    def on_train_batch_end(self, batch, logs=None):
        now = time.monotonic()
        done = self.epoch * self.params["steps"] + batch + 1
        if done <= self.made:
            return
        if self.first is None:
            self.first = self.epoch_begin = self.shown = now
            self.passed = batch + 1
            self.counted = done
            begin("training")
            return
        if not self.lively or now - self.shown < 0.5:
            return
        self.shown = now
        total = self.params["steps"] * self.params["epochs"]
        left = (now - self.first) / (done - self.counted) * (total - done)
        self._line(
            f"epoch {self.epoch + 1}/{self.params['epochs']}"
            f"  step {batch + 1}/{self.params['steps']}  loss {float(logs['loss']):.3f}"
            f"  {self._speed(batch + 1, now):,.0f} {self.unit}/s  {duration(left)} left at most"
        )

    def on_test_begin(self, logs=None):
        doing("validating")

    def on_epoch_end(self, epoch, logs=None):
        now = time.monotonic()
        shown = [f"epoch {epoch + 1:>3}/{self.params['epochs']}", f"loss {logs['loss']:.3f}"]
        shown += [
            text.format(logs[name] * factor)
            for name, (text, factor) in _SHOWN.items()
            if name in logs
        ]
        shown.append(duration(now - self.begin))
        if self.params["steps"] > self.passed:
            shown.insert(-1, f"{self._speed(self.params['steps'], now):,.0f} {self.unit}/s")
        if len("  ".join(shown)) > COLUMNS and len(shown) > 3:
            shown = [part for part in shown if not part.endswith("/s")]
        self._line("")
        print("\n".join(_wrap_parts(shown)), flush=True)

    def _speed(self, steps: int, now: float) -> float:
        """Return the tokens per second of this epoch, without the step that compiles."""
        tokens = self.tokens_per_epoch * (steps - self.passed) / self.params["steps"]
        return tokens / max(now - self.epoch_begin, 1e-9)

    def _line(self, text: str) -> None:
        if self.lively:
            width = shutil.get_terminal_size().columns - 1
            write_as_is("\r\x1b[K" + harmless(text)[:width], sys.stderr)
            sys.stderr.flush()


def _wrap_parts(parts: Sequence[str]) -> list[str]:
    """Return the parts of a line as lines that fit a terminal; no part is broken."""
    lines = [parts[0]]
    for part in parts[1:]:
        if len(lines[-1]) + 2 + len(part) > COLUMNS:
            lines.append("  " + part)
        else:
            lines[-1] += "  " + part
    return lines


class Previews(ResumableCallback):
    """Shows, after each epoch, what the model writes for a few prompts, if that has changed.

    Args:
        generate: returns what the model in training writes for each prompt.
        texts: the prompts: texts, or conversations of a chat model.
        references: the expected outputs, if they are known.
    """

    def __init__(
        self,
        generate: Callable[[list[Prompt]], list[str]],
        texts: Sequence[Prompt],
        references: Sequence[str],
    ) -> None:
        super().__init__()
        self.generate, self.texts, self.references = generate, list(texts), list(references)
        self.history: list[dict] = []

    def state(self) -> list[dict]:
        """Return the previews so far, for a checkpoint."""
        return self.history

    def restore(self, state: list[dict]) -> None:
        """Go on from a checkpoint."""
        self.history = list(state)

    def on_epoch_end(self, epoch, logs=None):
        if not self.texts:
            return
        before = [row["written"] for row in self.history[-len(self.texts) :]]
        doing("writing samples")
        written = self.generate(self.texts)
        rows = zip_longest(map(visible_text, self.texts), written, self.references, fillvalue="")
        for index, (source, text, reference) in enumerate(rows):
            if not before or text != before[index]:
                wrong = reference and text != reference
                print("\n".join(_preview_lines(source, text, reference if wrong else "")))
            self.history.append(
                {"epoch": epoch + 1, "source": source, "written": text, "reference": reference}
            )
        sys.stdout.flush()


def _preview_lines(source: str, written: str, expected: str) -> list[str]:
    """Return a prompt and what a model writes for it, on one line if there is room for both."""
    parts = [one_line(source), f"→ {one_line(written)}"]
    parts += [f"(expected: {one_line(expected)})"] * bool(expected)
    line = "      " + " ".join(parts)
    if width(line) <= COLUMNS:
        return [line]
    starts = ["      ", *["        "] * (len(parts) - 1)]
    return [shorten(a + b, COLUMNS) for a, b in zip(starts, parts, strict=True)]


class TimeLimit(ResumableCallback):
    """Stops training at the end of the last epoch that fits into a number of minutes.

    Args:
        minutes: limit of training and validation together.
        later: epochs of a training that follows, which are to fit too.
    """

    def __init__(self, minutes: float, later: int = 0) -> None:
        super().__init__()
        self.minutes, self.later = minutes, later

    def state(self) -> float:
        """Return the seconds of training so far, for a checkpoint."""
        return time.monotonic() - self.begin

    def restore(self, state: float) -> None:
        """Go on from a checkpoint."""
        self.begin = time.monotonic() - state

    def on_train_begin(self, logs=None):
        self.begin = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        elapsed = (time.monotonic() - self.begin) / 60
        if elapsed * (epoch + 2 + self.later) / (epoch + 1) > self.minutes:
            self.model.stop_training = True

    def rest(self) -> TimeLimit:
        """Return the limit of the training that follows now, of the minutes that are left. It
        ends after an epoch, so there is one even if none are."""
        return TimeLimit(self.minutes - self.state() / 60)


class HeldOutScore(keras.callbacks.Callback):
    """Adds, after each epoch, a score of held-out examples to its logs.

    Args:
        name: name of the score; it becomes `val_<name>`.
        score: returns the score of the current model; 1 is best.
    """

    def __init__(self, name: str, score: Callable[[], float]) -> None:
        super().__init__()
        self.name, self.score = name, score

    def on_epoch_end(self, epoch, logs=None):
        doing("scoring held-out examples")
        logs[f"val_{self.name}"] = self.score()


class BestWeights(ResumableCallback, keras.callbacks.EarlyStopping):
    """Ends training when a score no longer improves, and gives the model the weights of the best
    epoch. An epoch whose score is not finite is never the best. If two scores differ by less than
    one held-out example, the one with the lower validation loss is better.

    Args:
        monitor: name of the score.
        mode: "min" or "max": which is better.
        patience: training ends after this many epochs without a better score.
        grain: share of one held-out example in the score; 0: every difference counts.
    """

    def __init__(self, monitor: str, mode: str, patience: int, grain: float = 0.0) -> None:
        super().__init__(monitor, mode=mode, patience=patience, restore_best_weights=True)
        self.grain, self.best_loss = grain, math.inf

    def state(self) -> dict:
        """Return the best score, its loss and epoch, and how many epochs ago that was."""
        names = ("wait", "best", "best_loss", "best_epoch")
        return {name: getattr(self, name) for name in names}

    def arrays(self) -> list[np.ndarray]:
        """Return the best weights."""
        return self.best_weights or []

    def resume(self, made: int, arrays: list[np.ndarray]) -> None:
        """Restore the best weights of a checkpoint."""
        self.best_weights = arrays or None

    def restore(self, state: dict) -> None:
        """Go on from a checkpoint."""
        for name, value in state.items():
            setattr(self, name, value)

    def on_epoch_end(self, epoch, logs=None):
        score, loss = float(logs[self.monitor]), float(logs.get("val_loss", 0))
        self.wait += 1
        if math.isfinite(score) and (
            self.best is None or self._rank(score, loss) > self._rank(self.best, self.best_loss)
        ):
            self.best, self.best_loss, self.best_epoch, self.wait = score, loss, epoch, 0
            self.best_weights = list(map(_to_numpy, self.model.trainable_variables))
        elif self.wait >= self.patience and epoch > 0:
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def _rank(self, score: float, loss: float) -> tuple[float, float]:
        return in_grains(score if self.mode == "max" else -score, self.grain), -loss

    def on_train_end(self, logs=None):
        if self.best_weights:
            weights = zip(self.model.trainable_variables, self.best_weights, strict=True)
            for variable, value in weights:
                variable.assign(value)


def in_grains(score, grain: float):
    """Return a score, or a NumPy array of them, as a number of grains; grain 0: as it is."""
    return np.round(score / grain) if grain else score


def _to_numpy(variable):
    return keras.ops.convert_to_numpy(variable.value)


class WorthSaving(keras.callbacks.Callback):
    """Raises, at the end of training, if the model is not worth saving.

    Raises:
        InputError: no epoch was trained, or none has a finite validation loss.
    """

    def on_train_end(self, logs=None):
        losses = self.model.history.history.get("val_loss", [])
        if not any(math.isfinite(loss) for loss in losses):
            raise InputError(
                "training failed: no epoch has a validation loss that is a finite number.\n"
                "  Train for one epoch or more, with a lower learning rate."
            )
