// Charts of what was, drawn by uPlot. Each has its figures as a table too, for those who
// do not see it.

import { count, el, money, percent } from './format.js';

const colours = (i) => getComputedStyle(document.documentElement).getPropertyValue(`--line-${i % 8}`).trim();
const ink = () => getComputedStyle(document.documentElement).getPropertyValue('--quiet').trim();
const grid = () => getComputedStyle(document.documentElement).getPropertyValue('--edge').trim();

const tokens = (key) => (p) => p.usage?.[key] ?? 0;

// What is drawn: a title, what its values are, and its lines as [name, values].
const plans = [
  { title: 'Use of the 5-hour windows', admin: false, words: percent, share: true, lines: (h) => h.accounts.map((a) => [a.name, a.five_hour]) },
  { title: 'Use of the week', admin: false, words: percent, share: true, lines: (h) => h.accounts.map((a) => [a.name, a.seven_day]) },
  { title: 'Tokens', admin: true, words: count, lines: (h) => [
    ['in', h.points.map(tokens('input_tokens'))], ['written to cache', h.points.map(tokens('cache_write_tokens'))], ['from cache', h.points.map(tokens('cache_read_tokens'))], ['out', h.points.map(tokens('output_tokens'))]] },
  { title: 'Cost', admin: true, words: money, axis: (v) => `$${Number(v.toPrecision(2))}`, lines: (h) => [['US dollars', h.points.map((p) => p.cost_usd ?? 0)]] },
  { title: 'Requests', admin: true, words: count, lines: (h) => [['all', h.points.map((p) => p.requests ?? 0)], ['asked again', h.points.map((p) => p.retries ?? 0)], ['not served', h.points.map((p) => p.failed ?? 0)]] },
  { title: 'Waiting in line', admin: false, words: count, lines: (h) => [['at most', h.points.map((p) => p.waiting)]] },
];

// lonely are the points that no line goes through, since nothing is known on either side.
const lonely = (u, i) => u.data[i].flatMap((v, j, all) => (v !== null && (all[j - 1] ?? null) === null && (all[j + 1] ?? null) === null ? [j] : []));

const maxLegend = 8; // lines that are named below a chart; the table names all

export class Charts {
  constructor(node) {
    this.node = node;
    this.plots = [];
    this.seen = null;
    new ResizeObserver(() => this.resize()).observe(node);
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.seen && this.show(...this.seen));
  }

  show(history, admin) {
    this.seen = [history, admin];
    const open = new Map([...this.node.querySelectorAll('details[open]')].map((d) => [d.dataset.of, d.querySelector('.scroll').scrollTop]));
    this.plots.forEach((p) => p.destroy());
    this.plots = [];
    this.node.replaceChildren();
    for (const plan of plans.filter((p) => admin || !p.admin)) {
      const lines = plan.lines(history);
      const holder = el('figure', { class: 'chart' }, el('figcaption', {}, plan.title));
      this.node.append(holder);
      if (!lines.some(([, values]) => values.some((v) => v !== null && v !== 0))) {
        holder.append(el('p', { class: 'quiet' }, 'Nothing in this time.'));
        continue;
      }
      const canvas = el('div', { role: 'img', 'aria-label': this.summary(plan, lines) });
      holder.append(canvas);
      this.plots.push(this.plot(canvas, plan, history, lines));
      holder.append(this.legend(lines), this.table(plan, history, lines, open.get(plan.title)));
    }
  }

  /** summary says the chart in one sentence. */
  summary(plan, lines) {
    const last = lines.map(([name, values]) => [name, values.findLast((v) => v !== null)]).filter(([, v]) => v !== undefined);
    return `${plan.title}. Last: ${last.map(([name, v]) => `${name} ${plan.words(v)}`).join(', ')}`;
  }

  width() {
    const columns = getComputedStyle(this.node).gridTemplateColumns.split(' ');
    return Math.max(200, Math.floor(parseFloat(columns[0])) - 26);
  }

  plot(canvas, plan, history, lines) {
    const axis = { stroke: ink(), grid: { stroke: grid(), width: 1 }, ticks: { show: false }, font: '12px system-ui' };
    const scale = plan.share ? { range: (_, __, max) => [0, Math.max(1, max)] } : { range: (_, __, max) => [0, max > 0 ? max * 1.1 : 1] };
    const clock = new Intl.DateTimeFormat(undefined, history.range === 'week' ? { weekday: 'short', day: 'numeric' } : { hour: '2-digit', minute: '2-digit' });
    const times = { ...axis, space: 60, values: (_, ticks) => ticks.map((t) => clock.format(new Date(t * 1000))) };
    return new window.uPlot({
      width: this.width(), height: 170, padding: [8, 24, 0, 0], legend: { show: false }, cursor: { show: false }, scales: { y: scale },
      axes: [times, { ...axis, size: 62, values: (_, ticks) => ticks.map((v) => (plan.axis ?? plan.words)(v)) }],
      series: [{}, ...lines.map(([name], i) => ({ label: name, stroke: colours(i), width: 2, dash: i >= 8 ? [6, 4] : undefined, spanGaps: false, points: { size: 4, filter: lonely } }))],
    }, [history.points.map((p) => p.t_ms / 1000), ...lines.map(([, values]) => values)], canvas);
  }

  legend(lines) {
    if (lines.length < 2) return '';
    const items = lines.slice(0, maxLegend).map(([name], i) => {
      const swatch = el('span', { class: 'swatch', 'aria-hidden': 'true' });
      swatch.style.setProperty('background', colours(i));
      return el('li', {}, swatch, name);
    });
    if (lines.length > maxLegend) items.push(el('li', {}, `and ${lines.length - maxLegend} more`));
    return el('ul', { class: 'swatches' }, ...items);
  }

  table(plan, history, lines, open) {
    const body = el('div', { class: 'scroll', role: 'region', tabindex: 0, 'aria-label': `Figures: ${plan.title}` });
    const details = el('details', { 'data-of': plan.title }, el('summary', {}, 'Figures'), body);
    const clock = new Intl.DateTimeFormat(undefined, { weekday: history.range === 'week' ? 'short' : undefined, hour: '2-digit', minute: '2-digit' });
    const fill = () => {
      if (!details.open || body.firstChild) return;
      const head = el('tr', {}, el('th', { scope: 'col' }, 'From'), ...lines.map(([name]) => el('th', { scope: 'col', class: 'n' }, name)));
      const rows = history.points.map((p, i) => el('tr', {}, el('th', { scope: 'row' }, clock.format(new Date(p.t_ms))), ...lines.map(([, values]) => el('td', { class: 'n' }, values[i] === null ? '–' : plan.words(values[i])))));
      body.append(el('table', {}, el('thead', {}, head), el('tbody', {}, ...rows.reverse())));
    };
    details.addEventListener('toggle', fill);
    if (open !== undefined) {
      details.open = true;
      fill();
      requestAnimationFrame(() => (body.scrollTop = open));
    }
    return details;
  }

  resize() {
    for (const p of this.plots) if (Math.abs(p.width - this.width()) > 1) p.setSize({ width: this.width(), height: 170 });
  }
}
