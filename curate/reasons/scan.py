"""Sentences for the reasons of the scan and of image quality."""

SENTENCES: dict[str, str] = {
    "not_an_image": "{path!r} is no image curate reads: it looks like {looks_like} (first bytes: {first_bytes}).",
    "truncated": "{path!r} ends early: it has {n_bytes} bytes and needs {needed}.",
    "unreadable": "{path!r} cannot be decoded: {message}.",
    "too_many_pixels": (
        "{path!r} would have {width_px} x {height_px} pixels; up to {max_pixels} are decoded (max_pixels)."
    ),
    "decoder_crashed": "{path!r} crashed the image decoder twice; it was set aside without being decoded.",
}
