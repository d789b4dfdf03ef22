// Plays CUDA kernels without a card: what of CUDA C++ the kernels of src/cuda/kernels use, on one thread of
// the host.
//
// Each thread of a block is a fiber with a stack of its own. It runs until it comes to a barrier, a shuffle
// or its end; then the next one does, in the order that was asked. What is missing a barrier so gives another
// result in another order. A barrier that not all threads reach is an error.
#pragma once

// Its longjmp takes a jump to another stack for a fault.
#undef _FORTIFY_SOURCE

#include <math.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <functional>
#include <memory>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#define SKN_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SKN_SANITIZED 1
#endif
#endif
#ifndef SKN_SANITIZED
#define SKN_SANITIZED 0
#endif
#if SKN_SANITIZED
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#define SKN_HOST
#define SKN_UNROLL
#define SKN_UNROLL_BY(count)
#define SKN_DYNAMIC_SHARED(type, name) type *name = static_cast<type *>(player::shared_memory())

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
// One block is played at a time.
#define __shared__ static

struct dim3 {
    unsigned x, y, z;
};

struct alignas(16) float4 {
    float x, y, z, w;
};

inline dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace player
{

constexpr unsigned WARP = 32;
constexpr unsigned MOST_THREADS = 1024;
// What a block of the cards in use can have: 227 KB.
constexpr unsigned MOST_SHARED = 232448;
// What a kernel has of it without asking for more.
constexpr unsigned SHARED_WITHOUT_ASKING = 48 * 1024;
constexpr size_t STACK = 256 * 1024;
// Bytes behind an array that must stay as they are, where no sanitizer looks. As numbers they are NaN.
constexpr size_t GUARD = 64;
constexpr unsigned char UNWRITTEN = 0xff;

// Where a fiber waits.
enum class At { NOWHERE, END, BARRIER, BARRIER_OR, WARP_BARRIER, SHUFFLE };

inline const char *name_of(At at)
{
    switch (at) {
    case At::END:
        return "its end";
    case At::BARRIER:
        return "__syncthreads";
    case At::BARRIER_OR:
        return "__syncthreads_or";
    case At::WARP_BARRIER:
        return "__syncwarp";
    case At::SHUFFLE:
        return "a shuffle";
    default:
        return "nothing";
    }
}

// What ends a thread that is no fiber.
struct Refused {};

// An order of 0 .. count.
class Order
{
  public:
    Order(unsigned kind, uint64_t count, uint64_t key) : kind(kind), count(count)
    {
        if (kind != 2 || count < 3)
            return;
        // Multiplying by what has no divisor in common with the count goes through all of them.
        key = mixed(key);
        step = 1 + key % (count - 1);
        while (divisor(step, count) != 1)
            step = step % (count - 1) + 1;
        from = mixed(key) % count;
    }

    uint64_t at(uint64_t index) const
    {
        switch (kind) {
        case 0:
            return index;
        case 1:
            return count - 1 - index;
        default:
            return count < 3 ? count - 1 - index : (from + index * step) % count;
        }
    }

  private:
    unsigned kind;
    uint64_t count, step = 1, from = 0;

    // splitmix64 (Steele et al., 2014).
    static uint64_t mixed(uint64_t key)
    {
        key += 0x9e3779b97f4a7c15;
        key = (key ^ (key >> 30)) * 0xbf58476d1ce4e5b9;
        key = (key ^ (key >> 27)) * 0x94d049bb133111eb;
        return key ^ (key >> 31);
    }

    static uint64_t divisor(uint64_t a, uint64_t b)
    {
        while (b != 0) {
            const uint64_t rest = a % b;
            a = b;
            b = rest;
        }
        return a;
    }
};

// A stack that can be left and come back to.
struct Stack {
    ucontext_t context;
    void *left[5];
    bool was_left = false;
    void *bottom = nullptr;
    size_t size = 0;
};

// Leaves `own` for another stack; returns when somebody comes back. The caller's registers are those of this
// call, so it has to be one.
__attribute__((noinline)) inline void go(Stack &own, Stack &other)
{
#if SKN_SANITIZED
    void *fake = nullptr;
    __sanitizer_start_switch_fiber(&fake, other.bottom, other.size);
    swapcontext(&own.context, &other.context);
    __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#else
    // swapcontext asks the system for the mask of signals each time, which takes most of its time. So it is
    // the first time only. The library's longjmp looks for what has to be cleaned up on the way, of which
    // there is nothing.
    if (__builtin_setjmp(own.left) != 0)
        return;
    own.was_left = true;
    if (other.was_left)
        __builtin_longjmp(other.left, 1);
    setcontext(&other.context);
#endif
}

struct Fiber {
    Stack stack;
    At at = At::END;
    // Of a thread that comes to a shuffle or to __syncthreads_or: what it brings.
    uint64_t brought = 0;

    ~Fiber()
    {
        if (stack.bottom != nullptr)
            munmap(stack.bottom, stack.size);
    }
};

struct Launch {
    dim3 grid;
    unsigned threads, shared, order;
    // Bytes of `fixed_memory` that a kernel uses which is played as PTX.
    unsigned fixed;
    // Whether the kernel has barriers or shuffles. Without them threads need not be fibers.
    bool waits;
    std::function<void()> body;
};

struct State {
    const Launch *launch = nullptr;
    std::vector<std::unique_ptr<Fiber>> fibers;
    Stack own;
    unsigned thread = 0;
    // What the threads of each warp brought to the last shuffle.
    uint64_t brought[MOST_THREADS / WARP][WARP] = {};
    bool any = false;
    std::string error;
    unsigned char *shared = nullptr;
};

inline State state;
// Shared memory of a fixed size, which a kernel that is played as PTX has instead of the launch's.
alignas(16) inline unsigned char fixed_memory[SHARED_WITHOUT_ASKING];

inline void *shared_memory()
{
    return state.shared;
}

inline std::string said(unsigned thread)
{
    const dim3 &block = blockIdx;
    return "thread " + std::to_string(thread) + " of block (" + std::to_string(block.x) + ", " +
           std::to_string(block.y) + ", " + std::to_string(block.z) + ")";
}

inline void refuse(const std::string &error)
{
    if (state.error.empty())
        state.error = said(state.thread) + " " + error;
    if (!state.launch->waits)
        throw Refused();
    // Nobody comes back.
    go(state.fibers[state.thread]->stack, state.own);
}

inline void wait(At at)
{
    if (!state.launch->waits)
        refuse(std::string("came to ") + name_of(at) + ", but its kernel stands in the table as one without");
    Fiber &fiber = *state.fibers[state.thread];
    fiber.at = at;
    go(fiber.stack, state.own);
}

// Brings a value to the other lanes of the warp. Behind it state.brought has those of all.
inline void bring(At at, unsigned lanes, uint64_t value)
{
    if (lanes != 0xffffffffu)
        refuse(std::string("came to ") + name_of(at) + " of some lanes, which is not played");
    if (state.launch->waits)
        state.fibers[state.thread]->brought = value;
    wait(at);
}

template <class T> T shuffled(unsigned lanes, T value, unsigned from)
{
    static_assert(std::is_arithmetic<T>::value && sizeof(T) <= 8, "a number");
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof(T));
    bring(At::SHUFFLE, lanes, bits);
    if (from < WARP)
        memcpy(&value, &state.brought[state.thread / WARP][from], sizeof(T));
    return value;
}

inline void fiber_main()
{
#if SKN_SANITIZED
    const void *bottom;
    size_t size;
    __sanitizer_finish_switch_fiber(nullptr, &bottom, &size);
    state.own.bottom = const_cast<void *>(bottom);
    state.own.size = size;
#endif
    for (;;) {
        state.launch->body();
        Fiber &fiber = *state.fibers[state.thread];
        fiber.at = At::END;
        go(fiber.stack, state.own);
    }
}

// Makes a fiber that begins at its beginning.
inline void make(Fiber &fiber)
{
    if (fiber.stack.bottom == nullptr) {
        fiber.stack.size = STACK;
        void *stack = mmap(nullptr, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        // A kernel that needs more ends the program here, not beside its stack.
        if (stack == MAP_FAILED || mprotect(stack, 4096, PROT_NONE) != 0) {
            perror("stack of a fiber");
            exit(1);
        }
        fiber.stack.bottom = stack;
    }
#if SKN_SANITIZED
    __asan_unpoison_memory_region(static_cast<char *>(fiber.stack.bottom) + 4096, STACK - 4096);
#endif
    getcontext(&fiber.stack.context);
    fiber.stack.context.uc_stack.ss_sp = fiber.stack.bottom;
    fiber.stack.context.uc_stack.ss_size = fiber.stack.size;
    fiber.stack.context.uc_link = nullptr;
    fiber.stack.was_left = false;
    makecontext(&fiber.stack.context, fiber_main, 0);
}

inline void run(unsigned thread)
{
    state.thread = thread;
    threadIdx = {thread, 0, 0};
    Fiber &fiber = *state.fibers[thread];
    fiber.at = At::NOWHERE;
    go(state.own, fiber.stack);
}

inline bool is_of_warp(At at)
{
    return at == At::WARP_BARRIER || at == At::SHUFFLE;
}

// Says of two threads that they wait for each other in vain.
inline void stuck(unsigned one, unsigned other)
{
    state.error = "a barrier that not all threads reach: " + said(one) + " came to " +
                  name_of(state.fibers[one]->at) + ", thread " + std::to_string(other) + " to " +
                  name_of(state.fibers[other]->at);
}

// Runs the threads of a warp until they are at a barrier of the block or at their end.
inline void run_warp(unsigned first, unsigned count, uint64_t key)
{
    for (uint64_t phase = 0; state.error.empty(); phase++) {
        const Order order(state.launch->order, count, key * 1000003 + phase);
        for (unsigned i = 0; i < count && state.error.empty(); i++)
            run(first + unsigned(order.at(i)));
        if (!state.error.empty())
            return;
        // All of them wait now.
        const At at = state.fibers[first]->at;
        for (unsigned lane = 1; lane < count; lane++)
            if (const At other = state.fibers[first + lane]->at;
                other != at && (is_of_warp(at) || is_of_warp(other)))
                return stuck(first, first + lane);
        if (!is_of_warp(at))
            return;
        if (count < WARP && at != At::WARP_BARRIER) {
            state.error = said(first) + " came to " + name_of(at) + " in a warp of " + std::to_string(count) +
                          " threads";
            return;
        }
        for (unsigned lane = 0; lane < count; lane++)
            state.brought[first / WARP][lane] = state.fibers[first + lane]->brought;
    }
}

inline void run_block_of_fibers(uint64_t block)
{
    const unsigned threads = state.launch->threads, warps = (threads + WARP - 1) / WARP;
    for (uint64_t phase = 0; state.error.empty(); phase++) {
        const Order order(state.launch->order, warps, block * 999979 + phase);
        for (unsigned i = 0; i < warps && state.error.empty(); i++) {
            const unsigned first = unsigned(order.at(i)) * WARP;
            run_warp(first, threads - first < WARP ? threads - first : WARP, block * 31 + phase * 7 + i);
        }
        if (!state.error.empty())
            return;
        const At at = state.fibers[0]->at;
        state.any = false;
        for (unsigned thread = 0; thread < threads; thread++) {
            if (state.fibers[thread]->at != at)
                return stuck(0, thread);
            state.any = state.any || state.fibers[thread]->brought != 0;
        }
        if (at == At::END)
            return;
    }
}

inline void run_block_of_calls(uint64_t block)
{
    const Order order(state.launch->order, state.launch->threads, block);
    try {
        for (unsigned i = 0; i < state.launch->threads; i++) {
            state.thread = unsigned(order.at(i));
            threadIdx = {state.thread, 0, 0};
            state.launch->body();
        }
    } catch (const Refused &) {
    }
}

// Memory of just so many bytes, so that a sanitizer sees what is beside them. Where none is there are guards
// behind them.
class Memory
{
  public:
    // `beside` is how many bytes they begin behind a multiple of 16.
    Memory(size_t bytes, size_t beside) : bytes(bytes), beside(beside)
    {
        const size_t guard = SKN_SANITIZED ? 0 : GUARD;
        whole = static_cast<unsigned char *>(malloc(beside + bytes + guard));
        if (whole == nullptr) {
            perror("memory of a kernel");
            exit(1);
        }
        memset(whole, UNWRITTEN, beside + bytes + guard);
#if SKN_SANITIZED
        __asan_poison_memory_region(whole, beside);
#endif
    }

    Memory(const Memory &) = delete;
    Memory &operator=(const Memory &) = delete;

    ~Memory()
    {
#if SKN_SANITIZED
        __asan_unpoison_memory_region(whole, beside);
#endif
        free(whole);
    }

    unsigned char *data() const
    {
        return whole + beside;
    }

    size_t size() const
    {
        return bytes;
    }

    bool is_whole() const
    {
        for (size_t i = 0; !SKN_SANITIZED && i < GUARD; i++)
            if (data()[bytes + i] != UNWRITTEN)
                return false;
        for (size_t i = 0; !SKN_SANITIZED && i < beside; i++)
            if (whole[i] != UNWRITTEN)
                return false;
        return true;
    }

  private:
    size_t bytes, beside;
    unsigned char *whole;
};

// Plays a launch. What is wrong with it, or nothing.
inline std::string play(const Launch &launch)
{
    const dim3 &grid = launch.grid;
    if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.x > 0x7fffffff || grid.y > 65535 || grid.z > 65535)
        return "a grid that no card takes";
    if (launch.threads == 0 || launch.threads > MOST_THREADS)
        return "a block of " + std::to_string(launch.threads) + " threads, expected 1 to " +
               std::to_string(MOST_THREADS);
    if (launch.shared > MOST_SHARED)
        return std::to_string(launch.shared) + " bytes of shared memory, expected at most " +
               std::to_string(MOST_SHARED);
    if (launch.fixed > sizeof(fixed_memory))
        return std::to_string(launch.fixed) + " bytes of shared memory of a fixed size, expected at most " +
               std::to_string(sizeof(fixed_memory));
    if (launch.order > 2)
        return "order " + std::to_string(launch.order) + ", expected 0, 1 or 2";
    state.launch = &launch;
    state.error.clear();
    gridDim = grid;
    blockDim = {launch.threads, 1, 1};
    while (launch.waits && state.fibers.size() < launch.threads) {
        state.fibers.push_back(std::make_unique<Fiber>());
        make(*state.fibers.back());
    }
    const Memory shared(launch.shared, 0);
    state.shared = shared.data();
    const uint64_t blocks = uint64_t(grid.x) * grid.y * grid.z;
    const Order order(launch.order, blocks, 1);
    for (uint64_t i = 0; i < blocks && state.error.empty(); i++) {
        const uint64_t block = order.at(i);
        blockIdx = {unsigned(block % grid.x), unsigned(block / grid.x % grid.y),
                    unsigned(block / grid.x / grid.y)};
        // A block finds nothing of the one before.
        memset(shared.data(), UNWRITTEN, shared.size());
        memset(fixed_memory, UNWRITTEN, launch.fixed);
        if (launch.waits)
            run_block_of_fibers(block);
        else
            run_block_of_calls(block);
        if (state.error.empty() && !shared.is_whole())
            state.error = said(0) + " or another one wrote behind the shared memory";
    }
    // Threads that did not come to their end must begin anew.
    for (auto &fiber : state.fibers)
        if (launch.waits && !state.error.empty())
            make(*fiber);
    return state.error;
}

} // namespace player

inline void __syncthreads()
{
    if (player::state.launch->waits)
        player::state.fibers[player::state.thread]->brought = 0;
    player::wait(player::At::BARRIER);
}

inline int __syncthreads_or(int any)
{
    if (player::state.launch->waits)
        player::state.fibers[player::state.thread]->brought = any != 0;
    player::wait(player::At::BARRIER_OR);
    return player::state.any;
}

inline void __syncwarp(unsigned lanes = 0xffffffffu)
{
    player::bring(player::At::WARP_BARRIER, lanes, 0);
}

template <class T> T __shfl_sync(unsigned lanes, T value, int from)
{
    return player::shuffled(lanes, value, unsigned(from) % player::WARP);
}

template <class T> T __shfl_xor_sync(unsigned lanes, T value, int distance)
{
    return player::shuffled(lanes, value, threadIdx.x % player::WARP ^ unsigned(distance));
}

template <class T> T __shfl_down_sync(unsigned lanes, T value, unsigned distance)
{
    return player::shuffled(lanes, value, threadIdx.x % player::WARP + distance);
}

// One thread runs at a time, so that everything is atomic.
template <class T> T atomicMin(T *to, T value)
{
    const T before = *to;
    *to = value < before ? value : before;
    return before;
}

template <class T> T atomicMax(T *to, T value)
{
    const T before = *to;
    *to = value > before ? value : before;
    return before;
}

template <class T> T atomicAdd(T *to, T value)
{
    const T before = *to;
    *to = before + value;
    return before;
}

// Who compiles this knows that the processor has the instruction. The library's function looks for it at each
// call; a compiler that may use it would use its others too, some of which read what does not lie as it should.
#ifdef SKN_FMA
inline float fused(float a, float b, float c)
{
    asm("vfmadd213ss %2, %1, %0" : "+x"(a) : "x"(b), "x"(c));
    return a;
}
#define fmaf fused
#endif

inline unsigned min(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

inline float4 make_float4(float x, float y, float z, float w)
{
    return {x, y, z, w};
}

template <class To, class From> inline To same_bits(From value)
{
    static_assert(sizeof(To) == sizeof(From), "as many bits");
    To to;
    memcpy(&to, &value, sizeof(To));
    return to;
}

inline float __int_as_float(int bits)
{
    return same_bits<float>(bits);
}

inline unsigned __float_as_uint(float value)
{
    return same_bits<unsigned>(value);
}

// To the nearest integer, halves to the even one.
inline long long __double2ll_rn(double value)
{
    return llrint(value);
}
