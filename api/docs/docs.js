// Lists the calls of /openapi.json. Everything is put in as text, nothing as markup.

"use strict";

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function json(value) {
  return element("pre", { tabIndex: 0 }, JSON.stringify(value, null, 2));
}

function exampleOf(content) {
  const examples = Object.values(content.examples ?? {});
  return examples.length ? examples[0].value : content.example;
}

function typeOf(schema) {
  if (!schema) return "";
  const parts = schema.anyOf ? schema.anyOf.filter((one) => one.type !== "null") : [schema];
  return parts.map((one) => one.format ?? one.type ?? one.$ref?.split("/").pop() ?? "").join(" or ");
}

function parameterTable(parameters) {
  const rows = parameters.map((one) =>
    element("tr", {},
      element("th", { scope: "row" }, element("code", {}, one.name)),
      element("td", {}, one.in),
      element("td", {}, typeOf(one.schema)),
      element("td", {}, one.description ?? one.schema?.description ?? "")));
  return element("table", {}, element("tbody", {}, ...rows));
}

function body(operation) {
  const contents = Object.entries(operation.requestBody?.content ?? {});
  return contents.flatMap(([type, content]) => [
    element("h3", {}, `Body: ${type}`),
    json(exampleOf(content)),
  ]);
}

function answers(operation) {
  return Object.entries(operation.responses).flatMap(([status, answer]) => {
    const content = Object.values(answer.content ?? {})[0];
    const example = content && exampleOf(content);
    const parts = [element("h3", {}, status), element("p", {}, answer.description)];
    if (example !== undefined) {
      parts.push(element("details", {}, element("summary", {}, "Example"), json(example)));
    }
    return parts;
  });
}

function section(method, path, operation) {
  const head = element("summary", {},
    element("span", { className: `method ${method}` }, method.toUpperCase()),
    element("code", {}, path),
    element("span", { className: "quiet" }, operation.summary ?? ""));
  const parts = [head, element("p", {}, operation.description ?? "")];
  if (operation.parameters?.length) {
    parts.push(element("h3", {}, "Parameters"), parameterTable(operation.parameters));
  }
  return element("details", { id: operation.operationId }, ...parts, ...body(operation),
    ...answers(operation));
}

function show(specification) {
  document.getElementById("title").textContent =
    `${specification.info.title} ${specification.info.version}: HTTP interface`;
  document.getElementById("description").textContent = specification.info.description;
  const groups = new Map();
  for (const [path, operations] of Object.entries(specification.paths)) {
    for (const [method, operation] of Object.entries(operations)) {
      const tag = operation.tags?.[0] ?? "other";
      groups.set(tag, [...(groups.get(tag) ?? []), section(method, path, operation)]);
    }
  }
  const order = specification.tags.map((tag) => tag.name);
  const tags = [...groups.keys()].sort((one, other) => order.indexOf(one) - order.indexOf(other));
  document.getElementById("operations").replaceChildren(
    ...tags.flatMap((tag) => [element("h2", {}, tag), ...groups.get(tag)]));
}

async function load() {
  try {
    const response = await fetch("openapi.json");
    show(await response.json());
  } catch (error) {
    document.getElementById("operations").replaceChildren(
      element("p", { role: "alert" }, `The document could not be read: ${error.message}`));
  }
}

load();
