"""What only people know of a dataset: the `about` mapping of a spec. What is left out is said to be unknown."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Text = Annotated[str, Field(min_length=1, pattern=r"\S")]


class CreatorSpec(BaseModel):
    """Somebody who made the dataset."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Text
    kind: Literal["person", "organization"] = "organization"
    url: Text | None = None


class AboutSpec(BaseModel):
    """What a description needs and no check can measure; every key is optional and nothing is made up for it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: Text | None = Field(default=None, description="for people; default: the name")
    purpose: Text | None = Field(default=None, description="why it was made, what it is for")
    creators: list[CreatorSpec] = Field(default_factory=list)
    funding: Text | None = Field(default=None, description="who paid")
    url: Text | None = Field(default=None, description="its page")
    citation: Text | None = Field(default=None, description="how to cite it")
    keywords: list[Text] = Field(default_factory=list)
    collection: Text | None = Field(default=None, description="how images were collected, by whom")
    collection_types: list[Text] = Field(default_factory=list, description="surveys, web scraping, sensors, …")
    collected_from: dt.date | None = Field(default=None, description="first day of collection")
    collected_to: dt.date | None = Field(default=None, description="last day of collection")
    consent: Text | None = Field(default=None, description="what the people shown agreed to, and how")
    annotation: Text | None = Field(default=None, description="how labels were given, with what instructions")
    annotation_platforms: list[Text] = Field(default_factory=list)
    annotators: Text | None = Field(default=None, description="who they are")
    preprocessing: Text | None = Field(default=None, description="what was done before curate saw it")
    uses: list[Text] = Field(default_factory=list, description="what it is fit for")
    not_for: list[Text] = Field(default_factory=list, description="what it must not be used for")
    biases: list[Text] = Field(default_factory=list, description="known ones, beyond what is measured")
    limitations: list[Text] = Field(default_factory=list, description="known ones, beyond what is measured")
    social_impact: Text | None = None
    personal_data: Text | None = Field(default=None, description="what it holds of persons; 'none' if so")
    maintenance: Text | None = Field(default=None, description="who looks after it, how errors are reported")

    @model_validator(mode="after")
    def _in_order(self) -> AboutSpec:
        if self.collected_from and self.collected_to and self.collected_from > self.collected_to:
            msg = f"collected_from ({self.collected_from}) is after collected_to ({self.collected_to})"
            raise ValueError(msg)
        return self

    def said(self) -> dict[str, Any]:
        """Return what was said, as JSON values; keys that nobody filled are left out."""
        given = self.model_dump(mode="json", exclude_defaults=True)
        return {key: value for key, value in given.items() if value not in (None, [], "")}
