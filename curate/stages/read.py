"""Ingest and scan: what came in, and what the pixels say."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from curate import runs, schema
from curate.adapters.execution import map_shards, slices
from curate.errors import ConfigError, InputError
from curate.governance.suppression import Suppression, load_suppression, suppress, suppress_bytes
from curate.incremental import KEY, forget_rows, known_keys, reuse_rows
from curate.ingest import Ingested, Media, ReadOptions, read_rows, source_named
from curate.ingest.media import open_media
from curate.ingest.source import Beyond
from curate.splits import assign_splits
from curate.stages.context import Context

if TYPE_CHECKING:
    from curate.state import Gathered

_PLACE = (
    "container",
    "container_offset",
    "n_bytes",
)  # where erased bytes lie in an archive, and nothing else of them
INGEST_VERSION = 4
SCAN_VERSION = 1


def ingest(context: Context) -> Ingested:
    """Read rows and labels, give each sample a split, and keep at most `limit` of them."""
    options = read_options(context)
    erased = load_suppression(context.run.workspace.root)
    names = ("samples", "labels", "outcomes", "classes", "annotations", *(("withheld",) if erased else ()))
    key = _ingest_key(context, options) | ({"erased": erased.digest} if erased else {})
    read_once = cache(partial(_read_source, context, options, erased))
    if options.root.is_file():
        key |= _named_files(context, key, read_once)
    tables = context.run.stage("ingest", key, names, read_once)
    if erased:
        open_media(context.source_root, context.run.workspace.media).withhold(tables["withheld"])
    samples = assign_splits(tables["samples"], context.spec.split, seed=context.spec.seed)
    if context.spec.license is not None:  # of images for which the source names none
        licenses = pc.fill_null(samples["license"], context.spec.license)
        at = samples.schema.get_field_index("license")
        samples = samples.set_column(at, samples.schema.field(at), licenses)
    classes = tuple(tables["classes"]["class"].to_pylist())
    read = Ingested(samples, tables["labels"], tables["outcomes"], classes, tables["annotations"])
    _refuse_other_task(context, read)
    read = read if context.limit is None else _sampled(read, context.limit)
    return read if context.relabel is None else dataclasses.replace(context.relabel(read), beyond=read.beyond)


def _ingest_key(context: Context, options: ReadOptions) -> dict[str, Any]:
    """Return what the rows depend on: what the spec says to the format, and the files that are there."""
    listing = runs.digest_listing(options.root) if options.root.exists() else "absent"
    if context.spec.source.path and listing == "absent":
        raise InputError(
            f"The source of {context.spec.name} must be a file or folder; there is nothing at {options.root}. "
            f"Change source.path in {context.loaded.file}."
        )
    told = dataclasses.asdict(dataclasses.replace(options, root=Path(), scratch=None))
    return {
        "version": INGEST_VERSION,
        "options": json.loads(json.dumps(told, default=str)),
        "format": context.spec.source.format,
        "listing": listing if context.spec.source.path else "generated",
        "root": str(options.root),
    }


def _read_source(context: Context, options: ReadOptions, erased: Suppression) -> dict[str, pa.Table]:
    """Return what the source gives without what was erased, and where that lies (`withheld`)."""
    source = source_named(context.spec.source.format)
    if getattr(source, "needs_database", False):
        from curate.adapters.mongod import ensure_database  # noqa: PLC0415 - only for such a source

        ensure_database(context.run.workspace.root)
    given = read_rows(source, options)
    read = suppress(given, erased, source=options.source)
    stays = pc.is_in(given.samples["sample_id"], value_set=read.samples["sample_id"].combine_chunks())
    return {
        "samples": read.samples,
        "labels": read.labels,
        "outcomes": read.outcomes,
        "classes": pa.table({"class": pa.array(read.classes, pa.string())}),
        "annotations": read.annotations if read.annotations is not None else schema.empty(schema.LABELS),
        "withheld": given.samples.filter(pc.invert(stays)).select(_PLACE),
    }


def _named_files(
    context: Context, key: Mapping[str, Any], read: Callable[[], Mapping[str, pa.Table]]
) -> dict[str, Any]:
    """Return what the key of a source that is one file lacks where it names others: they change while it stays."""

    def compute() -> Mapping[str, pa.Table]:
        made = read()
        outcomes = made["outcomes"]
        is_lost = pc.and_(pc.equal(outcomes["kind"], "image"), pc.equal(outcomes["outcome"], "out"))
        names_files = made["samples"]["container"].null_count > 0 or pc.any(is_lost).as_py()
        return {"kind": pa.table({"names_files": [bool(names_files)]})}

    if not context.run.stage("source-kind", key, ("kind",), compute)["kind"]["names_files"][0].as_py():
        return {}
    with context.run.timed("named-files"):
        return {"files": [runs.digest_table(read()[name]) for name in ("samples", "outcomes")]}


def _refuse_other_task(context: Context, read: Ingested) -> None:
    if context.spec.task != schema.MULTI_LABEL or not read.labels.num_rows:
        return
    if not pc.any(pc.equal(read.labels["task"], schema.MULTI_LABEL)).as_py():
        raise ConfigError(
            f"task: multi_label needs a source that gives an image several labels: table, huggingface, coco or "
            f"fiftyone (Classifications). The format {context.spec.source.format} gives one each; list the images in a "
            f"table and take format: table, or remove the task from {context.loaded.file}."
        )


def read_options(context: Context) -> ReadOptions:
    """Return what the spec says to its format."""
    spec = context.spec
    return ReadOptions(
        source=spec.source.name or spec.name,
        root=context.source_root,
        classes=None if spec.classes == "infer" else tuple(spec.classes),
        aliases=spec.aliases,
        attributes={name: attribute.column for name, attribute in spec.attributes.items()},
        groups=spec.groups,
        columns=spec.source.columns,
        options=spec.source.options,
        scratch=context.run.workspace.media,
        multi_label=spec.task == schema.MULTI_LABEL,
    )


def _sampled(read: Ingested, limit: int) -> Ingested:
    """Return a sample that is the same each time: the samples with the smallest ids, which are hashes."""
    kept = read.samples.sort_by("sample_id").slice(0, limit)
    ids = kept["sample_id"].combine_chunks()

    def keep(table: pa.Table) -> pa.Table:
        return table.filter(pc.is_in(table["sample_id"], value_set=ids))

    def leave(table: pa.Table) -> pa.Table:
        return table.filter(pc.invert(pc.is_in(table["sample_id"], value_set=ids)))

    others = keep(read.annotations) if read.annotations is not None else None
    beyond = Beyond.of(leave(read.samples), leave(read.labels))
    return Ingested(kept, keep(read.labels), keep(read.outcomes), read.classes, others, beyond)


def scan(context: Context, samples: pa.Table, media: Media) -> pa.Table:
    """Measure every image that was not measured before; an image is known by id, place, size and time."""
    from curate.scan import SHARD_ROWS, quarantined, scan_batch  # noqa: PLC0415 - pulls in the decoder

    keys = _file_keys(samples, context.spec.max_pixels)
    folder = context.run.workspace.cache / "scan"
    if context.rehash:  # forgotten, not passed over: what is read now is what later runs go by
        forget_rows(folder, KEY, keys)
    measure = partial(scan_batch, media=media, max_pixels=context.spec.max_pixels)

    def compute(shards: Sequence[pa.Array]) -> Iterator[pa.Table]:
        total = sum(map(len, shards))
        pieces = map_shards(
            measure,
            (piece for shard in shards for piece in slices(samples.take(shard), SHARD_ROWS)),
            workers=context.workers,
            progress=lambda n_done, _: context.run.listener.progress(n_done, total),
            quarantine=partial(quarantined, media=media),
        )
        return _regrouped(pieces, [len(shard) for shard in shards])

    with context.run.timed("scan") as timing:
        table, n_new = reuse_rows(folder, keys, compute, schema=schema.SCAN)
        timing.cached = n_new == 0
        timing.details |= {"n_images": samples.num_rows, "n_new": n_new}
        timing.note = f"{n_new:,} new of {samples.num_rows:,} images"
    return table


def withhold_erased(context: Context, found: Gathered) -> None:
    """Take out samples whose bytes were erased, under whatever name they came back, and forget their scan."""
    erased = load_suppression(context.run.workspace.root)
    if not erased:
        return
    n_before = found.samples.num_rows
    before = found.scan
    found.samples, found.labels, found.outcomes, found.scan = suppress_bytes(
        found.samples, found.labels, found.outcomes, before, erased
    )
    if found.samples.num_rows < n_before:
        ids = found.scan["sample_id"].combine_chunks()
        gone = before.filter(pc.invert(pc.is_in(before["sample_id"], value_set=ids)))["sample_id"].to_pylist()
        forget_rows(context.run.workspace.cache / "scan", "sample_id", gone)


def _regrouped(pieces: Iterator[pa.Table], sizes: Iterable[int]) -> Iterator[pa.Table]:
    """Yield tables of the given sizes: what workers get is smaller than what is worth a file."""
    for size in sizes:
        taken, n = [], 0
        while n < size:
            taken.append(next(pieces))
            n += taken[-1].num_rows
        yield pa.concat_tables(taken)


def _file_keys(samples: pa.Table, max_pixels: int) -> list[str]:
    columns = ("sample_id", "uri", "container", "container_offset", "n_bytes", "mtime_ns")
    values = zip(*(samples[name].to_pylist() for name in columns), strict=True)
    version = SCAN_VERSION
    return [schema.stable_id("scan", str(version), str(max_pixels), *map(str, row)) for row in values]


def n_unscanned(context: Context, samples: pa.Table) -> int:
    """Return how many images the scan would have to read."""
    known = known_keys(context.run.workspace.cache / "scan")
    return sum(key not in known for key in _file_keys(samples, context.spec.max_pixels))
