"""Write tagged_text.jsonl and tagged_text_heldout.jsonl: sentences with marked names, places, dates
and amounts, of patterns and word lists that stand here.

    python datasets/write_tagged_texts.py

Patterns, persons and places of the held-out file are not in the other one.
"""

import itertools
import json
import random
from collections.abc import Callable, Iterable
from pathlib import Path

FOLDER = Path(__file__).parent
SENTENCES, HELD_OUT = 400, 120  # of each language

GIVEN = str.split(
    """
    Anna Ben Clara Daniel Emma Felix Grace Henry Ivy Jack Kate Liam Maria Noah Olivia Paul Rosa Sam
    Tara Victor Wendy Yusuf Zoe Aisha Marco Lena Hugo Nina Oscar Priya
    """
)
FAMILY = str.split(
    """
    Adams Baker Carter Diaz Evans Fischer Garcia Hughes Ito Jensen Keller Lopez Meyer Nolan Okafor
    Parker Quinn Rossi Schmidt Turner Umar Vargas Weber Young Zhang O'Neill
    """
)
GIVEN_HELD_OUT = str.split(
    """
    Amir Bella Colin Diana Elias Freya Gustav Helen Ravi Stella
    """
)
FAMILY_HELD_OUT = str.split(
    """
    Archer Bianchi Cooper Dubois Eriksen Flores Gupta Novak Sato Wallace
    """
)
PLACES = str.split(
    """
    London Paris Berlin Madrid Rome Vienna Oslo Dublin Prague Warsaw Lisbon Athens Cairo Nairobi
    Mumbai Bangkok Jakarta Sydney Auckland Toronto Chicago Boston Denver Lima Bogota
    """
)
PLACES += ["New York", "San Diego", "Cape Town", "Hong Kong", "Lake Garda", "South Street", "Nice"]
PLACES_HELD_OUT = ["Helsinki", "Budapest", "Glasgow", "Seattle", "Santiago", "Lagos", "Hanoi"]
PLACES_HELD_OUT += ["New Delhi", "San Jose", "Port Louis", "North Street"]
MONTHS = str.split(
    """
    January February March April May June July August September October November December
    """
)
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]

ENGLISH = """
{person} moved to {place} in {date}.
{person} was born in {place} on {date}.
On {date}, {person} paid {amount} for a bicycle.
The ticket to {place} costs {amount}.
{person} and {person} met in {place}.
We will be in {place} until {date}.
Please send {amount} to {person} by {date}.
My sister {person} lives in {place} with her dog.
The shop in {place} opens on {date}.
{person} sold the old car for {amount}.
I wrote to Mr {person} on {date}, but got no answer.
Dr {person} will see you on {date}.
The train from {place} to {place} was late again.
He borrowed {amount} from {person} last year.
The rent in {place} rose by {amount}.
Has {person} been to {place} before?
{date} was a cold day in {place}.
Ask {person} about the trip to {place}.
The meeting on {date} was led by {person}.
A room in {place} is {amount} a night.
Thank you, {person}, for the {amount} that you gave.
The parcel left {place} on {date} and cost {amount}.
{person} said: "I love {place}."
Nobody knew where the keys were.
It rained all day, so we stayed at home.
The soup needs a little more salt.
May I open the window?
The rose in the garden is red.
{person}'s letter came on {date}.
The bill of {amount} went to {person} in {place}.
From {date} to {date} the office in {place} is closed.
They offered {person} {amount}.
""".strip().splitlines()
ENGLISH_HELD_OUT = """
{person} flew from {place} to {place} on {date}.
Yesterday {person} gave {amount} to the school in {place}.
The flat in {place} was sold for {amount} on {date}.
Mrs {person} called on {date} and asked for {amount}.
Did {person} stay in {place} until {date}?
Our guide in {place} was {person}.
The cat sleeps on the chair all day.
Tell {person} that the shop owes us {amount}.
I met {person} on {date}.
A taxi to {place} costs {amount}.
""".strip().splitlines()

J_FAMILY = str.split(
    """
    田中 鈴木 高橋 渡辺 伊藤 山本 中村 小林 加藤 吉田 山田 佐々木 山口 松本 井上 木村 林
    清水
    """
)
J_GIVEN = [
    "太郎",
    "花子",
    "健一",
    "美咲",
    "翔太",
    "陽菜",
    "直樹",
    "由美",
    "大輔",
    "愛",
    "さくら",
    "ひろし",
    "けんた",
    "あかり",
]
J_FAMILY_HELD_OUT = ["佐藤", "斎藤", "森", "池田", "橋本", "石川", "前田"]
J_GIVEN_HELD_OUT = ["誠", "結衣", "拓也", "千夏", "みどり"]
J_PLACES = str.split(
    """
    東京 大阪 京都 名古屋 札幌 福岡 神戸 横浜 仙台 広島 奈良 金沢 長崎 沖縄 北海道 新宿
    渋谷 上野 ロンドン パリ ニューヨーク ローマ ソウル 北京
    """
)
J_PLACES_HELD_OUT = ["静岡", "鎌倉", "熊本", "岡山", "青森", "品川", "ベルリン", "マドリード"]
J_DAYS = ["月曜日", "火曜日", "水曜日", "木曜日", "金曜日", "土曜日", "日曜日"]

JAPANESE = """
{person}さんは{date}に{place}へ行きました。
{person}は{place}で生まれました。
{date}、{person}さんに{amount}を払いました。
{place}までの切符は{amount}です。
{person}さんと{person}さんは{place}で会いました。
{date}まで{place}にいます。
{person}先生の講演は{date}です。
姉の{person}は{place}に住んでいます。
{place}の店は{date}に開きます。
{person}さんは古い車を{amount}で売りました。
{place}から{place}まで電車で行きます。
昨日、{person}さんから{amount}借りました。
{place}の家賃は{amount}上がりました。
{person}さんは{place}に行ったことがありますか。
{date}の{place}はとても寒かった。
旅行のことは{person}さんに聞いてください。
会議は{date}に{place}で行われます。
{place}のホテルは一泊{amount}です。
荷物は{date}に{place}を出ました。
「{place}が好きです」と{person}さんは言いました。
鍵がどこにあるか誰も知りません。
一日中雨だったので家にいました。
窓を開けてもいいですか。
このスープは少し塩が足りません。
{person}様、{date}までに{amount}をお支払いください。
請求書{amount}は{place}の{person}さんに送りました。
{person}社長が{place}を訪れた。
""".strip().splitlines()
JAPANESE_HELD_OUT = """
{person}さんは{place}から{place}へ引っ越しました。
{date}に{person}さんが{amount}を寄付しました。
{place}の部屋は{amount}で{date}に売れました。
{person}さん、{date}に{place}で待っています。
{place}で{person}先生に会いました。
猫は一日中いすの上で寝ています。
タクシーで{place}まで{amount}かかります。
{person}さんの誕生日は{date}です。
""".strip().splitlines()


def main() -> None:
    """Write both files."""
    for name, count, held_out in (("", SENTENCES, False), ("_heldout", HELD_OUT, True)):
        draw = random.Random(7 + held_out)
        rows = [*_rows(draw, count, held_out, _english), *_rows(draw, count, held_out, _japanese)]
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (FOLDER / f"tagged_text{name}.jsonl").write_text(text, encoding="utf-8")


def _rows(
    draw: random.Random, count: int, held_out: bool, language: Callable[[bool], tuple]
) -> Iterable[dict]:
    """Return so many different sentences, the patterns in turn."""
    patterns, fill = language(held_out)
    rows: dict[str, dict] = {}
    for pattern in itertools.cycle(patterns):
        if len(rows) == count:
            return rows.values()
        row = _row(pattern, draw, fill)
        rows.setdefault(row["text"], row)


def _row(pattern: str, draw: random.Random, fill: dict) -> dict:
    """Return a sentence of a pattern, and what is marked in it."""
    text, spans = "", []
    for part in pattern.replace("}", "{").split("{"):
        if part not in fill:
            text += part
            continue
        word = fill[part](draw)
        spans.append({"start": len(text), "end": len(text) + len(word), "label": part.upper()})
        text += word
    return {"text": text, "spans": spans}


def _english(held_out: bool) -> tuple[list[str], dict]:
    given, family = (GIVEN_HELD_OUT, FAMILY_HELD_OUT) if held_out else (GIVEN, FAMILY)
    places = PLACES_HELD_OUT if held_out else PLACES

    def person(draw: random.Random) -> str:
        kinds = [f"{draw.choice(given)} {draw.choice(family)}", draw.choice(family)]
        kinds.append(
            f"{draw.choice(given)} {draw.choice('ABCDEFGHJKLMRST')}. {draw.choice(family)}"
        )
        return draw.choices([*kinds, draw.choice(given)], (5, 2, 1, 2))[0]

    def date(draw: random.Random) -> str:
        day, month, year = draw.randint(1, 28), draw.choice(MONTHS), draw.randint(1960, 2031)
        kinds = [f"{day} {month}", f"{month} {day}", f"{day} {month} {year}", draw.choice(DAYS)]
        return draw.choice([*kinds, f"{month} {year}", f"{month} {day}, {year}"])

    def amount(draw: random.Random) -> str:
        number = draw.choice([draw.randint(2, 99), draw.randint(1, 99) * 100])
        cents = f"{draw.randint(1, 99)}.{draw.randint(10, 99)}"
        kinds = [f"${number:,}", f"{number:,} euros", f"€{cents}", f"{number:,} pounds"]
        return draw.choice([*kinds, f"${cents}", f"{number} dollars"])

    def place(draw: random.Random) -> str:
        return draw.choice(places)

    patterns = ENGLISH_HELD_OUT if held_out else ENGLISH
    return patterns, {"person": person, "place": place, "date": date, "amount": amount}


def _japanese(held_out: bool) -> tuple[list[str], dict]:
    family = J_FAMILY_HELD_OUT if held_out else J_FAMILY
    given = J_GIVEN_HELD_OUT if held_out else J_GIVEN
    places = J_PLACES_HELD_OUT if held_out else J_PLACES

    def person(draw: random.Random) -> str:
        whole = draw.choice(family) + draw.choice(given)
        return draw.choice([whole, draw.choice(family), whole])

    def date(draw: random.Random) -> str:
        month, day, year = draw.randint(1, 12), draw.randint(1, 28), draw.randint(1960, 2031)
        kinds = [f"{month}月{day}日", f"{year}年{month}月{day}日", draw.choice(J_DAYS)]
        return draw.choice([*kinds, f"{year}年{month}月", f"来週の{draw.choice(J_DAYS)}"])

    def amount(draw: random.Random) -> str:
        number = draw.choice([draw.randint(2, 99) * 10, draw.randint(1, 99) * 100])
        return draw.choice([f"{number:,}円", f"{number}円", f"{draw.randint(1, 90)}万円"])

    def place(draw: random.Random) -> str:
        return draw.choice(places)

    patterns = JAPANESE_HELD_OUT if held_out else JAPANESE
    return patterns, {"person": person, "place": place, "date": date, "amount": amount}


if __name__ == "__main__":
    main()
