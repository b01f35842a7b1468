"""What we rely on of PyTorch's private and experimental names, one test for each: a new version is tried here first."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import resdyn
from resdyn import _torch
from resdyn._torch import (
    BatchNorm,
    DisableTorchFunction,
    FakeTensor,
    TorchDispatchMode,
    decomposed,
    is_functorch_wrapped_tensor,
    is_traceable_wrapper_subclass,
    make_fx,
    plain_flex_attention,
    pytree,
    runs_as_written,
    set_grad_enabled,
    uncompiled,
)
from resdyn.stream.graph import silence_logs

PRIVATE = re.compile(r"torch\._(?!_)|torch\.fx\.experimental|torch\.utils\._|_orig_mod")


def test_private_names_are_imported_in_one_place_alone():
    package = Path(resdyn.__file__).parent
    others = [
        f"{path.relative_to(package)}: {line.strip()}"
        for path in package.rglob("*.py")
        if path.name != "_torch.py"
        for line in path.read_text(encoding="utf-8").splitlines()
        if PRIVATE.search(line)
    ]
    assert others == []


def test_every_name_has_a_canary():
    own = Path(__file__).read_text(encoding="utf-8").split("PRIVATE =", 1)[1]
    assert [name for name in _torch.__all__ if name not in own] == []


def test_all_batch_norms_are_of_one_class():
    assert all(issubclass(kind, BatchNorm) for kind in (nn.BatchNorm1d, nn.BatchNorm2d, nn.SyncBatchNorm))
    assert not issubclass(nn.LayerNorm, BatchNorm)


def test_a_mode_can_leave_function_calls_alone():
    class Forbidding(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            raise AssertionError("called")

    with Forbidding(), DisableTorchFunction():
        assert torch.sum(torch.ones(2)) == 2


def test_gradients_are_switched_by_a_call_that_a_mode_sees():
    seen = []

    class Watching(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            seen.append(func is set_grad_enabled)
            return func(*args, **(kwargs or {}))

    with Watching(), torch.no_grad():
        pass
    assert any(seen)
    assert torch.is_grad_enabled()


def test_export_leaves_fake_tensors_that_are_told_from_real_ones():
    with torch._subclasses.FakeTensorMode():
        assert isinstance(torch.ones(2), FakeTensor)
    assert not isinstance(torch.ones(2), FakeTensor)


def test_a_tensor_inside_vmap_is_a_wrapper():
    inside = []
    torch.func.vmap(lambda x: inside.append(is_functorch_wrapped_tensor(x)) or x)(torch.ones(2))
    assert inside == [True]
    assert not is_functorch_wrapped_tensor(torch.ones(2))


def test_wrappers_of_tensors_are_told_from_tensors():
    from torch.testing._internal.two_tensor import TwoTensor

    assert is_traceable_wrapper_subclass(TwoTensor(torch.ones(2), torch.ones(2)))
    assert not is_traceable_wrapper_subclass(nn.Parameter(torch.ones(2)))


def test_a_derivative_is_traced_into_operations_on_numbers():
    def product(x: Tensor, v: Tensor) -> Tensor:
        return torch.func.jvp(torch.sin, (x,), (v,))[1]

    x, v = torch.rand(3), torch.rand(3)
    with silence_logs():  # the first dual number compiles rules
        torch.func.jvp(torch.sin, (x,), (v,))
    traced = make_fx(product)(x, v)
    assert [node.op for node in traced.graph.nodes][:2] == ["placeholder", "placeholder"]
    torch.testing.assert_close(traced(x, v), x.cos() * v)


def test_a_dispatch_mode_sees_every_operation_below_autograd():
    seen = []

    class Watching(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            seen.append(func.overloadpacket.__name__)
            return func(*args, **(kwargs or {}))

    with Watching():
        nn.Linear(2, 2)(torch.ones(1, 2))
    assert "addmm" in seen


def test_trees_of_values_are_flattened_in_order_and_put_together_again():
    tree = {"b": [1, (2, None)], "a": torch.ones(1)}
    leaves, structure = pytree.tree_flatten(tree)
    assert leaves[:3] == [1, 2, None]
    assert pytree.tree_unflatten(leaves, structure)["b"] == [1, (2, None)]
    assert pytree.tree_leaves(tree)[:3] == leaves[:3]
    assert pytree.tree_map(lambda x: x, tree)["b"] == [1, (2, None)]
    assert pytree.tree_map_only(int, lambda x: x + 1, tree)["b"] == [2, (3, None)]


def test_the_compiler_can_be_asked_whether_it_stays_away():
    program = "import sys, resdyn.stream; from resdyn._torch import runs_as_written; import torch\n"
    program += "assert 'torch._dynamo' not in sys.modules and runs_as_written()\n"
    program += "import torch._dynamo; assert not runs_as_written()\n"
    program += "with torch.compiler.set_stance('force_eager'): assert runs_as_written()\n"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=100)
    assert isinstance(runs_as_written(), bool)


def test_the_wrapper_of_the_compiler_holds_its_module():
    model = nn.Linear(2, 2)
    assert uncompiled(torch.compile(model, backend="eager")) is model
    assert uncompiled(model) is None


def test_flexible_attention_has_plain_operations():
    from torch.nn.attention.flex_attention import create_block_mask

    q, k, v = torch.rand(3, 1, 2, 4, 8)
    block_mask = create_block_mask(lambda b, h, i, j: i >= j, None, None, 4, 4, device="cpu", BLOCK_SIZE=4)
    output, *_ = plain_flex_attention(q, k, v, lambda s, b, h, i, j: s, block_mask.as_tuple(), 8**-0.5, {}, (), ())
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    torch.testing.assert_close(output, expected)


@pytest.mark.parametrize("name", ["_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"])
def test_modules_keep_their_hooks_in_dictionaries(name):
    assert len(getattr(nn.Linear(1, 1), name)) == 0


def test_modules_keep_their_parts_in_a_dictionary():
    assert list(nn.Sequential(nn.ReLU())._modules) == ["0"]


class Composites(nn.Module):
    """Composite operations that are kept, those that are taken apart, and writes."""

    def __init__(self, others: bool = False) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)
        self.linear, self.last = nn.Linear(8, 8), nn.LayerNorm(8)
        self.others = others

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(self.conv(x)).flatten(2).transpose(1, 2).contiguous()
        a, b = self.linear(nn.functional.dropout(h, training=self.training)).chunk(2, -1)
        h = h + torch.cat([a, b], -1).reshape(h.shape).to(h.dtype)
        h = torch.einsum("btd,bsd->bts", h, h).softmax(-1) @ nn.functional.silu(h, inplace=True)
        h = nn.functional.scaled_dot_product_attention(h, h, h)
        return self.last(nn.functional.hardshrink(h.unflatten(1, (2, -1)).narrow(1, 0, 1)) if self.others else h)


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # of torch's own copies
@pytest.mark.parametrize("others", [False, True], ids=["known", "others too"])
def test_a_program_is_decomposed_as_if_torch_saw_all_composites(others):
    program = torch.export.export(Composites(others).eval(), (torch.randn(1, 3, 6, 6),), strict=False)
    every = program.run_decompositions({})
    assert decomposed(program).graph_module.code == every.graph_module.code
    kept = {str(node.target).split(".")[1] for node in every.graph.nodes if str(node.target).startswith("aten.")}
    assert {"linear", "conv2d", "einsum"} <= kept
