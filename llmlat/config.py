"""The typed shape of the configuration, and where the files that fill it are.

Only the root is registered with Hydra: its typed children then check every group file and every override
on the command line, and the files in conf/ stay bare YAML.
"""

import re
from dataclasses import dataclass, field, fields, is_dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from llmlat.config_errors import explain, explain_unknown_key
from llmlat.errors import ConfigError

PACKAGE_DIR = Path(__file__).resolve().parent
# What Hydra reads as text without quotes: neither a number, in any notation, nor a word with a meaning.
PLAIN_VALUE = re.compile(
    r"(?!(?i:null|true|false|nan|inf)\Z)(?![+-]?[\d._]+(e|\Z)|-)[\w./-]+", re.ASCII | re.I
)
SHIPPED_PROMPTS_DIR = PACKAGE_DIR / "prompt_sets"


class Weights(StrEnum):
    """Where the model's weights come from."""

    auto = "auto"
    pretrained = "pretrained"
    random = "random"


class TokenizerName(StrEnum):
    """The tokenizer: the model's own, or the one that mistral-common ships."""

    auto = "auto"
    mistral_v3 = "mistral_v3"


class QuantizationName(StrEnum):
    """How the linear layers' weights are stored."""

    none = "none"
    int8 = "int8"
    nf4 = "nf4"


class Batching(StrEnum):
    """What a batch is made of: one prompt over and over, or prompts that follow each other in the set."""

    equal = "equal"
    ragged = "ragged"


class Flagged(StrEnum):
    """What becomes of rows that were taken under doubtful conditions."""

    keep = "keep"
    exclude = "exclude"
    retry = "retry"


class SplitName(StrEnum):
    """What a test row must not share with a training row."""

    random = "random"
    by_request = "by_request"
    by_prompt = "by_prompt"
    extrapolate = "extrapolate"
    leave_one_out = "leave_one_out"
    by_time = "by_time"


class TimeUnit(StrEnum):
    """What a table's latencies are in."""

    s = "s"
    ms = "ms"
    us = "us"
    ns = "ns"


class TrackingName(StrEnum):
    """Which service keeps the runs."""

    wandb = "wandb"
    none = "none"


class TrackingMode(StrEnum):
    """Whether a run is sent as it goes, or kept for a later `wandb sync`."""

    auto = "auto"
    online = "online"
    offline = "offline"


@dataclass
class LanguageModelConfig:
    """A model, its tokenizer and, where it is written down, its exact architecture."""

    name: str = MISSING
    weights: Weights = Weights.auto
    tokenizer: TokenizerName = TokenizerName.auto
    architecture: dict[str, Any] | None = None
    revision: str | None = None


@dataclass
class ModelConfig(LanguageModelConfig):
    """A model, and the one that takes its place on a machine without CUDA."""

    stand_in: LanguageModelConfig | None = None


@dataclass
class QuantizationConfig:
    """How the linear layers' weights are stored."""

    name: QuantizationName = MISSING


@dataclass
class DecodingConfig:
    """How the next token is chosen, and when a request ends."""

    batch_size: int = 1
    batching: Batching = Batching.equal
    num_beams: int = 1
    length_penalty: float = 1.0
    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    stop_at_eos: bool = False


@dataclass
class PromptSetConfig:
    """Which prompts are fed to the model, and how many tokens each generates."""

    name: str = MISSING
    path: str = MISSING
    max_new_tokens: int | None = None
    prompt_tokens: list[int] | None = None
    limit: int | None = None


@dataclass
class InterleaveConfig:
    """Settings crossed within one measurement: lists of values, empty for what the config says itself."""

    engine: list[str] = field(default_factory=list)
    batch_size: list[int] = field(default_factory=list)
    num_beams: list[int] = field(default_factory=list)
    temperature: list[float] = field(default_factory=list)
    top_k: list[int | None] = field(default_factory=list)
    top_p: list[float | None] = field(default_factory=list)


@dataclass
class CollectConfig:
    """The measuring protocol."""

    warmup: int | str = 16
    warmup_floor_s: float = 2.0
    warmup_ceiling_s: float = 60.0
    repetitions: int = 1
    until_ci: float | str | None = None
    budget_s: float | None = None
    interleave: InterleaveConfig = field(default_factory=InterleaveConfig)
    telemetry_interval_ms: float = 100.0
    min_clock: float = 0.75
    flagged: Flagged = Flagged.keep
    retries: int = 2
    cool_down_s: float = 5.0


@dataclass
class TableColumnsConfig:
    """Which of ours a column of a table is: its name, or a formula on its columns."""

    is_prefill: str | None = None
    engine: str | None = None
    batch_size: str | None = None
    num_beams: str | None = None
    temperature: str | None = None
    top_k: str | None = None
    top_p: str | None = None
    token_index: str | None = None
    phase: str | None = None
    prompt_tokens: str | None = None
    context_length: str | None = None
    padded_context_length: str | None = None
    batch_context_tokens: str | None = None
    first_visit: str | None = None
    completed_at_ns: str | None = None
    decode_requests: str | None = None
    decode_context_tokens: str | None = None
    prefill_requests: str | None = None
    prefill_tokens: str | None = None
    prefill_cached_tokens: str | None = None
    prefill_pairs: str | None = None
    longest_context: str | None = None
    waiting_requests: str | None = None
    largest_graph_tokens: str | None = None
    model: str | None = None
    quantization: str | None = None
    n_parameters: str | None = None
    weight_bytes: str | None = None
    kv_bytes_per_token: str | None = None
    n_layers: str | None = None
    hidden_size: str | None = None
    n_heads: str | None = None
    n_kv_heads: str | None = None
    head_dim: str | None = None
    feed_forward: str | None = None
    vocabulary: str | None = None
    bytes_per_value: str | None = None
    previous_token_latency_ms: str | None = None


@dataclass
class TableConfig:
    """Somebody's own measurements: a file, and which of its columns is what."""

    path: str | None = None
    latency: str | None = None
    unit: TimeUnit = TimeUnit.ms
    group: list[str] = field(default_factory=list)
    columns: TableColumnsConfig = field(default_factory=TableColumnsConfig)
    where: str | None = None


@dataclass
class FeaturesConfig:
    """What the regressor sees: columns of a row, and formulas on them."""

    columns: list[str] = MISSING
    derived: dict[str, str] = field(default_factory=dict)


@dataclass
class ContestantConfig:
    """A regressor in the arena, the features that it sees, and whose settings these are."""

    regressor: dict[str, Any] = field(default_factory=dict)
    features: FeaturesConfig = field(default_factory=FeaturesConfig)
    of: str = ""


@dataclass
class ArenaConfig:
    """The regressors that are set beside each other on the same folds."""

    contestants: dict[str, ContestantConfig] = field(default_factory=dict)


@dataclass
class SplitConfig:
    """How rows are divided between fitting and testing."""

    name: SplitName = MISSING
    test_size: float = 0.2
    seed: int = 0
    column: str | None = None
    held_out: str | None = None
    group: str = "auto"


@dataclass
class LargeConfig:
    """From how many rows on they are not loaded, and how many of them are looked at then."""

    rows: int = 5_000_000
    sample_rows: int = 200_000


@dataclass
class TrackingConfig:
    """Where runs are logged."""

    name: TrackingName = MISSING
    mode: TrackingMode = TrackingMode.auto
    project: str = "llmlat"
    entity: str | None = None
    group: str | None = None
    tags: list[str] = field(default_factory=list)
    max_table_rows: int = 10_000


@dataclass
class Config:
    """The whole configuration of one run."""

    name: str = MISSING
    model: ModelConfig = field(default_factory=ModelConfig)
    quantization: QuantizationConfig = field(default_factory=QuantizationConfig)
    engine: dict[str, Any] = field(default_factory=dict)
    decoding: DecodingConfig = field(default_factory=DecodingConfig)
    prompt_set: PromptSetConfig = field(default_factory=PromptSetConfig)
    collect: CollectConfig = field(default_factory=CollectConfig)
    table: TableConfig = field(default_factory=TableConfig)
    features: FeaturesConfig = field(default_factory=FeaturesConfig)
    regressor: dict[str, Any] = field(default_factory=dict)
    split: SplitConfig = field(default_factory=SplitConfig)
    arena: ArenaConfig = field(default_factory=ArenaConfig)
    large: LargeConfig = field(default_factory=LargeConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    seed: int = 0
    device: str = "auto"
    dataset: Any = None
    datasets_dir: str = "outputs/datasets"
    reference: str | None = None


def config_dir() -> Path:
    """Return the folder of the config groups: the checkout's conf/, or the one inside the wheel."""
    checkout = PACKAGE_DIR.parent / "conf"
    return checkout if (checkout / "config.yaml").is_file() else PACKAGE_DIR / "conf"


def from_composed(composed: DictConfig) -> Config:
    """Turn a composed configuration into plain objects; no `DictConfig` goes further than this.

    Raises
    ------
    ConfigError
        Where a value is still missing or refers to nothing, or a key was added that nothing reads.
    """
    try:
        settings = OmegaConf.to_object(composed)
    except OmegaConfBaseException as error:
        raise ConfigError(explain(error, Config)) from error
    assert isinstance(settings, Config)
    # `+key=value` passes Hydra's own check, and would go unread.
    for key in _added_keys(settings):
        raise ConfigError(explain_unknown_key(key, Config))
    return settings


def resolved(composed: DictConfig) -> dict[str, Any]:
    """Return a composed configuration as plain values, for provenance, tracking and comparing."""
    plain: Any = OmegaConf.to_container(composed, resolve=True, enum_to_str=True)
    assert isinstance(plain, dict)
    return plain


def noted(path: Path) -> dict[str, Any] | None:
    """Return the resolved configuration of a job, from the file that Hydra left; None where it is damaged."""
    try:
        plain: Any = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    except Exception:  # a damaged file fails in any way
        return None
    return plain if isinstance(plain, dict) else None


def as_given(overrides: Any) -> list[str]:
    """Return overrides as they were typed, interpolations too."""
    given: Any = OmegaConf.to_container(overrides, resolve=False)
    return [str(override) for override in given]


def override(key: str, value: object) -> str:
    r"""Return an override that Hydra reads as this text, whatever letters are in it.

    Examples
    --------
    >>> print(override("hydra.sweep.dir", "it's (here)"))
    hydra.sweep.dir='it\'s (here)'
    """
    text = str(value)
    if PLAIN_VALUE.fullmatch(text):
        return f"{key}={text}"
    # A backslash counts only before a quote, or at the end, which a quote follows.
    escaped = re.sub(r"(\\*)(?='|\Z)", r"\1\1", text).replace("'", "\\'").replace("${", "\\${")
    return f"{key}='{escaped}'"


def as_typed(key: str, value: object) -> str:
    """Return an override as it is pasted into a shell.

    Examples
    --------
    >>> print(as_typed("hydra.sweep.dir", "sweeps/one (two)"))
    "hydra.sweep.dir='sweeps/one (two)'"
    """
    import shlex

    text = override(key, value)
    is_plain_inside = not set(text) & set('"$`!\\')
    return text if shlex.quote(text) == text else f'"{text}"' if is_plain_inside else shlex.quote(text)


def _added_keys(settings: Any, prefix: str = "") -> list[str]:
    """Return the dotted keys that the typed configuration does not have."""
    known = {entry.name for entry in fields(settings)}
    added = [f"{prefix}{name}" for name in vars(settings) if name not in known]
    below = {name: getattr(settings, name) for name in known}
    nested = [_added_keys(child, f"{prefix}{name}.") for name, child in below.items() if is_dataclass(child)]
    return sum(nested, added)


def register() -> None:
    """Teach Hydra the root schema, and the folder of the shipped prompts."""
    from hydra.core.config_store import ConfigStore

    ConfigStore.instance().store(name="schema", node=Config)
    OmegaConf.register_new_resolver(
        "shipped_prompts", lambda name: str(SHIPPED_PROMPTS_DIR / name), replace=True
    )
