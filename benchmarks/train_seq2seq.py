"""Training speed of an encoder-decoder.

One AdamW step on 16 pairs of 32 + 32 tokens; 6 + 6 blocks of 512, 8 heads, feed-forward 2,048,
vocabulary 32,000, one tied table, sinusoidal positions, pre-norm, GELU, no padding, mean
cross-entropy over the target tokens. Source and target tokens per second.

    python -m benchmarks train_seq2seq --rounds 3

It takes about 15 minutes on 2 cores. Case "dropout" trains with rate 0.1, each system in the places
where it has dropout; in case "plain" all systems compute the same function. Expect ours ahead of
keras-hub's layers by some percent, and mixed bfloat16 to lead where the processor multiplies it.
"""

from __future__ import annotations

import numpy as np

from benchmarks import shapes
from benchmarks.tables import Case, Settings
from benchmarks.train_systems import keras_step, keras_systems, torch_step, torch_systems

UNIT = "tokens/s"
SHAPE = dict(num_layers=6, num_heads=8, hidden_dim=512, intermediate_dim=2048)
VOCABULARY, SOURCE, TARGET, BATCH = 32_000, 32, 32, 16
STEPS = 2  # a step of the timing is two of the training, which share the cost of entering `fit`
TOKENS = STEPS * BATCH * (SOURCE + TARGET)

CASES = (
    Case("dropout", "with dropout 0.1", {"dropout": 0.1}),
    Case("plain", "without dropout", {"dropout": 0.0}),
)


def batch() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Source, decoder input and label ids: int32 (BATCH, 32)."""
    source = shapes.random_ids(BATCH, SOURCE, VOCABULARY)
    target = shapes.random_ids(BATCH, TARGET + 1, VOCABULARY, seed=1)
    return source, target[:, :-1], target[:, 1:]


def sine_positions(length: int, width: int) -> np.ndarray:
    """Positions of Vaswani et al. (2017), sines then cosines: float32 (length, width)."""
    angle = np.arange(length)[:, None] / 10_000 ** (2 * np.arange(width // 2) / width)
    return np.concatenate([np.sin(angle), np.cos(angle)], axis=1).astype("float32")


def torch_system(settings: Settings, compiled: bool, bfloat16: bool):
    """torch.nn.Transformer, which stacks TransformerEncoderLayer and TransformerDecoderLayer."""
    torch = shapes.torch_with(settings["threads"])
    functional = torch.nn.functional
    source, target, labels = (torch.from_numpy(ids.copy()).long() for ids in batch())
    width = SHAPE["hidden_dim"]
    table = torch.nn.Embedding(VOCABULARY, width)
    torch.nn.init.normal_(table.weight, std=width**-0.5)
    stacks = torch.nn.Transformer(
        width,
        SHAPE["num_heads"],
        SHAPE["num_layers"],
        SHAPE["num_layers"],
        SHAPE["intermediate_dim"],
        dropout=settings["dropout"],
        activation="gelu",
        batch_first=True,
        norm_first=True,
    )
    positions = torch.from_numpy(sine_positions(max(SOURCE, TARGET), width))
    causal = torch.nn.Transformer.generate_square_subsequent_mask(TARGET)
    parameters = [*table.parameters(), *stacks.parameters()]

    def embed(ids):
        vectors = table(ids) * width**0.5 + positions[: ids.shape[1]]
        return functional.dropout(vectors, settings["dropout"])

    def loss_of():
        vectors = stacks(embed(source), embed(target), tgt_mask=causal, tgt_is_causal=True)
        logits = functional.linear(vectors, table.weight)
        return functional.cross_entropy(logits.flatten(0, 1), labels.flatten())

    train = torch_step(torch, parameters, loss_of, STEPS, compiled, bfloat16)

    def step() -> int:
        train()
        return TOKENS

    return step


def keras_hub_model(rate: float):
    """The shape from keras-hub's layers: {"encoder_token_ids", "decoder_token_ids"} -> logits; and
    its loss."""
    import keras
    import keras_hub

    width = SHAPE["hidden_dim"]
    table = keras.layers.ReversibleEmbedding(
        VOCABULARY, width, embeddings_initializer=keras.initializers.RandomNormal(0, width**-0.5)
    )
    positions = keras_hub.layers.SinePositionEncoding()
    block = dict(
        intermediate_dim=SHAPE["intermediate_dim"],
        num_heads=SHAPE["num_heads"],
        dropout=rate,
        activation="gelu",
        normalize_first=True,
    )

    def embed(ids):
        vectors = table(ids) * width**0.5
        return keras.layers.Dropout(rate)(vectors + positions(vectors))

    source = keras.Input((SOURCE,), dtype="int32", name="encoder_token_ids")
    target = keras.Input((TARGET,), dtype="int32", name="decoder_token_ids")
    memory = embed(source)
    for _ in range(SHAPE["num_layers"]):
        memory = keras_hub.layers.TransformerEncoder(**block)(memory)
    memory = keras.layers.LayerNormalization(epsilon=1e-5)(memory)
    vectors = embed(target)
    for _ in range(SHAPE["num_layers"]):
        vectors = keras_hub.layers.TransformerDecoder(**block)(vectors, memory)
    vectors = keras.layers.LayerNormalization(epsilon=1e-5)(vectors)
    logits = table(vectors, reverse=True)
    model = keras.Model({"encoder_token_ids": source, "decoder_token_ids": target}, logits)
    return model, keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def tfx_model(rate: float):
    """The shape from this repository, called with the same inputs as `keras_hub_model`; and its
    loss."""
    from tfx_transformer import Seq2SeqLM, TokenCrossentropy, TransformerConfig

    config = TransformerConfig(
        vocabulary_size=VOCABULARY,
        dropout=rate,
        max_sequence_length=max(SOURCE, TARGET),
        position="sinusoidal",
        activation="gelu",
        **SHAPE,
    )
    return Seq2SeqLM(config), TokenCrossentropy()


def fit(settings: Settings, build, jit_compile: bool | str, policy: str):
    """`model.fit` on one repeated batch; `build(rate)` makes the model and its loss."""
    import keras

    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy(policy)
    source, target, labels = batch()
    features = {"encoder_token_ids": source, "decoder_token_ids": target}
    model, loss = build(settings["dropout"])
    train = keras_step(model, loss, jit_compile, features, labels, STEPS)

    def step() -> int:
        train()
        return TOKENS

    return step


def share(settings: Settings, system: str) -> tuple[str, float]:
    """Six operations for each weight and token that meet, as a float32 product does them."""
    layers, width = SHAPE["num_layers"], SHAPE["hidden_dim"]
    # In units of width^2 a block's feed-forward is 8, its self-attention 4, and its cross-attention
    # 2 for each source and 2 for each target token.
    source = SOURCE * layers * (12 + 2) * width**2
    target = TARGET * (layers * (12 + 2) * width**2 + VOCABULARY * width)
    return "gemm", 6e-9 * (source + target) / (SOURCE + TARGET)


SYSTEMS = (
    *keras_systems(
        fit,
        ("tfx", "ours, Keras", tfx_model, ()),
        ("keras-hub", "keras-hub layers", keras_hub_model, ("keras-hub",)),
    ),
    *torch_systems("torch", "PyTorch layers", torch_system, ("torch",)),
)
