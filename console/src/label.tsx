// Saying what a stretch of time was.
import { useEffect, useRef, useState } from "preact/hooks";
import { labelApi, said } from "./api";
import type { Range } from "./chart";
import { span, time, vis } from "./format";
import { LabelSource } from "./gen/vedette/v1/label_pb";
import { Kind } from "./gen/vedette/v1/types_pb";
import { useViewer } from "./viewer";
import { KINDS, kindWord } from "./words";

/** What a label may be about: a few words and the selector. */
export interface Target {
  words: string;
  selector: Partial<Record<"cluster" | "node" | "namespace" | "ownerKind" | "ownerName" | "containerName" | "podUid" | "containerId", string>>;
}

interface Props {
  range: Range;
  targets: Target[];
  done: (added: bigint | null) => void;
}

export function LabelDialog({ range, targets, done }: Props) {
  const viewer = useViewer();
  const dialog = useRef<HTMLDialogElement>(null);
  const [target, setTarget] = useState(0);
  const [kind, setKind] = useState<Kind>(Kind.UNSPECIFIED);
  const [affected, setAffected] = useState(false);
  const [note, setNote] = useState("");
  const [author, setAuthor] = useState(viewer.author);
  const [error, setError] = useState("");
  const [busy, setBusy] = useState(false);
  useEffect(() => dialog.current?.showModal(), []);

  const save = async (event: Event) => {
    event.preventDefault();
    const selector = targets[target]?.selector;
    if (kind === Kind.UNSPECIFIED || !selector) return setError("Say what it was.");
    setBusy(true);
    try {
      const [start, end] = [BigInt(Math.round(range.startMs)), BigInt(Math.max(Math.round(range.endMs), Math.round(range.startMs) + 1))];
      const label = { selector, range: { startUnixMs: start, endUnixMs: end }, kind, affected, note, author, source: LabelSource.OPERATOR };
      const { ids } = await labelApi.addLabels({ labels: [label] });
      done(ids[0] ?? 0n);
    } catch (problem) {
      setError(said(problem));
      setBusy(false);
    }
  };

  return (
    <dialog ref={dialog} aria-labelledby="label-title" onCancel={() => done(null)}>
      <form onSubmit={save}>
        <h2 id="label-title">What was this?</h2>
        <p>
          {time(range.startMs)} to {time(range.endMs)} ({span(range.endMs - range.startMs)})
        </p>
        <fieldset>
          <legend>Of</legend>
          {targets.map((one, place) => (
            <label key={one.words} class="choice">
              <input type="radio" name="target" checked={target === place} onChange={() => setTarget(place)} />
              <span>{vis(one.words)}</span>
            </label>
          ))}
        </fieldset>
        <label class="field">
          Kind
          <select value={kind} autofocus onChange={(event) => setKind(Number(event.currentTarget.value))}>
            <option value={0}>choose…</option>
            <option value={Kind.NORMAL}>normal (ordinary work)</option>
            {KINDS.map((one) => (
              <option key={one} value={one}>
                {kindWord(one)}
              </option>
            ))}
          </select>
        </label>
        <label class="choice">
          <input type="checkbox" checked={affected} onChange={(event) => setAffected(event.currentTarget.checked)} />
          <span>only affected: touched by it without being its target</span>
        </label>
        <label class="field">
          Note
          <input value={note} maxLength={4096} onInput={(event) => setNote(event.currentTarget.value)} />
        </label>
        <label class="field">
          Your name
          <input value={author} maxLength={128} required onInput={(event) => setAuthor(event.currentTarget.value)} />
        </label>
        {error && (
          <p class="error" role="alert">
            {vis(error)}
          </p>
        )}
        <p class="buttons">
          <button type="submit" class="primary" disabled={busy || !viewer.mayAnswer}>
            Label
          </button>
          <button type="button" onClick={() => done(null)}>
            Cancel
          </button>
          {!viewer.mayAnswer && <span class="dim">The role {viewer.role} may not label.</span>}
        </p>
      </form>
    </dialog>
  );
}
