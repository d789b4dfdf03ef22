// Plays launches of the kernels in src/cuda/kernels, without a card: see host.h.
//
// Built by: c++ -std=c++17 -O2 -ffp-contract=off -Wall -Wextra -o player player.cpp. What is fused into one
// rounding is written as fmaf in the kernels, and nothing else may be.
//
// Reads launches, answers each, and ends where the input does. Everything is little-endian.
// A launch: u32 length of the name, the name; u32 grid x, y, z; u32 threads of a block; u32 bytes of shared
// memory; u32 order; u32 number of arguments; then each argument, a u8 and what belongs to it:
//   0 null pointer
//   1 array to read: u64 bytes, these
//   2 array to write: u64 bytes; full of 0xff first, so that places that are not written are NaN
//   3 array to read and write: u64 bytes, these
//   4 u32
//   5 u64
//   6 f32
// Order 0: threads ascending, between barriers; 1: descending; 2: mixed. Blocks likewise. 256 more: arrays
// begin 8 bytes behind a multiple of 16.
//
// An answer: u8 0 and the bytes of the arrays 2 and 3 in order; or u8 1, u32 length of a message, the
// message.

#include "kernels.h"

namespace
{

// Kernels that show what the player sees.

// Each thread reads what its neighbour wrote, with a barrier between or without.
extern "C" void player_neighbours(u32 *out, u32 with_barrier)
{
    SKN_DYNAMIC_SHARED(u32, numbers);
    numbers[threadIdx.x] = threadIdx.x;
    if (with_barrier)
        __syncthreads();
    out[threadIdx.x] = numbers[(threadIdx.x + 1) % blockDim.x];
}

// Only some threads come to the barrier.
extern "C" void player_lone_barrier(u32 *out, u32 threads)
{
    if (threadIdx.x < threads)
        __syncthreads();
    out[threadIdx.x] = threadIdx.x;
}

// Only some lanes come to the shuffle.
extern "C" void player_lone_shuffle(u32 *out, u32 threads)
{
    u32 value = threadIdx.x;
    if (threadIdx.x < threads)
        value = __shfl_xor_sync(ALL_LANES, value, 1);
    out[threadIdx.x] = value;
}

// Stands in the table as one without barriers.
extern "C" void player_hidden_barrier(u32 *out)
{
    __syncthreads();
    out[threadIdx.x] = threadIdx.x;
}

// Writes behind its array.
extern "C" void player_overrun(u32 *out, u32 length)
{
    out[length + threadIdx.x] = 0;
}

enum class Tag : uint8_t { NOTHING, READ, WRITE, READ_WRITE, U32, U64, F32 };

struct Argument {
    Tag tag;
    std::unique_ptr<player::Memory> memory;
    uint64_t number;
};

const char *name_of(Tag tag)
{
    const char *const names[] = {"a null pointer",
                                 "an array to read",
                                 "an array to write",
                                 "an array to read and write",
                                 "a u32",
                                 "a u64",
                                 "an f32"};
    return names[size_t(tag)];
}

// How an argument becomes a kernel's parameter.
template <class T> struct Parameter;

template <class T> struct Parameter<const T *> {
    static constexpr const char *name = "an array to read or a null pointer";

    static bool takes(const Argument &argument)
    {
        return argument.tag == Tag::NOTHING ||
               (argument.tag == Tag::READ && argument.memory->size() % sizeof(T) == 0);
    }

    static const T *of(const Argument &argument)
    {
        return argument.tag == Tag::NOTHING ? nullptr : reinterpret_cast<const T *>(argument.memory->data());
    }
};

template <class T> struct Parameter<T *> {
    static constexpr const char *name = "an array to write or a null pointer";

    static bool takes(const Argument &argument)
    {
        const bool is_array = argument.tag == Tag::WRITE || argument.tag == Tag::READ_WRITE;
        return argument.tag == Tag::NOTHING || (is_array && argument.memory->size() % sizeof(T) == 0);
    }

    static T *of(const Argument &argument)
    {
        return argument.tag == Tag::NOTHING ? nullptr : reinterpret_cast<T *>(argument.memory->data());
    }
};

template <> struct Parameter<u32> {
    static constexpr const char *name = "a u32";

    static bool takes(const Argument &argument)
    {
        return argument.tag == Tag::U32;
    }

    static u32 of(const Argument &argument)
    {
        return u32(argument.number);
    }
};

template <> struct Parameter<u64> {
    static constexpr const char *name = "a u64";

    static bool takes(const Argument &argument)
    {
        return argument.tag == Tag::U64;
    }

    static u64 of(const Argument &argument)
    {
        return argument.number;
    }
};

template <> struct Parameter<float> {
    static constexpr const char *name = "an f32";

    static bool takes(const Argument &argument)
    {
        return argument.tag == Tag::F32;
    }

    static float of(const Argument &argument)
    {
        return same_bits<float>(uint32_t(argument.number));
    }
};

using Arguments = std::vector<Argument>;

// A kernel with a check of its arguments, and its call.
struct Kernel {
    const char *name;
    bool waits;
    std::function<std::string(const Arguments &)> wrong;
    std::function<std::function<void()>(const Arguments &)> call;
};

template <class... T, size_t... I> std::string wrong_of(const Arguments &arguments, std::index_sequence<I...>)
{
    if (arguments.size() != sizeof...(T))
        return "expected " + std::to_string(sizeof...(T)) + " arguments, found " +
               std::to_string(arguments.size());
    std::string wrong;
    const auto check = [&](size_t i, bool takes, const char *expected) {
        if (!takes && wrong.empty()) {
            wrong = "argument " + std::to_string(i) + ": expected " + expected + ", found " +
                    name_of(arguments[i].tag);
            if (arguments[i].memory)
                wrong += " of " + std::to_string(arguments[i].memory->size()) + " bytes";
        }
    };
    (check(I, Parameter<T>::takes(arguments[I]), Parameter<T>::name), ...);
    return wrong;
}

#ifdef SKN_PTX
// A parameter as PTX has it.
template <class T> uint64_t bits_of(T parameter)
{
    if constexpr (std::is_pointer<T>::value)
        return reinterpret_cast<uint64_t>(parameter);
    else if constexpr (std::is_same<T, float>::value)
        return same_bits<uint32_t>(parameter);
    else
        return parameter;
}
#endif

template <class... T, size_t... I>
std::function<void()> call_of(const char *name, void (*kernel)(T...), const Arguments &arguments,
                              std::index_sequence<I...>)
{
#ifdef SKN_PTX
    const auto played = ptx::KERNELS.find(name);
    if (played != ptx::KERNELS.end()) {
        ptx::arrays.clear();
        for (const Argument &argument : arguments)
            if (argument.memory) {
                const uint64_t from = bits_of(argument.memory->data());
                const bool read = argument.tag == Tag::READ;
                ptx::arrays.push_back({from, from + argument.memory->size(), read, !read});
            }
        const std::vector<uint64_t> parameters = {bits_of(Parameter<T>::of(arguments[I]))...};
        return [run = played->second, parameters] { run(parameters.data()); };
    }
#endif
    (void)name;
    return
        [kernel, taken = std::tuple<T...>(Parameter<T>::of(arguments[I])...)] { std::apply(kernel, taken); };
}

template <class... T> Kernel kernel_of(const char *name, bool waits, void (*kernel)(T...))
{
    using Places = std::index_sequence_for<T...>;
    return {
        name, waits, [](const Arguments &arguments) { return wrong_of<T...>(arguments, Places()); },
        [name, kernel](const Arguments &arguments) { return call_of(name, kernel, arguments, Places()); }};
}

std::vector<Kernel> all_kernels()
{
    std::vector<Kernel> kernels;
    const auto add = [&](const char *name, bool waits, auto *kernel) {
        kernels.push_back(kernel_of(name, waits, kernel));
    };
    each_kernel(add);
    add("player_neighbours", true, player_neighbours);
    add("player_lone_barrier", true, player_lone_barrier);
    add("player_lone_shuffle", true, player_lone_shuffle);
    add("player_hidden_barrier", false, player_hidden_barrier);
    add("player_overrun", false, player_overrun);
    return kernels;
}

const std::vector<Kernel> KERNELS = all_kernels();

[[noreturn]] void fail(const char *what)
{
    fprintf(stderr, "player: %s\n", what);
    exit(1);
}

void read_bytes(void *to, size_t bytes)
{
    if (bytes > 0 && fread(to, 1, bytes, stdin) != bytes)
        fail("the input ends within a launch");
}

template <class T> T read_number()
{
    T number;
    read_bytes(&number, sizeof(T));
    return number;
}

void write_bytes(const void *from, size_t bytes)
{
    if (bytes > 0 && fwrite(from, 1, bytes, stdout) != bytes)
        fail("an answer can not be written");
}

Argument read_argument(size_t beside)
{
    const uint8_t tag = read_number<uint8_t>();
    if (tag > uint8_t(Tag::F32))
        fail("an argument has a tag that is none");
    Argument argument = {Tag(tag), nullptr, 0};
    switch (argument.tag) {
    case Tag::NOTHING:
        break;
    case Tag::READ:
    case Tag::WRITE:
    case Tag::READ_WRITE: {
        const uint64_t bytes = read_number<uint64_t>();
        argument.memory = std::make_unique<player::Memory>(bytes, beside);
        if (argument.tag != Tag::WRITE)
            read_bytes(argument.memory->data(), bytes);
        break;
    }
    case Tag::U64:
        argument.number = read_number<uint64_t>();
        break;
    default:
        argument.number = read_number<uint32_t>();
    }
    return argument;
}

// Plays a launch that was read. What is wrong with it, or nothing.
std::string played(const std::string &name, player::Launch &launch, const Arguments &arguments)
{
    for (const Kernel &kernel : KERNELS) {
        if (name != kernel.name)
            continue;
        std::string wrong = kernel.wrong(arguments);
        if (wrong.empty()) {
            launch.waits = kernel.waits;
#ifdef SKN_PTX
            launch.fixed = player::SHARED_WITHOUT_ASKING;
#endif
            launch.body = kernel.call(arguments);
            wrong = player::play(launch);
        }
        for (size_t i = 0; i < arguments.size() && wrong.empty(); i++)
            if (arguments[i].memory && !arguments[i].memory->is_whole())
                wrong = "wrote beside argument " + std::to_string(i);
        return wrong.empty() ? wrong : name + ": " + wrong;
    }
    return "unknown kernel " + name;
}

// Reads a launch and answers it. Whether there was one.
bool answer_next()
{
    uint32_t length;
    const size_t found = fread(&length, 1, sizeof(length), stdin);
    if (found == 0 && feof(stdin))
        return false;
    if (found != sizeof(length) || length > 1000)
        fail("expected the length of a kernel's name");
    std::string name(length, ' ');
    read_bytes(&name[0], length);
    player::Launch launch = {};
    launch.grid.x = read_number<uint32_t>();
    launch.grid.y = read_number<uint32_t>();
    launch.grid.z = read_number<uint32_t>();
    launch.threads = read_number<uint32_t>();
    launch.shared = read_number<uint32_t>();
    const uint32_t order = read_number<uint32_t>(), count = read_number<uint32_t>();
    launch.order = order & 255;
    Arguments arguments;
    for (uint32_t i = 0; i < count; i++)
        arguments.push_back(read_argument(order & 256 ? 8 : 0));
    const std::string wrong = played(name, launch, arguments);
    const uint8_t outcome = !wrong.empty();
    write_bytes(&outcome, 1);
    if (outcome == 0) {
        for (const Argument &argument : arguments)
            if (argument.tag == Tag::WRITE || argument.tag == Tag::READ_WRITE)
                write_bytes(argument.memory->data(), argument.memory->size());
    } else {
        const uint32_t bytes = uint32_t(wrong.size());
        write_bytes(&bytes, sizeof(bytes));
        write_bytes(wrong.data(), wrong.size());
    }
    if (fflush(stdout) != 0)
        fail("an answer can not be written");
    return true;
}

} // namespace

int main()
{
    while (answer_next()) {
    }
    return 0;
}
