// Who looks: a one-time token from the address becomes a session, whose key only pages of this port have.

export interface Session {
  /** Stands in labels and answers unless the person says another name. */
  author: string;
  endsMs: number;
}

const KEY = "vedette-key";

/** The header that proves that a request comes from this port's own page; the cookie alone is sent by every port of this machine. */
export const KEY_HEADER = "x-vedette-key";

export const key = () => localStorage.getItem(KEY) ?? "";

async function read(response: Response): Promise<Session | string> {
  if (!response.ok) return (await response.text()).trim();
  const said = (await response.json()) as { author: string; ends_unix_ms: number; key?: string };
  if (said.key) localStorage.setItem(KEY, said.key);
  return { author: said.author, endsMs: said.ends_unix_ms };
}

/** The session, or why there is none. */
export async function enter(): Promise<Session | string> {
  const token = /^#([0-9a-f]{64})$/.exec(location.hash)?.[1];
  try {
    if (token) {
      // Out of the address bar and the history at once: it is spent, and need not be seen.
      history.replaceState(null, "", "/#/");
      const entered = await read(await fetch("/session", { method: "POST", headers: { authorization: `Bearer ${token}` } }));
      if (typeof entered !== "string") return entered;
      const still = await read(await fetch("/session", { headers: { [KEY_HEADER]: key() } }));
      return typeof still === "string" ? entered : still;
    }
    return await read(await fetch("/session", { headers: { [KEY_HEADER]: key() } }));
  } catch {
    return "`vedette console` does not answer: is it still running?";
  }
}

export async function leave(): Promise<void> {
  await fetch("/session", { method: "DELETE", headers: { [KEY_HEADER]: key() } }).catch(() => undefined);
  localStorage.removeItem(KEY);
  location.replace("/");
}
