"""The run of a classifier: scores of each class, baselines, pictures, most confident mistakes."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from tfx_transformer.console import COLUMNS, doing, wrapped
from tfx_transformer.data.labelled_image import LabelledImages, decode_images
from tfx_transformer.data.labelled_text import LabelledTexts, text_columns
from tfx_transformer.data.taught_text import Unlabelled
from tfx_transformer.errors import InputError
from tfx_transformer.evaluation.baselines import (
    edge_color_labels,
    majority_id,
    predicted_scores,
    tfidf_labels,
)
from tfx_transformer.evaluation.blending import blend
from tfx_transformer.evaluation.calibration import (
    calibration_scores,
    fit_temperature,
    fit_thresholds,
    reliability,
    scale,
)
from tfx_transformer.evaluation.comparison import Comparison, compare_labels
from tfx_transformer.evaluation.conclusion import Linear, base_for, conclude_labels
from tfx_transformer.evaluation.labels import (
    labelled_right,
    score_labels,
    score_multi_label,
    with_labels,
)
from tfx_transformer.evaluation.mistakes import as_text, most_confident_mistakes
from tfx_transformer.layers.ngrams import MOST_BUCKETS
from tfx_transformer.models.encoders import Classifier, Embedder
from tfx_transformer.models.heads import add_head
from tfx_transformer.models.predicting import predictor
from tfx_transformer.prediction.classification import Labels
from tfx_transformer.prediction.image import ImageClassifier
from tfx_transformer.prediction.text import TextEmbedder
from tfx_transformer.report.measures import TEACHER
from tfx_transformer.training.callbacks import HeldOutScore, Progress
from tfx_transformer.training.folder import ANSWERS
from tfx_transformer.training.heads import HeadOnVectors
from tfx_transformer.training.linear import edge_part, ngram_part
from tfx_transformer.training.run import Run
from tfx_transformer.training.teachers import Teacher
from tfx_transformer.training.terminal import label_scores_line, result_lines

# Width and height of the images that the linear classifier sees.
_PIXELS = 32

# Names of the simpler methods in records and in the terminal.
_BASELINES = {
    "majority": "always the most frequent label",
    "tfidf": "TF-IDF + logistic regression",
    "edges": "logistic regression on edges and colours",
}


class ClassifierRun(Run):
    """One training run of a classifier; the arguments are those of `Run`.

    Attributes:
        calibration: the temperature, and the scores before and after it; None: not calibrated.
        bins: confidence, accuracy and count of each bin, "before" and "after".
        thresholds: see `evaluation.calibration.fit_thresholds`; None: too few examples for them.
        taught: the teacher's probabilities of the held-out examples; None: no teacher.
        linear: the linear classifier inside the model, see `evaluation.conclusion.Linear`.
    """

    calibration: dict[str, Any] | None = None
    bins: dict[str, list[list[float]]] | None = None
    thresholds: dict[str, Any] | None = None
    linear: Linear = ""
    taught: np.ndarray | None = None

    def ask(
        self,
        teacher: Teacher,
        names: Sequence[str],
        train: LabelledTexts | LabelledImages,
        held_out: LabelledTexts | LabelledImages,
        others: Unlabelled | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return a teacher's logits of the training examples, those without labels last, and of the
        held-out examples, float32 (examples, classes) each.

        `teacher.bin` in the folder keeps them for a later run with the same teacher, such as an
        interrupted run that goes on.

        Args:
            teacher: the teacher.
            names: names of the classes.
            train: the training texts or images.
            held_out: the held-out ones.
            others: those without labels to train on; None: none.
        """
        inputs = [*train.inputs, *(others.inputs if others else [])]
        path, several = self._folder.file(ANSWERS), teacher.multi_label
        found = teacher.logits([*inputs, *held_out.inputs], path, names)
        answers, apart = found[: len(inputs)], found[len(inputs) :]
        self.taught = Labels(names, several).probabilities(apart)
        targets: Any = held_out.targets
        truth = targets(names, True) if several else targets(names)
        right = labelled_right(self.taught, truth, several)
        what = f"{100 * right.mean():.1f} % of the held-out {held_out.noun}s right"
        self._show_teacher(teacher, what, train, others)
        return answers, apart

    def watch(
        self,
        predictor,
        held_out: LabelledTexts | LabelledImages,
        patience: int = 5,
        minutes: float = 0,
        average: bool = False,
    ) -> list[keras.callbacks.Callback]:
        """Return callbacks of `fit`: progress, early stopping on the macro-F1 of held-out examples
        with the best weights kept, a time limit if `minutes` is not 0.

        Args:
            predictor: predictor of the model in training; see `models.predicting`.
            held_out: examples that training does not see.
            patience: training ends after this many epochs without a better macro-F1.
            minutes: limit of training and validation together.
            average: True if the optimizer keeps a moving average of the weights, which is then
                scored and kept.

        Raises:
            InputError: a limit is out of range, or the model reads texts and the data are images,
                or the other way round.
        """
        self.grain = 1 / max(len(held_out), 1)
        ends = self.ends("val_macro_f1", patience, minutes)
        if isinstance(predictor, ImageClassifier) != isinstance(held_out, LabelledImages):
            raise InputError(
                "the base reads images and the data are texts, or the other way round.\n"
                "  Choose a base of the same kind."
            )
        self.predictor, self.held_out = predictor, held_out.inputs
        if isinstance(held_out, LabelledTexts):
            self.columns = list(text_columns(held_out.columns.get("text", "")).values())
        names, several = predictor.labels.names, predictor.labels.multi_label
        targets: Any = held_out.targets
        self.truth = targets(names, True) if several else targets(names)
        score = score_multi_label if several else score_labels

        def macro_f1() -> float:
            probabilities = predictor.probabilities(self.held_out)
            if not np.isfinite(probabilities).all():  # diverged, which `WorthSaving` reports
                return 0.0
            return score(probabilities, self.truth, names)["macro_f1"]

        swap = [keras.callbacks.SwapEMAWeights(swap_on_epoch=True)] if average else []
        unit = "images" if isinstance(predictor, ImageClassifier) else "tokens"
        shown = [HeldOutScore("macro_f1", macro_f1), Progress(self.tokens_per_epoch, unit)]
        return [*swap, *shown, *ends]

    def join_linear(
        self,
        model: Classifier,
        train: LabelledTexts | LabelledImages,
        size: int = MOST_BUCKETS,
        patches: int = 0,
    ) -> Classifier:
        """Return a classifier joined with a linear one, of n-grams, or of edges, colours and
        patches, with the weights that fit the held-out examples best; see `training.linear` and
        `evaluation.blending`. The run then calibrates and reports it.

        Args:
            model: the trained model; it stays as it is, and is returned if an example may have
                several labels or training has only one.
            train: the training examples.
            size: at most this many n-grams in the table; for images the parts along a side, see
                `EdgeColorLogits`; 0: no linear classifier, the model is returned.
            patches: filters of patches of images, see `EdgeColorLogits`; 0: none.
        """
        names, several = self.predictor.labels.names, self.predictor.labels.multi_label
        if not size or several or len(set(train.labels)) < 2:
            return model
        doing("fitting a linear classifier")
        balanced = self.settings.get("class_weights") == "balanced"
        is_image = isinstance(self.predictor, ImageClassifier)
        fit: Any = functools.partial(edge_part, patches=patches) if is_image else ngram_part
        part = fit(model, self.predictor, train, self.held_out, size, balanced)
        deep = np.log(np.clip(self.predictor.probabilities(self.held_out), 1e-12, None))
        factors = blend(deep, part.logits, self.truth, even=is_image)
        joined = part.join(*factors)
        self.predictor = predictor(joined, None if is_image else self.predictor.tokenizer, names)
        self.linear = "" if not factors[1] else "together" if factors[0] else "alone"
        text = (
            f"Linear classifier: {part.content}. Its weight in the answers is {factors[1]:.2f}, "
            f"that of the Transformer {factors[0]:.2f}."
        )
        print("\n".join(wrapped(text, COLUMNS, "  ")))
        return joined

    def watch_vectors(
        self,
        embedder: TextEmbedder,
        train: LabelledTexts,
        held_out: LabelledTexts,
        names: Sequence[str],
        patience: int = 5,
        minutes: float = 0,
        average: bool = False,
    ) -> list[keras.callbacks.Callback]:
        """Return the callbacks of `watch` for an embedder that is trained by contrast: the labels
        are those of a linear head on its vectors, see `heads.HeadOnVectors`.

        Args:
            embedder: predictor of the embedder in training.
            train: the training examples.
            held_out, patience, minutes, average: see `watch`.
            names: names of the classes.
        """
        balanced = self.settings.get("class_weights") == "balanced"
        self._head = HeadOnVectors(embedder, train, names, balanced)
        return self.watch(self._head, held_out, patience, minutes, average)

    def add_head(self, embedder: Embedder) -> Classifier:
        """Return the classifier that an embedder becomes with a linear head, fitted to the training
        examples of `watch_vectors`. The run then calibrates and reports it."""
        doing("fitting a linear classifier to the vectors")
        model = add_head(embedder, self._head.fit())
        self.predictor = predictor(model, self._head.tokenizer, self._head.labels.names)
        return model

    def calibrate(self, model: keras.Model) -> None:
        """Set the temperature of a trained classifier to the one that fits the held-out examples
        best; see `evaluation.calibration`. The predicted labels stay the same.

        Args:
            model: the trained model, as it will be saved.
        """
        several = self.predictor.labels.multi_label
        before = self.predictor.probabilities(self.held_out)
        temperature = fit_temperature(before, self.truth, several)
        model.divide_logits(temperature)
        after = scale(before, temperature, several)
        self.calibration = {
            "temperature": temperature,
            "count": len(before),
            "before": calibration_scores(before, self.truth, several),
            "after": calibration_scores(after, self.truth, several),
        }
        self.bins = {
            "before": reliability(before, self.truth, several),
            "after": reliability(after, self.truth, several),
        }
        self.thresholds = fit_thresholds(after, self.truth, self.predictor.labels.names, several)
        was, now = (self.calibration[n]["calibration_error"] for n in ("before", "after"))
        if temperature != 1:
            print(
                f"Calibrated: temperature {temperature:g}, expected calibration error "
                f"{100 * was:.1f} → {100 * now:.1f} %"
            )

    def _compare(self) -> Comparison | None:
        """Return the comparison with the base on the held-out examples whose labels it knows, or
        None without such a base or example."""
        names, several = self.predictor.labels.names, self.predictor.labels.multi_label
        has_new = with_labels(_per_label(self.truth, len(names)), names, self._new_labels())
        known = np.flatnonzero(~has_new.any(axis=1))
        if not self.past.goes_on or not len(known):
            return None
        doing(f"comparing with {self.past.path}")
        before, inputs = self.past.open(), [self.held_out[place] for place in known.tolist()]
        old = with_labels(before.probabilities(inputs), before.labels.names, names)
        new = self.predictor.probabilities(inputs)
        unit = "image" if isinstance(self.predictor, ImageClassifier) else "row"
        return compare_labels(old, new, self.truth[known], several, unit=unit)

    def _new_labels(self) -> list[str]:
        """Return the labels that the base does not know."""
        return [name for name in self.predictor.labels.names if name not in self.past.labels]

    def report(self, model: keras.Model, train: LabelledTexts | LabelledImages) -> dict[str, Any]:
        """Write metrics, scores, pictures and mistakes on the held-out examples, and return the
        result of the run.

        Args:
            model: the trained model.
            train: the training examples, for the baselines; a classifier of several labels at
                once has none.

        Returns: "training", "scores", "data" and "example" as `Run.finish` takes them; for texts
            also "text_columns", their count in a row, and their "columns" if there are several.
        """
        _, training = self._write_metrics(model, "val_macro_f1")
        self.answering = self.predictor
        names, truth = self.predictor.labels.names, self.truth
        probabilities = self.predictor.probabilities(self.held_out)
        score = score_multi_label if self.predictor.labels.multi_label else score_labels
        scores = score(probabilities, truth, names)
        if not self.predictor.labels.multi_label:
            self._pictures.labels(probabilities, truth, names)
            texts = [as_text(item) for item in self.held_out]
            mistakes = most_confident_mistakes(texts, probabilities, truth, names)
            self._record.mistakes(mistakes)
            if isinstance(self.predictor, ImageClassifier):
                self._pictures.mistakes(mistakes)
        self._record.classes(scores["per_class"])
        doing("comparing with simpler methods")
        others = self._conclude(probabilities, train)
        if self.taught is not None:
            found = score(self.taught, truth, names)
            others[TEACHER] = {n: value for n, value in found.items() if n != "per_class"}
        shown = {name: label_scores_line(found) for name, found in others.items()}
        print("\n".join(result_lines(training, label_scores_line(scores), self.folder, shown)))
        bins = {} if self.bins is None else {"reliability": self.bins}
        self._record_result(training | scores | {"baselines": others} | self._calibration() | bins)
        found = (self.held_out, truth, probabilities, scores)
        self._report.labels(self.predictor, *found, score, others)
        kept = {name: value for name, value in scores.items() if name != "per_class"}
        result = self._result(training, kept) | self._calibration()
        if isinstance(self.predictor, ImageClassifier):
            self._report.write()
            return result
        self.draw_self_attention(model, self.predictor.tokenizer, self.held_out)
        self._report.write()
        result["text_columns"] = len(self.columns)
        return result | ({"columns": self.columns} if len(self.columns) > 1 else {})

    def _calibration(self) -> dict[str, Any]:
        found = {"calibration": self.calibration, "thresholds": self.thresholds}
        return {name: value for name, value in found.items() if value is not None}

    def _conclude(
        self, probabilities: np.ndarray, train: LabelledTexts | LabelledImages
    ) -> dict[str, dict[str, Any]]:
        """Set the conclusion, and return the scores of the majority-class baseline and of a linear
        classifier; no scores for several labels at once."""
        is_image = isinstance(self.predictor, ImageClassifier)
        options: dict[str, Any] = {"unit": "image" if is_image else "row", "linear": self.linear}
        if not self.settings.get("base"):
            texts = None if is_image else list(map(as_text, train.inputs))
            options["base"] = base_for(texts)
        if self.predictor.labels.multi_label:
            right = labelled_right(probabilities, self.truth, True)
            self.conclusion = conclude_labels(right, {}, several=True, **options)
            return {}
        names = self.predictor.labels.names
        predicted = self._baselines(train)
        right = {name: ids == self.truth for name, ids in predicted.items()}
        ours = labelled_right(probabilities, self.truth)
        self.conclusion = conclude_labels(ours, right, **options)
        found = {}
        for name, ids in predicted.items():
            label = {"label": names[ids[0]]} if name == "majority" else {}
            found[_BASELINES[name]] = label | predicted_scores(ids, self.truth, len(names))
        return found

    def _baselines(self, train: LabelledTexts | LabelledImages) -> dict[str, np.ndarray]:
        """Return the classes that the baselines predict for the held-out examples, int (n,)."""
        ids = train.targets(self.predictor.labels.names)
        found = {"majority": np.full(len(self.truth), majority_id(ids))}
        if len(np.unique(ids)) < 2:  # rows of one class, to train a model further
            return found
        if isinstance(self.predictor, ImageClassifier):
            before, after = (decode_images(f, _PIXELS) for f in (train.inputs, self.held_out))
            return found | {"edges": edge_color_labels(before, ids, after)}
        before, after = (list(map(as_text, texts)) for texts in (train.inputs, self.held_out))
        return found | {"tfidf": tfidf_labels(before, ids, after)}


def _per_label(truth: np.ndarray, count: int) -> np.ndarray:
    """Return the labels of each example, (n, count) of 0 and 1, from ids or from such a table."""
    return truth if truth.ndim == 2 else np.eye(count)[truth]
