from __future__ import annotations

import csv
import itertools
import json
import math
import sqlite3
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pyogrio
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from pyproj import CRS, Geod
from typer.testing import CliRunner

from craters.cli.main import app
from craters.errors import ConfigError, DataError, DiskFullError, ExistsError, GeoError
from craters.maps.catalogues import MatchRequest, match_report, run_match
from craters.maps.catalogues.catalogue import Catalogue, Detections
from craters.maps.catalogues.matching.curves import (
    Curve,
    bin_edges,
    bootstrap_rates,
    is_found,
    make_curve,
    recall_by_diameter,
    threshold_at_rate,
    wilson,
)
from craters.maps.catalogues.matching.pairing import (
    COUNTED,
    FALSE,
    HIT,
    IGNORED,
    IN_BORDER,
    OUTSIDE,
    WRONG_SIZE,
    MatchRule,
    match,
)
from craters.maps.geo import NO_PLANET, Footprint, Plane, Planet, Sphere, map_files
from tests.conftest import full_disk
from tests.maps.scenes import RADIUS, write_csv

MARS = Sphere(RADIUS)
DEGREE = np.pi * RADIUS / 180  # metres


def find(rows, sources=None) -> Detections:
    """Detections of rows (lon, lat, probability)."""
    values = np.array(rows, float).reshape(-1, 3)
    names = None if sources is None else np.array(sources, dtype=np.str_)
    return Detections(values[:, :2], values[:, 2], names, NO_PLANET, "found.csv")


def know(rows, sources=None, *, in_pixels=False) -> Catalogue:
    """A catalogue of rows (lon, lat, diameter in metres)."""
    values = np.array(rows, float).reshape(-1, 3)
    names = None if sources is None else np.array(sources, dtype=np.str_)
    return Catalogue(values[:, :2], values[:, 2], names, in_pixels, "known.csv")


def square(name, west, south, east, north) -> Footprint:
    return Footprint(name, [shapely.box(west, south, east, north)], Plane())


# Pairs.


def brute_force(found, known, distance_of, rule) -> dict[int, int]:
    """The rule read aloud: most probable first, each takes the nearest free crater in reach."""
    free, pairs = set(range(len(known))), {}
    by_rank = sorted(range(len(found)), key=lambda i: (-found[i][2], found[i][0], found[i][1]))
    for i in by_rank:
        near = []
        for j in free:
            distance = distance_of(found[i], known[j])
            if distance <= max(known[j][2] / 2, rule.half_window):
                near.append((distance, -known[j][2], known[j][0], known[j][1], j))
        if near:
            pairs[i] = min(near)[-1]
            free.discard(pairs[i])
    return pairs


grid = st.integers(0, 30)
found_rows = st.lists(st.tuples(grid, grid, st.sampled_from([0.1, 0.5, 0.5, 0.9])), max_size=14)
known_rows = st.lists(st.tuples(grid, grid, st.sampled_from([2, 6, 6, 20])), max_size=14)


@given(found_rows, known_rows, st.sampled_from([1.0, 3.0, 4.0]))
def test_matching_is_what_the_rule_says(found, known, half_window: float) -> None:
    rule = MatchRule(half_window)
    got = match(find(found), know(known, in_pixels=True), None, Plane(), rule)
    expected = brute_force(
        found, known, lambda a, b: math.hypot(a[0] - b[0], a[1] - b[1]), rule
    )  # fmt: skip
    pairs = {i: int(j) for i, j in enumerate(got.detection_target) if j >= 0}

    # Equal rows are anyone's: compare where the pairs are, not which copy was taken.
    def places(pairs):
        return sorted((tuple(found[i]), tuple(known[j])) for i, j in pairs.items())

    assert places(pairs) == places(expected)
    assert len(set(pairs.values())) == len(pairs)
    for i, j in pairs.items():
        assert got.target_detection[j] == i
        assert got.distance[i] == pytest.approx(
            math.hypot(*np.subtract(found[i][:2], known[j][:2]))
        )
    assert (got.target_detection >= 0).sum() == len(pairs)


@given(st.integers(0, 10_000))
def test_matching_on_the_sphere_across_the_antimeridian(seed: int) -> None:
    random = np.random.default_rng(seed)
    lon = (180 + random.normal(0, 0.1, 24) + 180) % 360 - 180
    lat = random.choice([-60.0, 0.0, 89.9]) + random.normal(0, 0.02, 24)
    found = [(x, y, p) for x, y, p in zip(lon[:12], lat[:12], random.random(12), strict=True)]
    known = [
        (x, y, d) for x, y, d in zip(lon[12:], lat[12:], random.uniform(500, 9000, 12), strict=True)
    ]
    geod, rule = Geod(a=RADIUS, b=RADIUS), MatchRule(2400.0)
    got = match(find(found), know(known), None, MARS, rule)
    expected = brute_force(found, known, lambda a, b: geod.inv(*a[:2], *b[:2])[2], rule)
    assert {i: int(j) for i, j in enumerate(got.detection_target) if j >= 0} == expected
    for i, j in expected.items():
        apart = geod.inv(*found[i][:2], *known[j][:2])[2]
        assert got.distance[i] == pytest.approx(apart, abs=1e-3)


@given(found_rows, known_rows, st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(found, known, shuffle) -> None:
    def pairs(found, known):
        got = match(find(found), know(known, in_pixels=True), None, Plane(), MatchRule(3.0))
        return sorted((found[i], known[j]) for i, j in enumerate(got.detection_target) if j >= 0)

    before = pairs(found, known)
    shuffle.shuffle(found)
    shuffle.shuffle(known)
    assert pairs(found, known) == before


@given(found_rows, known_rows, st.sampled_from([1.0, 3.0, 4.0]))
def test_ignored_craters_take_no_detection_from_those_that_count(
    found, known, half_window: float
) -> None:
    rule = MatchRule(half_window, 3, 10)
    counts = [place for place, row in enumerate(known) if 3 <= row[2] <= 10]
    whole = match(find(found), know(known), None, Plane(), rule)
    alone = match(find(found), know([known[place] for place in counts]), None, Plane(), rule)
    hits = {i: int(whole.detection_target[i]) for i in np.flatnonzero(whole.detection_state == HIT)}
    assert hits == {i: counts[j] for i, j in enumerate(alone.detection_target) if j >= 0}
    false = whole.detection_state == FALSE
    assert not (false & (alone.detection_state != FALSE)).any()
    assert not (false & (whole.detection_target >= 0)).any()  # none matches an ignored crater


def test_a_crater_that_counts_comes_before_a_nearer_one_that_does_not() -> None:
    known, rule = know([(1, 0, 2), (2, 0, 6), (1, 1, 2)]), MatchRule(3.0, 3, 10)
    got = match(find([(1, 0, 0.9), (1, 0.1, 0.8), (1.2, 0, 0.7)]), known, None, Plane(), rule)
    assert got.detection_target.tolist() == [1, 0, 2]
    assert got.detection_state.tolist() == [HIT, IGNORED, IGNORED]


def test_ties_have_one_answer() -> None:
    known = know([(0, 0, 4), (0, 0, 6), (2, 0, 6)], in_pixels=True)
    # Equally far from all: the larger crater, of the two the one to the west.
    got = match(find([(1, 0, 0.5)]), known, None, Plane(), MatchRule(3.0))
    assert got.detection_target.tolist() == [1]
    # Equally probable: the one to the west is served first.
    got = match(
        find([(1.5, 0, 0.5), (0.5, 0, 0.5)]), know([(1, 0, 2)]), None, Plane(), MatchRule(3)
    )
    assert got.detection_target.tolist() == [-1, 0]
    assert got.detection_state.tolist() == [FALSE, HIT]


def test_reach_is_half_the_crater_or_half_a_window() -> None:
    known = know([(0, 0, 10), (100, 0, 2)], in_pixels=True)
    at = [(5.0, 0, 0.9), (103.0, 0, 0.8)]
    got = match(find(at), known, None, Plane(), MatchRule(3.0))
    assert got.detection_state.tolist() == [HIT, HIT]
    beyond = [(5.01, 0, 0.9), (103.01, 0, 0.8)]
    got = match(find(beyond), known, None, Plane(), MatchRule(3.0))
    assert got.detection_state.tolist() == [FALSE, FALSE]


@given(found_rows, known_rows, st.sampled_from([0.05, 0.3, 0.5, 0.7, 0.95]))
def test_a_threshold_leaves_the_pairs_of_what_remains(found, known, threshold: float) -> None:
    rule, catalogue = MatchRule(3.0, 0, 10), know(known, in_pixels=True)
    whole = match(find(found), catalogue, None, Plane(), rule)
    kept = [row for row in found if row[2] >= threshold]
    part = match(find(kept), catalogue, None, Plane(), rule)
    curve = make_curve(whole, find(found))
    row = curve.at(threshold)
    counts = (int(curve.hits[row]), int(curve.false[row])) if row >= 0 else (0, 0)
    states = part.detection_state
    assert counts == (int((states == HIT).sum()), int((states == FALSE).sum()))
    hit = (part.target_state == COUNTED) & (part.target_detection >= 0)
    found_ones = is_found(whole, find(found), threshold) & (whole.target_state == COUNTED)
    assert hit.tolist() == found_ones.tolist()


# What counts.


def test_sizes_and_borders_are_ignored_on_both_sides() -> None:
    area = [square("a", 0, 0, 100, 100)]
    known = know(
        [(50, 50, 10), (20, 50, 4), (50, 20, 30), (5, 50, 10), (95, 50, 12), (50, 8, 20)],
        in_pixels=True,
    )
    rule = MatchRule(3.0, 8, 25, border=5)
    got = match(find([]), known, area, Plane(), rule)
    # The fifth is cut by the edge, and so is the sixth: its disc is not whole.
    assert got.target_state.tolist() == [
        COUNTED, WRONG_SIZE, WRONG_SIZE, COUNTED, IN_BORDER, IN_BORDER,
    ]  # fmt: skip
    found = find([(50, 51, 0.9), (20, 51, 0.8), (50, 21, 0.7), (95, 51, 0.6), (80, 80, 0.5)])
    got = match(found, known, area, Plane(), rule)
    assert got.detection_state.tolist() == [HIT, IGNORED, IGNORED, IGNORED, FALSE]
    curve = make_curve(got, found)
    assert (int(curve.hits[-1]), int(curve.false[-1]), curve.n_craters) == (1, 1, 2)
    assert curve.recall[-1] == 0.5
    assert curve.precision[-1] == 0.5


def test_a_detection_in_the_border_that_matches_nothing_is_false() -> None:
    area, rule = [square("a", 0, 0, 100, 100)], MatchRule(3.0, border=20)
    found = find([(2, 50, 0.9), (-2, 50, 0.8), (-1, 10, 0.7)])
    got = match(found, know([(-2, 10, 6)], in_pixels=True), area, Plane(), rule)
    # The last lies outside, like the crater that it matches.
    assert got.detection_state.tolist() == [FALSE, OUTSIDE, IGNORED]
    assert got.target_state.tolist() == [IN_BORDER]


def test_craters_out_of_sight_are_not_missed() -> None:
    area = [square("a", 0, 0, 100, 100)]
    known = know([(50, 50, 10), (500, 50, 10)], in_pixels=True)
    got = match(find([]), known, area, Plane(), MatchRule(3.0))
    assert got.target_crater.tolist() == [0]
    everywhere = match(find([]), known, None, Plane(), MatchRule(3.0))
    assert everywhere.target_state.tolist() == [COUNTED, COUNTED]


def test_images_are_matched_by_themselves() -> None:
    """A crater in two images is two chances, and a detection finds it for its own image only."""
    areas = [square("a", 0, 0, 60, 100), square("b", 40, 0, 100, 100)]
    known = know([(50, 50, 6)])
    got = match(find([(50, 51, 0.9)], ["b"]), known, areas, Plane(), MatchRule(3.0))
    assert got.target_crater.tolist() == [0, 0]
    assert got.target_image.tolist() == [0, 1]
    assert got.target_detection.tolist() == [-1, 0]
    # Without sources, detections go to the first image that holds them.
    got = match(find([(50, 51, 0.9), (90, 51, 0.9)]), known, areas, Plane(), MatchRule(3.0))
    assert got.detection_image.tolist() == [0, 1]
    assert got.target_detection.tolist() == [0, -1]
    with pytest.raises(DataError, match="image 'c', which has no footprint; footprints: a, b"):
        match(find([(50, 51, 0.9)], ["c"]), known, areas, Plane(), MatchRule(3.0))


def test_rows_about_an_image_stay_with_it() -> None:
    areas = [square("a", 0, 0, 60, 100), square("b", 40, 0, 100, 100)]
    known = know([(50, 50, 6), (50, 20, 6)], ["a", "b"], in_pixels=True)
    got = match(find([]), known, areas, Plane(), MatchRule(3.0))
    assert list(zip(got.target_crater.tolist(), got.target_image.tolist(), strict=True)) == [
        (0, 0), (1, 1),
    ]  # fmt: skip
    # Sources of another kind ("Robbins 2012") say nothing about images.
    other = know([(50, 50, 6)], ["Robbins 2012"])
    got = match(find([]), other, areas, Plane(), MatchRule(3.0))
    assert got.target_image.tolist() == [0, 1]


def test_pixels_of_an_unnamed_image_are_refused_for_several() -> None:
    areas = [square("a", 0, 0, 100, 100), square("b", 0, 0, 100, 100)]
    found, known = find([(50, 51, 0.9), (20, 20, 0.8)], ["a", "b"]), [(50, 50, 6)]
    rule = MatchRule(3.0)
    with pytest.raises(DataError, match=r"known.csv: .*does not name.* 2 images.*column 'image'"):
        match(found, know(known, in_pixels=True), areas, Plane(), rule)
    with pytest.raises(DataError, match="there are 2 images"):  # the detections name them
        match(found, know(known, in_pixels=True), None, Plane(), rule)
    with pytest.raises(DataError, match=r"in pixels of 'c', but the images are 'a', 'b'"):
        match(found, know(known, ["c"], in_pixels=True), areas, Plane(), rule)
    with pytest.raises(DataError, match="in pixels of 'b', but the images are 'a'"):
        match(find([]), know(known, ["b"], in_pixels=True), areas[:1], Plane(), rule)
    named = know(known, ["a"], in_pixels=True)
    got = match(found, named, areas, Plane(), rule)
    assert got.target_image.tolist() == [0]
    assert got.detection_state.tolist() == [HIT, FALSE]
    with pytest.raises(DataError, match=r"found.csv: .*does not name.* 2 images.*column 'source'"):
        match(find([(50, 51, 0.9)]), named, areas, Plane(), rule)
    with pytest.raises(DataError, match=r"of 2 images \('a', 'b'\), but only one image"):
        match(found, named, areas[:1], Plane(), rule)


def test_pixels_of_one_unnamed_image() -> None:
    """Tables without image names, and without a footprint that names an image."""
    found, rule = find([(50, 51, 0.9)]), MatchRule(3.0)
    one = know([(50, 50, 6), (10, 10, 6)], ["a", "a"], in_pixels=True)
    assert match(found, one, None, Plane(), rule).target_detection.tolist() == [0, -1]
    two = know([(50, 50, 6), (10, 10, 6)], ["a", "b"], in_pixels=True)
    with pytest.raises(DataError, match="in pixels of 'a', 'b', but the images are ''"):
        match(found, two, None, Plane(), rule)


def test_craters_of_other_images_are_counted() -> None:
    known = know([(50, 50, 6), (10, 10, 6), (9, 9, 6)], ["a", "b", "c"])
    assert known.source_notes(("a", "b", "c")) == []
    assert known.source_notes({"b"}) == ["2 of 3 craters of the catalogue name other images"]
    assert known.source_notes(("d",)) == [
        "The catalogue names 'a', 'b', 'c', none of which is an image: the names are ignored"
    ]
    assert known.source_notes(("",)) == []


def test_images_without_detections_count_where_the_catalogue_names_them() -> None:
    known = know([(5, 5, 6), (5, 5, 6)], ["a", "b"], in_pixels=True)
    got = match(find([(5, 5, 0.5)], ["a"]), known, None, Plane(), MatchRule(3.0))
    assert got.images == ("a", "b")
    assert got.target_detection.tolist() == [0, -1]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((0.0,), "half a window"),
        ((1.0, 3.0, 2.0), "first must be smaller"),
        ((1.0, 0, 9, -1), "border"),
    ],
)
def test_bad_rules(values, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MatchRule(*values)


# Numbers.


def test_wilson_by_hand() -> None:
    # 1 of 2: centre 1/2; z / (1 + z^2/2) * sqrt(1/8 + z^2/16) with z = 1.96 is 0.4055.
    found = wilson(1, 2)
    assert found is not None
    assert (found.low, found.high) == pytest.approx((0.0945, 0.9055), abs=1e-4)
    # None of 10: the upper limit is z^2 / (10 + z^2).
    none = wilson(0, 10)
    assert none is not None
    z2 = 1.959964**2
    assert (none.low, none.high) == pytest.approx((0, z2 / (10 + z2)), abs=1e-6)
    every = wilson(10, 10)
    assert every is not None
    assert (every.low, every.high) == pytest.approx((10 / (10 + z2), 1), abs=1e-6)
    assert wilson(0, 0) is None


@given(st.integers(0, 50), st.integers(1, 50))
def test_wilson_holds_the_share(found: int, more: int) -> None:
    interval = wilson(found, found + more)
    assert interval is not None
    assert 0 <= interval.low <= found / (found + more) <= interval.high <= 1


def test_wilson_is_that_of_scipy() -> None:
    from scipy.stats import binomtest

    for found, n in ((3, 17), (0, 5), (140, 146)):
        expected = binomtest(found, n).proportion_ci(method="wilson")
        interval = wilson(found, n)
        assert interval is not None
        assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high))


def scattered(seed: int, images: int = 6):
    """Detections and craters of several images far apart."""
    random = np.random.default_rng(seed)
    found, known, sources = [], [], []
    for image in range(images):
        for _ in range(random.integers(1, 5)):
            place = 1000 * image + random.uniform(0, 100), random.uniform(0, 100)
            known.append((*place, random.uniform(4, 12)))
            if random.random() < 0.6:
                found.append((*place, random.choice([0.5, 0.6, 0.7, 0.9])))
                sources.append(str(image))
        for _ in range(random.integers(0, 4)):
            place = 1000 * image + random.uniform(0, 100), random.uniform(200, 300)
            found.append((*place, random.choice([0.2, 0.5, 0.6, 0.8])))
            sources.append(str(image))
    areas = [
        square(str(image), 1000 * image - 50, -50, 1000 * image + 150, 350)
        for image in range(images)
    ]
    return find(found, sources), know(known), areas


def plain_recall(matching, detections, rate: float, images: list[int]) -> float:
    """Recall at a rate of false detections, by trying every threshold on repeated images."""
    counts = [images.count(image) for image in range(len(matching.images))]
    craters = sum(
        counts[image]
        for image, state in zip(matching.target_image, matching.target_state, strict=True)
        if state == COUNTED
    )
    best = 0.0
    for threshold in sorted(set(detections.probability.tolist()), reverse=True):
        hits = false = 0
        for p, image, state in zip(
            detections.probability, matching.detection_image, matching.detection_state, strict=True
        ):
            hits += counts[image] * (p >= threshold and state == HIT)
            false += counts[image] * (p >= threshold and state == FALSE)
        if false > rate * len(images):
            break
        best = hits / craters
    return best


@pytest.mark.parametrize("seed", range(5))
def test_recall_at_a_rate_and_its_bootstrap(seed: int) -> None:
    found, known, areas = scattered(seed)
    got = match(found, known, areas, Plane(), MatchRule(3.0))
    curve = make_curve(got, found)
    for rate in (0.0, 0.5, 1.0, math.inf):
        threshold = threshold_at_rate(curve, rate)
        assert threshold == threshold_at_rate(curve, rate / 0.08, units=6 * 0.08)
        row = curve.at(threshold)
        recall = float(curve.recall[row]) if row >= 0 else 0.0
        assert recall == plain_recall(got, found, rate, list(range(6)))
        assert row < 0 or curve.false_per_image[row] <= rate
    intervals = bootstrap_rates(got, found, [0.5, math.inf], seed=seed, draws=50)
    random = np.random.default_rng(seed)
    draws = [random.integers(0, 6, 6).tolist() for _ in range(50)]
    for rate, interval in zip((0.5, math.inf), intervals, strict=True):
        recalls = [plain_recall(got, found, rate, images) for images in draws]
        low, high = np.quantile(recalls, [0.025, 0.975])
        assert interval is not None
        assert (interval.low, interval.high) == pytest.approx((low, high))
        assert interval.n_groups == 6


def test_no_interval_over_one_image() -> None:
    found = find([(1, 1, 0.5)])
    got = match(found, know([(1, 1, 4)], in_pixels=True), None, Plane(), MatchRule(3.0))
    assert bootstrap_rates(got, found, [0.5]) == [None]


def test_equally_probable_detections_come_together() -> None:
    curve = Curve(np.array([0.9, 0.5]), np.array([1, 2]), np.array([0, 3]), 4, 2, math.nan)
    assert threshold_at_rate(curve, 1.4) == 0.9
    assert threshold_at_rate(curve, 1.5) == 0.5
    assert curve.at(0.9) == 0
    assert curve.at(0.91) == -1
    assert curve.at(0.0) == 1
    assert curve.precision.tolist() == [1.0, 0.4]
    worst = Curve(np.array([0.9]), np.array([0]), np.array([9]), 4, 2, math.nan)
    assert threshold_at_rate(worst, 0.5) > 1


def test_bins_by_diameter() -> None:
    edges = bin_edges("", 1500, 4500, np.empty(0), 1000)
    assert edges[[0, -1]].tolist() == [1500, 4500]
    assert len(edges) == 5
    assert all(high / low <= math.sqrt(2) + 1e-9 for low, high in itertools.pairwise(edges))
    assert bin_edges("1,2,4", 0, math.inf, np.empty(0), 1000).tolist() == [1000, 2000, 4000]
    assert bin_edges("", 0, math.inf, np.array([2.0, 4.0]), 1).tolist() == pytest.approx(
        [2, 2 * math.sqrt(2), 4]
    )
    assert len(bin_edges("", 0, math.inf, np.empty(0), 1)) == 0
    for text in ("1", "2,1", "a,b"):
        with pytest.raises(ConfigError, match="--bins"):
            bin_edges(text, 0, 1, np.empty(0), 1)


def test_recall_by_diameter_counts_each_crater_once() -> None:
    known = know([(0, 0, 2), (50, 0, 4), (100, 0, 4), (150, 0, 8)], in_pixels=True)
    found = find([(0, 0, 0.9), (50, 0, 0.3), (150, 0, 0.8)])
    got = match(found, known, None, Plane(), MatchRule(3.0))
    rows = recall_by_diameter(got, found, known, np.array([2.0, 4.0, 8.0]), 0.0)
    assert [(row.n, row.found) for row in rows] == [(1, 1), (3, 2)]
    rows = recall_by_diameter(got, found, known, np.array([2.0, 4.0, 8.0]), 0.5)
    assert [(row.n, row.found) for row in rows] == [(1, 1), (3, 1)]
    assert rows[1].share == pytest.approx(1 / 3)
    assert rows[1].interval == wilson(1, 3)


# The command.


def write_scan(folder: Path, rows, areas, planet: str = "IAU_2015:49910") -> Path:
    """A scan's folder as `craters scan` leaves it; places in degrees at the equator."""
    folder.mkdir()
    mars = Planet.named(planet)
    x, y = mars.to_xy([row[0] for row in rows], [row[1] for row in rows])
    table = {
        "lon": np.array([row[0] for row in rows]),
        "lat": np.array([row[1] for row in rows]),
        "probability": np.array([row[2] for row in rows]),
        "source": np.array([row[3] for row in rows], object),
    }
    rings = []
    for west, south, east, north, _ in areas:
        corners = np.array(
            [[west, south], [east, south], [east, north], [west, north], [west, south]]
        )
        rings.append(shapely.Polygon(np.column_stack(mars.to_xy(*corners.T))))
    names = {"source": np.array([area[4] for area in areas], object)}
    map_files.write_layers(
        folder / "detections.gpkg",
        [
            iter([map_files.Layer("detections", "Point", shapely.points(x, y), table)]),
            iter([map_files.Layer("footprint", "Polygon", np.array(rings), names)]),
        ],
        mars,
        {},
    )
    summary = {"window": 48, "images": [{"resolution": 100.0} for _ in areas]}
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


ROWS = [
    (10.0, 0.0, 0.9, "a"), (10.3, 0.0, 0.8, "a"), (10.4, 0.2, 0.7, "a"),
    (20.0, 0.0, 0.6, "b"), (20.2, 0.0, 0.5, "b"), (20.45, 0.0, 0.95, "b"),
]  # fmt: skip
AREAS = [(9.5, -0.5, 10.5, 0.5, "a"), (19.5, -0.5, 20.5, 0.5, "b")]
CRATERS = [
    (10.01, 0.01, 2.0), (9.7, 0.3, 3.0), (10.3, 0.01, 8.0),
    (20.0, 0.02, 1.6), (20.46, 0.0, 2.0), (20.2, 0.3, 4.0), (359.0, 0.0, 2.0),
]  # fmt: skip


def test_uncertain_craters_are_ignored_on_both_sides(tmp_path: Path) -> None:
    scan = write_scan(tmp_path / "SCAN", ROWS, AREAS)
    rows = [(*crater, int(number != 0)) for number, crater in enumerate(CRATERS)]
    known = write_csv(tmp_path / "known.csv", rows, "lon,lat,diameter_km,counted")
    request = MatchRequest(scan, known, tmp_path / "MATCH", diameters="1.5,4.5")
    content = run_match(request)
    # The first crater was hit; now its detection is neither a hit nor false.
    assert content["craters"] == {
        "counted": 3, "ignored_size": 1, "ignored_border": 1, "ignored_uncertain": 1,
    }  # fmt: skip
    assert content["detections"] == {"all": 6, "hits": 1, "false": 2, "ignored": 3, "outside": 0}
    assert "1 as the catalogue does not count them" in match_report.lines(content)[0]
    table = (tmp_path / "MATCH" / "craters.csv").read_text()
    assert table.count("ignored: not counted") == 1


def test_a_scan_against_a_catalogue(tmp_path: Path) -> None:
    scan = write_scan(tmp_path / "SCAN", ROWS, AREAS)
    known = write_csv(tmp_path / "known.csv", CRATERS)
    out = tmp_path / "MATCH"
    content = run_match(MatchRequest(scan, known, out, diameters="1.5,4.5", false_per_image=0.5))
    assert sorted(path.name for path in out.iterdir()) == [
        "craters.csv", "curve.csv", "detections.csv", "images.csv", "match.gpkg", "match.png",
        "recall_by_diameter.csv", "report.html", "summary.json",
    ]  # fmt: skip
    assert content == json.loads((out / "summary.json").read_text())
    # a: one hit, one missed, one of 8 km; b: one hit, one missed, one in the border.
    assert content["craters"] == {"counted": 4, "ignored_size": 1, "ignored_border": 1}
    assert content["detections"] == {"all": 6, "hits": 2, "false": 2, "ignored": 2, "outside": 0}
    assert content["rule"]["half_window"] == pytest.approx(2.4)
    assert content["rule"]["border"] == pytest.approx(2.4)
    assert content["all_detections"]["recall"] == 0.5
    assert content["all_detections"]["precision"] == 0.5
    assert content["all_detections"]["false_per_image"] == 1.0
    assert content["at_rate"]["asked_false_per_image"] == 0.5
    assert content["at_rate"]["asked_per"] == "image"
    assert content["at_rate"]["threshold"] == 0.6
    assert content["at_rate"]["false"] == 1
    assert content["at_rate"]["recall"] == 0.5
    degree_km = DEGREE / 1000
    assert content["area_km2"] == pytest.approx(2 * degree_km**2, rel=1e-4)
    assert content["area_megapixels"] is None
    rate = 1000 / (2 * degree_km**2)  # of one false detection
    assert content["at_rate"]["false_per_1000_km2"] == pytest.approx(rate, rel=1e-4)
    assert content["at_rate"]["false_per_megapixel"] is None
    with (out / "curve.csv").open(newline="") as stream:
        curve = list(csv.DictReader(stream))
    assert [float(row["false_per_1000_km2"]) for row in curve] == pytest.approx(
        [rate * int(row["false"]) for row in curve], rel=1e-4
    )
    with (out / "craters.csv").open(newline="") as stream:
        states = {float(row["lon"]): row["state"] for row in csv.DictReader(stream)}
    assert states == {
        10.01: "found", 9.7: "missed", 10.3: "ignored: size", 20.0: "found",
        20.46: "ignored: border", 20.2: "missed",
    }  # fmt: skip
    with (out / "detections.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["state"] for row in rows] == [
        "hit", "ignored: matches an ignored crater", "false", "hit", "false",
        "ignored: matches an ignored crater",
    ]  # fmt: skip
    assert [row["crater_row"] for row in rows] == ["2", "4", "-1", "5", "-1", "6"]
    assert float(rows[3]["distance_m"]) == pytest.approx(0.02 * DEGREE, rel=1e-6)
    assert rows[2]["distance_m"] == ""


def test_one_image_has_false_detections_per_area(tmp_path: Path) -> None:
    """In 3,514 km2 with two false detections: half a detection an image means none at all."""
    rows = [(10.0, 0.0, 0.8, "a"), (10.3, 0.0, 0.9, "a"), (10.3, 0.3, 0.7, "a")]
    scan = write_scan(tmp_path / "SCAN", rows, AREAS[:1])
    known = write_csv(tmp_path / "known.csv", [(10.01, 0.01, 2.0), (9.7, 0.3, 3.0)])
    at = {}
    for name, options in {
        "default": {}, "low": {"false_per_area": 0.4}, "least": {"false_per_area": 0.1},
        "image": {"false_per_image": 0.5},
    }.items():  # fmt: skip
        at[name] = run_match(MatchRequest(scan, known, tmp_path / name, **options))
    area = at["default"]["area_km2"]
    assert area == pytest.approx((DEGREE / 1000) ** 2, rel=1e-4)
    kept = {name: content["at_rate"]["threshold"] for name, content in at.items()}
    assert kept == {"default": 0.7, "low": 0.8, "least": None, "image": None}
    stated = at["low"]["at_rate"]
    assert (stated["asked_rate"], stated["asked_per"]) == (0.4, "1,000 km2")
    assert stated["asked_false_per_image"] == pytest.approx(0.4 * area / 1000)
    assert stated["false_per_1000_km2"] == pytest.approx(1000 / area)
    assert stated["recall"] == 0.5
    text = "\n".join(match_report.lines(at["low"]))
    assert "At 0.4 false per 1,000 km2: recall 0.500" in text
    assert f"{2000 / area:.2f} false per 1,000 km2, threshold 0.7." in text  # of all detections
    assert "At 0.5 false an image: recall 0.000" in "\n".join(match_report.lines(at["image"]))
    none = [name for name, content in at.items() if "no false detection" in str(content["notes"])]
    assert none == ["least", "image"]


def test_intervals_at_a_rate_per_area_weigh_images_by_area() -> None:
    found, known, areas = scattered(2)
    got = match(found, known, areas, Plane(), MatchRule(3.0))
    assert got.areas.tolist() == pytest.approx([200 * 400 / 1e6] * 6)
    per_image = bootstrap_rates(got, found, [0.5, 1.0], seed=1, draws=50)
    per_area = bootstrap_rates(got, found, [0.5 / 0.08, 1.0 / 0.08], got.areas, seed=1, draws=50)
    assert per_image == per_area
    # All of the area in the first image: its draws alone allow false detections.
    uneven = bootstrap_rates(got, found, [2.0], np.array([1.0, 0, 0, 0, 0, 0]), seed=1, draws=50)
    everything = bootstrap_rates(got, found, [math.inf], seed=1, draws=50)
    assert uneven[0] is not None
    assert everything[0] is not None
    assert uneven[0].low < everything[0].low


def test_layers_open_in_a_gis(tmp_path: Path) -> None:
    scan = write_scan(tmp_path / "SCAN", ROWS, AREAS)
    run_match(
        MatchRequest(
            scan, write_csv(tmp_path / "k.csv", CRATERS), tmp_path / "M", diameters="1.5,4.5"
        )
    )
    path = tmp_path / "M" / "match.gpkg"
    sizes = {}
    for name in ("hits", "false_detections", "missed_craters", "found_craters",
                 "ignored_detections", "ignored_craters"):  # fmt: skip
        meta, _, shapes, values = pyogrio.raw.read(path, layer=name)
        sizes[name] = len(shapes)
        assert CRS.from_user_input(meta["crs"]).equals(
            CRS.from_authority("IAU_2015", 49900), ignore_axis_order=True
        )
        fields = dict(zip(meta["fields"], values, strict=True))
        for blob, lon, lat in zip(shapes, fields["lon"], fields["lat"], strict=True):
            assert np.frombuffer(blob[5:21], "<f8").tolist() == [lon, lat]
    assert sizes == {"hits": 2, "false_detections": 2, "missed_craters": 2, "found_craters": 2,
                     "ignored_detections": 2, "ignored_craters": 2}  # fmt: skip
    with sqlite3.connect(path) as base:
        styles = dict(base.execute("SELECT f_table_name, styleQML FROM layer_styles"))
    assert styles.keys() == sizes.keys()
    assert len(set(styles.values())) == len(styles)  # no two look alike
    for text in styles.values():
        ElementTree.fromstring(text.partition("\n")[2])


def test_equal_inputs_give_equal_tables(tmp_path: Path) -> None:
    known = write_csv(tmp_path / "known.csv", CRATERS)
    scan = write_scan(tmp_path / "SCAN", ROWS, AREAS)
    for name in ("one", "two"):
        run_match(MatchRequest(scan, known, tmp_path / name))
    for path in sorted((tmp_path / "one").iterdir()):
        if path.suffix != ".gpkg":  # which holds the time
            assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes(), path.name


def test_a_match_on_a_full_disk_leaves_no_folder(tmp_path: Path) -> None:
    known = write_csv(tmp_path / "known.csv", CRATERS)
    scan = write_scan(tmp_path / "SCAN", ROWS, AREAS)
    with full_disk(), pytest.raises(DiskFullError, match="M: no space is left on the disk"):
        run_match(MatchRequest(scan, known, tmp_path / "M"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["SCAN", "known.csv"]


def test_tables_in_pixels_against_an_image(tmp_path: Path) -> None:
    from PIL import Image

    Image.fromarray(np.full((300, 400), 90, np.uint8)).save(tmp_path / "tile.png")
    known = write_csv(
        tmp_path / "k.csv",
        [(100, 100, 20), (200, 150, 20), (390, 100, 20)],
        "x_px,y_px,diameter_px",
    )
    found = write_csv(tmp_path / "f.csv", [(102, 100, 0.9), (30, 30, 0.4)], "x_px,y_px,probability")
    result = CliRunner().invoke(
        app,
        ["match", str(found), "--catalogue", str(known), "--out", str(tmp_path / "M"),
         "--window", "48px", "--footprint", str(tmp_path / "tile.png"), "--json"],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    content = json.loads(result.stdout)
    assert content["craters"] == {"counted": 2, "ignored_size": 0, "ignored_border": 1}
    assert content["all_detections"]["recall"] == 0.5
    assert content["unit"] == "px"
    assert content["area_km2"] is None
    assert content["area_megapixels"] == 0.12
    assert content["at_rate"]["asked_rate"] == 10
    assert content["at_rate"]["asked_per"] == "megapixel"
    assert content["all_detections"]["false_per_megapixel"] == pytest.approx(1 / 0.12)
    assert content["all_detections"]["false_per_1000_km2"] is None
    assert content["at_rate"]["threshold"] == 0.4
    assert not (tmp_path / "M" / "match.gpkg").exists()
    assert any("Wilson" in note for note in content["notes"])


def test_without_footprint_or_detections(tmp_path: Path) -> None:
    known = write_csv(tmp_path / "k.csv", CRATERS)
    found = write_csv(tmp_path / "f.csv", [], "lon,lat,probability")
    request = MatchRequest(
        found, known, tmp_path / "M", window="4800", footprint="none", body="mars"
    )
    content = run_match(request)
    assert content["craters"]["counted"] == 6
    assert content["all_detections"]["recall"] == 0
    assert content["at_rate"]["threshold"] is None
    assert content["at_rate"]["precision"] is None
    assert content["rule"]["border"] is None
    assert content["at_rate"]["asked_per"] == "image"
    assert (
        "The scanned area is not known: false detections are stated per image" in content["notes"]
    )


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"footprint": ""}, GeoError, "does not record which area was scanned.*--footprint none"),
        ({"window": ""}, ConfigError, "size of a window is not known.*--window 4800m"),
        ({"body": ""}, GeoError, "does not record its body.*--body mars"),
        ({"body": "vulcan"}, GeoError, "vulcan is unknown"),
        ({"diameters": "1"}, ConfigError, "expected two numbers"),
        ({"diameters": "3,2"}, ConfigError, "first must be smaller"),
        ({"border": "24px"}, ConfigError, "the resolution is not known"),
        ({"false_per_image": -1.0}, ConfigError, "--false-per-image"),
        ({"false_per_area": 1.0}, ConfigError, "area is not known.*--false-per-image"),
        ({"false_per_area": 1.0, "false_per_image": 1.0}, ConfigError, "give one of them"),
        ({"footprint": "absent.gpkg"}, DataError, "no such file"),
        ({"columns": "lon=X"}, DataError, "no column 'X'"),
    ],
)
def test_what_cannot_be_matched(tmp_path: Path, change, error, message: str) -> None:
    known = write_csv(tmp_path / "k.csv", CRATERS)
    found = write_csv(tmp_path / "f.csv", [(10, 0, 0.5)], "lon,lat,probability")
    plain = {"window": "4800m", "footprint": "none", "body": "mars"}
    with pytest.raises(error, match=message):
        run_match(MatchRequest(found, known, tmp_path / "M", **{**plain, **change}))
    assert not (tmp_path / "M").exists()
    assert not list(tmp_path.glob(".M*"))


def test_rows_are_those_of_the_file_where_some_are_left_out(tmp_path: Path) -> None:
    """The longitudes are positive west, and two rows have no diameter."""
    scan = write_scan(tmp_path / "SCAN", ROWS, AREAS)
    rows = [(360 - lon if lon < 300 else -lon, lat, size) for lat, lon, size in
            ((lat, lon, size) for lon, lat, size in CRATERS)]  # fmt: skip
    known = write_csv(tmp_path / "k.csv", [(1, 1, 0), *rows[:3], (2, 2, ""), *rows[3:]],
                      "Longitude (W),Latitude (N),Diameter (km)")  # fmt: skip
    plain = write_csv(tmp_path / "plain.csv", CRATERS)
    content = run_match(MatchRequest(scan, known, tmp_path / "M", diameters="1.5,4.5"))
    expected = run_match(MatchRequest(scan, plain, tmp_path / "P", diameters="1.5,4.5"))
    assert content["detections"] == expected["detections"]
    assert content["craters"] == expected["craters"]
    added = [note for note in content["notes"] if note not in expected["notes"]]
    assert added == [
        "1 of 9 rows of k.csv are left out, as Diameter (km) is not a number: row 6 has ''",
        "1 of 9 rows of k.csv are left out, as Diameter (km) is not a positive diameter: "
        "row 2 has '0'",
        "The longitudes in 'Longitude (W)' are positive west: converted to east",
    ]
    with (tmp_path / "M" / "detections.csv").open(newline="") as stream:
        rows_of_file = [row["crater_row"] for row in csv.DictReader(stream)]
    assert rows_of_file == ["3", "5", "-1", "7", "-1", "8"]
    with (tmp_path / "M" / "craters.csv").open(newline="") as stream:
        rows_of_file = [row["crater_row"] for row in csv.DictReader(stream)]
    assert rows_of_file == ["3", "4", "5", "7", "8", "9"]


def test_a_crater_larger_than_the_body_is_refused(tmp_path: Path) -> None:
    scan = write_scan(tmp_path / "SCAN", ROWS, AREAS)
    known = write_csv(tmp_path / "k.csv", [*CRATERS, (10.0, 0.1, 8000.0)])
    with pytest.raises(DataError, match="row 9 has a diameter of 8000 km, larger than mars"):
        run_match(MatchRequest(scan, known, tmp_path / "M"))


@pytest.mark.parametrize(
    ("planet", "body", "refused"),
    [
        ("+proj=eqc +R=470000", "", ""),
        ("+proj=eqc +R=470000", "ceres", ""),
        ("+proj=eqc +R=470000", "vesta", "of an unknown body"),
        ("IAU_2015:60610", "titan", ""),
        ("IAU_2015:60610", "ganymede", "of titan"),
    ],
)
def test_any_body_is_matched_by_its_radius(
    tmp_path: Path, planet: str, body: str, refused: str
) -> None:
    scan = write_scan(tmp_path / "SCAN", ROWS, AREAS, planet)
    known = write_csv(tmp_path / "k.csv", [(row[0], row[1], 0.001) for row in ROWS])
    request = MatchRequest(scan, known, tmp_path / "M", window="100m", border="0m", body=body)
    if refused:
        with pytest.raises(GeoError, match=refused):
            run_match(request)
        return
    content = run_match(request)
    radius = Planet.named(planet).radius
    square = np.radians(1) * 2 * np.sin(np.radians(0.5)) * (radius / 1000) ** 2
    assert content["area_km2"] == pytest.approx(2 * square, rel=1e-6)
    assert content["detections"]["hits"] == len(ROWS)


def test_bodies_and_kinds_do_not_mix(tmp_path: Path) -> None:
    scan = write_scan(tmp_path / "SCAN", ROWS, AREAS)
    known = write_csv(tmp_path / "k.csv", CRATERS)
    with pytest.raises(GeoError, match="not of moon"):
        run_match(MatchRequest(scan, known, tmp_path / "M", body="moon"))
    with pytest.raises(GeoError) as caught:  # `match` has no --crs of its own
        run_match(MatchRequest(scan, known, tmp_path / "M", body="moon"))
    assert str(caught.value).endswith("Correct --body, or scan again with the right --crs.")
    pixels = write_csv(tmp_path / "p.csv", [(1, 2, 3)], "x_px,y_px,diameter_px")
    found = write_csv(tmp_path / "f.csv", [(1, 2, 0.5)], "x_px,y_px,probability")
    with pytest.raises(GeoError, match="is in degrees, the catalogue in pixels"):
        run_match(
            MatchRequest(found, pixels, tmp_path / "M", footprint=str(scan / "detections.gpkg"))
        )
    (tmp_path / "M").mkdir()
    with pytest.raises(ExistsError, match="exists already"):
        run_match(MatchRequest(scan, known, tmp_path / "M"))


@pytest.mark.parametrize(
    ("areas", "where"),
    [
        (AREAS, r"lon 9.5 to 20.5, lat -0.5 to 0.5"),
        (
            [(178, -0.5, 179, 0.5, "a"), (-179, -0.5, -178, 0.5, "b")],
            r"lon 178 to -178, lat -0.5 to 0.5",
        ),
    ],
)
def test_a_catalogue_of_another_region_is_named_with_the_area(
    tmp_path: Path, areas, where: str
) -> None:
    scan = write_scan(tmp_path / "SCAN", [(areas[0][0] + 0.5, 0.0, 0.9, "a")], areas)
    known = write_csv(tmp_path / "k.csv", [(350.0, 0.0, 2.0), (340.0, 0.0, 3.0)])
    message = rf"k.csv: none of the catalogue's 2 craters .* area \({where}\).*positive east"
    with pytest.raises(DataError, match=message):
        run_match(MatchRequest(scan, known, tmp_path / "M"))
    assert not (tmp_path / "M").exists()


def test_a_catalogue_in_pixels_of_another_image(tmp_path: Path) -> None:
    from PIL import Image

    Image.fromarray(np.full((300, 400), 90, np.uint8)).save(tmp_path / "tile.png")
    known = write_csv(tmp_path / "k.csv", [(900, 900, 9)], "x_px,y_px,diameter_px")
    found = write_csv(tmp_path / "f.csv", [(30, 30, 0.4)], "x_px,y_px,probability")
    request = MatchRequest(
        found, known, tmp_path / "M", window="48px", footprint=str(tmp_path / "tile.png")
    )
    with pytest.raises(
        DataError, match=r"\(x 0 to 400, y 0 to 300\). Does it belong to this image"
    ):
        run_match(request)


def test_a_scan_of_gaps_has_nothing_to_match_in(tmp_path: Path) -> None:
    scan = write_scan(tmp_path / "SCAN", [], [])
    known = write_csv(tmp_path / "k.csv", CRATERS)
    with pytest.raises(DataError, match="no image with a footprint.*all gaps"):
        run_match(MatchRequest(scan, known, tmp_path / "M"))
    found = MatchRequest(
        scan, known, tmp_path / "M", footprint=str(scan / "detections.gpkg"), window="4800m"
    )
    with pytest.raises(DataError, match="holds no footprint of an image"):
        run_match(found)


def test_the_command_says_what_it_found(tmp_path: Path) -> None:
    scan = write_scan(tmp_path / "SCAN", ROWS, AREAS)
    known = write_csv(tmp_path / "k.csv", CRATERS, "LON_CIRC_IMG,LAT_CIRC_IMG,DIAM_CIRC_IMG")
    arguments = ["match", str(scan), "--catalogue", str(known), "--out", str(tmp_path / "M")]
    result = CliRunner().invoke(app, [*arguments, "--diameters", "1.5,4.5", "--border", "24px"])
    assert result.exit_code == 0, result.output
    assert (
        "Craters that count: 4 in 2 image(s); ignored: 1 by size, 1 by the border." in result.stdout
    )
    assert "recall 0.500 (95 % interval" in result.stdout
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 6


def test_real_catalogue_against_itself(themis_tiles: Path, tmp_path: Path) -> None:
    """Each crater as a detection finds itself; those of a size within half a window count."""
    with (themis_tiles / "robbins.csv").open(newline="") as stream:
        rows = [
            (row["lon"], row["lat"], 0.5, row["tile"])
            for row in csv.DictReader(stream)
            if 1.5 <= float(row["diameter_km"]) <= 4.5
        ]
    found = write_csv(tmp_path / "f.csv", rows, "lon,lat,probability,source")
    content = run_match(
        MatchRequest(
            found,
            themis_tiles / "robbins.csv",
            tmp_path / "M",
            footprint=str(themis_tiles),
            window="48px",
            diameters="1.5,4.5",
        )
    )
    assert content["images"] == 160
    assert content["craters"]["counted"] == 146
    assert content["all_detections"]["recall"] == 1
    assert content["detections"]["false"] == 0
