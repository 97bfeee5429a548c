// The connection to the pool: one stream of events that is opened again whenever it ends,
// and single calls. The key stays in this tab.

const keyName = 'shunt-key';
const base = new URL('.', location.href); // the page may stand below a path of the site

export const baseURL = () => base.href.replace(/\/$/, '');
export const key = () => sessionStorage.getItem(keyName) ?? '';
export const setKey = (k) => (k ? sessionStorage.setItem(keyName, k) : sessionStorage.removeItem(keyName));

const headers = () => (key() ? { 'x-api-key': key() } : {});

/** Refused is an answer that is no success; its message is the server's. */
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function refusal(response) {
  let message = `the server answered ${response.status}`;
  try {
    message = (await response.json()).error.message;
  } catch {
    // not one of ours: the status must do
  }
  return new Refused(response.status, message);
}

/** call asks an endpoint of the pool. */
export async function call(path, body) {
  const init = { headers: headers(), cache: 'no-store', credentials: 'same-origin' };
  if (body !== undefined) {
    init.method = 'POST';
    init.headers['content-type'] = 'application/json';
    init.body = JSON.stringify(body);
  }
  const response = await fetch(new URL(path, base), init);
  if (!response.ok) throw await refusal(response);
  return response.json();
}

/** events reads a stream of server-sent events and gives each to the listener. */
async function events(body, heard) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = '';
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    buffer += value;
    for (let end = buffer.indexOf('\n\n'); end >= 0; end = buffer.indexOf('\n\n')) {
      let name = 'message';
      const data = [];
      for (const line of buffer.slice(0, end).split('\n')) {
        if (line.startsWith('event: ')) name = line.slice(7);
        else if (line.startsWith('data: ')) data.push(line.slice(6));
      }
      buffer = buffer.slice(end + 2);
      heard(name, JSON.parse(data.join('\n')));
    }
  }
}

const silentAfter = 15000; // the server tells something every 5 s

/**
 * watch keeps the stream open. told gets (event, data); state gets 'live', 'lost' with the reason, or
 * 'locked' when a key is needed, after which nothing more is tried. It returns a function that ends it.
 */
export function watch(told, state) {
  let over = false;
  let attempt = new AbortController();
  let wake = () => {};
  const sooner = () => wake();
  window.addEventListener('online', sooner);
  document.addEventListener('visibilitychange', sooner);
  (async () => {
    for (let wait = 500; !over; wait = Math.min(wait * 2, 10000)) {
      attempt = new AbortController();
      let silence;
      const heard = () => {
        clearTimeout(silence);
        silence = setTimeout(() => attempt.abort(), silentAfter);
      };
      let why = 'the server ended the connection';
      try {
        heard();
        const response = await fetch(new URL('dashboard/events', base), { headers: headers(), cache: 'no-store', credentials: 'same-origin', signal: attempt.signal });
        if (response.status === 401) {
          if (!over) state('locked', (await refusal(response)).message);
          return;
        }
        if (!response.ok) throw await refusal(response);
        await events(response.body, (name, data) => {
          if (over) return;
          heard();
          wait = 500;
          state('live');
          told(name, data);
        });
      } catch (error) {
        why = error instanceof Refused ? error.message : 'the server does not answer';
      } finally {
        clearTimeout(silence);
      }
      if (over) return;
      state('lost', why);
      await new Promise((resolve) => {
        wake = resolve;
        setTimeout(resolve, wait);
      });
    }
  })();
  return () => {
    over = true;
    attempt.abort();
    window.removeEventListener('online', sooner);
    document.removeEventListener('visibilitychange', sooner);
  };
}
