"""PNG masks: ids, palettes, names, ignored ids and sizes."""

from __future__ import annotations

from pathlib import Path

import awkward
import numpy as np
import pytest
from PIL import Image

from curate.errors import ConfigError, InputError
from curate.ingest import Ingested, ReadOptions, source_named
from curate.ingest.rle import decode_mask

MASKS = source_named("masks")


def ids(*, width_px: int = 24, height_px: int = 16) -> np.ndarray:
    mask = np.zeros((height_px, width_px), np.uint8)
    mask[4:9, 3:] = 1
    mask[10:, :7] = 2
    mask[0, 0] = 255
    return mask


def write(root: Path, images: tuple[str, ...], masks: dict[str, np.ndarray | bytes], folder: str = "masks") -> Path:
    for index, name in enumerate(images):
        path = root / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(awkward.jpeg(index))
    for name, mask in masks.items():
        path = root / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(mask, bytes):
            path.write_bytes(mask)
        else:
            Image.fromarray(mask).save(path)
    return root


def read(root: Path, **options: object) -> Ingested:
    return MASKS.read(ReadOptions(source="s", root=root, options=options))


def reasons(found: Ingested) -> list[str]:
    return [code for code in found.outcomes["reason_code"].to_pylist() if code]


def states(found: Ingested) -> dict[str, str]:
    return dict(zip(found.samples["uri"].to_pylist(), found.samples["label_state"].to_pylist(), strict=True))


def as_palette(mask: np.ndarray) -> bytes:
    image = Image.new("P", (mask.shape[1], mask.shape[0]))
    image.putpalette([n for i in range(256) for n in (i * 7 % 256, 255 - i, i)])
    image.frombytes(mask.tobytes())
    return awkward.encoded(image, "PNG")


@pytest.mark.parametrize("kind", ["gray", "palette", "16 bit", "gray as RGB"])
def test_one_label_a_class_and_each_mask_to_the_pixel(tmp_path: Path, kind: str) -> None:
    mask = ids()
    written: dict[str, np.ndarray | bytes] = {
        "gray": {"ä b.png": mask},
        "palette": {"ä b.png": as_palette(mask)},
        "16 bit": {"ä b.png": mask.astype(np.uint16)},
        "gray as RGB": {"ä b.png": np.stack([mask] * 3, axis=-1)},
    }[kind]  # type: ignore[assignment]
    write(tmp_path, ("ä b.JPG", "free.jpg"), written)
    found = read(tmp_path, classes=["sky", "<road>", "car"])
    assert reasons(found) == []
    assert states(found) == {"images/ä b.JPG": "labeled", "images/free.jpg": "unlabeled"}
    assert found.classes == ("sky", "<road>", "car")
    rows = {row["label"]: row for row in found.labels.to_pylist()}
    for number, name in enumerate(("sky", "<road>", "car")):
        assert rows[name]["task"] == "segmentation"
        assert (decode_mask(rows[name]["mask"]) == (mask == number)).all()


def test_recognises_folders_and_tars_and_pairs_by_split(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for split in ("train", "val"):
        for name in ("1.png", "2.png"):
            for folder, data in ((split, awkward.png()), (f"{split}annot", as_palette(ids()))):
                path = root / "camera" / folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
    expected = {"images": ["camera/train", "camera/val"], "masks": ["camera/trainannot", "camera/valannot"]}
    members = {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*.png"))}
    for path in (root, awkward.write_tar(tmp_path / "s.tar", members)):
        assert MASKS.recognises(path) == expected
        found = read(path, **expected)
        assert found.samples.num_rows == 4
        assert set(found.samples["split"].to_pylist()) == {"train", "val"}
        assert found.classes == ("0", "1", "2")
    plain = awkward.write_zip(tmp_path / "z.zip", {"a/1.jpg": awkward.jpeg(), "b/1.jpg": awkward.jpeg()})
    assert MASKS.recognises(plain) is None


def test_suffixes_names_from_a_file_and_other_ignored_ids(tmp_path: Path) -> None:
    write(tmp_path, ("a.jpg",), {"a_mask.png": ids()})
    (tmp_path / "names.txt").write_text("# ids\n0: back ground\n2: car\n255: void\n")
    found = read(tmp_path, classes="names.txt", ignore=[0, 1])
    assert sorted(found.labels["label"].to_pylist()) == ["car", "void"]


def test_a_mask_of_nothing_but_ignored_ids_is_negative(tmp_path: Path) -> None:
    found = read(write(tmp_path, ("a.jpg",), {"a.png": np.full((16, 24), 255, np.uint8)}))
    assert states(found) == {"images/a.jpg": "negative"}


def test_everything_unusable_is_out_with_a_reason(tmp_path: Path) -> None:
    color = np.zeros((16, 24, 3), np.uint8)
    color[2, 2] = (1, 2, 3)
    masks: dict[str, np.ndarray | bytes] = {
        "size.png": ids(width_px=23),
        "color.png": color,
        "broken.png": b"\x89PNG no",
        "orphan.png": ids(),
        "unknown.png": np.full((16, 24), 9, np.uint8),
    }
    found = read(
        write(tmp_path, ("size.jpg", "color.jpg", "broken.jpg", "unknown.jpg"), masks),
        images="images",
        masks="masks",
        classes={0: "sky", 1: "road"},
    )
    codes = {row["row"]: row["reason_code"] for row in found.outcomes.to_pylist() if row["outcome"] == "out"}
    assert codes == {
        "masks/size.png": "mask_size_mismatch",
        "masks/color.png": "mask_is_color",
        "masks/broken.png": "mask_file_unreadable",
        "masks/orphan.png": "label_without_image",
        "masks/unknown.png id 9": "unknown_class_id",
    }
    assert set(states(found).values()) == {"unlabeled"}


def test_the_size_is_compared_with_the_upright_image(tmp_path: Path) -> None:
    write(tmp_path, (), {"a.png": ids(width_px=16, height_px=24)})
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.jpg").write_bytes(awkward.variants()["exif_rotated.jpg"])
    assert reasons(read(tmp_path)) == []


def test_wrong_options_say_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"source\.masks"):
        read(tmp_path)
    write(tmp_path, ("a.jpg",), {"a.png": ids()})
    with pytest.raises(ConfigError, match="as many folders"):
        read(tmp_path, images=["images"], masks=["a", "b"])
    with pytest.raises(ConfigError, match=r"source\.classes"):
        read(tmp_path, classes={"sky": 0})
    with pytest.raises(ConfigError, match=r"source\.ignore"):
        read(tmp_path, ignore="void")
    with pytest.raises(InputError, match=r"gone\.txt"):
        read(tmp_path, classes="gone.txt")
