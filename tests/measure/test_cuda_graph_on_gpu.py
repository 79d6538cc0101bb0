"""engine=cuda_graph for real: the kernel against plain attention, captured tokens against eager ones."""

import gc
import warnings
from dataclasses import replace

import pytest
import torch
from kernel_error import kernel_error

from llmlat.config import QuantizationName
from llmlat.measure.cells import Cell
from llmlat.measure.collect import Collector
from llmlat.measure.decoding import Greedy, make_decoder
from llmlat.measure.engines.cuda_graph import CudaGraphEngine
from llmlat.measure.engines.eager import EagerEngine
from llmlat.measure.models.load import load_model
from llmlat.measure.models.sources import ModelSource
from llmlat.measure.timers import CudaTimer

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"),
    pytest.mark.usefixtures("quick_requests"),
]

GPU = torch.device("cuda", 0)
GREEDY = Cell("greedy")
CELLS = [GREEDY, Cell("drawn", temperature=1.7, top_k=1), Cell("beams", num_beams=3)]
CAPTURABLE = [QuantizationName.none, QuantizationName.nf4]


@pytest.fixture(scope="module")
def model_of(tiny_architecture):
    """Return a function that loads the tiny architecture, its likeliest tokens far apart, on the GPU."""

    def load(quantization=QuantizationName.none, **changes):
        changes = {"initializer_range": 0.4, "max_position_embeddings": 4096, **changes}
        architecture = type(tiny_architecture)(**{**tiny_architecture.to_dict(), **changes})
        return load_model(ModelSource("tiny", architecture, "random"), quantization, GPU, seed=0)

    return load


def generate(engine_class, model, request, **options):
    decoder = make_decoder(request.cell, GPU, pad_id=0)
    engine = engine_class(model, decoder, **options)
    rows = Collector(CudaTimer(GPU)).measure(request, engine, decoder)
    return rows["token_id"].tolist()


# --- the kernel ---------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize(
    ("rows", "heads", "key_heads", "size", "value_size", "window"),
    [
        (1, 32, 8, 128, 128, None),
        (3, 8, 8, 64, 64, None),
        (16, 12, 2, 80, 80, 100),
        (2, 16, 1, 256, 128, None),
        (300, 4, 2, 16, 16, 7),
    ],
)
def test_the_kernel_attends_as_plain_attention(dtype, rows, heads, key_heads, size, value_size, window):
    most = 1e-5 if dtype is torch.float32 else 1e-2
    for last in (0, 1, 63, 64, 300, 499):
        shape = (rows, heads, key_heads, size, value_size, window)
        assert kernel_error(*shape, columns=500, last=last, dtype=dtype, device="cuda") < most


# --- the engine ---------------------------------------------


@pytest.mark.parametrize("quantization", CAPTURABLE)
@pytest.mark.parametrize("cell", CELLS[:2], ids=lambda cell: cell.engine)
@pytest.mark.parametrize("lengths", [(1,), (9, 9), (11, 4, 1), (1100,)])
def test_captured_tokens_are_the_eager_ones(model_of, batch_of, quantization, cell, lengths):
    model = model_of(quantization)
    assert model.dtype is torch.bfloat16
    request = batch_of(lengths, cell, max_new_tokens=24)
    tokens = generate(CudaGraphEngine, model, request)
    assert len(set(tokens)) > 5
    assert tokens == generate(EagerEngine, model, request)


@pytest.mark.parametrize("window", [None, 6])
def test_captured_windows_and_beams_are_the_eager_ones(model_of, batch_of, window):
    model = model_of(sliding_window=window)
    for cell in CELLS:
        request = batch_of((11, 4, 1), cell, max_new_tokens=10)
        assert generate(CudaGraphEngine, model, request) == generate(EagerEngine, model, request)


@pytest.mark.filterwarnings("ignore")
def test_compiled_tokens_are_the_eager_ones(model_of, batch_of):
    # In bfloat16 the compiler adds up in another order, and tokens that are nearly as likely change places.
    model = model_of().float()
    request = batch_of((9,), GREEDY, max_new_tokens=24)
    tokens = generate(CudaGraphEngine, model, request, compile=True)
    assert tokens == generate(EagerEngine, model, request)
    torch._dynamo.reset()


def test_a_graph_serves_all_requests_that_fit_and_leaves_no_memory_behind(model_of, batch_of):
    model = model_of()
    # What libraries allocate once, they keep.
    generate(CudaGraphEngine, model, batch_of((9,), GREEDY))
    gc.collect()
    before = torch.cuda.memory_allocated(GPU)
    decoder = Greedy(device=GPU)
    engine, collector = CudaGraphEngine(model, decoder), Collector(CudaTimer(GPU))
    for salt in range(3):
        request = batch_of((9 + salt,), GREEDY, request_id=salt, max_new_tokens=12, salt=salt)
        rows = collector.measure(request, engine, decoder)
        alone = replace(request, request_id=0)
        assert rows["token_id"].tolist() == generate(EagerEngine, model, alone)
    assert [(entry["rows"], entry["capacity"]) for entry in engine.preparations] == [(1, 1024)]
    del engine
    gc.collect()
    assert torch.cuda.memory_allocated(GPU) < before + 2**16, "no cache, no graph"


def test_steps_do_not_wait_for_the_device(model_of, batch_of):
    engine = CudaGraphEngine(model_of(), Greedy(device=GPU))
    prompts = batch_of((11, 4, 1), GREEDY).prompts
    with torch.inference_mode():
        engine.decoder.begin(3, 8, seed=0)
        state = engine.prepare(prompts, 8)
        engine.prefill(state)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it is a prototype
            torch.cuda.set_sync_debug_mode("error")
        try:
            steps = [engine.decode_one_token(state) for _ in range(7)]
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert len({step.data_ptr() for step in steps}) == 7, "each step's ids are its own"
