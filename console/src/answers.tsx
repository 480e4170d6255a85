// The four answers, and what was answered before.
import { useEffect, useState } from "preact/hooks";
import { labelApi, policyApi, said } from "./api";
import { ExceptionDialog } from "./exception";
import { ms, short, vis } from "./format";
import { Answer } from "./gen/vedette/v1/label_pb";
import type { Incident, RecordedAnswer } from "./gen/vedette/v1/query_pb";
import { Kind } from "./gen/vedette/v1/types_pb";
import { Ago, Section, Trouble } from "./parts";
import { useViewer } from "./viewer";
import { KINDS, answerWord, kindWord } from "./words";

const CHOICES = [
  { answer: Answer.ATTACK, key: "a", word: "Attack", means: "it was one: becomes a label" },
  { answer: Answer.EXPECTED, key: "e", word: "Expected", means: "real but allowed: its like does not page" },
  { answer: Answer.NOTHING_THERE, key: "n", word: "Nothing there", means: "ordinary work: becomes a label" },
  { answer: Answer.UNSURE, key: "u", word: "Unsure", means: "looked at, undecided" },
] as const;

interface Props {
  incident: Incident;
  answers: RecordedAnswer[];
  done: () => void;
}

export function Answers({ incident, answers, done }: Props) {
  const viewer = useViewer();
  const [kind, setKind] = useState<Kind>(Kind.UNSPECIFIED);
  const [note, setNote] = useState("");
  const [author, setAuthor] = useState(viewer.author);
  const [error, setError] = useState("");
  const [told, setTold] = useState("");
  const [excepting, except] = useState(false);

  const undo = async () => {
    setError("");
    try {
      const { undone, labelsRetracted, exception } = await policyApi.undoAnswer({ incidentId: incident.id, author });
      setTold(`Took back ${answerWord(undone)}${labelsRetracted ? `, with ${labelsRetracted} labels` : ""}${exception ? `, and ended exception ${exception}` : ""}.`);
      done();
    } catch (problem) {
      setError(said(problem));
    }
  };

  const give = async (answer: Answer) => {
    if (!viewer.mayAnswer) return setError(`The role ${viewer.role} may not answer: run \`vedette console --role operator\`.`);
    setError("");
    try {
      const named = answer === Answer.ATTACK ? kind : Kind.UNSPECIFIED;
      const { labelId } = await labelApi.answerIncident({ incidentId: incident.id, answer, kind: named, author, note });
      setTold(labelId ? `Recorded as ${answerWord(answer)}, with label ${labelId}.` : `Recorded as ${answerWord(answer)}.`);
      setNote("");
      done();
    } catch (problem) {
      setError(said(problem));
    }
  };

  useEffect(() => {
    const pressed = (event: KeyboardEvent) => {
      if (event.ctrlKey || event.metaKey || event.altKey || typing(event) || document.querySelector("dialog[open]")) return;
      if (event.key === "x") {
        event.preventDefault();
        return except(true);
      }
      const choice = CHOICES.find((one) => one.key === event.key);
      if (choice) {
        event.preventDefault();
        void give(choice.answer);
      }
    };
    addEventListener("keydown", pressed);
    return () => removeEventListener("keydown", pressed);
  });

  return (
    <Section title="What was it?">
      {answers.length > 0 && (
        <ul class="lines answersgiven">
          {answers.map((one) => (
            <li key={String(one.id)}>
              <b>{answerWord(one.answer)}</b>
              {one.kind ? ` (${kindWord(one.kind)})` : ""}{one.undoneUnixMs > 0n && <span class="dim"> taken back</span>} by {short(one.author, 32)} <span class="dim"><Ago ms={ms(one.unixMs)} /></span>
              {one.note && <div>{vis(one.note)}</div>}
            </li>
          ))}
        </ul>
      )}
      <div class="choices">
        {CHOICES.map((choice) => (
          <button key={choice.key} type="button" class={`answer ${choice.key}`} disabled={!viewer.mayAnswer} aria-keyshortcuts={choice.key} onClick={() => give(choice.answer)}>
            <b>{choice.word}</b> <kbd>{choice.key}</kbd>
            <span>{choice.means}</span>
          </button>
        ))}
      </div>
      <label class="field">
        If an attack of another kind
        <select value={kind} onChange={(event) => setKind(Number(event.currentTarget.value))}>
          <option value={0}>as named</option>
          {KINDS.map((one) => (
            <option key={one} value={one}>
              {kindWord(one)}
            </option>
          ))}
        </select>
      </label>
      <label class="field">
        Note
        <input value={note} maxLength={4096} onInput={(event) => setNote(event.currentTarget.value)} />
      </label>
      <label class="field">
        Your name
        <input value={author} maxLength={128} onInput={(event) => setAuthor(event.currentTarget.value)} />
      </label>
      <p class="buttons">
        <button type="button" disabled={!viewer.mayAnswer} aria-keyshortcuts="x" onClick={() => except(true)}>
          Make an exception <kbd>x</kbd>
        </button>
        {incident.answer !== Answer.UNSPECIFIED && (
          <button type="button" disabled={!viewer.mayAnswer} onClick={undo}>
            Take the answer back
          </button>
        )}
      </p>
      {excepting && (
        <ExceptionDialog
          incident={incident}
          done={(added) => {
            except(false);
            if (added) setTold("The exception stands.");
          }}
        />
      )}
      <div role="status">{vis(told)}</div>
      <Trouble text={error} />
      {!viewer.mayAnswer && <p class="dim">The role {viewer.role} reads; answering takes the role operator.</p>}
    </Section>
  );
}

/** Whether a key is meant for a field. */
export function typing(event: KeyboardEvent): boolean {
  const at = event.target as HTMLElement | null;
  return Boolean(at?.closest("input,select,textarea"));
}
