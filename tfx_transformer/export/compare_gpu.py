"""The process that compares a TFLite file on a GPU with the same file on the CPU: it reads a JSON
request from standard input and writes a JSON answer. LiteRT logs to standard error."""

import json
import sys

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.compiled_model import CompiledModel
from ai_edge_litert.hardware_accelerator import HardwareAccelerator
from ai_edge_litert.options import Options

# Tokens of a prompt, a cache or a text.
_TOKENS = 5


def main() -> None:
    request = json.load(sys.stdin)
    cpu, gpu = HardwareAccelerator.CPU, HardwareAccelerator.GPU | HardwareAccelerator.CPU
    models = [
        CompiledModel.from_file(request["file"], options=Options(hardware_accelerators=where))
        for where in (cpu, gpu)
    ]
    largest = {}
    for signature in models[0].get_signature_list():
        by_cpu, by_gpu = (run(model, signature, request) for model in models)
        largest[signature] = max(map(difference, by_cpu, by_gpu))
    answer = {
        "whole": models[1].is_fully_accelerated(),
        "operations": operations(request["file"]),
        "differences": largest,
    }
    print("\n" + json.dumps(answer), flush=True)


def operations(file: str) -> int:
    """Return the number of operations of all signatures together."""
    with open(file, "rb") as stream:
        model = schema.Model.GetRootAs(stream.read(), 0)
    graphs = (model.Subgraphs(index) for index in range(model.SubgraphsLength()))
    return sum(graph.OperatorsLength() for graph in graphs)


def difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Return the largest difference, in standard deviations of ours; 1e9 if theirs has a number
    that is not finite."""
    if not np.isfinite(theirs).all():
        return 1e9
    return float(np.abs(ours - theirs).max() / max(ours.std(), 1e-3))


def run(model, signature: str, request: dict) -> list[np.ndarray]:
    """Return all outputs of a signature for random inputs, the same each time."""
    random, inputs, outputs = np.random.default_rng(0), {}, {}
    for name, details in sorted(model.get_input_tensor_details(signature).items()):
        inputs[name] = model.create_input_buffer_by_name(signature, name)
        inputs[name].write(values(name, details, random, request))
    all_details = sorted(model.get_output_tensor_details(signature).items())
    for name, _ in all_details:
        outputs[name] = model.create_output_buffer_by_name(signature, name)
    model.run_by_name(signature, inputs, outputs)
    return [outputs[n].read(int(np.prod(d["shape"])), np.float32) for n, d in all_details]


def values(name: str, details: dict, random, request: dict) -> np.ndarray:
    """Return an input as generation makes it: token ids, positions, caches or images."""
    shape = tuple(details["shape"])
    if "tokens" in name or "token_ids" in name:
        ids = random.integers(0, request["vocabulary_size"], shape).astype("int32")
        ids[:, _TOKENS:] = np.where(random.random() < 0.5, request["padding_id"], ids[:, _TOKENS:])
        return ids
    if name == "images":
        return random.uniform(0, 255, shape).astype("float32")
    if name == "rows":  # each beam continues another one
        return np.arange(shape[0], dtype="int32")[::-1].copy()
    if name == "input_pos":  # consecutive in a prefill, one for each text in a decode step
        start = _TOKENS if shape[0] + _TOKENS < request["context"] else 0
        return start + np.arange(shape[0], dtype="int32")
    if np.issubdtype(details["dtype"], np.integer):
        return np.full(shape, 0 if name == "row" else _TOKENS, "int32")
    return random.normal(size=shape).astype("float32")


if __name__ == "__main__":
    main()
