"""What a run leaves in runs/<name>/: settings, metrics, pictures, samples."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import keras
import numpy as np
import pandas

from tfx_transformer import bundle, files, pictures
from tfx_transformer.annotations import Batches
from tfx_transformer.data import write_bad_rows
from tfx_transformer.data.batches import own_errors
from tfx_transformer.data.pairs import encode_source
from tfx_transformer.errors import InputError
from tfx_transformer.evaluation.mistakes import as_text
from tfx_transformer.generation.text import Prompt, TextGenerator
from tfx_transformer.models.decoding import cross_attention
from tfx_transformer.models.lora import has_adapters, merged, save_adapters
from tfx_transformer.models.saving import is_saved, save
from tfx_transformer.models.states import self_attention, text_ids, token_bytes
from tfx_transformer.text.tokenizer import Tokenizer
from tfx_transformer.training.callbacks import (
    BestWeights,
    Previews,
    Progress,
    TimeLimit,
    WorthSaving,
    duration,
    in_grains,
    shown,
)
from tfx_transformer.training.checkpoints import Checkpoints
from tfx_transformer.training.estimate import estimate
from tfx_transformer.training.fitting import fit
from tfx_transformer.training.folder import CHECKPOINTS, RunFolder, check_name
from tfx_transformer.training.identity import Identity, content_of

# Samples that are written and scored at the end; a whole test file is `evaluate`'s task.
_SAMPLES = 500

# Tokens of a text whose attention is drawn: so many have room for numbers.
_READABLE = 12


class Summary(Protocol):
    """Figures of what was read; `data` has one for each kind of data."""

    name: str
    path: str

    def lines(self) -> list[str]:
        """The figures, for a terminal."""

    def to_dict(self) -> dict[str, Any]:
        """The figures as JSON values; "tokens": of one epoch."""


def new_bundle_path(name: str, overwrite: bool, root: str = "saved_models") -> Path:
    """saved_models/<name>, refused before any work if nothing may be written there.

    What an interrupted run of that name has written is its own to replace.
    """
    check_name(name, "--name")
    path = Path(root, name)
    bundle.check_place(path, overwrite or Path("runs", name, CHECKPOINTS).is_dir())
    return path


def rounds(steps: int, validate_every: int) -> int:
    """How many times `validate_every` steps make `steps`, rounded up: epochs of an endless data
    set."""
    if steps < 1 or validate_every < 1:
        raise InputError(
            f"steps is {steps} and validate_every is {validate_every}.\n  Expected 1 or more."
        )
    return -(-steps // validate_every)


class Run:
    """The record of one training run, which goes on if it is interrupted: see `fit`.

    Args:
        name: of the folder below `root`. The files that an earlier run of that name left are
            removed, unless it was interrupted and had other settings; all else there stays.
        settings: the run's settings, as JSON values. With "overwrite" an interrupted run of other
            settings is replaced too; "save_minutes" is how often a checkpoint is written within an
            epoch.
        root: folder of all runs.
        recipe: the function whose arguments the settings are. Those annotated with `Path` are files
            or folders: an interrupted run does not go on when they have changed. Its defaults are
            what an earlier version of it did where it had no such setting.

    Raises:
        InputError: the name is not one, an interrupted run of other settings is there or a file
            that no run wrote, another process is writing there, or the folder cannot be written.

    Attributes:
        goes_on: whether an interrupted run of that name goes on.
        overwrite: whether its bundle may replace one that is there: that was asked for, or an
            interrupted run goes on, which may have written it.
    """

    def __init__(
        self,
        name: str,
        settings: dict[str, Any],
        root: str = "runs",
        recipe: Callable[..., Any] | None = None,
    ) -> None:
        check_name(name)
        self.folder = Path(root, name)
        self._folder = RunFolder(self.folder)
        self._folder.hold()
        self.settings = settings
        self.identity = Identity(settings, recipe)
        self.checkpoints = Checkpoints(self.folder / CHECKPOINTS)
        before = self.checkpoints.peek()
        if before is not None:
            self.refuse(self.identity.changes(before))
        self.goes_on = bool(self.checkpoints.steps())
        self.overwrite = bool(settings.get("overwrite") or self.goes_on)
        self._folder.clear()
        self._write_json("settings.json", settings)
        self.files: list[str] = []
        self.contents: dict[str, str] = {}  # digests of what was read from memory
        self.rows: list[Any] | None = None
        self.begin = time.monotonic()
        self.file = ""
        self.tokens_per_epoch = 0
        self.grain = 0.0  # see `BestWeights`
        self.previews: Previews | None = None

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in self.settings.items())
        return f"Run: {self.folder}\n  {settings if len(settings) <= 200 else settings[:199] + '…'}"

    def show_data(self, summaries: Sequence[Summary], *read: Any, max_length: int = 0) -> None:
        """Prints what was read, lists rows that were left out, and draws how long the texts are.

        Args:
            summaries: of the training data, then of others.
            read: what was read, for each summary; rows left out are its `bad_rows`.
            max_length: of the model, a line in the picture.
        """
        self.file = str(summaries[0].path)
        self.files = [str(summary.path) for summary in summaries]
        self.contents = {
            f"{summary.path} ({summary.name})": content_of(examples)
            for summary, examples in zip(summaries, read, strict=False)
            if not os.path.exists(summary.path)
        }
        self.rows = getattr(read[0], "rows", None) if read else None
        self.tokens_per_epoch = summaries[0].to_dict()["tokens"]
        for index, summary in enumerate(summaries):
            print("\n".join(summary.lines()))
            bad_rows = read[index].bad_rows if index < len(read) else []
            # Training and validation may be two parts of one file.
            if bad_rows and all(bad_rows is not r.bad_rows for r in read[:index]):
                name = "bad_rows.csv" if index == 0 else f"bad_rows_{summary.name}.csv"
                write_bad_rows(self._folder.file(name), bad_rows)
                print(f"  bad rows are listed in {self.folder / name}")
        self._write_json("data.json", [summary.to_dict() for summary in summaries])
        if lengths := getattr(summaries[0], "lengths", None):
            limit = max_length - 1
            if not isinstance(lengths, dict):
                unit = "text" if hasattr(summaries[0], "labels") else "conversation"
                lengths, limit = {unit: lengths}, summaries[0].max_length
            pictures.length_histogram(self._folder.file("lengths.png"), lengths, limit)

    def show_cost(
        self, model: keras.Model, batch_tokens: int, steps: int, batches: Batches = None
    ) -> None:
        """Prints parameters, and what memory and time the training may take; see `estimate`.

        Args:
            batch_tokens: tokens of the largest batch.
            batches: where they are of uneven length, the data set: its tokens are counted.
        """
        tokens = batch_tokens * steps
        if batches is not None:
            tokens = batches.source.tokens() * steps / len(batches)
        cost = estimate(model, batch_tokens, tokens, steps)
        print("\n".join(cost.lines()))
        self._write_json("cost.json", cost.to_dict())

    def fit(
        self,
        model: keras.Model,
        batches: Batches,
        checks,
        epochs: int,
        callbacks: Sequence[keras.callbacks.Callback],
        steps_per_epoch: int | None = None,
    ) -> None:
        """`keras.Model.fit` that loses nothing: see `fitting.fit`. It raises `InputError` too where
        a file is gone, or another, that a batch is read from; the run goes on when it is back."""
        with own_errors(batches, checks):
            fit(self, model, batches, checks, epochs, callbacks, steps_per_epoch or len(batches))

    def refuse(self, found: Sequence[str]) -> None:
        """Minds that the interrupted run of this name was another one: it is replaced if that was
        asked for, and else left alone.

        Args:
            found: what differs; nothing: the run goes on.

        Raises:
            InputError: it is to be left alone.
        """
        if not found:
            return
        if not self.settings.get("overwrite"):
            self._folder.release()
            raise InputError(
                f"{self.folder} holds an interrupted run, and this is another one:\n  "
                + "\n  ".join(found)
                + "\n  To go on with it repeat its command. To begin anew pass --overwrite, or "
                "choose another --name."
            )
        self.checkpoints.clear()

    def done(self, result: dict[str, Any]) -> dict[str, Any]:
        """Ends the run: checkpoints are no longer needed, and others may write to its folder.

        Args:
            result: is returned.
        """
        self.checkpoints.clear()
        self._folder.release()
        return result

    def callbacks(
        self,
        generator: TextGenerator | None,
        texts: Sequence[Prompt] = (),
        references: Sequence[str] = (),
        *,
        patience: int = 5,
        minutes: float = 0,
        previews: int = 3,
    ) -> list[keras.callbacks.Callback]:
        """Progress, previews of the first held-out texts, early stopping on validation loss with
        the best weights kept, a limit on time if `minutes` is not 0, and an error at the end of a
        training that came to nothing."""
        ends = self.ends("val_loss", patience, minutes)
        self.previews = Previews(
            lambda texts: generator.generate(texts, truncate=True),
            texts[:previews],
            references[:previews],
        )
        return [Progress(self.tokens_per_epoch), self.previews, *ends]

    def ends(self, judged: str, patience: int, minutes: float) -> list[keras.callbacks.Callback]:
        """What ends a training: a limit on time if `minutes` is not 0, early stopping with the best
        weights kept, and an error if it came to nothing.

        Args:
            judged: "val_loss", or a score of which more is better.
            patience: epochs without a better one after which training ends.
            minutes: limit of training and validation together.
        """
        if patience < 1 or not minutes >= 0:
            raise InputError(
                f"patience is {patience} and minutes is {minutes}.\n"
                "  Expected at least 1 epoch of patience, and 0 (no limit) or more minutes."
            )
        mode = "min" if judged == "val_loss" else "max"
        stopping = BestWeights(judged, mode, patience, self.grain)
        return [*([TimeLimit(minutes)] if minutes else []), stopping, WorthSaving()]

    def save(
        self,
        path: str | os.PathLike,
        model: keras.Model,
        tokenizer: Tokenizer | None = None,
        **details: Any,
    ) -> None:
        """Write the trained model as a bundle, before anything that could fail.

        A run that goes on and has saved this very model already leaves the bundle as it is, with
        what was exported to it.

        Args:
            path, model, tokenizer, details: of `models.saving.save`.
        """
        if self.goes_on and is_saved(path, model, tokenizer, **details):
            print(f"{path} holds the trained model already.")
            return
        save(path, model, tokenizer, overwrite=self.overwrite, **details)

    def without_adapters(self, model: keras.Model) -> keras.Model:
        """The model itself if it has no adapters; else they are written, and the plain model is
        returned that they amount to."""
        if not has_adapters(model):
            return model
        path = self._folder.file("adapters.safetensors")
        save_adapters(path, model)
        print(f"The adapters alone are in {path} ({path.stat().st_size / 1e6:.2f} MB)")
        return merged(model)

    def finish(
        self,
        model: keras.Model,
        generator: TextGenerator | None,
        texts: Sequence[Prompt],
        references: Sequence[str] = (),
        score: Callable[[Sequence[str], Sequence[str]], dict] | None = None,
        **scores: Any,
    ) -> dict[str, Any]:
        """Writes metrics, samples and pictures, and returns what the run came to.

        Args:
            generator: of the model; None: it writes no text.
            texts: what to write samples for, held out from training.
            references: what should come out, if that is known.
            score: (written texts, references) -> scores.
            scores: further ones, known already.

        Returns: "training" (epochs, best epoch, its validation loss, seconds), "scores", "data"
            (the name of its file), and "example", the setting of that name, if there is one.
        """
        best, training = self._finish_metrics(model, "val_loss")
        texts, references = list(texts[:_SAMPLES]), list(references[:_SAMPLES])
        written = []
        if generator is not None:
            previews = pandas.DataFrame(self.previews.history)
            self._write_table("previews.csv", previews)
            written = generator.generate(texts, truncate=True)
            table = {"source": map(shown, texts), "written": written}
            if references:
                table["reference"] = references
            self._write_table("samples.csv", pandas.DataFrame(table))
        for name in ("perplexity", "bits_per_byte"):
            if f"val_{name}" in best:
                scores[name] = round(float(best[f"val_{name}"]), 4)
        if score is not None:
            scores |= score(written, references)
        self._print_result(training, describe_scores(scores))
        self._write_json("result.json", training | scores)
        return {"training": training, "scores": scores} | self._for_the_bundle()

    def _for_the_bundle(self) -> dict[str, Any]:
        """What a bundle says of its data: the name of the file, and the example that the user gave.
        No path of this machine and no row goes into it."""
        example = self.settings.get("example")
        about = {"data": {"file": Path(self.file).name}}
        return about | ({"example": example} if example else {})

    def _finish_metrics(self, model: keras.Model, judged: str) -> tuple[Any, dict[str, Any]]:
        """Writes metrics and the curve of the loss; returns the row of the best epoch, by the
        metric `judged` as `BestWeights` has it, and what training came to."""
        metrics = pandas.DataFrame(model.history.history)
        metrics.insert(0, "epoch", range(1, len(metrics) + 1))
        self._write_table("metrics.csv", metrics)
        scores = in_grains(metrics[judged] * (-1 if judged != "val_loss" else 1), self.grain)
        best = metrics.iloc[np.lexsort((metrics["val_loss"], scores))[0]]
        number = int(best["epoch"])
        picture = self._folder.file("loss.png")
        pictures.loss_curve(picture, metrics.to_dict("records"), number)
        return best, {
            "epochs": len(metrics),
            "best_epoch": number,
            "val_loss": round(float(best["val_loss"]), 4),
            "seconds": round(time.monotonic() - self.begin, 1),
        }

    def _print_result(self, training: dict[str, Any], scores: str) -> None:
        print(
            f"{training['epochs']} epochs in {duration(training['seconds'])}, the best was epoch "
            f"{training['best_epoch']}. Held out: {scores}. Pictures are in {self.folder}/"
        )

    def draw_attention(self, model: keras.Model, generator: TextGenerator, sentence: str) -> None:
        """Draws which tokens of a sentence each written token looked at; `Seq2SeqLM` only."""
        tokenizer = generator.tokenizer
        limit = model.config.max_sequence_length
        written = generator.generate(sentence, truncate=True)
        source_ids = encode_source(tokenizer, sentence, limit)
        target_ids = encode_source(tokenizer, written, limit)
        pictures.attention_map(
            self._folder.file("attention.png"),
            cross_attention(model, source_ids, target_ids),
            token_bytes(tokenizer, source_ids),
            token_bytes(tokenizer, target_ids),
            title=f"{sentence} → {written}",
        )

    def draw_self_attention(
        self, model: keras.Model, tokenizer: Tokenizer, texts: Sequence
    ) -> None:
        """Draws which tokens each token of a text looks at, the mean over layers and heads, in an
        encoder-only model: of the text whose picture is the easiest to read.

        Args:
            texts: to choose from, each one or the texts of a row.
        """
        read = [text_ids(model, tokenizer, text) for text in texts[:_SAMPLES]]
        chosen = min(range(len(read)), key=lambda i: abs(len(read[i]) - _READABLE))
        tokens = token_bytes(tokenizer, read[chosen])
        weights = self_attention(model, read[chosen]).mean(axis=(0, 1))
        picture = self._folder.file("attention.png")
        pictures.self_attention_map(picture, weights, tokens, title=as_text(texts[chosen]))

    def _write_json(self, name: str, values: Any) -> None:
        text = json.dumps(values, ensure_ascii=False, indent=2, default=str) + "\n"
        files.write(self._folder.file(name), text)

    def _write_table(self, name: str, table: pandas.DataFrame, **options: Any) -> None:
        files.write(self._folder.file(name), table.to_csv(**{"index": False} | options))


def describe_scores(scores: Mapping[str, Any]) -> str:
    """The scores of a run as one line, such as "BLEU 61.2, 94.7 % exactly right"."""
    names = {"bleu": "BLEU {}", "chrf": "chrF {}", "token_f1": "token F1 {:.3f}"}
    names |= {"bits_per_byte": "{:.3f} bits per byte", "perplexity": "perplexity {:.2f}"}
    parts = [text.format(scores[name]) for name, text in names.items() if name in scores]
    if "exact_match" in scores:
        parts.append(f"{100 * scores['exact_match']:.1f} % exactly right")
    return ", ".join(parts)
