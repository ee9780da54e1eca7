"""From a table to a Transformer that runs anywhere.

Public names are imported when they are first used (PEP 562), so that `--help` and `runtime` never
import TensorFlow.
"""

from __future__ import annotations

import contextlib
import importlib
from typing import TYPE_CHECKING, Any

from tfx_transformer import installation, registration, renamed

__version__ = "0.1.0"

_MODULE_OF = {
    "InputError": "errors",
    "CHAT_TEMPLATE": "text.prompts",
    "CALL_PATTERN": "text.tokenizer",
    "FINE_PATTERN": "text.tokenizer",
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
    "Tagger": "models.tagger",
    "Regressor": "models.regressor",
    "in_units": "models.regressor",
    "config_for_fine_tuning": "models.encoders",
    "copy_weights": "models.encoders",
    "predictor": "models.predicting",
    "DPOLoss": "models.preference_losses",
    "ORPOLoss": "models.preference_losses",
    "PreferredShare": "models.preference_losses",
    "TaughtAccuracy": "models.distillation",
    "TaughtCrossentropy": "models.distillation",
    "RehearsedLoss": "models.preference_losses",
    "TaughtCosines": "models.distillation",
    "TaughtError": "models.distillation",
    "TaughtTokens": "models.distillation",
    "TaughtTokenAccuracy": "models.distillation",
    "TaughtPerplexity": "models.distillation",
    "BitsPerByte": "models.losses",
    "InBatchContrast": "models.losses",
    "ScoredCorrelation": "models.losses",
    "LabelContrast": "models.losses",
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
    "merge_adapters": "models.lora",
    "save_adapters": "models.lora",
    "save": "models.saving",
    "update_config": "model_card",
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
    "pictures",
    "resources",
    "runtime",
    "search",
    "training",
    "vectors",
)

# Old names, which still work -> new names.
_RENAMED = {
    "annotate": "update_config",
    "fine_tuned": "config_for_fine_tuning",
    "merged": "merge_adapters",
    "take_over": "copy_weights",
}

if TYPE_CHECKING:
    # What `__getattr__` finds, for type checkers and editors; a test holds that the two agree.
    from tfx_transformer import bundle as bundle
    from tfx_transformer import data as data
    from tfx_transformer import evaluation as evaluation
    from tfx_transformer import export as export
    from tfx_transformer import flags as flags
    from tfx_transformer import layers as layers
    from tfx_transformer import pictures as pictures
    from tfx_transformer import resources as resources
    from tfx_transformer import runtime as runtime
    from tfx_transformer import search as search
    from tfx_transformer import training as training
    from tfx_transformer import vectors as vectors
    from tfx_transformer.config import TransformerConfig as TransformerConfig
    from tfx_transformer.errors import InputError as InputError
    from tfx_transformer.evaluation import score_answers as score_answers
    from tfx_transformer.evaluation import score_texts as score_texts
    from tfx_transformer.generation import GenerationOptions as GenerationOptions
    from tfx_transformer.generation.chat import Chat as Chat
    from tfx_transformer.model_card import update_config as update_config
    from tfx_transformer.models.decoding import text_generator as text_generator
    from tfx_transformer.models.distillation import TaughtAccuracy as TaughtAccuracy
    from tfx_transformer.models.distillation import TaughtCosines as TaughtCosines
    from tfx_transformer.models.distillation import TaughtCrossentropy as TaughtCrossentropy
    from tfx_transformer.models.distillation import TaughtError as TaughtError
    from tfx_transformer.models.distillation import TaughtPerplexity as TaughtPerplexity
    from tfx_transformer.models.distillation import TaughtTokenAccuracy as TaughtTokenAccuracy
    from tfx_transformer.models.distillation import TaughtTokens as TaughtTokens
    from tfx_transformer.models.encoders import Classifier as Classifier
    from tfx_transformer.models.encoders import Embedder as Embedder
    from tfx_transformer.models.encoders import MaskedLM as MaskedLM
    from tfx_transformer.models.encoders import config_for_fine_tuning as config_for_fine_tuning
    from tfx_transformer.models.encoders import copy_weights as copy_weights
    from tfx_transformer.models.lora import add_adapters as add_adapters
    from tfx_transformer.models.lora import load_adapters as load_adapters
    from tfx_transformer.models.lora import merge_adapters as merge_adapters
    from tfx_transformer.models.lora import save_adapters as save_adapters
    from tfx_transformer.models.losses import BitsPerByte as BitsPerByte
    from tfx_transformer.models.losses import InBatchContrast as InBatchContrast
    from tfx_transformer.models.losses import LabelContrast as LabelContrast
    from tfx_transformer.models.losses import Perplexity as Perplexity
    from tfx_transformer.models.losses import ScoredCorrelation as ScoredCorrelation
    from tfx_transformer.models.losses import ScoredCosine as ScoredCosine
    from tfx_transformer.models.losses import TokenAccuracy as TokenAccuracy
    from tfx_transformer.models.losses import TokenCrossentropy as TokenCrossentropy
    from tfx_transformer.models.predicting import predictor as predictor
    from tfx_transformer.models.preference_losses import DPOLoss as DPOLoss
    from tfx_transformer.models.preference_losses import ORPOLoss as ORPOLoss
    from tfx_transformer.models.preference_losses import PreferredShare as PreferredShare
    from tfx_transformer.models.preference_losses import RehearsedLoss as RehearsedLoss
    from tfx_transformer.models.pretrained import from_pretrained as from_pretrained
    from tfx_transformer.models.regressor import Regressor as Regressor
    from tfx_transformer.models.regressor import in_units as in_units
    from tfx_transformer.models.saving import load as load
    from tfx_transformer.models.saving import save as save
    from tfx_transformer.models.tagger import Tagger as Tagger
    from tfx_transformer.models.tasks import CausalLM as CausalLM
    from tfx_transformer.models.tasks import Seq2SeqLM as Seq2SeqLM
    from tfx_transformer.models.transformer import TransformerStack as TransformerStack
    from tfx_transformer.text.prompts import CHAT_TEMPLATE as CHAT_TEMPLATE
    from tfx_transformer.text.prompts import ROLE_TOKENS as ROLE_TOKENS
    from tfx_transformer.text.prompts import ChatTemplate as ChatTemplate
    from tfx_transformer.text.tokenizer import CALL_PATTERN as CALL_PATTERN
    from tfx_transformer.text.tokenizer import FINE_PATTERN as FINE_PATTERN
    from tfx_transformer.text.tokenizer import MASK_TOKEN as MASK_TOKEN
    from tfx_transformer.text.tokenizer import Tokenizer as Tokenizer

# The folders whose modules import Keras, and with it TensorFlow.
_WITH_KERAS = ("export", "layers", "models")

__all__ = [*_MODULE_OF, *_MODULES]


def _resolve(name: str) -> Any:
    if name in _RENAMED:
        renamed.warn(f"{__name__}.{name}", _RENAMED[name])
        name = _RENAMED[name]
    if name not in __all__:
        raise AttributeError(_unknown(name), name=name)
    path = _MODULE_OF.get(name, name)
    if installation.leaves_out(f"{__name__}.{path}"):
        message = installation.needs_all(f"{__name__}.{name}")
        raise ModuleNotFoundError(message, name=f"{__name__}.{path}")
    with _starting(path):
        value = importlib.import_module(f"{__name__}.{path}")
    if name in _MODULE_OF:
        value = getattr(value, name)
    globals()[name] = value  # the next use finds it there
    return value


if not TYPE_CHECKING:  # a checker that sees it accepts every name
    __getattr__ = _resolve


def _starting(path: str) -> contextlib.AbstractContextManager[None]:
    """Return the context of a module's import: see `flags.starting_keras`."""
    if path.partition(".")[0] not in _WITH_KERAS or path == "models.pretrained":
        return contextlib.nullcontext()
    from tfx_transformer.flags import starting_keras

    return starting_keras()


def _unknown(name: str) -> str:
    import difflib

    near = difflib.get_close_matches(name, __all__, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"module {__name__!r} has no attribute {name!r}.{hint}"


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


registration.install()
