// The kind classifiers: which serves, which only watches, what their cards say, and how that came to be.
import { useState } from "preact/hooks";
import { modelApi, said } from "../api";
import { DRAWN, Pictures } from "../card";
import { bytes, ms, number, short, vis } from "../format";
import { type Model, ModelState } from "../gen/vedette/v1/model_pb";
import { At, Fact, Facts, Section, Trouble } from "../parts";
import { usePoll } from "../poll";
import { Table } from "../table";
import { useViewer } from "../viewer";
import { modelWord } from "../words";

export function Models() {
  const viewer = useViewer();
  const [error, setError] = useState("");
  const [chosen, choose] = useState("");
  const models = usePoll("models", 15_000, (signal) => modelApi.listModels({}, { signal }));
  const changes = usePoll("model changes", 15_000, (signal) => modelApi.listModelChanges({ limit: 200 }, { signal }));
  const act = async (work: () => Promise<unknown>) => {
    try {
      await work();
      setError("");
      models.again();
      changes.again();
    } catch (problem) {
      setError(said(problem));
    }
  };
  const admin = viewer.role === "admin";
  const shown = models.value?.models.find((one) => one.id === chosen) ?? models.value?.models[0];
  return (
    <>
      <h1>Models</h1>
      <Trouble text={models.error || changes.error || error} />
      {models.value && (
        <Section title="What there is" aside="one serves, one may watch beside it">
          <Table
            caption="models"
            rows={models.value.models}
            id={(row) => row.id}
            empty="none: the stated signatures name the kinds"
            columns={[
              { head: "model", cell: (row) => <button type="button" class="plain effect" aria-pressed={shown?.id === row.id} onClick={() => choose(row.id)}><code>{row.id}</code></button>, by: (row) => row.id },
              { head: "state", cell: (row) => <span class={`state ${row.state === ModelState.SERVING ? "ready" : row.state === ModelState.SHADOW ? "frozen" : "left"}`}>{modelWord(row.state)}</span>, by: (row) => row.state },
              { head: "from", cell: (row) => (row.shipped ? "came with the aggregator" : <>{short(row.addedBy, 32)} <At ms={ms(row.addedUnixMs)} /></>) },
              { head: "trees", cell: (row) => row.trees, right: true },
              { head: "asked", cell: (row) => number(ms(row.asked)), right: true },
              { head: "only this", cell: (row) => number(ms(row.onlyThis)), right: true },
              { head: "only the serving one", cell: (row) => number(ms(row.onlyServing)), right: true },
              { head: "note", cell: (row) => <span title={vis(row.note)}>{short(row.note, 40)}</span> },
            ]}
          />
        </Section>
      )}
      {shown && <Card key={shown.id} model={shown} admin={admin} operator={viewer.mayAnswer} act={act} />}
      {changes.value && (
        <Section title="What was done">
          <Table
            caption="changes"
            rows={changes.value.changes}
            id={(row) => `${row.unixMs} ${row.what} ${row.model}`}
            size={20}
            empty="nothing yet"
            columns={[
              { head: "when", cell: (row) => <At ms={ms(row.unixMs)} />, by: (row) => Number(row.unixMs) },
              { head: "what", cell: (row) => <b>{vis(row.what)}{row.forced ? ", forced" : ""}</b> },
              { head: "model", cell: (row) => <code>{vis(row.model)}</code> },
              { head: "before", cell: (row) => <code>{vis(row.before)}</code> },
              { head: "who", cell: (row) => short(row.who, 40) },
              { head: "why", cell: (row) => <span title={vis(row.reason)}>{short(row.reason, 48)}</span> },
              { head: "comparison", cell: (row) => (row.comparison ? <span title={vis(row.comparison.conditions.join("\n"))}>{row.comparison.passed ? "passed" : "did not pass"}, {row.comparison.sessions} sessions</span> : "") },
            ]}
          />
        </Section>
      )}
    </>
  );
}

interface CardProps {
  model: Model;
  admin: boolean;
  operator: boolean;
  act: (work: () => Promise<unknown>) => void;
}

/** A model's card, and what may be done with it. */
function Card({ model, admin, operator, act }: CardProps) {
  const [reason, setReason] = useState("");
  const card = Object.entries(model.card).filter(([name]) => !DRAWN.includes(name)).sort(([a], [b]) => (a < b ? -1 : 1));
  const [id, serves] = [model.id, model.state === ModelState.SERVING];
  return (
    <Section title={`Model ${id}`}>
      <Facts>
        <Fact name="size">{bytes(ms(model.bytes))}</Fact>
        <Fact name="classes">{vis(model.classes.join(", "))}</Fact>
        <Fact name="columns">
          <span title={vis(model.columns.join("\n"))}>{model.columns.length}</span>
        </Fact>
      </Facts>
      <Pictures card={model.card} />
      <Table caption={`card of ${id}`} rows={card} id={([name]) => name} size={60} empty="its card is empty" columns={[{ head: "said", cell: ([name]) => vis(name) }, { head: "value", cell: ([, value]) => vis(value) }]} />
      <label class="field">
        Why
        <input value={reason} maxLength={4096} onInput={(event) => setReason(event.currentTarget.value)} />
      </label>
      <p class="buttons">
        {serves ? (
          <button type="button" disabled={!admin} onClick={() => act(() => modelApi.rollBackModel({ reason }))}>
            Roll back to the one before
          </button>
        ) : (
          <>
            <button type="button" disabled={!operator} onClick={() => act(() => modelApi.shadowModel({ id: model.state === ModelState.SHADOW ? "" : id }))}>
              {model.state === ModelState.SHADOW ? "Let it watch no more" : "Let it watch"}
            </button>
            <button type="button" disabled={!admin || !reason} onClick={() => act(() => modelApi.promoteModel({ id, force: true, reason }))}>
              Promote without a comparison
            </button>
          </>
        )}
        <span class="dim">
          {admin ? "A promotion that rests on a comparison: `vedette model promote`. One without stays on record as forced, and needs a reason." : "Promoting and rolling back takes the role admin."}
        </span>
      </p>
    </Section>
  );
}
