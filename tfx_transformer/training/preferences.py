"""The run of a model that learns preferences: how often it prefers the chosen answers."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from tfx_transformer import files
from tfx_transformer.console import doing
from tfx_transformer.data.batches import Batches
from tfx_transformer.data.conversations import Conversations
from tfx_transformer.data.preference_pairs import (
    Preferences,
    digest_of,
    encode_preferences,
    preferences,
)
from tfx_transformer.data.preferences_summary import RehearsedSummary
from tfx_transformer.evaluation.conclusion import conclude_preferences
from tfx_transformer.generation.text import TextGenerator
from tfx_transformer.models.preference_losses import prefers_chosen
from tfx_transformer.reprs import quantity
from tfx_transformer.text.prompts import ChatTemplate
from tfx_transformer.training.distribution import undivided
from tfx_transformer.training.folder import REFERENCE
from tfx_transformer.training.run import Run
from tfx_transformer.training.terminal import label_scores_line, result_lines

# Name of the model before the training in records and in the terminal.
_BASE = "the base"


class PreferenceRun(Run):
    """One training run on preferences; the arguments are those of `Run`."""

    def show_rehearsed(self, read: Sequence[Conversations], used: Sequence[Sequence[Any]]) -> None:
        """Print how many rows are rehearsed and how many are too long, list the bad ones, and add
        the file to those of the data.

        Args:
            read: the training and the held-out part; see `data.read_rehearsed`.
            used: those of each that are short enough; see `data.encode_rehearsed`.
        """
        path, bad_rows = read[0].path, read[0].bad_rows
        rows = sum(map(len, read))
        truncated = rows - sum(map(len, used))
        summary = RehearsedSummary("rehearsed", path, len(bad_rows), rows, truncated)
        print("\n".join(summary.lines()))
        if bad_rows:
            print(f"  bad rows are listed in {self._record.bad_rows('rehearsed', bad_rows)}")
        self.add_data(summary)
        count = quantity(rows - truncated, "row")
        self._card_data["rehearsed"] = f"{Path(path).name}, {count}"

    def reference(
        self,
        model: keras.Model,
        template: ChatTemplate,
        *parts: Preferences,
        batch_size: int = 8,
        max_length: int = 256,
    ) -> list[np.ndarray]:
        """Return the log-probabilities of both answers by the model before its training, float32
        (n, 2) for each part of the data.

        They are computed once: `reference.npz` in the folder keeps them for a later run with the
        same model and rows, such as an interrupted one that goes on. The rows of the training data
        become those of the run's messages.

        Args:
            model: the model before its training.
            template: its template.
            parts: the training data, then others.
            batch_size: pairs in a batch.
            max_length: as for `data.preferences`.
        """
        self.rows = parts[0].rows  # without those that are too long
        digests = [_digest_of_weights(model)]
        digests += [digest_of(encode_preferences(part, template)) for part in parts]
        key = hashlib.sha256(" ".join(digests).encode()).hexdigest()
        names = [f"part_{index}" for index in range(len(parts))]
        path = self._folder.file(REFERENCE)
        known = _read(path, key)
        if known is not None:
            return [known[name] for name in names]
        doing("scoring the answers with the base")
        found = []
        for part in parts:
            options = {"batch_size": batch_size, "max_length": max_length, "shuffle": False}
            batches = preferences(part, template, **options)
            with undivided():
                scores = model.predict(batches, verbose=0)
            found.append(scores.astype("float32").reshape(-1, 2))
        content = io.BytesIO()
        np.savez(content, key=np.array(key), **dict(zip(names, found, strict=True)))
        files.write(path, content.getvalue())
        return found

    def watch(
        self,
        generator: TextGenerator,
        held_out: Preferences,
        reference: np.ndarray,
        *,
        patience: int = 5,
        minutes: float = 0,
    ) -> list[keras.callbacks.Callback]:
        """Return the callbacks of `Run.callbacks` for held-out pairs.

        Args:
            generator: generator of the model.
            held_out: pairs that training does not see.
            reference: their log-probabilities by the base, float (n, 2); see `reference`.
            patience, minutes: as for `Run.callbacks`.
        """
        self.held_out, self.base = held_out, reference[:, 0] > reference[:, 1]
        options = {"patience": patience, "minutes": minutes}
        return self.callbacks(generator, held_out.messages(), held_out.chosen, **options)

    def report(
        self, model: keras.Model, generator: TextGenerator, checks: Batches
    ) -> dict[str, Any]:
        """Write metrics, samples and scores, and return the result of the run, as `Run.finish`
        takes it.

        Args:
            model: the trained model.
            generator: generator of the model.
            checks: the batches of the held-out pairs.
        """
        _, training = self._write_metrics(model, "val_loss")
        assert self._written_for is not None and self.previews is not None
        _, prompts, chosen = self._written_for
        written = self._write(generator, prompts)
        self._record.previews(self.previews.history)
        self._record.samples(prompts, written, chosen)
        found = prefers_chosen(model.predict(checks, verbose=0))
        scores = {"preferred": round(float(found.mean()), 4)}
        before = {"preferred": round(float(self.base.mean()), 4)}
        self.conclusion = conclude_preferences(found, self.base)
        shown = {_BASE: label_scores_line(before)}
        print("\n".join(result_lines(training, label_scores_line(scores), self.folder, shown)))
        baselines = {_BASE: before}
        self._record_result(training | scores | {"baselines": baselines})
        self._report.preferences(generator, prompts, found, scores, baselines)
        self._report.write()
        return self._result(training, scores)


def disable_dropout(model: keras.Model) -> None:
    """Turn off dropout in the training of a model, since it would blur the difference of two
    log-probabilities. The configuration of the model keeps its rates."""
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0


def _digest_of_weights(model: keras.Model) -> str:
    total = hashlib.sha256()
    for weight in model.weights:
        total.update(f"{weight.path} {weight.shape} {weight.dtype}\n".encode())
        total.update(np.ascontiguousarray(ops.convert_to_numpy(weight)).tobytes())
    return total.hexdigest()


def _read(path: Any, key: str) -> dict[str, np.ndarray] | None:
    """Return the arrays of a file if it has this key; None if not, or if it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            if str(file["key"]) == key:
                return {name: file[name] for name in file.files}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        pass
    return None
