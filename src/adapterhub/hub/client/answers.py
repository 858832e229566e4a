"""What hubs answered, kept for when they cannot be asked."""

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

from adapterhub.errors import HubUnreachableError
from adapterhub.files import make_folder, replace
from adapterhub.hub.client.addresses import Address, home


def asked(address: Address, question: Mapping[str, Any], ask: Callable[[], Any], lasting: bool) -> Any:
    """The answer to a question; while the hub does not answer, the one that it gave the last time.

    An answer that is ``lasting`` is asked for once.

    Raises:
        HubUnreachableError: if there is neither.
    """
    name = hashlib.sha256(json.dumps([address.url, question], sort_keys=True).encode()).hexdigest()
    path = home() / "answers" / f"{name}.json"
    if lasting and path.exists():
        return json.loads(path.read_text(encoding="utf-8"))
    try:
        answer = ask()
    except HubUnreachableError:
        if not path.exists():
            raise
        return json.loads(path.read_text(encoding="utf-8"))
    make_folder(path.parent)
    replace(path, json.dumps(answer).encode())
    return answer
