"""The run of a regressor: its errors on held-out examples, next to those of baselines."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from tfx_transformer.console import doing
from tfx_transformer.data.labelled_text import text_columns
from tfx_transformer.data.scored_text import Scale, ScoredTexts
from tfx_transformer.data.taught_text import UnlabelledTexts
from tfx_transformer.errors import InputError
from tfx_transformer.evaluation.baselines import tfidf_numbers
from tfx_transformer.evaluation.comparison import Comparison, compare_means
from tfx_transformer.evaluation.conclusion import base_for, conclude_numbers
from tfx_transformer.evaluation.mistakes import as_text
from tfx_transformer.evaluation.numbers import finite_scores, score_numbers, worst_mistakes
from tfx_transformer.models.predicting import predictor
from tfx_transformer.models.regressor import Regressor, in_units
from tfx_transformer.report.measures import TEACHER
from tfx_transformer.training.callbacks import HeldOutScore, Progress
from tfx_transformer.training.folder import ANSWERS
from tfx_transformer.training.run import Run
from tfx_transformer.training.teachers import Teacher
from tfx_transformer.training.terminal import number_scores_line, result_lines

# Names of the simpler methods in records and in the terminal.
_BASELINES = {
    "mean": "the mean of the training rows",
    "ridge": "TF-IDF + ridge regression",
}


class RegressorRun(Run):
    """One training run of a regressor; the arguments are those of `Run`.

    Attributes:
        taught: the teacher's numbers for the held-out texts; None: no teacher.
    """

    taught: np.ndarray | None = None

    def ask(
        self,
        teacher: Teacher,
        train: ScoredTexts,
        held_out: ScoredTexts,
        others: UnlabelledTexts | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return a teacher's numbers for the training texts, those without numbers last, and for
        the held-out texts, float32 (texts,) each.

        `teacher.bin` in the folder keeps them for a later run with the same teacher, such as an
        interrupted run that goes on.

        Args:
            teacher: the teacher.
            train: the training texts.
            held_out: the held-out texts.
            others: texts without numbers to train on; None: none.
        """
        texts = [*train.texts, *(others.texts if others else [])]
        found = teacher.numbers([*texts, *held_out.texts], self._folder.file(ANSWERS))
        answers, apart = found[: len(texts)], found[len(texts) :]
        self.taught = apart.astype("float64")
        r2 = score_numbers(self.taught, np.asarray(held_out.numbers, "float64"))["r2"]
        what = f"R² {r2:.3f} on the held-out rows"
        self._show_teacher(teacher, what, train, others, "a number")
        return answers, apart

    def watch(
        self,
        predictor,
        held_out: ScoredTexts,
        scale: Scale,
        patience: int = 5,
        minutes: float = 0,
        average: bool = False,
    ) -> list[keras.callbacks.Callback]:
        """Return callbacks of `fit`: progress, early stopping on R² of held-out examples with the
        best weights kept, a time limit if `minutes` is not 0.

        Args:
            predictor: predictor of the model in training; see `models.predicting`.
            held_out: examples that training does not see.
            scale: mean and deviation that standardize the numbers.
            patience: training ends after this many epochs without a better R².
            minutes: limit of training and validation together.
            average: True if the optimizer keeps a moving average of the weights, which is then
                scored and kept.

        Raises:
            InputError: a limit is out of range, or all held-out numbers are the same.
        """
        ends = self.ends("val_r2", patience, minutes)
        if len(set(held_out.numbers)) < 2:
            raise InputError(
                f"{held_out.path}: all held-out numbers are the same.\n"
                "  Expected different numbers, as R² is their explained variance. Hold out more "
                "rows."
            )
        self.predictor, self.held_out, self.scale = predictor, held_out, scale
        self.truth = np.asarray(held_out.numbers, "float64")
        self.columns = list(text_columns(held_out.columns.get("text", "")).values())

        def r2() -> float:
            standardized = predictor.predict(held_out.inputs)
            if not np.isfinite(standardized).all():  # diverged, which `WorthSaving` reports
                return float("nan")
            return score_numbers(standardized, scale.standardize(held_out.numbers))["r2"]

        swap = [keras.callbacks.SwapEMAWeights(swap_on_epoch=True)] if average else []
        return [*swap, HeldOutScore("r2", r2), Progress(self.tokens_per_epoch), *ends]

    def in_units(self, model: Regressor) -> Regressor:
        """Return a float32 model that predicts in the units of the data.

        Args:
            model: the trained model, without adapters.
        """
        tokenizer = self.predictor.tokenizer
        made = in_units(model, *self.scale)
        self.predictor = predictor(made, tokenizer)
        return made

    def _compare(self) -> Comparison:
        """Return the comparison with the base on the held-out examples."""
        doing(f"comparing with {self.past.path}")
        old, new = (
            np.abs(one.predict(self.held_out.inputs) - self.truth)
            for one in (self.past.open(), self.predictor)
        )
        return compare_means("mae", old, new)

    def report(
        self, model: keras.Model, trained: keras.Model, train: ScoredTexts
    ) -> dict[str, Any]:
        """Write metrics, scores and mistakes on the held-out examples, and return the result of the
        run.

        Args:
            model: the model of `in_units`.
            trained: the fitted model, whose history is written.
            train: the training examples, for the baselines.

        Returns: "training", "scores", "data" and "example" as `Run.finish` takes them; "target":
            column, mean and deviation of the training numbers; "text_columns": count of texts in a
            row, and their "columns" if there are several.
        """
        _, training = self._write_metrics(trained, "val_r2")
        self.answering = self.predictor
        inputs = self.held_out.inputs
        predicted = self.predictor.predict(inputs).astype("float64")
        found = score_numbers(predicted, self.truth)
        scores = finite_scores(found)
        texts = list(map(as_text, inputs))
        mistakes = worst_mistakes(texts, predicted, self.truth)
        self._record.predictions(self.truth, predicted, mistakes)
        doing("comparing with simpler methods")
        others = self._conclude(predicted, texts, train)
        if self.taught is not None:
            others[TEACHER] = finite_scores(score_numbers(self.taught, self.truth))
        shown = {name: number_scores_line(reached) for name, reached in others.items()}
        print("\n".join(result_lines(training, number_scores_line(scores), self.folder, shown)))
        self._record_result(training | scores | {"baselines": others})
        self._report.numbers(self.predictor, inputs, self.truth, predicted, scores, others)
        self.draw_self_attention(model, self.predictor.tokenizer, inputs)
        self._report.write()
        result = self._result(training, {n: v for n, v in scores.items() if v is not None})
        result["target"] = {"column": train.columns.get("target", ""), **self.scale._asdict()}
        result["text_columns"] = len(self.columns)
        return result | ({"columns": self.columns} if len(self.columns) > 1 else {})

    def _conclude(
        self, predicted: np.ndarray, texts: list[str], train: ScoredTexts
    ) -> dict[str, dict[str, Any]]:
        """Set the conclusion, and return the scores of the mean and of a linear model."""
        before = list(map(as_text, train.inputs))
        baselines = {
            "mean": np.full(len(self.truth), self.scale.mean),
            "ridge": tfidf_numbers(before, train.numbers, texts),
        }
        base = "" if self.settings.get("base") else base_for(before)
        self.conclusion = conclude_numbers(predicted, self.truth, baselines, base)
        return {
            _BASELINES[name]: finite_scores(score_numbers(values, self.truth))
            for name, values in baselines.items()
        }
