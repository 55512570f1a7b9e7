"""One class, from its creation to the download of its recording, as a browser sees it; and the README's tour over REST,
whose commands the shell runs as they stand there: each answers what is printed below it, but for ids and times."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from sandbox.stack import Stack
from tests.clients import DailyControl, Rest, eventually

JOINS = "/join -d "
FOLLOWS = "curl -sN"
# What differs from run to run, and what stands for it.
OF_A_RUN = {
    r"\beyJ[\w.…-]+": "TOKEN",
    r"\bls-[\w-]{22}(?!\w)": "ROOM",
    r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b": "ID",
    r"\d{4}-\d\d-\d\dT[\d:.]+Z": "TIME",
    r"http://127\.0\.0\.1:\d+": "STAND-IN",
    r"\b1[7-9]\d{8,11}(\.\d+)?\b": "SECONDS",
    r'(?<="duration":)\d+': "DURATION",
    r'(?<="share":)[\d.]+': "SHARE",
    r"(?<=TIME,)\d+,[\d.]+(?=,1)": "DURATION,SHARE",
}


def the_same_in_every_run(text: str) -> str:
    for pattern, name in OF_A_RUN.items():
        text = re.sub(pattern, name, text)
    return text.strip("\ufeff").replace("\r\n", "\n").strip()


def is_as_printed(answer: str, printed: str) -> bool:
    """`…`, with blanks around it, stands for anything."""
    parts = map(re.escape, re.split(r"\s*…\s*", the_same_in_every_run(printed)))
    return re.fullmatch(".*".join(parts), the_same_in_every_run(answer), re.DOTALL) is not None


def commands(readme: str) -> Iterator[tuple[str, str]]:
    """Each command of the tour, and what is printed below it."""
    tour = readme.partition("## The tour, over REST")[2].partition("## The tour, over gRPC")[0]
    for block in re.findall(r"^```\n(.*?)^```", tour, re.DOTALL | re.MULTILINE):
        for command, printed in re.findall(r"^\$ ((?:.*\\\n)*.*\n)((?:(?!\$ ).*\n)*)", block, re.MULTILINE):
            yield command.strip(), printed.strip()


class Shell:
    """What is pasted into it meets this stack."""

    def __init__(self, stack: Stack) -> None:
        ada, sam = stack.token("ins-1", "Ada", "instructor"), stack.token("stu-1", "Sam", "student")
        self._environment = os.environ | {"ADA": ada, "SAM": sam, "no_proxy": "*"}
        self._places = {"localhost:8080": stack.rest_url, "localhost:8090": stack.daily_url or ""}
        self._answer = ""

    def begin(self, command: str, output: int | IO[str] = subprocess.PIPE) -> "subprocess.Popen[str]":
        for written, place in self._places.items():
            command = command.replace(written, place)
        return subprocess.Popen(["bash", "-c", command], env=self._environment, stdout=output, text=True)

    def run(self, command: str) -> str:
        if JOINS in command:  # its reader puts in what was answered before
            command = re.sub(r'(?<="token":")[^"]+', self._said("token"), command)
        self._answer = self.begin(command).communicate(timeout=30)[0]
        return self._answer

    def reads(self, command: str, printed: str) -> None:
        """Once what happened elsewhere has been told."""
        try:
            eventually(lambda: is_as_printed(self.run(command), printed))
        except AssertionError:
            raise AssertionError(f"{command}\n{self._answer}") from None

    def name(self) -> None:
        self._environment["NAME"] = self._said("roomName")

    def _said(self, name: str) -> str:
        return re.findall(rf'"{name}":"([^"]+)"', self._answer)[0]


def test_a_class_is_created_held_recorded_and_watched(rest: Rest, daily: DailyControl) -> None:
    name = rest.create()["roomName"]
    token = rest.call("POST", f"/sessions/{name}/token", "sam", "student").json()["token"]
    stay = daily.join(name, token)
    eventually(lambda: rest.get(name)["status"] == "live")

    started = rest.call("POST", f"/sessions/{name}/start-recording", "ada").json()
    stopped = rest.call("POST", f"/sessions/{name}/stop-recording", "ada").json()
    assert stopped["recordingId"] == started["recordingId"]
    assert rest.get(name)["status"] == "ended"

    daily.leave(name, stay["session_id"])
    recording = eventually(
        lambda: (
            answer := rest.call("GET", f"/sessions/{name}/recording", "sam", "student").json(),
            answer if answer["status"] == "finished" else None,
        )[1]
    )
    assert recording["recordingId"] == started["recordingId"]
    assert recording["downloadLink"] == recording["accessLink"]["url"]

    [participant] = rest.call("GET", f"/sessions/{name}/participants", "ada").json()
    assert (participant["userId"], participant["role"]) == ("sam", "student")
    assert participant["joinedAt"] <= participant["leftAt"]


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed, with which the README's tour is made")
def test_each_command_of_the_readme_answers_what_is_printed_below_it(
    stack: Stack, repository: Path, tmp_path: Path
) -> None:
    shell, followed = Shell(stack), tmp_path / "followed"
    tour = list(commands((repository / "README.md").read_text()))
    assert len(tour) > 20
    [told] = [printed for command, printed in tour if command.startswith(FOLLOWS)]
    with followed.open("w") as output:
        for command, printed in tour:
            if command.startswith("NAME="):
                shell.name()
            elif command.startswith(FOLLOWS):
                stream = shell.begin(command, output)
            elif "-X" in command or "-d" in command:
                answer = shell.run(command)
                assert is_as_printed(answer, printed), f"{command}\n{answer}"
            else:
                shell.reads(command, printed)
            if JOINS in command:
                eventually(lambda: is_as_printed(followed.read_text(), told))
        assert stream.wait(30) == 0
