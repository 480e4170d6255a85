// What somebody does about an incident without saying what it was: has it, snoozes it, comments it.
import { useEffect, useRef, useState } from "preact/hooks";
import { typing } from "./answers";
import { labelApi, said } from "./api";
import { ms, short, vis } from "./format";
import { Handling } from "./gen/vedette/v1/label_pb";
import type { Incident, RecordedHandling } from "./gen/vedette/v1/query_pb";
import { Ago, At, Section, Trouble } from "./parts";
import { useNow } from "./poll";
import { useViewer } from "./viewer";
import { handlingWord } from "./words";

/** How long a snooze may last, minutes. */
const SNOOZES = [
  [30, "30 min"],
  [120, "2 h"],
  [480, "8 h"],
  [1_440, "1 d"],
] as const;
/** Lines shown of what was done; the command line has all. */
const SHOWN = 12;

export const isSnoozed = (incident: Incident, now: number) => incident.resolvedUnixMs === 0n && now < ms(incident.snoozedUntilUnixMs);

/** Who has it, and the first things to press. */
export function Handle({ incident, done }: { incident: Incident; done: () => void }) {
  const viewer = useViewer();
  const now = useNow();
  const comment = useRef<HTMLInputElement>(null);
  const [minutes, setMinutes] = useState<number>(120);
  const [note, setNote] = useState("");
  const [error, setError] = useState("");
  const [told, setTold] = useState("");
  const open = incident.resolvedUnixMs === 0n;
  const acknowledged = incident.acknowledgedUnixMs > 0n;
  const snoozed = isSnoozed(incident, now);

  const send = async (handling: Handling, words: string, more: { note?: string; untilUnixMs?: bigint } = {}) => {
    setError(viewer.mayAnswer ? "" : `The role ${viewer.role} may not do that: run \`vedette console --role operator\`.`);
    if (!viewer.mayAnswer) return false;
    try {
      await labelApi.handleIncident({ incidentId: incident.id, handling, author: viewer.author, ...more });
      setTold(words);
      done();
      return true;
    } catch (problem) {
      setError(said(problem));
      return false;
    }
  };
  const acknowledge = () => (acknowledged ? send(Handling.UNACKNOWLEDGED, "Nobody has it any more.") : send(Handling.ACKNOWLEDGED, "You have it."));
  const snooze = () =>
    snoozed
      ? send(Handling.WOKEN, "The snooze is over.")
      : send(Handling.SNOOZED, "Nobody is told of it for a while, unless it becomes more severe.", { untilUnixMs: BigInt(Date.now() + minutes * 60_000) });
  const say = async (event: Event) => {
    event.preventDefault();
    if (!note.trim()) return;
    if (await send(Handling.COMMENTED, "The comment is recorded.", { note })) setNote("");
  };

  useEffect(() => {
    const pressed = (event: KeyboardEvent) => {
      if (event.ctrlKey || event.metaKey || event.altKey || typing(event) || document.querySelector("dialog[open]")) return;
      if (event.key === "g" && open) void acknowledge();
      else if (event.key === "s" && open) void snooze();
      else if (event.key === "c") comment.current?.focus();
      else return;
      event.preventDefault();
    };
    addEventListener("keydown", pressed);
    return () => removeEventListener("keydown", pressed);
  });

  return (
    <div class="handle" role="group" aria-label="who has it">
      {open && (
        <>
          {acknowledged && (
            <span class="who">
              <b>{short(incident.acknowledgedBy, 32)}</b> has it since <At ms={ms(incident.acknowledgedUnixMs)} />
            </span>
          )}
          <button type="button" class={acknowledged ? "" : "primary"} disabled={!viewer.mayAnswer} aria-keyshortcuts="g" onClick={acknowledge}>
            {acknowledged ? "Hand it back" : "I have it"} <kbd>g</kbd>
          </button>
          {snoozed ? (
            <span class="who">
              nobody is told until <At ms={ms(incident.snoozedUntilUnixMs)} /> <span class="dim">({short(incident.snoozedBy, 32)})</span>
            </span>
          ) : (
            <select aria-label="snooze for" value={minutes} onChange={(event) => setMinutes(Number(event.currentTarget.value))}>
              {SNOOZES.map(([value, word]) => (
                <option key={value} value={value}>
                  {word}
                </option>
              ))}
            </select>
          )}
          <button type="button" disabled={!viewer.mayAnswer} aria-keyshortcuts="s" onClick={snooze} title={snoozed ? "" : "nobody is told of it until then, unless it becomes more severe"}>
            {snoozed ? "Wake" : "Snooze"} <kbd>s</kbd>
          </button>
        </>
      )}
      <form onSubmit={say}>
        <input ref={comment} aria-label="comment" placeholder="something to know" value={note} maxLength={4096} onInput={(event) => setNote(event.currentTarget.value)} />
        <button type="submit" disabled={!viewer.mayAnswer} aria-keyshortcuts="c">
          Comment <kbd>c</kbd>
        </button>
      </form>
      <span role="status" class="dim">
        {vis(told)}
      </span>
      <Trouble text={error} />
    </div>
  );
}

/** What was done, newest first. */
export function Handled({ handlings }: { handlings: RecordedHandling[] }) {
  if (handlings.length === 0) return null;
  return (
    <Section title="Done about it">
      <ul class="lines handled">
        {[...handlings]
          .reverse()
          .slice(0, SHOWN)
          .map((one) => (
            <li key={String(one.id)}>
              <b>{short(one.author, 32)}</b> {handlingWord(one.handling)}
              {one.untilUnixMs > 0n && (
                <>
                  {" "}
                  until <At ms={ms(one.untilUnixMs)} />
                </>
              )}{" "}
              <span class="dim">
                <Ago ms={ms(one.unixMs)} />
              </span>
              {one.note && <div>{vis(one.note)}</div>}
            </li>
          ))}
        {handlings.length > SHOWN && <li class="dim">and {handlings.length - SHOWN} more: vedette explain</li>}
      </ul>
    </Section>
  );
}

/** In a list: who has it, or until when nobody is told. */
export function Standing({ incident }: { incident: Incident }) {
  const now = useNow();
  if (isSnoozed(incident, now))
    return (
      <span class="state">
        snoozed until <At ms={ms(incident.snoozedUntilUnixMs)} />
      </span>
    );
  return incident.acknowledgedUnixMs > 0n ? <span class="state">{short(incident.acknowledgedBy, 24)} has it</span> : null;
}
