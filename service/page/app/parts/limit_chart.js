/** A histogram with limits that are moved by mouse, finger or arrow keys. */
import { html, useEffect, useRef, useState } from "../lib/html.js";
import { formatValue, roundStep, roundTo, ticks } from "../lib/limits.js";
import { formatNumber } from "../lib/texts.js";

/** @typedef {{from: number, to: number, count: number}} Bar */
/** @typedef {{name: string, title: string, label: string, tone: string, value: number, inForce: number}} LimitLine `title`: for readers of a screen */
/** @typedef {{tone: string, shape: "disc" | "cross", bars: Bar[]}} MarkRow */

const ROW = 22;
const MARKS = 18;
const AXIS = 24;
const TAIL = 44;
/** Finest step of a drag, as a part of the axis. */
const STEPS = 500;
/** Narrower bars are put together. */
const LEAST_BAR = 5;

/**
 * @param {object} props
 * @param {string} props.title what the chart shows, for readers of a screen
 * @param {number} props.low
 * @param {number} props.high
 * @param {Bar[]} props.bars
 * @param {Bar | null} [props.tail] what lies above `high`
 * @param {(value: number) => string} props.toneOf verdict of a value under these limits: a class of the bar
 * @param {LimitLine[]} props.lines
 * @param {MarkRow[]} [props.marks]
 * @param {number} [props.height] of the bars, in pixels
 * @param {((name: string, value: number) => void) | null} props.onMove null: they cannot be moved
 */
export function LimitChart({ title, low, high, bars, tail = null, toneOf, lines, marks = [], height = 180, onMove }) {
  const [box, width] = useWidth();
  const left = 40;
  const right = width - 14 - (tail ? TAIL : 0);
  const top = ROW * lines.length + 4;
  const bottom = top + height;
  const total = bottom + AXIS + marks.length * MARKS;
  /** @param {number} value */
  const x = (value) => left + ((Math.min(Math.max(value, low), high) - low) / (high - low)) * (right - left);
  const joined = width > 0 ? join(bars, Math.ceil((LEAST_BAR * bars.length) / Math.max(right - left, 1))) : bars;
  const most = Math.max(1, tail?.count ?? 0, ...joined.map((one) => one.count));
  /** Square roots: a few parts beside a peak of thousands stay visible. @param {number} count */
  const y = (count) => bottom - Math.sqrt(count / most) * height;
  const step = roundStep((high - low) / STEPS);
  return html`<div class="limit-chart" ref=${box}>
    ${
      width > 0 &&
      html`<svg width=${width} height=${total} role="group" aria-label=${title}>
      ${countTicks(most, y).map(
        (count) => html`<g key=${`count-${count}`} aria-hidden="true">
          <line class="chart-grid" x1=${left} x2=${width - 14} y1=${y(count)} y2=${y(count)} />
          <text class="chart-text" x=${left - 6} y=${y(count) + 4} text-anchor="end">${formatNumber(count)}</text>
        </g>`,
      )}
      <g aria-hidden="true">
        ${joined.map((one) => bar(one, x(one.from), x(one.to), y, bottom, toneOf((one.from + one.to) / 2)))}
        ${tail && bar(tail, right + 16, right + TAIL, y, bottom, toneOf(tail.to))}
        ${tail && html`<text class="chart-text" x=${right + TAIL} y=${bottom + 17} text-anchor="end">> ${formatValue(high)}</text>`}
        <line class="chart-axis" x1=${left} x2=${right} y1=${bottom} y2=${bottom} />
        ${ticks(low, high, (right - left) / 90)
          .filter((one) => !tail || x(one) < right - 20)
          .map(
            (value) => html`<g key=${`tick-${value}`}>
              <line class="chart-axis" x1=${x(value)} x2=${x(value)} y1=${bottom} y2=${bottom + 4} />
              <text class="chart-text" x=${x(value)} y=${bottom + 17} text-anchor="middle">${formatValue(value)}</text>
            </g>`,
          )}
        ${marks.map((row, place) =>
          row.bars
            .filter((one) => one.count > 0)
            .map((one) => {
              const middle =
                one === tail || one.from >= high ? right + 16 + (TAIL - 16) / 2 : x((one.from + one.to) / 2);
              return mark(row, middle, bottom + AXIS + (place + 0.5) * MARKS, one.count, `${row.tone}-${one.from}`);
            }),
        )}
      </g>
      ${lines
        .filter((line) => line.value !== line.inForce)
        .map((line) => {
          const at = x(line.inForce);
          return html`<line key=${`was-${line.name}`} class=${`chart-was tone-${line.tone}`} x1=${at} x2=${at} y1=${top} y2=${bottom} />`;
        })}
      ${lines.map(
        (line, place) =>
          html`<${Line}
            key=${line.name}
            line=${line}
            x=${x(line.value)}
            row=${place}
            rows=${lines.length}
            bottom=${bottom}
            width=${width}
            low=${low}
            high=${high}
            step=${step}
            onMove=${onMove}
            valueAt=${(/** @type {number} */ px) => roundTo(low + ((px - left) / (right - left)) * (high - low), step)}
          />`,
      )}
    </svg>`
    }
  </div>`;
}

/**
 * Return bars, so many together.
 * @param {Bar[]} bars
 * @param {number} size
 */
function join(bars, size) {
  const groups = Array.from({ length: Math.ceil(bars.length / size) }, (_, place) =>
    bars.slice(place * size, (place + 1) * size),
  );
  return groups.map((group) => ({
    from: group[0].from,
    to: group[group.length - 1].to,
    count: group.reduce((sum, one) => sum + one.count, 0),
  }));
}

/** Return a number without an exponent, as ARIA wants it. @param {number} value */
function plain(value) {
  return value.toFixed(6);
}

/** Return an element and its width in pixels, at each change of it. */
function useWidth() {
  const element = useRef(/** @type {HTMLDivElement | null} */ (null));
  const [width, setWidth] = useState(0);
  useEffect(() => {
    const found = element.current;
    if (!found) return undefined;
    setWidth(Math.floor(found.clientWidth));
    const observer = new ResizeObserver(() => setWidth(Math.floor(found.clientWidth)));
    observer.observe(found);
    return () => observer.disconnect();
  }, []);
  return /** @type {const} */ ([element, width]);
}

/**
 * @param {Bar} one
 * @param {number} from
 * @param {number} to
 * @param {(count: number) => number} y
 * @param {number} bottom
 * @param {string} tone
 */
function bar(one, from, to, y, bottom, tone) {
  if (!one.count) return null;
  const height = Math.max(bottom - y(one.count), 2);
  const width = Math.max(to - from - 1, 1);
  return html`<rect key=${one.from} class=${`chart-bar tone-${tone}`} x=${from} y=${bottom - height} width=${width} height=${height}>
    <title>${`${formatValue(one.from)} – ${formatValue(one.to)}: ${formatNumber(one.count)}`}</title>
  </rect>`;
}

/**
 * @param {MarkRow} row
 * @param {number} x
 * @param {number} y
 * @param {number} count
 * @param {string} key
 */
function mark(row, x, y, count, key) {
  const r = Math.min(3 + Math.sqrt(count) / 2, 7);
  const shape =
    row.shape === "disc"
      ? html`<circle cx=${x} cy=${y} r=${r} />`
      : html`<path d=${`M${x - r} ${y - r}L${x + r} ${y + r}M${x + r} ${y - r}L${x - r} ${y + r}`} />`;
  return html`<g key=${key} class=${`chart-mark tone-${row.tone}`}>${shape}<title>${formatNumber(count)}</title></g>`;
}

/**
 * Return 1, 10, 100 … up to the largest count, those that do not touch.
 * @param {number} most
 * @param {(count: number) => number} y
 */
function countTicks(most, y) {
  const powers = Array.from({ length: Math.floor(Math.log10(most)) + 1 }, (_, power) => 10 ** power);
  return [...powers, most].filter((one, place, all) => all.slice(place + 1).every((above) => y(one) - y(above) > 16));
}

/**
 * @param {object} props
 * @param {LimitLine} props.line
 * @param {number} props.x
 * @param {number} props.row
 * @param {number} props.rows
 * @param {number} props.bottom
 * @param {number} props.width
 * @param {number} props.low
 * @param {number} props.high
 * @param {number} props.step
 * @param {((name: string, value: number) => void) | null} props.onMove
 * @param {(px: number) => number} props.valueAt
 */
function Line({ line, x, row, rows, bottom, width, low, high, step, onMove, valueAt }) {
  /** From the pointer to the line, in pixels, while it is held. */
  const grabbed = useRef(/** @type {number | null} */ (null));
  const text = `${line.label} ${formatValue(line.value)}`;
  const half = text.length * 4 + 10;
  const middle = Math.min(Math.max(x, half + 2), width - half - 2);
  const top = row * ROW;
  /** @param {PointerEvent} event */
  const grab = (event) => {
    if (!onMove) return;
    const element = /** @type {SVGElement} */ (event.currentTarget);
    element.setPointerCapture(event.pointerId);
    element.focus();
    grabbed.current = x - event.clientX;
    event.preventDefault();
  };
  /** @param {PointerEvent} event */
  const drag = (event) => {
    if (grabbed.current === null || !onMove) return;
    onMove(line.name, Math.min(Math.max(valueAt(event.clientX + grabbed.current), low), high));
  };
  const drop = () => {
    grabbed.current = null;
  };
  /** @param {KeyboardEvent} event */
  const press = (event) => {
    const moves = /** @type {Record<string, number>} */ ({
      ArrowLeft: -1,
      ArrowDown: -1,
      ArrowRight: 1,
      ArrowUp: 1,
      PageDown: -10,
      PageUp: 10,
    });
    const by = moves[event.key];
    if (by === undefined || !onMove) return;
    event.preventDefault();
    event.stopPropagation();
    onMove(line.name, roundTo(line.value + by * (event.shiftKey ? 10 : 1) * step, step));
  };
  // The grips of two lines that are close reach to different sides.
  const reach = rows === 1 ? [22, 22] : row === 0 ? [36, 8] : [8, 36];
  return html`<g
    class=${`chart-limit tone-${line.tone} ${onMove ? "movable" : ""}`}
    role="slider"
    tabindex=${onMove ? 0 : undefined}
    aria-label=${line.title}
    aria-valuemin=${plain(low)}
    aria-valuemax=${plain(high)}
    aria-valuenow=${plain(line.value)}
    aria-valuetext=${formatValue(line.value)}
    aria-disabled=${onMove ? undefined : "true"}
    onPointerDown=${grab}
    onPointerMove=${drag}
    onPointerUp=${drop}
    onPointerCancel=${drop}
    onKeyDown=${press}
  >
    <rect class="chart-grip" x=${x - reach[0]} y=${top} width=${reach[0] + reach[1]} height=${bottom - top} />
    <line class="chart-limit-line" x1=${x} x2=${x} y1=${top + ROW - 4} y2=${bottom + 6} />
    <rect class="chart-limit-plate" x=${middle - half} y=${top} width=${2 * half} height=${ROW - 2} rx="4" />
    <text class="chart-limit-text" x=${middle} y=${top + 15} text-anchor="middle">${text}</text>
  </g>`;
}
