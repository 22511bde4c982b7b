"""Versions of a release: build, publish, log, diff, verify."""
