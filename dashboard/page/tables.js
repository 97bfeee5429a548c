// Requests as they end, why each went where it did, and what people used.

import { at, clock, count, el, money, percent, setText, span, took } from './format.js';

const maxRows = 200;

const verdicts = {
  served: 'Served', client_gone: 'The client left', exhausted: 'No account open', unauthorized: 'Wrong key', limited: 'Over a limit',
};
const verdictWords = (v) => verdicts[v] ?? `${v.charAt(0).toUpperCase()}${v.slice(1)}`.replaceAll('_', ' ');

/** tokensIn is the whole prompt, cached or not; tokensOut the answer. */
const tokensIn = (u) => (u.input_tokens ?? 0) + (u.cache_read_tokens ?? 0) + (u.cache_write_tokens ?? 0);
const tokensOut = (u) => u.output_tokens ?? 0;

/** Requests keeps the table of the last requests, newest first. */
export class Requests {
  constructor(body, empty, explain) {
    this.body = body;
    this.empty = empty;
    this.explain = explain;
    this.held = [];
    this.still = false;
    this.known = new Set();
  }

  /** hold keeps the table as it is while somebody reads it. */
  hold(still) {
    this.still = still;
    if (!still) this.add([], {});
  }

  add(records, s) {
    for (const r of records) {
      if (this.known.has(r.id)) continue;
      this.known.add(r.id);
      this.held.push(r);
    }
    if (this.still || this.held.length === 0) return;
    const rows = this.held.splice(0).map((r) => this.row(r, s));
    this.body.prepend(...rows.reverse());
    while (this.body.rows.length > maxRows) {
      const last = this.body.rows[this.body.rows.length - 1];
      this.known.delete(last.dataset.id);
      last.remove();
    }
    this.empty.hidden = true;
  }

  row(r) {
    const fine = r.verdict === 'served';
    const ended = Date.parse(r.time) + r.duration_ms;
    const cell = (text, kind = '') => el('td', { class: kind || null }, text);
    return el('tr', { 'data-id': r.id, 'data-fine': String(fine) },
      cell(clock(ended)), cell(r.user || '–', 'admin'), cell(r.account || '–'), cell(r.model || r.endpoint),
      cell(count(tokensIn(r.usage)), 'n wide'), cell(count(tokensOut(r.usage)), 'n wide'), cell(money(r.cost_usd), 'n wide'), cell(took(r.duration_ms), 'n'),
      cell(String(r.attempts), 'n wide'), el('td', { class: 'became', title: fine ? null : r.reason }, verdictWords(r.verdict), fine || !r.reason ? '' : el('span', { class: 'quiet' }, ` ${r.reason}`)),
      el('td', {}, el('button', { type: 'button', class: 'small', 'aria-label': `Why request of ${clock(ended)} went to ${r.account || 'nobody'}`, onclick: () => this.explain(r) }, 'Why')));
  }
}

/** decisions shows how an account was chosen. */
export function decisions(answer) {
  if (!answer.decisions.length) return [el('p', {}, `${answer.note ?? 'Nothing was decided'}.`)];
  return answer.decisions.map((d, i) => {
    const rows = d.accounts.map((a) => el('tr', { 'data-chosen': String(a.name === d.account) },
      el('th', { scope: 'row' }, a.name), el('td', {}, a.name === d.account ? 'chosen' : a.open ? 'open' : 'closed'), el('td', { class: 'n' }, a.open && a.score !== null ? a.score.toFixed(3) : '–'),
      el('td', { class: 'n' }, a.parts.five_hour ? percent(a.parts.five_hour.used) : '–'), el('td', { class: 'n' }, a.parts.seven_day ? percent(a.parts.seven_day.used) : '–'), el('td', {}, a.words)));
    const title = answer.decisions.length > 1 ? `Choice ${i + 1}, ${clock(Date.parse(d.time))}` : clock(Date.parse(d.time));
    return el('section', {}, el('h3', {}, title), el('p', {}, `${d.words}.`),
      el('div', { class: 'scroll', role: 'region', 'aria-label': `Accounts of choice ${i + 1}`, tabindex: 0 }, el('table', {},
        el('thead', {}, el('tr', {}, ...['Account', 'Was', 'Score', '5 hours', 'Week', 'Why'].map((h, j) => el('th', { scope: 'col', class: j > 1 && j < 5 ? 'n' : null }, h)))), el('tbody', {}, ...rows))));
  });
}

/** People keeps the table of what people used today. */
export class People {
  constructor(body, filter) {
    this.body = body;
    this.filter = filter;
    this.rows = [];
    this.status = null;
    filter.addEventListener('input', () => this.draw());
  }

  /** today takes the rows of GET /usage?by=person of this day. */
  today(rows) {
    this.rows = rows;
    this.draw();
  }

  show(s) {
    this.status = s;
    this.draw();
  }

  draw() {
    if (!this.status) return;
    const used = new Map(this.rows.map((r) => [r.person ?? '', r]));
    const all = new Map(this.status.people.map((p) => [p.name, p]));
    for (const name of used.keys()) if (!all.has(name)) all.set(name, { name });
    const looked = this.filter.value.trim().toLowerCase();
    const list = [...all.values()].filter((p) => p.name.toLowerCase().includes(looked));
    list.sort((a, b) => (used.get(b.name)?.total_tokens ?? 0) - (used.get(a.name)?.total_tokens ?? 0) || a.name.localeCompare(b.name));
    this.body.replaceChildren(...list.map((p) => this.row(p, used.get(p.name))));
  }

  row(p, u) {
    const n = (text, kind = '') => el('td', { class: `n ${kind}` }, text);
    const into = u ? u.input_tokens + u.cache_read_tokens + u.cache_write_5m_tokens + u.cache_write_1h_tokens : 0;
    return el('tr', {}, el('th', { scope: 'row' }, p.name || 'no name', p.in_flight ? el('span', { class: 'quiet' }, ` ${p.in_flight} under way`) : ''), n(count(u?.requests ?? 0)), n(count(into)),
      n(into ? percent(u.cache_read_tokens / into) : '–', 'wide'), n(count(u?.output_tokens ?? 0)), n(money(u ? u.cost_usd : 0)), el('td', {}, ...(p.budgets ?? []).map((b) => this.budget(b))));
  }

  budget(b) {
    const [used, most, word] = b.usd !== undefined ? [b.used_usd, b.usd, money] : [b.used_tokens, b.tokens, (x) => `${count(x)} tokens`];
    const text = `${word(used)} of ${word(most)} a ${b.per}`;
    return el('div', { class: b.reached ? 'budget reached' : 'budget' }, b.reached ? `${text}: used up until ${at(b.ends_ms, this.status.now_ms)} (in ${span(b.ends_ms - this.status.now_ms)})` : text);
  }
}

/** connectLines are what developers paste. */
export function connectLines(url, admin) {
  const model = 'claude-haiku-5-5';
  const list = [
    ['Claude Code', `export ANTHROPIC_BASE_URL=${url}\nexport ANTHROPIC_AUTH_TOKEN=YOUR_KEY\nclaude`],
    ['Python', `from anthropic import Anthropic\nclient = Anthropic(base_url="${url}", api_key="YOUR_KEY")`],
    ['TypeScript', `import Anthropic from "@anthropic-ai/sdk";\nconst client = new Anthropic({ baseURL: "${url}", apiKey: "YOUR_KEY" });`],
    ['curl', `curl ${url}/v1/messages/count_tokens -H "x-api-key: YOUR_KEY" -H "anthropic-version: 2023-06-01" -H "content-type: application/json" \\\n  -d '{"model":"${model}","messages":[{"role":"user","content":"Hello"}]}'`],
  ];
  return list.map(([name, text]) => {
    const copied = el('span', { class: 'quiet', role: 'status' });
    const copy = el('button', { type: 'button', class: 'small', 'aria-label': `Copy the lines for ${name}`, onclick: async () => {
      try {
        await navigator.clipboard.writeText(text);
        setText(copied, 'Copied');
      } catch {
        setText(copied, 'Copying is not allowed here; mark the text instead');
      }
    } }, 'Copy');
    return el('div', { class: 'lines' }, el('div', { class: 'bar' }, el('h3', {}, name), copied, copy), el('pre', { tabindex: 0, role: 'region', 'aria-label': `Lines for ${name}` }, text));
  });
}
