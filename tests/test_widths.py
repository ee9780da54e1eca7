"""Vectors that may be cut: Matryoshka widths of an embedder."""

import dataclasses

import keras
import numpy as np
import pytest
from tiny_models import perturbed, tiny_config, tiny_encoder

from tfx_transformer import TransformerConfig, config_for_fine_tuning
from tfx_transformer.errors import InputError
from tfx_transformer.models.encoders import Classifier, Embedder
from tfx_transformer.models.losses import InBatchContrast, Matryoshka, ScoredCosine
from tfx_transformer.models.predicting import predictor
from tfx_transformer.text.tokenizer import Tokenizer
from tfx_transformer.training import pair_prompts, read_widths, search_prompts

IDS = np.array([[1, 5, 9, 5, 2], [1, 7, 2, 0, 0], [1, 9, 8, 2, 0]], "int32")


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(3)
    return perturbed(tiny_encoder(Embedder, bag_dim=8, widths=(4, 20)))


def test_every_cut_has_some_of_both_parts(model):
    model.set_share(0.3)
    whole = np.asarray(model(IDS))
    plain = Embedder(dataclasses.replace(model.config, widths=()))
    plain.set_weights(model.get_weights())
    side_by_side = np.asarray(plain(IDS))
    deep, bag = side_by_side[:, :24], side_by_side[:, 24:]
    # 24 and 8 numbers make 8 groups: three of the encoder, one of the bag.
    expected = np.concatenate([deep.reshape(3, 8, 3), bag.reshape(3, 8, 1)], axis=-1)
    np.testing.assert_allclose(whole, expected.reshape(3, 32), atol=1e-6)


def test_the_loss_is_the_mean_over_the_widths(model):
    found = np.asarray(model({"token_ids": IDS, "pair_token_ids": IDS[::-1]}))
    first, second = np.asarray(model(IDS)), np.asarray(model(IDS[::-1]))
    expected = [unit(first[:, :w]) @ unit(second[:, :w]).T for w in (4, 20, 32)]
    np.testing.assert_allclose(found, np.stack(expected, axis=-1), atol=1e-5)
    for loss in (InBatchContrast(0.1), ScoredCosine()):
        y = np.array([0.1, 0.9, 0.5], "float32")
        each = [float(loss(y, cosines.astype("float32"))) for cosines in expected]
        assert float(Matryoshka(loss)(y, found)) == pytest.approx(np.mean(each), rel=1e-5)
    again = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(Matryoshka(InBatchContrast(0.7)))
    )
    assert again.loss.temperature == 0.7


@pytest.mark.slow
def test_training_learns_every_width(model):
    model.compile(keras.optimizers.Adam(0.01))
    assert isinstance(model.loss, Matryoshka)
    x = {"token_ids": IDS, "pair_token_ids": IDS[:, ::-1]}
    losses = model.fit(x, np.ones(3), batch_size=3, epochs=4, verbose=0).history["loss"]
    assert losses[-1] < losses[0]


def test_vectors_are_cut_to_the_widths_of_the_training(model):
    tokenizer = Tokenizer.train([], 259)
    wide = perturbed(tiny_encoder(Embedder, vocabulary_size=259, widths=(5, 11)))
    embedder = predictor(wide, tokenizer)
    whole = embedder.embed(["a", "bc"])
    for width in (5, 11, 24, None):
        found = embedder.embed(["a", "bc"], width=width)
        np.testing.assert_allclose(found, unit(whole[:, :width]), atol=1e-5)
    assert embedder.embed("a", width=5).shape == (5,)
    with pytest.raises(InputError, match="the width is 6; vectors of this model have 5, 11, 24"):
        embedder.embed("a", width=6)


@pytest.mark.parametrize(
    "widths", [(0,), (24,), (5, 5), (11, 5), ("5",), (True,), 5, (5.0,), tuple(range(1, 24)) * 9]
)
def test_widths_that_cannot_be_are_refused(widths):
    with pytest.raises(InputError, match="widths is"):
        tiny_config(widths=widths)


def test_widths_are_kept_in_files_and_left_out_of_new_read_outs():
    config = tiny_config(widths=(5, 11), bag_dim=8)
    assert TransformerConfig.from_dict(config.to_dict()) == config
    assert config.to_dict()["widths"] == [5, 11]
    assert config_for_fine_tuning(config).widths == ()
    Classifier(config_for_fine_tuning(config, num_classes=2))
    assert read_widths(" 128,64, 64") == (64, 128) and read_widths("") == ()
    with pytest.raises(InputError, match="whole numbers, such as 64,128"):
        read_widths("64,a")


def test_prompts_of_the_two_sides_of_a_search():
    config = tiny_config(prompts={"passage": "p: ", "sts": "s: "}, default_prompt="sts")
    assert (config.prompt_name("query"), config.prompt_name("document")) == (None, "passage")
    assert pair_prompts(config) == ("s: ", "p: ")
    assert search_prompts(config, None, None) == config.prompts
    given = dataclasses.replace(config, prompts=search_prompts(config, "q: ", None))
    assert pair_prompts(given) == ("q: ", "p: ")
    new = search_prompts(tiny_config(), None, "d: ")
    assert new == {"query": "", "document": "d: "}
