"""Image quality by the measures of the scan: dark, bright, blurry, blank, gray, odd in size or shape, unreadable.

The cuts are those of CleanVision 0.3 (`dark`, `light`, `blurry`, `low_information`, `grayscale`, `odd_size`,
`odd_aspect_ratio`), so that the same images are flagged, but for these, each on purpose:

- `low_information`: one cut for the entropy of the luma. CleanVision takes the entropy of all channels' histogram
  together, which for the same gray picture is log2(3) bits higher when it is stored as RGB.
- `gray`: by the pixels, not by the file's mode: gray pictures stored as RGB count. Where more than half of the
  images are gray, gray is the norm there and nothing is flagged (CleanVision hides issues of such a prevalence).
- sizes and aspects are those of the upright image; percentiles of large images come from an even grid of pixels.

An image without an issue gives no finding: its measures stand in the scan.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.check import Batches, Check, build_findings, build_statistics
from curate.statistics.intervals import wilson

NAME = "image_quality"
NEEDS = (
    "sample_id",
    "error_code",
    "error_args",
    "width_px",
    "height_px",
    "brightness_p05",
    "brightness_p99",
    "blur_laplacian_std",
    "blur_luma_std",
    "entropy_bits",
    "colorfulness",
)
ISSUES = ("dark", "bright", "blurry", "low_information", "gray", "odd_size", "odd_aspect", "blank")

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ImageQualityParams:
    """Where the check's own cut lies; an image beyond it is flagged and its risk is at least 0.5.

    Attributes:
        dark_max: 99th percentile of brightness below which an image is dark.
        bright_min: 5th percentile of brightness above which it is bright.
        blurry_max: sharpness score below which it is blurry, see `sharpness_score`.
        flat_min: concentration score above which few edges are no sign of blur.
        low_information_bits: entropy of the luma below which it shows next to nothing.
        gray_colorfulness: colourfulness up to which it is gray.
        gray_norm_share: share of gray images above which gray is the norm and not flagged.
        odd_size_iqr: interquartile ranges beyond the quartiles of sqrt(width * height) at which a size is odd.
        odd_aspect_max: shorter by longer side, below which the shape is odd.
        blank_bits: entropy up to which an image of hardly any range of brightness is blank.
    """

    dark_max: float = 0.32
    bright_min: float = 0.95
    blurry_max: float = 0.29
    flat_min: float = 0.18
    low_information_bits: float = 3.0 - math.log2(3.0)
    gray_colorfulness: float = 1.0
    gray_norm_share: float = 0.5
    odd_size_iqr: float = 3.0
    odd_aspect_max: float = 0.35
    blank_bits: float = 0.1


@dataclass(frozen=True, slots=True)
class ImageQualityState:
    """What is relative to the dataset, and what was counted: of `n` images `n_readable` could be measured."""

    n: int
    n_readable: int
    size_low_px: float
    size_high_px: float
    gray_is_norm: bool
    n_flagged: dict[str, int]


def sharpness_score(edge_std: Floats, histogram_std: Floats, flat_min: float) -> Floats:
    """Return CleanVision's sharpness in [0, 1]: 1 - exp(-edges / 100), plus the like of the histogram if flat.

    Args:
        edge_std: `blur_laplacian_std`, shape (N,).
        histogram_std: `blur_luma_std`, shape (N,): high where few gray values hold most pixels.
        flat_min: the histogram's part counts above this.
    """
    edges = -np.expm1(-edge_std / 100.0)
    flat = -np.expm1(-histogram_std / 100.0)
    return np.asarray(np.minimum(edges + np.where(flat > flat_min, flat, 0.0), 1.0))


def fit(batches: Batches, params: ImageQualityParams) -> ImageQualityState:
    """Learn the usual size and whether gray is the norm, and count; one pass, 8 bytes an image in memory."""
    n = 0
    counts = dict.fromkeys(ISSUES, 0)
    sizes: list[Floats] = [np.empty(0)]
    for batch in batches:
        n += batch.num_rows
        readable = batch.filter(pc.is_null(batch["error_code"]))
        sizes.append(_size_px(readable))
        for issue, risk in _absolute(readable, params).items():
            counts[issue] += int((risk > 0).sum())
    size = np.concatenate(sizes)
    known = np.sort(size[np.isfinite(size)])
    low, high = _usual_sizes(known, params.odd_size_iqr)
    counts["odd_size"] = int(((known < low) | (known > high)).sum())
    gray_is_norm = counts["gray"] > params.gray_norm_share * len(size)
    if gray_is_norm:
        counts["gray"] = 0
    return ImageQualityState(n, len(size), low, high, gray_is_norm, counts)


def score(batch: pa.RecordBatch, state: ImageQualityState, params: ImageQualityParams) -> pa.Table:
    """Return a finding for each image and issue that the cuts flag, and one for each unreadable image."""
    unreadable = batch.filter(pc.is_valid(batch["error_code"]))
    rows = [
        {
            "issue": "unreadable",
            "sample_id": sample_id,
            "risk": 1.0,
            "flagged": True,
            "reason_code": code,
            "reason_args": json.loads(args) if args else {},
        }
        for sample_id, code, args in zip(
            *(unreadable[name].to_pylist() for name in ("sample_id", "error_code", "error_args")), strict=True
        )
    ]
    readable = batch.filter(pc.is_null(batch["error_code"]))
    risks = _absolute(readable, params) | {"odd_size": _odd_size(_size_px(readable), state)}
    if state.gray_is_norm:
        del risks["gray"]
    ids = readable["sample_id"]
    rows += [
        {
            "issue": issue,
            "sample_id": ids[int(index)].as_py(),
            "risk": float(risk[index]),
            "flagged": True,
            "reason_code": _REASONS[issue],
            "reason_args": _args(issue, readable, int(index), state, params),
        }
        for issue, risk in risks.items()
        for index in np.flatnonzero(risk > 0)
    ]
    return build_findings(NAME, rows)


def summarize(state: ImageQualityState, params: ImageQualityParams) -> pa.Table:
    """Return `share_<issue>` of the readable images, and `share_unreadable` of all, with Wilson intervals."""
    hits = {"unreadable": (state.n - state.n_readable, state.n)}
    hits |= {issue: (state.n_flagged[issue], state.n_readable) for issue in ISSUES}
    rows = []
    for issue, (n_hits, n) in hits.items():
        if n == 0:
            rows.append({"name": f"share_{issue}", "n": 0, "outcome": "insufficient data"})
            continue
        low, high = wilson(n_hits, n)
        detail: dict[str, Any] = {"n_flagged": n_hits, "method": "Wilson interval"}
        if issue == "gray":
            detail["gray_is_norm"] = state.gray_is_norm
        if issue == "odd_size":
            detail |= {"usual_px": [_rounded(state.size_low_px), _rounded(state.size_high_px)]}
            detail["iqr_factor"] = params.odd_size_iqr
        rows.append(
            {"name": f"share_{issue}", "value": n_hits / n, "low": low, "high": high, "n": n, "detail": detail}
        )
    return build_statistics(NAME, rows)


def _absolute(batch: pa.RecordBatch, params: ImageQualityParams) -> dict[str, Floats]:
    """Return issue -> risk of what needs no other image; 0 where the cut does not flag it."""
    dark, bright = _column(batch, "brightness_p99"), _column(batch, "brightness_p05")
    entropy, color = _column(batch, "entropy_bits"), _column(batch, "colorfulness")
    sharp = sharpness_score(_column(batch, "blur_laplacian_std"), _column(batch, "blur_luma_std"), params.flat_min)
    blank = (entropy <= params.blank_bits) & (dark - bright <= 0.02)
    return {
        "dark": _below(dark, params.dark_max),
        "bright": _below(1.0 - bright, 1.0 - params.bright_min),
        "blurry": _below(sharp, params.blurry_max),
        "low_information": _below(entropy, params.low_information_bits),
        "gray": np.where(color <= params.gray_colorfulness, 0.5, 0.0),
        "odd_aspect": _below(_aspect(batch), params.odd_aspect_max),
        "blank": np.where(blank, 1.0, 0.0),
    }


def _below(measure: Floats, cut: float) -> Floats:
    """Return 0 from `cut` upward; below it the risk rises from 0.5 at the cut to 1 at 0. Unknown is 0."""
    flagged = measure < cut  # NaN compares false
    depth = np.clip((cut - np.where(flagged, measure, cut)) / max(cut, 1e-12), 0.0, 1.0)
    return np.where(flagged, 0.5 + 0.5 * depth, 0.0)


def _odd_size(size_px: Floats, state: ImageQualityState) -> Floats:
    """Return the risk of an unusual size: 0.5 at the bound, towards 1 with the ratio to it."""
    flagged = (size_px < state.size_low_px) | (size_px > state.size_high_px)
    bound = np.where(size_px < state.size_low_px, state.size_low_px, state.size_high_px)
    ratio = np.minimum(size_px, bound) / np.maximum(np.maximum(size_px, bound), 1e-12)
    return np.where(flagged, 1.0 - 0.5 * ratio, 0.0)


def _usual_sizes(sorted_px: Floats, iqr_factor: float) -> tuple[float, float]:
    """Return the bounds of usual sizes: the quartiles widened by `iqr_factor` ranges; Tukey's fences."""
    if not len(sorted_px):
        return 0.0, math.inf
    first, third = np.percentile(sorted_px, [25, 75])
    reach = iqr_factor * (third - first)
    return float(first - reach), float(third + reach)


def _column(batch: pa.RecordBatch, name: str) -> Floats:
    values = batch[name].cast(pa.float64())
    return np.asarray(values.to_numpy(zero_copy_only=False), dtype=np.float64)  # null becomes NaN


def _size_px(batch: pa.RecordBatch) -> Floats:
    return np.asarray(np.sqrt(_column(batch, "width_px")) * np.sqrt(_column(batch, "height_px")))


def _aspect(batch: pa.RecordBatch) -> Floats:
    width, height = _column(batch, "width_px"), _column(batch, "height_px")
    return np.asarray(np.minimum(width, height) / np.maximum(np.maximum(width, height), 1.0))


def _args(
    issue: str, batch: pa.RecordBatch, index: int, state: ImageQualityState, params: ImageQualityParams
) -> dict[str, Any]:
    def value(column: str) -> float:
        return _rounded(batch[column][index].as_py())

    if issue in ("odd_size", "odd_aspect"):
        size = {"width_px": batch["width_px"][index].as_py(), "height_px": batch["height_px"][index].as_py()}
        if issue == "odd_aspect":
            return size | {"cut": params.odd_aspect_max}
        return size | {"low_px": _rounded(state.size_low_px), "high_px": _rounded(state.size_high_px)}
    if issue == "blurry":  # on the scale of its cut
        edges, histogram = (_column(batch.slice(index, 1), f"blur_{name}_std") for name in ("laplacian", "luma"))
        sharp = float(sharpness_score(edges, histogram, params.flat_min)[0])
        return {"measured": _rounded(sharp), "cut": _rounded(params.blurry_max)}
    column, cut = {
        "dark": ("brightness_p99", params.dark_max),
        "bright": ("brightness_p05", params.bright_min),
        "low_information": ("entropy_bits", params.low_information_bits),
        "gray": ("colorfulness", params.gray_colorfulness),
        "blank": ("entropy_bits", params.blank_bits),
    }[issue]
    return {"measured": value(column), "cut": _rounded(cut)}


def _rounded(number: float) -> float:
    return float(f"{number:.4g}") if math.isfinite(number) else 0.0


_REASONS = {
    "dark": "image_dark",
    "bright": "image_bright",
    "blurry": "image_blurry",
    "low_information": "image_low_information",
    "gray": "image_gray",
    "odd_size": "image_odd_size",
    "odd_aspect": "image_odd_aspect",
    "blank": "image_blank",
}

CHECK = Check(
    name=NAME,
    version=2,
    view="samples",
    needs=NEEDS,
    scope="row",
    issues=("unreadable", *ISSUES),
    statistics=("share_unreadable", *(f"share_{issue}" for issue in ISSUES)),
    params=ImageQualityParams(),
    fit=fit,
    score=score,
    summarize=summarize,
)
