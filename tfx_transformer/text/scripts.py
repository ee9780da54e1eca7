"""Scripts of texts, as patterns of their characters."""

from __future__ import annotations

import re

# The inside of a character class: scripts that are written without spaces between words. Thai,
# Lao, Tibetan, Burmese, Khmer; Japanese and Chinese with compatibility and halfwidth forms.
UNSPACED = (
    r"\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
    r"\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
# A letter of Japanese alone: hiragana or katakana, without signs that other scripts share.
KANA = re.compile("[\u3041-\u30fa]")
