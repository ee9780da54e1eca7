"""The run of a model that calls tools: its exact calls, next to those of simple methods."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from tfx_transformer.console import doing
from tfx_transformer.data.tool_calls import ToolCalls
from tfx_transformer.evaluation.calls import (
    frequent_call,
    nearest_calls,
    right_calls,
    score_calls,
)
from tfx_transformer.evaluation.conclusion import conclude_calls
from tfx_transformer.generation.options import GenerationOptions
from tfx_transformer.generation.text import TextGenerator
from tfx_transformer.training.run import Run
from tfx_transformer.training.terminal import label_scores_line, result_lines

# Names of the simpler methods in records and in the terminal.
_BASELINES = {
    "frequent": "the most frequent call",
    "nearest": "the most similar row (TF-IDF)",
}


class ToolRun(Run):
    """One training run of a model that calls tools; the arguments are those of `Run`."""

    def watch(
        self,
        generator: TextGenerator,
        held_out: ToolCalls,
        *,
        patience: int = 5,
        minutes: float = 0,
    ) -> list[keras.callbacks.Callback]:
        """Return the callbacks of `Run.callbacks` for held-out requests.

        Args:
            generator: generator of the model.
            held_out: examples that training does not see.
            patience, minutes: as for `Run.callbacks`.

        Raises:
            InputError: answers cannot be held to the declarations of the tools.
        """
        generator.form(GenerationOptions())
        self.held_out = held_out
        options = {"patience": patience, "minutes": minutes}
        return self.callbacks(generator, held_out.prompts(), held_out.answers(), **options)

    def report(
        self, model: keras.Model, generator: TextGenerator, train: ToolCalls
    ) -> dict[str, Any]:
        """Write metrics, samples and scores, and return the result of the run, as `Run.finish`
        takes it, with the column of the requests in "columns".

        Args:
            model: the trained model.
            generator: generator of the model.
            train: the training examples, for the baselines.
        """
        _, training = self._write_metrics(model, "val_loss")
        assert self.previews is not None
        held_out, tools = self.held_out, self.held_out.tools
        prompts = held_out.prompts()
        doing("calling tools for the held-out requests")
        written = self._write(generator, prompts)
        self._record.previews(self.previews.history)
        self._record.samples(prompts, written, held_out.answers())
        right = right_calls(written, held_out.calls)
        scores = score_calls(written, held_out.calls, tools)
        baselines = self._conclude(right, train)
        shown = {name: label_scores_line(reached) for name, reached in baselines.items()}
        print("\n".join(result_lines(training, label_scores_line(scores), self.folder, shown)))
        self._record_result(training | scores | {"baselines": baselines})
        self._report.calls(
            generator,
            prompts,
            right,
            scores,
            lambda found: score_calls(found, held_out.calls[: len(found)], tools),
            lambda found: right_calls(found, held_out.calls[: len(found)]),
            baselines,
        )
        self._report.write()
        column = self.held_out.columns.get("utterance", "utterance")
        return self._result(training, scores) | {"columns": [column]}

    def _conclude(self, right: np.ndarray, train: ToolCalls) -> dict[str, dict[str, Any]]:
        """Set the conclusion, and return the scores of simple methods."""
        expected = self.held_out.calls
        texts = self.held_out.utterances
        most = frequent_call(train.calls)
        found = {
            "frequent": [most] * len(expected),
            "nearest": nearest_calls(train.utterances, train.calls, texts),
        }
        written = {name: [call.to_json() for call in calls] for name, calls in found.items()}
        self.conclusion = conclude_calls(
            right, {name: right_calls(answers, expected) for name, answers in written.items()}
        )
        tools = self.held_out.tools
        scores = {name: score_calls(answers, expected, tools) for name, answers in written.items()}
        return {
            _BASELINES[name]: {
                measure: found[measure] for measure in ("exact_calls", "right_tools")
            }
            for name, found in scores.items()
        }
