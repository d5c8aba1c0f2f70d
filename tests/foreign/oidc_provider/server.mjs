// An OpenID Connect provider that is not ours, for one confidential client.
//
//   CLIENT_SECRET=... node server.mjs PORT REDIRECT_URI      (PORT 0: any free one)
//
// OPTIONS, JSON in the environment, changes that: `client` are members of the client's
// metadata, `features` more of the provider's, `rotate` false keeps refresh tokens, and `tls`
// names a PEM file with certificate and key, by which it then speaks https and asks clients
// for theirs; `ca` one of the authorities of these.
//
// Prints JSON lines: first {"event": "listening", "issuer": ...}, then one for every code and
// token it issues, rotates or revokes, with its value, so that a test can search for it.
// Whoever comes is logged in and has consented. Refresh tokens always rotate; a replayed one
// revokes the whole grant.
import { generateKeyPairSync, randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { createServer as createTlsServer } from "node:https";

import Provider from "oidc-provider";

const ACCESS_TOKEN_SECONDS = 20;
const ACCOUNT = "account-1";
const INTERACTION = "/interaction/";

const [port = "0", redirectUri = "http://127.0.0.1:8765/callback"] = process.argv.slice(2);

const options = JSON.parse(process.env.OPTIONS ?? "{}");

function say(event, rest = {}) {
  process.stdout.write(`${JSON.stringify({ event, ...rest })}\n`);
}

function configuration() {
  const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  return {
    clients: [
      {
        client_id: "refresher:foreign",
        client_secret: process.env.CLIENT_SECRET,
        grant_types: ["authorization_code", "refresh_token"],
        redirect_uris: [redirectUri],
        response_types: ["code"],
        token_endpoint_auth_method: "client_secret_basic",
        ...options.client,
      },
    ],
    cookies: { keys: [randomBytes(32).toString("hex")] },
    features: {
      devInteractions: { enabled: false },
      introspection: { enabled: true, allowedPolicy: () => true },
      mTLS: {
        enabled: Boolean(options.tls),
        certificateAuthorized: ({ socket }) => socket.authorized,
        certificateSubjectMatches: ({ socket }, property, expected) =>
          property === "tls_client_auth_subject_dn" &&
          socket.getPeerX509Certificate().subject === expected,
        getCertificate: ({ socket }) => socket.getPeerX509Certificate()?.toString(),
        selfSignedTlsClientAuth: true,
        tlsClientAuth: true,
      },
      revocation: { enabled: true, allowedPolicy: () => true },
      ...options.features,
    },
    findAccount: (_, accountId) => ({ accountId, claims: () => ({ sub: accountId }) }),
    interactions: { url: (_, interaction) => `${INTERACTION}${interaction.uid}` },
    issueRefreshToken: () => true,
    clientAuthMethods: [
      "client_secret_basic",
      "client_secret_post",
      "private_key_jwt",
      "none",
      ...(options.tls ? ["self_signed_tls_client_auth", "tls_client_auth"] : []),
    ],
    jwks: { keys: [privateKey.export({ format: "jwk" })] },
    rotateRefreshToken: options.rotate ?? true,
    ttl: {
      AccessToken: ACCESS_TOKEN_SECONDS,
      AuthorizationCode: 60,
      Grant: 3600,
      IdToken: 60,
      Interaction: 60,
      RefreshToken: 3600,
      Session: 3600,
    },
  };
}

// The value of an opaque token is its jti.
function tellWhatHappens(provider) {
  for (const kind of ["authorization_code", "access_token", "refresh_token"]) {
    for (const what of ["saved", "consumed", "destroyed"]) {
      provider.on(`${kind}.${what}`, (token) => say(`${kind}.${what}`, { value: token.jti }));
    }
  }
  provider.on("grant.revoked", (_, id) => say("grant.revoked", { id }));
  provider.on("server_error", (_, error) => say("server_error", { reason: String(error) }));
}

async function logInAndConsent(provider, request, response) {
  const { params } = await provider.interactionDetails(request, response);
  const grant = new provider.Grant({ accountId: ACCOUNT, clientId: params.client_id });
  grant.addOIDCScope(params.scope);
  const result = { login: { accountId: ACCOUNT }, consent: { grantId: await grant.save() } };
  await provider.interactionFinished(request, response, result);
}

function listener() {
  if (!options.tls) return createServer();
  const pem = readFileSync(options.tls);
  const ca = options.ca ? [readFileSync(options.ca)] : undefined;
  return createTlsServer({ ca, cert: pem, key: pem, rejectUnauthorized: false, requestCert: true });
}

const server = listener();
server.listen(Number(port), "127.0.0.1", () => {
  const issuer = `${options.tls ? "https" : "http"}://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, configuration());
  const answer = provider.callback();
  tellWhatHappens(provider);
  server.on("request", (request, response) => {
    if (!request.url.startsWith(INTERACTION)) {
      answer(request, response);
      return;
    }
    logInAndConsent(provider, request, response).catch((error) => {
      say("server_error", { reason: String(error) });
      response.writeHead(500).end();
    });
  });
  say("listening", { issuer });
});
