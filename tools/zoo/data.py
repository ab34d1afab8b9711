"""Training rows: conversations as token ids, packed into fixed lengths, with a loss weight for every token."""

import multiprocessing
import os
import random

import numpy as np
from transformers import PreTrainedTokenizerFast

import problems

LENGTH = 384  # tokens a row predicts; rows hold one more
PROMPT_WEIGHT = 0.1  # the user's sentences are worth a little: the logits after any text should mean something
SHARDS = 64


class Encoder:
    """Renders conversations as the chat template does, keeping track of which tokens the assistant must produce."""

    def __init__(self, folder):
        self.tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
        marks = ["<|im_start|>", "<|im_end|>", "<|endoftext|>"]
        self.start, self.end, self.pad = self.tokenizer.convert_tokens_to_ids(marks)
        self.newline = self.ids("\n")
        self.role = {r: [self.start, *self.ids(f"{r}\n")] for r in ("system", "user", "assistant")}

    def ids(self, text):
        return self.tokenizer.encode(text, add_special_tokens=False)

    def encode(self, messages):
        """-> token ids, weights. Splitting at the turn's marks is safe: special tokens and line ends bound every merge."""
        ids, weights = [], []
        for message in messages:
            head, body = self.role[message["role"]], [*self.ids(message["content"]), self.end]
            ids += head + body + self.newline
            spoken = 1.0 if message["role"] == "assistant" else PROMPT_WEIGHT
            weights += [PROMPT_WEIGHT] * len(head) + [spoken] * len(body) + [PROMPT_WEIGHT] * len(self.newline)
        return ids, weights


def pack(encode, rng, rows):
    """Fills rows with whole conversations, the first of a small pool that fits, so that little is padding."""
    tokens = np.full((rows, LENGTH + 1), encode.pad, np.uint16)
    weights = np.zeros((rows, LENGTH + 1), np.float16)
    pool = []
    for row in range(rows):
        at = 0
        while True:
            while len(pool) < 32:
                pool.append(encode.encode(problems.conversation(rng, False)[0]))
            fit = next((i for i, (ids, _) in enumerate(pool) if at + len(ids) <= LENGTH + 1), None)
            if fit is None:
                break
            ids, w = pool.pop(fit)
            tokens[row, at:at + len(ids)], weights[row, at:at + len(ids)] = ids, w
            at += len(ids)
    return tokens, weights


def shard(job):
    folder, seed, number, rows = job
    return pack(Encoder(folder), random.Random(seed * 1000 + number), rows)


def make_rows(folder, seed, rows):
    """-> tokens [rows, LENGTH + 1], weights of the same shape; the same for a seed on any number of cores."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the processes below are parallelism enough
    each = -(-rows // SHARDS)
    with multiprocessing.get_context("spawn").Pool(min(16, os.cpu_count())) as workers:
        parts = workers.map(shard, [(folder, seed, n, each) for n in range(SHARDS)], chunksize=1)
    tokens, weights = (np.concatenate(p)[:rows] for p in zip(*parts))
    return tokens, weights
