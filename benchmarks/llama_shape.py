"""Speed of a Llama-shaped model of half a billion parameters.

24 layers of 896, 14 query and 2 key/value heads, gated layers of 4,864, 151,936 tokens in one tied
table, random weights, greedy. A timing is a whole call. `read` takes a prompt of 512 ids and writes
1 (tokens read a second), `write` a prompt of 8 and writes 128, and `both` 512 and 128 (tokens
written a second).

    python -m benchmarks llama_shape --rounds 3

It takes about 20 minutes on 2 cores and 18 GB of memory, most of them to export two files. Expect
memory to limit what is written, and products what is read. `--python llama=/path/to/python` takes
llama.cpp from another environment: see `generate`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np

from benchmarks import by_llama_cpp, shapes
from benchmarks.engines import counted
from benchmarks.generate import BYTES_PER_WEIGHT
from benchmarks.tables import KERAS, OURS, Case, Settings, System

UNIT = "tokens/s"
LAYERS, WIDTH, INNER, HEADS, SHARED, VOCABULARY = 24, 896, 4_864, 14, 2, 151_936
NARROW = WIDTH // HEADS * SHARED
CONTEXT, BASE = 1_024, 1e6
WEIGHTS = LAYERS * (2 * WIDTH * (WIDTH + NARROW) + 3 * WIDTH * INNER) + VOCABULARY * WIDTH

CASES = (
    Case("read", "a prompt of 512 tokens read, 1 written", {"prompt": 512, "new": 1}),
    Case("write", "a prompt of 8 tokens, 128 written", {"prompt": 8, "new": 128}),
    Case("both", "a prompt of 512 tokens, 128 written", {"prompt": 512, "new": 128}),
)


def prompt(settings: Settings) -> np.ndarray:
    """int32 (1, prompt)."""
    return shapes.random_ids(1, settings["prompt"], VOCABULARY, seed=1)


def tokens(settings: Settings) -> int:
    """The tokens that a call counts as: see the module."""
    return settings["new"] if settings["new"] > 1 else settings["prompt"]


def config():
    from tfx_transformer import TransformerConfig

    return TransformerConfig.of_size(
        "tiny",
        VOCABULARY,
        "llama",
        num_layers=LAYERS,
        num_heads=HEADS,
        num_key_value_heads=SHARED,
        hidden_dim=WIDTH,
        intermediate_dim=INNER,
        max_sequence_length=CONTEXT,
        rope_theta=BASE,
        tie_embeddings=True,
        dropout=0.0,
    )


def litert_engine(settings: Settings, variant: str):
    """`CausalEngine` on the exported file, which is made once."""
    from tfx_transformer.generation import GenerationOptions
    from tfx_transformer.runtime.causal import CausalEngine

    file = shapes.work_file(settings, f"llama-shape-{variant}.tflite")
    if not file.exists():
        _export(file, variant)
    engine = CausalEngine(file, config(), threads=settings["threads"])
    engine.hits = None  # see `generate`
    ids, options = prompt(settings), GenerationOptions(max_new_tokens=settings["new"])

    def step() -> int:
        written = engine.generate_ids(ids, options)
        assert written.shape == (1, settings["new"]) and written.min() >= shapes.SPECIAL
        return tokens(settings)

    return step


def _export(file, variant: str) -> None:
    import keras

    from tfx_transformer import CausalLM
    from tfx_transformer.export.to_litert import convert

    keras.utils.set_random_seed(0)
    model = CausalLM(config())
    shapes.never_special(model, 1e-3)
    convert(model, file, variant)


def _tensors() -> Iterator[tuple[str, np.ndarray]]:
    """The weights by llama.cpp's names. Without output.weight the table of tokens is read."""
    drawn = np.random.default_rng(0)

    def matrix(rows: int, columns: int) -> np.ndarray:
        return drawn.standard_normal((rows, columns), "float32") * 0.02

    norm = np.ones(WIDTH, "float32")
    yield "token_embd.weight", matrix(VOCABULARY, WIDTH)
    yield "output_norm.weight", norm
    for layer in range(LAYERS):
        begin = f"blk.{layer}."
        yield f"{begin}attn_norm.weight", norm
        yield f"{begin}ffn_norm.weight", norm
        for name, rows in (("q", WIDTH), ("k", NARROW), ("v", NARROW), ("output", WIDTH)):
            yield f"{begin}attn_{name}.weight", matrix(rows, WIDTH)
        for name in ("gate", "up"):
            yield f"{begin}ffn_{name}.weight", matrix(INNER, WIDTH)
        yield f"{begin}ffn_down.weight", matrix(WIDTH, INNER)


def llama_cpp(settings: Settings, kind: str):
    """llama.cpp on a file of the same shape, which is written once."""
    file = shapes.work_file(settings, f"llama-shape-{kind}.gguf")
    if not file.exists():
        fields = {
            "block_count": LAYERS,
            "context_length": CONTEXT,
            "embedding_length": WIDTH,
            "feed_forward_length": INNER,
            "head_count": HEADS,
            "head_count_kv": SHARED,
            "layer_norm_rms_eps": 1e-6,
            "rope_freq_base": BASE,
            "vocab_size": VOCABULARY,
        }
        by_llama_cpp.write_gguf(file, "llama", fields, _tensors(), kind)
    write = by_llama_cpp.greedy(settings, file, prompt(settings), settings["new"])
    step = counted(write, (1, settings["new"]))

    def timed() -> int:
        step()
        return tokens(settings)

    return timed


def share(settings: Settings, system: str) -> tuple[str, float]:
    """Products limit the reading of a prompt, memory the writing of tokens."""
    if settings["new"] == 1:
        return "gemm", 2e-9 * (WEIGHTS - VOCABULARY * WIDTH)
    return "memory", WEIGHTS * BYTES_PER_WEIGHT[system.rpartition("-")[2]] / 1e9


SYSTEMS = (
    *(
        System(
            f"tfx-litert-{variant}",
            f"**ours, LiteRT {variant}**",
            functools.partial(litert_engine, variant=variant),
            (*OURS, "ai-edge-litert"),
            KERAS,
        )
        for variant in ("int4", "int8")
    ),
    *(
        System(
            f"llama-{kind}",
            f"llama.cpp {kind}",
            functools.partial(llama_cpp, kind=kind),
            by_llama_cpp.LLAMA[:2],
        )
        for kind in ("q4_0", "q8_0")
    ),
)
