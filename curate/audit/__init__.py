"""An audit: a few hundred labels, drawn by chance and looked at by a person, say how good the flags are.

`design` draws, `answers` and `sheet` take what people say, `estimate` and `threshold` turn it into statements that
hold for all labels, `store` keeps it, append-only. What is drawn is written down before anybody looks.
"""
