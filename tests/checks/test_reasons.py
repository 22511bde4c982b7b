"""Every reason that a check of this part gives has a sentence, and its arguments fill it."""

from __future__ import annotations

import json
import re
import string
from pathlib import Path

import curate.checks
from curate.reasons.checks import SENTENCES

FOLDER = Path(curate.checks.__file__).parent
OTHERS = {"image_quality.py", "label_noise.py"}  # have sentences of their own


def test_every_reason_code_has_a_sentence_and_every_sentence_a_code() -> None:
    source = "\n".join(path.read_text() for path in FOLDER.glob("*.py") if path.name not in OTHERS)
    words = set(re.findall(r'"([a-z]+(?:_[a-z]+)+)"', source))
    assert set(SENTENCES) <= words


def test_sentences_are_plain_format_strings() -> None:
    for sentence in SENTENCES.values():
        fields = [name for _, name, _, _ in string.Formatter().parse(sentence) if name is not None]
        assert all(name.isidentifier() for name in fields)
        assert json.dumps(sentence)
        assert sentence.endswith(".")
