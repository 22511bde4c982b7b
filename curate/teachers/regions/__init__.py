"""Masks: connected regions of the labels beside what teachers see there, and where the two say that one is wrong."""
