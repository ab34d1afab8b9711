"""Small tokenizers, each with the features of one real family or with flags that are easy to forget."""

import json
import pathlib
import sys

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "zoo"))
from tokenizer import OTHER_TEXT, QWEN2_SPLIT, corpus  # noqa: E402

LLAMA3_SPLIT = QWEN2_SPLIT.replace(r"\p{N}|", r"\p{N}{1,3}|", 1)
QWEN35_SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*"
                r"|\s*[\r\n]+|\s+(?!\S)|\s+")
DEEPSEEK_SPLITS = (
    r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", r"\s+$", "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+",
)


def trained(pre_tokenizer, vocabulary, normalizer=None, decoder=None, **model):
    tokenizer = Tokenizer(models.BPE(**model))
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoder or decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=vocabulary, min_frequency=2, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    lines = [*OTHER_TEXT.strip().splitlines()] * 20 + list(corpus(300, seed=9))
    tokenizer.train_from_iterator(lines, trainer)
    return tokenizer


def split(pattern, behavior="isolated"):
    return pre_tokenizers.Split(Regex(pattern), behavior)


def byte_level(prefix=False, regex=False):
    return pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=regex)


def as_json(tokenizer, change=None):
    data = json.loads(tokenizer.to_str())
    if change:
        change(data)
    return data


def string_merges(data):
    """The old spelling of merges: "a b" instead of ["a", "b"]."""
    data["model"]["merges"] = [" ".join(pair) for pair in data["model"]["merges"]]


def llama3():
    """No normaliser, digits in threes, ignore_merges, a bos added by the post-processor, merges spelled as strings."""
    tokenizer = trained(pre_tokenizers.Sequence([split(LLAMA3_SPLIT), byte_level()]), 520,
                        ignore_merges=True)
    data = as_json(tokenizer)
    vocabulary = data["model"]["vocab"]
    for word in ("\u0120arena", "zyzzyva", "123",
                 "\u0120sinks"):  # no merge builds these; ignore_merges finds them all the same
        vocabulary.setdefault(word, len(vocabulary))
    tokenizer = Tokenizer.from_str(json.dumps(data))
    tokenizer.add_special_tokens(["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"])
    bos = tokenizer.token_to_id("<|begin_of_text|>")
    tokenizer.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(single="<|begin_of_text|> $A",
                                      pair="<|begin_of_text|> $A <|begin_of_text|>:1 $B:1",
                                      special_tokens=[("<|begin_of_text|>", bos)])])
    return as_json(tokenizer, string_merges)


def qwen35():
    """Marks stay with their letters; NFC; merges spelled as lists."""
    tokenizer = trained(pre_tokenizers.Sequence([split(QWEN35_SPLIT), byte_level()]), 500,
                        normalizers.NFC())
    tokenizer.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    tokenizer.add_tokens(["<think>", "</think>", "<tool_call>"])
    return as_json(tokenizer)


def gpt2(prefix):
    """ByteLevel with its own regular expression; the old post-processor and merges."""
    tokenizer = trained(byte_level(prefix, regex=True), 400)
    tokenizer.add_special_tokens(["<|endoftext|>"])
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return as_json(tokenizer, string_merges)


def deepseek():
    """A sequence of splits, digits one by one, an empty normaliser; bos added; added tokens that are not special."""
    pre = pre_tokenizers.Sequence([*(split(p) for p in DEEPSEEK_SPLITS),
                                   pre_tokenizers.Digits(individual_digits=True), byte_level()])
    tokenizer = trained(pre, 480, normalizers.Sequence([]))
    marks = ["<\uff5cbegin\u2581of\u2581sentence\uff5c>", "<\uff5cend\u2581of\u2581sentence\uff5c>"]
    tokenizer.add_special_tokens(marks)
    tokenizer.add_tokens([AddedToken("<\uff5cUser\uff5c>", normalized=False),
                          AddedToken("<\uff5cAssistant\uff5c>", normalized=False)])
    bos = tokenizer.token_to_id(marks[0])
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{marks[0]}:0 $A:0", pair=f"{marks[0]}:0 $A:0 {marks[0]}:1 $B:1",
                                                             special_tokens=[(marks[0], bos)])
    return as_json(tokenizer)


def flags():
    """Added tokens with lstrip, rstrip, single_word and normalized, matched around and inside words."""
    tokenizer = trained(pre_tokenizers.Sequence([split(QWEN2_SPLIT), byte_level()]), 420,
                        normalizers.NFC())
    tokenizer.add_special_tokens([AddedToken("<l>", lstrip=True), AddedToken("<r>", rstrip=True),
                                  AddedToken("<lr>", lstrip=True, rstrip=True),
                                  AddedToken("<w>", single_word=True), AddedToken("<plain>")])
    tokenizer.add_tokens([AddedToken("word", single_word=True, normalized=False),
                          AddedToken("caf\u00e9", normalized=True),
                          AddedToken("nai\u0308ve", normalized=False),
                          AddedToken("wor", normalized=False),
                          AddedToken(" lead", normalized=False),
                          AddedToken("trail ", normalized=False)])
    return as_json(tokenizer)


FLAG_STRINGS = (
    "a <l> b", "a  <l>  b", "a\n<l>\nb", "<l>", " <l>", "<l> ", "a <r> b", "a  <r>  \n b", "<r>",
    "<r> ", "a <lr> b", " \t<lr>\n ", "<l><r><lr>", " <l> <r> <lr> ", "a<w>b", "a <w> b", "<w>",
    "<w>.", ".<w>", "1<w>", "_<w>_", "<w><w>", "<w> <w>",
    "word", "words", "sword", "a word b", "word-word", "word_", "word1", "\u00e9word", "word\u00e9",
    "wor", "world", "work word", "caf\u00e9", "cafe\u0301", "caf\u00e9s", "nai\u0308ve",
    "na\u00efve", " lead", "a lead b", "  lead", "trail ", "trail  x", "trail", "<plain> x <plain>",
    "<l>word<r> caf\u00e9", "<pl<plain>ain>", "word word  word\nword", "<r>\u00a0x", "x\u3000<l>",
)
LLAMA_STRINGS = (" arena", "arena", "zyzzyva", " zyzzyva", "123", "1234567", " sinks sinks",
                 "0123456789", "12 345 6789", "<|begin_of_text|>hi", "<|eot_id|>")
QWEN35_STRINGS = ("\u0928\u092e\u0938\u094d\u0924\u0947", "a\u0324\u0301b",
                  "<think>\n\n</think>\n\nok", "<tool_call>{}",
                  "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35", " \u0301x", "!\u0301!", "1\u0301")
DEEPSEEK_STRINGS = ("<\uff5cUser\uff5c>hi<\uff5cAssistant\uff5c>",
                    "<\uff5cbegin\u2581of\u2581sentence\uff5c>", "a   ", "a  \n", "  \n  a  ",
                    "x,y", " ,a", "\u4e2d\u6587abc\u4e2d", "12345", " 1 22",
                    "\uc548\ub155 \u3042\u3044", "a\tb ", "!?\n!?")

# name -> (tokenizer.json as data, strings of its own, what transformers must be told about special tokens)
VARIANTS = {
    "llama3": (llama3, LLAMA_STRINGS,
               {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"}),
    "qwen35": (qwen35, QWEN35_STRINGS, {"eos_token": "<|im_end|>"}),
    "gpt2": (lambda: gpt2(False), (), {"eos_token": "<|endoftext|>"}),
    "gpt2-prefix": (lambda: gpt2(True), (), {"eos_token": "<|endoftext|>"}),
    "deepseek": (deepseek, DEEPSEEK_STRINGS,
                 {"bos_token": "<\uff5cbegin\u2581of\u2581sentence\uff5c>"}),
    "flags": (flags, FLAG_STRINGS, {}),
}
