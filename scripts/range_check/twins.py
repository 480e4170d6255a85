"""How well single features tell an attack from its ordinary twin, and why."""

import numpy
import yaml
from sklearn.metrics import roc_auc_score

# Cumulative, a matter of when the episode began, or how its host was configured: what tells twins apart by it is no signature.
LEFT_OUT = {"age_seconds", "restarts_so_far", "memory_limit_bytes", "pids_limit"}
SHOWN = 3
# Fewer episodes than this on a side are too few to compare.
FEW = 3

# Why a feature is higher, or lower, in the attack: physics, not statistics.
WHY = {
    "cpu_usage_us": ("it computes without pause", "its twin computes harder"),
    "cpu_user_us": ("it computes without pause", "its twin computes harder"),
    "cpu_system_us": ("the kernel works for it: system calls, packets, forks", "its twin makes the kernel work more: files, forks"),
    "cpu_throttled_us": ("it wants more than its limit", "its twin wants more than its limit"),
    "cpu_throttled_periods": ("it wants more than its limit", "its twin wants more than its limit"),
    "cpu_periods": ("it runs in more of its periods", "its twin runs in more of its periods"),
    "memory_current_bytes": ("it keeps more resident", "its twin keeps more, page cache included"),
    "memory_working_set_bytes": ("it keeps more resident", "its twin keeps more resident"),
    "memory_anon_bytes": ("it keeps more resident", "its twin keeps more resident"),
    "memory_file_bytes": ("it reads or writes more files", "its twin reads or writes files: page cache"),
    "memory_growth_bytes": ("it grows and gives nothing back", "its twin grows faster while it warms up"),
    "memory_limit_hits": ("it runs into its limit", "its twin's page cache runs into its limit"),
    "page_faults": ("it touches new memory all the time", "its twin allocates, maps files or forks"),
    "child_minor_faults": ("its children come and go", "its twin's children come and go"),
    "child_cpu_us": ("its children work", "its twin's children work"),
    "pids_current": ("it has more processes or threads", "its twin has more processes or threads"),
    "pids_limit_hits": ("the limit refuses its forks", "the limit refuses its twin's forks"),
    "io_write_bytes": ("it writes without end", "its twin writes to disk"),
    "io_writes": ("it writes without end", "its twin writes to disk"),
    "io_read_bytes": ("it reads from disk", "its twin reads from disk"),
    "io_reads": ("it reads from disk", "its twin reads from disk"),
    "net_tx_bytes": ("it sends more", "its twin sends more"),
    "net_tx_packets": ("it sends more packets", "its twin sends more packets"),
    "net_rx_bytes": ("more reaches it", "its twin is answered: it receives more"),
    "net_rx_packets": ("more reaches it", "its twin is answered: it receives more"),
    "net_tx_less_rx_bytes": ("it sends and hardly receives", "its twin sends even more than it receives"),
    "tcp_active_opens": ("a connection for each target or request", "its twin opens more connections"),
    "tcp_passive_opens": ("more connections reach it", "its twin's clients open more connections"),
    "tcp_attempt_fails": ("its targets refuse", "its twin's attempts fail"),
    "tcp_estab_resets": ("it tears connections down", "its twin tears connections down"),
    "tcp_established": ("it holds more connections open", "its twin keeps connections open"),
    "tcp_in_segments": ("more segments reach it", "its twin is answered: more segments come back"),
    "tcp_out_segments": ("it sends more segments", "its twin sends more segments"),
    "tcp_retransmits": ("targets or peers do not answer", "its twin fills its path"),
    "tcp_syn_retransmits": ("its targets do not answer", "its twin's targets do not answer"),
    "tcp_timeouts": ("its targets do not answer", "its twin's peers do not answer"),
    "tcp_out_resets": ("it answers what nobody asked for with resets", "its twin sends resets"),
    "tcp_sockets": ("it holds more sockets", "its twin holds more sockets"),
    "tcp_time_wait": ("its connections are short and closed from its side", "its twin closes its short connections itself"),
    "udp_out_datagrams": ("it sends datagrams", "its twin sends datagrams: names are looked up"),
    "udp_in_datagrams": ("datagrams reach it", "its twin is answered: datagrams come back"),
    "udp_no_ports": ("datagrams reach ports without a listener", "datagrams reach its twin's closed ports"),
    "udp_sockets": ("it holds datagram sockets", "its twin holds datagram sockets"),
    "icmp_in_messages": ("routers and hosts tell it that nobody is there", "its twin is told that nobody is there"),
    "icmp_out_messages": ("it tells others that nobody is there", "its twin tells others that nobody is there"),
    "raw_sockets": ("raw packets take a raw socket", "its twin has a raw socket"),
    "packet_sockets": ("raw packets take a packet socket", "its twin has a packet socket"),
    "arp_incomplete": ("it asks for neighbours that do not exist", "its twin asks for neighbours that do not exist"),
    "listen_drops": ("its listener is full", "its twin's listener is full"),
    "syn_cookies_sent": ("SYNs without handshakes fill its queue", "its twin's queue is full"),
    "ip6_out_packets": ("it sends over IPv6", "its twin sends over IPv6"),
    "udp6_out_datagrams": ("it sends datagrams over IPv6", "its twin sends datagrams over IPv6"),
    "restarts": ("its container ends again and again", "its twin's container is replaced"),
    "oom_kills": ("the kernel kills it at its limit", "the kernel kills its twin"),
}


def pairs(root):
    """Attacks of each look-alike, by its act, as the plans have them."""
    found = {}
    for path in [root / "plans" / "catalogue.yaml", *sorted((root / "plans" / "sessions").glob("*.yaml"))]:
        for name, act in (yaml.safe_load(path.read_text(encoding="utf-8")).get("acts") or {}).items():
            twins = act.get("twin_of") or []
            if act["role"] == "look-alike" and twins:
                found.setdefault(name, (act["kind"], [twins] if isinstance(twins, str) else twins))
    return found


def table(recordings, root):
    """Markdown: for every pair the features that separate it best."""
    lines = [
        "| kind | attack | ordinary twin | episodes | features by AUC | why |",
        "|---|---|---|---|---|---|",
    ]
    for twin, (kind, attacks) in sorted(pairs(root).items(), key=lambda item: (item[1][0], item[0])):
        for attack in attacks:
            lines.append(_line(kind, attack, twin, _compared(recordings, attack, twin)))
    return "\n".join(lines)


def _line(kind, attack, twin, compared):
    bad, good, ranked = compared
    counts = f"{bad} / {good}"
    if not ranked:
        return f"| {kind} | {attack} | {twin} | {counts} | too few episodes | |"
    shown = ", ".join(f"`{name}` {auc:.2f}" for name, auc in ranked)
    reasons = []
    for name, auc in ranked:
        higher, lower = WHY.get(name, ("it is higher", "it is lower"))
        reason = higher if auc >= 0.5 else lower
        if reason not in reasons:
            reasons.append(reason)
    return f"| {kind} | {attack} | {twin} | {counts} | {shown} | {'; '.join(reasons)} |"


def _compared(recordings, attack, twin):
    """Episodes on either side, and the features that tell them apart best; above 0.5 is higher in the attack."""
    names = sorted(set().union(*(recording.features for recording in recordings)) - LEFT_OUT)
    bad, good, values, truth, weights = 0, 0, {name: [] for name in names}, [], []
    for recording in recordings:
        of_attack = (recording.act == attack) & (recording.role == "attack")
        of_twin = (recording.act == twin) & (recording.role == "look-alike")
        chosen = of_attack | of_twin
        if not chosen.any():
            continue
        _, place, count = numpy.unique(recording.episode[chosen].astype(str), return_inverse=True, return_counts=True)
        bad += len(set(recording.episode[of_attack]))
        good += len(set(recording.episode[of_twin]))
        truth.append(of_attack[chosen].astype(int))
        weights.append(1.0 / count[place])
        nothing = numpy.full(len(recording.ids), numpy.nan)
        for name in names:
            values[name].append(recording.features.get(name, nothing)[chosen])
    if min(bad, good) < FEW:
        return bad, good, []
    truth, weights = numpy.concatenate(truth), numpy.concatenate(weights)
    ranked = []
    for name in names:
        value = numpy.concatenate(values[name])
        there = ~numpy.isnan(value)
        # One that half of the rows lack says more about who has it than about what they do.
        if there.mean() < 0.5 or len(set(truth[there])) < 2 or numpy.ptp(value[there]) == 0:
            continue
        ranked.append((name, roc_auc_score(truth[there], value[there], sample_weight=weights[there])))
    ranked.sort(key=lambda one: -abs(one[1] - 0.5))
    return bad, good, ranked[:SHOWN]
