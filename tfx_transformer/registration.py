"""The registration of this package's classes with Keras, without importing them.

`keras.models.load_model` looks up a class in Keras's table of custom objects, and imports only
modules of Keras's own packages. So the names are put into that table as soon as both packages are
imported, in any order; a class is imported when Keras makes an instance of it.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from types import ModuleType

# A class is registered under this, ">" and its name. Keras shows it in its message if it does not
# find the class.
PACKAGE = "import tfx_transformer first"
# The same in files of the first versions.
FORMER_PACKAGE = "tfx_transformer"

# Class -> its module.
CLASSES = {
    "AdamW": "training.optimizers",
    "BitsPerByte": "models.losses",
    "CausalLM": "models.tasks",
    "Classifier": "models.encoders",
    "ConvolutionalTokenizer": "layers.image",
    "DPOLoss": "models.preference_losses",
    "EdgeColorLogits": "layers.edges",
    "Embedder": "models.encoders",
    "FeedForward": "layers.feed_forward",
    "InBatchContrast": "models.losses",
    "Matryoshka": "models.losses",
    "InverseSquareRoot": "training.optimizers",
    "LayerNorm": "layers.norm",
    "LearnedPositions": "layers.position",
    "Linear": "layers.linear",
    "MaskedLM": "models.encoders",
    "MultiHeadAttention": "layers.attention",
    "NGramEmbedding": "layers.ngrams",
    "NGramLogits": "layers.ngrams",
    "ORPOLoss": "models.preference_losses",
    "PatchEmbedding": "layers.image",
    "Perplexity": "models.losses",
    "Pooling": "layers.pooling",
    "PreferredShare": "models.preference_losses",
    "RehearsedLoss": "models.preference_losses",
    "Regressor": "models.regressor",
    "RelativePositions": "layers.relative",
    "RotaryPositions": "layers.position",
    "LabelContrast": "models.losses",
    "ScoredCorrelation": "models.losses",
    "ScoredCosine": "models.losses",
    "Seq2SeqLM": "models.tasks",
    "SinusoidalPositions": "layers.position",
    "Tagger": "models.tagger",
    "TaughtAccuracy": "models.distillation",
    "TaughtCosines": "models.distillation",
    "TaughtError": "models.distillation",
    "TaughtTokens": "models.distillation",
    "TaughtTokenAccuracy": "models.distillation",
    "TaughtPerplexity": "models.distillation",
    "TaughtCrossentropy": "models.distillation",
    "TokenAccuracy": "models.losses",
    "TokenBag": "layers.bag",
    "TokenCrossentropy": "models.losses",
    "TokenEmbedding": "layers.embedding",
    "TransformerBlock": "layers.block",
    "TransformerStack": "models.transformer",
}


def install() -> None:
    """Register the classes: now if Keras is imported, else when it is."""
    keras = sys.modules.get("keras")
    if hasattr(keras, "saving"):
        _register(keras)
    if not any(type(finder) is _KerasFinder for finder in sys.meta_path):
        sys.meta_path.insert(0, _KerasFinder())


def _register(keras: ModuleType) -> None:
    known = keras.saving.get_custom_objects()
    for name, module in CLASSES.items():
        later = _Later(name, (), {"__module__": f"tfx_transformer.{module}"})
        for package in (PACKAGE, FORMER_PACKAGE):
            known.setdefault(f"{package}>{name}", later)


class _Later(type):
    """A class that is imported when it is called, or when an attribute is read."""

    def _imported(cls) -> type:
        return getattr(importlib.import_module(cls.__module__), cls.__name__)

    def __call__(cls, *args, **kwargs):
        return cls._imported()(*args, **kwargs)

    def __getattr__(cls, name: str):
        return getattr(cls._imported(), name)


class _KerasFinder:
    """Finds Keras as the other finders do, and registers the classes once it is imported."""

    asking = False  # another finder that asks all others asks this one again

    def find_spec(self, name, path=None, target=None):
        if name != "keras" or self.asking:
            return None
        others = [finder for finder in sys.meta_path if finder is not self]
        self.asking = True
        try:
            specs = (finder.find_spec(name, path, target) for finder in others)
            spec = next(filter(None, specs), None)
        finally:
            self.asking = False
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def execute_and_register(module: ModuleType) -> None:
            execute(module)
            _register(module)

        with contextlib.suppress(AttributeError):  # a loader whose methods cannot be set
            spec.loader.exec_module = execute_and_register
        return spec
