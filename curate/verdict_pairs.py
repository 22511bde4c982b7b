"""Of boxes that repeat each other one stays, whichever checks found them and whichever each would let go."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.verdict_rows import DROP, KEEP, REVIEW, Ints, Mask, rank_of

REPEATS = ("duplicate_box", "duplicate")  # issues whose reason names, as `kept`, the label that stays


def one_stays(
    findings: pa.Table, finding: Ints, row: Ints, action: Ints, label_ids: pa.ChunkedArray, dropped: Mask
) -> Ints:
    """Return what (finding, row) pairs ask for, so that no label leaves as a duplicate of one that leaves too.

    A duplicate finding that would take its row out asks for nothing where the label that it says stays is dropped by a
    person, is not here, or leaves by another such finding; and none takes out a label that another row left for. The
    strongest action is granted first, then the highest risk, then the smallest finding id.

    Args:
        findings: `schema.FINDINGS`.
        finding: (pairs,) row of `findings`.
        row: (pairs,) row that gets a verdict.
        action: (pairs,) index into `verdict_rows.STRENGTH`.
        label_ids: of the rows.
        dropped: (rows,) those that a person drops.
    """
    repeats = pc.is_in(findings["issue"], value_set=pa.array(REPEATS)).to_numpy().astype(bool)
    pairs = np.flatnonzero(repeats[finding] & np.isin(action, (REVIEW, DROP)))
    if not len(pairs):
        return action
    kept = [
        json.loads(text or "{}").get("kept") for text in findings["reason_args"].take(finding[pairs]).to_pylist()
    ]
    named = np.array([isinstance(one, str) for one in kept], dtype=bool)  # what names none cannot be held to it
    pairs = pairs[named]
    ids = pa.array([one for one in kept if isinstance(one, str)], pa.string())
    at = pc.index_in(ids, value_set=label_ids.combine_chunks(), skip_nulls=True)
    stays = pc.fill_null(at, -1).to_numpy().astype(np.int64)
    risk = np.nan_to_num(findings["risk"].to_numpy()[finding[pairs]], nan=1.0)
    order = np.lexsort((rank_of(findings["finding_id"])[finding[pairs]], -risk, -action[pairs]))
    leaving, needed = set[int](), set[int]()
    action = action.copy()
    for place in order.tolist():
        leaves, other = int(row[pairs[place]]), int(stays[place])
        if other < 0 or other == leaves or dropped[other] or other in leaving or leaves in needed:
            action[pairs[place]] = KEEP
        else:
            leaving.add(leaves)
            needed.add(other)
    return action
