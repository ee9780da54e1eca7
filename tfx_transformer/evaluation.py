"""How good generated texts are: BLEU, chrF and exact match."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tfx_transformer.errors import InputError

# Scripts that are written without spaces between words.
_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]{4}")


def score_texts(
    written: Sequence[str], references: Sequence[str], tokenize: str | None = None
) -> dict[str, float | str | int]:
    """Scores of written texts against one reference each, by sacrebleu (Post 2018).

    Args:
        written, references: texts, side by side.
        tokenize: of sacrebleu's BLEU ("13a", "char", "none", …); None: "char" if the references
            are Japanese or Chinese without spaces, else "13a".

    Returns: bleu and chrf (0 to 100), exact_match (share, 0 to 1), count, and what BLEU split by.

    Raises:
        InputError: sacrebleu needs another package to tokenize like this.
    """
    import sacrebleu

    if tokenize is None:
        unspaced = sum(bool(_UNSPACED.search(text)) for text in references)
        tokenize = "char" if unspaced > len(references) / 2 else "13a"
    try:
        metric = sacrebleu.metrics.BLEU(tokenize=tokenize)
    except RuntimeError as error:
        raise InputError(
            f"BLEU cannot tokenize by {tokenize!r}: the package for it is not installed.\n"
            '  For Japanese: pip install "sacrebleu[ja]"; for Korean: "sacrebleu[ko]".'
        ) from error
    bleu = metric.corpus_score(written, [references])
    chrf = sacrebleu.metrics.CHRF().corpus_score(written, [references])
    equal = sum(a == b for a, b in zip(written, references, strict=True))
    return {
        "bleu": round(bleu.score, 2),
        "chrf": round(chrf.score, 2),
        "exact_match": round(equal / len(references), 4),
        "count": len(references),
        "bleu_tokenize": tokenize,
    }
