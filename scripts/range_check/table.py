"""What the recordings hold, as Markdown."""

import re
from collections import Counter, defaultdict

ROLES = ("attack", "look-alike", "placebo")
PLACEMENTS = ("new", "inside", "rollout", "peak", "replicas", "on_off")
NUMBER = re.compile(r"\d+(?:\.\d+)?")


def sessions(recordings):
    """A line per recording."""
    lines = [
        "| recording | set | plan | backend | cgroup | minutes | containers | observations | labelled | attacks | look-alikes | placebos "
        "| CPU of others | KiB |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    totals = Counter()
    for recording in recordings:
        manifest = recording.manifest
        minutes = (manifest["ended_unix_ms"] - manifest["started_unix_ms"]) / 60_000
        labelled = (recording.role != "").mean() if len(recording.role) else 0
        episodes = [len(recording.episodes(role)) for role in ROLES]
        size = sum(file["bytes"] for file in manifest["files"].values())
        foreign = manifest.get("foreign_cpu_share")
        lines.append(
            f"| {manifest['name']} | {manifest['set']} | {manifest['plan']} | {manifest['backend']} | v{manifest['cgroup_version']} "
            f"| {minutes:.1f} | {manifest['containers']} | {manifest['rows']:,} | {labelled:.1%} | {episodes[0]} | {episodes[1]} "
            f"| {episodes[2]} | {'-' if foreign is None else f'{foreign:.1%}'} | {size / 1024:,.0f} |"
        )
        totals.update(minutes=minutes, containers=manifest["containers"], rows=manifest["rows"], bytes=size)
        totals.update(container_rows=len(recording.role), labelled=int((recording.role != "").sum()))
        totals.update(dict(zip(ROLES, episodes)))
    share = totals["labelled"] / max(totals["container_rows"], 1)
    lines.append(
        f"| **{len(recordings)} in all** | | | | | {totals['minutes']:.0f} | {totals['containers']} | {totals['rows']:,} | {share:.1%} "
        f"| {totals['attack']} | {totals['look-alike']} | {totals['placebo']} | | {totals['bytes'] / 1024:,.0f} |"
    )
    return "\n".join(lines)


def kinds(recordings):
    """A line per kind: episodes by role and placement."""
    count, placed = Counter(), defaultdict(Counter)
    for recording in recordings:
        for role in ROLES:
            for attributes in recording.episodes(role).values():
                count[attributes["kind"], role] += 1
                if role == "attack":
                    placed[attributes["kind"]][attributes.get("placement", "")] += 1
    lines = [
        "| kind | attacks | of these " + " | ".join(PLACEMENTS) + " | look-alikes | placebos |",
        "|---|---|" + "---|" * len(PLACEMENTS) + "---|---|",
    ]
    for kind in sorted({kind for kind, _ in count}):
        placements = " | ".join(str(placed[kind][placement]) for placement in PLACEMENTS)
        attack, alike, placebo = (count[kind, role] for role in ROLES)
        lines.append(f"| {kind} | {attack} | {placements} | {alike} | {placebo} |")
    return "\n".join(lines)


def acts(recordings):
    """A line per act: how often, and between which intensities."""
    said = defaultdict(list)
    for recording in recordings:
        for role in ("attack", "look-alike"):
            for name, attributes in recording.episodes(role).items():
                act = attributes.get("act") or name
                said[attributes["kind"], role, act].append(attributes.get("intensity", ""))
    lines = ["| kind | act | role | episodes | intensities |", "|---|---|---|---|---|"]
    for (kind, role, act), intensities in sorted(said.items()):
        lines.append(f"| {kind} | {act} | {role} | {len(intensities)} | {'; '.join(_between(intensities))} |")
    return "\n".join(lines)


def _between(intensities):
    """Sentences that differ in their numbers alone as one, with the least and the most of each."""
    forms = defaultdict(list)
    for text in intensities:
        forms[NUMBER.sub("{}", text)].append([float(number) for number in NUMBER.findall(text)])
    for form, numbers in sorted(forms.items()):
        ends = [(_number(min(column)), _number(max(column))) for column in zip(*numbers)]
        ranges = [least if least == most else f"{least} to {most}" for least, most in ends]
        yield form.format(*ranges) if form.count("{}") == len(ranges) else form


def _number(value):
    """Whole numbers whole, others with three digits that count."""
    return f"{value:.0f}" if value == int(value) or value >= 100 else f"{value:.3g}"
