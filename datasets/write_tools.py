"""Writes tools.json, tools.csv and tools_heldout.csv: requests to an assistant, and the calls of
functions that they ask for, in English and Japanese.

    python datasets/write_tools.py [FOLDER]

Wordings are drawn into one of the two files as a whole. A wording may be held out if each of its
words (in Japanese: characters) is in two others of the training file.
"""

import collections
import csv
import json
import random
import re
import sys
from pathlib import Path

ROOMS = {
    "living room": "リビング", "kitchen": "台所", "bedroom": "寝室", "bathroom": "浴室",
    "office": "書斎", "hall": "玄関",
}  # fmt: skip
DAYS = {
    "today": "今日", "tomorrow": "明日", "Monday": "月曜日", "Tuesday": "火曜日",
    "Wednesday": "水曜日", "Thursday": "木曜日", "Friday": "金曜日", "Saturday": "土曜日",
    "Sunday": "日曜日",
}  # fmt: skip
UNITS = {"seconds": "秒", "minutes": "分", "hours": "時間"}

ROOM = {"type": "string", "enum": list(ROOMS), "description": "The room."}
DAY = {"type": "string", "enum": [day.lower() for day in DAYS], "description": "The day."}


def function(name, description, **properties):
    """The declaration of a function whose arguments are all required."""
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    described = {"name": name, "description": description, "parameters": parameters}
    return {"type": "function", "function": described}


TOOLS = [
    function(
        "set_light", "Turn the light of a room on or off.",
        room=ROOM, state={"type": "string", "enum": ["on", "off"]},
    ),
    function(
        "set_brightness", "Set the brightness of the light of a room.",
        room=ROOM, percent={"type": "integer", "minimum": 1, "maximum": 100},
    ),
    function(
        "set_timer", "Start a timer.",
        amount={"type": "integer", "minimum": 1}, unit={"type": "string", "enum": list(UNITS)},
    ),
    function("cancel_timer", "Stop the timer."),
    function(
        "add_event", "Add an event to the calendar.",
        title={"type": "string"}, day=DAY,
        time={"type": "string", "pattern": "^[0-9]{1,2}:[0-9]{2}$"},
    ),
    function("list_events", "List the events of a day.", day=DAY),
    function("search_web", "Search the web.", query={"type": "string"}),
]  # fmt: skip

# Wordings. {a|b}: on | off; {on}: "on Monday" or "today"; {one}: the unit in the singular.
ENGLISH = {
    "set_light": [
        "turn {on|off} the {room} light", "turn the {room} light {on|off}",
        "switch {on|off} the {room} light", "switch the light in the {room} {on|off}",
        "please turn {on|off} the light in the {room}", "can you turn the {room} light {on|off}?",
        "could you switch {on|off} the {room} lights?", "{room} light {on|off}",
        "I want the {room} light {on|off}", "put the {room} light {on|off}, please",
        "lights {on|off} in the {room}", "the light in the {room} should be {on|off}",
        "I need the light {on|off} in the {room}", "would you turn the {room} lights {on|off}?",
        "please switch the lights of the {room} {on|off}", "make the {room} light go {on|off}",
        "could you turn {on|off} the lights in the {room}, please?",
        "I would like the lights of the {room} {on|off}",
        "in the {room}, switch {on|off} the light",
        "light {on|off} in the {room}, please", "have the {room} lights {on|off}",
        "{on|off} with the light in the {room}", "in the {room} the lights should go {on|off}",
    ],
    "set_brightness": [
        "set the {room} light to {percent} percent", "dim the {room} light to {percent} percent",
        "set the brightness in the {room} to {percent} percent",
        "make the {room} light {percent} percent bright", "{room} light to {percent} percent",
        "I want {percent} percent light in the {room}",
        "brightness {percent} percent in the {room}",
        "turn the {room} light down to {percent} percent",
        "turn the light in the {room} up to {percent} percent",
        "can you set the {room} lights to {percent} percent?",
        "please dim the {room} to {percent} percent", "put the {room} lights at {percent} percent",
        "the {room} light should be at {percent} percent",
        "change the brightness of the {room} to {percent} percent",
        "I need {percent} percent brightness in the {room}",
        "light in the {room} at {percent} percent, please",
        "could you dim the lights in the {room} to {percent} percent?",
        "would you change the {room} light to {percent} percent?",
        "in the {room}, set the lights to {percent} percent",
        "I would like the {room} at {percent} percent",
        "please make the lights in the {room} {percent} percent bright",
        "the brightness of the {room} should go to {percent} percent",
    ],
    "set_timer": [
        "set a timer for {amount} {unit}", "start a timer for {amount} {unit}",
        "timer for {amount} {unit}", "start a {amount} {one} timer", "set a {amount} {one} timer",
        "wake me in {amount} {unit}", "remind me in {amount} {unit}", "count down {amount} {unit}",
        "I need a timer for {amount} {unit}", "can you set a timer for {amount} {unit}?",
        "please start a {amount} {one} timer", "tell me when {amount} {unit} are over",
        "let me know in {amount} {unit}", "please wake me when {amount} {unit} are over",
        "could you start a timer of {amount} {unit}?", "timer, {amount} {unit}, please",
        "I want a {amount} {one} timer", "start to count down from {amount} {unit}",
        "let the timer count {amount} {unit}", "can you remind me in {amount} {unit}?",
        "would you let me know when {amount} {unit} are over?", "a {amount} {one} timer, please",
        "in {amount} {unit}, wake me", "I would like a timer of {amount} {unit}",
    ],
    "cancel_timer": [
        "cancel the timer", "stop the timer", "turn off the timer", "switch the timer off",
        "please stop my timer", "I do not need the timer", "can you cancel my timer?",
        "delete the timer", "end the timer", "no timer, please", "let the timer stop",
        "could you turn the timer off, please?", "the timer should stop", "I want the timer off",
        "forget the timer", "please cancel the timer", "would you stop the timer?",
        "I do not want the timer", "please delete my timer", "can you end the timer?",
        "forget my timer, please", "make the timer stop", "the timer should end", "timer off",
    ],
    "add_event": [
        "add {title} to my calendar {on} at {time}",
        "put {title} on my calendar for {day} at {time}",
        "schedule {title} for {day} at {time}", "{on} at {time} I have {title}, please add it",
        "book {title} at {time} {on}", "new event: {title}, {day}, {time}",
        "remember {title} {on} at {time}", "I have {title} {on} at {time}, put it in my calendar",
        "please plan {title} for {day} at {time}", "can you add {title} at {time} {on}?",
        "make an event for {title} {on} at {time}", "could you book {title} for {day} at {time}?",
        "{title} {on} at {time}, please put it on my calendar",
        "add an event for {day} at {time}: {title}", "please schedule {title} at {time} {on}",
        "plan {title} {on} at {time}", "new event for {day} at {time}: {title}",
        "would you put {title} in my calendar {on} at {time}?",
        "for {day} at {time}, add {title}", "please remember that I have {title} {on} at {time}",
        "I want to add {title} {on} at {time}", "could you plan {title} at {time} {on}, please?",
        "{day}, {time}: {title}, please schedule it", "book {title} {on} at {time}, please",
    ],
    "list_events": [
        "what is on my calendar {on}?", "what do I have {on}?", "show my events for {day}",
        "list my events {on}", "do I have anything {on}?", "what are my plans for {day}?",
        "show me my calendar for {day}", "is there anything on my calendar {on}?",
        "tell me my plans for {day}", "what events do I have {on}?",
        "my calendar for {day}, please",
        "any plans {on}?", "can you list my plans for {day}?", "what are my events {on}?",
        "I want to see my calendar for {day}", "look up my events for {day}",
        "please show me my plans {on}", "could you tell me what I have {on}?",
        "is there any event {on}?", "list what is on my calendar for {day}",
        "do I have any plans {on}?", "let me see my events for {day}", "{on}, what do I have?",
        "can you show me what I have {on}?",
    ],
    "search_web": [
        "search for {query}", "look up {query}", "find {query} on the web",
        "search the web for {query}", "what does the internet say about {query}?",
        "find me something about {query}", "I want to know about {query}", "tell me about {query}",
        "look for {query} on the internet", "please search for {query}", "can you look up {query}?",
        "show me something about {query}", "do a search for {query}", "find out about {query}",
        "I would like to know about {query}", "could you find {query} on the internet?",
        "search: {query}", "please find out about {query}", "what is on the web about {query}?",
        "let me know about {query}", "would you search the internet for {query}?",
        "look on the web for {query}", "please tell me something about {query}",
        "I need to find something about {query}",
    ],
}  # fmt: skip
JAPANESE = {
    "set_light": [
        "{room}の電気を{つけて|消して}", "{room}の明かりを{つけて|消して}ください",
        "{room}の電気を{オン|オフ}にして", "{room}の照明を{つけて|消して}ほしい",
        "電気を{つけて|消して}、{room}の", "{room}を{オン|オフ}にして",
        "{room}の明かりを{オン|オフ}にしてください", "{room}の照明を{つけて|消して}",
        "{room}の電気を{つけて|消して}もらえますか", "{room}の照明を{オン|オフ}にしてほしい",
        "{room}、電気{オン|オフ}", "{room}の電気{オン|オフ}でお願い",
        "{room}の明かりを{つけて|消して}くれる?", "すぐに{room}の電気を{つけて|消して}",
        "{room}で電気を{つけて|消して}ください", "{room}の照明は{オン|オフ}でお願いします",
        "すぐに{room}の明かりを{オン|オフ}にして", "{room}の照明を{オン|オフ}にしてもらえますか",
        "{room}、照明を{つけて|消して}くれる?",
    ],
    "set_brightness": [
        "{room}の明るさを{percent}%にして", "{room}の電気を{percent}%にして",
        "{room}の明かりを{percent}パーセントにしてください", "{room}を{percent}%の明るさにして",
        "{room}の照明を{percent}%に変えて", "明るさ{percent}%、{room}でお願い",
        "{room}の明るさは{percent}%でお願いします",
        "{room}の電気の明るさを{percent}%にしてください",
        "{room}の照明を{percent}パーセントにしてほしい",
        "{room}の明るさを{percent}パーセントに変えて",
        "{room}、明るさ{percent}%", "{room}の明かりを{percent}%に変えてもらえますか",
        "{room}の照明は{percent}%がいい", "{room}の明るさを{percent}%に変えてくれる?",
        "すぐに{room}の明るさを{percent}%にして", "{room}の電気は{percent}パーセントがいい",
        "{room}の照明の明るさを{percent}%にしてもらえますか", "{room}を{percent}%に変えてください",
        "明るさを{percent}%に、{room}で",
    ],
    "set_timer": [
        "{amount}{unit}のタイマーをかけて", "タイマーを{amount}{unit}にセットして",
        "{amount}{unit}タイマーをお願い", "{amount}{unit}後に教えて", "{amount}{unit}後に起こして",
        "{amount}{unit}のタイマーを始めて", "{amount}{unit}を計って", "タイマー、{amount}{unit}",
        "{amount}{unit}のタイマーをセットしてください", "{amount}{unit}経ったら教えて",
        "{amount}{unit}後に知らせてください", "タイマーを{amount}{unit}でお願いします",
        "{amount}{unit}経ったら起こしてください", "{amount}{unit}計ってもらえますか",
        "タイマーで{amount}{unit}を計って", "{amount}{unit}のタイマーがほしい",
        "{amount}{unit}後に起こしてもらえますか", "{amount}{unit}経ったら知らせてほしい",
        "タイマーを{amount}{unit}で始めてください", "タイマーを{amount}{unit}かけてくれる?",
    ],
    "cancel_timer": [
        "タイマーを止めて", "タイマーを消して", "タイマーをキャンセルして", "タイマーをやめて",
        "タイマーを止めてください", "もうタイマーはいらない", "タイマーをオフにして",
        "タイマーをキャンセルしてもらえますか", "タイマーはいらないです", "タイマーを消してほしい",
        "タイマーを終わりにして", "タイマーをやめてください", "もうタイマーを止めていいよ",
        "タイマーはもういい", "すぐにタイマーを止めて", "タイマーのキャンセルをお願いします",
        "もうタイマーを消していいよ", "タイマーは終わりでいいです", "タイマーを止めてくれる?",
        "タイマーをキャンセルしてほしい",
    ],
    "add_event": [
        "{day}の{time}に{title}を入れて", "{day}の{time}に{title}の予定を入れて",
        "{title}を{day}の{time}に予定して", "カレンダーに{title}を追加して、{day}の{time}",
        "{day}{time}に{title}があります。カレンダーに入れて",
        "{title}の予定を{day}{time}に追加して",
        "予定を追加:{title}、{day}、{time}", "{day}の{time}から{title}です。入れてください",
        "{day}の{time}に{title}と書いて", "{title}、{day}の{time}。カレンダーに追加してください",
        "新しい予定、{day}{time}に{title}", "{day}の{time}、{title}を予定に入れてください",
        "{title}を{day}{time}からカレンダーに入れて", "{day}{time}の{title}を書いておいて",
        "カレンダーの{day}{time}に{title}を入れてほしい",
        "{day}の{time}に{title}を追加してもらえますか",
        "{title}を{day}の{time}から予定に入れておいて",
        "新しい予定です。{title}、{day}の{time}から",
        "予定に{title}を追加してください。{day}の{time}です", "{day}{time}に{title}を入れてくれる?",
    ],
    "list_events": [
        "{day}の予定は?", "{day}の予定を教えて", "{day}は何がある?", "{day}の予定を見せて",
        "{day}の予定を読んで", "カレンダーの{day}を見せて", "{day}に予定はありますか",
        "{day}は何か予定がある?", "{day}の予定を全部教えてください", "{day}のカレンダーを読んで",
        "{day}のスケジュールは?", "{day}のスケジュールを教えてください", "{day}に何か入っている?",
        "{day}の予定が知りたい", "{day}の予定は何ですか", "{day}のスケジュールを見せてください",
        "{day}のカレンダーには何が入っていますか", "{day}の予定を読んでもらえますか",
        "{day}のスケジュールが知りたい", "カレンダーで{day}の予定を見せて",
    ],
    "search_web": [
        "{query}を検索して", "{query}について調べて", "{query}を調べて", "{query}をネットで調べて",
        "{query}について教えて", "ネットで{query}を検索してください", "{query}について知りたい",
        "{query}を検索してもらえますか", "{query}のことを調べてください", "ウェブで{query}を探して",
        "{query}を探して", "{query}のことをネットで検索して", "検索:{query}",
        "{query}についてネットで探してください", "{query}のことが知りたい", "{query}の情報を探して",
        "ウェブで{query}について調べてください", "{query}の情報をネットで検索してほしい",
        "{query}のことを教えてもらえますか", "{query}の情報が知りたいです",
    ],
}  # fmt: skip

# Titles and searches of the training file, then those of the held-out one.
TITLES = (
    ["lunch with Anna", "the dentist", "team meeting", "piano lesson", "dinner with Ben",
     "football practice", "coffee with Maria", "a haircut", "yoga class", "the doctor",
     "parents evening", "choir", "call with Tom", "swimming", "book club", "job interview",
     "cinema with Lucy", "garden work", "tennis", "tax office"],
    ["breakfast with Oscar", "violin lesson", "chess club", "the optician", "budget review",
     "call with Nadia", "guitar practice", "judo", "drinks with Felix", "museum trip"],
)  # fmt: skip
TITLES_JA = (
    ["歯医者", "会議", "ピアノのレッスン", "田中さんと昼食", "美容院", "ヨガ", "映画", "面接",
     "買い物",
     "病院", "サッカーの練習", "鈴木さんと夕食", "水泳", "飲み会", "打ち合わせ", "英会話", "掃除",
     "母と電話"],
    ["眼科", "佐藤さんと朝食", "テニス", "勉強会", "書道の教室", "山本さんと散歩", "出張の準備",
     "同窓会",
     "ギターの練習"],
)  # fmt: skip
QUERIES = (
    ["weather in Paris", "cheap flights to Rome", "pancake recipe", "the moon", "old trains",
     "how to tie a tie", "jazz music", "bread without yeast", "the history of tea", "red pandas",
     "running shoes", "hotels in Berlin", "the capital of Peru", "volcanoes", "paper boats",
     "a good film", "learning Spanish", "apple trees", "electric cars", "the oldest bridge"],
    ["trains to Lisbon", "tomato soup", "black holes", "used bicycles", "how to knit a scarf",
     "the price of gold", "penguins", "castles in Wales", "chess openings", "a quiet beach"],
)  # fmt: skip
QUERIES_JA = (
    ["東京の天気", "カレーの作り方", "富士山", "近くの本屋", "猫の種類", "京都の寺", "電車の時刻",
     "安いホテル", "桜の名所", "相撲", "ラーメンの店", "宇宙の大きさ", "バラの育て方",
     "将棋のルール",
     "新しい車", "海の生き物", "漢字の歴史", "卵料理"],
    ["大阪の祭り", "味噌汁の作り方", "月の満ち欠け", "犬のしつけ", "北海道の温泉", "古い城",
     "折り紙",
     "自転車の修理", "紅茶の種類"],
)  # fmt: skip

# Rows of each wording in the training file and the held-out one; wordings held out.
ROWS, HELD_ROWS, HELD_OUT = 3, 3, 4


def words(wording, japanese):
    """The words of a wording outside of its slots, or its characters."""
    plain = re.sub(r"\{[^|}]*\}", " ", wording).replace("{", " ").replace("}", " ")
    plain = plain.replace("|", " ")
    if japanese:
        return set(re.sub(r"[\s、。:?]", "", plain))
    return set(re.findall(r"[\w']+", plain.lower()))


def split(wordings, rng):
    """Draw the wordings to hold out: {tool: set}."""
    japanese = wordings is JAPANESE
    every = [(tool, one) for tool, several in wordings.items() for one in several]
    counts = collections.Counter(w for _, one in every for w in words(one, japanese))
    held = {tool: set() for tool in wordings}
    rng.shuffle(every)
    for tool, one in every:
        own = words(one, japanese)
        if len(held[tool]) < HELD_OUT and all(counts[word] >= 3 for word in own):
            held[tool].add(one)
            counts.subtract(own)
    return held


def fill(tool, wording, japanese, held_out, rng):
    """A request by a wording, and the arguments of its call."""
    room, day, unit = (rng.choice(list(table)) for table in (ROOMS, DAYS, UNITS))
    minute = rng.choice(["00", "15", "30", "45", f"{rng.randrange(60):02}"])
    amount = rng.choice([rng.randrange(1, 13), 5 * rng.randrange(1, 13), rng.randrange(2, 100)])
    values = {
        "room": room, "day": day.lower(), "unit": unit, "state": rng.choice(["on", "off"]),
        "amount": max(amount, 2), "percent": rng.choice([10 * rng.randrange(1, 11),
                                                         rng.randrange(1, 101)]),
        "time": f"{rng.randrange(24)}:{minute}",
        "title": rng.choice((TITLES_JA if japanese else TITLES)[held_out]),
        "query": rng.choice((QUERIES_JA if japanese else QUERIES)[held_out]),
    }  # fmt: skip
    shown = values | (
        {"room": ROOMS[room], "day": DAYS[day], "unit": UNITS[unit]}
        if japanese
        else {"day": day, "on": day if day.islower() else f"on {day}", "one": unit[:-1]}
    )
    text = re.sub(
        r"\{(\w+)\|(\w+)\}",
        lambda found: found[1 if values["state"] == "on" else 2],
        wording,
    ).format(**shown)
    (declared,) = (one["function"] for one in TOOLS if one["function"]["name"] == tool)
    arguments = {name: values[name] for name in declared["parameters"]["properties"]}
    # A title at the beginning keeps its letters, so that it is in the request as it is.
    begins = text if wording.startswith("{title}") else text[0].upper() + text[1:]
    return begins, arguments


def write(path, rows):
    """Write rows under their header."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["utterance", "tool", "arguments", "wording"])
        writer.writerows(rows)


def main(folder=Path(__file__).parent):
    """Write the three files."""
    rng = random.Random(1)
    files = {False: [], True: []}
    known = set()
    for wordings in (ENGLISH, JAPANESE):
        japanese = wordings is JAPANESE
        held = split(wordings, rng)
        for tool, several in wordings.items():
            for number, wording in enumerate(several, start=1):
                held_out = wording in held[tool]
                name = f"{tool} {'ja' if japanese else 'en'} {number}"
                for _ in range(HELD_ROWS if held_out else ROWS):
                    text, arguments = fill(tool, wording, japanese, held_out, rng)
                    if text not in known:
                        known.add(text)
                        cell = json.dumps(arguments, ensure_ascii=False)
                        files[held_out].append((text, tool, cell, name))
    for rows in files.values():
        rng.shuffle(rows)
    folder = Path(folder)
    text = json.dumps(TOOLS, ensure_ascii=False, indent=2)
    (folder / "tools.json").write_text(text + "\n", "utf-8")
    write(folder / "tools.csv", files[False])
    write(folder / "tools_heldout.csv", files[True])


if __name__ == "__main__":
    main(*sys.argv[1:])
