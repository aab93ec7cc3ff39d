"""Units in which instruments report, and the one in which the product holds each measurement.

What people write is understood by `pint`; its registry works in fractions, so that a factor is exact until the last
step. Nothing else of the product knows pint.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pint

Floats = npt.NDArray[np.float64]

# The product's own unit of each measurement; what pint calls it; what utilities write besides.
UNITS = {"flow_rate": "L/s", "pressure": "bar", "temperature": "°C", "volume": "m³"}
_CANONICAL = {"flow_rate": "liter/second", "pressure": "bar", "temperature": "degC", "volume": "m**3"}
EXAMPLES: Mapping[str, tuple[str, ...]] = {
    "flow_rate": ("L/s", "m3/h", "L/min", "m3/d", "ML/d", "gpm", "MGD", "ft3/min"),
    "pressure": ("bar", "m", "mH2O", "kPa", "mbar", "psi", "ft"),
    "temperature": ("°C", "°F", "K"),
    "volume": ("m3", "L", "gal", "ft3", "10 L"),
}

# What stands for a whole unit, in any case of letters, and means something else or nothing to pint.
_WORDS: Mapping[str, Mapping[str, str]] = {
    "flow_rate": {
        "lps": "L/s", "lpm": "L/min", "lph": "L/hour", "lpd": "L/day", "mld": "ML/day",
        "cms": "m**3/s", "cmh": "m**3/hour", "cmd": "m**3/day", "m3h": "m**3/hour", "m3d": "m**3/day",
        "gpm": "gallon/min", "usgpm": "gallon/min", "gph": "gallon/hour", "gpd": "gallon/day",
        "mgd": "1000000 gallon/day", "igpm": "imperial_gallon/min", "imgd": "1000000 imperial_gallon/day",
        "cfs": "foot**3/s", "cfm": "foot**3/min", "cfh": "foot**3/hour", "cfd": "foot**3/day",
    },
    "pressure": {
        # Metres (feet) of head: what a gauge in a water network shows where it shows a length.
        **dict.fromkeys(
            ("m", "mh2o", "m h2o", "mwc", "mws", "mca", "m.c.a.", "m c.a.", "mce", "mhd", "m head"), "meter_H2O"
        ),
        **dict.fromkeys(("cm", "cmh2o", "cmwc"), "0.01 meter_H2O"),
        **dict.fromkeys(("mm", "mmh2o", "mmwc"), "0.001 meter_H2O"),
        **dict.fromkeys(("ft", "fth2o", "ft h2o", "ftwc", "ft head"), "foot_H2O"),
        **dict.fromkeys(("kg/cm2", "kg/cm**2", "kgf/cm2", "kgf/cm**2"), "kilogram_force/cm**2"),
        **dict.fromkeys(("psi", "psig"), "psi"), **dict.fromkeys(("bar", "barg", "bar(g)"), "bar"),
        "mbar": "mbar", "kpa": "kPa", "hpa": "hPa",
    },
    "temperature": {
        **dict.fromkeys(("c", "°c", "degc", "celsius"), "degC"),
        **dict.fromkeys(("f", "°f", "degf", "fahrenheit"), "degF"),
        **dict.fromkeys(("k", "°k", "kelvin"), "kelvin"),
    },
    "volume": {
        "mg": "1000000 gallon", "ccf": "100 foot**3", "hcf": "100 foot**3", "cf": "foot**3", "cuft": "foot**3",
        "mcf": "1000 foot**3", "imp gal": "imperial_gallon", "ac-ft": "acre_foot", "acft": "acre_foot",
    },
}  # fmt: skip
# Parts of a unit, around its stroke.
_PARTS = {
    **dict.fromkeys(("lt", "ltr", "lit", "litri", "litre", "litres"), "liter"),
    **dict.fromkeys(("mc", "cbm"), "m**3"), "mmc": "1000000 m**3", "cf": "foot**3", "usgal": "gallon",
    # To pint a million cubic metres would be cubes of a thousand kilometres.
    "Mm**3": "1000000 m**3", "Mmc": "1000000 m**3", "MG": "1000000 gallon",
    **dict.fromkeys(("g", "gg", "giorno", "tag", "jour", "j", "dia", "día"), "day"),
    **dict.fromkeys(("ora", "hr", "std", "stunde", "heure", "hora"), "hour"), "sec": "second", "mn": "minute",
}  # fmt: skip
# A number, as in "10 L" of a meter with pulses, then letters; an exponent is one digit, so that no text is an
# arithmetic exercise.
_NUMBER = r"(?:(?P<number>\d{1,9}(?:\.\d{1,9})?) ?\*? ?)?"
_LETTERS = r"(?:[^\d*^]|(?<=H)2(?=O))*"
_FORM = re.compile(rf"{_NUMBER}(?P<unit>(?![\s/]){_LETTERS}(?:\*\*[23]{_LETTERS})*)")
_LONGEST = 40


class UnknownUnit(ValueError):
    """A text that names no unit of a measurement; the message says so, and which would do."""


@dataclass(frozen=True)
class Conversion:
    """From a unit to the product's: (figure - zero) · numerator / denominator, in the product's unit.

    Numerator and denominator are whole numbers where float64 can hold them: 36 m³/h become exactly 10 L/s.
    """

    zero: float
    numerator: float
    denominator: float

    @property
    def changes_nothing(self) -> bool:
        return self.zero == 0 and self.numerator == self.denominator


@cache
def conversion(measurement: str, unit: str) -> Conversion:
    """How figures of a measurement become the product's.

    Args:
        measurement: flow_rate, pressure, temperature or volume.
        unit: as people write it, such as "m³/h", "gpm", "m" (of head, for pressure), "°F".

    Raises:
        UnknownUnit: if this is no unit of that measurement.
    """
    if unit == UNITS[measurement]:
        return Conversion(0.0, 1.0, 1.0)
    try:
        number, name = _understood(measurement, unit)
        registry = _registry()
        canonical = _CANONICAL[measurement]
        at_zero, at_one = (Fraction(registry.convert(Fraction(n), name, canonical)) for n in (0, 1))
    # Of what pint raises for a text that is none of its own, only the sum is useful: it is no unit.
    except Exception:
        examples = ", ".join(EXAMPLES[measurement])
        message = f"'{unit[:_LONGEST]}' is no unit of {measurement.replace('_', ' ')}; write one such as {examples}"
        raise UnknownUnit(message) from None
    factor = number * (at_one - at_zero)
    zero = -at_zero / (at_one - at_zero) / number
    if max(factor.numerator, factor.denominator) <= 2**53:
        return Conversion(float(zero), float(factor.numerator), float(factor.denominator))
    return Conversion(float(zero), float(factor), 1.0)


def converted(figures: Floats, conversions: list[Conversion | None], of_row: npt.NDArray[np.integer[Any]]) -> Floats:
    """Figures in the product's unit; NaN and infinities stay what they are.

    Args:
        figures: one measurement, a figure a row.
        conversions: those in use; None: figures are in the product's unit already.
        of_row: for each row, its place in `conversions`.
    """
    if not any(conversions):
        return figures
    neutral = Conversion(0.0, 1.0, 1.0)
    in_use = [found or neutral for found in conversions]
    zero, numerator, denominator = (
        np.array([getattr(found, part) for found in in_use])[of_row] for part in ("zero", "numerator", "denominator")
    )
    with np.errstate(over="ignore"):
        result: Floats = (figures - zero) * numerator / denominator
    return result


def _understood(measurement: str, unit: str) -> tuple[Fraction, str]:
    """The number in front of a unit (mostly one), and its name for pint."""
    # The ordinal sign is what many keyboards have for a degree.
    text = unicodedata.normalize("NFKC", unit.replace("º", "°").replace("·", "*")).strip()
    text = re.sub(r"\s+", " ", re.sub(r"\s*/\s*", "/", text.replace("^", "**")))
    if not text or len(text) > _LONGEST:
        raise ValueError(text)
    text = re.sub(r"(?<=[A-Za-z])([23])(?![A-Za-z0-9])", r"**\1", text)
    number, text = _parted(text)
    words = _WORDS[measurement]
    text = words.get(text.casefold(), words.get(text.casefold().replace("**", ""), text))
    factor, text = _parted(text)
    number *= factor
    parts = []
    for place, part in enumerate(text.split("/")):
        factor, name = _parted(_PARTS.get(part, _PARTS.get(part.casefold(), part)))
        number = number * factor if place == 0 else number / factor
        parts.append(name)
    return number, "/".join(parts)


def _parted(text: str) -> tuple[Fraction, str]:
    found = _FORM.fullmatch(text)
    if found is None or (number := Fraction(found["number"] or 1)) == 0 or "delta" in text:
        raise ValueError(text)
    return number, found["unit"]


@cache
def _registry() -> pint.UnitRegistry[Any]:
    # A third of a second, which only those wait for whose units are not the product's.
    import pint

    return pint.UnitRegistry(non_int_type=Fraction)
