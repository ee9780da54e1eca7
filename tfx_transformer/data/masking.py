"""From token files to batches for masked-language-model pre-training, with new masks every epoch.

Devlin et al. (2019), section 3.1: of the chosen tokens, which the model predicts, 80 % become
`<mask>`, 10 % a random token and 10 % stay. All tokens of a word are chosen or none, as in the BERT
release of May 2019 ("whole word masking"). A word is a piece that the tokenizer's pattern splits
off, so a text needs no blanks between words.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import regex

from tfx_transformer.data.batches import Batches, FreshPlan, pad, tf_dataset
from tfx_transformer.data.corpus import TokenFile
from tfx_transformer.errors import InputError
from tfx_transformer.text.tokenizer import MASK_TOKEN, Tokenizer

# Chosen tokens with a draw below the first become `<mask>`, those below the second a random token.
_MASKED, _REPLACED = 0.8, 0.9

# A word of more tokens (an address, base64, a ruler) is chosen in parts: as a whole it would set
# the number of predictions for its batch.
_LONGEST_WORD = 16

# Token ids that are searched for document ends at a time.
_CHUNK_IDS = 1 << 20


class Masker:
    """Chooses tokens of a row and hides them.

    Args:
        tokenizer: with `<mask>` among its special tokens.
        share: share of the tokens to choose, above 0 and below 1.
        whole_words: choose all tokens of a word together.

    Raises:
        InputError: there is no `<mask>`, or the share is out of range.
    """

    def __init__(
        self, tokenizer: Tokenizer, share: float = 0.15, *, whole_words: bool = True
    ) -> None:
        if tokenizer.mask_id is None:
            raise InputError(
                f"the tokenizer has no token {MASK_TOKEN}, which hides the tokens to predict.\n"
                "  Train one that has it:\n"
                f'  Tokenizer.train(texts, vocabulary_size, extra_special_tokens=["{MASK_TOKEN}"])'
            )
        if not 0 < share < 1:
            raise InputError(f"the share to mask is {share}.\n  Expected more than 0, less than 1.")
        self.share = share
        self.whole_words = whole_words
        self.mask_id = tokenizer.mask_id
        self._tokenizer = tokenizer
        self._pattern = regex.compile(tokenizer.pattern) if tokenizer.pattern else None
        # Bytes of each id's text; special ids have none.
        self._sizes = np.array(tokenizer.byte_lengths())
        self._ordinary = np.flatnonzero(self._sizes)

    def __call__(
        self, ids: np.ndarray, random: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the ids with some hidden, and the places of those chosen, ascending.

        Special ids are never chosen. Of the others, if there are any, at least one is.

        Args:
            ids: int (n,).
            random: source of the draws.

        Returns: int (n,) and int (chosen,).
        """
        places = np.flatnonzero(self._sizes[ids])
        if not len(places):
            return ids, places
        words = self.words(ids[places]) if self.whole_words else np.arange(len(places))
        places = places[_choose(words, self.share, random)]
        hidden = ids.copy()
        fate = random.random(len(places))
        hidden[places[fate < _MASKED]] = self.mask_id
        replaced = places[(fate >= _MASKED) & (fate < _REPLACED)]
        hidden[replaced] = self._ordinary[random.integers(len(self._ordinary), size=len(replaced))]
        return hidden, places

    def words(self, ids: np.ndarray) -> np.ndarray:
        """Return int (n,): number, from 0, of the word each id belongs to.

        Ids do not say where a pattern split their text, so it is split again. Bytes that a row's
        border cut off from their character become surrogates, which keeps the byte count. Without a
        pattern (WordPiece, SentencePiece), the pieces themselves mark the beginning of a word.

        Args:
            ids: int (n,), n > 0, none special.
        """
        first = self._begins(ids)
        first[0] = True
        place = np.arange(len(ids))
        begin = np.maximum.accumulate(np.where(first, place, 0))
        return np.cumsum((place - begin) % _LONGEST_WORD == 0) - 1

    def _begins(self, ids: np.ndarray) -> np.ndarray:
        """Return bool (n,): True for each id that begins a word."""
        if self._pattern is None:
            tokenizer = cast("Any", self._tokenizer)  # `HuggingFaceTokenizer`: ours have a pattern
            return np.array(tokenizer.begins_word(ids.tolist()))
        text = self._tokenizer.decode_bytes(ids.tolist())
        pieces = self._pattern.finditer(text.decode("utf-8", "surrogateescape"))
        ends = np.cumsum([len(p.group().encode("utf-8", "surrogateescape")) for p in pieces])
        splits = np.zeros(len(text) + 1, bool)
        splits[ends] = True
        return splits[np.cumsum(self._sizes[ids]) - self._sizes[ids]]


def _choose(words: np.ndarray, share: float, random: np.random.Generator) -> np.ndarray:
    """Return bool (n,): True for each chosen token, from the number of its word.

    The words are in random order around a circle of n tokens. Those that begin on a random arc of
    n * share tokens are chosen, and always the first one after the arc's beginning. So every word,
    of any length, is chosen with probability `share` (except that first one), and the number of
    chosen tokens varies by little more than a word.
    """
    sizes = np.bincount(words)
    order = random.permutation(len(sizes))
    begins = np.empty_like(sizes)
    begins[order] = np.cumsum(sizes[order]) - sizes[order]
    distances = (begins - random.uniform(0, len(words))) % len(words)
    chosen = distances < share * len(words)
    chosen[distances.argmin()] = True
    return chosen[words]


def rows(tokens: TokenFile, end_id: int, room: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the start of each row in the token file, and its number of ids: int64 (rows,) twice.

    A row is a document without its end token. A document with more than `room` ids is cut into as
    few rows as hold it, whose lengths differ by at most one. A document without ids has no row.
    """
    ids = tokens.array()
    ends = [
        start + np.flatnonzero(ids[start : start + _CHUNK_IDS] == end_id)
        for start in range(0, len(ids), _CHUNK_IDS)
    ]
    # The stretch may end inside a document.
    ends = np.concatenate([*ends, [len(ids)]])
    begins = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - begins
    counts = -(-lengths // room)
    number = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    begins, lengths, counts = (np.repeat(a, counts) for a in (begins, lengths, counts))
    first, last = number * lengths // counts, (number + 1) * lengths // counts
    return begins + first, last - first


def mask_tokens(
    tokens: TokenFile,
    tokenizer: Tokenizer,
    *,
    length: int = 128,
    batch_size: int = 32,
    share: float = 0.15,
    whole_words: bool = True,
    shuffle: bool = True,
    seed: int = 0,
) -> Batches:
    """Return a `tf.data.Dataset` of batches for `MaskedLM.fit` and `evaluate`.

    Each batch is ({`token_ids`, `masked_positions`}, labels, sample weights). `token_ids`: int32
    (batch, length), rows of similar length together, each a document or a stretch of one (see
    `rows`) between start and end. `masked_positions`: int32 (batch, chosen), positions of the
    tokens to predict; labels: int32 (batch, chosen), their ids; weights: float32 (batch, chosen),
    1. `chosen` is the most in any row of the batch, rounded up to a multiple of 4; unused slots
    have position 0, label 0 and weight 0.

    Masks are a function of (seed, epoch, row), not of the batch; every iteration over the data set
    is the next epoch. Validation (`shuffle=False`) has the same masks every time.

    Args:
        length: most ids of a row, start and end included.
        share: share of the tokens to choose; at least one in each row is.
        whole_words: choose all tokens of a word together, up to 16.

    Raises:
        InputError: see `Masker`; or there is no text, or `length` leaves no room for any.
    """
    masker = Masker(tokenizer, share, whole_words=whole_words)
    if length < 3:
        raise InputError(f"the length of a row is {length}.\n  Expected 3 or more.")
    begins, lengths = rows(tokens, tokenizer.end_id, length - 2)
    if not len(begins):
        raise InputError(f"{tokens.files[0]}: there is no text to mask.\n  Give more text.")
    plan = FreshPlan(lengths + 2, batch_size, shuffle=shuffle, seed=seed)
    ids = tokens.array()

    def row(number):
        epoch, index = divmod(int(number), len(begins))
        framed = np.full(lengths[index] + 2, tokenizer.end_id, "int32")
        framed[0] = tokenizer.start_id
        framed[1:-1] = ids[begins[index] : begins[index] + lengths[index]]
        # The last number makes these draws independent of those of the plan.
        hidden, places = masker(framed, np.random.default_rng([seed, epoch, index, 1]))
        return hidden, places, framed[places]

    def batch(numbers):
        hidden, places, originals = zip(*map(row, numbers), strict=True)
        labels = pad(originals, 0)
        counts = np.array([len(chosen) for chosen in places])
        weights = np.arange(labels.shape[1]) < counts[:, None]
        inputs = {
            "token_ids": pad(hidden, tokenizer.padding_id),
            "masked_positions": pad(places, 0),
        }
        return inputs, labels, weights.astype("float32")

    return tf_dataset(plan, batch)
