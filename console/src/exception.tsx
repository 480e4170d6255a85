// An exception made from an incident, with what it would have hidden.
import { useEffect, useRef, useState } from "preact/hooks";
import { policyApi, said } from "./api";
import { ms, number, vis } from "./format";
import type { PreviewExceptionResponse } from "./gen/vedette/v1/policy_pb";
import type { Incident } from "./gen/vedette/v1/query_pb";
import { Kind } from "./gen/vedette/v1/types_pb";
import { At, Place } from "./parts";
import { useViewer } from "./viewer";
import { kindWord } from "./words";

const DAY_MS = 86_400_000;
const LIVES = [1, 7, 30, 90, 365];

/** A name as the aggregator takes it, that a person may change. */
const named = (incident: Incident) => `${incident.workload?.ownerName ?? ""}-${kindWord(incident.kind)}-${incident.id}`.toLowerCase().replace(/[^a-z0-9.-]+/g, "-").replace(/^-+/, "").slice(-63);

/** A name may hold what globs mean something by; they fit the same, and more. */
const glob = (name: string) => name.replace(/[[\]\\]/g, "?");

export function ExceptionDialog({ incident, done }: { incident: Incident; done: (added: boolean) => void }) {
  const viewer = useViewer();
  const dialog = useRef<HTMLDialogElement>(null);
  const w = incident.workload;
  const [fields, setFields] = useState({ name: named(incident), namespace: glob(w?.namespace ?? ""), ownerKind: glob(w?.ownerKind ?? ""), ownerName: glob(w?.ownerName ?? ""), containerName: glob(w?.containerName ?? "") });
  const [anyKind, setAnyKind] = useState(false);
  const [reason, setReason] = useState("");
  const [days, setDays] = useState(7);
  const [bind, setBind] = useState(false);
  const [preview, setPreview] = useState<PreviewExceptionResponse | null>(null);
  const [error, setError] = useState("");
  useEffect(() => dialog.current?.showModal(), []);

  const exception = () => ({ ...fields, kind: anyKind ? Kind.UNSPECIFIED : incident.kind, reason, expiresUnixMs: BigInt(Date.now() + days * DAY_MS - 60_000) });
  const key = JSON.stringify([fields.namespace, fields.ownerKind, fields.ownerName, fields.containerName, anyKind]);
  // Shown before anything is kept, and anew once somebody stopped typing.
  useEffect(() => {
    const stop = new AbortController();
    const timer = setTimeout(async () => {
      try {
        setPreview(await policyApi.previewException({ exception: exception(), limit: 5 }, { signal: stop.signal }));
        setError("");
      } catch (problem) {
        if (!stop.signal.aborted) setError(said(problem));
      }
    }, 300);
    return () => {
      clearTimeout(timer);
      stop.abort();
    };
  }, [key]);

  const save = async (event: Event) => {
    event.preventDefault();
    try {
      await policyApi.addException({ exception: exception(), bindImages: bind });
      done(true);
    } catch (problem) {
      setError(said(problem));
    }
  };
  const field = (label: string, name: keyof typeof fields) => (
    <label class="field">
      {label}
      <input value={fields[name]} maxLength={253} onInput={(event) => setFields({ ...fields, [name]: event.currentTarget.value })} />
    </label>
  );
  return (
    <dialog ref={dialog} aria-labelledby="exception-title" onCancel={() => done(false)}>
      <form onSubmit={save}>
        <h2 id="exception-title">What may happen?</h2>
        <label class="field">
          Why
          <input autofocus required value={reason} maxLength={4096} onInput={(event) => setReason(event.currentTarget.value)} />
        </label>
        <label class="field">
          For
          <select value={days} onChange={(event) => setDays(Number(event.currentTarget.value))}>
            {LIVES.map((one) => (
              <option key={one} value={one}>
                {one} {one === 1 ? "day" : "days"}
              </option>
            ))}
          </select>
        </label>
        <div class="pairs">
          {field("Name", "name")}
          {field("Namespace", "namespace")}
          {field("Owner kind", "ownerKind")}
          {field("Owner", "ownerName")}
          {field("Container", "containerName")}
        </div>
        <label class="choice">
          <input type="checkbox" checked={anyKind} onChange={(event) => setAnyKind(event.currentTarget.checked)} />
          <span>any kind, not only {kindWord(incident.kind)}</span>
        </label>
        <label class="choice">
          <input type="checkbox" checked={bind} onChange={(event) => setBind(event.currentTarget.checked)} />
          <span>only while they run the images that they run now</span>
        </label>
        <div class="preview" role="status">
          {preview ? (
            <>
              <b>
                Of the last 30 days it would have hidden {number(ms(preview.total))}, of these {number(ms(preview.pages))} pages
              </b>
              <ul class="lines">
                {preview.incidents.map((one) => (
                  <li key={String(one.id)}>
                    <At ms={ms(one.onsetUnixMs)} /> {vis(one.effect)} <Place workload={one.workload} />
                  </li>
                ))}
              </ul>
            </>
          ) : (
            "looking what it would have hidden…"
          )}
        </div>
        {error && (
          <p class="error" role="alert">
            {vis(error)}
          </p>
        )}
        <p class="buttons">
          <button type="submit" class="primary" disabled={!viewer.mayAnswer}>
            Add the exception
          </button>
          <button type="button" onClick={() => done(false)}>
            Cancel
          </button>
        </p>
      </form>
    </dialog>
  );
}
