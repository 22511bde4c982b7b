"""What a policy says: rules turn findings into actions, gates turn statistics into outcomes. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Action = Literal["keep", "review", "relabel", "soften", "drop"]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Rule(_Frozen):
    """The action for a finding that matches; the first rule of the list that matches is the one that counts.

    Of the actions that the findings of one row ask for, the strongest wins:
    drop, then review, relabel, soften, keep.
    """

    issue: str = Field(description="issue of the finding; * and ? are wildcards")
    check: str | None = Field(default=None, description="check of the finding; null = any")
    action: Action
    min_risk: Fraction = 0.0
    flagged: bool | None = Field(default=None, description="only where the check's own cut says so")
    min_suggested_prob: Fraction = 0.0
    weight: Fraction = Field(default=1.0, description="weight of a released row; below 1 for soften")


class Gate(_Frozen):
    """A bound on a statistic. Judged on the interval's bound where there is one, so that luck does not pass.

    A statistic that is absent or errored is "errored", and blocks at level `fail`. One that says "insufficient data"
    blocks there too where it is about the whole, for nobody knows the number; a group that is too small to be judged
    does not. `allow_insufficient` says otherwise, for both.
    """

    statistic: str = Field(description="check.name, for example label_noise.noise_rate; wildcards allowed")
    group: str | None = Field(default=None, description="class=cat, attr_age=*; null = the whole")
    max: float | None = None
    min: float | None = None
    level: Literal["fail", "warn", "info"] = "fail"
    bound: Literal["value", "interval"] = "value"
    allow_insufficient: bool | None = Field(
        default=None, description="whether what is not known is let through; null = of a group, not of the whole"
    )

    def lets_through_insufficient(self, group: str | None) -> bool:
        """Return whether a statistic of `group` (None = the whole) that is not known does not block."""
        return group is not None if self.allow_insufficient is None else self.allow_insufficient

    @model_validator(mode="after")
    def _one_bound(self) -> Gate:
        if self.max is None and self.min is None:
            msg = "a gate needs max or min (or both)"
            raise ValueError(msg)
        return self


DEFAULT_RULES: tuple[Rule, ...] = (
    Rule(issue="unreadable", action="drop"),
    Rule(issue="exact_duplicate", action="drop"),
    Rule(issue="leakage_duplicate", action="drop"),
    Rule(issue="leakage_near_duplicate", action="review"),
    Rule(issue="leakage_group", action="keep"),  # a split to be redone, not rows to be taken out: the gate says so
    Rule(issue="duplicate_conflict", action="review"),
    Rule(issue="near_duplicate", action="keep"),
    Rule(issue="mislabel", flagged=True, min_suggested_prob=0.95, action="relabel"),
    Rule(issue="mislabel", flagged=True, action="review"),
    Rule(issue="mislabel", min_risk=0.5, action="soften", weight=0.5),
    Rule(issue="invalid_box", action="drop"),
    Rule(issue="invalid_mask", action="drop"),
    Rule(issue="duplicate_box", action="review"),
    Rule(issue="swap", check="box_noise", flagged=True, min_suggested_prob=0.95, action="relabel"),
    Rule(issue="*", check="box_noise", flagged=True, action="review"),
    Rule(issue="*", check="multi_label_noise", flagged=True, action="review"),
    Rule(issue="region_*", check="mask_noise", flagged=True, action="review"),
    Rule(issue="track_*", check="track_noise", flagged=True, action="review"),
    Rule(issue="blank", action="review"),
    Rule(issue="*", action="keep"),
)

DEFAULT_GATES: tuple[Gate, ...] = (
    Gate(statistic="ingest.share_out", max=0.05, level="fail"),
    Gate(statistic="*.ran", min=1.0, level="fail", allow_insufficient=True),  # said in the summary, and no crash
    Gate(statistic="expectations.*", min=1.0, level="fail"),
    Gate(statistic="leakage.share_of_samples", max=0.01, level="warn"),
    Gate(statistic="label_noise.noise_rate", max=0.20, level="warn"),
    Gate(statistic="release.share_excluded", max=0.50, level="fail"),
)


class Policy(_Frozen):
    """Everything that decides. Rules given in a spec come before the default ones; gates replace by statistic."""

    rules: tuple[Rule, ...] = ()
    gates: tuple[Gate, ...] = ()
    use_default_rules: bool = True
    use_default_gates: bool = True
    release_review: bool | Literal["soft"] = Field(
        default="soft",
        description="release rows that wait for review: true, as given; soft, those whose label only the teachers "
        "doubt, without a label, for their soft label; false, none",
    )
    missing_labels: Literal["ignore", "hold_back"] = Field(
        default="ignore",
        description="an image in which a box (or one class of several) may be missing: ignore, it is released, and the "
        "place is one that nothing is to be learnt of; hold_back, it waits for a person as a whole",
    )
    max_share_out: Fraction = Field(
        default=0.5,
        description="of a class or declared group that may leave as mislabeled; the rest stays, softened",
    )
    soft_labels: bool = True
    temperature: Annotated[float, Field(gt=0.0)] = 1.0
    soft_layout: Literal["auto", "full", "top_k", "sampled"] = "auto"
    soft_top_k: Annotated[int, Field(ge=1)] = 32
    soft_each_teacher: bool = Field(default=False, description="store each teacher's soft labels too")
    soft_boxes_from: Fraction = Field(
        default=0.05,
        description="objectness from which a box that only detectors see is stored beside the released ones",
    )
    soft_masks_cells: Annotated[int, Field(ge=0, le=4096)] = Field(
        default=64, description="cells on the longer side of an image in the class maps of segmenters; 0 = no maps"
    )
    attributes_released: tuple[str, ...] = Field(default=(), description="attributes that may leave; * = all")

    @field_validator("release_review", mode="before")
    @classmethod
    def _a_known_word(cls, value: object) -> object:
        if not (isinstance(value, bool) or value == "soft"):
            raise ValueError("release_review is true, false or soft")
        return value

    @property
    def releases_softly(self) -> bool:
        """Whether a classification label that only teachers doubt leaves without the label, for its soft label."""
        return self.release_review == "soft" and self.soft_labels

    @classmethod
    def of_version(cls, said: Mapping[str, object]) -> Policy:
        """Return the policy that a version was made by; a key that it does not say means what curate did then."""
        return cls.model_validate({"missing_labels": "hold_back", **said})

    def all_rules(self) -> tuple[Rule, ...]:
        """Return the rules in the order in which they are tried."""
        return self.rules + (DEFAULT_RULES if self.use_default_rules else ())

    def written_out(self) -> Policy:
        """Return the same policy with the default rules and gates in it: what a release was judged by stays said."""
        return self.model_copy(
            update={
                "rules": self.all_rules(),
                "gates": self.all_gates(),
                "use_default_rules": False,
                "use_default_gates": False,
            }
        )

    def all_gates(self) -> tuple[Gate, ...]:
        """Return the gates: a default one is replaced by any of the spec on the same statistic and group."""
        given = {(gate.statistic, gate.group) for gate in self.gates}
        defaults = DEFAULT_GATES if self.use_default_gates else ()
        return self.gates + tuple(g for g in defaults if (g.statistic, g.group) not in given)
