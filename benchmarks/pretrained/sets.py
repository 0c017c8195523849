"""The labeled real images that a pretrained network is measured on.

`python -m pretrained.sets`, run in the folder of the benchmarks, prints what each set contains.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
from pathlib import Path

import numpy as np

import harness
from pretrained.windows import WindowRule, cut_windows

CACHE = harness.WORK / "pretrained-sets"
VERSION = 1  # of the cached files

# Grids of half a window; diameters in pixels. The catalogue of the THEMIS images lists every crater
# of at least 1 km, 10 pixels. The craters of `nac_moon` are so dense (1,700 a megapixel, median 9
# pixels) that 12 windows without crater are left at a side of 48 pixels, 330 at 32 and 1,667 at 24,
# the least side of the network. Its boxes are wider than the rims, hence 12 pixels and not 10.
RULES = {
    "tiles": WindowRule(48, 24),
    "nac_moon": WindowRule(24, 12, least=12, most=24, touching=7.2),
    "ctx_mars": WindowRule(48, 24, least=12, most=48, touching=7.2),
    "hrsc": WindowRule(48, 24, least=10, most=48, touching=6),
}
PATCHES = ("themis48", "nanedi_west", "nanedi_center")
NAMES = (*PATCHES, *RULES)

# The groups of the first half: choices are made on one half and reported on the other, and the
# reverse. Both halves hold about as many labeled patches, windows and craters of THEMIS, and as
# many windows without crater of `nac_moon`.
FIRST_HALF = (
    "amazonis", "coprates", "elysium", "maretyrrhenum", "memnonia", "sinussabaeus",
    "west", "tile1_24", "MC11E-D", "M1155395732", "M1275410097", "M134022629",
)  # fmt: skip


@dataclasses.dataclass(frozen=True, eq=False)
class LabeledSet:
    """Labeled patches of one source.

    Parameters
    ----------
    name : str
    images : ndarray of uint8, shape (N, S, S)
    labels : ndarray of int, shape (N,)
        1 with crater, 0 without.
    groups : ndarray of str, shape (N,)
        Region (THEMIS, Nanedi) or image.
    sources : ndarray of str, shape (N,)
        Image of each patch; the region where it is not known.
    stride : int
        Of the grid of windows, in pixels; 0 if the patches are not from a grid: their share of
        craters is not the natural one then.
    tops, lefts : ndarray of int, shape (N,)
        Upper-left pixel in the image; -1 if unknown.
    """

    name: str
    images: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    sources: np.ndarray
    stride: int
    tops: np.ndarray
    lefts: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def side(self) -> int:
        """Side of the patches in pixels."""
        return int(self.images.shape[1])

    def take(self, rows: np.ndarray) -> LabeledSet:
        """Select patches by number or by mask."""
        arrays = ("images", "labels", "groups", "sources", "tops", "lefts")
        return dataclasses.replace(self, **{name: getattr(self, name)[rows] for name in arrays})


def load_sets(
    data: Path, names: tuple[str, ...] = NAMES, cache: Path | None = None
) -> list[LabeledSet]:
    """Load the sets, from the cache where it holds them.

    Parameters
    ----------
    data : Path
        Folder with `themis48`, `themis_tiles`, `nanedi28`, `nac_moon`, `ctx_mars` and `hrsc`.
    names : tuple of str
        Of `NAMES`; sets whose folder is missing are left out.
    cache : Path, optional
        By default `CACHE`.
    """
    sets = []
    for name in names:
        folder = folder_of(name, data)
        if not folder.is_dir():
            continue
        path = (cache or CACHE) / f"{name}.npz"
        key = fingerprint(name, data)
        one = _read(name, path, key)
        if one is None:
            one = _windows(name, folder) if name in RULES else _patches(name, folder)
            _write(one, path, key)
        sets.append(one)
    return sets


def folder_of(name: str, data: Path) -> Path:
    """Return the folder that a set is read from."""
    if name == "tiles":
        return data / "themis_tiles"
    return data / ("nanedi28" if name.startswith("nanedi") else name)


def fingerprint(name: str, data: Path) -> str:
    """Hash the rule of a set, and the names and sizes of its files."""
    paths = sorted(folder_of(name, data).iterdir())
    text = repr((VERSION, RULES.get(name), [(path.name, path.stat().st_size) for path in paths]))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _read(name: str, path: Path, key: str) -> LabeledSet | None:
    if not path.is_file():
        return None
    with np.load(path) as stored:
        if str(stored["key"]) != key:
            return None
        arrays = {each: stored[each] for each in stored.files if each != "key"}
    return LabeledSet(name=name, **arrays | {"stride": int(arrays["stride"])})


def _write(one: LabeledSet, path: Path, key: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fields = dataclasses.asdict(one)
    del fields["name"]
    partial = path.with_suffix(".partial.npz")
    np.savez(partial, key=key, **fields)
    partial.replace(path)


def _patches(name: str, folder: Path) -> LabeledSet:
    """Read a set that was published as patches."""
    from craters.data import splits

    if name == "themis48":
        images = np.load(folder / "Xtrain1.npy").reshape(-1, 48, 48)
        labels, sources = np.load(folder / "Ytrain1.npy"), np.load(folder / "groups_train.npy")
        groups = splits.regions_of(sources)
    else:
        region = name.partition("_")[2]
        with np.load(folder / f"{region}.npz") as stored:
            images, labels = stored["X"], stored["y"]
        groups = sources = np.full(len(labels), region)
    unknown = np.full(len(labels), -1)
    return LabeledSet(
        name=name, images=np.asarray(images, np.uint8), labels=labels.astype(int),
        groups=groups.astype(str), sources=sources.astype(str), stride=0,
        tops=unknown, lefts=unknown,
    )  # fmt: skip


def _windows(name: str, folder: Path) -> LabeledSet:
    """Cut a set from whole images."""
    from craters.data import splits

    windows = cut_windows(pairs_of(name, folder), RULES[name], in_pixels=name != "tiles")
    groups = splits.regions_of(windows.sources) if name == "tiles" else windows.sources
    return LabeledSet(name=name, groups=groups, stride=RULES[name].stride, **vars(windows))


def pairs_of(name: str, folder: Path) -> list[tuple[Path, Path]]:
    """Return the images of a set that is cut from images, each with the file of its craters."""
    if name == "tiles":
        return [(path, folder / "robbins.csv") for path in sorted(folder.glob("*.tif"))]
    return [(path, _table(path)) for path in sorted(folder.glob("*.png"))]


def _table(image: Path) -> Path:
    """Return the file of the craters of an image."""
    boxes = image.with_suffix(".xml")
    return boxes if boxes.is_file() else image.with_name(f"{image.stem}_craters.csv")


def in_half(one: LabeledSet, number: int) -> np.ndarray:
    """Return which patches are of the first (0) or second (1) half, by whole groups."""
    inside = np.isin(one.groups, FIRST_HALF)
    return inside if number == 0 else ~inside


def half(one: LabeledSet, number: int) -> LabeledSet:
    """Return the first (0) or second (1) half of a set; one may be empty."""
    return one.take(in_half(one, number))


def coarse(one: LabeledSet) -> LabeledSet:
    """Keep the windows of the grid of twice the stride, a quarter of them."""
    if not one.stride:
        return one
    step = 2 * one.stride
    kept = one.take((one.tops % step == 0) & (one.lefts % step == 0))
    return dataclasses.replace(kept, stride=step)


def describe(one: LabeledSet) -> str:
    """Describe a set in a line: size, share of craters, brightness."""
    means, spreads = one.images.mean((1, 2)), one.images.std((1, 2))
    return (
        f"{one.name:14} {len(one):6} patches of {one.side} px, {len(np.unique(one.groups)):2} "
        f"groups, {int(one.labels.sum()):5} craters ({one.labels.mean():.1%}), brightness "
        f"{one.images.mean():.1f}, sd of all pixels {one.images.std():.1f}, median sd of a patch "
        f"{np.median(spreads):.1f}, sd between patches {means.std():.1f}"
    )


def draw_sheet(
    images: np.ndarray, path: Path, *, seed: int = 0, rows: int = 8, cols: int = 12
) -> None:
    """Draw a random grid of patches as a PNG, one pixel a pixel, twice enlarged.

    Parameters
    ----------
    images : ndarray of uint8, shape (N, S, S)
    path : Path
    seed, rows, cols : int
    """
    from PIL import Image

    side, gap = images.shape[1], 2
    count = min(rows * cols, len(images))
    chosen = np.random.default_rng(seed).permutation(len(images))[:count]
    sheet = np.full((rows * (side + gap) - gap, cols * (side + gap) - gap), 255, np.uint8)
    for place, row in enumerate(chosen.tolist()):
        top, left = (place // cols) * (side + gap), (place % cols) * (side + gap)
        sheet[top : top + side, left : left + side] = images[row]
    picture = Image.fromarray(sheet)
    picture.resize((2 * picture.width, 2 * picture.height), Image.Resampling.NEAREST).save(path)


def main() -> None:
    """Print what each set contains; draw contact sheets if a folder is named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of the themis48 arrays")
    parser.add_argument("--cache", type=Path, help="folder of the cached sets")
    parser.add_argument("--sheets", type=Path, help="folder for a contact sheet of each class")
    options = parser.parse_args()
    for one in load_sets(harness.find_data(options.data).parent, cache=options.cache):
        print(describe(one))
        if options.sheets:
            options.sheets.mkdir(parents=True, exist_ok=True)
            for label, word in enumerate(("without", "with")):
                draw_sheet(
                    one.images[one.labels == label], options.sheets / f"{one.name}_{word}.png"
                )


if __name__ == "__main__":
    main()
