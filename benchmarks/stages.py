"""The time of each stage of a run, from the first byte of its table to its last line.

    python -m benchmarks.stages translation --epochs 1
    python -m benchmarks.stages text_classification --csv my.csv --text text --label label

Runs a recipe as `tfx-transformer run` does, in a folder that is removed again, and prints the
seconds of each stage: on the clock, and of the processor with the processes that it started. A
stage does not count the stages inside it. On a busy machine compare processor seconds.
"""

from __future__ import annotations

import functools
import importlib
import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

_SCORES = "scores, samples, pictures, report"
# Function -> stage, in the order of the table; a class's method is "module:Class.method".
STAGES = {
    "tfx_transformer.text.tokenizer:Tokenizer.train": "tokenizer trained",
    "tfx_transformer.training.run:Run.show_data": "data shown, lengths drawn",
    "tfx_transformer.training.run:Run.show_cost": "memory and time estimated",
    "tfx_transformer.training.run:Run.fit": "training",
    "tfx_transformer.training.classification:ClassifierRun.join_linear": "linear part: fitted",
    "tfx_transformer.training.run:Run.save": "model saved",
    "tfx_transformer.training.run:Run.finish": _SCORES,
    "tfx_transformer.training.classification:ClassifierRun.report": _SCORES,
    "tfx_transformer.training.embedding:EmbedderRun.report": _SCORES,
    "tfx_transformer.training.calling:ToolRun.report": _SCORES,
    "tfx_transformer.training.classification:ClassifierRun._baselines": "simpler methods",
    "tfx_transformer.training.embedding:EmbedderRun._conclude": "simpler methods",
    "tfx_transformer.training.calling:ToolRun._conclude": "simpler methods",
    "tfx_transformer.training.reporting:explain": "words behind mistakes",
    "tfx_transformer.training.run:Run.draw_attention": "picture of attention",
    "tfx_transformer.training.run:Run.draw_self_attention": "picture of attention",
    "tfx_transformer.export:load": "model loaded for the exports",
    "tfx_transformer.export.to_litert:Conversion._trace": "TFLite: traced",
    "tfx_transformer.export.converter:Converter.wait": "TFLite: waited for the converter",
    "tfx_transformer.export.converter:Converter.__exit__": "TFLite: converter, in its own process",
    "tfx_transformer.export.to_litert:finish": "TFLite: rewritten for GPUs, compacted",
    "tfx_transformer.export:write_saved_model": "SavedModel: traced and written",
    "tfx_transformer.export:write_run_pyz": "run.pyz",
    "tfx_transformer.export:write_litertlm": ".litertlm",
    "tfx_transformer.bundle:_copy": "bundle: checked",
    "tfx_transformer.bundle:_seal": "bundle: new files hashed and flushed",
    "tfx_transformer.models.saving:model_card": "model card",
    "tfx_transformer.export:verify": "verified: answers of the model",
    "tfx_transformer.export.saved_model_file:load": "verified: SavedModel loaded",
    "tfx_transformer.export.saved_model_generator:SavedModelGenerator.generate": (
        "verified: SavedModel's answers"
    ),
    "tfx_transformer.runtime:load": "TFLite loaded",
    "tfx_transformer.runtime.causal:CausalEngine.generate_ids": "verified: TFLite's answers",
    "tfx_transformer.runtime.seq2seq:Seq2SeqEngine.generate_ids": "verified: TFLite's answers",
    "tfx_transformer.runtime.encoder:EncoderEngine._run_all": "verified: TFLite's answers",
    "tfx_transformer.export.verify_generator:_logit_difference": "verified: logits of each step",
    "tfx_transformer.runtime.litertlm:load": "verified: LiteRT-LM",
    "tfx_transformer.runtime.litertlm:LiteRTLMEngine.generate_ids": "verified: LiteRT-LM",
    "tfx_transformer.training.reporting:cost_of_files": "report: files timed and scored",
    "tfx_transformer.training.run:Run.close": "report written",
}
START, REST = "Python and its packages started", "reading, model built"


class Clock:
    """Seconds of stages that contain each other; each moment counts for the innermost one."""

    def __init__(self) -> None:
        self.spent: dict[str, list[float]] = {START: [0.0, 0.0]}
        self._open = [START]
        self._last = now()

    def switch(self, stages: list[str]) -> None:
        """Count the time until now for the innermost stage, and let `stages` be the open ones."""
        here = now()
        spent = self.spent.setdefault(self._open[-1], [0.0, 0.0])
        for place in (0, 1):
            spent[place] += here[place] - self._last[place]
        self._open, self._last = stages, here

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        before = self._open
        self.switch([*before, name])
        try:
            yield
        finally:
            self.switch(before)


def now() -> tuple[float, float]:
    """Return a time on the clock and the processor time of this process and of those that it has
    waited for, in seconds."""
    used = (resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return time.monotonic(), sum(one.ru_utime + one.ru_stime for one in used)


def watch(clock: Clock) -> None:
    """Let each function of `STAGES` tell the clock when it runs; missing ones are left out."""
    for place, name in STAGES.items():
        module, _, path = place.partition(":")
        owner = importlib.import_module(module)
        *classes, attribute = path.split(".")
        owner = functools.reduce(lambda found, one: getattr(found, one, None), classes, owner)
        function = getattr(owner, attribute, None)
        if function is not None:
            setattr(owner, attribute, _watched(clock, name, function))


def _watched(clock: Clock, name: str, function):
    @functools.wraps(function)
    def call(*arguments, **options):
        with clock.stage(name):
            return function(*arguments, **options)

    return call


def table(spent: dict[str, list[float]]) -> list[str]:
    """Return the lines of the table."""
    order = [START, REST, *dict.fromkeys(STAGES.values())]
    rows = [(name, *spent[name]) for name in order if name in spent]
    rows.append(("together", *(sum(row[place] for row in rows) for place in (1, 2))))
    lines = ["| stage | seconds | processor seconds |", "|---|---|---|"]
    return lines + [f"| {name} | {wall:.1f} | {used:.1f} |" for name, wall, used in rows]


def main(arguments: list[str]) -> None:
    """Run the recipe that the first argument names with the other arguments as its flags."""
    clock = Clock()
    import tfx_transformer as tfx

    tfx.export  # noqa: B018, starts TensorFlow as a recipe does
    watch(clock)
    recipe = importlib.import_module(f"recipes.{arguments[0]}")
    flags = [os.path.abspath(one) if os.path.exists(one) else one for one in arguments[1:]]
    clock.switch([REST])
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        sys.argv = [arguments[0], *flags]
        try:
            tfx.flags.run(recipe.main)
        except SystemExit as end:
            if end.code:
                raise
        finally:
            clock.switch([REST])
            os.chdir("/")
    print("\n".join(table(clock.spent)))


if __name__ == "__main__":
    main(sys.argv[1:])
