"""Ratios, sums and targets from figures made by hand."""

from __future__ import annotations

from pathlib import Path

from benchmarks.savings.judging import rows, total, verdicts
from benchmarks.savings.play import Figure
from benchmarks.savings.report import table, write_json


def figure(workload: str, proxy: str, origin: int, *, group: str = "A", wrong: int = 0) -> Figure:
    return Figure(group, workload, proxy, 1, delivered=1000, origin_bytes=origin, wrong=wrong)


FIGURES = [
    figure("burst", "ours", 100),
    figure("burst", "S0", 1000),
    figure("burst", "S1", 100),
    figure("sniff", "ours", 100),
    figure("sniff", "S0", 200),
    figure("sniff", "S1", 900),
]


def test_the_peer_is_the_best_of_the_workload_and_the_best_single_of_the_sum() -> None:
    table_rows = rows(FIGURES)
    assert [(row.best(), row.ratio()) for row in table_rows] == [("S1", 1.0), ("S0", 0.5)]
    whole = total(table_rows, "A", "sum")
    assert (whole.best(), whole.ratio()) == ("S1", 0.2)


def test_targets_pass_fail_or_are_not_judged() -> None:
    found = {
        one.name: one.passed for one in verdicts([*FIGURES, figure("vary", "ours", 9, group="C", wrong=1)])
    }
    assert found["A burst / best Squid of the workload"] is True
    assert found["C vary / best Squid of the workload"] is None
    assert found["wrong or wrongly shared bodies"] is False
    office = [
        figure("office-day", name, count, group="F") for name, count in (("ours", 60), ("S0", 90), ("S2", 80))
    ]
    assert [one.passed for one in verdicts(office)][:2] == [True, False]


def test_a_proxy_that_missed_a_workload_is_not_in_the_sum() -> None:
    assert set(total(rows(FIGURES[:-1]), "A", "sum").origin) == {"ours", "S0"}


def test_the_table_and_the_json_lines_have_every_workload(tmp_path: Path) -> None:
    assert all(name in table(FIGURES) for name in ("burst", "sniff", "sum"))
    write_json(FIGURES, tmp_path / "lines")
    assert len((tmp_path / "lines").read_text().splitlines()) == len(FIGURES) + len(verdicts(FIGURES))
