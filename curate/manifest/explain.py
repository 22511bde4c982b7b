"""One row of a version in words: what was given, what is released, and every reason as a sentence to check."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import ConfigError, did_you_mean
from curate.manifest import log
from curate.manifest.place import Place
from curate.manifest.read import LoadedRelease, load_release
from curate.reasons import render
from curate.reasons.join import join_reasons

_SHAPE = ("bbox", "track_id", "frame", "width_px", "height_px")
_COLUMNS = ("sample_id", "label_id", "uri", "split", "given_label", "released_label", "action", "risk", "weight")
_MAX_ROWS = 200
_MAX_COMPARED = 100_000  # rows among which a misspelt path is looked for


def explain(root: Place, reference: str, asked: str) -> dict[str, Any]:
    """Return the rows of an image or label as JSON values, each with its reasons as one sentence.

    Args:
        root: where releases are.
        reference: NAME, NAME@ID, NAME@vN or NAME@TAG.
        asked: sample id, label id, uri, the end of one uri, or that without what follows its last dot.

    Raises:
        ConfigError: no such version; no row, or rows of several images.
    """
    path = log.resolve(root, reference)
    release = load_release(path)
    rows = _rows_of(release, asked)
    reasons = pa.array(sorted({reason for row in rows for reason in row["reasons"] or ()}), pa.string())
    found = release.findings.filter(pc.is_in(release.findings["finding_id"], value_set=reasons))
    findings = {row["finding_id"]: row for row in found.to_pylist()}
    told = [_row(row, findings) for row in rows]
    return {"name": reference.partition("@")[0], "id": path.name, "asked": asked, "rows": told}


def _rows_of(release: LoadedRelease, asked: str) -> list[dict[str, Any]]:
    columns = [*_COLUMNS, *_SHAPE, "reasons", "reason_codes"]
    data = release.data.select(columns)
    held = release.excluded.select([*columns, "error_code", "reason_args"])
    both = pa.concat_tables([data, held], promote_options="permissive")
    exact = pc.or_kleene(pc.equal(both["sample_id"], asked), pc.equal(both["label_id"], asked))
    found = both.filter(pc.or_kleene(exact, pc.equal(both["uri"], asked)))
    if not found.num_rows:
        found = both.filter(pc.ends_with(both["uri"], f"/{asked.lstrip('/')}"))
    if not found.num_rows:
        near = [uri for uri in pc.unique(both["uri"]).to_pylist() if uri and _has_stem(uri, asked)]
        found = both.filter(pc.is_in(both["uri"], value_set=pa.array(near, pa.string())))
    uris = sorted(set(found["uri"].to_pylist()) - {None})
    if len(uris) > 1:
        raise ConfigError(
            f"{len(uris)} images are called {asked!r} or end in it: {', '.join(uris[:3])}{', …' * (len(uris) > 3)}. "
            "Give one whole."
        )
    if not found.num_rows:
        # to compare with each of a million paths takes minutes
        known = both["uri"].drop_null().to_pylist() if both.num_rows <= _MAX_COMPARED else []
        hint = did_you_mean(asked, known)
        raise ConfigError(
            f"The version has no row {asked!r}. Give the path of an image (or its end, or its stem), a sample id or a "
            f"label id. "
            f"{hint}".rstrip()
        )
    rows: list[dict[str, Any]] = found.slice(0, _MAX_ROWS).to_pylist()
    return rows


def _has_stem(uri: str, asked: str) -> bool:
    stem = posixpath.splitext(uri)[0]
    return stem == asked or stem.endswith(f"/{asked.lstrip('/')}")


def _row(row: Mapping[str, Any], findings: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    codes = row["reason_codes"] or ([row["error_code"]] if row["error_code"] else [])
    parts = []
    for code, reason in zip(codes, row["reasons"] or [None] * len(codes), strict=False):
        found = findings.get(reason)
        parts.append((code, render(code, found["reason_args"] if found else row["reason_args"])))
    told = {name: row[name] for name in (*_COLUMNS, *_SHAPE)}
    return told | {"reason_codes": list(codes), "reason": join_reasons(parts)}


def explain_lines(shown: Mapping[str, Any]) -> list[str]:
    """Return it for people; rows with the same reason stand together, above it."""
    lines = [f"{shown['rows'][0]['uri']} in {shown['name']}@{shown['id'][:7]}"]
    by_reason: dict[str, list[Mapping[str, Any]]] = {}
    for row in shown["rows"]:
        by_reason.setdefault(row["reason"] or "Nothing was found.", []).append(row)
    for reason, rows in by_reason.items():
        for row in rows:
            given = row["given_label"] or "no label"
            released = row["released_label"]
            became = f" → {released}" if released not in {None, row["given_label"]} else ""
            weight = f", weight {row['weight']:g}" if row["weight"] not in {0.0, 1.0} else ""
            which = _which(row, alone=len(shown["rows"]) == 1)
            lines.append(f"  {given}{became}{which}: {row['action']} (risk {row['risk']:.2f}{weight})")
        lines.append(f"    {f'all {len(rows)}: ' if len(rows) > 1 else ''}{reason}")
    return lines


def _which(row: Mapping[str, Any], *, alone: bool) -> str:
    """Return which of the labels of an image it is: its track, its box in pixels, or else the start of its id."""
    parts = []
    if row["track_id"] is not None:
        parts.append(f"track {row['track_id']}")
    if row["bbox"] is not None and row["width_px"] and row["height_px"]:
        sides = (row["width_px"], row["height_px"]) * 2
        x, y, w, h = (round(part * side) for part, side in zip(row["bbox"], sides, strict=True))
        parts.append(f"box {w}x{h} px at {x}, {y}")
    elif row["label_id"] is not None and not alone:
        parts.append(f"id {row['label_id']}")
    return f" [{', '.join(parts)}]" if parts else ""
