"""Pages that run bundles in a browser: their files, and the JavaScript that needs no browser."""

import base64
import csv
import hashlib
import html
import io
import json
import re
import shutil
import tarfile
import zipfile

import javascript
import numpy as np
import pytest
from conformance.nasty_texts import nasty_texts
from slow import ALL_TESTS

from tfx_transformer import bundle, images
from tfx_transformer.config import TransformerConfig
from tfx_transformer.errors import InputError
from tfx_transformer.page import card, litert_js, page_files, single_page, write_page, write_single
from tfx_transformer.page.chats import chat_spec
from tfx_transformer.page.patterns import to_javascript
from tfx_transformer.page.pieces import pieces_spec
from tfx_transformer.page.tokenizers import tokenizer_spec
from tfx_transformer.prediction.tags import Tags
from tfx_transformer.text.prompts import CHAT_TEMPLATE, ROLE_TOKENS, ChatTemplate
from tfx_transformer.text.tokenizer import Tokenizer
from tfx_transformer.text.windows import windows

TEXTS = nasty_texts(3000 if ALL_TESTS else 150) + ["", "x" * 3000, "猫" * 25_000, "a b " * 9000]
FAMILIES = ("gpt2", "roberta", "llama3", "qwen", "smollm", "bert", "bert_cased")
PIECES = ("t5", "xlm_roberta", "llama2", "mistral", "gemma")
CONFORMANCE = javascript.ROOT / "tests" / "conformance" / "tokenizers"


@pytest.fixture
def litert(tmp_path):
    """A folder as the npm package is, with scripts that do nothing."""
    folder = tmp_path / "litert"
    (folder / "dist").mkdir(parents=True)
    (folder / "wasm").mkdir()
    version = json.dumps({"name": "@litertjs/core", "version": litert_js.VERSION}, indent=2)
    (folder / "package.json").write_text(version)
    module = 'var a = "</script>";\nimport { createWasmLib } from "x";\nexport {\n  a\n};\n'
    (folder / "dist" / "index.js").write_text(module)
    for name in litert_js.BUILDS.values():
        (folder / "wasm" / f"{name}.js").write_text("var ModuleFactory = 1;")
        (folder / "wasm" / f"{name}.wasm").write_bytes(b"\0asm" * 9)
    return folder


def tokenizer_of(name, encoder_words):
    """Our own tokenizer, the same in lower case, or that of a family."""
    if name == "lower":
        ours = encoder_words
        return Tokenizer(ours.ranks, ours.special_tokens, ours.pattern, lowercase=True)
    return encoder_words if name == "own" else Tokenizer.from_pretrained(CONFORMANCE / name)


@pytest.mark.slow(but=["own", "lower", "qwen", "bert", "xlm_roberta", "llama2"])
@pytest.mark.parametrize("name", ["own", "lower", *FAMILIES, *PIECES])
def test_ids_are_those_of_python(name, encoder_words):
    tokenizer = tokenizer_of(name, encoder_words)
    expected = [tokenizer.encode(text) for text in TEXTS]
    ids, texts = javascript.run(
        """((t) => [data.texts.map((x) => t.encode(x)), data.ids.map((x) => t.decode?.(x))])(
          newTokenizer(data.spec))""",
        {"spec": tokenizer_spec(tokenizer), "texts": TEXTS, "ids": expected},
    )
    assert ids == expected
    if not name.startswith("bert"):
        assert texts == [tokenizer.decode(ids) for ids in expected]


@pytest.mark.slow(but=["own", "lower", "bert"])
@pytest.mark.parametrize("name", ["own", "lower", *FAMILIES[:2], "smollm", "bert", "bert_cased"])
def test_offsets_are_those_of_python(name, encoder_words):
    tokenizer = tokenizer_of(name, encoder_words)
    texts = [text for text in TEXTS if len(text) < 5000] + ["İ K.", "ΑΣ ⱯȺ"]
    found = javascript.run(
        "((t) => data.texts.map((x) => t.encodeWithOffsets(x)))(newTokenizer(data.spec))",
        {"spec": tokenizer_spec(tokenizer), "texts": texts},
    )
    for text, one in zip(texts, found, strict=True):
        ids, offsets = tokenizer.encode_with_offsets(text)
        assert (one["ids"], one["offsets"]) == (ids, [list(pair) for pair in offsets]), text


def test_spans_are_those_of_python():
    random = np.random.default_rng(9)
    texts = ["Anna met Bob-Ray 12 times in 東京都 é🇯🇵.", "한국어 ไทย \r\n क्ष 👨‍👩‍👧 don't"]
    names = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
    for tags in (names, ["O", "I-PER", "I-LOC", "B-LOC"], ["O", "X", "Y"]):
        cases = []
        for number in range(30):
            text = texts[number % 2]
            cuts = sorted({0, len(text), *random.integers(1, len(text), 12).tolist()})
            offsets = list(zip(cuts, cuts[1:], strict=False)) + [(len(text), len(text))]
            cases.append((text, offsets, random.normal(0, 2, (len(offsets), len(tags)))))
        script = """data[1].map(([text, offsets, logits]) =>
          new Tags(data[0]).spans(Array.from(text), offsets, logits))"""
        data = [tags, [(text, offsets, rows.tolist()) for text, offsets, rows in cases]]
        marked = 0
        for found, case in zip(javascript.run(script, data), cases, strict=True):
            expected = Tags(tags).entities(*case)
            marked += len(expected)
            assert [(s["start"], s["end"], s["label"], s["text"]) for s in found] == [
                entity[:4] for entity in expected
            ]
            sure = [entity.probability for entity in expected]
            np.testing.assert_allclose([s["probability"] for s in found], sure, rtol=1e-9)
        assert marked > 30


def test_windows_are_those_of_python():
    pairs = [(count, room) for count in (0, 1, 7, 23, 100) for room in (1, 2, 5, 9, 100)]
    found = javascript.run("data.map(([count, room]) => windows(count, room))", pairs)
    for one, pair in zip(found, pairs, strict=True):
        expected = [tuple(window) for window in windows(*pair)]
        assert [tuple(window.values()) for window in one] == expected


def test_a_vocabulary_may_be_as_large_as_that_of_xlm_roberta():
    count = 300_000
    script = """newTokenizer({kind: 'pieces', model: 'unigram', normalizers: [], splitters: [],
      pieces: Array.from({length: data}, (_, id) => [`${id}.`, id]), scores: Array(data).fill(-9),
      lowest: -9, unknown: 0, bytes: null, added: {}, cut: ''}).encode(`7.${data - 1}.`)"""
    assert javascript.run(script, count) == [7, count - 1]


def test_a_text_may_be_of_many_tokens():
    """A call of a function takes some 100,000 arguments."""
    count = 300_000
    script = """frame({encode: () => Array(data).fill(7)}, ['x'],
      {before: [1], between: [3], after: [2], end: 2}, 2 * data).ids.slice(-3)"""
    assert javascript.run(script, count) == [7, 7, 2]


def test_pages_work_without_https():
    """Browsers give `crypto.randomUUID` and the like to secure addresses only."""
    for file in javascript.APP.glob("*.js"):
        assert "crypto." not in file.read_text("utf-8"), file.name


@pytest.mark.parametrize("name", ["llama2", "gemma"])
def test_texts_after_special_tokens_are_read_as_in_python(name):
    tokenizer = Tokenizer.from_pretrained(CONFORMANCE / name)
    texts = ["the cat", " the", "", "▁", "猫\n"]
    script = "((t) => data.texts.map((x) => t.encodeAfter(x)))(newTokenizer(data.spec))"
    found = javascript.run(script, {"spec": tokenizer_spec(tokenizer), "texts": texts})
    assert found == [tokenizer.encode_after(text) for text in texts]


@pytest.mark.parametrize(
    "change",
    [
        {"normalizer": {"type": "StripAccents"}},
        {"pre_tokenizer": {"type": "Digits", "individual_digits": True}},
        {"model": {"dropout": 0.1}},
        {"model": {"type": "WordLevel"}},
    ],
    ids=lambda change: str(change)[:40],
)
def test_other_tokenizers_are_refused(change):
    tokenizer = Tokenizer.from_pretrained(CONFORMANCE / "llama2")
    tree = json.loads(tokenizer.to_json())
    model = tree["model"] | change.get("model", {})
    with pytest.raises(InputError, match="a page does not have yet"):
        pieces_spec(tree | change | {"model": model}, tokenizer)


PATTERNS = {
    r"\p{Han}+|\p{L}|\pN|\p{^Lu}": r"\p{Script=Han}+|\p{L}|\p{N}|\P{Lu}",
    r"[\s\d]+(?!\S)": r"[\p{White_Space}\p{Nd}]+(?!\P{White_Space})",
    "(?i:'s|k)": "(?:'[sSſ]|[kK\u212a])",
    r"(?s:(?:(?!a).)+).": r"(?:(?:(?!a)[^])+).",
    r"[\-a/{]\/\'": r"[\-a\/\{]\/'",
    r"\x41\u{1F600}\U0001f600": r"\u{41}\u{1F600}\u{0001f600}",
}


def test_patterns_become_those_of_javascript():
    assert {pattern: to_javascript(pattern) for pattern in PATTERNS} == PATTERNS
    compiled = javascript.run("data.map((x) => new RegExp(x, 'gu').flags)", [*PATTERNS.values()])
    assert set(compiled) == {"gu"}


@pytest.mark.parametrize(
    "pattern", ["a++", "[^a]?+", "(?<n>a)", "[a[b]]", r"\G", "(?x:a)", "[a&&b]"]
)
def test_patterns_that_javascript_lacks_are_refused(pattern):
    with pytest.raises(InputError, match="which JavaScript lacks"):
        to_javascript(pattern)


def test_random_numbers_are_those_of_numpy():
    seeds = [0, 1, 7, 2**31, 2**32 - 1, 2**32, 2**40 + 3, 2**70 + 11]
    pairs = [[str(seed), index] for seed in seeds for index in (0, 5)]
    script = """data.map(([seed, index]) => {
      const drawn = new Uniforms(BigInt(seed), index);
      return Array.from({length: 9}, () => drawn.next());
    })"""
    expected = [
        np.random.default_rng([int(s), i]).random(9, dtype="float32").tolist() for s, i in pairs
    ]
    assert javascript.run(script, pairs) == expected


def resized(cases):
    """float32 images of the page for [image, size, how]."""
    script = """data.map(([pixels, [height, width], size, how]) =>
      Array.from(resizeImage(Uint8Array.from(pixels), width, height, size, how)))"""
    data = [[i.reshape(-1).tolist(), i.shape[:2], size, how] for i, size, how in cases]
    found = javascript.run(script, data)
    return [np.reshape(one, (case[1], case[1], 3)) for one, case in zip(found, cases, strict=True)]


def test_images_are_resized_as_in_python():
    random = np.random.default_rng(3)
    shapes = [(5, 31), (40, 11), (16, 16), (7, 7)]
    arrays = [random.integers(0, 256, (*shape, 3)).astype("uint8") for shape in shapes]
    cases = [(array, size, None) for array in arrays for size in (7, 16)]
    for found, (array, size, _) in zip(resized(cases), cases, strict=True):
        np.testing.assert_allclose(found, images.resize(array, size), atol=1e-3)


def test_images_are_resized_as_by_pillow():
    array = np.random.default_rng(4).integers(0, 256, (23, 37, 3)).astype("uint8")
    names = ["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]
    cases = [
        (array, min(sides), {"width": sides[0], "height": sides[1], "filter": name})
        for sides in [(11, 9), (50, 60), (37, 13)]
        for name in names
    ]
    cases.append((array, 8, {"shortest_edge": 10, "filter": "bicubic"}))
    for found, (_, size, how) in zip(resized(cases), cases, strict=True):
        np.testing.assert_array_equal(found, images.resize(array, size, how))


def test_tables_are_read():
    quoted = 'a;text\r\n1;"x ""y""; z\nw"\r\n\r\n2;\r\n'
    script = "((t) => [t, columnsOf(t)])(readTable(data, 'a.csv'))"
    table, columns = javascript.run(script, "\ufeff" + quoted)
    assert table == {"header": ["a", "text"], "rows": [["1", 'x "y"; z\nw'], ["2", ""]]}
    assert columns == [{"name": "a", "best": False}, {"name": "text", "best": True}]
    found = javascript.run(
        "[readTable(data, 'x.txt'), readTable('a\\tb\\n1\\t2', 'x.tsv')]", "q\n\nr"
    )
    assert [table["rows"] for table in found] == [[["q"], ["r"]], [["1", "2"]]]


def test_tables_are_written():
    rows = [["text", "label"], ['a "b", c', "x\ny"], ["é", ""]]
    written, read = javascript.run("[toCsv(data), readTable(toCsv(data), 'x.csv')]", rows)
    assert list(csv.reader(io.StringIO(written, newline=""))) == rows
    assert [read["header"], *read["rows"]] == rows


def test_archives_are_read_by_python(tmp_path):
    contents = {"a/b.csv": b"path,label\n", "\u732b/1.png": bytes(range(256)) * 5, "empty": b""}
    files = [{"name": name, "bytes": list(data)} for name, data in contents.items()]
    script = """[...Buffer.concat(zipParts(
      data.map(({name, bytes}) => ({name, bytes: Uint8Array.from(bytes)}))))]"""
    archive = zipfile.ZipFile(io.BytesIO(bytes(javascript.run(script, files))))
    assert archive.testzip() is None, "the sums are right"
    assert {name: archive.read(name) for name in archive.namelist()} == contents


def test_a_head_is_that_of_scikit_learn():
    from sklearn.linear_model import LogisticRegression

    random = np.random.default_rng(11)
    sizes = [(3, 10, 17, 0.3), (5, 10, 33, 2.0), (2, 10, 47, 90.0)]
    for classes, each, width, scale in sizes:
        centres = random.normal(0, scale, (classes, width))
        labels = np.repeat(np.arange(classes), each)
        vectors = centres[labels] + random.normal(0, max(0.7, scale / 2), (len(labels), width))
        others = centres[labels] + random.normal(0, max(0.7, scale / 2), (len(labels), width))
        model = LogisticRegression(tol=1e-8, max_iter=10_000).fit(vectors, labels)
        script = """((w) => data[3].map((x) => headLogits(w, x)))(fitHead(...data.slice(0, 3)))"""
        data = [vectors.tolist(), labels.tolist(), classes, others.tolist()]
        logits = np.array(javascript.run(script, data))
        found = np.exp(logits - logits.max(1, keepdims=True))
        found /= found.sum(1, keepdims=True)
        np.testing.assert_allclose(found, model.predict_proba(others), atol=2e-4)


def special(*names):
    return Tokenizer.train(["a"], 300, names)


def ids_of_page(tokenizer, spec, messages):
    """The ids that the page makes of a conversation."""
    parts = [*spec["begin"]["withSystem" if messages[0]["role"] == "system" else "withoutSystem"]]
    for message in messages:
        before, after = spec["roles"][message["role"]]
        content = message["content"].strip() if spec["trim"] else message["content"]
        parts += [*before, content, *after]
    ids, text = [], ""
    for part in [*parts, *spec["ask"], None]:
        if isinstance(part, str):
            text += part
        else:
            ids += [*tokenizer.encode(text), *([] if part is None else [part])]
            text = ""
    return ids


TEMPLATES = javascript.ROOT / "tests" / "faults" / "chat_templates"


@pytest.mark.parametrize("name", ["ours", "chatml", "gemma3", "llama3", "phi4", "qwen2.5"])
def test_templates_become_lists(name):
    text = CHAT_TEMPLATE if name == "ours" else (TEMPLATES / f"{name}.jinja").read_text("utf-8")
    found = {*re.findall(r"<\|\w+\|>|<\w+>", text)} - {"<s>", "</s>", "<pad>"}
    names = sorted(found) if name != "ours" else ROLE_TOKENS
    tokenizer = special(*names)
    template = ChatTemplate(text, tokenizer)
    spec = chat_spec(template)
    with_system = name != "gemma3"  # which trims all contents but that of the system
    assert ("system" in spec["roles"]) == with_system
    said = ["user", "assistant", "user", "assistant", "user"]
    for count in (1, 3, 5):
        for roles in (said[:count], ["system", *said[:count]])[: 1 + with_system]:
            contents = [f" {names[0]} </s>{i}\n" for i in range(len(roles))]
            pairs = zip(roles, contents, strict=True)
            messages = [{"role": role, "content": content} for role, content in pairs]
            assert ids_of_page(tokenizer, spec, messages) == template.prompt(messages)


@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}{{ m.content | upper }}</s>{% endfor %}",
        "{% for m in messages %}{{ loop.index }}{{ m.content }}</s>{% endfor %}",
        "{{ messages[-1].content }}</s>",
        "{{ raise_exception('no') }}",
    ],
)
def test_templates_that_do_more_are_refused(template):
    with pytest.raises(InputError, match="a page cannot repeat"):
        chat_spec(ChatTemplate(template, special(*ROLE_TOKENS)))


def test_cards_become_html():
    text = (
        "# <b>\n\nOne `x<y` and **two**\nlines, [here](https://a.b).\n\n- a\n  more\n- b\n\n"
        "    code <\n\n```python\n# no\n\nheading\n```\n\n| a | b |\n|---|--:|\n| 1 | 2 |"
    )
    assert card.to_html(text) == (
        "<h2>&lt;b&gt;</h2>"
        "<p>One <code>x&lt;y</code> and <strong>two</strong> lines, here (https://a.b).</p>"
        "<ul><li>a more</li><li>b</li></ul>"
        '<pre tabindex="0">code &lt;</pre><pre tabindex="0"># no\n\nheading</pre>'
        '<div class="scroll" tabindex="0" role="region" aria-label="a"><table><thead><tr>'
        '<th scope="col">a</th><th scope="col">b</th></tr></thead><tbody><tr><td>1</td><td>2</td>'
        "</tr></tbody></table></div>"
    )


@pytest.fixture
def bundled(encoder_words, tmp_path):
    """Makes a bundle of a task whose TFLite file nobody runs."""

    def make(task="classification", labels=("bird", "猫", "dog"), card="# Animals", **details):
        path = tmp_path / "saved_models" / "animals"
        settings = {"num_classes": len(labels)} if task == "classification" else {}
        size = {"vocabulary_size": encoder_words.vocabulary_size, "hidden_dim": 8, "num_heads": 2}
        size |= {"num_layers": 1, "intermediate_dim": 8}
        config = TransformerConfig(**size, **settings)
        values = {"format": 1, "task": task, "architecture": config.to_dict()}
        with bundle.writing(path, overwrite=True) as folder:
            bundle.write_config(folder, values | {"labels": list(labels)} | details)
            bundle.write_tokenizer(folder, encoder_words)
            (folder / "README.md").write_text(card, "utf-8")
            (folder / "model.tflite").write_bytes(b"\0\0\0\0TFL3")
        return path

    return make


def data_of(page, name):
    found = re.search(rf'<script type="application/json" id="{name}">(.*?)</script>', page, re.S)
    return json.loads(found[1])


def test_a_folder_holds_what_the_page_loads(bundled, litert, tmp_path):
    content = page_files(bundled(), litert_js=litert)
    written = write_page(content, tmp_path / "page")
    (written.parent / "old.bin").write_bytes(b"of an older page")
    write_page(content, tmp_path / "page")
    builds = {f"litert.{b}.{kind}.gz" for b in litert_js.BUILDS for kind in ("js", "wasm")}
    assert {p.name for p in written.parent.iterdir()} == {"index.html", "model.tflite"} | builds
    assert content["model.tflite"] == b"\0\0\0\0TFL3"
    page = content["index.html"].decode()
    spec = data_of(page, "bundle")
    assert (spec["kind"], spec["labels"]) == ("text", ["bird", "猫", "dog"])
    assert "connect-src 'self'" in page
    assert '"<\\/script>"' not in page and r'"\x3c/script>"' in page, "of the module"


def test_one_file_holds_everything(bundled, litert, tmp_path):
    content = single_page(bundled(), litert_js=litert)
    file = write_single(content, tmp_path / "new" / "page.html")
    page = file.read_text("utf-8")
    assert "connect-src 'none'" in page
    for name in ("model.tflite", "litert.compat.js.gz", "litert.compat.wasm.gz"):
        assert f'id="file-{name}"' in page
    assert write_single(content, file) == file
    (tmp_path / "other.html").write_text("mine")
    with pytest.raises(InputError, match="something other than a page"):
        write_single(content, tmp_path / "other.html")
    with pytest.raises(InputError, match="something other than a page"):
        write_page({}, tmp_path)


def test_the_policy_names_the_script(bundled, litert):
    page = page_files(bundled(), litert_js=litert)["index.html"].decode()
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    script = re.findall(r"<script>(.*?)</script>", page, re.S)
    digests = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in script]
    assert f"script-src 'sha256-{digests[0]}' 'wasm-unsafe-eval';" in policy
    assert "default-src 'none'" in policy and "'unsafe-eval'" not in policy


def test_names_of_strangers_stay_texts(bundled, litert):
    evil = ["</script><script>alert(1)</script>", "<!--", "]]>"]
    path = bundled(labels=evil, card="# </template><script>alert(2)</script>")
    page = page_files(path, litert_js=litert)["index.html"].decode()
    assert data_of(page, "bundle")["labels"] == evil
    assert "alert(1)</script>" not in page and "<script>alert" not in page
    assert html.escape("</template><script>alert(2)</script>") in page


@pytest.mark.parametrize("task", ["masked", "nonsense"])
def test_bundles_without_a_page_are_refused(bundled, litert, task):
    with pytest.raises(InputError, match="has no page"):
        page_files(bundled(task), litert_js=litert)


def test_a_missing_variant_is_named(bundled, litert):
    with pytest.raises(InputError, match="holds no int4 file.*\n.*--to litert"):
        page_files(bundled(), "int4", litert)


def test_the_npm_package_is_read_wherever_it_is(litert, tmp_path, monkeypatch):
    archive = tmp_path / "core.tgz"
    with tarfile.open(archive, "w:gz") as packed:
        packed.add(litert, "package")
    nested = tmp_path / "node_modules" / "@litertjs" / "core"
    shutil.copytree(litert, nested)
    places = [litert, archive, tmp_path, tmp_path / "node_modules"]
    assert len({litert_js.LiteRTjs(place).wasm("simd") for place in places}) == 1
    (nested / "package.json").write_text('{"name": "@litertjs/core", "version": "2.4.0"}')
    with pytest.raises(InputError, match="is not version"):
        litert_js.LiteRTjs(tmp_path)
    with pytest.raises(InputError, match="npm pack"):
        litert_js.LiteRTjs(tmp_path / "nowhere")
    (litert / "wasm" / "litert_wasm_internal.js").unlink()
    with pytest.raises(InputError, match="lacks the file wasm/litert_wasm_internal.js"):
        litert_js.LiteRTjs(litert).script("simd")


def test_the_npm_package_is_downloaded_once(litert, tmp_path, monkeypatch):
    archive = tmp_path / "registry" / "@litertjs" / "core" / "-" / f"core-{litert_js.VERSION}.tgz"
    archive.parent.mkdir(parents=True)
    with tarfile.open(archive, "w:gz") as packed:
        packed.add(litert, "package")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("npm_config_registry", (tmp_path / "registry").as_uri())
    with pytest.raises(InputError, match="its sha512 differs"):
        litert_js.LiteRTjs()
    assert not (tmp_path / "cache").exists(), "what came was not kept"
    digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    monkeypatch.setattr(litert_js, "INTEGRITY", digest)
    first = litert_js.LiteRTjs().module()
    archive.unlink()
    assert litert_js.LiteRTjs().module() == first, "it is in the cache"
    shutil.rmtree(tmp_path / "cache")
    advice = r".*npm pack.*\n.*--litert-js litertjs-core-2"
    with pytest.raises(InputError, match=r"cannot be downloaded from file:.*\n" + advice):
        litert_js.LiteRTjs()


def test_texts_are_in_both_languages():
    texts = json.loads((javascript.APP / "texts.json").read_text("utf-8"))
    assert all(len(pair) == 2 and all(pair) for pair in texts.values())
    fields = [[set(re.findall(r"{(\w+)", text)) for text in pair] for pair in texts.values()]
    assert [one for one, other in fields if one != other] == []
    used = "".join(file.read_text("utf-8") for file in javascript.APP.glob("*.js"))
    assert [name for name in texts if f"'{name}'" not in used and not grouped(name)] == []


def grouped(name):
    """Return True for a name that is joined from "lead" or "option" and another word."""
    return name.partition(" ")[0] in ("lead", "option")


def test_the_verb_writes_a_folder_or_a_file(bundled, litert, command, tmp_path):
    path = bundled()
    status, output, _ = command("page", path, "--litert-js", litert)
    assert (status, "http.server --directory pages/animals 8000" in output) == (0, True)
    assert (tmp_path / "pages" / "animals" / "index.html").is_file()
    status, output, _ = command("page", path, "--single", "--litert-js", litert, "--json")
    assert json.loads(output)["file"] == "pages/animals.html" and status == 0
    status, _, errors = command("page", path, "--save", "pages", "--litert-js", litert)
    assert status == 2 and "something other than a page" in errors
