"""Models of `generate` and `encoder` in ONNX Runtime.

Not measured: a cache that its operations extend in place (onnxruntime-genai). Here each step copies
the cache twice, which costs more the more texts run together.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import shapes
from benchmarks.engines import Step, counted
from benchmarks.tables import Settings

ONNX_RUNTIME = ("onnxruntime", "onnx", "onnxscript", "torch", "transformers")


def _onnx_step(folder: Path, shape: shapes.GPT):
    """A module: ids (rows, new), past keys and values -> the next id, keys and values."""
    import torch
    import transformers

    model = transformers.GPT2LMHeadModel.from_pretrained(folder).eval()
    size = (shape.heads, shape.width // shape.heads)

    class Step(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, ids, keys, values):
            body = self.model.transformer
            rows, count = ids.shape
            place = torch.arange(keys.shape[3], keys.shape[3] + count)
            hidden = body.wte(ids) + body.wpe(place)
            seen = torch.arange(keys.shape[3] + count)[None] <= place[:, None]
            all_keys, all_values = [], []
            for number, block in enumerate(body.h):
                parts = block.attn.c_attn(block.ln_1(hidden)).view(rows, count, 3, *size)
                query, key, value = parts.permute(2, 0, 3, 1, 4)
                key = torch.cat([keys[number], key], 2)
                value = torch.cat([values[number], value], 2)
                all_keys.append(key)
                all_values.append(value)
                scores = query @ key.transpose(-1, -2) * size[1] ** -0.5
                found = torch.softmax(scores.masked_fill(~seen, -1e9), -1) @ value
                found = found.transpose(1, 2).reshape(rows, count, shape.width)
                hidden = hidden + block.attn.c_proj(found)
                hidden = hidden + block.mlp(block.ln_2(hidden))
            logits = self.model.lm_head(body.ln_f(hidden[:, -1]))
            return logits.argmax(-1, keepdim=True), torch.stack(all_keys), torch.stack(all_values)

    return Step().eval()


def onnx_file(folder: Path, shape: shapes.GPT, kind: str) -> Path:
    """The step as an ONNX file; "int8" has dynamic ranges and a scale for each column."""
    import torch

    file = folder.with_name(f"{folder.name}.onnx")
    if not file.exists():
        rows, count, past = (torch.export.Dim(name) for name in ("rows", "count", "past"))
        cache = torch.zeros(shape.layers, 2, shape.heads, 5, shape.width // shape.heads)
        unfinished = file.with_suffix(".part")
        torch.onnx.export(
            _onnx_step(folder, shape),
            (torch.zeros(2, 3, dtype=torch.long), cache, cache.clone()),
            unfinished,
            dynamo=True,
            external_data=False,
            input_names=["ids", "keys", "values"],
            output_names=["next", "all_keys", "all_values"],
            dynamic_shapes=({0: rows, 1: count}, {1: rows, 3: past}, {1: rows, 3: past}),
        )
        unfinished.rename(file)
    return file if kind == "float32" else _in_int8(file)


def _in_int8(file: Path) -> Path:
    """The file with matrices in int8; fused operations return floats."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    smaller = file.with_name(f"{file.stem}-int8.onnx")
    if not smaller.exists():
        unfinished = smaller.with_suffix(".part")
        quantize_dynamic(
            file,
            unfinished,
            weight_type=QuantType.QInt8,
            per_channel=True,
            extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
        )
        unfinished.rename(smaller)
    return smaller


def onnx_session(settings: Settings, file: Path):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = settings["threads"]
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def onnx_generator(
    settings: Settings, folder: Path, prompts: np.ndarray, new: int, kind: str
) -> Step:
    """ONNX Runtime, greedy; the outputs of a step are the inputs of the next one as they are."""
    import onnxruntime

    shape = shapes.GPTS[settings["gpt"]]
    session = onnx_session(settings, onnx_file(folder, shape, kind))
    empty = (shape.layers, len(prompts), shape.heads, 0, shape.width // shape.heads)
    as_value = onnxruntime.OrtValue.ortvalue_from_numpy
    begin = (as_value(prompts.astype(np.int64)), *(as_value(np.zeros(empty, "f")),) * 2)

    def write() -> np.ndarray:
        inputs, written = begin, []
        binding = session.io_binding()
        for _ in range(new):
            for name, value in zip(("ids", "keys", "values"), inputs, strict=True):
                binding.bind_ortvalue_input(name, value)
            for name in ("next", "all_keys", "all_values"):
                binding.bind_output(name, "cpu")
            session.run_with_iobinding(binding)
            inputs = binding.get_outputs()
            written.append(inputs[0].numpy())
        return np.concatenate(written, axis=1)

    return counted(write, (len(prompts), new))


def onnx_encoder(
    settings: Settings, new_model: Callable[[], Any], name: str, ids: np.ndarray, kind: str
) -> Step:
    """BERT in ONNX Runtime, with the fused operations of its optimizer."""
    import torch
    from onnxruntime.transformers import optimizer

    file = shapes.work_file(settings, f"{name}.onnx")
    if not file.exists():
        shapes.torch_with(settings["threads"])
        model = new_model().eval()

        class Hidden(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.model = model

            def forward(self, ids, mask):
                return self.model(input_ids=ids, attention_mask=mask).last_hidden_state

        plain = file.with_suffix(".plain")
        torch.onnx.export(
            Hidden().eval(),
            (torch.zeros(2, 16, dtype=torch.long), torch.ones(2, 16, dtype=torch.long)),
            plain,
            dynamo=False,
            input_names=["ids", "mask"],
            output_names=["hidden"],
            dynamic_axes=dict.fromkeys(("ids", "mask", "hidden"), {0: "rows", 1: "tokens"}),
        )
        heads, width = model.config.num_attention_heads, model.config.hidden_size
        optimizer.optimize_model(
            str(plain), model_type="bert", num_heads=heads, hidden_size=width, opt_level=1
        ).save_model_to_file(str(file.with_suffix(".part")))
        file.with_suffix(".part").rename(file)
    session = onnx_session(settings, file if kind == "float32" else _in_int8(file))
    inputs = {"ids": ids.astype(np.int64), "mask": np.ones(ids.shape, np.int64)}

    def step() -> int:
        assert session.run(["hidden"], inputs)[0].shape[:2] == ids.shape
        return len(ids)

    return step
