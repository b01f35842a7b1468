"""The zoo: one tiny instance, with random weights, of each of many architecture families of other people's libraries.

A family is a name, a kind, a builder and what is expected of it. Nothing here names a module inside a model.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

Inputs = Tensor | dict[str, Tensor]
Built = tuple[nn.Module, Inputs]


@dataclass(frozen=True)
class Family:
    """`build` returns a model in eval mode and its input, or its inputs by name.

    blocks: how many the layer count of the configuration implies. refused: words of the reason why there is no
    stream. package: what the builder imports. double: whether the model runs in float64 too.
    """

    name: str
    kind: str
    build: Callable[[], Built]
    blocks: int = 0
    refused: str = ""
    package: str = "transformers"
    double: bool = True

    def built(self, dtype: torch.dtype) -> Built:
        """Model and input with floating-point numbers of this precision, the same at every call."""
        torch.manual_seed(0)
        model, x = self.build()
        inputs = {name: in_precision(values, dtype) for name, values in x.items()} if isinstance(x, dict) else x
        return model.eval().to(dtype), inputs if isinstance(inputs, dict) else in_precision(inputs, dtype)


def in_precision(values: Tensor, dtype: torch.dtype) -> Tensor:
    return values.to(dtype) if values.is_floating_point() else values


def fed(function: Callable[..., Any], inputs: Inputs) -> Any:
    """What a model, a stream's `states` or `find_stream` of a model returns for inputs of either kind."""
    return function(**inputs) if isinstance(inputs, dict) else function(inputs)


@cache
def missing(package: str) -> str:
    """Why a package cannot be imported, or nothing."""
    try:
        importlib.import_module(package)
    except (ImportError, RuntimeError) as error:
        return f"{package} cannot be imported: {str(error).splitlines()[0]}"
    return ""


def _let_torchvision_load() -> None:
    """Describe the two operators that it asks for at import and that a build for another torch does not bring."""
    if "nms does not exist" in missing("torchvision"):
        for name in ("nms", "qnms"):
            KEPT.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        missing.cache_clear()


# A library that is collected takes its operators along. transformers and timm import torchvision where it is.
KEPT = torch.library.Library("torchvision", "FRAGMENT")
_let_torchvision_load()


def images(size: int = 32) -> Tensor:
    return torch.randn(1, 3, size, size)


def tokens() -> Tensor:
    return torch.randint(3, 60, (1, 6))


def two_texts() -> dict[str, Tensor]:
    return {"input_ids": tokens(), "attention_mask": torch.tensor([[1, 1, 1, 1, 0, 0]]), "decoder_input_ids": tokens()}


def waveform() -> Tensor:
    return torch.randn(1, 100)


def configured(config: str, head: str, sizes: dict[str, Any], example: Callable[[], Inputs]) -> Callable[[], Built]:
    """A builder of a transformers model from its configuration class; an `AutoModel...` finds the model's class."""

    def build() -> Built:
        import transformers

        cls, settings = getattr(transformers, head), getattr(transformers, config + "Config")(**sizes)
        return (cls.from_config(settings) if head.startswith("AutoModel") else cls(settings)), example()

    return build


def made(package: str, name: str, *args: Any, **sizes: Any) -> Callable[[], Built]:
    """A builder of a timm or torchvision model from the name of its class or of its registered variant."""

    def build() -> Built:
        where = importlib.import_module(f"{package}.models")
        if package == "timm" and not hasattr(where, name):
            return importlib.import_module(package).create_model(name, pretrained=False, **sizes), images()
        return getattr(where, name)(*args, **sizes), images()

    return build


BODY = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
WORDS = {"vocab_size": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
TEXT = BODY | WORDS | {"max_position_embeddings": 32}
LLM = TEXT | {"num_key_value_heads": 1, "head_dim": 8, "use_cache": False}
GPT = WORDS | {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32, "use_cache": False}
STATE = WORDS | {"hidden_size": 16, "state_size": 4, "num_hidden_layers": 2, "use_cache": False}
SPEECH = BODY | {
    "conv_dim": (8, 8),
    "conv_kernel": (10, 3),
    "conv_stride": (5, 2),
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
}
PYRAMID = {
    "image_size": 32,
    "depths": [1, 1, 1, 1],
    "hidden_sizes": [8, 8, 16, 16],
    "num_attention_heads": [1, 1, 2, 2],
}
WINDOWS = {"image_size": 32, "patch_size": 4, "embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "window_size": 4}
CNN = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [2, 2]}
CLASSIFIER = "AutoModelForImageClassification"
DECODER = "AutoModelForCausalLM"


def cnn(name: str, blocks: int, head: str = CLASSIFIER, refused: str = "", **sizes: Any) -> Family:
    return Family(name, "vision", configured(name, head, sizes, images), blocks, refused)


def vit(
    name: str,
    blocks: int = 4,
    head: str = CLASSIFIER,
    example: Callable[[], Inputs] = images,
    refused: str = "",
    **sizes: Any,
) -> Family:
    sizes = BODY | {"image_size": 32, "patch_size": 16} | sizes
    return Family(name, "vision", configured(name, head, sizes, example), blocks, refused)


def text(
    name: str, blocks: int = 4, head: str = "AutoModel", base: Any = TEXT, double: bool = True, **sizes: Any
) -> Family:
    return Family(name, "text encoder", configured(name, head, base | sizes, tokens), blocks, double=double)


def decoder(name: str, blocks: int = 4, base: dict[str, Any] = LLM, double: bool = True, **sizes: Any) -> Family:
    return Family(name, "decoder", configured(name, DECODER, base | sizes, tokens), blocks, double=double)


def experts(name: str, **sizes: Any) -> Family:
    sizes = LLM | {"moe_intermediate_size": 16, "num_experts_per_tok": 2} | sizes
    return Family(name, "mixture of experts", configured(name, DECODER, sizes, tokens), 4, double=False)


def audio(
    name: str, blocks: int, head: str = "AutoModel", example: Callable[[], Tensor] = waveform, **sizes: Any
) -> Family:
    return Family(name, "audio", configured(name, head, SPEECH | sizes, example), blocks)


def halves(name: str, head: str, example: Callable[[], Inputs] = two_texts, refused: str = "", **sizes: Any) -> Family:
    """An encoder and a decoder of two layers: the stream is the decoder's, of three blocks a layer."""
    return Family(name, "encoder and decoder", configured(name, head, WORDS | sizes, example), 6, refused)


def state_space(name: str, blocks: int, base: dict[str, Any] = STATE, double: bool = True, **sizes: Any) -> Family:
    return Family(name, "state space", configured(name, DECODER, base | sizes, tokens), blocks, double=double)


def timm(name: str, blocks: int, refused: str = "", **sizes: Any) -> Family:
    return Family(name, "timm", made("timm", name, num_classes=5, **sizes), blocks, refused, "timm")


def torchvision(name: str, blocks: int, *args: Any, refused: str = "", **sizes: Any) -> Family:
    build = made("torchvision", name, *args, num_classes=5, **sizes)
    return Family(name, "torchvision", build, blocks, refused, "torchvision")


NO_SKIPS = "has no residual stream"

VISION = [
    cnn("ResNet", 4, layer_type="basic", **CNN),
    cnn("RegNet", 4, groups_width=4, **CNN),
    cnn("Bit", 4, num_groups=2, **CNN),
    cnn("ConvNext", 4, hidden_sizes=[8, 16], depths=[2, 2], num_stages=2),
    cnn("ConvNextV2", 4, hidden_sizes=[8, 16], depths=[2, 2], num_stages=2),
    cnn("MobileNetV1", 0, refused=NO_SKIPS, depth_multiplier=0.25),
    cnn("MobileNetV2", 10, depth_multiplier=0.25),
    cnn(
        "EfficientNet",
        2,
        image_size=32,
        in_channels=[32, 8],
        out_channels=[8, 16],
        kernel_sizes=[3, 3],
        strides=[1, 2],
        num_block_repeats=[2, 2],
        expand_ratios=[1, 2],
        width_coefficient=1.0,
        depth_coefficient=1.0,
        depthwise_padding=[],
        hidden_dim=1280,
        depth_divisor=8,
    ),
    cnn("PoolFormer", 8, depths=[1, 1, 1, 1], hidden_sizes=[8, 8, 16, 16]),
    cnn(
        "FocalNet",
        4,
        image_size=32,
        embed_dim=8,
        depths=[1, 1],
        focal_levels=[1, 1],
        focal_windows=[3, 3],
        hidden_sizes=[8, 16],
    ),
    cnn("Swin", 4, **WINDOWS),
    cnn("Swinv2", 4, **WINDOWS),
    cnn("Pvt", 8, **PYRAMID),
    cnn("PvtV2", 8, **PYRAMID),
    cnn("Segformer", 8, **PYRAMID),
    cnn("Cvt", 12, head="CvtForImageClassification", embed_dim=[8, 8, 16], num_heads=[1, 1, 2], depth=[1, 2, 3]),
    # Two layers in each of three stages; between stages the attention has no skip, the MLP behind it has one.
    cnn(
        "Levit",
        8,
        head="LevitForImageClassification",
        image_size=32,
        hidden_sizes=[16, 16, 32],
        num_attention_heads=[2, 2, 2],
        depths=[1, 1, 1],
        key_dim=[4, 4, 4],
    ),
    cnn("SwiftFormer", 12, image_size=32, depths=[1, 1, 1, 1], embed_dims=[8, 8, 16, 16]),
    # The attention that changes the stage pools its skip by maxima, so it is a transition.
    cnn(
        "Hiera",
        3,
        image_size=[32, 32],
        embed_dim=8,
        depths=[1, 1],
        num_heads=[1, 2],
        masked_unit_size=[2, 2],
        query_stride=[2, 2],
        num_query_pool=1,
    ),
    vit("ViT"),
    vit("DeiT", head="DeiTForImageClassification"),
    vit("Dinov2"),
    vit("Beit"),
    # The patches that it hides are those of the least noise, drawn anew in every pass unless it is given.
    vit("ViTMAE", head="AutoModel", example=lambda: {"pixel_values": images(), "noise": torch.rand(1, 4)}),
    vit("DINOv3ViT", head="AutoModel"),
    vit("CLIPVision", head="AutoModel"),
    vit("SiglipVision", 5, head="AutoModel"),  # its pooling ends in an MLP with a skip
    # How many patches it looks at is a number that it computes from the values of a mask.
    vit(
        "Vilt",
        0,
        "AutoModel",
        lambda: {"input_ids": tokens(), "pixel_values": images()},
        "could not be exported",
        **WORDS,
        max_position_embeddings=16,
    ),
]
TEXTS = [
    text("Bert"),
    text("Roberta"),
    text("RobertaPreLayerNorm"),
    text("Albert", embedding_size=8),
    text("Electra", embedding_size=16),
    text("Deberta", relative_attention=True, max_relative_positions=8, pos_att_type=["p2c", "c2p"]),
    text(
        "DebertaV2",
        relative_attention=True,
        max_relative_positions=8,
        position_buckets=4,
        share_att_key=True,
        pos_att_type=["p2c", "c2p"],
        norm_rel_ebd="layer_norm",
    ),
    text("DistilBert", dim=16, hidden_dim=32, n_layers=2, n_heads=2),
    text("MPNet"),
    text("ModernBert", global_attn_every_n_layers=2, local_attention=4, cls_token_id=1, sep_token_id=2),
    text("Esm", mask_token_id=3),
    text("RoFormer", embedding_size=16),
    text("ConvBert", embedding_size=16, conv_kernel_size=3),
    text("FNet"),
    text("IBert"),
    text("Nystromformer", segment_means_seq_len=6, num_landmarks=6),
    text(
        "SqueezeBert",
        embedding_size=16,
        q_groups=1,
        k_groups=1,
        v_groups=1,
        post_attention_groups=1,
        intermediate_groups=1,
        output_groups=1,
    ),
    text("Funnel", head="FunnelBaseModel", base=WORDS, block_sizes=[1, 1], d_model=16, n_head=2, d_head=8, d_inner=32),
    text("XLNet", base=WORDS, d_model=16, n_layer=2, n_head=2, d_inner=32),
    text("T5", head="T5EncoderModel", d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2),
    text("CLIPText"),
    # Inside a layer the skips start behind a bottleneck; the state keeps the one around the whole layer.
    text("MobileBert", 10, embedding_size=8, intra_bottleneck_size=16, true_hidden_size=16),
    # One layer over characters, two over what a convolution makes of them; the last has no single state.
    text("Canine", 8, double=False),
]
DECODERS = [
    decoder("GPT2", base=GPT),
    decoder("GPTJ", 2, base=GPT, rotary_dim=4),
    decoder("GPTNeoX", 2),
    decoder("GPTNeo", num_layers=2, num_heads=2, attention_types=[[["global", "local"], 1]], window_size=4),
    decoder("OPT", ffn_dim=32, word_embed_proj_dim=16),
    decoder("Bloom", n_layer=2, n_head=2),
    decoder("Falcon", 2, base=TEXT, use_cache=False),
    decoder("Mpt", d_model=16, n_heads=2, n_layers=2, max_seq_len=32),
    decoder("XGLM", d_model=16, ffn_dim=32, num_layers=2, attention_heads=2, double=False),
    *map(
        decoder,
        [
            "Llama",
            "Mistral",
            "Qwen2",
            "Qwen3",
            "Gemma",
            "Gemma2",
            "Gemma3Text",
            "StableLm",
            "Olmo",
            "Olmo2",
            "Granite",
            "Starcoder2",
            "Phi3",
            "Glm4",
            "Nemotron",
            "BioGpt",
        ],
    ),
    decoder("Phi", 2),
    decoder("Cohere", 2),
]
EXPERTS = [
    experts("Mixtral", num_local_experts=4),
    experts("Qwen2Moe", num_experts=4, shared_expert_intermediate_size=16),
    experts("Qwen3Moe", num_experts=4),
    experts("Olmoe", num_experts=4),
    experts("GraniteMoe", num_local_experts=4),
    experts("GptOss", num_local_experts=4),
    experts(
        "DeepseekV3",
        n_routed_experts=4,
        q_lora_rank=8,
        kv_lora_rank=8,
        qk_rope_head_dim=4,
        qk_nope_head_dim=4,
        v_head_dim=8,
        head_dim=4,
        n_group=1,
        topk_group=1,
        first_k_dense_replace=1,
        num_key_value_heads=2,
    ),
    experts(
        "Jamba",
        num_experts=2,
        attn_layer_offset=1,
        attn_layer_period=2,
        expert_layer_period=2,
        expert_layer_offset=1,
        mamba_d_state=4,
        use_mamba_kernels=False,
    ),
]
AUDIO = [
    *(audio(name, 5) for name in ("Wav2Vec2", "Hubert", "WavLM")),  # the convolution of positions is a block too
    audio("SEW", 5, squeeze_factor=2),
    audio("Wav2Vec2Conformer", 8),
    audio(
        "AST",
        4,
        head="AutoModelForAudioClassification",
        example=lambda: torch.randn(1, 32, 16),
        max_length=32,
        num_mel_bins=16,
    ),
    audio(
        "Whisper",
        4,
        head="WhisperForAudioClassification",
        example=lambda: torch.randn(1, 8, 16),
        d_model=16,
        encoder_layers=2,
        encoder_attention_heads=2,
        encoder_ffn_dim=32,
        num_mel_bins=8,
        max_source_positions=8,
        classifier_proj_size=8,
        decoder_layers=1,
        **WORDS,
    ),
]
STATE_SPACES = [
    state_space("Mamba", 2, time_step_rank=2),
    state_space("Mamba2", 2, num_heads=4, head_dim=8, n_groups=1, chunk_size=4),
    state_space("FalconMamba", 2, time_step_rank=2),
    state_space("Rwkv", 4, attention_hidden_size=16, context_length=16),
    state_space(
        "RecurrentGemma", 4, base=LLM, lru_width=16, attention_window_size=4, block_types=["recurrent", "attention"]
    ),
    state_space("Lfm2", 4, base=LLM, layer_types=["conv", "full_attention"], conv_L_cache=3),
]
SMALL_VIT = {"img_size": 32, "embed_dim": 16, "depth": 2, "num_heads": 2}
SMALL_CNN = {"depths": (1, 1, 1, 1), "dims": (8, 8, 16, 16)}
TIMM = [
    timm("vit_tiny_patch16_224", 4, **SMALL_VIT),
    timm("deit3_small_patch16_224", 4, **SMALL_VIT),
    timm("beit_base_patch16_224", 4, **SMALL_VIT),
    timm("cait_xxs24_224", 7, **SMALL_VIT),  # the first sum of the class token adds to a weight
    timm("xcit_nano_12_p16_224", 10, **SMALL_VIT),
    timm("swin_tiny_patch4_window7_224", 4, img_size=32, embed_dim=8, depths=(1, 1), num_heads=(1, 2), window_size=4),
    timm("MlpMixer", 4, img_size=32, embed_dim=16, num_blocks=2),
    timm("resnet18", 8, channels=(8, 8, 16, 16), stem_width=8),
    timm("resnetv2_50", 8, layers=(2, 2, 2, 2), channels=(8, 8, 16, 16), stem_chs=8),
    timm("convnext_atto", 4, **SMALL_CNN),
    timm("mambaout_femto", 4, **SMALL_CNN),
    timm("edgenext_xx_small", 4, **SMALL_CNN),
    timm("davit_tiny", 16, depths=(1, 1), embed_dims=(8, 16), num_heads=(1, 2)),
    timm("visformer_tiny", 5, img_size=32, embed_dim=16, depth=(1, 1, 1), num_heads=2),
    timm("dla46_c", 8),
]
TORCHVISION = [
    torchvision("VisionTransformer", 4, 32, 16, 2, 2, 16, 32),
    torchvision("SwinTransformer", 4, [4, 4], 8, [1, 1], [1, 2], [4, 4]),
    torchvision("MaxVit", 5, (32, 32), 8, 2, [8], [1], 8, 0.0),
    # So narrow, some stages begin with as many channels as they have: one more block in each of these three.
    torchvision("MobileNetV2", 11, width_mult=0.25),
    torchvision("MNASNet", 11, 0.25),
    torchvision("mobilenet_v3_small", 7, width_mult=0.25),
    torchvision("resnet18", 8),
    torchvision("DenseNet", 4, 4, (2, 2), 8),
    torchvision("ShuffleNetV2", 0, [1, 1, 1], [4, 8, 16, 32, 64], refused=NO_SKIPS),
]
BOTH = {
    "d_model": 16,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
}
HALVES = [
    halves("Bart", "BartModel", **BOTH, max_position_embeddings=32),
    halves("Marian", "MarianMTModel", **BOTH, max_position_embeddings=32, decoder_start_token_id=0),
    halves("T5", "T5ForConditionalGeneration", d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2),
    halves(
        "Whisper",
        "WhisperModel",
        **BOTH,
        num_mel_bins=8,
        max_source_positions=10,
        max_target_positions=16,
        example=lambda: {"input_features": torch.randn(1, 8, 20), "decoder_input_ids": tokens()},
    ),
]
FAMILIES = [*VISION, *TEXTS, *DECODERS, *EXPERTS, *HALVES, *AUDIO, *STATE_SPACES, *TIMM, *TORCHVISION]
# Relatives of families that stay: the page shows them, the tests leave them out to take minutes and not more.
PAGE_ONLY = {
    "PvtV2",
    "Swinv2",
    "SwiftFormer",
    "FocalNet",
    "ViTMAE",
    "Cvt",
    "RoFormer",
    "Esm",
    "Canine",
    "Nystromformer",
    "XLNet",
    "MobileBert",
    "CLIPText",
    "RobertaPreLayerNorm",
    "GPTNeo",
    "XGLM",
    "BioGpt",
    "Nemotron",
    "Starcoder2",
    "Glm4",
    "Olmo",
    "Granite",
    "Gemma",
    "Olmoe",
    "GraniteMoe",
    "Qwen3Moe",
    "WavLM",
    "SEW",
    "Rwkv",
    "Levit",
    "ConvBert",
    "Electra",
    "StableLm",
    "Phi3",
    "FalconMamba",
    "Hubert",
    "DINOv3ViT",
    "Roberta",
    "Qwen2",
    "Mistral",
    "Marian",
    "Olmo2",
    "Gemma2",
    "Deberta",
    "CLIPVision",
    "Beit",
    "Mpt",
    "Phi",
    "ConvNext",
    "RegNet",
    "DeiT",
    "SiglipVision",
    "MPNet",
    "DistilBert",
    "IBert",
    "GPTJ",
    "OPT",
    "Falcon",
    "Qwen3",
    "Cohere",
    "Qwen2Moe",
    "Pvt",
    "AST",
}
