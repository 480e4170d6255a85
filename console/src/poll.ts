// Asking again and again while somebody looks.
import { useEffect, useRef, useState } from "preact/hooks";
import { said } from "./api";

export interface Polled<T> {
  value?: T;
  error: string;
  /** Asks at once. */
  again: () => void;
}

/** Asks now and then every `everyMs` (0: once), and anew where `key` changes. A hidden tab asks nothing. */
export function usePoll<T>(key: string, everyMs: number, ask: (signal: AbortSignal) => Promise<T>): Polled<T> {
  const [state, set] = useState<{ key: string; value?: T; error: string }>({ key, error: "" });
  const [turn, next] = useState(0);
  const latest = useRef(ask);
  latest.current = ask;
  useEffect(() => {
    const stop = new AbortController();
    let timer = 0;
    const run = async () => {
      if (!document.hidden) {
        try {
          const value = await latest.current(stop.signal);
          if (!stop.signal.aborted) set({ key, value, error: "" });
        } catch (error) {
          if (!stop.signal.aborted) set((before) => ({ ...before, key, error: said(error) }));
        }
      }
      if (everyMs > 0 && !stop.signal.aborted) timer = window.setTimeout(run, everyMs);
    };
    void run();
    return () => {
      stop.abort();
      clearTimeout(timer);
    };
  }, [key, everyMs, turn]);
  // What belongs to another key is not shown as if it were this one's.
  const value = state.key === key ? state.value : undefined;
  return { value, error: state.key === key ? state.error : "", again: () => next((count) => count + 1) };
}

/** The time, every second. */
export function useNow(everyMs = 1_000): number {
  const [now, set] = useState(Date.now());
  useEffect(() => {
    const timer = setInterval(() => set(Date.now()), everyMs);
    return () => clearInterval(timer);
  }, [everyMs]);
  return now;
}
