"""Open a version to train on: refused unless it is what was published, its gates did not fail and it stands."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from curate.errors import ConfigError, InputError
from curate.feed.images import Images, Pixels, Resize
from curate.feed.rows import Rows, rows_of, with_teacher_boxes
from curate.feed.soft import ENSEMBLE, load_soft, open_class_maps, soft_arrays, stored_form
from curate.feed.warp import Warp
from curate.manifest import life, log
from curate.manifest.place import Place, place_of
from curate.manifest.read import load_manifest, load_table
from curate.manifest.read_ignored import load_ignored
from curate.manifest.stale import refuse_other_classes
from curate.manifest.used import record_use
from curate.manifest.verify import file_promises, require
from curate.recorded import last_run
from curate.runs import Workspace, default_workspace
from curate.schema import MULTI_LABEL

if TYPE_CHECKING:
    from curate.feed.stream import Stream
    from curate.feed.torch_data import ImageDataset

Transform = Callable[[Pixels], Any]
Augment = Callable[[Pixels, np.random.Generator], Pixels]


@dataclass(frozen=True)
class Feed:
    """A version to train on.

    Attributes:
        name: of the dataset.
        version_id: of the version.
        classes: names in the order of labels and probabilities.
        task: classification, multi_label, detection, tracking or segmentation.
        rows: what is handed out.
        images: where its images are.
        blocks: (n,) block of each item, -1 where images are read one by one.
    """

    name: str
    version_id: str
    classes: tuple[str, ...]
    task: str
    rows: Rows
    images: Images
    blocks: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def temperature(self) -> float | None:
        """The temperature that the soft labels are stored at; None without soft labels."""
        if self.rows.class_maps is not None:
            return self.rows.class_maps.temperature
        return None if self.rows.soft is None else self.rows.soft.temperature

    def dataset(
        self,
        *,
        size_px: tuple[int, int] | None = None,
        resize: Resize = "bilinear",
        transform: Transform | None = None,
        shrink_on_load: bool = False,
    ) -> ImageDataset:
        """Return a map-style PyTorch dataset; `item_of` says what an item holds.

        Args:
            size_px: (height, width) to stretch images to; None leaves them as they are.
            resize: "bilinear" (antialiased, as PIL and torchvision) or "area" (as curate prepares pixels for teachers).
            transform: upright RGB uint8 (height, width, 3) -> what the item holds; None: uint8 tensor (3, h, w).
            shrink_on_load: see `images.pixels_of`.
        """
        from curate.feed.torch_data import ImageDataset, Reading  # noqa: PLC0415 - torch

        return ImageDataset(self, Reading(size_px, transform, None, shrink_on_load, resize))

    def stream(  # noqa: PLR0913 - a keyword for each thing that a trainer sets
        self,
        *,
        batch_size: int | None = None,
        size_px: tuple[int, int] | None = None,
        resize: Resize = "bilinear",
        transform: Transform | None = None,
        augment: Augment | None = None,
        warp: Warp | None = None,
        shrink_on_load: bool = False,
        shuffle: bool = True,
        seed: int = 0,
        even: bool = False,
        n_threads: int | None = None,
        ahead: int = 128,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> Stream:
        """Return an iterable PyTorch dataset that decodes ahead in threads.

        Args:
            batch_size: yield collated batches of so many (the last one may be smaller); None yields items.
            size_px: as in `dataset`.
            resize: as in `dataset`.
            transform: as in `dataset`.
            augment: (RGB pixels at `size_px`, generator) -> RGB pixels, before `transform`. The generator is made from
                seed, epoch and the item's id: the same whatever the threads, the workers and where training was resumed.
            warp: (generator, (height, width)) -> (2, 3) matrix, `warp.random_affine` for example: geometry that image,
                mask and class map share, before `augment`. Not for boxes.
            shrink_on_load: see `images.pixels_of`.
            shuffle: another order each epoch (`Stream.set_epoch`); else the order of the version.
            seed: of order and augmentation.
            even: give each worker and rank the same number of items, leaving out up to ranks x workers - 1 an epoch;
                otherwise every row is read exactly once.
            n_threads: that decode; default: the CPUs of this process, shared among workers.
            ahead: items that are read and decoded ahead at most; bounds memory.
            rank: of this process; default: that of torch.distributed where it is initialised, else 0.
            world_size: likewise; else 1.

        Raises:
            ConfigError: a number that cannot be.
        """
        from curate.feed.stream import Order, Stream  # noqa: PLC0415 - torch
        from curate.feed.torch_data import Reading  # noqa: PLC0415 - torch

        if warp is not None and self.rows.boxes is not None:
            raise ConfigError("warp moves images and masks; boxes would stay where they were.")
        order = Order(shuffle, seed, even, rank, world_size)
        return Stream(
            self,
            Reading(size_px, transform, augment, shrink_on_load, resize, warp),
            order,
            batch_size=batch_size,
            n_threads=n_threads,
            ahead=ahead,
        )


def open_feed(  # noqa: PLR0913 - a keyword for each thing that can be refused
    version: str | Path,
    *,
    workspace: str | Path | None = None,
    manifests: str | Place | None = None,
    split: str | None = None,
    soft: str | None = ENSEMBLE,
    images: str | Path | None = None,
    classes: Sequence[str] | None = None,
    teachers: Sequence[Mapping[str, Any]] = (),
    used_by: str | None = None,
    verify: bool = True,
    check_images: bool = True,
    allow_failed_gates: bool = False,
    allow_retracted: bool = False,
) -> Feed:
    """Open a published version to train on.

    Args:
        version: NAME (the latest), NAME@vN or NAME@ID.
        workspace: that holds it; default: ./workspace.
        manifests: where releases are, a folder or the URL of a place in an object store; default: the workspace's own.
        split: only rows of this one; None = all.
        soft: "ensemble", the name of a teacher that is stored too, or None for no soft labels.
        images: root of the images; default: where the last finished run of the workspace found them.
        classes: class list that the model expects; another one in the version is refused.
        teachers: cards (`evidence/teachers.json` of another version, say) that soft labels have to be of.
        used_by: name of the training run, recorded for good as one that used this version.
        verify: hash every file of the version first.
        check_images: hold every image that is read against its hash.
        allow_failed_gates: open a version though its gates failed.
        allow_retracted: open a version though it was retracted.

    Raises:
        ConfigError: no such version, split or teacher; it was retracted; no run says where the images are.
        InputError: gates failed, or its soft labels are stale.
        VerificationError: it is not what was published.
    """
    place = Path(workspace or default_workspace()).absolute()
    reference = str(version)
    name = reference.partition("@")[0]
    root = place / "manifests" if manifests is None else place_of(manifests)
    path = log.resolve(root, reference)
    if verify:
        require(file_promises(path), path)
    manifest, version_id = load_manifest(path)
    _refuse_unfit(root, name, version_id, manifest, failed=allow_failed_gates, retracted=allow_retracted)
    if classes is not None:
        refuse_other_classes(manifest["classes"], classes)
    rows, task = _rows(path, manifest, reference, split, soft, teachers)
    reader = Images(*_image_places(place, name, images), check=check_images)
    where = rows.places()
    blocks = reader.blocks(where["container"].to_pylist(), where["container_offset"].to_pylist())
    if used_by is not None:
        record_use(root, name, version_id, used_by, log.now())
    return Feed(name, version_id, tuple(manifest["classes"]), task, rows, reader, blocks)


def _rows(
    path: Place,
    manifest: Mapping[str, Any],
    reference: str,
    split: str | None,
    soft: str | None,
    teachers: Sequence[Mapping[str, Any]],
) -> tuple[Rows, str]:
    """Return what is handed out, with the soft labels that are asked for, and the task of the version."""
    maps = (
        open_class_maps(path, manifest, soft, teachers) if soft is not None and manifest.get("soft_masks") else None
    )
    arrays = load_soft(path, manifest, soft, teachers) if soft is not None and maps is None else None
    data = load_table(path, manifest, "data")
    if "n_bytes" not in data.column_names:
        raise InputError(
            f"{reference} was published by an earlier curate without n_bytes. Run `curate run SPEC` again."
        )
    tasks = set(pc.unique(data["task"]).to_pylist()) - {None}
    rows = rows_of(
        data,
        arrays,
        manifest["classes"],
        split=split,
        by_image=bool(tasks & {"detection", "tracking"}),
        several=_have_several(tasks, reference),
        ignored=load_ignored(path, manifest),
    )
    rows = replace(rows, class_maps=maps if rows.are_masks else None)
    if soft == ENSEMBLE and "soft_boxes" in manifest["tables"]:
        found = load_table(path, manifest, "soft_boxes")
        rows = with_teacher_boxes(rows, found, soft_arrays(found, *stored_form(manifest), None))
    return rows, next(iter(sorted(tasks)), "classification")


def _have_several(tasks: set[str], reference: str) -> bool:
    """Return whether images have several labels; refuse a version in which only some do."""
    if MULTI_LABEL not in tasks:
        return False
    if tasks != {MULTI_LABEL}:
        raise InputError(
            f"{reference} holds labels of several tasks ({', '.join(sorted(tasks))}); a feed hands out one. Publish them "
            f"as datasets of their own."
        )
    return True


def _refuse_unfit(
    root: Place, name: str, version_id: str, manifest: Mapping[str, Any], *, failed: bool, retracted: bool
) -> None:
    way_round = "allow_failed_gates=True"
    life.refuse_failed_gates(name, version_id, manifest["gates"], allowed=failed, way_round=way_round)
    life.refuse_retracted(root, name, version_id, allowed=retracted, way_round="allow_retracted=True")


def _image_places(place: Path, name: str, images: str | Path | None) -> tuple[Path, Path]:
    """Return the root of the images, and the folder that extracted ones are in."""
    workspace = Workspace(place, name)
    if images is not None:
        return Path(images), workspace.media
    record, _ = last_run(workspace, needed_for="A feed")
    return Path(record["source_root"]), workspace.media
