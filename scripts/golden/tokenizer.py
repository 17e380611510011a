"""Token ids by transformers' CLIPTokenizer. Usage: tokenizer.py bpe_simple_vocab_16e6.txt.gz (of open-clip-torch 3.3.0)

Writes models/tokenizer/testdata: merges.txt.gz, CLIP's 48,894 merges, and golden.json, the ids of odd prompts under the
whole vocabulary and under the demo pack's.
"""
import gzip
import json
import pathlib
import sys
import tempfile

from transformers import CLIPTokenizer

root = pathlib.Path(__file__).resolve().parents[2]
out = root / "models/tokenizer/testdata"

PROMPTS = [
    "",
    " ",
    "a photo of a cat",
    "A Photo Of A CAT",
    "an illustration of a woman wearing a crown, red jacket, night city",
    "  leading,   inner \t\n and trailing   ",
    "it's I'm you're we've they'll he'd don't",
    "IT'S I'M YOU'RE",
    "'sure 'tis 'real 'velvet 'market 'llama 'date",
    "rock'n'roll o'clock ''quoted'' '' '",
    "dogs' toys, the boss's cat",
    "2023 12345 3.14 1,000 v2.0 1st 7up mp3",
    "½ ² ⅷ ① ٣٤ 一二三",
    "hello!!! really??? (yes) [no] {maybe} <tag> </tag>",
    "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~",
    "well-known state-of-the-art e-mail_address",
    "user@example.com https://example.com/a?b=c&d=e#f",
    "C++ C# F# node.js",
    "$100 50% €20 £5 ¥3",
    "&amp; &lt;b&gt; &#39;",
    "naïve café résumé über straße",
    "cafe\u0301 re\u0301sume\u0301 A\u030a",
    "ÀÉÎÕÜ ÇÑ ŒÆ ŠŽ",
    "İstanbul ISPARTA ıI",
    "ΑΘΗΝΑ ΟΔΟΣ σίσυφος ΣΑΣ",
    "Привет, мир! ЁЖИК",
    "你好世界",
    "こんにちは カタカナ ﾊﾝｶｸ",
    "안녕하세요",
    "مرحبا بالعالم",
    "שלום עולם",
    "नमस्ते दुनिया",
    "สวัสดีชาวโลก",
    "ﬁne ﬂow ﬀ Ǆ ǅ ǆ",
    "Ⅷ Ⓐ ⓐ ℌ ℵ",
    "😀 😃 smile😄face",
    "👨‍👩‍👧‍👦 👍🏽 🇫🇷 ❤️ ☺",
    "☃ ★ → ∞ ≠ ±",
    "a\u00a0b\u2003c\u3000d\u2028e\u0085f",
    "zero\u200bwidth\u200djoin\ufeffbom",
    "tab\tnew\nline\r\nreturn\x0bvt\x0cff",
    "control\x00\x01\x1f\x7f chars",
    "\ufffd replacement",
    "combining: o\u0308\u0304 x\u0302\u0323 \u0301alone",
    "Å \u212b \u2126 \u212a",
    "supercalifragilisticexpialidocious antidisestablishmentarianism",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "xqzjkvbw qqqq zzzzz",
    "............ !!!!!!!! -------- ======== ********",
    "…—–‘’“”«»",
    "greg rutkowski, artstation, 8k, unreal engine 5, highly detailed, f/1.8",
    "(masterpiece:1.2), best quality, ((sharp focus)), [blurry]",
    "portrait of <|endoftext|> someone",
    "<|startoftext|>twice<|endoftext|>",
    "<|ENDOFTEXT|> <|startoftext> <|endoftext",
    "a</w>b </w>",
    "ends with space ",
    "one two three four five six seven eight nine ten " * 10,
    "a, " * 60,
    "😀" * 40,
    "pencil sketch of an old man with glasses and a grey beard, smiling, on a blue background",
    "pixel art of a girl with freckles and a witch hat in a forest",
    "an astronaut on the moon; a knight in armour; a chef's hat",
    "ªº ʰ ˈstress ǃ ʼn",
    "𝒜𝓫𝕔 𐐀 𐐨 🄰",
]


def byte_text():
    """GPT-2's printable stand-ins for the bytes, in vocabulary order."""
    order = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    text = [chr(b) for b in order]
    return text + [chr(256 + i) for i in range(256 - len(order))]


def whole(folder, merges):
    """CLIP's published vocabulary of 49,408 tokens."""
    chars = byte_text()
    tokens = chars + [c + "</w>" for c in chars] + ["".join(m.split()) for m in merges]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")


def encode(folder, length):
    t = CLIPTokenizer.from_pretrained(str(folder))
    return [t(p, padding="max_length", truncation=True, max_length=length)["input_ids"] for p in PROMPTS]


def main():
    lines = gzip.open(sys.argv[1], "rt", encoding="utf-8").read().split("\n")
    merges = lines[1 : 49152 - 256 - 2 + 1]
    out.mkdir(exist_ok=True)
    with open(out / "merges.txt.gz", "wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as f:
        f.write(("#version: 0.2\n" + "\n".join(merges) + "\n").encode())
    with tempfile.TemporaryDirectory() as tmp:
        whole(pathlib.Path(tmp), merges)
        full = encode(tmp, 77)
    demo = encode(root / "models/demo/tokenizer", 32)
    cases = [
        json.dumps({"prompt": p, "whole": strip(a), "demo": strip(b)}) for p, a, b in zip(PROMPTS, full, demo)
    ]
    (out / "golden.json").write_text("[\n" + ",\n".join(cases) + "\n]\n")


def strip(ids):
    """Drops repeated padding, which is the end token."""
    while len(ids) > 1 and ids[-1] == ids[-2]:
        ids = ids[:-1]
    return ids


main()
