"""Pairs of texts of the same or scored similarity, from a table to batches for `fit`."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar

import numpy as np

from tfx_transformer.data.batches import Batches, pad, tf_dataset
from tfx_transformer.data.contrast_plan import ContrastPlan, FreshContrastPlan
from tfx_transformer.data.examples import Examples
from tfx_transformer.data.hard_negatives import HardNegatives
from tfx_transformer.data.sources import Problem, TableData, as_number
from tfx_transformer.data.splits import check_share
from tfx_transformer.data.tables import BadRow, Check, check_two_columns, read_table
from tfx_transformer.errors import InputError
from tfx_transformer.reprs import short_repr
from tfx_transformer.text.framing import frame
from tfx_transformer.text.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True, repr=False)
class SentencePairs(Examples):
    """Pairs of texts, their similarity, and the row of each in its file or table.

    scores: from 0, nothing in common, to 1, the same meaning; None if all pairs mean the same.
    scale: the lowest and the highest score of the file's own scale, which became 0 and 1.
    """

    first: list[str]
    second: list[str]
    scores: list[float] | None
    rows: list[Any]
    path: str = ""
    columns: dict[str, str] = dataclasses.field(default_factory=dict)
    bad_rows: list[BadRow] = dataclasses.field(default_factory=list)
    scale: tuple[float, float] | None = None

    parts: ClassVar[tuple[str, ...]] = ("first", "second", "scores")
    arrow: ClassVar[str] = " ↔ "

    def shown(self, index: int) -> str:
        score = "" if self.scores is None else f"  {self.scores[index]:.3g}"
        return f"{short_repr(self.first[index])} ↔ {short_repr(self.second[index])}{score}"

    def texts(self) -> list[str]:
        """All first texts, then all second ones, to train a tokenizer on."""
        return self.first + self.second


def read_sentence_pairs(
    path: TableData,
    first: str = "sentence1",
    second: str = "sentence2",
    score: str = "",
    *,
    lowest: float | None = None,
    highest: float | None = None,
    skip_bad_rows: bool = False,
) -> SentencePairs:
    """Read a table of pairs of texts.

    Args:
        path: a table of any format (see `formats`); or a table in memory: a pandas DataFrame, a
            dictionary of columns, or a list of dictionaries or of (first, second) or (first,
            second, score).
        first, second: names of the columns of the two texts.
        score: name of the column of similarity scores; "" if the texts of each pair mean the same.
        lowest, highest: the ends of the scale of the scores, which become 0 and 1, such as 0 and 5.
            None: the lowest and the highest score in the file. Those of a validation file may be
            others: read it with the `scale` of the training file.
        skip_bad_rows: leave out rows that cannot be used and list them in `bad_rows`, instead of
            refusing the file.

    Raises:
        InputError: see `tables.read_table`; a score is not a number or off the scale; all scores
            are the same.
    """
    columns = {"first": first, "second": second} | ({"score": score} if score else {})
    check_two_columns(columns)
    table = read_table(
        path,
        columns,
        skip_bad_rows=skip_bad_rows,
        convert={"score": as_number},
        check=_score_check(score, lowest, highest) if score else None,
    )
    scores, scale = None, None
    if score:
        numbers = list(map(float, table.columns["score"]))
        scale = (
            min(numbers) if lowest is None else float(lowest),
            max(numbers) if highest is None else float(highest),
        )
        scores = _scale_scores(numbers, scale, f"{table.path}: column {score!r}")
    return SentencePairs(
        table.columns["first"],
        table.columns["second"],
        scores,
        table.rows,
        path=str(table.path),
        columns=table.used,
        bad_rows=table.bad_rows,
        scale=scale,
    )


def _score_check(name: str, lowest: float | None, highest: float | None) -> Check:
    """Return a check that rejects a row if its score is not a number on the scale."""
    limits = [f"from {lowest}"] * (lowest is not None) + [f"to {highest}"] * (highest is not None)
    expected = f"Expected a number {' '.join(limits)}".rstrip() + ", with a point before decimals."

    def check(cells: dict[str, str]) -> Problem | None:
        cell = cells["score"]
        try:
            number = float(cell)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            return Problem(name, f"column {name!r} is not a number: {cell!r}", expected)
        if not (lowest is None or lowest <= number) or not (highest is None or number <= highest):
            return Problem(name, f"column {name!r} is {cell}: outside the scale", expected)
        return None

    return check


def _scale_scores(scores: list[float], scale: tuple[float, float], where: str) -> list[float]:
    low, high = scale
    if not low < high:
        raise InputError(
            f"{where}: the scale of the scores is from {low} to {high}.\n"
            "  Expected different scores, or lowest=... below highest=...\n"
            "  If all pairs mean the same, name no column of scores."
        )
    return [(score - low) / (high - low) for score in scores]


def split_sentence_pairs(
    pairs: SentencePairs, share: float = 0.1, seed: int = 0
) -> tuple[SentencePairs, SentencePairs]:
    """Return training and validation pairs, the same for the same pairs, share and seed.

    No text is on both sides: pairs that share a text, directly or through other pairs, go to the
    same side. Such groups are held out in random order as far as they fit the share. So validation
    has at most the pairs asked for, unless no group is that small. A group that holds most pairs
    stays in training, and validation may then have fewer.

    Args:
        share: share of the pairs that goes to validation; at least one group does.

    Raises:
        InputError: all pairs belong to one group, or the share is not from 0 to 1.
    """
    check_share(share)
    groups = _groups(pairs)
    sizes = np.bincount(groups)
    if len(sizes) < 2:
        raise InputError(
            f"{pairs.path or 'pairs'}: cannot be split into training and validation, "
            "all pairs share texts with each other.\n"
            "  Add rows, or give a validation file."
        )
    order = np.random.default_rng(seed).permutation(len(sizes))
    room = min(round(len(pairs) * share), len(pairs) - sizes.min())
    held_out = np.zeros(len(sizes), bool)
    for group in order:
        if sizes[group] <= room:
            held_out[group] = True
            room -= sizes[group]
    if not held_out.any():
        held_out[order[sizes[order].argmin()]] = True
    outside = held_out[groups]
    return pairs.take(np.flatnonzero(~outside)), pairs.take(np.flatnonzero(outside))


def _groups(pairs: SentencePairs) -> np.ndarray:
    """Return int (pairs,): number of each pair's group; pairs that share a text have the same."""
    parents: dict[str, str] = {}

    def root(text: str) -> str:
        while (parent := parents.setdefault(text, text)) != text:
            parents[text] = parents[parent]
            text = parent
        return text

    for first, second in zip(pairs.first, pairs.second, strict=True):
        parents[root(first)] = root(second)
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(root(text), len(numbers)) for text in pairs.first], int)


def sentence_pairs(
    pairs: SentencePairs,
    tokenizer: Tokenizer,
    *,
    batch_size: int = 64,
    max_length: int = 128,
    shuffle: bool = True,
    seed: int = 0,
    prompt: str | tuple[str, str] = "",
    answers: np.ndarray | None = None,
    negatives: HardNegatives | None = None,
) -> Batches:
    """Return a `tf.data.Dataset` of batches for `Embedder.fit` and `evaluate`.

    Each batch is ({`token_ids`, `pair_token_ids`}, scores, sample weights): int32 (batch, length of
    the first texts) and (batch, length of the second texts), float32 (batch,) twice. Scores are
    those of the pairs, 1 if they have none; weights are 1. Texts of similar length are together;
    longer ones are cut to `max_length` ids, start and end included. Every iteration over the data
    set is the next epoch. `prompt` is put before each text, see `TransformerConfig.prompt`; of two,
    the first is put before the first texts.

    `answers`, float (pairs, 2, width), are the vectors that a teacher gives to each pair. They are
    in the place of the scores, for `TaughtCosines`.

    With `negatives` there are also `negative_token_ids`, of a text that does not belong to the
    first text, and `excluded_negatives`, bool (batch, batch), True where the negative of another
    row belongs to it.

    No batch has fewer than 2 pairs. In batches of pairs without scores no text is twice if that can
    be avoided: see `ContrastPlan`.

    Raises:
        InputError: there are fewer than two pairs, batch_size is below 2, or `max_length` leaves no
            room for text.
    """
    if max_length < 3:
        raise InputError(f"max_length is {max_length}.\n  Expected 3 or more.")
    prompts = (prompt, prompt) if isinstance(prompt, str) else prompt
    firsts, seconds = (
        [frame(tokenizer, start + text, max_length) for text in texts]
        for start, texts in zip(prompts, (pairs.first, pairs.second), strict=True)
    )
    lengths = np.array([[len(b), len(a)] for a, b in zip(firsts, seconds, strict=True)])
    compares = not pairs.scores and answers is None
    texts = list(zip(pairs.first, pairs.second, strict=True)) if compares else None
    kind = ContrastPlan if negatives is None else FreshContrastPlan
    plan = kind(lengths, texts, batch_size, shuffle=shuffle, seed=seed)
    scores = pairs.scores or [1] * len(pairs)
    targets = np.asarray(scores if answers is None else answers, "float32")

    def batch(numbers):
        epochs, indices = np.divmod(numbers, len(pairs))
        inputs = {
            "token_ids": pad([firsts[i] for i in indices], tokenizer.padding_id),
            "pair_token_ids": pad([seconds[i] for i in indices], tokenizer.padding_id),
        }
        if negatives is not None:
            found = list(map(negatives.of, epochs.tolist(), indices.tolist()))
            inputs["negative_token_ids"] = pad([seconds[i] for i in found], tokenizer.padding_id)
            inputs["excluded_negatives"] = negatives.excluded(indices.tolist(), found)
        return inputs, targets[indices], np.ones(len(indices), "float32")

    return tf_dataset(plan, batch)
