"""The data sets of the causal models: instructions, held-out instructions and the text they ask.

The oracles are the wordings listed here (every row is one of them, filled in) and arithmetic, the
calendar, sizes and the text itself.
"""

import calendar
import collections
import csv
import functools
import re
import string
import unicodedata
from typing import NamedTuple

import pytest

from tfx_transformer import resources

TRAINING, HELD_OUT = "instructions.csv", "instructions_heldout.csv"
FILES = [TRAINING, HELD_OUT, "pretraining.txt"]
SPECIAL = re.compile(r"<s>|</s>|<pad>|<\|")

# Family, language of the instruction, its wordings. What follows " | " stands in the column input.
# {a} and {b} are what is asked about; {x} and {y} may be anything.
WORDINGS = {
    ("to japanese", "en"): [
        "Translate into Japanese. | {a}",
        "Say this in Japanese. | {a}",
        "Translate into Japanese: {a}",
        'How do you say "{a}" in Japanese?',
    ],
    ("to japanese", "ja"): [
        "日本語にしてください。 | {a}",
        "日本語で何と言いますか。 | {a}",
        "「{a}」を日本語にしてください。",
        "「{a}」は日本語で何と言いますか。",
    ],
    ("to english", "en"): [
        "Translate into English. | {a}",
        "Say this in English. | {a}",
        "Translate into English: {a}",
        'How do you say "{a}" in English?',
    ],
    ("to english", "ja"): [
        "英語にしてください。 | {a}",
        "英語で何と言いますか。 | {a}",
        "「{a}」を英語にしてください。",
        "「{a}」は英語で何と言いますか。",
    ],
    ("opposite", "en"): [
        "What is the opposite of {a}?",
        'Which word is the opposite of "{a}"?',
        "Tell me the opposite of {a}.",
        "I say {a}. Say the opposite.",
        "Say the opposite. | {a}",
    ],
    ("opposite", "ja"): [
        "「{a}」の反対は何ですか。",
        "「{a}」の反対の言葉は何ですか。",
        "「{a}」の反対を教えてください。",
        "「{a}」の反対を言ってください。",
        "反対の言葉を言ってください。 | {a}",
    ],
    ("kind", "en"): [
        "What kind of thing is {a}?",
        "Tell me what kind of thing {a} is.",
        "Do you know what kind of thing {a} is?",
        "Is {a} {x} or {y}?",
        "What kind of thing is this? | {a}",
    ],
    ("kind", "ja"): [
        "{a}は何の仲間ですか。",
        "{a}が何の仲間か教えてください。",
        "{a}が何の仲間か知っていますか。",
        "{a}は{x}の仲間ですか、{y}の仲間ですか。",
        "何の仲間ですか。 | {a}",
    ],
    ("plus", "en"): [
        "What is {a} plus {b}?",
        "How much is {a} plus {b}?",
        "Add {a} and {b}.",
        "Tom has {a} apples and buys {b} more. How many are there now?",
        "Work it out. | {a} plus {b}",
    ],
    ("plus", "ja"): [
        "{a}たす{b}はいくつですか。",
        "{a}に{b}をたしてください。",
        "{a}と{b}をたすといくつになりますか。",
        "りんごが{a}個あります。{b}個もらいました。今はいくつですか。",
        "計算してください。 | {a}たす{b}",
    ],
    ("minus", "en"): [
        "What is {a} minus {b}?",
        "How much is {a} minus {b}?",
        "Take {b} from {a}.",
        "Tom has {a} apples and eats {b}. How many are there now?",
        "Work it out. | {a} minus {b}",
    ],
    ("minus", "ja"): [
        "{a}ひく{b}はいくつですか。",
        "{a}から{b}をひいてください。",
        "{a}から{b}をひくといくつになりますか。",
        "りんごが{a}個あります。{b}個あげました。今はいくつですか。",
        "計算してください。 | {a}ひく{b}",
    ],
    ("plural", "en"): [
        "What is the plural of {a}?",
        "Tell me the plural of {a}.",
        "What do you call more than one {a}?",
        "One {a}, two what?",
        "Write the plural. | {a}",
    ],
    ("past", "en"): [
        "What is the past tense of {a}?",
        "Tell me the past tense of {a}.",
        'Put "{a}" into the past tense.',
        "Today I {a}. What did I do yesterday?",
        "Write the past tense. | {a}",
    ],
    ("past", "ja"): [
        "「{a}」の過去の形は何ですか。",
        "「{a}」の過去の形を教えてください。",
        "「{a}」を過去の形にしてください。",
        "「{a}」の過去は何ですか。",
        "過去の形にしてください。 | {a}",
    ],
    ("polite", "ja"): [
        "「{a}」の丁寧な形は何ですか。",
        "「{a}」の丁寧な形を教えてください。",
        "「{a}」を丁寧な形にしてください。",
        "「{a}」は丁寧に何と言いますか。",
        "丁寧な形にしてください。 | {a}",
    ],
    ("bigger", "en"): [
        "Which is bigger, {a} or {b}?",
        "Tell me which is bigger, {a} or {b}.",
        "Of {a} and {b}, which is bigger?",
        "Which is bigger? | {a} or {b}",
    ],
    ("bigger", "ja"): [
        "{a}と{b}では、どちらが大きいですか。",
        "{a}と{b}のどちらが大きいか教えてください。",
        "{a}と{b}、大きいのはどちらですか。",
        "どちらが大きいですか。 | {a}と{b}",
    ],
    ("smaller", "en"): [
        "Which is smaller, {a} or {b}?",
        "Tell me which is smaller, {a} or {b}.",
        "Of {a} and {b}, which is smaller?",
        "Which is smaller? | {a} or {b}",
    ],
    ("smaller", "ja"): [
        "{a}と{b}では、どちらが小さいですか。",
        "{a}と{b}のどちらが小さいか教えてください。",
        "{a}と{b}、小さいのはどちらですか。",
        "どちらが小さいですか。 | {a}と{b}",
    ],
    ("color", "en"): [
        "What color is {a}?",
        "What is the color of {a}?",
        "Tell me the color of {a}.",
        "Which color is {a}: {x} or {y}?",
        "What color is this? | {a}",
    ],
    ("color", "ja"): [
        "{a}は何色ですか。",
        "{a}の色は何ですか。",
        "{a}の色を教えてください。",
        "{a}の色は{x}ですか、{y}ですか。",
        "何色ですか。 | {a}",
    ],
    ("after", "en"): [
        "What comes after {a}?",
        "Tell me what comes after {a}.",
        "What is the {x} after {a}?",
        "Today is {a}. What day is tomorrow?",
        "What comes after this? | {a}",
    ],
    ("after", "ja"): [
        "{a}の次は何ですか。",
        "{a}の次を教えてください。",
        "{a}の次に来るのは何ですか。",
        "今日は{a}です。明日は何曜日ですか。",
        "次は何ですか。 | {a}",
    ],
    ("before", "en"): [
        "What comes before {a}?",
        "Tell me what comes before {a}.",
        "What is the {x} before {a}?",
        "Today is {a}. What day was yesterday?",
        "What comes before this? | {a}",
    ],
    ("before", "ja"): [
        "{a}の前は何ですか。",
        "{a}の前を教えてください。",
        "{a}の前に来るのは何ですか。",
        "今日は{a}です。昨日は何曜日でしたか。",
        "前は何ですか。 | {a}",
    ],
    ("who", "en"): [
        "Who {a}?",
        "Tell me who {a}.",
        "Do you know who {a}?",
        "Which person in Midori {a}?",
        "Who is this? | This person {a}.",
    ],
    ("who", "ja"): [
        "{a}のは誰ですか。",
        "{a}のが誰か教えてください。",
        "{a}のが誰か知っていますか。",
        "みどり村の誰が{a}のですか。",
        "誰ですか。 | {a}人",
    ],
    ("name", "en"): [
        "What is the name of {a}?",
        "Tell me the name of {a}.",
        "Do you know the name of {a}?",
        "What is the name? | {a}",
        "Who is {a}?",
    ],
    ("name", "ja"): [
        "{a}の名前は何ですか。",
        "{a}の名前を教えてください。",
        "{a}の名前を知っていますか。",
        "名前は何ですか。 | {a}",
        "{a}は誰ですか。",
    ],
    ("work", "en"): [
        "What is {a}'s work?",
        "Tell me what {a}'s work is.",
        "Do you know what {a}'s work is?",
        "What is the work of {a}?",
        "What is the work of this person? | {a}",
    ],
    ("work", "ja"): [
        "{a}の仕事は何ですか。",
        "{a}の仕事を教えてください。",
        "{a}の仕事を知っていますか。",
        "{a}はどんな仕事をしていますか。",
        "仕事は何ですか。 | {a}",
    ],
    ("home", "en"): [
        "Where does {a} live?",
        "Tell me where {a} lives.",
        "Do you know where {a} lives?",
        "Where is {a}'s house?",
        "Where does this person live? | {a}",
    ],
    ("home", "ja"): [
        "{a}はどこに住んでいますか。",
        "{a}がどこに住んでいるか教えてください。",
        "{a}がどこに住んでいるか知っていますか。",
        "{a}の家はどこですか。",
        "どこに住んでいますか。 | {a}",
    ],
    ("likes", "en"): [
        "What does {a} like?",
        "Tell me what {a} likes.",
        "Do you know what {a} likes?",
        "What does {a} like best?",
        "What does this person like? | {a}",
    ],
    ("likes", "ja"): [
        "{a}は何が好きですか。",
        "{a}が好きな物は何ですか。",
        "{a}が好きな物を教えてください。",
        "{a}が好きな物を知っていますか。",
        "何が好きですか。 | {a}",
    ],
    ("season", "en"): [
        "In what season is {a}?",
        "Tell me the season of {a}.",
        "Do you know the season of {a}?",
        "What is the season of {a}?",
        "In what season is this? | {a}",
    ],
    ("season", "ja"): [
        "{a}はどの季節にありますか。",
        "{a}の季節を教えてください。",
        "{a}の季節を知っていますか。",
        "{a}があるのはどの季節ですか。",
        "どの季節ですか。 | {a}",
    ],
    ("month", "en"): [
        "In what month is {a}?",
        "Tell me the month of {a}.",
        "Do you know the month of {a}?",
        "What is the month of {a}?",
        "In what month is this? | {a}",
    ],
    ("month", "ja"): [
        "{a}は何月にありますか。",
        "{a}が何月か教えてください。",
        "{a}が何月か知っていますか。",
        "{a}があるのは何月ですか。",
        "何月ですか。 | {a}",
    ],
}
ONE_LANGUAGE = {"plural", "polite"}
PORTRAITS = {"work", "home", "likes"}
ABOUT_THE_TEXT = PORTRAITS | {"who", "name", "season", "month", "color"}

NUMBERS = {
    "en": ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"],
    "ja": list("零一二三四五六七八九十"),
}
# Each circle in its order.
CIRCLES = {
    "en": [calendar.day_name[:], calendar.month_name[1:], ["spring", "summer", "autumn", "winter"]],
    "ja": [
        [f"{day}曜日" for day in "月火水木金土日"],
        [f"{number}月" for number in [*NUMBERS["ja"][1:], "十一", "十二"]],
        list("春夏秋冬"),
    ],
}
# From small to big.
SIZES = {
    "en": [
        "an ant",
        "a mouse",
        "a cat",
        "a dog",
        "a horse",
        "an elephant",
        "a house",
        "a mountain",
    ],
    "ja": ["あり", "ねずみ", "猫", "犬", "馬", "象", "家", "山"],
}


class Asked(NamedTuple):
    """A row, told apart into the wording and what it is filled with."""

    family: str
    language: str
    wording: str
    item: tuple[str, ...]
    choices: tuple[str, ...]
    answer: str


def read(name: str) -> list[tuple[str, str, str]]:
    with resources.dataset_path(name).open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file, strict=True))
    assert rows[0] == ["instruction", "input", "output"]
    assert all(len(row) == 3 for row in rows)
    return [tuple(row) for row in rows[1:]]


def text_of(name: str) -> str:
    return resources.dataset_path(name).read_bytes().decode("utf-8")


def to_pattern(wording: str) -> re.Pattern:
    """A wording as a regular expression with its fields as groups; an article is no item."""
    pattern = ""
    for text, field, *_ in string.Formatter().parse(wording):
        pattern += re.escape(text) + (f"(?P<{field}>(?:an? |the )?.+?)" if field else "")
    return re.compile(pattern)


# Those that say most come first: "Who is {a}?" before "Who {a}?".
PATTERNS = sorted(
    (
        (family, language, wording, to_pattern(wording))
        for (family, language), wordings in WORDINGS.items()
        for wording in wordings
    ),
    key=lambda row: len(re.sub(r"{.}", "", row[2])),
    reverse=True,
)


def told_apart(row: tuple[str, str, str]) -> Asked:
    instruction, given, answer = row
    question = f"{instruction} | {given}" if given else instruction
    for family, language, wording, pattern in PATTERNS:
        if match := pattern.fullmatch(question):
            fields = match.groupdict()
            item = tuple(fields[name] for name in "ab" if name in fields)
            choices = tuple(fields[name] for name in "xy" if name in fields)
            return Asked(family, language, wording, item, choices, answer)
    raise AssertionError(f"{question!r} is worded in no known way")


@functools.cache
def asked(name: str) -> list[Asked]:
    return [told_apart(row) for row in read(name)]


def everything() -> list[Asked]:
    return asked(TRAINING) + asked(HELD_OUT)


def of_family(*families: str) -> list[Asked]:
    return [row for row in everything() if row.family in families]


def words(text: str) -> set[str]:
    """English words in small letters, runs of kanji and of katakana."""
    return set(re.findall(r"[a-z]+|[一-龠々]+|[ァ-ヶー]+", text.casefold().replace("'s", "")))


# Form


@pytest.mark.parametrize("name", FILES)
def test_the_bytes(name):
    text = text_of(name)
    assert text == unicodedata.normalize("NFC", text)
    assert text.endswith("\n") and not text.endswith("\n\n")
    assert not re.search(r"[\r\t\ufeff\u3000]|[ ]\n|\n[ ]|  ", text)
    assert not SPECIAL.search(text)
    assert not [c for c in text if c != "\n" and unicodedata.category(c)[0] == "C"]


@pytest.mark.parametrize("name", [TRAINING, HELD_OUT])
def test_the_cells(name):
    rows = read(name)
    assert all(cell == cell.strip() and "\n" not in cell for row in rows for cell in row)
    assert all(instruction and output for instruction, _, output in rows)
    assert all(1 <= len(output.split()) <= 12 for *_, output in rows)
    assert all(len(output) <= 40 for *_, output in rows)
    share = sum(bool(given) for _, given, _ in rows) / len(rows)
    assert 0.15 < share < 0.35


def test_there_is_enough_and_not_too_much():
    assert 1200 <= len(read(TRAINING)) <= 1800
    assert 100 <= len(read(HELD_OUT)) <= 150
    assert 25_000 <= len(text_of("pretraining.txt").encode()) <= 40_000


def test_the_answer_is_a_function_of_the_question():
    rows = read(TRAINING) + read(HELD_OUT)
    assert len({row[:2] for row in rows}) == len(rows)


def test_one_item_has_one_answer_however_it_is_asked():
    answers = collections.defaultdict(set)
    for row in everything():
        answers[row.family, row.language, row.item].add(row.answer)
    assert not {item: found for item, found in answers.items() if len(found) > 1}


# Families


def test_every_wording_is_used_with_several_items():
    used = collections.Counter(row.wording for row in asked(TRAINING))
    assert not [wording for *_, wording, _ in PATTERNS if used[wording] < 3]


@pytest.mark.parametrize("name", [TRAINING, HELD_OUT])
def test_every_family_is_there_in_both_languages(name):
    languages = collections.defaultdict(set)
    for row in asked(name):
        languages[row.family].add(row.language)
    assert set(languages) == {family for family, _ in WORDINGS}
    assert {family for family, found in languages.items() if len(found) == 1} == ONE_LANGUAGE
    for language in ("en", "ja"):
        share = sum(row.language == language for row in asked(name)) / len(asked(name))
        assert 0.4 < share < 0.6


# Answers


def test_sums():
    for row in of_family("plus", "minus"):
        numbers = NUMBERS[row.language]
        a, b = map(numbers.index, row.item)
        expected = a + b if row.family == "plus" else a - b
        assert row.answer == numbers[expected], row


def test_what_comes_next():
    for row in of_family("after", "before"):
        step = 1 if row.family == "after" else -1
        (item,) = row.item
        for circle in [*CIRCLES[row.language], NUMBERS[row.language]]:
            if item in circle:
                assert row.answer == circle[(circle.index(item) + step) % len(circle)], row
                break
        else:
            pytest.fail(f"{row} is about nothing in order")


def test_sizes():
    for row in of_family("bigger", "smaller"):
        scales = (SIZES[row.language], NUMBERS[row.language])
        (scale,) = (scale for scale in scales if set(row.item) <= set(scale))
        choose = max if row.family == "bigger" else min
        assert row.answer == choose(row.item, key=scale.index), row


def test_the_answer_is_one_of_the_choices():
    rows = [row for row in of_family("kind", "color") if row.choices]
    assert len(rows) > 30
    assert all(row.answer in row.choices and len(set(row.choices)) == 2 for row in rows)
    first = sum(row.answer == row.choices[0] for row in rows) / len(rows)
    assert 0.3 < first < 0.7, "where the answer stands must not give it away"


@pytest.mark.parametrize("language", ["en", "ja"])
def test_opposites_go_both_ways(language):
    opposite = {r.item[0]: r.answer for r in of_family("opposite") if r.language == language}
    assert all(opposite[answer] == word for word, answer in opposite.items())


def test_translations_go_both_ways():
    there = {row.item[0]: row.answer for row in of_family("to japanese")}
    back = {row.answer: row.item[0] for row in of_family("to english")}
    assert there == back


def test_the_text_holds_the_answers():
    paragraphs = text_of("pretraining.txt").split("\n\n")
    rows = of_family(*ABOUT_THE_TEXT)
    assert len(rows) > 300
    for row in rows:
        # What somebody is like stands in a paragraph that begins with the name.
        beginning = row.item[0] if row.family in PORTRAITS else ""
        asked_for = words(" ".join([*row.item, row.answer])) - {"a", "an"}
        assert asked_for
        assert any(p.startswith(beginning) and asked_for <= words(p) for p in paragraphs), row


def test_the_text_says_who_did_it_in_these_words():
    text = text_of("pretraining.txt")
    rows = [row for row in of_family("who") if row.language == "en"]
    assert not [row for row in rows if f"{row.answer} {row.item[0]}" not in text]


# Held out


def test_held_out_questions_are_known_from_other_wordings():
    taught = collections.defaultdict(list)
    for row in asked(TRAINING):
        taught[row.family, row.item].append((row.wording, row.answer))
    used = collections.Counter(row.wording for row in asked(TRAINING))
    for row in asked(HELD_OUT):
        known = taught[row.family, row.item]
        assert row.wording not in {wording for wording, _ in known}, row
        assert [answer for _, answer in known].count(row.answer) >= 3, row
        assert used[row.wording] >= 3, row


def test_held_out_words_and_characters_are_known():
    training = " ".join(cell for row in read(TRAINING) for cell in row)
    held_out = " ".join(cell for row in read(HELD_OUT) for cell in row)
    assert set(held_out) <= set(training)
    assert words(held_out) <= words(training)


def test_held_out_rows_are_of_many_families():
    counted = collections.Counter((row.family, row.language) for row in asked(HELD_OUT))
    assert max(counted.values()) <= len(asked(HELD_OUT)) / 8


# The text


def test_the_text_is_in_paragraphs_of_one_language():
    paragraphs = text_of("pretraining.txt").rstrip("\n").split("\n\n")
    assert len(paragraphs) == len(set(paragraphs)) > 80
    assert not [p for p in paragraphs if "\n" in p or not p]
    japanese = [bool(re.search(r"[ぁ-ん]", paragraph)) for paragraph in paragraphs]
    assert 0.4 < sum(japanese) / len(japanese) < 0.6
    english = [p for p, is_japanese in zip(paragraphs, japanese, strict=True) if not is_japanese]
    assert all(paragraph.isascii() for paragraph in english)


def test_the_words_of_the_instructions_are_in_the_text():
    questions = " ".join(cell for row in read(TRAINING) for cell in row)
    known = words(text_of("pretraining.txt"))
    assert len(words(questions) & known) / len(words(questions)) > 0.6
