"""Write tagged_text.jsonl and tagged_text_heldout.jsonl: sentences with marked names, places, dates
and amounts, of patterns and word lists that stand here.

    python datasets/write_tagged_texts.py

Patterns, persons, places and things of the held-out file are not in the other one.
"""

import itertools
import json
import random
from collections.abc import Callable, Iterable
from pathlib import Path

FOLDER = Path(__file__).parent
SENTENCES, HELD_OUT = 450, 120  # of each language
MARKED = ("person", "place", "date", "amount")

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

THINGS = str.split(
    """
    bicycle car chair table lamp piano guitar camera boat house garden school office library museum
    hotel bakery church bridge market station hospital factory farm theatre letter parcel painting
    carpet jacket sweater kettle mirror bottle basket hammer ladder clock shirt knife window door
    """
)
THINGS_HELD_OUT = str.split(
    """
    sofa violin laptop cottage clinic castle tower stadium blanket necklace bucket fence candle
    """
)
KINDS = str.split(
    """
    old new small large red blue quiet broken heavy cheap wooden clean empty round soft
    """
)
KINDS_HELD_OUT = ["green", "narrow", "bright", "rusty", "famous"]
DEEDS = str.split(
    """
    bought sold found repaired painted lost borrowed cleaned moved rented ordered saw
    """
)
DEEDS_HELD_OUT = ["built", "closed", "measured", "visited", "forgot"]

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
{person} {did} a {kind} {thing} in {place}.
{person} {did} the {thing} for {amount}.
The {kind} {thing} costs {amount}.
On {date} they {did} the {thing}.
The {thing} of {person} is {kind}.
Nobody {did} the {kind} {thing}.
The {thing} is behind the {kind} {thing}.
We {did} our {thing} in {place} on {date}.
A {kind} {thing} and a {thing} were {did} by {person}.
Who {did} the {thing} near {place}?
The {thing} was {did} on {date} and is {kind} now.
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
Mr {person} {did} our {kind} {thing}.
The {thing} in {place} was {did} for {amount}.
My {thing} is {kind} and my {thing} is not.
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
J_PLACES_HELD_OUT = str.split(
    """
    静岡 鎌倉 熊本 岡山 青森 品川 ベルリン マドリード
    """
)
J_DAYS = ["月曜日", "火曜日", "水曜日", "木曜日", "金曜日", "土曜日", "日曜日"]

J_THINGS = str.split(
    """
    自転車 車 机 椅子 時計 絵 本 鞄 帽子 家 学校 図書館 病院 美術館 駅 橋 公園 会社 工場 手紙 荷物
    傘 靴 写真 指輪 窓 部屋 切符 カメラ ピアノ ギター ホテル テーブル ランプ
    """
)
J_THINGS_HELD_OUT = str.split(
    """
    船 楽器 倉庫 体育館 布団 眼鏡 ソファ バイオリン スタジアム
    """
)
J_KINDS = str.split(
    """
    古い 新しい 小さい 大きい 赤い 青い 重い 安い 高い 丸い
    """
)
J_KINDS_HELD_OUT = ["白い", "狭い", "明るい", "珍しい"]
J_DEEDS = str.split(
    """
    買いました 売りました 直しました 見つけました 借りました 描きました 洗いました 送りました
    集めました
    """
)
J_DEEDS_HELD_OUT = ["建てました", "閉めました", "測りました", "忘れました"]

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
{person}さんは{place}で{kind}{thing}を{did}。
{kind}{thing}は{amount}でした。
{date}に{thing}を{did}。
{thing}の隣に{kind}{thing}があります。
{person}さんの{thing}は{kind}です。
{place}の{thing}は{kind}そうです。
{amount}で{thing}を{did}。
{person}さんと{kind}{thing}を{did}。
この{thing}はとても{kind}です。
{date}、{place}の{thing}で{person}さんが話しました。
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
{person}さんが{place}の{thing}を{did}。
あの{kind}{thing}は{amount}です。
{thing}と{thing}は{kind}です。
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
        word = fill[part](draw) if part in fill else part
        if part in MARKED:
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
    fill = {"person": person, "place": place, "date": date, "amount": amount}
    words = (THINGS, KINDS, DEEDS)
    if held_out:
        words = (THINGS_HELD_OUT, KINDS_HELD_OUT, DEEDS_HELD_OUT)
    return patterns, fill | _choices(*words)


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
    fill = {"person": person, "place": place, "date": date, "amount": amount}
    words = (J_THINGS, J_KINDS, J_DEEDS)
    if held_out:
        words = (J_THINGS_HELD_OUT, J_KINDS_HELD_OUT, J_DEEDS_HELD_OUT)
    return patterns, fill | _choices(*words)


def _choices(things: list[str], kinds: list[str], deeds: list[str]) -> dict:
    """Return what draws words that are not marked."""
    words = {"thing": things, "kind": kinds, "did": deeds}
    return {name: lambda draw, some=some: draw.choice(some) for name, some in words.items()}


if __name__ == "__main__":
    main()
