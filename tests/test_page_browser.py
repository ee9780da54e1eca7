"""Pages answer in headless Chromium as the runtime does in Python: the same words, labels, vectors.

Runs where Chromium is installed and LITERT_JS names a folder `node_modules`; see
tests/browser/README.md. ALL_TESTS=1 asks 100 questions of each kind on WebAssembly instead of 5,
and 20 on WebGPU.
"""

import base64
import csv
import io
import json
import os
import shlex
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from scipy.special import softmax
from slow import ALL_TESTS

from tfx_transformer import images, page, runtime
from tfx_transformer.evaluation.occlusion import occlusion
from tfx_transformer.generation.chat import Chat
from tfx_transformer.models.heads import read_head
from tfx_transformer.page import litert_js

HERE = Path(__file__).parent / "browser"
sys.path.insert(0, str(HERE))
import chromium  # noqa: E402
import devtools  # noqa: E402

# Questions of each kind, by where the model runs.
COUNTS = {"wasm": 100, "webgpu": 20} if ALL_TESTS else {"wasm": 5}


def missing() -> str | None:
    """Return why nothing can be tried, or None."""
    if chromium.executable() is None:
        return f"none of {', '.join(chromium.NAMES)} is installed"
    if "LITERT_JS" not in os.environ:
        return "LITERT_JS names no folder node_modules: see tests/browser/README.md"
    file = Path(os.environ["LITERT_JS"], "@litertjs/core/package.json")
    if not file.is_file() or json.loads(file.read_text())["version"] != litert_js.VERSION:
        return f"{file} is not of version {litert_js.VERSION}"
    return None


WHY_NOT = missing()
pytestmark = pytest.mark.skipif(WHY_NOT is not None, reason=WHY_NOT or "")


@pytest.fixture(scope="module", params=COUNTS)
def accelerator(request):
    return request.param


@pytest.fixture(scope="module")
def browser(accelerator):
    flags = chromium.SWIFTSHADER if accelerator == "webgpu" else ()
    with devtools.tab(flags, seconds=120) as tab:
        yield tab


@pytest.fixture
def once(accelerator):
    """Skip the test where the model runs elsewhere: it is of what does not depend on the place."""
    if accelerator != "wasm":
        pytest.skip("is tried with WebAssembly")


@pytest.fixture
def count(accelerator):
    """The number of questions that a test asks."""
    return COUNTS[accelerator]


@pytest.fixture
def opened(browser, accelerator, tmp_path):
    """A function that opens the page of a bundle, and returns the tab and the model in Python."""

    def open_page(path):
        content = page.single_page(path, litert_js=os.environ["LITERT_JS"])
        file = page.write_single(content, tmp_path / f"{path.name}.html")
        browser.open(file.as_uri())
        if accelerator != "wasm":
            assert browser.evaluate(f"tfx.start('{accelerator}')") == accelerator
        return browser, runtime.load(path)

    browser.addresses.clear()  # of the test before
    browser.said.clear()
    yield open_page
    other = [a for a in browser.addresses if not a.startswith((tmp_path.as_uri(), "blob:null/"))]
    assert not other, "it asks nobody for anything"
    assert not [said for said in browser.said if "Security Policy" in said or "threw" in said]


def words(count):
    """Return texts, some of them odd."""
    random = np.random.default_rng(8)
    known = ["the", "cat", "sees", "a", "dog", "猫", "が", "見る", "😀", " ", "\t"]
    return [" ".join(random.choice(known, n)) or "?" for n in random.integers(1, 13, count)]


def differing(found, expected):
    """Return the pairs that differ; the expected texts must not all be the same."""
    assert len(set(expected)) > 1
    return [pair for pair in zip(found, expected, strict=True) if pair[0] != pair[1]]


@pytest.mark.parametrize("name", ["translator", "writer", "pieces"])
def test_texts_are_written_as_in_python(name, page_bundles, opened, count):
    tab, model = opened(page_bundles / name)
    texts = [text for text in words(count) if text.strip()]
    found = [tab.ask("answer", {"text": text}, {"maxNewTokens": 9})["text"] for text in texts]
    assert not differing(found, model.generate(texts, max_new_tokens=9))
    python = {"temperature": 1.2, "top_k": 30, "top_p": 0.9, "repetition_penalty": 1.3, "seed": 5}
    options = {"topK": 30, "topP": 0.9, "repetitionPenalty": 1.3, "temperature": 1.2, "seed": 5}
    options["maxNewTokens"] = 9
    answers = [tab.ask("answer", {"text": text}, options) for text in texts]
    expected = [model.generate(x, max_new_tokens=9, **python) for x in texts]
    assert not differing([answer["text"] for answer in answers], expected)
    if name == "pieces":  # the space that Python leaves out is before the continuation
        tokens = [model.answer(x, max_new_tokens=9, logprobs=0, **python).tokens for x in texts]
        written = ["".join(one.token for one in answer) for answer in tokens]
        spaces = [text[:1] if text.startswith(" ") else "" for text in written]
        assert [answer["space"] for answer in answers] == spaces and " " in spaces
    stop = max("".join(expected), key="".join(expected).count)  # the most frequent character
    found = [tab.ask("answer", {"text": x}, options | {"stop": [stop]})["text"] for x in texts]
    cut = [model.generate(x, max_new_tokens=9, stop=stop, **python) for x in texts]
    assert not differing(found, cut) and cut != expected


def test_conversations_go_on_as_in_python(page_bundles, opened, count):
    tab, model = opened(page_bundles / "assistant")
    for number in range(max(2, count // 10)):
        tab.ask("reset", {})
        system = "the cat" if number % 2 else ""
        chat = Chat(model, system)
        for text in ("the cat", " sees? ", "猫😀"):
            found = tab.ask("answer", {"text": text, "system": system}, {"maxNewTokens": 5})
            assert found["text"] == chat.say(text, max_new_tokens=5)
    for _ in range(4):  # the context is full: the oldest turns go
        found = tab.ask("answer", {"text": "the cat sees a dog"}, {"maxNewTokens": 9})
    assert found["forgotten"] and found["used"] <= found["context"] == 61


def test_texts_are_classified_as_in_python(text_classifier, opened, count):
    tab, model = opened(text_classifier.path)
    texts = ["the cat", *words(count), "the " * 40]
    found = [tab.ask("answer", {"texts": [text]}) for text in texts]
    for answer, expected in zip(found, model.probabilities(texts), strict=True):
        ours = {one["id"]: one["probability"] for one in answer["ranked"]}
        np.testing.assert_allclose([ours[i] for i in range(3)], expected, atol=1e-5)
    assert found[-1]["cut"] and not found[0]["cut"]
    pieces = tab.ask("explain", {"texts": ["the cat 猫が見る"], "label": 1})
    expected = occlusion(model.probabilities, "the cat 猫が見る", 1)
    assert [(p["start"], p["end"]) for p in pieces] == [
        (p.start, p.start + len(p.text)) for p in expected
    ]
    weights = [piece["weight"] for piece in pieces]
    np.testing.assert_allclose(weights, [piece.weight for piece in expected], atol=1e-5)


def test_what_is_typed_is_classified(topic_classifier, opened):
    tab, model = opened(topic_classifier.path)
    fill(tab, "textarea", "the cat sees")
    (answer,) = model.classify(["the cat sees"])
    ranked = sorted(answer.probabilities.items(), key=lambda item: -item[1])
    lines = [f"{name} {100 * value:.1f} %" for name, value in ranked]
    shown = "[...document.querySelectorAll('.bars li')].map((one) => one.textContent)"
    wait(tab, f"{shown}.join() === {json.dumps(','.join(lines))}")
    chosen = tab.evaluate(
        "[...document.querySelectorAll('.chosen .name')].map((x) => x.textContent)"
    )
    assert set(chosen) == set(answer.labels)


def test_vectors_are_those_of_python(text_embedder, opened, count):
    tab, model = opened(text_embedder.path)
    texts = words(count)
    vectors = tab.ask("many", {"texts": texts})
    np.testing.assert_allclose(vectors, model.embed(texts), atol=1e-5)


def test_an_embedder_learns_classes_as_scikit_learn(text_embedder, opened, tmp_path):
    from sklearn.linear_model import LogisticRegression

    tab, model = opened(text_embedder.path)
    known = [text.strip() for text in words(70) if text.strip()]
    texts, others = known[:30], known[30:]
    names = ["cat", "dog", "other"]
    labels = [next((n for n in names if n in text), "other") for text in texts]
    given = [
        [name, [t for t, label in zip(texts, labels, strict=True) if label == name]]
        for name in names
    ]
    # Through the fields, as people do it.
    tab.evaluate("document.querySelector('.teach .row.start button').click()")
    for index, (name, lines) in enumerate(given):
        fill(tab, f".class:nth-child({index + 1}) input", name)
        fill(tab, f".class:nth-child({index + 1}) textarea", "\n".join(lines))
    note = "document.querySelector('.teach [role=status]').textContent"
    wait(tab, f"{note}.startsWith('30 examples of 3 classes')")
    vectors = model.embed([text for _, lines in given for text in lines])
    by_python = [name for name, lines in given for _ in lines]
    expected = LogisticRegression(tol=1e-8, max_iter=5000).fit(vectors, by_python)
    for text, probabilities in zip(
        others, expected.predict_proba(model.embed(others)), strict=True
    ):
        (vector,) = tab.ask("many", {"texts": [text]})
        found = {
            one["label"]: one["probability"]
            for one in tab.ask("recognize", {"vector": vector})["ranked"]
        }
        np.testing.assert_allclose(
            [found[name] for name in expected.classes_], probabilities, atol=1e-4
        )
    assert len(set(expected.predict(model.embed(others)))) > 1
    fill(tab, "#attempt", others[0])
    best = expected.predict(model.embed(others[:1]))[0]
    wait(tab, f"document.querySelector('.teach .chosen .name')?.textContent === '{best}'")
    file = tmp_path / "head.json"
    file.write_bytes(saved(tab, "Save the classifier"))
    head = read_head(file)
    logits = model.embed(others) @ head.weights.T + head.bias
    places = [head.labels.index(name) for name in expected.classes_]
    found = softmax(logits, axis=1)[:, places]
    np.testing.assert_allclose(found, expected.predict_proba(model.embed(others)), atol=1e-4)
    written = list(csv.reader(io.StringIO(saved(tab, "Save as CSV").decode())))
    assert written == [["text", "label"], *([x, name] for name, lines in given for x in lines)]


@pytest.mark.slow
def test_the_commands_that_a_page_shows_make_bundles(
    once, text_embedder, opened, command, tmp_path
):
    """Run as they are shown: that for the saved examples, and that for the saved classifier."""
    base = text_embedder.copy(tmp_path / "saved_models")
    tab, model = opened(base)
    texts = [text.strip() for text in words(70) if "cat" in text or "dog" in text][:40]
    classes = {"cat": [], "dog": []}
    for text in dict.fromkeys(texts):
        classes["cat" if "cat" in text else "dog"].append(text)
    for index, (name, lines) in enumerate(classes.items(), 1):
        fill(tab, f".class:nth-child({index}) input", name)
        fill(tab, f".class:nth-child({index}) textarea", "\n".join(lines))
    note = "document.querySelector('.teach [role=status]').textContent"
    wait(tab, f"{note}.includes('2 classes')")
    answers = {}
    for button in ("Save the classifier", "Save as CSV"):
        answers[button] = runtime.load(made_as_shown(tab, button, command)).classify(texts)
    for text, answer in zip(texts, answers["Save the classifier"], strict=True):
        (vector,) = tab.ask("many", {"texts": [text]})
        first = tab.ask("recognize", {"vector": vector})["ranked"][0]
        assert (answer.label, pytest.approx(answer.probability, abs=1e-4)) == (
            first["label"],
            first["probability"],
        )
    assert {answer.label for answer in answers["Save as CSV"]} <= {*classes}


def test_a_taught_classifier_follows_the_prompt_of_its_texts(encoder_words, opened, tmp_path):
    from sklearn.linear_model import LogisticRegression
    from tiny_models import tiny_encoder

    import tfx_transformer as tfx

    prompts = {"document": "", "query": "the dog sees a dog: "}
    size = {"vocabulary_size": encoder_words.vocabulary_size, "position": "rotary"}
    model = tiny_encoder(tfx.Embedder, prompts=prompts, **size)
    tfx.save(tmp_path / "prompted", model, encoder_words)
    tfx.export.litert(tmp_path / "prompted")
    tab, model = opened(tmp_path / "prompted")
    given = {"a": ["the cat", "a cat sees", "cat"], "b": ["dog 猫", "a dog"]}
    for index, (name, lines) in enumerate(given.items(), 1):
        fill(tab, f".class:nth-child({index}) input", name)
        fill(tab, f".class:nth-child({index}) textarea", "\n".join(lines))
    save = "[...document.querySelectorAll('.teach button')].at(-1)"
    names = [name for name, lines in given.items() for _ in lines]
    texts = [text for lines in given.values() for text in lines]
    file = tmp_path / "head.json"
    weights = []
    for prompt in prompts:
        tab.evaluate(
            f"""(() => {{
              const choice = document.querySelector('#text-prompt');
              choice.value = {json.dumps(prompt)};
              choice.dispatchEvent(new Event('change'));
            }})()"""
        )
        wait(tab, f"{save}.textContent === 'Save the classifier' && !{save}.disabled")
        file.write_bytes(saved(tab, "Save the classifier"))
        head = json.loads(file.read_text("utf-8"))
        vectors = model.embed(texts, prompt=prompt)
        expected = LogisticRegression(tol=1e-8, max_iter=9000).fit(vectors, names)
        assert head["prompt"] == prompts[prompt]
        weights.append(np.array(head["weights"]))
        np.testing.assert_allclose(weights[-1][1] - weights[-1][0], expected.coef_[0], atol=1e-3)
    assert np.abs(weights[1] - weights[0]).max() > 0.01


def made_as_shown(tab, button, command):
    """Press a button that saves a file, run the commands that the page then shows, with the file in
    this folder, and return the bundle that they make, with another name."""
    content = saved(tab, button)
    wait(tab, "document.querySelector('.teach pre').hidden === false")
    file = None
    for line in tab.evaluate("document.querySelector('.teach pre').textContent").splitlines():
        program, *words_shown = shlex.split(line)
        if file is None:
            (file,) = [word for word in words_shown if word.endswith((".json", ".csv", ".zip"))]
            Path(file).write_bytes(content)
        if program == "python":
            subprocess.run([sys.executable, *words_shown], check=True)
            continue
        assert program == "tfx-transformer"
        status, _, errors = command(*words_shown)
        assert status == 0, errors
        made = Path("saved_models", words_shown[words_shown.index("--name") + 1])
    return made.rename(made.with_name(f"by-{Path(file).suffix[1:]}"))


def saved(tab, button):
    """The bytes of the file that the page saves when a button is pressed."""
    content = tab.evaluate(
        f"""new Promise((done) => {{
          const address = URL.createObjectURL;
          URL.createObjectURL = (blob) => {{
            URL.createObjectURL = address;
            const reader = new FileReader();
            reader.onload = () => done(reader.result.split(',')[1]);
            reader.readAsDataURL(blob);
            return 'data:,';
          }};
          const all = [...document.querySelectorAll('.teach button')];
          all.find((one) => one.textContent === {json.dumps(button)}).click();
        }})"""
    )
    return base64.b64decode(content)


def fill(tab, selector, text):
    """Type a text into a field."""
    tab.evaluate(
        f"""(() => {{
          const field = document.querySelector({json.dumps(selector)});
          field.value = {json.dumps(text)};
          field.dispatchEvent(new Event('input'));
        }})()"""
    )


def wait(tab, condition):
    """Wait until an expression is true, for 20 seconds."""
    for _ in range(200):
        if tab.evaluate(condition):
            return
        time.sleep(0.1)
    raise AssertionError(f"never: {condition}\n{tab.evaluate('document.body.innerText')}")


def test_taggers_and_regressors_answer_as_in_python(page_bundles, opened, count):
    texts = [text for text in words(count) if text.strip()] + ["the cat " * 20]
    tab, model = opened(page_bundles / "tagger")
    marked = 0
    for text in texts:
        found = tab.ask("answer", {"text": text})["spans"]
        expected = model.tag(text)
        marked += len(expected)
        assert [(s["start"], s["end"], s["label"]) for s in found] == [e[:3] for e in expected]
        sure = [entity.probability for entity in expected]
        np.testing.assert_allclose([span["probability"] for span in found], sure, atol=1e-5)
    assert marked > 5
    tab, model = opened(page_bundles / "regressor")
    found = [tab.ask("answer", {"texts": [text]})["value"] for text in texts]
    np.testing.assert_allclose(found, model.predict(texts), atol=1e-5)


def test_images_are_classified_as_in_python(image_classifier, opened, count):
    tab, model = opened(image_classifier.path)
    random = np.random.default_rng(6)
    for _ in range(count):
        height, width = map(int, random.integers(5, 40, 2))
        pixels = random.integers(0, 256, (height, width, 3)).astype("uint8")
        request = {"pixels": pixels.reshape(-1).tolist(), "width": width, "height": height}
        answer = tab.ask("answer", request)
        ours = {one["id"]: one["probability"] for one in answer["ranked"]}
        (expected,) = model.probabilities([pixels])
        np.testing.assert_allclose([ours[i] for i in range(3)], expected, atol=1e-5)


def test_a_picture_is_read_as_in_python(image_classifier, opened):
    """A PNG file, through the field for files."""
    tab, model = opened(image_classifier.path)
    file = image_classifier.inputs[0]
    tab.choose("#file", [file])
    answer = model.classify(images.read_image(file))
    expected = f"{answer.label} {100 * answer.probability:.1f} %"
    wait(tab, f"document.querySelector('.bars li')?.textContent === '{expected}'")


def light_and_dark(folder, names):
    """24 pictures, dark and light ones in turn, and their labels."""
    from PIL import Image

    random = np.random.default_rng(3)
    files = []
    for number in range(24):
        light = 1 if number % 2 else 0.4
        pixels = random.integers(0, 256, (*random.integers(9, 25, 2), 3)) * light
        files.append(folder / f"{number}.png")
        Image.fromarray(pixels.astype("uint8")).save(files[-1])
    return files, names * 12


def teach_pictures(tab, files, labels):
    """Give pictures to their classes, through the fields."""
    tab.evaluate("document.querySelector('.teach summary').click()")
    for index, name in enumerate(dict.fromkeys(labels), 1):
        fill(tab, f".class:nth-child({index}) input[type=text]", name)
        shown = [f for f, label in zip(files, labels, strict=True) if label == name]
        tab.choose(f"#pictures-{index}", shown)


@pytest.mark.slow
def test_the_commands_of_taught_pictures_make_bundles(
    once, image_classifier, opened, command, tmp_path
):
    """As those of texts, with names that a shell, a CSV and a folder take as something else."""
    base = image_classifier.copy(tmp_path / "saved_models")
    tab, model = opened(base)
    names = ["it's dark, 暗い", 'light/"bright"']
    files, labels = light_and_dark(tmp_path, names)
    teach_pictures(tab, files, labels)
    note = "document.querySelector('.teach [role=status]').textContent"
    wait(tab, f"{note}.startsWith('24 examples of 2 classes')")
    found = runtime.load(made_as_shown(tab, "Save the classifier", command)).classify(files)
    for file, answer in zip(files, found, strict=True):
        pixels = images.read_image(file)
        height, width, _ = pixels.shape
        picture = {"pixels": pixels.reshape(-1).tolist(), "width": width, "height": height}
        vector = tab.ask("features", picture)
        first = tab.ask("recognize", {"vector": vector})["ranked"][0]
        assert (answer.label, pytest.approx(answer.probability, abs=1e-4)) == (
            first["label"],
            first["probability"],
        )
    assert len({answer.label for answer in found}) == 2
    made = made_as_shown(tab, "Save as ZIP", command)
    assert {answer.label for answer in runtime.load(made).classify(files)} <= {*names}


def test_an_image_classifier_learns_classes_as_scikit_learn(image_classifier, opened, tmp_path):
    from PIL import Image
    from sklearn.linear_model import LogisticRegression

    tab, model = opened(image_classifier.path)
    files, labels = light_and_dark(tmp_path, ["dark", "bright"])
    teach_pictures(tab, files[:20], labels[:20])
    note = "document.querySelector('.teach [role=status]').textContent"
    wait(tab, f"{note}.startsWith('20 examples of 2 classes')")
    expected = LogisticRegression(tol=1e-8, max_iter=9000).fit(
        model.features(files[:20]), labels[:20]
    )
    for file in files[20:]:
        (probabilities,) = expected.predict_proba(model.features([file]))
        best, share = max(zip(expected.classes_, probabilities, strict=True), key=lambda p: p[1])
        tab.choose("#file", [file])
        bars = "document.querySelector('.pair > div:nth-child(2) > div:last-child .bars')"
        first = f"{bars}?.querySelector('.chosen')?.textContent"
        wait(tab, f"{first} === '{best} {100 * share:.1f} %'")
    archive = zipfile.ZipFile(io.BytesIO(saved(tab, "Save as ZIP")))
    folder = f"{image_classifier.path.name}-examples"
    with archive.open(f"{folder}/examples.csv") as table:
        rows = list(csv.DictReader(io.TextIOWrapper(table, "utf-8")))
    kept = [(archive.read(f"{folder}/{row['path']}"), row["label"]) for row in rows]
    given = zip(files[:20], labels[:20], strict=True)
    assert kept == sorted(
        ((f.read_bytes(), n) for f, n in given), key=lambda one: one[1] == "bright"
    )
    command = tab.evaluate("document.querySelector('.teach pre').textContent")
    assert (
        f"--images {folder}/examples.csv --base saved_models/{image_classifier.path.name}"
        in command
    )
    tab.evaluate("document.querySelector('.class .example').click()")
    wait(tab, f"{note}.startsWith('19 examples of 2 classes')")
    other = tmp_path / "picture.ico"  # which a training does not read
    Image.open(files[1]).resize((16, 16)).save(other)
    tab.choose("#pictures-2", [other])
    wait(tab, f"{note}.startsWith('20 examples of 2 classes')")
    archive = zipfile.ZipFile(io.BytesIO(saved(tab, "Save as ZIP")))
    last = max(archive.infolist(), key=lambda one: one.header_offset)
    assert last.filename == f"{folder}/bright/20.png"
    with Image.open(archive.open(last)) as found, Image.open(other) as expected:
        assert np.array_equal(np.asarray(found)[..., :3], np.asarray(expected)[..., :3])


@pytest.mark.parametrize(
    "name",
    ["vectors", "pictures", "animals", "translator", "assistant", "writer", "tagger", "regressor"],
)
def test_everybody_can_use_the_page(
    once, name, text_embedder, image_classifier, text_classifier, page_bundles, opened
):
    """axe finds no serious fault, and nothing is wider than a phone."""
    axe = Path(os.environ["LITERT_JS"], "axe-core", "axe.min.js")
    if not axe.is_file():
        pytest.skip("axe-core is not installed")
    bundles = [text_embedder.path, image_classifier.path, text_classifier.path]
    paths = {path.name: path for path in bundles}
    tab, _ = opened(paths.get(name, page_bundles / name))
    tab.evaluate(axe.read_text("utf-8") + "; 0")
    faults = "axe.run().then((found) => found.violations.map(({impact, id}) => [impact, id]))"
    for width, dark in [(360, True), (1280, False)]:
        tab.resize(width, dark)
        tab.evaluate("[...document.querySelectorAll('nav button')].at(-1).click()")  # language
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        for shown in ("details", "dialog"):
            tab.evaluate(f"document.querySelectorAll('{shown}').forEach((one) => one.open = true)")
            serious = [one for one in tab.evaluate(faults) if one[0] in ("serious", "critical")]
            assert not serious, (width, dark, shown)
        tab.evaluate("document.querySelector('dialog').open = false")


def test_a_folder_runs_behind_a_server(text_classifier, browser, tmp_path):
    content = page.page_files(text_classifier.path, litert_js=os.environ["LITERT_JS"])
    index = page.write_page(content, tmp_path / "page")
    with devtools.serve(index.parent) as address:
        browser.open(address)
        found = browser.ask("answer", {"texts": ["the cat"]})
        (expected,) = runtime.load(text_classifier.path).classify(["the cat"])
        assert found["labels"][0]["label"] == expected.label
    with pytest.raises(RuntimeError, match="python -m http.server"):
        browser.open(index.as_uri())
