"""What a heading says of its column: measurement, unit and node, as in "Portata ingresso Nord [m3/h]" or "P_J280"."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from src.domain.readings import MEASUREMENTS
from src.domain.tables import words
from src.domain.units import UNITS, UnknownUnit, conversion

_BRACKETS = re.compile(r"[\[({<]([^\])}>]{1,30})[\])}>]")
_BEHIND = re.compile(r"(?:\bin\b|,|:|\s|_|-|/)\s*(\S{1,12}(?:\s?/\s?\S{1,4})?)\s*$")
# What can only be meant as a unit, known or not.
_LIKE_A_UNIT = re.compile(
    r"\d*\s?(?:(?:m3|m³|mc|m\^3|cbm|l|lt|lit\w*|gal\w*|ft3|ft³|cf|kg\w*)\s?/\s?\w{1,7}"
    r"|\w{1,12}\s?/\s?(?:h|s|sec|min|d|g|gg|ora|std|u|cm2|cm²|m2|m²)|%|‰|°\w?|\w*[³²])",
    re.IGNORECASE,
)
_LETTER = re.compile(r"([a-zA-Z])(\d+)")
_EXTREME_OF_LETTER = re.compile(r"[fqpht](?:min|max)")
_TAG = re.compile(
    r"(FIT|FT|FI|FQI|QT|PIT|PT|PI|LIT|LT|LI|TIT|TT|TE)[\s_.-]?(\d[^\W_]*)(?:[._](?:PV|CV|MEAS|VALUE|VAL))?",
    re.IGNORECASE,
)
_OF_TAG = {"F": "flow_rate", "Q": "flow_rate", "P": "pressure", "L": "level", "T": "temperature"}


@dataclass(frozen=True)
class Heading:
    """What a heading says.

    Attributes:
        measurement: of the product's; None where it names none.
        is_level: whether it is a level of water, which is a pressure in metres of head.
        unit: as it stands there.
        node: what is left of it, a name.
        refused: why such a column is not taken, where it is one of those.
        is_measurement_a_guess: whether only a letter or a unit speaks for the measurement.
        is_counter: whether it is the register of a meter.
    """

    measurement: str | None = None
    is_level: bool = False
    unit: str | None = None
    node: str | None = None
    refused: str | None = None
    is_measurement_a_guess: bool = False
    is_counter: bool = False


def units_measure(unit: str) -> list[str]:
    """The measurements that can have a unit."""
    found = []
    for measurement in MEASUREMENTS:
        try:
            conversion(measurement, unit)
        except UnknownUnit:
            continue
        found.append(measurement)
    return found


def read_heading(parts: Sequence[str]) -> Heading:
    """What the lines of a heading say together."""
    label = " ".join(dict.fromkeys(part.strip() for part in parts if part.strip()))
    if label in UNITS:
        return Heading(label, unit=UNITS[label])
    unit, rest = _unit(parts)
    if unit is None and (unknown := _unknown_unit(parts)) is not None:
        return Heading(refused=f"its unit '{unknown}' is not known: write one such as m3/h, or say it in a mapping")
    tokens = words.words_of(rest)
    plain = [words.plain(token) for token in tokens]
    if not tokens:
        return _of_unit(Heading(unit=unit))
    taken: set[int] = set()
    measurement: str | None = None
    guess = False
    if (found := _TAG.fullmatch(rest.strip())) is not None:
        name = rest.strip()[: found.end(2)]
        of_tag = _OF_TAG[found[1][0].upper()]
        return _level(Heading(of_tag, unit=unit, node=name, is_measurement_a_guess=unit is None))
    for place, word in enumerate(plain):
        kinds = [kind for kind, listed in words.MEASUREMENT_WORDS.items() if word in words.known(listed)]
        if kinds and (measurement is None or measurement == kinds[0]):
            measurement = kinds[0]
            taken.add(place)
        elif measurement is None and (kind := _compound(word)) is not None:
            measurement = kind
            taken.add(place)
    if refused := _refused(plain, measurement):
        return Heading(refused=refused)
    by_unit = units_measure(unit) if unit else []
    counter = any(word in words.known(words.COUNTERS) for word in plain)
    summed = [place for place, word in enumerate(plain) if word in words.known(words.SUMMED)]
    if summed and measurement in ("flow_rate", "volume") and (not by_unit or "volume" in by_unit):
        # "Portata totalizzata" is what has flowed through.
        measurement, counter = "volume", True
        taken.update(summed)
    if measurement == "volume" and "flow_rate" in by_unit and "volume" not in by_unit:
        measurement = "flow_rate"
    if measurement is None:
        if len(plain[0]) == 1 and plain[0] in words.LETTERS and (len(plain) > 1 or unit):
            measurement, guess = words.LETTERS[plain[0]], unit is None
            if by_unit and _base(measurement) not in by_unit:
                measurement, guess = None, False
            else:
                taken.add(0)
        elif len(plain[0]) == 1 and plain[0] == "s" and len(plain) > 1:
            return Heading(refused="the state of a pump or valve (on or off), which is no measurement")
        elif (
            len(plain) == 1
            and (found := _LETTER.fullmatch(tokens[0])) is not None
            and found[1].lower() in "fqp"
            and not by_unit
        ):
            measurement, guess = words.LETTERS[found[1].lower()], True
    node = _node(rest, tokens, plain, taken)
    return _of_unit(
        _level(Heading(measurement, unit=unit, node=node, is_measurement_a_guess=guess, is_counter=counter))
    )


def _level(heading: Heading) -> Heading:
    if heading.measurement != "level":
        return heading
    return Heading("pressure", True, heading.unit or "m", heading.node, None, heading.is_measurement_a_guess, False)


def _base(measurement: str) -> str:
    return "pressure" if measurement == "level" else measurement


def _of_unit(heading: Heading) -> Heading:
    """A heading without a word for its measurement, of which the unit says it."""
    if heading.measurement is not None or heading.unit is None:
        return heading
    possible = units_measure(heading.unit)
    if not possible:
        return heading
    # Metres are a head or a level of water, both a pressure.
    is_guess = heading.unit.casefold() in ("m", "c", "k", "f", "mm", "cm", "ft")
    return Heading(possible[0], unit=heading.unit, node=heading.node, is_measurement_a_guess=is_guess)


def _unit(parts: Sequence[str]) -> tuple[str | None, str]:
    """The unit that a heading names, and what else it says."""
    lines = [part.strip() for part in dict.fromkeys(parts) if part.strip()]
    for place, line in enumerate(lines):
        for found in _BRACKETS.finditer(line):
            if units_measure(found[1].strip()):
                others = [
                    *lines[:place],
                    (line[: found.start()] + " " + line[found.end() :]).strip(),
                    *lines[place + 1 :],
                ]
                return found[1].strip(), " ".join(filter(None, others))
    if len(lines) > 1:
        for place in range(len(lines) - 1, 0, -1):
            bare = lines[place].strip("[](){} ")
            if units_measure(bare) and not _is_word(bare):
                return bare, " ".join(lines[:place] + lines[place + 1 :])
    text = " ".join(lines)
    if (behind := _BEHIND.search(text)) is not None:
        unit = behind[1].strip("[](){} ")
        candidates = [unit] + ([unit.replace("_", "/")] if "_" in unit else [])
        for one in candidates:
            # A letter or two at the end of a name are no unit, unless there is a stroke or a bar in them.
            if (
                (len(one) > 2 or "/" in one or one in ("m3", "m³", "°C", "mc") or one.casefold() in ("ls",))
                and units_measure(one)
                and not _is_word(one)
            ):
                return one, text[: behind.start()].strip(" ,:_-/")
    for ending, unit in _ENDINGS.items():
        if words.plain(text).endswith(ending):
            return unit, text[: -len(ending)]
    return None, text


# How names of columns write what has a stroke.
_ENDINGS = {
    "_l_s": "L/s", "_ls": "L/s", "_lps": "L/s", "_m3h": "m3/h", "_m3_h": "m3/h", "_mc_h": "m3/h", "_mch": "m3/h",
    "_l_min": "L/min", "_bar": "bar", "_kpa": "kPa", "_mca": "m", "_degc": "°C", "_m3": "m3", "_psi": "psi",
    "_l_h": "L/h", "_lmin": "L/min",
}  # fmt: skip


def _unknown_unit(parts: Sequence[str]) -> str | None:
    """What stands where a unit does and looks like one, in a heading without a unit that is known."""
    lines = [part.strip() for part in dict.fromkeys(parts) if part.strip()]
    in_brackets = [found[1].strip() for line in lines for found in _BRACKETS.finditer(line)]
    for text in [*in_brackets, *(line.strip("[](){} ") for line in lines[1:])]:
        if _LIKE_A_UNIT.fullmatch(text):
            return text
    return None


def _is_word(text: str) -> bool:
    plain = words.plain(text)
    return any(plain in words.known(listed) for listed in (words.FILLERS, *words.MEASUREMENT_WORDS.values()))


def _compound(word: str) -> str | None:
    """The measurement in a German compound or a plural that is not listed."""
    for ending, kind in (
        ("durchfluss", "flow_rate"),
        ("zufluss", "flow_rate"),
        ("druck", "pressure"),
        ("temperatur", "temperature"),
        ("zahlerstand", "volume"),
        ("fullstand", "level"),
    ):
        if word.endswith(ending) or word.startswith(ending):
            return kind
    return None


def _refused(plain: list[str], measurement: str | None) -> str | None:
    listed = set(plain)
    if any("_".join(plain[place:]) in words.known(words.FLAGS) for place in range(len(plain))) or listed & words.known(
        words.FLAGS
    ):
        return "a flag or a remark about readings, which is no measurement"
    if listed & words.known(words.TARGETS) or "set_point" in "_".join(plain):
        return "a set-point or a threshold, which is no measurement"
    if listed & words.known(words.DIFFERENCES):
        return "a difference of two measurements, which is none itself"
    if measurement is None and listed & words.known(words.STATUS):
        return "the state of a pump, a valve or an alarm, which is no measurement"
    is_measured = measurement is not None or plain[0] in words.LETTERS
    if (is_measured and listed & words.known(words.EXTREMES)) or _EXTREME_OF_LETTER.fullmatch(plain[0]):
        return "a least or greatest value of a span, which is no reading of its own"
    return None


def _is_filler(word: str) -> bool:
    """Whether a word belongs to no name; a capital letter is one."""
    return words.plain(word) in words.known(words.FILLERS) and not (len(word) == 1 and word.isupper())


def _node(rest: str, tokens: list[str], plain: list[str], taken: set[int]) -> str | None:
    """What is left as a name, written as it stands there."""
    left = [place for place in range(len(tokens)) if place not in taken]
    while left and _is_filler(tokens[left[0]]):
        left.pop(0)
    while left and _is_filler(tokens[left[-1]]):
        left.pop()
    if not left:
        return None
    if taken and left != list(range(left[0], left[-1] + 1)):
        return " ".join(tokens[place] for place in left)
    begin = 0
    spans = []
    for token in tokens:
        begin = rest.index(token, begin)
        spans.append((begin, begin + len(token)))
        begin += len(token)
    return rest[spans[left[0]][0] : spans[left[-1]][1]].strip()
