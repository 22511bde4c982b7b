"""Reason codes and their sentences, one module a part."""
