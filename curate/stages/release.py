"""The release and its page, from what a run has gathered."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curate import runs
from curate.ingest import Media
from curate.manifest.build import Release, build_release
from curate.manifest.inputs import digest_labels
from curate.manifest.publish import Published
from curate.manifest.read import load_manifest, load_table
from curate.spec import Spec
from curate.stages import check, teach
from curate.stages.class_maps import sharpness
from curate.stages.context import Context
from curate.stages.examine import allowed_sets
from curate.state import Gathered


def build(context: Context, found: Gathered) -> Release:
    """Return the release: what leaves, what stays behind and why, and the evidence for it."""
    taught = found.predictions

    def validate(data: pa.Table) -> tuple[pa.Table, Mapping[str, Any]]:
        statistics, proof = check.expectations(context, data, "manifest", allowed_sets(found))
        return statistics, {"expectations_manifest": proof}

    mask_weights = teach.mask_weights(found.statistics, taught) if taught else None
    with context.run.timed("verdicts"):
        return build_release(
            samples=_states(found).drop_columns(["mtime_ns"]),
            labels=found.all_labels,
            scan=found.scan,
            verdicts=found.verdicts,
            findings=found.findings,
            outcomes=found.outcomes,
            policy=context.spec.policy,
            classes=found.classes,
            statistics=found.statistics,
            decisions=found.decisions,
            predictions=teach.released_predictions(taught) if taught else None,
            places=taught.places if taught else None,
            cards=taught.cards if taught else (),
            teacher_weights=teach.weights(found.statistics, taught) if taught else None,
            class_maps=taught.class_maps if taught else (),
            mask_weights=mask_weights,
            mask_sharpness=sharpness(context, taught, found.labels, mask_weights) if taught else 1.0,
            evidence={**found.evidence, **about(context.spec)},
            digests={
                "labels": digest_labels(pa.concat_tables([found.given, found.annotations])),
                "spec": runs.digest_json(spec_content(context.spec)),
            },
            seed=context.spec.seed,
            validate=validate,
        )


def _states(found: Gathered) -> pa.Table:
    """Return the samples; one that a reviewer gave its first label is labeled."""
    if not found.added.num_rows:
        return found.samples
    is_new = pc.is_in(found.samples["sample_id"], value_set=found.added["sample_id"].combine_chunks())
    at = found.samples.schema.get_field_index("label_state")
    states = pc.if_else(is_new, "labeled", found.samples["label_state"])
    return found.samples.set_column(at, found.samples.schema.field(at), states)


def about(spec: Spec) -> Mapping[str, Any]:
    """Return the evidence of what people said in the spec; none where they said nothing."""
    said = spec.about.said()
    if not said and not spec.description.strip():
        return {}
    obtained = {name: one.obtained for name, one in sorted(spec.attributes.items())}
    return {"about": {**said, "description": spec.description, "attributes_obtained": obtained}}


def spec_content(spec: Spec) -> Mapping[str, Any]:
    """Return what of a spec decides the content of a release: not where things are on this machine."""
    ours = {"workspace", "manifests", "description", "about"}
    content: dict[str, Any] = spec.model_dump(mode="json", exclude=ours)
    content["source"] = {key: value for key, value in content["source"].items() if key != "path"}
    return content


def replaced_all(published: Published, release: Release) -> str:
    """Return a note where a new version has no image of the one before it, "" elsewhere.

    Two specs with one name publish into one release, each in the place of the other.
    """
    if not published.is_new or not published.parents:
        return ""
    before = published.path.parent / published.parents[0]
    manifest, _ = load_manifest(before)
    known = [load_table(before, manifest, kind, ["sample_id"])["sample_id"] for kind in ("data", "excluded")]
    old = pa.chunked_array([chunk for column in known for chunk in column.chunks], pa.string())
    new = [table["sample_id"] for table in (release.data, release.excluded)]
    if any(pc.any(pc.is_in(ids, value_set=old, skip_nulls=True), min_count=0).as_py() for ids in new):
        return ""
    return (
        f"no image of the version before ({published.parents[0][:7]}) is in this one. If it is another dataset, give its "
        "spec another name, and go back: curate rollback"
    )


def write_report(context: Context, found: Gathered, published: Published, media: Media) -> Path:
    """Write the HTML page of the version and return where it is."""
    from curate.report import build_report  # noqa: PLC0415 - jinja2 and the pictures are needed here only

    run_record = context.run
    with run_record.timed("report"):
        return build_report(
            run_record.workspace, published.path, published.number, found.samples, media, run_record.record
        )
