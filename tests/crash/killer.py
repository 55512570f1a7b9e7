"""Ends processes with SIGKILL when the plan says so, and starts them again."""

import threading
import time
from collections import Counter

from sandbox.process import Process
from sandbox.stack import Stack
from tests.crash.plan import POSTGRES, Kill, Plan

AHEAD = 10
"""Operations that may begin while a kill and the restart after it are under way."""


class Killer:
    def __init__(self, plan: Plan, stack: Stack) -> None:
        assert stack.postgres is not None
        self.killed: Counter[str] = Counter()
        self._parts: dict[str, Process] = {part.name: part for part in [stack.postgres, *stack.servers]}
        self._kills = plan.kills
        self._begun = self._done = 0
        self._changed = threading.Condition()
        self._failure: BaseException | None = None

    def before(self, number: int) -> None:
        """Notes that an operation begins, after kills that are long due."""
        with self._changed:
            self._begun = max(self._begun, number)
            self._changed.notify_all()
            due = sum(kill.after + AHEAD <= number for kill in self._kills)
            self._changed.wait_for(lambda: self._done >= due or self._failure)
            if self._failure:
                raise RuntimeError("a part did not start again") from self._failure

    def run(self) -> None:
        """Returns after the last restart."""
        try:
            for kill in self._kills:
                with self._changed:
                    self._changed.wait_for(lambda kill=kill: self._begun >= kill.after)  # type: ignore[misc]
                self._carry_out(kill)
                with self._changed:
                    self._done += 1
                    self._changed.notify_all()
        except BaseException as failure:
            with self._changed:
                self._failure = failure
                self._changed.notify_all()
            raise

    def _carry_out(self, kill: Kill) -> None:
        parts = [self._parts[name] for name in kill.victims]
        time.sleep(kill.delay)
        for part in parts:
            part.kill()
            self.killed["PostgreSQL" if part.name == POSTGRES else "server"] += 1
        time.sleep(kill.down)
        for part in parts:
            part.spawn()
        for part in parts:
            part.wait_ready()
