"""Short videos of a drawn street: pixels, and the masks of what moves in them. Everything follows from a hash."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from curate.ingest.generated import uniform

WIDTH_PX, HEIGHT_PX = 240, 160
N_VIDEOS, N_FRAMES = 6, 20
CLASSES = ("bicycle", "car", "person", "sign", "truck")
LIGHTINGS = ("day", "dusk", "night")
SKIN = {"light": (224, 188, 160), "medium": (176, 128, 92), "dark": (96, 64, 44)}
CLOTHING = {"casual": (70, 110, 170), "formal": (45, 45, 55), "high-visibility": (215, 230, 40)}
_CAST = ("car", "person", "truck", "bicycle", "sign", "car", "person")  # far to near
_SIZES_PX = {"car": (44, 20), "truck": (60, 34), "person": (13, 36), "bicycle": (32, 22), "sign": (14, 42)}
_LIGHT = {"day": 1.0, "dusk": 0.68, "night": 0.42}

Pixels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Thing:
    """What is drawn in every frame of a video: where it starts, how it moves, what it looks like."""

    track: str
    label: str
    x_px: float
    y_px: float
    speed_px: float
    scale: float
    color: tuple[int, int, int]
    skin: str
    clothing: str


@dataclass(frozen=True, slots=True)
class Seen:
    """A thing in a frame: the pixels of it that nothing hides."""

    thing: Thing
    mask: Mask

    @property
    def bbox(self) -> list[float]:
        """Return x, y, w, h relative to the image."""
        rows, columns = np.flatnonzero(self.mask.any(axis=1)), np.flatnonzero(self.mask.any(axis=0))
        left, top = int(columns[0]), int(rows[0])
        width, height = int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top
        return [left / WIDTH_PX, top / HEIGHT_PX, width / WIDTH_PX, height / HEIGHT_PX]


def lighting_of(video: int) -> str:
    """Return the lighting of a video."""
    return LIGHTINGS[video % len(LIGHTINGS)]


def things_of(video: int, seed: int) -> list[Thing]:
    """Return what moves in a video, far to near."""
    found = []
    for number, label in enumerate(_CAST):

        def draw(what: str, low: float, high: float, key: int = number) -> float:
            return low + (high - low) * uniform(seed, "thing", video, key, what)

        depth = number / (len(_CAST) - 1)
        direction = 1 if draw("direction", 0, 1) < 0.5 else -1
        speed = 0.0 if label == "sign" else direction * draw("speed", 1.2, 4.0)
        color = tuple(int(draw(f"color {channel}", 60, 235)) for channel in range(3))
        found.append(
            Thing(
                track=f"v{video}-{number}",
                label=label,
                x_px=draw("x", 0.25, 0.75) * WIDTH_PX - speed * N_FRAMES / 2,
                y_px=86 + 56 * depth + draw("y", -3, 3),
                speed_px=speed,
                scale=0.75 + 0.55 * depth,
                color=(color[0], color[1], color[2]),
                skin=tuple(SKIN)[int(draw("skin", 0, len(SKIN)))],
                clothing=tuple(CLOTHING)[int(draw("clothing", 0, len(CLOTHING)))],
            )
        )
    return found


def frame_of(video: int, frame: int, seed: int) -> tuple[Pixels, list[Seen]]:
    """Draw a frame: uint8 RGB (height, width, 3), and what can be seen in it, at least 40 pixels of each."""
    pixels = _background(video, seed)
    visible: list[Seen] = []
    for thing in things_of(video, seed):
        mask = _draw(pixels, thing, frame)
        visible = [Seen(seen.thing, seen.mask & ~mask) for seen in visible]
        visible.append(Seen(thing, mask))
    light = _LIGHT[lighting_of(video)]
    tint = np.array([1.0, 0.86, 0.8] if lighting_of(video) == "dusk" else [1.0, 1.0, 1.0])
    lit = pixels * (light * tint) + _noise(video, frame, seed)
    return lit.clip(0, 255).astype(np.uint8), [seen for seen in visible if seen.mask.sum() >= 40]


def _background(video: int, seed: int) -> npt.NDArray[np.float64]:
    """Return sky, houses with windows, a pavement and a road with markings."""
    y, x = np.mgrid[0:HEIGHT_PX, 0:WIDTH_PX]
    sky = np.stack([150 + y * 0.5, 185 + y * 0.35, 235 - y * 0.2], axis=-1)
    pixels = sky.astype(np.float64)
    left = 0
    for house in range(9):
        width = 22 + int(24 * uniform(seed, "house", video, house, "width"))
        top = 18 + int(45 * uniform(seed, "house", video, house, "top"))
        color = [90 + 130 * uniform(seed, "house", video, house, channel) for channel in range(3)]
        pixels[top:84, left : left + width] = color
        windows = ((x - left) % 9 > 4) & ((y - top) % 11 > 6) & (y < 80) & (y > top + 3)
        pixels[windows & (x >= left) & (x < left + width)] = [60, 72, 90]
        left += width
    pixels[84:96] = [172, 168, 160]
    road = (x * 7 + y * 13 + (x * y) % 11) % 17
    pixels[96:] = (92 + road[96:] * 1.4)[..., None]
    pixels[126:129][((x + 17 * video) % 36 < 18)[126:129]] = 225
    return pixels


def _noise(video: int, frame: int, seed: int) -> npt.NDArray[np.float64]:
    """Return sensor noise of about +-5 levels from a plain integer hash of the place."""
    place = np.arange(HEIGHT_PX * WIDTH_PX * 3, dtype=np.uint64)
    mixed = (place + np.uint64(video * 1_000_003 + frame * 7_919 + seed)) * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= mixed >> np.uint64(29)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    return ((mixed >> np.uint64(40)).astype(np.float64) / 2**24 * 10 - 5).reshape(HEIGHT_PX, WIDTH_PX, 3)


def _draw(pixels: npt.NDArray[np.float64], thing: Thing, frame: int) -> Mask:
    """Paint the thing onto `pixels` and return where it is."""
    width, height = (side * thing.scale for side in _SIZES_PX[thing.label])
    center = thing.x_px + thing.speed_px * frame
    grid_y, grid_x = np.mgrid[0:HEIGHT_PX, 0:WIDTH_PX]
    u = (grid_x + 0.5 - center) / width + 0.5  # 0 … 1 from left to right
    v = (grid_y + 0.5 - (thing.y_px - height)) / height  # 0 … 1 from top to bottom
    if thing.speed_px < 0:
        u = 1 - u
    mask = np.zeros((HEIGHT_PX, WIDTH_PX), dtype=bool)
    for part, color in _PARTS[thing.label](u, v, height / width, thing):
        pixels[part] = color
        mask |= part
    return mask


Coordinates = npt.NDArray[np.float64]
Parts = list[tuple[Mask, tuple[int, int, int]]]


def _box(u: Coordinates, v: Coordinates, left: float, top: float, right: float, bottom: float) -> Mask:
    return np.asarray((u >= left) & (u < right) & (v >= top) & (v < bottom))


def _disc(u: Coordinates, v: Coordinates, center: tuple[float, float], radius: float, aspect: float) -> Mask:
    """Return a circle; `radius` in widths, `aspect` is height by width."""
    return np.asarray((u - center[0]) ** 2 + ((v - center[1]) * aspect) ** 2 < radius**2)


def _car(u: Coordinates, v: Coordinates, aspect: float, thing: Thing) -> Parts:
    return [
        (_box(u, v, 0.2, 0.0, 0.75, 0.45), thing.color),
        (_box(u, v, 0.26, 0.1, 0.7, 0.4), (150, 190, 215)),
        (_box(u, v, 0.0, 0.4, 1.0, 0.85), thing.color),
        (_disc(u, v, (0.22, 0.82), 0.1, aspect), (25, 25, 28)),
        (_disc(u, v, (0.78, 0.82), 0.1, aspect), (25, 25, 28)),
        (_box(u, v, 0.94, 0.48, 1.0, 0.6), (250, 240, 180)),
    ]


def _truck(u: Coordinates, v: Coordinates, aspect: float, thing: Thing) -> Parts:
    return [
        (_box(u, v, 0.0, 0.0, 0.68, 0.85), thing.color),
        (_box(u, v, 0.05, 0.3, 0.62, 0.42), (240, 240, 240)),
        (_box(u, v, 0.7, 0.25, 1.0, 0.85), (150, 60, 50)),
        (_box(u, v, 0.82, 0.32, 0.98, 0.52), (150, 190, 215)),
        *((_disc(u, v, (at, 0.88), 0.08, aspect), (25, 25, 28)) for at in (0.15, 0.4, 0.85)),
    ]


def _person(u: Coordinates, v: Coordinates, aspect: float, thing: Thing) -> Parts:
    return [
        (_box(u, v, 0.22, 0.55, 0.45, 1.0), (50, 50, 70)),
        (_box(u, v, 0.55, 0.55, 0.78, 1.0), (50, 50, 70)),
        (_box(u, v, 0.08, 0.22, 0.92, 0.6), CLOTHING[thing.clothing]),
        (_disc(u, v, (0.5, 0.11), 0.3, aspect), SKIN[thing.skin]),
    ]


def _bicycle(u: Coordinates, v: Coordinates, aspect: float, thing: Thing) -> Parts:
    parts: Parts = []
    for at in (0.22, 0.78):
        ring = _disc(u, v, (at, 0.68), 0.21, aspect) & ~_disc(u, v, (at, 0.68), 0.14, aspect)
        parts.append((ring, (20, 20, 20)))
    frame = (np.abs(v - (0.68 - 0.5 * (u - 0.22))) < 0.08) & (u > 0.22) & (u < 0.78)
    parts.append((np.asarray(frame), thing.color))
    parts.append((_box(u, v, 0.25, 0.2, 0.45, 0.3), (40, 30, 30)))
    parts.append((_box(u, v, 0.32, 0.3, 0.38, 0.65), thing.color))
    parts.append((_box(u, v, 0.68, 0.12, 0.74, 0.65), thing.color))
    return parts


def _sign(u: Coordinates, v: Coordinates, aspect: float, thing: Thing) -> Parts:  # noqa: ARG001 - one shape for all
    return [
        (_box(u, v, 0.44, 0.3, 0.56, 1.0), (120, 120, 125)),
        (_disc(u, v, (0.5, 0.17), 0.5, aspect), (205, 30, 35)),
        (_box(u, v, 0.2, 0.12, 0.8, 0.22), (245, 245, 245)),
    ]


_PARTS = {"car": _car, "truck": _truck, "person": _person, "bicycle": _bicycle, "sign": _sign}
