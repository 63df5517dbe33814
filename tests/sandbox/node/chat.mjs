// Asks the sandbox at HINOW_BASE_URL by the official package, whole and streamed, and prints what came.
import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.env.HINOW_BASE_URL, apiKey: process.env.HINOW_API_KEY });
const request = { model: "hinow/himax", messages: [{ role: "user", content: "Name three" }] };
const parameters = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const tools = [{ type: "function", function: { name: "weather", parameters } }];

const whole = await client.chat.completions.create(request);
let streamed = "";
for await (const chunk of await client.chat.completions.create({ ...request, stream: true })) {
  streamed += chunk.choices[0]?.delta?.content ?? "";
}
const helper = client.chat.completions.stream({ ...request, tools });
const call = (await helper.finalChatCompletion()).choices[0].message.tool_calls[0];
let refused = 0;
try {
  await client.chat.completions.create({ ...request, model: "himax" });
} catch (error) {
  refused = error.status;
}
console.log(JSON.stringify({
  whole: whole.choices[0].message.content,
  tokens: whole.usage.total_tokens,
  streamed,
  tool: call.function.name,
  arguments: JSON.parse(call.function.arguments),
  refused,
  models: (await client.models.list()).data.map((model) => model.id),
}));
