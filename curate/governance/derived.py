"""What was derived from erased samples in a dataset's own folder: caches, ledger, media, reports, run records.

Each step may be killed and repeated; each returns how many things it touched, and with `dry` only counts them.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate import schema
from curate.governance.journal import Erasure
from curate.governance.secret import keyed
from curate.governance.suppression import ERASED
from curate.governance.sweep import holds
from curate.governance.traces import Traces
from curate.incremental import forget_rows
from curate.review.ledger import ledger_folder
from curate.runs import Workspace, write_table, write_text
from curate.teachers.feature_cache import feature_keys

_GENERATED_ROWS = {".csv", ".jsonl"}  # a row a line, of sources that write their own files (`ingest.generated`)
KEPT_CACHES = ("ingest", "scan", "features")  # rewritten row by row; every other stage is computed again


def clear_stages(place: Workspace, *, dry: bool = False) -> int:
    """Delete every stage result that was computed over all rows: checks, teachers, expectations, what is shown."""
    folders = [path for path in _children(place.cache) if path.is_dir() and path.name not in KEPT_CACHES]
    n_files = sum(1 for folder in folders for path in folder.rglob("*") if path.is_file())
    if not dry:
        for folder in folders:
            shutil.rmtree(folder)
    return n_files


def clear_features(place: Workspace, erasure: Erasure, *, dry: bool = False) -> int:
    """Delete feature rows of erased images, and every row that cannot be shown to belong to somebody else.

    A row is known by a hash of bytes and box alone, so those that stay are computed from the caches: call this
    before they change.
    """
    folders = [path for path in _children(place.cache / "features") if path.is_dir()]
    if not folders:
        return 0
    kept = _surviving_labels(place, erasure)
    n_rows = 0
    for folder in folders:
        keys = feature_keys(kept, folder.name)
        if dry:
            n_rows += _n_rows_without(folder, keys)
        else:
            n_rows += forget_rows(folder, "row_key", keys, keep=True)
    return n_rows


def clear_scan(place: Workspace, erasure: Erasure, *, dry: bool = False) -> int:
    """Take the rows of erased images out of the scan's shards."""
    folder = place.cache / "scan"
    if dry:
        return sum(_n_of(table, "sample_id", erasure.sample_ids) for table in _readable(folder))
    return forget_rows(folder, "sample_id", erasure.sample_ids) + forget_rows(
        folder, "content_sha256", erasure.content_sha256
    )


def clear_ingest(place: Workspace, erasure: Erasure, *, dry: bool = False) -> int:
    """Take the rows of erased samples out of what was ingested, so that reports and exports find the other images."""
    traces, n_rows = erasure.traces, 0
    ids = pa.array(list(erasure.sample_ids), pa.string())
    for file in sorted((place.cache / "ingest").glob("*.parquet")):
        table = _read(file)
        if table is None:
            if not dry:
                file.unlink()
            continue
        if "sample_id" not in table.column_names:
            continue
        gone = pc.fill_null(pc.is_in(table["sample_id"], value_set=ids), False)  # noqa: FBT003 - pyarrow
        if file.name.endswith(".outcomes.parquet"):
            gone = pc.or_(gone, pa.array(traces.rows(table), pa.bool_()))
        n = int(pc.sum(gone).as_py() or 0)
        n_rows += n
        if n and not dry:
            write_table(file, table.filter(pc.invert(gone)))
    return n_rows


def clear_ledger(place: Workspace, erasure: Erasure, secret: bytes, *, dry: bool = False) -> int:
    """Rewrite the ledger's files: a decision about an erased sample becomes a note that says no more than that."""
    folder = ledger_folder(place.root, place.name)
    traces, n_rows = erasure.traces, 0
    ids = set(erasure.sample_ids)
    for file in _children(folder):
        if file.suffix == ".tmp" and not dry:
            file.unlink(missing_ok=True)  # left by a killed writer
        table = _read(file) if file.suffix == ".parquet" else None
        if table is None:
            continue
        rows = table.to_pylist()
        hit = traces.rows(table)
        n = sum(hit)
        n_rows += n
        if n and not dry:
            new = [
                (_forgotten(row, secret) if row["sample_id"] in ids else traces.scrub_json(row)) if bad else row
                for row, bad in zip(rows, hit, strict=True)
            ]
            write_table(file, pa.Table.from_pylist(new, schema=table.schema))
    return n_rows


def clear_media(place: Workspace, erasure: Erasure, *, dry: bool = False) -> int:
    """Delete extracted images, crops and copies of erased bytes, archives that were unpacked whole, generated rows."""
    traces, sizes, hashes = erasure.traces, set(erasure.n_bytes), set(erasure.content_sha256)
    n_files = 0
    for file in _files(place.media):
        relative = file.relative_to(place.media).as_posix()
        unpacked = relative.startswith(("archives/", "."))  # or half generated by a run that was killed
        if unpacked or traces.hits(relative) or _has_bytes(file, sizes, hashes):
            n_files += 1
            if not dry:
                file.unlink(missing_ok=True)
                _drop_empty(file.parent, place.media)
        elif file.suffix in _GENERATED_ROWS:
            n_files += _clear_lines(file, traces.within(relative.partition("/")[0]), dry=dry)
    return n_files


def _clear_lines(file: Path, traces: Traces, *, dry: bool) -> int:
    """Take the lines that name something erased out of a generated table; return whether there were any."""
    try:
        with file.open(encoding="utf-8", newline="") as stream:
            lines = list(stream)
    except UnicodeDecodeError:
        return 0  # none that curate generated; the last look reads it all the same
    kept = [line for line in lines if not traces.hits(line)]
    if len(kept) < len(lines) and not dry:
        write_text(file, "".join(kept))
    return int(len(kept) < len(lines))


def clear_reports(place: Workspace, *, dry: bool = False) -> int:
    """Delete every page of the dataset: pictures are embedded in them, in other bytes than those of the files."""
    pages = [path for path in _files(place.folder) if path.suffix.lower() in {".html", ".htm"}]
    if not dry:
        shutil.rmtree(place.report.parent, ignore_errors=True)
        for page in pages:
            page.unlink(missing_ok=True)
    return len(pages)


def clear_runs(place: Workspace, erasure: Erasure, *, dry: bool = False) -> int:
    """Rewrite run records that name something erased, in an error for example."""
    traces, n_files = erasure.traces, 0
    for file in sorted((place.folder / "runs").glob("*/*.json")):
        try:
            content = json.loads(file.read_bytes())
        except ValueError:
            content = None
        if content is not None and not traces.json_hits(content):
            continue
        n_files += 1
        if not dry:
            told = {"state": "unreadable"} if content is None else traces.scrub_json(content)
            write_text(file, json.dumps(told, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
    return n_files


def clear_audits(place: Workspace, erasure: Erasure, *, dry: bool = False) -> int:
    """Delete audits and lists of planted errors that name something erased: what they were drawn from is no more."""
    traces = erasure.traces
    found = [path for path in (*_children(place.folder / "audits"), place.folder / "planted.json") if path.exists()]
    hit = [
        path for path in found if any(holds(file, traces) for file in ([path] if path.is_file() else _files(path)))
    ]
    if not dry:
        for path in hit:
            path.unlink() if path.is_file() else shutil.rmtree(path)
    return len(hit)


def _forgotten(row: dict[str, object], secret: bytes) -> dict[str, object]:
    left: dict[str, object] = dict.fromkeys(row)
    left |= {name: row[name] for name in ("decision_id", "at", "reviewer")}
    sample = keyed(secret, "sample", str(row["sample_id"]))
    return left | {"sample_id": f"{ERASED}:{sample}", "decision": "note", "why": "erased on request"}


def _surviving_labels(place: Workspace, erasure: Erasure) -> pa.Table:
    """Return bbox and content_sha256 of every label, of any run, of images that stay; without box for whole images."""
    folder = place.cache
    labels = [table.select(["sample_id", "bbox"]) for table in _readable(folder / "ingest", "labels")]
    scans = [table.select(["sample_id", "content_sha256"]) for table in _readable(folder / "scan")]
    kind = pa.schema([("sample_id", pa.string()), ("bbox", schema.BBOX)])
    scan_kind = pa.schema([("sample_id", pa.string()), ("content_sha256", pa.string())])
    scan = pa.concat_tables([scan_kind.empty_table(), *(table.cast(scan_kind) for table in scans)])
    hashes = pa.array(list(erasure.content_sha256), pa.string())
    stays = pc.and_not(
        pc.is_valid(scan["content_sha256"]),
        pc.fill_null(pc.is_in(scan["content_sha256"], value_set=hashes), False),  # noqa: FBT003 - pyarrow
    )
    scan = scan.filter(stays).combine_chunks()
    boxes = pa.concat_tables([kind.empty_table(), *(table.cast(kind) for table in labels)]).combine_chunks()
    # every box of a sample with every content that it had
    ids = pc.unique(scan["sample_id"])
    box_of = pc.fill_null(pc.index_in(boxes["sample_id"], value_set=ids), -1).to_numpy()
    scan_of = pc.index_in(scan["sample_id"], value_set=ids).to_numpy()
    order = np.argsort(box_of, kind="stable")
    first = np.searchsorted(box_of[order], scan_of, side="left")
    n_boxes = np.searchsorted(box_of[order], scan_of, side="right") - first
    within = np.arange(n_boxes.sum()) - np.repeat(np.cumsum(n_boxes) - n_boxes, n_boxes)
    chosen = order[np.repeat(first, n_boxes) + within]
    content = pc.take(scan["content_sha256"], pa.array(np.repeat(np.arange(len(n_boxes)), n_boxes)))
    boxed = pa.table({"bbox": boxes["bbox"].take(pa.array(chosen)), "content_sha256": content})
    whole = pa.table({"bbox": pa.nulls(scan.num_rows, schema.BBOX), "content_sha256": scan["content_sha256"]})
    return pa.concat_tables([whole, boxed])


def _n_rows_without(folder: Path, keys: list[str]) -> int:
    wanted = pa.array(keys, pa.string())
    return sum(
        table.num_rows - int(pc.sum(pc.is_in(table["row_key"], value_set=wanted)).as_py() or 0)
        for table in _readable(folder)
    )


def _n_of(table: pa.Table, column: str, values: Sequence[str]) -> int:
    wanted = pa.array(list(values), pa.string())
    return int(pc.sum(pc.is_in(table[column], value_set=wanted)).as_py() or 0)


def _has_bytes(file: Path, sizes: set[int], hashes: set[str]) -> bool:
    """Return whether a file holds erased bytes; without known sizes every file is read."""
    if sizes and file.stat().st_size not in sizes:
        return False
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() in hashes


def _readable(folder: Path, kind: str = "") -> Iterator[pa.Table]:
    for file in sorted(folder.glob(f"*{kind}.parquet")) if folder.is_dir() else []:
        table = _read(file)
        if table is not None:
            yield table


def _read(file: Path) -> pa.Table | None:
    try:
        return pq.read_table(file, partitioning=None)
    except (OSError, pa.ArrowInvalid):
        return None


def _children(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _files(folder: Path) -> list[Path]:
    return (
        sorted(path for path in folder.rglob("*") if path.is_file() or path.is_symlink()) if folder.is_dir() else []
    )


def _drop_empty(folder: Path, top: Path) -> None:
    while folder != top and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent
