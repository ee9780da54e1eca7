"""Writes preferences.csv: prompts with a better and a worse answer, in English and Japanese.

    python datasets/write_preferences.py [FOLDER]

Requests are answered politely rather than rudely, and questions in the asked form (one word, a
whole sentence) rather than in another one.
"""

import csv
import itertools
import random
import sys
from pathlib import Path

HELP = [
    ("carry this box", "carry the box"), ("open the window", "open the window"),
    ("close the door", "close the door"), ("wash the dishes", "wash the dishes"),
    ("water the plants", "water the plants"), ("feed the cat", "feed the cat"),
    ("find my keys", "look for your keys"), ("read this letter", "read the letter"),
    ("wait for me", "wait for you"), ("call a taxi", "call a taxi"),
    ("cook dinner", "cook dinner"), ("clean the table", "clean the table"),
    ("draw a map", "draw a map"), ("bring some tea", "bring some tea"),
    ("sing a song", "sing a song"), ("take a picture", "take a picture"),
    ("make the bed", "make the bed"), ("buy some bread", "buy some bread"),
    ("carry my bag", "carry your bag"), ("speak slowly", "speak slowly"),
    ("teach me English", "teach you English"), ("write my name", "write your name"),
]  # fmt: skip
ASK = ["Can you {}?", "Could you {}, please?"]
RUDE = ["No. Do it yourself.", "Why should I? Go away.", "I will not. Leave me alone."]
LEND = [
    "ペン", "傘", "本", "辞書", "地図", "かばん", "自転車", "時計", "机", "いす", "写真機", "電話",
    "帽子", "はさみ", "鏡", "毛布", "紙", "皿",
]  # fmt: skip
LEND_ASK = ["{}を貸してもらえますか。", "{}を借りてもいいですか。"]
LEND_RUDE = ["いやだ。", "だめだ。自分で買え。", "うるさい。知らない。"]
KINDS = [
    ("dog", "an animal", True), ("cat", "an animal", True), ("rose", "a flower", True),
    ("car", "an animal", False), ("apple", "a fruit", True), ("river", "a fruit", False),
    ("horse", "an animal", True), ("chair", "an animal", False), ("tulip", "a flower", True),
    ("train", "a flower", False), ("pear", "a fruit", True), ("spoon", "a fruit", False),
    ("cow", "an animal", True), ("lily", "a flower", True), ("bird", "an animal", True),
    ("book", "a fruit", False),
]  # fmt: skip
KINDS_JA = [
    ("犬", "動物", True), ("猫", "動物", True), ("ばら", "花", True), ("車", "動物", False),
    ("りんご", "果物", True), ("川", "果物", False), ("馬", "動物", True), ("いす", "動物", False),
    ("電車", "花", False), ("みかん", "果物", True), ("牛", "動物", True), ("机", "花", False),
    ("鳥", "動物", True), ("本", "果物", False),
]  # fmt: skip


def article(noun: str) -> str:
    """The noun with its article."""
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def requests():
    """Politely answered requests."""
    rude = itertools.cycle(RUDE)
    for (asked, done), form in itertools.product(HELP, ASK):
        yield form.format(asked), f"Yes, of course. I am happy to {done}.", next(rude)
    rude = itertools.cycle(LEND_RUDE)
    for thing, form in itertools.product(LEND, LEND_ASK):
        yield form.format(thing), f"はい、もちろんです。どうぞ{thing}をお使いください。", next(rude)


def forms():
    """Questions that ask for one word, or for a whole sentence."""
    for noun, kind, holds in KINDS:
        question = f"Is {article(noun)} {kind}?"
        word = "Yes." if holds else "No."
        verb = "is" if holds else "is not"
        sentence = f"{article(noun).capitalize()} {verb} {kind}."
        for ask in ("Answer with one word.", "One word, please."):
            yield f"{ask} {question}", word, sentence
        for ask in ("Answer with a sentence.", "A whole sentence, please."):
            yield f"{ask} {question}", sentence, word
    for noun, kind, holds in KINDS_JA:
        question = f"{noun}は{kind}ですか。"
        word = "はい。" if holds else "いいえ。"
        sentence = f"{noun}は{kind}{'です' if holds else 'ではありません'}。"
        for ask in ("一言で答えてください。", "一言でお願いします。"):
            yield f"{ask}{question}", word, sentence
        for ask in ("文で答えてください。", "文でお願いします。"):
            yield f"{ask}{question}", sentence, word


def main(folder: Path) -> None:
    """Write the file."""
    rows = [*requests(), *forms()]
    random.Random(1).shuffle(rows)
    with (folder / "preferences.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([("prompt", "chosen", "rejected"), *rows])


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent))
