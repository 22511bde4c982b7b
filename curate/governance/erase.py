"""Erase: take samples out of every version and everything derived, so that they stay out. Begun, it is finished.

The journal is written first; every step may be killed and repeated; the journal goes last, when a look at every file
of the workspace finds nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from itertools import product
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from filelock import FileLock

from curate.adapters.object_store import StorePath
from curate.errors import ConfigError, StageError, VerificationError
from curate.export.record import MARKER
from curate.governance import database, derived
from curate.governance.erased import Erased
from curate.governance.journal import Erasure, journal_file, read_journal, write_journal
from curate.governance.planned import Plan
from curate.governance.secret import ensure_secret, keyed
from curate.governance.successor import successor
from curate.governance.suppression import add_to_suppression, subject_value
from curate.governance.sweep import leftovers
from curate.manifest import log
from curate.manifest.place import Place, remove_file, remove_folder
from curate.manifest.publish import collect_leftovers, publish
from curate.manifest.read import load_release
from curate.manifest.store import MANIFEST
from curate.manifest.tombstone import Tombstone, read_tombstone, write_tombstone
from curate.runs import Listener, Silent, Workspace


def refuse_out_of_reach(plan: Plan, *, reachable_only: bool) -> None:
    """Raise where releases are out of reach and nobody said that the others are to go all the same.

    Raises:
        ConfigError: there are.
    """
    if plan.erasure.out_of_reach and not reachable_only:
        raise ConfigError(
            f"Nothing was erased: an erasure works on folders and stores that can be read and written, and releases "
            f"are also in {'; '.join(plan.erasure.out_of_reach)}. Bring them in reach (mount the folder and name it: "
            f"--manifests DIR; give the store's credentials in the environment), or erase from the rest and see to "
            f"those yourself: --reachable-only."
        )


def erase(root: Path, plan: Plan, *, reachable_only: bool = False, listener: Listener | None = None) -> Erased:
    """Do what a plan says; killed at any moment, `resume_erasure` finishes it.

    Args:
        root: the workspace.
        plan: what goes.
        reachable_only: go on though releases are in places that cannot be reached.
        listener: hears of steps.

    Raises:
        ConfigError: another erasure was begun and not finished, or releases are out of reach.
        StageError: a version cannot be published or the database cannot be rebuilt; resume when the cause is gone.
    """
    refuse_out_of_reach(plan, reachable_only=reachable_only)
    root = root.resolve()
    with _lock(root):
        if journal_file(root).exists():
            raise ConfigError(f"An erasure in {root} was begun and not finished: curate erase --resume")
        ensure_secret(root)
        write_journal(root, plan.erasure)
        return _finish(root, plan.erasure, listener or Silent())


def resume_erasure(root: Path, *, listener: Listener | None = None) -> Erased:
    """Finish an erasure that was begun.

    Raises:
        ConfigError: there is none.
        StageError: as for `erase`.
    """
    root = root.resolve()
    with _lock(root):
        erasure = read_journal(root)
        if erasure is None:
            raise ConfigError(f"No erasure in {root} waits to be finished.")
        return _finish(root, erasure, listener or Silent())


def _lock(root: Path) -> FileLock:
    (root / "erasure").mkdir(parents=True, exist_ok=True)
    return FileLock(root / "erasure" / ".lock")


def _finish(root: Path, erasure: Erasure, listener: Listener) -> Erased:
    for place in erasure.places:
        if isinstance(place, Path) and not place.is_dir():
            raise StageError(f"Releases in {place} were to be erased from, and it is not there any more. Mount it.")
    for name, step in _steps(root, erasure):
        began_s = time.monotonic()
        listener.stage_started(name)
        step()
        listener.stage_done(name, time.monotonic() - began_s, cached=False, note="")
    began_s = time.monotonic()
    listener.stage_started("last look")
    n_swept, left = _sweep(root, erasure)
    note = f"{len(left)} files of others still name it" if left else "nothing is left"
    listener.stage_done("last look", time.monotonic() - began_s, cached=False, note=note)
    heirs = {
        name: {one: _heir(erasure.releases(root), name, one) for one in ids}
        for name, ids in erasure.versions.items()
    }
    again = {
        name: sorted({heir for one in ids if (heir := heirs[name][one])}) for name, ids in erasure.signed.items()
    }
    journal_file(root).unlink()
    return Erased(
        n_samples=len(erasure.sample_ids),
        successors=heirs,
        n_swept_files=n_swept,
        left=tuple(left),
        sign_again=again,
        out_of_reach=tuple(erasure.out_of_reach),
        n_places=len(erasure.elsewhere),
    )


def _steps(root: Path, erasure: Erasure) -> list[tuple[str, Callable[[], object]]]:
    """Return what is done, by name and in order: each step may be repeated, and needs those before it."""
    secret = ensure_secret(root)
    places = [Workspace(root, name) for name in erasure.datasets]
    listed = [("sample", one) for one in erasure.sample_ids] + [("content", one) for one in erasure.content_sha256]
    if erasure.subject is not None:
        listed += [("subject", subject_value(source, erasure.subject)) for source in erasure.sources]
    return [
        ("suppress", lambda: add_to_suppression(root, listed)),
        ("successors", lambda: _successors(root, erasure, secret)),
        ("old versions", lambda: _delete_versions(root, erasure)),
        ("ledger", lambda: [derived.clear_ledger(place, erasure, secret) for place in places]),
        ("stages", lambda: [derived.clear_stages(place) for place in places]),
        ("features", lambda: [derived.clear_features(place, erasure) for place in places]),
        ("scan", lambda: [derived.clear_scan(place, erasure) for place in places]),
        ("ingest", lambda: [derived.clear_ingest(place, erasure) for place in places]),
        ("media", lambda: [derived.clear_media(place, erasure) for place in places]),
        ("reports", lambda: [derived.clear_reports(place) for place in places]),
        ("audits", lambda: [derived.clear_audits(place, erasure) for place in places]),
        ("runs", lambda: [derived.clear_runs(place, erasure) for place in places]),
        ("database", lambda: database.clear_database(root, erasure)),
    ]


def _successors(root: Path, erasure: Erasure, secret: bytes) -> None:
    wanted, traces = pa.array(list(erasure.sample_ids), pa.string()), erasure.traces
    for manifests, (name, ids) in product(erasure.releases(root), erasure.versions.items()):
        base = log.release_folder(manifests, name)
        logged = {entry.id for entry in log.read_log(manifests, name)}
        for version_id in ids:
            if read_tombstone(base, version_id) is not None or not (base / "versions" / version_id).is_dir():
                continue  # done before, or in another place
            version = load_release(base / "versions" / version_id)
            release = successor(version, wanted, traces)
            heir = publish(release, manifests, name, succeeds=version_id).id if version_id in logged else None
            held = [
                table["sample_id"].filter(pc.is_in(table["sample_id"], value_set=wanted))
                for table in (version.data, version.excluded)
            ]
            gone = sorted({one for column in held for one in column.to_pylist()})
            n_after = release.data.num_rows + release.excluded.num_rows
            write_tombstone(
                base,
                Tombstone(
                    id=version_id,
                    successor=heir,
                    at=erasure.at,
                    why=erasure.why,
                    n_samples=len(gone),
                    n_rows=version.data.num_rows + version.excluded.num_rows - n_after,
                    hashes=sorted(keyed(secret, "sample", one) for one in gone),
                ),
            )


def _delete_versions(root: Path, erasure: Erasure) -> None:
    """Delete the data of tombstoned versions, their attestations, and copies of damaged or unfinished ones."""
    for manifests, (name, ids) in product(erasure.releases(root), erasure.versions.items()):
        base = log.release_folder(manifests, name)
        if not base.is_dir():
            continue
        for version_id in ids:
            version = base / "versions" / version_id
            remove_file(version / MANIFEST)  # first: half a version must not look like one
            for folder in (version, base / "attestations" / version_id):
                remove_folder(folder)
        remove_folder(base / "damaged")
        # nobody publishes meanwhile: what lies there without a manifest is nobody's, however young
        now = {"dead_after": timedelta(0)} if isinstance(base, StorePath) else {}
        collect_leftovers(manifests, name, **now)


def _heir(releases: Sequence[Place], name: str, version_id: str) -> str | None:
    """Return the ID in the place of a version; it is the same wherever the version was published."""
    stones = [read_tombstone(log.release_folder(manifests, name), version_id) for manifests in releases]
    return next((stone.successor for stone in stones if stone and stone.successor), None)


def _sweep(root: Path, erasure: Erasure) -> tuple[int, list[Place]]:
    """Delete derived files that the steps did not know of; return how many, and what else still names something.

    Only a dataset's own folder holds what is derived. Sources, exports and files of others are left as they are.

    Raises:
        VerificationError: a file of a release still names something; the journal stays.
    """
    n_swept, left = 0, list[Place]()
    own = [root / name for name in erasure.datasets]
    media = [place / "media" for place in own]
    sources = [one for one in map(Path, erasure.roots) if one.is_relative_to(root) and one not in (root, *media)]
    for part in root.rglob(".*.part"):  # what a killed writer left beside its place
        if not any(map(part.is_relative_to, sources)):
            part.unlink(missing_ok=True)
    for file, of_release in leftovers(root, erasure):
        if of_release or not isinstance(file, Path):
            raise VerificationError(
                f"{file} still names what was to be erased. Run curate erase --resume; if it stays, delete the file."
            )
        is_derived = any(map(file.is_relative_to, own)) and not any(map(file.is_relative_to, sources))
        if is_derived and not _is_export(file, root):
            file.unlink()
            n_swept += 1
        else:
            left.append(file)
    return n_swept, left


def _is_export(file: Path, root: Path) -> bool:
    return any((folder / MARKER).is_file() for folder in file.parents if folder.is_relative_to(root))
