"""The endpoints of models that write: OpenAI's chat completions and completions."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from typing import Any, NamedTuple

from starlette.responses import Response, StreamingResponse

from tfx_transformer.errors import InputError
from tfx_transformer.generation.constraint import Constraint
from tfx_transformer.generation.options import GenerationOptions
from tfx_transformer.generation.preprocessors import ChatPreprocessor, ContinuationPreprocessor
from tfx_transformer.generation.text import PromptTooLong, TokenProbability
from tfx_transformer.serve import sampling
from tfx_transformer.serve.endpoints import MODEL, Endpoint
from tfx_transformer.serve.errors import JSON, Refusal, encode, shown
from tfx_transformer.serve.fields import Field
from tfx_transformer.serve.limits import MOST_TEXTS
from tfx_transformer.serve.service import Call, Service
from tfx_transformer.serve.writing import Prompt, Written
from tfx_transformer.serve.writing import encode as encode_prompts
from tfx_transformer.text.tools import MOST_TOOLS, read_call

_MESSAGES = Field(
    {"type": "array", "minItems": 1, "maxItems": 1000, "items": {"type": "object"}},
    'The conversation: [{"role": "system", "user", "assistant" or "tool", "content": a text}, …].',
    needed=True,
)
_TEXT = {"type": "string"}
_PROMPT = Field(
    {"anyOf": [_TEXT, {"type": "array", "minItems": 1, "maxItems": MOST_TEXTS, "items": _TEXT}]},
    "The text to continue, or several.",
    needed=True,
)
_TOOLS = Field(
    {"type": "array", "maxItems": MOST_TOOLS, "items": {"type": "object"}},
    "Tools, all of them known to the model: it calls those it was trained on, and no others.",
)
_TOOL_CHOICE = Field(
    {"anyOf": [{"type": "string", "minLength": 1, "maxLength": 100}, {"type": "object"}]},
    '"auto" or "required": a model that calls tools answers with a call; "none": with any text.',
)
_LONGER = Field({"type": "integer", "minimum": 1}, "OpenAI's newer name of max_tokens.")
_COUNT = {"type": "integer", "minimum": 0, "maximum": 20}
_USAGE = {
    "type": "object",
    "required": ["prompt_tokens", "completion_tokens", "total_tokens"],
    "additionalProperties": {"type": "integer"},
}


def _answer(kind: str, choice: dict[str, Any]) -> dict[str, Any]:
    """Return the JSON Schema of a completion."""
    reasons = ["stop", "length", "tool_calls"]
    properties = {"index": {"type": "integer"}, "finish_reason": {"enum": reasons}}
    return {
        "type": "object",
        "required": ["id", "object", "created", "model", "choices", "usage"],
        "properties": {
            "id": {"type": "string"},
            "object": {"const": kind},
            "created": {"type": "integer"},
            "model": {"type": "string"},
            "choices": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["index", "finish_reason", *choice],
                    "properties": properties | choice,
                },
            },
            "usage": _USAGE,
        },
    }


class _Form(NamedTuple):
    """The differences between chat completions and completions.

    kind: of the object; prefix: of its id; whole: text -> fields of a choice; piece: (text, first)
    -> fields of a choice in a stream; chunk: kind of the objects of a stream; logprobs: fields of a
    request -> number of probable tokens to give with each token, or None; describe: probabilities
    -> JSON; calls: True if answers are calls of tools.
    """

    kind: str
    prefix: str
    whole: Any
    piece: Any
    chunk: str
    logprobs: Any
    describe: Any
    calls: bool = False


def _delta(text: str | None, first: bool) -> dict[str, Any]:
    delta: dict[str, Any] = {"role": "assistant"} if first else {}
    return {"delta": delta | ({} if text is None else {"content": text})}


def _chat_logprobs(body: dict[str, Any]) -> int | None:
    count = body.get("top_logprobs", 0)
    if not body.get("logprobs"):
        if count:
            raise Refusal(
                400, "The field 'top_logprobs' needs \"logprobs\": true.", param="top_logprobs"
            )
        return None
    return count


def _describe_in_chat(tokens: list[TokenProbability] | None) -> dict[str, Any] | None:
    if tokens is None:
        return None
    content = [
        _described(token.token, token.logprob)
        | {"top_logprobs": [_described(*one) for one in token.top]}
        for token in tokens
    ]
    return {"content": content, "refusal": None}


def _described(token: str, logprob: float) -> dict[str, Any]:
    return {"token": token, "logprob": logprob, "bytes": None}


def _describe_in_texts(tokens: list[TokenProbability] | None) -> dict[str, Any] | None:
    if tokens is None:
        return None
    return {
        "tokens": [token.token for token in tokens],
        "token_logprobs": [token.logprob for token in tokens],
        "top_logprobs": [dict(token.top) for token in tokens],
        "text_offset": list(
            itertools.accumulate((len(token.token) for token in tokens[:-1]), initial=0)
        )
        if tokens
        else [],
    }


_CHAT = _Form(
    "chat.completion",
    "chatcmpl-",
    lambda text: {"message": {"role": "assistant", "content": text, "refusal": None}},
    _delta,
    "chat.completion.chunk",
    _chat_logprobs,
    _describe_in_chat,
)
_TEXTS = _Form(
    "text_completion",
    "cmpl-",
    lambda text: {"text": text},
    lambda text, first: {"text": text or ""},
    "text_completion",
    lambda body: body.get("logprobs"),
    _describe_in_texts,
)


def _tool_calls(text: str) -> list[dict[str, Any]]:
    """Return the call that an answer makes, in OpenAI's form; [] if it makes none."""
    call = read_call(text)
    if call is None:
        return []
    arguments = json.dumps(call.arguments, ensure_ascii=False)
    function = {"name": call.name, "arguments": arguments}
    return [{"id": f"call_{uuid.uuid4().hex[:24]}", "type": "function", "function": function}]


def _whole_call(text: str) -> dict[str, Any]:
    calls = _tool_calls(text)
    if not calls:
        return _CHAT.whole(text)
    message = {"role": "assistant", "content": None, "tool_calls": calls, "refusal": None}
    return {"message": message}


def _call_delta(text: str | None, first: bool) -> dict[str, Any]:
    """Return the delta of a whole answer, as calls are not sent in pieces."""
    calls = _tool_calls(text or "")
    if not calls:
        return _delta(text, first)
    delta: dict[str, Any] = {"role": "assistant"} if first else {}
    return {"delta": delta | {"tool_calls": [{"index": 0, **calls[0]}]}}


_CALLS = _CHAT._replace(whole=_whole_call, piece=_call_delta, calls=True)


def _calling(call: Call) -> bool:
    """Return True if the answer to a request is to be a call of the model's tools.

    Raises:
        Refusal: the request has a tool that the model was not trained to call, or `tool_choice`
            names one.
    """
    body, own = call.body, call.served.model.tokenizer.tools
    known = [] if own is None else list(own.parameters)
    for number, tool in enumerate(body.get("tools", []), start=1):
        function = tool.get("function", {}) if isinstance(tool, dict) else {}
        name = function.get("name") if isinstance(function, dict) else None
        if name not in known:
            has = f"It calls: {', '.join(known)}." if known else "It calls no tools."
            text = f"Tool {number}, {shown(name)}, is not one that {call.served.id} knows. {has}"
            raise Refusal(400, text, "invalid_value", "tools")
    choice = body.get("tool_choice", "auto")
    if choice not in ("auto", "required", "none"):
        text = 'The model chooses the tool itself. Expected "auto", "required" or "none".'
        raise Refusal(400, text, "invalid_value", "tool_choice")
    is_text = body.get("response_format", {"type": "text"}).get("type") == "text"
    has_form = not is_text or any(body.get(name) for name in ("regex", "choices", "stop"))
    return bool(known) and choice != "none" and not has_form


async def _chat(service: Service, call: Call) -> Response:
    if not isinstance(call.served.model.preprocessor, ChatPreprocessor):
        raise Refusal(
            400,
            f"The model {call.served.id} has no chat template. Use /v1/completions.",
            "model_not_supported",
            "model",
        )
    body = call.body
    longest = {"max_tokens": body.get("max_completion_tokens", body.get("max_tokens"))}
    form = _CALLS if _calling(call) else _CHAT
    more = longest | {"free": not form.calls}
    return await _complete(service, call, form, [body["messages"]], body | more)


async def _texts(service: Service, call: Call) -> Response:
    prompt = call.body["prompt"]
    prompts = [prompt] if isinstance(prompt, str) else prompt
    if isinstance(call.served.model.preprocessor, ChatPreprocessor):
        raise Refusal(
            400,
            f"The model {call.served.id} answers conversations. Use /v1/chat/completions.",
            "model_not_supported",
            "model",
        )
    return await _complete(service, call, _TEXTS, prompts, call.body)


async def _complete(
    service: Service, call: Call, form: _Form, prompts: Sequence[Any], body: dict[str, Any]
) -> Response:
    """Return the response to prompts, whole or streamed."""
    choices, streamed = body.get("n", 1), body.get("stream", False)
    if len(prompts) * choices > MOST_TEXTS:
        raise Refusal(
            400, f"Prompts times 'n' are more than {MOST_TEXTS}. Send fewer.", "invalid_value", "n"
        )
    logprobs = form.logprobs(body)
    options = sampling.options_of(body, logprobs=logprobs)
    all_ids, answer_form = await read_prompts(call, prompts, options)
    # Clients put the continuation after the prompt; one of a form is a text of its own.
    continues = isinstance(call.served.model.preprocessor, ContinuationPreprocessor)
    keep_space = continues and answer_form is None
    events: asyncio.Queue = asyncio.Queue()
    works = [
        Prompt(
            index * choices + choice,
            call.client,
            call.deadline,
            events,
            ids,
            options,
            choice,
            streamed,
            answer_form,
            keep_space and bool(prompts[index]),
        )
        for index, ids in enumerate(all_ids)
        for choice in range(choices)
    ]
    head = {
        "id": form.prefix + uuid.uuid4().hex,
        "object": form.kind,
        "created": int(time.time()),
        "model": call.served.id,
        "system_fingerprint": call.served.fingerprint,
    }
    read = sum(map(len, all_ids))
    call.served.worker.metrics.count("tfx_prompt_tokens_total", call.served.worker.labels, read)
    if streamed:
        head["object"] = form.chunk
        counted = body.get("stream_options", {}).get("include_usage") is True
        stream = _Stream(head, form, len(works), read, counted)
        found = service.events(call, works, events)
        try:
            first = await anext(found)  # a refusal has a status of its own
        except BaseException:
            await found.aclose()
            raise
        return StreamingResponse(
            stream.lines(first, found),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
        )
    written = await service.results(call, works, events)
    parts = [
        {
            "index": index,
            **form.whole(one.text),
            "logprobs": form.describe(one.probabilities),
            "finish_reason": _reason(form, one),
        }
        for index, one in enumerate(written)
    ]
    return JSON(head | {"choices": parts, "usage": usage(read, written)})


def _reason(form: _Form, written: Written) -> str:
    """Return the reason why an answer ended, in OpenAI's words."""
    return "tool_calls" if form.calls and _tool_calls(written.text) else written.reason


class _Stream:
    """The server-sent events of completions.

    Args:
        head: fields of every object.
        form: of the endpoint.
        count: number of choices.
        read: number of tokens of the prompts.
        counted: True if the last object gives counts of tokens.
    """

    def __init__(
        self, head: dict[str, Any], form: _Form, count: int, read: int, counted: bool
    ) -> None:
        self._head, self._form, self._read, self._counted = head, form, read, counted
        self._begun = [False] * count

    async def lines(
        self, first: Any, events: AsyncGenerator[Any, None]
    ) -> AsyncGenerator[bytes, None]:
        """Yield the lines of the events of works; the last one is an error if one occurs.

        Args:
            first: the first event of `Service.events`.
            events: the others.
        """
        written: list[Written] = []
        try:
            event = first
            while event is not None:
                if event.last:
                    written.append(event.value)
                    if self._form.calls:
                        yield self._chunk(event.index, event.value.text, event.value.probabilities)
                    reason = _reason(self._form, event.value)
                    yield self._chunk(event.index, None, None, reason)
                elif not self._form.calls:
                    yield self._chunk(event.index, event.value.text, event.value.probabilities)
                event = await anext(events, None)
            if self._counted:
                yield _line(self._head | {"choices": [], "usage": usage(self._read, written)})
            yield b"data: [DONE]\n\n"
        except Refusal as refusal:
            yield _line(refusal.body)
        except InputError as error:
            yield _line(Refusal(400, str(error)).body)
        except Exception:
            yield _line(Refusal(500, "The model failed.", "fault").body)
        finally:
            await events.aclose()

    def _chunk(
        self,
        index: int,
        text: str | None,
        probabilities: list[TokenProbability] | None,
        reason: str | None = None,
    ) -> bytes:
        fields = self._form.piece(text, not self._begun[index])
        self._begun[index] = True
        described = self._form.describe(probabilities)
        choice = {"index": index, **fields, "logprobs": described, "finish_reason": reason}
        return _line(self._head | {"choices": [choice]})


def _line(value: Any) -> bytes:
    return b"data: " + encode(value) + b"\n\n"


def usage(read: int, written: Sequence[Written]) -> dict[str, int]:
    """Return counts of tokens in OpenAI's form.

    Args:
        read: number of tokens of the prompts.
        written: the answers.
    """
    tokens = sum(one.tokens for one in written)
    return {"prompt_tokens": read, "completion_tokens": tokens, "total_tokens": read + tokens}


async def read_prompts(
    call: Call, prompts: Sequence[Any], options: GenerationOptions
) -> tuple[list[list[int]], Constraint | None]:
    """Return the ids of prompts, and the form of their answers.

    Raises:
        Refusal: one is too long, or cannot be read.
    """
    try:
        return await encode_prompts(call.served.worker, prompts, options)
    except InputError as error:
        is_long = isinstance(error, PromptTooLong)
        code = "context_length_exceeded" if is_long else "invalid_value"
        raise Refusal(400, str(error), code) from error


CHAT = Endpoint(
    "/v1/chat/completions",
    "Answer a conversation.",
    {
        "model": MODEL,
        "messages": _MESSAGES,
        "max_completion_tokens": _LONGER,
        "response_format": sampling.RESPONSE_FORMAT,
        "tools": _TOOLS,
        "tool_choice": _TOOL_CHOICE,
        "parallel_tool_calls": Field({"type": "boolean"}, "Not read: an answer makes one call."),
        "logprobs": Field({"type": "boolean"}, "Give the log probability of each token."),
        "top_logprobs": Field(_COUNT, "Number of most probable tokens to give with each token."),
        **sampling.OPTIONS,
        **sampling.STREAM,
        **sampling.NEUTRAL,
    },
    _answer("chat.completion", {"message": {"type": "object"}}),
    _chat,
)
COMPLETIONS = Endpoint(
    "/v1/completions",
    "Continue a text, or translate it.",
    {
        "model": MODEL,
        "prompt": _PROMPT,
        "response_format": sampling.RESPONSE_FORMAT,
        "logprobs": Field(
            _COUNT, "Give the log probability of each token, and of this number of likely tokens."
        ),
        **sampling.OPTIONS,
        **sampling.STREAM,
        **sampling.NEUTRAL,
    },
    _answer("text_completion", {"text": {"type": "string"}}),
    _texts,
)
