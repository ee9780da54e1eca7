"""Training tokens/s of an encoder-decoder: one AdamW step on 16 pairs of 32 + 32 tokens.

Shape: 6 + 6 blocks, 512 wide, 8 heads, feed-forward 2,048, vocabulary 32,000, one tied table,
sinusoidal positions, pre-norm, GELU, no padding, mean cross-entropy over the target tokens.

    unit     source and target tokens per second
    mfu_6N   6 x (multiply-adds of a pair's forward pass) x pairs/s, over the GEMM peak

Case "dropout" trains with rate 0.1, each system in the places where it has dropout (listed in
`info`); case "plain" trains with rate 0, where all systems compute the same function.

The systems are timed in turn by the peer benchmarks' harness, one process each:

    TFX_PEERS=/path/to/peers python benchmarks/train_seq2seq.py [--list] [--only keras] [--rounds 3]

Environment:
    TFX_PEERS       folder with the peer benchmarks (harness.py, common.py); required.
    TFX_PYTHON      Python of the environment that runs the "tfx" systems; default: this one.
    BENCH_RESULTS   folder for the JSON lines; default: `results` beside the folder of TFX_PEERS.
"""

import importlib
import os
import pathlib
import sys
from typing import Any

import numpy as np

PEERS = os.environ.get("TFX_PEERS")
if not PEERS or not os.path.isfile(os.path.join(PEERS, "harness.py")):
    sys.exit(
        f"train_seq2seq.py: no harness.py in TFX_PEERS ({PEERS or 'not set'}).\n"
        "  The peer benchmarks time all systems in turn. Copy their folder to a place where\n"
        "  `results` may be written beside it, and set TFX_PEERS to the copy."
    )
sys.path.insert(0, os.path.abspath(PEERS))
harness = importlib.import_module("harness")
common = importlib.import_module("common")

REPOSITORY = str(pathlib.Path(__file__).resolve().parents[1])
SHAPE = dict(num_layers=6, num_heads=8, hidden_dim=512, intermediate_dim=2048)
VOCABULARY, SOURCE, TARGET, BATCH = 32_000, 32, 32, 16
LEARNING_RATE, WEIGHT_DECAY = 1e-3, 0.01
STEPS = 2  # a timed call is two steps, so that the cost of entering `fit` is shared by two
TOKENS = STEPS * BATCH * (SOURCE + TARGET)
CASES = [{"name": "s2s-train-dropout", "dropout": 0.1}, {"name": "s2s-train-plain", "dropout": 0.0}]


def batch() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Source, decoder input and label ids, int32 (BATCH, 32); no id is special in any system."""
    rng = np.random.default_rng(0)
    source = rng.integers(3, VOCABULARY, (BATCH, SOURCE), dtype="int32")
    target = rng.integers(3, VOCABULARY, (BATCH, TARGET + 1), dtype="int32")
    return source, target[:, :-1], target[:, 1:]


def sine_positions(length: int, width: int) -> np.ndarray:
    """Positions of Vaswani et al. (2017), sines then cosines: float32 (length, width)."""
    angle = np.arange(length)[:, None] / 10_000 ** (2 * np.arange(width // 2) / width)
    return np.concatenate([np.sin(angle), np.cos(angle)], axis=1).astype("float32")


def torch_system(case: dict[str, Any], compiled: bool, bfloat16: bool):
    """torch.nn.Transformer, which stacks TransformerEncoderLayer and TransformerDecoderLayer."""
    torch = common.set_torch()
    functional = torch.nn.functional
    torch.manual_seed(0)
    source, target, labels = (torch.from_numpy(ids).long() for ids in batch())
    width = SHAPE["hidden_dim"]
    table = torch.nn.Embedding(VOCABULARY, width)
    torch.nn.init.normal_(table.weight, std=width**-0.5)
    stacks = torch.nn.Transformer(
        width,
        SHAPE["num_heads"],
        SHAPE["num_layers"],
        SHAPE["num_layers"],
        SHAPE["intermediate_dim"],
        dropout=case["dropout"],
        activation="gelu",
        batch_first=True,
        norm_first=True,
    )
    positions = torch.from_numpy(sine_positions(max(SOURCE, TARGET), width))
    causal = torch.nn.Transformer.generate_square_subsequent_mask(TARGET)
    parameters = [*table.parameters(), *stacks.parameters()]
    optimizer = torch.optim.AdamW(
        parameters, lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True
    )

    def embed(ids):
        vectors = table(ids) * width**0.5 + positions[: ids.shape[1]]
        return functional.dropout(vectors, case["dropout"])

    def loss_of(source, target, labels):
        vectors = stacks(embed(source), embed(target), tgt_mask=causal, tgt_is_causal=True)
        logits = functional.linear(vectors, table.weight)
        return functional.cross_entropy(logits.flatten(0, 1), labels.flatten())

    forward = torch.compile(loss_of) if compiled else loss_of

    def train_step():
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            loss = forward(source, target, labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss

    def step():
        for _ in range(STEPS):
            loss = train_step()
        assert np.isfinite(loss.item())
        return TOKENS

    info = {
        "params": sum(parameter.numel() for parameter in parameters),
        "loss0": round(train_step().item(), 4),
        "dtype": "bfloat16 autocast" if bfloat16 else "float32",
        "dropout_on": "embedding, attention weights, sub-layers, inside feed-forward",
    }
    return step, info


def keras_hub_model(rate: float):
    """The shape from keras-hub's layers: {"encoder_token_ids", "decoder_token_ids"} -> logits."""
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
    return keras.Model({"encoder_token_ids": source, "decoder_token_ids": target}, logits)


def tfx_model(rate: float):
    """The shape from this repository, called with the same inputs as `keras_hub_model`."""
    from tfx_transformer import Seq2SeqLM, TransformerConfig

    config = TransformerConfig(
        vocabulary_size=VOCABULARY,
        dropout=rate,
        max_sequence_length=max(SOURCE, TARGET),
        position="sinusoidal",
        activation="gelu",
        **SHAPE,
    )
    return Seq2SeqLM(config)


def fit_system(build, case: dict[str, Any], jit: bool, policy: str):
    """`model.fit` on one repeated batch; `build(rate)` makes the model."""
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy(policy)
    source, target, labels = batch()
    model = build(case["dropout"])
    model.compile(
        optimizer=keras.optimizers.AdamW(LEARNING_RATE, weight_decay=WEIGHT_DECAY),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        weighted_metrics=[],
        jit_compile=jit,
    )
    # At the end of `fit` TensorFlow may wait seconds for tf.data's autotune thread: off for all.
    options = tf.data.Options()
    options.autotune.enabled = False
    features = {"encoder_token_ids": source, "decoder_token_ids": target}
    batches = tf.data.Dataset.from_tensors((features, labels)).repeat().with_options(options)

    def fit(steps):
        return model.fit(batches, steps_per_epoch=steps, verbose=0).history["loss"][-1]

    def step():
        assert np.isfinite(fit(STEPS))
        return TOKENS

    info = {
        "params": model.count_params(),
        "loss0": round(fit(1), 4),
        "dtype": policy,
        "dropout_on": "embedding, attention weights, sub-layers",
    }
    return step, info


def mfu(case: dict[str, Any], name: str, tokens_per_s: float, info: dict, limits: dict) -> dict:
    """Share of the measured GEMM peak. Cross-attention projects keys and values of the source."""
    peak = common.peak(limits, "bf16" if "bf16" in name else "fp32")
    if not peak:
        return {}
    layers, width = SHAPE["num_layers"], SHAPE["hidden_dim"]
    # In units of width^2 a block's feed-forward is 8, its self-attention 4, its cross-attention
    # 2 for each source and 2 for each target token.
    source = SOURCE * layers * (12 + 2) * width**2
    target = TARGET * (layers * (12 + 2) * width**2 + VOCABULARY * width)
    pairs_per_s = tokens_per_s / (SOURCE + TARGET)
    return {"mfu_6N": round(6 * (source + target) * pairs_per_s / (peak * 1e9), 4)}


def register_torch() -> None:
    for compiled in (False, True):
        for bfloat16 in (False, True):
            harness.system(
                f"torch{'-compile' if compiled else ''}{'-bf16' if bfloat16 else ''}", ["torch"]
            )(lambda case, c=compiled, b=bfloat16: torch_system(case, c, b))


def register_fit(name: str, package: str, build, env: dict[str, str], python: str | None) -> None:
    for jit in (False, True):
        for policy, suffix in (("float32", ""), ("mixed_bfloat16", "-bf16")):
            harness.system(
                f"{name}-{'xla' if jit else 'nojit'}{suffix}",
                [package, "keras", "tensorflow"],
                env={**common.keras_env("tensorflow"), **env},
                python=python,
            )(lambda case, j=jit, p=policy: fit_system(build, case, j, p))


register_torch()
register_fit("keras_hub-tf", "keras-hub", keras_hub_model, env={}, python=None)
register_fit(
    "tfx",
    "tfx_transformer",
    tfx_model,
    env={"PYTHONPATH": REPOSITORY},
    python=os.environ.get("TFX_PYTHON"),
)

if __name__ == "__main__":
    harness.main(
        sys.argv[0], "train_seq2seq", "tokens/s", CASES, share=mfu, min_s=1.5, warm_s=2.0, rounds=7
    )
