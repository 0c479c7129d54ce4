"""CLIP's byte pair encoding, with the library tokenizers. Independent of Triton."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Regex
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, PreTokenizer, Sequence, Split

VOCABULARY = Path(__file__).with_name("bpe_simple_vocab_16e6.txt.gz")
# The length of SAM 3's text encoder.
CONTEXT_LENGTH = 32
PADDING = 0
_END_OF_WORD = "</w>"
_START, _END = "<start_of_text>", "<end_of_text>"
_VOCABULARY_SIZE = 49408
# CLIP's rule for what a word is. Texts are in lower case, but one s, U+017F, still differs in case.
_WORDS = rf"{_START}|{_END}|(?i:'s|'t|'re|'ve|'m|'ll|'d)|\p{{L}}+|\p{{N}}|[^\s\p{{L}}\p{{N}}]+"


@dataclass(frozen=True)
class Tokens:
    """ids int32 [32], 0 behind the end; truncated: whether the text had more tokens."""

    ids: np.ndarray
    truncated: bool


class ClipTokenizer:
    """Tokenizes cleaned texts as Meta's code does; the ids are those of CLIP's own tokenizer."""

    def __init__(self, vocabulary: Path = VOCABULARY) -> None:
        """
        Args:
            vocabulary: CLIP's file: gzip, a first line with its version, then a merge in each line.
        """
        lines = gzip.decompress(vocabulary.read_bytes()).decode().split("\n")
        symbols = _byte_symbols()
        symbols += [symbol + _END_OF_WORD for symbol in symbols]
        # The file holds more merges than CLIP has tokens.
        count = _VOCABULARY_SIZE - len(symbols) - len((_START, _END))
        merges = [(first, second) for first, second in (line.split() for line in lines[1 : 1 + count])]
        words = [*symbols, *(first + second for first, second in merges), _START, _END]
        ids = {word: number for number, word in enumerate(words)}
        self._special = {word: ids[word] for word in (_START, _END)}
        self._model = BPE(ids, merges, end_of_word_suffix=_END_OF_WORD)
        self._words: PreTokenizer = Sequence(
            [
                Split(Regex(_WORDS), "removed", invert=True),
                ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )

    def tokens(self, text: str) -> Tokens:
        """The tokens of a cleaned text, between those for start and end. A text that is too long loses its end."""
        ids = [self._special[_START]]
        for word, _ in self._words.pre_tokenize_str(text):
            if len(ids) >= CONTEXT_LENGTH:
                break
            ids += [self._special[word]] if word in self._special else [one.id for one in self._model.tokenize(word)]
        truncated = len(ids) >= CONTEXT_LENGTH
        ids = [*ids[: CONTEXT_LENGTH - 1], self._special[_END]]
        return Tokens(np.array(ids + [PADDING] * (CONTEXT_LENGTH - len(ids)), np.int32), truncated)


def _byte_symbols() -> list[str]:
    """The character of each of the 256 bytes, in CLIP's order: printable ones are themselves, the others follow."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = 256 - len(printable)
    return [chr(code) for code in printable] + [chr(256 + number) for number in range(others)]
