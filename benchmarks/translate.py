"""Decoding speed of an encoder-decoder.

6 + 6 layers of 512, vocabulary 32,000, random weights; 32 source ids to exactly 32 target ids. A
timing is a whole call, the encoder included; target tokens of the best text count. Ours is pre-norm
with GELU, BART and Marian are post-norm: the shapes, and so the work, are alike.

    python -m benchmarks translate --rounds 3

It takes about 20 minutes on 2 cores. Expect LiteRT int8 to lead, least
with beams of many texts at once.

Left out: ONNX Runtime, whose encoder and decoder need conversions of their own.
"""

from __future__ import annotations

import functools

import numpy as np

from benchmarks import by_ctranslate2, engines, shapes
from benchmarks.tables import KERAS, OURS, Case, Settings, System

UNIT = "target tokens/s"
LAYERS, HEADS, WIDTH, INNER, VOCABULARY = 6, 8, 512, 2048, 32_000
SOURCE = TARGET = 32
END = 1  # of Marian's ids; its last one is padding

CASES = tuple(
    Case(
        f"b{rows}-{'greedy' if beams == 1 else f'beams{beams}'}",
        f"batch {rows}, {'greedy' if beams == 1 else f'{beams} beams'}",
        {"rows": rows, "beams": beams},
    )
    for rows in (1, 16)
    for beams in (1, 4)
)


def sources(settings: Settings) -> np.ndarray:
    """int32 (rows, SOURCE)."""
    return shapes.random_ids(settings["rows"], SOURCE, VOCABULARY - 3, seed=2)


def config():
    from tfx_transformer import TransformerConfig

    return TransformerConfig(
        vocabulary_size=VOCABULARY,
        num_layers=LAYERS,
        num_heads=HEADS,
        hidden_dim=WIDTH,
        intermediate_dim=INNER,
        max_sequence_length=max(SOURCE, TARGET),
    )


def new_model():
    import keras

    from tfx_transformer import Seq2SeqLM

    keras.utils.set_random_seed(0)
    model = Seq2SeqLM(config())
    shapes.never_special(model, 0)
    return model


def timed(settings: Settings, engine):
    """A call of `engine.generate_ids`, checked to be of full length."""
    from tfx_transformer.generation import GenerationOptions

    ids = sources(settings)
    options = GenerationOptions(max_new_tokens=TARGET, beams=settings["beams"])

    def step() -> int:
        written = engine.generate_ids(ids, options)
        assert written.shape == (len(ids), TARGET) and written.min() >= shapes.SPECIAL
        return written.size

    return step


def keras_engine(settings: Settings, jit_compile: bool):
    """The compiled loop of `KerasEngine`."""
    from tfx_transformer.models.decoding import KerasEngine

    return timed(settings, KerasEngine(new_model(), jit_compile=jit_compile))


def litert_engine(settings: Settings, variant: str):
    """`Seq2SeqEngine` on the exported file, which is made once."""
    from tfx_transformer.export.to_litert import convert
    from tfx_transformer.runtime.seq2seq import Seq2SeqEngine

    file = shapes.work_file(settings, f"translate-{variant}.tflite")
    if not file.exists():
        convert(new_model(), file, None if variant == "float32" else variant, beams=4)
    engine = Seq2SeqEngine(file, config(), threads=settings["threads"])
    engine.hits = None  # greedy texts of random weights repeat themselves: nothing is drafted
    return timed(settings, engine)


def keras_hub_model(settings: Settings, jit_compile: bool):
    """`BartSeq2SeqLM.generate` on ids."""
    import keras
    import keras_hub

    keras.utils.set_random_seed(0)
    backbone = keras_hub.models.BartBackbone(
        vocabulary_size=VOCABULARY,
        num_layers=LAYERS,
        num_heads=HEADS,
        hidden_dim=WIDTH,
        intermediate_dim=INNER,
        dropout=0.0,
        max_sequence_length=128,
    )
    model = keras_hub.models.BartSeq2SeqLM(backbone, preprocessor=None)
    beams = settings["beams"]
    sampler = keras_hub.samplers.BeamSampler(num_beams=beams) if beams > 1 else "greedy"
    model.compile(sampler=sampler, jit_compile=jit_compile)
    ids = sources(settings)
    begun = np.zeros((len(ids), TARGET + 1), "int32")
    begun[:, 0] = 1
    inputs = {
        "encoder_token_ids": ids,
        "encoder_padding_mask": np.ones_like(ids),
        "decoder_token_ids": begun,
        "decoder_padding_mask": begun.copy(),
    }

    def step() -> int:
        written = model.generate(inputs, stop_token_ids=None)["decoder_token_ids"]
        assert written.shape == begun.shape
        return len(ids) * TARGET

    return step


def new_marian():
    """Hugging Face's Marian with random weights."""
    import transformers

    sizes = {}
    for side in ("encoder", "decoder"):
        sizes |= {
            f"{side}_layers": LAYERS,
            f"{side}_attention_heads": HEADS,
            f"{side}_ffn_dim": INNER,
        }
    shape = transformers.MarianConfig(
        vocab_size=VOCABULARY,
        d_model=WIDTH,
        max_position_embeddings=128,
        pad_token_id=VOCABULARY - 1,
        eos_token_id=END,
        decoder_start_token_id=VOCABULARY - 1,
        forced_eos_token_id=None,
        **sizes,
    )
    return transformers.MarianMTModel(shape).eval()


def transformers_model(settings: Settings):
    """Hugging Face's `MarianMTModel.generate`."""
    torch = shapes.torch_with(settings["threads"])
    model = new_marian()
    ids = torch.from_numpy(sources(settings)).long()
    length = {"max_new_tokens": TARGET, "min_new_tokens": TARGET, "do_sample": False}

    def step() -> int:
        with torch.inference_mode():
            written = model.generate(
                ids, attention_mask=torch.ones_like(ids), num_beams=settings["beams"], **length
            )
        assert written.shape == (len(ids), TARGET + 1)
        return len(ids) * TARGET

    return step


def ctranslate2_model(settings: Settings, kind: str):
    """CTranslate2's translator on Hugging Face's model."""
    folder = engines.pretrained_folder(settings, "translate-pretrained", new_marian)
    return by_ctranslate2.ctranslate2_translator(
        settings, folder, sources(settings), TARGET, VOCABULARY, kind
    )


def share(settings: Settings, system: str) -> tuple[str, float]:
    """A step reads the decoder's weights and the table once, and writes a token of each text."""
    weights = LAYERS * (6 * WIDTH**2 + 2 * WIDTH * INNER) + VOCABULARY * WIDTH
    size = weights * (1 if "int8" in system else 4)
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
        for variant in ("int8", "float32")
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
        "keras-hub BART, TensorFlow, XLA",
        functools.partial(keras_hub_model, jit_compile=True),
        ("keras-hub", *OURS),
        KERAS,
    ),
    System(
        "keras-hub",
        "keras-hub BART, TensorFlow",
        functools.partial(keras_hub_model, jit_compile=False),
        ("keras-hub", *OURS),
        KERAS,
    ),
    System(
        "torch-transformers",
        "Hugging Face Marian, PyTorch",
        transformers_model,
        ("torch", "transformers"),
    ),
    *by_ctranslate2.ctranslate2_systems(ctranslate2_model),
)
