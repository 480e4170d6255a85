// One container: who it is, every feature and every column.
import { useState } from "preact/hooks";
import { consoleApi, queryApi } from "../api";
import { maybe, ms, quantity, short, vis } from "../format";
import type { Container } from "../gen/vedette/v1/query_pb";
import type { Target } from "../label";
import { At, Baseline, Fact, Facts, Place, Score, Section, Trouble } from "../parts";
import { usePoll } from "../poll";
import { toNode } from "../route";
import { LiveCharts, Spans } from "../series";
import { Table } from "../table";

export function ContainerPage({ id }: { id: string }) {
  const [spanMs, setSpan] = useState(5 * 60_000);
  const { value, error } = usePoll(`container ${id}`, 5_000, (signal) => queryApi.listContainers({ selector: { containerId: id }, includeGone: true, limit: 1, includeTold: true }, { signal }));
  const one = value?.containers[0];
  if (!one) return error ? <Trouble text={error} /> : <p class="dim">{value ? "No container with this id is remembered." : "reading…"}</p>;
  const w = one.workload;
  const cluster = w?.cluster;
  const selector = { cluster, containerId: one.containerId };
  const targets: Target[] = [
    { words: `this container, ${short(one.containerId, 12)}`, selector },
    ...(one.podUid ? [{ words: `its pod, ${short(one.podName || one.podUid, 40)}`, selector: { cluster, podUid: one.podUid } }] : []),
    { words: `all of ${w?.ownerKind} ${short(w?.ownerName ?? "", 40)}`, selector: { cluster, namespace: w?.namespace, ownerKind: w?.ownerKind, ownerName: w?.ownerName, containerName: w?.containerName } },
    { words: `everything on node ${short(one.node, 40)}`, selector: { cluster, node: one.node } },
  ];
  return (
    <>
      <p class="crumb">
        <Place workload={w} />
      </p>
      <h1>{vis(one.podName || one.podUid || one.containerId)}</h1>
      <Trouble text={error} />
      <About one={one} />
      <Section title="Features" aside={<Spans value={spanMs} choose={setSpan} />}>
        <LiveCharts selector={selector} targets={targets} names={[]} spanMs={spanMs} small line={() => "this"} />
      </Section>
      <Columns selector={selector} />
      {one.processes.length > 0 && (
        <Section title="Processes seen" aside="names are whatever a process calls itself">
          <ul class="lines">
            {one.processes.map((seen) => (
              <li key={`${seen.comm} ${seen.uid} ${seen.unixMs}`}>
                <At ms={ms(seen.unixMs)} /> <b>{vis(seen.comm)}</b> <span class="dim">uid {seen.uid}</span>
              </li>
            ))}
          </ul>
        </Section>
      )}
    </>
  );
}

function About({ one }: { one: Container }) {
  const cores = (value: bigint | undefined) => (value === undefined ? "none" : `${Number(value) / 1000} cores`);
  return (
    <Facts>
      <Fact name="score">
        <Score value={one.score} />
      </Fact>
      <Fact name="normal">
        <Baseline state={one.baseline} />
      </Fact>
      <Fact name="node">
        <a href={toNode(one.node)}>{short(one.node, 40)}</a>
      </Fact>
      <Fact name="state">{one.goneUnixMs > 0n ? <>gone <At ms={ms(one.goneUnixMs)} /></> : "alive"}</Fact>
      <Fact name="first seen">
        <At ms={ms(one.firstSeenUnixMs)} />
      </Fact>
      <Fact name="restarts">
        {one.restarts}
        {one.restartsDiffer && <span class="state blind"> the API server counts {one.apiRestarts ?? "–"}</span>}
      </Fact>
      {one.lastExitReason && (
        <Fact name="last end">
          {vis(one.lastExitReason)} {one.lastExitCode !== undefined && `(${one.lastExitCode})`}
        </Fact>
      )}
      {one.image && <Fact name="image">{short(one.image, 60)}</Fact>}
      {(one.cpuLimitMillicores !== undefined || one.memoryLimitBytes !== undefined) && (
        <Fact name="limits">
          {cores(one.cpuLimitMillicores)}, {quantity(maybe(one.memoryLimitBytes), "B")}
        </Fact>
      )}
      {one.qos && <Fact name="quality of service">{vis(one.qos)}</Fact>}
      <Fact name="container id">
        <code title={vis(one.containerId)}>{short(one.containerId, 16)}</code>
      </Fact>
      <Fact name="cgroup">
        <code title={vis(one.cgroup)}>{short(one.cgroup, 48)}</code>
      </Fact>
    </Facts>
  );
}

/** The raw columns of the last ten minutes, as history has them. */
function Columns({ selector }: { selector: Target["selector"] }) {
  const { value, error } = usePoll(`columns ${JSON.stringify(selector)}`, 15_000, (signal) => {
    const now = Date.now();
    const range = { startUnixMs: BigInt(now - 600_000), endUnixMs: BigInt(now + 1_000) };
    return consoleApi.getSeries({ selector, range, points: 60, everyColumn: true }, { signal });
  });
  return (
    <Section title="Every column" aside="the last ten minutes; what grows is per second">
      <Trouble text={error} />
      {value && (
        <Table
          caption="columns"
          rows={value.series}
          id={(row) => row.feature}
          size={200}
          empty="no observation in the last ten minutes"
          columns={[
            { head: "column", cell: (row) => <code>{row.feature}</code>, by: (row) => row.feature },
            { head: "last", cell: (row) => quantity(row.values.at(-1), row.unit), by: (row) => row.values.at(-1) ?? 0, right: true },
            { head: "lowest", cell: (row) => quantity(Math.min(...row.values), row.unit), right: true },
            { head: "highest", cell: (row) => quantity(Math.max(...row.values), row.unit), right: true },
            { head: "course", cell: (row) => <Spark values={row.values} /> },
          ]}
        />
      )}
    </Section>
  );
}

function Spark({ values }: { values: number[] }) {
  const most = Math.max(...values) || 1;
  const points = values.map((value, place) => `${(place / Math.max(1, values.length - 1)) * 100},${18 - (value / most) * 16}`).join(" ");
  return (
    <svg class="spark" viewBox="0 0 100 20" preserveAspectRatio="none" aria-hidden="true">
      <polyline points={points} />
    </svg>
  );
}
