"""A Llama in a GGUF file as a folder of transformers: enough of the format for SmolLM2.

https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Q4_1: of every 32 numbers a factor d and
a least value m, float16, and 4 bits each: x = d q + m.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

_SCALARS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}
_STRING, _ARRAY = 8, 9
_F32, _F16, _Q4_1, _Q8_0, _Q6_K = 0, 1, 3, 8, 14
_ALIGNMENT = 32

_BLOCK = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data, self.place = data, 0

    def number(self, kind: str) -> Any:
        (value,) = struct.unpack_from("<" + kind, self.data, self.place)
        self.place += struct.calcsize("<" + kind)
        return value

    def text(self) -> str:
        length = self.number("Q")
        self.place += length
        return self.data[self.place - length : self.place].decode("utf-8")

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.text()
        if kind == _ARRAY:
            inner, count = self.number("I"), self.number("Q")
            return [self.value(inner) for _ in range(count)]
        return self.number(_SCALARS[kind])


def read_gguf(file: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The settings of a GGUF file, and its tensors as float32."""
    reader = _Reader(file.read_bytes())
    if reader.data[:4] != b"GGUF":
        raise ValueError(f"{file} is not a GGUF file")
    reader.place = 8
    count, pairs = reader.number("Q"), reader.number("Q")
    settings = {reader.text(): reader.value(reader.number("I")) for _ in range(pairs)}
    listed = []
    for _ in range(count):
        name, dimensions = reader.text(), reader.number("I")
        shape = [reader.number("Q") for _ in range(dimensions)][::-1]
        listed.append((name, shape, reader.number("I"), reader.number("Q")))
    begin = -(-reader.place // _ALIGNMENT) * _ALIGNMENT
    return settings, {n: _numbers(reader.data, s, k, begin + at) for n, s, k, at in listed}


def _numbers(data: bytes, shape: list[int], kind: int, at: int) -> np.ndarray:
    count = int(np.prod(shape))
    if kind in (_F32, _F16):
        numbers = np.frombuffer(data, "<f4" if kind == _F32 else "<f2", count, at)
    elif kind == _Q4_1:
        blocks = np.frombuffer(data, "u1", count // 32 * 20, at).reshape(-1, 20)
        scale, least = (blocks[:, i : i + 2].copy().view("<f2").astype("f4") for i in (0, 2))
        quarters = np.concatenate([blocks[:, 4:] & 15, blocks[:, 4:] >> 4], axis=1)
        numbers = scale * quarters + least
    elif kind == _Q8_0:
        blocks = np.frombuffer(data, "u1", count // 32 * 34, at).reshape(-1, 34)
        scale = blocks[:, :2].copy().view("<f2").astype("f4")
        numbers = scale * blocks[:, 2:].view("i1")
    elif kind == _Q6_K:
        numbers = _six_bits(np.frombuffer(data, "u1", count // 256 * 210, at).reshape(-1, 210))
    else:
        raise ValueError(f"tensors of type {kind} are not read here")
    return np.asarray(numbers, "float32").reshape(shape)


def _six_bits(blocks: np.ndarray) -> np.ndarray:
    """Q6_K: 256 numbers of 6 bits, 16 factors of 8 bits, one of float16 for all."""
    low, high = blocks[:, :128].reshape(-1, 2, 64), blocks[:, 128:192].reshape(-1, 2, 32)
    factors = blocks[:, 192:208].copy().view("i1").astype("f4")
    scale = blocks[:, 208:].copy().view("<f2").astype("f4")
    first, second = low[:, :, :32], low[:, :, 32:]
    quarters = [
        (first & 15) | ((high & 3) << 4),
        (second & 15) | (((high >> 2) & 3) << 4),
        (first >> 4) | (((high >> 4) & 3) << 4),
        (second >> 4) | (((high >> 6) & 3) << 4),
    ]
    numbers = np.stack(quarters, axis=2).reshape(-1, 256).astype("f4") - 32
    return numbers * np.repeat(scale * factors, 16, axis=1)


def _halves(kernel: np.ndarray, heads: int) -> np.ndarray:
    """Rows of a query or key kernel as transformers has them: GGUF has the two numbers that are
    turned together side by side, transformers half a head apart."""
    rows = kernel.shape[0]
    pairs = kernel.reshape(heads, rows // heads // 2, 2, -1)
    return pairs.swapaxes(1, 2).reshape(rows, -1)


def write_smollm2(file: Path, folder: Path) -> Path:
    """Writes config.json and model.safetensors of a Llama in a GGUF file; returns the folder."""
    settings, tensors = read_gguf(file)
    of = {name.removeprefix("llama."): value for name, value in settings.items()}
    heads, key_heads = of["attention.head_count"], of["attention.head_count_kv"]
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": tensors["token_embd.weight"].shape[0],
        "hidden_size": of["embedding_length"],
        "num_hidden_layers": of["block_count"],
        "num_attention_heads": heads,
        "num_key_value_heads": key_heads,
        "intermediate_size": of["feed_forward_length"],
        "max_position_embeddings": of["context_length"],
        "rms_norm_eps": of["attention.layer_norm_rms_epsilon"],
        "rope_theta": of["rope.freq_base"],
        "tie_word_embeddings": "output.weight" not in tensors,
        "bos_token_id": settings["tokenizer.ggml.bos_token_id"],
        "eos_token_id": settings["tokenizer.ggml.eos_token_id"],
    }
    theirs = {"model.embed_tokens.weight": tensors["token_embd.weight"]}
    theirs["model.norm.weight"] = tensors["output_norm.weight"]
    for index in range(of["block_count"]):
        for part, name in _BLOCK.items():
            kernel = tensors[f"blk.{index}.{part}.weight"]
            if part in ("attn_q", "attn_k"):
                kernel = _halves(kernel, heads if part == "attn_q" else key_heads)
            theirs[f"model.layers.{index}.{name}.weight"] = np.ascontiguousarray(kernel)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    safetensors.numpy.save_file(theirs, folder / "model.safetensors", {"format": "pt"})
    return folder
