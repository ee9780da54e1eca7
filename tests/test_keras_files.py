"""What Keras saves, a fresh process loads after `import tfx_transformer` alone: every public class,
compiled or not, with its weights, its optimizer and its adapters."""

from __future__ import annotations

import json
import pkgutil
import sys
from importlib import import_module
from importlib.machinery import PathFinder

import keras
import numpy as np
import pytest
import warm
from layer_harness import (
    CASES,
    HIDDEN,
    X,
    _model_around,
    random_ids,
    random_vectors,
)
from slow import ALL_TESTS
from tiny_models import (
    CONVOLUTIONS,
    PATCHES,
    VARIANTS,
    perturbed,
    tiny_causal,
    tiny_config,
    tiny_encoder,
    tiny_model,
)

import tfx_transformer as tfx
from tfx_transformer import layers, registration
from tfx_transformer.layers.norm import LayerNorm
from tfx_transformer.models.lora import add_adapters
from tfx_transformer.models.losses import Matryoshka
from tfx_transformer.training.optimizers import AdamW, InverseSquareRoot, adamw

IDS = np.random.default_rng(0).integers(3, 23, (3, 7)).astype("int32")
TOKENS = {"token_ids": IDS}
IMAGES = np.random.default_rng(0).uniform(0, 255, (3, 15, 15, 3)).astype("float32")

LAYERS = {
    **CASES,
    "linear": (layers.Linear, {"units": 5}, {"inputs": random_vectors(3, 11, 7)}),
    "lora": (layers.Linear, {"units": 5, "lora_rank": 2}, {"inputs": random_vectors(3, 11, 7)}),
    "dora": (
        layers.Linear,
        {"units": 5, "lora_rank": 2, "lora_alpha": 3.0, "dora": True},
        {"inputs": random_vectors(3, 11, 7)},
    ),
    "layer_norm": (LayerNorm, {"epsilon": 1e-3}, {"inputs": X}),
    "pooling": (layers.Pooling, {"mode": "attention"}, {"x": X}),
    "patches": (layers.PatchEmbedding, {"hidden_dim": 7, "patch_size": 5}, {"images": IMAGES}),
    "convolutions": (
        layers.ConvolutionalTokenizer,
        {"hidden_dim": 7, "conv_layers": 2},
        {"images": IMAGES},
    ),
    "n-grams": (
        layers.NGramEmbedding,
        {"input_dim": 11, "output_dim": HIDDEN},
        {"token_ids": random_ids(3, 5)},
    ),
    "initialized positions": (
        layers.LearnedPositions,
        {"max_length": 5, "initializer": keras.initializers.RandomNormal(stddev=0.3)},
        {"x": X},
    ),
}


if not ALL_TESTS:  # the last of each class, which has most settings
    last = {layer_class: name for name, (layer_class, *_) in LAYERS.items()}
    LAYERS = {name: LAYERS[name] for name in last.values()}

# Models whose class, and what they add to it, other files have too.
SELDOM = (
    "causal, not compiled",
    "seq2seq, not compiled",
    "masked, not compiled",
    "adapted causal",
    "embedder of scores",
    "dora on bfloat16, not compiled",
    "classifier of patches, not compiled",
)


def adapted(model, **settings):
    add_adapters(model, rank=3, **settings)
    perturb(model.trainable_weights)
    return model


def perturb(variables):
    random = np.random.default_rng(5)
    for variable in variables:
        noise = random.normal(size=variable.shape)
        variable.assign_add(noise > 0 if "int" in variable.dtype else 0.3 * noise)


def rated():
    return AdamW(InverseSquareRoot(1e-2, 3), use_ema=True, layer_decay=0.7, weight_decay=0.02)


ONE = {"num_layers": 1}
THREE = {**ONE, "num_classes": 3}
SOURCE = {"encoder_token_ids": IDS, "decoder_token_ids": IDS[:, :5]}
MASKED = {**TOKENS, "masked_positions": IDS[:, :2] % 7}
PAIRS = {**TOKENS, "pair_token_ids": IDS[::-1]}
BITS = [tfx.BitsPerByte(3.5), tfx.Perplexity(), tfx.TokenAccuracy()]
FEATURES = {"position": "relative", "ngram_buckets": 5, "num_segments": 2, "pooler": True}
FEATURES |= {"linear_buckets": 11, "linear_longest": 2}
CLASS_TOKENS = {"class_tokens": 2, "pooling": "class_tokens"}


def encoder(task, **settings):
    return lambda: tiny_encoder(task, **settings)


def with_adapters(new_model, **arguments):
    return lambda: adapted(new_model(), **arguments)


def causal(**settings):
    return lambda: tiny_causal(**ONE, **settings)


# name -> (makes the model, inputs, arguments of `compile`, if it is compiled).
MODELS = {
    "causal": (causal(), TOKENS, {"optimizer": adamw(1e-2, warmup_steps=3)}),
    "causal with bits per byte": (causal(), TOKENS, {"weighted_metrics": BITS}),
    "causal, not compiled": (causal(**VARIANTS["llama"]), TOKENS),
    "half precision, not compiled": (
        lambda: perturbed(tfx.CausalLM(tiny_config(**ONE), dtype="mixed_bfloat16")),
        TOKENS,
    ),
    "seq2seq": (lambda: tiny_model(**ONE), SOURCE, {"optimizer": rated()}),
    "seq2seq, not compiled": (lambda: tiny_model(**ONE), SOURCE),
    "masked": (encoder(tfx.MaskedLM, **ONE), MASKED, {"optimizer": adamw(1e-2)}),
    "masked, not compiled": (encoder(tfx.MaskedLM, **ONE), MASKED),
    "classifier": (
        encoder(tfx.Classifier, **THREE),
        TOKENS,
        {"optimizer": adamw(1e-2, average=0.9), "consistency": 0.5},
    ),
    "classifier of all features, not compiled": (
        encoder(tfx.Classifier, **THREE, **FEATURES),
        TOKENS,
    ),
    "regressor": (encoder(tfx.Regressor, **ONE), TOKENS, {"optimizer": adamw(1e-2)}),
    "tagger, not compiled": (encoder(tfx.Tagger, **THREE), TOKENS),
    "classifier of images, not compiled": (
        encoder(tfx.Classifier, **THREE, **CONVOLUTIONS, linear_cells=3, linear_patches=2),
        {"images": IMAGES[:, :11, :11]},
    ),
    "classifier of patches, not compiled": (
        encoder(tfx.Classifier, **THREE, **PATCHES, **CLASS_TOKENS),
        {"images": IMAGES},
    ),
    "embedder": (encoder(tfx.Embedder, **ONE, bag_dim=5), PAIRS, {"optimizer": adamw(1e-2)}),
    "embedder of scores": (
        encoder(tfx.Embedder, **ONE),
        PAIRS,
        {
            "optimizer": adamw(1e-2, decay="cosine", total_steps=9),
            "loss": tfx.ScoredCosine(),
        },
    ),
    "adapted causal": (with_adapters(causal()), TOKENS, {"optimizer": adamw(1e-2)}),
    "dora on bfloat16, not compiled": (
        with_adapters(causal(), kind="dora", base_dtype="bfloat16"),
        TOKENS,
    ),
    "dora on int8": (
        with_adapters(causal(), kind="dora", base_dtype="int8"),
        TOKENS,
        {"optimizer": adamw(1e-2)},
    ),
    "adapted classifier": (
        with_adapters(encoder(tfx.Classifier, **THREE), targets=["query"], alpha=5.0),
        TOKENS,
        {"optimizer": adamw(1e-2)},
    ),
}

SAVED = [name for name in MODELS if ALL_TESTS or name not in SELDOM]

# What is in no file of its own.
OBJECTS = {
    "relative": layers.RelativePositions(7, 8, 16, causal=True),
    "contrast": tfx.InBatchContrast(0.1),
    "scored": tfx.ScoredCosine(),
    "correlation": tfx.ScoredCorrelation(),
    "labels": tfx.LabelContrast(0.3),
    "widths": Matryoshka(tfx.LabelContrast(0.3)),
    "dpo": tfx.DPOLoss(0.2),
    "orpo": tfx.ORPOLoss(0.3),
    "rehearsed": tfx.RehearsedLoss(tfx.DPOLoss(0.2), 0.7),
    "preferred": tfx.PreferredShare(),
    "taught": tfx.TaughtCrossentropy(3.0, 0.7, multi_label=True),
    "taught_cosines": tfx.TaughtCosines(),
    "taught_error": tfx.TaughtError(0.3, absolute=True),
    "taught_tokens": tfx.TaughtTokens(5, 3.0, 0.7),
    "taught_perplexity": tfx.TaughtPerplexity(),
    "taught_token_accuracy": tfx.TaughtTokenAccuracy(),
    "taught_accuracy": tfx.TaughtAccuracy(multi_label=True),
    "tokens": tfx.TokenCrossentropy(0.2),
    "bits": tfx.BitsPerByte(4.5),
    "perplexity": tfx.Perplexity(),
    "accuracy": tfx.TokenAccuracy(),
    "schedule": InverseSquareRoot(0.5, 7),
    "optimizer": rated(),
    "adamw": adamw(0.5, warmup_steps=3, decay="cosine", total_steps=9, layer_decay=0.5),
}

# Loads all files of a folder, and answers the inputs beside them, in a process in which nothing
# but `import tfx_transformer` names this package.
LOAD = """
import json, os, sys
import numpy as np
folder, order = sys.argv[1], sys.argv[2]
if order == "keras first":
    import keras
    for file in sorted(os.listdir(folder)):
        if not file.endswith(".keras"):
            continue
        try:
            keras.models.load_model(f"{folder}/{file}")
        except Exception as error:
            assert "import tfx_transformer" in str(error), (file, error)
        else:
            raise SystemExit(f"{file} was loaded by Keras alone")
    import tfx_transformer
else:
    import tfx_transformer
    import keras
assert not [n for n in sys.modules if n.startswith("tfx_transformer.layers")], "loaded before need"

def state(model):
    optimizer = getattr(model, "optimizer", None)
    variables = [*model.trainable_variables, *getattr(optimizer, "variables", [])]
    arrays = map(keras.ops.convert_to_numpy, variables)
    return {str(i): array.astype("float32") for i, array in enumerate(arrays)}

problems = {}
for file in sorted(os.listdir(folder)):
    name, extension = os.path.splitext(file)
    if extension == ".json":
        with open(f"{folder}/{file}") as text:
            saved = text.read()
        loaded = keras.saving.deserialize_keras_object(json.loads(saved))
        again = json.dumps(keras.saving.serialize_keras_object(loaded))
        if again != saved:
            problems[name] = f"{again} is not {saved}"
    if extension != ".keras":
        continue
    try:
        model = keras.models.load_model(f"{folder}/{file}")
        inputs = dict(np.load(f"{folder}/{name}.npz"))
        output = keras.ops.convert_to_numpy(keras.ops.cast(model(inputs), "float32"))
        np.savez(f"{folder}/{name}.loaded.npz", output=output, **state(model))
    except Exception as error:
        problems[name] = repr(error)
print(json.dumps(problems))
"""


def state(model):
    optimizer = getattr(model, "optimizer", None)
    variables = [*model.trainable_variables, *getattr(optimizer, "variables", [])]
    return [keras.ops.convert_to_numpy(v).astype("float32") for v in variables]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """Name -> expected output and state; the folder; what went wrong in the fresh process."""
    folder, expected = tmp_path_factory.mktemp("files"), {}

    def save(name, model, inputs):
        model.save(folder / f"{name}.keras")
        np.savez(folder / f"{name}.npz", **inputs)
        output = np.asarray(keras.ops.cast(model(inputs), "float32"))
        expected[name] = output, state(model)

    for name, (layer_class, arguments, inputs) in LAYERS.items():
        layer = layer_class(**arguments)
        model = _model_around(layer, inputs)
        perturbed(model)
        save(name, model, inputs)
    for name in SAVED:
        new_model, inputs, *training = MODELS[name]
        model = new_model()
        if training:
            model.compile(**training[0])
            model.optimizer.build(model.trainable_variables)
            perturb(model.optimizer.variables)
        save(name, model, inputs)
    for name, thing in OBJECTS.items():
        config = keras.saving.serialize_keras_object(thing)
        (folder / f"{name}.json").write_text(json.dumps(config))
    done = warm.run(["-c", LOAD, folder, "keras first"])
    assert done.returncode == 0, done.stderr
    return folder, expected, json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", [*LAYERS, *SAVED])
def test_a_file_of_keras_loads_in_a_fresh_process(name, loaded):
    folder, expected, problems = loaded
    assert name not in problems
    output, weights = expected[name]
    with np.load(folder / f"{name}.loaded.npz") as found:
        assert np.abs(output).max() > 0
        np.testing.assert_allclose(found["output"], output, atol=1e-6)
        assert len(found.files) == 1 + len(weights), "as much is trained"
        for index, weight in enumerate(weights):
            np.testing.assert_array_equal(found[str(index)], weight)


def test_what_is_in_no_file_of_its_own_comes_back_too(loaded):
    assert not loaded[2].keys() & OBJECTS.keys()


def test_every_class_is_tried(loaded):
    folder, expected, _ = loaded
    assert expected.keys() == {*LAYERS, *SAVED}
    tried = {registration_of(type(thing)) for thing in OBJECTS.values()}
    tried |= {layer_class.__name__ for layer_class, _, _ in LAYERS.values()}
    # By the models, the last three as parts of classifiers and the embedder.
    tried |= {"CausalLM", "Seq2SeqLM", "MaskedLM", "Classifier", "Regressor", "Tagger", "Embedder"}
    tried |= {"NGramLogits", "EdgeColorLogits", "TokenBag"}
    assert tried >= registration.CLASSES.keys()


def registration_of(cls):
    return keras.saving.get_registered_name(cls).removeprefix(f"{registration.PACKAGE}>")


def test_the_table_of_classes_is_whole():
    for part in (layers, tfx.training, import_module("tfx_transformer.models")):
        for module in pkgutil.walk_packages(part.__path__, f"{part.__name__}."):
            import_module(module.name)
    ours = {
        name.removeprefix(f"{registration.PACKAGE}>"): cls.__module__
        for name, cls in keras.saving.get_custom_objects().items()
        if name.startswith(registration.PACKAGE)
    }
    assert ours == {k: f"tfx_transformer.{m}" for k, m in registration.CLASSES.items()}


@pytest.mark.parametrize("package", [registration.PACKAGE, registration.FORMER_PACKAGE])
def test_a_class_is_found_under_its_present_and_its_former_name(package):
    tree = keras.saving.serialize_keras_object(layers.FeedForward(13))
    tree["registered_name"] = f"{package}>FeedForward"
    assert type(keras.saving.deserialize_keras_object(tree)) is layers.FeedForward


def test_a_class_that_is_not_imported_yet_acts_as_the_class():
    later = registration._Later("FeedForward", (), {"__module__": layers.FeedForward.__module__})
    assert type(later(13)) is layers.FeedForward
    assert type(later.from_config({"intermediate_dim": 13})) is layers.FeedForward


def test_keras_is_found_beside_a_finder_that_asks_all_others(monkeypatch):
    class Asking:
        def find_spec(self, name, path=None, target=None):
            others = (f for f in sys.meta_path if f is not self)
            return next(filter(None, (f.find_spec(name, path, target) for f in others)), None)

    ours = registration._KerasFinder()
    others = [PathFinder]  # without those of tools that run the tests
    for first in ([ours, Asking()], [Asking(), ours]):
        monkeypatch.setattr(sys, "meta_path", first + others)
        spec = first[0].find_spec("keras")
        assert spec.origin == keras.__spec__.origin
        # What registers the classes replaces the loader's method.
        assert "exec_module" in vars(spec.loader)


@pytest.mark.slow(
    but=[
        "half precision, not compiled",
        "seq2seq, not compiled",
        "classifier of all features, not compiled",
        "classifier of patches, not compiled",
        "dora on bfloat16, not compiled",
    ]
)
@pytest.mark.parametrize("name", [name for name in MODELS if "not compiled" in name])
def test_models_that_were_never_compiled_are_copied(name):
    new_model, inputs = MODELS[name]
    model = new_model()
    again = type(model).from_config(model.get_config())
    clone = keras.models.clone_model(model)
    for copy in (again, clone):
        assert [w.path for w in copy.weights] == [w.path for w in model.weights]
        assert [w.trainable for w in copy.weights] == [w.trainable for w in model.weights]
        assert [w.dtype for w in copy.weights] == [w.dtype for w in model.weights]
        copy.set_weights(model.get_weights())
        np.testing.assert_array_equal(
            *(
                keras.ops.convert_to_numpy(keras.ops.cast(m(inputs), "float32"))
                for m in (copy, model)
            )
        )


def test_saved_adapters_are_merged_by_a_layer_that_has_others(tmp_path):
    x = random_vectors(3, 7)
    model = keras.Sequential([keras.Input((7,)), layers.Linear(5, dora=True, lora_rank=2)])
    perturbed(model)
    model.layers[0].lora_magnitude.assign_add(np.arange(5))
    model.save_weights(tmp_path / "a.weights.h5")
    for options in ({}, {"lora_rank": 3}, {"lora_rank": 3, "dora": True}):
        other = keras.Sequential([keras.Input((7,)), layers.Linear(5, **options)])
        other.load_weights(tmp_path / "a.weights.h5")
        np.testing.assert_allclose(other(x), model(x), atol=1e-5)
