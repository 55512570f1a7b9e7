// The API document as a page: every operation with what it takes and answers, and a form to try it from here.

import { element, signIn, stack } from "./dom.js";

const SHOWN = 20_000; // characters of an answer
const openapi = await (await fetch("/openapi.json")).json();
const NOT_FROM_PAGES = /^(X-.*|Last-Event-ID)$/; // headers that Daily sends, and that EventSource does by itself
const METHODS = ["get", "post", "put", "patch", "delete"];

function resolve(part) {
  if (!part?.$ref) return part;
  const found = part.$ref.split("/").slice(1).reduce((inside, name) => inside[name], openapi);
  return { ...resolve(found), ...part, $ref: undefined };
}

// A description: paragraphs, `code` and **weight**.
function prose(text = "") {
  const spans = (paragraph) => paragraph.split(/(`[^`]+`|\*\*[^*]+\*\*)/).map((part) => {
    if (part.startsWith("`")) return element("code", {}, part.slice(1, -1));
    return part.startsWith("**") ? element("strong", {}, part.slice(2, -2)) : part;
  });
  return text.trim().split(/\n\n+/).map((paragraph) => element("p", {}, spans(paragraph)));
}

function named(schema) {
  return schema?.$ref?.split("/").at(-1);
}

// A schema in one line: its name, or its type.
function brief(schema = {}) {
  if (named(schema)) return named(schema);
  if (schema.contentSchema) return `${brief(schema.contentSchema)} as JSON`;
  if (schema.type === "array") return `array of ${brief(schema.items)}`;
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.join(" | ");
  if (schema.anyOf) return schema.anyOf.map(brief).join(" | ");
  return [schema.type].flat().join(" | ");
}

function limits({ format, pattern, minimum, maximum }) {
  const given = { format, pattern, minimum, maximum };
  return Object.entries(given).flatMap(([name, value]) => (value === undefined ? [] : `${name} ${value}`)).join(", ");
}

function table(rows) {
  const lines = rows.map((cells) => element("tr", {}, cells.map((cell) => element("td", {}, cell))));
  return element("table", {}, element("tbody", {}, lines));
}

function parametersOf(item, operation) {
  return [...(item.parameters ?? []), ...(operation.parameters ?? [])].map(resolve);
}

function showParameters(parameters) {
  if (!parameters.length) return null;
  const rows = parameters.map((one) => {
    const schema = resolve(one.schema);
    const kind = [one.in, brief(one.schema), limits(schema)].filter(Boolean).join(", ");
    const description = one.description ?? schema.description;
    return [element("code", {}, one.name), kind + (one.required ? ", required" : ""), prose(description)];
  });
  return [element("h4", {}, "Parameters"), table(rows)];
}

function showSchema(schema) {
  const { type, properties, items, required = [] } = resolve(schema);
  if (type === "array") return showSchema(items);
  if (!properties) return null;
  return table(Object.entries(properties).map(([name, value]) => {
    const known = { ...resolve(value.anyOf?.[0]), ...resolve(value) };
    const kind = [brief(value), limits(known), required.includes(name) ? "always" : ""].filter(Boolean).join(", ");
    return [element("code", {}, name), kind, prose(known.description)];
  }));
}

function showAnswers(responses) {
  const answers = Object.entries(responses).map(([status, one]) => {
    const { description, headers = {}, content = {} } = resolve(one);
    const [[kind = "", { schema } = {}] = []] = Object.entries(content);
    const known = Object.entries(headers).map(([name, header]) =>
      [element("code", {}, name), prose(resolve(header).description)]);
    const name = [element("strong", {}, status), ` ${schema ? brief(schema) : ""} `];
    return element("details", {}, element("summary", {}, name, element("span", { className: "quiet" }, kind)),
      prose(description), schema && showSchema(schema), table(known));
  });
  return [element("h4", {}, "Answers"), ...answers];
}

// A form that sends the operation and shows what was answered.
function attempt(method, path, parameters, operation) {
  const body = resolve(operation.requestBody)?.content?.["application/json"]?.schema;
  const answer = element("pre", { hidden: true });
  const fields = parameters.filter((one) => !NOT_FROM_PAGES.test(one.name)).map(({ name, required = false }) =>
    element("label", {}, name, element("input", { name, required, autocomplete: "off" })));
  const example = JSON.stringify(resolve(body)?.example ?? {}, null, 2);
  const text = body && element("textarea", { name: "body", rows: 6, value: example });
  const form = element("form", {}, fields, text, element("button", {}, "Send"));
  form.onsubmit = async (event) => {
    event.preventDefault();
    answer.hidden = false;
    answer.textContent = await sent(method, path, parameters, new FormData(form)).catch((problem) => String(problem));
  };
  return [element("h4", {}, "Try it"), form, answer];
}

async function sent(method, path, parameters, given) {
  const query = new URLSearchParams();
  const headers = {};
  let filled = path;
  for (const { name, in: where } of parameters) {
    const value = given.get(name);
    if (where === "path") filled = filled.replace(`{${name}}`, encodeURIComponent(value));
    else if (value && where === "query") query.set(name, value);
    else if (value) headers[name] = value;
  }
  const who = new FormData(document.getElementById("caller")).get("who");
  if (who) headers.Authorization = `Bearer ${await signIn(...who.split(" "))}`;
  const address = stack.rest_url + filled + (query.size ? `?${query}` : "");
  const answer = await fetch(address, { method: method.toUpperCase(), headers, body: given.get("body") ?? undefined });
  const told = [...answer.headers].map(([name, value]) => `${name}: ${value}`).join("\n");
  return `${answer.status}\n${told}\n\n${await shown(answer)}`;
}

// As JSON that people read, where it is JSON; of a stream its beginning.
async function shown(answer) {
  if (answer.headers.get("content-type")?.startsWith("text/event-stream")) {
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    const { value } = await reader.read();
    await reader.cancel();
    return `${value ?? ""}…`;
  }
  const raw = await answer.text();
  try {
    return JSON.stringify(JSON.parse(raw), null, 2).slice(0, SHOWN);
  } catch {
    return raw.slice(0, SHOWN);
  }
}

function show(method, path, item, operation) {
  const parameters = parametersOf(item, operation);
  const body = resolve(operation.requestBody)?.content?.["application/json"]?.schema;
  const needed = operation.security ?? openapi.security;
  const optional = needed.some((one) => !one.caller);
  const caller = needed.length === 0 ? "Public." : optional ? "With a token or without." : "With a token.";
  const verb = element("span", { className: "method" }, method.toUpperCase());
  return element("details", { id: operation.operationId },
    element("summary", {}, verb, element("code", {}, path), ` ${operation.summary}`),
    prose(operation.description), element("p", { className: "quiet" }, caller),
    showParameters(parameters), body && [element("h4", {}, `Body: ${brief(body)}`), showSchema(body)],
    showAnswers(operation.responses), attempt(method, path, parameters, operation));
}

const operations = Object.entries(openapi.paths).flatMap(([path, item]) => METHODS.filter((method) => item[method])
  .map((method) => ({ tag: item[method].tags[0], details: show(method, path, item, item[method]) })));

document.getElementById("title").textContent = `${openapi.info.title} ${openapi.info.version}`;
document.getElementById("description").append(...prose(openapi.info.description));
for (const { name, description } of openapi.tags) {
  const ours = operations.filter(({ tag }) => tag === name).map(({ details }) => details);
  document.getElementById("operations").append(element("h2", {}, name), ...prose(description), ...ours);
}
const schemas = Object.entries(openapi.components.schemas).map(([name, schema]) =>
  element("details", { id: name }, element("summary", {}, name), prose(schema.description), showSchema(schema)));
document.getElementById("schemas").append(...schemas);
if (location.hash) document.getElementById(location.hash.slice(1))?.setAttribute("open", "");
