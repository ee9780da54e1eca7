"""From a CSV to a Transformer that runs anywhere.

Public names are imported when they are first used (PEP 562), so that `--help` and `runtime` never
import TensorFlow.
"""

from __future__ import annotations

import importlib

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

__all__ = [*_MODULE_OF, *_MODULES]


def __getattr__(name: str):
    from tfx_transformer.flags import muted

    with muted():  # TensorFlow logs its start
        if name in _MODULE_OF:
            return getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
        if name in _MODULES:
            return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
