"""Verbs on the life of versions: back to an earlier one, retracted, named, signed, used, looked for, cleaned up."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from curate.cli.terminal import (
    JsonOption,
    ManifestsOption,
    QuietOption,
    WorkspaceOption,
    place_of,
    releases_at,
    terminal_for,
)

VersionArgument = Annotated[str, typer.Argument(help="NAME@vN, NAME@ID or NAME@TAG")]
WhyOption = Annotated[str, typer.Option("--why", help="The reason; it stands in the log.")]
SHORT_ID = 7


def rollback(
    version: VersionArgument,
    why: WhyOption = "",
    workspace: WorkspaceOption = None,
    manifests: ManifestsOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Make an earlier version the latest again, by a new entry of the log."""
    from curate.manifest import life  # noqa: PLC0415 - pulls in pyarrow

    terminal = terminal_for(as_json, quiet)
    entry, version_id = life.rollback(releases_at(workspace, manifests), version, why=why)
    told = "is the latest now" if entry else "was the latest already; nothing was written"
    terminal.tell(
        {"id": version_id, "is_new": entry is not None}, lambda: [f"{version} ({version_id[:SHORT_ID]}) {told}"]
    )


def retract(
    version: VersionArgument,
    why: WhyOption,
    workspace: WorkspaceOption = None,
    manifests: ManifestsOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Say that a version must not be used: it is never the latest, and feed and export refuse it."""
    from curate.manifest import life, log  # noqa: PLC0415 - pulls in pyarrow
    from curate.manifest.used import read_uses  # noqa: PLC0415 - as above

    terminal = terminal_for(as_json, quiet)
    root, name = releases_at(workspace, manifests), version.partition("@")[0]
    entry, version_id = life.retract(root, version, why=why)
    head = log.latest(log.read_log(root, name))
    told = f"{version} ({version_id[:SHORT_ID]}) {'is retracted' if entry else 'was retracted before'}"
    latest = f"the latest is {head.id[:SHORT_ID]}" if head else "no version is left that could be the latest"
    runs = [use.by for use in read_uses(root, name, version_id)]
    users = [f"Tell those who used it: {', '.join(runs)}"] if runs else []
    result = {"id": version_id, "is_new": entry is not None, "latest": head.id if head else None, "used_by": runs}
    terminal.tell(result, lambda: [f"{told}; {latest}", *users])


def tag(
    version: Annotated[str, typer.Argument(help="NAME, NAME@vN, NAME@ID or NAME@TAG")],
    word: Annotated[str, typer.Argument(metavar="TAG", help="NAME@TAG then means this version")],
    move: Annotated[bool, typer.Option("--move", help="Even if another version has that tag.")] = False,
    why: WhyOption = "",
    workspace: WorkspaceOption = None,
    manifests: ManifestsOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Give a version a name."""
    from curate.manifest import life  # noqa: PLC0415 - pulls in pyarrow

    terminal = terminal_for(as_json, quiet)
    entry, version_id = life.tag(releases_at(workspace, manifests), version, word, move=move, why=why)
    told = "is" if entry else "was already"
    name = version.partition("@")[0]
    terminal.tell(
        {"id": version_id, "tag": word, "is_new": entry is not None},
        lambda: [f"{name}@{word} {told} {version_id[:SHORT_ID]}"],
    )


def used(
    version: Annotated[str, typer.Argument(help="NAME, NAME@vN, NAME@ID or NAME@TAG")],
    by: Annotated[
        str | None, typer.Option("--by", help="Record a training run: an id, a URL, a commit. Without: list.")
    ] = None,
    workspace: WorkspaceOption = None,
    manifests: ManifestsOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """List the training runs that used a version; --by records one."""
    from curate.manifest import log  # noqa: PLC0415 - pulls in pyarrow
    from curate.manifest.used import read_uses, record_use  # noqa: PLC0415 - as above

    terminal = terminal_for(as_json, quiet)
    root, name = releases_at(workspace, manifests), version.partition("@")[0]
    version_id = log.version_id_of(log.read_log(root, name), root, name, version.partition("@")[2])
    if by is not None:
        record_use(root, name, version_id, by)
    found = read_uses(root, name, version_id)
    result = {"id": version_id, "uses": [asdict(use) for use in found]}
    lines = [f"{use.at}  {use.by}" for use in found] or ["Nobody said that a run used it."]
    terminal.tell(result, lambda: [f"{name} {version_id[:SHORT_ID]}", *(f"  {line}" for line in lines)])


def where(
    image: Annotated[
        str | None, typer.Argument(help="Path in the release, image file, sample id or sha256 of the bytes")
    ] = None,
    subject: Annotated[
        str | None, typer.Option("--subject", help="Look for a subject instead of an image.")
    ] = None,
    name: Annotated[list[str] | None, typer.Option("--name", help="Only this release. Default: all.")] = None,
    workspace: WorkspaceOption = None,
    manifests: ManifestsOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Say which versions hold an image or a subject; exit code 2: no such path, 5: one could not be looked into."""
    from curate.errors import ConfigError, ExitCode  # noqa: PLC0415 - beside the next
    from curate.manifest import where as looking  # noqa: PLC0415 - pulls in pyarrow

    if (image is None) == (subject is None):
        raise ConfigError("where needs an image (path, file, sample id or sha256) or --subject S, one of the two.")
    terminal = terminal_for(as_json, quiet)
    tables: dict[str, int] = {}
    if subject is not None:
        wanted, tables["n_tables"] = looking.wanted_subject(subject, place_of(workspace))
    else:
        wanted = looking.wanted_image(image or "")
    found = looking.holding(releases_at(workspace, manifests), wanted, name) | tables
    terminal.tell(found, lambda: looking.holding_lines(found))
    if found["unread"]:  # what nobody could look into is no "not there"
        raise typer.Exit(ExitCode.VERIFICATION)
    if (
        not found["versions"] and wanted.is_only_a_path
    ):  # a misspelt name; of bytes, ids and subjects it is the answer
        raise typer.Exit(ExitCode.USAGE)


def sign(
    version: Annotated[str, typer.Argument(help="NAME, NAME@vN, NAME@ID or NAME@TAG")],
    key: Annotated[Path, typer.Option("--key", help="Private ed25519 key in PEM: curate keys new")],
    workspace: WorkspaceOption = None,
    manifests: ManifestsOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Sign a version: verified first, the signature is kept beside it."""
    from curate.manifest import verbs  # noqa: PLC0415 - pulls in pyarrow

    terminal = terminal_for(as_json, quiet)
    signed = verbs.sign_version(releases_at(workspace, manifests), version, key)
    told = "signed" if signed["is_new"] else "was signed by this key before"
    terminal.tell(
        signed,
        lambda: [
            f"{version} ({signed['id'][:SHORT_ID]}) {told}, key {signed['key_id'][:16]} → {signed['signature']}"
        ],
    )


def gc(
    name: Annotated[str | None, typer.Argument(help="Name of a release. Default: all")] = None,
    workspace: WorkspaceOption = None,
    manifests: ManifestsOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Remove what killed publications left; versions and publishers at work are not touched."""
    from curate.manifest import verbs  # noqa: PLC0415 - pulls in pyarrow

    terminal = terminal_for(as_json, quiet)
    root = releases_at(workspace, manifests)
    removed = verbs.collect(root, name)
    lines = [f"{one}/{path}" for one, paths in removed.items() for path in paths]
    unlisted = verbs.unlisted(root, name)
    kept = [
        f"{one}/versions/{found} is in no log. If no publisher is at work, the same `curate run SPEC` lists it."
        for one, ids in unlisted.items()
        for found in ids
    ]
    terminal.tell(
        {"removed": removed, "unlisted": unlisted}, lambda: [*lines, f"{len(lines)} leftovers removed", *kept]
    )


def keys_new(
    out: Annotated[Path, typer.Option("--out", help="File for the private key; FILE.pub gets the public one")],
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Make an ed25519 key pair for curate sign."""
    from curate.manifest.signatures import new_keys  # noqa: PLC0415 - pulls in pyarrow

    terminal = terminal_for(as_json, quiet)
    private, public, key_id = new_keys(out)
    told = {"private": str(private), "public": str(public), "key_id": key_id}
    terminal.tell(told, lambda: [f"private → {private}  keep it secret", f"public  → {public}  give it away"])
