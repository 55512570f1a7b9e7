"""`python -m tests.crash`: the full run, with numbers for people; status 1 when a rule was violated."""

import argparse
import secrets
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tests.crash import crippled, plan
from tests.crash.run import BOUND, Report, run


def main() -> int:
    arguments = _arguments()
    started = time.monotonic()
    number = plan.Number(arguments.kills, -(-arguments.kills // 10), arguments.freezes, arguments.cuts)
    _say(f"seed {arguments.seed}: {arguments.operations} operations, {number}")
    chosen = plan.make(arguments.seed, arguments.operations, number, arguments.servers)
    _say(f"Daily: {chosen.daily}")
    data_dir = Path(tempfile.mkdtemp(prefix="crash-"))
    report = run(
        chosen,
        data_dir,
        servers=arguments.servers,
        without=arguments.without,
        bound=arguments.bound,
        say=_say,
    )
    _print(report)
    _say(f"{len(report.violations)} violations; seed {arguments.seed}; {time.monotonic() - started:.0f} s")
    if report.violations or report.errors:
        _say(f"logs: {data_dir / 'logs'}")
    else:
        shutil.rmtree(data_dir)
    return 1 if report.violations else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000), help="chooses the operations")
    parser.add_argument("--operations", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=50, help="one in ten ends PostgreSQL, the others a server each")
    parser.add_argument("--freezes", type=int, default=6, help="SIGSTOP to a server, for up to 40 s")
    parser.add_argument("--cuts", type=int, default=6, help="a server without PostgreSQL and Daily, for up to 40 s")
    parser.add_argument("--servers", type=int, default=3, help="server processes")
    parser.add_argument("--bound", type=float, default=BOUND, help="seconds that upkeep has in the end")
    parser.add_argument("--without", choices=crippled.PARTS, help="leave out a part of upkeep")
    return parser.parse_args()


def _print(report: Report) -> None:
    kinds: dict[str, Counter[str]] = {}
    for (kind, outcome), count in report.outcomes.items():
        kinds.setdefault(kind, Counter())[outcome] += count
    _say("operations")
    for kind, outcomes in kinds.items():
        _say(f"  {kind:12} {_listed(outcomes)}")
    _say(f"blows: {_listed(report.dealt)}")
    _say(f"faults: {_listed(report.faults_set)}; {report.faults_left} left unused")
    _say(f"upkeep: {_listed(report.upkeep)}")
    _say(f"seen: {_listed(report.seen)}")
    _say(f"{'not ' if report.violations else ''}clean {report.settled_after:.0f} s after the end")
    _say(f"{len(report.errors)} ERROR lines in the servers' logs")
    for line in report.errors[:20]:
        _say(f"  {line}")
    for violation in report.violations:
        _say(f"VIOLATION {violation}")


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201


def _listed(counts: Any) -> str:
    return (
        ", ".join(f"{count} {name}" for name, count in sorted(counts.items(), key=lambda item: str(item[0]))) or "none"
    )


if __name__ == "__main__":
    sys.exit(main())
