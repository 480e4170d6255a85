// One node: its agent, its own columns, what runs on it.
import { useState } from "preact/hooks";
import { consoleApi, queryApi } from "../api";
import { ms, number, short, vis } from "../format";
import type { Target } from "../label";
import { Ago, Badge, Fact, Facts, IncidentRow, Place, Score, Section, Trouble } from "../parts";
import { usePoll } from "../poll";
import { toWorkload } from "../route";
import { LiveCharts, Spans } from "../series";
import { Table } from "../table";
import { nodeWord } from "../words";

export function NodePage({ name }: { name: string }) {
  const [spanMs, setSpan] = useState(5 * 60_000);
  const nodes = usePoll("nodes", 5_000, (signal) => queryApi.listNodes({}, { signal }));
  const workloads = usePoll(`workloads of ${name}`, 10_000, (signal) => consoleApi.listWorkloads({ selector: { node: name }, limit: 500 }, { signal }));
  const incidents = usePoll(`incidents of ${name}`, 10_000, (signal) => queryApi.listIncidents({ selector: { node: name }, limit: 20 }, { signal }));
  const node = nodes.value?.nodes.find((one) => one.name === name);
  const selector = { node: name };
  const targets: Target[] = [{ words: `everything on node ${short(name, 40)}`, selector }];
  return (
    <>
      <p class="crumb">node</p>
      <h1>{vis(name)}</h1>
      <Trouble text={nodes.error || workloads.error || incidents.error} />
      {node && (
        <Facts>
          <Fact name="state">
            <span class={`state ${nodeWord(node.state)}`}>{nodeWord(node.state)}</span>
          </Fact>
          <Fact name="heard">
            <Ago ms={ms(node.lastHeardUnixMs)} />
          </Fact>
          <Fact name="newest observation">
            <Ago ms={ms(node.lastObservationUnixMs)} />
          </Fact>
          <Fact name="containers">{node.containers}</Fact>
          <Fact name="observations">{number(ms(node.observations))}</Fact>
          <Fact name="dropped">{number(ms(node.dropped))}</Fact>
          <Fact name="batches waiting">{number(ms(node.outboxBatches))}</Fact>
          <Fact name="agent">{short(node.agentVersion)}</Fact>
          {node.sensorError && (
            <Fact name="sensor">
              <span class="state blind">{vis(node.sensorError)}</span>
            </Fact>
          )}
        </Facts>
      )}
      <Section title="The node itself" aside={<Spans value={spanMs} choose={setSpan} />}>
        <LiveCharts selector={selector} targets={targets} names={[]} spanMs={spanMs} small line={() => "node"} />
      </Section>
      <Section title="Workloads on it">
        {workloads.value && (
          <Table
            caption="workloads"
            rows={workloads.value.workloads}
            id={(row) => toWorkload(row.workload as never)}
            href={(row) => toWorkload(row.workload as never)}
            size={25}
            empty="none"
            columns={[
              { head: "workload", cell: (row) => <Place workload={row.workload} />, by: (row) => row.workload?.ownerName ?? "" },
              { head: "score", cell: (row) => <Score value={row.score} />, by: (row) => row.score, right: true },
              { head: "incidents", cell: (row) => (row.incidentsOpen ? <Badge severity={row.severity} /> : "") },
              { head: "containers", cell: (row) => row.containers, by: (row) => row.containers, right: true },
            ]}
          />
        )}
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
