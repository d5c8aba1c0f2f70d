// The grants that need no redirect, at an OpenID Connect provider that is not ours.
//
//   CLIENT_SECRET=... node kinds.mjs
//
// Prints one JSON line with its issuer. Whoever comes is logged in and has consented.
import { generateKeyPairSync, randomBytes } from "node:crypto";
import { createServer } from "node:http";

import Provider from "oidc-provider";

const ACCOUNT = "account-1";
const INTERACTION = "/interaction/";
const RESOURCE = "https://api.example/";

function configuration() {
  const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  const common = { redirect_uris: [], response_types: [] };
  return {
    clients: [
      {
        ...common,
        client_id: "service",
        client_secret: process.env.CLIENT_SECRET,
        grant_types: ["client_credentials"],
      },
      {
        ...common,
        client_id: "tv",
        grant_types: ["urn:ietf:params:oauth:grant-type:device_code", "refresh_token"],
        token_endpoint_auth_method: "none",
      },
    ],
    cookies: { keys: [randomBytes(32).toString("hex")] },
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: false },
      deviceFlow: { enabled: true },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: () => ({ scope: "read", accessTokenTTL: 600 }),
      },
    },
    findAccount: (_, accountId) => ({ accountId, claims: () => ({ sub: accountId }) }),
    interactions: { url: (_, interaction) => `${INTERACTION}${interaction.uid}` },
    issueRefreshToken: () => true,
    jwks: { keys: [privateKey.export({ format: "jwk" })] },
    rotateRefreshToken: true,
    scopes: ["openid", "offline_access", "read"],
    ttl: { AccessToken: 600, DeviceCode: 60, Grant: 3600, IdToken: 60, RefreshToken: 3600 },
  };
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
  const handle = provider.callback();
  server.on("request", (request, response) => {
    if (request.url.startsWith(INTERACTION)) {
      logInAndConsent(provider, request, response).catch((error) => {
        response.statusCode = 500;
        response.end(String(error));
      });
    } else {
      handle(request, response);
    }
  });
  process.stdout.write(`${JSON.stringify({ event: "listening", issuer })}\n`);
});
