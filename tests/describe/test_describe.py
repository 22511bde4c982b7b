"""Descriptions of a real release: valid by other people's readers, true to the rows, and silent where nobody spoke."""

from __future__ import annotations

import copy
import datetime as dt
import json
import logging
import re
import shutil
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import end_to_end as e2e
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from pydantic import ValidationError

from curate.about import AboutSpec
from curate.config import load_spec
from curate.describe.card import card
from curate.describe.croissant import croissant, left_out
from curate.describe.datasheet import NOT_RECORDED, SECTIONS, datasheet
from curate.describe.facts import Facts, gather
from curate.describe.lineage import events
from curate.describe.rai import KEYS
from curate.describe.strict import problems
from curate.describe.verbs import describe_version
from curate.errors import ConfigError
from curate.gates import GateResult
from curate.manifest.build import Release
from curate.manifest.log import resolve
from curate.manifest.publish import publish
from curate.manifest.read import LoadedRelease, load_release
from curate.manifest.tables import DATA
from curate.stages.release import about

ABOUT = """about:
  title: Pets of the street
  purpose: to tell cats from dogs and eels
  creators: [{name: Ada Example, kind: person, url: "https://example.org/ada"}, {name: Example Lab}]
  url: https://example.org/pets
  citation: Example (2026), Pets of the street
  collection: photographed by the authors
  collection_types: [Manual Human Curator]
  collected_from: 2025-03-01
  collected_to: 2025-04-30
  annotation: one person looked at each picture
  uses: [teaching]
  not_for: [medicine]
  personal_data: none
"""


@pytest.fixture(scope="module")
def facts(finished: e2e.Finished) -> Facts:
    return gather(resolve(finished.workspace / "manifests", "pets"))


@pytest.fixture(scope="module")
def told(finished: e2e.Finished, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workspace of a second run, whose spec says what people know."""
    workspace = tmp_path_factory.mktemp("told") / "ws"
    shutil.copytree(finished.workspace, workspace)
    rest = e2e.FAST_TEACHER + "license: CC-BY-4.0\ndescription: small pictures\n" + ABOUT
    spec = e2e.write_spec(finished.folder / "told.yaml", "{format: folder, path: data}", rest=rest)
    done = e2e.call("run", spec, "--workspace", workspace, "--no-review", "--json", "--quiet")
    assert done.code == 0, done.err
    assert done.json["id"] != finished.id
    return workspace


def records(folder: Path, table: str) -> Iterator[dict[str, Any]]:
    import mlcroissant  # noqa: PLC0415 - takes seconds

    logging.getLogger("absl").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # between mlcroissant and rdflib
        warnings.simplefilter("ignore", FutureWarning)  # between mlcroissant and pandas
        yield from mlcroissant.Dataset(jsonld=folder / "croissant.json").records(table)


def plain(value: Any) -> Any:  # noqa: ANN401 - any Croissant value
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, list):
        return [plain(one) for one in value]
    return value.item() if hasattr(value, "item") else value


def assert_records_are_rows(folder: Path, table: str) -> int:
    rows = pq.read_table(folder / table)
    kept = rows.drop_columns(left_out(rows.schema)).to_pylist()
    read = [
        {key.removeprefix(f"{table}/"): plain(value) for key, value in record.items()}
        for record in records(folder, table)
    ]
    assert read == kept
    return len(read)


def test_a_release_is_described_and_mlcroissant_takes_it(finished: e2e.Finished, tmp_path: Path) -> None:
    out = tmp_path / "described"
    done = e2e.call("describe", "pets", "--out", out, "--json", "--workspace", finished.workspace)
    assert done.code == 0, done.err
    assert done.json["mlcroissant"] == "valid"
    assert {"license", "rai:dataCollection"} <= set(done.json["unknown"])
    for table in ("data", "soft", "excluded", "findings"):
        assert_records_are_rows(out, table)
    version = resolve(finished.workspace / "manifests", "pets")
    for file in (path for path in version.rglob("*") if path.is_file()):
        assert (out / file.relative_to(version)).read_bytes() == file.read_bytes()


def widened(release: LoadedRelease) -> Release:
    """Return the release with boxes, polygons, masks and attributes in some rows."""
    rows = release.data.to_pylist()
    for at, row in enumerate(rows[:9]):
        row["bbox"] = [0.1 * at, 0.2, 0.3, 0.25]
        row["polygons"] = [[0.1, 0.1, 0.2, 0.1, 0.2, 0.2], [0.5, 0.5, 0.6, 0.5, 0.6, 0.7]] if at % 2 else None
        row["mask"] = {"height_px": 2, "width_px": 2, "counts": b"04"} if at % 3 else None
        row["frame"] = at or None
        row["attributes"] = [("age", "20-29")]
        row["license"] = "MIT" if at % 2 else "CC-BY-4.0"
        row["annotator"] = f"annotator {at % 2}"
    kept = ("classes", "counts", "gates", "inputs", "soft")
    return Release(
        data=pa.Table.from_pylist(rows, schema=DATA),
        soft=release.soft,
        excluded=release.excluded,
        findings=release.findings,
        decisions=release.decisions,
        evidence=release.evidence,
        head={key: release.manifest[key] for key in kept},
        statistics=pa.table({}),
        gates=GateResult("passed", pa.table({})),
    )


def test_boxes_and_polygons_are_read_as_they_stand(finished: e2e.Finished, tmp_path: Path) -> None:
    release = load_release(resolve(finished.workspace / "manifests", "pets"))
    publish(widened(release), tmp_path / "ws" / "manifests", "wide")
    described = describe_version(tmp_path / "ws", "wide", out=tmp_path / "out", files="copy")
    assert described["mlcroissant"] == "valid"
    assert assert_records_are_rows(tmp_path / "out", "data") == release.data.num_rows
    fields = json.loads((tmp_path / "out" / "croissant.json").read_text())["recordSet"][0]
    assert "attributes, groups, mask" in fields["description"]
    facts = gather(resolve(tmp_path / "ws" / "manifests", "wide"))
    assert facts.license == ["CC-BY-4.0", "MIT", "unknown"]
    assert facts.n_annotators == 2
    head = yaml.safe_load((tmp_path / "out" / "README.md").read_text().split("---")[1])
    assert (head["license"], head["license_name"]) == ("other", "CC-BY-4.0, MIT, unknown")


def test_what_people_said_is_told_and_what_they_did_not_stays_unknown(told: Path, tmp_path: Path) -> None:
    result = describe_version(told, "pets", out=tmp_path / "out")
    described = json.loads((tmp_path / "out" / "croissant.json").read_text())
    assert result["mlcroissant"] == "valid"
    assert described["license"] == ["https://spdx.org/licenses/CC-BY-4.0.html"]
    assert [one["name"] for one in described["creator"]] == ["Ada Example", "Example Lab"]
    assert described["creator"][0]["@type"] == "sc:Person"
    assert described["rai:dataCollectionTimeframe"] == ["2025-03-01", "2025-04-30"]
    assert described["rai:dataUseCases"] == ["teaching", "Not for: medicine"]
    assert described["version"] == "2.0.0"
    silent = {"rai:annotatorDemographics", "rai:dataSocialImpact", "rai:dataReleaseMaintenancePlan"}
    assert {key for key in described if key.startswith("rai:") and described[key] == "unknown"} >= silent
    head = yaml.safe_load((tmp_path / "out" / "README.md").read_text().split("---")[1])
    assert head["license"] == "cc-by-4.0"
    assert head["pretty_name"] == "Pets of the street"
    sheet = (tmp_path / "out" / "DATASHEET.md").read_text()
    assert "to tell cats from dogs and eels" in sheet
    assert "2025-03-01 to 2025-04-30" in sheet


def test_a_description_without_about_is_told(finished: e2e.Finished, tmp_path: Path) -> None:
    spec = load_spec(finished.spec).spec
    assert about(spec) == {}
    assert about(spec.model_copy(update={"description": " "})) == {}
    evidence = about(spec.model_copy(update={"description": "small pictures"}))
    release = load_release(resolve(finished.workspace / "manifests", "pets"))
    assert "about" not in release.evidence
    release.evidence.update(evidence)
    publish(widened(release), tmp_path / "ws" / "manifests", "said")
    result = describe_version(tmp_path / "ws", "said", out=tmp_path / "out")
    assert "description" not in result["unknown"]
    assert json.loads((tmp_path / "out" / "croissant.json").read_text())["description"] == "small pictures"
    assert "small pictures" in (tmp_path / "out" / "README.md").read_text()


def test_the_same_version_is_described_in_the_same_words(told: Path, tmp_path: Path) -> None:
    describe_version(told, "pets", out=tmp_path / "one")
    describe_version(told, "pets", out=tmp_path / "two", files="copy")
    describe_version(told, "pets", out=tmp_path / "two")  # replaces its own
    for name in ("croissant.json", "README.md", "DATASHEET.md", "openlineage.jsonl"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def drop(key: str) -> Callable[[dict[str, Any]], object]:
    return lambda described: described.pop(key)


def put(key: str, value: object) -> Callable[[dict[str, Any]], object]:
    return lambda described: described.update({key: value})


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (drop("license"), "license is missing"),
        (put("license", ["MIT"]), "license must be an address"),
        (drop("creator"), "creator is missing"),
        (put("creator", [{"@type": "sc:Person", "name": " "}]), "a creator must be"),
        (put("version", "3"), "MAJOR.MINOR.PATCH"),
        (put("url", "our page"), "url must be a web address"),
        (put("datePublished", "yesterday"), "datePublished must be a date"),
        (put("conformsTo", ["http://mlcommons.org/croissant/1.1"]), "conformsTo must name"),
        (put("licence", "unknown"), "Did you mean 'license'?"),
        (put("rai:dataBias", "none"), "Did you mean 'dataBiases'?"),
        (put("rai:dataBiases", []), "rai:dataBiases is missing or empty"),
        (drop("rai:dataSocialImpact"), "rai:dataSocialImpact is missing"),
        (put("rai:dataCollectionTimeframe", ["spring"]), "must hold dates"),
        (lambda described: described["distribution"][0].pop("sha256"), "has no sha256"),
        (lambda described: described["distribution"][0].pop("contentSize"), "has no size"),
        (lambda described: described["distribution"][-1].update({"includes": "nothing/*.parquet"}), "leads to no"),
        (lambda described: described["recordSet"][0]["field"][0].pop("dataType"), "has no type"),
    ],
)
def test_the_stricter_check_sees_what_is_wrong(
    facts: Facts, change: Callable[[dict[str, Any]], object], told: str
) -> None:
    described = copy.deepcopy(croissant(facts))
    assert problems(described) == []
    change(described)
    assert told in " ".join(problems(described))


def test_events_are_those_of_the_openlineage_client(facts: Facts) -> None:
    from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState  # noqa: PLC0415
    from openlineage.client.facet_v2 import (  # noqa: PLC0415 - imports slowly
        data_quality_assertions_dataset as asserted,
    )
    from openlineage.client.facet_v2 import data_quality_metrics_dataset as metrics  # noqa: PLC0415
    from openlineage.client.facet_v2 import dataset_version_dataset, schema_dataset  # noqa: PLC0415
    from openlineage.client.serde import Serde  # noqa: PLC0415

    published, validated = events(facts)
    producer = published["producer"]
    given = published["outputs"][0]["facets"]
    columns = {
        name: metrics.ColumnMetrics(**column)
        for name, column in given["dataQualityMetrics"]["columnMetrics"].items()
    }
    counted = {key: given["dataQualityMetrics"][key] for key in ("bytes", "fileCount", "rowCount")}
    facets = {
        "version": dataset_version_dataset.DatasetVersionDatasetFacet(datasetVersion=facts.id, producer=producer),
        "dataQualityMetrics": metrics.DataQualityMetricsDatasetFacet(
            columnMetrics=columns, producer=producer, **counted
        ),
        "schema": schema_dataset.SchemaDatasetFacet(
            fields=[schema_dataset.SchemaDatasetFacetFields(**field) for field in given["schema"]["fields"]],
            producer=producer,
        ),
    }
    gates = validated["inputs"][0]["inputFacets"]["dataQualityAssertions"]["assertions"]
    judged = asserted.DataQualityAssertionsDatasetFacet(
        assertions=[asserted.Assertion(**gate) for gate in gates], producer=producer
    )
    name, space = published["outputs"][0]["name"], published["outputs"][0]["namespace"]
    theirs = [
        RunEvent(
            eventTime=str(facts.at),
            eventType=RunState.COMPLETE,
            run=Run(runId=ours["run"]["runId"]),
            job=Job(namespace=space, name=ours["job"]["name"]),
            inputs=inputs,
            outputs=outputs,
            producer=producer,
        )
        for ours, inputs, outputs in (
            (published, [InputDataset(space, "source/pets")], [OutputDataset(space, name, facets=facets)]),
            (
                validated,
                [InputDataset(space, name, facets=facets, inputFacets={"dataQualityAssertions": judged})],
                [],
            ),
        )
    ]

    def same_schemas(event: Any) -> Any:  # noqa: ANN401 - JSON
        """Take out what the client fills in by default, and leave every key that either side has a value for."""
        if isinstance(event, dict):
            kept = {key: same_schemas(value) for key, value in event.items()}
            return {key: value for key, value in kept.items() if value not in ({}, [], None)}
        return [same_schemas(one) for one in event] if isinstance(event, list) else event

    assert [same_schemas(json.loads(Serde.to_json(event))) for event in theirs] == [
        same_schemas(published),
        same_schemas(validated),
    ]
    assert given["version"]["datasetVersion"] == facts.id
    assert {gate["success"] for gate in gates} == {True}


def test_every_question_of_the_datasheet_has_an_answer_or_says_that_it_has_none(facts: Facts) -> None:
    text = datasheet(facts)
    questions = [question for section in SECTIONS.values() for question, _ in section]
    assert len(questions) == len(set(questions)) > 40
    answers = re.split(r"\*\*.+?\*\*\n\n", text)[1:]
    assert len(answers) == len(questions)
    assert all(answer.strip() for answer in answers)
    assert sum(answer.startswith(NOT_RECORDED) for answer in answers) > 20


AUDITED = {"check": "audit", "name": "noise_rate", "group": None, "value": 0.04, "low": 0.02, "high": 0.07}


def noisy(facts: Facts, detail: dict[str, Any], *more: dict[str, Any]) -> Facts:
    """Return the facts with a noise rate of nothing, two estimates that differ, and more statistics."""
    rate = {"check": "label_noise", "name": "noise_rate", "group": None, "value": 0.0, "low": 0.0, "high": 0.005}
    estimates = [
        {**rate, "name": "noise_rate_estimate", "group": f"method={name}", "value": value}
        for name, value in (("pairwise", 0.0), ("confident_counts", 0.123), ("channel", None))
    ]
    others = [one for one in facts.statistics if one["check"] not in {"label_noise", "audit"}]
    return replace(facts, statistics=[*others, {**rate, "detail": json.dumps(detail)}, *estimates, *more])


@pytest.mark.parametrize(
    ("detail", "more", "said"),
    [
        ({"estimates_agree": True}, (), "disagreement: 0.0% (95 % interval 0.0% to 0.5%)."),
        (
            {"estimates_agree": False, "insufficient": "its estimates disagree"},
            (),
            "not known: the estimates disagree (from 0.0% to 12.3%).",
        ),
        ({"insufficient": "it has no estimate"}, (), "not known: it has no estimate."),
        ({"estimates_agree": False}, (AUDITED,), "(audit): 4.0% (95 % interval 2.0% to 7.0%)."),
        (
            {"estimates_agree": True},
            ({**AUDITED, "value": None, "low": None, "high": None},),  # looks without an answer
            "disagreement: 0.0% (95 % interval 0.0% to 0.5%).",
        ),
    ],
)
def test_the_share_of_wrong_labels_is_what_the_run_itself_goes_by(
    facts: Facts, detail: dict[str, Any], more: tuple[dict[str, Any], ...], said: str
) -> None:
    told = noisy(facts, detail, *more)
    (line,) = croissant(told)["rai:dataAnnotationAnalysis"]
    assert line.startswith("Share of wrong given labels")
    assert line.endswith(said)
    for page in (card(told), datasheet(told)):
        assert page.count("Share of wrong given labels") == 1
        assert f"- {line}\n" in page


def test_an_unfit_place_or_word_is_refused(finished: e2e.Finished, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(ConfigError, match="left alone"):
        describe_version(finished.workspace, "pets", out=tmp_path / "mine")
    with pytest.raises(ConfigError, match="--files must be"):
        describe_version(finished.workspace, "pets", out=tmp_path / "out", files="links")
    with pytest.raises(ConfigError, match="No version of 'pest'"):
        describe_version(finished.workspace, "pest", out=tmp_path / "out")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "precious"
    assert not (tmp_path / "out").exists()


def test_about_is_checked_like_the_rest_of_a_spec() -> None:
    assert AboutSpec().said() == {}
    with pytest.raises(ValidationError, match="is after collected_to"):
        AboutSpec(collected_from=dt.date(2026, 2, 1), collected_to=dt.date(2026, 1, 1))
    with pytest.raises(ValidationError):
        AboutSpec(purpose="  ")
    with pytest.raises(ValidationError):
        AboutSpec.model_validate({"porpose": "a typo"})


def test_every_key_of_about_and_of_rai_stands_in_the_page() -> None:
    page = (e2e.ROOT / "docs" / "describe.md").read_text(encoding="utf-8")
    assert [key for key in AboutSpec.model_fields if f"`{key}`" not in page] == []
    assert len(KEYS) == len(set(KEYS)) == 20
