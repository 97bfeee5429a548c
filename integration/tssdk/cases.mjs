// The cases, for either major of the SDK. They mirror those of ../gosdk.

import assert from 'node:assert/strict';
import { after, describe, it as unbounded } from 'node:test';

import { calls, failure, hello, poolsOf, world } from './world.mjs';

/** A case, bounded: the SDK itself would sleep for hours if it were told to. */
const it = (name, body) => unbounded(name, { timeout: 30_000 }, body);

const faults = [
  'window_5h', // 429, hours
  'classic_spent', // 429, seconds
  'burst', // 429 with room in every window
  'overloaded', // 529
  'invalid_api_key', // 401
  'token_revoked', // 401
  'permission_403',
  'token_revoked_403',
  'internal_500',
  'reset_before_head',
  'first_overloaded',
  'first_rate_limit',
  'first_api_error',
  'first_authentication',
];

/** Requests for one account: their texts differ from those for any other, and with them the caches. */
function conversations(tag) {
  const tool = {
    name: 'run',
    description: 'Runs a command',
    input_schema: { type: 'object', properties: { command: { type: 'string' }, count: { type: 'integer' } } },
  };
  const cached = (question) =>
    hello(question, {
      system: [
        { type: 'text', text: 'The rules of the house. '.repeat(200) + tag, cache_control: { type: 'ephemeral', ttl: '1h' } },
        { type: 'text', text: 'The rules of the day. '.repeat(100), cache_control: { type: 'ephemeral' } },
      ],
    });
  return [
    { name: 'plain', body: hello(`Hello from ${tag}`), shows: '"stop_reason":"end_turn"' },
    {
      name: 'odd characters',
      body: hello(`<b>&amp; café € 東京 🙂\u2028 "quoted" \\ back\nline from ${tag}`, { temperature: 0.25, metadata: { user_id: 'somebody' } }),
      shows: '"type":"message"',
    },
    { name: 'max_tokens', body: hello(`A long answer for ${tag}`, { max_tokens: 5 }), shows: '"stop_reason":"max_tokens"' },
    {
      name: 'thinking',
      body: hello(`Think about ${tag}`, { model: 'claude-opus-5', max_tokens: 4096, thinking: { type: 'enabled', budget_tokens: 2048 } }),
      shows: '"signature":"',
      streamShows: '"type":"signature_delta"',
    },
    { name: 'tool use', body: hello(`Please use a tool for ${tag}`, { max_tokens: 2000, tools: [tool] }), shows: '"stop_reason":"tool_use"' },
    {
      name: 'cache write',
      body: cached(`A question of ${tag}`),
      shows: '"ephemeral_1h_input_tokens":12',
      streamShows: '"cache_read_input_tokens":17',
    },
    { name: 'cache read', body: cached(`Another question of ${tag}`), shows: '"cache_read_input_tokens":17' },
    {
      name: 'betas',
      body: hello(`Betas for ${tag}`),
      options: {
        headers: {
          'anthropic-beta': 'context-management-2025-06-27,effort-2025-11-24,interleaved-thinking-2025-05-14',
        },
      },
      shows: '"type":"message"',
    },
  ];
}

const textOf = (message) => message.content.map((block) => block.text ?? '').join('');

/** Reads a stream to its end, and beside it what the events say. */
async function readStream(client, body, options) {
  const got = { text: '', events: 0 };
  const stream = client.messages.stream(body, options);
  stream.on('text', (delta) => {
    got.text += delta;
  });
  stream.on('streamEvent', (event) => {
    got.events++;
    got.started ||= event.type === 'message_start';
  });
  try {
    got.message = await stream.finalMessage();
  } catch (error) {
    got.error = error;
  }
  return got;
}

/** Defines all cases for one major. */
export function define(major, Anthropic, version) {
  const fresh = poolsOf(major);
  const withStatus = (status) =>
    ({
      400: Anthropic.BadRequestError,
      401: Anthropic.AuthenticationError,
      404: Anthropic.NotFoundError,
      429: Anthropic.RateLimitError,
    })[status] ?? Anthropic.InternalServerError;

  after(() => console.log(`tssdk: ${calls} calls through the pool`));

  /** The last call through the pool and the last direct one, on the wire and as upstream saw them. */
  async function mustBeEqual(pool, member, through, direct) {
    const pooled = through.only();
    const straight = direct.only();
    const [got, want] = [await pooled.body, await straight.body];
    assert.equal(typeof want, 'string', `the direct answer broke off: ${want}`);
    assert.notEqual(want, '', 'the direct answer is empty, so there is nothing to compare');
    assert.equal(got, want);
    assert.equal(pooled.status, straight.status);
    assert.equal(pooled.headers.get('content-type'), straight.headers.get('content-type'));
    assert.equal(pooled.headers.get('x-shunt-account'), member);
    const [seen, asked] = (await pool.log()).slice(-2);
    assert.deepEqual([seen.account, asked.account], [member, 'reference']);
    assert.equal(pooled.headers.get('request-id'), seen.request_id);
    for (const what of ['method', 'uri', 'body_sha256', 'body_bytes', 'model']) {
      assert.deepEqual(seen[what], asked[what], `upstream got another ${what}`);
    }
    const betas = asked.headers['Anthropic-Beta'] ?? '';
    const oauth = member === 'c' || member === 'd';
    assert.equal(seen.headers['Anthropic-Beta'] ?? '', oauth ? [betas, 'oauth-2025-04-20'].filter(Boolean).join(',') : betas);
    for (const name of ['Anthropic-Version', 'User-Agent', 'Content-Type', 'X-Stainless-Retry-Count']) {
      assert.equal(seen.headers[name], asked.headers[name], `upstream got another ${name}`);
    }
    assert.match(seen.headers['User-Agent'], new RegExp(`^Anthropic/JS ${version.replaceAll('.', '\\.')}$`));
    return want;
  }

  describe(`SDK ${version}`, { concurrency: 8 }, () => {
    describe('answers are byte for byte those of upstream', { concurrency: false }, () => {
      const pool = fresh('held');
      const through = pool.client(Anthropic);
      const direct = pool.reference(Anthropic);
      for (const member of world.members) {
        for (const c of conversations(`${member} ${major}`)) {
          it(`${member}: create, ${c.name}`, async () => {
            await pool.pin(member);
            const got = await through.client.messages.create(c.body, c.options).withResponse();
            const want = await direct.client.messages.create(c.body, c.options);
            const raw = await mustBeEqual(pool, member, through, direct);
            assert.deepEqual(got.data, want);
            assert.equal(JSON.stringify(got.data), JSON.stringify(JSON.parse(raw)));
            assert.ok(raw.includes(c.shows), `the answer does not show ${c.shows}: ${raw}`);
            assert.equal(got.request_id, got.data._request_id);
            assert.match(got.request_id, /^req_/);
          });
          it(`${member}: stream, ${c.name}`, async () => {
            await pool.pin(member);
            const got = await readStream(through.client, c.body, c.options);
            const want = await readStream(direct.client, c.body, c.options);
            assert.ifError(got.error);
            assert.ifError(want.error);
            const raw = await mustBeEqual(pool, member, through, direct);
            assert.deepEqual(got, want);
            assert.equal(got.text, textOf(got.message));
            assert.ok(raw.includes(c.streamShows ?? c.shows.replace('"type":"message"', '"type":"message_start"')), `the stream does not show what it is about: ${raw}`);
            assert.ok(raw.endsWith('data: {"type":"message_stop"}\n\n'));
          });
        }
        it(`${member}: create with stream: true`, async () => {
          await pool.pin(member);
          const read = async ({ client }) => {
            const events = [];
            for await (const event of await client.messages.create({ ...hello(`Events for ${member}`), stream: true })) {
              events.push(event);
            }
            return events;
          };
          assert.deepEqual(await read(through), await read(direct));
          await mustBeEqual(pool, member, through, direct);
        });
        it(`${member}: second turn with a thinking block and a tool's result`, async () => {
          await pool.pin(member);
          const body = hello(`Please use a tool, and think, for ${member}`, {
            model: 'claude-opus-5',
            max_tokens: 4096,
            thinking: { type: 'adaptive' },
            tools: [{ name: 'run', input_schema: { type: 'object', properties: {} } }],
          });
          const first = await readStream(through.client, body);
          assert.ifError(first.error);
          through.only();
          const call = first.message.content.find((block) => block.type === 'tool_use');
          assert.ok(call && first.message.content.some((block) => block.type === 'thinking' && block.signature), 'the first turn lacks what it is about');
          body.messages.push(
            { role: 'assistant', content: first.message.content },
            { role: 'user', content: [{ type: 'tool_result', tool_use_id: call.id, content: '42' }] },
          );
          assert.deepEqual(await through.client.messages.create(body), await direct.client.messages.create(body));
          await mustBeEqual(pool, member, through, direct);
        });
        it(`${member}: countTokens`, async () => {
          await pool.pin(member);
          const { max_tokens: _, ...body } = hello(`Count this for ${member}`);
          const got = await through.client.messages.countTokens(body);
          assert.deepEqual(got, await direct.client.messages.countTokens(body));
          assert.ok(got.input_tokens > 0);
          await mustBeEqual(pool, member, through, direct);
        });
        it(`${member}: models`, async () => {
          await pool.pin(member);
          const list = async (c) => {
            const models = [];
            for await (const model of c.client.models.list({ limit: 5 })) {
              models.push(model);
            }
            const tries = c.rewind();
            assert.ok(tries.length >= 3, 'paging was not tried');
            assert.ok(tries.every((t) => t.retry === '0'));
            return { models, pages: await Promise.all(tries.map((t) => t.body)) };
          };
          const got = await list(through);
          assert.deepEqual(got, await list(direct));
          const { id } = got.models.at(-1);
          assert.deepEqual(await through.client.models.retrieve(id), await direct.client.models.retrieve(id));
          await mustBeEqual(pool, member, through, direct);
        });
        it(`${member}: beta resource`, async () => {
          await pool.pin(member);
          const body = { ...hello(`A beta for ${member}`), betas: ['context-1m-2025-08-07', 'effort-2025-11-24'] };
          assert.deepEqual(await through.client.beta.messages.create(body), await direct.client.beta.messages.create(body));
          await mustBeEqual(pool, member, through, direct);
        });
      }
      it('no rule of upstream was broken', () => pool.mustBehave());
    });

    describe('authentication', { concurrency: false }, () => {
      const pool = fresh('held');
      for (const [name, credentials, admin] of [
        ['apiKey', { apiKey: world.key }, true],
        ['authToken', { authToken: world.key }, true],
        ['apiKey, no admin', { apiKey: world.otherKey }, false],
        ['authToken, no admin', { authToken: world.otherKey }, false],
      ]) {
        it(name, async () => {
          const c = pool.client(Anthropic, credentials);
          assert.notEqual(textOf(await c.client.messages.create(hello('Who am I?'))), '');
          assert.equal(c.only().headers.has('x-shunt-account'), admin);
          const streamed = await readStream(c.client, hello('Who am I?'));
          assert.ifError(streamed.error);
          c.only();
        });
      }
      for (const [name, credentials, says] of [
        ['a wrong apiKey', { apiKey: 'key-of-nobody' }, /not known here/],
        ['a wrong authToken', { authToken: 'key-of-nobody' }, /not known here/],
        ["Anthropic's own key", { apiKey: 'sk-ant-api03-left-over' }, /not a credential of Anthropic's/],
      ]) {
        it(name, async () => {
          const before = (await pool.log()).length;
          const c = pool.client(Anthropic, credentials);
          for (const call of [
            () => c.client.messages.create(hello('Who am I?')),
            () => c.client.messages.stream(hello('Who am I?')).finalMessage(),
            () => c.client.models.retrieve('claude-opus-5'),
          ]) {
            const error = await failure(call());
            assert.ok(error instanceof Anthropic.AuthenticationError, String(error));
            assert.equal(error.status, 401);
            assert.equal(error.type, 'authentication_error');
            assert.match(error.message, says);
            assert.equal(c.only().headers.get('x-should-retry'), 'false');
          }
          assert.equal((await pool.log()).length, before, "upstream saw a stranger's request");
        });
      }
      it('no rule of upstream was broken', () => pool.mustBehave());
    });

    describe('one of four accounts is sick', { concurrency: 8 }, () => {
      for (const fault of faults) {
        for (const sick of world.members) {
          const pool = fresh('held');
          it(`${sick}: ${fault}`, async () => {
            await pool.setFault(sick, fault, { path: '*' });
            // Whatever the choice would be, the sick account is asked first.
            await pool.pin(sick);
            const c = pool.client(Anthropic);
            const { max_tokens: _, ...count } = hello('Count');
            await c.client.messages.countTokens(count);
            c.only();
            await c.client.models.retrieve('claude-opus-5');
            c.only();
            const streamed = await readStream(c.client, hello('Stream'));
            assert.ifError(streamed.error);
            assert.notEqual(c.only().headers.get('x-shunt-account'), sick);
            const direct = await readStream(pool.reference(Anthropic).client, hello('Stream'));
            assert.equal(streamed.text, direct.text);
            assert.notEqual(textOf(await c.client.messages.create(hello('Answer'))), '');
            c.only();
            const log = await pool.log();
            const met = log.filter((r) => r.fault);
            assert.ok(met.length > 0, `${sick} was never asked while it had ${fault}`);
            assert.ok(met.every((r) => r.fault === fault && r.account === sick));
            assert.ok(log.every((r) => r.headers['X-Stainless-Retry-Count'] === '0'), 'upstream saw a retry of the SDK');
            await pool.mustBehave();
          });
        }
      }
    });

    describe('all accounts are out', { concurrency: 8 }, () => {
      /** An error of the pool's own names the request to whoever runs it. */
      function mustBeOurs(error) {
        const id = error.headers.get('x-shunt-request-id');
        assert.match(id, /^shunt_/);
        assert.equal(error.error.request_id, id);
        assert.equal(error.requestID, id);
      }

      /** One call of each kind. */
      async function both(pool, check) {
        const c = pool.client(Anthropic);
        for (const call of [
          () => c.client.messages.create(hello('Answer')),
          () => c.client.messages.stream(hello('Stream')).finalMessage(),
        ]) {
          const begun = Date.now();
          const error = await failure(call());
          await check(error, c.rewind(), Date.now() - begun);
        }
      }

      const mustCount = (tries, want) =>
        assert.deepEqual(tries.map((t) => t.retry), Array.from({ length: want }, (_, i) => String(i)), 'the SDK made another number of tries');

      it('until hours from now: fails at once, once, and says until when', async () => {
        const pool = fresh('held');
        await pool.setFault('*', 'window_5h');
        await both(pool, (error, tries, took) => {
          assert.ok(error instanceof Anthropic.RateLimitError, String(error));
          mustCount(tries, 1);
          mustBeOurs(error);
          assert.equal(error.status, 429);
          assert.equal(error.type, 'rate_limit_error');
          assert.match(error.message, /all 4 accounts are out: 4 at the 5-hour limit until .*\d\d:\d\d UTC/);
          assert.ok(took < 2000, `the call took ${took} ms to fail`);
          assert.equal(error.headers.get('x-should-retry'), 'false');
          assert.ok(Number(error.headers.get('retry-after')) > 3600);
        });
        assert.equal((await pool.log()).length, world.members.length, 'spent accounts were asked again');
      });

      it('for a second, again and again: the SDK waits as told and gives up after three tries', async () => {
        const pool = fresh('off');
        await pool.setFault('*', 'burst', { retry_after: '1s' });
        await both(pool, (error, tries, took) => {
          assert.ok(error instanceof Anthropic.RateLimitError, String(error));
          mustCount(tries, 3);
          mustBeOurs(error);
          assert.equal(error.headers.get('retry-after'), '1');
          assert.ok(took >= 1990 && took < 6000, `two retries after a second each took ${took} ms`);
        });
      });

      it('for a second, once: a held request never notices', async () => {
        const pool = fresh('held');
        for (const member of world.members) {
          await pool.setFault(member, 'burst', { retry_after: '1s', times: 1 });
        }
        const c = pool.client(Anthropic);
        const begun = Date.now();
        const got = await readStream(c.client, hello('Stream'));
        assert.ifError(got.error);
        c.only();
        assert.ok(Date.now() - begun >= 990, 'nobody was busy');
      });

      for (const [fault, status, type, want, relayed, says] of [
        ['overloaded', 529, 'overloaded_error', 3, false, /verloaded/],
        ['internal_500', 500, 'api_error', 3, true, /Internal server error/],
        ['reset_before_head', 502, 'api_error', 3, false, /could not be reached/],
        ['unavailable_503', 503, 'api_error', 3, true, /Service unavailable/],
        ['windowless', 429, 'rate_limit_error', 3, true, /Error/],
        ['permission_403', 503, 'api_error', 1, false, /permission/],
        ['token_revoked', 503, 'api_error', 1, false, /in need of a login/],
        ['invalid_request', 400, 'invalid_request_error', 1, true, /Input should be a valid list/],
        ['prompt_too_long', 400, 'invalid_request_error', 1, true, /prompt is too long: 213462 tokens > 200000 maximum/],
        ['unknown_model', 404, 'not_found_error', 1, true, /model: claude-sonnet-5/],
      ]) {
        it(`${fault}: ${status} after ${want} tries`, async () => {
          const pool = fresh('off');
          await pool.setFault('*', fault);
          await both(pool, async (error, tries) => {
            assert.ok(error instanceof Anthropic.APIError, String(error));
            if (status === 529 && major === '1') {
              assert.equal(error.constructor.name, 'OverloadedError');
            } else if (status === 503 && major === '1') {
              assert.equal(error.constructor.name, 'ServiceUnavailableError');
            } else {
              assert.ok(error instanceof withStatus(status), error.constructor.name);
            }
            assert.equal(error.status, status);
            assert.equal(error.type, type);
            assert.match(error.message, says);
            mustCount(tries, want);
            if (!relayed && error.requestID?.startsWith('shunt_')) {
              mustBeOurs(error);
            } else {
              assert.equal(error.requestID, (await pool.log()).at(-1).request_id);
            }
          });
          await pool.mustBehave();
        });
      }
    });

    describe('a stream fails after its first event', { concurrency: 8 }, () => {
      for (const [fault, type] of [
        ['error_after_start', 'overloaded_error'],
        ['error_after_text', 'overloaded_error'],
        ['api_error_after_text', 'api_error'],
        ['rate_limit_after_text', 'rate_limit_error'],
      ]) {
        it(`${fault}: the error comes through, and nobody tries again`, async () => {
          const pool = fresh('held');
          await pool.setFault('*', fault);
          const c = pool.client(Anthropic);
          const direct = pool.reference(Anthropic);
          const got = await readStream(c.client, hello('Stream'));
          const want = await readStream(direct.client, hello('Stream'));
          assert.ok(got.error instanceof Anthropic.APIError, String(got.error));
          assert.equal(got.error.status, undefined);
          assert.equal(got.error.type, type);
          assert.equal(got.error.message, want.error.message);
          assert.ok(got.started);
          assert.equal(got.text === '', fault === 'error_after_start');
          assert.equal(got.text, want.text);
          assert.equal(await c.only().body, await direct.only().body);
          assert.equal((await pool.log()).length, 2, 'upstream saw more than this request and the direct one');
        });
      }
      for (const fault of ['cut_before_text', 'cut_after_text', 'close_after_text', 'end_after_text', 'end_without_stop', 'stall_after_text']) {
        it(`${fault}: a cut stream is an error`, async () => {
          const pool = fresh('stall');
          await pool.setFault('*', fault);
          const c = pool.client(Anthropic);
          const got = await readStream(c.client, hello('Stream'));
          assert.ok(got.error instanceof Anthropic.AnthropicError, `the cut stream is taken as whole: ${JSON.stringify(got)}`);
          assert.ok(got.started, 'what came before the cut was not delivered');
          assert.equal(got.text === '', fault === 'cut_before_text');
          assert.ok((await c.only().body) instanceof Error, 'the transfer looks whole');
          assert.equal((await pool.log()).length, 1);
        });
      }
    });
  });
}
