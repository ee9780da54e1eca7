"""Texts on which tokenizers disagree if they disagree anywhere; the same at every run."""

from __future__ import annotations

import random
from pathlib import Path

DATASETS = Path(__file__).parents[2] / "datasets"
FILES = ("en_ja.csv", "instructions.csv", "labelled_text.csv")

NASTY = (
    *("👨‍👩‍👧", "🇯🇵", "e\u0301", "é", "ﬁ", "ẛ̣", "①", "½", "Ⅳ", "１２３", "ｶﾞ", "か\u3099", "각"),
    *(
        "\u1100\u1161\u11a8",
        "क्ष",
        "ไทย",
        "العربية",
        "עברית",
        "ሀ",
        "𝔘𝔫",
        "𠮷",
        "\U0010fffd",
        "ß",
        "İ",
    ),
    *("\u200b", "\u00ad", "\ufeff", "\u2028", "\0", "\x7f", "\x85", "\u3000", "\t", "\r\n", "\n\n"),
    *("   ", "▁", "▁▁", "##a", "Ġ", "I'LL", "'ſ", "don't", "ǅ", "\u212b", ">>fra<<", ">><<"),
    *("<s>", "</s>", "<unk>", "<pad>", "<mask>", "[CLS]", "[SEP]", "[MASK]", "[UNK]", "[PAD]"),
    *("<bos>", "<eos>", "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|eot_id|>", "<think>"),
    *("<0x41>", "<extra_id_0>", "[INST]", "<start_of_turn>", "<|begin_of_text|>", "</think>"),
)


def sentences() -> str:
    """What the tokenizers of the fixtures are trained on: the beginnings of our own files."""
    parts = [(DATASETS / name).read_text(encoding="utf-8")[:40_000] for name in FILES]
    return "".join(parts)


def nasty_texts(count: int, seed: int = 0) -> list[str]:
    """Stretches of sentences, of NASTY, of characters of all planes, of blanks and digits."""
    chance, corpus = random.Random(seed), sentences()

    def character() -> str:
        high = chance.choice((0x250, 0x3000, 0xD800, 0x110000))
        code = chance.randrange(high)
        return "?" if 0xD800 <= code < 0xE000 else chr(code)

    def piece() -> str:
        length, start = chance.randrange(1, 20), chance.randrange(len(corpus))
        kind = chance.randrange(7)
        if kind < 2:
            return corpus[start : start + length]
        if kind == 2:
            return chance.choice(NASTY)
        if kind == 3:
            return "".join(character() for _ in range(chance.randrange(1, 6)))
        if kind == 4:
            return chance.choice(" a\n1あ\t▁'\u0301") * length
        alphabet = "0123456789 .,-'\n\r\tabAB" if kind == 5 else " "
        return "".join(chance.choice(alphabet) for _ in range(length % 7 + 1))

    return ["".join(piece() for _ in range(chance.randrange(7))) for _ in range(count)]
