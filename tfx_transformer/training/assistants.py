"""The run of an assistant, which may learn from a teacher."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfx_transformer.data.chat_records import Messages
from tfx_transformer.data.conversations import Conversations, add_turns
from tfx_transformer.data.instruction_batches import instruction_examples
from tfx_transformer.data.taught_text import UnlabelledTexts
from tfx_transformer.data.taught_token import taught_conversations
from tfx_transformer.reprs import quantity
from tfx_transformer.text.prompts import ChatTemplate
from tfx_transformer.training.folder import ANSWERS, TOKEN_ANSWERS
from tfx_transformer.training.run import Run
from tfx_transformer.training.token_teachers import TokenTeacher


class AssistantRun(Run):
    """One training run of an assistant; the arguments are those of `Run`."""

    def learn_answers(
        self,
        teacher: TokenTeacher,
        train: Conversations,
        others: UnlabelledTexts | None = None,
        prompts: Sequence[Messages] = (),
        *,
        max_length: int,
        replaced: bool = False,
        joined: bool = False,
        turns: int = 1,
        seed: int = 0,
    ) -> Conversations:
        """Return training conversations with answers of a teacher: see `data.taught_conversations`.
        They are then joined into longer ones.

        `teacher.bin` in the folder keeps the answers for a later run with the same teacher, such as
        an interrupted run that goes on.

        Args:
            teacher: the teacher.
            train: the training conversations.
            others: prompts without answers; None: none.
            prompts: the same as conversations.
            max_length: most tokens that the student reads, and that an answer has.
            replaced: True if the teacher's answers replace those of the data.
            joined: True to learn both.
            turns, seed: arguments of `data.add_turns`.
        """
        asked = [*(train.prompts() if replaced or joined else ()), *prompts]
        path = self._folder.file(ANSWERS)
        answers = teacher.texts(asked, path, most=max_length) if asked else []
        taught = taught_conversations(train, answers, others, prompts, joined)
        more = f", {quantity(len(prompts), 'prompt')} without an answer" if prompts else ""
        if asked:
            print(f"teacher     {teacher.source}: {quantity(len(answers), 'answer')}{more}")
        self._record_teacher(teacher, others)
        longer = add_turns(taught, turns, seed)
        self.rows = longer.rows
        times = 1 if longer is taught else 2  # each conversation is in a longer one again
        self.tokens_per_epoch = round(times * self.tokens_per_epoch * len(taught) / len(train))
        return longer

    def ask(
        self,
        teacher: TokenTeacher,
        template: ChatTemplate,
        *parts: Conversations,
        max_length: int,
        loss_on: str,
        temperature: float,
    ) -> list[list[np.ndarray]]:
        """Return a teacher's likeliest tokens and their probabilities, for each part of the data:
        see `data.taught_instructions`.

        `teacher_tokens.bin` in the folder keeps them for a later run with the same teacher, such as
        an interrupted run that goes on.

        Args:
            teacher: the teacher.
            template: template of the student.
            parts: the training conversations, then others.
            max_length, loss_on: as for `data.instructions`.
            temperature: divisor of the teacher's logits.
        """
        made = [instruction_examples(part, template, max_length, loss_on)[0] for part in parts]
        every = [example for examples in made for example in examples]
        found = teacher.next_tokens(every, self._folder.file(TOKEN_ANSWERS), temperature)
        print(f"teacher     {teacher.source}: {quantity(sum(map(len, found)), 'token')}")
        ends = np.cumsum([len(examples) for examples in made]).tolist()
        return [found[end - len(part) : end] for end, part in zip(ends, made, strict=True)]
