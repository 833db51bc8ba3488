// The official OpenAI Node client, unmodified. Usage: node client.mjs REST_URL FOLDER_WITH_NODE_MODULES
// Prints one line of JSON: {tried, wrong, text}.
import { createRequire } from "node:module";
const OpenAI = createRequire(process.argv[3] + "/")("openai").default;
const client = new OpenAI({ baseURL: process.argv[2] + "/v1", apiKey: "none", maxRetries: 0 });
const wrong = [];
let tried = 0;
const want = (name, ok, got = "") => { tried += 1; if (!ok) wrong.push(`${name}: ${got}`); };

const model = (await client.models.list()).data[0].id;
const body = { model, messages: [{ role: "user", content: "Once upon a time" }], temperature: 0, max_tokens: 24 };
const unary = await client.chat.completions.create(body);
const text = unary.choices[0].message.content;
want("unary", text.length > 0 && unary.choices[0].finish_reason === "length", JSON.stringify(unary));

let streamed = "", usage = null, roles = 0, finishes = 0;
for await (const c of await client.chat.completions.create({ ...body, stream: true, stream_options: { include_usage: true } })) {
  streamed += c.choices[0]?.delta?.content ?? "";
  roles += c.choices[0]?.delta?.role === "assistant" ? 1 : 0;
  finishes += c.choices[0]?.finish_reason ? 1 : 0;
  usage = c.usage ?? usage;
}
want("stream equals unary", streamed === text, streamed);
want("one role, one finish", roles === 1 && finishes === 1, `${roles} ${finishes}`);
want("usage", usage?.total_tokens === unary.usage.total_tokens, JSON.stringify(usage));

// Events of some 2 KB, so that few can have come in one read with the third.
const stream = await client.chat.completions.create({ ...body, max_tokens: 400, stream: true, logprobs: true, top_logprobs: 20 });
let seen = 0;
for await (const _ of stream) if (++seen === 3) stream.controller.abort();
want("abort", seen >= 3 && seen < 200, seen);
for (const [name, change, status, param] of [["temperature", { temperature: 9 }, 400, "temperature"], ["n", { n: 0 }, 400, "n"], ["model", { model: "nope" }, 404, "model"]]) {
  try { await client.chat.completions.create({ ...body, ...change }); want(name, false, "accepted"); }
  catch (e) { want(name, e.status === status && e.param === param && e.error?.message, `${e.status} ${e.param} ${e.message}`); }
}
const completion = await client.completions.create({ model, prompt: "Once upon", max_tokens: 4, temperature: 0, logprobs: 2 });
want("completion", completion.choices[0].logprobs.tokens.length === 4, JSON.stringify(completion));
want("after the abort", (await client.chat.completions.create(body)).choices[0].message.content === text);
console.log(JSON.stringify({ tried, wrong, text }));
