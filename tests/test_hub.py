"""The hub: what is fetched, and what is said where it cannot be; against a server on loopback."""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import math
import sys
import threading
import urllib.parse
from pathlib import Path

import pytest

import tfx_transformer.models.pretrained.hub as module_of_hub
from tfx_transformer.console import Console
from tfx_transformer.errors import InputError
from tfx_transformer.models.pretrained import from_pretrained
from tfx_transformer.models.pretrained.describing import describe_source
from tfx_transformer.models.pretrained.hub import Repository

sys.path.insert(0, str(Path(__file__).parent / "conformance"))
from fixtures import fixture_of  # noqa: E402
from weights import write_checkpoint  # noqa: E402

COMMIT = "c0ffee" + "0" * 34
ERRORS = {  # by name of a repository: status, and the code that the hub sends
    "org/gated": (403, "GatedRepo"),
    "org/private": (401, "RepoNotFound"),
    "org/forbidden": (403, ""),
    "org/busy": (404, "RepoNotFound"),
}


class Hub(http.server.BaseHTTPRequestHandler):
    """Serves the folders of `root` as the hub serves models, and notes what was asked for."""

    protocol_version = "HTTP/1.1"
    root: Path
    asked: list[tuple[str, int]]  # path of a file, bytes sent of it
    cut: set[str]  # names of files whose connection breaks

    def log_message(self, *arguments):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = urllib.parse.unquote(urllib.parse.urlparse(self.path).path).strip("/")
        parts = path.removeprefix("api/models/").split("/")
        name = "/".join(parts[:2])
        folder = self.root / name
        if name in ERRORS:
            return self.fail(*ERRORS[name])
        if not folder.is_dir():
            return self.fail(404, "RepoNotFound")
        if len(parts) > 3 and parts[3] not in ("main", COMMIT):
            return self.fail(404, "RevisionNotFound")
        files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
        names = [file.relative_to(folder).as_posix() for file in files]
        if path.startswith("api/"):
            sizes = zip(names, files, strict=True)
            listed = [
                {"type": "file", "path": n, "size": f.stat().st_size, "oid": n} for n, f in sizes
            ]
            siblings = [
                {"rfilename": n, "size": f.stat().st_size}
                for n, f in zip(names, files, strict=True)
            ]
            facts = {"id": name, "sha": COMMIT, "siblings": siblings}
            return self.send(json.dumps(listed if "tree" in parts else facts).encode())
        if "/".join(parts[4:]) not in names:
            return self.fail(404, "EntryNotFound")
        return self.send_file(folder / "/".join(parts[4:]))

    def fail(self, status: int, code: str):
        self.send(b"{}", status, {"X-Error-Code": code, "X-Error-Message": "no"})

    def send_file(self, file: Path):
        content = file.read_bytes()
        status, headers = 200, {}
        if wanted := self.headers.get("Range"):
            first, last = wanted.removeprefix("bytes=").split("-")
            last = min(int(last or len(content) - 1), len(content) - 1)
            headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
            status, content = 206, content[int(first) : last + 1]
        if self.command == "GET":
            self.asked.append((file.name, len(content)))
        etag = hashlib.sha1(str(file).encode()).hexdigest()
        headers |= {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        self.send(content, status, headers, file.name in self.cut)

    def send(self, content: bytes, status: int = 200, headers=(), cut: bool = False):
        self.send_response(status)
        for name, value in dict(headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content[: len(content) // 2] if cut else content)
        if cut:
            self.close_connection = True


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A server with one model, org/bert, beside which other forms of its weights lie."""
    from huggingface_hub import constants

    described, _ = fixture_of("bert_model")
    folder = write_checkpoint(tmp_path / "hub" / "org" / "bert", described)
    for name in ("pytorch_model.bin", "model_fp16.safetensors", "openvino/config.json"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"x" * 100_000)
    (folder / "training_args.json").write_text("{}", "utf-8")
    handler = type("Handler", (Hub,), {"root": tmp_path / "hub", "asked": [], "cut": set()})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(
        constants,
        "HUGGINGFACE_CO_URL_TEMPLATE",
        address + "/{repo_id}/resolve/{revision}/{filename}",
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    yield handler
    server.shutdown()
    server.server_close()


def test_only_what_is_read_is_fetched_and_once(hub, capsys):
    from_pretrained("hf://org/bert")
    fetched = {name for name, _ in hub.asked}
    assert fetched == {
        "config.json",
        "model.safetensors",
        "modules.json",
        "sentence_bert_config.json",
    }
    assert "hf://org/bert: fetching model.safetensors, 0.1 MB" in capsys.readouterr().err
    hub.asked.clear()
    from_pretrained("hf://org/bert@main")
    assert hub.asked == []


def test_info_fetches_headers_only(hub):
    described, _ = fixture_of("bert_model")
    found = describe_source("hf://org/bert")
    assert (found.task, found.family) == ("embedding", "bert")
    count = sum(math.prod(shape) for shape in described["tensors"].values())
    assert found.parameters == count
    weights = [size for name, size in hub.asked if name == "model.safetensors"]
    assert len(weights) == 1 and weights[0] <= 100_000


def test_shards_are_those_of_the_index(hub):
    described, _ = fixture_of("gpt2")
    folder = write_checkpoint(hub.root / "org" / "gpt2", described, shards=3)
    (folder / "model.safetensors").write_bytes(b"an older copy")
    assert describe_source("hf://org/gpt2").parameters > 0
    from_pretrained("hf://org/gpt2")
    fetched = [name for name, size in hub.asked if name.endswith(".safetensors")]
    assert set(fetched) == {f"model-{i:05}-of-00003.safetensors" for i in (1, 2, 3)}


def test_what_is_missing_or_cut_off_is_named_by_info_as_by_loading(hub):
    described, _ = fixture_of("gpt2")
    folder = write_checkpoint(hub.root / "org" / "gone", described, shards=3)
    (folder / "model-00002-of-00003.safetensors").unlink()
    folder = write_checkpoint(hub.root / "org" / "outside", described, shards=3)
    index = folder / "model.safetensors.index.json"
    index.write_text(index.read_text("utf-8").replace("model-00001", "../gone/model-00001"))
    folder = write_checkpoint(hub.root / "org" / "cut", described)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    (write_checkpoint(hub.root / "org" / "bare", described) / "config.json").unlink()
    for name, message in {
        "gone": "index.json: the shard model-00002-of-00003.safetensors is not in the repository",
        "outside": r"the shard \.\./gone/model-00001-of-00003.safetensors is not in the repository",
        "cut": "ends after the file, so the download was cut off",
        "bare": "hf://org/bare has weights, but no config.json",
    }.items():
        for read in (describe_source, from_pretrained):
            with pytest.raises(InputError, match=message):
                read(f"hf://org/{name}")


def test_progress_is_lines_where_nothing_may_move_the_cursor(hub, monkeypatch):
    written = io.StringIO()
    monkeypatch.setattr(sys, "stderr", Console(written))
    monkeypatch.setattr(module_of_hub, "_SECONDS", 0)
    Repository.of("hf://org/bert").whole()
    bar = module_of_hub._lines_of_progress()(total=200_000_000, unit="B", mininterval=0)
    bar.update(45_000_000)
    bar.update(155_000_000)
    lines = written.getvalue().splitlines()
    assert "hf://org/bert: fetching model.safetensors, 0.1 MB" in lines
    assert lines[-1] == "  45.0 MB of 200.0 MB"
    assert not any("\\r" in line or "%" in line for line in lines)


def test_what_cannot_be_read_is_not_fetched(hub):
    for name, changes, message in [
        ("odd", {"model_type": "rwkv"}, "hf://org/odd: checkpoints of type 'rwkv'"),
        ("fp8", {"quantization_config": {"quant_method": "fp8"}}, "by the method 'fp8'"),
    ]:
        described, _ = fixture_of("gpt2")
        described = described | {"config": described["config"] | changes}
        write_checkpoint(hub.root / "org" / name, described)
        with pytest.raises(InputError, match=message):
            from_pretrained(f"hf://org/{name}")
    folder = write_checkpoint(hub.root / "org" / "pickle", fixture_of("gpt2")[0])
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(InputError, match="hf://org/pickle holds its weights as pytorch_model.bin"):
        describe_source("hf://org/pickle")
    (hub.root / "org" / "gguf").mkdir()
    (hub.root / "org" / "gguf" / "model.gguf").write_bytes(b"GGUF")
    with pytest.raises(InputError, match=r"model.gguf only, weights for llama.cpp"):
        from_pretrained("hf://org/gguf")
    assert not {name for name, _ in hub.asked} - {"config.json"}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("hf://org/gated", "conditions that you have not accepted.\n  Accept them at"),
        ("hf://org/private", "no model 'org/private' on the hub, or it is private"),
        ("hf://org/missing", "no model 'org/missing' on the hub, or it is private"),
        ("hf://org/bert@v9", "the model has no revision 'v9'"),
        ("hf://org/forbidden", r"does not let you read it \(403\)"),
        ("hf://not/a/name", "names no model"),
    ],
)
def test_each_refusal_has_its_own_words(source, message, hub):
    with pytest.raises(InputError, match=message):
        from_pretrained(source)


@pytest.mark.parametrize(("status", "message"), [(503, "the hub has a fault"), (429, "too many")])
def test_faults_of_the_hub_are_called_so(status, message):
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError

    request = httpx2.Request("GET", "http://127.0.0.1")
    error = HfHubHTTPError("no", response=httpx2.Response(status, request=request))
    said = str(Repository.of("hf://org/name")._explained(error))
    assert message in said and str(status) in said


def test_a_connection_that_breaks_is_called_so(hub, monkeypatch):
    import huggingface_hub.file_download as module

    hub.cut.add("model.safetensors")
    monkeypatch.setattr(module.time, "sleep", lambda seconds: None)
    with pytest.raises(InputError, match="the connection broke while files were fetched") as error:
        from_pretrained("hf://org/bert")
    assert "Repeat the command" in str(error.value)


def test_without_a_network_the_cache_serves(hub, monkeypatch):
    from huggingface_hub import constants

    from_pretrained("hf://org/bert")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(
        constants,
        "HUGGINGFACE_CO_URL_TEMPLATE",
        "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}",
    )
    assert from_pretrained("hf://org/bert")[0].task == "embedding"
    with pytest.raises(InputError, match="the network cannot be reached"):
        from_pretrained("hf://org/other")
