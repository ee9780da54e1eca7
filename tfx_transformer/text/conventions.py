"""Special tokens from the files of a checkpoint: padding, start, end, and the frame of texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

ROLES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")

# Usual names of the token of each role, where no file names it; only special tokens are looked up.
_USUAL = {
    "bos_token": ("<s>", "<bos>", "<|endoftext|>"),
    "eos_token": ("</s>", "<eos>", "<|endoftext|>"),
    "unk_token": ("[UNK]", "<unk>"),
    "sep_token": ("[SEP]",),
    "pad_token": ("[PAD]", "<pad>"),
    "cls_token": ("[CLS]",),
    "mask_token": ("[MASK]", "<mask>"),
}


class Frame(NamedTuple):
    """Ids around the texts of a row: before the first, between two, after the last.

    segments: True if the second text is another segment than the first, as in BERT; ids between two
    texts belong to the first of them, ids after the last text to that text.
    """

    before: tuple[int, ...] = ()
    between: tuple[int, ...] = ()
    after: tuple[int, ...] = ()
    segments: bool = False

    def size(self, texts: int) -> int:
        """Return the number of ids around `texts` texts."""
        return len(self.before) + len(self.between) * (texts - 1) + len(self.after)


class Conventions(NamedTuple):
    """The special tokens of a checkpoint, and the frame that they put around texts.

    special_tokens: name to id. names: role, such as "eos_token", to name. mask_id: None without a
    mask token. settings: the `tokenizer_config.json` from which all this can be read again.
    """

    special_tokens: dict[str, int]
    names: dict[str, str]
    padding_id: int
    start_id: int
    end_id: int
    mask_id: int | None
    frame: Frame
    settings: dict[str, Any]


def conventions(
    tree: Mapping[str, Any],
    vocabulary: Mapping[str, int],
    settings: Mapping[str, Any],
    architecture: Mapping[str, Any],
) -> Conventions:
    """Read the conventions of a checkpoint from its files.

    Without a padding token, padding is the end token (GPT-2). If the padding token closes each text
    (Qwen3-Embedding), padding is another special token, so that the closing one is read. The start
    is the token that the decoder of an encoder-decoder begins with, else the one before a text,
    else the token for the beginning. Without any of these, an encoder-decoder begins with the
    padding (T5), any other model with the end token.

    Args:
        tree: object of `tokenizer.json`.
        vocabulary: all its tokens, added ones too, to their ids.
        settings: object of `tokenizer_config.json`, with that of `special_tokens_map.json` added.
        architecture: object of `config.json`; may be empty.

    Raises:
        ValueError: no token ends a text, or `post_processor` is of an unknown kind.
    """
    added = [token for token in tree.get("added_tokens") or () if token["special"]]
    special = {token["content"]: vocabulary[token["content"]] for token in added}
    names = _names(settings, special, vocabulary)
    special |= {name: vocabulary[name] for name in names.values()}
    ids = {role: vocabulary[name] for role, name in names.items()}
    frame = _frame(tree.get("post_processor"), settings, ids)

    def stated(key: str) -> int | None:
        value = settings.get(key, architecture.get(key))
        value = value[0] if isinstance(value, list) and value else value
        known = type(value) is int and 0 <= value <= max(vocabulary.values())
        return value if known else None

    ends = (ids.get("eos_token"), ids.get("sep_token"), *frame.after, stated("eos_token_id"))
    end = _first(*ends)
    if end is None:
        raise ValueError("no token ends a text: eos_token is missing")
    padding, decoder_start = stated("pad_token_id"), stated("decoder_start_token_id")
    padding = _first(ids.get("pad_token"), padding, end)
    if padding in frame.after:  # would hide the end of each text: another one that no text holds
        used = {end, ids.get("mask_token"), *frame.before, *frame.between, *frame.after}
        padding = _first(*sorted(set(special.values()) - used), padding)
    starts = (decoder_start, *frame.before[:1], ids.get("bos_token"), stated("bos_token_id"))
    start = _first(*starts, padding if frame.after else end)
    return Conventions(
        dict(sorted(special.items(), key=lambda item: item[1])),
        names,
        *(padding, start, end, ids.get("mask_token")),
        frame=frame,
        settings=_settings(settings, names) | _stated_ids(start, padding, decoder_start, ids),
    )


def text_of(token: object) -> str | None:
    """Return the text of a token that a file writes as text, or as an object with `content`."""
    if isinstance(token, Mapping):
        token = token.get("content")
    return token if isinstance(token, str) else None


def _first(*values: int | None) -> int | None:
    return next((value for value in values if value is not None), None)


def _names(
    settings: Mapping[str, Any], special: Mapping[str, int], vocabulary: Mapping[str, int]
) -> dict[str, str]:
    """Role to token; a token that the vocabulary does not hold has no id and is left out."""
    names = {}
    for role in ROLES:
        if role in settings:  # null says that there is none
            name = text_of(settings[role])
        else:
            name = next((usual for usual in _USUAL[role] if usual in special), None)
        if name in vocabulary:
            names[role] = name
    return names


def _settings(settings: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Return settings that state every role, so that none is guessed when they are read again."""
    kept = ("tokenizer_class", "add_bos_token", "add_eos_token", "model_max_length")
    stated = {key: settings[key] for key in kept if key in settings}
    return stated | {role: names.get(role) for role in ROLES}


def _stated_ids(
    start: int, padding: int, decoder_start: int | None, ids: Mapping[str, int]
) -> dict[str, int]:
    """Return ids that no role gives: they are kept, since `config.json` is not saved with them."""
    stated = {} if decoder_start is None else {"decoder_start_token_id": start}
    return stated if "pad_token" in ids else stated | {"pad_token_id": padding}


def _frame(
    processor: Mapping[str, Any] | None, settings: Mapping[str, Any], ids: Mapping[str, int]
) -> Frame:
    frame = _frame_of_processor(processor)
    if frame.segments or not {"add_bos_token", "add_eos_token"} & settings.keys():
        return frame
    # As in `transformers`: if one of the two flags is stated, both count, not the processor.
    roles = [("add_bos_token", "bos_token"), ("add_eos_token", "eos_token")]
    bos, eos = ((ids[role],) if settings.get(flag) and role in ids else () for flag, role in roles)
    return Frame(bos, (*eos, *bos), eos)


def _frame_of_processor(processor: Mapping[str, Any] | None) -> Frame:
    """The frame that a `post_processor` of `tokenizers` puts around texts."""
    kind = processor["type"] if processor else None
    if kind in (None, "ByteLevel"):
        return Frame()
    if kind in ("BertProcessing", "RobertaProcessing"):
        cls, sep = (processor["cls"][1],), (processor["sep"][1],)
        if kind == "BertProcessing":
            return Frame(cls, sep, sep, segments=True)
        return Frame(cls, sep * 2, sep)
    if kind == "Sequence":
        frames = [
            frame for step in processor["processors"] if any(frame := _frame_of_processor(step))
        ]
        return frames[0] if frames else Frame()
    if kind == "TemplateProcessing":
        return _frame_of_template(processor)
    raise ValueError(f"post_processor is of the kind {kind!r}")


def _frame_of_template(processor: Mapping[str, Any]) -> Frame:
    def ids(parts: list[Mapping[str, Any]]) -> tuple[int, ...]:
        names = [part["SpecialToken"]["id"] for part in parts]
        return tuple(i for name in names for i in processor["special_tokens"][name]["ids"])

    def place(template: list[Mapping[str, Any]], text: str) -> int:
        return next(n for n, part in enumerate(template) if _text(part) == text)

    single, pair = processor["single"], processor["pair"]
    before, after = single[: place(single, "A")], single[place(single, "A") + 1 :]
    second = place(pair, "B")
    between = pair[place(pair, "A") + 1 : second]
    other = pair[second]["Sequence"]["type_id"] != single[len(before)]["Sequence"]["type_id"]
    # There are segments only if each text is closed, by a token of its own segment.
    return Frame(ids(before), ids(between), ids(after), segments=bool(other and after))


def _text(part: Mapping[str, Any]) -> str | None:
    return part["Sequence"]["id"] if "Sequence" in part else None
