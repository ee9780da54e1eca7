"""Speed of an embedder.

MiniLM's shape, 6 layers of 384, 12 heads, 30,522 tokens, with random weights and no padding. Our
rows count the whole call from strings to vectors: tokenization, mean pooling, normalization. The
others begin with ids and end with the last hidden states.

    python -m benchmarks encoder --rounds 3

It takes about 10 minutes on 2 cores. Expect LiteRT int8 to lead, ONNX Runtime
int8 to be near with many tokens, and float32 to take twice as long or more.

Left out: LiteRT files of keras-hub's model, and CTranslate2.
"""

from __future__ import annotations

import functools
import random

from benchmarks import by_onnxruntime, shapes
from benchmarks.tables import KERAS, OURS, Case, Settings, System

UNIT = "texts/s"
LAYERS, HEADS, WIDTH, VOCABULARY, LONGEST = 6, 12, 384, 30_522, 128
WORDS = 2_000

CASES = tuple(
    Case(
        f"{rows}x{length}",
        f"{rows} {'text' if rows == 1 else 'texts'} of {length} tokens a call",
        {"rows": rows, "length": length},
    )
    for length in (16, 128)
    for rows in (1, 32)
)


def words() -> list[str]:
    """Distinct words of six letters."""
    drawn = random.Random(0)
    letters = "abcdefghijklmnopqrstuvwxyz"
    return sorted({"".join(drawn.choices(letters, k=6)) for _ in range(WORDS)})


def texts(settings: Settings, tokenizer) -> list[str]:
    """Texts of as many tokens as the case says, start and end included."""
    drawn = random.Random(1)
    known, length = words(), settings["length"] - 2
    made = [" ".join(drawn.choices(known, k=length)) for _ in range(settings["rows"])]
    assert all(tokenizer.count(text) == length for text in made)
    return made


def new_tokenizer():
    """Every word, alone and after a space, is one token."""
    from tfx_transformer import Tokenizer

    known = words()
    return Tokenizer.train([*known, *(f"x {word}" for word in known)] * 3, 60_000)


def config():
    from tfx_transformer import TransformerConfig

    return TransformerConfig.of_size(
        "tiny",
        VOCABULARY,
        "bert",
        num_layers=LAYERS,
        num_heads=HEADS,
        hidden_dim=WIDTH,
        max_sequence_length=LONGEST,
    )


def new_model():
    import keras

    from tfx_transformer import Embedder

    keras.utils.set_random_seed(0)
    return Embedder(config())


def timed(settings: Settings, embedder):
    given = texts(settings, embedder.tokenizer)

    def step() -> int:
        assert embedder.embed(given).shape == (len(given), WIDTH)
        return len(given)

    return step


def keras_predictor(settings: Settings):
    """`tfx.predictor`, one graph for all shapes."""
    from tfx_transformer import predictor

    return timed(settings, predictor(new_model(), new_tokenizer()))


def litert_embedder(settings: Settings, variant: str):
    """`TextEmbedder` on the exported file, which is made once."""
    from tfx_transformer.export.to_litert import convert
    from tfx_transformer.prediction import TextEmbedder
    from tfx_transformer.runtime.encoder import EncoderEngine

    file = shapes.work_file(settings, f"encoder-{variant}.tflite")
    if not file.exists():
        convert(new_model(), file, None if variant == "float32" else variant)
    engine = EncoderEngine(file, config(), threads=settings["threads"])
    return timed(settings, TextEmbedder(engine, new_tokenizer(), config()))


def keras_hub_model(settings: Settings, jit_compile: bool):
    """`BertBackbone` as one `tf.function`: `predict` costs 40 to 60 ms a call before any work."""
    import keras
    import keras_hub
    import numpy as np
    import tensorflow as tf

    keras.utils.set_random_seed(0)
    model = keras_hub.models.BertBackbone(
        vocabulary_size=VOCABULARY,
        num_layers=LAYERS,
        num_heads=HEADS,
        hidden_dim=WIDTH,
        intermediate_dim=4 * WIDTH,
        dropout=0.0,
        max_sequence_length=LONGEST,
    )
    run = tf.function(lambda inputs: model(inputs)["sequence_output"], jit_compile=jit_compile)
    ids = shapes.random_ids(settings["rows"], settings["length"], VOCABULARY)
    inputs = {
        "token_ids": tf.constant(ids),
        "segment_ids": tf.zeros_like(ids),
        "padding_mask": tf.constant(np.ones_like(ids)),
    }

    def step() -> int:
        assert run(inputs).numpy().shape == (*ids.shape, WIDTH)
        return len(ids)

    return step


def new_bert(attention: str = "sdpa"):
    """Hugging Face's BERT with random weights."""
    import transformers

    shape = transformers.BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=4 * WIDTH,
        max_position_embeddings=LONGEST,
    )
    shape._attn_implementation = attention
    return transformers.BertModel(shape, add_pooling_layer=False).eval()


def transformers_model(settings: Settings):
    """Hugging Face's `BertModel`."""
    torch = shapes.torch_with(settings["threads"])
    model = new_bert()
    ids = torch.from_numpy(
        shapes.random_ids(settings["rows"], settings["length"], VOCABULARY)
    ).long()

    def step() -> int:
        with torch.inference_mode():
            assert model(ids).last_hidden_state.shape == (*ids.shape, WIDTH)
        return len(ids)

    return step


def onnx_model(settings: Settings, kind: str):
    """ONNX Runtime on Hugging Face's model."""
    ids = shapes.random_ids(settings["rows"], settings["length"], VOCABULARY)
    eager = functools.partial(new_bert, "eager")  # whose operations the optimizer can fuse
    return by_onnxruntime.onnx_encoder(settings, eager, "encoder-pretrained", ids, kind)


SYSTEMS = (
    *(
        System(
            f"tfx-litert-{variant}",
            f"**ours, LiteRT {variant}**",
            functools.partial(litert_embedder, variant=variant),
            (*OURS, "ai-edge-litert"),
            KERAS,
        )
        for variant in ("int8", "float32")
    ),
    System("tfx-keras", "**ours, Keras, float32**", keras_predictor, OURS, KERAS),
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
        "torch-transformers",
        "Hugging Face, PyTorch",
        transformers_model,
        ("torch", "transformers"),
    ),
    *(
        System(
            f"onnxruntime-{kind}",
            f"ONNX Runtime {kind}, fused",
            functools.partial(onnx_model, kind=kind),
            by_onnxruntime.ONNX_RUNTIME,
        )
        for kind in ("int8", "float32")
    ),
)
