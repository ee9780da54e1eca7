"""Generation speed of a decoder-only model.

GPT-2's architecture with random weights; prompts of 64 ids, 128 new ones, greedy. A timing is a
whole call, the prompt included. Our exports have the model's context: 256 tokens, or 1,024.

    python -m benchmarks generate --rounds 3

It takes about 25 minutes on 2 cores, most of them to export GPT-2 small. Expect int4 and int8 by
LiteRT to be twice as fast as its float32 for one text, since a step reads all weights once; and
llama.cpp to lead in 4 bits.

`pip install llama-cpp-python` compiles llama.cpp for this processor, in about 25 minutes. `--python
llama=/path/to/python` takes it from another environment; `onnxruntime=` and `ctranslate2=` do so
for the others.
"""

from __future__ import annotations

import functools

import numpy as np

from benchmarks import by_ctranslate2, by_llama_cpp, by_onnxruntime, engines, shapes
from benchmarks.tables import KERAS, OURS, Case, Settings, System

UNIT = "new tokens/s"
PROMPT, NEW = 64, 128
BYTES_PER_WEIGHT = {"float32": 4, "int8": 1, "int4": 0.5625, "q8_0": 1.0625, "q4_0": 0.5625}

CASES = tuple(
    Case(f"{name}-b{rows}", f"{title}, batch {rows}", {"gpt": name, "rows": rows})
    for name, title in (
        ("small", "6 layers of 384, vocabulary 8,192"),
        ("small-long", "6 layers of 384, vocabulary 8,192, context 1,024"),
        ("gpt2-small", "GPT-2 small, 12 layers of 768, vocabulary 50,257"),
    )
    for rows in (1, 8)
)


def prompts(settings: Settings) -> np.ndarray:
    """int32 (rows, PROMPT)."""
    vocabulary = shapes.GPTS[settings["gpt"]].vocabulary
    return shapes.random_ids(settings["rows"], PROMPT, vocabulary, seed=1)


def new_model(settings: Settings):
    import keras

    from tfx_transformer import CausalLM

    keras.utils.set_random_seed(0)
    model = CausalLM(shapes.GPTS[settings["gpt"]].config())
    shapes.never_special(model, 1e-3)
    return model


def timed(settings: Settings, engine):
    """A call of `engine.generate_ids`, checked to be of full length."""
    from tfx_transformer.generation import GenerationOptions

    ids, options = prompts(settings), GenerationOptions(max_new_tokens=NEW)

    def step() -> int:
        written = engine.generate_ids(ids, options)
        assert written.shape == (len(ids), NEW) and written.min() >= shapes.SPECIAL
        return written.size

    return step


def keras_engine(settings: Settings, jit_compile: bool):
    """The compiled loop of `KerasEngine`."""
    from tfx_transformer.models.decoding import KerasEngine

    return timed(settings, KerasEngine(new_model(settings), jit_compile=jit_compile))


def litert_engine(settings: Settings, variant: str):
    """`CausalEngine` on the exported file, which is made once."""
    from tfx_transformer.export.to_litert import convert
    from tfx_transformer.runtime.causal import CausalEngine

    file = shapes.work_file(settings, f"generate-{settings['gpt']}-{variant}.tflite")
    if not file.exists():
        quantize = None if variant == "float32" else variant
        convert(new_model(settings), file, quantize)
    config = shapes.GPTS[settings["gpt"]].config()
    engine = CausalEngine(file, config, threads=settings["threads"])
    engine.hits = None  # greedy texts of random weights repeat themselves: nothing is drafted
    return timed(settings, engine)


def keras_hub_model(settings: Settings, jit_compile: bool | str):
    """`GPT2CausalLM.generate` on ids."""
    import keras
    import keras_hub

    keras.utils.set_random_seed(0)
    backbone = shapes.GPTS[settings["gpt"]].keras_hub_backbone()
    model = keras_hub.models.GPT2CausalLM(backbone, preprocessor=None)
    model.compile(sampler="greedy", jit_compile=jit_compile)
    ids = np.pad(prompts(settings), ((0, 0), (0, NEW)))
    inputs = {"token_ids": ids, "padding_mask": np.arange(PROMPT + NEW)[None] < PROMPT}
    inputs["padding_mask"] = np.repeat(inputs["padding_mask"], len(ids), axis=0).astype("int32")

    def step() -> int:
        written = model.generate(inputs, stop_token_ids=None)["token_ids"]
        assert written.shape == ids.shape
        return len(ids) * NEW

    return step


def transformers_model(settings: Settings):
    """Hugging Face's `generate` with its dynamic cache."""
    torch = shapes.torch_with(settings["threads"])
    model = shapes.GPTS[settings["gpt"]].transformers_model().eval()
    ids = torch.from_numpy(prompts(settings)).long()
    length = {"max_new_tokens": NEW, "min_new_tokens": NEW, "do_sample": False, "pad_token_id": 0}

    def step() -> int:
        with torch.inference_mode():
            written = model.generate(ids, attention_mask=torch.ones_like(ids), **length)
        assert written.shape == (len(ids), PROMPT + NEW)
        return len(ids) * NEW

    return step


def other_engine(settings: Settings, build, kind: str):
    """One of `engines` on Hugging Face's model of the same shape."""
    name = f"generate-{settings['gpt']}-pretrained"
    new_model = shapes.GPTS[settings["gpt"]].transformers_model
    folder = engines.pretrained_folder(settings, name, new_model)
    return build(settings, folder, prompts(settings), NEW, kind)


def share(settings: Settings, system: str) -> tuple[str, float]:
    """A step reads all weights and writes a token of each text."""
    variant = system.rpartition("-")[2]
    size = shapes.GPTS[settings["gpt"]].weights * BYTES_PER_WEIGHT.get(variant, 4)
    return "memory", size / settings["rows"] / 1e9


SYSTEMS = (
    *(
        System(
            f"tfx-litert-{variant}",
            f"**ours, LiteRT {variant}**",
            functools.partial(litert_engine, variant=variant),
            (*OURS, "ai-edge-litert"),
            KERAS,
        )
        for variant in ("int4", "int8", "float32")
    ),
    System(
        "tfx-keras-xla",
        "**ours, Keras, XLA**",
        functools.partial(keras_engine, jit_compile=True),
        OURS,
        KERAS,
    ),
    System(
        "tfx-keras",
        "**ours, Keras**",
        functools.partial(keras_engine, jit_compile=False),
        OURS,
        KERAS,
    ),
    System(
        "keras-hub-xla",
        "keras-hub, TensorFlow, XLA",
        functools.partial(keras_hub_model, jit_compile=True),
        ("keras-hub", *OURS),
        KERAS,
    ),
    System(
        "keras-hub",
        "keras-hub, TensorFlow",
        functools.partial(keras_hub_model, jit_compile=False),
        ("keras-hub", *OURS),
        KERAS,
    ),
    System(
        "keras-hub-jax",
        "keras-hub, JAX",
        functools.partial(keras_hub_model, jit_compile="auto"),
        ("keras-hub", "keras", "jax"),
        {"KERAS_BACKEND": "jax"},
    ),
    System(
        "torch-transformers",
        "Hugging Face, PyTorch",
        transformers_model,
        ("torch", "transformers"),
    ),
    *(
        System(
            f"llama-{kind}",
            f"llama.cpp {kind}",
            functools.partial(other_engine, build=by_llama_cpp.llama_generator, kind=kind),
            by_llama_cpp.LLAMA,
        )
        for kind in ("q4_0", "q8_0", "f32")
    ),
    *(
        System(
            f"onnxruntime-{kind}",
            f"ONNX Runtime {kind}",
            functools.partial(other_engine, build=by_onnxruntime.onnx_generator, kind=kind),
            by_onnxruntime.ONNX_RUNTIME,
        )
        for kind in ("int8", "float32")
    ),
    *by_ctranslate2.ctranslate2_systems(
        functools.partial(other_engine, build=by_ctranslate2.ctranslate2_generator)
    ),
)
