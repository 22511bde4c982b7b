"""OpenLineage events of a version: what was published from what, and what it was held against. One JSON a line.

Written out by hand after the facet schemas that each `_schemaURL` names: four facets do not need a client. The tests
hold the events against those of the client's own classes.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from curate.describe.facts import Facts
from curate.errors import InputError

NAMESPACE = "curate"
_SPEC = "https://openlineage.io/spec"
_EVENT = f"{_SPEC}/2-0-2/OpenLineage.json#/$defs/RunEvent"


def events(facts: Facts) -> list[dict[str, Any]]:
    """Return two finished runs: `NAME.publish` (sources → version), `NAME.validate` (version → assertions).

    Times are those of the log, ids follow from the version's: the same version always gives the same events.

    Raises:
        InputError: no log says when the version was published; an event needs a time.
    """
    if facts.at is None:
        raise InputError(
            f"OpenLineage events need the time of publication, and no log names the version {facts.id[:12]}."
        )
    version = _version(facts)
    sources = [{"namespace": NAMESPACE, "name": f"source/{name}", "facets": {}} for name in facts.sources]
    published = _event(facts, "publish", inputs=sources, outputs=[version])
    judged = version | {"inputFacets": {"dataQualityAssertions": _assertions(facts)}}
    return [published, _event(facts, "validate", inputs=[judged], outputs=[])]


def producer(facts: Facts) -> str:
    """Return who says so; `urn:` since the program has no address of its own."""
    return f"urn:curate:{facts.manifest['versions']['curate']}"


def _event(
    facts: Facts, verb: str, *, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    run_id = uuid.uuid5(uuid.NAMESPACE_URL, f"curate:{verb}:{facts.id}")
    return {
        "eventTime": facts.at,
        "eventType": "COMPLETE",
        "inputs": list(inputs),
        "job": {"namespace": NAMESPACE, "name": f"{facts.name}.{verb}", "facets": {}},
        "outputs": list(outputs),
        "producer": producer(facts),
        "run": {"runId": str(run_id), "facets": {}},
        "schemaURL": _EVENT,
    }


def _version(facts: Facts) -> dict[str, Any]:
    return {
        "namespace": NAMESPACE,
        "name": f"manifest/{facts.name}",
        "facets": {
            "dataQualityMetrics": _metrics(facts),
            "schema": _facet(facts, "1-2-0/SchemaDatasetFacet", fields=_fields(facts.schemas["data"])),
            "version": _facet(facts, "1-0-1/DatasetVersionDatasetFacet", datasetVersion=facts.id),
        },
    }


def _fields(table: pa.Schema) -> list[dict[str, Any]]:
    return [{"fields": [], "name": field.name, "type": str(field.type)} for field in table]


def _metrics(facts: Facts) -> dict[str, Any]:
    """Return rows, bytes and files of `data/`, and what is counted about its columns."""
    files = [one for one in facts.manifest["files"] if one["path"].startswith("data/")]
    counted = {
        "license": facts.licenses,
        "released_label": facts.labels,
        "source": facts.sources,
        "split": facts.splits,
        "task": facts.tasks,
    }
    columns = {
        name: {
            "distinctCount": len([value for value in counts if value is not None]),
            "nullCount": counts.get(None, 0),
            "quantiles": {},
        }
        for name, counts in counted.items()
    }
    return _facet(
        facts,
        "1-0-1/DataQualityMetricsDatasetFacet",
        bytes=sum(one["bytes"] for one in files),
        columnMetrics=columns,
        fileCount=len(files),
        rowCount=facts.counts["n_released"],
    )


def _assertions(facts: Facts) -> dict[str, Any]:
    """Return every gate as an assertion: only a pass is a success."""
    found = []
    for row in facts.gates:
        group = f" ({row['group']})" if row["group"] else ""
        bounds = [
            f"{word} {row[key]}" for key, word in (("max", "at most"), ("min", "at least")) if row[key] is not None
        ]
        assertion = {
            "assertion": f"{row['statistic']}{group}",
            "expected": ", ".join(bounds),
            "params": {},
            "severity": "error" if row["level"] == "fail" else "warn",
            "success": row["outcome"] == "pass",
        }
        if row["judged"] is not None:
            assertion["actual"] = str(row["judged"])
        if row["outcome"] not in {"pass", "fail", "warn"}:
            assertion["description"] = str(row["outcome"])
        found.append(assertion)
    return _facet(facts, "1-1-0/DataQualityAssertionsDatasetFacet", assertions=found)


def _facet(facts: Facts, schema: str, **values: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON values
    name = schema.partition("/")[2]
    url = f"{_SPEC}/facets/{schema}.json#/$defs/{name}"
    return {"_producer": producer(facts), "_schemaURL": url, **values}
