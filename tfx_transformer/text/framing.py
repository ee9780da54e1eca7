"""The ids that an encoder reads for a row: its texts, framed and cut to fit."""

from __future__ import annotations

from collections.abc import Sequence

from tfx_transformer.errors import InputError
from tfx_transformer.text.tokenizer import Tokenizer


def frame(tokenizer: Tokenizer, texts: str | Sequence[str], max_length: int) -> list[int]:
    """Return the ids of one text, or of several columns of a row, in the tokenizer's frame.

    `<s> a </s>`, or `<s> a </s> b </s>`, as BERT joins two texts (Devlin et al. 2019, section 3.1);
    the tokenizer of a checkpoint has that checkpoint's (RoBERTa: `<s> a </s></s> b </s>`, T5:
    `a </s> b </s>`, Llama: `<s> a`). If the texts do not fit, tokens are cut one by one from the
    end of whichever is then the longest. If nothing is left (GPT-2 has no frame), the result is the
    end token alone.

    Args:
        texts: the texts of one row.
        max_length: most ids; at least one, and as many as the frame has.

    Raises:
        InputError: `max_length` is smaller.
    """
    parts = _parts(tokenizer, texts, max_length)
    around = tokenizer.frame
    framed = [*around.before]
    for number, part in enumerate(parts):
        framed += [*(around.between if number else ()), *part]
    return [*framed, *around.after] or [tokenizer.end_id]


def segments(tokenizer: Tokenizer, texts: str | Sequence[str], max_length: int) -> list[int]:
    """Return the segment of each id of `frame`, as BERT numbers them (Devlin et al. 2019, figure
    2): 0 up to where the second text begins, 1 from there on; all 0 if the tokenizer's checkpoint
    has no segments.

    Args:
        texts, max_length: see `frame`.
    """
    parts, around = _parts(tokenizer, texts, max_length), tokenizer.frame
    first = len(around.before) + len(parts[0]) + (len(around.between) if parts[1:] else 0)
    size = around.size(len(parts)) + sum(map(len, parts))
    if not around.segments or not parts[1:]:
        return [0] * max(size, 1)
    return [0] * first + [1] * (size - first)


def _parts(tokenizer: Tokenizer, texts: str | Sequence[str], max_length: int) -> list[list[int]]:
    """The ids of each text, cut to fit."""
    texts = [texts] if isinstance(texts, str) else texts
    least = max(tokenizer.frame.size(len(texts)), 1)
    room = max_length - tokenizer.frame.size(len(texts))
    if max_length < least:
        raise InputError(
            f"max_length is {max_length}.\n"
            f"  Expected {least} or more: a start, and an end of each text."
        )
    # No text can have more than all the room, so the rest need not be encoded.
    parts = [tokenizer.encode_first(text, room) for text in texts]
    while (excess := sum(map(len, parts)) - room) > 0:
        longest = max(parts, key=len)
        second = max((len(part) for part in parts if part is not longest), default=0)
        del longest[len(longest) - min(excess, max(len(longest) - second, 1)) :]
    return parts
