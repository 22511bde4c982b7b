"""Planted errors: a copy of the labels is corrupted on purpose, the same pipeline runs, and what it finds is counted."""
