"""Sentences for what detectors say about given boxes and about places without one."""

SENTENCES = {
    "box_noise_missing": (
        "{n_see} of {n_teachers} detectors see {suggested} here (mean score {mean_score}); "
        "no given box overlaps it by more than {covered} (IoU)"
    ),
    "box_noise_location": (
        "{n_see} of {n_teachers} detectors see {seen} here (mean score {mean_score}); "
        "the given box overlaps theirs by {iou} (IoU)"
    ),
    "box_noise_location_unseen": (
        "no detector's box goes with this one, so its place cannot be compared; "
        "the nearest overlaps it by {nearest} (IoU)"
    ),
    "box_noise_swap": (
        "{n_rival} of {n_teachers} detectors see {rival} here (mean probability {rival_prob}), "
        "{n_own} see {given} ({own})"
    ),
    "box_noise_spurious": (
        "{n_anything} of {n_teachers} detectors see anything here (mean probability {anything}), "
        "{n_own} see {given} ({own}); "
        "the nearest of their boxes overlaps it by {nearest} (IoU)"
    ),
    "box_noise_duplicate": (
        "the box {kept} of {given} overlaps it by {twin_iou} (IoU) and fits the detectors' box better; that one stays"
    ),
    "box_noise_no_duplicate": "no other box of {given} on it fits the detectors' box better",
    "box_noise_unusable": "cannot be judged: {why}",
}
