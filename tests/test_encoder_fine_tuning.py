"""What a new encoder-only model takes from a base, and what of it adapters leave free."""

from __future__ import annotations

import numpy as np
import pytest
import safetensors.numpy
from encoder_cases import CASES, IDS, TEXTS, values
from tiny_models import (
    CONVOLUTIONS,
    PATCHES,
    perturbed,
    tiny_causal,
    tiny_config,
    tiny_encoder,
    tiny_model,
)

from tfx_transformer.errors import InputError
from tfx_transformer.models.encoders import (
    Classifier,
    Embedder,
    MaskedLM,
    config_for_fine_tuning,
    copy_weights,
)
from tfx_transformer.models.lora import add_adapters, load_adapters, merge_adapters, save_adapters

# Bases


@pytest.mark.parametrize(
    ("base", "task"),
    [
        (lambda **s: tiny_encoder(MaskedLM, seed=1, **s), Classifier),
        (lambda **s: tiny_model(seed=1, **s), Embedder),
        (lambda **s: tiny_encoder(Classifier, seed=1, num_classes=7, **s), Classifier),
        (lambda **s: tiny_encoder(Embedder, seed=1, **s), Classifier),
    ],
    ids=["masked", "seq2seq", "classifier", "embedder"],
)
def test_embedding_and_encoder_are_taken_over(base, task):
    base = base(position="learned", embedding_norm=True, dropout=0.3)
    model = perturbed(task(config_for_fine_tuning(base.config, num_classes=3, dropout=0.0)), seed=5)
    before, theirs = values(model), values(base)
    copy_weights(model, base)
    for path, value in values(model).items():
        encodes = path.startswith(("embedding/", "encoder/"))
        expected = theirs if encodes else before
        np.testing.assert_array_equal(value, expected[path], err_msg=path)
        assert not encodes or not np.array_equal(before[path], value), path
    np.testing.assert_array_equal(model.embedding(IDS), base.embedding(IDS))


def test_images_are_taken_over():
    base = tiny_encoder(Classifier, seed=1, num_classes=7, **CONVOLUTIONS)
    model = Classifier(config_for_fine_tuning(base.config, num_classes=3))
    copy_weights(model, base)
    inputs = CASES["convolutions"][2]
    np.testing.assert_array_equal(model.encode(inputs)[0], base.encode(inputs)[0])


def test_without_a_base_all_is_new():
    model = tiny_encoder(Embedder)
    before = values(model)
    copy_weights(model, None)
    assert all(np.array_equal(before[path], value) for path, value in values(model).items())


@pytest.mark.parametrize(
    ("base", "message"),
    [
        (tiny_causal, "a causal model, has no weight encoder/"),
        (lambda: tiny_encoder(MaskedLM, hidden_dim=12), r"no weight .* of shape \(\d+, 24\)"),
        (lambda: tiny_encoder(MaskedLM, num_layers=1), "no weight encoder/block_1/"),
        (lambda: tiny_encoder(Classifier, num_classes=2, **PATCHES), "no weight embedding/embedd"),
    ],
    ids=["causal", "narrower", "shallower", "images"],
)
def test_a_base_of_another_shape_is_refused(base, message):
    with pytest.raises(InputError, match=message):
        copy_weights(tiny_encoder(Embedder), base())


def test_fine_tuned_overrides_what_is_given():
    config = tiny_config(dropout=0.3)
    changed = config_for_fine_tuning(
        config, num_classes=3, dropout=None, multi_label=False, pooling="first"
    )
    assert changed == tiny_config(dropout=0.3, num_classes=3, pooling="first")
    assert config.num_classes == 0


# Adapters


def adapted_classifier(**arguments):
    model = tiny_encoder(Classifier, num_classes=5, num_layers=1, pooling="attention")
    add_adapters(model, rank=3, **arguments)
    return model


@pytest.mark.parametrize("base_dtype", [None, "int8"])
def test_the_read_out_is_trained_in_full(base_dtype, tmp_path):
    model = adapted_classifier(base_dtype=base_dtype)
    read_out = {"logits/kernel", "logits/bias", "pooling/score/kernel", "pooling/score/bias"}
    trained = {w.path: w.dtype for w in model.trainable_weights}
    assert {path for path in trained if "/lora_" not in path} == read_out
    assert set(trained.values()) == {"float32"}
    assert all(path.startswith("encoder/block_0/") for path in trained.keys() - read_out)

    perturbed(model, 0.1, seed=6)
    file = tmp_path / "adapters.safetensors"
    save_adapters(file, model)
    assert safetensors.numpy.load_file(file).keys() == trained.keys()
    fresh = adapted_classifier(base_dtype=base_dtype)
    assert np.abs(model(TEXTS) - fresh(TEXTS)).max() > 0.1
    load_adapters(file, fresh)
    np.testing.assert_allclose(fresh(TEXTS), model(TEXTS), atol=1e-6)
    np.testing.assert_allclose(merge_adapters(model)(TEXTS), model(TEXTS), atol=1e-5)


def test_the_read_out_gets_no_adapter():
    model = adapted_classifier(targets=["query"])
    assert not model.logits.lora_enabled and model.encoder.blocks[0].attention.query.lora_enabled
    with pytest.raises(InputError, match="there is no layer 'logits'"):
        adapted_classifier(targets=["query", "logits"])
