// Series of features as charts, with brushing and what was labelled before.
import { create } from "@bufbuild/protobuf";
import { useState } from "preact/hooks";
import { consoleApi, labelApi } from "./api";
import { Chart, type Line, type Range } from "./chart";
import { ms } from "./format";
import { GetSeriesRequestSchema } from "./gen/vedette/v1/console_pb";
import type { Label } from "./gen/vedette/v1/label_pb";
import type { Series } from "./gen/vedette/v1/query_pb";
import { LabelDialog, type Target } from "./label";
import { Trouble } from "./parts";
import { usePoll } from "./poll";
import { kindWord } from "./words";

/** What people call a feature or column. */
export function titled(name: string): string {
  const plain = name.replace(/_per_sec$/, "").replaceAll("_", " ");
  const moved = /^(tx|rx) (excess )?(.+)$/.exec(plain);
  if (moved) return `${moved[3]} ${moved[1] === "tx" ? "sent" : "received"}${moved[2] ? " beyond those received" : ""}`;
  return plain.replace(/^cpu /, "CPU ").replace(/^tcp /, "TCP ").replace(/^udp /, "UDP ").replace(/ bytes$/, "");
}

/** The features that say most, in the order of a picture. */
export const MAIN = [
  "cpu_cores",
  "memory_working_set_bytes",
  "tx_bytes_per_sec",
  "rx_bytes_per_sec",
  "tcp_active_opens_per_sec",
  "tcp_attempt_fails_per_sec",
  "tcp_established",
  "pids",
];

export const SPANS = [
  ["5 min", 5 * 60_000],
  ["30 min", 30 * 60_000],
  ["3 h", 3 * 3_600_000],
  ["24 h", 24 * 3_600_000],
  ["7 d", 7 * 24 * 3_600_000],
] as const;

export function Spans({ value, choose }: { value: number; choose: (ms: number) => void }) {
  return (
    <span class="spans" role="group" aria-label="time span">
      {SPANS.map(([word, span]) => (
        <button key={word} type="button" aria-pressed={value === span} onClick={() => choose(span)}>
          {word}
        </button>
      ))}
    </span>
  );
}

/** Labels that touch a range and are about this, as far as the selector says. */
export function touching(labels: Label[], about: Target["selector"]): Label[] {
  const fits = (said: string | undefined, is: string | undefined) => !said || !is || said === is || is.startsWith(said);
  return labels.filter((label) => {
    const s = label.selector;
    if (!s || label.retractedBy) return false;
    return (
      fits(s.cluster, about.cluster) &&
      fits(s.node, about.node) &&
      fits(s.namespace, about.namespace) &&
      fits(s.ownerKind, about.ownerKind) &&
      fits(s.ownerName, about.ownerName) &&
      fits(s.containerName, about.containerName) &&
      fits(s.podUid, about.podUid) &&
      fits(s.containerId, about.containerId)
    );
  });
}

export const stretch = (label: Label) => ({
  startMs: ms(label.range?.startUnixMs ?? 0n),
  endMs: ms(label.range?.endUnixMs ?? 0n),
  text: kindWord(label.kind),
});

/** One chart a feature, a line a container. */
export function grouped(series: Series[], names: (containerId: string) => string): { feature: string; unit: string; lines: Line[] }[] {
  const charts = new Map<string, { feature: string; unit: string; lines: Line[] }>();
  for (const one of series) {
    const chart = charts.get(one.feature) ?? { feature: one.feature, unit: one.unit, lines: [] };
    chart.lines.push({ label: names(one.containerId), at: one.unixMs.map(ms), values: one.values });
    charts.set(one.feature, chart);
  }
  return [...charts.values()];
}

interface Props {
  /** What is shown. */
  selector: Target["selector"];
  /** What a brushed range may be said of. */
  targets: Target[];
  /** Empty: all. */
  names: string[];
  spanMs: number;
  /** The word for a line. */
  line?: (containerId: string) => string;
  small?: boolean;
  everyColumn?: boolean;
}

/** The newest stretch of some features, drawn again every few seconds. */
export function LiveCharts({ selector, targets, names, spanMs, line = (id) => id.slice(0, 12), small, everyColumn }: Props) {
  const [brushed, brush] = useState<Range | null>(null);
  const key = JSON.stringify([selector, names, spanMs, everyColumn]);
  const { value, error, again } = usePoll(key, spanMs <= 30 * 60_000 ? 5_000 : 30_000, async (signal) => {
    const now = Date.now();
    const range = { startUnixMs: BigInt(now - spanMs), endUnixMs: BigInt(now + 1_000) };
    const request = create(GetSeriesRequestSchema, { selector, range, names, points: small ? 200 : 600, everyColumn });
    const [{ series, truncated }, { labels }] = await Promise.all([
      consoleApi.getSeries(request, { signal }),
      labelApi.listLabels({ range, limit: 500 }, { signal }),
    ]);
    return { series, truncated, labels: touching(labels, selector), range: { startMs: now - spanMs, endMs: now } };
  });
  if (!value) return error ? <Trouble text={error} /> : <p class="dim">reading history…</p>;
  const charts = grouped(value.series, line);
  if (charts.length === 0) return <p class="dim">no observations in this stretch of time</p>;
  return (
    <>
      <Trouble text={error} />
      {value.truncated && <p class="dim">More containers or rows than can be shown: the first eight containers are.</p>}
      <div class={small ? "charts small" : "charts"}>
        {charts.map((chart) => (
          <Chart
            key={chart.feature}
            title={titled(chart.feature)}
            unit={chart.unit}
            lines={chart.lines}
            labels={value.labels.map(stretch)}
            range={value.range}
            onBrush={brush}
            height={small ? 120 : 170}
            small={small}
          />
        ))}
      </div>
      {brushed && (
        <LabelDialog
          range={brushed}
          targets={targets}
          done={(added) => {
            brush(null);
            if (added !== null) again();
          }}
        />
      )}
    </>
  );
}
