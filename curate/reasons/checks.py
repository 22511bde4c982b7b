"""Sentences of the checks on duplicates, leakage, balance, boxes, masks and tracks."""

SENTENCES: dict[str, str] = {
    "exact_duplicate_bytes": "The file is a copy, byte for byte, of {kept}, which stays.",
    "exact_duplicate_pixels": "The picture has the same pixels as {kept}, which stays.",
    "near_duplicate": "The picture is close to {n_near} other(s); the nearest differs in {distance_bits} of 64 bits "
    "of the perceptual hash.",
    "too_flat_to_compare": "The picture is too flat for its perceptual hash to mean anything; it was compared with "
    "others byte for byte and pixel for pixel only.",
    "leakage_duplicate": "The picture is in the split {split}, and a copy of it in the split {other_split}.",
    "leakage_near_duplicate": "The picture is in the split {split}, and one that differs in {distance_bits} of 64 "
    "bits of the perceptual hash in the split {other_split}.",
    "leakage_group": "The {group} {key!r} of this picture, which is in the split {split}, is in the split "
    "{other_split} too.",
    "duplicate_conflict": "{n_copies} copies of this picture carry different labels ({labels}); {n_agree} of them "
    "say {label!r}.",
}
