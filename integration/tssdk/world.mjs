// The world that the Go test has set up, and clients for it that record what
// they do on the wire.

import assert from 'node:assert/strict';

/** @returns {{key: string, otherKey: string, referenceKey: string, members: string[], pools: object}} */
function readWorld() {
  const text = process.env.SHUNT_WORLD;
  if (!text) {
    throw new Error(
      'SHUNT_WORLD is not set: these tests are started by TestTypeScriptSDK in ../gosdk, which starts Caddy and the fake upstream',
    );
  }
  return JSON.parse(text);
}

export const world = readWorld();

/** How many SDK calls went through the pool; the runner wants to see it. */
export let calls = 0;

/** Pools that nothing has happened to, by how they are configured. */
export function poolsOf(major) {
  const left = structuredClone(world.pools[major]);
  return (kind) => {
    const p = left[kind]?.shift();
    assert.ok(p, `the Go test has set up too few pools of the kind ${kind}`);
    return new Pool(p.url, p.upstream);
  };
}

class Pool {
  constructor(url, upstream) {
    this.url = url;
    this.upstream = upstream;
  }

  async #control(path, body) {
    const answer = await fetch(`${this.upstream}/_fake/${path}`, body && { method: 'POST', body: JSON.stringify(body) });
    assert.equal(answer.status, 200, await answer.clone().text());
    return answer.json();
  }

  /** Makes an account misbehave; '*' is every account. */
  setFault(account, fault, more = {}) {
    return this.#control('fault', { account, fault, times: -1, ...more });
  }

  /** What upstream saw, oldest first. */
  log() {
    return this.#control('log');
  }

  /** Fails for what no correct client of upstream does. */
  async mustBehave() {
    assert.deepEqual(await this.#control('violations'), []);
  }

  /** Makes a member the first that is asked. */
  async pin(account) {
    const answer = await fetch(`${this.url}/use`, {
      method: 'POST',
      headers: { 'x-api-key': world.key },
      body: JSON.stringify({ account }),
    });
    assert.equal(answer.status, 200, await answer.text());
  }

  /** A client of the pool, with the SDK's own defaults. */
  client(Anthropic, credentials = { apiKey: world.key }) {
    return recorded(Anthropic, this.url, credentials, true);
  }

  /** A client of upstream itself, with an account that no pool has. */
  reference(Anthropic) {
    return recorded(Anthropic, this.upstream, { apiKey: world.referenceKey }, false);
  }
}

function recorded(Anthropic, baseURL, credentials, pooled) {
  const tries = [];
  const client = new Anthropic({
    baseURL,
    apiKey: null,
    authToken: null,
    ...credentials,
    fetch: async (url, init) => {
      const retry = new Headers(init.headers).get('x-stainless-retry-count');
      const entry = { retry, begun: Date.now() };
      tries.push(entry);
      if (pooled && retry === '0') {
        calls++;
      }
      const answer = await fetch(url, init);
      entry.status = answer.status;
      entry.headers = answer.headers;
      // A body that breaks off breaks off for the copy as well.
      entry.body = answer.clone().text().catch((error) => error);
      return answer;
    },
  });
  return {
    client,
    /** Forgets the tries so far and returns them. */
    rewind: () => tries.splice(0),
    /** The one try that the last call was allowed. */
    only() {
      const all = tries.splice(0);
      assert.deepEqual(all.map((t) => t.retry), ['0'], 'the SDK made another number of tries than one');
      return all[0];
    },
  };
}

/** The error that a promise must end with. */
export async function failure(promise) {
  let value;
  try {
    value = await promise;
  } catch (error) {
    return error;
  }
  assert.fail(`expected an error, got ${JSON.stringify(value)}`);
}

/** A small request; its text makes the answer its own. */
export function hello(text, more = {}) {
  return { model: 'claude-sonnet-5', max_tokens: 300, messages: [{ role: 'user', content: text }], ...more };
}
