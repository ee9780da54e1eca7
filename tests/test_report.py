"""Reports made of records by hand: hostile texts, damaged files, both languages, the list of runs.

Reports of every recipe are checked where the recipes run.
"""

import csv
import json
import re
import shutil
import string

import pytest
from pages import Page, check
from PIL import Image
from scipy.stats import binomtest

from tfx_transformer import report
from tfx_transformer.errors import InputError
from tfx_transformer.report import texts
from tfx_transformer.report.charts import line_chart
from tfx_transformer.report.html import Html, tag, user_text

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</style></title><b>",
    "&lt;i&gt; &amp; &#60;",
    "'onload='x",
    "\u202egnp.exe\u202c",
    "\u2066a\u2069",
    "a\x00\x1b[31mb\r",
    "{0} {name} %s",
    "javascript:alert(1)",
    "],</bdi>--><!--",
    "\ud800",
)


def write(folder, **records):
    """Files of a run's folder: a value becomes JSON, a list of dictionaries with a first "" CSV."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in records.items():
        text = value if isinstance(value, str) else json.dumps(value)
        (folder / name.replace("__", ".")).write_text(text, "utf-8")


def table(*rows):
    """A CSV file's text."""
    from io import StringIO

    text = StringIO(newline="")
    writer = csv.DictWriter(text, rows[0].keys())
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def make(folder, word="rain", other="sun"):
    """A run's folder with every record; `word` and `other` are wherever the user's texts are."""
    plain = word.encode("utf-8", "replace").decode()
    counts = [[7, 2], [1, 3]]
    write(
        folder,
        settings__json={"csv": f"{word}.csv", "text": word, "epochs": 3, "share": 0.1, "base": ""},
        run__json={
            "recipe": other,
            "began": "2026-05-07T11:13:17+00:00",
            "seconds": 83.2,
            "task": "classification",
            "bundle": f"saved_models/{word}",
            "parameters": 7919,
            "command": f"tfx-transformer run {word}",
            "processor": word,
        },
        data__json=[
            {
                "name": name,
                "path": f"/home/{word}/{other}",
                "rows": rows,
                "bad_rows": 1,
                "labels": {word: rows - 3, other: 3},
                "duplicates": 2,
                "overlap": 0 if name == "training" else 5,
                "tokens": 101,
                "row_tokens": [5, 7, 11, 13],
            }
            for name, rows in (("training", 113), ("validation", 13))
        ],
        metrics__csv="epoch,loss,val_loss,val_macro_f1\n1,0.9,0.8,0.3\n2,0.5,0.7,0.6\n3,0.3,0.75,0.5\n",
        result__json={"best_epoch": 2, "seconds": 71.1, "accuracy": 10 / 13},
        evaluation__json={
            "examples": 13,
            "scores": {
                "accuracy": {"value": 10 / 13, "low": 0.497, "high": 0.918},
                "log_loss": {"value": 0.4321},
            },
            "baselines": {word: {"accuracy": 0.6154}, other: {"accuracy": 6 / 13}},
            "confusion": {"labels": [word, other], "counts": counts},
        },
        classes__csv=table(
            {"label": plain, "precision": 0.875, "recall": 0.7778, "f1": 0.8237, "count": 9.0},
            {"label": "b", "precision": 0.6, "recall": 0.75, "f1": 0.6667, "count": 4.0},
        ),
        mistakes__csv=table(
            {"input": f"the {plain}", "label": plain, "predicted": "b", "probability": 0.97}
        ),
        explanations__json=[
            {
                "input": f"the {word}",
                "label": word,
                "predicted": other,
                "probability": 0.97,
                "texts": [f"the {word} and {other}"],
                "pieces": [
                    {"text": word, "column": 0, "start": 4, "weight": 0.41},
                    {"text": other, "column": 0, "start": 9 + len(word), "weight": -0.07},
                ],
            }
        ],
        samples__csv=table(
            {"source": plain, "written": plain, "reference": plain},
            {"source": "b", "written": "", "reference": plain},
        ),
        previews__csv=table({"epoch": 1, "source": plain, "written": plain, "reference": plain}),
        exports__json=[
            {
                "name": "Keras",
                "file": "model.safetensors",
                "bytes": 33_700_000,
                "milliseconds": 4.25,
                "examples": 13,
                "scores": {"accuracy": 10 / 13},
            },
            {
                "name": "TFLite int8",
                "file": "model.int8.tflite",
                "bytes": 11_400_000,
                "milliseconds": 0.51,
                "examples": 13,
                "scores": {"accuracy": 9 / 13},
                "identical": 12,
                "of": 13,
            },
            {"name": word, "bytes": None, "summary": other, "removed": True},
        ],
    )
    return folder


@pytest.mark.parametrize("language", texts.LANGUAGES)
def test_every_section_has_the_numbers_of_the_records(tmp_path, language):
    folder = make(tmp_path / "weather")
    page = Page(report.write_report(folder, language))
    check(page)
    say = texts.speaker(language)
    assert page.all("html")[0]["lang"] == language
    scores = page.rows(say("scores caption", count=13))
    ours, interval, *others = scores[say("accuracy")]
    assert (ours, interval) == ("76.9 %", "49.7 % – 91.8 %")
    for shown, share, hits in zip(others, ("61.5 %", "46.2 %"), (8, 6), strict=True):
        low, high = binomtest(hits, 13).proportion_ci(method="wilson")
        assert shown == f"{share} {100 * low:.1f} % – {100 * high:.1f} %"
    assert scores[f"{say('log_loss')} ({say('lower')})"] == ["0.432", "–", "–", "–"]
    assert page.rows(say("confusion caption")) == {"rain": ["7", "2"], "sun": ["1", "3"]}
    assert page.rows(say("classes caption"))["rain"] == ["87.5 %", "77.8 %", "82.4 %", "9"]
    files = page.rows(say("exports caption", count=13))
    kept = say("points", number="−7.7")
    assert files["TFLite int8model.int8.tflite"] == [
        *("11.4 MB", "0.51", "69.2 %", kept, say("equal", part=12, whole=13))
    ]
    assert files[f"{say('trained model')}model.safetensors"][:3] == ["33.7 MB", "4.2", "76.9 %"]
    read = page.rows(say("data caption"))
    assert read[f"{say('validation part')}sun"] == [*("13", "101", "2", "5", "1", "5", "7", "13")]
    assert say("overlap warning", count=5, whole=13) in page.text()
    assert page.rows(say("labels caption"))["rain"][1:] == ["110", "10"]
    assert say("without", points="−41") in page.text()
    assert "tfx-transformer classify saved_models/rain" in page.text()
    assert [a["title"] for a in page.all("mark")] == ["+41", "−7"]
    explained = [text for name, text in page.texts if name == "dt"]
    assert {say("accuracy"), say("log_loss"), say("recall")} <= set(explained)
    headings = [text for name, text in page.texts if name == "h2"]
    assert len(headings) == 9, "every section"


def test_a_teacher_is_named_but_is_no_baseline(tmp_path):
    folder = make(tmp_path / "r")
    evaluation = json.loads((folder / "evaluation.json").read_text("utf-8"))
    evaluation["baselines"]["the teacher"] = {"accuracy": 0.8462}
    (folder / "evaluation.json").write_text(json.dumps(evaluation), "utf-8")
    settings = {"teacher": "saved_models/large"}
    (folder / "settings.json").write_text(json.dumps(settings), "utf-8")
    text = Page(report.write_report(folder)).text()
    assert "teacher, saved_models/large, which reaches 84.6 % on the same examples" in text
    assert "The best simpler method, rain, reaches 61.5 %." in text


def test_numbers_and_vectors_are_not_counted_as_equal(tmp_path):
    folder = make(tmp_path / "r")
    keras, *_ = json.loads((folder / "exports.json").read_text("utf-8"))
    rows = [
        keras,
        {"name": "a", "identical": 1, "of": 13, "largest_difference": 0.25},
        {"name": "b", "identical": 1, "of": 13, "smallest_cosine": 0.9984},
    ]
    (folder / "exports.json").write_text(json.dumps(rows), "utf-8")
    caption = texts.speaker("en")("exports caption", count=13)
    shown = Page(report.write_report(folder)).rows(caption)
    assert [shown[name][-1] for name in "ab"] == ["at most 0.25 apart", "cosine at least 0.9984"]


def test_probabilities_that_stay_have_no_before(tmp_path):
    folder = make(tmp_path / "r")
    scores = {"calibration_error": 0.05, "log_loss": 0.4}
    known = {"temperature": 1.0, "before": scores, "after": scores}
    bins = [[0.5, 0.4, 3], [0.9, 0.8, 10]]
    for temperature, names in ((1.0, ["this model"]), (0.8, ["before", "after"])):
        result = {
            "accuracy": 10 / 13,
            "calibration": known | {"temperature": temperature},
            "reliability": {"before": bins, "after": bins},
        }
        (folder / "result.json").write_text(json.dumps(result), "utf-8")
        page = Page(report.write_report(folder))
        legend = [text for name, text in page.texts if name == "li"]
        assert set(names) < set(legend)
        assert ("the probabilities stay as they are" in page.text()) == (temperature == 1)


@pytest.mark.parametrize("word", HOSTILE)
def test_what_the_user_wrote_stays_text(tmp_path, word):
    folder = make(tmp_path / "r", word, word[::-1] + "x")
    for page in (Page(report.write_report(folder)), Page(report.write_index(tmp_path))):
        links = {"./r/report.html"}
        check(page, links)
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]", page.source)
    elements = [name for name, _ in Page(folder / "report.html").elements]
    plain = [name for name, _ in Page(report.write_report(make(tmp_path / "p"))).elements]
    assert elements == plain, "the same elements whatever the words are"


def test_a_text_is_shown_as_it_is(tmp_path):
    word = "a < b && c > \"d\" 'e' 猫 한국어 😀"
    page = Page(report.write_report(make(tmp_path / "r", word)))
    assert page.text().count(word) > 10
    assert {a.get("lang") for a in page.all("bdi")} >= {"ja"} or user_text("猫")
    assert 'lang="ko"' in user_text("한국어") and 'lang="ja"' in user_text("猫です")
    assert tag("p", Html("<b>"), "<b>", None, 7) == "<p><b>&lt;b&gt;7</p>"


@pytest.mark.parametrize("language", texts.LANGUAGES)
def test_both_languages_say_everything(language):
    fields = [set(), set()]
    for pair in texts._TEXTS.values():
        fields = [{f for _, f, _, _ in string.Formatter().parse(text) if f} for text in pair]
        assert fields[0] == fields[1] and all(pair)
    assert re.search("[ぁ-ん]", texts.speaker("ja")("private"))
    with pytest.raises(ValueError):
        texts.speaker("de")


JUNK = ("", "[]", "{", "null", "3", '"x"', '{"scores": 3}', "[[1]]", "[{}]", "\x00", "a,b\n1", "{}")
JUNK += ('{"scores": {"accuracy": null}, "confusion": {"labels": [1], "counts": [[null]]}}',)
JUNK += ('[{"name": [], "labels": {"a": {}}, "row_tokens": [1], "scores": [], "bytes": "x"}]',)
JUNK += ('{"conclusion": {"sentences": {"en": [3]}}, "baselines": [1], "accuracy": NaN}',)
JUNK += ('[{"texts": ["ab"], "pieces": [{"start": 9, "text": 3, "weight": "w", "column": 0}]}]',)


@pytest.mark.parametrize("junk", JUNK)
def test_damaged_records_leave_a_page(tmp_path, junk):
    whole = make(tmp_path / "whole")
    for name in sorted(path.name for path in whole.iterdir()):
        folder = tmp_path / "r"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(whole, folder)
        (folder / name).write_text(junk, "utf-8")
        check(Page(report.write_report(folder)))
        check(Page(report.write_index(tmp_path)), {"./r/report.html"})
        (folder / "report.html").unlink()


def test_missing_records_leave_a_page(tmp_path):
    for name in sorted(path.name for path in make(tmp_path / "r").iterdir()):
        (tmp_path / "r" / name).unlink()
        if any((tmp_path / "r" / f"{n}.json").exists() for n in ("settings", "run", "result")):
            check(Page(report.write_report(tmp_path / "r")))
            (tmp_path / "r" / "report.html").unlink()
    with pytest.raises(InputError, match="not the folder of a run"):
        report.write_report(tmp_path / "r")
    with pytest.raises(InputError, match="not the folder of a run"):
        report.write_report(tmp_path / "nowhere")
    with pytest.raises(InputError, match="Expected one of: en, ja"):
        report.write_report(make(tmp_path / "r"), "de")


def test_a_page_of_the_user_is_not_replaced(tmp_path):
    folder = make(tmp_path / "r")
    for path in (folder / "report.html", tmp_path / "index.html"):
        path.write_text("<p>mine")
    with pytest.raises(InputError, match="was not written by a run"):
        report.write_report(folder)
    assert report.write_index(tmp_path) is None
    for path in (folder / "report.html", tmp_path / "index.html"):
        assert path.read_text() == "<p>mine"


def test_the_list_of_runs(tmp_path):
    for number, name in enumerate(["old", "new", "日本 語"]):
        folder = make(tmp_path / name)
        run = json.loads((folder / "run.json").read_text())
        write(folder, run__json=run | {"began": f"2026-05-0{number + 1}T00:00:00+00:00"})
    report.write_report(tmp_path / "日本 語")
    (tmp_path / "notes").mkdir()
    (tmp_path / "readme.txt").write_text("of the user")
    write(tmp_path / "broken", settings__json="{", result__json="[")
    page = Page(report.write_index(tmp_path))
    link = "./%E6%97%A5%E6%9C%AC%20%E8%AA%9E/report.html"
    check(page, {link})
    rows = page.rows("The runs in this folder")
    assert list(rows) == ["日本 語", "new", "old", "broken"]
    assert rows["new"] == [
        "sun",
        "2026-05-02 00:00 UTC",
        "accuracy 76.9 %",
        "49.7 to 91.8",
        "61.5 % (rain)",
        "11.4 MB",
        "1.4",
    ]
    assert set(rows["broken"]) == {"–"}
    assert [a["href"] for a in page.all("a")] == [link]
    check(Page(report.write_index(tmp_path, "ja")), {link})


def test_thumbnails_of_mistaken_images(tmp_path):
    folder = make(tmp_path / "r")
    (folder / "explanations.json").unlink()
    Image.new("RGB", (701, 499), "#a03010").save(tmp_path / "red.png")
    rows = [
        {"input": tmp_path / name, "label": "a", "predicted": "b", "probability": 0.9}
        for name in ("red.png", "gone.png")
    ]
    (folder / "mistakes.csv").write_text(table(*rows))
    page = Page(report.write_report(folder))
    check(page)
    (image,) = page.all("img")
    assert image["src"].startswith("data:image/jpeg;base64,")
    assert image["alt"] == "Image labelled a, predicted b"
    assert "The image is no longer there." in page.text()


@pytest.mark.parametrize(
    "points",
    [
        [(1, 0.5)],
        [(1, 5.7021), (1, 5.7028)],
        [(1, 0.0), (2, 0.0)],
        [(n, 10.0**-n) for n in range(1, 12)],
        [(n, 1e9 * n) for n in range(1, 120)],
        [(7, -3.0), (11, 5.0)],
    ],
)
def test_a_chart_stays_inside(points):
    drawn = line_chart("t", "epoch", {"a": points, "b": []}, points[0][0], "kept")
    width, height = 420, 240
    for x, y in re.findall(r"[ML]([\d.-]+) ([\d.-]+)", drawn):
        assert 0 <= float(x) <= width and 0 <= float(y) <= height
    assert drawn.count("<text") <= 22 and "<b" not in drawn
    assert line_chart("t", "x", {"a": []}, None, "") == ""
    labels = re.findall(r'end">([^<]+)</text>', drawn)
    assert len(set(labels)) == len(labels)
    values = [float(n.replace(",", "")) for n in labels]
    assert min(values) <= min(y for _, y in points) and max(values) >= max(y for _, y in points)
    assert min(values) >= 0 or min(y for _, y in points) <= 0


def test_the_verb(command, tmp_path):
    make(tmp_path / "runs" / "r")
    status, output, _ = command("report", "runs/r", "--language", "ja")
    assert (status, output) == (0, "runs/r/report.html\n")
    assert Page(tmp_path / "runs" / "r" / "report.html").all("html")[0]["lang"] == "ja"
    assert not (tmp_path / "runs" / "index.html").exists()
    status, _, errors = command("report", "runs")
    assert status == 2 and "not the folder of a run" in errors
