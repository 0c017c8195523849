"""Matching by diameters: the rule, its figures, the shift of a catalogue, and the command."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Geod
from typer.testing import CliRunner

from craters.cli.main import app
from craters.errors import ConfigError, DataError
from craters.maps.catalogues import (
    Catalogue,
    Detections,
    MatchRequest,
    MatchRule,
    make_curve,
    match,
    match_report,
    measure_diameters,
    measure_shift,
    precision_by_diameter,
    read_detections,
    recall_by_diameter,
    register,
    run_match,
)
from craters.maps.catalogues.matching.pairing import (
    COUNTED,
    FALSE,
    HIT,
    IGNORED,
    IN_BORDER,
    NEAR_EDGE,
    OTHER_SIZE,
    OUTSIDE,
    WRONG_SIZE,
)
from craters.maps.catalogues.matching.registration import ORIGINS, pair_offsets
from craters.maps.geo import Footprint, Plane, Planet, Sphere, map_files, rim_polygons
from tests.conftest import Estimates
from tests.maps.scenes import RADIUS, write_csv

MARS = Sphere(RADIUS)
PLANE = Plane()


def find(rows, sources=None, errors=None) -> Detections:
    """Detections of rows (x, y, diameter, probability)."""
    values = np.array(rows, float).reshape(-1, 4)
    names = None if sources is None else np.array(sources, dtype=np.str_)
    return Detections(
        values[:, :2], values[:, 3], names, diameters=values[:, 2],
        diameter_errors=None if errors is None else np.array(errors, float),
    )  # fmt: skip


def know(rows, sources=None, *, in_pixels=True) -> Catalogue:
    """A catalogue of rows (x, y, diameter)."""
    values = np.array(rows, float).reshape(-1, 3)
    names = None if sources is None else np.array(sources, dtype=np.str_)
    return Catalogue(values[:, :2], values[:, 2], names, in_pixels)


def square(name, west, south, east, north) -> Footprint:
    return Footprint(name, [shapely.box(west, south, east, north)], PLANE)


# The rule.


def brute_force(found, known, rule: MatchRule) -> dict[int, int]:
    """The rule read aloud, for craters of which only those of some sizes count."""
    free, pairs = set(range(len(known))), {}
    ranks = sorted(range(len(found)), key=lambda i: (-found[i][3], *found[i][:3]))
    for i in ranks:
        near = []
        for j in free:
            size = known[j][2]
            apart = math.hypot(found[i][0] - known[j][0], found[i][1] - known[j][1])
            low, high = sorted([found[i][2], size])
            if apart <= rule.distance * size and high <= rule.ratio * low:
                ignored = not rule.smallest <= size <= rule.largest
                near.append((ignored, apart, -size, *known[j][:2], j))
        if near:
            pairs[i] = min(near)[-1]
            free.discard(pairs[i])
    return pairs


grid, sizes = st.integers(0, 24), st.sampled_from([2, 4, 6, 9, 20])
found_rows = st.lists(st.tuples(grid, grid, sizes, st.sampled_from([0.1, 0.5, 0.9])), max_size=14)
known_rows = st.lists(st.tuples(grid, grid, sizes), max_size=14)
rules = st.builds(
    MatchRule,
    distance=st.sampled_from([0.25, 0.5, 1.0]), ratio=st.sampled_from([1.0, 1.5, 2.0]),
    smallest=st.sampled_from([0, 4]), largest=st.sampled_from([9, math.inf]),
)  # fmt: skip


@given(found_rows, known_rows, rules)
def test_matching_is_what_the_rule_says(found, known, rule: MatchRule) -> None:
    got = match(find(found), know(known), None, PLANE, rule)
    expected = brute_force(found, known, rule)
    pairs = {i: int(j) for i, j in enumerate(got.detection_target) if j >= 0}

    # Equal rows are anyone's: compare the rows, not which copy was taken.
    def rows(pairs):
        return sorted((found[i], known[j]) for i, j in pairs.items())

    assert rows(pairs) == rows(expected)
    assert len(set(pairs.values())) == len(pairs)
    for i, row in enumerate(found):
        if i in pairs:
            counts = rule.smallest <= known[pairs[i]][2] <= rule.largest
            assert got.detection_state[i] == (HIT if counts else IGNORED)
        else:
            counts = rule.smallest <= row[2] <= rule.largest
            assert got.detection_state[i] == (FALSE if counts else OTHER_SIZE)


@given(found_rows, known_rows, rules, st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(found, known, rule, shuffle) -> None:
    def outcome(found, known):
        got = match(find(found), know(known), None, PLANE, rule)
        pairs = [(found[i], known[j]) for i, j in enumerate(got.detection_target) if j >= 0]
        states = zip(found, got.detection_state.tolist(), strict=True)
        return sorted(pairs), sorted(states)

    before = outcome(found, known)
    shuffle.shuffle(found)
    shuffle.shuffle(known)
    assert outcome(found, known) == before


@given(found_rows, known_rows, rules, st.sampled_from([0.3, 0.5, 0.7]))
def test_a_threshold_leaves_the_pairs_of_what_remains(found, known, rule, threshold) -> None:
    whole = match(find(found), know(known), None, PLANE, rule)
    kept = [row for row in found if row[3] >= threshold]
    states = match(find(kept), know(known), None, PLANE, rule).detection_state
    expected = [s for s, row in zip(whole.detection_state, found, strict=True) if row in kept]
    assert states.tolist() == expected


def test_limits_of_distance_and_ratio_are_included() -> None:
    known = know([(0, 0, 10), (100, 0, 10), (200, 0, 10), (300, 0, 10)])
    at = [(5, 0, 10, 0.9), (105.01, 0, 10, 0.9), (200, 0, 20, 0.9), (300, 0, 5, 0.9)]
    got = match(find(at), known, None, PLANE, MatchRule())
    assert got.detection_target.tolist() == [0, -1, 2, 3]
    assert got.distance[[0, 2]].tolist() == [5, 0]
    at = [(5, 0, 10, 0.9), (200, 0, 20.01, 0.9), (300, 0, 4.99, 0.9)]
    got = match(find(at), known, None, PLANE, MatchRule())
    assert got.detection_target.tolist() == [0, -1, -1]
    near = match(find([(4, 0, 10, 0.9)]), known, None, PLANE, MatchRule(distance=0.3))
    assert near.detection_state.tolist() == [FALSE]


def test_the_reach_is_that_of_the_crater_not_of_the_detection() -> None:
    got = match(find([(7, 0, 18, 0.9)]), know([(0, 0, 10)]), None, PLANE, MatchRule())
    assert got.detection_state.tolist() == [FALSE]


def test_what_matches_nothing_counts_by_its_own_diameter_and_place() -> None:
    area = [square("a", 0, 0, 100, 100)]
    known = know([(50, 50, 10), (20, 50, 4), (3, 20, 10)])
    found = find(
        [
            (50, 51, 4.99, 0.9),  # half as large as its crater, but for 0.01
            (20, 51, 8, 0.8),  # on a crater that is too small: its own size does not matter
            (80, 80, 4.9, 0.7), (80, 20, 25, 0.6), (80, 20, 26, 0.6),
            (4.9, 80, 10, 0.5), (5, 80, 10, 0.5), (-1, 80, 10, 0.5),
            (4, 20, 10, 0.4),
        ]
    )  # fmt: skip
    got = match(found, known, area, PLANE, MatchRule(smallest=5, largest=25, border=5))
    assert got.target_state.tolist() == [COUNTED, WRONG_SIZE, IN_BORDER]
    assert got.detection_state.tolist() == [
        OTHER_SIZE, IGNORED, OTHER_SIZE, FALSE, OTHER_SIZE, NEAR_EDGE, FALSE, OUTSIDE, IGNORED,
    ]  # fmt: skip
    # Without a footprint there is no border.
    got = match(found, known, None, PLANE, MatchRule(smallest=5, largest=25, border=5))
    assert got.detection_state[5:8].tolist() == [FALSE, FALSE, FALSE]


def test_a_hit_may_have_a_diameter_that_does_not_count() -> None:
    rule = MatchRule(smallest=10)
    got = match(find([(0, 0, 8, 0.9)]), know([(0, 0, 10)]), None, PLANE, rule)
    assert got.detection_state.tolist() == [HIT]


def test_windows_still_decide_where_the_rule_has_one() -> None:
    found, known = find([(3, 0, 90, 0.9)]), know([(0, 0, 2)])
    got = match(found, known, None, PLANE, MatchRule(3.0))
    assert got.detection_state.tolist() == [HIT]


@pytest.mark.parametrize("wrong", [0.0, -1.0, math.nan, math.inf])
def test_diameters_are_positive(wrong: float) -> None:
    good, bad = find([(0, 0, 8, 0.9)]), find([(0, 0, 8, 0.9), (0, 0, wrong, 0.9)])
    with pytest.raises(DataError, match=r"detections: diameter .* of row 1, .*positive number"):
        match(bad, know([(0, 0, 8)]), None, PLANE, MatchRule())
    with pytest.raises(DataError, match=r"catalogue: diameter .* of row 0"):
        match(good, know([(0, 0, wrong)]), None, PLANE, MatchRule())


def test_diameters_are_needed() -> None:
    found = Detections(np.zeros((1, 2)), np.ones(1))
    with pytest.raises(DataError, match="detections: has no diameters"):
        match(found, know([(0, 0, 8)]), None, PLANE, MatchRule())


@pytest.mark.parametrize(
    ("values", "message"),
    [({"distance": 0}, "--distance is 0"), ({"ratio": 0.5}, "--ratio is 0.5"),
     ({"ratio": math.nan}, "--ratio is nan"), ({"smallest": 3, "largest": 2}, "must be smaller")],
)  # fmt: skip
def test_bad_rules(values, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MatchRule(**values)


# Figures.


def test_best_f1_and_recall_at_a_precision_by_hand() -> None:
    known = know([(100 * i, 0, 10) for i in range(5)])
    rows = [(0, 0, 10, 0.9), (100, 0, 10, 0.8), (50, 50, 10, 0.7), (200, 0, 10, 0.6),
            (300, 0, 10, 0.5), (50, 90, 10, 0.4), (50, 130, 10, 0.3)]  # fmt: skip
    found = find(rows)
    curve = make_curve(match(found, known, None, PLANE, MatchRule()), found)
    # Hits 1 2 2 3 4 4 4 of 5, false 0 0 1 1 1 2 3.
    assert curve.f1.tolist() == pytest.approx([2 / 6, 4 / 7, 4 / 8, 6 / 9, 8 / 10, 8 / 11, 8 / 12])
    assert curve.threshold[curve.best] == 0.5
    assert curve.threshold[curve.at_precision(0.8)] == 0.5  # 4 of 5, though 3 of 4 comes before
    assert curve.threshold[curve.at_precision(0.9)] == 0.8
    none = find([(50, 50, 10, 0.7)])
    curve = make_curve(match(none, known, None, PLANE, MatchRule()), none)
    assert (curve.best, curve.at_precision(0.8)) == (-1, -1)


def test_recall_and_precision_have_their_own_diameters() -> None:
    known = know([(0, 0, 7), (100, 0, 9), (200, 0, 20)])
    found = find([(0, 0, 9, 0.9), (100, 0, 7, 0.8), (200, 0, 20, 0.2), (300, 0, 7, 0.7)])
    got = match(found, known, None, PLANE, MatchRule())
    edges = np.array([5.0, 8.0, 20.0])
    recall = recall_by_diameter(got, found, known, edges, 0.5)
    assert [(one.n, one.found) for one in recall] == [(1, 1), (2, 1)]
    precision = precision_by_diameter(got, found, edges, 0.5)
    assert [(one.n, one.found) for one in precision] == [(2, 1), (1, 1)]
    assert [one.share for one in precision] == [0.5, 1.0]
    everything = precision_by_diameter(got, found, edges, 0.0)
    assert [(one.n, one.found) for one in everything] == [(2, 1), (2, 2)]


def test_bias_and_scatter_by_hand() -> None:
    ratios = [0.8, 0.9, 1.0, 1.3, 1.6]
    known = know([(10 * i, lat, 1000.0 * (1 + i)) for i, lat in enumerate((-80, -1, 1, 16, 90))],
                 in_pixels=False)  # fmt: skip
    rows = [(x, y, d * ratio, 0.5) for (x, y), d, ratio in
            zip(known.places.tolist(), known.diameters.tolist(), ratios, strict=True)]  # fmt: skip
    found = find(rows, errors=[200.0, 199.0, 0.0, 1300.0, 2999.0])
    got = match(found, known, None, MARS, MatchRule())
    accuracy = measure_diameters(got, found, known, np.array([1000.0, 3000.0, 5000.0]))
    assert (accuracy.overall.n, accuracy.overall.median) == (5, 1.0)
    # Percentiles 16 and 84 of five values are at ranks 0.64 and 3.36.
    assert accuracy.overall.scatter == pytest.approx((1.3 + 0.36 * 0.3 - (0.8 + 0.64 * 0.1)) / 2)
    assert [(g.n, g.median) for g in accuracy.by_diameter] == [
        (2, pytest.approx(0.85)), (3, pytest.approx(1.3))
    ]  # fmt: skip
    assert [(g.low, g.high, g.n) for g in accuracy.by_latitude] == [
        (-90, -75, 1), (-15, 0, 1), (0, 15, 1), (15, 30, 1), (75, 90, 1)
    ]  # fmt: skip
    # Off by 200, 200, 0, 1200 and 3000 m.
    assert accuracy.within_error == pytest.approx(3 / 5)
    assert accuracy.distance == 0
    nothing = measure_diameters(
        match(find([]), known, None, MARS, MatchRule()), find([]), known, np.array([1.0, 2.0])
    )
    assert (nothing.overall.n, nothing.overall.median, nothing.distance) == (0, None, None)
    assert nothing.by_latitude == ()


# The shift.


def scatter_field(seed: int, n=30, images=2, false=40, hit=0.8, moved=((0, 0),)):
    """Craters far apart in images of 1000 pixels; the catalogue is moved in each image."""
    random = np.random.default_rng(seed)
    found, known, of_found, of_known = [], [], [], []
    for image in range(images):
        spots = random.permutation(100)[:n]
        places = (
            np.column_stack([spots % 10, spots // 10]) * 100 + 50 + random.uniform(-9, 9, (n, 2))
        )
        sizes = random.uniform(12, 40, n)
        shift = np.array(moved[image % len(moved)], float)
        known += [(*(place - shift), size) for place, size in zip(places, sizes, strict=True)]
        of_known += [str(image)] * n
        for place, size in zip(places, sizes, strict=True):
            if random.random() < hit:
                found.append((*(place + random.normal(0, 0.4, 2)), size * random.uniform(0.8, 1.2),
                              random.uniform(0.4, 1)))  # fmt: skip
        found += [
            (*random.uniform(0, 1000, 2), random.uniform(12, 40), random.uniform(0, 0.6))
            for _ in range(false)
        ]
        of_found += [str(image)] * (len(found) - len(of_found))
    areas = [square(str(image), 0, 0, 1000, 1000) for image in range(images)]
    return find(found, of_found), know(known, of_known), areas


@given(st.integers(0, 1000), st.floats(-6, 6), st.floats(-6, 6))
def test_a_matching_with_shifts_is_that_of_a_moved_catalogue(seed, right, down) -> None:
    found, known, areas = scatter_field(seed)
    shift = np.array([round(right, 2), round(down, 2)])
    moved = know(np.column_stack([known.places + shift, known.diameters]), known.sources)
    whole = match(found, moved, areas, PLANE, MatchRule(border=20))
    shifted = match(found, known, areas, PLANE, MatchRule(border=20), np.tile(shift, (2, 1)))
    assert shifted.detection_state.tolist() == whole.detection_state.tolist()
    assert shifted.detection_target.tolist() == whole.detection_target.tolist()
    assert shifted.target_state.tolist() == whole.target_state.tolist()
    rows, offsets = pair_offsets(shifted, found, known, PLANE)
    assert np.hypot(*(offsets - shift).T) == pytest.approx(shifted.distance[rows])


def test_the_shift_by_hand() -> None:
    known = know([(0, 0, 40), (100, 0, 40), (200, 0, 40)])
    found = find([(3, -2, 40, 0.9), (104, -1, 40, 0.8), (205, 9, 40, 0.7), (400, 0, 40, 0.6)])
    got = match(found, known, None, PLANE, MatchRule())
    shift = measure_shift(got, found, known, PLANE, draws=200)
    assert shift is not None
    assert (shift.offset, shift.n) == ((4.0, -1.0), 3)
    assert shift.intervals is not None
    assert shift.intervals[0].method == "percentile bootstrap over pairs"
    random = np.random.default_rng(0)
    counts = [np.bincount(random.integers(0, 3, 3), minlength=3) for _ in range(200)]
    for axis, values in enumerate(np.array([[3, 4, 5], [-2, -1, 9]])):
        drawn = [np.median(np.repeat(values, count)) for count in counts]
        limits = shift.intervals[axis].low, shift.intervals[axis].high
        assert limits == pytest.approx(np.quantile(drawn, [0.025, 0.975]))
    one = match(found, know([(0, 0, 40)]), None, PLANE, MatchRule())
    single = measure_shift(one, found, know([(0, 0, 40)]), PLANE)
    assert single is not None
    assert (single.offset, single.intervals) == ((3.0, -2.0), None)
    none = match(find([]), known, None, PLANE, MatchRule())
    assert measure_shift(none, find([]), known, PLANE) is None


def test_the_shift_over_images_if_there_are_five() -> None:
    for images, method, groups in ((4, "pairs", None), (5, "images", 5)):
        found, known, areas = scatter_field(3, images=images, moved=((2, -1),))
        got = match(found, known, areas, PLANE, MatchRule())
        shift = measure_shift(got, found, known, PLANE, seed=1)
        assert shift is not None
        assert shift.offset == pytest.approx((2, -1), abs=0.3)
        assert shift.intervals is not None
        assert shift.intervals[0].method == f"percentile bootstrap over {method}"
        assert shift.intervals[0].n_groups == groups
        for middle, interval in zip(shift.offset, shift.intervals, strict=True):
            assert interval.low <= middle <= interval.high


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 1000), st.floats(-9, 9), st.floats(-9, 9))
def test_registration_does_not_see_where_the_catalogue_was(seed, right, down) -> None:
    found, known, areas = scatter_field(seed)
    shift = np.array([right, down])
    moved = know(np.column_stack([known.places - shift, known.diameters]), known.sources)
    here = register(found, known, areas, PLANE, MatchRule(border=30))
    there = register(found, moved, areas, PLANE, MatchRule(border=30))
    assert there.shifts - here.shifts == pytest.approx(np.tile(shift, (2, 1)), abs=0.1)
    hits = here.matching.detection_state == HIT
    assert (there.matching.detection_state == HIT).tolist() == hits.tolist()
    crater = [one.matching.target_crater[one.matching.detection_target[hits]].tolist()
              for one in (here, there)]  # fmt: skip
    assert crater[0] == crater[1]


def test_registration_on_the_sphere_across_the_antimeridian() -> None:
    random = np.random.default_rng(5)
    places = np.column_stack([180 + random.uniform(-1, 1, 60), 60 + random.uniform(-1, 1, 60)])
    sizes = random.uniform(2500, 5000, 60)
    moved = MARS.travel(places, np.tile([1800.0, -1200.0], (60, 1)))
    rows = np.column_stack([moved, sizes, random.random(60)])
    known = know(np.column_stack([places, sizes]), in_pixels=False)
    made = register(find(rows), known, None, MARS, MatchRule())
    assert made.shifts == pytest.approx(np.array([[1800.0, -1200.0]]), abs=1)
    assert made.origin.tolist() == [ORIGINS.index("image")]
    before, after = made.recalls
    assert before is not None
    assert before < 0.6
    assert after == 1
    assert made.matching.distance.max() < 60  # east is not the same direction everywhere


def test_images_have_their_own_shifts() -> None:
    moved = ((7.0, 2.0), (-5.0, -6.0), (0.0, 0.0))
    found, known, areas = scatter_field(8, images=3, moved=moved)
    made = register(found, known, areas, PLANE, MatchRule(distance=0.2))
    assert made.shifts == pytest.approx(np.array(moved), abs=0.4)
    assert made.origin.tolist() == [2, 2, 2]
    before, after = made.recalls
    assert before is not None
    assert after is not None
    assert after > before + 0.2


def test_few_pairs_take_the_shift_of_all_images_unless_it_loses_pairs() -> None:
    found, known, areas = scatter_field(8, n=7, images=4, false=0, moved=((6.0, 3.0),))
    made = register(found, known, areas, PLANE, MatchRule(distance=0.2))
    assert made.origin.tolist() == [1, 1, 1, 1]
    assert made.shifts == pytest.approx(np.tile([6.0, 3.0], (4, 1)), abs=0.5)
    mixed = scatter_field(8, n=7, images=4, false=0, moved=((6.0, 3.0),) * 3 + ((-9.0, -6.0),))
    made = register(*mixed, PLANE, MatchRule(distance=0.5))
    assert made.origin.tolist() == [1, 1, 1, 0]
    assert made.shifts[3].tolist() == [0, 0]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("false", [60, 300])
def test_registration_does_not_invent_matches(seed: int, false: int) -> None:
    """Detections that have nothing to do with the craters."""
    found, known, areas = scatter_field(seed, n=60, images=4, hit=0, false=false)
    made = register(found, known, areas, PLANE, MatchRule())
    before, after = made.recalls
    assert before is not None
    assert after is not None
    assert after <= before + 0.01


def test_registering_nothing() -> None:
    made = register(find([]), know([(0, 0, 9)]), None, PLANE, MatchRule())
    assert made.shifts.tolist() == [[0, 0]]
    assert made.recalls == (0.0, 0.0)


# Reading.


@pytest.mark.parametrize(
    ("head", "factor", "options", "in_pixels"),
    [
        ("lon,lat,p_crater,diameter_km,diameter_error_km", 1000, "", False),
        ("lon,lat,p_crater,Diameter (m),diameter_error_m", 1, "", False),
        ("lon,lat,p_crater,radius_km,diameter_error_km", 2000, "", False),
        ("lon,lat,p_crater,D,S", 1000, "diameter_km=D,diameter_error_km=S", False),
        ("x,y,p_crater,diameter_px,diameter_error_px", 1, "", True),
    ],
)
def test_diameters_are_read(tmp_path: Path, head, factor, options, in_pixels) -> None:
    path = write_csv(tmp_path / "f.csv", [(1, 2, 0.5, 3, 0.25), (3, 4, 0.4, 5.5, 0)], head)
    found = read_detections(path, options, in_pixels=in_pixels)
    assert found.diameters is not None
    assert found.diameter_errors is not None
    assert found.diameters.tolist() == [3 * factor, 5.5 * factor]
    assert found.diameter_errors.tolist() == [0.25 * min(factor, 1000), 0]


def test_detections_without_usable_diameters_say_so(tmp_path: Path) -> None:
    def read(head: str, value: object = 3, **options):
        found = read_detections(
            write_csv(tmp_path / "f.csv", [(1, 2, 0.5, value)], head), **options
        )
        assert found.diameters is None
        return found.notes

    assert read("lon,lat,p_crater,other") == ()
    assert read("lon,lat,p_crater,diameter_km", "") == ()  # of images without coordinates
    (note,) = read("lon,lat,p_crater,Diameter")
    assert note.startswith("'Diameter' of the detections is not used: diameters are expected in "
                           "diameter_km or diameter_m")  # fmt: skip
    (note,) = read("lon,lat,p_crater,diameter_px")
    assert "'diameter_px' of the detections is not used" in note
    (note,) = read("x,y,p_crater,diameter_km", in_pixels=True)
    assert "expected in diameter_px (--detection-columns)" in note
    empty = read_detections(write_csv(tmp_path / "e.csv", [], "lon,lat,p_crater,diameter_km"))
    assert empty.diameters is not None
    assert empty.diameters.shape == (0,)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([(1, 2, 0.5, 3), (1, 2, 0.5, "")], r"row 3 has diameter_km '', expected a number"),
        ([(1, 2, 0.5, 3), (1, 2, 0.5, "nan")], r"row 3 has diameter_km 'nan', expected a number"),
        ([(1, 2, 0.5, 0), (1, 2, 0.5, 3)], "row 2 has diameter_km '0', expected a positive diam"),
        ([(1, 2, 0.5, -3)], "row 2 has diameter_km '-3', expected a positive diameter"),
    ],
)
def test_bad_diameters_are_refused(tmp_path: Path, rows, message: str) -> None:
    path = write_csv(tmp_path / "f.csv", rows, "lon,lat,p_crater,diameter_km")
    with pytest.raises(DataError, match=message):
        read_detections(path)
    with pytest.raises(DataError, match="no column 'D'"):
        read_detections(path, "diameter_km=D")


def test_bad_errors_are_refused(tmp_path: Path) -> None:
    head = "lon,lat,p_crater,diameter_km,diameter_error_km"
    path = write_csv(tmp_path / "f.csv", [(1, 2, 0.5, 3, -0.1)], head)
    with pytest.raises(DataError, match="row 2 has diameter_error_km '-0.1', expected 0 or more"):
        read_detections(path)


# Rims.


def test_rims_are_circles_on_the_sphere() -> None:
    geod = Geod(a=RADIUS, b=RADIUS)
    places = np.array([[10.0, -40.0], [179.99, 70.0], [-180.0, 0.0]])
    diameters = np.array([2000.0, 50_000.0, 300_000.0])
    for place, diameter, rim in zip(
        places, diameters, rim_polygons(MARS, places, diameters), strict=True
    ):
        lon, lat = shapely.get_coordinates(rim).T
        _, _, apart = geod.inv(np.full(65, place[0]), np.full(65, place[1]), lon, lat)
        assert apart == pytest.approx(np.full(65, diameter / 2), rel=1e-6)
        assert rim.is_valid
        assert np.ptp(lon) < 30  # not cut at 180
        area = Footprint("", [rim], MARS).area
        assert area == pytest.approx(math.pi * (diameter / 2000) ** 2, rel=5e-3)
    (pole,) = rim_polygons(MARS, np.array([[30.0, 89.9]]), np.array([100_000.0]))
    assert pole.is_valid
    assert Footprint("", [pole], MARS).area == pytest.approx(math.pi * 50**2, rel=5e-3)


# The command.

AREAS = [(9.5, -0.5, 10.5, 0.5, "a"), (19.5, -0.5, 20.5, 0.5, "b")]
CRATERS = [
    (10.0, 0.0, 2.0), (10.2, 0.2, 4.0), (9.7, 0.3, 3.0), (10.3, -0.3, 0.8),
    (20.0, 0.0, 5.0), (20.46, 0.0, 3.0),
]  # fmt: skip
FOUND = [  # lon, lat, diameter, its error, probability, image
    (10.005, 0.0, 2.2, 0.3, 0.9, "a"), (10.2, 0.21, 3.0, 0.5, 0.8, "a"),
    (10.2, 0.2, 8.1, 1.0, 0.95, "a"), (10.3, -0.3, 0.9, 0.1, 0.7, "a"),
    (9.8, -0.2, 0.7, 0.1, 0.6, "a"), (20.46, 0.0, 3.0, 0.3, 0.5, "b"),
    (20.01, 0.0, 5.5, 0.2, 0.65, "b"), (19.52, 0.0, 2.0, 0.2, 0.3, "b"),
]  # fmt: skip


def write_scan(folder: Path, rows=FOUND) -> Path:
    """The folder of a scan with diameters."""
    folder.mkdir()
    mars = Planet.named("IAU_2015:49910")
    names = ("lon", "lat", "diameter_km", "diameter_error_km", "p_crater")
    table = {name: np.array([row[i] for row in rows]) for i, name in enumerate(names)}
    table["source"] = np.array([row[5] for row in rows], object)
    table["diameter_px"] = table["diameter_km"] * 10
    boxes = [shapely.segmentize(shapely.box(*area[:4]), 0.1) for area in AREAS]
    rings = [
        shapely.transform(box, lambda corners: np.column_stack(mars.to_xy(*corners.T)))
        for box in boxes
    ]
    points = shapely.points(*mars.to_xy(table["lon"], table["lat"]))
    map_files.write_layers(
        folder / "detections.gpkg",
        [
            iter([map_files.Layer("detections", "Point", points, table)]),
            iter([map_files.Layer("footprint", "Polygon", np.array(rings),
                                  {"source": np.array([area[4] for area in AREAS], object)})]),
        ],
        mars,
        {},
    )  # fmt: skip
    summary = {"window": 48, "images": [{"resolution": 100.0} for _ in AREAS]}
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_scan_with_diameters(tmp_path: Path) -> None:
    scan, out = write_scan(tmp_path / "SCAN"), tmp_path / "M"
    known = write_csv(tmp_path / "k.csv", CRATERS)
    content = run_match(MatchRequest(scan, known, out, diameters="1,", border="3km"))
    assert sorted(path.name for path in out.iterdir()) == [
        "craters.csv", "curve.csv", "detections.csv", "diameter_ratio.csv", "diameters.png",
        "images.csv", "match.gpkg", "match.png", "precision_by_diameter.csv",
        "recall_by_diameter.csv", "report.html", "summary.json",
    ]  # fmt: skip
    assert content == json.loads((out / "summary.json").read_text())
    assert content["craters"] == {"counted": 4, "ignored_size": 1, "ignored_border": 1}
    assert content["detections"] == {
        "all": 8, "hits": 3, "false": 1, "ignored": 2, "outside": 0, "ignored_size": 1,
        "ignored_border": 1,
    }  # fmt: skip
    rows = read(out / "detections.csv")
    assert [row["state"] for row in rows] == [
        "hit", "hit", "false", "ignored: matches an ignored crater", "ignored: size",
        "ignored: matches an ignored crater", "hit", "ignored: border",
    ]  # fmt: skip
    assert [float(row["diameter_km"]) for row in rows] == [row[2] for row in FOUND]
    assert [row["crater_diameter_km"] for row in rows][:3] == ["2.0", "4.0", ""]
    assert float(rows[0]["diameter_error_km"]) == 0.3
    rule = content["rule"]
    assert (rule["by"], rule["distance"], rule["ratio"]) == ("diameter", 0.5, 2)
    assert (rule["smallest"], rule["largest"], rule["border"]) == (1, None, 3)
    assert rule["words"][0] == (
        "A detection and a crater of diameter D match if their centres are at most 0.5 D apart "
        "and the larger of their diameters is at most 2 times the smaller one."
    )
    assert rule["words"][3] == (
        "A detection that matches nothing is false if it has a diameter of at least 1 km and its "
        "centre is at least 3 km inside the image; otherwise it is ignored."
    )
    # The most probable detection is false; 3 of 4 craters from 0.65 on.
    best = content["best_f1"]
    assert (best["threshold"], best["hits"], best["false"]) == (0.65, 3, 1)
    assert best["f1"] == pytest.approx(6 / 8)
    assert (content["at_precision"]["recall"], content["at_precision"]["threshold"]) == (0, None)
    accuracy = content["diameters"]
    assert accuracy["all"]["hits"] == 3
    assert accuracy["all"]["median_ratio"] == pytest.approx(1.1)
    assert accuracy["within_error"] == pytest.approx(1 / 3)
    metres = math.pi * RADIUS / 180
    assert accuracy["median_distance"] == pytest.approx(0.01 * metres, rel=1e-6)
    shift = content["shift"]
    assert shift["pairs"] == 5
    assert shift["east_m"] == pytest.approx(0, abs=1e-6)
    for name in ("rule", "By diameter", "Shift between catalogue and images", "Best"):
        assert name.lower() in (out / "report.html").read_text().lower()
    text = "\n".join(match_report.lines(content))
    assert "Best F1: 0.750 (recall 0.750, precision 0.750, threshold 0.65)." in text
    assert "Diameters of 3 hits: 1.100 of the catalogue's" in text
    assert "1 of another size and 1 in the border match nothing and are ignored" in text


@pytest.mark.parametrize("is_registered", [False, True])
def test_the_finished_share_is_that_of_the_costs(tmp_path: Path, is_registered: bool) -> None:
    scan, known = write_scan(tmp_path / "SCAN"), write_csv(tmp_path / "k.csv", CRATERS)
    heard = Estimates()
    run_match(MatchRequest(scan, known, tmp_path / "M", register=is_registered), heard)
    costs = [6, 4, 6, 45 if is_registered else 0, 22, 8, 10, 27, 18, 10]
    assert heard.shares == pytest.approx([0, *np.cumsum(costs) / sum(costs)])


def test_tables_by_diameter(tmp_path: Path) -> None:
    scan, out = write_scan(tmp_path / "SCAN"), tmp_path / "M"
    known = write_csv(tmp_path / "k.csv", CRATERS)
    content = run_match(MatchRequest(scan, known, out, border="3km", bins="1,3,6,10"))
    rows = [row for row in read(out / "precision_by_diameter.csv") if row["detections"] == "all"]
    assert [(row["judged"], row["hits"], row["precision"], row["f1"]) for row in rows] == [
        ("1", "1", "1.0", "1.0"), ("2", "2", "1.0", "0.8"), ("1", "0", "0.0", ""),
    ]  # fmt: skip
    rows = [row for row in read(out / "recall_by_diameter.csv") if row["detections"] == "all"]
    assert [(row["craters"], row["found"]) for row in rows] == [("1", "1"), ("3", "2"), ("0", "0")]
    rows = read(out / "diameter_ratio.csv")
    assert [(row["by"], row["hits"]) for row in rows] == [
        ("all", "4"), ("diameter", "1"), ("diameter", "2"), ("diameter", "0"),
        ("latitude", "1"), ("latitude", "3"),
    ]  # fmt: skip
    images = read(out / "images.csv")
    columns = ("source", "craters", "pairs", "shift_east_m")
    assert [tuple(row[name] for name in columns) for row in images] == [
        ("a", "4", "3", ""), ("b", "1", "2", ""),
    ]  # fmt: skip
    assert content["recall_by_diameter"].keys() == {"all", "at_rate", "best_f1"}


def test_layers_are_rims(tmp_path: Path) -> None:
    scan, out = write_scan(tmp_path / "SCAN"), tmp_path / "M"
    run_match(MatchRequest(scan, write_csv(tmp_path / "k.csv", CRATERS), out, border="3km"))
    expected = {"hits": "diameter_km", "false_detections": "diameter_km",
                "missed_craters": "diameter_km", "found_craters": "diameter_km",
                "ignored_detections": "diameter_km", "ignored_craters": "diameter_km"}  # fmt: skip
    for name, column in expected.items():
        meta, _, shapes, values = pyogrio.raw.read(out / "match.gpkg", layer=name)
        assert meta["geometry_type"] == "Polygon"
        fields = dict(zip(meta["fields"], values, strict=True))
        for blob, lon, lat, diameter in zip(
            shapes, fields["lon"], fields["lat"], fields[column], strict=True
        ):
            rim = shapely.from_wkb(blob)
            centre = shapely.get_coordinates(rim)[:-1].mean(axis=0)
            assert centre == pytest.approx([lon, lat], abs=1e-4)
            area = Footprint("", [rim], MARS).area
            assert area == pytest.approx(math.pi / 4 * diameter**2, rel=5e-3)


def test_equal_inputs_give_equal_files(tmp_path: Path) -> None:
    scan, known = write_scan(tmp_path / "SCAN"), write_csv(tmp_path / "k.csv", CRATERS)
    for name in ("one", "two"):
        run_match(MatchRequest(scan, known, tmp_path / name, register=True))
    for path in sorted((tmp_path / "one").iterdir()):
        if path.suffix != ".gpkg":  # which holds the time
            assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes(), path.name


def test_without_options_every_diameter_counts_and_there_is_no_border(tmp_path: Path) -> None:
    """A detection at the very edge is false; a crater is only cut off by its disc."""
    scan, known = write_scan(tmp_path / "SCAN"), write_csv(tmp_path / "k.csv", CRATERS)
    content = run_match(MatchRequest(scan, known, tmp_path / "M"))
    rule = content["rule"]
    assert (rule["smallest"], rule["largest"], rule["border"]) == (0, None, 0)
    assert content["craters"] == {"counted": 6, "ignored_size": 0, "ignored_border": 0}
    assert content["detections"]["false"] == 3
    assert rule["words"][2].startswith(
        "A crater of any diameter counts if its whole disc is in the image."
    )
    notes = [note for note in content["notes"] if "smaller than all craters" in note]
    assert [note[: note.index(":")] for note in notes] == [
        "1 false detection(s) smaller than all craters that count (from 0.8 km)"
    ]
    ranged = run_match(MatchRequest(scan, known, tmp_path / "R", diameters="1,"))
    assert not any("smaller than all craters" in note for note in ranged["notes"])


def test_registered_scan(tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    spots = [(lon, lat) for lon in np.arange(9.6, 10.5, 0.1) for lat in (-0.3, -0.1, 0.1, 0.3)]
    sizes = random.uniform(1.5, 3, len(spots))
    moved = MARS.travel(np.array(spots), np.tile([700.0, 500.0], (len(spots), 1)))
    rows = [
        (*place, size, 0.2, p, "a")
        for place, size, p in zip(moved.tolist(), sizes, random.random(len(spots)), strict=True)
    ]
    scan = write_scan(tmp_path / "SCAN", rows)
    known = write_csv(tmp_path / "k.csv", [(*s, d) for s, d in zip(spots, sizes, strict=True)])
    plain = run_match(MatchRequest(scan, known, tmp_path / "P"))
    assert any("The catalogue is displaced" in note for note in plain["notes"])
    assert plain["registration"] is None
    words = ["match", str(scan), "--catalogue", str(known), "--out", str(tmp_path / "M")]
    result = CliRunner().invoke(app, [*words, "--register", "--distance", "0.4", "--ratio", "1.5"])
    assert result.exit_code == 0, result.output
    assert "Registered: 1 image(s) by their own pairs, 1 by those of all images" in result.stdout
    content = json.loads((tmp_path / "M" / "summary.json").read_text())
    made = content["registration"]
    assert made["recall_before"] < 0.6
    assert made["recall_after"] == 1
    assert content["all_detections"]["recall"] == 1
    assert content["shift"]["east_m"] == pytest.approx(700, abs=2)
    assert content["shift"]["north_m"] == pytest.approx(500, abs=2)
    assert not any("The catalogue is displaced" in note for note in content["notes"])
    row = read(tmp_path / "M" / "images.csv")[0]
    assert row["registered_by"] == "image"
    assert float(row["registered_east_m"]) == pytest.approx(700, abs=2)
    assert int(row["pairs"]) == len(spots) > int(row["pairs_unregistered"])


def test_pixels_of_several_images(tmp_path: Path) -> None:
    from PIL import Image

    for name in "ab":
        Image.fromarray(np.full((300, 400), 90, np.uint8)).save(tmp_path / f"{name}.png")
    known = write_csv(tmp_path / "k.csv", [("a", 100, 100, 20), ("b", 200, 150, 30)],
                      "image,x_px,y_px,diameter_px")  # fmt: skip
    found = write_csv(
        tmp_path / "f.csv",
        [("a", 104, 97, 22, 0.9), ("b", 204, 147, 90, 0.4), ("b", 100, 100, 20, 0.3)],
        "source,x_px,y_px,diameter_px,p_crater",
    )
    content = run_match(MatchRequest(found, known, tmp_path / "M", footprint=str(tmp_path)))
    assert content["detections"]["hits"] == 1
    assert content["detections"]["false"] == 2
    shift = content["shift"]
    assert (shift["right_px"], shift["down_px"], shift["pairs"]) == (4, -3, 1)
    assert content["diameters"]["median_distance"] == 5
    assert content["diameters"]["by_latitude"] == []
    assert not (tmp_path / "M" / "match.gpkg").exists()
    assert "<th>shift right px</th>" in (tmp_path / "M" / "report.html").read_text()


@pytest.mark.parametrize(
    ("change", "head", "message"),
    [
        ({"window": "48px"}, "diameter_km", "--window: the detections have diameters"),
        ({"distance": 0.0}, "diameter_km", "--distance is 0.0, expected above 0 and at most 2"),
        ({"ratio": 0.5}, "diameter_km", "--ratio is 0.5, expected 1 to 10"),
        ({"distance": 0.5, "window": "5km"}, "other", "--distance: the detections have no diam"),
        ({"ratio": 2.0, "window": "5km"}, "other", "--ratio: the detections have no diameters"),
        ({"register": True, "window": "5km"}, "other", "--register: the detections have no diam"),
        ({"border": "24px"}, "diameter_km", "the resolution is not known"),
    ],
)
def test_settings_that_do_not_fit(tmp_path: Path, change, head: str, message: str) -> None:
    known = write_csv(tmp_path / "k.csv", CRATERS)
    found = write_csv(tmp_path / "f.csv", [(10, 0, 0.5, 2)], f"lon,lat,probability,{head}")
    with pytest.raises(ConfigError, match=message):
        run_match(MatchRequest(found, known, tmp_path / "M",
                               **{"footprint": "none", "body": "mars", **change}))  # fmt: skip
    assert not (tmp_path / "M").exists()


def test_a_scan_with_diameters_that_found_nothing(tmp_path: Path) -> None:
    known = write_csv(tmp_path / "k.csv", CRATERS)
    found = write_csv(tmp_path / "f.csv", [], "lon,lat,probability,diameter_km")
    content = run_match(
        MatchRequest(found, known, tmp_path / "M", footprint="none", body="mars", register=True)
    )
    assert content["all_detections"]["recall"] == 0
    assert content["best_f1"]["threshold"] is None
    assert content["shift"] is None
    assert content["diameters"]["all"]["median_ratio"] is None
