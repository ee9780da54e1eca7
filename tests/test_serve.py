"""A server with a chat model: OpenAI's client, strangers, limits, and how it ends."""

import asyncio
import concurrent.futures
import json
import math
import os
import random
import re
import signal
import subprocess
import sys
import time
from types import SimpleNamespace
from typing import Any

import jsonschema
import openai
import pytest
import tokenizers
from serving import running

from tfx_transformer import bundle, runtime
from tfx_transformer.errors import InputError
from tfx_transformer.generation.options import GenerationOptions
from tfx_transformer.runtime.rows import CausalRows
from tfx_transformer.serve import serve, writing
from tfx_transformer.serve.metrics import Metrics
from tfx_transformer.serve.work import FairQueue, Work
from tfx_transformer.serve.writing import Prompt, WritingWorker
from tfx_transformer.text.tokenizer import Tokenizer
from tfx_transformer.text.tools import read_call

CHAT = "/v1/chat/completions"
KEY = "a-key-of-this-test-0123456789"
WAKE: Any = {
    "type": "function",
    "function": {
        "name": "wake",
        "parameters": {"type": "object", "properties": {"hours": {"type": "integer"}},
                       "required": ["hours"]},
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def server(assistant):
    with running([assistant.path]) as started:
        yield started


@pytest.fixture(scope="module")
def client(server):
    return openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0)


@pytest.fixture(scope="module")
def alone(assistant):
    """The same bundle, asked without a server."""
    return runtime.load(assistant.path, threads=1)


def said(text):
    return [{"role": "user", "content": text}]


def ask(client, text, **options):
    return client.chat.completions.create(model="assistant", messages=said(text), **options)


# Answers


def test_many_at_once_are_answered_as_alone(client, assistant, alone):
    """More than there are rows, so that some are computed together and some come later."""
    texts = assistant.texts[:30]
    with concurrent.futures.ThreadPoolExecutor(len(texts)) as pool:
        answers = list(pool.map(lambda text: ask(client, text), texts))
    found = [answer.choices[0].message.content for answer in answers]
    assert found == alone.generate(texts)
    assert len(set(found)) > 10
    for text, answer in zip(texts, answers, strict=True):
        assert answer.usage.prompt_tokens == len(alone.encode(text))
        assert answer.choices[0].finish_reason == "stop"


def test_rows_begin_and_end_by_themselves(alone):
    """Logits are those of a text by itself, whatever its neighbours do."""
    prompts = [alone.encode(text) for text in ("a", "What is snow?", "猫", "one two three four")]
    prompts += [prompts[1][:3], prompts[2]]
    rows, session = CausalRows(alone.engine), alone.engine.session()
    last, written = {}, {}
    for number in range(14):
        if number < len(prompts):  # one more begins at each step, in a row from the end
            row = rows.count - 1 - number
            last[row] = rows.begin(row, prompts[number])
            written[row] = [*prompts[number]]
        logits = rows.step(list(last), list(last.values()))
        for row, values in zip(list(last), logits, strict=True):
            *before, newest = written[row]
            session.extend(before, 0)
            alone_logits = session.step([newest], len(before))[0]
            assert abs(values - alone_logits).max() < 1e-3
            last[row] = int(values.argmax())
            written[row].append(last[row])
        if number == 9:
            del last[next(iter(last))]  # the first ends, the others go on


def test_a_stream_brings_the_same_text(client, assistant, alone):
    text = assistant.texts[3]
    options = {"stream": True, "stream_options": {"include_usage": True}}
    chunks = list(ask(client, text, **options))
    pieces = [c.choices[0].delta.content or "" for c in chunks if c.choices]
    assert "".join(pieces) == alone.generate(text)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage == ask(client, text).usage


def test_tools_are_called(assistant, tmp_path):
    """By a bundle with tools, which holds all answers to the form of calls."""
    path = assistant.copy(tmp_path)
    with bundle.updating(path) as folder:
        (folder / bundle.TOOLS).write_text(json.dumps([WAKE, {"name": "stop"}]), "utf-8")
    alone = read_call(runtime.load(path, threads=1).generate("Stop"))
    assert alone is not None and alone.name in ("wake", "stop")
    with running([path]) as server:
        client = openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0)
        asked = {"tools": [WAKE], "tool_choice": "required"}
        for options in ({}, asked, {"response_format": {"type": "text"}}):
            (choice,) = ask(client, "Stop", **options).choices
            assert choice.finish_reason == "tool_calls" and choice.message.content is None
            (call,) = choice.message.tool_calls
            assert call.function.name == alone.name
            assert json.loads(call.function.arguments) == alone.arguments
        chunks = list(ask(client, "Stop", stream=True, logprobs=True))
        deltas = [chunk.choices[0].delta for chunk in chunks]
        ((streamed,),) = [delta.tool_calls for delta in deltas if delta.tool_calls]
        assert streamed.function.name == alone.name and deltas[0].role == "assistant"
        assert not any(delta.content for delta in deltas)
        (given,) = [c.choices[0].logprobs for c in chunks if c.choices[0].logprobs]
        written = "".join(token.token for token in given.content)
        assert read_call(written) == alone
        assert chunks[-1].choices[0].finish_reason == "tool_calls"
        (free,) = ask(client, "Stop", tool_choice="none").choices
        assert free.message.content == runtime.load(path, threads=1).generate("Stop", free=True)
        assert not free.message.tool_calls and free.finish_reason == "stop"
        with pytest.raises(openai.BadRequestError, match="It calls: wake, stop"):
            ask(client, "Stop", tools=[{"type": "function", "function": {"name": "sleep"}}])


def test_a_language_model_continues(assistant, tmp_path):
    """The same weights without a template."""
    path = assistant.copy(tmp_path)
    with bundle.updating(path) as folder:
        (folder / bundle.CHAT_TEMPLATE).unlink()
    texts = ["What", "I am", "空は", "a b c"]
    expected = runtime.load(path, threads=1).generate(texts, max_new_tokens=9)
    with running([path]) as started:
        own = openai.OpenAI(base_url=started.url + "/v1", api_key="none", max_retries=0)
        found = own.completions.create(model=path.name, prompt=texts, max_tokens=9)
        assert [choice.text for choice in found.choices] == expected
        assert len(set(expected)) > 1
        with pytest.raises(openai.BadRequestError, match="has no chat template"):
            own.chat.completions.create(model=path.name, messages=said("What"))


def sentence_pieces(size):
    """A tokenizer of SentencePiece's kind: half of its pieces begin a word."""
    specials = ["<pad>", "<s>", "</s>", "<unk>"]
    letters = [a + b for a in "abcdefghijklmnopqrstuvwxyz" for b in "aeiouxyzrs"]
    pieces = [*"abcdefghijklmnopqrstuvwxyz▁", *letters, *(f"▁{pair}" for pair in letters)]
    scores = [(piece, -float(len(specials) + i)) for i, piece in enumerate(pieces)]
    scores = [*((name, 0.0) for name in specials), *scores[: size - len(specials)]]
    made = tokenizers.Tokenizer(tokenizers.models.Unigram(scores, unk_id=3))
    made.add_special_tokens(specials)
    made.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    made.decoder = tokenizers.decoders.Metaspace()
    return made


def test_a_continuation_has_the_space_before_its_first_word(assistant, tmp_path):
    path = assistant.copy(tmp_path)
    sentence_pieces(500).save(str(tmp_path / "tokenizer.json"))
    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(names), "utf-8")
    with bundle.updating(path) as folder:
        (folder / bundle.CHAT_TEMPLATE).unlink()
        Tokenizer.load(tmp_path / "tokenizer.json").save(folder / bundle.TOKENIZER)
    model = runtime.load(path, threads=1)
    spaces = []
    with running([path]) as started:
        own = openai.OpenAI(base_url=started.url + "/v1", api_key="none", max_retries=0)
        for seed, prompt in enumerate(["ba", "ca de", "fe", "go ha", "ka", "ma no"]):
            drawn = {"prompt": prompt, "temperature": 2.0, "seed": seed, "max_tokens": 7}
            (found,) = own.completions.create(model=path.name, logprobs=0, **drawn).choices
            expected = model.generate(prompt, temperature=2.0, seed=seed, max_new_tokens=7)
            assert found.text == "".join(found.logprobs.tokens)
            spaces.append(found.text.removesuffix(expected))
            pieces = own.completions.create(model=path.name, stream=True, **drawn)
            assert "".join(piece.choices[0].text for piece in pieces) == found.text
    assert {*spaces} == {"", " "}


def test_draws_are_those_of_the_seed(client, alone):
    text = "What color is snow?"
    drawn = ask(client, text, temperature=1.5, top_p=0.9, seed=7, n=3).choices
    expected = alone.generate([text] * 3, temperature=1.5, top_p=0.9, seed=7)
    assert [choice.message.content for choice in drawn] == expected
    assert len(set(expected)) > 1
    without = [ask(client, text, temperature=2.0).choices[0].message.content for _ in range(6)]
    assert len(set(without)) > 1


def test_limits_of_an_answer(client, alone):
    text = "What color is snow?"
    whole = alone.generate(text)
    cut = ask(client, text, max_tokens=1)
    assert cut.choices[0].finish_reason == "length" and cut.usage.completion_tokens == 1
    assert whole.startswith(cut.choices[0].message.content)
    stopped = ask(client, text, stop=[whole[1:]])
    assert stopped.choices[0].message.content == whole[:1]
    assert stopped.choices[0].finish_reason == "stop"


# Requests of strangers


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({}, 400, "'messages' is missing"),
        ({"messages": []}, 400, "1 to 1,000 items"),
        ({"messages": "hi"}, 400, "Expected a list"),
        ({"messages": [{"role": "king", "content": "x"}]}, 400, "role"),
        ({"messages": said("x"), "model": "gpt-4"}, 404, "assistant"),
        ({"messages": said("x"), "temperature": -1}, 400, "from 0 to 2"),
        ({"messages": said("x"), "temperature": True}, 400, "a number"),
        ({"messages": said("x"), "n": 10**30}, 400, "'n'"),
        ({"messages": said("x"), "seed": 2**63}, 400, "'seed'"),
        ({"messages": said("x"), "stop": [""]}, 400, "'stop'"),
        ({"messages": said("x"), "functions": []}, 400, '"functions" is not known'),
        ({"messages": said("x"), "tools": [WAKE]}, 400, "It calls no tools"),
        ({"messages": said("x"), "tool_choice": WAKE}, 400, "chooses the tool itself"),
        ({"messages": said("x"), "frequency_penalty": 0.5}, 400, "'frequency_penalty'"),
        ({"messages": said("word " * 9_000)}, 400, "tokens; the model reads"),
        ({"messages": said("x"), "stream": True, "model": 3}, 400, "'model'"),
        ({"messages": [{"role": "user", "content": "x", "name": "\ud800"}]}, 400, "name"),
    ],
)
def test_what_is_wrong_is_said(server, body, status, words):
    content = json.dumps(body)
    response = server.client.post(
        CHAT, content=content, headers={"Content-Type": "application/json"}
    )
    assert response.status_code == status
    error = response.json()["error"]
    assert words in error["message"]
    assert error.keys() == {"message", "type", "param", "code"} and "Traceback" not in str(error)


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 400),
        (b"[" * 900_000, 400),
        (b'{"messages": NaN}', 400),
        (b'{"messages": 1e999}', 400),
        (b'{"messages": [], "messages": []}', 400),
        (b"\xff\xfe{}", 400),
        (b'{"n": ' + b"9" * 100_000 + b"}", 400),
        (b'{"messages": "' + b"a" * 2_000_000 + b'"}', 413),
        (b" " * 30_000_000, 413),
    ],
    ids=lambda value: str(value[:12] if isinstance(value, bytes) else value),
)
def test_bodies_that_are_no_requests(server, content, status):
    headers = {"Content-Type": "application/json"}
    assert server.client.post(CHAT, content=content, headers=headers).status_code == status


def test_other_kinds_of_requests(server):
    get, post = server.client.get, server.client.post
    assert get(CHAT).status_code == 405 and get("/%00/../x").status_code == 404
    assert post(CHAT, content="messages=1").status_code == 415
    assert post("/v1/embeddings", json={"input": "x"}).status_code == 404
    # A page in a browser that leads a name of its own here is not let in.
    assert get("/v1/models", headers={"Host": "evil.example"}).status_code == 403
    assert get("/v1/models", headers={"Host": "localhost:1"}).status_code == 200


def test_requests_by_chance_are_refused_and_never_a_fault(server):
    """Values of wrong types and sizes in every field."""
    source = random.Random(1)
    values = [None, True, -1, 0, 1, 2**70, 1e308, "", "a", "\0", [], [[]], {}, ["a"] * 99]
    names = ["messages", "n", "stop", "seed", "stream", "top_p", "top_k", "temperature"]
    names += ["max_tokens", "repetition_penalty", "stream_options", "model", "metadata", "x"]
    seen = set()
    for _ in range(120):
        body = {"messages": said("hi"), "max_tokens": 2}
        for name in source.sample(names, source.randrange(1, 4)):
            body[name] = source.choice(values)
        seen.add(server.post(CHAT, **body).status_code)
    assert {200, 400} <= seen <= {200, 400, 404}


def test_a_key_is_needed_where_there_is_one(assistant):
    with running([assistant.path], key=KEY) as guarded:
        get = guarded.client.get
        assert get("/healthz").status_code == 200
        assert get("/v1/models").status_code == 401
        for wrong in ("Bearer x", f"Basic {KEY}", f"Bearer {KEY}x", "Bearer", "Bearer \xff"):
            header = {"Authorization": wrong.encode("latin-1")}
            assert get("/metrics", headers=header).status_code == 401
        right = openai.OpenAI(base_url=guarded.url + "/v1", api_key=KEY)
        assert [model.id for model in right.models.list()] == ["assistant"]
        assert guarded.client.get("/", headers={"Host": "any.example"}).status_code == 200, (
            "with a key any name will do"
        )


def test_an_open_address_needs_a_key(assistant, monkeypatch):
    monkeypatch.delenv("TFX_API_KEY", raising=False)
    with pytest.raises(InputError, match="--without-key"):
        serve([assistant.path], host="0.0.0.0", port=0)
    for port in (-1, 65_536):
        with pytest.raises(InputError, match="1 to 65,535"):
            serve([assistant.path], port=port)
    monkeypatch.setenv("TFX_API_KEY", "short")
    with pytest.raises(InputError, match="16 or more"):
        serve([assistant.path], port=0)


# Limits


def test_a_full_queue_says_when_to_come_again(assistant):
    with running([assistant.path], queue=2) as small:
        response = small.post(CHAT, messages=said("x"), n=3)
        assert response.status_code == 503 and int(response.headers["Retry-After"]) >= 1
        assert small.post(CHAT, messages=said("x"), n=2).status_code == 200


def test_requests_under_way_are_bounded(assistant):
    with running([assistant.path], held=20_000, body=100_000) as small:
        text = json.dumps({"messages": said("x"), "metadata": {"a": "b" * 30_000}})
        many = json.dumps({"messages": said("x"), "metadata": {"a": [1] * 1_000}})
        for content in (text, many):
            for _ in range(3):
                response = small.client.post(
                    CHAT, content=content, headers={"Content-Type": "application/json"}
                )
                assert response.status_code == 503 and response.headers["Retry-After"]
        assert small.service.held == 0
        assert small.post(CHAT, messages=said("x")).status_code == 200
    with running([assistant.path], requests=0.5) as none:
        assert none.client.get("/healthz").status_code == 503


def test_deadlines(assistant, monkeypatch):
    with running([assistant.path], seconds=0.5) as hasty:
        worker = hasty.service.models["assistant"].worker
        monkeypatch.setattr(worker, "_is_late", lambda prompt: True)
        cut = hasty.post(CHAT, messages=said("What color is snow?")).json()
        assert cut["choices"][0]["finish_reason"] == "length"
        assert cut["usage"]["completion_tokens"] == 1
        monkeypatch.setattr(worker, "_begin", lambda row, prompt: None)  # answers nothing
        monkeypatch.setattr("tfx_transformer.serve.service._SLACK", 0.1)
        began = time.monotonic()
        late = hasty.post(CHAT, messages=said("x"))
        assert late.status_code == 504 and time.monotonic() - began < 5
        assert worker.reserved == 0


def test_a_fault_ends_its_requests_and_no_others(server, monkeypatch, caplog):
    worker = server.service.models["assistant"].worker
    with monkeypatch.context() as broken:
        broken.setattr(worker._tables[1].rows, "step", lambda *_: 1 / 0)
        response = server.post(CHAT, messages=said("x"))
    assert response.status_code == 500
    assert response.json()["error"]["code"] == "fault" and "Zero" not in response.text
    assert "ZeroDivisionError" in caplog.text
    assert server.post(CHAT, messages=said("x")).status_code == 200


def test_who_leaves_is_not_worked_for(server, client):
    worker = server.service.models["assistant"].worker
    with client.chat.completions.create(
        model="assistant", messages=said("x"), stream=True, n=8, temperature=2.0
    ) as stream:
        next(iter(stream))
    until = time.monotonic() + 20
    while worker.reserved or worker.active:
        assert time.monotonic() < until
        time.sleep(0.02)


async def works(clients):
    return [Work(n, client, 0.0, asyncio.Queue()) for n, client in enumerate(clients)]


def test_clients_take_turns():
    queue = FairQueue()
    for work in asyncio.run(works("aaabac")):
        queue.put(work)
    assert [queue.take().index for _ in range(6)] == [0, 3, 5, 1, 2, 4]
    assert queue.take() is None


def test_work_that_does_not_fit_keeps_its_place():
    queue = FairQueue()
    for work in asyncio.run(works("aaabb")):
        queue.put(work)
    found = [queue.take(lambda work: work.index not in (0, 3)) for _ in range(4)]
    assert [work and work.index for work in found] == [1, 4, 2, None]
    assert [queue.take().index for _ in range(2)] == [3, 0]


def test_prompts_with_beams_do_not_hold_up_others(monkeypatch):
    class OneRow:
        def __init__(self, generator, beams):
            self.answers = {}

        @property
        def free(self):
            return None if self.answers else 0

        def begin(self, prompt):
            self.answers[0] = SimpleNamespace(prompt=prompt)

    async def submit(*numbers):
        for index, beams in enumerate(numbers):
            options = GenerationOptions(beams=beams)
            worker.submit(Prompt(index, "a", math.inf, asyncio.Queue(), [3], options))

    monkeypatch.setattr(writing, "_Table", OneRow)
    worker = WritingWorker("m", 9, Metrics(), None)
    monkeypatch.setattr(worker, "_step", lambda table: None)
    asyncio.run(submit(1, 4))
    assert sorted(prompt.index for prompt in worker.turn()) == [0, 1]
    worker = WritingWorker("m", 9, Metrics(), None)
    monkeypatch.setattr(worker, "_step", lambda table: None)
    asyncio.run(submit(4, 4, 1, 4, 1))
    assert sorted(prompt.index for prompt in worker.turn()) == [0, 2]
    worker._tables[1].answers.clear()
    assert sorted(prompt.index for prompt in worker.turn()) == [0, 4]
    worker._tables[4].answers.clear()
    assert sorted(prompt.index for prompt in worker.turn()) == [1, 4]


@pytest.mark.skipif(os.name != "posix", reason="needs SIGTERM")
def test_sigterm_lets_answers_end(assistant):
    """Running requests are answered, new ones refused; the exit status is 143."""
    command = [sys.executable, "-m", "tfx_transformer.cli", "serve", assistant.path]
    process = subprocess.Popen(
        [*map(str, command), "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        url = re.search(r"http://[\d.]+:\d+", process.stdout.readline().decode())[0]
        own = openai.OpenAI(base_url=url + "/v1", api_key="none", max_retries=0)
        stream = ask(own, "x", stream=True, n=8, temperature=2.0, seed=1)
        pieces = [next(stream)]
        process.send_signal(signal.SIGTERM)
        pieces += stream
        assert len([p for p in pieces if p.choices[0].finish_reason]) == 8
        assert process.wait(30) == 143
        assert process.stdout.read() == b""
    finally:
        process.kill()


# Its description


def test_the_description_is_true(server):
    described = server.client.get("/openapi.json").json()
    assert described["openapi"].startswith("3.1")
    paths = described["paths"]
    assert paths.keys() == {CHAT, "/v1/completions", "/v1/models", "/healthz", "/metrics"}
    operation = paths[CHAT]["post"]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    jsonschema.Draft202012Validator.check_schema(schema)
    request = {"messages": said("x"), "stop": ["a"], "temperature": 0.5, "n": 2}
    jsonschema.validate(request, schema)
    answer = operation["responses"]["200"]["content"]["application/json"]["schema"]
    jsonschema.validate(server.post(CHAT, **request).json(), answer)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"messages": said("x"), "n": 0}, schema)


def test_metrics_count(server):
    before = _metrics(server)
    server.post(CHAT, messages=said("x"), max_tokens=3)
    server.post(CHAT, messages=said("x"), n=0)
    server.client.get("/no-such-page-" + "x" * 50)
    after = _metrics(server)

    def more(name):
        return after.get(name, 0) - before.get(name, 0)

    assert more(f'tfx_requests_total{{path="{CHAT}",status="200"}}') == 1
    assert more(f'tfx_requests_total{{path="{CHAT}",status="400"}}') == 1
    assert more('tfx_requests_total{path="other",status="404"}') == 1
    assert more('tfx_completion_tokens_total{model="assistant"}') == 3
    assert more(f'tfx_request_seconds_count{{path="{CHAT}"}}') == 2
    assert (
        after[f'tfx_request_seconds_bucket{{path="{CHAT}",le="+Inf"}}']
        == (after[f'tfx_request_seconds_count{{path="{CHAT}"}}'])
    )


def _metrics(server):
    lines = server.client.get("/metrics").text.splitlines()
    assert all(re.fullmatch(r"# (HELP|TYPE) \w+ .+|\w+(\{.*\})? [-+.e\d]+", line) for line in lines)
    return {
        name: float(value)
        for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")
    }


def test_the_page_loads_nothing(server):
    response = server.client.get("/")
    assert "default-src 'none'" in response.headers["Content-Security-Policy"]
    assert "assistant" in response.text and "<script" not in response.text


# Answers of a given form


def test_answers_follow_a_schema(client):
    schema = {
        "type": "object",
        "properties": {"色": {"enum": ["白", "黒"]}, "sure": {"type": "boolean"}},
        "required": ["色", "sure"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "color", "schema": schema}}
    answer = ask(client, "What color is snow?", response_format=form, n=8, temperature=1.5)
    for choice in answer.choices:
        jsonschema.validate(json.loads(choice.message.content), schema)
        assert choice.finish_reason == "stop"
    pieces = list(ask(client, "x", response_format={"type": "json_object"}, stream=True))
    text = "".join(piece.choices[0].delta.content or "" for piece in pieces)
    assert isinstance(json.loads(text), dict)
    one = ask(client, "x", extra_body={"choices": ["はい", "いいえ"]}).choices[0]
    assert one.message.content in ("はい", "いいえ")
    number = ask(client, "x", extra_body={"regex": "[0-9]{3}"}).choices[0]
    assert re.fullmatch("[0-9]{3}", number.message.content)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"response_format": {"type": "xml"}}, "'response_format'"),
        ({"response_format": {"type": "json_schema"}}, "'response_format'"),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": 1}}}, "response_"),
        ({"regex": "(" * 3_000}, "regex cannot be used"),
        ({"regex": "(a{999}){999}"}, "tokens"),
        ({"choices": ["a", "a"]}, "different texts"),
        ({"choices": ["a"], "stop": "b"}, "exclude"),
        ({"choices": ["a b c d e f g h"], "max_tokens": 2}, "2 may be written"),
        ({"top_logprobs": 3}, "logprobs"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_forms_that_cannot_be_used_are_refused(server, body, words):
    response = server.post(CHAT, messages=said("x"), **body)
    assert response.status_code == 400 and words in response.json()["error"]["message"]


def test_log_probabilities(client, alone):
    text = "What color is snow?"
    expected = alone.answer(text, logprobs=2).tokens
    found = ask(client, text, logprobs=True, top_logprobs=2).choices[0].logprobs.content
    assert [one.token for one in found] == [one.token for one in expected]
    values = [one.logprob for one in expected]
    assert [one.logprob for one in found] == pytest.approx(values, abs=1e-3)
    assert found[0].top_logprobs[1].token == expected[0].top[1][0]
    chunks = list(ask(client, text, logprobs=True, stream=True))
    streamed = [
        one.token for c in chunks if c.choices[0].logprobs for one in c.choices[0].logprobs.content
    ]
    assert streamed == [one.token for one in expected]
