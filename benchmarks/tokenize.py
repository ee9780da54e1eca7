"""Speed of tokenizers.

One byte-level BPE of 16,000 tokens, learned from both texts, run by all. Ours encodes a text at a
time, as data sets and servers do; the others also take all texts at once, with a thread a core.

    python -m benchmarks tokenize --data DATA --rounds 3

It takes about 2 minutes on 2 cores. Expect ours to reach three quarters of the speed of tiktoken,
which it calls, or more, and to be at least three times as fast as tokenizers.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

from benchmarks.tables import Case, Settings, System

UNIT = "tokens/s"
VOCABULARY = 16_000
ENGLISH, JAPANESE = "lm/tinyshakespeare_train.txt", "lm/neko_ja_train.txt"

CASES = (
    Case("english", "plays, 6,283 texts", {"file": ENGLISH, "end": "\n\n"}, (ENGLISH, JAPANESE)),
    Case("japanese", "a novel, 9,792 texts", {"file": JAPANESE, "end": "\n"}, (ENGLISH, JAPANESE)),
)


def read(settings: Settings, file: str, end: str) -> list[str]:
    return Path(settings["data"], file).read_text(encoding="utf-8").split(end)


def new_tokenizer(settings: Settings):
    from tfx_transformer import Tokenizer

    learned = [*read(settings, ENGLISH, "\n\n"), *read(settings, JAPANESE, "\n")]
    return Tokenizer.train(learned, VOCABULARY)


def one_by_one(encode: Callable[[str], list[int]]):
    return lambda texts: sum(len(encode(text)) for text in texts)


def ours(tokenizer, threads: int):
    return one_by_one(tokenizer.encode)


def tiktoken(tokenizer, threads: int):
    return one_by_one(tokenizer.tiktoken.encode_ordinary)


def tiktoken_batch(tokenizer, threads: int):
    encode = tokenizer.tiktoken.encode_ordinary_batch
    return lambda texts: sum(map(len, encode(texts, num_threads=threads)))


def tokenizers_batch(tokenizer, threads: int):
    import tokenizers

    encode = tokenizers.Tokenizer.from_str(tokenizer.to_json()).encode_batch_fast
    return lambda texts: sum(len(e.ids) for e in encode(texts, add_special_tokens=False))


def timed(new_encoder: Callable, settings: Settings):
    """Encode all texts of the case; every system must make as many tokens as ours does."""
    tokenizer = new_tokenizer(settings)
    texts = read(settings, settings["file"], settings["end"])
    encode = new_encoder(tokenizer, settings["threads"])
    expected = one_by_one(tokenizer.encode)(texts)

    def step() -> int:
        assert encode(texts) == expected
        return expected

    return step


SYSTEMS = tuple(
    System(name, title, functools.partial(timed, encoder), packages)
    for name, title, encoder, packages in (
        ("tfx", "**ours**, a text at a time", ours, ("tiktoken",)),
        ("tiktoken", "tiktoken, a text at a time", tiktoken, ("tiktoken",)),
        ("tiktoken-batch", "tiktoken, all texts at once", tiktoken_batch, ("tiktoken",)),
        ("tokenizers-batch", "tokenizers, all texts at once", tokenizers_batch, ("tokenizers",)),
    )
)
