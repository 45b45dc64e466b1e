// The status page in a real browser, under load: the charts move, nothing is written to the console, nothing is asked
// of anybody but the gateway. Writes a picture for each colour scheme.
//
//     node gateway/tests/browser.mjs http://127.0.0.1:8080 DIRECTORY [SECONDS]
//
// Needs Chromium and `playwright-core`; the gateway in front of its mock API. `gateway/tests/browser` sees to all of it.

import assert from 'node:assert/strict';
import { mkdtempSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';

const [base, directory, seconds = '20'] = process.argv.slice(2);
const { chromium } = createRequire(resolve(directory, 'x.js'))('playwright-core');
const wait = ms => new Promise(done => setTimeout(done, ms));

const browser = await chromium.launchPersistentContext(mkdtempSync(join(tmpdir(), 'browser-')), {
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  headless: true,
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync'],
  viewport: { width: 1160, height: 800 },
  colorScheme: 'light',
});
const page = browser.pages()[0] ?? await browser.newPage();
const said = [], asked = [];
page.on('console', message => said.push(message.text()));
page.on('pageerror', error => said.push(String(error)));
page.on('request', request => asked.push(request.url()));
await page.goto(base, { waitUntil: 'load' });
await page.waitForFunction(() => document.querySelector('#state span').textContent !== 'Asking the gateway …');
const shown = async () => ({
  tiles: await page.locator('.tile b').allTextContents(),
  charts: await page.locator('.chart path').evaluateAll(paths => paths.map(path => path.getAttribute('d'))),
  state: await page.locator('#state').innerText(),
});

const ask = (url = base) => fetch(`${url}/v1/chat/completions`, {
  method: 'POST',
  headers: { authorization: 'Bearer sk-browser-test', 'content-type': 'application/json' },
  body: JSON.stringify({ model: 'gpt-4o-mini', messages: [{ role: 'user', content: 'hello' }], max_tokens: 8 }),
}).then(response => response.text());
// A load that comes and goes, so that there is something to see.
const end = Date.now() + 1000 * Number(seconds);
const worker = async number => {
  await wait(number * 100);
  while (Date.now() < end) {
    await ask();
    await wait(400 * (1 + Math.sin(Date.now() / 8000)) * Math.random());
  }
};
const load = Promise.all(Array.from({ length: 64 }, (_, number) => worker(number)));

// Somebody else who uses up the same quota now and then: the gateway cannot know it, and meets a few 429s.
const { upstream } = await (await fetch(`${base}/status.json`)).json();
const other = (async () => {
  while (Date.now() < end) {
    await wait(6000);
    await Promise.all(Array.from({ length: 12 }, () => ask(upstream)));
  }
})();

await wait(500 * Number(seconds));
const before = await shown();
await wait(3500);
const after = await shown();
assert.notDeepEqual(after.tiles, before.tiles, 'the numbers stand still');
const moved = after.charts.filter((path, index) => path && path !== before.charts[index]).length;
assert(moved >= 4, `only ${moved} curves move`);

await wait(Math.max(0, end - Date.now() - 1500));
console.log((await shown()).state.replaceAll('\n', '  '), (await shown()).tiles);
await page.screenshot({ path: join(directory, 'light.png'), fullPage: true });
await page.emulateMedia({ colorScheme: 'dark' });
await page.locator('.plot').nth(1).hover({ position: { x: 420, y: 60 } });
await wait(200);
assert(await page.locator('.tip').nth(1).isVisible(), 'no tip');
await page.screenshot({ path: join(directory, 'dark.png'), fullPage: true });
await page.emulateMedia({ colorScheme: 'light' });
await page.setViewportSize({ width: 420, height: 900 });
await wait(1200);
assert(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), 'a narrow window scrolls sideways');
await page.screenshot({ path: join(directory, 'narrow.png'), fullPage: true });
await Promise.all([load, other]);

assert.deepEqual(said, [], 'the console is not empty');
assert.deepEqual(asked.filter(url => !url.startsWith(base)), [], 'somebody else was asked');
await browser.close();
console.log('1 passed, 0 failed');
