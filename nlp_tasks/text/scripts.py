"""Scripts that are written without spaces between words. Nothing here imports TensorFlow."""

from __future__ import annotations

import re

UNSPACED = (
    (0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x3040, 0x30FF), (0x31F0, 0x31FF), (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF),
)  # fmt: skip
"""First and last code points: Thai, Lao, Burmese, Khmer, kana, ideographs."""

UNSPACED_CLASS = "".join(f"{chr(first)}-{chr(last)}" for first, last in UNSPACED)
"""The same inside the brackets of a regular expression."""

UNSPACED_CHARACTER = re.compile(f"[{UNSPACED_CLASS}]")
