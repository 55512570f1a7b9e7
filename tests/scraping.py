"""Metrics as Prometheus reads them: scraped, parsed, and compared with those of a moment ago."""

import re

import httpx
from prometheus_client.parser import text_string_to_metric_families

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


class Target:
    """One process that is scraped. What it has counted is told as the difference from the last `mark`."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.mark()

    def text(self) -> str:
        answer = httpx.get(self.url, trust_env=False, timeout=10)
        assert answer.status_code == 200
        return answer.text

    def mark(self) -> None:
        self._before = self._samples()

    def value(self, name: str, **labels: str) -> float:
        """The sum over all with these labels, and whatever others."""
        return _sum(self._samples(), name, labels)

    def counted(self, name: str, **labels: str) -> float:
        return self.value(name, **labels) - _sum(self._before, name, labels)

    def by(self, label: str, name: str, **labels: str) -> dict[str, float]:
        """What has been counted since, by the values of a label; without those that have not changed."""
        now = self._samples()
        values = {dict(of).get(label, "") for sample, of in now if sample == name}
        changes = {
            value: _sum(now, name, labels | {label: value}) - _sum(self._before, name, labels | {label: value})
            for value in values
        }
        return {value: change for value, change in changes.items() if change}

    def labels(self, name: str, *labels: str) -> set[tuple[str, ...]]:
        """The values that these labels have together."""
        return {tuple(dict(of)[label] for label in labels) for sample, of in self._samples() if sample == name}

    def names(self) -> set[str]:
        return {name for name, _ in self._samples()}

    def _samples(self) -> Samples:
        families = text_string_to_metric_families(self.text())
        return {(sample.name, frozenset(sample.labels.items())): sample.value for f in families for sample in f.samples}


def raw_names(url: str) -> set[str]:
    """The names as they are told, which the parser changes for some of Envoy's counters."""
    return set(re.findall(r"^(\w+)[{ ]", httpx.get(url, trust_env=False, timeout=10).text, re.MULTILINE))


def _sum(samples: Samples, name: str, labels: dict[str, str]) -> float:
    return sum(value for (sample, of), value in samples.items() if sample == name and of >= labels.items())
