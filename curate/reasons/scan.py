"""Sentences for the reasons of the scan and of image quality."""

SENTENCES: dict[str, str] = {
    "not_an_image": "{path!r} is no image curate reads: it looks like {looks_like} (first bytes: {first_bytes}).",
    "truncated": "{path!r} ends early: it has {n_bytes} bytes and needs {needed}.",
    "unreadable": "{path!r} cannot be decoded: {message}.",
    "too_many_pixels": (
        "{path!r} would have {width_px} x {height_px} pixels; up to {max_pixels} are decoded (max_pixels)."
    ),
    "decoder_crashed": "{path!r} crashed the image decoder twice; it was set aside without being decoded.",
    "image_dark": "The image is dark: 99 % of its pixels have a brightness of at most {measured} (cut: {cut}).",
    "image_bright": "The image is overexposed: 95 % of its pixels are brighter than {measured} (cut: {cut}).",
    "image_blurry": "The image has hardly any edges at 64 px: its sharpness is {measured} (blurry below {cut}).",
    "image_low_information": "The image shows next to nothing: {measured} bits a pixel (cut: {cut}).",
    "image_gray": "The image is gray among images in colour: colourfulness {measured} (cut: {cut}).",
    "image_odd_size": "{width_px} x {height_px} px is an odd size here: usual are {low_px} to {high_px} px a side.",
    "image_odd_aspect": "{width_px} x {height_px} px is an odd shape (shorter by longer side under {cut}).",
    "image_blank": "The image is blank: one brightness all over ({measured} bits a pixel).",
}
