"""Models that write: many running answers, a token of each in turn."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tfx_transformer.errors import InputError
from tfx_transformer.generation import loop, numpy_ops
from tfx_transformer.generation.beam import BeamSearch
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

    As many texts run as the engine has rows, and as many more with beams. A new prompt takes the
    first free row, between two tokens of the others.

    Args:
        name, most, metrics: see `Worker`.
        generator: the model, run by LiteRT.
    """

    def __init__(self, name: str, most: int, metrics: Metrics, generator: TextGenerator) -> None:
        super().__init__(name, most, metrics)
        self.generator = generator
        self._tables = {1: _Table(generator, 1)}

    @property
    def active(self) -> list[_Answer | _Search]:
        """The running answers; any thread may read them."""
        tables = list(self._tables.values())
        return [one for table in tables for one in list(table.answers.values())]

    def turn(self) -> list[Work]:
        """See `Worker`."""
        while (prompt := self.take(wait=not self.active, fits=self._has_row)) is not None:
            self._begin(prompt)
        for table in self._tables.values():
            if table.answers:
                self._step(table)
        return [answer.prompt for answer in self.active]

    def fail(self, error: BaseException) -> None:
        """See `Worker`."""
        for answer in self.active:
            answer.prompt.tell(error=error)
        self._tables = {1: _Table(self.generator, 1)}

    def _has_row(self, prompt: Prompt) -> bool:
        """Return True if a row is free for a prompt; those of a new number of beams are."""
        table = self._tables.get(prompt.options.beams)
        return table is None or table.free is not None

    def _begin(self, prompt: Prompt) -> None:
        try:
            beams = prompt.options.beams
            table = self._tables.get(beams) or _Table(self.generator, beams)
            table.begin(prompt)
        except InputError as error:  # such as a number of beams that the file does not have
            prompt.tell(error=error)
        except Exception as error:
            prompt.tell(error=error)
            raise
        else:
            self._tables[beams] = table

    def _step(self, table: _Table) -> None:
        logits = table.step()
        self._count(1, len(logits))
        for row, values in logits.items():
            answer = table.answers[row]
            try:
                answer.advance(values, self._is_late(answer.prompt))
            except InputError as error:  # a form that is too complex
                table.end(row)
                answer.prompt.tell(error=error)
                continue
            if answer.reason or answer.prompt.cancelled:
                table.end(row)
                self._finish(table, answer)

    def _finish(self, table: _Table, answer: _Answer | _Search) -> None:
        written = answer.finish()
        self.metrics.count("tfx_completion_tokens_total", self.labels, written.tokens)
        self.took((time.monotonic() - answer.began) / table.rows.count)
        answer.prompt.tell(written, last=True)

    def _count(self, steps: int, rows: int) -> None:
        self.metrics.count("tfx_steps_total", self.labels, steps)
        self.metrics.count("tfx_rows_total", self.labels, steps * rows)

    def _is_late(self, prompt: Prompt) -> bool:
        now = time.monotonic()
        return now > prompt.deadline or (self.stopped is not None and now > self.stopped)


class _Table:
    """The rows of an engine, and the answers that run in them.

    Args:
        generator: the model.
        beams: of each answer.

    Attributes:
        answers: by row, each an `_Answer`, or with beams a `_Search`.
    """

    def __init__(self, generator: TextGenerator, beams: int) -> None:
        self._generator, self._beams = generator, beams
        self.rows = new_rows(generator.engine, beams)
        self.answers: dict[int, Any] = {}

    @property
    def free(self) -> int | None:
        """The first free row; None if there is none."""
        return next((row for row in range(self.rows.count) if row not in self.answers), None)

    def begin(self, prompt: Prompt) -> None:
        """Begin the answer to a prompt in the first free row.

        Raises:
            InputError: the file does not decode with so many beams.
        """
        row = self.free
        try:
            first_id = self.rows.begin(row, prompt.ids)
            room = self.rows.room(prompt.ids)
            kind = _Answer if self._beams == 1 else _Search
            self.answers[row] = kind(prompt, self._generator, first_id, room)
        except InputError:
            self.rows.end(row)
            raise

    def end(self, row: int) -> None:
        """Free a row."""
        del self.answers[row]
        self.rows.end(row)

    def step(self) -> dict[int, np.ndarray]:
        """Return the logits of the next tokens of each row's answer, float32 (beams,
        vocabulary_size)."""
        rows, answers = list(self.answers), list(self.answers.values())
        ids = np.concatenate([answer.last_ids for answer in answers])
        if self._beams == 1:
            logits = self.rows.step(rows, ids)
        else:
            origins = np.stack([answer.origins for answer in answers])
            logits = self.rows.step(rows, ids, origins)
        return dict(zip(rows, logits.reshape(len(rows), self._beams, -1), strict=True))


class _Search:
    """A running beam search, in one row.

    Attributes:
        reason: see `_Answer`.
    """

    def __init__(self, prompt: Prompt, generator: TextGenerator, first_id: int, room: int) -> None:
        config, options = generator.engine.config, prompt.options
        self.prompt, self.reason, self.began = prompt, "", time.monotonic()
        self._generator, self._padding, self._steps = generator, config.padding_id, 0
        self._limit = loop.new_limit(options, room)
        self._search = BeamSearch(numpy_ops, options, self._limit, config)
        self._state = self._search.start(np.full(options.beams, first_id, "int32"))

    @property
    def last_ids(self) -> np.ndarray:
        """int32 (beams,), the last token ids, which the model decodes next."""
        return self._state["ids"]

    @property
    def origins(self) -> np.ndarray:
        """int (beams,), the beam that each of them continues."""
        return self._state["rows"]

    def advance(self, logits: np.ndarray, is_late: bool) -> None:
        """Take the logits, float32 (beams, vocabulary_size), of the next tokens."""
        self._state = self._search.advance(self._state, self._steps, logits)
        self._steps += 1
        if is_late:
            self.reason = "length"
        elif self._state["finished"].all() or self._steps == self._limit:
            self.reason = "stop"

    def finish(self) -> Written:
        """Return the best answer so far."""
        (row,) = self._search.result(self._state)
        ids, end = row.tolist(), self._generator.preprocessor.end_id
        count = ids.index(end) + 1 if end in ids else len(ids) - ids.count(self._padding)
        reason = self.reason if end in ids else "length"
        return Written(self._generator.decode(row), reason, count)


class _Answer:
    """A running answer, in one row.

    Attributes:
        last_ids: int32 (1,), the last token id, which the model decodes next.
        reason: "stop" or "length" when it has ended; "" before.
    """

    def __init__(self, prompt: Prompt, generator: TextGenerator, first_id: int, room: int) -> None:
        config, options = generator.engine.config, prompt.options
        self.prompt, self.reason, self.began = prompt, "", time.monotonic()
        limit = loop.new_limit(options, room)
        self._draws = np.zeros((limit, 1), "float32")
        if options.temperature:
            self._draws = loop.uniforms(options, limit, prompt.choice + 1)[:, prompt.choice :]
        self._sampler = Sampler(numpy_ops, options, limit, config)
        self.last_ids = np.array([first_id], "int32")
        self._state = self._sampler.start(self.last_ids)
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
        self.last_ids = ids
        if self.writer(ids) or int(ids[0]) in self._ends:
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
