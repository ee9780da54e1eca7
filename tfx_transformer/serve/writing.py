"""Models that write: many running answers, a token of each in turn."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tfx_transformer.errors import InputError
from tfx_transformer.generation import loop, numpy_ops
from tfx_transformer.generation.constraint import Constraint
from tfx_transformer.generation.options import GenerationOptions
from tfx_transformer.generation.sampling import Sampler
from tfx_transformer.generation.text import TextGenerator, TokenProbability
from tfx_transformer.runtime.rows import new_rows
from tfx_transformer.serve import errors
from tfx_transformer.serve.metrics import Metrics
from tfx_transformer.serve.work import Work, Worker


class Written(NamedTuple):
    """An answer.

    text: of the answer; reason: "stop" if the model or a stop text ended it, "length" if a limit
    did; tokens: number of tokens; probabilities: of the tokens, if requested.
    """

    text: str
    reason: str
    tokens: int
    probabilities: list[TokenProbability] | None = None


class Piece(NamedTuple):
    """A piece of an answer that is streamed; see `Written`."""

    text: str
    probabilities: list[TokenProbability] | None = None


class Prompt(Work):
    """A text to write. Its events are `Piece`s, if it is streamed, then a `Written`.

    Args:
        index, client, deadline, events: see `Work`.
        ids: token ids of the prompt.
        options: of generation.
        choice: number of the answer among several to the same prompt; each has its own draws.
        streamed: True if pieces are sent as they are written.
        form: of the answer, or None.
        keep_space: see `generation.text.Writer`.
    """

    def __init__(
        self,
        index: int,
        client: str,
        deadline: float,
        events: asyncio.Queue,
        ids: Sequence[int],
        options: GenerationOptions,
        choice: int = 0,
        streamed: bool = False,
        form: Constraint | None = None,
        keep_space: bool = False,
    ) -> None:
        super().__init__(index, client, deadline, events)
        self.ids, self.options, self.choice, self.streamed = ids, options, choice, streamed
        self.form, self.keep_space = form, keep_space


class WritingWorker(Worker):
    """Writes the answers of one model; see `Worker`.

    As many texts run as the engine has rows; a new prompt takes the first free row, between two
    tokens of the others.

    Args:
        name, most, metrics: see `Worker`.
        generator: the model, run by LiteRT.
    """

    def __init__(self, name: str, most: int, metrics: Metrics, generator: TextGenerator) -> None:
        super().__init__(name, most, metrics)
        self.generator = generator
        self._rows = new_rows(generator.engine)
        self._active: dict[int, _Answer] = {}

    def turn(self) -> list[Work]:
        """See `Worker`."""
        for row in range(self._rows.count):
            if row not in self._active:
                work = self.take(wait=not self._active)
                if work is None:
                    break
                self._begin(row, work)
        if self._active:
            self._step()
        return [answer.prompt for answer in self._active.values()]

    def fail(self, error: BaseException) -> None:
        """See `Worker`."""
        for answer in self._active.values():
            answer.prompt.tell(error=error)
        self._active.clear()
        self._rows = new_rows(self.generator.engine)

    def _begin(self, row: int, prompt: Prompt) -> None:
        try:
            if prompt.options.beams > 1:
                self._search(prompt)
                return
            first_id = self._rows.begin(row, prompt.ids)
            room = self._rows.room(prompt.ids)
            self._active[row] = _Answer(prompt, self.generator, first_id, room)
        except InputError as error:  # such as a number of beams that the file does not have
            self._rows.end(row)
            prompt.tell(error=error)
        except Exception as error:
            prompt.tell(error=error)
            raise

    def _search(self, prompt: Prompt) -> None:
        """Write by beam search, while all others wait."""
        began, late = time.monotonic(), False

        def watch(ids: np.ndarray) -> bool:
            nonlocal late
            late = prompt.cancelled or self._is_late(prompt)
            return late

        (row,) = self.generator.engine.generate_ids([prompt.ids], prompt.options, watch)
        ids, end = row.tolist(), self.generator.preprocessor.end_id
        reason = "stop" if end in ids and not late else "length"
        padding = self.generator.engine.config.padding_id
        count = ids.index(end) + 1 if end in ids else len(ids) - ids.count(padding)
        self._count(len(ids), 1)
        self.metrics.count("tfx_completion_tokens_total", self.labels, count)
        self.took(time.monotonic() - began)
        prompt.tell(Written(self.generator.decode(row), reason, count), last=True)

    def _step(self) -> None:
        rows = list(self._active)
        last_ids = np.array([self._active[row].last_id for row in rows], "int32")
        logits = self._rows.step(rows, last_ids)
        self._count(1, len(rows))
        for row, values in zip(rows, logits, strict=True):
            answer = self._active[row]
            try:
                answer.advance(values[None], self._is_late(answer.prompt))
            except InputError as error:  # a form that is too complex
                self._free(row)
                answer.prompt.tell(error=error)
                continue
            if answer.reason or answer.prompt.cancelled:
                self._free(row)
                self._finish(answer)

    def _free(self, row: int) -> None:
        del self._active[row]
        self._rows.end(row)

    def _finish(self, answer: _Answer) -> None:
        written = answer.finish()
        self.metrics.count("tfx_completion_tokens_total", self.labels, written.tokens)
        self.took((time.monotonic() - answer.began) / self._rows.count)
        answer.prompt.tell(written, last=True)

    def _count(self, steps: int, rows: int) -> None:
        self.metrics.count("tfx_steps_total", self.labels, steps)
        self.metrics.count("tfx_rows_total", self.labels, steps * rows)

    def _is_late(self, prompt: Prompt) -> bool:
        now = time.monotonic()
        return now > prompt.deadline or (self.stopped is not None and now > self.stopped)


class _Answer:
    """A running answer, in one row.

    Attributes:
        last_id: the last token id, which the model decodes next.
        reason: "stop" or "length" when it has ended; "" before.
    """

    def __init__(self, prompt: Prompt, generator: TextGenerator, first_id: int, room: int) -> None:
        config, options = generator.engine.config, prompt.options
        self.prompt, self.last_id, self.reason = prompt, first_id, ""
        self.began = time.monotonic()
        limit = loop.new_limit(options, room)
        self._draws = np.zeros((limit, 1), "float32")
        if options.temperature:
            self._draws = loop.uniforms(options, limit, prompt.choice + 1)[:, prompt.choice :]
        self._sampler = Sampler(numpy_ops, options, limit, config)
        self._state = self._sampler.start(np.array([first_id], "int32"))
        self._ends = {config.end_id, generator.preprocessor.end_id}
        if prompt.form is not None:
            prompt.form.check_room(limit)
        send = self._send if prompt.streamed else None
        self.writer = generator.writer(options, send, prompt.form, prompt.keep_space)
        self._sent = 0  # tokens whose probabilities were streamed

    def advance(self, logits: np.ndarray, is_late: bool) -> None:
        """Take the logits, float32 (1, vocabulary_size), of the next token."""
        index = len(self.writer.ids)

        def advance(logits: np.ndarray) -> dict[str, Any]:
            return self._sampler.advance(self._state, index, logits, self._draws[index])

        self._state = self.writer.choose(logits, len(self._draws) - index, advance)
        ids = self._state["ids"]
        self.last_id = int(ids[0])
        if self.writer(ids) or self.last_id in self._ends:
            self.reason = "stop"
        elif is_late or index + 1 == len(self._draws):
            self.reason = "length"

    def finish(self) -> Written:
        """Return the answer; if it was cut, its form may be incomplete."""
        text = self.writer.finish()
        return Written(text, self.reason, len(self.writer.ids), self.writer.tokens)

    def _send(self, text: str) -> None:
        tokens = self.writer.tokens
        new = None if tokens is None else tokens[self._sent :]
        self._sent += len(new or ())
        self.prompt.tell(Piece(text, new))


async def encode(
    worker: WritingWorker, prompts: Sequence, options: GenerationOptions
) -> tuple[list[list[int]], Constraint | None]:
    """Return the ids of prompts and the form of the answers, made in the worker's preparing thread.

    Raises:
        InputError: a prompt is too long, the model's template refuses it, or the form cannot be
            used.
    """
    running = asyncio.get_running_loop()

    def work() -> tuple[list[list[int]], Constraint | None]:
        ids = [worker.generator.encode(prompt) for prompt in prompts]
        form = worker.generator.form(options)
        if len(prompts) == 1:
            form = worker.generator.form_for(form, prompts[0])
        return ids, form

    try:
        return await running.run_in_executor(worker.preparing, work)
    except RuntimeError as error:
        if worker.stopped is not None:  # no more work is taken
            raise errors.ending() from error
        raise
