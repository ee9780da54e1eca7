"""Models of `generate`, `translate` and `encoder` in ONNX Runtime, CTranslate2 and llama.cpp.

Each is Hugging Face's model of the same shape with random weights, converted once; the files are
kept in the folder `work` of the settings. A step writes as many tokens as those of our engines.

Not measured: ONNX Runtime with a cache that its operations extend in place (onnxruntime-genai).
Here each step copies the cache twice, which costs more the more texts run together.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import shapes
from benchmarks.tables import Settings, System

Step = Callable[[], int]
CTRANSLATE2 = ("ctranslate2", "torch", "transformers")
LLAMA = ("llama-cpp-python", "gguf", "torch", "transformers")
ONNX_RUNTIME = ("onnxruntime", "onnx", "onnxscript", "torch", "transformers")


def pretrained_folder(settings: Settings, name: str, new_model: Callable[[], Any]) -> Path:
    """The folder of a model of Hugging Face, written once."""
    folder = shapes.work_file(settings, name)
    if not (folder / "model.safetensors").exists():  # which is written last
        shapes.torch_with(settings["threads"])
        new_model().save_pretrained(folder)
    return folder


def word(number: int) -> str:
    """The name of an id: CTranslate2 reads names."""
    return f"w{number}"


# CTranslate2


class _Words:
    """The part of a tokenizer that CTranslate2's converter reads; ids have made-up names."""

    unk_token, bos_token, eos_token, pad_token = word(0), word(1), word(1), "<pad>"
    additional_special_tokens: tuple[str, ...] = ()
    special_tokens_map: dict[str, str] = {}

    def __init__(self, vocabulary: int, padded: bool) -> None:
        self.names = [word(number) for number in range(vocabulary)]
        if padded:
            self.names[-1] = self.pad_token

    def get_vocab(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self.names)}


def ctranslate2_folder(folder: Path, vocabulary: int, kind: str, padded: bool = False) -> str:
    """The folder of the converted model.

    Args:
        kind: "float32" or "int8".
        padded: the last id is padding, as in Marian.
    """
    from ctranslate2.converters import TransformersConverter

    class Converter(TransformersConverter):
        def load_tokenizer(self, *_args, **_options):
            return _Words(vocabulary, padded)

    converted = folder.with_name(f"{folder.name}-ctranslate2-{kind}")
    if not converted.exists():
        unfinished = converted.with_suffix(".part")
        Converter(str(folder)).convert(str(unfinished), quantization=kind, force=True)
        unfinished.rename(converted)
    return str(converted)


def ctranslate2_systems(build: Callable[..., Step]) -> tuple[System, ...]:
    """The rows of CTranslate2; in int8 also with one thread, which may be faster on small models.

    Args:
        build: makes a step of the settings and `kind`, "float32" or "int8".
    """
    rows = (
        ("int8", "int8, 1 thread", functools.partial(_with_one_thread, build, "int8")),
        ("all-int8", "int8", functools.partial(build, kind="int8")),
        ("float32", "float32", functools.partial(build, kind="float32")),
    )
    return tuple(
        System(f"ctranslate2-{name}", f"CTranslate2 {title}", row, CTRANSLATE2)
        for name, title, row in rows
    )


def _with_one_thread(build: Callable[..., Step], kind: str, settings: Settings) -> Step:
    return build({**settings, "threads": 1}, kind=kind)


def ctranslate2_generator(
    settings: Settings, folder: Path, prompts: np.ndarray, new: int, kind: str
) -> Step:
    """CTranslate2's generator, greedy."""
    import ctranslate2

    vocabulary = shapes.GPTS[settings["gpt"]].vocabulary
    generator = ctranslate2.Generator(
        ctranslate2_folder(folder, vocabulary, kind),
        compute_type=kind,
        intra_threads=settings["threads"],
    )
    given = [[word(number) for number in row] for row in prompts]

    def step() -> int:
        written = generator.generate_batch(
            given, max_length=new, min_length=new, include_prompt_in_result=False, end_token=[]
        )
        assert all(len(text.sequences_ids[0]) == new for text in written)
        return len(given) * new

    return step


def ctranslate2_translator(
    settings: Settings, folder: Path, sources: np.ndarray, new: int, vocabulary: int, kind: str
) -> Step:
    """CTranslate2's translator of a Marian model, with the beams of the settings."""
    import ctranslate2

    translator = ctranslate2.Translator(
        ctranslate2_folder(folder, vocabulary, kind, padded=True),
        compute_type=kind,
        intra_threads=settings["threads"],
    )
    given = [[word(number) for number in row] for row in sources]
    length = {"max_decoding_length": new, "min_decoding_length": new}

    def step() -> int:
        written = translator.translate_batch(given, beam_size=settings["beams"], **length)
        assert all(len(text.hypotheses[0]) == new for text in written)
        return len(given) * new

    return step


# llama.cpp

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
    import gguf
    from gguf.quants import quantize
    from safetensors.numpy import load_file

    file = folder.with_name(f"{folder.name}-{kind}.gguf")
    if file.exists():
        return file
    type_ = gguf.GGMLQuantizationType[kind.upper()]
    weights = load_file(str(folder / "model.safetensors"))
    writer = gguf.GGUFWriter(file.with_suffix(".part"), "gpt2")
    writer.add_block_count(shape.layers)
    writer.add_context_length(shape.positions)
    writer.add_embedding_length(shape.width)
    writer.add_feed_forward_length(4 * shape.width)
    writer.add_head_count(shape.heads)
    writer.add_layer_norm_eps(1e-5)
    writer.add_vocab_size(shape.vocabulary)
    writer.add_tokenizer_model("no_vocab")

    def add(name: str, source: str, transposed: bool = False) -> None:
        array = weights[f"transformer.{source}"]
        array = np.ascontiguousarray(array.T if transposed else array)
        if array.ndim == 1 or name == "position_embd.weight":
            writer.add_tensor(name, array)
        else:
            writer.add_tensor(name, quantize(array, type_), raw_dtype=type_)

    add("token_embd.weight", "wte.weight")
    add("position_embd.weight", "wpe.weight")
    add("output.weight", "wte.weight")
    for part in ("weight", "bias"):
        add(f"output_norm.{part}", f"ln_f.{part}")
        for block in range(shape.layers):
            for source, name in _GGUF_NAMES.items():
                matrix = part == "weight" and not source.startswith("ln")
                add(f"blk.{block}.{name}.{part}", f"h.{block}.{source}.{part}", transposed=matrix)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file.with_suffix(".part").rename(file)


def llama_generator(
    settings: Settings, folder: Path, prompts: np.ndarray, new: int, kind: str
) -> Step:
    """llama.cpp, greedy; a cache in float16, or float32 for float32 weights."""
    import llama_cpp

    shape, (rows, prompt) = shapes.GPTS[settings["gpt"]], prompts.shape
    llama_cpp.llama_backend_init()
    options = llama_cpp.llama_model_default_params()
    options.n_gpu_layers = 0
    file = gguf_file(folder, shape, kind)
    model = llama_cpp.llama_model_load_from_file(str(file).encode(), options)
    options = llama_cpp.llama_context_default_params()
    options.n_ctx = 256 * rows  # a prompt and its answer take 192; a step reads what is filled
    options.n_batch = options.n_ubatch = prompt * rows
    options.n_seq_max = rows
    options.n_threads = options.n_threads_batch = settings["threads"]
    if kind == "f32":
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
        return np.ctypeslib.as_array(logits, (rows, shape.vocabulary)).argmax(-1)[:, None]

    def write() -> np.ndarray:
        llama_cpp.llama_memory_clear(memory, True)
        written = [decode(prompts, 0)]
        for place in range(new - 1):
            written.append(decode(written[-1], prompt + place))
        return np.concatenate(written, axis=1)

    return _counted(write, (rows, new))


# ONNX Runtime


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

    return _counted(write, (len(prompts), new))


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


def _counted(write: Callable[[], np.ndarray], shape: tuple[int, int]) -> Step:
    """The step that writes ids of this shape."""

    def step() -> int:
        assert write().shape == shape
        return shape[0] * shape[1]

    return step
