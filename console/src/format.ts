// Numbers, times and other people's text, for people.

/** What an attacker may have written, with everything that is invisible or reorders a line made visible, as the command line does. */
export function vis(text: string): string {
  return text.replace(
    // Control, format (bidirectional, zero width), private use, unassigned surrogates, and separators other than the space.
    /[\p{Cc}\p{Cf}\p{Co}\p{Cs}\p{Zl}\p{Zp}\u034f\u115f\u1160\u3164\uffa0]/gu,
    (c) => ({ "\n": "\\n", "\r": "\\r", "\t": "\\t" })[c] ?? `\\u{${c.codePointAt(0)?.toString(16)}}`,
  );
}

/** At most so many characters; the rest is in the title. */
export function short(text: string, most = 24): string {
  const shown = vis(text);
  return shown.length <= most ? shown : `${shown.slice(0, most - 1)}…`;
}

/** Three digits that mean something. */
export function number(value: number): string {
  if (!Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size >= 1e15) return value.toExponential(2);
  if (size >= 1000) return Math.round(value).toLocaleString("en");
  if (size === 0 || size >= 100 || Number.isInteger(value)) return value.toFixed(0);
  return String(Number(value.toFixed(size >= 10 ? 1 : size >= 0.1 ? 2 : 3)));
}

export function bytes(value: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let place = 0;
  for (; Math.abs(value) >= 1024 && place < units.length - 1; place++) value /= 1024;
  return `${number(value)} ${units[place]}`;
}

/** A value with its unit. */
export function quantity(value: number | undefined, unit: string): string {
  if (value === undefined || Number.isNaN(value)) return "–";
  if (unit === "B" || unit === "bytes") return bytes(value);
  if (unit === "B/s" || unit === "bytes/s") return `${bytes(value)}/s`;
  if (unit === "ratio") return `${number(value * 100)} %`;
  if (unit === "1/s") return `${number(value)}/s`;
  if (unit === "us/s") return `${number(value / 1e6)} s/s`;
  if (unit === "us") return `${number(value / 1e6)} s`;
  return unit ? `${number(value)} ${unit}` : number(value);
}

const CLOCK = new Intl.DateTimeFormat("sv", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const DAY = new Intl.DateTimeFormat("sv", { year: "numeric", month: "2-digit", day: "2-digit" });

/** 03:12:05 today, 2026-11-22 03:12:05 otherwise; local time. */
export function time(ms: number, now = Date.now()): string {
  if (ms <= 0) return "–";
  const at = new Date(ms);
  const clock = CLOCK.format(at);
  return DAY.format(at) === DAY.format(new Date(now)) ? clock : `${DAY.format(at)} ${clock}`;
}

/** With the zone, for titles. */
export const fullTime = (ms: number) => (ms > 0 ? new Date(ms).toString() : "");

/** 4 min 12 s, 3 h 2 min, 2 d 4 h. */
export function span(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1000));
  const [d, h, m, s] = [Math.floor(seconds / 86400), Math.floor(seconds / 3600) % 24, Math.floor(seconds / 60) % 60, seconds % 60];
  if (d) return `${d} d ${h} h`;
  if (h) return `${h} h ${m} min`;
  if (m) return m < 10 ? `${m} min ${s} s` : `${m} min`;
  return `${s} s`;
}

export const ago = (ms: number, now = Date.now()) => (ms > 0 ? `${span(now - ms)} ago` : "never");
export const ms = (value: bigint) => Number(value);
export const maybe = (value: bigint | undefined) => (value === undefined ? undefined : Number(value));
