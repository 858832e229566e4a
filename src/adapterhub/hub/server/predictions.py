"""What adapters answer to texts: asked of a server of predictions that the administrator has attached.

The server fetches adapters from this hub by an account of its own. Nothing that a visitor shows is passed on to it.
"""

import threading
import time
from collections.abc import Mapping
from typing import Any

import httpx
from pydantic import BaseModel, Field, ValidationError

import adapterhub
from adapterhub.errors import CorruptCheckpointError, HubError, HubUnreachableError
from adapterhub.fingerprint import Fingerprint
from adapterhub.hub.server.errors import RateLimitError
from adapterhub.hub.server.settings import Settings

_ANSWER_SECONDS, _LOOK_SECONDS, _CONNECT_SECONDS = 30.0, 2.0, 2.0
_KEPT_SECONDS = 10.0
_AT_ONCE = 8  # questions of one worker, so that threads are left for all else
_LONGEST_ANSWER = 1 << 20
_SERVER = "the server that runs adapters"
_LATE = "there was no answer in time: the adapter may still be on its way there, so try again in a moment"
_NO_TOKEN = f"{_SERVER} takes no requests of this hub: whoever runs the hub has to set the token"
_MEANINGS = {
    401: _NO_TOKEN,
    403: f"{_SERVER} cannot get this adapter: perhaps its account may not see it",
    404: f"{_SERVER} cannot get this adapter: perhaps its account may not see it",
    409: f"{_SERVER} runs another base model than the one that this adapter is for",
    413: f"this text is too long for {_SERVER}",
    504: _LATE,
}


class Score(BaseModel):
    """A label and how likely it is."""

    label: str
    score: float


class Span(BaseModel):
    """A part of a text, ``text[start:end]``."""

    text: str
    start: int = Field(ge=0)
    end: int = Field(ge=0)
    score: float
    label: str | None = None


class Fill(BaseModel):
    """A token that may stand in a gap."""

    token: str
    score: float


class Answer(BaseModel):
    """What an adapter answers to one input, in the words of the server; what its task has no use for is None.

    Attributes:
        labels: of several that may hold together, those that do.
        scores: of the classes, the likeliest first.
        value: a number.
        spans: parts of the text: those that are marked, or answers to the question, the best first.
        similarity: of the two texts, from -1 to 1.
        gaps: for each gap what may stand there, the likeliest first.
        truncated: whether the end of the text was not read.
    """

    labels: list[str] | None = None
    scores: list[Score] | None = None
    value: float | None = None
    spans: list[Span] | None = None
    similarity: float | None = None
    gaps: list[list[Fill]] | None = None
    truncated: bool = False


class _Result(BaseModel):
    outputs: list[Answer] = Field(min_length=1, max_length=1)


class _Predicted(BaseModel):
    results: list[_Result] = Field(min_length=1, max_length=1)


class Predictions:
    """The server of predictions of a hub, if there is one.

    Args:
        settings: of the hub: ``serving_url`` and ``serving_token``.
    """

    def __init__(self, settings: Settings) -> None:
        self._url = settings.serving_url.rstrip("/")
        headers = {"User-Agent": f"adapterhub/{adapterhub.__version__}"}
        if token := settings.serving_token.get_secret_value():
            headers["Authorization"] = f"Bearer {token}"
        timeout = httpx.Timeout(_ANSWER_SECONDS, connect=_CONNECT_SECONDS)
        self._client = httpx.Client(headers=headers, timeout=timeout, follow_redirects=False, trust_env=False)
        self._room = threading.BoundedSemaphore(_AT_ONCE)
        self._looking = threading.Lock()
        self._base: Fingerprint | None = None
        self._looked: float | None = None

    def base(self) -> Fingerprint | None:
        """The base model that the server runs; None where none is attached, or none answers.

        It is looked for again after a few seconds, by one request while the others take what was found before.
        """
        now = time.monotonic()
        stale = self._looked is None or now - self._looked > _KEPT_SECONDS
        if self._url and stale and self._looking.acquire(blocking=False):
            try:
                self._base, self._looked = self._look(), now
            finally:
                self._looking.release()
        return self._base

    def ask(self, adapter: str, text: Any) -> Answer:
        """What an adapter answers.

        Args:
            adapter: its name on this hub, with the commit.
            text: one input as the server takes it: a text, or an object of two.

        Raises:
            HubUnreachableError: if the server does not answer, or not as it should.
            RateLimitError: if it, or this hub, has too much to do.
            HubError: for a text, or an adapter, that it cannot answer with.
        """
        if not self._room.acquire(blocking=False):
            raise RateLimitError("many people try adapters at the moment: try again in a few seconds", 5)
        try:
            question = {"inputs": [text], "adapter": adapter}
            code, headers, content = self._request("POST", "/v1/predict", _ANSWER_SECONDS, question)
        finally:
            self._room.release()
        if code != 200:
            raise _refused(code, headers, content)
        try:
            return _Predicted.model_validate(content).results[0].outputs[0]
        except ValidationError as error:
            raise HubUnreachableError(f"{_SERVER} gave an answer that is none") from error

    def close(self) -> None:
        """Let go of the connections."""
        self._client.close()

    def _look(self) -> Fingerprint | None:
        try:
            code, _, content = self._request("GET", "/v1/model", _LOOK_SECONDS)
            if code != 200:
                return None
            return Fingerprint.from_dict(content["fingerprint"], "the model that is served")
        except (HubUnreachableError, CorruptCheckpointError, KeyError):
            return None

    def _request(
        self, method: str, path: str, seconds: float, body: Any = None
    ) -> tuple[int, Mapping[str, str], dict[str, Any]]:
        """The status, headers and content of an answer; a content that is no object is {}.

        Raises:
            HubUnreachableError: if there is none.
        """
        data, timeout = bytearray(), httpx.Timeout(seconds, connect=_CONNECT_SECONDS)
        try:
            with self._client.stream(method, self._url + path, json=body, timeout=timeout) as answer:
                for piece in answer.iter_bytes():
                    data += piece
                    if len(data) > _LONGEST_ANSWER:
                        raise HubUnreachableError(f"{_SERVER} gives an answer without an end")
        except httpx.ReadTimeout as error:
            raise HubUnreachableError(_LATE) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise HubUnreachableError(f"{_SERVER} does not answer at the moment: try again later") from error
        return answer.status_code, answer.headers, _object(bytes(data))


def _object(data: bytes) -> dict[str, Any]:
    try:
        found = httpx.Response(200, content=data).json()
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _refused(code: int, headers: Mapping[str, str], content: Mapping[str, Any]) -> HubError:
    """What a status means to somebody who tries an adapter."""
    if code in (400, 422):
        why = str(content.get("detail", "the text is of another kind"))
        return HubError(f"this cannot be answered: {why[:500]}")
    if code in (429, 503):
        given = headers.get("retry-after", "")
        wait = min(int(given), 3600) if given.isascii() and given.isdigit() else 5
        return RateLimitError(f"{_SERVER} has too much to do: try again in {wait} seconds", wait)
    if code in (409, 413):
        return HubError(_MEANINGS[code])
    return HubUnreachableError(_MEANINGS.get(code, f"{_SERVER} could not answer, and its log says why"))
