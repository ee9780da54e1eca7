"""Labelled images become a classifier that runs anywhere: dog, cat or bird.

    tfx-transformer run image_classification
    tfx-transformer run image_classification --images photos/ --image-size 64 --name my

Images: a folder with one for each label, or a CSV of path and label; a share is held out, or
--validation. Defaults: a compact convolutional Transformer (--conv-layers 0: a ViT) on
datasets/images, 2 minutes. --base: a bundle, or such as hf://google/vit-base-patch16-224.
"""

import tfx_transformer as tfx


def main(
    images="", validation="", share=0.15, path="path", label="label", skip_bad_rows=False,
    name="animals", overwrite=False, base="", size="tiny", layers=0, heads=0, width=0,
    image_size=48, conv_layers=2, patch_size=4, pooling="attention", mix=0.5,
    epochs=60, batch_size=32, learning_rate=1e-3, warmup_steps=50, weight_decay=0.05,
    dropout=0.0, stochastic_depth=0.1, label_smoothing=0.1, average=0.99, class_weights="",
    patience=30, minutes=0.0, save_minutes=5.0, precision="float32", seed=1,
):  # fmt: skip
    settings = dict(locals())
    bundle = tfx.training.new_bundle_path(name, overwrite)
    tfx.training.set_random_seed(seed)
    how = {"image": path, "label": label, "skip_bad_rows": skip_bad_rows}
    folder = images or tfx.resources.dataset_path("images/train")
    train = tfx.data.read_labelled_images(folder, **how)
    held_out = validation and tfx.data.read_labelled_images(validation, **how)
    if not validation:
        train, held_out = tfx.data.split_labelled_images(train, share, seed)
    names = tfx.data.label_names(train.labels, train.path)
    base = tfx.from_pretrained(base, task="classification")[0] if base else None
    config = base.config if base else tfx.TransformerConfig.of_size(
        size, 0, num_layers=layers, num_heads=heads, hidden_dim=width, image_size=image_size,
        conv_layers=conv_layers, patch_size=patch_size, pooling=pooling,
    )  # fmt: skip
    head = {"num_classes": len(names), "dropout": dropout, "stochastic_depth": stochastic_depth}
    tfx.take_over(model := tfx.Classifier(tfx.fine_tuned(config, **head), dtype=precision), base)
    run = tfx.training.ClassifierRun(name, settings)
    run.show_data(tfx.data.describe_labelled_images(train, held_out, names), train, held_out)
    run.tokens_per_epoch, image_size = len(train), config.image_size
    options = {"image_size": image_size, "batch_size": batch_size}
    batches = tfx.data.labelled_images(train, names, **options, weights=class_weights, seed=seed)
    checks = tfx.data.labelled_images(held_out, names, **options, shuffle=False)
    run.show_cost(model, batch_size * config.max_sequence_length, steps := epochs * len(batches))
    rate = (learning_rate, warmup_steps, "cosine", steps, weight_decay)
    model.compile(tfx.training.adamw(*rate, average=average), label_smoothing=label_smoothing)
    predictor = tfx.predictor(model, labels=names)
    watch = run.watch(predictor, held_out, patience, minutes, average > 0)
    batches = tfx.training.augmented(batches, image_size, seed, mix)
    run.fit(model, batches, checks, epochs, watch)
    tfx.save(bundle, model, overwrite=run.overwrite, labels=names)
    tfx.annotate(bundle, **(result := run.report(model, train)))
    some = train.files[:: 1 + len(train) // 200]
    verified = tfx.export.everything(bundle, held_out.files, calibration=some)
    return run.done(result | {"verified": verified})


if __name__ == "__main__":
    tfx.flags.run(main)
