"""A server with classifiers and embedders: what arrives together runs together."""

import base64
import concurrent.futures
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx2 as httpx
import jsonschema
import numpy as np
import openai
import pytest
from processes import wait_for
from serving import running

from tfx_transformer import runtime, search
from tfx_transformer.errors import InputError
from tfx_transformer.prediction.tagging import TextTagger
from tfx_transformer.prediction.tags import Tags
from tfx_transformer.serve.metrics import Metrics
from tfx_transformer.serve.search import Question, nearest, searching, shorten
from tfx_transformer.serve.server import serve
from tfx_transformer.text.tokenizer import Tokenizer


class _Capitals:
    """An engine of a tagger: every token of an upper-case letter begins a name."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer

    def run_ids(self, rows):
        longest = max(map(len, rows))
        logits = np.zeros((len(rows), longest, 3), "float32")
        for row, ids in enumerate(rows):
            for place, index in enumerate(ids):
                is_name = self.tokenizer.decode([index]).strip().isupper()
                logits[row, place] = (-9, 9, -9) if is_name else (9, -9, -9)
        return logits


@pytest.fixture(scope="module")
def server(text_classifier, topic_classifier, text_embedder, image_classifier):
    exported = (text_classifier, topic_classifier, text_embedder, image_classifier)
    tokenizer = Tokenizer.train(["a B"], 270)
    tagger = TextTagger(_Capitals(tokenizer), tokenizer, Tags(["O", "B-NAME", "I-NAME"]), 11)
    more = [("names", tagger, {"task": "tagging"})]
    with running([one.path for one in exported], more=more) as started:
        yield started


def close(found, expected):
    return np.allclose(np.array(found), np.array(expected), atol=1e-5)


def test_labels_are_those_of_the_model(server, text_classifier, topic_classifier):
    for exported in (text_classifier, topic_classifier):
        texts = exported.inputs
        alone = runtime.load(exported.path).classify(texts)
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            asked = [
                pool.submit(server.post, "/classify", model=exported.path.name, input=text)
                for text in texts
            ]
            found = [one.result().json()["data"][0] for one in asked]
        whole = server.post("/classify", model=exported.path.name, input=texts).json()["data"]
        assert [one["index"] for one in whole] == list(range(len(texts)))
        for one, other, expected in zip(found, whole, alone, strict=True):
            assert one["label"] == other["label"] == expected.label
            assert one["labels"] == list(expected.labels)
            values = list(expected.probabilities.values())
            assert close(list(one["probabilities"].values()), values)
            assert close(list(other["probabilities"].values()), values)


def test_vectors_are_those_of_the_model(server, text_embedder):
    client = openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0)
    texts = text_embedder.inputs
    expected = runtime.load(text_embedder.path).embed(texts)
    # The client asks for base64 by itself; numbers are asked for without it.
    found = client.embeddings.create(model=text_embedder.path.name, input=texts)
    assert close([one.embedding for one in found.data], expected)
    plain = server.post("/v1/embeddings", input=texts * 9).json()
    assert close([one["embedding"] for one in plain["data"]], list(expected) * 9)
    assert plain["usage"]["prompt_tokens"] == 9 * found.usage.prompt_tokens > 0
    one = server.post("/v1/embeddings", input=texts[0], dimensions=expected.shape[1]).json()
    assert close(one["data"][0]["embedding"], expected[0])
    refused = server.post("/v1/embeddings", input=texts[0], dimensions=3)
    assert refused.status_code == 400
    assert refused.json()["error"]["message"].startswith("the width is 3; vectors of this model")


def test_rows_of_an_index_are_those_that_search_finds(text_embedder, tmp_path):
    table = tmp_path / "my.csv"
    rows = [f'{number},"{text}"\n' for number, text in enumerate(text_embedder.inputs)]
    table.write_text("id,text\n" + "".join(rows), "utf-8")
    search.make_index(tmp_path / "faq", text_embedder.path, [table], shown=["id"])
    index, query = search.Index(tmp_path / "faq"), text_embedder.inputs[2]
    with running([tmp_path / "faq", text_embedder.path]) as server:
        assert [one["task"] for one in server.client.get("/v1/models").json()["data"]] == [
            "index",
            "embedding",
        ]
        for count in (None, 3):
            asked = {} if count is None else {"count": count}
            answer = server.post("/v1/search", query=query, **asked).json()
            expected = index.search(query, count or 5)
            for one, other in zip(answer["data"], expected, strict=True):
                assert (one["row"], one["text"], one["cells"]) == (
                    other.row,
                    other.text,
                    other.cells,
                )
                assert one["cosine"] == pytest.approx(other.cosine, abs=1e-5)
                assert one["table"] == "my.csv"
        assert answer["data"][0]["text"] == query
        described = server.client.get("/openapi.json").json()["paths"]["/v1/search"]["post"]
        schema = described["responses"]["200"]["content"]["application/json"]["schema"]
        jsonschema.validate(answer, schema)
        for name, value, words in (
            ("query", None, "'query' is missing"),
            ("query", "a" * 20_001, "1 to 20,000 characters"),
            ("count", 101, "from 1 to 100"),
            ("prompt_name", "none", "there is no prompt 'none'"),
            ("model", text_embedder.path.name, "does not answer /v1/search"),
        ):
            refused = server.post("/v1/search", **{"query": "a", name: value})
            error = refused.json()["error"]
            assert refused.status_code == 400
            assert error["param"] == name and words in error["message"]
        # What is damaged later is not the client's fault, and no path is shown.
        index_served = server.service.models["faq"].model
        index_served.store._places = np.full_like(index_served.store._places, 1 << 40)
        failed = server.post("/v1/search", query="a")
        assert failed.status_code == 500 and str(tmp_path) not in failed.text


def test_a_damaged_row_is_refused_and_others_are_found(text_embedder, tmp_path):
    (tmp_path / "my.csv").write_text("text\nthe cat\na dog\nand\n", "utf-8")
    search.make_index(tmp_path / "i", text_embedder.path, [tmp_path / "my.csv"])
    rows = tmp_path / "i" / "1.rows.jsonl"
    rows.write_bytes(rows.read_bytes().replace(b'[0, 3, "a dog"', b'[9, 3, "a dog"'))
    index, metrics = search.Index(tmp_path / "i"), Metrics()
    worker = searching("faq", 9, metrics, index)
    questions = [Question(ids, 1, False) for ids in index.model.rows(["the cat", "a dog", "and"])]
    first, damaged, last = worker.run(questions)
    assert [one[0]["text"] for one in (first, last)] == ["the cat", "and"]
    assert (damaged.status, damaged.code) == (500, "damaged_index")
    assert "make the index again" in damaged.message and str(tmp_path) not in damaged.message
    assert 'tfx_faults_total{model="faq"} 1' in metrics.text([])


def test_a_row_that_is_found_has_a_bound():
    short = search.Found(7, 0.5, "a" * 9_990, {"id": "b" * 8}, "../my.csv")
    assert shorten(short) == {
        "table": "my.csv", "row": 7, "cosine": 0.5, "text": short.text, "cells": short.cells,
        "cut": False,
    }  # fmt: skip
    long = shorten(short._replace(cells={"id": "b" * 9, "note": "c"}))
    assert (long["cells"], long["cut"]) == ({"id": "b" * 8}, True)
    long = shorten(short._replace(text="猫" * 10_001, row="x" * 10**6, table="y" * 10**6))
    assert (long["text"], long["cells"], long["cut"]) == ("猫" * 10_000, {}, True)
    assert len(json.dumps(long, ensure_ascii=False)) < 11_000


class _Index:
    """An index with a graph, whose rows are ten times the question, and their place."""

    has_graph = True

    def __init__(self):
        self.calls = []

    def places(self, vectors, count, exact=False):
        self.calls.append((vectors[:, 0].tolist(), count, exact))
        numbers = 10 * vectors[:, :1] + np.arange(count)
        return numbers, numbers / 100


def test_questions_that_compare_all_rows_do_so_in_one_pass():
    index, vectors = _Index(), np.array([[5.0], [6.0], [7.0]])
    questions = [Question([], 2, True), Question([], 1, False), Question([], 3, True)]
    found = [[part.tolist() for part in one] for one in nearest(index, vectors, questions)]
    assert found == [
        [[50, 51], [0.5, 0.51]],
        [[60], [0.6]],
        [[70, 71, 72], [0.7, 0.71, 0.72]],
    ]
    assert index.calls == [([5, 7], 3, True), ([6], 1, False)]


def test_images_come_as_base64(server, image_classifier):
    expected = runtime.load(image_classifier.path).classify(image_classifier.inputs)
    images = [base64.b64encode(file.read_bytes()).decode() for file in image_classifier.inputs]
    images[1] = f"data:image/png;base64,{images[1]}"
    answer = server.post("/classify", model=image_classifier.path.name, input=images).json()
    for one, other in zip(answer["data"], expected, strict=True):
        assert one["label"] == other.label
        assert close(list(one["probabilities"].values()), list(other.probabilities.values()))


def test_spans_have_the_characters_of_the_text(server):
    texts = ["猫 A b", "b" * 40 + " C " + "b" * 40, "", "b"]
    answer = server.post("/tag", input=texts).json()
    found = [[tuple(s[k] for k in ("start", "end", "label", "text")) for s in one["spans"]]
             for one in answer["data"]]  # fmt: skip
    assert found == [[(2, 3, "NAME", "A")], [(41, 42, "NAME", "C")], [], []]
    assert answer["data"][0]["spans"][0]["probability"] > 0.99
    described = server.client.get("/openapi.json").json()["paths"]["/tag"]["post"]
    schema = described["responses"]["200"]["content"]["application/json"]["schema"]
    jsonschema.validate(answer, schema)
    span = schema["properties"]["data"]["items"]["properties"]["spans"]["items"]
    assert span["properties"].keys() == answer["data"][0]["spans"][0].keys()
    assert server.post("/tag", input="a" * 20_001).status_code == 400


@pytest.mark.parametrize(
    ("path", "name", "given", "words"),
    [
        ("/classify", "pictures", "not base64!", "not an image in base64"),
        ("/classify", "pictures", "http://127.0.0.1/x.png", "No other address is fetched"),
        ("/classify", "pictures", "file:///etc/passwd", "not an image in base64"),
        ("/classify", "pictures", "/etc/passwd", "not an image"),
        ("/classify", "pictures", "YWJj", "image"),
        ("/classify", "pictures", "", "empty"),
        ("/classify", "pictures", [["a", "b"]], "one image"),
        ("/classify", "animals", [["a", "b"]], "has 2 texts; the model reads 1"),
        ("/classify", "animals", [], "of 1 to 1,024 items"),
        ("/classify", "animals", ["a"] * 1025, "of 1 to 1,024 items"),
        ("/classify", "animals", [["a"], 3], "item 2"),
        ("/classify", "vectors", "a", "does not answer /classify"),
        ("/v1/embeddings", "vectors", [1, 2, 3], "another tokenizer"),
        ("/v1/embeddings", "vectors", [[1, 2, 3]], "another tokenizer"),
        ("/v1/embeddings", "vectors", {"a": 1}, "'input'"),
        ("/v1/chat/completions", "vectors", "a", "is not known"),
    ],
)
def test_what_is_wrong_is_said(server, path, name, given, words):
    response = server.post(path, model=name, input=given)
    assert response.status_code == 400 and words in response.json()["error"]["message"]


def test_a_text_without_tokens_and_one_that_is_too_long(server):
    long = "the cat " * 9_000
    data = server.post("/classify", model="animals", input=["", long, "\0", "\u202e"]).json()
    assert len({json.dumps(one["probabilities"]) for one in data["data"]}) > 1
    assert server.post("/classify", model="animals", input=long * 20).status_code in (200, 413)


def test_models_are_chosen_by_name(server):
    missing = server.post("/classify", input="a")
    assert missing.status_code == 400 and "animals" in missing.json()["error"]["message"]
    wrong = server.post("/classify", input="a", model="x" * 150)
    assert wrong.status_code == 404 and len(wrong.json()["error"]["message"]) < 250
    assert server.client.get("/v1/models/animals").json()["task"] == "classification"


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc")
def test_a_process_that_is_killed_comes_back(text_classifier):
    """Others answer meanwhile; SIGTERM ends all."""
    command = [sys.executable, "-m", "tfx_transformer.cli", "serve", text_classifier.path]
    process = subprocess.Popen(
        [*map(str, command), "--port", "0", "--workers", "2", "--threads", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )

    def workers():
        text = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
        commands = {int(one): Path(f"/proc/{one}/cmdline").read_bytes() for one in text.split()}
        return {one for one, command in commands.items() if b"spawn_main" in command}

    try:
        url = re.search(r"http://[\d.]+:\d+", process.stdout.readline())[0]
        with httpx.Client(base_url=url, timeout=60) as client:

            def ask():
                response = client.post("/classify", json={"input": "the cat"})
                return response.json()["data"][0]["label"]

            expected = ask()
            first = wait_for(lambda: len(found := workers()) == 2 and found)
            os.kill(min(first), signal.SIGKILL)
            wait_for(lambda: len(found := workers()) == 2 and found != first)
            client.close()
        with httpx.Client(base_url=url, timeout=60) as client:
            assert [ask() for _ in range(3)] == [expected] * 3
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 143
        assert re.fullmatch(
            r"worker 1 \(process \d+\) was ended by signal 9; starting it again\.\n",
            process.stderr.read(),
        )
    finally:
        process.kill()


def test_pages_run_the_models_that_are_served(text_classifier):
    model = bytes(range(251)) * 3000  # is sent in parts
    files = {"index.html": b"<!doctype html>", "model.tflite": model}
    with running([text_classifier.path], pages={"animals": files}) as server:
        assert '<a href="pages/animals/">animals</a>' in server.client.get("/").text
        page = server.client.get("/pages/animals/")
        assert page.content == files["index.html"]
        assert page.headers["Content-Type"] == "text/html; charset=utf-8"
        model = server.client.get("/pages/animals/model.tflite")
        assert model.content == files["model.tflite"]
        assert model.headers["Content-Length"] == str(len(files["model.tflite"]))
        assert model.headers["Content-Type"] == "application/octet-stream"
        for other in ("/pages/animals/other", "/pages/other/", "/pages/animals/../../etc/passwd"):
            assert server.client.get(other).status_code == 404


def test_a_page_and_a_key_exclude_each_other(text_classifier, monkeypatch, command):
    monkeypatch.setenv("TFX_API_KEY", "k" * 24)
    # Before LiteRT.js is looked for.
    status, _, errors = command("serve", "topics", "--page", "--litert-js", "nowhere")
    assert status == 2 and "a browser cannot send the key" in errors
    with pytest.raises(InputError, match="a browser cannot send the key"):
        serve([text_classifier.path], port=0, pages={"animals": {}})
    monkeypatch.delenv("TFX_API_KEY")
    with pytest.raises(InputError, match="--workers is 0"):
        serve([text_classifier.path], port=0, workers=0)


def test_an_index_has_no_page(text_embedder, tmp_path, command, monkeypatch):
    (tmp_path / "my.csv").write_text("text\nthe cat\na dog\n", "utf-8")
    search.make_index(tmp_path / "faq", text_embedder.path, [tmp_path / "my.csv"])
    status, _, errors = command("serve", tmp_path / "faq", "--page", "--litert-js", "nowhere")
    assert status == 2 and "faq is an index, and its rows stay on the server" in errors, errors
    assert "drop --page, or serve a bundle too" in errors
    monkeypatch.setattr("tfx_transformer.page.page_files", lambda *_: {"index.html": b""})
    monkeypatch.setattr("tfx_transformer.serve.server.serve", lambda *_, pages, **__: print(*pages))
    status, output, errors = command("serve", tmp_path / "faq", text_embedder.path, "--page")
    assert (status, output) == (0, f"{text_embedder.path.name}\n")
    assert "faq has no page: " in errors
