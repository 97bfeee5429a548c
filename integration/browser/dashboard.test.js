import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { mkdirSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { card, openBrowser, until, visit, World } from './world.mjs';

const axe = createRequire(import.meta.url).resolve('axe-core');

const anyone = '\t\t\towner *\n';
const accounts = `
		account small pro setup_token sk-ant-oat01-made-up-small
		account big max20 setup_token sk-ant-oat01-made-up-big
		account team api api_key sk-ant-api03-made-up-team
`;
const block = `
		remote_key ann key-of-ann-000 {
			admin
		}
		remote_key bob key-of-bob-000 {
			budget 5usd per day
		}
		account small {
			setup_token sk-ant-oat01-made-up-small
${anyone}		}
		account big {
			setup_token sk-ant-oat01-made-up-big
${anyone}		}
		account team {
			api_key sk-ant-api03-made-up-team
			priority 1
		}
`;
const ann = 'key-of-ann-000';
const bob = 'key-of-bob-000';

/** shot keeps a picture for the documentation, when it is asked for. */
async function shot(page, name, fullPage = false) {
  const folder = process.env.SHUNT_SCREENSHOTS;
  if (!folder) return;
  mkdirSync(folder, { recursive: true });
  await page.screenshot({ path: `${folder}/${name}.png`, fullPage });
}

/** accessible asserts that axe finds nothing that it calls serious or critical. */
async function accessible(page, what) {
  // The page's policy lets no other script in; the tester's way is the debugger's.
  await page.evaluate((await import('node:fs')).readFileSync(axe, 'utf8'));
  const found = await page.evaluate(() => window.axe.run(document, { resultTypes: ['violations'] }));
  const bad = found.violations.filter((v) => v.impact === 'serious' || v.impact === 'critical');
  assert.deepEqual(bad.map((v) => `${v.id}: ${v.nodes.map((n) => `${n.target} ${n.failureSummary}`).join('; ')}`), [], what);
  assert.ok(found.passes.length > 10, `${what}: axe looked at next to nothing`);
}

/** fits asserts that the page is not wider than its window. */
async function fits(page, what) {
  const [content, window] = await page.evaluate(() => [document.scrollingElement.scrollWidth, innerWidth]);
  assert.ok(content <= window, `${what}: ${content} px wide in ${window}`);
}

async function confirm(page, name, { reason, length } = {}) {
  const dialog = page.locator('#ask');
  await dialog.waitFor({ state: 'visible' });
  if (reason) await dialog.getByLabel(/Reason/).fill(reason);
  if (length) await dialog.getByLabel('For', { exact: true }).selectOption(length);
  await dialog.getByRole('button', { name }).click();
}

describe('the dashboard', () => {
  let browser;
  let world;
  before(async () => {
    browser = await openBrowser();
    world = await World.begin({ accounts, block });
    await world.tellFake('spend', { account: 'small', window: '5h', utilization: 1 });
    for (const [account, window, utilization] of [['small', '7d', 0.64], ['big', '5h', 0.42], ['big', '7d', 0.31], ['big', '7d_opus', 0.77]]) await world.tellFake('spend', { account, window, utilization });
    await world.use(ann, 'small');
    const first = await world.ask(ann, { session: 's' });
    assert.deepEqual([first.status, first.headers.get('x-shunt-attempts')], [200, '2']);
    await world.use(ann, 'auto');
  });
  after(async () => {
    await browser.close();
    await world.end();
  });

  test('asks for the key once, keeps it in the tab, and says when it is wrong', async () => {
    const page = await visit(browser, world);
    await page.getByLabel('Key', { exact: true }).waitFor();
    assert.equal(await page.locator('#key-error').textContent(), '', 'nobody has typed a key yet');
    await accessible(page, 'the key form');
    await page.getByLabel('Key', { exact: true }).fill('not-a-key-at-all');
    await page.getByRole('button', { name: 'Show the pool' }).click();
    await page.getByText('the key is not known here').waitFor();
    await shot(page, 'wrong-key');
    await page.getByLabel('Key', { exact: true }).fill(ann);
    await page.keyboard.press('Enter');
    await card(page, 'big').waitFor();
    await page.reload();
    await card(page, 'big').waitFor();
    const stored = await page.evaluate(() => [JSON.stringify(localStorage), document.cookie, location.href]);
    for (const place of stored) assert.ok(!place.includes(ann), `the key is in ${place}`);
    await page.getByRole('button', { name: 'Forget the key' }).click();
    await page.getByLabel('Key', { exact: true }).waitFor();
    assert.equal(await page.evaluate(() => sessionStorage.length), 0);
    assert.deepEqual(page.trouble, []);
    await page.context().close();
  });

  test('tells a newcomer which account is out, why, and until when', async () => {
    const page = await visit(browser, world, { key: ann });
    const small = card(page, 'small');
    await small.getByText(/^Out until (\w{3} \d+ \w{3}, )?\d\d:\d\d \(in .+\): its 5-hour window is used up\.$/).waitFor();
    await small.getByText('◷ Out').waitFor();
    await page.getByText('2 of 3 accounts can serve now.').waitFor();
    await card(page, 'big').getByText('● Open').waitFor();
    const meter = small.getByRole('meter', { name: '5 hours' });
    assert.match(await meter.getAttribute('aria-valuetext'), /^100 % used, even use would be \d+ %, starts anew in /);
    assert.equal(await meter.getAttribute('aria-valuenow'), '100');
    assert.deepEqual(page.trouble, []);
    await page.context().close();
  });

  test('shows requests as they end, with what became of them and why', async () => {
    const page = await visit(browser, world, { key: ann });
    await page.locator('#request-list tr').first().waitFor();
    const seen = await page.locator('#request-list tr').count();
    await world.ask(bob, { model: 'claude-haiku-5-5' });
    const row = page.locator('#request-list tr').first();
    await row.getByText('claude-haiku-5-5').waitFor();
    assert.equal(await page.locator('#request-list tr').count(), seen + 1);
    const cells = await row.locator('td').allTextContents();
    assert.deepEqual([cells[1], cells[2], cells[8], cells[9]], ['bob', 'big', '1', 'Served']);
    await row.getByRole('button', { name: /^Why/ }).click();
    const why = page.locator('#why');
    await why.getByText('chosen').waitFor();
    await why.getByText('closed: usage window spent').waitFor();
    await accessible(page, 'the reasons of a choice');
    await shot(page, 'why');
    await why.getByRole('button', { name: 'Close' }).click();
    await page.getByLabel('Hold still').check();
    await world.ask(bob, { model: 'claude-opus-5-5' });
    await page.waitForTimeout(2500);
    assert.equal(await page.locator('#request-list tr').count(), seen + 1, 'held still, the table moved');
    await page.getByLabel('Hold still').uncheck();
    await page.locator('#request-list tr').first().getByText('claude-opus-5-5').waitFor();
    assert.deepEqual(page.trouble, []);
    await page.context().close();
  });

  test('shows people their own use, and lets them steer nothing', async () => {
    const page = await visit(browser, world, { key: bob });
    await card(page, 'big').waitFor();
    assert.equal(await page.locator('#account-list button').count(), 0);
    await page.getByRole('heading', { name: 'My use today' }).waitFor();
    await page.locator('#people-list').getByText('$5.00 a day').waitFor();
    assert.deepEqual(await page.locator('#people-list th').allTextContents(), ['bob']);
    await page.locator('#request-list').getByText('claude-haiku-5-5').first().waitFor();
    assert.equal(await page.locator('#request-list').getByText('ann').count(), 0);
    assert.equal(await page.locator('.chart figcaption').getByText('Cost').count(), 0);
    assert.deepEqual(page.trouble, []);
    await page.context().close();
  });

  test('pins and unpins, by the keyboard', async () => {
    const page = await visit(browser, world, { key: ann });
    const team = card(page, 'team');
    await team.getByRole('button', { name: 'Pin team', exact: true }).focus();
    await page.keyboard.press('Enter');
    await page.locator('#ask').getByText('Send everything to team?').waitFor();
    await page.keyboard.press('Escape');
    await page.locator('#ask').waitFor({ state: 'hidden' });
    assert.equal((await world.status(ann)).pinned, null, 'Escape pinned it');
    assert.equal(await page.evaluate(() => document.activeElement.dataset.action), 'pin', 'the focus is lost');
    await page.keyboard.press('Enter');
    await page.keyboard.press('Tab');
    await page.keyboard.press('Enter');
    await page.getByText('team is pinned.').waitFor();
    await team.getByText('Pinned', { exact: true }).waitFor();
    assert.equal((await world.ask(ann)).headers.get('x-shunt-account'), 'team');
    await team.getByRole('button', { name: 'Unpin team' }).click();
    await confirm(page, 'Unpin it');
    await page.getByText('Nothing is pinned.').waitFor();
    await team.getByRole('button', { name: 'Pin team', exact: true }).waitFor();
    assert.equal((await world.ask(ann)).headers.get('x-shunt-account'), 'big');
    assert.match(world.log(), /"pin changed".*"by":"ann"/);
    assert.deepEqual(page.trouble, []);
    await page.context().close();
  });

  test('drains, benches and frees accounts, and shows what others did', async () => {
    const page = await visit(browser, world, { key: ann });
    const other = await visit(browser, world, { key: bob });
    const big = card(page, 'big');
    await big.getByRole('button', { name: 'Drain big' }).click();
    await confirm(page, 'Drain it', { reason: 'it <b>moves</b> house' });
    await big.getByText('Out until it is undrained: drained by ann: it <b>moves</b> house.').waitFor();
    await card(other, 'big').getByText('◌ Drained').waitFor();
    assert.equal((await world.ask(ann)).headers.get('x-shunt-account'), 'team');
    await card(page, 'team').getByRole('button', { name: 'Bench team' }).click();
    await confirm(page, 'Bench it', { length: '10m' });
    await card(page, 'team').getByText(/^Out until .* \(in (10|9|8) min\): benched by ann\.$/).waitFor();
    await page.getByText('No account can serve now.').waitFor();
    const refused = await world.ask(ann);
    assert.equal(refused.status, 429);
    await card(page, 'team').getByRole('button', { name: 'Un-bench team' }).click();
    await confirm(page, 'Un-bench it');
    await card(page, 'team').getByText('● Open').waitFor();
    await big.getByRole('button', { name: 'Undrain big' }).click();
    await confirm(page, 'Undrain it');
    await big.getByText('● Open').waitFor();
    assert.equal((world.log().match(/an account was steered by hand/g) ?? []).length, 4);
    assert.deepEqual(page.trouble, []);
    await page.context().close();
    await other.context().close();
  });

  test('goes on over a reload, and says when Caddy is away', async () => {
    const page = await visit(browser, world, { key: ann });
    await card(page, 'big').waitFor();
    const was = world.block;
    world.reload(was.replace('priority 1', 'priority 1\n\t\t\tmodels claude-haiku-*').replace(/$/, `
		account new {
			api_key sk-ant-api03-made-up-new
			priority 9
		}
`));
    await card(page, 'new').waitFor();
    world.reload(was);
    await card(page, 'new').waitFor({ state: 'detached' });
    await page.locator('#connection[data-state=live]').waitFor();
    await world.caddy.stop();
    await page.getByText(/Not connected, .*; this is how it was at \d\d:\d\d:\d\d\. Trying again\./).waitFor();
    await card(page, 'big').waitFor(); // what was known stays
    world.caddy.start();
    await page.locator('#connection[data-state=live]').waitFor({ timeout: 20000 });
    await card(page, 'small').getByText('◷ Out').waitFor(); // the pool remembers too
    await world.ask(bob, { model: 'claude-haiku-5-5' });
    await page.locator('#request-list tr').first().getByText('claude-haiku-5-5').waitFor();
    assert.deepEqual(page.trouble, []);
    await page.context().close();
  });

  test('draws the past', async () => {
    const page = await visit(browser, world, { key: ann });
    const chart = (title) => page.locator('.chart').filter({ hasText: title });
    await chart('Requests').getByRole('img', { name: /^Requests\. Last: all \d+/ }).waitFor();
    await chart('Use of the 5-hour windows').locator('canvas').waitFor();
    for (const range of ['Day', 'Week', 'Hour']) {
      await page.getByRole('button', { name: range, exact: true }).click();
      await until(`${range} is shown`, async () => (await page.locator('[data-range][aria-pressed=true]').textContent()) === range);
    }
    await chart('Tokens').getByText('Figures').click();
    const figures = chart('Tokens').getByRole('region', { name: 'Figures: Tokens' });
    await until('the figures are there', async () => (await figures.locator('tbody tr').count()) === 60);
    assert.deepEqual(page.trouble, []);
    await page.context().close();
  });

  for (const [what, options] of Object.entries({
    light: {}, dark: { colorScheme: 'dark' }, phone: { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true }, 'dark phone': { viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true, colorScheme: 'dark' },
  })) {
    test(`is there for everybody: ${what}`, async () => {
      const page = await visit(browser, world, { key: ann, ...options });
      await page.locator('.chart canvas').first().waitFor();
      await fits(page, what);
      await accessible(page, what);
      await shot(page, `dashboard-${what.replace(' ', '-')}`, what === 'light');
      const paper = await page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
      const bright = paper.match(/\d+/g).map(Number)[0] > 128;
      assert.equal(bright, !what.includes('dark'), `${what} is ${paper}`);
      await card(page, 'big').getByRole('button', { name: 'Bench big' }).click();
      await page.locator('#ask').waitFor({ state: 'visible' });
      await accessible(page, `${what}, the question`);
      await page.locator('#ask').getByRole('button', { name: 'Leave it' }).click();
      assert.deepEqual(page.trouble, []);
      await page.context().close();
    });
  }
});

describe('a large pool', () => {
  let browser;
  let world;
  const names = Array.from({ length: 50 }, (_, i) => `account-${String(i).padStart(2, '0')}`);
  const people = Array.from({ length: 100 }, (_, i) => `person-${String(i).padStart(3, '0')}`);
  before(async () => {
    browser = await openBrowser();
    world = await World.begin({
      accounts: names.map((n) => `\t\taccount ${n} max5 setup_token sk-ant-oat01-made-up-${n}\n`).join(''),
      block: `\t\tremote_key ann ${ann} {\n\t\t\tadmin\n\t\t}\n${people.map((p) => `\t\tremote_key ${p} key-of-${p}\n`).join('')}${names.map((n) => `\t\taccount ${n} {\n\t\t\tsetup_token sk-ant-oat01-made-up-${n}\n${anyone}\t\t}\n`).join('')}`,
    });
    for (let i = 0; i < people.length; i += 20) await Promise.all(people.slice(i, i + 20).map((p) => world.ask(`key-of-${p}`, { session: p })));
  });
  after(async () => {
    await browser.close();
    await world.end();
  });

  test('is shown whole, and stays quick', async () => {
    const page = await visit(browser, world, { key: ann });
    await until('all accounts are shown', async () => (await page.locator('.card').count()) === 50);
    await until('all people are shown', async () => (await page.locator('#people-list tr').count()) === 101);
    await until('all requests are shown', async () => (await page.locator('#request-list tr').count()) === 100);
    await page.getByLabel('Find').fill('person-07');
    assert.equal(await page.locator('#people-list tr').count(), 10);
    // How long the page is busy with one picture of the pool.
    const busy = await page.evaluate(() => new Promise((resolve) => {
      const tasks = [];
      new PerformanceObserver((list) => tasks.push(...list.getEntries().map((e) => e.duration))).observe({ type: 'longtask' });
      setTimeout(() => resolve(tasks), 12000);
    }));
    assert.ok(Math.max(0, ...busy) < 1000, `the page was busy for ${busy} ms`);
    await fits(page, 'a large pool');
    await accessible(page, 'a large pool');
    await shot(page, 'large');
    assert.deepEqual(page.trouble, []);
    await page.context().close();
  });
});
