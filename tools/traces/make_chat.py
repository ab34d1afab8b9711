#!/usr/bin/env python3
"""Writes tests/traces/chat.jsonl: who asks what, in order of arrival, as lengths.

usage: tools/traces/make_chat.py [OUTPUT]

200 conversations of 6 turns begin with one of 3 system prompts. Who speaks next is drawn with
Zipf's weights 1 / rank among the conversations that have turns left and were not among the last 16
to speak. A line is one request: its prompt is everything said in the conversation and user_tokens
more, its answer has answer_tokens. Token ids are not here: they follow from system, conversation
and message (tests/reuse/trace.cc).
"""

import json
import math
import pathlib
import random
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
SEED = 20
CONVERSATIONS = 200
TURNS = 6
PAUSE = 16  # arrivals of others between two turns of a conversation
SYSTEM_TOKENS = (640, 1530, 2870)
USER_TOKENS = (20, 120, 800)  # least, median, most
ANSWER_TOKENS = (50, 220, 600)


def length(rng, bounds, spread):
    least, median, most = bounds
    return max(least, min(most, round(median * math.exp(spread * rng.gauss(0, 1)))))


def arrivals(rng):
    ranked = list(range(CONVERSATIONS))
    rng.shuffle(ranked)
    weight = {c: 1 / (rank + 1) for rank, c in enumerate(ranked)}
    left = {c: TURNS for c in ranked}
    recent = []
    while left:
        ready = [c for c in left if c not in recent] or list(left)
        c = rng.choices(ready, [weight[r] for r in ready])[0]
        yield c, TURNS - left[c]
        recent = (recent + [c])[-PAUSE:]
        left[c] -= 1
        if left[c] == 0:
            del left[c]


def main():
    output = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "tests/traces/chat.jsonl"
    rng = random.Random(SEED)
    systems = rng.choices(range(3), [1, 1 / 2, 1 / 3], k=CONVERSATIONS)
    with output.open("w") as file:
        for conversation, turn in arrivals(rng):
            system = systems[conversation]
            file.write(json.dumps({
                "conversation": conversation, "turn": turn, "system": system,
                "system_tokens": SYSTEM_TOKENS[system],
                "user_tokens": length(rng, USER_TOKENS, 0.9),
                "answer_tokens": length(rng, ANSWER_TOKENS, 0.6)}) + "\n")


if __name__ == "__main__":
    main()
