"""A server with a translator: many texts at a time, and beam search."""

import concurrent.futures
import re

import openai
import pytest
from serving import running
from trained import BEAMS

from tfx_transformer import runtime


@pytest.fixture(scope="module")
def server(trained):
    with running([trained.path]) as started:
        yield started


@pytest.fixture(scope="module")
def alone(trained):
    return runtime.load(trained.path, threads=1)


def test_many_texts_at_a_time(server, trained, alone):
    texts = trained.texts[:12]
    expected = alone.generate(texts)
    with concurrent.futures.ThreadPoolExecutor(len(texts)) as pool:
        found = list(pool.map(lambda text: server.post("/translate", input=text).json(), texts))
    assert [one["data"][0]["text"] for one in found] == expected
    together = server.post("/translate", input=texts).json()
    assert [one["text"] for one in together["data"]] == expected
    assert len(set(expected)) > 6
    read = sum(len(alone.encode(text)) for text in texts)
    assert together["usage"]["prompt_tokens"] == read


def test_beams(server, trained, alone):
    texts = trained.texts[:3]
    found = server.post("/translate", input=texts, beams=BEAMS).json()["data"]
    assert [one["text"] for one in found] == alone.generate(texts, beams=BEAMS)
    refused = server.post("/translate", input=texts, beams=BEAMS + 1)
    assert refused.status_code == 400 and "beams" in refused.json()["error"]["message"]
    refused = server.post("/translate", input=texts, beams=BEAMS, temperature=1)
    assert refused.status_code == 400 and "exclude" in refused.json()["error"]["message"]


def test_texts_with_beams_share_their_steps_with_others(trained, alone):
    texts = trained.texts[:12]
    with running([trained.path]) as server, concurrent.futures.ThreadPoolExecutor(2) as pool:
        plain = pool.submit(server.post, "/translate", input=texts[:3])
        found = server.post("/translate", input=texts, beams=BEAMS).json()["data"]
        counts = server.client.get("/metrics").text
        steps, rows = (
            int(re.search(rf"tfx_{name}_total{{.*}} (\d+)", counts)[1])
            for name in ("steps", "rows")
        )
        assert [one["text"] for one in plain.result().json()["data"]] == alone.generate(texts[:3])
    assert [one["text"] for one in found] == alone.generate(texts, beams=BEAMS)
    assert rows > 3 * steps
    assert {one["finish_reason"] for one in found} <= {"stop", "length"}


def test_it_completes_texts_as_well(server, trained, alone):
    client = openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0)
    texts = trained.texts[:3]
    name = trained.path.name
    found = client.completions.create(model=name, prompt=texts)
    assert [choice.text for choice in found.choices] == alone.generate(texts)
    pieces = client.completions.create(model=name, prompt=texts[0], stream=True)
    assert "".join(piece.choices[0].text for piece in pieces) == alone.generate(texts[0])
    response = server.post("/v1/chat/completions", messages=[{"role": "user", "content": "x"}])
    assert response.status_code == 404
