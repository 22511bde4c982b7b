"""One file per check, pure; each has a `CHECK` and stands in `curate.check.BUILTIN`."""
