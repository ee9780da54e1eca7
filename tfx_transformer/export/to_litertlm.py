"""`.litertlm` files: model, tokenizer and chat template in one file, for Google's LiteRT-LM."""

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ai_edge_litert import schema_py_generated as schema
from litert_lm_builder.runtime.proto.llm_metadata_pb2 import LlmMetadata  # pyright: ignore
from litert_lm_builder.runtime.proto.sampler_params_pb2 import SamplerParameters  # pyright: ignore

from tfx_transformer import bundle
from tfx_transformer.config import TransformerConfig
from tfx_transformer.errors import InputError
from tfx_transformer.export.calibration import read_inputs
from tfx_transformer.export.compact import without_signatures
from tfx_transformer.export.context import chat_context, long_signatures, short_context_note
from tfx_transformer.export.converter import Converter
from tfx_transformer.export.litertlm_embedder import pack_embedder
from tfx_transformer.export.litertlm_packing import Kind, packed_tokenizer, write_file
from tfx_transformer.export.signatures import DRAFTED, ROWS
from tfx_transformer.export.tensorflow_process import on_tensorflow
from tfx_transformer.export.to_litert import Conversion, check_calibration, litert
from tfx_transformer.models.saving import load
from tfx_transformer.runtime.litertlm import CONTROL, REPLACEMENT
from tfx_transformer.text.tokenizer import Tokenizer
from tfx_transformer.text.tools import CLOSE, OPEN

# Separates the characters of a special token's name that is text; it is removed in the end.
_BREAK = "\ufdd1"

# The template of a model without a chat template: it continues the text.
_CONTINUATION = "{{ messages | map(attribute='content') | join%s }}"


@on_tensorflow
def litertlm(
    path: str | os.PathLike,
    variant: str = "int8",
    context: int | None = None,
    calibration: Sequence = (),
) -> None:
    """Add `model.litertlm` to the bundle of a decoder-only model or of an embedder.

    Decoder-only: `litert-lm run` and `litert-lm serve` answer with it as the bundle does: greedily,
    and from the same tokens. Two things differ. The characters U+FDD0 and U+FDD1, which Unicode
    reserves, reach the model as U+FFFD. And LiteRT-LM does not end an answer that was cut for
    length with the end token before the next message, as `generation.chat` does.

    A conversation ends where the context does, so a model with rotary positions that was trained
    with fewer than 1,024 tokens gets a context of 1,024: see `context.long_signatures`. Up to the
    context of training, the answers are the same.

    Embedder: `litert_lm.EmbeddingEngine` and `litert-lm serve` give the bundle's vectors. Three
    things differ. They refuse a text that is too long, unless the engine is asked to cut it
    (`InputOverflowStrategy.TRUNCATE`), as the bundle does. They scale vectors to length 1 unless
    asked not to (`normalize`), also those of a model that does not normalize. And the model's
    default prompt is put before each text that is not empty; other prompts are not in the file.

    Without `--cache no` LiteRT-LM leaves a cache next to the file that it runs.

    Args:
        path: the bundle's folder.
        variant: number format of the weights: "float32", "int8" or "int4".
        context: most tokens of a conversation with a decoder-only model; None: those of the model,
            at least 1,024 if its positions are rotary.
        calibration: for "int4", see `litert`; if the bundle has a TFLite file of this context, it
            is packed as it is, and a note says so.

    Raises:
        InputError: the bundle is damaged or of another task, LiteRT-LM cannot run its model, or an
            argument has another value.
    """
    if variant not in bundle.LITERT:
        raise InputError(
            f"variant is {variant!r}.\n  Expected one of {', '.join(map(repr, bundle.LITERT))}."
        )
    check_calibration(_quantize(variant), calibration)
    task = bundle.read_config(path).get("task", "")
    if task not in _PACKERS:
        raise InputError(
            f"{path}: LiteRT-LM runs decoder-only models and embedders; this one's task is "
            f"{task!r}.\n  Export it --to litert."
        )
    _PACKERS[task](Path(path), variant, context, calibration)


def _pack_generator(
    path: Path, variant: str, context: int | None, calibration: Sequence = ()
) -> None:
    """Add `model.litertlm` to the bundle of a decoder-only model."""
    config = TransformerConfig.from_dict(bundle.read_config(path)["architecture"])
    wanted = chat_context(config, context)
    is_own = wanted == config.max_sequence_length
    if is_own and not (path / bundle.LITERT[variant]).is_file():
        litert(path, quantize=_quantize(variant), calibration=calibration)
        calibration = ()
    with Converter() as converter:
        model, tokenizer = load(path)
        with bundle.updating(path) as folder:
            write_litertlm(folder, model, tokenizer, converter, variant, context, calibration)


# The maker of the file for each task.
_PACKERS: dict[str, Callable[[Path, str, int | None, Sequence], None]] = {
    "causal": _pack_generator,
    "embedding": pack_embedder,
}


def write_litertlm(
    folder: Path,
    model: Any,
    tokenizer: Tokenizer,
    converter: Converter,
    variant: str,
    context: int | None = None,
    calibration: Sequence = (),
) -> None:
    """Write `model.litertlm` into the folder of the bundle of a decoder-only model, from its TFLite
    file of a variant, or from a conversion of its own if the context of that file is another one.

    LiteRT-LM does not use the signatures that continue several texts, that read only the first
    slots of the cache, or that verify drafts, so they are left out. If `context` is None and a chat
    will soon end, a note is printed.
    """
    if context is None and (note := short_context_note(model.config)):
        print(note)
    context = chat_context(model.config, context)
    file = folder / bundle.LITERT[variant]
    content = file.read_bytes() if file.is_file() else b""
    if content and _context(content) == context:
        if len(calibration):
            print(f"  {file.name} is packed as it is; --to litert rounds it on --calibration.")
    else:
        inputs = read_inputs(model, tokenizer, calibration)
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            file = Path(temporary, "model.tflite")
            table = long_signatures(model, context)
            target = {_quantize(variant): file}
            with Conversion(model, target, converter, table=table, inputs=inputs):
                pass
            content = file.read_bytes()
    models = {Kind.PREFILL_DECODE: without_signatures(content, _for_our_runtime(content))}
    config = dataclasses.replace(model.config, max_sequence_length=context)
    packed = packed_tokenizer(tokenizer)
    write_file(folder / bundle.LITERTLM, packed, _metadata(tokenizer, config), models)
    facts = {"variant": variant, "context": context}
    bundle.write_config(folder, bundle.read_config(folder) | {"litertlm": facts})


def _for_our_runtime(content: bytes) -> set[str]:
    """Return the names of the signatures that only `runtime.causal` uses."""
    model: Any = schema.ModelT.InitFromPackedBuf(content, 0)
    names = (entry.signatureKey.decode() for entry in model.signatureDefs)
    others = (f"decode_{ROWS}", f"verify_{DRAFTED}")
    return {name for name in names if name.startswith("first_") or name in others}


def _quantize(variant: str) -> str | None:
    return None if variant == "float32" else variant


def _context(content: bytes) -> int:
    """Return the number of slots in the cache of a TFLite file."""
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    (decode,) = (s for s in model.signatureDefs if s.signatureKey == b"decode")
    (cache,) = (i.tensorIndex for i in decode.inputs if i.name == b"kv_cache_k_0")
    return int(model.subgraphs[decode.subgraphIndex].tensors[cache].shape[2])


def _metadata(tokenizer: Tokenizer, config: TransformerConfig) -> LlmMetadata:
    """Return LiteRT-LM's metadata of a decoder-only model."""
    metadata = LlmMetadata(
        max_num_tokens=config.max_sequence_length,
        jinja_prompt_template=packed_template(tokenizer),
        supports_thinking=False,
        supports_function_calling=tokenizer.tools is not None,
    )
    if tokenizer.tools is None:
        metadata.llm_model_type.generic_model.SetInParent()
    else:  # LiteRT-LM makes `tool_calls` of what is between the tags
        kind = metadata.llm_model_type.qwen3
        kind.code_fence_start, kind.code_fence_end = OPEN, CLOSE
    metadata.stop_tokens.add().token_ids.ids.append(config.end_id)
    # Greedy decoding as top-p with k=1, as CPUs do not have the type GREEDY.
    sampler = SamplerParameters(type=SamplerParameters.TOP_P, k=1, p=1.0, temperature=1.0)
    metadata.sampler_params.CopyFrom(sampler)
    return metadata


def packed_template(tokenizer: Tokenizer) -> str:
    """Return the Jinja template of a `.litertlm` file, around the tokenizer's own template.

    Special tokens that the own template writes get `CONTROL` in front; special tokens in a message
    are broken up before and joined again afterwards. Each message becomes one text, as the own
    template expects: in LiteRT-LM it is a list of parts.
    """
    names = sorted(tokenizer.special_tokens, key=len, reverse=True)
    broken = "".join(_replace_filter(name, _BREAK.join(name)) for name in names)
    marked = "".join(_replace_filter(name, CONTROL + _BREAK.join(name)) for name in names)
    cleaned = _replace_filter(CONTROL, REPLACEMENT) + _replace_filter(_BREAK, REPLACEMENT)
    named = "".join(
        f"{{% set {role} = {json.dumps(name)} %}}" for role, name in tokenizer.names.items()
    )
    own = _continuation(tokenizer) if tokenizer.chat_template is None else tokenizer.chat_template
    return (
        "{% set own = namespace(messages=[]) %}"
        "{% for message in messages %}"
        "{% set parts = message.content or '' %}"
        "{% set text = parts if parts is string else parts | map(attribute='text') | join %}"
        f"{{% set text = text{cleaned}{broken} %}}"
        "{% set own.messages = own.messages + [{'role': message.role, 'content': text}] %}"
        "{% endfor %}"
        "{% set messages = own.messages %}"
        f"{named}"
        # Jinja would trim blanks and line ends of the own template next to a block.
        f"{{% set prompt %}}{{{{ '' }}}}{own.removesuffix(chr(10))}{{{{ '' }}}}{{% endset %}}"
        f"{{{{ prompt{marked}{_replace_filter(_BREAK, '')} }}}}"
    )


def _continuation(tokenizer: Tokenizer) -> str:
    """Return the template of a model without one: the tokens that begin a text, then the text; see
    `generation.preprocessors.ContinuationPreprocessor`."""
    if not tokenizer.prefix:
        return _CONTINUATION % " or eos_token"
    names = {index: name for name, index in tokenizer.special_tokens.items()}
    start = "".join(names[index] for index in tokenizer.prefix)
    return f"{{{{ {json.dumps(start)} }}}}" + _CONTINUATION % ""


def _replace_filter(old: str, new: str) -> str:
    """Return a Jinja filter that replaces a text."""
    return f" | replace({json.dumps(old)}, {json.dumps(new)})"
