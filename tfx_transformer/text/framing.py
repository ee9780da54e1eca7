"""What an encoder reads of a row: its texts, framed and cut to fit."""

from __future__ import annotations

from collections.abc import Sequence

from tfx_transformer.text.tokenizer import Tokenizer


def frame(tokenizer: Tokenizer, texts: str | Sequence[str], max_length: int) -> list[int]:
    """Ids of one text, or of several columns of a row: start, text, end, and so on.

    `<s> a </s>`, or `<s> a </s> b </s>`, as BERT joins two texts (Devlin et al. 2019, section 3.1).
    Where they do not fit, tokens are taken from the end of whichever text is the longest by then.

    Args:
        texts: of one row.
        max_length: most ids; at least one more than there are texts.
    """
    parts = [tokenizer.encode(text) for text in ([texts] if isinstance(texts, str) else texts)]
    room = max_length - 1 - len(parts)
    while (excess := sum(map(len, parts)) - room) > 0:
        longest = max(parts, key=len)
        second = max((len(part) for part in parts if part is not longest), default=0)
        del longest[len(longest) - min(excess, max(len(longest) - second, 1)) :]
    framed = [tokenizer.start_id]
    for part in parts:
        framed += [*part, tokenizer.end_id]
    return framed
