"""What every stage needs: the spec, where to write, how much to use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from curate import runs
from curate.config import LoadedSpec
from curate.ingest import Ingested
from curate.ingest.source import Beyond, nothing_beyond
from curate.spec import Spec


@dataclass(frozen=True)
class Context:
    """What every stage needs: the spec, where to write, how much to use."""

    loaded: LoadedSpec
    run: runs.Run
    workers: int
    limit: int | None = None
    rehash: bool = False
    relabel: Callable[[Ingested], Ingested] | None = None  # what came in, with other labels: see `curate.plant`
    beyond: Beyond = field(default_factory=nothing_beyond)  # what the limit left out of the source, once it is read

    @property
    def spec(self) -> Spec:
        """The validated spec."""
        return self.loaded.spec

    @property
    def source_root(self) -> Path:
        """The file or folder that the spec names; generated sources have their own folder in the workspace."""
        given = self.spec.source.path
        return self.loaded.resolve(given) if given else self.run.workspace.media
