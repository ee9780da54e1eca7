"""Training: `fit`, optimizer and schedule, callbacks, checkpoints, and the files of a run.

Public names are imported when they are first used (PEP 562), so wrong settings and data are found
before Keras, and with it TensorFlow, starts.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from tfx_transformer.flags import starting_keras
from tfx_transformer.renamed import warn

_MODULE_OF = {
    "AssistantRun": "assistants",
    "ClassifierRun": "classification",
    "EmbedderRun": "embedding",
    "InverseSquareRoot": "optimizers",
    "Past": "past",
    "Previews": "callbacks",
    "Progress": "callbacks",
    "PreferenceRun": "preferences",
    "RegressorRun": "regression",
    "ResumableCallback": "callbacks",
    "Run": "run",
    "TaggerRun": "tagging",
    "Teacher": "teachers",
    "TokenTeacher": "token_teachers",
    "TimeLimit": "callbacks",
    "ToolRun": "calling",
    "adamw": "optimizers",
    "augment_images": "augmentation",
    "begin_bag": "bags",
    "check_base_given": "preflight",
    "accumulate": "accumulation",
    "check_settings": "preflight",
    "classifier_defaults": "defaults",
    "embedder_defaults": "defaults",
    "embedder_tuning_defaults": "defaults",
    "config_for_contrast": "heads",
    "disable_dropout": "preferences",
    "fill_in": "defaults",
    "fine_tuning_defaults": "defaults",
    "hard_negatives": "embedding",
    "is_few": "defaults",
    "new_bundle_path": "folder",
    "pair_prompts": "embedding",
    "read_widths": "embedding",
    "search_prompts": "embedding",
    "objective": "objectives",
    "pieces_pattern": "defaults",
    "rounds": "limits",
    "set_random_seed": "seeds",
    "student_defaults": "defaults",
    "text_base": "base",
}
_OLD_NAMES = {"augmented": "augment_images"}
# The modules that do not import Keras.
_LIGHT = ("defaults", "folder", "limits", "past", "preflight", "teachers", "token_teachers")

if TYPE_CHECKING:
    from tfx_transformer.training.accumulation import accumulate as accumulate
    from tfx_transformer.training.assistants import AssistantRun as AssistantRun
    from tfx_transformer.training.augmentation import augment_images as augment_images
    from tfx_transformer.training.bags import begin_bag as begin_bag
    from tfx_transformer.training.base import text_base as text_base
    from tfx_transformer.training.callbacks import Previews as Previews
    from tfx_transformer.training.callbacks import Progress as Progress
    from tfx_transformer.training.callbacks import ResumableCallback as ResumableCallback
    from tfx_transformer.training.callbacks import TimeLimit as TimeLimit
    from tfx_transformer.training.calling import ToolRun as ToolRun
    from tfx_transformer.training.classification import ClassifierRun as ClassifierRun
    from tfx_transformer.training.defaults import classifier_defaults as classifier_defaults
    from tfx_transformer.training.defaults import embedder_defaults as embedder_defaults
    from tfx_transformer.training.defaults import (
        embedder_tuning_defaults as embedder_tuning_defaults,
    )
    from tfx_transformer.training.defaults import fill_in as fill_in
    from tfx_transformer.training.defaults import fine_tuning_defaults as fine_tuning_defaults
    from tfx_transformer.training.defaults import is_few as is_few
    from tfx_transformer.training.defaults import pieces_pattern as pieces_pattern
    from tfx_transformer.training.defaults import student_defaults as student_defaults
    from tfx_transformer.training.embedding import EmbedderRun as EmbedderRun
    from tfx_transformer.training.embedding import hard_negatives as hard_negatives
    from tfx_transformer.training.embedding import pair_prompts as pair_prompts
    from tfx_transformer.training.embedding import read_widths as read_widths
    from tfx_transformer.training.embedding import search_prompts as search_prompts
    from tfx_transformer.training.folder import new_bundle_path as new_bundle_path
    from tfx_transformer.training.heads import config_for_contrast as config_for_contrast
    from tfx_transformer.training.limits import rounds as rounds
    from tfx_transformer.training.objectives import objective as objective
    from tfx_transformer.training.optimizers import InverseSquareRoot as InverseSquareRoot
    from tfx_transformer.training.optimizers import adamw as adamw
    from tfx_transformer.training.past import Past as Past
    from tfx_transformer.training.preferences import PreferenceRun as PreferenceRun
    from tfx_transformer.training.preferences import disable_dropout as disable_dropout
    from tfx_transformer.training.preflight import check_base_given as check_base_given
    from tfx_transformer.training.preflight import check_settings as check_settings
    from tfx_transformer.training.regression import RegressorRun as RegressorRun
    from tfx_transformer.training.run import Run as Run
    from tfx_transformer.training.seeds import set_random_seed as set_random_seed
    from tfx_transformer.training.tagging import TaggerRun as TaggerRun
    from tfx_transformer.training.teachers import Teacher as Teacher
    from tfx_transformer.training.token_teachers import TokenTeacher as TokenTeacher

__all__ = [*_MODULE_OF]


def _resolve(name: str) -> Any:
    if name in _OLD_NAMES:
        warn(f"{__name__}.{name}", _OLD_NAMES[name])
        name = _OLD_NAMES[name]
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name)
    module = f"{__name__}.{_MODULE_OF[name]}"
    if _MODULE_OF[name] in _LIGHT:
        value = getattr(importlib.import_module(module), name)
    else:
        with starting_keras():
            value = getattr(importlib.import_module(module), name)
    globals()[name] = value  # the next use finds it there
    return value


if not TYPE_CHECKING:  # a checker that sees it accepts every name
    __getattr__ = _resolve


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
