"""Expressions of Prometheus: what they name, and their values over samples, as far as our rules need.

A vector is a dict from labels to numbers, without the name of the metric. A rate is that of the samples in its range;
Prometheus, which extends it to the ends of the range, comes to the same where samples come evenly. Where promtool is
installed, test_alerts has it judge the same cases.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import Any

import promql_parser as promql

Labels = frozenset[tuple[str, str]]
Vector = dict[Labels, float]
Samples = Mapping[float, float]
Data = Mapping[str, Mapping[Labels, Samples]]

LOOKBACK_S = 300.0
"""How old the last sample of a series may be."""
COMPARE: dict[str, Callable[[float, float], bool]] = {
    "==": operator.eq, "!=": operator.ne, ">": operator.gt, "<": operator.lt, ">=": operator.ge, "<=": operator.le,
}  # fmt: skip
REDUCE: dict[str, Callable[[list[float]], float]] = {"sum": sum, "max": max, "min": min}


def quotient(one: float, other: float) -> float:
    return one / other if other else math.nan


ARITHMETIC = {"*": operator.mul, "+": operator.add, "-": operator.sub, "/": quotient}


def parts(expression: str) -> Iterator[Any]:
    """All nodes of an expression."""
    found: list[Any] = []
    promql.walk(promql.parse(expression), pre_visit=found.append)
    return iter(found)


def selected(node: Any) -> bool:
    return isinstance(node, promql.VectorSelector)


def series(text: str) -> tuple[str, Labels]:
    """The name and the labels of a series, such as `up{job="zizq"}`."""
    found = promql.parse(text)
    return found.name, frozenset((one.name, one.value) for one in found.matchers.matchers)


def values(text: str) -> list[float]:
    """Values in the notation of promtool: `1 2`, `0x5` for six zeros, `1+2x3` for 1 3 5 7."""
    found: list[float] = []
    for word in text.split():
        match = re.fullmatch(r"(-?[\d.e]+)(?:([+-][\d.]+)?x(\d+))?", word)
        assert match, word
        first, step, times = float(match[1]), float(match[2] or 0), int(match[3] or 0)
        found += [first + step * number for number in range(times + 1)]
    return found


def evaluate(node: Any, at: float, data: Data) -> Any:
    """A number, or a vector, at an instant in seconds."""
    match node:
        case promql.NumberLiteral():
            return node.val
        case promql.ParenExpr():
            return evaluate(node.expr, at, data)
        case promql.VectorSelector():
            return {
                labels: [value for time, value in samples.items() if time <= at][-1]
                for labels, samples in matching(node, data).items()
                if any(at - LOOKBACK_S < time <= at for time in samples)
            }
        case promql.Call():
            return called(node, at, data)
        case promql.AggregateExpr():
            return aggregated(node, evaluate(node.expr, at, data))
        case promql.BinaryExpr():
            return combined(node, evaluate(node.lhs, at, data), evaluate(node.rhs, at, data))
    raise NotImplementedError(f"{type(node).__name__} in {node}")


def matching(selector: Any, data: Data) -> dict[Labels, Samples]:
    return {
        labels: samples
        for labels, samples in data.get(selector.name, {}).items()
        if all(fits(one, dict(labels).get(one.name, "")) for one in selector.matchers.matchers)
    }


def fits(matcher: Any, value: str) -> bool:
    if matcher.op in (promql.MatchOp.Equal, promql.MatchOp.NotEqual):
        return bool((value == matcher.value) is (matcher.op == promql.MatchOp.Equal))
    return (re.fullmatch(matcher.value, value) is not None) is (matcher.op == promql.MatchOp.Re)


# ── functions ──


def called(node: Any, at: float, data: Data) -> Vector:
    name = node.func.name
    if name == "histogram_quantile":
        return quantiles(node.args[0].val, evaluate(node.args[1], at, data))
    window = node.args[0].range.total_seconds()
    found = {}
    for labels, samples in matching(node.args[0].vector_selector, data).items():
        inside = [(time, value) for time, value in samples.items() if at - window <= time <= at]
        if name == "changes" and inside:
            found[labels] = float(sum(one[1] != other[1] for one, other in pairwise(inside)))
        elif len(inside) > 1:
            found[labels] = OVER_TIME[name](inside, window)
    return found


def rate(samples: list[tuple[float, float]], window: float) -> float:
    """What a counter grew by in a second; where it fell it began anew."""
    pairs = pairwise(samples)
    grown = sum(after[1] - (before[1] if after[1] >= before[1] else 0) for before, after in pairs)
    return grown / (samples[-1][0] - samples[0][0])


def slope(samples: list[tuple[float, float]], window: float) -> float:
    """That of the line through the samples with the least squares."""
    times, heights = [time for time, _ in samples], [value for _, value in samples]
    middle, height = sum(times) / len(times), sum(heights) / len(heights)
    spread = sum((time - middle) ** 2 for time in times)
    return sum((time - middle) * (value - height) for time, value in samples) / spread


OVER_TIME: dict[str, Callable[[list[tuple[float, float]], float], float]] = {
    "rate": rate,
    "increase": lambda samples, window: rate(samples, window) * window,
    "deriv": slope,
}


def quantiles(quantile: float, buckets: Vector) -> Vector:
    """By straight lines between the bounds of buckets."""
    whole: dict[Labels, list[tuple[float, float]]] = {}
    for labels, count in buckets.items():
        rest = frozenset(one for one in labels if one[0] != "le")
        whole.setdefault(rest, []).append((float(dict(labels)["le"]), count))
    return {labels: quantile_of(quantile, sorted(bounds)) for labels, bounds in whole.items()}


def quantile_of(quantile: float, bounds: list[tuple[float, float]]) -> float:
    rank, low, below = quantile * bounds[-1][1], 0.0, 0.0
    for high, count in bounds:
        if count >= rank:
            inside = count - below
            return low if math.isinf(high) else low + (high - low) * quotient(rank - below, inside)
        low, below = high, count
    return math.nan


# ── operators ──


def aggregated(node: Any, vector: Vector) -> Vector:
    kept = set(node.modifier.labels) if node.modifier else set()
    groups: dict[Labels, list[float]] = {}
    for labels, value in vector.items():
        groups.setdefault(frozenset(one for one in labels if one[0] in kept), []).append(value)
    return {labels: REDUCE[str(node.op)](found) for labels, found in groups.items()}


def combined(node: Any, left: Any, right: Any) -> Any:
    name = str(node.op)
    compute = COMPARE.get(name) or ARITHMETIC.get(name)
    if isinstance(left, dict) and name == "and":
        there = {key(node, labels) for labels in right}
        return {labels: value for labels, value in left.items() if key(node, labels) in there}
    assert compute, name
    if not isinstance(left, dict):
        return compute(left, right)
    others = {key(node, labels): value for labels, value in right.items()} if isinstance(right, dict) else None
    found = {}
    for labels, value in left.items():
        other = right if others is None else others.get(key(node, labels))
        if other is not None:
            outcome = compute(value, other)
            if name in ARITHMETIC:
                found[labels] = outcome
            elif outcome:
                found[labels] = value
    return found


def key(node: Any, labels: Labels) -> Labels:
    """The labels by which two sides are matched."""
    named = node.modifier.matching if node.modifier else None
    return labels if named is None else frozenset(one for one in labels if one[0] in named.labels)
