// Words and figures for people. Everything that comes from outside goes into the page as
// text, never as markup.

/** el makes an element. Properties that begin with on are listeners; class, data-* and aria-* are attributes. */
export function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? '' : value);
  }
  node.append(...children.filter((c) => c !== null && c !== undefined && c !== false));
  return node;
}

/** setText changes a text only when it differs, so that screen readers are not told again. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

const compact = new Intl.NumberFormat(undefined, { notation: 'compact', maximumFractionDigits: 1 });
const whole = new Intl.NumberFormat();
export const count = (n) => (n >= 100000 ? compact.format(n) : whole.format(n ?? 0));
export const percent = (share) => `${Math.round(share * 100)} %`;

export function money(dollars) {
  if (dollars === undefined || dollars === null) return '–';
  if (dollars !== 0 && Math.abs(dollars) < 0.01) return '< $0.01';
  return `$${dollars.toFixed(2)}`;
}

/** span is a length of time, of milliseconds. */
export function span(ms) {
  const s = Math.max(0, Math.round(ms / 1000));
  if (s < 90) return `${s} s`;
  const min = Math.round(s / 60);
  if (min < 90) return `${min} min`;
  const h = Math.floor(min / 60);
  if (h < 48) return min % 60 ? `${h} h ${min % 60} min` : `${h} h`;
  const d = Math.floor(h / 24);
  return h % 24 ? `${d} d ${h % 24} h` : `${d} d`;
}

/** took is the duration of a request. */
export const took = (ms) => (ms < 1000 ? `${ms} ms` : ms < 100000 ? `${(ms / 1000).toFixed(1)} s` : span(ms));

const hm = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit' });
const hms = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit', second: '2-digit' });
const day = new Intl.DateTimeFormat(undefined, { weekday: 'short', day: 'numeric', month: 'short', hour: '2-digit', minute: '2-digit' });

/** at names a moment: today by its clock, other days with their date. */
export function at(ms, now) {
  const t = new Date(ms);
  return t.toDateString() === new Date(now).toDateString() ? hm.format(t) : day.format(t);
}

export const clock = (ms) => hms.format(new Date(ms));

const windowNames = { '5h': '5 hours', '7d': 'Week' };

/** windowName says what a window is: 7d_opus is the week of one model. */
export function windowName(name) {
  if (windowNames[name]) return windowNames[name];
  if (name.startsWith('7d_')) return `Week, ${name.slice(3)}`;
  return name;
}
