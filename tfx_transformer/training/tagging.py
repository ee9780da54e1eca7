"""The run of a tagger: F1 of whole spans, baselines, most confident mistakes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from tfx_transformer.console import doing
from tfx_transformer.data.tagged_text import TaggedTexts
from tfx_transformer.data.taught_text import UnlabelledTexts
from tfx_transformer.evaluation.comparison import Comparison, compare_scores
from tfx_transformer.evaluation.conclusion import base_for, conclude_spans
from tfx_transformer.evaluation.span_baselines import Spans, dictionary_spans, linear_spans
from tfx_transformer.evaluation.spans import Counts, count_spans, score_spans, span_mistakes
from tfx_transformer.prediction.tagging import TextTagger
from tfx_transformer.prediction.tags import Entity, Tags
from tfx_transformer.report.measures import TEACHER
from tfx_transformer.text.spans import tag_names
from tfx_transformer.text.words import words
from tfx_transformer.training.callbacks import HeldOutScore, Progress
from tfx_transformer.training.folder import ANSWERS
from tfx_transformer.training.run import Run
from tfx_transformer.training.teachers import Teacher
from tfx_transformer.training.terminal import label_scores_line, result_lines

# Names of the simpler methods in records and in the terminal.
_BASELINES = {
    "dictionary": "dictionary of the training's spans",
    "linear_words": "logistic regression of words",
}
# Scores that the terminal shows.
_SHOWN = ("entity_f1", "precision", "recall")


class TaggerRun(Run):
    """One training run of a tagger; the arguments are those of `Run`.

    Attributes:
        taught: the spans that the teacher marks in the held-out texts; None: no teacher.
    """

    taught: list[list[Entity]] | None = None

    def ask(
        self,
        teacher: Teacher,
        labels: Sequence[str],
        train: TaggedTexts,
        held_out: TaggedTexts,
        others: UnlabelledTexts | None = None,
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Return a teacher's logits of the words of the training texts, those without spans last,
        and of the held-out texts: see `data.taught_tags`.

        `teacher.bin` in the folder keeps them for a later run with the same teacher, such as an
        interrupted run that goes on.

        Args:
            teacher: the teacher.
            labels: labels of the spans.
            train: the training texts.
            held_out: the held-out texts.
            others: texts without spans to train on; None: none.
        """
        texts = [*train.texts, *(others.flat_texts() if others else [])]
        names = tag_names(labels)
        every = [*texts, *held_out.texts]
        found = teacher.words(every, self._folder.file(ANSWERS), names)
        answers, apart = found[: len(texts)], found[len(texts) :]
        tags = Tags(names)
        self.taught = [
            tags.entities(text, words(text), np.nan_to_num(logits))
            for text, logits in zip(held_out.texts, apart, strict=True)
        ]
        f1 = count_spans(self.taught, held_out.spans).f1()
        what = f"entity F1 {100 * f1:.1f} % on the held-out rows"
        self._show_teacher(teacher, what, train, others, "spans")
        return answers, apart

    def watch(
        self,
        tagger: TextTagger,
        held_out: TaggedTexts,
        patience: int = 5,
        minutes: float = 0,
        average: bool = False,
    ) -> list[keras.callbacks.Callback]:
        """Return callbacks of `fit`: progress, early stopping on the entity F1 of held-out texts
        with the best weights kept, a time limit if `minutes` is not 0.

        Args:
            tagger: predictor of the model in training; see `models.predicting`.
            held_out: texts that training does not see.
            patience: training ends after this many epochs without a better F1.
            minutes: limit of training and validation together.
            average: True if the optimizer keeps a moving average of the weights, which is then
                scored and kept.

        Raises:
            InputError: a limit is out of range.
        """
        self.tagger, self.held_out = tagger, held_out
        self.grain = 1 / max(sum(map(len, held_out.spans)), 1)
        ends = self.ends("val_entity_f1", patience, minutes)

        def entity_f1() -> float:
            return count_spans(tagger.tag(held_out.texts), held_out.spans).f1()

        swap = [keras.callbacks.SwapEMAWeights(swap_on_epoch=True)] if average else []
        score = HeldOutScore("entity_f1", entity_f1)
        return [*swap, score, Progress(self.tokens_per_epoch), *ends]

    def _compare(self) -> Comparison:
        """Return the comparison with the base on the held-out texts."""
        texts, truth = self.held_out.texts, self.held_out.spans
        doing(f"comparing with {self.past.path}")
        old, new = (count_spans(one.tag(texts), truth) for one in (self.past.open(), self.tagger))
        return compare_scores("entity_f1", old, new, Counts.f1, len(texts))

    def report(self, model: keras.Model, train: TaggedTexts) -> dict[str, Any]:
        """Write metrics, scores, pictures and mistakes on the held-out texts, and return the result
        of the run.

        Args:
            model: the trained model.
            train: the training texts, for the baselines.

        Returns: "training", "scores", "data" and "example" as `Run.finish` takes them; "columns":
            the column of the texts, if it is not "text".
        """
        _, training = self._write_metrics(model, "val_entity_f1")
        self.answering = self.tagger
        texts, truth = self.held_out.texts, self.held_out.spans
        marked = self.tagger.tag(texts)
        scores = score_spans(marked, truth)
        self._record.mistakes(span_mistakes(texts, marked, truth))
        self._record.classes(scores["per_class"])
        doing("comparing with simpler methods")
        found = self._baselines(train)
        counts = {name: count_spans(spans, truth) for name, spans in found.items()}
        base = "" if self.settings.get("base") else base_for(train.texts)
        self.conclusion = conclude_spans(count_spans(marked, truth), counts, base)
        others = {_BASELINES[name]: _shown(score_spans(s, truth)) for name, s in found.items()}
        line = label_scores_line(_shown(scores))
        if self.taught is not None:
            others[TEACHER] = _shown(score_spans(self.taught, truth))
        shown = {name: label_scores_line(reached) for name, reached in others.items()}
        print("\n".join(result_lines(training, line, self.folder, shown)))
        self._record_result(training | scores | {"baselines": others})
        self._report.spans(self.tagger, texts, truth, marked, scores, others)
        self.draw_self_attention(model, self.tagger.tokenizer, texts)
        self._report.write()
        kept = {name: value for name, value in scores.items() if name != "per_class"}
        column = self.held_out.columns.get("text", "text")
        columns = {"columns": [column]} if column != "text" else {}
        return self._result(training, kept) | columns

    def _baselines(self, train: TaggedTexts) -> dict[str, Spans]:
        """Return the spans that the baselines mark in the held-out texts."""
        read = (train.texts, train.spans, self.held_out.texts)
        return {"dictionary": dictionary_spans(*read), "linear_words": linear_spans(*read)}


def _shown(scores: Mapping[str, Any]) -> dict[str, float]:
    return {name: scores[name] for name in _SHOWN}
