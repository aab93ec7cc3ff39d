"""Figures as people and systems write them: decimal comma or point, groups of thousands, words for "no value"."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from src.domain.tables.headings import units_measure
from src.domain.tables.table import Column, Flags, Floats

NO_VALUE = frozenset(
    """nan n/a na n.a. n.a nd n/d n.d. n.d nv n.v. n/v k.a. ka s/d sd s.d. null none nil nul nulo nullo nessuno
    vuoto empty missing manca mancante assente absent bad error err errore erreur fehler invalid invalido
    invalide ungültig #n/a #n/d #n/v #nv #null! #nullo! #div/0! #valore! #value! #wert! #valeur! #valor! #ref!
    #rif! #num! #bezug! #nombre! nr n.r. n/r nc n.c. ns offline off-line unknown sconosciuto inconnu unbekannt
    guasto fehlt \\n ? * . .. ... x""".split()
) | {
    "no data", "no value", "no dato", "sin dato", "sin datos", "bad data", "bad input", "not available", "off line",
    "non disponibile", "non rilevato", "nessun dato", "fuori servizio", "keine daten", "kein wert", "nicht verfügbar",
    "pas de donnée", "pas de valeur", "non disponible", "no disponible", "i/o timeout", "comm fail", "n / a", "n / d",
}  # fmt: skip
_DASHES = re.compile(r"[-–—_=]+")
_SPACES = "\u00a0\u202f\u2009 '’"
_PLAIN = {
    decimal: re.compile(
        rf"[+-]?(?:\d{{1,3}}(?:[{re.escape(_SPACES + other)}]\d{{3}})+|\d+)?"
        rf"(?:{re.escape(decimal)}\d*)?(?:[eE][+-]?\d{{1,3}})?"
    )
    for decimal, other in ((",", "."), (".", ","))
}
_LOOKS = re.compile(r"[+\-−]?\d[\d.,'’ \u00a0\u202f\u2009]*(?:[eE][+-]?\d{1,3})?|[+\-−]?[.,]\d+(?:[eE][+-]?\d{1,3})?")
_SIMPLE = r"^-?[0-9]+({decimal}[0-9]+)?$"
_WITH_UNIT = re.compile(rf"({_LOOKS.pattern})\s*([^\d\s.,;+-][^;]{{0,15}})")


@dataclass(frozen=True)
class Figures:
    """`values`: a number a row, NaN where there is none; `no_value`: where a word says so; `unread`: where what stands
    there is no number; `unit`: what stands behind the numbers, where it is the same behind all."""

    values: Floats
    no_value: Flags
    unread: Flags
    unit: str | None


def is_no_value(text: str) -> bool:
    """Whether a text says that there is no value."""
    return text.casefold() in NO_VALUE or _DASHES.fullmatch(text) is not None


def looks_like_figure(text: str) -> bool:
    """Whether this may be a number in some way of writing, with a unit or without."""
    return _LOOKS.fullmatch(text) is not None or _WITH_UNIT.fullmatch(text) is not None


def decimal_votes(texts: Iterable[str]) -> tuple[int, int]:
    """How many of these texts can only have a decimal comma, and how many only a decimal point."""
    comma = point = groups_comma = groups_point = short = 0
    longest = 0
    for text in texts:
        found = _WITH_UNIT.fullmatch(text)
        number = found[1] if found else text
        if not _LOOKS.fullmatch(number):
            continue
        commas, points = number.count(","), number.count(".")
        if not commas and not points:
            longest = max(longest, len(number.lstrip("+-−")))
            short += 1
        elif commas and points:
            comma, point = (comma + 1, point) if number.rfind(",") > number.rfind(".") else (comma, point + 1)
        elif commas > 1 or points > 1:
            comma, point = (comma + 1, point) if points else (comma, point + 1)
        else:
            mark = "," if commas else "."
            whole, _, rest = number.lstrip("+-−").partition(mark)
            if len(rest) == 3 and rest.isdigit() and whole.isdigit() and 1 <= len(whole) <= 3 and whole[0] != "0":
                groups_comma, groups_point = groups_comma + (mark == ","), groups_point + (mark == ".")
            else:
                comma, point = comma + (mark == ","), point + (mark == ".")
    if not comma and not point and short and longest <= 3 and bool(groups_comma) != bool(groups_point):
        # Whole numbers up to 999 beside 1.234: nobody writes three decimals or none.
        return (1, 0) if groups_point else (0, 1)
    return comma, point


def read_figures(column: Column, decimal: str) -> Figures:
    """The numbers of a column.

    Args:
        decimal: "," or "."; the other one may part thousands.
    """
    count = len(column)
    values = np.full(count, np.nan) if column.figures is None else column.figures.copy()
    no_value, unread = np.zeros(count, dtype=np.bool_), np.zeros(count, dtype=np.bool_)
    if column.instants is not None:
        unread |= column.is_filled() & np.isnan(values)
        # A number that no instrument shows and no float64 holds.
    unread |= np.isinf(values)
    values[np.isinf(values)] = np.nan
    if column.texts is None:
        return Figures(values, no_value, unread, None)
    if column.figures is None and (simple := _simple(column.texts, decimal)) is not None:
        return Figures(simple, no_value, unread, None)
    coded = _encoded(column.texts)
    distinct = [str(text).strip() for text in coded.dictionary.to_pylist()]
    codes = coded.indices.to_numpy(zero_copy_only=False)
    parsed = np.array([_number(text, decimal) for text in distinct], dtype=np.float64)
    word = np.array([is_no_value(text) for text in distinct], dtype=np.bool_) & np.isnan(parsed)
    empty = np.array([not text for text in distinct], dtype=np.bool_)
    left = np.flatnonzero(np.isnan(parsed) & ~word & ~empty)
    apart = [_WITH_UNIT.fullmatch(distinct[place]) for place in left]
    behind = [found[2].strip() if found else "" for found in apart]
    units = set(behind)
    # A unit stands behind all or most numbers; what stands behind a few makes them no numbers.
    if len(units) == 1 and len(left) >= np.sum(~np.isnan(parsed)) and units_measure(behind[0]):
        parsed[left] = [_number(found[1].strip(), decimal) for found in apart if found]
    bad = np.isnan(parsed) & ~word & ~empty
    from_text = parsed[codes]
    values = np.where(np.isnan(from_text), values, from_text)
    unit = behind[0] if len(left) and not np.isnan(parsed[left]).any() else None
    return Figures(values, no_value | word[codes], unread | bad[codes], unit)


def _simple(texts: pa.ChunkedArray, decimal: str) -> Floats | None:
    """The numbers of a column in which nothing else stands, none of them with thousands apart; else None."""
    filled = pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.string()), texts)
    if not pc.all(pc.match_substring_regex(filled, _SIMPLE.format(decimal=re.escape(decimal)))).as_py():
        return None
    pointed = filled if decimal == "." else pc.replace_substring(filled, decimal, ".")
    figures: Floats = pc.fill_null(pc.cast(pointed, pa.float64()), float("nan")).to_numpy()
    return np.array(figures)


def _encoded(texts: pa.ChunkedArray) -> pa.DictionaryArray:
    encoded = texts.combine_chunks().dictionary_encode()
    return encoded.combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded


def _number(text: str, decimal: str) -> float:
    text = text.replace("−", "-")
    if not text or not any(sign.isdigit() for sign in text) or not _PLAIN[decimal].fullmatch(text):
        return float("nan")
    other = "." if decimal == "," else ","
    for sign in _SPACES + other:
        text = text.replace(sign, "")
    number = float(text.replace(",", "."))
    return number if math.isfinite(number) else float("nan")
