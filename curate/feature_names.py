"""What features of images are called in a spec; `curate.teachers.features` computes them."""

from __future__ import annotations

from curate.errors import did_you_mean

FEATURES = ("pixels", "efficientnet-lite0", "onnx:FILE", "torch:FILE")


def unknown_features(name: str) -> str:
    """Return the sentence for features that nobody provides; empty where the name is one of `FEATURES`."""
    kind, _, file = name.partition(":")
    if name in FEATURES[:2] or (kind in {"onnx", "torch"} and file):
        return ""
    return (
        f"There are no features {name!r}. Features: {', '.join(FEATURES)}. {did_you_mean(name, FEATURES)}".rstrip()
    )
