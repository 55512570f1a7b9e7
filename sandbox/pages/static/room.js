// The call in a room, in the place of Daily's own client: the stand-in is told who joins and leaves, and asked who is
// inside.

import { Refused, stack } from "./dom.js";

const PAUSE = 1000; // ms between two looks into the room

// The id of the connection; throws Refused, as when the token is not good for this room.
export async function join(room, token) {
  return (await tell(room, "join", { token })).session_id;
}

export async function leave(room, connection) {
  await tell(room, "leave", { session_id: connection });
}

// Also while the window is being closed.
export function leaveAtOnce(room, connection) {
  navigator.sendBeacon(address(room, "leave"), JSON.stringify({ session_id: connection }));
}

// Everybody inside, once a second while that can be seen: {id, connection, name, mic, camera}.
export async function* inside(room, signal) {
  const state = `${stack.daily_url}/sandbox/state?room=${encodeURIComponent(room)}`;
  const look = () => fetch(state, { signal }).then((answer) => (answer.ok ? answer.json() : null));
  while (!signal.aborted) {
    const seen = await look().catch(() => null);
    if (seen) yield seen.connections.filter((one) => one.left_at === null).map(person);
    await new Promise((resolve) => setTimeout(resolve, PAUSE));
  }
}

function person({ user_id, session_id, user_name, permissions: { canSend } }) {
  const may = (what) => canSend === true || (Array.isArray(canSend) && canSend.includes(what));
  return { id: user_id, connection: session_id, name: user_name, mic: may("audio"), camera: may("video") };
}

async function tell(room, verb, body) {
  const answer = await fetch(address(room, verb), { method: "POST", body: JSON.stringify(body) });
  const said = await answer.json();
  if (!answer.ok) throw new Refused(answer.status, said.info ?? said.error);
  return said;
}

function address(room, verb) {
  return `${stack.daily_url}/sandbox/rooms/${encodeURIComponent(room)}/${verb}`;
}
