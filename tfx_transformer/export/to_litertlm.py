"""`.litertlm` files: model, tokenizer and chat template in one file, for Google's LiteRT-LM."""

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
from pathlib import Path

from ai_edge_litert import schema_py_generated as schema
from litert_lm_builder import litertlm_builder
from litert_lm_builder.runtime.proto.llm_metadata_pb2 import LlmMetadata  # pyright: ignore
from litert_lm_builder.runtime.proto.sampler_params_pb2 import SamplerParameters  # pyright: ignore

from tfx_transformer import bundle, files
from tfx_transformer.config import TransformerConfig
from tfx_transformer.errors import InputError
from tfx_transformer.export.compact import without_signatures
from tfx_transformer.export.signatures import ROWS
from tfx_transformer.export.tasks import TASKS
from tfx_transformer.export.tensorflow_process import on_tensorflow
from tfx_transformer.export.to_litert import litert
from tfx_transformer.runtime.litertlm import CONTROL, REPLACEMENT
from tfx_transformer.text.tokenizer import Tokenizer

# Separates the characters of a special token's name that is text; it is removed in the end.
_BREAK = "\ufdd1"

# The template of a model without a chat template: it continues the text.
_CONTINUATION = "{{ messages | map(attribute='content') | join%s }}"


@on_tensorflow
def litertlm(path: str | os.PathLike, variant: str = "int8") -> None:
    """Add `model.litertlm` to the bundle of a decoder-only model.

    `litert-lm run` and `litert-lm serve` answer with it as the bundle does: greedily, and from the
    same tokens. Two things differ. The characters U+FDD0 and U+FDD1, which Unicode reserves, reach
    the model as U+FFFD. And LiteRT-LM does not end an answer that was cut for length with the end
    token before the next message, as `generation.chat` does. Without `--cache no` it leaves a cache
    next to the file that it runs.

    Args:
        path: the bundle's folder.
        variant: number format of the weights: "float32", "int8" or "int4". The context is that of
            the bundle's TFLite file of this variant, which is made if it is missing.

    Raises:
        InputError: the bundle is damaged or not of a decoder-only model, or the variant is another
            one.
    """
    if variant not in bundle.LITERT:
        raise InputError(
            f"variant is {variant!r}.\n  Expected one of {', '.join(map(repr, bundle.LITERT))}."
        )
    values = bundle.read_config(path)
    row = TASKS.get(values.get("task", ""))
    if row is None or bundle.LITERTLM not in row.also:
        raise InputError(
            f"{path}: LiteRT-LM runs decoder-only models; this one's task is "
            f"{values.get('task')!r}.\n  Export it --to litert."
        )
    quantize = None if variant == "float32" else variant
    if not Path(path, bundle.LITERT[variant]).is_file():
        litert(path, quantize=quantize)
    tokenizer = bundle.read_tokenizer(path)
    config = TransformerConfig.from_dict(values["architecture"])
    with bundle.updating(path) as folder:
        write_litertlm(folder, tokenizer, config, variant)


def write_litertlm(
    folder: Path, tokenizer: Tokenizer, config: TransformerConfig, variant: str
) -> None:
    """Write `model.litertlm` into the folder of a bundle, from its TFLite file of a variant.

    LiteRT-LM does not use the signature that continues several texts, so it is left out.
    """
    file = folder / bundle.LITERT[variant]
    content = file.read_bytes()
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        model = Path(temporary, "model.tflite")
        model.write_bytes(without_signatures(content, {f"decode_{ROWS}"}))
        config = dataclasses.replace(config, max_sequence_length=_context(content))
        _pack(folder / bundle.LITERTLM, model, tokenizer, config)
    facts = {"variant": variant, "context": config.max_sequence_length}
    bundle.write_config(folder, bundle.read_config(folder) | {"litertlm": facts})


def _context(content: bytes) -> int:
    """Return the number of slots in the cache of a TFLite file."""
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    (decode,) = (s for s in model.signatureDefs if s.signatureKey == b"decode")
    (cache,) = (i.tensorIndex for i in decode.inputs if i.name == b"kv_cache_k_0")
    return int(model.subgraphs[decode.subgraphIndex].tensors[cache].shape[2])


def _pack(file: Path, model: Path, tokenizer: Tokenizer, config: TransformerConfig) -> None:
    """Write the file. The builder reads its input files only in the end."""
    builder = litertlm_builder.LitertLmFileBuilder()
    with tempfile.TemporaryDirectory(dir=file.parent) as temporary:
        tokenizer_file, metadata = Path(temporary, "tokenizer.json"), Path(temporary, "metadata.pb")
        tokenizer_file.write_text(packed_tokenizer(tokenizer), encoding="utf-8")
        metadata.write_bytes(_metadata(tokenizer, config))
        builder.add_tflite_model(str(model), litertlm_builder.TfLiteModelType.PREFILL_DECODE)
        builder.add_hf_tokenizer(str(tokenizer_file))
        builder.add_llm_metadata(str(metadata))
        with files.replacing(file) as unfinished, unfinished.open("wb") as stream:
            builder.build(stream, validate_metadata=True)


def _metadata(tokenizer: Tokenizer, config: TransformerConfig) -> bytes:
    """Return LiteRT-LM's metadata of a model, a serialized `LlmMetadata`."""
    metadata = LlmMetadata(
        max_num_tokens=config.max_sequence_length,
        jinja_prompt_template=packed_template(tokenizer),
        supports_thinking=False,
        supports_function_calling=False,
    )
    metadata.llm_model_type.generic_model.SetInParent()
    metadata.stop_tokens.add().token_ids.ids.append(config.end_id)
    # Greedy decoding as top-p with k=1, as CPUs do not have the type GREEDY.
    sampler = SamplerParameters(type=SamplerParameters.TOP_P, k=1, p=1.0, temperature=1.0)
    metadata.sampler_params.CopyFrom(sampler)
    return metadata.SerializeToString()


def packed_tokenizer(tokenizer: Tokenizer) -> str:
    """Return the `tokenizer.json` of a `.litertlm` file.

    LiteRT-LM encodes a whole prompt as one text, in which it cannot distinguish the template's
    special tokens from those that a user typed. So the names of special tokens begin with `CONTROL`
    here, which only `packed_template` writes. Answers leave them out, as `Tokenizer.decode` does.
    """
    tree = json.loads(tokenizer.to_json())

    def hidden(token: str) -> str:
        return CONTROL + token if token in tokenizer.special_tokens else token

    for token in tree["added_tokens"]:
        token["content"] = hidden(token["content"])
    model = tree["model"]
    model["vocab"] = {hidden(token): index for token, index in model["vocab"].items()}
    if model.get("unk_token"):
        model["unk_token"] = hidden(model["unk_token"])
    tree["post_processor"] = None  # the template writes what frames a text
    hide = {"type": "Replace", "pattern": {"Regex": CONTROL + ".*"}, "content": ""}
    tree["decoder"] = {"type": "Sequence", "decoders": [hide, tree["decoder"]]}
    return json.dumps(tree, ensure_ascii=False)


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
