// History in SQL: read only, bounded by the aggregator.
import { useRef, useState } from "preact/hooks";
import { queryApi, said } from "../api";
import { number, time, vis } from "../format";
import type { QueryColumn, QueryRow, QueryValue } from "../gen/vedette/v1/query_pb";
import { Trouble } from "../parts";
import { type Column, Table } from "../table";

const EXAMPLES = [
  ["who uses CPU", "select namespace, owner_name, container_name, round(sum(cpu_usage_us) / 1e6, 1) as cpu_seconds\nfrom observations where time > now() - interval '15 minutes' and container_id <> ''\ngroup by 1, 2, 3 order by 4 desc limit 50"],
  ["incidents by kind", "select kind, severity, count(*) as incidents, max(opened) as newest\nfrom incidents group by 1, 2 order by 3 desc"],
  ["what history lacks", "select * from gaps order by 1 desc limit 100"],
  ["columns there are", "select column_name, data_type from information_schema.columns where table_name = 'observations'"],
] as const;
/** More rows than a person reads; the command line exports. */
const MOST = 5_000;

interface Numbered {
  id: string;
  row: QueryRow;
}

interface Answer {
  columns: QueryColumn[];
  rows: Numbered[];
  truncated: boolean;
  tookMs: number;
}

export function Sql() {
  const [sql, setSql] = useState<string>(EXAMPLES[0][1]);
  const [answer, setAnswer] = useState<Answer | null>(null);
  const [error, setError] = useState("");
  const running = useRef<AbortController | null>(null);
  const [busy, setBusy] = useState(false);

  const ask = async () => {
    running.current?.abort();
    const stop = new AbortController();
    running.current = stop;
    setBusy(true);
    setError("");
    const started = performance.now();
    const got: Answer = { columns: [], rows: [], truncated: false, tookMs: 0 };
    try {
      for await (const part of queryApi.query({ sql, maxRows: MOST }, { signal: stop.signal })) {
        if (part.columns.length) got.columns = part.columns;
        for (const row of part.rows) got.rows.push({ id: String(got.rows.length), row });
        got.truncated ||= part.truncated;
      }
      got.tookMs = performance.now() - started;
      setAnswer(got);
    } catch (problem) {
      if (!stop.signal.aborted) setError(said(problem));
    }
    if (running.current === stop) setBusy(false);
  };

  return (
    <>
      <h1>Ask history</h1>
      <p class="dim">
        Tables: observations, incidents, labels, answers, containers, nodes, cross_checks, gaps. One SELECT; every question is in the audit log.
      </p>
      <p class="filters">
        {EXAMPLES.map(([word, text]) => (
          <button key={word} type="button" onClick={() => setSql(text)}>
            {word}
          </button>
        ))}
      </p>
      <textarea
        class="sql"
        rows={6}
        spellcheck={false}
        aria-label="SQL"
        value={sql}
        onInput={(event) => setSql(event.currentTarget.value)}
        onKeyDown={(event) => {
          if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
            event.preventDefault();
            void ask();
          }
        }}
      />
      <p class="buttons">
        <button type="button" class="primary" onClick={ask}>
          Ask <kbd>Ctrl Enter</kbd>
        </button>
        {busy && (
          <button type="button" onClick={() => running.current?.abort()}>
            Stop
          </button>
        )}
        <span role="status" class="dim">
          {busy ? "asking…" : answer ? `${number(answer.rows.length)} rows in ${number(answer.tookMs)} ms${answer.truncated ? ", more match" : ""}` : ""}
        </span>
      </p>
      <Trouble text={error} />
      {answer && !error && (
        <Table
          caption="answer"
          rows={answer.rows}
          id={(one) => one.id}
          empty="no rows"
          columns={answer.columns.map((column, place): Column<Numbered> => ({
            head: vis(column.name),
            cell: ({ row }) => shown(row.values[place]),
            by: ({ row }) => sortable(row.values[place]),
            right: /int|float|decimal/i.test(column.dataType),
          }))}
        />
      )}
    </>
  );
}

function shown(value: QueryValue | undefined): string {
  const said = value?.value;
  if (said?.case === undefined) return "–";
  switch (said.case) {
    case "unixMs":
      return time(Number(said.value));
    case "number":
      return number(said.value);
    case "binary":
      return `${said.value.length} bytes`;
    case "text":
      return vis(said.value.length > 400 ? `${said.value.slice(0, 400)}…` : said.value);
    default:
      return String(said.value);
  }
}

function sortable(value: QueryValue | undefined): number | string {
  const said = value?.value;
  if (said?.case === undefined) return "";
  return said.case === "text" ? said.value : Number(said.value);
}
