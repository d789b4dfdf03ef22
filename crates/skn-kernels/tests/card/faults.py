"""Does with the played card what a card must not be done with, and sees that each fault is told; and multiplies with its cuBLAS and cuBLASLt.

    bash scripts/played-card.sh FOLDER python3 crates/skn-kernels/tests/card/faults.py
"""

import ctypes
import math
import os
import random
import resource
import signal
import struct
import sys
import tempfile
import threading

HEAD = b"\n.version 8.0\n.target sm_80\n.address_size 64\n"
# Writes `value` to places of `out`: that of the thread, `places` later.
FILL = (
    HEAD
    + b"""
.visible .entry fill(
	.param .u64 fill_param_0,
	.param .u32 fill_param_1,
	.param .u32 fill_param_2
)
.maxntid 128, 1, 1
{
	.reg .b32 	%r<6>;
	.reg .b64 	%rd<6>;

	ld.param.u64 	%rd1, [fill_param_0];
	ld.param.u32 	%r1, [fill_param_1];
	ld.param.u32 	%r2, [fill_param_2];
	cvta.to.global.u64 	%rd2, %rd1;
	mov.u32 	%r3, %tid.x;
	add.s32 	%r4, %r3, %r2;
	mul.wide.u32 	%rd3, %r4, 4;
	add.s64 	%rd4, %rd2, %rd3;
	st.global.u32 	[%rd4], %r1;
	ret;

}
"""
)
# Rounds the first number of its array and makes integers of it: behind it, rint, trunc, i32, u32 and i64 of what is cut off.
CONVERT = (
    HEAD
    + b"""
.visible .entry convert(
	.param .u64 convert_param_0
)
{
	.reg .f32 	%f<4>;
	.reg .b32 	%r<3>;
	.reg .b64 	%rd<4>;

	ld.param.u64 	%rd1, [convert_param_0];
	cvta.to.global.u64 	%rd2, %rd1;
	ld.global.f32 	%f1, [%rd2];
	cvt.rni.f32.f32 	%f2, %f1;
	cvt.rzi.f32.f32 	%f3, %f1;
	cvt.rzi.s32.f32 	%r1, %f1;
	cvt.rzi.u32.f32 	%r2, %f1;
	cvt.rzi.s64.f32 	%rd3, %f1;
	st.global.f32 	[%rd2+4], %f2;
	st.global.f32 	[%rd2+8], %f3;
	st.global.u32 	[%rd2+12], %r1;
	st.global.u32 	[%rd2+16], %r2;
	st.global.u64 	[%rd2+24], %rd3;
	ret;

}
"""
)
# A kernel of ours as its PTX would begin, with its signature or another one: it is played as its source says.
OURS = HEAD + b"\n.visible .entry row_norms(\n%s\n)\n{\n\tret;\n\n}\n"
# Of cuBLAS.
NO_HANDLE, NO_VALUE, FAILED, NOT_SUPPORTED = 1, 7, 13, 15
SUCCESS, INVALID_VALUE, NO_CONTEXT, NOT_FOUND, ILLEGAL = 0, 1, 201, 500, 700
ILLEGAL_STATE, UNSUPPORTED, INVALIDATED, NOT_ON_THIS_CARD = 401, 900, 901, 801
# Modes of a capture.
GLOBAL, THREAD_LOCAL, RELAXED = 0, 1, 2
F32, F64, BF16 = 0, 1, 14
N, T = 0, 1
# The queue of the calling thread.
STREAM = ctypes.c_void_p(2)
EXACT, TF32, EXACT_64 = 68, 77, 70


class Card:
    """The driver, with its context."""

    def __init__(self):
        self.of = ctypes.CDLL("libcuda.so.1")
        assert self.of.cuInit(0) == SUCCESS
        self.context = ctypes.c_void_p()
        assert self.of.cuDevicePrimaryCtxRetain(ctypes.byref(self.context), 0) == SUCCESS
        assert self.of.cuCtxSetCurrent(self.context) == SUCCESS

    def memory(self, size):
        out = ctypes.c_uint64()
        assert self.of.cuMemAllocAsync(ctypes.byref(out), ctypes.c_size_t(size), STREAM) == SUCCESS
        return out.value

    def upload(self, data):
        to = self.memory(len(data))
        assert self.of.cuMemcpyHtoDAsync_v2(ctypes.c_uint64(to), data, ctypes.c_size_t(len(data)), STREAM) == SUCCESS
        return to

    def download(self, address, size):
        into = ctypes.create_string_buffer(size)
        result = self.of.cuMemcpyDtoHAsync_v2(into, ctypes.c_uint64(address), ctypes.c_size_t(size), STREAM)
        return result, into.raw

    def free(self, address):
        return self.of.cuMemFreeAsync(ctypes.c_uint64(address), STREAM)

    def function(self, text, name):
        module, function = ctypes.c_void_p(), ctypes.c_void_p()
        assert self.of.cuModuleLoadData(ctypes.byref(module), text) == SUCCESS
        return self.of.cuModuleGetFunction(ctypes.byref(function), module, name), function

    def launch(self, function, arguments, grid=1, block=32, shared=0):
        pointers = (ctypes.c_void_p * len(arguments))(*[ctypes.addressof(argument) for argument in arguments])
        return self.of.cuLaunchKernel(function, grid, 1, 1, block, 1, 1, shared, STREAM, pointers, None)

    def begin(self, mode=THREAD_LOCAL):
        """Begins a capture. What it launches was loaded before."""
        if not hasattr(self, "loaded"):
            self.loaded = self.function(FILL, b"fill")
        assert self.of.cuStreamBeginCapture_v2(STREAM, mode) == SUCCESS

    def end(self):
        graph = ctypes.c_void_p()
        return self.of.cuStreamEndCapture(STREAM, ctypes.byref(graph)), graph

    def instance(self, graph, flags=0):
        instance = ctypes.c_void_p()
        result = self.of.cuGraphInstantiateWithFlags(ctypes.byref(instance), graph, ctypes.c_ulonglong(flags))
        return result, instance

    def captured(self, flags=0):
        """Ends a capture that nothing is wrong with, and what can be launched of it."""
        result, graph = self.end()
        assert result == SUCCESS and graph.value is not None
        result, instance = self.instance(graph, flags)
        assert result == SUCCESS
        return instance

    def replay(self, instance):
        return self.of.cuGraphLaunch(instance, STREAM)

    def copy(self, to, source, size):
        return self.of.cuMemcpyDtoDAsync_v2(ctypes.c_uint64(to), ctypes.c_uint64(source), ctypes.c_size_t(size), STREAM)

    def fill(self, address, value=7, places=0, **launch):
        result, function = getattr(self, "loaded", None) or self.function(FILL, b"fill")
        assert result == SUCCESS
        return self.launch(function, [ctypes.c_uint64(address), ctypes.c_uint32(value), ctypes.c_uint32(places)], **launch)


def right(card):
    memory = card.memory(128)
    assert card.download(memory, 128) == (SUCCESS, b"\xff" * 128), "new memory is no number"
    assert card.fill(memory) == SUCCESS
    assert card.download(memory, 128) == (SUCCESS, b"\7\0\0\0" * 32)
    assert card.free(memory) == SUCCESS
    nothing = card.memory(0)
    assert card.free(nothing) == SUCCESS


def writes_behind(card):
    assert card.fill(card.memory(124)) == ILLEGAL
    # A card is of no more use then.
    assert card.of.cuStreamSynchronize(STREAM) == ILLEGAL


def writes_after_free(card):
    memory = card.memory(128)
    assert card.free(memory) == SUCCESS
    assert card.fill(memory) == ILLEGAL


def frees_twice(card):
    memory = card.memory(128)
    assert (card.free(memory), card.free(memory)) == (SUCCESS, ILLEGAL)


def reads_the_host(card):
    here = ctypes.create_string_buffer(128)
    assert card.download(ctypes.addressof(here), 128)[0] == ILLEGAL


def reads_too_much(card):
    assert card.download(card.memory(128), 132)[0] == ILLEGAL


def is_empty(card):
    assert card.fill(card.memory(128), grid=0) == INVALID_VALUE


def has_no_threads(card):
    assert card.fill(card.memory(128), block=0) == INVALID_VALUE
    # Which is no access: the card goes on.
    assert card.of.cuStreamSynchronize(STREAM) == SUCCESS


def has_too_many_blocks(card):
    assert card.fill(card.memory(128), grid=2**31) == INVALID_VALUE
    assert card.of.cuStreamSynchronize(STREAM) == SUCCESS


def has_too_many_threads(card):
    assert card.fill(card.memory(4096), block=129) == INVALID_VALUE


def has_not_asked_for_shared_memory(card):
    memory = card.memory(128)
    result, function = card.function(FILL, b"fill")
    arguments = [ctypes.c_uint64(memory), ctypes.c_uint32(7), ctypes.c_uint32(0)]
    assert card.launch(function, arguments, shared=49153) == INVALID_VALUE
    # MAX_DYNAMIC_SHARED_SIZE_BYTES
    assert card.of.cuFuncSetAttribute(function, 8, 65536) == SUCCESS
    assert card.launch(function, arguments, shared=49153) == SUCCESS


def has_shared_memory_of_its_own(card):
    text = FILL.replace(b"\t.reg .b32", b"\t.shared .align 4 .b8 own[1024];\n\t.reg .b32")
    result, function = card.function(text, b"fill")
    arguments = [ctypes.c_uint64(card.memory(128)), ctypes.c_uint32(7), ctypes.c_uint32(0)]
    assert card.launch(function, arguments, shared=48128) == SUCCESS
    assert card.launch(function, arguments, shared=48129) == INVALID_VALUE


def has_no_such_kernel(card):
    assert card.function(FILL, b"fil")[0] == NOT_FOUND


def has_another_signature(card):
    result, function = card.function(OURS % b"\t.param .u64 row_norms_param_0", b"row_norms")
    assert card.launch(function, [ctypes.c_uint64(0)]) == INVALID_VALUE


def norms(card, written, width):
    """Launches a kernel of ours: norms of 32 rows of so many numbers, of which there are 60."""
    parameters = [b"\t.param .u64 row_norms_param_%d" % i for i in (0, 1)] + [b"\t.param .u32 row_norms_param_%d" % i for i in (2, 3)]
    result, function = card.function(OURS % b",\n".join(parameters), b"row_norms")
    assert result == SUCCESS
    places = [ctypes.c_uint64(card.memory(written)), ctypes.c_uint64(card.memory(32 * 60 * 4))]
    return card.launch(function, [*places, ctypes.c_uint32(32), ctypes.c_uint32(width)])


def writes_behind_in_a_kernel_of_ours(card):
    assert norms(card, 128, 60) == SUCCESS
    assert norms(card, 124, 60) == ILLEGAL


def reads_behind_in_a_kernel_of_ours(card):
    """Which ends the program."""
    norms(card, 128, 61)


def with_memory_of_another_thread(card, waits, use):
    memory = []

    def queue():
        assert card.of.cuCtxSetCurrent(card.context) == SUCCESS
        memory.append(card.memory(128))
        assert card.fill(memory[0]) == SUCCESS
        if waits:
            assert card.of.cuStreamSynchronize(STREAM) == SUCCESS

    thread = threading.Thread(target=queue)
    thread.start()
    thread.join()
    return use(memory[0])


def reads_what_another_thread_queued(card):
    assert with_memory_of_another_thread(card, False, lambda memory: card.download(memory, 128))[0] == ILLEGAL


def frees_what_another_thread_queued(card):
    assert with_memory_of_another_thread(card, False, card.free) == ILLEGAL


def with_memory_that_another_thread_reads(card, use):
    memory, other = card.memory(128), card.memory(128)
    assert card.of.cuStreamSynchronize(STREAM) == SUCCESS

    def copy():
        assert card.of.cuCtxSetCurrent(card.context) == SUCCESS
        places = ctypes.c_uint64(other), ctypes.c_uint64(memory)
        assert card.of.cuMemcpyDtoDAsync_v2(*places, ctypes.c_size_t(128), STREAM) == SUCCESS

    thread = threading.Thread(target=copy)
    thread.start()
    thread.join()
    return use(memory)


def frees_what_another_thread_reads(card):
    assert with_memory_that_another_thread_reads(card, card.free) == ILLEGAL


def writes_what_another_thread_reads(card):
    assert with_memory_that_another_thread_reads(card, card.fill) == ILLEGAL


def waits_for_all_threads(card):
    def use(memory):
        assert card.of.cuCtxSynchronize() == SUCCESS
        return card.download(memory, 128)

    assert with_memory_of_another_thread(card, False, use) == (SUCCESS, b"\7\0\0\0" * 32)


def product(card, stream=STREAM, result=0):
    """A product of two matrices of 16 numbers each, `result` behind the first one's first."""
    blas, handle = ctypes.CDLL("libcublas.so.13"), ctypes.c_void_p()
    assert blas.cublasCreate_v2(ctypes.byref(handle)) == SUCCESS
    assert blas.cublasSetStream_v2(handle, stream) == SUCCESS
    memory = card.memory(64 * 3)
    a, b, c = [ctypes.c_uint64(memory + at) for at in (0, 64, result)]
    one, nothing = ctypes.c_float(1), ctypes.c_float(0)
    stride = ctypes.c_longlong(16)
    factors = ctypes.byref(one), a, F32, 4, stride, b, F32, 4, stride
    result = ctypes.byref(nothing), c, F32, 4, stride
    return blas.cublasGemmStridedBatchedEx(handle, N, N, 4, 4, 4, *factors, *result, 1, EXACT, -1)


def multiplies_on_no_stream_of_its_own(card):
    assert product(card, result=128) == SUCCESS
    assert product(card, ctypes.c_void_p(None), 128) == NO_VALUE


def multiplies_into_a_factor(card):
    assert product(card, result=124) == NO_VALUE


class Chosen(ctypes.Structure):
    """An algorithm of cuBLASLt, as it is given."""

    _fields_ = [
        ("algorithm", ctypes.c_uint64 * 8),
        ("workspace", ctypes.c_size_t),
        ("state", ctypes.c_int),
        ("waves", ctypes.c_float),
        ("reserved", ctypes.c_int * 4),
    ]


# Attributes: of an operation, then of what is preferred.
TURN_A, TURN_B, EPILOGUE, BIAS = 3, 4, 7, 8
WORKSPACE, REDUCTION, ALIGNED_A, ALIGNED_B, ALIGNED_C, ALIGNED_D = 1, 3, 5, 6, 7, 8
# Parts of a sum: added where they are, or kept apart.
IN_PLACE, APART = 1, 2
WITH_BIAS = 4


class Lt:
    """cuBLASLt, with a handle."""

    def __init__(self, card):
        self.card, self.of = card, ctypes.CDLL("libcublasLt.so.13")
        self.handle = self.made(self.of.cublasLtCreate)

    def made(self, make, *arguments):
        out = ctypes.c_void_p()
        assert make(ctypes.byref(out), *arguments) == SUCCESS
        return out

    def layout(self, kind, rows, columns, leading):
        sides = ctypes.c_uint64(rows), ctypes.c_uint64(columns), ctypes.c_int64(leading)
        return self.made(self.of.cublasLtMatrixLayoutCreate, kind, *sides)

    def operation(self, compute=EXACT, turned=(N, N), bias=None):
        """A bias of 0 is none, which is to be added all the same."""
        made = self.made(self.of.cublasLtMatmulDescCreate, compute, F32)
        values = [(TURN_A, ctypes.c_int32(turned[0])), (TURN_B, ctypes.c_int32(turned[1]))]
        if bias is not None:
            values += [(EPILOGUE, ctypes.c_uint32(WITH_BIAS)), (BIAS, ctypes.c_void_p(bias))]
        for attribute, value in values:
            size = ctypes.c_size_t(ctypes.sizeof(value))
            assert self.of.cublasLtMatmulDescSetAttribute(made, attribute, ctypes.byref(value), size) == SUCCESS
        return made

    def preference(self, workspace=1 << 20, reduction=APART, aligned=(4, 4, 4)):
        made = self.made(self.of.cublasLtMatmulPreferenceCreate)
        values = [(WORKSPACE, ctypes.c_uint64(workspace)), (REDUCTION, ctypes.c_uint32(reduction))]
        a, b, d = map(ctypes.c_uint32, aligned)
        values += [(ALIGNED_A, a), (ALIGNED_B, b), (ALIGNED_C, d), (ALIGNED_D, d)]
        for attribute, value in values:
            size = ctypes.c_size_t(ctypes.sizeof(value))
            assert self.of.cublasLtMatmulPreferenceSetAttribute(made, attribute, ctypes.byref(value), size) == SUCCESS
        return made

    def choose(self, operation, layouts, preference, handle=None):
        chosen, count = Chosen(), ctypes.c_int()
        into = ctypes.byref(chosen), ctypes.byref(count)
        status = self.of.cublasLtMatmulAlgoGetHeuristic(handle or self.handle, operation, *layouts, layouts[2], preference, 1, *into)
        assert (status == SUCCESS) == (count.value == 1)
        return status, chosen

    def multiply(self, operation, layouts, places, chosen, workspace=None, by=(1, 0), stream=STREAM):
        """Into the third place. A workspace is an address and its bytes; there is one if nobody gives it."""
        if workspace is None:
            workspace = self.card.memory(chosen.workspace), chosen.workspace
        alpha, beta = map(ctypes.c_float, by)
        a, b, d = map(ctypes.c_void_p, places)
        factors = ctypes.byref(alpha), a, layouts[0], b, layouts[1], ctypes.byref(beta), d, layouts[2], d, layouts[2]
        at, size = ctypes.c_void_p(workspace[0]), ctypes.c_size_t(workspace[1])
        return self.of.cublasLtMatmul(self.handle, operation, *factors, ctypes.byref(chosen), at, size, stream)


# Rows, columns and inner side of the products below: the last is summed up in parts.
SIDES = 5, 3, 40


def of_lt(card, told=SUCCESS, kinds=(F32, F32, F32), inner=40, bias=None, places=None, before=lambda lt, parts: None, **wanted):
    """A product that may be wrong. `told` is what the choice of an algorithm has to say; `before` may change the parts of the call."""
    lt, (m, n, k) = Lt(card), SIDES
    layouts = [lt.layout(kinds[0], m, k, m), lt.layout(kinds[1], inner, n, k), lt.layout(kinds[2], m, n, m)]
    parts = {"operation": lt.operation(bias=bias), "layouts": layouts, "places": places}
    parts["places"] = places or [card.upload(bytes(4 * count)) for count in (m * k, k * n, m * n)]
    status, parts["chosen"] = lt.choose(parts["operation"], layouts, lt.preference(**wanted))
    assert status == told, status
    if told != SUCCESS:
        return status
    before(lt, parts)
    return lt.multiply(**parts)


def adds_no_bias_that_nobody_gave(card):
    assert of_lt(card, NO_VALUE, bias=0) == NO_VALUE


def adds_a_bias_of_the_host(card):
    here = (ctypes.c_float * 8)()
    address = -(-ctypes.addressof(here) // 16) * 16
    assert of_lt(card, bias=address) == FAILED


def adds_a_bias_that_is_too_short(card):
    assert of_lt(card, bias=card.upload(bytes(20))) == SUCCESS
    assert of_lt(card, bias=card.upload(bytes(16))) == FAILED


def adds_a_bias_from_an_odd_place(card):
    """Which an algorithm does not expect that was chosen for it."""
    assert of_lt(card, bias=card.upload(bytes(32)) + 4) == FAILED


def multiplies_what_begins_elsewhere(card):
    """At a multiple of 16 bytes, where 256 were told."""
    places = [card.upload(bytes(16 * 60)) for _ in range(3)]
    assert of_lt(card, places=places, aligned=(16, 16, 16)) == SUCCESS
    assert of_lt(card, places=places, aligned=(256, 16, 16)) == FAILED


def has_no_room(card):
    def smaller(lt, parts):
        parts["workspace"] = card.memory(parts["chosen"].workspace), parts["chosen"].workspace - 1

    assert of_lt(card, workspace=1 << 20, before=smaller) == NO_VALUE


def has_less_room_than_it_says(card):
    def smaller(lt, parts):
        parts["workspace"] = card.memory(parts["chosen"].workspace - 16), parts["chosen"].workspace

    assert of_lt(card, before=smaller) == FAILED


def multiplies_as_another_product(card):
    def other(lt, parts):
        parts["operation"] = lt.operation(bias=card.upload(bytes(32)))

    assert of_lt(card, before=other) == NO_VALUE


def multiplies_by_lt_into_a_factor(card):
    def same(lt, parts):
        parts["places"][2] = parts["places"][0]

    assert of_lt(card, before=same) == NO_VALUE


def multiplies_by_lt_on_no_stream_of_its_own(card):
    def other(lt, parts):
        parts["stream"] = None

    assert of_lt(card, before=other) == NO_VALUE


def multiplies_what_does_not_fit(card):
    assert of_lt(card, NO_VALUE, inner=39) == NO_VALUE


def multiplies_other_types(card):
    assert of_lt(card, NOT_SUPPORTED, kinds=(F64, F64, F64)) == NOT_SUPPORTED


def multiplies_by_no_handle(card):
    lt = Lt(card)
    layouts = [lt.layout(F32, 4, 4, 4)] * 3
    assert lt.choose(lt.operation(), layouts, lt.preference(), lt.operation())[0] == NO_HANDLE


def multiplies_once_it_is_gone(card):
    lt = Lt(card)
    operation, layouts, preference = lt.operation(), [lt.layout(F32, 4, 4, 4) for _ in range(3)], lt.preference()
    chosen = lt.choose(operation, layouts, preference)[1]
    places = [card.memory(64) for _ in range(3)]
    destroyed = [lt.of.cublasLtMatmulPreferenceDestroy(preference), lt.of.cublasLtMatrixLayoutDestroy(layouts[0])]
    assert destroyed == [SUCCESS, SUCCESS]
    assert lt.choose(operation, layouts, preference)[0] == NO_VALUE
    assert lt.multiply(operation, layouts, places, chosen) == NO_VALUE
    assert lt.of.cublasLtMatmulDescDestroy(operation) == SUCCESS
    assert lt.of.cublasLtMatmulDescDestroy(operation) == NO_VALUE
    assert lt.of.cublasLtDestroy(lt.handle) == SUCCESS
    assert lt.multiply(operation, layouts, places, chosen) == NO_HANDLE


def is_told_less_than_a_number(card):
    lt = Lt(card)
    size = ctypes.c_size_t(4)
    place = ctypes.c_uint64(0)
    assert lt.of.cublasLtMatmulDescSetAttribute(lt.operation(), BIAS, ctypes.byref(place), size) == NO_VALUE


def may_add_in_any_order(card):
    """The same product three times: sums in place are other ones each time."""
    lt, (m, n, k) = Lt(card), SIDES
    numbers = [[random.uniform(-1, 1) for _ in range(count)] for count in (m * k, k * n)]
    places = [card.upload(bytes((ctypes.c_float * len(some))(*some))) for some in numbers] + [card.memory(4 * m * n)]
    layouts = [lt.layout(F32, m, k, m), lt.layout(F32, k, n, k), lt.layout(F32, m, n, m)]

    def found(reduction):
        operation = lt.operation()
        status, chosen = lt.choose(operation, layouts, lt.preference(reduction=reduction))
        assert status == SUCCESS and (chosen.workspace > 0) == (reduction == APART)
        assert lt.multiply(operation, layouts, places, chosen) == SUCCESS
        return card.download(places[2], 4 * m * n)[1]

    assert len({found(APART) for _ in range(3)}) == 1
    assert len({found(IN_PLACE | APART) for _ in range(3)}) > 1



def converts_as_ptx_says(card):
    """Numbers that no integer is, halves, and what is no number."""
    number = struct.Struct("<f").pack
    found = []
    for value in [2.5, -2.5, 3e9, -1.0, math.inf, math.nan]:
        result, function = card.function(CONVERT, b"convert")
        assert result == SUCCESS
        place = card.upload(number(value) + b"\0" * 28)
        assert card.launch(function, [ctypes.c_uint64(place)], block=1) == SUCCESS
        found.append(struct.unpack("<fffiI4xq", card.download(place, 32)[1])[1:])
    least = -(2**63)
    assert found[:5] == [
        (2.0, 2.0, 2, 2, 2),
        (-2.0, -2.0, -2, 0, -2),
        (3e9, 3e9, 2**31 - 1, 3000000000, 3000000000),
        (-1.0, -1.0, -1, 0, -1),
        (math.inf, math.inf, 2**31 - 1, 2**32 - 1, 2**63 - 1),
    ], found
    assert found[5][2:] == (0, 0, least) and all(map(math.isnan, found[5][:2])), found


def has_an_operand_that_is_not_known(card):
    text = FILL.replace(b"%tid.x", b"%laneid")
    result, function = card.function(text, b"fill")
    arguments = [ctypes.c_uint64(card.memory(128)), ctypes.c_uint32(7), ctypes.c_uint32(0)]
    assert card.launch(function, arguments) == NOT_FOUND


def waits_for_another_thread(card):
    result = with_memory_of_another_thread(card, True, lambda memory: card.download(memory, 128))
    assert result == (SUCCESS, b"\7\0\0\0" * 32)


def has_no_context(card):
    assert card.of.cuCtxSetCurrent(None) == SUCCESS
    out = ctypes.c_uint64()
    assert card.of.cuMemAllocAsync(ctypes.byref(out), ctypes.c_size_t(4), None) == NO_CONTEXT


SEVENS, NOTHING = b"\7\0\0\0" * 32, b"\xff" * 128


def replays(card):
    """What was captured is done at each launch and not before, on memory as it is then."""
    source, place, mine = card.upload(SEVENS), card.memory(128), card.memory(128)
    card.begin()
    status = ctypes.c_int()
    assert card.of.cuStreamIsCapturing(STREAM, ctypes.byref(status)) == SUCCESS and status.value == 1
    between = card.memory(128)
    assert card.copy(between, source, 128) == SUCCESS
    assert card.copy(place, between, 128) == SUCCESS
    assert card.free(between) == SUCCESS
    assert card.of.cuMemsetD8Async(ctypes.c_uint64(mine), 1, ctypes.c_size_t(64), STREAM) == SUCCESS
    assert card.fill(mine, value=9, block=1) == SUCCESS
    instance = card.captured()
    assert card.of.cuStreamIsCapturing(STREAM, ctypes.byref(status)) == SUCCESS and status.value == 0
    assert card.download(place, 128) == card.download(mine, 128) == (SUCCESS, NOTHING), "it was not launched yet"
    for number in range(7, 9):
        data = bytes([number, 0, 0, 0]) * 32
        assert card.of.cuMemcpyHtoDAsync_v2(ctypes.c_uint64(source), data, ctypes.c_size_t(128), STREAM) == SUCCESS
        assert card.replay(instance) == SUCCESS
        assert card.download(place, 128) == (SUCCESS, data)
    assert card.download(mine, 128) == (SUCCESS, b"\t\0\0\0" + b"\1" * 60 + NOTHING[64:])
    assert card.of.cuGraphExecDestroy(instance) == SUCCESS
    assert card.free(place) == SUCCESS


def replays_products(card):
    blas, handle = ctypes.CDLL("libcublas.so.13"), ctypes.c_void_p()
    assert blas.cublasCreate_v2(ctypes.byref(handle)) == SUCCESS
    assert blas.cublasSetStream_v2(handle, STREAM) == SUCCESS
    a, b, c = [card.upload(struct.pack("<f", number)) for number in (2, 3, 0)]
    card.begin()
    two, nothing = ctypes.c_float(2), ctypes.c_float(0)
    stride = ctypes.c_longlong(1)
    factors = ctypes.byref(two), ctypes.c_uint64(a), F32, 1, stride, ctypes.c_uint64(b), F32, 1, stride
    into = ctypes.byref(nothing), ctypes.c_uint64(c), F32, 1, stride
    assert blas.cublasGemmStridedBatchedEx(handle, N, N, 1, 1, 1, *factors, *into, 1, EXACT, -1) == SUCCESS
    # The numbers were read when it was captured.
    two.value = nothing.value = math.nan
    replays_of(card, card.captured(), b, c)


def replays_products_of_lt(card):
    lt = Lt(card)
    operation, layouts = lt.operation(), [lt.layout(F32, 1, 1, 1) for _ in range(3)]
    chosen = lt.choose(operation, layouts, lt.preference())[1]
    a, b, c = [card.upload(struct.pack("<f", number)) for number in (2, 3, 0)]
    card.begin()
    assert lt.multiply(operation, layouts, (a, b, c), chosen, workspace=(0, 0), by=(2, 0)) == SUCCESS
    instance = card.captured()
    # What it was described by is not asked any more.
    gone = [lt.of.cublasLtMatmulDescDestroy(operation), *map(lt.of.cublasLtMatrixLayoutDestroy, layouts)]
    assert gone == [SUCCESS] * 4
    replays_of(card, instance, b, c)


def replays_of(card, instance, b, c):
    """What was captured makes of the number at `b` four times as much."""
    assert card.download(c, 4) == (SUCCESS, struct.pack("<f", 0))
    for number in (3, 5):
        data = struct.pack("<f", number)
        assert card.of.cuMemcpyHtoDAsync_v2(ctypes.c_uint64(b), data, ctypes.c_size_t(4), STREAM) == SUCCESS
        assert card.replay(instance) == SUCCESS
        assert card.download(c, 4) == (SUCCESS, struct.pack("<f", 4 * number))


def is_refused(card, call, result=UNSUPPORTED, mode=THREAD_LOCAL):
    """A call in a capture, which ends with nothing."""
    card.begin(mode)
    assert call() == result
    assert card.end()[0] == INVALIDATED
    # What is done then is no part of it.
    assert card.of.cuStreamSynchronize(STREAM) == SUCCESS


def waits_in_a_capture(card):
    is_refused(card, lambda: card.of.cuStreamSynchronize(STREAM))


def waits_for_all_in_a_capture(card):
    is_refused(card, lambda: card.of.cuCtxSynchronize())


def waits_for_all_while_another_thread_captures(card):
    """Which ends that thread's capture."""
    card.begin()
    results = []

    def wait():
        assert card.of.cuCtxSetCurrent(card.context) == SUCCESS
        # Its own stream is captured by nobody.
        results.append(card.of.cuStreamSynchronize(STREAM))
        results.append(card.of.cuCtxSynchronize())

    thread = threading.Thread(target=wait)
    thread.start()
    thread.join()
    assert results == [SUCCESS, UNSUPPORTED]
    assert card.end()[0] == INVALIDATED


def reads_back_in_a_capture(card):
    memory = card.memory(128)
    is_refused(card, lambda: card.download(memory, 128)[0])


def uploads_in_a_capture(card):
    memory = card.memory(128)
    call = lambda: card.of.cuMemcpyHtoDAsync_v2(ctypes.c_uint64(memory), NOTHING, ctypes.c_size_t(128), STREAM)
    is_refused(card, call)


def asks_for_memory_at_once_in_a_capture(card):
    out = ctypes.c_uint64()
    allocate = lambda: card.of.cuMemAlloc_v2(ctypes.byref(out), ctypes.c_size_t(128))
    is_refused(card, allocate)
    card.begin(RELAXED)
    assert allocate() == SUCCESS
    assert card.end()[0] == SUCCESS


def loads_in_a_capture(card):
    module = ctypes.c_void_p()
    is_refused(card, lambda: card.of.cuModuleLoadData(ctypes.byref(module), FILL))


def goes_on_in_a_capture_that_failed(card):
    """Nothing is queued in it any more, its memory is gone with it, and what comes behind it is right."""
    place, out = card.memory(128), ctypes.c_uint64()
    card.begin()
    memory = card.memory(128)
    assert card.of.cuStreamSynchronize(STREAM) == UNSUPPORTED
    status = ctypes.c_int()
    assert card.of.cuStreamIsCapturing(STREAM, ctypes.byref(status)) == SUCCESS and status.value == 2
    asked = card.of.cuMemAllocAsync(ctypes.byref(out), ctypes.c_size_t(128), STREAM)
    assert [asked, card.fill(memory), card.copy(place, memory, 128), card.free(memory)] == [INVALIDATED] * 4
    assert card.end()[0] == INVALIDATED
    assert card.of.cuStreamIsCapturing(STREAM, ctypes.byref(status)) == SUCCESS and status.value == 0
    assert card.fill(place) == SUCCESS and card.download(place, 128) == (SUCCESS, SEVENS)
    card.begin()
    assert card.fill(place, value=9, block=1) == SUCCESS
    assert card.replay(card.captured()) == SUCCESS
    assert card.download(place, 128) == (SUCCESS, b"\t\0\0\0" + SEVENS[4:])


def frees_memory_of_a_capture_that_failed(card):
    card.begin()
    memory = card.memory(128)
    assert card.of.cuStreamSynchronize(STREAM) == UNSUPPORTED
    assert card.end()[0] == INVALIDATED
    assert card.free(memory) == ILLEGAL


def frees_in_a_capture_what_is_older(card):
    memory = card.memory(128)
    is_refused(card, lambda: card.free(memory), INVALID_VALUE)
    assert card.free(memory) == SUCCESS


def captures_twice(card):
    card.begin()
    assert card.of.cuStreamBeginCapture_v2(STREAM, THREAD_LOCAL) == ILLEGAL_STATE
    assert card.end()[0] == SUCCESS
    assert card.end()[0] == ILLEGAL_STATE


def captures_the_default_stream(card):
    assert card.of.cuStreamBeginCapture_v2(None, THREAD_LOCAL) == UNSUPPORTED


def uses_a_graphs_memory_before_it_ran(card):
    card.begin()
    memory = card.memory(128)
    assert card.fill(memory) == SUCCESS
    instance = card.captured()
    assert card.download(memory, 128)[0] == ILLEGAL


def uses_a_graphs_memory_that_it_has_freed(card):
    card.begin()
    memory = card.memory(128)
    assert card.fill(memory) == SUCCESS and card.free(memory) == SUCCESS
    instance = card.captured()
    assert card.replay(instance) == SUCCESS and card.replay(instance) == SUCCESS
    assert card.fill(memory) == ILLEGAL


def leaves_memory_of_a_graph(card):
    def left(flags):
        card.begin()
        memory = card.memory(128)
        assert card.fill(memory) == SUCCESS
        return memory, card.captured(flags)

    memory, instance = left(0)
    assert card.replay(instance) == SUCCESS
    assert card.download(memory, 128) == (SUCCESS, SEVENS)
    assert card.free(memory) == SUCCESS
    # CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH
    _, other = left(1)
    for _ in range(2):
        assert card.replay(other) == SUCCESS
    assert card.replay(instance) == SUCCESS
    assert card.replay(instance) == INVALID_VALUE


def replays_what_is_freed(card):
    source, place = card.upload(SEVENS), card.memory(128)
    card.begin()
    assert card.copy(place, source, 128) == SUCCESS
    instance = card.captured()
    assert card.replay(instance) == SUCCESS
    assert card.free(source) == SUCCESS
    assert card.replay(instance) == ILLEGAL


def replays_a_kernel_of_ours_on_what_is_freed(card):
    parameters = [b"\t.param .u64 row_norms_param_%d" % i for i in (0, 1)] + [b"\t.param .u32 row_norms_param_%d" % i for i in (2, 3)]
    result, function = card.function(OURS % b",\n".join(parameters), b"row_norms")
    places = [ctypes.c_uint64(card.memory(128)), ctypes.c_uint64(card.memory(32 * 60 * 4))]
    card.begin()
    assert card.launch(function, [*places, ctypes.c_uint32(32), ctypes.c_uint32(60)]) == SUCCESS
    instance = card.captured()
    assert card.replay(instance) == SUCCESS
    assert card.of.cuMemFreeAsync(places[1], STREAM) == SUCCESS
    assert card.replay(instance) == ILLEGAL


def replays_what_another_thread_wrote(card):
    place = card.memory(128)

    def use(memory):
        card.begin()
        assert card.copy(place, memory, 128) == SUCCESS
        return card.replay(card.captured())

    assert with_memory_of_another_thread(card, False, use) == ILLEGAL


def makes_two_of_a_graph_with_memory(card):
    card.begin()
    assert card.free(card.memory(128)) == SUCCESS
    result, graph = card.end()
    result, instance = card.instance(graph)
    assert result == SUCCESS
    assert card.instance(graph)[0] == NOT_ON_THIS_CARD
    # One after the other may be there.
    assert card.of.cuGraphExecDestroy(instance) == SUCCESS
    assert card.instance(graph)[0] == SUCCESS


def launches_what_is_destroyed(card):
    card.begin()
    instance = card.captured()
    assert card.of.cuGraphUpload(instance, STREAM) == SUCCESS
    assert card.of.cuGraphExecDestroy(instance) == SUCCESS
    assert card.replay(instance) == INVALID_VALUE
    assert card.of.cuGraphUpload(instance, STREAM) == INVALID_VALUE


FAULTS = [
    (right, None),
    (replays, None),
    (replays_products, None),
    (replays_products_of_lt, None),
    (waits_in_a_capture, "cuStreamSynchronize: it is waited for in a capture"),
    (waits_for_all_in_a_capture, "cuCtxSynchronize: all streams are waited for in a capture"),
    (waits_for_all_while_another_thread_captures, "cuCtxSynchronize: all streams are waited for in a capture"),
    (reads_back_in_a_capture, "cuMemcpyDtoHAsync: memory is read back in a capture"),
    (uploads_in_a_capture, "cuMemcpyHtoDAsync: the host's memory is read in a capture"),
    (asks_for_memory_at_once_in_a_capture, "cuMemAlloc: it may wait, in a capture"),
    (loads_in_a_capture, "cuModuleLoadData: it may wait, in a capture"),
    (goes_on_in_a_capture_that_failed, "cuStreamSynchronize: it is waited for in a capture"),
    (frees_memory_of_a_capture_that_failed, "in or beside a freed allocation of 128 bytes"),
    (frees_in_a_capture_what_is_older, "cuMemFreeAsync: memory that was asked for elsewhere is freed in a capture"),
    (captures_twice, "cuStreamBeginCapture: the stream is captured already"),
    (captures_the_default_stream, "cuStreamBeginCapture: the default stream can not be captured"),
    (uses_a_graphs_memory_before_it_ran, "128 bytes of a graph that has not asked for them, or has freed them"),
    (uses_a_graphs_memory_that_it_has_freed, "128 bytes of a graph that has not asked for them, or has freed them"),
    (leaves_memory_of_a_graph, "cuGraphLaunch: memory of its last launch has not been freed"),
    (replays_what_is_freed, "in or beside a freed allocation of 128 bytes"),
    (replays_a_kernel_of_ours_on_what_is_freed, "in or beside a freed allocation of 7680 bytes"),
    (replays_what_another_thread_wrote, "another thread writes 128 bytes that this one uses"),
    (makes_two_of_a_graph_with_memory, "a graph with memory of its own has one instance already"),
    (launches_what_is_destroyed, "expected a graph that was instantiated"),
    (writes_behind, "beside all arrays"),
    (writes_after_free, "beside all arrays"),
    (frees_twice, "in or beside a freed allocation of 128 bytes"),
    (reads_the_host, "which is no memory of the card"),
    (reads_too_much, "132 bytes from 0 on of an allocation of 128"),
    (is_empty, "an empty grid"),
    (has_no_threads, "an empty block"),
    (has_too_many_blocks, "a grid that no card takes"),
    (has_shared_memory_of_its_own, "48129 bytes of shared memory beside 1024, expected at most 48128"),
    (converts_as_ptx_says, None),
    (has_an_operand_that_is_not_known, "fill: unknown operand %laneid"),
    (has_too_many_threads, "a block of 129 threads, expected at most 128"),
    (has_not_asked_for_shared_memory, "49153 bytes of shared memory beside 0, expected at most 49152"),
    (has_no_such_kernel, "no entry fil in the module"),
    (has_another_signature, "its PTX has 1 parameters, the source"),
    (writes_behind_in_a_kernel_of_ours, "wrote beside an allocation of 124 bytes"),
    (reads_behind_in_a_kernel_of_ours, "beside an allocation of 7680 bytes"),
    (waits_for_another_thread, None),
    (reads_what_another_thread_queued, "another thread writes 128 bytes that this one uses"),
    (frees_what_another_thread_queued, "another thread writes 128 bytes that this one uses"),
    (frees_what_another_thread_reads, "another thread reads 128 bytes that this one uses"),
    (writes_what_another_thread_reads, "fill: another thread reads 128 bytes that this one uses"),
    (waits_for_all_threads, None),
    (multiplies_on_no_stream_of_its_own, "cublasGemmStridedBatchedEx: expected a handle with the stream of the calling thread"),
    (multiplies_into_a_factor, "cublasGemmStridedBatchedEx: the result lies on a factor"),
    (adds_no_bias_that_nobody_gave, "a bias is to be added, and no pointer to it is set"),
    (adds_a_bias_of_the_host, "cublasLtMatmul, bias: expected memory of the card"),
    (adds_a_bias_that_is_too_short, "cublasLtMatmul, bias: 20 bytes from 0 on of an allocation of 16"),
    (adds_a_bias_from_an_odd_place, "cublasLtMatmul, bias: expected a multiple of 16"),
    (multiplies_what_begins_elsewhere, "cublasLtMatmul, A: expected a multiple of 256"),
    (has_no_room, "cublasLtMatmul: a workspace of 179 bytes, expected 180"),
    (has_less_room_than_it_says, "cublasLtMatmul, workspace: 180 bytes from 0 on of an allocation of 164"),
    (multiplies_as_another_product, "cublasLtMatmul: the algorithm is for another product"),
    (multiplies_by_lt_into_a_factor, "cublasLtMatmul: the result lies on a factor or on the bias"),
    (multiplies_by_lt_on_no_stream_of_its_own, "cublasLtMatmul: expected the stream of the calling thread"),
    (multiplies_what_does_not_fit, "sides 5 x 40, 39 x 3 and 5 x 3 don't fit together"),
    (multiplies_other_types, "types 1, 1 and 1 with compute type 68 are not played"),
    (multiplies_by_no_handle, "cublasLtMatmulAlgoGetHeuristic: expected a handle that was made"),
    (multiplies_once_it_is_gone, "cublasLtMatmulDescDestroy: expected what was made and not destroyed"),
    (is_told_less_than_a_number, "cublasLtMatmulDescSetAttribute: 4 bytes, expected 8"),
    (may_add_in_any_order, None),
    (has_no_context, "no context is current"),
]


def said_by(fault):
    """What the driver says of a fault, done by a process of its own."""
    with tempfile.TemporaryFile() as said:
        child = os.fork()
        if child == 0:
            try:
                os.dup2(said.fileno(), 2)
                # One of them ends by a signal.
                resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
                fault(Card())
                sys.stderr.flush()
                os._exit(0)
            except BaseException as error:
                print(f"{fault.__name__}: {error!r}, line {error.__traceback__.tb_next.tb_lineno}", flush=True)
                os._exit(1)
        status = os.waitpid(child, 0)[1]
        said.seek(0)
        return status, said.read().decode()


SIZES = {F32: (4, ctypes.c_float), F64: (8, ctypes.c_double), BF16: (2, ctypes.c_uint16)}


def bits(kind, number):
    return ctypes.c_uint32.from_buffer(ctypes.c_float(number)).value >> 16 if kind == BF16 else number


def multiplied(card, blas, handle, kinds, compute, turned, sides, gaps, how):
    """A product by the played cuBLAS next to one here, of numbers that are exact in each type."""
    m, n, k = sides
    # Where each has the same first factor its stride is 0.
    counts = {"one": (1, 1, 1), "batch": (2, 2, 2), "same factor": (1, 3, 3)}[how]
    batches = counts[2]

    def matrix(rows, columns, gap, count):
        leading = rows + gap
        return leading, [[[random.randint(-8, 8) for _ in range(leading)] for _ in range(columns)] for _ in range(count)]

    def up(kind, stored):
        flat = [bits(kind, number) for one in stored for column in one for number in column]
        return ctypes.c_uint64(card.upload(bytes((SIZES[kind][1] * len(flat))(*flat))))

    shapes = [(k, m) if turned[0] else (m, k), (n, k) if turned[1] else (k, n), (m, n)]
    (lda, a), (ldb, b), (ldc, c) = [matrix(*shape, gap, count) for shape, gap, count in zip(shapes, gaps, counts)]
    between = ldc * n
    strides = [0 if how == "same factor" else lda * shapes[0][1], ldb * shapes[1][1], between]
    number = ctypes.c_double if compute == EXACT_64 else ctypes.c_float
    two, three = number(2), number(3)
    factor, result = kinds
    places = [up(kind, stored) for kind, stored in zip((factor, factor, result), (a, b, c))]
    each = [[place, kind, leading] for place, kind, leading in zip(places, (factor, factor, result), (lda, ldb, ldc))]
    each = [[*matrix, ctypes.c_longlong(stride)] for matrix, stride in zip(each, strides)]
    factors = [ctypes.byref(two), *each[0], *each[1]]
    status = blas.cublasGemmStridedBatchedEx(
        handle, *turned, m, n, k, *factors, ctypes.byref(three), *each[2], batches, compute, -1
    )
    assert status == 0, status
    size, of = SIZES[result]
    count = batches * between
    found = (of * count).from_buffer_copy(card.download(places[2].value, count * size)[1])
    for batch in range(batches):
        first = a[batch % counts[0]]
        for column in range(n):
            for row in range(m):
                left = [first[row][i] if turned[0] else first[i][row] for i in range(k)]
                right = [b[batch][i][column] if turned[1] else b[batch][column][i] for i in range(k)]
                expected = 2 * sum(x * y for x, y in zip(left, right)) + 3 * c[batch][column][row]
                got = found[batch * between + column * ldc + row]
                if result == BF16:
                    got = ctypes.c_float.from_buffer(ctypes.c_uint32(got << 16)).value
                    assert abs(got - expected) <= abs(expected) / 256, (got, expected)
                else:
                    assert got == expected, (got, expected)
    # What lies between the columns stays.
    for batch in range(batches):
        for column in range(n):
            for row in range(m, ldc):
                assert found[batch * between + column * ldc + row] == bits(result, c[batch][column][row])


def products():
    card, blas, handle = Card(), ctypes.CDLL("libcublas.so.13"), ctypes.c_void_p()
    assert blas.cublasCreate_v2(ctypes.byref(handle)) == 0
    assert blas.cublasSetStream_v2(handle, STREAM) == 0
    count = 0
    for kinds, compute in [((F32, F32), EXACT), ((F32, F32), TF32), ((F64, F64), EXACT_64), ((BF16, BF16), EXACT), ((BF16, F32), EXACT)]:
        for turned in [(N, N), (T, N), (N, T), (T, T)]:
            for sides in [(1, 1, 1), (3, 5, 4), (7, 2, 9), (513, 6, 3)]:
                for gaps in [(0, 0, 0), (2, 1, 3)]:
                    for how in ["one", "batch", "same factor"]:
                        multiplied(card, blas, handle, kinds, compute, turned, sides, gaps, how)
                        count += 1
    return count


def multiplied_by_lt(lt, kind, compute, turned, sides, gaps, has_bias):
    """A product by the played cuBLASLt, with a bias or without, next to one here, of numbers that are exact in each type."""
    card, (m, n, k) = lt.card, sides
    shapes = [(k, m) if turned[0] else (m, k), (n, k) if turned[1] else (k, n), (m, n)]
    leading = [rows + gap for (rows, _), gap in zip(shapes, gaps)]
    kinds = kind, kind, F32
    a, b, d = [[[random.randint(-8, 8) for _ in range(length)] for _ in range(columns)] for (_, columns), length in zip(shapes, leading)]
    added = [random.randint(-8, 8) for _ in range(m)]

    def up(kind, numbers):
        return card.upload(bytes((SIZES[kind][1] * len(numbers))(*[bits(kind, number) for number in numbers])))

    places = [up(kind, sum(stored, [])) for kind, stored in zip(kinds, (a, b, d))]
    operation = lt.operation(compute, turned, up(F32, added) if has_bias else None)
    layouts = [lt.layout(kind, *shape, length) for kind, shape, length in zip(kinds, shapes, leading)]
    status, chosen = lt.choose(operation, layouts, lt.preference(aligned=(16, 16, 16)))
    assert status == SUCCESS and (chosen.workspace > 0) == (k >= 32), (status, chosen.workspace)
    assert lt.multiply(operation, layouts, places, chosen, by=(2, 3)) == SUCCESS
    count = leading[2] * n
    found = (ctypes.c_float * count).from_buffer_copy(card.download(places[2], 4 * count)[1])
    for column in range(n):
        for row in range(leading[2]):
            expected = d[column][row]
            # What lies between the columns stays.
            if row < m:
                left = [a[row][i] if turned[0] else a[i][row] for i in range(k)]
                right = [b[i][column] if turned[1] else b[column][i] for i in range(k)]
                expected = 2 * sum(x * y for x, y in zip(left, right)) + 3 * expected + (added[row] if has_bias else 0)
            assert found[column * leading[2] + row] == expected, (found[column * leading[2] + row], expected)


def products_of_lt():
    lt, count = Lt(Card()), 0
    for kind, compute in [(F32, EXACT), (F32, TF32), (BF16, EXACT)]:
        for turned in [(N, N), (T, N), (N, T), (T, T)]:
            for sides in [(1, 1, 1), (3, 5, 4), (7, 2, 39), (513, 6, 3)]:
                for gaps in [(0, 0, 0), (2, 1, 3)]:
                    for has_bias in [False, True]:
                        multiplied_by_lt(lt, kind, compute, turned, sides, gaps, has_bias)
                        count += 1
    return count



def main():
    failed = 0
    for fault, expected in FAULTS:
        status, said = said_by(fault)
        is_told = expected in said if expected else said == ""
        ends = signal.SIGSEGV if fault is reads_behind_in_a_kernel_of_ours else 0
        if status & 127 != ends or status >> 8 != 0 or not is_told:
            print(f"{fault.__name__}: expected to be told {expected!r}, found status {status} and:\n{said}")
            failed += 1
    print(f"{len(FAULTS)} faults, {products()} products, {products_of_lt()} of cuBLASLt: {failed} failed")
    sys.exit(failed != 0)


main()
