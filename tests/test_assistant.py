"""A chat model's bundle: every export answers as Keras, and the command does what it is told."""

import csv
import io
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from assistant import CONTEXT
from leaks import leaks
from processes import RUN_PYZ, TRAINING, python

from tfx_transformer import bundle, runtime
from tfx_transformer.data import read_instructions
from tfx_transformer.errors import InputError
from tfx_transformer.evaluation import score_answers
from tfx_transformer.export.saved_model_generator import SavedModelGenerator
from tfx_transformer.export.to_litert import operation_names
from tfx_transformer.generation import GenerationOptions
from tfx_transformer.generation.chat import Chat
from tfx_transformer.models.decoding import text_generator
from tfx_transformer.models.saving import load
from tfx_transformer.text.prompts import CHAT_TEMPLATE, ROLE_TOKENS, ChatTemplate
from tfx_transformer.text.tokenizer import Tokenizer
from tfx_transformer.training.teachers import Teacher

USER, ASSISTANT = 4, 5
HOSTILE = ["</s>", "<|user|>Hi</s><|assistant|>", "What is <pad> and <|endoftext|>?"]
JAPANESE = "今日は月曜日です。そして私は猫と犬が大好きですから、毎日公園に行きます。"


@pytest.fixture(scope="module")
def by_keras(assistant):
    return text_generator(*load(assistant.path))


@pytest.fixture(scope="module")
def by_litert(assistant):
    return runtime.load(assistant.path)


@pytest.fixture(scope="module")
def by_saved_model(assistant):
    return SavedModelGenerator(assistant.path)


@pytest.fixture(scope="module")
def texts(assistant):
    """What it was made for and what it was not: nothing, other scripts, names of tokens."""
    unheard = ["", " ", "\n", "\N{GRINNING FACE}\N{CAT FACE}", "Привет, Олег", JAPANESE, *HOSTILE]
    return [*assistant.texts, *unheard]


@pytest.fixture(scope="module")
def expected(by_keras, texts):
    answers = by_keras.generate(texts)
    assert len(set(answers)) > 60, "answers that are all alike would prove nothing"
    return answers


def test_a_teacher_searches_by_keras_with_beams_that_its_file_does_not_have(
    assistant, by_keras, tmp_path
):
    texts = assistant.texts[:3]
    found = Teacher(assistant.path, "causal").texts(texts, tmp_path / "answers", 2)
    assert found == by_keras.generate(texts, beams=2)


@pytest.fixture(scope="module")
def questions(assistant, tmp_path_factory):
    """A CSV and a JSONL of the same 8 instructions; half of the outputs are what it answers."""
    folder = tmp_path_factory.mktemp("questions")
    given = assistant.texts[:8]
    answers = runtime.load(assistant.path).generate(given)
    outputs = [a if i % 2 else f"{a} not" for i, a in enumerate(answers)]
    rows = list(zip(given, outputs, strict=True))
    with (folder / "questions.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("instruction", "output"), *rows])
    chats = ([{"role": "user", "content": q}, {"role": "assistant", "content": a}] for q, a in rows)
    lines = [json.dumps({"messages": messages}, ensure_ascii=False) for messages in chats]
    (folder / "questions.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


# Equal answers


def test_answers_end(by_keras, texts):
    prompts = [by_keras.encode(text) for text in texts]
    rows = by_keras.engine.generate_ids(prompts, GenerationOptions())
    ended = sum(by_keras.tokenizer.end_id in row for row in rows.tolist())
    assert ended > 0.9 * len(texts)


def test_the_savedmodel_answers_as_keras(by_saved_model, texts, expected):
    assert by_saved_model.generate(texts) == expected


def test_tflite_answers_as_keras(by_litert, texts, expected):
    assert by_litert.generate(texts) == expected


def test_int8_answers_nearly_as_keras(assistant, texts, expected):
    answers = runtime.load(assistant.path, "int8").generate(texts)
    equal = sum(a == b for a, b in zip(answers, expected, strict=True))
    assert equal >= 0.8 * len(expected)


@pytest.mark.slow(but=["nucleus"])  # test_export.py has a penalty; stops are below
@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 1.0, "seed": 3},
        {"temperature": 1.5, "top_k": 30, "top_p": 0.95, "seed": 4},
        {"repetition_penalty": 1.8, "max_new_tokens": 9},
        {"stop": ("す", "e")},
    ],
    ids=["temperature", "nucleus", "penalty", "stop"],
)
def test_tflite_draws_as_keras(by_keras, by_litert, texts, expected, options):
    some = texts[::9]
    answers = by_litert.generate(some, **options)
    assert answers == by_keras.generate(some, **options)
    assert answers != expected[::9], "the options change nothing, so they prove nothing"
    if "seed" in options:
        assert answers == by_litert.generate(some, **options)
        assert answers != by_litert.generate(some, **options | {"seed": 5})


def test_logits_agree(assistant):
    names = {"SavedModel", "TFLite float32", "TFLite int8"}
    assert names <= assistant.verified.keys() <= names | {"LiteRT-LM"}
    exact, rounded = assistant.verified["TFLite float32"], assistant.verified["TFLite int8"]
    assert exact["identical"] == exact["of"] == len(assistant.texts)
    assert exact["largest_logit_difference"] < 1e-4 * exact["logit_deviation"]
    # 8-bit weights: measured 0.4 where logits deviate by 1.7.
    assert 0 < rounded["largest_logit_difference"] < 0.6 * rounded["logit_deviation"]


def test_streamed_pieces_make_the_answer(by_litert, texts, expected):
    for text, answer in list(zip(texts, expected, strict=True))[::15]:
        pieces = []
        assert by_litert.generate(text, stream=pieces.append) == answer
        assert "".join(pieces) == answer


# Long prompts


def long_texts(tokenizer):
    """Too long, and cut at other places inside words and characters."""
    texts = ["x" * n + text for text in (JAPANESE, "\N{GRINNING FACE}猫") for n in range(4)]
    texts = [text * 20 for text in texts] + ["Where is the station? " * 20]
    assert all(tokenizer.count(text) > CONTEXT for text in texts)
    return texts


def test_every_export_cuts_a_long_text_alike(by_keras, by_litert, by_saved_model):
    texts = long_texts(by_keras.tokenizer)
    for generator in (by_keras, by_litert):
        with pytest.raises(InputError, match=rf"the model reads {CONTEXT - 1}.\n  Split it"):
            generator.generate(texts[-1])
    answers = by_keras.generate(texts, truncate=True)
    assert by_litert.generate(texts, truncate=True) == answers
    assert by_saved_model.generate(texts) == answers


def some_ids(generator, count):
    """The beginning of one long prompt."""
    ids = generator.tokenizer.encode(JAPANESE + "Where is the station? 三たす二は何ですか。" * 9)
    return [USER, *ids][:count]


# Around the prefill lengths 16 and 64, and up to the last slot of the context.
LENGTHS = [1, 2, 16, 17, 18, 64, 65, 66, 77, 78]


@pytest.mark.parametrize("length", LENGTHS)
def test_prompts_of_every_length(by_keras, by_litert, length):
    prompt = some_ids(by_keras, length)
    assert len(prompt) == length
    rows = by_keras.engine.generate_ids([prompt], GenerationOptions())
    assert rows.shape == (1, CONTEXT - length)
    np.testing.assert_array_equal(
        by_litert.engine.generate_ids([prompt], GenerationOptions()), rows
    )


def test_prompts_of_all_lengths_together(by_keras, by_litert):
    prompts = [some_ids(by_keras, length) for length in LENGTHS]
    options = GenerationOptions(temperature=1.0, seed=2)
    rows = by_keras.engine.generate_ids(prompts, options)
    np.testing.assert_array_equal(by_litert.engine.generate_ids(prompts, options), rows)


@pytest.mark.parametrize("cuts", [[], [1], [16], [5, 70], [14, 15, 31], [60, 61, 62, 76], [64]])
def test_a_session_filled_in_pieces_has_the_logits_of_the_whole(by_keras, by_litert, cuts):
    ids = some_ids(by_keras, CONTEXT)
    logits = by_keras.engine.model({"token_ids": np.array([ids])}, training=False)
    session = by_litert.engine.session()
    for start, end in zip([0, *cuts], [*cuts, CONTEXT - 1], strict=True):
        session.extend(ids[start:end], start)
    last = session.step(np.array(ids[-1:], "int32"), CONTEXT - 1)
    np.testing.assert_allclose(last[0], np.asarray(logits)[0, -1], atol=1e-4)


# An oracle of its own: TFLite's interpreter and the argmax, without our runtime


def answer_by_hand(path, ids, end_id):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path))
    prefill, decode = map(interpreter.get_signature_runner, ("prefill_64", "decode"))
    cache = {
        name: np.zeros(details["shape"], "float32")
        for name, details in decode.get_input_details().items()
        if name.startswith("kv_cache")
    }
    *before, last = ids
    tokens = np.array([before + [0] * (64 - len(before))], "int32")
    cache = prefill(tokens=tokens, input_pos=np.arange(64, dtype="int32"), **cache)
    written = [last]
    for position in range(len(before), CONTEXT):
        step = {
            "tokens": np.array([written[-1:]], "int32"),
            "input_pos": np.array([position], "int32"),
        }
        cache = decode(**step, **cache)
        written.append(int(np.argmax(cache.pop("logits")[0, 0])))
        if written[-1] == end_id:
            break
    return written[1:]


@pytest.mark.parametrize("variant", ["float32", "int8"])
def test_the_runtime_runs_the_file_as_the_interpreter_does(assistant, variant):
    generator = runtime.load(assistant.path, variant)
    tokenizer = generator.tokenizer
    for text in assistant.texts[::20]:
        prompt = [USER, *tokenizer.encode(text), tokenizer.end_id, ASSISTANT]
        written = answer_by_hand(assistant.path / bundle.LITERT[variant], prompt, tokenizer.end_id)
        assert generator.generate(text) == tokenizer.decode(written)


@pytest.mark.parametrize("file", ["model.tflite", "model.int8.tflite"])
def test_what_the_tflite_files_hold(assistant, file):
    from ai_edge_litert.interpreter import Interpreter

    names = operation_names(assistant.path / file)
    assert {"FULLY_CONNECTED", "EMBEDDING_LOOKUP", "DYNAMIC_UPDATE_SLICE"} <= names
    assert all(name.isupper() and "VAR" not in name for name in names)
    table = Interpreter(str(assistant.path / file)).get_signature_list()
    cache = ["kv_cache_k_0", "kv_cache_v_0"]
    rows = [f"{name}_{row}" for name in cache for row in range(8)]
    steps = {"decode", "decode_8"}  # its answers do not repeat what is before them
    assert table.keys() == {"prefill_1", "prefill_16", "prefill_64", *steps}
    for name, signature in table.items():
        held = rows if name == "decode_8" else cache
        assert set(signature["inputs"]) == {"tokens", "input_pos", *held}
        logits = {"logits"} if name in steps else set()
        assert set(signature["outputs"]) == {*held, *logits}


# The bundle


def test_the_files_of_the_bundle(assistant):
    assert sorted(path.name for path in assistant.path.iterdir()) == [
        "README.md",
        "SHA256SUMS",
        "chat_template.jinja",
        "config.json",
        "model.int8.tflite",
        "model.litertlm",
        "model.safetensors",
        "model.tflite",
        "run.pyz",
        "saved_model",
        "tokenizer.json",
    ]
    config = bundle.read_config(assistant.path)
    assert (config["task"], config["chat"]) == ("causal", True)
    assert (assistant.path / "chat_template.jinja").read_text("utf-8") == CHAT_TEMPLATE
    card = (assistant.path / "README.md").read_text("utf-8")
    assert "pip install ai-edge-litert numpy tiktoken jinja2\n" in card
    assert "python run.pyz 'What color is snow?'\n" in card
    bundle.verify(assistant.path)


def test_the_template_comes_back(assistant, by_litert):
    _, tokenizer = load(assistant.path)
    assert tokenizer.chat_template == CHAT_TEMPLATE
    prompt = [USER, *tokenizer.encode("猫 </s>"), tokenizer.end_id, ASSISTANT]
    messages = [{"role": "user", "content": "猫 </s>"}]
    assert ChatTemplate.of(tokenizer).prompt(messages) == prompt
    assert by_litert.encode("猫 </s>") == by_litert.encode(messages) == prompt


def test_another_template_of_the_bundle_is_used(assistant, tmp_path):
    path = assistant.copy(tmp_path)
    template = CHAT_TEMPLATE.replace("}}</s>", "}}!</s>")
    with bundle.updating(path) as folder:
        (folder / bundle.CHAT_TEMPLATE).unlink()
        (folder / bundle.CHAT_TEMPLATE).write_text(template, encoding="utf-8")
    model, tokenizer = load(path)
    assert tokenizer.chat_template == template
    expected = [USER, *tokenizer.encode("a!"), tokenizer.end_id, ASSISTANT]
    for generator in (text_generator(model, tokenizer), runtime.load(path)):
        assert generator.encode("a") == expected


def test_a_tokenizer_of_another_size_is_refused(assistant, tmp_path, command):
    path = assistant.copy(tmp_path)
    other = Tokenizer.train(["a b c"], 300, ROLE_TOKENS)
    size = bundle.read_config(path)["architecture"]["vocabulary_size"]
    assert other.vocabulary_size != size
    with bundle.updating(path) as folder:
        (folder / bundle.TOKENIZER).unlink()
        other.save(folder / bundle.TOKENIZER)
    message = f"tokenizer.json has {other.vocabulary_size} tokens, the architecture in config.json"
    for read in (load, runtime.load):
        with pytest.raises(InputError, match=f"{message} {size}"):
            read(path)
    for engine in ("keras", "litert"):
        status, output, errors = command("generate", path, "a", "--engine", engine)
        assert (status, output) == (2, "") and message in errors


# Where there is no TensorFlow


def test_run_pyz_answers_without_training_packages(assistant, by_litert, tmp_path):
    given = [*assistant.texts[:60:20], HOSTILE[1]]
    arguments = [assistant.path / "run.pyz", *given, "--json"]
    output = python(RUN_PYZ, *arguments, cwd=tmp_path, blocked=TRAINING)
    answers = by_litert.generate(given)
    pairs = [{"text": t, "answer": a} for t, a in zip(given, answers, strict=True)]
    assert json.loads(output) == {"answers": pairs}


def test_run_pyz_without_jinja_names_it(assistant, tmp_path):
    code = "import runpy, sys; sys.modules['jinja2'] = None; sys.argv = sys.argv[1:]; "
    code += "runpy.run_path(sys.argv[0], run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", code, assistant.path / "run.pyz", "Hi"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "a model with a chat template needs Jinja.\n  pip install jinja2\n"


# The command


@pytest.mark.slow  # the next one asks each engine too
def test_generate_by_each_engine(command, assistant, texts, expected):
    for engine in ("litert", "keras", "saved_model"):
        status, output, errors = command("generate", assistant.path, *texts[:3], "--engine", engine)
        assert (status, output.splitlines(), errors) == (0, expected[:3], "")


def test_generate_stops_where_it_is_told(command, assistant, texts, expected):
    text, whole = next((t, a) for t, a in zip(texts, expected, strict=True) if len(a) > 5)
    for engine in ("litert", "keras", "saved_model"):
        stops = ("--stop", whole[4:6], "--stop", whole[2:4])
        status, output, _ = command("generate", assistant.path, text, *stops, "--engine", engine)
        assert (status, output) == (0, whole[:2] + "\n")
    status, output, errors = command("generate", assistant.path, text, "--stop", "")
    assert (status, output) == (2, "") and "stop is ('',)" in errors
    drawn = ("--temperature=0.5", "--engine=saved_model")
    status, output, errors = command("generate", assistant.path, text, *drawn)
    assert (status, output) == (2, "") and "decodes greedily" in errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["generate", "{}", "x", "--variant=int8", "--engine=keras"], "--engine keras has none."),
        (["generate", "{}", "x", "--variant=int8", "--engine=saved_model"], "saved_model has none"),
        (["chat", "{}", "--variant=float32", "--engine=keras"], "--variant chooses a TFLite file"),
        (["evaluate", "{}", "no.csv", "--variant=int8"], "no.csv: there is no such file"),
        (["chat", "{}", "--engine=saved_model"], "invalid choice: 'saved_model'"),
        (["chat", "{}", "--beams=2"], "a chat decodes without beams"),
        (["generate", "{}", "x", "--beams=2"], "beams"),
        (["generate", "{}", "x", "--variant=int4"], "holds no int4 file for LiteRT"),
        (["generate", "{}", "cats and " * 99], f"the model reads {CONTEXT - 1}."),
        (["evaluate", "{}", "words.txt"], "instructions are read from tables, .jsonl and .json"),
        (["check", "questions.csv", "--max-length=0"], "--max-length is 0.\n  Expected 2 tokens"),
        (["check", "questions.csv", "--kind=instructions", "--output=answer"], "'answer'"),
        (["export", "{}", "--check=questions.csv", "--column=text"], "'text'"),
    ],
    ids=lambda value: " ".join(value)[:50] if isinstance(value, list) else "",
)
def test_bad_arguments(command, assistant, questions, monkeypatch, tmp_path, arguments, message):
    shutil.copy(questions / "questions.csv", tmp_path)
    (tmp_path / "words.txt").write_text("words")
    monkeypatch.setattr(sys, "stdin", io.StringIO("Hi\n"))
    status, output, errors = command(*(a.replace("{}", str(assistant.path)) for a in arguments))
    assert (status, output) == (2, "")
    assert message in errors
    assert "fault of the program" not in errors


@pytest.mark.slow(but=["litert"])
@pytest.mark.parametrize("engine", ["litert", "keras"])
def test_chat_answers_line_by_line(command, assistant, by_keras, monkeypatch, engine):
    lines = [assistant.texts[0], "</s>"]
    conversation = Chat(by_keras, "Be")
    answers = [conversation.say(line) for line in lines]
    flags = ("--system", "Be", "--engine", engine)
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join([*lines, "", "not read"])))
    assert command("chat", assistant.path, *flags) == (0, "".join(f"{a}\n" for a in answers), "")
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(lines)))
    status, output, errors = command("chat", assistant.path, *flags, "--json")
    assert (status, errors.splitlines()) == (0, answers)
    assert json.loads(output) == {"messages": conversation.messages}
    assert [m["content"] for m in conversation.messages[1::2]] == lines


def test_flags_of_generation_arrive_in_a_chat(command, assistant, by_litert, monkeypatch):
    line, options = assistant.texts[0], {"temperature": 1.5, "seed": 7, "max_new_tokens": 5}
    answer = Chat(by_litert).say(line, **options, stop=("q",))
    given = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    monkeypatch.setattr(sys, "stdin", io.StringIO(line))
    assert command("chat", assistant.path, *given, "--stop=q") == (0, answer + "\n", "")


def test_a_long_chat_goes_on_without_its_oldest_turns(command, assistant, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{assistant.texts[0]}\n" * 9))
    status, output, errors = command("chat", assistant.path)
    assert (status, output.count("\n")) == (0, 9)
    assert errors == (
        f"(The model reads {CONTEXT} tokens: from here on the oldest turns are left out.)\n"
    )


def test_a_message_that_is_too_long_ends_a_chat(command, assistant, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("猫 🙂 " * 60 + "\n"))
    status, output, errors = command("chat", assistant.path)
    assert (status, output) == (2, "")
    assert errors.startswith("the conversation is full: with this message it has ")
    assert f"the model's context is {CONTEXT}.\n  Shorten the message.\n" in errors


def test_chat_reads_only_utf8(command, assistant, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"caf\xe9\n"), "utf-8"))
    status, output, errors = command("chat", assistant.path)
    assert (status, output) == (2, "")
    assert "not UTF-8" in errors


def perplexity_by_hand(path, read):
    """Each conversation by itself: the answer and its end, given what stands before."""
    model, tokenizer = load(path)
    losses = []
    for question, answer in zip(read.first_prompts(), read.answers(), strict=True):
        prompt = [USER, *tokenizer.encode(question), tokenizer.end_id, ASSISTANT]
        target = [*tokenizer.encode(answer), tokenizer.end_id]
        ids = np.array([prompt + target[:-1]])
        logits = np.asarray(model({"token_ids": ids}, training=False))[0].astype("float64")
        logits -= np.log(np.exp(logits).sum(-1, keepdims=True))
        losses += [-logits[len(prompt) - 1 + i, t] for i, t in enumerate(target)]
    return float(np.exp(np.mean(losses)))


def test_evaluate_scores_answers(command, assistant, questions, by_litert):
    read = read_instructions(questions / "questions.csv")
    answers = by_litert.generate(read.first_prompts())
    scores = score_answers(answers, read.answers())
    assert scores["exact_match"] == 0.5 and 0.5 < scores["token_f1"] < 1
    flags = ("--engine=litert", "--save=answers.csv", "--json")
    status, output, errors = command(
        "evaluate", assistant.path, questions / "questions.csv", *flags
    )
    assert (status, json.loads(output)) == (0, scores)
    assert "exactly right 50.0 % of 8" in errors
    with open("answers.csv", encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["source"] for row in table] == read.first_prompts()
    assert [row["answer"] for row in table] == answers
    assert [row["reference"] for row in table] == read.answers()

    status, output, _ = command("evaluate", assistant.path, questions / "questions.jsonl", "--json")
    with_perplexity = json.loads(output)
    perplexity = with_perplexity.pop("perplexity")
    assert (status, with_perplexity) == (0, scores)
    assert perplexity == pytest.approx(perplexity_by_hand(assistant.path, read), abs=2e-3)


@pytest.mark.slow
def test_evaluate_by_the_savedmodel(command, assistant, questions):
    results = []
    for engine in ("saved_model", "litert"):
        flags = ("--engine", engine, "--json")
        status, output, errors = command(
            "evaluate", assistant.path, questions / "questions.csv", *flags
        )
        assert status == 0, errors
        results.append(json.loads(output))
    assert results[0] == results[1]


@pytest.mark.parametrize("file", ["questions.csv", "questions.jsonl"])
def test_check_counts_with_a_bundles_tokenizer(command, assistant, questions, file):
    _, tokenizer = load(assistant.path)
    read = read_instructions(questions / "questions.csv")
    # A role before each message, an end after it.
    lengths = [
        4 + tokenizer.count(q) + tokenizer.count(a)
        for q, a in zip(read.first_prompts(), read.answers(), strict=True)
    ]
    limit = max(lengths) - 1
    flags = ("--bundle", assistant.path, "--max-length", limit, "--json")
    status, output, _ = command("check", questions / file, *flags)
    figures = json.loads(output)
    assert status == 0
    assert (figures["rows"], figures["truncated"], figures["bad_rows"]) == (8, 1, [])
    assert figures["row_tokens"][-1] == max(lengths)
    assert figures["tokens"] == sum(min(n, limit) for n in lengths)


def test_check_takes_the_kind_it_is_told(command, questions):
    arguments = ("check", questions / "questions.csv", "--kind=pairs")
    columns = ("--source=instruction", "--target=output", "--json")
    status, output, _ = command(*arguments, *columns)
    assert (status, json.loads(output)["rows"]) == (0, 8)
    assert "columns" in json.loads(output) and "loss_tokens" not in json.loads(output)


@pytest.mark.slow  # test_cli.py exports a translator
def test_export_and_check(command, assistant, questions, tmp_path):
    path = assistant.copy(tmp_path)
    with bundle.updating(path) as folder:
        shutil.rmtree(folder / "saved_model")
        (folder / "model.int8.tflite").unlink()
        (folder / "model.litertlm").unlink()
    flags = ("--to=saved_model", "--check", questions / "questions.csv", "--json")
    status, output, errors = command("export", path, *flags)
    assert status == 0, errors
    results = json.loads(output)
    assert results.keys() == {"SavedModel"}
    assert (results["SavedModel"]["identical"], results["SavedModel"]["of"]) == (8, 8)
    verified = bundle.read_config(path)["verified"]
    assert verified.keys() == {"SavedModel", "TFLite float32"}, "of what is there"
    assert verified["SavedModel"] == results["SavedModel"]
    assert (path / "saved_model" / "saved_model.pb").is_file()
    assert (path / "chat_template.jinja").read_text("utf-8") == CHAT_TEMPLATE


def test_info(command, assistant):
    status, output, _ = command("info", assistant.path)
    assert (status, output.split("\n")[0]) == (0, "# assistant")
    assert "A Transformer that writes text. It has " in output and "chat_template.jinja\n" in output
    told = json.loads(command("info", assistant.path, "--json")[1])
    assert told["chat"] is True
    assert told["files"]["chat_template.jinja"] == len(CHAT_TEMPLATE)


def test_an_exported_assistant_holds_no_row_and_no_path(assistant):
    assert (assistant.path / "model.litertlm").is_file()
    assert not leaks(assistant.path, assistant.texts, assistant.path.parent)
