"""Strings that tokenizers get wrong. Written as escapes where an editor might normalise or hide what matters."""

import random

# Sentences in many scripts, and what surrounds them in real prompts.
SENTENCES = (
    "", " ", "  ", "\n", "\n\n", "\t", "\r\n", "\r", "a", " a", "a ", " a ", "  a  b   c    ",
    "Hello, world!", "The quick brown fox jumps over the lazy dog.",
    "Mia has 12 apples and buys 7 more.", "#### 42", "12 + 7 = 19",
    "I'll, you'LL, IT'S, it's, they'VE, we'Re, I'M, he'D, can'T, 'tis, 'S, 's, '",
    "don't 'quote' 'll 'LL'll", "O'Neil\u2019s it\u2019s",
    "x=1;y=22;z=333;w=4444", "3.14159e-10, 1,000,000 and 0xFF", "1 2  3   4", "a1b2c3",
    "2024-05-17T08:09:10Z", "\u00bd \u00b2 \u2167 \u0664\u0662 \u0967\u0968 \uff11\uff12",
    "for (int i = 0; i < n; ++i) {\n    sum += a[i];\n}\n",
    "def f(x):\n\treturn x ** 2\n\n\n\nprint(f(3))", "{\"a\": [1, 2, {\"b\": null}]}",
    "<a href=\"x\">y</a>",
    "https://example.org/path?x=1&y=%20#top", "user@example.org",
    "snake_case camelCase PascalCase kebab-case SCREAMING_CASE", "C:\\temp\\new.txt",
    "...!!!???---", "$$$ %%% ^^^ &&& *** ((( )))", "a.b.c.d", "!\n!\r\n?\n\n", " !", "!a",
    "(hello)", "\"hi\" she said", "a/b\\c|d",
    "na\u00efve caf\u00e9 fa\u00e7ade \u0153uvre \u00dcbergr\u00f6\u00dfe",
    "El ni\u00f1o comi\u00f3 pi\u00f1as; \u00bfqu\u00e9 m\u00e1s?",
    "Za\u017c\u00f3\u0142\u0107 g\u0119\u015bl\u0105 ja\u017a\u0144",
    "\u0130stanbul I\u0131 i\u0307", "Ti\u1ebfng Vi\u1ec7t c\u00f3 d\u1ea5u",
    "\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440! \u0401\u043b\u043a\u0430",
    "\u0395\u03bb\u03bb\u03b7\u03bd\u03b9\u03ba\u03ac \u03c2\u03a3\u03c3",
    "\u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd",
    "\u0645\u0631\u062d\u0628\u0627 \u0628\u0627\u0644\u0639\u0627\u0644\u0645\u060c \u0627\u0644\u0633\u0651\u0644\u0627\u0645\u064f", "\u0928\u092e\u0938\u094d\u0924\u0947 \u0926\u0941\u0928\u093f\u092f\u093e",
    "\u0bb5\u0ba3\u0b95\u0bcd\u0b95\u0bae\u0bcd",
    "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35\u0e0a\u0e32\u0e27\u0e42\u0e25\u0e01",
    "\u4f60\u597d\uff0c\u4e16\u754c\uff01", "\u4e00\u4e8c\u4e09\u56db\u4e94",
    "\u3053\u3093\u306b\u3061\u306f\u3001\u30ab\u30bf\u30ab\u30ca", "\uff76\uff9e \u30ac",
    "\uc548\ub155\ud558\uc138\uc694 \uc138\uacc4", "\u4f60\u597dHello123\u4e16\u754c",
    "\U00020000\U0002a6d6 \u9fa5\u9fff\u3400",
    "\u10d2\u10d0\u10db\u10d0\u10e0\u10ef\u10dd\u10d1\u10d0", "\u1200\u1208\u1210", "\u13a0\u13b1",
    "\U00010400\U00010428", "\U0001d400\U0001d7d8",
)
EMOJI = (
    "\U0001f600", "\U0001f600\U0001f600", "a\U0001f680b", "\U0001f44d\U0001f3fd",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466",
    "\U0001f3f3\ufe0f\u200d\U0001f308", "\u2764\ufe0f", "\U0001f1e9\U0001f1ea\U0001f1eb\U0001f1f7",
    "1\ufe0f\u20e3", "\U0001f9d1\U0001f3fe\u200d\U0001f4bb works",
    "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
    "\U0001fae0\U0001fae8", "ok \u2705 done \u274c",
)
# Composition: what NFC changes and what it must leave alone.
COMPOSITION = (
    "e\u0301", "caf\u0065\u0301", "A\u030a \u212b \u00c5", "\u1e9b\u0323",
    "q\u0307\u0323 q\u0323\u0307", "a\u0328\u0301\u0304", "\u0344", "\u0958 \u0915\u093c",
    "\u2126\u212a", "\ufb01 \ufb03 \uff21",
    "\u1112\u1161\u11ab\u1100\u1173\u11af", "\ud55c\u11a8", "\u1100\u1161\u11a7", "\uac00\u11a8",
    "\u0041\u0300\u0301\u0302", "n\u0303o", "\u0301", " \u0301", "a\u0301\u0301", "1\u0301",
    "\n\u0301", "\u0645\u0651\u064e\u0645\u064e\u0651",
    "\u0f71\u0f72\u0f74", "\u0b47\u0b3e", "\U000110a5\U000110ba", "\U0001d15e", "\u2adc",
    "x\u0338\u003d\u0338", "\u0439 \u0438\u0306", "\u1e69 s\u0323\u0307 s\u0307\u0323",
)
# Characters that end lines, hide, reorder or do not exist.
CONTROLS = (
    "\x00", "a\x00b", "\x01\x02\x1f", "\x7f\x80\x9f", "\ufeff", "\ufeffHello", "a\ufeffb",
    "\u200b \u200c \u200d", "\u00a0", "a\u00a0b", "a\u2003b \u3000c", "\u2028line\u2029para",
    "\x0b\x0c", "a\x85b", "\u202eabc\u202c",
    "\ue000\uf8ff", "\U000f0000\U0010fffd", "\u0378\u0379", "\U000e0080", "\ufffd", "\ufffe\uffff",
    "\U0001ffff", "\u00ad soft\u00adhyphen", "\u180e", "\u1680", "\u2060", "\ufff9\ufffa\ufffb",
    "\u0600\u06dd", "tab\there\t\tand\t\t\tthere",
    "   \n   \n  x", "x   \n", "x \n y", "\n \n", " \n", "\t\n\t", "a\n\n\nb", "a \r\n \r\n b",
    "\r\r\n\n", "a" + " " * 50 + "b", " " * 127, "\n" * 33, "\t" * 17 + "x", " \t \t ",
    "\u3000\u3000\u3000a",
)
# The zoo's special tokens, whole, broken, nested and next to spaces.
SPECIALS = (
    "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|mask|>", "<|im_start|>user\nhi<|im_end|>\n",
    "a<|im_end|>b", "a <|im_end|> b", "<|im_end|><|im_end|>", "<|im_start|", "<|im_start|>|>",
    "<<|im_end|>>", "<|IM_END|>",
    "<| im_end |>", "<|im_end|>\n\n<|im_start|>assistant\n", "  <|mask|>  ",
    "<|endoftext|>\x00<|endoftext|>", "e\u0301<|im_end|>\u0301", "<|im_sta<|im_start|>rt|>",
    "\u4f60<|mask|>\u597d", "[INST] <s> </s> <pad> <unk>",
)
ALPHABETS = (
    "abcdefghijklmnopqrstuvwxyz    ", "ABCdef0123456789 .,;:!?'\"-",
    "\u00e9\u00e8\u00fc\u00f1\u00e7 \u0301\u0308a",
    "\u0430\u0431\u0432\u0433 \u4f60\u597d\u4e16\u754c\u3002\uff0c",
    "\u1100\u1161\u11a8\uac00\ud55c \u1112", " \t\n\r\u00a0\u2003a",
    "\U0001f600\U0001f468\u200d\ufe0f\U0001f3fd x1", "'sStTrReEvVlLmMdD ",
    "\u0627\u0644\u0633\u0651\u064e 12", "<|im_endstar>",
)


def random_strings(count, seed):
    """Short strings over alphabets chosen to provoke each branch of the usual regular expressions."""
    rng = random.Random(seed)
    return ["".join(rng.choices(ALPHABETS[i % len(ALPHABETS)],
                                k=rng.randint(1, 24))) for i in range(count)]


def all_strings():
    return [*SENTENCES, *EMOJI, *COMPOSITION, *CONTROLS, *SPECIALS, *random_strings(150, 11)]


def some_strings(extra=()):
    """A shorter list for the small tokenizers, `extra` first."""
    everything = [*SENTENCES[5:], *EMOJI[::2], *COMPOSITION[::3], *CONTROLS[::2], *SPECIALS[::4],
                  *random_strings(30, 12)]
    return [*extra, *everything]
