"""`curate review`: open the App on the suspects, or bring back what was decided there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curate.commands import workspace_option
from curate.review import app
from curate.review.dataset import PREFIX
from curate.review.pull import PullReport
from curate.review.pull import pull as pull_decisions
from curate.review.views import SUSPECTS


@dataclass(frozen=True)
class Opened:
    """An App that is open."""

    session: app.AppSession
    options: str = ""  # that the command to go on with needs

    def to_json(self) -> dict[str, Any]:
        """Return it for machines."""
        return {"dataset": self.session.dataset, "view": self.session.view, "url": self.session.url}

    def lines(self) -> list[str]:
        """Return it for people."""
        return [
            f"Open {self.session.url}",
            "Edit labels, or tag samples curate:accept, curate:reject, curate:drop, curate:relabel:CLASS.",
            f"Ctrl-C ends it; then: curate review {self.session.dataset.removeprefix(PREFIX)} --pull{self.options}",
        ]

    def wait(self) -> None:
        """Block until the browser tab is closed, or Ctrl-C."""
        self.session.wait()


@dataclass(frozen=True)
class Pulled:
    """What a pull brought back."""

    report: PullReport

    def to_json(self) -> dict[str, Any]:
        """Return it for machines."""
        return {
            "n_samples": self.report.n_samples,
            "n_decisions": self.report.decisions.num_rows,
            "decisions": self.report.decisions.to_pylist(),
            "problems": list(self.report.problems),
        }

    def lines(self) -> list[str]:
        """Return it for people."""
        told = [f"{self.report.decisions.num_rows:,} new decisions from {self.report.n_samples:,} samples"]
        for row in self.report.decisions.to_pylist():
            change = f": {row['from_label']} → {row['to_label']}" if row["to_label"] else ""
            told.append(f"  {row['decision']} {row['sample_id']}{change} ({row['reviewer']})")
        told += [f"  problem: {problem}" for problem in self.report.problems]
        return [*told, "The next `curate run` releases accordingly."] if self.report.decisions.num_rows else told


def open_app(workspace: Path, name: str, *, port: int | None, view: str | None) -> Opened:
    """Open the App on a dataset.

    Raises:
        ConfigError: no such dataset or view, or the port is taken.
    """
    session = app.open_app(name, workspace=workspace, port=port, view=view or SUSPECTS)
    return Opened(session, workspace_option(workspace))


def pull(workspace: Path, name: str, *, reviewer: str | None) -> Pulled:
    """Write what reviewers did in the App to the ledger.

    Raises:
        ConfigError: there is no such dataset, or curate did not make it.
    """
    return Pulled(pull_decisions(name, workspace=workspace, reviewer=reviewer))
