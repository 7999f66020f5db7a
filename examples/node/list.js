// Lists the files of your personal space by gRPC: one line of JSON for each.
//
//     npm install
//     export SYNCLINE_ENDPOINT=https://files.example.com SYNCLINE_KEY=syk_...    # a key of the settings of the web app
//     node list.js
//
// ../typescript is a whole client, with types, retries and transfers.

import { fileURLToPath } from "node:url";

import * as grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

const PROTOS = fileURLToPath(new URL("../../protos", import.meta.url));
const ROOT = Buffer.alloc(16);
const DEADLINE_MS = 30_000;

const { syncline } = grpc.loadPackageDefinition(
  loadSync(["syncline/auth/v1/auth.proto", "syncline/metadata/v1/metadata.proto"], {
    includeDirs: [PROTOS],
    longs: Number,
    enums: String,
    defaults: true,
  }),
);

/** Calls a unary method. Errors carry a reason (google.rpc.ErrorInfo) in their details: see ../typescript/src/errors.ts. */
function call(client, method, request, metadata = new grpc.Metadata()) {
  return new Promise((resolve, reject) => {
    const options = { deadline: Date.now() + DEADLINE_MS };
    client[method](request, metadata, options, (error, response) => (error ? reject(error) : resolve(response)));
  });
}

/** A service, which has to be where the endpoint is or below it, and be reached by TLS if it is not on this machine. */
function client(Service, { target, tls }, { hostname }) {
  const host = new URL(`https://${target}`).hostname;
  const local = isThisMachine(host) && isThisMachine(hostname);
  if (!local && (tls !== true || !(host === hostname || host.endsWith(`.${hostname}`)))) {
    throw new Error(`${hostname} says that a service is at ${host}, elsewhere or without TLS; nothing was sent`);
  }
  return new Service(target, tls ? grpc.credentials.createSsl() : grpc.credentials.createInsecure());
}

function isThisMachine(host) {
  return host === "localhost" || host === "[::1]" || /^127\.\d+\.\d+\.\d+$/.test(host);
}

/** JSON that is the same to a program, and in which no name steers a terminal or hides anything. */
function harmless(value) {
  return JSON.stringify(value).replace(/[\p{C}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}]/gu, (found) =>
    found
      .split("")
      .map((unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`)
      .join(""),
  );
}

/** The files below a directory, with their paths. */
async function* files(metadata, authorized, spaceId, parent = ROOT, above = "") {
  let pageToken = "";
  do {
    const page = await call(metadata, "ListNodes", { spaceId, parent, pageToken }, authorized);
    for (const node of page.nodes) {
      if (node.kind === "NODE_KIND_DIRECTORY") yield* files(metadata, authorized, spaceId, node.id, `${above}${node.name}/`);
      else yield { path: above + node.name, version: node.version, size: node.content.size, sha256: node.content.digest.toString("hex") };
    }
    pageToken = page.nextPageToken;
  } while (pageToken);
}

const { SYNCLINE_ENDPOINT: endpoint, SYNCLINE_KEY: key } = process.env;
if (!endpoint || !key) throw new Error("SYNCLINE_ENDPOINT and SYNCLINE_KEY say where and as whom");
const address = new URL("/.well-known/syncline", endpoint);
if (address.protocol !== "https:" && !isThisMachine(address.hostname)) throw new Error(`${endpoint} is not encrypted: use https://`);
const found = await (await fetch(address, { redirect: "error" })).json();
const auth = client(syncline.auth.v1.AuthService, found.auth, address);
const metadata = client(syncline.metadata.v1.MetadataService, found.metadata, address);

const { tokens } = await call(auth, "ExchangeKey", { key });
const authorized = new grpc.Metadata();
authorized.set("authorization", `Bearer ${tokens.accessToken}`);
const { spaces } = await call(auth, "ListSpaces", {}, authorized);
const personal = spaces.find((space) => space.personal);
for await (const file of files(metadata, authorized, personal.spaceId)) console.log(harmless(file));

auth.close();
metadata.close();
