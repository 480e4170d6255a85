// What people and simulations said; nothing is changed, only taken back.
import { useState } from "preact/hooks";
import { labelApi, said } from "../api";
import { ms, short, span, vis } from "../format";
import { type Label, LabelSource } from "../gen/vedette/v1/label_pb";
import { At, Trouble } from "../parts";
import { usePoll } from "../poll";
import { Table } from "../table";
import { useViewer } from "../viewer";
import { kindWord, sourceWord } from "../words";

/** What a selector is about, as the command line says it. */
export function about(label: Label): string {
  const s = label.selector;
  if (!s) return "";
  const owner = s.ownerKind || s.ownerName ? `${s.ownerKind}/${s.ownerName}` : "";
  const parts = [
    ["node", s.node],
    ["namespace", s.namespace],
    ["owner", owner],
    ["container", s.containerName],
    ["pod", s.podUid],
    ["container-id", s.containerId.slice(0, 12)],
  ];
  return parts.filter(([, value]) => value).map(([name, value]) => `${name}=${value}`).join(" ");
}

export function Labels() {
  const viewer = useViewer();
  const [source, setSource] = useState<LabelSource>(LabelSource.UNSPECIFIED);
  const [retracted, setRetracted] = useState(false);
  const [error, setError] = useState("");
  const list = usePoll(`labels ${source} ${retracted}`, 10_000, (signal) => labelApi.listLabels({ source, includeRetracted: retracted, limit: 5_000 }, { signal }));
  const retract = async (id: bigint) => {
    try {
      await labelApi.retractLabel({ id, author: viewer.author, note: "taken back in the console" });
      setError("");
      list.again();
    } catch (problem) {
      setError(said(problem));
    }
  };
  return (
    <>
      <h1>Labels</h1>
      <p class="filters">
        <label>
          said by{" "}
          <select value={source} onChange={(event) => setSource(Number(event.currentTarget.value))}>
            <option value={0}>anybody</option>
            {[LabelSource.OPERATOR, LabelSource.SIMULATION, LabelSource.IMPORT, LabelSource.ALERTMANAGER].map((one) => (
              <option key={one} value={one}>
                {sourceWord(one)}
              </option>
            ))}
          </select>
        </label>
        <label class="choice">
          <input type="checkbox" checked={retracted} onChange={(event) => setRetracted(event.currentTarget.checked)} /> <span>also those taken back</span>
        </label>
      </p>
      <Trouble text={error || list.error} />
      {list.value && (
        <Table
          caption="labels"
          rows={list.value.labels}
          id={(row) => String(row.id)}
          empty="Nothing was said yet: drag over any chart to say what a stretch was."
          columns={[
            { head: "no.", cell: (row) => String(row.id), by: (row) => Number(row.id), right: true },
            { head: "kind", cell: (row) => <b>{row.affected ? `affected by ${kindWord(row.kind)}` : kindWord(row.kind)}</b>, by: (row) => row.kind },
            { head: "of", cell: (row) => <span title={vis(about(row))}>{short(about(row), 64)}</span>, by: about },
            { head: "from", cell: (row) => <At ms={ms(row.range?.startUnixMs ?? 0n)} />, by: (row) => Number(row.range?.startUnixMs ?? 0n) },
            { head: "for", cell: (row) => span(ms((row.range?.endUnixMs ?? 0n) - (row.range?.startUnixMs ?? 0n))), right: true },
            { head: "by", cell: (row) => `${short(row.author, 24)} (${sourceWord(row.source)})`, by: (row) => row.author },
            { head: "note", cell: (row) => <span title={vis(row.note)}>{short(row.note, 40)}</span> },
            {
              head: "state",
              cell: (row) =>
                row.retractedBy ? (
                  <span class="dim">taken back</span>
                ) : (
                  <button type="button" disabled={!viewer.mayAnswer} onClick={() => retract(row.id)} aria-label={`take back label ${row.id}`}>
                    take back
                  </button>
                ),
            },
          ]}
        />
      )}
      {list.value?.truncated && <p class="dim">the newest 5,000</p>}
    </>
  );
}
