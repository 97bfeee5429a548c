// The page: it asks for a key if one is needed, keeps the stream of events open, and
// hands what it tells to the parts that show it.

import { Accounts, capacity, sentences } from './accounts.js';
import { Charts } from './charts.js';
import { clock, setText } from './format.js';
import { baseURL, call, key, setKey, watch } from './live.js';
import { connectLines, decisions, People, Requests } from './tables.js';

const $ = (id) => document.getElementById(id);

let status = null;
let stop = () => {};
let range = 'hour';

const accounts = new Accounts($('account-list'), ask);
const requests = new Requests($('request-list'), $('no-requests'), explain);
const people = new People($('people-list'), $('people-filter'));
const charts = new Charts($('charts'));

// --- what the stream tells

function told(name, data) {
  if (name === 'requests') requests.add(data, status);
  if (name !== 'status') return;
  const first = !status;
  status = data;
  document.body.classList.toggle('is-admin', data.admin);
  $('door').hidden = true;
  $('pool-view').hidden = false;
  setText($('pool'), data.pool === 'default' ? '' : data.pool);
  setText($('who'), data.who ? `${data.who}${data.admin ? ', admin' : ''}` : '');
  setText($('versions'), `shunt ${data.version}, policy ${data.policy}${data.instances.length > 1 ? `, ${data.instances.length} instances` : ''}, prices of ${data.prices_as_of}`);
  setText($('people-title'), data.admin ? 'Use today' : 'My use today');
  const { headline, forecast } = sentences(data);
  setText($('headline'), headline);
  setText($('forecast'), forecast);
  document.title = `${data.capacity.open}/${data.capacity.accounts} shunt`;
  $('capacity').replaceChildren(...capacity(data));
  accounts.show(data);
  people.show(data);
  if (first) {
    $('connect-lines').replaceChildren(...connectLines(baseURL()));
    slowly();
  }
}

function connection(state, why) {
  const node = $('connection');
  node.dataset.state = state;
  if (state === 'live') {
    setText(node, 'Live');
    $('leave').hidden = !key();
    return;
  }
  if (state === 'lost') {
    setText(node, status ? `Not connected, since ${why}; this is how it was at ${clock(status.now_ms)}. Trying again.` : `Not connected: ${why}. Trying again.`);
    return;
  }
  setText(node, 'A key is needed');
  // Without a key of ours the server said nothing about it but that it wants one.
  setText($('key-error'), key() ? why : '');
  setKey('');
  status = null;
  $('leave').hidden = true;
  $('pool-view').hidden = true;
  $('door').hidden = false;
  $('key').focus();
}

function start() {
  stop();
  stop = watch(told, connection);
}

// --- what is asked now and then

async function slowly() {
  if (!status || document.hidden) return;
  try {
    const [usage, history] = await Promise.all([call(`usage?by=person&from=${status.today}&to=${status.today}`).catch(() => null), call(`history?range=${range}`)]);
    if (!status) return;
    if (usage) people.today(usage.rows);
    charts.show(history, status.admin);
    setText($('history-note'), history.incomplete ?? '');
  } catch (error) {
    setText($('history-note'), `The history cannot be shown: ${error.message}.`);
  }
}
setInterval(slowly, 20000);
document.addEventListener('visibilitychange', slowly);

for (const button of document.querySelectorAll('[data-range]')) {
  button.addEventListener('click', () => {
    range = button.dataset.range;
    for (const b of document.querySelectorAll('[data-range]')) b.setAttribute('aria-pressed', String(b === button));
    slowly();
  });
}

$('hold').addEventListener('change', (e) => requests.hold(e.target.checked));

async function explain(r) {
  setText($('why-title'), r.account ? `Why ${r.account}` : 'Why no account');
  setText($('why-body'), 'Asking');
  $('why').showModal();
  try {
    $('why-body').replaceChildren(...decisions(await call(`explain?request=${encodeURIComponent(r.id)}`)));
  } catch (error) {
    setText($('why-body'), `${error.message}.`);
  }
}

// --- steering

const questions = {
  pin: (a) => [`Send everything to ${a}?`, `While ${a} can serve, all requests that may use it go there, whatever the policy says. Other accounts serve when it cannot.`, 'Pin it'],
  unpin: (a) => [`Unpin ${a}?`, 'The policy chooses again.', 'Unpin it'],
  drain: (a) => [`Drain ${a}?`, 'It gets no new requests until it is undrained; what it serves now goes on. Conversations that live there move and write their prompt cache anew.', 'Drain it'],
  undrain: (a) => [`Undrain ${a}?`, 'It is in the choice again.', 'Undrain it'],
  bench: (a) => [`Bench ${a}?`, 'It gets no new requests for that time; what it serves now goes on.', 'Bench it'],
  unbench: (a) => [`Un-bench ${a}?`, 'Whatever keeps it out for a time ends, and one request finds out whether it serves. If its window is really used up, it will be benched again.', 'Un-bench it'],
  refresh: (a) => [`Refresh the token of ${a}?`, 'It gets a new access token now. The present one serves until then.', 'Refresh it'],
};

function ask(action, name) {
  const [title, text, yes] = questions[action](name);
  setText($('ask-title'), title);
  setText($('ask-text'), text);
  setText($('ask-yes'), yes);
  $('ask-for').hidden = action !== 'bench';
  $('ask-why').hidden = action !== 'bench' && action !== 'drain';
  $('ask-reason').value = '';
  const dialog = $('ask');
  dialog.returnValue = 'no';
  dialog.onclose = () => dialog.returnValue === 'yes' && steer(action, name);
  dialog.showModal();
}

async function steer(action, name) {
  const reason = $('ask-reason').value.trim();
  try {
    if (action === 'pin' || action === 'unpin') {
      const answer = await call('use', { account: action === 'pin' ? name : 'auto' });
      toast(answer.pinned ? `${answer.pinned} is pinned.` : 'Nothing is pinned.');
      return;
    }
    const body = { account: name, action };
    if (action === 'bench') body.for = $('ask-length').value;
    if (reason && (action === 'bench' || action === 'drain')) body.reason = reason;
    const answer = await call('steer', body);
    toast(`${answer.account}: ${answer.words}.`);
  } catch (error) {
    toast(`${name}: ${error.message}`, true);
  }
}

let toastEnds;
function toast(text, bad = false) {
  const node = $('toast');
  node.dataset.bad = String(bad);
  setText(node, text);
  clearTimeout(toastEnds);
  toastEnds = setTimeout(() => setText(node, ''), 12000);
}

// --- the key

$('key-form').addEventListener('submit', (e) => {
  e.preventDefault();
  setKey($('key').value.trim());
  $('key').value = '';
  start();
});
$('leave').addEventListener('click', () => {
  setKey('');
  location.reload();
});

start();
