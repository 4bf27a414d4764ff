"use strict";
// The OpenAPI document, made readable.

const make = (tag, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
};

function typeOf(schema) {
  if (!schema) return "";
  if (schema.$ref) return make("a", { href: `#${schema.$ref.split("/").pop()}`, textContent: schema.$ref.split("/").pop() });
  if (schema.enum) return schema.enum.map((one) => `"${one}"`).join(" or ");
  const either = schema.oneOf || schema.anyOf || schema.allOf;
  if (either) return make("span", {}, ...either.flatMap((one, nth) => (nth ? [" or ", typeOf(one)] : [typeOf(one)])));
  if (schema.type === "array") return make("span", {}, "list of ", typeOf(schema.items));
  return [].concat(schema.type || "object").join(" or ");
}

function table(head, rows) {
  return make("table", {}, make("thead", {}, make("tr", {}, ...head.map((text) => make("th", { scope: "col", textContent: text })))),
    make("tbody", {}, ...rows.map((cells) => make("tr", {}, ...cells.map((cell) => make("td", {}, cell ?? ""))))));
}

function operation(method, path, one) {
  const article = make("article", { id: one.operationId }, make("h3", {}, make("code", { textContent: `${method.toUpperCase()} ${path}` })), make("p", { textContent: one.summary || "" }));
  if (one.description) article.append(make("p", { textContent: one.description }));
  if (one.parameters?.length) article.append(table(["parameter", "in", "type", "meaning"], one.parameters.map((p) => [make("code", { textContent: p.name }), p.in + (p.required ? ", required" : ""), typeOf(p.schema), p.description || ""])));
  const body = one.requestBody?.content?.["application/json"]?.schema;
  if (body) article.append(make("p", {}, "Body: ", typeOf(body)));
  const good = Object.entries(one.responses).filter(([status]) => status < 300);
  article.append(make("p", {}, "Answer: ", ...good.flatMap(([status, r]) => [`${status} `, typeOf(Object.values(r.content || {})[0]?.schema), " "])));
  return article;
}

function shape(name, schema) {
  const parts = [schema, ...(schema.allOf || [])];
  const fields = Object.assign({}, ...parts.map((part) => part.properties || {}));
  const needed = parts.flatMap((part) => part.required || []);
  const rows = Object.entries(fields).map(([key, field]) => [make("code", { textContent: key }), typeOf(field), (needed.includes(key) ? "" : "optional. ") + (field.description || "")]);
  const article = make("article", { id: name }, make("h3", { textContent: name }), make("p", { textContent: schema.description || "" }));
  for (const part of schema.allOf || []) if (part.$ref) article.append(make("p", {}, "With all of ", typeOf(part)));
  if (rows.length) article.append(table(["field", "type", "meaning"], rows)); else article.append(make("p", {}, typeOf(schema)));
  return article;
}

fetch("/api/v1/openapi.json").then((response) => response.json()).then((api) => {
  document.getElementById("intro").textContent = api.info.description;
  const operations = document.getElementById("operations");
  const list = make("ul");
  const refusals = new Map();
  for (const [path, methods] of Object.entries(api.paths)) for (const [method, one] of Object.entries(methods)) {
    if (!one.responses) continue;
    list.append(make("li", {}, make("a", { href: `#${one.operationId}` }, make("code", { textContent: `${method.toUpperCase()} ${path}` })), ` ${one.summary || ""}`));
    operations.append(operation(method, path, one));
    for (const [status, r] of Object.entries(one.responses)) if (status >= 400) refusals.set(status, r.description);
  }
  document.getElementById("contents").append(list);
  operations.append(make("h2", { textContent: "Refusals" }), make("p", {}, "Any request may be refused, with an ", typeOf({ $ref: "#/components/schemas/ErrorView" }), ":"), table(["status", "why"], [...refusals].sort()));
  operations.append(make("h2", { textContent: "Objects" }), ...Object.entries(api.components.schemas).map(([name, schema]) => shape(name, schema)));
  if (location.hash) document.getElementById(location.hash.slice(1))?.scrollIntoView();
});
