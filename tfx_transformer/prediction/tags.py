"""Tags of tokens to spans: the most probable tags that make whole spans, and how sure they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tfx_transformer.prediction.classification import read_labels
from tfx_transformer.reprs import quantity, short_list
from tfx_transformer.text.offsets import Offsets
from tfx_transformer.text.spans import OUTSIDE
from tfx_transformer.text.words import is_inside_word

_BEGIN, _INSIDE = "B-", "I-"
_NEVER = -np.inf


class Entity(NamedTuple):
    """A stretch of a text that a tagger has marked.

    start, end: characters (code points) before its first one and up to its last one; label: such as
    "PERSON"; text: the stretch; probability: that just this stretch has just this label.
    """

    start: int
    end: int
    label: str
    text: str
    probability: float


class Tags:
    """The tags of a tagger, and the spans that its logits amount to.

    Args:
        names: of the tags, in the order of the logits: `O`, and `B-X` and `I-X` of each label X.
            Tags of checkpoints may be in any order; where a label has no `B-`, or no prefix, its
            spans begin with the one tag that it has (IOB1).

    Attributes:
        labels: of spans, in the order of their characters.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)
        self._label_of = [_label(name) for name in names]
        self.labels = sorted({label for label in self._label_of if label})
        begins = {name.removeprefix(_BEGIN) for name in names if name.startswith(_BEGIN)}
        # Of some labels without a B-, an I- begins spans, as in the data of CoNLL-2003.
        self._inside_begins = bool(set(self.labels) - begins)
        self._between = self._transitions(within=False)
        self._within = self._transitions(within=True)
        is_inside = np.array([self._continues(i) for i in range(len(names))])
        blocked = is_inside & (not self._inside_begins)
        self._first = np.where(blocked, _NEVER, 0.0)

    def __repr__(self) -> str:
        return f"{quantity(len(self.labels), 'label')}: {short_list(self.labels)}"

    def _continues(self, tag: int) -> bool:
        return bool(self._label_of[tag]) and not self.names[tag].startswith(_BEGIN)

    def _transitions(self, within: bool) -> np.ndarray:
        """float (tags, tags): 0 where the tag of a column may follow that of a row, else -inf.

        Args:
            within: the two tokens are of one word, which is in one span or in none.
        """
        count = len(self.names)
        found = np.full((count, count), _NEVER)
        for before in range(count):
            for after in range(count):
                same = self._label_of[before] == self._label_of[after]
                if self._continues(after):
                    allowed = same or (self._inside_begins and not within)
                else:
                    allowed = not within or (same and not self._label_of[after])
                if allowed:
                    found[before, after] = 0.0
        return found

    def entities(self, text: str, offsets: Offsets, logits: np.ndarray) -> list[Entity]:
        """Return the spans of the most probable tags that make whole spans (Viterbi 1967): each
        begins as tags say that one does, and no word is cut.

        Args:
            text: that was read.
            offsets: of its tokens; those of length 0 are in no span.
            logits: float (tokens, tags).

        Returns: in the order of the text. Probabilities are those of the model's tags under the
            same rules, summed over all other tags of the text (Rabiner 1989, section III).
        """
        places = [i for i, (start, end) in enumerate(offsets) if start < end]
        if not places:
            return []
        kept = [offsets[i] for i in places]
        scores = _log_softmax(np.asarray(logits, np.float64)[places])
        steps = [self._step(text, a, b) for a, b in zip(kept, kept[1:], strict=False)]
        tags = self._best(scores, steps)
        found = self._runs(tags)
        if not found:
            return []
        before, after, whole = self._sums(scores, steps)
        entities = []
        for first, last in found:
            sure = self._span(first, last, tags, scores, steps, before, after) - whole
            start, end = kept[first][0], max(end for _, end in kept[first : last + 1])
            probability = float(min(np.exp(sure), 1.0))
            label = self._label_of[tags[first]]
            entities.append(Entity(start, end, label, text[start:end], probability))
        return entities

    def _step(self, text: str, before: tuple[int, int], after: tuple[int, int]) -> np.ndarray:
        is_one_word = after[0] < before[1] or (
            after[0] == before[1] and is_inside_word(text, after[0])
        )
        return self._within if is_one_word else self._between

    def _best(self, scores: np.ndarray, steps: Sequence[np.ndarray]) -> list[int]:
        """Return the tag of each token on the most probable path."""
        best = scores[0] + self._first
        back = []
        for row, step in zip(scores[1:], steps, strict=True):
            sums = best[:, None] + step
            choice = sums.argmax(axis=0)
            back.append(choice)
            best = sums[choice, np.arange(len(row))] + row
        path = [int(best.argmax())]
        for choice in reversed(back):
            path.append(int(choice[path[-1]]))
        return path[::-1]

    def _runs(self, tags: Sequence[int]) -> list[tuple[int, int]]:
        """Return the first and the last token of each span of a path."""
        found: list[tuple[int, int]] = []
        for place, tag in enumerate(tags):
            label = self._label_of[tag]
            if not label:
                continue
            goes_on = (
                place > 0 and self._continues(tag) and self._label_of[tags[place - 1]] == label
            )
            if goes_on:
                found[-1] = found[-1][0], place
            else:
                found.append((place, place))
        return found

    def _sums(
        self, scores: np.ndarray, steps: Sequence[np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray, float]:
        """Return the log of the sums over all paths up to each token and tag, from behind each, and
        over all whole paths."""
        before, after = np.empty_like(scores), np.zeros_like(scores)
        before[0] = scores[0] + self._first
        for place, step in enumerate(steps, start=1):
            before[place] = _log_sum(before[place - 1][:, None] + step, 0) + scores[place]
        for place in range(len(scores) - 2, -1, -1):
            following = steps[place] + (scores[place + 1] + after[place + 1])[None]
            after[place] = _log_sum(following, 1)
        return before, after, float(_log_sum(before[-1], 0))

    def _span(
        self,
        first: int,
        last: int,
        tags: Sequence[int],
        scores: np.ndarray,
        steps: Sequence[np.ndarray],
        before: np.ndarray,
        after: np.ndarray,
    ) -> float:
        """Return the log of the sum over the paths that have this span, no longer and no shorter,
        with these tags."""
        label = self._label_of[tags[first]]
        total = before[first, tags[first]]
        if first and self._continues(tags[first]):  # another one of the label would reach back
            others = np.array([name != label for name in self._label_of])
            column = (before[first - 1] + steps[first - 1][:, tags[first]])[others]
            total = _log_sum(column, 0) + scores[first, tags[first]]
        total += sum(scores[place, tags[place]] for place in range(first + 1, last + 1))
        if last + 1 == len(scores):
            return float(total)
        ends = np.array(
            [not (self._continues(i) and name == label) for i, name in enumerate(self._label_of)]
        )
        row = steps[last][tags[last]] + scores[last + 1] + after[last + 1]
        return float(total + _log_sum(row[ends], 0))


def read_tags(config: dict[str, Any], count: int, path: Any) -> Tags:
    """Return the tags of a bundle.

    Args:
        config: of `bundle.read_config`.
        count: tags of the model.
        path: of the bundle, for the message.

    Raises:
        InputError: there are no names, or not one for each tag.
    """
    return Tags(read_labels(config, count, path))


def _label(tag: str) -> str:
    """Return the label that a tag is of; "" of `O`."""
    if tag == OUTSIDE:
        return ""
    is_prefixed = tag.startswith((_BEGIN, _INSIDE)) and len(tag) > len(_BEGIN)
    return tag[len(_BEGIN) :] if is_prefixed else tag


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def _log_sum(values: np.ndarray, axis: int) -> np.ndarray:
    """Return log(sum(exp(values))) along an axis; -inf of nothing."""
    highest = np.max(values, axis=axis, keepdims=True, initial=_NEVER)
    safe = np.where(np.isfinite(highest), highest, 0.0)
    with np.errstate(divide="ignore"):
        sums = np.log(np.exp(values - safe).sum(axis=axis, keepdims=True))
    return np.squeeze(sums + safe, axis=axis)
