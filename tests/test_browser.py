"""Exported files answer in LiteRT.js as in Python: headless Chromium, on WASM and on WebGPU.

Runs with ALL_TESTS=1 where LITERT_JS names a folder `node_modules`; see tests/browser/README.md.
"""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from gpu_models import ENCODERS, GENERATORS

from tfx_transformer.export.compare_gpu import difference, values
from tfx_transformer.export.converter import Converter
from tfx_transformer.export.to_litert import Conversion
from tfx_transformer.generation.options import GenerationOptions
from tfx_transformer.runtime.causal import CausalEngine
from tfx_transformer.runtime.seq2seq import Seq2SeqEngine
from tfx_transformer.runtime.signature import Signature, compile_file

HERE = Path(__file__).parent / "browser"
sys.path.insert(0, str(HERE))
import chromium  # noqa: E402

VERSIONS = json.loads((HERE / "package.json").read_text())["dependencies"]
VERSIONS.pop("axe-core")  # only pages need it
GENERATE = ("translator", "gpt", "llama")
MODELS = (*GENERATE, "texts", "patches", "embedder")
PROMPTS, STEPS = 10, 9

# The build of LiteRT.js, how it compiles, and flags of Chromium.
WASM = {"accelerator": "wasm"}
WEBGPU = {"accelerator": "webgpu", "gpuOptions": {"precision": "fp32"}}
WAYS = {
    "wasm": ({}, WASM, ()),
    "threads": ({"threads": True}, WASM, ()),
    "webgpu": ({}, WEBGPU, chromium.SWIFTSHADER),
    "jspi": ({"jspi": True}, WEBGPU, chromium.SWIFTSHADER),
}


def missing() -> str | None:
    """Why nothing can be tried."""
    if chromium.executable() is None:
        return f"none of {', '.join(chromium.NAMES)} is installed"
    if "LITERT_JS" not in os.environ:
        return "LITERT_JS names no folder node_modules: see tests/browser/README.md"
    for name, version in VERSIONS.items():
        file = Path(os.environ["LITERT_JS"], name, "package.json")
        if not file.is_file() or json.loads(file.read_text())["version"] != version:
            return f"{file} is not of {name} {version}"
    return None


WHY_NOT = missing()
pytestmark = [pytest.mark.slow, pytest.mark.skipif(WHY_NOT is not None, reason=WHY_NOT or "")]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The folder of the files, as float32 and as int8, and the settings of each model."""
    folder = tmp_path_factory.mktemp("browser")
    configs = {}
    with Converter() as converter:
        for name in MODELS:
            model = (GENERATORS | ENCODERS)[name]()
            configs[name] = model.config
            settings = {"beams": 3} if model.task == "seq2seq" else {"rows": 3}
            files = {None: folder / f"{name}.tflite", "int8": folder / f"{name}.int8.tflite"}
            with Conversion(model, files, converter, **settings):
                pass
    return folder, configs


def inputs_of(file, config):
    """Of every signature, inputs at random by name."""
    request = {
        "vocabulary_size": config.vocabulary_size,
        "padding_id": config.padding_id,
        "context": config.max_sequence_length,
    }
    found = {}
    for signature, (inputs, _) in compile_file(file).signatures.items():
        random = np.random.default_rng(0)
        found[signature] = {
            name: values(name, {"shape": shape, "dtype": np.dtype(kind)}, random, request)
            for name, (kind, shape) in sorted(inputs.items())
        }
    return found


def by_python(file, inputs):
    """All outputs of all signatures."""
    model, found = compile_file(file), {}
    for name in inputs:
        signature = Signature(model, name)
        outputs = signature.run(inputs[name])
        found[name] = {key: signature.read(key, buffer) for key, buffer in outputs.items()}
    return found


def prompts_of(name, config):
    random = np.random.default_rng(3)
    count = PROMPTS if name in GENERATE else 0
    lengths = random.integers(1, config.max_sequence_length - STEPS, count)
    return [random.integers(4, config.vocabulary_size, n).tolist() for n in lengths]


def written_by_python(file, name, config):
    """The answers to the prompts, without what follows their end."""
    engine = (Seq2SeqEngine if name == "translator" else CausalEngine)(file, config)
    options = GenerationOptions(max_new_tokens=STEPS)
    answers = []
    for prompt in prompts_of(name, config):
        (row,) = engine.generate_ids([prompt], options).tolist()
        answers.append(row[: row.index(config.end_id) + 1] if config.end_id in row else row)
    return answers


def asked(name, file, config, inputs):
    """An entry of the request for `page.js`."""
    return {
        "name": file.stem,
        "file": f"/files/{file.name}",
        "signatures": {
            signature: {
                key: [str(array.dtype), array.shape, array.reshape(-1).tolist()]
                for key, array in arrays.items()
            }
            for signature, arrays in inputs.items()
        },
        "prompts": prompts_of(name, config),
        "steps": STEPS,
        "config": {key: getattr(config, key) for key in ("padding_id", "start_id", "end_id")},
    }


def largest_difference(expected, found):
    """Of any output of any signature, relative to its standard deviation in Python."""
    assert found.keys() == expected.keys()
    largest = 0.0
    for signature, outputs in expected.items():
        assert found[signature].keys() == outputs.keys()
        for name, ours in outputs.items():
            theirs = np.array(found[signature][name], "float32")  # what is not a number is null
            assert theirs.size == ours.size, (signature, name)
            largest = max(largest, difference(ours.reshape(-1), theirs))
    return largest


@pytest.mark.parametrize("way", WAYS)
def test_float32_answers_as_in_python(way, exported):
    compare(way, "", exported, bound=1e-2)


def test_int8_answers_as_in_python(exported):
    compare("wasm", ".int8", exported, bound=1e-2)


def test_int8_differs_on_webgpu_by_what_python_rounds(exported):
    # In Python, and on WASM, activations are rounded to 8 bits too; on WebGPU they are not.
    compare("webgpu", ".int8", exported, bound=0.3, greedy=False)


def compare(way, suffix, exported, bound, greedy=True):
    """Runs all models in the browser and holds what they answer to what Python does."""
    folder, configs = exported
    load, options, flags = WAYS[way]
    files = {name: folder / f"{name}{suffix}.tflite" for name in MODELS}
    inputs = {name: inputs_of(file, configs[name]) for name, file in files.items()}
    models = [asked(name, files[name], configs[name], inputs[name]) for name in MODELS]
    request = {"load": load, "options": options, "models": models}
    report = chromium.run(Path(os.environ["LITERT_JS"]), folder, request, flags)
    on_webgpu = options is WEBGPU
    assert (report.device == "google swiftshader") == on_webgpu, report.console
    largest = {}
    for name, file in files.items():
        found, config = report.answers[file.stem], configs[name]
        assert found["accelerator"] == options["accelerator"], report.console
        assert found["whole"] or not on_webgpu, report.console
        largest[name] = largest_difference(by_python(file, inputs[name]), found["outputs"])
        if name in GENERATE and greedy:
            expected = written_by_python(file, name, config)
            assert found["answers"] == expected, name
            assert len({tuple(ids) for ids in expected}) > PROMPTS / 2, "answers differ"
        times = "compiled in {:.2f} s, ran for {:.2f} s".format(*found["seconds"])
        print(f"{way} {file.name}: {largest[name]:.1e}; {times}")
    assert max(largest.values()) < bound, largest
