"""What a user may write, with every public name. Type checkers read it, nobody runs it:
`test_typing.py` holds that they accept it, and that no public name is missing."""

from __future__ import annotations

import numpy as np
import pandas  # type: ignore[import-untyped]

import tfx_transformer as tfx
from tfx_transformer import layers, runtime
from tfx_transformer.data import (
    Conversations,
    LabelledImages,
    LabelledTexts,
    Pairs,
    SentencePairs,
    TokenFile,
)


def translate(table: str) -> list[str]:
    pairs: Pairs = tfx.data.read_pairs(table, source="en", target="ja", skip_bad_rows=True)
    pairs = tfx.data.read_pairs({"source": ["a"], "target": ["b"]})
    pairs = tfx.data.read_pairs([("a", "b"), ("c", "d")])
    pairs = tfx.data.read_pairs(pandas.DataFrame({"source": ["a"], "target": ["b"]}))
    pairs = tfx.data.read_pairs([{"source": "a", "target": "b"}])
    training, held_out = tfx.data.split_pairs(pairs, 0.1, seed=3)
    tokenizer = tfx.Tokenizer.train(training.texts(), vocabulary_size=500)
    config = tfx.TransformerConfig.of_size("nano", tokenizer.vocabulary_size)
    model = tfx.Seq2SeqLM(config, dtype="mixed_bfloat16")
    model.compile(tfx.training.adamw(1e-3), loss=tfx.TokenCrossentropy(0.1))
    history = model.fit(tfx.data.pairs(training, tokenizer), epochs=3, verbose=2)
    print(history.history["loss"][-1], model.predict(np.zeros((2, 3))), len(held_out))
    for summary in tfx.data.describe_pairs(training, held_out, tokenizer, 64):
        print("\n".join(summary.lines()), summary.to_dict())
    generator = tfx.text_generator(model, tokenizer)
    one: str = generator.generate("a", beams=2, stream=None)
    several: list[str] = generator.generate(["a", one], temperature=0.5)
    print(tfx.score_texts(several, several))
    model = tfx.Seq2SeqLM.from_pretrained("bundle", dtype="float32")
    print(model.room(3), model.new_cache(2, 4))
    loaded, its_tokenizer = tfx.load("bundle", task="seq2seq")
    print(loaded.encode(np.zeros((1, 3), "int32")), its_tokenizer.encode("a"))
    any_model, any_tokenizer = tfx.load("bundle")
    print(any_model.config.hidden_dim, any_tokenizer.decode([1]))
    return several


def converse(file: str) -> str:
    chats: Conversations = tfx.data.read_instructions(file, output="answer", system="Be brief.")
    chats = tfx.data.add_turns(chats, most=3)
    training, held_out = tfx.data.split_conversations(chats)
    tokenizer = tfx.Tokenizer.train(training.texts(), 500, tfx.ROLE_TOKENS)
    template = tfx.ChatTemplate.of(tokenizer)
    model, its_tokenizer = tfx.from_pretrained("base", task="causal", max_length=64)
    tfx.add_adapters(model, rank=4)
    model.compile(weighted_metrics=[tfx.TokenAccuracy(), tfx.Perplexity(), tfx.BitsPerByte(2.5)])
    model.fit(tfx.data.instructions(held_out, template), epochs=1, verbose=0)
    print(tfx.data.describe_instructions(training, held_out, template, 64))
    tfx.save_adapters("adapter", model)
    tfx.load_adapters("adapter", model)
    whole = tfx.merge_adapters(model)
    print(tfx.CHAT_TEMPLATE, whole, its_tokenizer.count("a"), tfx.GenerationOptions(beams=2).beams)
    generator = tfx.text_generator(model, its_tokenizer)
    answers = generator.generate([[{"role": "user", "content": "a"}]])
    print(tfx.score_answers(answers, answers))
    return tfx.Chat(generator, system="Be brief.").say("a", max_new_tokens=3)


def pretrain(folder: str) -> tfx.MaskedLM:
    tokenizer = tfx.Tokenizer.train(tfx.data.sample_texts(folder), 500, (tfx.MASK_TOKEN,))
    tfx.data.check_token_folder(folder)
    print(tfx.data.read_token_folder(folder, tokenizer, share=0.1))
    training, held_out = tfx.data.read_corpus(folder, tokenizer, "out", column="text")
    assert isinstance(training, TokenFile)
    documents = tfx.data.read_documents([folder], "text")
    tokens: TokenFile = tfx.data.write_tokens(documents, tokenizer, "tokens.bin")
    training, held_out = tfx.data.hold_out(tokens, 0.1, tokenizer)
    for summary in tfx.data.describe_corpora(training, held_out, 16, batch_size=4):
        print(*summary.lines())
    print(tfx.data.sample_prefixes(held_out, tokenizer, count=2))
    config = tfx.TransformerConfig.of_size("nano", tokenizer.vocabulary_size, style="bert")
    model = tfx.MaskedLM(config)
    model.compile("adam")
    model.fit(tfx.data.mask_tokens(training, tokenizer, length=16, batch_size=4))
    decoder = tfx.CausalLM(config.to_dict())
    decoder.fit(tfx.data.blocks(training, length=16, batch_size=4))
    return model


def mark(table: str) -> tuple[int, str, float]:
    notes: tfx.data.TaggedTexts = tfx.data.read_tagged_texts(table, "body", "spans")
    notes, held_out = tfx.data.split_tagged_texts(notes, 0.2)
    labels = notes.labels()
    tags = tfx.data.tag_names(labels)
    tokenizer = tfx.Tokenizer.train(notes.flat_texts(), 500, pattern=tfx.FINE_PATTERN)
    config = tfx.TransformerConfig.of_size("nano", tokenizer.vocabulary_size, num_classes=len(tags))
    model = tfx.Tagger(config)
    model.fit(tfx.data.tagged_texts(notes, tokenizer, labels, new_names=0.5))
    print(tfx.data.describe_tagged_texts(notes, held_out, tokenizer, labels, 64))
    print(tfx.data.Span(0, 3, "PERSON").label, tfx.training.TaggerRun)
    (found,) = tfx.predictor(model, tokenizer, tags=tags).tag(["Ann"])
    return found[0].start, found[0].text, found[0].probability


def price(table: str) -> list[float]:
    past: tfx.training.Past = tfx.training.Past("")
    offers: tfx.data.ScoredTexts = tfx.data.read_scored_texts(table, "title", "price", decimal=",")
    offers, held_out = tfx.data.split_scored_texts(offers, 0.2)
    scale: tfx.data.Scale = offers.scale()
    settings = tfx.training.classifier_defaults(len(offers), offers.flat_texts())
    settings = tfx.training.fill_in({"name": "a", "vocabulary_size": None}, settings)
    tokenizer = tfx.Tokenizer.train(offers.flat_texts(), settings["vocabulary_size"])
    config = tfx.TransformerConfig.of_size("nano", tokenizer.vocabulary_size)
    model = tfx.Regressor(config)
    model.fit(tfx.data.scored_texts(offers, tokenizer, scale, batch_size=4))
    print(tfx.data.describe_scored_texts(offers, held_out, tokenizer, 64))
    print(tfx.training.RegressorRun, past.goes_on, tfx.layers.NGramLogits(97, classes=3))
    tfx.data.check_documents(table, "title")
    model = tfx.in_units(model, scale.mean, scale.deviation)
    found = [float(one) for one in tfx.predictor(model, tokenizer).predict(held_out.texts)]
    print(tfx.evaluation.score_numbers(found, held_out.numbers)["r2"])
    return found


def classify(table: str, folder: str) -> float:
    texts: LabelledTexts = tfx.data.read_labelled_texts(table, text="title,body", separator="|")
    images: LabelledImages = tfx.data.read_labelled_images(folder)
    images = tfx.data.read_labelled_images([(np.zeros((3, 5, 3), "uint8"), "cat")])
    names = tfx.data.label_names(texts.labels, texts.path)
    tokenizer = tfx.Tokenizer.load("bundle/tokenizer.json")
    base = tfx.MaskedLM.from_pretrained("base")
    model = tfx.Classifier(tfx.config_for_fine_tuning(base.config, num_classes=len(names)))
    tfx.copy_weights(model, base)
    model.compile(label_smoothing=0.1, consistency=1.0)
    batches = tfx.data.labelled_texts(texts, tokenizer, names, weights="balanced")
    model.fit(tfx.training.augment_images(batches, 32), callbacks=[tfx.training.TimeLimit(3)])
    model.fit(tfx.data.labelled_images(images, names), validation_data=None)
    weights = tfx.data.class_weights(tfx.data.label_ids(texts.labels, names, path="", rows=[1]), 2)
    print(tfx.data.describe_labelled_texts(texts, None, tokenizer, names, 64))
    found = tfx.predictor(model, tokenizer, names).classify("a")
    all_found = tfx.predictor(model, labels=names).classify(["a.png", np.zeros((2, 2, 3))])
    try:
        tfx.save("bundle", model, tokenizer, labels=names, overwrite=True)
        tfx.update_config("bundle", scores={"accuracy": 0.5})
    except tfx.InputError as error:
        print(error.file)
    tfx.export.saved_model("bundle")
    tfx.export.litert("bundle", quantize="int8")
    tfx.export.litertlm("bundle")
    tfx.export.transformers("bundle")
    print(tfx.export.verify("bundle", ["a"]), tfx.export.everything("bundle", ["a"]))
    print(tfx.evaluation.majority_baseline, tfx.bundle.read_config("bundle"), weights.sum())
    return found.probability + all_found[0].probabilities["a"]


def evaluate(texts: LabelledTexts, images: LabelledImages) -> None:
    names = ["cat", "dog"]
    inside, outside = tfx.data.split_labelled_texts(texts, share=0.2, seed=1)
    kept, held_out = tfx.data.split_labelled_images(images)
    rows, _ = tfx.data.split_stratified(texts.labels, ["a", "b"], 0.5, 0, path="table.csv")
    print(rows[0], tfx.data.label_matrix(texts.labels, names, path="", rows=texts.rows).shape)
    print(tfx.data.describe_labelled_images(kept, held_out, names)[0].lines())
    ids, truth = inside.targets(names), outside.targets(names)
    print(tfx.evaluation.score_labels(truth, truth, names))
    print(tfx.evaluation.tfidf_baseline(inside.flat_texts(), ids, outside.flat_texts(), truth))
    pixels = np.zeros((2, 8, 8, 3), "uint8")
    print(tfx.evaluation.pixel_baseline(pixels, ids, pixels, truth))
    chances = tfx.evaluation.score_multi_label(pixels, pixels, names)
    print(chances, tfx.evaluation.most_confident_mistakes(["a"], pixels, truth, names))
    print(tfx.evaluation.token_f1("a", "b"), ids.dtype)
    share: tfx.evaluation.Interval | None = tfx.evaluation.proportion_interval(3, 7)
    share = tfx.evaluation.mean_interval([0.5, 1.0]) or share
    share = tfx.evaluation.bootstrap_interval(lambda drawn: float(drawn.mean()), 7) or share
    share = tfx.evaluation.macro_f1_interval(np.eye(2, dtype=int)) or share
    print(share)
    table = tfx.data.read_table("table.csv", {"text": "title"}, skip_bad_rows=True)
    tfx.data.write_bad_rows("bad.csv", table.bad_rows)
    file = tfx.data.TableFile("mails.xlsx", sheet="2026")
    print(tfx.data.read_labelled_texts(file).rows, tfx.data.table_files("a.csv", delimiter=";"))
    for part in tfx.data.stream_table("table.csv", {"text": "title"}, chunk_rows=10):
        print(part.columns["text"][0], part.rows[0])


def draw(vectors: np.ndarray) -> None:
    points, share = tfx.vectors.principal_components(vectors)
    tfx.pictures.map_of_vectors("map.png", points, ["a", "b"], share=share.tolist())
    picture: tfx.pictures.Picture = tfx.pictures.loss_curve(None, [{"loss": 1.0}])
    print(picture.png[:4], picture.path)
    tfx.pictures.confusion_matrix(None, np.array([0]), np.array([1]), ["a", "b"])
    tfx.pictures.calibration(None, vectors, np.array([0, 1]))
    tfx.pictures.length_histogram(None, {"source": [3, 4]}, limit=5)
    tfx.pictures.attention_map(None, vectors, ["a"], [b"b"])
    tfx.pictures.self_attention_map(None, vectors, ["a"])
    tfx.pictures.states_by_layer(None, [vectors], ["a"])
    tfx.pictures.cache_growth(None, vectors, vectors, ["a"])
    tfx.pictures.weight_changes(None, [{"name": "a", "change": 0.5}])
    tfx.pictures.weight_sizes(None, [{"name": "a", "norm": 0.5}])
    tfx.pictures.token_picture(None, {"a": []})
    tfx.pictures.contact_sheet(None, [np.zeros((8, 8, 3), "uint8")], ["cat"], title="Mistakes")


def train_as_recipes_do(goal: str) -> None:
    tfx.training.set_random_seed(3)
    print(tfx.training.text_base("saved_models/base")[1].vocabulary_size)
    run = tfx.training.Run("runs/mine", {"epochs": 3})
    objective = tfx.training.objective(goal)
    tfx.training.check_settings({"epochs": 3})
    print(objective.task, run, tfx.training.new_bundle_path, tfx.training.rounds)
    print(tfx.training.ClassifierRun, tfx.training.EmbedderRun)
    print(tfx.export.agreement, tfx.export.mediapipe)
    print(tfx.training.Progress, tfx.training.Previews, tfx.training.ResumableCallback)
    schedule = tfx.training.InverseSquareRoot(1e-3, warmup_steps=10)
    tfx.TransformerConfig.of_size("nano", 300)
    print(schedule, tfx.resources.recipes()[0].name, tfx.flags.run)


def embed(table: str) -> float:
    pairs: SentencePairs = tfx.data.read_sentence_pairs(table, score="score", highest=5)
    training, held_out = tfx.data.split_sentence_pairs(pairs)
    embedder, tokenizer = tfx.from_pretrained("hf://a/b", task="embedding")
    embedder.compile(loss=tfx.InBatchContrast(0.05))
    embedder.compile(loss=tfx.ScoredCosine())
    embedder.compile(loss=tfx.ScoredCorrelation())
    embedder.compile(loss=tfx.LabelContrast(0.1))
    print(tfx.training.embedder_defaults(), tfx.training.embedder_tuning_defaults(384))
    print(tfx.layers.TokenBag(97, 5))
    print(tfx.layers.EdgeColorLogits(32, 4, 3))
    print(tfx.training.fine_tuning_defaults(384, rows=100, classes=6), tfx.training.is_few(100, 6))
    print(tfx.training.fine_tuning_defaults(384, rows=100, method="lora"))
    print(tfx.training.config_for_contrast(embedder.config), tfx.training.pieces_pattern("words"))
    assert isinstance(embedder, tfx.Embedder)
    tfx.training.begin_bag(embedder, tokenizer, training, seed=1)
    embedder.fit(tfx.data.sentence_pairs(training, tokenizer), verbose=0)
    print(tfx.data.describe_sentence_pairs(training, held_out, tokenizer, 64))
    vectors = tfx.predictor(embedder, tokenizer).embed(held_out.first)
    cosines = tfx.vectors.cosine(vectors, vectors)
    tfx.pictures.similarity_matrix("out.png", cosines, ["a"], title="Cosines")
    return float(vectors[0] @ vectors[1])


def prefer(table: str) -> float:
    pairs: tfx.data.Preferences = tfx.data.read_preferences(table, chosen="better")
    training, held_out = tfx.data.split_preferences(pairs, 0.2)
    model, tokenizer = tfx.from_pretrained("hf://a/b", task="causal")
    template = tfx.ChatTemplate.of(tokenizer)
    tfx.training.disable_dropout(model)
    tfx.training.accumulate(model, 2)
    tfx.training.check_base_given({"base": "hf://a/b"})
    training = tfx.data.fitting_preferences(training, template, 64)
    run = tfx.training.PreferenceRun("mine", {})
    (reference,) = run.reference(model, template, training, max_length=64)
    model.compile("adamw", tfx.ORPOLoss(0.2), [], metrics=[tfx.PreferredShare()])
    model.compile("adamw", tfx.DPOLoss(0.1), [], metrics=[tfx.PreferredShare()])
    model.fit(tfx.data.preferences(training, template, reference, max_length=64))
    print(tfx.data.describe_preferences(training, held_out, template, 64))
    return float(reference[0, 0])


def call(table: str) -> float:
    tools: tfx.data.Tools = tfx.data.read_tools("tools.json")
    rows: tfx.data.ToolCalls = tfx.data.read_tool_calls(table, tools, group="wording")
    training, held_out = tfx.data.split_tool_calls(rows, 0.2)
    varied = tfx.data.vary_tool_calls(training, 9, seed=1)
    words = tfx.data.texts_without_values(training)
    tokenizer = tfx.Tokenizer.train(words, 700, tfx.ROLE_TOKENS, tfx.CALL_PATTERN)
    tokenizer.tools = tools
    template = tfx.ChatTemplate.of(tokenizer)
    print(tfx.data.mark_copied(training))
    print(tfx.data.describe_tool_calls(varied, held_out, template, 256))
    run = tfx.training.ToolRun("mine", {})
    generator = tfx.runtime.load("bundle", kind=tfx.runtime.TextGenerator)
    print(run.watch(generator, held_out), generator.generate("Stop", free=True))
    return len(varied) / len(training)


def learn_from_a_teacher(table: str) -> float:
    rows = tfx.data.read_labelled_texts(table)
    others: tfx.data.UnlabelledTexts = tfx.data.read_unlabelled_texts("mails.txt")
    teacher = tfx.training.Teacher("saved_models/large", "classification")
    tokenizer = tfx.Tokenizer.load("tokenizer.json")
    answers = np.zeros((len(rows) + len(others), 2), "float32")
    batches = tfx.data.taught_texts(rows, tokenizer, teacher.labels, answers, others)
    model, _ = tfx.load("bundle", task="classification")
    model.compile("adamw", tfx.TaughtCrossentropy(2.0, 0.5), metrics=[tfx.TaughtAccuracy()])
    model.fit(batches)
    print(tfx.export.training_rows(model, batches), tfx.training.student_defaults(2))
    pairs = tfx.data.read_pairs(table)
    return len(tfx.data.taught_pairs(pairs, ["a"] * len(pairs))) / len(rows)


def learn_other_answers(table: str, folder: str) -> None:
    others = tfx.data.read_unlabelled_texts("mails.txt")
    tokenizer = tfx.Tokenizer.load("tokenizer.json")
    more: tfx.data.UnlabelledImages = tfx.data.read_unlabelled_images(folder)
    images = tfx.data.read_labelled_images(folder)
    answers = np.zeros((len(images) + len(more), 2), "float32")
    print(tfx.data.taught_images(images, ["a", "b"], answers, more, image_size=32))
    tags = tfx.data.read_tagged_texts(table)
    tables = [np.zeros((3, 5), "float32")] * (len(tags) + len(others))
    print(tfx.data.taught_tags(tags, tokenizer, ["P", "Q"], tables, others, new_names=0.5))
    numbers = tfx.data.read_scored_texts(table)
    print(tfx.data.taught_numbers(numbers, tokenizer, numbers.scale(), answers[:, 0], others))
    teacher: tfx.training.TokenTeacher = tfx.training.TokenTeacher("saved_models/large")
    teacher.check_tokens(128)
    chats = tfx.data.read_instructions(table)
    prompts = tfx.data.unanswered(others)
    chats = tfx.data.taught_conversations(chats, ["a"] * len(prompts), others, prompts)
    template = tfx.ChatTemplate.of(tokenizer)
    batches = tfx.data.taught_instructions(chats, template, tables, max_length=128)
    model, _ = tfx.load("bundle", task="causal")
    loss = tfx.TaughtTokens(tfx.data.likeliest_of(300), temperature=2.0, share=0.5)
    model.compile("adamw", loss, [tfx.TaughtTokenAccuracy(), tfx.TaughtPerplexity()])
    model.fit(batches)
    print(tfx.training.AssistantRun, tfx.TaughtError(0.5, absolute=True))


def search(table: str) -> float:
    pairs = tfx.data.read_sentence_pairs(table)
    pairs = tfx.data.add_unlabelled_pairs(pairs, tfx.data.read_unlabelled_texts("mails.txt"))
    embedder, tokenizer = tfx.load("bundle", task="embedding")
    print(tfx.training.read_widths("64,128"), tfx.training.pair_prompts(embedder.config))
    print(tfx.training.search_prompts(embedder.config, "query: ", None))
    negatives = tfx.training.hard_negatives(pairs, True, 0.1, seed=1)
    print(negatives, tokenizer, tfx.TaughtCosines())
    made = tfx.search.make_index("faq", "bundle", ["faq.csv"], "question", shown=["answer"])
    (found, *_) = tfx.search.Index("faq").search("How?", count=made.rows)
    return found.cosine


def rehearse(rows: str) -> float:
    model, tokenizer = tfx.load("bundle", task="causal")
    training, held_out = tfx.data.read_rehearsed(rows, seed=1)
    again = tfx.data.encode_rehearsed(training, tfx.ChatTemplate.of(tokenizer), 64)
    model.compile("adamw", tfx.RehearsedLoss(tfx.DPOLoss(0.1), 1.0))
    return len(again) / len(held_out)


def run_elsewhere() -> None:
    print(runtime.load("bundle", "int8", threads=2).generate("a"))
    generator = runtime.load("bundle", kind=runtime.TextGenerator)
    text: str = generator.generate("a")
    vector = runtime.load("bundle", kind=runtime.TextEmbedder).embed(text)
    label = runtime.load("bundle", kind=runtime.TextClassifier).classify(["a", "b"])[0].label
    images = runtime.load("bundle", kind=runtime.ImageClassifier)
    found: runtime.Classification = images.classify("cat.png")
    print(runtime.describe(found), runtime.rows_of(["a", "b"], {"text_columns": 2}))
    print(vector.shape, label, tfx.__version__)


def stack(x: np.ndarray) -> None:
    x = layers.SinusoidalPositions()(x)
    block = layers.TransformerBlock(
        hidden_dim=32, num_heads=4, intermediate_dim=64, norm="rms_norm", name="block"
    )
    print(block(x).shape, layers.RotaryPositions(theta=1e4)(x))
    print(layers.Pooling("mean")(x), layers.FeedForward(64)(x), layers.Linear(3)(x))
    print(layers.TokenEmbedding(5, 32)(x), layers.RelativePositions(4))
    print(layers.PatchEmbedding(32, patch_size=4)(x))
    attention = layers.MultiHeadAttention(hidden_dim=32, num_heads=4, num_key_value_heads=2)
    y, weights = attention(x, return_attention_scores=True)
    print(y, weights, layers.LearnedPositions(7)(x), layers.NGramEmbedding(11, 32)(x))
    print(layers.ConvolutionalTokenizer(32, 2)(x))
    config = tfx.TransformerConfig.of_size("nano", 300)
    print(tfx.TransformerStack(config, 2, causal=True)(x))
