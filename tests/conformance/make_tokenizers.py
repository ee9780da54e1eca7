"""Makes tokenizers/: a small tokenizer of every family, and what `transformers` does with it.

    python tests/conformance/make_tokenizers.py            all families
    python tests/conformance/make_tokenizers.py qwen t5    these

Needs `transformers`, `tokenizers` and `sentencepiece`; the tests need only `tokenizers`. Each
folder has the files of a checkpoint of its family, so that all kinds of files occur, and
answers.json. The texts, which all families share, are in texts.json.
"""

from __future__ import annotations

import contextlib
import io
import json
import random
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sentencepiece
import transformers
from nasty_texts import NASTY, nasty_texts, sentences
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

FOLDER = Path(__file__).parent / "tokenizers"
PAIR = ("The cats' 12 hats.", "猫 is a cat")
CHAT = [
    {"role": "user", "content": "Say <s>, </s>, <|im_end|> and <end_of_turn>! "},
    {"role": "assistant", "content": "No, 1234 times."},
    {"role": "user", "content": "  why\n\nnot?"},
]

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN = LLAMA3.replace("{1,3}", "")

CHATML = (
    "{%- for message in messages %}\n"
    "    {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}\n"
    "{%- endfor %}\n"
    "{%- if add_generation_prompt %}\n    {{- '<|im_start|>assistant\\n' }}\n{%- endif %}\n"
)
HEADERS = (
    "{{ bos_token }}{% if tools is not none and strftime_now is not defined %}"
    "{{ raise_exception('no tools here') }}{% endif %}"
    "{% for message in messages %}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' }}"
    "{{ message['content'] | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}"
    "{% endif %}"
)
INST = (
    "{{ bos_token }}{% for message in messages %}{% if message.role == 'user' %}"
    "{{ '[INST] ' + message['content'].strip() + ' [/INST]' }}{% else %}"
    "{{ ' ' + message['content'] + ' ' + eos_token }}{% endif %}{% endfor %}"
)
TURNS = (
    "{{ bos_token }}{% for message in messages %}"
    "{% set role = 'model' if message.role == 'assistant' else message.role %}"
    "{{ '<start_of_turn>' + role + '\n' + message.content | trim + '<end_of_turn>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)


def word_piece(folder: Path, lowercase: bool) -> None:
    """Lower case as tokenizer.json, cased as vocab.txt, as in BERT's repositories."""
    learner = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    learner.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    learner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(
        vocab_size=600, limit_alphabet=250, special_tokens=special, show_progress=False
    )
    learner.train_from_iterator([sentences()], trainer)
    vocabulary = learner.get_vocab()
    settings = {"tokenizer_class": "BertTokenizer", "do_lower_case": lowercase}
    write_json(folder / "tokenizer_config.json", settings)
    if not lowercase:
        lines = sorted(vocabulary, key=vocabulary.__getitem__)
        (folder / "vocab.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        return
    learner.decoder = decoders.WordPiece()
    learner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")],
    )
    write_tokenizer(learner, folder)


def byte_pairs(pre_tokenizer: Any, special: list[str]) -> Tokenizer:
    """A byte-level BPE, the special tokens first."""
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer, learner.decoder = pre_tokenizer, decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    learner.train_from_iterator([sentences()], trainer)
    return learner


def split(pattern: str) -> Any:
    steps = [
        pre_tokenizers.Split(Regex(pattern), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ]
    return pre_tokenizers.Sequence(steps)


def gpt2(folder: Path) -> None:
    """vocab.json and merges.txt alone; the end of a text is the last id."""
    learner = byte_pairs(pre_tokenizers.ByteLevel(add_prefix_space=False), [])
    learner.model.save(str(folder))
    vocabulary = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
    write_json(folder / "vocab.json", vocabulary | {"<|endoftext|>": len(vocabulary)})
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "GPT2Tokenizer"})


def roberta(folder: Path) -> None:
    """Ids in another order than that of the merges, as fairseq's dictionaries have them; a space
    before each text, as some have it."""
    learner = byte_pairs(pre_tokenizers.ByteLevel(add_prefix_space=True), [])
    tree = json.loads(learner.to_str())
    names = sorted(tree["model"]["vocab"])
    random.Random(0).shuffle(names)
    names = ["<s>", "<pad>", "</s>", "<unk>", *names, "<mask>"]
    tree["model"]["vocab"] = {name: index for index, name in enumerate(names)}
    learner = Tokenizer.from_str(json.dumps(tree))
    learner.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>"])
    learner.add_special_tokens([AddedToken("<mask>", lstrip=True, special=True)])
    learner.post_processor = processors.RobertaProcessing(
        ("</s>", 2), ("<s>", 0), trim_offsets=True, add_prefix_space=True
    )
    settings = {"tokenizer_class": "RobertaTokenizer", "add_prefix_space": True}
    write_tokenizer(learner, folder)
    mask = {"__type": "AddedToken", "content": "<mask>", "lstrip": True, "rstrip": False}
    mask |= {"normalized": True, "single_word": False, "special": True}
    write_json(folder / "tokenizer_config.json", settings | {"mask_token": mask})


def llama3(folder: Path) -> None:
    """Every two tokens that make a third are a merge, and whole pieces are looked up first, as in
    the files that were made of tiktoken's; one token that no merge reaches."""
    learner = byte_pairs(split(LLAMA3), [])
    tree = json.loads(learner.to_str())
    vocabulary = tree["model"]["vocab"]
    vocabulary["ĠĠx"] = len(vocabulary)
    tree["model"]["merges"] = [
        [name[:cut], name[cut:]]
        for name in vocabulary
        for cut in range(1, len(name))
        if {name[:cut], name[cut:]} <= vocabulary.keys()
    ]
    tree["model"]["ignore_merges"] = True
    learner = Tokenizer.from_str(json.dumps(tree))
    bos = "<|begin_of_text|>"
    names = [bos, "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    learner.add_special_tokens(names)
    template = processors.TemplateProcessing(
        single=f"{bos} $A",
        pair=f"{bos} $A {bos}:1 $B:1",
        special_tokens=[(bos, learner.token_to_id(bos))],
    )
    learner.post_processor = processors.Sequence([processors.ByteLevel(), template])
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": bos}
    settings |= {"eos_token": "<|eot_id|>", "chat_template": HEADERS}
    write_tokenizer(learner, folder)
    write_json(folder / "tokenizer_config.json", settings)


def qwen(folder: Path) -> None:
    """NFC; tokens that are cut out of every text although they are not special; two templates."""
    learner = byte_pairs(split(QWEN), [])
    learner.normalizer = normalizers.NFC()
    learner.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    learner.add_tokens([AddedToken(n, normalized=False) for n in ("<think>", "</think>")])
    learner.post_processor = processors.ByteLevel(trim_offsets=False)
    templates = [{"name": "tool_use", "template": "-"}, {"name": "default", "template": CHATML}]
    settings = {"tokenizer_class": "Qwen2Tokenizer", "bos_token": None, "add_bos_token": False}
    settings |= {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    write_tokenizer(learner, folder)
    write_json(folder / "tokenizer_config.json", settings | {"chat_template": templates})


def smollm(folder: Path) -> None:
    """Digits by themselves, then GPT-2's pattern."""
    steps = [pre_tokenizers.Digits(individual_digits=True)]
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False))
    names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    learner = byte_pairs(pre_tokenizers.Sequence(steps), names)
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<|im_start|>"}
    settings |= {"eos_token": "<|im_end|>", "pad_token": "<|im_end|>"}
    write_tokenizer(learner, folder)
    write_json(folder / "tokenizer_config.json", settings)
    (folder / "chat_template.jinja").write_text(CHATML, encoding="utf-8")


def pieces(path: Path, **options: Any) -> None:
    """Writes a SentencePiece model. `nmt_nfkc` is 240 kB; a few of its rules do for a test."""
    rules = [("①", "1"), ("½", "1/2"), ("Ⅳ", "IV"), ("ﬁ", "fi"), ("１", "1"), ("\u3000", " ")]
    rules += [("\t", " "), ("\n", " "), ("\r", " "), ("\u200b", ""), ("\u00ad", "")]
    rules += [("e\u0301", "é"), ("か\u3099", "が"), ("ｶﾞ", "ガ"), ("ｶ", "カ"), ("\u2028", " ")]
    with tempfile.TemporaryDirectory() as temporary:
        if options.get("normalization_rule_name") is None:
            table = Path(temporary, "rules.tsv")
            lines = [[" ".join(f"{ord(c):X}" for c in side) for side in rule] for rule in rules]
            table.write_text("".join("\t".join(line) + "\n" for line in lines), encoding="utf-8")
            options |= {"normalization_rule_tsv": str(table)}
        text = sentences().replace("\0", "")
        written = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(text.splitlines()),
            model_writer=written,
            vocab_size=options.pop("vocab_size", 600),
            minloglevel=2,
            hard_vocab_limit=False,
            character_coverage=0.98,
            num_threads=1,
            **options,
        )
    path.write_bytes(written.getvalue())


def llama2(folder: Path) -> None:
    """tokenizer.model alone."""
    options = {"normalization_rule_name": "identity", "remove_extra_whitespaces": False}
    options |= {"model_type": "bpe", "byte_fallback": True, "vocab_size": 900}
    pieces(folder / "tokenizer.model", **options)
    settings = {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "legacy": False}
    settings |= {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    write_json(folder / "tokenizer_config.json", settings | {"add_eos_token": False})
    (folder / "chat_template.jinja").write_text(INST, encoding="utf-8")


def of_llama2(folder: Path) -> dict[str, Any]:
    """The vocabulary and merges of `llama2`, as tokenizer.json has them."""
    with tempfile.TemporaryDirectory() as temporary:
        llama2(Path(temporary))
        made = transformers.LlamaTokenizer.from_pretrained(temporary)
    return json.loads(made.backend_tokenizer.to_str())


def mistral(folder: Path) -> None:
    """A space before each stretch of text, by the normalizer, as in files of 2023."""
    tree = of_llama2(folder)
    tree["model"]["unk_token"] = "<unk>"
    prepend = {"type": "Prepend", "prepend": "▁"}
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    tree["normalizer"] = {"type": "Sequence", "normalizers": [prepend, replace]}
    tree["pre_tokenizer"] = None
    write_json(folder / "tokenizer.json", tree)
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>"}
    settings |= {"eos_token": "</s>", "unk_token": "<unk>", "chat_template": INST}
    write_json(folder / "tokenizer_config.json", settings)


def gemma(folder: Path) -> None:
    """No space before a text; blanks that are tokens cut out of it."""
    tree = of_llama2(folder)
    names = {"<unk>": "<pad>", "<s>": "<eos>", "</s>": "<bos>"}
    model = tree["model"]
    ids = {names.get(name, name): index for name, index in model["vocab"].items()}
    more = ["<unk>", "<mask>", "<start_of_turn>", "<end_of_turn>", "\n\n", "▁▁▁"]
    ids |= {name: len(ids) + n for n, name in enumerate(n for n in more if n not in ids)}
    model |= {"vocab": ids, "unk_token": "<unk>"}
    tree["added_tokens"], tree["pre_tokenizer"] = [], None
    tree["normalizer"] = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    tree["decoder"]["decoders"] = tree["decoder"]["decoders"][:3]
    learner = Tokenizer.from_str(json.dumps(tree))
    learner.add_special_tokens(["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"])
    learner.add_special_tokens(["<start_of_turn>", "<end_of_turn>"])
    learner.add_tokens([AddedToken(name, normalized=False) for name in ("\n\n", "▁▁▁")])
    learner.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A <bos>:1 $B:1", special_tokens=[("<bos>", ids["<bos>"])]
    )
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "chat_template": TURNS}
    settings |= {f"{role}_token": f"<{role}>" for role in ("bos", "eos", "pad", "unk", "mask")}
    write_tokenizer(learner, folder)
    write_json(folder / "tokenizer_config.json", settings)


def t5(folder: Path) -> None:
    """spiece.model alone."""
    ids = {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1}
    pieces(folder / "spiece.model", model_type="unigram", **ids)
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "T5Tokenizer"})
    write_json(folder / "config.json", {"model_type": "t5", "decoder_start_token_id": 0})


def marian(folder: Path) -> None:
    """Two SentencePiece models and one vocabulary, without some pieces of theirs."""
    for side, size in (("source", 500), ("target", 400)):
        pieces(folder / f"{side}.spm", model_type="unigram", vocab_size=size, bos_id=-1)
    names = {"</s>": None, "<unk>": None, ">>fra<<": None}
    for side in ("source", "target"):
        model = sentencepiece.SentencePieceProcessor(model_file=str(folder / f"{side}.spm"))
        count = model.get_piece_size()
        names |= {model.id_to_piece(i): None for i in range(count) if i % 17}
    names.pop("<pad>", None)
    ids = {name: index for index, name in enumerate([*names, "<pad>"])}
    write_json(folder / "vocab.json", ids)
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "MarianTokenizer"})
    start = {"model_type": "marian", "decoder_start_token_id": ids["<pad>"]}
    write_json(folder / "config.json", start)


def xlm_roberta(folder: Path) -> None:
    """A Unigram model whose ids are in fairseq's order, as in XLM-RoBERTa, CamemBERT and NLLB."""
    with tempfile.TemporaryDirectory() as temporary:
        t5(Path(temporary))
        made = transformers.T5Tokenizer.from_pretrained(temporary)
    tree = json.loads(made.backend_tokenizer.to_str())
    pieces = [[name, score] for name, score in tree["model"]["vocab"] if not name.startswith("<")]
    first = [["<s>", 0.0], ["<pad>", 0.0], ["</s>", 0.0], ["<unk>", 0.0]]
    tree["model"] |= {"vocab": [*first, *pieces, ["<mask>", 0.0]], "unk_id": 3}
    tree["added_tokens"] = []
    learner = Tokenizer.from_str(json.dumps(tree))
    learner.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>"])
    learner.add_special_tokens([AddedToken("<mask>", lstrip=True, special=True)])
    learner.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", 0), ("</s>", 2)],
    )
    write_tokenizer(learner, folder)
    settings = {"tokenizer_class": "XLMRobertaTokenizer", "bos_token": "<s>", "eos_token": "</s>"}
    settings |= {"cls_token": "<s>", "sep_token": "</s>", "pad_token": "<pad>"}
    settings |= {"unk_token": "<unk>", "mask_token": "<mask>"}
    write_json(folder / "tokenizer_config.json", settings)


def modernbert(folder: Path) -> None:
    """A byte-level model that frames texts as BERT does; blanks that are tokens, as in GPT-NeoX."""
    learner = byte_pairs(pre_tokenizers.ByteLevel(add_prefix_space=False), [])
    learner.normalizer = normalizers.NFC()
    learner.add_tokens([AddedToken(" " * n, normalized=True) for n in (4, 3, 2)])
    learner.add_special_tokens(["[UNK]", "[CLS]", "[SEP]", "[PAD]"])
    learner.add_special_tokens([AddedToken("[MASK]", lstrip=True, special=True)])
    learner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[(name, learner.token_to_id(name)) for name in ("[CLS]", "[SEP]")],
    )
    settings = {"tokenizer_class": "PreTrainedTokenizerFast"}
    settings |= {f"{role}_token": f"[{role.upper()}]" for role in ("unk", "cls", "sep", "pad")}
    write_tokenizer(learner, folder)
    write_json(folder / "tokenizer_config.json", settings | {"mask_token": "[MASK]"})


FAMILIES: dict[str, tuple[Callable[[Path], None], Any]] = {
    "bert": (lambda folder: word_piece(folder, True), transformers.BertTokenizer),
    "bert_cased": (lambda folder: word_piece(folder, False), transformers.BertTokenizer),
    "gpt2": (gpt2, transformers.GPT2Tokenizer),
    "roberta": (roberta, transformers.RobertaTokenizer),
    "llama3": (llama3, transformers.PreTrainedTokenizerFast),
    "qwen": (qwen, transformers.Qwen2Tokenizer),
    "smollm": (smollm, transformers.PreTrainedTokenizerFast),
    "llama2": (llama2, transformers.LlamaTokenizer),
    "mistral": (mistral, transformers.PreTrainedTokenizerFast),
    "gemma": (gemma, transformers.PreTrainedTokenizerFast),
    "t5": (t5, transformers.T5Tokenizer),
    "marian": (marian, transformers.MarianTokenizer),
    "xlm_roberta": (xlm_roberta, transformers.PreTrainedTokenizerFast),
    "modernbert": (modernbert, transformers.PreTrainedTokenizerFast),
}


def answers(folder: Path, kind: Any, texts: list[str]) -> dict[str, Any]:
    """What the reference makes of the texts; special tokens written in them are text."""
    reference = kind.from_pretrained(folder)
    plain = kind.from_pretrained(folder, split_special_tokens=True)

    def encode(text: str) -> list[int]:
        return plain(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]

    ids = [encode(text) for text in texts]
    found = {
        "ids": ids,
        "decoded": [reference.decode(row, skip_special_tokens=True) for row in ids],
        "one": reference(PAIR[0])["input_ids"],
        "two": reference(*PAIR)["input_ids"],
        "segments": reference(*PAIR, return_token_type_ids=True)["token_type_ids"],
    }
    if kind is transformers.MarianTokenizer:
        found["target"] = plain(text_target=texts, split_special_tokens=True)["input_ids"]
        del found["segments"]
    if reference.chat_template:
        # Contents without special tokens, so that the reference does not take these for ids.
        harmless = [m | {"content": m["content"].replace("<", "(")} for m in CHAT]
        chat = reference.apply_chat_template(harmless, add_generation_prompt=True)
        found["chat_ids"] = chat["input_ids"]
    return found


def write_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    write_json(folder / "tokenizer.json", json.loads(tokenizer.to_str()))


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> None:
    texts = [*NASTY, *nasty_texts(200 - len(NASTY))]
    FOLDER.mkdir(exist_ok=True)
    write_json(FOLDER / "texts.json", {"texts": texts, "pair": PAIR, "chat": CHAT})
    for name in sys.argv[1:] or FAMILIES:
        make, kind = FAMILIES[name]
        folder = FOLDER / name
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(folder)
        folder.mkdir()
        make(folder)
        found = answers(folder, kind, texts)
        rows = [f"{json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}" for k, v in found.items()]
        (folder / "answers.json").write_text("{\n" + ",\n".join(rows) + "\n}\n", encoding="utf-8")
        print(name, sum(map(len, found["ids"])), "ids")


if __name__ == "__main__":
    main()
