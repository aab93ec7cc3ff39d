"""Pages of lists: no more rows than asked for, and no more bytes than a replica can hold many times over."""

from __future__ import annotations

from typing import Any

import asyncpg

# Of JSON in one answer, about; a single row may hold more.
MOST_BYTES = 2_000_000


def bounded(query: str, order: str, weight: str) -> str:
    """SQL of a page of a list: the first rows of `query` whose JSON is not too much together.

    Args:
        query: a SELECT that ends with its LIMIT, in the list's order.
        order: that order again, in terms of the query's columns.
        weight: the columns whose size counts, separated by commas.
    """
    size = " + ".join(f"coalesce(octet_length({column.strip()}::text), 0)" for column in weight.split(","))
    return f"""
    SELECT * FROM (
        SELECT page.*, count(*) OVER () AS page_rows, row_number() OVER (ORDER BY {order}) AS page_row,
            sum({size}) OVER (ORDER BY {order} ROWS UNBOUNDED PRECEDING) AS page_bytes
        FROM ({query}) AS page
    ) AS weighed WHERE page_bytes <= {MOST_BYTES} OR page_row = 1 ORDER BY page_row
    """  # noqa: S608 - built from the text of `queries`


async def page(database: asyncpg.Pool, query: str, *arguments: object, limit: int) -> tuple[list[dict[str, Any]], bool]:
    """A page of at most `limit` rows, and whether there are more.

    Args:
        query: made by `bounded`; its last parameter is its LIMIT.
    """
    found = await database.fetch(query, *arguments, limit + 1)
    rows = [dict(row) for row in found[:limit]]
    more = bool(found) and found[0]["page_rows"] > len(rows)
    for row in rows:
        del row["page_rows"], row["page_row"], row["page_bytes"]
    return rows, more
