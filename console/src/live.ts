// Incidents as they come: one watch for all pages, through lost connections.
import { useEffect, useState } from "preact/hooks";
import { queryApi, said } from "./api";
import { type Incident, IncidentChange } from "./gen/vedette/v1/query_pb";

/** Waits between attempts, milliseconds: doubling from the first to the last. */
const BACKOFF = [500, 15_000] as const;
/** Incidents remembered; beyond it the oldest that are resolved go. */
const REMEMBERED = 5_000;

class Live {
  readonly incidents = new Map<bigint, Incident>();
  /** Why there is no connection; empty while there is one. */
  trouble = "";
  connected = false;
  /** Changes that opened an incident since the page was loaded, newest last. */
  private listeners = new Set<() => void>();
  private started = false;

  start(): void {
    if (this.started) return;
    this.started = true;
    void this.run();
  }

  listen(listener: () => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  put(incident: Incident): void {
    this.incidents.set(incident.id, incident);
    if (this.incidents.size > REMEMBERED) {
      const oldest = [...this.incidents.values()].find((one) => one.resolvedUnixMs > 0n);
      if (oldest) this.incidents.delete(oldest.id);
    }
    this.tell();
  }

  private tell(): void {
    for (const listener of this.listeners) listener();
  }

  private async run(): Promise<void> {
    let wait: number = BACKOFF[0];
    for (;;) {
      try {
        // Listening begins before the list is read: nothing is lost in between.
        const changes = queryApi.watchIncidents({})[Symbol.asyncIterator]();
        let next = changes.next();
        // Where the list fails too, that is what is told.
        next.catch(() => undefined);
        await this.list();
        this.connected = true;
        this.trouble = "";
        this.tell();
        for (;;) {
          const { done, value } = await next;
          if (done) break;
          const { change, incident } = value;
          next = changes.next();
          next.catch(() => undefined);
          wait = BACKOFF[0];
          if (change === IncidentChange.MISSED) await this.list();
          else if (incident) this.put(incident);
        }
        this.trouble = "the aggregator ended the watch";
      } catch (error) {
        this.trouble = said(error);
      }
      this.connected = false;
      this.tell();
      await new Promise((done) => setTimeout(done, wait));
      wait = Math.min(wait * 2, BACKOFF[1]);
    }
  }

  /** What resolved while nobody listened is not among those open now, so the newest of all are listed. */
  private async list(): Promise<void> {
    const { incidents } = await queryApi.listIncidents({ limit: 500 });
    const open = new Set(incidents.map((one) => one.id));
    for (const [id, known] of this.incidents) if (known.resolvedUnixMs === 0n && !open.has(id)) this.incidents.delete(id);
    for (const incident of incidents) this.incidents.set(incident.id, incident);
    this.tell();
  }
}

export const live = new Live();

/** Draws again whenever an incident changes. */
export function useLive(): Live {
  const [, redraw] = useState(0);
  useEffect(() => {
    // Many changes at once are one drawing.
    let waiting = 0;
    const stop = live.listen(() => {
      waiting ||= requestAnimationFrame(() => {
        waiting = 0;
        redraw((count) => count + 1);
      });
    });
    redraw((count) => count + 1);
    return () => {
      stop();
      cancelAnimationFrame(waiting);
    };
  }, []);
  return live;
}

/** Open first, then the loudest, then the newest. */
export function ranked(incidents: Iterable<Incident>): Incident[] {
  const open = (one: Incident) => (one.resolvedUnixMs === 0n ? 1 : 0);
  return [...incidents].sort((a, b) => open(b) - open(a) || b.severity - a.severity || Number(b.openedUnixMs - a.openedUnixMs));
}
