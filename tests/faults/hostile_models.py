"""Mutates the model files of bundles, under right sums, and uses each in a process of its own.

    python tests/faults/hostile_models.py --make FOLDER          makes small bundles of five kinds
    python tests/faults/hostile_models.py FOLDER/*               800 mutants of each TFLite file
    python tests/faults/hostile_models.py FOLDER/causal --file model.litertlm --count 400
    python tests/faults/hostile_models.py FOLDER/* --tables --count 150     of the tables' values
    python tests/faults/hostile_models.py FOLDER/* --configs --count 12     configurations that lie

A file that is refused, or answers, is fine. A signal, another exception or a hang is a finding: it
is printed with its seed, and the exit status is 1. It hangs if it computes for more than five
seconds (processor time of all its threads, so other programs do not count), or is not done after
two minutes of waiting.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import hashlib
import json
import os
import random
import resource
import select
import shutil
import signal
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tfx_transformer import bundle, runtime
from tfx_transformer.errors import InputError
from tfx_transformer.prediction.image import ImageClassifier
from tfx_transformer.prediction.text import TextClassifier, TextEmbedder

SECONDS, PATIENCE = 5, 120
SHORT, LONG = "the cat", "the cat sees a dog and 猫 が 見る ! " * 4


class Outcome(NamedTuple):
    """kind: "answers", "refused", "exception", "signal" or "hangs"; said: the message."""

    kind: str
    said: str
    seconds: float


def mutated(data: bytes, seed: int) -> bytes:
    """The file cut short, or with bytes, numbers or stretches of it changed."""
    draw, changed = random.Random(seed), bytearray(data)
    kind = draw.choice(("cut", "byte", "bytes", "number", "exchange", "zeros"))

    def place(width: int) -> int:
        """Tables are at both ends of a file, weights between them."""
        near = draw.choice((60_000, len(data)))
        start = draw.randrange(0, max(min(near, len(data)) - width, 1))
        return draw.choice((start, len(data) - width - start))

    if kind == "cut":
        del changed[place(1) :]
    elif kind == "byte":
        for _ in range(draw.choice((1, 2, 8))):
            changed[place(1)] = draw.randrange(256)
    elif kind == "bytes":
        at = place(16)
        changed[at : at + 16] = draw.randbytes(16)
    elif kind == "number":
        at = place(8) & ~3
        number = draw.choice((-1, 0, 2**31 - 1, -(2**31), len(data), draw.getrandbits(30)))
        changed[at : at + 4] = struct.pack("<i", number)
    elif kind == "exchange":
        a, b = place(64), place(64)
        changed[a : a + 64], changed[b : b + 64] = changed[b : b + 64], changed[a : a + 64]
    else:
        at = place(256)
        changed[at : at + 256] = bytes(256)
    return bytes(changed)


def mutated_tables(data: bytes, seed: int) -> bytes:
    """A valid flatbuffer whose tables say something else: shapes, types, inputs, operations."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    draw = random.Random(seed)
    model = schema.ModelT.InitFromPackedBuf(data, 0)
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        graph = draw.choice(model.subgraphs)
        tensor, operator = draw.choice(graph.tensors), draw.choice(graph.operators)
        number = draw.choice((-1, 0, 1, 2, 7, 1 << 16, 2**31 - 1, draw.randrange(300)))
        inside = draw.choice((number, draw.randrange(len(graph.tensors))))
        kind = draw.randrange(12)
        if kind == 0 and np.size(tensor.shape):
            tensor.shape = np.array(tensor.shape)
            tensor.shape[draw.randrange(len(tensor.shape))] = number
        elif kind == 1:
            tensor.type = draw.randrange(20)
        elif kind == 2:
            tensor.buffer = draw.randrange(len(model.buffers))
        elif kind == 3 and np.size(operator.inputs):
            operator.inputs = np.array(operator.inputs)
            operator.inputs[draw.randrange(len(operator.inputs))] = inside
        elif kind == 4:
            operator.outputs = np.array([inside], "int32")
        elif kind == 5:
            operator.opcodeIndex = draw.randrange(len(model.operatorCodes))
        elif kind == 6:
            graph.operators.remove(operator)
        elif kind == 7:
            code = draw.choice(model.operatorCodes)
            code.builtinCode = draw.randrange(160)
            code.deprecatedBuiltinCode = min(code.builtinCode, 127)
        elif kind == 8:
            _change_options(operator.builtinOptions, number, draw)
        elif kind == 9:
            _change_quantization(tensor.quantization, number, draw)
        elif kind == 10:
            _change_constant(model, graph, operator, number, draw)
        else:  # the other tensors of one operation have the shapes and places of others
            operator.inputs = np.array(operator.inputs)[::-1]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


_WIDE = {"axis", "beginMask", "endMask", "shrinkAxisMask", "num", "numSplits", "batchDims"} | {
    f"{what}{side}" for what in ("stride", "filter") for side in ("W", "H", "Width", "Height")
}


def _change_options(options: Any, number: int, draw: random.Random) -> None:
    """Change an option of an operation: an axis, a stride, a mask, the number of outputs."""
    if options is not None and vars(options):
        name = draw.choice(sorted(vars(options)))
        old = getattr(options, name)
        if isinstance(old, (bool, int)):  # most are int8
            setattr(options, name, type(old)(number if name in _WIDE else number % 100))


def _change_quantization(quantization: Any, number: int, draw: random.Random) -> None:
    """Change a quantization: fewer scales than rows, another axis, or useless scales."""
    if quantization is None or quantization.scale is None or not len(quantization.scale):
        return
    kind = draw.randrange(4)
    if kind == 0:
        quantization.scale = quantization.scale[: draw.randrange(len(quantization.scale))]
    elif kind == 1:
        quantization.quantizedDimension = number
    elif kind == 2:
        quantization.zeroPoint = draw.choice((None, [], [number]))
    else:
        quantization.scale = np.array(quantization.scale)
        quantization.scale[0] = draw.choice((0, -1, float("nan"), float("inf"), 1e-30))


def _change_constant(
    model: Any, graph: Any, operator: Any, number: int, draw: random.Random
) -> None:
    """A shape, an axis, a permutation or indices: the integers that an operation reads."""
    found = [
        graph.tensors[index].buffer
        for index in operator.inputs
        if index >= 0
        and graph.tensors[index].type == 2
        and model.buffers[graph.tensors[index].buffer].data is not None
    ]
    if found:
        buffer = model.buffers[draw.choice(found)]
        values = np.array(buffer.data, "uint8").view("int32").copy()
        values[draw.randrange(len(values))] = number
        buffer.data = values.view("uint8")


def mismatched(config: dict[str, Any], seed: int) -> dict[str, Any]:
    """A configuration that is valid by itself, and says something else than the file."""
    draw = random.Random(seed)
    architecture = dict(config["architecture"])
    changes: dict[str, Callable[[Any], Any]] = {
        "vocabulary_size": lambda n: n + draw.choice((-7, 1, 500)),
        "max_sequence_length": lambda n: n + draw.choice((-5, 1, 1000)),
        "num_layers": lambda n: n + draw.choice((1, 3)),
        "num_decoder_layers": lambda n: n + 1,
        "hidden_dim": lambda n: n * 2,
        "head_dim": lambda n: n * 2,
        "num_key_value_heads": lambda n: 1 if n > 1 else 2,
        "num_classes": lambda n: n + draw.choice((-1, 1, 6)),
        "image_size": lambda n: n * 2 if n else 32,
    }
    config = config | {"architecture": architecture}
    for _ in range(draw.choice((1, 1, 2))):
        kind = draw.choice([*changes, "task", "labels"])
        if kind == "task":
            tasks = ("causal", "seq2seq", "classification", "embedding", "masked")
            config["task"] = draw.choice(tasks)
        elif kind == "labels":
            config["labels"] = [str(n) for n in range(draw.randrange(12))]
        else:
            architecture[kind] = changes[kind](architecture[kind])
    return config


def use(path: Path, variant: str) -> None:
    """Load a bundle and run every signature of its TFLite file."""
    model = runtime.load(path, variant, threads=1)
    if isinstance(model, ImageClassifier):
        model.classify([np.full((9, 13, 3), 7 * i, "uint8") for i in range(9)])
    elif isinstance(model, TextEmbedder):
        model.embed([SHORT, LONG] * 5)
    elif isinstance(model, TextClassifier):
        model.classify([SHORT, LONG] * 5)
    else:
        model.generate([SHORT] * 5 + [LONG], truncate=True)
        for beams in getattr(model.engine, "decoders", ()):
            model.generate([SHORT], beams=beams, truncate=True)


def use_litertlm(path: Path) -> None:
    """Load a `.litertlm` file and let it write."""
    from tfx_transformer.runtime import litertlm

    litertlm.load(path).generate([SHORT], truncate=True, max_new_tokens=3)


def outcome(action: Callable[[], object], seconds: int = SECONDS) -> Outcome:
    """Run an action in a process of its own, and return its result."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        with contextlib.suppress(BaseException):
            os.write(writing, json.dumps(_tried(action, seconds)).encode())
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        is_ending = bool(select.select([pipe], [], [], PATIENCE)[0])
        if not is_ending:
            os.kill(child, signal.SIGKILL)
        written = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if written and not status:
        return Outcome(*json.loads(written))
    hangs = status == -signal.SIGXCPU or not is_ending
    return Outcome("hangs" if hangs else "signal", str(status), 0.0)


def _tried(action: Callable[[], object], seconds: int) -> Outcome:
    used = int(time.process_time()) + 1
    # The first limit is SIGXCPU; the kernel kills at the second, and so also where they are equal.
    resource.setrlimit(resource.RLIMIT_CPU, (used + seconds, used + seconds + 2))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    began = time.process_time()
    try:
        action()
        kind, said = "answers", ""
    except InputError as error:
        kind, said = "refused", str(error)
    except BaseException as error:
        kind, said = "exception", f"{type(error).__name__}: {error}"
    return Outcome(kind, said, time.process_time() - began)


@contextlib.contextmanager
def prepared(path: Path, file: str):
    """A copy of a bundle with one model file, and a function that gives a file another content
    and seals the bundle again."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder, path.name)
        others = {*bundle.LITERT.values(), bundle.LITERTLM, bundle.SAVED_MODEL} - {file}
        shutil.copytree(path, work, ignore=lambda *_: others)
        names = [p.relative_to(work).as_posix() for p in work.rglob("*") if p.is_file()]
        sums = {
            name: hashlib.sha256((work / name).read_bytes()).hexdigest()
            for name in names
            if name != bundle.SUMS
        }

        def replace(name: str, content: bytes) -> None:
            (work / name).write_bytes(content)
            sums[name] = hashlib.sha256(content).hexdigest()
            lines = (f"{digest}  {name}\n" for name, digest in sums.items())
            (work / bundle.SUMS).write_text("".join(lines))

        yield work, replace


def import_first() -> None:
    """Import here what the processes need, and nothing that starts a thread."""
    import ai_edge_litert.compiled_model
    import ai_edge_litert.interpreter  # noqa: F401
    import tiktoken  # noqa: F401


def tried(path: Path, file: str, seeds: range, change: Callable[[bytes, int], bytes]):
    """The seed and the outcome of every mutant of a model file."""
    variants = {name: variant for variant, name in bundle.LITERT.items()}
    data = (path / file).read_bytes()
    with prepared(path, file) as (work, replace):
        for seed in seeds:
            replace(file, change(data, seed))
            if file == bundle.LITERTLM:
                yield seed, outcome(lambda: use_litertlm(work), 4 * SECONDS)
            else:
                yield seed, outcome(lambda: use(work, variants[file]))


def tried_configs(path: Path, file: str, seeds: range):
    """The seed and the outcome of every configuration that does not fit."""
    variants = {name: variant for variant, name in bundle.LITERT.items()}
    config = json.loads((path / bundle.CONFIG).read_text(encoding="utf-8"))
    with prepared(path, file) as (work, replace):
        for seed in seeds:
            changed = json.dumps(mismatched(config, seed), ensure_ascii=False)
            replace(bundle.CONFIG, changed.encode())
            yield seed, outcome(lambda: use(work, variants[file]))


def make(folder: Path) -> None:
    """Write small bundles, of random weights: a translator, a chat model, classifiers of texts and
    of images, and an embedder."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    import encoder_bundles
    from tiny_models import CONVOLUTIONS, tiny_encoder

    import tfx_transformer as tfx

    words = [" ".join(encoder_bundles.WORDS)] * 5
    tokenizer = tfx.Tokenizer.train(words, 270)
    chat = tfx.Tokenizer.train(words, 280, tfx.ROLE_TOKENS)
    tfx.ChatTemplate.of(chat)
    widths = encoder_bundles.WIDTHS
    size = {"vocabulary_size": tokenizer.vocabulary_size, **widths}
    labels = {"labels": encoder_bundles.NAMES}
    translator = tfx.TransformerConfig.of_size("nano", 270, max_sequence_length=24)
    assistant = tfx.TransformerConfig.of_size("nano", 280, "llama", max_sequence_length=79)
    models = {
        "translator": (tfx.Seq2SeqLM(translator), tokenizer, {}),
        "causal": (tfx.CausalLM(assistant), chat, {}),
        "text_classifier": (tiny_encoder(tfx.Classifier, num_classes=3, **size), tokenizer, labels),
        "image_classifier": (
            tiny_encoder(tfx.Classifier, num_classes=3, **widths, **CONVOLUTIONS),
            None,
            labels,
        ),
        "embedder": (tiny_encoder(tfx.Embedder, position="rotary", **size), tokenizer, {}),
    }
    for name, (model, words, details) in models.items():
        tfx.save(folder / name, model, words, **details)
        tfx.export.litert(folder / name, beams=4)
    tfx.export.litertlm(folder / "causal", variant="float32")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("bundles", nargs="*", type=Path)
    parser.add_argument("--make", type=Path, metavar="FOLDER", help="make bundles there, and end")
    parser.add_argument("--file", default="model.tflite")
    parser.add_argument("--count", type=int, default=800, help="of each bundle")
    parser.add_argument("--tables", action="store_true", help="change values, not bytes")
    parser.add_argument("--configs", action="store_true", help="change config.json instead")
    chosen = parser.parse_args()
    if chosen.make:
        make(chosen.make)
        return
    import_first()
    findings = 0
    for path in chosen.bundles:
        counts: collections.Counter[str] = collections.Counter()
        slowest, seeds = 0.0, range(1, chosen.count + 1)
        change = mutated_tables if chosen.tables else mutated
        outcomes = tried(path, chosen.file, seeds, change)
        if chosen.configs:
            outcomes = tried_configs(path, chosen.file, seeds)
        for seed, found in outcomes:
            counts[found.kind] += 1
            slowest = max(slowest, found.seconds)
            if found.kind not in ("answers", "refused"):
                findings += 1
                print(f"{path.name}, seed {seed}: {found.kind}: {found.said[:200]}", flush=True)
        kinds = ", ".join(f"{number} {kind}" for kind, number in sorted(counts.items()))
        print(f"{path.name} {chosen.file}: {kinds}; slowest {slowest:.2f} s", flush=True)
    sys.exit(1 if findings else 0)


if __name__ == "__main__":
    main()
