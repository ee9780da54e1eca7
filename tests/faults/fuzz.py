"""Throws damaged and random files at everything that reads files of a user or of a stranger.

    python tests/faults/fuzz.py                 200,000 inputs (minutes to an hour)
    python tests/faults/fuzz.py --inputs 2000 --seed 7 --targets csv,jsonl
    python tests/faults/fuzz.py --guided        by coverage, with Atheris (pip install atheris)

A target reads one file and may answer with anything or with an InputError. Another exception, more
than a second (of this process's time) or more memory than a gigabyte is a finding: it is printed
with the seed and number that make it again, its file is kept, and the exit status is 1.

Inputs are mutations of valid files, as a fuzzer that measures no coverage makes them: bits flipped,
stretches cut, repeated, exchanged with those of another file, tokens of the format put in, numbers
made extreme. Input n of a target is a function of (seed, target, n) alone. With `--guided`
libFuzzer makes them: it keeps those that reach new code, and a target ends at its first finding.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import struct
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

from tfx_transformer import bundle, flag_parser
from tfx_transformer.config import TransformerConfig
from tfx_transformer.data.conversations import read_instructions
from tfx_transformer.data.tables import read_table
from tfx_transformer.errors import InputError
from tfx_transformer.images import read_image
from tfx_transformer.prediction.classification import read_labels
from tfx_transformer.text import sentencepiece
from tfx_transformer.text.tokenizer import Tokenizer

# What a process of Atheris does: only modules imported in its block are measured.
_INSTRUMENTED = """
import sys, atheris
with atheris.instrument_imports(include=["tfx_transformer"]):
    import fuzz
    from tfx_transformer.models import saving
fuzz.run_atheris(*sys.argv[1:])
"""

SECONDS = 1.0
BYTES = 1 << 30

NUMBERS = ("0", "-1", "255", "65536", "2147483648", "4294967296", str(1 << 63), "1e999", "NaN")
TOKENS = {
    "csv": [b'"', b'""', b",", b"\n", b"\r", b"\0", b"text", b"label", b"\xef\xbb\xbf", b"\xff"],
    "jsonl": [b'"', b"{", b"}", b"[", b"]", b"\\ud800", b"\\u0000", b"\n", b'"role"', b'"user"'],
    "config": [b'"', b"{", b"[", b"null", b"true", b'"architecture"', b'"task"', b"\\udfff"],
    "tokenizer": [
        b'"',
        b"{",
        b"[",
        b"null",
        b'"id"',
        b'"vocab"',
        b'"merges"',
        b"(a+)+$",
        b"\\p{L}",
    ],
    "weights": [b'"', b"{", b"[", b'"F32"', b'"BF16"', b'"shape"', b'"data_offsets"', b"\0"],
    "sentencepiece": [b"\n", b"\x12", b"\x1a", b"\xff\xff\xff\xff\x0f", b"\0", b"\x80"],
    "settings": [b"&a ", b"*a", b"[", b"{", b"\n", b": ", b"!!python/none", b'"\\0"', b'"\\ud800"'],
    "image": [b"\xff\xd8", b"\xff\xd9", b"IHDR", b"IDAT", b"\0\0\0\0", b"\xff\xff\xff\xff"],
}


def read_csv(path: Path) -> None:
    read_table(path, {"text": "text", "label": "label"}, skip_bad_rows=True)


def read_config(path: Path) -> None:
    config = bundle.read_config(path.parent)
    architecture = TransformerConfig.from_dict(config["architecture"])
    read_labels(config, architecture.num_classes, path)


def read_weights(path: Path) -> None:
    """As `load` does before it builds anything."""
    from tfx_transformer.models import saving

    saving.read_shapes(path)


def read_sentencepiece(path: Path) -> None:
    data = path.read_bytes()
    for read in (sentencepiece.read_model, lambda data: sentencepiece.normalizer(data)("ﬁ a")):
        try:
            read(data)
        except ValueError as error:  # which `Tokenizer.from_pretrained` expects
            raise InputError(f"{path} is damaged: {error}") from error


def read_flags(path: Path) -> None:
    def main(epochs: int = 3, rate: float = 0.1, csv: Path | None = None, cut: bool = True):
        """Train.

        Training arguments:
            epochs: Passes.
            rate: Of learning.
            csv: File.
            cut: Cut.
        """

    parser = flag_parser.make_parser(main, "train")
    parser.add_argument("--config")
    flag_parser.parse(main, parser, ["--config", str(path)])


TARGETS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "csv": ("file.csv", read_csv),
    "jsonl": ("file.jsonl", lambda path: read_instructions(path, skip_bad_rows=True)),
    "config": ("config.json", read_config),
    "tokenizer": ("tokenizer.json", Tokenizer.load),
    "weights": ("model.safetensors", read_weights),
    "sentencepiece": ("source.spm", read_sentencepiece),
    "settings": ("settings.yaml", read_flags),
    "image": ("image.png", read_image),
}


def examples(target: str) -> list[bytes]:
    """Valid files of a kind."""
    if target == "csv":
        return [b'text,label\na,b\n"c ""d"", e\n",f\r\n', "id,text,label\n1,日本,é\n".encode()]
    if target == "jsonl":
        turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "é"}]
        lines = ({"messages": turns}, {"instruction": "a", "input": "", "output": "b"})
        return ["\n".join(json.dumps(line, ensure_ascii=False) for line in lines).encode()]
    if target == "config":
        architecture = TransformerConfig.of_size("nano", 300, num_classes=2).to_dict()
        config = {"format": 1, "task": "classification", "labels": ["a", "猫"]}
        return [json.dumps(config | {"architecture": architecture}).encode()]
    if target == "tokenizer":
        return [Tokenizer.train(["the cat sat on the mat"], 262).to_json().encode()]
    if target == "weights":
        return [_safetensors()]
    if target == "sentencepiece":
        folder = Path(__file__).parents[1] / "conformance" / "tokenizers" / "marian"
        return [file.read_bytes() for file in sorted(folder.glob("*.spm"))]
    if target == "settings":
        return [b"epochs: 20\nrate: 1e-3\ncsv: my.csv\ncut: false\n", b'{"epochs": 3, "csv": null}']
    return _images()


def _safetensors() -> bytes:
    tensors = {
        "embedding/embeddings": {"dtype": "F32", "shape": [3, 5], "data_offsets": [0, 60]},
        "decoder/bias": {"dtype": "F16", "shape": [7], "data_offsets": [60, 74]},
    }
    header = json.dumps(tensors).encode()
    return struct.pack("<Q", len(header)) + header + bytes(74)


def _images() -> list[bytes]:
    import io

    from PIL import Image

    files = []
    for kind in ("PNG", "JPEG", "GIF", "BMP", "WEBP"):
        data = io.BytesIO()
        Image.linear_gradient("L").resize((23, 19)).convert("RGB").save(data, kind)
        files.append(data.getvalue())
    return files


def mutated(data: bytes, others: list[bytes], tokens: list[bytes], draw: random.Random) -> bytes:
    """A file with one to eight changes."""
    for _ in range(draw.randint(1, 8)):
        begin = draw.randint(0, len(data))
        end = min(begin + draw.choice((0, 1, 1, 2, 4, 16, 64)), len(data))
        other = draw.choice(others)
        start = draw.randint(0, len(other))
        new = draw.choice(
            (
                b"",
                bytes(byte ^ 1 << draw.randrange(8) for byte in data[begin:end]),
                draw.randbytes(end - begin),
                data[begin:end] * draw.choice((2, 3, 300)),
                other[start : start + draw.choice((1, 8, 80))],
                draw.choice(tokens),
                draw.choice(tokens) * draw.choice((2, 50, 5_000)),
                draw.choice(NUMBERS).encode(),
            )
        )
        data = data[:begin] + new + data[end:]
    return data[: draw.randint(0, len(data))] if draw.random() < 0.1 else data


def inputs(target: str, count: int, seed: int, first: int = 0) -> Iterator[bytes]:
    """The inputs of a target from number `first` on."""
    valid = examples(target)
    for number in range(first, first + count):
        draw = random.Random(f"{seed} {target} {number}")
        yield mutated(draw.choice(valid), valid, TOKENS[target], draw)


def problem(read: Callable[[Path], object], path: Path) -> str:
    """What is wrong with how a file is read; "" if nothing is."""
    begin = time.process_time()
    try:
        read(path)
    except InputError as error:
        if not str(error).strip():
            return "an InputError that says nothing"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    seconds = time.process_time() - begin
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if seconds > SECONDS:
        return f"{seconds:.1f} seconds"
    return f"{memory:,} bytes of memory" if memory > BYTES else ""


def fuzz(target: str, count: int, seed: int, kept: Path) -> int:
    """Reads `count` inputs; returns the number of findings, whose files are kept in a folder."""
    name, read = TARGETS[target]
    findings = 0
    begin, slowest = time.monotonic(), 0.0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(examples(target)[0])
        read(path)  # what is imported at first use is not part of the figures
        for number, data in enumerate(inputs(target, count, seed)):
            path.write_bytes(data)
            before = time.process_time()
            if what := problem(read, path):
                findings += 1
                kept.mkdir(parents=True, exist_ok=True)
                (kept / f"{target}-{seed}-{number}").write_bytes(data)
                print(f"{target}, seed {seed}, number {number}: {what}", flush=True)
            slowest = max(slowest, time.process_time() - before)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(
        f"{target:<10} {count:>7,} inputs, {findings} findings, slowest {1000 * slowest:.0f} ms, "
        f"{memory} MB, {time.monotonic() - begin:.0f} s",
        flush=True,
    )
    return findings


def fuzz_guided(target: str, count: int, seed: int, kept: Path) -> int:
    """Reads `count` inputs that Atheris makes, in a process of its own; returns 1 for a finding."""
    kept.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as corpus:
        for number, data in enumerate(examples(target)):
            Path(corpus, str(number)).write_bytes(data)
        settings = [f"-runs={count}", f"-seed={seed}", "-max_len=65536", "-timeout=60"]
        settings += [f"-rss_limit_mb={BYTES >> 20}", f"-artifact_prefix={kept.resolve()}/"]
        command = [sys.executable, "-c", _INSTRUMENTED, target, *settings, corpus]
        status = subprocess.run(command, cwd=Path(__file__).parent).returncode
    print(f"{target:<10} {count:>7,} inputs of Atheris, exit status {status}", flush=True)
    return int(status != 0)


def run_atheris(target: str, *arguments: str) -> None:
    """Reads the inputs of libFuzzer and does not return; a finding ends the process."""
    import atheris

    name, read = TARGETS[target]
    path = Path(tempfile.mkdtemp(), name)
    path.write_bytes(examples(target)[0])
    read(path)

    def one(data: bytes) -> None:
        path.write_bytes(data)
        if what := problem(read, path):
            raise AssertionError(what)

    atheris.Setup([sys.argv[0], *arguments], one)
    atheris.Fuzz()


def main() -> None:
    warnings.simplefilter("ignore")  # Pillow's of large images
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--inputs", type=int, default=200_000, help="of all targets together")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--targets", default=",".join(TARGETS))
    parser.add_argument("--guided", action="store_true", help="by coverage, with Atheris")
    parser.add_argument("--kept", type=Path, default=Path("runs", "fuzz"))
    chosen = parser.parse_args()
    targets = chosen.targets.split(",")
    share = -(-chosen.inputs // len(targets))
    run = fuzz_guided if chosen.guided else fuzz
    sys.exit(1 if sum(run(t, share, chosen.seed, chosen.kept) for t in targets) else 0)


if __name__ == "__main__":
    main()
