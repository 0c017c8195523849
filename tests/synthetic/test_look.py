"""Looks: distributions, their limits, presets and the documentation of each factor."""

from __future__ import annotations

import dataclasses
import math
import re
import typing

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from craters.errors import ConfigError
from craters.settings import LookName
from craters.synthetic import PRESETS, LogUniform, Look, Sometimes, Uniform
from craters.synthetic.look import look_of

NUMBERS = st.floats(1e-3, 1e3)
RANGES = st.tuples(NUMBERS, NUMBERS).map(sorted)
SEEDS = st.integers(0, 2**32)


@given(RANGES, st.booleans(), st.floats(0, 1), SEEDS)
def test_draws_stay_within_the_limits(ends, logarithmic, chance, seed):
    values = (LogUniform if logarithmic else Uniform)(*ends)
    rng = np.random.default_rng(seed)
    tiny = 1e-9 * ends[1]
    for _ in range(20):
        assert ends[0] - tiny <= values.draw(rng) <= ends[1] + tiny
    sometimes = Sometimes(chance, values)
    for _ in range(20):
        value = sometimes.draw(rng)
        assert value == 0 or ends[0] - tiny <= value <= ends[1] + tiny
    low, high = sometimes.limits
    assert (low, high) == ((0, ends[1]) if chance else (0, 0))


@given(SEEDS, st.sampled_from(sorted(PRESETS)))
def test_factors_of_presets_stay_within_their_limits(seed, name):
    look = PRESETS[name]
    scene = look.draw(np.random.default_rng(seed))
    for field in dataclasses.fields(look):
        low, high = getattr(look, field.name).limits
        assert low - 1e-9 <= getattr(scene, field.name) <= high * (1 + 1e-9), field.name


def test_distributions_have_the_mean_and_share_that_they_say():
    rng = np.random.default_rng(0)
    uniform = [Uniform(2, 6).draw(rng) for _ in range(4000)]
    assert np.mean(uniform) == pytest.approx(4, abs=0.1)
    logs = np.log([LogUniform(1, 100).draw(rng) for _ in range(4000)])
    assert np.mean(logs) == pytest.approx(math.log(10), abs=0.1)
    assert np.mean(logs < math.log(100) / 4) == pytest.approx(0.25, abs=0.03)
    some = np.array([Sometimes(0.3, Uniform(5, 6)).draw(rng) for _ in range(4000)])
    assert np.mean(some > 0) == pytest.approx(0.3, abs=0.03)


def test_a_factor_that_is_switched_off_leaves_the_other_draws_alone():
    look = Look()
    without = dataclasses.replace(look, dunes=Sometimes(0, look.dunes.values))
    dunes = []
    for seed in range(20):
        one, other = (vars(each.draw(np.random.default_rng(seed))) for each in (look, without))
        dunes.append(one.pop("dunes"))
        assert other.pop("dunes") == 0
        assert one == other
    assert 0 in dunes
    assert max(dunes) > 0


def test_every_factor_is_documented_in_order():
    text = typing.cast("str", Look.__doc__)
    documented = re.findall(r"^    (\w+) : ", text, re.MULTILINE)
    assert documented == [field.name for field in dataclasses.fields(Look)]


def test_the_default_is_mixed_and_the_presets_are_the_names_of_the_settings():
    assert Look() == PRESETS["mixed"]
    assert set(typing.get_args(LookName)) == set(PRESETS)
    assert look_of("moon") is PRESETS["moon"]
    assert look_of(PRESETS["moon"]) is PRESETS["moon"]
    with pytest.raises(ConfigError, match="look = 'venus': use one of mixed, mars-thermal"):
        look_of("venus")


def test_mixed_has_light_from_everywhere_and_other_looks_are_what_they_are():
    assert PRESETS["mixed"].azimuth.limits == (0, 360)
    assert PRESETS["mixed"].incidence.limits == (20, 85)
    assert PRESETS["mars-thermal"].thermal.limits[0] >= 0.8
    assert PRESETS["moon"].thermal.limits == (0, 0)
    assert PRESETS["moon"].dunes.limits == (0, 0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Uniform(2, 1), "low, high = 2, 1"),
        (lambda: Uniform(0, math.inf), "finite"),
        (lambda: LogUniform(0, 1), "low = 0: a logarithm"),
        (lambda: Sometimes(1.5, Uniform(0, 1)), "chance = 1.5: use 0 to 1"),
        (lambda: Look(incidence=Uniform(20, 95)), "incidence = 20 to 95: use values of 1 to 89"),
        (lambda: Look(noise=Uniform(-1, 1)), "noise = -1 to 1: use values of 0 to inf"),
        (lambda: Look(blur=Sometimes(0.5, Uniform(1, 2))), "blur = 0 to 2"),
    ],
)
def test_wrong_looks_are_named(make, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        make()


def test_distributions_are_written_as_in_the_table_of_the_docs():
    assert str(Uniform(0, 360)) == "0 to 360"
    assert str(LogUniform(0.5, 40)) == "0.5 to 40 (log)"
    assert str(Sometimes(0.25, LogUniform(1, 4))) == "25%: 1 to 4 (log)"
    assert str(Sometimes(0, Uniform(1, 4))) == "0"
