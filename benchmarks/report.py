"""Figures in columns, and the memory of a process."""

from __future__ import annotations


def mib(size: float) -> str:
    """Return a number of bytes in MiB."""
    return f"{size / (1 << 20):.0f}"


class ReportTable:
    """Rows with a label and one cell for each column, printed aligned."""

    def __init__(self, *columns: str) -> None:
        self._rows: list[tuple[str, ...]] = [("", *columns)]

    def row(self, label: str, *cells: str) -> None:
        self._rows.append((label, *cells))

    def print(self, title: str) -> None:
        widths = [max(len(row[i]) for row in self._rows) for i in range(len(self._rows[0]))]
        print(f"\n{title}\n")
        for row in self._rows:
            label = row[0].ljust(widths[0])
            cells = "  ".join(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
            print(f"  {label}  {cells}")
        print(flush=True)
