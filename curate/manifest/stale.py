"""Stale soft labels: what they were made for, and whether that is still so. A stale one is refused, never released."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import InputError

_SHOWN = 3
AGAIN = (
    "Run `curate run SPEC` again: the teachers judge what changed ({what}), answers about everything else are "
    "read from the cache, and a new version is published."
)


def refuse_stale_predictions(
    predictions: pa.Table, data: pa.Table, classes: Sequence[str], cards: Sequence[Mapping[str, Any]]
) -> None:
    """Refuse predictions that were made for other images, classes or teachers than those of the release.

    What the predictions do not say (no `content_sha256`, no metadata) is not checked.

    Args:
        predictions: label_id (or sample_id), `prob_<teacher>`; `content_sha256` of the image that was judged; the
            metadata keys `classes` and `teachers` (name -> digest).
        data: `tables.DATA`: label_id, uri, content_sha256.
        classes: of the release, in order.
        cards: of the release's teachers.

    Raises:
        InputError: says which changed and how to recompute just those.
    """
    metadata = predictions.schema.metadata or {}
    if b"classes" in metadata:
        refuse_other_classes(json.loads(metadata[b"classes"]), classes)
    if b"teachers" in metadata:
        then = {name: {"digest": digest} for name, digest in json.loads(metadata[b"teachers"]).items()}
        refuse_other_teachers(then, {card["name"]: card for card in cards if "name" in card})
    if "content_sha256" in predictions.column_names:
        key = "label_id" if "label_id" in predictions.column_names else "sample_id"
        at = pc.index_in(data[key], value_set=predictions[key].combine_chunks(), skip_nulls=True)
        refuse_other_images(data, predictions["content_sha256"].take(at), data["content_sha256"])


def refuse_other_images(rows: pa.Table, then: pa.Array | pa.ChunkedArray, now: pa.Array | pa.ChunkedArray) -> None:
    """Refuse rows (with `uri`) whose image was another one `then`; null = no soft label."""
    stale = rows.filter(pc.fill_null(pc.not_equal(then, now), fill_value=False))
    refuse_stale(stale["uri"].to_pylist(), rows.num_rows)


def refuse_stale(uris: Sequence[str], n_rows: int) -> None:
    """Refuse the rows of `n_rows`, named by the `uris` of their images, whose image was another one then."""
    if uris:
        raise InputError(
            f"The soft labels of {len(uris):,} of {n_rows:,} rows were made for other image bytes: "
            f"{_named(uris)}. {AGAIN.format(what='these images')}"
        )


def refuse_other_classes(then: Sequence[str], now: Sequence[str]) -> None:
    """Refuse soft labels of another class list, or of the same in another order."""
    if list(then) == list(now):
        return
    added, gone = [name for name in now if name not in then], [name for name in then if name not in now]
    told = [f"added: {_named(added)}"] if added else []
    told += [f"gone: {_named(gone)}"] if gone else []
    raise InputError(
        f"The soft labels were made for another class list ({len(then)} classes then, {len(now)} now; "
        f"{'; '.join(told) or 'the same in another order'}). {AGAIN.format(what='every image, for the new classes')}"
    )


def refuse_other_teachers(then: Mapping[str, Mapping[str, Any]], now: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse teachers whose card (`digest`, `preprocessing`) is another one now; names on one side are not compared.

    The digest covers weights, preprocessing and versions, so a changed preprocessing is named where both say theirs.
    """
    for name in sorted(set(then) & set(now)):
        old, new = then[name], now[name]
        if old.get("digest") == new.get("digest"):
            continue
        before, after = old.get("preprocessing"), new.get("preprocessing")
        what = "The preprocessing" if before and after and before != after else "The model"
        shown = f" ({before} then, {after} now)" if before and after and before != after else ""
        raise InputError(
            f"{what} of the teacher {name} changed since the soft labels were made{shown}: digest "
            f"{str(old.get('digest'))[:12]} then, {str(new.get('digest'))[:12]} now. "
            f"{AGAIN.format(what=f'every image, by {name}')}"
        )


def refuse_missing_teachers(then: Mapping[str, Any], expected: Sequence[str]) -> None:
    """Refuse soft labels in which a teacher that is expected has no say; those that are there stand in `then`.

    Raises:
        InputError: names it.
    """
    missing = sorted(set(expected) - set(then))
    if missing:
        raise InputError(
            f"The soft labels have nothing of the teacher {_named(missing)}; they are of {_named(sorted(then))}. It "
            "failed in that run (evidence/teachers.json says so) or was not asked. Run `curate run SPEC` with it again, "
            "or leave its card out."
        )


def teachers_of(cards: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, dict[str, str | None]]:
    """Return name -> digest and preprocessing of the teachers whose soft labels are stored, for the manifest."""
    by_name = {str(card.get("name")): card for card in cards}
    return {
        name: {key: by_name.get(name, {}).get(key) for key in ("digest", "preprocessing")} for name in sorted(names)
    }


def _named(words: Sequence[str]) -> str:
    more = f" and {len(words) - _SHOWN:,} more" if len(words) > _SHOWN else ""
    return ", ".join(words[:_SHOWN]) + more
