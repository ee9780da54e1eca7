"""`fit` around which nothing is lost: it goes on where it was, and minds numbers gone wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import keras

from tfx_transformer.annotations import Batches
from tfx_transformer.errors import InputError
from tfx_transformer.training import finite
from tfx_transformer.training.identity import model_of
from tfx_transformer.training.resume import Resume

if TYPE_CHECKING:
    from tfx_transformer.training.run import Run


def fit(
    run: Run,
    model: keras.Model,
    batches: Batches,
    checks,
    epochs: int,
    callbacks: Sequence[keras.callbacks.Callback],
    steps: int,
) -> None:
    """Trains a model, from the newest checkpoint of the run if there is one.

    The weights it ends with, and the history, are those of a training that was never interrupted.
    After steps in a row without a finite gradient it goes back to the newest checkpoint and on at
    half the rate; when that has happened too often it ends with the cause.

    Args:
        run: whose folder gets the checkpoints.
        model: compiled with `adamw`, and always made in the same way.
        batches: of `data`, see `data.batches.Source`.
        checks: batches of the validation.
        epochs: to train for; `steps` of each.
        callbacks: of `fit`.

    Raises:
        InputError: the run that was interrupted was another one, no checkpoint is whole, the first
            one cannot be written, or the numbers go wrong again and again.
        SystemExit: SIGTERM (143) or SIGINT (130) ended it, after a checkpoint.
    """
    source = batches.source
    about = {
        "settings": run.identity.settings,
        "files": run.identity.files(run.files) | run.contents,
        "model": model_of(model, steps, epochs),
    }
    before = run.checkpoints.peek()
    if before:
        run.refuse(run.identity.changes(before, about["files"], about["model"]))
    minutes = run.settings.get("save_minutes", 5)
    resume = Resume(run.checkpoints, callbacks, source, steps, about, minutes)
    if resume.begin(model):
        print(f"Goes on from {resume.place()}.")

    def where(step: int) -> str:
        return finite.place(run.file, source, run.rows, step)

    while True:
        guard = finite.Guard(where, resume.first)
        try:
            with resume.fitting():
                model.fit(
                    source.from_step(resume.first),
                    validation_data=checks,
                    initial_epoch=resume.epoch,
                    epochs=epochs,
                    steps_per_epoch=steps,
                    callbacks=[guard, *callbacks, resume],
                    verbose=0,
                )
            return
        except InputError:  # it has ended, and come to nothing
            run.done({})
            raise
        except finite.NumbersGoneWrong as wrong:
            rows = finite.names(source, run.rows, wrong.step)
            batch = source.batch(source.examples(wrong.step))
            why = finite.cause(model, batch, rows)
            rate = finite.rate_of(model.optimizer)
            resume.begin(model)
            if not finite.lower_rate(model.optimizer, rate):
                raise finite.stopped(where(wrong.step), why) from wrong
            print(f"Back to {resume.place()}, at half the rate: {why}.")
