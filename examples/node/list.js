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

function client(Service, { target, tls }) {
  return new Service(target, tls ? grpc.credentials.createSsl() : grpc.credentials.createInsecure());
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
const found = await (await fetch(new URL("/.well-known/syncline", endpoint), { redirect: "error" })).json();
const auth = client(syncline.auth.v1.AuthService, found.auth);
const metadata = client(syncline.metadata.v1.MetadataService, found.metadata);

const { tokens } = await call(auth, "ExchangeKey", { key });
const authorized = new grpc.Metadata();
authorized.set("authorization", `Bearer ${tokens.accessToken}`);
const { spaces } = await call(auth, "ListSpaces", {}, authorized);
const personal = spaces.find((space) => space.personal);
for await (const file of files(metadata, authorized, personal.spaceId)) console.log(JSON.stringify(file));

auth.close();
metadata.close();
