// Small pieces that several pages show.
import type { ComponentChildren } from "preact";
import { ago, fullTime, ms, number, short, span, time, vis } from "./format";
import { Standing } from "./handling";
import { BaselineState, type Incident } from "./gen/vedette/v1/query_pb";
import type { Severity, Workload } from "./gen/vedette/v1/types_pb";
import { useNow } from "./poll";
import { toIncident, toWorkload } from "./route";
import { answerWord, baselineWord, severityWord } from "./words";

export function Badge({ severity, resolved }: { severity: Severity; resolved?: boolean }) {
  const word = severityWord(severity) || "none";
  return <span class={`badge ${word} ${resolved ? "resolved" : ""}`}>{word}</span>;
}

/** shop / Deployment web / nginx, with what is not known left out. */
export function place(workload: Workload | undefined): string {
  if (!workload) return "";
  const { namespace, ownerKind, ownerName, containerName } = workload;
  return [namespace, `${ownerKind} ${ownerName}`, containerName].filter(Boolean).map(vis).join(" / ");
}

export function Place({ workload }: { workload: Workload | undefined }) {
  if (!workload) return <>–</>;
  const { namespace, ownerKind, ownerName, containerName } = workload;
  return (
    <a href={toWorkload(workload)} class="place" title={place(workload)}>
      {namespace && <span class="dim">{short(namespace)} / </span>}
      <span class="dim">{short(ownerKind, 14)} </span>
      <b>{short(ownerName, 44)}</b>
      {containerName && <span class="dim"> / {short(containerName, 32)}</span>}
    </a>
  );
}

export const At = ({ ms: at }: { ms: number }) => <time title={fullTime(at)}>{time(at)}</time>;

export function Ago({ ms: at }: { ms: number }) {
  const now = useNow();
  return <time title={fullTime(at)}>{ago(at, now)}</time>;
}

export function Score({ value }: { value: number }) {
  const level = value >= 0.8 ? "high" : value >= 0.5 ? "middle" : "low";
  return (
    <span class={`score ${level}`}>
      <meter min={0} max={1} value={value} aria-label={`score ${number(value)}`} />
      {value.toFixed(2)}
    </span>
  );
}

export function Baseline({ state }: { state: BaselineState }) {
  const word = baselineWord(state) || "unknown";
  return <span class={`state ${word}`}>{word}</span>;
}

/** A line of a list of incidents: how loud, what, where, since when, why. */
export function IncidentRow({ incident }: { incident: Incident }) {
  const now = useNow();
  const resolved = incident.resolvedUnixMs > 0n;
  const lasted = resolved ? `lasted ${span(ms(incident.resolvedUnixMs - incident.onsetUnixMs))}` : `for ${span(now - ms(incident.onsetUnixMs))}`;
  return (
    <li class={`incident ${severityWord(incident.severity)} ${resolved ? "resolved" : ""}`}>
      <Badge severity={incident.severity} resolved={resolved} />
      <div>
        <a class="effect" href={toIncident(incident.id)}>
          {vis(incident.effect) || "unexplained change"}
        </a>{" "}
        <Place workload={incident.workload} />
        <div class="why">{vis(incident.evidence[0]?.sentence ?? incident.summary)}</div>
      </div>
      <div class="when">
        <At ms={ms(incident.onsetUnixMs)} />
        <div class="dim">{lasted}</div>
        {incident.answer ? <div class="state answered">{answerWord(incident.answer)}</div> : null}
        <div>
          <Standing incident={incident} />
        </div>
      </div>
    </li>
  );
}

export function Section({ title, aside, children }: { title: string; aside?: ComponentChildren; children: ComponentChildren }) {
  const id = `s-${title.toLowerCase().replace(/[^a-z]+/g, "-")}`;
  return (
    <section aria-labelledby={id}>
      <h2 id={id}>
        {title} {aside && <span class="aside">{aside}</span>}
      </h2>
      {children}
    </section>
  );
}

export function Trouble({ text }: { text: string }) {
  return text ? (
    <p class="error" role="alert">
      {vis(text)}
    </p>
  ) : null;
}

export function Facts({ children }: { children: ComponentChildren }) {
  return <dl class="facts">{children}</dl>;
}

export function Fact({ name, children }: { name: string; children: ComponentChildren }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}
