"""Soft labels of 1,000 classes, stored whole, as top-k and tail, and sampled: bytes, speed, and what a student learns.

    python benchmarks/soft_labels/run.py [--rows 50000] [--seeds 5] [--samples 5000] [--out results.json]

Bytes and seconds are those of the code that writes versions. The teacher is the exact posterior of a mixture of 1,000
Gaussians in 100 families, so nothing has to be downloaded and what a perfect teacher knows is known; at temperature 2, as
distillation is done, and at 4, where much mass is in the tail. The student is a small network, trained on few samples by
`distillation_loss`; accuracy is over 20,000 fresh ones. Differences to full are paired over seeds, with 95 % t intervals.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from scipy import stats

from curate.feed.loss import distillation_loss
from curate.feed.soft import soft_arrays
from curate.feed.torch_data import tensors
from curate.manifest.soft_layout import Layout, encode, layout_for, sampling_offsets
from curate.manifest.store import _write_parts  # the bytes that a version has, not some like them
from curate.manifest.stream import Cutter

N_CLASSES, N_FAMILIES, DIM, NOISE = 1000, 100, 16, 0.8
LAYOUTS = ("full", "top_k", "sampled")


class World:
    """A mixture of Gaussians: classes of a family lie near one another."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        families = self.rng.normal(0, 1.0, (N_FAMILIES, DIM))
        self.means = np.repeat(families, N_CLASSES // N_FAMILIES, 0) + self.rng.normal(0, 0.45, (N_CLASSES, DIM))

    def draw(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        labels = self.rng.integers(0, N_CLASSES, n)
        return (self.means[labels] + self.rng.normal(0, NOISE, (n, DIM))).astype(np.float32), labels

    def posterior(self, x: np.ndarray, temperature: float) -> np.ndarray:
        distance = (x**2).sum(1)[:, None] - 2 * x @ self.means.T + (self.means**2).sum(1)[None]
        logits = -distance / (2 * NOISE**2) / temperature
        powers = np.exp(logits - logits.max(1, keepdims=True))
        return (powers / powers.sum(1, keepdims=True)).astype(np.float32)


def table_of(probs: np.ndarray, layout: Layout) -> pa.Table:
    offsets = sampling_offsets([f"row {at}" for at in range(len(probs))], 0)
    return pa.table(encode(probs, np.zeros(len(probs), bool), layout, offsets), schema=pa.schema(layout.fields()))


def storage(rows: int, temperature: float) -> list[dict[str, Any]]:
    world = World(0)
    probs = world.posterior(world.draw(rows)[0], temperature)
    found = []
    for name in LAYOUTS:
        started = time.process_time()
        table = table_of(probs, layout_for(N_CLASSES, name))
        encoded = time.process_time() - started
        with tempfile.TemporaryDirectory() as folder:
            started = time.process_time()
            (entry,) = _write_parts(Cutter(table), Path(folder), "soft", None, None)
            written = time.process_time() - started
            started = time.process_time()
            pq.read_table(Path(folder) / "soft")
            read = time.process_time() - started
        found.append(
            {
                "layout": name,
                "bytes_a_row": entry.n_bytes / rows,
                "encode_s": encoded,
                "write_s": written,
                "read_s": read,
            }
        )
    for row in found:
        row["share_of_full"] = row["bytes_a_row"] / found[0]["bytes_a_row"]
        row["share_of_raw_float16"] = row["bytes_a_row"] / (2 * N_CLASSES)
    return found


def accuracy(world: World, data: tuple[np.ndarray, np.ndarray], name: str, temperature: float, seed: int) -> float:
    x, labels = data
    soft: dict[str, torch.Tensor] | None = None
    if name != "hard":
        layout = layout_for(N_CLASSES, name)  # type: ignore[arg-type]
        stored = soft_arrays(table_of(world.posterior(x, temperature), layout), layout, temperature, None)
        soft = tensors(stored.take(slice(None)))
    torch.manual_seed(seed)
    net = torch.nn.Sequential(torch.nn.Linear(DIM, 128), torch.nn.ReLU(), torch.nn.Linear(128, N_CLASSES))
    step = torch.optim.Adam(net.parameters(), lr=3e-3)
    inputs, hard = torch.from_numpy(x), torch.from_numpy(labels)
    for _ in range(12):
        for at in torch.randperm(len(x)).split(250):
            part = None if soft is None else {key: value[at] for key, value in soft.items()}
            loss = distillation_loss(net(inputs[at]), part, hard[at], alpha=0.9 if part else 0.0)
            step.zero_grad()
            loss.backward()
            step.step()
    fresh, truth = World.draw(world, 20_000)
    with torch.no_grad():
        return float((net(torch.from_numpy(fresh)).argmax(1).numpy() == truth).mean())


def students(samples: int, seeds: int, temperature: float) -> list[dict[str, Any]]:
    found: dict[str, list[float]] = {name: [] for name in ("hard", *LAYOUTS)}
    for seed in range(seeds):
        for name, values in found.items():
            world = World(seed)  # the same draws for every arm
            values.append(accuracy(world, world.draw(samples), name, temperature, seed))
    rows = []
    for name, values in found.items():
        differences = np.asarray(values) - np.asarray(found["full"])
        half = 0.0
        if seeds > 1 and name != "full":
            half = float(stats.t.ppf(0.975, seeds - 1) * differences.std(ddof=1) / np.sqrt(seeds))
        mean = float(differences.mean())
        rows.append(
            {
                "arm": name,
                "accuracy": float(np.mean(values)),
                "to_full": mean,
                "low": mean - half,
                "high": mean + half,
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--samples", type=int, default=5_000)
    parser.add_argument("--temperatures", type=float, nargs="+", default=[2.0, 4.0])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    told: dict[str, Any] = {"rows": options.rows, "seeds": options.seeds, "samples": options.samples}
    for temperature in options.temperatures:
        sizes = storage(options.rows, temperature)
        print(f"\nTemperature {temperature:g}, {options.rows:,} rows of {N_CLASSES:,} classes (CPU seconds)\n")
        print("| layout | bytes a row | of full | of raw float16 | encode s | write s | read s |")
        print("| --- | --- | --- | --- | --- | --- | --- |")
        for row in sizes:
            print(
                "| {layout} | {bytes_a_row:.0f} | 1/{inverse:.1f} | {share_of_raw_float16:.3f} | {encode_s:.2f} | "
                "{write_s:.2f} | {read_s:.3f} |".format(inverse=1 / row["share_of_full"], **row)
            )
        learned = students(options.samples, options.seeds, temperature) if options.seeds else []
        if learned:
            print(f"\nStudents of {options.samples:,} samples, {options.seeds} seeds\n")
            print("| trained on | accuracy | difference to full (95 % interval) |\n| --- | --- | --- |")
            for row in learned:
                print("| {arm} | {accuracy:.4f} | {to_full:+.4f} ({low:+.4f} to {high:+.4f}) |".format(**row))
        told[f"temperature {temperature:g}"] = {"storage": sizes, "students": learned}
    if options.out:
        options.out.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
