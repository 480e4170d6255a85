// What is wrong now, and what can be seen at all.
import { useState } from "preact/hooks";
import { consoleApi, queryApi } from "../api";
import { bytes, maybe, ms, number, quantity, short, vis } from "../format";
import type { WorkloadSummary } from "../gen/vedette/v1/console_pb";
import { type Node, NodeState } from "../gen/vedette/v1/query_pb";
import { CrossCheckOutcome, Severity } from "../gen/vedette/v1/types_pb";
import { ranked, useLive } from "../live";
import { Ago, Badge, Fact, Facts, IncidentRow, Place, Score, Section, Trouble } from "../parts";
import { usePoll } from "../poll";
import { toNode, toWorkload } from "../route";
import { type Column, Table } from "../table";
import { causeWord, metricWord, nodeWord, outcomeWord } from "../words";

/** Open incidents shown at once; the rest is on the page of incidents. */
const SHOWN = 12;

export function Overview() {
  const { incidents } = useLive();
  const [text, setText] = useState("");
  const open = ranked([...incidents.values()].filter((one) => one.resolvedUnixMs === 0n));
  const recent = ranked([...incidents.values()].filter((one) => one.resolvedUnixMs > 0n)).slice(0, open.length ? 3 : 6);
  const status = usePoll("status", 5_000, (signal) => queryApi.getStatus({}, { signal }));
  const nodes = usePoll("nodes", 5_000, (signal) => queryApi.listNodes({}, { signal }));
  const workloads = usePoll(`workloads ${text}`, 5_000, (signal) => consoleApi.listWorkloads({ contains: text, limit: 200 }, { signal }));
  const count = (severity: Severity) => open.filter((one) => one.severity === severity).length;
  const sums = workloads.value;
  const states = (state: NodeState) => nodes.value?.nodes.filter((node) => node.state === state).length ?? 0;
  return (
    <>
      <h1 class="hidden">Overview</h1>
      <Trouble text={status.error || nodes.error || workloads.error} />
      {status.value?.problems.map((line) => (
        <p class="error" key={line}>
          the aggregator itself: {vis(line)}
        </p>
      ))}
      <Facts>
        <Fact name="open now">
          <b class={count(Severity.PAGE) ? "loud" : ""}>{count(Severity.PAGE)}</b> pages, <b>{count(Severity.TICKET)}</b> tickets, <b>{count(Severity.NOTE)}</b> notes
        </Fact>
        <Fact name="nodes">
          <b>{states(NodeState.LIVE)}</b> live
          {states(NodeState.BLIND) > 0 && <span class="state blind"> {states(NodeState.BLIND)} blind</span>}
          {states(NodeState.SILENT) > 0 && <span class="state silent"> {states(NodeState.SILENT)} silent</span>}
          {states(NodeState.LEFT) > 0 && <span class="dim"> {states(NodeState.LEFT)} left</span>}
        </Fact>
        <Fact name="containers">
          <b>{sums ? number(ms(sums.containers)) : "…"}</b> in {sums ? number(ms(sums.matching)) : "…"} workloads
        </Fact>
        <Fact name="of their normal">
          {sums ? (
            <>
              <b>{number(ms(sums.ready))}</b> ready, {number(ms(sums.learning))} learning, {number(ms(sums.frozen))} frozen
              {sums.blind > 0n && <span class="state blind"> {number(ms(sums.blind))} blind</span>}
            </>
          ) : (
            "…"
          )}
        </Fact>
        <Fact name="history">
          {status.value ? `${number(ms(status.value.historyObservations))} observations, ${bytes(ms(status.value.historyBytes))} sealed` : "…"}
        </Fact>
      </Facts>
      <Section title="Open incidents" aside={<a href="#/incidents">all incidents</a>}>
        {open.length === 0 ? (
          <p class="calm">Nothing is open.</p>
        ) : (
          <ul class="incidents">
            {open.slice(0, SHOWN).map((incident) => (
              <IncidentRow key={String(incident.id)} incident={incident} />
            ))}
          </ul>
        )}
        {open.length > SHOWN && <p class="dim">and {open.length - SHOWN} more</p>}
      </Section>
      {recent.length > 0 && (
        <Section title="Resolved lately">
          <ul class="incidents">
            {recent.map((incident) => (
              <IncidentRow key={String(incident.id)} incident={incident} />
            ))}
          </ul>
        </Section>
      )}
      <Section
        title="Workloads"
        aside={
          <input
            type="search"
            data-search
            placeholder="namespace, owner, container, node"
            aria-label="find workloads"
            value={text}
            maxLength={200}
            onInput={(event) => setText(event.currentTarget.value)}
          />
        }
      >
        {sums && (
          <>
            <Table caption="workloads" rows={sums.workloads} columns={WORKLOADS} id={(row) => toWorkload(row.workload as never)} href={(row) => toWorkload(row.workload as never)} size={25} empty="no workload has this in its name" />
            {sums.matching > sums.workloads.length && <p class="dim">the first {sums.workloads.length} of {number(ms(sums.matching))}; name some to find others</p>}
          </>
        )}
      </Section>
      <Section title="Nodes">
        {nodes.value && <Table caption="nodes" rows={nodes.value.nodes} columns={NODES} id={(row) => `${row.cluster} ${row.name}`} href={(row) => toNode(row.name)} size={25} empty="no agent has been heard yet" />}
      </Section>
      <CrossChecks />
    </>
  );
}

export const optional = (value: bigint | undefined, unit: string) => quantity(maybe(value), unit);

const WORKLOADS: Column<WorkloadSummary>[] = [
  { head: "workload", cell: (row) => <Place workload={row.workload} />, by: (row) => `${row.workload?.namespace} ${row.workload?.ownerName}` },
  { head: "score", cell: (row) => <Score value={row.score} />, by: (row) => row.score, right: true },
  { head: "incidents", cell: (row) => (row.incidentsOpen ? <><Badge severity={row.severity} /> {row.incidentsOpen > 1 ? row.incidentsOpen : ""}</> : ""), by: (row) => row.severity },
  { head: "containers", cell: (row) => row.containers, by: (row) => row.containers, right: true },
  {
    head: "normal",
    cell: (row) => (
      <>
        {row.blind > 0 && <span class="state blind">{row.blind} blind </span>}
        {row.frozen > 0 && <span class="state frozen">{row.frozen} frozen </span>}
        {row.learning > 0 && <span class="state learning">{row.learning} learning </span>}
        {row.ready > 0 && <span class="state ready">{row.ready} ready</span>}
      </>
    ),
    by: (row) => row.ready - row.learning,
  },
  { head: "CPU", cell: (row) => (row.cpuMillicores === undefined ? "–" : `${number(Number(row.cpuMillicores) / 1000)} cores`), by: (row) => Number(row.cpuMillicores ?? -1n), right: true },
  { head: "memory", cell: (row) => optional(row.memoryBytes, "B"), by: (row) => Number(row.memoryBytes ?? -1n), right: true },
  { head: "in", cell: (row) => optional(row.rxBytesPerSecond, "B/s"), by: (row) => Number(row.rxBytesPerSecond ?? -1n), right: true },
  { head: "out", cell: (row) => optional(row.txBytesPerSecond, "B/s"), by: (row) => Number(row.txBytesPerSecond ?? -1n), right: true },
  { head: "restarts", cell: (row) => String(row.restarts), by: (row) => Number(row.restarts), right: true },
  { head: "nodes", cell: (row) => short(row.nodes.join(", "), 28), by: (row) => row.nodes.join() },
];

const NODES: Column<Node>[] = [
  { head: "node", cell: (row) => <a href={toNode(row.name)}><b>{short(row.name, 40)}</b></a>, by: (row) => row.name },
  { head: "state", cell: (row) => <span class={`state ${nodeWord(row.state)}`}>{nodeWord(row.state)}</span>, by: (row) => row.state },
  { head: "heard", cell: (row) => <Ago ms={ms(row.lastHeardUnixMs)} />, by: (row) => Number(row.lastHeardUnixMs) },
  { head: "containers", cell: (row) => row.containers, by: (row) => row.containers, right: true },
  { head: "observations", cell: (row) => number(ms(row.observations)), by: (row) => Number(row.observations), right: true },
  { head: "dropped", cell: (row) => number(ms(row.dropped)), by: (row) => Number(row.dropped), right: true },
  { head: "waiting", cell: (row) => number(ms(row.outboxBatches)), by: (row) => Number(row.outboxBatches), right: true },
  { head: "agent", cell: (row) => short(row.agentVersion, 16), by: (row) => row.agentVersion },
  { head: "sensor", cell: (row) => (row.sensorError ? <span class="state blind">{short(row.sensorError, 60)}</span> : "ok"), by: (row) => row.sensorError },
];

/** Whether Prometheus counts what the agents count. */
function CrossChecks() {
  const { value } = usePoll("crosscheck", 15_000, (signal) => queryApi.listCrossChecks({ limit: 5_000 }, { signal }));
  if (!value || value.nodes.length === 0) return null;
  const of = (outcome: CrossCheckOutcome) => value.compared.filter((one) => one.check?.outcome === outcome).length;
  const wrong = value.compared.filter((one) => one.check && [CrossCheckOutcome.DISAGREE, CrossCheckOutcome.SOURCE_BROKEN].includes(one.check.outcome));
  return (
    <Section title="Cross-check with Prometheus" aside={`${value.nodes.length} nodes compare`}>
      <p>
        <b>{of(CrossCheckOutcome.AGREE)}</b> agree, <b class={of(CrossCheckOutcome.DISAGREE) ? "loud" : ""}>{of(CrossCheckOutcome.DISAGREE)}</b> disagree,{" "}
        <b>{of(CrossCheckOutcome.SOURCE_BROKEN)}</b> have a broken source, {of(CrossCheckOutcome.UNKNOWN)} cannot be told
      </p>
      {value.nodes.filter((node) => node.error).map((node) => (
        <p class="error" key={node.name}>
          {vis(node.name)}: {vis(node.error)}
        </p>
      ))}
      <Table
        caption="what differs"
        rows={wrong}
        id={(row) => `${row.containerId} ${row.node} ${row.check?.metric}`}
        size={10}
        empty="nothing differs"
        columns={[
          { head: "workload", cell: (row) => <Place workload={row.workload} /> },
          { head: "node", cell: (row) => short(row.node) },
          { head: "metric", cell: (row) => metricWord(row.check?.metric ?? 0) },
          { head: "outcome", cell: (row) => outcomeWord(row.check?.outcome ?? 0) },
          { head: "cause", cell: (row) => causeWord(row.check?.cause ?? 0) },
          { head: "since", cell: (row) => <Ago ms={ms(row.sinceUnixMs)} /> },
        ]}
      />
    </Section>
  );
}
