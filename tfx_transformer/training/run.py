"""One training run: its folder, checkpoints, files, pictures and terminal output, put together."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import pandas

from tfx_transformer import devices
from tfx_transformer.console import COLUMNS, doing, wrapped
from tfx_transformer.data.batches import Batches, own_errors
from tfx_transformer.data.contents import content_of
from tfx_transformer.data.examples import Examples
from tfx_transformer.data.splits import Split
from tfx_transformer.data.taught_text import (
    Unlabelled,
    UnlabelledSummary,
    UnlabelledTexts,
    taught_pairs,
)
from tfx_transformer.data.translation_pair import Pairs
from tfx_transformer.errors import InputError
from tfx_transformer.evaluation.comparison import Comparison, compare_texts
from tfx_transformer.evaluation.conclusion import Conclusion, conclude_texts
from tfx_transformer.evaluation.intervals import Interval
from tfx_transformer.evaluation.rounding import check_four_bits
from tfx_transformer.generation.text import Prompt, TextGenerator
from tfx_transformer.models.lora import has_adapters, merge_adapters, save_adapters
from tfx_transformer.models.memoized import memoize
from tfx_transformer.models.row_losses import row_losses
from tfx_transformer.models.saving import is_saved, save, update_config
from tfx_transformer.prediction.answers import TablePredictor
from tfx_transformer.renamed import old_method
from tfx_transformer.report import REPORT
from tfx_transformer.reprs import quantity
from tfx_transformer.text.tokenizer import Tokenizer
from tfx_transformer.training import hosts
from tfx_transformer.training.callbacks import (
    BestWeights,
    Previews,
    Progress,
    TimeLimit,
    WorthSaving,
)
from tfx_transformer.training.checkpoints import Checkpoints
from tfx_transformer.training.closing import ending
from tfx_transformer.training.drawing import RunPictures
from tfx_transformer.training.estimate import estimate, warn_of_memory
from tfx_transformer.training.facts import (
    advise_base,
    base_of,
    facts_of_data,
    facts_of_settings,
    name_of_source,
    texts_of,
)
from tfx_transformer.training.fit import check_backend, fit
from tfx_transformer.training.folder import (
    ANSWERS,
    CHECKPOINTS,
    ROUNDED,
    RunFolder,
    check_name,
    free_path,
)
from tfx_transformer.training.identity import Identity, differences, model_of, name_of
from tfx_transformer.training.limits import check_ends
from tfx_transformer.training.loggers import logging_to, remove_logs
from tfx_transformer.training.past import Past, split_of
from tfx_transformer.training.record import Record, Summary, best_epoch
from tfx_transformer.training.reporting import RunReport
from tfx_transformer.training.rounding import EPOCHS, RATE, train_rounded
from tfx_transformer.training.teachers import Teacher
from tfx_transformer.training.terminal import result_lines, written_scores_line

# At most so many samples are written and scored at the end; `evaluate` scores a whole test file.
_SAMPLES = 500


class Run:
    """One training run, which goes on if it was interrupted; all its files are in runs/<name>/.

    It puts together the folder and its manifest (`RunFolder`), checkpoints (`Checkpoints`, `fit`),
    tables and figures (`Record`), pictures (`RunPictures`) and the lines of the terminal
    (`terminal`).

    Args:
        name: name of the folder below `root`. The files of an earlier run of that name are removed,
            unless it was interrupted and had other settings; all other files there stay.
        settings: the run's settings, as JSON values. With "overwrite" an interrupted run of other
            settings is replaced too; "save_minutes" are the minutes between checkpoints within an
            epoch.
        root: folder of all runs.
        recipe: the function whose arguments the settings are. Those annotated with `Path` are files
            or folders: an interrupted run does not go on if they have changed. Its defaults are the
            values of settings that an earlier version of it did not have.
        past: the past of the model that the training starts from; None: unknown.

    Raises:
        InputError: the backend of Keras is neither TensorFlow nor JAX; the name cannot be a
            folder's; the folder has an interrupted run of other settings, or a file that no run
            wrote; another process is writing there; or the folder cannot be written.

    Attributes:
        folder: path of its folder.
        goes_on: True if an interrupted run of that name goes on.
        overwrite: True if its bundle may replace an existing one: with "overwrite", or if an
            interrupted run goes on, which may have written it.
        file: path of the training data.
        files: paths of all data that were read.
        contents: digests of the data that were read from memory.
        rows: rows of the training data, for messages; None: they have none.
        tokens_per_epoch: tokens, or images, that one epoch trains on.
        grain: grain of the monitored score; see `BestWeights`.
        facts: facts of the data for the model card; see `facts`.
        conclusion: conclusion on the model from held-out examples, if known already.
        comparison: comparison with its base on the same examples, if any.
        split: the training rows and the held-out ones, for a later training, if known already.
        bundle: path of the trained model, if it is saved already.
        rounded: what the last epochs, with rounded weights, have changed: see `train_rounded`.
        answering: the generator or predictor by which the trained model was scored. The exports are
            compared with it: its functions are compiled, and a generator keeps its answers. None:
            the model is not scored yet, or is a base that answers nothing.
    """

    def __init__(
        self,
        name: str,
        settings: dict[str, Any],
        root: str = "runs",
        recipe: Callable[..., Any] | None = None,
        past: Past | None = None,
    ) -> None:
        check_name(name)
        check_backend()
        self.folder = Path(hosts.folder_of_runs(root), name)
        self.settings = settings
        self.past = past or Past()
        self._folder = RunFolder(self.folder)
        self._folder.hold()
        self.identity = Identity(settings, recipe)
        self._recipe = name_of(recipe)
        self.checkpoints = Checkpoints(self.folder / CHECKPOINTS)
        self._rounded_checkpoints = Checkpoints(self.folder / CHECKPOINTS / ROUNDED)
        for store in (self.checkpoints, self._rounded_checkpoints):
            store.tidy()
        before = self.checkpoints.peek()
        if before is not None:
            self.refuse(self.identity.changes(before))
        self.goes_on = bool(self.checkpoints.steps())
        self.overwrite = bool(settings.get("overwrite") or self.goes_on)
        self._folder.clear()
        if not self.goes_on:
            self._rounded_checkpoints.clear()
            remove_logs(self.folder)
        self._record = Record(self._folder)
        self._pictures = RunPictures(self._folder)
        self._report = RunReport(self._folder, settings, recipe)
        self._record.settings(settings)
        self.begin = time.monotonic()
        self.file = ""
        self.files: list[str] = []
        self.contents: dict[str, str] = {}
        self.rows: Sequence[Any] | None = None
        self.tokens_per_epoch = 0
        self.grain = 0.0
        self.previews: Previews | None = None
        self.waiting: float | None = None
        self.facts: dict[str, Any] = {}
        self._conclusion: Conclusion | None = None
        self.comparison: Comparison | None = None
        self.split: Split | None = None
        self.bundle: Path | None = None
        self.rounded: dict[str, Any] | None = None
        self.answering: TablePredictor | None = None
        self._checks: Batches | None = None
        self._task = ""
        self._written_for: tuple[TextGenerator, list[Prompt], list[str]] | None = None
        self._bytes_per_token: float | None = None
        self._summaries: list[Summary] = []
        # Further entries of the card's section on the data.
        self._card_data: dict[str, str] = {}

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in self.settings.items())
        return f"Run: {self.folder}\n  {settings if len(settings) <= 200 else settings[:199] + '…'}"

    @property
    def conclusion(self) -> Conclusion | None:
        """The conclusion on the model, with the comparison with its base."""
        if self._conclusion is None or self.comparison is None:
            return self._conclusion
        return dataclasses.replace(self._conclusion, comparison=self.comparison)

    @conclusion.setter
    def conclusion(self, value: Conclusion | None) -> None:
        self._conclusion = value

    def show_data(self, summaries: Sequence[Summary], *read: Any, max_length: int = 0) -> None:
        """Print a summary of the data, list the skipped rows, and draw the lengths of the texts.

        Args:
            summaries: summary of the training data, then of others.
            read: the data of each summary: examples or a `TokenFile` of `data`.
            max_length: maximum length of the model, a line in the picture.
        """
        self.file = str(summaries[0].path)
        self.files = [str(summary.path) for summary in summaries]
        self.contents = {
            f"{summary.path} ({summary.name})": content_of(examples)
            for summary, examples in zip(summaries, read, strict=False)
            if not os.path.exists(summary.path)
        }
        self.rows = read[0].rows if read else None
        self.tokens_per_epoch = summaries[0].to_dict()["tokens"]
        for index, summary in enumerate(summaries):
            print("\n".join(summary.lines()))
            bad_rows = read[index].bad_rows if index < len(read) else []
            # Training and validation may be two parts of one file.
            if bad_rows and all(bad_rows is not other.bad_rows for other in read[:index]):
                path = self._record.bad_rows(summary.name if index else "", bad_rows)
                print(f"  bad rows are listed in {path}")
        self._show_past()
        self._bytes_per_token = getattr(read[-1], "bytes_per_token", None) if read else None
        self.split = split_of(read, self.past)
        self.facts = facts_of_data(summaries, texts_of(read[0]) if read else ())
        self._summaries = []
        self.add_data(*summaries)
        self._pictures.lengths(summaries[0], max_length)

    def add_data(self, *summaries: Summary) -> None:
        """Add summaries of data to `data.json`."""
        self._summaries += summaries
        self._record.data(self._summaries)

    def _show_past(self) -> None:
        """Print the findings about the rows of several tables, and list the corrected ones."""
        for note in self.past.notes:
            print("\n".join(wrapped(f"  {note}", COLUMNS, "    ")))
        if self.past.corrections:
            print(f"  they are listed in {self._record.corrections(self.past.corrections)}")

    def learn_from(
        self,
        teacher: Teacher,
        train: Pairs,
        others: UnlabelledTexts | None = None,
        *,
        joined: bool = False,
        beams: int = 1,
    ) -> Pairs:
        """Return training pairs with the translations of a teacher, and forget its model: see
        `data.taught_pairs`.

        `teacher.bin` in the folder keeps the translations for a later run with the same teacher,
        such as an interrupted run that goes on.

        Args:
            teacher: the teacher.
            train: the training pairs.
            others: texts without translations; None: none.
            joined: True to keep the translations of the data too.
            beams: hypotheses of the teacher's beam search.
        """
        sources = [*train.source, *(others.flat_texts() if others else [])]
        answers = teacher.texts(sources, self._folder.file(ANSWERS), beams)
        teacher.close()  # the training needs the memory
        taught = taught_pairs(train, answers, others, joined)
        more = f", {quantity(len(others), 'text')} without a translation" if others else ""
        print(f"teacher     {teacher.source}: {quantity(len(answers), 'translation')}{more}")
        self._record_teacher(teacher, others)
        self.rows = taught.rows
        self.tokens_per_epoch = round(self.tokens_per_epoch * len(taught) / len(train))
        return taught

    def _show_teacher(
        self,
        teacher: Teacher,
        answers: str,
        train: Examples,
        others: Unlabelled | None,
        label: str = "a label",
    ) -> None:
        """Print and record a teacher that has answered training examples, and forget its model. Add
        the rows of its examples without labels to those of the training data.

        Args:
            teacher: the teacher.
            answers: how good its answers to the held-out examples are.
            train: the training examples.
            others: those without labels; None: none.
            label: what these are without.
        """
        teacher.close()  # the training needs the memory
        noun = "image" if teacher.images else "text"
        more = f", {quantity(len(others), noun)} without {label}" if others else ""
        print(f"teacher     {teacher.source}: {answers}{more}")
        self._record_teacher(teacher, others)
        if others:
            self.rows = [*train.rows, *(f"{row} of {others.path}" for row in others.rows)]
            count = len(train) + len(others)
            self.tokens_per_epoch = round(self.tokens_per_epoch * count / len(train))

    def _record_teacher(self, teacher: Teacher, others: Unlabelled | None) -> None:
        """Add a teacher and its examples without labels to the record and the card, and list the
        rows that were skipped."""
        self._card_data["teacher"] = name_of_source(teacher.source)
        if others is None:
            return
        file = Path(others.path).name
        self._card_data["unlabelled"] = f"{file}, {quantity(len(others), others.noun)}"
        summary = UnlabelledSummary("unlabelled", others.path, len(others.bad_rows), len(others))
        self.add_data(summary)
        if others.bad_rows:
            path = self._record.bad_rows("unlabelled", others.bad_rows)
            print(f"  bad rows of {others.path} are listed in {path}")

    def compare(self, path: str | os.PathLike) -> Path:
        """Compare the trained model with its base on the same held-out examples, and return the
        path to write it to: a worse model does not replace its base.

        Args:
            path: path to write it to if it is not worse.
        """
        path, old = Path(path), self.past.path
        is_alike = self.past.is_comparable and self.past.is_of(self._task)
        found = self._compare() if is_alike else None
        if old is None or found is None:
            return path
        is_same = path.exists() and path.samefile(old)
        kept = "replaced" if is_same else "new"
        if found.better == "old":
            kept, path = "old", free_path(path) if is_same else path
        names = {"old_name": old.name, "new_name": path.name, "kept": kept}
        self.comparison = dataclasses.replace(found, **names)
        return path

    def _compare(self) -> Comparison | None:
        """Return the comparison of the texts that both models write for held-out ones; None if
        they cannot be scored."""
        if self._written_for is None:
            return None
        generator, texts, references = self._written_for
        if not references or not all(isinstance(text, str) for text in texts):
            return None
        doing(f"comparing with {self.past.path}")
        old = self.past.open().generate(texts, truncate=True)
        return compare_texts(old, self._write(generator, texts), references)

    def show_cost(
        self,
        model: keras.Model,
        rows: int,
        length: int,
        steps: int,
        batches: Batches | None = None,
    ) -> None:
        """Print the plan of the training: the parameters, the estimated memory and time, see
        `estimate`, and a base that may help, see `advise_base`.

        Args:
            model: a built model.
            rows: texts of a batch.
            length: tokens of the longest text that is possible.
            steps: steps of the whole training.
            batches: the batches, if their lengths differ: their tokens are counted.
        """
        tokens = rows * length * steps
        if batches is not None:
            length = min(length, batches.longest())
            plan = batches.plan
            per_length = rows / plan.batch_size / plan.lengths.shape[1]
            tokens = per_length * batches.tokens() * steps / len(plan)
        parts = self.settings.get("accumulate")
        remat = bool(self.settings.get("remat"))
        cost = estimate(model, rows * length, tokens, steps, parts or 1, length, remat)
        classes = model.config.num_classes or 1
        advice = advise_base(self.settings, self._recipe, self.facts, classes)
        warning = warn_of_memory(cost.memory, in_parts=parts is not None)
        print("\n".join([*cost.lines(), *warning, *advice]))
        self._record.cost(cost)

    def fit(
        self,
        model: keras.Model,
        batches: Batches,
        checks: Batches,
        epochs: int,
        callbacks: Sequence[keras.callbacks.Callback],
        steps_per_epoch: int | None = None,
    ) -> None:
        """Train a model and write checkpoints, from the newest one if there is one: see `fit.fit`.
        With the setting "quantization_aware" the last epochs follow: see `train_rounded`.

        Args:
            model: compiled with `adamw`.
            batches, checks: training and validation batches of `data`.
            epochs: number of epochs.
            callbacks: those of `callbacks` or `ends`, and others.
            steps_per_epoch: None: all batches.

        Raises:
            InputError: see `fit.fit`; the interrupted run had other settings; the weights cannot
                be rounded to 4 bits; or a file that a batch is read from was removed or changed:
                the run goes on when it is back.
            HostLost: another host has ended; the checkpoints stay.
            Followed: this is not host 0, which goes on alone after the training.
        """
        self._checks, self._task = checks, model.task
        with own_errors(batches, checks):
            self._folder.hold()
            steps = steps_per_epoch or len(batches)
            kept = {
                "settings": self.identity.settings,
                "files": self.identity.files(self.files) | self.contents,
                "model": model_of(model, steps, epochs),
            }
            before = self.checkpoints.peek()
            if before:
                self.refuse(self.identity.changes(before, kept["files"], kept["model"]))
            options: dict[str, Any] = {
                "steps": steps,
                "kept": kept,
                "save_minutes": self.settings.get("save_minutes", 5),
                "path": self.file,
                "rows": self.rows,
            }
            form = self.settings.get("quantization_aware")
            try:
                if form == "int4":
                    check_four_bits(model.config)
                with logging_to(
                    self.folder, self.settings.get("log", ""), self.identity.settings
                ) as loggers:
                    self.waiting = fit(
                        model,
                        batches,
                        checks,
                        epochs,
                        [*callbacks, *loggers],
                        checkpoints=self.checkpoints,
                        **options,
                    )
                if form:
                    shown = [one for one in callbacks if isinstance(one, Progress)]
                    limits = [one.rest() for one in callbacks if isinstance(one, TimeLimit)]
                    self.rounded = train_rounded(
                        model,
                        batches,
                        checks,
                        self._rounded_epochs,
                        [*shown, *limits],
                        form=form,
                        rate=RATE * self.settings["learning_rate"],
                        checkpoints=self._rounded_checkpoints,
                        **options,
                    )
            except InputError:  # nothing more is written, so others may use the folder
                self._folder.release()
                raise
        place = devices.in_use().place
        hosts.leave()
        if place.index:
            raise devices.Followed(place)

    @property
    def _rounded_epochs(self) -> int:
        """The number of epochs with rounded weights, which follow the others."""
        if not self.settings.get("quantization_aware"):
            return 0
        return self.settings.get("quantization_epochs") or EPOCHS

    def refuse(self, found: Sequence[str]) -> None:
        """Raise if the interrupted run of this name differs; with "overwrite", remove its
        checkpoints instead.

        Args:
            found: the differences; without any, the run goes on.

        Raises:
            InputError: it differs and may not be replaced.
        """
        if not found:
            return
        if not self.settings.get("overwrite"):
            self._folder.release()
            raise differences(self.folder, found)
        self._clear_checkpoints()

    def _clear_checkpoints(self) -> None:
        self._rounded_checkpoints.clear()
        self.checkpoints.clear()

    def close(self, result: dict[str, Any]) -> dict[str, Any]:
        """End the run: remove its checkpoints, write its report, let others write to its folder,
        and print the conclusion and the next commands.

        Args:
            result: is returned; its "verified" are the verification results of the exports.
        """
        self._clear_checkpoints()
        self._report.write(result.get("verified", {}))
        if self.bundle is not None and self._report.costs:
            update_config(self.bundle, costs=self._report.costs)
        self._folder.release()
        page = self.folder / REPORT
        is_worse = self.comparison is not None and self.comparison.kept == "old"
        kept = self.past.path if is_worse else self.bundle
        print("\n".join(ending(self.conclusion, kept, self.settings, page)), flush=True)
        return result

    done = old_method("Run.done", "close")

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
        """Return callbacks of `fit`: progress, previews of the first held-out texts, and `ends`.

        Args:
            generator: generator of the model; None: it writes no text.
            texts: prompts held out from training.
            references: the expected outputs, if they are known.
            patience: training ends after this many epochs without a lower validation loss.
            minutes: limit of training and validation together; 0: no limit.
            previews: number of texts to preview.
        """
        ends = self.ends("val_loss", patience, minutes)
        if generator is not None:
            self._written_for = generator, list(texts[:_SAMPLES]), list(references[:_SAMPLES])
        self.previews = Previews(
            lambda texts: generator.generate(texts, truncate=True),
            texts[:previews],
            references[:previews],
        )
        return [Progress(self.tokens_per_epoch), self.previews, *ends]

    def ends(self, judged: str, patience: int, minutes: float) -> list[keras.callbacks.Callback]:
        """Return the callbacks that end a training: a time limit if `minutes` is not 0, early
        stopping with the best weights kept, and an error if no epoch is worth saving.

        Args:
            judged: "val_loss", or a score to maximise.
            patience: training ends after this many epochs without a better value.
            minutes: limit of training and validation together; 0: no limit.

        Raises:
            InputError: a limit is out of range.
        """
        check_ends(patience, minutes)
        mode = "min" if judged == "val_loss" else "max"
        stopping = BestWeights(judged, mode, patience, self.grain)
        limits = [TimeLimit(minutes, self._rounded_epochs)] if minutes else []
        return [*limits, stopping, WorthSaving()]

    def save(
        self,
        path: str | os.PathLike,
        model: keras.Model,
        tokenizer: Tokenizer | None = None,
        **details: Any,
    ) -> None:
        """Write the trained model as a bundle, before anything that could fail.

        If a run goes on that has already saved this same model, the bundle and its exports stay as
        they are.

        Args:
            path, model, tokenizer, details: arguments of `models.saving.save`.
        """
        self.bundle = Path(path)
        self._report.record_bundle(Path(path), model)
        if self.goes_on and is_saved(path, model, tokenizer, **details):
            print(f"{path} holds the trained model already.")
            return
        save(path, model, tokenizer, overwrite=self.overwrite, split=self.split, **details)

    def without_adapters(self, model: keras.Model) -> keras.Model:
        """Return the model itself if it has no adapters; else write them, and return a plain model
        with the adapters merged."""
        if not has_adapters(model):
            return model
        path = self._folder.file("adapters.safetensors")
        save_adapters(path, model)
        print(f"The adapters alone are in {path} ({path.stat().st_size / 1e6:.2f} MB)")
        return merge_adapters(model)

    def finish(
        self,
        model: keras.Model,
        generator: TextGenerator | None,
        texts: Sequence[Prompt],
        references: Sequence[str] = (),
        score: Callable[[Sequence[str], Sequence[str]], dict] | None = None,
        **scores: Any,
    ) -> dict[str, Any]:
        """Write metrics, samples and pictures, and return the result of the run.

        Args:
            model: the trained model.
            generator: generator of the model; None: it writes no text.
            texts: prompts of the samples, held out from training.
            references: the expected outputs, if they are known.
            score: (written texts, references) -> scores.
            scores: further scores that are known already.

        Returns: "training" (epochs, best epoch, its validation loss, seconds, share of the steps'
            time in which they waited for data), "scores", "data" (the name of its file), and
            "example", the setting of that name, if there is one.
        """
        best, training = self._write_metrics(model, "val_loss")
        texts, references = list(texts[:_SAMPLES]), list(references[:_SAMPLES])
        written = []
        if generator is not None:
            self._record.previews(self.previews.history)
            written = self._write(generator, texts)
            self._record.samples(texts, written, references)
        for name in ("perplexity", "bits_per_byte"):
            if f"val_{name}" in best:
                scores[name] = round(float(best[f"val_{name}"]), 4)
        if score is not None:
            scores |= score(written, references)
        intervals = {} if score is not None else self._loss_intervals(model)
        self.conclusion = conclude_texts(scores, written, references, intervals)
        print("\n".join(result_lines(training, written_scores_line(scores), self.folder)))
        self._record_result(training | scores)
        self._report.texts(generator, texts, written, references, scores, score, intervals)
        self._report.write()
        return self._result(training, scores)

    def _write(self, generator: TextGenerator, texts: Sequence[Prompt]) -> list[str]:
        """Return what the trained model writes for held-out texts. Each is written once, and kept
        for the comparison with the exports."""
        if not isinstance(self.answering, TextGenerator):
            self.answering = memoize(generator)
        return self.answering.generate(texts, truncate=True)

    def _loss_intervals(self, model: keras.Model) -> dict[str, Interval | None]:
        """Return the intervals of the scores of a held-out text, over its blocks."""
        if self._checks is None:
            return {}
        return row_losses(model, self._checks).intervals(self._bytes_per_token)

    def _record_result(self, figures: dict[str, Any]) -> None:
        """Write result.json: figures, and the conclusion."""
        self._record.result(figures | self._conclusion_entry())

    def _conclusion_entry(self) -> dict[str, Any]:
        return {} if self.conclusion is None else {"conclusion": self.conclusion.to_dict()}

    def _write_metrics(
        self, model: keras.Model, judged: str
    ) -> tuple[pandas.Series, dict[str, Any]]:
        """Write metrics and the curves of the loss.

        Returns: the row of the best epoch by the metric `judged`, and "epochs", "best_epoch",
            "val_loss", "seconds" and, if it is known, "waiting" of the training.
        """
        metrics = self._record.metrics(model.history.history)
        best = best_epoch(metrics, judged, self.grain)
        number = int(best["epoch"])
        self._pictures.loss(metrics, number)
        waiting = {} if self.waiting is None else {"waiting": round(self.waiting, 4)}
        return best, {
            "epochs": len(metrics),
            "best_epoch": number,
            "val_loss": round(float(best["val_loss"]), 4),
            "seconds": round(time.monotonic() - self.begin, 1),
        } | waiting

    def _result(self, training: dict[str, Any], scores: dict[str, Any]) -> dict[str, Any]:
        """Return what the bundle keeps of the run: training, settings, scores, conclusion, the name
        of the data file and its counts, what rounded epochs changed, and the user's example; no
        path of this machine and no row of the data."""
        data = {"file": Path(self.file).name} | self._card_data
        result = {"training": training, "scores": scores, "data": data}
        result |= {"training_data": self.facts, "settings": facts_of_settings(self.settings)}
        result |= self._conclusion_entry() | base_of(self.settings)
        if self.rounded is not None:
            result["quantization_aware"] = self.rounded
        example = self.settings.get("example")
        return result | ({"example": example} if example else {})

    def draw_attention(self, model: keras.Model, generator: TextGenerator, sentence: str) -> None:
        """Draw the attention of each written token to those of a sentence; `Seq2SeqLM` only."""
        self._pictures.attention(model, generator, sentence)

    def draw_self_attention(
        self, model: keras.Model, tokenizer: Tokenizer, texts: Sequence
    ) -> None:
        """Draw the attention between the tokens of a text; encoder-only models.

        Args:
            model: an encoder-only model.
            tokenizer: its tokenizer.
            texts: the texts to choose from, each a text or the texts of a row.
        """
        self._pictures.self_attention(model, tokenizer, texts[:_SAMPLES])
