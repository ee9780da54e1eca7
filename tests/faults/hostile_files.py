"""Files of a checkpoint that someone made to take all memory or all time when they are read;
`limited.py` reads them."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path

from tfx_transformer.models.pretrained.checkpoint import Checkpoint
from tfx_transformer.text.splitters import hugging_face_splitter
from tfx_transformer.text.tokenizer import Tokenizer

SECONDS = 10.0  # a good file of this size takes half of it

SIZE = int(os.environ.get("HOSTILE_BYTES", 30_000_000))  # as Gemma 3's
LISTS = "[" + "[]," * (SIZE // 3) + "[]]"
OBJECTS = "[" + '{"a":[]},' * (SIZE // 9) + "[]]"
NESTED = "[" + ("[" * 400 + "]" * 400 + ",") * (SIZE // 801) + "[]]"
ADDED = [
    {"id": number, "content": name, "special": True}
    | dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    for number, name in enumerate(("</s>", "<unk>"))
]
SETTINGS = '{"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>"}'
TOO_MANY = 1_300_000


def tree(vocabulary: str = '{"</s>": 0, "<unk>": 1}', merges: str = "[]", kind: str = "BPE") -> str:
    """A tokenizer.json; vocabulary and merges as JSON."""
    model = f'{{"type": "{kind}", "unk_id": 1, "vocab": {vocabulary}, "merges": {merges}}}'
    rest = dict.fromkeys(("normalizer", "pre_tokenizer", "post_processor", "decoder"))
    text = json.dumps({"version": "1.0", "added_tokens": ADDED} | rest)
    return f'{text[:-1]}, "model": {model}}}'


def many(form: str, count: int = TOO_MANY) -> str:
    return ",".join(form % number for number in range(count))


def piece(text: bytes, kind: int = 1) -> bytes:
    """A field of a SentencePiece model."""
    data = b"\x0a" + varint(len(text)) + text + b"\x18" + bytes([kind])
    return b"\x0a" + varint(len(data)) + data


def varint(number: int) -> bytes:
    data = b""
    while number > 127:
        data += bytes([number & 127 | 128])
        number >>= 7
    return data + bytes([number])


def header(text: str) -> bytes:
    """A safetensors file with no more than a header."""
    return struct.pack("<Q", len(text)) + text.encode()


GOOD = {"tokenizer.json": tree(), "tokenizer_config.json": SETTINGS}
UNKNOWN = piece(b"<unk>", kind=2)
OLD = {"vocab.json": '{"a": 0, "b": 1, "<|endoftext|>": 2}', "tokenizer_config.json": "{}"}

# Name, and what the files of a folder hold; the tokenizer is read.
TOKENIZERS: dict[str, dict[str, Callable[[], str | bytes]]] = {
    name: {file: content if callable(content) else (lambda c=content: c) for file, content in f}
    for name, f in {
        "lists": [("tokenizer.json", LISTS)],
        "objects": [("tokenizer.json", OBJECTS)],
        "lists in lists": [("tokenizer.json", NESTED)],
        "lists, and wide characters": [("tokenizer.json", LISTS[:-1] + ',"😀"]')],
        "deeper than Python goes": [("tokenizer.json", "[" * SIZE)],
        "one text of wide characters": [("tokenizer.json", f'["{"a" * SIZE}😀"]')],
        "larger than allowed": [("tokenizer.json", lambda: " " * (65 << 20))],
        "lists as vocabulary": [("tokenizer.json", lambda: tree(LISTS))],
        "many tokens": [
            ("tokenizer.json", lambda: tree("{" + many('"%d": 7') + "}")),
            ("tokenizer_config.json", SETTINGS),
        ],
        "many pieces": [
            ("tokenizer.json", lambda: tree("[" + many('["%d", -1]') + "]", kind="Unigram")),
            ("tokenizer_config.json", SETTINGS),
        ],
        "many merges": [
            ("tokenizer.json", lambda: tree(merges="[" + '"a b",' * (4 * TOO_MANY) + '"a b"]')),
            ("tokenizer_config.json", SETTINGS),
        ],
        "many added tokens": [
            ("tokenizer.json", lambda: '{"added_tokens": [' + many('{"id": %d}') + "]}"),
        ],
        "many settings": [*GOOD.items(), ("tokenizer_config.json", f'{{"a": {LISTS}}}')],
        "many roles": [*GOOD.items(), ("special_tokens_map.json", f'{{"a": {OBJECTS}}}')],
        "much architecture": [*GOOD.items(), ("config.json", f'{{"a": {NESTED}}}')],
        "many templates": [*GOOD.items(), ("chat_template.json", f'{{"a": {LISTS}}}')],
        "many words": [*OLD.items(), ("vocab.json", LISTS), ("merges.txt", "a b\n")],
        "many lines": [*OLD.items(), ("merges.txt", "a b\n" * (SIZE // 4))],
        "empty lines": [*OLD.items(), ("merges.txt", "\n" * SIZE)],
        "many words, one a line": [("vocab.txt", "[UNK]\n[SEP]\n[CLS]\n" + "a\n" * (SIZE // 2))],
        "many empty pieces": [("spiece.model", b"\x0a\x00" * (SIZE // 2))],
        "a piece of many parts": [("spiece.model", b"\x0a" + varint(SIZE) + b"\x08\x00" * (
            SIZE // 2))],
        "a trainer of many parts": [("tokenizer.model", UNKNOWN + b"\x12" + varint(SIZE)
            + b"\x08\x00" * (SIZE // 2))],
        "a long piece": [("tokenizer.model", UNKNOWN + piece(b"a" * 2_000_000))],
        "a vast model": [("tokenizer.model", lambda: UNKNOWN + bytes(33 << 20))],
    }.items()
}  # fmt: skip

# Read as the folder of a model.
CHECKPOINTS = {
    "much configuration": {"config.json": f'{{"a": {LISTS}}}'},
    "vast configuration": {"config.json": " " * (65 << 20)},
    "much of images": {"config.json": "{}", "preprocessor_config.json": f'{{"a": {OBJECTS}}}'},
    "many shards": {"config.json": "{}", "model.safetensors.index.json": f'{{"a": {LISTS}}}'},
    "many tensors": {"config.json": "{}", "model.safetensors": header(f'{{"a": {OBJECTS}}}')},
}


def write(folder: Path, files: dict) -> None:
    for name, content in files.items():
        data = content() if callable(content) else content
        (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())


def _case(files: dict, read: Callable[[Path], object]) -> Callable[[Path], Callable[[], object]]:
    def prepare(folder: Path) -> Callable[[], object]:
        write(folder, files)
        return lambda: read(folder)

    return prepare


def _piped(folder: Path) -> Callable[[], object]:
    os.mkfifo(folder / "config.json")
    return lambda: Checkpoint(folder)


CASES = {name: _case(files, Tokenizer.from_pretrained) for name, files in TOKENIZERS.items()}
CASES |= {name: _case(files, Checkpoint) for name, files in CHECKPOINTS.items()}
CASES["a tokenizer to compare"] = _case(
    {"tokenizer.json": LISTS}, lambda folder: hugging_face_splitter("a", folder / "tokenizer.json")
)
CASES["a pipe"] = _piped
