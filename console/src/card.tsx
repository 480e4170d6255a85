// Pictures of what a model's card says of sessions that models like it did not know. cli/src/evaluate/card.rs says how it is written.
import { vis } from "./format";

const RECALL = "held_out_recall";
const CONFUSION = "held_out_confusion";
const RELIABILITY = "held_out_reliability";
/** Entries of a card that are drawn, not written. */
export const DRAWN = [RECALL, CONFUSION, RELIABILITY];
/** Most parts of an entry that are drawn: there are ten kinds, and ten tenths. */
const MOST = 121;

interface Recall {
  kind: string;
  told: number;
  of: number;
  low: number;
  high: number;
}

interface Cell {
  was: string;
  called: string;
  count: number;
}

interface Tenth {
  score: number;
  share: number;
  rows: number;
}

const parts = (entry: string | undefined) => (entry ?? "").split("; ").filter(Boolean).slice(0, MOST);
const share = (value: number) => value >= 0 && value <= 1;

/** Parts that are none are left out: a card is what somebody wrote. */
function recalls(entry: string | undefined): Recall[] {
  return parts(entry).flatMap((part) => {
    const [kind = "", counts = "", low, high] = part.split(" ");
    const [told, of] = counts.split("/").map(Number);
    const one = { kind, told: told ?? Number.NaN, of: of ?? Number.NaN, low: Number(low), high: Number(high) };
    return one.told >= 0 && one.of > 0 && one.told <= one.of && share(one.low) && share(one.high) ? [one] : [];
  });
}

function cells(entry: string | undefined): Cell[] {
  return parts(entry).flatMap((part) => {
    const [pair = "", count] = part.split(" ");
    const [was = "", called = ""] = pair.split(">");
    return was && called && Number(count) > 0 ? [{ was, called, count: Number(count) }] : [];
  });
}

function tenths(entry: string | undefined): Tenth[] {
  return parts(entry).flatMap((part) => {
    const [score, of, rows] = part.split(" ").map(Number);
    const one = { score: score ?? Number.NaN, share: of ?? Number.NaN, rows: rows ?? 0 };
    return share(one.score) && share(one.share) && one.rows > 0 ? [one] : [];
  });
}

/** What the card has of them; nothing where it has none. */
export function Pictures({ card }: { card: Record<string, string> }) {
  const [recall, confusion, reliability] = [recalls(card[RECALL]), cells(card[CONFUSION]), tenths(card[RELIABILITY])];
  if (recall.length + confusion.length + reliability.length === 0) return null;
  return (
    <>
      <p class="dim">Of recorded sessions, each asked of a model that was trained without it.</p>
      <div class="charts">
        {recall.length > 0 && <RecallPicture rows={recall} />}
        {confusion.length > 0 && <ConfusionPicture rows={confusion} />}
        {reliability.length > 0 && <ReliabilityPicture rows={reliability} />}
      </div>
    </>
  );
}

const percent = (value: number) => `${(value * 100).toFixed(0)} %`;

/** A bar to what was told, and a line over its interval. */
function RecallPicture({ rows }: { rows: Recall[] }) {
  return (
    <figure class="chart">
      <figcaption>
        <b>Attacks told</b> <span class="dim">by kind, with the interval that holds the truth 95 times of 100</span>
      </figcaption>
      <table>
        <thead>
          <tr>
            <th scope="col">kind</th>
            <th scope="col">told</th>
            <th scope="col">share and interval</th>
          </tr>
        </thead>
        <tbody>
          {rows.map((row) => (
            <tr key={row.kind}>
              <th scope="row">{vis(row.kind)}</th>
              <td>
                {row.told} of {row.of}
              </td>
              <td>
                <svg class="recall" viewBox="0 0 200 14" preserveAspectRatio="none" role="img" aria-label={`${percent(row.told / row.of)}, ${percent(row.low)} to ${percent(row.high)}`}>
                  <rect class="track" width="200" height="14" />
                  <rect class="bandfill" width={(200 * row.told) / row.of} height="14" />
                  <line class="interval" x1={200 * row.low} x2={200 * row.high} y1="7" y2="7" />
                </svg>{" "}
                {percent(row.low)}–{percent(row.high)}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </figure>
  );
}

/** Rows are what attacks were, columns what they were called. */
function ConfusionPicture({ rows }: { rows: Cell[] }) {
  const kinds = [...new Set(rows.map((row) => row.was))].sort();
  const called = [...new Set(rows.map((row) => row.called))].sort((a, b) => Number(a === "missed") - Number(b === "missed") || (a < b ? -1 : 1));
  const count = (was: string, as: string) => rows.find((row) => row.was === was && row.called === as)?.count ?? 0;
  const whole = (was: string) => called.reduce((sum, as) => sum + count(was, as), 0);
  return (
    <figure class="chart">
      <figcaption>
        <b>What attacks were called</b> <span class="dim">a row for what they were</span>
      </figcaption>
      <div class="wide" tabIndex={0} role="region" aria-label="what attacks were told as">
        <table class="confusion">
          <thead>
            <tr>
              <th scope="col">was</th>
              {called.map((as) => (
                <th scope="col" key={as}>
                  {vis(as)}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {kinds.map((was) => (
              <tr key={was}>
                <th scope="row">{vis(was)}</th>
                {called.map((as) => {
                  const found = count(was, as);
                  return (
                    <td key={as} class={found === 0 ? "dim" : was === as ? "right" : "wrong"} data-share={Math.ceil((4 * found) / whole(was))}>
                      {found || "·"}
                    </td>
                  );
                })}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </figure>
  );
}

/** Points on the diagonal: a score is a probability. */
function ReliabilityPicture({ rows }: { rows: Tenth[] }) {
  const [left, size, high] = [34, 220, 8];
  const x = (value: number) => left + size * value;
  const y = (value: number) => high + size * (1 - value);
  const told = rows.map((row) => `score ${row.score.toFixed(2)}: ${percent(row.share)} of ${row.rows}`).join("; ");
  return (
    <figure class="chart">
      <figcaption>
        <b>Is a score a probability?</b> <span class="dim">rows by their score, and the share of them that was of attacks</span>
      </figcaption>
      <svg class="reliability" viewBox="0 0 270 264" role="img" aria-label={told}>
        <rect class="frame" x={left} y={high} width={size} height={size} />
        {[0, 0.5, 1].map((tick) => (
          <g key={tick}>
            <text x={x(tick)} y={high + size + 14} text-anchor="middle">
              {tick}
            </text>
            <text x={left - 5} y={y(tick) + 4} text-anchor="end">
              {tick}
            </text>
          </g>
        ))}
        <text x={x(0.5)} y={high + size + 30} text-anchor="middle">
          score
        </text>
        <line class="ideal" x1={x(0)} y1={y(0)} x2={x(1)} y2={y(1)} />
        <polyline class="is" points={rows.map((row) => `${x(row.score)},${y(row.share)}`).join(" ")} />
        {rows.map((row) => (
          <circle key={row.score} class="is" cx={x(row.score)} cy={y(row.share)} r="3.5">
            <title>{`score ${row.score.toFixed(2)}: ${percent(row.share)} of ${row.rows} rows`}</title>
          </circle>
        ))}
      </svg>
    </figure>
  );
}
