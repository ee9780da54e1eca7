"""The verb tokens: what it counts, how it shows it, and how it refuses."""

import csv
import html.parser
import inspect
import json
import os
import re
import sys

import pytest
import tiktoken
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tfx_transformer import bundle
from tfx_transformer.cli import terminal
from tfx_transformer.text import counting, splitters
from tfx_transformer.text.token_page import token_page
from tfx_transformer.text.tokenizer import Tokenizer

ENGLISH = ["I love cats.", "She loves dogs, too.", "We have birds."]
JAPANESE = ["私は猫が好きです。", "彼女は犬も大好きです。", "私たちは鳥を飼っています。"]
COLOUR = re.compile(r"\x1b\[48;5;(\d+)m\x1b\[38;5;16m(.*?)\x1b\[0m")


@pytest.fixture
def tokenizer(tmp_path):
    made = Tokenizer.train([*ENGLISH, *JAPANESE], 300)
    made.save(tmp_path / "mine.json")
    return made


@pytest.fixture
def parallel(tmp_path):
    with (tmp_path / "my.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(
            [("source", "target", "note"), *zip(ENGLISH, JAPANESE, ["", "x", ""], strict=True)]
        )


@pytest.fixture
def in_a_terminal(command, monkeypatch):
    """The command where standard output is a terminal of 40 columns."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "40")

    def run(*arguments):
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        return command(*arguments)

    return run


# Figures


def test_texts_and_files_by_a_bundles_tokenizer(command, tokenizer, tmp_path):
    with bundle.writing(tmp_path / "models" / "small") as folder:
        bundle.write_config(folder, {"format": bundle.FORMAT, "architecture": {}})
        bundle.write_tokenizer(folder, tokenizer)
    (tmp_path / "file.txt").write_text("She loves cats. 猫", encoding="utf-8")
    long = "very " * 100  # longer than a file's name may be
    given = ["I love cats.", "file.txt", "猫", "", long]
    status, output, _ = command("tokens", *given, "--bundle", "models/small", "--json")
    rows = json.loads(output)["texts"]
    assert status == 0
    texts = ["I love cats.", "She loves cats. 猫", "猫", "", long]
    assert [row["text"] for row in rows] == given
    assert [row["tokens"] for row in rows] == [
        {"small": len(tokenizer.tiktoken.encode_ordinary(t))} for t in texts
    ]
    assert [row["characters"] for row in rows] == [12, 17, 1, 0, 500]
    assert [row["bytes"] for row in rows] == [12, 19, 3, 0, 500]
    languages = ["English", "English", "Japanese", "other", "English"]
    assert [row["language"] for row in rows] == languages
    shown = "|".join(tokenizer.tokens(tokenizer.encode("I love cats.")))
    output = command("tokens", "I love cats.", "--bundle", "models/small")[1]
    assert f"  {shown}\n" in output


def test_several_tokenizers_side_by_side(command, tokenizer):
    text = "I love cats.\n私は猫が好きです。"
    flags = ["--encoding", "bytes", "--tokenizer", "mine.json"]
    status, output, _ = command("tokens", text, *flags, "--json")
    byte, mine = json.loads(output)["tokenizers"]
    assert status == 0
    assert (byte["name"], byte["vocabulary_size"], byte["tokens"]) == ("bytes", 256, 40)
    count = len(tokenizer.encode(text))
    assert (mine["name"], mine["vocabulary_size"]) == ("mine", tokenizer.vocabulary_size)
    assert (mine["tokens"], mine["characters"], mine["bytes"]) == (count, 22, 40)
    assert mine["tokens_per_character"] == round(count / 22, 3)
    assert mine["tokens_per_byte"] == round(count / 40, 3)
    languages = mine["languages"]
    assert languages["Japanese"]["tokens"] == len(tokenizer.encode("私は猫が好きです。"))
    assert languages["English"]["tokens"] == len(tokenizer.encode("I love cats.\n"))
    assert byte["languages"]["Japanese"]["tokens_per_character"] == 3


def test_without_a_tokenizer_bytes_are_counted_and_it_says_so(command):
    status, output, _ = command("tokens", "猫s")
    assert status == 0
    assert "bytes  4  \\xe7|\\x8c|\\xab|s\n" in output
    assert output.endswith("No tokenizer is named, so each byte counts as one token.\n")
    assert "No tokenizer" not in command("tokens", "猫s", "--encoding", "bytes")[1]


def test_an_encoding_of_tiktoken(command, monkeypatch):
    ranks = {bytes([n]): n for n in range(256)} | {b"ca": 256, b"cat": 257}
    mine = tiktoken.Encoding("mine", pat_str=r"\w+|\W", mergeable_ranks=ranks, special_tokens={})
    monkeypatch.setattr(splitters, "offline_encoding", {"mine": mine}.__getitem__)
    output = command("tokens", "a cat", "--encoding", "mine")[1]
    assert "mine  3  a| |cat\n" in output


def test_tokenizers_of_one_name_are_told_apart(command, tokenizer, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        tokenizer.save(tmp_path / folder / "same.json")
        tokenizer.save(tmp_path / folder / "tokenizer.json")
    paths = ["a/same.json", "b/same.json", "a/tokenizer.json", "b/tokenizer.json", "a/same.json"]
    flags = [part for path in paths for part in ("--tokenizer", path)]
    told = json.loads(command("tokens", "x", *flags, "--json")[1])
    assert [row["name"] for row in told["tokenizers"]] == ["a/same.json", "b/same.json", "a", "b"]


def test_parallel_columns_tell_what_japanese_costs(command, tokenizer, parallel):
    japanese, english = (
        sum(len(tokenizer.encode(text)) for text in texts) for texts in (JAPANESE, ENGLISH)
    )
    times = japanese / english
    per_character = times * len("".join(ENGLISH)) / len("".join(JAPANESE))
    per_byte = times * len("".join(ENGLISH)) / len("".join(JAPANESE).encode())
    flags = ["--csv", "my.csv", "--tokenizer", "mine.json"]
    for first, second in (("source", "target"), ("target", "source")):
        columns = ["--column", first, "--parallel", second]
        output = command("tokens", *flags, *columns)[1]
        assert output.endswith(
            f"mine: Japanese costs {times:.2f} times English (per character "
            f"{per_character:.2f}, per byte {per_byte:.2f} times; 3 rows)\n"
        )
        assert f"row 2, '{first}'  " in output
        told = json.loads(command("tokens", *flags, *columns, "--json")[1])
        assert (told["rows"], told["bad_rows"]) == (3, [])
        assert told["tokenizers"][0]["tokens"] == japanese + english
        assert told["comparison"] == {
            "one": "Japanese",
            "other": "English",
            "rows": 3,
            "ratios": {
                "mine": {
                    "tokens": round(times, 3),
                    "per_character": round(per_character, 3),
                    "per_byte": round(per_byte, 3),
                }
            },
        }


def test_a_column_may_have_empty_cells_but_not_beside_a_text(command, parallel):
    told = json.loads(command("tokens", "--csv", "my.csv", "--column", "note", "--json")[1])
    assert (told["rows"], told["tokenizers"][0]["tokens"]) == (3, 1)
    columns = ["--csv", "my.csv", "--column", "source", "--parallel", "note"]
    status, _, errors = command("tokens", *columns)
    assert status == 2 and errors.startswith("my.csv, row 2: column 'note' is empty.")
    told = json.loads(command("tokens", *columns, "--skip-bad-rows", "--json")[1])
    assert told["rows"] == 1 and [bad[:2] for bad in told["bad_rows"]] == [[2, "note"], [4, "note"]]


def test_a_file_longer_than_a_slice_counts_as_a_whole(command, tokenizer, tmp_path):
    text = "I love cats.\r\n私は猫が好きです。\n" * 1500
    (tmp_path / "long.txt").write_bytes(text.encode())
    told = json.loads(command("tokens", "long.txt", "--tokenizer", "mine.json", "--json")[1])
    whole = tokenizer.tiktoken.encode_ordinary(text)
    assert told["texts"][0]["tokens"] == {"mine": len(whole)}
    assert told["texts"][0]["bytes"] == len(text.encode())
    output = command("tokens", "long.txt", "--tokenizer", "mine.json")[1]
    assert f"… and {len(whole) - 100:,} more\n" in output


# In a terminal


def test_colours_mark_the_tokens_and_lines_fit(tokenizer, in_a_terminal):
    text = "I love cats. 私は猫が好きです。" * 3
    output = in_a_terminal("tokens", text, "--tokenizer", "mine.json")[1]
    shown = COLOUR.findall(output)
    assert [piece for _, piece in shown] == tokenizer.tokens(tokenizer.encode(text))
    colours = [colour for colour, _ in shown]
    assert all(a != b for a, b in zip(colours, colours[1:], strict=False))
    lines = [line for line in output.splitlines() if COLOUR.search(line)]
    assert len(lines) > 2
    assert all(terminal.width(COLOUR.sub(r"\2", line)) <= 40 for line in lines)


@pytest.mark.parametrize("refusal", [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_colours_can_be_refused(in_a_terminal, monkeypatch, refusal):
    assert "\x1b" in in_a_terminal("tokens", "a cat")[1]
    monkeypatch.setenv(*refusal)
    assert "\x1b" not in in_a_terminal("tokens", "a cat")[1]


def test_a_text_cannot_steer_the_terminal(in_a_terminal):
    output = in_a_terminal("tokens", "a\x1b[31mb\r\x07")[1]
    assert [piece for _, piece in COLOUR.findall(output)][:3] == ["a", r"\x1b", "["]
    assert not set("\x1b\r\x07") & set(COLOUR.sub("", output))


def test_columns_meet_below_wide_characters():
    rows = [["name", "言語", "n"], ["猫", "日本語", "1"], ["e\u0301", "other", "1,234"]]
    lines = terminal.align(rows, words=2)
    assert lines == ["name  言語        n", "猫    日本語      1", "e\u0301     other   1,234"]
    assert {terminal.width(line) for line in lines} == {19}


@given(st.text(max_size=50), st.integers(1, 30))
@example("日本語日本語", 5)
def test_a_shortened_text_fits_and_is_its_beginning(text, columns):
    short = terminal.shorten(text, columns)
    assert terminal.width(short) <= columns
    assert short == text or (short[-1] == "…" and text.startswith(short[:-1]))


# Pages and pictures


class _Reader(html.parser.HTMLParser):
    """Collects tags, and what stands in spans, by paragraph."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.tokens, self.titles, self.in_span = [], [], [], False
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag == "p":
            self.tokens.append([])
        if tag == "span":
            self.tokens[-1].append("")
            self.titles.append(dict(attributes)["title"])
            self.in_span = True

    def handle_endtag(self, tag):
        self.in_span = self.in_span and tag != "span"

    def handle_data(self, data):
        if self.in_span:
            self.tokens[-1][-1] += data


@given(st.text(min_size=1, max_size=40))
@example("<script>alert('x')</script>&amp;\"{}")
@example("</span></p><img src=x onerror=y>")
@settings(max_examples=50)
def test_the_page_shows_every_token_and_runs_none(text):
    text = splitters.clean(text)
    splitter = splitters.byte_splitter()
    shown, tally = counting.sample(text, [text], [splitter])
    page = token_page(text, [text], [shown], counting.table(tally), [text])
    read = _Reader(page)
    (tokens,) = [found for found in read.tokens if found]
    assert tokens == [token.shown() for token in shown.tokens[0]]
    assert read.titles[0].startswith(f"id {text.encode()[0]}, bytes {text.encode()[:1].hex()}")
    outer = {"html", "head", "meta", "title", "style", "body", "h1", "h2", "h3", "small", "div"}
    assert {tag for tag, _ in read.tags} <= outer | {"table", "tr", "th", "td", "p", "span", "wbr"}
    assert not {"src", "href", "onerror"} & {name for _, given in read.tags for name in given}


def test_a_page_and_a_picture_are_written(command, tokenizer, tmp_path):
    texts = ["I love cats.", "私は猫が好きです。"]
    flags = ["--tokenizer", "mine.json", "--html", "my.html", "--png", "my.png"]
    status, _, errors = command("tokens", *texts, *flags)
    assert (status, errors) == (0, "")
    assert sorted(os.listdir(tmp_path)) == ["mine.json", "my.html", "my.png"]
    page = (tmp_path / "my.html").read_text(encoding="utf-8")
    assert [found for found in _Reader(page).tokens if found] == [
        tokenizer.tokens(tokenizer.encode(text)) for text in texts
    ]
    assert "<td>English</td>" in page and 'lang="ja"' in page
    assert (tmp_path / "my.png").read_bytes().startswith(b"\x89PNG")


def test_a_failed_write_leaves_the_old_page(command, tmp_path, monkeypatch):
    (tmp_path / "my.html").write_text("old")
    monkeypatch.setattr("tfx_transformer.cli.tokens.os.replace", _fail)
    assert command("tokens", "a", "--html", "my.html")[0] == 1
    assert os.listdir(tmp_path) == ["my.html"]
    assert (tmp_path / "my.html").read_text() == "old"


def _fail(*_):
    raise OSError("disk full")


# Bad input


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "there is nothing to count."),
        (["x", "--csv", "my.csv"], "there are texts and --csv."),
        (["x", "--parallel", "target"], "--parallel is a column of --csv."),
        (["x", "--bundle", "nowhere"], "nowhere is not a bundle"),
        (["x", "--tokenizer", "nowhere.json"], "nowhere.json: cannot be read as a tokenizer"),
        (["x", "--tokenizer", "my.csv"], "my.csv: not a tokenizer.json"),
        (["x", "--encoding", "gpt7"], "--encoding gpt7: tiktoken has no encoding of that name."),
        (["x", "--html", "no/a.html"], "--html no/a.html cannot be written."),
        (["x", "--png", "."], "--png . cannot be written."),
        (["my.csv"], "my.csv: which column?\n  Give --csv my.csv --column NAME."),
        (["--csv", "my.csv"], "my.csv, row 1: there is no column 'text'."),
        (["--csv", "no.csv"], "no.csv: there is no such file."),
        (["old.txt"], "old.txt, line 1: not UTF-8 text, from byte 3 of the file on (0xe9)."),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_arguments(command, parallel, tmp_path, arguments, message):
    (tmp_path / "old.txt").write_bytes(b"caf\xe9")
    before = sorted(os.listdir(tmp_path))
    status, output, errors = command("tokens", *arguments)
    assert (status, output) == (2, "")
    assert errors.startswith(message)
    assert all(line.startswith("  ") for line in errors.splitlines()[1:])
    assert sorted(os.listdir(tmp_path)) == before


def test_a_table_is_read_as_the_flags_say(command, tmp_path):
    (tmp_path / "my.csv").write_bytes("text\tnote\nはい\tx\nいいえ\ty\n".encode("cp932"))
    flags = ("--csv", "my.csv", "--table-encoding", "cp932", "--delimiter", "tab")
    status, output, errors = command("tokens", *flags, "--json")
    assert status == 0, errors
    counted = json.loads(output)["tokenizers"][0]
    assert (counted["characters"], counted["bytes"]) == (5, 15), "of はい and いいえ in UTF-8"
    status, _, errors = command("tokens", "a text", "--delimiter", "tab")
    assert status == 2 and "--delimiter is for a table, and no table is given" in errors


def test_every_verb_that_reads_a_table_has_the_flags():
    from tfx_transformer.cli import VERBS

    known = {name: parameters_of(verb) for name, verb in VERBS.items()}
    reading = {name for name, names in known.items() if names & {"csv", "check"}}
    assert reading >= {"classify", "embed", "export", "generate", "similar", "tag", "tokens"}
    assert {name for name in reading if "reading" not in known[name]} == set()


def parameters_of(verb):
    return set(inspect.signature(verb).parameters) if inspect.isfunction(verb) else set()
