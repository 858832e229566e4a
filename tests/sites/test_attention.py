"""The attention function that a module is given: that of before, with what a handler makes of its arguments."""

import torch
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

import tiny
from adapterhub.sites import attention, handled


def test_a_handler_that_another_thread_removes_meanwhile_is_passed_by() -> None:
    module = tiny.model("bert").encoder.layer[0].attention.self
    query, key, value = torch.randn(3, 2, 4, 5, 8)
    given = (module, query, key, value, None)
    options = {"dropout": 0.0, "scaling": 0.5, "is_causal": False}
    expected = attention.original(module)(*given, **options)[0]
    before = module.config
    attention.install(module, lambda module, query, key, value, mask, kwargs: (key, 2 * value, mask, kwargs))
    function = ALL_ATTENTION_FUNCTIONS.get_interface(module.config._attn_implementation, None)
    torch.testing.assert_close(function(*given, **options)[0], 2 * expected)
    handled.remove(module)  # the module has looked up its function already
    assert module.config is before
    torch.testing.assert_close(function(*given, **options)[0], expected)
