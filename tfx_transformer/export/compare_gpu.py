"""The process that compares a TFLite file on a GPU with itself on the CPU: reads one JSON request
from standard input and writes one JSON answer. LiteRT says the rest on standard error."""

import json
import sys

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.compiled_model import CompiledModel
from ai_edge_litert.hardware_accelerator import HardwareAccelerator
from ai_edge_litert.options import Options

# Of a prompt, a cache or a text: how many tokens are there.
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
    """Return how many all signatures have together."""
    with open(file, "rb") as stream:
        model = schema.Model.GetRootAs(stream.read(), 0)
    graphs = (model.Subgraphs(index) for index in range(model.SubgraphsLength()))
    return sum(graph.OperatorsLength() for graph in graphs)


def difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The largest, relative to the standard deviation of ours; huge if one is not a number."""
    if not np.isfinite(theirs).all():
        return 1e9
    return float(np.abs(ours - theirs).max() / max(ours.std(), 1e-3))


def run(model, signature: str, request: dict) -> list[np.ndarray]:
    """All outputs, for inputs at random that are the same each time."""
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
    """An input such as generation gives: token ids, positions, caches, images."""
    shape = tuple(details["shape"])
    if "tokens" in name or "token_ids" in name:
        ids = random.integers(0, request["vocabulary_size"], shape).astype("int32")
        ids[:, _TOKENS:] = np.where(random.random() < 0.5, request["padding_id"], ids[:, _TOKENS:])
        return ids
    if name == "images":
        return random.uniform(0, 255, shape).astype("float32")
    if name == "rows":  # each beam continues another one
        return np.arange(shape[0], dtype="int32")[::-1].copy()
    if name == "input_pos":  # one after the other in a prefill; of many texts each its own
        start = _TOKENS if shape[0] + _TOKENS < request["context"] else 0
        return start + np.arange(shape[0], dtype="int32")
    if np.issubdtype(details["dtype"], np.integer):
        return np.full(shape, _TOKENS, "int32")
    return random.normal(size=shape).astype("float32")


if __name__ == "__main__":
    main()
