"""curate: labeled images in, a release that a student can be distilled from and a reason for every row out."""

__version__ = "0.1.0"
