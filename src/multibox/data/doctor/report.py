"""The report on a terminal: findings by kind with examples, class balance, fit of default boxes."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table

from multibox.data.doctor.examine import Report
from multibox.data.doctor.finding import Finding

EXAMPLES = 3


def tables(report: Report, model: str) -> Iterator[Table | str]:
    """Everything worth showing, as tables and lines of text, most urgent last of all."""
    summary = report.summary
    yield (
        f"{summary['layout'] or 'no readable labels'}: {summary['pictures']} pictures, "
        f"{summary['objects']} objects"
    )
    yield from summary["notes"]
    if summary["classes"]:
        yield _classes(summary["classes"])
    if summary["default_boxes"]:
        yield from _default_boxes(summary["default_boxes"], model)
    if report.findings:
        yield _findings(report.findings)
    yield f"{summary['errors']} errors, {summary['warnings']} warnings"


def _findings(findings: Sequence[Finding]) -> Table:
    groups: dict[tuple[str, str], list[Finding]] = defaultdict(list)
    for item in findings:
        groups[item.severity, item.kind].append(item)
    table = Table("", "finding", "number", "where and what", box=None, pad_edge=False)
    table.columns[2].justify = "right"
    table.columns[3].overflow = "fold"
    for (severity, kind), items in groups.items():
        lines = []
        for item in items[:EXAMPLES]:
            place = "" if item.object is None else f" object {item.object}"
            lines.append(f"{item.file}{place}: {item.detail}")
        if len(items) > EXAMPLES:
            lines.append(f"… and {len(items) - EXAMPLES} more: --json FILE has all")
        table.add_row(severity, kind, str(len(items)), "\n".join(lines))
    return table


def _classes(classes: Mapping[str, Mapping[str, Any]]) -> Table:
    splits = list(next(iter(classes.values()))["splits"])
    table = Table("class", "objects", "pictures", *splits, box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for name, row in classes.items():
        counts = (row["objects"], row["pictures"], *row["splits"].values())
        table.add_row(name, *map(str, counts))
    return table


def _default_boxes(fits: Mapping[str, Any], model: str) -> Iterator[Table | str]:
    current, suggested = fits["current"], fits["suggested"]
    yield (
        f"default boxes of {model}: {current['recall']:.1%} of {current['objects']} objects are "
        f"reached at IoU 0.5, {current['missed']} are not; {current['positives']:.1f} positives "
        "an object"
    )
    yield _bins("size at the input (pixels)", current["by_size"], suggested["by_size"])
    yield _bins("width / height", current["by_aspect"], suggested["by_aspect"])
    if suggested["unchanged"]:
        yield "no better default boxes found"
        return
    yield (
        f"suggested default boxes reach {suggested['recall']:.1%} with "
        f"{suggested['positives']:.1f} positives an object: train --default-boxes suggested"
    )
    table = Table("grid", "scales", "aspect ratios (w/h)", box=None, pad_edge=False)
    for level in suggested["levels"]:
        scales = ", ".join(f"{box['scale']:.3f}" for box in level["boxes"])
        ratios = ", ".join(f"{box['aspect_ratio']:.2f}" for box in level["boxes"])
        table.add_row(f"{level['grid'][0]} x {level['grid'][1]}", scales, ratios)
    yield table


def _bins(title: str, current: Sequence[Any], suggested: Sequence[Any]) -> Table:
    table = Table(title, "objects", "reached", "suggested", box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for now, then in zip(current, suggested, strict=True):
        high = "and more" if now["high"] is None else f"to {now['high']:g}"
        recalls = (f"{now['recall']:.1%}", f"{then['recall']:.1%}")
        table.add_row(f"{now['low']:g} {high}", str(now["objects"]), *recalls)
    return table
