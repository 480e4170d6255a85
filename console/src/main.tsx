// The console: a session first, then pages by the address.
import { render } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { typing } from "./answers";
import { consoleApi, said } from "./api";
import { span, vis } from "./format";
import { Severity } from "./gen/vedette/v1/types_pb";
import { live, useLive } from "./live";
import { Budget } from "./pages/budget";
import { ContainerPage } from "./pages/container";
import { IncidentPage } from "./pages/incident";
import { Incidents } from "./pages/incidents";
import { Labels } from "./pages/labels";
import { Models } from "./pages/models";
import { NodePage } from "./pages/node";
import { Overview } from "./pages/overview";
import { Sql } from "./pages/sql";
import { WorkloadPage } from "./pages/workload";
import { useNow } from "./poll";
import { type Route, go, useRoute } from "./route";
import { type Session, enter, leave } from "./session";
import "./style.css";
import { apply, toggle } from "./theme";
import { type Viewer, ViewerContext } from "./viewer";

const PAGES = [
  { page: "", word: "Overview", key: "o" },
  { page: "incidents", word: "Incidents", key: "i" },
  { page: "labels", word: "Labels", key: "l" },
  { page: "sql", word: "History", key: "h" },
  { page: "budget", word: "Budget", key: "b" },
  { page: "models", word: "Models", key: "m" },
] as const;

function Page({ route }: { route: Route }) {
  switch (route.page) {
    case "":
      return <Overview />;
    case "incidents":
      return <Incidents />;
    case "incident":
      return <IncidentPage key={route.id} id={route.id} />;
    case "workload":
      return <WorkloadPage key={String(route.query)} query={route.query} />;
    case "container":
      return <ContainerPage key={route.id} id={route.id} />;
    case "node":
      return <NodePage key={route.id} name={route.id} />;
    case "labels":
      return <Labels />;
    case "budget":
      return <Budget />;
    case "models":
      return <Models />;
    case "sql":
      return <Sql />;
    default:
      return <p>There is no such page.</p>;
  }
}

function Bar({ viewer, page, help }: { viewer: Viewer; page: string; help: () => void }) {
  const { incidents, connected, trouble } = useLive();
  const now = useNow(30_000);
  const pages = [...incidents.values()].filter((one) => one.resolvedUnixMs === 0n && one.severity === Severity.PAGE).length;
  useEffect(() => {
    document.title = pages ? `(${pages}) Vedette` : "Vedette";
  }, [pages]);
  return (
    <header class="bar">
      <a class="brand" href="#/">
        Vedette
      </a>
      <span class="cluster">{vis(viewer.cluster)}</span>
      <nav aria-label="pages">
        {PAGES.map((one) => (
          <a key={one.page} href={`#/${one.page}`} aria-current={page === one.page ? "page" : undefined} aria-keyshortcuts={one.key}>
            {one.word}
          </a>
        ))}
      </nav>
      <span class={connected ? "live" : "live lost"} role="status" title={vis(trouble)}>
        {connected ? "live" : trouble ? "not connected" : "connecting"}
      </span>
      <span class="role" title={`${vis(viewer.token)}, aggregator ${vis(viewer.version)}; the session ends in ${span(viewer.endsMs - now)}`}>
        {vis(viewer.author)} · {viewer.role}
      </span>
      <button type="button" class="plain" onClick={toggle} aria-label="light or dark" title="light or dark (t)">
        ◐
      </button>
      <button type="button" class="plain" onClick={help} aria-label="keys" title="keys (?)">
        ?
      </button>
      <button type="button" class="plain" onClick={() => void leave()}>
        leave
      </button>
    </header>
  );
}

const KEYS = [
  ["o", "overview"],
  ["i", "incidents"],
  ["l", "labels"],
  ["h", "history (SQL)"],
  ["b m", "budget, models"],
  ["/", "find"],
  ["j k", "next, previous incident or row; Enter opens it"],
  ["a e n u", "on an incident: attack, expected, nothing there, unsure"],
  ["g s c", "on an incident: I have it (or hand it back), snooze (or wake), comment"],
  ["x", "on an incident: make an exception of it"],
  ["arrows", "on a chart: choose a range; Shift widens, Ctrl is finer, Enter labels it, Escape forgets it"],
  ["t", "light or dark"],
  ["?", "this"],
] as const;

function Help({ done }: { done: () => void }) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => dialog.current?.showModal(), []);
  return (
    <dialog ref={dialog} aria-labelledby="help-title" onCancel={done} onClose={done}>
      <h2 id="help-title">Keys</h2>
      <dl class="keys">
        {KEYS.map(([keys, what]) => (
          <div key={keys}>
            <dt>
              {keys.split(" ").map((one) => (
                <kbd key={one}>{one}</kbd>
              ))}
            </dt>
            <dd>{what}</dd>
          </div>
        ))}
      </dl>
      <p class="buttons">
        <button type="button" class="primary" onClick={done} autofocus>
          Close
        </button>
      </p>
    </dialog>
  );
}

/** Moves the focus among the links that a page is a list of. */
function step(by: 1 | -1): void {
  const links = [...document.querySelectorAll<HTMLElement>("main .effect, main tbody tr td:first-child a, main tbody tr td:nth-child(2) a.effect")];
  const at = links.indexOf(document.activeElement as HTMLElement);
  links[Math.min(Math.max(at + by, 0), links.length - 1)]?.focus();
}

function App({ viewer }: { viewer: Viewer }) {
  const route = useRoute();
  const [help, setHelp] = useState(false);
  useEffect(() => live.start(), []);
  useEffect(() => scrollTo(0, 0), [route.page, route.id]);
  useEffect(() => {
    const pressed = (event: KeyboardEvent) => {
      if (event.ctrlKey || event.metaKey || event.altKey || typing(event) || document.querySelector("dialog[open]")) return;
      const page = PAGES.find((one) => one.key === event.key);
      if (page) go(`/${page.page}`);
      else if (event.key === "?") setHelp(true);
      else if (event.key === "t") toggle();
      else if (event.key === "j") step(1);
      else if (event.key === "k") step(-1);
      else if (event.key === "/") document.querySelector<HTMLElement>("[data-search]")?.focus();
      else return;
      event.preventDefault();
    };
    addEventListener("keydown", pressed);
    return () => removeEventListener("keydown", pressed);
  }, []);
  return (
    <ViewerContext.Provider value={viewer}>
      <a class="skip" href="#main" onClick={(event) => { event.preventDefault(); document.getElementById("main")?.focus(); }}>
        to the page
      </a>
      <Bar viewer={viewer} page={route.page} help={() => setHelp(true)} />
      <main id="main" tabIndex={-1}>
        <Page route={route} />
      </main>
      {help && <Help done={() => setHelp(false)} />}
    </ViewerContext.Provider>
  );
}

function Closed({ why }: { why: string }) {
  return (
    <main class="closed">
      <h1>Vedette</h1>
      <p role="alert">{vis(why)}</p>
      <p>
        A session begins with the address that <code>vedette console</code> prints. Each address opens one; Enter prints another.
      </p>
    </main>
  );
}

async function begin(): Promise<void> {
  apply();
  const root = document.getElementById("app");
  if (!root) return;
  const session: Session | string = await enter();
  if (typeof session === "string") return render(<Closed why={session} />, root);
  try {
    const caller = await consoleApi.getCaller({});
    const mayAnswer = caller.role === "operator" || caller.role === "admin";
    const { role, name: token, cluster, version } = caller;
    render(<App viewer={{ role, token, cluster, version, author: session.author, endsMs: session.endsMs, mayAnswer }} />, root);
  } catch (error) {
    render(<Closed why={said(error)} />, root);
  }
}

void begin();
