"""Versions of a release: build, publish, log, diff, verify."""

from curate.manifest.build import Release, build_release
from curate.manifest.diff import Diff, diff
from curate.manifest.log import LogEntry, read_log, resolve
from curate.manifest.publish import Published, publish
from curate.manifest.read import LoadedRelease, load_release
from curate.manifest.verify import Promise, require, verify

__all__ = [
    "Diff",
    "LoadedRelease",
    "LogEntry",
    "Promise",
    "Published",
    "Release",
    "build_release",
    "diff",
    "load_release",
    "publish",
    "read_log",
    "require",
    "resolve",
    "verify",
]
