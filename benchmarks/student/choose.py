"""Which policy: candidates side by side on one kind of noise, before anything is confirmed on another.

    python benchmarks/student/choose.py DATA.parquet --out results --noise human human:0.4 [--seeds 3]

Test images are not those of `run.py` with its defaults, and seeds are others. Each candidate is a target for each row,
made of the teachers' soft label q, the given label y, and what curate says: whether y is flagged, which class it suggests
and how sure that is, and p = p(true class | teachers, y) under the fitted noise channel.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from arms import Arm, cleanlab_issues
from curated import Curated, curated
from student import BATCH, measured, train
from world import Task, noisy, read_task

from curate.teachers.calibration import at_temperature
from curate.teachers.disagreement import fit_flags
from curate.teachers.mixture import posterior
from curate.teachers.pool import log_pool, log_probs
from curate.teachers.sampling import order_keys
from curate.teachers.scoring import score_flags

FIRST_SEED = 100
BASE = "soft labels only"


def candidates(task: Task, made: Curated) -> Mapping[str, Arm]:
    """Return every candidate, and the rivals that it is held against."""
    given, q = made.given, made.soft
    one_hot = np.eye(len(task.classes))
    names = [f"teacher {at}" for at in range(made.teachers.shape[1])]
    model = fit_flags(given, names, made.teachers, features=dict.fromkeys(names, "the same"))
    answered = np.isfinite(made.teachers).all(axis=2)
    kept = [names.index(name) for name in model.names]
    logs = log_probs(np.nan_to_num(made.teachers[:, kept], nan=1.0 / len(task.classes)))
    log_q = log_pool(logs, answered[:, kept], model.channel_weights)
    p = posterior(log_q, given, model.transition)
    scores = score_flags(model, given, names, list(made.teachers.transpose(1, 0, 2)))
    flagged, suggested, sure = scores.flagged, scores.suggested, scores.suggested_prob
    best = np.where(flagged, suggested, given)
    held = flagged & (sure < 0.95)
    right = ~flagged | (sure >= 0.95)

    def mixed(hard: np.ndarray, share: np.ndarray | float, soft: np.ndarray = q) -> np.ndarray:
        part = np.broadcast_to(share, len(given))[:, None]
        return part * one_hot[hard] + (1 - part) * soft

    def arm(target: np.ndarray, keep: np.ndarray | None = None) -> Arm:
        at = np.flatnonzero(np.ones(len(given), dtype=bool) if keep is None else keep)
        return Arm(made.rows[at], np.full(len(at), -1), None, target[at], {"alpha": 1.0})

    keys = order_keys(None, len(given))
    sure_q = at_temperature(q, given, np.isfinite(q).all(axis=1), keys).probs
    sure_ratio = sure_q[np.arange(len(given)), given] / sure_q.max(axis=1)
    sharp = q**1.5 / (q**1.5).sum(axis=1, keepdims=True)
    ratio = q[np.arange(len(given)), given] / q.max(axis=1)
    wrong = cleanlab_issues(given, made.teachers)
    return {
        BASE: arm(q),
        "pruned by cleanlab": Arm(made.rows[~wrong], given[~wrong]),
        "relabeled and half soft, unsure held back": arm(mixed(best, 0.5), ~held),
        "relabeled and half soft": arm(mixed(best, 0.5)),
        "unflagged half soft, flagged soft": arm(mixed(given, 0.5 * ~flagged)),
        "sure ones half soft, unsure soft": arm(mixed(best, 0.5 * right)),
        "sure ones quarter hard, unsure soft": arm(mixed(best, 0.25 * right)),
        "half by ratio": arm(mixed(given, 0.5 * ratio)),
        "three quarters by ratio": arm(mixed(given, 0.75 * ratio)),
        "all by ratio": arm(mixed(given, ratio)),
        "three quarters by ratio, sharper": arm(mixed(given, 0.75 * ratio, sharp)),
        "soft labels only, sharper": arm(sharp),
        "soft labels only, calibrated": arm(sure_q),
        "half by ratio, calibrated": arm(mixed(given, 0.5 * sure_ratio, sure_q)),
        "half by calibrated ratio": arm(mixed(given, 0.5 * sure_ratio)),
        "three quarters by calibrated ratio": arm(mixed(given, 0.75 * sure_ratio)),
        "half by ratio, calibrated labels": arm(mixed(given, 0.5 * ratio, sure_q)),
        "three quarters by ratio, calibrated": arm(mixed(given, 0.75 * sure_ratio, sure_q)),
        "half where teachers agree": arm(mixed(given, 0.5 * (ratio == 1))),
        "half posterior, half soft": arm(0.5 * p + 0.5 * q),
        "posterior": arm(p),
        "pool under the channel": arm(np.exp(log_q)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--workspace", type=Path)
    parser.add_argument("--noise", nargs="+", default=["human", "human:0.4"])
    parser.add_argument("--features", default="efficientnet-lite0", help="of the teachers, which are probes")
    parser.add_argument("--only", nargs="*", help="candidates; default all")
    for name, value in (
        ("seeds", 3),
        ("train", 5000),
        ("test", 4000),
        ("pool", 10_000),
        ("epochs", 14),
        ("width", 32),
    ):
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args()
    torch.set_num_threads(1)
    task = read_task(options.data, n_test=options.test, skip_test=options.test, n_pool=options.pool)
    found: dict[str, dict[str, list[list[int]]]] = {}
    for seed in range(FIRST_SEED, FIRST_SEED + options.seeds):
        rows = np.sort(np.random.default_rng([seed, 3]).permutation(task.pool)[: options.train])
        for noise in options.noise:
            folder = options.out / "runs" / f"{noise.replace(':', '-')}-{seed}"
            made = curated(
                task, noisy(task, noise, seed), rows, folder, options.workspace or options.out / "workspace",
                {"teachers": [{"kind": "probes", "features": options.features}]},
            )  # fmt: skip
            for name, arm in candidates(task, made).items():
                if options.only and name not in {*options.only, BASE}:
                    continue
                path = folder / f"{name}.json"
                if not path.is_file():
                    net = train(
                        task, arm, seed, n_steps=options.epochs * -(-options.train // BATCH), width=options.width
                    )
                    path.write_text(json.dumps(measured(net, task, ("as they are",))), encoding="utf-8")
                cell = json.loads(path.read_text(encoding="utf-8"))
                hits = [int(hit) for hit in cell["right"]["as they are"]]
                found.setdefault(noise, {}).setdefault(name, []).append(hits)
                print(f"{seed} {noise} {name}: {np.mean(hits):.4f} ECE {cell['ece']:.3f}", flush=True)
    print("\n" + as_markdown(found))
    (options.out / "choice.md").write_text(as_markdown(found), encoding="utf-8")


def as_markdown(found: Mapping[str, Mapping[str, list[list[int]]]]) -> str:
    """Return accuracy and the difference to soft labels only, by candidate and noise."""
    names = list(dict.fromkeys(name for cells in found.values() for name in cells))
    lines = [f"| target | {' | '.join(found)} |", "| --- " * (1 + len(found)) + "|"]
    for name in names:
        told = []
        for cells in found.values():
            mine, base = (np.asarray(cells[which], dtype=float).mean(axis=1) for which in (name, BASE))
            error = (mine - base).std(ddof=1) / np.sqrt(len(mine)) if len(mine) > 1 else float("nan")
            told.append(f"{100 * mine.mean():.2f} ({100 * (mine - base).mean():+.2f} ± {100 * error:.2f})")
        lines.append(f"| {name} | {' | '.join(told)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
