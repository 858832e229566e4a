"""What the projections of a sublayer are for."""

import re
from collections.abc import Iterator
from math import prod

from adapterhub.sites.layout import Projection
from adapterhub.sites.trace import Call

# Roles of the projections of attention, by the name of the module; the first pattern that matches wins.
_ATTENTION_ROLES = (
    ("other", r"pos|rel|(^|_)(q|kv|k|v)_a(_|$)|gate|beta|decay|index|router|(^|_)(down|dkv|dq)(_|$)"),
    ("qkv", r"qkv|c_attn|in_proj|query_key_value"),
    ("kv", r"(^|_)kv(_|$)|key_value"),
    ("q", r"(^|_)q(uery)?(_|$)"),
    ("k", r"(^|_)k(ey)?(_|$)"),
    ("v", r"(^|_)v(alue)?(_|$)"),
)
_GATE = re.compile(r"gate|wi_0|^w1$")


def attention_role(name: str) -> str:
    """By the name of the module."""
    return next((role for role, pattern in _ATTENTION_ROLES if re.search(pattern, name.lower())), "other")


def feed_forward(calls: list[Call], writer: Call) -> Iterator[Projection]:
    """Roles by what fits: ``down`` gives the width of the layer out of another, which ``up`` and ``gate`` give."""
    whole = [call for call in calls if prod(call.output_shape) == prod(writer.output_shape)]  # no gate, no router
    downs = [call for call in calls if call.width == writer.width and call.input_width != writer.width] or whole[-1:]
    inner = {call.input_width for call in downs}
    for call in calls:
        if call in downs:
            role = "down"
        elif call.width in inner:
            role = "gate" if _GATE.search(call.path.rpartition(".")[2]) else "up"
        else:
            role = "gate_up" if call.width in {2 * size for size in inner} else "other"
        yield Projection(role, call.path)
