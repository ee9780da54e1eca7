"""Bundles go to the hub whole, with their cards; against a server on loopback."""

import base64
import hashlib
import http.server
import json
import threading

import pytest
import yaml
from tiny_models import tiny_causal

from tfx_transformer import bundle
from tfx_transformer.data.splits import Split
from tfx_transformer.model_card import model_card
from tfx_transformer.models.saving import load, save
from tfx_transformer.text.tokenizer import Tokenizer

REFUSED = {"nobody/x": 401, "other/x": 403, "missing/x": 404, "busy/x": 503, "often/x": 429}


class Hub(http.server.BaseHTTPRequestHandler):
    """Makes repositories and takes commits as the hub does, every file as part of the commit."""

    protocol_version = "HTTP/1.1"
    repositories: dict[str, dict[str, bytes]]
    made: list[dict]
    messages: list[str]

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        name = "/".join(self.path.split("?")[0].strip("/").split("/")[2:4])
        if name in REFUSED:
            return self.answer({"error": "no"}, REFUSED[name])
        files = self.repositories.get(name, {})
        siblings = [{"rfilename": file} for file in files]
        tree = [{"type": "file", "path": f, "size": len(c), "oid": "0"} for f, c in files.items()]
        facts = {"id": name, "sha": "c0ffee" + "0" * 34, "siblings": siblings}
        return self.answer(tree if "/tree/" in self.path else facts)

    def do_POST(self):
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path.startswith("/api/repos/create"):
            asked = json.loads(content)
            name = f"{asked['organization']}/{asked['name']}"
            if name in REFUSED:
                return self.answer({"error": "no"}, REFUSED[name])
            self.made.append(asked)
            url = f"https://huggingface.co/{name}"
            if name in self.repositories:
                return self.answer({"error": "there already", "url": url}, 409)
            self.repositories[name] = {}
            return self.answer({"url": url})
        if self.path == "/api/validate-yaml":
            return self.answer({"errors": [], "warnings": []})
        name = "/".join(self.path.split("/")[3:5])
        if "/preupload/" in self.path:
            files = json.loads(content)["files"]
            modes = {"uploadMode": "regular", "shouldIgnore": False}
            return self.answer({"files": [{"path": f["path"], **modes} for f in files]})
        files = self.repositories[name]
        for line in map(json.loads, content.splitlines()):
            value = line["value"]
            if line["key"] == "header":
                self.messages.append(value["summary"])
            elif line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "deletedFile":
                del files[value["path"]]
            else:
                raise AssertionError(line["key"])
        url = f"https://huggingface.co/{name}/commit/1"
        facts = {"commitUrl": url, "commitOid": "c0ffee" + "0" * 34}
        return self.answer(facts)

    def answer(self, value, status=200):
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def hub(monkeypatch):
    """The server; a token is set, and no attempt is repeated."""
    import huggingface_hub
    from huggingface_hub import constants

    state = {"repositories": {}, "made": [], "messages": []}
    handler = type("Handler", (Hub,), state)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    init = huggingface_hub.HfApi.__init__
    monkeypatch.setattr(
        huggingface_hub.HfApi, "__init__", lambda self: init(self, endpoint=address, token="hf_x")
    )
    yield handler
    server.shutdown()
    server.server_close()


@pytest.fixture
def saved(tmp_path):
    """A bundle with a folder and a file that only an older version had."""
    tokenizer = Tokenizer.train(["some words and more words"] * 3, 270)
    model = tiny_causal(vocabulary_size=tokenizer.vocabulary_size)
    save(tmp_path / "small", model, tokenizer, scores={"bleu": 12.5})
    return tmp_path / "small"


def test_a_bundle_is_published_whole(command, hub, saved):
    status, output, errors = command("publish", saved, "hf://me/topics", "--private")
    assert status == 0, errors
    assert "private" in (hub.made[0].get("visibility"), *(n for n, v in hub.made[0].items() if v))
    files = hub.repositories["me/topics"]
    expected = {p.relative_to(saved).as_posix(): p for p in saved.rglob("*") if p.is_file()}
    assert {name: hashlib.sha256(c).digest() for name, c in files.items()} == {
        name: hashlib.sha256(path.read_bytes()).digest() for name, path in expected.items()
    }
    assert hub.messages == ["Publish small"]
    assert "model.safetensors" in output and "No licence is stated" in output


def test_which_rows_it_was_trained_on_stays_here(command, hub, saved, tmp_path):
    model, tokenizer = load(saved)
    save(saved, model, tokenizer, overwrite=True, split=Split.of(["a row"], ["another"]))
    before = {p.name: p.read_bytes() for p in saved.iterdir()}
    assert command("publish", saved, "hf://me/topics")[0] == 0
    files = hub.repositories["me/topics"]
    assert files.keys() == before.keys() - {"split.json"}
    for name, content in files.items():  # the sums are those of what was sent
        (tmp_path / "got").mkdir(exist_ok=True)
        (tmp_path / "got" / name).write_bytes(content)
    bundle.verify(tmp_path / "got")
    assert {p.name: p.read_bytes() for p in saved.iterdir()} == before


def test_a_new_version_replaces_the_old_one(command, hub, saved):
    others = {".gitattributes": b"x", "picture.png": b"x"}
    old = {"model.int8.tflite": b"old", "saved_model/saved_model.pb": b"old"}
    hub.repositories["me/topics"] = others | old
    status, _, errors = command("publish", saved, "hf://me/topics", "--message", "Better")
    assert status == 0, errors
    names = hub.repositories["me/topics"].keys()
    assert names >= {*others, "model.safetensors"}
    assert not names & old.keys(), "the sums do not list them"
    assert hub.messages == ["Better"]


def test_a_licence_goes_into_the_card(command, hub, saved):
    assert command("publish", saved, "hf://me/topics", "--license", "cc-by-4.0")[0] == 0
    card = hub.repositories["me/topics"]["README.md"].decode()
    assert yaml.safe_load(card.split("---\n")[1])["license"] == "cc-by-4.0"
    assert bundle.read_config(saved)["license"] == "cc-by-4.0"
    bundle.verify(saved)


def test_a_dry_run_sends_nothing(command, hub, saved):
    before = {path: path.read_bytes() for path in saved.rglob("*") if path.is_file()}
    status, output, _ = command("publish", saved, "hf://me/x", "--dry-run", "--license", "mit")
    assert status == 0 and "nothing was sent" in output
    for path, content in before.items():
        assert path.read_bytes() == content
        size = f"{len(content) / 1e6:>10.2f} MB  {path.relative_to(saved).as_posix()}"
        assert size in output.splitlines()
    assert hub.repositories == {} and hub.made == []


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("hf://nobody/x", "does not know who you are (401)"),
        ("hf://other/x", "may not write there (403)"),
        ("hf://missing/x", "no such owner"),
        ("hf://busy/x", "the hub has a fault (503)"),
        ("hf://often/x", "too many requests (429)"),
        ("hf://x", "names no repository"),
        ("me/topics", "names no repository"),
        ("hf://me/../x", "names no repository"),
    ],
)
def test_what_the_hub_refuses_is_said_in_words(command, hub, saved, target, message):
    status, _, errors = command("publish", saved, target)
    assert status == 2 and message in errors, errors
    assert "fault of the program" not in errors and "Traceback" not in errors


def test_no_network(command, hub, saved, monkeypatch):
    import huggingface_hub

    init = huggingface_hub.HfApi.__init__
    monkeypatch.setattr(
        huggingface_hub.HfApi,
        "__init__",
        lambda self: init(self) or setattr(self, "endpoint", "http://127.0.0.1:9"),
    )
    status, _, errors = command("publish", saved, "hf://me/topics")
    assert status == 2 and "the network cannot be reached" in errors, errors


def test_what_is_damaged_is_not_published(command, hub, saved):
    (saved / "README.md").write_text("forged")
    status, _, errors = command("publish", saved, "hf://me/topics")
    assert status == 2 and "README.md does not have the checksum" in errors
    assert hub.made == []


def test_what_the_hubs_tools_leave_is_no_part_of_a_bundle(saved):
    (saved / ".gitattributes").write_text("*.tflite filter=lfs")
    (saved / ".cache" / "huggingface").mkdir(parents=True)
    (saved / ".cache" / "huggingface" / "x.metadata").write_text("x")
    bundle.verify(saved)
    assert not [name for name in bundle.sizes(saved) if name.startswith(".")]


# The card


ARCHITECTURE = {
    "num_layers": 2,
    "hidden_dim": 64,
    "num_heads": 4,
    "vocabulary_size": 8000,
    "max_sequence_length": 128,
}


@pytest.fixture
def config():
    """Of a classifier that was trained by a recipe."""
    return {
        "task": "classification",
        "parameters": 1234,
        "architecture": ARCHITECTURE,
        "labels": ["spam: yes", "no"],
        "text_columns": 2,
        "data": {"file": "mails.csv"},
        "training_data": {"rows": 1080, "held_out_rows": 120, "columns": ["title", "body"],
                          "languages": ["en", "ja"]},
        "training": {"epochs": 3, "seconds": 72.5},
        "settings": {"learning_rate": 0.002, "remat": False},
        "scores": {"accuracy": 0.91, "macro_f1": 0.9, "calibration_error": 0.02, "count": 120},
        "conclusion": {"sentences": {"en": ["Better than it."], "ja": ["優れています。"]}},
        "calibration": {"temperature": 0.8, "count": 120, "before": {"calibration_error": 0.1},
                        "after": {"calibration_error": 0.02}},
        "costs": [{"file": "model.tflite", "milliseconds": 1.25}],
        "base": "org/bert",
    }  # fmt: skip


def test_the_front_matter_is_what_the_hub_reads(config):
    from huggingface_hub import ModelCardData

    card = model_card("mails", config)
    front = card.split("---\n")[1]
    values = yaml.safe_load(front)
    assert values["pipeline_tag"] == "text-classification"
    assert (values["language"], values["base_model"]) == (["en", "ja"], "org/bert")
    assert "license" not in values
    read = ModelCardData(**values)
    found = {(r.metric_type, r.metric_name, r.metric_value) for r in read.eval_results}
    assert found == {("accuracy", "accuracy", 0.91), ("f1", "macro_f1", 0.9)}
    assert {r.dataset_name for r in read.eval_results} == {"mails.csv (held out)"}


def test_the_card_says_what_a_reader_asks(config, tmp_path, monkeypatch):
    (tmp_path / "model.tflite").write_bytes(b"x" * 1_250_000)
    monkeypatch.setenv("TFX_LANGUAGE", "en")
    card = model_card("mails", config, tmp_path)
    for text in (
        "python run.pyz 'I love cats.' ''",
        "model = runtime.load('mails')\n    print(model.classify([('I love cats.', '')]))",
        "- rows: 1,080\n- held-out rows: 120\n- columns: title, body",
        "- accuracy: 91.0 %\n- macro-F1: 90.0 %\n- calibration error (lower is better): 2.0 %\n"
        "- held-out examples: 120\n",
        "Better than it.",
        "(temperature 0.8): the expected calibration error is 2.0 %, and was 10.0 % before.",
        "| model.tflite | 1.25 MB | 1.2 |",
        "- epochs: 3\n- time: 1 min 12 s\n- settings: `--learning-rate 0.002`, `--no-remat`",
        "Its base is org/bert",
        "No licence is stated.",
    ):
        assert text in card, text
    config["calibration"] |= {"temperature": 1}
    config["data"] |= {"teacher": "large"}
    card = model_card("mails", config, tmp_path)
    assert "makes them fit the 120 held-out examples better." in card
    assert "- teacher: large, whose answers this model learned to give\n" in card
    monkeypatch.setenv("TFX_LANGUAGE", "ja")
    card = model_card("mails", config, tmp_path)
    facts = ("- 行数: 1,080", "- 所要時間: 1分12秒")
    for text in ("## 使い方", *facts, "優れています。", "| model.tflite | 1.25 MB |"):
        assert text in card, text


@pytest.mark.parametrize("task", ["causal", "embedding", "masked", "seq2seq"])
def test_every_task_has_a_card(task, monkeypatch):
    architecture = ARCHITECTURE | {"num_decoder_layers": 2}
    config = {"task": task, "parameters": 5, "architecture": architecture}
    for language in ("en", "ja"):
        monkeypatch.setenv("TFX_LANGUAGE", language)
        card = model_card("m", config)
        assert "\n\n\n" not in card and "{" not in card.partition("\n# m\n")[2]


def test_the_card_says_which_functions_a_model_calls(monkeypatch):
    config = {
        "task": "causal",
        "parameters": 5,
        "architecture": ARCHITECTURE,
        "tools": ["wake", "stop"],
    }
    for language, says in {
        "en": ("A Transformer that calls functions.", "wake, stop. `tools.json` declares them."),
        "ja": ("関数を呼び出すTransformerモデル", "wake, stop（`tools.json`で宣言されています）"),
    }.items():
        monkeypatch.setenv("TFX_LANGUAGE", language)
        card = model_card("m", config)
        assert all(text in card for text in says), card
        assert "pipeline_tag: text-generation" in card
        assert "{" not in card.partition("\n# m\n")[2]
