// A table in pages: whatever the fleet's size, the document stays small.
import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { go } from "./route";

export interface Column<T> {
  head: string;
  cell: (row: T) => ComponentChildren;
  /** What to sort by; a column without cannot be sorted. */
  by?: (row: T) => number | string;
  /** Numbers stand on the right. */
  right?: boolean;
}

interface Props<T> {
  caption: string;
  rows: T[];
  columns: Column<T>[];
  id: (row: T) => string;
  /** Where a row leads. */
  href?: (row: T) => string;
  size?: number;
  empty?: string;
}

export function Table<T>({ caption, rows, columns, id, href, size = 50, empty = "nothing" }: Props<T>) {
  const [sort, setSort] = useState<{ place: number; down: boolean } | null>(null);
  const [page, setPage] = useState(0);
  const by = sort ? columns[sort.place]?.by : undefined;
  const sorted = by
    ? [...rows].sort((a, b) => {
        const [x, y] = [by(a), by(b)];
        return (x < y ? -1 : x > y ? 1 : 0) * (sort?.down ? -1 : 1);
      })
    : rows;
  const pages = Math.max(1, Math.ceil(sorted.length / size));
  const at = Math.min(page, pages - 1);
  const shown = sorted.slice(at * size, (at + 1) * size);
  if (rows.length === 0) return <p class="dim">{empty}</p>;
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label={`table of ${caption}`}>
      <table>
        <caption class="hidden">{caption}</caption>
        <thead>
          <tr>
            {columns.map((column, place) => {
              const down = sort?.place === place ? sort.down : undefined;
              return (
                <th key={column.head} class={column.right ? "right" : ""} aria-sort={down === undefined ? undefined : down ? "descending" : "ascending"} scope="col">
                  {column.by ? (
                    <button type="button" class="plain" onClick={() => setSort({ place, down: down === undefined ? Boolean(column.right) : !down })}>
                      {column.head}
                      {down === undefined ? "" : down ? " ↓" : " ↑"}
                    </button>
                  ) : (
                    column.head
                  )}
                </th>
              );
            })}
          </tr>
        </thead>
        <tbody>
          {shown.map((row) => (
            <tr
              key={id(row)}
              class={href ? "link" : ""}
              onClick={(event) => {
                // A link inside has its own way; a selected text is meant to be copied.
                if (href && !(event.target as Element).closest("a,button") && !getSelection()?.toString()) go(href(row));
              }}
            >
              {columns.map((column) => (
                <td key={column.head} class={column.right ? "right" : ""}>
                  {column.cell(row)}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
      {pages > 1 && (
        <nav class="pages" aria-label={`pages of ${caption}`}>
          <button type="button" disabled={at === 0} onClick={() => setPage(at - 1)}>
            ← previous
          </button>
          <span>
            {at * size + 1}–{Math.min((at + 1) * size, sorted.length)} of {sorted.length}
          </span>
          <button type="button" disabled={at === pages - 1} onClick={() => setPage(at + 1)}>
            next →
          </button>
        </nav>
      )}
    </div>
  );
}
