"""What a run leaves in runs/<name>/: settings, metrics, pictures, samples."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import pandas

from tfx_transformer import bundle, pictures
from tfx_transformer.data import Pairs, describe_pairs, write_bad_rows
from tfx_transformer.data.pairs import encode_source
from tfx_transformer.errors import InputError
from tfx_transformer.generation.text import TextGenerator
from tfx_transformer.models.decoding import cross_attention
from tfx_transformer.training.callbacks import Previews, Progress, TimeLimit, duration

# Samples that are written and scored at the end; a whole test file is `evaluate`'s task.
_SAMPLES = 500


def new_bundle_path(name: str, overwrite: bool, root: str = "saved_models") -> Path:
    """saved_models/<name>, refused before any work if nothing may be written there."""
    if not name or name.startswith(".") or any(c in name for c in '/\\:*?"<>|'):
        raise InputError(f"--name {name!r} cannot be a folder's name.\n  Use letters, digits, - _")
    path = Path(root, name)
    bundle.check_place(path, overwrite)
    return path


class Run:
    """The record of one training run.

    Args:
        name: of the folder below `root`; what an earlier run of that name left is replaced.
        settings: the run's settings, as JSON values.
        root: folder of all runs.
    """

    def __init__(self, name: str, settings: dict[str, Any], root: str = "runs") -> None:
        self.folder = Path(root, name)
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self._write_json("settings.json", settings)
        self.begin = time.monotonic()
        self.file = ""
        self.tokens_per_epoch = 0
        self.previews: Previews | None = None

    def show_data(self, train: Pairs, held_out: Pairs, tokenizer, max_length: int) -> None:
        """Prints what was read, lists rows that were left out, and draws how long the texts are."""
        self.file = str(train.path)
        summaries = describe_pairs(train, held_out, tokenizer, max_length)
        self.tokens_per_epoch = summaries[0].tokens()
        for summary in summaries:
            print("\n".join(summary.lines()))
        if train.bad_rows:
            path = self.folder / "bad_rows.csv"
            write_bad_rows(path, train.bad_rows)
            print(f"  bad rows are listed in {path}")
        self._write_json("data.json", [summary.to_dict() for summary in summaries])
        lengths = summaries[0].lengths
        pictures.length_histogram(self.folder / "lengths.png", lengths, max_length - 1)

    def callbacks(
        self,
        generator: TextGenerator,
        held_out: Pairs,
        *,
        patience: int = 5,
        minutes: float = 0,
        previews: int = 3,
    ) -> list[keras.callbacks.Callback]:
        """Progress, previews of the first held-out pairs, early stopping on validation loss with
        the best weights kept, and a limit on time if `minutes` is not 0."""
        few = held_out.take(range(min(previews, len(held_out))))
        self.previews = Previews(
            lambda texts: generator.generate(texts, truncate=True), few.source, few.target
        )
        stopping = keras.callbacks.EarlyStopping(
            monitor="val_loss", patience=patience, restore_best_weights=True
        )
        limit = [TimeLimit(minutes)] if minutes else []
        return [Progress(self.tokens_per_epoch), self.previews, *limit, stopping]

    def check(self, model: keras.Model) -> None:
        """Refuses a model that is not worth saving.

        Raises:
            InputError: no epoch was trained, or none has a validation loss that is a number.
        """
        metrics = pandas.DataFrame(model.history.history)
        if "val_loss" not in metrics or metrics["val_loss"].isna().all():
            raise InputError(
                "training came to nothing: no epoch has a validation loss that is a number.\n"
                "  Train for one epoch or more, with a lower learning rate."
            )

    def finish(
        self,
        model: keras.Model,
        generator: TextGenerator,
        held_out: Pairs,
        sentence: str,
        score: Callable[[Sequence[str], Sequence[str]], dict],
    ) -> dict[str, Any]:
        """Writes metrics, samples and pictures, and returns what the run came to.

        Args:
            sentence: the text whose attention is drawn, cut to what the model reads.
            score: (written texts, references) -> scores.

        Returns: "training" (epochs, best epoch, its validation loss, seconds), "scores", "data".
        """
        metrics = pandas.DataFrame(model.history.history)
        metrics.insert(0, "epoch", range(1, len(metrics) + 1))
        metrics.to_csv(self.folder / "metrics.csv", index=False)
        pandas.DataFrame(self.previews.history).to_csv(self.folder / "previews.csv", index=False)
        pictures.loss_curve(self.folder / "loss.png", metrics.to_dict("records"))
        best = metrics.loc[metrics["val_loss"].idxmin()]
        seconds = time.monotonic() - self.begin
        training = {
            "epochs": len(metrics),
            "best_epoch": int(best["epoch"]),
            "val_loss": round(float(best["val_loss"]), 4),
            "seconds": round(seconds, 1),
        }

        samples = held_out.take(range(min(_SAMPLES, len(held_out))))
        written = generator.generate(samples.source, truncate=True)
        table = {"source": samples.source, "written": written, "reference": samples.target}
        pandas.DataFrame(table).to_csv(self.folder / "samples.csv", index=False)
        scores = score(written, samples.target)
        self._draw_attention(model, generator, sentence)
        print(
            f"{len(metrics)} epochs in {duration(seconds)}, the best was epoch "
            f"{training['best_epoch']}. Held out: BLEU {scores['bleu']}, "
            f"{100 * scores['exact_match']:.1f} % exactly right. Pictures are in {self.folder}/"
        )
        self._write_json("result.json", training | scores)
        return {"training": training, "scores": scores, "data": {"file": self.file}}

    def _draw_attention(self, model, generator: TextGenerator, sentence: str) -> None:
        tokenizer = generator.tokenizer
        limit = model.config.max_sequence_length
        written = generator.generate(sentence, truncate=True)
        source_ids = encode_source(tokenizer, sentence, limit)
        target_ids = encode_source(tokenizer, written, limit)
        pictures.attention_map(
            self.folder / "attention.png",
            cross_attention(model, source_ids, target_ids),
            tokenizer.tokens(source_ids),
            tokenizer.tokens(target_ids),
            title=f"{sentence} → {written}",
        )

    def _write_json(self, name: str, values: Any) -> None:
        text = json.dumps(values, ensure_ascii=False, indent=2, default=str) + "\n"
        (self.folder / name).write_text(text, encoding="utf-8")
