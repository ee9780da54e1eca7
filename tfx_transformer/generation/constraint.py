"""Answers of a given form: JSON of a schema, texts of a regular expression, one of several choices,
calls of tools.

The package `llguidance` says which tokens may come next. It works on bytes, so a character of
several tokens, as in Japanese with a byte-level vocabulary, stays whole.
"""

from __future__ import annotations

import copy
import importlib.util
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfx_transformer.errors import InputError
from tfx_transformer.generation.options import GenerationOptions
from tfx_transformer.text.prompts import CallForm
from tfx_transformer.text.tokenizer import Tokenizer

# The options that give a form.
FORMS = ("schema", "regex", "choices")
# The most that compiling a grammar and one step of it may cost, in llguidance's units: some 20 ms
# each.
_LIMITS = {
    "max_items_in_row": 1000,
    "initial_lexer_fuel": 1_000_000,
    "step_lexer_fuel": 200_000,
    "step_max_items": 50_000,
    "max_lexer_states": 50_000,
    "max_grammar_size": 100_000,
    "verbose_errors": False,
}
# JSON with at most one blank between two parts: with more an answer might never end.
_JSON = {"whitespace_pattern": "[ ]?"}
# From this many tokens before the limit on, earlier for long forms, a token is refused if no end
# can be reached after it.
_MARGIN = 32
# The cost of tokens that neither close nor open anything; see `_cost`.
_TEXT = 3.0


class Vocabulary:
    """The tokens of a tokenizer, as llguidance knows them.

    Args:
        tokenizer: tokenizer of the model.
        size: tokens that the model has logits for.
        end_id: the token that ends an answer.
        most: most tokens of an answer.

    Attributes:
        known: the tokens as an object of llguidance.
        order: float (size,), small for tokens that lead a text to its end soon.
        first_bytes: int (size,), the first byte of each token.
    """

    def __init__(self, tokenizer: Tokenizer, size: int, end_id: int, most: int) -> None:
        self.size, self.end_id, self.most = size, end_id, most
        special = set(tokenizer.special_tokens.values())
        count = min(tokenizer.vocabulary_size, size)
        ids = (() if i in special else (i,) for i in range(count))
        # The attributes that llguidance's wrapper asks for.
        self.tokens = [tokenizer.decode_bytes(one) for one in ids]
        self.tokens += [b""] * (size - count)
        self.special_token_ids = sorted(special)
        self.eos_token_id, self.bos_token_id = end_id, None
        self.leading_space = tokenizer.leading_space
        self._encode = tokenizer.encode
        library = _llguidance()
        self.known = library.LLTokenizer(
            library.TokenizerWrapper(self), eos_token=end_id, slices=[]
        )
        self.order = np.array([_cost(token) for token in self.tokens])
        self.order[end_id] = 0
        self.first_bytes = np.array([token[0] if token else -1 for token in self.tokens])

    def __call__(self, text: str) -> list[int]:
        return self._encode(text)


def _cost(token: bytes) -> float:
    """Return the cost of a token: low if it closes something open, high if it opens something or
    delays. Cheap tokens lead a text to its end."""
    if not token.strip():
        return 9.0
    closing = token.strip()
    if not closing.strip(b'"]}'):  # a text is closed by its quote; a brace would become part of it
        return (0.5 if closing[:1] == b'"' else 1.0) - 0.01 * len(closing)
    if len(token) == 1 and token.isdigit():
        return 2.0
    if token[:1] in (b"\\", b"[", b"{"):
        return 8.0
    return 4.0 - 0.01 * min(len(token), 99)


class Constraint:
    """The form of one answer, and how much of it has been written.

    While there is room, every token that the form allows may come next. Near the limit, only tokens
    may come after which an end can still be reached: so an answer is whole, unless the form needs
    more tokens than may be written.

    Args:
        options: with `schema`, `regex` or `choices`, or the form of calls.
        vocabulary: vocabulary of the model.
        request: for calls, the text whose parts copied arguments are; None: they are any texts.

    Attributes:
        least: tokens of a short text of this form; more than `Vocabulary.most` if it is longer.

    Raises:
        InputError: the form cannot be read, or is too complex.
    """

    def __init__(
        self,
        options: GenerationOptions | CallForm,
        vocabulary: Vocabulary,
        request: str | None = None,
    ) -> None:
        library = _llguidance()
        self._vocabulary = vocabulary
        grammar = _grammar(options, vocabulary.leading_space, request)
        limits = library.LLParserLimits(**_LIMITS)
        self._state = library.LLMatcher(vocabulary.known, grammar, log_level=0, limits=limits)
        if self._state.is_error():
            raise _refusal(options, self._state.get_error())
        self.least = len(self._way(self._state.deep_copy(), vocabulary.most))
        # A part of a form is not longer than its description, unless that sets a length.
        described = len(grammar)
        if request is not None:  # not all parts of it, each of which is shorter
            described = len(_grammar(options, vocabulary.leading_space)) + len(request)
        self._watched = 2 * self.least + described // 2 + _MARGIN

    def begin(self) -> Constraint:
        """Return the same form for a new answer."""
        other = copy.copy(self)
        other._state = self._state.deep_copy()
        return other

    def holds(self, ids: Sequence[int]) -> bool:
        """Return True if a whole answer is of the form.

        Args:
            ids: of the answer, with the end token.
        """
        end = self._vocabulary.end_id
        if end not in ids:
            return False
        state = self._state.deep_copy()
        return state.consume_tokens(list(ids[: ids.index(end)])) and state.is_accepting()

    @property
    def is_complete(self) -> bool:
        """True if the text, as written so far, is of the form."""
        return self._state.is_accepting()

    def allowed(self) -> np.ndarray:
        """Return bool (size,): the tokens that may come next."""
        return self._mask(self._state)

    def leaves_room(self, index: int, left: int) -> bool:
        """Return True if an end can be reached after one more token.

        Args:
            index: id of the token, one of those that may come next.
            left: number of tokens that may be written after it.
        """
        if left > self._watched or index == self._vocabulary.end_id:
            return True
        state = self._state.deep_copy()
        return state.consume_token(index) and len(self._way(state, left)) <= left

    def next_to_end(self, left: int) -> int:
        """Return a token that leads to an end; left: number of tokens that may be written."""
        way = self._way(self._state.deep_copy(), left)
        return way[0] if way else self._vocabulary.end_id

    def check_room(self, left: int) -> None:
        """Refuse to begin an answer that could not end.

        Args:
            left: number of tokens that may be written.

        Raises:
            InputError: they are too few.
        """
        if self.least > left:
            most = self._vocabulary.most
            needed = f"{self.least:,}" if self.least <= most else f"more than {most:,}"
            raise InputError(
                f"an answer of this form needs {needed} tokens; {left:,} may be written.\n"
                "  Allow more (max_new_tokens), or make the form or the prompt shorter."
            )

    def accept(self, index: int) -> None:
        """Take the next token."""
        if index != self._vocabulary.end_id and not self._state.is_stopped():
            self._state.consume_token(index)

    def _mask(self, state: Any) -> np.ndarray:
        size = self._vocabulary.size
        only_end = np.zeros(size, bool)
        only_end[self._vocabulary.end_id] = True
        if state.is_stopped():
            return only_end
        bits = np.frombuffer(state.compute_bitmask(), "uint8")
        if state.is_error():
            raise InputError(
                f"the form of the answer is too complex: {_reason(state.get_error())}.\n"
                "  Make it simpler."
            )
        mask = np.unpackbits(bits, bitorder="little")[:size].astype(bool)
        return mask if mask.any() else only_end

    def _way(self, state: Any, most: int) -> list[int]:
        """Return tokens that lead to an end; more than `most` tokens if no end is found so near.

        Each step takes the cheapest token. A token that begins with the same byte as an earlier one
        costs more: else a part that may be repeated would never end. The state is used up.
        """
        way: list[int] = []
        order = self._vocabulary.order
        while not state.is_accepting() and len(way) <= most:
            tokens = state.compute_ff_tokens()
            if not tokens:
                tokens = [int(np.argmin(np.where(self._mask(state), order, np.inf)))]
                if order[tokens[0]] >= _TEXT:
                    first = self._vocabulary.first_bytes
                    order = order + (first == first[tokens[0]])
            if not state.consume_tokens(tokens):
                return [*way, *tokens, *range(most + 1)]
            way += tokens
        return way


def check(options: GenerationOptions) -> None:
    """Refuse a form that cannot be read, before a model is loaded.

    Raises:
        InputError: see `Constraint`.
    """
    library = _llguidance()
    limits = library.LLParserLimits(**_LIMITS)
    message = library.LLMatcher.validate_grammar(_grammar(options, False), limits=limits)
    if message and not message.startswith("WARNING"):
        raise _refusal(options, message)


def _refusal(options: GenerationOptions | CallForm, message: str) -> InputError:
    return InputError(
        f"{_name(options)} cannot be used: {_reason(message)}.\n"
        "  Correct it, or make it simpler; not every feature is supported."
    )


def _name(options: GenerationOptions | CallForm) -> str:
    """Return the option that gives the form."""
    if isinstance(options, CallForm):
        return "the schema of the tools"
    return next(name for name in FORMS if getattr(options, name))


def _reason(message: str) -> str:
    """Return the reason that llguidance gives, in one line."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    pointed = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return (pointed or lines or ["unknown reason"])[0][:200].rstrip(".")


def _grammar(
    options: GenerationOptions | CallForm, leading_space: bool, request: str | None = None
) -> str:
    """Return the grammar that llguidance compiles.

    Args:
        leading_space: the tokenizer writes a space before a text, which is not part of it.
        request: see `Constraint`.

    Raises:
        InputError: llguidance cannot read it.
    """
    matcher = _llguidance().LLMatcher
    try:
        if isinstance(options, CallForm):
            return _call_grammar(options, leading_space, request)
        if options.schema and not leading_space:
            return matcher.grammar_from_json_schema(options.schema, overrides=_JSON)
        if options.schema:
            schema = json.dumps(json.loads(options.schema) | {"x-guidance": _JSON})
            return matcher.grammar_from_lark(f'start: " "? body\nbody: %json {schema}\n')
        pattern = options.regex or "|".join(map(_literal, options.choices))
        space = "[ ]?" if leading_space else ""
        return matcher.grammar_from_regex(f"{space}(?:{pattern})")
    except ValueError as error:  # such as a number that is too large, or a lone surrogate
        raise _refusal(options, str(error)) from error


def _call_grammar(form: CallForm, leading_space: bool, request: str | None) -> str:
    """Return the grammar of a call of a tool between the texts that the template writes."""
    schema = form.tools.schema(request)
    others = {key: {"const": value} for key, value in form.others.items()}
    for one in schema["anyOf"]:
        properties = one["properties"]
        keys = {"name": properties["name"], form.arguments: properties["arguments"], **others}
        one |= {"properties": keys, "required": list(keys)}
    body = json.dumps(schema | {"x-guidance": _JSON})
    space = '" "? ' if leading_space else ""
    before, after = (_terms(text, form.special) for text in (form.before, form.after))
    lark = f"start: {space}{before} body {after}\nbody: %json {body}\n"
    return _llguidance().LLMatcher.grammar_from_lark(lark)


def _terms(text: str, special: Mapping[str, int]) -> str:
    """Return a text as terms of a grammar; special: ids of the special tokens in it."""
    names = "|".join(map(re.escape, sorted(special, key=len, reverse=True)))
    parts = re.split(f"({names})", text) if special else [text]
    terms = (f"<[{special[one]}]>" if one in special else json.dumps(one) for one in parts if one)
    return " ".join(terms)


def _literal(text: str) -> str:
    """Return the regular expression that matches a text."""
    return re.sub(r"[\\.+*?()|\[\]{}^$#&\-~/]", lambda found: "\\" + found[0], text)


def is_installed() -> bool:
    """Return True if the package that holds answers to a form is installed."""
    return importlib.util.find_spec("llguidance") is not None


def _llguidance() -> Any:
    """Return the package.

    Raises:
        InputError: it is not installed.
    """
    try:
        import llguidance
    except ImportError as error:
        raise InputError(
            "answers of a given form need llguidance.\n"
            '  pip install llguidance, or "tfx-transformer[forms]"'
        ) from error
    return llguidance
