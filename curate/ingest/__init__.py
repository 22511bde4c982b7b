"""Formats: one module each, a `SOURCE` in it, one line in `BUILTIN`."""

from __future__ import annotations

import gc
from importlib import import_module
from importlib.metadata import entry_points

from curate.errors import ConfigError, did_you_mean
from curate.ingest.source import Ingested, Media, ReadOptions, Source
from curate.plugins import load_plugin

__all__ = ["BUILTIN", "Ingested", "Media", "ReadOptions", "Source", "read_rows", "source_named", "source_names"]

# format name -> module under curate.ingest, in the order in which `curate init` tries them
BUILTIN: dict[str, str] = {
    "fiftyone": "fiftyone_format",
    "coco": "coco",
    "voc": "voc",
    "mot": "mot",
    "yolo": "yolo",
    "masks": "masks",
    "huggingface": "huggingface",
    "table": "table",
    "folder": "folder",
    "digits": "demo_digits",
    "street": "demo_street",
}

ENTRY_POINT_GROUP = "curate.sources"


def read_rows(source: Source, options: ReadOptions) -> Ingested:
    """Read a source without searching what it makes for cycles again and again.

    A million rows are millions of tuples and texts that live to the end and hold no cycle; looking through them
    each time that their number has grown by a quarter is a third of the time.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        return source.read(options)
    finally:
        if was_enabled:
            gc.enable()


def source_names() -> list[str]:
    """Return every format that a spec may name."""
    return [*BUILTIN, *sorted(entry.name for entry in entry_points(group=ENTRY_POINT_GROUP))]


def source_named(name: str) -> Source:
    """Return the format called `name`.

    Raises:
        ConfigError: there is none (the message names the nearest), or its package cannot be loaded.
    """
    if name in BUILTIN:
        source: Source = import_module(f"curate.ingest.{BUILTIN[name]}").SOURCE
        return source
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        if entry.name == name:
            loaded: Source = load_plugin(entry)
            return loaded
    names = source_names()
    msg = f"There is no format {name!r}. Formats: {', '.join(names)}. {did_you_mean(name, names)}"
    raise ConfigError(msg.rstrip())
