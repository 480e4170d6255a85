"""Makes a recording of two nodes out of one: the second node has the same rows half a second later, under other ids.

two_nodes.py FROM TO: TO must not exist. tests/tests/recordings.rs replays it.
"""

import hashlib
import json
import pathlib
import shutil
import sys

import pyarrow
import pyarrow.compute
import pyarrow.parquet

SECOND = "second-node"
# Hexadecimal ids stay hexadecimal, and become others.
OTHER = str.maketrans("0123456789abcdef", "123456789abcdef0")


def other(table):
    """The rows as the second node has them."""
    for name in ("container_id", "pod_uid"):
        changed = pyarrow.array([text.translate(OTHER) for text in table[name].to_pylist()])
        table = table.set_column(table.column_names.index(name), table.schema.field(name), changed)
    node = pyarrow.array([SECOND] * table.num_rows)
    table = table.set_column(table.column_names.index("node"), table.schema.field("node"), node)
    later = pyarrow.compute.add(table["time"].cast("int64"), 500).cast(table.schema.field("time").type)
    return table.set_column(table.column_names.index("time"), table.schema.field("time"), later)


def main():
    """Copies, doubles, counts."""
    source, to = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    shutil.copytree(source, to)
    table = pyarrow.parquet.read_table(source / "observations.parquet")
    both = pyarrow.concat_tables([table, other(table)])
    pyarrow.parquet.write_table(both, to / "observations.parquet", compression="zstd", store_schema=False)
    lines = [json.loads(line) for line in (source / "containers.jsonl").read_text(encoding="utf-8").splitlines()]
    for line in list(lines):
        ids = {name: line[name].translate(OTHER) for name in ("container_id", "pod_uid")}
        lines.append({**line, **ids, "node": SECOND})
    (to / "containers.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    manifest = json.loads((source / "manifest.json").read_text(encoding="utf-8"))
    manifest.update(name="two-nodes", nodes=[*manifest["nodes"], SECOND], rows=both.num_rows, containers=len(lines))
    manifest["container_rows"] *= 2
    for name in manifest["files"]:
        content = (to / name).read_bytes()
        manifest["files"][name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (to / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


if __name__ == "__main__":
    main()
