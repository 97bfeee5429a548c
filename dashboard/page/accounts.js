// What stands above the tables: how the pool is, and each account with its windows.

import { at, count, el, percent, setText, span, windowName } from './format.js';

/** sentences says how the pool is and how long it lasts. */
export function sentences(s) {
  const { accounts, open } = s.capacity;
  const line = s.waiting ? ` ${s.waiting === 1 ? '1 request waits' : `${count(s.waiting)} requests wait`} in line.` : '';
  const headline =
    open === 0 ? `No account can serve now.${line}` : `${open === accounts ? (accounts === 1 ? 'The account' : `All ${accounts} accounts`) : `${open} of ${accounts} accounts`} can serve now.${line}`;
  const { dry_ms: dry, reopens_ms: reopens, words } = s.forecast;
  const opens = reopens ? `the next account opens at ${at(reopens, s.now_ms)} (in ${span(reopens - s.now_ms)})` : 'when one opens again is not known';
  let forecast = `${words.charAt(0).toUpperCase()}${words.slice(1)}.`;
  if (open === 0) forecast = `${opens.charAt(0).toUpperCase()}${opens.slice(1)}.`;
  else if (dry) forecast = `At the present pace no account will be open from ${at(dry, s.now_ms)} (in ${span(dry - s.now_ms)}); ${opens}.`;
  return { headline, forecast };
}

const why = {
  '5h': 'its 5-hour window is used up',
  '7d': 'its week is used up',
};

/** state says how an account is: a kind for colour and sign, a label, and a sentence. */
export function state(a, now) {
  const whole = a.benches.find((b) => !b.family);
  const because = (b) => (b ? (why[b.window] ?? (b.window?.startsWith('7d_') ? `its week for ${b.window.slice(3)} is used up` : b.reason)) : a.reason);
  const until = (b) => `until ${at(b.until_ms, now)} (in ${span(b.until_ms - now)})${b.source === 'guess' ? ', as a guess' : ''}`;
  if (a.status === 'reauth_required') {
    return { kind: 'bad', sign: '✕', label: 'Needs a login', text: `Out until somebody logs it in: ${a.reason || 'its credential is no longer accepted'}.` };
  }
  if (a.status === 'drained') return { kind: 'off', sign: '◌', label: 'Drained', text: `Out until it is undrained: ${a.reason}.` };
  if (a.status === 'cooling' && whole) return { kind: 'out', sign: '◷', label: 'Out', text: `Out ${until(whole)}: ${because(whole)}.` };
  const parts = a.benches.filter((b) => b.family);
  if (parts.length) {
    return { kind: 'part', sign: '◐', label: 'Open in part', text: parts.map((b) => `Not for ${b.family} ${until(b)}: ${because(b)}.`).join(' ') };
  }
  return { kind: 'good', sign: '●', label: 'Open', text: '' };
}

/** meter is a bar with the mark of the even pace. */
function meter(label, w, now) {
  const used = w.utilization;
  const words = [used === null ? 'not known' : `${percent(used)} used`];
  if (w.pace !== null) words.push(`even use would be ${percent(w.pace)}`);
  if (w.reset_ms > now) words.push(`starts anew in ${span(w.reset_ms - now)}`);
  const fill = el('span', { class: 'fill' });
  fill.style.setProperty('--part', String(Math.min(1, used ?? 0)));
  const bar = el('span', {
    class: 'meter', role: 'meter', 'aria-label': label, 'aria-valuemin': 0, 'aria-valuemax': 100, 'aria-valuenow': Math.min(100, Math.round((used ?? 0) * 100)), 'aria-valuetext': words.join(', '),
    'data-level': used === null ? 'none' : used >= 1 ? 'full' : w.pace !== null && used > w.pace + 0.1 ? 'fast' : 'fine',
  }, fill);
  if (w.pace !== null && w.pace !== undefined) {
    const mark = el('span', { class: 'mark' });
    mark.style.setProperty('--part', String(Math.min(1, w.pace)));
    bar.append(mark);
  }
  return el('div', { class: 'window', title: words.join(', ') },
    el('span', { class: 'name' }, label), bar, el('span', { class: 'used' }, used === null ? '–' : percent(used)),
    el('span', { class: 'reset' }, w.reset_ms > now ? `new in ${span(w.reset_ms - now)}` : ''));
}

export function capacity(s) {
  const of = (label, left) => meter(label, { utilization: 1 - left, pace: null, reset_ms: null }, s.now_ms);
  if (s.capacity.five_hour_left === null) return [];
  return [of('All accounts, 5 hours', s.capacity.five_hour_left), of('All accounts, week', s.capacity.seven_day_left)];
}

/** order puts the main windows first. */
const order = (name) => (name === '5h' ? '0' : name === '7d' ? '1' : `2${name}`);

function facts(a, now) {
  const list = [`${count(a.in_flight)} in flight`];
  if (a.cache_hit_ratio !== null) list.push(`${percent(a.cache_hit_ratio)} of prompts from cache`);
  list.push(`${count(a.requests)} requests`, `${count(a.total_tokens)} tokens`);
  if (a.last_used_ms) list.push(`last used ${now - a.last_used_ms < 2000 ? 'now' : `${span(now - a.last_used_ms)} ago`}`);
  return list.join(' · ');
}

function notes(a) {
  const list = [];
  if (a.login_warning) list.push(a.login_warning);
  if (a.refresh_error) list.push(`Refreshing its token failed: ${a.refresh_error}`);
  if (a.shares_limits_with?.length) list.push(`Shares its limits with ${a.shares_limits_with.join(', ')}.`);
  return list;
}

/** actionsOf are what can be done with an account now. */
export function actionsOf(a, pinned) {
  const byHand = a.benches.some((b) => b.source === 'operator' && b.until_ms);
  const list = [pinned ? 'unpin' : 'pin', a.drained ? 'undrain' : 'drain'];
  if (!a.drained) list.push('bench');
  if (a.benches.some((b) => b.until_ms) || byHand) list.push('unbench');
  if (a.kind === 'oauth' || a.kind === 'federation') list.push('refresh');
  return list;
}

const actionNames = { pin: 'Pin', unpin: 'Unpin', drain: 'Drain', undrain: 'Undrain', bench: 'Bench', unbench: 'Un-bench', refresh: 'Refresh now' };

/** Accounts keeps the list of accounts in the page, one card each. */
export class Accounts {
  constructor(list, act) {
    this.list = list;
    this.act = act;
    this.cards = new Map();
  }

  show(s) {
    const gone = new Set(this.cards.keys());
    for (const a of s.accounts) {
      gone.delete(a.name);
      let card = this.cards.get(a.name);
      if (!card) {
        card = this.card(a.name);
        this.cards.set(a.name, card);
      }
      this.fill(card, a, s);
      this.list.append(card.node);
    }
    for (const name of gone) {
      this.cards.get(name).node.remove();
      this.cards.delete(name);
    }
  }

  card(name) {
    const part = {
      badge: el('span', { class: 'badge' }), pin: el('span', { class: 'badge pinned', hidden: true }, 'Pinned'), kind: el('span', { class: 'quiet' }), text: el('p', { class: 'reason' }),
      windows: el('div', { class: 'windows' }), facts: el('p', { class: 'quiet facts' }), notes: el('ul', { class: 'notes' }), buttons: el('div', { class: 'buttons' }),
    };
    part.node = el('li', { class: 'card', 'data-account': name },
      el('div', { class: 'bar' }, el('h3', {}, name), part.kind, part.pin, part.badge), part.text, part.windows, part.facts, part.notes, part.buttons);
    return part;
  }

  fill(card, a, s) {
    const now = s.now_ms;
    const is = state(a, now);
    const pinned = s.pinned === a.name;
    card.node.dataset.state = is.kind;
    card.badge.dataset.kind = is.kind;
    setText(card.badge, `${is.sign} ${is.label}`);
    setText(card.text, is.text);
    setText(card.kind, [a.plan, a.kind.replace('_', ' '), a.email].filter(Boolean).join(', '));
    card.pin.hidden = !pinned;
    const names = Object.keys(a.windows).sort((x, y) => (order(x) < order(y) ? -1 : 1));
    card.windows.replaceChildren(...names.map((n) => meter(windowName(n), a.windows[n], now)));
    setText(card.facts, facts(a, now));
    const told = notes(a);
    if (card.notes.textContent !== told.join('')) card.notes.replaceChildren(...told.map((n) => el('li', {}, n)));
    card.notes.hidden = told.length === 0;
    this.buttons(card, s.admin ? actionsOf(a, pinned) : [], a.name);
  }

  // Buttons that stay the same are left alone: one of them may have the focus.
  buttons(card, actions, name) {
    if (card.actions === actions.join()) return;
    card.actions = actions.join();
    const focused = card.buttons.contains(document.activeElement);
    card.buttons.replaceChildren(...actions.map((action) => el('button', {
      type: 'button', 'data-action': action, 'aria-label': `${actionNames[action]} ${name}`, onclick: () => this.act(action, name),
    }, actionNames[action])));
    if (focused) card.buttons.firstElementChild?.focus();
  }
}
