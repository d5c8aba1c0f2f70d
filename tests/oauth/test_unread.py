"""A bug in the reading of an answer does not lose the answer."""

import pytest

from refresher.domain.outcomes import AnswerUnread
from refresher.domain.renewal import RefreshToken
from refresher.domain.secret import Secret
from refresher.oauth import token_endpoint
from refresher.oauth.patience import Patience
from refresher.oauth.token_endpoint import TokenEndpoint
from tests.oauth.world import TOKENS, answering, http_answer, make_client


@pytest.mark.parametrize("status", [200, 400])
async def test_an_answer_outlives_a_bug_in_its_reader(
    monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    bug = ZeroDivisionError("in the parser: RT2")

    def breaks(*_: object, **__: object) -> None:
        raise bug

    monkeypatch.setattr(token_endpoint, "classify", breaks)
    answer = http_answer(TOKENS, status)
    async with answering(answer) as raw, TokenEndpoint() as endpoint:
        outcome = await endpoint.refresh(
            make_client(raw.url), RefreshToken(Secret("RT1")), patience=Patience(5)
        )
    body = answer.partition(b"\r\n\r\n")[2]
    assert outcome == AnswerUnread(status=status, body=body, bug=bug)
    assert outcome.may_hold_tokens is (status == 200)
    assert "RT2" not in repr(outcome)
