"""In which encoding a file of text is written."""

from __future__ import annotations

import codecs
from pathlib import Path

from charset_normalizer import from_bytes

from src.domain.tables.table import Refusal

_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# What Windows, DOS and old Macs wrote in western Europe.
_SINGLE_BYTE = ("cp1252", "cp850", "mac_roman", "cp437", "iso8859_15", "cp1250")
# Letters and signs that these tables are full of, and few texts in a wrong encoding are.
_EXPECTED = frozenset("àèéìòùäöüßçñáíóúâêîôûÀÈÉÌÒÙÄÖÜÇÑëïœŒ°³²µ€–—“”‘’«»·Øø±º")
_BLOCK = 1 << 20


def encoding_of(path: Path, name: str) -> str:
    """The encoding of a text file: what its first bytes say, else UTF-8 where all of it is, else the most likely.

    Raises:
        Refusal: where it is no text.
    """
    with path.open("rb") as file:
        head = file.read(4096)
        for mark, encoding in _BOMS:
            if head.startswith(mark):
                return encoding
        if head.count(0) > len(head) // 4:
            odd, even = head[1::2].count(0), head[::2].count(0)
            if odd > 4 * even or even > 4 * odd:
                return "utf-16-le" if odd > even else "utf-16-be"
        if b"\x00" in head:
            raise Refusal(f"{name}: this is no text and no table that is known. Export it as CSV, Excel or Parquet")
        file.seek(0)
        decoder = codecs.getincrementaldecoder("utf-8")()
        odd_lines = bytearray()
        is_utf8 = True
        while block := file.read(_BLOCK):
            try:
                if is_utf8:
                    decoder.decode(block)
            except UnicodeDecodeError:
                is_utf8 = False
            if not block.isascii() and len(odd_lines) < 65_536:
                odd_lines += b"\n".join(line for line in block.split(b"\n") if not line.isascii())[:65_536] + b"\n"
    return "utf-8" if is_utf8 else _likeliest(bytes(odd_lines))


def _likeliest(lines: bytes) -> str:
    """Of encodings with a byte a character, that in which most other signs are letters and units; charset-normalizer
    decides where several do as well."""
    ranked = [str(match.encoding) for match in from_bytes(lines[:16_384], cp_isolation=list(_SINGLE_BYTE))]
    best, most = "cp1252", -1.0
    for encoding in [*[one for one in ("cp1252",)], *ranked, *_SINGLE_BYTE]:
        try:
            text = lines.decode(encoding)
        except UnicodeDecodeError:
            continue
        others = [sign for sign in text if not sign.isascii()]
        share = sum(sign in _EXPECTED for sign in others) / max(len(others), 1)
        if share > most:
            best, most = encoding, share
    return best
