"""What end-to-end tests share: the real command line in its own process, and small data to run it on.

`tests/conftest.py` makes it importable: `import end_to_end`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
TIMEOUT_S = 300

FAST_TEACHER = "teachers: [{kind: probes, folds: 2, classifiers: [linear]}]\n"


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """What stdout holds: one JSON object on one line, and nothing else."""
        lines = self.out.splitlines()
        assert len(lines) == 1, f"stdout must be one line of JSON:\n{self.out}\n{self.err}"
        told: dict[str, Any] = json.loads(lines[0])
        return told


def command(*arguments: str | Path) -> list[str]:
    """Return the command line of `curate` with these arguments."""
    return [sys.executable, "-m", "curate", *map(str, arguments)]


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return this process's environment, with the working tree importable from any folder.

    Without what a user may have set for curate, and without the database that tests in this process left there.
    """
    ours = ("CURATE_", "FIFTYONE_")
    given = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**given, "PYTHONPATH": path, **(extra or {})}


def call(*arguments: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> Done:
    """Run `curate` in its own process and return how it ended."""
    ended = subprocess.run(
        command(*arguments),
        cwd=cwd,
        env=environment(env),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    return Done(ended.returncode, ended.stdout, ended.stderr)


def start(*arguments: str | Path, cwd: Path | None = None) -> subprocess.Popen[str]:
    """Start `curate` in its own process and process group and return it while it runs."""
    return subprocess.Popen(
        command(*arguments),
        cwd=cwd,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def picture(kind: int, seed: int, side_px: int = 24) -> Image.Image:
    """Return a noisy picture; those of one `kind` look alike, so that a teacher can tell kinds apart."""
    y, x = np.mgrid[0:side_px, 0:side_px]
    waves = (x // 3, y // 3, (x + y) // 4)[kind % 3] % 2 * 120 + 60
    noise = np.random.default_rng(seed).integers(-50, 50, (side_px, side_px, 3))
    return Image.fromarray((waves[..., None] + noise).clip(0, 255).astype(np.uint8))


def write_classes(root: Path, *, n: int = 60, names: tuple[str, ...] = ("cat", "dog", "eel")) -> Path:
    """Write `n` pictures as train|test/CLASS/NUMBER.png and return the folder."""
    for index in range(n):
        kind = index % len(names)
        folder = root / ("test" if index % 4 == 0 else "train") / names[kind]
        folder.mkdir(parents=True, exist_ok=True)
        picture(kind, index).save(folder / f"{index:03}.png")
    return root


def write_spec(file: Path, source: str, *, name: str = "pets", rest: str = FAST_TEACHER) -> Path:
    """Write a spec whose `source` is a YAML flow mapping and return the file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"name: {name}\nsource: {source}\n{rest}", encoding="utf-8")
    return file


@dataclass(frozen=True)
class Finished:
    """A finished run: where its data, spec and workspace are, and how it ended."""

    folder: Path
    spec: Path
    workspace: Path
    done: Done

    @property
    def id(self) -> str:
        return str(self.done.json["id"])
