// Drives OpenAI's official client for Node. Usage: node openai_node.mjs FOLDER URL RECORDING MODEL [TRANSLATING-MODEL],
// where FOLDER has node_modules in it.
import assert from "node:assert/strict";
import { createReadStream } from "node:fs";
import { createRequire } from "node:module";

const [folder, url, recording, model, ...translating] = process.argv.slice(2);
const require = createRequire(folder + "/package.json");
const OpenAI = require("openai").default;
const client = new OpenAI({ baseURL: url + "/v1", apiKey: "unused", maxRetries: 0 });
const known = "ask not what your country can do for you";

async function create(options) {
  const began = performance.now();
  // The file first, as in the client's own examples.
  const result = await client.audio.transcriptions.create({ file: createReadStream(recording), ...options });
  console.log(`${((performance.now() - began) / 1000).toFixed(1)} s: ${JSON.stringify(options)}`);
  return result;
}

const plain = await create({ model: "gpt-4o-transcribe", chunking_strategy: "auto" });
assert.ok(plain.text.includes(known), plain.text);
assert.equal(plain.usage.type, "duration");
assert.ok(Math.abs(plain.usage.seconds - 11) < 0.1);

const vtt = await create({ model, response_format: "vtt" });
assert.ok(vtt.startsWith("WEBVTT"), vtt);

const verbose = await create({ model, response_format: "verbose_json", timestamp_granularities: ["word", "segment"], language: "en", prompt: "A speech." });
assert.equal(verbose.language, "english");
for (const member of ["id", "seek", "start", "end", "text", "tokens", "temperature", "avg_logprob", "compression_ratio", "no_speech_prob"]) {
  assert.ok(member in verbose.segments[0], member);
}
assert.deepEqual(verbose.words.slice(0, 4).map((w) => w.word.replace(/[ ,.]/g, "").toLowerCase()), ["and", "so", "my", "fellow"]);

const stream = await create({ model, stream: true });
let text = "";
let done;
for await (const event of stream) {
  assert.equal(done, undefined, "an event after the last one");
  if (event.type === "transcript.text.delta") text += event.delta;
  else if (event.type === "transcript.text.done") done = event.text;
  else assert.fail(event.type);
}
assert.equal(text, done);
assert.ok(text.includes(known), text);

for (const name of translating) {
  const translated = await client.audio.translations.create({ file: createReadStream(recording), model: name, response_format: "verbose_json" });
  assert.ok(translated.text.includes(known), translated.text);
  assert.equal(translated.language, "english");
}

const ids = [];
for await (const m of client.models.list()) ids.push(m.id);
assert.ok(ids.includes(model), ids);
assert.equal((await client.models.retrieve(model)).id, model);

await assert.rejects(create({ model: "gigantic" }), (e) => e instanceof OpenAI.NotFoundError && e.message.includes(model));
for (const [param, options] of [
  ["response_format", { response_format: "diarized_json" }],
  ["include", { include: ["logprobs"] }],
  ["known_speaker_names", { known_speaker_names: ["agent"] }],
  ["temperature", { temperature: 7 }],
]) {
  await assert.rejects(create({ model, ...options }), (e) => e instanceof OpenAI.BadRequestError && e.param === param, param);
}
console.log("all calls of the official client for Node answered as they should");
