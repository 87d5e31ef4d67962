"""Ids that transformers' CLIPTokenizer gives to odd texts, for tests/parity/clip_tokenizer_test.cpp.

  clip_tokenizer.py FOLDER OUT.json    FOLDER holds vocab.json and merges.txt; OUT gets "texts", "ids" and "pad"
"""

import json
import random
import sys
import unicodedata

from transformers import CLIPTokenizer

ODD = [
    "", " ", "\n\t ", "a photo of a cat", "A  Photo\u00a0of\u2003a CAT.", "it's we're I'VE they'll 'em !'s ''s",
    "<|startoftext|>a<|endoftext|>b", "<|STARTOFTEXT|>!! <|EndOfText|>", "!<|STARTOFTEXT|>", "<|startoftext|", "<|endoftext|>",
    "caf\u00e9 cafe\u0301 e\u0323\u0301 \u1e69 s\u0323\u0307", "\u039f\u0394\u039f\u03a3 \u03a3", "\u0130stanbul I\u0131 \u1e9eS",
    "\ufb01ne \uff21\uff22\uff23 \u2460\u00b2\u00bd", "\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea",
    "\u0915\u094d\u0937\u093f \u0e01\u0e33 \ud55c\uad6d \u1112\u1161\u11ab", "x\x85y x\x1cy x\u180ey x\u200by \ufeffz x\x00y",
    "don\u2019t \u201cquoted\u201d", "12345 1a2b", "&amp; \u00c3\u00a9", "a" * 500, "ab " * 200, "supercalifragilisticexpialidocious",
]


def alphabet():
    """Code points of Unicode 3.2 and older emoji: younger ones hang on the versions that a tokenizer was built with."""
    old = unicodedata.ucd_3_2_0
    points = [chr(c) for c in range(0x2FA20) if not 0xD800 <= c < 0xE000 and old.category(chr(c)) not in ("Cn", "Co")]
    return points, [chr(c) for c in range(0x300, 0x370) if old.category(chr(c)) == "Mn"]


def texts(count):
    draw = random.Random(5)
    points, marks = alphabet()
    near = [c for c in points if ord(c) < 0x600]
    ascii = [chr(c) for c in range(32, 127)]
    kinds = [points, near, ascii, marks + ["e", "a", "o"], ascii + marks, list("abcde '<|>startofendtext123!?.,")]
    for _ in range(count):
        kind = draw.choice(kinds)
        yield "".join(draw.choice(kind) for _ in range(draw.randint(1, 60)))


def main(folder, out):
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    strings = ODD + list(texts(6000))
    ids = tokenizer(strings, padding="max_length", max_length=77, truncation=True).input_ids
    with open(out, "w") as file:
        json.dump({"texts": strings, "ids": ids, "pad": tokenizer.pad_token_id, "size": len(tokenizer)}, file)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
