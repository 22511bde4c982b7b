"""Every reason that a check of this part gives has a sentence, and its arguments fill it."""

from __future__ import annotations

import ast
import re
import string
from collections.abc import Iterator
from pathlib import Path

import curate.checks
from curate.reasons import sentences
from curate.reasons.checks import SENTENCES

FOLDER = Path(curate.checks.__file__).parent
OTHERS = {"image_quality.py", "label_noise.py"}  # have sentences of their own


def test_every_sentence_has_a_code() -> None:
    source = "\n".join(path.read_text() for path in FOLDER.glob("*.py") if path.name not in OTHERS)
    words = set(re.findall(r'"([a-z]+(?:_[a-z]+)+)"', source))
    assert set(SENTENCES) <= words


def test_sentences_are_plain_format_strings() -> None:
    for sentence in SENTENCES.values():
        fields = [name for _, name, _, _ in string.Formatter().parse(sentence) if name is not None]
        assert all(name.isidentifier() for name in fields)
        assert sentence.endswith(".")


def codes_written_in(tree: ast.AST) -> Iterator[str]:
    """Yield what stands as the value of "reason_code" in a mapping, and first in a Problem or Damage."""
    places: list[ast.AST] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            keyed = zip(node.keys, node.values, strict=True)
            places += [
                value for key, value in keyed if isinstance(key, ast.Constant) and key.value == "reason_code"
            ]
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in {"Problem", "Damage"}:
            places += node.args[:1]
    for place in places:
        whole = [place] if not isinstance(place, ast.IfExp) else [place.body, place.orelse]
        yield from (one.value for one in whole if isinstance(one, ast.Constant) and isinstance(one.value, str))


def test_every_reason_code_of_the_package_has_a_sentence() -> None:
    root = FOLDER.parent
    codes = {code for file in root.rglob("*.py") for code in codes_written_in(ast.parse(file.read_text("utf-8")))}
    assert {"missing_file", "mask_size_mismatch", "label_unseen"} <= codes  # of each kind of place
    assert sorted(codes - sentences().keys()) == []
