"""Prompts with a chosen and a rejected answer, from a table to batches for a `CausalLM`'s `fit`."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np

from tfx_transformer.data.batches import Batches, BatchPlan, FreshPlan, tf_dataset
from tfx_transformer.data.conversations import Messages
from tfx_transformer.data.examples import Examples
from tfx_transformer.data.packing import padded_length
from tfx_transformer.data.sources import Problem, TableData
from tfx_transformer.data.splits import split_by_key
from tfx_transformer.data.tables import BadRow, Check, read_table
from tfx_transformer.errors import InputError
from tfx_transformer.reprs import short_repr
from tfx_transformer.text.prompts import ChatTemplate

# Label of a token that does not count.
IGNORED = -1
# Attribute of `Preferences` with their template and ids.
_ENCODED = "_encoded"


class Answer(NamedTuple):
    """A prompt with an answer: its ids, and the index at which the answer begins."""

    ids: list[int]
    begin: int

    @property
    def count(self) -> int:
        """The number of tokens of the answer, end token included."""
        return len(self.ids) - self.begin


@dataclasses.dataclass(frozen=True, repr=False)
class Preferences(Examples):
    """The prompt of each row, its chosen answer and its rejected one."""

    prompts: list[str]
    chosen: list[str]
    rejected: list[str]
    rows: Sequence[Any]
    path: str = ""
    columns: dict[str, str] = dataclasses.field(default_factory=dict)
    bad_rows: list[BadRow] = dataclasses.field(default_factory=list)
    system: str = ""

    parts: ClassVar[tuple[str, ...]] = ("prompts", "chosen", "rejected")

    def shown(self, index: int) -> str:
        both = f"{short_repr(self.chosen[index])} > {short_repr(self.rejected[index])}"
        return f"{short_repr(self.prompts[index])} → {both}"

    def texts(self) -> list[str]:
        """All texts of all rows."""
        return [*self.prompts, *self.chosen, *self.rejected]

    def messages(self) -> list[Messages]:
        """The messages before each answer."""
        first = [{"role": "system", "content": self.system}] if self.system else []
        return [[*first, {"role": "user", "content": prompt}] for prompt in self.prompts]


def read_preferences(
    path: TableData,
    prompt: str = "prompt",
    chosen: str = "chosen",
    rejected: str = "rejected",
    *,
    system: str = "",
    skip_bad_rows: bool = False,
) -> Preferences:
    """Read a table of prompts with two answers each.

    Args:
        path: a table of any format (see `formats`) or in memory: a pandas DataFrame, a dictionary
            of columns, or a list of dictionaries or of (prompt, chosen, rejected).
        prompt, chosen, rejected: names of the columns.
        system: text of a first message, of role "system", before every prompt.
        skip_bad_rows: leave out rows that cannot be used and list them in `bad_rows`, instead of
            refusing the file.

    Raises:
        InputError: both answers of a row are the same; see also `tables.read_table`.
    """
    columns = {"prompt": prompt, "chosen": chosen, "rejected": rejected}
    table = read_table(path, columns, skip_bad_rows=skip_bad_rows, check=_check_answers(rejected))
    prompts, better, worse = (table.columns[role] for role in columns)
    return Preferences(
        prompts,
        better,
        worse,
        table.rows,
        path=str(table.path),
        columns=columns,
        bad_rows=table.bad_rows,
        system=system,
    )


def _check_answers(column: str) -> Check:
    def check(cells: dict[str, Any]) -> Problem | None:
        if cells["chosen"] != cells["rejected"]:
            return None
        remedy = "Expected two different answers, a better and a worse one."
        return Problem(column, "the chosen and the rejected answer are the same", remedy)

    return check


def split_preferences(
    examples: Preferences, share: float = 0.1, seed: int = 0
) -> tuple[Preferences, Preferences]:
    """Return the training and validation part; rows with the same prompt go to the same side.

    Args:
        examples: the examples to split.
        share: share of the distinct prompts to hold out; see `splits.split_by_key`, also for the
            errors.
        seed: draws them.
    """
    path = examples.path or "preferences"
    inside, outside = split_by_key(examples.prompts, share, seed, path=path, noun="prompt")
    return examples.take(inside), examples.take(outside)


def encode_preferences(
    examples: Preferences, template: ChatTemplate
) -> list[tuple[Answer, Answer]]:
    """Return the ids of each row: the prompt with the chosen answer, and with the rejected one.

    The examples keep them for the next call with the same template.

    Raises:
        InputError: the template fails on a row.
    """
    known = getattr(examples, _ENCODED, None)
    if known is not None and known[0] is template:
        return known[1]
    answers = zip(examples.chosen, examples.rejected, strict=True)
    pairs = [
        (_encode(before, chosen, template), _encode(before, rejected, template))
        for before, (chosen, rejected) in zip(examples.messages(), answers, strict=True)
    ]
    _keep(examples, template, pairs)
    return pairs


def _keep(
    examples: Preferences, template: ChatTemplate, pairs: list[tuple[Answer, Answer]]
) -> None:
    object.__setattr__(examples, _ENCODED, (template, pairs))  # it is frozen


def _encode(before: Messages, text: str, template: ChatTemplate) -> Answer:
    answered = [*before, {"role": "assistant", "content": text}]
    prompt, answer = template.examples(answered)[-1][-1]
    return Answer([*prompt, *answer], len(prompt))


def usable_pairs(pairs: Sequence[tuple[Answer, Answer]], max_length: int) -> np.ndarray:
    """Return the indices of the pairs whose answers both fit into a length, int (usable,)."""
    longest = [max(len(answer.ids) for answer in pair) for pair in pairs]
    return np.flatnonzero(np.array(longest) <= max_length)


def fitting_preferences(
    examples: Preferences, template: ChatTemplate, max_length: int
) -> Preferences:
    """Return the rows whose answers, with the prompt before them, both fit into `max_length`
    tokens. An answer that is cut would have another probability.

    Raises:
        InputError: no row fits.
    """
    pairs = encode_preferences(examples, template)
    usable = usable_pairs(pairs, max_length)
    if not len(usable):
        raise InputError(
            f"{examples.path or 'preferences'}: no row fits into {max_length} tokens.\n"
            "  Choose a larger max_length, or a base that reads longer texts."
        )
    fitting = examples.take(usable)
    _keep(fitting, template, [pairs[index] for index in usable])
    return fitting


def preferences(
    examples: Preferences,
    template: ChatTemplate,
    reference: np.ndarray | None = None,
    *,
    batch_size: int = 8,
    max_length: int = 256,
    shuffle: bool = True,
    seed: int = 0,
    rehearsed: Sequence[Answer] | None = None,
) -> Batches:
    """Return a `tf.data.Dataset` of batches for `CausalLM.fit` with `DPOLoss` or `ORPOLoss`.

    Each batch is (inputs, targets). A pair has two rows in both: row 2i is the chosen answer, row
    2i + 1 the rejected one. Inputs are int32 `token_ids` and `labels` (2 * pairs, length), the ids
    one step ahead, -1 outside of the answer. Targets are float32 (2 * pairs, 2): the
    log-probability of the answer by the reference, and its number of tokens. Every iteration is the
    next epoch.

    Args:
        reference: float (n, 2), log-probabilities of the chosen and the rejected answer of each row
            by the reference; None: 0.
        batch_size: pairs in a batch.
        max_length: most tokens of a prompt with its answer; see `fitting_preferences`.
        shuffle: False keeps the order of the rows.
        rehearsed: answers to repeat, for `RehearsedLoss`: each pair gets two more rows, drawn anew
            in each epoch, so that a batch has 4 * pairs rows. Their reference is 0.

    Raises:
        InputError: a row is too long, or the template fails on one.
    """
    pairs = encode_preferences(examples, template)
    if len(usable_pairs(pairs, max_length)) < len(pairs):
        raise InputError(
            f"{examples.path or 'preferences'}: a row is longer than {max_length} tokens.\n"
            "  Choose a larger max_length, or leave such rows out (fitting_preferences)."
        )
    values = np.zeros((len(pairs), 2)) if reference is None else np.asarray(reference)
    lengths = np.array([[len(answer.ids) for answer in pair] for pair in pairs])
    kind = BatchPlan if rehearsed is None else FreshPlan
    plan = kind(lengths.max(axis=1), batch_size, shuffle=shuffle, seed=seed)
    padding = template.tokenizer.padding_id

    def answers(number: int) -> list[tuple[Answer, float]]:
        """Return the rows of a pair, and the log-probability of each by the reference."""
        index = plan.index(number)
        rows = list(zip(pairs[index], values[index], strict=True))
        if rehearsed is not None:
            drawn = np.random.default_rng([seed, number]).integers(len(rehearsed), size=2)
            rows += [(rehearsed[one], 0.0) for one in drawn]
        return rows

    def batch(numbers):
        rows = [row for number in numbers for row in answers(int(number))]
        length = padded_length(max(len(answer.ids) for answer, _ in rows) - 1, max_length)
        token_ids = np.full((len(rows), length), padding, "int32")
        labels = np.full_like(token_ids, IGNORED)
        targets = np.zeros((len(rows), 2), "float32")
        for row, ((ids, begin), value) in enumerate(rows):
            token_ids[row, : len(ids) - 1] = ids[:-1]
            labels[row, begin - 1 : len(ids) - 1] = ids[begin:]
            targets[row] = value, len(ids) - begin
        return {"token_ids": token_ids, "labels": labels}, targets

    return tf_dataset(plan, batch, per_example=2 if rehearsed is None else 4)


def digest_of(pairs: Sequence[tuple[Answer, Answer]]) -> str:
    """Return the SHA-256 of the ids of pairs, as hexadecimal digits."""
    total = hashlib.sha256()
    for pair in pairs:
        for ids, begin in pair:
            total.update(np.array([len(ids), begin, *ids], "<i8").tobytes())
    return total.hexdigest()
