"""A small voice that was never trained: its sounds are figures that phoneticians have measured, its spelling is rules.

Vowels: Peterson and Barney (1952), "Control methods used in a study of the vowels", means of men.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import WordPiece

from models.demo.chat import write_json
from models.demo.layers import constant
from models.demo.tensors import write_safetensors

SAMPLE_RATE = 24_000
# Seconds, voice, noise, three resonances (Hz), and the noise's band (Hz) with its width.
SOUNDS: dict[str, tuple[float, ...]] = {
    "pause": (0.06, 0.0, 0.0, 500, 1500, 2500, 1000, 1000),
    "rest": (0.28, 0.0, 0.0, 500, 1500, 2500, 1000, 1000),
    "stop": (0.05, 0.0, 0.0, 400, 1500, 2500, 1000, 1000),
    "hum": (0.05, 0.15, 0.0, 200, 1500, 2500, 1000, 1000),
    "iy": (0.12, 1.0, 0.0, 270, 2290, 3010, 1000, 1000),
    "ih": (0.09, 1.0, 0.0, 390, 1990, 2550, 1000, 1000),
    "eh": (0.10, 1.0, 0.0, 530, 1840, 2480, 1000, 1000),
    "ae": (0.12, 1.0, 0.0, 660, 1720, 2410, 1000, 1000),
    "aa": (0.13, 1.0, 0.0, 730, 1090, 2440, 1000, 1000),
    "ao": (0.13, 1.0, 0.0, 570, 840, 2410, 1000, 1000),
    "uh": (0.09, 1.0, 0.0, 440, 1020, 2240, 1000, 1000),
    "uw": (0.12, 1.0, 0.0, 300, 870, 2240, 1000, 1000),
    "ah": (0.09, 1.0, 0.0, 640, 1190, 2390, 1000, 1000),
    "er": (0.12, 1.0, 0.0, 490, 1350, 1690, 1000, 1000),
    "l": (0.07, 0.6, 0.0, 360, 1050, 2600, 1000, 1000),
    "r": (0.07, 0.6, 0.0, 420, 1300, 1600, 1000, 1000),
    "w": (0.06, 0.6, 0.0, 290, 610, 2150, 1000, 1000),
    "y": (0.06, 0.6, 0.0, 260, 2070, 3020, 1000, 1000),
    "m": (0.07, 0.4, 0.0, 250, 1100, 2200, 1000, 1000),
    "n": (0.07, 0.4, 0.0, 250, 1500, 2500, 1000, 1000),
    "ng": (0.08, 0.4, 0.0, 250, 2000, 2700, 1000, 1000),
    "v": (0.06, 0.4, 0.10, 300, 1200, 2400, 5000, 3000),
    "dh": (0.05, 0.4, 0.06, 300, 1400, 2500, 4500, 2500),
    "z": (0.08, 0.3, 0.30, 300, 1600, 2500, 6500, 1800),
    "zh": (0.06, 0.3, 0.30, 300, 1700, 2500, 3200, 1300),
    "f": (0.09, 0.0, 0.20, 300, 1200, 2400, 5000, 3000),
    "th": (0.08, 0.0, 0.12, 300, 1400, 2500, 6000, 2500),
    "s": (0.11, 0.0, 0.55, 300, 1600, 2500, 6500, 1800),
    "sh": (0.10, 0.0, 0.50, 300, 1700, 2500, 3200, 1300),
    "h": (0.05, 0.0, 0.20, 500, 1500, 2500, 1500, 1500),
    "p!": (0.03, 0.0, 0.30, 400, 900, 2300, 900, 900),
    "t!": (0.03, 0.0, 0.50, 400, 1700, 2600, 4200, 1800),
    "k!": (0.03, 0.0, 0.45, 400, 1900, 2400, 2000, 1000),
}
_T, _D, _J = "stop t!", "hum t!", "hum zh"
SPELLING = {
    "tion": "sh ah n", "tch": "stop sh", "igh": "aa ih", "air": "eh er", "ear": "ih er", "oor": "ao r",
    "our": "aa uh er",
    "ch": "stop sh", "sh": "sh", "th": "th", "ph": "f", "ck": "stop k!", "ng": "ng", "qu": "stop k! w", "wh": "w",
    "wr": "r", "kn": "n", "gh": "", "dge": "hum zh", "the": "dh ah",
    "ee": "iy", "ea": "iy", "oo": "uw", "ou": "aa uh", "ow": "aa uh", "oi": "ao ih", "oy": "ao ih", "ai": "eh ih",
    "ay": "eh ih", "au": "ao", "aw": "ao", "oa": "ao uh", "ie": "iy", "ew": "y uw",
    "ar": "aa r", "er": "er", "ir": "er", "ur": "er", "or": "ao r",
    "ll": "l", "ss": "s", "tt": _T, "nn": "n", "mm": "m", "rr": "r", "pp": "stop p!", "ff": "f", "cc": "stop k!",
    "ce": "s eh", "ci": "s ih", "cy": "s iy", "ge": "hum zh eh",
    "a": "ae", "b": "hum p!", "c": "stop k!", "d": _D, "e": "eh", "f": "f", "g": "hum k!", "h": "h", "i": "ih", "j": _J,
    "k": "stop k!", "l": "l", "m": "m", "n": "n", "o": "aa", "p": "stop p!", "q": "stop k!", "r": "r", "s": "s",
    "t": _T, "u": "ah", "v": "v", "w": "w", "x": "stop k! s", "y": "iy", "z": "z",
    "0": "z iy r ao", "1": "w ah n", "2": "stop t! uw", "3": "th r iy", "4": "f ao r", "5": "f aa ih v",
    "6": "s ih stop k! s", "7": "s eh v ah n", "8": "eh ih stop t!", "9": "n aa ih n",
}  # fmt: skip
# Pitch (Hz), length of the throat against an adult man's, breath.
VOICES = {"guard": (112.0, 1.0, 0.01), "driver": (84.0, 1.08, 0.0), "clerk": (196.0, 0.86, 0.03)}


UNKNOWN = "[UNK]"
SILENT_E = r"(?<=[a-z][a-z][bcdfghjklmnpqrstvwxz])e\b"


def make_voice(folder: Path) -> None:
    """Write the model into ``folder``, which exists."""
    numbers = {name: number for number, name in enumerate(SOUNDS)}
    speller = Speller()
    (folder / "tokenizer.json").write_text(speller.tokenizer.to_str(pretty=True), encoding="utf-8")
    write_json(
        folder / "config.json",
        {
            "architectures": ["FormantVoice"],
            "model_type": "formant-voice",
            "sample_rate": SAMPLE_RATE,
            "sounds": len(SOUNDS),
            "voices": list(VOICES),
            "spelling": speller.sounds,
            "pauses": [numbers["pause"], numbers["rest"]],
        },
    )
    tensors = [
        constant("sounds", np.array(list(SOUNDS.values()))),
        constant("voices", np.array(list(VOICES.values()))),
    ]
    write_safetensors(folder / "model.safetensors", tensors)


class Speller:
    """``sounds``: of each of the tokenizer's tokens, by their numbers."""

    def __init__(self) -> None:
        numbers = {name: number for number, name in enumerate(SOUNDS)}
        spelling = {UNKNOWN: "", **SPELLING}
        self.tokenizer = _speller(list(spelling))
        self.sounds = [[numbers[name] for name in names.split()] for names in spelling.values()]

    def sounds_of(self, word: str) -> list[int]:
        """Nothing where it cannot be said."""
        return [sound for token in self.tokenizer.encode(word).ids for sound in self.sounds[token]]


def _speller(tokens: list[str]) -> Tokenizer:
    """Cuts words into the longest groups of letters that it knows, from the left."""
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token=UNKNOWN, continuing_subword_prefix=""))
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.NFD(),
            normalizers.StripAccents(),
            normalizers.Lowercase(),
            normalizers.Replace("'", ""),
            normalizers.Replace(Regex(SILENT_E), ""),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.BertPreTokenizer(), pre_tokenizers.Digits(individual_digits=True)]
    )
    return tokenizer
