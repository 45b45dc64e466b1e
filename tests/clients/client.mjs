// The official client for Node through the gateway: every kind of call, and errors of the same types as without it.

import assert from 'node:assert/strict';
import OpenAI, { toFile } from 'openai';

const { THROUGH, DIRECT, FAILING, FAILING_DIRECT, GUARDED, GATEWAY_TOKEN, NOWHERE } = process.env;
const model = 'gpt-4o-mini';

const client = (baseURL, apiKey = 'sk-of-the-caller') => new OpenAI({ baseURL, apiKey, maxRetries: 0 });
const say = (api, content, options = {}) =>
  api.chat.completions.create({ model, messages: [{ role: 'user', content }], max_tokens: 8, ...options });

/** What a call throws: its type, status, code and type of error. */
async function failure(baseURL, call) {
  try {
    await call(client(baseURL));
  } catch (error) {
    if (error instanceof OpenAI.APIError) return [error.constructor.name, error.status, error.code, error.type];
    throw error;
  }
  assert.fail('the call did not fail');
}

const tests = {
  async 'chat'() {
    const answer = await say(client(THROUGH), 'the gateway');
    assert.equal(answer.choices[0].message.content, 'You said: the gateway');
    assert(answer.usage.total_tokens > 0);
  },

  async 'streaming'() {
    const stream = await say(client(THROUGH), 'one word after another', { stream: true });
    let text = '', chunks = 0;
    for await (const chunk of stream) {
      chunks += 1;
      text += chunk.choices[0]?.delta?.content ?? '';
    }
    assert.equal(text, 'You said: one word after another');
    assert(chunks > 5);
  },

  async 'responses'() {
    const answer = await client(THROUGH).responses.create({ model, input: 'hello', max_output_tokens: 8 });
    assert.equal(answer.output_text, 'You said: hello');
  },

  async 'embeddings'() {
    const answer = await client(THROUGH).embeddings.create({ model: 'text-embedding-3-small', input: ['a', 'b'] });
    assert.deepEqual(answer.data.map(item => item.embedding.length), [16, 16]);
  },

  async 'models'() {
    const ids = [];
    for await (const item of client(THROUGH).models.list()) ids.push(item.id);
    assert(ids.includes(model));
  },

  async 'file upload'() {
    const content = Buffer.from('{"custom_id": "1"}\n'.repeat(100_000));
    const file = await toFile(content, 'batch.jsonl');
    const answer = await client(THROUGH).files.create({ file, purpose: 'batch' });
    assert.deepEqual([answer.bytes, answer.filename, answer.purpose], [content.length, 'batch.jsonl', 'batch']);
  },

  async 'raw headers'() {
    const { response } = await say(client(THROUGH), 'hi').withResponse();
    assert.equal(response.headers.get('x-ratelimit-limit-requests'), '500');
    assert.match(response.headers.get('x-request-id'), /^req_/);
  },

  async 'errors have the same types'() {
    for (const [expected, call] of [
      ['BadRequestError', api => say(api, 'x', { temperature: 3 })],
      ['BadRequestError', api => say(api, 'x'.repeat(600_000))],
      ['NotFoundError', api => api.get('/no/such/place')],
      ['RateLimitError', api => say(api, 'x', { n: 128, max_tokens: 100_000 })],
      ['AuthenticationError', api => say(api, 'x', {}, api.apiKey = '')],
    ]) {
      const [direct, through] = [await failure(DIRECT, call), await failure(THROUGH, call)];
      assert.deepEqual(through, direct);
      assert.equal(through[0], expected);
    }
  },

  async 'server errors have the same type'() {
    const [direct, through] = [await failure(FAILING_DIRECT, api => say(api, 'x')), await failure(FAILING, api => say(api, 'x'))];
    assert.deepEqual(through, direct);
    assert.equal(through[0], 'InternalServerError');
  },

  async "the gateway's own errors are the client's types"() {
    const answer = await say(client(GUARDED, GATEWAY_TOKEN), 'let in');
    assert.equal(answer.choices[0].message.content, 'You said: let in');
    const outside = await failure(GUARDED, api => say(api, 'x'));
    assert.deepEqual(outside.slice(0, 3), ['AuthenticationError', 401, 'invalid_api_key']);
    const nowhere = await failure(NOWHERE, api => say(api, 'x'));
    assert.deepEqual(nowhere.slice(0, 2), ['InternalServerError', 502]);
  },

  async 'sixty-four at once and none fails'() {
    const burst = async (baseURL, calls) => {
      const api = client(baseURL);
      let next = 0, good = 0;
      const worker = async () => {
        while (next < calls) {
          const number = next++;
          try {
            const answer = await say(api, `item ${number}`);
            good += answer.choices[0].message.content === `You said: item ${number}`;
          } catch (error) {
            if (!(error instanceof OpenAI.RateLimitError)) throw error;
          }
        }
      };
      await Promise.all(Array.from({ length: 64 }, worker));
      return good;
    };
    // The API lets 500 through at once and then 500 a minute.
    assert.equal(await burst(THROUGH, 540), 540);
    assert(await burst(DIRECT, 64) < 64, 'the limit was not reached, so the test shows nothing');
  },
};

let failed = 0;
for (const [name, test] of Object.entries(tests)) {
  try {
    await test();
    console.log('ok    ', name);
  } catch (error) {
    failed += 1;
    console.log('FAILED', name);
    console.error(error);
  }
}
console.log(`openai ${(await import('openai/version')).VERSION} for Node`);
console.log(`${Object.keys(tests).length - failed} passed, ${failed} failed`);
process.exitCode = failed > 0 ? 1 : 0;
