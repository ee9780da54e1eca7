"""Is a model worth using: intervals against scipy and by hand, verdicts, both languages."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tfx_transformer import wording
from tfx_transformer.cli import parser
from tfx_transformer.console import width, wrapped
from tfx_transformer.errors import InputError
from tfx_transformer.evaluation import conclusion as conclusions
from tfx_transformer.evaluation.conclusion import (
    Conclusion,
    conclude_labels,
    conclude_pairs,
    conclude_texts,
)
from tfx_transformer.evaluation.intervals import (
    bleu_interval,
    paired_difference,
    proportion_interval,
)
from tfx_transformer.training import closing
from tfx_transformer.vectors import spearman


def rows(both, ours, theirs, neither):
    """bool arrays: so many rows are right by both methods, by ours, by theirs, or by neither."""
    cells = [(1, 1)] * both + [(1, 0)] * ours + [(0, 1)] * theirs + [(0, 0)] * neither
    first, second = np.array(cells, dtype=bool).T
    return first, second


# Intervals


def test_the_interval_of_a_difference_by_hand():
    # Of 40 rows 24 and 20 are right, 12 by both: as many as chance would have, so phi is 0 and the
    # distances to the limits of either share add as the sides of a right angle.
    low, high = paired_difference(*rows(12, 12, 8, 8))
    z = stats.norm.ppf(0.975)

    def limits(p, n=40):
        half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return (p + z * z / (2 * n) - half) / (1 + z * z / n), (p + z * z / (2 * n) + half) / (
            1 + z * z / n
        )

    (p_low, p_high), (q_low, q_high) = limits(0.6), limits(0.5)
    assert low == pytest.approx(0.1 - math.hypot(0.6 - p_low, q_high - 0.5))
    assert high == pytest.approx(0.1 + math.hypot(p_high - 0.6, 0.5 - q_low))


def test_the_interval_of_a_difference_is_near_a_bootstrap_of_many_rows():
    ours, theirs = rows(601, 173, 97, 129)
    differences = ours.astype(float) - theirs
    found = stats.bootstrap(
        (differences,), np.mean, n_resamples=2000, method="percentile", rng=3
    ).confidence_interval
    assert paired_difference(ours, theirs) == pytest.approx((found.low, found.high), abs=0.004)


@given(st.lists(st.integers(0, 40), min_size=4, max_size=4).filter(any))
def test_the_interval_of_a_difference_holds_it_and_turns_round(cells):
    ours, theirs = rows(*cells)
    low, high = paired_difference(ours, theirs)
    assert -1 <= low <= ours.mean() - theirs.mean() + 1e-12
    assert ours.mean() - theirs.mean() - 1e-12 <= high <= 1
    assert paired_difference(theirs, ours) == pytest.approx((-high, -low))


def test_it_covers_the_true_difference_nineteen_times_in_twenty():
    random = np.random.default_rng(11)
    chances = [0.7, 0.15, 0.08, 0.07]
    inside = 0
    for _ in range(400):
        low, high = paired_difference(*rows(*random.multinomial(53, chances)))
        inside += low <= 0.15 - 0.08 <= high
    # 400 drawings of 95 %: three standard deviations are 13.
    assert 367 <= inside <= 399


def test_the_interval_of_bleu_is_as_wide_as_what_sacrebleu_prints():
    import sacrebleu

    references = [f"the cat number {n} sat on the mat" for n in range(31)]
    written = [text.replace("sat", "sits") if n % 3 else text for n, text in enumerate(references)]
    printed = str(sacrebleu.metrics.BLEU().corpus_score(written, [references], n_bootstrap=1000))
    score = float(printed.split()[2])
    half = float(printed.partition("± ")[2].partition(")")[0])
    found = bleu_interval(written, references, "13a")
    assert found.high - found.low == pytest.approx(2 * half, abs=0.02)
    assert found.low < score < found.high


# Verdicts


@pytest.mark.parametrize(
    ("cells", "verdict"),
    [
        ((200, 60, 10, 30), "better"),
        ((200, 10, 60, 30), "worse"),
        ((200, 12, 9, 30), "no better"),
        ((5, 0, 0, 0), "no better"),
        ((0, 1, 0, 0), "no better"),  # one row shows nothing
    ],
)
def test_a_verdict_needs_more_than_chance(cells, verdict):
    ours, linear = rows(*cells)
    found = conclude_labels(ours, {"majority": np.zeros(sum(cells), bool), "tfidf": linear})
    assert (found.verdict, found.baseline) == (verdict, "tfidf")
    assert found.score == ours.mean() and found.baseline_score == linear.mean()


def test_the_best_of_the_simpler_methods_is_the_one_to_beat():
    ours, linear = rows(10, 30, 20, 40)
    often = ours | linear
    found = conclude_labels(ours, {"majority": often, "tfidf": linear}, base="hf://a/b")
    assert (found.baseline, found.verdict) == ("majority", "worse")
    text = " ".join(found.sentences("en"))
    assert text.startswith("Worse than always giving the most frequent label by 20.0 points")
    assert "Add rows, or start from a pre-trained encoder (--base hf://a/b)." in text


def test_the_sentences_of_a_better_model():
    ours, linear = rows(300, 30, 15, 15)
    (text,) = conclude_labels(ours, {"tfidf": linear}).sentences("en")
    low, high = (100 * x for x in paired_difference(ours, linear))
    assert text == (
        "Better than a linear model (TF-IDF + logistic regression) by 4.2 points of accuracy "
        f"(95 %: {low:.1f} to {high:.1f}) on 360 held-out rows: 91.7 % against 87.5 %."
    )
    (text,) = conclude_labels(ours, {"tfidf": linear}).sentences("ja")
    assert text.startswith("線形モデル（TF-IDF + ロジスティック回帰）より正解率が4.2ポイント高く")
    assert text.endswith("87.5 %に対して91.7 %でした（検証用データ360行）。")


def test_a_model_with_a_linear_classifier_inside_is_not_told_to_take_one():
    advice = "Add rows, or start from a pre-trained encoder (--base hf://a/b)."
    for cells, linear, remedy in (
        ((300, 20, 18, 40), "alone", advice),
        ((300, 20, 18, 40), "together", advice),
        ((300, 20, 18, 40), "", f"Take the linear model, or a{advice[1:]}"),
        # Here the baseline, which is outside of the model, is the better one.
        ((300, 20, 90, 40), "together", f"Take the linear model, or a{advice[1:]}"),
    ):
        ours, theirs = rows(*cells)
        found = conclude_labels(ours, {"tfidf": theirs}, base="hf://a/b", linear=linear)
        assert found.verdict == ("worse" if cells[2] == 90 else "no better")
        text = found.sentences("en")
        assert text[-1] == remedy
        assert len(text) == (3 if linear else 2)
        if linear:
            assert ("Transformer helps" in text[1]) == (linear == "alone")
            assert "内蔵の線形分類器" in found.sentences("ja")[1]
        assert conclusions.Conclusion.from_dict(found.to_dict()) == found


def test_few_rows_are_said_to_be_few():
    ours, linear = rows(5, 1, 0, 1)
    assert "hold out more" in conclude_labels(ours, {"tfidf": linear}).sentences("en")[-1]
    one = conclude_labels(np.array([True]), {}, unit="image")
    assert "on 1 held-out image." in one.sentences("en")[0]


def test_several_labels_have_no_simpler_method():
    found = conclude_labels(np.arange(400) % 4 > 0, {}, several=True)
    assert found.verdict == "no baseline"
    low, high = proportion_interval(300, 400)
    assert found.sentences("en") == [
        f"Exact match of all labels: 75.0 % (95 %: {100 * low:.1f} to {100 * high:.1f}) on 400 "
        "held-out rows.",
        "There is no baseline for rows with several labels.",
    ]


def test_scored_pairs_are_compared_by_correlation():
    random = np.random.default_rng(7)
    scores = random.random(83)
    ours, theirs = scores + 0.1 * random.normal(size=83), random.random(83)
    found = conclude_pairs(ours, theirs, scores, spearman)
    assert found.score == pytest.approx(stats.spearmanr(ours, scores).statistic)
    assert found.baseline_score == pytest.approx(stats.spearmanr(theirs, scores).statistic)
    assert (found.verdict, found.baseline) == ("better", "tfidf_cosine")
    low, high = found.difference
    assert 0 < low < found.score - found.baseline_score < high
    assert conclude_pairs(np.zeros(83), theirs, scores, spearman) is None
    # TF-IDF knows no word of them: all of its cosines are 0.
    assert conclude_pairs(ours, np.zeros(83), scores, spearman).verdict == "no baseline"


def test_texts_have_their_scores_intervals():
    found = conclude_texts({"token_f1": 0.75}, ["a cat", "dog"] * 20, ["a cat", "cow"] * 20)
    assert (found.measure, found.count) == ("token_f1", 40)
    assert found.interval[0] < 0.5 < found.interval[1]
    assert conclude_texts({"bits_per_byte": 1.25}).sentences("en")[0] == (
        "Bits per byte: 1.250 on 1 held-out text."
    )
    assert conclude_texts({}) is None


def every_conclusion():
    ours, linear = rows(20, 3, 2, 1)
    yield conclude_texts({"perplexity": 3.0})
    yield conclude_texts(
        {"bleu": 100.0, "bleu_tokenize": "char"}, ["私は猫が好き"], ["私は猫が好き"]
    )
    for base in ("", conclusions.base_for(None), conclusions.base_for(["猫が好きです"])):
        for cells in ((200, 60, 10, 30), (200, 10, 60, 30), (5, 0, 0, 0)):
            ours, linear = rows(*cells)
            for name in ("majority", "tfidf", "pixels", "edges"):
                yield conclude_labels(ours, {name: linear}, "image", base)
            yield conclude_labels(ours, {}, several=True)
            yield conclude_pairs(ours, linear, None, spearman, base)


def test_every_conclusion_is_json_and_fits_a_terminal():
    for found in every_conclusion():
        written = json.loads(json.dumps(found.to_dict(), allow_nan=False))
        assert Conclusion.from_dict(written) == found
        english, japanese = (written["sentences"][code] for code in wording.LANGUAGES)
        assert len(english) == len(japanese) > 0
        for sentence in (*english, *japanese):
            assert sentence[-1] in ".。" and "{" not in sentence
            lines = wrapped(sentence, 79)
            assert max(map(width, lines)) <= 79
            assert "".join(lines).replace(" ", "") == sentence.replace(" ", "")


# The language


def test_the_language_is_of_the_flag_the_variable_or_the_locale(monkeypatch):
    for name in ("TFX_LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    assert wording.language() == "en"
    monkeypatch.setenv("LANG", "ja_JP.UTF-8")
    assert wording.language() == "ja"
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    assert wording.language() == "en"
    monkeypatch.setenv("TFX_LANGUAGE", "ja")
    assert wording.language() == "ja"
    monkeypatch.setattr(wording, "_language", None)
    wording.use("en")
    assert wording.language() == "en"
    wording.use(None)
    monkeypatch.setenv("TFX_LANGUAGE", "fr")
    with pytest.raises(InputError, match="TFX_LANGUAGE is 'fr'.\n  Expected one of: en, ja"):
        wording.language()


def test_texts_have_the_same_fields_in_both_languages():
    import string

    for name, texts in wording.TEXTS.items():
        english, japanese = (
            {field for _, field, _, _ in string.Formatter().parse(text) if field} for text in texts
        )
        assert english == japanese, name


# What to type next


@pytest.mark.parametrize(
    ("config", "settings"),
    [
        ({"task": "classification"}, {"text": "mail body", "label": "kind", "separator": "|"}),
        ({"task": "classification"}, {"text": "title,body", "label": "label"}),
        ({"task": "classification", "image": True}, {}),
        ({"task": "seq2seq"}, {"source": "en", "target": "target"}),
        ({"task": "causal", "chat": True}, {"instruction": "question", "output": "-x"}),
        ({"task": "causal"}, {}),
        ({"task": "masked"}, {}),
        ({"task": "embedding"}, {"first": "source"}),
    ],
)
def test_the_next_commands_are_commands(monkeypatch, tmp_path, config, settings):
    architecture = {"image_size": 32 if config.pop("image", False) else 0}
    known = config | {"architecture": architecture}
    monkeypatch.setattr(closing.bundle, "read_config", lambda path: known)
    path = tmp_path / "my model"
    commands = closing.next_commands(path, settings)
    assert len(commands) == 2
    for command in commands:
        if command[1] == "run":
            assert command[5:7] == ["--base", path.as_posix()]
            continue
        given = parser().parse_args(command[1:])
        assert given.bundle.as_posix() == path.as_posix()
        if "text" in settings and command[1] == "predict":
            assert given.column == (settings["text"] if "," not in settings["text"] else None)
    lines = closing.ending(None, path, settings)
    assert lines[:2] == ["", "Next:"]
    typed = " ".join(" ".join(lines[2:]).replace("\\ ", "").split())
    assert typed.count("tfx-transformer ") == 2
