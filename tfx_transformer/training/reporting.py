"""The files of a run for its report: intervals, explanations, costs of the exports, its command."""

from __future__ import annotations

import datetime
import functools
import inspect
import os
import platform
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfx_transformer import report, resources, wording
from tfx_transformer.evaluation.comparison import (
    compare_labels,
    compare_means,
    compare_scores,
    compare_shares,
)
from tfx_transformer.evaluation.intervals import (
    Interval,
    bleu_interval,
    bootstrap_interval,
    chrf_interval,
    macro_f1_interval,
    mean_interval,
    proportion_interval,
)
from tfx_transformer.evaluation.labels import score_multi_label
from tfx_transformer.evaluation.mistakes import as_text, most_confident_mistakes
from tfx_transformer.evaluation.numbers import (
    finite_scores,
    number_intervals,
    score_numbers,
    worst_mistakes,
)
from tfx_transformer.evaluation.occlusion import occlusion
from tfx_transformer.evaluation.spans import (
    Counts,
    count_spans,
    f1_interval,
    score_spans,
    span_confusion,
    span_mistakes,
)
from tfx_transformer.evaluation.texts import token_f1
from tfx_transformer.reprs import quantity
from tfx_transformer.training.folder import RunFolder
from tfx_transformer.training.trials import (
    Trial,
    compare_vectors,
    compare_written,
    cost_of_files,
)

# Mistakes whose words are explained.
_EXPLAINED = 12


class RunReport:
    """The records of one run that are made at its end, and its report.

    Args:
        folder: folder of the run.
        settings: settings of the run.
        recipe: the function whose arguments they are.

    Attributes:
        costs: "file" and "milliseconds" per example of each exported file.
    """

    def __init__(
        self,
        folder: RunFolder,
        settings: Mapping[str, Any],
        recipe: Callable[..., Any] | None,
    ) -> None:
        self._folder, self._settings = folder, settings
        self._begin = time.monotonic()
        self._run: dict[str, Any] = {
            "name": folder.path.name,
            "began": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "processor": _processor(),
            **_recipe(recipe, folder.path),
        }
        self.costs: list[dict[str, Any]] = []
        self._bundle: Path | None = None
        self._trial: Trial | None = None
        self._explain: Callable[[], list[dict[str, Any]]] | None = None

    def record_bundle(self, path: Path, model: keras.Model) -> None:
        """Record the path of the bundle, and the task and parameters of its model."""
        self._bundle = path
        self._run |= {
            "bundle": str(path),
            "task": model.task,
            "parameters": int(model.count_params()),
        }

    def texts(
        self,
        generator: Any,
        inputs: Sequence[Any],
        written: Sequence[str],
        references: Sequence[str],
        scores: Mapping[str, Any],
        score: Callable[[Sequence[str], Sequence[str]], Mapping[str, Any]] | None,
        known: Mapping[str, Interval | None],
    ) -> None:
        """Write evaluation.json of texts that the model wrote.

        Args:
            generator: generator of the model.
            inputs, written, references: held-out texts, side by side.
            scores: scores of the written texts.
            score: (written, references) -> scores.
            known: intervals of scores that are not of written texts.
        """
        intervals: dict[str, Interval | None] = dict(known)
        if references and "chrf" in scores:
            intervals["chrf"] = chrf_interval(written, references)
        if references and "bleu" in scores:
            tokenize = scores["bleu_tokenize"]
            intervals["bleu"] = bleu_interval(written, references, tokenize)
        if references and "exact_match" in scores:
            hits = round(scores["exact_match"] * len(references))
            intervals["exact_match"] = proportion_interval(hits, len(references))
        if "token_f1" in scores:
            each = [token_f1(a, b) for a, b in zip(written, references, strict=True)]
            intervals["token_f1"] = mean_interval(each)
        self._evaluation(len(references), scores, intervals)
        if generator is not None:
            self._trial = Trial(
                generator,
                list(inputs),
                lambda model, texts: model.generate(list(texts), truncate=True),
                score and (lambda answers: score(answers, references[: len(answers)])),
                compare_written(scores, references),
                written,
            )

    def labels(
        self,
        predictor: Any,
        inputs: Sequence[Any],
        truth: np.ndarray,
        probabilities: np.ndarray,
        scores: Mapping[str, Any],
        score: Callable[..., Mapping[str, Any]],
        baselines: Mapping[str, Mapping[str, Any]],
    ) -> None:
        """Write evaluation.json and explanations.json of a classifier.

        Args:
            predictor: predictor of the model.
            inputs: held-out texts or images.
            truth: ids of their labels, int (n,); for several labels of an input int (n, C).
            probabilities: float (n, C).
            scores: scores of the probabilities.
            score: (probabilities, truth, names) -> scores.
            baselines: scores of the baselines by name.
        """
        names, count = predictor.labels.names, len(probabilities)
        more: dict[str, Any] = {}
        if predictor.labels.multi_label:
            intervals = _several_intervals(probabilities, truth, names)
        else:
            counts = np.zeros((len(names), len(names)), np.int64)
            np.add.at(counts, (truth, probabilities.argmax(axis=1)), 1)
            intervals = {
                "accuracy": proportion_interval(int(counts.trace()), count),
                "macro_f1": macro_f1_interval(counts),
            }
            more["confusion"] = {"labels": names, "counts": counts.tolist()}
            if isinstance(inputs[0], (str, tuple)):
                self._explain = lambda: explain(predictor, inputs, truth, probabilities)
        self._evaluation(count, scores, intervals, baselines, **more)
        self._trial = Trial(
            predictor,
            list(inputs),
            lambda model, items: model.probabilities(list(items)),
            lambda found: score(np.stack(found), truth[: len(found)], names),
            lambda old, new: compare_labels(
                np.stack(old), np.stack(new), truth[: len(old)], predictor.labels.multi_label
            ),
            list(probabilities),
        )

    def spans(
        self,
        tagger: Any,
        texts: Sequence[str],
        truth: Sequence[Sequence[Any]],
        marked: Sequence[Sequence[Any]],
        scores: Mapping[str, Any],
        baselines: Mapping[str, Mapping[str, Any]],
    ) -> None:
        """Write evaluation.json and spans.json of a tagger.

        Args:
            tagger: predictor of the model.
            texts: held-out texts.
            truth, marked: their true spans, and those of the model.
            scores: scores of the model's spans.
            baselines: scores of the baselines by name.
        """
        counts = count_spans(marked, truth)
        names, confusion = span_confusion(marked, truth)
        more = {"confusion": {"labels": names, "counts": confusion.tolist()}}
        right = round(scores["exact_match"] * len(texts))
        intervals = {
            "entity_f1": f1_interval(counts),
            "exact_match": proportion_interval(right, len(texts)),
        }
        self._evaluation(len(texts), scores, intervals, baselines, **more)
        self._folder.write_json("spans.json", span_mistakes(texts, marked, truth, _EXPLAINED))
        self._trial = Trial(
            tagger,
            list(texts),
            lambda model, items: model.tag(list(items)),
            lambda found: score_spans(found, truth[: len(found)]),
            lambda old, new: compare_scores(
                "entity_f1",
                count_spans(old, truth[: len(old)]),
                count_spans(new, truth[: len(new)]),
                Counts.f1,
                len(old),
            ),
            marked,
        )

    def numbers(
        self,
        predictor: Any,
        inputs: Sequence[Any],
        truth: np.ndarray,
        predicted: np.ndarray,
        scores: Mapping[str, Any],
        baselines: Mapping[str, Mapping[str, Any]],
    ) -> None:
        """Write evaluation.json and explanations.json of a regressor.

        Args:
            predictor: predictor of the model.
            inputs: held-out texts.
            truth: float (n,), their numbers.
            predicted: float (n,).
            scores: scores of the predicted numbers.
            baselines: scores of the baselines by name.
        """
        self._evaluation(len(truth), scores, number_intervals(predicted, truth), baselines)
        self._explain = lambda: explain_numbers(predictor, inputs, truth, predicted)
        self._trial = Trial(
            predictor,
            list(inputs),
            lambda model, items: model.predict(list(items)),
            lambda found: finite_scores(score_numbers(found, truth[: len(found)])),
            lambda old, new: compare_means(
                "mae", *(np.abs(np.asarray(found) - truth[: len(found)]) for found in (old, new))
            ),
        )

    def vectors(
        self,
        embedder: Any,
        first: Sequence[str],
        second: Sequence[str],
        ratings: Sequence[float] | None,
        scores: Mapping[str, float],
        score: Callable[[np.ndarray, np.ndarray, Sequence[float] | None], Mapping[str, float]],
        each: np.ndarray,
        baselines: Mapping[str, Mapping[str, float]],
    ) -> None:
        """Write evaluation.json of an embedder.

        Args:
            embedder: predictor of the model.
            first, second: held-out pairs, side by side.
            ratings: scores of the pairs in the data, if any.
            scores: scores of the vectors.
            score: (vectors of first texts, of second texts, ratings) -> scores.
            each: float (pairs,): the cosine of each rated pair, else the rank of its second text
                among all.
            baselines: scores of the baselines by name.
        """
        if ratings:
            measured = np.asarray(ratings, np.float64)
            intervals = {"spearman": _spearman_interval(each, measured)}
        else:
            intervals = {
                "found": proportion_interval(int((each == 1).sum()), len(each)),
                "mean_reciprocal_rank": mean_interval(1 / each),
            }
        self._evaluation(len(first), scores, intervals, baselines)
        self._trial = Trial(
            embedder,
            list(zip(first, second, strict=True)),
            _embed_pairs,
            lambda found: score(
                np.stack([pair[0] for pair in found]),
                np.stack([pair[1] for pair in found]),
                ratings and ratings[: len(found)],
            ),
            functools.partial(compare_vectors, ratings),
        )

    def preferences(
        self,
        generator: Any,
        inputs: Sequence[Any],
        found: np.ndarray,
        scores: Mapping[str, float],
        baselines: Mapping[str, Mapping[str, float]],
    ) -> None:
        """Write evaluation.json of a model that learned preferences.

        Args:
            generator: generator of the model.
            inputs: held-out prompts.
            found: bool (pairs,), True where the chosen answer is the likelier one.
            scores: scores of the model.
            baselines: scores of the base.
        """
        intervals = {"preferred": proportion_interval(int(found.sum()), len(found))}
        self._evaluation(len(found), scores, intervals, baselines)
        self._trial = Trial(
            generator,
            list(inputs),
            lambda model, texts: model.generate(list(texts), truncate=True),
            None,
        )

    def calls(
        self,
        generator: Any,
        inputs: Sequence[Any],
        right: np.ndarray,
        scores: Mapping[str, float],
        score: Callable[[Sequence[str]], Mapping[str, Any]],
        right_of: Callable[[Sequence[str]], np.ndarray],
        baselines: Mapping[str, Mapping[str, float]],
    ) -> None:
        """Write evaluation.json of a model that calls tools.

        Args:
            generator: generator of the model.
            inputs: held-out requests.
            right: bool (n,), True where the call is the expected one.
            scores: scores of the model.
            score: answers to the first requests -> scores.
            right_of: answers to the first requests -> `right`.
            baselines: scores of the baselines by name.
        """
        count = len(right)
        intervals = {
            name: proportion_interval(round(scores[name] * count), count)
            for name in ("exact_calls", "right_tools", "valid_calls")
        }
        self._evaluation(count, scores, intervals, baselines)
        self._trial = Trial(
            generator,
            list(inputs),
            lambda model, texts: model.generate(list(texts), truncate=True),
            score,
            lambda old, new: compare_shares("exact_calls", *map(right_of, (old, new))),
        )

    def write(self, verified: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        """Write run.json, exports.json if the exports are made, report.html and the list of runs.

        A failure here does not end the run, as the model is saved.

        Args:
            verified: result of `export.everything`; None: the exports are not made yet.
        """
        try:
            self._run["seconds"] = round(time.monotonic() - self._begin, 1)
            self._folder.write_json("run.json", self._run)
            if self._explain is not None:
                self._folder.write_json("explanations.json", self._explain())
                self._explain = None
            if verified is not None and self._trial and self._bundle:
                rows = cost_of_files(self._bundle, self._trial, verified)
                names = ("file", "milliseconds", "change")
                self.costs = [{name: row[name] for name in names if name in row} for row in rows]
                self._folder.write_json("exports.json", rows)
            self._folder.file(report.REPORT)
            report.write_report(self._folder.path, wording.language())
            report.write_index(self._folder.path.parent, wording.language())
        except Exception as error:
            place = self._folder.path / report.REPORT
            print(f"{place} could not be written: {type(error).__name__}: {error}")

    def _evaluation(
        self,
        count: int,
        scores: Mapping[str, Any],
        intervals: Mapping[str, Interval | None],
        baselines: Mapping[str, Mapping[str, Any]] | None = None,
        **more: Any,
    ) -> None:
        """Write evaluation.json: each score with its interval, and the scores of the baselines."""
        table = {
            name: {"value": value} | _ends(intervals.get(name))
            for name, value in scores.items()
            if isinstance(value, (int, float)) and name != "count"
        }
        others = {
            name: {measure: found[measure] for measure in found if measure in table}
            for name, found in (baselines or {}).items()
        }
        self._folder.write_json(
            "evaluation.json", {"examples": count, "scores": table, "baselines": others} | more
        )


def explain(
    predictor: Any, inputs: Sequence[Any], truth: np.ndarray, probabilities: np.ndarray
) -> list[dict[str, Any]]:
    """Return the most confident mistakes with the words that mattered in each.

    Args:
        predictor: classifier of texts.
        inputs: texts, or the texts of rows.
        truth: int (n,), ids of their labels.
        probabilities: float (n, C).
    """
    names = predictor.labels.names
    places = [str(place) for place in range(len(inputs))]
    found = most_confident_mistakes(places, probabilities, truth, names, _EXPLAINED)
    explained = []
    for mistake in found:
        item = inputs[int(mistake["input"])]
        pieces = occlusion(predictor.probabilities, item, names.index(mistake["predicted"]))
        texts = [item] if isinstance(item, str) else list(item)
        explained.append(
            mistake
            | {"input": as_text(item), "texts": texts}
            | {"pieces": [piece._asdict() for piece in pieces]}
        )
    return explained


def explain_numbers(
    predictor: Any, inputs: Sequence[Any], truth: np.ndarray, predicted: np.ndarray
) -> list[dict[str, Any]]:
    """Return the largest errors with the words that mattered in each.

    Args:
        predictor: regressor of texts.
        inputs: texts, or the texts of rows.
        truth, predicted: float (n,).

    Returns: for each error the keys of `worst_mistakes`, "texts", "pieces" and "deviation": the
        standard deviation of the true numbers, in which the weights of the pieces are given.
    """
    places = [str(place) for place in range(len(inputs))]
    deviation = float(np.std(truth)) or 1.0
    explained = []
    for mistake in worst_mistakes(places, predicted, truth, _EXPLAINED):
        item = inputs[int(mistake["input"])]
        pieces = occlusion(lambda rows: predictor.predict(rows)[:, None] / deviation, item, 0)
        texts = [item] if isinstance(item, str) else list(item)
        explained.append(
            mistake
            | {"input": as_text(item), "texts": texts, "deviation": deviation}
            | {"pieces": [piece._asdict() for piece in pieces]}
        )
    return explained


def _embed_pairs(embedder: Any, pairs: Sequence[tuple[str, str]]) -> list[tuple]:
    """Return the vectors of the first and of the second text of each pair."""
    first, second = (embedder.embed([pair[side] for pair in pairs]) for side in (0, 1))
    return list(zip(first, second, strict=True))


def _ends(interval: Interval | None) -> dict[str, float]:
    return {} if interval is None else {"low": interval.low, "high": interval.high}


def _several_intervals(
    probabilities: np.ndarray, truth: np.ndarray, names: Sequence[str]
) -> dict[str, Interval | None]:
    def interval(measure: str) -> Interval | None:
        return bootstrap_interval(
            lambda rows: score_multi_label(probabilities[rows], truth[rows], names)[measure],
            len(probabilities),
        )

    return {measure: interval(measure) for measure in ("micro_f1", "macro_f1", "exact_match")}


def _spearman_interval(cosines: np.ndarray, ratings: np.ndarray) -> Interval | None:
    from tfx_transformer.vectors import spearman

    def correlation(rows: np.ndarray) -> float:
        if len(set(ratings[rows])) == 1:
            return float("nan")
        return float(spearman(cosines[rows], ratings[rows]))

    return bootstrap_interval(correlation, len(ratings))


def _processor() -> str:
    """Return the name of this machine's processor, if it is known, and its count of cores."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", errors="replace").splitlines()
        name = next(line.partition(":")[2].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{name}, {quantity(os.cpu_count() or 1, 'core')}"


def _recipe(recipe: Callable[..., Any] | None, folder: Path) -> dict[str, str]:
    """Return the name of a recipe, and the command that replays the run."""
    try:
        file = Path(inspect.getfile(recipe))
    except TypeError:  # None, or typed into a session
        return {}
    own = file.resolve() in [path.resolve() for path in resources.recipes()]
    command = ["tfx-transformer", "run", file.stem] if own else ["python", str(file)]
    return {
        "recipe": file.stem,
        "command": shlex.join([*command, "--config", str(folder / "settings.json")]),
    }
