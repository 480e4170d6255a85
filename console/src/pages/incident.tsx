// One incident: what, where, since when, why we think so, and what to press.
import { useState } from "preact/hooks";
import { queryApi } from "../api";
import { Answers } from "../answers";
import { Chart, type Range } from "../chart";
import { ms, number, quantity, short, span, vis } from "../format";
import type { Container, Evidence, ExplainIncidentResponse, Incident } from "../gen/vedette/v1/query_pb";
import { Handle, Handled } from "../handling";
import { LabelDialog, type Target } from "../label";
import { useLive } from "../live";
import { At, Badge, Baseline, Fact, Facts, IncidentRow, Place, Score, Section, Trouble } from "../parts";
import { useNow, usePoll } from "../poll";
import { toContainer, toNode } from "../route";
import { grouped, stretch, titled } from "../series";
import { Table } from "../table";
import { Severity, Withheld } from "../gen/vedette/v1/types_pb";
import { familyWord, kindWord, originWord, severityWord, withheldWord } from "../words";
import { optional } from "./overview";

export function IncidentPage({ id }: { id: string }) {
  const number = /^\d{1,18}$/.test(id) ? BigInt(id) : 0n;
  const known = useLive().incidents.get(number);
  // Asked again whenever the watch says that it changed; its picture grows meanwhile.
  const version = known ? `${known.updatedUnixMs} ${known.resolvedUnixMs} ${known.answer} ${known.severity} ${known.acknowledgedUnixMs} ${known.snoozedUntilUnixMs}` : "";
  const open = known?.resolvedUnixMs === 0n;
  const explained = usePoll(`incident ${id}`, open ? 5_000 : 0, (signal) => queryApi.explainIncident({ incidentId: number }, { signal }));
  const [seen, see] = useState(version);
  if (seen !== version) {
    see(version);
    explained.again();
  }
  const incident = explained.value?.incident ?? known;
  if (!incident) return explained.error ? <Trouble text={explained.error} /> : <p class="dim">reading…</p>;
  return (
    <article>
      <Head incident={incident} done={explained.again} />
      <Trouble text={explained.error} />
      <div class="columns">
        <div>
          <Section title="What moved">
            <ul class="evidence">
              {incident.evidence.map((one) => (
                <Moved key={`${one.feature} ${one.sentence}`} evidence={one} />
              ))}
            </ul>
            {explained.value?.reasoning && <p class="dim">Why this kind: {vis(explained.value.reasoning)}</p>}
          </Section>
          {explained.value && <Pictures explained={explained.value} incident={incident} again={explained.again} />}
        </div>
        <aside>
          <Answers incident={incident} answers={explained.value?.answers ?? []} done={explained.again} />
          {explained.value && <Handled handlings={explained.value.handlings} />}
          {explained.value && <Around explained={explained.value} />}
        </aside>
      </div>
      <Siblings incident={incident} />
      {explained.value && explained.value.related.length > 0 && (
        <Section title="Related" aside="within ten minutes, on the same node or in the same namespace">
          <ul class="incidents">
            {explained.value.related.map((one) => (
              <IncidentRow key={String(one.id)} incident={one} />
            ))}
          </ul>
        </Section>
      )}
    </article>
  );
}

function Head({ incident, done }: { incident: Incident; done: () => void }) {
  const now = useNow();
  const resolved = incident.resolvedUnixMs > 0n;
  return (
    <header class={`alarm ${resolved ? "resolved" : severityWord(incident.severity)}`}>
      <h1>
        <Badge severity={incident.severity} resolved={resolved} /> {vis(incident.effect) || "unexplained change"}
      </h1>
      <p class="where">
        <Place workload={incident.workload} />
      </p>
      <Facts>
        <Fact name="since">
          <b>
            <At ms={ms(incident.onsetUnixMs)} />
          </b>{" "}
          <span class="dim">found after {span(ms(incident.openedUnixMs - incident.onsetUnixMs))}</span>
        </Fact>
        <Fact name="state">
          {resolved ? (
            <>
              resolved <At ms={ms(incident.resolvedUnixMs)} /> <span class="dim">after {span(ms(incident.resolvedUnixMs - incident.onsetUnixMs))}</span>
            </>
          ) : (
            <b class={incident.severity === Severity.PAGE ? "loud" : ""}>open for {span(now - ms(incident.onsetUnixMs))}</b>
          )}
        </Fact>
        <Fact name="node">
          {incident.nodes.slice(0, 4).map((name) => (
            <a key={name} href={toNode(name)}>
              {short(name)}{" "}
            </a>
          ))}
          {incident.nodes.length > 4 && <span class="dim">and {incident.nodes.length - 4} more</span>}
        </Fact>
        <Fact name={incident.pods.length === 1 ? "pod" : `${incident.pods.length} pods`}>
          <span title={vis(incident.pods.join("\n"))}>
            {short(incident.pods[0] ?? "–", 40)}
            {incident.pods.length > 1 && <span class="dim"> and {incident.pods.length - 1} more</span>}
          </span>
        </Fact>
        <Fact name="score">
          <Score value={incident.peakScore} />
        </Fact>
        <Fact name="possible kind">
          {kindWord(incident.kind)} {incident.attackTechniques.length > 0 && <span class="dim">ATT&CK {incident.attackTechniques.join(", ")}</span>}
        </Fact>
        {incident.withheld !== Withheld.UNSPECIFIED && (
          <Fact name="withheld">
            a {severityWord(incident.askedSeverity)}, lowered: {withheldWord(incident.withheld)} <span class="dim">{short(incident.withheldBy, 40)}</span>
          </Fact>
        )}
        {originWord(incident.origin) !== "live" && <Fact name="origin">{originWord(incident.origin)}: never pages</Fact>}
      </Facts>
      <Handle incident={incident} done={done} />
    </header>
  );
}

/** By how much, against which baseline. */
function Moved({ evidence }: { evidence: Evidence }) {
  const { observed, expectedHigh, expectedLow, unit, baseline } = evidence;
  const banded = observed !== undefined && expectedHigh !== undefined && expectedLow !== undefined;
  const factor = banded && expectedHigh > 0 && observed > expectedHigh ? observed / expectedHigh : undefined;
  const most = banded ? Math.max(observed, expectedHigh) || 1 : 1;
  return (
    <li>
      <div class="sentence">
        {vis(evidence.sentence)}
        <span class="family">{familyWord(evidence.family)}</span>
      </div>
      {banded && (
        <div class="compare">
          <svg viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">
            <rect class="track" width="100" height="10" />
            {factor && <rect class="reach" x={(expectedHigh / most) * 100} width={((observed - expectedHigh) / most) * 100} height="10" />}
            <rect class="bandfill" x={(expectedLow / most) * 100} width={Math.max(0.8, ((expectedHigh - expectedLow) / most) * 100)} height="10" />
            <rect class="seen" x={Math.min(99, (observed / most) * 100)} width="1" height="10" />
          </svg>
          <b>{factor ? `${number(factor)}×` : quantity(observed, unit)}</b>
          <span class="dim">
            {factor ? "the top of " : "against "}
            {baseline === "own" ? "its own normal" : baseline && baseline !== "none" ? `normal by the ${vis(baseline)}` : "no baseline"}, {quantity(expectedLow, unit)} – {quantity(expectedHigh, unit)}
          </span>
        </div>
      )}
      {!banded && baseline && <div class="dim">{baseline === "none" ? "a fact, without a baseline" : `baseline: ${vis(baseline)}`}</div>}
    </li>
  );
}

/** Series around the onset with the band; any range can be labelled. */
function Pictures({ explained, incident, again }: { explained: ExplainIncidentResponse; incident: Incident; again: () => void }) {
  const [brushed, brush] = useState<Range | null>(null);
  const w = incident.workload;
  const whole = { cluster: w?.cluster, namespace: w?.namespace, ownerKind: w?.ownerKind, ownerName: w?.ownerName, containerName: w?.containerName };
  const targets: Target[] = [
    ...incident.containerIds.slice(0, 8).map((id) => ({ words: `container ${short(id, 12)}`, selector: { cluster: w?.cluster, containerId: id } })),
    ...(w?.ownerKind === "Node" ? [{ words: `node ${w.ownerName}`, selector: { cluster: w.cluster, node: w.ownerName } }] : [{ words: `all of ${w?.ownerKind} ${short(w?.ownerName ?? "", 40)}`, selector: whole }]),
  ];
  const charts = grouped(explained.series, (id) => id.slice(0, 12) || "the node");
  const marks = [
    { atMs: ms(incident.onsetUnixMs), text: "onset" },
    ...(incident.openedUnixMs - incident.onsetUnixMs > 10_000n ? [{ atMs: ms(incident.openedUnixMs), text: "found" }] : []),
    ...(incident.resolvedUnixMs > 0n ? [{ atMs: ms(incident.resolvedUnixMs), text: "resolved" }] : []),
  ];
  if (charts.length === 0) return null;
  return (
    <Section title="Around the onset" aside="drag over a chart to say what a stretch was">
      <div class="charts">
        {charts.map((chart) => {
          const evidence = incident.evidence.find((one) => one.feature === chart.feature && one.expectedHigh !== undefined);
          const band = evidence ? { low: evidence.expectedLow ?? 0, high: evidence.expectedHigh ?? 0 } : undefined;
          return <Chart key={chart.feature} title={titled(chart.feature)} unit={chart.unit} lines={chart.lines} band={band} marks={marks} labels={explained.labels.map(stretch)} onBrush={brush} />;
        })}
      </div>
      {brushed && (
        <LabelDialog
          range={brushed}
          targets={targets}
          done={(added) => {
            brush(null);
            if (added !== null) again();
          }}
        />
      )}
    </Section>
  );
}

/** With whom it was talking, what ran in it, what was said before. */
function Around({ explained }: { explained: ExplainIncidentResponse }) {
  return (
    <>
      <Section title="Talking with">
        {explained.peers.length === 0 && <p class="dim">nobody looked, or it talked with nobody</p>}
        {explained.peers.map((peers) => (
          <div key={`${peers.containerId} ${peers.unixMs}`}>
            <div class="dim">
              {short(peers.containerId, 12)} at <At ms={ms(peers.unixMs)} />
            </div>
            <ul class="lines">
              {peers.lines.slice(0, 12).map((line) => (
                <li key={line}>{vis(line)}</li>
              ))}
              {peers.lines.length > 12 && <li class="dim">and {peers.lines.length - 12} more</li>}
            </ul>
          </div>
        ))}
      </Section>
      {explained.processes.length > 0 && (
        <Section title="Processes seen" aside="names are whatever a process calls itself">
          <ul class="lines">
            {explained.processes.slice(-16).map((line, place) => (
              <li key={place}>{vis(line)}</li>
            ))}
          </ul>
        </Section>
      )}
      {explained.labels.length > 0 && (
        <Section title="Labels">
          <ul class="lines">
            {explained.labels.slice(0, 8).map((label) => (
              <li key={String(label.id)}>
                <b>{kindWord(label.kind)}</b> by {short(label.author)} <At ms={ms(label.range?.startUnixMs ?? 0n)} /> – <At ms={ms(label.range?.endUnixMs ?? 0n)} />
              </li>
            ))}
          </ul>
        </Section>
      )}
    </>
  );
}

/** The other containers of the workload, beside those that it was seen in. */
function Siblings({ incident }: { incident: Incident }) {
  const w = incident.workload;
  const selector = { cluster: w?.cluster, namespace: w?.namespace, ownerKind: w?.ownerKind, ownerName: w?.ownerName, containerName: w?.containerName };
  const { value } = usePoll(`siblings ${JSON.stringify(selector)}`, 10_000, (signal) => queryApi.listContainers({ selector, includeGone: true, limit: 200 }, { signal }));
  if (!value || value.containers.length === 0) return null;
  const involved = (one: Container) => incident.containerIds.includes(one.containerId);
  const rows = [...value.containers].sort((a, b) => Number(involved(b)) - Number(involved(a)) || b.score - a.score);
  return (
    <Section title="Siblings" aside="containers of the same workload">
      <Table
        caption="siblings"
        rows={rows}
        id={(row) => row.containerId + row.cgroup}
        href={(row) => toContainer(row.containerId)}
        size={10}
        columns={[
          { head: "container", cell: (row) => <a href={toContainer(row.containerId)}>{short(row.podName || row.podUid || row.containerId, 44)}</a> },
          { head: "in it", cell: (row) => (involved(row) ? <b class="loud">yes</b> : "no"), by: (row) => Number(involved(row)) },
          { head: "score now", cell: (row) => <Score value={row.score} />, by: (row) => row.score, right: true },
          { head: "normal", cell: (row) => <Baseline state={row.baseline} /> },
          { head: "CPU", cell: (row) => (row.cpuMillicores === undefined ? "–" : `${number(Number(row.cpuMillicores) / 1000)} cores`), right: true },
          { head: "memory", cell: (row) => optional(row.memoryBytes, "B"), right: true },
          { head: "in", cell: (row) => optional(row.rxBytesPerSecond, "B/s"), right: true },
          { head: "out", cell: (row) => optional(row.txBytesPerSecond, "B/s"), right: true },
          { head: "node", cell: (row) => <a href={toNode(row.node)}>{short(row.node)}</a> },
          { head: "state", cell: (row) => (row.goneUnixMs > 0n ? <span class="dim">gone <At ms={ms(row.goneUnixMs)} /></span> : "alive") },
        ]}
      />
    </Section>
  );
}
