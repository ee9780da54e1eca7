"""Train a classifier of images: dog, cat or bird.

    tfx-transformer run image_classification
    tfx-transformer run image_classification --images photos/ --name my
    tfx-transformer run image_classification --images photos/ --teacher saved_models/large

The defaults train a compact convolutional Transformer on datasets/images, in 2
minutes on 2 cores. The model is in saved_models/<name>/, and a record of the
training in runs/<name>/.
"""

from pathlib import Path
from typing import Any, Literal

import tfx_transformer as tfx


def main(
    images: Path | None = None,
    path: str = "path",
    label: str = "label",
    validation: Path | None = None,
    share: float = 0.15,
    skip_bad_rows: bool = False,
    encoding: str = "",
    delimiter: str = "",
    sheet: str = "",
    table: str = "",
    unlabelled: Path | None = None,
    teacher: str | Path = "",
    base: str | Path = "",
    size: Literal["nano", "tiny", "small", "base"] = "tiny",
    layers: int = 0,
    heads: int = 0,
    width: int = 0,
    image_size: int = 48,
    conv_layers: int = 2,
    patch_size: int = 4,
    linear_cells: int = 4,
    linear_patches: int = 128,
    pooling: Literal["mean", "first", "last", "attention", "class_tokens"] = "attention",
    dropout: float = 0.0,
    stochastic_depth: float = 0.1,
    epochs: int = 60,
    batch_size: int = 32,
    accumulate: int = 1,
    remat: bool = False,
    learning_rate: float = 1e-3,
    warmup_steps: int = 50,
    weight_decay: float = 0.05,
    class_weights: Literal["", "balanced"] = "",
    label_smoothing: float = 0.1,
    mix: float = 0.5,
    temperature: float = 2.0,
    teacher_share: float = 0.5,
    average: float = 0.99,
    patience: int = 30,
    minutes: float = 0.0,
    save_minutes: float = 5.0,
    quantization_aware: Literal["", "int4", "int8"] = "",
    quantization_epochs: int | None = None,
    precision: Literal[
        "float32", "bfloat16", "float16", "mixed_bfloat16", "mixed_float16"
    ] = "float32",
    seed: int = 1,
    log: Literal["", "wandb", "mlflow"] = "",
    name: str = "animals",
    overwrite: bool = False,
    quantize: Literal["", "int4"] = "",
    example: str = "",
) -> dict[str, Any]:
    """Train an encoder-only Transformer to label images.

    Data arguments:
        images: Folder with a folder of images for each label, or a table of paths and labels.
            Several are separated by commas: an image of a later one replaces the same image of an
            earlier one. Default: datasets/images/train.
        path: Column of the paths, if images is a table.
        label: Column of the labels, if images is a table.
        validation: Held-out images, in the same form. Default: a share is held out.
        share: Share of the images to hold out, from 0 to 1.
        skip_bad_rows: Skip images that cannot be read, and list them in the run's folder.
        encoding: Encoding of a CSV table, such as cp932; empty: detected.
        delimiter: Separator of its cells, such as ";" or tab; empty: detected.
        sheet: Sheet of an Excel workbook; empty: the only one.
        table: Table of a SQLite database; empty: the only one.
        unlabelled: Images without labels that the teacher answers, to train on too: a folder, whose
            images may be in folders of any depth, or a table with the column of the paths.

    Model arguments:
        teacher: Larger model whose answers are learned beside the labels: a bundle with these
            labels, or a checkpoint that has a head, as for base. Default: the labels alone.
        base: Model to begin with: a bundle, a folder, a name that `tfx-transformer bases` lists, or
            hf://owner/name. Default: a new model. A bundle with these labels gets the new ones too;
            its held-out rows stay held out, and both models are compared.
        size: Size of a new model.
        layers: Number of layers of a new model; 0: as its size says.
        heads: Number of attention heads of a new model; 0: as its size says.
        width: Width of the vectors of a new model; 0: as its size says.
        image_size: Height and width in pixels to which images are resized for a new model.
        conv_layers: Convolutions that turn an image into vectors; each halves its sides. 0: a plain
            Vision Transformer, which cuts the image into patches.
        patch_size: Height and width of a patch in pixels.
        linear_cells: Parts along a side of an image whose edges are counted for the linear
            classifier that answers together with a new Transformer; 0: no linear classifier.
        linear_patches: Filters, made of parts of the images, whose answers this linear classifier
            sees too; 0: none.
        pooling: How the vectors of an image become one.
        dropout: Share of activations that training drops, from 0 to 1.
        stochastic_depth: Share of examples for which training skips the last layer, from 0 to 1.

    Training arguments:
        epochs: Passes over the data.
        batch_size: Images in one training step.
        accumulate: Parts in which a step computes its batch, one after the other: more parts take
            less memory, and the gradient is that of the whole batch.
        remat: Keep only the input of each layer in memory, and compute it again for the gradient:
            less memory, a third more computing, and the same result.
        learning_rate: Highest learning rate.
        warmup_steps: Steps in which the learning rate rises to its highest value.
        weight_decay: Decay of the weights, decoupled from the gradient (AdamW).
        class_weights: balanced gives all classes the same weight in the loss; empty: all examples.
        label_smoothing: Share of each label that goes to all other labels, from 0 to 1; of no use
            with a teacher.
        mix: Share of batches whose images are mixed with each other (mixup, CutMix), from 0 to 1.
        temperature: Divisor of the logits for the teacher's share of the loss: the higher, the more
            the unlikely labels count.
        teacher_share: Share of the teacher in the loss, from 0 to 1; the labels have the rest.
        average: Decay of the moving average of the weights; 0: no average.
        patience: Epochs without a better macro-F1 after which training ends.
        minutes: Longest training time in minutes; 0: no limit.
        save_minutes: Minutes between two checkpoints within an epoch.
        quantization_aware: Go on training with weights rounded as in the int4 or the int8 file, so
            that the file loses less; empty: weights are rounded after the training only.
        quantization_epochs: Passes over the data with rounded weights. Default: 3.
        precision: Number format of the arithmetic.
        seed: Seed of all random numbers; the same seed gives the same model.
        log: Service that also records the training; its package must be installed.

    Result arguments:
        name: Name of the model's folder in saved_models/ and of the record in runs/.
        overwrite: Replace a model of that name.
        quantize: int4 also exports a TFLite file with weights in 4 bits, rounded so that answers
            to training rows change least; empty: only float32 and int8.
        example: Name of an image for the command in the README of the bundle. Default: photo.jpg.
    """
    settings = dict(locals())
    bundle = tfx.training.new_bundle_path(name, overwrite)
    tfx.training.check_settings(settings, main)

    images = images or tfx.resources.dataset_path("images/train")
    reading = {"encoding": encoding, "delimiter": delimiter, "sheet": sheet, "table": table}
    images, validation, unlabelled = tfx.data.table_files(images, validation, unlabelled, **reading)
    taught_by = None
    if teacher:
        taught_by = tfx.training.Teacher(teacher, "classification", images=True)
    columns = {"image": path, "label": label, "skip_bad_rows": skip_bad_rows}
    train = tfx.data.read_labelled_images(images, **columns)
    held_out = tfx.data.read_labelled_images(validation, **columns) if validation else None
    past = tfx.training.Past(base)
    taught_past = taught_by.past if taught_by else None
    split = tfx.data.split_labelled_images
    train, held_out = past.divide(train, held_out, split, share, seed, teacher=taught_past)
    known = past.labels
    if taught_by:
        taught_by.check(train, more=past.labels)
        known = past.labels or taught_by.labels
    others = None
    if unlabelled:
        others = tfx.data.read_unlabelled_images(unlabelled, path, skip_bad_rows=skip_bad_rows)
        others = others.without(train.keys(), held_out.keys())
    labels = tfx.data.label_names(train.labels, train.path, known)

    tfx.training.set_random_seed(seed)
    base_model = None
    if base:
        base_model, _ = tfx.from_pretrained(base, task="classification")
        config = base_model.config
    else:
        config = tfx.TransformerConfig.of_size(
            size,
            0,
            num_layers=layers,
            num_heads=heads,
            hidden_dim=width,
            image_size=image_size,
            conv_layers=conv_layers,
            patch_size=patch_size,
            pooling=pooling,
        )
    config = tfx.config_for_fine_tuning(
        config,
        num_classes=len(labels),
        dropout=dropout,
        stochastic_depth=stochastic_depth,
    )
    model = tfx.Classifier(config, dtype=precision)
    tfx.copy_weights(model, base_model, labels, past.labels)

    run = tfx.training.ClassifierRun(name, settings, recipe=main, past=past)
    run.show_data(tfx.data.describe_labelled_images(train, held_out, labels), train, held_out)
    run.tokens_per_epoch = len(train)

    image_size = config.image_size
    options = {"image_size": image_size, "image_resize": config.image_resize}
    options["batch_size"] = batch_size
    drawn = {"weights": class_weights, "seed": seed}
    if taught_by:
        answers, apart = run.ask(taught_by, labels, train, held_out, others)
        batches = tfx.data.taught_images(train, labels, answers, others, **options, **drawn)
        checks = tfx.data.taught_images(held_out, labels, apart, **options, shuffle=False)
    else:
        batches = tfx.data.labelled_images(train, labels, **options, **drawn)
        checks = tfx.data.labelled_images(held_out, labels, **options, shuffle=False)

    total_steps = epochs * len(batches)
    run.show_cost(model, batch_size, config.max_sequence_length, total_steps)
    optimizer = tfx.training.adamw(
        learning_rate,
        warmup_steps=warmup_steps,
        decay="cosine",
        total_steps=total_steps,
        weight_decay=weight_decay,
        average=average,
    )
    tfx.training.accumulate(model, accumulate)
    model.remat = remat
    loss, metrics = None, None
    if taught_by:
        loss = tfx.TaughtCrossentropy(temperature, teacher_share)
        metrics = [tfx.TaughtAccuracy()]
    model.compile(optimizer, loss, metrics, label_smoothing=label_smoothing)
    predictor = tfx.predictor(model, labels=labels)
    callbacks = run.watch(predictor, held_out, patience, minutes, average > 0)
    batches = tfx.training.augment_images(batches, image_size, seed, mix, temperature)
    run.fit(model, batches, checks, epochs, callbacks)
    classifier = model
    if base_model is None or base_model.config.linear_cells:
        classifier = run.join_linear(model, train, linear_cells, linear_patches)
    run.calibrate(classifier)
    bundle = run.compare(bundle)

    run.save(bundle, classifier, labels=labels)
    result = run.report(model, train)
    tfx.update_config(bundle, **result)
    calibration = train.files[:: 1 + len(train) // 200]
    rows = tfx.export.training_rows(model, batches) if quantize else None
    verified = tfx.export.everything(
        bundle, held_out.files, calibration=calibration, generator=run.answering, int4=rows
    )
    return run.close(result | {"verified": verified})


if __name__ == "__main__":
    tfx.flags.run(main)
