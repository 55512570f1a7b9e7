"""Kills, freezes and cuts off processes when the plan says so, and brings them back."""

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress

from sandbox.process import Process
from tests.crash.network import Link, Network
from tests.crash.plan import POSTGRES, Blow, Plan

AHEAD = 10
"""Operations that may begin while a kill and the restart after it are under way."""


class Killer:
    def __init__(
        self, plan: Plan, parts: Mapping[str, Process], network: Network, links: Mapping[str, list[Link]]
    ) -> None:
        """`parts` and `links` by the names of the plan's victims."""
        self.dealt: Counter[str] = Counter()
        self._parts, self._network, self._links = parts, network, links
        self._blows = plan.blows
        self._begun = self._done = 0
        self._changed = threading.Condition()
        self._failure: BaseException | None = None
        self._lasting: list[threading.Thread] = []

    def before(self, number: int) -> None:
        """Notes that an operation begins, after blows that are long due."""
        with self._changed:
            self._begun = max(self._begun, number)
            self._changed.notify_all()
            due = sum(blow.after + AHEAD <= number for blow in self._blows)
            self._changed.wait_for(lambda: self._done >= due or self._failure)
            if self._failure:
                raise RuntimeError("a part did not start again") from self._failure

    def run(self) -> None:
        """Returns when all is as it was before."""
        try:
            for blow in self._blows:
                with self._changed:
                    self._changed.wait_for(lambda blow=blow: self._begun >= blow.after)  # type: ignore[misc]
                self._deal(blow)
                with self._changed:
                    self._done += 1
                    self._changed.notify_all()
        except BaseException as failure:
            with self._changed:
                self._failure = failure
                self._changed.notify_all()
            raise
        finally:
            for thread in self._lasting:
                thread.join()

    def _deal(self, blow: Blow) -> None:
        """Kills come one after the other; what lasts longer goes on beside them."""
        time.sleep(blow.delay)
        for name in blow.victims:
            self.dealt[blow.kind + (" PostgreSQL" if name == POSTGRES else " server")] += 1
        if blow.kind == "kill":
            self._kill(blow)
            return
        work = self._freeze if blow.kind == "freeze" else self._cut
        self._lasting.append(threading.Thread(target=work, args=(blow,)))
        self._lasting[-1].start()

    def _kill(self, blow: Blow) -> None:
        parts = [self._parts[name] for name in blow.victims]
        for part in parts:
            part.kill()
        time.sleep(blow.seconds)
        for part in parts:
            part.spawn()
        for part in parts:
            part.wait_ready()

    def _freeze(self, blow: Blow) -> None:
        part = self._parts[blow.victims[0]]
        pid = part.pid
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
        time.sleep(blow.seconds)
        if part.pid == pid and not part.ended:  # it may have been killed meanwhile
            os.kill(pid, signal.SIGCONT)

    def _cut(self, blow: Blow) -> None:
        links = self._links[blow.victims[0]]
        for link in links:
            self._network.set_open(link, False)
        time.sleep(blow.seconds)
        for link in links:
            self._network.set_open(link, True)
