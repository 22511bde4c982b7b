"""What the report says of attributes: who is not named, what could not be judged, what is no number."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa

from curate.checks import attribute_association, demographic_balance
from curate.checks.attribute_association import AttributeAssociationParams
from curate.checks.attributes import AttributeDeclaration
from curate.checks.demographic_balance import DemographicBalanceParams
from curate.report import balance


def _told(rows: list[tuple[str, str]], *attributes: AttributeDeclaration) -> list[dict[str, Any]]:
    """Return the statistics of (age, light) as the report reads them."""
    columns = {f"attr_{name}": [row[at] for row in rows] for at, name in enumerate(("age", "light"))}
    params = DemographicBalanceParams(attributes=attributes)
    state = demographic_balance.fit(pa.table(columns).to_batches(), params)
    found = demographic_balance.summarize(state, params).to_pylist()
    return [{**row, "detail": json.loads(row["detail"])} for row in found]


def test_values_that_a_reference_does_not_name_are_told_with_their_number() -> None:
    age = AttributeDeclaration("age", "self-reported", (("old", 0.5), ("young", 0.5)), "census 2024")
    rows = [("old", "day")] * 40 + [("young", "day")] * 40 + [("infant", "day")] * 20
    told = balance.attributes(_told(rows, age))[0]
    assert told["not_named"] == "infant (20 pictures)"
    ratios = {value["value"]: value["ratio"].split(" ")[0] for value in told["values"]}
    assert ratios == {"old": "1.00", "young": "1.00", "infant": "", "unknown": ""}
    few = balance.attributes(_told([("old", "day")] * 90 + [("young", "day")] * 12 + [("infant", "day")] * 3, age))[
        0
    ]
    assert few["not_named"] == "infant (1 to 5 pictures)"  # with the 10 or more of the young they are 15
    assert balance.attributes(_told(rows[:80], age))[0]["not_named"] == ""


def test_no_gap_is_told_with_what_could_not_be_judged() -> None:
    rows = [("old", "day")] * 40 + [("young", "day")] * 40 + [("old", "night")] * 4
    assert balance.gaps(_told(rows)) == [{"pair": "age and light", "n": "0", "unjudged": "2 of 4", "gaps": ""}]
    assert balance.gaps(_told(rows[:80])) == []


def test_an_attribute_that_is_the_label_is_said_to_determine_it() -> None:
    columns = {
        "sample_id": [f"{n:03}" for n in range(80)],
        "label": ["old"] * 40 + ["young"] * 40,
        "attr_age": ["old"] * 40 + ["young"] * 40,
    }
    params = AttributeAssociationParams()
    counts = attribute_association.fit(pa.table(columns).to_batches(), params)
    (link,) = attribute_association.summarize(counts, params).to_pylist()
    rows = [*_told([(age, "day") for age in columns["attr_age"]]), {**link, "detail": json.loads(link["detail"])}]
    told = balance.attributes(rows)[0]["association"]
    assert (told["is_total"], told["v"]) == (True, "1.000")
    assert {cell["risk"] for cell in told["cells"]} == {"always, and nowhere else", "never"}
