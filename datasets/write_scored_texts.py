"""Writes scored_text.csv and scored_text_heldout.csv: offers of used things and their prices.

    python datasets/write_scored_texts.py [FOLDER]

An offer names a thing and its condition, and often its maker, its age or how many there are, in
English or in Japanese. Its price, in euros, is a product of these:

    price = thing x condition x maker x age x count

so that "broken" costs a piano more than a mug: a sum over words cannot say it exactly. The tables
are written by hand; which combinations are offered, and in which words, is drawn with a fixed seed,
so that the same files come out whenever this runs.
"""

from __future__ import annotations

import argparse
import csv
import random
from pathlib import Path
from typing import NamedTuple

ROWS, HELD_OUT = 1_600, 200


class Words(NamedTuple):
    """A factor of the price, and the ways to say it in English and in Japanese."""

    factor: float
    english: tuple[str, ...]
    japanese: tuple[str, ...]


# The price of a thing of no known maker, new; the plural is of what is sold in sets.
THINGS = [
    Words(6, ("mug", "mugs"), ("マグカップ",)),
    Words(14, ("teapot",), ("急須",)),
    Words(18, ("kettle",), ("やかん",)),
    Words(22, ("lamp", "lamps"), ("ランプ",)),
    Words(28, ("backpack",), ("リュック",)),
    Words(34, ("chair", "chairs"), ("椅子",)),
    Words(40, ("skateboard",), ("スケートボード",)),
    Words(48, ("jacket",), ("上着",)),
    Words(60, ("pair of boots",), ("ブーツ",)),
    Words(70, ("printer",), ("プリンター",)),
    Words(85, ("watch",), ("腕時計",)),
    Words(95, ("tent",), ("テント",)),
    Words(110, ("table",), ("テーブル",)),
    Words(130, ("guitar",), ("ギター",)),
    Words(150, ("tablet",), ("タブレット",)),
    Words(180, ("bicycle",), ("自転車",)),
    Words(210, ("washing machine",), ("洗濯機",)),
    Words(240, ("fridge",), ("冷蔵庫",)),
    Words(280, ("sofa",), ("ソファ",)),
    Words(320, ("camera",), ("カメラ",)),
    Words(400, ("laptop",), ("ノートパソコン",)),
    Words(600, ("piano",), ("ピアノ",)),
]
CONDITIONS = [
    Words(
        1.0,
        ("new, still in its box", "never used", "unused"),
        ("新品", "未使用", "一度も使っていません"),
    ),
    Words(
        0.8,
        ("as good as new", "hardly used", "used only twice"),
        ("新品同様", "ほとんど使っていません", "二回だけ使いました"),
    ),
    Words(
        0.55,
        ("used, in good condition", "used but clean", "well looked after"),
        ("中古、状態は良いです", "中古ですがきれいです", "大切に使いました"),
    ),
    Words(
        0.35,
        ("with many scratches", "worn, but it does its job", "old and stained"),
        ("傷が多いです", "古いですが使えます", "汚れがあります"),
    ),
    Words(
        0.1,
        ("broken, for spare parts", "does not work any more", "damaged beyond repair"),
        ("壊れています、部品用", "もう動きません", "修理できません"),
    ),
]
MAKERS = [
    Words(1.0, ("",), ("",)),
    Words(1.5, ("by a famous maker", "of a well-known brand"), ("有名メーカー製", "有名ブランド")),
    Words(0.75, ("of no brand", "a cheap copy"), ("ノーブランド", "安い類似品")),
]
AGES = [
    Words(1.0, ("",), ("",)),
    Words(0.9, ("one year old", "bought last year"), ("一年前に購入", "去年購入")),
    Words(0.7, ("four years old", "bought four years ago"), ("四年前に購入", "四年使用")),
    Words(0.5, ("ten years old", "bought ten years ago"), ("十年前に購入", "十年使用")),
]
COUNTS = [
    Words(1, ("a",), ("",)),
    Words(2, ("two",), ("二つ",)),
    Words(4, ("four",), ("四つ",)),
]


def draw(random: random.Random) -> tuple[str, float]:
    """Return an offer and its price in euros, to half a euro."""
    thing = random.choice(THINGS)
    condition, maker, age = map(random.choice, (CONDITIONS, MAKERS, AGES))
    if condition.factor == 1.0:
        age = AGES[0]
    count = random.choice(COUNTS) if len(thing.english) > 1 else COUNTS[0]
    price = thing.factor * count.factor * condition.factor * maker.factor * age.factor
    write = random.choice((_english, _japanese))
    return write(random, thing, condition, maker, age, count), max(round(2 * price) / 2, 0.5)


def _english(random: random.Random, thing, condition, maker, age, count) -> str:
    name = thing.english[count.factor > 1]
    article = "an" if name[0] in "aeiou" else "a"
    start = f"{article if count.factor == 1 else count.english[0]} {name}"
    parts = [random.choice(words.english) for words in (maker, age, condition)]
    random.shuffle(parts)
    text = ", ".join([random.choice(("", "For sale: ", "I sell ")) + start, *filter(None, parts)])
    return text[0].upper() + text[1:] + "."


def _japanese(random: random.Random, thing, condition, maker, age, count) -> str:
    start = thing.japanese[0] + count.japanese[0]
    start = random.choice(("", "", "売ります：")) + start
    parts = [random.choice(words.japanese) for words in (maker, age, condition)]
    random.shuffle(parts)
    return "、".join([start, *filter(None, parts)]) + "。"


def main(folder: Path) -> None:
    """Write both files."""
    generator = random.Random(1)
    offers: dict[str, float] = {}
    while len(offers) < ROWS + HELD_OUT:
        text, price = draw(generator)
        offers[text] = price
    rows = list(offers.items())
    parts = {"scored_text.csv": rows[HELD_OUT:], "scored_text_heldout.csv": rows[:HELD_OUT]}
    for name, part in parts.items():
        with (folder / name).open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["text", "target"])
            writer.writerows([text, f"{price:g}"] for text, price in part)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?", default=Path(__file__).parent)
    main(parser.parse_args().folder)
