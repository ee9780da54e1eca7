"""From a CSV to a Transformer that runs anywhere.

Public names are imported when they are first used (PEP 562), so that `--help` and `runtime` never
import TensorFlow.
"""

from __future__ import annotations

import contextlib
import importlib
import sys

__version__ = "0.1.0"

_MODULE_OF = {
    "InputError": "errors",
    "CHAT_TEMPLATE": "text.prompts",
    "MASK_TOKEN": "text.tokenizer",
    "ROLE_TOKENS": "text.prompts",
    "ChatTemplate": "text.prompts",
    "Chat": "generation.chat",
    "TransformerConfig": "config",
    "Tokenizer": "text.tokenizer",
    "GenerationOptions": "generation",
    "Seq2SeqLM": "models.tasks",
    "Classifier": "models.encoders",
    "Embedder": "models.encoders",
    "MaskedLM": "models.encoders",
    "fine_tuned": "models.encoders",
    "take_over": "models.encoders",
    "predictor": "models.predicting",
    "BitsPerByte": "models.losses",
    "InBatchContrast": "models.losses",
    "ScoredCosine": "models.losses",
    "Perplexity": "models.losses",
    "TokenAccuracy": "models.losses",
    "TokenCrossentropy": "models.losses",
    "CausalLM": "models.tasks",
    "TransformerStack": "models.transformer",
    "score_answers": "evaluation",
    "score_texts": "evaluation",
    "add_adapters": "models.lora",
    "load_adapters": "models.lora",
    "merged": "models.lora",
    "save_adapters": "models.lora",
    "save": "models.saving",
    "annotate": "models.saving",
    "load": "models.saving",
    "from_pretrained": "models.pretrained",
    "text_generator": "models.decoding",
}
_MODULES = (
    "bundle",
    "data",
    "evaluation",
    "export",
    "flags",
    "layers",
    "resources",
    "runtime",
    "training",
    "vectors",
)

# The folders whose modules import Keras, and with it TensorFlow.
_WITH_KERAS = ("export", "layers", "models", "training")

__all__ = [*_MODULE_OF, *_MODULES]


def __getattr__(name: str):
    if name not in __all__:
        raise AttributeError(_unknown(name), name=name)
    path = _MODULE_OF.get(name, name)
    with _quiet_start(path):
        value = importlib.import_module(f"{__name__}.{path}")
    if name in _MODULE_OF:
        value = getattr(value, name)
    globals()[name] = value  # so that the next use does not come here
    return value


def _quiet_start(path: str) -> contextlib.AbstractContextManager[None]:
    """Discards what TensorFlow logs from C++ when it is first imported, by Keras or by itself."""
    started = "keras" in sys.modules or "tensorflow" in sys.modules
    if started or path.partition(".")[0] not in _WITH_KERAS:
        return contextlib.nullcontext()
    from tfx_transformer.flags import muted

    return muted()


def _unknown(name: str) -> str:
    import difflib

    near = difflib.get_close_matches(name, __all__, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"module {__name__!r} has no attribute {name!r}.{hint}"


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
