"""Sentences for what the teachers say about given labels."""

_NEAR = (
    "; {n_near_suggested} of the {n_near} nearest of {n_searched:,} images searched are labeled {suggested}, "
    "{n_near_given} of them {given}"
)
FURTHER = {"teachers_disagree": _NEAR, "teachers_doubt": _NEAR}  # said where its arguments are there

SENTENCES = {
    "teachers_disagree": (
        "{n_agree} of {n_teachers} teachers say {suggested} (mean probability {suggested_mean}); "
        "the given label {given} gets {given_mean}"
    ),
    "teachers_doubt": (
        "not flagged, but in doubt: {n_agree} of {n_teachers} teachers say {suggested} "
        "(mean probability {suggested_mean}); the given label {given} gets {given_mean}"
    ),
    "teachers_support": ("{n_agree} of {n_teachers} teachers say {given} as well (mean probability {given_mean})"),
    "no_label": "cannot be judged: the row has no label",
    "label_outside_classes": "cannot be judged: the label {given} is none of the classes",
    "no_teacher_answer": "cannot be judged: no teacher that was kept has an answer for the row",
    "probabilities_invalid": (
        "cannot be judged: the probabilities of teacher {teacher} are not finite, are negative or do not sum to one"
    ),
    "probabilities_outside": "cannot be judged: some of the probabilities of teacher {teacher} are not from 0 to 1",
    "probabilities_nan": "cannot be judged: some of the probabilities of teacher {teacher} are NaN",
    "insufficient_data": (
        "cannot be judged: {n_rows} usable rows of {n_classes} classes; "
        "at least {min_rows} rows and two classes are needed"
    ),
    "label_left_out": (
        "{n_agree} of {n_teachers} teachers see {name} here (mean probability {mean}), and the labels leave it out"
    ),
    "label_unseen": (
        "{n_agree} of {n_teachers} teachers see no {name} here (mean probability {mean}), and the labels name it"
    ),
    "class_left_out": "{n_agree} of {n_teachers} teachers see {name} (mean probability {mean}); the labels leave it out",
    "class_invented": "{n_agree} of {n_teachers} teachers see no {name} (mean probability {mean}); the labels name it",
    "labels_supported": "no class is flagged; the most doubtful is {name} (mean probability {mean})",
    "too_few_of_each_class": "cannot be judged: no class has {min_rows} rows with it and as many without it",
}
