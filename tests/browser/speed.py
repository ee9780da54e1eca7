"""Speed of the page of a bundle beside `runtime` in Python, in turn on the same texts.

    LITERT_JS=FOLDER/node_modules python tests/browser/speed.py BUNDLE…

Prints for each bundle the median of tokens or texts per second of both, one text at a time, and the
median and range of their ratio; and how long the page takes to open.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import devtools
import numpy as np

from tfx_transformer import page, runtime
from tfx_transformer.generation.chat import Chat
from tfx_transformer.generation.preprocessors import ChatPreprocessor

TURNS, OPENINGS, NEW_TOKENS = 7, 5, 50
TEXTS = [
    f"{who} {what}."
    for who in ("The cat", "My brother", "Everybody", "The old teacher", "She")
    for what in ("sees a dog", "bought two apples", "sings well", "is not at home today")
]


def main(bundles: list[str]) -> None:
    for name in bundles:
        with devtools.tab() as tab, tempfile.TemporaryDirectory() as folder:
            content = page.single_page(Path(name), litert_js=os.environ["LITERT_JS"])
            file = page.write_single(content, Path(folder, "page.html"))
            address = file.as_uri()
            opening = [seconds(tab.open, address) for _ in range(OPENINGS)]
            by_page, by_python, unit = answerers(tab, runtime.load(name))
            counts = [by_page(text) for text in TEXTS]
            assert counts == [by_python(text) for text in TEXTS], "the answers differ in length"
            rates = [[sum(counts) / timed(by) for by in (by_page, by_python)] for _ in range(TURNS)]
        ratios = [page_rate / python_rate for page_rate, python_rate in rates]
        ours, theirs = np.median(rates, axis=0)
        print(
            f"{name}: page {ours:,.0f} {unit}/s, runtime {theirs:,.0f}, ratio "
            f"{np.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}); ready in "
            f"{np.median(opening):.1f} s, page of {len(content) / 1e6:.1f} MB",
            flush=True,
        )


def answerers(tab: devtools.Tab, model: object) -> tuple[Callable, Callable, str]:
    """Return functions that answer a text by the page and by Python, and the unit of the number
    that both return."""
    options = {"maxNewTokens": NEW_TOKENS}
    if isinstance(model, runtime.TextGenerator):
        tokenizer = model.tokenizer
        chats = isinstance(model.preprocessor, ChatPreprocessor)

        def write(text: str) -> int:
            if not chats:
                return tokenizer.count(model.generate(text, max_new_tokens=NEW_TOKENS))
            return tokenizer.count(Chat(model).say(text, max_new_tokens=NEW_TOKENS))

        def write_in_page(text: str) -> int:
            if chats:
                tab.ask("reset", {})
            return tokenizer.count(tab.ask("answer", {"text": text, "system": ""}, options)["text"])

        return write_in_page, write, "tokens"
    if isinstance(model, runtime.TextEmbedder):

        def embed_in_page(text: str) -> int:
            return len(tab.ask("many", {"texts": [text]}))

        return embed_in_page, lambda text: len(model.embed([text])), "texts"

    def label_in_page(text: str) -> int:
        tab.ask("answer", {"texts": [text]})
        return 1

    return label_in_page, lambda text: len(model.classify([text])), "texts"


def timed(answer: Callable) -> float:
    return seconds(list, map(answer, TEXTS))


def seconds(call: Callable, *arguments: object) -> float:
    begin = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - begin


if __name__ == "__main__":
    main(sys.argv[1:])
