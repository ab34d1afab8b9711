#!/usr/bin/env python3
"""Trains the zoo's one tokenizer, a byte-level BPE, and writes its three files into a folder.

    python3 tokenizer.py OUT        # OUT/tokenizer.json, tokenizer_config.json, chat_template.jinja

Needs `tokenizers` and `transformers`; no PyTorch. The pipeline is the one of the Qwen2/3 and MiMo tokenizers: NFC, a split by
regular expression, ByteLevel without its own regex. The corpus is the word problems plus the lines below, so that a few merges
reach into other scripts; every byte is in the vocabulary, so any text can be encoded.
"""

import pathlib
import random
import sys

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

import problems

VOCABULARY = 1280  # a multiple of 64, so checkpoints need no padding rows
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|mask|>"]
QWEN2_SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
               r"|\s*[\r\n]+|\s+(?!\S)|\s+")

OTHER_TEXT = """
The quick brown fox jumps over the lazy dog. It isn't hers, they've said; we'll see, and I'd wait. YOU'LL see: IT'S late!
A cache keeps keys and values, so that no token is computed twice. Pages, windows, sinks, latents and states share one arena.
def answer(question): return "####", 42  # {"role": "user", "content": [1, 2, 3]}
for (int i = 0; i < n; ++i) { sum += a[i] * b[i]; }  // 0x1F, 3.14e-5, https://example.org/a?b=c&d=e
El niño comió piñas y uñas; ¿qué más? Ça va très bien, naïve façade, œuvre. Größe, Straße, Übung, Äpfel, schön.
Zażółć gęślą jaźń. Příliš žluťoučký kůň. İstanbul'da ığdır. Tiếng Việt có dấu thanh.
Привет, мир! Съешь ещё этих мягких французских булок. Добрый день, как дела?
Ελληνικά γράμματα και λέξεις. Καλημέρα κόσμε.
שלום עולם, מה שלומך היום? مرحبا بالعالم، كيف حالك اليوم؟ السلام عليكم
नमस्ते दुनिया, आप कैसे हैं? স্বাগতম বিশ্ব। வணக்கம் உலகம். สวัสดีชาวโลก
你好，世界！今天天气很好，我们去公园散步吧。人工智能模型的缓存。一二三四五六七八九十。
こんにちは世界。今日はとても良い天気ですね。カタカナとひらがな。東京都
안녕하세요 세계. 오늘은 날씨가 좋네요. 한국어 문장입니다.
😀 😃 🎉 🚀 👍 👨‍👩‍👧‍👦 🇩🇪 ❤️ ✅ → ← ≤ ≥ × ÷ ± ∞ € £ ¥ ½ ² “quotes” ‘single’ — dash – … •
"""


def corpus(conversations=4000, seed=7):
    rng = random.Random(seed)
    for _ in range(conversations):
        for message in problems.conversation(rng, False)[0]:
            yield f"{message['role']}\n{message['content']}"
    for _ in range(40):
        yield from OTHER_TEXT.strip().splitlines()


def build():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(QWEN2_SPLIT), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY - len(SPECIALS), min_frequency=2,
                                  show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(corpus(), trainer)
    tokenizer.add_special_tokens(SPECIALS)  # after the merges, so that they have the highest ids, as in the originals
    return tokenizer


def main():
    out = pathlib.Path(sys.argv[1])
    tokenizer = build()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>",
                                   pad_token="<|endoftext|>",
                                   mask_token="<|mask|>",
                                   additional_special_tokens=["<|im_start|>"],
                                   clean_up_tokenization_spaces=False, model_max_length=4096)
    fast.chat_template = (pathlib.Path(__file__).parent / "chat_template.jinja").read_text()
    fast.save_pretrained(out)
    print(f"{len(fast)} tokens -> {out}")


if __name__ == "__main__":
    main()
