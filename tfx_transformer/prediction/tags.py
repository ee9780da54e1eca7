"""From tags of tokens to spans: the most probable valid tags, and the probability of each span."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tfx_transformer.prediction.classification import read_labels
from tfx_transformer.reprs import quantity, short_list
from tfx_transformer.text.offsets import Offsets
from tfx_transformer.text.spans import OUTSIDE, best_path
from tfx_transformer.text.words import is_inside_word

_BEGIN, _INSIDE = "B-", "I-"
_NEVER = -np.inf
# Limits of probabilities and sums, so that none vanishes or overflows.
_LEAST, _MOST = 1e-100, 1e100


class Entity(NamedTuple):
    """A span of a text that a tagger has marked.

    start, end: index of its first character (code point), and the one after its last; label: such
    as "PERSON"; text: of the span; probability: that exactly this span has this label.
    """

    start: int
    end: int
    label: str
    text: str
    probability: float


class Tags:
    """The tags of a tagger, and the spans that its logits stand for.

    Args:
        names: of the tags, in the order of the logits: `O`, and `B-X` and `I-X` of each label X.
            Tags of checkpoints may be in any order; a label without `B-`, or without prefixes, has
            one tag, which also begins its spans (IOB1).

    Attributes:
        labels: of spans, sorted by their characters.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)
        self._label_of = [_label(name) for name in names]
        self.labels = sorted({label for label in self._label_of if label})
        begins = {name.removeprefix(_BEGIN) for name in names if name.startswith(_BEGIN)}
        # If a label has no B-, an I- may begin spans, as in the data of CoNLL-2003.
        self._inside_begins = bool(set(self.labels) - begins)
        self._between = self._transitions(within=False)
        self._within = self._transitions(within=True)
        self._may, self._may_within = np.exp(self._between), np.exp(self._within)
        is_inside = np.array([self._continues(i) for i in range(len(names))])
        blocked = is_inside & (not self._inside_begins)
        self._first = np.where(blocked, _NEVER, 0.0)

    def __repr__(self) -> str:
        return f"{quantity(len(self.labels), 'label')}: {short_list(self.labels)}"

    def _continues(self, tag: int) -> bool:
        return bool(self._label_of[tag]) and not self.names[tag].startswith(_BEGIN)

    def _transitions(self, within: bool) -> np.ndarray:
        """Return float (tags, tags): 0 where the tag of a column may follow that of a row, else
        -inf.

        Args:
            within: True for two tokens of one word, which is in one span or in none.
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
        """Return the spans of the most probable valid tags (Viterbi 1967): each span begins with a
        tag that may begin one, and no word is cut.

        Args:
            text: the text that was read.
            offsets: of its tokens; tokens of length 0 are in no span.
            logits: float (tokens, tags).

        Returns: the spans in the order of the text. A probability is the share of all valid tags of
            the text that contain the span (Rabiner 1989, section III).
        """
        places = [i for i, (start, end) in enumerate(offsets) if start < end]
        if not places:
            return []
        kept = [offsets[i] for i in places]
        scores = np.asarray(logits, np.float64)[places]
        scores -= scores.max(axis=1, keepdims=True)
        joined = [_is_one_word(text, a, b) for a, b in zip(kept, kept[1:], strict=False)]
        steps = [self._within if one else self._between for one in joined]
        tags = best_path(scores, self._first, steps)
        found = self._runs(tags)
        if not found:
            return []
        sums = _Sums(
            np.maximum(np.exp(scores), _LEAST),
            np.exp(self._first),
            [self._may_within if one else self._may for one in joined],
        )
        entities = []
        for first, last in found:
            start, end = kept[first][0], max(end for _, end in kept[first : last + 1])
            probability = min(self._probability(first, last, tags, sums), 1.0)
            label = self._label_of[tags[first]]
            entities.append(Entity(start, end, label, text[start:end], probability))
        return entities

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

    def _probability(self, first: int, last: int, tags: Sequence[int], sums: _Sums) -> float:
        """Return the probability of all paths with exactly this span and its tags."""
        label, tag = self._label_of[tags[first]], tags[first]
        total = sums.before[first, tag]
        if first and self._continues(tag):  # after the same label, the span would begin earlier
            others = np.array([name != label for name in self._label_of])
            column = sums.before[first - 1] * sums.steps[first - 1][:, tag]
            total = column[others].sum() * sums.share(first, tag)
        for place in range(first + 1, last + 1):
            total *= sums.share(place, tags[place])
        if last + 1 == len(tags):
            return float(total)
        ends = np.array(
            [not (self._continues(i) and name == label) for i, name in enumerate(self._label_of)]
        )
        row = sums.steps[last][tags[last]] * sums.values[last + 1] * sums.after[last + 1]
        return float(total * row[ends].sum() / sums.scales[last + 1])


class _Sums:
    """Sums over all paths of tags (Rabiner 1989, section V.A), scaled at each token so that they
    neither vanish nor grow.

    Args:
        values: float (tokens, tags), above 0, proportional to the probabilities of each token.
        first: float (tags,), 1 for tags that may begin a path, else 0.
        steps: for each token except the first, float (tags, tags), 1 where the tag of a column may
            follow that of a row, else 0.

    Attributes:
        before: float (tokens, tags), sums of the paths up to a token; each row sums to 1.
        after: float (tokens, tags), sums of the paths after a token, on the same scale.
        scales: float (tokens,), by which the sums at each token were divided.
    """

    def __init__(self, values: np.ndarray, first: np.ndarray, steps: Sequence[np.ndarray]) -> None:
        self.values, self.steps = values, steps
        self.before, self.after = np.empty_like(values), np.ones_like(values)
        self.scales = np.empty(len(values))
        row = values[0] * first
        for place in range(len(values)):
            if place:
                row = (self.before[place - 1] @ steps[place - 1]) * values[place]
            self.scales[place] = max(row.sum(), _LEAST)
            self.before[place] = row / self.scales[place]
        for place in range(len(values) - 2, -1, -1):
            following = steps[place] @ (values[place + 1] * self.after[place + 1])
            self.after[place] = np.minimum(following / self.scales[place + 1], _MOST)

    def share(self, place: int, tag: int) -> float:
        """Return the factor by which a tag of a token continues a path."""
        return self.values[place, tag] / self.scales[place]


def _is_one_word(text: str, before: tuple[int, int], after: tuple[int, int]) -> bool:
    """Return True if two successive tokens belong to one word."""
    return after[0] < before[1] or (after[0] == before[1] and is_inside_word(text, after[0]))


def read_tags(config: dict[str, Any], count: int, path: Any) -> Tags:
    """Return the tags of a bundle.

    Args:
        config: from `bundle.read_config`.
        count: number of the model's tags.
        path: of the bundle, for the message.

    Raises:
        InputError: the configuration does not have one distinct name for each tag.
    """
    return Tags(read_labels(config, count, path))


def _label(tag: str) -> str:
    """Return the label of a tag; "" for `O`."""
    if tag == OUTSIDE:
        return ""
    is_prefixed = tag.startswith((_BEGIN, _INSIDE)) and len(tag) > len(_BEGIN)
    return tag[len(_BEGIN) :] if is_prefixed else tag
