// What both pages share: making elements, and calling the REST API.

// An element. Properties are set as they are, those that begin with "on" as listeners; texts are never taken for HTML.
export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made[name] = value;
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}

export const stack = await (await fetch("/stack.json")).json();

// An answer that is not 2xx, in the words of its body.
export class Refused extends Error {
  constructor(status, body) {
    super(typeof body === "string" ? body : (body.message ?? body.error));
    this.status = status;
  }
}

// The JSON that the REST API answers; throws Refused.
export async function call(method, path, token, body, headers = {}) {
  if (token) headers = { ...headers, Authorization: `Bearer ${token}` };
  if (body !== undefined) headers = { ...headers, "Content-Type": "application/json" };
  const answer = await fetch(stack.rest_url + path, { method, headers, body: body && JSON.stringify(body) });
  const said = await answer.json();
  if (!answer.ok) throw new Refused(answer.status, said);
  return said;
}

// A caller's token, as the product's own sign-in would give it.
export async function signIn(id, name, role) {
  const answer = await fetch("/sign-in", { method: "POST", body: JSON.stringify({ id, name, role }) });
  const said = await answer.json();
  if (!answer.ok) throw new Refused(answer.status, said);
  return said.token;
}
