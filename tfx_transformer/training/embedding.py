"""The run of an embedder, scored by the cosines of held-out pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from tfx_transformer.config import TransformerConfig
from tfx_transformer.console import doing
from tfx_transformer.data.hard_negatives import HardNegatives
from tfx_transformer.data.sentence_pair import SentencePairs
from tfx_transformer.data.taught_text import UnlabelledTexts
from tfx_transformer.errors import InputError
from tfx_transformer.evaluation.conclusion import base_for, conclude_pairs
from tfx_transformer.models.encoders import Embedder
from tfx_transformer.report.measures import TEACHER
from tfx_transformer.reprs import quantity
from tfx_transformer.training import hosts
from tfx_transformer.training.callbacks import HeldOutScore, Progress, ResumableCallback
from tfx_transformer.training.folder import ANSWERS
from tfx_transformer.training.run import Run
from tfx_transformer.training.teachers import Teacher
from tfx_transformer.training.terminal import result_lines, vector_scores_line
from tfx_transformer.vectors import DocumentVectors, spearman

# Held-out pairs below which no share is chosen.
_FEWEST_TO_CHOOSE = 30


class MineNegatives(ResumableCallback):
    """Mines hard negatives after each epoch, or after as many epochs as have 16 steps.

    Args:
        embedder: predictor of the model in training.
        negatives: of the training pairs; they go into checkpoints.
        steps: steps of an epoch.
    """

    def __init__(self, embedder, negatives: HardNegatives, steps: int) -> None:
        super().__init__()
        self.embedder, self.negatives, self.steps = embedder, negatives, steps

    def state(self) -> dict[str, Any]:
        return self.negatives.state()

    def restore(self, state: dict[str, Any]) -> None:
        self.negatives.restore(state)

    def on_epoch_end(self, epoch, logs=None):
        begin = self.negatives.begin_of(epoch, self.steps)
        if begin is not None:
            doing("mining hard negatives")
            texts = (self.negatives.first, self.negatives.second)
            self.negatives.mine(begin, *embed_pairs(self.embedder, *texts))


def embed_pairs(
    embedder, first: Sequence[str], second: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the vectors of both sides of pairs, each with its prompt, float32 (pairs, width).

    Args:
        embedder: a `TextEmbedder`.
    """
    query, document = map(embedder.config.prompt_name, ("query", "document"))
    return embedder.embed(first, query), embedder.embed(second, document)


class EmbedderRun(Run):
    """One training run of an embedder; the arguments are those of `Run`.

    Attributes:
        taught: the teacher's vectors of the held-out pairs, float32 (pairs, 2, width); None: no
            teacher.
    """

    taught: np.ndarray | None = None

    def ask(
        self,
        teacher: Teacher,
        train: SentencePairs,
        held_out: SentencePairs,
        others: UnlabelledTexts | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return a teacher's vectors of the texts of the training pairs and of the held-out pairs,
        float32 (pairs, 2, width) each.

        `teacher.bin` in the folder keeps them for a later run with the same teacher, such as an
        interrupted run that goes on.

        Args:
            teacher: the teacher.
            train: the training pairs, with those of `others`; messages name their rows.
            held_out: the held-out pairs.
            others: single texts that were read, whose skipped rows are listed; None: none.
        """
        path = self._folder.file(ANSWERS)
        taught, apart = (
            np.stack(
                [
                    teacher.vectors(part.first, path, "query"),
                    teacher.vectors(part.second, path, "document"),
                ],
                axis=1,
            )
            for part in (train, held_out)
        )
        teacher.close()  # the training needs the memory
        before = len(self.rows or train.rows)
        self.tokens_per_epoch = round(self.tokens_per_epoch * len(train) / before)
        self.rows = train.rows
        more = f", {quantity(len(others), 'single text')} among them" if others else ""
        count = quantity(len(train) + len(held_out), "pair")
        print(f"teacher     {teacher.source}: vectors of {count}{more}")
        self._record_teacher(teacher, others)
        self.taught = apart
        return taught, apart

    def watch(
        self,
        embedder,
        held_out: SentencePairs,
        patience: int = 5,
        minutes: float = 0,
        negatives: HardNegatives | None = None,
        steps: int = 1,
    ) -> list[keras.callbacks.Callback]:
        """Return callbacks of `fit`: progress, early stopping on held-out pairs with the best
        weights kept, a time limit if `minutes` is not 0.

        Pairs with scores are measured by Spearman's correlation of the cosines with the scores,
        other pairs by how often a first text's own second text is the nearest of all second texts.

        Args:
            embedder: predictor of the model in training; see `models.predicting`.
            held_out: pairs that training does not see.
            patience: training ends after this many epochs without a better score.
            minutes: limit of training and validation together.
            negatives: of the training pairs, mined while the model trains; None: none.
            steps: steps of an epoch.

        Raises:
            InputError: a limit is out of range, or all held-out pairs have the same score.
        """
        measure = "spearman" if held_out.scores else "found"
        ends = self.ends(f"val_{measure}", patience, minutes)
        if held_out.scores and len(set(held_out.scores)) == 1:
            raise InputError(
                f"{held_out.path}: all held-out pairs have the same score.\n"
                "  Expected different scores, as their order is measured. Hold out more pairs."
            )
        self.embedder, self.held_out, self.measure = embedder, held_out, measure
        score = HeldOutScore(measure, lambda: self.scores()[measure])
        mining = [] if negatives is None else [MineNegatives(embedder, negatives, steps)]
        return [score, Progress(self.tokens_per_epoch), *ends, *mining]

    def choose_share(self, model: Embedder) -> None:
        """Set the share of the encoder in the cosine, beside the bag of tokens, to the one with the
        best score on the held-out pairs, in steps of a tenth; the smallest of equally good ones. It
        stays as it is if fewer than 30 pairs are held out, or if the model has no bag.

        Args:
            model: the trained model.
        """
        if model.bag is None or len(self.held_out) < _FEWEST_TO_CHOOSE:
            return
        parts = []
        for share in (0, 1):  # of the bag alone, of the encoder alone
            model.set_share(share)
            parts.append(self._vectors())
        found = {}
        for share in np.arange(11) / 10:
            first, second = (
                np.sqrt(1 - share) * bag + np.sqrt(share) * deep
                for bag, deep in zip(*parts, strict=True)
            )
            found[share] = _scores(first, second, self.held_out.scores)[self.measure]
        best = float(max(found, key=lambda share: np.nan_to_num(found[share], nan=-1)))
        model.set_share(best)
        print(f"Shares of the cosine: {best:.1f} Transformer, {1 - best:.1f} bag of tokens")

    def scores(self) -> dict[str, float]:
        """Return "spearman" of the held-out pairs if they have scores; else "found", the share of
        first texts whose own second text is the nearest, and "mean_reciprocal_rank"."""
        return _scores(*self._vectors(), self.held_out.scores)

    def report(self, model: keras.Model, train: SentencePairs | None = None) -> dict[str, Any]:
        """Write metrics and scores, and return the result of the run, as `Run.finish` takes it.

        Args:
            model: the trained model.
            train: the training pairs, for the TF-IDF baseline; None: without that baseline.
        """
        _, training = self._write_metrics(model, f"val_{self.measure}")
        self.answering = self.embedder
        vectors = self._vectors()
        found = _scores(*vectors, self.held_out.scores)
        scores = {name: round(value, 4) for name, value in found.items()}
        self._conclude(train, *vectors)
        others = {} if self.taught is None else {TEACHER: self._scores_of_teacher(self.taught)}
        shown = {name: vector_scores_line(found) for name, found in others.items()}
        print("\n".join(result_lines(training, vector_scores_line(scores), self.folder, shown)))
        self._record_result(training | scores | ({"baselines": others} if others else {}))
        self.draw_self_attention(model, self.embedder.tokenizer, self.held_out.first)
        self._write_report(scores, *vectors)
        return self._result(training, scores)

    def _scores_of_teacher(self, vectors: np.ndarray) -> dict[str, float]:
        """Return the scores of the teacher's vectors, float (pairs, 2, width)."""
        unit = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
        found = _scores(unit[:, 0], unit[:, 1], self.held_out.scores)
        return {name: round(value, 4) for name, value in found.items()}

    def _vectors(self) -> tuple[np.ndarray, np.ndarray]:
        return embed_pairs(self.embedder, self.held_out.first, self.held_out.second)

    def _conclude(self, train: SentencePairs | None, first: np.ndarray, second: np.ndarray) -> None:
        """Set the conclusion."""
        scores = self.held_out.scores
        ours = (first * second).sum(axis=1) if scores else _ranks(first @ second.T) == 1
        base = "" if self.settings.get("base") else base_for(self.held_out.first)
        self.conclusion = conclude_pairs(ours, self._tfidf(train), scores, spearman, base)

    def _tfidf(self, train: SentencePairs | None) -> np.ndarray | None:
        """Return the TF-IDF baseline of the held-out pairs, (n,): cosines of pairs with scores,
        else True where the own second text is the nearest, and has a word of the first one; None
        if no training text has a word."""
        try:
            vectors = None if train is None else DocumentVectors.fit(train.texts(), "tf_idf")
        except InputError:
            vectors = None
        if vectors is None:
            return None
        if self.held_out.scores:
            return vectors.cosines(self.held_out.first, self.held_out.second)
        cosines = vectors.all_cosines(self.held_out.first, self.held_out.second)
        return (_ranks(cosines) == 1) & (np.diagonal(cosines) > 0)

    def _write_report(
        self, scores: dict[str, float], first: np.ndarray, second: np.ndarray
    ) -> None:
        """Write the pairs with their cosines or ranks, and the report."""
        pairs = {"first": self.held_out.first, "second": self.held_out.second}
        if self.held_out.scores:
            each = (first * second).sum(axis=1)
            pairs |= {"score": self.held_out.scores, "cosine": each.round(4)}
        else:
            each = _ranks(first @ second.T)
            nearest = (first @ second.T).argmax(axis=1)
            pairs |= {"nearest": [self.held_out.second[i] for i in nearest], "rank": each}
        self._record.pairs(pairs)
        baselines = {}
        if self.conclusion is not None and self.conclusion.baseline_score is not None:
            reached = {self.conclusion.measure: self.conclusion.baseline_score}
            baselines["TF-IDF cosines"] = reached
        if self.taught is not None:
            baselines[TEACHER] = self._scores_of_teacher(self.taught)
        read = (self.held_out.first, self.held_out.second, self.held_out.scores)
        self._report.vectors(self.embedder, *read, scores, _scores, each, baselines)
        self._report.write()


def hard_negatives(
    train: SentencePairs, wanted: bool, margin: float, seed: int
) -> HardNegatives | None:
    """Return the hard negatives of training pairs; None if they are not wanted.

    Raises:
        InputError: the pairs have scores, several hosts train, or the margin is out of range.
    """
    if not wanted:
        return None
    if train.scores:
        raise InputError(
            "pairs with scores have no negatives.\n  Drop --hard-negatives, or --score."
        )
    if hosts.count() > 1:
        raise InputError("hard negatives are mined on one host.\n  Drop --hard-negatives.")
    return HardNegatives(train.first, train.second, margin, seed)


def search_prompts(
    config: TransformerConfig, query: str | None, document: str | None
) -> dict[str, str]:
    """Return the prompts of an embedder by name.

    Args:
        config: of its base, whose prompts stay.
        query, document: texts of the prompts with these names; None: that of the base, or an
            empty text if it has none.
    """
    if query is None and document is None:
        return config.prompts
    before = {
        "query": config.prompt(config.prompt_name("query")),
        "document": config.prompt(config.prompt_name("document")),
    }
    given = {"query": query, "document": document}
    return config.prompts | {n: before[n] if text is None else text for n, text in given.items()}


def pair_prompts(config: TransformerConfig) -> tuple[str, str]:
    """Return the texts that an embedder puts before the first and before the second texts of
    pairs."""
    query, document = config.prompt_name("query"), config.prompt_name("document")
    return config.prompt(query), config.prompt(document)


def read_widths(text: str) -> tuple[int, ...]:
    """Return widths from a text such as "64,128", ascending.

    Raises:
        InputError: a part is not a whole number.
    """
    parts = [part.strip() for part in text.split(",")] if text.strip() else []
    if not all(part.isdecimal() and len(part) < 7 for part in parts):
        raise InputError(f"widths is {text!r}.\n  Expected whole numbers, such as 64,128.")
    return tuple(sorted({int(part) for part in parts}))


def _scores(first: np.ndarray, second: np.ndarray, ratings: Any) -> dict[str, float]:
    """Return the scores of vectors of pairs; see `EmbedderRun.scores`."""
    if ratings:
        return {"spearman": float(spearman((first * second).sum(axis=1), ratings))}
    ranks = _ranks(first @ second.T)
    found = {"found": ranks == 1, "mean_reciprocal_rank": 1 / ranks}
    return {name: float(np.mean(values)) for name, values in found.items()}


def _ranks(cosines: np.ndarray) -> np.ndarray:
    """Return the rank of each first text's own second text, counted from 1: int (n,).

    Args:
        cosines: (n, n), of each first text with each second one.
    """
    own = np.diagonal(cosines)[:, None]
    # A second text equal to the own one is not nearer. NaN (training diverged) is always nearer.
    return 1 + (~(cosines <= own + 1e-6)).sum(axis=1)
