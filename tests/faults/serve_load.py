"""Measures `tfx-transformer serve` with many clients at once, beside one after the other.

    python tests/faults/serve_load.py saved_models/assistant
    python tests/faults/serve_load.py saved_models/assistant --clients 64 --seconds 600

A server of its own answers, in a process of its own. Clients ask it without a pause; one request in
twenty is malformed or too large, one in ten is streamed, and some clients leave in the middle. Then
one client asks alone, and 1,000 answers have to follow a JSON Schema. A status of 500, a malformed
request that is not refused, a refusal for a full queue without Retry-After, an answer that differs
from the one before, or memory that grows by more than 10 % after the first third ends it with 1.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx2 as httpx
import jsonschema
import numpy as np

CHAT = "/v1/chat/completions"
QUESTIONS = ("What color is snow?", "Name an animal.", "Two plus three?", "白は何色?", "Say hello.")
SCHEMA = {
    "type": "object",
    "properties": {
        "animal": {"enum": ["猫", "dog", "bird"]},
        "count": {"type": "integer", "minimum": 0, "maximum": 99},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 5}, "maxItems": 2},
    },
    "required": ["animal", "count", "tags"],
    "additionalProperties": False,
}
MALFORMED: tuple[bytes, ...] = (
    b"{",
    b"[" * 100_000,
    b'{"messages": 3}',
    b'{"messages": [{"role": "user", "content": "x"}], "n": 9999}',
    b'{"messages": [{"role": "user", "content": "' + b"x " * 400_000 + b'"}]}',
    b"x" * 3_000_000,
)
JSON = {"Content-Type": "application/json"}


class Load:
    """The record of the clients: seconds of each answer, statuses, faults."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.statuses: Counter[int] = Counter()
        self.faults: list[str] = []
        self.answers: dict[str, str] = {}
        self.tokens = 0

    def check(self, response: httpx.Response, question: str) -> None:
        """Note an answer to a question that is always answered in the same way."""
        self.statuses[response.status_code] += 1
        if response.status_code == 503:
            if int(response.headers.get("Retry-After", 0)) < 1:
                self.faults.append("503 without Retry-After")
            return
        if response.status_code != 200:
            self.faults.append(f"{response.status_code} for {question!r}: {response.text[:200]}")
            return
        body = response.json()
        text = body["choices"][0]["message"]["content"]
        self.tokens += body["usage"]["completion_tokens"]
        if self.answers.setdefault(question, text) != text:
            self.faults.append(f"{question!r} was answered by {text!r}")


def said(text: str) -> list[dict[str, str]]:
    """Return a conversation of one message."""
    return [{"role": "user", "content": text}]


async def client(asking: httpx.AsyncClient, load: Load, until: float, seed: int) -> None:
    """Ask until a moment."""
    draw = random.Random(seed)
    while time.monotonic() < until:
        kind, question = draw.random(), draw.choice(QUESTIONS)
        if kind < 0.05:
            response = await asking.post(CHAT, content=draw.choice(MALFORMED), headers=JSON)
            load.statuses[response.status_code] += 1
            if not 400 <= response.status_code < 500:
                load.faults.append(f"{response.status_code} for a malformed request")
        elif kind < 0.15:
            body = {"messages": said(question), "stream": True}
            async with asking.stream("POST", CHAT, json=body) as stream:
                load.statuses[stream.status_code] += 1
                async for _ in stream.aiter_lines():
                    if kind < 0.07:  # it leaves
                        break
        else:
            began = time.monotonic()
            load.check(await asking.post(CHAT, json={"messages": said(question)}), question)
            load.seconds.append(time.monotonic() - began)


def computed(process: int) -> float:
    """Return the seconds that a process has computed."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def memory(process: int, until: float) -> list[float]:
    """Return the megabytes that a process has, each second."""
    found = []
    while time.monotonic() < until:
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
        found.append(pages * 4096 / 1e6)
        await asyncio.sleep(1)
    return found


async def constrained(asking: httpx.AsyncClient, count: int, at_once: int) -> tuple[int, float]:
    """Return how many of `count` answers follow the schema, and seconds."""
    form = {"type": "json_schema", "json_schema": {"name": "animal", "schema": SCHEMA}}
    good, left = 0, iter(range(count))

    async def ask() -> None:
        nonlocal good
        for seed in left:
            body: dict[str, Any] = {"messages": said(QUESTIONS[seed % 5]), "seed": seed}
            body |= {"response_format": form, "temperature": 1.5}
            answer = (await asking.post(CHAT, json=body)).json()["choices"][0]
            jsonschema.validate(json.loads(answer["message"]["content"]), SCHEMA)
            good += 1

    began = time.monotonic()
    await asyncio.gather(*(ask() for _ in range(at_once)))
    return good, time.monotonic() - began


def shown(name: str, load: Load, seconds: float, busy: float) -> str:
    """Return what clients saw as a line; busy: seconds that the server has computed."""
    middle, slow = (1000 * np.percentile(load.seconds, p) for p in (50, 99))
    count = len(load.seconds)
    return (
        f"{name}: {count:,} answers in {seconds:.0f} s, {count / seconds:.1f} a second, "
        f"{load.tokens / seconds:,.0f} tokens a second; p50 {middle:.0f} ms, "
        f"p99 {slow:.0f} ms; {1000 * busy / count:.1f} ms of processor time each; "
        f"statuses {dict(sorted(load.statuses.items()))}"
    )


async def measure(url: str, process: int, chosen: argparse.Namespace) -> list[str]:
    """Return the faults that were found; print the figures."""
    limits = httpx.Limits(max_connections=chosen.clients)
    async with httpx.AsyncClient(base_url=url, timeout=120, limits=limits) as asking:
        await client(asking, Load(), time.monotonic() + 2, seed=-1)
        load, until = Load(), time.monotonic() + chosen.seconds
        clients = (client(asking, load, until, seed) for seed in range(chosen.clients))
        before = computed(process)
        megabytes, *_ = await asyncio.gather(memory(process, until), *clients)
        busy = computed(process) - before
        print(shown(f"{chosen.clients} clients", load, chosen.seconds, busy))
        third = len(megabytes) // 3
        early, late = max(megabytes[: third + 1]), max(megabytes[third:])
        print(f"memory: {early:.0f} MB in the first third, then {late:.0f} MB at most")
        if late > 1.1 * early:
            load.faults.append("memory grows")
        alone, seconds, before = Load(), chosen.seconds / 4, computed(process)
        await client(asking, alone, time.monotonic() + seconds, seed=7)
        print(shown("one client", alone, seconds, computed(process) - before))
        good, taken = await constrained(asking, chosen.answers, at_once=8)
    print(f"{good:,} of {chosen.answers:,} answers follow the schema, {taken:.0f} s")
    for question, text in alone.answers.items():
        if load.answers.get(question, text) != text:
            load.faults.append(f"{question!r} alone is answered by {text!r}")
    return [*load.faults, *alone.faults]


def main() -> None:
    """Start the server, measure, end it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", help="of a chat model")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--answers", type=int, default=1000)
    chosen = parser.parse_args()
    command = [sys.executable, "-m", "tfx_transformer.cli", "serve", chosen.bundle, "--port=0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        url = re.search(r"http://[\d.:]+", process.stdout.readline())[0]
        faults = asyncio.run(measure(url, process.pid, chosen))
        process.terminate()
        if process.wait(60) != 143:
            faults.append(f"the server ended with {process.returncode}")
    finally:
        process.kill()
    for fault, count in Counter(faults).most_common(10):
        print(f"FAULT {count} times: {fault}")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
