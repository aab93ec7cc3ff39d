"""Units: what people write is understood as they mean it, and converted exactly."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.domain.units import EXAMPLES, UNITS, UnknownUnit, conversion, converted

# Of each unit what one of it is, as definitions and handbooks have it.
KNOWN = {
    "flow_rate": {
        "m3/h": 1 / 3.6, "m³/h": 1 / 3.6, "m^3/h": 1 / 3.6, "mc/h": 1 / 3.6, "CMH": 1 / 3.6, "m3/s": 1000, "l/s": 1,
        "LPS": 1, "L/min": 1 / 60, "lt/min": 1 / 60, "m3/d": 1 / 86.4, "mc/g": 1 / 86.4, "ML/d": 1000 / 86.4,
        "MLD": 1000 / 86.4, "Mm3/d": 1e6 / 86.4, "gpm": 3.785411784 / 60, "GPM": 3.785411784 / 60,
        "MGD": 3785411.784 / 86400, "IMGD": 4546090 / 86400, "ft3/min": 28.316846592 / 60, "cfs": 28.316846592,
        "10 L/min": 1 / 6,
    },
    "pressure": {
        "bar": 1, "BAR": 1, "barg": 1, "mbar": 0.001, "kPa": 0.01, "KPA": 0.01, "hPa": 0.001, "MPa": 10, "Pa": 1e-5,
        "psi": 0.0689475729, "PSIG": 0.0689475729, "m": 0.0980665, "mH2O": 0.0980665, "m.c.a.": 0.0980665,
        "mWC": 0.0980665, "mws": 0.0980665, "cmH2O": 0.000980665, "ft": 0.0298906692, "kg/cm2": 0.980665,
        "atm": 1.01325,
    },
    "temperature": {"C": 1, "°C": 1, "ºC": 1, "℃": 1, "°F": 5 / 9, "F": 5 / 9, "K": 1, "degC": 1},
    "volume": {
        "m3": 1, "mc": 1, "L": 0.001, "litri": 0.001, "10 L": 0.01, "ML": 1000, "gal": 0.003785411784,
        "ft3": 0.028316846592, "CCF": 2.8316846592, "kgal": 3.785411784, "hm3": 1e6, "Mm3": 1e6,
    },
}  # fmt: skip
EVERY_UNIT = [(measurement, unit) for measurement, units in KNOWN.items() for unit in units]
figures = st.floats(-1e6, 1e6, allow_nan=False, allow_subnormal=False)


@pytest.mark.parametrize(("measurement", "unit"), EVERY_UNIT)
def test_a_unit_is_worth_what_handbooks_say(measurement: str, unit: str):
    found = conversion(measurement, unit)
    assert found.numerator / found.denominator == pytest.approx(KNOWN[measurement][unit], rel=1e-9)
    assert found.zero == {"°F": 32, "F": 32, "K": 273.15}.get(unit, 0)


@pytest.mark.parametrize(
    ("measurement", "unit", "figure", "value"),
    [
        ("flow_rate", "m3/h", 36.0, 10.0),
        ("flow_rate", "L/min", 90.0, 1.5),
        ("pressure", "kPa", 450.0, 4.5),
        ("pressure", "m", 100.0, 9.80665),
        ("temperature", "°F", 50.0, 10.0),
        ("temperature", "°F", 32.0, 0.0),
        ("temperature", "K", 273.15, 0.0),
        ("volume", "L", 250.0, 0.25),
    ],
)
def test_round_figures_become_exactly_what_they_are(measurement: str, unit: str, figure: float, value: float):
    assert converted(np.array([figure]), [conversion(measurement, unit)], np.array([0])).tolist() == [value]


@pytest.mark.parametrize(
    ("measurement", "unit"),
    [
        ("flow_rate", "m3"), ("flow_rate", "bar"), ("flow_rate", "t/h"), ("flow_rate", "furlong"), ("flow_rate", ""),
        ("flow_rate", "s/L"), ("flow_rate", "9**9**9/s"), ("flow_rate", "0 L/s"), ("flow_rate", "L/s" * 30),
        ("pressure", "L/s"), ("pressure", "m2"), ("temperature", "bar"), ("temperature", "delta_degC"),
        ("volume", "m"), ("volume", "L/s"),
    ],
)  # fmt: skip
def test_what_is_no_unit_of_the_measurement_is_refused_with_examples(measurement: str, unit: str):
    with pytest.raises(UnknownUnit) as refused:
        conversion(measurement, unit)
    assert str(refused.value) == (
        f"'{unit[:40]}' is no unit of {measurement.replace('_', ' ')}; write one such as "
        f"{', '.join(EXAMPLES[measurement])}"
    )


@pytest.mark.parametrize("measurement", UNITS)
def test_every_example_is_understood_and_the_products_own_unit_changes_nothing(measurement: str):
    assert all(conversion(measurement, unit).denominator for unit in EXAMPLES[measurement])
    assert conversion(measurement, UNITS[measurement]).changes_nothing


@given(figure=figures, channel=st.sampled_from(EVERY_UNIT))
def test_a_figure_converted_there_and_back_is_the_same(figure, channel):
    found = conversion(*channel)
    value = converted(np.array([figure]), [found], np.array([0]))[0]
    back = value * found.denominator / found.numerator + found.zero
    assert back == pytest.approx(figure, rel=1e-12, abs=1e-9)


@given(figure=figures, channel=st.sampled_from(EVERY_UNIT))
def test_a_converted_figure_is_the_exact_one_to_the_last_digits(figure, channel):
    found = conversion(*channel)
    exact = (Fraction(figure) - Fraction(found.zero)) * Fraction(found.numerator) / Fraction(found.denominator)
    value = converted(np.array([figure]), [found], np.array([0]))[0]
    # Below the smallest normal number digits are lost.
    assert abs(Fraction(float(value)) - exact) <= max(abs(exact) * Fraction(1, 2**51), Fraction(1, 10**300))


@given(values=st.lists(figures, min_size=2, max_size=20), channel=st.sampled_from(EVERY_UNIT))
def test_more_stays_more(values, channel):
    ordered = np.sort(np.array(values))
    assert (np.diff(converted(ordered, [conversion(*channel)], np.zeros(len(ordered), dtype=int))) >= 0).all()


def test_each_row_is_converted_by_its_nodes_unit_and_what_is_missing_stays_missing():
    units = [None, conversion("flow_rate", "m3/h"), conversion("flow_rate", "L/min")]
    result = converted(np.array([36.0, 36.0, 36.0, np.nan, np.inf]), units, np.array([0, 1, 2, 1, 2]))
    assert result[:3].tolist() == [36.0, 10.0, 0.6]
    assert np.isnan(result[3])
    assert np.isinf(result[4])
