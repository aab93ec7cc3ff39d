"""Files that break a naive reader, made in code: each with what is to be read out of it, or why it is not."""

from __future__ import annotations

import gzip
import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime, time
from pathlib import Path

import openpyxl
import pandas as pd


@dataclass(frozen=True)
class Foreign:
    """A file, and what is right to make of it.

    `readings`: some that must be there: (instant UTC, node, measurement, value in the product's unit); `count`: how
    many values there are in all; `refused`: what the sentence says where it is refused; `left_out`: reasons counted.
    """

    name: str
    content: bytes
    readings: tuple[tuple[str, str, str, float], ...] = ()
    count: int | None = None
    refused: tuple[str, ...] = ()
    left_out: dict[str, int] = field(default_factory=dict)


def _text(name: str, text: str, *readings: tuple[str, str, str, float], encoding: str = "utf-8", **known) -> Foreign:
    return Foreign(name, text.encode(encoding), readings, **known)


def _workbook(fill: Callable[[openpyxl.Workbook], None]) -> bytes:
    book = openpyxl.Workbook()
    fill(book)
    content = io.BytesIO()
    book.save(content)
    return content.getvalue()


def _parquet(frame: pd.DataFrame, **options) -> bytes:
    content = io.BytesIO()
    frame.to_parquet(content, **options)
    return content.getvalue()


def _italian_sheet(book: openpyxl.Workbook) -> None:
    sheet = book.active
    sheet.append(["Esportazione del telecontrollo"])
    sheet.append([])
    sheet.append(["Data", "Ora", "Serbatoio Nord", None, "Serbatoio Sud"])
    sheet.append([None, None, "Portata", "Pressione", "Portata"])
    sheet.append([None, None, "[l/s]", "[bar]", "[m3/h]"])
    for hour in range(3):
        sheet.append([date(2025, 1, 13), time(hour), 10.5 + hour, 3.2, 36.0])


def _two_sheets(book: openpyxl.Workbook) -> None:
    book.active.title = "PZ1"
    other = book.create_sheet("PZ2")
    notes = book.create_sheet("Note")
    notes.append(["nulla"])
    for sheet, node, value in ((book.active, "PZ1", 1.5), (other, "PZ2", 2.5)):
        sheet.append(["timestamp", f"Flow {node} (L/s)"])
        sheet.append([datetime.fromisoformat("2025-01-13 12:00"), value])


def _exchanged(book: openpyxl.Workbook) -> None:
    """The days of February, of which the sheet has taken those for dates that it could, with month first."""
    book.active.append(["Data", "Portata A [l/s]"])
    for day in range(1, 29):
        book.active.append([datetime(2025, day, 2) if day <= 12 else f"{day}/02/2025", 1.5])  # noqa: DTZ001


def _archive() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("a.csv", "timestamp,node_id,flow_rate\n2025-01-13T00:00:00Z,a,1\n")
    return content.getvalue()


HOURS = pd.date_range("2025-01-13", periods=3, freq="h", tz="UTC")
_HEADINGS = "Data;Portata Nord [m3/h];Pressione Nord [bar]\n"
_WEEK = "".join(f"13/01/2025 {hour:02d}:00;{36 + hour},0;3,5\n" for hour in range(24))
# Rows of the night in which Italian clocks are put back, as they follow each other.
_BACK = ["00:30", "01:00", "01:30", "02:00", "02:30", "02:00", "02:30", "03:00", "03:30"]
_FORWARD = ["00:30", "01:00", "01:30", "03:00", "03:30", "04:00"]

READ_RIGHT = [
    _text(
        "semicolons-and-decimal-commas.csv", _HEADINGS + _WEEK,
        ("2025-01-12T23:00", "Nord", "flow_rate", 10.0), ("2025-01-13T00:00", "Nord", "flow_rate", 37 / 3.6),
        ("2025-01-12T23:00", "Nord", "pressure", 3.5), count=48,
    ),
    _text(
        "windows-1252.csv", "Data/ora;Portata città [m³/h];Temperatura città [°C]\n13/01/2025 00:00;3,6;12,5\n",
        ("2025-01-12T23:00", "città", "flow_rate", 1.0), ("2025-01-12T23:00", "città", "temperature", 12.5),
        encoding="cp1252",
    ),
    _text(
        "dos-850.csv", "Data/ora;Portata città [m³/h];Temperatura perché [°C]\n13/01/2025 00:00;3,6;12,5\n",
        ("2025-01-12T23:00", "città", "flow_rate", 1.0), ("2025-01-12T23:00", "perché", "temperature", 12.5),
        encoding="cp850",
    ),
    _text(
        "utf-16.txt", "Datum\tDurchfluss Süd (l/min)\n13.01.2025 00:00\t60\n13.01.2025 01:00\t120\n",
        ("2025-01-12T23:00", "Süd", "flow_rate", 1.0), ("2025-01-13T00:00", "Süd", "flow_rate", 2.0), encoding="utf-16",
    ),
    _text(
        "byte-order-mark.csv", "\ufefftimestamp,node_id,flow_rate\n2025-01-13T00:00:00Z,a,1.5\n",
        ("2025-01-13T00:00", "a", "flow_rate", 1.5),
    ),
    _text(
        "german-headings.csv",
        "Zeitstempel;Messstelle;Durchfluss [m³/h];Druck [mWS];Wassertemperatur [°C]\n"
        "13.01.2025 10:15:00;Hochbehälter;3,6;10,2;9,5\n",
        ("2025-01-13T09:15", "Hochbehälter", "flow_rate", 1.0),
        ("2025-01-13T09:15", "Hochbehälter", "pressure", 1.0002783),
        ("2025-01-13T09:15", "Hochbehälter", "temperature", 9.5),
    ),
    _text(
        "french-headings.csv",
        "Horodatage;Capteur;Débit (m3/h);Pression (kPa)\n13/01/2025 10h15;Réservoir;7,2;350\n",
        ("2025-01-13T09:15", "Réservoir", "flow_rate", 2.0), ("2025-01-13T09:15", "Réservoir", "pressure", 3.5),
    ),
    _text(
        "spanish-headings.csv",
        "Fecha;Hora;Caudal Depósito [l/s];Presión Depósito [kg/cm2]\n13/01/2025;10:15;4,5;2\n",
        ("2025-01-13T09:15", "Depósito", "flow_rate", 4.5), ("2025-01-13T09:15", "Depósito", "pressure", 1.96133),
    ),
    _text(
        "english-pipes.txt", "Date|Flow North (gpm)|Pressure North (psi)\n2025-01-13 10:15|15.850323|14.503774\n",
        ("2025-01-13T09:15", "North", "flow_rate", 1.0), ("2025-01-13T09:15", "North", "pressure", 1.0),
    ),
    _text(
        "month-first.csv", "timestamp,Flow A (L/s)\n01/12/2025 00:00,1\n01/13/2025 00:00,2\n01/14/2025 00:00,3\n",
        ("2025-01-11T23:00", "A", "flow_rate", 1.0), ("2025-01-13T23:00", "A", "flow_rate", 3.0),
    ),
    _text(
        "day-first-by-the-order-of-rows.csv",
        "timestamp,Flow A (L/s)\n" + "".join(f"0{day}/02/2025 00:00,{day}\n" for day in range(1, 8)),
        ("2025-01-31T23:00", "A", "flow_rate", 1.0), ("2025-02-06T23:00", "A", "flow_rate", 7.0),
    ),
    _text(
        "month-first-by-the-order-of-rows.csv",
        "timestamp,Flow A (L/s)\n" + "".join(f"02/0{day}/2025 00:00,{day}\n" for day in range(1, 8)),
        ("2025-01-31T23:00", "A", "flow_rate", 1.0), ("2025-02-06T23:00", "A", "flow_rate", 7.0),
    ),
    _text(
        "midnight-at-the-end.csv",
        "Data;Ora;Portata A [l/s]\n13/01/2025;23:00;1\n13/01/2025;24:00;2\n14/01/2025;01:00;3\n",
        ("2025-01-13T22:00", "A", "flow_rate", 1.0), ("2025-01-13T23:00", "A", "flow_rate", 2.0),
        ("2025-01-14T00:00", "A", "flow_rate", 3.0),
    ),
    _text(
        "names-of-months.csv",
        "data;Portata A [l/s]\n13 gennaio 2025 10:00;1\nlun 13 gen 2025 11:00;2\n13-mag-2025 11:00;3\n",
        ("2025-01-13T09:00", "A", "flow_rate", 1.0), ("2025-01-13T10:00", "A", "flow_rate", 2.0),
        ("2025-05-13T09:00", "A", "flow_rate", 3.0),
    ),
    _text(
        "american-afternoon.csv", "Date,Flow A (L/s)\n\"Jan 13, 2025 2:05 PM\",1\n\"Jan 13, 2025 2:10 PM\",2\n",
        ("2025-01-13T13:05", "A", "flow_rate", 1.0), ("2025-01-13T13:10", "A", "flow_rate", 2.0),
    ),
    _text(
        "clocks-put-back.csv",
        "data;Portata A [l/s]\n" + "".join(f"26/10/2025 {hour};{n}\n" for n, hour in enumerate(_BACK)),
        ("2025-10-26T00:00", "A", "flow_rate", 3.0), ("2025-10-26T00:30", "A", "flow_rate", 4.0),
        ("2025-10-26T01:00", "A", "flow_rate", 5.0), ("2025-10-26T01:30", "A", "flow_rate", 6.0),
        ("2025-10-26T02:00", "A", "flow_rate", 7.0), count=9,
    ),
    _text(
        "clocks-put-back-newest-first.csv",
        "data;Portata A [l/s]\n" + "".join(f"26/10/2025 {hour};{n}\n" for n, hour in reversed(list(enumerate(_BACK)))),
        ("2025-10-26T00:00", "A", "flow_rate", 3.0), ("2025-10-26T01:30", "A", "flow_rate", 6.0), count=9,
    ),
    _text(
        "clocks-put-back-two-nodes.csv",
        "data;punto;Portata [l/s]\n"
        + "".join(f"26/10/2025 {hour};{node};{n}\n" for n, hour in enumerate(_BACK) for node in "AB"),
        ("2025-10-26T00:00", "A", "flow_rate", 3.0), ("2025-10-26T01:00", "A", "flow_rate", 5.0),
        ("2025-10-26T01:30", "B", "flow_rate", 6.0), count=18,
    ),
    _text(
        "clocks-put-forward.csv",
        "data;Portata A [l/s]\n" + "".join(f"30/03/2025 {hour};{n}\n" for n, hour in enumerate(_FORWARD)),
        ("2025-03-30T00:30", "A", "flow_rate", 2.0), ("2025-03-30T01:00", "A", "flow_rate", 3.0), count=6,
    ),
    _text(
        "offsets-that-change.csv",
        "timestamp;Portata A [l/s]\n2025-10-26T02:30:00+02:00;1\n2025-10-26T02:30:00+01:00;2\n",
        ("2025-10-26T00:30", "A", "flow_rate", 1.0), ("2025-10-26T01:30", "A", "flow_rate", 2.0),
    ),
    _text(
        "zone-in-the-heading.csv", "Data (UTC);Portata A [l/s]\n13/07/2025 10:00;1\n",
        ("2025-07-13T10:00", "A", "flow_rate", 1.0),
    ),
    _text(
        "standard-time-all-year.csv", "Data (ora solare);Portata A [l/s]\n13/07/2025 10:00;1\n",
        ("2025-07-13T09:00", "A", "flow_rate", 1.0),
    ),
    _text(
        "words-for-nothing.csv",
        "data;Portata A [l/s];Pressione A [bar]\n"
        + "".join(
            f"13/01/2025 {hour:02d}:00;{word};3,5\n"
            for hour, word in enumerate(["n/d", "ND", "---", "null", "N.A.", "#N/D", "", "-999", "1,5", "-9999,0"])
        ),
        ("2025-01-13T07:00", "A", "flow_rate", 1.5), count=11, left_out={"no value": 6, "placeholder": 2},
    ),
    _text(
        "thousands.csv", "data;Contatore A [m3]\n13/01/2025 00:00;1.234.567,5\n13/01/2025 01:00;1.234.568,0\n",
        ("2025-01-12T23:00", "A", "volume", 1234567.5), ("2025-01-13T00:00", "A", "volume", 1234568.0),
    ),
    _text(
        "units-behind-numbers.csv",
        "Date;Flow A;Pressure A\n2025-01-13 01:00;3.6 m3/h;350 kPa\n2025-01-13 02:00;7.2 m3/h;360 kPa\n",
        ("2025-01-13T00:00", "A", "flow_rate", 1.0), ("2025-01-13T01:00", "A", "pressure", 3.6),
    ),
    _text(
        "parameter-in-a-column.csv",
        "Data;Punto;Grandezza;Valore;Unità\n13/01/2025 00:00;A;Portata;3,6;m3/h\n13/01/2025 00:00;A;Pressione;35;m\n"
        "13/01/2025 01:00;A;Portata;7,2;m3/h\n",
        ("2025-01-12T23:00", "A", "flow_rate", 1.0), ("2025-01-12T23:00", "A", "pressure", 3.4323275),
        ("2025-01-13T00:00", "A", "flow_rate", 2.0), count=3,
    ),
    _text(
        "tags.csv", "timestamp,tag,value\n2025-01-13T00:00:00Z,F_PU1,2.5\n2025-01-13T00:00:00Z,P_PU1,3.5\n",
        ("2025-01-13T00:00", "PU1", "flow_rate", 2.5), ("2025-01-13T00:00", "PU1", "pressure", 3.5), count=2,
    ),
    _text(
        "title-and-station-above.csv",
        "Esportazione dati;;\nStazione: Monte Urpinu;;\n\nData e ora;Portata;Pressione\n;l/s;bar\n"
        "13/01/2025 00:00;1,5;3,5\n",
        ("2025-01-12T23:00", "Monte Urpinu", "flow_rate", 1.5), ("2025-01-12T23:00", "Monte Urpinu", "pressure", 3.5),
    ),
    _text(
        "separator-stated.csv", "sep=;\nData;Portata A [l/s]\n13/01/2025 00:00;1,5\n",
        ("2025-01-12T23:00", "A", "flow_rate", 1.5),
    ),
    _text(
        "quoted-names.csv",
        'timestamp,node_id,flow_rate\n2025-01-13T00:00:00Z,"Via Roma, 12",1.5\n'
        '2025-01-13T00:00:00Z,"dice ""sud""",2.5\n',
        ("2025-01-13T00:00", "Via Roma, 12", "flow_rate", 1.5), ("2025-01-13T00:00", 'dice "sud"', "flow_rate", 2.5),
    ),
    _text(
        "seconds-since-1970.csv", "time,Flow A (L/s)\n1736726400,1.5\n1736730000,2.5\n",
        ("2025-01-13T00:00", "A", "flow_rate", 1.5), ("2025-01-13T01:00", "A", "flow_rate", 2.5),
    ),
    _text(
        "a-line-that-is-no-reading.csv", _HEADINGS + _WEEK + "Totale;999,0;\n13/01/2025 25:00;1,0;2,0\n",
        count=48, left_out={"not a date": 2},
    ),
    _text(
        "a-number-that-is-none.csv", _HEADINGS + _WEEK + "14/01/2025 00:00;12,3x4;3,5\n",
        ("2025-01-13T23:00", "Nord", "pressure", 3.5), count=49, left_out={"not a number": 1},
    ),
    _text(
        "hours-in-other-languages.csv",
        "Zeit;Durchfluss Nord [m³/Std];Débit Sud (m3/j);Portata Est [mc/ora]\n13.01.2025 00:00;3,6;86,4;7,2\n",
        ("2025-01-12T23:00", "Nord", "flow_rate", 1.0), ("2025-01-12T23:00", "Sud", "flow_rate", 1.0),
        ("2025-01-12T23:00", "Est", "flow_rate", 2.0), count=3,
    ),
    _text(
        "unit-that-is-not-known.csv",
        "Data;Portata A [bottiglie/h];Livello B [%];Portata C [l/s]\n13/01/2025 00:00;1;80;2,5\n",
        ("2025-01-12T23:00", "C", "flow_rate", 2.5), count=1,
    ),
    _text(
        "unit-in-a-column.csv", "Data;Punto;Portata;Unità\n13/01/2025 00:00;A;3,6;m3/h\n13/01/2025 01:00;A;7,2;m3/h\n",
        ("2025-01-12T23:00", "A", "flow_rate", 1.0), ("2025-01-13T00:00", "A", "flow_rate", 2.0), count=2,
    ),
    _text(
        "unit-and-zone-above.csv",
        "Esportazione\nUnità di misura: m3/h\nFuso orario: UTC\n\nData;Portata A\n13/01/2025 00:00;3,6\n",
        ("2025-01-13T00:00", "A", "flow_rate", 1.0), count=1,
    ),
    _text(
        "winter-and-summer-in-the-heading.csv", "Data (CET/CEST);Portata A [l/s]\n13/07/2025 12:00;3,5\n",
        ("2025-07-13T10:00", "A", "flow_rate", 3.5),
    ),
    _text(
        "first-row-without-a-date.csv", _HEADINGS + "n/d;36,0;3,5\n" + _WEEK,
        ("2025-01-12T23:00", "Nord", "flow_rate", 10.0), count=48, left_out={"not a date": 1},
    ),
    _text(
        "span-above.csv", "Rapporto;13/01/2025;\nPeriodo;01/01/2025;31/01/2025\n" + _HEADINGS + _WEEK,
        ("2025-01-12T23:00", "Nord", "flow_rate", 10.0), count=48,
    ),
    _text(
        "separators-behind.csv", "Data;Portata A [l/s];;\n13/01/2025 00:00;0,5;;\n13/01/2025 01:00;1,5;;\n",
        ("2025-01-13T00:00", "A", "flow_rate", 1.5), count=2,
    ),
    _text(
        "headings-again.csv", _HEADINGS + _WEEK + _HEADINGS + "14/01/2025 00:00;36,0;3,5\n",
        ("2025-01-13T23:00", "Nord", "flow_rate", 10.0), count=50, left_out={"repeated headings": 1},
    ),
    _text(
        "register-in-rows.csv",
        "timestamp,node_id,volume\n"
        + "".join(f"2025-01-13T{h:02d}:00:00Z,{n},{v + h}\n" for h in range(20) for n, v in (("a", 9000), ("b", 5))),
        ("2025-01-13T01:00", "a", "volume", 9001.0), count=40,
    ),
    _text(
        "no-reading-of-their-own.csv",
        "Data;Q max A [l/s];Qmin [l/s];Setpoint pressione A [bar];Delta P A [bar];Portata totalizzata A;Q A [l/s]\n"
        "13/01/2025 00:00;5;1;4;2;10000;3\n",
        ("2025-01-12T23:00", "A", "flow_rate", 3.0), ("2025-01-12T23:00", "A", "volume", 10000.0), count=2,
    ),
    _text(
        "without-end.csv", "Data;Portata A [l/s]\n13/01/2025 00:00;1e400\n13/01/2025 01:00;2,5\n",
        ("2025-01-13T00:00", "A", "flow_rate", 2.5), count=1, left_out={"not a number": 1},
    ),
    _text(
        "offset-in-a-column.csv",
        "Data;Fuso;Portata A [l/s]\n26/10/2025 02:00;+02:00;1\n26/10/2025 02:00;+01:00;2\n",
        ("2025-10-26T00:00", "A", "flow_rate", 1.0), ("2025-10-26T01:00", "A", "flow_rate", 2.0), count=2,
    ),
    _text(
        "second-pass-not-exported.csv",
        "Data;Portata A [l/s]\n"
        + "".join(f"30/03/2025 {hour:02d}:00;1\n" for hour in (0, 1, 3, 4))
        + "".join(f"26/10/2025 {hour:02d}:00;2\n" for hour in range(5)),
        ("2025-03-30T01:00", "A", "flow_rate", 1.0), ("2025-10-26T02:00", "A", "flow_rate", 2.0), count=9,
    ),
    Foreign(
        "merged-headings.xlsx", _workbook(_italian_sheet),
        (
            ("2025-01-12T23:00", "Serbatoio Nord", "flow_rate", 10.5),
            ("2025-01-12T23:00", "Serbatoio Nord", "pressure", 3.2),
            ("2025-01-13T01:00", "Serbatoio Nord", "flow_rate", 12.5),
            ("2025-01-12T23:00", "Serbatoio Sud", "flow_rate", 10.0),
        ),
        count=9,
    ),
    Foreign(
        "two-sheets.xlsx", _workbook(_two_sheets),
        (("2025-01-13T11:00", "PZ1", "flow_rate", 1.5), ("2025-01-13T11:00", "PZ2", "flow_rate", 2.5)), count=2,
    ),
    Foreign(
        "typed.parquet", _parquet(pd.DataFrame({"timestamp": HOURS, "node_id": 215542, "flow_rate": [1.0, None, 3.0]})),
        (("2025-01-13T00:00", "215542", "flow_rate", 1.0), ("2025-01-13T02:00", "215542", "flow_rate", 3.0)), count=2,
    ),
    Foreign(
        "packed.csv.gz", gzip.compress((_HEADINGS + _WEEK).encode("utf-8")),
        (("2025-01-12T23:00", "Nord", "flow_rate", 10.0),), count=48,
    ),
]  # fmt: skip

_LONG = "timestamp,node_id,flow_rate\n" + "".join(
    f"2025-01-{day:02d}T{hour:02d}:00:00Z,a,{hour}.5\n" for day in range(1, 29) for hour in range(24)
)

REFUSED = [
    _text("empty.csv", "", refused=("empty.csv", "empty", "Export it again")),
    _text("blank.csv", "\n\n  \n", refused=("blank.csv", "empty")),
    _text("headings-only.csv", "timestamp,node_id,flow_rate\n", refused=("headings-only.csv", "no row")),
    Foreign("renamed.csv", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", refused=("renamed.csv", "a PDF", "Export it as CSV")),
    Foreign(
        "picture.xlsx", b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR",
        refused=("picture.xlsx", "PNG", "Export it as CSV"),
    ),
    Foreign("program.csv", bytes(range(256)) * 8, refused=("program.csv", "no table", "Export it as CSV")),
    _text("page.xls", "<html><table><tr><td>1</td></tr></table></html>", refused=("page.xls, line 1", "web page")),
    _text("letter.txt", "Gentili signori,\nin allegato i dati.\nSaluti\n"
    "", refused=("letter.txt", "line 1", "Export it as CSV")),
    _text(
        "half.csv", _HEADINGS + _WEEK + "14/01/2025 00:00;36", refused=("half.csv, line 26", "ends in the middle")
    ),
    Foreign(
        "half.csv.gz", gzip.compress(_LONG.encode(), mtime=0)[:-200], refused=("half.csv.gz, line", "Take it again")
    ),
    Foreign(
        "half.parquet", _parquet(pd.DataFrame({"timestamp": HOURS, "node_id": "a", "flow_rate": 1.0}))[:-20],
        refused=("half.parquet", "cut off", "Take it again"),
    ),
    Foreign("half.xlsx", _workbook(_two_sheets)[:-300], refused=("half.xlsx", "cut off", "Take it again")),
    _text(
        "two-of-one-kind.csv", "data;Portata A [l/s];Portata A [m3/h]\n13/01/2025 00:00;1;2\n",
        refused=("two-of-one-kind.csv", "are both flow_rate of A", "mapping"),
    ),
    _text(
        "mixed-zones.csv", "timestamp,Flow A (L/s)\n2025-01-13T00:00:00Z,1\n2025-01-13T01:00:00,2\n",
        refused=("mixed-zones.csv", "line 2", "line 3", "mapping whose zone"),
    ),
    _text(
        "comma-and-comma.csv", "Data,Portata A [l/s]\n13/01/2025 00:00,1,5\n13/01/2025 01:00,2,5\n",
        refused=("comma-and-comma.csv, line 2", "semicolon"),
    ),
    _text(
        "no-measurement.csv", "data;Cliente;Importo\n13/01/2025;Rossi;12,5\n14/01/2025;Bianchi;13,5\n",
        refused=("no-measurement.csv", "no column is a flow", "Portata [m3/h]"),
    ),
    _text(
        "another-unit-behind.csv", "Data;Portata A [l/s]\n13/01/2025 00:00;3,6 m3/h\n",
        refused=("another-unit-behind.csv, line 2, column Portata A [l/s]", "'3,6 m3/h'", "not l/s", "mapping"),
    ),
    _text(
        "two-units-in-a-column.csv",
        "Data;Punto;Portata;Unità\n13/01/2025 00:00;A;3,6;m3/h\n13/01/2025 01:00;A;1;l/s\n",
        refused=("two-units-in-a-column.csv", "several units", "Part the files"),
    ),
    _text(
        "open-quotation.csv", _HEADINGS + '12/01/2025 00:00;1,5;"2\n' + _WEEK,
        refused=("open-quotation.csv, line 2", "not closed", "Delete it"),
    ),
    _text(
        "other-headings-below.csv",
        _HEADINGS + _WEEK + "Data;Pressione Nord [bar];Portata Nord [m3/h]\n14/01/2025 00:00;3,5;36,0\n",
        refused=("other-headings-below.csv, line 26", "other headings", "Part it there"),
    ),
    _text(
        "cut-in-a-number.csv", _HEADINGS + _WEEK + "14/01/2025 00:00;36,0;3",
        refused=("cut-in-a-number.csv, line 26", "ends in the middle", "Take it again"),
    ),
    _text(
        "two-orders.csv",
        "Data;Portata A [l/s]\n"
        + "".join(f"{day}/01/2025;1\n" for day in range(13, 19))
        + "".join(f"01/{day}/2025;1\n" for day in range(19, 23)),
        refused=("two-orders.csv, line 8, column Data", "4 lines", "Export the file again"),
    ),
    Foreign(
        "exchanged.xlsx", _workbook(_exchanged),
        refused=("exchanged.xlsx, line 2, column Data", "exchanged day and month", "Export the file again"),
    ),
    Foreign("archive.zip", _archive(), refused=("archive.zip", "an archive (ZIP)", "Unpack it")),
    _text("no-dates.csv", "Portata [l/s];Pressione [bar]\n1,5;3,5\n", refused=("no-dates.csv", "date")),
]  # fmt: skip


def written(folder: Path, foreign: Foreign) -> Path:
    """The file in a folder."""
    path = folder / foreign.name
    path.write_bytes(foreign.content)
    return path
