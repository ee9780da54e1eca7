"""Look-up drafting: a step reads several tokens where a text repeats itself.

Names that a translation copies, quotations, and code that is written again are in the text already.
The last tokens are looked up in it, and those that followed them there are drafted. One step reads
the next token and the draft, and returns the logits after each (Saxena 2023, "Prompt Lookup
Decoding"; Leviathan et al. 2023 for the principle). The tokens are chosen from these logits as from
those of single steps, with the same random numbers; where a chosen token differs from the draft,
the rest of the logits is dropped. So the draft decides how long a text takes, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

# Most tokens that are looked up. A longer match predicts better, so each length has its own share.
_LONGEST = 3
# The latest places of a token that are compared with the end of the text.
_COMPARED = 8
# The share of right predictions from which on a match is drafted. A step that reads 5 tokens takes
# 1.0 to 1.2 times as long as one that reads 1 in models of this width or wider, up to 1.8 times in
# smaller ones, and 1.4 to 1.6 times with weights in 4 bits. If each drafted token is right with
# probability 0.3, the step yields 1.4 tokens; with 0.5 it yields 1.9. These shares, and the two
# numbers below, were chosen on training and validation rows of eight sets of texts: see
# benchmarks/README.md.
WIDE = 384
_WORTH, _WORTH_IF_SLOW = 0.3, 0.5
# The shares of 1, 2 and 3 matching tokens before the first prediction. Below the share that pays,
# nothing is drafted until enough predictions were right; judging a prediction takes no step.
_BEFORE = (0.0, 0.2, 0.4)
# The weight of the latest prediction in a share.
_WEIGHT = 0.07
# Tokens that are looked up together while nothing would be drafted. A token by itself takes several
# times as long, since each step of the model empties the processor's caches.
_LATE = 8


class Hits:
    """The share of right predictions, by the number of tokens that matched: a moving average.

    An engine has one for all texts, since texts of a model are alike.

    Args:
        width: the model's `hidden_dim`.
        four_bits: True if its weights have 4 bits.

    Attributes:
        any_is_worth: True if `is_worth` is True for a length.
        latest: the drafter of the latest text; some of its tokens may not be looked up yet.
    """

    def __init__(self, width: int, four_bits: bool = False) -> None:
        self._shares = list(_BEFORE)
        self._worth = _WORTH if width >= WIDE and not four_bits else _WORTH_IF_SLOW
        self.any_is_worth = max(self._shares) >= self._worth
        self.latest: Drafter | None = None

    def note(self, length: int, is_right: bool) -> None:
        """Note a prediction by a match of `length` tokens."""
        self._shares[length - 1] += _WEIGHT * (is_right - self._shares[length - 1])
        self.any_is_worth = max(self._shares) >= self._worth

    def is_worth(self, length: int) -> bool:
        """Return True if what followed a match of `length` tokens is to be drafted."""
        return self._shares[length - 1] >= self._worth


class Drafter:
    """The steps of one text; see above.

    Args:
        hits: of the engine.
    """

    def __init__(self, hits: Hits) -> None:
        if hits.latest is not None:
            hits.latest._catch_up()
        self._hits, hits.latest = hits, self
        self._late: list[int] = []  # tokens after `_ids` that are not looked up yet
        self._clear(0)

    def _clear(self, position: int) -> None:
        self._first = position  # the position of the first id
        self._ids: list[int] = []
        self._places: dict[int, list[int]] = {}  # token -> the places after it
        self._predicted: tuple[int, int] | None = None  # a place, and the length of its match
        self._ahead: list[tuple[int, np.ndarray]] = []  # drafted ids, and the logits after them

    def read(self, ids: Sequence[int], position: int) -> None:
        """Take the tokens of the text at position, position + 1, …; those taken before, from this
        position on, are forgotten."""
        self._catch_up()
        if position != self._first + len(self._ids):
            kept = self._ids[: max(position - self._first, 0)]
            is_gap = position > self._first + len(kept)
            first = position if is_gap or not kept else self._first
            self._clear(first)
            if not is_gap:
                self._add(kept, is_new=False)
        self._ahead = []
        self._add(ids)

    def note(self, index: int, position: int) -> None:
        """Take the token at a position that was read without `step`; it is looked up later."""
        if self._is_next(position):
            self._late.append(index)
            self._ahead = []
        else:
            self.read([index], position)

    def _is_next(self, position: int) -> bool:
        return position == self._first + len(self._ids) + len(self._late)

    def passes(self, index: int, position: int) -> bool:
        """Return True, and take the token at a position for later, if a step of the model is to
        read it by itself, without `step`: while no match is worth a draft."""
        if self._hits.any_is_worth or self._ahead or not self._is_next(position):
            return False
        self._late.append(index)
        if len(self._late) >= _LATE:
            self._catch_up()
        return True

    def step(
        self, index: int, position: int, run: Callable[[Sequence[int]], np.ndarray], most: int
    ) -> np.ndarray:
        """Return float (1, vocabulary_size), the logits after the token `index` at `position`.

        Args:
            run: runs the model on tokens from `position` on; returns the logits after each, float
                (tokens, vocabulary_size).
            most: most tokens that `run` takes.
        """
        self._catch_up()
        follows = position == self._first + len(self._ids)
        ahead = self._ahead if follows else []
        self.read([index], position)
        if ahead and ahead[0][0] == index:
            self._ahead = ahead[1:]
            return ahead[0][1]
        draft = self._draft(most - 1)
        logits = run([index, *draft])
        self._ahead = [(i, logits[n : n + 1]) for n, i in enumerate(draft, 1)]
        return logits[:1]

    def _catch_up(self) -> None:
        """Look up the tokens that `step` and `note` have put off."""
        if self._late:
            self._add(self._late)
            self._late = []

    def _add(self, ids: Sequence[int], is_new: bool = True) -> None:
        """Take tokens, and predict the next one; judge the predictions of new tokens."""
        for index in ids:
            if is_new and self._predicted is not None:
                place, length = self._predicted
                self._hits.note(length, self._ids[place] == index)
            self._ids.append(index)
            before = self._places.setdefault(index, [])
            self._predicted = self._longest_match(before) if before else None
            before.append(len(self._ids))

    def _longest_match(self, before: Sequence[int]) -> tuple[int, int]:
        """Return the place after the longest match of the text's end, and its length in tokens, at
        most `_LONGEST`; of equally long matches the latest.

        Args:
            before: the places after the earlier occurrences of the last token.
        """
        ids, end = self._ids, len(self._ids)
        best = before[-1], 0
        for place in reversed(before[-_COMPARED:]):
            length, most = 1, min(_LONGEST, place)
            while length < most and ids[place - length - 1] == ids[end - length - 1]:
                length += 1
            if length > best[1]:
                best = place, length
            if length == _LONGEST:
                break
        return best

    def _draft(self, most: int) -> list[int]:
        """Return at most so many tokens that may follow; none if the match is not worth a draft."""
        if self._predicted is None or most < 1:
            return []
        place, length = self._predicted
        return self._ids[place : place + most] if self._hits.is_worth(length) else []
