"""What commands can ask for in a login by a code on another machine: JSON in, JSON out."""

from refresher.app import answers, calls
from refresher.app.calls import Operation, Taking
from refresher.app.operations import authorized_view
from refresher.engine.administration import Administration
from refresher.engine.device_logins import DeviceLogins
from refresher.engine.first_tokens import Authorized


class DeviceOperations:
    """The operations by name; beside ``Operations``."""

    def __init__(self, logins: DeviceLogins, administration: Administration) -> None:
        self._logins = logins
        self._administration = administration

    def by_name(self) -> dict[str, Operation]:
        """Every operation, as the control socket offers it."""
        return {
            "login_device": Taking(calls.LoginDevice, self.begin),
            "login_poll": Taking(calls.LoginPoll, self.poll),
        }

    async def begin(self, call: calls.LoginDevice) -> answers.DeviceBegun:
        """Start a login; gives the code to type, and where. The device code is kept here."""
        login = await self._logins.begin(call.name, client_name=call.client)
        return {
            "login": login.id,
            "client": login.client.name,
            "user_code": login.asked.user_code,
            "verification_uri": login.asked.verification_uri,
            "verification_uri_complete": login.asked.verification_uri_complete,
            "expires_in": login.asked.expires_in,
            "wait": login.asked.interval,
        }

    async def poll(self, call: calls.LoginPoll) -> answers.Polled:
        """The grant once somebody has consented; before that, ``wait`` says when to ask again."""
        done = await self._logins.poll(call.login)
        if not isinstance(done, Authorized):
            return {"wait": done}
        return {"wait": None, "grant": await authorized_view(done, self._administration)}
