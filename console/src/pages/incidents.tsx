// Every incident that history has, newest first.
import { useState } from "preact/hooks";
import { queryApi } from "../api";
import { ms, span, vis } from "../format";
import { Kind, Severity } from "../gen/vedette/v1/types_pb";
import { Standing } from "../handling";
import { useLive } from "../live";
import { At, Badge, Place, Section, Trouble } from "../parts";
import { usePoll } from "../poll";
import { toIncident } from "../route";
import { Table } from "../table";
import { KINDS, answerWord, kindWord, severityWord } from "../words";

export function Incidents() {
  const { incidents: watched } = useLive();
  const [open, setOpen] = useState(false);
  const [kind, setKind] = useState<Kind>(Kind.UNSPECIFIED);
  const [severity, setSeverity] = useState<Severity>(Severity.UNSPECIFIED);
  const newest = [...watched.values()].reduce((latest, one) => (one.updatedUnixMs > latest ? one.updatedUnixMs : latest), 0n);
  const { value, error } = usePoll(`incidents ${open} ${kind} ${severity}`, 15_000, (signal) => queryApi.listIncidents({ openOnly: open, kind, minimumSeverity: severity, limit: 2_000 }, { signal }));
  // The watch knows a change before the list is asked again.
  const rows = (value?.incidents ?? []).map((one) => watched.get(one.id) ?? one);
  const listed = new Set(rows.map((one) => one.id));
  const fresh = [...watched.values()].filter((one) => !listed.has(one.id) && newest > 0n && (!open || one.resolvedUnixMs === 0n) && (!kind || one.kind === kind) && one.severity >= severity);
  return (
    <>
      <h1>Incidents</h1>
      <p class="filters">
        <label class="choice">
          <input type="checkbox" checked={open} onChange={(event) => setOpen(event.currentTarget.checked)} /> <span>open only</span>
        </label>
        <label>
          at least{" "}
          <select value={severity} onChange={(event) => setSeverity(Number(event.currentTarget.value))}>
            <option value={0}>any</option>
            {[Severity.NOTE, Severity.TICKET, Severity.PAGE].map((one) => (
              <option key={one} value={one}>
                {severityWord(one)}
              </option>
            ))}
          </select>
        </label>
        <label>
          kind{" "}
          <select value={kind} onChange={(event) => setKind(Number(event.currentTarget.value))}>
            <option value={0}>any</option>
            {KINDS.map((one) => (
              <option key={one} value={one}>
                {kindWord(one)}
              </option>
            ))}
          </select>
        </label>
      </p>
      <Trouble text={error} />
      <Section title={value?.truncated ? "The newest 2,000" : "All that match"}>
        {value && (
          <Table
            caption="incidents"
            rows={[...fresh.reverse(), ...rows]}
            id={(row) => String(row.id)}
            href={(row) => toIncident(row.id)}
            empty="no incident is like this"
            columns={[
              { head: "severity", cell: (row) => <Badge severity={row.severity} resolved={row.resolvedUnixMs > 0n} />, by: (row) => row.severity, right: true },
              { head: "effect", cell: (row) => <a href={toIncident(row.id)}>{vis(row.effect) || "unexplained change"}</a>, by: (row) => row.effect },
              { head: "workload", cell: (row) => <Place workload={row.workload} />, by: (row) => row.workload?.ownerName ?? "" },
              { head: "onset", cell: (row) => <At ms={ms(row.onsetUnixMs)} />, by: (row) => Number(row.onsetUnixMs), right: true },
              { head: "lasted", cell: (row) => (row.resolvedUnixMs ? span(ms(row.resolvedUnixMs - row.onsetUnixMs)) : <b>open</b>), by: (row) => Number((row.resolvedUnixMs || 9_999_999_999_999n) - row.onsetUnixMs), right: true },
              { head: "answer", cell: (row) => answerWord(row.answer), by: (row) => row.answer },
              { head: "who", cell: (row) => <Standing incident={row} />, by: (row) => row.acknowledgedBy },
              { head: "no.", cell: (row) => String(row.id), by: (row) => Number(row.id), right: true },
            ]}
          />
        )}
      </Section>
    </>
  );
}
