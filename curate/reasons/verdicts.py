"""What verdicts, gates and the release say to people."""

SENTENCES = {
    "decision_accept": "A reviewer accepted the suggestion.",
    "decision_reject": "A reviewer rejected the suggestion; the given label stays.",
    "decision_relabel": "A reviewer gave another label.",
    "decision_drop": "A reviewer took the row out.",
    "decision_keep": "A reviewer kept the row as it was given.",
    "decision_stale": "A reviewer's decision was made for other bytes of this image and does not apply.",
    "decision_box_moved": "A reviewer moved this box; it is released where they put it.",
    "decision_box_added": (
        "A reviewer drew another box on this image, which is not released until the source has it, or gave the image "
        "another label, which is released with it."
    ),
    "decision_region_accept": "A reviewer gave a region of this mask to another class; it is released there.",
    "decision_region_reject": "A reviewer looked at a region of this mask; it is released as it was given.",
    "decision_region_ignore": "A reviewer could not tell what a region of this mask is; it is held back (ignore/).",
    "decision_without_target": "A reviewer gave an image with several labels another one without saying which.",
    "decision_without_label": "A reviewer asked for another label without naming one; the row waits for review.",
    "decision_without_suggestion": "A reviewer accepted a suggestion, but there is none; the row waits for review.",
    "gate_above_max": "{statistic} ({group}) is {judged:.4g}; at most {max:g} is allowed.",
    "gate_below_min": "{statistic} ({group}) is {judged:.4g}; at least {min:g} is needed.",
    "gate_errored": "{statistic} ({group}) could not be computed ({why}), so it does not pass.",
    "gate_insufficient_data": "{statistic} ({group}) is neither passed nor failed: {why}.",
    "gate_not_known": "{statistic} ({group}) is not known, so its gate does not pass: {why} "
    "(allow_insufficient: true would let it through).",
    "gate_check_did_not_run": "{statistic} ({group}) has no value, {why}, so its gate does not pass.",
    "gate_without_subject": "{statistic} ({group}) judges nothing here: {why}.",
    "gate_matches_nothing": "No statistic is called {statistic} ({group}), so its gate does not pass.{hint}",
    "gate_bound_above_max": "{statistic} ({group}) is {value:.4g} and may be {judged:.4g}; at most {max:g} is allowed.",
    "gate_bound_below_min": "{statistic} ({group}) is {value:.4g} and may be {judged:.4g}; at least {min:g} is needed.",
    "not_scanned": "The image was never read, so it is not released.",
}
