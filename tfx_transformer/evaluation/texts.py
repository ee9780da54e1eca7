"""Scores of generated texts: BLEU, chrF, exact match and token F1."""

from __future__ import annotations

import collections
import re
import unicodedata
from collections.abc import Sequence

from tfx_transformer.errors import InputError
from tfx_transformer.text.scripts import UNSPACED

_UNSPACED = re.compile(f"[{UNSPACED}]{{4}}")


def score_texts(
    written: Sequence[str], references: Sequence[str], tokenize: str | None = None
) -> dict[str, float | str | int]:
    """Return the scores of written texts against one reference each, by sacrebleu (Post 2018).

    Args:
        written, references: n texts each.
        tokenize: tokenizer of sacrebleu's BLEU ("13a", "char", "none", …); None: "char" if most of
            the references are without spaces, see `mostly_unspaced`, else "13a".

    Returns: bleu and chrf (0 to 100), exact_match (share, 0 to 1), count, and bleu_tokenize, the
        tokenizer.

    Raises:
        InputError: the tokenizer needs a package that is not installed.
    """
    import sacrebleu

    if tokenize is None:
        tokenize = "char" if mostly_unspaced(references) else "13a"
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


def mostly_unspaced(texts: Sequence[str]) -> bool:
    """Return True if most of the texts are without spaces between words, see `unspaced_share`."""
    return unspaced_share(texts) > 0.5


def unspaced_share(texts: Sequence[str]) -> float:
    """Return the share of texts with a run of four characters of a script that has no spaces
    between words: Japanese, Chinese, Thai, Lao, Tibetan, Burmese or Khmer."""
    return sum(bool(_UNSPACED.search(text)) for text in texts) / max(1, len(texts))


def score_answers(written: Sequence[str], references: Sequence[str]) -> dict[str, float | int]:
    """Return the scores of short answers: exact match, token F1 as for SQuAD (Rajpurkar et al.
    2016, section 6.1; without case, punctuation and English articles), and chrF.

    Args:
        written, references: n texts each. Reasoning at the beginning, up to `</think>`, is not
            compared.

    Returns: exact_match (share of identical answers, case and punctuation included), token_f1
        (mean, 0 to 1), chrf (0 to 100), count.
    """
    import sacrebleu

    answered = map(_without_reasoning, written)
    pairs = list(zip(answered, map(_without_reasoning, references), strict=True))
    answers, expected = ([pair[side] for pair in pairs] for side in (0, 1))
    chrf = sacrebleu.metrics.CHRF().corpus_score(answers, [expected])
    return {
        "exact_match": round(sum(a == b for a, b in pairs) / len(pairs), 4),
        "token_f1": round(sum(token_f1(a, b) for a, b in pairs) / len(pairs), 4),
        "chrf": round(chrf.score, 2),
        "count": len(pairs),
    }


def answer_f1s(written: Sequence[str], references: Sequence[str]) -> list[float]:
    """Return the token F1 of each answer; `score_answers` returns their mean."""
    return [
        token_f1(_without_reasoning(a), _without_reasoning(b))
        for a, b in zip(written, references, strict=True)
    ]


def _without_reasoning(answer: str) -> str:
    _, end, rest = answer.partition("</think>")
    return rest.lstrip("\n") if end else answer


def token_f1(written: str, reference: str) -> float:
    """Return the harmonic mean of precision and recall of the written words; in scripts without
    spaces each character is a word."""
    ours, theirs = _words(written), _words(reference)
    if not ours or not theirs:
        return float(ours == theirs)
    common = sum((collections.Counter(ours) & collections.Counter(theirs)).values())
    return 2 * common / (len(ours) + len(theirs))


def _words(text: str) -> list[str]:
    text = "".join(c for c in text.casefold() if not unicodedata.category(c).startswith("P"))
    words = re.findall(r"[\u3040-\u30ff\u3400-\u9fff]|[^\s\u3040-\u30ff\u3400-\u9fff]+", text)
    return [word for word in words if word not in ("a", "an", "the")]
