"""`make profile CASE=get-grpc-256`: py-spy watches a server during a case; the graph is .bench/profile-CASE.svg."""

import argparse
import asyncio
import sys
from pathlib import Path

import uvloop

from benchmarks.cases import Case, callers, cases
from benchmarks.load import Load
from benchmarks.stage import Stage
from sandbox.process import SandboxError

DIRECTORY = Path(".bench")
SECONDS = 10
PY_SPY = Path(sys.executable).with_name("py-spy")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile", description=__doc__)
    parser.add_argument("case", help="a case of make bench and how many in flight, such as token-rest-256")
    parser.add_argument("--who", default="ours", help="or peer, bare, unbatched where the case has them")
    parser.add_argument("--format", default="flamegraph", choices=("flamegraph", "raw", "speedscope"))
    parser.add_argument("--rows", type=int, default=100_000)
    arguments = parser.parse_args()
    name, _, in_flight = arguments.case.rpartition("-")
    try:
        with Stage(DIRECTORY, arguments.rows, 10_000) as stage:
            found = [case for case in cases(stage, callers(stage)) if case.name == name]
            if not found or not in_flight.isdigit():
                print(f"there is no case {arguments.case}", file=sys.stderr)
                return 1
            file = DIRECTORY / f"profile-{arguments.case}.{'svg' if arguments.format == 'flamegraph' else 'txt'}"
            uvloop.run(_profile(stage, found[0], int(in_flight), arguments.who, arguments.format, file))
    except SandboxError as error:
        print(error, file=sys.stderr)
        return 1
    print(file)
    return 0


async def _profile(stage: Stage, case: Case, in_flight: int, who: str, format: str, file: Path) -> None:
    runner = next(each for each in case.runners if each.who == who)
    load = Load(runner.connect(in_flight), in_flight, runner.requests)
    await load.open()
    await load.run(1)
    pid = str(stage.groups[runner.groups[0]])
    options = ["--pid", pid, "--duration", str(SECONDS), "--rate", "250", "--format", format, "--output", str(file)]
    if not PY_SPY.exists():
        raise SandboxError(f"{PY_SPY} is missing: run `make install`")
    watching = await asyncio.create_subprocess_exec(PY_SPY, "record", *options)
    await load.run(SECONDS + 1)
    if await watching.wait():
        raise SandboxError("py-spy failed")
    load.close()


if __name__ == "__main__":
    sys.exit(main())
