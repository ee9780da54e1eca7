"""Byte-level BPE: trained on the user's texts, run by tiktoken, saved as one tokenizer.json.

Those of pre-trained checkpoints are subclasses in `byte_level` and `hugging_face`.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tiktoken

from tfx_transformer import files, json_files
from tfx_transformer.errors import InputError
from tfx_transformer.reprs import short_list
from tfx_transformer.text import offsets, split_patterns
from tfx_transformer.text.conventions import Conventions, Frame

if TYPE_CHECKING:
    from tfx_transformer.text.tools import Tools

SPECIAL_TOKENS = ("<pad>", "<s>", "</s>")
# One of the `extra_special_tokens` of a tokenizer for pre-training an encoder: it replaces the
# tokens that are to be predicted.
MASK_TOKEN = "<mask>"

# Splits a text into pieces that merges never cross: English contractions, then runs of one script
# with at most one space before them, up to three digits, other symbols, line ends, blanks. It cuts
# between kanji, katakana and hiragana, which in Japanese is close to the borders of words.
# No look-ahead, no possessive quantifier and no \s: so RE2 (TensorFlow), Oniguruma (tokenizers)
# and fancy-regex (tiktoken) understand it alike. Every character is matched by one alternative.
PATTERN = (
    r"'(?:[sdmtSDMT]|ll|LL|ve|VE|re|RE)"
    r"| ?\p{Han}+| ?[\p{Katakana}ー]+| ?\p{Hiragana}+| ?\p{L}+"
    r"|\p{N}{1,3}| ?[^ \t\r\n\p{L}\p{N}]+|[\r\n]+|[ \t]+"
)

# The same for models that mark spans of a text: every character of a script without spaces between
# words, and every sign, is a piece of its own, so that a span may begin at each. Letters of the
# named scripts form words.
FINE_PATTERN = (
    r"'(?:[sdmtSDMT]|ll|LL|ve|VE|re|RE)"
    r"| ?[\p{Latin}\p{Greek}\p{Cyrillic}\p{Armenian}\p{Georgian}\p{Hebrew}\p{Arabic}"
    r"\p{Devanagari}\p{Bengali}\p{Tamil}\p{Telugu}\p{Ethiopic}]+"
    r"| ?\p{L}|\p{N}{1,3}| ?[^ \t\r\n\p{L}\p{N}]|[\r\n]+|[ \t]+"
)

# The pattern for models that call tools. Their answers copy words of the request: a piece with a
# word has no blank or sign, so a word has the same tokens in both. The fixed parts of a call are
# pieces, which keeps answers short.
CALL_PATTERN = (
    r'</?tool_call>[\r\n]?|\{"name": "|", "arguments": \{"?|": "?|", "|, "|"?\}+[\r\n]?'
    r"|[\p{Latin}\p{Greek}\p{Cyrillic}\p{Armenian}\p{Georgian}\p{Hebrew}\p{Arabic}"
    r"\p{Devanagari}\p{Bengali}\p{Tamil}\p{Telugu}\p{Ethiopic}]+"
    r"|\p{L}|\p{N}{1,3}|[^ \t\r\n\p{L}\p{N}]|[\r\n]+|[ \t]+"
)
_OWN_PATTERNS = (PATTERN, FINE_PATTERN, CALL_PATTERN)

# tiktoken needs quadratic time and deep recursion for one very long piece (10^6 spaces crash it).
# Longer texts are encoded in slices; only a piece that spans a slice's end is cut differently.
SLICE = 20_000

# The file beside the tokenizer.json of a checkpoint that gives the roles of its tokens.
SETTINGS = "tokenizer_config.json"
# Settings in it that hold paths of somebody's files.
_PLACES = ("name_or_path", "_file")

# tokenizer.json is the largest file that a tokenizer has.
MAX_FILE_BYTES = json_files.MAX_BYTES

# XLM-V has the most tokens, 901,629; Gemma 3 the most merges, 514,906. Each entry costs several
# times a microsecond and some hundred bytes.
MAX_ENTRIES = 1 << 20


class Tokenizer:
    """Texts to token ids and back, without loss for any valid text, except for capital letters with
    `lowercase`.

    Special tokens have the first ids (`<pad>` 0, `<s>` 1, `</s>` 2), then the 256 bytes, then the
    merges in the order they were learned (Sennrich et al. 2016; on bytes: Radford et al. 2019).
    User text is encoded by `tiktoken.Encoding.encode_ordinary`, so no text can inject a special
    id: they exist only as integers.

    Args:
        ranks: bytes of each token to its id; the ids ascend in merge order.
        special_tokens: name of each special token to its id.
        pattern: regular expression that splits a text into pieces.
        lowercase: True to read texts in lower case, see `to_lower`.

    Attributes:
        chat_template: Jinja text of a chat model's prompts (see `text.prompts`), or None; a bundle
            keeps it beside `tokenizer.json`.
        chat_template_file: where it was read, which errors name; or None.
        tools: the tools that a chat model calls, or None; a bundle keeps them in `tools.json`.
        padding_id, start_id, end_id: ids of the tokens that fill up, begin and end.
        mask_id: id of the token that replaces tokens to predict; None without one.
        names: role to special token, such as "eos_token" to "</s>".
        frame: ids around the texts that an encoder reads.
        prefix: ids that begin a text which a decoder continues (Llama's `<s>`).
        vocabulary_size: one more than the highest id; the model may have room for more.
        leading_space: True if `decode_bytes` has a space at the beginning where `decode` has none.
    """

    chat_template: str | None = None
    chat_template_file: Path | None = None
    tools: Tools | None = None
    prefix: tuple[int, ...] = ()
    leading_space = False
    settings: dict[str, Any] | None = None  # of tokenizer_config.json, which only checkpoints have
    # True if only `lowercase`, `pattern` and merges in the order of ids turn texts into ids.
    is_plain = True
    lowercase = False

    def __init__(
        self,
        ranks: dict[bytes, int],
        special_tokens: dict[str, int],
        pattern: str = PATTERN,
        lowercase: bool = False,
    ) -> None:
        self.ranks = ranks
        self.special_tokens = special_tokens
        self.pattern, self.lowercase = pattern, lowercase
        self.padding_id, self.start_id, self.end_id = (special_tokens[t] for t in SPECIAL_TOKENS)
        self.vocabulary_size = 1 + max(max(ranks.values()), max(special_tokens.values()))
        self.tiktoken = tiktoken.Encoding(
            "tfx_transformer", pat_str=pattern, mergeable_ranks=ranks, special_tokens=special_tokens
        )
        self._special_ids = frozenset(special_tokens.values())
        self.mask_id = special_tokens.get(MASK_TOKEN)
        roles = ("pad_token", "bos_token", "eos_token")
        self.names = dict(zip(roles, SPECIAL_TOKENS, strict=True))
        self.frame = Frame((self.start_id,), (self.end_id,), (self.end_id,))

    def __repr__(self) -> str:
        chat = ", with a chat template" if self.chat_template else ""
        return (
            f"{type(self).__name__}: {self.vocabulary_size:,} tokens{chat}\n"
            f"  special tokens: {short_list(self.special_tokens)}"
        )

    def _adopt(self, conventions: Conventions, highest_id: int) -> None:
        """Sets the attributes that follow from the conventions of a checkpoint."""
        self.special_tokens, self.names = conventions.special_tokens, conventions.names
        self.padding_id, self.start_id = conventions.padding_id, conventions.start_id
        self.end_id, self.mask_id = conventions.end_id, conventions.mask_id
        self.frame, self.prefix = conventions.frame, conventions.frame.before
        self.settings = conventions.settings
        self._special_ids = frozenset(self.special_tokens.values())
        self.vocabulary_size = 1 + max(highest_id, *self._special_ids)

    @property
    def target(self) -> Tokenizer:
        """The tokenizer of the texts that a model writes: this one, except for Marian."""
        return self

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        vocabulary_size: int,
        extra_special_tokens: Sequence[str] = (),
        pattern: str = PATTERN,
        lowercase: bool = False,
    ) -> Tokenizer:
        """Return a tokenizer of at most `vocabulary_size` tokens learned from texts; fewer if the
        texts hold no more.

        It is deterministic, and takes seconds for some ten megabytes. `extra_special_tokens` get
        the ids after `</s>`. `pattern` splits texts: `PATTERN`, or `FINE_PATTERN` for a `Tagger`,
        `CALL_PATTERN` for a model that calls tools. With `lowercase` it reads all texts in lower
        case, so that "Dog" and "dog" are one word.

        Raises:
            InputError: the vocabulary cannot hold the 256 bytes and the special tokens.
        """
        import tokenizers

        specials = [*SPECIAL_TOKENS, *extra_special_tokens]
        smallest = len(specials) + 256
        if vocabulary_size < smallest:
            raise InputError(
                f"Tokenizer: vocabulary_size {vocabulary_size} is too small.\n"
                f"  256 bytes and {len(specials)} special tokens need at least {smallest}."
            )
        trainer = tokenizers.trainers.BpeTrainer(
            vocab_size=vocabulary_size,
            special_tokens=specials,
            initial_alphabet=sorted(_BYTE_TO_CHARACTER.values()),
            show_progress=False,
        )
        learner = tokenizers.Tokenizer(tokenizers.models.BPE())
        learner.pre_tokenizer = _pre_tokenizer(pattern)
        if lowercase:
            learner.normalizer = tokenizers.normalizers.Lowercase()
        learner.train_from_iterator(texts, trainer)
        return cls.from_json(learner.to_str())

    @classmethod
    def load(cls, path: str | os.PathLike) -> Tokenizer:
        """Read a `tokenizer.json`; it is a checkpoint's if a `tokenizer_config.json` is beside it.

        Raises:
            InputError: no such file, or not a byte-level BPE in the format of `tokenizers`.
        """
        path = Path(path)
        if path.with_name(SETTINGS).is_file():
            from tfx_transformer.text.checkpoint_tokenizer import read_tokenizer

            return read_tokenizer(path)
        text = read_text(path)
        try:
            return cls.from_json(text)
        except InputError as error:
            error.in_file(path)
            raise

    @classmethod
    def from_pretrained(cls, source: str | os.PathLike) -> Tokenizer:
        """Return the tokenizer of a checkpoint, from the files in its folder.

        It reads `tokenizer.json`, or the files of older checkpoints: `vocab.txt` (BERT),
        `vocab.json` and `merges.txt` (GPT-2, RoBERTa, Qwen), `spiece.model`, `tokenizer.model` or
        `sentencepiece.bpe.model` (SentencePiece), or `source.spm`, `target.spm` and `vocab.json`
        (Marian). Its ids are those of the `tokenizers` package for the same file.

        Raises:
            InputError: none of these files is there, or one cannot be read.
        """
        from tfx_transformer.text.checkpoint_tokenizer import read_folder

        return read_folder(source)

    @classmethod
    def from_json(cls, text: str) -> Tokenizer:
        """Return the tokenizer of a `tokenizer.json` given as text."""
        try:
            tree = json_files.parse(text)
            check_sizes(tree["model"])
            _check_plain(tree)
            vocabulary = tree["model"]["vocab"]
            special_tokens = {
                token["content"]: token["id"] for token in tree["added_tokens"] if token["special"]
            }
            pattern = _split_pattern(tree["pre_tokenizer"])
            ranks = {
                to_bytes(token): index
                for token, index in vocabulary.items()
                if token not in special_tokens
            }
            _check_ids(ranks, special_tokens)
            _check_merges(tree["model"]["merges"], vocabulary, ranks)
            ranks = dict(sorted(ranks.items(), key=lambda item: item[1]))
            return cls(ranks, special_tokens, pattern, tree.get("normalizer") is not None)
        except InputError:
            raise
        except (LookupError, TypeError, AttributeError, ValueError, RecursionError) as error:
            detail = f"{type(error).__name__}: {error}"
            raise InputError(
                f"not a byte-level BPE tokenizer.json ({detail}).\n"
                "  Expected the file that Tokenizer.save writes."
            ) from error

    def to_json(self) -> str:
        """The `tokenizer.json` that Hugging Face `tokenizers` and `load` both read."""
        names = {index: _to_characters(token) for token, index in self.ranks.items()}
        tree = {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [
                {
                    "id": index,
                    "content": token,
                    "single_word": False,
                    "lstrip": False,
                    "rstrip": False,
                    "normalized": False,
                    "special": True,
                }
                for token, index in self.special_tokens.items()
            ],
            "normalizer": _LOWERCASE if self.lowercase else None,
            "pre_tokenizer": json.loads(_PRE_TOKENIZER % json.dumps(self.pattern)),
            "post_processor": None,
            "decoder": {
                "type": "ByteLevel",
                "add_prefix_space": True,
                "trim_offsets": True,
                "use_regex": True,
            },
            "model": {
                "type": "BPE",
                "dropout": None,
                "unk_token": None,
                "continuing_subword_prefix": None,
                "end_of_word_suffix": None,
                "fuse_unk": False,
                "byte_fallback": False,
                "ignore_merges": True,
                "vocab": {**self.special_tokens, **{names[i]: i for i in sorted(names)}},
                "merges": [list(map(_to_characters, pair)) for pair in self.merges()],
            },
        }
        return json.dumps(tree, ensure_ascii=False, indent=1)

    def save(self, path: str | os.PathLike) -> None:
        """Write `tokenizer.json`; for a checkpoint, `tokenizer_config.json` beside it as well."""
        path = Path(path)
        files.write(path, self.to_json())
        if self.settings is not None:
            self.save_settings(path.parent)

    def save_settings(self, folder: Path) -> None:
        """Write the `tokenizer_config.json` of a checkpoint's tokenizer."""
        settings = {
            name: value
            for name, value in (self.settings or {}).items()
            if not name.endswith(_PLACES)
        }
        files.write(folder / SETTINGS, json.dumps(settings, ensure_ascii=False, indent=1))

    def merges(self) -> list[tuple[bytes, bytes]]:
        """Return the two parts that each token longer than a byte was merged from, in merge order.

        They come from encoding the token with only the tokens before it, as tiktoken itself would.
        """
        return [
            _merge_parts(token, self.ranks, index)
            for token, index in sorted(self.ranks.items(), key=lambda item: item[1])
            if len(token) > 1
        ]

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, without start or end; never a special id, whatever it holds.

        A lone surrogate, which no UTF-8 file can hold, becomes U+FFFD.
        """
        parts = list(self._slices(text))
        return parts[0] if len(parts) == 1 else list(itertools.chain.from_iterable(parts))

    def encode_first(self, text: str, count: int) -> list[int]:
        """Return the first `count` ids of `encode(text)`, reading only the text that they need."""
        ids: list[int] = []
        for part in self._slices(text) if count > 0 else ():
            ids += part
            if len(ids) >= count:
                break
        return ids[:count]

    def beginning(self, text: str, count: int) -> str:
        """Return a beginning of a text with the same first `count` ids, and more ids if the text
        has more."""
        tokens = 0
        for end in range(SLICE, len(text), SLICE):
            tokens += len(self._encode_slice(text[end - SLICE : end]))
            if tokens > count:
                return text[:end]
        return text

    def ending(self, text: str, count: int) -> str:
        """Return an end of a text with the same last `count` ids, and more ids if the text has
        more."""
        tokens = 0
        for start in range((len(text) - 1) // SLICE * SLICE, 0, -SLICE):
            tokens += len(self._encode_slice(text[start : start + SLICE]))
            if tokens > count:
                return text[start:]
        return text

    def _slices(self, text: str) -> Iterator[list[int]]:
        """Yield the ids of a text, a slice at a time."""
        for start in range(0, len(text), SLICE):
            yield self._encode_slice(text[start : start + SLICE])

    def _encode_slice(self, text: str) -> list[int]:
        text = to_lower(text) if self.lowercase else text
        return split_patterns.encode(self.tiktoken, text, known=self.pattern in _OWN_PATTERNS)

    def encode_after(self, text: str) -> list[int]:
        """Return the ids of a text that follows a special token."""
        return self.encode(text)

    def encode_with_offsets(self, text: str) -> tuple[list[int], offsets.Offsets]:
        """Return the ids of a text, as `encode` does, and the begin and end of each token in it, in
        characters (code points). Offsets leave out blanks around a token, and hold the whole of a
        character of which the token is a part. A lone half of a character becomes U+FFFD.

        Raises:
            InputError: the tokenizer does not say where its tokens are.
        """
        text = offsets.without_halves(text)
        ids = self.encode(text)
        sizes = [len(self.decode_bytes([index])) for index in ids]
        spelled = [to_lower(character) for character in text] if self.lowercase else text
        return ids, offsets.trimmed(text, offsets.of_bytes(spelled, sizes))

    def decode(self, ids: Iterable[int]) -> str:
        """Text of ids, without special ids; bytes that are not UTF-8 become U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """UTF-8 bytes of ids, without special ids; a token may hold part of a character."""
        return self.tiktoken.decode_bytes([int(i) for i in ids if int(i) not in self._special_ids])

    def byte_lengths(self) -> list[int]:
        """Return for each id the number of bytes that it stands for; 0 for special ids."""
        lengths = [0] * self.vocabulary_size
        for token, index in self.ranks.items():
            lengths[index] = len(token)
        return lengths

    def count(self, text: str) -> int:
        """Return the number of tokens of a text, without start and end."""
        return len(self.encode(text))

    def tokens(self, ids: Iterable[int]) -> list[str]:
        """Return one readable text per id, for axes and tables; broken bytes become \\xNN."""
        names = {index: name for name, index in self.special_tokens.items()}
        return [
            names.get(int(i)) or self.decode_bytes([i]).decode("utf-8", errors="backslashreplace")
            for i in ids
        ]


def to_lower(text: str) -> str:
    """Return a text with each character in lower case by itself, as `tokenizers` does. In
    `str.lower` the form of a Greek sigma depends on its place."""
    return "".join(map(str.lower, text)) if "Σ" in text else text.lower()


def read_text(path: Path) -> str:
    """Return the text of a file of a tokenizer.

    Raises:
        InputError: it cannot be read, is not UTF-8, or is larger than any tokenizer.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise InputError(
                "the file is larger than any tokenizer.\n"
                f"  Expected {MAX_FILE_BYTES >> 20} MiB at most. Copy the file again.",
                path,
            )
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot be read as a tokenizer: {error}", path) from error


def check_sizes(model: Mapping[str, Any]) -> None:
    """Refuse a model of a `tokenizer.json` with too many tokens or merges.

    Raises:
        InputError: there are more than `MAX_ENTRIES`.
    """
    for name in ("vocab", "merges"):
        if len(model.get(name) or ()) > MAX_ENTRIES:
            raise InputError(
                f"{name} has more entries than in any tokenizer.\n"
                f"  Expected {MAX_ENTRIES:,} at most. Copy the file again."
            )


def _byte_alphabet() -> dict[int, str]:
    """The printable character that stands for each byte in tokenizer.json (Radford et al. 2019)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1)]
    printable += range(ord("®"), ord("ÿ") + 1)
    table = {byte: chr(byte) for byte in printable}
    rest = (byte for byte in range(256) if byte not in table)
    return table | {byte: chr(256 + n) for n, byte in enumerate(rest)}


_BYTE_TO_CHARACTER = _byte_alphabet()
# For str.translate; a character without a byte becomes one that latin-1 does not have.
_TO_BYTES = dict.fromkeys(range(256), 0xFFFD)
_TO_BYTES |= {ord(character): byte for byte, character in _BYTE_TO_CHARACTER.items()}

_LOWERCASE = {"type": "Lowercase"}
_PRE_TOKENIZER = """{"type": "Sequence", "pretokenizers": [
    {"type": "Split", "pattern": {"Regex": %s}, "behavior": "Isolated", "invert": false},
    {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}]}"""


def to_bytes(token: str) -> bytes:
    """Return the bytes of a token as tokenizer.json spells it; ValueError if it spells none."""
    return token.translate(_TO_BYTES).encode("latin-1")


def _to_characters(token: bytes) -> str:
    return "".join(_BYTE_TO_CHARACTER[byte] for byte in token)


def _pre_tokenizer(pattern: str):
    from tokenizers import Regex, pre_tokenizers

    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def _split_pattern(pre_tokenizer: dict) -> str:
    """Return the regular expression of a `Split` step before a `ByteLevel` step that splits no
    more; refuse a pattern that cannot be used."""
    split, level = pre_tokenizer["pretokenizers"]
    kinds = (split["type"], split["behavior"], split["invert"], level["type"])
    if kinds != ("Split", "Isolated", False, "ByteLevel"):
        raise ValueError("the steps before the model are not one Split and one ByteLevel")
    if level["add_prefix_space"] or level["use_regex"]:
        raise ValueError("the ByteLevel step changes more than bytes")
    pattern = split_patterns.usable(split["pattern"]["Regex"])
    if pattern not in _OWN_PATTERNS:
        split_patterns.check(pattern)
    return pattern


def _check_plain(tree: Mapping[str, Any]) -> None:
    """Refuse steps that change texts or tokens in a way that is not supported here."""
    model = tree["model"]
    strange = ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback")
    found = ["normalizer"] if tree.get("normalizer") not in (None, _LOWERCASE) else []
    found += [name for name in strange if model.get(name)]
    if found:
        raise ValueError(f"it has a {found[0]}, which is not supported")
    if model.get("type", "BPE") != "BPE":
        raise ValueError(f"its model is of type {model['type']!r}")
    if (tree.get("decoder") or {}).get("type", "ByteLevel") != "ByteLevel":
        raise ValueError("its decoder changes more than bytes")
    if any(not token["special"] for token in tree["added_tokens"]):
        raise ValueError("it has added tokens that are not special")


def _check_ids(ranks: dict[bytes, int], special_tokens: dict[str, int]) -> None:
    ids = [*ranks.values(), *special_tokens.values()]
    if any(isinstance(i, bool) or not isinstance(i, int) for i in ids):
        raise ValueError("an id is not a whole number")
    if sorted(ids) != list(range(len(ids))):
        raise ValueError("ids are not 0, 1, 2, … without gap or repetition")
    if any(bytes([byte]) not in ranks for byte in range(256)):
        raise ValueError("one of the 256 bytes has no token")
    for token in SPECIAL_TOKENS:
        if token not in special_tokens:
            raise ValueError(f"special token {token} is missing")


def _check_merges(merges: list, vocabulary: dict[str, int], ranks: dict[bytes, int]) -> None:
    """Refuse merges that are not one per token longer than a byte, in the order of ids: tiktoken
    takes a token's id as the priority of its merge."""
    pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in merges]
    ids = [vocabulary[left + right] for left, right in pairs]
    if ids != sorted(index for token, index in ranks.items() if len(token) > 1):
        raise ValueError("merges are not one per token in the order of ids")


def _merge_parts(token: bytes, ranks: dict[bytes, int], limit: int) -> tuple[bytes, bytes]:
    parts = [bytes([byte]) for byte in token]
    while len(parts) > 2:
        candidates = [ranks.get(a + b, limit) for a, b in zip(parts, parts[1:], strict=False)]
        best = min(range(len(candidates)), key=candidates.__getitem__)
        if candidates[best] >= limit:
            raise ValueError(f"token {token!r} cannot be merged from earlier tokens")
        parts[best : best + 2] = [parts[best] + parts[best + 1]]
    return parts[0], parts[1]
