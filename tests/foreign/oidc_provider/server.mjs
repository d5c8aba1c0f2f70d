// An OpenID Connect provider that is not ours, for one confidential client.
//
//   CLIENT_SECRET=... node server.mjs PORT REDIRECT_URI      (PORT 0: any free one)
//
// Prints JSON lines: first {"event": "listening", "issuer": ...}, then one for every code and
// token it issues, rotates or revokes, with its value, so that a test can search for it.
// Whoever comes is logged in and has consented. Refresh tokens always rotate; a replayed one
// revokes the whole grant.
import { generateKeyPairSync, randomBytes } from "node:crypto";
import { createServer } from "node:http";

import Provider from "oidc-provider";

const ACCESS_TOKEN_SECONDS = 20;
const ACCOUNT = "account-1";
const INTERACTION = "/interaction/";

const [port = "0", redirectUri = "http://127.0.0.1:8765/callback"] = process.argv.slice(2);

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
      },
    ],
    cookies: { keys: [randomBytes(32).toString("hex")] },
    features: {
      devInteractions: { enabled: false },
      revocation: { enabled: true, allowedPolicy: () => true },
    },
    findAccount: (_, accountId) => ({ accountId, claims: () => ({ sub: accountId }) }),
    interactions: { url: (_, interaction) => `${INTERACTION}${interaction.uid}` },
    issueRefreshToken: () => true,
    jwks: { keys: [privateKey.export({ format: "jwk" })] },
    rotateRefreshToken: true,
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

const server = createServer();
server.listen(Number(port), "127.0.0.1", () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
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
