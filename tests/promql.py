"""PromQL over what services expose, as far as rules and panels need it: what Prometheus would answer, without one.

Unlike Prometheus it extrapolates nothing: an increase is the sum of what was seen to be added, and a rate is that over
the range.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import promql_parser
from prometheus_client.parser import text_string_to_metric_families

Labels = frozenset[tuple[str, str]]
Vector = dict[Labels, float]
# Prometheus' own, in every series: whose it is.
OF_TARGETS = frozenset({"job", "instance"})
_CALCULATE = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": lambda a, b: a / b if b else math.nan}
_COMPARE = {">": operator.gt, "<": operator.lt, "==": operator.eq, ">=": operator.ge, "<=": operator.le}
_MATCH: dict[str, Callable[[str, str], bool]] = {
    "Equal": lambda value, wanted: value == wanted,
    "NotEqual": lambda value, wanted: value != wanted,
    "Re": lambda value, wanted: re.fullmatch(wanted, value) is not None,
    "NotRe": lambda value, wanted: re.fullmatch(wanted, value) is None,
}


@dataclass(frozen=True)
class Scrape:
    """What all targets exposed at an instant (seconds since 1970), by name of the sample."""

    at: float
    samples: dict[str, Vector]


def scrape(at: float, targets: dict[str, str | None]) -> Scrape:
    """What Prometheus would keep of each job's exposition; None: it does not answer."""
    samples: dict[str, Vector] = {"up": {}}
    for job, exposition in targets.items():
        whose = {"job": job, "instance": f"{job}:9100"}
        samples["up"][frozenset(whose.items())] = float(exposition is not None)
        for family in text_string_to_metric_families(exposition or ""):
            for sample in family.samples:
                labels = frozenset((sample.labels | whose).items())
                samples.setdefault(sample.name, {})[labels] = sample.value
    return Scrape(at, samples)


def parts(expression: Any) -> Iterator[Any]:
    """Every node of a parsed expression."""
    found: list[Any] = []
    promql_parser.walk(expression, lambda node: found.append(node))
    yield from found


def evaluate(query: str, scrapes: list[Scrape]) -> Vector | float:
    """The answer at the latest scrape; a scalar is a number.

    Raises:
        ValueError: if the query is no PromQL.
        NotImplementedError: if it uses what no rule and no panel has used before.
    """
    return _Evaluation(scrapes).of(promql_parser.parse(query))


class _Evaluation:
    def __init__(self, scrapes: list[Scrape]) -> None:
        self._scrapes = scrapes
        self._now = scrapes[-1].at

    def of(self, node: Any) -> Any:
        name = type(node).__name__
        method: Callable[[Any], Any] | None = getattr(self, f"_{name.lower()}", None)
        if method is None:
            raise NotImplementedError(name)
        return method(node)

    def _numberliteral(self, node: Any) -> float:
        return float(node.val)

    def _parenexpr(self, node: Any) -> Any:
        return self.of(node.expr)

    def _vectorselector(self, node: Any) -> Vector:
        return self._select(node, self._scrapes[-1])

    def _select(self, node: Any, scrape: Scrape) -> Vector:
        def matches(labels: Labels) -> bool:
            values = dict(labels)
            return all(
                _MATCH[str(matcher.op).rpartition(".")[2]](values.get(matcher.name, ""), matcher.value)
                for matcher in node.matchers.matchers
            )

        return {labels: value for labels, value in scrape.samples.get(node.name, {}).items() if matches(labels)}

    def _ranges(self, node: Any) -> dict[Labels, list[tuple[float, float]]]:
        within: timedelta = node.range
        found: dict[Labels, list[tuple[float, float]]] = {}
        for scrape in self._scrapes:
            if self._now - scrape.at <= within.total_seconds():
                for labels, value in self._select(node.vector_selector, scrape).items():
                    found.setdefault(labels, []).append((scrape.at, value))
        return found

    def _call(self, node: Any) -> Any:
        name, arguments = node.func.name, node.args
        if name == "time":
            return self._now
        if name == "vector":
            return {frozenset(): self.of(arguments[0])}
        if name == "max_over_time":
            return {labels: max(value for _, value in points) for labels, points in self._ranges(arguments[0]).items()}
        if name in {"increase", "rate"}:
            series = {labels: points for labels, points in self._ranges(arguments[0]).items() if len(points) > 1}
            seconds = arguments[0].range.total_seconds() if name == "rate" else 1
            return {labels: _added(points) / seconds for labels, points in series.items()}
        if name == "histogram_quantile":
            return _quantiles(self.of(arguments[0]), self.of(arguments[1]))
        raise NotImplementedError(name)

    def _aggregateexpr(self, node: Any) -> Vector:
        # The parser names the operation in its text only.
        operation = node.prettify().split("(")[0].split()[0]
        inner: Vector = self.of(node.expr)
        if operation == "topk":
            best = sorted(inner, key=lambda labels: inner[labels], reverse=True)[: int(node.param.val)]
            return {labels: inner[labels] for labels in best}
        groups: dict[Labels, list[float]] = {}
        by = set(node.modifier.labels) if node.modifier else set()
        for labels, value in inner.items():
            groups.setdefault(frozenset(label for label in labels if label[0] in by), []).append(value)
        aggregate = {"sum": sum, "max": max, "min": min, "count": len}[operation]
        return {labels: float(aggregate(values)) for labels, values in groups.items()}

    def _binaryexpr(self, node: Any) -> Any:
        left, right, sign = self.of(node.lhs), self.of(node.rhs), str(node.op)
        if sign == "or":
            return right | left
        if sign in _CALCULATE:
            return _joined(left, right, _CALCULATE[sign])
        compared = _joined(left, right, _COMPARE[sign])
        return {labels: left[labels] if isinstance(left, dict) else left for labels, holds in compared.items() if holds}


def _joined(left: Any, right: Any, operation: Callable[[float, float], Any]) -> Any:
    """Numbers with numbers, series with series of the same labels, either with the other."""
    if isinstance(left, dict) and isinstance(right, dict):
        return {labels: operation(left[labels], right[labels]) for labels in left if labels in right}
    if isinstance(left, dict):
        return {labels: operation(value, right) for labels, value in left.items()}
    if isinstance(right, dict):
        return {labels: operation(left, value) for labels, value in right.items()}
    return operation(left, right)


def _added(points: list[tuple[float, float]]) -> float:
    """What a counter grew by; one that is less than before began again at nothing."""
    values = [value for _, value in points]
    return sum(
        later - earlier if later >= earlier else later for earlier, later in zip(values, values[1:], strict=False)
    )


def _quantiles(share: float, buckets: Vector) -> Vector:
    """Of each histogram, linear within the bucket; NaN where nothing was observed."""
    histograms: dict[Labels, list[tuple[float, float]]] = {}
    for labels, count in buckets.items():
        rest = frozenset(label for label in labels if label[0] != "le")
        histograms.setdefault(rest, []).append((float(dict(labels)["le"]), count))
    return {labels: _quantile(share, sorted(histogram)) for labels, histogram in histograms.items()}


def _quantile(share: float, histogram: list[tuple[float, float]]) -> float:
    total = histogram[-1][1]
    if total == 0:
        return math.nan
    lower = below = 0.0
    for upper, count in histogram:
        if count >= share * total:
            if math.isinf(upper):
                return lower
            return lower + (upper - lower) * (share * total - below) / (count - below)
        lower, below = upper, count
    return math.nan
