"""The result of a benchmark: a table for people, as text, as Markdown and as a plot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from benchmarks.measure import Row, Usage


@dataclass(frozen=True)
class Table:
    """What was measured. The first row is the one that is judged: its time by `times` that of the
    quickest row named in `baselines`, its memory by `most_mb`; None where that is not judged."""

    title: str
    conditions: str
    rows: Sequence[Row]
    baselines: Sequence[str] = ()
    times: float | None = None
    most_mb: float | None = None
    most_seconds: float | None = None

    def baseline(self) -> Usage | None:
        """The quickest of the baselines."""
        found = [row.usage for row in self.rows if row.name in self.baselines and row.usage]
        return min(found, key=lambda usage: usage.seconds) if found else None

    def verdicts(self) -> list[str]:
        """Each promise, what was measured, and whether it holds."""
        ours, baseline = self.rows[0].usage, self.baseline()
        if ours is None:
            return []
        judged = []
        if self.times is not None and baseline is not None:
            judged.append((ours.seconds / baseline.seconds, self.times, "times the baseline"))
        if self.most_mb is not None and ours.peak_mb is not None:
            judged.append((ours.peak_mb, self.most_mb, "MB of memory"))
        if self.most_seconds is not None:
            judged.append((ours.seconds, self.most_seconds, "s"))
        return [
            f"{found:.2f} {what}; the target is {most:g}: {'reached' if found <= most else 'MISSED'}"
            for found, most, what in judged
        ]

    def cells(self) -> list[list[str]]:
        """The table's lines, its head first."""
        counts_requests = any(row.usage and row.usage.requests is not None for row in self.rows)
        baseline = self.baseline()
        head = ["", "seconds", "CPU seconds", "peak MB"]
        lines = [head + ["requests"] * counts_requests + ["times the baseline"] * (baseline is not None)]
        for name, usage, note in self.rows:
            if usage is None:
                lines.append([name, note] + [""] * (len(lines[0]) - 2))
                continue
            line = [
                f"{name} ({note})" if note else name,
                _seconds(usage.seconds),
                "" if usage.cpu_seconds is None else _seconds(usage.cpu_seconds),
                "" if usage.peak_mb is None else f"{usage.peak_mb:.0f}",
            ]
            if counts_requests:
                line.append("" if usage.requests is None else f"{usage.requests:,}")
            if baseline is not None:
                line.append(f"{usage.seconds / baseline.seconds:.2f}")
            lines.append(line)
        return lines

    def text(self) -> str:
        """For a terminal."""
        lines = self.cells()
        widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
        shown = [
            "  ".join(
                cell.ljust(width) if column == 0 else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        ]
        return "\n".join([self.title, self.conditions, *shown, *self.verdicts(), ""])

    def markdown(self, plot: str) -> str:
        """For the README; `plot` is the file of the plot."""
        head, *lines = self.cells()
        rule = ["---"] + ["---:"] * (len(head) - 1)
        table = "\n".join(f"| {' | '.join(line)} |" for line in [head, rule, *lines])
        verdicts = "\n".join(f"- {verdict}" for verdict in self.verdicts())
        return f"## {self.title}\n\n{self.conditions}\n\n{table}\n\n{verdicts}\n\n![{self.title}]({plot})\n"

    def svg(self) -> str:
        """Bars of seconds, the first row's in another colour, the limit as a line."""
        measured = [(row.name, row.usage.seconds) for row in self.rows if row.usage]
        baseline = self.baseline()
        limit = baseline.seconds * self.times if baseline and self.times else self.most_seconds
        longest = max([seconds for _, seconds in measured] + [limit or 0.0])
        left, width, height = 260, 420, 24
        total = height * len(measured) + 34
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 80}" height="{total}"'
            ' font-family="sans-serif" font-size="13">',
            f'<rect width="{left + width + 80}" height="{total}" fill="#fff"/>',
        ]
        for number, (name, seconds) in enumerate(measured):
            top, bar = number * height + 6, max(1.0, seconds / longest * width)
            colour = "#1f6feb" if number == 0 else "#9aa4b2"
            parts += [
                f'<text x="{left - 8}" y="{top + 13}" text-anchor="end">{escape(name)}</text>',
                f'<rect x="{left}" y="{top}" width="{bar:.1f}" height="{height - 7}" fill="{colour}"/>',
                f'<text x="{left + bar + 6:.1f}" y="{top + 13}">{_seconds(seconds)} s</text>',
            ]
        if limit:
            at = left + limit / longest * width
            bottom = height * len(measured) + 6
            parts += [
                f'<line x1="{at:.1f}" y1="2" x2="{at:.1f}" y2="{bottom}" stroke="#cf222e" stroke-dasharray="4 3"/>',
                f'<text x="{at:.1f}" y="{bottom + 16}" text-anchor="middle" fill="#cf222e">target</text>',
            ]
        return "\n".join([*parts, "</svg>", ""])


def _seconds(seconds: float) -> str:
    return f"{seconds:.3f}" if seconds < 1 else f"{seconds:.2f}"
