"""A recorded session as arrays: a row per container and tick, what it was, and features that can be compared."""

import json

import numpy
import pyarrow.parquet

# Later ones win where they overlap: an attack is said of a container more exactly than ordinary work of its pod.
RANKS = ("ordinary", "placebo", "look-alike", "affected", "attack")


class Recording:
    """One folder of recordings/, the nodes' own rows left out."""

    def __init__(self, folder, columns):
        self.folder = folder
        self.manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        self.labels = _lines(folder / "labels.jsonl")
        self.containers = _lines(folder / "containers.jsonl")
        table = pyarrow.parquet.read_table(folder / "observations.parquet")
        self.rows_in_all = table.num_rows
        ids = numpy.array(table["container_id"].to_pylist())
        keep = ids != ""
        self.ids = ids[keep]
        self.pods = numpy.array(table["pod_uid"].to_pylist())[keep]
        self.unix_ms = table["time"].cast("int64").to_numpy()[keep]
        # Shipped files are sorted by container and time, and what follows relies on it.
        new = numpy.flatnonzero(self.ids[1:] != self.ids[:-1]) + 1
        self.segments = list(zip([0, *new], [*new, len(self.ids)])) if len(self.ids) else []
        if any((numpy.diff(self.unix_ms[a:b]) < 0).any() for a, b in self.segments):
            raise SystemExit(f"range-check: {folder} is not sorted by container and time")
        values = {name: _numbers(table, name, keep) for name in table.column_names if table.schema.field(name).type == "int64"}
        self.features = {name: self._feature(column, values) for name, column in columns.items() if name in values}
        self._derive()
        self.role, self.kind, self.act, self.episode = self._labelled()

    @property
    def name(self):
        """Its name."""
        return self.manifest["name"]

    def _feature(self, column, values):
        """Deltas per second of their own interval, levels as they are; each for as long as it stands."""
        value = values[column.name]
        if column.delta:
            interval = values.get(column.interval)
            if interval is None:
                return numpy.full(len(value), numpy.nan)
            value = value * 1e6 / numpy.where(interval > 0, interval, numpy.nan)
        if column.valid_seconds:
            for a, b in self.segments:
                value[a:b] = _carried(value[a:b], self.unix_ms[a:b], column.valid_seconds * 1000)
        return value

    def _derive(self):
        """What takes two columns or a container's own past."""
        feature = self.features.get
        nothing = numpy.full(len(self.ids), numpy.nan)
        sent, received = feature("net_tx_bytes", nothing), feature("net_rx_bytes", nothing)
        self.features["net_tx_less_rx_bytes"] = sent - received
        self.features["memory_growth_bytes"] = nothing.copy()
        self.features["age_seconds"] = nothing.copy()
        self.features["restarts_so_far"] = nothing.copy()
        seen = {container["container_id"]: container for container in self.containers}
        memory = feature("memory_current_bytes", nothing)
        for a, b in self.segments:
            container = seen.get(self.ids[a], {})
            time = self.unix_ms[a:b]
            if not container.get("already_running"):
                self.features["age_seconds"][a:b] = (time - container.get("first_seen_unix_ms", time[0])) / 1000
            self.features["restarts_so_far"][a:b] = container.get("restarts", 0)
            # Over half a minute: what leaks does so for longer, what warms up is soon warm.
            before = numpy.searchsorted(time, time - 30_000)
            seconds = (time - time[before]) / 1000
            with numpy.errstate(invalid="ignore", divide="ignore"):
                self.features["memory_growth_bytes"][a:b] = numpy.where(seconds >= 5, (memory[a:b] - memory[a:b][before]) / seconds, numpy.nan)

    def _labelled(self):
        """What each row was; "" where nothing was said."""
        role, kind, act, episode = (numpy.full(len(self.ids), "", dtype=object) for _ in range(4))
        of_pod, of_container = {}, {}
        for a, b in self.segments:
            of_pod.setdefault(self.pods[a], []).append((a, b))
            of_container[self.ids[a]] = (a, b)
        for label in sorted(self.labels, key=lambda label: RANKS.index(role_of(label))):
            container = label.get("container_id")
            segments = [of_container[container]] if container in of_container else of_pod.get(label.get("pod_uid"), [])
            if container and container not in of_container:
                continue
            attributes = label.get("attributes", {})
            for a, b in segments:
                first = a + numpy.searchsorted(self.unix_ms[a:b], label["start_unix_ms"])
                last = a + numpy.searchsorted(self.unix_ms[a:b], label["end_unix_ms"])
                role[first:last] = role_of(label)
                kind[first:last] = kind_of(label)
                act[first:last] = attributes.get("act", "")
                episode[first:last] = attributes.get("episode") or attributes.get("placebo") or ""
        return role, kind, act, episode

    def episodes(self, role):
        """The episodes of a role: name to the attributes of one of its labels, with its kind."""
        found = {}
        for label in self.labels:
            attributes = label.get("attributes", {})
            name = attributes.get("episode") or attributes.get("placebo")
            if name and role_of(label) == role:
                found.setdefault(name, {**attributes, "kind": kind_of(label)})
        return found


def role_of(label):
    """What a label says that its range was for."""
    if label.get("affected"):
        return "affected"
    if label["kind"] != "normal":
        return "attack"
    attributes = label.get("attributes", {})
    if attributes.get("role") in ("placebo", "look-alike"):
        return attributes["role"]
    return "placebo" if "placebo" in attributes else "ordinary"


def kind_of(label):
    """Kind of the attack, or of the one that ordinary work looks like; "" for neither."""
    return label["kind"] if label["kind"] != "normal" else label.get("attributes", {}).get("like", "")


def _lines(path):
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def _numbers(table, name, keep):
    """A column as numbers, NaN where absent."""
    return table[name].cast("float64").to_numpy()[keep].copy()


def _carried(value, unix_ms, valid_ms):
    """Each value stands for the rows after it, until the next one or until it is too old."""
    there = ~numpy.isnan(value)
    last = numpy.maximum.accumulate(numpy.where(there, numpy.arange(len(value)), -1))
    carried = numpy.where(last >= 0, value[last], numpy.nan)
    age = unix_ms - unix_ms[numpy.maximum(last, 0)]
    return numpy.where(age <= valid_ms, carried, numpy.nan)
