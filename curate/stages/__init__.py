"""The stages of a run, each bound to its cache: what it reads, what its key is, which pure function does it."""

from curate.stages.context import Context

__all__ = ["Context"]
