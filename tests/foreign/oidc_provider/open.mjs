// The same OpenID provider for clients that it does not know yet: they register themselves.
//
//   INITIAL_ACCESS_TOKEN=... CLIENT_SECRET=... node open.mjs REDIRECT_URI
//
// Authorization requests have to be pushed. The one client it knows must bind its tokens by
// DPoP. Prints JSON lines: first {"event": "listening", "issuer": ...}, then one for each
// client, pushed request and token, the last with its value.
import { generateKeyPairSync, randomBytes } from "node:crypto";
import { createServer } from "node:http";

import Provider from "oidc-provider";

const ACCOUNT = "account-1";
const INTERACTION = "/interaction/";
const [redirectUri] = process.argv.slice(2);

function say(event, rest = {}) {
  process.stdout.write(`${JSON.stringify({ event, ...rest })}\n`);
}

function configuration() {
  const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  return {
    clients: [
      {
        client_id: "bound",
        client_secret: process.env.CLIENT_SECRET,
        dpop_bound_access_tokens: true,
        grant_types: ["authorization_code", "refresh_token"],
        redirect_uris: [redirectUri],
        response_types: ["code"],
      },
    ],
    cookies: { keys: [randomBytes(32).toString("hex")] },
    features: {
      devInteractions: { enabled: false },
      dPoP: { enabled: true },
      pushedAuthorizationRequests: { enabled: true, requirePushedAuthorizationRequests: true },
      registration: { enabled: true, initialAccessToken: process.env.INITIAL_ACCESS_TOKEN },
      revocation: { enabled: true, allowedPolicy: () => true },
    },
    findAccount: (_, accountId) => ({ accountId, claims: () => ({ sub: accountId }) }),
    interactions: { url: (_, interaction) => `${INTERACTION}${interaction.uid}` },
    issueRefreshToken: () => true,
    jwks: { keys: [privateKey.export({ format: "jwk" })] },
    rotateRefreshToken: true,
    ttl: {
      AccessToken: 3600,
      AuthorizationCode: 60,
      Grant: 3600,
      IdToken: 60,
      Interaction: 60,
      RefreshToken: 3600,
      Session: 3600,
    },
  };
}

function tellWhatHappens(provider) {
  for (const kind of ["access_token", "refresh_token"]) {
    provider.on(`${kind}.saved`, (token) => say(`${kind}.saved`, { value: token.jti }));
  }
  provider.on("registration_create.success", (_, client) =>
    say("registered", { id: client.clientId, secret: client.clientSecret }),
  );
  provider.on("pushed_authorization_request.success", () => say("pushed"));
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
server.listen(0, "127.0.0.1", () => {
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
