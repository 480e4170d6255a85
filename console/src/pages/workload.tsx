// One workload: what its containers do, what is known of them, what happened.
import { useState } from "preact/hooks";
import { queryApi } from "../api";
import { ms, number, short, vis } from "../format";
import type { Container } from "../gen/vedette/v1/query_pb";
import type { Target } from "../label";
import { At, Baseline, IncidentRow, Score, Section, Trouble } from "../parts";
import { usePoll } from "../poll";
import { toContainer, toNode } from "../route";
import { LiveCharts, MAIN, Spans } from "../series";
import { type Column, Table } from "../table";
import { optional } from "./overview";

export function WorkloadPage({ query }: { query: URLSearchParams }) {
  const said = (name: string) => query.get(name) ?? "";
  const selector = { cluster: said("cluster"), namespace: said("namespace"), ownerKind: said("kind"), ownerName: said("owner"), containerName: said("container") };
  const [spanMs, setSpan] = useState(5 * 60_000);
  const key = JSON.stringify(selector);
  const { value, error } = usePoll(`containers ${key}`, 5_000, (signal) => queryApi.listContainers({ selector, includeGone: true, limit: 10_000 }, { signal }));
  const incidents = usePoll(`incidents ${key}`, 10_000, (signal) => queryApi.listIncidents({ selector, limit: 20 }, { signal }));
  const pods = new Map(value?.containers.map((one) => [one.containerId, one.podName]) ?? []);
  const targets: Target[] = [{ words: `all of ${selector.ownerKind} ${short(selector.ownerName, 40)}, container ${short(selector.containerName, 40) || "any"}`, selector }];
  const isNode = selector.ownerKind === "Node";
  return (
    <>
      <p class="crumb">
        {vis(selector.namespace) || "no namespace"} / {vis(selector.ownerKind)}
      </p>
      <h1>
        {vis(selector.ownerName)} <span class="dim">{vis(selector.containerName)}</span>
      </h1>
      {isNode && (
        <p>
          <a href={toNode(selector.ownerName)}>the node&apos;s page</a>
        </p>
      )}
      <Trouble text={error || incidents.error} />
      <Section title="Over time" aside={<Spans value={spanMs} choose={setSpan} />}>
        <LiveCharts selector={isNode ? { cluster: selector.cluster, node: selector.ownerName } : selector} targets={targets} names={isNode ? [] : MAIN} spanMs={spanMs} small={isNode} line={(id) => pods.get(id) || id.slice(0, 12)} />
      </Section>
      <Section title="Containers">
        {value && <Table caption="containers" rows={value.containers} columns={CONTAINERS} id={(row) => row.containerId + row.cgroup} href={(row) => toContainer(row.containerId)} size={25} empty="none is known" />}
      </Section>
      <Section title="Incidents">
        {incidents.value?.incidents.length === 0 && <p class="dim">none</p>}
        <ul class="incidents">
          {incidents.value?.incidents.map((one) => (
            <IncidentRow key={String(one.id)} incident={one} />
          ))}
        </ul>
      </Section>
    </>
  );
}

export const CONTAINERS: Column<Container>[] = [
  { head: "container", cell: (row) => <a href={toContainer(row.containerId)}>{short(row.podName || row.podUid || row.containerId, 48)}</a>, by: (row) => row.podName || row.containerId },
  { head: "score", cell: (row) => <Score value={row.score} />, by: (row) => row.score, right: true },
  { head: "normal", cell: (row) => <Baseline state={row.baseline} />, by: (row) => row.baseline },
  { head: "CPU", cell: (row) => (row.cpuMillicores === undefined ? "–" : `${number(Number(row.cpuMillicores) / 1000)} cores`), by: (row) => Number(row.cpuMillicores ?? -1n), right: true },
  { head: "memory", cell: (row) => optional(row.memoryBytes, "B"), by: (row) => Number(row.memoryBytes ?? -1n), right: true },
  { head: "in", cell: (row) => optional(row.rxBytesPerSecond, "B/s"), by: (row) => Number(row.rxBytesPerSecond ?? -1n), right: true },
  { head: "out", cell: (row) => optional(row.txBytesPerSecond, "B/s"), by: (row) => Number(row.txBytesPerSecond ?? -1n), right: true },
  { head: "restarts", cell: (row) => row.restarts, by: (row) => row.restarts, right: true },
  { head: "node", cell: (row) => <a href={toNode(row.node)}>{short(row.node)}</a>, by: (row) => row.node },
  { head: "state", cell: (row) => (row.goneUnixMs > 0n ? <span class="dim">gone <At ms={ms(row.goneUnixMs)} /></span> : "alive"), by: (row) => Number(row.goneUnixMs) },
];
