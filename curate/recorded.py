"""The images of a release: where the last finished run of the workspace found them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from curate.commands import workspace_option
from curate.errors import ConfigError
from curate.ingest import Media
from curate.ingest.media import open_media
from curate.runs import Workspace, read_table
from curate.views import look_up


@dataclass(frozen=True)
class RecordedMedia:
    """Media for any table with `sample_id`: a manifest says which image, the run's samples say where it is."""

    samples: pa.Table
    media: Media

    def read(self, samples: pa.Table) -> Iterator[bytes | None]:
        """Yield the encoded bytes of each sample in order; None where they are not there."""
        yield from self.media.read(self._found(samples))

    def paths(self, samples: pa.Table) -> Sequence[Path]:
        """Return a plain file for each sample."""
        return self.media.paths(self._found(samples))

    def _found(self, samples: pa.Table) -> pa.Table:
        return look_up(self.samples, "sample_id", samples["sample_id"], what="The samples")


def last_run(workspace: Workspace, *, needed_for: str) -> tuple[Mapping[str, Any], RecordedMedia]:
    """Return the record of the last finished run and its images.

    Raises:
        ConfigError: the workspace holds no finished run of the dataset.
    """
    for file in sorted((workspace.folder / "runs").glob("*/run.json"), reverse=True):
        record = json.loads(file.read_text(encoding="utf-8"))
        key = next((stage.get("key") for stage in record["stages"] if stage["stage"] == "ingest"), None)
        samples = read_table(workspace.cache / "ingest" / f"{key}.samples.parquet") if key else None
        if record.get("state") == "done" and samples is not None:
            media = open_media(Path(record["source_root"]), workspace.media)
            return record, RecordedMedia(samples, media)
    raise ConfigError(
        f"{needed_for} needs the images of {workspace.name}, and no finished run of it is left in "
        f"{workspace.folder}. Run it again: curate run SPEC{workspace_option(workspace.root)}"
    )
