"""`curate audit`: draw, hand out, take in, conclude."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from curate import runs
from curate.audit import population, store
from curate.audit.answers import Answer
from curate.audit.claims import claims_of
from curate.audit.decisions import decision_rows
from curate.audit.draw import draw
from curate.audit.result import AuditResult, lines, result_of
from curate.audit.sheet import looks_on, read_sheet, write_sheet
from curate.audit.store import Audit
from curate.audit.written_back import is_audited, write_back
from curate.commands import workspace_option
from curate.errors import ConfigError
from curate.manifest.place import Place
from curate.review import ledger


@dataclass(frozen=True, slots=True)
class Taken:
    """What came in: answers that say something new, decisions that they are, what could not be taken, and the result."""

    n_fresh: int
    n_decisions: int
    result: AuditResult
    problems: tuple[str, ...] = ()
    written: str = ""  # into the table that was audited, in a sentence

    def to_json(self) -> dict[str, Any]:
        """Return it for machines."""
        return {
            "n_new_answers": self.n_fresh,
            "n_decisions": self.n_decisions,
            "problems": list(self.problems),
            "written": self.written,
            **self.result.to_json(),
        }

    def lines(self) -> list[str]:
        """Return it for people."""
        told = [f"{self.n_fresh:,} new answers, {self.n_decisions:,} decisions in the ledger"]
        told += [f"  problem: {problem}" for problem in self.problems]
        written = [f"  table          {self.written}"] if self.written else []
        return [*(told if self.n_fresh or self.problems else []), *lines(self.result), *written]


def open_audit(
    workspace: Path,
    name: str,
    *,
    budget: int,
    seed: int = 0,
    target_precision: float | None = None,
    new: bool = False,
    root: Place | None = None,
) -> tuple[Audit, bool]:
    """Return the audit of a dataset that is still open, or draw one; and whether it was drawn now.

    Args:
        workspace: where the dataset is.
        name: NAME, of which the latest version is audited, or NAME@ID.
        budget: looks.
        seed: of the draw.
        target_precision: see `draw.draw`.
        new: draw another one though one is open or done.
        root: where releases are; None = the workspace's own.

    Raises:
        ConfigError: nothing was published, or the latest audit is complete and no new one was asked for.
    """
    from curate.manifest import log  # noqa: PLC0415 - only where a version is read
    from curate.manifest.read import load_release  # noqa: PLC0415 - as above

    plain = name.partition("@")[0]
    place = store.audits_folder(workspace, plain)
    held = store.folders(place)
    if held and not new:
        audit = store.read(held[-1])
        if audit.open_looks:
            return audit, False
        raise ConfigError(
            f"The audit {audit.short_id} of {plain} is complete. See it with: curate audit {plain} --result"
            f"{workspace_option(workspace)}. "
            f"Draw another one with --new."
        )
    from curate.audit.ranking import rest_risk  # noqa: PLC0415 - pulls in SciPy

    release = load_release(log.resolve(root or Path(workspace) / "manifests", name))
    labels = population.of_release(release, rest_risk(runs.Workspace(Path(workspace), plain), release))
    number = int(held[-1].name) + 1 if held else 1
    subject = {"name": plain, "version": release.id, "number": number}
    design, membership = draw(labels, subject=subject, budget=budget, seed=seed, target_precision=target_precision)
    return store.record(place / f"{number:04d}", design, membership), True


def open_table_audit(
    table: Path, sheet: Path, *, budget: int, seed: int = 0, target_precision: float | None = None
) -> tuple[Audit, bool]:
    """Return the audit of a table of flags that belongs to a sheet, or draw one; and whether it was drawn now.

    The design is kept beside the sheet, in `SHEET.audit`.

    Raises:
        ConfigError: no table, or an audit of another table is beside the sheet.
        InputError: the table holds no flags.
    """
    folder = table_folder(sheet)
    if folder.exists():
        audit = store.read(folder)
        if not is_audited(table, audit.design):
            raise ConfigError(f"{folder} holds the audit of another table. Name another sheet with --csv.")
        return audit, False
    flags = population.read_flags(table)
    subject: dict[str, Any] = {"name": table.name, "table_sha256": runs.digest_file(table)}
    partial: tuple[str, ...] = ()
    if "issue" in flags.column_names:
        found = claims_of(flags)
        labels, partial = found.table, found.partial
        subject |= {"things": found.things, "n_unjudged": found.n_unjudged}
    else:
        labels = population.of_flags(flags)
    design, membership = draw(
        labels, subject=subject, budget=budget, seed=seed, target_precision=target_precision, partial=partial
    )
    return store.record(folder, design, membership), True


def table_folder(sheet: Path) -> Path:
    """Return where the design of a table's audit is kept."""
    return sheet.with_name(f"{sheet.name}.audit")


def latest_audit(workspace: Path, name: str) -> Audit:
    """Return the latest audit of a dataset.

    Raises:
        ConfigError: there is none.
    """
    held = store.folders(store.audits_folder(workspace, name))
    if not held:
        again = f"curate audit {name}{workspace_option(workspace)}"
        raise ConfigError(f"There is no audit of {name} in {workspace}. Draw one with: {again}")
    return store.read(held[-1])


def audited_classes(workspace: Path, audit: Audit, root: Place | None = None) -> tuple[str, ...]:
    """Return the classes of the version that is audited; none where it is not there any more."""
    from curate.manifest import log  # noqa: PLC0415 - only where a version is read
    from curate.manifest.read import load_manifest  # noqa: PLC0415 - as above

    subject = audit.design.subject
    try:
        version = log.resolve(root or Path(workspace) / "manifests", f"{subject['name']}@{subject['version']}")
    except ConfigError:
        return ()
    return tuple(load_manifest(version)[0]["classes"])


def hand_out(audit: Audit, sheet: Path) -> None:
    """Write the sheet to fill in."""
    write_sheet(audit.design, sheet)


def take_sheet(
    audit: Audit,
    sheet: Path,
    *,
    reviewer: str | None,
    ledger_folder: Path | None,
    classes: Sequence[str] = (),
    target_precision: float | None = None,
) -> Taken:
    """Take the answers of a sheet in; see `take` and `sheet.read_sheet`."""
    answers = read_sheet(audit.design, sheet, reviewer=ledger.reviewer_name(reviewer), classes=classes)
    return take(audit, answers, ledger_folder=ledger_folder, target_precision=target_precision)


def take_table_sheet(table: Path, sheet: Path, *, reviewer: str | None, target_precision: float | None) -> Taken:
    """Take the answers of a sheet in, and write what they make of the risks into the table that was audited.

    Raises:
        ConfigError: the sheet is of no audit, or the table cannot be written.
    """
    audit = _audit_of_sheet(table, sheet)
    taken = take_sheet(audit, sheet, reviewer=reviewer, ledger_folder=None, target_precision=target_precision)
    return replace(taken, written=write_back(table, taken.result))


def _audit_of_sheet(table: Path, sheet: Path) -> Audit:
    """Return the audit that a sheet is of: its own, else the one beside sheet or table that asked for its looks.

    Raises:
        ConfigError: there is none, or no sheet.
    """
    if table_folder(sheet).is_dir():
        return store.read(table_folder(sheet))
    looks = set(looks_on(sheet))
    places = {place.resolve() for place in (sheet.parent, table.parent)}
    held = sorted({file.parent for place in places for file in place.glob(f"*.audit/{store.DESIGN}")})
    for folder in held:
        audit = store.read(folder)
        if looks and looks <= {look.look for look in audit.design.looks}:
            return audit
    raise ConfigError(
        f"{sheet} is the sheet of no audit whose design is beside it or beside {table}. The design is in "
        "SHEET.csv.audit, where SHEET.csv is what --csv named: put that folder beside the sheet."
    )


def take(
    audit: Audit,
    answers: Sequence[Answer],
    *,
    ledger_folder: Path | None,
    target_precision: float | None = None,
) -> Taken:
    """Append answers to the audit, and what they decide to the ledger of the dataset.

    Args:
        audit: of the dataset or table.
        answers: what people said.
        ledger_folder: None = a table, which has no ledger.
        target_precision: see `result.result_of`.

    Raises:
        InputError: an answer to a look that was never asked for.
    """
    held, fresh = store.append(audit, answers)
    n_decisions = 0
    if ledger_folder is not None:
        rows = decision_rows(held, fresh, ledger.read(ledger_folder).decisions)
        for reviewer in sorted({str(row["reviewer"]) for row in rows}):
            mine = [row for row in rows if row["reviewer"] == reviewer]
            n_decisions += ledger.append(ledger_folder, mine, reviewer=reviewer).num_rows
    return Taken(len(fresh), n_decisions, result_of(held, target_precision=target_precision))
