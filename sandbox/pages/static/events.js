// A session's events, by fetch: EventSource cannot send a token.

import { Refused, stack } from "./dom.js";

const PAUSE = 1000; // ms before the stream is opened again

// Each event as it comes. Where the stream breaks it is opened again, and goes on after the last revision that was
// told; it is over when the answer is that there is nothing more to come.
export async function* events(room, token, signal) {
  let after = 0;
  while (!signal.aborted) {
    try {
      const answer = await open(room, token, after, signal);
      if (answer.status === 204) return;
      for await (const line of lines(answer.body)) {
        if (!line.startsWith("data:")) continue;
        const event = JSON.parse(line.slice("data:".length));
        after = event.revision || after;
        yield event;
      }
    } catch (problem) {
      if (signal.aborted) return;
      if (problem instanceof Refused && problem.status < 500 && problem.status !== 429) throw problem;
    }
    await new Promise((resolve) => setTimeout(resolve, PAUSE));
  }
}

async function open(room, token, after, signal) {
  const query = after ? `?after_revision=${after}` : "";
  const address = `${stack.rest_url}/sessions/${encodeURIComponent(room)}/events${query}`;
  const answer = await fetch(address, { headers: { Authorization: `Bearer ${token}` }, signal });
  if (!answer.ok) throw new Refused(answer.status, await answer.json());
  return answer;
}

async function* lines(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    const found = (rest + part.value).split("\n");
    rest = found.pop();
    yield* found;
  }
}
