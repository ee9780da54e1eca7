"""Training speed of a classifier of images.

One AdamW step on 64 images of 32 x 32 pixels: a ViT of 6 layers of 192, 3 heads, patches of 4 x 4
and a class token, 3 classes, random weights, no dropout and no augmentation; images per second.

    python -m benchmarks train_image --rounds 3

It takes about 10 minutes on 2 cores. Expect mixed bfloat16 to lead where the processor multiplies
it. Ours also has a row of a compact convolutional Transformer, which is the default of the recipe:
two convolutions make the 64 regions. The other libraries have no such model.
"""

from __future__ import annotations

import numpy as np

from benchmarks import shapes
from benchmarks.tables import Case, Settings
from benchmarks.train_systems import keras_step, keras_systems, torch_step, torch_systems

UNIT = "images/s"
ROWS, SIZE, PATCH, CLASSES, STEPS = 64, 32, 4, 3, 4
LAYERS, HEADS, WIDTH = 6, 3, 192

CASES = (Case("vit", "ViT, 6 layers of 192, 64 patches", {}),)


def batch() -> tuple[np.ndarray, np.ndarray]:
    """Images, float32 (ROWS, SIZE, SIZE, 3) from 0 to 255, and labels, int32 (ROWS,)."""
    numbers = np.random.default_rng(0)
    images = numbers.uniform(0, 255, (ROWS, SIZE, SIZE, 3)).astype("float32")
    return images, numbers.integers(0, CLASSES, ROWS, dtype="int32")


def _tfx_model(**regions):
    import tfx_transformer as tfx

    config = tfx.TransformerConfig(
        vocabulary_size=0,
        num_layers=LAYERS,
        num_heads=HEADS,
        hidden_dim=WIDTH,
        intermediate_dim=4 * WIDTH,
        image_size=SIZE,
        position="learned",
        activation="gelu",
        scale_embedding=False,
        dropout=0.0,
        num_classes=CLASSES,
        **regions,
    )
    return tfx.Classifier(config)


def tfx_vit():
    return _tfx_model(patch_size=PATCH, class_tokens=1, pooling="first")


def tfx_convolutional():
    return _tfx_model(conv_layers=2, pooling="attention")


def keras_hub_vit():
    import keras_hub

    backbone = keras_hub.models.ViTBackbone(
        image_shape=(SIZE, SIZE, 3),
        patch_size=PATCH,
        num_layers=LAYERS,
        num_heads=HEADS,
        hidden_dim=WIDTH,
        mlp_dim=4 * WIDTH,
    )
    return keras_hub.models.ViTImageClassifier(backbone, CLASSES)


def fit(settings: Settings, build, jit_compile: bool | str, policy: str):
    """`fit` of the model that `build` makes."""
    import keras

    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy(policy)
    images, labels = batch()
    features = images if build is keras_hub_vit else {"images": images}
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    train = keras_step(build(), loss, jit_compile, features, labels, STEPS)

    def step() -> int:
        train()
        return STEPS * ROWS

    return step


def torch_vit(settings: Settings, compiled: bool, bfloat16: bool):
    """A plain training loop around Hugging Face's ViT."""
    torch = shapes.torch_with(settings["threads"])
    import transformers

    model = transformers.ViTForImageClassification(
        transformers.ViTConfig(
            hidden_size=WIDTH,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            intermediate_size=4 * WIDTH,
            image_size=SIZE,
            patch_size=PATCH,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            num_labels=CLASSES,
        )
    ).train()
    images, labels = (torch.from_numpy(array) for array in batch())
    images, labels = images.permute(0, 3, 1, 2) / 127.5 - 1, labels.long()

    def loss_of():
        logits = model(images).logits
        return torch.nn.functional.cross_entropy(logits, labels)

    train = torch_step(torch, [*model.parameters()], loss_of, STEPS, compiled, bfloat16)

    def step() -> int:
        train()
        return STEPS * ROWS

    return step


SYSTEMS = (
    *keras_systems(
        fit,
        ("tfx", "ours, Keras", tfx_vit, ()),
        ("tfx-convolutional", "ours, convolutions, Keras", tfx_convolutional, ()),
        ("keras-hub", "keras-hub", keras_hub_vit, ("keras-hub",)),
    ),
    *torch_systems("torch", "Hugging Face, PyTorch", torch_vit, ("torch", "transformers")),
)
