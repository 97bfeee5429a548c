// A fake upstream, a Caddy with shunt before it, and a Chromium that looks at it.
// SHUNT_CADDY names the Caddy under test, SHUNT_DEMO one that holds the fake upstream;
// CHROMIUM may name the browser.

import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { chromium } from 'playwright-core';

function program(variable, ...others) {
  const found = [process.env[variable], ...others].find((p) => p && existsSync(p));
  if (!found) throw new Error(`${variable} does not name a program (looked at: ${[process.env[variable], ...others].filter(Boolean).join(', ') || 'nothing'})`);
  return found;
}

const caddy = program('SHUNT_CADDY');
const demo = program('SHUNT_DEMO');
const browserPath = program('CHROMIUM', '/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome');

// freePort finds a port below those that systems give to outgoing connections: one of these
// might take it before Caddy does.
async function freePort() {
  for (;;) {
    const port = 12000 + Math.floor(Math.random() * 18000);
    const free = await new Promise((resolve) => {
      const server = createServer();
      server.on('error', () => resolve(false));
      server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
    });
    if (free) return port;
  }
}

/** until waits for something to become true. */
export async function until(what, check, within = 15000) {
  const end = Date.now() + within;
  for (;;) {
    const value = await check();
    if (value) return value;
    if (Date.now() > end) throw new Error(`it did not happen: ${what}`);
    await sleep(50);
  }
}

/** answers reports whether anything answers at an address. */
const answers = (url) => fetch(url, { signal: AbortSignal.timeout(2000) }).then(() => true, () => false);

class Process {
  constructor(binary, home, name) {
    this.binary = binary;
    this.home = home;
    this.log = '';
    this.file = join(home, `${name}.caddyfile`);
  }

  start(text) {
    if (text) writeFileSync(this.file, text, { mode: 0o600 });
    const env = { PATH: process.env.PATH, HOME: this.home, XDG_DATA_HOME: join(this.home, 'data'), XDG_CONFIG_HOME: join(this.home, 'config') };
    this.child = spawn(this.binary, ['run', '--config', this.file, '--adapter', 'caddyfile'], { env, stdio: ['ignore', 'ignore', 'pipe'] });
    this.child.stderr.on('data', (d) => (this.log += d));
    this.ended = new Promise((resolve) => this.child.on('exit', resolve));
  }

  async stop(signal = 'SIGTERM') {
    this.child.kill(signal);
    await Promise.race([this.ended, sleep(10000).then(() => { throw new Error(`Caddy did not end on ${signal}:\n${this.log}`); })]);
  }
}

/** World is everything that a test needs. */
export class World {
  static async begin(options) {
    const w = new World();
    try {
      await w.start(options);
    } catch (error) {
      // A process that is left would keep the tests from ending.
      for (const p of [w.fake, w.caddy]) p?.child?.kill('SIGKILL');
      throw new Error(`${error.message}\n${w.fake?.log ?? ''}${w.caddy?.log ?? ''}`);
    }
    return w;
  }

  async start({ accounts, block }) {
    const w = this;
    w.home = mkdtempSync(join(tmpdir(), 'shunt-browser-'));
    [w.port, w.adminPort, w.fakePort] = [await freePort(), await freePort(), await freePort()];
    w.url = `http://127.0.0.1:${w.port}`;
    w.fakeURL = `http://127.0.0.1:${w.fakePort}`;
    w.fake = new Process(demo, w.home, 'fake');
    w.fake.start(`{\n\tadmin off\n\tpersist_config off\n\tfakeclaude {\n\t\tlisten 127.0.0.1:${w.fakePort}\n\t\tspeed 1\n${accounts}\n\t}\n}\n`);
    await until('the fake upstream listens', () => answers(`${w.fakeURL}/_fake/accounts`));
    w.caddy = new Process(caddy, w.home, 'shunt');
    w.caddy.start(w.config(block));
    await w.listening();
  }

  config(block) {
    this.block = block;
    return `{\n\tadmin localhost:${this.adminPort}\n\tauto_https off\n}\nhttp://127.0.0.1:${this.port} {\n\tshunt {\n\t\tupstream ${this.fakeURL}\n${block}\n\t}\n}\n`;
  }

  listening() {
    return until('shunt listens', async () => {
      if (this.caddy.child.exitCode !== null) throw new Error(`Caddy has ended:\n${this.caddy.log}`);
      return answers(`${this.url}/health`);
    });
  }

  /** reload gives the running Caddy another configuration, as caddy reload does. */
  reload(block) {
    writeFileSync(this.caddy.file, this.config(block));
    const run = spawnSync(caddy, ['reload', '--config', this.caddy.file, '--adapter', 'caddyfile', '--address', `localhost:${this.adminPort}`], { encoding: 'utf8' });
    if (run.status !== 0) throw new Error(run.stderr);
  }

  async tellFake(what, command) {
    const r = await fetch(`${this.fakeURL}/_fake/${what}`, { method: 'POST', body: JSON.stringify(command) });
    if (!r.ok) throw new Error(await r.text());
  }

  /** ask sends a message as a client would. */
  async ask(key, { model = 'claude-sonnet-5-5', session } = {}) {
    const headers = { 'x-api-key': key, 'anthropic-version': '2023-06-01', 'content-type': 'application/json' };
    if (session) headers['x-claude-code-session-id'] = session;
    const r = await fetch(`${this.url}/v1/messages`, { method: 'POST', headers, body: JSON.stringify({ model, max_tokens: 64, messages: [{ role: 'user', content: 'Hello' }] }) });
    await r.text();
    return r;
  }

  /** use pins an account, or gives the choice back for auto. */
  async use(key, account) {
    const r = await fetch(`${this.url}/use`, { method: 'POST', headers: { 'x-api-key': key, 'content-type': 'application/json' }, body: JSON.stringify({ account }) });
    if (!r.ok) throw new Error(await r.text());
  }

  async status(key) {
    return (await fetch(`${this.url}/status`, { headers: { 'x-api-key': key } })).json();
  }

  async end() {
    await Promise.all([this.caddy.stop(), this.fake.stop()]);
    rmSync(this.home, { recursive: true, force: true });
  }

  log() {
    return this.caddy.log;
  }

  storedFile(...path) {
    return readFileSync(join(this.home, ...path), 'utf8');
  }
}

/** openBrowser starts Chromium, without what it would ask of the network by itself. */
export const openBrowser = () => chromium.launch({
  executablePath: browserPath,
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
});

/**
 * visit opens the dashboard in a browser of its own. What goes wrong in the page is kept in page.trouble: a
 * test that did not expect any asserts that there is none.
 */
export async function visit(browser, world, { key, ...options } = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, locale: 'en-GB', timezoneId: 'Europe/Berlin', ...options });
  const page = await context.newPage();
  page.trouble = [];
  page.on('pageerror', (e) => page.trouble.push(`error: ${e.message}`));
  page.on('console', (m) => {
    // Chromium reports each 401 and each connection that fails; the tests look at what the page says of them.
    if (m.type() === 'error' && !/401|ERR_|Failed to load resource/.test(m.text())) page.trouble.push(`console: ${m.text()}`);
  });
  page.on('request', (r) => {
    if (!r.url().startsWith(world.url)) page.trouble.push(`it asked ${r.url()}`);
  });
  page.on('response', (r) => {
    if (r.status() >= 400 && r.status() !== 401) page.trouble.push(`${r.status()} from ${r.url()}`);
  });
  await page.goto(`${world.url}/dashboard`);
  if (key) {
    await page.getByLabel('Key', { exact: true }).fill(key);
    await page.getByRole('button', { name: 'Show the pool' }).click();
    await page.locator('#connection[data-state=live]').waitFor();
  }
  return page;
}

export const card = (page, name) => page.locator(`[data-account="${name}"]`);
