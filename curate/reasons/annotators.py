"""Sentences about annotators."""

SENTENCES: dict[str, str] = {
    "annotators_outvote": (
        "{n_agree} of {n_answers} annotators say {suggested}, the given label is {given}; with the teachers the "
        "consensus {suggested} has probability {quality}."
    ),
    "annotator_error_prone": (
        "Annotator {annotator} makes {ratio} x the errors of others on {label} (95 % interval {ratio_low} x to "
        "{ratio_high} x): {n_wrong} of {n} such labels are contradicted by all others together, {average:.0%} of "
        "those of others; this one is."
    ),
}
