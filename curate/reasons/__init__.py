"""Sentences for reason codes: each module has a dict `SENTENCES`, code -> sentence with {fields}."""
