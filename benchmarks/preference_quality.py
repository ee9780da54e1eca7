"""Preferences learned by us and by TRL.

Our assistant learns the pairs of datasets/preferences.csv by `preference_finetuning`, with and
without rehearsed rows, and by the DPOTrainer of TRL in PyTorch: the same base, the same 160 pairs,
steps, batches, beta, learning rates and optimizer, no dropout.
Keras then scores all by the same code: the share of 40 held-out pairs whose chosen answer is the
likelier one, by the sum of log p over its tokens, and the exact greedy answers to
datasets/instructions_heldout.csv, with intervals of 95 %. No training stops early; ours keep the
weights of the epoch with the lowest loss on held-out rows, TRL's those of the last step.

    python -m benchmarks preference_quality --python trl=PYTHON

It takes about 5 minutes for the base, then 6 for a seed, on 2 cores. Expect all to prefer more of
the chosen answers than the base, and rehearsal to keep the exact answers. PYTHON is an environment
with TRL and with our packages.
"""

from __future__ import annotations

import csv
import functools
from pathlib import Path

from benchmarks import commands, shapes
from benchmarks.tables import KERAS, OURS, Case, Settings, System

UNIT = None
LENGTH = 128
TRAIN = (
    *("--epochs", "16", "--batch-size", "8", "--learning-rate", "1e-3", "--warmup-steps", "10"),
    *("--beta", "0.005", "--sft-weight", "0.5", "--max-length", str(LENGTH), "--patience", "16"),
)
REHEARSED = ("--rehearse", str(commands.ROOT / "datasets" / "instructions.csv"))

CASES = tuple(
    Case(f"seed-{seed}", f"seed {seed}", {"seed": seed, "train": list(TRAIN)}) for seed in (1, 2, 3)
)


def pairs(settings: Settings) -> tuple[Path, Path]:
    """The tables of the pairs to learn and of the held-out pairs, those of the recipe's seed 1."""
    import tfx_transformer as tfx

    read = tfx.data.read_preferences(commands.ROOT / "datasets" / "preferences.csv")
    parts = tfx.data.split_preferences(read, 0.2, seed=1)
    names = ("preferences-train.csv", "preferences-heldout.csv")
    paths = shapes.work_file(settings, names[0]), shapes.work_file(settings, names[1])
    for path, part in zip(paths, parts, strict=True):
        rows = zip(part.prompts, part.chosen, part.rejected, strict=True)
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("prompt", "chosen", "rejected"), *rows])
    return paths


def base(settings: Settings) -> str:
    """The folder of the assistant that all begin with."""
    return commands.bundle(settings, "instruction_finetuning", "assistant")


def scores(settings: Settings, folder: str | Path) -> dict[str, float | str]:
    """The scores of a bundle or of a folder of transformers."""
    import tfx_transformer as tfx

    model, tokenizer = tfx.from_pretrained(folder, task="causal", max_length=LENGTH)
    held_out = tfx.data.read_preferences(pairs(settings)[1])
    batches = tfx.data.preferences(
        held_out, tfx.ChatTemplate.of(tokenizer), max_length=LENGTH, shuffle=False
    )
    found = model.predict(batches, verbose=0).reshape(-1, 2)
    questions = tfx.data.read_instructions(commands.ROOT / "datasets/instructions_heldout.csv")
    written = tfx.text_generator(model, tokenizer).generate(questions.prompts(), max_new_tokens=64)
    answers = questions.answers()
    exact = round(tfx.score_answers(written, answers)["exact_match"] * len(answers))
    return {
        "chosen preferred, %": share(int((found[:, 0] > found[:, 1]).sum()), len(found)),
        "exact answers, %": share(exact, len(answers)),
        "log p of a chosen answer": float(found[:, 0].mean()),
        "log p of a rejected answer": float(found[:, 1].mean()),
    }


def share(hits: int, count: int) -> str:
    """A share in percent, with its interval."""
    from tfx_transformer.evaluation.intervals import proportion_interval

    low, high = proportion_interval(hits, count)
    return f"{100 * hits / count:.1f} ({100 * low:.1f} to {100 * high:.1f})"


def before(settings: Settings) -> dict[str, float | str]:
    return scores(settings, base(settings))


def ours(settings: Settings, name: str, rehearsed: tuple[str, ...]) -> dict[str, float | str]:
    train, held_out = map(str, pairs(settings))
    bundle = commands.bundle(
        settings,
        "preference_finetuning",
        f"preferences-{name}-{settings['seed']}",
        *("--base", base(settings), "--csv", train, "--validation", held_out),
        *("--seed", str(settings["seed"]), *settings["train"], *rehearsed),
    )
    return scores(settings, bundle)


def trl(settings: Settings, losses: tuple[str, ...]) -> dict[str, float | str]:
    """By TRL's trainer; "sft" adds -log p of a token of the chosen answers, the mean over a batch.

    Raises:
        RuntimeError: TRL reads other tokens from the pairs than we do.
    """
    import transformers
    from trl.trainer.dpo_config import DPOConfig
    from trl.trainer.dpo_trainer import DPOTrainer

    import datasets
    import tfx_transformer as tfx

    bundle = base(settings)
    source = Path(bundle, "transformers")
    if not source.exists():
        commands.tool(settings, "export", bundle, "--to", "transformers")
    read = tfx.data.read_preferences(pairs(settings)[0])
    rows = [
        {
            "prompt": [{"role": "user", "content": prompt}],
            "chosen": [{"role": "assistant", "content": chosen}],
            "rejected": [{"role": "assistant", "content": rejected}],
        }
        for prompt, chosen, rejected in zip(read.prompts, read.chosen, read.rejected, strict=True)
    ]
    given = dict(zip(settings["train"][::2], settings["train"][1::2], strict=True))
    weights = {"sigmoid": 1.0, "sft": float(given["--sft-weight"])}
    folder = Path(settings["work"], f"trl-{'-'.join(losses)}-{settings['seed']}")
    shapes.torch_with(settings["threads"])
    arguments = DPOConfig(
        output_dir=str(folder),
        loss_type=list(losses),
        loss_weights=[weights[loss] for loss in losses],
        beta=float(given["--beta"]),
        num_train_epochs=float(given["--epochs"]),
        max_steps=4 if settings["quick"] else -1,
        per_device_train_batch_size=int(given["--batch-size"]),
        max_length=LENGTH,
        learning_rate=float(given["--learning-rate"]),
        warmup_steps=int(given["--warmup-steps"]),
        lr_scheduler_type="cosine_with_min_lr",
        lr_scheduler_kwargs={"min_lr_rate": 0.1},
        optim="adamw_torch",
        adam_beta2=0.98,
        adam_epsilon=1e-9,
        weight_decay=0.01,
        max_grad_norm=1.0,
        bf16=False,
        gradient_checkpointing=False,
        seed=settings["seed"],
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
    )
    trainer = DPOTrainer(
        model=transformers.AutoModelForCausalLM.from_pretrained(source),
        args=arguments,
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=transformers.AutoTokenizer.from_pretrained(source),
    )
    check_tokens(trainer.train_dataset, read, bundle)
    trainer.train()
    trainer.save_model(str(folder))
    return scores(settings, folder)


def check_tokens(rows, read, bundle: str) -> None:
    """Raise unless the rows of TRL have the ids that we read from the pairs."""
    import tfx_transformer as tfx
    from tfx_transformer.data.preference_pairs import encode_preferences

    template = tfx.ChatTemplate.of(tfx.load(bundle)[1])
    ours = [
        (answer.ids[: answer.begin], answer.ids[answer.begin :])
        for pair in encode_preferences(read, template)
        for answer in pair
    ]
    theirs = [
        (row["prompt_ids"], row[key]) for row in rows for key in ("chosen_ids", "rejected_ids")
    ]
    if ours != theirs:
        number = next(i for i, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b)
        raise RuntimeError(f"answer {number}: TRL reads {theirs[number]}, we {ours[number]}")


_TRL = ("trl", "torch", "transformers", "accelerate", "datasets", *OURS)
SYSTEMS = (
    System("base", "the base", before, OURS, KERAS),
    System(
        "tfx", "ours", functools.partial(ours, name="rehearsed", rehearsed=REHEARSED), OURS, KERAS
    ),
    System(
        "tfx-pairs",
        "ours, only pairs",
        functools.partial(ours, name="pairs", rehearsed=()),
        OURS,
        KERAS,
    ),
    System("trl", "TRL", functools.partial(trl, losses=("sigmoid",)), _TRL, KERAS),
    System(
        "trl-sft",
        'TRL, with the loss "sft"',
        functools.partial(trl, losses=("sigmoid", "sft")),
        _TRL,
        KERAS,
    ),
)
