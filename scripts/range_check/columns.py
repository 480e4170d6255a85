"""The observation columns, as proto/columns.rs lists them: the one list there is."""

import re
from dataclasses import dataclass

# 2 CpuUsageUs "cpu_usage_us" "us" Delta Fast Container "…";
LINE = re.compile(r'^\s+\d+ \w+ "(\w+)" "([^"]+)" (Delta|Gauge) (Fast|Slow|Rare) (Container|Pod|Node) ')
INTERVALS = {"Fast": "interval_us", "Slow": "slow_interval_us", "Rare": "rare_interval_us"}
# A value counts for two readings of its tier, seconds: not every row has every column.
VALID_SECONDS = {"Fast": 0.0, "Slow": 11.0, "Rare": 21.0}


@dataclass(frozen=True)
class Column:
    """One column."""

    name: str
    unit: str
    delta: bool
    tier: str
    scope: str

    @property
    def interval(self):
        """The column that says how long its deltas cover."""
        return INTERVALS[self.tier]

    @property
    def valid_seconds(self):
        """How long a value stands for the rows after it."""
        return VALID_SECONDS[self.tier]


def read(root):
    """Every column of a container or its pod but the intervals, by name."""
    found = {}
    for line in (root / "proto" / "columns.rs").read_text(encoding="utf-8").splitlines():
        match = LINE.match(line)
        if match and match[5] != "Node" and not match[1].endswith("interval_us"):
            found[match[1]] = Column(match[1], match[2], match[3] == "Delta", match[4], match[5])
    if len(found) < 40:
        raise SystemExit(f"range-check: only {len(found)} columns were read from proto/columns.rs; did its form change?")
    return found
