"""What is promised of class maps, and of the words that every file of soft labels carries."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curate.errors import InputError
from curate.manifest.place import Place, parquet_file
from curate.manifest.read import load_evidence, load_table
from curate.manifest.soft import MADE_FOR, image_keys
from curate.manifest.soft_layout import Layout
from curate.manifest.stale import refuse_other_classes, refuse_other_images, refuse_other_teachers
from curate.teachers.regions.cells import grid_size

MASS_TOLERANCE = 0.02  # float16 keeps three digits of each of up to hundreds of probabilities


def wrong_maps(version: Place, manifest: Mapping[str, Any]) -> tuple[list[str], str]:
    """Say what is wrong with the class maps: each is of a released image, once, of its bytes and on its grid."""
    told = manifest["soft_masks"]
    names = ["sample_id", MADE_FOR.name, "n_rows", "n_columns"]
    maps = load_table(version, manifest, "soft_masks", names).combine_chunks()
    data = load_table(
        version, manifest, "data", ["sample_id", "uri", "content_sha256", "height_px", "width_px", "task"]
    )
    detail = f"class maps of {maps.num_rows:,} images, {told['layout']}, temperature {told['temperature']}; none is stale"
    ids = maps["sample_id"]
    at = pc.index_in(ids, value_set=data["sample_id"].combine_chunks())
    if at.null_count:
        return ["soft_masks/ holds maps of images that are not released"], detail
    if pc.count_distinct(ids).as_py() != maps.num_rows:
        return ["soft_masks/ holds an image twice"], detail
    of_image = data.take(at)
    try:
        refuse_other_images(of_image, maps[MADE_FOR.name], image_keys(of_image["content_sha256"]))
        refuse_other_words(version, manifest, ("soft_masks/",), told)
    except InputError as error:
        return [str(error)], detail
    return [*_off_grid(maps, of_image, told["longest_cells"]), *_not_counted(data, maps, told)], detail


def _off_grid(maps: pa.Table, of_image: pa.Table, longest: int) -> Iterator[str]:
    sizes = zip(*(of_image[name].to_pylist() for name in ("height_px", "width_px")), strict=True)
    grids = zip(*(maps[name].to_pylist() for name in ("n_rows", "n_columns")), strict=True)
    off = sum(grid_size(height, width, longest) != grid for (height, width), grid in zip(sizes, grids, strict=True))
    if off:
        yield f"{off:,} maps in soft_masks/ are not on the grid of their image ({longest} cells on its longer side)"


def _not_counted(data: pa.Table, maps: pa.Table, told: Mapping[str, Any]) -> Iterator[str]:
    n_images = pc.count_distinct(data.filter(pc.equal(data["task"], "segmentation"))["sample_id"]).as_py()
    if n_images != maps.num_rows + told["n_missing"]:
        none = f"{told['n_missing']:,} are said to have none"
        yield f"{n_images:,} images have masks, {maps.num_rows:,} have class maps and {none}"


def refuse_other_words(
    version: Place, manifest: Mapping[str, Any], folders: tuple[str, ...], told: Mapping[str, Any]
) -> None:
    """Refuse soft files that name other classes or another temperature, and teachers that are not those of the cards.

    Args:
        version: to look into.
        manifest: of it.
        folders: of the files, with a slash at their end.
        told: what the manifest says of these soft labels.

    Raises:
        InputError: says which.
    """
    for entry in manifest["files"]:
        if entry["path"].startswith(folders):
            words = parquet_file(version / entry["path"]).schema_arrow.metadata or {}
            refuse_other_classes(json.loads(words.get(b"classes", b"[]")), manifest["classes"])
            if words.get(b"temperature", b"").decode() != told["temperature"]:
                raise InputError(f"{entry['path']} has another temperature than the manifest")
    cards = {card["name"]: card for card in load_evidence(version, "teachers") if "name" in card}
    refuse_other_teachers(told.get("teachers", {}), cards)


def no_map(batch: pa.RecordBatch, manifest: Mapping[str, Any]) -> Iterator[str]:
    """Say where class maps are none: a value a cell and class, probabilities that sum to 1, or 0 where nobody answers."""
    told, n_classes = manifest["soft_masks"], len(manifest["classes"])
    layout = Layout(told["layout"], n_classes, told["top_k"] or 0, told["n_draws"] or 0)
    n_cells = pc.multiply(batch["n_rows"], batch["n_columns"]).to_numpy(zero_copy_only=False).astype(np.int64)
    for teacher in (None, *told["each_teacher"]):
        names = [field.name for field in layout.fields(teacher)]
        deep = (n_classes,) if layout.name == "full" else (layout.top_k, layout.top_k, 1, layout.n_draws)
        values = [_values(batch[name]) for name in names]
        for name, flat, n_planes in zip(names, values, deep, strict=False):
            if any(
                one is not None and one.size != n * n_planes for one, n in zip(flat, n_cells.tolist(), strict=True)
            ):
                yield f"holds {name} of another size than its grid"
                return
        for row, n in enumerate(n_cells.tolist()):
            yield from _odd_row([one[row] for one in values], layout, n)


def _odd_row(columns: list[NDArray[Any] | None], layout: Layout, n_cells: int) -> Iterator[str]:
    if any(one is None for one in columns):
        if not all(one is None for one in columns):
            yield "holds half a map"
        return
    known = [np.asarray(one) for one in columns]
    probs = known[0 if layout.name == "full" else 1].astype(np.float64).reshape(-1, n_cells)
    mass = probs.sum(axis=0)
    if layout.name != "full":
        mass = mass + known[2]
        if max(int(one.max(initial=0)) for one in (known[0], *known[3:])) >= layout.n_classes:
            yield "names classes that are not there"
    sums = (np.abs(mass - 1) <= MASS_TOLERANCE) | (mass == 0)
    if not (np.isfinite(probs).all() and (probs >= 0).all() and sums.all()):
        yield "holds class maps that do not sum to 1"


def _values(column: pa.Array) -> list[NDArray[Any] | None]:
    return [one.values.to_numpy(zero_copy_only=False) if one.is_valid else None for one in column]
