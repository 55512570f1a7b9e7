// The classroom: one window is one person. What the instructor sees of the class is what its event stream tells; a
// student is told of the session alone, and sees the others as everybody in a call does.

import { Refused, call, element, signIn, stack } from "./dom.js";
import { events } from "./events.js";
import { inside, join, leave, leaveAtOnce } from "./room.js";

const SHOWN = 200; // events in the list
const at = (id) => document.getElementById(id);

const me = { id: "", token: "", connection: null };
let session = null; // the latest that was told
let recording = null;
const participants = new Map(); // by user id: who was ever told of
let present = []; // who is in the call
let following = new AbortController();

const path = (rest = "") => `/sessions/${encodeURIComponent(session.roomName)}${rest}`;
const mine = () => session.createdBy === me.id;

// What buttons and forms do: one thing at a time, and what goes wrong is shown.
function does(work) {
  return async (event) => {
    event.preventDefault();
    const button = event.submitter ?? event.currentTarget;
    button.disabled = true;
    at("problem").textContent = "";
    try {
      await work(new FormData(event.target instanceof HTMLFormElement ? event.target : undefined));
    } catch (problem) {
      at("problem").textContent = problem.message;
    } finally {
      button.disabled = false;
    }
  };
}

at("sign-in").querySelector("button").disabled = false; // before that, the browser would send the form itself
at("sign-in").onsubmit = does(async (given) => {
  const [name, role] = [given.get("name").trim(), given.get("role")];
  me.id = `${role}-${name.toLowerCase().replace(/\s+/g, "-")}`;
  me.token = await signIn(me.id, name, role);
  document.title = `${name} – Classroom`;
  at("sign-in").replaceWith(element("p", {}, `Signed in as ${name}, ${role}.`));
  at("signed-in").hidden = false;
  at("create").hidden = role !== "instructor";
  const room = new URLSearchParams(location.search).get("room");
  if (room) await enter(room);
});

// While nobody has answered it, a second try is the same request under the same key: there will be one session.
let creation = null;
at("create").onsubmit = does(async (given) => {
  const courseId = given.get("course");
  if (creation?.asked.courseId !== courseId) {
    const asked = { courseId, startsAt: new Date().toISOString(), recordingEnabled: true };
    creation = { asked, headers: { "Idempotency-Key": crypto.randomUUID() } };
  }
  try {
    const made = await call("POST", "/sessions", me.token, creation.asked, creation.headers);
    creation = null;
    await enter(made.roomName);
  } catch (problem) {
    if (problem instanceof Refused && problem.status < 500) creation = null;
    throw problem;
  }
});

at("enter").onsubmit = does((given) => enter(given.get("room").trim()));
at("join").onclick = does(async () => {
  const { token } = await call("POST", path("/token"), me.token);
  me.connection = await join(session.roomName, token);
  show();
});
at("leave").onclick = does(async () => {
  await leave(session.roomName, me.connection);
  me.connection = null;
  show();
});
at("start").onclick = does(() => call("POST", path("/start-recording"), me.token));
at("stop").onclick = does(() => call("POST", path("/stop-recording"), me.token));
at("mute").onclick = does(() => call("POST", path("/mute"), me.token));
at("end").onclick = does(() => call("DELETE", path(), me.token));
addEventListener("pagehide", () => me.connection && leaveAtOnce(session.roomName, me.connection));

// Follows a session in place of the one before.
async function enter(room) {
  const found = await call("GET", `/sessions/${encodeURIComponent(room)}`);
  if (me.connection) await leave(session.roomName, me.connection);
  following.abort();
  following = new AbortController();
  me.connection = null;
  [session, recording, present] = [found, null, []];
  participants.clear();
  at("events").replaceChildren();
  at("session").hidden = false;
  const address = new URL(location);
  address.searchParams.set("room", room);
  history.replaceState(null, "", address);
  show();
  follow(following.signal);
  if (stack.daily_url) look(following.signal);
}

async function follow(signal) {
  try {
    for await (const event of events(session.roomName, me.token, signal)) {
      if (event.session) session = event.session;
      if (event.recording) recording = event.recording;
      if (event.participant) participants.set(event.participant.userId, event.participant);
      if (!event.heartbeat) note(event);
      show();
    }
  } catch (problem) {
    at("problem").textContent = problem.message;
  }
}

async function look(signal) {
  let before = null; // our connection when the look began: one that came meanwhile need not be seen yet
  for await (const people of inside(session.roomName, signal)) {
    present = people;
    if (me.connection && me.connection === before && !people.some((one) => one.connection === before)) {
      me.connection = null;
      at("problem").textContent = "You are no longer in the room.";
    }
    before = me.connection;
    show();
  }
}

function note({ revision, at: when, ...told }) {
  const [[kind, resource]] = Object.entries(told);
  const line = `${when} #${revision} ${kind} ${summary[kind](resource)}`;
  at("events").prepend(element("li", {}, line));
  at("events").children[SHOWN]?.remove();
}

const summary = {
  session: (one) => one.status,
  recording: (one) => one.status,
  participant: (one) => `${one.userId} ${state(one)}`,
};

function state(one) {
  const where = one.wasKicked ? "removed" : isInside(one) ? "inside" : one.joinedAt ? "left" : "not joined";
  return [where, one.micAllowed ? "" : "muted", one.cameraAllowed ? "" : "no camera"].filter(Boolean).join(", ");
}

const isInside = (one) => Boolean(one.joinedAt && !one.leftAt);

function show() {
  const ended = session.status === "ended";
  at("room").textContent = session.roomName;
  at("invitation").href = `?room=${encodeURIComponent(session.roomName)}`;
  at("status").textContent = session.status;
  at("recording").textContent = recording?.status === "processing" ? "recording" : `recording ${recording?.status}`;
  at("recording").hidden = recording === null;
  at("instructor").hidden = !mine();
  at("join").hidden = me.connection !== null || !stack.daily_url;
  at("leave").hidden = me.connection === null;
  for (const id of ["join", "start", "stop", "mute", "end"]) at(id).classList.toggle("quiet", ended);
  showPeople();
}

// Anew only where something has changed, so that nobody's button goes away under the pointer.
function showPeople() {
  const [people, rowOf] = mine() ? [[...participants.values()], participantRow] : [present, personRow];
  const seen = JSON.stringify(people);
  if (at("people").dataset.seen === seen) return;
  at("people").dataset.seen = seen;
  at("people").replaceChildren(...people.map(rowOf));
}

function participantRow(one) {
  const address = `/participants/${encodeURIComponent(one.userId)}`;
  const button = (label, method, rest, body) =>
    element("button", { name: label, onclick: does(() => call(method, path(address + rest), me.token, body)) }, label);
  const allow = (label, name) => button(label, "PATCH", "", { [name]: !one[name] });
  const actions = one.userId === me.id ? [] : [
    allow(one.micAllowed ? "Mute" : "Unmute", "micAllowed"),
    allow(one.cameraAllowed ? "Camera off" : "Camera on", "cameraAllowed"),
    one.wasKicked ? button("Readmit", "POST", "/readmit") : button("Remove", "POST", "/remove"),
  ];
  return row(one.userId, one.role, state(one), actions);
}

function personRow(one) {
  const may = [one.mic ? "" : "muted", one.camera ? "" : "no camera"].filter(Boolean).join(", ");
  return row(one.id, one.name, may, []);
}

function row(id, who, state, actions) {
  const line = element("tr", {}, ...[id, who, state].map((text) => element("td", {}, text ?? "")));
  line.dataset.user = id;
  line.append(element("td", {}, element("div", { className: "row" }, actions)));
  return line;
}
