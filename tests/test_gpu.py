"""Exported files answer on a GPU as on the CPU. SwiftShader, a Vulkan in software, will do."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from gpu_models import ENCODERS, GENERATORS, T5
from slow import ALL_TESTS
from tiny_models import (
    VARIANTS,
    tiny_causal,
    tiny_config,
    tiny_encoder,
    tiny_model,
)

from tfx_transformer.export import verify_gpu
from tfx_transformer.export.to_litert import convert
from tfx_transformer.models.encoders import Embedder

DRIVER = "/usr/lib/chromium/vk_swiftshader_icd.json"
SENTENCES = 100 if ALL_TESTS else 4
# Widths that are mostly not multiples of 4, 8 or 16, each with other parts of a model.
WIDE = {"num_layers": 1, "hidden_dim": 48, "intermediate_dim": 53, "max_sequence_length": 23}
ODD = {"num_layers": 1, "hidden_dim": 33, "intermediate_dim": 47, "vocabulary_size": 211}
LLAMA = WIDE | VARIANTS["llama"]
CAUSAL_WIDTHS = {
    **{
        f"heads of {width}": LLAMA | {"num_heads": 6, "num_key_value_heads": 3, "head_dim": width}
        for width in (6, 10, 12, 20, 24, 40)
    },
    "rotary, a key head for all": WIDE
    | {"num_heads": 5, "num_key_value_heads": 1, "head_dim": 10, "position": "rotary"},
    "features that are not rotated": WIDE
    | {"num_heads": 6, "position": "rotary", "rotary_dim": 2, "parallel_residual": True},
    "learned": ODD | {"num_heads": 3, "position": "learned"},
    "relative": ODD | {"num_heads": 3, "position": "relative", "max_sequence_length": 31},
    "sinusoidal": WIDE | {"num_heads": 2, "hidden_dim": 50, "vocabulary_size": 997},
    "a window, query and key norm": LLAMA
    | {"num_heads": 4, "num_key_value_heads": 2, "query_key_norm": True, "sliding_window": 7},
    "soft caps and sandwich": LLAMA
    | {
        "num_heads": 6,
        "num_key_value_heads": 2,
        "hidden_dim": 36,
        "head_dim": 10,
        "attention_softcap": 3.0,
        "logit_softcap": 5.0,
        "sandwich_norm": True,
        "max_sequence_length": 40,
    },
}
ENCODER_WIDTHS = {
    "relative scores": ODD | {"num_heads": 3, "position": "learned", "relative_scores": True},
    "rotary window": ODD
    | {"num_heads": 3, "head_dim": 6, "position": "rotary", "sliding_window": 4},
    "table of another width": ODD
    | {"num_heads": 3, "position": "learned", "embedding_dim": 23, "num_segments": 2},
    "causal encoder": WIDE
    | {"num_heads": 4, "position": "rotary", "causal_encoder": True, "pooling": "last"},
    "projection": ODD
    | {
        "num_heads": 3,
        "position": "relative",
        "projections": ({"width": 7, "activation": "tanh", "use_bias": True},),
    },
}
SEQ2SEQ_WIDTHS = {
    "T5": T5 | ODD | {"num_heads": 3, "num_key_value_heads": 1, "head_dim": 7},
    "rotary": WIDE | {"num_heads": 4, "num_key_value_heads": 2, "position": "rotary"},
    "fairseq": WIDE | {"num_heads": 4, "hidden_dim": 36, "position": "sinusoidal_fairseq"},
}
WIDTHS = {
    **{
        f"decoder, {n}": lambda s=s: (tiny_causal(**s), {"rows": 3})
        for n, s in CAUSAL_WIDTHS.items()
    },
    **{
        f"encoder, {n}": lambda s=s: (tiny_encoder(Embedder, **s), {})
        for n, s in ENCODER_WIDTHS.items()
    },
    **{
        f"both, {n}": lambda s=s: (tiny_model(**s), {"beams": 3}) for n, s in SEQ2SEQ_WIDTHS.items()
    },
}
# Greedy decoding with two sets of buffers: the runtime's own writes caches in place.
GREEDY = """
import json, sys
import numpy as np
from ai_edge_litert.compiled_model import CompiledModel
from ai_edge_litert.hardware_accelerator import HardwareAccelerator as H
from ai_edge_litert.options import Options

request = json.load(sys.stdin)

def run(model, signature, inputs):
    buffers, outputs = {}, {}
    for name in model.get_input_tensor_details(signature):
        buffers[name] = model.create_input_buffer_by_name(signature, name)
        buffers[name].write(np.ascontiguousarray(inputs[name]))
    details = model.get_output_tensor_details(signature)
    for name in details:
        outputs[name] = model.create_output_buffer_by_name(signature, name)
    model.run_by_name(signature, buffers, outputs)
    shapes = {name: tuple(d["shape"]) for name, d in details.items()}
    return {n: outputs[n].read(int(np.prod(s)), np.float32).reshape(s) for n, s in shapes.items()}

def answer(model, prompt):
    details = model.get_input_tensor_details("decode")
    state = {n: np.zeros(d["shape"], "float32") for n, d in details.items() if "cache" in n}
    ids = list(prompt)
    if "source_length" in details:
        length = request["context"]
        padded = np.array([prompt + [request["padding_id"]] * (length - len(prompt))], "int32")
        memory = run(model, f"encode_{length}", {"encoder_token_ids": padded})
        state |= run(model, "prefill", memory)
        state["source_length"] = np.array([len(prompt)], "int32")
        ids = [request["start_id"]]
    first = len(ids)
    for position in range(first + request["steps"] - 1):
        step = {"tokens": [[ids[position]]], "input_pos": [position]}
        step = {name: np.array(value, "int32") for name, value in step.items()}
        state |= run(model, "decode", state | step)
        if position == len(ids) - 1:
            ids.append(int(state["logits"].argmax()))
    return ids[first:]

accelerators = {"cpu": H.CPU, "gpu": H.GPU | H.CPU}
answers = {}
for name, accelerator in accelerators.items():
    options = Options(hardware_accelerators=accelerator)
    model = CompiledModel.from_file(request["file"], options=options)
    answers[name] = [answer(model, prompt) for prompt in request["prompts"]]
print("\\n" + json.dumps(answers), flush=True)
"""


@pytest.fixture
def swiftshader(monkeypatch):
    if not os.path.isfile(DRIVER):
        pytest.skip(f"no SwiftShader: {DRIVER} comes with Debian's chromium")
    monkeypatch.setenv("VK_ICD_FILENAMES", DRIVER)
    monkeypatch.delenv("VK_DRIVER_FILES", raising=False)


def greedy(file, config, count, steps=9):
    """Answers of the CPU and of the GPU to prompts at random."""
    random = np.random.default_rng(3)
    lengths = random.integers(1, config.max_sequence_length - steps, count)
    request = {
        "file": str(file),
        "prompts": [random.integers(4, config.vocabulary_size, n).tolist() for n in lengths],
        "steps": steps,
        "context": config.max_sequence_length,
        "padding_id": config.padding_id,
        "start_id": config.start_id,
    }
    done = subprocess.run(
        [sys.executable, "-c", GREEDY], input=json.dumps(request), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (answers,) = [line for line in done.stdout.splitlines() if line.startswith("{")]
    return json.loads(answers)


@pytest.mark.slow(but=["translator"])
@pytest.mark.parametrize("kind", GENERATORS)
def test_generators_answer_as_on_the_cpu(kind, swiftshader, tmp_path, monkeypatch):
    model = GENERATORS[kind]()
    settings = {"beams": 3} if model.task == "seq2seq" else {"rows": 3}
    if not ALL_TESTS:
        monkeypatch.setattr("tfx_transformer.export.signatures.DRAFTED", 1 << 30)
    file = tmp_path / "model.tflite"
    convert(model, file, **settings)
    found = verify_gpu.compare_gpu(file, model.config)
    assert found["device"].startswith("SwiftShader")
    assert found["largest_difference"] < 1e-2, found
    assert found["operations_on_cpu"] == 0 < found["operations"]
    answers = greedy(file, model.config, SENTENCES)
    assert answers["gpu"] == answers["cpu"]
    assert len({tuple(ids) for ids in answers["cpu"]}) > SENTENCES / 4, "answers differ"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ENCODERS)
def test_encoders_answer_as_on_the_cpu(kind, swiftshader, tmp_path):
    model = ENCODERS[kind]()
    file = tmp_path / "model.tflite"
    convert(model, file)
    found = verify_gpu.compare_gpu(file, model.config)
    assert found["largest_difference"] < 1e-3, found
    assert found["operations_on_cpu"] == 0 < found["operations"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", WIDTHS)
def test_any_width_is_computed_as_on_the_cpu(kind, swiftshader, tmp_path):
    model, settings = WIDTHS[kind]()
    file = tmp_path / "model.tflite"
    convert(model, file, **settings)
    found = verify_gpu.compare_gpu(file, model.config)
    assert found["largest_difference"] < 1e-2, found
    assert found["operations_on_cpu"] == 0 < found["operations"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["translator", "llama", "gpt", "texts", "embedder"])
def test_int8_differs_by_what_the_cpu_rounds(kind, swiftshader, tmp_path):
    # On the CPU activations are rounded to 8 bits too, on the GPU they are not.
    model = (GENERATORS | ENCODERS)[kind]()
    file = tmp_path / "model.tflite"
    convert(model, file, "int8")
    found = verify_gpu.compare_gpu(file, model.config)
    assert 1e-4 < found["largest_difference"] < 0.3, found


# What is said where a GPU is missing, fails, or was not asked for


SOFTWARE = "Selected adapter: SwiftShader Device (Subzero), arch=x, adapterType=CPU / Software\n"
REAL = "Selected adapter: NVIDIA H200, arch=hopper, backend=Vulkan, adapterType=DiscreteGPU\n"
ANSWER = {"whole": False, "operations": 90, "differences": {"decode": 0.25, "prefill": 7.0}}
LEFT = "94 operations will run on the GPU, and the remaining 5 operations will run on the CPU.\n"


@pytest.fixture
def device(monkeypatch, tmp_path):
    """A machine with a GPU, whose process ends as told; the requests that it got."""
    (tmp_path / "dri").mkdir()
    (tmp_path / "dri" / "renderD128").touch()
    monkeypatch.setattr(verify_gpu, "_DEVICES", (tmp_path / "dri" / "renderD128",))
    monkeypatch.delenv("VK_ICD_FILENAMES", raising=False)
    monkeypatch.delenv("VK_DRIVER_FILES", raising=False)
    requests = []

    def ends(status=0, output="", log=""):
        def run(command, input, **options):
            assert options["timeout"] > 0
            requests.append(json.loads(input))
            if status is None:
                raise subprocess.TimeoutExpired(command, options["timeout"])
            return subprocess.CompletedProcess(command, status, output, log)

        monkeypatch.setattr(subprocess, "run", run)
        return requests

    return ends


def compared():
    return verify_gpu.compare_gpu(Path("model.tflite"), tiny_config())


def test_nothing_is_started_without_a_device(device, monkeypatch):
    requests = device()
    monkeypatch.setattr(verify_gpu, "_DEVICES", ("nothing-of-this-name",))
    monkeypatch.setenv("VK_ICD_FILENAMES", "/no/such/driver.json")
    if sys.platform == "linux":
        assert compared() is None and requests == []


def test_what_a_gpu_answered_is_told(device):
    requests = device(0, "INFO: chatter\n" + json.dumps(ANSWER) + "\n", REAL + 2 * LEFT)
    found = compared()
    assert found == {
        "device": "NVIDIA H200",
        "largest_difference": 7.0,
        "signature": "prefill",
        "operations_on_cpu": 10,
        "operations": 90,
    }
    assert verify_gpu.sentence(found) == (
        "on NVIDIA H200 it answers OTHERWISE than on the CPU: outputs differ by at most 7.0e+00 of "
        "their deviation; 10 of 90 operations stay on the CPU"
    )
    assert requests[0]["vocabulary_size"] == 23
    few = {**found, "largest_difference": 2e-6, "operations_on_cpu": 0}
    assert verify_gpu.sentence(few) == (
        "on NVIDIA H200 it answers as on the CPU: outputs differ by at most 2.0e-06 of their "
        "deviation; 0 of 90 operations stay on the CPU"
    )


def test_a_driver_in_software_is_used_only_where_it_is_named(device, monkeypatch, tmp_path):
    device(0, json.dumps(ANSWER), SOFTWARE)
    assert compared() is None
    (tmp_path / "driver.json").touch()
    monkeypatch.setenv("VK_ICD_FILENAMES", str(tmp_path / "driver.json"))
    assert compared()["device"] == "SwiftShader Device (Subzero)"


def test_a_machine_without_a_driver_says_nothing(device):
    device(1, "", "Failed to initialize WebGPU environment: INTERNAL: No adapters found\n")
    assert compared() is None


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (None, "no answer within 180 seconds"),
        (-11, "the driver ended the process with signal 11"),
        (1, "RuntimeError: no memory"),
    ],
)
def test_a_driver_that_fails_is_told_and_ends_nothing(device, status, said):
    device(status, "", REAL + "Traceback:\nRuntimeError: no memory\nINFO: bye\n")
    found = compared()
    assert said in found["error"]
    assert said in verify_gpu.sentence(found)
