"""Clusters of craters: hardly ever in random fields, nearly always where they were planted."""

from __future__ import annotations

import numpy as np
import pytest

shapely = pytest.importorskip("shapely", reason="shapely is not installed")

from craters.detection.size_frequency.clusters import (
    Clusters,
    draw_places,
    find_clusters,
    make_random_fields,
)
from craters.maps.geo import Footprint, Sphere

MOON = Sphere(1_737_400.0)
HOLE = [(30.2, 70.2), (30.2, 70.6), (31.7, 70.6), (31.7, 70.2)]
AREA = [
    Footprint("a", [shapely.Polygon([(30, 70), (33, 70), (33, 71), (30, 71)], [HOLE])], MOON),
    Footprint("b", [shapely.box(33, 70.2, 33.5, 70.7)], MOON),
]
PLANTED = 12


def background(count: int) -> np.ndarray:
    """Draw diameters in km, of a power law from 0.3 km on."""
    return 0.3 * (1 - np.random.default_rng(5).random(count)) ** (-1 / 2.5)


def test_random_places_are_uniform_in_the_area() -> None:
    places = draw_places(AREA, 20_000, np.random.default_rng(1))
    assert places.shape == (20_000, 2)
    inside = [footprint.contains(places) for footprint in AREA]
    assert (inside[0] ^ inside[1]).all()
    sizes = [footprint.area or 0 for footprint in AREA]
    assert inside[1].mean() == pytest.approx(sizes[1] / sum(sizes), abs=0.01)
    below = Footprint("c", [shapely.box(30, 70, 33, 70.2)], MOON)  # of `a`, without its hole
    assert below.contains(places).mean() == pytest.approx((below.area or 0) / sum(sizes), abs=0.01)


def test_random_fields_have_clusters_in_at_most_5_percent() -> None:
    diameters = background(120)
    fields = make_random_fields(diameters, AREA)
    found = [
        find_clusters(draw_places(AREA, 120, np.random.default_rng(seed)), diameters, fields)
        for seed in range(1000, 1200)
    ]
    assert np.mean([bool(each.clusters) for each in found]) <= 0.05
    assert [each.in_cluster.any() for each in found] == [bool(each.clusters) for each in found]
    p = np.array([each.p_value for each in found])
    assert (p < 0.5).mean() == pytest.approx(0.5, abs=0.1)
    sigma = np.array([size_class.sigma for each in found for size_class in each.classes])
    assert sigma.mean() == pytest.approx(0, abs=0.15)
    assert sigma.std() == pytest.approx(1, abs=0.15)


def plant(kind: str, seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return places and diameters of a random field, of which the last ones are a group.

    A cluster has ten times the density of the background craters of similar size; neighbours in a
    chain have an eighth of their distance.
    """
    random = np.random.default_rng(seed)
    others = background(count)
    sizes = 0.5 * 2 ** np.random.default_rng(6).uniform(-0.4, 0.4, PLANTED)
    density = ((others > 0.35) & (others < 0.7)).sum() / 1e6
    density /= sum(footprint.area or 0 for footprint in AREA)
    turn = random.uniform(0, 2 * np.pi, PLANTED)
    if kind == "cluster":
        reach = np.sqrt(PLANTED / (10 * density * np.pi) * random.random(PLANTED))
    else:
        turn[:], reach = turn[0], np.arange(PLANTED) / 8 / np.sqrt(density)
    places = draw_places(AREA, count + 1, random)
    offsets = reach[:, None] * np.column_stack([np.sin(turn), np.cos(turn)])
    group = MOON.travel(np.repeat(places[-1:], PLANTED, axis=0), offsets)
    return np.concatenate([places[:-1], group]), np.concatenate([others, sizes])


@pytest.mark.parametrize("kind", ["cluster", "chain"])
@pytest.mark.parametrize("count", [80, 600])
def test_planted_groups_are_found_in_at_least_90_percent(kind: str, count: int) -> None:
    fields = make_random_fields(plant(kind, 0, count)[1], AREA)
    hits, others = [], []
    for seed in range(40):
        places, diameters = plant(kind, seed, count)
        in_cluster = find_clusters(places, diameters, fields).in_cluster
        hits.append(in_cluster[-PLANTED:].mean() >= 0.5)
        others.append(in_cluster[:-PLANTED].mean())
    assert np.mean(hits) >= 0.9
    assert np.mean(others) <= 0.08  # those between the planted ones, too


def test_what_is_said_of_a_cluster() -> None:
    places, diameters = plant("cluster", 3, 80)
    found = find_clusters(places, diameters, make_random_fields(diameters, AREA))
    first = found.clusters[0]
    rows = found.number == 0
    assert set(range(80, 80 + PLANTED)) <= set(np.flatnonzero(rows).tolist())
    assert (first.craters, first.low, first.high) == (
        rows.sum(), diameters[rows].min(), diameters[rows].max(),
    )  # fmt: skip
    middle = np.array([[first.lon, first.lat]])
    reach = MOON.distance(np.repeat(middle, rows.sum(), axis=0), places[rows])
    assert first.radius_km == pytest.approx(reach.max() / 1000, rel=1e-6)
    assert found.p_value == 1 / 200
    of_size = next(each for each in found.classes if each.low < 0.5 < each.high < 0.9)
    assert of_size.sigma < 0
    assert of_size.distance_km < of_size.random_km


def test_few_craters_are_in_no_cluster() -> None:
    places = np.array([[31.0, 70.1], [31.0001, 70.1]])
    diameters = np.array([1.0, 1.0])
    found = find_clusters(places, diameters, make_random_fields(diameters, AREA))
    assert isinstance(found, Clusters)
    assert (found.clusters, found.classes, found.p_value) == ([], [], 1.0)
    assert not found.in_cluster.any()
