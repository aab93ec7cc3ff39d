"""Instants as tables have them: in any order of day, month and year, decided from the whole column."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from dateutil import parser as odd

from src.domain.tables.table import NEVER, Column, Flags, Micros

ORDERS = ("day first", "month first", "year first")
SECOND, DAY = 1_000_000, 86_400_000_000
_UNKNOWN_OFFSET = -(10**9)

_MONTHS: dict[str, int] = {}
for _number, _names in enumerate(
    ("gen jan jän janv ene", "feb fév febr feb", "mar mär mrz mars marzo", "apr avr abr april", "mag may mai mayo",
     "giu jun juin juni", "lug jul juil juli", "ago aug août aou", "set sep sett sept", "ott oct okt", "nov",
     "dic dec dez déc"),
    start=1,
):  # fmt: skip
    for _name in _names.split():
        _MONTHS["".join(c for c in unicodedata.normalize("NFKD", _name) if c.isalpha())] = _number
_ZONES = {
    "Z": 0, "UTC": 0, "GMT": 0, "WET": 0, "WEST": 3600, "CET": 3600, "MEZ": 3600, "CEST": 7200, "MESZ": 7200,
    "EET": 7200, "EEST": 10800,
}  # fmt: skip
_WORD = r"[^\W\d_]{3,12}\.?"
_DATE = (
    r"(?:[^\W\d_]{2,12}\.?,?\s+)?"
    rf"(?:(?P<y>\d{{4}})(?P<sep>[-/. _])(?P<m>\d{{1,2}}|{_WORD})(?P=sep)(?P<d>\d{{1,2}})"
    rf"|(?P<a>\d{{1,2}})\.?[-/. ](?P<b>\d{{1,2}}|{_WORD})\.?[-/. ]\s?(?P<c>\d{{4}}|\d{{2}}(?!\d))"
    r"|(?P<compact>(?:19|20)\d{6}))"
)
_TIME = (
    r"(?:(?P<h>\d{1,2})(?:[:.h](?P<mi>\d{2})(?:[:.](?P<s>\d{2})(?:[.,](?P<f>\d{1,9}))?)?)?h?"
    r"|(?P<hc>\d{2})(?P<mc>\d{2})(?P<sc>\d{2})?)"
    r"(?:\s?(?P<ap>[ap])\.?m\.?)?"
)
_OFFSET = r"(?:\s*\(?(?P<zone>Z|UTC|GMT|CET|CEST|MEZ|MESZ|WET|WEST|EET|EEST)?\)?(?P<off>[+-]\d{2}:?\d{2}|[+-]\d{2})?)"
_FORM = re.compile(
    rf"{_DATE}(?:(?:\s*[T,]\s*|\s+-\s+|\s+|[_-]|:|(?<=\d)h)(?:(?:ore|um|at|à|a las)\s+)?{_TIME}{_OFFSET})?",
    re.IGNORECASE,
)
TIME_ONLY = re.compile(r"\d{1,2}[:.h]\d{2}(?:[:.]\d{2}(?:[.,]\d+)?)?(?:\s?[ap]\.?m\.?)?", re.IGNORECASE)
_FIELDS = ("kind", "a", "b", "c", "micros", "offset")
_YEAR_FIRST, _OPEN = 0, 1
# In 1979: smaller numbers are days or nothing.
_SINCE_1970 = 3e8
_NUMBER = re.compile(r"\d{5,19}(?:\.\d+)?")


@dataclass(frozen=True)
class Instants:
    """Instants by the column's own clock.

    Attributes:
        local: microseconds since 1970 by that clock, `NEVER` where unknown.
        offset: of that clock from UTC in seconds, where the text says so; else NaN.
        unread: where what stands there is no instant.
        order: what the order of day, month and year was, where it was needed.
        is_decided: whether anything in the column speaks for that order.
        is_certain: whether all other orders make impossible dates, and not only rows that are further apart.
        contrary: where only another order makes a date of what stands there.
    """

    local: Micros
    offset: npt.NDArray[np.float64]
    unread: Flags
    order: str | None
    is_decided: bool
    is_certain: bool
    contrary: Flags


def looks_like_instant(text: str) -> bool:
    """Whether this is a date, with a time or without, in one of the usual forms."""
    return _FORM.fullmatch(text) is not None or _oddly(text, True) is not None


def read_instants(columns: Sequence[Column], order: str | None = None) -> Instants:
    """The instants of a column, or of several that hold date and time.

    Args:
        order: of `ORDERS`; None: to be found out.
    """
    first = columns[0]
    count = len(first)
    local, offset = np.full(count, NEVER, dtype=np.int64), np.full(count, np.nan)
    if len(columns) > 1:
        texts: pa.ChunkedArray | None = pa.chunked_array([_joined(columns)])
    else:
        texts = first.texts
        if first.figures is not None:
            local = _of_numbers(first.figures)
            offset[first.figures >= _SINCE_1970] = 0.0
        if first.instants is not None:
            local = np.where(first.instants == NEVER, local, first.instants)
            offset = np.where(first.instants == NEVER, offset, 0.0 if first.is_utc else np.nan)
    filled = first.is_filled()
    is_decided = is_certain = True
    contrary = np.zeros(count, dtype=np.bool_)
    if texts is not None:
        encoded = texts.combine_chunks().dictionary_encode()
        coded = encoded.combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded
        codes = coded.indices.to_numpy(zero_copy_only=False)
        distinct = [str(text).strip() for text in coded.dictionary.to_pylist()]
        parts = np.array([_parsed(text) for text in distinct], dtype=np.int64).reshape(-1, len(_FIELDS))
        if (parts[:, 0] == _OPEN).any():
            if order is None:
                order, is_decided, is_certain = _order(parts, codes)
            possible = [_micros(parts, one) != NEVER for one in ORDERS]
            if (parts[parts[:, 0] == _OPEN, 3] >= 10_000).any():
                possible.pop()
            contrary = (np.any(possible, axis=0) & (_micros(parts, order) == NEVER))[codes]
        else:
            order = None
        found = _micros(parts, order)
        numbers = np.array([float(text) if _NUMBER.fullmatch(text) else np.nan for text in distinct], dtype=np.float64)
        found = np.where(found == NEVER, _of_numbers(numbers), found)
        # Seconds since 1970 are UTC's.
        parts[numbers >= _SINCE_1970, 5] = 0
        left = np.flatnonzero((found == NEVER) & np.array([bool(text) for text in distinct]))
        for place in left:
            if (micros := _oddly(distinct[place], order != "month first")) is not None:
                found[place] = micros[0]
                parts[place, 5] = micros[1]
        of_text = found[codes]
        local = np.where(of_text == NEVER, local, of_text)
        offsets = parts[:, 5].astype(np.float64)
        offsets[offsets == _UNKNOWN_OFFSET] = np.nan
        offset = np.where(of_text == NEVER, offset, offsets[codes])
    return Instants(local, offset, filled & (local == NEVER), order, is_decided, is_certain, contrary)


def _parsed(text: str) -> tuple[int, int, int, int, int, int]:
    """The parts of a date (see `_FIELDS`); kind -1 where it is none."""
    found = _FORM.fullmatch(text)
    if found is None:
        return (-1, 0, 0, 0, 0, _UNKNOWN_OFFSET)
    part = found.groupdict()
    if part["compact"]:
        kind, a, b, c = (
            _YEAR_FIRST,
            int(text[found.start("compact") :][:4]),
            int(part["compact"][4:6]),
            int(part["compact"][6:]),
        )
    elif part["y"]:
        kind, a, b, c = _YEAR_FIRST, int(part["y"]), _month(part["m"]), int(part["d"])
    else:
        kind, a, b, c = _OPEN, int(part["a"]), _month(part["b"]), int(part["c"])
        if not part["b"].isdigit():
            kind, a, c = _YEAR_FIRST, _year(c) if len(part["c"]) == 2 else c, a
        elif len(part["c"]) == 4:
            # A year of four digits is no other part.
            c += 10_000
    hour, minute, second = (
        int(part[name] or part[compact] or 0) for name, compact in (("h", "hc"), ("mi", "mc"), ("s", "sc"))
    )
    if part["ap"]:
        if not 1 <= hour <= 12:
            return (-1, 0, 0, 0, 0, _UNKNOWN_OFFSET)
        hour = hour % 12 + (12 if part["ap"].lower() == "p" else 0)
    # Midnight at the end of a day is 24:00, and no later hour is one.
    if minute > 59 or second > 59 or hour > 24 or (hour == 24 and (minute or second)):
        return (-1, 0, 0, 0, 0, _UNKNOWN_OFFSET)
    micros = (hour * 3600 + minute * 60 + second) * SECOND + int(((part["f"] or "") + "000000")[:6])
    offset = _UNKNOWN_OFFSET
    if part["zone"] or part["off"]:
        offset = _ZONES[part["zone"].upper()] if part["zone"] else 0
        if part["off"]:
            digits = part["off"][1:].replace(":", "").ljust(4, "0")
            if int(digits) > 1400 or int(digits[2:]) > 59:
                return (-1, 0, 0, 0, 0, _UNKNOWN_OFFSET)
            offset += (int(digits[:2]) * 3600 + int(digits[2:]) * 60) * (-1 if part["off"][0] == "-" else 1)
    return (kind, a, b, c, micros, offset)


def _month(text: str) -> int:
    if text.isdigit():
        return int(text)
    plain = "".join(c for c in unicodedata.normalize("NFKD", text.casefold()) if c.isalpha() and c.isascii())
    return _MONTHS.get(plain[:4], _MONTHS.get(plain[:3], 0))


def _year(two_digits: int) -> int:
    return two_digits + (2000 if two_digits < 70 else 1900)


def _micros(parts: npt.NDArray[np.int64], order: str | None) -> Micros:
    """Microseconds by the clock, `NEVER` where there is no such day."""
    kind, a, b, c, micros, _ = parts.T
    year, month, day = a.copy(), b.copy(), c.copy()
    is_open = kind == _OPEN
    if order is not None and is_open.any():
        last = np.where(c >= 10_000, c - 10_000, np.where(c < 70, c + 2000, c + 1900))
        if order == "year first":
            first = np.where(a < 70, a + 2000, a + 1900)
            year, day = np.where(is_open, first, year), np.where(is_open, c, day)
        else:
            year = np.where(is_open, last, year)
            month = np.where(is_open & (order == "month first"), a, month)
            day = np.where(is_open, b if order == "month first" else a, day)
    valid = (kind >= 0) & (month >= 1) & (month <= 12) & (day >= 1) & (year >= 1900) & (year <= 2200)
    month_start = (np.where(valid, year, 1970) - 1970) * 12 + np.where(valid, month, 1) - 1
    begin = month_start.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    length = (month_start + 1).astype("datetime64[M]").astype("datetime64[D]").astype(np.int64) - begin
    valid &= day <= length
    result: Micros = np.where(valid, (begin + day - 1) * DAY + micros, NEVER)
    return result


def _order(parts: npt.NDArray[np.int64], codes: npt.NDArray[np.integer]) -> tuple[str, bool, bool]:
    """In which order day, month and year stand, whether anything speaks for it, and whether others are impossible.

    What makes an impossible date is out; of what is left, that in which the rows follow each other most closely.
    """
    scores = []
    is_open = parts[:, 0] == _OPEN
    used = codes[is_open[codes]]
    for order in ORDERS:
        found = _micros(parts, order)
        possible = float(np.mean(found[used] != NEVER))
        if order == "year first" and (parts[is_open, 3] >= 10_000).any():
            possible = 0.0
        instants = found[used]
        steps = np.abs(np.diff(instants[instants != NEVER]))
        close = float(np.mean(steps <= 2 * DAY)) if len(steps) else 0.0
        scores.append((round(possible, 3), round(close, 6)))
    best = max(range(len(ORDERS)), key=lambda place: scores[place])
    others = [score for place, score in enumerate(scores) if place != best]
    # Equal figures leave the first: day first.
    is_decided = all(score < scores[best] for score in others)
    return ORDERS[best], is_decided, all(possible < scores[best][0] for possible, _ in others)


def _of_numbers(figures: npt.NDArray[np.float64]) -> Micros:
    """Numbers as instants: days since 1899-12-30 as spreadsheets count them, or seconds (milli, micro, nano) since
    1970; all others stand for nothing."""
    days = (figures >= 20_000) & (figures < 80_000)
    result = np.full(len(figures), NEVER, dtype=np.int64)
    # To a millisecond: what spreadsheets hold is no better.
    result[days] = np.round((figures[days] - 25_569) * 86_400_000).astype(np.int64) * 1000
    for scale in (1.0, 1e3, 1e6, 1e9):
        fits = (figures >= _SINCE_1970 * scale) & (figures < 7e9 * scale) & ~days
        result[fits] = np.round(figures[fits] * (SECOND / scale)).astype(np.int64)
    return result


def _joined(columns: Sequence[Column]) -> pa.Array:
    """Date and time side by side; of a date that a sheet holds as an instant its midnight is no time."""
    rows = []
    for row in range(len(columns[0])):
        cells = [column.shown(row).strip() for column in columns]
        date, *rest = cells
        if any(rest):
            date = re.sub(r"[ T]0{1,2}:00(?::00(?:\.0+)?)?$", "", date)
            # A time that a sheet holds as an instant stands on a day that means nothing.
            rest = [re.sub(r"^(?:1899|1900|1904)-\d\d-\d\d[ T]", "", text) for text in rest]
        rows.append(" ".join(filter(None, [date, *rest])) if date else "")
    return pa.array(rows, pa.string())


_TWO_DEFAULTS = (datetime(2001, 1, 1), datetime(2004, 12, 28))  # noqa: DTZ001


@lru_cache(65_536)
def _oddly(text: str, is_day_first: bool) -> tuple[int, int] | None:
    """What dateutil makes of an odd form that names day, month and year: microseconds, and the offset in seconds."""
    if not 6 <= len(text) <= 60 or not re.search(r"\d", text) or not re.search(r"[^\W\d_]{3}", text):
        return None
    try:
        found = [odd.parse(text, dayfirst=is_day_first, default=default) for default in _TWO_DEFAULTS]
    except (ValueError, OverflowError, TypeError):
        return None
    # What the text leaves open would come from the default.
    if found[0] != found[1] or not 1900 <= found[0].year <= 2200:
        return None
    offset = found[0].utcoffset()
    local = np.datetime64(found[0].replace(tzinfo=None), "us")
    return int(local.astype(np.int64)), _UNKNOWN_OFFSET if offset is None else int(offset.total_seconds())
