"""The sentence for what the cap on removals held back."""

SENTENCES = {
    "removal_cap": (
        "stays in with less weight: at most {share:.0%} of one {kind} may leave on the teachers' word, "
        "and others of the same {kind} are riskier"
    ),
}
