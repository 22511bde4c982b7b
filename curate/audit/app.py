"""The audit in the FiftyOne App: a dataset of its own, so that nothing on it tells what is suspected."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from curate.adapters.mongod import ensure_database
from curate.audit.answers import Answer, read_verdict
from curate.audit.design import Item
from curate.audit.store import Audit
from curate.audit.verbs import Taken, latest_audit, take
from curate.commands import workspace_option
from curate.errors import ConfigError, InputError
from curate.review.app import ADDRESS, AppSession, free_port, url_of
from curate.review.ledger import reviewer_name
from curate.runs import Workspace

MARK = "curate-audit"  # key of dataset.info
PREFIX = "curate-audit-"
TO_JUDGE = "to judge"
ANSWERED = "answered"
TAGS = ("correct", "wrong", "wrong:CLASS", "can't tell")
_TAG_PREFIX = "curate:"


@dataclass(frozen=True)
class Opened:
    """An audit that is open in the App."""

    audit: Audit
    session: AppSession
    options: str = ""  # that the command to go on with needs

    def to_json(self) -> dict[str, Any]:
        """Return it for machines."""
        return {
            "audit": self.audit.design.digest,
            "dataset": self.session.dataset,
            "view": self.session.view,
            "url": self.session.url,
            "n_looks": len(self.audit.design.looks),
        }

    def lines(self) -> list[str]:
        """Return it for people."""
        design = self.audit.design
        return [
            f"{len(design.looks)} looks at {len(design.items)} of {design.n_population:,} labels; the sample is "
            f"recorded (sha256 {design.digest[:16]}…)",
            f"Open {self.session.url}",
            f"Is the label in `given` right? Tag each sample: {', '.join(TAGS)}.",
            f"Ctrl-C ends it; then: curate audit {design.subject['name']} --pull{self.options}",
        ]

    def wait(self) -> None:
        """Block until the browser tab is closed, or Ctrl-C."""
        self.session.wait()


def open_app(workspace: Path, name: str, audit: Audit, *, port: int | None, options: str = "") -> Opened:
    """Open the App on the looks of an audit; `options` are said again with the command that follows.

    Raises:
        ConfigError: the port is taken, or the images of the last run are gone.
    """
    chosen = free_port(port)
    ensure_database(workspace)
    dataset = show(workspace, name, audit)
    import fiftyone as fo  # noqa: PLC0415 - costs seconds to import

    view = dataset.load_saved_view(TO_JUDGE)
    with contextlib.redirect_stdout(sys.stderr):  # it prints while it waits for its server; stdout is the caller's
        session = fo.launch_app(view, remote=True, address=ADDRESS, port=chosen, auto=False)
    url = url_of(dataset, TO_JUDGE, chosen)
    opened = AppSession(dataset.name, TO_JUDGE, url, chosen, session)
    return Opened(audit, opened, options or workspace_option(workspace))


def show(workspace: Path, name: str, audit: Audit) -> Any:  # noqa: ANN401 - a FiftyOne dataset
    """Return the dataset of an audit, made if it is not there; `workspace`'s database is in use.

    A sample is a look: the picture, the given label, and nothing else. What the teachers said comes after the answer.
    """
    import fiftyone as fo  # noqa: PLC0415 - costs seconds to import

    full = f"{PREFIX}{name}-{audit.short_id}"
    if fo.dataset_exists(full):
        return _ours(fo.load_dataset(full), audit)
    items = {item.item: item for item in audit.design.items}
    paths = _paths(workspace, name, list(items.values()))
    dataset = fo.Dataset(f"{full}.unfinished", overwrite=True)
    dataset.info = {MARK: {"audit": audit.design.digest}}
    for field in ("look", "answer", "suggested_label", "was_flagged"):
        dataset.add_sample_field(field, fo.StringField)
    dataset.add_sample_field("order", fo.IntField)
    dataset.add_sample_field("risk", fo.FloatField)
    samples = []
    for number, look in enumerate(audit.design.looks, start=1):
        item = items[look.item]
        sample = fo.Sample(filepath=paths[item.sample_id], look=look.look, order=number)
        sample["given"] = _given(item)
        samples.append(sample)
    dataset.add_samples(samples, progress=False)
    _save_views(dataset)
    dataset.persistent = True
    dataset.name = full
    return dataset


def _ours(dataset: Any, audit: Audit) -> Any:  # noqa: ANN401 - as above
    dataset.reload()
    if (dataset.info or {}).get(MARK, {}).get("audit") != audit.design.digest:
        raise ConfigError(f"The FiftyOne dataset {dataset.name!r} is not this audit's; rename or delete it.")
    return dataset


def _given(item: Item) -> Any:  # noqa: ANN401 - a FiftyOne label
    import fiftyone as fo  # noqa: PLC0415 - as above

    if item.bbox is None:
        return fo.Classification(label=item.given_label)
    return fo.Detections(detections=[fo.Detection(label=item.given_label, bounding_box=list(item.bbox))])


def _paths(workspace: Path, name: str, items: Sequence[Item]) -> Mapping[str, str]:
    from curate.recorded import last_run  # noqa: PLC0415 - only where images are shown

    _, images = last_run(Workspace(workspace, name), needed_for="An audit in the App")
    ids = sorted({item.sample_id for item in items})
    samples = pa.table({"sample_id": ids})
    return dict(zip(ids, map(str, images.paths(samples)), strict=True))


def _save_views(dataset: Any) -> None:  # noqa: ANN401 - as above
    from fiftyone import ViewField as F  # noqa: PLC0415 - its usual name

    unanswered = dataset.match(F("answer") == None).sort_by("order")  # noqa: E711 - an expression
    hidden = unanswered.exclude_fields(["answer", "suggested_label", "was_flagged", "risk"])
    dataset.save_view(TO_JUDGE, hidden, description="labels to judge: tag them correct, wrong or can't tell")
    answered = dataset.match(F("answer") != None).sort_by("order")  # noqa: E711 - an expression
    dataset.save_view(ANSWERED, answered, description="what was answered, and what the teachers say")


def pull_answers(
    workspace: Path,
    name: str,
    *,
    reviewer: str | None,
    ledger_folder: Path,
    target_precision: float | None = None,
) -> Taken:
    """Take in what was answered in the App, and reveal what the teachers said of those labels.

    Raises:
        ConfigError: there is no audit, or it was not opened in the App.
        InputError: the audit on disk is damaged.
    """
    audit = latest_audit(workspace, name)
    ensure_database(workspace)
    import fiftyone as fo  # noqa: PLC0415 - as above

    full = f"{PREFIX}{name}-{audit.short_id}"
    if not fo.dataset_exists(full):
        again = f"curate audit {name}{workspace_option(workspace)}"
        raise ConfigError(f"The audit {audit.short_id} was never opened in the App. Open it: {again}")
    dataset = _ours(fo.load_dataset(full), audit)
    answers, problems = _answers(dataset, audit, reviewer_name(reviewer))
    taken = take(audit, answers, ledger_folder=ledger_folder, target_precision=target_precision)
    _reveal(dataset, taken.result.audit)
    return replace(taken, problems=tuple(problems))


def _answers(dataset: Any, audit: Audit, reviewer: str) -> tuple[list[Answer], list[str]]:  # noqa: ANN401 - as above
    """Return what the tags say, and a sentence for each sample whose tags cannot be understood."""
    items = {item.item: item for item in audit.design.items}
    given = {look.look: items[look.item].given_label for look in audit.design.looks}
    looks, orders, tags = dataset.values(["look", "order", "tags"])
    found, problems = [], []
    for look, order, marks in zip(looks, orders, tags, strict=True):
        try:
            said = {_parse(mark, given[look], f"The tag {mark!r} of sample {order}") for mark in marks or ()} - {
                None
            }
        except InputError as error:
            problems.append(str(error))
            continue
        if len({verdict for verdict, _ in said}) > 1 or len({label for _, label in said if label}) > 1:
            problems.append(f"The tags of sample {order} contradict each other: {', '.join(marks)}.")
        elif said:
            verdict = next(iter(said))[0]
            label = next((label for _, label in said if label), None)
            found.append(Answer(look, verdict, label, reviewer))
    return found, problems


def _parse(tag: str, given: str | None, where: str) -> Any:  # noqa: ANN401 - a pair; None for a tag of the user's own
    word, _, label = tag.removeprefix(_TAG_PREFIX).partition(":")
    try:
        verdict = read_verdict(word, label or None, given, where=where)
    except InputError:
        if label or tag.startswith(_TAG_PREFIX):
            raise
        return None
    return (verdict, label or None) if verdict else None


def _reveal(dataset: Any, audit: Audit) -> None:  # noqa: ANN401 - as above
    items = {item.item: item for item in audit.design.items}
    asked = {look.look: items[look.item] for look in audit.design.looks}
    said = audit.answers
    told: dict[str, dict[str, Any]] = {}
    for look, answer in said.items():
        item = asked[look]
        label = f": {answer.true_label}" if answer.true_label else ""
        told[look] = {
            "answer": f"{answer.verdict}{label}",
            "suggested_label": item.suggested_label,
            "was_flagged": "flagged" if item.flagged else "not flagged",
            "risk": item.risk,
        }
    if not told:
        return
    view = dataset.select_by("look", list(told))
    looks = view.values("look")
    for field in ("answer", "suggested_label", "was_flagged", "risk"):
        view.set_values(field, [told[look][field] for look in looks])
