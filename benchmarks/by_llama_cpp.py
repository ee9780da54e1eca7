"""Models of `generate` and `llama_shape` in llama.cpp, by the package llama-cpp-python."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from benchmarks import shapes
from benchmarks.engines import Step, counted
from benchmarks.tables import Settings

LLAMA = ("llama-cpp-python", "gguf", "torch", "transformers")

# Hugging Face's names of a block's parts of GPT-2, and those in a GGUF file.
_GGUF_NAMES = {
    "ln_1": "attn_norm",
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "ln_2": "ffn_norm",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
}


def gguf_file(folder: Path, shape: shapes.GPT, kind: str) -> Path:
    """GPT-2 as GGUF; matrices are "f32", "q8_0" or "q4_0"."""
    from safetensors.numpy import load_file

    file = folder.with_name(f"{folder.name}-{kind}.gguf")
    if file.exists():
        return file
    weights = load_file(str(folder / "model.safetensors"))
    fields = {
        "block_count": shape.layers,
        "context_length": shape.positions,
        "embedding_length": shape.width,
        "feed_forward_length": 4 * shape.width,
        "head_count": shape.heads,
        "layer_norm_eps": 1e-5,
        "vocab_size": shape.vocabulary,
    }

    def tensors() -> Iterator[tuple[str, np.ndarray]]:
        def read(source: str, transposed: bool = False) -> np.ndarray:
            array = weights[f"transformer.{source}"]
            return np.ascontiguousarray(array.T if transposed else array)

        yield "token_embd.weight", read("wte.weight")
        yield "position_embd.weight", read("wpe.weight")
        yield "output.weight", read("wte.weight")
        for part in ("weight", "bias"):
            yield f"output_norm.{part}", read(f"ln_f.{part}")
            for block in range(shape.layers):
                for source, name in _GGUF_NAMES.items():
                    matrix = part == "weight" and not source.startswith("ln")
                    array = read(f"h.{block}.{source}.{part}", transposed=matrix)
                    yield f"blk.{block}.{name}.{part}", array

    return write_gguf(file, "gpt2", fields, tensors(), kind)


def write_gguf(
    file: Path,
    architecture: str,
    fields: dict[str, float],
    tensors: Iterable[tuple[str, np.ndarray]],
    kind: str,
) -> Path:
    """Write a model without a tokenizer as GGUF.

    Args:
        fields: of the architecture, by the ends of `GGUFWriter.add_...`.
        tensors: name and float32 values of each; matrices but those of positions get `kind`.
        kind: "f32", "q8_0" or "q4_0".
    """
    import gguf
    from gguf.quants import quantize

    type_ = gguf.GGMLQuantizationType[kind.upper()]
    writer = gguf.GGUFWriter(file.with_suffix(".part"), architecture)
    for name, value in fields.items():
        getattr(writer, f"add_{name}")(value)
    writer.add_tokenizer_model("no_vocab")
    for name, array in tensors:
        if array.ndim == 1 or name == "position_embd.weight":
            writer.add_tensor(name, array)
        else:
            writer.add_tensor(name, quantize(array, type_), raw_dtype=type_)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file.with_suffix(".part").rename(file)


def llama_generator(
    settings: Settings, folder: Path, prompts: np.ndarray, new: int, kind: str
) -> Step:
    """llama.cpp, greedy, on a GGUF of Hugging Face's GPT-2."""
    file = gguf_file(folder, shapes.GPTS[settings["gpt"]], kind)
    return counted(greedy(settings, file, prompts, new), (len(prompts), new))


def greedy(
    settings: Settings, file: Path, prompts: np.ndarray, new: int
) -> Callable[[], np.ndarray]:
    """Return a function that writes ids after prompts of one length: int32 (rows, new).

    The cache is float16, or float32 for float32 weights. It has 64 slots more than it needs: a step
    reads those that are filled.
    """
    import llama_cpp

    rows, prompt = prompts.shape
    llama_cpp.llama_backend_init()
    options = llama_cpp.llama_model_default_params()
    options.n_gpu_layers = 0
    model = llama_cpp.llama_model_load_from_file(str(file).encode(), options)
    vocabulary = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
    options = llama_cpp.llama_context_default_params()
    options.n_ctx = (prompt + new + 64) * rows
    options.n_batch = options.n_ubatch = prompt * rows
    options.n_seq_max = rows
    options.n_threads = options.n_threads_batch = settings["threads"]
    if file.stem.endswith("f32"):
        options.type_k = options.type_v = llama_cpp.GGML_TYPE_F32
    context = llama_cpp.llama_init_from_model(model, options)
    assert context, "llama.cpp made no context"
    memory = llama_cpp.llama_get_memory(context)
    batch = llama_cpp.llama_batch_init(prompt * rows, 0, 1)

    def decode(ids: np.ndarray, begin: int) -> np.ndarray:
        """The most probable next id of each row: (rows, 1)."""
        columns = ids.shape[1]
        for place, ((row, column), number) in enumerate(np.ndenumerate(ids)):
            batch.token[place], batch.pos[place] = int(number), begin + column
            batch.n_seq_id[place], batch.seq_id[place][0] = 1, row
            batch.logits[place] = column == columns - 1
        batch.n_tokens = ids.size
        assert llama_cpp.llama_decode(context, batch) == 0
        logits = llama_cpp.llama_get_logits(context)
        return np.ctypeslib.as_array(logits, (rows, vocabulary)).argmax(-1)[:, None]

    def write() -> np.ndarray:
        llama_cpp.llama_memory_clear(memory, True)
        written = [decode(prompts, 0)]
        for place in range(new - 1):
            written.append(decode(written[-1], prompt + place))
        return np.concatenate(written, axis=1)

    return write
