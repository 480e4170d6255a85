// A chart over time: the normal band, marks, labels; a range is brushed with the mouse or the keyboard.
import { useEffect, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { number, quantity, span, time, vis } from "./format";
import { onTheme } from "./theme";

export interface Line {
  label: string;
  /** Unix milliseconds, ascending. */
  at: number[];
  values: number[];
}

export interface Range {
  startMs: number;
  endMs: number;
}

interface Props {
  title: string;
  unit: string;
  lines: Line[];
  /** What is normal. */
  band?: { low: number; high: number };
  /** Instants with a word. */
  marks?: { atMs: number; text: string }[];
  /** Stretches that somebody labelled. */
  labels?: (Range & { text: string })[];
  /** What the picture spans; the values' own span where absent. */
  range?: Range;
  onBrush?: (range: Range) => void;
  height?: number;
  /** One fewer thing to reach by keyboard where charts are many. */
  small?: boolean;
}

const css = (name: string) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const COLOURS = ["--line1", "--line2", "--line3", "--line4", "--line5", "--line6", "--line7", "--line8"];

/** One x for all lines; what a line does not have there is null. */
function joined(lines: Line[]): uPlot.AlignedData {
  const tables = lines.map(({ at, values }) => [at.map((ms) => ms / 1000), values.map((v) => (Number.isFinite(v) ? v : null))]);
  if (tables.length === 0) return [[], []];
  return (tables.length === 1 ? tables[0] : uPlot.join(tables as uPlot.AlignedData[])) as uPlot.AlignedData;
}

/** What may change without another chart is read from `latest` whenever it is drawn. */
function options(latest: { current: Props }, width: number, brushed: (range: Range) => void): uPlot.Options {
  const { unit, lines, height = 190 } = latest.current;
  const [text, grid] = [css("--dim"), css("--rule")];
  const axis = { stroke: text, grid: { stroke: grid, width: 1 }, ticks: { stroke: grid, width: 1 }, font: "11px system-ui, sans-serif" };
  return {
    width,
    height,
    legend: { show: false },
    padding: [10, 12, 0, 0],
    cursor: { drag: { x: true, y: false, setScale: false }, points: { size: 6 } },
    select: { show: true, left: 0, top: 0, width: 0, height: 0 },
    scales: {
      x: {
        time: true,
        range: (_u, low, high) => {
          const { range } = latest.current;
          return range ? [range.startMs / 1000, range.endMs / 1000] : [low, high];
        },
      },
      y: {
        // Zero belongs to a rate; a band belongs to what is compared with it.
        range: (_u, _low, high) => [0, Math.max(high ?? 0, latest.current.band?.high ?? 0) * 1.12 || 1],
      },
    },
    axes: [
      { ...axis, space: 70, size: 30, values: (_u, ticks) => ticks.map((s) => time(s * 1000)) },
      { ...axis, size: 74, ...(/^b(ytes)?(\/s)?$/i.test(unit) ? { incrs: DOUBLINGS } : {}), values: (_u, ticks) => ticks.map((v) => ticked(v, unit)) },
    ],
    series: [
      {},
      ...lines.map((line, place) => ({
        label: line.label,
        stroke: css(COLOURS[place % COLOURS.length] ?? "--line1"),
        width: 1.75,
        spanGaps: true,
        points: { show: line.at.length < 12 },
      })),
    ],
    hooks: {
      drawClear: [
        (u) => {
          const { labels = [], band } = latest.current;
          const { left, top: above, width: wide, height: high } = u.bbox;
          const x = (ms: number) => Math.min(Math.max(u.valToPos(ms / 1000, "x", true), left), left + wide);
          u.ctx.save();
          for (const label of labels) {
            u.ctx.fillStyle = css("--labelled");
            u.ctx.fillRect(x(label.startMs), above, Math.max(2, x(label.endMs) - x(label.startMs)), high);
          }
          if (band) {
            const [from, to] = [u.valToPos(band.high, "y", true), u.valToPos(band.low, "y", true)];
            u.ctx.fillStyle = css("--band");
            u.ctx.fillRect(left, from, wide, Math.max(3, to - from));
          }
          u.ctx.restore();
        },
      ],
      draw: [
        (u) => {
          const { left, top: above, width: wide, height: high } = u.bbox;
          u.ctx.save();
          u.ctx.textAlign = "left";
          u.ctx.textBaseline = "alphabetic";
          u.ctx.font = `${11 * devicePixelRatio}px system-ui, sans-serif`;
          for (const mark of latest.current.marks ?? []) {
            const x = u.valToPos(mark.atMs / 1000, "x", true);
            if (x < left || x > left + wide) continue;
            u.ctx.strokeStyle = u.ctx.fillStyle = css("--mark");
            u.ctx.lineWidth = 1.5 * devicePixelRatio;
            u.ctx.setLineDash([4 * devicePixelRatio, 3 * devicePixelRatio]);
            u.ctx.beginPath();
            u.ctx.moveTo(x, above);
            u.ctx.lineTo(x, above + high);
            u.ctx.stroke();
            const room = u.ctx.measureText(mark.text).width + 5 * devicePixelRatio;
            u.ctx.fillText(mark.text, x + room > left + wide ? x - room : x + 4 * devicePixelRatio, above + 11 * devicePixelRatio);
          }
          u.ctx.restore();
        },
      ],
      setSelect: [
        (u) => {
          const { left, width: wide } = u.select;
          if (wide > 3) brushed({ startMs: Math.round(u.posToVal(left, "x") * 1000), endMs: Math.round(u.posToVal(left + wide, "x") * 1000) });
        },
      ],
    },
  };
}

/** A unit of many letters stands beside the title, not at every tick. */
const spelled = (unit: string) => /^[a-z]{3,}/.test(unit) && !["bytes", "bytes/s", "ratio"].includes(unit);
const ticked = (value: number, unit: string) => (spelled(unit) ? number(value) : quantity(value, unit));

/** Bytes are counted in powers of two. */
const DOUBLINGS = Array.from({ length: 50 }, (_, power) => 2 ** power);

/** The highest value, for a person who does not see the picture. */
function spoken({ title, unit, lines, band }: Props): string {
  const values = lines.flatMap((line) => line.values.filter(Number.isFinite));
  if (values.length === 0) return `${title}: no values`;
  const last = values[values.length - 1];
  const normal = band ? `, normal ${quantity(band.low, unit)} to ${quantity(band.high, unit)}` : "";
  return `${title}: last ${quantity(last, unit)}, highest ${quantity(values.reduce((a, b) => Math.max(a, b), 0), unit)}${normal}`;
}

export function Chart(props: Props) {
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const latest = useRef(props);
  latest.current = props;
  const [chosen, choose] = useState<Range | null>(null);
  const [turn, redraw] = useState(0);

  useEffect(() => onTheme(() => redraw((count) => count + 1)), []);
  // A chart is made anew only where its shape changes; new values are given to the old one.
  const shape = JSON.stringify([turn, props.unit, props.height, props.lines.map((l) => l.label)]);
  useEffect(() => {
    const element = box.current;
    if (!element) return;
    const brushed = (range: Range) => {
      choose(range);
      latest.current.onBrush?.(range);
    };
    const made = new uPlot(options(latest, element.clientWidth || 300, brushed), joined(latest.current.lines), element);
    plot.current = made;
    const observer = new ResizeObserver(() => {
      if (element.clientWidth) made.setSize({ width: element.clientWidth, height: latest.current.height ?? 190 });
    });
    observer.observe(element);
    return () => {
      observer.disconnect();
      made.destroy();
      plot.current = null;
    };
  }, [shape]);
  useEffect(() => {
    plot.current?.setData(joined(props.lines));
  }, [props.lines, props.band, props.labels, props.marks]);

  const select = (range: Range | null) => {
    choose(range);
    const u = plot.current;
    if (!u) return;
    const [left, right] = range ? [u.valToPos(range.startMs / 1000, "x"), u.valToPos(range.endMs / 1000, "x")] : [0, 0];
    u.setSelect({ left, width: right - left, top: 0, height: u.over.clientHeight }, false);
  };

  const onKeyDown = (event: KeyboardEvent) => {
    const u = plot.current;
    if (!u || !props.onBrush) return;
    const [low, high] = [(u.scales.x?.min ?? 0) * 1000, (u.scales.x?.max ?? 0) * 1000];
    const step = (high - low) / (event.ctrlKey ? 100 : 20);
    const range = chosen ?? { startMs: low + (high - low) * 0.45, endMs: low + (high - low) * 0.55 };
    const inside = (ms: number) => Math.min(Math.max(ms, low), high);
    const by = event.key === "ArrowRight" ? step : event.key === "ArrowLeft" ? -step : 0;
    if (event.key === "Enter" && chosen) props.onBrush({ startMs: Math.round(chosen.startMs), endMs: Math.round(chosen.endMs) });
    else if (event.key === "Escape" && chosen) select(null);
    else if (event.key === " " || (by && !chosen)) select(range);
    else if (by && event.shiftKey) select({ startMs: range.startMs, endMs: Math.max(inside(range.endMs + by), range.startMs + 1000) });
    else if (by) {
      const moved = Math.max(low - range.startMs, Math.min(by, high - range.endMs));
      select({ startMs: range.startMs + moved, endMs: range.endMs + moved });
    } else return;
    event.preventDefault();
    event.stopPropagation();
  };

  const hint = chosen
    ? `${time(chosen.startMs)} to ${time(chosen.endMs)}, ${span(chosen.endMs - chosen.startMs)}; Enter labels it`
    : "arrows choose a range, Shift widens it, Enter labels it";
  return (
    <figure class={props.small ? "chart small" : "chart"}>
      <figcaption>
        <b>{vis(props.title)}</b>
        {spelled(props.unit) && !props.title.toLowerCase().includes(props.unit) && <span class="dim">{props.unit}</span>}
        {props.lines.length > 1 && (
          <span class="legend">
            {props.lines.map((line, place) => (
              <span key={line.label}>
                <i class={`swatch line${(place % COLOURS.length) + 1}`} />
                {vis(line.label)}
              </span>
            ))}
          </span>
        )}
        {props.band && (
          <span class="normal">
            <i class="swatch band" /> normal {quantity(props.band.low, props.unit)} – {quantity(props.band.high, props.unit)}
          </span>
        )}
      </figcaption>
      <div
        class="plot"
        ref={box}
        tabIndex={0}
        role="group"
        aria-roledescription="chart"
        aria-label={`${vis(spoken(props))}. ${props.onBrush ? hint : ""}`}
        onKeyDown={onKeyDown}
      />
      {chosen && props.onBrush && (
        <div class="brushed" role="status">
          {hint}
        </div>
      )}
    </figure>
  );
}
