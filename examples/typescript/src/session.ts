/** A signed-in device: its tokens, its channels, and the one way in which it calls. */

import { randomBytes } from "node:crypto";
import { open, readFile, rename, rm } from "node:fs/promises";
import { fileURLToPath } from "node:url";

import * as grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

import { type Deployment, type Service, discover } from "./discovery.js";
import { SynclineError, meaning } from "./errors.js";
import type { ProtoGrpcType as AuthTypes } from "./gen/auth.js";
import type { ProtoGrpcType as MetadataTypes } from "./gen/metadata.js";
import type { AuthServiceClient } from "./gen/syncline/auth/v1/AuthService.js";
import type { RefreshTokenResponse__Output } from "./gen/syncline/auth/v1/RefreshTokenResponse.js";
import type { SignInResponse__Output } from "./gen/syncline/auth/v1/SignInResponse.js";
import type { Tokens__Output } from "./gen/syncline/auth/v1/Tokens.js";
import type { MetadataServiceClient } from "./gen/syncline/metadata/v1/MetadataService.js";
import { repeating } from "./retry.js";

export const PROTOS = fileURLToPath(new URL("../../../protos", import.meta.url));

const loaded = grpc.loadPackageDefinition(
  loadSync(["syncline/auth/v1/auth.proto", "syncline/metadata/v1/metadata.proto"], {
    includeDirs: [PROTOS],
    longs: String,
    enums: String,
    defaults: true,
    oneofs: true,
  }),
) as unknown as AuthTypes & MetadataTypes;

const DEADLINE_MS = 30_000;
/** A token that is good for less than this is not used any more. */
const MARGIN_MS = 60_000;

const CHANNEL: grpc.ChannelOptions = {
  "grpc.max_receive_message_length": 16 * 1024 * 1024,
  "grpc.keepalive_time_ms": 330_000,
  "grpc.keepalive_timeout_ms": 20_000,
  "grpc.initial_reconnect_backoff_ms": 200,
  "grpc.max_reconnect_backoff_ms": 5_000,
};

/** What goes at the end of a unary call: what the generated methods take after the request. */
export type Rest<Response> = [grpc.Metadata, grpc.CallOptions, grpc.requestCallback<Response>];

interface State {
  endpoint: string;
  email: string;
  user_id: string;
  personal_space_id: string;
  refresh_token: string;
  access_token: string;
  access_expires_at_ms: number;
}

export interface Credentials {
  endpoint: string;
  email: string;
  password: string;
  device: string;
}

export class Session {
  readonly auth: AuthServiceClient;
  readonly metadata: MetadataServiceClient;
  #refreshing: Promise<void> | null = null;

  private constructor(
    private readonly file: string,
    private state: State,
    readonly deployment: Deployment,
  ) {
    this.auth = new loaded.syncline.auth.v1.AuthService(...channel(deployment.auth));
    this.metadata = new loaded.syncline.metadata.v1.MetadataService(...channel(deployment.metadata));
  }

  get personalSpace(): string {
    return this.state.personal_space_id;
  }

  /** Sign this device in, or make the account as well, and keep its tokens in `file`. */
  static async signIn(file: string, { endpoint, email, password, device }: Credentials, signUp = false): Promise<Session> {
    const deployment = await discover(endpoint);
    const auth = new loaded.syncline.auth.v1.AuthService(...channel(deployment.auth));
    try {
      const request = { email, password, deviceName: device };
      // Not repeated: it makes a device each time.
      const answer = await unary<SignInResponse__Output>(new grpc.Metadata(), (...rest) =>
        signUp ? auth.SignUp(request, ...rest) : auth.SignIn(request, ...rest),
      );
      if (!answer.tokens || !answer.account) throw new SynclineError("UNEXPECTED_ANSWER", "an answer without tokens");
      const { userId, personalSpaceId } = answer.account;
      const state = { endpoint, email, user_id: userId, personal_space_id: personalSpaceId, ...held(answer.tokens) };
      await save(file, state);
      return new Session(file, state, deployment);
    } finally {
      auth.close();
    }
  }

  /** The device whose tokens are in `file`. */
  static async open(file: string): Promise<Session> {
    let text: string;
    try {
      text = await readFile(file, "utf8");
    } catch {
      throw new SynclineError("NOT_SIGNED_IN", `there is no ${file}; sign in first`);
    }
    const state = JSON.parse(text) as State;
    return new Session(file, state, await discover(state.endpoint));
  }

  close(): void {
    this.auth.close();
    this.metadata.close();
  }

  /** A unary call that may be repeated: with a deadline, repeated on passing faults, once with another token if refused. */
  async call<Response>(invoke: (...rest: Rest<Response>) => grpc.ClientUnaryCall, deadlineMs = DEADLINE_MS): Promise<Response> {
    return repeating(() => this.authorized((metadata) => unary<Response>(metadata, invoke, deadlineMs)));
  }

  /** Get another access token: the one at hand was refused. */
  async renew(): Promise<void> {
    await this.#refresh(this.state.access_token);
  }

  /** What `begin` gives with a token; begun again with a fresh one if that was refused. */
  async authorized<T>(begin: (metadata: grpc.Metadata) => Promise<T>): Promise<T> {
    if (this.state.access_expires_at_ms - Date.now() < MARGIN_MS) await this.#refresh(this.state.access_token);
    const used = this.state.access_token;
    try {
      return await begin(this.#metadata());
    } catch (failure) {
      const { reason } = meaning(failure);
      if (reason !== "TOKEN_EXPIRED" && reason !== "TOKEN_INVALID") throw failure;
      await this.#refresh(used);
      return begin(this.#metadata());
    }
  }

  #metadata(): grpc.Metadata {
    const metadata = new grpc.Metadata();
    metadata.set("authorization", `Bearer ${this.state.access_token}`);
    metadata.set("x-request-id", randomBytes(8).toString("hex"));
    return metadata;
  }

  /** One refresh at a time, and saved before it is used: a spent token that comes again signs the device out. */
  async #refresh(refused: string): Promise<void> {
    this.#refreshing ??= (async () => {
      if (this.state.access_token !== refused) return;
      const request = { refreshToken: this.state.refresh_token };
      const { tokens } = await repeating(() =>
        unary<RefreshTokenResponse__Output>(new grpc.Metadata(), (...rest) => this.auth.RefreshToken(request, ...rest)),
      );
      if (!tokens) throw new SynclineError("UNEXPECTED_ANSWER", "an answer without tokens");
      const state = { ...this.state, ...held(tokens) };
      await save(this.file, state);
      this.state = state;
    })().finally(() => {
      this.#refreshing = null;
    });
    await this.#refreshing;
  }
}

/** 16 random bytes: the same ones when a request is repeated. */
export function newRequestId(): Buffer {
  return randomBytes(16);
}

function channel({ target, tls }: Service): [string, grpc.ChannelCredentials, grpc.ChannelOptions] {
  return [target, tls ? grpc.credentials.createSsl() : grpc.credentials.createInsecure(), CHANNEL];
}

function unary<Response>(
  metadata: grpc.Metadata,
  invoke: (...rest: Rest<Response>) => grpc.ClientUnaryCall,
  deadlineMs = DEADLINE_MS,
): Promise<Response> {
  return new Promise((resolve, reject) => {
    invoke(metadata, { deadline: Date.now() + deadlineMs }, (error, response) => {
      if (error || response === undefined) reject(meaning(error));
      else resolve(response);
    });
  });
}

function held(tokens: Tokens__Output): Pick<State, "refresh_token" | "access_token" | "access_expires_at_ms"> {
  return {
    refresh_token: tokens.refreshToken,
    access_token: tokens.accessToken,
    // From now on, since this device's clock may be wrong.
    access_expires_at_ms: Date.now() + Number(tokens.accessExpiresInMs),
  };
}

/** Saves the state whole or not at all, on disk before it is used, and for nobody else to read. */
async function save(file: string, state: State): Promise<void> {
  const beside = `${file}.new`;
  await rm(beside, { force: true });
  const written = await open(beside, "wx", 0o600);
  try {
    await written.writeFile(JSON.stringify(state));
    await written.sync();
  } finally {
    await written.close();
  }
  await rename(beside, file);
}
